/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SOFT_MEMORY_H
#define SOFT_MEMORY_H

/* Memory of the host behind a blob of the software renderer: a file in memory, which a guest can
 * map, or the pixels of a 2D resource that a display reads in place. The file has whole pages. Its
 * size is sealed, so that whoever gets the file cannot take a page away from us. */

#include <stdint.h>

#include "renderer.h"

struct soft_memory {
	int fd;
	struct iovec iov;
	uint64_t start;
	struct renderer_backing base; /* all of it, in one piece */
};

/* How many bytes memory of a size takes: whole pages. */
uint64_t soft_memory_bytes(uint64_t size);

/* Returns 0; -ENOMEM; what memfd_create, ftruncate, fcntl or mmap failed with. */
int soft_memory_create(uint64_t size, struct soft_memory **out);
void soft_memory_destroy(struct soft_memory *memory); /* NULL is fine */

/* All of it as a dma-buf, which is the caller's: as udmabuf_create. */
int soft_memory_export(const struct soft_memory *memory);

#endif
