/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* How much CPU time is the renderer's: what is counted, of a known load and of the software GPU. */

#include "gpu_guest.h"

#include <time.h>

#include "clock.h"
#include "renderer_clock.h"

#define NUM_CALLS (20 * RENDERER_CLOCK_EVERY)
#define CALL_NS (20 * NS_PER_US)

static void work(uint64_t ns)
{
	uint64_t end_ns = thread_cpu_ns() + ns;

	while (thread_cpu_ns() < end_ns) {
	}
}

/* What the calls of one round take, and what is between them. Returns what was found. */
static uint64_t measure(struct renderer_clock *clock, uint64_t inside_ns, uint64_t outside_ns)
{
	struct renderer_clock from = *clock;

	for (uint32_t i = 0; i < NUM_CALLS; i++) {
		work(outside_ns);
		renderer_clock_enter(clock);
		work(inside_ns);
		renderer_clock_leave(clock);
	}
	assert_int_equal(clock->calls - from.calls, NUM_CALLS);
	return renderer_clock_ns(&from, clock);
}

TEST(calls_are_counted_and_what_is_between_them_is_not)
{
	struct renderer_clock clock;
	uint64_t ns;

	renderer_clock_init(&clock);
	measure(&clock, 0, 0);
	ns = measure(&clock, CALL_NS, 3 * CALL_NS);
	assert_in_range(ns, NUM_CALLS * CALL_NS * 4 / 5, NUM_CALLS * CALL_NS * 2);
	assert_int_equal(clock.measured, 2 * NUM_CALLS / RENDERER_CLOCK_EVERY);
}

/* The least of some rounds: interrupts are none of it. */
TEST(reading_the_clock_is_not_the_renderers)
{
	struct renderer_clock clock, from;
	uint64_t least_ns = UINT64_MAX;

	renderer_clock_init(&clock);
	for (uint32_t round = 0; round < 20; round++) {
		uint64_t ns;

		from = clock;
		for (uint32_t i = 0; i < NUM_CALLS; i++) {
			renderer_clock_enter(&clock);
			renderer_clock_leave(&clock);
		}
		ns = renderer_clock_ns(&from, &clock);
		least_ns = ns < least_ns ? ns : least_ns;
	}
	assert_true(clock.read_ns > 0);
	assert_true(least_ns < NUM_CALLS * clock.read_ns / 2);
}

TEST(without_a_clock_nothing_is_counted)
{
	struct renderer_clock clock = { 0 };

	renderer_clock_enter(NULL);
	renderer_clock_leave(NULL);
	assert_int_equal(renderer_clock_ns(&clock, &clock), 0);
}

TEST(each_submission_is_a_call_into_the_software_gpu)
{
	static struct guest guest;
	struct renderer_clock clock, from;
	struct gpu_options options = { .fence_passing_bit = -1, .renderer.clock = &clock };

	renderer_clock_init(&clock);
	from = clock;
	guest_start(&guest, &options);
	assert_int_equal(create_context(&guest, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(clock.calls, 0);
	for (uint32_t i = 1; i <= 2 * RENDERER_CLOCK_EVERY; i++) {
		const struct job job = { .ctx_id = 1, .fence_id = i };

		guest_wait(&guest, GPU_QUEUE_CONTROL, submit(&guest, &job));
	}
	assert_int_equal(clock.calls, 2 * RENDERER_CLOCK_EVERY);
	assert_int_equal(clock.measured, 2);
	assert_true(renderer_clock_ns(&from, &clock) > 0);
	guest_stop(&guest);
}
