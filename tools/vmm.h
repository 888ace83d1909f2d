/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VMM_H
#define VMM_H

/*
 * A VMM without a guest: sends a workload's requests to the library as a virtio-gpu device would
 * that takes them off a virtqueue, runs its jobs on the software GPU, and notes when the fences
 * retire.
 */

#include <stdbool.h>
#include <stdint.h>

#include <vgfence/inspect.h>

#include "events.h"
#include "soft_gpu.h"
#include "workload.h"

struct vmm_options {
	uint32_t window; /* requests in flight: sent and not completed; at least 1 */
	enum vgf_wait wait;
	enum soft_gpu_fences fences;
	/* Told of what happens to fences, as by vgf_device_trace; or NULL. */
	void (*listener)(void *arg, const struct vgf_event *event);
	void *listener_arg;
};

struct vmm_latency {
	uint64_t p50_ns, p99_ns, max_ns;
};

struct vmm_result {
	uint64_t ready, driver, held; /* jobs that ran, by how they waited */
	uint64_t retired;             /* jobs whose fences retired without an error */
	uint64_t refused;             /* jobs that were not accepted */
	uint64_t faults; /* all else that went wrong: failed jobs, unexpected fences, commands */
	bool stuck;      /* nothing happened for a long time, so it was given up */
	uint64_t makespan_ns; /* from the first job sent to the last one retired */
	/* From a job's signal to its callback; if its timeline kept it back, from the end of
	 * that. */
	struct vmm_latency signal_to_retire;
	struct events events; /* sorted; of fenced jobs only */
};

/* Replays a workload. Returns 0, or a negative errno value after a message to stderr. In either
 * case the caller ends with vmm_result_finish. */
int vmm_replay(const struct workload *workload, const struct vmm_options *options,
	struct vmm_result *result);
void vmm_result_finish(struct vmm_result *result);

/* Whether every job was accepted, ran, and retired. */
bool vmm_result_ok(const struct workload *workload, const struct vmm_result *result);

#endif
