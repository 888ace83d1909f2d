// SPDX-License-Identifier: GPL-2.0
/* Copyright (c) 2026 The vgfence authors */

/* The face of msm 1.13: queues with priorities, fences in sync files, VM_BIND. Not its syncobjs. */

#include <linux/file.h>
#include <linux/slab.h>
#include <linux/sync_file.h>

#include <drm/drm_ioctl.h>

#include "gpu_driver.h"

/* ---- Parameters --------------------------------------------------------------------------- */

/* Those of an Adreno 618, as far as there is no reason for others. */
static int get_param(struct drm_device *drm, void *data, struct drm_file *file)
{
	static const u64 values[] = {
		[MSM_PARAM_GPU_ID] = 618,
		[MSM_PARAM_GMEM_SIZE] = 0x80000,
		[MSM_PARAM_CHIP_ID] = 0x06010800,
		[MSM_PARAM_MAX_FREQ] = 800000000,
		[MSM_PARAM_TIMESTAMP] = 0,
		[MSM_PARAM_GMEM_BASE] = 0x100000,
		[MSM_PARAM_PRIORITIES] = GPU_PRIORITIES,
		[MSM_PARAM_FAULTS] = 0,
		[MSM_PARAM_SUSPENDS] = 0,
		[MSM_PARAM_VA_START] = GPU_VA_START,
		[MSM_PARAM_VA_SIZE] = GPU_VA_SIZE,
		[0x10] = 14, /* HIGHEST_BANK_BIT */
		[0x15] = 1,  /* HAS_PRR: MAP_NULL */
	};
	struct drm_msm_param *args = data;

	if (args->param == 0 || args->param >= ARRAY_SIZE(values)) {
		return -EINVAL;
	}
	args->value = values[args->param];
	return 0;
}

static int set_param(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct gpu_vm *vm = ((struct gpu_file *)file->driver_priv)->vm;
	const struct drm_msm_param *args = data;

	switch (args->param) {
	case MSM_PARAM_EN_VM_BIND:
		if (args->value != 1 || vm->has_vm_bind || vm->num_mappings > 0) {
			return -EINVAL;
		}
		vm->has_vm_bind = true;
		return 0;
	case MSM_PARAM_COMM:
	case MSM_PARAM_CMDLINE:
		return 0;
	default:
		return -EINVAL;
	}
}

/* ---- Buffers ------------------------------------------------------------------------------ */

static int gem_new(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_msm_gem_new *args = data;
	struct gpu_bo *bo = gpu_bo_create(file, args->size, &args->handle);

	if (IS_ERR(bo)) {
		return PTR_ERR(bo);
	}
	drm_gem_object_put(&bo->base.base);
	return 0;
}

static int set_address(struct gpu_vm *vm, struct gpu_bo *bo, u64 address)
{
	const struct drm_msm_vm_bind_op said = {
		.op = MSM_VM_BIND_OP_MAP, .iova = address, .range = bo->base.base.size
	};
	struct gpu_vm_op op = { 0 };
	int ret = gpu_bo_pin(bo);

	gpu_vm_forget(vm, bo);
	if (ret == 0 && address) {
		ret = gpu_vm_op_init(&op, &said, bo);
	}
	if (ret == 0 && address) {
		ret = gpu_vm_apply(vm, &op, 1);
	}
	gpu_vm_op_finish(&op);
	return ret;
}

static int bo_info(struct gpu_vm *vm, struct gpu_bo *bo, struct drm_msm_gem_info *args)
{
	switch (args->info) {
	case MSM_INFO_GET_OFFSET:
		args->value = drm_vma_node_offset_addr(&bo->base.base.vma_node);
		return 0;
	case MSM_INFO_GET_IOVA:
		return vm->has_vm_bind ? -EINVAL : gpu_vm_address(vm, bo, &args->value);
	case MSM_INFO_SET_IOVA:
		return vm->has_vm_bind ? -EINVAL : set_address(vm, bo, args->value);
	case MSM_INFO_SET_NAME:
	case MSM_INFO_SET_METADATA:
		return 0;
	case MSM_INFO_GET_FLAGS:
		args->value = MSM_BO_CACHED_COHERENT;
		return 0;
	default:
		return -EINVAL;
	}
}

