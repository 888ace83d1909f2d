/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "aside.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#define MAX_EVENTS 4

struct aside {
	bool (*serve)(void *arg);
	void *arg;
	int wake_set;
	int timer_fd;     /* what the second thread sleeps on */
	int wake_fd;      /* in wake_set: what it waits for is over */
	bool is_realtime; /* the second thread; as long as there is one */
	/* Of the loop's thread alone. It has the lock from the first aside_enter on. */
	bool has_begun, has_thread;
	pthread_t loop, thread;
	pthread_mutex_t lock;
	/* The loop's thread is between enter and leave. It says so before it lets go of the lock,
	 * and takes it back before it waits for the lock: so that it waits for one turn at most. */
	atomic_bool is_inside;
	atomic_bool is_armed;   /* the timer runs, or has not been looked at yet */
	atomic_bool is_serving; /* the second thread waits for wake_set */
	atomic_bool ends;
	atomic_uint_fast64_t served_ns; /* when there was something to do, or 0 */
	/* Of the second thread alone: when this period has begun, and the CPU time till then. */
	uint64_t period_ns, used_before_ns;
};

/* ---- The second thread -------------------------------------------------------------------- */

/* The descriptor that ends the wait is read; the others are only looked at. */
static void wait_for_more(struct aside *aside, int timeout_ms)
{
	struct epoll_event events[MAX_EVENTS];
	int count = epoll_wait(aside->wake_set, events, MAX_EVENTS, timeout_ms);
	uint64_t ignored;

	for (int i = 0; i < count; i++) {
		if (events[i].data.ptr == aside) {
			(void)!read(aside->wake_fd, &ignored, sizeof(ignored));
		}
	}
}

/* Returns whether the lock is taken, and this is a turn. */
static bool take_turn(struct aside *aside)
{
	if (!atomic_load(&aside->is_inside) || pthread_mutex_trylock(&aside->lock) != 0) {
		return false;
	}
	if (!atomic_load(&aside->is_inside)) {
		pthread_mutex_unlock(&aside->lock);
		return false;
	}
	return true;
}

void aside_served(struct aside *aside)
{
	atomic_store(&aside->served_ns, now_ns());
}

static void begin_period_after(struct aside *aside, uint64_t end_ns)
{
	if (now_ns() >= end_ns) {
		aside->period_ns = now_ns();
		aside->used_before_ns = thread_cpu_ns();
	}
}

/* With realtime priority it would take a processor from all others as long as a guest asks for
 * something again and again. A period with more than its share lasts longer accordingly. */
static void rest(struct aside *aside)
{
	uint64_t used_ns = thread_cpu_ns() - aside->used_before_ns;
	uint64_t end_ns = aside->period_ns + ASIDE_PERIOD_NS;
	struct timespec left;

	if (used_ns >= ASIDE_SHARE_NS) {
		end_ns = aside->period_ns + used_ns * (ASIDE_PERIOD_NS / ASIDE_SHARE_NS);
		left = time_until(end_ns);
		nanosleep(&left, NULL);
	}
	begin_period_after(aside, end_ns);
}

static void serve_until_left(struct aside *aside)
{
	begin_period_after(aside, aside->period_ns + ASIDE_PERIOD_NS);
	while (!atomic_load(&aside->ends)) {
		bool more;

		/* Before it is looked whether there is a turn: whoever leaves after that wakes. */
		atomic_store(&aside->is_serving, true);
		if (!take_turn(aside)) {
			break;
		}
		more = aside->serve(aside->arg);
		pthread_mutex_unlock(&aside->lock);
		if (aside->is_realtime) {
			rest(aside);
		}
		wait_for_more(aside, more ? 0 : -1);
	}
	atomic_store(&aside->is_serving, false);
}

static void *run(void *arg)
{
	struct aside *aside = arg;
	uint64_t expirations;

	while (!atomic_load(&aside->ends)) {
		if (read(aside->timer_fd, &expirations, sizeof(expirations)) < 0) {
			continue; /* nothing but a signal of a debugger's */
		}
		/* From here on whoever enters arms it again; who is inside already is served. */
		atomic_store(&aside->is_armed, false);
		serve_until_left(aside);
	}
	return NULL;
}

/* ---- The loop's thread -------------------------------------------------------------------- */

/* Faults stay: they are what tells that guest memory is lost. */
static void block_signals(sigset_t *before)
{
	sigset_t all;

	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, before);
}

