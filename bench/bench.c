/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* vgfence bench: what the library costs, in numbers that can be had again on any machine. */

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>

#include "bench.h"
#include "commands.h"

static const struct {
	const char *name;
	int (*run)(struct json_object *rows);
} benchmarks[] = {
	{ "core", bench_core },
	{ "wakeup", bench_wakeup },
	{ "virgl", bench_virgl },
};

#define NUM_BENCHMARKS (sizeof(benchmarks) / sizeof(benchmarks[0]))

static int compare_doubles(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

double bench_percentile(double *values, size_t count, double percent)
{
	if (count == 0) {
		return NAN;
	}
	qsort(values, count, sizeof(values[0]), compare_doubles);
	double at = percent / 100 * (double)(count - 1);
	size_t below = (size_t)at;
	size_t above = below + 1 < count ? below + 1 : below;
	return values[below] + (values[above] - values[below]) * (at - (double)below);
}

void bench_progress(const char *what, unsigned int done, unsigned int total)
{
	if (!isatty(STDERR_FILENO)) {
		return;
	}
	if (done < total) {
		fprintf(stderr, "\r\033[K%s: %u/%u", what, done, total);
	} else {
		fprintf(stderr, "\r\033[K");
	}
	fflush(stderr);
}

int bench_error(int error, const char *what)
{
	fprintf(stderr, "vgfence bench: %s: %s\n", what, strerror(-error));
	return error;
}

struct json_object *bench_number(double value)
{
	/* JSON has no NaN, and nobody needs the 17 digits that json-c would print. */
	return isnan(value) || value < 0 ? NULL : json_object_new_double(round(value * 100) / 100);
}

static int usage(FILE *out)
{
	fputs("usage: vgfence bench [core|wakeup|virgl] [--json]\n"
	      "\n"
	      "  core    time and memory of a fence, with few and with many pending\n"
	      "  wakeup  from a signal in another thread to the callback\n"
	      "  virgl   the virglrenderer plugin beside virglrenderer alone\n"
	      "\n"
	      "Without a name: all of them. --json: arrays of objects instead of tables.\n",
		out);
	return out == stdout ? EXIT_SUCCESS : 2;
}

static int run_tables(const char *name)
{
	bool first = true;

	for (size_t i = 0; i < NUM_BENCHMARKS; i++) {
		if (name && strcmp(name, benchmarks[i].name) != 0) {
			continue;
		}
		if (!first) {
			putchar('\n');
		}
		first = false;
		if (benchmarks[i].run(NULL) < 0) {
			return EXIT_FAILURE;
		}
	}
	return EXIT_SUCCESS;
}

/* One benchmark is an array; all of them are an object of arrays. */
static int run_json(const char *name)
{
	struct json_object *all = json_object_new_object();
	struct json_object *shown = all;
	int result = EXIT_SUCCESS;

	for (size_t i = 0; i < NUM_BENCHMARKS; i++) {
		if (name && strcmp(name, benchmarks[i].name) != 0) {
			continue;
		}
		struct json_object *rows = json_object_new_array();
		json_object_object_add(all, benchmarks[i].name, rows);
		if (benchmarks[i].run(rows) < 0) {
			result = EXIT_FAILURE;
			break;
		}
		if (name) {
			shown = rows;
		}
	}
	if (result == EXIT_SUCCESS) {
		puts(json_object_to_json_string_ext(
			shown, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED));
	}
	json_object_put(all);
	return result;
}

static bool is_benchmark(const char *name)
{
	for (size_t i = 0; i < NUM_BENCHMARKS; i++) {
		if (strcmp(name, benchmarks[i].name) == 0) {
			return true;
		}
	}
	return false;
}

int bench_main(int argc, char **argv)
{
	const char *name = NULL;
	bool json = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			return usage(stdout);
		} else if (strcmp(argv[i], "--json") == 0) {
			json = true;
		} else if (!name && is_benchmark(argv[i])) {
			name = argv[i];
		} else {
			return usage(stderr);
		}
	}
	return json ? run_json(name) : run_tables(name);
}
