/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* In-fences that a VMM gives as descriptors: they are no fences of the device. */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "alloc.h"
#include "fake.h"

static int submit_fds(struct fake_vmm *vmm, uint32_t ctx_id, uint64_t fence_id, const int *fds,
	uint32_t count, bool *will_retire)
{
	struct vgf_submission submission = {
		.fence = { .fence_id = fence_id, .ctx_id = ctx_id, .ring = 0 },
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.in_fence_fds = fds,
		.num_in_fence_fds = count,
	};

	return vgf_submit(vmm->device, &submission, will_retire);
}

TEST_VMM(host_waits_for_a_descriptor, .answer = FAKE_DONE)
{
	int fds[] = { make_fence(false), make_fence(true), make_fence(false) };
	bool will_retire;

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fds(vmm, 1, 1, fds, 3, &will_retire), 1);
	assert_true(will_retire);
	signal_fence(fds[0]);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_false(driver_has(driver, 1));
	assert_int_equal(vgf_device_list_pending(vmm->device, NULL, 0), 1);
	signal_fence(fds[2]);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(driver_job(driver, 1)->wait, VGF_WAIT_HOST);
	assert_idle(vmm);
	for (int i = 0; i < 3; i++) {
		close(fds[i]);
	}
}

TEST_VMM(the_descriptor_may_be_closed_after_the_call, .answer = FAKE_DONE)
{
	int fd = make_fence(false);
	int copy = dup(fd);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fds(vmm, 1, 1, &fd, 1, NULL), 1);
	close(fd);
	signal_fence(copy);
	assert_int_equal(vmm_dispatch(vmm), 1);
	close(copy);
}

TEST_VMM(a_driver_gets_the_descriptor, .answer = FAKE_DONE, .wait = VGF_WAIT_DRIVER)
{
	int fd = make_fence(false);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fds(vmm, 1, 1, &fd, 1, NULL), 0);
	assert_int_equal(driver_job(driver, 1)->wait, VGF_WAIT_DRIVER);
	assert_int_equal(driver_job(driver, 1)->num_in_fences, 1);
	assert_true(driver_job(driver, 1)->in_fences[0] == VGF_NO_FENCE_ID);
	/* The device does not wait for it any longer, although it has not signalled. */
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_idle(vmm);
	close(fd);
}

TEST_VMM(a_driver_that_cannot_take_it_waits_on_the_host, .answer = FAKE_ERROR,
	.wait = VGF_WAIT_DRIVER)
{
	int fd = make_fence(false);

	driver->error = -EOPNOTSUPP;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fds(vmm, 1, 1, &fd, 1, NULL), 1);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, 0);
	signal_fence(fd);
	vmm_dispatch(vmm);
	assert_int_equal(driver_job(driver, 1)->wait, VGF_WAIT_HOST);
	close(fd);
}

TEST_VMM(cancelling_lets_go_of_it, .answer = FAKE_DONE)
{
	int fd = make_fence(false);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fds(vmm, 1, 1, &fd, 1, NULL), 1);
	assert_int_equal(cancel_context(vmm->device, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 1, -ECANCELED);
	assert_idle(vmm);
	signal_fence(fd);
	assert_int_equal(vmm_dispatch(vmm), 0);
	close(fd);
}

TEST_VMM(reset_and_destroy_let_go_of_it, .answer = FAKE_DONE)
{
	int fd = make_fence(false);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fds(vmm, 1, 1, &fd, 1, NULL), 1);
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_retired(vmm, 0, 1, 0, 1, -ECANCELED);
	assert_idle(vmm);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fds(vmm, 1, 1, &fd, 1, NULL), 1);
	close(fd);
}

TEST_VMM(a_bad_descriptor_refuses_the_submission_in_its_place)
{
	int fds[] = { make_fence(false), 1 << 20 };
	bool will_retire;

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit_fds(vmm, 1, 2, fds, 2, &will_retire), -EBADF);
	assert_true(will_retire);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_retired(vmm, 1, 1, 0, 2, -EBADF);
	assert_idle(vmm);
	close(fds[0]);
}

TEST_VMM(a_descriptor_that_will_never_signal_is_refused)
{
	int pipe_fds[2];

	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	close(pipe_fds[1]);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fds(vmm, 1, 1, pipe_fds, 1, NULL), -EIO);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 1, -EIO);
	assert_idle(vmm);
	close(pipe_fds[0]);
}

TEST_VMM(descriptors_count_as_in_fences, .answer = FAKE_DONE, .options.limits.max_in_fences = 2)
{
	int fds[] = { make_fence(false), make_fence(false), make_fence(false) };

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fds(vmm, 1, 1, fds, 3, NULL), -E2BIG);
	assert_int_equal(submit_fds(vmm, 1, 2, fds, 2, NULL), 1);
	for (int i = 0; i < 3; i++) {
		signal_fence(fds[i]);
		close(fds[i]);
	}
	vmm_wait(vmm, 2);
}

TEST_VMM(every_failure_leaves_nothing, .answer = FAKE_DONE)
{
	int fds[] = { make_fence(false), make_fence(false) };
	uint64_t id = 1;
	int ret;

	driver_open(driver, vmm, 1);
	for (unsigned long nth = 1;; nth++) {
		alloc_fail(nth);
		ret = submit_fds(vmm, 1, id++, fds, 2, NULL);
		alloc_reset();
		if (ret >= 0) {
			break;
		}
		assert_int_equal(ret, -ENOMEM);
		vmm_dispatch(vmm);
		assert_idle(vmm);
	}
	assert_int_equal(cancel_context(vmm->device, 1), 0);
	vmm_dispatch(vmm);
	for (unsigned int more = 0;; more++) {
		limit_fds(more);
		ret = submit_fds(vmm, 1, id++, fds, 2, NULL);
		unlimit_fds();
		if (ret >= 0) {
			break;
		}
		assert_int_equal(ret, -EMFILE);
		vmm_dispatch(vmm);
		assert_idle(vmm);
	}
	for (int i = 0; i < 2; i++) {
		signal_fence(fds[i]);
		close(fds[i]);
	}
	vmm_dispatch(vmm);
	assert_idle(vmm);
}
