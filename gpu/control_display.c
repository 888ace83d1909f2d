/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Commands of scanouts: what they show. */

#include "gpu_private.h"
#include "pixel_format.h"

/* ---- Scanouts ------------------------------------------------------------------------------- */

static struct virtio_gpu_rect rect_to_host(const struct virtio_gpu_rect *rect)
{
	return (struct virtio_gpu_rect){
		.x = le32toh(rect->x),
		.y = le32toh(rect->y),
		.width = le32toh(rect->width),
		.height = le32toh(rect->height),
	};
}

static bool rect_in(const struct virtio_gpu_rect *rect, uint32_t width, uint32_t height)
{
	return (uint64_t)rect->x + rect->width <= width &&
		(uint64_t)rect->y + rect->height <= height;
}

static bool rect_visible(const struct virtio_gpu_rect *rect, uint32_t width, uint32_t height)
{
	return rect->width > 0 && rect->height > 0 && rect->width <= SCANOUT_MAX_SIZE &&
		rect->height <= SCANOUT_MAX_SIZE && rect_in(rect, width, height);
}

static void show(struct gpu *gpu, uint32_t index, const struct scanout *what)
{
	gpu->scanouts[index] = *what;
	scanout_tell_size(gpu, index);
}

uint32_t set_scanout(struct gpu *gpu, struct request *request)
{
	struct {
		struct virtio_gpu_rect rect;
		uint32_t scanout_id, resource_id;
	} body;
	struct scanout what = { 0 };
	const struct resource *resource;

	if (!reader_read(&request->body, &body, sizeof(body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	body.scanout_id = le32toh(body.scanout_id);
	if (body.scanout_id >= gpu->monitors.num_scanouts) {
		return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
	}
	if (body.resource_id == 0) {
		show(gpu, body.scanout_id, &what);
		return VIRTIO_GPU_RESP_OK_NODATA;
	}
	resource = find_resource(gpu, le32toh(body.resource_id));
	if (resource == NULL) {
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	}
	what.resource_id = resource->id;
	what.rect = rect_to_host(&body.rect);
	if (resource->kind == RESOURCE_BLOB ||
		!rect_visible(&what.rect, resource->width, resource->height)) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	show(gpu, body.scanout_id, &what);
	return VIRTIO_GPU_RESP_OK_NODATA;
}

struct scanout_blob_body {
	struct virtio_gpu_rect rect;
	uint32_t scanout_id, resource_id, width, height, format, padding;
	uint32_t strides[4], offsets[4];
};

/* Whether the picture that the guest describes is within the blob. */
static bool blob_fits(const struct scanout_blob_body *body, const struct scanout *what,
	const struct resource *resource)
{
	uint32_t width = le32toh(body->width), height = le32toh(body->height);
	uint8_t places[3];

	if (!format_layout(what->format, places) || !rect_visible(&what->rect, width, height) ||
		(uint64_t)width * 4 > what->stride) {
		return false;
	}
	return what->offset + (uint64_t)what->stride * (height - 1) + (uint64_t)width * 4 <=
		resource->blob_size;
}

uint32_t set_scanout_blob(struct gpu *gpu, struct request *request)
{
	struct scanout_blob_body body;
	struct scanout what = { 0 };
	const struct resource *resource;

	if (!reader_read(&request->body, &body, sizeof(body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	body.scanout_id = le32toh(body.scanout_id);
	if (body.scanout_id >= gpu->monitors.num_scanouts) {
		return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
	}
	if (body.resource_id == 0) {
		show(gpu, body.scanout_id, &what);
		return VIRTIO_GPU_RESP_OK_NODATA;
	}
	resource = find_resource(gpu, le32toh(body.resource_id));
	if (resource == NULL) {
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	}
	what.resource_id = resource->id;
	what.rect = rect_to_host(&body.rect);
	what.width = le32toh(body.width);
	what.height = le32toh(body.height);
	what.format = le32toh(body.format);
	what.stride = le32toh(body.strides[0]);
	what.offset = le32toh(body.offsets[0]);
	if (resource->kind != RESOURCE_BLOB || !blob_fits(&body, &what, resource)) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	show(gpu, body.scanout_id, &what);
	return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t resource_flush(struct gpu *gpu, struct request *request)
{
	struct {
		struct virtio_gpu_rect rect;
		uint32_t resource_id, num_in_fences;
	} body;
	struct resource *resource;
	struct virtio_gpu_rect rect;

	if (!reader_read(&request->body, &body, sizeof(body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	resource = find_resource(gpu, le32toh(body.resource_id));
	if (resource == NULL) {
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	}
	rect = rect_to_host(&body.rect);
	if (resource->kind != RESOURCE_BLOB && !rect_in(&rect, resource->width, resource->height)) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	resource->flush_has_fence = request->pending->fenced;
	/* Without the feature their number is padding. */
	return flush_resource(gpu, request, resource, &rect,
		gpu->fence_passing ? le32toh(body.num_in_fences) : 0);
}
