/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "exported.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vgfence/dma_buf.h>
#include <vgfence/sync_file.h>

#include "gpu_private.h"

struct exported {
	struct resource *resource;
	struct renderer_dma_buf memory; /* with a descriptor of its own */
	TAILQ_ENTRY(exported) link;
};

void exports_init(struct gpu *gpu)
{
	TAILQ_INIT(&gpu->exports.list);
}

/* ---- Resources ------------------------------------------------------------------------------- */

static int copy_memory(const struct renderer_dma_buf *from, struct renderer_dma_buf *to)
{
	int fd = fcntl(from->fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0) {
		return -errno;
	}
	*to = *from;
	to->fd = fd;
	return 0;
}

int exported_get(struct gpu *gpu, struct resource *resource, struct renderer_dma_buf *memory)
{
	struct exported *exported = resource->exported;

	if (exported == NULL) {
		return -ENOENT;
	}
	TAILQ_REMOVE(&gpu->exports.list, exported, link);
	TAILQ_INSERT_TAIL(&gpu->exports.list, exported, link);
	return copy_memory(&exported->memory, memory);
}

void exported_forget(struct gpu *gpu, struct resource *resource)
{
	struct exported *exported = resource->exported;

	if (exported != NULL) {
		resource->exported = NULL;
		TAILQ_REMOVE(&gpu->exports.list, exported, link);
		gpu->exports.count--;
		close(exported->memory.fd);
		free(exported);
	}
}

int exported_enter(
	struct gpu *gpu, struct resource *resource, const struct renderer_dma_buf *memory)
{
	struct exported *exported = calloc(1, sizeof(*exported));
	int ret = exported != NULL ? copy_memory(memory, &exported->memory) : -ENOMEM;

	if (ret < 0) {
		free(exported);
		return ret;
	}
	if (gpu->exports.count == MAX_EXPORTED) {
		exported_forget(gpu, TAILQ_FIRST(&gpu->exports.list)->resource);
	}
	exported->resource = resource;
	resource->exported = exported;
	TAILQ_INSERT_TAIL(&gpu->exports.list, exported, link);
	gpu->exports.count++;
	return 0;
}

void exports_reset(struct gpu *gpu)
{
	while (!TAILQ_EMPTY(&gpu->exports.list)) {
		exported_forget(gpu, TAILQ_FIRST(&gpu->exports.list)->resource);
	}
}

/* ---- Fences ---------------------------------------------------------------------------------- */

static bool uses(const struct gpu *gpu, uint64_t serial, const struct exported *exported)
{
	const struct renderer_ops *ops = gpu->renderer->ops;

	return ops->context_uses != NULL &&
		ops->context_uses(gpu->renderer, serial, exported->resource->id);
}

struct files {
	int fds[MAX_EXPORTED];
	uint32_t count;
};

/* A kernel before 6.0 does not tell which fences there are. */
static int add_pending(struct files *files, int dma_buf_fd)
{
	int fd = vgf_dma_buf_export_sync_file(dma_buf_fd, VGF_ACCESS_WRITE);

	if (fd < 0) {
		return fd == -ENOTTY ? 0 : fd;
	}
	if (vgf_sync_file_poll(fd) == 1) {
		close(fd);
	} else {
		files->fds[files->count++] = fd;
	}
	return 0;
}

int exported_get_fence(struct gpu *gpu, uint64_t serial)
{
	struct files files; /* not cleared: most submissions have none */
	const struct exported *exported;
	int ret = 0, fd = -ENOENT;

	files.count = 0;
	TAILQ_FOREACH(exported, &gpu->exports.list, link) {
		if (ret == 0 && uses(gpu, serial, exported)) {
			ret = add_pending(&files, exported->memory.fd);
		}
	}
	if (ret == 0 && files.count > 0) {
		fd = vgf_sync_file_merge(files.fds, files.count);
	}
	for (uint32_t i = 0; i < files.count; i++) {
		close(files.fds[i]);
	}
	return ret < 0 ? ret : fd;
}

void exported_put_fence(struct gpu *gpu, const struct pending_request *submission)
{
	struct renderer *renderer = gpu->renderer;
	const struct exported *exported;
	int ret;

	if (renderer->ops->has_sync_files == NULL ||
		!renderer->ops->has_sync_files(renderer, submission->fence.ctx_id)) {
		return;
	}
	TAILQ_FOREACH(exported, &gpu->exports.list, link) {
		if (!uses(gpu, submission->context_serial, exported)) {
			continue;
		}
		ret = vgf_fence_attach_dma_buf(renderer->ops->get_device(renderer), VGF_HOST,
			submission->fence.fence_id, exported->memory.fd, VGF_ACCESS_WRITE);
		if (ret < 0 && ret != -EALREADY && ret != -ENOTTY) {
			log_guest(gpu, "a fence is not on resource %u's dma-buf: %s",
				exported->resource->id, strerror(-ret));
		}
	}
}
