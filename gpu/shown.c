/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>

#include "gpu_private.h"

uint64_t shown_give(struct gpu *gpu, uint32_t scanout, const struct virtio_gpu_rect *rect)
{
	struct frames *frames = &gpu->frames[scanout];
	uint64_t frame;

	if (gpu->callbacks.scanout_flushed == NULL) {
		return 0;
	}
	frame = ++frames->last;
	if (!gpu->callbacks.scanout_flushed(gpu->cookie, scanout, rect, frame)) {
		return 0;
	}
	return frame;
}

void gpu_tell_shown(struct gpu *gpu, uint32_t scanout, uint64_t frame)
{
	struct frames *frames;

	if (scanout >= VIRTIO_GPU_MAX_SCANOUTS) {
		return;
	}
	frames = &gpu->frames[scanout];
	if (frame > frames->last) {
		frame = frames->last;
	}
	if (frame > frames->shown) {
		frames->shown = frame;
	}
}

void gpu_forget_display(struct gpu *gpu)
{
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		gpu_tell_shown(gpu, i, UINT64_MAX);
	}
}

/* No memory can be had as a dma-buf yet, so none is ever pinned. */
int gpu_get_scanout_buffer(struct gpu *gpu, uint32_t scanout, struct gpu_buffer *out)
{
	(void)out;
	return scanout < gpu->monitors.num_scanouts && gpu->scanouts[scanout].resource_id != 0 ?
		-EOPNOTSUPP :
		-ENOENT;
}

void gpu_tell_released(struct gpu *gpu, uint64_t key)
{
	(void)gpu;
	(void)key;
}
