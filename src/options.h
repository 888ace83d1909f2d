/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <vgfence/vgfence.h>

/* What a 0 in struct vgf_limits or struct vgf_options stands for, or none of them. */

/* As many in-fences as can be pending on the control queue of a Linux guest: vgfence.h. */
#define DEFAULT_MAX_IN_FENCES 256u
#define DEFAULT_MAX_COMMAND_SIZE (4u << 20)

/* More contexts than a busy desktop has GPU clients, by ten. */
#define DEFAULT_MAX_CONTEXTS 1024

/* 256 full virtqueues; with a fence's 152 bytes and its bucket that is 10 MiB. One context may
 * have a quarter, so that it takes four to lock the others out. */
#define DEFAULT_MAX_FENCES 65536
#define DEFAULT_MAX_CONTEXT_FENCES (DEFAULT_MAX_FENCES / 4)

/* Fewer descriptors would be too few for a context that has work in flight. */
#define LEAST_CONTEXT_FDS 16u

/* 64 full virtqueues. One context may hold back a quarter. */
#define DEFAULT_MAX_HELD 16384

/* 16 command streams of the largest size. */
#define DEFAULT_MAX_HELD_SIZE ((size_t)16 * DEFAULT_MAX_COMMAND_SIZE)

/* virglrenderer logs a stuck fence after the same time. */
#define DEFAULT_STALL_NS 10000000000u

/* A display's frame lasts 16 of these, and what a round costs by itself is lost in it. */
#define DEFAULT_BUDGET_NS 1000000u

/* About a tenth of that, for drivers that answer at once. */
#define DEFAULT_BUDGET_ITEMS 1024

/* The limits to use, without a 0 in them. NULL: all defaults. */
struct vgf_limits limits_resolve(const struct vgf_limits *asked);

bool limits_have_reserved(const struct vgf_limits *limits);

/* Puts defaults in place of 0. 0, or -EINVAL for reserved members that are not 0. */
int options_resolve(struct vgf_options *options);

#endif
