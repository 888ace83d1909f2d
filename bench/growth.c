/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * vgfence bench growth: what a fence costs, in time, memory and wake-ups, depending on how many
 * contexts there are, how many rings each has, and how many fences are pending on each ring. All
 * fences have descriptors, which the driver takes as in-fences.
 *
 * Fences come one by one, and then several together. What is pending while the device dispatches
 * is what the row says: so many less are while fences are submitted.
 */

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "bench.h"
#include "growth.h"
#include "load.h"

#define MAX_ROUNDS 40
#define ROUNDS_A_DEVICE 8

static const uint32_t contexts[] = { 1, 4, 16, 64, 256, 1024 };
static const uint32_t rings[] = { 1, 4, 16, 64 };
static const uint32_t deep[] = { 1, 4, 16, 64 };

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define NUM_RINGS_DEEP (LENGTH(rings) * LENGTH(deep))
#define MAX_ROWS (LENGTH(contexts) * NUM_RINGS_DEEP)

struct growth {
	struct growth_row rows[MAX_ROWS];
	size_t count;
	uint32_t limit; /* fences that there are descriptors for */
	unsigned int rounds;
};

struct loads {
	struct library_load *library;
	struct bare_load *bare; /* NULL: there are no descriptors for both */
	uint32_t batch;
	unsigned int rounds; /* that they are for */
};

static void plan(struct growth *growth)
{
	uint32_t most = contexts[LENGTH(contexts) - 1] * rings[LENGTH(rings) - 1] *
		deep[LENGTH(deep) - 1];
	uint32_t fds = bench_raise_fd_limit(2 * most + LOAD_MAX_FDS_RUN);

	growth->limit = fds > LOAD_MAX_FDS_RUN ? fds - LOAD_MAX_FDS_RUN : 0;
	for (size_t i = 0; i < MAX_ROWS; i++) {
		struct growth_row row = { .contexts = contexts[i / NUM_RINGS_DEEP],
			.rings = rings[i % NUM_RINGS_DEEP / LENGTH(deep)],
			.deep = deep[i % LENGTH(deep)],
			.ns = { NAN, NAN },
			.bare_ns = { NAN, NAN } };
		if (growth_pending(&row) <= growth->limit) {
			growth->rows[growth->count++] = row;
		}
	}
	if (growth->count < MAX_ROWS) {
		fprintf(stderr,
			"vgfence bench: growth: skipped %zu of %zu: there are descriptors for %u "
			"fences, RLIMIT_NOFILE is too low\n",
			MAX_ROWS - growth->count, MAX_ROWS, growth->limit);
	}
}

/* ---- Measuring ------------------------------------------------------------------------------- */

/* Of the library alone: there are no bare calls yet, which have memory of their own. */
static void measure_heap(const struct loads *loads, double *bytes)
{
	double empty, filled;

	library_load_heap(loads->library, &empty, &filled);
	*bytes = empty < 0 ? -1 : empty + filled;
}

static int create_loads(const struct growth *growth, struct growth_row *row, struct loads *loads)
{
	struct load_options options = { .contexts = row->contexts,
		.rings = row->rings,
		.pending = growth_pending(row) - 1,
		.fds = true };
	int error = library_load_create(&options, &loads->library);

	if (error == 0) {
		measure_heap(loads, &row->bytes);
	}
	if (error == 0 && growth_pending(row) <= growth->limit / 2) {
		error = bare_load_create(&options, &loads->bare);
	}
	return error;
}

static void destroy_loads(struct loads *loads)
{
	library_load_destroy(loads->library);
	bare_load_destroy(loads->bare);
}

static int trim(struct loads *loads, uint32_t pending)
{
	int error = library_load_trim(loads->library, pending);

	return error == 0 && loads->bare ? bare_load_trim(loads->bare, pending) : error;
}

/* In turns. The least time of each counts: what else the machine does only adds to it. */
static int measure_times(const struct loads *loads, double *ns, double *bare_ns)
{
	uint32_t count = LOAD_MAX_FDS_RUN / loads->batch * loads->batch;
	struct load_times times;

	for (unsigned int i = 0; i < loads->rounds; i++) {
		int error = library_load_run(loads->library, count, loads->batch, &times);
		*ns = fmin(*ns, times.fence_ns); /* of a number and NaN the number */
		if (error == 0 && loads->bare) {
			error = bare_load_run(loads->bare, count, loads->batch, &times);
			*bare_ns = fmin(*bare_ns, times.fence_ns);
		}
		if (error < 0) {
			return error;
		}
	}
	return 0;
}

static int measure_wakeups(const struct loads *loads, double *wakeups)
{
	uint32_t count = LOAD_MAX_FDS_RUN / loads->batch * loads->batch;
	uint64_t counted;
	int error = library_load_count_wakeups(loads->library, count, loads->batch, &counted);

	*wakeups = (double)counted / count;
	return error;
}

static int measure_loads(struct loads *loads, struct growth_row *row)
{
	uint32_t pending = growth_pending(row);
	int error = 0;

	for (size_t way = 0; way < GROWTH_BATCHES && error == 0; way++) {
		loads->batch = way == 0 ? 1 : pending < LOAD_MAX_BATCH ? pending : LOAD_MAX_BATCH;
		error = trim(loads, pending - loads->batch);
		if (error == 0) {
			error = measure_times(loads, &row->ns[way], &row->bare_ns[way]);
		}
		if (error == 0) {
			error = measure_wakeups(loads, &row->wakeups[way]);
		}
	}
	return error;
}

