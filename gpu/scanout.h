/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SCANOUT_H
#define SCANOUT_H

/* What a scanout shows. Its cursor is in cursor.h. */

#include <stdint.h>

#include <linux/virtio_gpu.h>

struct gpu;
struct pending_request;
struct resource;

/* In each direction, as in Linux's driver. All of it is 256 MiB, which a display may copy; a blob
 * alone would not bound that, as its entries may name the same page again and again. */
#define SCANOUT_MAX_SIZE 8192u

struct scanout {
	uint32_t resource_id;        /* 0: nothing */
	struct virtio_gpu_rect rect; /* of the resource, in the host's byte order */
	/* How a blob is laid out, all of the picture; other resources are as they are. */
	uint32_t width, height, format, stride, offset;
};

/* Tells the display that the scanout has another size, or other content. */
void scanout_tell_size(struct gpu *gpu, uint32_t index);

/* Shows what is flushed, on the scanouts that have the resource; the flush waits for them. */
void scanouts_flush(struct pending_request *flush);

/* Offers it before it is drawn, to those that can have it in place. acquire_fd: what it waits
 * for. */
void scanouts_offer(struct pending_request *flush, int acquire_fd);

/* No scanout shows the resource any more. */
void scanouts_forget(struct gpu *gpu, const struct resource *resource);

/* Tells a display that came later what the scanout shows, if it shows anything. */
void scanout_show(struct gpu *gpu, uint32_t index);

/* None shows anything. */
void scanouts_reset(struct gpu *gpu);

#endif
