/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <vgfence/dma_buf.h>

#include "attach.h"
#include "error_name.h"
#include "export.h"
#include "lock.h"
#include "log.h"
#include "place.h"

void attach_all(struct vgf_device *device, struct fence *fence)
{
	struct attachment *attachment;

	while ((attachment = fence_detach(&device->fences, fence))) {
		int ret = vgf_dma_buf_import_sync_file(
			attachment->dma_buf_fd, attachment->access, fence->fd);
		if (ret < 0) {
			struct vgf_fence_name full_name = fence_name(fence);
			char name[NAME_SIZE];
			device_log(device, VGF_LOG_ERROR, "%s: not put on its dma-buf (%s)",
				name_text(name, &full_name), error_name(ret));
		}
	}
}

void attach_check(struct vgf_device *device, const struct fence *fence)
{
	if (!SLIST_EMPTY(&fence->attachments)) {
		struct vgf_fence_name full_name = fence_name(fence);
		char name[NAME_SIZE];
		device_log(device, VGF_LOG_WARNING,
			"%s: retired without a descriptor, so its dma-buf never had it",
			name_text(name, &full_name));
	}
}

/* Whether it is a dma-buf and the kernel knows the calls: makes one that changes nothing. */
static int check_dma_buf(int dma_buf_fd, uint32_t access)
{
	int fd = vgf_dma_buf_export_sync_file(dma_buf_fd, access);

	if (fd < 0) {
		return fd;
	}
	close(fd);
	return 0;
}

/* Locked. Owns the attachment if it returns 1. */
static int attach(struct vgf_device *device, uint32_t ctx_id, uint64_t fence_id,
	struct attachment *attachment)
{
	struct fence *fence;
	int ret = place_look_up_work(device, ctx_id, fence_id, &fence);

	if (ret < 0) {
		return ret;
	}
	if (!fence) {
		return -EALREADY;
	}
	if (fence->fd >= 0) {
		ret = vgf_dma_buf_import_sync_file(
			attachment->dma_buf_fd, attachment->access, fence->fd);
		return ret < 0 ? ret : 0;
	}
	if (!ctx_sync_has_room(&device->contexts, fence->owner, 1, false)) {
		return -EMFILE;
	}
	fence_attach(&device->fences, fence, attachment);
	return 1;
}

VGF_EXPORT int vgf_fence_attach_dma_buf(struct vgf_device *device, uint32_t ctx_id,
	uint64_t fence_id, int dma_buf_fd, uint32_t access)
{
	struct attachment *attachment;
	int ret = check_dma_buf(dma_buf_fd, access);

	if (ret < 0) {
		return ret;
	}
	attachment = malloc(sizeof(*attachment));
	if (!attachment) {
		return -ENOMEM;
	}
	attachment->access = access;
	attachment->dma_buf_fd = fcntl(dma_buf_fd, F_DUPFD_CLOEXEC, 0);
	if (attachment->dma_buf_fd < 0) {
		ret = -errno;
		free(attachment);
		return ret;
	}
	device_lock(device);
	ret = attach(device, ctx_id, fence_id, attachment);
	device_unlock(device);
	if (ret != 1) {
		attachment_free(attachment);
	}
	return ret;
}
