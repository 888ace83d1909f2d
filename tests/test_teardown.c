/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Contexts, fences and devices that end while there is work. Everything is answered once and in its
 * order, and nobody waits for a GPU. */

#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A fence that the test signals by call. */
static void create_by_call(struct fake_vmm *vmm, uint64_t fence_id)
{
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, fence_id, VGF_FENCE_BY_CALL), 0);
}

static int signal_global(struct fake_vmm *vmm, uint64_t fence_id)
{
	return signal_call(vmm, 0, VGF_RING_GLOBAL, fence_id, 0);
}

/* ---- Contexts ----------------------------------------------------------------------------- */

TEST_VMM(an_idle_context_is_destroyed_at_once)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	assert_int_equal(driver->num_destroyed, 1);
	assert_false(driver->cancelled);
	assert_int_equal(get_stats(vmm).contexts, 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), -ENOENT);
	assert_int_equal(vgf_context_destroy(vmm->device, 2), -ENOENT);
	vmm_destroy_device(vmm);
	assert_int_equal(driver->num_destroyed, 1);
}

TEST_VMM(a_context_id_is_taken_until_it_is_destroyed)
{
	struct fake_driver *other = driver_create(vmm, VGF_WAIT_HOST, FAKE_CALL);

	driver_open(driver, vmm, 1);
	assert_int_equal(vgf_context_create(vmm->device, 1, &other->driver, other), -EEXIST);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	driver_open(other, vmm, 1);
	vmm_destroy_device(vmm);
	assert_int_equal(driver->num_destroyed, 1);
	assert_int_equal(other->num_destroyed, 1);
}

TEST_VMM(a_driver_needs_a_submit)
{
	const struct vgf_driver none = { .size = sizeof(struct vgf_driver), .wait = VGF_WAIT_HOST };

	assert_int_equal(vgf_context_create(vmm->device, 1, &none, NULL), -EINVAL);
	assert_int_equal(vgf_context_create(vmm->device, 1, NULL, NULL), -EINVAL);
}

TEST_VMM(a_driver_need_not_have_a_destroy)
{
	driver->driver.destroy = NULL;
	driver_open(driver, vmm, 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	driver_open(driver, vmm, 1);
}

TEST_VMM(running_work_of_a_destroyed_context_retires, .answer = FAKE_FD)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	assert_int_equal(driver->num_destroyed, 1);
	assert_false(driver->cancelled);
	assert_int_equal(vmm_dispatch(vmm), 0);
	driver_signal(driver, 1);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 1, 0);
	assert_idle(vmm);
}

TEST_VMM(a_destroyed_context_is_signalled_by_call_too)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 3, 1, NO_IN_FENCES), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	assert_int_equal(signal_call(vmm, 1, 3, 1, -EIO), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 3, 1, -EIO);
}

/* Promise 1. */
TEST_VMM(held_work_of_a_destroyed_context_runs_before_its_driver_is_destroyed, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 1, 3, NO_IN_FENCES), 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 1);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 4, NO_IN_FENCES), -ENOENT);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_destroyed, 0);
	assert_int_equal(get_stats(vmm).contexts, 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 4);
	assert_jobs(driver, ID(2), ID(3), ID(0));
	assert_int_equal(driver->num_destroyed, 1);
	assert_false(driver->cancelled);
	assert_int_equal(get_stats(vmm).contexts, 0);
	assert_idle(vmm);
}

TEST_VMM(a_context_is_destroyed_behind_the_last_of_its_independent_rings, .answer = FAKE_DONE)
{
	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	assert_int_equal(submit(vmm, 1, 5, 3, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 6, 4, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(3), ID(0));
	assert_int_equal(driver->num_destroyed, 0);
	assert_int_equal(signal_global(vmm, 2), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(3), ID(4), ID(0));
	assert_int_equal(driver->num_destroyed, 1);
}

static void assert_destroyed_before(struct fake_driver *driver, const struct vgf_job *job)
{
	assert_int_equal(((struct fake_driver *)driver->arg)->num_destroyed, 1);
}

TEST_VMM(a_new_context_stays_behind_what_is_left_of_the_old)
{
	struct fake_driver *old = driver_create(vmm, VGF_WAIT_HOST, FAKE_DONE);
	struct fake_driver *new = driver_create(vmm, VGF_WAIT_HOST, FAKE_DONE);

	new->on_submit = assert_destroyed_before;
	new->arg = old;
	driver_open(old, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 1);
	driver_open(new, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), -EINVAL); /* the old one has it */
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 1, 4, NO_IN_FENCES), 1);
	vmm_dispatch(vmm);
	assert_int_equal(new->num_jobs, 0);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 4);
	assert_jobs(old, ID(2), ID(0));
	assert_jobs(new, ID(3), ID(4), ID(0));
	assert_int_equal(new->num_destroyed, 0);
}

