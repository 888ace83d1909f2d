/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>

#include <linux/virtio_gpu.h>

#include "pixel_format.h"

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

int pixels_to_argb(uint32_t *pixels, size_t count, uint32_t format)
{
	uint8_t places[3], alpha;

	if (!format_layout(format, places)) {
		return -EOPNOTSUPP;
	}
	alpha = (uint8_t)(0 + 1 + 2 + 3 - places[0] - places[1] - places[2]);
	for (size_t i = 0; i < count; i++) {
		const uint8_t *bytes = (const uint8_t *)&pixels[i];

		pixels[i] = (uint32_t)bytes[alpha] << 24 | (uint32_t)bytes[places[0]] << 16 |
			(uint32_t)bytes[places[1]] << 8 | bytes[places[2]];
	}
	return 0;
}
