/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "ctx_sync.h"

/* The look-up stays flat up to the second. */
#define MIN_BUCKETS 64
#define MAX_BUCKETS 65536

/* What one context may hold back of the device's max_held and max_held_size. */
#define CONTEXT_HELD_SHARE 4

/* ---- Queues ------------------------------------------------------------------------------- */

void queue_sleep(struct queue *queue)
{
	struct context *context = queue->context;

	if (!queue->list) {
		return;
	}
	TAILQ_REMOVE(queue->list, queue, link);
	if (queue->list == &context->runnable && TAILQ_EMPTY(&context->runnable)) {
		TAILQ_REMOVE(&context->sync->runnable, context, runnable_link);
	}
	queue->list = NULL;
}

static void queue_move(struct queue *queue, struct queue_list *list)
{
	struct context *context = queue->context;

	if (queue->list == list) {
		return;
	}
	queue_sleep(queue);
	if (list == &context->runnable && TAILQ_EMPTY(list)) {
		TAILQ_INSERT_TAIL(&context->sync->runnable, context, runnable_link);
	}
	queue->list = list;
	TAILQ_INSERT_TAIL(list, queue, link);
}

void queue_wake(struct queue *queue)
{
	/* Who runs it looks for more when it is done. */
	if (!queue->running) {
		queue_move(queue, &queue->context->runnable);
	}
}

void queue_wake_if_ready(struct queue *queue)
{
	const struct submission *oldest = STAILQ_FIRST(&queue->submissions);

	if (oldest && submission_ready(oldest)) {
		/* What running it begins with. */
		__builtin_prefetch(oldest);
		__builtin_prefetch(oldest->fence);
		queue_wake(queue);
	}
}

bool ctx_sync_is_runnable(const struct ctx_sync *sync)
{
	return !TAILQ_EMPTY(&sync->runnable) || fd_share_next(&sync->fd_share);
}

struct queue *ctx_sync_next(struct ctx_sync *sync)
{
	struct queue *queue = fd_share_next(&sync->fd_share);
	struct context *context;

	if (queue) {
		fd_share_give_turn(&sync->fd_share, queue);
		queue_wake(queue);
	}
	context = TAILQ_FIRST(&sync->runnable);
	if (!context) {
		return NULL;
	}
	queue = TAILQ_FIRST(&context->runnable);
	queue_sleep(queue);
	if (!TAILQ_EMPTY(&context->runnable)) {
		TAILQ_REMOVE(&sync->runnable, context, runnable_link);
		TAILQ_INSERT_TAIL(&sync->runnable, context, runnable_link);
	}
	return queue;
}

struct queue *submission_queue(const struct submission *submission)
{
	const struct context *context = submission->context;
	int32_t ring = submission->name.ring;

	/* What names no ring runs on ring 0, as on a device without context types. */
	if (ring < 0 || !submission->driver->driver.independent_rings) {
		ring = 0;
	}
	return &context->rings[ring]->queue;
}

bool submission_is_running(const struct submission *submission)
{
	const struct queue *queue = submission_queue(submission);

	return queue->running && STAILQ_FIRST(&queue->submissions) == submission;
}

const struct submission *fence_held_work(const struct fence *fence)
{
	const struct submission *work = fence->submission;

	return work && !submission_is_running(work) ? work : NULL;
}

void submission_wake(struct submission *submission)
{
	struct queue *queue = submission_queue(submission);

	if (STAILQ_FIRST(&queue->submissions) == submission) {
		queue_wake_if_ready(queue);
	}
}

/* The driver whose call is the oldest in the queue, which is not empty. */
static struct context_driver *queue_driver(const struct queue *queue)
{
	return STAILQ_FIRST(&queue->submissions)->driver;
}

void queue_run_begin(struct ctx_sync *sync, struct queue *queue)
{
	queue_sleep(queue);
	queue->running = true;
	queue->runner = pthread_self();
	LIST_INSERT_HEAD(&sync->running, queue, running_link);
	sync->fd_share.running++;
	queue_driver(queue)->fd_share.running++;
}

/* A context has room for one more descriptor: who waited for that in it goes on. */
static void share_relieved(struct fd_share *share)
{
	struct queue *queue = fd_share_next(share);

	if (queue) {
		fd_share_give_turn(share, queue);
		queue_wake(queue);
	}
}

