/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VULKAN_PROGRAM_H
#define VULKAN_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vulkan/vulkan.h>

/*
 * A device of Vulkan's, with a queue, and what each program makes there. What fails ends the
 * process; all that was made ends with it.
 */
struct vulkan {
	VkInstance instance;
	VkPhysicalDevice physical_device;
	VkDevice device;
	uint32_t queue_family;
	uint32_t num_queues; /* 2 at most */
	VkQueue queues[2];
	VkCommandPool command_pool;
	/* Extensions that are there; then they are enabled. */
	bool has_memory_fd, has_dma_buf, has_semaphore_fd;
};

/* For calls that must not fail; the name is the call's. */
void vulkan_must(VkResult result, const char *name);

/* The first device, or the first of the driver of this name ("venus", "llvmpipe"). Prints whose it
 * is. Without one the process ends as one that could make no check. */
void vulkan_open(struct vulkan *vulkan, const char *driver);

struct vulkan_buffer {
	VkBuffer buffer;
	VkDeviceMemory memory;
	VkDeviceSize size;
	uint32_t *words; /* where it is mapped; NULL if it is not */
};

/* A type of memory among these, with these properties. */
uint32_t vulkan_memory_type(
	const struct vulkan *vulkan, uint32_t types, VkMemoryPropertyFlags properties);

/* Mapped if it is visible to the host; zeros then. */
void vulkan_buffer_init(const struct vulkan *vulkan, struct vulkan_buffer *buffer,
	VkDeviceSize size, VkMemoryPropertyFlags properties);

VkShaderModule vulkan_shader(const struct vulkan *vulkan, const uint32_t *code, size_t size);

/* A command buffer that is being recorded. */
VkCommandBuffer vulkan_commands_begin(const struct vulkan *vulkan);

void vulkan_commands_end(VkCommandBuffer commands);

/* All that was written before, by the device or the host, is seen by all that comes after. */
void vulkan_barrier(VkCommandBuffer commands);

VkSemaphore vulkan_semaphore_of(const struct vulkan *vulkan, const void *further_info); /* pNext */
VkSemaphore vulkan_semaphore(const struct vulkan *vulkan, VkSemaphoreType type, uint64_t value);

/* Submits, and waits on the CPU until all is done. */
void vulkan_run(const struct vulkan *vulkan, VkCommandBuffer commands);

#endif
