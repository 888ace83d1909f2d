/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef WINDOW_H
#define WINDOW_H

/*
 * A window of a Wayland client whose frames the software GPU draws: each pixel of a frame becomes
 * the frame's number when the job is done, which takes as long as it is told to. The buffers are
 * dma-bufs, on which the jobs leave their fences; the client waits for none. What fails ends the
 * program.
 */

#include <stdbool.h>
#include <stdint.h>

#include "context.h"

/* As much as one job can fill. */
#define WINDOW_WIDTH 128u
#define WINDOW_HEIGHT 128u
#define WINDOW_SIZE (WINDOW_WIDTH * WINDOW_HEIGHT * 4)

#define WINDOW_NUM_BUFFERS 3u

struct wl_buffer;
struct wl_compositor;
struct wl_display;
struct wl_registry;
struct wl_surface;
struct xdg_surface;
struct xdg_toplevel;
struct xdg_wm_base;
struct zwp_linux_dmabuf_v1;

struct window_buffer {
	struct blob blob;
	uint32_t *pixels; /* or NULL */
	struct wl_buffer *buffer;
	bool is_held; /* by the compositor */
};

struct window {
	struct wl_display *display;
	struct wl_registry *registry;
	struct wl_compositor *compositor;
	struct zwp_linux_dmabuf_v1 *dmabuf;
	struct xdg_wm_base *wm_base; /* or NULL: then surfaces have no role */
	struct wl_surface *surface;
	struct xdg_surface *xdg_surface;
	struct xdg_toplevel *toplevel;
	bool is_configured;
	bool has_host_buffers;
	struct context context;
	struct window_buffer buffers[WINDOW_NUM_BUFFERS];
};

/* socket: as WAYLAND_DISPLAY has it. Buffers are of the host's memory where the guest has a window
 * into that; or without being mapped, if they are to be. */
void window_open(struct window *window, const char *socket, bool has_host_buffers);
void window_close(struct window *window);

/* A buffer of this width, and WINDOW_SIZE bytes. */
void window_create_buffer(struct window *window, uint32_t width, struct window_buffer *buffer);
void window_end_buffer(struct window *window, struct window_buffer *buffer);

/* One that the compositor does not hold; waits for it. */
struct window_buffer *window_take_buffer(struct window *window);

/* Waits until the compositor holds none. */
void window_settle(struct window *window);

/* Lets the GPU draw. The fence is on the buffer. */
void window_draw(
	struct window *window, struct window_buffer *buffer, uint32_t number, uint32_t busy_us);

/* Commits, and sends that. */
void window_show(struct window *window, struct window_buffer *buffer);

#endif
