/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGFENCE_SYNCOBJ_H
#define VGFENCE_SYNCOBJ_H

/*
 * For context drivers that submit to a kernel GPU driver: DRM sync objects (syncobjs) from and to
 * sync files. These functions are in the library if it was built with libdrm.
 *
 * A syncobj is named by a DRM descriptor and a handle, and holds one fence, which can be replaced
 * (binary), or a timeline: fences at points that grow. Points start at 1; in place of a point, 0
 * means a binary syncobj. A point is submitted once somebody has put a fence there, or at a later
 * one, and signals with that fence and all of the points before. Points must be added in rising
 * order: the kernel accepts others, but then does not say what it makes of them.
 *
 * In the driver's submit:
 *   - vgf_syncobj_import_job, and the syncobj goes to the kernel's submission to be waited for;
 *   - the kernel's submission puts its fence into a syncobj, from which
 *     vgf_syncobj_export_sync_file makes what is written to *out_fence_fd;
 *   - or, if the kernel gets that fence only later (a submission queue, a point that another
 *     process adds): the answer is VGF_FENCE_BY_CALL, and vgf_syncobj_notify with
 *     VGF_SYNCOBJ_SUBMITTED says when to export it and to call vgf_fence_publish_take. If no GPU
 *     has to wait for the fence, an eventfd for VGF_SYNCOBJ_SIGNALLED can be the out-fence.
 *
 * Every function may be called from any thread; none keeps state. A parameter whose name ends in
 * `fd` is borrowed for the call. Errors of all functions with a drm_fd: -EBADF, -ENOTTY if it is
 * no DRM device, -EOPNOTSUPP if the device has no syncobjs or, with a point, no timelines;
 * -ENOENT for a handle that it does not have; -ENOMEM. The kernel's calls are those of <drm.h>,
 * Linux 5.2.
 */

#include <stdint.h>

#include <vgfence/context_driver.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a device and its kernel have. */
enum vgf_syncobj_features {
	VGF_SYNCOBJ_BINARY = 1u << 0,
	VGF_SYNCOBJ_TIMELINE = 1u << 1,
	VGF_SYNCOBJ_EVENTFD = 1u << 2, /* vgf_syncobj_notify: Linux 6.6 */
};

/* Asks the kernel. Returns features, 0 for none, or an error. */
int vgf_syncobj_probe(int drm_fd);

/* Makes a syncobj without a fence. handle: set to it, or to 0, which no syncobj has. */
int vgf_syncobj_create(int drm_fd, uint32_t *handle);

/* What the kernel was told to wait for stays. Handle 0 is fine. */
void vgf_syncobj_destroy(int drm_fd, uint32_t handle);

/*
 * Puts the fence of a sync file into a syncobj, in place of what it holds, or at a point. If
 * fence_fd is -1 (VGF_FENCE_DONE), that is one that has signalled.
 *
 * Returns 0; -ENOTTY also if fence_fd is no sync file; -EBADF for either.
 */
int vgf_syncobj_import_sync_file(int drm_fd, uint32_t handle, uint64_t point, int fence_fd);

/*
 * The fence that a syncobj holds now, or of a point, as a sync file: for *out_fence_fd or
 * vgf_fence_publish_take.
 *
 * Returns a close-on-exec sync file that the caller closes; -EAGAIN if none was submitted yet:
 * wait or be notified, and try again; -EMFILE, -ENFILE.
 */
int vgf_syncobj_export_sync_file(int drm_fd, uint32_t handle, uint64_t point);

/*
 * Waits until a fence was submitted, signalled or not, or CLOCK_MONOTONIC reaches deadline_ns,
 * whichever is first. INT64_MAX waits without end, 0 not at all. Not for a thread that must not
 * block: a driver's submit uses vgf_syncobj_notify.
 *
 * Returns 0; -ETIME at the deadline; -EOPNOTSUPP if the device has no timelines, also for a
 * binary syncobj.
 */
int vgf_syncobj_wait_submitted(int drm_fd, uint32_t handle, uint64_t point, int64_t deadline_ns);

enum vgf_syncobj_event {
	VGF_SYNCOBJ_SUBMITTED, /* there is a fence to export */
	VGF_SYNCOBJ_SIGNALLED, /* it has signalled too */
};

/*
 * Adds 1 to an eventfd once that has happened, or at once if it has already. The kernel keeps the
 * eventfd, not the descriptor. If the syncobj is destroyed before (by its last handle in any
 * process), the event never comes.
 *
 * Returns 0; -EOPNOTSUPP also for a kernel before Linux 6.6: wait in a thread of its own; -EINVAL
 * if event_fd is no eventfd; -EBADF for either.
 */
int vgf_syncobj_notify(
	int drm_fd, uint32_t handle, uint64_t point, enum vgf_syncobj_event event, int event_fd);

/*
 * Puts all in-fences of a job, as one fence, into a syncobj or at a point. If the job has none, it
 * puts one there that has signalled, so that the kernel's submission can wait for it in any case.
 *
 * Returns 0, or an error with which the syncobj is as it was. The driver's submit can return it
 * as it is: -EOPNOTSUPP, also if an in-fence is no sync file or drm_fd no DRM device, -EMFILE,
 * -ENFILE and -ENOMEM have the job submitted again, without in-fences, once they have signalled.
 */
int vgf_syncobj_import_job(int drm_fd, uint32_t handle, uint64_t point, const struct vgf_job *job);

/*
 * Puts each in-fence of a job at a point of its own: the first at first_point, the others at those
 * that follow. As points are, the last one waits for all of them.
 *
 * Returns as vgf_syncobj_import_job, also -EINVAL for a first_point of 0 or too near to 2^64.
 * After -ENOMEM, however, some of the points may have been added.
 */
int vgf_syncobj_import_job_points(
	int drm_fd, uint32_t handle, uint64_t first_point, const struct vgf_job *job);

#ifdef __cplusplus
}
#endif

#endif
