/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "mutex_destroy.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

#define MAX_WAIT_S 1 /* for one that its own thread has left locked */

/* The one of libc. Any thread may be the first to look for it. */
static _Atomic(void *) in_libc;

static atomic_uint num_waits;

unsigned int mutex_destroy_waits(void)
{
	return atomic_load(&num_waits);
}

static void wait_until_free(pthread_mutex_t *mutex)
{
	int ret = pthread_mutex_trylock(mutex);

	if (ret == EBUSY) {
		struct timespec limit;

		atomic_fetch_add(&num_waits, 1);
		clock_gettime(CLOCK_REALTIME, &limit);
		limit.tv_sec += MAX_WAIT_S;
		ret = pthread_mutex_timedlock(mutex, &limit);
	}
	if (ret == 0 || ret == EOWNERDEAD) {
		pthread_mutex_unlock(mutex);
	}
}

/* Before a sandbox, and before threads, if no library was quicker. */
__attribute__((constructor)) static void find_in_libc(void)
{
	atomic_store(&in_libc, dlsym(RTLD_NEXT, "pthread_mutex_destroy"));
}

__attribute__((visibility("default"))) int pthread_mutex_destroy(pthread_mutex_t *mutex)
{
	int (*destroy)(pthread_mutex_t * mutex);

	if (!atomic_load(&in_libc)) {
		find_in_libc();
	}
	*(void **)&destroy = atomic_load(&in_libc);
	wait_until_free(mutex);
	return destroy(mutex);
}