static int gem_info(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct gpu_file *gpu_file = file->driver_priv;
	struct drm_msm_gem_info *args = data;
	struct drm_gem_object *object = drm_gem_object_lookup(file, args->handle);
	int ret;

	if (!object) {
		return -ENOENT;
	}
	ret = bo_info(gpu_file->vm, to_gpu_bo(object), args);
	drm_gem_object_put(object);
	return ret;
}

static ktime_t deadline(const struct drm_msm_timespec *timeout)
{
	return ktime_set(timeout->tv_sec, timeout->tv_nsec);
}

static int gem_cpu_prep(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_msm_gem_cpu_prep *args = data;
	bool nosync = args->op & MSM_PREP_NOSYNC;
	int ret = gpu_bo_wait(file, args->handle, nosync ? 0 : deadline(&args->timeout));

	return ret != -ETIME ? ret : nosync ? -EBUSY : -ETIMEDOUT;
}

static int gem_cpu_fini(struct drm_device *drm, void *data, struct drm_file *file)
{
	return 0;
}

/* ---- Queues ------------------------------------------------------------------------------- */

static int submitqueue_new(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct gpu_file *gpu_file = file->driver_priv;
	struct drm_msm_submitqueue *args = data;
	bool is_vm_bind = args->flags & MSM_SUBMITQUEUE_VM_BIND;

	if (args->prio >= GPU_PRIORITIES || (is_vm_bind && !gpu_file->vm->has_vm_bind)) {
		return -EINVAL;
	}
	return gpu_file_add_queue(gpu_file, args->prio, is_vm_bind, &args->id);
}

static int submitqueue_close(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct gpu_file *gpu_file = file->driver_priv;
	u32 id = *(u32 *)data;
	struct gpu_queue *queue = id ? xa_erase(&gpu_file->queues, id) : NULL;

	if (!queue) {
		return -ENOENT;
	}
	gpu_queue_put(queue);
	return 0;
}

static bool is_done(const struct gpu_queue *queue, u32 number)
{
	return (s32)(READ_ONCE(queue->number_done) - number) >= 0;
}

static int wait_fence(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_msm_wait_fence *args = data;
	struct gpu_queue *queue = gpu_file_queue(file->driver_priv, args->queueid);
	s64 left = ktime_to_ns(ktime_sub(deadline(&args->timeout), ktime_get()));
	long ret;

	if (!queue) {
		return -ENOENT;
	}
	ret = wait_event_interruptible_timeout(queue->is_done, is_done(queue, args->fence),
		left > 0 ? nsecs_to_jiffies(left) + 1 : 0);
	gpu_queue_put(queue);
	return ret == 0 ? -ETIMEDOUT : min(ret, 0L);
}

/* ---- What is alike in SUBMIT and VM_BIND -------------------------------------------------- */

struct submission {
	struct gpu_queue *queue;
	struct drm_file *file;
	bool has_fd_in, has_fd_out;
	s32 *fence_fd; /* in and out */
	u32 *number;   /* of the job; 0 in: the next one */
	int (*read)(struct gpu_job *job, struct drm_file *file, const void *args);
	const void *args;
};

static int add_in_fence(struct gpu_job *job, int fence_fd)
{
	struct dma_fence *fence = sync_file_get_fence(fence_fd);

	return fence ? gpu_job_add_in_fence(job, fence) : -EINVAL;
}

/* Takes the job. */
static int push(const struct submission *submission, struct gpu_job *job, int fd)
{
	struct gpu_pushed pushed = { 0 };
	int ret = gpu_job_push(job, &pushed);

	if (ret) {
		gpu_job_destroy(job);
		if (pushed.sync_file) {
			fput(pushed.sync_file->file);
		}
		return ret;
	}
	if (fd >= 0) {
		fd_install(fd, pushed.sync_file->file);
		*submission->fence_fd = fd;
	}
	*submission->number = pushed.number;
	dma_fence_put(pushed.fence);
	return 0;
}

static struct gpu_job *read_job(const struct submission *submission)
{
	struct gpu_job *job = gpu_job_create(submission->queue);
	int ret;

