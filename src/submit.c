/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* A submission from a VMM: checked, resolved, and run or held back. */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "error_name.h"
#include "export.h"
#include "lock.h"
#include "log.h"
#include "place.h"
#include "run.h"
#include "struct_copy.h"

/* A later version's, in which that may change what the rest means. */
static int check_head(struct vgf_device *device, const struct vgf_submission *head)
{
	const struct vgf_limits *limits = &device->options.limits;

	if (head->num_in_fences > limits->max_in_fences ||
		head->num_in_fence_fds > limits->max_in_fences - head->num_in_fences ||
		head->size > limits->max_command_size) {
		return -E2BIG;
	}
	return 0;
}

static void log_in_fence(struct vgf_device *device, const struct vgf_submission *head, uint64_t id,
	uint32_t ignored, int error)
{
	char text[NAME_SIZE];

	if (ignored > 0) {
		device_log(device, VGF_LOG_WARNING,
			"%s: %" PRIu32 " in-fences ignored, the last is %" PRIu64,
			name_text(text, &head->fence), ignored, id);
	} else {
		device_log(device, VGF_LOG_WARNING, "%s: refused: in-fence %" PRIu64 " (%s)",
			name_text(text, &head->fence), id, error_name(error));
	}
}

/* Whether there is room for its copies of in_fence_fds: for descriptors, and for fences beside the
 * out-fence, which is not there yet. */
static int check_copies(struct vgf_device *device, const struct submission *submission)
{
	const struct fence_owner *owner = &submission->driver->owner;
	uint32_t count = submission->num_imported;

	if (count == 0) {
		return 0;
	}
	if (!ctx_sync_has_room(&device->contexts, owner, count, false)) {
		return -EMFILE;
	}
	count += submission->flags & VGF_FENCED ? 1 : 0;
	return place_has_room(device, owner, count) ? 0 : -ENOSPC;
}

static int resolve(struct vgf_device *device, struct context *context,
	struct submission *submission, const struct vgf_submission *head)
{
	struct ctx_sync *contexts = &device->contexts;
	struct in_fence_search search;
	int ret;

	submission->context = context;
	submission->driver = context->current;
	ret = submission_look_up(
		contexts, submission, head, device->options.ignore_bad_in_fences, &search);
	if (ret < 0 || search.ignored > 0) {
		log_in_fence(device, head, search.bad, search.ignored, ret);
	}
	if (ret == 0) {
		ret = check_copies(device, submission);
		if (ret < 0) {
			log_refused(device, &head->fence, "copies of its in-fences", ret);
		}
	}
	if (ret == 0) {
		uint64_t now = submission->num_imported > 0 ? now_ns() : 0;

		submission_link(contexts, submission, search.found, now);
	}
	return ret;
}

/* What was accepted; its waiting ends later. */
static void trace_accepted(
	const struct vgf_device *device, const struct submission *submission, bool run_now)
{
	const struct tracer *tracer = &device->fences.tracer;
	const struct vgf_fence_name *name = &submission->name;

	trace_accept(tracer, name, submission->flags);
	for (uint32_t i = 0; trace_is_on(tracer) && i < submission->num_waiters; i++) {
		const struct vgf_fence_name in_fence = fence_name(submission->waiters[i].fence);
		trace_wait(tracer, name, submission->flags, &in_fence);
	}
	if (!run_now) {
		trace_hold(tracer, name, submission->flags);
	}
}

/* Locked. Owns submission and fence, either of which may be NULL; `ret` is an error that was found
 * before, or 0. */
static int submit(struct vgf_device *device, const struct vgf_submission *head,
	struct submission *submission, struct fence *fence, int ret, bool *will_retire)
{
	struct place place;
	bool run_now = false;
	int error = place_find(device, &head->fence, &place);

	if (error == 0 && (head->flags & VGF_FENCED)) {
		error = fence ? place_check(device, &place, head->fence.fence_id) : -ENOMEM;
	}
	if (error < 0) {
		if (fence) {
			fence_discard(&device->fences, fence);
			fence = NULL;
		}
		ret = error;
	}
	if (ret == 0 && !place.context) {
		ret = -ENOENT;
	}
	if (ret < 0) {
		log_refused(device, &head->fence, "cannot be submitted", ret);
	} else {
		ret = resolve(device, place.context, submission, head);
	}
	/* After resolving, so that nothing waits for itself. */
	if (fence) {
		place_put(device, &place, fence);
		*will_retire = true;
	}
	if (ret == 0) {
		submission->fence = fence;
		ret = run_prepare(device, submission, &run_now);
		if (ret < 0) {
			log_refused(device, &head->fence, "cannot be held back", ret);
		}
	}
	if (ret < 0) {
		device->stats.refused++;
		trace_refuse(&device->fences.tracer, &head->fence, head->flags, ret);
		if (submission) {
			submission_discard(&device->contexts, submission);
		}
		if (fence) {
			fence_signal(&device->fences, fence, ret);
		}
		return ret;
	}
	if (fence) {
		fence_ref(fence);
		fence->submission = submission;
	}
	device->stats.in_fences += submission->room;
	device->stats.in_fences_done += submission->room - submission->num_waiters;
	trace_accepted(device, submission, run_now);
	return run_start(device, submission, run_now);
}

/* Nobody runs it or frees it before that is done. */
static void finish_copy(struct vgf_device *device, struct submission *submission)
{
	device_unlock_unlogged(device);
	submission_copy(submission);
	device_lock(device);
	submission_copied(&device->contexts, submission);
	submission_wake(submission);
	pthread_cond_broadcast(&device->changed);
}

VGF_EXPORT int vgf_submit(
	struct vgf_device *device, const struct vgf_submission *submission, bool *will_retire)
{
	struct submission *created = NULL;
	struct fence *fence = NULL;
	bool ignored;
	int ret;

	will_retire = will_retire ? will_retire : &ignored;
	*will_retire = false;
	if (!is_zero(submission->reserved, sizeof(submission->reserved))) {
		return -EINVAL;
	}
	ret = check_head(device, submission);
	if (submission->flags & VGF_FENCED) {
		fence = fence_create(&submission->fence, submission->flags, submission->cookie);
	}
	if (fence) {
		fence->flags |= FENCE_WORK;
	}
	if (ret == 0) {
		ret = submission_create(submission, &created);
	}
	device_lock(device);
	ret = submit(device, submission, created, fence, ret, will_retire);
	if (ret == 1 && created->copying) {
		finish_copy(device, created);
	}
	device_unlock(device);
	return ret;
}
