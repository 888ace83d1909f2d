/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "error_name.h"
#include "log.h"
#include "sync_file.h"
#include "watch.h"

/* When the kernel had no memory to watch a descriptor. */
#define WATCH_AGAIN_NS 10000000

/* What an event's pointer points to: one of the device's own two descriptors, or else a fence. */
static int epoll_add(struct vgf_device *device, int *fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = fd };

	if (epoll_ctl(device->epoll_fd, EPOLL_CTL_ADD, *fd, &event) < 0) {
		/* A user has so many watches because each takes memory of the kernel's. */
		return errno == ENOSPC ? -ENOMEM : -errno;
	}
	return 0;
}

int watch_init(struct vgf_device *device)
{
	int ret;

	device->kick_fd = -1;
	device->timer_fd = -1;
	device->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (device->epoll_fd < 0) {
		return -errno;
	}
	device->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (device->kick_fd >= 0) {
		device->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	}
	if (device->timer_fd < 0) {
		ret = -errno;
	} else {
		ret = epoll_add(device, &device->kick_fd);
	}
	if (ret == 0) {
		ret = epoll_add(device, &device->timer_fd);
	}
	if (ret < 0) {
		watch_finish(device);
	}
	return ret;
}

void watch_finish(struct vgf_device *device)
{
	int fds[] = { device->epoll_fd, device->kick_fd, device->timer_fd };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (fds[i] >= 0) {
			close(fds[i]);
		}
	}
}

/* ---- Fences ------------------------------------------------------------------------------- */

/* A driver's descriptor is no good, or is a pipe whose other end is closed. */
static void fail_watch(struct vgf_device *device, struct fence *fence, int error)
{
	struct vgf_fence_name full_name = fence_name(fence);
	char name[NAME_SIZE];

	device_log(device, VGF_LOG_ERROR, "%s: its descriptor %d cannot be waited for (%s)",
		name_text(name, &full_name), fence->fd, error_name(error));
	if (error == -EBADF) {
		fence_forget_file(&device->fences, fence);
	}
	fence_signal(&device->fences, fence, error);
}

/* One-shot: a descriptor that has signalled need not be removed from the set, as closing it does
 * that. */
static void watch(struct vgf_device *device, struct timeline *timeline)
{
	struct fence *fence = STAILQ_FIRST(&timeline->fences);
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.ptr = fence };
	int ret;

	ret = epoll_ctl(device->epoll_fd, EPOLL_CTL_ADD, fence->fd, &event);
	if (ret < 0 && errno == EEXIST) {
		/* A one-shot that has fired is still in the set. It may be that of an earlier
		 * fence with the same number and open file, if someone else holds a copy. */
		ret = epoll_ctl(device->epoll_fd, EPOLL_CTL_MOD, fence->fd, &event);
	}
	if (ret == 0) {
		fence->flags |= FENCE_WATCHED;
	} else if (errno == ENOMEM || errno == ENOSPC) {
		device->watch_again = true;
		return;
	} else {
		fail_watch(device, fence, -errno);
	}
	timeline_update(&device->fences, timeline);
}

void watch_all(struct vgf_device *device)
{
	struct timeline *timeline;

	while (!device->watch_again && (timeline = TAILQ_FIRST(&device->fences.unwatched))) {
		watch(device, timeline);
	}
}

void watch_remove(struct vgf_device *device, struct fence *fence)
{
	if (fence->flags & FENCE_WATCHED) {
		epoll_ctl(device->epoll_fd, EPOLL_CTL_DEL, fence->fd, NULL);
	}
}

void watch_ask(struct vgf_device *device, struct fence *fence)
{
	int ret;

	if (!fence_has_file(fence)) {
		return;
	}
	ret = vgf_sync_file_poll(fence->fd);
	if (ret > 0) {
		fence_signal(&device->fences, fence, sync_file_error(fence->fd));
	} else if (ret < 0) {
		fail_watch(device, fence, ret);
	}
}

int watch_probe(struct vgf_device *device, int fence_fd)
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

/* ---- The timer ---------------------------------------------------------------------------- */

uint64_t stall_deadline(const struct vgf_device *device)
{
	const struct timeline *first = TAILQ_FIRST(&device->fences.busy);
	uint64_t stall_ns = device->options.stall_ns;

	if (!first || stall_ns > UINT64_MAX - first->checked_ns) {
		return UINT64_MAX;
	}
	return first->checked_ns + stall_ns;
}

/* The timer is set only if it has to expire earlier than it would. So a fence that retires in time
 * costs no system call for the watchdog. */
void watch_arm_timer(struct vgf_device *device)
{
	uint64_t deadline_ns = stall_deadline(device);
	struct itimerspec timer = { 0 };

	if (device->watch_again) {
		uint64_t again_ns = now_ns() + WATCH_AGAIN_NS;
		deadline_ns = again_ns < deadline_ns ? again_ns : deadline_ns;
	}
	if (deadline_ns >= device->timer_ns) {
		return;
	}
	timer.it_value.tv_sec = (time_t)(deadline_ns / 1000000000);
	timer.it_value.tv_nsec = (long)(deadline_ns % 1000000000);
	timerfd_settime(device->timer_fd, TFD_TIMER_ABSTIME, &timer, NULL);
	device->timer_ns = deadline_ns;
}

/* ---- Events ------------------------------------------------------------------------------- */

void watch_kick(struct vgf_device *device)
{
	uint64_t one = 1;
	ssize_t ret;

	do {
		ret = write(device->kick_fd, &one, sizeof(one));
	} while (ret < 0 && errno == EINTR);
}

void watch_take_kick(struct vgf_device *device)
{
	uint64_t count;

	device->kicked = read(device->kick_fd, &count, sizeof(count)) < 0 && errno == EINTR;
}

static void signal_seen(struct vgf_device *device, struct fence *fence, uint32_t events)
{
	fence->flags &= ~FENCE_WATCHED;
	if (fence->flags & FENCE_SIGNALLED) {
		return;
	}
	if (events & EPOLLIN) {
		fence_signal(&device->fences, fence, sync_file_error(fence->fd));
	} else {
		/* Hung up and not readable: it never will be. */
		fail_watch(device, fence, -EIO);
	}
}

void watch_take_event(struct vgf_device *device, const struct epoll_event *event)
{
	uint64_t count;

	if (event->data.ptr == &device->kick_fd) {
		watch_take_kick(device);
	} else if (event->data.ptr == &device->timer_fd) {
		if (read(device->timer_fd, &count, sizeof(count)) == sizeof(count)) {
			device->timer_ns = UINT64_MAX;
			device->watch_again = false;
			device->check_stalled = true;
		}
	} else if (event->data.ptr) {
		/* An event without a pointer is of watch_probe: the descriptor had hung up. */
		signal_seen(device, event->data.ptr, event->events);
	}
}
