/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Page flips of frames that are still being drawn, as the kernel's trace of virtio-gpu's queue has
 * them: whether the kernel waits for a frame before it sends the flush, or names its fence in it.
 */

#include <err.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernel_trace.h"
#include "monitor.h"
#include "run.h"
#include "workloads.h"

#define NUM_FLIPS 4

/* How long a frame takes to draw. On a busy machine it may be ready before the kernel has come to
 * the flush, which looks as if it had waited: then once more with longer frames. */
#define FIRST_DRAW_US 50000
#define LAST_DRAW_US (16 * FIRST_DRAW_US)

struct screen {
	struct monitor monitor;
	uint32_t num_checks;
};

static void check(struct screen *screen, bool right, const char *what)
{
	screen->num_checks++;
	if (!right) {
		errx(1, "%s", what);
	}
}

/* ---- The trace ------------------------------------------------------------------------------ */

#define FLAG_RING_IDX 2

static bool has_ring(const char *line)
{
	return kernel_trace_number(line, " flags=") & FLAG_RING_IDX;
}

/* Nothing but flushes is on rings of no context. */
static void check_ring(struct screen *screen, const char *line)
{
	if (strstr(line, "virtio_gpu_cmd_queue:") && kernel_trace_number(line, " ctx_id=") == 0 &&
		kernel_trace_number(line, " type=") != TRACE_COMMAND_FLUSH) {
		check(screen, !has_ring(line), "not a flush, on a ring of no context");
	}
}

/*
 * Looks at what one flip has left in the trace, and prints it. Returns whether the flush was sent
 * before the frame was drawn: before the request that draws it was answered. An answer has the
 * number of its request.
 */
static bool trace_end(struct screen *screen, bool print)
{
	unsigned long submission = 0, flush = 0;
	bool drawn = false, before = false;
	FILE *trace = kernel_trace_end();
	char line[512];

	while (fgets(line, sizeof(line), trace)) {
		unsigned long seqno = kernel_trace_number(line, " seqno=");

		check_ring(screen, line);
		if (strstr(line, "virtio_gpu_cmd_response:")) {
			drawn |= submission != 0 && seqno == submission;
		} else if (!submission &&
			kernel_trace_number(line, " type=") == TRACE_COMMAND_SUBMIT) {
			submission = seqno;
		} else if (!flush && submission &&
			kernel_trace_number(line, " type=") == TRACE_COMMAND_FLUSH) {
			flush = seqno;
			before = !drawn;
			check(screen, has_ring(line) == has_fence_passing(),
				"whether the flush is on its screen's timeline");
		}
		if (print && seqno != 0 && (seqno == submission || seqno == flush)) {
			fputs(line, stderr);
		}
	}
	fclose(trace);
	check(screen, submission && drawn && flush, "a flip is not in the kernel's trace");
	return before;
}

/* ---- Flips ---------------------------------------------------------------------------------- */

bool has_screen(void)
{
	int fd = card_find();

	if (fd >= 0) {
		close(fd);
	}
	return fd >= 0;
}

static void commit(const struct monitor *monitor, uint32_t buffer, int in_fence_fd)
{
	drmModeAtomicReq *request = drmModeAtomicAlloc();

	monitor_add(monitor, request, buffer, in_fence_fd);
	card_commit(monitor->fd, request, NULL);
}

static void wait_for_event(const struct monitor *monitor)
{
	drmEventContext context = { .version = 2 };

	card_wait(monitor->fd, &context);
}

/* What the kernel is given to wait for. */
enum frame_fence {
	FENCE_SHAREABLE,
	FENCE_PRIVATE, /* only its own context may wait for it */
	FENCE_MERGED,  /* with one that has signalled by then */
};

/* Takes the fence. Returns one that has another one with it, which has signalled. */
static int merge_with_signalled(int other_fd, int fence_fd)
{
	int merged_fd = merge_fences(other_fd, fence_fd);

	if (!wait_fence(other_fd, RUN_TIMEOUT_MS)) {
		errx(1, "a fence is lost");
	}
	close(other_fd);
	close(fence_fd);
	return merged_fd;
}

/* Returns whether the flush went out before the frame was there. */
static bool flip(
	struct screen *screen, uint32_t number, uint32_t draw_us, enum frame_fence kind, bool print)
{
	struct monitor *monitor = &screen->monitor;
	struct context *context = &monitor->contexts[number % MONITOR_NUM_BUFFERS];
	const struct context_job job = {
		.busy_us = draw_us,
		.slot = MONITOR_WIDTH * MONITOR_HEIGHT / 2,
		.value = number + 1,
		.in_fence_fd = -1,
		.private_fence = kind == FENCE_PRIVATE,
	};
	const struct context_job other = { .busy_us = FIRST_DRAW_US / 10, .in_fence_fd = -1 };
	int fence_fd, other_fd = -1;

	if (kind == FENCE_MERGED) {
		context_submit(
			&monitor->contexts[(number + 1) % MONITOR_NUM_BUFFERS], &other, &other_fd);
	}
	kernel_trace_begin();
	context_submit(context, &job, &fence_fd);
	if (kind == FENCE_MERGED) {
		fence_fd = merge_with_signalled(other_fd, fence_fd);
	}
	commit(monitor, number % MONITOR_NUM_BUFFERS, fence_fd);
	wait_for_event(monitor);
	check(screen, wait_fence(fence_fd, 0) && context->slots[job.slot] == job.value,
		"a flip is over before its frame is there");
	close(fence_fd);
	return trace_end(screen, print);
}

/* A screen that is off shows nothing, so no flush could wait for the frame: who commits it does. */
static void check_off(struct screen *screen)
{
	struct monitor *monitor = &screen->monitor;
	drmModeAtomicReq *request = drmModeAtomicAlloc();
	const struct context_job job = { .busy_us = FIRST_DRAW_US, .in_fence_fd = -1 };
	int fence_fd;

	monitor_set_active(monitor, false);
	context_submit(&monitor->contexts[1], &job, &fence_fd);
	monitor_add(monitor, request, 1, fence_fd);
	card_commit_and_wait(monitor->fd, request, 0);
	check(screen, wait_fence(fence_fd, 0), "nobody waits for a frame of a screen that is off");
	close(fence_fd);
	monitor_set_active(monitor, true);
}

uint32_t check_screen(bool passing)
{
	bool named = passing || passes_all();
	struct screen screen = { 0 };
	uint32_t number = 0;

	monitor_open(&screen.monitor, card_open(), 0, passing);
	fprintf(stderr, "a page flip in the kernel's trace, %s fence passing:\n",
		passing ? "with" : "without");
	for (uint32_t draw_us = FIRST_DRAW_US; number < NUM_FLIPS; number++) {
		enum frame_fence kind = number % 2 == 0 ? FENCE_MERGED : FENCE_SHAREABLE;
		bool before = flip(&screen, number, draw_us, kind, number == NUM_FLIPS - 1);

		if (named && !before && draw_us < LAST_DRAW_US) {
			draw_us *= 2;
			number = 0;
			continue;
		}
		check(&screen, before == named,
			named ? "the kernel waited for a frame before it sent the flush" :
				"the kernel sent the flush before the frame was there");
	}
	if (passing && !passes_all()) {
		check(&screen, !flip(&screen, number, FIRST_DRAW_US, FENCE_PRIVATE, false),
			"the flush names a fence that is not shareable");
	}
	check_off(&screen);
	monitor_close(&screen.monitor);
	close(screen.monitor.fd);
	return screen.num_checks;
}
