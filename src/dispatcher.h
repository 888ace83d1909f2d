/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef DISPATCHER_H
#define DISPATCHER_H

/*
 * The role of the dispatching thread: one thread at a time has it. Everything here is called with
 * the lock held.
 */

#include "device.h"

/* Becomes the dispatching thread, once more if it is already. With take_over another one is
 * kicked out; without, it waits until those who have taken over are done. */
void dispatcher_enter(struct vgf_device *device, bool take_over);
void dispatcher_leave(struct vgf_device *device);

/* Whether this thread has the role. */
bool dispatcher_is_self(const struct vgf_device *device);

/* Whether another thread is in vgf_device_dispatch, or the library's own is to do that. */
bool dispatcher_is_other(const struct vgf_device *device);

#endif
