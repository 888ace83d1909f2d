/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VFIO_DMA_BUF_H
#define VFIO_DMA_BUF_H

/*
 * Memory of a device that the front end has by VFIO, as a dma-buf: VFIO_DEVICE_FEATURE_DMA_BUF,
 * Linux 6.19. A region of guest memory whose descriptor is that of a VFIO device is a piece of one
 * of its BARs. A device that was opened as /dev/vfio/devices/… is not known as one, and is refused.
 *
 * The kernel is behind `vfio_calls`, so that tests stand in for a device. Errors are negative errno
 * values.
 */

#include <stdbool.h>
#include <stdint.h>

#include "udmabuf.h"

struct vfio_calls {
	/* Whether a descriptor is that of a VFIO device, without touching what it stands for. */
	bool (*is_device)(int fd);
	/* As ioctl, with <linux/vfio.h>'s requests, but returns a negative errno value. */
	int (*call)(int device_fd, unsigned long request, void *arg);
};

/* The kernel's, unless a test sets others. */
extern const struct vfio_calls *vfio_calls;

/* The feature, as <linux/vfio.h> of Linux 6.19 has it; older headers do not. */
#define VFIO_FEATURE_DMA_BUF 11

struct vfio_dma_range {
	uint64_t offset, length; /* in the region */
};

struct vfio_dma_buf {
	uint32_t region_index;
	uint32_t open_flags; /* O_RDWR, O_CLOEXEC */
	uint32_t flags;      /* 0 */
	uint32_t nr_ranges;
	struct vfio_dma_range dma_ranges[];
};

bool vfio_is_device(int fd);

/*
 * Returns a close-on-exec dma-buf of the pieces, all of VFIO devices, which the caller owns; -EXDEV
 * if they are not all in one BAR of one device; -EINVAL if there is none, or one is not whole
 * pages; -ENOTTY if the kernel, or the device's driver, does not know how; -ENOMEM; what the kernel
 * failed with.
 */
int vfio_dma_buf_create(const struct file_piece *pieces, uint32_t count);

#endif
