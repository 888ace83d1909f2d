/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VIRGL_EXPORT_H
#define VIRGL_EXPORT_H

/* Memory of virglrenderer's resources as dma-bufs, for displays that read it in place. */

#include <stdint.h>

#include "renderer.h"

/*
 * A texture, with its layout. -EOPNOTSUPP if virglrenderer has it not as one dma-buf of one plane,
 * as with OpenGL in software; or if its first row is the lowest one, which no display is told.
 */
int virgl_export_texture(uint32_t resource_id, struct renderer_dma_buf *dma_buf);

/*
 * A blob with memory of the host, or of a driver of its. One in shared memory becomes a dma-buf by
 * udmabuf_create, with its errors; -EOPNOTSUPP if there is no descriptor, or one of the driver's
 * alone.
 */
int virgl_export_blob(uint32_t resource_id, struct renderer_dma_buf *dma_buf);

#endif
