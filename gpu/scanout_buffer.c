/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a scanout shows, as a dma-buf. */

#include <errno.h>
#include <unistd.h>

#include "gpu_private.h"
#include "pixel_format.h"

/* A blob is laid out as the guest says; what else there is, as the renderer says. */
static int describe(const struct scanout *scanout, const struct resource *resource,
	const struct renderer_dma_buf *memory, struct gpu_buffer *out)
{
	if (resource->kind != RESOURCE_BLOB) {
		out->width = resource->width;
		out->height = resource->height;
		out->drm_format = memory->drm_format;
		out->stride = memory->stride;
		out->offset = memory->offset;
		out->modifier = memory->modifier;
		return 0;
	}
	if (scanout->offset > UINT32_MAX - memory->offset) {
		return -EOPNOTSUPP;
	}
	out->width = scanout->width;
	out->height = scanout->height;
	out->drm_format = format_to_drm(scanout->format);
	out->stride = scanout->stride;
	out->offset = memory->offset + scanout->offset;
	out->modifier = 0; /* DRM_FORMAT_MOD_LINEAR */
	return 0;
}

static int get_guest_memory(
	struct gpu *gpu, const struct resource *resource, struct renderer_dma_buf *memory)
{
	memory->fd = backing_get_dma_buf(gpu, resource->backing, resource->blob_size);
	return memory->fd < 0 ? memory->fd : 0;
}

static int make_memory(
	struct gpu *gpu, const struct resource *resource, struct renderer_dma_buf *memory)
{
	bool is_guest_blob = resource_is_guest_blob(resource);
	int ret = -EOPNOTSUPP;

	if (resource->is_detaching || (is_guest_blob && resource->backing == NULL)) {
		return ret;
	}
	if (gpu->renderer->ops->export_dma_buf != NULL) {
		ret = gpu->renderer->ops->export_dma_buf(gpu->renderer, resource->id, memory);
	}
	if (ret == -EOPNOTSUPP) {
		return is_guest_blob ? get_guest_memory(gpu, resource, memory) : ret;
	}
	return ret < 0 ? dma_buf_refused(gpu, ret) : 0;
}

/* Pixels change when the guest transfers. One that does not ask when a frame is shown may do so at
 * any time: its frames are copied whole. */
static bool may_change_while_shown(const struct resource *resource)
{
	return resource->kind == RESOURCE_2D && !resource->flush_has_fence;
}

static int get_memory(struct gpu *gpu, struct resource *resource, struct renderer_dma_buf *memory)
{
	int ret;

	if (may_change_while_shown(resource)) {
		return -EOPNOTSUPP;
	}
	ret = exported_get(gpu, resource, memory);
	if (ret != -ENOENT) {
		return ret;
	}
	ret = make_memory(gpu, resource, memory);
	if (ret < 0) {
		return ret;
	}
	ret = exported_enter(gpu, resource, memory);
	if (ret < 0) {
		close(memory->fd);
	}
	return ret;
}

int gpu_get_scanout_buffer(struct gpu *gpu, uint32_t index, struct gpu_buffer *out)
{
	const struct scanout *scanout = &gpu->scanouts[index % VIRTIO_GPU_MAX_SCANOUTS];
	struct resource *resource = find_resource(gpu, scanout->resource_id);
	struct renderer_dma_buf memory = { .fd = -1 };
	int ret;

	if (index >= gpu->monitors.num_scanouts || resource == NULL) {
		return -ENOENT;
	}
	ret = get_memory(gpu, resource, &memory);
	if (ret < 0) {
		return ret;
	}
	*out = (struct gpu_buffer){ .fd = memory.fd, .rect = scanout->rect, .acquire_fd = -1 };
	ret = describe(scanout, resource, &memory, out);
	if (ret == 0) {
		ret = pin_take(gpu, resource, &out->key);
	}
	if (ret < 0) {
		close(memory.fd);
	}
	return ret;
}
