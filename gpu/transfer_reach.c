/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "transfer_reach.h"

#include <endian.h>
#include <string.h>

/* Of the virgl protocol: those that transfer begin alike. */
enum command_type {
	RESOURCE_INLINE_WRITE = 9,
	TRANSFER3D = 43,
	COPY_TRANSFER3D = 45,
};

struct command {
	uint32_t head; /* the type, in 8 bits; the words that follow, in the upper 16 */
	uint32_t resource_id, level, usage, stride, layer_stride;
	struct virtio_gpu_box box;
};

/* No texture has more rows. */
#define MAX_ROWS 32768

/* That, and a row, are below this: room for them. */
#define MAX_OFFSET (UINT32_MAX / 2)

bool transfer_reach_ok(const struct virtio_gpu_box *box, uint64_t row, uint64_t layer,
	uint64_t pixel_size, uint64_t offset)
{
	uint64_t size = box->w * pixel_size; /* of the last row */

	if (size > UINT32_MAX || (row > INT32_MAX && (box->h > 1 || box->d > 1)) ||
		(layer > INT32_MAX && box->d > 1)) {
		return false;
	}
	size += box->h > 1 ? row * (box->h - 1) : 0;
	size += box->d > 1 ? layer * (box->d - 1) : 0;
	return size <= UINT32_MAX && offset <= UINT32_MAX - size;
}

/* One that names no stride has the resource's. The offset, which is at another place in each, and
 * how much a row has are left to virglrenderer: alone they do not wrap. */
static bool command_reach_ok(const struct command *command)
{
	const struct virtio_gpu_box box = {
		.h = le32toh(command->box.h),
		.d = le32toh(command->box.d),
	};
	uint64_t row = le32toh(command->stride), layer = le32toh(command->layer_stride);

	return transfer_reach_ok(&box, row, layer != 0 ? layer : row * MAX_ROWS, 1, MAX_OFFSET);
}

static bool transfers(uint32_t type)
{
	return type == RESOURCE_INLINE_WRITE || type == TRANSFER3D || type == COPY_TRANSFER3D;
}

bool command_stream_reach_ok(const void *commands, size_t size)
{
	const char *at = commands;
	struct command command;
	size_t length;

	while (size >= sizeof(command.head)) {
		memcpy(&command.head, at, sizeof(command.head));
		command.head = le32toh(command.head);
		length = ((size_t)(command.head >> 16) + 1) * sizeof(uint32_t);
		if (length > size) {
			return true;
		}
		if (transfers(command.head & 0xff) && length >= sizeof(command)) {
			memcpy(&command, at, sizeof(command));
			if (!command_reach_ok(&command)) {
				return false;
			}
		}
		at += length;
		size -= length;
	}
	return true;
}
