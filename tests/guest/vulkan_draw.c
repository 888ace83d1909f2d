/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A picture without a window: triangles, each blended over those before, and a small one of a
 * single color. Two devices that draw with the same driver, one of them in a guest, draw the same
 * to the last bit.
 */

#include <err.h>
#include <stdio.h>
#include <string.h>

#include "vulkan_commands.h"
#include "vulkan_program.h"
#include "vulkan_report.h"

/* Made of shaders/. They need <stdint.h>. */
#include <turned.frag.h>
#include <turned.vert.h>

enum { SIZE = 256, NUM_TRIANGLES = 8 };

#define FORMAT VK_FORMAT_R8G8B8A8_UNORM
/* The clear color and that of the last triangle: fifths are whole numbers in bytes, so that
 * rounding has no choice. */
static const uint8_t clear_pixel[4] = { 0, 51, 102, 255 }, last_pixel[4] = { 255, 0, 204, 255 };

struct triangle {
	float color[4];
	float turn, size, shade;
};

struct picture {
	const struct vulkan *vulkan;
	VkImage image;
	VkImageView view;
	VkPipelineLayout layout;
	VkPipeline pipeline;
	struct vulkan_buffer pixels; /* a copy */
};

/* ---- What is drawn to ----------------------------------------------------------------------- */

static void make_image(struct picture *picture)
{
	const VkImageCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_IMAGE_CREATE_INFO,
		.imageType = VK_IMAGE_TYPE_2D,
		.format = FORMAT,
		.extent = { SIZE, SIZE, 1 },
		.mipLevels = 1,
		.arrayLayers = 1,
		.samples = VK_SAMPLE_COUNT_1_BIT,
		.tiling = VK_IMAGE_TILING_OPTIMAL,
		.usage = VK_IMAGE_USAGE_COLOR_ATTACHMENT_BIT | VK_IMAGE_USAGE_TRANSFER_SRC_BIT,
	};
	VkMemoryAllocateInfo allocation = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO };
	VkDevice device = picture->vulkan->device;
	VkMemoryRequirements requirements;
	VkDeviceMemory memory;

	vulkan_must(vkCreateImage(device, &info, NULL, &picture->image), "vkCreateImage");
	vkGetImageMemoryRequirements(device, picture->image, &requirements);
	allocation.allocationSize = requirements.size;
	allocation.memoryTypeIndex = vulkan_memory_type(
		picture->vulkan, requirements.memoryTypeBits, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
	vulkan_must(vkAllocateMemory(device, &allocation, NULL, &memory), "vkAllocateMemory");
	vulkan_must(vkBindImageMemory(device, picture->image, memory, 0), "vkBindImageMemory");
}

static void make_view(struct picture *picture)
{
	const VkImageViewCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_IMAGE_VIEW_CREATE_INFO,
		.image = picture->image,
		.viewType = VK_IMAGE_VIEW_TYPE_2D,
		.format = FORMAT,
		.subresourceRange = {
			.aspectMask = VK_IMAGE_ASPECT_COLOR_BIT,
			.levelCount = 1,
			.layerCount = 1,
		},
	};

	vulkan_must(vkCreateImageView(picture->vulkan->device, &info, NULL, &picture->view),
		"vkCreateImageView");
}

/* ---- The pipeline --------------------------------------------------------------------------- */

static void make_layout(struct picture *picture)
{
	const VkPushConstantRange range = {
		.stageFlags = VK_SHADER_STAGE_VERTEX_BIT | VK_SHADER_STAGE_FRAGMENT_BIT,
		.size = sizeof(struct triangle),
	};
	const VkPipelineLayoutCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
		.pushConstantRangeCount = 1,
		.pPushConstantRanges = &range,
	};

	vulkan_must(vkCreatePipelineLayout(picture->vulkan->device, &info, NULL, &picture->layout),
		"vkCreatePipelineLayout");
}

static VkPipelineShaderStageCreateInfo stage(
	VkShaderStageFlagBits stage, const struct vulkan *vulkan, const uint32_t *code, size_t size)
{
	return (VkPipelineShaderStageCreateInfo){
		.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
		.stage = stage,
		.module = vulkan_shader(vulkan, code, size),
		.pName = "main",
	};
}

static const VkPipelineVertexInputStateCreateInfo no_input = {
	.sType = VK_STRUCTURE_TYPE_PIPELINE_VERTEX_INPUT_STATE_CREATE_INFO,
};

static const VkPipelineInputAssemblyStateCreateInfo triangles = {
	.sType = VK_STRUCTURE_TYPE_PIPELINE_INPUT_ASSEMBLY_STATE_CREATE_INFO,
	.topology = VK_PRIMITIVE_TOPOLOGY_TRIANGLE_LIST,
};

static const VkPipelineViewportStateCreateInfo whole_picture = {
	.sType = VK_STRUCTURE_TYPE_PIPELINE_VIEWPORT_STATE_CREATE_INFO,
	.viewportCount = 1,
	.pViewports = &(const VkViewport){ .width = SIZE, .height = SIZE, .maxDepth = 1 },
	.scissorCount = 1,
	.pScissors = &(const VkRect2D){ .extent = { SIZE, SIZE } },
};

