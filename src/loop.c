/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "device.h"
#include "sync_file.h"

#define MAX_EVENTS 64

/* Callbacks that make new work which is done at once could keep a round from ending. */
#define MAX_PASSES 64

/* When the kernel had no memory to watch a descriptor. */
#define WATCH_AGAIN_NS 10000000

uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- The epoll set ------------------------------------------------------------------------ */

/* What an event's pointer points to: one of the device's own two descriptors, or else a fence. */
static int epoll_add(struct vgf_device *device, int *fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = fd };

	return epoll_ctl(device->epoll_fd, EPOLL_CTL_ADD, *fd, &event) < 0 ? -errno : 0;
}

int loop_init(struct vgf_device *device)
{
	int ret;

	STAILQ_INIT(&device->retiring);
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
		loop_finish(device);
	}
	return ret;
}

void loop_finish(struct vgf_device *device)
{
	int fds[] = { device->epoll_fd, device->kick_fd, device->timer_fd };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (fds[i] >= 0) {
			close(fds[i]);
		}
	}
}

/* A driver's descriptor was a bad one; or that of a pipe whose other end is closed. */
static void fail_watch(struct vgf_device *device, struct fence *fence, int error)
{
	struct vgf_fence_name full_name = fence_name(fence);
	char name[NAME_SIZE];

	device_log(device, VGF_LOG_ERROR, "%s: its descriptor %d cannot be waited for (%s)",
		name_text(name, &full_name), fence->fd, strerrorname_np(-error));
	if (error == -EBADF) {
		fence_forget_file(&device->fences, fence);
	}
	fence_signal(&device->fences, fence, error);
}

