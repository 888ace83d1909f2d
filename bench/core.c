/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * vgfence bench core: time and memory of a fence, depending on how many are pending. library_load.c
 * and bare_load.c say what a fence's turn consists of.
 */

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "bench.h"
#include "load.h"

#define MAX_ROUNDS 15        /* the median of them counts; odd */
#define FENCES_A_ROUND 16384 /* without descriptors */
#define RUNS_A_ROUND 8       /* with descriptors, of LOAD_MAX_FDS_RUN fences each */
#define BASELINE 256         /* pending; the cost with more is compared with the cost there */
#define TIMELINES 64         /* each of a context of its own */

static const uint32_t pending_counts[] = { 16, 256, 4096, 65536 };
static const uint32_t batches[] = { 1, LOAD_MAX_BATCH };

#define NUM_PENDING (sizeof(pending_counts) / sizeof(pending_counts[0]))
#define NUM_BATCHES (sizeof(batches) / sizeof(batches[0]))
#define MAX_ROWS (NUM_PENDING + 1)

/* One kind of load with one number of fences pending. */
struct row {
	struct load_options options;
	struct library_load *load;
	unsigned int rounds; /* that are run, at most MAX_ROUNDS */
	double samples[NUM_BATCHES][MAX_ROUNDS], bare_samples[NUM_BATCHES][MAX_ROUNDS];
	/* Medians, a fence; those with "bare" mean something with descriptors only. */
	double ns[NUM_BATCHES], bare_ns[NUM_BATCHES], of_bare[NUM_BATCHES];
	double empty_bytes; /* of a device with its contexts */
	double bytes; /* a pending fence; negative: unknown, also with so few pending that malloc's
		       * own caches would count more than they do */
	struct load_times times; /* the last ones: for what is not counted */
};

static int create_load(struct row *row)
{
	int error = library_load_create(&row->options, &row->load);
	double filled;

	if (error < 0) {
		return error;
	}
	library_load_heap(row->load, &row->empty_bytes, &filled);
	row->bytes = -1;
	if (row->empty_bytes >= 0 && row->options.pending >= BASELINE) {
		row->bytes = filled / row->options.pending;
	}
	return 0;
}

static double median(const double *samples, unsigned int rounds)
{
	double sorted[MAX_ROUNDS];

	memcpy(sorted, samples, rounds * sizeof(sorted[0]));
	return bench_percentile(sorted, rounds, 50);
}

/* Of what was measured in turns: round by round, so that a disturbance hits both sides. */
static double median_ratio(const double *samples, const double *base, unsigned int rounds)
{
	double ratios[MAX_ROUNDS];

	for (size_t i = 0; i < rounds; i++) {
		ratios[i] = samples[i] / base[i];
	}
	return bench_percentile(ratios, rounds, 50);
}

static void finish_row(struct row *row)
{
	library_load_destroy(row->load);
	row->load = NULL;
	for (size_t i = 0; i < NUM_BATCHES; i++) {
		row->ns[i] = median(row->samples[i], row->rounds);
		row->bare_ns[i] = median(row->bare_samples[i], row->rounds);
		row->of_bare[i] = median_ratio(row->samples[i], row->bare_samples[i], row->rounds);
	}
}

/* Without descriptors all loads of a kind exist at the same time and take turns, so that those with
 * few and those with many fences pending see the same machine. */
static int measure_by_call(struct row *rows, size_t count)
{
	unsigned int rounds = rows[0].rounds;
	int error = 0;

	for (size_t i = 0; i < count && error == 0; i++) {
		error = create_load(&rows[i]);
	}
	for (unsigned int round = 0; round < rounds && error == 0; round++) {
		bench_progress("without descriptors", round, rounds);
		for (size_t i = 0; i < count * NUM_BATCHES && error == 0; i++) {
			struct row *row = &rows[i / NUM_BATCHES];
			size_t batch = i % NUM_BATCHES;
			error = library_load_run(
				row->load, FENCES_A_ROUND, batches[batch], &row->times);
			row->samples[batch][round] = row->times.fence_ns;
		}
	}
	for (size_t i = 0; i < count; i++) {
		finish_row(&rows[i]);
	}
	bench_progress("without descriptors", rounds, rounds);
	return error;
}

