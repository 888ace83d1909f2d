/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGEM_H
#define VGEM_H

/*
 * The kernel's vgem driver (CONFIG_DRM_VGEM): buffers, and fences on them that this program
 * signals. They are real dma-bufs and real sync files without a GPU, also in a kernel without
 * sw_sync.
 *
 * A fence that nobody signals ends after 10 seconds, without an error; but its memory is kept until
 * it is signalled all the same. Functions that can fail return a negative errno value; none needs
 * libdrm or cmocka.
 */

#include <stdbool.h>
#include <stdint.h>

/* A descriptor of vgem's device, each with handles and fences of its own; -ENOENT if there is none.
 * Closing it signals the fences that are left. */
int vgem_open(void);

/* A buffer of one page. */
int vgem_buffer_create(int vgem_fd, uint32_t *buffer);
void vgem_buffer_destroy(int vgem_fd, uint32_t buffer);

/* Its dma-buf, a close-on-exec descriptor for the caller to close. */
int vgem_buffer_export(int vgem_fd, uint32_t buffer);

/* Puts a pending fence on a buffer, as a writer's or a reader's. -EBUSY if a pending fence on it is
 * in the way: for a writer any, for a reader a writer's. */
int vgem_attach(int vgem_fd, uint32_t buffer, bool write, uint32_t *fence);

/* -ENOENT for a fence that was signalled before, -ETIMEDOUT for one whose 10 seconds are over. */
int vgem_signal(int vgem_fd, uint32_t fence);

/* A sync file that this program signals: a writer's fence on a buffer of its own. */
struct vgem_fence {
	uint32_t buffer;
	uint32_t fence;
	int fd;
};

int vgem_fence_init(int vgem_fd, struct vgem_fence *fence);
int vgem_fence_signal(int vgem_fd, const struct vgem_fence *fence);

/* Closes the descriptor unless it is negative: a function that takes it sets it to -1. */
void vgem_fence_finish(int vgem_fd, struct vgem_fence *fence);

#endif
