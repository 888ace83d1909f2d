/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "pending.h"

struct pending_request *pending_take(struct pending *pending, const struct gpu_request *request)
{
	struct pending_request *place;

	if ((unsigned int)request->queue >= GPU_NUM_QUEUES || request->token >= GPU_MAX_REQUESTS) {
		return NULL;
	}
	place = &pending->requests[request->queue][request->token];
	if (place->used) {
		return NULL;
	}
	*place = (struct pending_request){ .used = true, .request = *request };
	pending->count++;
	return place;
}

void pending_release(struct pending *pending, struct pending_request *request)
{
	request->used = false;
	pending->count--;
}

/* The IDs of a guest count up, mostly over all timelines: neighbours get buckets of their own. */
static size_t bucket_of(const struct vgf_fence_name *name)
{
	return name->fence_id % NUM_FENCE_BUCKETS;
}

void pending_add_fence(struct pending *pending, struct pending_request *request)
{
	LIST_INSERT_HEAD(&pending->fences[bucket_of(&request->fence)], request, link);
	request->awaits_fence = true;
}

void pending_remove_fence(struct pending_request *request)
{
	LIST_REMOVE(request, link);
	request->awaits_fence = false;
}

struct pending_request *pending_find_fence(
	struct pending *pending, const struct vgf_fence_name *name)
{
	struct pending_request *request;

	LIST_FOREACH(request, &pending->fences[bucket_of(name)], link) {
		if (request->fence.fence_id == name->fence_id &&
			request->fence.ring == name->ring &&
			request->fence.ctx_id == name->ctx_id) {
			return request;
		}
	}
	return NULL;
}
