/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "hostmem.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <unistd.h>

#include "error_name.h"
#include "gpu_private.h"

/* A mapping exists as long as one of its two operations is queued, or it is in the window. */
struct mapping {
	uint64_t offset, size;
	uint32_t resource_id;
	uint64_t resource_serial; /* another resource may have this ID by then */
	uint32_t info;            /* VIRTIO_GPU_MAP_CACHE_... */
	bool listed;              /* among the ranges, and of its resource */
	bool mapped;              /* by the front end */
	struct hostmem_op map, unmap;
};

/* ---- Ranges --------------------------------------------------------------------------------- */

/* Those that overlap are equal. */
static int compare_ranges(const void *a, const void *b)
{
	const struct mapping *x = a, *y = b;

	if (x->offset + x->size <= y->offset) {
		return -1;
	}
	return x->offset >= y->offset + y->size;
}

/* Returns 0; -EEXIST if it overlaps another; -ENOMEM. */
static int list(struct gpu *gpu, struct mapping *mapping, struct resource *resource)
{
	if (tfind(mapping, &gpu->hostmem.ranges, compare_ranges) != NULL) {
		return -EEXIST;
	}
	if (tsearch(mapping, &gpu->hostmem.ranges, compare_ranges) == NULL) {
		return -ENOMEM;
	}
	mapping->listed = true;
	resource->mapping = mapping;
	return 0;
}

/* Its place is free for what comes next. */
static void unlist(struct gpu *gpu, struct mapping *mapping)
{
	struct resource *resource = resource_find(&gpu->resources, mapping->resource_id);

	if (!mapping->listed) {
		return;
	}
	tdelete(mapping, &gpu->hostmem.ranges, compare_ranges);
	mapping->listed = false;
	if (resource != NULL && resource->mapping == mapping) {
		resource->mapping = NULL;
	}
}

/* ---- Mappings ------------------------------------------------------------------------------- */

static struct mapping *mapping_create(
	struct gpu *gpu, const struct resource *resource, uint64_t offset)
{
	struct mapping *mapping = calloc(1, sizeof(*mapping));

	if (mapping == NULL) {
		return NULL;
	}
	mapping->offset = offset;
	mapping->size = (resource->blob_size + BLOB_ALIGNMENT - 1) & ~(BLOB_ALIGNMENT - 1ull);
	mapping->resource_id = resource->id;
	mapping->resource_serial = resource->serial;
	mapping->map.mapping = mapping->unmap.mapping = mapping;
	mapping->unmap.unmaps = true;
	gpu->hostmem.num_mappings++;
	return mapping;
}

static void free_if_over(struct gpu *gpu, struct mapping *mapping)
{
	if (!mapping->map.queued && !mapping->unmap.queued && !mapping->mapped) {
		unlist(gpu, mapping);
		gpu->hostmem.num_mappings--;
		free(mapping);
	}
}

static void set_mapped(struct gpu *gpu, struct mapping *mapping, bool mapped)
{
	struct gpu_stats *stats = &gpu->stats;

	if (mapped && !mapping->mapped) {
		stats->maps++;
		stats->mapped_bytes += mapping->size;
		if (stats->mapped_bytes > stats->max_mapped_bytes) {
			stats->max_mapped_bytes = stats->mapped_bytes;
		}
	} else if (!mapped && mapping->mapped) {
		stats->mapped_bytes -= mapping->size;
	}
	mapping->mapped = mapped;
}

/* ---- Answers to the guest ------------------------------------------------------------------- */

static void answer(struct hostmem_op *op, int status)
{
	struct pending_request *pending = op->pending;
	const struct {
		uint32_t info, padding;
	} payload = { .info = htole32(op->mapping->info) };
	uint32_t type = op->unmaps ? VIRTIO_GPU_RESP_OK_NODATA : VIRTIO_GPU_RESP_OK_MAP_INFO;

	if (pending == NULL) {
		return;
	}
	op->pending = NULL;
	pending->awaits_hostmem = NULL;
	if (pending->type == RESPONSE_LATER) { /* otherwise its fence could not be made */
		if (status == 0 && !op->unmaps) {
			respond_to(pending, &payload, sizeof(payload));
		}
		pending->type = status < 0 ? response_of_error(status) : type;
	}
	signal_own_fence(pending, status);
	complete_if_done(pending);
}

/* ---- Questions ------------------------------------------------------------------------------ */

/* One that is given less than it asks for would get a signal where the file ends. */
static bool covers(const struct renderer_map *map, uint64_t size)
{
	off_t end = lseek(map->fd, 0, SEEK_END);

	return map->offset % BLOB_ALIGNMENT == 0 && end >= 0 && map->offset <= (uint64_t)end &&
		size <= (uint64_t)end - map->offset;
}