static const VkPipelineRasterizationStateCreateInfo both_faces = {
	.sType = VK_STRUCTURE_TYPE_PIPELINE_RASTERIZATION_STATE_CREATE_INFO,
	.lineWidth = 1,
};

static const VkPipelineMultisampleStateCreateInfo one_sample = {
	.sType = VK_STRUCTURE_TYPE_PIPELINE_MULTISAMPLE_STATE_CREATE_INFO,
	.rasterizationSamples = VK_SAMPLE_COUNT_1_BIT,
};

static const VkPipelineColorBlendStateCreateInfo over = {
	.sType = VK_STRUCTURE_TYPE_PIPELINE_COLOR_BLEND_STATE_CREATE_INFO,
	.attachmentCount = 1,
	.pAttachments =
		&(const VkPipelineColorBlendAttachmentState){
			.blendEnable = VK_TRUE,
			.srcColorBlendFactor = VK_BLEND_FACTOR_SRC_ALPHA,
			.dstColorBlendFactor = VK_BLEND_FACTOR_ONE_MINUS_SRC_ALPHA,
			.srcAlphaBlendFactor = VK_BLEND_FACTOR_ONE,
			.dstAlphaBlendFactor = VK_BLEND_FACTOR_ONE_MINUS_SRC_ALPHA,
			.colorWriteMask = 0xf,
		},
};

static const VkPipelineRenderingCreateInfo rendering = {
	.sType = VK_STRUCTURE_TYPE_PIPELINE_RENDERING_CREATE_INFO,
	.colorAttachmentCount = 1,
	.pColorAttachmentFormats = &(const VkFormat){ FORMAT },
};

static void make_pipeline(struct picture *picture)
{
	const VkPipelineShaderStageCreateInfo stages[] = {
		stage(VK_SHADER_STAGE_VERTEX_BIT, picture->vulkan, turned_vert,
			sizeof(turned_vert)),
		stage(VK_SHADER_STAGE_FRAGMENT_BIT, picture->vulkan, turned_frag,
			sizeof(turned_frag)),
	};
	const VkGraphicsPipelineCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_GRAPHICS_PIPELINE_CREATE_INFO,
		.pNext = &rendering,
		.stageCount = 2,
		.pStages = stages,
		.pVertexInputState = &no_input,
		.pInputAssemblyState = &triangles,
		.pViewportState = &whole_picture,
		.pRasterizationState = &both_faces,
		.pMultisampleState = &one_sample,
		.pColorBlendState = &over,
		.layout = picture->layout,
	};

	vulkan_must(vkCreateGraphicsPipelines(picture->vulkan->device, VK_NULL_HANDLE, 1, &info,
			    NULL, &picture->pipeline),
		"vkCreateGraphicsPipelines");
}

/* ---- Drawing -------------------------------------------------------------------------------- */

static void change_layout(const struct picture *picture, VkCommandBuffer commands,
	VkImageLayout from, VkImageLayout to)
{
	const VkImageMemoryBarrier barrier = {
		.sType = VK_STRUCTURE_TYPE_IMAGE_MEMORY_BARRIER,
		.srcAccessMask = VK_ACCESS_MEMORY_WRITE_BIT,
		.dstAccessMask = VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT,
		.oldLayout = from,
		.newLayout = to,
		.srcQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED,
		.dstQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED,
		.image = picture->image,
		.subresourceRange = {
			.aspectMask = VK_IMAGE_ASPECT_COLOR_BIT,
			.levelCount = 1,
			.layerCount = 1,
		},
	};

	vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_ALL_COMMANDS_BIT,
		VK_PIPELINE_STAGE_ALL_COMMANDS_BIT, 0, 0, NULL, 0, NULL, 1, &barrier);
}

static void draw_triangle(
	const struct picture *picture, VkCommandBuffer commands, const struct triangle *triangle)
{
	vkCmdPushConstants(commands, picture->layout,
		VK_SHADER_STAGE_VERTEX_BIT | VK_SHADER_STAGE_FRAGMENT_BIT, 0, sizeof(*triangle),
		triangle);
	vkCmdDraw(commands, 3, 1, 0, 0);
}

static void draw_triangles(const struct picture *picture, VkCommandBuffer commands)
{
	const struct triangle last = {
		.color = { 1, 0, 0.8f, 1 },
		.size = 0.2f,
	};

	for (uint32_t i = 0; i < NUM_TRIANGLES; i++) {
		const struct triangle triangle = {
			.color = { 0.1f, 0.2f, 0.3f, 0.5f },
			.turn = (float)i * 0.3f,
			.size = 0.9f,
			.shade = 0.6f,
		};

		draw_triangle(picture, commands, &triangle);
	}
	draw_triangle(picture, commands, &last);
}

