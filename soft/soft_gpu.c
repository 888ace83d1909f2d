/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/unistd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <vgfence/context_driver.h>
#include <vgfence/sync_file.h>
#include <vgfence/vgfence.h>

#include "clock.h"
#include "soft_gpu.h"
#include "soft_gpu_schedule.h"

#define MAX_EVENTS 16

/* Without CPUs of its own the thread takes turns with all others: it sleeps for all but the last
 * few microseconds, and is late by as much as the kernel's timers are. */
#define SHORT_SPIN_NS (5 * NS_PER_US)

/* How long it may spin in all between two sleeps, with and without CPUs of its own. */
#define MAX_SPUN_NS (10 * NS_PER_MS)
#define MAX_SHORT_SPUN_NS (100 * NS_PER_US)

/* Such a sleep, if there is a job to be done before. */
#define LEAST_SLEEP_NS (10 * NS_PER_US)

struct soft_gpu {
	struct vgf_device *device;
	struct soft_gpu_options options;
	struct vgem_pool *vgem_pool; /* NULL if fences are not of vgem */
	struct address_spaces spaces;
	int epoll_fd; /* of the thread: wake_fd, and the in-fences from elsewhere */
	int wake_fd;  /* edge-triggered, so that nobody has to read it */
	pthread_t thread;

	pthread_mutex_t lock;
	struct schedule schedule;
	bool stop;
	bool has_own_cpus;
	uint64_t linger_until_ns; /* with CPUs of its own: not to sleep before */
	uint64_t spun_ns;         /* since it slept last */
	struct gpu_job_queue due; /* jobs whose time is over; while it signals, the thread's */
	bool signalling;          /* the thread finishes what is due, without the lock */
	atomic_uint num_dropping; /* who wait for the end of that, to drop or end jobs */
	uint32_t num_expired;
	pthread_cond_t changed; /* ready, or no longer signalling, or dropping */
	bool ready;             /* the thread has moved to its CPUs */
	bool asleep;            /* the thread waits in the kernel; otherwise it may spin */
	uint64_t awake_at_ns;   /* when it looks at the schedule next by itself */
	atomic_bool kicked;     /* spinning is to end */
};

/* What the library has for a context of the GPU. */
struct soft_gpu_user {
	struct soft_gpu *gpu;
	struct gpu_context *context;
	struct address_space *space; /* NULL if the GPU has no memory for that */
};

/* ---- The thread ----------------------------------------------------------------------------- */

/* Makes the thread look at the schedule anew. Returns whether it sleeps, and is to be woken. */
static bool kick(struct soft_gpu *gpu)
{
	if (!gpu->asleep) {
		atomic_store_explicit(&gpu->kicked, true, memory_order_relaxed);
	}
	return gpu->asleep;
}

/* Without the lock: the thread runs at once, and wants it. */
static void wake(struct soft_gpu *gpu)
{
	uint64_t one = 1;

	/* Cannot fail: nobody lives to fill the counter. */
	(void)!write(gpu->wake_fd, &one, sizeof(one));
}

static int run_command(
	struct soft_gpu *gpu, const struct gpu_job *job, const struct command *command)
{
	if (command->operation == SOFT_GPU_STORE) {
		return gpu->options.store(gpu->options.store_data, job->ring->context->serial,
			command->resource_id, command->offset, command->value);
	}
	return job->space != NULL ? address_space_run(job->space, command) : 0;
}

/* Returns 0, or the error that ends the job. */
static int run_commands(struct soft_gpu *gpu, struct gpu_job *job)
{
	int ret = job->error;

	if (ret == 0 && job->space != NULL && job->space->is_unusable) {
		return -EPIPE;
	}
	if (ret == 0 && job->batch != NULL) {
		bind_batch_apply(job->batch);
	}
	for (uint32_t i = 0; i < job->num_commands && ret == 0; i++) {
		ret = run_command(gpu, job, &job->commands[i]);
	}
	return ret;
}

