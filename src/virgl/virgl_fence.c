/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Fences: those that virglrenderer is asked for and calls back about, and those that a VMM makes.
 */

#include "virgl.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- What virglrenderer has --------------------------------------------------------------- */

int send_context_fence(struct virgl_context *context, const struct vgf_fence_name *name)
{
	struct vgf_virgl *virgl = context->virgl;
	int ret;

	if (context_is_gl(context)) {
		return send_gl_fence(virgl, context, name);
	}
	fence_sent(context);
	enter_gl(virgl);
	ret = virgl_renderer_context_create_fence(
		name->ctx_id, 0, (uint32_t)name->ring, name->fence_id);
	leave_gl(virgl);
	if (ret != 0) {
		fence_came_back(virgl, name->ctx_id);
	}
	update_timer(virgl);
	return to_errno(ret);
}

static void retire_signalled(struct vgf_virgl *virgl)
{
	/* Inside a driver's submit it is up to who called that. */
	if (retires_at_once(virgl) && !virgl->ended) {
		vgf_device_retire(virgl->device);
	}
}

void global_fence_signalled(struct vgf_virgl *virgl, uint32_t fence_id)
{
	const struct vgf_fence_name name = { .fence_id = fence_id, .ring = VGF_RING_GLOBAL };

	gl_fence_signalled(virgl, &name);
	retire_signalled(virgl);
}

static void other_fence_signalled(struct vgf_virgl *virgl, const struct vgf_fence_name *name)
{
	int status = worker_status(virgl, name->ctx_id);

	fence_came_back(virgl, name->ctx_id);
	if (status == 0) {
		status = native_fence_error(virgl, name->fence_id);
	}
	vgf_fence_signal(virgl->device, name, status);
}

void context_fence_signalled(
	struct vgf_virgl *virgl, uint32_t ctx_id, uint32_t ring_idx, uint64_t fence_id)
{
	const struct vgf_fence_name name = {
		.fence_id = fence_id,
		.ctx_id = ctx_id,
		.ring = (int32_t)ring_idx,
	};

	if (!gl_fence_signalled(virgl, &name)) {
		other_fence_signalled(virgl, &name);
	}
	retire_signalled(virgl);
}

bool list_pending(
	struct vgf_virgl *virgl, uint32_t ctx_id, struct vgf_pending **pending, size_t *count)
{
	size_t room = vgf_context_list_pending(virgl->device, ctx_id, NULL, 0);

	*pending = NULL;
	*count = 0;
	if (room == 0) {
		return true;
	}
	*pending = calloc(room, sizeof(**pending));
	if (!*pending) {
		return false;
	}
	/* By now some may have retired, in virglrenderer's thread. */
	*count = vgf_context_list_pending(virgl->device, ctx_id, *pending, room);
	if (*count > room) {
		*count = room;
	}
	return true;
}

static bool waits_for_call(const struct vgf_pending *pending)
{
	return pending->fence.ring != VGF_RING_GLOBAL && !pending->held && !pending->has_fd &&
		!pending->signalled;
}

bool waits_for_calls(const struct virgl_context *context)
{
	struct vgf_pending *pending;
	bool waits = false;
	size_t count;

	if (!list_pending(context->virgl, context->ctx_id, &pending, &count)) {
		return true;
	}
	for (size_t i = 0; i < count && !waits; i++) {
		waits = waits_for_call(&pending[i]);
	}
	free(pending);
	return waits;
}

/* With no memory to tell its fences apart, all of them; and those of other contexts of this ID that
 * the VMM has destroyed. */
static void cancel_context(const struct virgl_context *context, int error)
{
	uint32_t which = context->closed ? VGF_CANCEL_DESTROYED : VGF_CANCEL_OPEN;

	vgf_context_cancel(
		context->virgl->device, context->ctx_id, which | VGF_CANCEL_RUNNING, error);
}

