/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "ctx_sync.h"

/* The look-up stays flat up to the second. */
#define MIN_BUCKETS 64
#define MAX_BUCKETS 65536

/* ---- Queues ------------------------------------------------------------------------------- */

static struct queue_list *queue_state_list(struct ctx_sync *sync, const struct queue *queue)
{
	switch (queue->state) {
	case QUEUE_RUNNABLE:
		return &sync->runnable;
	case QUEUE_STARVED:
		return &sync->starved;
	case QUEUE_URGENT:
		return &sync->urgent;
	case QUEUE_IDLE:
		break;
	}
	return NULL;
}

void queue_sleep(struct ctx_sync *sync, struct queue *queue)
{
	if (queue->state != QUEUE_IDLE) {
		TAILQ_REMOVE(queue_state_list(sync, queue), queue, link);
		queue->state = QUEUE_IDLE;
	}
}

static void queue_move(struct ctx_sync *sync, struct queue *queue, enum queue_state state)
{
	if (queue->state != state) {
		queue_sleep(sync, queue);
		queue->state = state;
		TAILQ_INSERT_TAIL(queue_state_list(sync, queue), queue, link);
	}
}

void queue_wake(struct ctx_sync *sync, struct queue *queue)
{
	/* Who runs it looks for more when it is done. */
	if (!queue->running) {
		queue_move(sync, queue, QUEUE_RUNNABLE);
	}
}

static struct queue *queue_of(const struct submission *submission)
{
	const struct context *context = submission->context;
	int32_t ring = submission->name.ring;

	/* Work that names no ring runs on ring 0, as on a device without context types. */
	if (submission->kind != SUBMISSION_WORK || !submission->driver->driver.independent_rings ||
		ring == VGF_RING_GLOBAL) {
		ring = 0;
	}
	return &context->rings[ring]->queue;
}

void queue_run_begin(struct ctx_sync *sync, struct queue *queue)
{
	queue_sleep(sync, queue);
	queue->running = true;
	queue->runner = pthread_self();
	LIST_INSERT_HEAD(&sync->running, queue, running_link);
	sync->num_running++;
}

void queue_run_end(struct ctx_sync *sync, struct queue *queue)
{
	queue->running = false;
	LIST_REMOVE(queue, running_link);
	sync->num_running--;
}

/*
 * The descriptors in use are closed when their fences retire, and these may be behind one whose
 * work waits for a descriptor. So the last one is for fences that are the oldest of their
 * timelines: who has it runs, signals, and retires.
 */
bool ctx_sync_has_room(const struct ctx_sync *sync, uint32_t count, bool oldest)
{
	uint64_t needed = (uint64_t)sync->fences->fds + sync->num_running + count;

	return needed + (oldest ? 0 : 1) <= sync->limits->max_fds;
}

struct queue *ctx_sync_next_starved(const struct ctx_sync *sync)
{
	struct queue *queue = NULL;

	if (ctx_sync_has_room(sync, 1, true)) {
		queue = TAILQ_FIRST(&sync->urgent);
	}
	if (!queue && ctx_sync_has_room(sync, 1, false)) {
		queue = TAILQ_FIRST(&sync->starved);
	}
	return queue;
}

/* Whether a submission may have a descriptor now. Without a fence it keeps none. */
static bool may_run(
	const struct ctx_sync *sync, const struct queue *queue, const struct submission *submission)
{
	const struct fence *fence = submission->fence;
	bool first = queue->turn || TAILQ_EMPTY(&sync->urgent);

	if (submission->kind != SUBMISSION_WORK || submission->status < 0 || !fence) {
		return true;
	}
	if (!fence_is_oldest(fence)) {
		first = queue->turn || (first && TAILQ_EMPTY(&sync->starved));
	}
	return first && ctx_sync_has_room(sync, 1, fence_is_oldest(fence));
}

struct submission *queue_next(struct ctx_sync *sync, struct queue *queue)
{
	struct submission *submission = STAILQ_FIRST(&queue->submissions);
	bool ready = submission && submission_ready(submission);

	if (ready && !may_run(sync, queue, submission)) {
		queue_move(sync, queue,
			fence_is_oldest(submission->fence) ? QUEUE_URGENT : QUEUE_STARVED);
		ready = false;
	}
	queue->turn = false;
	return ready ? submission : NULL;
}

/* ---- Contexts ----------------------------------------------------------------------------- */

/* Nothing is left of it: a fence keeps its work, and a queue is empty when destroy is called. */
static void check_ended(struct context_driver *driver)
{
	struct ctx_sync *sync = driver->context->sync;

	if (driver->destroyed && driver->owner.pending == 0) {
		STAILQ_INSERT_TAIL(&sync->ended, driver, ended_link);
		sync->stats->contexts--;
	}
}

static void release(struct fence_owner *owner)
{
	check_ended(
		(struct context_driver *)((char *)owner - offsetof(struct context_driver, owner)));
}

void context_driver_destroyed(struct context_driver *driver)
{
	driver->destroyed = true;
	check_ended(driver);
}

