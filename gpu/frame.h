/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef FRAME_H
#define FRAME_H

/*
 * What a scanout shows, as the guest last flushed it: a copy, which the guest's next drawing does
 * not change. So it can be sent to a display at the display's own pace.
 *
 * One thread. Errors are negative errno values.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>

#include "scanout.h"

/* Reads a rectangle of what a scanout shows, as 0xaarrggbb. Returns 0 or an error. */
typedef int (*frame_read)(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint32_t *pixels);

/* What reads a frame. */
struct frame_source {
	frame_read read;
	void *cookie;
	uint32_t scanout;
};

/* All zeros: no size. */
struct frame {
	uint32_t width, height;
	bool stale;                   /* another picture: the next flush is one of all of it */
	uint32_t *pixels;             /* NULL before the first flush */
	struct virtio_gpu_rect dirty; /* not taken yet; nothing if its width is 0 */
	uint64_t copied_bytes; /* from the guest and by frame_take, in all; kept by a reset */
};

/* Another picture, of this size, at most SCANOUT_MAX_SIZE in each direction. The pixels, and what
 * of them is dirty, stay if the size does. */
void frame_reset(struct frame *frame, uint32_t width, uint32_t height);

/* What its pixels take up once there are any. */
size_t frame_size(const struct frame *frame);

/*
 * The guest flushes a rectangle: what is in the frame of it is read and is dirty. Of a stale frame
 * all is. Returns 0, also if nothing of it is in the frame; -ENOMEM; what reading failed with: the
 * frame is then stale.
 */
int frame_flush(
	struct frame *frame, const struct virtio_gpu_rect *rect, const struct frame_source *source);

/* Copies what is dirty to `pixels`, row by row, and forgets that it was. */
void frame_take(struct frame *frame, uint32_t *pixels);

#endif
