/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "address_space.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Mappings do not overlap. They are a tree by address that is a heap by priority: with random
 * priorities it is as deep as a balanced one, and cutting it in two, or putting two together, takes
 * as many steps as it is deep.
 */
struct mapping {
	struct mapping *left, *right; /* of one that is spare: `right` is the next one */
	uint64_t start, end;
	void *memory; /* NULL: a null mapping */
	uint64_t offset;
	uint64_t priority;
};

struct bind {
	uint64_t start, end;
	void *memory; /* NULL: a null mapping, or none */
	uint64_t offset;
	bool unmaps;
};

struct bind_batch {
	struct address_space *space;
	struct mapping *spare;
	uint32_t num_binds;
	struct bind binds[];
};

/* ---- The tree ------------------------------------------------------------------------------- */

/* Into those that begin before an address, and the others. */
static void split(
	struct mapping *tree, uint64_t address, struct mapping **before, struct mapping **others)
{
	while (tree != NULL) {
		if (tree->start < address) {
			*before = tree;
			before = &tree->right;
			tree = tree->right;
		} else {
			*others = tree;
			others = &tree->left;
			tree = tree->left;
		}
	}
	*before = NULL;
	*others = NULL;
}

/* All of `left` are before those of `right`. */
static struct mapping *join(struct mapping *left, struct mapping *right)
{
	struct mapping *root = NULL, **at = &root;

	while (left != NULL && right != NULL) {
		if (left->priority > right->priority) {
			*at = left;
			at = &left->right;
			left = left->right;
		} else {
			*at = right;
			at = &right->left;
			right = right->left;
		}
	}
	*at = left != NULL ? left : right;
	return root;
}

static void insert(struct address_space *space, struct mapping *mapping)
{
	struct mapping *before, *others;

	split(space->root, mapping->start, &before, &others);
	mapping->left = NULL;
	mapping->right = NULL;
	space->root = join(join(before, mapping), others);
}

/* The mapping at an address, or NULL. */
static struct mapping *find(const struct address_space *space, uint64_t address)
{
	struct mapping *mapping = space->root, *last = NULL;

	while (mapping != NULL) {
		if (mapping->start <= address) {
			last = mapping;
			mapping = mapping->right;
		} else {
			mapping = mapping->left;
		}
	}
	return last != NULL && address < last->end ? last : NULL;
}

/* ---- Spare mappings ------------------------------------------------------------------------- */

static void put_memory(const struct address_spaces *all, void *memory)
{
	if (memory != NULL) {
		all->ops->put(all->data, memory);
	}
}

/* Takes a tree apart, without a stack: what is on the left of its root is turned upwards. */
static void spare_all(
	const struct address_spaces *all, struct mapping *tree, struct mapping **spare)
{
	while (tree != NULL) {
		struct mapping *left = tree->left, *right = tree->right;

		if (left != NULL) {
			tree->left = left->right;
			left->right = tree;
			tree = left;
			continue;
		}
		put_memory(all, tree->memory);
		tree->right = *spare;
		*spare = tree;
		tree = right;
	}
}

static void free_spare(struct address_space *space, struct mapping *spare)
{
	uint32_t count = 0;

	while (spare != NULL) {
		struct mapping *next = spare->right;

		free(spare);
		spare = next;
		count++;
	}
	atomic_fetch_sub(&space->num_mappings, count);
	atomic_fetch_sub(&space->all->num_mappings, count);
}

static struct mapping *take_spare(struct bind_batch *batch)
{
	struct mapping *mapping = batch->spare;

	assert(mapping != NULL);
	batch->spare = mapping->right;
	return mapping;
}

static bool reserve(atomic_uint *count, uint32_t add, uint32_t max)
{
	unsigned int before = atomic_fetch_add(count, add);

	if (before > max || add > max - before) {
		atomic_fetch_sub(count, add);
		return false;
	}
	return true;
}