static int ask_to_map(struct gpu *gpu, struct mapping *mapping)
{
	const struct resource *resource = find_resource(gpu, mapping->resource_id);
	struct gpu_mapping question = { .offset = mapping->offset, .size = mapping->size };
	struct renderer_map map;
	int ret;

	if (resource == NULL || resource->serial != mapping->resource_serial) {
		return -ENOENT; /* unreferenced meanwhile */
	}
	ret = gpu->renderer->ops->map_blob(gpu->renderer, resource->id, &map);
	if (ret < 0) {
		return ret;
	}
	if (covers(&map, resource->blob_size)) {
		mapping->info = map.info;
		question.fd = map.fd;
		question.fd_offset = map.offset;
		ret = gpu->callbacks.map(gpu->cookie, &question);
	} else {
		ret = -EINVAL;
	}
	close(map.fd);
	return ret;
}

/* Returns 0 if an answer will come. */
static int ask(struct gpu *gpu, struct hostmem_op *op)
{
	struct mapping *mapping = op->mapping;

	if (gpu->callbacks.map == NULL) {
		return -EOPNOTSUPP;
	}
	if (!op->unmaps) {
		return ask_to_map(gpu, mapping);
	}
	return mapping->mapped ? gpu->callbacks.unmap(gpu->cookie, mapping->offset, mapping->size) :
				 -EINVAL;
}

static bool is_asked(const struct gpu *gpu, const struct hostmem_op *op)
{
	return gpu->hostmem.asked && TAILQ_FIRST(&gpu->hostmem.ops) == op;
}

static void dequeue(struct gpu *gpu, struct hostmem_op *op)
{
	TAILQ_REMOVE(&gpu->hostmem.ops, op, link);
	op->queued = false;
}

static void queue(struct gpu *gpu, struct hostmem_op *op, struct pending_request *pending)
{
	op->queued = true;
	op->pending = pending;
	if (pending != NULL) {
		pending->awaits_hostmem = op;
		pending->signals_fence = true;
	}
	TAILQ_INSERT_TAIL(&gpu->hostmem.ops, op, link);
}

/* Ends a mapping, behind what was asked before; pending: who waits for that, or NULL. */
static void end_mapping(struct gpu *gpu, struct mapping *mapping, struct pending_request *pending)
{
	unlist(gpu, mapping);
	if (!mapping->unmap.queued) {
		queue(gpu, &mapping->unmap, pending);
	}
}

/* Whatever the front end says of an unmap, nothing more can be done about it. */
static void finish(struct gpu *gpu, struct hostmem_op *op, int status)
{
	struct mapping *mapping = op->mapping;
	bool refused = op->pending != NULL && op->pending->type != RESPONSE_LATER;

	dequeue(gpu, op);
	set_mapped(gpu, mapping, !op->unmaps && status == 0);
	if (status < 0 && op->pending != NULL) {
		log_guest(gpu, "resource %u is not %s at 0x%llx of host memory: %s",
			mapping->resource_id, op->unmaps ? "unmapped" : "mapped",
			(unsigned long long)mapping->offset, error_name(status));
	}
	if (!mapping->mapped) {
		unlist(gpu, mapping);
	}
	answer(op, status);
	if (mapping->mapped && refused) {
		end_mapping(gpu, mapping, NULL); /* the guest had an error for an answer */
	}
	free_if_over(gpu, mapping);
}

static void ask_next(struct gpu *gpu)
{
	struct hostmem_op *op;

	while (!gpu->hostmem.asked && (op = TAILQ_FIRST(&gpu->hostmem.ops)) != NULL) {
		int ret = ask(gpu, op);

		gpu->hostmem.asked = ret == 0;
		if (ret < 0) {
			finish(gpu, op, ret);
		}
	}
}

void gpu_tell_mapped(struct gpu *gpu, int status)
{
	struct hostmem_op *op = TAILQ_FIRST(&gpu->hostmem.ops);

	if (gpu->hostmem.asked) {
		gpu->hostmem.asked = false;
		finish(gpu, op, status);
		ask_next(gpu);
	}
}

/* ---- Commands ------------------------------------------------------------------------------- */

static bool may_map(const struct gpu *gpu, const struct resource *resource, uint64_t offset)
{
	uint64_t size = gpu->options.hostmem_size;

	return resource->kind == RESOURCE_BLOB && !resource_is_guest_blob(resource) &&
		(resource->blob_flags & VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE) &&
		resource->mapping == NULL && offset % BLOB_ALIGNMENT == 0 && offset < size &&
		resource->blob_size <= size - offset;
}

