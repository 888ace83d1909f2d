/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "lock.h"
#include "log.h"
#include "watch.h"

bool device_has_work(const struct vgf_device *device)
{
	return !TAILQ_EMPTY(&device->fences.ready) || !STAILQ_EMPTY(&device->fences.retired) ||
		ctx_sync_is_runnable(&device->contexts) || device->check_stalled;
}

bool device_is_busy(const struct vgf_device *device)
{
	return device_has_work(device) || !STAILQ_EMPTY(&device->retiring) ||
		device->fences.count > 0 || device->stats.held > 0 ||
		device->contexts.fd_share.running > 0;
}

void device_lock(struct vgf_device *device)
{
	pthread_mutex_lock(&device->lock);
}

/* What is closed and freed once the lock is given up: either may take as long as a guest likes. */
struct garbage {
	struct fence_list fences;
	struct attachment_list attachments;
	struct submission_list submissions;
	struct context_driver_list contexts;
};

static void garbage_collect(struct vgf_device *device, struct garbage *garbage)
{
	STAILQ_INIT(&garbage->fences);
	STAILQ_INIT(&garbage->submissions);
	STAILQ_INIT(&garbage->contexts);
	contexts_reap(&device->contexts, &garbage->contexts);
	STAILQ_CONCAT(&garbage->submissions, &device->contexts.garbage);
	STAILQ_CONCAT(&garbage->fences, &device->fences.garbage);
	garbage->attachments = device->fences.detached;
	SLIST_INIT(&device->fences.detached);
}

static void garbage_free(struct garbage *garbage)
{
	fence_free_list(&garbage->fences);
	attachment_free_list(&garbage->attachments);
	submission_free_list(&garbage->submissions);
	context_free_list(&garbage->contexts);
}

void device_unlock(struct vgf_device *device)
{
	struct garbage garbage;
	struct log_buffer log;
	bool must_kick;

	watch_all(device);
	watch_arm_timer(device);
	garbage_collect(device, &garbage);

	must_kick = !device->processing && !device->kicked &&
		(device_has_work(device) || (device->draining && !device_is_busy(device)));
	device->kicked |= must_kick;
	log.count = device->log.count;
	if (log.count > 0) {
		log = device->log;
		device->log.count = 0;
	}
	pthread_mutex_unlock(&device->lock);

	if (must_kick) {
		watch_kick(device);
	}
	garbage_free(&garbage);
	if (log.count > 0) {
		log_flush(device, &log);
	}
}
