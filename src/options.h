/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <vgfence/vgfence.h>

/* virglrenderer logs a stuck fence after the same time. */
#define DEFAULT_STALL_NS 10000000000u

/* The limits to use, without a 0 in them. NULL: all defaults. */
struct vgf_limits limits_resolve(const struct vgf_limits *asked);

#endif
