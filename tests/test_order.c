/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Timelines retire in order, rings run in order, and nothing runs before what it waits for. */

#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alloc.h"

/* ---- Timelines ---------------------------------------------------------------------------- */

TEST_VMM(retires_what_has_signalled, .answer = FAKE_FD)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 7, NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	driver_signal(driver, 7);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 7, 0);
	assert_int_equal(vmm->num_batches, 1);
	assert_idle(vmm);
}

/* Promise 2. */
TEST_VMM(retires_in_order_when_files_signal_out_of_order, .answer = FAKE_FD)
{
	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 3; id++) {
		assert_int_equal(submit(vmm, 1, 5, id, NO_IN_FENCES), 0);
	}
	driver_signal(driver, 3);
	driver_signal(driver, 2);
	assert_int_equal(vmm_dispatch(vmm), 0);
	driver_signal(driver, 1);
	assert_int_equal(vmm_dispatch(vmm), 3);
	for (unsigned int n = 0; n < 3; n++) {
		assert_retired(vmm, n, 1, 5, n + 1, 0);
	}
	assert_int_equal(vmm->num_batches, 1);
}

TEST_VMM(retires_in_order_when_calls_come_out_of_order)
{
	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 3; id++) {
		assert_int_equal(submit(vmm, 1, 5, id, NO_IN_FENCES), 0);
	}
	assert_int_equal(signal_call(vmm, 1, 5, 2, -EIO), 0);
	assert_int_equal(signal_call(vmm, 1, 5, 2, 0), -EALREADY);
	assert_int_equal(signal_call(vmm, 1, 5, 3, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(signal_call(vmm, 1, 5, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 3);
	assert_retired(vmm, 0, 1, 5, 1, 0);
	assert_retired(vmm, 1, 1, 5, 2, -EIO);
	assert_retired(vmm, 2, 1, 5, 3, 0);
	assert_int_equal(signal_call(vmm, 1, 5, 3, 0), -ENOENT);
}

/* Promise 1. */
TEST_VMM(every_accepted_fence_retires_exactly_once)
{
	static const enum fake_answer answers[] = { FAKE_FD, FAKE_CALL, FAKE_DONE, FAKE_ERROR };
	struct fake_driver *drivers[4];
	unsigned int seen[401] = { 0 };

	for (uint32_t i = 0; i < 4; i++) {
		drivers[i] = driver_create(vmm, VGF_WAIT_HOST, answers[i]);
		drivers[i]->error = -EIO;
		drivers[i]->error_always = true;
		driver_open(drivers[i], vmm, i);
	}
	for (uint64_t id = 1; id <= 400; id++) {
		/* Some wait for the one before, some are refused. */
		uint64_t in_fence = id % 5 == 0 ? id - 1 : 0;
		in_fence = id % 7 == 0 ? 1000 : in_fence;
		submit(vmm, id % 4, (int32_t)(id % 3) - 1, id, in_fence, NO_IN_FENCES);
	}
	for (unsigned int round = 0; vmm->num_retired < 400; round++) {
		assert_in_range(round, 0, 400);
		for (unsigned int i = drivers[0]->num_jobs; i-- > 0;) {
			signal_fence(drivers[0]->jobs[i].fence_fd);
		}
		for (unsigned int i = drivers[1]->num_jobs; i-- > 0;) {
			vgf_fence_signal(vmm->device, &drivers[1]->jobs[i].fence, 0);
		}
		vmm_dispatch(vmm);
	}
	vmm_dispatch(vmm);
	assert_int_equal(vmm->num_retired, 400);
	for (unsigned int i = 0; i < 400; i++) {
		assert_int_equal(seen[vmm->retired[i].name.fence_id]++, 0);
	}
	assert_idle(vmm);
}

/* Promise 2. */
TEST_VMM(retires_in_order_whatever_a_fence_is_made_of, .answer = FAKE_FD)
{
	struct vgf_fence_name name = make_name(1, 0, 5);
	int fence_fd;

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(create_fence(vmm, 1, 0, 2, VGF_FENCE_DONE), 0);
	fence_fd = create_fence_fd(vmm, 1, 0, 3);
	assert_int_equal(create_fence(vmm, 1, 0, 4, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(vgf_fence_refuse(vmm->device, &name, 0, NULL, -EBADMSG), 0);
	assert_int_equal(submit(vmm, 1, 0, 6, ID(100), NO_IN_FENCES), -ENOENT);
	assert_int_equal(signal_call(vmm, 1, 0, 4, 0), 0);
	signal_fence(fence_fd);
	assert_int_equal(vmm_dispatch(vmm), 0);
	driver_signal(driver, 1);
	assert_int_equal(vmm_dispatch(vmm), 6);
	assert_all_retired(vmm, ID(1), ID(2), ID(3), ID(4), ID(5), ID(6), ID(0));
	close(fence_fd);
}

TEST_VMM(the_same_id_on_two_timelines_names_two_fences)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 5, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 1, 5, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 5, NO_IN_FENCES), 0);
	assert_int_equal(signal_call(vmm, 1, 1, 5, -EIO), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 1, 5, -EIO);
	assert_int_equal(signal_call(vmm, 2, 0, 5, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 1, 2, 0, 5, 0);
}

TEST_VMM(a_ring_does_not_answer_for_the_global_timeline)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 3, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 4, NO_IN_FENCES), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 3, 0), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 4, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_retired(vmm, 0, 1, 0, 3, 0);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 3, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 2, 0, VGF_RING_GLOBAL, 3, 0);
}

