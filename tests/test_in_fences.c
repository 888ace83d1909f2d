/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a submission may name as in-fences, what that makes it wait for, and who waits. */

#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <vgfence/context_driver.h>
#include <vgfence/inspect.h>
#include <vgfence/sync_file.h>

/* A fence of a context, that other contexts may not name. */
static int submit_private(
	struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, uint64_t in_fence)
{
	bool will_retire;

	return submit_flags(
		vmm, ctx_id, ring, fence_id, VGF_FENCED, &in_fence, in_fence != 0, &will_retire);
}

static int publish(struct fake_vmm *vmm, uint64_t fence_id, int fence_fd)
{
	struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, fence_id);

	return publish_take(vmm->device, &name, fence_fd);
}

/* A fence that the test signals by call. */
static void create_by_call(struct fake_vmm *vmm, uint64_t fence_id)
{
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, fence_id, VGF_FENCE_BY_CALL), 0);
}

static int signal_global(struct fake_vmm *vmm, uint64_t fence_id)
{
	return signal_call(vmm, 0, VGF_RING_GLOBAL, fence_id, 0);
}

/* ---- Which IDs ---------------------------------------------------------------------------- */

/* Promise 5. */
TEST_VMM(an_unknown_in_fence_is_refused)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 5, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 1, 6, ID(7), NO_IN_FENCES), -ENOENT);
	assert_int_equal(submit(vmm, 1, 1, 7, ID(5), ID(1000), NO_IN_FENCES), -ENOENT);
	assert_jobs(driver, ID(5), ID(0));
	assert_int_equal(get_stats(vmm).refused, 2);
	assert_int_equal(get_stats(vmm).submitted, 1);
}

/* Promise 5: nobody waits for what does not exist yet, so there is no deadlock to build. */
TEST_VMM(two_submissions_cannot_wait_for_each_other, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, ID(2), NO_IN_FENCES), -ENOENT);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_retired(vmm, 0, 1, 0, 1, -ENOENT);
	assert_retired(vmm, 1, 2, 0, 2, 0);
}

TEST_VMM(its_own_id_is_refused, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, ID(1), NO_IN_FENCES), -ENOENT);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 1, -ENOENT);
}

TEST_VMM(its_own_id_never_makes_a_submission_wait_for_itself, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 9, VGF_FENCE_DONE), 0);
	assert_int_equal(submit(vmm, 1, 0, 5, ID(5), NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
}

TEST_VMM(the_same_id_of_another_timeline_is_another_fence)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 5, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 5, ID(5), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 5, 0), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, 2);
}

TEST_VMM(a_retired_in_fence_is_done, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 4, NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(submit(vmm, 2, 0, 5, ID(4), ID(3), NO_IN_FENCES), 0);
	assert_int_equal(driver_job(driver, 5)->wait, VGF_WAIT_NONE);
}

TEST_VMM(an_in_fence_signalled_by_call_is_done_before_it_is_dispatched)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 0);
	assert_int_equal(driver_job(driver, 2)->wait, VGF_WAIT_NONE);
	assert_int_equal(get_stats(vmm).run_ready, 2);
}

/* An ID stands also for all that is before it on its timeline, which has not happened yet. */
TEST_VMM(an_in_fence_that_signalled_out_of_order_is_waited_for)
{
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	assert_int_equal(signal_global(vmm, 2), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_true(driver_has(driver, 3));
}

TEST_VMM(an_ambiguous_in_fence_is_refused)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	driver_open(driver, vmm, 3);
	assert_int_equal(submit(vmm, 1, 0, 5, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 5, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 3, 0, 6, ID(5), NO_IN_FENCES), -ENOTUNIQ);
	assert_int_equal(signal_call(vmm, 1, 0, 5, 0), 0);
	vmm_dispatch(vmm);
	assert_int_equal(submit(vmm, 3, 0, 7, ID(5), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 2, 0, 5, 0), 0);
	vmm_dispatch(vmm);
	assert_true(driver_has(driver, 7));
}

/* ---- Who may name them -------------------------------------------------------------------- */

