/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef BENCH_GROWTH_H
#define BENCH_GROWTH_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define GROWTH_BATCHES 2 /* alone, and LOAD_MAX_BATCH together, or as many as are pending */

/* So many contexts with so many rings each, on each of which so many fences are pending. */
struct growth_row {
	uint32_t contexts, rings, deep;
	/* Of a fence; NaN: not measured. */
	double ns[GROWTH_BATCHES], bare_ns[GROWTH_BATCHES];
	double wakeups[GROWTH_BATCHES];
	double bytes; /* of heap, all of it; negative: unknown */
};

static inline uint32_t growth_pending(const struct growth_row *row)
{
	return row->contexts * row->rings * row->deep;
}

static inline double growth_of_bare(const struct growth_row *row, size_t way)
{
	return row->ns[way] / row->bare_ns[way];
}

/* limit: how many fences there were descriptors for. Closes the file. 0, or a negative errno value
 * of it. */
int growth_write_svg_take(const struct growth_row *rows, size_t count, uint32_t limit, FILE *file);

#endif