/* What it does not use any more is let go of before its fence says so. */
static int run_job(struct soft_gpu *gpu, struct gpu_job *job)
{
	int ret = run_commands(gpu, job);

	bind_batch_destroy(job->batch);
	job->batch = NULL;
	address_space_put(job->space);
	job->space = NULL;
	return ret;
}

/* A descriptor cannot carry an error, so the library gets that first. */
static void fail_fence(struct soft_gpu *gpu, const struct gpu_job *job, int error)
{
	const struct timespec moment = { .tv_nsec = 10000 };

	/* Busy: the submit that started the job has not returned yet. */
	while (vgf_fence_cancel(gpu->device, &job->fence, error) == -EBUSY) {
		nanosleep(&moment, NULL);
	}
}

/* Finishes a job: what it does, then its fence. Returns whether the kernel ended that before. */
static bool finish_job(struct soft_gpu *gpu, struct gpu_job *job)
{
	const struct soft_gpu_observer *observer = &gpu->options.observer;
	int status = run_job(gpu, job);
	uint64_t one = 1;

	if (!job->fenced) {
		return false;
	}
	if (observer->signal != NULL) {
		observer->signal(observer->data, &job->fence, job->finish_ns);
	}
	if (status < 0 && (job->out_slot != NULL || job->out_fence_fd >= 0)) {
		fail_fence(gpu, job, status);
	}
	if (job->out_slot != NULL) {
		return vgem_slot_signal(job->out_slot) == -ETIMEDOUT;
	}
	if (job->out_fence_fd >= 0) {
		(void)!write(job->out_fence_fd, &one, sizeof(one));
	} else {
		/* An error means that the VMM has given up on the fence. */
		vgf_fence_signal(gpu->device, &job->fence, status);
	}
	return false;
}

/* Finishes what is due, up to the job during which somebody comes to stop it. Without the lock,
 * so that a submission need not wait for that. */
static void finish_due(struct soft_gpu *gpu)
{
	struct gpu_job_queue finished;
	uint32_t num_expired = 0;
	struct gpu_job *job;

	STAILQ_INIT(&finished);
	gpu->signalling = true;
	pthread_mutex_unlock(&gpu->lock);
	while ((job = STAILQ_FIRST(&gpu->due)) != NULL && atomic_load(&gpu->num_dropping) == 0) {
		num_expired += finish_job(gpu, job);
		STAILQ_REMOVE_HEAD(&gpu->due, link);
		STAILQ_INSERT_TAIL(&finished, job, link);
	}
	pthread_mutex_lock(&gpu->lock);
	gpu->num_expired += num_expired;
	while ((job = STAILQ_FIRST(&finished)) != NULL) {
		STAILQ_REMOVE_HEAD(&finished, link);
		schedule_forget(&gpu->schedule, job);
	}
	gpu->signalling = false;
	pthread_cond_broadcast(&gpu->changed);
}

static bool run_due(struct soft_gpu *gpu)
{
	uint64_t now = now_ns();
	struct gpu_job *job;

	while ((job = schedule_take_finished(&gpu->schedule, now)) != NULL) {
		STAILQ_INSERT_TAIL(&gpu->due, job, link);
	}
	if (STAILQ_EMPTY(&gpu->due)) {
		return false;
	}
	finish_due(gpu);
	while (atomic_load(&gpu->num_dropping) > 0) {
		pthread_cond_wait(&gpu->changed, &gpu->lock);
	}
	gpu->linger_until_ns = now + SPIN_NS;
	return true;
}

static int sleep_until(struct soft_gpu *gpu, uint64_t deadline_ns, struct epoll_event *events)
{
	struct timespec timeout = time_until(deadline_ns);

	/* epoll_pwait2(), which not every libc has. */
	return (int)syscall(__NR_epoll_pwait2, gpu->epoll_fd, events, MAX_EVENTS,
		deadline_ns == UINT64_MAX ? NULL : &timeout, NULL, (size_t)0);
}

/* Timers of the kernel come tens of microseconds late, which is as long as a job may take. */
static int spin_until(
	struct soft_gpu *gpu, uint64_t deadline_ns, bool watching, struct epoll_event *events)
{
	while (now_ns() < deadline_ns &&
		!atomic_load_explicit(&gpu->kicked, memory_order_relaxed)) {
		int count = watching ? epoll_wait(gpu->epoll_fd, events, MAX_EVENTS, 0) : 0;

		if (count > 0) {
			return count;
		}
		spin_pause();
	}
	return 0;
}

