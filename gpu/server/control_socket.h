/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef CONTROL_SOCKET_H
#define CONTROL_SOCKET_H

/*
 * What other programs of the same user ask a running device, and have it do: docs/observing.md has
 * the requests. Errors are negative errno values. One thread, the device's.
 */

struct control_socket;
struct gpu;

/* Listens at a path, for the requests of a device, which outlives it. Returns 0, or what
 * line_socket_create failed with. */
int control_socket_create(const char *path, struct gpu *gpu, struct control_socket **out);

/* NULL is fine. */
void control_socket_destroy(struct control_socket *control);

/* As those of line_socket.h. */
void control_socket_abandon(const struct control_socket *control);
int control_socket_get_fd(const struct control_socket *control);
void control_socket_dispatch(struct control_socket *control);

#endif
