/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VIRTGPU_UAPI_H
#define VIRTGPU_UAPI_H

/*
 * What the ioctls of virtio-gpu take, as far as these programs use it: <virtgpu_drm.h> of libdrm
 * 2.4.114 ends before most of it. Layouts and numbers are those of include/uapi/drm/virtgpu_drm.h
 * of Linux 6.12, with what guest/patches adds; the names are our own, so that a newer libdrm does
 * no harm.
 */

#include <stdint.h>

#include <drm.h>

enum {
	UAPI_EXEC_FENCE_FD_IN = 1u << 0,
	UAPI_EXEC_FENCE_FD_OUT = 1u << 1,
	UAPI_EXEC_RING_IDX = 1u << 2,
	UAPI_EXEC_SHARED_FENCE = 1u << 3, /* guest/patches: other contexts may name the out-fence */
};

struct uapi_syncobj {
	uint32_t handle;
	uint32_t flags;
	uint64_t point; /* 0: not a timeline */
};

struct uapi_execbuffer {
	uint32_t flags;
	uint32_t size;
	uint64_t command;
	uint64_t bo_handles;
	uint32_t num_bo_handles;
	int32_t fence_fd; /* in, and out */
	uint32_t ring_idx;
	uint32_t syncobj_stride;
	uint32_t num_in_syncobjs;
	uint32_t num_out_syncobjs;
	uint64_t in_syncobjs;
	uint64_t out_syncobjs;
};

enum {
	UAPI_PARAM_HOST_VISIBLE = 4,
	UAPI_PARAM_FENCE_PASSING = 0x1000, /* guest/patches */
};

struct uapi_getparam {
	uint64_t param;
	uint64_t value; /* the address of an int */
};

enum {
	UAPI_CONTEXT_CAPSET_ID = 1,
	UAPI_CONTEXT_NUM_RINGS = 2,
	UAPI_CONTEXT_POLL_RINGS = 3,    /* a mask: fences on these are events of the descriptor */
	UAPI_CONTEXT_FENCE_PASSING = 5, /* guest/patches */
};

struct uapi_context_param {
	uint64_t param;
	uint64_t value;
};

struct uapi_context_init {
	uint32_t num_params;
	uint32_t pad;
	uint64_t params;
};

enum {
	UAPI_BLOB_MEM_GUEST = 1,
	UAPI_BLOB_MEM_HOST3D = 2,
	UAPI_BLOB_MAPPABLE = 1u << 0,
	UAPI_BLOB_SHAREABLE = 1u << 1,
};

struct uapi_blob {
	uint32_t blob_mem;
	uint32_t blob_flags;
	uint32_t bo_handle;  /* out */
	uint32_t res_handle; /* out: the host's name for it */
	uint64_t size;
	uint32_t pad;
	uint32_t cmd_size;
	uint64_t cmd;
	uint64_t blob_id;
};

struct uapi_resource_3d {
	uint32_t target;
	uint32_t format;
	uint32_t bind;
	uint32_t width;
	uint32_t height;
	uint32_t depth;
	uint32_t array_size;
	uint32_t last_level;
	uint32_t nr_samples;
	uint32_t flags;
	uint32_t bo_handle;  /* out */
	uint32_t res_handle; /* out */
	uint32_t size;       /* of the guest's memory behind it */
	uint32_t stride;
};

struct uapi_transfer {
	uint32_t bo_handle;
	uint32_t x, y, z, width, height, depth;
	uint32_t level;
	uint32_t offset;
	uint32_t stride;
	uint32_t layer_stride;
};

struct uapi_wait {
	uint32_t handle;
	uint32_t flags;
};

struct uapi_resource_info {
	uint32_t bo_handle;
	uint32_t res_handle; /* out, as what follows */
	uint32_t size;
	uint32_t blob_mem;
};

struct uapi_map {
	uint64_t offset; /* out, for mmap */
	uint32_t handle;
	uint32_t pad;
};

struct uapi_get_caps {
	uint32_t capset, version;
	uint64_t address;
	uint32_t size; /* of what is there: the rest stays as it is */
	uint32_t pad;
};

#define UAPI_IOCTL_MAP DRM_IOWR(DRM_COMMAND_BASE + 0x01, struct uapi_map)
#define UAPI_IOCTL_EXECBUFFER DRM_IOWR(DRM_COMMAND_BASE + 0x02, struct uapi_execbuffer)
#define UAPI_IOCTL_GETPARAM DRM_IOWR(DRM_COMMAND_BASE + 0x03, struct uapi_getparam)
#define UAPI_IOCTL_RESOURCE_3D DRM_IOWR(DRM_COMMAND_BASE + 0x04, struct uapi_resource_3d)
#define UAPI_IOCTL_RESOURCE_INFO DRM_IOWR(DRM_COMMAND_BASE + 0x05, struct uapi_resource_info)
#define UAPI_IOCTL_FROM_HOST DRM_IOWR(DRM_COMMAND_BASE + 0x06, struct uapi_transfer)
#define UAPI_IOCTL_WAIT DRM_IOWR(DRM_COMMAND_BASE + 0x08, struct uapi_wait)
#define UAPI_IOCTL_GET_CAPS DRM_IOWR(DRM_COMMAND_BASE + 0x09, struct uapi_get_caps)
#define UAPI_IOCTL_BLOB DRM_IOWR(DRM_COMMAND_BASE + 0x0a, struct uapi_blob)
#define UAPI_IOCTL_CONTEXT_INIT DRM_IOWR(DRM_COMMAND_BASE + 0x0b, struct uapi_context_init)

#endif
