/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "soft_gpu_schedule.h"

/* ---- Running jobs: a binary heap of rings, the next to be done on top ---------------------- */

static uint64_t ring_finish_ns(const struct gpu_ring *ring)
{
	return STAILQ_FIRST(&ring->queue)->finish_ns;
}

static void heap_sift_up(struct schedule *schedule, size_t at)
{
	struct gpu_ring **heap = schedule->running;
	struct gpu_ring *ring = heap[at];

	while (at > 0 && ring_finish_ns(ring) < ring_finish_ns(heap[(at - 1) / 2])) {
		heap[at] = heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	heap[at] = ring;
}

static void heap_sift_down(struct schedule *schedule, size_t at)
{
	struct gpu_ring **heap = schedule->running;
	struct gpu_ring *ring = heap[at];

	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < schedule->num_running &&
			ring_finish_ns(heap[child + 1]) < ring_finish_ns(heap[child])) {
			child++;
		}
		if (child >= schedule->num_running ||
			ring_finish_ns(heap[child]) >= ring_finish_ns(ring)) {
			break;
		}
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = ring;
}

/* Each ring is in the heap at most once, so that schedule_get_ring can make room ahead. */
static void heap_push(struct schedule *schedule, struct gpu_ring *ring)
{
	assert(schedule->num_running < schedule->max_running);
	ring->running = true;
	schedule->running[schedule->num_running++] = ring;
	heap_sift_up(schedule, schedule->num_running - 1);
}

static struct gpu_ring *heap_pop(struct schedule *schedule)
{
	struct gpu_ring *top = schedule->running[0];

	top->running = false;
	schedule->running[0] = schedule->running[--schedule->num_running];
	if (schedule->num_running > 0) {
		heap_sift_down(schedule, 0);
	}
	return top;
}

/* Takes out the rings of a context, or all if that is NULL. */
static void heap_remove(struct schedule *schedule, const struct gpu_context *context)
{
	size_t left = 0;

	for (size_t i = 0; i < schedule->num_running; i++) {
		struct gpu_ring *ring = schedule->running[i];

		if (context != NULL && ring->context != context) {
			schedule->running[left++] = ring;
		} else {
			ring->running = false;
		}
	}
	schedule->num_running = left;
	for (size_t i = left / 2; i-- > 0;) {
		heap_sift_down(schedule, i);
	}
}

/* ---- Contexts and rings --------------------------------------------------------------------- */

void schedule_init(struct schedule *schedule, int epoll_fd, bool by_call)
{
	*schedule = (struct schedule){ .epoll_fd = epoll_fd, .by_call = by_call };
	hash_key_init(&schedule->key);
}

void schedule_finish(struct schedule *schedule)
{
	assert(schedule->num_jobs == 0);
	assert(LIST_EMPTY(&schedule->contexts));
	free(schedule->running);
}

struct gpu_context *schedule_create_context(struct schedule *schedule, uint64_t serial)
{
	struct gpu_context *context = calloc(1, sizeof(*context));

	if (context != NULL) {
		context->serial = serial;
		context->is_open = true;
		LIST_INSERT_HEAD(&schedule->contexts, context, link);
	}
	return context;
}

static void context_free_unused(struct schedule *schedule, struct gpu_context *context)
{
	if (context->is_open || context->num_jobs > 0) {
		return;
	}
	for (size_t i = 0; i < VGF_MAX_RINGS; i++) {
		if (context->rings[i] != NULL) {
			free(context->rings[i]);
			schedule->num_rings--;
		}
	}
	LIST_REMOVE(context, link);
	free(context);
}

void schedule_close_context(struct schedule *schedule, struct gpu_context *context)
{
	context->is_open = false;
	schedule->num_left += context->num_queued;
	context_free_unused(schedule, context);
}

/* Makes room in the heap for one ring more, so that starting a job never fails. */
static int reserve_running(struct schedule *schedule)
{
	size_t room = schedule->max_running > 0 ? 2 * schedule->max_running : 64;
	struct gpu_ring **running;

	if (schedule->num_rings < schedule->max_running) {
		return 0;
	}
	running = reallocarray(schedule->running, room, sizeof(struct gpu_ring *));
	if (running == NULL) {
		return -ENOMEM;
	}
	schedule->running = running;
	schedule->max_running = room;
	return 0;
}

