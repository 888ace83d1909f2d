/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * The functions of QEMU's hw/display/virtio-gpu-virgl.c that docs/integrating-qemu.md changes. What
 * stands between "vgfence" and "end" is what is new there, line by line, and what the document
 * shows; scripts/check_docs.py compares and counts it. The rest is a stand-in.
 */

#include <errno.h>
#include <string.h>

#include <vgfence/submit_3d.h>
#include <vgfence/virgl.h>

#define VIRGL_RENDERER_UNSTABLE_APIS
#include <virglrenderer.h>

#include "qemu.h"

#define FLAGS (VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB)

static void qemu_set_fd_handler(
	int fd, void (*readable)(void *opaque), void (*writable)(void *opaque), void *opaque)
{
	VirtIOGPU *g = opaque;

	(void)writable;
	g->handled_fd = fd;
	g->fd_readable = readable;
}

static void virtio_gpu_ctrl_response_nodata(
	VirtIOGPU *g, struct virtio_gpu_ctrl_command *cmd, uint32_t type)
{
	cmd->finished = true;
	g->respond(cmd, type);
}

static void virgl_write_fence(void *opaque, uint32_t fence)
{
	(void)opaque;
	(void)fence; /* retire takes its place */
}

static struct virgl_renderer_callbacks virtio_gpu_3d_cbs = {
	.version = 1,
	.write_fence = virgl_write_fence,
};

/* vgfence */
static void virgl_retire(void *opaque, const struct vgf_retired *retired)
{
	uint32_t type = retired->status < 0 ? VIRTIO_GPU_RESP_ERR_UNSPEC :
					      VIRTIO_GPU_RESP_OK_NODATA;
	struct virtio_gpu_ctrl_command *cmd;
	VirtIOGPU *g = opaque;

	QTAILQ_FOREACH(cmd, &g->fenceq, next) {
		if (cmd->cmd_hdr.fence_id == retired->fence.fence_id &&
			cmd->cmd_hdr.ctx_id == retired->fence.ctx_id) {
			QTAILQ_REMOVE(&g->fenceq, cmd, next);
			virtio_gpu_ctrl_response_nodata(g, cmd, type);
			g_free(cmd);
			g->inflight--;
			return;
		}
	}
}
/* end */

static void virtio_gpu_virgl_fence_poll(void *opaque)
{
	VirtIOGPU *g = opaque;

	/* vgfence */
	virgl_renderer_force_ctx_0();
	vgf_virgl_poll(g->vgf);
	/* end */
}

int virtio_gpu_virgl_init(VirtIOGPU *g)
{
	int ret;
	/* vgfence */
	const struct vgf_callbacks callbacks = { sizeof(callbacks), .retire = virgl_retire };
	const struct vgf_virgl_options options = { sizeof(options), .callbacks = &callbacks };

	ret = vgf_virgl_init(g, FLAGS, &virtio_gpu_3d_cbs, &options, &g->vgf);
	/* end */
	if (ret < 0) {
		return ret;
	}
	/* vgfence */
	qemu_set_fd_handler(vgf_virgl_get_poll_fd(g->vgf), virtio_gpu_virgl_fence_poll, NULL, g);
	/* end */
	return 0;
}

void virtio_gpu_virgl_reset(VirtIOGPU *g)
{
	/* vgfence */
	vgf_virgl_reset(g->vgf);
	/* end */
}

void virtio_gpu_virgl_unrealize(VirtIOGPU *g)
{
	qemu_set_fd_handler(-1, NULL, NULL, g);
	/* vgfence */
	vgf_virgl_cleanup(g->vgf);
	/* end */
}

static void virgl_cmd_context_create(VirtIOGPU *g, struct virtio_gpu_ctrl_command *cmd)
{
	struct virtio_gpu_ctx_create cc;

	memcpy(&cc, cmd->elem.out_sg[0].iov_base, sizeof(cc));
	/* vgfence */
	if (vgf_virgl_context_create(g->vgf, cc.hdr.ctx_id, cc.nlen, cc.debug_name) < 0) {
		/* end */
		cmd->error = VIRTIO_GPU_RESP_ERR_UNSPEC;
	}
}

