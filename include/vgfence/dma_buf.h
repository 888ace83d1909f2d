/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGFENCE_DMA_BUF_H
#define VGFENCE_DMA_BUF_H

/*
 * The fences on a dma-buf, as sync files: implicit synchronisation. A dma-buf keeps the fences of
 * its readers and of its writers, and whatever uses it by way of drivers that synchronise
 * implicitly waits for them: readers for the writers, a writer for everybody.
 *
 * To use a buffer that others use too: export for the access that the work will have, let the work
 * wait for that, then import the work's own fence for the same access. The two are not one step:
 * what others do to the buffer in between is neither waited for nor ordered.
 *
 * Every function may be called from any thread; none keeps state or waits. Descriptors are
 * borrowed. The kernel's calls are those of <linux/dma-buf.h>, Linux 6.0.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is done to a buffer. */
enum vgf_access {
	VGF_ACCESS_READ = 1u << 0,
	VGF_ACCESS_WRITE = 1u << 1,
	VGF_ACCESS_READ_WRITE = VGF_ACCESS_READ | VGF_ACCESS_WRITE, /* the same as to write */
};

/*
 * What an access that is intended must wait for: for READ the writers' fences, for WRITE, with READ
 * or without, those of writers and readers. They are taken as they are now; later ones are not part
 * of the file. Where there is none, or all have signalled, it is a file that has signalled, without
 * their errors: only of a fence that is pending now can the file tell an error later.
 *
 * Returns a close-on-exec sync file that the caller closes; -EINVAL for another access; -ENOTTY
 * where dma_buf_fd is no dma-buf or the kernel is older than 6.0: the access must then be
 * synchronised by other means; -EBADF; -EMFILE, -ENFILE; -ENOMEM.
 */
int vgf_dma_buf_export_sync_file(int dma_buf_fd, uint32_t access);

/*
 * Adds the fences in a sync file to those of a dma-buf: for READ as a reader's, for which only
 * later writers wait; for WRITE, with READ or without, as a writer's, for which everybody waits.
 * What is on the buffer already stays. The dma-buf keeps the fences, not the descriptor.
 *
 * Returns 0; -EINVAL for another access; -ENOTTY as above, or where fence_fd is no sync file (an
 * eventfd): wait on the host before the buffer is handed on; -EBADF for either; -ENOMEM.
 */
int vgf_dma_buf_import_sync_file(int dma_buf_fd, uint32_t access, int fence_fd);

struct vgf_device;

/*
 * Puts the fence of a guest's work on a dma-buf, by its ID alone as in-fences are named: what uses
 * the buffer on the host then waits for the guest's work, and the guest need not. Where the fence
 * has no descriptor yet (its work is held back, its driver publishes later), this is done as soon
 * as it has one. One that signals by call without ever having had one is never on the buffer.
 *
 * Returns 0 where the dma-buf has the fence, 1 where that follows; -EALREADY where the fence has
 * signalled: there is nothing to wait for; -ENOENT for an ID that the device has not seen;
 * -ENOTUNIQ where fences of several timelines have it; -EINVAL, -ENOTTY, -EBADF, -ENOMEM as above;
 * -EMFILE, also at the device's max_fds.
 */
int vgf_fence_attach_dma_buf(
	struct vgf_device *device, uint64_t fence_id, int dma_buf_fd, uint32_t access);

#ifdef __cplusplus
}
#endif

#endif
