/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "udmabuf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>
#include <linux/udmabuf.h>

#define PARAMETERS "/sys/module/udmabuf/parameters/"

/* Of drivers/dma-buf/udmabuf.c, where the parameters cannot be read. */
#define LIST_LIMIT 1024
#define SIZE_LIMIT_MB 64

#ifndef F_SEAL_FUTURE_WRITE /* Linux 5.1 */
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#define NO_WRITING (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)

/* Of udmabuf_keep. */
static struct {
	bool done;
	int fd; /* or below 0 */
	uint64_t max_pieces, max_size;
} kept;

static uint64_t read_limit(const char *path, uint64_t usual)
{
	FILE *file = fopen(path, "re");
	unsigned long long limit = 0;
	int count = 0;

	if (file != NULL) {
		count = fscanf(file, "%llu", &limit);
		fclose(file);
	}
	return count == 1 ? limit : usual;
}

uint64_t udmabuf_max_pieces(void)
{
	return kept.done ? kept.max_pieces : read_limit(PARAMETERS "list_limit", LIST_LIMIT);
}

uint64_t udmabuf_max_size(void)
{
	return kept.done ? kept.max_size :
			   read_limit(PARAMETERS "size_limit_mb", SIZE_LIMIT_MB) << 20;
}

static int check_seals(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0) {
		return -EMEDIUMTYPE;
	}
	return (seals & F_SEAL_SHRINK) != 0 && (seals & NO_WRITING) == 0 ? 0 : -EPERM;
}

/* The module says EINVAL for most of this. */
static int check(const struct file_piece *pieces, uint32_t count)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), all = 0;
	uint64_t limit = udmabuf_max_size();
	int ret = 0;

	if (count == 0) {
		return -EINVAL;
	}
	if (count > udmabuf_max_pieces()) {
		return -E2BIG;
	}
	for (uint32_t i = 0; i < count && ret == 0; i++) {
		if (pieces[i].size == 0 ||
			((pieces[i].offset | pieces[i].size) & (page - 1)) != 0) {
			return -EINVAL;
		}
		if (pieces[i].size > limit || all > limit - pieces[i].size) {
			return -EFBIG;
		}
		all += pieces[i].size;
		if (i == 0 || pieces[i].fd != pieces[i - 1].fd) {
			ret = check_seals(pieces[i].fd);
		}
	}
	return ret;
}

static struct udmabuf_create_list *make_list(const struct file_piece *pieces, uint32_t count)
{
	struct udmabuf_create_list *list = calloc(
		1, sizeof(*list) + count * sizeof(struct udmabuf_create_item));

	if (list == NULL) {
		return NULL;
	}
	list->flags = UDMABUF_FLAGS_CLOEXEC;
	list->count = count;
	for (uint32_t i = 0; i < count; i++) {
		list->list[i].memfd = (uint32_t)pieces[i].fd;
		list->list[i].offset = pieces[i].offset;
		list->list[i].size = pieces[i].size;
	}
	return list;
}

/* Huge pages are what is left of what the module may not take. */
static int refused(const struct file_piece *pieces, uint32_t count, int error)
{
	struct statfs system;

	for (uint32_t i = 0; i < count; i++) {
		if (fstatfs(pieces[i].fd, &system) == 0 && system.f_type == HUGETLBFS_MAGIC) {
			return -EOPNOTSUPP;
		}
	}
	return error;
}

bool udmabuf_is_there(void)
{
	return kept.done ? kept.fd >= 0 : access("/dev/udmabuf", R_OK | W_OK) == 0;
}

static int open_device(void)
{
	if (!kept.done) {
		return open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	}
	if (kept.fd < 0) {
		errno = ENODEV;
		return -1;
	}
	return fcntl(kept.fd, F_DUPFD_CLOEXEC, 0);
}

void udmabuf_keep(void)
{
	kept.max_pieces = udmabuf_max_pieces();
	kept.max_size = udmabuf_max_size();
	kept.fd = open_device();
	kept.done = true;
}

int udmabuf_create(const struct file_piece *pieces, uint32_t count)
{
	struct udmabuf_create_list *list;
	int ret = check(pieces, count), fd;

	if (ret < 0) {
		return ret;
	}
	fd = open_device();
	if (fd < 0) {
		return errno == EMFILE || errno == ENFILE ? -errno : -ENODEV;
	}
	list = make_list(pieces, count);
	if (list == NULL) {
		close(fd);
		return -ENOMEM;
	}
	ret = ioctl(fd, UDMABUF_CREATE_LIST, list);
	ret = ret < 0 ? -errno : ret;
	free(list);
	close(fd);
	return ret == -EBADFD || ret == -EINVAL ? refused(pieces, count, ret) : ret;
}
