/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "proxy_damage.h"

#include <string.h>

static uint32_t slot_of(uint64_t number)
{
	return (uint32_t)(number % DAMAGE_MAX_COMMITS);
}

static void begin(struct damage_history *history)
{
	uint32_t slot = slot_of(history->number);

	history->commits[slot].count = 0;
	history->is_whole &= ~(1u << slot);
}

void damage_init(struct damage_history *history)
{
	*history = (struct damage_history){ .number = 1 };
	begin(history);
}

void damage_commit(struct damage_history *history)
{
	history->number++;
	begin(history);
}

void damage_add_all(struct damage_history *history)
{
	history->is_whole |= 1u << slot_of(history->number);
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* Of two that are inside: see damage_add. */
static struct rectangle join(const struct rectangle *a, const struct rectangle *b)
{
	int64_t x = least(a->x, b->x), y = least(a->y, b->y);
	int64_t right = most((int64_t)a->x + a->width, (int64_t)b->x + b->width);
	int64_t bottom = most((int64_t)a->y + a->height, (int64_t)b->y + b->height);

	return (struct rectangle){ (int32_t)x, (int32_t)y, (int32_t)(right - x),
		(int32_t)(bottom - y) };
}

/* To what can be in a buffer: clients say "all" by the largest numbers. Returns whether anything is
 * left. */
static bool clip(struct rectangle *rectangle, int32_t width, int32_t height)
{
	int64_t right = least((int64_t)rectangle->x + rectangle->width, width);
	int64_t bottom = least((int64_t)rectangle->y + rectangle->height, height);
	int64_t x = most(rectangle->x, 0), y = most(rectangle->y, 0);

	if (right <= x || bottom <= y) {
		return false;
	}
	*rectangle = (struct rectangle){ (int32_t)x, (int32_t)y, (int32_t)(right - x),
		(int32_t)(bottom - y) };
	return true;
}

void damage_add(struct damage_history *history, const struct rectangle *rectangle)
{
	struct damage *damage = &history->commits[slot_of(history->number)];
	struct rectangle sum = *rectangle;

	if (!clip(&sum, INT32_MAX, INT32_MAX)) {
		return;
	}
	if (damage->count == DAMAGE_MAX_RECTANGLES) {
		for (uint32_t i = 0; i < damage->count; i++) {
			sum = join(&sum, &damage->rectangles[i]);
		}
		damage->count = 0;
	}
	damage->rectangles[damage->count++] = sum;
}

/* ---- Copies --------------------------------------------------------------------------------- */

static size_t copy_all(const struct damage_image *image)
{
	size_t size = (size_t)image->stride * (size_t)image->height;

	memcpy(image->to, image->from, size);
	return size;
}

static size_t copy_rectangle(const struct damage_image *image, const struct rectangle *rectangle)
{
	size_t at = (size_t)rectangle->y * image->stride, size = image->stride;

	if (image->pixel_size > 0) {
		at += (size_t)rectangle->x * image->pixel_size;
		size = (size_t)rectangle->width * image->pixel_size;
	}
	for (int32_t i = 0; i < rectangle->height; i++, at += image->stride) {
		memcpy(image->to + at, image->from + at, size);
	}
	return size * (size_t)rectangle->height;
}

/* Whether it is known what is different. */
static bool is_known(const struct damage_history *history, uint64_t since)
{
	if (since == 0 || history->number - since > DAMAGE_MAX_COMMITS) {
		return false;
	}
	for (uint64_t number = since + 1; number <= history->number; number++) {
		if ((history->is_whole & (1u << slot_of(number))) != 0) {
			return false;
		}
	}
	return true;
}

static bool is_within(const struct rectangle *a, const struct rectangle *b)
{
	return a->x >= b->x && a->y >= b->y &&
		(int64_t)a->x + a->width <= (int64_t)b->x + b->width &&
		(int64_t)a->y + a->height <= (int64_t)b->y + b->height;
}

/* Of those that are in the image, none within another. */
struct region {
	struct rectangle rectangles[DAMAGE_MAX_COMMITS * DAMAGE_MAX_RECTANGLES];
	uint32_t count;
};

static void region_add(
	struct region *region, struct rectangle rectangle, const struct damage_image *image)
{
	uint32_t kept = 0;

	if (!clip(&rectangle, image->width, image->height)) {
		return;
	}
	for (uint32_t i = 0; i < region->count; i++) {
		if (is_within(&rectangle, &region->rectangles[i])) {
			return;
		}
	}
	for (uint32_t i = 0; i < region->count; i++) {
		if (!is_within(&region->rectangles[i], &rectangle)) {
			region->rectangles[kept++] = region->rectangles[i];
		}
	}
	region->rectangles[kept++] = rectangle;
	region->count = kept;
}

static bool is_more_than_all(const struct region *region, const struct damage_image *image)
{
	uint64_t area = 0;

	for (uint32_t i = 0; i < region->count; i++) {
		area += (uint64_t)region->rectangles[i].width *
			(uint64_t)region->rectangles[i].height;
	}
	return area >= (uint64_t)image->width * (uint64_t)image->height;
}

size_t damage_copy(
	const struct damage_history *history, uint64_t since, const struct damage_image *image)
{
	struct region region;
	size_t size = 0;

	region.count = 0;
	if (!is_known(history, since)) {
		return copy_all(image);
	}
	for (uint64_t number = since + 1; number <= history->number; number++) {
		const struct damage *damage = &history->commits[slot_of(number)];

		for (uint32_t i = 0; i < damage->count; i++) {
			region_add(&region, damage->rectangles[i], image);
		}
	}
	if (is_more_than_all(&region, image)) {
		return copy_all(image);
	}
	for (uint32_t i = 0; i < region.count; i++) {
		size += copy_rectangle(image, &region.rectangles[i]);
	}
	return size;
}