TEST_VMM(contexts_share_the_global_timeline)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 2, VGF_RING_GLOBAL, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 2, NO_IN_FENCES), 0);
	assert_int_equal(signal_call(vmm, 1, VGF_RING_GLOBAL, 2, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(signal_call(vmm, 2, VGF_RING_GLOBAL, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_retired(vmm, 0, 2, VGF_RING_GLOBAL, 1, 0);
	assert_retired(vmm, 1, 1, VGF_RING_GLOBAL, 2, 0);
}

TEST_VMM(ids_on_a_timeline_must_grow, .answer = FAKE_DONE)
{
	bool will_retire = true;

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 7, NO_IN_FENCES), 0);
	vmm_dispatch(vmm);
	assert_int_equal(submit_flags(vmm, 1, 0, 7, VGF_FENCED, NULL, 0, &will_retire), -EINVAL);
	assert_false(will_retire);
	assert_int_equal(submit(vmm, 1, 0, 6, NO_IN_FENCES), -EINVAL);
	assert_int_equal(create_fence(vmm, 1, 0, 7, VGF_FENCE_DONE), -EINVAL);
	assert_int_equal(submit(vmm, 1, 1, 6, NO_IN_FENCES), 0);
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(7), ID(6), ID(0));
}

/* N+1 must not be called back for before N. */
TEST_VMM(the_mark_of_a_timeline_never_goes_back)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(50), NO_IN_FENCES), -ENOENT);
	driver->answer = FAKE_ERROR;
	driver->error = -EIO;
	driver->error_always = true;
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), -EIO);
	assert_int_equal(create_fence(vmm, 1, 0, 4, VGF_FENCE_DONE), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 4);
	assert_all_retired(vmm, ID(1), ID(2), ID(3), ID(4), ID(0));
}

TEST_VMM(work_that_is_done_at_once_retires_from_dispatch, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vmm->num_retired, 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
}

static void signal_from_inside_submit(struct fake_driver *driver, const struct vgf_job *job)
{
	assert_int_equal(vgf_fence_signal(driver->arg, &job->fence, -EIO), 0);
}

TEST_VMM(a_driver_may_signal_before_its_submit_returns)
{
	driver->arg = vmm->device;
	driver->on_submit = signal_from_inside_submit;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	/* Signalled already: the descriptor that it answers with as well is closed. */
	driver->answer = FAKE_FD;
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_retired(vmm, 0, 1, 0, 1, -EIO);
	assert_retired(vmm, 1, 1, 0, 2, -EIO);
}

