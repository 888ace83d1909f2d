/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "workloads.h"

#define NUM_CONTEXTS 4
#define NUM_RINGS 4
#define MAX_BUSY_US 200
#define LATEST 16 /* fences that a job chooses from */

/* The same numbers in every run (those of Knuth's MMIX; the upper bits are the good ones). */
static uint32_t random_below(uint64_t *state, uint32_t limit)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((*state >> 33) % limit);
}

/* Any context and ring, any time, up to 4 of the latest fences, some of them twice. */
static void submit_storm(struct run *run, uint32_t units)
{
	uint64_t state = 1;

	for (uint32_t i = 0; i < units; i++) {
		uint32_t dependencies[RUN_MAX_DEPENDENCIES];
		uint32_t latest = i < LATEST ? i : LATEST;
		uint32_t count = latest ? random_below(&state, RUN_MAX_DEPENDENCIES + 1) : 0;

		for (uint32_t j = 0; j < count; j++) {
			dependencies[j] = i - 1 - random_below(&state, latest);
		}
		run_submit(run, random_below(&state, NUM_CONTEXTS), random_below(&state, NUM_RINGS),
			random_below(&state, MAX_BUSY_US), dependencies, count);
	}
}

const struct workload workload_storm = {
	.name = "storm",
	.unit = "job",
	.units = 1000,
	.num_contexts = NUM_CONTEXTS,
	.num_rings = NUM_RINGS,
	.submit = submit_storm,
};
