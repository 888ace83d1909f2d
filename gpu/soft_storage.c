/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "soft_storage.h"

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

void soft_storage_map(struct soft_storage *storage, uint64_t serial)
{
	if (storage->num_users == 1) {
		storage->mapped_by = serial;
	} else if (storage->mapped_by != serial) {
		storage->mapped_by = SOFT_STORAGE_SEVERAL;
	}
	storage->num_users++;
}

bool soft_storage_is_mapped(const struct soft_storage *storage, uint64_t serial)
{
	return storage->num_users > 1 &&
		(storage->mapped_by == serial || storage->mapped_by == SOFT_STORAGE_SEVERAL);
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
