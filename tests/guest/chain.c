/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "workloads.h"

uint32_t chain_busy_us = 50;

/* Two contexts in turns, each job waits for the one before. */
static void submit_chain(struct run *run, uint32_t units)
{
	uint32_t previous = RUN_NO_JOB;

	for (uint32_t i = 0; i < units; i++) {
		previous = run_submit(run, i % 2, 0, chain_busy_us, &previous, i > 0 ? 1 : 0);
	}
}

const struct workload workload_chain = {
	.name = "chain",
	.unit = "job",
	.units = 400,
	.num_contexts = 2,
	.num_rings = 1,
	.submit = submit_chain,
};
