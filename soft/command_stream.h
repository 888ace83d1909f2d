/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef COMMAND_STREAM_H
#define COMMAND_STREAM_H

/*
 * Command streams of the software GPU: rows of pairs of little-endian u32, operation and argument.
 *
 * A stream either works or binds. One that works stores words into resources, and fills, copies and
 * adds at GPU addresses. One that binds changes what is at these addresses, on the ring that it is
 * submitted to: that ring is then what a kernel's driver calls a VM_BIND queue. Both may keep their
 * ring busy for a time first.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum soft_gpu_operation {
	SOFT_GPU_NOTHING = 0,
	SOFT_GPU_BUSY = 1, /* for that many microseconds */

	/* What the operations below are about: each stays until it is said anew; 0 at first. */
	SOFT_GPU_RESOURCE = 2,
	SOFT_GPU_OFFSET = 3, /* in the resource */
	SOFT_GPU_ADDRESS = 5,
	SOFT_GPU_SOURCE = 6, /* an address, too */
	SOFT_GPU_VALUE = 7,

	SOFT_GPU_STORE = 4, /* writes its argument into the resource, at the offset */

	/* So many bytes from the address on, both multiples of 4: */
	SOFT_GPU_FILL = 8, /* each word becomes the value */
	SOFT_GPU_COPY = 9, /* from the source, a multiple of 4; the two must not overlap */
	SOFT_GPU_ADD = 10, /* the value is added to each word */

	/* So many bytes from the address on, both multiples of SOFT_GPU_PAGE: */
	SOFT_GPU_MAP = 11,      /* are those of the resource, from the offset on, a multiple too */
	SOFT_GPU_MAP_NULL = 12, /* read as zeros, and keep nothing that is written */
	SOFT_GPU_UNMAP = 13,    /* are nothing */
};

#define SOFT_GPU_PAGE 4096u

/* Addresses have 32 bits. */
#define SOFT_GPU_ADDRESS_END (UINT64_C(1) << 32)

/* Of one stream, of those that do more than say what others are about. A job keeps them until it is
 * done, so this times soft_gpu_options.max_jobs bounds the memory that they take: 112 MiB. */
#define SOFT_GPU_MAX_COMMANDS 64

/* All that one stream fills, copies and adds to: some 10 us, for which the ends of all other jobs
 * wait. */
#define SOFT_GPU_MAX_BYTES (64u << 10)

struct command {
	uint32_t operation; /* STORE and after */
	uint32_t resource_id, offset, address, source, value;
	uint32_t size; /* in bytes; of a store nothing */
};

struct command_stream {
	uint64_t busy_ns;
	bool binds, works;
	uint32_t num_bytes, num_commands;
	struct command next;
	struct command commands[SOFT_GPU_MAX_COMMANDS];
};

/*
 * Reads a stream. Returns 0; -EINVAL for an unknown operation, half a pair, more than an hour in
 * all, one that works and binds, a range that is none; -E2BIG for more than SOFT_GPU_MAX_COMMANDS
 * or SOFT_GPU_MAX_BYTES. Does not clear `commands`, of which most jobs use none.
 */
int command_stream_read(struct command_stream *stream, const void *bytes, size_t size);

#endif