TEST_VMM(ids_above_32_bits_stay_whole)
{
	const uint64_t high = (uint64_t)1 << 32, last = UINT64_MAX - 1;

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 7, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, high + 7, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 1, last, high + 7, NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 7, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_false(driver_has(driver, last));
	assert_int_equal(signal_call(vmm, 1, 0, high + 7, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(signal_call(vmm, 1, 1, last, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_true(vmm->retired[1].name.fence_id == high + 7);
	assert_true(vmm->retired[2].name.fence_id == last);
}

TEST_VMM(the_last_of_all_ids_is_refused)
{
	assert_int_equal(
		create_fence(vmm, 0, VGF_RING_GLOBAL, UINT64_MAX, VGF_FENCE_DONE), -EINVAL);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, UINT64_MAX - 1, VGF_FENCE_DONE), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
}

TEST_VMM(zero_is_an_id)
{
	const uint64_t in_fence = 0;
	bool will_retire;

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_flags(vmm, 1, 0, 1, 0, &in_fence, 1, &will_retire), -ENOENT);
	assert_int_equal(submit(vmm, 1, 0, 0, NO_IN_FENCES), 0);
	assert_int_equal(submit_flags(vmm, 1, 1, 1, 0, &in_fence, 1, &will_retire), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 0, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 0, 0);
	assert_true(driver_has(driver, 1));
}

/* Promise 7. */
TEST_VMM(retiring_allocates_nothing, .answer = FAKE_FD)
{
	unsigned long before;

	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 100; id++) {
		assert_int_equal(submit(vmm, 1, (int32_t)(id % 2), id, NO_IN_FENCES), 0);
	}
	for (uint64_t id = 101; id <= 200; id++) {
		assert_int_equal(submit(vmm, 1, 2, id, id - 100, NO_IN_FENCES), 1);
	}
	before = alloc_count();
	for (uint64_t id = 1; id <= 200; id++) {
		driver_signal(driver, id);
		vmm_dispatch(vmm);
	}
	assert_int_equal(alloc_count(), before);
	assert_int_equal(vmm->num_retired, 200);
}

TEST_VMM(thousands_of_fences_retire_on_many_timelines)
{
	uint64_t last[64] = { 0 };

	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 6400; id++) {
		assert_int_equal(submit(vmm, 1, (int32_t)(id % 64), id, NO_IN_FENCES), 0);
	}
	for (uint64_t i = 0; i < 6400; i++) {
		uint64_t id = i * 4801 % 6400 + 1; /* all of them, scattered */
		assert_int_equal(signal_call(vmm, 1, (int32_t)(id % 64), id, 0), 0);
	}
	assert_int_equal(vmm_dispatch(vmm), 6400);
	for (unsigned int n = 0; n < 6400; n++) {
		struct vgf_fence_name *name = &vmm->retired[n].name;
		assert_true(name->fence_id > last[name->ring]);
		last[name->ring] = name->fence_id;
	}
	assert_idle(vmm);
}

TEST_VMM(timelines_do_not_wait_for_each_other)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 1, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 3, NO_IN_FENCES), 0);
	assert_int_equal(signal_call(vmm, 1, VGF_RING_GLOBAL, 3, 0), 0);
	assert_int_equal(signal_call(vmm, 1, 1, 2, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_retired(vmm, 0, 1, VGF_RING_GLOBAL, 3, 0);
	assert_retired(vmm, 1, 1, 1, 2, 0);
}

/* ---- Held work ---------------------------------------------------------------------------- */

/* Promise 3, if the host waits. */
TEST_VMM(held_work_runs_when_its_in_fence_retires, .answer = FAKE_FD)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_false(driver_has(driver, 2));
	driver_signal(driver, 1);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(driver_job(driver, 2)->wait, VGF_WAIT_HOST);
	assert_int_equal(driver_job(driver, 2)->num_in_fences, 0);
	assert_int_equal(driver_job(driver, 2)->command[7], 2);
	driver_signal(driver, 2);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_idle(vmm);
}

/* Promise 3, if the driver waits. */
TEST_VMM(driver_gets_in_fences_as_descriptors, .answer = FAKE_FD, .wait = VGF_WAIT_DRIVER)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(1), ID(2), ID(1), NO_IN_FENCES), 0);
	assert_int_equal(driver_job(driver, 3)->wait, VGF_WAIT_DRIVER);
	assert_int_equal(driver_job(driver, 3)->num_in_fences, 2);
}

