/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * DRM sync objects by way of libdrm.
 *
 * The kernel exchanges sync files with binary syncobjs alone, so a point goes by way of a binary
 * one that lives for the call.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include <xf86drm.h>

#include <vgfence/context_driver.h>
#include <vgfence/sync_file.h>
#include <vgfence/syncobj.h>

#include "clock.h"
#include "export.h"

/* Since Linux 6.6, and libdrm 2.4.116: include/uapi/drm/drm.h. */
#ifndef DRM_IOCTL_SYNCOBJ_EVENTFD
struct drm_syncobj_eventfd {
	__u32 handle;
	__u32 flags;
	__u64 point;
	__s32 fd;
	__u32 pad;
};
#define DRM_IOCTL_SYNCOBJ_EVENTFD DRM_IOWR(0xCF, struct drm_syncobj_eventfd)
#endif

/* Some functions of libdrm return -1, others the error; all leave it in errno. */
static int result(int ret)
{
	return ret < 0 ? -errno : 0;
}

static bool has_cap(int drm_fd, uint64_t cap)
{
	uint64_t value = 0;

	return drmGetCap(drm_fd, cap, &value) == 0 && value;
}

/* A kernel with the call looks up the handle first. No syncobj has the handle 0. */
static bool has_eventfd(int drm_fd)
{
	struct drm_syncobj_eventfd args = { .fd = -1 };

	return result(drmIoctl(drm_fd, DRM_IOCTL_SYNCOBJ_EVENTFD, &args)) == -ENOENT;
}

VGF_EXPORT int vgf_syncobj_probe(int drm_fd)
{
	uint64_t binary = 0;
	int ret = result(drmGetCap(drm_fd, DRM_CAP_SYNCOBJ, &binary));

	if (ret < 0) {
		return ret;
	}
	if (binary) {
		ret |= VGF_SYNCOBJ_BINARY;
	}
	if (has_cap(drm_fd, DRM_CAP_SYNCOBJ_TIMELINE)) {
		ret |= VGF_SYNCOBJ_TIMELINE;
	}
	if (has_eventfd(drm_fd)) {
		ret |= VGF_SYNCOBJ_EVENTFD;
	}
	return ret;
}

VGF_EXPORT int vgf_syncobj_create(int drm_fd, uint32_t *handle)
{
	*handle = 0;
	return result(drmSyncobjCreate(drm_fd, 0, handle));
}

VGF_EXPORT void vgf_syncobj_destroy(int drm_fd, uint32_t handle)
{
	if (handle != 0) {
		drmSyncobjDestroy(drm_fd, handle);
	}
}

/* The kernel has the same answer for a descriptor that is not open and for one of something else.
 */
static int import_binary(int drm_fd, uint32_t handle, int fence_fd)
{
	int ret;

	if (fence_fd == VGF_FENCE_DONE) {
		return result(drmSyncobjSignal(drm_fd, &handle, 1));
	}
	ret = result(drmSyncobjImportSyncFile(drm_fd, handle, fence_fd));
	if (ret == -EINVAL) {
		return fcntl(fence_fd, F_GETFD) < 0 ? -EBADF : -ENOTTY;
	}
	return ret;
}

/* At points one after the other. */
static int import_points(int drm_fd, uint32_t handle, uint64_t point,
	const struct vgf_in_fence *fences, uint32_t count)
{
	uint32_t binary;
	int ret = vgf_syncobj_create(drm_fd, &binary);

	for (uint32_t i = 0; ret == 0 && i < count; i++) {
		ret = import_binary(drm_fd, binary, fences[i].fd);
		if (ret == 0) {
			ret = result(drmSyncobjTransfer(drm_fd, handle, point + i, binary, 0, 0));
		}
	}
	vgf_syncobj_destroy(drm_fd, binary);
	return ret;
}

VGF_EXPORT int vgf_syncobj_import_sync_file(
	int drm_fd, uint32_t handle, uint64_t point, int fence_fd)
{
	const struct vgf_in_fence fence = { .fd = fence_fd };

	if (point == 0) {
		return import_binary(drm_fd, handle, fence_fd);
	}
	return import_points(drm_fd, handle, point, &fence, 1);
}

/* -EINVAL is the kernel's way to say that there is no fence. */
static int not_submitted(int error)
{
	return error == -EINVAL ? -EAGAIN : error;
}

static int export_binary(int drm_fd, uint32_t handle)
{
	int fence_fd = -1;
	int ret = result(drmSyncobjExportSyncFile(drm_fd, handle, &fence_fd));

	return ret < 0 ? not_submitted(ret) : fence_fd;
}

