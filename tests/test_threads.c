/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Many threads at once: each fence retires exactly once and in order, each job runs once and in
 * order, and in the end nothing is left. What the library promises to do one at a time writes
 * plain variables here, so that a thread sanitizer sees whether it does.
 *
 * VGF_TEST_THREAD_STEPS=N: that many submissions of each thread.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <vgfence/context_driver.h>
#include <vgfence/inspect.h>
#include <vgfence/vgfence.h>

#include "calls.h"
#include "support.h"

#define DEFAULT_STEPS 3000
#define SUBMITTERS 3
#define SIGNALLERS 2
#define MEDDLERS 2
#define RIVALS 2
#define CONTEXTS 16 /* IDs 1 to 15 */
/* From 1 on, one for each submitter and each meddler. */
#define FIRST_RIVAL_CONTEXT (1 + SUBMITTERS + MEDDLERS)
#define RIVAL_CONTEXTS 2
#define CALLBACK_CONTEXT (CONTEXTS - 1)
#define RINGS 4
#define MAX_IN_FLIGHT 200
#define RECENT 64

/* A net for tests that have gone wrong, not a time that any of them depends on. */
#define WAIT_S 60

/* For other threads, in which an assertion of cmocka would not end the test. */
#define check(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			print_error("not so: %s (%s:%d)\n", #condition, __FILE__, __LINE__);       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* What is known of one fence ID. */
struct record {
	atomic_bool promised; /* by the library, to retire it */
	atomic_int successes; /* calls that signalled it */
	unsigned int retired; /* written by callbacks alone */
	unsigned int ran;     /* written by its driver alone */
};

/* A fence that can be signalled. */
struct running {
	struct vgf_fence_name name;
	int fd; /* -1: by call */
};

struct job_counts {
	atomic_uint created, destroyed, deferred, called, asked, told;
};

struct load {
	struct vgf_device *device;
	struct record *records; /* by fence ID */
	uint64_t max_id;
	atomic_ullong last_id;
	atomic_ullong recent[RECENT]; /* IDs to name as in-fences */
	pthread_mutex_t global_lock;  /* the global timeline is everybody's */
	struct job_counts counts;
	unsigned int steps;
	bool with_resets;
	bool run_in_dispatch;

	/* Of the callbacks alone. */
	uint64_t last_retired[CONTEXTS][RINGS + 1];
	unsigned int callback_random;

	/* Of those that wait one at a time is woken: all of them at once, for each fence, would
	 * keep the processors from the library. */
	pthread_mutex_t lock;
	pthread_cond_t runs, has_retired;
	struct running *pool;
	size_t pool_size, pool_room;
	long in_flight; /* promised and not retired */
	bool no_more;   /* the signallers end when the pool is empty */
	atomic_bool stop;
};

/* What the driver knows of one ring, or of all if they are not independent. */
struct instance_queue {
	unsigned int random;
	uint64_t last_run;
};

/* One vgf_context_create. */
struct instance {
	struct load *load;
	struct instance_queue queues[RINGS];
	bool in_order; /* what one thread alone submits */
	struct vgf_driver driver;
};

static unsigned int below(unsigned int *random, unsigned int limit)
{
	*random = *random * 1664525 + 1013904223;
	return (*random >> 8) % limit;
}

/* Whether this thread is in a call that dispatches. */
static _Thread_local bool dispatches;

static void check_thread(const struct load *load)
{
	check(dispatches || !load->run_in_dispatch);
}

static bool is_rivals(uint32_t ctx_id)
{
	return ctx_id >= FIRST_RIVAL_CONTEXT && ctx_id < FIRST_RIVAL_CONTEXT + RIVAL_CONTEXTS;
}

static int ring_index(int32_t ring)
{
	return ring == VGF_RING_GLOBAL ? 0 : ring + 1;
}

/* ---- What runs, until it is signalled ----------------------------------------------------- */

static void pool_add(struct load *load, const struct vgf_fence_name *name, int fd)
{
	pthread_mutex_lock(&load->lock);
	if (load->pool_size == load->pool_room) {
		load->pool_room = 2 * load->pool_room + 64;
		load->pool = realloc(load->pool, load->pool_room * sizeof(*load->pool));
		check(load->pool);
	}
	load->pool[load->pool_size++] = (struct running){ *name, fd };
	pthread_cond_signal(&load->runs);
	pthread_mutex_unlock(&load->lock);
}

