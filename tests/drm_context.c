/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "drm_context.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <xf86drm.h>

#include <vgfence/sync_file.h>
#include <vgfence/syncobj.h>

#include "drm/vgfence_gpu_drm.h"

#define MAX_IN_FENCES 64

/* Calls of one ring come one at a time, but those of two rings may come in two threads. So each
 * ring has what its calls use. */
struct ring {
	uint32_t queue;       /* msm */
	uint32_t in_syncobj;  /* panfrost */
	uint32_t out_syncobj; /* panfrost */
};

struct drm_context {
	int drm_fd;
	bool is_msm;
	struct ring rings[DRM_CONTEXT_RINGS];
};

static int call(int drm_fd, unsigned long request, void *arg)
{
	return drmIoctl(drm_fd, request, arg) < 0 ? -errno : 0;
}

/* ---- panfrost: fences in syncobjs --------------------------------------------------------- */

static int init_panfrost_ring(struct drm_context *context, struct ring *ring)
{
	int ret = vgf_syncobj_create(context->drm_fd, &ring->in_syncobj);

	return ret < 0 ? ret : vgf_syncobj_create(context->drm_fd, &ring->out_syncobj);
}

static void finish_panfrost_ring(struct drm_context *context, struct ring *ring)
{
	vgf_syncobj_destroy(context->drm_fd, ring->in_syncobj);
	vgf_syncobj_destroy(context->drm_fd, ring->out_syncobj);
}

/* The kernel waits for what is in the syncobj now, whatever is put there later. An in-fence that it
 * does not take makes import_job fail with an error that has the job run again, without it. */
static int submit_panfrost(
	struct drm_context *context, const struct vgf_job *job, int *out_fence_fd)
{
	struct ring *ring = &context->rings[job->fence.ring];
	const struct drm_context_commands *commands = job->command;
	struct drm_panfrost_submit submit = {
		.in_syncs = (uintptr_t)&ring->in_syncobj,
		.in_sync_count = 1,
		.out_sync = ring->out_syncobj,
		.requirements = job->fence.ring == 1 ? PANFROST_JD_REQ_FS : 0,
	};
	int ret;

	if (job->fence.ring > 1 || job->size != sizeof(*commands)) {
		return -EINVAL;
	}
	submit.jc = commands->address;
	ret = vgf_syncobj_import_job(context->drm_fd, ring->in_syncobj, 0, job);
	if (ret == 0) {
		ret = call(context->drm_fd, DRM_IOCTL_PANFROST_SUBMIT, &submit);
	}
	if (ret < 0) {
		return ret;
	}
	ret = vgf_syncobj_export_sync_file(context->drm_fd, ring->out_syncobj, 0);
	if (ret < 0) {
		return -EIO; /* it runs: this must not have it submitted again */
	}
	*out_fence_fd = ret;
	return 0;
}

/* ---- msm: sync files, and the VM_BIND queue ----------------------------------------------- */

static int init_msm_ring(struct drm_context *context, struct ring *ring)
{
	uint32_t number = (uint32_t)(ring - context->rings);
	bool binds = number == DRM_CONTEXT_BIND_RING;
	struct drm_msm_submitqueue queue = {
		.flags = binds ? MSM_SUBMITQUEUE_VM_BIND : 0,
		.prio = binds ? 0 : number - 1,
	};
	int ret = call(context->drm_fd, DRM_IOCTL_MSM_SUBMITQUEUE_NEW, &queue);

	ring->queue = queue.id;
	return ret;
}

static void finish_msm_ring(struct drm_context *context, struct ring *ring)
{
	if (ring->queue > 0) {
		call(context->drm_fd, DRM_IOCTL_MSM_SUBMITQUEUE_CLOSE, &ring->queue);
	}
}

/* What a job waits for, as one sync file; -1 for nothing. The kernel takes no other descriptor. */
static int merge_in_fences(const struct vgf_job *job, int *fence_fd)
{
	int fds[MAX_IN_FENCES];
	int ret;

	*fence_fd = -1;
	if (job->num_in_fences == 0) {
		return 0;
	}
	if (job->num_in_fences > MAX_IN_FENCES) {
		return -EOPNOTSUPP; /* the host waits for them */
	}
	for (uint32_t i = 0; i < job->num_in_fences; i++) {
		fds[i] = job->in_fences[i].fd;
	}
	ret = vgf_sync_file_merge(fds, job->num_in_fences);
	if (ret >= 0 && vgf_sync_file_info(ret, NULL, 0) == -ENOTTY) {
		close(ret); /* what is left of several may be one alone, of any kind */
		ret = -ENOTTY;
	}
	if (ret < 0) {
		return ret == -ENOTTY ? -EOPNOTSUPP : ret;
	}
	*fence_fd = ret;
	return 0;
}

static int bind(const struct drm_context *context, const struct vgf_job *job, int *fence_fd)
{
	const struct drm_msm_vm_bind_op *ops = job->command;
	struct drm_msm_vm_bind vm_bind = {
		.flags = MSM_VM_BIND_FENCE_FD_OUT,
		.nr_ops = (uint32_t)(job->size / sizeof(*ops)),
		.op_stride = sizeof(*ops),
		.queue_id = context->rings[job->fence.ring].queue,
		.fence_fd = *fence_fd,
	};
	int ret;

	if (vm_bind.nr_ops == 0 || job->size % sizeof(*ops) > 0 ||
		vm_bind.nr_ops > DRM_CONTEXT_MAX_BINDS) {
		return -EINVAL;
	}
	if (vm_bind.nr_ops == 1) {
		vm_bind.op = *ops;
	} else {
		vm_bind.ops = (uintptr_t)ops;
	}
	if (*fence_fd >= 0) {
		vm_bind.flags |= MSM_VM_BIND_FENCE_FD_IN;
	}
	ret = call(context->drm_fd, DRM_IOCTL_MSM_VM_BIND, &vm_bind);
	*fence_fd = vm_bind.fence_fd;
	return ret;
}

