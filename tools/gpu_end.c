/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "gpu_end.h"

#include <errno.h>
#include <pthread.h>
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

/* The rest is for what is closed then. */
#define NEAR_NS 400000000

static int end_fd;
static sigset_t signals;
static void (*give_up)(void);
static atomic_bool over;
static _Atomic uint64_t signalled_ns; /* 0: not yet */

static void *run_thread(void *data)
{
	const struct timespec grace = { .tv_nsec = GIVE_UP_NS };
	const uint64_t one = 1;

	while (sigwaitinfo(&signals, NULL) < 0) {
	}
	signalled_ns = now_ns();
	(void)!write(end_fd, &one, sizeof(one));
	/* The process usually ends in this sleep. */
	while (clock_nanosleep(CLOCK_MONOTONIC, 0, &grace, NULL) != 0) {
	}
	if (!over) {
		give_up();
		_exit(EXIT_FAILURE);
	}
	return data;
}

int gpu_end_start(void (*to_give_up)(void))
{
	pthread_attr_t attributes;
	pthread_t thread;
	int error;

	give_up = to_give_up;
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (end_fd < 0) {
		return -errno;
	}
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	error = pthread_create(&thread, &attributes, run_thread, NULL);
	pthread_attr_destroy(&attributes);
	if (error != 0) {
		close(end_fd);
		return -error;
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
