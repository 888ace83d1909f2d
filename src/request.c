/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "device.h"

static void log_refused(
	struct vgf_device *device, const struct vgf_fence_name *name, const char *what, int error)
{
	char text[NAME_SIZE];

	device_log(device, VGF_LOG_WARNING, "%s: refused: %s (%s)", name_text(text, name), what,
		strerrorname_np(-error));
}

/* ---- Contexts ----------------------------------------------------------------------------- */

static struct context *find_open(struct vgf_device *device, uint32_t ctx_id)
{
	struct context *context = context_find(&device->contexts, ctx_id);

	return context && context->current ? context : NULL;
}

static void log_context(struct vgf_device *device, uint32_t ctx_id, const char *what, int error)
{
	if (error < 0) {
		device_log(device, VGF_LOG_WARNING, "context %" PRIu32 ": %s (%s)", ctx_id, what,
			strerrorname_np(-error));
	}
}

VGF_EXPORT int vgf_context_create(
	struct vgf_device *device, uint32_t ctx_id, const struct vgf_driver *driver, void *data)
{
	int ret = -ECANCELED;

	if (!driver || !driver->submit) {
		return -EINVAL;
	}
	device_lock(device);
	if (!device->resetting) {
		ret = context_open(&device->contexts, ctx_id, driver, data);
	}
	log_context(device, ctx_id, "not created", ret);
	device_unlock(device);
	return ret;
}

/* Runs a barrier in this thread if it is its turn. Returns 0 if it ran, 1 if that follows. */
static int run_barrier(struct vgf_device *device, struct queue *queue, struct submission *barrier)
{
	int result = 1;

	if (queue && !queue->running) {
		barrier->result = &result;
		run_queue(device, queue);
	}
	return result;
}

VGF_EXPORT int vgf_context_destroy(struct vgf_device *device, uint32_t ctx_id)
{
	struct context *context;
	int ret = -ENOENT;

	device_lock(device);
	context = find_open(device, ctx_id);
	if (context) {
		struct submission *barrier = &context->current->destroy;
		struct queue *queue = context_close(&device->contexts, context);
		ret = run_barrier(device, queue, barrier);
	}
	log_context(device, ctx_id, "not destroyed", ret);
	device_unlock(device);
	return ret;
}

VGF_EXPORT int vgf_context_cancel(struct vgf_device *device, uint32_t ctx_id)
{
	struct context *context;
	int ret = -ENOENT;

	device_lock(device);
	context = context_find(&device->contexts, ctx_id);
	if (context) {
		context_cancel(&device->contexts, context, false);
		ret = 0;
	}
	log_context(device, ctx_id, "not cancelled", ret);
	device_unlock(device);
	return ret;
}

VGF_EXPORT int vgf_context_defer(
	struct vgf_device *device, uint32_t ctx_id, void (*fn)(void *arg, int status), void *arg)
{
	struct submission *barrier = calloc(1, sizeof(*barrier));
	struct context *context;
	int ret;

	if (!barrier) {
		return -ENOMEM;
	}
	device_lock(device);
	context = find_open(device, ctx_id);
	if (!context) {
		ret = -ENOENT;
	} else if (context->num_barriers >= device->options.limits.max_context_fences) {
		ret = -ENOSPC;
	} else {
		*barrier = (struct submission){
			.kind = SUBMISSION_CALL,
			.context = context,
			.driver = context->current,
			.name = { .ctx_id = ctx_id },
			.fn = fn,
			.arg = arg,
		};
		ret = run_barrier(
			device, submission_enqueue(&device->contexts, context, barrier), barrier);
	}
	log_context(device, ctx_id, "nothing deferred", ret);
	device_unlock(device);
	if (ret < 0) {
		free(barrier);
	}
	return ret;
}

/* ---- A fence's place ---------------------------------------------------------------------- */

/* Where a fence goes: its timeline, and the context whose work it is, if there is one. */
struct place {
	struct context *context;
	struct timeline *timeline;
};

static bool is_ring(int32_t ring)
{
	return ring == VGF_RING_GLOBAL || (ring >= 0 && ring < VGF_MAX_RINGS);
}

/* Finds the place, whether or not a fence can go there now. 0, -ECANCELED, -EINVAL, -ENOENT,
 * -ENOMEM. */
static int find_place(
	struct vgf_device *device, const struct vgf_fence_name *name, struct place *place)
{
	struct ring *ring;

	if (device->resetting) {
		return -ECANCELED;
	}
	if (!is_ring(name->ring)) {
		return -EINVAL;
	}
	place->context = find_open(device, name->ctx_id);
	place->timeline = &device->contexts.global;
	if (name->ring == VGF_RING_GLOBAL) {
		return 0;
	}
	if (!place->context) {
		return -ENOENT;
	}
	ring = context_ring(place->context, name->ring);
	if (!ring) {
		return -ENOMEM;
	}
	place->timeline = &ring->timeline;
	return 0;
}

