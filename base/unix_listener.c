/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "unix_listener.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* In milliseconds. Whoever opens a socket in a folder has it for much less than one. */
#define LOCK_TRIES 1000

static int open_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/*
 * Two that start at one path at once would take each other's new socket, on which nobody listens
 * yet, for one that is left over. So only one looks and makes its own, in all of the folder, as a
 * socket itself cannot be opened. Returns a descriptor, to be closed; -1 in a folder that cannot be
 * read, or that somebody else keeps locked, whatever for: who starts alone does not need it.
 */
static int lock_folder(const struct sockaddr_un *address)
{
	static const struct timespec pause = { .tv_nsec = 1000000 };
	char path[sizeof(address->sun_path)];
	int fd;

	memcpy(path, address->sun_path, sizeof(path));
	fd = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
		/* Some file systems lock no folders. */
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) {
			return fd;
		}
		nanosleep(&pause, NULL);
	}
	if (fd >= 0) {
		close(fd);
	}
	return -1;
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

static int listen_at(struct unix_listener *listener, mode_t mode, int backlog)
{
	int ret = remove_stale(&listener->address);

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
	if (lstat(listener->address.sun_path, &listener->file) < 0 ||
		listen(listener->fd, backlog) < 0) {
		return -errno;
	}
	return 0;
}

int unix_listener_open(struct unix_listener *listener, const char *path, mode_t mode, int backlog)
{
	size_t length = strlen(path);
	int lock_fd, ret;

	*listener = (struct unix_listener){ .fd = -1, .address.sun_family = AF_UNIX };
	if (length >= sizeof(listener->address.sun_path)) {
		return -ENAMETOOLONG;
	}
	memcpy(listener->address.sun_path, path, length);
	lock_fd = lock_folder(&listener->address);
	ret = listen_at(listener, mode, backlog);
	if (lock_fd >= 0) {
		close(lock_fd);
	}
	return ret;
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