	if (!job) {
		return ERR_PTR(-ENOMEM);
	}
	job->number = *submission->number;
	job->wants_sync_file = submission->has_fd_out;
	ret = submission->read(job, submission->file, submission->args);
	if (ret == 0 && submission->has_fd_in) {
		ret = add_in_fence(job, *submission->fence_fd);
	}
	if (ret) {
		gpu_job_destroy(job);
		return ERR_PTR(ret);
	}
	return job;
}

static int submit(const struct submission *submission)
{
	struct gpu_job *job;
	int ret = READ_ONCE(submission->queue->vm->error), fd = -1;

	if (ret) {
		return ret;
	}
	job = read_job(submission);
	if (IS_ERR(job)) {
		return PTR_ERR(job);
	}
	if (submission->has_fd_out) {
		fd = get_unused_fd_flags(O_CLOEXEC);
		if (fd < 0) {
			gpu_job_destroy(job);
			return fd;
		}
	}
	ret = push(submission, job, fd);
	if (ret && fd >= 0) {
		put_unused_fd(fd);
	}
	return ret;
}

/* ---- SUBMIT ------------------------------------------------------------------------------- */

static int read_bos(
	struct gpu_job *job, struct drm_file *file, const struct drm_msm_gem_submit *args)
{
	const struct drm_msm_gem_submit_bo __user *bos = u64_to_user_ptr(args->bos);
	u32 *handles = kvcalloc(args->nr_bos, sizeof(*handles), GFP_KERNEL);
	int ret = handles ? 0 : -ENOMEM;
	u32 i;

	for (i = 0; i < args->nr_bos && ret == 0; i++) {
		ret = get_user(handles[i], &bos[i].handle);
	}
	if (ret == 0) {
		ret = gpu_job_add_bos(job, file, handles, args->nr_bos);
	}
	kvfree(handles);
	return ret;
}

/* Where commands are: in a buffer of the table, or with VM_BIND at an address. */
static int find_commands(struct gpu_job *job, const struct drm_msm_gem_submit_cmd *said,
	struct gpu_commands *commands)
{
	struct gpu_vm *vm = job->queue->vm;
	int ret;

	commands->size = said->size;
	if (vm->has_vm_bind) {
		commands->address = said->msm_submit_cmd_iova;
		return 0;
	}
	if (said->submit_idx >= job->num_bos || said->nr_relocs > 0) {
		return -EINVAL;
	}
	ret = gpu_vm_address(vm, to_gpu_bo(job->bos[said->submit_idx]), &commands->address);
	commands->address += said->submit_offset;
	return ret;
}

static int read_submission(struct gpu_job *job, struct drm_file *file, const void *data)
{
	const struct drm_msm_gem_submit *args = data;
	const struct drm_msm_gem_submit_cmd __user *list = u64_to_user_ptr(args->cmds);
	struct drm_msm_gem_submit_cmd said;
	int ret = 0;
	u32 i;

	if (args->nr_bos > GPU_MAX_ENTRIES || args->nr_cmds > GPU_MAX_ENTRIES ||
		(args->nr_bos > 0 && job->queue->vm->has_vm_bind)) {
		return -EINVAL;
	}
	job->is_implicit = !(args->flags & MSM_SUBMIT_NO_IMPLICIT);
	if (args->nr_bos > 0) {
		ret = read_bos(job, file, args);
	}
	job->commands = kvcalloc(max(args->nr_cmds, 1u), sizeof(*job->commands), GFP_KERNEL);
	if (!job->commands) {
		return -ENOMEM;
	}
	for (i = 0; i < args->nr_cmds && ret == 0; i++) {
		if (copy_from_user(&said, &list[i], sizeof(said))) {
			return -EFAULT;
		}
		if (said.type == MSM_SUBMIT_CMD_BUF) {
			ret = find_commands(job, &said, &job->commands[job->num_commands++]);
		}
	}
	return ret;
}