/* How long before a job is done a sleep ends. */
static uint64_t margin_ns(const struct soft_gpu *gpu)
{
	return gpu->has_own_cpus ? SPIN_NS : SHORT_SPIN_NS;
}

/* Until when to sleep: a while at least, so that others can run. */
static uint64_t sleep_end_ns(const struct soft_gpu *gpu, uint64_t deadline_ns)
{
	uint64_t least_ns = now_ns() + LEAST_SLEEP_NS;

	if (deadline_ns == UINT64_MAX) {
		return deadline_ns;
	}
	return deadline_ns > least_ns + margin_ns(gpu) ? deadline_ns - margin_ns(gpu) : least_ns;
}

/* Until when to spin; 0: to sleep. */
static uint64_t spin_end_ns(const struct soft_gpu *gpu, uint64_t deadline_ns)
{
	uint64_t now = now_ns();

	if (gpu->spun_ns >= (gpu->has_own_cpus ? MAX_SPUN_NS : MAX_SHORT_SPUN_NS)) {
		return 0;
	}
	if (deadline_ns <= now + margin_ns(gpu)) {
		return deadline_ns;
	}
	/* What waits on the host for the last job comes in a moment: spare it a system call. */
	return gpu->has_own_cpus && now < gpu->linger_until_ns ? gpu->linger_until_ns : 0;
}

/* Waits without the lock for the next job to be done, or for something to change. */
static int wait_unlocked(struct soft_gpu *gpu, struct epoll_event *events)
{
	uint64_t deadline_ns = schedule_next_ns(&gpu->schedule);
	uint64_t spin_ns = spin_end_ns(gpu, deadline_ns);
	bool watching = gpu->schedule.num_watched > 0;
	uint64_t spun_ns = 0;
	int count;

	gpu->awake_at_ns = deadline_ns;
	gpu->asleep = spin_ns == 0;
	atomic_store_explicit(&gpu->kicked, false, memory_order_relaxed);
	pthread_mutex_unlock(&gpu->lock);
	if (spin_ns > 0) {
		uint64_t start_ns = now_ns();

		count = spin_until(gpu, spin_ns, watching, events);
		spun_ns = gpu->spun_ns + now_ns() - start_ns;
	} else {
		count = sleep_until(gpu, sleep_end_ns(gpu, deadline_ns), events);
	}
	pthread_mutex_lock(&gpu->lock);
	gpu->spun_ns = spun_ns;
	gpu->asleep = false;
	gpu->awake_at_ns = 0;
	return count;
}

static void wait_for_event(struct soft_gpu *gpu)
{
	struct epoll_event events[MAX_EVENTS];
	uint64_t num_drops = gpu->schedule.num_drops;
	int count = wait_unlocked(gpu, events);
	uint64_t now = now_ns();

	if (gpu->schedule.num_drops != num_drops) {
		return; /* Some of it may be freed. epoll reports again what is still watched. */
	}
	for (int i = 0; i < count; i++) {
		if (events[i].data.ptr != NULL) {
			schedule_wake(&gpu->schedule, events[i].data.ptr, now);
		}
	}
}

/*
 * Hardware is not preempted. If realtime priority is not allowed, the thread only starts on its
 * CPUs, and may leave them when something else runs there.
 */
static void take_own_cpus(struct soft_gpu *gpu)
{
	const struct sched_param param = { .sched_priority = 1 };
	const cpu_set_t *cpus = gpu->options.own_cpus;
	cpu_set_t before;

	if (cpus == NULL || sched_getaffinity(0, sizeof(before), &before) < 0 ||
		sched_setaffinity(0, sizeof(*cpus), cpus) < 0) {
		return;
	}
	gpu->has_own_cpus = pthread_setschedparam(pthread_self(), SCHED_FIFO, &param) == 0;
	if (!gpu->has_own_cpus) {
		sched_setaffinity(0, sizeof(before), &before);
	}
}

