/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VIRTIO_GPU_H
#define VIRTIO_GPU_H

/*
 * The part of the virtio-gpu wire format that submissions need. Everything is little-endian, and
 * naturally aligned within a request.
 *
 * Sources: Virtual I/O Device (VIRTIO) Version 1.3, 5.7.6.7 "Device Operation: Request header",
 * and its 3D commands; for what is marked RFC, the experimental fence passing of
 * https://lore.kernel.org/dri-devel/20231007194747.788934-2-dmitry.osipenko@collabora.com/.
 * <linux/virtio_gpu.h> is not used: it has no experimental part, and what it may get under the same
 * names must not change what this library speaks.
 */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

enum virtio_gpu_ctrl_type {
	VIRTIO_GPU_CMD_SUBMIT_3D = 0x0207,
};

enum virtio_gpu_ctrl_flags {
	VIRTIO_GPU_FLAG_FENCE = 1u << 0,           /* answer once the fence has signalled */
	VIRTIO_GPU_FLAG_INFO_RING_IDX = 1u << 1,   /* the fence is on the timeline of ring_idx */
	VIRTIO_GPU_FLAG_FENCE_SHAREABLE = 1u << 2, /* RFC: other contexts may name the fence */
};

struct virtio_gpu_ctrl_hdr {
	uint32_t type;
	uint32_t flags;
	uint64_t fence_id;
	uint32_t ctx_id;
	uint8_t ring_idx;
	uint8_t padding[3];
};

/* Followed by num_in_fences fence IDs of 64 bits (RFC), then by `size` bytes of command stream. */
struct virtio_gpu_cmd_submit {
	struct virtio_gpu_ctrl_hdr hdr;
	uint32_t size;          /* of the command stream alone */
	uint32_t num_in_fences; /* RFC; else padding, which may hold anything */
};

static_assert(sizeof(struct virtio_gpu_ctrl_hdr) == 24, "the header has 24 bytes on the wire");
static_assert(sizeof(struct virtio_gpu_cmd_submit) == 32, "SUBMIT_3D has 32 bytes on the wire");
static_assert(offsetof(struct virtio_gpu_ctrl_hdr, fence_id) == 8, "no padding on the wire");

#endif
