/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Page flips of frames that are still being drawn, as the kernel's trace of virtio-gpu's queue has
 * them: whether the kernel waits for a frame before it sends the flush, or names its fence in it.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <drm_fourcc.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include "kernel_trace.h"
#include "workloads.h"

#define WIDTH 256u
#define HEIGHT (CONTEXT_NUM_SLOTS / WIDTH)
#define NUM_BUFFERS 2
#define NUM_FLIPS 4

/* How long a frame takes to draw. On a busy machine it may be ready before the kernel has come to
 * the flush, which looks as if it had waited: then once more with longer frames. */
#define FIRST_DRAW_US 50000
#define LAST_DRAW_US (16 * FIRST_DRAW_US)

struct screen {
	int fd;
	struct context contexts[NUM_BUFFERS]; /* each draws to its own buffer */
	uint32_t fbs[NUM_BUFFERS];
	uint32_t crtc, connector, plane;
	uint32_t fb_property, in_fence_property;
	uint32_t num_checks;
};

static void check(struct screen *screen, bool right, const char *what)
{
	screen->num_checks++;
	if (!right) {
		errx(1, "%s", what);
	}
}

/* ---- The screen ----------------------------------------------------------------------------- */

/* Or -1: there is none. */
static int open_card(void)
{
	for (int i = 0; i < 16; i++) {
		drmModeRes *resources = NULL;
		char path[32];
		bool found;
		int fd;

		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0) {
			continue;
		}
		found = is_virtio_gpu(fd) && (resources = drmModeGetResources(fd)) &&
			resources->count_crtcs > 0;
		drmModeFreeResources(resources);
		if (found) {
			return fd;
		}
		close(fd);
	}
	return -1;
}

bool has_screen(void)
{
	int fd = open_card();

	if (fd >= 0) {
		close(fd);
	}
	return fd >= 0;
}

static uint32_t find_property(int fd, uint32_t object, uint32_t type, const char *name)
{
	drmModeObjectProperties *properties = drmModeObjectGetProperties(fd, object, type);
	uint32_t found = 0;

	for (uint32_t i = 0; properties && i < properties->count_props; i++) {
		drmModePropertyRes *property = drmModeGetProperty(fd, properties->props[i]);

		if (property && strcmp(property->name, name) == 0) {
			found = property->prop_id;
		}
		drmModeFreeProperty(property);
	}
	drmModeFreeObjectProperties(properties);
	if (!found) {
		errx(1, "the screen has no property %s", name);
	}
	return found;
}

/* The first one, with its primary plane. */
static void find_screen(struct screen *screen)
{
	drmModeRes *resources = drmModeGetResources(screen->fd);
	drmModePlaneRes *planes;

	if (!resources || resources->count_crtcs == 0 || resources->count_connectors == 0) {
		errx(1, "no screen");
	}
	screen->crtc = resources->crtcs[0];
	screen->connector = resources->connectors[0];
	drmModeFreeResources(resources);
	planes = drmModeGetPlaneResources(screen->fd);
	for (uint32_t i = 0; planes && i < planes->count_planes && !screen->plane; i++) {
		drmModePlane *plane = drmModeGetPlane(screen->fd, planes->planes[i]);

		if (plane && (plane->possible_crtcs & 1)) {
			screen->plane = plane->plane_id;
		}
		drmModeFreePlane(plane);
	}
	drmModeFreePlaneResources(planes);
	if (!screen->plane) {
		errx(1, "no plane");
	}
}

static uint32_t make_fb(int fd, const struct context *context)
{
	uint32_t handles[4] = { 0 }, pitches[4] = { WIDTH * 4 }, offsets[4] = { 0 }, fb;
	int dma_buf, ret;

	if (drmPrimeHandleToFD(context->fd, context->handle, DRM_CLOEXEC, &dma_buf) < 0) {
		err(1, "exporting a buffer");
	}
	if (drmPrimeFDToHandle(fd, dma_buf, &handles[0]) < 0) {
		err(1, "importing a buffer");
	}
	close(dma_buf);
	ret = drmModeAddFB2(
		fd, WIDTH, HEIGHT, DRM_FORMAT_XRGB8888, handles, pitches, offsets, &fb, 0);
	if (ret < 0) {
		errx(1, "ADDFB2: %s", strerror(-ret));
	}
	return fb;
}

/* The buffer's own size: no other would fit. */
static drmModeModeInfo screen_mode(void)
{
	return (drmModeModeInfo){
		.clock = WIDTH * HEIGHT * 60 / 1000,
		.hdisplay = WIDTH,
		.hsync_start = WIDTH + 1,
		.hsync_end = WIDTH + 2,
		.htotal = WIDTH + 3,
		.vdisplay = HEIGHT,
		.vsync_start = HEIGHT + 1,
		.vsync_end = HEIGHT + 2,
		.vtotal = HEIGHT + 3,
		.vrefresh = 60,
		.type = DRM_MODE_TYPE_USERDEF,
		.name = "flips",
	};
}