static bool pool_take(struct load *load, unsigned int *random, struct running *running)
{
	bool found = false;

	pthread_mutex_lock(&load->lock);
	while (load->pool_size == 0 && !load->no_more) {
		pthread_cond_wait(&load->runs, &load->lock);
	}
	if (load->pool_size > 0) {
		size_t i = below(random, (unsigned int)load->pool_size);
		*running = load->pool[i];
		load->pool[i] = load->pool[--load->pool_size];
		found = true;
	}
	pthread_mutex_unlock(&load->lock);
	return found;
}

static void in_flight(struct load *load, long change)
{
	pthread_mutex_lock(&load->lock);
	load->in_flight += change;
	if (change < 0) {
		pthread_cond_signal(&load->has_retired);
	}
	pthread_mutex_unlock(&load->lock);
}

static void wait_in_flight(struct load *load, long most)
{
	struct timespec deadline;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += WAIT_S;
	pthread_mutex_lock(&load->lock);
	while (load->in_flight > most) {
		check(pthread_cond_timedwait(&load->has_retired, &load->lock, &deadline) == 0);
	}
	pthread_mutex_unlock(&load->lock);
}

/* ---- The driver --------------------------------------------------------------------------- */

static int answer(struct load *load, const struct vgf_job *job, unsigned int *random)
{
	unsigned int dice = below(random, 10);
	int fd;

	if (!(job->flags & VGF_FENCED) || dice == 0) {
		return VGF_FENCE_DONE;
	}
	if (dice < 5) {
		/* Twice: two threads may come at the same time. */
		pool_add(load, &job->fence, -1);
		pool_add(load, &job->fence, -1);
		return VGF_FENCE_BY_CALL;
	}
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	check(fd >= 0);
	pool_add(load, &job->fence, fcntl(fd, F_DUPFD_CLOEXEC, 0));
	return fd;
}

static int on_submit(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	struct instance *instance = data;
	struct record *record = &instance->load->records[job->fence.fence_id];
	bool by_ring = instance->driver.independent_rings && job->fence.ring >= 0;
	struct instance_queue *queue = &instance->queues[by_ring ? job->fence.ring : 0];

	check_thread(instance->load);
	check(job->size == sizeof(uint64_t));
	check(memcmp(job->command, &job->fence.fence_id, job->size) == 0);
	for (uint32_t i = 0; i < job->num_in_fences; i++) {
		check(fcntl(job->in_fences[i].fd, F_GETFD) >= 0);
	}
	if (job->num_in_fences > 0 && below(&queue->random, 8) == 0) {
		return -EMFILE;
	}
	check(!instance->in_order || queue->last_run < job->fence.fence_id);
	queue->last_run = job->fence.fence_id;
	check(record->ran++ == 0);
	if (below(&queue->random, 20) == 0) {
		return -EIO;
	}
	*out_fence_fd = answer(instance->load, job, &queue->random);
	return 0;
}

static void on_destroy(void *data, bool cancelled)
{
	struct instance *instance = data;

	check_thread(instance->load);
	instance->load->counts.destroyed++;
	free(instance);
}

static int create_context(struct load *load, uint32_t ctx_id, unsigned int random)
{
	static const enum vgf_wait waits[] = { VGF_WAIT_HOST, VGF_WAIT_DRIVER, VGF_WAIT_GL };
	struct instance *instance = calloc(1, sizeof(*instance));
	int ret;

	check(instance);
	*instance = (struct instance){
		.load = load,
		.in_order = !is_rivals(ctx_id),
		.driver = {
			.size = sizeof(struct vgf_driver),
			.wait = waits[random % 3],
			.independent_rings = random / 3 % 2,
			.submit = on_submit,
			.destroy = on_destroy,
		},
	};
	for (unsigned int i = 0; i < RINGS; i++) {
		instance->queues[i].random = random + i;
	}
	ret = vgf_context_create(load->device, ctx_id, &instance->driver, instance);
	check(ret == 0 || ret == -EEXIST || (ret == -ECANCELED && load->with_resets));
	if (ret == 0) {
		load->counts.created++;
	} else {
		free(instance);
	}
	return ret;
}

