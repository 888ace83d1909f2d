/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Rows of a part are read to a place of their own first, some at a time. */
#define BAND_PIXELS (2 * SCANOUT_MAX_SIZE)

static uint32_t min(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t max(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

void frame_reset(struct frame *frame, uint32_t width, uint32_t height)
{
	if (width != frame->width || height != frame->height) {
		free(frame->pixels);
		*frame = (struct frame){
			.width = width, .height = height, .copied_bytes = frame->copied_bytes
		};
	}
	frame->stale = true;
}

size_t frame_size(const struct frame *frame)
{
	return (size_t)frame->width * frame->height * sizeof(*frame->pixels);
}

/* The part of a rectangle that is in the frame; its width is 0 if there is none. */
static struct virtio_gpu_rect clip(const struct frame *frame, const struct virtio_gpu_rect *rect)
{
	struct virtio_gpu_rect part = { .x = rect->x, .y = rect->y };

	if (rect->x >= frame->width || rect->y >= frame->height) {
		return (struct virtio_gpu_rect){ 0 };
	}
	part.width = min(rect->width, frame->width - rect->x);
	part.height = min(rect->height, frame->height - rect->y);
	return part.height == 0 ? (struct virtio_gpu_rect){ 0 } : part;
}

static struct virtio_gpu_rect unite(
	const struct virtio_gpu_rect *a, const struct virtio_gpu_rect *b)
{
	struct virtio_gpu_rect both = { .x = min(a->x, b->x), .y = min(a->y, b->y) };

	both.width = max(a->x + a->width, b->x + b->width) - both.x;
	both.height = max(a->y + a->height, b->y + b->height) - both.y;
	return both;
}

static uint32_t *pixels_at(const struct frame *frame, uint32_t x, uint32_t y)
{
	return frame->pixels + (size_t)y * frame->width + x;
}

/* Some rows of a part, at most BAND_PIXELS. */
static int read_band(
	struct frame *frame, const struct virtio_gpu_rect *band, const struct frame_source *source)
{
	uint32_t pixels[BAND_PIXELS];
	int ret = source->read(source->cookie, source->scanout, band, pixels);

	for (uint32_t y = 0; y < band->height && ret == 0; y++) {
		memcpy(pixels_at(frame, band->x, band->y + y), pixels + (size_t)y * band->width,
			band->width * sizeof(*pixels));
	}
	return ret;
}

static int read_part(
	struct frame *frame, const struct virtio_gpu_rect *part, const struct frame_source *source)
{
	struct virtio_gpu_rect band = *part;
	uint32_t end = part->y + part->height;
	int ret = 0;

	/* Whole rows are in their place already. */
	if (part->width == frame->width) {
		return source->read(
			source->cookie, source->scanout, part, pixels_at(frame, 0, part->y));
	}
	for (; band.y < end && ret == 0; band.y += band.height) {
		band.height = min(BAND_PIXELS / band.width, end - band.y);
		ret = read_band(frame, &band, source);
	}
	return ret;
}

int frame_flush(
	struct frame *frame, const struct virtio_gpu_rect *rect, const struct frame_source *source)
{
	const struct virtio_gpu_rect all = { 0, 0, frame->width, frame->height };
	struct virtio_gpu_rect part = clip(frame, rect);
	int ret;

	if (part.width == 0) {
		return 0;
	}
	if (frame->pixels == NULL) {
		frame->pixels = malloc(frame_size(frame));
		if (frame->pixels == NULL) {
			return -ENOMEM;
		}
	}
	if (frame->stale) {
		part = all;
	}
	ret = read_part(frame, &part, source);
	frame->stale = ret < 0;
	if (ret == 0) {
		frame->copied_bytes += (uint64_t)part.width * part.height * sizeof(*frame->pixels);
		frame->dirty = frame->dirty.width == 0 ? part : unite(&frame->dirty, &part);
	}
	return ret;
}

void frame_take(struct frame *frame, uint32_t *pixels)
{
	const struct virtio_gpu_rect *dirty = &frame->dirty;

	for (uint32_t y = 0; y < dirty->height; y++) {
		memcpy(pixels + (size_t)y * dirty->width, pixels_at(frame, dirty->x, dirty->y + y),
			dirty->width * sizeof(*pixels));
	}
	frame->copied_bytes += (uint64_t)dirty->width * dirty->height * sizeof(*pixels);
	frame->dirty = (struct virtio_gpu_rect){ 0 };
}
