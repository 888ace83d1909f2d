// SPDX-License-Identifier: GPL-2.0
/* Copyright (c) 2026 The vgfence authors */

/*
 * Queues and their jobs. A job waits for its in-fences, is executed, and signals its fence. From
 * the moment when its fence can be seen it needs no memory: all of it is there before, and what a
 * job leaves is freed by another worker, for which no fence waits.
 */

#include <linux/dma-resv.h>
#include <linux/slab.h>
#include <linux/sync_file.h>

#include <drm/drm_gem.h>

#include "gpu_driver.h"

/* ---- Fences ------------------------------------------------------------------------------- */

static const char *driver_name(struct dma_fence *fence)
{
	return "vgfence-gpu";
}

static const char *timeline_name(struct dma_fence *fence)
{
	return "queue";
}

static const struct dma_fence_ops fence_ops = {
	.get_driver_name = driver_name,
	.get_timeline_name = timeline_name,
};

/* ---- Queues ------------------------------------------------------------------------------- */

struct gpu_queue *gpu_queue_create(struct gpu_vm *vm, unsigned int priority)
{
	struct gpu_queue *queue = kzalloc(sizeof(*queue), GFP_KERNEL);

	if (!queue) {
		return NULL;
	}
	/* WQ_MEM_RECLAIM: it goes on if there is no memory for another thread. */
	queue->worker = alloc_ordered_workqueue(
		"vgfence-gpu", WQ_MEM_RECLAIM | (priority == 0 ? WQ_HIGHPRI : 0));
	if (!queue->worker) {
		kfree(queue);
		return NULL;
	}
	kref_init(&queue->references);
	kref_get(&vm->references);
	queue->vm = vm;
	mutex_init(&queue->lock);
	spin_lock_init(&queue->fence_lock);
	init_waitqueue_head(&queue->is_done);
	queue->context = dma_fence_context_alloc(1);
	return queue;
}

/* Never in its own worker. Its fences outlive it, so they have locks of their own. */
static void destroy_queue(struct kref *references)
{
	struct gpu_queue *queue = container_of(references, struct gpu_queue, references);

	destroy_workqueue(queue->worker);
	gpu_vm_put(queue->vm);
	mutex_destroy(&queue->lock);
	kfree(queue);
}

void gpu_queue_put(struct gpu_queue *queue)
{
	kref_put(&queue->references, destroy_queue);
}

/* ---- A job is executed -------------------------------------------------------------------- */

static int execute(struct gpu_job *job)
{
	struct gpu_vm *vm = job->queue->vm;
	unsigned int i;
	int ret = READ_ONCE(vm->error);

	if (ret == 0) {
		ret = gpu_vm_apply(vm, job->ops, job->num_ops);
	}
	for (i = 0; i < job->num_commands && ret == 0; i++) {
		ret = gpu_execute(vm, job->commands[i].address, job->commands[i].size);
	}
	if (ret && vm->has_vm_bind) {
		gpu_vm_mark_unusable(vm, -EPIPE);
	}
	return ret;
}

/* What an in-fence waited for may have failed: that is for its user to know. */
static void run_job(struct work_struct *work)
{
	struct gpu_job *job = container_of(work, struct gpu_job, work);
	bool cookie = dma_fence_begin_signalling();
	unsigned int i;
	int ret;

	for (i = 0; i < job->num_in_fences; i++) {
		dma_fence_wait(job->in_fences[i], false);
	}
	ret = execute(job);
	if (ret) {
		dma_fence_set_error(job->fence, ret);
	}
	WRITE_ONCE(job->queue->number_done, job->number);
	dma_fence_signal(job->fence);
	dma_fence_end_signalling(cookie);
	wake_up_all(&job->queue->is_done);
	queue_work(system_unbound_wq, &job->cleanup);
}

/* ---- Jobs --------------------------------------------------------------------------------- */

static void clean_up_job(struct work_struct *cleanup)
{
	gpu_job_destroy(container_of(cleanup, struct gpu_job, cleanup));
}

struct gpu_job *gpu_job_create(struct gpu_queue *queue)
{
	struct gpu_job *job = kzalloc(sizeof(*job), GFP_KERNEL);

	if (!job) {
		return NULL;
	}
	INIT_WORK(&job->work, run_job);
	INIT_WORK(&job->cleanup, clean_up_job);
	kref_get(&queue->references);
	job->queue = queue;
	return job;
}

