/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGFENCE_DRIVER_H
#define VGFENCE_DRIVER_H

/*
 * The interface of context drivers. A context driver runs a context's command streams and makes the
 * fences of their work.
 *
 * Errors are negative errno values. A parameter whose name ends in `fd` is borrowed for the call;
 * a function whose name ends in `_take` owns the descriptor if it succeeds, and leaves it to the
 * caller if it fails; a descriptor that a function returns or writes belongs to the caller. Every function may be
 * called from any thread, and from inside any callback, unless its comment says otherwise.
 */

#include <errno.h>
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

enum vgf_fence_flags {
	/* The submission has an out-fence (VIRTIO_GPU_FLAG_FENCE). vgf_fence_create_take and
	 * vgf_fence_refuse imply it. */
	VGF_FENCED = 1u << 0,
	/* Other contexts may name it as an in-fence (VIRTIO_GPU_FLAG_FENCE_SHAREABLE of the RFC).
	 */
	VGF_SHAREABLE = 1u << 1,
	/* This fence needs no callback of its own if the next one of its timeline has signalled as
	 * well when it retires (VIRGL_RENDERER_FENCE_FLAG_MERGEABLE). A fence with an error always
	 * gets its callback. */
	VGF_MERGEABLE = 1u << 2,
};

/* The way in which a submission waited, or can wait, for its in-fences. */
enum vgf_wait {
	VGF_WAIT_NONE,   /* every in-fence was done */
	VGF_WAIT_DRIVER, /* the driver gets them as descriptors; the GPU driver waits */
	VGF_WAIT_GL,     /* the driver gets them as descriptors; the GL server waits */
	VGF_WAIT_HOST,   /* vgfence holds the work back until the last of them has retired */
};

/* In place of the ID of an in-fence that the VMM gave as a descriptor. No fence has this ID. */
#define VGF_NO_FENCE_ID UINT64_MAX

/* One in-fence that a driver gets. The descriptor polls readable when the fence signals. It is
 * borrowed for the call: a driver that waits later makes its own copy (dup, SYNC_IOC_MERGE). */
struct vgf_in_fence {
	uint64_t fence_id;
	int fd;
};

/* One submission, as a driver gets it. Everything in it is borrowed for the call. */
struct vgf_job {
	struct vgf_fence_name fence; /* fence_id means something only with VGF_FENCED */
	uint32_t flags;              /* of enum vgf_fence_flags */
	enum vgf_wait wait;          /* how it waited; only DRIVER and GL come with in_fences */
	const void *command;         /* the command stream */
	size_t size;                 /* of the command stream, in bytes */
	const struct vgf_in_fence *in_fences; /* those that the driver has to wait for */
	uint32_t num_in_fences;
};

/*
 * Whether vgfence submits the job again after this error of the driver's submit: the job has
 * in-fences, and the error says that the driver cannot take them as descriptors. A driver that may
 * have run a part of the job has to return another error.
 */
static inline bool vgf_job_runs_again(const struct vgf_job *job, int error)
{
	return job->num_in_fences > 0 &&
		(error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -EOPNOTSUPP);
}

/*
 * In place of the descriptor of a fence. Everywhere -1 stands for a fence that has signalled, as in
 * vkGetFenceFdKHR and EGL_ANDROID_native_fence_sync: so what a driver gets from these it can hand
 * on as it is. An error or a driver that makes no descriptor cannot be taken for it.
 */
#define VGF_FENCE_DONE (-1)    /* the work is done when submit returns */
#define VGF_FENCE_BY_CALL (-2) /* vgf_fence_signal or vgf_fence_publish_take will be called */

/*
 * A context driver. The struct is copied by vgf_context_create.
 *
 * Calls for one ring come one at a time and in the order of submission; if rings are not
 * independent, calls for one context do. They come from the thread that called vgf_submit,
 * vgf_context_destroy or vgf_context_defer, or from the dispatching thread. The library holds no
 * lock meanwhile. A call must not block: it would delay the guest's next request, or other fences.
 */
struct vgf_driver {
	size_t size; /* sizeof(struct vgf_driver), as the caller knows it */

	/* VGF_WAIT_DRIVER or VGF_WAIT_GL: submit takes in-fences as descriptors.
	 * VGF_WAIT_HOST (or NONE): it takes none, vgfence holds the work back. */
	enum vgf_wait wait;

	/* Work on one ring does not keep its place among that of other rings. True for native
	 * contexts: their VM_BIND ring must be able to wait while an execution ring runs. */
	bool independent_rings;

	/*
	 * Runs a job. Writes its out-fence to *out_fence_fd: a descriptor that polls readable once
	 * the job is done, or one of the two constants above; if it writes nothing, that is
	 * VGF_FENCE_BY_CALL. vgfence owns the descriptor from then on. If the job has no VGF_FENCED, vgfence closes it unused.
	 *
	 * Returns 0 or a negative errno value. An out-fence that is neither a descriptor nor a
	 * constant counts as -EINVAL. After an error nothing must have run; the out-fence retires
	 * with that error, in its order. If vgf_job_runs_again is true of the error, that is no
	 * failure: vgfence waits for the in-fences and submits the job again without them.
	 */
	int (*submit)(void *data, const struct vgf_job *job, int *out_fence_fd);

	/*
	 * The context is gone; no job follows. If `cancelled` is true, the VMM has given up on this
	 * context's fences too (vgf_device_reset, vgf_device_destroy): the driver must not signal
	 * any of them once this has returned. Otherwise it still signals those whose work runs. May
	 * be NULL.
	 */
	void (*destroy)(void *data, bool cancelled);
};

/*
 * Signals a fence that has no descriptor: its driver answered VGF_FENCE_BY_CALL, or
 * vgf_fence_create_take made it without one. A driver may call this before its submit has returned.
 *
 * name: all of it counts. status: 0, or a negative errno value that the fence retires with.
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