static void draw(const struct picture *picture, VkCommandBuffer commands)
{
	const VkRenderingAttachmentInfo attachment = {
		.sType = VK_STRUCTURE_TYPE_RENDERING_ATTACHMENT_INFO,
		.imageView = picture->view,
		.imageLayout = VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL,
		.loadOp = VK_ATTACHMENT_LOAD_OP_CLEAR,
		.storeOp = VK_ATTACHMENT_STORE_OP_STORE,
		.clearValue.color.float32 = { 0, 0.2f, 0.4f, 1 },
	};
	const VkRenderingInfo info = {
		.sType = VK_STRUCTURE_TYPE_RENDERING_INFO,
		.renderArea.extent = { SIZE, SIZE },
		.layerCount = 1,
		.colorAttachmentCount = 1,
		.pColorAttachments = &attachment,
	};

	change_layout(picture, commands, VK_IMAGE_LAYOUT_UNDEFINED,
		VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL);
	vkCmdBeginRendering(commands, &info);
	vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_GRAPHICS, picture->pipeline);
	draw_triangles(picture, commands);
	vkCmdEndRendering(commands);
	change_layout(picture, commands, VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL,
		VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL);
}

static void copy_pixels(const struct picture *picture, VkCommandBuffer commands)
{
	const VkBufferImageCopy all = {
		.imageSubresource = { .aspectMask = VK_IMAGE_ASPECT_COLOR_BIT, .layerCount = 1 },
		.imageExtent = { SIZE, SIZE, 1 },
	};

	vkCmdCopyImageToBuffer(commands, picture->image, VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL,
		picture->pixels.buffer, 1, &all);
	vulkan_barrier(commands);
}

/* ---- The pixels ----------------------------------------------------------------------------- */

static const uint8_t *pixel(const struct picture *picture, uint32_t x, uint32_t y)
{
	return (const uint8_t *)&picture->pixels.words[y * SIZE + x];
}

static void check_pixel(const struct picture *picture, uint32_t x, uint32_t y,
	const uint8_t *expected, const char *what)
{
	const uint8_t *found = pixel(picture, x, y);

	report(memcmp(found, expected, 4) == 0, "draw: pixel %u, %u %s: %u %u %u %u", x, y, what,
		found[0], found[1], found[2], found[3]);
}

/* The triangles are within a circle of 0.9; in one of 0.4 of the same middle all are. */
static void check_picture(const struct picture *picture)
{
	const uint8_t *shaded = pixel(picture, SIZE / 2, SIZE / 2 - 40);

	check_pixel(picture, 0, 0, clear_pixel, "has the clear color");
	check_pixel(picture, SIZE - 1, 0, clear_pixel, "has the clear color");
	check_pixel(picture, SIZE - 1, SIZE - 1, clear_pixel, "has the clear color");
	check_pixel(picture, SIZE / 2, SIZE / 2, last_pixel, "has the last triangle's color");
	report(memcmp(shaded, clear_pixel, 4) != 0 && memcmp(shaded, last_pixel, 4) != 0,
		"draw: a pixel of the others has neither: %u %u %u %u", shaded[0], shaded[1],
		shaded[2], shaded[3]);
}

static uint64_t checksum(const struct picture *picture)
{
	const uint8_t *bytes = (const uint8_t *)picture->pixels.words;
	uint64_t sum = 0xcbf29ce484222325; /* FNV-1a */

	for (size_t i = 0; i < SIZE * SIZE * 4; i++) {
		sum = (sum ^ bytes[i]) * 0x100000001b3;
	}
	return sum;
}

static void write_picture(const struct picture *picture, const char *path)
{
	static uint8_t pixels[SIZE * SIZE][3];
	FILE *file = fopen(path, "wbe");

	for (uint32_t i = 0; i < SIZE * SIZE; i++) {
		memcpy(pixels[i], &picture->pixels.words[i], 3);
	}
	if (!file || fprintf(file, "P6\n%d %d\n255\n", SIZE, SIZE) < 0 ||
		fwrite(pixels, sizeof(pixels), 1, file) != 1 || fclose(file) != 0) {
		err(1, "%s", path);
	}
}

void vulkan_draw(const struct vulkan_options *options)
{
	struct vulkan vulkan;
	struct picture picture = { .vulkan = &vulkan };
	VkCommandBuffer commands;

	vulkan_open(&vulkan, options->driver);
	make_image(&picture);
	make_view(&picture);
	make_layout(&picture);
	make_pipeline(&picture);
	vulkan_buffer_init(&vulkan, &picture.pixels, SIZE * SIZE * 4,
		VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT);
	commands = vulkan_commands_begin(&vulkan);
	draw(&picture, commands);
	copy_pixels(&picture, commands);
	vulkan_commands_end(commands);
	vulkan_run(&vulkan, commands);
	check_picture(&picture);
	printf("draw: checksum %016llx\n", (unsigned long long)checksum(&picture));
	if (options->picture) {
		write_picture(&picture, options->picture);
	}
}
