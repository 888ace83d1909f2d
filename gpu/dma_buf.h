/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef DMA_BUF_H
#define DMA_BUF_H

/* Guest memory as dma-bufs, for displays that read it in place. */

#include <stdint.h>

struct gpu;
struct backing;

/* Backings that have one at a time; what else is shown is copied. A desktop has two or three for
 * each monitor. */
#define MAX_DMA_BUFS 256u

/*
 * The first `size` bytes of a backing, and what is left of their last page, by udmabuf_create. It
 * is made once for a backing, and ends with it.
 *
 * Returns a close-on-exec descriptor, which the caller owns; -EOPNOTSUPP if the memory cannot be
 * one: why is told in the log, the first time; -ENOSPC at MAX_DMA_BUFS; -EMFILE, -ENFILE, -ENOMEM.
 */
int backing_get_dma_buf(struct gpu *gpu, struct backing *backing, uint64_t size);

/* What a display gets in place of a dma-buf that could not be made: -EOPNOTSUPP if there will be
 * none, and why is told in the log, the first time; or the error. */
int dma_buf_refused(struct gpu *gpu, int error);

#endif
