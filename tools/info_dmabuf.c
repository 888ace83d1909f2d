/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Buffers without a GPU, and the sync files that go in and out of them. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "info.h"
#include "udmabuf.h"

#ifndef DMA_BUF_IOCTL_EXPORT_SYNC_FILE /* the headers of Linux before 6.0 */
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

/* udmabuf takes whole pages of a sealed memfd. */
static int sealed_memfd(long size)
{
	int fd = memfd_create("vgfence", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0) {
		return -errno;
	}
	if (ftruncate(fd, size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0) {
		int error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

static int make_udmabuf(struct info *info)
{
	const char *path = "/dev/udmabuf";
	long size = sysconf(_SC_PAGESIZE);
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		info_set_errno(info, INFO_UDMABUF, -errno, path);
		return -1;
	}
	int memfd = sealed_memfd(size);
	int buffer_fd = -1;
	if (memfd < 0) {
		info_set_errno(info, INFO_UDMABUF, memfd, "memfd");
	} else {
		struct udmabuf_create request = {
			.memfd = (__u32)memfd, .flags = UDMABUF_FLAGS_CLOEXEC, .size = (__u64)size
		};
		buffer_fd = ioctl(fd, UDMABUF_CREATE, &request);
		if (buffer_fd < 0) {
			info_set_errno(info, INFO_UDMABUF, -errno, path);
		} else {
			info_set(info, INFO_UDMABUF, INFO_YES,
				"%s, up to %" PRIu64 " pieces and %" PRIu64 " MiB", path,
				udmabuf_max_pieces(), udmabuf_max_size() >> 20);
		}
		close(memfd);
	}
	close(fd);
	return buffer_fd;
}

static int make_heap_buffer(struct info *info)
{
	const char *path = "/dev/dma_heap/system";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		info_set_errno(info, INFO_DMA_HEAP, -errno, path);
		return -1;
	}
	struct dma_heap_allocation_data request = { .len = (__u64)sysconf(_SC_PAGESIZE),
		.fd_flags = O_RDWR | O_CLOEXEC };
	int buffer_fd = -1;
	if (ioctl(fd, DMA_HEAP_IOCTL_ALLOC, &request) < 0) {
		info_set_errno(info, INFO_DMA_HEAP, -errno, path);
	} else {
		info_set(info, INFO_DMA_HEAP, INFO_YES, "%s", path);
		buffer_fd = (int)request.fd;
	}
	close(fd);
	return buffer_fd;
}

static void probe_sync_files(struct info *info, int buffer_fd, const char *from)
{
	struct dma_buf_export_sync_file out = { .flags = DMA_BUF_SYNC_RW, .fd = -1 };

	if (ioctl(buffer_fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &out) < 0) {
		info_set_errno(info, INFO_DMABUF_EXPORT, -errno, "DMA_BUF_IOCTL_EXPORT_SYNC_FILE");
		info_set(info, INFO_DMABUF_IMPORT, INFO_UNKNOWN, "no sync file to import");
		return;
	}
	info_set(info, INFO_DMABUF_EXPORT, INFO_YES, "tried with %s", from);
	struct dma_buf_import_sync_file in = { .flags = DMA_BUF_SYNC_WRITE, .fd = out.fd };
	if (ioctl(buffer_fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &in) < 0) {
		info_set_errno(info, INFO_DMABUF_IMPORT, -errno, "DMA_BUF_IOCTL_IMPORT_SYNC_FILE");
	} else {
		info_set(info, INFO_DMABUF_IMPORT, INFO_YES, "tried with %s", from);
	}
	info_keep_sync_file_take(info, out.fd, from);
}

/* Only who has a device can ask it, and to open one takes it. So that is only of a host without. */
static void probe_vfio(struct info *info)
{
	const char *path = "/dev/vfio/vfio";

	if (access(path, F_OK) < 0) {
		info_set_errno(info, INFO_VFIO_DMA_BUF, -errno, path);
	} else {
		info_set(info, INFO_VFIO_DMA_BUF, INFO_UNKNOWN,
			"%s is there; only a front end with a device can tell (Linux 6.19)", path);
	}
}

void info_probe_dmabuf(struct info *info)
{
	int udmabuf_fd = make_udmabuf(info);
	int heap_fd = make_heap_buffer(info);

	probe_vfio(info);

	if (heap_fd >= 0) {
		probe_sync_files(info, heap_fd, "the system dma-heap");
	} else if (udmabuf_fd >= 0) {
		probe_sync_files(info, udmabuf_fd, "udmabuf");
	} else {
		info_set(info, INFO_DMABUF_EXPORT, INFO_UNKNOWN, "no dma-buf to try with");
		info_set(info, INFO_DMABUF_IMPORT, INFO_UNKNOWN, "no dma-buf to try with");
	}
	if (heap_fd >= 0) {
		close(heap_fd);
	}
	if (udmabuf_fd >= 0) {
		close(udmabuf_fd);
	}
}
