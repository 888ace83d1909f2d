/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "workloads.h"

enum { FIRST_PRODUCER, SECOND_PRODUCER, COMPOSITOR, NUM_CONTEXTS };

#define FIRST_BUSY_US 150
#define SECOND_BUSY_US 100
#define COMPOSITOR_BUSY_US 80

/* A compositor waits for both producers, and they for it to release their last frame. */
static void submit_frames(struct run *run, uint32_t units)
{
	uint32_t released = RUN_NO_JOB, produced[2];

	for (uint32_t i = 0; i < units; i++) {
		uint32_t num_released = i > 0 ? 1 : 0;

		produced[0] = run_submit(
			run, FIRST_PRODUCER, 0, FIRST_BUSY_US, &released, num_released);
		produced[1] = run_submit(
			run, SECOND_PRODUCER, 0, SECOND_BUSY_US, &released, num_released);
		released = run_submit(run, COMPOSITOR, 0, COMPOSITOR_BUSY_US, produced, 2);
	}
}

const struct workload workload_frames = {
	.name = "frames",
	.unit = "frame",
	.units = 200,
	.num_contexts = NUM_CONTEXTS,
	.num_rings = 1,
	.submit = submit_frames,
};
