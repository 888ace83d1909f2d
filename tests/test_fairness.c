/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What one context does, and what is left for the others. */

#include <errno.h>
#include <unistd.h>

#include "fake.h"

/* ---- Descriptors -------------------------------------------------------------------------- */

#define JOBS 40

/* Jobs that run long, one after the other on a ring. Returns how many went to the driver. */
static unsigned int submit_jobs(
	struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t first_id, unsigned int count)
{
	unsigned int running = 0;

	for (unsigned int i = 0; i < count; i++) {
		int ret = submit(vmm, ctx_id, ring, first_id + i, NO_IN_FENCES);

		assert_in_range(ret, 0, 1);
		running += ret == 0;
	}
	return running;
}

TEST_VMM(
	a_context_has_a_quarter_of_the_descriptors, .answer = FAKE_FD, .options.limits.max_fds = 80)
{
	for (uint32_t ctx_id = 1; ctx_id <= 3; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
		/* The last one of a share is for the oldest of another timeline. */
		assert_int_equal(submit_jobs(vmm, ctx_id, 0, ctx_id * 100, JOBS), 19);
		assert_int_equal(get_stats(vmm).fds, ctx_id * 19);
	}
	driver_open(driver, vmm, 4);
	assert_int_equal(submit(vmm, 4, 0, 900, NO_IN_FENCES), 0);
}

TEST(a_share_is_16_at_least_but_never_more_than_there_are)
{
	static const struct {
		uint32_t max_fds;
		unsigned int running;
	} cases[] = { { 20, 15 }, { 64, 15 }, { 68, 16 }, { 8, 7 } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct vgf_options options = { .size = sizeof(struct vgf_options),
			.limits = { .max_fds = cases[i].max_fds } };
		struct fake_vmm *vmm = vmm_create(&options);
		struct fake_driver *driver = driver_create(vmm, VGF_WAIT_HOST, FAKE_FD);

		driver_open(driver, vmm, 1);
		assert_int_equal(submit_jobs(vmm, 1, 0, 1, JOBS), cases[i].running);
		vmm_destroy(vmm);
	}
}

TEST_VMM(work_past_a_share_waits_and_goes_on_in_order, .answer = FAKE_FD,
	.options.limits.max_context_fds = 3)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_jobs(vmm, 1, 0, 1, 5), 2);
	for (uint64_t id = 1; id <= 3; id++) {
		driver_signal(driver, id);
		assert_int_equal(vmm_dispatch(vmm), 1);
		assert_int_equal(driver->num_jobs, id + 2);
		assert_true(driver_has(driver, id + 2));
	}
	driver_signal(driver, 4);
	driver_signal(driver, 5);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_all_retired(vmm, ID(1), ID(2), ID(3), ID(4), ID(5), ID(0));
	assert_idle(vmm);
}

TEST_VMM(the_last_of_a_share_is_for_the_oldest_of_a_timeline, .answer = FAKE_FD,
	.options.limits.max_context_fds = 2)
{
	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 1, 3, NO_IN_FENCES), 0);
	driver_signal(driver, 3);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_false(driver_has(driver, 2));
	driver_signal(driver, 1);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_true(driver_has(driver, 2));
}

/* Each job has its turn: the ring that asks again at once does not overtake those that wait. */
TEST_VMM(rings_of_a_context_take_turns, .answer = FAKE_FD, .options.limits.max_context_fds = 1)
{
	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 1, 3, NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 2, 4, NO_IN_FENCES), 1);
	assert_int_equal(vmm_dispatch(vmm), 0);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(driver->num_jobs, i + 1);
		driver_signal(driver, driver->jobs[i].fence.fence_id);
		assert_int_equal(vmm_dispatch(vmm), 1);
	}
	assert_jobs(driver, ID(1), ID(3), ID(4), ID(2), ID(0));
	assert_idle(vmm);
}

TEST_VMM(a_turn_in_a_share_is_passed_on_by_who_is_cancelled, .answer = FAKE_FD,
	.options.limits.max_context_fds = 1)
{
	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 1, 2, NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 2, 3, NO_IN_FENCES), 1);
	driver_signal(driver, 1);
	assert_int_equal(cancel_fence(vmm, 1, 1, 2, -EIO), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_jobs(driver, ID(1), ID(3), ID(0));
}

/* These cannot wait for a descriptor, so they say that there is none. */
TEST_VMM(a_share_holds_for_descriptors_that_are_handed_over, .options.limits.max_context_fds = 2)
{
	int fence_fd;

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	fence_fd = create_fence_fd(vmm, 1, 0, 1);
	assert_int_equal(create_fence(vmm, 1, 0, 2, make_fence(false)), -EMFILE);
	assert_int_equal(create_fence(vmm, 1, 0, 2, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(
		publish_take(vmm->device, &(struct vgf_fence_name){ 2, 1, 0 }, make_fence(false)),
		-EMFILE);
	assert_int_equal(create_fence(vmm, 2, 0, 3, make_fence(false)), 0);
	close(fence_fd);
}

/* Each of two bounds has one descriptor left, and four rings want both. */
TEST_VMM(rings_that_wait_at_both_bounds_do_not_wait_for_each_other, .answer = FAKE_FD,
	.options.limits = { .max_fds = 1, .max_context_fds = 1 }, .options.budget_items = 100)
{
	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, 1, 3, NO_IN_FENCES), 1);
	vmm_dispatch(vmm); /* both wait at the device's bound */
	driver_signal(driver, 1);
	vmm_dispatch(vmm);
	assert_true(driver_has(driver, 2));
	assert_int_equal(submit(vmm, 2, 2, 4, NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, 3, 5, NO_IN_FENCES), 1);
	vmm_dispatch(vmm); /* these at the context's */
	driver_signal(driver, 2);
	for (unsigned int jobs = 3; jobs <= 5; jobs++) {
		for (int i = 0; i < 10; i++) {
			assert_true(vgf_device_dispatch(vmm->device, 0) >= 0);
		}
		assert_int_equal(driver->num_jobs, jobs);
		signal_fence(driver->jobs[jobs - 1].fence_fd);
	}
	vmm_dispatch(vmm);
	assert_idle(vmm);
}
