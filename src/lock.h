/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef LOCK_H
#define LOCK_H

/*
 * The lock of a device, and what is put off until it is free: descriptors are closed, memory is
 * freed, messages are logged and the dispatching thread is woken after unlocking.
 */

#include "device.h"

void device_lock(struct vgf_device *device);

/* Watches new fences, wakes the dispatching thread if there is work for it, and after unlocking
 * closes what is garbage and logs. */
void device_unlock(struct vgf_device *device);

/* The same, but messages wait for the next time: for where a reset would wait for this thread, so
 * that a log callback must not reset, nor wait for a thread that does. */
void device_unlock_unlogged(struct vgf_device *device);

/* As device_unlock, at the end of a call that may come while another thread destroys the device:
 * that one waits until this is through. Returns whether it does, and nothing of the device may be
 * used any more. */
bool device_unlock_last(struct vgf_device *device);

/* Whether there is something to do for the dispatching thread. Locked. */
bool device_has_work(const struct vgf_device *device);

/* Whether anything is pending. Locked. */
bool device_is_busy(const struct vgf_device *device);

#endif
