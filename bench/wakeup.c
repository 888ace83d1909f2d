/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * vgfence bench wakeup: from a signal in one thread to what follows it in another.
 *
 * This thread signals. Of two others one is blocked in epoll_wait on an eventfd, with no library:
 * the bare wake-up. The other is blocked in vgf_device_dispatch. They are woken in turns, sample by
 * sample, each after both have had time to fall asleep again.
 *
 * Where the threads run matters most: an idle processor takes several times as long to wake up as
 * the kernel to change threads. Left alone, the kernel chooses one way in one run and the other in
 * the next, so both are measured, and the threads are tied to their processors.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <json-c/json.h>
#include <vgfence/context_driver.h>
#include <vgfence/vgfence.h>

#include "bench.h"
#include "clock.h"

#define MAX_SAMPLES 1000      /* of each kind and place */
#define FALL_ASLEEP_NS 100000 /* what the other threads get to block again */
#define GIVE_UP_S 60          /* a wake-up that takes so long is a lost one */
#define NUM_THREADS 2
#define PRODUCER_CTX 1 /* its fences are signalled by this thread */
#define HELD_CTX 2     /* its work waits for them, on the host */

enum kind {
	BARE,
	RETIRE_FD,
	RETIRE_CALL,
	HELD_FD,
	HELD_CALL,
	NUM_KINDS,
};

static const struct {
	const char *name, *text;
} kinds[NUM_KINDS] = {
	[BARE] = { "bare", "write to an eventfd -> epoll_wait returns" },
	[RETIRE_FD] = { "retire_eventfd", "write to a fence's eventfd -> its callback" },
	[RETIRE_CALL] = { "retire_call", "vgf_fence_signal -> the fence's callback" },
	[HELD_FD] = { "held_eventfd", "write to an in-fence's eventfd -> held work runs" },
	[HELD_CALL] = { "held_call", "vgf_fence_signal of an in-fence -> held work runs" },
};

enum place {
	APART,
	TOGETHER,
	NUM_PLACES,
};

static const struct {
	const char *name, *text;
} places[NUM_PLACES] = {
	[APART] = { "apart", "signalled from another processor" },
	[TOGETHER] = { "together", "signalled from the same processor" },
};

struct wakeup {
	unsigned int num_samples;       /* of each, at most MAX_SAMPLES */
	pthread_t threads[NUM_THREADS]; /* the ones that are woken */
	struct vgf_device *device;
	int epoll_fd, bare_fd;
	int next_fd;   /* what the producer's driver answers */
	int signal_fd; /* the signalling thread's own copy of it */
	atomic_bool stop;
	sem_t done; /* posted once all that a sample makes happen has happened */

	/* Of the sample in hand: written before the signal, or by the woken thread before done. */
	enum kind kind;
	unsigned int to_retire;
	atomic_uint_fast64_t woken_ns;

	uint64_t fence_id;
	bool measured[NUM_PLACES];
	double samples[NUM_PLACES][NUM_KINDS][MAX_SAMPLES];
	double cpu_samples[NUM_PLACES][NUM_KINDS][MAX_SAMPLES]; /* of the woken thread */
};

static void *bare_thread(void *arg)
{
	struct wakeup *bench = arg;
	struct epoll_event event;
	eventfd_t value;

	for (;;) {
		int count = epoll_wait(bench->epoll_fd, &event, 1, -1);
		uint64_t woken_ns = now_ns();
		if (count != 1 || atomic_load(&bench->stop)) {
			return NULL;
		}
		bench->woken_ns = woken_ns;
		eventfd_read(bench->bare_fd, &value);
		sem_post(&bench->done);
	}
}

static void *dispatching_thread(void *arg)
{
	struct wakeup *bench = arg;

	while (!atomic_load(&bench->stop)) {
		int retired = vgf_device_dispatch(bench->device, -1);
		if (retired < 0 && retired != -EINTR) {
			bench_error(retired, "vgf_device_dispatch");
			break;
		}
	}
	return NULL;
}

