/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Promise 10: a guest exhausts its limits, not the host; past a limit nothing is half done. */

#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alloc.h"

/* Fences that the test signals by call. */
static void create_by_call(struct fake_vmm *vmm, uint64_t fence_id)
{
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, fence_id, VGF_FENCE_BY_CALL), 0);
}

static int signal_global(struct fake_vmm *vmm, uint64_t fence_id)
{
	return signal_call(vmm, 0, VGF_RING_GLOBAL, fence_id, 0);
}

/* All that is in use now; what was refused is counted, and nothing else. */
static void assert_same_counts(struct fake_vmm *vmm, const struct vgf_stats *before)
{
	struct vgf_stats now = get_stats(vmm);

	now.refused = before->refused;
	assert_memory_equal(&now, before, sizeof(now));
}

static int try_submit(struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id,
	uint64_t in_fence, bool *will_retire)
{
	return submit_flags(
		vmm, ctx_id, ring, fence_id, VGF_FENCED, &in_fence, in_fence != 0, will_retire);
}

/* ---- Contexts ----------------------------------------------------------------------------- */

TEST_VMM(contexts_are_limited, .options.limits.max_contexts = 3)
{
	struct vgf_stats before = { .size = sizeof(before) };

	for (uint32_t ctx_id = 1; ctx_id <= 3; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
	}
	before = get_stats(vmm);
	assert_int_equal(vgf_context_create(vmm->device, 4, &driver->driver, driver), -ENOSPC);
	assert_same_counts(vmm, &before);
	assert_int_equal(vgf_context_destroy(vmm->device, 2), 0);
	driver_open(driver, vmm, 4);
	vmm_destroy_device(vmm);
	assert_int_equal(driver->num_destroyed, 4);
}

/* Otherwise a guest could have as many as it likes, each with a bit of held work. */
TEST_VMM(destroyed_contexts_count_until_their_work_has_run, .answer = FAKE_DONE,
	.options.limits.max_contexts = 2)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 1);
	assert_int_equal(vgf_context_create(vmm->device, 3, &driver->driver, driver), -ENOSPC);
	assert_int_equal(vgf_context_create(vmm->device, 1, &driver->driver, driver), -ENOSPC);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	driver_open(driver, vmm, 3);
}

/* Or a guest would have as many as it likes, each with a GPU job that never ends. */
TEST_VMM(destroyed_contexts_count_until_their_fences_are_gone, .options.limits.max_contexts = 2)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 1, 2, NO_IN_FENCES), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	assert_int_equal(driver->num_destroyed, 1);
	assert_int_equal(get_stats(vmm).contexts, 2);
	assert_int_equal(vgf_context_create(vmm->device, 3, &driver->driver, driver), -ENOSPC);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(vgf_context_create(vmm->device, 3, &driver->driver, driver), -ENOSPC);
	assert_int_equal(signal_call(vmm, 1, 1, 2, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(get_stats(vmm).contexts, 1);
	driver_open(driver, vmm, 3);
}

TEST_VMM(contexts_of_one_id_count_each, .options.limits.max_contexts = 3)
{
	for (uint64_t id = 1; id <= 3; id++) {
		driver_open(driver, vmm, 7);
		assert_int_equal(submit(vmm, 7, 0, id, NO_IN_FENCES), 0);
		assert_int_equal(vgf_context_destroy(vmm->device, 7), 0);
	}
	assert_int_equal(get_stats(vmm).contexts, 3);
	assert_int_equal(vgf_context_create(vmm->device, 7, &driver->driver, driver), -ENOSPC);
	assert_int_equal(signal_call(vmm, 7, 0, 1, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	driver_open(driver, vmm, 7);
}

/* ---- Fences ------------------------------------------------------------------------------- */

TEST_VMM(pending_fences_of_a_device_are_limited, .options.limits.max_fences = 3)
{
	struct vgf_fence_name name = make_name(1, 0, 9);
	struct vgf_stats before = { .size = sizeof(before) };
	bool will_retire = true;

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 3, NO_IN_FENCES), 0);
	before = get_stats(vmm);
	assert_int_equal(try_submit(vmm, 1, 0, 9, 0, &will_retire), -ENOSPC);
	assert_false(will_retire);
	assert_int_equal(create_fence(vmm, 1, 0, 9, VGF_FENCE_DONE), -ENOSPC);
	assert_int_equal(create_fence(vmm, 1, 0, 9, make_fence(true)), -ENOSPC);
	assert_int_equal(vgf_fence_refuse(vmm->device, &name, 0, NULL, -EBADMSG), -ENOSPC);
	assert_same_counts(vmm, &before);
	assert_int_equal(vmm_dispatch(vmm), 0);
	/* Unfenced work needs no fence. */
	assert_int_equal(submit_flags(vmm, 1, 0, 0, 0, NULL, 0, &will_retire), 0);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(submit(vmm, 1, 0, 9, NO_IN_FENCES), 0);
}

TEST_VMM(pending_fences_of_a_context_are_limited, .options.limits.max_context_fences = 2)
{
	struct vgf_stats before = { .size = sizeof(before) };
	bool will_retire = true;

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 2, NO_IN_FENCES), 0);
	before = get_stats(vmm);
	assert_int_equal(try_submit(vmm, 1, 1, 3, 0, &will_retire), -ENOSPC);
	assert_false(will_retire);
	assert_int_equal(try_submit(vmm, 1, VGF_RING_GLOBAL, 3, 0, &will_retire), -ENOSPC);
	assert_same_counts(vmm, &before);
	/* Others are not affected. */
	assert_int_equal(submit(vmm, 2, 0, 3, NO_IN_FENCES), 0);
	create_by_call(vmm, 4);
	create_by_call(vmm, 5);
	create_by_call(vmm, 6);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_int_equal(submit(vmm, 1, 0, 7, NO_IN_FENCES), 0);
}

