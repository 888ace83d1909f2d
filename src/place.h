/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef PLACE_H
#define PLACE_H

/*
 * Where a fence goes, or is: its timeline, and the context whose work it is, if there is one. The
 * caller has the lock.
 */

#include "device.h"

struct place {
	struct context *context; /* or NULL */
	struct timeline *timeline;
};

/* Whether a timeline can have this name: a ring's number, or VGF_RING_GLOBAL. */
bool is_ring(int32_t ring);

/* Finds the place, whether or not a fence can go there now. 0, -ECANCELED, -EINVAL, -ENOENT,
 * -ENOMEM. */
int place_find(struct vgf_device *device, const struct vgf_fence_name *name, struct place *place);

/* With whose fences one is counted that goes there; NULL: of no context. */
struct fence_owner *place_owner(const struct place *place);

/* Whether so many more fences may be made; the owner is NULL if they are of no context. */
bool place_has_room(
	const struct vgf_device *device, const struct fence_owner *owner, uint64_t count);

/* Whether a fence with this ID can go there now. 0, -EINVAL, -ENOSPC. */
int place_check(struct vgf_device *device, const struct place *place, uint64_t fence_id);

/* Puts a fence that place_check allowed there. */
void place_put(struct vgf_device *device, const struct place *place, struct fence *fence);

/* A timeline that was used before, or NULL. */
struct timeline *place_timeline(struct vgf_device *device, uint32_t ctx_id, int32_t ring);

/* A fence that an open context, or VGF_HOST, names by its ID; NULL if it is done, and all before it
 * is. 0, -ENOENT, -EPERM, -ENOTUNIQ. */
int place_look_up(
	struct vgf_device *device, uint32_t ctx_id, uint64_t fence_id, struct fence **fence);

/* The same for its own work alone: NULL if it has signalled. */
int place_look_up_work(
	struct vgf_device *device, uint32_t ctx_id, uint64_t fence_id, struct fence **fence);

#endif
