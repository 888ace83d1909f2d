/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Fences: those that virglrenderer is asked for and calls back about, and those that a VMM makes.
 */

#include "virgl.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- What virglrenderer has --------------------------------------------------------------- */

/* virglrenderer has one less; or none, if they were forgotten. */
void fence_came_back(struct vgf_virgl *virgl)
{
	unsigned int sent = atomic_load(&virgl->sent);

	while (sent > 0 && !atomic_compare_exchange_weak(&virgl->sent, &sent, sent - 1)) {
	}
}

/* Counted before virglrenderer has it, as it may call back at once. */
static int was_sent(struct vgf_virgl *virgl, int ret)
{
	if (ret < 0) {
		fence_came_back(virgl);
	} else {
		update_timer(virgl);
	}
	return ret;
}

int send_context_fence(struct vgf_virgl *virgl, const struct vgf_fence_name *name)
{
	int ret;

	atomic_fetch_add(&virgl->sent, 1);
	/* Each is called back for: merging is the device's, which knows what has retired. */
	enter_gl(virgl);
	ret = virgl_renderer_context_create_fence(
		name->ctx_id, 0, (uint32_t)name->ring, name->fence_id);
	leave_gl(virgl);
	return was_sent(virgl, to_errno(ret));
}

static void unlist_global_fence(struct vgf_virgl *virgl, struct global_fence *fence)
{
	pthread_mutex_lock(&virgl->mutex);
	TAILQ_REMOVE(&virgl->global, fence, link);
	pthread_mutex_unlock(&virgl->mutex);
	free(fence);
}

int send_global_fence(struct vgf_virgl *virgl, const struct vgf_fence_name *name)
{
	struct global_fence *fence = calloc(1, sizeof(*fence));
	int ret;

	if (!fence) {
		return -ENOMEM;
	}
	fence->name = *name;
	pthread_mutex_lock(&virgl->mutex);
	TAILQ_INSERT_TAIL(&virgl->global, fence, link);
	pthread_mutex_unlock(&virgl->mutex);
	atomic_fetch_add(&virgl->sent, 1);
	enter_gl(virgl);
	ret = to_errno(virgl_renderer_create_fence((int)name->fence_id, name->ctx_id));
	leave_gl(virgl);
	if (ret < 0) {
		unlist_global_fence(virgl, fence);
	}
	return was_sent(virgl, ret);
}

/* Several callbacks may have been merged into one for the newest. */
static void take_global_fences(
	struct vgf_virgl *virgl, uint32_t fence_id, struct global_fences *taken)
{
	struct global_fence *fence;

	TAILQ_INIT(taken);
	pthread_mutex_lock(&virgl->mutex);
	TAILQ_FOREACH(fence, &virgl->global, link) {
		if ((uint32_t)fence->name.fence_id == fence_id) {
			break;
		}
	}
	while (fence && !TAILQ_EMPTY(&virgl->global)) {
		struct global_fence *first = TAILQ_FIRST(&virgl->global);
		TAILQ_REMOVE(&virgl->global, first, link);
		TAILQ_INSERT_TAIL(taken, first, link);
		if (first == fence) {
			break;
		}
	}
	pthread_mutex_unlock(&virgl->mutex);
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
	struct global_fences taken;
	struct global_fence *fence;

	take_global_fences(virgl, fence_id, &taken);
	while ((fence = TAILQ_FIRST(&taken))) {
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the one before is off the list. */
		TAILQ_REMOVE(&taken, fence, link);
		fence_came_back(virgl);
		vgf_fence_signal(virgl->device, &fence->name, 0);
		free(fence);
	}
	retire_signalled(virgl);
}

void context_fence_signalled(
	struct vgf_virgl *virgl, uint32_t ctx_id, uint32_t ring_idx, uint64_t fence_id)
{
	const struct vgf_fence_name name = {
		.fence_id = fence_id,
		.ctx_id = ctx_id,
		.ring = (int32_t)ring_idx,
	};

	int status = worker_status(virgl, ctx_id);

	fence_came_back(virgl);
	if (status == 0) {
		status = native_fence_error(virgl, fence_id);
	}
	vgf_fence_signal(virgl->device, &name, status);
	retire_signalled(virgl);
}

bool end_lost_fences(struct vgf_virgl *virgl, uint32_t ctx_id, int error)
{
	size_t count = vgf_context_list_pending(virgl->device, ctx_id, NULL, 0);
	struct vgf_pending *pending = calloc(count + 1, sizeof(*pending));

	if (!pending) {
		return false;
	}
	vgf_context_list_pending(virgl->device, ctx_id, pending, count);
	for (size_t i = 0; i < count; i++) {
		const struct vgf_pending *p = &pending[i];
		if (p->fence.ring != VGF_RING_GLOBAL && !p->held && !p->has_fd && !p->signalled) {
			fence_came_back(virgl);
			vgf_fence_signal(virgl->device, &p->fence, error);
		}
	}
	free(pending);
	return true;
}

void forget_fences(struct vgf_virgl *virgl)
{
	struct global_fence *fence;

	pthread_mutex_lock(&virgl->mutex);
	while ((fence = TAILQ_FIRST(&virgl->global))) {
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the one before is off the list. */
		TAILQ_REMOVE(&virgl->global, fence, link);
		free(fence);
	}
	pthread_mutex_unlock(&virgl->mutex);
	atomic_store(&virgl->sent, 0);
}

/* ---- What a VMM makes --------------------------------------------------------------------- */

static bool can_retire_context_fences(const struct vgf_virgl *virgl)
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
		int error = send_global_fence(virgl, &name);
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
