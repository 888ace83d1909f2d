/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef EVENT_FORMAT_H
#define EVENT_FORMAT_H

/*
 * The file that 'vgfence gpu --trace' writes: a header, then records of one size, each of them a
 * struct vgf_event. All of it is little-endian. docs/tracing.md describes it.
 */

#include <stdint.h>

#define EVENT_FILE_MAGIC "VGEVENT1"
#define EVENT_FILE_VERSION 1

struct event_file_header {
	char magic[8];
	uint32_t version, flags;
};

struct event_record {
	uint64_t t_ns, fence_id, in_fence_id;
	uint32_t ctx_id, ring, in_ctx_id, in_ring;
	uint32_t flags, status;
	uint32_t pending, held, fds;
	uint16_t kind, wait;
};

/* In place of an enum vgf_event_kind: so many events are missing here, in fence_id. */
#define EVENT_LOST 0xffff

_Static_assert(sizeof(struct event_record) == 64, "no padding");

#endif