/* Promise 5. */
TEST_VMM(an_unshareable_fence_of_another_context_is_refused)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit_private(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), -EPERM);
	assert_false(driver_has(driver, 2));
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 2, 0, 2, -EPERM);
}

TEST_VMM(an_unshareable_fence_is_refused_where_it_has_signalled_too)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit_private(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), -EPERM);
	/* It has retired, so the device knows nothing of it any more. */
	vmm_dispatch(vmm);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(1), NO_IN_FENCES), 0);
}

TEST_VMM(an_unshareable_fence_of_its_own_context_is_waited_for)
{
	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_private(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(submit_private(vmm, 1, 1, 2, 1), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_true(driver_has(driver, 2));
}

TEST_VMM(an_unshareable_fence_on_the_global_timeline_is_its_contexts)
{
	struct vgf_fence_name of_context = make_name(1, VGF_RING_GLOBAL, 1);
	struct vgf_fence_name of_none = make_name(0, VGF_RING_GLOBAL, 2);

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(create_take(vmm->device, &of_context, 0, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(create_take(vmm->device, &of_none, 0, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, 0, 4, ID(1), NO_IN_FENCES), -EPERM);
	assert_int_equal(submit(vmm, 1, 0, 5, ID(2), NO_IN_FENCES), -EPERM);
}

/* The ID is used again, by another guest process. */
TEST_VMM(an_unshareable_fence_of_an_earlier_context_of_that_id_is_refused)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_private(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_private(vmm, 1, 0, 2, 1), -EPERM);
}

TEST_VMM(a_shareable_fence_of_a_destroyed_context_is_waited_for)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_true(driver_has(driver, 2));
}

/* ---- Bad ones as an option ---------------------------------------------------------------- */

TEST_VMM(bad_in_fences_are_ignored_with_a_warning_where_asked_for,
	.options.ignore_bad_in_fences = true)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	driver_open(driver, vmm, 3);
	assert_int_equal(submit_private(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(vmm->num_logs, 0);
	assert_int_equal(submit(vmm, 3, 0, 3, ID(77), NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 3, 0, 4, ID(1), NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 3, 0, 5, ID(2), NO_IN_FENCES), 0);
	assert_int_equal(vmm->num_logs, 3);
	assert_non_null(strstr(vmm->log, "context 3 ring 0 fence 5"));
	assert_int_equal(get_stats(vmm).refused, 0);
}

TEST_VMM(good_in_fences_beside_ignored_ones_are_waited_for, .options.ignore_bad_in_fences = true)
{
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(77), ID(1), ID(78), NO_IN_FENCES), 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_true(driver_has(driver, 2));
}

/* ---- What becomes of refused work --------------------------------------------------------- */

/* Promise 5. */
TEST_VMM(refused_work_keeps_its_place_and_retires_with_the_error)
{
	const uint64_t in_fence = 1000;
	bool will_retire = false;

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(
		submit_flags(vmm, 1, 0, 2, VGF_FENCED, &in_fence, 1, &will_retire), -ENOENT);
	assert_true(will_retire);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 3, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 3);
	assert_retired(vmm, 0, 1, 0, 1, 0);
	assert_retired(vmm, 1, 1, 0, 2, -ENOENT);
	assert_retired(vmm, 2, 1, 0, 3, 0);
	assert_int_equal(get_stats(vmm).failed, 1);
	assert_idle(vmm);
}

TEST_VMM(who_waits_for_refused_work_waits_for_its_turn)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1000), NO_IN_FENCES), -ENOENT);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_true(driver_has(driver, 3));
}

TEST_VMM(refused_work_without_a_fence_is_answered_at_once)
{
	const uint64_t in_fence = 1000;
	bool will_retire = true;

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_flags(vmm, 1, 0, 2, 0, &in_fence, 1, &will_retire), -ENOENT);
	assert_false(will_retire);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_idle(vmm);
}

/* A fence that has no place is answered at once, and leaves nothing. */
static void assert_unplaced(
	struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, int error)
{
	struct vgf_stats before = get_stats(vmm);
	bool will_retire = true;

	assert_int_equal(
		submit_flags(vmm, ctx_id, ring, fence_id, VGF_FENCED, NULL, 0, &will_retire),
		error);
	assert_false(will_retire);
	assert_int_equal(get_stats(vmm).created, before.created);
	assert_int_equal(get_stats(vmm).refused, before.refused + 1);
	assert_int_equal(vmm_dispatch(vmm), 0);
}

