/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>

#include "resource.h"

/* Both structs begin with their ID. */
static int compare_ids(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

/* ---- Resources ------------------------------------------------------------------------------ */

bool resource_is_guest_blob(const struct resource *resource)
{
	return resource->kind == RESOURCE_BLOB && resource->blob_mem == VIRTIO_GPU_BLOB_MEM_GUEST;
}

struct resource *resource_find(const struct resource_table *table, uint32_t id)
{
	struct resource *const *found = tfind(&id, &table->tree, compare_ids);

	return found != NULL ? *found : NULL;
}

static int enter(struct resource_table *table, struct resource *resource)
{
	if (resource->id == 0) {
		return -EINVAL;
	}
	if (resource_find(table, resource->id) != NULL) {
		return -EEXIST;
	}
	if (table->count == MAX_RESOURCES) {
		return -ENOSPC;
	}
	return tsearch(resource, &table->tree, compare_ids) != NULL ? 0 : -ENOMEM;
}

struct resource *resource_create(struct resource_table *table, uint32_t id, int *error)
{
	struct resource *resource = calloc(1, sizeof(*resource));

	if (resource == NULL) {
		*error = -ENOMEM;
		return NULL;
	}
	resource->id = id;
	*error = enter(table, resource);
	if (*error < 0) {
		free(resource);
		return NULL;
	}
	table->count++;
	resource->serial = ++table->last_serial;
	return resource;
}

int resource_take_host_memory(struct resource_table *table, struct resource *resource)
{
	if (table->num_host_blobs == table->max_host_blobs) {
		return -ENOSPC;
	}
	table->num_host_blobs++;
	resource->has_host_memory = true;
	return 0;
}

void resource_destroy(struct resource_table *table, struct resource *resource)
{
	tdelete(resource, &table->tree, compare_ids);
	table->count--;
	table->num_host_blobs -= resource->has_host_memory;
	backing_destroy(resource->backing, &table->num_iov);
	free(resource->pin);
	free(resource);
}

void resource_destroy_all(struct resource_table *table)
{
	while (table->tree != NULL) {
		resource_destroy(table, *(struct resource **)table->tree);
	}
}

/* ---- Contexts ------------------------------------------------------------------------------- */

struct context_entry *context_find(const struct context_table *table, uint32_t id)
{
	struct context_entry *const *found = tfind(&id, &table->tree, compare_ids);

	return found != NULL ? *found : NULL;
}

bool context_exists(const struct context_table *table, uint32_t id)
{
	return context_find(table, id) != NULL;
}

int context_add(struct context_table *table, uint32_t id, const char *name)
{
	struct context_entry *entry;

	if (table->count == MAX_CONTEXTS) {
		return -ENOSPC;
	}
	entry = malloc(sizeof(*entry));
	if (entry == NULL) {
		return -ENOMEM;
	}
	*entry = (struct context_entry){ .id = id };
	snprintf(entry->name, sizeof(entry->name), "%s", name);
	if (tsearch(entry, &table->tree, compare_ids) == NULL) {
		free(entry);
		return -ENOMEM;
	}
	LIST_INSERT_HEAD(&table->all, entry, link);
	table->count++;
	entry->serial = ++table->last_serial;
	return 0;
}

void context_remove(struct context_table *table, uint32_t id)
{
	struct context_entry *entry = context_find(table, id);

	if (entry != NULL) {
		tdelete(entry, &table->tree, compare_ids);
		LIST_REMOVE(entry, link);
		table->count--;
		free(entry);
	}
}

void context_remove_all(struct context_table *table)
{
	struct context_entry *entry;

	while ((entry = LIST_FIRST(&table->all)) != NULL) {
		context_remove(table, entry->id);
	}
}
