/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef DISPLAY_WAYLAND_H
#define DISPLAY_WAYLAND_H

/*
 * Shows each scanout in a window of a Wayland compositor, and takes what is typed and pointed
 * there.
 *
 * Memory that can be had as a dma-buf is handed to the compositor, which reads it in place; with a
 * sync file to wait for first, and another that says when it has been read, if the compositor takes
 * part (zwp_linux_explicit_synchronization_v1). All else is copied, once, to memory that the
 * compositor has (wl_shm).
 *
 * Never blocks. A window has at most two frames that the compositor has not answered, and a copy of
 * one whose memory left; of what the guest flushes meanwhile it gets the latest. A compositor that
 * reads nothing, or goes away, keeps nobody waiting.
 *
 * One thread. Errors are negative errno values.
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>

#include "frame.h"

struct display_wayland;
struct gpu_buffer;
struct gpu_cursor;

/* Of the pointer, in each direction: from the left or upper edge to the other. */
#define DISPLAY_WAYLAND_POINTER_MAX 32767

struct display_wayland_ops {
	frame_read read; /* what the guest shows */
	/* The same as a dma-buf, and that it is read no more: gpu_get_scanout_buffer,
	 * gpu_tell_released. */
	int (*get_buffer)(void *cookie, uint32_t scanout, struct gpu_buffer *out);
	void (*release)(void *cookie, uint64_t key);
	/* gpu_tell_shown. */
	void (*shown)(void *cookie, uint32_t scanout, uint64_t frame);
	/* Those that follow may be NULL: nobody wants to know. */
	/* A frame is on the screen since time_ns of CLOCK_MONOTONIC, before `shown` says so. Not of
	 * a frame that another has taken the place of, nor of a compositor that has no times
	 * (wp_presentation). If its times are of another clock, they are as exact as that can be
	 * compared. */
	void (*presented)(void *cookie, uint32_t scanout, uint64_t frame, uint64_t time_ns);
	/* The user gives a scanout's window another size; or closes it, which does not happen to
	 * the last one. Then it is shown no more, unless the guest turns it off and on again. */
	void (*resize)(void *cookie, uint32_t scanout, uint32_t width, uint32_t height);
	void (*closed)(void *cookie, uint32_t scanout);
	/* There is no memory for what a window shows: the windows have 1 GiB. It is not shown. */
	void (*lacks_memory)(void *cookie);
	/* A key goes down or up: KEY_... of <linux/input-event-codes.h>. */
	void (*key)(void *cookie, uint32_t code, bool down);
	/* The pointer, on all windows side by side: which buttons are down, as RFB has them (bit 0:
	 * left, 1: middle, 2: right, 3 to 6: the wheel up, down, left, right), and where it is. */
	void (*pointer)(void *cookie, uint32_t buttons, uint32_t x, uint32_t y);
	/* No window has the keyboard or the pointer any more: nothing is held down. */
	void (*left)(void *cookie);
};

/*
 * Connects. name: of the compositor's socket, in $XDG_RUNTIME_DIR or a path; NULL: as the
 * environment says (WAYLAND_DISPLAY). ops: has to stay. Waits for a compositor whose queue of
 * connections is full, without end; and for it to say what it has, for some seconds at most.
 *
 * Returns 0; -ENOENT or -ECONNREFUSED if there is no compositor; -ETIMEDOUT if it does not answer;
 * -EPROTO if it lacks wl_compositor, wl_shm or xdg_wm_base; -EOPNOTSUPP: built without
 * libwayland-client; -ENOMEM; what socket or epoll_create1 failed with.
 */
int display_wayland_create(const char *name, const struct display_wayland_ops *ops, void *cookie,
	struct display_wayland **out);
/* What it had is released, by `release`. NULL is fine. */
void display_wayland_destroy(struct display_wayland *display);

/* A scanout has another picture, which is shown with its next update; 0 by 0 takes its window
 * away. At most SCANOUT_MAX_SIZE in each direction. */
void display_wayland_set_scanout(
	struct display_wayland *display, uint32_t scanout, uint32_t width, uint32_t height);

/* The guest flushes a rectangle. Returns whether `shown` will be called for this frame, or for a
 * later one of the scanout; false: there is no window. */
bool display_wayland_update(struct display_wayland *display, uint32_t scanout,
	const struct virtio_gpu_rect *rect, uint64_t frame);

/* A frame that will be drawn once buffer->acquire_fd has signalled. Returns whether it is taken:
 * then the buffer's descriptors are owned, and `shown` will be called. */
bool display_wayland_offer_take(struct display_wayland *display, uint32_t scanout,
	const struct virtio_gpu_rect *rect, uint64_t frame, const struct gpu_buffer *buffer);

/* The memory is wanted back, and nothing of it is kept. If a window shows it, it shows a copy of
 * what is on its scanout by then; or, if there can be none, it ends, and another one begins. */
void display_wayland_buffer_leaving(struct display_wayland *display, uint64_t key);

/* Copied. All windows have the same, as long as it is visible on one of the scanouts. */
void display_wayland_set_cursor(
	struct display_wayland *display, uint32_t scanout, const struct gpu_cursor *cursor);

/* Readable if display_wayland_dispatch has something to do. Returns 0, or -EPIPE once the
 * compositor has gone: then it is to be destroyed. */
int display_wayland_get_fd(const struct display_wayland *display);
int display_wayland_dispatch(struct display_wayland *display);

/* Sends what the other functions have left to be sent, without doing anything else. */
void display_wayland_flush(struct display_wayland *display);

struct display_wayland_stats {
	uint64_t frames_in_place; /* given to the compositor without a copy */
	uint64_t frames_copied;
	uint64_t copied_bytes;
};

void display_wayland_get_stats(
	const struct display_wayland *display, struct display_wayland_stats *stats);

#endif
