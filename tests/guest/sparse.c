/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <err.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xf86drm.h>

#include "command_stream.h"
#include "workloads.h"

enum { PRODUCER, CONSUMER, NUM_CONTEXTS };
enum { BIND_RING, WORK_RING, NULL_RING, NUM_RINGS };

#define BIND_BUSY_US 20
#define WORK_BUSY_US 40

/* Without waits what uses a bind is early, however slow the machine. */
#define NO_WAIT_BIND_BUSY_US 50000

/* Both contexts have these pages, each at one address at a time. */
#define NUM_PAGES 4u
#define PAGE SOFT_GPU_PAGE

/* GPU addresses in both contexts. */
#define SLOTS 0x10000000u /* the context's own buffer */
#define WINDOW 0x20000000u
#define NULL_WINDOW 0xf0000000u
#define NULL_SIZE 0x1000000u

#define MAP(resource, offset, address, size)                                                       \
	SOFT_GPU_RESOURCE, resource, SOFT_GPU_OFFSET, offset, SOFT_GPU_ADDRESS, address,           \
		SOFT_GPU_MAP, size
#define MAP_NULL(address, size) SOFT_GPU_ADDRESS, address, SOFT_GPU_MAP_NULL, size
#define UNMAP(address, size) SOFT_GPU_ADDRESS, address, SOFT_GPU_UNMAP, size
#define FILL(address, size, value)                                                                 \
	SOFT_GPU_ADDRESS, address, SOFT_GPU_VALUE, value, SOFT_GPU_FILL, size
#define COPY_WORD(to, from)                                                                        \
	SOFT_GPU_ADDRESS, to, SOFT_GPU_SOURCE, from, SOFT_GPU_COPY, (uint32_t)sizeof(uint32_t)
#define ADD_TO_WORD(value) SOFT_GPU_VALUE, value, SOFT_GPU_ADD, (uint32_t)sizeof(uint32_t)

