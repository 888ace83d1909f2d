/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "virgl_export.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define VIRGL_RENDERER_UNSTABLE_APIS /* in virglrenderer 0.10 */
#include <virglrenderer.h>

#include "udmabuf.h"

/* ---- Textures ------------------------------------------------------------------------------- */

/* The flag turns it over: OpenGL's first row is the lowest of what it draws to the screen. */
static bool first_row_is_top(uint32_t resource_id)
{
	struct virgl_renderer_resource_info info;

	return virgl_renderer_resource_get_info((int)resource_id, &info) == 0 &&
		!(info.flags & VIRTIO_GPU_RESOURCE_FLAG_Y_0_TOP) && info.depth <= 1;
}

static void close_all(const struct virgl_renderer_export_query *query)
{
	for (uint32_t i = 0; i < query->out_num_fds && i < 4; i++) {
		close(query->out_fds[i]);
	}
}

int virgl_export_texture(uint32_t resource_id, struct renderer_dma_buf *dma_buf)
{
	struct virgl_renderer_export_query query = {
		.hdr = { .stype = VIRGL_RENDERER_STRUCTURE_TYPE_EXPORT_QUERY,
			.size = sizeof(query) },
		.in_resource_id = resource_id,
		.in_export_fds = 1,
	};

	if (!first_row_is_top(resource_id) || virgl_renderer_execute(&query, sizeof(query)) != 0 ||
		query.out_num_fds == 0) {
		return -EOPNOTSUPP;
	}
	if (query.out_num_fds != 1 || query.out_fourcc == 0) {
		close_all(&query);
		return -EOPNOTSUPP;
	}
	*dma_buf = (struct renderer_dma_buf){
		.fd = query.out_fds[0],
		.offset = query.out_offsets[0],
		.stride = query.out_strides[0],
		.drm_format = query.out_fourcc,
		.modifier = query.out_modifier,
	};
	return 0;
}

/* ---- Blobs ---------------------------------------------------------------------------------- */

static int export_shared_memory(int fd)
{
	struct file_piece piece = { .fd = fd };
	struct stat file;

	if (fstat(fd, &file) < 0) {
		return -errno;
	}
	piece.size = (uint64_t)file.st_size;
	return udmabuf_create(&piece, 1);
}

int virgl_export_blob(uint32_t resource_id, struct renderer_dma_buf *dma_buf)
{
	uint32_t type;
	int fd, ret = -EOPNOTSUPP;

	if (virgl_renderer_resource_export_blob(resource_id, &type, &fd) != 0) {
		return -EOPNOTSUPP; /* it has several errors for "there is none" */
	}
	if (type == VIRGL_RENDERER_BLOB_FD_TYPE_DMABUF) {
		*dma_buf = (struct renderer_dma_buf){ .fd = fd };
		return 0;
	}
	if (type == VIRGL_RENDERER_BLOB_FD_TYPE_SHM) {
		ret = export_shared_memory(fd);
	}
	close(fd);
	if (ret < 0) {
		return ret;
	}
	*dma_buf = (struct renderer_dma_buf){ .fd = ret };
	return 0;
}
