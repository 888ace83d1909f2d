/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* With run_in_dispatch the dispatching thread alone calls drivers and deferred functions. */

#include "fake.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>

/* Set while this test's thread is in a call that dispatches. */
static bool dispatching;
static pthread_t dispatcher;
static unsigned int calls;  /* of drivers and deferred functions */
static unsigned int strays; /* of these, in a thread that did not dispatch */

static void begin_dispatch(void)
{
	dispatcher = pthread_self();
	dispatching = true;
}

static void check_thread(void)
{
	calls++;
	strays += !dispatching || !pthread_equal(dispatcher, pthread_self());
}

static void end_dispatch(void)
{
	dispatching = false;
	assert_int_equal(strays, 0);
}

static void dispatch(struct fake_vmm *vmm)
{
	begin_dispatch();
	vmm_dispatch(vmm);
	end_dispatch();
}

static void check_submit(struct fake_driver *driver, const struct vgf_job *job)
{
	check_thread();
}

static void check_destroy(struct fake_driver *driver, bool cancelled)
{
	check_thread();
}

static void check_deferred(void *arg, int status)
{
	check_thread();
	*(int *)arg = status;
}

static void open_checked(struct fake_driver *driver, struct fake_vmm *vmm, uint32_t ctx_id)
{
	calls = 0;
	strays = 0;
	driver->on_submit = check_submit;
	driver->on_destroy = check_destroy;
	driver_open(driver, vmm, ctx_id);
}

/* With contexts that are open: drivers are called to the end. */
static void destroy_device(struct fake_vmm *vmm)
{
	begin_dispatch();
	vmm_destroy_device(vmm);
	end_dispatch();
}

#define TEST_IN_DISPATCH(name, ...) TEST_VMM(name, .options.run_in_dispatch = true, __VA_ARGS__)

TEST_IN_DISPATCH(a_submission_waits_for_dispatch, .answer = FAKE_DONE)
{
	open_checked(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 1);
	assert_int_equal(driver->num_jobs, 0);
	assert_int_equal(get_stats(vmm).held, 1);
	dispatch(vmm);
	assert_jobs(driver, ID(1), ID(0));
	assert_int_equal(driver_job(driver, 1)->wait, VGF_WAIT_NONE);
	assert_int_equal(driver_job(driver, 1)->command[0], 1); /* a copy */
	assert_int_equal(vmm->num_retired, 1);
	assert_int_equal(get_stats(vmm).run_ready, 1);
	destroy_device(vmm);
}

TEST_IN_DISPATCH(submissions_keep_their_order, .answer = FAKE_DONE)
{
	open_checked(driver, vmm, 1);
	for (uint64_t id = 1; id <= 5; id++) {
		assert_int_equal(submit(vmm, 1, 0, id, NO_IN_FENCES), 1);
	}
	dispatch(vmm);
	assert_jobs(driver, ID(1), ID(2), ID(3), ID(4), ID(5), ID(0));
	destroy_device(vmm);
}

TEST_IN_DISPATCH(a_deferred_call_waits_for_dispatch, .answer = FAKE_DONE)
{
	int status = 1;

	open_checked(driver, vmm, 1);
	assert_int_equal(defer_call(vmm->device, 1, check_deferred, &status), 1);
	assert_int_equal(calls, 0);
	dispatch(vmm);
	assert_int_equal(calls, 1);
	assert_int_equal(status, 0);
	destroy_device(vmm);
}

TEST_IN_DISPATCH(the_destroying_of_a_driver_waits_for_dispatch)
{
	open_checked(driver, vmm, 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 1);
	assert_int_equal(driver->num_destroyed, 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), -ENOENT);
	dispatch(vmm);
	assert_int_equal(driver->num_destroyed, 1);
	assert_int_equal(get_stats(vmm).contexts, 0);
}

TEST_IN_DISPATCH(drain_reset_and_destroy_dispatch, .answer = FAKE_DONE)
{
	open_checked(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 1);
	begin_dispatch();
	assert_int_equal(vgf_device_drain(vmm->device, 0), 0);
	assert_int_equal(vmm->num_retired, 1);
	end_dispatch();
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 1);
	begin_dispatch();
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	end_dispatch();
	assert_retired(vmm, 1, 1, 0, 2, -ECANCELED);
	assert_int_equal(driver->num_destroyed, 1);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 1);
	destroy_device(vmm);
	assert_int_equal(driver->num_destroyed, 2);
}

static void do_all_inside(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	int *deferred = vmm->arg;

	if (name->fence_id == 1) {
		assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
		assert_int_equal(defer_call(vmm->device, 1, check_deferred, deferred), 0);
		assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	}
}

