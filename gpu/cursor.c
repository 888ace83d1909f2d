/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Commands of the cursor queue. */

#include <errno.h>
#include <string.h>

#include "gpu_private.h"
#include "pixel_format.h"

#define NUM_PIXELS ((size_t)CURSOR_SIZE * CURSOR_SIZE)

struct cursor_body {
	struct virtio_gpu_cursor_pos pos;
	uint32_t resource_id, hot_x, hot_y, padding;
};

/* Finds the scanout's cursor. Returns an error for the guest, or 0. */
static uint32_t read_cursor(
	struct gpu *gpu, struct request *request, struct cursor_body *body, struct cursor **cursor)
{
	uint32_t id;

	if (!reader_read(&request->body, body, sizeof(*body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	id = le32toh(body->pos.scanout_id);
	if (id >= gpu->monitors.num_scanouts) {
		return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
	}
	*cursor = &gpu->cursors[id];
	return 0;
}

static void move(struct cursor *cursor, const struct cursor_body *body)
{
	cursor->x = le32toh(body->pos.x);
	cursor->y = le32toh(body->pos.y);
}

/* ---- What a display is told ------------------------------------------------------------------ */

/* What cannot be read leaves the picture as it was. */
static int read_picture(struct gpu *gpu, const struct resource *resource, struct cursor *cursor)
{
	uint32_t pixels[NUM_PIXELS];
	const struct virtio_gpu_rect rect = { 0, 0, CURSOR_SIZE, CURSOR_SIZE };
	uint32_t format = VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM; /* of blobs, as DRM's ARGB8888 */
	int ret;

	if (resource->kind == RESOURCE_BLOB) {
		ret = resource->backing == NULL ?
			-EOPNOTSUPP :
			backing_read(&resource->backing->base, 0, pixels, sizeof(pixels));
	} else {
		gpu->reads_cursor = true;
		ret = gpu->renderer->ops->read_pixels(
			gpu->renderer, resource->id, &rect, pixels, &format);
		gpu->reads_cursor = false;
	}
	if (ret == 0) {
		ret = pixels_to_argb(pixels, NUM_PIXELS, format);
	}
	if (ret == 0) {
		memcpy(cursor->pixels, pixels, sizeof(pixels));
	}
	return ret;
}

/* with_picture: it is another one. */
static void tell_cursor(struct gpu *gpu, const struct cursor *cursor, bool with_picture)
{
	const struct gpu_cursor shown = {
		.visible = cursor->visible,
		.x = cursor->x,
		.y = cursor->y,
		.hot_x = cursor->hot_x,
		.hot_y = cursor->hot_y,
		.pixels = with_picture ? cursor->pixels : NULL,
	};

	if (gpu->callbacks.cursor_changed != NULL) {
		gpu->callbacks.cursor_changed(
			gpu->cookie, (uint32_t)(cursor - gpu->cursors), &shown);
	}
}

void cursor_show(struct gpu *gpu, uint32_t index)
{
	const struct cursor *cursor = &gpu->cursors[index];

	if (cursor->visible) {
		tell_cursor(gpu, cursor, true);
	}
}

void cursors_reset(struct gpu *gpu)
{
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		struct cursor *cursor = &gpu->cursors[i];

		if (cursor->visible) {
			cursor->visible = false;
			tell_cursor(gpu, cursor, false);
		}
	}
}

/* ---- Commands ------------------------------------------------------------------------------- */

/* One whose picture is read just now must not undo what comes after it. */
bool cursor_is_free(struct gpu *gpu, const struct request *request)
{
	struct reader body = request->body;
	const struct resource *resource;
	struct cursor_body cursor;

	if (!display_is_free(gpu, request) || gpu->reads_cursor) {
		return false;
	}
	if (request->header.type == htole32(VIRTIO_GPU_CMD_MOVE_CURSOR) ||
		!reader_read(&body, &cursor, sizeof(cursor)) || cursor.resource_id == 0) {
		return true;
	}
	/* The renderer has the pixels of all that is no blob. What is not there, or has no memory,
	 * may have it from a request that waits. */
	resource = find_resource(gpu, le32toh(cursor.resource_id));
	return resource != NULL && resource->kind == RESOURCE_BLOB && resource->backing != NULL;
}

uint32_t update_cursor(struct gpu *gpu, struct request *request)
{
	const struct resource *resource = NULL;
	struct cursor_body body;
	struct cursor *cursor;
	uint32_t error = read_cursor(gpu, request, &body, &cursor);

	if (error != 0) {
		return error;
	}
	if (body.resource_id != 0) {
		resource = find_resource(gpu, le32toh(body.resource_id));
		if (resource == NULL) {
			return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
		}
		if (resource->kind == RESOURCE_BLOB ?
				resource->blob_size < UINT64_C(4) * NUM_PIXELS :
				resource->width != CURSOR_SIZE || resource->height != CURSOR_SIZE) {
			return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
		}
	}
	move(cursor, &body);
	cursor->visible = resource != NULL;
	cursor->hot_x = le32toh(body.hot_x);
	cursor->hot_y = le32toh(body.hot_y);
	tell_cursor(gpu, cursor, resource != NULL && read_picture(gpu, resource, cursor) == 0);
	return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t move_cursor(struct gpu *gpu, struct request *request)
{
	struct cursor_body body;
	struct cursor *cursor;
	uint32_t error = read_cursor(gpu, request, &body, &cursor);

	if (error == 0) {
		move(cursor, &body);
		tell_cursor(gpu, cursor, false);
	}
	return error != 0 ? error : VIRTIO_GPU_RESP_OK_NODATA;
}
