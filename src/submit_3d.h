/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SUBMIT_3D_H
#define SUBMIT_3D_H

/* What a 0 in struct vgf_limits, or no limits at all, stands for: decoding and the device must not
 * differ in it. vgfence.h says where the numbers come from. */
#define DEFAULT_MAX_IN_FENCES 256u
#define DEFAULT_MAX_COMMAND_SIZE (4u << 20)

#endif
