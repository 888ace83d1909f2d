/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "soft_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "udmabuf.h"

uint64_t soft_memory_bytes(uint64_t size)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	return (size + page - 1) & ~(page - 1);
}

static int make_file(struct soft_memory *memory, uint64_t size)
{
	memory->fd = memfd_create("vgfence-blob", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memory->fd < 0 || ftruncate(memory->fd, (off_t)soft_memory_bytes(size)) < 0 ||
		fcntl(memory->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		return -errno;
	}
	memory->iov.iov_base = mmap(
		NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
	if (memory->iov.iov_base == MAP_FAILED) {
		memory->iov.iov_base = NULL;
		return -errno;
	}
	memory->iov.iov_len = (size_t)size;
	return 0;
}

int soft_memory_create(uint64_t size, struct soft_memory **out)
{
	struct soft_memory *memory = calloc(1, sizeof(*memory));
	int ret;

	if (memory == NULL) {
		return -ENOMEM;
	}
	ret = make_file(memory, size);
	if (ret < 0) {
		soft_memory_destroy(memory);
		return ret;
	}
	memory->base = (struct renderer_backing){
		.iov = &memory->iov,
		.starts = &memory->start,
		.num_iov = 1,
		.size = size,
		.has_whole_pages = true,
	};
	*out = memory;
	return 0;
}

void soft_memory_destroy(struct soft_memory *memory)
{
	if (memory == NULL) {
		return;
	}
	if (memory->iov.iov_base != NULL) {
		munmap(memory->iov.iov_base, memory->iov.iov_len);
	}
	if (memory->fd >= 0) {
		close(memory->fd);
	}
	free(memory);
}

int soft_memory_export(const struct soft_memory *memory)
{
	const struct file_piece piece = { memory->fd, 0, soft_memory_bytes(memory->base.size) };

	return udmabuf_create(&piece, 1);
}
