/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef WATCHDOG_H
#define WATCHDOG_H

#include "device.h"

/* If the timer has expired: reports timelines that have made no progress. Locked before and
 * after, but not between. */
void watchdog_check(struct vgf_device *device);

#endif
