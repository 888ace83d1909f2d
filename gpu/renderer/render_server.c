/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "render_server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

const char *render_server_path(void)
{
	const char *path = getenv("RENDER_SERVER_EXEC_PATH");

	return path != NULL ? path : RENDER_SERVER_PATH;
}

/* ---- Starting and ending -------------------------------------------------------------------- */

/* The number that the descriptor has there. */
#define SERVER_FD 3

static int fill_in_actions(posix_spawn_file_actions_t *actions, int socket_fd, int log_fd)
{
	int ret = posix_spawn_file_actions_adddup2(actions, log_fd, STDERR_FILENO);

	if (ret == 0) {
		ret = posix_spawn_file_actions_adddup2(actions, log_fd, STDOUT_FILENO);
	}
	/* Also if it has that number already: then it stays open. */
	return ret == 0 ? posix_spawn_file_actions_adddup2(actions, socket_fd, SERVER_FD) : ret;
}

/* A positive error, as those of posix_spawn. */
static int spawn(pid_t *pid, int socket_fd, int log_fd)
{
	const char *path = render_server_path();
	char option[32];
	char *arguments[] = { (char *)path, option, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int ret;

	snprintf(option, sizeof(option), "--socket-fd=%d", SERVER_FD);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setpgroup(&attributes, 0);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
	ret = fill_in_actions(&actions, socket_fd, log_fd);
	if (ret == 0) {
		ret = posix_spawn(pid, path, &actions, &attributes, arguments, environ);
	}
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return ret;
}

/* The server does not wait for us to read what it writes. */
static int open_log(int log_fds[2])
{
	return pipe2(log_fds, O_CLOEXEC | O_NONBLOCK) < 0 ? -errno : 0;
}

int render_server_start(struct render_server *server)
{
	int sockets[2], log_fds[2], ret;

	render_server_stop(server);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0) {
		return -errno;
	}
	ret = open_log(log_fds);
	if (ret == 0) {
		ret = -spawn(&server->pid, sockets[1], log_fds[1]);
		close(log_fds[1]);
		if (ret < 0) {
			server->pid = 0;
			close(log_fds[0]);
		} else {
			server->log_fd = log_fds[0];
			server->length = 0;
		}
	}
	close(sockets[1]);
	if (ret < 0) {
		close(sockets[0]);
		return ret;
	}
	return sockets[0];
}

void render_server_stop(struct render_server *server)
{
	if (server->pid == 0) {
		return;
	}
	kill(-server->pid, SIGKILL);
	while (waitpid(server->pid, NULL, 0) < 0 && errno == EINTR) {
	}
	close(server->log_fd);
	server->pid = 0;
}

/* ---- What it says --------------------------------------------------------------------------- */

static void end_line(
	struct render_server *server, void (*line)(void *arg, const char *text), void *arg)
{
	server->line[server->length] = '\0';
	if (server->length > 0) {
		line(arg, server->line);
	}
	server->length = 0;
}

bool render_server_has_log(const struct render_server *server)
{
	struct pollfd log = { .fd = server->log_fd, .events = POLLIN };

	return server->pid != 0 && poll(&log, 1, 0) == 1 && (log.revents & POLLIN);
}

void render_server_read_log(
	struct render_server *server, void (*line)(void *arg, const char *text), void *arg)
{
	char text[4096];
	ssize_t size;

	if (server->pid == 0) {
		return;
	}
	size = read(server->log_fd, text, sizeof(text));
	for (ssize_t i = 0; i < size; i++) {
		if (text[i] == '\n' || server->length == sizeof(server->line) - 1) {
			end_line(server, line, arg);
		}
		if (text[i] != '\n') {
			server->line[server->length++] = text[i];
		}
	}
}
