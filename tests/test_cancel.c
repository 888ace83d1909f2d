/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Giving up on contexts, on one generation of them, on timelines. */

#include "fake.h"

#include <errno.h>
#include <unistd.h>

#define OPEN VGF_CANCEL_OPEN
#define DESTROYED VGF_CANCEL_DESTROYED
#define RUNNING VGF_CANCEL_RUNNING
#define EVERY_CONTEXT VGF_CANCEL_EVERY_CONTEXT

static int cancel(struct fake_vmm *vmm, uint32_t ctx_id, uint32_t flags)
{
	return vgf_context_cancel(vmm->device, ctx_id, flags, -ETIME);
}

static int status_of(const struct fake_vmm *vmm, uint64_t fence_id)
{
	for (unsigned int i = 0; i < vmm->num_retired; i++) {
		if (vmm->retired[i].name.fence_id == fence_id) {
			return vmm->retired[i].status;
		}
	}
	return 1; /* not retired */
}

/* What the others wait for. */
static void create_gate(struct fake_vmm *vmm)
{
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
}

static void open_gate(struct fake_vmm *vmm)
{
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
	vmm_dispatch(vmm);
}

/* ---- Which contexts ----------------------------------------------------------------------- */

/* Fence 2 is held work of a destroyed context, fence 3 of an open one with the same ID. */
static void hold_in_two_generations(struct fake_vmm *vmm, struct fake_driver *driver)
{
	create_gate(vmm);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 1);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 3, ID(1), NO_IN_FENCES), 1);
}

TEST_VMM(the_open_context_alone_is_cancelled, .answer = FAKE_DONE)
{
	hold_in_two_generations(vmm, driver);
	assert_int_equal(cancel(vmm, 1, OPEN), 0);
	open_gate(vmm);
	assert_int_equal(status_of(vmm, 2), 0);
	assert_int_equal(status_of(vmm, 3), -ETIME);
	assert_jobs(driver, ID(2), ID(0));
}

TEST_VMM(the_destroyed_context_alone_is_cancelled, .answer = FAKE_DONE)
{
	hold_in_two_generations(vmm, driver);
	assert_int_equal(cancel(vmm, 1, DESTROYED), 0);
	vmm_dispatch(vmm);
	assert_int_equal(status_of(vmm, 2), -ETIME);
	assert_int_equal(driver->num_destroyed, 1);
	assert_false(driver->cancelled); /* it was told of its end, not of a reset */
	assert_int_equal(status_of(vmm, 3), 1);
	open_gate(vmm);
	assert_int_equal(status_of(vmm, 3), 0);
	assert_jobs(driver, ID(3), ID(0));
}

TEST_VMM(cancelled_fences_do_not_wait_for_an_older_context, .answer = FAKE_DONE)
{
	hold_in_two_generations(vmm, driver);
	assert_int_equal(submit(vmm, 1, 1, 4, NO_IN_FENCES), 1);
	assert_int_equal(cancel(vmm, 1, OPEN), 0);
	vmm_dispatch(vmm);
	/* On a timeline of its own; fence 3 is behind fence 2. */
	assert_int_equal(status_of(vmm, 4), -ETIME);
	assert_int_equal(status_of(vmm, 3), 1);
}

TEST_VMM(all_generations_are_cancelled, .answer = FAKE_DONE)
{
	hold_in_two_generations(vmm, driver);
	assert_int_equal(cancel(vmm, 1, OPEN | DESTROYED), 0);
	vmm_dispatch(vmm);
	assert_int_equal(status_of(vmm, 2), -ETIME);
	assert_int_equal(status_of(vmm, 3), -ETIME);
	assert_int_equal(driver->num_jobs, 0);
}

TEST_VMM(running_fences_are_told_apart_by_generation)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 2, NO_IN_FENCES), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 4, NO_IN_FENCES), 0);
	assert_int_equal(cancel(vmm, 1, OPEN | RUNNING), 0);
	/* In order, behind those that still run. */
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(cancel(vmm, 1, DESTROYED | RUNNING), 0);
	assert_int_equal(vmm_dispatch(vmm), 4);
	for (uint64_t id = 1; id <= 4; id++) {
		assert_int_equal(status_of(vmm, id), -ETIME);
	}
}

