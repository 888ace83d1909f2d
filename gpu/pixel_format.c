/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>

#include <linux/virtio_gpu.h>

#include "pixel_format.h"

/* As DRM's fourcc_code: its header is not everywhere. */
#define FOURCC(a, b, c, d)                                                                         \
	((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

/* Formats are named by the order of their bytes in memory; DRM's by that in a word, the last one
 * first. */
static const struct {
	enum virtio_gpu_formats format;
	uint8_t places[3];
	uint32_t drm;
} layouts[] = {
	{ VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, { 2, 1, 0 }, FOURCC('A', 'R', '2', '4') },
	{ VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, { 2, 1, 0 }, FOURCC('X', 'R', '2', '4') },
	{ VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM, { 1, 2, 3 }, FOURCC('B', 'A', '2', '4') },
	{ VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM, { 1, 2, 3 }, FOURCC('B', 'X', '2', '4') },
	{ VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM, { 0, 1, 2 }, FOURCC('A', 'B', '2', '4') },
	{ VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM, { 3, 2, 1 }, FOURCC('R', 'X', '2', '4') },
	{ VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM, { 3, 2, 1 }, FOURCC('R', 'A', '2', '4') },
	{ VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM, { 0, 1, 2 }, FOURCC('X', 'B', '2', '4') },
};

uint32_t format_to_drm(uint32_t format)
{
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
		if (layouts[i].format == format) {
			return layouts[i].drm;
		}
	}
	return 0;
}

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

static bool has_alpha(uint32_t format)
{
	return format == VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM ||
		format == VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM ||
		format == VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM ||
		format == VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM;
}

int pixels_to_argb(uint32_t *pixels, size_t count, uint32_t format)
{
	const uint32_t opaque = has_alpha(format) ? 0 : UINT32_C(0xff000000);
	uint8_t places[3], alpha;

	if (!format_layout(format, places)) {
		return -EOPNOTSUPP;
	}
	alpha = (uint8_t)(0 + 1 + 2 + 3 - places[0] - places[1] - places[2]);
	for (size_t i = 0; i < count; i++) {
		const uint8_t *bytes = (const uint8_t *)&pixels[i];

		pixels[i] = (uint32_t)bytes[alpha] << 24 | (uint32_t)bytes[places[0]] << 16 |
			(uint32_t)bytes[places[1]] << 8 | bytes[places[2]] | opaque;
	}
	return 0;
}