static struct gpu_ring *get_ring(
	struct schedule *schedule, struct gpu_context *context, int32_t index)
{
	struct gpu_ring **ring = &context->rings[index == VGF_RING_GLOBAL ? 0 : index];

	if (*ring != NULL) {
		return *ring;
	}
	if (reserve_running(schedule) < 0) {
		return NULL;
	}
	*ring = calloc(1, sizeof(**ring));
	if (*ring != NULL) {
		(*ring)->context = context;
		STAILQ_INIT(&(*ring)->queue);
		schedule->num_rings++;
	}
	return *ring;
}

/* Starts the ring's next job if the ring is free and the job waits for nothing. */
static void ring_start(struct schedule *schedule, struct gpu_ring *ring)
{
	struct gpu_job *job = STAILQ_FIRST(&ring->queue);

	if (ring->running || job == NULL || job->pending > 0) {
		return;
	}
	job->finish_ns = (job->earliest_ns > ring->free_ns ? job->earliest_ns : ring->free_ns) +
		job->busy_ns;
	heap_push(schedule, ring);
}

/* ---- In-fences ------------------------------------------------------------------------------ */

/* One in-fence of a job has signalled, at signal_ns. */
static void job_in_fence_signalled(
	struct schedule *schedule, struct gpu_job *job, uint64_t signal_ns)
{
	assert(job != NULL && job->pending > 0);
	if (signal_ns > job->earliest_ns) {
		job->earliest_ns = signal_ns;
	}
	job->pending--;
	ring_start(schedule, job->ring);
}

static void unwatch(struct schedule *schedule, struct gpu_wait *wait)
{
	/* Closing is not enough: the file is still open elsewhere, and epoll goes by the file. */
	epoll_ctl(schedule->epoll_fd, EPOLL_CTL_DEL, wait->fd, NULL);
	close(wait->fd);
	wait->fd = -1;
	schedule->num_watched--;
}

static bool has_signalled(int fence_fd)
{
	struct pollfd poll_fd = { .fd = fence_fd, .events = POLLIN };

	return poll(&poll_fd, 1, 0) == 1;
}

/* Waits for a descriptor, which belongs to the wait from then on, also if this fails. */
static int watch_take(struct schedule *schedule, struct gpu_wait *wait, int fence_fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = wait };

	if (epoll_ctl(schedule->epoll_fd, EPOLL_CTL_ADD, fence_fd, &event) < 0) {
		int error = -errno;

		close(fence_fd);
		return error;
	}
	wait->fd = fence_fd;
	schedule->num_watched++;
	return 0;
}

/* Waits for a fence from elsewhere. Returns 1, 0 if it has signalled, or an error. */
static int watch(struct schedule *schedule, struct gpu_wait *wait, int fence_fd)
{
	int copy, ret;

	if (has_signalled(fence_fd)) {
		return 0;
	}
	copy = fcntl(fence_fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0) {
		return -errno;
	}
	ret = watch_take(schedule, wait, copy);
	return ret < 0 ? ret : 1;
}

static struct gpu_job_bucket *job_bucket(struct schedule *schedule, uint64_t fence_id)
{
	return &schedule->jobs_by_id[hash(&schedule->key, fence_id) % NUM_JOB_BUCKETS];
}

/* The job here whose out-fence this is. NULL if there is none, if that would take long to find out,
 * or if the ID alone does not say which: the descriptor does. */
static struct gpu_job *find_job_by_id(struct schedule *schedule, uint64_t fence_id)
{
	struct gpu_job *job, *found = NULL;
	unsigned int steps = 0;

	LIST_FOREACH(job, job_bucket(schedule, fence_id), by_id) {
		bool is_second = found != NULL && job->fence.fence_id == fence_id;

		if (is_second || steps++ == MAX_STEPS_IN_BUCKET) {
			return NULL;
		}
		if (job->fence.fence_id == fence_id) {
			found = job;
		}
	}
	return found;
}