TEST_VMM(what_has_no_place_is_answered_at_once)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 5, NO_IN_FENCES), 0);
	assert_unplaced(vmm, 2, 0, 6, -ENOENT);
	assert_unplaced(vmm, 1, 0, 5, -EINVAL);
	assert_unplaced(vmm, 1, 0, 4, -EINVAL);
	assert_unplaced(vmm, 1, 64, 6, -EINVAL);
	assert_unplaced(vmm, 1, -2, 6, -EINVAL);
	assert_unplaced(vmm, 1, INT32_MAX, 6, -EINVAL);
	assert_unplaced(vmm, 1, INT32_MIN, 6, -EINVAL);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	assert_unplaced(vmm, 1, 0, 6, -ENOENT);
}

TEST_VMM(work_of_an_unknown_context_has_a_place_on_the_global_timeline)
{
	bool will_retire = false;

	create_by_call(vmm, 1);
	assert_int_equal(
		submit_flags(vmm, 7, VGF_RING_GLOBAL, 2, VGF_FENCED, NULL, 0, &will_retire),
		-ENOENT);
	assert_true(will_retire);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_retired(vmm, 1, 7, VGF_RING_GLOBAL, 2, -ENOENT);
	assert_idle(vmm);
}

TEST_VMM(a_request_that_failed_before_keeps_its_place_too)
{
	struct vgf_fence_name name = make_name(1, 0, 2);
	struct vgf_fence_name nowhere = make_name(2, 0, 3);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vgf_fence_refuse(vmm->device, &name, 0, NULL, 0), -EINVAL);
	assert_int_equal(vgf_fence_refuse(vmm->device, &name, 0, NULL, -EBADMSG), 0);
	assert_int_equal(vgf_fence_refuse(vmm->device, &name, 0, NULL, -EBADMSG), -EINVAL);
	assert_int_equal(vgf_fence_refuse(vmm->device, &nowhere, 0, NULL, -EBADMSG), -ENOENT);
	assert_int_equal(get_stats(vmm).refused, 1);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_retired(vmm, 1, 1, 0, 2, -EBADMSG);
}

/* ---- Several in-fences -------------------------------------------------------------------- */

/* A timeline retires in order. */
TEST_VMM(the_host_waits_for_the_newest_of_a_timeline)
{
	static const uint64_t orders[][3] = { { 1, 2, 3 }, { 3, 2, 1 }, { 2, 3, 1 }, { 3, 3, 2 } };
	struct vgf_pending pending[8];

	for (uint32_t i = 0; i < 4; i++) {
		driver_open(driver, vmm, i);
	}
	for (uint64_t id = 1; id <= 3; id++) {
		create_by_call(vmm, id);
	}
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(submit(vmm, i, 0, 10 + i, orders[i][0], orders[i][1], orders[i][2],
					 NO_IN_FENCES),
			1);
	}
	/* Only the newest was counted as something to wait for. */
	assert_int_equal(get_stats(vmm).in_fences, 12);
	assert_int_equal(get_stats(vmm).in_fences_done, 8);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(signal_global(vmm, 2), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, 0);
	assert_int_equal(vgf_device_list_pending(vmm->device, pending, 8), 5);
	assert_int_equal(signal_global(vmm, 3), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, 4);
}

/* Only the kernel knows which files of a timeline signal in order. */
TEST_VMM(a_driver_gets_all_of_a_timeline, .wait = VGF_WAIT_DRIVER)
{
	struct fake_job *job;
	int fds[3];

	driver_open(driver, vmm, 1);
	for (int i = 0; i < 3; i++) {
		fds[i] = create_fence_fd(vmm, 1, 5, ID(i + 1));
	}
	assert_int_equal(submit(vmm, 1, 0, 4, ID(3), ID(1), ID(2), NO_IN_FENCES), 0);
	job = driver_job(driver, 4);
	assert_int_equal(job->num_in_fences, 3);
	assert_int_equal(job->in_fences[0] + job->in_fences[1] + job->in_fences[2], 6);
	for (int i = 0; i < 3; i++) {
		close(fds[i]);
	}
}

