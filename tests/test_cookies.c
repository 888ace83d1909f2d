/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* A fence brings back the cookie that it was made with, whatever becomes of it. */

#include "fake.h"

#include <errno.h>

#define MAX_ID 64

/* The cookie of a fence with this ID is the address of its mark. */
static char marks[MAX_ID];

static void *cookie_of(uint64_t fence_id)
{
	return &marks[fence_id];
}

static int submit_marked(
	struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, uint64_t in_fence)
{
	const struct vgf_submission submission = {
		.fence = make_name(ctx_id, ring, fence_id),
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.in_fences = &in_fence,
		.num_in_fences = in_fence > 0,
		.cookie = cookie_of(fence_id),
	};

	return vgf_submit(vmm->device, &submission, NULL);
}

static void create_marked(
	struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, int fence_fd)
{
	const struct vgf_fence_name name = make_name(ctx_id, ring, fence_id);

	assert_int_equal(vgf_fence_create_take(
				 vmm->device, &name, VGF_SHAREABLE, cookie_of(fence_id), fence_fd),
		0);
}

/* So many have retired, each with its own cookie. */
static void assert_cookies(const struct fake_vmm *vmm, unsigned int count)
{
	assert_int_equal(vmm->num_retired, count);
	for (unsigned int i = 0; i < count; i++) {
		assert_ptr_equal(vmm->retired[i].cookie, cookie_of(vmm->retired[i].name.fence_id));
	}
}

TEST_VMM(submissions_have_their_cookies_back)
{
	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 12; id++) {
		assert_int_equal(submit_marked(vmm, 1, (int32_t)(id % 4) - 1, id, 0), 0);
	}
	for (uint64_t id = 12; id >= 1; id--) {
		assert_int_equal(signal_call(vmm, 1, (int32_t)(id % 4) - 1, id, 0), 0);
	}
	vmm_dispatch(vmm);
	assert_cookies(vmm, 12);
}

TEST_VMM(held_work_has_its_cookie_back, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	create_marked(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL);
	assert_int_equal(submit_marked(vmm, 1, 0, 2, 1), 1);
	assert_int_equal(submit_marked(vmm, 1, 1, 3, 2), 1);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_cookies(vmm, 3);
}

TEST_VMM(created_fences_have_their_cookies_back)
{
	int fence_fd = make_fence(true);

	create_marked(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_DONE);
	create_marked(vmm, 0, VGF_RING_GLOBAL, 2, fence_fd);
	create_marked(vmm, 0, VGF_RING_GLOBAL, 3, VGF_FENCE_BY_CALL);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 3, -EIO), 0);
	vmm_dispatch(vmm);
	assert_cookies(vmm, 3);
}

TEST_VMM(a_refused_request_has_its_cookie_back)
{
	struct vgf_fence_name name = make_name(1, 5, 9);

	driver_open(driver, vmm, 1);
	assert_int_equal(
		vgf_fence_refuse(vmm->device, &name, 0, cookie_of(name.fence_id), -ENODEV), 0);
	vmm_dispatch(vmm);
	assert_retired(vmm, 0, 1, 5, 9, -ENODEV);
	assert_cookies(vmm, 1);
}

TEST_VMM(refused_submissions_have_their_cookies_back, .options.limits.max_held_size = 1)
{
	driver_open(driver, vmm, 1);
	create_marked(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL);
	assert_int_equal(submit_marked(vmm, 1, 0, 2, 40), -ENOENT);
	assert_int_equal(submit_marked(vmm, 1, 0, 3, 1), -ENOSPC);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_cookies(vmm, 3);
}

TEST_VMM(failed_work_has_its_cookie_back, .answer = FAKE_ERROR)
{
	driver->error = -EIO;
	driver->error_always = true;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_marked(vmm, 1, 0, 1, 0), -EIO);
	vmm_dispatch(vmm);
	assert_cookies(vmm, 1);
}

TEST_VMM(cancelled_fences_have_their_cookies_back)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_marked(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(submit_marked(vmm, 1, 1, 2, 1), 1);
	assert_int_equal(submit_marked(vmm, 1, 2, 3, 1), 1);
	assert_int_equal(submit_marked(vmm, 1, 3, 4, 1), 1);
	assert_int_equal(cancel_fence(vmm, 1, 1, 2, -EIO), 0);
	assert_int_equal(vgf_timeline_cancel(vmm->device, 1, 2, -EIO), 1);
	assert_int_equal(
		vgf_context_cancel(vmm->device, 1, VGF_CANCEL_OPEN | VGF_CANCEL_RUNNING, -EIO), 0);
	vmm_dispatch(vmm);
	assert_cookies(vmm, 4);
}

TEST_VMM(a_reset_gives_cookies_back_and_an_id_gets_a_new_one)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_marked(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(submit_marked(vmm, 1, 1, 2, 1), 1);
	create_marked(vmm, 0, VGF_RING_GLOBAL, 3, VGF_FENCE_BY_CALL);
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_cookies(vmm, 3);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_DONE), 0);
	vmm_dispatch(vmm);
	assert_int_equal(vmm->retired[3].name.fence_id, 1);
	assert_null(vmm->retired[3].cookie);
}

TEST_VMM(destroying_the_device_gives_cookies_back)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_marked(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(submit_marked(vmm, 1, 1, 2, 1), 1);
	vmm_destroy_device(vmm);
	assert_cookies(vmm, 2);
}

TEST_VMM(one_id_on_two_timelines_has_two_cookies)
{
	struct vgf_fence_name first = make_name(1, 3, 7), second = make_name(1, 4, 7);

	driver_open(driver, vmm, 1);
	assert_int_equal(
		vgf_fence_create_take(vmm->device, &first, 0, cookie_of(1), VGF_FENCE_BY_CALL), 0);
	assert_int_equal(
		vgf_fence_create_take(vmm->device, &second, 0, cookie_of(2), VGF_FENCE_BY_CALL), 0);
	assert_int_equal(vgf_fence_signal(vmm->device, &second, 0), 0);
	vmm_dispatch(vmm);
	assert_int_equal(vgf_fence_signal(vmm->device, &first, 0), 0);
	vmm_dispatch(vmm);
	assert_ptr_equal(vmm->retired[0].cookie, cookie_of(2));
	assert_ptr_equal(vmm->retired[1].cookie, cookie_of(1));
}

/* ---- What has no callback ----------------------------------------------------------------- */

TEST_VMM(of_merged_fences_the_cookie_of_the_newest_comes_back)
{
	for (uint64_t id = 1; id <= 3; id++) {
		struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, id);
		assert_int_equal(vgf_fence_create_take(vmm->device, &name, VGF_MERGEABLE,
					 cookie_of(id), VGF_FENCE_DONE),
			0);
	}
	vmm_dispatch(vmm);
	assert_int_equal(vmm->retired[0].name.fence_id, 3);
	assert_cookies(vmm, 1);
}
