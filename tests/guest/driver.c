/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xf86drm.h>

#include "export_fence.h"
#include "vgem.h"
#include "workloads.h"

/*
 * Who waits for what is seen by when a submission returns: one that the guest's kernel lets wait
 * returns when its in-fences have signalled, one whose in-fences are passed returns at once.
 * The work before that fence takes long_us. On a busy machine it may be over before anybody looks,
 * which looks as if the kernel had waited. A kernel that waits does so however long the work takes,
 * so all is done once more with longer work, and only the longest decides.
 */
#define FIRST_LONG_US 50000
#define LAST_LONG_US (16 * FIRST_LONG_US)
#define SHORT_US 10

static uint32_t long_us;
static bool is_unsure; /* whether the kernel has waited, or the machine was slow */

#define MAX_PASSED 64 /* MAX_IN_FENCES of the kernel */
#define NUM_TOO_MANY 6

static uint32_t num_checks;

static void __attribute__((format(printf, 2, 3))) check(bool right, const char *format, ...)
{
	va_list args;

	num_checks++;
	if (right) {
		return;
	}
	va_start(args, format);
	vwarnx(format, args);
	va_end(args);
	exit(1);
}

/* What work that was submitted has to leave in its context's buffer. */
static struct result {
	const struct context *context;
	uint32_t slot, value;
} results[2 * MAX_PASSED];
static uint32_t num_results;

/* Returns a value of its own for a job, and expects it in that slot instead of an earlier job's. */
static uint32_t next_value(const struct context *context, uint32_t slot)
{
	static uint32_t value;
	uint32_t i = 0;

	while (i < num_results && (results[i].context != context || results[i].slot != slot)) {
		i++;
	}
	if (i == sizeof(results) / sizeof(results[0])) {
		errx(1, "there is more work than was expected");
	}
	num_results = i < num_results ? num_results : i + 1;
	results[i] = (struct result){ context, slot, ++value };
	return value;
}

static void check_results(const char *what)
{
	for (uint32_t i = 0; i < num_results; i++) {
		const struct result *result = &results[i];

		check(result->context->slots[result->slot] == result->value,
			"%s: done before work that it waits for", what);
	}
	num_results = 0;
}

/* A job of a context; returns its fence. */
static int submit(struct context *context, uint32_t ring, uint32_t busy_us, int in_fence_fd,
	bool private_fence)
{
	const struct context_job job = {
		.ring = ring,
		.busy_us = busy_us,
		.slot = ring,
		.value = next_value(context, ring),
		.in_fence_fd = in_fence_fd,
		.private_fence = private_fence,
	};
	int fd;

	context_submit(context, &job, &fd);
	return fd;
}

static bool has_signalled(int fd)
{
	return wait_fence(fd, 0);
}

static void wait_and_close(int fd)
{
	check(wait_fence(fd, RUN_TIMEOUT_MS), "a fence is lost");
	close(fd);
}

enum waits { HOST_WAITS, GUEST_WAITS };

/* Who waits for what was not asked for, or not shared. */
static enum waits waits_unasked(void)
{
	return passes_all() ? HOST_WAITS : GUEST_WAITS;
}

/* Submits to ring 0 of a context a job that waits for the fence, and with that for all work so far.
 * Returns the job's. */
static int submit_behind(
	struct context *context, int in_fence_fd, enum waits waits, const char *what)
{
	int fd = submit(context, 0, SHORT_US, in_fence_fd, false);
	bool waited = has_signalled(in_fence_fd);

	if (waited && waits == HOST_WAITS && long_us < LAST_LONG_US) {
		is_unsure = true;
	} else {
		check(waited == (waits == GUEST_WAITS), "%s: the %s", what,
			waited ? "guest's kernel has waited" : "guest's kernel has not waited");
	}
	return fd;
}

/* The guest may hear of the in-fence after the job's, which is on another timeline: whether the
 * work was done is seen by what it has left. Takes both. */
static void check_behind(int fd, int in_fence_fd, const char *what)
{
	wait_and_close(fd);
	check_results(what);
	wait_and_close(in_fence_fd);
}

/* Takes the fence. */
static void check_who_waits(
	struct context *context, int in_fence_fd, enum waits waits, const char *what)
{
	int fd = submit_behind(context, in_fence_fd, waits, what);

	check_behind(fd, in_fence_fd, what);
}

