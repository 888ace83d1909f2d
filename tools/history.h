/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef HISTORY_H
#define HISTORY_H

/* What happened to the fences of a device: of a file that 'vgfence gpu --trace' wrote, or of the
 * replay of a recording. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vgfence/inspect.h>

#include "vmm.h"

/* In place of a time: that has not happened. In place of an index: there is none. */
#define HISTORY_NEVER UINT64_MAX
#define HISTORY_NONE SIZE_MAX

struct history_job {
	struct vgf_fence_name fence;
	size_t track;
	size_t before; /* the job before it on its track */
	/* In the order in which they come. It starts once all before it on its track, and its
	 * in-fences, have signalled: until then the GPU has it in its queue. */
	uint64_t accept_ns, run_ns, start_ns, signal_ns, retire_ns;
	bool held, refused, stalled;
	int status;
	size_t first_wait, num_waits;
};

struct history_wait {
	size_t waiter, producer; /* indices of jobs; the producer may be HISTORY_NONE */
};

/* One context and ring. */
struct history_track {
	uint32_t ctx_id;
	int32_t ring;
	size_t last; /* job */
};

struct history_counter {
	uint64_t t_ns;
	uint32_t pending, held, fds;
};

struct history {
	uint64_t start_ns, end_ns; /* the first event and the last one */
	struct history_job *jobs;  /* in the order in which they were accepted */
	size_t num_jobs, max_jobs;
	struct history_wait *waits;
	size_t num_waits, max_waits;
	struct history_track *tracks; /* in the order in which they came */
	size_t num_tracks, max_tracks;
	struct history_counter *counters;
	size_t num_counters, max_counters;
	uint64_t num_lost;     /* events that the file lacks */
	uint64_t num_unfenced; /* submissions without a fence */
	size_t *by_name;       /* a hash table of jobs */
	size_t name_mask;
	bool passing; /* a fence was named as an in-fence */
	int error;    /* of adding, or 0 */
};

/* Loads either kind of file; options: of the replay. Returns 0, or a negative errno value after a
 * message to stderr; then there is nothing to finish. */
int history_load(struct history *history, const char *path, const struct vmm_options *options);
void history_finish(struct history *history);

/* When it was over, or the end of what is known. */
static inline uint64_t history_end(const struct history *history, uint64_t t_ns)
{
	return t_ns == HISTORY_NEVER ? history->end_ns : t_ns;
}

/* "context 1 ring 0", or "global timeline". */
#define HISTORY_NAME_SIZE 48
const char *history_track_name(const struct history_track *track, char text[HISTORY_NAME_SIZE]);

/* What is shown of it: from `from_ns` on, `to_ns` not included. */
struct history_window {
	uint64_t from_ns, to_ns;
};

bool history_shows(const struct history *history, const struct history_window *window,
	const struct history_job *job);

/* The three ways to show it. The first two return 0 or a negative errno value of the file. */
int history_write_perfetto(
	const struct history *history, const struct history_window *window, const char *path);
int history_write_svg(const struct history *histories, const char *const *titles,
	const struct history_window *windows, size_t count, const char *path);
/* job: the way to it is told, or to none: HISTORY_NONE. */
void history_print(const struct history *history, const struct history_window *window, size_t job);

/* The job before it that decided when it started, or HISTORY_NONE: it started when it could. */
size_t history_cause(const struct history *history, const struct history_job *job);

/* The last job with this name, or HISTORY_NONE. */
size_t history_find(const struct history *history, const struct vgf_fence_name *fence);

#endif
