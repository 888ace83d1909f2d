/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "gl_commands.h"

#include <stdint.h>
#include <string.h>

/* Of the virgl protocol. */
enum {
	SET_SUB_CTX = 28,
	CREATE_SUB_CTX = 29,
	DESTROY_SUB_CTX = 30,
};

struct command {
	uint8_t type;
	size_t size; /* with its first word; larger than what is left: cut off */
};

static struct command read_command(const void *commands)
{
	uint32_t head;

	memcpy(&head, commands, sizeof(head));
	return (struct command){
		.type = (uint8_t)head,
		.size = ((size_t)(head >> 16) + 1) * 4,
	};
}

static bool changes_context(uint8_t type)
{
	return type == SET_SUB_CTX || type == CREATE_SUB_CTX || type == DESTROY_SUB_CTX;
}

size_t gl_commands_prologue(const void *commands, size_t size)
{
	size_t offset = 0;

	while (size - offset >= 4) {
		struct command command = read_command((const char *)commands + offset);
		if (!changes_context(command.type) || command.type == DESTROY_SUB_CTX ||
			command.size > size - offset) {
			break;
		}
		offset += command.size;
	}
	return offset;
}

bool gl_commands_change_context(const void *commands, size_t size)
{
	size_t offset = 0;

	while (size - offset >= 4) {
		struct command command = read_command((const char *)commands + offset);
		if (changes_context(command.type) || command.size > size - offset) {
			return true;
		}
		offset += command.size;
	}
	return false;
}