static bool is_of_fence(const struct gpu_job *job, const struct vgf_fence_name *name)
{
	return job->fence.fence_id == name->fence_id && job->fence.ring == name->ring &&
		(name->ring == VGF_RING_GLOBAL || job->fence.ctx_id == name->ctx_id);
}

/* *found is NULL if there is none: it is done. 0, or -EOPNOTSUPP if that would take long to find
 * out. */
static int find_job(
	struct schedule *schedule, const struct vgf_fence_name *name, struct gpu_job **found)
{
	unsigned int steps = 0;
	struct gpu_job *job;

	*found = NULL;
	LIST_FOREACH(job, job_bucket(schedule, name->fence_id), by_id) {
		if (is_of_fence(job, name)) {
			*found = job;
			return 0;
		}
		if (steps++ == MAX_STEPS_IN_BUCKET) {
			return -EOPNOTSUPP;
		}
	}
	return 0;
}

static struct gpu_wait *prepare_wait(struct gpu_job *job)
{
	struct gpu_wait *wait = &job->waits[job->num_waits];

	*wait = (struct gpu_wait){ .job = job, .fd = -1 };
	return wait;
}

static void add_wait(struct gpu_job *job)
{
	job->num_waits++;
	job->pending++;
}

/*
 * A GPU's own semaphores need no detour over descriptors and threads: a job that waits for another
 * one here starts in the moment that one is done.
 */
static void add_producer(struct gpu_job *job, struct gpu_job *producer)
{
	if (!producer->finished) {
		struct gpu_wait *wait = prepare_wait(job);

		LIST_INSERT_HEAD(&producer->waiters, wait, link);
		add_wait(job);
	}
}

/* Returns whether the fence is of a job here. */
static bool add_producer_by_id(struct schedule *schedule, struct gpu_job *job, uint64_t fence_id)
{
	struct gpu_job *producer = schedule->by_call ? NULL : find_job_by_id(schedule, fence_id);

	if (producer != NULL) {
		add_producer(job, producer);
	}
	return producer != NULL;
}

/* What has no descriptor, as the GPU signals it by call. 0 or -EOPNOTSUPP. */
static int add_family(struct schedule *schedule, struct gpu_job *job, const struct vgf_job *from)
{
	for (uint32_t i = 0; i < from->num_family_fences; i++) {
		struct gpu_job *producer;
		int ret = find_job(schedule, &from->family_fences[i], &producer);

		if (ret < 0) {
			return ret;
		}
		if (producer != NULL) {
			add_producer(job, producer);
		}
	}
	return 0;
}

/* Each for itself. */
static int add_in_fences(struct schedule *schedule, struct gpu_job *job, const struct vgf_job *from)
{
	for (uint32_t i = 0; i < from->num_in_fences; i++) {
		if (!add_producer_by_id(schedule, job, from->in_fences[i].fence_id)) {
			int ret = watch(schedule, prepare_wait(job), from->in_fences[i].fd);

			if (ret < 0) {
				return ret;
			}
			if (ret > 0) {
				add_wait(job);
			}
		}
	}
	return 0;
}

/*
 * All in one descriptor. If it stands for jobs of this GPU only, the job starts when the last of
 * them is done, not when the thread sees the descriptor.
 */
static int add_merged_in_fences(
	struct schedule *schedule, struct gpu_job *job, const struct vgf_job *from)
{
	struct gpu_wait *wait;
	bool timed = true;
	int fence_fd = job->in_fence_fd, ret;

	for (uint32_t i = 0; i < from->num_in_fences; i++) {
		timed = add_producer_by_id(schedule, job, from->in_fences[i].fence_id) && timed;
	}
	job->in_fence_fd = -1;
	if (has_signalled(fence_fd)) {
		close(fence_fd);
		return 0;
	}
	wait = prepare_wait(job);
	wait->timed = timed;
	ret = watch_take(schedule, wait, fence_fd);
	if (ret == 0) {
		add_wait(job);
	}
	return ret;
}