static void *run_thread(void *data)
{
	struct soft_gpu *gpu = data;

	/* Wakes at the nanosecond asked for, not up to 50 us later. */
	prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
	pthread_mutex_lock(&gpu->lock);
	take_own_cpus(gpu);
	gpu->ready = true;
	pthread_cond_broadcast(&gpu->changed);
	while (!gpu->stop) {
		if (!run_due(gpu)) {
			wait_for_event(gpu);
		}
	}
	pthread_mutex_unlock(&gpu->lock);
	return NULL;
}

/* ---- Driver --------------------------------------------------------------------------------- */

int soft_gpu_busy_time(const void *command, size_t size, uint64_t *busy_ns)
{
	struct command_stream stream;
	int ret = command_stream_read(&stream, command, size);

	if (ret == 0) {
		*busy_ns = stream.busy_ns;
	}
	return ret;
}

/* What the job is to do to memory. */
static int add_commands(
	struct soft_gpu_user *user, struct gpu_job *job, const struct command_stream *stream)
{
	const struct soft_gpu *gpu = user->gpu;
	size_t size = stream->num_commands * sizeof(stream->commands[0]);

	if (size == 0 || gpu->options.store == NULL) {
		return 0;
	}
	if (stream->binds) {
		return user->space == NULL ? 0 :
					     bind_batch_create(user->space, stream->commands,
						     stream->num_commands, &job->batch);
	}
	job->commands = malloc(size);
	if (job->commands == NULL) {
		return -ENOMEM;
	}
	memcpy(job->commands, stream->commands, size);
	job->num_commands = stream->num_commands;
	return 0;
}

/* Makes a job of a command stream that was read. */
static int create_job(struct soft_gpu_user *user, const struct vgf_job *from,
	const struct command_stream *stream, struct gpu_job **out)
{
	struct gpu_job *job = gpu_job_create(from);
	int ret;

	if (job == NULL) {
		return -ENOMEM;
	}
	job->busy_ns = stream->busy_ns;
	if (user->space != NULL) {
		job->space = address_space_ref(user->space);
	}
	ret = add_commands(user, job, stream);
	if (ret < 0) {
		gpu_job_destroy(job);
		return ret;
	}
	*out = job;
	return 0;
}

/* Makes the job's out-fence. On success *out_fence_fd is the library's end of it. */
static int make_out_fence(struct soft_gpu *gpu, struct gpu_job *job, int *out_fence_fd)
{
	if (!job->fenced) {
		*out_fence_fd = VGF_FENCE_DONE;
		return 0;
	}
	*out_fence_fd = VGF_FENCE_BY_CALL;
	if (gpu->options.fences == SOFT_GPU_FENCES_VGEM) {
		return vgem_pool_take(gpu->vgem_pool, &job->out_slot, out_fence_fd);
	}
	if (gpu->options.fences == SOFT_GPU_FENCES_CALL) {
		return 0;
	}
	job->out_fence_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (job->out_fence_fd < 0) {
		return -errno;
	}
	*out_fence_fd = fcntl(job->out_fence_fd, F_DUPFD_CLOEXEC, 0);
	return *out_fence_fd < 0 ? -errno : 0;
}

/* Lets the kernel make one sync file of all that the job is to wait for. */
static int merge_in_fences(struct gpu_job *job, const struct vgf_job *from)
{
	int *fds = malloc(from->num_in_fences * sizeof(*fds));
	int ret;

	if (fds == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < from->num_in_fences; i++) {
		fds[i] = from->in_fences[i].fd;
	}
	ret = vgf_sync_file_merge(fds, from->num_in_fences);
	free(fds);
	if (ret == -ENOTTY) {
		return 0; /* Not all are sync files: the job waits for each. */
	}
	if (ret < 0) {
		return ret;
	}
	job->in_fence_fd = ret;
	return 0;
}