TEST_VMM(other_contexts_are_left_alone)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, VGF_RING_GLOBAL, 3, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 1, 4, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(cancel(vmm, 1, OPEN | RUNNING), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	open_gate(vmm);
	assert_true(driver_has(driver, 4));
}

TEST_VMM(every_context_is_cancelled, .answer = FAKE_DONE)
{
	hold_in_two_generations(vmm, driver);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 2, 0, 4, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(cancel(vmm, 9, OPEN | EVERY_CONTEXT), 0);
	vmm_dispatch(vmm);
	assert_int_equal(status_of(vmm, 4), -ETIME);
	assert_int_equal(status_of(vmm, 2), 1); /* fence 3 is behind it */
	assert_int_equal(cancel(vmm, 9, DESTROYED | EVERY_CONTEXT), 0);
	vmm_dispatch(vmm);
	assert_int_equal(status_of(vmm, 2), -ETIME);
	assert_int_equal(status_of(vmm, 3), -ETIME);
	assert_int_equal(driver->num_jobs, 0);
}

TEST_VMM(what_runs_in_every_context_is_cancelled)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, VGF_RING_GLOBAL, 2, NO_IN_FENCES), 0);
	assert_int_equal(cancel(vmm, 1, OPEN | EVERY_CONTEXT), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(cancel(vmm, 1, OPEN | RUNNING | EVERY_CONTEXT), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_int_equal(status_of(vmm, 1), -ETIME);
	assert_int_equal(status_of(vmm, 2), -ETIME);
}

TEST_VMM(of_every_context_there_may_be_none)
{
	assert_int_equal(cancel(vmm, 1, OPEN | DESTROYED | EVERY_CONTEXT), 0);
}

TEST_VMM(only_what_there_is_can_be_cancelled)
{
	assert_int_equal(cancel(vmm, 1, OPEN | DESTROYED), -ENOENT);
	driver_open(driver, vmm, 1);
	assert_int_equal(cancel(vmm, 1, DESTROYED), -ENOENT);
	assert_int_equal(cancel(vmm, 1, OPEN), 0);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	assert_int_equal(cancel(vmm, 1, OPEN), -ENOENT);
	assert_int_equal(cancel(vmm, 1, DESTROYED), 0);
	assert_int_equal(cancel(vmm, 1, OPEN | DESTROYED | RUNNING), 0);
	vmm_dispatch(vmm);
	assert_int_equal(cancel(vmm, 1, OPEN | DESTROYED), -ENOENT);
}

TEST_VMM(a_cancel_says_what_and_why)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(cancel(vmm, 1, 0), -EINVAL);
	assert_int_equal(cancel(vmm, 1, RUNNING), -EINVAL);
	assert_int_equal(cancel(vmm, 1, EVERY_CONTEXT), -EINVAL);
	assert_int_equal(cancel(vmm, 1, OPEN | 16), -EINVAL);
	assert_int_equal(cancel(vmm, 1, OPEN | 1u << 31), -EINVAL);
	assert_int_equal(vgf_context_cancel(vmm->device, 1, OPEN, 0), -EINVAL);
	assert_int_equal(vgf_context_cancel(vmm->device, 1, OPEN, 1), -EINVAL);
}

/* ---- What the driver has ------------------------------------------------------------------ */

TEST_VMM(running_fences_with_descriptors_are_not_waited_for, .answer = FAKE_FD)
{
	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 4; id++) {
		assert_int_equal(submit(vmm, 1, 0, id, NO_IN_FENCES), 0);
	}
	assert_int_equal(vmm_dispatch(vmm), 0); /* the first is watched */
	assert_int_equal(cancel(vmm, 1, OPEN | RUNNING), 0);
	assert_int_equal(vmm_dispatch(vmm), 4);
	assert_all_retired(vmm, ID(1), ID(2), ID(3), ID(4), ID(0));
	assert_int_equal(status_of(vmm, 4), -ETIME);
	assert_idle(vmm);
	driver_signal(driver, 1);
	assert_int_equal(vmm_dispatch(vmm), 0);
}

TEST_VMM(without_the_flag_running_fences_are_waited_for, .answer = FAKE_FD)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(cancel(vmm, 1, OPEN), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	driver_signal(driver, 1);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(status_of(vmm, 1), 0);
}