TEST_VMM(the_same_id_twice_is_one_in_fence)
{
	struct fake_driver *host = driver_create(vmm, VGF_WAIT_HOST, FAKE_CALL);
	struct fake_driver *takes = driver_create(vmm, VGF_WAIT_DRIVER, FAKE_CALL);
	int fence_fd;

	driver_open(host, vmm, 1);
	driver_open(takes, vmm, 2);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), ID(1), ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(1), ID(1), ID(1), NO_IN_FENCES), 0);
	assert_int_equal(driver_job(takes, 3)->num_in_fences, 1);
	signal_fence(fence_fd);
	vmm_dispatch(vmm);
	assert_true(driver_has(host, 2));
	close(fence_fd);
}

TEST_VMM(a_driver_gets_each_once_when_timelines_alternate, .answer = FAKE_FD,
	.wait = VGF_WAIT_DRIVER)
{
	for (uint32_t ctx_id = 1; ctx_id <= 3; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
	}
	for (uint64_t id = 1; id <= 4; id++) {
		assert_int_equal(submit(vmm, id % 2 + 1, 0, id, NO_IN_FENCES), 0);
	}
	assert_int_equal(
		submit(vmm, 3, 0, 5, ID(1), ID(2), ID(3), ID(4), ID(2), ID(1), ID(4), NO_IN_FENCES),
		0);
	assert_int_equal(driver_job(driver, 5)->num_in_fences, 4);
}

TEST_VMM(the_host_waits_for_the_newest_of_each_timeline)
{
	for (uint32_t ctx_id = 1; ctx_id <= 3; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
	}
	for (uint64_t id = 1; id <= 4; id++) {
		assert_int_equal(submit(vmm, id % 2 + 1, 0, id, NO_IN_FENCES), 0);
	}
	assert_int_equal(submit(vmm, 3, 0, 5, ID(4), ID(3), ID(2), ID(1), NO_IN_FENCES), 1);
	for (uint64_t id = 1; id <= 4; id++) {
		vmm_dispatch(vmm);
		assert_false(driver_has(driver, 5));
		assert_int_equal(signal_call(vmm, id % 2 + 1, 0, id, 0), 0);
	}
	vmm_dispatch(vmm);
	assert_true(driver_has(driver, 5));
}

TEST_VMM(who_waits_for_one_fence_runs_in_the_order_of_asking, .answer = FAKE_DONE)
{
	create_by_call(vmm, 1);
	for (uint32_t ctx_id = 1; ctx_id <= 4; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
		assert_int_equal(submit(vmm, ctx_id, 0, ctx_id + 1, ID(1), NO_IN_FENCES), 1);
	}
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(2), ID(3), ID(4), ID(5), ID(0));
}

/* More than a fence has at hand wait for it, and one of them gives up. */
#define NUM_ASKING 6

static void give_up(struct fake_driver *driver, struct fake_vmm *vmm, uint32_t gone, uint64_t id)
{
	unsigned int before = driver->num_jobs;

	create_by_call(vmm, id);
	for (uint32_t ctx_id = 1; ctx_id <= NUM_ASKING; ctx_id++) {
		assert_int_equal(submit(vmm, ctx_id, 0, id + ctx_id, ID(id), NO_IN_FENCES), 1);
	}
	assert_int_equal(vgf_context_cancel(vmm->device, gone, VGF_CANCEL_OPEN, -ETIME), 0);
	/* Who asks now is the last. */
	assert_int_equal(
		submit(vmm, NUM_ASKING + 1, 0, id + NUM_ASKING + 1, ID(id), NO_IN_FENCES), 1);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, before);
	assert_int_equal(signal_global(vmm, id), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, before + NUM_ASKING);
	for (uint32_t ctx_id = 1, job = before; job < driver->num_jobs; ctx_id++, job++) {
		ctx_id += ctx_id == gone;
		assert_int_equal(driver->jobs[job].fence.ctx_id, ctx_id);
	}
}

