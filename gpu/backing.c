/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/virtio_gpu.h>

#include "backing.h"
#include "guest_memory.h"

#define PAGE 4096u

/* A backing's pieces while they are added. */
struct pieces {
	struct backing *backing;
	uint32_t room, max;
};

/* Gives it room for so many; at the end, for no more than there are. */
static int set_room(struct pieces *pieces, uint32_t room)
{
	struct renderer_backing *base = &pieces->backing->base;
	struct iovec *iov = reallocarray(base->iov, room, sizeof(*iov));

	if (iov == NULL) {
		return -ENOMEM;
	}
	base->iov = iov;
	pieces->room = room;
	return 0;
}

static int grow(struct pieces *pieces)
{
	uint32_t room = pieces->room == 0 ? 4 : 2 * pieces->room;

	if (pieces->room == pieces->max) {
		return -ENOSPC;
	}
	return set_room(pieces, room < pieces->max ? room : pieces->max);
}

/* Adds a piece of memory. The last one grows if the new one follows it. */
static int add_piece(struct pieces *pieces, const struct iovec *piece)
{
	struct renderer_backing *base = &pieces->backing->base;

	if (base->num_iov > 0) {
		struct iovec *last = &base->iov[base->num_iov - 1];

		if ((char *)last->iov_base + last->iov_len == piece->iov_base) {
			last->iov_len += piece->iov_len;
			base->size += piece->iov_len;
			return 0;
		}
	}
	if (base->num_iov == pieces->room) {
		int ret = grow(pieces);

		if (ret < 0) {
			return ret;
		}
	}
	base->iov[base->num_iov++] = *piece;
	base->size += piece->iov_len;
	return 0;
}

static int add_entry(struct pieces *pieces, const struct virtio_gpu_mem_entry *entry)
{
	struct iovec iov[GUEST_MEMORY_MAX_REGIONS];
	uint32_t length = le32toh(entry->length);
	int count, ret = 0;

	if (length == 0) {
		return 0;
	}
	count = guest_memory_map(pieces->backing->memory, le64toh(entry->addr), length, iov,
		GUEST_MEMORY_MAX_REGIONS);
	if (count < 0) {
		return -EFAULT;
	}
	for (int i = 0; i < count && ret == 0; i++) {
		ret = add_piece(pieces, &iov[i]);
	}
	return ret;
}

static int add_entries(struct pieces *pieces, struct reader *reader, uint32_t num_entries)
{
	struct virtio_gpu_mem_entry entry;
	int ret = 0;

	for (uint32_t i = 0; i < num_entries && ret == 0; i++) {
		ret = reader_read(reader, &entry, sizeof(entry)) ? add_entry(pieces, &entry) :
								   -EINVAL;
	}
	if (ret == 0 && pieces->room > pieces->backing->base.num_iov) {
		/* If that fails, there is more than enough. */
		set_room(pieces, pieces->backing->base.num_iov);
	}
	return ret;
}

static int add_starts(struct renderer_backing *base)
{
	uint64_t at = 0;

	base->starts = calloc(base->num_iov + (size_t)1, sizeof(*base->starts));
	if (base->starts == NULL) {
		return -ENOMEM;
	}
	base->has_whole_pages = true;
	for (uint32_t i = 0; i < base->num_iov; i++) {
		/* Where the piece before this one ends. */
		base->has_whole_pages = base->has_whole_pages && at % PAGE == 0;
		base->starts[i] = at;
		at += base->iov[i].iov_len;
	}
	return 0;
}

static void free_backing(struct backing *backing)
{
	if (backing->dma_buf.fd >= 0) {
		close(backing->dma_buf.fd);
		--*backing->dma_buf.count;
	}
	guest_memory_unref(backing->memory);
	free(backing->base.iov);
	free(backing->base.starts);
	free(backing);
}

int backing_create(struct guest_memory *memory, struct reader *reader, uint32_t num_entries,
	uint32_t *num_iov, struct backing **out)
{
	struct pieces pieces = { .max = BACKING_MAX_IOV - *num_iov };
	struct backing *backing;
	int ret;

	if (num_entries == 0 || num_entries > reader->left / sizeof(struct virtio_gpu_mem_entry)) {
		return -EINVAL;
	}
	if (memory == NULL) {
		return -EFAULT;
	}
	backing = calloc(1, sizeof(*backing));
	if (backing == NULL) {
		return -ENOMEM;
	}
	backing->memory = guest_memory_ref(memory);
	backing->dma_buf.fd = -1;
	pieces.backing = backing;
	ret = add_entries(&pieces, reader, num_entries);
	if (ret == 0) {
		ret = add_starts(&backing->base);
	}
	if (ret < 0) {
		free_backing(backing);
		return ret;
	}
	*num_iov += backing->base.num_iov;
	*out = backing;
	return 0;
}

void backing_destroy(struct backing *backing, uint32_t *num_iov)
{
	if (backing != NULL) {
		*num_iov -= backing->base.num_iov;
		free_backing(backing);
	}
}

/* The piece that has the place `offset`, which is in the backing. */
static uint32_t find_piece(const struct renderer_backing *backing, uint64_t offset)
{
	uint32_t low = 0, high = backing->num_iov;

	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (backing->starts[middle] <= offset) {
			low = middle;
		} else {
			high = middle;
		}
	}
	return low;
}

static bool has_bytes(const struct renderer_backing *backing, uint64_t offset, uint64_t size)
{
	return offset <= backing->size && size <= backing->size - offset;
}

int backing_read(const struct renderer_backing *backing, uint64_t offset, void *data, uint64_t size)
{
	uint32_t piece;

	if (!has_bytes(backing, offset, size)) {
		return -EFAULT;
	}
	if (size > 0) {
		piece = find_piece(backing, offset);
		iov_read(backing->iov + piece, backing->num_iov - piece,
			(size_t)(offset - backing->starts[piece]), data, (size_t)size);
	}
	return 0;
}

int backing_write(
	const struct renderer_backing *backing, uint64_t offset, const void *data, uint64_t size)
{
	uint32_t piece;

	if (!has_bytes(backing, offset, size)) {
		return -EFAULT;
	}
	if (size > 0) {
		piece = find_piece(backing, offset);
		iov_write(backing->iov + piece, backing->num_iov - piece,
			(size_t)(offset - backing->starts[piece]), data, (size_t)size);
	}
	return 0;
}
