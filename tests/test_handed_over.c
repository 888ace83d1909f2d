/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Descriptors that are handed over: whose they are after each call, and what -1 means in place of
 * one. */

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "alloc.h"
#include "fake.h"

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int create_with(
	struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, int fd)
{
	struct vgf_fence_name name = make_name(ctx_id, ring, fence_id);

	return vgf_fence_create_take(vmm->device, &name, VGF_SHAREABLE, NULL, fd);
}

static int publish_with(struct fake_vmm *vmm, int32_t ring, uint64_t fence_id, int fd)
{
	struct vgf_fence_name name = make_name(1, ring, fence_id);

	return vgf_fence_publish_take(vmm->device, &name, fd);
}

/* ---- vgf_fence_create_take ---------------------------------------------------------------- */

TEST_VMM(create_owns_the_descriptor_until_the_fence_is_gone)
{
	int fd = make_fence(true);

	assert_int_equal(create_with(vmm, 0, VGF_RING_GLOBAL, 1, fd), 0);
	assert_true(is_open(fd));
	vmm_dispatch(vmm);
	assert_false(is_open(fd));
}

TEST_VMM(a_fence_that_cannot_be_placed_leaves_its_descriptor)
{
	int fd = make_fence(false);

	driver_open(driver, vmm, 1);
	assert_int_equal(create_fence(vmm, 1, 0, 5, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(create_with(vmm, 1, 0, 5, fd), -EINVAL);
	assert_int_equal(create_with(vmm, 1, 0, UINT64_MAX, fd), -EINVAL);
	assert_int_equal(create_with(vmm, 1, VGF_MAX_RINGS, 6, fd), -EINVAL);
	assert_int_equal(create_with(vmm, 1, VGF_EVERY_RING, 6, fd), -EINVAL);
	assert_int_equal(create_with(vmm, 2, 0, 6, fd), -ENOENT);
	assert_int_equal(create_with(vmm, 1, 0, 6, -3), -EINVAL);
	assert_true(is_open(fd));
	close(fd);
}

TEST_VMM(what_cannot_be_polled_is_left)
{
	int fd = memfd_create("a file", MFD_CLOEXEC);

	assert_int_equal(create_with(vmm, 0, VGF_RING_GLOBAL, 1, fd), -EPERM);
	assert_true(is_open(fd));
	close(fd);
	assert_int_equal(create_with(vmm, 0, VGF_RING_GLOBAL, 1, fd), -EBADF);
}

TEST_VMM(at_max_fds_create_leaves_the_descriptor, .options.limits.max_fds = 2)
{
	int first = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	int fd = make_fence(false);

	/* The last one is for the oldest of a timeline. */
	assert_int_equal(create_with(vmm, 0, VGF_RING_GLOBAL, 2, fd), -EMFILE);
	assert_true(is_open(fd));
	signal_fence(first);
	vmm_dispatch(vmm);
	assert_int_equal(create_with(vmm, 0, VGF_RING_GLOBAL, 2, fd), 0);
	close(first);
}

TEST_VMM(at_max_context_fds_create_leaves_the_descriptor, .options.limits.max_context_fds = 2)
{
	int first, fd = make_fence(false);

	driver_open(driver, vmm, 1);
	first = create_fence_fd(vmm, 1, 0, 1);
	assert_int_equal(create_with(vmm, 1, 0, 2, fd), -EMFILE);
	assert_true(is_open(fd));
	assert_int_equal(create_with(vmm, 0, VGF_RING_GLOBAL, 2, fd), 0);
	close(first);
}

TEST_VMM(at_max_fences_create_leaves_the_descriptor, .options.limits.max_fences = 1)
{
	int fd = make_fence(false);

	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(create_with(vmm, 0, VGF_RING_GLOBAL, 2, fd), -ENOSPC);
	assert_true(is_open(fd));
	close(fd);
}

TEST_VMM(without_memory_create_leaves_the_descriptor)
{
	int ret, fd = make_fence(false);

	alloc_fail(1);
	ret = create_with(vmm, 0, VGF_RING_GLOBAL, 1, fd);
	alloc_reset();
	assert_int_equal(ret, -ENOMEM);
	assert_true(is_open(fd));
	close(fd);
}

static void create_during_reset(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	int fd = make_fence(false);

	assert_int_equal(create_with(vmm, 0, VGF_RING_GLOBAL, 2, fd), -ECANCELED);
	assert_true(is_open(fd));
	close(fd);
}

TEST_VMM(during_a_reset_create_leaves_the_descriptor)
{
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	vmm->on_retire = create_during_reset;
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_int_equal(vmm->num_retired, 1);
}

/* ---- vgf_fence_publish_take --------------------------------------------------------------- */

TEST_VMM(publish_owns_the_descriptor_until_the_fence_is_gone)
{
	int fd = make_fence(true);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(publish_with(vmm, 0, 1, fd), 0);
	assert_true(is_open(fd));
	vmm_dispatch(vmm);
	assert_int_equal(vmm->num_retired, 1);
	assert_false(is_open(fd));
}

TEST_VMM(what_no_fence_takes_is_left)
{
	int fd = make_fence(false), file = memfd_create("a file", MFD_CLOEXEC);

	driver_open(driver, vmm, 1);
	assert_int_equal(publish_with(vmm, 0, 1, fd), -ENOENT);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(publish_with(vmm, 0, 1, file), -EPERM);
	assert_int_equal(publish_with(vmm, 0, 1, VGF_FENCE_BY_CALL), -EBADF);
	assert_int_equal(publish_with(vmm, 0, 1, make_fence(false)), 0);
	assert_int_equal(publish_with(vmm, 0, 1, fd), -EEXIST);
	assert_int_equal(signal_call(vmm, 1, 0, 2, 0), 0);
	assert_int_equal(publish_with(vmm, 0, 2, fd), -EALREADY);
	assert_true(is_open(fd) && is_open(file));
	close(fd);
	close(file);
}

TEST_VMM(at_max_fds_publish_leaves_the_descriptor, .options.limits.max_fds = 2)
{
	int fd = make_fence(false);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(publish_with(vmm, 0, 1, make_fence(false)), 0);
	assert_int_equal(publish_with(vmm, 0, 2, fd), -EMFILE);
	assert_true(is_open(fd));
	close(fd);
	assert_int_equal(signal_call(vmm, 1, 0, 2, 0), 0);
}

TEST_VMM(at_max_context_fds_publish_leaves_the_descriptor, .options.limits.max_context_fds = 2)
{
	int fd = make_fence(false);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(publish_with(vmm, 0, 1, make_fence(false)), 0);
	assert_int_equal(publish_with(vmm, 0, 2, fd), -EMFILE);
	assert_true(is_open(fd));
	close(fd);
}

/* ---- -1 has signalled --------------------------------------------------------------------- */

TEST_VMM(a_fence_created_with_minus_one_has_signalled)
{
	assert_int_equal(create_with(vmm, 0, VGF_RING_GLOBAL, 1, -1), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 0, VGF_RING_GLOBAL, 1, 0);
}

TEST_VMM(a_driver_that_answers_minus_one_is_done, .answer = FAKE_GIVEN)
{
	driver->given_fd = -1;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 1, 0);
}

TEST_VMM(a_driver_that_answers_less_than_the_constants_has_failed, .answer = FAKE_GIVEN)
{
	driver->given_fd = -3;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), -EINVAL);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 1, -EINVAL);
}

