/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef PROXY_DAMAGE_H
#define PROXY_DAMAGE_H

/*
 * What of a buffer has to be copied. Damage says what is different from the commit before; a
 * buffer's copy may be older than that, so the damage of all commits since counts.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DAMAGE_MAX_RECTANGLES 16u
#define DAMAGE_MAX_COMMITS 4u /* as many as surfaces have buffers, and more */

struct rectangle {
	int32_t x, y, width, height; /* in pixels of the buffer */
};

/* Of one commit. More rectangles than there is room for are one, around all of them. */
struct damage {
	struct rectangle rectangles[DAMAGE_MAX_RECTANGLES];
	uint32_t count;
};

/* Of a surface. */
struct damage_history {
	uint64_t number;   /* of the commit that is being made, from 1 on */
	uint32_t is_whole; /* a bit for each commit: all of it may be different */
	struct damage commits[DAMAGE_MAX_COMMITS]; /* by their number */
};

void damage_init(struct damage_history *history);

/* Of the commit that is being made: what is outside any buffer does not matter. */
void damage_add(struct damage_history *history, const struct rectangle *rectangle);
void damage_add_all(struct damage_history *history);

/* Makes the next commit the one that is being made. */
void damage_commit(struct damage_history *history);

struct damage_image {
	uint8_t *to;
	const uint8_t *from;
	uint32_t stride;
	int32_t width, height;
	uint32_t pixel_size; /* 0: not known, then rows are copied whole */
};

/* Copies what is different since that commit was made (0: none was), with the one that is being
 * made. Returns how many bytes. */
size_t damage_copy(
	const struct damage_history *history, uint64_t since, const struct damage_image *image);

#endif
