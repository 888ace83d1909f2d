/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef IN_PLACE_H
#define IN_PLACE_H

/* What in_place.c asks of the plugin besides its interface. */

#include <stdbool.h>

#include <vgfence/virgl.h>

/* A call of the VMM's begins or ends to wait: also for fences that virglrenderer has forgotten. */
void plugin_call_waits(struct vgf_virgl *virgl, bool waits);

#endif
