/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Contexts whose drivers know each other's fences by name: such fences need no descriptor. */

#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static const char family, other_family;

/* One more driver beside the test's. */
static struct fake_driver *open_driver(
	struct fake_vmm *vmm, uint32_t ctx_id, const void *its_family, enum fake_answer answer)
{
	struct fake_driver *driver = driver_create(vmm, VGF_WAIT_DRIVER, answer);

	driver->driver.family = its_family;
	driver_open(driver, vmm, ctx_id);
	return driver;
}

/* Contexts 1 to `count` of the test's driver, of the family. */
static void open_contexts(struct fake_driver *driver, struct fake_vmm *vmm, uint32_t count)
{
	driver->driver.family = &family;
	for (uint32_t i = 1; i <= count; i++) {
		driver_open(driver, vmm, i);
	}
}

/* The job came with this fence alone, by its name. */
static void assert_named(struct fake_driver *driver, uint64_t fence_id, uint32_t ctx_id,
	int32_t ring, uint64_t in_fence)
{
	const struct fake_job *job = driver_job(driver, fence_id);

	assert_int_equal(job->wait, driver->driver.wait);
	assert_int_equal(job->num_in_fences, 0);
	assert_int_equal(job->num_family_fences, 1);
	assert_int_equal(job->family_fences[0].fence_id, in_fence);
	assert_int_equal(job->family_fences[0].ctx_id, ctx_id);
	assert_int_equal(job->family_fences[0].ring, ring);
}

/* The job came with no in-fence, as the host has waited. */
static void assert_waited(struct fake_driver *driver, uint64_t fence_id)
{
	const struct fake_job *job = driver_job(driver, fence_id);

	assert_int_equal(job->wait, VGF_WAIT_HOST);
	assert_int_equal(job->num_in_fences, 0);
	assert_int_equal(job->num_family_fences, 0);
}

static int publish_fd(struct fake_vmm *vmm, uint32_t ctx_id, uint64_t fence_id, int fence_fd)
{
	struct vgf_fence_name name = make_name(ctx_id, 0, fence_id);

	return publish_take(vmm->device, &name, fence_fd);
}

/* ---- What a driver gets ------------------------------------------------------------------- */

TEST_VMM(a_fence_of_the_family_is_handed_over_by_its_name, .wait = VGF_WAIT_GL)
{
	open_contexts(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 3, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 0);
	assert_named(driver, 2, 1, 3, 1);
	assert_int_equal(get_stats(vmm).run_gl, 1);
}

/* All of a chain at once. The limit is the least with which work runs that is not the oldest. */
TEST_VMM(a_family_needs_no_descriptors, .wait = VGF_WAIT_DRIVER, .options.limits.max_fds = 2)
{
	open_contexts(driver, vmm, 2);
	assert_int_equal(submit(vmm, 2, 0, 1, NO_IN_FENCES), 0);
	for (uint32_t i = 2; i <= 100; i++) {
		assert_int_equal(submit(vmm, 1 + i % 2, 0, i, ID(i - 1), NO_IN_FENCES), 0);
		assert_named(driver, i, 1 + (i - 1) % 2, 0, i - 1);
	}
	assert_int_equal(get_stats(vmm).peak_fds, 0);
	for (uint32_t i = 1; i <= 100; i++) {
		assert_int_equal(signal_call(vmm, 1 + i % 2, 0, i, 0), 0);
	}
	vmm_dispatch(vmm);
	assert_int_equal(vmm->num_retired, 100);
	assert_idle(vmm);
}

/* Each is lent: only the driver knows which of them are done in order. */
TEST_VMM(every_fence_of_a_timeline_is_handed_over, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(1), ID(2), ID(1), NO_IN_FENCES), 0);
	assert_int_equal(driver_job(driver, 3)->num_family_fences, 2);
}

TEST_VMM(descriptors_and_names_come_together, .wait = VGF_WAIT_DRIVER)
{
	const struct fake_job *job;

	open_contexts(driver, vmm, 1);
	open_driver(vmm, 2, NULL, FAKE_FD);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 1, 4, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 5, ID(1), ID(2), ID(3), ID(4), NO_IN_FENCES), 0);
	job = driver_job(driver, 5);
	assert_int_equal(job->num_in_fences, 2);
	assert_int_equal(job->in_fences[0] + job->in_fences[1], 6);
	assert_int_equal(job->num_family_fences, 2);
	assert_int_equal(job->family_fences[0].fence_id + job->family_fences[1].fence_id, 4);
}

/* As many of each. */
#define NUM_MANY 20

