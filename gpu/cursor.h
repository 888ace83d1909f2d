/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef CURSOR_H
#define CURSOR_H

/* A scanout's cursor. */

#include <stdint.h>

struct gpu;
struct resource;

struct cursor {
	uint32_t resource_id; /* the picture; 0: hidden */
	uint32_t x, y, hot_x, hot_y;
};

/* Tells a display that came later of the scanout's cursor, if it has one. */
void cursor_show(struct gpu *gpu, uint32_t index);

/* No cursor has the resource for its picture any more. */
void cursors_forget(struct gpu *gpu, const struct resource *resource);

/* All are hidden. */
void cursors_reset(struct gpu *gpu);

#endif
