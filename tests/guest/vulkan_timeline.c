/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Timeline semaphores: the device waits for values that the host signals later, and the host for
 * those of the device. Binary ones between submissions. The two take turns on the same words, so
 * that a wait that is missing shows.
 */

#include <err.h>
#include <stdio.h>
#include <string.h>

#include "vulkan_commands.h"
#include "vulkan_report.h"
#include "vulkan_steps.h"

enum { MAX_ROUNDS = 1000, NUM_ROUNDS = 32, NUM_STEPS = 2000 };

/* Only so that what hangs ends. */
#define LIMIT_NS 100000000000ull

struct turns {
	struct vulkan vulkan;
	struct vulkan_steps steps;
	struct vulkan_buffer buffer;
	VkDescriptorSet set;
	VkSemaphore host, device; /* how many turns each has had */
	uint32_t expected[NUM_WORDS];
	uint32_t num_rounds, num_steps;
	bool waits;
};

/* ---- Semaphores ----------------------------------------------------------------------------- */

static uint64_t value_of(const struct turns *turns, VkSemaphore semaphore)
{
	uint64_t value;

	vulkan_must(vkGetSemaphoreCounterValue(turns->vulkan.device, semaphore, &value),
		"vkGetSemaphoreCounterValue");
	return value;
}

static void signal_from_host(const struct turns *turns, VkSemaphore semaphore, uint64_t value)
{
	const VkSemaphoreSignalInfo info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
		.semaphore = semaphore,
		.value = value,
	};

	vulkan_must(vkSignalSemaphore(turns->vulkan.device, &info), "vkSignalSemaphore");
}

static VkResult wait_on_host(
	const struct turns *turns, VkSemaphore semaphore, uint64_t value, uint64_t limit_ns)
{
	const VkSemaphoreWaitInfo info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
		.semaphoreCount = 1,
		.pSemaphores = &semaphore,
		.pValues = &value,
	};

	return vkWaitSemaphores(turns->vulkan.device, &info, limit_ns);
}

static void must_reach(const struct turns *turns, VkSemaphore semaphore, uint64_t value)
{
	vulkan_must(wait_on_host(turns, semaphore, value, LIMIT_NS), "vkWaitSemaphores");
}

/* A semaphore may be VK_NULL_HANDLE: then there is none. The values of binary ones are ignored. */
static void submit(const struct turns *turns, uint32_t queue, VkCommandBuffer commands,
	VkSemaphore wait, uint64_t wait_value, VkSemaphore signal, uint64_t signal_value)
{
	const VkPipelineStageFlags all = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
	const VkTimelineSemaphoreSubmitInfo values = {
		.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
		.waitSemaphoreValueCount = wait != VK_NULL_HANDLE,
		.pWaitSemaphoreValues = &wait_value,
		.signalSemaphoreValueCount = signal != VK_NULL_HANDLE,
		.pSignalSemaphoreValues = &signal_value,
	};
	const VkSubmitInfo info = {
		.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
		.pNext = &values,
		.waitSemaphoreCount = wait != VK_NULL_HANDLE,
		.pWaitSemaphores = &wait,
		.pWaitDstStageMask = &all,
		.commandBufferCount = 1,
		.pCommandBuffers = &commands,
		.signalSemaphoreCount = signal != VK_NULL_HANDLE,
		.pSignalSemaphores = &signal,
	};

	vulkan_must(vkQueueSubmit(turns->vulkan.queues[queue], 1, &info, VK_NULL_HANDLE),
		"vkQueueSubmit");
}

/* ---- Words ---------------------------------------------------------------------------------- */

static VkCommandBuffer record_job(const struct turns *turns, uint32_t job)
{
	VkCommandBuffer commands = vulkan_commands_begin(&turns->vulkan);

	vulkan_steps_record(&turns->steps, commands, turns->set, job, turns->num_steps);
	vulkan_commands_end(commands);
	return commands;
}

static void expect_job(struct turns *turns, uint32_t job)
{
	for (uint32_t i = 0; i < NUM_WORDS; i++) {
		turns->expected[i] = steps_expected(turns->expected[i], i, job, turns->num_steps);
	}
}

