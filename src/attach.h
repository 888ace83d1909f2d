/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef ATTACH_H
#define ATTACH_H

#include "device.h"

/* Locked. Puts a fence that has just got a descriptor on the dma-bufs that are to take it. */
void attach_all(struct vgf_device *device, struct fence *fence);

#endif
