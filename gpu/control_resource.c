/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Commands of resources: making them, their backing, their end. */

#include <errno.h>
#include <string.h>

#include "gpu_private.h"
#include "pixel_format.h"

/* What most commands about a resource have behind the header. */
struct resource_body {
	uint32_t resource_id;
	uint32_t other; /* padding, or a count */
};

/* Finds the resource. Returns an error for the guest, or 0. */
static uint32_t read_resource(struct gpu *gpu, struct request *request, struct resource_body *body,
	struct resource **resource)
{
	if (!reader_read(&request->body, body, sizeof(*body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	body->other = le32toh(body->other);
	*resource = find_resource(gpu, le32toh(body->resource_id));
	return *resource != NULL ? 0 : VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
}

/* ---- Making --------------------------------------------------------------------------------- */

static struct resource *enter(struct gpu *gpu, uint32_t id, uint32_t *error)
{
	int ret;
	struct resource *resource = resource_create(&gpu->resources, id, &ret);

	if (resource == NULL) {
		*error = ret == -EINVAL || ret == -EEXIST ?
			VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID :
			VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	}
	return resource;
}

/* The end of making one: the renderer has answered with `ret`. */
static uint32_t created(struct gpu *gpu, struct resource *resource, int ret)
{
	if (ret < 0) {
		resource_destroy(&gpu->resources, resource);
		return response_of_error(ret);
	}
	return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t resource_create_2d(struct gpu *gpu, struct request *request)
{
	struct {
		uint32_t resource_id, format, width, height;
	} body;
	struct resource *resource;
	uint8_t places[3];
	uint32_t error;

	if (!reader_read(&request->body, &body, sizeof(body)) || body.width == 0 ||
		body.height == 0 || !format_layout(le32toh(body.format), places)) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	resource = enter(gpu, le32toh(body.resource_id), &error);
	if (resource == NULL) {
		return error;
	}
	resource->kind = RESOURCE_2D;
	resource->format = le32toh(body.format);
	resource->width = le32toh(body.width);
	resource->height = le32toh(body.height);
	return created(gpu, resource,
		gpu->renderer->ops->create_2d(gpu->renderer, resource->id, resource->format,
			resource->width, resource->height));
}

uint32_t resource_create_3d(struct gpu *gpu, struct request *request)
{
	struct {
		uint32_t resource_id, words[10], padding;
	} body;
	struct renderer_resource_3d args;
	struct resource *resource;
	uint32_t error;

	_Static_assert(
		sizeof(args) == sizeof(body.words), "the fields of the request, in its order");
	if (!reader_read(&request->body, &body, sizeof(body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	for (size_t i = 0; i < sizeof(body.words) / sizeof(body.words[0]); i++) {
		body.words[i] = le32toh(body.words[i]);
	}
	memcpy(&args, body.words, sizeof(args));
	resource = enter(gpu, le32toh(body.resource_id), &error);
	if (resource == NULL) {
		return error;
	}
	resource->kind = RESOURCE_3D;
	resource->format = args.format;
	resource->width = args.width;
	resource->height = args.height;
	return created(
		gpu, resource, gpu->renderer->ops->create_3d(gpu->renderer, resource->id, &args));
}

struct blob_body {
	uint32_t resource_id, blob_mem, blob_flags, nr_entries;
	uint64_t blob_id, size;
};

/* Reads the backing of a resource from the request. That of a blob is memory for all of it. */
static int read_backing(struct gpu *gpu, struct request *request, const struct resource *resource,
	uint32_t num_entries, struct backing **backing)
{
	uint32_t *num_iov = &gpu->resources.num_iov;
	int ret = backing_create(gpu->memory, &request->body, num_entries, num_iov, backing);

	if (ret == 0 && (*backing)->base.size < resource->blob_size) {
		backing_destroy(*backing, num_iov);
		*backing = NULL;
		return -EINVAL;
	}
	return ret;
}

/* A blob of guest memory alone may get its memory later. */
static int add_blob_backing(
	struct gpu *gpu, struct request *request, struct resource *resource, uint32_t num_entries)
{
	if (resource->blob_mem == VIRTIO_GPU_BLOB_MEM_HOST3D) {
		return num_entries == 0 ? 0 : -EINVAL;
	}
	if (num_entries == 0 && resource_is_guest_blob(resource)) {
		return 0;
	}
	return read_backing(gpu, request, resource, num_entries, &resource->backing);
}

/* A guest that has not accepted the feature knows of no alignment. */
static bool size_ok(const struct gpu *gpu, uint64_t size)
{
	bool aligned = gpu->features & (UINT64_C(1) << VIRTIO_GPU_F_BLOB_ALIGNMENT);

	return size > 0 && (!aligned || size % BLOB_ALIGNMENT == 0);
}

#define BLOB_FLAGS                                                                                 \
	(VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE | VIRTIO_GPU_BLOB_FLAG_USE_SHAREABLE |                  \
		VIRTIO_GPU_BLOB_FLAG_USE_CROSS_DEVICE)

static bool blob_ok(
	const struct gpu *gpu, const struct request *request, const struct blob_body *body)
{
	uint32_t ctx_id = request->header.ctx_id;

	return size_ok(gpu, body->size) && (body->blob_flags & ~BLOB_FLAGS) == 0 &&
		body->blob_mem >= VIRTIO_GPU_BLOB_MEM_GUEST &&
		body->blob_mem <= VIRTIO_GPU_BLOB_MEM_HOST3D_GUEST &&
		(ctx_id == 0 || context_exists(&gpu->contexts, ctx_id));
}

uint32_t resource_create_blob(struct gpu *gpu, struct request *request)
{
	struct blob_body body;
	struct resource *resource;
	uint32_t error;
	int ret;

	if (!reader_read(&request->body, &body, sizeof(body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	body.blob_mem = le32toh(body.blob_mem);
	body.blob_flags = le32toh(body.blob_flags);
	body.nr_entries = le32toh(body.nr_entries);
	body.blob_id = le64toh(body.blob_id);
	body.size = le64toh(body.size);
	if (!blob_ok(gpu, request, &body)) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	resource = enter(gpu, le32toh(body.resource_id), &error);
	if (resource == NULL) {
		return error;
	}
	resource->kind = RESOURCE_BLOB;
	resource->blob_mem = body.blob_mem;
	resource->blob_flags = body.blob_flags;
	resource->blob_size = body.size;
	ret = add_blob_backing(gpu, request, resource, body.nr_entries);
	if (ret == 0 && !resource_is_guest_blob(resource)) {
		ret = resource_take_host_memory(&gpu->resources, resource);
	}
	if (ret == 0) {
		ret = gpu->renderer->ops->create_blob(gpu->renderer, request->header.ctx_id,
			resource->id, body.blob_mem, body.blob_flags, body.blob_id, body.size,
			resource->backing != NULL ? &resource->backing->base : NULL);
	}
	return created(gpu, resource, ret);
}

/* ---- The end -------------------------------------------------------------------------------- */

/* The ID is free when the renderer is done with the resource, which the guest learns then. */
uint32_t resource_unref(struct gpu *gpu, struct request *request)
{
	struct resource_body body;
	struct resource *resource;
	uint32_t type = read_resource(gpu, request, &body, &resource);

	if (type != 0) {
		return type;
	}
	scanouts_forget(gpu, resource);
	hostmem_forget(gpu, resource);
	sharing_forget(gpu, resource);
	return release_memory(request, resource, RELEASE_RESOURCE);
}

/* ---- Backing -------------------------------------------------------------------------------- */

static bool may_have_backing(const struct resource *resource)
{
	return resource->kind != RESOURCE_BLOB || resource->blob_mem != VIRTIO_GPU_BLOB_MEM_HOST3D;
}

uint32_t resource_attach_backing(struct gpu *gpu, struct request *request)
{
	struct resource_body body;
	struct resource *resource;
	struct backing *backing;
	uint32_t error = read_resource(gpu, request, &body, &resource);
	int ret;

	if (error != 0) {
		return error;
	}
	if (!may_have_backing(resource) || resource->backing != NULL) {
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	}
	ret = read_backing(gpu, request, resource, body.other, &backing);
	if (ret < 0) {
		return response_of_error(ret);
	}
	ret = gpu->renderer->ops->attach_backing(gpu->renderer, resource->id, &backing->base);
	if (ret < 0) {
		backing_destroy(backing, &gpu->resources.num_iov);
		return response_of_error(ret);
	}
	resource->backing = backing;
	return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t resource_detach_backing(struct gpu *gpu, struct request *request)
{
	struct resource_body body;
	struct resource *resource;
	uint32_t type = read_resource(gpu, request, &body, &resource);

	if (type != 0) {
		return type;
	}
	if (resource->backing == NULL || resource->is_detaching) {
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	}
	return release_memory(request, resource, RELEASE_BACKING);
}
