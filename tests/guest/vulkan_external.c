/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <err.h>

#include "vulkan_external.h"

#define BUFFER_USAGE                                                                               \
	(VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |                   \
		VK_BUFFER_USAGE_TRANSFER_DST_BIT)

/* An extension's function. */
static PFN_vkVoidFunction function(const struct vulkan *vulkan, const char *name)
{
	PFN_vkVoidFunction found = vkGetDeviceProcAddr(vulkan->device, name);

	if (!found) {
		errx(1, "there is no %s", name);
	}
	return found;
}

/* ---- Memory --------------------------------------------------------------------------------- */

static bool shares(const struct vulkan *vulkan, VkExternalMemoryHandleTypeFlagBits type)
{
	const VkExternalMemoryFeatureFlags needed = VK_EXTERNAL_MEMORY_FEATURE_EXPORTABLE_BIT |
		VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT;
	const VkPhysicalDeviceExternalBufferInfo info = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_BUFFER_INFO,
		.usage = BUFFER_USAGE,
		.handleType = type,
	};
	VkExternalBufferProperties properties = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_BUFFER_PROPERTIES,
	};

	vkGetPhysicalDeviceExternalBufferProperties(vulkan->physical_device, &info, &properties);
	return (properties.externalMemoryProperties.externalMemoryFeatures & needed) == needed;
}

VkExternalMemoryHandleTypeFlagBits external_memory_type(const struct vulkan *vulkan)
{
	if (vulkan->has_memory_fd && vulkan->has_dma_buf &&
		shares(vulkan, VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT)) {
		return VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT;
	}
	if (vulkan->has_memory_fd && shares(vulkan, VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT)) {
		return VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT;
	}
	return 0;
}

const char *external_memory_name(VkExternalMemoryHandleTypeFlagBits type)
{
	return type == VK_EXTERNAL_MEMORY_HANDLE_TYPE_DMA_BUF_BIT_EXT ? "a dma-buf" :
									"an opaque descriptor";
}

static void make_buffer(const struct vulkan *vulkan, struct vulkan_buffer *buffer,
	VkDeviceSize size, VkExternalMemoryHandleTypeFlagBits type)
{
	const VkExternalMemoryBufferCreateInfo external = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
		.handleTypes = type,
	};
	const VkBufferCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
		.pNext = &external,
		.size = size,
		.usage = BUFFER_USAGE,
	};

	*buffer = (struct vulkan_buffer){ .size = size };
	vulkan_must(vkCreateBuffer(vulkan->device, &info, NULL, &buffer->buffer), "vkCreateBuffer");
}

/* Next is what the memory is exported or imported by. */
static void bind_memory(const struct vulkan *vulkan, struct vulkan_buffer *buffer,
	uint32_t allowed_types, const void *next)
{
	const VkMemoryDedicatedAllocateInfo dedicated = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO,
		.pNext = next,
		.buffer = buffer->buffer,
	};
	VkMemoryAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
		.pNext = &dedicated,
	};
	VkMemoryRequirements requirements;

	vkGetBufferMemoryRequirements(vulkan->device, buffer->buffer, &requirements);
	info.allocationSize = requirements.size;
	info.memoryTypeIndex = vulkan_memory_type(
		vulkan, requirements.memoryTypeBits & allowed_types, 0);
	vulkan_must(
		vkAllocateMemory(vulkan->device, &info, NULL, &buffer->memory), "vkAllocateMemory");
	vulkan_must(vkBindBufferMemory(vulkan->device, buffer->buffer, buffer->memory, 0),
		"vkBindBufferMemory");
}

int external_buffer_export(const struct vulkan *vulkan, struct vulkan_buffer *buffer,
	VkDeviceSize size, VkExternalMemoryHandleTypeFlagBits type)
{
	PFN_vkGetMemoryFdKHR get_fd = (PFN_vkGetMemoryFdKHR)function(vulkan, "vkGetMemoryFdKHR");
	const VkExportMemoryAllocateInfo external = {
		.sType = VK_STRUCTURE_TYPE_EXPORT_MEMORY_ALLOCATE_INFO,
		.handleTypes = type,
	};
	VkMemoryGetFdInfoKHR info = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_GET_FD_INFO_KHR,
		.handleType = type,
	};
	int fd;

	make_buffer(vulkan, buffer, size, type);
	bind_memory(vulkan, buffer, UINT32_MAX, &external);
	info.memory = buffer->memory;
	vulkan_must(get_fd(vulkan->device, &info, &fd), "vkGetMemoryFdKHR");
	return fd;
}

