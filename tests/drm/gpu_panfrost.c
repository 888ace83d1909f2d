// SPDX-License-Identifier: GPL-2.0
/* Copyright (c) 2026 The vgfence authors */

/* The face of panfrost: buffers have addresses from the start, fences are in syncobjs. */

#include <linux/slab.h>

#include <drm/drm_ioctl.h>

#include "gpu_driver.h"

#define MAX_COMMANDS_SIZE 0x100000u /* they end earlier, by VGFENCE_GPU_END */

/* ---- Buffers ------------------------------------------------------------------------------ */

static int create_bo(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct gpu_file *gpu_file = file->driver_priv;
	struct drm_panfrost_create_bo *args = data;
	struct gpu_bo *bo;
	int ret;

	if (args->size == 0 || args->pad) {
		return -EINVAL;
	}
	bo = gpu_bo_create(file, args->size, &args->handle);
	if (IS_ERR(bo)) {
		return PTR_ERR(bo);
	}
	ret = gpu_vm_address(gpu_file->vm, bo, &args->offset);
	if (ret) {
		drm_gem_handle_delete(file, args->handle);
	}
	drm_gem_object_put(&bo->base.base);
	return ret;
}

static int mmap_bo(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_panfrost_mmap_bo *args = data;

	if (args->flags) {
		return -EINVAL;
	}
	return drm_gem_dumb_map_offset(file, drm, args->handle, &args->offset);
}

static int get_bo_offset(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct gpu_file *gpu_file = file->driver_priv;
	struct drm_panfrost_get_bo_offset *args = data;
	struct drm_gem_object *object = drm_gem_object_lookup(file, args->handle);
	int ret;

	if (!object) {
		return -ENOENT;
	}
	ret = gpu_vm_address(gpu_file->vm, to_gpu_bo(object), &args->offset);
	drm_gem_object_put(object);
	return ret;
}

static int wait_bo(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_panfrost_wait_bo *args = data;

	return args->pad ? -EINVAL : gpu_bo_wait(file, args->handle, args->timeout_ns);
}

/* As a Mali-G52 says it, as far as it is asked. */
static int get_param(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_panfrost_get_param *args = data;

	args->value = args->param == DRM_PANFROST_PARAM_GPU_PROD_ID ? 0x7212 : 0;
	return 0;
}

/* ---- Submissions -------------------------------------------------------------------------- */

static int add_in_syncs(struct gpu_job *job, struct drm_file *file, const u32 *handles, u32 count)
{
	struct dma_fence *fence;
	int ret = 0;
	u32 i;

	for (i = 0; i < count && ret == 0; i++) {
		ret = drm_syncobj_find_fence(file, handles[i], 0, 0, &fence);
		if (ret == 0) {
			ret = gpu_job_add_in_fence(job, fence);
		}
	}
	return ret;
}

/* What the caller of SUBMIT lists: handles of syncobjs and of buffers. */
static int read_lists(
	struct gpu_job *job, struct drm_file *file, const struct drm_panfrost_submit *args)
{
	u32 *handles;
	int ret = 0;

	if (args->in_sync_count > 0) {
		handles = vmemdup_array_user(
			u64_to_user_ptr(args->in_syncs), args->in_sync_count, sizeof(*handles));
		if (IS_ERR(handles)) {
			return PTR_ERR(handles);
		}
		ret = add_in_syncs(job, file, handles, args->in_sync_count);
		kvfree(handles);
	}
	if (ret == 0 && args->bo_handle_count > 0) {
		handles = vmemdup_array_user(
			u64_to_user_ptr(args->bo_handles), args->bo_handle_count, sizeof(*handles));
		if (IS_ERR(handles)) {
			return PTR_ERR(handles);
		}
		ret = gpu_job_add_bos(job, file, handles, args->bo_handle_count);
		kvfree(handles);
	}
	return ret;
}

static struct gpu_job *read_job(
	struct gpu_queue *queue, struct drm_file *file, const struct drm_panfrost_submit *args)
{
	struct gpu_job *job = gpu_job_create(queue);
	int ret = -ENOMEM;

	if (!job) {
		return ERR_PTR(ret);
	}
	job->is_implicit = true;
	job->commands = kvzalloc(sizeof(*job->commands), GFP_KERNEL);
	if (job->commands) {
		job->commands->address = args->jc;
		job->commands->size = MAX_COMMANDS_SIZE;
		job->num_commands = 1;
		ret = read_lists(job, file, args);
	}
	if (ret) {
		gpu_job_destroy(job);
		return ERR_PTR(ret);
	}
	return job;
}

static int push(struct gpu_queue *queue, struct drm_file *file,
	const struct drm_panfrost_submit *args, struct drm_syncobj *out)
{
	struct gpu_job *job = read_job(queue, file, args);
	struct gpu_pushed pushed;
	int ret;

	if (IS_ERR(job)) {
		return PTR_ERR(job);
	}
	ret = gpu_job_push(job, &pushed);
	if (ret) {
		gpu_job_destroy(job);
		return ret;
	}
	if (out) {
		drm_syncobj_replace_fence(out, pushed.fence);
	}
	dma_fence_put(pushed.fence);
	return 0;
}

static int submit(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_panfrost_submit *args = data;
	struct drm_syncobj *out = NULL;
	struct gpu_queue *queue;
	int ret = -EINVAL;

	if (!args->jc || (args->requirements & ~PANFROST_JD_REQ_FS) ||
		args->in_sync_count > GPU_MAX_ENTRIES || args->bo_handle_count > GPU_MAX_ENTRIES) {
		return -EINVAL;
	}
	if (args->out_sync) {
		out = drm_syncobj_find(file, args->out_sync);
		if (!out) {
			return -ENODEV;
		}
	}
	queue = gpu_file_queue(file->driver_priv, !!(args->requirements & PANFROST_JD_REQ_FS));
	if (queue) {
		ret = push(queue, file, args, out);
		gpu_queue_put(queue);
	}
	if (out) {
		drm_syncobj_put(out);
	}
	return ret;
}

const struct drm_ioctl_desc gpu_panfrost_ioctls[] = {
	DRM_IOCTL_DEF_DRV(PANFROST_SUBMIT, submit, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(PANFROST_WAIT_BO, wait_bo, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(PANFROST_CREATE_BO, create_bo, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(PANFROST_MMAP_BO, mmap_bo, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(PANFROST_GET_PARAM, get_param, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(PANFROST_GET_BO_OFFSET, get_bo_offset, DRM_RENDER_ALLOW),
};
const int gpu_panfrost_num_ioctls = ARRAY_SIZE(gpu_panfrost_ioctls);