/* ---- Submitting --------------------------------------------------------------------------- */

/* `promised` may come after the callback. */
static void note_promise(struct load *load, uint64_t id, bool promised)
{
	if (promised) {
		load->records[id].promised = true;
		load->recent[id % RECENT] = id;
		in_flight(load, 1);
	}
}

static uint64_t new_id(struct load *load)
{
	uint64_t id = ++load->last_id;

	check(id < load->max_id);
	return id;
}

static int submit_locked(struct load *load, uint32_t ctx_id, int32_t ring, unsigned int *random)
{
	uint64_t in_fences[4];
	struct vgf_submission submission = {
		.fence = { .ctx_id = ctx_id, .ring = ring },
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.in_fences = in_fences,
		.num_in_fences = below(random, 5),
		.command = &submission.fence.fence_id,
		.size = sizeof(submission.fence.fence_id),
	};
	bool will_retire;
	int ret;

	for (uint32_t i = 0; i < submission.num_in_fences; i++) {
		in_fences[i] = load->recent[below(random, RECENT)];
	}
	submission.fence.fence_id = new_id(load);
	ret = vgf_submit(load->device, &submission, &will_retire);
	check(ret <= 1 && (ret < 0 || will_retire));
	note_promise(load, submission.fence.fence_id, will_retire);
	return ret;
}

static int submit(struct load *load, uint32_t ctx_id, int32_t ring, unsigned int *random)
{
	int ret;

	if (ring != VGF_RING_GLOBAL) {
		return submit_locked(load, ctx_id, ring, random);
	}
	pthread_mutex_lock(&load->global_lock);
	ret = submit_locked(load, ctx_id, ring, random);
	pthread_mutex_unlock(&load->global_lock);
	return ret;
}

struct worker {
	pthread_t thread;
	struct load *load;
	unsigned int random;
	uint32_t ctx_id;
};

static void *submitter_main(void *data)
{
	struct worker *worker = data;
	struct load *load = worker->load;

	for (unsigned int i = 0; i < load->steps; i++) {
		int32_t ring = (int32_t)below(&worker->random, RINGS + 1) - 1;
		int ret;

		wait_in_flight(load, MAX_IN_FLIGHT);
		ret = submit(load, worker->ctx_id, ring, &worker->random);
		if (ret == -ENOENT || ret == -ECANCELED) {
			create_context(load, worker->ctx_id, below(&worker->random, 1000));
		} else {
			check(ret >= 0 || ret == -EIO);
		}
	}
	return NULL;
}

/* ---- Signalling --------------------------------------------------------------------------- */

static void signal_running(struct load *load, struct running *running, unsigned int *random)
{
	struct record *record = &load->records[running->name.fence_id];
	unsigned int dice = below(random, 20);
	int ret;

	if (running->fd >= 0) {
		signal_fence(running->fd);
		close(running->fd);
		return;
	}
	if (dice == 0) {
		ret = publish_take(load->device, &running->name, make_fence(true));
		check(ret == 0 || ret == -EMFILE || ret == -EALREADY || ret == -ENOENT ||
			ret == -EEXIST);
		if (ret == 0) {
			return;
		}
	}
	ret = vgf_fence_signal(load->device, &running->name, dice == 1 ? -EIO : 0);
	check(ret == 0 || ret == -EALREADY || ret == -ENOENT);
	record->successes += ret == 0;
}

static void *signaller_main(void *data)
{
	struct worker *worker = data;
	struct running running;

	while (pool_take(worker->load, &worker->random, &running)) {
		signal_running(worker->load, &running, &worker->random);
	}
	return NULL;
}

/* ---- Callbacks ---------------------------------------------------------------------------- */

