/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <stdio.h>

#include "vulkan_steps.h"

/* Made of shaders/. They need <stdint.h>. */
#include <steps.comp.h>

enum { GROUP_SIZE = 64, MAX_SETS = 32 };

struct job {
	uint32_t number, num_steps;
};

static void make_layouts(struct vulkan_steps *steps)
{
	const VkDescriptorSetLayoutBinding binding = {
		.descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
		.descriptorCount = 1,
		.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
	};
	const VkDescriptorSetLayoutCreateInfo set_info = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
		.bindingCount = 1,
		.pBindings = &binding,
	};
	const VkPushConstantRange job_range = {
		.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
		.size = sizeof(struct job),
	};
	const VkPipelineLayoutCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
		.setLayoutCount = 1,
		.pSetLayouts = &steps->set_layout,
		.pushConstantRangeCount = 1,
		.pPushConstantRanges = &job_range,
	};
	VkDevice device = steps->vulkan->device;

	vulkan_must(vkCreateDescriptorSetLayout(device, &set_info, NULL, &steps->set_layout),
		"vkCreateDescriptorSetLayout");
	vulkan_must(vkCreatePipelineLayout(device, &info, NULL, &steps->layout),
		"vkCreatePipelineLayout");
}

static void make_pipeline(struct vulkan_steps *steps)
{
	const VkComputePipelineCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
		.stage = {
			.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
			.stage = VK_SHADER_STAGE_COMPUTE_BIT,
			.module = vulkan_shader(steps->vulkan, steps_comp, sizeof(steps_comp)),
			.pName = "main",
		},
		.layout = steps->layout,
	};

	vulkan_must(vkCreateComputePipelines(steps->vulkan->device, VK_NULL_HANDLE, 1, &info, NULL,
			    &steps->pipeline),
		"vkCreateComputePipelines");
}

static void make_descriptor_pool(struct vulkan_steps *steps)
{
	const VkDescriptorPoolSize size = {
		.type = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
		.descriptorCount = MAX_SETS,
	};
	const VkDescriptorPoolCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
		.maxSets = MAX_SETS,
		.poolSizeCount = 1,
		.pPoolSizes = &size,
	};

	vulkan_must(
		vkCreateDescriptorPool(steps->vulkan->device, &info, NULL, &steps->descriptor_pool),
		"vkCreateDescriptorPool");
}

void vulkan_steps_init(struct vulkan_steps *steps, const struct vulkan *vulkan)
{
	steps->vulkan = vulkan;
	make_layouts(steps);
	make_pipeline(steps);
	make_descriptor_pool(steps);
}

VkDescriptorSet vulkan_steps_set(
	const struct vulkan_steps *steps, const struct vulkan_buffer *buffer)
{
	const VkDescriptorSetAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
		.descriptorPool = steps->descriptor_pool,
		.descriptorSetCount = 1,
		.pSetLayouts = &steps->set_layout,
	};
	const VkDescriptorBufferInfo words = { .buffer = buffer->buffer, .range = VK_WHOLE_SIZE };
	VkWriteDescriptorSet write = {
		.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
		.descriptorCount = 1,
		.descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
		.pBufferInfo = &words,
	};

	vulkan_must(vkAllocateDescriptorSets(steps->vulkan->device, &info, &write.dstSet),
		"vkAllocateDescriptorSets");
	vkUpdateDescriptorSets(steps->vulkan->device, 1, &write, 0, NULL);
	return write.dstSet;
}

void vulkan_steps_record(const struct vulkan_steps *steps, VkCommandBuffer commands,
	VkDescriptorSet set, uint32_t job, uint32_t num_steps)
{
	const struct job constants = { job, num_steps };

	vulkan_barrier(commands);
	vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, steps->pipeline);
	vkCmdBindDescriptorSets(
		commands, VK_PIPELINE_BIND_POINT_COMPUTE, steps->layout, 0, 1, &set, 0, NULL);
	vkCmdPushConstants(commands, steps->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
		sizeof(constants), &constants);
	vkCmdDispatch(commands, NUM_WORDS / GROUP_SIZE, 1, 1);
	vulkan_barrier(commands);
}

/* A step is word * factor + increment, and so are two, of another factor and increment; hence so
 * are all, by doubling. */
uint32_t steps_expected(uint32_t word, uint32_t index, uint32_t job, uint32_t num_steps)
{
	uint32_t factor = 1664525, increment = 1013904223 + job * 2654435769 + index;

	for (; num_steps > 0; num_steps >>= 1) {
		if (num_steps & 1) {
			word = word * factor + increment;
		}
		increment = increment * factor + increment;
		factor *= factor;
	}
	return word;
}

uint32_t count_wrong_words(const uint32_t *words, const uint32_t *expected, bool tells)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < NUM_WORDS; i++) {
		if (words[i] != expected[i] && count++ == 0 && tells) {
			printf("word %u is 0x%08x and not 0x%08x\n", i, words[i], expected[i]);
		}
	}
	return count;
}