static int gem_submit(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_msm_gem_submit *args = data;
	struct gpu_queue *queue = gpu_file_queue(file->driver_priv, args->queueid);
	const struct submission submission = {
		.queue = queue,
		.file = file,
		.has_fd_in = args->flags & MSM_SUBMIT_FENCE_FD_IN,
		.has_fd_out = args->flags & MSM_SUBMIT_FENCE_FD_OUT,
		.fence_fd = &args->fence_fd,
		.number = &args->fence,
		.read = read_submission,
		.args = args,
	};
	int ret = -EINVAL;

	if (!queue) {
		return -ENOENT;
	}
	if (!(args->flags & MSM_SUBMIT_FENCE_SN_IN)) {
		args->fence = 0;
	}
	if (!queue->is_vm_bind &&
		!(args->flags & (MSM_SUBMIT_SYNCOBJ_IN | MSM_SUBMIT_SYNCOBJ_OUT))) {
		ret = submit(&submission);
	}
	gpu_queue_put(queue);
	return ret;
}

/* ---- VM_BIND ------------------------------------------------------------------------------ */

static int read_op(
	struct gpu_vm_op *op, struct drm_file *file, const struct drm_msm_vm_bind_op *said)
{
	struct drm_gem_object *object;
	int ret;

	if (said->op > MSM_VM_BIND_OP_MAP_NULL || said->pad ||
		(said->op != MSM_VM_BIND_OP_MAP && (said->handle || said->obj_offset))) {
		return -EINVAL;
	}
	if (said->op != MSM_VM_BIND_OP_MAP) {
		return gpu_vm_op_init(op, said, NULL);
	}
	object = drm_gem_object_lookup(file, said->handle);
	if (!object) {
		return -ENOENT;
	}
	ret = gpu_bo_pin(to_gpu_bo(object));
	if (ret == 0) {
		ret = gpu_vm_op_init(op, said, to_gpu_bo(object));
	}
	drm_gem_object_put(object);
	return ret;
}

static int read_ops(struct gpu_job *job, struct drm_file *file, const void *data)
{
	const struct drm_msm_vm_bind *args = data;
	struct drm_msm_vm_bind_op said;
	int ret = 0;
	u32 i;

	if (args->nr_ops == 0 || args->nr_ops > GPU_MAX_ENTRIES) {
		return -EINVAL;
	}
	job->ops = kvcalloc(args->nr_ops, sizeof(*job->ops), GFP_KERNEL);
	if (!job->ops) {
		return -ENOMEM;
	}
	for (i = 0; i < args->nr_ops && ret == 0; i++) {
		said = args->op;
		if (args->nr_ops > 1) {
			ret = copy_struct_from_user(&said, sizeof(said),
				u64_to_user_ptr(args->ops + (u64)i * args->op_stride),
				args->op_stride);
		}
		if (ret == 0) {
			ret = read_op(&job->ops[job->num_ops++], file, &said);
		}
	}
	return ret;
}

static int vm_bind(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_msm_vm_bind *args = data;
	struct gpu_queue *queue = gpu_file_queue(file->driver_priv, args->queue_id);
	u32 number = 0;
	const struct submission submission = {
		.queue = queue,
		.file = file,
		.has_fd_in = args->flags & MSM_VM_BIND_FENCE_FD_IN,
		.has_fd_out = args->flags & MSM_VM_BIND_FENCE_FD_OUT,
		.fence_fd = &args->fence_fd,
		.number = &number,
		.read = read_ops,
		.args = args,
	};
	int ret = -EINVAL;

	if (!queue) {
		return -ENOENT;
	}
	if (queue->is_vm_bind && args->nr_in_syncobjs == 0 && args->nr_out_syncobjs == 0) {
		ret = submit(&submission);
	}
	gpu_queue_put(queue);
	return ret;
}

const struct drm_ioctl_desc gpu_msm_ioctls[] = {
	DRM_IOCTL_DEF_DRV(MSM_GET_PARAM, get_param, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(MSM_SET_PARAM, set_param, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(MSM_GEM_NEW, gem_new, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(MSM_GEM_INFO, gem_info, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(MSM_GEM_CPU_PREP, gem_cpu_prep, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(MSM_GEM_CPU_FINI, gem_cpu_fini, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(MSM_GEM_SUBMIT, gem_submit, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(MSM_WAIT_FENCE, wait_fence, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(MSM_SUBMITQUEUE_NEW, submitqueue_new, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(MSM_SUBMITQUEUE_CLOSE, submitqueue_close, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(MSM_VM_BIND, vm_bind, DRM_RENDER_ALLOW),
};
const int gpu_msm_num_ioctls = ARRAY_SIZE(gpu_msm_ioctls);