void end_lost_fences(struct virgl_context *context, int error)
{
	struct vgf_virgl *virgl = context->virgl;
	struct vgf_pending *pending;
	size_t count;

	if (!list_pending(virgl, context->ctx_id, &pending, &count)) {
		cancel_context(context, error);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		const struct vgf_pending *p = &pending[i];
		if (waits_for_call(p)) {
			vgf_fence_signal(virgl->device, &p->fence, error);
		}
	}
	free(pending);
}

/* ---- What a VMM makes --------------------------------------------------------------------- */

bool can_retire_context_fences(const struct vgf_virgl *virgl)
{
	return virgl->more.retire || virgl->vmm.write_context_fence;
}

/* A fence behind what was submitted before. Returns 0 if it will retire. */
static int submit_fence(struct vgf_virgl *virgl, const struct vgf_fence_name *name, uint32_t flags)
{
	const struct vgf_submission submission = {
		.fence = *name,
		.flags = flags | VGF_FENCED,
	};
	bool will_retire;
	int ret = vgf_submit(virgl->device, &submission, &will_retire);

	return will_retire ? 0 : ret;
}

/* From virglrenderer's flags and ours; -EINVAL for others. */
static int to_fence_flags(uint32_t flags, uint32_t *fence_flags)
{
	const uint32_t known = VIRGL_RENDERER_FENCE_FLAG_MERGEABLE | VGF_VIRGL_FENCE_SHAREABLE;

	*fence_flags = (flags & VIRGL_RENDERER_FENCE_FLAG_MERGEABLE ? VGF_MERGEABLE : 0) |
		(flags & VGF_VIRGL_FENCE_SHAREABLE ? VGF_SHAREABLE : 0);
	return flags & ~known ? -EINVAL : 0;
}

VGF_EXPORT int vgf_virgl_context_create_fence(struct vgf_virgl *virgl, uint32_t ctx_id,
	uint32_t flags, uint32_t ring_idx, uint64_t fence_id)
{
	const struct vgf_fence_name name = {
		.fence_id = fence_id,
		.ctx_id = ctx_id,
		.ring = (int32_t)ring_idx,
	};
	uint32_t fence_flags;

	assert_thread(virgl);
	if (ring_idx >= VGF_MAX_RINGS) {
		plugin_log(virgl,
			"context %" PRIu32 " ring %" PRIu32 " fence %" PRIu64
			": refused: a context has %d rings",
			ctx_id, ring_idx, fence_id, VGF_MAX_RINGS);
		return -EINVAL;
	}
	if (to_fence_flags(flags, &fence_flags) < 0 || !can_retire_context_fences(virgl)) {
		return -EINVAL;
	}
	return submit_fence(virgl, &name, fence_flags);
}

VGF_EXPORT int vgf_virgl_create_fence(
	struct vgf_virgl *virgl, uint64_t client_fence_id, uint32_t ctx_id, uint32_t flags)
{
	const struct vgf_fence_name name = {
		.fence_id = client_fence_id,
		.ctx_id = ctx_id,
		.ring = VGF_RING_GLOBAL,
	};
	uint32_t fence_flags;
	int ret;

	assert_thread(virgl);
	if (to_fence_flags(flags, &fence_flags) < 0) {
		return -EINVAL;
	}
	if (find_context(virgl, ctx_id)) {
		return submit_fence(virgl, &name, fence_flags);
	}
	ret = vgf_fence_create_take(virgl->device, &name, fence_flags, NULL, VGF_FENCE_BY_CALL);
	if (ret == 0) {
		int error = send_gl_fence(virgl, NULL, &name);
		if (error < 0) {
			vgf_fence_signal(virgl->device, &name, error);
		}
	}
	return ret;
}

VGF_EXPORT int vgf_virgl_export_fence(struct vgf_virgl *virgl, uint64_t client_fence_id, int *fd)
{
	assert_thread(virgl);
	return vgf_fence_export(virgl->device, VGF_HOST, client_fence_id, fd);
}
