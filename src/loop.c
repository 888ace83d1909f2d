/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <stdlib.h>

#include "attach.h"
#include "lock.h"
#include "loop.h"
#include "run.h"
#include "watch.h"
#include "watchdog.h"

#define MAX_EVENTS 64

/* Waiters that may be told of signals in one go: a millisecond or so. */
#define MAX_TOLD 32768

/* What a thread does with the lock held, and how many callbacks it then makes, before it looks at
 * the clock. */
#define BATCH_COST 64

/* What a timeline may retire before the next one that is ready has its turn. */
#define TURN_COST 8

/* ---- Budgets ------------------------------------------------------------------------------ */

/* What is left of a round for one of the two kinds of things that it does. */
struct budget {
	uint64_t items;
	uint64_t ns; /* UINT64_MAX: without end */
	uint64_t since_ns;
};

/*
 * Retiring and running have a budget each. So a flood of work does not keep back the callbacks of
 * what has signalled, and a flood of signals does not keep back work: what is left goes on in the
 * next round, which first takes note of what has signalled meanwhile.
 */
struct round {
	struct budget retiring, running;
};

static struct round round_begin(const struct vgf_device *device)
{
	const struct budget budget = { device->options.budget_items, device->options.budget_ns, 0 };

	return (struct round){ budget, budget };
}

static void budget_begin(struct budget *budget)
{
	budget->since_ns = clock_ns();
}

static bool budget_is_left(const struct budget *budget)
{
	return budget->items > 0 && budget->ns > 0;
}

static void budget_spend(struct budget *budget, uint64_t items)
{
	uint64_t now_ns = clock_ns();
	uint64_t ns = now_ns - budget->since_ns;

	budget->since_ns = now_ns;
	budget->items -= items < budget->items ? items : budget->items;
	if (budget->ns != UINT64_MAX) {
		budget->ns -= ns < budget->ns ? ns : budget->ns;
	}
}

/* ---- Retiring ----------------------------------------------------------------------------- */

static uint32_t advance_timelines(struct vgf_device *device)
{
	struct timeline_list *ready = &device->fences.ready;
	uint64_t now_ns = clock_ns();
	struct timeline *timeline;
	uint32_t cost = 0;

	while (cost < BATCH_COST && (timeline = TAILQ_FIRST(ready))) {
		bool alone = !TAILQ_NEXT(timeline, state_link);
		cost += timeline_advance(
			&device->fences, timeline, now_ns, alone ? BATCH_COST : TURN_COST);
		/* It may have signalled long before it came forward, and to ask is cheaper than
		 * another round through epoll. */
		if (timeline->state == TIMELINE_UNWATCHED) {
			uint64_t told = device->fences.told;
			watch_ask(device, STAILQ_FIRST(&timeline->fences));
			cost += (uint32_t)((device->fences.told - told) / WAITERS_PER_COST);
		}
	}
	return cost;
}

static void call_back(const struct vgf_device *device, const struct fence *fence)
{
	const struct vgf_callbacks *callbacks = &device->callbacks;
	struct vgf_fence_name name = fence_name(fence);

	if (callbacks->retire) {
		const struct vgf_retired retired = { name, fence->status, fence->cookie };
		callbacks->retire(device->cookie, &retired);
	} else if (name.ring == VGF_RING_GLOBAL) {
		callbacks->write_fence(device->cookie, (uint32_t)name.fence_id);
	} else {
		callbacks->write_context_fence(
			device->cookie, name.ctx_id, (uint32_t)name.ring, name.fence_id);
	}
}

