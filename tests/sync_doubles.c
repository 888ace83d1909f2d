/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "sync_doubles.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <vgfence/sync_file.h>

#include "udmabuf.h"

int double_on_dma_bufs = -1;
unsigned int double_refuses_every;

int double_sync_file(bool signalled)
{
	return eventfd(signalled, EFD_CLOEXEC);
}

int __wrap_udmabuf_create(const struct file_piece *pieces, uint32_t count);
int __wrap_udmabuf_create(const struct file_piece *pieces, uint32_t count)
{
	int fd = count > 0 ? fcntl(pieces[0].fd, F_DUPFD_CLOEXEC, 0) : -1;

	return count == 0 ? -EINVAL : fd < 0 ? -errno : fd;
}

int __wrap_vgf_dma_buf_export_sync_file(int dma_buf_fd, uint32_t access);
int __wrap_vgf_dma_buf_export_sync_file(int dma_buf_fd, uint32_t access)
{
	int fd;

	(void)dma_buf_fd;
	(void)access;
	fd = double_on_dma_bufs < 0 ? double_sync_file(true) :
				      fcntl(double_on_dma_bufs, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

int __wrap_vgf_dma_buf_import_sync_file(int dma_buf_fd, uint32_t access, int fence_fd);
int __wrap_vgf_dma_buf_import_sync_file(int dma_buf_fd, uint32_t access, int fence_fd)
{
	static unsigned int count;

	(void)access;
	if (fcntl(dma_buf_fd, F_GETFD) < 0 || fcntl(fence_fd, F_GETFD) < 0) {
		return -EBADF;
	}
	return double_refuses_every > 0 && ++count % double_refuses_every == 0 ? -ENOTTY : 0;
}

static bool is_double(int fd)
{
	static const char name[] = "anon_inode:[eventfd]";
	char path[32], target[sizeof(name)];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, target, sizeof(target));
	return length == (ssize_t)sizeof(name) - 1 && memcmp(target, name, sizeof(name) - 1) == 0 &&
		(fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
}

int __wrap_vgf_sync_file_info(int fd, struct vgf_sync_file_fence *fences, size_t count);
int __wrap_vgf_sync_file_info(int fd, struct vgf_sync_file_fence *fences, size_t count)
{
	(void)fences;
	(void)count;
	return is_double(fd) ? 1 : -ENOTTY;
}

bool __wrap_fd_is_sync_file(int fd);
bool __wrap_fd_is_sync_file(int fd)
{
	return is_double(fd);
}
