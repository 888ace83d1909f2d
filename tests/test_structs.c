/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Structs that grow carry their size; the others have reserved members. */

#include "fake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A struct of a later version: `more` is what this one does not know. */
#define LATER(type)                                                                                \
	struct {                                                                                   \
		struct type known;                                                                 \
		unsigned char more[40];                                                            \
	}

static void note_nothing(void *cookie, const struct vgf_retired *retired)
{
}

static const struct vgf_callbacks callbacks = {
	.size = sizeof(struct vgf_callbacks),
	.retire = note_nothing,
};

/* Makes a device and destroys it again. */
static int try_device(const struct vgf_callbacks *with, const struct vgf_options *options)
{
	struct vgf_device *device;
	int ret = vgf_device_create(with, NULL, options, &device);

	assert_int_equal(device != NULL, ret == 0);
	vgf_device_destroy(device);
	return ret;
}

TEST(callbacks_have_a_size)
{
	LATER(vgf_callbacks) later = { .known = callbacks };

	assert_int_equal(try_device(&later.known, NULL), 0);
	later.known.size = 0;
	assert_int_equal(try_device(&later.known, NULL), -EINVAL);
	later.known.size = offsetof(struct vgf_callbacks, signal_enter) - 1;
	assert_int_equal(try_device(&later.known, NULL), -EINVAL);
	later.known.size = offsetof(struct vgf_callbacks, signal_enter);
	assert_int_equal(try_device(&later.known, NULL), 0);
	later.known.size = offsetof(struct vgf_callbacks, signal_enter) + 1;
	assert_int_equal(try_device(&later.known, NULL), -EINVAL);
	later.known.size = sizeof(later);
	assert_int_equal(try_device(&later.known, NULL), 0);
	later.more[0] = 1;
	assert_int_equal(try_device(&later.known, NULL), -E2BIG);
	later.more[0] = 0;
	later.more[sizeof(later.more) - 1] = 1;
	assert_int_equal(try_device(&later.known, NULL), -E2BIG);
	later.known.size = sizeof(struct vgf_callbacks);
	assert_int_equal(try_device(&later.known, NULL), 0);
}

TEST(options_have_a_size)
{
	LATER(vgf_options) later = { .known.size = sizeof(later) };

	assert_int_equal(try_device(&callbacks, &later.known), 0);
	later.more[sizeof(later.more) - 1] = 1;
	assert_int_equal(try_device(&callbacks, &later.known), -E2BIG);
	later.known.size = sizeof(struct vgf_options);
	assert_int_equal(try_device(&callbacks, &later.known), 0);
	later.known.size = sizeof(struct vgf_options) + 1;
	assert_int_equal(try_device(&callbacks, &later.known), -EINVAL);
	later.known.size = offsetof(struct vgf_options, ignore_bad_in_fences);
	assert_int_equal(try_device(&callbacks, &later.known), -EINVAL);
	later.known.size = 0;
	assert_int_equal(try_device(&callbacks, &later.known), -EINVAL);
}

TEST(limits_have_reserved_members)
{
	struct vgf_options options = { .size = sizeof(options) };
	const size_t count = sizeof(options.limits.reserved) / sizeof(options.limits.reserved[0]);

	for (size_t i = 0; i < count; i++) {
		options.limits.reserved[i] = 1;
		assert_int_equal(try_device(&callbacks, &options), -EINVAL);
		options.limits.reserved[i] = 0;
	}
	assert_int_equal(try_device(&callbacks, &options), 0);
}