static void on_retire(void *cookie, const struct vgf_retired *retired)
{
	const struct vgf_fence_name *name = &retired->fence;
	int status = retired->status;
	struct load *load = cookie;
	uint32_t ctx_id = name->ring == VGF_RING_GLOBAL ? 0 : name->ctx_id;
	uint64_t *last = &load->last_retired[ctx_id][ring_index(name->ring)];

	/* With its context a timeline forgets its IDs, and a rival may come late with one. */
	check(name->fence_id > *last || is_rivals(ctx_id));
	*last = name->fence_id;
	check(load->records[name->fence_id].retired++ == 0);
	check(status <= 0);
	/* This comes first, so that none is in flight only when none will be any more. */
	if (!load->stop && below(&load->callback_random, 10) == 0) {
		submit(load, CALLBACK_CONTEXT, (int32_t)below(&load->callback_random, RINGS),
			&load->callback_random);
	}
	in_flight(load, -1);
}

static void on_log(void *cookie, enum vgf_log_level level, const char *message)
{
	check(message[0]);
}

static const struct vgf_callbacks callbacks = {
	.size = sizeof(struct vgf_callbacks),
	.retire = on_retire,
	.log = on_log,
};

/* ---- Dispatching -------------------------------------------------------------------------- */

static void *dispatcher_main(void *data)
{
	struct load *load = data;
	int ret;

	dispatches = true;
	while (!load->stop) {
		ret = vgf_device_dispatch(load->device, -1);
		check(ret >= 0);
	}
	return NULL;
}

/* What a VMM with a loop of its own does. */
static void *poller_main(void *data)
{
	struct load *load = data;
	struct pollfd pollfd = { .fd = vgf_device_get_fd(load->device), .events = POLLIN };

	dispatches = true;
	while (!load->stop) {
		check(poll(&pollfd, 1, -1) == 1);
		check(vgf_device_dispatch(load->device, 0) >= 0);
	}
	return NULL;
}

/* ---- Everything else, meanwhile ----------------------------------------------------------- */

static void on_turn(void *arg, int status)
{
	struct load *load = arg;

	check_thread(load);
	check(status == 0 || status == -ECANCELED);
	load->counts.called++;
}

static void on_notified(void *arg, int status)
{
	struct load *load = arg;

	check(status <= 0);
	load->counts.told++;
}

/* Counted first: the notification may come before the call returns. */
static void ask_for_a_fence(struct load *load, unsigned int *random)
{
	uint32_t ctx_id = below(random, 2) ? VGF_HOST : 1 + below(random, CONTEXTS - 1);
	uint64_t fence_id = load->recent[below(random, RECENT)];
	int ret;

	load->counts.asked++;
	ret = vgf_fence_notify(load->device, ctx_id, fence_id, on_notified, load);
	check(ret == 0 || ret == 1 || ret == -ENOENT || ret == -EPERM || ret == -ENOTUNIQ);
	load->counts.asked -= ret != 1;
}

static void look_inside(struct load *load, unsigned int *random)
{
	struct vgf_pending pending[16];
	struct vgf_stats stats = { .size = sizeof(stats) };
	char *text;
	int fd;

	switch (below(random, 4)) {
	case 0:
		vgf_device_get_stats(load->device, &stats);
		check(stats.created >= stats.retired);
		break;
	case 1:
		vgf_device_list_pending(load->device, pending, 16);
		break;
	case 2:
		check(vgf_device_dump(load->device, &text) == 0);
		free(text);
		break;
	default:
		fd = export_fence(load->device, load->recent[below(random, RECENT)]);
		if (fd >= 0) {
			close(fd);
		}
		break;
	}
}

static void export_for_a_context(struct load *load, unsigned int *random)
{
	int fence_fd;
	int ret = vgf_fence_export(load->device, 1 + below(random, CONTEXTS - 1),
		load->recent[below(random, RECENT)], &fence_fd);

	check(ret == 0 || (fence_fd == -1 && ret < 0));
	if (fence_fd >= 0) {
		close(fence_fd);
	}
}

static void make_fence_somewhere(struct load *load, unsigned int *random)
{
	struct vgf_fence_name name = { .ring = VGF_RING_GLOBAL };
	int ret;

	pthread_mutex_lock(&load->global_lock);
	name.fence_id = new_id(load);
	if (below(random, 2)) {
		ret = create_take(load->device, &name, VGF_SHAREABLE, make_fence(true));
	} else {
		ret = vgf_fence_refuse(load->device, &name, VGF_SHAREABLE, NULL, -EIO);
	}
	check(ret == 0 || ret == -EMFILE || (ret == -ECANCELED && load->with_resets));
	note_promise(load, name.fence_id, ret == 0);
	pthread_mutex_unlock(&load->global_lock);
}