static int start_thread(struct aside *aside, const pthread_attr_t *attributes)
{
	sigset_t before;
	int error;

	block_signals(&before);
	error = pthread_create(&aside->thread, attributes, run, aside);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	aside->has_thread = error == 0;
	return -error;
}

/* If that is not allowed, the first aside_enter starts one without. */
static void start_realtime(struct aside *aside)
{
	const struct sched_param lowest = { .sched_priority = sched_get_priority_min(SCHED_RR) };
	pthread_attr_t attributes;

	aside->is_realtime = true; /* before there is who reads it */
	pthread_attr_init(&attributes);
	pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attributes, SCHED_RR);
	pthread_attr_setschedparam(&attributes, &lowest);
	aside->is_realtime = start_thread(aside, &attributes) == 0;
	pthread_attr_destroy(&attributes);
}

static int begin(struct aside *aside)
{
	pthread_mutex_lock(&aside->lock);
	aside->loop = pthread_self();
	aside->has_begun = true;
	return aside->has_thread ? 0 : start_thread(aside, NULL);
}

static long time_of_call(struct aside *aside)
{
	uint64_t served_ns = atomic_load(&aside->served_ns);
	bool lately = served_ns > 0 && now_ns() - served_ns < ASIDE_LATELY_NS;

	return lately ? ASIDE_AGAIN_NS : ASIDE_FIRST_NS;
}

static void set_timer(struct aside *aside, long after_ns)
{
	const struct itimerspec time = { .it_value.tv_nsec = after_ns };

	timerfd_settime(aside->timer_fd, 0, &time, NULL);
}

int aside_enter(struct aside *aside)
{
	int ret = aside->has_begun ? 0 : begin(aside);

	if (!aside->has_thread) {
		return ret;
	}
	atomic_store(&aside->is_inside, true);
	pthread_mutex_unlock(&aside->lock);
	if (!atomic_exchange(&aside->is_armed, true)) {
		set_timer(aside, time_of_call(aside));
	}
	return 0;
}

static void wake(struct aside *aside)
{
	const uint64_t one = 1;

	(void)!write(aside->wake_fd, &one, sizeof(one));
}

void aside_leave(struct aside *aside)
{
	if (!aside->has_thread) {
		return;
	}
	atomic_store(&aside->is_inside, false);
	if (atomic_load(&aside->is_serving)) {
		wake(aside);
	}
	pthread_mutex_lock(&aside->lock);
}

bool aside_pause(struct aside *aside)
{
	/* Any thread may ask. While the loop's thread is inside, `loop` does not change. */
	if (!atomic_load(&aside->is_inside) || !pthread_equal(aside->loop, pthread_self())) {
		return false;
	}
	aside_leave(aside);
	return true;
}

void aside_resume(struct aside *aside)
{
	aside_enter(aside);
}

/* ---- Start and end ------------------------------------------------------------------------ */

static void free_aside(struct aside *aside)
{
	pthread_mutex_destroy(&aside->lock);
	if (aside->timer_fd >= 0) {
		close(aside->timer_fd);
	}
	if (aside->wake_fd >= 0) {
		close(aside->wake_fd);
	}
	free(aside);
}

static int open_descriptors(struct aside *aside)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = aside };

	aside->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	if (aside->timer_fd < 0) {
		return -errno;
	}
	aside->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (aside->wake_fd < 0 ||
		epoll_ctl(aside->wake_set, EPOLL_CTL_ADD, aside->wake_fd, &event) < 0) {
		return -errno;
	}
	return 0;
}

int aside_create(int wake_set, bool (*serve)(void *arg), void *arg, struct aside **out)
{
	struct aside *aside = calloc(1, sizeof(*aside));
	int ret;

	if (aside == NULL) {
		return -ENOMEM;
	}
	aside->serve = serve;
	aside->arg = arg;
	aside->wake_set = wake_set;
	aside->timer_fd = aside->wake_fd = -1;
	pthread_mutex_init(&aside->lock, NULL);
	ret = open_descriptors(aside);
	if (ret < 0) {
		free_aside(aside);
		return ret;
	}
	start_realtime(aside);
	*out = aside;
	return 0;
}

void aside_destroy(struct aside *aside)
{
	if (aside == NULL) {
		return;
	}
	if (aside->has_begun) {
		pthread_mutex_unlock(&aside->lock);
	}
	if (aside->has_thread) {
		atomic_store(&aside->ends, true);
		set_timer(aside, 1);
		wake(aside);
		pthread_join(aside->thread, NULL);
	}
	free_aside(aside);
}
