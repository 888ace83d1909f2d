/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "command_stream.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "clock.h"

#define MAX_BUSY_NS (3600 * NS_PER_S)

static bool is_range(uint32_t address, uint32_t size, uint32_t unit)
{
	return size > 0 && (address | size) % unit == 0 &&
		(uint64_t)address + size <= SOFT_GPU_ADDRESS_END;
}

static bool overlap(const struct command *command)
{
	uint32_t between = command->address > command->source ? command->address - command->source :
								command->source - command->address;

	return between < command->size;
}

static int check_work(struct command_stream *stream, const struct command *command)
{
	const uint32_t unit = sizeof(uint32_t);

	stream->works = true;
	if (command->operation == SOFT_GPU_STORE) {
		return 0;
	}
	if (!is_range(command->address, command->size, unit)) {
		return -EINVAL;
	}
	if (command->operation == SOFT_GPU_COPY &&
		(!is_range(command->source, command->size, unit) || overlap(command))) {
		return -EINVAL;
	}
	if (command->size > SOFT_GPU_MAX_BYTES - stream->num_bytes) {
		return -E2BIG;
	}
	stream->num_bytes += command->size;
	return 0;
}

static int check_bind(struct command_stream *stream, const struct command *command)
{
	stream->binds = true;
	if (command->operation == SOFT_GPU_MAP && command->offset % SOFT_GPU_PAGE != 0) {
		return -EINVAL;
	}
	return is_range(command->address, command->size, SOFT_GPU_PAGE) ? 0 : -EINVAL;
}

static int add_command(struct command_stream *stream, uint32_t operation, uint32_t argument)
{
	struct command command = stream->next;
	int ret;

	command.operation = operation;
	if (operation == SOFT_GPU_STORE) {
		command.value = argument;
	} else {
		command.size = argument;
	}
	ret = operation >= SOFT_GPU_MAP ? check_bind(stream, &command) :
					  check_work(stream, &command);
	if (ret == 0 && stream->binds && stream->works) {
		ret = -EINVAL;
	}
	if (ret == 0 && stream->num_commands == SOFT_GPU_MAX_COMMANDS) {
		ret = -E2BIG;
	}
	if (ret == 0) {
		stream->commands[stream->num_commands++] = command;
	}
	return ret;
}

static int read_pair(struct command_stream *stream, uint32_t operation, uint32_t argument)
{
	switch (operation) {
	case SOFT_GPU_NOTHING:
		return 0;
	case SOFT_GPU_BUSY:
		stream->busy_ns += argument * NS_PER_US;
		return stream->busy_ns > MAX_BUSY_NS ? -EINVAL : 0;
	case SOFT_GPU_RESOURCE:
		stream->next.resource_id = argument;
		return 0;
	case SOFT_GPU_OFFSET:
		stream->next.offset = argument;
		return 0;
	case SOFT_GPU_ADDRESS:
		stream->next.address = argument;
		return 0;
	case SOFT_GPU_SOURCE:
		stream->next.source = argument;
		return 0;
	case SOFT_GPU_VALUE:
		stream->next.value = argument;
		return 0;
	case SOFT_GPU_STORE:
	case SOFT_GPU_FILL:
	case SOFT_GPU_COPY:
	case SOFT_GPU_ADD:
	case SOFT_GPU_MAP:
	case SOFT_GPU_MAP_NULL:
	case SOFT_GPU_UNMAP:
		return add_command(stream, operation, argument);
	default:
		return -EINVAL;
	}
}

int command_stream_read(struct command_stream *stream, const void *bytes, size_t size)
{
	const char *at = bytes;
	uint32_t pair[2];
	int ret = size % sizeof(pair) != 0 ? -EINVAL : 0;

	stream->busy_ns = 0;
	stream->binds = false;
	stream->works = false;
	stream->num_bytes = 0;
	stream->num_commands = 0;
	stream->next = (struct command){ 0 };
	for (; ret == 0 && size > 0; at += sizeof(pair), size -= sizeof(pair)) {
		memcpy(pair, at, sizeof(pair));
		ret = read_pair(stream, le32toh(pair[0]), le32toh(pair[1]));
	}
	return ret;
}
