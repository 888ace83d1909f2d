/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef RENDER_SERVER_H
#define RENDER_SERVER_H

/*
 * virglrenderer's render server, in which the Vulkan of each context has a process of its own. It
 * could start it by itself; but then nobody says so if it is missing, nobody bounds what it writes
 * (as much as a guest likes), and what hangs in a GPU's driver may outlive it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct render_server {
	pid_t pid;  /* and its process group; 0: none runs */
	int log_fd; /* what it writes to its standard error */
	char line[200];
	size_t length;
};

/* The program: what RENDER_SERVER_EXEC_PATH in the environment names, or the one that belongs to
 * the virglrenderer that this was built with. */
const char *render_server_path(void);

/* Ends the one before, if there is one. Returns a descriptor for virglrenderer, which closes it; or
 * an error. What is initialized is all zeros. */
int render_server_start(struct render_server *server);

/* Whether there is something to read. */
bool render_server_has_log(const struct render_server *server);

/* Calls `line` for what it has written: 4 KiB at most, control characters as they came. Does not
 * wait; what it could not write meanwhile is lost. */
void render_server_read_log(
	struct render_server *server, void (*line)(void *arg, const char *text), void *arg);

/* With all of its processes. */
void render_server_stop(struct render_server *server);

#endif