static int submit_and_write_nothing(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	return 0;
}

TEST_VMM(a_driver_that_writes_nothing_signals_by_call)
{
	driver->driver.submit = submit_and_write_nothing;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 1, -EIO), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 1, -EIO);
}

TEST_VMM(publishing_minus_one_signals)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(publish_with(vmm, 0, 1, -1), -ENOENT);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(publish_with(vmm, 0, 1, -1), 0);
	assert_int_equal(publish_with(vmm, 0, 1, -1), -EALREADY);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 1, 0);
}

TEST_VMM(publishing_minus_one_does_not_signal_a_fence_with_a_descriptor, .answer = FAKE_FD)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(publish_with(vmm, 0, 1, -1), -EEXIST);
	assert_int_equal(vmm_dispatch(vmm), 0);
	driver_signal(driver, 1);
	assert_int_equal(vmm_dispatch(vmm), 1);
}

static int submit_fds(struct fake_vmm *vmm, uint64_t fence_id, const int *fds, uint32_t count)
{
	const struct vgf_submission submission = {
		.fence = make_name(1, 0, fence_id),
		.flags = VGF_FENCED,
		.in_fence_fds = fds,
		.num_in_fence_fds = count,
	};

	return vgf_submit(vmm->device, &submission, NULL);
}

TEST_VMM(an_in_fence_of_minus_one_is_not_waited_for, .answer = FAKE_DONE)
{
	const int fds[] = { -1, -1 };

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fds(vmm, 1, fds, 1), 0);
	assert_int_equal(submit_fds(vmm, 2, fds, 2), 0);
	assert_int_equal(driver_job(driver, 1)->wait, VGF_WAIT_NONE);
}

