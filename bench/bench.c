/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* vgfence bench: what the library costs, in numbers that can be had again on any machine. */

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <json-c/json.h>

#include "bench.h"

#define SPARE_FDS 64 /* epoll, standard streams, the library's own */

static const struct {
	const char *name;
	int (*run)(unsigned int rounds, struct json_object *rows);
} benchmarks[] = {
	{ "core", bench_core },
	{ "wakeup", bench_wakeup },
	{ "virgl", bench_virgl },
	{ "display", bench_display },
	{ "latency", bench_latency },
	{ "monitors", bench_monitors },
	{ "implicit", bench_implicit },
	{ "growth", bench_growth },
	{ "threads", bench_threads },
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

uint32_t bench_raise_fd_limit(uint32_t wanted)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
		return 0;
	}
	if (limit.rlim_cur < (rlim_t)wanted + SPARE_FDS) {
		rlim_t before = limit.rlim_cur;
		limit.rlim_cur = (rlim_t)wanted + SPARE_FDS;
		if (limit.rlim_cur > limit.rlim_max) {
			limit.rlim_cur = limit.rlim_max;
		}
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
			limit.rlim_cur = before;
		}
	}
	if (limit.rlim_cur >= (rlim_t)wanted + SPARE_FDS) {
		return wanted;
	}
	return limit.rlim_cur > SPARE_FDS ? (uint32_t)(limit.rlim_cur - SPARE_FDS) : 0;
}

unsigned int bench_rounds(unsigned int wanted, unsigned int usual)
{
	return wanted > 0 && wanted < usual ? wanted : usual;
}

int bench_error(int error, const char *what)
{
	fprintf(stderr, "vgfence bench: %s: %s\n", what, strerror(-error));
	return error;
}

struct json_object *bench_number(double value)
{
	char text[32];

	/* JSON has no NaN, and nobody needs the 17 digits that json-c would print. */
	if (isnan(value) || value < 0) {
		return NULL;
	}
	snprintf(text, sizeof(text), "%.6g", value);
	return json_object_new_double_s(value, text);
}

struct options {
	const char *name;    /* of one benchmark; NULL: all */
	unsigned int rounds; /* 0: as many as each has usually */
	bool json;
	const char *svg; /* where to draw a picture; NULL: nowhere */
};

static int usage(FILE *out)
{
	fputs("usage: vgfence bench [BENCHMARK] [--rounds=N] [--json]\n"
	      "       vgfence bench growth [--rounds=N] [--json] [--svg=FILE]\n"
	      "\n"
	      "  core        time and memory of a fence, with few and with many pending\n"
	      "  wakeup      from a signal in another thread to the callback\n"
	      "  virgl       the virglrenderer plugin beside virglrenderer alone\n"
	      "  display     what the device copies of a frame, by each way to a display\n"
	      "  latency     of a frame to the screen: with passing, without, beside a slow one\n"
	      "  monitors    four at 144 Hz: frames shown, latency, memory; a round is a second\n"
	      "  implicit    a submission whose buffers others have as dma-bufs\n"
	      "  growth      a fence with 1 to 1024 contexts of 1 to 64 rings, 1 to 64 deep\n"
	      "  threads     a fence if one thread submits, and if up to ten do\n"
	      "\n"
	      "Without a name: all of them.\n"
	      "\n"
	      "  --rounds=N  at most so many, for a quick look; their medians are less certain\n"
	      "  --json      arrays of objects instead of tables\n"
	      "  --svg=FILE  a picture of it, too\n",
		out);
	return out == stdout ? EXIT_SUCCESS : 2;
}

static bool is_chosen(const struct options *options, size_t benchmark)
{
	return options->name == NULL || strcmp(options->name, benchmarks[benchmark].name) == 0;
}

static int run(const struct options *options, size_t benchmark, struct json_object *rows)
{
	if (options->svg) {
		return bench_growth_draw(options->rounds, rows, options->svg);
	}
	return benchmarks[benchmark].run(options->rounds, rows);
}

static int run_tables(const struct options *options)
{
	bool first = true;

	for (size_t i = 0; i < NUM_BENCHMARKS; i++) {
		if (!is_chosen(options, i)) {
			continue;
		}
		if (!first) {
			putchar('\n');
		}
		first = false;
		if (run(options, i, NULL) < 0) {
			return EXIT_FAILURE;
		}
	}
	return EXIT_SUCCESS;
}

/* One benchmark is an array; all of them are an object of arrays. */
static int run_json(const struct options *options)
{
	struct json_object *all = json_object_new_object();
	struct json_object *shown = all;
	int result = EXIT_SUCCESS;

	for (size_t i = 0; i < NUM_BENCHMARKS; i++) {
		if (!is_chosen(options, i)) {
			continue;
		}
		struct json_object *rows = json_object_new_array();
		json_object_object_add(all, benchmarks[i].name, rows);
		if (run(options, i, rows) < 0) {
			result = EXIT_FAILURE;
			break;
		}
		if (options->name) {
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

static bool parse_rounds(const char *text, unsigned int *rounds)
{
	char *end;
	unsigned long number;

	errno = 0;
	number = strtoul(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || *end != '\0' || errno != 0 || number < 1 ||
		number > UINT_MAX) {
		return false;
	}
	*rounds = (unsigned int)number;
	return true;
}

int bench_main(int argc, char **argv)
{
	static const char rounds[] = "--rounds=", svg[] = "--svg=";
	struct options options = { 0 };

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			return usage(stdout);
		} else if (strcmp(argv[i], "--json") == 0) {
			options.json = true;
		} else if (strncmp(argv[i], rounds, strlen(rounds)) == 0) {
			if (!parse_rounds(argv[i] + strlen(rounds), &options.rounds)) {
				return usage(stderr);
			}
		} else if (strncmp(argv[i], svg, strlen(svg)) == 0) {
			options.svg = argv[i] + strlen(svg);
		} else if (!options.name && is_benchmark(argv[i])) {
			options.name = argv[i];
		} else {
			return usage(stderr);
		}
	}
	if (options.svg && (!options.name || strcmp(options.name, "growth") != 0)) {
		return usage(stderr);
	}
	return options.json ? run_json(&options) : run_tables(&options);
}
