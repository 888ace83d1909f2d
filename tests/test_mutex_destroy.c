/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Who destroys a mutex waits until nobody holds it: what Mesa's llvmpipe needs. */

#include "mutex_destroy.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "support.h"

#define HELD_US 50000

static pthread_mutex_t mutex;
static atomic_bool is_done, is_left;

/* As llvmpipe's thread: who looks without the lock sees that it is done. */
static void *finish(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&mutex);
	atomic_store(&is_done, true);
	usleep(HELD_US);
	atomic_store(&is_left, true);
	pthread_mutex_unlock(&mutex);
	return NULL;
}

static pthread_t start(void)
{
	pthread_t thread;

	atomic_store(&is_done, false);
	atomic_store(&is_left, false);
	assert_int_equal(pthread_mutex_init(&mutex, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, finish, NULL), 0);
	while (!atomic_load(&is_done)) {
		usleep(100);
	}
	return thread;
}

TEST(who_destroys_it_waits_for_who_holds_it)
{
	unsigned int before = mutex_destroy_waits();
	pthread_t thread = start();

	assert_int_equal(pthread_mutex_destroy(&mutex), 0);
	assert_true(atomic_load(&is_left));
	assert_int_equal(mutex_destroy_waits(), before + 1);
	pthread_join(thread, NULL);
}

/* The control. */
TEST(libc_does_not)
{
	int (*destroy)(pthread_mutex_t * mutex);
	pthread_t thread = start();

	*(void **)&destroy = dlsym(RTLD_NEXT, "pthread_mutex_destroy");
	destroy(&mutex);
	assert_false(atomic_load(&is_left));
	pthread_join(thread, NULL);
}

TEST(one_that_nobody_holds_is_not_waited_for)
{
	unsigned int before = mutex_destroy_waits();

	assert_int_equal(pthread_mutex_init(&mutex, NULL), 0);
	pthread_mutex_lock(&mutex);
	pthread_mutex_unlock(&mutex);
	assert_int_equal(pthread_mutex_destroy(&mutex), 0);
	assert_int_equal(mutex_destroy_waits(), before);
}

/* Which nobody may do; but nothing hangs. */
TEST(one_that_was_left_locked_is_not_waited_for_without_end)
{
	assert_int_equal(pthread_mutex_init(&mutex, NULL), 0);
	pthread_mutex_lock(&mutex);
	pthread_mutex_destroy(&mutex);
}

TEST(any_kind_can_be_destroyed)
{
	const int kinds[] = { PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE,
		PTHREAD_MUTEX_ERRORCHECK };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		pthread_mutexattr_t attributes;

		pthread_mutexattr_init(&attributes);
		pthread_mutexattr_settype(&attributes, kinds[i]);
		assert_int_equal(pthread_mutex_init(&mutex, &attributes), 0);
		assert_int_equal(pthread_mutex_destroy(&mutex), 0);
		pthread_mutexattr_destroy(&attributes);
	}
}
