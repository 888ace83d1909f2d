/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "unix_listener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int open_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/* Removes a socket that nobody listens on. */
static int remove_stale(const struct sockaddr_un *address)
{
	struct stat file;
	int fd, ret;

	if (lstat(address->sun_path, &file) < 0) {
		return errno == ENOENT ? 0 : -errno;
	}
	if (!S_ISSOCK(file.st_mode)) {
		return -EEXIST;
	}
	fd = open_socket();
	if (fd < 0) {
		return fd;
	}
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0) {
		ret = -EADDRINUSE;
	} else {
		ret = errno == EAGAIN ? -EADDRINUSE : -errno;
	}
	close(fd);
	if (ret != -ECONNREFUSED) {
		return ret;
	}
	return unlink(address->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

int unix_listener_open(struct unix_listener *listener, const char *path, mode_t mode, int backlog)
{
	size_t length = strlen(path);
	int ret;

	*listener = (struct unix_listener){ .fd = -1, .address.sun_family = AF_UNIX };
	if (length >= sizeof(listener->address.sun_path)) {
		return -ENAMETOOLONG;
	}
	memcpy(listener->address.sun_path, path, length);
	ret = remove_stale(&listener->address);
	if (ret < 0) {
		return ret;
	}
	listener->fd = open_socket();
	if (listener->fd < 0) {
		return listener->fd;
	}
	/* The file that bind makes gets the socket's mode. */
	if (fchmod(listener->fd, mode) < 0 ||
		bind(listener->fd, (const struct sockaddr *)&listener->address,
			sizeof(listener->address)) < 0) {
		return -errno;
	}
	if (lstat(path, &listener->file) < 0 || listen(listener->fd, backlog) < 0) {
		return -errno;
	}
	return 0;
}

void unix_listener_remove(const struct unix_listener *listener)
{
	struct stat file;

	if (listener->file.st_ino != 0 && lstat(listener->address.sun_path, &file) == 0 &&
		file.st_dev == listener->file.st_dev && file.st_ino == listener->file.st_ino) {
		unlink(listener->address.sun_path);
	}
}

void unix_listener_close(struct unix_listener *listener)
{
	unix_listener_remove(listener);
	if (listener->fd >= 0) {
		close(listener->fd);
	}
	*listener = (struct unix_listener){ .fd = -1 };
}
