/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

/*
 * A load keeps a number of fences pending and, fence by fence, adds one at one end and retires one
 * at the other. There are two: the library's, and the system calls alone that it cannot do without.
 *
 * Fences are spread over the timelines in turn, and their IDs count up over all of them as those of
 * a Linux guest do. They signal oldest first, so that each retires as soon as it has signalled.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOAD_IN_FENCES 4 /* or as many as are pending */
#define LOAD_MAX_BATCH 8

/* As many eventfds as a run with descriptors may use up; they are made beforehand, not timed. */
#define LOAD_MAX_FDS_RUN 256

struct load_options {
	uint32_t contexts;
	uint32_t rings;   /* of each */
	uint32_t pending; /* without descriptors at least 2 * LOAD_MAX_BATCH */
	/* Fences are eventfds and the driver takes in-fences as descriptors (driver wait). Else
	 * there are no descriptors: fences are signalled by call and work is held (host wait). */
	bool fds;
	/* In-fences are any that are pending, so that nearly all work is held back and what is
	 * looked up is in no cache. Else they are the oldest ones. */
	bool name_any;
};

struct load_times {
	double fence_ns; /* of one fence, from submission to callback */
	double make_ns;  /* of one eventfd; not part of fence_ns */
	double write_ns; /* of signalling one eventfd; not part of fence_ns */
};

struct library_load;

int library_load_create(const struct load_options *options, struct library_load **load);
void library_load_destroy(struct library_load *load);

/* Passes `count` fences through, a multiple of `batch`: so many are submitted and signalled for
 * each call of vgf_device_dispatch. */
int library_load_run(
	struct library_load *load, uint32_t count, uint32_t batch, struct load_times *times);

/* How often a thread that sleeps until the device's descriptor is readable wakes up for them. */
int library_load_count_wakeups(
	struct library_load *load, uint32_t count, uint32_t batch, uint64_t *wakeups);

/* Retires the oldest until so many are pending: with descriptors only. */
int library_load_trim(struct library_load *load, uint32_t pending);

/* Bytes of heap that the device and its contexts took, and since then. Negative: unknown. */
void library_load_heap(const struct library_load *load, double *empty, double *filled);

struct bare_load;

int bare_load_create(const struct load_options *options, struct bare_load **load);
void bare_load_destroy(struct bare_load *load);
int bare_load_run(struct bare_load *load, uint32_t count, uint32_t batch, struct load_times *times);
int bare_load_trim(struct bare_load *load, uint32_t pending);

/* A stack of eventfds for the next run. */
struct fd_pool {
	int fds[LOAD_MAX_FDS_RUN];
	uint32_t count;
};

int fd_pool_fill(struct fd_pool *pool, uint32_t count, double *make_ns);
int fd_pool_take(struct fd_pool *pool); /* the caller's; -EMFILE if it is empty */
void fd_pool_finish(struct fd_pool *pool);

#endif
