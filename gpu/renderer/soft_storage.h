/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SOFT_STORAGE_H
#define SOFT_STORAGE_H

/*
 * What is behind a resource of the software renderer. What a context has mapped of it at GPU
 * addresses is a user of it as the resource is: memory of the host stays until the last of them is
 * gone. The guest's own memory does not, as the guest uses it for something else when it has it
 * back: what is mapped of it is nothing from then on, and using that a fault.
 *
 * The GPU's thread uses it too: the renderer's lock is held for everything here.
 */

#include <stdbool.h>
#include <stdint.h>

#include "queue.h"

struct renderer_backing;
struct soft_memory;

struct soft_storage {
	uint32_t num_users;
	void *mapped;                           /* what contexts have mapped: a tree of tsearch */
	uint64_t size;                          /* of a blob; 0: nothing of it can be mapped */
	const struct renderer_backing *backing; /* the guest's, by the device; or NULL */
	struct soft_memory *memory;             /* the host's; or NULL */
	SLIST_ENTRY(soft_storage) link;         /* without a user: until it is freed */
};

SLIST_HEAD(soft_storage_list, soft_storage);

/* What a context has mapped of a storage: a user of that. */
struct soft_mapped {
	uint64_t serial; /* of the context */
	struct soft_storage *storage;
	uint32_t num_mappings;
};

/* Has one user. Returns NULL if there is no memory. */
struct soft_storage *soft_storage_create(uint64_t size);

/* A mapping more of a context. serial: of the context. Returns NULL if there is no memory. */
struct soft_mapped *soft_storage_map(struct soft_storage *storage, uint64_t serial);

/* One less. After the last one `mapped` is freed: returns the storage, to be put; else NULL. */
struct soft_storage *soft_storage_unmap(struct soft_mapped *mapped);

/* Whether the context has something of it mapped, or is to have by a bind that is not done. */
bool soft_storage_is_mapped(const struct soft_storage *storage, uint64_t serial);

/* What is not used any more goes to the list. */
void soft_storage_put(struct soft_storage *storage, struct soft_storage_list *unused);

/* What the GPU sees: the host's memory, if it has some. Or NULL. */
const struct renderer_backing *soft_storage_backing(const struct soft_storage *storage);

#endif