static void on_retire(void *cookie, const struct vgf_retired *retired)
{
	const struct vgf_fence_name *fence = &retired->fence;
	int status = retired->status;
	struct wakeup *bench = cookie;
	uint64_t now = now_ns();

	(void)fence;
	(void)status;
	if (bench->kind == RETIRE_FD || bench->kind == RETIRE_CALL) {
		bench->woken_ns = now;
	}
	if (--bench->to_retire == 0) {
		sem_post(&bench->done);
	}
}

static int on_producer_submit(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	struct wakeup *bench = data;

	(void)job;
	*out_fence_fd = bench->next_fd;
	return 0;
}

static int on_held_submit(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	struct wakeup *bench = data;

	(void)job;
	bench->woken_ns = now_ns();
	*out_fence_fd = VGF_FENCE_DONE;
	return 0;
}

static int submit(struct wakeup *bench, uint32_t ctx_id, uint64_t in_fence)
{
	struct vgf_submission submission = {
		.fence = { .fence_id = ++bench->fence_id, .ctx_id = ctx_id },
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.num_in_fences = in_fence ? 1 : 0,
		.in_fences = &in_fence,
	};
	int held = vgf_submit(bench->device, &submission, NULL);

	if (held < 0) {
		return bench_error(held, "vgf_submit");
	}
	return held == (in_fence != 0) ? 0 : bench_error(-EIO, "work was not held back");
}

/* Makes what the sample is to signal. */
static int prepare(struct wakeup *bench, enum kind kind)
{
	bench->kind = kind;
	bench->to_retire = kind == BARE ? 0 : kind == HELD_FD || kind == HELD_CALL ? 2 : 1;
	bench->next_fd = VGF_FENCE_BY_CALL;
	if (kind == BARE) {
		return 0;
	}
	if (kind == RETIRE_FD || kind == HELD_FD) {
		bench->next_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		bench->signal_fd = fcntl(bench->next_fd, F_DUPFD_CLOEXEC, 0);
		if (bench->signal_fd < 0) {
			return bench_error(-errno, "eventfd");
		}
	}
	int error = submit(bench, PRODUCER_CTX, 0);
	if (error == 0 && (kind == HELD_FD || kind == HELD_CALL)) {
		error = submit(bench, HELD_CTX, bench->fence_id);
	}
	return error;
}

/* Signals, and returns when it began to: the wake-up includes the call that causes it. */
static int signal_sample(struct wakeup *bench, uint64_t *start_ns)
{
	enum kind kind = bench->kind;
	struct vgf_fence_name fence = { .fence_id = bench->fence_id - (kind == HELD_CALL),
		.ctx_id = PRODUCER_CTX };

	if (kind == RETIRE_CALL || kind == HELD_CALL) {
		*start_ns = now_ns();
		return vgf_fence_signal(bench->device, &fence, 0);
	}
	int fd = kind == BARE ? bench->bare_fd : bench->signal_fd;
	*start_ns = now_ns();
	return eventfd_write(fd, 1) < 0 ? -errno : 0;
}

static void let_fall_asleep(void)
{
	static const struct timespec fall_asleep = { .tv_nsec = FALL_ASLEEP_NS };

	nanosleep(&fall_asleep, NULL);
}

/* Looks again and again: to wake this thread would cost the other one CPU time. */
static int wait_done(struct wakeup *bench)
{
	uint64_t end_ns = now_ns() + GIVE_UP_S * NS_PER_S;

	let_fall_asleep();
	while (sem_trywait(&bench->done) < 0) {
		if (now_ns() >= end_ns) {
			return bench_error(-ETIMEDOUT, kinds[bench->kind].text);
		}
		let_fall_asleep();
	}
	return 0;
}

/* The CPU time of the thread that is woken, once it has fallen asleep. */
static double cpu_us_asleep(const struct wakeup *bench)
{
	struct timespec used = { 0 };
	clockid_t clock;

	let_fall_asleep();
	if (pthread_getcpuclockid(bench->threads[bench->kind == BARE ? 0 : 1], &clock) == 0) {
		clock_gettime(clock, &used);
	}
	return (double)used.tv_sec * 1e6 + (double)used.tv_nsec / 1000;
}