/* A look-up passes by no more than these. */
TEST_VMM(one_id_is_pending_on_64_timelines_at_most)
{
	struct vgf_stats before = { .size = sizeof(before) };
	bool will_retire = true;

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	for (int32_t ring = 0; ring < 64; ring++) {
		assert_int_equal(submit(vmm, 1, ring, 5, NO_IN_FENCES), 0);
	}
	before = get_stats(vmm);
	assert_int_equal(try_submit(vmm, 2, 0, 5, 0, &will_retire), -ENOSPC);
	assert_false(will_retire);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 5, VGF_FENCE_DONE), -ENOSPC);
	assert_same_counts(vmm, &before);
	assert_int_equal(submit(vmm, 2, 0, 6, NO_IN_FENCES), 0);
	assert_int_equal(signal_call(vmm, 1, 7, 5, 0), 0);
	vmm_dispatch(vmm);
	create_by_call(vmm, 5);
}

static void ignore_deferred(void *arg, int status)
{
	unsigned int *calls = arg;

	(*calls)++;
}

TEST_VMM(deferred_calls_are_limited, .answer = FAKE_DONE, .options.limits.max_held = 16)
{
	unsigned int calls = 0;

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	/* Of 16 a context has 4, and its work has one. */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(defer_call(vmm->device, 1, ignore_deferred, &calls), 1);
	}
	assert_int_equal(defer_call(vmm->device, 1, ignore_deferred, &calls), -ENOSPC);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_int_equal(calls, 3);
	assert_int_equal(defer_call(vmm->device, 1, ignore_deferred, &calls), 0);
	vmm_destroy_device(vmm);
	assert_int_equal(calls, 4);
}

/* ---- One submission ----------------------------------------------------------------------- */

TEST_VMM(in_fences_of_a_submission_are_limited, .answer = FAKE_DONE,
	.options.limits.max_in_fences = 2)
{
	const uint64_t in_fences[] = { 1, 1, 1 };
	bool will_retire = false;

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit_flags(vmm, 1, 0, 2, VGF_FENCED, in_fences, 2, &will_retire), 1);
	assert_int_equal(
		submit_flags(vmm, 1, 0, 3, VGF_FENCED, in_fences, 3, &will_retire), -E2BIG);
	assert_true(will_retire);
	assert_int_equal(get_stats(vmm).held, 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 3);
	assert_retired(vmm, 2, 1, 0, 3, -E2BIG);
}

TEST_VMM(a_submission_has_256_in_fences_at_most_unless_told_otherwise, .answer = FAKE_DONE)
{
	uint64_t in_fences[257];
	bool will_retire;

	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 257; id++) {
		create_by_call(vmm, id);
		in_fences[id - 1] = id;
	}
	assert_int_equal(submit_flags(vmm, 1, 0, 300, VGF_FENCED, in_fences, 256, &will_retire), 1);
	assert_int_equal(
		submit_flags(vmm, 1, 0, 301, VGF_FENCED, in_fences, 257, &will_retire), -E2BIG);
	/* Nothing is sized by a count that was not checked. */
	assert_int_equal(
		submit_flags(vmm, 1, 0, 302, VGF_FENCED, NULL, UINT32_MAX, &will_retire), -E2BIG);
}

static int submit_size(struct fake_vmm *vmm, uint64_t fence_id, uint64_t in_fence, size_t size)
{
	void *command = calloc(1, size + 1);
	struct vgf_submission submission = {
		.fence = make_name(1, 0, fence_id),
		.flags = VGF_FENCED,
		.in_fences = &in_fence,
		.num_in_fences = in_fence != 0,
		.command = command,
		.size = size,
	};
	int ret = vgf_submit(vmm->device, &submission, NULL);

	free(command);
	return ret;
}

TEST_VMM(the_size_of_a_command_stream_is_limited, .answer = FAKE_DONE,
	.options.limits.max_command_size = 100)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_size(vmm, 1, 0, 100), 0);
	assert_int_equal(submit_size(vmm, 2, 0, 101), -E2BIG);
	assert_jobs(driver, ID(1), ID(0));
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_retired(vmm, 1, 1, 0, 2, -E2BIG);
}

