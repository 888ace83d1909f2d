/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vulkan_program.h"
#include "vulkan_report.h"

enum { MAX_DEVICES = 16 };

void vulkan_must(VkResult result, const char *name)
{
	if (result != VK_SUCCESS) {
		errx(1, "%s: error %d of Vulkan", name, result);
	}
}

/* ---- The device ----------------------------------------------------------------------------- */

static void make_instance(struct vulkan *vulkan)
{
	const VkApplicationInfo application = {
		.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
		.pApplicationName = "vgfence",
		.apiVersion = VK_API_VERSION_1_3,
	};
	const VkInstanceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
		.pApplicationInfo = &application,
	};

	vulkan_must(vkCreateInstance(&info, NULL, &vulkan->instance), "vkCreateInstance");
}

static void choose_physical_device(struct vulkan *vulkan, const char *driver)
{
	VkPhysicalDevice devices[MAX_DEVICES];
	uint32_t num_devices = MAX_DEVICES;

	vulkan_must(vkEnumeratePhysicalDevices(vulkan->instance, &num_devices, devices),
		"vkEnumeratePhysicalDevices");
	for (uint32_t i = 0; i < num_devices; i++) {
		VkPhysicalDeviceDriverProperties of_driver = {
			.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES,
		};
		VkPhysicalDeviceProperties2 properties = {
			.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
			.pNext = &of_driver,
		};

		vkGetPhysicalDeviceProperties2(devices[i], &properties);
		if (driver == NULL || strcmp(of_driver.driverName, driver) == 0) {
			printf("device: %s, driver %s, %s\n", properties.properties.deviceName,
				of_driver.driverName, of_driver.driverInfo);
			fflush(stdout);
			vulkan->physical_device = devices[i];
			return;
		}
	}
	report_skipped("all", "there is no device of Vulkan's, or not of this driver");
	exit(REPORT_SKIPPED);
}

static void choose_queues(struct vulkan *vulkan)
{
	const VkQueueFlags needed = VK_QUEUE_GRAPHICS_BIT | VK_QUEUE_COMPUTE_BIT;
	VkQueueFamilyProperties families[MAX_DEVICES];
	uint32_t num_families = MAX_DEVICES;

	vkGetPhysicalDeviceQueueFamilyProperties(vulkan->physical_device, &num_families, families);
	for (uint32_t i = 0; i < num_families; i++) {
		if ((families[i].queueFlags & needed) == needed) {
			vulkan->queue_family = i;
			vulkan->num_queues = families[i].queueCount < 2 ? 1 : 2;
			return;
		}
	}
	errx(1, "no queue both draws and computes");
}

/* All of them; the caller frees them. */
static VkExtensionProperties *list_extensions(const struct vulkan *vulkan, uint32_t *count)
{
	VkExtensionProperties *extensions;

	vulkan_must(
		vkEnumerateDeviceExtensionProperties(vulkan->physical_device, NULL, count, NULL),
		"vkEnumerateDeviceExtensionProperties");
	extensions = calloc(*count + 1, sizeof(*extensions));
	if (!extensions) {
		errx(1, "no memory");
	}
	vulkan_must(vkEnumerateDeviceExtensionProperties(
			    vulkan->physical_device, NULL, count, extensions),
		"vkEnumerateDeviceExtensionProperties");
	return extensions;
}

/* What is there of the extensions that are used, and how many names that is. */
static uint32_t choose_extensions(struct vulkan *vulkan, const char **names)
{
	const struct {
		const char *name;
		bool *is_there;
	} used[] = {
		{ VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME, &vulkan->has_memory_fd },
		{ VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME, &vulkan->has_dma_buf },
		{ VK_KHR_EXTERNAL_SEMAPHORE_FD_EXTENSION_NAME, &vulkan->has_semaphore_fd },
	};
	uint32_t count, num_names = 0;
	VkExtensionProperties *extensions = list_extensions(vulkan, &count);

	for (size_t i = 0; i < sizeof(used) / sizeof(used[0]); i++) {
		*used[i].is_there = false;
		for (uint32_t j = 0; j < count; j++) {
			if (strcmp(extensions[j].extensionName, used[i].name) == 0) {
				*used[i].is_there = true;
				names[num_names++] = used[i].name;
				break;
			}
		}
	}
	free(extensions);
	return num_names;
}

static void make_device(struct vulkan *vulkan)
{
	static const float priorities[2] = { 1, 1 };
	VkPhysicalDeviceVulkan12Features features_12 = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
		.timelineSemaphore = VK_TRUE,
	};
	VkPhysicalDeviceVulkan13Features features_13 = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
		.pNext = &features_12,
		.dynamicRendering = VK_TRUE,
	};
	const VkDeviceQueueCreateInfo queue_info = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
		.queueFamilyIndex = vulkan->queue_family,
		.queueCount = vulkan->num_queues,
		.pQueuePriorities = priorities,
	};
	const char *extensions[8];
	const VkDeviceCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
		.pNext = &features_13,
		.queueCreateInfoCount = 1,
		.pQueueCreateInfos = &queue_info,
		.enabledExtensionCount = choose_extensions(vulkan, extensions),
		.ppEnabledExtensionNames = extensions,
	};

	vulkan_must(vkCreateDevice(vulkan->physical_device, &info, NULL, &vulkan->device),
		"vkCreateDevice");
	for (uint32_t i = 0; i < vulkan->num_queues; i++) {
		vkGetDeviceQueue(vulkan->device, vulkan->queue_family, i, &vulkan->queues[i]);
	}
}