TEST_VMM(a_new_context_retires_behind_running_work_of_the_old)
{
	struct fake_driver *old = driver_create(vmm, VGF_WAIT_HOST, FAKE_CALL);
	struct fake_driver *new = driver_create(vmm, VGF_WAIT_HOST, FAKE_DONE);

	driver_open(old, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	driver_open(new, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_all_retired(vmm, ID(1), ID(2), ID(0));
}

TEST_VMM(a_context_id_is_used_many_times_while_the_first_holds_work)
{
	enum { TIMES = 50 };
	struct fake_driver *drivers[TIMES];

	create_by_call(vmm, 1);
	for (uint64_t i = 0; i < TIMES; i++) {
		drivers[i] = driver_create(vmm, VGF_WAIT_HOST, FAKE_DONE);
		driver_open(drivers[i], vmm, 9);
		assert_int_equal(
			submit(vmm, 9, 0, 100 + i, i == 0 ? ID(1) : ID(0), NO_IN_FENCES), 1);
		assert_int_equal(vgf_context_destroy(vmm->device, 9), 1);
	}
	assert_int_equal(get_stats(vmm).contexts, TIMES);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), TIMES + 1);
	for (uint64_t i = 0; i < TIMES; i++) {
		assert_jobs(drivers[i], 100 + i, ID(0));
		assert_int_equal(drivers[i]->num_destroyed, 1);
	}
	assert_int_equal(get_stats(vmm).contexts, 0);
	assert_idle(vmm);
}

/* ---- Cancelling a context ----------------------------------------------------------------- */

