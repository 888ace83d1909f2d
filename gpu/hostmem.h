/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef HOSTMEM_H
#define HOSTMEM_H

/*
 * The guest's window into memory of the host: which blob is mapped where. The window is the front
 * end's, so each mapping is asked for, and each unmapping; one at a time, in the order in which the
 * guest asked. What overlaps is checked against the window as it will be when all before is done.
 */

#include <stdbool.h>
#include <stdint.h>

#include "queue.h"

struct gpu;
struct mapping;
struct pending_request;
struct resource;

/* Mappings at a time. Each is a mapping of the front end's process too, which may have 65,530 in
 * all (vm.max_map_count); KVM has 32,764 places for them. */
#define HOSTMEM_MAX_MAPPINGS 16384

/* Something to be asked of the front end. */
struct hostmem_op {
	struct mapping *mapping;
	bool unmaps;
	bool queued;
	struct pending_request *pending; /* waits for it; or NULL */
	TAILQ_ENTRY(hostmem_op) link;
};

struct hostmem {
	void *ranges; /* of tsearch: mappings that nobody has asked to end */
	uint32_t num_mappings;
	TAILQ_HEAD(, hostmem_op) ops;
	bool asked; /* the first of them, and there is no answer yet */
};

void hostmem_init(struct gpu *gpu);

/* The resource is about to end: what is mapped of it is unmapped. */
void hostmem_forget(struct gpu *gpu, struct resource *resource);

/* All that wait are answered: a map with an error, as it will be undone. For a front end that waits
 * for us. */
void hostmem_give_up(struct gpu *gpu);

/* This one does not wait any more. */
void hostmem_drop(struct gpu *gpu, struct pending_request *pending);

/* Nothing is mapped any more: a front end that resets the device unmaps it by itself. What it may
 * have mapped since is unmapped. Nothing waits. */
void hostmem_reset(struct gpu *gpu);

/* The same, and nothing is asked any more. */
void hostmem_destroy(struct gpu *gpu);

#endif