static int check_place(struct vgf_device *device, const struct place *place, uint64_t fence_id)
{
	const struct vgf_limits *limits = &device->options.limits;

	if (device->fences.kept >= limits->max_fences ||
		(place->context && place->context->owner.pending >= limits->max_context_fences)) {
		return -ENOSPC;
	}
	return fence_table_check(&device->fences, place->timeline, fence_id);
}

static void put_fence(struct vgf_device *device, const struct place *place, struct fence *fence)
{
	if (place->context) {
		fence->owner = &place->context->owner;
		fence->owner_serial = place->context->current->serial;
	}
	fence_table_add(&device->fences, place->timeline, fence, clock_ns());
	device->stats.created++;
}

/* ---- Submissions -------------------------------------------------------------------------- */

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
			name_text(text, &head->fence), id, strerrorname_np(-error));
	}
}

static int resolve(struct vgf_device *device, struct context *context,
	struct submission *submission, const struct vgf_submission *head)
{
	uint32_t ignored = 0;
	uint64_t bad = 0;
	int ret;

	submission->context = context;
	submission->driver = context->current;
	ret = submission_resolve(&device->contexts, submission, head,
		device->options.ignore_bad_in_fences, clock_ns(), &ignored, &bad);
	if (ret == -EMFILE) {
		log_refused(device, &head->fence, "copies of its in-fences", ret);
	} else if (ret < 0 || ignored > 0) {
		log_in_fence(device, head, bad, ignored, ret);
	}
	return ret;
}

/* Makes the submission fit to wait, if it has to. */
static int prepare(struct vgf_device *device, struct submission *submission, bool *run_now)
{
	int ret = 0;

	*run_now = submission_can_run(&device->contexts, submission->context, submission);
	if (!*run_now) {
		ret = submission_hold(&device->contexts, submission->context, submission);
		if (ret < 0) {
			log_refused(device, &submission->name, "cannot be held back", ret);
		}
	}
	return ret;
}

/* Cannot fail. Returns as vgf_submit. */
static int enqueue(struct vgf_device *device, struct submission *submission, bool run_now)
{
	struct context *context = submission->context;
	struct queue *queue;
	int result = 1;

	queue = submission_enqueue(&device->contexts, context, submission);
	if (run_now) {
		submission->result = &result;
		run_queue(device, queue);
	} else if (queue && submission_ready(submission)) {
		queue_wake(&device->contexts, queue);
	}
	return result;
}

/* Locked. Owns submission and fence, either of which may be NULL; `ret` is an error that was found
 * before, or 0. */
static int submit(struct vgf_device *device, const struct vgf_submission *head,
	struct submission *submission, struct fence *fence, int ret, bool *will_retire)
{
	struct place place;
	bool run_now = false;
	int error = find_place(device, &head->fence, &place);

	if (error == 0 && (head->flags & VGF_FENCED)) {
		error = fence ? check_place(device, &place, head->fence.fence_id) : -ENOMEM;
	}
	if (error < 0) {
		free(fence);
		fence = NULL;
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
		put_fence(device, &place, fence);
		*will_retire = true;
	}
	if (ret == 0) {
		submission->fence = fence;
		ret = prepare(device, submission, &run_now);
	}
	if (ret < 0) {
		device->stats.refused++;
		submission_free(submission);
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
	return enqueue(device, submission, run_now);
}

VGF_EXPORT int vgf_submit(
	struct vgf_device *device, const struct vgf_submission *submission, bool *will_retire)
{
	struct submission *created = NULL;
	struct fence *fence = NULL;
	bool ignored;
	int ret = check_head(device, submission);

