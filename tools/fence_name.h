/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef FENCE_NAME_H
#define FENCE_NAME_H

/* Fences as a user reads and writes them: CONTEXT:RING:FENCE, with "global" for the ring of the
 * device's own timeline. */

#include <stdbool.h>

#include <vgfence/fence.h>

#define FENCE_NAME_SIZE 48

/* -1, as traces have it, is that ring too. false: it is no name. */
bool fence_name_parse(const char *text, struct vgf_fence_name *name);
const char *fence_name_text(char text[FENCE_NAME_SIZE], const struct vgf_fence_name *name);

#endif
