/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "run.h"

#define MAX_JOBS CONTEXT_NUM_SLOTS
/* Above these many, the older half of the descriptors is closed. A job's fence is used again by the
 * next 16 jobs at most, of which none makes more than four descriptors. */
#define MAX_FDS 256u
/* So many jobs are on their way when the fence of the one before them is waited for. */
#define LAG 6u

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void run_init(struct run *run, uint32_t num_contexts, uint32_t num_rings, bool passing)
{
	*run = (struct run){
		.num_contexts = num_contexts,
		.num_rings = num_rings,
		.passing = passing,
		.max_jobs = MAX_JOBS,
		.jobs = calloc(MAX_JOBS, sizeof(struct run_job)),
		.fds = calloc(MAX_FDS + RUN_MAX_DEPENDENCIES, sizeof(int)),
	};
	if (!run->jobs || !run->fds) {
		err(1, "making a run");
	}
	memset(run->jobs, 0xff, MAX_JOBS * sizeof(struct run_job)); /* present when it counts */
	for (uint32_t i = 0; i < num_contexts; i++) {
		context_open(&run->contexts[i], num_rings, passing);
	}
}

/* Descriptors are made in ascending order, but for where older ones were closed in between: few
 * ranges, each closed by one call. */
static void close_oldest(struct run *run, uint32_t count)
{
	for (uint32_t i = 0, first = 0; i < count; i++) {
		if (i + 1 == count || run->fds[i + 1] != run->fds[i] + 1) {
			close_range((unsigned int)run->fds[first], (unsigned int)run->fds[i], 0);
			first = i + 1;
		}
	}
	run->num_fds -= count;
	memmove(run->fds, run->fds + count, run->num_fds * sizeof(int));
}

static void close_later(struct run *run, int fd)
{
	run->fds[run->num_fds++] = fd;
}

void run_finish(struct run *run)
{
	close_oldest(run, run->num_fds);
	for (uint32_t i = 0; i < run->num_contexts; i++) {
		context_close(&run->contexts[i]);
		context_unmap(&run->contexts[i]);
	}
	free(run->jobs);
	free(run->fds);
}

void run_begin(struct run *run, bool each_fence)
{
	close_oldest(run, run->num_fds);
	for (uint32_t i = 0; i < RUN_MAX_CONTEXTS; i++) {
		for (uint32_t j = 0; j < RUN_MAX_RINGS; j++) {
			run->timelines[i][j] = (struct run_timeline){ RUN_NO_JOB, RUN_NO_JOB };
		}
	}
	run->generation++;
	run->each_fence = each_fence;
	run->num_jobs = 0;
	run->num_units = 0;
	run->next_to_wait = 0;
	run->critical_path_us = 0;
	run->num_checks = 0;
	run->start_ns = now_ns();
}

/* As far as it can be seen: of a bind nothing can. */
static bool is_done(const struct run_job *job)
{
	return !job->slot || *job->slot == job->value;
}

/* A value that is there, while that of a job it had to wait for is not. The younger one was read
 * first. */
static void check_dependencies(struct run *run, const struct run_job *job, const char *seen_by)
{
	for (uint32_t i = 0; i < job->num_dependencies; i++) {
		uint32_t dependency = job->dependencies[i];

		if (!is_done(&run->jobs[dependency])) {
			errx(1, "job %u was done (%s) before job %u, which it waits for",
				(unsigned int)(job - run->jobs), seen_by, dependency);
		}
		run->num_checks++;
	}
}

static void check_job(struct run *run, uint32_t number)
{
	const struct run_job *job = &run->jobs[number];

	if (!is_done(job)) {
		errx(1, "the fence of job %u came before its value", number);
	}
	run->num_checks++;
	check_dependencies(run, job, "by its fence");
}

/* Looks at what has been written since. Also one job ahead, to see a timeline that is out of order.
 * */
static void look_at_timeline(struct run *run, struct run_timeline *timeline)
{
	while (timeline->unseen != RUN_NO_JOB) {
		const struct run_job *job = &run->jobs[timeline->unseen];
		const struct run_job *next = job->next != RUN_NO_JOB ? &run->jobs[job->next] : NULL;
		bool ahead = next && next->slot && is_done(next);

		if (!job->slot) {
			timeline->unseen = job->next;
			continue;
		}
		if (!is_done(job)) {
			if (ahead) {
				errx(1, "job %u overtook job %u on its ring", job->next,
					timeline->unseen);
			}
			return;
		}
		check_dependencies(run, job, "by its value");
		timeline->unseen = job->next;
	}
}

static void look(struct run *run)
{
	for (uint32_t i = 0; i < run->num_contexts; i++) {
		for (uint32_t j = 0; j < run->num_rings; j++) {
			look_at_timeline(run, &run->timelines[i][j]);
		}
	}
}

static void wait_job(struct run *run, uint32_t number)
{
	if (!wait_fence(run->jobs[number].fence_fd, RUN_TIMEOUT_MS)) {
		errx(1, "the fence of job %u is lost", number);
	}
	check_job(run, number);
}

static void depend(struct run *run, struct run_job *job, uint32_t dependency)
{
	if (dependency == RUN_NO_JOB) {
		return;
	}
	job->dependencies[job->num_dependencies++] = dependency;
	if (run->jobs[dependency].path_us > job->path_us) {
		job->path_us = run->jobs[dependency].path_us;
	}
}

uint32_t run_next_value(const struct run *run)
{
	return run->generation << 16 | (run->num_jobs + 1);
}

uint32_t run_next_offset(const struct run *run)
{
	return run->num_jobs * (uint32_t)sizeof(uint32_t);
}