static void screen_open(struct screen *screen, bool passing)
{
	drmModeModeInfo mode = screen_mode();
	int ret;

	screen->fd = open_card();
	if (screen->fd < 0) {
		errx(1, "this virtio-gpu has no screen");
	}
	if (drmSetClientCap(screen->fd, DRM_CLIENT_CAP_ATOMIC, 1) < 0) {
		err(1, "no atomic commits");
	}
	find_screen(screen);
	screen->fb_property = find_property(
		screen->fd, screen->plane, DRM_MODE_OBJECT_PLANE, "FB_ID");
	screen->in_fence_property = find_property(
		screen->fd, screen->plane, DRM_MODE_OBJECT_PLANE, "IN_FENCE_FD");
	for (uint32_t i = 0; i < NUM_BUFFERS; i++) {
		context_open(&screen->contexts[i], 1, passing);
		screen->fbs[i] = make_fb(screen->fd, &screen->contexts[i]);
	}
	ret = drmModeSetCrtc(
		screen->fd, screen->crtc, screen->fbs[0], 0, 0, &screen->connector, 1, &mode);
	if (ret < 0) {
		errx(1, "SETCRTC: %s", strerror(-ret));
	}
}

static void screen_close(struct screen *screen)
{
	for (uint32_t i = 0; i < NUM_BUFFERS; i++) {
		drmModeRmFB(screen->fd, screen->fbs[i]);
		context_close(&screen->contexts[i]);
		context_unmap(&screen->contexts[i]);
	}
	close(screen->fd);
}

/* ---- The trace ------------------------------------------------------------------------------ */

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

		if (strstr(line, "virtio_gpu_cmd_response:")) {
			drawn |= submission != 0 && seqno == submission;
		} else if (!submission &&
			kernel_trace_number(line, " type=") == TRACE_COMMAND_SUBMIT) {
			submission = seqno;
		} else if (!flush && submission &&
			kernel_trace_number(line, " type=") == TRACE_COMMAND_FLUSH) {
			flush = seqno;
			before = !drawn;
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

static void commit(struct screen *screen, uint32_t buffer, int in_fence_fd)
{
	drmModeAtomicReq *request = drmModeAtomicAlloc();
	int ret;

	drmModeAtomicAddProperty(request, screen->plane, screen->fb_property, screen->fbs[buffer]);
	drmModeAtomicAddProperty(
		request, screen->plane, screen->in_fence_property, (uint64_t)in_fence_fd);
	ret = drmModeAtomicCommit(
		screen->fd, request, DRM_MODE_ATOMIC_NONBLOCK | DRM_MODE_PAGE_FLIP_EVENT, NULL);
	if (ret < 0) {
		errx(1, "a commit: %s", strerror(-ret));
	}
	drmModeAtomicFree(request);
}

static void wait_for_event(struct screen *screen)
{
	struct pollfd pollfd = { .fd = screen->fd, .events = POLLIN };
	drmEventContext context = { .version = 2 };

	if (poll(&pollfd, 1, RUN_TIMEOUT_MS) != 1) {
		errx(1, "a flip's event is lost");
	}
	drmHandleEvent(screen->fd, &context);
}

/* A frame that only its own context may wait for, or one for anybody. Returns whether the flush
 * went out before the frame was there. */
static bool flip(
	struct screen *screen, uint32_t number, uint32_t draw_us, bool private_fence, bool print)
{
	struct context *context = &screen->contexts[number % NUM_BUFFERS];
	const struct context_job job = {
		.busy_us = draw_us,
		.slot = WIDTH * HEIGHT / 2,
		.value = number + 1,
		.in_fence_fd = -1,
		.private_fence = private_fence,
	};
	int fence_fd;

	kernel_trace_begin();
	context_submit(context, &job, &fence_fd);
	commit(screen, number % NUM_BUFFERS, fence_fd);
	wait_for_event(screen);
	check(screen, wait_fence(fence_fd, 0) && context->slots[job.slot] == job.value,
		"a flip is over before its frame is there");
	close(fence_fd);
	return trace_end(screen, print);
}

uint32_t check_screen(bool passing)
{
	bool named = passing || passes_all();
	struct screen screen = { 0 };
	uint32_t number = 0;

	screen_open(&screen, passing);
	fprintf(stderr, "a page flip in the kernel's trace, %s fence passing:\n",
		passing ? "with" : "without");
	for (uint32_t draw_us = FIRST_DRAW_US; number < NUM_FLIPS; number++) {
		bool before = flip(&screen, number, draw_us, false, number == NUM_FLIPS - 1);

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
		check(&screen, !flip(&screen, number, FIRST_DRAW_US, true, false),
			"the flush names a fence that is not shareable");
	}
	screen_close(&screen);
	return screen.num_checks;
}
