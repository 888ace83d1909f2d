/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef WATCH_H
#define WATCH_H

/*
 * The epoll set of a device: the oldest fence of each timeline, an eventfd that says that there is
 * work, and a timer. Everything but watch_kick is called with the lock held.
 */

#include <sys/epoll.h>

#include "device.h"

/* 0 or a negative errno value. */
int watch_init(struct vgf_device *device);
void watch_finish(struct vgf_device *device);

/* ---- Fences ---- */

/* Adds the fences that have become the oldest of their timelines. */
void watch_all(struct vgf_device *device);

/* Takes out a fence that retires by force. Closing its descriptor would not do: others may hold the
 * same file. */
void watch_remove(struct vgf_device *device, struct fence *fence);

/* Asks the descriptor of a fence, if it has one, whether it has signalled. */
void watch_ask(struct vgf_device *device, struct fence *fence);

/* What epoll says of a descriptor, without waiting for the fence's turn to be watched. 0, -EBADF,
 * -EPERM. */
int watch_probe(struct vgf_device *device, int fence_fd);

/* ---- The timer ---- */

/* When the timeline that has stood still for the longest time has to be reported; UINT64_MAX:
 * never. */
uint64_t stall_deadline(const struct vgf_device *device);

void watch_arm_timer(struct vgf_device *device);

/* ---- Events ---- */

/* Wakes the dispatching thread. */
void watch_kick(struct vgf_device *device);
void watch_take_kick(struct vgf_device *device);

/* Takes note of what epoll_wait has returned. */
void watch_take_event(struct vgf_device *device, const struct epoll_event *event);

#endif
