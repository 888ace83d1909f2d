/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Timelines retire in order, rings run in order, and nothing runs before what it waits for. */

#include <errno.h>

#include "fake.h"

#define ID(n) ((uint64_t)(n))

static void retires_what_has_signalled(void **state)
{
	struct fake_vmm *vmm = vmm_create(NULL);
	struct fake_driver *driver = driver_create(VGF_WAIT_HOST, FAKE_FD);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 7, NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	driver_signal(driver, 7);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 7, 0);
	assert_int_equal(vmm->num_batches, 1);
	assert_idle(vmm);
	vmm_destroy(vmm);
	driver_destroy(driver);
}

static void retires_in_order_when_files_signal_out_of_order(void **state)
{
	struct fake_vmm *vmm = vmm_create(NULL);
	struct fake_driver *driver = driver_create(VGF_WAIT_HOST, FAKE_FD);

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
	vmm_destroy(vmm);
	driver_destroy(driver);
}

static void retires_in_order_when_calls_come_out_of_order(void **state)
{
	struct fake_vmm *vmm = vmm_create(NULL);
	struct fake_driver *driver = driver_create(VGF_WAIT_HOST, FAKE_CALL);

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
	vmm_destroy(vmm);
	driver_destroy(driver);
}

static void timelines_do_not_wait_for_each_other(void **state)
{
	struct fake_vmm *vmm = vmm_create(NULL);
	struct fake_driver *driver = driver_create(VGF_WAIT_HOST, FAKE_CALL);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 1, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 3, NO_IN_FENCES), 0);
	assert_int_equal(signal_call(vmm, 1, VGF_RING_GLOBAL, 3, 0), 0);
	assert_int_equal(signal_call(vmm, 1, 1, 2, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_retired(vmm, 0, 1, VGF_RING_GLOBAL, 3, 0);
	assert_retired(vmm, 1, 1, 1, 2, 0);
	vmm_destroy(vmm);
	driver_destroy(driver);
}

static void held_work_runs_when_its_in_fence_retires(void **state)
{
	struct fake_vmm *vmm = vmm_create(NULL);
	struct fake_driver *driver = driver_create(VGF_WAIT_HOST, FAKE_FD);

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
	vmm_destroy(vmm);
	driver_destroy(driver);
}

static void driver_gets_in_fences_as_descriptors(void **state)
{
	struct fake_vmm *vmm = vmm_create(NULL);
	struct fake_driver *driver = driver_create(VGF_WAIT_DRIVER, FAKE_FD);

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(1), ID(2), ID(1), NO_IN_FENCES), 0);
	assert_int_equal(driver_job(driver, 3)->wait, VGF_WAIT_DRIVER);
	assert_int_equal(driver_job(driver, 3)->num_in_fences, 2);
	vmm_destroy(vmm);
	driver_destroy(driver);
}

static void work_waits_for_a_producer_that_is_held_then_goes_to_the_driver(void **state)
{
	struct fake_vmm *vmm = vmm_create(NULL);
	struct fake_driver *host = driver_create(VGF_WAIT_HOST, FAKE_FD);
	struct fake_driver *takes = driver_create(VGF_WAIT_DRIVER, FAKE_FD);

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
	vmm_destroy(vmm);
	driver_destroy(host);
	driver_destroy(takes);
}

static void a_ring_keeps_its_order_behind_held_work(void **state)
{
	struct fake_vmm *vmm = vmm_create(NULL);
	struct fake_driver *driver = driver_create(VGF_WAIT_HOST, FAKE_CALL);

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
	vmm_destroy(vmm);
	driver_destroy(driver);
}

static void a_context_keeps_its_order_where_rings_are_not_independent(void **state)
{
	struct fake_vmm *vmm = vmm_create(NULL);
	struct fake_driver *driver = driver_create(VGF_WAIT_HOST, FAKE_CALL);

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
	vmm_destroy(vmm);
	driver_destroy(driver);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		counted_test(retires_what_has_signalled),
		counted_test(retires_in_order_when_files_signal_out_of_order),
		counted_test(retires_in_order_when_calls_come_out_of_order),
		counted_test(timelines_do_not_wait_for_each_other),
		counted_test(held_work_runs_when_its_in_fence_retires),
		counted_test(driver_gets_in_fences_as_descriptors),
		counted_test(work_waits_for_a_producer_that_is_held_then_goes_to_the_driver),
		counted_test(a_ring_keeps_its_order_behind_held_work),
		counted_test(a_context_keeps_its_order_where_rings_are_not_independent),
	};

	return cmocka_run_group_tests_name("order", tests, NULL, NULL);
}