/* All of it is made anew: what else the machine does for a second hits no row in all of its
 * rounds. */
static int measure_rounds(struct growth *growth, unsigned int first)
{
	unsigned int left = growth->rounds - first;
	int error = 0;

	for (size_t i = 0; i < growth->count && error == 0; i++) {
		struct growth_row *row = &growth->rows[i];
		struct loads loads = { .rounds = left < ROUNDS_A_DEVICE ? left : ROUNDS_A_DEVICE };

		bench_progress("growth",
			first * (unsigned int)growth->count + (unsigned int)i * loads.rounds,
			growth->rounds * (unsigned int)growth->count);
		error = create_loads(growth, row, &loads);
		if (error == 0) {
			error = measure_loads(&loads, row);
		}
		destroy_loads(&loads);
	}
	return error;
}

static int measure(struct growth *growth)
{
	int error = 0;

	for (unsigned int i = 0; i < growth->rounds && error == 0; i += ROUNDS_A_DEVICE) {
		error = measure_rounds(growth, i);
	}
	bench_progress("growth", 1, 1);
	return error;
}

/* ---- The result ------------------------------------------------------------------------------ */

static void add_ways(struct json_object *object, const char *name, const double *values)
{
	static const char *const ways[GROWTH_BATCHES] = { "", "together_" };
	char key[32];

	for (size_t i = 0; i < GROWTH_BATCHES; i++) {
		snprintf(key, sizeof(key), "%s%s", ways[i], name);
		json_object_object_add(object, key, bench_number(values[i]));
	}
}

static void add_json(struct json_object *array, const struct growth_row *row)
{
	const double of_bare[] = { growth_of_bare(row, 0), growth_of_bare(row, 1) };
	struct json_object *object = json_object_new_object();

	json_object_object_add(object, "contexts", json_object_new_int64(row->contexts));
	json_object_object_add(object, "rings", json_object_new_int64(row->rings));
	json_object_object_add(object, "deep", json_object_new_int64(row->deep));
	json_object_object_add(object, "pending", json_object_new_int64(growth_pending(row)));
	add_ways(object, "ns", row->ns);
	add_ways(object, "bare_ns", row->bare_ns);
	add_ways(object, "of_bare", of_bare);
	add_ways(object, "wakeups", row->wakeups);
	json_object_object_add(object, "bytes", bench_number(row->bytes));
	json_object_array_add(array, object);
}

static void print_header(unsigned int rounds)
{
	printf("bench growth: so many contexts, with so many rings each, so many fences pending\n"
	       "on each ring; all with eventfds, which the driver takes. A fence is a submission\n"
	       "that names up to %d pending ones, and its retiring; beside it the bare system\n"
	       "calls, as in bench core. Nanoseconds a fence, the least of %u times: dispatched\n"
	       "alone, and up to %d together; wake-ups a fence of a thread that sleeps on the\n"
	       "device's descriptor; KiB of heap, all of it.\n"
	       "\n%8s %5s %4s %8s %8s %6s %8s %6s %8s %8s %8s\n",
		LOAD_IN_FENCES, rounds, LOAD_MAX_BATCH, "contexts", "rings", "deep", "pending",
		"alone", "ratio", "together", "ratio", "wake-ups", "together", "KiB");
}

static void print_known(const char *format, int width, double value)
{
	if (isnan(value) || value < 0) {
		printf(" %*s", width, "-");
	} else {
		printf(format, width, value);
	}
}

static void print_row(const struct growth_row *row)
{
	printf("%8u %5u %4u %8u", row->contexts, row->rings, row->deep, growth_pending(row));
	for (size_t i = 0; i < GROWTH_BATCHES; i++) {
		print_known(" %*.0f", 8, row->ns[i]);
		print_known(" %*.2f", 6, growth_of_bare(row, i));
	}
	for (size_t i = 0; i < GROWTH_BATCHES; i++) {
		print_known(" %*.3f", 8, row->wakeups[i]);
	}
	print_known(" %*.1f", 8, row->bytes < 0 ? row->bytes : row->bytes / 1024);
	putchar('\n');
}

static void show(const struct growth *growth, struct json_object *array)
{
	if (!array) {
		print_header(growth->rounds);
	}
	for (size_t i = 0; i < growth->count; i++) {
		if (array) {
			add_json(array, &growth->rows[i]);
		} else {
			print_row(&growth->rows[i]);
		}
	}
}

int bench_growth_draw(unsigned int rounds, struct json_object *array, const char *path)
{
	static struct growth growth;
	FILE *file = path ? fopen(path, "we") : NULL;
	int error;

	if (path && !file) {
		return bench_error(-errno, path); /* before it takes long */
	}
	growth.count = 0;
	growth.rounds = bench_rounds(rounds, MAX_ROUNDS);
	plan(&growth);
	error = measure(&growth);
	if (error == 0) {
		show(&growth, array);
	}
	if (error == 0 && file) {
		error = growth_write_svg_take(growth.rows, growth.count, growth.limit, file);
		return error < 0 ? bench_error(error, path) : 0;
	}
	if (file) {
		fclose(file);
	}
	return error;
}

int bench_growth(unsigned int rounds, struct json_object *array)
{
	return bench_growth_draw(rounds, array, NULL);
}
