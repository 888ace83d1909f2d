/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Sync files from and to the fences on a dma-buf. As with sync files, the kernel is asked what a
 * descriptor is by making the call.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/ioctl.h>

#include <linux/dma-buf.h>

#include <vgfence/dma_buf.h>
#include <vgfence/fence.h>

#include "export.h"

/* Since Linux 6.0: include/uapi/linux/dma-buf.h. */
#ifndef DMA_BUF_IOCTL_EXPORT_SYNC_FILE
struct dma_buf_export_sync_file {
	__u32 flags;
	__s32 fd;
};
struct dma_buf_import_sync_file {
	__u32 flags;
	__s32 fd;
};
#define DMA_BUF_IOCTL_EXPORT_SYNC_FILE _IOWR(DMA_BUF_BASE, 2, struct dma_buf_export_sync_file)
#define DMA_BUF_IOCTL_IMPORT_SYNC_FILE _IOW(DMA_BUF_BASE, 3, struct dma_buf_import_sync_file)
#endif

/* An access is handed to the kernel as it is. */
_Static_assert((uint32_t)VGF_ACCESS_READ == DMA_BUF_SYNC_READ, "VGF_ACCESS_READ");
_Static_assert((uint32_t)VGF_ACCESS_WRITE == DMA_BUF_SYNC_WRITE, "VGF_ACCESS_WRITE");

/* Of the kernel's answers those that say something of a dma-buf. What is none may have others to
 * a call that it does not know. */
static int dma_buf_ioctl(int fd, unsigned long request, void *arg)
{
	int ret;

	do {
		ret = ioctl(fd, request, arg);
	} while (ret < 0 && errno == EINTR);
	if (ret >= 0) {
		return 0;
	}
	switch (errno) {
	case EBADF:
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return -errno;
	default:
		return -ENOTTY;
	}
}

static bool is_access(uint32_t access)
{
	return access != 0 && (access & ~(uint32_t)VGF_ACCESS_READ_WRITE) == 0;
}

VGF_EXPORT int vgf_dma_buf_export_sync_file(int dma_buf_fd, uint32_t access)
{
	struct dma_buf_export_sync_file args = { .flags = access, .fd = -1 };
	int ret;

	if (!is_access(access)) {
		return -EINVAL;
	}
	ret = dma_buf_ioctl(dma_buf_fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &args);
	return ret < 0 ? ret : args.fd;
}

VGF_EXPORT int vgf_dma_buf_import_sync_file(int dma_buf_fd, uint32_t access, int fence_fd)
{
	struct dma_buf_import_sync_file args = { .flags = access, .fd = fence_fd };
	int ret;

	if (!is_access(access)) {
		return -EINVAL;
	}
	if (fence_fd == VGF_FENCE_DONE) {
		return 0;
	}
	ret = dma_buf_ioctl(dma_buf_fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &args);
	if (ret == -ENOTTY && fcntl(fence_fd, F_GETFD) < 0) {
		return -EBADF; /* the kernel does not tell it from what is no sync file */
	}
	return ret;
}
