/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef DISPLAY_SOCKET_H
#define DISPLAY_SOCKET_H

/*
 * Shows scanouts in a front end that has a display: the vhost-user-gpu protocol (QEMU,
 * docs/interop/vhost-user-gpu.rst), over the socket that VHOST_USER_GPU_SET_SOCKET gives. The
 * device is the side that sends.
 *
 * Never blocks, and never holds more than one message: what a slow front end does not know yet is
 * kept as one rectangle for each scanout.
 *
 * One thread. Errors are negative errno values.
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>

struct display_socket;

/* Of a cursor, in each direction: struct virtio_gpu_update_cursor's, and the protocol's. */
#define DISPLAY_CURSOR_SIZE 64

/* Reads a rectangle of what a scanout shows, as 0x00rrggbb. Returns 0 or an error: then it is
 * left out. */
typedef int (*display_read)(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint32_t *pixels);

/* fd: owned from the call on, also when this fails. Returns 0 or -ENOMEM. */
int display_socket_create_take(
	int fd, display_read read, void *cookie, struct display_socket **out);
void display_socket_destroy(struct display_socket *display); /* NULL is fine */

/* The size of a scanout from now on; 0 by 0 turns it off. */
void display_socket_set_scanout(
	struct display_socket *display, uint32_t scanout, uint32_t width, uint32_t height);

/* A rectangle of a scanout has changed. */
void display_socket_update(
	struct display_socket *display, uint32_t scanout, const struct virtio_gpu_rect *rect);

/* pixels: of DISPLAY_CURSOR_SIZE squared, 0xaarrggbb; NULL if only the position has changed.
 * Copied. */
void display_socket_set_cursor(struct display_socket *display, uint32_t scanout, uint32_t x,
	uint32_t y, bool visible, uint32_t hot_x, uint32_t hot_y, const uint32_t *pixels);

/* The socket, and whether to wait for it to become writable. What arrives on it is dropped; one
 * that is closed has nothing more to say, and is at its end. */
int display_socket_get_fd(const struct display_socket *display);
bool display_socket_wants_write(const struct display_socket *display);

/* Sends what can be sent without blocking. Returns 0; 1 if there is more that can be sent, after
 * others have had their turn; -EPIPE once the other side has gone: then it is to be destroyed. */
int display_socket_dispatch(struct display_socket *display);

#endif
