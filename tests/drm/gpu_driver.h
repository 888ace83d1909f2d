/* SPDX-License-Identifier: GPL-2.0 */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GPU_DRIVER_H
#define GPU_DRIVER_H

/*
 * A GPU made of software, as a DRM driver: what its files share. Each open file of the device has
 * an address space (VM) and queues; each queue has a worker, which executes one job after the
 * other.
 */

#include <linux/dma-fence.h>
#include <linux/iosys-map.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <drm/drm_gem_shmem_helper.h>
#include <drm/drm_syncobj.h>

#include "vgfence_gpu_drm.h"

#define GPU_PRIORITIES 3
#define GPU_MAX_ENTRIES 65536 /* of the lists of one call */
#define GPU_VA_START 0x10000000ull
#define GPU_VA_SIZE 0x1000000000ull

/* ---- Buffers (gpu_main.c) ----------------------------------------------------------------- */

struct gpu_bo {
	struct drm_gem_shmem_object base;
	struct iosys_map memory; /* once the GPU has seen it; until it is freed */
};

#define to_gpu_bo(object) container_of(to_drm_gem_shmem_obj(object), struct gpu_bo, base)

/* The new buffer, with a handle of the file's and a reference for the caller. */
struct gpu_bo *gpu_bo_create(struct drm_file *file, u64 size, u32 *handle);

/* For the GPU, which reads and writes without asking for memory. */
int gpu_bo_pin(struct gpu_bo *bo);

/* Waits until nobody writes to it. */
int gpu_bo_wait(struct drm_file *file, u32 handle, ktime_t deadline);

/* ---- Address spaces (gpu_vm.c) ------------------------------------------------------------ */

struct gpu_vm {
	struct kref references;
	struct rw_semaphore lock; /* of the mappings; nothing is allocated with it held */
	struct rb_root_cached mappings;
	unsigned int num_mappings;
	u64 next_address; /* of those that the kernel chooses */
	bool has_vm_bind;
	int error; /* of each further job, if the VM cannot be used any more */
};

struct gpu_mapping;

/* One change of an address space. The mappings that it needs are there before, and what it does not
 * need any more stays with it. */
struct gpu_vm_op {
	u32 op;
	struct gpu_bo *bo;
	u64 offset;
	u64 address;
	u64 size;
	struct gpu_mapping *spare[2];
	struct gpu_mapping *garbage;
};

struct gpu_vm *gpu_vm_create(void);
void gpu_vm_put(struct gpu_vm *vm);
void gpu_vm_mark_unusable(struct gpu_vm *vm, int error);

/* Takes what msm says, and a reference to the buffer. */
int gpu_vm_op_init(struct gpu_vm_op *op, const struct drm_msm_vm_bind_op *said, struct gpu_bo *bo);
void gpu_vm_op_finish(struct gpu_vm_op *op);

/* Allocates nothing. */
int gpu_vm_apply(struct gpu_vm *vm, struct gpu_vm_op *ops, unsigned int count);

/* Without VM_BIND: a buffer's address, which it gets if it has none yet. */
int gpu_vm_address(struct gpu_vm *vm, struct gpu_bo *bo, u64 *address);
void gpu_vm_forget(struct gpu_vm *vm, struct gpu_bo *bo);

/* ---- Commands (gpu_execute.c) ------------------------------------------------------------- */

/* Allocates nothing. -EFAULT for an address where nothing is, or a command that there is not. */
int gpu_execute(struct gpu_vm *vm, u64 address, u64 size);

/* ---- Queues and jobs (gpu_job.c) ---------------------------------------------------------- */

struct gpu_queue {
	struct kref references;
	struct gpu_vm *vm;
	struct workqueue_struct *worker;
	struct mutex lock; /* of the order of jobs */
	spinlock_t fence_lock;
	u64 context;
	u64 seqno;
	bool is_vm_bind;
	u32 number;      /* msm: of the newest job */
	u32 number_done; /* and of the newest that is done */
	wait_queue_head_t is_done;
};

struct gpu_commands {
	u64 address;
	u64 size;
};

struct gpu_job {
	struct work_struct work;
	struct work_struct cleanup;
	struct gpu_queue *queue;
	struct dma_fence *fence;
	u32 number;
	struct dma_fence **in_fences;
	unsigned int num_in_fences;
	struct gpu_commands *commands;
	unsigned int num_commands;
	struct gpu_vm_op *ops;
	unsigned int num_ops;
	struct drm_gem_object **bos;
	int num_bos;
	bool is_implicit; /* waits for those that use its buffers */
	bool wants_sync_file;
};

/* What becomes of a job that was pushed. */
struct gpu_pushed {
	struct dma_fence *fence; /* a reference for the caller */
	struct sync_file *sync_file;
	u32 number;
};

struct gpu_queue *gpu_queue_create(struct gpu_vm *vm, unsigned int priority);
void gpu_queue_put(struct gpu_queue *queue);

struct gpu_job *gpu_job_create(struct gpu_queue *queue);
void gpu_job_destroy(struct gpu_job *job); /* one that was not pushed; NULL is fine */
int gpu_job_add_in_fence(struct gpu_job *job, struct dma_fence *fence_take);
int gpu_job_add_bos(struct gpu_job *job, struct drm_file *file, const u32 *handles, u32 count);

/* The job belongs to the queue's worker afterwards, unless that fails. The caller has a reference
 * to the queue. */
int gpu_job_push(struct gpu_job *job, struct gpu_pushed *pushed);

/* ---- The two faces (gpu_panfrost.c, gpu_msm.c) -------------------------------------------- */

struct gpu_file {
	struct gpu_vm *vm;
	struct xarray queues;
};

int gpu_file_add_queue(struct gpu_file *file, unsigned int priority, bool is_vm_bind, u32 *id);
struct gpu_queue *gpu_file_queue(struct gpu_file *file, u32 id); /* with a reference */

extern const struct drm_ioctl_desc gpu_panfrost_ioctls[];
extern const int gpu_panfrost_num_ioctls;
extern const struct drm_ioctl_desc gpu_msm_ioctls[];
extern const int gpu_msm_num_ioctls;

#endif
