/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <stdlib.h>

#include "gpu_private.h"
#include "image.h"

/* Formats are named by the order of their bytes in memory. */
static const struct {
	enum virtio_gpu_formats format;
	uint8_t places[3];
} layouts[] = {
	{ VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, { 2, 1, 0 } },
	{ VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, { 2, 1, 0 } },
	{ VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM, { 1, 2, 3 } },
	{ VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM, { 1, 2, 3 } },
	{ VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM, { 0, 1, 2 } },
	{ VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM, { 3, 2, 1 } },
	{ VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM, { 3, 2, 1 } },
	{ VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM, { 0, 1, 2 } },
};

bool format_layout(uint32_t format, uint8_t places[3])
{
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
		if (layouts[i].format == format) {
			places[0] = layouts[i].places[0];
			places[1] = layouts[i].places[1];
			places[2] = layouts[i].places[2];
			return true;
		}
	}
	return false;
}

void scanouts_forget(struct gpu *gpu, const struct resource *resource)
{
	for (size_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		if (gpu->scanouts[i].resource_id == resource->id) {
			gpu->scanouts[i].resource_id = 0;
		}
		if (gpu->scanouts[i].cursor_resource_id == resource->id) {
			gpu->scanouts[i].cursor_resource_id = 0;
		}
	}
}

/* ---- Screenshots ---------------------------------------------------------------------------- */

static int read_blob(
	const struct scanout *scanout, const struct resource *resource, uint32_t *pixels)
{
	const struct virtio_gpu_rect *rect = &scanout->rect;
	int ret = resource->backing != NULL ? 0 : -EOPNOTSUPP;

	for (uint32_t y = 0; y < rect->height && ret == 0; y++) {
		uint64_t at = scanout->offset + (uint64_t)scanout->stride * (rect->y + y) +
			(uint64_t)rect->x * 4;

		ret = backing_read(&resource->backing->base, at, pixels + (size_t)y * rect->width,
			(uint64_t)rect->width * 4);
	}
	return ret;
}

/* Pixels to rows of red, green and blue, in their place: those are shorter. */
static int convert(uint8_t *pixels, size_t count, uint32_t format)
{
	uint8_t places[3];

	if (!format_layout(format, places)) {
		return -EOPNOTSUPP;
	}
	for (size_t i = 0; i < count; i++) {
		uint8_t red = pixels[4 * i + places[0]];
		uint8_t green = pixels[4 * i + places[1]];
		uint8_t blue = pixels[4 * i + places[2]];

		pixels[3 * i] = red;
		pixels[3 * i + 1] = green;
		pixels[3 * i + 2] = blue;
	}
	return 0;
}

static int shoot(struct gpu *gpu, const struct scanout *scanout, const struct resource *resource,
	uint32_t *pixels, const char *path)
{
	const struct virtio_gpu_rect *rect = &scanout->rect;
	uint32_t format = scanout->format;
	int ret;

	if (resource->kind == RESOURCE_BLOB) {
		ret = read_blob(scanout, resource, pixels);
	} else {
		ret = gpu->renderer->ops->read_pixels(
			gpu->renderer, resource->id, rect, pixels, &format);
	}
	if (ret == 0) {
		ret = convert((uint8_t *)pixels, (size_t)rect->width * rect->height, format);
	}
	if (ret == 0) {
		ret = image_write(path, (const uint8_t *)pixels, rect->width, rect->height);
	}
	return ret;
}

int gpu_screenshot(struct gpu *gpu, uint32_t index, const char *path)
{
	const struct scanout *scanout = &gpu->scanouts[index % VIRTIO_GPU_MAX_SCANOUTS];
	const struct resource *resource;
	uint32_t *pixels;
	int ret;

	if (index >= gpu->options.num_scanouts || scanout->resource_id == 0) {
		return -ENOENT;
	}
	resource = find_resource(gpu, scanout->resource_id);
	if (resource == NULL) {
		return -ENOENT;
	}
	pixels = calloc((size_t)scanout->rect.width * scanout->rect.height, sizeof(*pixels));
	if (pixels == NULL) {
		return -ENOMEM;
	}
	ret = shoot(gpu, scanout, resource, pixels, path);
	free(pixels);
	return ret;
}