static void virgl_cmd_context_destroy(VirtIOGPU *g, struct virtio_gpu_ctrl_command *cmd)
{
	/* vgfence */
	vgf_virgl_context_destroy(g->vgf, cmd->cmd_hdr.ctx_id);
	/* end */
}

static void virgl_cmd_submit_3d(VirtIOGPU *g, struct virtio_gpu_ctrl_command *cmd)
{
	/* vgfence */
	struct vgf_device *device = vgf_virgl_get_device(g->vgf);
	struct vgf_submit_3d submit;
	const struct vgf_submission *work = &submit.submission;
	bool will_retire = false;
	int ret = vgf_submit_3d_decode(
		cmd->elem.out_sg, cmd->elem.out_num, g->fence_passing, NULL, &submit, NULL);

	if (ret == 0) {
		ret = vgf_virgl_submit(g->vgf, work, &will_retire);
		vgf_submit_3d_finish(&submit);
	} else if (work->flags & VGF_FENCED) {
		ret = vgf_fence_refuse(device, &work->fence, work->flags, NULL, ret);
		will_retire = ret == 0;
	}
	if (!will_retire && ret < 0) {
		cmd->error = VIRTIO_GPU_RESP_ERR_UNSPEC;
		if (ret != -ENOENT) { /* something may be pending on the timeline */
			cmd->cmd_hdr.flags &= ~VIRTIO_GPU_FLAG_FENCE;
		}
	}
	/* end */
}

static int virgl_create_fence(VirtIOGPU *g, const struct virtio_gpu_ctrl_hdr *hdr)
{
	if (hdr->flags & VIRTIO_GPU_FLAG_INFO_RING_IDX) {
		/* vgfence */
		return vgf_virgl_context_create_fence(
			g->vgf, hdr->ctx_id, 0, hdr->ring_idx, hdr->fence_id);
		/* end */
	}
	/* vgfence */
	return vgf_virgl_create_fence(g->vgf, hdr->fence_id, hdr->ctx_id, 0);
	/* end */
}

static void virtio_gpu_virgl_process_cmd(VirtIOGPU *g, struct virtio_gpu_ctrl_command *cmd)
{
	switch (cmd->cmd_hdr.type) {
	case VIRTIO_GPU_CMD_CTX_CREATE:
		virgl_cmd_context_create(g, cmd);
		break;
	case VIRTIO_GPU_CMD_CTX_DESTROY:
		virgl_cmd_context_destroy(g, cmd);
		break;
	case VIRTIO_GPU_CMD_SUBMIT_3D:
		virgl_cmd_submit_3d(g, cmd);
		break;
	default:
		cmd->error = VIRTIO_GPU_RESP_ERR_UNSPEC;
		break;
	}
	if (cmd->error) {
		virtio_gpu_ctrl_response_nodata(g, cmd, cmd->error);
	} else if (!(cmd->cmd_hdr.flags & VIRTIO_GPU_FLAG_FENCE)) {
		virtio_gpu_ctrl_response_nodata(g, cmd, VIRTIO_GPU_RESP_OK_NODATA);
		/* vgfence */
	} else if (cmd->cmd_hdr.type != VIRTIO_GPU_CMD_SUBMIT_3D &&
		virgl_create_fence(g, &cmd->cmd_hdr) < 0) {
		cmd->cmd_hdr.flags &= ~VIRTIO_GPU_FLAG_FENCE;
		virtio_gpu_ctrl_response_nodata(g, cmd, VIRTIO_GPU_RESP_OK_NODATA);
		/* end */
	}
}

void virtio_gpu_process_cmd(VirtIOGPU *g, struct virtio_gpu_ctrl_command *cmd)
{
	memcpy(&cmd->cmd_hdr, cmd->elem.out_sg[0].iov_base, sizeof(cmd->cmd_hdr));
	virtio_gpu_virgl_process_cmd(g, cmd);
	if (!cmd->finished) {
		QTAILQ_INSERT_TAIL(&g->fenceq, cmd, next);
		g->inflight++;
	} else {
		g_free(cmd);
	}
}