/* Waits no more for those in-fences that have not signalled. */
static void remove_in_fences(struct schedule *schedule, struct gpu_job *job)
{
	for (uint32_t i = 0; i < job->num_waits; i++) {
		struct gpu_wait *wait = &job->waits[i];

		if (wait->fd >= 0) {
			unwatch(schedule, wait);
			schedule->num_drops++;
		} else if (wait->job != NULL) {
			LIST_REMOVE(wait, link);
		}
	}
	job->num_waits = 0;
	job->pending = 0;
}

void schedule_wake(struct schedule *schedule, struct gpu_wait *wait, uint64_t now)
{
	struct gpu_job *job = wait->job;

	unwatch(schedule, wait);
	wait->job = NULL;
	job_in_fence_signalled(schedule, job, wait->timed ? 0 : now);
}

/* The jobs that wait for this one wait no longer. */
static void release_waiters(struct schedule *schedule, struct gpu_job *job, uint64_t now)
{
	struct gpu_wait *wait;

	while ((wait = LIST_FIRST(&job->waiters)) != NULL) {
		struct gpu_job *waiter = wait->job;

		LIST_REMOVE(wait, link);
		wait->job = NULL;
		job_in_fence_signalled(schedule, waiter, now);
	}
}

/* ---- Jobs ----------------------------------------------------------------------------------- */

struct gpu_job *gpu_job_create(const struct vgf_job *from)
{
	/* One for each in-fence, and one for all that have descriptors. */
	size_t max_waits = (size_t)from->num_in_fences + from->num_family_fences + 1;
	struct gpu_job *job = calloc(1, sizeof(*job) + max_waits * sizeof(job->waits[0]));

	if (job != NULL) {
		job->fence = from->fence;
		job->fenced = (from->flags & VGF_FENCED) != 0;
		job->out_fence_fd = -1;
		job->in_fence_fd = -1;
	}
	return job;
}

void gpu_job_destroy(struct gpu_job *job)
{
	if (job->out_fence_fd >= 0) {
		close(job->out_fence_fd);
	}
	if (job->out_slot != NULL) {
		vgem_slot_put(job->out_slot);
	}
	if (job->in_fence_fd >= 0) {
		close(job->in_fence_fd);
	}
	bind_batch_destroy(job->batch);
	address_space_put(job->space);
	free(job->commands);
	free(job);
}

int schedule_submit(struct schedule *schedule, struct gpu_context *context, struct gpu_job *job,
	const struct vgf_job *from, uint64_t now)
{
	int ret;

	job->ring = get_ring(schedule, context, from->fence.ring);
	if (job->ring == NULL) {
		return -ENOMEM;
	}
	ret = job->in_fence_fd >= 0 ? add_merged_in_fences(schedule, job, from) :
				      add_in_fences(schedule, job, from);
	if (ret == 0) {
		ret = add_family(schedule, job, from);
	}
	if (ret < 0) {
		remove_in_fences(schedule, job);
		return ret;
	}
	job->earliest_ns = now;
	if (job->fenced) {
		LIST_INSERT_HEAD(job_bucket(schedule, job->fence.fence_id), job, by_id);
	}
	STAILQ_INSERT_TAIL(&job->ring->queue, job, link);
	context->num_jobs++;
	context->num_queued++;
	schedule->num_jobs++;
	ring_start(schedule, job->ring);
	return 0;
}

uint64_t schedule_next_ns(const struct schedule *schedule)
{
	return schedule->num_running > 0 ? ring_finish_ns(schedule->running[0]) : UINT64_MAX;
}

static void leave_rings(struct schedule *schedule, struct gpu_context *context, uint32_t count)
{
	context->num_queued -= count;
	if (!context->is_open) {
		schedule->num_left -= count;
	}
}

struct gpu_job *schedule_take_finished(struct schedule *schedule, uint64_t now)
{
	struct gpu_ring *ring;
	struct gpu_job *job;

