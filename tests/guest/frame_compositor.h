/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef FRAME_COMPOSITOR_H
#define FRAME_COMPOSITOR_H

/* What the files of vgfence-frame-compositor share. What fails ends the program. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <wayland-server.h>

#include "frame_clock.h"
#include "queue.h"

struct frame;

/* A client. */
struct viewer {
	struct wl_client *client;
	struct wl_listener gone;
	uint32_t num_frames, num_wrong;
	struct frame_clock *clock; /* or NULL */
	struct wl_shm_pool *clock_pool;
	/* With dma-bufs: frames that came with a fence that had not signalled, that were given back
	 * by a fence, and that were drawn over before that. */
	uint32_t num_fenced, num_released, num_drawn_over;
	LIST_HEAD(, frame) frames; /* that it waits for, or reads */
};

struct surface {
	struct viewer *viewer;
	struct wl_resource *buffer, *callback; /* that are pending, or NULL */
	int acquire_fd;                        /* the same, or -1 */
	struct wl_resource *release, *fences;
};

/* Whether it is not what the client has said it would be: each pixel is the frame's number. */
bool is_wrong(const uint32_t *pixels, size_t count, uint32_t number);

/* frame_dma_buf.c: dma-bufs, with explicit synchronisation. */
void offer_dma_bufs(struct wl_display *display);
bool is_dma_buf(struct wl_resource *buffer);
void show_dma_buf(struct surface *surface, struct wl_resource *buffer);
void end_frames(struct viewer *viewer);
void end_fences(struct surface *surface);

#endif
