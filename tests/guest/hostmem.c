/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Memory of the host in the guest's window: where blobs are, that each has its own, and that what
 * was mapped is given back. */

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "workloads.h"

#define PAGE 4096u
#define NUM_BLOBS 64
#define MAX_PAGES 9
#define NUM_CYCLES 200
#define LARGE (16u << 20)
#define MAX_LARGE 4096 /* 64 GiB: more than any window */

static uint32_t num_checks;

static void check(bool right, const char *what)
{
	num_checks++;
	if (!right) {
		errx(1, "host memory: %s", what);
	}
}

struct mapped {
	struct blob blob;
	volatile uint32_t *words;
};

/* The kernel frees a place when the device has answered, which is after a process has ended. So
 * there may be room in a moment. */
static bool try(int fd, struct mapped *mapped, size_t size)
{
	const struct timespec moment = { .tv_nsec = 1000000 };
	uint64_t end_ns = now_ns() + RUN_TIMEOUT_MS * 1000000ull;

	do {
		mapped->words = blob_make(fd, true, size, &mapped->blob);
		if (mapped->words || errno != ENOSPC) {
			break;
		}
		nanosleep(&moment, NULL);
	} while (now_ns() < end_ns);
	return mapped->words;
}

static void make(int fd, struct mapped *mapped, size_t size)
{
	if (!try(fd, mapped, size)) {
		err(1, "mapping %zu bytes of the host's memory", size);
	}
}

static void end(int fd, struct mapped *mapped)
{
	munmap((void *)mapped->words, mapped->blob.size);
	blob_close(fd, &mapped->blob);
}

/* A word at the beginning of each page, and at its end. */
static void fill(struct mapped *mapped, uint32_t value)
{
	for (size_t at = 0; at < mapped->blob.size / 4; at += PAGE / 4) {
		mapped->words[at] = value + (uint32_t)at;
		mapped->words[at + PAGE / 4 - 1] = ~(value + (uint32_t)at);
	}
}

static void check_filled(const struct mapped *mapped, uint32_t value)
{
	for (size_t at = 0; at < mapped->blob.size / 4; at += PAGE / 4) {
		check(mapped->words[at] == value + (uint32_t)at &&
				mapped->words[at + PAGE / 4 - 1] == ~(value + (uint32_t)at),
			"a blob has lost what was written to it");
	}
}

/* Blobs of all sizes are there at a time; every other one makes room for another. */
static void check_own_memory(int fd)
{
	struct mapped blobs[NUM_BLOBS];

	for (uint32_t i = 0; i < NUM_BLOBS; i++) {
		make(fd, &blobs[i], (1 + i % MAX_PAGES) * PAGE);
		check(blobs[i].words[0] == 0, "a new blob is not empty");
		fill(&blobs[i], i << 24);
	}
	for (uint32_t i = 0; i < NUM_BLOBS; i += 2) {
		end(fd, &blobs[i]);
		make(fd, &blobs[i], (1 + (i + 4) % MAX_PAGES) * PAGE);
		check(blobs[i].words[0] == 0, "a new blob is not empty");
		fill(&blobs[i], i << 24 | 0x800000);
	}
	for (uint32_t i = 0; i < NUM_BLOBS; i++) {
		check_filled(&blobs[i], i % 2 ? i << 24 : i << 24 | 0x800000);
		end(fd, &blobs[i]);
	}
}

/* What the host writes is seen without being asked for. */
static void check_jobs(void)
{
	bool before = use_host_memory;
	struct context context;

	use_host_memory = true;
	context_open(&context, 1, false);
	for (uint32_t i = 0; i < NUM_BLOBS; i++) {
		const struct context_job job = {
			.slot = i * (CONTEXT_NUM_SLOTS / NUM_BLOBS),
			.value = i + 1,
			.in_fence_fd = -1,
		};
		int fence;

		context_submit(&context, &job, &fence);
		check(wait_fence(fence, RUN_TIMEOUT_MS), "a job has not ended");
		check(context.slots[job.slot] == job.value, "a job's value is not in the blob");
		close(fence);
	}
	context_close(&context);
	context_unmap(&context);
	use_host_memory = before;
}

static void check_cycles(int fd)
{
	for (uint32_t i = 0; i < NUM_CYCLES; i++) {
		struct mapped mapped;

		make(fd, &mapped, (1 + i % MAX_PAGES) * PAGE);
		fill(&mapped, i);
		check_filled(&mapped, i);
		end(fd, &mapped);
	}
}

/* As much as there is, but at least `expected` if that takes a moment; returns how many. The
 * process ends with them. */
static uint32_t take_all(uint32_t expected)
{
	int fd = open_render_node(0);
	struct mapped mapped;
	uint32_t count = 0;

	if (context_init(fd, CAPSET_DRM, 1, false) < 0) {
		return 0;
	}
	while (count < MAX_LARGE) {
		mapped.words = blob_make(fd, true, LARGE, &mapped.blob);
		if (!mapped.words && (count >= expected || !try(fd, &mapped, LARGE))) {
			break;
		}
		mapped.words[0] = count++;
	}
	return count;
}

/* In a process of its own. */
static uint32_t count_all(uint32_t expected)
{
	uint32_t count = 0;
	int pipes[2];

	if (pipe(pipes) < 0) {
		err(1, "pipe");
	}
	if (fork() == 0) {
		count = take_all(expected);
		_exit(write(pipes[1], &count, sizeof(count)) != sizeof(count));
	}
	close(pipes[1]);
	if (read(pipes[0], &count, sizeof(count)) != sizeof(count)) {
		errx(1, "a process that takes all memory has died");
	}
	close(pipes[0]);
	wait(NULL);
	return count;
}

/* A process that takes all of it and ends leaves all of it. */
static void check_given_back(void)
{
	uint32_t count = count_all(1);

	check(count > 0, "there is none");
	check(count_all(count) >= count, "a process that has ended has left less of it");
}

uint32_t check_hostmem(void)
{
	int fd = open_render_node(0);

	if (context_init(fd, CAPSET_DRM, 1, false) < 0) {
		errx(1, "making a context");
	}
	check_own_memory(fd);
	check_jobs();
	check_cycles(fd);
	check_given_back();
	check_own_memory(fd);
	close(fd);
	return num_checks;
}
