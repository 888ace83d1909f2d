/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <inttypes.h>
#include <string.h>

#include <vgfence/sync_file.h>

#include "lock.h"
#include "log.h"
#include "watch.h"
#include "watchdog.h"

static void ask_names(struct vgf_stall *stall)
{
	struct vgf_sync_file_fence info;

	if (stall->fence_fd >= 0 && vgf_sync_file_info(stall->fence_fd, &info, 1) > 0) {
		memcpy(stall->driver, info.driver, sizeof(stall->driver));
		memcpy(stall->timeline, info.timeline, sizeof(stall->timeline));
	}
}

/* The dispatching thread alone retires fences, so this one stays while the lock is dropped. */
static void report_stall(struct vgf_device *device, struct fence *fence, uint64_t now_ns)
{
	struct vgf_stall stall = {
		.fence = fence_name(fence),
		.age_ns = now_ns - fence->timeline->since_ns,
		.held = fence->submission != NULL,
		.fence_fd = fence->fd,
	};
	char name[NAME_SIZE];

	fence->flags |= FENCE_REPORTED;
	device->stats.stalled++;
	ask_names(&stall);
	device_log(device, VGF_LOG_WARNING, "%s: stalled for %" PRIu64 " ms, %s%s%s%s%s",
		name_text(name, &stall.fence), stall.age_ns / 1000000,
		stall.held ? "its work waits for in-fences" : "its work runs",
		stall.driver[0] ? ", sync file of " : "", stall.driver, stall.driver[0] ? " " : "",
		stall.timeline);
	if (device->callbacks.stalled) {
		device_unlock(device);
		device->callbacks.stalled(device->cookie, &stall);
		device_lock(device);
	}
}

void watchdog_check(struct vgf_device *device)
{
	uint64_t now_ns;

	if (!device->check_stalled) {
		return;
	}
	device->check_stalled = false;
	now_ns = clock_ns();
	while (stall_deadline(device) <= now_ns) {
		struct timeline *timeline = TAILQ_FIRST(&device->fences.busy);
		struct fence *oldest = STAILQ_FIRST(&timeline->fences);

		timeline_checked(&device->fences, timeline, now_ns);
		if (!(oldest->flags & (FENCE_REPORTED | FENCE_SIGNALLED))) {
			report_stall(device, oldest, now_ns);
		}
	}
}
