/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGFENCE_CONTEXT_DRIVER_H
#define VGFENCE_CONTEXT_DRIVER_H

/*
 * The interface of context drivers. A context driver runs a context's command streams and makes the
 * fences of their work. The rules of <vgfence/fence.h> hold here, too.
 */

#include <errno.h>

#include <vgfence/fence.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The way in which a submission waited, or can wait, for its in-fences. */
enum vgf_wait {
	VGF_WAIT_NONE,   /* every in-fence was done */
	VGF_WAIT_DRIVER, /* the driver gets them, and the GPU driver waits */
	VGF_WAIT_GL,     /* the driver gets them, and the GL server waits */
	VGF_WAIT_HOST,   /* vgfence holds the work back until the last of them has retired */
};

/*
 * One in-fence that a driver gets. The descriptor polls readable when the fence signals. It is
 * borrowed for the call: a driver that waits later makes its own copy (dup, SYNC_IOC_MERGE).
 *
 * A fence ID stands for all that is before it on its timeline, too. A driver has to do the work of
 * one context on one ring in its order, and the descriptors that a VMM puts there
 * (vgf_fence_create_take) have to signal in it: so it is enough to wait for the last one. Otherwise
 * a fence comes to a driver only once it is the oldest of its timeline. That is so for every fence
 * on the global timeline, for one that is VGF_PATIENT or that its VMM signals by call, and for what
 * was added behind such a one, or behind work of an earlier context with that ID.
 */
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

	/* More of them, without a descriptor: fences of its family that its drivers have answered
	 * for and vgfence has no signal of. One that the family does not know any more is done, or
	 * was given up on, and its signal is on its way. */
	const struct vgf_fence_name *family_fences;
	uint32_t num_family_fences;
};

/*
 * Whether vgfence submits the job again after this error of the driver's submit: the job has
 * in-fences, and the error says that the driver cannot take them. A driver that may have run a part
 * of the job has to return another error.
 */
static inline bool vgf_job_runs_again(const struct vgf_job *job, int error)
{
	return (job->num_in_fences > 0 || job->num_family_fences > 0) &&
		(error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -EOPNOTSUPP);
}

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

	/* VGF_WAIT_DRIVER or VGF_WAIT_GL: submit takes in-fences as descriptors, and those of its
	 * family. VGF_WAIT_HOST (or NONE): it takes none, vgfence holds the work back. */
	enum vgf_wait wait;

	/* Work on one ring does not keep its place among that of other rings. True for native
	 * contexts: their VM_BIND ring must be able to wait while an execution ring runs. */
	bool independent_rings;

	/*
	 * Runs a job. Writes its out-fence to *out_fence_fd: a descriptor that polls readable once
	 * the job is done, or VGF_FENCE_DONE or VGF_FENCE_BY_CALL of <vgfence/fence.h>; if it
	 * writes nothing, that is VGF_FENCE_BY_CALL. If this returns 0, vgfence owns the
	 * descriptor, and closes it unused if the job has no VGF_FENCED. After an error what was
	 * written is not looked at: the driver closes a descriptor that it has made.
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

	/*
	 * NULL, or any address that contexts have in common whose drivers know each other's fences
	 * by name, because one GPU scheduler or one GL server has the work of all of them. Such a
	 * driver answers VGF_FENCE_BY_CALL, and no fence needs a descriptor for the sake of the
	 * family: once submit has returned 0, and until the fence is signalled, it is as good as
	 * one with a descriptor to a driver of the family that takes in-fences, and comes among the
	 * family_fences of its jobs. In-fences that have a descriptor come as descriptors.
	 */
	const void *family;
};

#ifdef __cplusplus
}
#endif

#endif