TEST_IN_DISPATCH(inside_a_callback_a_driver_is_called_at_once, .answer = FAKE_DONE)
{
	int deferred = 1;

	vmm->arg = &deferred;
	vmm->on_retire = do_all_inside;
	open_checked(driver, vmm, 1);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_DONE), 0);
	dispatch(vmm);
	assert_jobs(driver, ID(2), ID(0));
	assert_int_equal(deferred, 0);
	assert_int_equal(driver->num_destroyed, 1);
	assert_int_equal(calls, 3);
}

TEST_IN_DISPATCH(what_was_cancelled_before_dispatch_does_not_run, .answer = FAKE_DONE)
{
	int deferred = 1;

	open_checked(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 1);
	assert_int_equal(defer_call(vmm->device, 1, check_deferred, &deferred), 1);
	assert_int_equal(cancel_context(vmm->device, 1), 0);
	dispatch(vmm);
	assert_int_equal(driver->num_jobs, 0);
	assert_retired(vmm, 0, 1, 0, 1, -ECANCELED);
	assert_int_equal(deferred, -ECANCELED);
	destroy_device(vmm);
}

TEST_IN_DISPATCH(the_descriptor_says_that_there_is_work, .answer = FAKE_DONE)
{
	open_checked(driver, vmm, 1);
	assert_int_equal(submit_flags(vmm, 1, 0, 0, 0, NULL, 0, NULL), 1);
	begin_dispatch();
	/* Without it this would not return. */
	assert_int_equal(vgf_device_dispatch(vmm->device, -1), 0);
	assert_int_equal(driver->num_jobs, 1);
	end_dispatch();
	destroy_device(vmm);
}

/* ---- Another thread dispatches ------------------------------------------------------------ */

struct other {
	struct fake_vmm *vmm;
	sem_t done;
	bool stop; /* set by a callback: in its own thread */
};

static void stop_at_the_last(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct other *other = vmm->arg;

	other->stop |= name->ring == VGF_RING_GLOBAL;
}

static void *dispatch_until_stopped(void *data)
{
	struct other *other = data;

	begin_dispatch();
	sem_post(&other->done);
	while (!other->stop && vgf_device_dispatch(other->vmm->device, WAIT_MS) >= 0) {
	}
	return NULL;
}

TEST_IN_DISPATCH(a_thread_that_submits_calls_no_driver, .answer = FAKE_DONE)
{
	struct other other = { .vmm = vmm };
	int deferred = 1;
	pthread_t thread;

	vmm->arg = &other;
	vmm->on_retire = stop_at_the_last;
	open_checked(driver, vmm, 1);
	sem_init(&other.done, 0, 0);
	assert_int_equal(pthread_create(&thread, NULL, dispatch_until_stopped, &other), 0);
	sem_wait(&other.done);
	for (uint64_t id = 1; id <= 50; id++) {
		assert_int_equal(submit(vmm, 1, (int32_t)(id % 3), id, NO_IN_FENCES), 1);
	}
	assert_int_equal(defer_call(vmm->device, 1, check_deferred, &deferred), 1);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 51, NO_IN_FENCES), 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 1);
	pthread_join(thread, NULL);
	begin_dispatch();
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, 51);
	assert_int_equal(driver->num_destroyed, 1);
	assert_int_equal(deferred, 0);
	assert_int_equal(calls, 53);
	end_dispatch();
	sem_destroy(&other.done);
}

/* ---- Without the option ------------------------------------------------------------------- */

TEST_VMM(without_it_the_thread_that_submits_calls_the_driver, .answer = FAKE_DONE)
{
	int deferred = 1;

	open_checked(driver, vmm, 1);
	begin_dispatch(); /* any thread will do */
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(defer_call(vmm->device, 1, check_deferred, &deferred), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	assert_int_equal(calls, 3);
}

/* ---- Retiring alone ----------------------------------------------------------------------- */

TEST_VMM(retiring_alone_runs_no_held_work)
{
	struct pollfd pollfd = { .fd = vgf_device_get_fd(vmm->device), .events = POLLIN };

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(create_fence(vmm, 1, 1, 2, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, ID(2), ID(0)), 1);
	signal_call(vmm, 1, 1, 2, 0);
	signal_call(vmm, 1, 0, 1, 0);
	assert_int_equal(vgf_device_retire(vmm->device), 2);
	assert_int_equal(vmm->num_retired, 2);
	assert_jobs(driver, ID(1), ID(0));
	/* Who dispatches is told. */
	assert_int_equal(poll(&pollfd, 1, 0), 1);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(1), ID(3), ID(0));
	signal_call(vmm, 1, 0, 3, 0);
	assert_int_equal(vgf_device_retire(vmm->device), 1);
	assert_int_equal(vgf_device_retire(vmm->device), 0);
}

static void retire_inside(struct fake_driver *driver, const struct vgf_job *job)
{
	assert_int_equal(vgf_device_retire(driver->arg), -EDEADLK);
}

TEST_VMM(a_driver_cannot_retire, .answer = FAKE_DONE)
{
	driver->arg = vmm->device;
	driver->on_submit = retire_inside;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vgf_device_retire(vmm->device), 1);
}
