/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGFENCE_DMA_BUF_H
#define VGFENCE_DMA_BUF_H

/*
 * Implicit synchronisation: the fences on a dma-buf, as sync files. A dma-buf keeps the fences of
 * its readers and of its writers. Drivers that synchronise implicitly wait for them: a reader waits
 * for the writers, a writer for everybody.
 *
 * To use a buffer that others use too: export a file for the access that the work will have, let
 * the work wait for it, then import the work's own fence for the same access. These are two steps:
 * if somebody else uses the buffer in between, neither waits for the other.
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
 * Makes a sync file of the fences that an access has to wait for: for READ those of the writers,
 * for WRITE, with READ or without, those of writers and readers. Fences that are added to the
 * buffer later are not part of it. If there is no fence, or all have signalled, the file has
 * signalled, and has no error: it only gets the errors of fences that are pending now.
 *
 * Returns a close-on-exec sync file that the caller closes; -EINVAL for another access; -ENOTTY
 * if dma_buf_fd is no dma-buf or the kernel is older than 6.0: the access must then be
 * synchronised by other means; -EBADF; -EMFILE, -ENFILE; -ENOMEM.
 */
int vgf_dma_buf_export_sync_file(int dma_buf_fd, uint32_t access);

/*
 * Adds the fences in a sync file to those of a dma-buf: for READ as a reader's, for which only
 * later writers wait; for WRITE, with READ or without, as a writer's, for which everybody waits.
 * What is on the buffer already stays. The dma-buf keeps the fences, not the descriptor. If
 * fence_fd is -1 (VGF_FENCE_DONE), it has signalled: there is nothing to add.
 *
 * Returns 0; -EINVAL for another access; -ENOTTY as above, or if fence_fd is no sync file (an
 * eventfd): wait on the host before the buffer is handed on; -EBADF for either; -ENOMEM.
 */
int vgf_dma_buf_import_sync_file(int dma_buf_fd, uint32_t access, int fence_fd);

struct vgf_device;

/*
 * Puts the fence of a guest's work on a dma-buf. Whatever uses the buffer on the host then waits
 * for the guest's work, so the guest need not wait. The fence is named by its ID, for a context or
 * the host, as for vgf_fence_export. If it has no descriptor yet (its work is held back, its driver
 * publishes one later), this is done as soon as it has one.
 *
 * Until then, and for ever if the fence signals by call, the kernel tells everybody that the buffer
 * is idle. So after a 1 the caller has to wait itself before it hands the buffer to somebody who
 * does not know that: vgf_fence_notify tells when. A fence that retires without ever having had a
 * descriptor is logged.
 *
 * Returns 0 if the dma-buf has the fence; 1 if that follows if the fence gets a descriptor;
 * -EALREADY if the fence has signalled: there is nothing to wait for, of its own work, as for
 * vgf_fence_export; -ENOENT, -EPERM, -ENOTUNIQ as there; -EINVAL, -ENOTTY, -EBADF, -ENFILE, -ENOMEM
 * as above; -EMFILE, also at max_fds or max_context_fds.
 */
int vgf_fence_attach_dma_buf(struct vgf_device *device, uint32_t ctx_id, uint64_t fence_id,
	int dma_buf_fd, uint32_t access);

#ifdef __cplusplus
}
#endif

#endif
