/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Nothing that a guest chooses makes a walk long that is on the way of one event of the device.
 * What is walked is counted: the buckets of tables, and with -Wl,--wrap=tfind, tsearch and tdelete
 * the comparisons in trees.
 */

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backing.h"
#include "guest_memory.h"
#include "pending.h"
#include "renderer.h"
#include "resource.h"
#include "soft_gpu_schedule.h"
#include "soft_tables.h"
#include "support.h"

/* ---- Comparisons in trees ------------------------------------------------------------------- */

typedef int (*compare_fn)(const void *left, const void *right);

void *__real_tfind(const void *key, void *const *root, compare_fn compare);
void *__real_tsearch(const void *key, void **root, compare_fn compare);
void *__real_tdelete(const void *key, void **root, compare_fn compare);
void *__wrap_tfind(const void *key, void *const *root, compare_fn compare);
void *__wrap_tsearch(const void *key, void **root, compare_fn compare);
void *__wrap_tdelete(const void *key, void **root, compare_fn compare);

static compare_fn counted;
static unsigned int num_compared, most_compared;

static int count_comparison(const void *left, const void *right)
{
	num_compared++;
	return counted(left, right);
}

static compare_fn begin_count(compare_fn compare)
{
	counted = compare;
	num_compared = 0;
	return count_comparison;
}

static void *end_count(void *found)
{
	if (num_compared > most_compared) {
		most_compared = num_compared;
	}
	return found;
}

void *__wrap_tfind(const void *key, void *const *root, compare_fn compare)
{
	return end_count(__real_tfind(key, root, begin_count(compare)));
}

void *__wrap_tsearch(const void *key, void **root, compare_fn compare)
{
	return end_count(__real_tsearch(key, root, begin_count(compare)));
}

void *__wrap_tdelete(const void *key, void **root, compare_fn compare)
{
	return end_count(__real_tdelete(key, root, begin_count(compare)));
}

/* What a balanced tree of so many may need: no path is longer than twice the shortest. */
static unsigned int balanced(unsigned int count)
{
	unsigned int levels = 1;

	while (count >>= 1) {
		levels++;
	}
	return 2 * levels;
}

/* A guest counts its IDs up: the worst order for a tree that is not balanced. */
TEST(resources_are_found_in_a_balanced_tree)
{
	struct resource_table table = { 0 };
	int error;

	most_compared = 0;
	for (uint32_t id = 1; id <= MAX_RESOURCES; id++) {
		assert_non_null(resource_create(&table, id, &error));
	}
	assert_in_range(most_compared, 1, balanced(MAX_RESOURCES));
	assert_null(resource_create(&table, MAX_RESOURCES + 1, &error));
	assert_int_equal(error, -ENOSPC);
	resource_destroy_all(&table);
	assert_in_range(most_compared, 1, balanced(MAX_RESOURCES));
}

TEST(attachments_are_found_in_a_balanced_tree)
{
	struct soft_tables tables = { 0 };
	struct soft_context *context = soft_context_add(&tables, 1, 1);
	struct soft_resource *resource = NULL;

	most_compared = 0;
	for (uint32_t id = 1; id <= SOFT_MAX_CONTEXT_ATTACHMENTS; id++) {
		resource = soft_resource_add(&tables, id);
		assert_int_equal(soft_attach(&tables, context, resource), 0);
	}
	assert_int_equal(soft_attach(&tables, context, resource), 0); /* has it already */
	resource = soft_resource_add(&tables, SOFT_MAX_CONTEXT_ATTACHMENTS + 1);
	assert_int_equal(soft_attach(&tables, context, resource), -ENOSPC);
	soft_detach(&tables, soft_attachment_find(&tables, 1, 1));
	assert_int_equal(soft_attach(&tables, context, resource), 0);
	soft_context_remove(&tables, context);
	while ((resource = soft_resource_any(&tables)) != NULL) {
		soft_resource_remove(&tables, resource);
	}
	assert_in_range(most_compared, 1, balanced(SOFT_MAX_CONTEXT_ATTACHMENTS));
}

/* ---- Fences of the device's requests -------------------------------------------------------- */

/* With a key that a guest does not know, a bucket of 16 comes once in 10^10 times. */
#define MAX_IN_BUCKET 16

static unsigned int most_in_bucket(const struct key_table *table)
{
	const struct key_entry *entry;
	unsigned int most = 0;

	for (size_t i = 0; i < KEY_TABLE_BUCKETS; i++) {
		unsigned int count = 0;

		LIST_FOREACH(entry, &table->buckets[i], link) {
			count++;
		}
		most = count > most ? count : most;
	}
	return most;
}

