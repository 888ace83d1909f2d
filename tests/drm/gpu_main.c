// SPDX-License-Identifier: GPL-2.0
/* Copyright (c) 2026 The vgfence authors */

/*
 * A GPU made of software. It shows the face of panfrost, of msm, or of both as two devices. There
 * is no way to unload it: it is for virtual hosts, and stays as long as these.
 */

#include <linux/dma-resv.h>
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/slab.h>

#include <drm/drm_gem.h>
#include <drm/drm_ioctl.h>

#include "gpu_driver.h"

static char *faces = "panfrost,msm";
module_param(faces, charp, 0444);
MODULE_PARM_DESC(faces, "which drivers it looks like: panfrost, msm, or both");

/* ---- Buffers ------------------------------------------------------------------------------ */

static void free_bo(struct drm_gem_object *object)
{
	struct gpu_bo *bo = to_gpu_bo(object);

	if (bo->memory.vaddr) {
		dma_resv_lock(object->resv, NULL);
		object->funcs->vunmap(object, &bo->memory);
		dma_resv_unlock(object->resv);
	}
	drm_gem_shmem_free(&bo->base);
}

static void close_bo(struct drm_gem_object *object, struct drm_file *file)
{
	struct gpu_file *gpu_file = file->driver_priv;

	if (!gpu_file->vm->has_vm_bind) {
		gpu_vm_forget(gpu_file->vm, to_gpu_bo(object));
	}
}

static const struct drm_gem_object_funcs bo_funcs = {
	.free = free_bo,
	.close = close_bo,
	.print_info = drm_gem_shmem_object_print_info,
	.pin = drm_gem_shmem_object_pin,
	.unpin = drm_gem_shmem_object_unpin,
	.get_sg_table = drm_gem_shmem_object_get_sg_table,
	.vmap = drm_gem_shmem_object_vmap,
	.vunmap = drm_gem_shmem_object_vunmap,
	.mmap = drm_gem_shmem_object_mmap,
	.vm_ops = &drm_gem_shmem_vm_ops,
};

static struct drm_gem_object *allocate_bo(struct drm_device *drm, size_t size)
{
	struct gpu_bo *bo = kzalloc(sizeof(*bo), GFP_KERNEL);

	if (!bo) {
		return ERR_PTR(-ENOMEM);
	}
	bo->base.base.funcs = &bo_funcs;
	return &bo->base.base;
}

struct gpu_bo *gpu_bo_create(struct drm_file *file, u64 size, u32 *handle)
{
	struct drm_gem_shmem_object *shmem;
	int ret;

	if (size == 0 || size > GPU_VA_SIZE) {
		return ERR_PTR(-EINVAL);
	}
	shmem = drm_gem_shmem_create(file->minor->dev, PAGE_ALIGN(size));
	if (IS_ERR(shmem)) {
		return ERR_CAST(shmem);
	}
	ret = drm_gem_handle_create(file, &shmem->base, handle);
	if (ret) {
		drm_gem_object_put(&shmem->base);
		return ERR_PTR(ret);
	}
	return to_gpu_bo(&shmem->base);
}

int gpu_bo_pin(struct gpu_bo *bo)
{
	struct drm_gem_object *object = &bo->base.base;
	int ret = 0;

	dma_resv_lock(object->resv, NULL);
	if (!bo->memory.vaddr) {
		ret = object->funcs->vmap(object, &bo->memory);
	}
	dma_resv_unlock(object->resv);
	return ret;
}

int gpu_bo_wait(struct drm_file *file, u32 handle, ktime_t deadline)
{
	s64 left = ktime_to_ns(ktime_sub(deadline, ktime_get()));

	return drm_gem_dma_resv_wait(file, handle, true, left > 0 ? nsecs_to_jiffies(left) + 1 : 0);
}

/* ---- Files -------------------------------------------------------------------------------- */

int gpu_file_add_queue(struct gpu_file *file, unsigned int priority, bool is_vm_bind, u32 *id)
{
	struct gpu_queue *queue = gpu_queue_create(file->vm, priority);
	int ret;

	if (!queue) {
		return -ENOMEM;
	}
	queue->is_vm_bind = is_vm_bind;
	ret = xa_alloc(&file->queues, id, queue, xa_limit_16b, GFP_KERNEL);
	if (ret) {
		gpu_queue_put(queue);
	}
	return ret;
}