TEST_VMM(cancelled_work_retires_in_order_and_running_work_is_waited_for)
{
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 0, 4, NO_IN_FENCES), 1);
	assert_int_equal(cancel_context(vmm->device, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(get_stats(vmm).held, 0);
	assert_int_equal(signal_call(vmm, 1, 0, 2, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 3);
	assert_retired(vmm, 0, 1, 0, 2, 0);
	assert_retired(vmm, 1, 1, 0, 3, -ECANCELED);
	assert_retired(vmm, 2, 1, 0, 4, -ECANCELED);
	assert_jobs(driver, ID(2), ID(0));
	assert_int_equal(get_stats(vmm).cancelled, 2);
	assert_int_equal(get_stats(vmm).failed, 0);
	assert_int_equal(driver->num_destroyed, 0);
}

TEST_VMM(a_cancelled_context_takes_new_work, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(cancel_context(vmm->device, 1), 0);
	submit(vmm, 1, 0, 3, NO_IN_FENCES);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_jobs(driver, ID(3), ID(0));
	assert_int_equal(submit(vmm, 1, 0, 4, NO_IN_FENCES), 0);
}

TEST_VMM(who_waits_for_cancelled_work_runs, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(cancel_context(vmm->device, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_jobs(driver, ID(3), ID(0));
}

TEST_VMM(cancelling_lets_a_destroyed_context_go)
{
	struct fake_driver *old = driver_create(vmm, VGF_WAIT_HOST, FAKE_DONE);
	struct fake_driver *new = driver_create(vmm, VGF_WAIT_HOST, FAKE_DONE);

	driver_open(old, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 1);
	driver_open(new, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 1);
	assert_int_equal(cancel_context(vmm->device, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_int_equal(old->num_destroyed, 1);
	assert_false(old->cancelled); /* its running work is not given up */
	assert_int_equal(new->num_destroyed, 0);
	assert_int_equal(old->num_jobs + new->num_jobs, 0);
}

TEST_VMM(a_destroyed_context_can_be_cancelled, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 1);
	assert_int_equal(cancel_context(vmm->device, 1), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_destroyed, 1);
	assert_int_equal(cancel_context(vmm->device, 1), -ENOENT);
	assert_int_equal(cancel_context(vmm->device, 2), -ENOENT);
}

TEST_VMM(cancelled_unfenced_work_does_not_run, .answer = FAKE_DONE)
{
	const uint64_t in_fence = 1;
	bool will_retire;

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit_flags(vmm, 1, 0, 0, 0, &in_fence, 1, &will_retire), 1);
	assert_int_equal(cancel_context(vmm->device, 1), 0);
	vmm_dispatch(vmm);
	assert_int_equal(get_stats(vmm).held, 0);
	assert_int_equal(get_stats(vmm).held_size, 0);
	assert_int_equal(driver->num_jobs, 0);
}

static void cancel_context_1(struct fake_driver *driver, const struct vgf_job *job)
{
	struct fake_vmm *vmm = driver->arg;

	assert_int_equal(cancel_context(vmm->device, 1), 0);
}

/* Its driver refuses the descriptors, so it would be held back once more. */
TEST_VMM(cancelling_during_submit_reaches_work_that_is_held_back_again, .answer = FAKE_ERROR,
	.wait = VGF_WAIT_DRIVER)
{
	int fence_fd;

	driver->error = -EMFILE;
	driver->arg = vmm;
	driver->on_submit = cancel_context_1;
	driver_open(driver, vmm, 1);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 2, -ECANCELED);
	assert_int_equal(driver->num_errors, 1);
	assert_int_equal(driver->num_jobs, 0);
	assert_int_equal(get_stats(vmm).held, 0);
	close(fence_fd);
}

/* ---- Deferred calls ----------------------------------------------------------------------- */

struct deferred {
	struct fake_vmm *vmm;
	struct fake_driver *driver;
	unsigned int calls;
	int status;
	unsigned int jobs_before; /* that had reached the driver */
	struct deferred *after;   /* must have been called before */
};

static void note_deferred(void *arg, int status)
{
	struct deferred *deferred = arg;

	deferred->calls++;
	deferred->status = status;
	if (deferred->driver) {
		deferred->jobs_before = deferred->driver->num_jobs;
	}
	if (deferred->after) {
		assert_int_equal(deferred->after->calls, 1);
	}
}

TEST_VMM(a_deferred_call_is_made_at_once_where_nothing_is_held)
{
	struct deferred deferred = { 0 };

	driver_open(driver, vmm, 1);
	/* Running, so with its driver already. */
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(defer_call(vmm->device, 1, note_deferred, &deferred), 0);
	assert_int_equal(deferred.calls, 1);
	assert_int_equal(deferred.status, 0);
	assert_int_equal(defer_call(vmm->device, 2, note_deferred, &deferred), -ENOENT);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	assert_int_equal(defer_call(vmm->device, 1, note_deferred, &deferred), -ENOENT);
	assert_int_equal(deferred.calls, 1);
}

TEST_VMM(a_deferred_call_keeps_its_place_among_held_work, .answer = FAKE_DONE)
{
	struct deferred first = { .driver = driver };
	struct deferred second = { .driver = driver, .after = &first };

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(defer_call(vmm->device, 1, note_deferred, &first), 1);
	assert_int_equal(defer_call(vmm->device, 1, note_deferred, &second), 1);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 1);
	vmm_dispatch(vmm);
	assert_int_equal(first.calls + second.calls, 0);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(2), ID(3), ID(0));
	assert_int_equal(first.calls, 1);
	assert_int_equal(first.jobs_before, 1);
	assert_int_equal(second.calls, 1);
	assert_int_equal(second.jobs_before, 1);
}

TEST_VMM(a_deferred_call_is_a_barrier_among_independent_rings, .answer = FAKE_DONE)
{
	struct deferred deferred = { .driver = driver };

	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	assert_int_equal(submit(vmm, 1, 1, 3, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 2, 4, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(defer_call(vmm->device, 1, note_deferred, &deferred), 1);
	/* A third ring has nothing to wait for, but the call comes before it. */
	assert_int_equal(submit(vmm, 1, 3, 5, NO_IN_FENCES), 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(3), ID(0));
	assert_int_equal(deferred.calls, 0);
	assert_int_equal(signal_global(vmm, 2), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(3), ID(4), ID(5), ID(0));
	assert_int_equal(deferred.calls, 1);
	assert_int_equal(deferred.jobs_before, 2);
}

TEST_VMM(work_of_a_held_ring_does_not_overtake_another_one_behind_a_call, .answer = FAKE_DONE)
{
	struct deferred deferred = { .driver = driver };

	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	assert_int_equal(submit(vmm, 1, 1, 3, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(defer_call(vmm->device, 1, note_deferred, &deferred), 1);
	assert_int_equal(submit(vmm, 1, 1, 4, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 2, 5, NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 1, 6, NO_IN_FENCES), 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	/* The call is over, so rings are independent again. */
	assert_jobs(driver, ID(3), ID(5), ID(0));
	assert_int_equal(signal_global(vmm, 2), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(3), ID(5), ID(4), ID(6), ID(0));
}

static int defer_on_ring(struct fake_vmm *vmm, int32_t ring, struct deferred *deferred)
{
	const struct vgf_deferred_call call = {
		.ctx_id = 1,
		.ring = ring,
		.fn = note_deferred,
		.arg = deferred,
	};

	return vgf_context_defer(vmm->device, &call);
}

TEST_VMM(a_call_for_one_ring_keeps_its_place_there_and_holds_up_no_other, .answer = FAKE_DONE)
{
	struct deferred behind = { .driver = driver }, other = { 0 };

	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 1, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(defer_on_ring(vmm, 1, &behind), 1);
	assert_int_equal(submit(vmm, 1, 1, 3, NO_IN_FENCES), 1);
	assert_int_equal(defer_on_ring(vmm, 2, &other), 0);
	assert_int_equal(submit(vmm, 1, 2, 4, NO_IN_FENCES), 0);
	assert_int_equal(other.calls, 1);
	assert_int_equal(behind.calls, 0);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_int_equal(behind.calls, 1);
	assert_int_equal(behind.jobs_before, 2);
	assert_jobs(driver, ID(4), ID(2), ID(3), ID(0));
}

/* Then all rings are one. */
TEST_VMM(a_call_for_one_ring_is_behind_all_work_if_rings_depend_on_each_other, .answer = FAKE_DONE)
{
	struct deferred deferred = { .driver = driver };

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 1, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(defer_on_ring(vmm, 2, &deferred), 1);
	assert_int_equal(submit(vmm, 1, 3, 3, NO_IN_FENCES), 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_int_equal(deferred.calls, 1);
	assert_int_equal(deferred.jobs_before, 1);
	assert_jobs(driver, ID(2), ID(3), ID(0));
}

TEST_VMM(a_call_for_one_ring_stays_behind_one_for_every_ring, .answer = FAKE_DONE)
{
	struct deferred first = { 0 }, second = { .after = &first };

	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 1, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(defer_call(vmm->device, 1, note_deferred, &first), 1);
	assert_int_equal(defer_on_ring(vmm, 2, &second), 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_int_equal(second.calls, 1);
}

TEST_VMM(a_call_is_for_a_ring_that_there_can_be)
{
	struct deferred deferred = { 0 };

	driver_open(driver, vmm, 1);
	assert_int_equal(defer_on_ring(vmm, VGF_MAX_RINGS, &deferred), -EINVAL);
	assert_int_equal(defer_on_ring(vmm, VGF_EVERY_RING - 1, &deferred), -EINVAL);
	assert_int_equal(defer_on_ring(vmm, VGF_RING_GLOBAL, &deferred), 0);
	assert_int_equal(deferred.calls, 1);
}

TEST_VMM(a_deferred_call_hears_of_a_cancelled_context, .answer = FAKE_DONE)
{
	struct deferred deferred = { 0 };

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(defer_call(vmm->device, 1, note_deferred, &deferred), 1);
	assert_int_equal(cancel_context(vmm->device, 1), 0);
	vmm_dispatch(vmm);
	assert_int_equal(deferred.calls, 1);
	assert_int_equal(deferred.status, -ECANCELED);
	vmm_destroy_device(vmm);
	assert_int_equal(deferred.calls, 1);
}

TEST_VMM(a_deferred_call_of_a_destroyed_context_is_made_before_its_driver_goes, .answer = FAKE_DONE)
{
	struct deferred deferred = { .driver = driver };

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(defer_call(vmm->device, 1, note_deferred, &deferred), 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_int_equal(deferred.calls, 1);
	assert_int_equal(deferred.status, 0);
	assert_int_equal(driver->num_destroyed, 1);
}

static void submit_deferred(void *arg, int status)
{
	struct deferred *deferred = arg;

	deferred->calls++;
	assert_int_equal(submit(deferred->vmm, 1, 0, 1, NO_IN_FENCES), 1);
	assert_int_equal(deferred->driver->num_jobs, 0);
}

TEST_VMM(work_submitted_by_a_deferred_call_runs_after_it, .answer = FAKE_DONE)
{
	struct deferred deferred = { .vmm = vmm, .driver = driver };

	driver_open(driver, vmm, 1);
	assert_int_equal(defer_call(vmm->device, 1, submit_deferred, &deferred), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_jobs(driver, ID(1), ID(0));
}

static void submit_to_ring_5(void *arg, int status)
{
	struct deferred *deferred = arg;

	deferred->calls++;
	assert_int_equal(submit(deferred->vmm, 1, 5, 1, NO_IN_FENCES), 1);
	assert_int_equal(deferred->driver->num_jobs, 0);
}

TEST_VMM(no_independent_ring_runs_while_a_deferred_call_is_made, .answer = FAKE_DONE)
{
	struct deferred deferred = { .vmm = vmm, .driver = driver };

	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	assert_int_equal(defer_call(vmm->device, 1, submit_to_ring_5, &deferred), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_jobs(driver, ID(1), ID(0));
}

static void *dispatch_once(void *arg)
{
	struct fake_vmm *vmm = arg;

	vgf_device_dispatch(vmm->device, 0);
	return NULL;
}

static void dispatch_in_another_thread(struct fake_driver *driver, const struct vgf_job *job)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, dispatch_once, driver->arg), 0);
	pthread_join(thread, NULL);
}

/* The queue is ready to run, and being run. */
TEST_VMM(another_thread_dispatches_while_what_came_behind_a_call_runs, .answer = FAKE_DONE)
{
	struct deferred deferred = { .vmm = vmm, .driver = driver };

	driver->on_submit = dispatch_in_another_thread;
	driver->arg = vmm;
	driver_open(driver, vmm, 1);
	assert_int_equal(defer_call(vmm->device, 1, submit_deferred, &deferred), 0);
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(1), ID(0));
}

/* ---- Giving up on a fence ----------------------------------------------------------------- */

/* Promise 8. */
TEST_VMM(a_running_fence_can_be_given_up)
{
	int fence_fd;

	driver_open(driver, vmm, 1);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(cancel_fence(vmm, 0, VGF_RING_GLOBAL, 1, 0), -EINVAL);
	assert_int_equal(cancel_fence(vmm, 0, VGF_RING_GLOBAL, 1, -ETIME), 0);
	assert_int_equal(cancel_fence(vmm, 0, VGF_RING_GLOBAL, 1, -ETIME), -EALREADY);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 0, VGF_RING_GLOBAL, 1, -ETIME);
	assert_true(driver_has(driver, 2));
	assert_int_equal(cancel_fence(vmm, 0, VGF_RING_GLOBAL, 1, -ETIME), -ENOENT);
	assert_int_equal(cancel_fence(vmm, 0, 99, 1, -ETIME), -ENOENT);
	close(fence_fd);
}

TEST_VMM(a_fence_that_was_given_up_may_still_signal)
{
	int fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	struct pollfd pollfd = { .fd = vgf_device_get_fd(vmm->device), .events = POLLIN };

	assert_int_equal(vmm_dispatch(vmm), 0); /* it is watched */
	assert_int_equal(cancel_fence(vmm, 0, VGF_RING_GLOBAL, 1, -ECANCELED), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	signal_fence(fence_fd);
	assert_int_equal(poll(&pollfd, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	close(fence_fd);
}

TEST_VMM(a_fence_that_was_given_up_may_signal_before_it_retires)
{
	int fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);

	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(cancel_fence(vmm, 0, VGF_RING_GLOBAL, 1, -ECANCELED), 0);
	signal_fence(fence_fd);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 0, VGF_RING_GLOBAL, 1, -ECANCELED);
	close(fence_fd);
}

TEST_VMM(a_fence_given_up_before_its_turn_waits_for_it)
{
	int fence_fd;

	create_by_call(vmm, 1);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 2);
	assert_int_equal(cancel_fence(vmm, 0, VGF_RING_GLOBAL, 2, -EIO), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_retired(vmm, 0, 0, VGF_RING_GLOBAL, 1, 0);
	assert_retired(vmm, 1, 0, VGF_RING_GLOBAL, 2, -EIO);
	close(fence_fd);
}

TEST_VMM(held_work_is_dropped_with_its_fence, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 0, 4, NO_IN_FENCES), 1);
	assert_int_equal(cancel_fence(vmm, 1, 0, 2, -ETIME), 0);
	assert_int_equal(vmm_dispatch(vmm), 3);
	assert_retired(vmm, 0, 1, 0, 2, -ETIME);
	assert_false(driver_has(driver, 2));
	assert_true(driver_has(driver, 3));
	assert_true(driver_has(driver, 4));
	assert_int_equal(get_stats(vmm).held, 0);
}

TEST_VMM(work_dropped_from_the_middle_leaves_the_order_of_the_rest, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 0, 3, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 0, 4, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(cancel_fence(vmm, 1, 0, 3, -ECANCELED), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 4);
	assert_all_retired(vmm, ID(1), ID(2), ID(3), ID(4), ID(0));
	assert_jobs(driver, ID(2), ID(4), ID(0));
	assert_idle(vmm);
}

TEST_VMM(work_behind_a_barrier_is_dropped_with_its_fence, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 1);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 1);
	assert_int_equal(cancel_fence(vmm, 1, 0, 3, -ECANCELED), 0);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 3);
	assert_jobs(driver, ID(2), ID(0));
	assert_idle(vmm);
}

static void give_up_from_inside_submit(struct fake_driver *driver, const struct vgf_job *job)
{
	struct fake_vmm *vmm = driver->arg;

	assert_int_equal(vgf_fence_cancel(vmm->device, &job->fence, -ECANCELED), -EBUSY);
}

TEST_VMM(a_fence_cannot_be_given_up_while_its_submit_runs)
{
	driver->on_submit = give_up_from_inside_submit;
	driver->arg = vmm;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(cancel_fence(vmm, 1, 0, 1, -ECANCELED), 0);
	vmm_dispatch(vmm);
	assert_retired(vmm, 0, 1, 0, 1, -ECANCELED);
}

/* ---- Descriptors -------------------------------------------------------------------------- */

/* Promise 9. */
TEST_VMM(the_descriptor_of_a_fence_is_closed_when_it_retires)
{
	int before = count_fds();

	for (uint64_t id = 1; id <= 5; id++) {
		assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, id, make_fence(true)), 0);
	}
	assert_int_equal(count_fds(), before + 5);
	assert_int_equal(vmm_dispatch(vmm), 5);
	assert_int_equal(count_fds(), before);
}

