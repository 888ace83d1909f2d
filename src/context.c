/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a VMM asks of contexts. */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "lock.h"
#include "log.h"
#include "run.h"

static void log_context(struct vgf_device *device, uint32_t ctx_id, const char *what, int error)
{
	if (error < 0) {
		device_log(device, VGF_LOG_WARNING, "context %" PRIu32 ": %s (%s)", ctx_id, what,
			strerrorname_np(-error));
	}
}

VGF_EXPORT int vgf_context_create(
	struct vgf_device *device, uint32_t ctx_id, const struct vgf_driver *driver, void *data)
{
	int ret = -ECANCELED;

	if (!driver || !driver->submit) {
		return -EINVAL;
	}
	device_lock(device);
	if (!device->resetting) {
		ret = context_open(&device->contexts, ctx_id, driver, data);
	}
	log_context(device, ctx_id, "not created", ret);
	device_unlock(device);
	return ret;
}

/* Runs a barrier in this thread if it is its turn. Returns 0 if it ran, 1 if that follows. */
static int run_barrier(struct vgf_device *device, struct queue *queue, struct submission *barrier)
{
	int result = 1;

	if (queue && !queue->running) {
		barrier->result = &result;
		run_queue(device, queue);
	}
	return result;
}

VGF_EXPORT int vgf_context_destroy(struct vgf_device *device, uint32_t ctx_id)
{
	struct context *context;
	int ret = -ENOENT;

	device_lock(device);
	context = context_find_open(&device->contexts, ctx_id);
	if (context) {
		struct submission *barrier = &context->current->destroy;
		struct queue *queue = context_close(&device->contexts, context);
		ret = run_barrier(device, queue, barrier);
	}
	log_context(device, ctx_id, "not destroyed", ret);
	device_unlock(device);
	return ret;
}

VGF_EXPORT int vgf_context_cancel(struct vgf_device *device, uint32_t ctx_id)
{
	struct context *context;
	int ret = -ENOENT;

	device_lock(device);
	context = context_find(&device->contexts, ctx_id);
	if (context) {
		context_cancel(&device->contexts, context, false);
		ret = 0;
	}
	log_context(device, ctx_id, "not cancelled", ret);
	device_unlock(device);
	return ret;
}

VGF_EXPORT int vgf_context_defer(
	struct vgf_device *device, uint32_t ctx_id, void (*fn)(void *arg, int status), void *arg)
{
	struct submission *barrier = calloc(1, sizeof(*barrier));
	struct context *context;
	int ret;

	if (!barrier) {
		return -ENOMEM;
	}
	device_lock(device);
	context = context_find_open(&device->contexts, ctx_id);
	if (!context) {
		ret = -ENOENT;
	} else if (context->current->num_barriers >= device->options.limits.max_context_fences) {
		ret = -ENOSPC;
	} else {
		*barrier = (struct submission){
			.kind = SUBMISSION_CALL,
			.context = context,
			.driver = context->current,
			.name = { .ctx_id = ctx_id },
			.unused_fd = -1,
			.fn = fn,
			.arg = arg,
		};
		ret = run_barrier(
			device, submission_enqueue(&device->contexts, context, barrier), barrier);
	}
	log_context(device, ctx_id, "nothing deferred", ret);
	device_unlock(device);
	if (ret < 0) {
		free(barrier);
	}
	return ret;
}
