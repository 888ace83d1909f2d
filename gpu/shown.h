/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SHOWN_H
#define SHOWN_H

/* Frames of a scanout: which ones a display was given, and which of them it has shown. */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>

struct gpu;

struct frames {
	uint64_t last;  /* that a display was told of; they are numbered from 1 on */
	uint64_t shown; /* this one, and each before it */
};

/* Gives the display a rectangle of the scanout as its next frame. Returns its number, or 0 if the
 * display will not tell when it is shown. */
uint64_t shown_give(struct gpu *gpu, uint32_t scanout, const struct virtio_gpu_rect *rect);

#endif
