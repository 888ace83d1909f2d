/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef INTEGRATION_QEMU_H
#define INTEGRATION_QEMU_H

/*
 * A stand-in for QEMU's virtio-gpu-gl device, written for this: as much of its structures and
 * functions, by their names, as what docs/integrating-qemu.md changes has to do with. There is no
 * virtqueue: a test hands over commands and gets their responses.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include <linux/virtio_gpu.h>

#include "queue.h"

/* QEMU has these lists by names of its own. */
#define QTAILQ_HEAD TAILQ_HEAD
#define QTAILQ_ENTRY TAILQ_ENTRY
#define QTAILQ_INIT TAILQ_INIT
#define QTAILQ_EMPTY TAILQ_EMPTY
#define QTAILQ_FOREACH TAILQ_FOREACH
#define QTAILQ_INSERT_TAIL TAILQ_INSERT_TAIL
#define QTAILQ_REMOVE TAILQ_REMOVE

typedef struct VirtQueueElement {
	unsigned int out_num;
	struct iovec *out_sg;
} VirtQueueElement;

struct virtio_gpu_ctrl_command {
	VirtQueueElement elem;
	struct virtio_gpu_ctrl_hdr cmd_hdr;
	uint32_t error;
	bool finished;
	QTAILQ_ENTRY(virtio_gpu_ctrl_command) next;
};

struct vgf_virgl;

typedef struct VirtIOGPU {
	QTAILQ_HEAD(, virtio_gpu_ctrl_command) fenceq;
	int inflight; /* commands on fenceq */
	struct vgf_virgl *vgf;
	bool fence_passing; /* negotiated */
	/* In place of the virtqueue: told of each response. */
	void (*respond)(struct virtio_gpu_ctrl_command *cmd, uint32_t type);
	/* In place of the main loop. */
	int handled_fd;
	void (*fd_readable)(void *opaque);
} VirtIOGPU;

int virtio_gpu_virgl_init(VirtIOGPU *g);
void virtio_gpu_virgl_unrealize(VirtIOGPU *g);
void virtio_gpu_virgl_reset(VirtIOGPU *g);

/* The test's, as the commands are. */
void g_free(void *mem);

/* Answers the command and frees it, or puts it on fenceq. */
void virtio_gpu_process_cmd(VirtIOGPU *g, struct virtio_gpu_ctrl_command *cmd);

#endif