/* Promise 9. */
TEST_VMM(descriptors_are_closed_on_exec)
{
	int fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	int exported = export_fence(vmm->device, 1);

	assert_true(exported >= 0);
	for (int fd = 3; fd < 64; fd++) {
		int flags = fcntl(fd, F_GETFD);
		if (flags >= 0 && fd >= vgf_device_get_fd(vmm->device) && fd <= exported) {
			assert_true(flags & FD_CLOEXEC);
		}
	}
	close(exported);
	close(fence_fd);
}

TEST_VMM(a_copy_outlives_its_fence_and_signals_for_nobody)
{
	int fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	struct pollfd pollfd = { .fd = vgf_device_get_fd(vmm->device), .events = POLLIN };

	signal_fence(fence_fd);
	assert_int_equal(vmm_dispatch(vmm), 1);
	signal_fence(fence_fd);
	assert_int_equal(poll(&pollfd, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	close(fence_fd);
}

/* epoll knows a descriptor by its number and its open file. */
TEST_VMM(a_number_is_used_again_for_a_copy_of_the_same_file)
{
	int fence_fd = make_fence(false);
	int copy = fcntl(fence_fd, F_DUPFD_CLOEXEC, 0);
	uint64_t count;

	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, fence_fd), 0);
	signal_fence(copy);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(read(copy, &count, sizeof(count)), sizeof(count));
	assert_int_equal(fcntl(copy, F_DUPFD_CLOEXEC, fence_fd), fence_fd);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 2, fence_fd), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	signal_fence(copy);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 1, 0, VGF_RING_GLOBAL, 2, 0);
	close(copy);
}

