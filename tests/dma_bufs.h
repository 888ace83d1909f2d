/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef DMA_BUFS_H
#define DMA_BUFS_H

/*
 * A dma-buf of one page from each place that makes them without a GPU. Negative if the kernel does
 * not have it.
 */

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/dma-heap.h>
#include <linux/udmabuf.h>

#include "vgem.h"

static inline int dma_buf_of_vgem(int vgem)
{
	uint32_t buffer;
	int dma_buf;

	if (vgem_buffer_create(vgem, &buffer) < 0) {
		return -1;
	}
	dma_buf = vgem_buffer_export(vgem, buffer);
	vgem_buffer_destroy(vgem, buffer);
	return dma_buf;
}

/* Made of memory that this process has already. */
static inline int dma_buf_of_udmabuf(void)
{
	struct udmabuf_create create = { .flags = UDMABUF_FLAGS_CLOEXEC, .size = 4096 };
	int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	int memory, dma_buf = -1;

	if (device < 0) {
		return -1;
	}
	memory = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memory >= 0 && ftruncate(memory, 4096) == 0 &&
		fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) == 0) {
		create.memfd = (__u32)memory;
		dma_buf = ioctl(device, UDMABUF_CREATE, &create);
	}
	close(memory);
	close(device);
	return dma_buf;
}

static inline int dma_buf_of_heap(void)
{
	struct dma_heap_allocation_data data = { .len = 4096, .fd_flags = O_CLOEXEC | O_RDWR };
	int heap = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	int ret;

	if (heap < 0) {
		return -1;
	}
	ret = ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data);
	close(heap);
	return ret < 0 ? -1 : (int)data.fd;
}

#endif
