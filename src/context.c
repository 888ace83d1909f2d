/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a VMM asks of contexts. */

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>

#include "error_name.h"
#include "export.h"
#include "lock.h"
#include "log.h"
#include "place.h"
#include "run.h"
#include "struct_copy.h"

static void log_context(struct vgf_device *device, uint32_t ctx_id, const char *what, int error)
{
	if (error < 0) {
		device_log(device, VGF_LOG_WARNING, "context %" PRIu32 ": %s (%s)", ctx_id, what,
			error_name(error));
	}
}

/* What a driver has had since there are context drivers. */
#define LEAST_DRIVER (offsetof(struct vgf_driver, destroy) + sizeof(void (*)(void)))

VGF_EXPORT int vgf_context_create(
	struct vgf_device *device, uint32_t ctx_id, const struct vgf_driver *driver, void *data)
{
	struct vgf_driver known = { 0 };
	int ret = driver ? struct_copy(&known, sizeof(known), LEAST_DRIVER, driver, driver->size) :
			   -EINVAL;

	if (ret == 0 && !known.submit) {
		ret = -EINVAL;
	}
	if (ret < 0) {
		return ret;
	}
	device_lock(device);
	ret = device->resetting ? -ECANCELED :
				  context_open(&device->contexts, ctx_id, &known, data);
	log_context(device, ctx_id, "not created", ret);
	device_unlock(device);
	return ret;
}

VGF_EXPORT int vgf_context_destroy(struct vgf_device *device, uint32_t ctx_id)
{
	struct context *context;
	int ret = -ENOENT;

	device_lock(device);
	context = context_find_open(&device->contexts, ctx_id);
	if (context) {
		struct submission *destroy = context_close(context);
		ret = run_start(device, destroy, run_can_start(device, destroy));
	}
	log_context(device, ctx_id, "not destroyed", ret);
	device_unlock(device);
	return ret;
}

/* Locked. */
static int cancel_one(struct vgf_device *device, uint32_t ctx_id, uint32_t flags, int error)
{
	struct context *context = context_find(&device->contexts, ctx_id);

	return context && context_cancel(&device->contexts, context, flags, error) ? 0 : -ENOENT;
}

VGF_EXPORT int vgf_context_cancel(
	struct vgf_device *device, uint32_t ctx_id, uint32_t flags, int error)
{
	const uint32_t which = VGF_CANCEL_OPEN | VGF_CANCEL_DESTROYED;
	const uint32_t what = VGF_CANCEL_RUNNING | VGF_CANCEL_EVERY_CONTEXT;
	int ret = 0;

	if (error >= 0 || !(flags & which) || (flags & ~(which | what))) {
		return -EINVAL;
	}
	device_lock(device);
	if (flags & VGF_CANCEL_EVERY_CONTEXT) {
		contexts_cancel(&device->contexts, flags, error);
	} else {
		ret = cancel_one(device, ctx_id, flags, error);
	}
	log_context(device, ctx_id, "not cancelled", ret);
	device_unlock(device);
	return ret;
}

/* Locked. 0, 1 or an error; then the caller owns it. */
static int defer(struct vgf_device *device, const struct vgf_deferred_call *call,
	struct submission *submission)
{
	struct context *context = context_find_open(&device->contexts, call->ctx_id);
	bool run_now;
	int ret;

	if (!context) {
		return -ENOENT;
	}
	if ((call->ring != VGF_EVERY_RING && !is_ring(call->ring)) ||
		!is_zero(call->reserved, sizeof(call->reserved))) {
		return -EINVAL;
	}
	if (call->ring >= 0 && !context_ring(context, call->ring)) {
		return -ENOMEM;
	}
	*submission = (struct submission){
		.kind = SUBMISSION_CALL,
		.context = context,
		.driver = context->current,
		.name = { .ctx_id = call->ctx_id, .ring = call->ring },
		.size = call->kept_size,
		.unused_fd = -1,
		.fn = call->fn,
		.arg = call->arg,
	};
	STAILQ_INIT(&submission->imported);
	ret = run_prepare(device, submission, &run_now);
	return ret < 0 ? ret : run_start(device, submission, run_now);
}

VGF_EXPORT int vgf_context_defer(struct vgf_device *device, const struct vgf_deferred_call *call)
{
	struct submission *submission = malloc(sizeof(*submission));
	int ret;

	if (!submission) {
		return -ENOMEM;
	}
	device_lock(device);
	ret = defer(device, call, submission);
	log_context(device, call->ctx_id, "nothing deferred", ret);
	device_unlock(device);
	if (ret < 0) {
		free(submission);
	}
	return ret;
}
