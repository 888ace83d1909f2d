/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef SOFT_GPU_SCHEDULE_H
#define SOFT_GPU_SCHEDULE_H

/*
 * What runs when on the software GPU: the rings' queues, what each job waits for, and which running
 * job is done next. It knows no threads and reads no clock. Its caller holds the GPU's lock.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vgfence/context_driver.h>

#include "address_space.h"
#include "command_stream.h"
#include "hash.h"
#include "queue.h"
#include "vgem_pool.h"

struct gpu_job;
struct gpu_ring;

/* One thing that a job waits for: another job here, or a descriptor. */
struct gpu_wait {
	LIST_ENTRY(gpu_wait) link; /* among the waiters of the other job */
	struct gpu_job *job;       /* which waits */
	int fd;                    /* our copy, watched by the epoll set; -1 if it is a job */
	bool timed; /* the fences are jobs of this GPU, which say when they were done */
};

struct gpu_job {
	STAILQ_ENTRY(gpu_job) link; /* in its ring's queue, later among the finished */
	LIST_ENTRY(gpu_job) by_id;  /* of a fenced one: among the jobs of its bucket */
	LIST_HEAD(, gpu_wait) waiters;
	struct gpu_ring *ring;
	struct vgf_fence_name fence;
	bool fenced;
	bool finished;
	int error;                   /* it does nothing and ends with that; or 0 */
	int out_fence_fd;            /* our end of it, or -1 */
	struct vgem_slot *out_slot;  /* or NULL */
	int in_fence_fd;             /* all of its in-fences in one, ours; or -1 */
	struct address_space *space; /* of its context; or NULL */
	struct bind_batch *batch;    /* what it binds; or NULL */
	struct command *commands;    /* what else it does; or NULL */
	uint32_t num_commands;
	uint64_t busy_ns;
	uint64_t earliest_ns; /* not to start before */
	uint64_t finish_ns;   /* of a running job: planned; of a finished one: real */
	uint32_t pending;     /* in-fences that have not signalled */
	uint32_t num_waits;
	struct gpu_wait waits[];
};

STAILQ_HEAD(gpu_job_queue, gpu_job);

struct gpu_context {
	LIST_ENTRY(gpu_context) link;
	uint64_t serial;
	bool is_open; /* more jobs may come */
	uint32_t num_jobs;
	uint32_t num_queued; /* of them on its rings: not finished */
	struct gpu_ring *rings[VGF_MAX_RINGS];
};

struct gpu_ring {
	struct gpu_context *context;
	struct gpu_job_queue queue;
	bool running;     /* the first one of the queue is; otherwise it waits */
	uint64_t free_ns; /* when the last one was done */
};

/* A power of two; look-ups walk a bucket, so it should not be far below the jobs there are. */
#define NUM_JOB_BUCKETS 4096

/* What a look-up walks at most. Only jobs whose fences have one ID fill a bucket with more. */
#define MAX_STEPS_IN_BUCKET 16

struct schedule {
	LIST_HEAD(, gpu_context) contexts;
	struct hash_key key;
	LIST_HEAD(gpu_job_bucket, gpu_job) jobs_by_id[NUM_JOB_BUCKETS];
	struct gpu_ring **running; /* a heap: the ring whose job is done first is on top */
	size_t num_running, num_rings, max_running;
	uint32_t num_jobs;
	uint32_t num_left;    /* of them on the rings of contexts that are closed */
	bool by_call;         /* no fence of a job has a descriptor */
	int epoll_fd;         /* borrowed; the descriptors that jobs wait for are put into it */
	uint32_t num_watched; /* descriptors in it */
	uint64_t num_drops;   /* of watched ones; each makes what epoll reported stale */
};

void schedule_init(struct schedule *schedule, int epoll_fd, bool by_call);
void schedule_finish(struct schedule *schedule);

/* Returns NULL if there is no memory. */
struct gpu_context *schedule_create_context(struct schedule *schedule, uint64_t serial);

/* No more jobs come to a context. It is freed with its last one. */
void schedule_close_context(struct schedule *schedule, struct gpu_context *context);

/* Makes a job that is on no ring yet. Returns NULL if there is no memory. */
struct gpu_job *gpu_job_create(const struct vgf_job *from);

/* Frees a job that is on no ring, and closes its descriptors. */
void gpu_job_destroy(struct gpu_job *job);

/* Puts a job on its ring, to start when it can. Returns 0; -ENOMEM, or an error of the in-fences:
 * the job is on no ring then. */
int schedule_submit(struct schedule *schedule, struct gpu_context *context, struct gpu_job *job,
	const struct vgf_job *from, uint64_t now);

/* When the next job is planned to be done; UINT64_MAX if none runs. */
uint64_t schedule_next_ns(const struct schedule *schedule);

/* Takes a job that is done by now off its ring, and starts what waited for it. Returns it, for
 * schedule_forget after its fence has signalled, or NULL. */
struct gpu_job *schedule_take_finished(struct schedule *schedule, uint64_t now);
void schedule_forget(struct schedule *schedule, struct gpu_job *job);

/* Whether a job is left that writes to memory; and that none of them does any more. */
bool schedule_has_writers(const struct schedule *schedule);
void schedule_stop_writers(struct schedule *schedule);

/* A watched descriptor has signalled. */
void schedule_wake(struct schedule *schedule, struct gpu_wait *wait, uint64_t now);

/* Of the contexts without a user the one that has most jobs left, if they have more than max
 * together; or NULL. */
struct gpu_context *schedule_find_left(const struct schedule *schedule, uint32_t max);

/* Finishes all jobs of a context, with an error, and appends them to `finished`. */
void schedule_end(struct schedule *schedule, struct gpu_context *context, int error, uint64_t now,
	struct gpu_job_queue *finished);

/* Drops all jobs of one context only, or with NULL of all of them. Jobs of other contexts that wait
 * for them wait no longer. */
void schedule_drop(struct schedule *schedule, struct gpu_context *only, uint64_t now);

#endif