static int take_sample(struct wakeup *bench, enum kind kind, double *sample, double *cpu_sample)
{
	int error = prepare(bench, kind);

	if (error < 0) {
		return error;
	}
	double cpu_us = cpu_us_asleep(bench);
	uint64_t start_ns;
	error = signal_sample(bench, &start_ns);
	if (error < 0) {
		return bench_error(error, kinds[kind].text);
	}
	error = wait_done(bench);
	*sample = (double)(bench->woken_ns - start_ns) / 1000;
	*cpu_sample = cpu_us_asleep(bench) - cpu_us;
	if (bench->signal_fd >= 0) {
		close(bench->signal_fd);
		bench->signal_fd = -1;
	}
	return error;
}

static int take_samples(struct wakeup *bench, enum place place)
{
	int error = 0;

	for (unsigned int i = 0; i < bench->num_samples && error == 0; i++) {
		if (i % 100 == 0) {
			bench_progress(places[place].text, i, bench->num_samples);
		}
		for (int kind = 0; kind < NUM_KINDS && error == 0; kind++) {
			error = take_sample(bench, (enum kind)kind, &bench->samples[place][kind][i],
				&bench->cpu_samples[place][kind][i]);
		}
	}
	bench_progress(places[place].text, bench->num_samples, bench->num_samples);
	bench->measured[place] = error == 0;
	return error;
}

static int tie(pthread_t thread, int processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	return pthread_setaffinity_np(thread, sizeof(set), &set);
}

/* The signalling thread on the first processor that we may use, the others there or on the last. */
static int tie_threads(const struct wakeup *bench, const cpu_set_t *allowed, enum place place)
{
	int first = -1, last = -1;

	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (CPU_ISSET(i, allowed)) {
			first = first < 0 ? i : first;
			last = i;
		}
	}
	int other = place == TOGETHER ? first : last;
	if (first < 0 || (place == APART && first == last)) {
		return -ENODEV;
	}
	int error = tie(pthread_self(), first);
	for (size_t i = 0; i < NUM_THREADS && error == 0; i++) {
		error = tie(bench->threads[i], other);
	}
	return -error;
}

/* On a machine with one processor, or too many to be counted here, one place is missing. */
static int take_places(struct wakeup *bench)
{
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0) {
		return bench_error(-errno, "sched_getaffinity");
	}
	int error = 0;
	for (int place = 0; place < NUM_PLACES && error == 0; place++) {
		if (tie_threads(bench, &allowed, (enum place)place) == 0) {
			error = take_samples(bench, (enum place)place);
		}
	}
	sched_setaffinity(0, sizeof(allowed), &allowed);
	return error;
}

static int make_device(struct wakeup *bench)
{
	static const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = on_retire };
	static const struct vgf_driver producer = { .size = sizeof(struct vgf_driver),
		.submit = on_producer_submit };
	static const struct vgf_driver held = { .size = sizeof(struct vgf_driver),
		.submit = on_held_submit };
	int error = vgf_device_create(&callbacks, bench, NULL, &bench->device);

	if (error == 0) {
		error = vgf_context_create(bench->device, PRODUCER_CTX, &producer, bench);
	}
	if (error == 0) {
		error = vgf_context_create(bench->device, HELD_CTX, &held, bench);
	}
	return error < 0 ? bench_error(error, "making a device") : 0;
}

static int make_bare(struct wakeup *bench)
{
	struct epoll_event event = { .events = EPOLLIN };

	bench->bare_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bench->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (bench->bare_fd < 0 || bench->epoll_fd < 0 ||
		epoll_ctl(bench->epoll_fd, EPOLL_CTL_ADD, bench->bare_fd, &event) < 0) {
		return bench_error(-errno, "epoll");
	}
	return 0;
}

/* Wakes both threads a last time. */
static int stop_threads(struct wakeup *bench, unsigned int count)
{
	static const struct vgf_fence_name last = { .fence_id = 1, .ring = VGF_RING_GLOBAL };
	int error;

	bench->kind = BARE;
	bench->to_retire = UINT32_MAX;
	atomic_store(&bench->stop, true);
	eventfd_write(bench->bare_fd, 1);
	error = vgf_fence_create_take(bench->device, &last, 0, NULL, VGF_FENCE_DONE);
	for (unsigned int i = 0; i < count; i++) {
		pthread_join(bench->threads[i], NULL);
	}
	return error < 0 ? bench_error(error, "the last fence") : 0;
}

