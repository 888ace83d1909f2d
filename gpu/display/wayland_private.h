/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef WAYLAND_PRIVATE_H
#define WAYLAND_PRIVATE_H

/* What the files of the Wayland display share. */

#include <wayland-client.h>

/* Made by wayland-scanner. */
#include <linux-dmabuf-unstable-v1-client-protocol.h>
#include <linux-explicit-synchronization-unstable-v1-client-protocol.h>
#include <presentation-time-client-protocol.h>
#include <viewporter-client-protocol.h>
#include <xdg-decoration-unstable-v1-client-protocol.h>
#include <xdg-shell-client-protocol.h>

#include "display_wayland.h"
#include "gpu.h"
#include "queue.h"

struct wayland_window;

struct wayland_format {
	uint32_t drm_format;
	uint64_t modifier;
};

/* ---- Buffers: wayland_buffer.c --------------------------------------------------------------- */

/* Of a window: what it copies to, and what it shows in place. */
#define WAYLAND_MAX_COPIES 3
#define WAYLAND_MAX_IN_PLACE 12

/* Of all windows: what the copies take up, which the guest chooses: three of the largest scanout
 * fit, and more. And what the compositor has not given back or answered: before it does, it gets
 * nothing new. */
#define WAYLAND_MAX_COPY_BYTES (UINT64_C(1) << 30)
#define WAYLAND_MAX_LEAVING 64

enum wayland_buffer_state {
	WAYLAND_BUFFER_ASKED, /* the compositor has not said yet whether it takes the dma-buf */
	WAYLAND_BUFFER_READY,
	WAYLAND_BUFFER_REFUSED,
};

/*
 * A wl_buffer. The compositor says when it reads one no more, but not which of its uses that is
 * about. So it gets none again before that; a guest that shows the same memory again has several
 * for it.
 */
struct wayland_buffer {
	LIST_ENTRY(wayland_buffer) link; /* of the window; or of the display's `leaving` */
	struct wayland_window *window;
	enum wayland_buffer_state state;
	struct wl_buffer *proxy;
	bool is_used;     /* the compositor reads it */
	bool is_leaving;  /* ends when it does not, and is not asked */
	bool is_released; /* but for a fence that is waited for */
	bool is_explicit; /* the end of this use is told by a zwp_linux_buffer_release_v1 */
	struct zwp_linux_buffer_release_v1 *release;

	struct frame frame; /* of a copy: its pixels are the compositor's memory */

	uint64_t key;                              /* of a dma-buf; 0: it is a copy */
	struct gpu_buffer dma_buf;                 /* with a descriptor of its own */
	struct wayland_format format;              /* which the compositor has it in */
	struct zwp_linux_buffer_params_v1 *params; /* while it is asked */
	bool is_pinned;                            /* the guest's memory waits for it */

	/* Of wayland_syncobj.c: its timeline, and the last point there. */
	uint32_t syncobj;
	struct wp_linux_drm_syncobj_timeline_v1 *timeline;
	uint64_t point;
	bool has_points; /* this use: one of them is when it is read no more */
};

/* A copy of the window's size that the compositor does not read. Returns 0, with NULL if there is
 * none now; -ENOMEM if the compositor has none that it could give back. */
int wayland_copy_get(struct wayland_window *window, struct wayland_buffer **out);

/* A buffer with what gpu_get_scanout_buffer gave, which the compositor does not read; it is pinned
 * by that. The descriptors stay the caller's. Returns 0, with NULL if there is none now;
 * -EOPNOTSUPP if the compositor does not take it, -ENOMEM. */
int wayland_in_place_get(struct wayland_window *window, const struct gpu_buffer *dma_buf,
	struct wayland_buffer **out);

/* The compositor is given it, with the window's next commit. is_explicit: zwp_linux_... tells. */
void wayland_buffer_use(struct wayland_buffer *buffer, bool is_explicit);

/* The compositor reads it no more. For wayland_wait_take. */
void wayland_buffer_released(void *arg); /* the buffer */

/* It ends once the compositor reads it no more. */
void wayland_buffer_leave(struct wayland_buffer *buffer);