static void notify(struct waiter *waiter, enum waiter_event event)
{
	struct submission *submission = waiter->submission;
	struct queue *queue = queue_of(submission);

	switch (event) {
	case WAITER_FILE:
		submission->bare--;
		break;
	case WAITER_NO_FILE:
		submission->bare++;
		return;
	case WAITER_RETIRED:
		submission->bare--;
		submission->pending--;
		break;
	}
	if (STAILQ_FIRST(&queue->submissions) == submission && submission_ready(submission)) {
		queue_wake(submission->context->sync, queue);
	}
}

static void come_forward(struct submission *submission)
{
	struct queue *queue = queue_of(submission);

	if (queue->state == QUEUE_STARVED && STAILQ_FIRST(&queue->submissions) == submission) {
		queue_move(submission->context->sync, queue, QUEUE_URGENT);
	}
}

/* As many as there can be contexts, within reason: then a chain has one or two on average. */
static size_t count_buckets(uint32_t max_contexts)
{
	size_t count = MIN_BUCKETS;

	while (count < max_contexts && count < MAX_BUCKETS) {
		count *= 2;
	}
	return count;
}

int ctx_sync_init(struct ctx_sync *sync, struct fence_table *fences,
	const struct vgf_limits *limits, struct vgf_stats *stats)
{
	size_t count = count_buckets(limits->max_contexts);

	*sync = (struct ctx_sync){ .fences = fences, .limits = limits, .stats = stats };
	sync->buckets = calloc(count, sizeof(struct context *));
	if (!sync->buckets) {
		return -ENOMEM;
	}
	sync->mask = count - 1;
	hash_key_init(&sync->key);
	LIST_INIT(&sync->all);
	STAILQ_INIT(&sync->ended);
	TAILQ_INIT(&sync->runnable);
	TAILQ_INIT(&sync->starved);
	TAILQ_INIT(&sync->urgent);
	LIST_INIT(&sync->running);
	STAILQ_INIT(&sync->garbage);
	timeline_init(&sync->global, 0, VGF_RING_GLOBAL);
	fences->notify = notify;
	fences->come_forward = come_forward;
	fences->release = release;
	return 0;
}

void ctx_sync_finish(struct ctx_sync *sync)
{
	assert(LIST_EMPTY(&sync->all));
	free(sync->buckets);
}

/* Where the context with this ID is, or NULL is instead. */
static struct context **context_place(const struct ctx_sync *sync, uint32_t ctx_id)
{
	struct context **place = &sync->buckets[hash(&sync->key, ctx_id) & sync->mask];

	while (*place && (*place)->id != ctx_id) {
		place = &(*place)->hash_next;
	}
	return place;
}

struct context *context_find(struct ctx_sync *sync, uint32_t ctx_id)
{
	return *context_place(sync, ctx_id);
}

struct context *context_find_open(struct ctx_sync *sync, uint32_t ctx_id)
{
	struct context *context = context_find(sync, ctx_id);

	return context && context->current ? context : NULL;
}

struct ring *context_ring(struct context *context, int32_t index)
{
	struct ring **place = &context->rings[index == VGF_RING_GLOBAL ? 0 : index];

	if (!*place) {
		struct ring *ring = calloc(1, sizeof(*ring));
		if (!ring) {
			return NULL;
		}
		timeline_init(&ring->timeline, context->id, index);
		ring->queue.context = context;
		STAILQ_INIT(&ring->queue.submissions);
		*place = ring;
	}
	return *place;
}

static struct context *context_new(struct ctx_sync *sync, uint32_t ctx_id)
{
	struct context *context = calloc(1, sizeof(*context));

	if (!context) {
		return NULL;
	}
	context->sync = sync;
	context->id = ctx_id;
	STAILQ_INIT(&context->backlog);
	if (!context_ring(context, 0)) {
		free(context);
		return NULL;
	}
	*context_place(sync, ctx_id) = context;
	LIST_INSERT_HEAD(&sync->all, context, link);
	return context;
}

int context_open(
	struct ctx_sync *sync, uint32_t ctx_id, const struct vgf_driver *driver, void *data)
{
	struct context *context = context_find(sync, ctx_id);
	struct context_driver *opened;

	if (context && context->current) {
		return -EEXIST;
	}
	/* Counts those that are destroyed but still have work or fences, too. */
	if (sync->stats->contexts >= sync->limits->max_contexts) {
		return -ENOSPC;
	}
	opened = calloc(1, sizeof(*opened));
	if (!opened) {
		return -ENOMEM;
	}
	if (!context) {
		context = context_new(sync, ctx_id);
	}
	if (!context) {
		free(opened);
		return -ENOMEM;
	}
	opened->driver = *driver;
	opened->data = data;
	opened->context = context;
	context->current = opened;
	context->num_drivers++;
	sync->stats->contexts++;
	return 0;
}

struct queue *context_close(struct ctx_sync *sync, struct context *context)
{
	struct context_driver *closed = context->current;

	context->current = NULL;
	closed->destroy = (struct submission){
		.kind = SUBMISSION_DESTROY,
		.context = context,
		.driver = closed,
		.name = { .ctx_id = context->id },
		.unused_fd = -1,
	};
	return submission_enqueue(sync, context, &closed->destroy);
}

