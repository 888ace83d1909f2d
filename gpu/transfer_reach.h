/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef TRANSFER_REACH_H
#define TRANSFER_REACH_H

/*
 * How far transfers reach. virglrenderer 0.10 counts that in 32 bits, and GL strides in 31: what
 * wraps there is read from, or written to, memory that is not the backing's.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_gpu.h>

/* Four channels of 32 bits. */
#define MAX_PIXEL_SIZE 16

/* Whether a box reaches so far only that nothing wraps. row and layer: strides, as they will be. */
bool transfer_reach_ok(const struct virtio_gpu_box *box, uint64_t row, uint64_t layer,
	uint64_t pixel_size, uint64_t offset);

/* The same of all transfers in the command stream of a GL context. What is cut off, or no command,
 * is virglrenderer's to refuse. */
bool command_stream_reach_ok(const void *commands, size_t size);

#endif