/* At once: there is no compositor any more. */
void wayland_buffer_end(struct wayland_buffer *buffer);

/* Tells the device that the memory is not read, if so. */
void wayland_key_settle(struct display_wayland *display, uint64_t key);

/* ---- Windows: wayland_window.c --------------------------------------------------------------- */

/* That the compositor has not answered. */
#define WAYLAND_MAX_FRAMES 2

struct wayland_answer;

LIST_HEAD(wayland_buffers, wayland_buffer);

struct wayland_window {
	struct display_wayland *display;
	uint32_t scanout;
	uint32_t width, height; /* of the scanout; 0: there is to be no window */
	bool is_closed;         /* by the user, who wants none either while it is on */
	struct wl_surface *surface;
	struct xdg_surface *xdg_surface;
	struct xdg_toplevel *toplevel;
	struct zxdg_toplevel_decoration_v1 *decoration;    /* or NULL, as these: */
	struct wp_viewport *viewport;                      /* or NULL */
	struct zwp_linux_surface_synchronization_v1 *sync; /* or NULL */
	struct wp_linux_drm_syncobj_surface_v1 *points;    /* if the latest commit has any */
	bool is_configured;                                /* it may show something */
	bool has_content;                                  /* it does */
	/* What the user made of it; 0: it is as large as the scanout. */
	uint32_t user_width, user_height, next_width, next_height;
	uint32_t told_width, told_height; /* to the guest, last; 0: nothing */
	bool is_resized;                  /* which the guest was not told */
	bool is_unscaled;                 /* nor was the compositor */

	struct wayland_buffers buffers;
	struct wayland_buffer *current; /* given last, or NULL */
	bool has_frame;                 /* that the compositor was not given */
	struct virtio_gpu_rect damage;  /* of that; width 0: nothing */
	uint64_t frame;                 /* the latest */
	LIST_HEAD(, wayland_answer) answers;
	uint32_t num_answers; /* which are waited for */
	uint64_t dropped;     /* the latest that could not be read */
	uint64_t shown, told;
};

void wayland_window_end(struct wayland_window *window); /* with the display, at once */
void wayland_window_set_size(struct wayland_window *window, uint32_t width, uint32_t height);
bool wayland_window_flush(
	struct wayland_window *window, const struct virtio_gpu_rect *rect, uint64_t frame);

/* The same with what is not drawn yet. Returns whether it is taken, and the descriptors with it. */
bool wayland_window_offer_take(struct wayland_window *window, const struct virtio_gpu_rect *rect,
	uint64_t frame, const struct gpu_buffer *dma_buf);

/* Tells the guest the size that the user gave it last. */
void wayland_window_tell_size(struct wayland_window *window);

/* It shows the memory with this key no more. */
void wayland_window_leave(struct wayland_window *window, uint64_t key);

/* Gives the compositor what it was not given, if that can be now; and tells what it shows. */
void wayland_window_go_on(struct wayland_window *window);

/* Its size on the compositor's screen. */
void wayland_window_get_size(
	const struct wayland_window *window, uint32_t *width, uint32_t *height);

/* ---- Points of sync objects: wayland_syncobj.c, or wayland_syncobj_none.c -------------------- */

/* If the interface is wp_linux_drm_syncobj_v1's, and this machine has sync objects, it is used, and
 * `syncobj` of the display set. */
void wayland_syncobj_note(struct display_wayland *display, uint32_t name, const char *interface);
void wayland_syncobj_end(struct display_wayland *display);

/* With the window's next commit, which has to follow at once: the compositor reads the buffer when
 * the sync file has signalled, or at once if that is -1; wayland_buffer_released is called when it
 * reads it no more. Returns 0; -EOPNOTSUPP without sync objects; or another error. */
int wayland_points_set(struct wayland_buffer *buffer, int acquire_fd);

/* The window's next commit has none. */
void wayland_points_clear(struct wayland_window *window);

/* The buffer ends. */
void wayland_points_end(struct wayland_buffer *buffer);

/* ---- Keyboard and pointer: wayland_seat.c ---------------------------------------------------- */

#define WAYLAND_CURSOR_SIDE 64

