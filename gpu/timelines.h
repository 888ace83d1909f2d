/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef TIMELINES_H
#define TIMELINES_H

/*
 * How the requests with a fence go, timeline by timeline: how many there are, how long each took
 * from the guest's request to its response, since when the oldest is the oldest. Of constant cost
 * for each, in memory that is there from the start. Nothing is counted until somebody may ask.
 */

#include <stdbool.h>
#include <stdint.h>

#include "key_table.h"
#include "queue.h"

/* The guest chooses how many it uses. Of more than these, those that were used last have
 * statistics, and all on which something is pending, up to this number. */
#define MAX_TIMELINES 1024u

/* Bucket N counts what took less than 2^N microseconds, and no less than the bucket before; the
 * last one all that took longer. */
#define LATENCY_BUCKETS 28u

struct timeline_stats {
	uint64_t num_done;   /* requests that were answered */
	uint64_t num_failed; /* of these, with an error */
	uint64_t total_ns;   /* that all of them took */
	uint64_t max_ns;
	uint64_t latencies[LATENCY_BUCKETS];
};

struct gpu_timeline {
	struct key_entry by_key;
	TAILQ_ENTRY(gpu_timeline) link; /* in `busy` or `idle` */
	uint32_t ctx_id;
	int32_t ring; /* VGF_RING_GLOBAL: the device's timeline, and ctx_id means nothing */
	uint32_t pending;
	uint64_t since_ns; /* while something is pending: the oldest is the oldest since then */
	struct timeline_stats stats;
};

TAILQ_HEAD(gpu_timeline_list, gpu_timeline);

struct timelines {
	bool counts; /* timelines_start */
	struct gpu_timeline all[MAX_TIMELINES];
	uint32_t num_used; /* of `all`: the first ones have been used */
	struct key_table by_key;
	struct gpu_timeline_list busy, idle; /* those used last come last */
	uint64_t num_uncounted; /* requests on a timeline of which there are no statistics */
};

/* What is initialized is all zeros. */
void timelines_init(struct timelines *timelines);

/* Requests that come from now on are counted. */
void timelines_start(struct timelines *timelines);

/* A request with a fence has come. key: the timeline's. Returns it, to be passed to
 * timelines_answered, with the time in *accepted_ns; NULL if this one is not counted. */
struct gpu_timeline *timelines_accept(struct timelines *timelines, uint64_t key, uint32_t ctx_id,
	int32_t ring, uint64_t *accepted_ns);

/* One that came at accepted_ns is answered, the oldest of its timeline. NULL is fine. */
void timelines_answered(struct timelines *timelines, struct gpu_timeline *timeline,
	uint64_t accepted_ns, bool failed);

/* The timeline begins anew: its context is another one. */
void timelines_forget(struct timelines *timelines, uint64_t key);

/* All of them do. */
void timelines_reset(struct timelines *timelines);

#endif
