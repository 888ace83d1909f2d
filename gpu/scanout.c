/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "gpu_private.h"
#include "image.h"
#include "pixel_format.h"

/* ---- What a display is told ------------------------------------------------------------------ */

void scanout_tell_size(struct gpu *gpu, uint32_t index)
{
	const struct scanout *scanout = &gpu->scanouts[index];
	const struct virtio_gpu_rect none = { 0 };
	const struct virtio_gpu_rect *rect = scanout->resource_id != 0 ? &scanout->rect : &none;

	if (gpu->callbacks.scanout_changed != NULL) {
		gpu->num_callbacks++;
		gpu->callbacks.scanout_changed(gpu->cookie, index, rect->width, rect->height);
		gpu->num_callbacks--;
	}
	if (scanout->resource_id == 0) {
		shown_end(gpu, index);
	}
}

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint32_t max(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* The part of a resource's rectangle that the scanout shows, in the scanout's own coordinates.
 * Returns whether there is any. */
static bool visible_part(const struct scanout *scanout, const struct virtio_gpu_rect *rect,
	struct virtio_gpu_rect *part)
{
	const struct virtio_gpu_rect *shown = &scanout->rect;
	uint32_t left = max(rect->x, shown->x), top = max(rect->y, shown->y);
	uint64_t right = min((uint64_t)rect->x + rect->width, (uint64_t)shown->x + shown->width);
	uint64_t bottom = min((uint64_t)rect->y + rect->height, (uint64_t)shown->y + shown->height);

	if (left >= right || top >= bottom) {
		return false;
	}
	*part = (struct virtio_gpu_rect){ left - shown->x, top - shown->y, (uint32_t)(right - left),
		(uint32_t)(bottom - top) };
	return true;
}

void scanouts_flush(struct pending_request *flush)
{
	struct gpu *gpu = flush->gpu;
	struct virtio_gpu_rect part;

	for (uint32_t i = 0; i < gpu->monitors.num_scanouts; i++) {
		if (gpu->scanouts[i].resource_id == flush->flush.resource_id &&
			!shown_is_taken(flush, i) &&
			visible_part(&gpu->scanouts[i], &flush->flush.rect, &part)) {
			uint64_t frame = shown_give(gpu, i, &part);

			if (frame > 0) {
				shown_await(flush, i, frame);
			}
		}
	}
}

static void offer(struct pending_request *flush, uint32_t index, const struct virtio_gpu_rect *part,
	int acquire_fd)
{
	struct gpu *gpu = flush->gpu;
	const struct resource *resource = find_resource(gpu, flush->flush.resource_id);
	/* Of an earlier frame in the same memory, which the display may still read. */
	bool was_held = resource != NULL && pin_is_held(resource);
	struct gpu_buffer buffer;
	uint64_t frame = 0;

	if (gpu_get_scanout_buffer(gpu, index, &buffer) < 0) {
		return;
	}
	buffer.acquire_fd = fcntl(acquire_fd, F_DUPFD_CLOEXEC, 0);
	if (buffer.acquire_fd >= 0) {
		frame = shown_offer(gpu, index, part, &buffer);
	}
	if (frame > 0) {
		flush->flush.taken |= 1u << index;
		shown_await(flush, index, frame);
		return;
	}
	close(buffer.fd);
	if (buffer.acquire_fd >= 0) {
		close(buffer.acquire_fd);
	}
	if (!was_held) {
		gpu_tell_released(gpu, buffer.key);
	}
}

void scanouts_offer(struct pending_request *flush, int acquire_fd)
{
	struct gpu *gpu = flush->gpu;
	struct virtio_gpu_rect part;

	for (uint32_t i = 0; i < gpu->monitors.num_scanouts; i++) {
		if (gpu->scanouts[i].resource_id == flush->flush.resource_id &&
			visible_part(&gpu->scanouts[i], &flush->flush.rect, &part)) {
			offer(flush, i, &part, acquire_fd);
		}
	}
	gpu->stats.flushes_offered += flush->flush.taken != 0;
}

void scanouts_forget(struct gpu *gpu, const struct resource *resource)
{
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		if (gpu->scanouts[i].resource_id == resource->id) {
			gpu->scanouts[i].resource_id = 0;
			scanout_tell_size(gpu, i);
		}
	}
}

void scanout_show(struct gpu *gpu, uint32_t index)
{
	const struct scanout *scanout = &gpu->scanouts[index];
	const struct virtio_gpu_rect all = { 0, 0, scanout->rect.width, scanout->rect.height };

	if (find_resource(gpu, scanout->resource_id) == NULL) {
		return;
	}
	scanout_tell_size(gpu, index);
	shown_renew(gpu, index);
	shown_give(gpu, index, &all);
}

