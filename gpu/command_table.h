/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef COMMAND_TABLE_H
#define COMMAND_TABLE_H

/* Which function handles which command. */

#include "gpu_private.h"

struct command {
	uint32_t type;
	enum gpu_queue queue;
	uint64_t features; /* without which there is no such command */
	command_fn *run;
	const char *name;
	/* Whether it is handled while the renderer is in the middle of something: gpu_handle_aside.
	 * NULL: never. */
	command_aside_fn *may_run_aside;
};

/* Returns NULL for a command that the queue does not have. */
const struct command *command_find(uint32_t type, enum gpu_queue queue);

#endif
