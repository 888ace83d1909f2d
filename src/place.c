/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>

#include "place.h"

bool is_ring(int32_t ring)
{
	return ring == VGF_RING_GLOBAL || (ring >= 0 && ring < VGF_MAX_RINGS);
}

int place_find(struct vgf_device *device, const struct vgf_fence_name *name, struct place *place)
{
	struct ring *ring;

	if (device->resetting) {
		return -ECANCELED;
	}
	if (!is_ring(name->ring)) {
		return -EINVAL;
	}
	place->context = context_find_open(&device->contexts, name->ctx_id);
	place->timeline = &device->contexts.global;
	if (name->ring == VGF_RING_GLOBAL) {
		return 0;
	}
	if (!place->context) {
		return -ENOENT;
	}
	ring = context_ring(place->context, name->ring);
	if (!ring) {
		return -ENOMEM;
	}
	place->timeline = &ring->timeline;
	return 0;
}

struct fence_owner *place_owner(const struct place *place)
{
	return place->context ? &place->context->current->owner : NULL;
}

bool place_has_room(
	const struct vgf_device *device, const struct fence_owner *owner, uint64_t count)
{
	const struct vgf_limits *limits = &device->options.limits;

	return device->fences.kept + count <= limits->max_fences &&
		(!owner || owner->pending + count <= limits->max_context_fences);
}

int place_check(struct vgf_device *device, const struct place *place, uint64_t fence_id)
{
	if (!place_has_room(device, place_owner(place), 1)) {
		return -ENOSPC;
	}
	return fence_table_check(&device->fences, place->timeline, fence_id);
}

void place_put(struct vgf_device *device, const struct place *place, struct fence *fence)
{
	fence->owner = place_owner(place);
	fence_table_add(&device->fences, place->timeline, fence, now_ns());
	device->stats.created++;
}

struct timeline *place_timeline(struct vgf_device *device, uint32_t ctx_id, int32_t ring)
{
	struct context *context;

	if (ring == VGF_RING_GLOBAL) {
		return &device->contexts.global;
	}
	context = context_find(&device->contexts, ctx_id);
	return context && context->rings[ring] ? &context->rings[ring]->timeline : NULL;
}

int place_look_up(
	struct vgf_device *device, uint32_t ctx_id, uint64_t fence_id, struct fence **fence)
{
	const struct fence_owner *asker = NULL;

	if (ctx_id != VGF_HOST) {
		const struct context *context = context_find_open(&device->contexts, ctx_id);
		if (!context) {
			return -ENOENT;
		}
		asker = &context->current->owner;
	}
	return in_fence_look_up(&device->contexts, asker, fence_id, fence);
}

int place_look_up_work(
	struct vgf_device *device, uint32_t ctx_id, uint64_t fence_id, struct fence **fence)
{
	int ret = place_look_up(device, ctx_id, fence_id, fence);

	if (ret == 0 && *fence && ((*fence)->flags & FENCE_SIGNALLED)) {
		*fence = NULL;
	}
	return ret;
}