TEST_VMM(work_waits_for_a_producer_that_is_held_then_goes_to_the_driver)
{
	struct fake_driver *host = driver_create(vmm, VGF_WAIT_HOST, FAKE_FD);
	struct fake_driver *takes = driver_create(vmm, VGF_WAIT_DRIVER, FAKE_FD);

	driver_open(host, vmm, 1);
	driver_open(takes, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 1, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(2), NO_IN_FENCES), 1);
	driver_signal(host, 1);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_true(driver_has(host, 2));
	assert_int_equal(driver_job(takes, 3)->wait, VGF_WAIT_DRIVER);
	assert_int_equal(driver_job(takes, 3)->in_fences[0], 2);
	driver_signal(takes, 3);
	driver_signal(host, 2);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_idle(vmm);
}

/* Promise 4. */
TEST_VMM(a_ring_keeps_its_order_behind_held_work)
{
	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 2, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 1, 4, NO_IN_FENCES), 0);
	assert_int_equal(driver->num_jobs, 2);
	assert_int_equal(signal_call(vmm, 2, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, 4);
	assert_int_equal(driver->jobs[2].fence.fence_id, 2);
	assert_int_equal(driver->jobs[3].fence.fence_id, 3);
	assert_int_equal(driver->jobs[3].wait, VGF_WAIT_NONE);
}

/* Promise 4. */
TEST_VMM(a_context_keeps_its_order_where_rings_are_not_independent)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 2, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 1, 3, NO_IN_FENCES), 1);
	assert_false(driver_has(driver, 3));
	assert_int_equal(signal_call(vmm, 2, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver->jobs[1].fence.fence_id, 2);
	assert_int_equal(driver->jobs[2].fence.fence_id, 3);
}

/* Promise 3: a chain in which each producer is itself held. */
TEST_VMM(a_chain_of_held_work_runs_link_by_link)
{
	for (uint32_t ctx_id = 1; ctx_id <= 4; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
	}
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 3, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 4, 0, 4, ID(3), ID(1), NO_IN_FENCES), 1);
	for (uint32_t ctx_id = 1; ctx_id <= 4; ctx_id++) {
		vmm_dispatch(vmm);
		assert_int_equal(driver->num_jobs, ctx_id);
		assert_int_equal(signal_call(vmm, ctx_id, 0, ctx_id, 0), 0);
	}
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(1), ID(2), ID(3), ID(4), ID(0));
	assert_idle(vmm);
}

TEST_VMM(a_chain_goes_to_drivers_that_wait_as_soon_as_its_first_link_runs)
{
	struct fake_driver *host = driver_create(vmm, VGF_WAIT_HOST, FAKE_FD);
	struct fake_driver *takes = driver_create(vmm, VGF_WAIT_DRIVER, FAKE_FD);

	driver_open(host, vmm, 1);
	driver_open(host, vmm, 2);
	driver_open(takes, vmm, 3);
	driver_open(takes, vmm, 4);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 3, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 4, 0, 4, ID(3), NO_IN_FENCES), 1);
	driver_signal(host, 1);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_jobs(takes, ID(3), ID(4), ID(0));
	assert_int_equal(driver_job(takes, 4)->wait, VGF_WAIT_DRIVER);
	assert_int_equal(driver_job(takes, 4)->in_fences[0], 3);
}

TEST_VMM(held_work_runs_at_once_when_all_of_several_in_fences_are_done)
{
	for (uint32_t ctx_id = 1; ctx_id <= 3; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
	}
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 3, 0, 3, ID(1), ID(2), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 2, 0, 2, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_false(driver_has(driver, 3));
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_true(driver_has(driver, 3));
}

/* Promise 4: what waits for a descriptor of the driver's own ring keeps its place too. */
TEST_VMM(work_behind_held_work_runs_although_its_own_in_fence_signals_first)
{
	for (uint32_t ctx_id = 1; ctx_id <= 3; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
	}
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 3, 0, 3, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 3, 0, 4, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 2, 0, 2, 0), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(1), ID(2), ID(0));
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(1), ID(2), ID(3), ID(4), ID(0));
	assert_int_equal(driver_job(driver, 4)->wait, VGF_WAIT_HOST);
}

