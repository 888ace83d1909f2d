/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "lock.h"
#include "log.h"
#include "watch.h"

bool device_has_work(const struct vgf_device *device)
{
	return !TAILQ_EMPTY(&device->fences.ready) || !STAILQ_EMPTY(&device->fences.retired) ||
		!TAILQ_EMPTY(&device->contexts.runnable) || device->check_stalled ||
		ctx_sync_next_starved(&device->contexts);
}

bool device_is_busy(const struct vgf_device *device)
{
	return device_has_work(device) || !STAILQ_EMPTY(&device->retiring) ||
		device->fences.count > 0 || device->stats.held > 0;
}

void device_lock(struct vgf_device *device)
{
	pthread_mutex_lock(&device->lock);
}

void device_unlock(struct vgf_device *device)
{
	struct fence_list garbage = STAILQ_HEAD_INITIALIZER(garbage);
	struct log_buffer log;
	bool must_kick;

	watch_all(device);
	watch_arm_timer(device);
	contexts_reap(&device->contexts);
	STAILQ_CONCAT(&garbage, &device->fences.garbage);

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
	fence_free_list(&garbage);
	if (log.count > 0) {
		log_flush(device, &log);
	}
}
