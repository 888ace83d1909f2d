/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * What a guest can make large is copied without the lock, and what it can make large or slow to let
 * go of is let go of without it: no thread of another context waits for that. Beside what alloc.h
 * asks for, it is linked with -Wl,--wrap=free, --wrap=close, --wrap=memcpy,
 * --wrap=pthread_mutex_lock and --wrap=pthread_mutex_unlock.
 */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alloc.h"
#include "fake.h"

/* ---- Counting ------------------------------------------------------------------------------- */

/* The names are the linker's. */
void __real_free(void *block);
int __real_close(int fd);
void *__real_memcpy(void *to, const void *from, size_t size);
int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
void __wrap_free(void *block);
int __wrap_close(int fd);
void *__wrap_memcpy(void *to, const void *from, size_t size);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);

static _Thread_local unsigned int depth; /* mutexes that this thread has locked */
static unsigned int locked_frees, locked_closes, frees, closes;
static size_t largest_copy, largest_locked_copy;

void __wrap_free(void *block)
{
	frees += block != NULL;
	locked_frees += block != NULL && depth > 0;
	__real_free(block);
}

int __wrap_close(int fd)
{
	closes++;
	locked_closes += depth > 0;
	return __real_close(fd);
}

void *__wrap_memcpy(void *to, const void *from, size_t size)
{
	size_t *largest = depth > 0 ? &largest_locked_copy : &largest_copy;

	*largest = size > *largest ? size : *largest;
	return __real_memcpy(to, from, size);
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
	depth++;
	return __real_pthread_mutex_lock(mutex);
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
	depth--;
	return __real_pthread_mutex_unlock(mutex);
}

static void count_from_here(void)
{
	assert_int_equal(depth, 0);
	frees = closes = locked_frees = locked_closes = 0;
	largest_copy = largest_locked_copy = 0;
}

/* So much was let go of since then, at least, and none of it with the lock held. */
static void assert_unlocked(unsigned int min_frees, unsigned int min_closes)
{
	assert_true(frees >= min_frees);
	assert_true(closes >= min_closes);
	assert_int_equal(locked_frees, 0);
	assert_int_equal(locked_closes, 0);
}

/* ---- Tests ---------------------------------------------------------------------------------- */

static int submit_command(
	struct fake_vmm *vmm, uint64_t fence_id, uint64_t in_fence, uint32_t flags)
{
	static const char command[1 << 20];
	const struct vgf_submission submission = {
		.fence = { .fence_id = fence_id, .ctx_id = 1, .ring = 0 },
		.flags = flags,
		.in_fences = &in_fence,
		.num_in_fences = 1,
		.command = command,
		.size = sizeof(command),
	};

	return vgf_submit(vmm->device, &submission, NULL);
}

TEST_VMM(work_that_was_held_back_is_freed_unlocked, .answer = FAKE_FD)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit_command(vmm, 2, 1, VGF_FENCED), 1);
	driver_signal(driver, 1);
	count_from_here();
	assert_int_equal(vmm_dispatch(vmm), 1);
	driver_signal(driver, 2);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_unlocked(4, 2); /* the submission, its copy, two fences; two descriptors */
}

TEST_VMM(work_that_is_held_back_is_copied_unlocked)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(create_fence(vmm, 1, 1, 1, VGF_FENCE_BY_CALL), 0);
	count_from_here();
	assert_int_equal(submit_command(vmm, 0, 1, 0), 1);
	assert_int_equal(largest_copy, 1 << 20);
	assert_true(largest_locked_copy <= 4096);
	assert_int_equal(signal_call(vmm, 1, 1, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(driver->jobs[0].size, 1 << 20);
}

/* A driver that refuses descriptors has its work held back as well. */
TEST_VMM(work_that_a_driver_refuses_is_copied_unlocked, .wait = VGF_WAIT_DRIVER,
	.answer = FAKE_ERROR)
{
	driver->error = -EMFILE;
	driver_open(driver, vmm, 1);
	close(create_fence_fd(vmm, 1, 1, 1));
	count_from_here();
	assert_int_equal(submit_command(vmm, 0, 1, 0), 1);
	assert_int_equal(driver->num_errors, 1);
	assert_int_equal(largest_copy, 1 << 20);
	assert_true(largest_locked_copy <= 4096);
}

TEST_VMM(descriptor_that_no_fence_takes_is_closed_unlocked, .answer = FAKE_FD)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	driver_signal(driver, 1);
	assert_int_equal(vmm_dispatch(vmm), 1);
	count_from_here();
	assert_int_equal(submit_command(vmm, 0, 1, 0), 0);
	assert_unlocked(1, 1);
}

TEST_VMM(refused_work_is_freed_unlocked)
{
	int fence_fd = make_fence(false);
	const struct vgf_submission bad_in_fence = {
		.fence = { .fence_id = 1, .ctx_id = 1, .ring = 0 },
		.flags = VGF_FENCED,
		.in_fences = &(const uint64_t){ 77 },
		.num_in_fences = 1,
		.in_fence_fds = &fence_fd,
		.num_in_fence_fds = 1,
	};
	struct vgf_submission no_context = bad_in_fence;

	driver_open(driver, vmm, 1);
	no_context.fence.ctx_id = 2;
	count_from_here();
	assert_int_equal(vgf_submit(vmm->device, &bad_in_fence, NULL), -ENOENT);
	assert_int_equal(vgf_submit(vmm->device, &no_context, NULL), -ENOENT);
	/* Two submissions with an imported fence each, and the fence that has no place. */
	assert_unlocked(5, 2);
	assert_int_equal(vmm_dispatch(vmm), 1);
	close(fence_fd);
}

TEST_VMM(destroyed_context_is_freed_unlocked, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 1, 1, NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	count_from_here();
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	assert_unlocked(4, 0); /* the driver, two rings, the context */
}

TEST_VMM(reset_frees_unlocked, .answer = FAKE_FD)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit_command(vmm, 2, 1, VGF_FENCED), 1);
	count_from_here();
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_unlocked(7, 1);
}
