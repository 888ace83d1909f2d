/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * src/virgl/client_ids.c alone: what threads do at the same time one after the other, and what is
 * left. test_in_place.c has the rest.
 */

#include <malloc.h>

#include "client_ids.h"
#include "support.h"

#define TEST_IDS(name) TEST_BETWEEN(name, (void)0, client_ids_clear())

static struct vgf_fence_name on(uint32_t ctx_id, uint64_t id)
{
	return (struct vgf_fence_name){ .fence_id = id, .ctx_id = ctx_id, .ring = 1 };
}

static void assert_enters(uint32_t ctx_id, uint64_t id, uint64_t number)
{
	const struct vgf_fence_name client = on(ctx_id, id);
	uint64_t got;

	assert_int_equal(client_id_enter(&client, &got), 0);
	assert_int_equal(got, number);
}

static void drop(uint32_t ctx_id, uint64_t id, uint64_t number)
{
	const struct vgf_fence_name client = on(ctx_id, id);

	client_id_drop(&client, number);
}

static void assert_retires(uint32_t ctx_id, uint64_t number, uint64_t id)
{
	const struct vgf_fence_name fence = on(ctx_id, number);
	uint64_t got;

	assert_true(client_id_retire(&fence, &got));
	assert_int_equal(got, id);
}

static void assert_untold(uint32_t ctx_id, uint64_t number)
{
	const struct vgf_fence_name fence = on(ctx_id, number);
	uint64_t got;

	assert_false(client_id_retire(&fence, &got));
}

/* For as many contexts. With an address sanitizer mallinfo2 has only zeros. */
static void assert_leaves_nothing(void (*life)(uint32_t ctx_id))
{
	unsigned long before;

	life(1);
	before = mallinfo2().uordblks;
	for (uint32_t ctx_id = 2; ctx_id <= 1000; ctx_id++) {
		life(ctx_id);
	}
	assert_in_range(mallinfo2().uordblks, 0, before + 4096);
}

static void end_before_a_refusal(uint32_t ctx_id)
{
	uint64_t id = 2ULL * ctx_id;

	assert_enters(ctx_id, id, id);
	client_ids_end_context(ctx_id);
	assert_enters(ctx_id, id + 1, id + 1); /* there is no such context */
	drop(ctx_id, id + 1, id + 1);
	assert_untold(ctx_id, id);
}

TEST_IDS(an_ended_context_goes_with_its_last_fence)
{
	assert_leaves_nothing(end_before_a_refusal);
}

static void end_within_a_refusal(uint32_t ctx_id)
{
	uint64_t id = 2ULL * ctx_id;

	assert_enters(ctx_id, id, id);
	client_ids_end_context(ctx_id);
	assert_enters(ctx_id, id + 1, id + 1);
	assert_untold(ctx_id, id); /* in another thread */
	drop(ctx_id, id + 1, id + 1);
}

TEST_IDS(an_ended_context_goes_if_its_last_fence_retires_before_one_is_refused)
{
	assert_leaves_nothing(end_within_a_refusal);
}

TEST_IDS(a_context_that_is_there_again_stays)
{
	assert_enters(1, 5, 5);
	client_ids_end_context(1);
	assert_enters(1, 1, 6);
	assert_untold(1, 5);
	assert_enters(1, 2, 7);
	assert_retires(1, 6, 1);
	assert_retires(1, 7, 2);
	assert_enters(1, 3, 8);
}

TEST_IDS(a_timeline_starts_above_those_that_have_gone)
{
	assert_enters(1, 100, 100);
	assert_enters(2, 50, 50);
	assert_retires(1, 100, 100);
	assert_retires(2, 50, 50);
	client_ids_end_context(1);
	client_ids_end_context(2);
	assert_enters(1, 1, 101);
	assert_enters(2, 200, 200);
	assert_retires(1, 101, 1);
	assert_retires(2, 200, 200);
}

/* Nothing else has to count from there. */
TEST_IDS(a_refused_fence_leaves_its_number)
{
	assert_enters(1, 100, 100);
	drop(1, 100, 100);
	assert_enters(1, 1, 1);
}

TEST_IDS(the_global_timeline_starts_at_its_own_ids)
{
	const struct vgf_fence_name global = { .fence_id = 3, .ring = VGF_RING_GLOBAL };
	uint64_t number;

	assert_enters(1, 1ULL << 40, 1ULL << 40);
	assert_retires(1, 1ULL << 40, 1ULL << 40);
	client_ids_end_context(1);
	assert_int_equal(client_id_enter(&global, &number), 0);
	assert_int_equal(number, 3);
}

TEST_IDS(after_a_reset_all_start_at_their_own_ids)
{
	assert_enters(1, 100, 100);
	assert_retires(1, 100, 100);
	client_ids_end_context(1);
	client_ids_clear();
	assert_enters(1, 1, 1);
}
