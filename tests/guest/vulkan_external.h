/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VULKAN_EXTERNAL_H
#define VULKAN_EXTERNAL_H

#include "vulkan_program.h"

/* Memory and semaphores that go to other processes, as descriptors. */

/* A dma-buf, or else an opaque descriptor; 0 if the device can share neither. */
VkExternalMemoryHandleTypeFlagBits external_memory_type(const struct vulkan *vulkan);

/* Its name, for people. */
const char *external_memory_name(VkExternalMemoryHandleTypeFlagBits type);

/* Not mapped. Returns the descriptor. */
int external_buffer_export(const struct vulkan *vulkan, struct vulkan_buffer *buffer,
	VkDeviceSize size, VkExternalMemoryHandleTypeFlagBits type);

/* Takes the descriptor. */
void external_buffer_import(const struct vulkan *vulkan, struct vulkan_buffer *buffer,
	VkDeviceSize size, VkExternalMemoryHandleTypeFlagBits type, int fd);

/* Whether semaphores can become sync files, and sync files semaphores. */
bool external_semaphores_are_there(const struct vulkan *vulkan);

/* A binary one that can be exported. */
VkSemaphore external_semaphore(const struct vulkan *vulkan);

/* Once its signal is submitted. -1 is a sync file that has signalled. */
int external_semaphore_export(const struct vulkan *vulkan, VkSemaphore semaphore);

/* For one wait. Takes the descriptor. */
void external_semaphore_import(const struct vulkan *vulkan, VkSemaphore semaphore, int fd);

#endif