TEST_VMM(a_number_is_used_again_for_another_file)
{
	int copies[2];

	copies[0] = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	assert_int_equal(cancel_fence(vmm, 0, VGF_RING_GLOBAL, 1, -ECANCELED), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	copies[1] = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 2);
	signal_fence(copies[0]);
	assert_int_equal(vmm_dispatch(vmm), 0);
	signal_fence(copies[1]);
	assert_int_equal(vmm_dispatch(vmm), 1);
	close(copies[0]);
	close(copies[1]);
}

/* Two fences of one job: each has its own copy. */
TEST_VMM(one_file_may_stand_for_several_fences)
{
	int fence_fd = make_fence(false);

	driver_open(driver, vmm, 1);
	for (int32_t ring = -1; ring < 3; ring++) {
		int copy = fcntl(fence_fd, F_DUPFD_CLOEXEC, 0);
		assert_int_equal(create_fence(vmm, 1, ring, ID(ring + 2), copy), 0);
	}
	assert_int_equal(vmm_dispatch(vmm), 0);
	signal_fence(fence_fd);
	assert_int_equal(vmm_dispatch(vmm), 4);
	close(fence_fd);
}

/* ---- Everything in flight ----------------------------------------------------------------- */

#define FLIGHT_FENCES 15
#define FLIGHT_DRIVERS 6

