/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <err.h>
#include <unistd.h>

#include "workloads.h"

#define NUM_JOBS 6
#define FIRST_BUSY_US 300
#define SECOND_BUSY_US 100

/* Two contexts that were closed while their work ran, and the last fence of each. */
struct closed {
	struct context contexts[2];
	int last_fds[2];
};

static int submit(struct context *context, uint32_t busy_us, uint32_t number, int in_fence_fd)
{
	const struct context_job job = {
		.busy_us = busy_us,
		.slot = number,
		.value = number + 1,
		.in_fence_fd = in_fence_fd,
	};
	int out_fence_fd;

	context_submit(context, &job, &out_fence_fd);
	return out_fence_fd;
}

static bool is_done(const struct context *context, uint32_t number)
{
	return context->slots[number] == number + 1;
}

/* Whether work of a context that is gone is still done is not promised. That what is done is done
 * in order is. */
static void check_order(struct run *run, const struct closed *closed)
{
	for (uint32_t i = 0; i < NUM_JOBS; i++) {
		if (is_done(&closed->contexts[1], i) && !is_done(&closed->contexts[0], i)) {
			errx(1, "job %u of the second context was done, that of the first was not",
				i);
		}
		run->num_checks++;
	}
}

/* Work for both, of which the second's waits for the first's; then both go away at once. */
static void submit_and_close(struct run *run, struct closed *closed)
{
	for (uint32_t i = 0; i < 2; i++) {
		context_open(&closed->contexts[i], 1, run->passing);
		closed->last_fds[i] = -1;
	}
	for (uint32_t i = 0; i < NUM_JOBS; i++) {
		for (uint32_t j = 0; j < 2; j++) {
			int last = closed->last_fds[j];

			closed->last_fds[j] = submit(&closed->contexts[j],
				j ? SECOND_BUSY_US : FIRST_BUSY_US, i,
				j ? closed->last_fds[0] : -1);
			if (last >= 0) {
				close(last);
			}
		}
		check_order(run, closed);
	}
	context_close(&closed->contexts[0]);
	context_close(&closed->contexts[1]);
	check_order(run, closed);
}

/* The fences of a context that is gone still signal. */
static void wait_for_closed(struct run *run, struct closed *closed)
{
	for (uint32_t i = 0; i < 2; i++) {
		if (!wait_fence(closed->last_fds[i], RUN_TIMEOUT_MS)) {
			errx(1, "the last fence of a closed context is lost");
		}
		close(closed->last_fds[i]);
		run->num_checks++;
	}
	check_order(run, closed);
	context_unmap(&closed->contexts[0]);
	context_unmap(&closed->contexts[1]);
}

/* The context IDs are used again while the work of those who had them before runs. */
static void submit_teardown(struct run *run, uint32_t units)
{
	struct closed closed[2];

	for (uint32_t i = 0; i <= units; i++) {
		if (i < units) {
			submit_and_close(run, &closed[i % 2]);
		}
		if (i > 0) {
			wait_for_closed(run, &closed[(i - 1) % 2]);
		}
	}
}

const struct workload workload_teardown = {
	.name = "teardown",
	.unit = "cycle",
	.units = 20,
	.submit = submit_teardown,
};