static int reserve_mappings(struct address_space *space, uint32_t count)
{
	struct address_spaces *all = space->all;

	if (!reserve(&space->num_mappings, count, all->max_context_mappings)) {
		return -ENOSPC;
	}
	if (!reserve(&all->num_mappings, count, all->max_mappings)) {
		atomic_fetch_sub(&space->num_mappings, count);
		return -ENOSPC;
	}
	return 0;
}

static int make_spare(struct bind_batch *batch, uint32_t count)
{
	struct address_space *space = batch->space;
	int ret = reserve_mappings(space, count);

	for (; ret == 0 && count > 0; count--) {
		struct mapping *mapping = calloc(1, sizeof(*mapping));

		if (mapping == NULL) {
			atomic_fetch_sub(&space->num_mappings, count);
			atomic_fetch_sub(&space->all->num_mappings, count);
			return -ENOMEM;
		}
		mapping->priority = hash(&space->all->key, (uintptr_t)mapping);
		mapping->right = batch->spare;
		batch->spare = mapping;
	}
	return ret;
}

/* ---- Address spaces ------------------------------------------------------------------------- */

struct address_space *address_space_create(struct address_spaces *all, uint64_t serial)
{
	struct address_space *space = calloc(1, sizeof(*space));

	if (space != NULL) {
		space->all = all;
		space->serial = serial;
		atomic_init(&space->num_users, 1);
	}
	return space;
}

struct address_space *address_space_ref(struct address_space *space)
{
	atomic_fetch_add(&space->num_users, 1);
	return space;
}

void address_space_put(struct address_space *space)
{
	struct mapping *spare = NULL;

	if (space == NULL || atomic_fetch_sub(&space->num_users, 1) > 1) {
		return;
	}
	spare_all(space->all, space->root, &spare);
	free_spare(space, spare);
	free(space);
}

/* ---- Binding -------------------------------------------------------------------------------- */

static int prepare(struct bind_batch *batch, const struct command *command)
{
	const struct address_spaces *all = batch->space->all;
	struct bind *bind = &batch->binds[batch->num_binds];
	int ret = 0;

	*bind = (struct bind){
		.start = command->address,
		.end = (uint64_t)command->address + command->size,
		.offset = command->offset,
		.unmaps = command->operation == SOFT_GPU_UNMAP,
	};
	if (command->operation == SOFT_GPU_MAP) {
		ret = all->ops->get(all->data, batch->space->serial, command->resource_id,
			command->offset, command->size, &bind->memory);
	}
	batch->num_binds += ret == 0;
	return ret;
}

int bind_batch_create(struct address_space *space, const struct command *commands, uint32_t count,
	struct bind_batch **out)
{
	struct bind_batch *batch = calloc(1, sizeof(*batch) + count * sizeof(batch->binds[0]));
	int ret;

	if (batch == NULL) {
		return -ENOMEM;
	}
	batch->space = space;
	ret = make_spare(batch, 2 * count);
	for (uint32_t i = 0; i < count && ret == 0; i++) {
		ret = prepare(batch, &commands[i]);
	}
	if (ret < 0) {
		bind_batch_destroy(batch);
		return ret;
	}
	*out = batch;
	return 0;
}

void bind_batch_destroy(struct bind_batch *batch)
{
	if (batch == NULL) {
		return;
	}
	for (uint32_t i = 0; i < batch->num_binds; i++) {
		put_memory(batch->space->all, batch->binds[i].memory);
	}
	free_spare(batch->space, batch->spare);
	free(batch);
}

/* A mapping that reaches over an address ends there, and another one begins. */
static void cut(struct bind_batch *batch, uint64_t address)
{
	struct address_space *space = batch->space;
	struct mapping *mapping = find(space, address), *rest;

	if (mapping == NULL || mapping->start == address) {
		return;
	}
	rest = take_spare(batch);
	rest->start = address;
	rest->end = mapping->end;
	rest->memory = mapping->memory;
	rest->offset = mapping->offset + (address - mapping->start);
	mapping->end = address;
	if (rest->memory != NULL) {
		space->all->ops->ref(space->all->data, rest->memory);
	}
	insert(space, rest);
}

