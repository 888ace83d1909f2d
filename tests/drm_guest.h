/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef DRM_GUEST_H
#define DRM_GUEST_H

/*
 * What a guest does with a native context (drm_context.h) on the GPU made of software (drm/): its
 * buffers, the commands in them, submissions. What has to be right fails the test if it is not.
 */

#include "fake.h"

#include "drm/vgfence_gpu_drm.h"
#include "drm_gpu.h"
#include "vgem.h"

struct drm_buffer {
	uint32_t handle;
	uint64_t address; /* of panfrost; the test's choice with msm */
	uint64_t size;
	uint32_t *words;
};

/* A context: each has a file of the device, and 4 MiB of its address space for commands. */
struct drm_guest {
	struct fake_vmm *vmm;
	int drm_fd;
	uint32_t ctx_id;
	bool is_msm;
	struct drm_buffer commands;
	uint64_t used; /* of it, in bytes */
};

/* What a submission waits for: IDs up to a 0, and a descriptor unless it is 0. */
struct drm_wait {
	uint64_t ids[8];
	int fd;
};
#define NOTHING ((struct drm_wait){ { 0 }, 0 })
#define AFTER(...) ((struct drm_wait){ { __VA_ARGS__ }, 0 })
#define AFTER_FD(fd) ((struct drm_wait){ { 0 }, fd })

#define DRM_COMMANDS_ADDRESS UINT64_C(0x10000000)
#define DRM_COMMANDS_SIZE UINT64_C(0x400000)

/* Makes the context, too. With msm its commands still have to be bound. */
void drm_guest_open(
	struct drm_guest *guest, struct fake_vmm *vmm, const char *face, uint32_t ctx_id);
void drm_guest_bind_commands(struct drm_guest *guest, uint64_t id);

/* The same, and with msm they are bound on return, by a fence of this ID. Its callbacks are
 * fake_callbacks. */
void drm_guest_init(struct drm_guest *guest, struct fake_vmm *vmm, const char *face,
	uint32_t ctx_id, uint64_t first_id);

/* The context, if it is still there, is the VMM's; this closes what the guest has of it. */
void drm_guest_finish(struct drm_guest *guest);

/* In memory from which both sides read, zeroed. */
void drm_buffer_init(struct drm_guest *guest, struct drm_buffer *buffer, uint64_t size);
void drm_buffer_finish(struct drm_buffer *buffer);

/* The same memory, for another context. */
void drm_buffer_share(const struct drm_guest *from, const struct drm_buffer *buffer,
	struct drm_guest *to, struct drm_buffer *shared);

#define COPY(to_, from_, count_)                                                                   \
	((struct vgfence_gpu_command){                                                             \
		.op = VGFENCE_GPU_COPY, .count = (count_), .to = (to_), .from = (from_) })
#define ADD(to_, from_, count_)                                                                    \
	((struct vgfence_gpu_command){                                                             \
		.op = VGFENCE_GPU_ADD, .count = (count_), .to = (to_), .from = (from_) })
#define ADD_VALUE(to_, value_)                                                                     \
	((struct vgfence_gpu_command){                                                             \
		.op = VGFENCE_GPU_ADD_VALUE, .count = 1, .to = (to_), .value = (value_) })
#define PAUSE(us_) ((struct vgfence_gpu_command){ .op = VGFENCE_GPU_PAUSE, .count = (us_) })

/* Returns what vgf_submit returns, and checks that it promises a callback. */
int drm_guest_execute(struct drm_guest *guest, int32_t ring, uint64_t id, struct drm_wait wait,
	const struct vgfence_gpu_command *commands, uint32_t count);

#define execute(guest, ring, id, wait, ...)                                                        \
	drm_guest_execute(guest, ring, id, wait, (struct vgfence_gpu_command[]){ __VA_ARGS__ },    \
		sizeof((struct vgfence_gpu_command[]){ __VA_ARGS__ }) /                            \
			sizeof(struct vgfence_gpu_command))

#define MAP(address, buffer, offset, size)                                                         \
	((struct drm_msm_vm_bind_op){                                                              \
		MSM_VM_BIND_OP_MAP, (buffer)->handle, offset, address, size, 0, 0 })
#define MAP_NULL(address, size)                                                                    \
	((struct drm_msm_vm_bind_op){ MSM_VM_BIND_OP_MAP_NULL, 0, 0, address, size, 0, 0 })
#define UNMAP(address, size)                                                                       \
	((struct drm_msm_vm_bind_op){ MSM_VM_BIND_OP_UNMAP, 0, 0, address, size, 0, 0 })

int drm_guest_bind(struct drm_guest *guest, uint64_t id, struct drm_wait wait,
	const struct drm_msm_vm_bind_op *ops, uint32_t count);

#define bind_ops(guest, id, wait, ...)                                                             \
	drm_guest_bind(guest, id, wait, (struct drm_msm_vm_bind_op[]){ __VA_ARGS__ },              \
		sizeof((struct drm_msm_vm_bind_op[]){ __VA_ARGS__ }) /                             \
			sizeof(struct drm_msm_vm_bind_op))

/* Waits until a fence has retired, and returns its status. */
int wait_for(struct fake_vmm *vmm, uint64_t id);
bool has_retired(struct fake_vmm *vmm, uint64_t id);

#endif
