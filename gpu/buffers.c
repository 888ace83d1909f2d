/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "buffers.h"

#define MIN_ROOM 4096

void request_buffer_finish(struct request_buffer *buffer)
{
	free(buffer->bytes);
	*buffer = (struct request_buffer){ 0 };
}

/* Up to `limit`: the sum of all lengths may overflow. */
static size_t bounded_size(const struct iovec *iov, size_t count, size_t limit)
{
	size_t size = 0;

	for (size_t i = 0; i < count; i++) {
		if (iov[i].iov_len >= limit - size) {
			return limit;
		}
		size += iov[i].iov_len;
	}
	return size;
}

static int make_room(struct request_buffer *buffer, size_t size)
{
	size_t room = size < MIN_ROOM ? MIN_ROOM : size;
	uint8_t *bytes;

	if (buffer->room >= size) {
		return 0;
	}
	bytes = malloc(room);
	if (bytes == NULL) {
		return -ENOMEM;
	}
	free(buffer->bytes);
	buffer->bytes = bytes;
	buffer->room = room;
	return 0;
}

ptrdiff_t request_copy(struct request_buffer *buffer, const struct iovec *iov, size_t count)
{
	size_t size = bounded_size(iov, count, REQUEST_MAX_SIZE);

	if (make_room(buffer, size) < 0) {
		return -ENOMEM;
	}
	iov_read(iov, count, 0, buffer->bytes, size);
	return (ptrdiff_t)size;
}

bool reader_read(struct reader *reader, void *data, size_t size)
{
	if (reader->left < size) {
		return false;
	}
	memcpy(data, reader->at, size);
	reader->at += size;
	reader->left -= size;
	return true;
}

bool iov_has_room(const struct iovec *iov, size_t count, size_t size)
{
	return bounded_size(iov, count, size) == size;
}

void iov_write(const struct iovec *iov, size_t count, size_t offset, const void *data, size_t size)
{
	const uint8_t *from = data;

	for (size_t i = 0; i < count && size > 0; i++) {
		size_t length = iov[i].iov_len;

		if (offset >= length) {
			offset -= length;
			continue;
		}
		length -= offset;
		if (length > size) {
			length = size;
		}
		memcpy((uint8_t *)iov[i].iov_base + offset, from, length);
		from += length;
		size -= length;
		offset = 0;
	}
}

void iov_read(const struct iovec *iov, size_t count, size_t offset, void *data, size_t size)
{
	uint8_t *to = data;

	for (size_t i = 0; i < count && size > 0; i++) {
		size_t length = iov[i].iov_len;

		if (offset >= length) {
			offset -= length;
			continue;
		}
		length -= offset;
		if (length > size) {
			length = size;
		}
		memcpy(to, (const uint8_t *)iov[i].iov_base + offset, length);
		to += length;
		size -= length;
		offset = 0;
	}
}
