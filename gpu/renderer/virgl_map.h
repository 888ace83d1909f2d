/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VIRGL_MAP_H
#define VIRGL_MAP_H

/* Memory of virglrenderer's blobs, so that another process can map it. */

#include <stdint.h>

struct virgl_map {
	int fd;            /* the caller's */
	uint64_t offset;   /* in it, aligned to pages */
	uint64_t size;     /* from there on, in whole pages: all of them can be touched */
	uint32_t map_info; /* VIRTIO_GPU_MAP_CACHE_... */
};

/*
 * Returns 0, or an error with *map untouched: -EOPNOTSUPP for memory that no descriptor stands for
 * (of OpenGL without dma-bufs, say); -ERANGE if it does not begin at a page of the file; what
 * virglrenderer or a system call failed with.
 */
int virgl_map_resource(uint32_t resource_id, struct virgl_map *map);

#endif