TEST_VMM(a_driver_that_signals_what_was_cancelled_is_told)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(cancel(vmm, 1, OPEN | RUNNING), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), -EALREADY);
	vmm_dispatch(vmm);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), -ENOENT);
	assert_int_equal(status_of(vmm, 1), -ETIME);
}

TEST_VMM(what_has_signalled_keeps_its_status)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 2, -EIO), 0);
	assert_int_equal(cancel(vmm, 1, OPEN | RUNNING), 0);
	vmm_dispatch(vmm);
	assert_int_equal(status_of(vmm, 1), -ETIME);
	assert_int_equal(status_of(vmm, 2), -EIO);
}

TEST_VMM(running_and_held_fences_retire_in_order)
{
	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	create_gate(vmm);
	for (uint64_t id = 2; id <= 13; id++) {
		uint64_t in_fence = id % 3 == 0 ? 1 : 0;
		bool held = id != 2 && id != 4; /* by the gate, or behind what is */
		assert_int_equal(
			submit(vmm, 1, (int32_t)(id % 2), id, in_fence, NO_IN_FENCES), held);
	}
	assert_int_equal(cancel(vmm, 1, OPEN | RUNNING), 0);
	assert_int_equal(vmm_dispatch(vmm), 12);
	for (unsigned int i = 0; i < 12; i++) {
		const struct fake_retired *retired = &vmm->retired[i];
		assert_int_equal(retired->status, -ETIME);
		for (unsigned int j = 0; j < i; j++) {
			assert_true(vmm->retired[j].name.ring != retired->name.ring ||
				vmm->retired[j].name.fence_id < retired->name.fence_id);
		}
	}
	open_gate(vmm);
	assert_idle(vmm);
}

TEST_VMM(who_waits_for_what_was_cancelled_goes_on, .answer = FAKE_DONE)
{
	struct fake_driver *other = driver_create(vmm, VGF_WAIT_DRIVER, FAKE_FD);

	driver_open(other, vmm, 2);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 2, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(cancel(vmm, 2, OPEN | RUNNING), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_int_equal(status_of(vmm, 2), 0);
}

/* ---- From inside the driver's submit ------------------------------------------------------ */

static void cancel_running(struct fake_driver *driver, const struct vgf_job *job)
{
	assert_int_equal(cancel(driver->arg, 1, OPEN | RUNNING), 0);
}

static void submit_and_cancel(struct fake_vmm *vmm, struct fake_driver *driver, int expected)
{
	driver->arg = vmm;
	driver->on_submit = cancel_running;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), expected);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(status_of(vmm, 1), -ETIME);
	assert_idle(vmm);
}

TEST_VMM(a_fence_is_cancelled_while_its_submit_answers_with_a_descriptor, .answer = FAKE_FD)
{
	submit_and_cancel(vmm, driver, 0);
}

TEST_VMM(a_fence_is_cancelled_while_its_submit_answers_by_call)
{
	submit_and_cancel(vmm, driver, 0);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), -ENOENT);
}

TEST_VMM(a_fence_is_cancelled_while_its_submit_answers_done, .answer = FAKE_DONE)
{
	submit_and_cancel(vmm, driver, 0);
}

TEST_VMM(a_fence_is_cancelled_while_its_submit_fails, .answer = FAKE_ERROR)
{
	driver->error = -EIO;
	driver->error_always = true;
	submit_and_cancel(vmm, driver, -EIO);
}

TEST_VMM(cancelled_work_is_not_held_back_again, .answer = FAKE_ERROR, .wait = VGF_WAIT_DRIVER)
{
	int fd;

	driver->error = -EMFILE;
	driver->arg = vmm;
	driver->on_submit = cancel_running;
	driver_open(driver, vmm, 1);
	fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), -ETIME);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(status_of(vmm, 2), -ETIME);
	assert_int_equal(get_stats(vmm).held, 0);
	assert_int_equal(driver->num_errors, 1);
	close(fd);
}

/* ---- Deferred functions ------------------------------------------------------------------- */

static void note_status(void *arg, int status)
{
	int *noted = arg;

	*noted = *noted == 1 ? status : 2;
}

