/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef PLACE_H
#define PLACE_H

/*
 * Where a fence goes: its timeline, and the context whose work it is, if there is one. The caller
 * has the lock.
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

/* Whether a fence with this ID can go there now. 0, -EINVAL, -ENOSPC. */
int place_check(struct vgf_device *device, const struct place *place, uint64_t fence_id);

/* Puts a fence that place_check allowed there. */
void place_put(struct vgf_device *device, const struct place *place, struct fence *fence);

#endif
