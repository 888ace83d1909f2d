/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a VMM and its drivers do to fences: made without a submission, signalled, handed on. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "attach.h"
#include "export.h"
#include "fence.h"
#include "lock.h"
#include "log.h"
#include "place.h"
#include "watch.h"

static void trace_created(
	struct vgf_device *device, const struct vgf_fence_name *name, uint32_t flags, int status)
{
	if (status < 0) {
		trace_refuse(&device->fences.tracer, name, flags | VGF_FENCED, status);
	} else {
		trace_accept(&device->fences.tracer, name, flags | VGF_FENCED);
	}
}

/* Owns fence_fd if it succeeds. status: a negative errno value for a fence of a failed request. */
static int create_fence(struct vgf_device *device, const struct vgf_fence_name *name,
	uint32_t flags, void *cookie, int fence_fd, int status)
{
	struct fence *fence = fence_create(name, flags | VGF_FENCED, cookie);
	struct place place;
	int ret;

	device_lock(device);
	ret = fence ? 0 : -ENOMEM;
	if (ret == 0 && fence_fd >= 0) {
		ret = watch_probe(device, fence_fd);
	}
	if (ret == 0) {
		ret = place_find(device, name, &place);
	}
	if (ret == 0) {
		ret = place_check(device, &place, name->fence_id);
	}
	if (ret == 0 && fence_fd >= 0 &&
		!ctx_sync_has_room(&device->contexts, place_owner(&place), 1,
			STAILQ_EMPTY(&place.timeline->fences))) {
		ret = -EMFILE;
	}
	if (ret == 0) {
		fence->flags |= fence_fd >= 0 ? FENCE_WORK : 0;
		place_put(device, &place, fence);
		trace_created(device, name, flags, status);
		if (fence_fd >= 0) {
			fence_publish(&device->fences, fence, fence_fd);
		} else if (fence_fd == VGF_FENCE_DONE) {
			fence_signal(&device->fences, fence, status);
		}
		device->stats.refused += status < 0;
	} else {
		trace_created(device, name, flags, ret);
		log_refused(device, name, "cannot be placed", ret);
	}
	device_unlock(device);
	if (ret < 0) {
		free(fence);
	}
	return ret;
}

VGF_EXPORT int vgf_fence_create_take(struct vgf_device *device, const struct vgf_fence_name *name,
	uint32_t flags, void *cookie, int fence_fd)
{
	if (fence_fd < VGF_FENCE_BY_CALL) {
		return -EINVAL;
	}
	return create_fence(device, name, flags, cookie, fence_fd, 0);
}

VGF_EXPORT int vgf_fence_refuse(struct vgf_device *device, const struct vgf_fence_name *name,
	uint32_t flags, void *cookie, int error)
{
	if (error >= 0) {
		return -EINVAL;
	}
	return create_fence(device, name, flags, cookie, VGF_FENCE_DONE, error);
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

int fence_signal_by_name(struct vgf_device *device, const struct vgf_fence_name *name, int status)
{
	struct fence *fence;
	int ret = find_pending(device, name, &fence);

	if (ret == 0) {
		fence_signal(&device->fences, fence, status);
	}
	return ret;
}

/* Locked. */
static int publish(struct vgf_device *device, const struct vgf_fence_name *name, int fence_fd)
{
	struct fence *fence;
	int ret = fence_fd == VGF_FENCE_DONE ? 0 : watch_probe(device, fence_fd);

	if (ret == 0) {
		ret = find_pending(device, name, &fence);
	}
	if (ret == 0 && fence->fd >= 0) {
		ret = -EEXIST;
	}
	if (ret == 0 && fence_fd == VGF_FENCE_DONE) {
		fence_signal(&device->fences, fence, 0);
		return 0;
	}
	if (ret == 0 &&
		!ctx_sync_has_room(&device->contexts, fence->owner, 1, fence_is_oldest(fence))) {
		ret = -EMFILE;
	}
	if (ret == 0) {
		fence_publish(&device->fences, fence, fence_fd);
		attach_all(device, fence);
	} else {
		log_refused(device, name, "its descriptor", ret);
	}
	return ret;
}

VGF_EXPORT int vgf_fence_publish_take(
	struct vgf_device *device, const struct vgf_fence_name *name, int fence_fd)
{
	int ret;

	device_lock(device);
	ret = publish(device, name, fence_fd);
	device_unlock(device);
	return ret;
}

VGF_EXPORT int vgf_fence_export(
	struct vgf_device *device, uint32_t ctx_id, uint64_t fence_id, int *fence_fd)
{
	struct fence *fence;
	int ret;

	*fence_fd = VGF_FENCE_DONE;
	device_lock(device);
	ret = place_look_up_work(device, ctx_id, fence_id, &fence);
	if (ret == 0 && fence && fence->fd < 0) {
		ret = -EAGAIN;
	} else if (ret == 0 && fence) {
		*fence_fd = fcntl(fence->fd, F_DUPFD_CLOEXEC, 0);
		ret = *fence_fd < 0 ? -errno : 0;
	}
	device_unlock(device);
	return ret;
}

/* Locked. Owns the notification if it returns 1. */
static int notify(struct vgf_device *device, uint32_t ctx_id, uint64_t fence_id,
	struct notification *notification)
{
	struct fence *fence;
	int ret = place_look_up(device, ctx_id, fence_id, &fence);

	if (ret < 0) {
		return ret;
	}
	if (!fence) {
		return 0;
	}
	if (device->num_notifications >= device->options.limits.max_fences) {
		return -ENOSPC;
	}
	device->num_notifications++;
	SLIST_INSERT_HEAD(&fence->notifications, notification, link);
	return 1;
}

VGF_EXPORT int vgf_fence_notify(struct vgf_device *device, uint32_t ctx_id, uint64_t fence_id,
	void (*fn)(void *arg, int status), void *arg)
{
	struct notification *notification = malloc(sizeof(*notification));
	int ret;

	if (!notification) {
		return -ENOMEM;
	}
	*notification = (struct notification){ .fn = fn, .arg = arg };
	device_lock(device);
	ret = notify(device, ctx_id, fence_id, notification);
	device_unlock(device);
	if (ret != 1) {
		free(notification);
	}
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
		ret = submission_drop(fence->submission, error);
	}
	if (ret == 0) {
		fence_signal(&device->fences, fence, error);
	}
	device_unlock(device);
	return ret;
}

VGF_EXPORT int vgf_timeline_cancel(
	struct vgf_device *device, uint32_t ctx_id, int32_t ring, int error)
{
	struct timeline *timeline;
	int ret = -ENOENT;

	if (error >= 0 || !is_ring(ring)) {
		return -EINVAL;
	}
	device_lock(device);
	timeline = place_timeline(device, ctx_id, ring);
	if (timeline) {
		ret = timeline_cancel(&device->contexts, timeline, error);
	}
	device_unlock(device);
	return ret;
}