TEST_VMM(work_of_a_driver_that_waits_keeps_its_place_behind_held_work)
{
	struct fake_driver *call = driver_create(vmm, VGF_WAIT_HOST, FAKE_CALL);
	struct fake_driver *takes = driver_create(vmm, VGF_WAIT_DRIVER, FAKE_FD);
	int fence_fd;

	driver_open(call, vmm, 1);
	driver_open(takes, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 2);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, 0, 4, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(takes->num_jobs, 0);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_jobs(takes, ID(3), ID(4), ID(0));
	assert_int_equal(driver_job(takes, 4)->num_in_fences, 1);
	close(fence_fd);
}

TEST_VMM(work_of_no_ring_runs_among_that_of_ring_0)
{
	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 2, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 3, NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 2, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(1), ID(2), ID(3), ID(0));
	assert_int_equal(driver->jobs[2].fence.ring, VGF_RING_GLOBAL);
}

/* Each byte depends on its place. */
static uint8_t byte_at(size_t place)
{
	return (uint8_t)(place * 7 + place / 256);
}

static void check_bytes(struct fake_driver *driver, const struct vgf_job *job)
{
	const uint8_t *command = job->command;

	(void)driver;
	for (size_t i = 0; i < job->size; i++) {
		assert_int_equal(command[i], byte_at(i));
	}
}

/* Work of the fence that comes next; its memory is given back at once. */
static int submit_bytes(
	struct fake_vmm *vmm, uint64_t fence_id, size_t size, uint32_t num_in_fences)
{
	uint8_t *command = malloc(size > 0 ? size : 1);
	const uint64_t in_fence = 1;
	const struct vgf_submission submission = {
		.fence = make_name(1, 0, fence_id),
		.flags = VGF_FENCED,
		.num_in_fences = num_in_fences,
		.in_fences = &in_fence,
		.command = command,
		.size = size,
	};
	int ret;

	for (size_t i = 0; i < size; i++) {
		command[i] = byte_at(i);
	}
	ret = vgf_submit(vmm->device, &submission, NULL);
	memset(command, 0xff, size);
	free(command);
	return ret;
}

/* Small ones are kept otherwise than large ones, and what waits for its turn alone otherwise than
 * what has in-fences. */
TEST_VMM(a_held_command_stream_is_a_copy)
{
	static const size_t sizes[] = { 0, 1, 16, 255, 256, 257, 1024, 4096, 4097, 70000 };
	uint64_t last_id = 1;

	driver->on_submit = check_bytes;
	driver_open(driver, vmm, 1);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(submit_bytes(vmm, ++last_id, sizes[i], 1), 1);
		assert_int_equal(submit_bytes(vmm, ++last_id, sizes[i], 0), 1);
	}
	assert_int_equal(driver->num_jobs, 0);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, last_id - 1);
	for (uint64_t id = 2; id <= last_id; id++) {
		assert_int_equal(driver_job(driver, id)->size, sizes[(id - 2) / 2]);
	}
}

/* ---- Without an out-fence ----------------------------------------------------------------- */

TEST_VMM(unfenced_work_retires_nothing, .answer = FAKE_FD)
{
	bool will_retire = true;

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_flags(vmm, 1, 0, 0, 0, NULL, 0, &will_retire), 0);
	assert_false(will_retire);
	assert_int_equal(driver->num_jobs, 1);
	assert_int_equal(get_stats(vmm).fds, 0); /* what the driver answered was closed */
	signal_fence(driver->jobs[0].fence_fd);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_idle(vmm);
}

TEST_VMM(unfenced_work_waits_for_its_in_fences_and_its_turn, .answer = FAKE_DONE)
{
	const uint64_t in_fence = 1;
	bool will_retire = true;

	driver_open(driver, vmm, 1);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit_flags(vmm, 1, 0, 70, 0, &in_fence, 1, &will_retire), 1);
	assert_false(will_retire);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 1);
	assert_int_equal(submit_flags(vmm, 1, 0, 71, 0, NULL, 0, &will_retire), 1);
	assert_int_equal(get_stats(vmm).held, 3);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(70), ID(2), ID(71), ID(0));
	assert_all_retired(vmm, ID(1), ID(2), ID(0));
	assert_idle(vmm);
}

