/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef BUFFERS_H
#define BUFFERS_H

/*
 * A request's bytes. They are copied out of guest memory once, before anything is looked at; what
 * is checked is the copy.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <linux/virtio_gpu.h>

#include "guest_limits.h"

/*
 * Bytes of a request that are looked at: the longest is a SUBMIT_3D, a header and all that it may
 * have. That is also a backing of 262144 entries, which is 1 GiB if each is a page.
 */
#define REQUEST_MAX_SIZE                                                                           \
	(sizeof(struct virtio_gpu_cmd_submit) + MAX_IN_FENCES * sizeof(uint64_t) + MAX_COMMAND_SIZE)

/* Room for a copy, kept from request to request. */
struct request_buffer {
	uint8_t *bytes;
	size_t room;
};

void request_buffer_finish(struct request_buffer *buffer);

/* Copies a request into the buffer, or as much of it as REQUEST_MAX_SIZE allows. Returns how much
 * that is, or -ENOMEM. */
ptrdiff_t request_copy(struct request_buffer *buffer, const struct iovec *iov, size_t count);

/* What has not been read yet of the copy. */
struct reader {
	const uint8_t *at;
	size_t left;
};

/* Takes the next bytes. Returns whether they were there. */
bool reader_read(struct reader *reader, void *data, size_t size);

/* Whether `size` bytes fit into an iovec. */
bool iov_has_room(const struct iovec *iov, size_t count, size_t size);

/* Copies `size` bytes to, or from, the place `offset` of an iovec that is known to have them. */
void iov_write(const struct iovec *iov, size_t count, size_t offset, const void *data, size_t size);
void iov_read(const struct iovec *iov, size_t count, size_t offset, void *data, size_t size);

#endif