static void change_words(uint32_t *words, uint32_t round)
{
	for (uint32_t i = 0; i < NUM_WORDS; i++) {
		words[i] = words[i] * 5 + round;
	}
}

static void clear_words(struct turns *turns)
{
	memset(turns->buffer.words, 0, turns->buffer.size);
	memset(turns->expected, 0, sizeof(turns->expected));
}

static uint32_t count_wrong(const struct turns *turns)
{
	return count_wrong_words(turns->buffer.words, turns->expected, turns->waits);
}

/* ---- Host and device in turn ---------------------------------------------------------------- */

/* All of the device's turns, before the host has had one. */
static void submit_turns(struct turns *turns)
{
	for (uint32_t round = 0; round < turns->num_rounds; round++) {
		submit(turns, 0, record_job(turns, round),
			turns->waits ? turns->host : VK_NULL_HANDLE, round + 1, turns->device,
			round + 1);
	}
}

static void check_nothing_has_run(const struct turns *turns)
{
	VkResult result = wait_on_host(turns, turns->device, 1, 0);

	report(value_of(turns, turns->device) == 0 && result == VK_TIMEOUT,
		"timeline: %u submissions wait for values that nobody has signalled",
		turns->num_rounds);
}

/* How many rounds were wrong. */
static uint32_t take_turns(struct turns *turns)
{
	uint32_t num_wrong = 0;

	for (uint32_t round = 0; round < turns->num_rounds; round++) {
		change_words(turns->buffer.words, round);
		change_words(turns->expected, round);
		signal_from_host(turns, turns->host, round + 1);
		must_reach(turns, turns->device, round + 1);
		expect_job(turns, round);
		num_wrong += count_wrong(turns) > 0;
	}
	return num_wrong;
}

static void host_and_device(struct turns *turns)
{
	uint32_t num_wrong;

	clear_words(turns);
	turns->host = vulkan_semaphore(&turns->vulkan, VK_SEMAPHORE_TYPE_TIMELINE, 0);
	turns->device = vulkan_semaphore(&turns->vulkan, VK_SEMAPHORE_TYPE_TIMELINE, 0);
	submit_turns(turns);
	if (turns->waits) {
		check_nothing_has_run(turns);
	} else {
		/* Nothing keeps the device from going first. */
		must_reach(turns, turns->device, turns->num_rounds);
	}
	num_wrong = take_turns(turns);
	report((num_wrong == 0) == turns->waits,
		"timeline: host and device in turn, %s: %u of %u rounds are wrong",
		turns->waits ? "each waits" : "the device does not wait", num_wrong,
		turns->num_rounds);
	report(value_of(turns, turns->device) == turns->num_rounds,
		"timeline: the device has signalled its last value");
}

/* ---- Values --------------------------------------------------------------------------------- */

/* The value that is signalled need not be one that somebody waits for. */
static void values_that_are_passed_over(struct turns *turns)
{
	enum { NUM_JOBS = 8 };

	clear_words(turns);
	turns->host = vulkan_semaphore(&turns->vulkan, VK_SEMAPHORE_TYPE_TIMELINE, 5);
	turns->device = vulkan_semaphore(&turns->vulkan, VK_SEMAPHORE_TYPE_TIMELINE, 0);
	for (uint32_t job = 0; job < NUM_JOBS; job++) {
		submit(turns, 0, record_job(turns, job), turns->host, 1000 * (job + 1),
			turns->device, 1 + 3 * job);
		expect_job(turns, job);
	}
	report(value_of(turns, turns->host) == 5 && value_of(turns, turns->device) == 0,
		"timeline: %u submissions wait for values further on", NUM_JOBS);
	signal_from_host(turns, turns->host, 1ull << 30);
	must_reach(turns, turns->device, 3 * NUM_JOBS - 2);
	report(count_wrong(turns) == 0, "timeline: a value beyond all frees them, in order");
}