static void give_up_a_fence(struct load *load, unsigned int *random)
{
	struct vgf_fence_name name = {
		.fence_id = load->recent[below(random, RECENT)],
		.ctx_id = 1 + below(random, CONTEXTS - 1),
		.ring = (int32_t)below(random, RINGS + 1) - 1,
	};
	int ret = vgf_fence_cancel(load->device, &name, -ETIME);

	check(ret == 0 || ret == -ENOENT || ret == -EALREADY || ret == -EBUSY);
}

static void give_up_a_timeline(struct load *load, uint32_t ctx_id, unsigned int *random)
{
	int ret = vgf_timeline_cancel(
		load->device, ctx_id, (int32_t)below(random, RINGS), -ECANCELED);

	check(ret >= 0 || ret == -ENOENT);
}

static void give_up_a_context(struct load *load, uint32_t ctx_id, unsigned int *random)
{
	unsigned int every = below(random, 8) == 0 ? VGF_CANCEL_EVERY_CONTEXT : 0;
	int ret = vgf_context_cancel(
		load->device, ctx_id, (1 + below(random, 7)) | every, -ECANCELED);

	/* VGF_CANCEL_RUNNING alone says of no context. */
	check(ret == 0 || ret == -ENOENT || ret == -EINVAL);
}

static void dispatch_all(struct load *load, unsigned int *random)
{
	int ret;

	dispatches = true;
	if (load->with_resets && below(random, 3) == 0) {
		check(vgf_device_reset(load->device) == 0);
	} else {
		ret = vgf_device_drain(load->device, (int)below(random, 2));
		check(ret == 0 || ret == -ETIMEDOUT);
	}
	dispatches = false;
}

static int defer_call(struct load *load, uint32_t ctx_id, int32_t ring)
{
	const struct vgf_deferred_call call = {
		.ctx_id = ctx_id,
		.ring = ring,
		.fn = on_turn,
		.arg = load,
	};

	return vgf_context_defer(load->device, &call);
}

static void meddle(struct load *load, uint32_t ctx_id, unsigned int *random)
{
	unsigned int dice = below(random, 100);
	int ret;

	if (dice < 20) {
		create_context(load, ctx_id, dice);
	} else if (dice < 28) {
		ret = vgf_context_destroy(load->device, ctx_id);
		check(ret == 0 || ret == 1 || ret == -ENOENT);
	} else if (dice < 32) {
		give_up_a_context(load, ctx_id, random);
	} else if (dice < 42) {
		ret = defer_call(load, ctx_id, dice % 2 ? VGF_EVERY_RING : 0);
		check(ret == 0 || ret == 1 || ret == -ENOENT);
		load->counts.deferred += ret >= 0;
	} else if (dice < 50) {
		make_fence_somewhere(load, random);
	} else if (dice < 54) {
		give_up_a_fence(load, random);
	} else if (dice < 56) {
		give_up_a_timeline(load, ctx_id, random);
	} else if (dice < 59) {
		dispatch_all(load, random);
	} else if (dice < 68) {
		ask_for_a_fence(load, random);
	} else if (dice < 71) {
		export_for_a_context(load, random);
	} else if (dice < 80) {
		look_inside(load, random);
	} else {
		submit(load, ctx_id, (int32_t)below(random, RINGS), random);
	}
}

/* One context a thread, so that its timelines have IDs that grow. */
static void *meddler_main(void *data)
{
	struct worker *worker = data;

	for (unsigned int i = 0; i < worker->load->steps; i++) {
		wait_in_flight(worker->load, MAX_IN_FLIGHT);
		meddle(worker->load, worker->ctx_id, &worker->random);
	}
	return NULL;
}

/* Several threads with the same contexts: a submission may come too late for its timeline. */
static void *rival_main(void *data)
{
	struct worker *worker = data;

	for (unsigned int i = 0; i < worker->load->steps; i++) {
		wait_in_flight(worker->load, MAX_IN_FLIGHT);
		meddle(worker->load, FIRST_RIVAL_CONTEXT + below(&worker->random, RIVAL_CONTEXTS),
			&worker->random);
	}
	return NULL;
}

