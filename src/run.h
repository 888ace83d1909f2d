/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef RUN_H
#define RUN_H

/*
 * Calls context drivers.
 */

#include "device.h"

/* Runs what is ready in a queue, with the lock dropped around each call of its driver. The queue
 * may be gone afterwards. */
void run_queue(struct vgf_device *device, struct queue *queue);

/* Whether this thread is inside a driver's submit or a deferred function of the device. */
bool run_is_inside(struct vgf_device *device);

#endif
