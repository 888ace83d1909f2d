/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Giving up: on one submission, on what a context holds back or runs, on a timeline. */

#include <errno.h>

#include "ctx_sync.h"

int submission_drop(struct submission *submission, int status)
{
	struct queue *queue = submission_queue(submission);

	if (submission_is_running(submission)) {
		return -EBUSY;
	}
	submission->status = status;
	submission_stop_waiting(submission);
	if (STAILQ_FIRST(&queue->submissions) == submission) {
		queue_wake(queue);
	}
	return 0;
}

/* Too late for work that is being run, unless its driver wants it held back once more. What was
 * dropped before keeps the status that it was dropped with. */
static void drop(struct submission *submission, int status)
{
	if (submission->status < 0) {
		return;
	}
	if (submission_drop(submission, status) == -EBUSY) {
		submission->status = status;
	}
}

static bool is_meant(
	const struct context *context, const struct context_driver *driver, uint32_t flags)
{
	return flags & (driver == context->current ? VGF_CANCEL_OPEN : VGF_CANCEL_DESTROYED);
}

/* Its fence need not wait for its turn in the queue, which others may hold up. */
static void cancel_submission(struct ctx_sync *sync, struct submission *submission, int status)
{
	struct fence *fence = submission->fence;

	drop(submission, status);
	if (fence && !(fence->flags & FENCE_SIGNALLED) && !submission_is_running(submission)) {
		fence_signal(sync->fences, fence, status);
	}
}

static void cancel_list(
	struct ctx_sync *sync, struct submission_list *list, uint32_t flags, int status)
{
	struct submission *submission;

	STAILQ_FOREACH(submission, list, link) {
		if (is_meant(submission->context, submission->driver, flags) &&
			(submission->kind != SUBMISSION_DESTROY || (flags & CANCEL_DESTROYING))) {
			cancel_submission(sync, submission, status);
		}
	}
}

static void give_up(struct ctx_sync *sync, struct fence *fence, int status)
{
	if (fence->submission) {
		drop(fence->submission, status);
	}
	fence_signal(sync->fences, fence, status);
}

/* context: NULL for every one. */
static void cancel_running(struct ctx_sync *sync, const struct context *context,
	struct timeline *timeline, uint32_t flags, int status)
{
	struct fence *fence;

	STAILQ_FOREACH(fence, &timeline->fences, link) {
		const struct context_driver *driver = fence->owner ? owner_driver(fence->owner) :
								     NULL;
		if (driver && (!context || driver->context == context) &&
			is_meant(driver->context, driver, flags) &&
			!(fence->flags & FENCE_SIGNALLED)) {
			give_up(sync, fence, status);
		}
	}
}

/* All but what the context has on the global timeline. */
static void cancel_rings(struct ctx_sync *sync, struct context *context, uint32_t flags, int status)
{
	for (size_t i = 0; i < VGF_MAX_RINGS; i++) {
		struct ring *ring = context->rings[i];
		if (ring) {
			cancel_list(sync, &ring->queue.submissions, flags, status);
			if (flags & VGF_CANCEL_RUNNING) {
				cancel_running(sync, context, &ring->timeline, flags, status);
			}
		}
	}
	cancel_list(sync, &context->backlog, flags, status);
}

bool context_cancel(struct ctx_sync *sync, struct context *context, uint32_t flags, int status)
{
	bool is_open = context->current != NULL;
	bool is_left = context->num_drivers > is_open;

	cancel_rings(sync, context, flags, status);
	if (flags & VGF_CANCEL_RUNNING) {
		cancel_running(sync, context, &sync->global, flags, status);
	}
	return (is_open && (flags & VGF_CANCEL_OPEN)) ||
		(is_left && (flags & VGF_CANCEL_DESTROYED));
}

/* The global timeline, which may be long, is walked once. */
void contexts_cancel(struct ctx_sync *sync, uint32_t flags, int status)
{
	struct context *context;

	LIST_FOREACH(context, &sync->all, link) {
		cancel_rings(sync, context, flags, status);
	}
	if (flags & VGF_CANCEL_RUNNING) {
		cancel_running(sync, NULL, &sync->global, flags, status);
	}
}

int timeline_cancel(struct ctx_sync *sync, struct timeline *timeline, int status)
{
	struct fence *fence;
	int count = 0;

	STAILQ_FOREACH(fence, &timeline->fences, link) {
		if (!(fence->flags & FENCE_SIGNALLED)) {
			give_up(sync, fence, status);
			count++;
		}
	}
	return count;
}