static int start_job(struct soft_gpu_user *user, struct gpu_job *job, const struct vgf_job *from)
{
	struct soft_gpu *gpu = user->gpu;
	const struct soft_gpu_observer *observer = &gpu->options.observer;
	bool must_wake = false;
	uint32_t num_watched;
	uint64_t now;
	int ret = -ENOSPC;

	pthread_mutex_lock(&gpu->lock);
	/* Under the lock: it is then not before the end of any in-fence that has signalled. */
	now = now_ns();
	num_watched = gpu->schedule.num_watched;
	if (gpu->schedule.num_jobs < gpu->options.max_jobs &&
		user->context->num_jobs < gpu->options.max_context_jobs) {
		ret = schedule_submit(&gpu->schedule, user->context, job, from, now);
	}
	if (ret == 0 && observer->run != NULL) {
		/* Before the thread can see the job, and report its end. */
		observer->run(observer->data, from, now);
	}
	if (schedule_next_ns(&gpu->schedule) < gpu->awake_at_ns ||
		(gpu->schedule.num_watched > num_watched && !gpu->asleep)) {
		must_wake = kick(gpu);
	}
	pthread_mutex_unlock(&gpu->lock);
	if (must_wake) {
		wake(gpu);
	}
	return ret;
}

/* Of a job that is on no ring: nobody has seen its fence. */
static void destroy_unseen(struct gpu_job *job, int fence_fd)
{
	if (job->out_slot != NULL) {
		vgem_slot_signal(job->out_slot);
	}
	if (fence_fd >= 0) {
		close(fence_fd);
	}
	gpu_job_destroy(job);
}

static int submit_job(struct soft_gpu_user *user, const struct vgf_job *from, int *out_fence_fd)
{
	struct command_stream stream;
	struct gpu_job *job = NULL;
	int fence_fd = -1;
	int ret = command_stream_read(&stream, from->command, from->size);

	if (ret < 0) {
		return ret;
	}
	ret = create_job(user, from, &stream, &job);
	if (ret < 0) {
		return ret;
	}
	ret = make_out_fence(user->gpu, job, &fence_fd);
	if (ret == 0 && from->num_in_fences > 0 && user->gpu->vgem_pool != NULL) {
		ret = merge_in_fences(job, from);
	}
	if (ret == 0) {
		ret = start_job(user, job, from);
	}
	if (ret < 0) {
		destroy_unseen(job, fence_fd);
		return ret;
	}
	*out_fence_fd = fence_fd;
	return 0;
}

static int submit(void *data, const struct vgf_job *from, int *out_fence_fd)
{
	struct soft_gpu_user *user = data;
	const struct soft_gpu_observer *observer = &user->gpu->options.observer;
	int ret;

	if (observer->enter != NULL) {
		observer->enter(observer->data);
	}
	ret = submit_job(user, from, out_fence_fd);
	if (observer->leave != NULL) {
		observer->leave(observer->data);
	}
	return ret;
}

/* Drops what is due of a context, or with NULL of all. */
static void drop_due(struct soft_gpu *gpu, const struct gpu_context *only)
{
	struct gpu_job_queue kept;
	struct gpu_job *job;

	STAILQ_INIT(&kept);
	while ((job = STAILQ_FIRST(&gpu->due)) != NULL) {
		STAILQ_REMOVE_HEAD(&gpu->due, link);
		if (only == NULL || job->ring->context == only) {
			schedule_forget(&gpu->schedule, job);
		} else {
			STAILQ_INSERT_TAIL(&kept, job, link);
		}
	}
	STAILQ_CONCAT(&gpu->due, &kept);
}

/* What the thread does and signals just now does not end before it has. Until let_thread_go_on() it
 * does nothing more. */
static void stop_thread(struct soft_gpu *gpu)
{
	atomic_fetch_add(&gpu->num_dropping, 1);
	while (gpu->signalling) {
		pthread_cond_wait(&gpu->changed, &gpu->lock);
	}
}

static void let_thread_go_on(struct soft_gpu *gpu)
{
	atomic_fetch_sub(&gpu->num_dropping, 1);
	pthread_cond_broadcast(&gpu->changed);
}

