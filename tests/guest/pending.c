/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <err.h>
#include <stdio.h>
#include <string.h>

#include "workloads.h"

#define NUM_CONTEXTS 4
#define NUM_RINGS 4
#define MAX_JOBS 240 /* the guest's queue has room for 256 requests */
#define BUSY_US (600 * 1000000u)
#define ALSO_MS 600000

static void wait_for_all(const int *fds, uint32_t count)
{
	uint32_t failed = 0;
	int error = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (!wait_fence(fds[i], ALSO_MS)) {
			errx(1, "fence %u is lost", i);
		}
		if (fence_status(fds[i]) < 0) {
			error = -fence_status(fds[i]);
			failed++;
		}
	}
	printf("%u of %u fences failed: %s\n", failed, count, strerror(error));
}

/* Half of the jobs run, for longer than anybody waits. The others wait for the first; where fences
 * are not passed, for nothing, as it would be here that they wait. */
void leave_pending(bool passing, uint32_t num_jobs)
{
	struct context contexts[NUM_CONTEXTS];
	int fds[MAX_JOBS];

	num_jobs = num_jobs && num_jobs < MAX_JOBS ? num_jobs : MAX_JOBS;
	for (uint32_t i = 0; i < NUM_CONTEXTS; i++) {
		context_open(&contexts[i], NUM_RINGS, passing);
	}
	for (uint32_t i = 0; i < num_jobs; i++) {
		const struct context_job job = {
			.ring = i / NUM_CONTEXTS % NUM_RINGS,
			.busy_us = BUSY_US,
			.slot = i,
			.value = 1,
			.in_fence_fd = passing && i % 2 ? fds[0] : -1,
		};

		context_submit(&contexts[i % NUM_CONTEXTS], &job, &fds[i]);
	}
	printf("%u fences pending\n", num_jobs);
	fflush(stdout);
	wait_for_all(fds, num_jobs);
}