TEST_VMM(the_id_of_unfenced_work_is_not_taken, .answer = FAKE_DONE)
{
	bool will_retire;

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_flags(vmm, 1, 0, 9, 0, NULL, 0, &will_retire), 0);
	assert_int_equal(submit(vmm, 1, 0, 1, ID(9), NO_IN_FENCES), -ENOENT);
	assert_int_equal(submit(vmm, 1, 0, 9, NO_IN_FENCES), 0);
}

/* ---- Errors keep their place -------------------------------------------------------------- */

TEST_VMM(a_driver_error_retires_in_its_turn_and_dependants_run)
{
	bool will_retire = false;

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	driver->answer = FAKE_ERROR;
	driver->error = -ENODEV;
	driver->error_always = true;
	assert_int_equal(
		submit_flags(vmm, 1, 0, 2, VGF_FENCED | VGF_SHAREABLE, NULL, 0, &will_retire),
		-ENODEV);
	assert_true(will_retire);
	driver->answer = FAKE_CALL;
	assert_int_equal(submit(vmm, 2, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_retired(vmm, 1, 1, 0, 2, -ENODEV);
	assert_true(driver_has(driver, 3));
	assert_int_equal(get_stats(vmm).failed, 1);
}

TEST_VMM(a_driver_error_of_unfenced_work_is_answered_at_once, .answer = FAKE_ERROR)
{
	bool will_retire = true;

	driver->error = -ENODEV;
	driver->error_always = true;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_flags(vmm, 1, 0, 0, 0, NULL, 0, &will_retire), -ENODEV);
	assert_false(will_retire);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_idle(vmm);
}

TEST_VMM(the_status_of_a_call_reaches_callback_and_statistics)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 5), -EINVAL);
	assert_int_equal(signal_call(vmm, 1, 0, 1, -ETIME), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 1, -ETIME);
	assert_int_equal(get_stats(vmm).failed, 1);
	assert_int_equal(get_stats(vmm).cancelled, 0);
	assert_true(driver_has(driver, 2));
}

/* Promise 11: the end that would have signalled dies. */
TEST_VMM(a_file_that_breaks_retires_its_fence_with_an_error_and_dependants_run)
{
	int fds[2];

	driver_open(driver, vmm, 1);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, fds[0]), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(vmm_dispatch(vmm), 0);
	close(fds[1]);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 0, VGF_RING_GLOBAL, 1, -EIO);
	assert_int_equal(get_stats(vmm).failed, 1);
	assert_true(driver_has(driver, 2));
}

/* Promise 11, if the file broke before its fence was the oldest. */
TEST_VMM(a_file_that_broke_early_retires_with_its_error_in_its_turn)
{
	int fds[2];

	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 2, fds[0]), 0);
	close(fds[1]);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_retired(vmm, 1, 0, VGF_RING_GLOBAL, 2, -EIO);
}

/* ---- Publishing --------------------------------------------------------------------------- */

static int publish(struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, int fd)
{
	struct vgf_fence_name name = make_name(ctx_id, ring, fence_id);

	return publish_take(vmm->device, &name, fd);
}

TEST_VMM(a_published_file_signals_its_fence)
{
	int fence_fd = make_fence(false);
	int copy = fcntl(fence_fd, F_DUPFD_CLOEXEC, 0);

	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(publish(vmm, 0, VGF_RING_GLOBAL, 1, fence_fd), 0);
	assert_int_equal(get_stats(vmm).fds, 1);
	assert_int_equal(vmm_dispatch(vmm), 0);
	signal_fence(copy);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_idle(vmm);
	close(copy);
}

TEST_VMM(a_published_fence_goes_to_a_driver_that_comes_later, .wait = VGF_WAIT_DRIVER)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(publish(vmm, 0, VGF_RING_GLOBAL, 1, make_fence(false)), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 0);
	assert_int_equal(driver_job(driver, 2)->num_in_fences, 1);
}

