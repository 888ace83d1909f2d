/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef COMPOSITOR_SYNCOBJ_H
#define COMPOSITOR_SYNCOBJ_H

/* wp_linux_drm_syncobj_v1 of the compositor: it notes what the client does. */

#include "compositor.h"

struct compositor_syncobj {
	unsigned int num_binds, num_timelines, num_surfaces; /* that there are, but for binds */
	uint64_t acquire, release;                           /* the points that were set last */
	unsigned int violations;                             /* of the protocol */
};

/* From now on it is offered to clients that come. */
void compositor_syncobj_begin(struct compositor_syncobj *syncobj, struct compositor *compositor);

#endif
