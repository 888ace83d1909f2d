/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Commands that copy between a resource and its backing. */

#include "gpu_private.h"
#include "transfer_reach.h"

/* Whether [start, start + length) is within [0, size). */
static bool in_range(uint32_t start, uint32_t length, uint32_t size)
{
	return (uint64_t)start + length <= size;
}

/* A stride that the guest does not name is that of the resource. A level is at most as large as the
 * resource. */
static bool reach_ok(const struct resource *resource, const struct renderer_transfer *transfer)
{
	const uint64_t pixel = resource->kind == RESOURCE_2D ? 4 : MAX_PIXEL_SIZE;
	uint64_t row = transfer->stride != 0 ? transfer->stride : resource->width * pixel;
	uint64_t layer = transfer->layer_stride != 0 ? transfer->layer_stride :
						       row * resource->height;

	return transfer_reach_ok(&transfer->box, row, layer, pixel, transfer->offset);
}

uint32_t transfer_to_host_2d(struct gpu *gpu, struct request *request)
{
	struct {
		struct virtio_gpu_rect rect;
		uint64_t offset;
		uint32_t resource_id, padding;
	} body;
	struct renderer_transfer transfer = { 0 };
	struct resource *resource;

	if (!reader_read(&request->body, &body, sizeof(body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	resource = find_resource(gpu, le32toh(body.resource_id));
	if (resource == NULL) {
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	}
	transfer.box = (struct virtio_gpu_box){
		.x = le32toh(body.rect.x),
		.y = le32toh(body.rect.y),
		.w = le32toh(body.rect.width),
		.h = le32toh(body.rect.height),
		.d = 1,
	};
	transfer.offset = le64toh(body.offset);
	if (resource_is_guest_blob(resource)) {
		return VIRTIO_GPU_RESP_OK_NODATA;
	}
	if (resource->kind == RESOURCE_BLOB ||
		!in_range(transfer.box.x, transfer.box.w, resource->width) ||
		!in_range(transfer.box.y, transfer.box.h, resource->height) ||
		!reach_ok(resource, &transfer)) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	if (resource->backing == NULL) {
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	}
	request->pending->draws_to = resource->id;
	renderer_begin(request);
	return renderer_end(request,
		gpu->renderer->ops->transfer_to_host(
			gpu->renderer, 0, resource->id, &transfer, request_done, request->pending));
}

struct transfer_body {
	struct virtio_gpu_box box;
	uint64_t offset;
	uint32_t resource_id, level, stride, layer_stride;
};

/* The renderer decides which boxes are good. Only sums that wrap are refused here. */
static bool box_ok(const struct resource *resource, const struct virtio_gpu_box *box)
{
	if (!in_range(box->x, box->w, UINT32_MAX) || !in_range(box->y, box->h, UINT32_MAX) ||
		!in_range(box->z, box->d, UINT32_MAX)) {
		return false;
	}
	return resource->kind != RESOURCE_2D ||
		(in_range(box->x, box->w, resource->width) &&
			in_range(box->y, box->h, resource->height) && box->z == 0 && box->d == 1);
}

/*
 * Returns the response if there is nothing to copy, or 0. A blob of guest memory is its own
 * backing. The renderer does not get to see it: virglrenderer would put the context in error.
 */
static uint32_t read_transfer(struct gpu *gpu, struct request *request,
	struct renderer_transfer *transfer, uint32_t *resource_id)
{
	uint32_t ctx_id = request->header.ctx_id;
	const struct resource *resource;
	struct transfer_body body;

	if (!reader_read(&request->body, &body, sizeof(body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	*resource_id = le32toh(body.resource_id);
	resource = find_resource(gpu, *resource_id);
	if (ctx_id != 0 && !context_exists(&gpu->contexts, ctx_id)) {
		return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
	}
	if (resource == NULL) {
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	}
	if (resource_is_guest_blob(resource)) {
		return VIRTIO_GPU_RESP_OK_NODATA;
	}
	transfer->box = (struct virtio_gpu_box){
		.x = le32toh(body.box.x),
		.y = le32toh(body.box.y),
		.z = le32toh(body.box.z),
		.w = le32toh(body.box.w),
		.h = le32toh(body.box.h),
		.d = le32toh(body.box.d),
	};
	transfer->offset = le64toh(body.offset);
	transfer->level = le32toh(body.level);
	transfer->stride = le32toh(body.stride);
	transfer->layer_stride = le32toh(body.layer_stride);
	if (!box_ok(resource, &transfer->box) || !reach_ok(resource, transfer)) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	return resource->backing == NULL ? VIRTIO_GPU_RESP_ERR_UNSPEC : 0;
}

uint32_t transfer_to_host_3d(struct gpu *gpu, struct request *request)
{
	struct renderer_transfer transfer;
	uint32_t resource_id;
	uint32_t response = read_transfer(gpu, request, &transfer, &resource_id);

	if (response != 0) {
		return response;
	}
	request->pending->draws_to = resource_id;
	renderer_begin(request);
	return renderer_end(request,
		gpu->renderer->ops->transfer_to_host(gpu->renderer, request->header.ctx_id,
			resource_id, &transfer, request_done, request->pending));
}

uint32_t transfer_from_host_3d(struct gpu *gpu, struct request *request)
{
	struct renderer_transfer transfer;
	uint32_t resource_id;
	uint32_t response = read_transfer(gpu, request, &transfer, &resource_id);

	if (response != 0) {
		return response;
	}
	renderer_begin(request);
	return renderer_end(request,
		gpu->renderer->ops->transfer_from_host(gpu->renderer, request->header.ctx_id,
			resource_id, &transfer, request_done, request->pending));
}
