/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Two monitors, of which vgfence-slow-compositor is slow with one: whether the other's flips are
 * held up. What counts is which flip's event comes first.
 */

#include <err.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "../slow_color.h"
#include "monitor.h"
#include "workloads.h"

#define NUM_MONITORS 2
#define CURSOR_SIDE 64

enum { SLOW, OTHER };

struct desk {
	int fd;
	struct monitor monitors[NUM_MONITORS];
	uint32_t shown[NUM_MONITORS]; /* which buffer, or the one that is flipped to */
	bool is_pending[NUM_MONITORS];
};

/* ---- Flips ---------------------------------------------------------------------------------- */

static void add_flip(struct desk *desk, uint32_t index, drmModeAtomicReq *request)
{
	desk->shown[index] = (desk->shown[index] + 1) % MONITOR_NUM_BUFFERS;
	desk->is_pending[index] = true;
	monitor_add(&desk->monitors[index], request, desk->shown[index], -1);
}

static void flip(struct desk *desk, uint32_t index)
{
	drmModeAtomicReq *request = drmModeAtomicAlloc();

	add_flip(desk, index, request);
	card_commit(desk->fd, request, desk);
}

static void flip_both(struct desk *desk)
{
	drmModeAtomicReq *request = drmModeAtomicAlloc();

	add_flip(desk, SLOW, request);
	add_flip(desk, OTHER, request);
	card_commit(desk->fd, request, desk);
}

static void note_flip(int fd, unsigned int sequence, unsigned int seconds,
	unsigned int microseconds, unsigned int crtc, void *data)
{
	struct desk *desk = data;

	(void)fd;
	(void)sequence;
	(void)seconds;
	(void)microseconds;
	for (uint32_t i = 0; i < NUM_MONITORS; i++) {
		if (desk->monitors[i].crtc == crtc) {
			desk->is_pending[i] = false;
		}
	}
}

static void wait_for_flip(struct desk *desk)
{
	drmEventContext context = { .version = 3, .page_flip_handler2 = note_flip };

	card_wait(desk->fd, &context);
}

/* ---- Beside a slow one ---------------------------------------------------------------------- */

/* The flips of the other monitor that are over before the slow one's, until there are `count`. */
static uint32_t count_beside(struct desk *desk, uint32_t count)
{
	uint32_t done = 0;

	while (desk->is_pending[SLOW] && done < count) {
		if (!desk->is_pending[OTHER]) {
			flip(desk, OTHER);
		}
		wait_for_flip(desk);
		done += desk->is_pending[SLOW] && !desk->is_pending[OTHER];
	}
	return done;
}

/* The slow one waits for frames of the other, and has one of them in view or not when it begins. */
static void end_slow(struct desk *desk)
{
	while (desk->is_pending[SLOW] || desk->is_pending[OTHER]) {
		if (!desk->is_pending[OTHER]) {
			flip(desk, OTHER);
		}
		wait_for_flip(desk);
	}
}

static void report(const char *how, uint32_t beside)
{
	printf("%s: %u flips of the other monitor were over before the slow one's\n", how, beside);
	fflush(stdout);
}

/* The cursor's picture is sent and waited for by the kernel. */
static bool cursor_is_set_beside(struct desk *desk)
{
	struct drm_mode_create_dumb create = {
		.width = CURSOR_SIDE, .height = CURSOR_SIDE, .bpp = 32
	};
	const struct monitor *other = &desk->monitors[OTHER];
	struct pollfd pollfd = { .fd = desk->fd, .events = POLLIN };

	if (drmIoctl(desk->fd, DRM_IOCTL_MODE_CREATE_DUMB, &create) < 0 ||
		drmModeSetCursor(desk->fd, other->crtc, create.handle, CURSOR_SIDE, CURSOR_SIDE) <
			0 ||
		drmModeMoveCursor(desk->fd, other->crtc, 1, 1) < 0) {
		err(1, "the cursor");
	}
	return poll(&pollfd, 1, 0) == 0;
}

/* The color is in one of its buffers, which is not shown yet. */
static void be_slow(struct desk *desk)
{
	uint32_t next = (desk->shown[SLOW] + 1) % MONITOR_NUM_BUFFERS;

	desk->monitors[SLOW].contexts[next].slots[0] = SLOW_COLOR;
	desk->monitors[SLOW].contexts[desk->shown[SLOW]].slots[0] = 0;
}

void flip_monitors(bool passing, uint32_t count)
{
	struct desk desk = { .fd = card_open() };

	for (uint32_t i = 0; i < NUM_MONITORS; i++) {
		monitor_open(&desk.monitors[i], desk.fd, i, passing);
	}
	be_slow(&desk);
	flip(&desk, SLOW);
	report("one by one", count_beside(&desk, count));
	end_slow(&desk);
	be_slow(&desk);
	flip_both(&desk);
	report("both at once", count_beside(&desk, count));
	end_slow(&desk);
	be_slow(&desk);
	flip(&desk, SLOW);
	printf("a cursor is set %s the slow flip\n",
		cursor_is_set_beside(&desk) ? "before" : "after");
	count_beside(&desk, count);
	end_slow(&desk);
	for (uint32_t i = 0; i < NUM_MONITORS; i++) {
		monitor_close(&desk.monitors[i]);
	}
	close(desk.fd);
}