/* Enters a job before it is submitted: it may be done by the time that returns. */
static uint32_t add_job(struct run *run, uint32_t context, uint32_t ring, uint32_t busy_us,
	const uint32_t *dependencies, uint32_t num_dependencies)
{
	uint32_t number = run->num_jobs;
	struct run_job *job = &run->jobs[number];

	if (number == run->max_jobs) {
		errx(1, "more than %u jobs in a run", run->max_jobs);
	}
	*job = (struct run_job){
		.slot = &run->contexts[context].slots[number],
		.value = run_next_value(run),
		.next = RUN_NO_JOB,
		.fence_fd = -1,
	};
	for (uint32_t i = 0; i < num_dependencies; i++) {
		depend(run, job, dependencies[i]);
	}
	depend(run, job, run->timelines[context][ring].last);
	job->path_us += busy_us;
	if (job->path_us > run->critical_path_us) {
		run->critical_path_us = job->path_us;
	}
	run->num_jobs++;
	return number;
}

static void append(struct run *run, struct run_timeline *timeline, uint32_t number)
{
	if (timeline->last != RUN_NO_JOB) {
		run->jobs[timeline->last].next = number;
	}
	timeline->last = number;
	if (timeline->unseen == RUN_NO_JOB) {
		timeline->unseen = number;
	}
}

/* Of several jobs' fences, one for all; of none, -1. */
static int in_fence(struct run *run, const uint32_t *jobs, uint32_t count)
{
	int fd = -1;

	for (uint32_t i = 0; i < count && !run->no_wait; i++) {
		if (jobs[i] == RUN_NO_JOB) {
			continue;
		}
		if (fd < 0) {
			fd = run->jobs[jobs[i]].fence_fd;
		} else {
			fd = merge_fences(fd, run->jobs[jobs[i]].fence_fd);
			close_later(run, fd);
		}
	}
	return fd;
}

/* Submits what was entered. job->in_fence_fd and the syncobjs are the caller's. */
static void submit(struct run *run, uint32_t context_index, uint32_t number,
	struct context_job *submission, bool with_file)
{
	struct context *context = &run->contexts[context_index];
	struct run_job *job = &run->jobs[number];

	if (!submission->words) {
		submission->slot = (uint32_t)(job->slot - context->slots);
		submission->value = job->value;
	}
	context_submit(context, submission, with_file ? &job->fence_fd : NULL);
	append(run, &run->timelines[context_index][submission->ring], number);
	if (with_file) {
		close_later(run, job->fence_fd);
	}
	if (run->num_fds >= MAX_FDS) {
		close_oldest(run, MAX_FDS / 2);
	}
	look(run);
	if (run->each_fence && run->num_jobs - run->next_to_wait > LAG) {
		wait_job(run, run->next_to_wait++);
	}
}

uint32_t run_submit(struct run *run, uint32_t context, uint32_t ring, uint32_t busy_us,
	const uint32_t *dependencies, uint32_t num_dependencies)
{
	uint32_t number = add_job(run, context, ring, busy_us, dependencies, num_dependencies);
	struct context_job submission = {
		.ring = ring,
		.busy_us = busy_us,
		.in_fence_fd = in_fence(run, dependencies, num_dependencies),
	};

	submit(run, context, number, &submission, true);
	return number;
}

uint32_t run_submit_words(struct run *run, uint32_t context, uint32_t ring, uint32_t busy_us,
	const struct run_words *words, const uint32_t *dependencies, uint32_t num_dependencies)
{
	uint32_t number = add_job(run, context, ring, busy_us, dependencies, num_dependencies);
	struct run_job *job = &run->jobs[number];
	struct context_job submission = {
		.ring = ring,
		.busy_us = busy_us,
		.words = words->words,
		.num_words = words->num_words,
		.in_fence_fd = in_fence(run, dependencies, num_dependencies),
	};

	if (words->binds) {
		job->slot = NULL;
	}
	submit(run, context, number, &submission, true);
	return number;
}

uint32_t run_submit_syncobj(struct run *run, uint32_t context, uint32_t ring, uint32_t busy_us,
	const struct uapi_syncobj *in, uint32_t dependency, const struct uapi_syncobj *out,
	bool last)
{
	uint32_t number = add_job(run, context, ring, busy_us, &dependency, in ? 1 : 0);
	struct context_job submission = {
		.ring = ring,
		.busy_us = busy_us,
		.in_fence_fd = -1,
		.in_syncobj = in,
		.out_syncobj = out,
	};

	submit(run, context, number, &submission, last || run->each_fence);
	return number;
}

static void wait_for_last_fences(struct run *run)
{
	for (uint32_t i = 0; i < run->num_contexts; i++) {
		for (uint32_t j = 0; j < run->num_rings; j++) {
			uint32_t last = run->timelines[i][j].last;

			if (last != RUN_NO_JOB && run->jobs[last].fence_fd >= 0) {
				wait_job(run, last);
			}
		}
	}
}

void run_end(struct run *run)
{
	uint64_t elapsed_ns;

	wait_for_last_fences(run);
	run->end_ns = now_ns();
	for (uint32_t i = 0; i < run->num_jobs; i++) {
		if (!is_done(&run->jobs[i])) {
			errx(1, "all fences have signalled, but job %u is not done", i);
		}
		run->num_checks++;
	}
	elapsed_ns = run->end_ns - run->start_ns;
	if (elapsed_ns < run->critical_path_us * 1000ull) {
		errx(1, "done after %llu us, but the jobs take %u us one after the other",
			(unsigned long long)(elapsed_ns / 1000), run->critical_path_us);
	}
}
