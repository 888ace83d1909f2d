/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGFENCE_GPU_DRM_H
#define VGFENCE_GPU_DRM_H

/*
 * What a program says to the GPU made of software: its commands, and those parts of the two kernel
 * interfaces that Debian's headers lack. The layouts are the kernel's, Linux 7.3:
 * include/uapi/drm/msm_drm.h (VM_BIND, msm 1.13) and include/uapi/drm/panfrost_drm.h.
 */

#ifdef __KERNEL__
#include <uapi/drm/msm_drm.h>
#include <uapi/drm/panfrost_drm.h>
#else
#include <drm.h>
#endif

/* ---- Commands ----------------------------------------------------------------------------- */

/* In buffers, at GPU addresses that are multiples of 32. They are executed one after the other. */
struct vgfence_gpu_command {
	__u32 op;
	__u32 count; /* of words, or of microseconds */
	__u64 to;    /* the address of a row of 32-bit words */
	__u64 from;  /* another one */
	__u32 value;
	__u32 pad;
};

enum vgfence_gpu_op {
	VGFENCE_GPU_END,       /* nothing after it is executed */
	VGFENCE_GPU_COPY,      /* to[i] = from[i] */
	VGFENCE_GPU_ADD,       /* to[i] += from[i] */
	VGFENCE_GPU_ADD_VALUE, /* to[i] += value */
	VGFENCE_GPU_PAUSE,     /* nothing, for so many microseconds; a second at most */
};

#define VGFENCE_GPU_MAX_PAUSE 1000000

/* Mappings that a VM has room for, as page tables have an end. A bind that needs more fails when it
 * is executed. */
#define VGFENCE_GPU_MAX_MAPPINGS 4096

/* ---- msm, as far as it is used here: Debian 12's header is older ------------------------- */

#ifndef __KERNEL__

#define MSM_PIPE_3D0 0x10
#define MSM_BO_WC 0x00020000
#define MSM_INFO_GET_OFFSET 0x00
#define MSM_INFO_GET_IOVA 0x01
#define MSM_SUBMIT_CMD_BUF 0x0001
#define MSM_SUBMIT_NO_IMPLICIT 0x80000000
#define MSM_SUBMIT_FENCE_FD_IN 0x40000000
#define MSM_SUBMIT_FENCE_FD_OUT 0x20000000

struct drm_msm_timespec {
	__s64 tv_sec;
	__s64 tv_nsec;
};

struct drm_msm_param {
	__u32 pipe;
	__u32 param;
	__u64 value;
	__u32 len;
	__u32 pad;
};

struct drm_msm_gem_new {
	__u64 size;
	__u32 flags;
	__u32 handle;
};

struct drm_msm_gem_info {
	__u32 handle;
	__u32 info;
	__u64 value;
	__u32 len;
	__u32 pad;
};

struct drm_msm_gem_submit_cmd {
	__u32 type;
	__u32 submit_idx;
	__u32 submit_offset;
	__u32 size;
	__u32 pad;
	__u32 nr_relocs;
	__u64 relocs;
};

struct drm_msm_gem_submit_bo {
	__u32 flags;
	__u32 handle;
	__u64 presumed;
};

struct drm_msm_gem_submit {
	__u32 flags;
	__u32 fence;
	__u32 nr_bos;
	__u32 nr_cmds;
	__u64 bos;
	__u64 cmds;
	__s32 fence_fd;
	__u32 queueid;
	__u64 in_syncobjs;
	__u64 out_syncobjs;
	__u32 nr_in_syncobjs;
	__u32 nr_out_syncobjs;
	__u32 syncobj_stride;
	__u32 pad;
};

struct drm_msm_wait_fence {
	__u32 fence;
	__u32 flags;
	struct drm_msm_timespec timeout;
	__u32 queueid;
};

struct drm_msm_submitqueue {
	__u32 flags;
	__u32 prio;
	__u32 id;
};