TEST_VMM(a_command_stream_has_4_mib_at_most_unless_told_otherwise, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_size(vmm, 1, 0, (size_t)4 << 20), 0);
	assert_int_equal(submit_size(vmm, 2, 0, ((size_t)4 << 20) + 1), -E2BIG);
}

TEST_VMM(a_submission_without_commands_is_fine, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit_size(vmm, 2, 1, 0), 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_int_equal(driver_job(driver, 2)->size, 0);
}

/* ---- Held work ---------------------------------------------------------------------------- */

/* What one held submission of submit() with one in-fence weighs. */
static size_t held_weight(void)
{
	struct fake_vmm *vmm = vmm_create(NULL);
	struct fake_driver *driver = driver_create(vmm, VGF_WAIT_HOST, FAKE_DONE);
	size_t weight;

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	weight = get_stats(vmm).held_size;
	vmm_destroy(vmm);
	return weight;
}

TEST_VMM(a_context_holds_back_a_quarter_at_most, .answer = FAKE_DONE,
	.options.limits.max_held_size = 12 * held_weight())
{
	struct vgf_stats before = { .size = sizeof(before) };
	const uint64_t in_fence = 1;
	bool will_retire = true;

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	create_by_call(vmm, 1);
	for (uint64_t id = 2; id <= 4; id++) {
		assert_int_equal(submit(vmm, 1, 0, id, ID(1), NO_IN_FENCES), 1);
	}
	before = get_stats(vmm);
	assert_int_equal(submit_flags(vmm, 1, 0, 0, 0, &in_fence, 1, &will_retire), -ENOSPC);
	assert_same_counts(vmm, &before);
	assert_int_equal(submit(vmm, 2, 0, 5, ID(1), NO_IN_FENCES), 1);
	/* A refused one keeps its place. */
	assert_int_equal(try_submit(vmm, 1, 0, 6, 1, &will_retire), -ENOSPC);
	assert_true(will_retire);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 6);
	assert_int_equal(driver->num_jobs, 4);
	assert_false(driver_has(driver, 6));
	assert_idle(vmm);
}

TEST_VMM(as_much_work_is_held_back_as_may_be, .answer = FAKE_DONE, .options.limits.max_held = 8)
{
	const uint64_t in_fence = 1;
	bool will_retire;

	create_by_call(vmm, 1);
	for (uint32_t ctx_id = 1; ctx_id <= 4; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
		assert_int_equal(submit(vmm, ctx_id, 0, 10 * ctx_id, ID(1), NO_IN_FENCES), 1);
		assert_int_equal(submit(vmm, ctx_id, 0, 10 * ctx_id + 1, ID(1), NO_IN_FENCES), 1);
		/* A quarter. */
		assert_int_equal(
			submit_flags(vmm, ctx_id, 0, 0, 0, &in_fence, 1, &will_retire), -ENOSPC);
	}
	driver_open(driver, vmm, 5);
	assert_int_equal(get_stats(vmm).held, 8);
	assert_int_equal(submit_flags(vmm, 5, 0, 0, 0, &in_fence, 1, &will_retire), -ENOSPC);
	/* What need not wait is not held back. */
	assert_int_equal(submit(vmm, 5, 0, 90, NO_IN_FENCES), 0);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 10);
	assert_int_equal(get_stats(vmm).held, 0);
	assert_int_equal(get_stats(vmm).peak_held, 8);
	assert_idle(vmm);
}

TEST_VMM(bytes_of_deferred_calls_are_limited, .answer = FAKE_DONE,
	.options.limits.max_held_size = 4 << 20)
{
	unsigned int calls = 0;
	struct vgf_deferred_call call = {
		.ctx_id = 1,
		.ring = VGF_EVERY_RING,
		.kept_size = (1 << 20) - 4096,
		.fn = ignore_deferred,
		.arg = &calls,
	};

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(vgf_context_defer(vmm->device, &call), 1);
	call.kept_size = 4096;
	assert_int_equal(vgf_context_defer(vmm->device, &call), -ENOSPC);
	call.kept_size = SIZE_MAX;
	assert_int_equal(vgf_context_defer(vmm->device, &call), -ENOSPC);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_int_equal(calls, 1);
	assert_int_equal(get_stats(vmm).held_size, 0);
}