TEST_VMM(in_fences_beside_minus_one_are_waited_for, .answer = FAKE_DONE)
{
	const int fds[] = { -1, make_fence(false), -1 };
	const int bad[] = { -1, -2 };

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fds(vmm, 1, fds, 3), 1);
	assert_int_equal(vmm_dispatch(vmm), 0);
	signal_fence(fds[1]);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(submit_fds(vmm, 2, bad, 2), -EBADF);
	close(fds[1]);
}

TEST_VMM(a_driver_does_not_see_minus_one, .answer = FAKE_DONE, .wait = VGF_WAIT_DRIVER)
{
	const int fds[] = { -1, make_fence(false) };

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_fds(vmm, 1, fds, 2), 0);
	assert_int_equal(driver_job(driver, 1)->num_in_fences, 1);
	close(fds[1]);
}

/* ---- vgf_fence_export --------------------------------------------------------------------- */

/* Exports it for a context, and checks what is written after an error. Returns the error, 0 for a
 * descriptor, 1 for -1. */
static int export_for(struct fake_vmm *vmm, uint32_t ctx_id, uint64_t fence_id)
{
	int fence_fd = 12345;
	int ret = vgf_fence_export(vmm->device, ctx_id, fence_id, &fence_fd);

	if (ret == 0 && fence_fd >= 0) {
		assert_true(fcntl(fence_fd, F_GETFD) & FD_CLOEXEC);
		close(fence_fd);
		return 0;
	}
	assert_int_equal(fence_fd, -1);
	return ret == 0 ? 1 : ret;
}

static void submit_as(struct fake_vmm *vmm, uint32_t ctx_id, uint64_t fence_id, uint32_t flags)
{
	assert_int_equal(
		submit_flags(vmm, ctx_id, 0, fence_id, VGF_FENCED | flags, NULL, 0, NULL), 0);
}

TEST_VMM(a_context_exports_what_it_may_name, .answer = FAKE_FD)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	submit_as(vmm, 1, 1, 0);
	submit_as(vmm, 1, 2, VGF_SHAREABLE);
	assert_int_equal(export_for(vmm, 1, 1), 0);
	assert_int_equal(export_for(vmm, 1, 2), 0);
	assert_int_equal(export_for(vmm, 2, 1), -EPERM);
	assert_int_equal(export_for(vmm, 2, 2), 0);
	assert_int_equal(export_for(vmm, VGF_HOST, 1), 0);
	assert_int_equal(export_for(vmm, VGF_HOST, 2), 0);
	assert_int_equal(export_for(vmm, 3, 2), -ENOENT);
	assert_int_equal(export_for(vmm, 1, 3), -ENOENT);
	assert_int_equal(export_for(vmm, VGF_HOST, 3), -ENOENT);
}

TEST_VMM(a_later_context_of_the_same_id_is_a_foreign_one, .answer = FAKE_FD)
{
	driver_open(driver, vmm, 1);
	submit_as(vmm, 1, 1, 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	assert_int_equal(export_for(vmm, 1, 1), -ENOENT);
	driver_open(driver, vmm, 1);
	assert_int_equal(export_for(vmm, 1, 1), -EPERM);
	assert_int_equal(export_for(vmm, VGF_HOST, 1), 0);
}

TEST_VMM(what_has_signalled_is_exported_as_minus_one)
{
	driver_open(driver, vmm, 1);
	submit_as(vmm, 1, 1, 0);
	submit_as(vmm, 1, 2, 0);
	assert_int_equal(export_for(vmm, 1, 1), -EAGAIN);
	/* Neither retired nor the oldest. */
	assert_int_equal(signal_call(vmm, 1, 0, 2, 0), 0);
	assert_int_equal(export_for(vmm, 1, 2), 1);
	assert_int_equal(signal_call(vmm, 1, 0, 1, -EIO), 0);
	assert_int_equal(export_for(vmm, 1, 1), 1);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_int_equal(export_for(vmm, VGF_HOST, 1), 1);
	assert_int_equal(export_for(vmm, 1, 2), 1);
}

TEST_VMM(an_ambiguous_id_is_not_exported)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(create_fence(vmm, 1, 0, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(create_fence(vmm, 1, 1, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(export_for(vmm, VGF_HOST, 1), -ENOTUNIQ);
}

TEST_VMM(without_a_descriptor_to_spare_nothing_is_exported, .answer = FAKE_FD)
{
	int ret, fence_fd = 12345;

	driver_open(driver, vmm, 1);
	submit_as(vmm, 1, 1, 0);
	limit_fds(0);
	ret = vgf_fence_export(vmm->device, VGF_HOST, 1, &fence_fd);
	unlimit_fds();
	assert_int_equal(ret, -EMFILE);
	assert_int_equal(fence_fd, -1);
}
