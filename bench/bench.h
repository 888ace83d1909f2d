/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef BENCH_H
#define BENCH_H

/*
 * What the benchmarks share. Each measures the library through its public API, next to the bare
 * system calls in the same run, in turns: what else the machine does then hits both alike.
 *
 * Errors are negative errno values; the one that fails first has printed a message.
 */

#include <stddef.h>

struct json_object;

/* The value that `percent` of the values do not exceed, interpolated. Sorts them. */
double bench_percentile(double *values, size_t count, double percent);

/* A line on a terminal that the next one overwrites; nothing elsewhere. done == total wipes it. */
void bench_progress(const char *what, unsigned int done, unsigned int total);

/* Prints what failed to stderr and returns error, a negative errno value. */
int bench_error(int error, const char *what);

/* To hundredths; null for what is negative or NaN, that is not known. */
struct json_object *bench_number(double value);

/* Each measures, then adds its rows to the array or, where that is NULL, prints a table. */
int bench_core(struct json_object *array);
int bench_wakeup(struct json_object *array);
int bench_virgl(struct json_object *array);

#endif