/* A quarter would be five. */
TEST_VMM(held_work_of_a_device_is_limited, .answer = FAKE_DONE,
	.options.limits.max_held_size = 20 * held_weight())
{
	const size_t weight = held_weight();
	uint64_t id = 1;
	bool will_retire;

	create_by_call(vmm, id);
	for (uint32_t ctx_id = 1; ctx_id <= 6; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
	}
	for (uint32_t ctx_id = 1; ctx_id <= 5; ctx_id++) {
		for (int i = 0; i < 4; i++) {
			assert_int_equal(submit(vmm, ctx_id, 0, ++id, ID(1), NO_IN_FENCES), 1);
		}
	}
	assert_int_equal(get_stats(vmm).held_size, 20 * weight);
	assert_int_equal(try_submit(vmm, 6, 0, ++id, 1, &will_retire), -ENOSPC);
	assert_int_equal(get_stats(vmm).held_size, 20 * weight);
	assert_int_equal(get_stats(vmm).held, 20);
	/* What can run at once need not be held back. */
	assert_int_equal(submit(vmm, 6, 0, ++id, NO_IN_FENCES), 0);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_idle(vmm);
	assert_int_equal(get_stats(vmm).peak_held, 20);
}

/* Neither fences nor commands: only the bookkeeping is left to limit. */
TEST_VMM(empty_held_work_without_fences_is_limited, .answer = FAKE_DONE,
	.options.limits.max_held_size = 1 << 20)
{
	const uint64_t in_fence = 1;
	struct vgf_submission submission = {
		.fence = make_name(1, 0, 0),
		.num_in_fences = 1,
		.in_fences = &in_fence,
	};
	unsigned int count = 0;
	int ret;

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	while ((ret = vgf_submit(vmm->device, &submission, NULL)) == 1) {
		assert_in_range(++count, 1, (1 << 20) / 4 / 64);
	}
	assert_int_equal(ret, -ENOSPC);
	assert_int_equal(cancel_context(vmm->device, 1), 0);
	vmm_dispatch(vmm);
	assert_int_equal(get_stats(vmm).held_size, 0);
}

static void weigh(struct fake_vmm *vmm, uint32_t num_in_fences, size_t size)
{
	static const char command[1024];
	uint64_t in_fences[256];
	const struct vgf_submission submission = {
		.fence = make_name(1, 0, 0),
		.num_in_fences = num_in_fences,
		.in_fences = in_fences,
		.command = command,
		.size = size,
	};
	uint64_t before = get_stats(vmm).held_size;

	/* Repeated or retired ones are nothing to wait for, but they take memory. */
	for (uint64_t i = 0; i < num_in_fences; i++) {
		in_fences[i] = i % 2 ? i : 300;
	}
	alloc_reset();
	assert_int_equal(vgf_submit(vmm->device, &submission, NULL), 1);
	assert_true(get_stats(vmm).held_size - before >= alloc_largest());
}

/* Few in-fences and many, a small command stream and a large one are kept in different ways. */
TEST_VMM(held_work_weighs_no_less_than_its_memory, .answer = FAKE_DONE)
{
	static const uint32_t counts[] = { 1, 2, 16, 17, 256 };
	static const size_t sizes[] = { 0, 1, 255, 256, 257, 1024 };

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 300);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		for (size_t j = 0; j < sizeof(sizes) / sizeof(sizes[0]); j++) {
			weigh(vmm, counts[i], sizes[j]);
		}
	}
}

/* ---- Descriptors -------------------------------------------------------------------------- */

TEST_VMM(work_waits_for_a_descriptor_to_be_closed, .answer = FAKE_FD, .options.limits.max_fds = 3)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 0, 4, NO_IN_FENCES), 1);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_jobs(driver, ID(1), ID(2), ID(0));
	driver_signal(driver, 2); /* not its turn: it stays open */
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(driver->num_jobs, 2);
	driver_signal(driver, 1);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_jobs(driver, ID(1), ID(2), ID(3), ID(4), ID(0));
	assert_in_range(get_stats(vmm).peak_fds, 2, 3);
	driver_signal(driver, 3);
	driver_signal(driver, 4);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_idle(vmm);
}

/* All the others may be behind it. */
TEST_VMM(the_last_descriptor_is_for_the_oldest_of_a_timeline, .answer = FAKE_FD,
	.options.limits.max_fds = 2)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	driver_open(driver, vmm, 3);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 1);
	vmm_dispatch(vmm);
	assert_int_equal(submit(vmm, 2, 0, 3, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 3, 0, 4, NO_IN_FENCES), 1);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(1), ID(3), ID(0));
	/* With the first it becomes the oldest of its own. */
	driver_signal(driver, 1);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(1), ID(3), ID(4), ID(0));
	driver_signal(driver, 4);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(1), ID(3), ID(4), ID(2), ID(0));
	assert_int_equal(get_stats(vmm).peak_fds, 2);
}

TEST_VMM(one_descriptor_is_enough_to_go_on, .answer = FAKE_FD, .options.limits.max_fds = 1)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	for (uint64_t id = 1; id <= 40; id++) {
		submit(vmm, (uint32_t)(id % 2) + 1, 0, id, id - 1, NO_IN_FENCES);
	}
	for (unsigned int n = 0; n < 40; n++) {
		vmm_dispatch(vmm);
		assert_int_equal(driver->num_jobs, n + 1);
		signal_fence(driver->jobs[n].fence_fd);
	}
	vmm_dispatch(vmm);
	assert_int_equal(vmm->num_retired, 40);
	assert_int_equal(get_stats(vmm).peak_fds, 1);
	assert_idle(vmm);
}

