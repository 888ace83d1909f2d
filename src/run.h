/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef RUN_H
#define RUN_H

/*
 * Calls context drivers.
 */

#include "device.h"

/* Whether this thread may run a submission as soon as that is enqueued. */
bool run_can_start(struct vgf_device *device, const struct submission *submission);

/* Makes a submission fit to be started: *run_now says that nothing is before it, otherwise it is
 * held back. 0, or -ENOSPC, -ENOMEM. */
int run_prepare(struct vgf_device *device, struct submission *submission, bool *run_now);

/* Puts it where it belongs, and runs it if it was to be run now. Cannot fail. Returns what its
 * driver answered, or 1 if it waits. */
int run_start(struct vgf_device *device, struct submission *submission, bool run_now);

/* Runs the oldest submission of a queue if it is ready, with the lock dropped around the call of
 * its driver. What is ready behind it is left to the dispatching thread: a thread that submits runs
 * its own work, not what others bring meanwhile. */
void run_next(struct vgf_device *device, struct queue *queue);

/* Whether this thread is inside a driver's function, or a deferred one, of the device. */
bool run_is_inside(struct vgf_device *device);

#endif