VGF_EXPORT int vgf_syncobj_export_sync_file(int drm_fd, uint32_t handle, uint64_t point)
{
	uint32_t binary;
	int ret;

	if (point == 0) {
		return export_binary(drm_fd, handle);
	}
	ret = vgf_syncobj_create(drm_fd, &binary);
	if (ret < 0) {
		return ret;
	}
	ret = result(drmSyncobjTransfer(drm_fd, binary, 0, handle, point, 0));
	ret = ret < 0 ? not_submitted(ret) : export_binary(drm_fd, binary);
	vgf_syncobj_destroy(drm_fd, binary);
	return ret;
}

/* WAIT_AVAILABLE alone should do, but some kernels refuse it for a point without a fence. The
 * kernel reckons in ticks, and gives up early if these come late. */
VGF_EXPORT int vgf_syncobj_wait_submitted(
	int drm_fd, uint32_t handle, uint64_t point, int64_t deadline_ns)
{
	const unsigned int flags = DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT |
		DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE;
	int ret;

	do {
		ret = result(drmSyncobjTimelineWait(
			drm_fd, &handle, &point, 1, deadline_ns, flags, NULL));
	} while (ret == -ETIME && (int64_t)now_ns() < deadline_ns);
	return ret;
}

/* To calls that it does not know, DRM says -EINVAL, as it does of a descriptor that is no eventfd.
 */
VGF_EXPORT int vgf_syncobj_notify(
	int drm_fd, uint32_t handle, uint64_t point, enum vgf_syncobj_event event, int event_fd)
{
	struct drm_syncobj_eventfd args = {
		.handle = handle,
		.flags = event == VGF_SYNCOBJ_SUBMITTED ? DRM_SYNCOBJ_WAIT_FLAGS_WAIT_AVAILABLE : 0,
		.point = point,
		.fd = event_fd,
	};
	int ret = result(drmIoctl(drm_fd, DRM_IOCTL_SYNCOBJ_EVENTFD, &args));

	return ret == -EINVAL && !has_eventfd(drm_fd) ? -EOPNOTSUPP : ret;
}

/* For a driver's submit: a fence that the kernel cannot wait for is waited for on the host. */
static int submit_error(int error)
{
	return error == -ENOTTY ? -EOPNOTSUPP : error;
}

static int signal_syncobj(int drm_fd, uint32_t handle, uint64_t point)
{
	if (point == 0) {
		return result(drmSyncobjSignal(drm_fd, &handle, 1));
	}
	return result(drmSyncobjTimelineSignal(drm_fd, &handle, &point, 1));
}

static int merge_in_fences(const struct vgf_job *job)
{
	int *fence_fds = calloc(job->num_in_fences, sizeof(*fence_fds));
	int merged;

	if (!fence_fds) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < job->num_in_fences; i++) {
		fence_fds[i] = job->in_fences[i].fd;
	}
	merged = vgf_sync_file_merge(fence_fds, job->num_in_fences);
	free(fence_fds);
	return merged;
}

VGF_EXPORT int vgf_syncobj_import_job(
	int drm_fd, uint32_t handle, uint64_t point, const struct vgf_job *job)
{
	int merged, ret;

	if (job->num_in_fences == 0) {
		return submit_error(signal_syncobj(drm_fd, handle, point));
	}
	merged = merge_in_fences(job);
	if (merged == -EALREADY) {
		return submit_error(signal_syncobj(drm_fd, handle, point));
	}
	if (merged < 0) {
		return submit_error(merged);
	}
	ret = vgf_syncobj_import_sync_file(drm_fd, handle, point, merged);
	close(merged);
	return submit_error(ret);
}

/* Points cannot be taken back, so what is no sync file must come out before the first. */
static int check_in_fences(const struct vgf_job *job)
{
	for (uint32_t i = 0; i < job->num_in_fences; i++) {
		int fence_fd = job->in_fences[i].fd;
		int ret = fence_fd == VGF_FENCE_DONE ? 0 : vgf_sync_file_info(fence_fd, NULL, 0);

		if (ret < 0) {
			return ret;
		}
	}
	return 0;
}

VGF_EXPORT int vgf_syncobj_import_job_points(
	int drm_fd, uint32_t handle, uint64_t first_point, const struct vgf_job *job)
{
	int ret;

	if (first_point == 0 || job->num_in_fences > UINT64_MAX - first_point) {
		return -EINVAL;
	}
	ret = check_in_fences(job);
	if (ret == 0) {
		ret = import_points(
			drm_fd, handle, first_point, job->in_fences, job->num_in_fences);
	}
	return submit_error(ret);
}