	if (schedule_next_ns(schedule) > now) {
		return NULL;
	}
	ring = heap_pop(schedule);
	job = STAILQ_FIRST(&ring->queue);
	STAILQ_REMOVE_HEAD(&ring->queue, link);
	leave_rings(schedule, ring->context, 1);
	/* The real time, not the planned one: what a late thread lost is lost. */
	job->finish_ns = now;
	job->finished = true;
	ring->free_ns = now;
	release_waiters(schedule, job, now);
	ring_start(schedule, ring);
	return job;
}

void schedule_forget(struct schedule *schedule, struct gpu_job *job)
{
	struct gpu_context *context = job->ring->context;

	if (job->fenced) {
		LIST_REMOVE(job, by_id);
	}
	context->num_jobs--;
	schedule->num_jobs--;
	context_free_unused(schedule, context);
	gpu_job_destroy(job);
}

/* Moves the jobs of a context's rings to `dropped`. */
static void empty_rings(
	struct schedule *schedule, struct gpu_context *context, struct gpu_job_queue *dropped)
{
	leave_rings(schedule, context, context->num_queued);
	for (size_t i = 0; i < VGF_MAX_RINGS; i++) {
		if (context->rings[i] != NULL) {
			STAILQ_CONCAT(dropped, &context->rings[i]->queue);
		}
	}
}

struct gpu_context *schedule_find_left(const struct schedule *schedule, uint32_t max)
{
	struct gpu_context *context, *most = NULL;

	if (schedule->num_left <= max) {
		return NULL;
	}
	LIST_FOREACH(context, &schedule->contexts, link) {
		if (!context->is_open && (most == NULL || context->num_queued > most->num_queued)) {
			most = context;
		}
	}
	return most;
}

void schedule_end(struct schedule *schedule, struct gpu_context *context, int error, uint64_t now,
	struct gpu_job_queue *finished)
{
	struct gpu_job_queue ended;
	struct gpu_job *job;

	STAILQ_INIT(&ended);
	heap_remove(schedule, context);
	empty_rings(schedule, context, &ended);
	STAILQ_FOREACH(job, &ended, link) {
		remove_in_fences(schedule, job);
		job->error = error;
		job->finish_ns = now;
		job->finished = true;
		release_waiters(schedule, job, now);
	}
	STAILQ_CONCAT(finished, &ended);
}

void schedule_drop(struct schedule *schedule, struct gpu_context *only, uint64_t now)
{
	struct gpu_job_queue dropped;
	struct gpu_context *context;
	struct gpu_job *job;

	STAILQ_INIT(&dropped);
	heap_remove(schedule, only);
	if (only != NULL) {
		empty_rings(schedule, only, &dropped);
	} else {
		LIST_FOREACH(context, &schedule->contexts, link) {
			empty_rings(schedule, context, &dropped);
		}
	}
	while ((job = STAILQ_FIRST(&dropped)) != NULL) {
		STAILQ_REMOVE_HEAD(&dropped, link);
		remove_in_fences(schedule, job);
		release_waiters(schedule, job, now);
		schedule_forget(schedule, job);
	}
}

static bool ring_has_writers(const struct gpu_ring *ring)
{
	const struct gpu_job *job;

	STAILQ_FOREACH(job, &ring->queue, link) {
		if (job->num_commands > 0) {
			return true;
		}
	}
	return false;
}

bool schedule_has_writers(const struct schedule *schedule)
{
	const struct gpu_context *context;

	LIST_FOREACH(context, &schedule->contexts, link) {
		for (size_t i = 0; i < VGF_MAX_RINGS; i++) {
			if (context->rings[i] != NULL && ring_has_writers(context->rings[i])) {
				return true;
			}
		}
	}
	return false;
}

static void stop_ring_writers(const struct gpu_ring *ring)
{
	struct gpu_job *job;

	STAILQ_FOREACH(job, &ring->queue, link) {
		job->num_commands = 0;
	}
}

void schedule_stop_writers(struct schedule *schedule)
{
	const struct gpu_context *context;

	LIST_FOREACH(context, &schedule->contexts, link) {
		for (size_t i = 0; i < VGF_MAX_RINGS; i++) {
			if (context->rings[i] != NULL) {
				stop_ring_writers(context->rings[i]);
			}
		}
	}
}