void vulkan_open(struct vulkan *vulkan, const char *driver)
{
	VkCommandPoolCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
		.flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
	};

	make_instance(vulkan);
	choose_physical_device(vulkan, driver);
	choose_queues(vulkan);
	make_device(vulkan);
	info.queueFamilyIndex = vulkan->queue_family;
	vulkan_must(vkCreateCommandPool(vulkan->device, &info, NULL, &vulkan->command_pool),
		"vkCreateCommandPool");
}

/* ---- Memory --------------------------------------------------------------------------------- */

uint32_t vulkan_memory_type(
	const struct vulkan *vulkan, uint32_t types, VkMemoryPropertyFlags properties)
{
	VkPhysicalDeviceMemoryProperties memory;

	vkGetPhysicalDeviceMemoryProperties(vulkan->physical_device, &memory);
	for (uint32_t i = 0; i < memory.memoryTypeCount; i++) {
		if ((types >> i & 1) &&
			(memory.memoryTypes[i].propertyFlags & properties) == properties) {
			return i;
		}
	}
	errx(1, "no memory with the properties 0x%x", properties);
}

static void map(const struct vulkan *vulkan, struct vulkan_buffer *buffer)
{
	void *mapped;

	vulkan_must(vkMapMemory(vulkan->device, buffer->memory, 0, VK_WHOLE_SIZE, 0, &mapped),
		"vkMapMemory");
	buffer->words = mapped;
	memset(mapped, 0, buffer->size);
}

void vulkan_buffer_init(const struct vulkan *vulkan, struct vulkan_buffer *buffer,
	VkDeviceSize size, VkMemoryPropertyFlags properties)
{
	const VkBufferCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
		.size = size,
		.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
			VK_BUFFER_USAGE_TRANSFER_DST_BIT,
	};
	VkMemoryAllocateInfo allocation = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO };
	VkMemoryRequirements requirements;

	*buffer = (struct vulkan_buffer){ .size = size };
	vulkan_must(vkCreateBuffer(vulkan->device, &info, NULL, &buffer->buffer), "vkCreateBuffer");
	vkGetBufferMemoryRequirements(vulkan->device, buffer->buffer, &requirements);
	allocation.allocationSize = requirements.size;
	allocation.memoryTypeIndex = vulkan_memory_type(
		vulkan, requirements.memoryTypeBits, properties);
	vulkan_must(vkAllocateMemory(vulkan->device, &allocation, NULL, &buffer->memory),
		"vkAllocateMemory");
	vulkan_must(vkBindBufferMemory(vulkan->device, buffer->buffer, buffer->memory, 0),
		"vkBindBufferMemory");
	if (properties & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) {
		map(vulkan, buffer);
	}
}

/* ---- Commands ------------------------------------------------------------------------------- */

VkShaderModule vulkan_shader(const struct vulkan *vulkan, const uint32_t *code, size_t size)
{
	const VkShaderModuleCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
		.codeSize = size,
		.pCode = code,
	};
	VkShaderModule shader;

	vulkan_must(
		vkCreateShaderModule(vulkan->device, &info, NULL, &shader), "vkCreateShaderModule");
	return shader;
}

VkCommandBuffer vulkan_commands_begin(const struct vulkan *vulkan)
{
	const VkCommandBufferAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
		.commandPool = vulkan->command_pool,
		.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
		.commandBufferCount = 1,
	};
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
	};
	VkCommandBuffer commands;

	vulkan_must(vkAllocateCommandBuffers(vulkan->device, &info, &commands),
		"vkAllocateCommandBuffers");
	vulkan_must(vkBeginCommandBuffer(commands, &begin), "vkBeginCommandBuffer");
	return commands;
}

void vulkan_commands_end(VkCommandBuffer commands)
{
	vulkan_must(vkEndCommandBuffer(commands), "vkEndCommandBuffer");
}

void vulkan_barrier(VkCommandBuffer commands)
{
	const VkPipelineStageFlags stages = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT |
		VK_PIPELINE_STAGE_HOST_BIT;
	const VkMemoryBarrier barrier = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
		.srcAccessMask = VK_ACCESS_MEMORY_WRITE_BIT | VK_ACCESS_HOST_WRITE_BIT,
		.dstAccessMask = VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT |
			VK_ACCESS_HOST_READ_BIT,
	};

	vkCmdPipelineBarrier(commands, stages, stages, 0, 1, &barrier, 0, NULL, 0, NULL);
}

VkSemaphore vulkan_semaphore_of(const struct vulkan *vulkan, const void *further_info)
{
	const VkSemaphoreCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
		.pNext = further_info,
	};
	VkSemaphore semaphore;

	vulkan_must(
		vkCreateSemaphore(vulkan->device, &info, NULL, &semaphore), "vkCreateSemaphore");
	return semaphore;
}

VkSemaphore vulkan_semaphore(const struct vulkan *vulkan, VkSemaphoreType type, uint64_t value)
{
	const VkSemaphoreTypeCreateInfo type_info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
		.semaphoreType = type,
		.initialValue = value,
	};

	return vulkan_semaphore_of(vulkan, &type_info);
}

void vulkan_run(const struct vulkan *vulkan, VkCommandBuffer commands)
{
	const VkSubmitInfo submit = {
		.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
		.commandBufferCount = 1,
		.pCommandBuffers = &commands,
	};

	vulkan_must(vkQueueSubmit(vulkan->queues[0], 1, &submit, VK_NULL_HANDLE), "vkQueueSubmit");
	vulkan_must(vkQueueWaitIdle(vulkan->queues[0]), "vkQueueWaitIdle");
}