/* Of opaque descriptors nothing can be asked: the same device has the same types. */
static uint32_t types_of_fd(
	const struct vulkan *vulkan, VkExternalMemoryHandleTypeFlagBits type, int fd)
{
	PFN_vkGetMemoryFdPropertiesKHR get_properties = (PFN_vkGetMemoryFdPropertiesKHR)function(
		vulkan, "vkGetMemoryFdPropertiesKHR");
	VkMemoryFdPropertiesKHR properties = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_FD_PROPERTIES_KHR,
	};

	if (type == VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT) {
		return UINT32_MAX;
	}
	vulkan_must(get_properties(vulkan->device, type, fd, &properties),
		"vkGetMemoryFdPropertiesKHR");
	return properties.memoryTypeBits;
}

void external_buffer_import(const struct vulkan *vulkan, struct vulkan_buffer *buffer,
	VkDeviceSize size, VkExternalMemoryHandleTypeFlagBits type, int fd)
{
	const VkImportMemoryFdInfoKHR external = {
		.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR,
		.handleType = type,
		.fd = fd,
	};

	make_buffer(vulkan, buffer, size, type);
	bind_memory(vulkan, buffer, types_of_fd(vulkan, type, fd), &external);
}

/* ---- Semaphores ----------------------------------------------------------------------------- */

bool external_semaphores_are_there(const struct vulkan *vulkan)
{
	const VkExternalSemaphoreFeatureFlags needed =
		VK_EXTERNAL_SEMAPHORE_FEATURE_EXPORTABLE_BIT |
		VK_EXTERNAL_SEMAPHORE_FEATURE_IMPORTABLE_BIT;
	const VkPhysicalDeviceExternalSemaphoreInfo info = {
		.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_SEMAPHORE_INFO,
		.handleType = VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT,
	};
	VkExternalSemaphoreProperties properties = {
		.sType = VK_STRUCTURE_TYPE_EXTERNAL_SEMAPHORE_PROPERTIES,
	};

	vkGetPhysicalDeviceExternalSemaphoreProperties(vulkan->physical_device, &info, &properties);
	return vulkan->has_semaphore_fd &&
		(properties.externalSemaphoreFeatures & needed) == needed;
}

VkSemaphore external_semaphore(const struct vulkan *vulkan)
{
	const VkExportSemaphoreCreateInfo external = {
		.sType = VK_STRUCTURE_TYPE_EXPORT_SEMAPHORE_CREATE_INFO,
		.handleTypes = VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT,
	};

	return vulkan_semaphore_of(vulkan, &external);
}

int external_semaphore_export(const struct vulkan *vulkan, VkSemaphore semaphore)
{
	PFN_vkGetSemaphoreFdKHR get_fd = (PFN_vkGetSemaphoreFdKHR)function(
		vulkan, "vkGetSemaphoreFdKHR");
	const VkSemaphoreGetFdInfoKHR info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_GET_FD_INFO_KHR,
		.semaphore = semaphore,
		.handleType = VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT,
	};
	int fd;

	vulkan_must(get_fd(vulkan->device, &info, &fd), "vkGetSemaphoreFdKHR");
	return fd;
}

void external_semaphore_import(const struct vulkan *vulkan, VkSemaphore semaphore, int fd)
{
	PFN_vkImportSemaphoreFdKHR import_fd = (PFN_vkImportSemaphoreFdKHR)function(
		vulkan, "vkImportSemaphoreFdKHR");
	const VkImportSemaphoreFdInfoKHR info = {
		.sType = VK_STRUCTURE_TYPE_IMPORT_SEMAPHORE_FD_INFO_KHR,
		.semaphore = semaphore,
		.flags = VK_SEMAPHORE_IMPORT_TEMPORARY_BIT,
		.handleType = VK_EXTERNAL_SEMAPHORE_HANDLE_TYPE_SYNC_FD_BIT,
		.fd = fd,
	};

	vulkan_must(import_fd(vulkan->device, &info), "vkImportSemaphoreFdKHR");
}
