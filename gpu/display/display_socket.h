/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef DISPLAY_SOCKET_H
#define DISPLAY_SOCKET_H

/*
 * Shows scanouts in a front end that has a display: the vhost-user-gpu protocol (QEMU,
 * docs/interop/vhost-user-gpu.rst), over the socket that VHOST_USER_GPU_SET_SOCKET gives. The
 * device is the side that sends.
 *
 * Never blocks. What the guest flushes is copied at once, to one frame for each scanout, and sent
 * as one message when those before it have been: a slow front end is told the latest, and never
 * half of it. All frames are 512 MiB at most, and the message that is on its way 256 MiB.
 *
 * What can be had as a dma-buf is not copied, if the front end takes those with a modifier
 * (DMABUF_SCANOUT2) and the picture begins where the dma-buf does, as QEMU looks at no other place.
 * The front end answers each update of it; meanwhile the scanout has no other message, and what is
 * flushed becomes one. What it had before is released with that answer.
 *
 * One thread. Errors are negative errno values.
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>

#include "frame.h"

struct display_socket;
struct gpu_buffer;

/* Of a cursor, in each direction: struct virtio_gpu_update_cursor's, and the protocol's. */
#define DISPLAY_CURSOR_SIZE 64

struct display_socket_ops {
	frame_read read; /* what the guest shows */
	/* The answers to what was asked. NULL: there is none, and what is known already stands.
	 * monitors: all of them, in the host's byte order; they come once without being asked for,
	 * too. */
	void (*monitors)(void *cookie, const struct virtio_gpu_display_one *monitors);
	void (*edid)(void *cookie, const uint8_t *edid, uint32_t size);
	/* What the guest shows as a dma-buf; that it is read no more; and that a frame is shown:
	 * gpu_get_scanout_buffer, gpu_tell_released, gpu_tell_shown. All NULL: all is copied. */
	int (*get_buffer)(void *cookie, uint32_t scanout, struct gpu_buffer *out);
	void (*release)(void *cookie, uint64_t key);
	void (*shown)(void *cookie, uint32_t scanout, uint64_t frame);
};

/* fd: owned from the call on, also when this fails. ops: has to stay. Returns 0 or
 * -ENOMEM. */
int display_socket_create_take(
	int fd, const struct display_socket_ops *ops, void *cookie, struct display_socket **out);
void display_socket_destroy(struct display_socket *display); /* NULL is fine */

/* A scanout has another picture, which is told with its next update; 0 by 0 turns it off. At most
 * SCANOUT_MAX_SIZE in each direction. */
void display_socket_set_scanout(
	struct display_socket *display, uint32_t scanout, uint32_t width, uint32_t height);

/* The guest flushes a rectangle of a scanout: it is read. Returns 0; 1 if it is not, and `shown`
 * will be called for this frame or a later one; -ENOSPC if the frames would be too large together,
 * -ENOMEM: then it is not shown; what reading failed with; -EINVAL for a scanout out of range. */
int display_socket_update(struct display_socket *display, uint32_t scanout,
	const struct virtio_gpu_rect *rect, uint64_t frame);

/* The memory is wanted back. If a scanout is shown from it, that is shown by a copy from now on; or
 * from its next update on, if the frames would be too large together now. */
void display_socket_buffer_leaving(struct display_socket *display, uint64_t key);

/* Bytes of pixels that were copied so far: from the guest to a frame, from that to a message. */
uint64_t display_socket_get_copied(const struct display_socket *display);

/* Frames that were given as dma-bufs. */
uint64_t display_socket_get_in_place(const struct display_socket *display);

/* pixels: of DISPLAY_CURSOR_SIZE squared, 0xaarrggbb; NULL if only the position has changed.
 * Copied. */
void display_socket_set_cursor(struct display_socket *display, uint32_t scanout, uint32_t x,
	uint32_t y, bool visible, uint32_t hot_x, uint32_t hot_y, const uint32_t *pixels);

/*
 * Asks the display for its monitors, or for the EDID of one that is enabled. One question at a
 * time: the next one when the answer has come. Returns whether an answer will come. It does not if
 * the display left the last question unanswered, or does not know EDIDs.
 */
bool display_socket_ask_monitors(struct display_socket *display);
bool display_socket_ask_edid(struct display_socket *display, uint32_t scanout);

/* Whether an answer is being waited for; and gives up on that. A display that answers after that is
 * asked again. */
bool display_socket_is_asked(const struct display_socket *display);
void display_socket_give_up(struct display_socket *display);

/* The socket, and whether to wait for it to become writable. One that is closed has nothing more to
 * say, and is at its end. */
int display_socket_get_fd(const struct display_socket *display);
bool display_socket_wants_write(const struct display_socket *display);

/* Takes what the display says, and sends what can be sent without blocking. Returns 0; 1 if there
 * is more to do, after others have had their turn; -EPIPE once the other side has gone: then it is
 * to be destroyed. */
int display_socket_dispatch(struct display_socket *display);

/* The second half of that alone: calls none of the operations. */
int display_socket_send(struct display_socket *display);

#endif
