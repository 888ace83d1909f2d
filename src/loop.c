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
};

/*
 * Retiring and running have a budget each. So a flood of work does not keep back the callbacks of
 * what has signalled, and a flood of signals does not keep back work: what is left goes on in the
 * next round, which first takes note of what has signalled meanwhile.
 *
 * The clock is looked at only if there is more to do: a round that retires one fence and runs the
 * work behind it looks twice.
 */
struct round {
	struct budget retiring, running;
	struct budget *spender; /* whose time since now_ns is; NULL: nobody's */
	uint64_t now_ns;        /* the last look at the clock */
};

static struct round round_begin(const struct vgf_device *device)
{
	const struct budget budget = { device->options.budget_items, device->options.budget_ns };

	return (struct round){ .retiring = budget, .running = budget, .now_ns = now_ns() };
}

static void budget_spend(struct round *round, struct budget *budget, uint64_t items)
{
	budget->items -= items < budget->items ? items : budget->items;
	round->spender = budget;
}

static void look_at_clock(struct round *round)
{
	struct budget *spender = round->spender;
	uint64_t since_ns = round->now_ns;

	round->now_ns = now_ns();
	round->spender = NULL;
	if (spender && spender->ns != UINT64_MAX) {
		uint64_t ns = round->now_ns - since_ns;
		spender->ns -= ns < spender->ns ? ns : spender->ns;
	}
}

static bool budget_is_left(struct round *round, const struct budget *budget)
{
	if (round->spender) {
		look_at_clock(round);
	}
	return budget->items > 0 && budget->ns > 0;
}

/* ---- Retiring ----------------------------------------------------------------------------- */

/* So many that come forward are not asked, at most. */
#define MAX_UNASKED 6

/*
 * Asks the fence that has come forward whether it has signalled already. If it has, that spares
 * another round through epoll; if not, it was a system call in vain. The fences of a timeline are
 * alike: where they signal one by one, fewer are asked, in the end the sixth and the seventh in
 * turns. With one of these numbers alone it might always be the last of some that signal together.
 */
static void ask_if_worth_it(struct vgf_device *device, struct timeline *timeline)
{
	if (timeline->unasked > 0) {
		timeline->unasked--;
		return;
	}
	watch_ask(device, STAILQ_FIRST(&timeline->fences));
	if (timeline->state != TIMELINE_UNWATCHED) {
		timeline->vain_asks = 0;
		return;
	}
	/* The first is free: it may be the one behind some that have signalled together. */
	timeline->unasked = timeline->vain_asks;
	timeline->vain_asks += timeline->vain_asks < MAX_UNASKED ? 1 : -1;
}

static uint32_t advance_timelines(struct vgf_device *device, uint64_t now_ns)
{
	struct timeline_list *ready = &device->fences.ready;
	struct timeline *timeline;
	uint32_t cost = 0;

	while (cost < BATCH_COST && (timeline = TAILQ_FIRST(ready))) {
		bool alone = !TAILQ_NEXT(timeline, state_link);
		cost += timeline_advance(
			&device->fences, timeline, now_ns, alone ? BATCH_COST : TURN_COST);
		if (timeline->state == TIMELINE_UNWATCHED) {
			uint64_t told = device->fences.told;
			ask_if_worth_it(device, timeline);
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

/* Who came first is told first. Returns how many are due. */
static uint32_t make_due(struct vgf_device *device, struct fence *fence)
{
	struct notification *notification;
	uint32_t count = 0;

	while ((notification = SLIST_FIRST(&fence->notifications))) {
		SLIST_REMOVE_HEAD(&fence->notifications, link);
		notification->status = fence->status;
		SLIST_INSERT_HEAD(&device->due, notification, link);
		count++;
	}
	return count;
}

/* Unlocked. So many; none if the device was destroyed meanwhile, which has told all. */
static uint32_t tell_due(struct vgf_device *device, uint32_t count)
{
	struct notification *notification;
	uint32_t told = 0;

	while (told < count && (notification = SLIST_FIRST(&device->due))) {
		SLIST_REMOVE_HEAD(&device->due, link);
		notification->fn(notification->arg, notification->status);
		free(notification);
		told++;
	}
	return told;
}

void loop_tell_due(struct vgf_device *device)
{
	uint32_t told;

	if (SLIST_EMPTY(&device->due)) {
		return;
	}
	device_unlock(device);
	told = tell_due(device, UINT32_MAX);
	device_lock(device);
	device->num_notifications -= told;
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
	struct fence_list done;
	struct fence *fence;
	uint32_t notified = 0, due;
	int count = 0;

	STAILQ_INIT(&done);
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
		due = make_due(device, fence);
		if (!(fence->flags & FENCE_MERGED)) {
			call_back(device, fence);
		}
		notified += tell_due(device, due);
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

static int retire_fences(struct vgf_device *device, struct round *round)
{
	int total = 0;

	while (has_to_retire(device) && budget_is_left(round, &round->retiring)) {
		uint32_t cost = advance_timelines(device, round->now_ns);
		total += deliver(device);
		budget_spend(round, &round->retiring, cost);
	}
	return total;
}

static void run_queues(struct vgf_device *device, struct round *round)
{
	while (ctx_sync_is_runnable(&device->contexts) && budget_is_left(round, &round->running)) {
		run_next(device, ctx_sync_next(&device->contexts));
		budget_spend(round, &round->running, 1);
		/* There is room for a few messages only, and more of this round may come. */
		if (device->log.count > 0) {
			device_unlock(device);
			device_lock(device);
		}
	}
}

static bool has_to_do(const struct vgf_device *device, bool runs)
{
	return has_to_retire(device) || (runs && ctx_sync_is_runnable(&device->contexts));
}

static bool goes_on(const struct vgf_device *device, struct round *round, bool runs)
{
	return has_to_do(device, runs) && budget_is_left(round, &round->retiring) &&
		budget_is_left(round, &round->running);
}

static int process(struct vgf_device *device, bool runs)
{
	struct round round = round_begin(device);
	int total = 0;

	watchdog_check(device);
	do {
		total += retire_fences(device, &round);
		if (runs) {
			run_queues(device, &round);
		}
		if (!goes_on(device, &round, runs)) {
			loop_announce(device);
		}
		/* What retire_end has brought may be done at once. */
	} while (goes_on(device, &round, runs));
	return total;
}

/* Fences that are signalled by call, as renderers do it, need no look at the epoll set. */
static bool was_only_kicked(const struct vgf_device *device)
{
	return device->kicked && device->fences.fds == 0 && now_ns() < device->timer_ns;
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

/* runs: held work too. */
static int take_round(struct vgf_device *device, int timeout_ms, bool runs)
{
	bool nested = device->processing;
	int ret = take_events(device, timeout_ms);

	device->processing = true;
	if (ret == 0) {
		ret = process(device, runs);
	}
	device->processing = nested;
	return ret;
}

int loop_run(struct vgf_device *device, int timeout_ms)
{
	/* Inside a callback nobody has kicked for what is left to do. */
	if (device_has_work(device) || !STAILQ_EMPTY(&device->retiring)) {
		timeout_ms = 0;
	}
	return take_round(device, timeout_ms, !device->only_retires);
}

int loop_retire(struct vgf_device *device)
{
	return take_round(device, 0, false);
}

int loop_retire_signalled(struct vgf_device *device)
{
	int total;

	device->processing = true;
	total = process(device, false);
	device->processing = false;
	return total;
}