void gpu_job_destroy(struct gpu_job *job)
{
	unsigned int i;

	if (!job) {
		return;
	}
	for (i = 0; i < job->num_in_fences; i++) {
		dma_fence_put(job->in_fences[i]);
	}
	for (i = 0; i < job->num_ops; i++) {
		gpu_vm_op_finish(&job->ops[i]);
	}
	for (i = 0; i < job->num_bos; i++) {
		drm_gem_object_put(job->bos[i]);
	}
	dma_fence_put(job->fence);
	kvfree(job->in_fences);
	kvfree(job->ops);
	kvfree(job->commands);
	kvfree(job->bos);
	gpu_queue_put(job->queue);
	kfree(job);
}

int gpu_job_add_in_fence(struct gpu_job *job, struct dma_fence *fence)
{
	size_t size = (job->num_in_fences + 1) * sizeof(*job->in_fences);
	struct dma_fence **in_fences = krealloc(job->in_fences, size, GFP_KERNEL);

	if (!in_fences) {
		dma_fence_put(fence);
		return -ENOMEM;
	}
	job->in_fences = in_fences;
	in_fences[job->num_in_fences++] = fence;
	return 0;
}

int gpu_job_add_bos(struct gpu_job *job, struct drm_file *file, const u32 *handles, u32 count)
{
	u32 i;

	job->bos = kvcalloc(count, sizeof(*job->bos), GFP_KERNEL);
	if (!job->bos) {
		return -ENOMEM;
	}
	for (i = 0; i < count; i++) {
		job->bos[i] = drm_gem_object_lookup(file, handles[i]);
		if (!job->bos[i]) {
			return -ENOENT;
		}
		job->num_bos++;
	}
	return 0;
}

/* ---- Pushing ------------------------------------------------------------------------------ */

/* With the buffers locked: room for the job's fence, and those of others if it is to wait. */
static int prepare_bos(struct gpu_job *job)
{
	struct dma_fence *fence;
	int i, ret = 0;

	for (i = 0; i < job->num_bos && ret == 0; i++) {
		struct dma_resv *resv = job->bos[i]->resv;

		ret = dma_resv_reserve_fences(resv, 1);
		if (ret == 0 && job->is_implicit) {
			ret = dma_resv_get_singleton(resv, DMA_RESV_USAGE_READ, &fence);
		}
		if (ret == 0 && job->is_implicit && fence) {
			ret = gpu_job_add_in_fence(job, fence);
		}
	}
	return ret;
}

static struct dma_fence *make_fence(struct gpu_queue *queue)
{
	struct dma_fence *fence = kzalloc(sizeof(*fence) + sizeof(spinlock_t), GFP_KERNEL);
	spinlock_t *lock = (spinlock_t *)(fence + 1);

	if (fence) {
		spin_lock_init(lock);
		dma_fence_init(fence, &fence_ops, lock, queue->context, queue->seqno + 1);
	}
	return fence;
}

/* With buffers and queue locked: from here on it cannot fail. */
static int make_visible(struct gpu_job *job, struct gpu_pushed *pushed)
{
	struct gpu_queue *queue = job->queue;
	int i;

	job->fence = make_fence(queue);
	if (!job->fence) {
		return -ENOMEM;
	}
	if (job->wants_sync_file) {
		pushed->sync_file = sync_file_create(job->fence);
		if (!pushed->sync_file) {
			return -ENOMEM;
		}
	}
	if (job->number == 0) {
		job->number = queue->number + 1;
	}
	queue->number = job->number;
	queue->seqno++;
	pushed->number = job->number;
	pushed->fence = dma_fence_get(job->fence);
	for (i = 0; i < job->num_bos; i++) {
		dma_resv_add_fence(job->bos[i]->resv, job->fence, DMA_RESV_USAGE_WRITE);
	}
	return 0;
}

/* The queue's lock keeps jobs in the order of their fences. */
int gpu_job_push(struct gpu_job *job, struct gpu_pushed *pushed)
{
	struct gpu_queue *queue = job->queue;
	struct ww_acquire_ctx ticket;
	int ret;

	if (job->num_bos > 0) {
		ret = drm_gem_lock_reservations(job->bos, job->num_bos, &ticket);
		if (ret) {
			return ret;
		}
	}
	mutex_lock(&queue->lock);
	ret = prepare_bos(job);
	if (ret == 0) {
		ret = make_visible(job, pushed);
	}
	if (job->num_bos > 0) {
		drm_gem_unlock_reservations(job->bos, job->num_bos, &ticket);
	}
	if (ret == 0) {
		queue_work(queue->worker, &job->work);
	}
	mutex_unlock(&queue->lock);
	return ret;
}