TEST_VMM(the_others_keep_their_order_if_one_gives_up, .answer = FAKE_DONE)
{
	for (uint32_t ctx_id = 1; ctx_id <= NUM_ASKING + 1; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
	}
	for (uint32_t gone = 1; gone <= NUM_ASKING; gone++) {
		give_up(driver, vmm, gone, 100 * (uint64_t)gone);
	}
	assert_idle(vmm);
}

/* Not by who is at hand: two that asked before fill these places, or one more is on the list. */
TEST_VMM(the_same_id_twice_is_one_in_fence_behind_others, .answer = FAKE_DONE,
	.wait = VGF_WAIT_DRIVER)
{
	create_by_call(vmm, 1);
	for (uint32_t ctx_id = 1; ctx_id <= NUM_ASKING; ctx_id++) {
		struct vgf_stats before = get_stats(vmm);
		driver_open(driver, vmm, ctx_id);
		assert_int_equal(
			submit(vmm, ctx_id, 0, ctx_id + 1, ID(1), ID(1), ID(1), NO_IN_FENCES), 1);
		/* Two of the three were done with when it was accepted. */
		assert_int_equal(get_stats(vmm).in_fences_done, before.in_fences_done + 2);
	}
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, NUM_ASKING);
}

TEST_VMM(in_fences_are_counted)
{
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 5);
	assert_int_equal(create_fence(vmm, 1, 1, 6, VGF_FENCE_DONE), 0);
	/* 3 retired long ago, 6 has signalled, 5 is repeated. */
	assert_int_equal(submit(vmm, 1, 0, 7, ID(3), ID(5), ID(6), ID(5), NO_IN_FENCES), 1);
	assert_int_equal(get_stats(vmm).in_fences, 4);
	assert_int_equal(get_stats(vmm).in_fences_done, 3);
	/* Those of refused work are not. */
	assert_int_equal(submit(vmm, 1, 0, 8, ID(5), ID(99), NO_IN_FENCES), -ENOENT);
	assert_int_equal(get_stats(vmm).in_fences, 4);
}

/* ---- Drivers that wait -------------------------------------------------------------------- */

static void assert_in_fence_is_live(struct fake_driver *driver, const struct vgf_job *job)
{
	for (uint32_t i = 0; i < job->num_in_fences; i++) {
		assert_int_equal(vgf_sync_file_poll(job->in_fences[i].fd), 0);
		*(int *)driver->arg = fcntl(job->in_fences[i].fd, F_DUPFD_CLOEXEC, 0);
	}
}

TEST_VMM(the_descriptor_that_a_driver_gets_signals_with_the_fence, .wait = VGF_WAIT_DRIVER)
{
	int copy = -1;
	int fence_fd;

	driver->on_submit = assert_in_fence_is_live;
	driver->arg = &copy;
	driver_open(driver, vmm, 1);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 0);
	assert_true(copy >= 0);
	signal_fence(fence_fd);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(vgf_sync_file_poll(copy), 1);
	close(copy);
	close(fence_fd);
}

TEST_VMM(a_gl_server_waits_as_a_driver_does, .wait = VGF_WAIT_GL)
{
	int fence_fd;

	driver_open(driver, vmm, 1);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 0);
	assert_int_equal(driver_job(driver, 2)->wait, VGF_WAIT_GL);
	assert_int_equal(driver_job(driver, 2)->num_in_fences, 1);
	assert_int_equal(get_stats(vmm).run_gl, 1);
	close(fence_fd);
}

TEST_VMM(a_driver_gets_only_what_is_still_pending, .wait = VGF_WAIT_DRIVER)
{
	int fds[2];

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	fds[0] = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	fds[1] = create_fence_fd(vmm, 2, 0, 2);
	assert_int_equal(create_fence(vmm, 2, 1, 3, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, 0, 4, ID(1), ID(2), ID(3), NO_IN_FENCES), 1);
	signal_fence(fds[0]);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, 0);
	assert_int_equal(signal_call(vmm, 2, 1, 3, 0), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver_job(driver, 4)->num_in_fences, 1);
	assert_int_equal(driver_job(driver, 4)->in_fences[0], 2);
	close(fds[0]);
	close(fds[1]);
}

