/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef LINE_SOCKET_H
#define LINE_SOCKET_H

/*
 * A local socket for other programs of the same user: a client sends a line, and gets a line as the
 * answer, and so on. It never waits for one: whoever sends half a line, or does not read, keeps
 * nobody from anything. Nothing wakes up while nobody asks.
 *
 * The file has mode 0600, and each client's user ID is looked at besides. What clients can use up
 * is bounded: see below. One thread. Errors are negative errno values.
 */

#include <stddef.h>

struct line_socket;

/* At a time. When one more comes, the one leaves that has asked nothing for the longest time. */
#define LINE_SOCKET_MAX_CLIENTS 8

/* Of a request, without the newline. Who sends more is told so, and disconnected. */
#define LINE_SOCKET_MAX_REQUEST 4095

/* Of an answer, which is kept until it is read: one for each client. */
#define LINE_SOCKET_MAX_ANSWER ((size_t)4 << 20)

/*
 * Answers a request: `line` ends with a 0, and has no other. Returns the answer, without a newline,
 * which is freed with free(); NULL: there is no memory for it, so the client is disconnected, as it
 * is for a longer one than there may be.
 */
typedef char *(*line_socket_answer)(void *cookie, const char *line);

/* Listens at a path. Returns 0; what unix_listener_open or epoll_create failed with; -ENOMEM. */
int line_socket_create(
	const char *path, line_socket_answer answer, void *cookie, struct line_socket **out);

/* NULL is fine. */
void line_socket_destroy(struct line_socket *socket);

/* Removes the file, from any thread, for a process that exits without line_socket_destroy. NULL is
 * fine. */
void line_socket_abandon(const struct line_socket *socket);

/* Readable if there is something to dispatch: a round answers one request of each client. */
int line_socket_get_fd(const struct line_socket *socket);
void line_socket_dispatch(struct line_socket *socket);

#endif
