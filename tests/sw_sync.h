/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SW_SYNC_H
#define SW_SYNC_H

/*
 * The kernel's software sync files (CONFIG_SW_SYNC, drivers/dma-buf/sw_sync.c), which userspace
 * signals: real sync files without a GPU. The kernel has no header for them.
 */

#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include <linux/types.h>

#define SW_SYNC_PATH "/sys/kernel/debug/sync/sw_sync"

struct sw_sync_create_fence_data {
	__u32 value;
	char name[32];
	__s32 fence;
};

#define SW_SYNC_IOC_CREATE_FENCE _IOWR('W', 0, struct sw_sync_create_fence_data)
#define SW_SYNC_IOC_INC _IOW('W', 1, __u32)

/* A timeline at 0, or negative if the kernel has none. Closing it ends its pending fences with
 * -ENOENT. */
static inline int sw_sync_timeline(void)
{
	return open(SW_SYNC_PATH, O_RDWR | O_CLOEXEC);
}

/* A sync file that signals once the timeline has come to `value`; negative if that fails. */
static inline int sw_sync_fence(int timeline_fd, uint32_t value)
{
	struct sw_sync_create_fence_data data = { .value = value, .name = "test" };

	return ioctl(timeline_fd, SW_SYNC_IOC_CREATE_FENCE, &data) < 0 ? -1 : data.fence;
}

/* Lets the timeline go on by `count`; negative if that fails. */
static inline int sw_sync_advance(int timeline_fd, uint32_t count)
{
	return ioctl(timeline_fd, SW_SYNC_IOC_INC, &count);
}

#endif