struct flight {
	struct fake_vmm *vmm;
	struct fake_driver *drivers[FLIGHT_DRIVERS];
	struct deferred deferred[2];
	int fence_fd;
};

static struct fake_driver *flight_open(
	struct flight *flight, unsigned int i, enum vgf_wait wait, enum fake_answer answer)
{
	static const uint32_t ctx_ids[FLIGHT_DRIVERS] = { 1, 2, 3, 4, 5, 5 };

	flight->drivers[i] = driver_create(flight->vmm, wait, answer);
	flight->drivers[i]->driver.independent_rings = i == 0;
	driver_open(flight->drivers[i], flight->vmm, ctx_ids[i]);
	return flight->drivers[i];
}

/* Work in every state that there is, on contexts 1 to 5 and the global timeline. */
static void flight_start(struct flight *flight, struct fake_vmm *vmm)
{
	struct vgf_fence_name failed = make_name(0, VGF_RING_GLOBAL, 14);
	const uint64_t in_fence = 3;
	bool will_retire;

	*flight = (struct flight){ .vmm = vmm };
	/* Running, with descriptors, and refused. */
	flight_open(flight, 0, VGF_WAIT_HOST, FAKE_FD);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 1, 2, NO_IN_FENCES), 0);
	/* Running, by call; the second has signalled. */
	flight_open(flight, 1, VGF_WAIT_HOST, FAKE_CALL);
	assert_int_equal(submit(vmm, 2, 0, 3, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 4, NO_IN_FENCES), 0);
	assert_int_equal(signal_call(vmm, 2, 0, 4, 0), 0);
	/* Waiting in its driver. */
	flight_open(flight, 2, VGF_WAIT_DRIVER, FAKE_FD);
	assert_int_equal(submit(vmm, 3, 0, 5, ID(1), NO_IN_FENCES), 0);
	/* Held, with and without a fence, before and behind a deferred call. */
	flight_open(flight, 3, VGF_WAIT_HOST, FAKE_FD);
	assert_int_equal(submit(vmm, 4, 0, 6, ID(3), NO_IN_FENCES), 1);
	assert_int_equal(submit_flags(vmm, 4, 0, 0, 0, &in_fence, 1, &will_retire), 1);
	assert_int_equal(submit(vmm, 4, 0, 7, ID(1), ID(2), NO_IN_FENCES), 1);
	assert_int_equal(defer_call(vmm->device, 4, note_deferred, &flight->deferred[0]), 1);
	assert_int_equal(submit(vmm, 4, 0, 8, ID(7), NO_IN_FENCES), 1);
	/* Of a context that was destroyed, and of the next one with its ID. */
	flight_open(flight, 4, VGF_WAIT_HOST, FAKE_FD);
	assert_int_equal(submit(vmm, 5, 0, 9, ID(3), NO_IN_FENCES), 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 5), 1);
	flight_open(flight, 5, VGF_WAIT_HOST, FAKE_FD);
	assert_int_equal(submit(vmm, 5, 0, 10, NO_IN_FENCES), 1);
	assert_int_equal(defer_call(vmm->device, 5, note_deferred, &flight->deferred[1]), 1);
	/* Other commands. */
	flight->fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 11);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 12, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 13, VGF_FENCE_DONE), 0);
	assert_int_equal(vgf_fence_refuse(vmm->device, &failed, 0, NULL, -EBADMSG), 0);
	assert_int_equal(submit(vmm, 1, 2, 15, ID(1000), NO_IN_FENCES), -ENOENT);
}

/* Promise 1: each fence retired once, in its order; each driver and each call knows. */
static void flight_check(const struct flight *flight)
{
	const struct fake_vmm *vmm = flight->vmm;
	uint64_t last[8][4] = { 0 };
	bool seen[FLIGHT_FENCES + 1] = { false };

	assert_int_equal(vmm->num_retired, FLIGHT_FENCES);
	for (unsigned int i = 0; i < FLIGHT_FENCES; i++) {
		const struct vgf_fence_name *name = &vmm->retired[i].name;
		uint64_t id = name->fence_id;
		int status = -ECANCELED;

		assert_in_range(id, 1, FLIGHT_FENCES);
		assert_false(seen[id]);
		seen[id] = true;
		assert_true(id > last[name->ctx_id][name->ring + 1]);
		last[name->ctx_id][name->ring + 1] = id;
		/* What had signalled before keeps what it signalled. */
		status = id == 4 || id == 13 ? 0 : status;
		status = id == 14 ? -EBADMSG : status;
		status = id == 15 ? -ENOENT : status;
		assert_int_equal(vmm->retired[i].status, status);
	}
	for (unsigned int i = 0; i < FLIGHT_DRIVERS; i++) {
		assert_int_equal(flight->drivers[i]->num_destroyed, 1);
		assert_true(flight->drivers[i]->cancelled);
	}
	assert_int_equal(flight->drivers[3]->num_jobs, 0);
	assert_int_equal(flight->drivers[4]->num_jobs, 0);
	assert_int_equal(flight->drivers[5]->num_jobs, 0);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(flight->deferred[i].calls, 1);
		assert_int_equal(flight->deferred[i].status, -ECANCELED);
	}
}