static void any_of_two(struct turns *turns)
{
	VkSemaphore never = vulkan_semaphore(&turns->vulkan, VK_SEMAPHORE_TYPE_TIMELINE, 0);
	VkSemaphore done = vulkan_semaphore(&turns->vulkan, VK_SEMAPHORE_TYPE_TIMELINE, 0);
	const VkSemaphore semaphores[2] = { never, done };
	const uint64_t values[2] = { 1, 1 };
	VkSemaphoreWaitInfo info = {
		.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
		.flags = VK_SEMAPHORE_WAIT_ANY_BIT,
		.semaphoreCount = 2,
		.pSemaphores = semaphores,
		.pValues = values,
	};
	VkResult any, all;

	submit(turns, 0, record_job(turns, 0), VK_NULL_HANDLE, 0, done, 1);
	any = vkWaitSemaphores(turns->vulkan.device, &info, LIMIT_NS);
	info.flags = 0;
	all = vkWaitSemaphores(turns->vulkan.device, &info, 0);
	report(any == VK_SUCCESS && all == VK_TIMEOUT,
		"timeline: one of two values is enough for any, and not for all");
}

/* ---- Between submissions -------------------------------------------------------------------- */

/* A binary semaphore is used again and again, each time between two jobs. */
static void binary(struct turns *turns)
{
	VkSemaphore between = vulkan_semaphore(&turns->vulkan, VK_SEMAPHORE_TYPE_BINARY, 0);
	uint32_t second = turns->vulkan.num_queues - 1;

	clear_words(turns);
	turns->device = vulkan_semaphore(&turns->vulkan, VK_SEMAPHORE_TYPE_TIMELINE, 0);
	for (uint32_t round = 0; round < turns->num_rounds; round++) {
		submit(turns, 0, record_job(turns, 2 * round), turns->device, round, between, 0);
		submit(turns, second, record_job(turns, 2 * round + 1), between, 0, turns->device,
			round + 1);
		expect_job(turns, 2 * round);
		expect_job(turns, 2 * round + 1);
	}
	must_reach(turns, turns->device, turns->num_rounds);
	report(count_wrong(turns) == 0, "binary: %u pairs of jobs on %s", turns->num_rounds,
		second == 0 ? "one queue" : "two queues");
}

/* The one that waits is submitted first. */
static void wait_before_signal_on_two_queues(struct turns *turns)
{
	if (turns->vulkan.num_queues < 2) {
		report_skipped("wait before signal between two queues",
			"the device has one queue, on which that would wait for ever");
		return;
	}
	clear_words(turns);
	turns->device = vulkan_semaphore(&turns->vulkan, VK_SEMAPHORE_TYPE_TIMELINE, 0);
	submit(turns, 1, record_job(turns, 1), turns->device, 1, turns->device, 2);
	submit(turns, 0, record_job(turns, 0), VK_NULL_HANDLE, 0, turns->device, 1);
	expect_job(turns, 0);
	expect_job(turns, 1);
	must_reach(turns, turns->device, 2);
	report(count_wrong(turns) == 0, "timeline: wait before signal between two queues");
}

void vulkan_timeline(const struct vulkan_options *options)
{
	static struct turns turns;

	turns.num_rounds = options->rounds ? options->rounds : NUM_ROUNDS;
	turns.num_steps = options->steps ? options->steps : NUM_STEPS;
	turns.waits = !options->no_wait;
	if (turns.num_rounds > MAX_ROUNDS) {
		errx(2, "at most %d rounds", MAX_ROUNDS);
	}
	vulkan_open(&turns.vulkan, options->driver);
	vulkan_steps_init(&turns.steps, &turns.vulkan);
	vulkan_buffer_init(&turns.vulkan, &turns.buffer, NUM_WORDS * sizeof(uint32_t),
		VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT);
	turns.set = vulkan_steps_set(&turns.steps, &turns.buffer);
	host_and_device(&turns);
	if (turns.waits) {
		values_that_are_passed_over(&turns);
		any_of_two(&turns);
		binary(&turns);
		wait_before_signal_on_two_queues(&turns);
	}
}