TEST_VMM(drivers_have_a_size)
{
	LATER(vgf_driver) later = { .known = driver->driver };

	later.known.size = 0;
	assert_int_equal(vgf_context_create(vmm->device, 1, &later.known, driver), -EINVAL);
	later.known.size = offsetof(struct vgf_driver, family) - 1;
	assert_int_equal(vgf_context_create(vmm->device, 1, &later.known, driver), -EINVAL);
	later.known.size = sizeof(struct vgf_driver) - 1;
	assert_int_equal(vgf_context_create(vmm->device, 1, &later.known, driver), -EINVAL);
	/* From before there were families. */
	later.known.size = offsetof(struct vgf_driver, family);
	assert_int_equal(vgf_context_create(vmm->device, 3, &later.known, driver), 0);
	later.known.size = sizeof(later);
	later.more[5] = 1;
	assert_int_equal(vgf_context_create(vmm->device, 1, &later.known, driver), -E2BIG);
	assert_int_equal(get_stats(vmm).contexts, 1);
	later.more[5] = 0;
	assert_int_equal(vgf_context_create(vmm->device, 1, &later.known, driver), 0);
	assert_int_equal(vgf_context_create(vmm->device, 2, NULL, driver), -EINVAL);
}

TEST_VMM(statistics_are_filled_in_as_far_as_they_go, .answer = FAKE_DONE)
{
	LATER(vgf_stats) later;

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	memset(&later, 0xee, sizeof(later));
	later.known.size = sizeof(struct vgf_stats) - 1;
	assert_int_equal(vgf_device_get_stats(vmm->device, &later.known), -EINVAL);
	later.known.size = sizeof(struct vgf_stats) + 1;
	assert_int_equal(vgf_device_get_stats(vmm->device, &later.known), -EINVAL);
	later.known.size = sizeof(struct vgf_stats);
	assert_int_equal(vgf_device_get_stats(vmm->device, &later.known), 0);
	assert_int_equal(later.known.submitted, 1);
	assert_int_equal(later.known.size, sizeof(struct vgf_stats));
	assert_int_equal(later.more[0], 0xee);
	/* What this version does not count is 0. */
	later.known.size = sizeof(later);
	assert_int_equal(vgf_device_get_stats(vmm->device, &later.known), 0);
	assert_int_equal(later.known.size, sizeof(later));
	assert_int_equal(later.known.contexts, 1);
	for (size_t i = 0; i < sizeof(later.more); i++) {
		assert_int_equal(later.more[i], 0);
	}
}

TEST_VMM(a_submission_with_reserved_members_is_not_looked_at, .answer = FAKE_DONE)
{
	struct vgf_submission submission = { .fence = make_name(1, 0, 1), .flags = VGF_FENCED };
	const size_t count = sizeof(submission.reserved) / sizeof(submission.reserved[0]);

	driver_open(driver, vmm, 1);
	for (size_t i = 0; i < count; i++) {
		bool will_retire = true;
		submission.reserved[i] = 1;
		assert_int_equal(vgf_submit(vmm->device, &submission, &will_retire), -EINVAL);
		assert_false(will_retire);
		submission.reserved[i] = 0;
	}
	assert_int_equal(vmm_dispatch(vmm), 0);
	/* Its ID was not used up. */
	assert_int_equal(vgf_submit(vmm->device, &submission, NULL), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
}

static void count_call(void *arg, int status)
{
	++*(unsigned int *)arg;
}

TEST_VMM(a_deferred_call_with_reserved_members_is_refused)
{
	unsigned int calls = 0;
	struct vgf_deferred_call call = { .ctx_id = 1, .fn = count_call, .arg = &calls };
	const size_t count = sizeof(call.reserved) / sizeof(call.reserved[0]);

	driver_open(driver, vmm, 1);
	for (size_t i = 0; i < count; i++) {
		call.reserved[i] = 1;
		assert_int_equal(vgf_context_defer(vmm->device, &call), -EINVAL);
		call.reserved[i] = 0;
	}
	assert_int_equal(calls, 0);
	assert_int_equal(vgf_context_defer(vmm->device, &call), 0);
	assert_int_equal(calls, 1);
}

TEST_VMM(what_is_listed_and_waits_for_nothing_has_zeros)
{
	struct vgf_pending pending;

	memset(&pending, 0xee, sizeof(pending));
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(vgf_device_list_pending(vmm->device, &pending, 1), 1);
	assert_int_equal(pending.awaited.fence_id, 0);
}