static void drop_jobs(struct soft_gpu *gpu, struct gpu_context *only)
{
	stop_thread(gpu);
	drop_due(gpu, only);
	schedule_drop(&gpu->schedule, only, now_ns());
	let_thread_go_on(gpu);
}

/* Nobody can end what destroyed contexts have left, so that is no more together than one may have.
 * Returns whether the thread is to be woken. */
static bool end_what_is_left(struct soft_gpu *gpu)
{
	uint32_t max = gpu->options.max_context_jobs;
	struct gpu_context *context;

	if (schedule_find_left(&gpu->schedule, max) == NULL) {
		return false;
	}
	stop_thread(gpu);
	context = schedule_find_left(&gpu->schedule, max); /* that one may be gone */
	if (context != NULL) {
		schedule_end(&gpu->schedule, context, -ECANCELED, now_ns(), &gpu->due);
	}
	let_thread_go_on(gpu);
	return kick(gpu);
}

static void destroy_context(void *data, bool cancelled)
{
	struct soft_gpu_user *user = data;
	struct soft_gpu *gpu = user->gpu;
	bool must_wake;

	pthread_mutex_lock(&gpu->lock);
	if (cancelled) {
		drop_jobs(gpu, user->context);
	}
	schedule_close_context(&gpu->schedule, user->context);
	must_wake = !cancelled && end_what_is_left(gpu);
	pthread_mutex_unlock(&gpu->lock);
	if (must_wake) {
		wake(gpu);
	}
	address_space_put(user->space);
	free(user);
}

/* Returns NULL if there is no memory. */
static struct soft_gpu_user *create_user(struct soft_gpu *gpu, uint64_t serial)
{
	struct soft_gpu_user *user = calloc(1, sizeof(*user));

	if (user == NULL) {
		return NULL;
	}
	user->gpu = gpu;
	if (gpu->options.memory != NULL) {
		user->space = address_space_create(&gpu->spaces, serial);
		if (user->space == NULL) {
			free(user);
			return NULL;
		}
	}
	pthread_mutex_lock(&gpu->lock);
	user->context = schedule_create_context(&gpu->schedule, serial);
	pthread_mutex_unlock(&gpu->lock);
	if (user->context == NULL) {
		address_space_put(user->space);
		free(user);
		return NULL;
	}
	return user;
}

int soft_gpu_context_create(struct soft_gpu *gpu, uint32_t ctx_id, uint64_t serial)
{
	const struct vgf_driver driver = {
		.size = sizeof(struct vgf_driver),
		.wait = gpu->options.wait,
		.independent_rings = true,
		.submit = submit,
		.destroy = destroy_context,
		.family = gpu,
	};
	struct soft_gpu_user *user = create_user(gpu, serial);
	int ret;

	if (user == NULL) {
		return -ENOMEM;
	}
	ret = vgf_context_create(gpu->device, ctx_id, &driver, user);
	if (ret < 0) {
		destroy_context(user, false);
	}
	return ret;
}

/* ---- The GPU -------------------------------------------------------------------------------- */

static int open_fds(struct soft_gpu *gpu)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	gpu->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (gpu->epoll_fd < 0) {
		return -errno;
	}
	gpu->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (gpu->wake_fd < 0 || epoll_ctl(gpu->epoll_fd, EPOLL_CTL_ADD, gpu->wake_fd, &event) < 0) {
		return -errno;
	}
	return 0;
}

static void close_fds(struct soft_gpu *gpu)
{
	if (gpu->wake_fd >= 0) {
		close(gpu->wake_fd);
	}
	if (gpu->epoll_fd >= 0) {
		close(gpu->epoll_fd);
	}
}

/* A thread that is preempted with the lock keeps the GPU's waiting. The lock gives it that
 * priority, so that this is short. */
