/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef BACKING_H
#define BACKING_H

/* Guest memory behind a resource. */

#include <stdbool.h>
#include <stdint.h>

#include "renderer.h"
#include "buffers.h"

struct guest_memory;

/*
 * Pieces of guest memory that all backings of a device may have together. A page each makes 4 GiB,
 * more than a guest's driver has pinned at a time; and 24 MiB of ours.
 */
#define BACKING_MAX_IOV (1u << 20)

/* Its memory as a dma-buf, if somebody asked for that: dma_buf.h. */
struct dma_buf {
	int fd;          /* or below 0 */
	bool failed;     /* there is none, and will not be */
	uint32_t *count; /* of those that have one */
};

struct backing {
	struct renderer_backing base;
	struct guest_memory *memory; /* a reference, so that it stays mapped */
	struct dma_buf dma_buf;
};

/*
 * Makes a backing of num_entries struct virtio_gpu_mem_entry, which are read from the request.
 * num_iov: pieces in all backings so far; those of this one are added.
 *
 * Returns 0; -EINVAL if the request does not have as many entries; -EFAULT if one is not guest
 * memory; -ENOSPC at BACKING_MAX_IOV; -ENOMEM.
 */
int backing_create(struct guest_memory *memory, struct reader *reader, uint32_t num_entries,
	uint32_t *num_iov, struct backing **out);

/* Subtracts its pieces again. NULL is fine. */
void backing_destroy(struct backing *backing, uint32_t *num_iov);

/* Copy between a place in a backing and ours. They return 0, or -EFAULT if not all of it is in the
 * backing. The guest can write there at the same time. */
int backing_read(
	const struct renderer_backing *backing, uint64_t offset, void *data, uint64_t size);
int backing_write(
	const struct renderer_backing *backing, uint64_t offset, const void *data, uint64_t size);

#endif
