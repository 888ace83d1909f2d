/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef COMPOSITOR_H
#define COMPOSITOR_H

/*
 * A Wayland compositor in the test's process, for one client. It does nothing by itself: it notes
 * what the client does in compositor_step, and answers when the test says so.
 */

#include <stdbool.h>
#include <stdint.h>

#include <wayland-server.h>

#define COMPOSITOR_XRGB8888 0x34325258u /* DRM_FORMAT_XRGB8888, XR24 */

/* What it lacks. */
enum {
	COMPOSITOR_NO_VIEWPORTER = 1 << 0,
	COMPOSITOR_NO_PRESENTATION = 1 << 1,
	COMPOSITOR_NO_DMABUF = 1 << 2,
	COMPOSITOR_NO_EXPLICIT = 1 << 3,
	COMPOSITOR_NO_SEAT = 1 << 4,
	COMPOSITOR_NO_SHELL = 1 << 5,
	COMPOSITOR_REFUSES = 1 << 6, /* each dma-buf */
	COMPOSITOR_ASKS = 1 << 7,    /* the test, whether it takes a dma-buf */
	COMPOSITOR_NO_MODIFIERS = 1 << 8,
	/* Its times are of CLOCK_MONOTONIC_RAW, or of no clock, not of CLOCK_MONOTONIC. */
	COMPOSITOR_RAW_CLOCK = 1 << 9,
	COMPOSITOR_NO_CLOCK = 1 << 10,
};

/* When each frame of a compositor with times is on the screen. */
#define COMPOSITOR_PRESENTED_NS (((UINT64_C(1) << 32) + 2) * 1000000000 + 3)

struct compositor_buffer {
	struct wl_list link;
	struct wl_resource *resource;
	struct wl_listener destroyed;
	int fd; /* of a dma-buf, or -1 */
	int32_t width, height;
	bool is_held;                /* of a window: committed, and not released */
	struct wl_resource *release; /* explicit, by which it is to be; or NULL */
};

#define COMPOSITOR_MAX_ANSWERS 16

/* What the client has set for the next commit, or what it has committed. */
struct compositor_commit {
	struct compositor_buffer *buffer;
	struct wl_resource *release; /* explicit, or NULL */
	int acquire_fd;              /* or -1 */
	int32_t damage[4];           /* x, y, width, height of the last rectangle */
};

struct compositor_surface {
	struct wl_list link;
	struct compositor *compositor;
	struct wl_resource *resource, *xdg_surface, *toplevel;
	struct compositor_commit pending, current;
	struct wl_resource *answers[COMPOSITOR_MAX_ANSWERS]; /* that were asked for, oldest first */
	unsigned int num_answers, num_commits, num_acks;
	uint32_t decoration;     /* that the client asks for; 0: none */
	unsigned int num_scaled; /* commits of another size without a buffer */
	bool is_scaled;          /* with the next one */
	int32_t source[2], destination[2];
};

struct compositor {
	unsigned int lacks;
	char directory[32], path[48];
	struct wl_display *display;
	struct wl_client *client; /* or NULL */
	struct wl_listener created, gone;
	struct wl_list surfaces; /* newest last */
	struct wl_list buffers;
	struct wl_global *seat_global;
	struct wl_resource *keyboard, *pointer, *seat, *params; /* or NULL */
	uint32_t asked_format;                                  /* of the last dma-buf */
	uint64_t asked_modifier;
	struct wl_resource *cursor; /* the pointer's surface, or NULL */
	unsigned int num_cursors;   /* how often it was set */
	struct wl_resource *wm_base;
	uint32_t pong; /* the last serial */
};

void compositor_begin(struct compositor *compositor, unsigned int lacks);
void compositor_end(struct compositor *compositor);

/* Reads all that the client has sent, and sends what it is told. */
void compositor_step(struct compositor *compositor);
/* Only sends. */
void compositor_send(struct compositor *compositor);
void compositor_kill_client(struct compositor *compositor);

/* The window that was opened as the index-th of those that there are; or NULL. */
struct compositor_surface *compositor_window(struct compositor *compositor, unsigned int index);
unsigned int compositor_num_windows(struct compositor *compositor);
unsigned int compositor_num_buffers(struct compositor *compositor);

void compositor_configure(struct compositor_surface *surface, int32_t width, int32_t height);
void compositor_close(struct compositor_surface *surface);
/* The oldest frame that is not answered. */
void compositor_answer(struct compositor_surface *surface);
void compositor_discard(struct compositor_surface *surface);
/* Reads a buffer no more. */
void compositor_release(struct compositor_buffer *buffer);
void compositor_release_all(struct compositor *compositor);
void compositor_release_explicit(struct wl_resource *release, int fence_fd);
/* COMPOSITOR_ASKS: the dma-buf that it was asked about last. */
void compositor_decide(struct compositor *compositor, bool takes);

/* What a surface that is no window shows, or NULL. */
struct compositor_buffer *compositor_shown(struct wl_resource *surface);

uint32_t compositor_pixel(const struct compositor_buffer *buffer, int32_t x, int32_t y);

#endif