/* Off all lists; it is freed with the last of its drivers. */
static void context_remove(struct ctx_sync *sync, struct context *context)
{
	*context_place(sync, context->id) = context->hash_next;
	LIST_REMOVE(context, link);
	for (size_t i = 0; i < VGF_MAX_RINGS; i++) {
		if (context->rings[i]) {
			queue_sleep(sync, &context->rings[i]->queue);
		}
	}
}

void contexts_reap(struct ctx_sync *sync, struct context_driver_list *garbage)
{
	struct context_driver *driver;

	STAILQ_FOREACH(driver, &sync->ended, ended_link) {
		driver->last = --driver->context->num_drivers == 0;
		if (driver->last) {
			context_remove(sync, driver->context);
		}
	}
	STAILQ_CONCAT(garbage, &sync->ended);
}

static void context_free(struct context *context)
{
	for (size_t i = 0; i < VGF_MAX_RINGS; i++) {
		free(context->rings[i]);
	}
	free(context);
}

void context_free_list(struct context_driver_list *garbage)
{
	struct context_driver *driver;

	while ((driver = STAILQ_FIRST(garbage))) {
		STAILQ_REMOVE_HEAD(garbage, ended_link);
		if (driver->last) {
			context_free(driver->context);
		}
		free(driver);
	}
}

/* ---- Order within a context --------------------------------------------------------------- */

static bool is_barrier(const struct submission *submission)
{
	return submission->kind != SUBMISSION_WORK;
}

static struct queue *admit(struct context *context, struct submission *submission)
{
	struct queue *queue = queue_of(submission);

	assert(!context->barrier && (!is_barrier(submission) || context->active == 0));
	context->active++;
	context->barrier = is_barrier(submission);
	STAILQ_INSERT_TAIL(&queue->submissions, submission, link);
	return STAILQ_FIRST(&queue->submissions) == submission ? queue : NULL;
}

bool submission_can_run(
	struct ctx_sync *sync, struct context *context, const struct submission *submission)
{
	const struct queue *queue = queue_of(submission);

	return !context->barrier && STAILQ_EMPTY(&context->backlog) &&
		STAILQ_EMPTY(&queue->submissions) && submission_ready(submission) &&
		may_run(sync, queue, submission);
}

struct queue *submission_enqueue(
	struct ctx_sync *sync, struct context *context, struct submission *submission)
{
	submission->driver->num_barriers += submission->kind == SUBMISSION_CALL;
	if (submission->kind == SUBMISSION_WORK) {
		sync->stats->submitted++;
	}
	if (context->barrier || !STAILQ_EMPTY(&context->backlog) ||
		(is_barrier(submission) && context->active > 0)) {
		STAILQ_INSERT_TAIL(&context->backlog, submission, link);
		return NULL;
	}
	return admit(context, submission);
}

void queue_done(struct ctx_sync *sync, struct queue *queue, struct submission *submission)
{
	struct context *context = queue->context;

	assert(STAILQ_FIRST(&queue->submissions) == submission);
	submission_hold_end(sync, submission);
	STAILQ_REMOVE_HEAD(&queue->submissions, link);
	context->active--;
	submission->driver->num_barriers -= submission->kind == SUBMISSION_CALL;
	if (is_barrier(submission)) {
		context->barrier = false;
	}

	while ((submission = STAILQ_FIRST(&context->backlog)) && !context->barrier &&
		(!is_barrier(submission) || context->active == 0)) {
		struct queue *next;
		STAILQ_REMOVE_HEAD(&context->backlog, link);
		next = admit(context, submission);
		if (next && submission_ready(submission)) {
			queue_wake(sync, next);
		}
	}
}

static bool is_running(const struct queue *queue, const struct submission *submission)
{
	return queue->running && STAILQ_FIRST(&queue->submissions) == submission;
}

int submission_drop(struct ctx_sync *sync, struct submission *submission, int status)
{
	struct queue *queue = queue_of(submission);

	if (is_running(queue, submission)) {
		return -EBUSY;
	}
	submission->status = status;
	submission_stop_waiting(submission);
	if (STAILQ_FIRST(&queue->submissions) == submission) {
		queue_wake(sync, queue);
	}
	return 0;
}

static void cancel_list(struct ctx_sync *sync, struct submission_list *list, bool all)
{
	struct submission *submission;

	STAILQ_FOREACH(submission, list, link) {
		if (submission->kind == SUBMISSION_DESTROY && !all) {
			continue;
		}
		if (submission_drop(sync, submission, -ECANCELED) == -EBUSY) {
			/* Too late, unless its driver wants it held back once more. */
			submission->status = -ECANCELED;
		}
	}
}

void context_cancel(struct ctx_sync *sync, struct context *context, bool all)
{
	for (size_t i = 0; i < VGF_MAX_RINGS; i++) {
		if (context->rings[i]) {
			cancel_list(sync, &context->rings[i]->queue.submissions, all);
		}
	}
	cancel_list(sync, &context->backlog, all);
}
