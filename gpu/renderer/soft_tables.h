/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SOFT_TABLES_H
#define SOFT_TABLES_H

/*
 * Contexts and resources of the software renderer by ID, and which context has which resource.
 * Plain data. The GPU's thread looks at attachments and at a resource's backing: the renderer's
 * lock is held to attach, to detach, to find an attachment and to remove.
 *
 * Errors are negative errno values.
 */

#include <stdint.h>

#include "queue.h"

struct soft_memory;
struct soft_storage;

/* Each resource in four contexts; or all contexts with 256 resources each. 24 MiB. */
#define SOFT_MAX_ATTACHMENTS (256u << 10)

/* Of one context: letting go of them all is one request, which takes a few milliseconds. */
#define SOFT_MAX_CONTEXT_ATTACHMENTS (16u << 10)

/* That a context has a resource. */
struct soft_attachment {
	uint64_t serial; /* of the context */
	uint32_t resource_id;
	struct soft_context *context;
	struct soft_resource *resource;
	LIST_ENTRY(soft_attachment) of_context, of_resource;
};

LIST_HEAD(soft_attachment_list, soft_attachment);

struct soft_context {
	uint32_t id;
	uint32_t num_attachments;
	uint64_t serial; /* unlike the ID, of no other that is left or will be */
	struct soft_attachment_list attachments;
};

struct soft_resource {
	uint32_t id;
	uint32_t format, width, height;   /* of a 2D resource */
	uint8_t *pixels;                  /* NULL for a blob */
	struct soft_memory *pixel_memory; /* what they are in, once exported; or NULL */
	struct soft_storage *storage;     /* the renderer's */
	struct soft_attachment_list attachments;
};

/* All zeros is empty. */
struct soft_tables {
	void *contexts, *resources, *attachments; /* trees of tsearch */
	uint32_t num_attachments;
};

/* NULL if there is no memory. */
struct soft_context *soft_context_add(struct soft_tables *tables, uint32_t id, uint64_t serial);
struct soft_resource *soft_resource_add(struct soft_tables *tables, uint32_t id);

/* The first is NULL if there is none with the ID; the second is any of them, or NULL. */
struct soft_context *soft_context_find(struct soft_tables *tables, uint32_t id);
struct soft_resource *soft_resource_find(struct soft_tables *tables, uint32_t id);
struct soft_context *soft_context_any(struct soft_tables *tables);
struct soft_resource *soft_resource_any(struct soft_tables *tables);

/* With all its attachments. A resource's pixels and storage are left. */
void soft_context_remove(struct soft_tables *tables, struct soft_context *context);
void soft_resource_remove(struct soft_tables *tables, struct soft_resource *resource);

/* Returns 0, also if the context has it already; -ENOSPC; -ENOMEM. */
int soft_attach(
	struct soft_tables *tables, struct soft_context *context, struct soft_resource *resource);
struct soft_attachment *soft_attachment_find(
	struct soft_tables *tables, uint64_t serial, uint32_t resource_id);
void soft_detach(struct soft_tables *tables, struct soft_attachment *attachment);

#endif