static int execute(const struct drm_context *context, const struct vgf_job *job, int *fence_fd)
{
	const struct drm_context_commands *commands = job->command;
	struct drm_msm_gem_submit_cmd cmds[DRM_CONTEXT_MAX_COMMANDS] = { 0 };
	struct drm_msm_gem_submit submit = {
		.flags = MSM_PIPE_3D0 | MSM_SUBMIT_NO_IMPLICIT | MSM_SUBMIT_FENCE_FD_OUT,
		.nr_cmds = (uint32_t)(job->size / sizeof(*commands)),
		.cmds = (uintptr_t)cmds,
		.queueid = context->rings[job->fence.ring].queue,
		.fence_fd = *fence_fd,
	};
	int ret;

	if (job->size % sizeof(*commands) > 0 || submit.nr_cmds > DRM_CONTEXT_MAX_COMMANDS) {
		return -EINVAL;
	}
	for (uint32_t i = 0; i < submit.nr_cmds; i++) {
		cmds[i].type = MSM_SUBMIT_CMD_BUF;
		cmds[i].size = (uint32_t)commands[i].size;
		cmds[i].msm_submit_cmd_iova = commands[i].address;
	}
	if (*fence_fd >= 0) {
		submit.flags |= MSM_SUBMIT_FENCE_FD_IN;
	}
	ret = call(context->drm_fd, DRM_IOCTL_MSM_GEM_SUBMIT, &submit);
	*fence_fd = submit.fence_fd;
	return ret;
}

static int submit_msm(struct drm_context *context, const struct vgf_job *job, int *out_fence_fd)
{
	int in_fence_fd, fence_fd;
	int ret = merge_in_fences(job, &in_fence_fd);

	if (ret < 0) {
		return ret;
	}
	fence_fd = in_fence_fd;
	ret = job->fence.ring == DRM_CONTEXT_BIND_RING ? bind(context, job, &fence_fd) :
							 execute(context, job, &fence_fd);
	if (in_fence_fd >= 0) {
		close(in_fence_fd);
	}
	if (ret == 0) {
		*out_fence_fd = fence_fd;
	}
	return ret;
}

/* ---- Contexts ----------------------------------------------------------------------------- */

/* 0, or -ENODEV: VM_BIND came with msm 1.13. */
static int recognize(struct drm_context *context)
{
	drmVersionPtr version = drmGetVersion(context->drm_fd);
	int ret = -ENODEV;

	if (version && strcmp(version->name, "panfrost") == 0) {
		ret = 0;
	} else if (version && strcmp(version->name, "msm") == 0 && version->version_minor >= 13) {
		context->is_msm = true;
		ret = 0;
	}
	drmFreeVersion(version);
	return ret;
}

static int init_rings(struct drm_context *context)
{
	struct drm_msm_param enable = {
		.pipe = MSM_PIPE_3D0, .param = MSM_PARAM_EN_VM_BIND, .value = 1
	};
	int ret = context->is_msm ? call(context->drm_fd, DRM_IOCTL_MSM_SET_PARAM, &enable) : 0;

	for (int i = 0; i < DRM_CONTEXT_RINGS && ret == 0; i++) {
		ret = context->is_msm ? init_msm_ring(context, &context->rings[i]) :
					init_panfrost_ring(context, &context->rings[i]);
	}
	return ret;
}

int drm_context_create(int drm_fd, struct drm_context **out_context)
{
	struct drm_context *context = calloc(1, sizeof(*context));
	int ret;

	if (!context) {
		return -ENOMEM;
	}
	context->drm_fd = fcntl(drm_fd, F_DUPFD_CLOEXEC, 0);
	ret = context->drm_fd < 0 ? -errno : recognize(context);
	if (ret == 0) {
		ret = init_rings(context);
	}
	if (ret < 0) {
		drm_context_destroy(context);
		return ret;
	}
	*out_context = context;
	return 0;
}

void drm_context_destroy(struct drm_context *context)
{
	for (int i = 0; i < DRM_CONTEXT_RINGS; i++) {
		if (context->is_msm) {
			finish_msm_ring(context, &context->rings[i]);
		} else {
			finish_panfrost_ring(context, &context->rings[i]);
		}
	}
	if (context->drm_fd >= 0) {
		close(context->drm_fd);
	}
	free(context);
}

/* ---- The context driver ------------------------------------------------------------------- */

static int submit(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	struct drm_context *context = data;

	if (job->fence.ring < 0 || job->fence.ring >= DRM_CONTEXT_RINGS) {
		return -EINVAL;
	}
	return context->is_msm ? submit_msm(context, job, out_fence_fd) :
				 submit_panfrost(context, job, out_fence_fd);
}

/* The kernel signals the fences of what still runs; their descriptors are the library's. */
static void destroy(void *data, bool cancelled)
{
	(void)cancelled;
	drm_context_destroy(data);
}

const struct vgf_driver drm_context_driver = {
	.size = sizeof(drm_context_driver),
	.wait = VGF_WAIT_DRIVER,
	.independent_rings = true,
	.submit = submit,
	.destroy = destroy,
};
