/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Which contexts there are, and which has which resource. Contexts are found by ID, attachments by
 * context and resource, and the attachments of a resource by its handle: none of it is longer for
 * what others have.
 */

#include "virgl.h"

#include <search.h>
#include <stdlib.h>

/* ---- Contexts by ID ----------------------------------------------------------------------- */

/* As many buckets as there can be contexts, within reason. */
#define MIN_BUCKETS 64
#define MAX_BUCKETS 65536
#define DEFAULT_MAX_CONTEXTS 1024

int contexts_init(struct vgf_virgl *virgl, const struct vgf_options *options)
{
	uint32_t max_contexts = options ? options->limits.max_contexts : 0;
	size_t count = MIN_BUCKETS;

	max_contexts = max_contexts > 0 ? max_contexts : DEFAULT_MAX_CONTEXTS;
	while (count < max_contexts && count < MAX_BUCKETS) {
		count *= 2;
	}
	virgl->open = calloc(count, sizeof(*virgl->open));
	if (!virgl->open) {
		return -ENOMEM;
	}
	virgl->open_mask = count - 1;
	hash_key_init(&virgl->key);
	return 0;
}

static struct context_bucket *context_bucket(struct vgf_virgl *virgl, uint32_t ctx_id)
{
	return &virgl->open[hash(&virgl->key, ctx_id) & virgl->open_mask];
}

struct virgl_context *find_context(struct vgf_virgl *virgl, uint32_t ctx_id)
{
	struct virgl_context *context;

	LIST_FOREACH(context, context_bucket(virgl, ctx_id), by_id) {
		if (context->ctx_id == ctx_id) {
			return context;
		}
	}
	return NULL;
}

void context_enter(struct virgl_context *context)
{
	struct vgf_virgl *virgl = context->virgl;

	context->closed = false;
	LIST_INSERT_HEAD(context_bucket(virgl, context->ctx_id), context, by_id);
}

void context_leave(struct virgl_context *context)
{
	context->closed = true;
	LIST_REMOVE(context, by_id);
}

/* ---- Attachments -------------------------------------------------------------------------- */

/* Both kinds of trees have structs that begin with a handle. */
static int compare_handles(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void *find(void *const *tree, uint32_t handle)
{
	void **found = tfind(&handle, tree, compare_handles);

	return found ? *found : NULL;
}

struct attachment *resource_attachments(struct vgf_virgl *virgl, uint32_t res_handle)
{
	struct virgl_resource *resource = find(&virgl->resources, res_handle);

	return resource ? LIST_FIRST(&resource->attachments) : NULL;
}

static struct virgl_resource *get_resource(struct vgf_virgl *virgl, uint32_t res_handle)
{
	struct virgl_resource *resource = find(&virgl->resources, res_handle);

	if (resource) {
		return resource;
	}
	resource = calloc(1, sizeof(*resource));
	if (!resource) {
		return NULL;
	}
	resource->handle = res_handle;
	if (!tsearch(resource, &virgl->resources, compare_handles)) {
		free(resource);
		return NULL;
	}
	return resource;
}

static void free_unused(struct vgf_virgl *virgl, struct virgl_resource *resource)
{
	if (LIST_EMPTY(&resource->attachments)) {
		tdelete(resource, &virgl->resources, compare_handles);
		free(resource);
	}
}

static int attach(struct virgl_context *context, struct virgl_resource *resource)
{
	struct attachment *attachment = calloc(1, sizeof(*attachment));

	if (!attachment) {
		return -ENOMEM;
	}
	attachment->handle = resource->handle;
	attachment->context = context;
	attachment->resource = resource;
	if (!tsearch(attachment, &context->attachments, compare_handles)) {
		free(attachment);
		return -ENOMEM;
	}
	LIST_INSERT_HEAD(&resource->attachments, attachment, of_resource);
	context->num_attachments++;
	context->virgl->num_attachments++;
	return 0;
}

bool context_has_resource(const struct virgl_context *context, uint32_t res_handle)
{
	return find(&context->attachments, res_handle) != NULL;
}

int context_add_resource(struct virgl_context *context, uint32_t res_handle)
{
	struct vgf_virgl *virgl = context->virgl;
	struct virgl_resource *resource;
	int ret;

	if (res_handle == 0 || context_has_resource(context, res_handle)) {
		return 0; /* there is no such resource; or it is there */
	}
	if (virgl->num_attachments >= MAX_ATTACHMENTS ||
		context->num_attachments >= MAX_CONTEXT_ATTACHMENTS) {
		return -ENOSPC;
	}
	resource = get_resource(virgl, res_handle);
	if (!resource) {
		return -ENOMEM;
	}
	ret = attach(context, resource);
	free_unused(virgl, resource);
	return ret;
}

static void detach(struct attachment *attachment)
{
	struct virgl_context *context = attachment->context;
	struct virgl_resource *resource = attachment->resource;

	tdelete(attachment, &context->attachments, compare_handles);
	LIST_REMOVE(attachment, of_resource);
	context->num_attachments--;
	context->virgl->num_attachments--;
	free(attachment);
	free_unused(context->virgl, resource);
}

void context_remove_resource(struct virgl_context *context, uint32_t res_handle)
{
	struct attachment *attachment = find(&context->attachments, res_handle);

	if (attachment) {
		detach(attachment);
	}
}

void context_remove_resources(struct virgl_context *context)
{
	while (context->attachments) {
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the one before is off the tree. */
		detach(*(struct attachment **)context->attachments);
	}
}

void remove_resource_everywhere(struct vgf_virgl *virgl, uint32_t res_handle)
{
	struct attachment *attachment;

	while ((attachment = resource_attachments(virgl, res_handle))) {
		detach(attachment);
	}
}