static void submit_elsewhere(struct fake_driver *driver, const struct vgf_job *job)
{
	struct fake_vmm *vmm = driver->arg;

	if (job->fence.fence_id == 1) {
		assert_int_equal(submit(vmm, 2, 0, 2, NO_IN_FENCES), 1);
	}
}

TEST_VMM(a_driver_that_is_in_submit_is_good_for_a_descriptor, .answer = FAKE_FD,
	.options.limits.max_fds = 1)
{
	driver->arg = vmm;
	driver->on_submit = submit_elsewhere;
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(1), ID(0));
	driver_signal(driver, 1);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(1), ID(2), ID(0));
	assert_int_equal(get_stats(vmm).peak_fds, 1);
}

/* Signals what runs, one at a time, until all of `count` jobs have come. */
static void run_one_by_one(struct fake_vmm *vmm, struct fake_driver *driver, unsigned int count)
{
	for (unsigned int n = 0; n < count; n++) {
		vmm_dispatch(vmm);
		assert_int_equal(driver->num_jobs, n + 1);
		signal_fence(driver->jobs[n].fence_fd);
	}
	vmm_dispatch(vmm);
}

TEST_VMM(contexts_that_wait_for_a_descriptor_take_turns, .answer = FAKE_FD,
	.options.limits.max_fds = 1)
{
	unsigned int jobs[4] = { 0 };
	uint64_t id = 0;

	for (uint32_t ctx_id = 1; ctx_id <= 3; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
		for (int i = 0; i < 4; i++) {
			submit(vmm, ctx_id, 0, ++id, NO_IN_FENCES);
		}
	}
	run_one_by_one(vmm, driver, 12);
	for (unsigned int n = 0; n < 12; n++) {
		unsigned int ctx_id = driver->jobs[n].fence.ctx_id;
		jobs[ctx_id]++;
		/* No context is two ahead of another, but for the one that ran when it was
		 * alone. */
		assert_in_range(jobs[1], jobs[2], jobs[3] + 2);
		assert_in_range(jobs[2], jobs[3], jobs[3] + 1);
	}
	assert_idle(vmm);
}

TEST_VMM(work_that_wakes_up_does_not_overtake_what_waits_for_a_descriptor, .answer = FAKE_FD,
	.options.limits.max_fds = 1)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, NO_IN_FENCES), 1);
	for (uint64_t id = 3; id <= 6; id++) {
		assert_int_equal(submit(vmm, 1, 0, id, id == 3 ? ID(1) : id - 1, NO_IN_FENCES), 1);
	}
	run_one_by_one(vmm, driver, 6);
	assert_jobs(driver, ID(1), ID(2), ID(3), ID(4), ID(5), ID(6), ID(0));
}

static void signal_for_held_work(
	struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	if (name->fence_id == 2) {
		assert_int_equal(signal_global(vmm, 1), 0);
	}
}

/* The descriptor is free by the time it wakes up. */
TEST_VMM(work_that_a_callback_wakes_does_not_overtake_what_waits_for_a_descriptor,
	.answer = FAKE_FD, .options.limits.max_fds = 1)
{
	vmm->on_retire = signal_for_held_work;
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, 0, 4, NO_IN_FENCES), 1);
	vmm_dispatch(vmm);
	run_one_by_one(vmm, driver, 3);
	assert_jobs(driver, ID(2), ID(4), ID(3), ID(0));
}

static void signal_ring_1(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	if (name->fence_id == 2) {
		assert_int_equal(signal_call(vmm, 3, 1, 3, 0), 0);
	}
}

/* The same behind the oldest of a timeline: the last descriptor is not for them. */
TEST_VMM(work_that_is_not_the_oldest_waits_for_its_turn_too, .answer = FAKE_FD,
	.options.limits.max_fds = 2)
{
	vmm->on_retire = signal_ring_1;
	for (uint32_t ctx_id = 1; ctx_id <= 3; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
	}
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 3, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(create_fence(vmm, 3, 1, 3, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 4, ID(3), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, VGF_RING_GLOBAL, 5, NO_IN_FENCES), 1);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(2), ID(0));
	driver_signal(driver, 2);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(2), ID(5), ID(0));
}

TEST_VMM(new_work_does_not_overtake_what_waits_for_a_descriptor, .answer = FAKE_FD,
	.options.limits.max_fds = 1)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	driver_open(driver, vmm, 3);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 3, 0, 3, NO_IN_FENCES), 1);
	run_one_by_one(vmm, driver, 3);
	assert_jobs(driver, ID(1), ID(2), ID(3), ID(0));
}