TEST_VMM(a_driver_that_waits_is_held_for_a_producer_by_call, .wait = VGF_WAIT_DRIVER)
{
	for (uint32_t ctx_id = 1; ctx_id <= 3; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
	}
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 3, 0, 3, ID(2), NO_IN_FENCES), 1);
	for (uint32_t ctx_id = 1; ctx_id <= 3; ctx_id++) {
		vmm_dispatch(vmm);
		assert_int_equal(driver->num_jobs, ctx_id);
		assert_int_equal(signal_call(vmm, ctx_id, 0, ctx_id, 0), 0);
	}
	assert_int_equal(driver_job(driver, 3)->wait, VGF_WAIT_HOST);
	assert_int_equal(get_stats(vmm).run_host, 2);
}

/* Promise 8: its descriptor may never signal, which is why it was given up. */
TEST_VMM(a_driver_does_not_get_the_file_of_a_fence_that_was_given_up, .wait = VGF_WAIT_DRIVER)
{
	int fence_fd;

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 2);
	assert_int_equal(cancel_fence(vmm, 0, VGF_RING_GLOBAL, 2, -ECANCELED), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver_job(driver, 3)->num_in_fences, 0);
	close(fence_fd);
}

/* The same, if somebody waited for it already. */
TEST_VMM(a_file_that_was_given_up_is_taken_back_from_held_work, .wait = VGF_WAIT_DRIVER)
{
	int fence_fd;

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(create_fence(vmm, 2, 0, 1, VGF_FENCE_BY_CALL), 0);
	fence_fd = create_fence_fd(vmm, 2, 0, 2);
	create_by_call(vmm, 3);
	assert_int_equal(submit(vmm, 1, 0, 4, ID(2), ID(3), NO_IN_FENCES), 1);
	assert_int_equal(cancel_fence(vmm, 2, 0, 2, -ECANCELED), 0);
	assert_int_equal(publish(vmm, 3, make_fence(false)), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, 0);
	assert_int_equal(signal_call(vmm, 2, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver_job(driver, 4)->num_in_fences, 1);
	assert_int_equal(driver_job(driver, 4)->in_fences[0], 3);
	close(fence_fd);
}

/* ---- Drivers that cannot after all -------------------------------------------------------- */

/* Promise 10: out of descriptors means waiting on the host, not failing. */
static void assert_retried(struct fake_vmm *vmm, struct fake_driver *driver, int error)
{
	int fence_fd;

	driver->error = error;
	driver_open(driver, vmm, 1);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(driver->num_errors, 1);
	assert_int_equal(get_stats(vmm).held, 1);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(driver->num_jobs, 0);
	signal_fence(fence_fd);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(driver->num_errors, 1);
	assert_int_equal(driver_job(driver, 2)->wait, VGF_WAIT_HOST);
	assert_int_equal(driver_job(driver, 2)->num_in_fences, 0);
	assert_int_equal(driver_job(driver, 2)->command[0], 2); /* its own copy */
	assert_int_equal(get_stats(vmm).run_driver, 0);
	assert_int_equal(get_stats(vmm).run_host, 1);
	assert_int_equal(signal_call(vmm, 1, 0, 2, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 1, 1, 0, 2, 0);
	assert_idle(vmm);
	close(fence_fd);
}

TEST_VMM(a_driver_out_of_descriptors_is_served_by_the_host, .answer = FAKE_ERROR,
	.wait = VGF_WAIT_DRIVER)
{
	assert_retried(vmm, driver, -EMFILE);
}

TEST_VMM(a_driver_on_a_host_out_of_files_is_served_by_the_host, .answer = FAKE_ERROR,
	.wait = VGF_WAIT_DRIVER)
{
	assert_retried(vmm, driver, -ENFILE);
}

TEST_VMM(
	a_driver_out_of_memory_is_served_by_the_host, .answer = FAKE_ERROR, .wait = VGF_WAIT_DRIVER)
{
	assert_retried(vmm, driver, -ENOMEM);
}

TEST_VMM(a_driver_that_cannot_wait_after_all_is_served_by_the_host, .answer = FAKE_ERROR,
	.wait = VGF_WAIT_DRIVER)
{
	assert_retried(vmm, driver, -EOPNOTSUPP);
}

TEST_VMM(work_behind_what_the_host_waits_for_after_all_keeps_its_place, .answer = FAKE_ERROR,
	.wait = VGF_WAIT_DRIVER)
{
	int fence_fd;

	driver->error = -EMFILE;
	driver_open(driver, vmm, 1);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 1);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, 0);
	signal_fence(fence_fd);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(2), ID(3), ID(0));
	close(fence_fd);
}

