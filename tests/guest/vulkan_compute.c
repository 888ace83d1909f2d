/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Jobs on words, in memory of each kind; C does the same, step by step. */

#include <string.h>

#include "vulkan_commands.h"
#include "vulkan_report.h"
#include "vulkan_steps.h"

enum { NUM_JOBS = 3, NUM_STEPS = 500 };

static void fill(uint32_t *words)
{
	for (uint32_t i = 0; i < NUM_WORDS; i++) {
		words[i] = i * i + 1;
	}
}

static void compute_expected(uint32_t *words)
{
	fill(words);
	for (uint32_t i = 0; i < NUM_WORDS; i++) {
		for (uint32_t step = 0; step < NUM_JOBS * NUM_STEPS; step++) {
			words[i] = words[i] * 1664525 + 1013904223 + step / NUM_STEPS * 2654435769 +
				i;
		}
	}
}

static void copy(
	VkCommandBuffer commands, const struct vulkan_buffer *from, const struct vulkan_buffer *to)
{
	const VkBufferCopy all = { .size = from->size };

	vulkan_barrier(commands);
	vkCmdCopyBuffer(commands, from->buffer, to->buffer, 1, &all);
	vulkan_barrier(commands);
}

/* The words go to the memory with these properties and come back, by copies. */
static void compute_in(const struct vulkan_steps *steps, VkMemoryPropertyFlags properties,
	const uint32_t *expected, const char *what)
{
	const struct vulkan *vulkan = steps->vulkan;
	struct vulkan_buffer outside, inside;
	VkCommandBuffer commands;
	VkDescriptorSet set;
	uint32_t num_wrong;

	vulkan_buffer_init(vulkan, &outside, NUM_WORDS * sizeof(uint32_t),
		VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT);
	vulkan_buffer_init(vulkan, &inside, outside.size, properties);
	fill(outside.words);
	set = vulkan_steps_set(steps, &inside);
	commands = vulkan_commands_begin(vulkan);
	copy(commands, &outside, &inside);
	for (uint32_t job = 0; job < NUM_JOBS; job++) {
		vulkan_steps_record(steps, commands, set, job, NUM_STEPS);
	}
	copy(commands, &inside, &outside);
	vulkan_commands_end(commands);
	vulkan_run(vulkan, commands);
	num_wrong = count_wrong_words(outside.words, expected, true);
	report(num_wrong == 0, "compute: %u jobs on %u words in memory %s: %u wrong", NUM_JOBS,
		NUM_WORDS, what, num_wrong);
	if (inside.words) {
		num_wrong = count_wrong_words(inside.words, expected, true);
		report(num_wrong == 0, "compute: the same where they were computed: %u wrong",
			num_wrong);
	}
}

void vulkan_compute(const struct vulkan_options *options)
{
	static uint32_t expected[NUM_WORDS];
	struct vulkan_steps steps;
	struct vulkan vulkan;

	vulkan_open(&vulkan, options->driver);
	vulkan_steps_init(&steps, &vulkan);
	compute_expected(expected);
	compute_in(&steps, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, expected, "of the device");
	compute_in(&steps,
		VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
		expected, "that the host sees");
}