/* Who asked to be told. Returns how many. */
static uint32_t notify_all(struct fence *fence)
{
	struct notification *notification;
	uint32_t count = 0;

	while ((notification = STAILQ_FIRST(&fence->notifications))) {
		STAILQ_REMOVE_HEAD(&fence->notifications, link);
		notification->fn(notification->arg, fence->status);
		free(notification);
		count++;
	}
	return count;
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
	uint32_t notified = 0;
	int count = 0;

	STAILQ_FOREACH(fence, &device->fences.retired, link) {
		if (!(fence->flags & FENCE_IMPORTED)) {
			count_retired(device, fence);
		}
		attach_check(device, fence);
		watch_remove(device, fence);
	}
	STAILQ_CONCAT(&device->retiring, &device->fences.retired);
	if (STAILQ_EMPTY(&device->retiring)) {
		return 0;
	}

	device_unlock(device);
	while ((fence = STAILQ_FIRST(&device->retiring))) {
		STAILQ_REMOVE_HEAD(&device->retiring, link);
		STAILQ_INSERT_TAIL(&done, fence, link);
		if (fence->flags & FENCE_IMPORTED) {
			continue;
		}
		count++;
		device->unannounced++;
		if (!(fence->flags & FENCE_MERGED)) {
			call_back(device, fence);
		}
		notified += notify_all(fence);
	}
	device_lock(device);
	device->num_notifications -= notified;

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

/* ---- Rounds ------------------------------------------------------------------------------- */

static bool has_to_retire(const struct vgf_device *device)
{
	return !TAILQ_EMPTY(&device->fences.ready) || !STAILQ_EMPTY(&device->fences.retired) ||
		!STAILQ_EMPTY(&device->retiring);
}

static int retire_fences(struct vgf_device *device, struct budget *budget)
{
	int total = 0;

	if (!has_to_retire(device)) {
		return 0; /* and it has cost nothing */
	}
	budget_begin(budget);
	while (has_to_retire(device) && budget_is_left(budget)) {
		uint32_t cost = advance_timelines(device);
		total += deliver(device);
		budget_spend(budget, cost);
	}
	return total;
}

static void run_queues(struct vgf_device *device, struct budget *budget)
{
	struct queue *queue;

	if (!ctx_sync_is_runnable(&device->contexts)) {
		return;
	}
	budget_begin(budget);
	while (budget_is_left(budget) && (queue = ctx_sync_next(&device->contexts))) {
		run_next(device, queue);
		budget_spend(budget, 1);
	}
}

static bool has_to_do(const struct vgf_device *device)
{
	return has_to_retire(device) || ctx_sync_is_runnable(&device->contexts);
}

static bool goes_on(const struct vgf_device *device, const struct round *round)
{
	return has_to_do(device) && budget_is_left(&round->retiring) &&
		budget_is_left(&round->running);
}

static int process(struct vgf_device *device)
{
	struct round round = round_begin(device);
	int total = 0;

	watchdog_check(device);
	do {
		while (goes_on(device, &round)) {
			total += retire_fences(device, &round.retiring);
			run_queues(device, &round.running);
		}
		loop_announce(device);
		/* What retire_end has brought may be done at once. */
	} while (goes_on(device, &round));
	return total;
}

/* Fences that are signalled by call, as renderers do it, need no look at the epoll set. */
static bool was_only_kicked(const struct vgf_device *device)
{
	return device->kicked && device->fences.fds == 0 && clock_ns() < device->timer_ns;
}

/* A fence that signals tells its waiters, and everything that is held back may be one. What is not
 * taken now stays in the epoll set for the next round. */
static int max_events(const struct vgf_device *device)
{
	uint32_t count = MAX_TOLD / (device->stats.held + 1);

	if (count == 0) {
		return 1;
	}
	return count < MAX_EVENTS ? (int)count : MAX_EVENTS;
}

/* Waits for events and takes note of them. 0 or -EINTR. */
static int take_events(struct vgf_device *device, int timeout_ms)
{
	struct epoll_event events[MAX_EVENTS];
	int count, ret, max;

	if (timeout_ms == 0 && was_only_kicked(device)) {
		watch_take_kick(device);
		return 0;
	}
	max = max_events(device);
	device->processing = false;
	device_unlock(device);
	count = epoll_wait(device->epoll_fd, events, max, timeout_ms);
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
