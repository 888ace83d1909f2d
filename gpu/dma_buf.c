/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "dma_buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gpu_private.h"
#include "guest_memory.h"
#include "udmabuf.h"
#include "vfio_dma_buf.h"

/* No module takes more, whatever its limit: the array has to end somewhere. */
#define MAX_PIECES 16384u

struct pieces {
	struct file_piece *list;
	uint32_t count, room;
};

/* One that follows the last one in its file makes that longer. */
static int add(struct pieces *pieces, const struct file_piece *piece)
{
	struct file_piece *last = pieces->count > 0 ? &pieces->list[pieces->count - 1] : NULL;

	if (last != NULL && last->fd == piece->fd && last->offset + last->size == piece->offset) {
		last->size += piece->size;
		return 0;
	}
	if (pieces->count == MAX_PIECES) {
		return -E2BIG;
	}
	if (pieces->count == pieces->room) {
		uint32_t room = pieces->room == 0 ? 16 : 2 * pieces->room;
		struct file_piece *list = reallocarray(pieces->list, room, sizeof(*list));

		if (list == NULL) {
			return -ENOMEM;
		}
		pieces->list = list;
		pieces->room = room;
	}
	pieces->list[pieces->count++] = *piece;
	return 0;
}

static int add_memory(struct pieces *pieces, const struct guest_memory *memory,
	const uint8_t *start, uint64_t size)
{
	int ret = 0;

	while (size > 0 && ret == 0) {
		struct file_piece piece;

		ret = guest_memory_file(memory, start, size, &piece);
		if (ret == 0) {
			ret = add(pieces, &piece);
			start += piece.size;
			size -= piece.size;
		}
	}
	return ret;
}

/* Of memory of a device, or of none. Each question is a system call: it is asked once for pieces of
 * one file, and not for more than udmabuf takes. */
static int make_of_pieces(const struct pieces *pieces)
{
	const struct file_piece *list = pieces->list;

	if (pieces->count > 0 && vfio_is_device(list[0].fd)) {
		return vfio_dma_buf_create(list, pieces->count);
	}
	if (pieces->count > udmabuf_max_pieces()) {
		return -E2BIG;
	}
	for (uint32_t i = 1; i < pieces->count; i++) {
		if (list[i].fd != list[i - 1].fd && vfio_is_device(list[i].fd)) {
			return -EXDEV;
		}
	}
	return udmabuf_create(list, pieces->count);
}

static int create(struct backing *backing, uint64_t size)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t left = (size + page - 1) & ~(page - 1);
	struct pieces pieces = { 0 };
	int ret = left > backing->base.size ? -EINVAL : 0;

	for (uint32_t i = 0; i < backing->base.num_iov && left > 0 && ret == 0; i++) {
		const struct iovec *iov = &backing->base.iov[i];
		uint64_t length = iov->iov_len < left ? iov->iov_len : left;

		ret = add_memory(&pieces, backing->memory, iov->iov_base, length);
		left -= length;
	}
	if (ret == 0) {
		ret = make_of_pieces(&pieces);
	}
	free(pieces.list);
	return ret;
}

/* What there is no memory or descriptor for may do another time; all else is as it is. */
static bool is_final(int error)
{
	return error != -EMFILE && error != -ENFILE && error != -ENOMEM && error != -ENOSPC;
}

static const char *reason(int error)
{
	switch (error) {
	case -ENODEV:
		return "there is no /dev/udmabuf";
	case -EMEDIUMTYPE:
		return "it is not in a memfd";
	case -EPERM:
		return "its file has no F_SEAL_SHRINK, or has F_SEAL_WRITE";
	case -EINVAL:
		return "it is not whole pages";
	case -E2BIG:
		return "it has more pieces than udmabuf's list_limit";
	case -EFBIG:
		return "it is larger than udmabuf's size_limit_mb";
	case -EOPNOTSUPP:
		return "this kernel's udmabuf takes no huge pages";
	case -EXDEV:
		return "it is in more than one BAR of a device, or partly in a device";
	case -ENOTTY:
		return "VFIO makes no dma-bufs of its device here (Linux 6.19)";
	default:
		return strerror(-error);
	}
}

int dma_buf_refused(struct gpu *gpu, int error)
{
	if (!is_final(error)) {
		return error;
	}
	if (!gpu->told_of_copies) {
		gpu->told_of_copies = true;
		log_error(gpu, "what the guest shows is copied, as its memory is no dma-buf: %s",
			reason(error));
	}
	return -EOPNOTSUPP;
}

static int make(struct gpu *gpu, struct backing *backing, uint64_t size)
{
	struct dma_buf *dma_buf = &backing->dma_buf;
	int fd;

	if (gpu->resources.num_dma_bufs >= MAX_DMA_BUFS) {
		return -ENOSPC;
	}
	fd = create(backing, size);
	if (fd >= 0) {
		dma_buf->fd = fd;
		dma_buf->count = &gpu->resources.num_dma_bufs;
		++*dma_buf->count;
		return 0;
	}
	dma_buf->failed = is_final(fd);
	return dma_buf_refused(gpu, fd);
}

int backing_get_dma_buf(struct gpu *gpu, struct backing *backing, uint64_t size)
{
	const struct dma_buf *dma_buf = &backing->dma_buf;
	int ret = 0;

	if (dma_buf->failed) {
		return -EOPNOTSUPP;
	}
	if (dma_buf->fd < 0) {
		ret = make(gpu, backing, size);
	}
	if (ret == 0) {
		ret = fcntl(dma_buf->fd, F_DUPFD_CLOEXEC, 0);
		ret = ret < 0 ? -errno : ret;
	}
	return ret;
}