static void clear(struct bind_batch *batch, uint64_t start, uint64_t end)
{
	struct address_space *space = batch->space;
	struct mapping *before, *rest, *within, *after;

	cut(batch, start);
	cut(batch, end);
	split(space->root, start, &before, &rest);
	split(rest, end, &within, &after);
	spare_all(space->all, within, &batch->spare);
	space->root = join(before, after);
}

/* The mapping takes over the bind's reference. */
static void map(struct bind_batch *batch, struct bind *bind)
{
	struct mapping *mapping = take_spare(batch);

	mapping->start = bind->start;
	mapping->end = bind->end;
	mapping->memory = bind->memory;
	mapping->offset = bind->offset;
	bind->memory = NULL;
	insert(batch->space, mapping);
}

void bind_batch_apply(struct bind_batch *batch)
{
	for (uint32_t i = 0; i < batch->num_binds; i++) {
		struct bind *bind = &batch->binds[i];

		clear(batch, bind->start, bind->end);
		if (!bind->unmaps) {
			map(batch, bind);
		}
	}
}

/* ---- Commands ------------------------------------------------------------------------------- */

/* How many of the bytes at an address are in this mapping. */
static size_t within(const struct mapping *mapping, uint64_t address, size_t size)
{
	return size < mapping->end - address ? size : (size_t)(mapping->end - address);
}

static int use_mapping(const struct address_spaces *all, const struct mapping *mapping,
	uint64_t address, void *bytes, size_t size, bool writes)
{
	uint64_t offset = mapping->offset + (address - mapping->start);

	if (mapping->memory == NULL) {
		if (!writes) {
			memset(bytes, 0, size);
		}
		return 0;
	}
	return writes ? all->ops->write(all->data, mapping->memory, offset, bytes, size) :
			all->ops->read(all->data, mapping->memory, offset, bytes, size);
}

/* Reads to, or writes from, bytes. */
static int use_bytes(
	const struct address_space *space, uint64_t address, void *bytes, size_t size, bool writes)
{
	char *at = bytes;
	int ret = 0;

	while (size > 0 && ret == 0) {
		const struct mapping *mapping = find(space, address);
		size_t part = mapping != NULL ? within(mapping, address, size) : 0;

		if (part == 0) {
			return -EFAULT;
		}
		ret = use_mapping(space->all, mapping, address, at, part, writes);
		at += part;
		address += part;
		size -= part;
	}
	return ret;
}

/* A piece of what a command is about, no more than a page. */
static int run_piece(const struct address_space *space, const struct command *command, uint32_t at,
	uint32_t size)
{
	uint32_t words[SOFT_GPU_PAGE / sizeof(uint32_t)];
	uint32_t num_words = size / (uint32_t)sizeof(uint32_t);
	uint64_t address = (uint64_t)command->address + at;
	int ret = 0;

	if (command->operation == SOFT_GPU_COPY) {
		ret = use_bytes(space, (uint64_t)command->source + at, words, size, false);
	} else if (command->operation == SOFT_GPU_ADD) {
		ret = use_bytes(space, address, words, size, false);
	} else {
		memset(words, 0, size);
	}
	if (ret < 0) {
		return ret;
	}
	for (uint32_t i = 0; command->operation != SOFT_GPU_COPY && i < num_words; i++) {
		words[i] = htole32(le32toh(words[i]) + command->value);
	}
	return use_bytes(space, address, words, size, true);
}

int address_space_run(struct address_space *space, const struct command *command)
{
	int ret = 0;

	for (uint32_t at = 0; at < command->size && ret == 0; at += SOFT_GPU_PAGE) {
		uint32_t left = command->size - at;

		ret = run_piece(space, command, at, left < SOFT_GPU_PAGE ? left : SOFT_GPU_PAGE);
	}
	if (ret < 0) {
		space->is_unusable = true;
		return -EFAULT;
	}
	return 0;
}
