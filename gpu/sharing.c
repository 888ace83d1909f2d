/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "sharing.h"

#include <errno.h>
#include <search.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "gpu_private.h"

static int compare_uuids(const void *a, const void *b)
{
	const struct resource *x = a, *y = b;

	return memcmp(x->uuid, y->uuid, sizeof(x->uuid));
}

/* A random one (RFC 9562, version 4), so that it names the resource to other devices too. */
static int make_uuid(uint8_t uuid[16])
{
	if (getrandom(uuid, 16, 0) != 16) {
		return -errno;
	}
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
	return 0;
}

static bool may_be_shared(const struct gpu *gpu, const struct resource *resource)
{
	return gpu->callbacks.share != NULL && resource->kind == RESOURCE_BLOB &&
		!resource_is_guest_blob(resource) &&
		(resource->blob_flags & VIRTIO_GPU_BLOB_FLAG_USE_CROSS_DEVICE);
}

static uint32_t assign_uuid(struct gpu *gpu, struct resource *resource)
{
	if (make_uuid(resource->uuid) < 0) {
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	}
	if (may_be_shared(gpu, resource)) {
		if (tsearch(resource, &gpu->sharing.resources, compare_uuids) == NULL) {
			return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
		}
		resource->is_shared = true;
		gpu->callbacks.share(gpu->cookie, resource->uuid);
	}
	resource->has_uuid = true;
	return 0;
}

uint32_t resource_assign_uuid(struct gpu *gpu, struct request *request)
{
	struct {
		uint32_t resource_id, padding;
	} body;
	struct resource *resource;
	uint32_t error;

	if (!reader_read(&request->body, &body, sizeof(body))) {
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	}
	resource = find_resource(gpu, le32toh(body.resource_id));
	if (resource == NULL) {
		return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
	}
	error = resource->has_uuid ? 0 : assign_uuid(gpu, resource);
	if (error != 0) {
		return error;
	}
	respond(request, resource->uuid, sizeof(resource->uuid));
	return VIRTIO_GPU_RESP_OK_RESOURCE_UUID;
}

int gpu_get_shared(struct gpu *gpu, const uint8_t uuid[16])
{
	const struct resource *resource;
	struct resource key = { 0 };
	struct renderer_map map;
	void *node;
	int ret;

	memcpy(key.uuid, uuid, sizeof(key.uuid));
	node = tfind(&key, &gpu->sharing.resources, compare_uuids);
	if (node == NULL) {
		return -ENOENT;
	}
	resource = *(struct resource **)node;
	ret = gpu->renderer->ops->map_blob(gpu->renderer, resource->id, &map);
	if (ret == 0 && map.offset != 0) { /* nobody could be told that */
		close(map.fd);
		ret = -EOPNOTSUPP;
	}
	return ret < 0 ? ret : map.fd;
}

void sharing_forget(struct gpu *gpu, struct resource *resource)
{
	if (resource->is_shared) {
		tdelete(resource, &gpu->sharing.resources, compare_uuids);
		resource->is_shared = false;
		if (gpu->callbacks.unshare != NULL) {
			gpu->callbacks.unshare(gpu->cookie, resource->uuid);
		}
	}
}

void sharing_reset(struct gpu *gpu)
{
	while (gpu->sharing.resources != NULL) {
		sharing_forget(gpu, *(struct resource **)gpu->sharing.resources);
	}
}
