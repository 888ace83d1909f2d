/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGFENCE_DRIVER_H
#define VGFENCE_DRIVER_H

/*
 * For context drivers: what runs a context's command streams, and the fences it makes.
 *
 * Errors are negative errno values. A parameter whose name ends in `fd` is borrowed for the call;
 * a function whose name ends in `_take` owns the descriptor from the call on, also when it fails;
 * a descriptor that a function returns or writes belongs to the caller. Every function may be
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

/* Rings of one context: struct virtio_gpu_ctrl_hdr has a byte for the index, and the virtio
 * specification (5.7.6.7, CONTEXT_INIT) bounds it by 64. */
#define VGF_MAX_RINGS 64

/* In place of a ring: the fence is on the device's global timeline
 * (VIRTIO_GPU_FLAG_INFO_RING_IDX was not set). */
#define VGF_RING_GLOBAL (-1)

/*
 * What names a fence. On one timeline, that is (ctx_id, ring) or the global one, IDs grow. The same
 * ID may be pending on several timelines: the virtio specification allows it, Linux does not do it.
 */
struct vgf_fence_name {
	uint64_t fence_id;
	uint32_t ctx_id; /* with VGF_RING_GLOBAL: the context whose work it is, 0 for none */
	int32_t ring;    /* 0 to VGF_MAX_RINGS - 1, or VGF_RING_GLOBAL */
};

enum vgf_fence_flags {
	/* The submission has an out-fence (VIRTIO_GPU_FLAG_FENCE). Implied for vgf_fence_create. */
	VGF_FENCED = 1u << 0,
	/* Other contexts may name it as an in-fence (VIRTIO_GPU_FLAG_FENCE_SHAREABLE of the RFC).
	 */
	VGF_SHAREABLE = 1u << 1,
	/* When later fences of its timeline retire in the same batch, this one needs no callback
	 * of its own (VIRGL_RENDERER_FENCE_FLAG_MERGEABLE). A fence with an error keeps its own. */
	VGF_MERGEABLE = 1u << 2,
};

/* How a submission waited, or can wait, for its in-fences. */
enum vgf_wait {
	VGF_WAIT_NONE,   /* every in-fence was done */
	VGF_WAIT_DRIVER, /* handed over as sync files; the GPU driver waits */
	VGF_WAIT_GL,     /* handed over as sync files; the GL server waits (EGL native fences) */
	VGF_WAIT_HOST,   /* held back by vgfence until the last of them had signalled */
};

/* In place of a fence ID: an in-fence that the VMM gave as a descriptor. No fence has this ID. */
#define VGF_NO_FENCE_ID UINT64_MAX

/* One in-fence handed to a driver. The descriptor polls readable when the fence signals. It is
 * borrowed for the call: a driver that waits later makes its own copy (dup, SYNC_IOC_MERGE). */
struct vgf_in_fence {
	uint64_t fence_id;
	int fd;
};

/* One submission, as a driver gets it. Everything is borrowed for the call. */
struct vgf_job {
	struct vgf_fence_name fence; /* fence_id is meaningful where flags has VGF_FENCED */
	uint32_t flags;              /* of enum vgf_fence_flags */
	enum vgf_wait wait;          /* how it waited; with DRIVER and GL in_fences has entries */
	const void *command;         /* the command stream */
	size_t size;                 /* of the command stream, in bytes */
	const struct vgf_in_fence *in_fences; /* what is still to be waited for */
	uint32_t num_in_fences;
};

/*
 * Whether this answer of a driver's submit has the job submitted again, once its in-fences have
 * signalled: it has some, and the error says that they cannot be taken as descriptors. A driver
 * that may have run part of the job has to return another error.
 */
static inline bool vgf_job_runs_again(const struct vgf_job *job, int error)
{
	return job->num_in_fences > 0 &&
		(error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -EOPNOTSUPP);
}

/* What a driver writes to *out_fence_fd in place of a descriptor. */
#define VGF_FENCE_BY_CALL (-1) /* vgf_fence_signal, or vgf_fence_publish_take, will follow */
#define VGF_FENCE_DONE (-2)    /* the work was done when submit returned */

/*
 * A context driver. The struct is copied by vgf_context_create.
 *
 * Calls for one ring, or for one context where rings are not independent, come one at a time and
 * in the order of submission, from the thread that called vgf_submit or from the dispatching
 * thread, and with no lock of the library held. A call must not block: it delays the guest's next
 * request or the retiring of other fences.
 */
struct vgf_driver {
	/* VGF_WAIT_DRIVER or VGF_WAIT_GL: submit takes in-fences as descriptors.
	 * VGF_WAIT_HOST (or NONE): it takes none, vgfence holds the work back. */
	enum vgf_wait wait;

	/* Work on one ring need not keep its place among that of other rings. True for native
	 * contexts, where a VM_BIND ring must be able to wait while an execution ring runs. */
	bool independent_rings;

	/*
	 * Runs a job. Writes its out-fence to *out_fence_fd: a descriptor that polls readable once
	 * the job is done and that belongs to vgfence from then on, or one of the two constants
	 * above. Without VGF_FENCED a descriptor is closed unused.
	 *
	 * Returns 0 or a negative errno value; an answer that is neither a descriptor nor a
	 * constant counts as -EINVAL. After an error nothing has run: the out-fence retires with
	 * that error, in its order. The errors of vgf_job_runs_again are no failure: the job is
	 * submitted again without in-fences once they have signalled.
	 */
	int (*submit)(void *data, const struct vgf_job *job, int *out_fence_fd);

	/*
	 * The context is gone and nothing more will be submitted. With `cancelled` the VMM has
	 * given up on this context's fences too (vgf_device_reset, vgf_device_destroy): once this
	 * returns, the driver signals none of them any more. Otherwise it signals those that are
	 * still running. May be NULL.
	 */
	void (*destroy)(void *data, bool cancelled);
};

/*
 * Signals a fence that has no descriptor: one whose driver answered VGF_FENCE_BY_CALL (this may
 * come before its submit has returned), or one that vgf_fence_create_take got without.
 *
 * name: all of it. status: 0, or a negative errno value that the fence retires with.
 *
 * Returns 0; -ENOENT where no such fence is pending (never made, or retired); -EALREADY where
 * it was signalled or cancelled before; -EINVAL for a status above 0.
 */
int vgf_fence_signal(struct vgf_device *device, const struct vgf_fence_name *name, int status);

/*
 * Gives a fence that would have been signalled by call a descriptor instead. Work that waits for
 * the fence can then be handed to drivers that take sync files. Owns fence_fd from the call on.
 *
 * Returns 0; -ENOENT as above; -EEXIST where it has a descriptor; -EALREADY where it was signalled;
 * -EBADF or -EPERM for a descriptor that cannot be polled; -EMFILE where the device's budget of
 * descriptors is used up (signal it by call instead).
 */
int vgf_fence_publish_take(
	struct vgf_device *device, const struct vgf_fence_name *name, int fence_fd);

/*
 * A descriptor for a pending fence, by its ID alone as in-fences are named: for display
 * (IN_FENCE_FD of KMS), a Wayland proxy, a dma-buf. Returns a close-on-exec descriptor that the
 * caller closes; -EALREADY where the fence has signalled: there is nothing to wait for; -EAGAIN
 * where it has no descriptor yet; -ENOENT for an ID the device has not seen; -ENOTUNIQ where
 * fences of several timelines have this ID; -EMFILE.
 */
int vgf_fence_export(struct vgf_device *device, uint64_t fence_id);

#ifdef __cplusplus
}
#endif

#endif