static void check_many(struct fake_driver *driver, const struct vgf_job *job)
{
	uint64_t files = 0, names = 0;

	(void)driver;
	assert_int_equal(job->num_in_fences, NUM_MANY);
	assert_int_equal(job->num_family_fences, NUM_MANY);
	for (uint32_t i = 0; i < NUM_MANY; i++) {
		assert_int_equal(job->in_fences[i].fence_id % 2, 0);
		assert_true(fcntl(job->in_fences[i].fd, F_GETFD) >= 0);
		files |= UINT64_C(1) << job->in_fences[i].fence_id;
		assert_int_equal(job->family_fences[i].fence_id % 2, 1);
		assert_int_equal(job->family_fences[i].ctx_id, 1);
		names |= UINT64_C(1) << job->family_fences[i].fence_id;
	}
	assert_int_equal(files | names, (UINT64_C(1) << (2 * NUM_MANY + 1)) - 2);
}

/* More than their runner has room for. */
TEST_VMM(many_descriptors_and_names_come_together, .wait = VGF_WAIT_DRIVER)
{
	uint64_t in_fences[2 * NUM_MANY];
	bool will_retire;

	open_contexts(driver, vmm, 1);
	open_driver(vmm, 2, NULL, FAKE_FD);
	for (uint64_t id = 1; id <= 2 * NUM_MANY; id++) {
		in_fences[id - 1] = id;
		assert_int_equal(submit(vmm, id % 2 ? 1 : 2, 0, id, NO_IN_FENCES), 0);
	}
	driver->on_submit = check_many;
	assert_int_equal(submit_flags(vmm, 1, 0, 2 * NUM_MANY + 1, VGF_FENCED, in_fences,
				 2 * NUM_MANY, &will_retire),
		0);
	driver->on_submit = NULL;
	assert_true(driver_has(driver, 2 * NUM_MANY + 1));
}

TEST_VMM(a_descriptor_is_handed_over_where_there_is_one, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 2);
	driver->answer = FAKE_FD;
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	driver->answer = FAKE_CALL;
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 0);
	assert_int_equal(driver_job(driver, 2)->num_in_fences, 1);
	assert_int_equal(driver_job(driver, 2)->num_family_fences, 0);
}

/* ---- Who is waited for on the host -------------------------------------------------------- */

TEST_VMM(a_fence_of_another_family_is_waited_for, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 1);
	open_driver(vmm, 2, &other_family, FAKE_CALL);
	open_driver(vmm, 3, NULL, FAKE_CALL);
	assert_int_equal(submit(vmm, 2, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 3, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 0, 4, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 2, 0, 1, 0), 0);
	assert_int_equal(signal_call(vmm, 3, 0, 2, 0), 0);
	vmm_dispatch(vmm);
	assert_waited(driver, 3);
	assert_waited(driver, 4);
}

TEST_VMM(drivers_without_a_family_are_none, .wait = VGF_WAIT_DRIVER)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 1);
}

TEST_VMM(a_driver_that_takes_no_in_fences_gets_none_of_its_family, .wait = VGF_WAIT_HOST)
{
	open_contexts(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_waited(driver, 2);
}

/* A fence that no driver has: the VMM's own, on a context's timeline. */
TEST_VMM(a_fence_of_the_vmms_is_waited_for, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 2);
	assert_int_equal(create_fence(vmm, 1, 0, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_waited(driver, 2);
}

/* Its driver does not know it before it has the work. */
TEST_VMM(work_that_is_held_back_is_named_once_its_driver_has_it, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 3);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 3, 0, 4, ID(3), NO_IN_FENCES), 1);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, 0);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(2), ID(3), ID(4), ID(0));
	assert_waited(driver, 2);
	assert_named(driver, 3, 1, 0, 2);
	assert_named(driver, 4, 2, 0, 3);
}

/* In submit the driver has it already, but vgfence does not know yet whether it will call. */
static void name_it_from_inside(struct fake_driver *driver, const struct vgf_job *job)
{
	driver->on_submit = NULL;
	assert_int_equal(
		submit(driver->arg, 2, 0, job->fence.fence_id + 1, job->fence.fence_id, ID(0)), 1);
}

TEST_VMM(work_is_named_once_submit_has_returned, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 2);
	driver->on_submit = name_it_from_inside;
	driver->arg = vmm;
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	vmm_dispatch(vmm);
	assert_named(driver, 2, 1, 0, 1);
}

/* ---- When it is over ---------------------------------------------------------------------- */