struct gpu_queue *gpu_file_queue(struct gpu_file *file, u32 id)
{
	struct gpu_queue *queue;

	xa_lock(&file->queues);
	queue = xa_load(&file->queues, id);
	if (queue) {
		kref_get(&queue->references);
	}
	xa_unlock(&file->queues);
	return queue;
}

/* What runs goes on; what waits is not executed any more. */
static void destroy_file(struct gpu_file *file)
{
	struct gpu_queue *queue;
	unsigned long id;

	gpu_vm_mark_unusable(file->vm, -ESRCH);
	xa_for_each(&file->queues, id, queue) gpu_queue_put(queue);
	xa_destroy(&file->queues);
	gpu_vm_put(file->vm);
	kfree(file);
}

static struct drm_driver panfrost;

/* panfrost has a queue for each of its two kinds of jobs, msm one from the start. */
static int open_file(struct drm_device *drm, struct drm_file *drm_file)
{
	struct gpu_file *file = kzalloc(sizeof(*file), GFP_KERNEL);
	u32 id;
	int ret;

	if (!file) {
		return -ENOMEM;
	}
	file->vm = gpu_vm_create();
	if (!file->vm) {
		kfree(file);
		return -ENOMEM;
	}
	xa_init_flags(&file->queues, XA_FLAGS_ALLOC);
	ret = gpu_file_add_queue(file, 1, false, &id);
	if (ret == 0 && drm->driver == &panfrost) {
		ret = gpu_file_add_queue(file, 1, false, &id);
	}
	if (ret) {
		destroy_file(file);
	} else {
		drm_file->driver_priv = file;
	}
	return ret;
}

static void close_file(struct drm_device *drm, struct drm_file *file)
{
	destroy_file(file->driver_priv);
}

/* ---- Devices ------------------------------------------------------------------------------ */

DEFINE_DRM_GEM_FOPS(file_operations);

#define DRIVER                                                                                     \
	.driver_features = DRIVER_GEM | DRIVER_RENDER | DRIVER_SYNCOBJ | DRIVER_SYNCOBJ_TIMELINE,  \
	.open = open_file, .postclose = close_file, .fops = &file_operations,                      \
	.gem_create_object = allocate_bo, .desc = "vgfence: a GPU made of software",               \
	DRM_GEM_SHMEM_DRIVER_OPS

static struct drm_driver panfrost = {
	DRIVER,
	.name = "panfrost",
	.date = "20260101",
	.major = 1,
	.minor = 2,
	.ioctls = gpu_panfrost_ioctls,
};

static struct drm_driver msm = {
	DRIVER,
	.name = "msm",
	.date = "20260101",
	.major = 1,
	.minor = 13,
	.ioctls = gpu_msm_ioctls,
};

static int __init add_device(struct drm_driver *driver)
{
	struct platform_device *platform;
	struct drm_device *drm;

	platform = platform_device_register_simple("vgfence-gpu", PLATFORM_DEVID_AUTO, NULL, 0);
	if (IS_ERR(platform)) {
		return PTR_ERR(platform);
	}
	dma_coerce_mask_and_coherent(&platform->dev, DMA_BIT_MASK(64));
	drm = drm_dev_alloc(driver, &platform->dev);
	return IS_ERR(drm) ? PTR_ERR(drm) : drm_dev_register(drm, 0);
}

static int __init start(void)
{
	int ret = 0;

	panfrost.num_ioctls = gpu_panfrost_num_ioctls;
	msm.num_ioctls = gpu_msm_num_ioctls;
	if (strstr(faces, "panfrost")) {
		ret = add_device(&panfrost);
	}
	if (ret == 0 && strstr(faces, "msm")) {
		ret = add_device(&msm);
	}
	return ret;
}

module_init(start);

MODULE_DESCRIPTION("A GPU made of software, for the tests of vgfence");
MODULE_LICENSE("GPL");
