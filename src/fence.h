/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef FENCE_H
#define FENCE_H

#include "device.h"

/* Locked. 0, -ENOENT, -EALREADY. */
int fence_signal_by_name(struct vgf_device *device, const struct vgf_fence_name *name, int status);

#endif