TEST_VMM(work_that_was_held_already_is_served_by_the_host_after_all, .answer = FAKE_ERROR,
	.wait = VGF_WAIT_DRIVER)
{
	int fence_fd = make_fence(false);
	int copy = fcntl(fence_fd, F_DUPFD_CLOEXEC, 0);

	driver->error = -EMFILE;
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(publish(vmm, 1, fence_fd), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_errors, 1);
	assert_int_equal(driver->num_jobs, 0);
	signal_fence(copy);
	vmm_dispatch(vmm);
	assert_int_equal(driver_job(driver, 2)->wait, VGF_WAIT_HOST);
	close(copy);
}

static void *dispatch_once(void *arg)
{
	struct fake_vmm *vmm = arg;

	vgf_device_dispatch(vmm->device, 0);
	return NULL;
}

/* Another thread retires the in-fence while the driver's submit refuses it. */
static void retire_meanwhile(struct fake_driver *driver, const struct vgf_job *job)
{
	struct fake_vmm *vmm = driver->arg;
	pthread_t thread;

	if (job->num_in_fences > 0) {
		assert_int_equal(signal_global(vmm, 1), 0);
		assert_int_equal(pthread_create(&thread, NULL, dispatch_once, vmm), 0);
		pthread_join(thread, NULL);
		assert_int_equal(vmm->num_retired, 1);
	}
}

TEST_VMM(refused_in_fences_that_retired_meanwhile_are_not_waited_for, .answer = FAKE_ERROR,
	.wait = VGF_WAIT_DRIVER)
{
	int fence_fd;

	driver->error = -EMFILE;
	driver->arg = vmm;
	driver->on_submit = retire_meanwhile;
	driver_open(driver, vmm, 1);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	assert_true(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES) >= 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(2), ID(0));
	assert_int_equal(driver_job(driver, 2)->num_in_fences, 0);
	close(fence_fd);
}

TEST_VMM(another_error_of_a_driver_that_waits_retires_in_its_turn, .answer = FAKE_ERROR,
	.wait = VGF_WAIT_DRIVER)
{
	struct fake_driver *host = driver_create(vmm, VGF_WAIT_HOST, FAKE_CALL);
	int fence_fd;

	driver->error = -EINVAL;
	driver_open(driver, vmm, 1);
	driver_open(host, vmm, 2);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, ID(1), NO_IN_FENCES), -EINVAL);
	assert_int_equal(submit(vmm, 2, 0, 4, ID(3), NO_IN_FENCES), 1);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 2, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_retired(vmm, 1, 1, 0, 3, -EINVAL);
	assert_true(driver_has(host, 4));
	assert_int_equal(get_stats(vmm).failed, 1);
	close(fence_fd);
}

/* Nothing was handed over that the host could wait for instead. */
TEST_VMM(a_missing_resource_without_in_fences_is_a_failure, .answer = FAKE_ERROR,
	.wait = VGF_WAIT_DRIVER)
{
	driver->error = -EMFILE;
	driver->error_always = true;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), -EMFILE);
	assert_int_equal(driver->num_errors, 1);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 1, -EMFILE);
}

TEST_VMM(an_error_of_held_work_retires_in_its_turn, .answer = FAKE_ERROR)
{
	driver->error = -ENODEV;
	driver->error_always = true;
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 3);
	assert_retired(vmm, 1, 1, 0, 2, -ENODEV);
	assert_retired(vmm, 2, 1, 0, 3, -ENODEV);
	assert_idle(vmm);
}