TEST_VMM(deferred_functions_get_the_error, .answer = FAKE_DONE)
{
	int old = 1, new = 1;

	create_gate(vmm);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(defer_call(vmm->device, 1, note_status, &old), 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 1);
	driver_open(driver, vmm, 1);
	assert_int_equal(defer_call(vmm->device, 1, note_status, &new), 1);
	assert_int_equal(cancel(vmm, 1, DESTROYED), 0);
	vmm_dispatch(vmm);
	assert_int_equal(old, -ETIME);
	assert_int_equal(new, 0);
	open_gate(vmm);
	vmm_destroy_device(vmm);
}

/* ---- Timelines ---------------------------------------------------------------------------- */

TEST_VMM(all_fences_of_a_ring_are_given_up, .answer = FAKE_FD)
{
	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	create_gate(vmm);
	assert_int_equal(submit(vmm, 1, 3, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 3, 3, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 3, 4, NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 4, 5, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 6, NO_IN_FENCES), 0);
	assert_int_equal(vgf_timeline_cancel(vmm->device, 1, 3, -ETIME), 3);
	assert_int_equal(vgf_timeline_cancel(vmm->device, 1, 3, -EIO), 0);
	assert_int_equal(vmm_dispatch(vmm), 3);
	assert_all_retired(vmm, ID(2), ID(3), ID(4), ID(0));
	assert_int_equal(status_of(vmm, 4), -ETIME);
	assert_int_equal(get_stats(vmm).held, 0);
	assert_false(driver_has(driver, 3) || driver_has(driver, 4));
}

TEST_VMM(what_has_signalled_on_a_timeline_does_not_count)
{
	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 3; id++) {
		assert_int_equal(submit(vmm, 1, 0, id, NO_IN_FENCES), 0);
	}
	assert_int_equal(signal_call(vmm, 1, 0, 2, 0), 0);
	assert_int_equal(vgf_timeline_cancel(vmm->device, 1, 0, -ETIME), 2);
	vmm_dispatch(vmm);
	assert_int_equal(status_of(vmm, 2), 0);
}

TEST_VMM(all_fences_of_the_global_timeline_are_given_up)
{
	driver_open(driver, vmm, 1);
	create_gate(vmm);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 0);
	assert_int_equal(vgf_timeline_cancel(vmm->device, 77, VGF_RING_GLOBAL, -ETIME), 2);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_all_retired(vmm, ID(1), ID(2), ID(0));
}

TEST_VMM(the_ring_of_a_destroyed_context_is_given_up)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 5, 1, NO_IN_FENCES), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	assert_int_equal(vgf_timeline_cancel(vmm->device, 1, 5, -ETIME), 1);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(vgf_timeline_cancel(vmm->device, 1, 5, -ETIME), -ENOENT);
}

TEST_VMM(a_timeline_that_there_is_not_cannot_be_cancelled)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(vgf_timeline_cancel(vmm->device, 2, 0, -ETIME), -ENOENT);
	assert_int_equal(vgf_timeline_cancel(vmm->device, 1, 5, -ETIME), -ENOENT);
	assert_int_equal(vgf_timeline_cancel(vmm->device, 1, 0, -ETIME), 0);
	assert_int_equal(vgf_timeline_cancel(vmm->device, 1, VGF_MAX_RINGS, -ETIME), -EINVAL);
	assert_int_equal(vgf_timeline_cancel(vmm->device, 1, VGF_EVERY_RING, -ETIME), -EINVAL);
	assert_int_equal(vgf_timeline_cancel(vmm->device, 1, INT32_MIN, -ETIME), -EINVAL);
	assert_int_equal(vgf_timeline_cancel(vmm->device, 1, 0, 0), -EINVAL);
}

static void cancel_timeline(struct fake_driver *driver, const struct vgf_job *job)
{
	struct fake_vmm *vmm = driver->arg;

	assert_int_equal(
		vgf_timeline_cancel(vmm->device, job->fence.ctx_id, job->fence.ring, -ETIME), 1);
}

TEST_VMM(a_timeline_is_given_up_while_a_submit_runs, .answer = FAKE_FD)
{
	driver->arg = vmm;
	driver->on_submit = cancel_timeline;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 2, 1, NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(status_of(vmm, 1), -ETIME);
	assert_idle(vmm);
}

