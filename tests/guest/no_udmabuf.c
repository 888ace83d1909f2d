/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Preloaded into a Vulkan driver's process, for machines without /dev/udmabuf: lavapipe makes the
 * dma-bufs of its memory there, and Venus shares all memory that a guest maps by them. In a
 * dma-buf's place is the memfd itself, which whoever gets it can map just as well.
 */

/* Both names are replaced: open is not to be another name of open64 here. */
#undef _FILE_OFFSET_BITS

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/udmabuf.h>

#define DEVICE "/dev/udmabuf"

typedef int open_function(const char *path, int flags, ...);
typedef int ioctl_function(int fd, unsigned long request, ...);

static int device_fd = -1;

static void *next(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

static bool is_missing(const char *path)
{
	return strcmp(path, DEVICE) == 0 && access(path, F_OK) < 0;
}

/* A descriptor of its own, for as long as the process lives. */
static int open_device(void)
{
	open_function *open_it = (open_function *)next("open");

	if (device_fd < 0) {
		device_fd = open_it("/dev/null", O_RDWR | O_CLOEXEC);
	}
	return device_fd;
}

int open(const char *path, int flags, ...)
{
	open_function *open_it = (open_function *)next("open");
	va_list arguments;
	mode_t mode = 0;

	if (is_missing(path)) {
		return open_device();
	}
	if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) {
		va_start(arguments, flags);
		mode = va_arg(arguments, mode_t);
		va_end(arguments);
	}
	return open_it(path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

static int create(const struct udmabuf_create *info)
{
	if (info->offset != 0) {
		errno = EINVAL;
		return -1;
	}
	return fcntl((int)info->memfd, F_DUPFD_CLOEXEC, 0);
}

int ioctl(int fd, unsigned long request, ...)
{
	ioctl_function *ioctl_it = (ioctl_function *)next("ioctl");
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	if (fd >= 0 && fd == device_fd && request == UDMABUF_CREATE) {
		return create(argument);
	}
	return ioctl_it(fd, request, argument);
}