/* As with descriptors: an ID stands for all that is before it, so what has signalled out of order
 * counts when it retires. */
TEST_VMM(a_fence_that_signals_out_of_order_counts_when_it_retires, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 2, 0), 0);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(2), NO_IN_FENCES), 1);
	vmm_dispatch(vmm);
	assert_false(driver_has(driver, 3));
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_waited(driver, 3);
}

/* Of two in-fences one signals while the other keeps the work back. */
TEST_VMM(a_name_is_given_up_when_its_fence_signals, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 2);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(1), ID(2), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 2, 0), 0);
	vmm_dispatch(vmm);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_waited(driver, 3);
}

TEST_VMM(a_fence_that_is_given_up_is_no_longer_named, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(cancel_fence(vmm, 1, 0, 2, -ETIME), 0);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_waited(driver, 3);
}

TEST_VMM(the_work_of_a_destroyed_context_is_named, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 0);
	assert_named(driver, 2, 1, 0, 1);
}

/* ---- A driver that cannot take it --------------------------------------------------------- */

TEST_VMM(a_driver_that_refuses_a_name_gets_the_work_when_the_host_has_waited,
	.wait = VGF_WAIT_DRIVER)
{
	struct fake_driver *refuses;

	open_contexts(driver, vmm, 1);
	refuses = open_driver(vmm, 2, &family, FAKE_ERROR);
	refuses->error = -EOPNOTSUPP;
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(refuses->num_errors, 1);
	vmm_dispatch(vmm);
	assert_int_equal(refuses->num_errors, 1);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_waited(refuses, 2);
	assert_int_equal(get_stats(vmm).failed, 0);
}

/* ---- Descriptors that come later ---------------------------------------------------------- */

/* Work that is kept back by another in-fence meanwhile, which it is told of once. */
TEST_VMM(a_fence_that_gets_a_descriptor_is_handed_over_as_one, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 2);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(1), ID(2), NO_IN_FENCES), 1);
	assert_int_equal(publish_fd(vmm, 1, 2, make_fence(false)), 0);
	vmm_dispatch(vmm);
	assert_false(driver_has(driver, 3));
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver_job(driver, 3)->num_in_fences, 1);
	assert_int_equal(driver_job(driver, 3)->in_fences[0], 2);
	assert_int_equal(driver_job(driver, 3)->num_family_fences, 0);
}

/* The work hears of the end of a descriptor once. */
TEST_VMM(a_descriptor_that_is_lost_is_no_name_again, .wait = VGF_WAIT_DRIVER)
{
	int fence_fd = make_fence(false);

	open_contexts(driver, vmm, 3);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 4, ID(1), ID(3), NO_IN_FENCES), 1);
	assert_int_equal(publish_fd(vmm, 1, 3, fence_fd), 0);
	close(fence_fd); /* somebody closes what is not theirs */
	assert_int_equal(signal_call(vmm, 1, 0, 2, 0), 0);
	vmm_dispatch(vmm);
	assert_retired(vmm, 1, 1, 0, 3, -EBADF);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_waited(driver, 4);
}

/* ---- The global timeline ------------------------------------------------------------------ */

/* Work of several contexts is there, and an ID stands for all that is before it: the last one may
 * be done while what is before it is not even its driver's. */
TEST_VMM(of_the_global_timeline_the_oldest_alone_is_named, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 3);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, VGF_RING_GLOBAL, 3, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 3, 0, 4, ID(3), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_true(driver_has(driver, 2));
	assert_false(driver_has(driver, 4));
	assert_int_equal(signal_call(vmm, 1, VGF_RING_GLOBAL, 2, 0), 0);
	vmm_dispatch(vmm);
	assert_named(driver, 4, 2, VGF_RING_GLOBAL, 3);
}

/* The same with descriptors. */
TEST_VMM(of_the_global_timeline_the_oldest_descriptor_alone_is_handed_over, .wait = VGF_WAIT_DRIVER,
	.answer = FAKE_FD)
{
	int fence_fd;

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(2), NO_IN_FENCES), 1);
	signal_fence(fence_fd);
	vmm_dispatch(vmm);
	assert_int_equal(driver_job(driver, 3)->wait, VGF_WAIT_DRIVER);
	assert_int_equal(driver_job(driver, 3)->in_fences[0], 2);
	close(fence_fd);
}