/* ---- Loads -------------------------------------------------------------------------------- */

static unsigned int get_steps(void)
{
	const char *text = getenv("VGF_TEST_THREAD_STEPS");

	return text ? (unsigned int)strtoul(text, NULL, 0) : DEFAULT_STEPS;
}

static void load_init(struct load *load, const struct vgf_options *options)
{
	*load = (struct load){ .steps = get_steps() };
	load->run_in_dispatch = options && options->run_in_dispatch;
	load->max_id = (uint64_t)load->steps * 20 + 1000;
	load->records = calloc(load->max_id, sizeof(*load->records));
	assert_non_null(load->records);
	pthread_mutex_init(&load->lock, NULL);
	pthread_mutex_init(&load->global_lock, NULL);
	pthread_cond_init(&load->runs, NULL);
	pthread_cond_init(&load->has_retired, NULL);
	assert_int_equal(vgf_device_create(&callbacks, load, options, &load->device), 0);
}

/* The device is gone. */
static void load_check(struct load *load)
{
	for (uint64_t id = 0; id < load->max_id; id++) {
		const struct record *record = &load->records[id];

		assert_int_equal(record->retired, record->promised);
		assert_true(record->ran <= 1 && record->successes <= 1);
	}
	assert_int_equal(load->counts.created, load->counts.destroyed);
	assert_int_equal(load->counts.deferred, load->counts.called);
	assert_int_equal(load->counts.asked, load->counts.told);
	assert_int_equal(load->in_flight, 0);
}

static void load_finish(struct load *load)
{
	for (size_t i = 0; i < load->pool_size; i++) {
		if (load->pool[i].fd >= 0) {
			close(load->pool[i].fd);
		}
	}
	free(load->pool);
	free(load->records);
	pthread_mutex_destroy(&load->lock);
	pthread_mutex_destroy(&load->global_lock);
	pthread_cond_destroy(&load->runs);
	pthread_cond_destroy(&load->has_retired);
}

static void start(
	struct worker *worker, struct load *load, void *(*function)(void *), uint32_t number)
{
	*worker = (struct worker){ .load = load, .random = number * 7919, .ctx_id = number };
	assert_int_equal(pthread_create(&worker->thread, NULL, function, worker), 0);
}

struct threads {
	struct worker submitters[SUBMITTERS], meddlers[MEDDLERS], rivals[RIVALS];
	struct worker signallers[SIGNALLERS];
};

static void start_all(struct threads *threads, struct load *load)
{
	for (uint32_t i = 0; i < SIGNALLERS; i++) {
		start(&threads->signallers[i], load, signaller_main, 100 + i);
	}
	for (uint32_t i = 0; i < SUBMITTERS; i++) {
		start(&threads->submitters[i], load, submitter_main, 1 + i);
	}
	for (uint32_t i = 0; i < MEDDLERS; i++) {
		start(&threads->meddlers[i], load, meddler_main, 1 + SUBMITTERS + i);
	}
	for (uint32_t i = 0; i < RIVALS; i++) {
		start(&threads->rivals[i], load, rival_main, 200 + i);
	}
}

static void join_all(struct worker *workers, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		pthread_join(workers[i].thread, NULL);
	}
}

/* Work without a fence is in nobody's count; the dispatching thread still runs it. */
static void wait_for_held(struct load *load)
{
	const struct timespec moment = { .tv_nsec = 1000000 };
	struct vgf_stats stats = { .size = sizeof(stats) };

	for (vgf_device_get_stats(load->device, &stats); stats.held > 0;
		vgf_device_get_stats(load->device, &stats)) {
		nanosleep(&moment, NULL);
	}
}

static void check_nothing_is_left(struct load *load)
{
	struct vgf_stats stats = { .size = sizeof(stats) };

	vgf_device_get_stats(load->device, &stats);
	assert_int_equal(stats.pending, 0);
	assert_int_equal(stats.held, 0);
	assert_int_equal(stats.held_size, 0);
	assert_int_equal(stats.created, stats.retired);
	assert_int_equal(vgf_device_list_pending(load->device, NULL, 0), 0);
}

