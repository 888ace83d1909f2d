/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VULKAN_STEPS_H
#define VULKAN_STEPS_H

#include "vulkan_program.h"

/*
 * Jobs on a buffer of words: each makes another word of every one, step by step, and so takes as
 * long as it has steps. No two jobs can be exchanged, and the result of many steps is known at
 * once.
 */
enum { NUM_WORDS = 4096 };

struct vulkan_steps {
	const struct vulkan *vulkan;
	VkPipelineLayout layout;
	VkPipeline pipeline;
	VkDescriptorSetLayout set_layout;
	VkDescriptorPool descriptor_pool;
};

void vulkan_steps_init(struct vulkan_steps *steps, const struct vulkan *vulkan);

/* For jobs on this buffer. */
VkDescriptorSet vulkan_steps_set(
	const struct vulkan_steps *steps, const struct vulkan_buffer *buffer);

/* Sees what was written before; all that comes after sees what it writes. */
void vulkan_steps_record(const struct vulkan_steps *steps, VkCommandBuffer commands,
	VkDescriptorSet set, uint32_t job, uint32_t num_steps);

/* What a job makes of a word. */
uint32_t steps_expected(uint32_t word, uint32_t index, uint32_t job, uint32_t num_steps);

/* How many words are not what they have to be; tells of the first if none should. */
uint32_t count_wrong_words(const uint32_t *words, const uint32_t *expected, bool tells);

#endif
