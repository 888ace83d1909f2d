/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Fences retire in the thread that signals them if the VMM says so: signal_enter, signal_leave. */

#include "fake.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

static bool allows; /* what signal_enter answers */
static int num_entered, num_left;
static bool is_inside;        /* between both */
static pthread_t last_thread; /* of the last callback */

static bool signal_enter(void *cookie)
{
	(void)cookie;
	num_entered++;
	is_inside = allows;
	return allows;
}

static void signal_leave(void *cookie)
{
	(void)cookie;
	assert_true(is_inside);
	is_inside = false;
	num_left++;
}

static void note_thread(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	(void)vmm;
	(void)name;
	(void)status;
	last_thread = pthread_self();
}

static struct fake_vmm *begin(const struct vgf_options *options)
{
	struct vgf_callbacks callbacks = fake_callbacks;
	struct fake_vmm *vmm;

	callbacks.signal_enter = signal_enter;
	callbacks.signal_leave = signal_leave;
	num_entered = num_left = 0;
	is_inside = false;
	allows = true;
	vmm = vmm_create_with(&callbacks, options);
	vmm->on_retire = note_thread;
	return vmm;
}

#define TEST_HERE(name) TEST_WITH(name, struct fake_vmm *, vmm, begin(NULL), vmm_destroy(vmm))

static void create(struct fake_vmm *vmm, uint64_t id)
{
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, id, VGF_FENCE_BY_CALL), 0);
}

static int signal_global(struct fake_vmm *vmm, uint64_t id)
{
	return signal_call(vmm, 0, VGF_RING_GLOBAL, id, 0);
}

/* Whether the thread that dispatches is woken. */
static bool is_readable(struct fake_vmm *vmm)
{
	struct pollfd poll_fd = { .fd = vgf_device_get_fd(vmm->device), .events = POLLIN };

	return poll(&poll_fd, 1, 0) == 1;
}

static void *signal_first(void *arg)
{
	assert_int_equal(signal_global(arg, 1), 0);
	return NULL;
}

static pthread_t signal_elsewhere(struct fake_vmm *vmm)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, signal_first, vmm), 0);
	pthread_join(thread, NULL);
	return thread;
}

TEST_HERE(a_fence_retires_where_it_is_signalled)
{
	pthread_t thread;

	create(vmm, 1);
	thread = signal_elsewhere(vmm);
	assert_all_retired(vmm, ID(1), ID(0));
	assert_true(pthread_equal(last_thread, thread));
	assert_int_equal(vmm->num_batches, 1);
	assert_int_equal(num_left, 1);
	assert_false(is_readable(vmm));
}

/* The control. */
TEST_HERE(not_if_the_vmm_says_no)
{
	create(vmm, 1);
	allows = false;
	signal_elsewhere(vmm);
	assert_int_equal(num_entered, 1);
	assert_int_equal(num_left, 0);
	assert_int_equal(vmm->num_retired, 0);
	assert_true(is_readable(vmm));
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_true(pthread_equal(last_thread, pthread_self()));
}

TEST_HERE(what_is_behind_it_retires_too_in_order)
{
	create(vmm, 1);
	create(vmm, 2);
	create(vmm, 3);
	assert_int_equal(signal_global(vmm, 2), 0);
	assert_int_equal(vmm->num_retired, 0);
	assert_false(is_readable(vmm));
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_all_retired(vmm, ID(1), ID(2), ID(0));
	assert_int_equal(vmm->num_batches, 1);
	assert_int_equal(num_left, 2);
	assert_int_equal(signal_global(vmm, 3), 0);
}

TEST_HERE(work_that_becomes_ready_runs_when_dispatched)
{
	struct fake_driver *driver = driver_create(vmm, VGF_WAIT_HOST, FAKE_DONE);

	driver_open(driver, vmm, 1);
	create(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), ID(0)), 1);
	assert_false(is_readable(vmm));
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm->num_retired, 1);
	assert_int_equal(driver->num_jobs, 0);
	assert_true(is_readable(vmm));
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(driver->num_jobs, 1);
}

static void submit_another(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	(void)status;
	if (name->fence_id == 1) {
		assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 1);
		assert_true(vgf_device_dispatch(vmm->device, 0) >= 0);
		assert_int_equal(vgf_device_drain(vmm->device, 0), -EDEADLK);
	}
}

/* Whatever the callback does: GL, say, is current in another thread. */
TEST(with_run_in_dispatch_no_driver_is_called_here)
{
	const struct vgf_options options = { .size = sizeof(options), .run_in_dispatch = true };
	struct fake_vmm *vmm = begin(&options);
	struct fake_driver *driver = driver_create(vmm, VGF_WAIT_HOST, FAKE_DONE);

	driver_open(driver, vmm, 1);
	create(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), ID(0)), 1);
	vmm->on_retire = submit_another;
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm->num_retired, 1);
	assert_int_equal(driver->num_jobs, 0);
	assert_true(is_readable(vmm));
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_jobs(driver, ID(2), ID(3), ID(0));
	vmm_destroy(vmm);
}