void queue_run_end(struct ctx_sync *sync, struct queue *queue)
{
	struct context_driver *driver = queue_driver(queue);

	queue->running = false;
	LIST_REMOVE(queue, running_link);
	sync->fd_share.running--;
	driver->fd_share.running--;
	share_relieved(&driver->fd_share);
}

bool ctx_sync_has_room(
	const struct ctx_sync *sync, const struct fence_owner *owner, uint32_t count, bool oldest)
{
	return fd_share_has_room(&sync->fd_share, count, oldest) &&
		(!owner || fd_share_has_room(&owner_driver(owner)->fd_share, count, oldest));
}

/* The share that has no descriptor for the submission, or NULL. */
static struct fd_share *refusing_share(struct ctx_sync *sync, const struct submission *submission,
	const struct fd_share *turn, bool oldest)
{
	struct fd_share *of_context = &submission->driver->fd_share;
	struct fd_share *of_device = &sync->fd_share;
	bool allowed;

	/* Who has its turn in the device is not in line once more: who has one in the context may
	 * be without one in the device, and the two would wait for each other. */
	allowed = turn == of_device ? fd_share_has_free(of_context, oldest) :
				      fd_share_allows(of_context, turn == of_context, oldest);
	if (!allowed) {
		return of_context;
	}
	return fd_share_allows(of_device, turn == of_device, oldest) ? NULL : of_device;
}

/* The share that a submission waits for before it may have a descriptor, or NULL. Without a fence
 * it keeps none. `turn`: where it has its turn. */
static struct fd_share *missing_share(
	struct ctx_sync *sync, const struct submission *submission, const struct fd_share *turn)
{
	const struct fence *fence = submission->fence;

	if (submission->kind != SUBMISSION_WORK || submission->status < 0 || !fence) {
		return NULL;
	}
	/* If any fence may have one, this one need not be looked at: it may be in no cache. */
	if (!refusing_share(sync, submission, turn, false)) {
		return NULL;
	}
	return refusing_share(sync, submission, turn, fence_is_oldest(fence));
}

struct submission *queue_next(struct ctx_sync *sync, struct queue *queue)
{
	struct submission *submission = STAILQ_FIRST(&queue->submissions);
	bool ready = submission && submission_ready(submission);
	struct fd_share *turn = fd_share_end_turn(queue);
	struct fd_share *missing = ready ? missing_share(sync, submission, turn) : NULL;

