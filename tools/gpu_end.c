/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "gpu_end.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

/* From the signal on: the rest of the second is for the process to go away. */
#define GIVE_UP_NS 800000000

/* Giving up may have to wait as well, for the log or for a disk. */
#define EXIT_NS 900000000

/* The rest is for what is closed then. */
#define NEAR_NS 400000000

static int end_fd;
static sigset_t signals;
static sem_t signalled;
static void (*give_up)(void);
static atomic_bool over;
static _Atomic uint64_t signalled_ns; /* 0: not yet */

static void sleep_ns(long duration_ns)
{
	const struct timespec duration = { .tv_nsec = duration_ns };

	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &duration, NULL) != 0) {
	}
}

static int start_thread(void *(*run)(void *data))
{
	pthread_attr_t attributes;
	pthread_t thread;
	int error;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	error = pthread_create(&thread, &attributes, run, NULL);
	pthread_attr_destroy(&attributes);
	return -error;
}

static void *give_up_late(void *data)
{
	while (sem_wait(&signalled) != 0) {
	}
	sleep_ns(GIVE_UP_NS);
	if (!over) {
		give_up();
		_exit(EXIT_FAILURE);
	}
	return data;
}

static void *wait_for_signal(void *data)
{
	const uint64_t one = 1;

	while (sigwaitinfo(&signals, NULL) < 0) {
	}
	signalled_ns = now_ns();
	(void)!write(end_fd, &one, sizeof(one));
	sem_post(&signalled);
	/* The process usually ends in this sleep. */
	sleep_ns(EXIT_NS);
	if (!over) {
		_exit(EXIT_FAILURE);
	}
	return data;
}

int gpu_end_start(void (*to_give_up)(void))
{
	int ret;

	give_up = to_give_up;
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (end_fd < 0) {
		return -errno;
	}
	sem_init(&signalled, 0, 0);
	ret = start_thread(give_up_late);
	if (ret == 0) {
		ret = start_thread(wait_for_signal);
	}
	if (ret < 0) {
		close(end_fd);
		return ret;
	}
	return end_fd;
}

bool gpu_end_is_near(void)
{
	uint64_t since_ns = signalled_ns;

	return since_ns != 0 && now_ns() - since_ns >= NEAR_NS;
}

void gpu_end_over(void)
{
	over = true;
}
