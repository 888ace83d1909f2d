/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>

#include "lock.h"
#include "loop.h"
#include "run.h"
#include "watch.h"
#include "watchdog.h"

#define MAX_EVENTS 64

/* Callbacks may make new work that is done at once: without a bound a round might not end. */
#define MAX_PASSES 64

static void advance_timelines(struct vgf_device *device)
{
	uint64_t now_ns = clock_ns();
	struct timeline *timeline;

	do {
		while ((timeline = TAILQ_FIRST(&device->fences.ready))) {
			timeline_advance(&device->fences, timeline, now_ns);
		}
		watch_poll_oldest(device);
	} while (!TAILQ_EMPTY(&device->fences.ready));
}

static void run_queues(struct vgf_device *device)
{
	struct ctx_sync *contexts = &device->contexts;
	struct queue *queue;

	do {
		queue = TAILQ_FIRST(&contexts->runnable);
		if (!queue) {
			queue = fd_share_next(&contexts->fd_share);
			if (queue) {
				fd_share_give_turn(&contexts->fd_share, queue);
			}
		}
		if (queue) {
			run_queue(device, queue);
		}
	} while (queue);
}

static void call_back(const struct vgf_device *device, const struct fence *fence)
{
	const struct vgf_callbacks *callbacks = &device->callbacks;
	struct vgf_fence_name name = fence_name(fence);

	if (callbacks->retire) {
		callbacks->retire(device->cookie, &name, fence->status);
	} else if (name.ring == VGF_RING_GLOBAL) {
		callbacks->write_fence(device->cookie, (uint32_t)name.fence_id);
	} else {
		callbacks->write_context_fence(
			device->cookie, name.ctx_id, (uint32_t)name.ring, name.fence_id);
	}
}

/* The next fence of the batch answers for this one as well. */
static bool is_merged(const struct fence *fence)
{
	const struct fence *next = STAILQ_NEXT(fence, link);

	return (fence->flags & VGF_MERGEABLE) && fence->status == 0 && next &&
		next->timeline == fence->timeline;
}

static void count_retired(struct vgf_device *device, const struct fence *fence)
{
	device->stats.retired++;
	if (fence->status == -ECANCELED) {
		device->stats.cancelled++;
	} else if (fence->status < 0) {
		device->stats.failed++;
	}
}

/* A callback may enter the loop again. The inner round then goes on with the same list. */
static int deliver(struct vgf_device *device)
{
	struct fence_list done = STAILQ_HEAD_INITIALIZER(done);
	struct fence *fence;
	int count = 0;

	STAILQ_FOREACH(fence, &device->fences.retired, link) {
		if (!(fence->flags & FENCE_IMPORTED)) {
			count_retired(device, fence);
		}
		watch_remove(device, fence);
	}
	STAILQ_CONCAT(&device->retiring, &device->fences.retired);
	if (STAILQ_EMPTY(&device->retiring)) {
		return 0;
	}

	device_unlock(device);
	while ((fence = STAILQ_FIRST(&device->retiring))) {
		bool merged = is_merged(fence);
		STAILQ_REMOVE_HEAD(&device->retiring, link);
		STAILQ_INSERT_TAIL(&done, fence, link);
		if (fence->flags & FENCE_IMPORTED) {
			continue;
		}
		count++;
		device->unannounced++;
		if (!merged) {
			call_back(device, fence);
		}
	}
	device_lock(device);

	while ((fence = STAILQ_FIRST(&done))) {
		STAILQ_REMOVE_HEAD(&done, link);
		fence_unref(&device->fences, fence);
	}
	return count;
}

void loop_announce(struct vgf_device *device)
{
	if (device->unannounced > 0) {
		device->unannounced = 0;
		if (device->callbacks.retire_end) {
			device_unlock(device);
			device->callbacks.retire_end(device->cookie);
			device_lock(device);
		}
	}
}

static int process(struct vgf_device *device)
{
	int total = 0;

	for (int pass = 0; pass < MAX_PASSES; pass++) {
		if (device_has_work(device) || !STAILQ_EMPTY(&device->retiring)) {
			advance_timelines(device);
			run_queues(device);
			total += deliver(device);
			watchdog_check(device);
		} else if (device->unannounced > 0) {
			loop_announce(device);
		} else {
			return total;
		}
	}
	loop_announce(device);
	return total;
}

/* Fences that are signalled by call, as renderers do it, need no look at the epoll set. */
static bool was_only_kicked(const struct vgf_device *device)
{
	return device->kicked && device->fences.fds == 0 && clock_ns() < device->timer_ns;
}

/* Waits for events and takes note of them. 0 or -EINTR. */
static int take_events(struct vgf_device *device, int timeout_ms)
{
	struct epoll_event events[MAX_EVENTS];
	int count, ret;

	if (timeout_ms == 0 && was_only_kicked(device)) {
		watch_take_kick(device);
		return 0;
	}
	device->processing = false;
	device_unlock(device);
	count = epoll_wait(device->epoll_fd, events, MAX_EVENTS, timeout_ms);
	ret = count < 0 ? -errno : 0;
	device_lock(device);
	device->processing = true;

	for (int i = 0; i < count; i++) {
		watch_take_event(device, &events[i]);
	}
	return ret;
}

int loop_run(struct vgf_device *device, int timeout_ms)
{
	bool nested = device->processing;
	int ret;

	/* Inside a callback nobody has kicked for what is left to do. */
	if (device_has_work(device) || !STAILQ_EMPTY(&device->retiring)) {
		timeout_ms = 0;
	}
	ret = take_events(device, timeout_ms);
	device->processing = true;
	if (ret == 0) {
		ret = process(device);
	}
	device->processing = nested;
	return ret;
}