static void init_lock(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

/* Returns when the thread has found its place, so that the first job is not late. */
static int start_thread(struct soft_gpu *gpu)
{
	int error = pthread_create(&gpu->thread, NULL, run_thread, gpu);

	if (error != 0) {
		return -error;
	}
	pthread_mutex_lock(&gpu->lock);
	while (!gpu->ready) {
		pthread_cond_wait(&gpu->changed, &gpu->lock);
	}
	pthread_mutex_unlock(&gpu->lock);
	return 0;
}

int soft_gpu_create(
	struct vgf_device *device, const struct soft_gpu_options *options, struct soft_gpu **gpu)
{
	struct soft_gpu *new;
	int ret;

	if (options->wait != VGF_WAIT_DRIVER && options->wait != VGF_WAIT_HOST) {
		return -EINVAL;
	}
	new = calloc(1, sizeof(*new));
	if (new == NULL) {
		return -ENOMEM;
	}
	new->device = device;
	new->options = *options;
	if (new->options.max_jobs == 0) {
		new->options.max_jobs = SOFT_GPU_DEFAULT_MAX_JOBS;
	}
	if (new->options.max_context_jobs == 0) {
		new->options.max_context_jobs = new->options.max_jobs;
	}
	new->spaces = (struct address_spaces){
		.ops = options->memory,
		.data = options->store_data,
		.max_mappings = options->max_mappings,
		.max_context_mappings = options->max_context_mappings,
	};
	hash_key_init(&new->spaces.key);
	new->epoll_fd = -1;
	new->wake_fd = -1;
	init_lock(&new->lock);
	STAILQ_INIT(&new->due);
	pthread_cond_init(&new->changed, NULL);
	ret = open_fds(new);
	if (ret == 0 && options->fences == SOFT_GPU_FENCES_VGEM) {
		ret = vgem_pool_create(&new->vgem_pool);
	}
	schedule_init(&new->schedule, new->epoll_fd, options->fences == SOFT_GPU_FENCES_CALL);
	if (ret == 0) {
		ret = start_thread(new);
	}
	if (ret < 0) {
		vgem_pool_destroy(new->vgem_pool);
		close_fds(new);
		free(new);
		return ret;
	}
	*gpu = new;
	return 0;
}

void soft_gpu_reset(struct soft_gpu *gpu)
{
	pthread_mutex_lock(&gpu->lock);
	drop_jobs(gpu, NULL);
	pthread_mutex_unlock(&gpu->lock);
}

void soft_gpu_signal_dropped(struct soft_gpu *gpu)
{
	if (gpu->vgem_pool != NULL) {
		vgem_pool_signal_left(gpu->vgem_pool);
	}
}

bool soft_gpu_is_writing(struct soft_gpu *gpu)
{
	bool is_writing;

	pthread_mutex_lock(&gpu->lock);
	is_writing = gpu->signalling || !STAILQ_EMPTY(&gpu->due) ||
		schedule_has_writers(&gpu->schedule);
	pthread_mutex_unlock(&gpu->lock);
	return is_writing;
}

void soft_gpu_stop_writing(struct soft_gpu *gpu)
{
	struct gpu_job *job;

	pthread_mutex_lock(&gpu->lock);
	stop_thread(gpu);
	STAILQ_FOREACH(job, &gpu->due, link) {
		job->num_commands = 0;
	}
	schedule_stop_writers(&gpu->schedule);
	let_thread_go_on(gpu);
	pthread_mutex_unlock(&gpu->lock);
}

uint32_t soft_gpu_num_expired(struct soft_gpu *gpu)
{
	uint32_t num_expired;

	pthread_mutex_lock(&gpu->lock);
	num_expired = gpu->num_expired;
	pthread_mutex_unlock(&gpu->lock);
	return num_expired;
}

void soft_gpu_destroy(struct soft_gpu *gpu)
{
	bool must_wake;

	if (gpu == NULL) {
		return;
	}
	pthread_mutex_lock(&gpu->lock);
	drop_jobs(gpu, NULL);
	gpu->stop = true;
	must_wake = kick(gpu);
	pthread_mutex_unlock(&gpu->lock);
	if (must_wake) {
		wake(gpu);
	}
	pthread_join(gpu->thread, NULL);
	schedule_finish(&gpu->schedule);
	vgem_pool_destroy(gpu->vgem_pool);
	pthread_cond_destroy(&gpu->changed);
	pthread_mutex_destroy(&gpu->lock);
	close_fds(gpu);
	free(gpu);
}
