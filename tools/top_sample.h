/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef TOP_SAMPLE_H
#define TOP_SAMPLE_H

/* What a device answers to "list", and the text of 'vgfence top' for it. Nothing in the answer is
 * trusted, and what is too much is left out. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <json-c/json.h>
#include <vgfence/fence.h>

/* The device sends 128 timelines, and no more than 1024 contexts. */
#define TOP_MAX_TIMELINES 128
#define TOP_MAX_CONTEXTS 1024
#define TOP_MAX_HUNG TOP_MAX_TIMELINES
#define TOP_LATENCIES 28

struct top_context {
	uint32_t ctx_id;
	char name[65];
};

struct top_timeline {
	uint32_t ctx_id;
	int32_t ring;
	uint64_t pending, held, fences, failed, total_ns, max_ns;
	uint64_t latencies[TOP_LATENCIES]; /* N: less than 2^N microseconds */
	/* If something is pending: the oldest fence. */
	struct vgf_fence_name oldest, awaited; /* awaited.fence_id: 0 for none */
	uint64_t age_ns, oldest_for_ns;
	char state[32];
};

struct top_sample {
	uint64_t time_ns;
	uint64_t submissions, run_ready, run_host, fences, refused, errors, failed, stalled;
	uint64_t pending, held, held_bytes, descriptors, left_out;
	uint32_t num_contexts, num_timelines;
	struct top_context contexts[TOP_MAX_CONTEXTS];
	struct top_timeline timelines[TOP_MAX_TIMELINES];
};

struct top_view {
	const char *path;
	const struct top_sample *before; /* for rates; or NULL */
	const struct top_sample *now;
	uint64_t hung_ns;
	bool by_latency;
	uint64_t late_ns; /* so long there has been no answer; or 0 */
};

void top_sample_read(struct top_sample *sample, struct json_object *answer);

/* The fences that hang. Returns how many. */
uint32_t top_list_hung(const struct top_sample *sample, uint64_t hung_ns,
	struct vgf_fence_name hung[TOP_MAX_HUNG]);

/* Writes all of it, in lines. */
void top_write(FILE *file, const struct top_view *view);

#endif