uint32_t resource_map_blob(struct gpu *gpu, struct request *request)
{
	struct {
		uint32_t resource_id, padding;
		uint64_t offset;
	} body;
	struct mapping *mapping;
	struct resource *resource;
	int ret;

	if (!reader_read(&request->body, &body, sizeof(body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	resource = find_resource(gpu, le32toh(body.resource_id));
	if (resource == NULL) {
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	}
	if (!may_map(gpu, resource, le64toh(body.offset))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	if (gpu->hostmem.num_mappings >= HOSTMEM_MAX_MAPPINGS) {
		return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	}
	mapping = mapping_create(gpu, resource, le64toh(body.offset));
	if (mapping == NULL) {
		return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	}
	ret = list(gpu, mapping, resource);
	if (ret < 0) {
		free_if_over(gpu, mapping);
		return ret == -EEXIST ? VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER :
					VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	}
	queue(gpu, &mapping->map, request->pending);
	ask_next(gpu);
	return request->pending->type;
}

uint32_t resource_unmap_blob(struct gpu *gpu, struct request *request)
{
	struct {
		uint32_t resource_id, padding;
	} body;
	struct resource *resource;

	if (!reader_read(&request->body, &body, sizeof(body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	resource = find_resource(gpu, le32toh(body.resource_id));
	if (resource == NULL) {
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	}
	if (resource->mapping == NULL) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	end_mapping(gpu, resource->mapping, request->pending);
	ask_next(gpu);
	return request->pending->type;
}

/* ---- Endings -------------------------------------------------------------------------------- */

void hostmem_init(struct gpu *gpu)
{
	TAILQ_INIT(&gpu->hostmem.ops);
}

void hostmem_forget(struct gpu *gpu, struct resource *resource)
{
	if (resource->mapping != NULL) {
		end_mapping(gpu, resource->mapping, NULL);
		ask_next(gpu);
	}
}

/* Nobody waits for it any more. A map that was not asked for is not; one that was is undone. An
 * unmap goes on. */
static void orphan(struct gpu *gpu, struct hostmem_op *op)
{
	struct mapping *mapping = op->mapping;

	if (op->pending != NULL) {
		op->pending->awaits_hostmem = NULL;
		op->pending = NULL;
	}
	if (op->unmaps) {
		return;
	}
	if (is_asked(gpu, op)) {
		end_mapping(gpu, mapping, NULL);
	} else {
		dequeue(gpu, op);
		unlist(gpu, mapping);
		free_if_over(gpu, mapping);
	}
}

void hostmem_drop(struct gpu *gpu, struct pending_request *pending)
{
	if (pending->awaits_hostmem != NULL) {
		orphan(gpu, pending->awaits_hostmem);
	}
}

void hostmem_give_up(struct gpu *gpu)
{
	struct hostmem_op *op, *next;

	for (op = TAILQ_FIRST(&gpu->hostmem.ops); op != NULL; op = next) {
		bool waits = op->pending != NULL;

		next = TAILQ_NEXT(op, link);
		answer(op, op->unmaps ? 0 : -ECANCELED);
		if (waits) {
			orphan(gpu, op);
		}
	}
}

/* The front end has unmapped it. */
static void forget_mapping(struct gpu *gpu, struct mapping *mapping)
{
	if (mapping->unmap.queued && !is_asked(gpu, &mapping->unmap)) {
		dequeue(gpu, &mapping->unmap);
	}
	unlist(gpu, mapping);
	set_mapped(gpu, mapping, false);
	free_if_over(gpu, mapping);
}

void hostmem_reset(struct gpu *gpu)
{
	struct hostmem_op *op, *next;

	/* Only what was asked for is left in the queue, and the end of such a map. */
	for (op = TAILQ_FIRST(&gpu->hostmem.ops); op != NULL; op = next) {
		next = TAILQ_NEXT(op, link);
		if (op->mapping->mapped) {
			forget_mapping(gpu, op->mapping);
		}
	}
	while (gpu->hostmem.ranges != NULL) {
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the one before is off the tree. */
		forget_mapping(gpu, *(struct mapping **)gpu->hostmem.ranges);
	}
}

void hostmem_destroy(struct gpu *gpu)
{
	gpu->callbacks.map = NULL;
	if (gpu->hostmem.asked) {
		gpu_tell_mapped(gpu, -ECONNRESET);
	}
	hostmem_reset(gpu);
}
