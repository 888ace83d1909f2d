/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "fd_kind.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int fd_file_type(int fd)
{
	struct statx file;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &file) < 0) {
		return -errno;
	}
	return file.stx_mode & S_IFMT;
}

/* Names of files begin with a slash, so only the kernel's own can be this. */
bool fd_is_anonymous(int fd, const char *name)
{
	char path[64], expected[64], target[64];
	int size = snprintf(expected, sizeof(expected), "anon_inode:%s", name);
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, target, sizeof(target));
	return length == size && memcmp(target, expected, (size_t)size) == 0;
}

bool fd_is_sync_file(int fd)
{
	return fd_is_anonymous(fd, "sync_file");
}

int fd_check_eventfd(int fd)
{
	int type = fd_file_type(fd);

	if (type < 0) {
		return type;
	}
	return type == 0 && fd_is_anonymous(fd, "[eventfd]") ? 0 : -EINVAL;
}

static int get_option(int fd, int option, int *value)
{
	socklen_t size = sizeof(*value);

	if (getsockopt(fd, SOL_SOCKET, option, value, &size) < 0) {
		return errno == ENOTSOCK ? -EINVAL : -errno;
	}
	return 0;
}

int fd_check_unix_socket(int fd, int type)
{
	int its_domain = 0, its_type = 0;
	int ret = get_option(fd, SO_DOMAIN, &its_domain);

	if (ret == 0) {
		ret = get_option(fd, SO_TYPE, &its_type);
	}
	if (ret < 0) {
		return ret;
	}
	return its_domain == AF_UNIX && (type == 0 || its_type == type) ? 0 : -EINVAL;
}
