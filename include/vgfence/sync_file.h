/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGFENCE_SYNC_FILE_H
#define VGFENCE_SYNC_FILE_H

/*
 * One descriptor that stands for a fence: a kernel sync file, or anything else that polls readable
 * when its fence signals and stays so (an eventfd, a pidfd, a pipe).
 *
 * -1 (VGF_FENCE_DONE) stands for one that has signalled: drivers answer that in place of a
 * descriptor. vgf_sync_file_info and _name, which tell what the kernel knows, have nothing to tell
 * of it: -EBADF.
 *
 * Every function may be called from any thread; none keeps state. Descriptors are borrowed.
 * The kernel's calls are those of <linux/sync_file.h>.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Whether the fence has signalled, without waiting.
 *
 * Returns 1 if it has, 0 if not; -EBADF for a descriptor that is not open; -EIO for one that
 * will never signal (a pipe whose other end was closed); -ENOMEM. vgf_sync_file_status returns the
 * error of the fence itself.
 */
int vgf_sync_file_poll(int fence_fd);

/*
 * Waits until the fence signals or CLOCK_MONOTONIC reaches deadline_ns, whichever is first; signal
 * handlers do not shorten or prolong it. INT64_MAX waits without end, 0 not at all.
 *
 * Returns 0; -ETIME at the deadline; the errors of vgf_sync_file_poll.
 */
int vgf_sync_file_wait(int fence_fd, int64_t deadline_ns);

/*
 * The status of a fence: SYNC_IOC_FILE_INFO. Returns 1 signalled, 0 pending, or the negative errno
 * value that a fence in the file ended with. For a descriptor that is no sync file it returns what
 * vgf_sync_file_poll does. -EBADF.
 */
int vgf_sync_file_status(int fence_fd);

/* Room for a driver's or a timeline's name: struct sync_fence_info has 32 bytes, 0 included. */
#define VGF_SYNC_FILE_NAME 32

/* What the kernel says about one fence in a sync file. */
struct vgf_sync_file_fence {
	char driver[VGF_SYNC_FILE_NAME];
	char timeline[VGF_SYNC_FILE_NAME];
	int status;            /* 1 signalled, 0 pending, negative: its error */
	uint64_t timestamp_ns; /* CLOCK_MONOTONIC, when it signalled; 0 while pending */
};

/*
 * Describes the fences in a sync file: fills fences[] with the first `count` of them.
 *
 * Returns how many there are, which may be more than `count`; -ENOTTY for a descriptor that is no
 * sync file; -EBADF; -ENOMEM.
 */
int vgf_sync_file_info(int fence_fd, struct vgf_sync_file_fence *fences, size_t count);

/*
 * The name of the sync file itself, for messages. It is the one that its maker gave it, or one that
 * the kernel makes of the driver, the timeline and a number. Returns 0; -ENOTTY for a descriptor
 * that is no sync file; -EBADF.
 */
int vgf_sync_file_name(int fence_fd, char name[VGF_SYNC_FILE_NAME]);

/*
 * Tells the kernel by when the fence is wanted (SYNC_IOC_SET_DEADLINE, Linux 6.6): a hint for the
 * GPU's clock. deadline_ns is CLOCK_MONOTONIC. Returns 0; -ENOTTY for an older kernel or a
 * descriptor that is no sync file: nothing is lost, go on; -EBADF.
 */
int vgf_sync_file_set_deadline(int fence_fd, uint64_t deadline_ns);

/*
 * Makes one descriptor that signals once all of `count` have: SYNC_IOC_MERGE. Those that have
 * signalled are left out. If only one is left, the result is a copy of it; if none is left, a copy
 * of one that has signalled.
 *
 * Returns a close-on-exec descriptor that the caller closes; -EALREADY if all are -1, as there is
 * nothing to copy and nothing to wait for; -EINVAL for a count of 0; -ENOTTY
 * if two or more are pending and one of them is no sync file; -EMFILE, -ENFILE; the errors of
 * vgf_sync_file_poll for any of them.
 */
int vgf_sync_file_merge(const int *fence_fds, size_t count);

#ifdef __cplusplus
}
#endif

#endif