static int measure_round(struct row *row, struct bare_load *bare, unsigned int round)
{
	for (size_t i = 0; i < NUM_BATCHES * RUNS_A_ROUND; i++) {
		size_t batch = i % NUM_BATCHES;
		struct load_times times;
		int error = bare_load_run(bare, LOAD_MAX_FDS_RUN, batches[batch], &times);
		if (error < 0) {
			return error;
		}
		row->bare_samples[batch][round] += times.fence_ns / RUNS_A_ROUND;
		error = library_load_run(row->load, LOAD_MAX_FDS_RUN, batches[batch], &row->times);
		if (error < 0) {
			return error;
		}
		row->samples[batch][round] += row->times.fence_ns / RUNS_A_ROUND;
	}
	return 0;
}

/* With descriptors the library and the bare system calls take turns. */
static int measure_fds(struct row *row)
{
	struct bare_load *bare = NULL;
	int error = create_load(row);

	if (error == 0) {
		error = bare_load_create(&row->options, &bare);
	}
	for (unsigned int round = 0; round < row->rounds && error == 0; round++) {
		bench_progress("with eventfds", round, row->rounds);
		error = measure_round(row, bare, round);
	}
	bench_progress("with eventfds", row->rounds, row->rounds);
	finish_row(row);
	bare_load_destroy(bare);
	return error;
}

/* How many fences with descriptors there can be: the library and the bare system calls have so many
 * each at the same time. */
static uint32_t max_pending_fds(void)
{
	uint32_t most = pending_counts[NUM_PENDING - 1];
	uint32_t fit = bench_raise_fd_limit(2 * most + LOAD_MAX_FDS_RUN);

	fit = fit > LOAD_MAX_FDS_RUN ? (fit - LOAD_MAX_FDS_RUN) / 2 : 0;
	return fit < most ? fit : most;
}

/* The usual numbers as far as they fit, and the largest power of two that does. */
static size_t plan_fds(struct row *rows)
{
	uint32_t max = max_pending_fds(), largest = 1;
	size_t count = 0;

	while (largest * 2 <= max) {
		largest *= 2;
	}
	for (size_t i = 0; i < NUM_PENDING && pending_counts[i] < largest; i++) {
		rows[count++].options = (struct load_options){ TIMELINES, 1, pending_counts[i],
			.fds = true };
	}
	if (largest >= pending_counts[0]) {
		rows[count++].options = (struct load_options){ TIMELINES, 1, largest, .fds = true };
	}
	return count;
}

static size_t plan_by_call(struct row *rows, bool name_any)
{
	for (size_t i = 0; i < NUM_PENDING; i++) {
		rows[i].options = (struct load_options){ TIMELINES, 1, pending_counts[i],
			.name_any = name_any };
	}
	return NUM_PENDING;
}

static void set_rounds(struct row *rows, size_t count, unsigned int rounds)
{
	for (size_t i = 0; i < count; i++) {
		rows[i].rounds = rounds;
	}
}

/* Cost of a row in the cost of the baseline row of the same kind; NaN without one. */
static double of_baseline(const struct row *rows, size_t count, size_t row, size_t batch)
{
	for (size_t i = 0; i < count; i++) {
		if (rows[i].options.pending == BASELINE) {
			return median_ratio(
				rows[row].samples[batch], rows[i].samples[batch], rows[row].rounds);
		}
	}
	return NAN;
}

/* ---- For programs ---- */

static void add_json(struct json_object *array, const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count * NUM_BATCHES; i++) {
		const struct row *row = &rows[i / NUM_BATCHES];
		size_t batch = i % NUM_BATCHES;
		bool fds = row->options.fds;
		struct json_object *object = json_object_new_object();
		json_object_object_add(
			object, "fences", json_object_new_string(fds ? "eventfd" : "call"));
		json_object_object_add(object, "named",
			json_object_new_string(row->options.name_any ? "any" : "oldest"));
		json_object_object_add(
			object, "pending", json_object_new_int64(row->options.pending));
		json_object_object_add(object, "batch", json_object_new_int64(batches[batch]));
		json_object_object_add(object, "ns", bench_number(row->ns[batch]));
		json_object_object_add(object, "of_256",
			bench_number(of_baseline(rows, count, i / NUM_BATCHES, batch)));
		json_object_object_add(
			object, "bare_ns", bench_number(fds ? row->bare_ns[batch] : NAN));
		json_object_object_add(
			object, "of_bare", bench_number(fds ? row->of_bare[batch] : NAN));
		json_object_object_add(object, "bytes", bench_number(row->bytes));
		json_object_array_add(array, object);
	}
}