	will_retire = will_retire ? will_retire : &ignored;
	*will_retire = false;
	if (submission->flags & VGF_FENCED) {
		fence = fence_create(&submission->fence, submission->flags);
	}
	if (ret == 0) {
		ret = submission_create(submission, &created);
	}
	device_lock(device);
	ret = submit(device, submission, created, fence, ret, will_retire);
	device_unlock(device);
	return ret;
}

/* ---- Fences ------------------------------------------------------------------------------- */

/* What epoll says of a descriptor, without waiting for the fence's turn to be watched. */
static int check_pollable(struct vgf_device *device, int fence_fd)
{
	struct epoll_event event = { 0 };

	if (epoll_ctl(device->epoll_fd, EPOLL_CTL_ADD, fence_fd, &event) < 0) {
		/* Another fence's copy is watched; or the kernel is short of memory, which passes.
		 */
		return errno == EEXIST || errno == ENOMEM || errno == ENOSPC ? 0 : -errno;
	}
	epoll_ctl(device->epoll_fd, EPOLL_CTL_DEL, fence_fd, NULL);
	return 0;
}

/* A descriptor that turned out not to be one is not ours to close. */
static void close_refused(int fence_fd, int error)
{
	if (fence_fd >= 0 && error != -EBADF) {
		close(fence_fd);
	}
}

/* Owns fence_fd. status: a negative errno value for a fence of a failed request. */
static int create_fence(struct vgf_device *device, const struct vgf_fence_name *name,
	uint32_t flags, int fence_fd, int status)
{
	struct fence *fence = fence_create(name, flags | VGF_FENCED);
	struct place place;
	int ret;

	device_lock(device);
	ret = fence ? 0 : -ENOMEM;
	if (ret == 0 && fence_fd >= 0) {
		ret = check_pollable(device, fence_fd);
	}
	if (ret == 0) {
		ret = find_place(device, name, &place);
	}
	if (ret == 0) {
		ret = check_place(device, &place, name->fence_id);
	}
	if (ret == 0 && fence_fd >= 0 &&
		!ctx_sync_has_room(&device->contexts, 1, STAILQ_EMPTY(&place.timeline->fences))) {
		ret = -EMFILE;
	}
	if (ret == 0) {
		put_fence(device, &place, fence);
		if (fence_fd >= 0) {
			fence_publish(&device->fences, fence, fence_fd);
		} else if (fence_fd == VGF_FENCE_DONE) {
			fence_signal(&device->fences, fence, status);
		}
		device->stats.refused += status < 0;
	} else {
		log_refused(device, name, "cannot be placed", ret);
	}
	device_unlock(device);
	if (ret < 0) {
		free(fence);
		close_refused(fence_fd, ret);
	}
	return ret;
}

VGF_EXPORT int vgf_fence_create_take(
	struct vgf_device *device, const struct vgf_fence_name *name, uint32_t flags, int fence_fd)
{
	if (fence_fd < VGF_FENCE_DONE) {
		return -EINVAL;
	}
	return create_fence(device, name, flags, fence_fd, 0);
}

VGF_EXPORT int vgf_fence_refuse(
	struct vgf_device *device, const struct vgf_fence_name *name, uint32_t flags, int error)
{
	if (error >= 0) {
		return -EINVAL;
	}
	return create_fence(device, name, flags, VGF_FENCE_DONE, error);
}

/* 0, -ENOENT, -EALREADY. */
static int find_pending(
	struct vgf_device *device, const struct vgf_fence_name *name, struct fence **fence)
{
	*fence = is_ring(name->ring) ? fence_table_find(&device->fences, name) : NULL;
	if (!*fence) {
		return -ENOENT;
	}
	return (*fence)->flags & FENCE_SIGNALLED ? -EALREADY : 0;
}

VGF_EXPORT int vgf_fence_signal(
	struct vgf_device *device, const struct vgf_fence_name *name, int status)
{
	struct fence *fence;
	int ret;

	if (status > 0) {
		return -EINVAL;
	}
	device_lock(device);
	ret = find_pending(device, name, &fence);
	if (ret == 0) {
		fence_signal(&device->fences, fence, status);
	}
	device_unlock(device);
	return ret;
}

VGF_EXPORT int vgf_fence_publish_take(
	struct vgf_device *device, const struct vgf_fence_name *name, int fence_fd)
{
	struct fence *fence;
	int ret;

	device_lock(device);
	ret = check_pollable(device, fence_fd);
	if (ret == 0) {
		ret = find_pending(device, name, &fence);
	}
	if (ret == 0 && fence->fd >= 0) {
		ret = -EEXIST;
	}
	if (ret == 0 && !ctx_sync_has_room(&device->contexts, 1, fence_is_oldest(fence))) {
		ret = -EMFILE;
	}
	if (ret == 0) {
		fence_publish(&device->fences, fence, fence_fd);
		attach_all(device, fence);
	} else {
		log_refused(device, name, "its descriptor", ret);
	}
	device_unlock(device);
	if (ret < 0) {
		close_refused(fence_fd, ret);
	}
	return ret;
}

VGF_EXPORT int vgf_fence_export(struct vgf_device *device, uint64_t fence_id)
{
	struct fence *fence;
	int ret;

	device_lock(device);
	ret = fence_table_look_up(&device->fences, fence_id, &fence);
	if (ret == 0 && (!fence || (fence->flags & FENCE_SIGNALLED))) {
		ret = -EALREADY;
	} else if (ret == 0 && fence->fd < 0) {
		ret = -EAGAIN;
	} else if (ret == 0) {
		ret = fcntl(fence->fd, F_DUPFD_CLOEXEC, 0);
		ret = ret < 0 ? -errno : ret;
	}
	device_unlock(device);
	return ret;
}

VGF_EXPORT int vgf_fence_cancel(
	struct vgf_device *device, const struct vgf_fence_name *name, int error)
{
	struct fence *fence;
	int ret;

	if (error >= 0) {
		return -EINVAL;
	}
	device_lock(device);
	ret = find_pending(device, name, &fence);
	if (ret == 0 && fence->submission) {
		ret = submission_drop(&device->contexts, fence->submission, error);
	}
	if (ret == 0) {
		fence_signal(&device->fences, fence, error);
	}
	device_unlock(device);
	return ret;
}
