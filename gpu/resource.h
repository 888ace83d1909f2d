/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef RESOURCE_H
#define RESOURCE_H

/* The device's tables of resources and contexts, by the IDs that the guest gave them. */

#include <stdbool.h>
#include <stdint.h>

#include "backing.h"
#include "guest_limits.h"
#include "queue.h"

struct mapping;
struct pin;

/* About as many as a process may have mappings (vm.max_map_count), which is what each would be on a
 * real driver's host; with what is kept for each here, some 16 MiB. */
#define MAX_RESOURCES 65536u

enum resource_kind {
	RESOURCE_2D,
	RESOURCE_3D,
	RESOURCE_BLOB,
};

struct resource {
	uint32_t id;
	uint64_t serial; /* no other has it, nor ever had */
	enum resource_kind kind;
	uint32_t format, width, height; /* not of a blob */
	uint32_t blob_mem;              /* of a blob: VIRTIO_GPU_BLOB_MEM_... */
	uint32_t blob_flags;            /* VIRTIO_GPU_BLOB_FLAG_... */
	uint64_t blob_size;
	bool leaving;              /* unref was called, and the renderer is not done with it */
	bool has_host_memory;      /* counted in num_host_blobs */
	bool flush_has_fence;      /* the last one: the guest is told when it is shown */
	struct backing *backing;   /* or NULL */
	bool is_detaching;         /* the backing leaves when what uses it is done */
	struct pin *pin;           /* of its memory; or NULL: no display has had it */
	struct exported *exported; /* its memory as others have it; or NULL */
	struct mapping *mapping;   /* in the window of hostmem.h; or NULL */
	bool has_uuid;
	bool is_shared; /* sharing.h */
	uint8_t uuid[16];
};

struct resource_table {
	void *tree; /* of tsearch */
	uint32_t count;
	uint64_t last_serial;
	uint32_t num_iov; /* of all backings */
	uint32_t num_host_blobs, max_host_blobs;
	uint32_t num_dma_bufs; /* of backings */
};

/* Blobs with memory of the host at a time. */
#define MAX_HOST_BLOBS 16384u

/* Whether it is a blob that is nothing but guest memory. */
bool resource_is_guest_blob(const struct resource *resource);

/* The resource with this ID, or NULL. */
struct resource *resource_find(const struct resource_table *table, uint32_t id);

/* Enters a resource. Returns it; or NULL with the error in *error: -EINVAL for ID 0, -EEXIST,
 * -ENOSPC at MAX_RESOURCES, -ENOMEM. */
struct resource *resource_create(struct resource_table *table, uint32_t id, int *error);

/* It is a blob with memory of the host from now on. Returns 0, or -ENOSPC at
 * max_host_blobs. */
int resource_take_host_memory(struct resource_table *table, struct resource *resource);

/* Removes it, and frees it with its backing. */
void resource_destroy(struct resource_table *table, struct resource *resource);
void resource_destroy_all(struct resource_table *table);

#define CONTEXT_NAME_SIZE 65

struct context_entry {
	uint32_t id;
	uint64_t serial;              /* no other has it, nor ever had */
	char name[CONTEXT_NAME_SIZE]; /* for messages: the guest's, of printable characters */
	LIST_ENTRY(context_entry) link;
};

LIST_HEAD(context_list, context_entry);

struct context_table {
	void *tree;
	struct context_list all;
	uint32_t count;
	uint64_t last_serial;
};

/* The context with this ID, or NULL. */
struct context_entry *context_find(const struct context_table *table, uint32_t id);
bool context_exists(const struct context_table *table, uint32_t id);

/* Returns 0, -ENOSPC at MAX_CONTEXTS or -ENOMEM. There is none with this ID. name: copied. */
int context_add(struct context_table *table, uint32_t id, const char *name);
void context_remove(struct context_table *table, uint32_t id);
void context_remove_all(struct context_table *table);

#endif