/* dispatcher: NULL if the library has its own thread. */
static void run_load(
	const struct vgf_options *options, void *(*dispatcher)(void *), bool with_resets)
{
	struct vgf_fence_name last = { .ring = VGF_RING_GLOBAL };
	struct threads threads;
	struct load load;
	pthread_t thread;

	load_init(&load, options);
	load.with_resets = with_resets;
	create_context(&load, CALLBACK_CONTEXT, 1);
	if (dispatcher) {
		assert_int_equal(pthread_create(&thread, NULL, dispatcher, &load), 0);
	}
	start_all(&threads, &load);
	join_all(threads.submitters, SUBMITTERS);
	join_all(threads.meddlers, MEDDLERS);
	join_all(threads.rivals, RIVALS);

	wait_in_flight(&load, 0);
	wait_for_held(&load);
	load.stop = true;
	wait_in_flight(&load, 0);
	check_nothing_is_left(&load);
	pthread_mutex_lock(&load.lock);
	load.no_more = true;
	pthread_cond_broadcast(&load.runs);
	pthread_mutex_unlock(&load.lock);
	join_all(threads.signallers, SIGNALLERS);
	if (dispatcher) {
		last.fence_id = new_id(&load);
		assert_int_equal(create_take(load.device, &last, 0, VGF_FENCE_DONE), 0);
		note_promise(&load, last.fence_id, true);
		pthread_join(thread, NULL);
	}
	dispatches = true;
	vgf_device_destroy(load.device);
	dispatches = false;
	load_check(&load);
	load_finish(&load);
}

TEST(many_threads_and_one_that_dispatches)
{
	run_load(NULL, dispatcher_main, false);
}

TEST(many_threads_and_a_loop_of_the_vmm)
{
	run_load(NULL, poller_main, false);
}

TEST(many_threads_and_the_librarys_own)
{
	run_load(&(struct vgf_options){ .size = sizeof(struct vgf_options), .own_thread = true },
		NULL, false);
}

TEST(many_threads_and_few_descriptors)
{
	run_load(&(struct vgf_options){ .size = sizeof(struct vgf_options), .limits.max_fds = 8 },
		dispatcher_main, false);
}

TEST(many_threads_and_one_that_alone_calls_drivers)
{
	run_load(&(struct vgf_options){ .size = sizeof(struct vgf_options),
			 .run_in_dispatch = true },
		dispatcher_main, false);
}

TEST(many_threads_and_resets_where_one_alone_calls_drivers)
{
	run_load(&(struct vgf_options){ .size = sizeof(struct vgf_options),
			 .run_in_dispatch = true },
		poller_main, true);
}

TEST(many_threads_and_short_rounds)
{
	run_load(&(struct vgf_options){ .size = sizeof(struct vgf_options), .budget_items = 2 },
		dispatcher_main, false);
}

TEST(many_threads_and_resets)
{
	run_load(NULL, dispatcher_main, true);
}

TEST(many_threads_and_resets_of_a_device_with_a_thread)
{
	run_load(&(struct vgf_options){ .size = sizeof(struct vgf_options), .own_thread = true },
		NULL, true);
}

TEST(many_threads_and_a_watchdog_that_always_barks)
{
	run_load(
		&(struct vgf_options){
			.size = sizeof(struct vgf_options), .own_thread = true, .stall_ns = 1 },
		NULL, false);
}

/* ---- Two threads and one fence ------------------------------------------------------------ */

struct duel {
	struct load load;
	pthread_barrier_t barrier;
	uint64_t count;
	int (*strike)(struct vgf_device *device, const struct vgf_fence_name *name);
};

static int strike_by_call(struct vgf_device *device, const struct vgf_fence_name *name)
{
	return vgf_fence_signal(device, name, 0);
}

static int strike_by_force(struct vgf_device *device, const struct vgf_fence_name *name)
{
	return vgf_fence_cancel(device, name, -ETIME);
}

static void *duellist_main(void *data)
{
	struct duel *duel = data;

	for (uint64_t id = 1; id <= duel->count; id++) {
		struct vgf_fence_name name = { .fence_id = id, .ring = VGF_RING_GLOBAL };
		int ret;

		pthread_barrier_wait(&duel->barrier);
		ret = strike_by_call(duel->load.device, &name);
		check(ret == 0 || ret == -EALREADY || ret == -ENOENT);
		duel->load.records[id].successes += ret == 0;
	}
	return NULL;
}

