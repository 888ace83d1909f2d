/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef ADDRESS_SPACE_H
#define ADDRESS_SPACE_H

/*
 * The GPU addresses of a context, and what is mapped there.
 *
 * A batch of binds has all that it takes when it is made: memory, and two mappings for each
 * operation, since one cuts at most two mappings in two, and what is between the cuts is left over.
 * So it cannot fail when its turn comes, nor halfway, and nothing is allocated then.
 *
 * An address where nothing is mapped is a fault. It makes the address space unusable: nothing is
 * done in it any more.
 *
 * Batches are made, and references are given back, in any thread. Only the GPU's thread applies
 * batches and runs commands, one after the other. Errors are negative errno values.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "command_stream.h"
#include "hash.h"

/* Memory that can be mapped, by its owner. From any thread. */
struct address_memory_ops {
	/* A reference to bytes of a resource that the context has. serial: of its address space.
	 * Returns 0, or an error if it does not have it, or not so many bytes. */
	int (*get)(void *data, uint64_t serial, uint32_t resource_id, uint64_t offset,
		uint64_t size, void **memory);
	void (*ref)(void *data, void *memory);
	void (*put)(void *data, void *memory);
	/* At an offset in the resource. Return 0, or an error if the memory is gone. */
	int (*read)(void *data, void *memory, uint64_t offset, void *bytes, size_t size);
	int (*write)(void *data, void *memory, uint64_t offset, const void *bytes, size_t size);
};

/* What all address spaces of a GPU share. */
struct address_spaces {
	const struct address_memory_ops *ops;
	void *data;
	uint32_t max_mappings, max_context_mappings; /* those that batches have included */
	atomic_uint num_mappings;
	struct hash_key key;
};

struct mapping;

/* Its users are its context and all jobs of that. */
struct address_space {
	struct address_spaces *all;
	uint64_t serial; /* of its context */
	atomic_uint num_users;
	atomic_uint num_mappings; /* those that batches have included */
	/* Of the GPU's thread. */
	struct mapping *root;
	bool is_unusable;
};

struct bind_batch;

/* Has one user. Returns NULL if there is no memory. */
struct address_space *address_space_create(struct address_spaces *all, uint64_t serial);
struct address_space *address_space_ref(struct address_space *space);
void address_space_put(struct address_space *space); /* NULL is fine */

/* Makes a batch of commands that bind. The space must outlive it. Returns 0; -ENOSPC if there would
 * be too many mappings; -ENOMEM; what address_memory_ops.get returned. */
int bind_batch_create(struct address_space *space, const struct command *commands, uint32_t count,
	struct bind_batch **out);
void bind_batch_destroy(struct bind_batch *batch); /* NULL is fine */

/* Does all operations, in their order. */
void bind_batch_apply(struct bind_batch *batch);

/* Fills, copies or adds. Returns 0; or -EFAULT, after which the space is unusable. What was done
 * before the fault stays. */
int address_space_run(struct address_space *space, const struct command *command);

#endif
