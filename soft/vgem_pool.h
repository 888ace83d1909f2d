/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGEM_POOL_H
#define VGEM_POOL_H

/*
 * Sync files that this program signals, one after the other on the same few vgem buffers: making
 * a buffer, and a dma-buf of it, costs more than putting a fence on it. A buffer has one fence at a
 * time, so there are as many as fences are pending; of idle ones some are kept.
 *
 * Every function may be called from any thread. Errors are negative errno values.
 */

#include <stdbool.h>

struct vgem_pool;
struct vgem_slot; /* a buffer with a fence on it */

/* Returns 0; -ENOENT if the kernel has no vgem, -ENOTTY if its dma-bufs give no sync files (before
 * Linux 6.0); -EMFILE, -ENFILE, -ENOMEM. */
int vgem_pool_create(struct vgem_pool **out);

/* All slots must have been put back. The fences of those that were not signalled signal now. NULL
 * is fine. */
void vgem_pool_destroy(struct vgem_pool *pool);

/* Takes a buffer and puts a new fence on it. *fence_fd: its sync file, for the caller to close.
 * Takes one descriptor for that and, if no buffer is idle, one to keep. */
int vgem_pool_take(struct vgem_pool *pool, struct vgem_slot **out, int *fence_fd);

/* Signals the slot's fence. -ETIMEDOUT if the kernel was first: it ends a fence after 10 s. */
int vgem_slot_signal(struct vgem_slot *slot);

/* Gives the buffer back. A fence that has not been signalled is left as it is: it needs no
 * descriptor any more, but the kernel keeps it until vgem_pool_signal_left, also once its 10 s are
 * over, or until the pool is destroyed. */
void vgem_slot_put(struct vgem_slot *slot);

/* Signals the fences that were left. */
void vgem_pool_signal_left(struct vgem_pool *pool);

#endif
