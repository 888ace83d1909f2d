/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef DRM_CONTEXT_H
#define DRM_CONTEXT_H

/*
 * A VMM's own native context, without virglrenderer: a context driver that hands what a guest
 * submits to a DRM driver of the kernel, panfrost or msm. docs/context-drivers.md explains it.
 *
 * Each context has a file of the device: its buffers, its address space and its queues are its
 * own, so that the handles and addresses in its command streams need no translation. A ring is a
 * queue of the kernel's:
 *
 *   panfrost: ring 0 and 1 are the queues of the two kinds of jobs. In-fences go into a syncobj
 *             that the kernel waits for, and the out-fence comes out of another one.
 *   msm:      ring 0 is the VM_BIND queue, the others are submit queues, the lower the more urgent.
 *             In-fences are merged into one sync file; the out-fence is a sync file.
 *
 * The command stream is, on the VM_BIND ring, an array of struct drm_msm_vm_bind_op; on the others,
 * an array of struct drm_context_commands (panfrost: of one).
 */

#include <stdint.h>

#include <vgfence/context_driver.h>

#define DRM_CONTEXT_RINGS 4
#define DRM_CONTEXT_BIND_RING 0 /* of msm */
#define DRM_CONTEXT_MAX_COMMANDS 16
#define DRM_CONTEXT_MAX_BINDS 8192

struct drm_context_commands {
	uint64_t address;
	uint64_t size; /* in bytes; panfrost does not need it */
};

struct drm_context;

/*
 * For vgf_context_create, with the context as data, which is then the VMM's no more.
 *
 * drm_fd is borrowed: the context has a copy. It must not be used by another context.
 *
 * Returns 0; -ENODEV if it is neither panfrost nor msm 1.13; -ENOMEM; or another error of the
 * kernel's.
 */
int drm_context_create(int drm_fd, struct drm_context **context);
void drm_context_destroy(struct drm_context *context);

extern const struct vgf_driver drm_context_driver;

#endif
