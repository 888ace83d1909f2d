/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <stddef.h>

#include "clock.h"
#include "timelines.h"

void timelines_init(struct timelines *timelines)
{
	key_table_init(&timelines->by_key);
	TAILQ_INIT(&timelines->busy);
	TAILQ_INIT(&timelines->idle);
}

static struct gpu_timeline *find(struct timelines *timelines, uint64_t key)
{
	struct key_entry *entry = key_table_find(&timelines->by_key, key);

	return entry == NULL ?
		NULL :
		(struct gpu_timeline *)((char *)entry - offsetof(struct gpu_timeline, by_key));
}

/* A place that nothing is pending on, of the one that was used longest ago; or NULL. */
static struct gpu_timeline *take_place(struct timelines *timelines)
{
	struct gpu_timeline *timeline = TAILQ_FIRST(&timelines->idle);

	if (timelines->num_used < MAX_TIMELINES) {
		return &timelines->all[timelines->num_used++];
	}
	if (timeline != NULL) {
		TAILQ_REMOVE(&timelines->idle, timeline, link);
		key_table_remove(&timelines->by_key, &timeline->by_key);
	}
	return timeline;
}

static struct gpu_timeline *create(
	struct timelines *timelines, uint64_t key, uint32_t ctx_id, int32_t ring)
{
	struct gpu_timeline *timeline = take_place(timelines);

	if (timeline != NULL) {
		*timeline = (struct gpu_timeline){ .ctx_id = ctx_id, .ring = ring };
		key_table_add(&timelines->by_key, &timeline->by_key, key);
		TAILQ_INSERT_TAIL(&timelines->idle, timeline, link);
	}
	return timeline;
}

void timelines_start(struct timelines *timelines)
{
	timelines->counts = true;
}

struct gpu_timeline *timelines_accept(struct timelines *timelines, uint64_t key, uint32_t ctx_id,
	int32_t ring, uint64_t *accepted_ns)
{
	struct gpu_timeline *timeline;

	if (!timelines->counts) {
		return NULL;
	}
	timeline = find(timelines, key);
	if (timeline == NULL) {
		timeline = create(timelines, key, ctx_id, ring);
	}
	if (timeline == NULL) {
		timelines->num_uncounted++;
		return NULL;
	}
	*accepted_ns = now_ns();
	if (timeline->pending == 0) {
		timeline->since_ns = *accepted_ns;
	}
	TAILQ_REMOVE(timeline->pending > 0 ? &timelines->busy : &timelines->idle, timeline, link);
	TAILQ_INSERT_TAIL(&timelines->busy, timeline, link);
	timeline->pending++;
	return timeline;
}

static void count(struct timeline_stats *stats, uint64_t took_ns, bool failed)
{
	uint64_t took_us = took_ns / NS_PER_US;
	uint32_t bucket = took_us == 0 ? 0 : 64 - (uint32_t)__builtin_clzll(took_us);

	stats->num_done++;
	stats->num_failed += failed;
	stats->total_ns += took_ns;
	stats->max_ns = took_ns > stats->max_ns ? took_ns : stats->max_ns;
	stats->latencies[bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1]++;
}

void timelines_answered(struct timelines *timelines, struct gpu_timeline *timeline,
	uint64_t accepted_ns, bool failed)
{
	if (timeline == NULL) {
		return;
	}
	timeline->since_ns = now_ns();
	count(&timeline->stats, timeline->since_ns - accepted_ns, failed);
	timeline->pending--;
	if (timeline->pending == 0) {
		TAILQ_REMOVE(&timelines->busy, timeline, link);
		TAILQ_INSERT_TAIL(&timelines->idle, timeline, link);
	}
}

void timelines_forget(struct timelines *timelines, uint64_t key)
{
	struct gpu_timeline *timeline = find(timelines, key);

	if (timeline != NULL) {
		timeline->stats = (struct timeline_stats){ 0 };
	}
}

/* What is pending keeps its place. */
void timelines_reset(struct timelines *timelines)
{
	struct gpu_timeline *timeline;

	TAILQ_FOREACH(timeline, &timelines->busy, link) {
		timeline->stats = (struct timeline_stats){ 0 };
	}
	TAILQ_FOREACH(timeline, &timelines->idle, link) {
		timeline->stats = (struct timeline_stats){ 0 };
	}
	timelines->num_uncounted = 0;
}