TEST_VMM(work_that_waits_for_a_descriptor_can_be_cancelled, .answer = FAKE_FD,
	.options.limits.max_fds = 1)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, 0, 3, NO_IN_FENCES), 1);
	vmm_dispatch(vmm);
	assert_int_equal(cancel_context(vmm->device, 2), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_retired(vmm, 0, 2, 0, 2, -ECANCELED);
	assert_retired(vmm, 1, 2, 0, 3, -ECANCELED);
	driver_signal(driver, 1);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_idle(vmm);
}

TEST_VMM(a_context_that_waits_for_a_descriptor_can_be_destroyed, .answer = FAKE_FD,
	.options.limits.max_fds = 1)
{
	struct fake_driver *other = driver_create(vmm, VGF_WAIT_HOST, FAKE_FD);

	driver_open(driver, vmm, 1);
	driver_open(other, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, NO_IN_FENCES), 1);
	vmm_dispatch(vmm);
	assert_int_equal(vgf_context_destroy(vmm->device, 2), 1);
	driver_signal(driver, 1);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_jobs(other, ID(2), ID(0));
	assert_int_equal(other->num_destroyed, 1);
	driver_signal(other, 2);
	assert_int_equal(vmm_dispatch(vmm), 1);
}

TEST_VMM(a_device_with_work_that_waits_for_descriptors_can_be_reset, .answer = FAKE_FD,
	.options.limits.max_fds = 1)
{
	for (uint32_t ctx_id = 1; ctx_id <= 3; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
		submit(vmm, ctx_id, 0, ctx_id, NO_IN_FENCES);
		submit(vmm, ctx_id, 0, ctx_id + 3, NO_IN_FENCES);
	}
	vmm_dispatch(vmm);
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_int_equal(vmm->num_retired, 6);
	assert_int_equal(driver->num_jobs, 1);
	assert_idle(vmm);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
}

/* They are closed when they retire, which is after it. */
TEST_VMM(descriptors_behind_held_work_do_not_keep_it_from_running, .answer = FAKE_FD,
	.options.limits.max_fds = 2)
{
	int fence_fd;

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	fence_fd = create_fence_fd(vmm, 1, 0, 3);
	assert_int_equal(create_fence(vmm, 1, 0, 4, make_fence(true)), -EMFILE);
	signal_fence(fence_fd);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(2), ID(0));
	driver_signal(driver, 2);
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(1), ID(2), ID(3), ID(0));
	close(fence_fd);
}

TEST_VMM(descriptors_behind_work_of_another_context_do_not_keep_it_from_running, .answer = FAKE_FD,
	.options.limits.max_fds = 3)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(create_fence(vmm, 1, 0, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, VGF_RING_GLOBAL, 3, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, VGF_RING_GLOBAL, 4, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, VGF_RING_GLOBAL, 5, NO_IN_FENCES), 1);
	driver_signal(driver, 3);
	driver_signal(driver, 4);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	driver_signal(driver, 2);
	vmm_dispatch(vmm);
	driver_signal(driver, 5);
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(1), ID(2), ID(3), ID(4), ID(5), ID(0));
}

TEST_VMM(unfenced_work_needs_no_descriptor, .answer = FAKE_FD, .options.limits.max_fds = 2)
{
	bool will_retire;

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	driver_open(driver, vmm, 3);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit_flags(vmm, 3, 0, 90, 0, NULL, 0, &will_retire), 0);
	assert_jobs(driver, ID(1), ID(2), ID(90), ID(0));
}

/* The others are behind its successor in the queue. */
TEST_VMM(descriptors_behind_unfenced_work_do_not_keep_it_from_running, .answer = FAKE_FD,
	.options.limits.max_fds = 2)
{
	const uint64_t in_fence = 1;
	bool will_retire;

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(create_fence(vmm, 1, 0, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit_flags(vmm, 1, 0, 90, 0, &in_fence, 1, &will_retire), 1);
	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 2, NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, VGF_RING_GLOBAL, 3, NO_IN_FENCES), 0);
	driver_signal(driver, 3);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(3), ID(90), ID(2), ID(0));
	driver_signal(driver, 2);
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(1), ID(2), ID(3), ID(0));
}

/* Copies of other people's files take descriptors as fences do. */
TEST_VMM(
	copies_of_files_to_wait_for_are_limited_too, .answer = FAKE_FD, .options.limits.max_fds = 3)
{
	int fence_fd = make_fence(false);
	int fence_fds[8];
	struct vgf_submission submission = {
		.fence = make_name(1, 0, 0),
		.in_fence_fds = fence_fds,
		.num_in_fence_fds = 1,
	};

	for (int i = 0; i < 8; i++) {
		fence_fds[i] = fence_fd;
	}
	driver_open(driver, vmm, 1);
	for (int i = 0; i < 10; i++) {
		vgf_submit(vmm->device, &submission, NULL);
	}
	submission.num_in_fence_fds = 8;
	vgf_submit(vmm->device, &submission, NULL);
	assert_in_range(get_stats(vmm).fds, 1, 3);
	close(fence_fd);
}