static void check_refusals(bool available)
{
	const struct context_job job = { .busy_us = SHORT_US, .value = 1, .in_fence_fd = -1 };
	struct context context;
	int fd = open_render_node(0), out;

	check(context_init(fd, CAPSET_DRM, 1, true) == (available ? 0 : -EINVAL),
		"a context asks for fence passing");
	close(fd);
	context_open(&context, 1, false);
	if (!available || !passes_all()) {
		check(context_try_submit(&context, &job, UAPI_EXEC_SHARED_FENCE, &out) == -EINVAL,
			"a shared fence in a context that has not asked for fence passing");
	}
	context_close(&context);
	context_unmap(&context);
}

static void check_passing(struct context *a, struct context *b, struct context *waiting)
{
	check_who_waits(b, submit(a, 0, long_us, -1, false), HOST_WAITS,
		"a shareable fence of another context");
	check_who_waits(b, submit(a, 0, long_us, -1, true), waits_unasked(),
		"a fence of another context that is not shareable");
	check_who_waits(b, submit(b, 1, long_us, -1, true), HOST_WAITS,
		"a fence of another ring that is not shareable");
	check_who_waits(waiting, submit(a, 0, long_us, -1, false), waits_unasked(),
		"a context that has not asked for fence passing");
}

/* Merged and merged again, of one timeline and of several. */
static void check_arrays(struct context *a, struct context *b)
{
	int first = submit(a, 0, long_us, -1, false);
	int second = submit(a, 1, long_us, -1, false);
	int third = submit(a, 0, SHORT_US, -1, false);
	int two = merge_fences(first, second), three = merge_fences(two, third);

	check_who_waits(b, three, HOST_WAITS, "an array of fences");
	check(has_signalled(first) && has_signalled(second) && has_signalled(third),
		"an array has signalled before a fence of it");
	close(first);
	close(second);
	close(third);
	close(two);
}

/* The newest of a timeline may not be passed, the one before it may: the guest waits for both. */
static void check_mixed_timeline(struct context *a, struct context *b)
{
	int shared = submit(a, 0, SHORT_US, -1, false);
	int private = submit(a, 0, long_us, -1, true);
	int both = merge_fences(shared, private);

	check_who_waits(
		b, both, waits_unasked(), "a timeline of which only the older fence is shareable");
	close(shared);
	close(private);
}

/* ---- Of dma-bufs, and of timelines --------------------------------------------------------- */

/* A job that leaves its fence on the buffer. */
static void draw(struct context *context, uint32_t ring, uint32_t busy_us, uint32_t handle,
	bool private_fence)
{
	const struct context_job job = {
		.ring = ring,
		.busy_us = busy_us,
		.slot = ring,
		.value = next_value(context, ring),
		.in_fence_fd = -1,
		.handle = handle,
		.private_fence = private_fence,
	};

	context_submit(context, &job, NULL);
}

/* What a compositor has to wait for before it reads the context's buffer. */
static int export_fence(const struct context *context)
{
	struct dma_buf_export_sync_file export = { .flags = DMA_BUF_SYNC_READ };
	int fd;

	if (drmPrimeHandleToFD(context->fd, context->handle, DRM_CLOEXEC, &fd) < 0 ||
		ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &export) < 0) {
		err(1, "the fence of a dma-buf");
	}
	close(fd);
	return export.fd;
}

/* One fence, an array of those of two rings, and none that is pending. */
static void check_dma_bufs(struct context *a, struct context *b)
{
	int fence_fd;

	draw(a, 0, long_us, a->handle, false);
	check_who_waits(b, export_fence(a), HOST_WAITS, "the fence of a dma-buf");
	draw(a, 0, long_us / 2, a->handle, false);
	draw(a, 1, long_us, a->handle, false);
	check_who_waits(b, export_fence(a), HOST_WAITS, "the fences of a dma-buf");
	draw(a, 0, long_us, a->handle, true);
	check_who_waits(b, export_fence(a), waits_unasked(),
		"the fence of a dma-buf that is not shareable");
	fence_fd = export_fence(a);
	check(has_signalled(fence_fd), "a dma-buf has fences that have signalled");
	close(fence_fd);
}

/* Takes the fence. */
static void add_point(int fd, uint32_t timeline, uint64_t point, int fence_fd)
{
	uint32_t binary;

	if (drmSyncobjCreate(fd, 0, &binary) < 0 ||
		drmSyncobjImportSyncFile(fd, binary, fence_fd) < 0 ||
		drmSyncobjTransfer(fd, timeline, point, binary, 0, 0) < 0) {
		err(1, "a point of a timeline");
	}
	drmSyncobjDestroy(fd, binary);
	close(fence_fd);
}

