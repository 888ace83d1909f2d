/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef CURSOR_H
#define CURSOR_H

/* A scanout's cursor. */

#include <stdbool.h>
#include <stdint.h>

struct gpu;

#define CURSOR_SIZE 64 /* in both directions, says the specification */

/* The picture is a copy: the guest may do with its resource what it likes. */
struct cursor {
	bool visible;
	uint32_t x, y, hot_x, hot_y;
	uint32_t pixels[CURSOR_SIZE * CURSOR_SIZE];
};

/* Tells a display that came later of the scanout's cursor, if it shows one. */
void cursor_show(struct gpu *gpu, uint32_t index);

/* All are hidden. */
void cursors_reset(struct gpu *gpu);

#endif
