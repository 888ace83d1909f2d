/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GUEST_LIMITS_H
#define GUEST_LIMITS_H

/*
 * What a guest may use of the device and of the renderer's fences. Each number is here alone: the
 * device's own tables and vgfence's limits follow it.
 */

#include <vgfence/vgfence.h>

#define MAX_CONTEXTS 1024u

/* Of one SUBMIT_3D. */
#define MAX_IN_FENCES 256u
#define MAX_COMMAND_SIZE (4u << 20)

/* Which the device adds: what is on dma-bufs. */
#define NUM_OWN_IN_FENCES 1u

/* At GPU addresses of the software GPU: of all contexts, and of one. 5 MiB. A bind counts twice
 * until it is done. What one submission can do is in soft/command_stream.h. */
#define MAX_MAPPINGS (64u << 10)
#define MAX_CONTEXT_MAPPINGS 4096u

static const struct vgf_limits guest_limits = {
	.max_contexts = MAX_CONTEXTS,
	.max_in_fences = MAX_IN_FENCES,
	.max_command_size = MAX_COMMAND_SIZE,
};

#endif