	if (missing) {
		queue_move(queue,
			fence_is_oldest(submission->fence) ? &missing->urgent : &missing->starved);
		ready = false;
	}
	if (turn && turn != &sync->fd_share && !ready) {
		share_relieved(turn); /* it made no use of it */
	}
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

static void relieve(struct fence_owner *owner)
{
	struct context_driver *driver = owner_driver(owner);

	share_relieved(&driver->fd_share);
}

static void release(struct fence_owner *owner)
{
	check_ended(owner_driver(owner));
}

void context_driver_destroyed(struct context_driver *driver)
{
	driver->destroyed = true;
	check_ended(driver);
}

static void notify(struct waiter *waiter, enum waiter_event event)
{
	struct submission *submission = waiter->submission;

	switch (event) {
	case WAITER_CHANGES:
		submission->bare -= submission_lacks(submission, waiter->fence);
		return;
	case WAITER_CHANGED:
		submission->bare += submission_lacks(submission, waiter->fence);
		break;
	case WAITER_SIGNALS:
		submission->bare += !submission_lacks(submission, waiter->fence);
		return;
	case WAITER_RETIRED:
		submission->bare--;
		submission->pending--;
		break;
	}
	/* With one that has no descriptor it cannot be ready: its queue is not looked for. */
	if (submission->bare == 0) {
		submission_wake(submission);
	}
}

/* Whether it was waiting there. */
static bool come_forward_in(struct fd_share *share, struct queue *queue)
{
	if (queue->list != &share->starved) {
		return false;
	}
	queue_move(queue, &share->urgent);
	return true;
}

static void come_forward(struct submission *submission)
{
	struct queue *queue = submission_queue(submission);

	if (STAILQ_FIRST(&queue->submissions) == submission) {
		struct ctx_sync *sync = submission->context->sync;

		come_forward_in(&sync->fd_share, queue);
		if (come_forward_in(&submission->driver->fd_share, queue)) {
			share_relieved(&submission->driver->fd_share);
		}
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

/* At least one, whatever the limit. */
static size_t share_of(size_t limit)
{
	return limit < CONTEXT_HELD_SHARE ? 1 : limit / CONTEXT_HELD_SHARE;
}

int ctx_sync_init(struct ctx_sync *sync, struct fence_table *fences,
	const struct vgf_limits *limits, struct vgf_stats *stats)
{
	size_t count = count_buckets(limits->max_contexts);

	*sync = (struct ctx_sync){ .fences = fences, .limits = limits, .stats = stats };
	fences->tracer.held = &stats->held;
	sync->buckets = calloc(count, sizeof(struct context *));
	if (!sync->buckets) {
		return -ENOMEM;
	}
	sync->mask = count - 1;
	sync->held_share = (uint32_t)share_of(limits->max_held);
	sync->held_size_share = share_of(limits->max_held_size);
	hash_key_init(&sync->key);
	LIST_INIT(&sync->all);
	STAILQ_INIT(&sync->ended);
	TAILQ_INIT(&sync->runnable);
	fd_share_init(&sync->fd_share, &fences->fds, limits->max_fds);
	LIST_INIT(&sync->running);
	STAILQ_INIT(&sync->garbage);
	timeline_init(&sync->global, 0, VGF_RING_GLOBAL);
	fences->notify = notify;
	fences->come_forward = come_forward;
	fences->relieve = relieve;
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
	TAILQ_INIT(&context->runnable);
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
	fd_share_init(&opened->fd_share, &opened->owner.fds, sync->limits->max_context_fds);
	context->current = opened;
	context->num_drivers++;
	sync->stats->contexts++;
	return 0;
}

struct submission *context_close(struct context *context)
{
	struct context_driver *closed = context->current;

	context->current = NULL;
	closed->destroy = (struct submission){
		.kind = SUBMISSION_DESTROY,
		.context = context,
		.driver = closed,
		.name = { .ctx_id = context->id, .ring = VGF_EVERY_RING },
		.unused_fd = -1,
	};
	return &closed->destroy;
}

/* Off all lists; it is freed with the last of its drivers. */
static void context_remove(struct ctx_sync *sync, struct context *context)
{
	*context_place(sync, context->id) = context->hash_next;
	LIST_REMOVE(context, link);
	for (size_t i = 0; i < VGF_MAX_RINGS; i++) {
		if (context->rings[i]) {
			queue_sleep(&context->rings[i]->queue);
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
	return submission->kind == SUBMISSION_DESTROY ||
		(submission->kind == SUBMISSION_CALL && submission->name.ring == VGF_EVERY_RING);
}

static struct queue *admit(struct context *context, struct submission *submission)
{
	struct queue *queue = submission_queue(submission);

	assert(!context->barrier && (!is_barrier(submission) || context->active == 0));
	context->active++;
	context->barrier = is_barrier(submission);
	STAILQ_INSERT_TAIL(&queue->submissions, submission, link);
	return STAILQ_FIRST(&queue->submissions) == submission ? queue : NULL;
}

bool submission_can_run(
	struct ctx_sync *sync, struct context *context, const struct submission *submission)
{
	const struct queue *queue = submission_queue(submission);

	if (context->barrier || !STAILQ_EMPTY(&context->backlog) ||
		!STAILQ_EMPTY(&queue->submissions) ||
		(is_barrier(submission) && context->active > 0)) {
		return false;
	}
	return submission_ready(submission) && !missing_share(sync, submission, NULL);
}

struct queue *submission_enqueue(
	struct ctx_sync *sync, struct context *context, struct submission *submission)
{
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
	if (is_barrier(submission)) {
		context->barrier = false;
	}

	while ((submission = STAILQ_FIRST(&context->backlog)) && !context->barrier &&
		(!is_barrier(submission) || context->active == 0)) {
		struct queue *next;
		STAILQ_REMOVE_HEAD(&context->backlog, link);
		next = admit(context, submission);
		if (next) {
			queue_wake_if_ready(next);
		}
	}
}