#define DRM_IOCTL_MSM_SET_PARAM DRM_IOW(DRM_COMMAND_BASE + 0x01, struct drm_msm_param)
#define DRM_IOCTL_MSM_GEM_NEW DRM_IOWR(DRM_COMMAND_BASE + 0x02, struct drm_msm_gem_new)
#define DRM_IOCTL_MSM_GEM_INFO DRM_IOWR(DRM_COMMAND_BASE + 0x03, struct drm_msm_gem_info)
#define DRM_IOCTL_MSM_GEM_SUBMIT DRM_IOWR(DRM_COMMAND_BASE + 0x06, struct drm_msm_gem_submit)
#define DRM_IOCTL_MSM_WAIT_FENCE DRM_IOW(DRM_COMMAND_BASE + 0x07, struct drm_msm_wait_fence)
#define DRM_IOCTL_MSM_SUBMITQUEUE_NEW DRM_IOWR(DRM_COMMAND_BASE + 0x0A, struct drm_msm_submitqueue)
#define DRM_IOCTL_MSM_SUBMITQUEUE_CLOSE DRM_IOW(DRM_COMMAND_BASE + 0x0B, __u32)

#endif

/* ---- msm, VM_BIND ------------------------------------------------------------------------- */

#ifndef MSM_VM_BIND_OP_MAP

#define MSM_PARAM_EN_VM_BIND 0x16
#define MSM_SUBMITQUEUE_VM_BIND 0x00000002

#define MSM_VM_BIND_OP_UNMAP 0
#define MSM_VM_BIND_OP_MAP 1
#define MSM_VM_BIND_OP_MAP_NULL 2

#define MSM_VM_BIND_OP_DUMP 1

struct drm_msm_vm_bind_op {
	__u32 op;
	__u32 handle;
	__u64 obj_offset;
	__u64 iova;
	__u64 range;
	__u32 flags;
	__u32 pad;
};

#define MSM_VM_BIND_FENCE_FD_IN 0x00000001
#define MSM_VM_BIND_FENCE_FD_OUT 0x00000002

struct drm_msm_vm_bind {
	__u32 flags;
	__u32 nr_ops;
	__s32 fence_fd;
	__u32 queue_id;
	__u64 in_syncobjs;
	__u64 out_syncobjs;
	__u32 nr_in_syncobjs;
	__u32 nr_out_syncobjs;
	__u32 syncobj_stride;
	__u32 op_stride;
	union {
		struct drm_msm_vm_bind_op op; /* of one operation */
		__u64 ops;                    /* a pointer to several */
	};
};

#define DRM_MSM_VM_BIND 0x0D
#define DRM_IOCTL_MSM_VM_BIND DRM_IOWR(DRM_COMMAND_BASE + DRM_MSM_VM_BIND, struct drm_msm_vm_bind)

/* What a SUBMIT with VM_BIND has in place of `relocs`: the address of the commands. */
#define msm_submit_cmd_iova relocs

#else
#define msm_submit_cmd_iova iova
#endif

/* ---- panfrost ----------------------------------------------------------------------------- */

#ifndef __KERNEL__

#define PANFROST_JD_REQ_FS (1 << 0)

struct drm_panfrost_submit {
	__u64 jc; /* the address of the commands */
	__u64 in_syncs;
	__u32 in_sync_count;
	__u32 out_sync;
	__u64 bo_handles;
	__u32 bo_handle_count;
	__u32 requirements;
};

struct drm_panfrost_wait_bo {
	__u32 handle;
	__u32 pad;
	__s64 timeout_ns;
};

struct drm_panfrost_create_bo {
	__u32 size;
	__u32 flags;
	__u32 handle;
	__u32 pad;
	__u64 offset; /* the GPU address */
};

struct drm_panfrost_mmap_bo {
	__u32 handle;
	__u32 flags;
	__u64 offset;
};

#define DRM_IOCTL_PANFROST_SUBMIT DRM_IOW(DRM_COMMAND_BASE + 0x00, struct drm_panfrost_submit)
#define DRM_IOCTL_PANFROST_WAIT_BO DRM_IOW(DRM_COMMAND_BASE + 0x01, struct drm_panfrost_wait_bo)
#define DRM_IOCTL_PANFROST_CREATE_BO                                                               \
	DRM_IOWR(DRM_COMMAND_BASE + 0x02, struct drm_panfrost_create_bo)
#define DRM_IOCTL_PANFROST_MMAP_BO DRM_IOWR(DRM_COMMAND_BASE + 0x03, struct drm_panfrost_mmap_bo)

#endif

#endif