static void signal_in_submit(struct fake_driver *driver, const struct vgf_job *job)
{
	struct fake_vmm *vmm = driver->arg;

	assert_int_equal(signal_call(vmm, job->fence.ctx_id, 0, job->fence.fence_id, 0), 0);
	assert_int_equal(vmm->num_retired, 0);
	assert_false(is_inside);
}

TEST_HERE(nothing_retires_inside_of_a_driver)
{
	struct fake_driver *driver = driver_create(vmm, VGF_WAIT_HOST, FAKE_CALL);

	driver->on_submit = signal_in_submit;
	driver->arg = vmm;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(num_left, 1);
	assert_int_equal(vmm->num_retired, 0);
	assert_true(is_readable(vmm));
	assert_int_equal(vmm_dispatch(vmm), 1);
}

static void signal_second(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	(void)status;
	if (name->fence_id == 1) {
		is_inside = false;
		assert_int_equal(signal_global(vmm, 2), 0);
		assert_int_equal(vmm->num_retired, 1);
		is_inside = true;
	}
}

TEST_HERE(nothing_retires_inside_of_a_callback)
{
	create(vmm, 1);
	create(vmm, 2);
	vmm->on_retire = signal_second;
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_all_retired(vmm, ID(1), ID(2), ID(0));
	assert_int_equal(num_left, 2);
}

static void *dispatch_one(void *arg)
{
	struct fake_vmm *vmm = arg;

	/* -EBUSY: the other thread has just looked. */
	while (vgf_device_dispatch(vmm->device, WAIT_MS) <= 0) {
	}
	return NULL;
}

/* It would not know, and wait for ever. */
TEST_HERE(a_thread_that_waits_in_dispatch_retires_it)
{
	pthread_t thread;

	create(vmm, 1);
	assert_int_equal(pthread_create(&thread, NULL, dispatch_one, vmm), 0);
	while (vgf_device_dispatch(vmm->device, 0) != -EBUSY) {
		sched_yield();
	}
	assert_int_equal(signal_global(vmm, 1), 0);
	pthread_join(thread, NULL);
	assert_true(pthread_equal(last_thread, thread));
}

static void *wait_for_one(void *arg)
{
	struct fake_vmm *vmm = arg;

	while (get_stats(vmm).retired < 1) {
		sched_yield();
	}
	return NULL;
}

TEST(the_librarys_own_thread_retires_it)
{
	const struct vgf_options options = { .size = sizeof(options), .own_thread = true };
	struct fake_vmm *vmm = begin(&options);

	create(vmm, 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	wait_for_one(vmm);
	vmm_destroy_device(vmm);
	assert_false(pthread_equal(last_thread, pthread_self()));
	vmm_destroy(vmm);
}

/* What is left is for the thread that dispatches, which is woken. */
TEST(no_more_retires_than_a_round_may)
{
	const struct vgf_options options = { .size = sizeof(options), .budget_items = 1 };
	struct fake_vmm *vmm = begin(&options);

	for (uint64_t id = 1; id <= 200; id++) {
		create(vmm, id);
	}
	for (uint64_t id = 200; id >= 1; id--) {
		assert_int_equal(signal_global(vmm, id), 0);
	}
	assert_in_range(vmm->num_retired, 1, 199);
	assert_true(is_readable(vmm));
	vmm_dispatch(vmm);
	assert_int_equal(vmm->num_retired, 200);
	vmm_destroy(vmm);
}

TEST_HERE(a_bad_signal_leaves_too)
{
	assert_int_equal(signal_global(vmm, 1), -ENOENT);
	assert_int_equal(num_entered, 1);
	assert_int_equal(num_left, 1);
	create(vmm, 1);
	create(vmm, 2);
	assert_int_equal(signal_global(vmm, 2), 0);
	assert_int_equal(signal_global(vmm, 2), -EALREADY);
	assert_int_equal(num_left, 3);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 1), -EINVAL);
	assert_int_equal(num_entered, 3);
	assert_int_equal(signal_global(vmm, 1), 0);
}

static void destroy(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	(void)name;
	(void)status;
	if (vmm->device) {
		vmm_destroy_device(vmm);
	}
}

TEST_HERE(a_callback_may_destroy_the_device)
{
	create(vmm, 1);
	create(vmm, 2);
	vmm->on_retire = destroy;
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(num_left, 1);
	assert_int_equal(vmm->num_retired, 2);
	assert_int_equal(vmm->retired[1].status, -ECANCELED);
}

TEST(there_are_both_or_neither)
{
	struct vgf_callbacks callbacks = fake_callbacks;
	struct vgf_device *device;

	callbacks.signal_enter = signal_enter;
	assert_int_equal(vgf_device_create(&callbacks, NULL, NULL, &device), -EINVAL);
	callbacks.signal_enter = NULL;
	callbacks.signal_leave = signal_leave;
	assert_int_equal(vgf_device_create(&callbacks, NULL, NULL, &device), -EINVAL);
}