static void run_duel(int (*strike)(struct vgf_device *, const struct vgf_fence_name *))
{
	struct vgf_options options = { .size = sizeof(struct vgf_options), .own_thread = true };
	struct duel duel = { .strike = strike };
	pthread_t thread;

	load_init(&duel.load, &options);
	duel.load.stop = true; /* no submissions from callbacks */
	duel.count = duel.load.steps;
	pthread_barrier_init(&duel.barrier, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, duellist_main, &duel), 0);
	for (uint64_t id = 1; id <= duel.count; id++) {
		struct vgf_fence_name name = { .fence_id = id, .ring = VGF_RING_GLOBAL };
		int ret = create_take(duel.load.device, &name, 0, VGF_FENCE_BY_CALL);

		assert_int_equal(ret, 0);
		note_promise(&duel.load, id, true);
		pthread_barrier_wait(&duel.barrier);
		ret = strike(duel.load.device, &name);
		assert_true(ret == 0 || ret == -EALREADY || ret == -ENOENT);
		duel.load.records[id].successes += ret == 0;
	}
	pthread_join(thread, NULL);
	wait_in_flight(&duel.load, 0);
	vgf_device_destroy(duel.load.device);
	for (uint64_t id = 1; id <= duel.count; id++) {
		assert_int_equal(duel.load.records[id].successes, 1);
	}
	load_check(&duel.load);
	load_finish(&duel.load);
	pthread_barrier_destroy(&duel.barrier);
}

TEST(one_of_two_signals_counts)
{
	run_duel(strike_by_call);
}

TEST(one_of_a_signal_and_a_cancel_counts)
{
	run_duel(strike_by_force);
}

/* ---- The end ------------------------------------------------------------------------------ */

struct last_dispatch {
	struct vgf_device *device;
	int ret;
};

/* Once: whoever calls it after that may come too late for the device. */
static void *last_dispatcher_main(void *data)
{
	struct last_dispatch *last = data;

	do {
		last->ret = vgf_device_dispatch(last->device, -1);
	} while (last->ret == -EBUSY);
	return NULL;
}

static void submit_some(struct load *load, unsigned int seed)
{
	unsigned int random = seed;

	create_context(load, 1, seed);
	create_context(load, 2, seed + 1);
	create_context(load, CALLBACK_CONTEXT, seed + 2);
	for (uint32_t i = 0; i < 40; i++) {
		submit(load, 1 + i % 2, (int32_t)(i % RINGS), &random);
	}
	vgf_context_destroy(load->device, 2);
}

/* With work in flight, and everything that waits for it. */
TEST(destroying_a_device_that_another_thread_dispatches)
{
	/* Nothing is left for another round. */
	const struct vgf_options unhurried = {
		.size = sizeof(unhurried),
		.budget_items = UINT32_MAX,
		.budget_ns = UINT64_MAX,
	};

	for (unsigned int i = 0; i < 50; i++) {
		struct load load;
		struct last_dispatch last;
		pthread_t thread;

		load_init(&load, &unhurried);
		submit_some(&load, i);
		load.stop = true;
		while (vgf_device_dispatch(load.device, 0) > 0) {
		}
		last.device = load.device;
		assert_int_equal(pthread_create(&thread, NULL, last_dispatcher_main, &last), 0);
		/* There is nothing to do any more: it is in its call for good. */
		while (vgf_device_dispatch(load.device, 0) != -EBUSY) {
			sched_yield();
		}
		vgf_device_destroy(load.device);
		pthread_join(thread, NULL);
		assert_int_equal(last.ret, -ECANCELED);
		load_check(&load);
		load_finish(&load);
	}
}

TEST(destroying_a_device_with_a_thread_and_work_in_flight)
{
	for (unsigned int i = 0; i < 50; i++) {
		struct vgf_options options = { .size = sizeof(struct vgf_options),
			.own_thread = true };
		struct load load;

		load_init(&load, &options);
		submit_some(&load, i);
		vgf_device_destroy(load.device);
		load_check(&load);
		load_finish(&load);
	}
}
