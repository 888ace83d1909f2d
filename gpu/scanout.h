/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SCANOUT_H
#define SCANOUT_H

/* What a scanout shows, and where its cursor is. */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>

struct gpu;
struct resource;

/* In each direction, as in Linux's driver. All of it is 256 MiB, which a screenshot takes; a blob
 * alone would not bound that, as its entries may name the same page again and again. */
#define SCANOUT_MAX_SIZE 8192u

struct scanout {
	uint32_t resource_id;        /* 0: nothing */
	struct virtio_gpu_rect rect; /* of the resource, in the host's byte order */
	/* How a blob is laid out; the format of other resources is their own. */
	uint32_t format, stride, offset;

	uint32_t cursor_resource_id; /* 0: none */
	uint32_t cursor_x, cursor_y, hot_x, hot_y;
};

/* Where red, green and blue are in the four bytes of a pixel of this format, and whether it is one
 * that the device knows. */
bool format_layout(uint32_t format, uint8_t places[3]);

/* Pixels of a format to 0xaarrggbb, or 0x??rrggbb where it has no alpha, in their place. -EOPNOTSUPP for a format
 * that the device does not know. */
int pixels_to_argb(uint32_t *pixels, size_t count, uint32_t format);

/* Tells who shows the scanout that it has another size, or content. */
void scanout_tell_size(struct gpu *gpu, uint32_t index);

/* A rectangle within the resource has changed. */
void scanouts_flush(
	struct gpu *gpu, const struct resource *resource, const struct virtio_gpu_rect *rect);

/* No scanout shows the resource any more. */
void scanouts_forget(struct gpu *gpu, const struct resource *resource);

/* Tells of a scanout's cursor where it has one, with its picture. */
void cursor_show(struct gpu *gpu, const struct scanout *scanout);

/* None shows anything. */
void scanouts_reset(struct gpu *gpu);

#endif
