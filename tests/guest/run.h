/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef RUN_H
#define RUN_H

/*
 * One run of a workload: the jobs that it submits, what each depends on, and whether what is seen
 * of them is right. What is wrong ends the program, with a message.
 *
 * System calls are slow in the guest, so a run that is measured makes none for its checks: whenever
 * it submits, it looks at the values that jobs have written so far. A job's value may not be there
 * before those of all that it depends on. A run with `each_fence` also waits for each job's
 * fence, shortly after it was submitted, and looks at once whether the values are there.
 */

#include <stdbool.h>
#include <stdint.h>

#include "context.h"

#define RUN_MAX_CONTEXTS 4
#define RUN_MAX_RINGS 4
#define RUN_MAX_DEPENDENCIES 4 /* of a job, besides the one before it on its ring */
#define RUN_NO_JOB UINT32_MAX

/* Longer than anything here takes, by far: a fence that has not come by then is lost. */
#define RUN_TIMEOUT_MS 20000

struct run_job {
	volatile uint32_t *slot; /* NULL: of one that binds, which leaves nothing to be seen */
	uint32_t value;          /* in the slot, once the job is done */
	uint32_t dependencies[RUN_MAX_DEPENDENCIES + 1];
	uint32_t num_dependencies;
	uint32_t next;    /* of its timeline, or RUN_NO_JOB */
	uint32_t path_us; /* the longest way to its end */
	int fence_fd;
};

struct run_words {
	const uint32_t *words;
	uint32_t num_words;
	bool binds;
};

struct run_timeline {
	uint32_t last;   /* job, or RUN_NO_JOB */
	uint32_t unseen; /* the first whose value has not been seen */
};

struct run {
	struct context contexts[RUN_MAX_CONTEXTS];
	uint32_t num_contexts, num_rings;
	bool passing, each_fence;
	bool no_wait;        /* the control: no job waits for another */
	uint32_t generation; /* how many runs there were; part of the values */
	struct run_job *jobs;
	uint32_t num_jobs, max_jobs;
	uint32_t next_to_wait; /* with each_fence */
	struct run_timeline timelines[RUN_MAX_CONTEXTS][RUN_MAX_RINGS];
	int *fds; /* to be closed, in the order in which they were made */
	uint32_t num_fds;
	uint32_t num_units;
	uint64_t start_ns, end_ns;
	uint32_t critical_path_us;
	uint64_t num_checks;
};

void run_init(struct run *run, uint32_t num_contexts, uint32_t num_rings, bool passing);
void run_finish(struct run *run);

/* Forgets all jobs, for a run anew; from here on the time counts. */
void run_begin(struct run *run, bool each_fence);

/* Waits for the last fence of each timeline; the time ends. Then looks at all values. */
void run_end(struct run *run);

/*
 * Submits a job that keeps its ring busy for so long. It waits for the jobs given, by one sync
 * file; RUN_NO_JOB is none. Returns its number.
 */
uint32_t run_submit(struct run *run, uint32_t context, uint32_t ring, uint32_t busy_us,
	const uint32_t *dependencies, uint32_t num_dependencies);

/*
 * The same for a job that is to do what the words say: to leave the value of run_next_value in its
 * context's buffer, run_next_offset bytes from its beginning; or if it `binds`, nothing.
 */
uint32_t run_submit_words(struct run *run, uint32_t context, uint32_t ring, uint32_t busy_us,
	const struct run_words *words, const uint32_t *dependencies, uint32_t num_dependencies);
uint32_t run_next_value(const struct run *run);
uint32_t run_next_offset(const struct run *run);

/*
 * The same, waiting by syncobj for the one job. It only has a sync file for its own fence where it
 * is the `last`, or with each_fence: the kernel here tells of a timeline's point one tick late.
 */
uint32_t run_submit_syncobj(struct run *run, uint32_t context, uint32_t ring, uint32_t busy_us,
	const struct uapi_syncobj *in, uint32_t dependency, const struct uapi_syncobj *out,
	bool last);

uint64_t now_ns(void);

#endif
