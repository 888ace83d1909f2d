/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SOFT_GPU_H
#define SOFT_GPU_H

/*
 * A GPU in software: a context driver for demonstrations, benchmarks and tests. It draws nothing.
 * Its rings keep busy for as long as the command streams say, and signal fences when they are done.
 *
 * Jobs are command streams (command_stream.h): they keep their ring busy for a time, and then do
 * something to memory. Jobs of one context and ring run one after the other, rings run in
 * parallel; the global timeline's work runs on ring 0. Binds are jobs like any other: one that
 * waits keeps no other ring waiting.
 *
 * A guest that reads back what jobs have done can tell whether a fence came early: all that a job
 * does is done, in its order, when its time is over and before its fence signals. What cannot be
 * done ends the job, with the error for its fence. That is all, if it is a store. If it is a GPU
 * address where nothing is mapped, the addresses of that context are unusable: its jobs do nothing
 * any more, and end with -EPIPE. A batch of binds is refused, or done as a whole.
 *
 * It is honest. A job starts when its ring is free, its in-fences have signalled and it was
 * submitted, whichever is last, and from then on takes at least its time. If the machine runs the
 * GPU's thread late, the job is late too, and all that depends on it.
 *
 * Every function may be called from any thread, but no observer may call back. Errors are negative
 * errno values.
 */

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vgfence/context_driver.h>

#include "address_space.h"
#include "command_stream.h"

#define SOFT_GPU_DEFAULT_MAX_JOBS 65536

/* How the out-fence of a job is signalled. */
enum soft_gpu_fences {
	SOFT_GPU_FENCES_EVENTFD, /* a descriptor */
	SOFT_GPU_FENCES_CALL,    /* vgf_fence_signal, from the GPU's thread, which costs least */
	/*
	 * A sync file, of vgem. With VGF_WAIT_DRIVER the sync files that a job waits for become one
	 * in the kernel, and the job waits for that, even if all are fences of this GPU. The kernel
	 * ends a vgem fence after 10 s, done or not: jobs must not take that long.
	 */
	SOFT_GPU_FENCES_VGEM,
};

/* These functions are called for what the GPU does. Each may be NULL. */
struct soft_gpu_observer {
	/* A job was taken, at t_ns. With the GPU's lock held: must not call it, nor wait. */
	void (*run)(void *data, const struct vgf_job *job, uint64_t t_ns);
	/* A job was done at t_ns, and its fence signals next. From the GPU's thread. */
	void (*signal)(void *data, const struct vgf_fence_name *fence, uint64_t t_ns);
	void *data;
	/* Around all that a submission is to the thread that makes it. */
	void (*enter)(void *data);
	void (*leave)(void *data);
};

struct soft_gpu_options {
	enum soft_gpu_fences fences;
	/* VGF_WAIT_DRIVER: takes in-fences as descriptors, or of its own jobs by name, and waits.
	 * VGF_WAIT_HOST: takes none. */
	enum vgf_wait wait;
	struct soft_gpu_observer observer;
	/* At once, or submit returns -ENOSPC: in all, and of one context. 0 means
	 * SOFT_GPU_DEFAULT_MAX_JOBS, and as many as in all. Destroyed contexts leave no more
	 * together than one may have: all jobs of the one that has most left end then, undone, with
	 * -ECANCELED. */
	uint32_t max_jobs, max_context_jobs;
	/*
	 * CPUs that nothing else of this process runs on, or NULL. The thread goes there with
	 * realtime priority, if that is allowed, so that nothing delays it, and stays awake a
	 * little between jobs. It then takes as much of the CPU as there is work, but for a moment
	 * in 10 ms. With NULL it runs like any other thread, and sleeps until a job is done, so
	 * that it keeps nobody waiting; jobs end as late as the kernel's timers are, some 50 us.
	 */
	const cpu_set_t *own_cpus;
	/*
	 * Makes a store, from the GPU's thread, without its lock; not once soft_gpu_reset has
	 * returned. serial: of the job's context. Returns 0 or a negative errno value. NULL: jobs
	 * do nothing to memory.
	 */
	int (*store)(
		void *data, uint64_t serial, uint32_t resource_id, uint32_t offset, uint32_t value);
	void *store_data;
	/* Memory for GPU addresses, with store_data. NULL: nothing is done there. How much can be
	 * mapped: max_mappings in all, of which a context can have max_context_mappings; a bind
	 * counts twice until it is done. */
	const struct address_memory_ops *memory;
	uint32_t max_mappings, max_context_mappings;
};

struct soft_gpu;

/* Makes a GPU, and its thread. device: whose contexts it drives; must outlive the GPU's last job.
 * Returns 0, -EINVAL, -ENOMEM, -EMFILE, -ENFILE or -EAGAIN (no thread); with SOFT_GPU_FENCES_VGEM
 * also -ENOENT if the kernel has no vgem. */
int soft_gpu_create(
	struct vgf_device *device, const struct soft_gpu_options *options, struct soft_gpu **gpu);

/*
 * Makes a context on the device that this GPU drives: vgf_context_create. It has rings of its own,
 * also if work of a destroyed one with its ID still runs; its fences retire behind that work's.
 * serial: by which soft_gpu_options.store and .memory know it, who must not take it for that one.
 * Returns 0, -ENOMEM, or what vgf_context_create returned.
 */
int soft_gpu_context_create(struct soft_gpu *gpu, uint32_t ctx_id, uint64_t serial);

/*
 * Drops all work, and signals none of it any more once this returns. To be called before the device
 * is reset or destroyed: that cancels the contexts that are left, but work of contexts that were
 * destroyed before may still run, and would signal fences that are no more.
 */
void soft_gpu_reset(struct soft_gpu *gpu);

/*
 * Signals the fences of vgem whose work was dropped: others may have their sync files, and the
 * kernel keeps a fence until it is signalled. To be called once the device is reset, so that none
 * retires as if its work were done.
 */
void soft_gpu_signal_dropped(struct soft_gpu *gpu);

/* Stops the thread and frees everything. All contexts must be gone: vgf_device_destroy comes first,
 * and soft_gpu_reset before that. NULL is fine. */
void soft_gpu_destroy(struct soft_gpu *gpu);

/*
 * Whether a job is left that writes to memory; and that none of them does any more: what is left
 * ends in its time, and binds. From the thread that submits.
 */
bool soft_gpu_is_writing(struct soft_gpu *gpu);
void soft_gpu_stop_writing(struct soft_gpu *gpu);

/* How many fences of vgem the kernel has ended before their job was done. */
uint32_t soft_gpu_num_expired(struct soft_gpu *gpu);

/* How long a command stream keeps its ring busy. Returns 0, or what command_stream_read does. */
int soft_gpu_busy_time(const void *command, size_t size, uint64_t *busy_ns);

#endif