static void check_fences(struct guest_fence (*name_of)(uint32_t i))
{
	struct pending *pending = calloc(1, sizeof(*pending));

	assert_non_null(pending);
	pending_init(pending);
	for (uint32_t i = 0; i < KEY_TABLE_BUCKETS; i++) {
		const struct gpu_request request = {
			.queue = i % GPU_NUM_QUEUES,
			.token = i / GPU_NUM_QUEUES,
		};
		struct pending_request *place = pending_take(pending, &request);

		assert_non_null(place);
		place->guest_fence = name_of(i);
		pending_line_up(pending, place);
		pending_add_fence(pending, place);
		assert_ptr_equal(pending_find_fence(pending, place->fence.fence_id), place);
	}
	assert_in_range(most_in_bucket(&pending->by_timeline), 1, MAX_IN_BUCKET);
	assert_in_range(most_in_bucket(&pending->by_id), 1, MAX_IN_BUCKET);
	assert_in_range(most_in_bucket(&pending->by_number), 1, MAX_IN_BUCKET);
	free(pending);
}

static struct guest_fence far_apart(uint32_t i)
{
	return (struct guest_fence){ .id = (uint64_t)i * KEY_TABLE_BUCKETS, .ctx_id = 1 };
}

static struct guest_fence on_a_ring_of_its_own(uint32_t i)
{
	return (struct guest_fence){
		.id = 1, .ctx_id = 1 + i / 64, .has_ring = true, .ring = i % 64
	};
}

static struct guest_fence same(uint32_t i)
{
	(void)i;
	return (struct guest_fence){ 0 };
}

TEST(fences_far_apart_fill_no_bucket)
{
	check_fences(far_apart);
}

TEST(fences_of_one_id_fill_no_bucket)
{
	check_fences(on_a_ring_of_its_own);
}

TEST(fences_that_are_all_the_same_fill_no_bucket)
{
	check_fences(same);
}

/* ---- Jobs of the software GPU --------------------------------------------------------------- */

#define NUM_JOBS 4096

static struct schedule *start_schedule(void)
{
	struct schedule *schedule = calloc(1, sizeof(*schedule));

	assert_non_null(schedule);
	schedule_init(schedule, -1, false); /* no descriptor is watched here */
	return schedule;
}

static void stop_schedule(struct schedule *schedule)
{
	schedule_drop(schedule, NULL, 2);
	while (!LIST_EMPTY(&schedule->contexts)) {
		schedule_close_context(schedule, LIST_FIRST(&schedule->contexts));
	}
	schedule_finish(schedule);
	free(schedule);
}

/* Returns how many in-fences the new job waits for. */
static uint32_t add_job(struct schedule *schedule, struct gpu_context *context, uint64_t id,
	const struct vgf_in_fence *in_fences, uint32_t num_in_fences)
{
	const struct vgf_job from = {
		.fence = { .fence_id = id, .ctx_id = 1 },
		.flags = VGF_FENCED,
		.in_fences = in_fences,
		.num_in_fences = num_in_fences,
	};
	struct gpu_job *job = gpu_job_create(&from);

	assert_non_null(job);
	job->busy_ns = 1;
	assert_int_equal(schedule_submit(schedule, context, job, &from, 1), 0);
	return job->pending;
}

TEST(jobs_far_apart_fill_no_bucket)
{
	struct schedule *schedule = start_schedule();
	struct gpu_context *context = schedule_create_context(schedule, 1);

	for (uint64_t i = 0; i < NUM_JOBS; i++) {
		add_job(schedule, context, i * NUM_JOB_BUCKETS, NULL, 0);
	}
	for (size_t i = 0; i < NUM_JOB_BUCKETS; i++) {
		const struct gpu_job *job;
		unsigned int count = 0;

		LIST_FOREACH(job, &schedule->jobs_by_id[i], by_id) {
			count++;
		}
		assert_in_range(count, 0, MAX_IN_BUCKET);
	}
	stop_schedule(schedule);
}

/* The next ID that is in the first bucket, or not. */
static uint64_t next_id(const struct schedule *schedule, uint64_t id, bool in_first)
{
	do {
		id++;
	} while ((hash(&schedule->key, id) % NUM_JOB_BUCKETS == 0) != in_first);
	return id;
}

/* Beyond, a job is waited for by its descriptor, which has signalled here. */
TEST(a_job_is_looked_for_among_16_others)
{
	struct schedule *schedule = start_schedule();
	struct gpu_context *context = schedule_create_context(schedule, 1);
	uint64_t id = next_id(schedule, 0, true);
	struct vgf_in_fence first = { .fence_id = id, .fd = eventfd(1, 0) };

	assert_true(first.fd >= 0);
	for (unsigned int i = 0; i < MAX_STEPS_IN_BUCKET; i++) {
		add_job(schedule, context, id, NULL, 0);
		id = next_id(schedule, id, true);
	}
	assert_int_equal(add_job(schedule, context, next_id(schedule, 0, false), &first, 1), 1);
	add_job(schedule, context, id, NULL, 0);
	assert_int_equal(add_job(schedule, context, next_id(schedule, id, false), &first, 1), 0);
	stop_schedule(schedule);
	close(first.fd);
}
