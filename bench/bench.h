/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef BENCH_H
#define BENCH_H

/*
 * What the benchmarks share. Each measures the library through its public API, next to the bare
 * system calls in the same run, in turns: other work on the machine then hits both alike.
 *
 * Errors are negative errno values; the one that fails first has printed a message.
 */

#include <stddef.h>
#include <stdint.h>

struct json_object;

/* The program's subcommand; argv[0] is its name. Returns the exit status. */
int bench_main(int argc, char **argv);

/* The value that `percent` of the values do not exceed, interpolated. Sorts them. */
double bench_percentile(double *values, size_t count, double percent);

/* A line on a terminal that the next one overwrites; nothing elsewhere. done == total wipes it. */
void bench_progress(const char *what, unsigned int done, unsigned int total);

/* Prints what failed to stderr and returns error, a negative errno value. */
int bench_error(int error, const char *what);

/* Of six digits; null for what is negative or NaN, that is not known. */
struct json_object *bench_number(double value);

/* Raises the limit of descriptors to `wanted` and some to spare, or as far as that goes; VMMs do it
 * too. Returns how many there can be without those to spare. */
uint32_t bench_raise_fd_limit(uint32_t wanted);

/* How many rounds to run of `usual`: all of them if wanted is 0, never more. */
unsigned int bench_rounds(unsigned int wanted, unsigned int usual);

/* Each measures in so many rounds (0: its usual number), then adds its rows to the array or, if
 * that is NULL, prints a table. */
int bench_core(unsigned int rounds, struct json_object *array);
int bench_wakeup(unsigned int rounds, struct json_object *array);
int bench_virgl(unsigned int rounds, struct json_object *array);
int bench_display(unsigned int rounds, struct json_object *array);
int bench_latency(unsigned int rounds, struct json_object *array);
int bench_monitors(unsigned int rounds, struct json_object *array);
int bench_implicit(unsigned int rounds, struct json_object *array);
int bench_growth(unsigned int rounds, struct json_object *array);
int bench_threads(unsigned int rounds, struct json_object *array);

/* The same, and a picture. */
int bench_growth_draw(unsigned int rounds, struct json_object *array, const char *path);

#endif