/* Waits for so many copies of a descriptor, without a fence. */
static int submit_copies(struct fake_vmm *vmm, uint32_t ctx_id, int fence_fd, uint32_t count)
{
	int fence_fds[16];
	struct vgf_submission submission = {
		.fence = make_name(ctx_id, 0, 0),
		.in_fence_fds = fence_fds,
		.num_in_fence_fds = count,
	};

	for (uint32_t i = 0; i < count; i++) {
		fence_fds[i] = fence_fd;
	}
	return vgf_submit(vmm->device, &submission, NULL);
}

/* Of 64 descriptors a context may have 16, and the last one is for fences. */
#define FILES_OF_64 15

/* As many as the context may have, none of which it has yet. */
static void fill_with_copies(struct fake_vmm *vmm, uint32_t ctx_id, int fence_fd)
{
	uint32_t before = get_stats(vmm).fds;

	for (int i = 0; i < FILES_OF_64; i++) {
		assert_int_equal(submit_copies(vmm, ctx_id, fence_fd, 1), 1);
	}
	assert_int_equal(submit_copies(vmm, ctx_id, fence_fd, 1), -EMFILE);
	assert_int_equal(get_stats(vmm).fds, before + FILES_OF_64);
}

TEST_VMM(a_context_has_its_share_of_files_to_wait_for, .answer = FAKE_DONE,
	.options.limits.max_fds = 64)
{
	int fence_fd = make_fence(false);

	for (uint32_t ctx_id = 1; ctx_id <= 4; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
		fill_with_copies(vmm, ctx_id, fence_fd);
	}
	/* They have retired. */
	signal_fence(fence_fd);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_jobs, 4 * FILES_OF_64);
	assert_idle(vmm);
	close(fence_fd);
	fence_fd = make_fence(false);
	fill_with_copies(vmm, 1, fence_fd);
	close(fence_fd);
}

TEST_VMM(a_context_that_is_cancelled_gives_back_files_to_wait_for, .answer = FAKE_DONE,
	.options.limits.max_fds = 64)
{
	int fence_fd = make_fence(false);

	driver_open(driver, vmm, 1);
	for (int i = 0; i < 3; i++) {
		fill_with_copies(vmm, 1, fence_fd);
		assert_int_equal(cancel_context(vmm->device, 1), 0);
		vmm_dispatch(vmm);
		assert_idle(vmm);
	}
	close(fence_fd);
}

TEST_VMM(contexts_of_one_id_have_a_share_of_files_each, .answer = FAKE_DONE,
	.options.limits.max_fds = 64)
{
	int fence_fd = make_fence(false);

	for (int i = 0; i < 3; i++) {
		driver_open(driver, vmm, 1);
		fill_with_copies(vmm, 1, fence_fd);
		assert_int_equal(vgf_context_destroy(vmm->device, 1), 1);
	}
	driver_open(driver, vmm, 1);
	signal_fence(fence_fd);
	vmm_dispatch(vmm);
	assert_int_equal(driver->num_destroyed, 3);
	assert_int_equal(get_stats(vmm).contexts, 1);
	assert_idle(vmm);
	close(fence_fd);
	fence_fd = make_fence(false);
	fill_with_copies(vmm, 1, fence_fd);
	close(fence_fd);
}

TEST_VMM(a_device_that_is_reset_gives_back_files_to_wait_for, .answer = FAKE_DONE,
	.options.limits.max_fds = 64)
{
	int fence_fd = make_fence(false);

	for (int i = 0; i < 3; i++) {
		driver_open(driver, vmm, 1);
		fill_with_copies(vmm, 1, fence_fd);
		assert_int_equal(vgf_device_reset(vmm->device), 0);
		assert_int_equal(get_stats(vmm).contexts, 0);
		assert_idle(vmm);
	}
	close(fence_fd);
}

/* They are closed after its driver's destroy. */
TEST_VMM(a_destroyed_context_counts_until_files_to_wait_for_are_closed, .answer = FAKE_DONE,
	.wait = VGF_WAIT_DRIVER)
{
	int fence_fd = make_fence(false);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_copies(vmm, 1, fence_fd, 2), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	assert_int_equal(driver->num_destroyed, 1);
	assert_int_equal(get_stats(vmm).contexts, 1);
	assert_int_equal(get_stats(vmm).fds, 2);
	vmm_dispatch(vmm);
	assert_int_equal(get_stats(vmm).contexts, 0);
	assert_idle(vmm);
	close(fence_fd);
}

TEST_VMM(a_submission_with_more_files_than_its_context_may_have_is_refused, .answer = FAKE_DONE,
	.options.limits.max_fds = 64)
{
	int fence_fd = make_fence(false);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_copies(vmm, 1, fence_fd, FILES_OF_64 + 1), -EMFILE);
	assert_non_null(strstr(vmm->log, "copies of its in-fences (EMFILE)"));
	vmm_dispatch(vmm);
	assert_idle(vmm);
	assert_int_equal(submit_copies(vmm, 1, fence_fd, FILES_OF_64), 1);
	assert_int_equal(submit_copies(vmm, 1, fence_fd, 1), -EMFILE);
	close(fence_fd);
}

