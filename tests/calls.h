/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef CALLS_H
#define CALLS_H

/* Calls of the library as most tests make them: descriptors are gone afterwards, whatever comes of
 * it, and the host itself asks. */

#include <errno.h>
#include <unistd.h>

#include <vgfence/vgfence.h>

/* A descriptor that was handed over: it is the library's, or still ours. */
static inline int end_take(int ret, int fence_fd)
{
	if (ret < 0 && fence_fd >= 0) {
		close(fence_fd);
	}
	return ret;
}

static inline int create_take(
	struct vgf_device *device, const struct vgf_fence_name *name, uint32_t flags, int fence_fd)
{
	return end_take(vgf_fence_create_take(device, name, flags, NULL, fence_fd), fence_fd);
}

static inline int publish_take(
	struct vgf_device *device, const struct vgf_fence_name *name, int fence_fd)
{
	return end_take(vgf_fence_publish_take(device, name, fence_fd), fence_fd);
}

/* A descriptor, or an error: -EALREADY if the fence has signalled. */
static inline int export_fence(struct vgf_device *device, uint64_t fence_id)
{
	int fence_fd;
	int ret = vgf_fence_export(device, VGF_HOST, fence_id, &fence_fd);

	return ret < 0 ? ret : fence_fd < 0 ? -EALREADY : fence_fd;
}

/* What is held back of all contexts with this ID. */
static inline int cancel_context(struct vgf_device *device, uint32_t ctx_id)
{
	return vgf_context_cancel(
		device, ctx_id, VGF_CANCEL_OPEN | VGF_CANCEL_DESTROYED, -ECANCELED);
}

#endif