TEST_VMM(publishing_lets_go_what_a_driver_can_wait_for, .wait = VGF_WAIT_DRIVER)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(create_fence(vmm, 1, 5, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(create_fence(vmm, 1, 6, 2, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, ID(1), ID(2), NO_IN_FENCES), 1);
	assert_int_equal(publish(vmm, 1, 6, 2, make_fence(false)), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, 0);
	assert_int_equal(publish(vmm, 1, 5, 1, make_fence(false)), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver_job(driver, 3)->wait, VGF_WAIT_DRIVER);
	assert_int_equal(driver_job(driver, 3)->num_in_fences, 2);
	assert_int_equal(get_stats(vmm).run_driver, 1);
}

TEST_VMM(publishing_does_not_let_go_what_the_host_waits_for)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(publish(vmm, 0, VGF_RING_GLOBAL, 1, make_fence(false)), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, 0);
}

TEST_VMM(publishing_fails_for_what_is_no_fence_or_no_descriptor)
{
	int closed = make_fence(false);

	close(closed);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(publish(vmm, 0, VGF_RING_GLOBAL, 2, make_fence(false)), -ENOENT);
	assert_int_equal(publish(vmm, 1, 0, 1, make_fence(false)), -ENOENT);
	assert_int_equal(publish(vmm, 0, VGF_RING_GLOBAL, 1, closed), -EBADF);
	assert_int_equal(publish(vmm, 0, VGF_RING_GLOBAL, 1, -3), -EBADF);
	assert_int_equal(
		publish(vmm, 0, VGF_RING_GLOBAL, 1, open("/proc/self/exe", O_RDONLY | O_CLOEXEC)),
		-EPERM);
	assert_int_equal(publish(vmm, 0, VGF_RING_GLOBAL, 1, make_fence(false)), 0);
	assert_int_equal(publish(vmm, 0, VGF_RING_GLOBAL, 1, make_fence(false)), -EEXIST);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
	assert_int_equal(publish(vmm, 0, VGF_RING_GLOBAL, 1, make_fence(false)), -EALREADY);
	vmm_dispatch(vmm);
	assert_int_equal(publish(vmm, 0, VGF_RING_GLOBAL, 1, make_fence(false)), -ENOENT);
}

/* ---- Bad descriptors ---------------------------------------------------------------------- */

TEST_VMM(a_fence_needs_a_descriptor_that_can_be_polled)
{
	int closed = make_fence(false);

	close(closed);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, closed), -EBADF);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1,
				 open("/proc/self/exe", O_RDONLY | O_CLOEXEC)),
		-EPERM);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, -3), -EINVAL);
	assert_idle(vmm);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_DONE), 0);
}

TEST_VMM(a_regular_file_from_a_driver_retires_with_its_error, .answer = FAKE_GIVEN)
{
	driver_open(driver, vmm, 1);
	driver->given_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 1, -EPERM);
	assert_idle(vmm);
}

TEST_VMM(a_closed_descriptor_from_a_driver_retires_with_its_error, .answer = FAKE_GIVEN)
{
	driver_open(driver, vmm, 1);
	driver->given_fd = make_fence(false);
	close(driver->given_fd);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 1, -EBADF);
}

/* The number may be somebody else's by the time the fence retires. */
TEST_VMM(a_closed_descriptor_from_a_driver_is_not_closed_again, .answer = FAKE_GIVEN)
{
	int fd;

	driver_open(driver, vmm, 1);
	driver->given_fd = make_fence(false);
	close(driver->given_fd);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	fd = make_fence(false);
	assert_int_equal(fd, driver->given_fd);
	vmm_dispatch(vmm);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	close(fd);
}

/* Anything below the two constants: a fence that nobody would ever signal. */
TEST_VMM(an_answer_that_means_nothing_is_an_error, .answer = FAKE_GIVEN)
{
	driver_open(driver, vmm, 1);
	driver->given_fd = -EMFILE;
	submit(vmm, 1, 0, 1, NO_IN_FENCES);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_true(vmm->retired[0].status < 0);
}
