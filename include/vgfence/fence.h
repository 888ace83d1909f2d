/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGFENCE_FENCE_H
#define VGFENCE_FENCE_H

/*
 * What VMMs and context drivers have in common: the names of fences, and how a fence is signalled.
 *
 * Errors are negative errno values. A parameter whose name ends in `fd` is borrowed for the call; a
 * function whose name ends in `_take` owns the descriptor if it succeeds, and leaves it to the
 * caller if it fails; a descriptor that a function returns or writes belongs to the caller. Every
 * function may be called from any thread, and from inside any callback, unless its comment says
 * otherwise.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vgf_device;

/* Rings of one context: the virtio specification (5.7.6.7, CONTEXT_INIT) allows 64. */
#define VGF_MAX_RINGS 64

/* In place of a ring: the fence is on the device's global timeline. A guest asks for that by not
 * setting VIRTIO_GPU_FLAG_INFO_RING_IDX. */
#define VGF_RING_GLOBAL (-1)

/*
 * The name of a fence. A timeline is one (ctx_id, ring), or the global one; the IDs on it grow. The
 * same ID may be pending on several timelines: the virtio specification allows it, but Linux does
 * not do it.
 */
struct vgf_fence_name {
	uint64_t fence_id;
	uint32_t ctx_id; /* with VGF_RING_GLOBAL: the context whose work it is, 0 for none */
	int32_t ring;    /* 0 to VGF_MAX_RINGS - 1, or VGF_RING_GLOBAL */
};

/* In place of the ID of an in-fence that the VMM gave as a descriptor. No fence has this ID. */
#define VGF_NO_FENCE_ID UINT64_MAX

enum vgf_fence_flags {
	/* The submission has an out-fence (VIRTIO_GPU_FLAG_FENCE). vgf_fence_create_take and
	 * vgf_fence_refuse imply it. */
	VGF_FENCED = 1u << 0,
	/* Other contexts may name it as an in-fence (VIRTIO_GPU_FLAG_FENCE_SHAREABLE). */
	VGF_SHAREABLE = 1u << 1,
	/* This fence needs no callback of its own if the next one of its timeline has signalled as
	 * well when it retires (VIRGL_RENDERER_FENCE_FLAG_MERGEABLE). A fence with an error always
	 * gets its callback. */
	VGF_MERGEABLE = 1u << 2,
	/* This fence may take as long as it likes, as it stands for something that need not come: a
	 * message of somebody's. It is never reported as stalled. */
	VGF_PATIENT = 1u << 3,
};

/*
 * In place of the descriptor of a fence. Everywhere -1 stands for a fence that has signalled, as in
 * vkGetFenceFdKHR and EGL_ANDROID_native_fence_sync: so what a driver gets from these it can hand
 * on as it is. An error or a driver that makes no descriptor cannot be taken for it.
 */
#define VGF_FENCE_DONE (-1)    /* the work is done when submit returns */
#define VGF_FENCE_BY_CALL (-2) /* vgf_fence_signal or vgf_fence_publish_take will be called */

/*
 * Signals a fence that has no descriptor: its driver answered VGF_FENCE_BY_CALL, or
 * vgf_fence_create_take made it without one. A driver may call this before its submit has returned.
 * Of the VMM's callbacks only log comes from inside it, unless the VMM has signal_enter, which see:
 * so hold no lock that a VMM's callbacks may come to need.
 *
 * name: all of it counts, and nothing else. If the fence was given up on (vgf_fence_cancel,
 * vgf_timeline_cancel, VGF_CANCEL_RUNNING) and its context is gone, a new context with that ID may
 * have a fence of the same name, which this would signal. So a driver must be done with what was
 * given up on before the ID of the context is used again; the same holds for
 * vgf_fence_publish_take. status: 0, or a negative errno value that the fence retires with.
 *
 * Returns 0; -ENOENT if no such fence is pending (never made, or retired); -EALREADY if
 * it was signalled or cancelled before; -EINVAL for a status above 0.
 */
int vgf_fence_signal(struct vgf_device *device, const struct vgf_fence_name *name, int status);

/*
 * Gives a descriptor to a fence that has none. vgf_fence_signal is not needed any more. Drivers
 * that take sync files can then get the work that waits for the fence. -1 signals the fence. If
 * this succeeds it owns fence_fd; after an error the caller still does.
 *
 * Returns 0; -ENOENT as above; -EEXIST if it has a descriptor; -EALREADY if it was signalled;
 * -EBADF or -EPERM for a descriptor that cannot be polled; -EMFILE at max_fds or max_context_fds:
 * keep the descriptor and signal the fence by call, or try again when another one has retired.
 */
int vgf_fence_publish_take(
	struct vgf_device *device, const struct vgf_fence_name *name, int fence_fd);

#ifdef __cplusplus
}
#endif

#endif