/* ---- For people ---- */

static void print_header(unsigned int rounds)
{
	printf("bench core: a fence costs one submission that names %d pending fences (one fence\n"
	       "added, %d looked up), and its retiring. A row: with so many fences pending, on %d\n"
	       "timelines; medians of %u rounds, in nanoseconds a fence, where each fence is\n"
	       "dispatched alone and where %d are dispatched together.\n",
		LOAD_IN_FENCES, LOAD_IN_FENCES, TIMELINES, rounds, LOAD_MAX_BATCH);
}

static void print_by_call(const char *title, const struct row *rows, size_t count)
{
	printf("\n%s\n%9s %9s %9s %9s %9s %12s\n", title, "pending", "alone", "of 256's",
		"together", "of 256's", "bytes/fence");
	for (size_t i = 0; i < count; i++) {
		printf("%9u %9.0f %8.2fx %9.0f %8.2fx", rows[i].options.pending, rows[i].ns[0],
			of_baseline(rows, count, i, 0), rows[i].ns[1],
			of_baseline(rows, count, i, 1));
		if (rows[i].bytes < 0) {
			printf(" %12s\n", "-");
		} else {
			printf(" %12.0f\n", rows[i].bytes);
		}
	}
}

static void print_fds(const struct row *rows, size_t count)
{
	if (count == 0) {
		printf("\neventfds: not measured, RLIMIT_NOFILE is too low\n");
		return;
	}
	printf("\neventfds; the driver takes in-fences as descriptors; beside it the bare system\n"
	       "calls: epoll_ctl, epoll_wait, SYNC_IOC_FILE_INFO, close (goal: at most 1.50x)\n"
	       "%9s %9s %9s %9s %9s %9s %9s %12s\n",
		"pending", "alone", "bare", "ratio", "together", "bare", "ratio", "bytes/fence");
	for (size_t i = 0; i < count; i++) {
		const struct row *row = &rows[i];
		printf("%9u %9.0f %9.0f %8.2fx %9.0f %9.0f %8.2fx", row->options.pending,
			row->ns[0], row->bare_ns[0], row->of_bare[0], row->ns[1], row->bare_ns[1],
			row->of_bare[1]);
		if (row->bytes < 0) {
			printf(" %12s\n", "-");
		} else {
			printf(" %12.0f\n", row->bytes);
		}
	}
	printf("not counted on either side: making an eventfd %.0f ns, writing %.0f ns\n",
		rows[count - 1].times.make_ns, rows[count - 1].times.write_ns);
}

static void print_tables(
	const struct row *oldest, const struct row *any, const struct row *fds, size_t num_fds)
{
	print_header(oldest[0].rounds);
	print_by_call("no descriptors, signalled by call; in-fences: the oldest\n"
		      "(goals: 65536 at most 1.30x of 256's, at most 160 bytes)",
		oldest, NUM_PENDING);
	print_by_call("no descriptors, signalled by call; in-fences: any, so that nearly all work\n"
		      "is held back, which bytes/fence includes",
		any, NUM_PENDING);
	print_fds(fds, num_fds);
	if (oldest[0].empty_bytes >= 0) {
		printf("a device with %d contexts and nothing pending: %.0f bytes\n", TIMELINES,
			oldest[0].empty_bytes);
	}
}

int bench_core(unsigned int rounds, struct json_object *array)
{
	static struct row by_call[2 * NUM_PENDING], fds[MAX_ROWS];
	size_t num_oldest = plan_by_call(by_call, false);
	struct row *any = by_call + num_oldest;
	size_t num_any = plan_by_call(any, true);
	size_t num_fds = plan_fds(fds);

	rounds = bench_rounds(rounds, MAX_ROUNDS);
	set_rounds(by_call, num_oldest + num_any, rounds);
	set_rounds(fds, num_fds, rounds);

	int error = measure_by_call(by_call, num_oldest);
	if (error == 0) {
		error = measure_by_call(any, num_any);
	}
	for (size_t i = 0; i < num_fds && error == 0; i++) {
		error = measure_fds(&fds[i]);
	}
	if (error < 0) {
		return error;
	}
	if (array) {
		add_json(array, by_call, num_oldest);
		add_json(array, any, num_any);
		add_json(array, fds, num_fds);
	} else {
		print_tables(by_call, any, fds, num_fds);
	}
	return 0;
}
