/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GPU_SERVER_H
#define GPU_SERVER_H

/*
 * The GPU behind a vhost-user socket: what gpu.h needs from vhost_user.h, and the other way round.
 *
 * One thread. Errors are negative errno values.
 */

#include "gpu.h"

struct gpu_server;

struct gpu_server_options {
	const char *socket_path;
	struct gpu_options gpu;
	/* One line without a newline. */
	void (*log)(void *cookie, enum vgf_log_level level, const char *message);
	void *cookie;
};

/* Makes a GPU and listens. What options points to has to stay, options itself has not. Returns 0,
 * or what gpu_create or vhost_user_create failed with, after a message to the log. */
int gpu_server_create(const struct gpu_server_options *options, renderer_create_fn create_renderer,
	struct gpu_server **out);

/* NULL is fine. */
void gpu_server_destroy(struct gpu_server *server);

/* Waits for something to do, and does it; see vhost_user_dispatch. */
int gpu_server_dispatch(struct gpu_server *server, int timeout_ms);

/* A descriptor that wakes gpu_server_dispatch, such as a signalfd; see vhost_user_watch. */
struct vhost_user_watch;
int gpu_server_watch(struct gpu_server *server, struct vhost_user_watch *watch);

/* For screenshots. */
struct gpu *gpu_server_get_gpu(struct gpu_server *server);

#endif
