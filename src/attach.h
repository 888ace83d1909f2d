/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef ATTACH_H
#define ATTACH_H

#include "device.h"

/* Locked. Puts a fence that has just got a descriptor on the dma-bufs that are to take it. */
void attach_all(struct vgf_device *device, struct fence *fence);

/* Locked. Says so if a fence retires that was to be put on dma-bufs, and never got a descriptor. */
void attach_check(struct vgf_device *device, const struct fence *fence);

#endif