struct wayland_seat {
	struct display_wayland *display;
	uint32_t name; /* of the global; 0: there is none */
	struct wl_seat *seat;
	struct wl_keyboard *keyboard;
	struct wl_pointer *pointer;
	struct wayland_window *under; /* the pointer, or NULL */
	uint32_t serial;              /* with which it came */
	uint32_t buttons, x, y;       /* as in `pointer` */
	wl_fixed_t turned[2];         /* of the wheels, less than a click */
	int32_t clicks[2];            /* in this group of events; instead, if it has any */
	bool has_clicks;

	struct wl_surface *cursor;
	struct wl_buffer *cursor_buffer;
	uint32_t *cursor_memory;  /* the compositor's */
	uint32_t cursor_scanouts; /* a bit for each on which it is visible */
	uint32_t hot_x, hot_y;
	uint32_t cursor_pixels[WAYLAND_CURSOR_SIDE * WAYLAND_CURSOR_SIDE];
	bool has_pixels;     /* the compositor has these */
	bool cursor_changed; /* which the compositor was not told */
};

void wayland_seat_bind(
	struct wayland_seat *seat, struct wl_registry *registry, uint32_t name, uint32_t version);
void wayland_seat_end(struct wayland_seat *seat);
void wayland_seat_set_cursor(
	struct wayland_seat *seat, uint32_t scanout, const struct gpu_cursor *cursor);
/* Gives the compositor the latest, if it can have it. */
void wayland_seat_show_cursor(struct wayland_seat *seat);

/* The window goes away. */
void wayland_seat_forget(struct wayland_seat *seat, const struct wayland_window *window);

/* ---- The connection: display_wayland.c ------------------------------------------------------- */

#define WAYLAND_MAX_FORMATS 4096

/* A sync file that is waited for. */
struct wayland_wait {
	LIST_ENTRY(wayland_wait) link;
	int fd;
	void (*ready)(void *arg);
	void *arg;
};

struct display_wayland {
	const struct display_wayland_ops *ops;
	void *cookie;
	struct wl_display *display;
	struct wl_registry *registry;
	struct wl_compositor *compositor;
	struct wl_shm *shm;
	struct xdg_wm_base *wm_base;
	/* These may be missing. */
	struct zxdg_decoration_manager_v1 *decorations;
	struct wp_viewporter *viewporter;
	struct wp_presentation *presentation;
	uint32_t presentation_clock; /* the times' */
	struct zwp_linux_dmabuf_v1 *dmabuf;
	struct zwp_linux_explicit_synchronization_v1 *explicit_sync;
	struct wp_linux_drm_syncobj_manager_v1 *syncobj; /* instead of that */
	int drm_fd;                                      /* with it */
	struct wayland_format *formats;                  /* of dma-bufs */
	size_t num_formats;

	int epoll_fd;          /* of the connection and of `waits` */
	bool is_full;          /* the compositor does not read: nothing more is sent */
	bool holds_back;       /* what was held back may go on, once there is room */
	bool watches_for_room; /* the epoll set wakes up for either */
	bool is_ending;
	struct wayland_window windows[VIRTIO_GPU_MAX_SCANOUTS];
	struct wayland_seat seat;
	struct wayland_buffers leaving;
	uint32_t num_leaving;
	uint64_t copy_bytes;
	LIST_HEAD(, wayland_wait) waits;
	struct display_wayland_stats stats;
};

/* Sends what is waiting. Returns whether some hundred bytes more can be written then: a request
 * that finds no room ends the connection. To be asked before what a guest can cause often. If not,
 * wayland_window_go_on and wayland_seat_show_cursor are called once there is room. */
bool wayland_can_send(struct display_wayland *display);

/* Calls ready(arg) once the sync file, or an eventfd of our own, has signalled; owns it from the
 * call on, also when this fails. Returns 0, -ENOMEM, or what epoll_ctl failed with. */
int wayland_wait_take(
	struct display_wayland *display, int fence_fd, void (*ready)(void *arg), void *arg);

/* Memory that the compositor can have, and can not cut short. Returns the descriptor, or an
 * error. */
int wayland_memory(size_t size, void **out);

#endif