#define WORDS(...) (const uint32_t[]){ __VA_ARGS__ }, sizeof((const uint32_t[]){ __VA_ARGS__ }) / 4
#define AFTER(...)                                                                                 \
	(const uint32_t[]){ __VA_ARGS__ },                                                         \
		sizeof((const uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t)

/* ---- Pages ---------------------------------------------------------------------------------- */

/* Makes them in one context, and gives them to the other. They end with the contexts. */
static uint32_t make_pages(const struct run *run)
{
	const struct context *contexts = run->contexts;
	struct blob blob;
	void *address = blob_make(contexts[PRODUCER].fd, use_host_memory, NUM_PAGES * PAGE, &blob);
	uint32_t handle;
	int fd;

	if (!address) {
		err(1, "making pages");
	}
	munmap(address, NUM_PAGES * PAGE);
	if (drmPrimeHandleToFD(contexts[PRODUCER].fd, blob.handle, DRM_CLOEXEC, &fd) < 0 ||
		drmPrimeFDToHandle(contexts[CONSUMER].fd, fd, &handle) < 0) {
		err(1, "sharing pages");
	}
	close(fd);
	return blob.resource;
}

/* A context's own buffer, where its jobs leave their values. */
static void bind_slots(struct context *context)
{
	const uint32_t words[] = { MAP(
		context->resource, 0, SLOTS, CONTEXT_NUM_SLOTS * (uint32_t)sizeof(uint32_t)) };
	const struct context_job job = { .ring = BIND_RING,
		.words = words,
		.num_words = sizeof(words) / sizeof(words[0]),
		.in_fence_fd = -1 };
	int fence_fd;

	context_submit(context, &job, &fence_fd);
	if (!wait_fence(fence_fd, RUN_TIMEOUT_MS)) {
		errx(1, "the first bind's fence is lost");
	}
	close(fence_fd);
}

/* ---- Jobs ----------------------------------------------------------------------------------- */

static uint32_t bind(struct run *run, uint32_t context, const uint32_t *words, uint32_t num_words,
	const uint32_t *dependencies, uint32_t num_dependencies)
{
	const struct run_words binds = { words, num_words, true };

	return run_submit_words(run, context, BIND_RING,
		run->no_wait ? NO_WAIT_BIND_BUSY_US : BIND_BUSY_US, &binds, dependencies,
		num_dependencies);
}

static uint32_t work(struct run *run, uint32_t context, uint32_t ring, const uint32_t *words,
	uint32_t num_words, const uint32_t *dependencies, uint32_t num_dependencies)
{
	const struct run_words works = { words, num_words, false };

	return run_submit_words(
		run, context, ring, WORK_BUSY_US, &works, dependencies, num_dependencies);
}

/* Leaves the value of the next job, if there is a word `found` at an address. */
#define LEAVE(run, address, found)                                                                 \
	COPY_WORD(SLOTS + run_next_offset(run), address), ADD_TO_WORD(run_next_value(run) - (found))

/*
 * A page goes through both contexts. The producer maps it, beside a null mapping, writes to it, and
 * has a null mapping in its place; the consumer maps it, and reads what was written. Whatever a
 * fence orders is seen in what jobs leave behind: a page that is not mapped yet, or no more, is a
 * fault, and a null mapping reads zero whatever is written there.
 *
 * last_read: the job that read this page last. Returns the one that does now.
 */
static uint32_t move_page(struct run *run, uint32_t resource, uint32_t page, uint32_t last_read)
{
	uint32_t written = ~run_next_value(run); /* as nothing else is */
	uint32_t bound, wrote, read, used_null, replaced;

	bound = bind(run, PRODUCER,
		WORDS(MAP(resource, page * PAGE, WINDOW, PAGE), MAP_NULL(NULL_WINDOW, NULL_SIZE)),
		NULL, 0);
	used_null = work(run, PRODUCER, NULL_RING,
		WORDS(FILL(NULL_WINDOW, PAGE, written), LEAVE(run, NULL_WINDOW, 0)), AFTER(bound));
	wrote = work(run, PRODUCER, WORK_RING,
		WORDS(FILL(WINDOW, PAGE, written), LEAVE(run, WINDOW + PAGE - 4, written)),
		AFTER(bound, last_read));
	bound = bind(run, CONSUMER, WORDS(MAP(resource, page * PAGE, WINDOW, PAGE)), NULL, 0);
	read = work(
		run, CONSUMER, WORK_RING, WORDS(LEAVE(run, WINDOW, written)), AFTER(bound, wrote));
	bind(run, CONSUMER, WORDS(UNMAP(WINDOW, PAGE)), AFTER(read));
	replaced = bind(run, PRODUCER, WORDS(UNMAP(NULL_WINDOW, NULL_SIZE), MAP_NULL(WINDOW, PAGE)),
		AFTER(wrote, used_null));
	used_null = work(run, PRODUCER, WORK_RING, WORDS(LEAVE(run, WINDOW, 0)), AFTER(replaced));
	bind(run, PRODUCER, WORDS(UNMAP(WINDOW, PAGE)), AFTER(used_null));
	return read;
}

static void submit_sparse(struct run *run, uint32_t units)
{
	static uint32_t resource;
	uint32_t last_reads[NUM_PAGES];

	if (run->generation == 1) {
		resource = make_pages(run);
		bind_slots(&run->contexts[PRODUCER]);
		bind_slots(&run->contexts[CONSUMER]);
	}
	for (uint32_t i = 0; i < units; i++) {
		uint32_t page = i % NUM_PAGES;

		last_reads[page] = move_page(
			run, resource, page, i < NUM_PAGES ? RUN_NO_JOB : last_reads[page]);
	}
}

const struct workload workload_sparse = {
	.name = "sparse",
	.unit = "page",
	.units = 100,
	.num_contexts = NUM_CONTEXTS,
	.num_rings = NUM_RINGS,
	.submit = submit_sparse,
};
