/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef MONITOR_H
#define MONITOR_H

/* Monitors of the guest's virtio-gpu, and flips on them. What fails ends the program. */

#include <stdbool.h>
#include <stdint.h>

#include <xf86drm.h>
#include <xf86drmMode.h>

#include "context.h"

#define MONITOR_WIDTH 256u
#define MONITOR_HEIGHT (CONTEXT_NUM_SLOTS / MONITOR_WIDTH)
#define MONITOR_NUM_BUFFERS 2

struct monitor {
	int fd;                                       /* of the card */
	struct context contexts[MONITOR_NUM_BUFFERS]; /* each draws to its own buffer */
	uint32_t fbs[MONITOR_NUM_BUFFERS];
	uint32_t crtc, connector, plane;
	uint32_t fb_property, in_fence_property, active_property, out_fence_property;
};

/* The virtio-gpu that has monitors; card_find returns -1 if there is none. */
int card_find(void);
int card_open(void);

/* The index-th monitor of the card shows its first buffer. passing: of its contexts. */
void monitor_open(struct monitor *monitor, int fd, uint32_t index, bool passing);
void monitor_close(struct monitor *monitor);

/* A flip to a buffer, as a part of a commit. in_fence_fd: borrowed, or -1. */
void monitor_add(
	const struct monitor *monitor, drmModeAtomicReq *request, uint32_t buffer, int in_fence_fd);

/* Turns it on or off, and waits for that. */
void monitor_set_active(const struct monitor *monitor, bool active);

/* Commits, owns the request, and waits until it is done. */
void card_commit_and_wait(int fd, drmModeAtomicReq *request, uint32_t flags);

/* Commits, owns the request, and does not wait: `data` comes with the event of each flip. */
void card_commit(int fd, drmModeAtomicReq *request, void *data);

/* Waits for events, and handles them. */
void card_wait(int fd, drmEventContext *context);

#endif