static void give_up_the_ring(struct fake_vmm *vmm, const struct vgf_stall *stall)
{
	assert_int_equal(
		vgf_timeline_cancel(vmm->device, stall->fence.ctx_id, stall->fence.ring, -ETIME),
		5);
}

TEST_VMM(a_ring_that_hangs_is_over_in_one_stall, .answer = FAKE_FD, .options.stall_ns = 1)
{
	vmm->on_stall = give_up_the_ring;
	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 5; id++) {
		assert_int_equal(submit(vmm, 1, 2, id, NO_IN_FENCES), 0);
	}
	vmm_wait(vmm, 5);
	assert_int_equal(vmm->num_stalls, 1);
	assert_int_equal(get_stats(vmm).stalled, 1);
	assert_idle(vmm);
}

/* ---- What is pending of one context ------------------------------------------------------- */

TEST_VMM(a_context_lists_its_own_fences)
{
	struct vgf_pending pending[8] = { 0 };

	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	create_gate(vmm);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 3, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 4, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, VGF_RING_GLOBAL, 5, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, VGF_MAX_RINGS - 1, 6, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 7, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(vgf_context_list_pending(vmm->device, 1, pending, 8), 4);
	assert_int_equal(pending[0].fence.fence_id, 2);
	assert_int_equal(pending[1].fence.fence_id, 7);
	assert_true(pending[1].held && !pending[0].held);
	assert_int_equal(pending[2].fence.fence_id, 6);
	assert_int_equal(pending[2].fence.ring, VGF_MAX_RINGS - 1);
	assert_int_equal(pending[3].fence.fence_id, 4);
	assert_int_equal(pending[3].fence.ring, VGF_RING_GLOBAL);
	assert_int_equal(pending[4].fence.fence_id, 0);
	assert_int_equal(vgf_context_list_pending(vmm->device, 3, pending, 8), 0);
}

TEST_VMM(a_destroyed_context_is_listed_with_its_successor)
{
	struct vgf_pending pending[1];

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	assert_int_equal(vgf_context_list_pending(vmm->device, 1, NULL, 0), 1);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(vgf_context_list_pending(vmm->device, 1, pending, 1), 2);
	assert_int_equal(pending[0].fence.fence_id, 1);
}

/* ---- Twice -------------------------------------------------------------------------------- */

TEST_VMM(what_was_given_up_keeps_its_first_error, .answer = FAKE_DONE)
{
	int deferred = 1;

	create_gate(vmm);
	driver_open(driver, vmm, 1);
	for (uint64_t id = 2; id <= 4; id++) {
		assert_int_equal(submit(vmm, 1, (int32_t)id, id, ID(1), NO_IN_FENCES), 1);
	}
	assert_int_equal(defer_call(vmm->device, 1, note_status, &deferred), 1);
	assert_int_equal(cancel(vmm, 1, OPEN), 0);
	assert_int_equal(vgf_context_cancel(vmm->device, 1, OPEN, -EIO), 0);
	assert_int_equal(vgf_timeline_cancel(vmm->device, 1, 3, -EIO), 0);
	assert_int_equal(vgf_context_cancel(vmm->device, 1, OPEN | RUNNING, -EIO), 0);
	vmm_dispatch(vmm);
	for (uint64_t id = 2; id <= 4; id++) {
		assert_int_equal(status_of(vmm, id), -ETIME);
	}
	assert_int_equal(deferred, -ETIME);
	vmm_destroy_device(vmm);
}

TEST_VMM(a_reset_leaves_the_error_of_what_was_given_up, .answer = FAKE_DONE)
{
	int deferred = 1;

	create_gate(vmm);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit_flags(vmm, 1, 0, 0, 0, NULL, 0, NULL), 1);
	assert_int_equal(defer_call(vmm->device, 1, note_status, &deferred), 1);
	assert_int_equal(cancel(vmm, 1, OPEN), 0);
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_int_equal(status_of(vmm, 1), -ECANCELED);
	assert_int_equal(status_of(vmm, 2), -ETIME);
	assert_int_equal(deferred, -ETIME);
	vmm_destroy_device(vmm);
}
