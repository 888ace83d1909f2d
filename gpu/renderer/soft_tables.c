/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "soft_tables.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>

/* Contexts and resources begin with their ID. */
static int compare_ids(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

static int compare_attachments(const void *left, const void *right)
{
	const struct soft_attachment *a = left, *b = right;

	if (a->serial != b->serial) {
		return a->serial > b->serial ? 1 : -1;
	}
	return (a->resource_id > b->resource_id) - (a->resource_id < b->resource_id);
}

static void *find(void *const *tree, uint32_t id)
{
	void **found = tfind(&id, tree, compare_ids);

	return found != NULL ? *found : NULL;
}

static void *any(void *tree)
{
	return tree != NULL ? *(void **)tree : NULL;
}

/* ---- Contexts ------------------------------------------------------------------------------- */

struct soft_context *soft_context_add(struct soft_tables *tables, uint32_t id, uint64_t serial)
{
	struct soft_context *context = calloc(1, sizeof(*context));

	if (context == NULL) {
		return NULL;
	}
	context->id = id;
	context->serial = serial;
	if (tsearch(context, &tables->contexts, compare_ids) == NULL) {
		free(context);
		return NULL;
	}
	return context;
}

struct soft_context *soft_context_find(struct soft_tables *tables, uint32_t id)
{
	return find(&tables->contexts, id);
}

struct soft_context *soft_context_any(struct soft_tables *tables)
{
	return any(tables->contexts);
}

void soft_context_remove(struct soft_tables *tables, struct soft_context *context)
{
	struct soft_attachment *attachment, *next;

	for (attachment = LIST_FIRST(&context->attachments); attachment != NULL;
		attachment = next) {
		next = LIST_NEXT(attachment, of_context);
		soft_detach(tables, attachment);
	}
	tdelete(context, &tables->contexts, compare_ids);
	free(context);
}

/* ---- Resources ------------------------------------------------------------------------------ */

struct soft_resource *soft_resource_add(struct soft_tables *tables, uint32_t id)
{
	struct soft_resource *resource = calloc(1, sizeof(*resource));

	if (resource == NULL) {
		return NULL;
	}
	resource->id = id;
	if (tsearch(resource, &tables->resources, compare_ids) == NULL) {
		free(resource);
		return NULL;
	}
	return resource;
}

struct soft_resource *soft_resource_find(struct soft_tables *tables, uint32_t id)
{
	return find(&tables->resources, id);
}

struct soft_resource *soft_resource_any(struct soft_tables *tables)
{
	return any(tables->resources);
}

void soft_resource_remove(struct soft_tables *tables, struct soft_resource *resource)
{
	struct soft_attachment *attachment, *next;

	for (attachment = LIST_FIRST(&resource->attachments); attachment != NULL;
		attachment = next) {
		next = LIST_NEXT(attachment, of_resource);
		soft_detach(tables, attachment);
	}
	tdelete(resource, &tables->resources, compare_ids);
	free(resource);
}

/* ---- Attachments ---------------------------------------------------------------------------- */

struct soft_attachment *soft_attachment_find(
	struct soft_tables *tables, uint64_t serial, uint32_t resource_id)
{
	const struct soft_attachment key = { .serial = serial, .resource_id = resource_id };
	struct soft_attachment **found = tfind(&key, &tables->attachments, compare_attachments);

	return found != NULL ? *found : NULL;
}

int soft_attach(
	struct soft_tables *tables, struct soft_context *context, struct soft_resource *resource)
{
	struct soft_attachment *attachment;

	if (soft_attachment_find(tables, context->serial, resource->id) != NULL) {
		return 0;
	}
	if (tables->num_attachments == SOFT_MAX_ATTACHMENTS ||
		context->num_attachments == SOFT_MAX_CONTEXT_ATTACHMENTS) {
		return -ENOSPC;
	}
	attachment = calloc(1, sizeof(*attachment));
	if (attachment == NULL) {
		return -ENOMEM;
	}
	attachment->serial = context->serial;
	attachment->resource_id = resource->id;
	attachment->context = context;
	attachment->resource = resource;
	if (tsearch(attachment, &tables->attachments, compare_attachments) == NULL) {
		free(attachment);
		return -ENOMEM;
	}
	LIST_INSERT_HEAD(&context->attachments, attachment, of_context);
	LIST_INSERT_HEAD(&resource->attachments, attachment, of_resource);
	context->num_attachments++;
	tables->num_attachments++;
	return 0;
}

void soft_detach(struct soft_tables *tables, struct soft_attachment *attachment)
{
	tdelete(attachment, &tables->attachments, compare_attachments);
	LIST_REMOVE(attachment, of_context);
	LIST_REMOVE(attachment, of_resource);
	attachment->context->num_attachments--;
	tables->num_attachments--;
	free(attachment);
}