void scanouts_reset(struct gpu *gpu)
{
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		bool shown = gpu->scanouts[i].resource_id != 0;

		gpu->scanouts[i] = (struct scanout){ 0 };
		if (shown) {
			scanout_tell_size(gpu, i);
		}
	}
}

/* ---- Pixels --------------------------------------------------------------------------------- */

static int read_blob_bytes(struct gpu *gpu, const struct resource *resource, uint64_t offset,
	void *data, uint64_t size)
{
	if (!resource_is_guest_blob(resource)) {
		return gpu->renderer->ops->read_blob != NULL ?
			gpu->renderer->ops->read_blob(
				gpu->renderer, resource->id, offset, data, size) :
			-EOPNOTSUPP;
	}
	return resource->backing != NULL ?
		backing_read(&resource->backing->base, offset, data, size) :
		-EOPNOTSUPP;
}

static int read_blob(struct gpu *gpu, const struct scanout *scanout,
	const struct resource *resource, const struct virtio_gpu_rect *rect, uint32_t *pixels)
{
	int ret = 0;

	for (uint32_t y = 0; y < rect->height && ret == 0; y++) {
		uint64_t at = scanout->offset + (uint64_t)scanout->stride * (rect->y + y) +
			(uint64_t)rect->x * 4;

		ret = read_blob_bytes(gpu, resource, at, pixels + (size_t)y * rect->width,
			(uint64_t)rect->width * 4);
	}
	return ret;
}

static bool contains(const struct virtio_gpu_rect *outer, const struct virtio_gpu_rect *inner)
{
	return (uint64_t)inner->x + inner->width <= outer->width &&
		(uint64_t)inner->y + inner->height <= outer->height;
}

int gpu_read_scanout(
	struct gpu *gpu, uint32_t index, const struct virtio_gpu_rect *rect, uint32_t *pixels)
{
	const struct scanout *scanout = &gpu->scanouts[index % VIRTIO_GPU_MAX_SCANOUTS];
	const struct resource *resource = find_resource(gpu, scanout->resource_id);
	const struct virtio_gpu_rect source = { scanout->rect.x + rect->x,
		scanout->rect.y + rect->y, rect->width, rect->height };
	uint32_t format = scanout->format;
	int ret;

	if (index >= gpu->monitors.num_scanouts || resource == NULL ||
		!contains(&scanout->rect, rect)) {
		return -ENOENT;
	}
	if (resource->kind == RESOURCE_BLOB) {
		ret = read_blob(gpu, scanout, resource, &source, pixels);
	} else {
		gpu->num_reads++;
		ret = gpu->renderer->ops->read_pixels(
			gpu->renderer, resource->id, &source, pixels, &format);
		gpu->num_reads--;
	}
	return ret < 0 ? ret : pixels_to_argb(pixels, (size_t)rect->width * rect->height, format);
}

/* ---- Screenshots ---------------------------------------------------------------------------- */

struct screenshot {
	struct gpu *gpu;
	uint32_t index, width;
	bool (*stop)(void);
	uint32_t *pixels; /* IMAGE_MAX_ROWS rows */
};

static int read_rows(void *arg, uint32_t y, uint32_t count, uint8_t *rows)
{
	const struct screenshot *screenshot = arg;
	const struct virtio_gpu_rect rect = { 0, y, screenshot->width, count };
	size_t num_pixels = (size_t)rect.width * count;
	int ret;

	if (screenshot->stop != NULL && screenshot->stop()) {
		return -ECANCELED;
	}
	ret = gpu_read_scanout(screenshot->gpu, screenshot->index, &rect, screenshot->pixels);
	for (size_t i = 0; ret == 0 && i < num_pixels; i++) {
		uint32_t pixel = screenshot->pixels[i];

		rows[3 * i] = (uint8_t)(pixel >> 16);
		rows[3 * i + 1] = (uint8_t)(pixel >> 8);
		rows[3 * i + 2] = (uint8_t)pixel;
	}
	return ret;
}

int gpu_screenshot(struct gpu *gpu, uint32_t index, const char *path, bool (*stop)(void))
{
	const struct scanout *scanout = &gpu->scanouts[index % VIRTIO_GPU_MAX_SCANOUTS];
	struct screenshot screenshot = {
		.gpu = gpu,
		.index = index,
		.width = scanout->rect.width,
		.stop = stop,
	};
	int ret;

	if (index >= gpu->monitors.num_scanouts || scanout->resource_id == 0) {
		return -ENOENT;
	}
	screenshot.pixels = calloc(IMAGE_MAX_ROWS, screenshot.width * sizeof(uint32_t));
	if (screenshot.pixels == NULL) {
		return -ENOMEM;
	}
	ret = image_write(path, screenshot.width, scanout->rect.height, read_rows, &screenshot);
	free(screenshot.pixels);
	return ret;
}
