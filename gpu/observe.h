/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef OBSERVE_H
#define OBSERVE_H

/* A running device as it is at a moment: its timelines, and what the oldest fence of each waits
 * for. Of bounded cost, whatever the guest does. */

#include <stdint.h>

#include <vgfence/fence.h>

struct gpu;
struct timeline_stats;

/* Those that most is pending on, then those that were used last. */
#define MAX_OBSERVED 128u

struct observed_fence {
	struct vgf_fence_name name; /* with the device's number, as in messages */
	uint64_t guest_id;          /* what the guest calls it */
	uint64_t age_ns;            /* since the request came */
	uint64_t oldest_for_ns;     /* since nothing is before it on its timeline */
	const char *state;          /* what it waits for, in a word or some */
	/* The in-fence that its work waits for; fence_id is 0 if that is none of the device's. */
	struct vgf_fence_name awaited;
};

struct observed_timeline {
	uint32_t ctx_id;
	int32_t ring;
	uint32_t pending; /* requests with a fence that are not answered */
	uint32_t held;    /* of these: whose work waits for in-fences, or behind such work */
	const struct timeline_stats *stats; /* until the device does something else */
	struct observed_fence oldest;       /* if something is pending */
};

struct observation {
	uint64_t now_ns;
	struct observed_timeline *timelines;
	uint32_t count;
	uint32_t left_out; /* more of them */
};

/* Timelines of contexts that are not there any more are left out when nothing is pending on them.
 * Returns 0 or -ENOMEM. */
int observe(struct gpu *gpu, struct observation *observation);
void observation_finish(struct observation *observation);

#endif