static void flight_end(struct flight *flight)
{
	close(flight->fence_fd);
}

/* ---- Reset -------------------------------------------------------------------------------- */

/* Promises 1 and 8. */
TEST_VMM(reset_answers_everything_in_flight)
{
	struct flight flight;

	flight_start(&flight, vmm);
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	flight_check(&flight);
	assert_idle(vmm);
	assert_int_equal(get_stats(vmm).contexts, 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	flight_end(&flight);
}

TEST_VMM(a_device_works_after_its_reset_and_ids_start_again)
{
	for (int i = 0; i < 20; i++) {
		struct flight flight;

		vmm->num_retired = 0;
		flight_start(&flight, vmm);
		if (i % 2 == 0) {
			vmm_dispatch(vmm);
		}
		assert_int_equal(vgf_device_reset(vmm->device), 0);
		if (i % 2 != 0) {
			flight_check(&flight);
		}
		assert_idle(vmm);
		flight_end(&flight);
	}
}

TEST_VMM(reset_of_an_idle_device_does_nothing)
{
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_int_equal(vmm->num_retired, 0);
	assert_int_equal(vmm->num_batches, 0);
}

TEST_VMM(ids_of_before_a_reset_are_unknown)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 5, NO_IN_FENCES), 0);
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 5, 0), -ENOENT);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), -ENOENT);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, ID(5), NO_IN_FENCES), -ENOENT);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 0);
}

/* Signalling is a driver's business until its destroy has returned, not later. */
static void signal_when_destroyed(struct fake_driver *driver, bool cancelled)
{
	struct fake_vmm *vmm = driver->arg;

	assert_true(cancelled);
	/* It may find the fence cancelled already. */
	signal_call(vmm, 1, 0, 1, 0);
	signal_call(vmm, 1, 0, 2, -EIO);
}

TEST_VMM(a_driver_may_signal_from_inside_its_destroy)
{
	driver->on_destroy = signal_when_destroyed;
	driver->arg = vmm;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_int_equal(driver->num_destroyed, 1);
	assert_all_retired(vmm, ID(1), ID(2), ID(0));
	assert_idle(vmm);
}

struct attempts {
	unsigned int calls;
	int context, submit, create, refuse, defer;
};

static void try_everything(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct attempts *attempts = vmm->arg;
	struct fake_driver *driver = driver_create(vmm, VGF_WAIT_HOST, FAKE_CALL);
	struct vgf_fence_name failed = make_name(0, VGF_RING_GLOBAL, 1001);

	attempts->calls++;
	attempts->context = vgf_context_create(vmm->device, 77, &driver->driver, driver);
	attempts->submit = submit(vmm, 1, 0, 1000, NO_IN_FENCES);
	attempts->create = create_fence(vmm, 0, VGF_RING_GLOBAL, 1000, VGF_FENCE_BY_CALL);
	attempts->refuse = vgf_fence_refuse(vmm->device, &failed, 0, NULL, -EBADMSG);
	attempts->defer = defer_call(vmm->device, 1, note_deferred, NULL);
}

TEST_VMM(nothing_new_is_accepted_during_a_reset)
{
	struct attempts attempts = { 0 };

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	vmm->arg = &attempts;
	vmm->on_retire = try_everything;
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_int_equal(attempts.calls, 1);
	assert_int_equal(attempts.context, -ECANCELED);
	assert_int_equal(attempts.submit, -ECANCELED);
	assert_int_equal(attempts.create, -ECANCELED);
	assert_int_equal(attempts.refuse, -ECANCELED);
	assert_true(attempts.defer < 0);
	assert_int_equal(vmm->num_retired, 1);
	assert_idle(vmm);
}

static void reset_once_more(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	unsigned int *calls = vmm->arg;

	if (++*calls == 1) {
		assert_int_equal(vgf_device_reset(vmm->device), 0);
		/* The outer one is not over, and would have to wait for this. */
		assert_int_equal(
			create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), -ECANCELED);
	}
}

TEST_VMM(a_reset_from_inside_a_callback_of_a_reset_leaves_it_alone)
{
	unsigned int calls = 0;

	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	vmm->arg = &calls;
	vmm->on_retire = reset_once_more;
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_int_equal(calls, 2);
	vmm->on_retire = NULL;
	create_by_call(vmm, 1);
}

static void *reset_device(void *arg)
{
	struct fake_vmm *vmm = arg;
	intptr_t ret = vgf_device_reset(vmm->device);

	return (void *)ret;
}

/* Waits until a reset in another thread has begun. */
static void wait_for_reset(struct fake_vmm *vmm, struct fake_driver *driver)
{
	while (vgf_context_create(vmm->device, 999, &driver->driver, driver) != -ECANCELED) {
		vgf_context_destroy(vmm->device, 999);
		sched_yield();
	}
}

struct reset_during_submit {
	struct fake_vmm *vmm;
	struct fake_driver *idle; /* for wait_for_reset */
	pthread_t thread;
};

static void start_reset(struct fake_driver *driver, const struct vgf_job *job)
{
	struct reset_during_submit *test = driver->arg;

	if (driver->num_errors == 1) {
		assert_int_equal(pthread_create(&test->thread, NULL, reset_device, test->vmm), 0);
		wait_for_reset(test->vmm, test->idle);
	}
}