static int run_threads(struct wakeup *bench)
{
	void *(*const functions[NUM_THREADS])(void *) = { bare_thread, dispatching_thread };
	unsigned int count = 0;
	int error = 0;

	while (count < NUM_THREADS && error == 0) {
		error = -pthread_create(&bench->threads[count], NULL, functions[count], bench);
		count += error == 0;
	}
	error = error < 0 ? bench_error(error, "pthread_create") : take_places(bench);
	int stop_error = stop_threads(bench, count);
	return error < 0 ? error : stop_error;
}

/* From one sleep to the next. */
static double cpu_us(struct wakeup *bench, int place, int kind)
{
	return bench_percentile(bench->cpu_samples[place][kind], bench->num_samples, 50);
}

static void print_table(struct wakeup *bench)
{
	printf("bench wakeup: microseconds from a signal in one thread to what follows in another\n"
	       "that sleeps; %u samples a row, taken in turns (goals for the median: a callback "
	       "at\n"
	       "most 1.30 bare wake-ups, held work at most 2.50 with its GPU thread's own one); "
	       "CPU\ntime of the woken thread until it sleeps again, the median\n",
		bench->num_samples);
	for (int place = 0; place < NUM_PLACES; place++) {
		double(*samples)[MAX_SAMPLES] = bench->samples[place];
		if (!bench->measured[place]) {
			continue;
		}
		double bare = bench_percentile(samples[BARE], bench->num_samples, 50);
		printf("\n%-50s %8s %8s %9s %8s %9s\n", places[place].text, "p50", "p99",
			"p50-bare", "CPU", "of bare");
		for (int kind = 0; kind < NUM_KINDS; kind++) {
			double p50 = bench_percentile(samples[kind], bench->num_samples, 50);
			double p99 = bench_percentile(samples[kind], bench->num_samples, 99);
			printf("%-50s %8.1f %8.1f %9.1f %8.1f %8.2fx\n", kinds[kind].text, p50, p99,
				p50 - bare, cpu_us(bench, place, kind), p50 / bare);
		}
	}
}

static void add_json(struct wakeup *bench, enum place place, struct json_object *array)
{
	double(*samples)[MAX_SAMPLES] = bench->samples[place];
	double bare = bench_percentile(samples[BARE], bench->num_samples, 50);
	for (int kind = 0; kind < NUM_KINDS; kind++) {
		double p50 = bench_percentile(samples[kind], bench->num_samples, 50);
		double p99 = bench_percentile(samples[kind], bench->num_samples, 99);
		struct json_object *object = json_object_new_object();
		json_object_object_add(
			object, "processors", json_object_new_string(places[place].name));
		json_object_object_add(object, "name", json_object_new_string(kinds[kind].name));
		json_object_object_add(object, "p50_us", bench_number(p50));
		json_object_object_add(object, "p99_us", bench_number(p99));
		json_object_object_add(object, "of_bare", bench_number(p50 / bare));
		json_object_object_add(object, "cpu_us", bench_number(cpu_us(bench, place, kind)));
		json_object_array_add(array, object);
	}
}

static void show(struct wakeup *bench, struct json_object *array)
{
	if (!array) {
		print_table(bench);
		return;
	}
	for (int place = 0; place < NUM_PLACES; place++) {
		if (bench->measured[place]) {
			add_json(bench, (enum place)place, array);
		}
	}
}

int bench_wakeup(unsigned int rounds, struct json_object *array)
{
	static struct wakeup bench; /* large, and not kept from run to run */
	memset(&bench, 0, sizeof(bench));

	bench.num_samples = bench_rounds(rounds, MAX_SAMPLES);
	bench.bare_fd = bench.epoll_fd = bench.signal_fd = -1;
	sem_init(&bench.done, 0, 0);
	int error = make_bare(&bench);
	if (error == 0) {
		error = make_device(&bench);
	}
	if (error == 0) {
		error = run_threads(&bench);
	}
	vgf_device_destroy(bench.device);
	if (bench.epoll_fd >= 0) {
		close(bench.epoll_fd);
	}
	if (bench.bare_fd >= 0) {
		close(bench.bare_fd);
	}
	sem_destroy(&bench.done);
	if (error < 0) {
		return error;
	}
	show(&bench, array);
	return 0;
}