/* One-shot, so that a descriptor that has signalled costs no removal: closing does that. */
static void watch(struct vgf_device *device, struct timeline *timeline)
{
	struct fence *fence = STAILQ_FIRST(&timeline->fences);
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.ptr = fence };
	int ret;

	ret = epoll_ctl(device->epoll_fd, EPOLL_CTL_ADD, fence->fd, &event);
	if (ret < 0 && errno == EEXIST) {
		/* A one-shot that fired. Also of an earlier fence that had this descriptor number
		 * for the same open file, as long as someone else holds a copy. */
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

static void watch_all(struct vgf_device *device)
{
	struct timeline *timeline;

	while (!device->watch_again && (timeline = TAILQ_FIRST(&device->fences.unwatched))) {
		watch(device, timeline);
	}
}

/* A fence may have signalled long before it became the oldest: one poll is cheaper than another
 * round through epoll. Only the dispatching thread does this, as it knows that these have just
 * come forward. */
static void poll_oldest(struct vgf_device *device)
{
	struct timeline *timeline, *next;

	for (timeline = TAILQ_FIRST(&device->fences.unwatched); timeline; timeline = next) {
		struct fence *fence = STAILQ_FIRST(&timeline->fences);
		int ret = vgf_sync_file_poll(fence->fd);

		next = TAILQ_NEXT(timeline, state_link);
		if (ret > 0) {
			fence_signal(&device->fences, fence, sync_file_error(fence->fd));
		} else if (ret < 0) {
			fail_watch(device, fence, ret);
		}
	}
}

/* Set only where it has to expire earlier than it would: a fence that retires in time costs no
 * system call for the watchdog. */
static void arm_timer(struct vgf_device *device)
{
	uint64_t deadline_ns = watchdog_deadline(device);
	struct itimerspec timer = { 0 };

	if (device->watch_again) {
		uint64_t again_ns = clock_ns() + WATCH_AGAIN_NS;
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

/* ---- The lock ----------------------------------------------------------------------------- */

static bool has_work(const struct vgf_device *device)
{
	return !TAILQ_EMPTY(&device->fences.ready) || !STAILQ_EMPTY(&device->fences.retired) ||
		!TAILQ_EMPTY(&device->contexts.runnable) || device->check_stalled ||
		ctx_sync_next_starved(&device->contexts);
}

bool loop_is_busy(const struct vgf_device *device)
{
	return has_work(device) || !STAILQ_EMPTY(&device->retiring) || device->fences.count > 0 ||
		device->stats.held > 0;
}

void device_lock(struct vgf_device *device)
{
	pthread_mutex_lock(&device->lock);
}

static void kick(struct vgf_device *device)
{
	uint64_t one = 1;
	ssize_t ret;

	do {
		ret = write(device->kick_fd, &one, sizeof(one));
	} while (ret < 0 && errno == EINTR);
}

void device_unlock(struct vgf_device *device)
{
	struct fence_list garbage = STAILQ_HEAD_INITIALIZER(garbage);
	struct log_buffer log;
	bool must_kick;

	watch_all(device);
	arm_timer(device);
	contexts_reap(&device->contexts);
	STAILQ_CONCAT(&garbage, &device->fences.garbage);

	must_kick = !device->processing && !device->kicked &&
		(has_work(device) || (device->draining && !loop_is_busy(device)));
	device->kicked |= must_kick;
	log.count = device->log.count;
	if (log.count > 0) {
		log = device->log;
		device->log.count = 0;
	}
	pthread_mutex_unlock(&device->lock);

	if (must_kick) {
		kick(device);
	}
	fence_free_list(&garbage);
	if (log.count > 0) {
		log_flush(device, &log);
	}
}

/* ---- Dispatching -------------------------------------------------------------------------- */

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

static void take_kick(struct vgf_device *device)
{
	uint64_t count;

	device->kicked = read(device->kick_fd, &count, sizeof(count)) < 0 && errno == EINTR;
}

static void take_event(struct vgf_device *device, const struct epoll_event *event)
{
	uint64_t count;

	if (event->data.ptr == &device->kick_fd) {
		take_kick(device);
	} else if (event->data.ptr == &device->timer_fd) {
		if (read(device->timer_fd, &count, sizeof(count)) == sizeof(count)) {
			device->timer_ns = UINT64_MAX;
			device->watch_again = false;
			device->check_stalled = true;
		}
	} else if (event->data.ptr) {
		/* Without a pointer it was only probed, and had hung up. */
		signal_seen(device, event->data.ptr, event->events);
	}
}

static void advance_timelines(struct vgf_device *device)
{
	uint64_t now_ns = clock_ns();
	struct timeline *timeline;

	do {
		while ((timeline = TAILQ_FIRST(&device->fences.ready))) {
			timeline_advance(&device->fences, timeline, now_ns);
		}
		poll_oldest(device);
	} while (!TAILQ_EMPTY(&device->fences.ready));
}

static void run_queues(struct vgf_device *device)
{
	struct ctx_sync *contexts = &device->contexts;
	struct queue *queue;

	do {
		queue = TAILQ_FIRST(&contexts->runnable);
		if (!queue) {
			queue = ctx_sync_next_starved(contexts);
			if (queue) {
				queue->turn = true;
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

/* A callback may enter the loop again, which goes on with the list where this was. */
static int deliver(struct vgf_device *device)
{
	struct fence_list done = STAILQ_HEAD_INITIALIZER(done);
	struct fence *fence;
	int count = 0;

	STAILQ_FOREACH(fence, &device->fences.retired, link) {
		if (!(fence->flags & FENCE_IMPORTED)) {
			count_retired(device, fence);
		}
		if (fence->flags & FENCE_WATCHED) {
			/* Retired by force: others may hold the same file, so closing removes
			 * nothing. */
			epoll_ctl(device->epoll_fd, EPOLL_CTL_DEL, fence->fd, NULL);
		}
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
		if (has_work(device) || !STAILQ_EMPTY(&device->retiring)) {
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

/* Takes note of what has happened. 0 or -EINTR. */
static int take_events(struct vgf_device *device, int timeout_ms)
{
	struct epoll_event events[MAX_EVENTS];
	int count, ret;

	if (timeout_ms == 0 && was_only_kicked(device)) {
		take_kick(device);
		return 0;
	}
	device->processing = false;
	device_unlock(device);
	count = epoll_wait(device->epoll_fd, events, MAX_EVENTS, timeout_ms);
	ret = count < 0 ? -errno : 0;
	device_lock(device);
	device->processing = true;

	for (int i = 0; i < count; i++) {
		take_event(device, &events[i]);
	}
	return ret;
}

int loop_run(struct vgf_device *device, int timeout_ms)
{
	bool nested = device->processing;
	int ret;

	/* Inside a callback nobody has kicked for what is left to do. */
	if (has_work(device) || !STAILQ_EMPTY(&device->retiring)) {
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

static bool is_dispatcher(const struct vgf_device *device)
{
	return device->depth > 0 && pthread_equal(device->dispatcher, pthread_self());
}

bool dispatcher_is_other(const struct vgf_device *device)
{
	return (device->dispatching || device->options.own_thread) && !is_dispatcher(device);
}

void dispatcher_enter(struct vgf_device *device, bool take_over)
{
	unsigned int *waiting = take_over ? &device->takers : &device->blocked;

	if (is_dispatcher(device)) {
		device->depth++;
		return;
	}
	(*waiting)++;
	while (device->depth > 0 || (!take_over && device->takers > 0)) {
		if (!device->kicked) {
			device->kicked = true;
			kick(device);
		}
		pthread_cond_wait(&device->changed, &device->lock);
	}
	(*waiting)--;
	device->dispatcher = pthread_self();
	device->dispatching = !take_over;
	device->depth = 1;
}

void dispatcher_leave(struct vgf_device *device)
{
	assert(is_dispatcher(device));
	if (--device->depth == 0) {
		device->dispatching = false;
		pthread_cond_broadcast(&device->changed);
	}
}
