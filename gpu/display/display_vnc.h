/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef DISPLAY_VNC_H
#define DISPLAY_VNC_H

/*
 * Shows a scanout to VNC clients, by libvncserver. There is no password.
 *
 * libvncserver blocks for as long as a client does not read, or sends half a message, and encoding
 * takes long. So it runs in a thread of its own, which has a copy of what the guest flushed last;
 * what clients do comes back over a socket of limited size. Neither a client nor the thread keeps
 * the caller waiting, but for the copy of a frame. If there is no client nothing is read or copied.
 *
 * All functions are for one thread. Errors are negative errno values.
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>

#include "frame.h"

struct display_vnc;
struct gpu_cursor;

/* Of the pointer, in each direction: from the left or upper edge to the other. */
#define DISPLAY_VNC_POINTER_MAX 32767

struct display_vnc_ops {
	frame_read read; /* what the guest shows */
	/* From inside display_vnc_dispatch: a key, by its keysym of X, goes down or up. */
	void (*key)(void *cookie, uint32_t keysym, bool down);
	/* The pointer: which buttons are down, as RFB has them (bit 0: left, 1: middle, 2: right, 3
	 * to 6: the wheel up, down, left, right), and where it is. */
	void (*pointer)(void *cookie, uint32_t buttons, uint32_t x, uint32_t y);
	/* A client has left, and with it what it held down. */
	void (*left)(void *cookie);
	/* A client wants the monitor to be of this size, at most SCANOUT_MAX_SIZE each. */
	void (*resize)(void *cookie, uint32_t width, uint32_t height);
};

/*
 * Listens. address: "unix:PATH", where a socket that nobody listens on any more is replaced; or
 * "localhost:N", which is port 5900 + N of 127.0.0.1. ops: has to stay. Returns 0; -EINVAL for
 * another address; -EADDRINUSE; -EEXIST if there is something else at the
 * path; -ENAMETOOLONG; -ENOMEM; -EOPNOTSUPP: built without libvncserver; what open (of the
 * folder), socket, bind or pthread_create failed with.
 */
int display_vnc_create(const char *address, const struct display_vnc_ops *ops, void *cookie,
	struct display_vnc **out);
void display_vnc_destroy(struct display_vnc *vnc); /* NULL is fine */

/* Removes the socket's file, from any thread: for a process that exits without
 * display_vnc_destroy. NULL is fine. */
void display_vnc_abandon(const struct display_vnc *vnc);

/* The scanout has another picture, which is told with its next update; 0 by 0 turns it off. At most
 * SCANOUT_MAX_SIZE in each direction. */
void display_vnc_set_scanout(struct display_vnc *vnc, uint32_t width, uint32_t height);

/* The guest flushes a rectangle: it is read, if there is a client. Returns 0; -ENOMEM: then it is
 * not shown; what reading failed with. */
int display_vnc_update(struct display_vnc *vnc, const struct virtio_gpu_rect *rect);

/* Copied. */
void display_vnc_set_cursor(struct display_vnc *vnc, const struct gpu_cursor *cursor);

/* Readable if display_vnc_dispatch has something to do: clients that come, and what they do. A part
 * of that is done, then others have their turn. Returns 0, or -EPIPE if the display has ended. */
int display_vnc_get_fd(const struct display_vnc *vnc);
int display_vnc_dispatch(struct display_vnc *vnc);

#endif
