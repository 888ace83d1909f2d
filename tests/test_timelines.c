/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What is counted of a guest's timelines, for who looks at a running device. */

#include <stdlib.h>

#include <vgfence/fence.h>

#include "support.h"
#include "timelines.h"

static struct timelines *make(bool counts)
{
	struct timelines *timelines = calloc(1, sizeof(*timelines));

	assert_non_null(timelines);
	timelines_init(timelines);
	if (counts) {
		timelines_start(timelines);
	}
	return timelines;
}

static struct gpu_timeline *accept_one(struct timelines *timelines, uint32_t ctx_id)
{
	uint64_t accepted_ns;

	return timelines_accept(timelines, ctx_id, ctx_id, 0, &accepted_ns);
}

TEST(nothing_is_counted_before_somebody_may_ask)
{
	struct timelines *timelines = make(false);

	assert_null(accept_one(timelines, 1));
	timelines_answered(timelines, NULL, 0, false);
	assert_int_equal(timelines->num_used, 0);
	assert_int_equal(timelines->num_uncounted, 0);
	timelines_start(timelines);
	assert_non_null(accept_one(timelines, 1));
	free(timelines);
}

TEST(the_oldest_is_the_oldest_since_the_one_before_it_was_answered)
{
	struct timelines *timelines = make(true);
	uint64_t first_ns, second_ns;
	struct gpu_timeline *timeline = timelines_accept(timelines, 1, 1, 0, &first_ns);

	assert_ptr_equal(timelines_accept(timelines, 1, 1, 0, &second_ns), timeline);
	assert_int_equal(timeline->since_ns, first_ns);
	timelines_answered(timelines, timeline, first_ns, true);
	assert_true(timeline->since_ns >= second_ns);
	assert_int_equal(timeline->pending, 1);
	assert_int_equal(timeline->stats.num_done, 1);
	assert_int_equal(timeline->stats.num_failed, 1);
	free(timelines);
}

TEST(what_took_longer_than_the_last_bucket_is_in_it)
{
	struct timelines *timelines = make(true);
	struct gpu_timeline *timeline = accept_one(timelines, 1);

	timelines_answered(timelines, timeline, timeline->since_ns - (UINT64_C(1) << 62), false);
	assert_int_equal(timeline->stats.latencies[LATENCY_BUCKETS - 1], 1);
	free(timelines);
}

/* Of those that nothing is pending on, the one that was used longest ago makes room. */
TEST(there_are_no_more_than_there_is_room_for)
{
	struct timelines *timelines = make(true);
	struct gpu_timeline *second, *last;

	for (uint32_t i = 0; i < MAX_TIMELINES; i++) {
		assert_non_null(accept_one(timelines, i));
	}
	assert_null(accept_one(timelines, MAX_TIMELINES));
	assert_int_equal(timelines->num_uncounted, 1);

	second = &timelines->all[1];
	timelines_answered(timelines, second, 0, false);
	timelines_answered(timelines, &timelines->all[0], 0, false);
	last = accept_one(timelines, MAX_TIMELINES);
	assert_ptr_equal(last, second);
	assert_int_equal(last->ctx_id, MAX_TIMELINES);
	assert_int_equal(last->stats.num_done, 0);
	assert_ptr_equal(accept_one(timelines, 0), &timelines->all[0]);
	assert_int_equal(timelines->all[0].stats.num_done, 1);
	free(timelines);
}