TEST_VMM(work_that_a_driver_refuses_during_a_reset_does_not_come_again, .answer = FAKE_ERROR,
	.wait = VGF_WAIT_DRIVER)
{
	struct fake_driver *idle = driver_create(vmm, VGF_WAIT_HOST, FAKE_CALL);
	struct reset_during_submit test = { .vmm = vmm, .idle = idle };
	int fence_fd;
	void *ret;

	driver->error = -EMFILE;
	driver->arg = &test;
	driver->on_submit = start_reset;
	driver_open(driver, vmm, 1);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES);
	pthread_join(test.thread, &ret);
	assert_int_equal((intptr_t)ret, 0);
	assert_int_equal(driver->num_errors, 1);
	assert_int_equal(driver->num_jobs, 0);
	assert_int_equal(vmm->num_retired, 2);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(vmm->retired[i].status, -ECANCELED);
	}
	assert_int_equal(driver->num_destroyed, 1);
	assert_idle(vmm);
	close(fence_fd);
}

/* Nothing is destroyed under a driver's feet. */
static void finish_during_reset(struct fake_driver *driver, const struct vgf_job *job)
{
	struct reset_during_submit *test = driver->arg;

	assert_int_equal(pthread_create(&test->thread, NULL, reset_device, test->vmm), 0);
	wait_for_reset(test->vmm, test->idle);
	assert_int_equal(driver->num_destroyed, 0);
}

TEST_VMM(a_reset_waits_for_a_driver_that_is_in_submit, .answer = FAKE_FD)
{
	struct fake_driver *idle = driver_create(vmm, VGF_WAIT_HOST, FAKE_CALL);
	struct reset_during_submit test = { .vmm = vmm, .idle = idle };
	void *ret;

	driver->arg = &test;
	driver->on_submit = finish_during_reset;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	pthread_join(test.thread, &ret);
	assert_int_equal((intptr_t)ret, 0);
	assert_retired(vmm, 0, 1, 0, 1, -ECANCELED);
	assert_int_equal(driver->num_destroyed, 1);
	assert_idle(vmm);
}

/* ---- Destroying the device ---------------------------------------------------------------- */

/* Promises 1, 8 and 9. */
TEST_VMM(destroying_a_device_answers_everything_in_flight)
{
	struct flight flight;

	flight_start(&flight, vmm);
	vmm_destroy_device(vmm);
	flight_check(&flight);
	flight_end(&flight);
}

TEST(destroying_no_device_is_fine)
{
	vgf_device_destroy(NULL);
}

struct dispatching {
	struct vgf_device *device;
	sem_t retired;
	pid_t thread_id;
	int ret;
};

static void post_retired(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct dispatching *dispatching = vmm->arg;

	sem_post(&dispatching->retired);
}

static void *dispatch_until_error(void *arg)
{
	struct dispatching *dispatching = arg;

	dispatching->thread_id = gettid();
	do {
		dispatching->ret = vgf_device_dispatch(dispatching->device, -1);
	} while (dispatching->ret >= 0);
	return NULL;
}

TEST_VMM(destroying_a_device_ends_another_threads_dispatch)
{
	struct dispatching dispatching = { .device = vmm->device };
	struct flight flight;
	pthread_t thread;

	sem_init(&dispatching.retired, 0, 0);
	vmm->arg = &dispatching;
	vmm->on_retire = post_retired;
	flight_start(&flight, vmm);
	assert_int_equal(pthread_create(&thread, NULL, dispatch_until_error, &dispatching), 0);
	sem_wait(&dispatching.retired); /* the refused one */
	wait_until_asleep(dispatching.thread_id);
	vgf_device_destroy(vmm->device);
	pthread_join(thread, NULL);
	assert_int_equal(dispatching.ret, -ECANCELED);
	vmm->device = NULL;
	flight_check(&flight);
	flight_end(&flight);
	sem_destroy(&dispatching.retired);
}

static void wait_for_the_end(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct dispatching *dispatching = vmm->arg;

	if (name->fence_id == 1) {
		sem_post(&dispatching->retired);
		while (vgf_device_dispatch(dispatching->device, 0) != -ECANCELED) {
			sched_yield();
		}
	}
}

TEST_VMM(destroying_a_device_while_another_thread_is_in_a_callback)
{
	struct dispatching dispatching = { .device = vmm->device };
	pthread_t thread;

	sem_init(&dispatching.retired, 0, 0);
	vmm->arg = &dispatching;
	vmm->on_retire = wait_for_the_end;
	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, dispatch_until_error, &dispatching), 0);
	sem_wait(&dispatching.retired);
	vgf_device_destroy(vmm->device);
	pthread_join(thread, NULL);
	assert_int_equal(dispatching.ret, -ECANCELED);
	vmm->device = NULL;
	assert_all_retired(vmm, ID(1), ID(2), ID(0));
	sem_destroy(&dispatching.retired);
}

TEST_VMM(destroying_a_device_ends_its_own_thread, .options.own_thread = true)
{
	struct flight flight;

	flight_start(&flight, vmm);
	vmm_destroy_device(vmm);
	flight_check(&flight);
	flight_end(&flight);
}

TEST(destroying_a_device_right_after_creating_it)
{
	struct vgf_options options = { .size = sizeof(struct vgf_options), .own_thread = true };

	for (int i = 0; i < 100; i++) {
		vmm_destroy(vmm_create(i % 2 ? &options : NULL));
	}
}
