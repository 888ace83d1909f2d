/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <inttypes.h>
#include <string.h>

#include <vgfence/sync_file.h>

#include "lock.h"
#include "log.h"
#include "watch.h"
#include "watchdog.h"

/* The others in the next round. */
#define CHECKS_A_ROUND 64

static void ask_names(struct vgf_stall *stall)
{
	struct vgf_sync_file_fence info;

	if (stall->fence_fd >= 0 && vgf_sync_file_info(stall->fence_fd, &info, 1) > 0) {
		memcpy(stall->driver, info.driver, sizeof(stall->driver));
		memcpy(stall->timeline, info.timeline, sizeof(stall->timeline));
	}
}

/* Of an imported fence that is what waits for it, else NULL. */
static const struct submission *waiting_work(const struct fence *fence)
{
	const struct waiter *waiter = waiters_first(&fence->waiters);

	return fence->flags & FENCE_IMPORTED ? waiter->submission : NULL;
}

static const char *state_text(const struct vgf_stall *stall, const struct submission *held_work)
{
	if (stall->imported) {
		return "its work waits for a descriptor of the VMM's";
	}
	if (!held_work) {
		return "its work runs";
	}
	return held_work->pending > 0 ? "its work waits for in-fences" :
					"its work waits for its turn";
}

/* A callback may dispatch, and so retire the fence: its descriptor, which is lent, stays open. */
static void report_stall(struct vgf_device *device, struct fence *fence, uint64_t now_ns)
{
	/* An imported fence has no name of its own: it is that of the work that waits for it. */
	const struct submission *waiting = waiting_work(fence);
	const struct submission *held_work = fence_held_work(fence);
	struct vgf_stall stall = {
		.fence = waiting ? waiting->name : fence_name(fence),
		.imported = waiting != NULL,
		.age_ns = now_ns - fence->timeline->since_ns,
		.held = held_work || waiting,
		.fence_fd = fence->fd,
	};
	char name[NAME_SIZE];

	fence->flags |= FENCE_REPORTED;
	device->stats.stalled++;
	trace_stall(&device->fences.tracer, &stall.fence,
		(waiting ? waiting->flags : fence->flags) & VGF_FENCED);
	ask_names(&stall);
	device_log(device, VGF_LOG_WARNING, "%s: stalled for %" PRIu64 " ms, %s%s%s%s%s",
		name_text(name, &stall.fence), stall.age_ns / 1000000,
		state_text(&stall, held_work), stall.driver[0] ? ", sync file of " : "",
		stall.driver, stall.driver[0] ? " " : "", stall.timeline);
	if (device->callbacks.stalled) {
		fence_ref(fence);
		device_unlock(device);
		device->callbacks.stalled(device->cookie, &stall);
		device_lock(device);
		fence_unref(&device->fences, fence);
	}
}

/* Not if it is only lent to a driver's submit just now. */
static bool is_to_be_reported(const struct fence *fence)
{
	return !(fence->flags & (FENCE_REPORTED | FENCE_SIGNALLED | VGF_PATIENT)) &&
		(!(fence->flags & FENCE_IMPORTED) || waiters_first(&fence->waiters));
}

void watchdog_check(struct vgf_device *device)
{
	uint64_t now;

	if (!device->check_stalled) {
		return;
	}
	now = now_ns();
	for (int i = 0; i < CHECKS_A_ROUND && stall_deadline(device) <= now; i++) {
		struct timeline *timeline = TAILQ_FIRST(&device->fences.busy);
		struct fence *oldest = STAILQ_FIRST(&timeline->fences);

		timeline_checked(&device->fences, timeline, now);
		if (is_to_be_reported(oldest)) {
			report_stall(device, oldest, now);
		}
	}
	device->check_stalled = stall_deadline(device) <= now;
}
