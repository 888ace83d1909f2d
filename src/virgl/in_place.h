/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef IN_PLACE_H
#define IN_PLACE_H

/* What in_place.c asks of the plugin besides its interface. */

#include <stdbool.h>

#include <vgfence/virgl.h>

/* A call of the VMM's begins or ends to wait: also for fences that virglrenderer has forgotten. */
void plugin_call_waits(struct vgf_virgl *virgl, bool waits);

/* Whether one that such a call needed has not come back: virglrenderer would take a fence that it
 * is asked for a descriptor of, and that is behind it, for done. */
bool plugin_has_marks(struct vgf_virgl *virgl);

#endif
