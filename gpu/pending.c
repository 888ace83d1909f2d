/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "pending.h"

void pending_init(struct pending *pending)
{
	hash_key_init(&pending->key);
	TAILQ_INIT(&pending->drawing);
}

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

/* Timelines may have the same IDs, so the rest of the name counts too. */
static struct pending_bucket *bucket_of(struct pending *pending, const struct vgf_fence_name *name)
{
	uint64_t timeline = (uint64_t)name->ctx_id << 32 | (uint32_t)name->ring;
	uint64_t place = hash(&pending->key, name->fence_id ^ hash(&pending->key, timeline));

	return &pending->fences[place % NUM_FENCE_BUCKETS];
}

void pending_add_fence(struct pending *pending, struct pending_request *request)
{
	LIST_INSERT_HEAD(bucket_of(pending, &request->fence), request, link);
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

	LIST_FOREACH(request, bucket_of(pending, name), link) {
		if (request->fence.fence_id == name->fence_id &&
			request->fence.ring == name->ring &&
			request->fence.ctx_id == name->ctx_id) {
			return request;
		}
	}
	return NULL;
}