/* A chain of fences, as the sync file of a timeline. */
static void check_chain(struct context *a, struct context *b)
{
	uint32_t timeline;
	int chain_fd;

	if (drmSyncobjCreate(a->fd, 0, &timeline) < 0) {
		err(1, "a timeline");
	}
	add_point(a->fd, timeline, 1, submit(a, 0, long_us, -1, false));
	add_point(a->fd, timeline, 2, submit(a, 1, SHORT_US, -1, false));
	if (drmSyncobjExportSyncFile(a->fd, timeline, &chain_fd) < 0) {
		err(1, "the sync file of a timeline");
	}
	drmSyncobjDestroy(a->fd, timeline);
	check_who_waits(b, chain_fd, HOST_WAITS, "a chain of fences");
}

/* ---- Of others ------------------------------------------------------------------------------ */

/* Signals a fence of vgem in a while, from another process. */
static pid_t signal_later(int vgem, const struct vgem_fence *fence)
{
	pid_t child = fork();

	if (child < 0) {
		err(1, "fork");
	}
	if (child == 0) {
		usleep(long_us / 2);
		vgem_fence_signal(vgem, fence);
		_exit(0);
	}
	return child;
}

/* A fence of another driver, which the host cannot know, and one of this device. */
static void check_foreign(struct context *a, struct context *b)
{
	static const char what[] = "a fence of this device, merged with one of another driver";
	int vgem = vgem_open(), own, both, fd;
	struct vgem_fence foreign;
	pid_t child;

	check(vgem >= 0 && vgem_fence_init(vgem, &foreign) == 0, "vgem has no fence");
	own = submit(a, 0, 2 * long_us, -1, false);
	child = signal_later(vgem, &foreign);
	both = merge_fences(own, foreign.fd);
	fd = submit_behind(b, both, HOST_WAITS, what);
	check(has_signalled(foreign.fd), "%s: submitted before that has signalled", what);
	check_behind(fd, both, what);
	waitpid(child, NULL, 0);
	vgem_fence_finish(vgem, &foreign);
	close(own);
	close(vgem);
}

/* The same ID can be that of a fence of each device. */
static void check_other_device(struct context *b)
{
	struct context other;
	int fd = open_render_node(1);

	if (fd < 0) {
		warnx("there is no second device whose fences to try");
		return;
	}
	close(fd);
	context_open_on(&other, 1, 1, true);
	check_who_waits(b, submit(&other, 0, long_us, -1, false), GUEST_WAITS,
		"a shareable fence of another device");
	context_close(&other);
	context_unmap(&other);
}

/* On more timelines than one submission has room for: the guest waits for those of `few` and goes
 * on. */
static void check_many(struct context *b)
{
	struct context many, few;
	static const char what[] = "more fences than a submission has room for";
	int fds[MAX_PASSED + NUM_TOO_MANY], all = -1, fd, pending = 0;

	context_open(&many, MAX_PASSED, true);
	context_open(&few, NUM_TOO_MANY, true);
	for (uint32_t i = 0; i < MAX_PASSED + NUM_TOO_MANY; i++) {
		bool is_many = i < MAX_PASSED;

		fds[i] = submit(is_many ? &many : &few, is_many ? i : i - MAX_PASSED,
			is_many ? 3 * long_us : long_us, -1, false);
		if (all >= 0) {
			int merged = merge_fences(all, fds[i]);
			close(all);
			all = merged;
		} else {
			all = dup(fds[i]);
		}
	}
	fd = submit_behind(b, all, HOST_WAITS, what);
	for (uint32_t i = 0; i < MAX_PASSED + NUM_TOO_MANY; i++) {
		pending += !has_signalled(fds[i]);
		close(fds[i]);
	}
	check(pending <= MAX_PASSED, "%s: %d were pending when it was submitted", what, pending);
	check_behind(fd, all, what);
	context_close(&many);
	context_close(&few);
	context_unmap(&many);
	context_unmap(&few);
}

static void check_waits(void)
{
	struct context a, b, waiting;

	context_open(&a, 2, true);
	context_open(&b, 2, true);
	context_open(&waiting, 1, false);
	check_passing(&a, &b, &waiting);
	check_arrays(&a, &b);
	check_mixed_timeline(&a, &b);
	check_dma_bufs(&a, &b);
	check_chain(&a, &b);
	check_foreign(&a, &b);
	check_other_device(&b);
	check_many(&b);
	for (struct context *const *context = (struct context *[]){ &a, &b, &waiting, NULL };
		*context; context++) {
		context_close(*context);
		context_unmap(*context);
	}
}

uint32_t check_driver(void)
{
	bool available = has_fence_passing();

	long_us = FIRST_LONG_US;
	do {
		num_checks = 0;
		is_unsure = false;
		check_refusals(available);
		if (available) {
			check_waits();
		}
		long_us *= 2;
	} while (is_unsure);
	return num_checks;
}
