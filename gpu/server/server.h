/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GPU_SERVER_H
#define GPU_SERVER_H

/*
 * The GPU behind a vhost-user socket: what gpu.h needs from vhost_user.h, and the other way round.
 *
 * One thread for who calls. Errors are negative errno values.
 */

#include "gpu.h"

struct gpu_server;

struct gpu_server_options {
	const char *socket_path; /* where to listen, or NULL */
	int socket_fd;           /* instead: a front end's connection, borrowed; below 0: none */
	struct gpu_options gpu;
	const char *input_path; /* where to listen for a keyboard and a pointer, or NULL */
	const char *vnc; /* where VNC clients see the first scanout: display_vnc.h; NULL: nowhere */
	/* Files for gpu_record_start and gpu_trace_start, or NULL. They are opened last: another
	 * server may have the socket, and the files too. */
	const char *record, *trace;
	const char *control_path; /* where to listen for control_socket.h, or NULL */
	/* The Wayland compositor that shows the scanouts in windows: the name of its socket, or ""
	 * as the environment says; NULL: none. */
	const char *wayland;
	/* The front end's display gets dma-bufs of what can be had so, if it takes them. It cannot
	 * say that it fails to show one. */
	bool front_end_dma_bufs;
	/* The renderer calls OpenGL, which can take long: a second thread serves what needs none
	 * meanwhile (aside.h). */
	bool has_gl;
	/* For work in flight when a queue is stopped, in milliseconds; what is not done by then is
	 * cancelled. QEMU waits for the answer as long as it takes, and so does the guest. */
	int drain_ms;
	int end_fd; /* readable once the program is to end: that ends such a wait; below 0: none */

	/* How long a guest that asks for its monitors waits for the front end's display; 0: 3 s, as
	 * Linux waits 5 s. */
	uint32_t display_timeout_ms;
	/* One line without a newline. */
	void (*log)(void *cookie, enum vgf_log_level level, const char *message);
	void *cookie;
};

/* Makes a GPU and listens. What options points to has to stay, options itself has not. Returns 0,
 * or what gpu_create, vhost_user_create, input_create, control_socket_create, display_vnc_create,
 * display_wayland_create, gpu_record_start or gpu_trace_start failed with, after a message to the
 * log. */
int gpu_server_create(const struct gpu_server_options *options, renderer_create_fn create_renderer,
	struct gpu_server **out);

/* NULL is fine. */
void gpu_server_destroy(struct gpu_server *server);

/* Waits for something to do, and does it; see vhost_user_dispatch. */
int gpu_server_dispatch(struct gpu_server *server, int timeout_ms);

/* Whether no front end can come any more: the connection that it was given has ended. */
bool gpu_server_is_over(const struct gpu_server *server);

/* For a process that exits in the middle of something, from any thread: removes the socket's
 * file. */
void gpu_server_abandon(const struct gpu_server *server);

/* A descriptor that wakes gpu_server_dispatch, such as a signalfd; see vhost_user_watch. */
struct vhost_user_watch;
int gpu_server_watch(struct gpu_server *server, struct vhost_user_watch *watch);

/* For screenshots. */
struct gpu *gpu_server_get_gpu(struct gpu_server *server);

/* Of the Wayland display; all zeros if there is none. */
struct display_wayland_stats;
void gpu_server_get_wayland_stats(
	const struct gpu_server *server, struct display_wayland_stats *stats);

#endif
