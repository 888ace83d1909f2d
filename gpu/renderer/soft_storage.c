/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "soft_storage.h"

#include <search.h>
#include <stdlib.h>

#include "soft_memory.h"

struct soft_storage *soft_storage_create(uint64_t size)
{
	struct soft_storage *storage = calloc(1, sizeof(*storage));

	if (storage != NULL) {
		storage->num_users = 1;
		storage->size = size;
	}
	return storage;
}

/* What is mapped begins with the serial number. */
static int compare_serials(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static struct soft_mapped *find_mapped(const struct soft_storage *storage, uint64_t serial)
{
	struct soft_mapped *const *found = tfind(&serial, &storage->mapped, compare_serials);

	return found != NULL ? *found : NULL;
}

static struct soft_mapped *add_mapped(struct soft_storage *storage, uint64_t serial)
{
	struct soft_mapped *mapped = malloc(sizeof(*mapped));

	if (mapped == NULL) {
		return NULL;
	}
	*mapped = (struct soft_mapped){ .serial = serial, .storage = storage };
	if (tsearch(mapped, &storage->mapped, compare_serials) == NULL) {
		free(mapped);
		return NULL;
	}
	storage->num_users++;
	return mapped;
}

struct soft_mapped *soft_storage_map(struct soft_storage *storage, uint64_t serial)
{
	struct soft_mapped *mapped = find_mapped(storage, serial);

	if (mapped == NULL) {
		mapped = add_mapped(storage, serial);
	}
	if (mapped != NULL) {
		mapped->num_mappings++;
	}
	return mapped;
}

struct soft_storage *soft_storage_unmap(struct soft_mapped *mapped)
{
	struct soft_storage *storage = mapped->storage;

	if (--mapped->num_mappings > 0) {
		return NULL;
	}
	tdelete(mapped, &storage->mapped, compare_serials);
	free(mapped);
	return storage;
}

bool soft_storage_is_mapped(const struct soft_storage *storage, uint64_t serial)
{
	return find_mapped(storage, serial) != NULL;
}

void soft_storage_put(struct soft_storage *storage, struct soft_storage_list *unused)
{
	if (--storage->num_users == 0) {
		SLIST_INSERT_HEAD(unused, storage, link);
	}
}

const struct renderer_backing *soft_storage_backing(const struct soft_storage *storage)
{
	return storage->memory != NULL ? &storage->memory->base : storage->backing;
}