TEST_VMM(work_waits_for_files_of_its_context_to_be_closed, .answer = FAKE_FD,
	.options.limits.max_fds = 64, .options.limits.max_context_fds = 3)
{
	int fence_fd = make_fence(false);

	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit_copies(vmm, 1, fence_fd, 2), 1);
	assert_int_equal(submit(vmm, 1, 1, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 1, 2, NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 2, 1, 3, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 1, 4, NO_IN_FENCES), 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(1), ID(3), ID(4), ID(0));
	signal_fence(fence_fd);
	vmm_dispatch(vmm);
	assert_true(driver_has(driver, 2));
	close(fence_fd);
}

TEST_VMM(files_to_wait_for_are_among_the_fences_of_their_context, .answer = FAKE_CALL,
	.options.limits.max_context_fences = 3)
{
	int fence_fd = make_fence(false);
	bool will_retire = true;

	driver->driver.independent_rings = true;
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit_copies(vmm, 1, fence_fd, 2), 1);
	assert_int_equal(submit(vmm, 1, 1, 1, NO_IN_FENCES), 0);
	assert_int_equal(try_submit(vmm, 1, 1, 2, 0, &will_retire), -ENOSPC);
	assert_false(will_retire);
	assert_int_equal(submit(vmm, 2, 1, 2, NO_IN_FENCES), 0);
	signal_fence(fence_fd);
	vmm_dispatch(vmm);
	assert_int_equal(submit(vmm, 1, 1, 3, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 1, 4, NO_IN_FENCES), 0);
	close(fence_fd);
}

/* Work without VGF_FENCED, too, has no more of them than there may be fences. */
TEST_VMM(a_context_has_no_more_files_to_wait_for_than_fences, .answer = FAKE_DONE,
	.options.limits.max_context_fences = 4)
{
	int fence_fd = make_fence(false);
	struct vgf_submission submission = {
		.fence = make_name(1, 0, 1),
		.flags = VGF_FENCED,
		.in_fence_fds = (const int[]){ fence_fd, fence_fd },
		.num_in_fence_fds = 2,
	};
	bool will_retire = false;

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit_copies(vmm, 1, fence_fd, 5), -ENOSPC);
	assert_non_null(strstr(vmm->log, "copies of its in-fences (ENOSPC)"));
	vmm_dispatch(vmm);
	assert_idle(vmm);
	assert_int_equal(submit_copies(vmm, 1, fence_fd, 2), 1);
	/* With the out-fence there would be one too many; that is in its place. */
	assert_int_equal(vgf_submit(vmm->device, &submission, &will_retire), -ENOSPC);
	assert_true(will_retire);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 1, 0, 1, -ENOSPC);
	assert_int_equal(submit_copies(vmm, 1, fence_fd, 2), 1);
	assert_int_equal(submit_copies(vmm, 1, fence_fd, 1), -ENOSPC);
	assert_int_equal(submit_copies(vmm, 2, fence_fd, 4), 1);
	close(fence_fd);
}

TEST_VMM(a_device_has_no_more_files_to_wait_for_than_fences, .answer = FAKE_DONE,
	.options.limits = { .max_fences = 4, .max_fds = 64 })
{
	int fence_fd = make_fence(false);

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit_copies(vmm, 1, fence_fd, 3), 1);
	assert_int_equal(submit_copies(vmm, 2, fence_fd, 2), -ENOSPC);
	assert_int_equal(submit_copies(vmm, 2, fence_fd, 1), 1);
	signal_fence(fence_fd);
	vmm_dispatch(vmm);
	assert_idle(vmm);
	close(fence_fd);
}

TEST_VMM(a_vmm_is_told_when_its_fence_finds_no_descriptor, .options.limits.max_fds = 1)
{
	struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, 2);
	struct vgf_stats before = { .size = sizeof(before) };

	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, make_fence(true)), 0);
	create_by_call(vmm, 2);
	before = get_stats(vmm);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 3, make_fence(true)), -EMFILE);
	assert_int_equal(publish_take(vmm->device, &name, make_fence(true)), -EMFILE);
	assert_same_counts(vmm, &before);
	/* By call it works, and once the other one is closed. */
	create_by_call(vmm, 3);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(publish_take(vmm->device, &name, make_fence(true)), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
}

TEST(a_device_that_gets_no_descriptors_leaves_none)
{
	for (unsigned int count = 0; count < 3; count++) {
		struct vgf_device *device = NULL;

		limit_fds(count);
		assert_int_equal(vgf_device_create(&fake_callbacks, NULL, NULL, &device), -EMFILE);
		assert_null(device);
		unlimit_fds();
	}
}

TEST_VMM(an_export_without_a_descriptor_fails)
{
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, make_fence(false)), 0);
	limit_fds(0);
	assert_int_equal(export_fence(vmm->device, 1), -EMFILE);
	unlimit_fds();
}
