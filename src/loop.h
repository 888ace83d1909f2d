/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef LOOP_H
#define LOOP_H

#include "device.h"

/* One round: waits for at most timeout_ms, and does what there is to do. Locked before and after,
 * but not between. Returns the number of fences retired, or -EINTR. */
int loop_run(struct vgf_device *device, int timeout_ms);

/* The same without waiting, and without running what is held back. */
int loop_retire(struct vgf_device *device);

/* The same of what was signalled by call, without a look at descriptors. Not inside of a round. */
int loop_retire_signalled(struct vgf_device *device);

/* From inside a callback: notifications that would follow it come now. Locked before and after, but
 * not between. */
void loop_tell_due(struct vgf_device *device);

/* The end of a batch of callbacks. Locked before and after, but not between. */
void loop_announce(struct vgf_device *device);

#endif
