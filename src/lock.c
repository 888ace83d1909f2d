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

/* What is done after unlocking. */
struct rest {
	struct garbage garbage;
	struct log_buffer log;
	bool must_kick;
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

static void take_rest(struct vgf_device *device, struct rest *rest)
{
	watch_all(device);
	watch_arm_timer(device);
	garbage_collect(device, &rest->garbage);
	rest->must_kick = !device->processing && !device->kicked &&
		(device_has_work(device) || (device->draining && !device_is_busy(device)));
	device->kicked |= rest->must_kick;
	rest->log.count = 0;
}

static void take_log(struct vgf_device *device, struct rest *rest)
{
	if (device->log.count > 0) {
		rest->log = device->log;
		device->log.count = 0;
	}
}

static void do_rest(struct vgf_device *device, struct rest *rest)
{
	if (rest->must_kick) {
		watch_kick(device);
	}
	garbage_free(&rest->garbage);
	if (rest->log.count > 0) {
		log_flush(device, &rest->log);
	}
}

void device_unlock(struct vgf_device *device)
{
	struct rest rest;

	take_rest(device, &rest);
	take_log(device, &rest);
	pthread_mutex_unlock(&device->lock);
	do_rest(device, &rest);
}

void device_unlock_unlogged(struct vgf_device *device)
{
	struct rest rest;

	take_rest(device, &rest);
	pthread_mutex_unlock(&device->lock);
	do_rest(device, &rest);
}

bool device_unlock_last(struct vgf_device *device)
{
	bool closing = device->closing;
	struct rest rest;

	take_rest(device, &rest);
	take_log(device, &rest);
	if (!rest.must_kick && rest.log.count == 0) {
		pthread_mutex_unlock(&device->lock);
		garbage_free(&rest.garbage); /* which knows nothing of the device */
		return closing;
	}
	device->leaving++;
	pthread_mutex_unlock(&device->lock);
	do_rest(device, &rest);
	pthread_mutex_lock(&device->lock);
	closing = device->closing;
	if (--device->leaving == 0) {
		pthread_cond_broadcast(&device->changed);
	}
	pthread_mutex_unlock(&device->lock);
	return closing;
}