/* One that gets its descriptor, or signals, while it is not the oldest. */
TEST_VMM(what_happens_behind_others_of_the_global_timeline_counts_when_it_is_the_oldest,
	.wait = VGF_WAIT_DRIVER)
{
	struct vgf_fence_name second = make_name(0, VGF_RING_GLOBAL, 2);
	struct vgf_fence_name third = make_name(0, VGF_RING_GLOBAL, 3);
	int fence_fd = make_fence(false);

	driver_open(driver, vmm, 1);
	for (uint32_t i = 1; i <= 3; i++) {
		assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, i, VGF_FENCE_BY_CALL), 0);
	}
	assert_int_equal(submit(vmm, 1, 0, 4, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 1, 5, ID(3), NO_IN_FENCES), 1);
	assert_int_equal(publish_take(vmm->device, &second, dup(fence_fd)), 0);
	assert_int_equal(publish_take(vmm->device, &third, make_fence(false)), 0);
	assert_int_equal(cancel_fence(vmm, 0, VGF_RING_GLOBAL, 3, -ETIME), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, 0);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver_job(driver, 4)->num_in_fences, 1);
	assert_false(driver_has(driver, 5));
	signal_fence(fence_fd);
	vmm_dispatch(vmm);
	assert_waited(driver, 5);
	close(fence_fd);
}

/* ---- What has no order on a ring ---------------------------------------------------------- */

/* The VMM's own affair, a flush say, that no driver knows of. */
TEST_VMM(what_is_behind_a_call_of_the_vmms_on_a_ring_is_waited_for, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 3);
	assert_int_equal(create_fence(vmm, 1, 0, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 4, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 3, 0, 5, ID(3), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_named(driver, 4, 1, 0, 2);
	assert_false(driver_has(driver, 5));
	/* What came after that has its order again. */
	assert_int_equal(submit(vmm, 1, 0, 6, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 7, ID(6), NO_IN_FENCES), 0);
	assert_named(driver, 7, 1, 0, 6);
	assert_int_equal(signal_call(vmm, 1, 0, 2, 0), 0);
	vmm_dispatch(vmm);
	assert_named(driver, 5, 1, 0, 3);
}

/* One that is refused has nothing to be waited for. */
TEST_VMM(a_refused_fence_on_a_ring_keeps_the_order, .wait = VGF_WAIT_DRIVER)
{
	const struct vgf_fence_name refused = make_name(1, 0, 2);

	open_contexts(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vgf_fence_refuse(vmm->device, &refused, VGF_SHAREABLE, NULL, -EIO), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 4, ID(3), NO_IN_FENCES), 0);
	assert_named(driver, 4, 1, 0, 3);
}

/* Its work may run on elsewhere. */
TEST_VMM(
	what_is_behind_work_of_an_earlier_context_of_that_id_is_waited_for, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_named(driver, 3, 1, 0, 2);
}

/* What stands for messages of others comes in any order. */
TEST_VMM(of_patient_fences_on_a_ring_the_oldest_alone_is_handed_over, .wait = VGF_WAIT_DRIVER,
	.answer = FAKE_FD)
{
	bool will_retire;

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	for (uint64_t id = 1; id <= 2; id++) {
		assert_int_equal(
			submit_flags(vmm, 1, 3, id, VGF_FENCED | VGF_SHAREABLE | VGF_PATIENT, NULL,
				0, &will_retire),
			0);
	}
	assert_int_equal(submit(vmm, 2, 0, 3, ID(2), NO_IN_FENCES), 1);
	driver_signal(driver, 2);
	vmm_dispatch(vmm);
	assert_false(driver_has(driver, 3));
	driver_signal(driver, 1);
	vmm_wait(vmm, 2);
	assert_true(driver_has(driver, 3));
}

/* By a VMM whose affair it was before. */
TEST_VMM(a_descriptor_that_comes_later_does_not_stand_for_work_before_it, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(create_fence(vmm, 1, 0, 2, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(publish_fd(vmm, 1, 2, make_fence(false)), 0);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_int_equal(driver_job(driver, 3)->num_in_fences, 1);
}

static void reset_from_retire(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct fake_driver *driver = vmm->arg;

	vmm->on_retire = NULL;
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	open_contexts(driver, vmm, 2);
}

/* With its IDs, from inside a callback that still has the timeline. */
TEST_VMM(a_reset_forgets_what_had_no_order, .wait = VGF_WAIT_DRIVER)
{
	open_contexts(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(create_fence(vmm, 1, 0, 900, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, 0, 901, NO_IN_FENCES), 0);
	vmm->on_retire = reset_from_retire;
	vmm->arg = driver;
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 4, ID(3), NO_IN_FENCES), 0);
	assert_named(driver, 4, 1, 0, 3);
}
