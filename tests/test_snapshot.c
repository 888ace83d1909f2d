/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Snapshots: what a device knows goes on in another one, and a bad blob changes nothing. */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alloc.h"
#include "fake.h"

#define HEADER_SIZE 32
#define RECORD_SIZE 16

struct blob {
	void *bytes;
	size_t size;
};

static struct blob save(struct fake_vmm *vmm)
{
	struct blob blob;

	assert_int_equal(vgf_device_save(vmm->device, &blob.bytes, &blob.size), 0);
	return blob;
}

static void assert_not_saved(struct fake_vmm *vmm, int error)
{
	void *bytes = vmm;
	size_t size = 1;

	assert_int_equal(vgf_device_save(vmm->device, &bytes, &size), error);
	assert_null(bytes);
	assert_int_equal(size, 0);
}

/* From a block of just that size, so that a sanitizer sees what is read beyond it. */
static int restore(struct fake_vmm *vmm, const void *bytes, size_t size)
{
	void *exact = malloc(size + !size);
	int ret;

	assert_non_null(exact);
	memcpy(exact, bytes, size);
	ret = vgf_device_restore(vmm->device, exact, size);
	free(exact);
	return ret;
}

/* The device's marks are those of the blob, of which its contexts are all. */
static void assert_marks(struct fake_vmm *vmm, const struct blob *expected)
{
	struct blob blob = save(vmm);

	assert_int_equal(blob.size, expected->size);
	assert_memory_equal(blob.bytes, expected->bytes, blob.size);
	free(blob.bytes);
}

/* ---- A device with a past ----------------------------------------------------------------- */

/* Contexts 1, 2 and 9 are open. Context 3 is destroyed, and the last fence of all was its. */
static void live(struct fake_vmm *vmm, struct fake_driver *driver)
{
	driver_open(driver, vmm, 9);
	driver_open(driver, vmm, 3);
	driver_open(driver, vmm, 2);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 10, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 63, 11, ID(10), NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 5, 20, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, VGF_RING_GLOBAL, 30, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 3, 1, 40, NO_IN_FENCES), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 3), 0);
	assert_int_equal(vgf_device_drain(vmm->device, WAIT_MS), 0);
}

static const uint8_t past[] = {
	'V', 'G', 'F', 'E', 'N', 'C', 'E', 0, 1, 0, 0, 0, 5, 0, 0, 0, /* version, records */
	41, 0, 0, 0, 0, 0, 0, 0, 31, 0, 0, 0, 0, 0, 0, 0,             /* device, global timeline */
	1, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0,              /* context 1, ring 0 */
	1, 0, 0, 0, 63, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0,             /* context 1, ring 63 */
	2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,               /* context 2, ring 0 */
	2, 0, 0, 0, 5, 0, 0, 0, 21, 0, 0, 0, 0, 0, 0, 0,              /* context 2, ring 5 */
	9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,               /* context 9, never used */
};

static const struct blob past_blob = { (void *)past, sizeof(past) };

/* A device with the contexts of that past, and no more. */
static void open_contexts(struct fake_vmm *vmm, struct fake_driver *driver)
{
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	driver_open(driver, vmm, 9);
}

TEST_VMM(a_blob_is_as_documented, .answer = FAKE_DONE)
{
	live(vmm, driver);
	assert_marks(vmm, &past_blob);
}

TEST_VMM(a_restored_device_saves_the_same, .answer = FAKE_DONE)
{
	open_contexts(vmm, driver);
	assert_int_equal(restore(vmm, past, sizeof(past)), 0);
	assert_marks(vmm, &past_blob);
}

TEST_VMM(a_device_without_a_past_is_saved_and_restored, .answer = FAKE_DONE)
{
	struct blob blob = save(vmm);

	assert_int_equal(blob.size, HEADER_SIZE);
	assert_int_equal(restore(vmm, blob.bytes, blob.size), 0);
	assert_int_equal(restore(vmm, past, sizeof(past)), -ENOENT); /* of contexts, not -EBUSY */
	open_contexts(vmm, driver);
	assert_int_equal(restore(vmm, past, sizeof(past)), 0);
	free(blob.bytes);
}

/* ---- Going on ----------------------------------------------------------------------------- */

TEST_VMM(an_in_fence_that_retired_before_is_known, .answer = FAKE_DONE)
{
	open_contexts(vmm, driver);
	/* Without the past nobody knows it. */
	assert_int_equal(submit_flags(vmm, 1, 0, 50, 0, (uint64_t[]){ 10 }, 1, NULL), -ENOENT);
	assert_int_equal(restore(vmm, past, sizeof(past)), 0);
	assert_int_equal(
		submit(vmm, 9, 0, 50, ID(10), ID(11), ID(20), ID(30), ID(40), NO_IN_FENCES), 0);
	assert_int_equal(submit_flags(vmm, 1, 0, 60, 0, (uint64_t[]){ 51 }, 1, NULL), -ENOENT);
	assert_int_equal(get_stats(vmm).in_fences_done, 5);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_all_retired(vmm, ID(50), ID(0));
}

TEST_VMM(a_restored_fence_is_done_for_the_host, .answer = FAKE_DONE)
{
	int fence_fd = 0;

	open_contexts(vmm, driver);
	assert_int_equal(restore(vmm, past, sizeof(past)), 0);
	assert_int_equal(vgf_fence_export(vmm->device, VGF_HOST, 40, &fence_fd), 0);
	assert_int_equal(fence_fd, -1);
	assert_int_equal(vgf_fence_export(vmm->device, VGF_HOST, 41, &fence_fd), -ENOENT);
}

TEST_VMM(ids_go_on_growing, .answer = FAKE_DONE)
{
	const struct {
		uint32_t ctx_id;
		int32_t ring;
		uint64_t last;
	} timelines[] = { { 1, 0, 10 }, { 1, 63, 11 }, { 2, 5, 20 }, { 2, VGF_RING_GLOBAL, 30 } };

	open_contexts(vmm, driver);
	assert_int_equal(restore(vmm, past, sizeof(past)), 0);
	for (size_t i = 0; i < sizeof(timelines) / sizeof(timelines[0]); i++) {
		for (uint64_t id = timelines[i].last - 1; id <= timelines[i].last + 1; id++) {
			int ret = create_fence(
				vmm, timelines[i].ctx_id, timelines[i].ring, id, VGF_FENCE_DONE);
			assert_int_equal(ret, id <= timelines[i].last ? -EINVAL : 0);
		}
	}
	/* Timelines that the past does not know begin anywhere. */
	assert_int_equal(create_fence(vmm, 1, 1, 0, VGF_FENCE_DONE), 0);
	assert_int_equal(create_fence(vmm, 2, 0, 0, VGF_FENCE_DONE), 0);
	assert_int_equal(create_fence(vmm, 9, 0, 0, VGF_FENCE_DONE), 0);
	assert_int_equal(vmm_dispatch(vmm), 7);
}

TEST_VMM(a_device_goes_on_after_it_was_saved, .answer = FAKE_DONE)
{
	live(vmm, driver);
	assert_marks(vmm, &past_blob);
	assert_int_equal(submit(vmm, 1, 0, 41, ID(40), NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
}

TEST_VMM(contexts_that_a_blob_does_not_know_begin_as_new_ones, .answer = FAKE_DONE)
{
	open_contexts(vmm, driver);
	driver_open(driver, vmm, 5);
	assert_int_equal(restore(vmm, past, sizeof(past)), 0);
	assert_int_equal(submit(vmm, 5, 0, 1, ID(10), NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
}

TEST_VMM(a_reset_forgets_what_was_restored, .answer = FAKE_DONE)
{
	open_contexts(vmm, driver);
	assert_int_equal(restore(vmm, past, sizeof(past)), 0);
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	open_contexts(vmm, driver);
	assert_int_equal(submit_flags(vmm, 1, 0, 50, 0, (uint64_t[]){ 10 }, 1, NULL), -ENOENT);
	assert_int_equal(restore(vmm, past, sizeof(past)), 0);
	assert_marks(vmm, &past_blob);
}

/* The marks of an ID whose context was destroyed with work left are those of the next one, too. */
TEST_VMM(a_context_that_was_destroyed_and_made_again_has_its_marks, .answer = FAKE_CALL)
{
	struct blob blob;

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 3, 7, NO_IN_FENCES), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	driver_open(driver, vmm, 1);
	assert_int_equal(signal_call(vmm, 1, 3, 7, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	blob = save(vmm);
	assert_int_equal(blob.size, HEADER_SIZE + 2 * RECORD_SIZE);
	assert_int_equal(((uint8_t *)blob.bytes)[HEADER_SIZE + RECORD_SIZE + 8], 8);
	free(blob.bytes);
}

/* ---- Not now ------------------------------------------------------------------------------ */

TEST_VMM(nothing_is_saved_while_a_fence_is_pending, .answer = FAKE_FD)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_not_saved(vmm, -EBUSY);
	driver_signal(driver, 1);
	assert_not_saved(vmm, -EBUSY);
	assert_int_equal(vgf_device_drain(vmm->device, WAIT_MS), 0);
	free(save(vmm).bytes);
}

/* Work without a fence, behind a descriptor. */
static int submit_held(struct fake_vmm *vmm, uint32_t ctx_id, int fence_fd)
{
	const struct vgf_submission submission = {
		.fence = { .ctx_id = ctx_id, .ring = 0 },
		.in_fence_fds = &fence_fd,
		.num_in_fence_fds = 1,
	};

	return vgf_submit(vmm->device, &submission, NULL);
}

TEST_VMM(nothing_is_saved_while_work_is_held_back, .answer = FAKE_DONE)
{
	int fence_fd = make_fence(false);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit_held(vmm, 1, fence_fd), 1);
	assert_not_saved(vmm, -EBUSY);
	signal_fence(fence_fd);
	assert_int_equal(vgf_device_drain(vmm->device, WAIT_MS), 0);
	free(save(vmm).bytes);
	close(fence_fd);
}

static void save_inside(struct fake_driver *driver, const struct vgf_job *job)
{
	(void)job;
	assert_not_saved(driver->arg, -EDEADLK);
}

TEST_VMM(nothing_is_saved_inside_a_driver, .answer = FAKE_DONE)
{
	driver->on_submit = save_inside;
	driver->arg = vmm;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_flags(vmm, 1, 0, 0, 0, NULL, 0, NULL), 0);
	assert_int_equal(driver->num_jobs, 1);
	free(save(vmm).bytes);
}

struct slow_call {
	struct vgf_device *device;
	sem_t begun, may_end;
};

static void begin_and_wait(void *arg, int status)
{
	struct slow_call *slow = arg;

	(void)status;
	sem_post(&slow->begun);
	sem_wait(&slow->may_end);
}

static void *slow_main(void *arg)
{
	struct slow_call *slow = arg;
	const struct vgf_deferred_call call = {
		.ctx_id = 1,
		.ring = VGF_EVERY_RING,
		.fn = begin_and_wait,
		.arg = slow,
	};

	return vgf_context_defer(slow->device, &call) == 0 ? slow : NULL;
}

TEST_VMM(nothing_is_saved_while_another_thread_is_in_a_driver, .answer = FAKE_DONE)
{
	struct slow_call slow = { .device = vmm->device };
	pthread_t thread;
	void *result;

	sem_init(&slow.begun, 0, 0);
	sem_init(&slow.may_end, 0, 0);
	driver_open(driver, vmm, 1);
	assert_int_equal(pthread_create(&thread, NULL, slow_main, &slow), 0);
	sem_wait(&slow.begun);
	assert_not_saved(vmm, -EBUSY);
	sem_post(&slow.may_end);
	pthread_join(thread, &result);
	assert_ptr_equal(result, &slow);
	free(save(vmm).bytes);
	sem_destroy(&slow.begun);
	sem_destroy(&slow.may_end);
}

/* The last callback is made, or is being made by this thread. */
static void save_in_callback(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	(void)status;
	if (name->fence_id == 1) {
		assert_not_saved(vmm, -EBUSY);
	} else {
		free(save(vmm).bytes);
	}
}

TEST_VMM(a_device_is_saved_in_its_last_callback, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	vmm->on_retire = save_in_callback;
	assert_int_equal(vmm_dispatch(vmm), 2);
}

/* It is there until its last callback has been made, but nobody can name it any more. */
static void save_without_context(
	struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct blob blob = save(vmm);

	(void)name;
	(void)status;
	assert_int_equal(blob.size, HEADER_SIZE);
	free(blob.bytes);
}

TEST_VMM(a_destroyed_context_is_not_saved, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 0);
	vmm->on_retire = save_without_context;
	assert_int_equal(vmm_dispatch(vmm), 1);
}

struct in_callback {
	pid_t saver;
	_Atomic bool entered, left;
};

static void stay_in_callback(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct in_callback *in_callback = vmm->arg;

	(void)name;
	(void)status;
	in_callback->entered = true;
	wait_until_asleep(in_callback->saver);
	in_callback->left = true;
}

TEST_VMM(saving_waits_for_the_callback_of_another_thread, .answer = FAKE_DONE,
	.options.own_thread = true)
{
	struct in_callback in_callback = { .saver = gettid() };

	vmm->arg = &in_callback;
	vmm->on_retire = stay_in_callback;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	while (!in_callback.entered) {
		sched_yield();
	}
	free(save(vmm).bytes);
	assert_true(in_callback.left);
	vmm_destroy_device(vmm);
}

static void save_in_reset(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	assert_int_equal(status, -ECANCELED);
	assert_not_saved(vmm, -ECANCELED);
	assert_int_equal(restore(vmm, past, sizeof(past)), -ECANCELED);
}

TEST_VMM(nothing_is_saved_or_restored_during_a_reset, .answer = FAKE_CALL)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	vmm->on_retire = save_in_reset;
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_int_equal(vmm->num_retired, 1);
}

TEST_VMM(a_device_with_a_past_is_not_restored, .answer = FAKE_DONE)
{
	live(vmm, driver);
	assert_int_equal(restore(vmm, past, sizeof(past)), -EBUSY);
	assert_non_null(strstr(vmm->log, "not restored (EBUSY)"));
	assert_marks(vmm, &past_blob);
}

TEST_VMM(a_device_with_a_pending_fence_is_not_restored, .answer = FAKE_CALL)
{
	open_contexts(vmm, driver);
	assert_int_equal(submit(vmm, 9, 0, 0, NO_IN_FENCES), 0);
	assert_int_equal(restore(vmm, past, sizeof(past)), -EBUSY);
}

static void note_log(struct fake_vmm *vmm, const char *message)
{
	*(bool *)vmm->arg |= strstr(message, "context 9 is not there") != NULL;
}

TEST_VMM(a_context_that_is_missing_is_named, .answer = FAKE_DONE)
{
	bool named = false;
	struct blob before;

	vmm->on_log = note_log;
	vmm->arg = &named;
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	before = save(vmm);
	assert_int_equal(restore(vmm, past, sizeof(past)), -ENOENT);
	assert_true(named);
	assert_marks(vmm, &before);
	free(before.bytes);

	driver_open(driver, vmm, 9);
	assert_int_equal(restore(vmm, past, sizeof(past)), 0);
	assert_marks(vmm, &past_blob);
}

TEST_VMM(a_context_that_was_destroyed_is_missing, .answer = FAKE_DONE)
{
	open_contexts(vmm, driver);
	assert_int_equal(vgf_context_destroy(vmm->device, 2), 0);
	assert_int_equal(restore(vmm, past, sizeof(past)), -ENOENT);
}

TEST_VMM(a_context_that_is_being_destroyed_is_missing, .answer = FAKE_DONE)
{
	int fence_fd = make_fence(false);

	open_contexts(vmm, driver);
	assert_int_equal(submit_held(vmm, 2, fence_fd), 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 2), 1);
	assert_int_equal(restore(vmm, past, sizeof(past)), -ENOENT);
	close(fence_fd);
}

/* ---- Bad blobs ---------------------------------------------------------------------------- */

/* Restores it all, or refuses it and is as before. Returns what vgf_device_restore did. */
static int try_to_restore(const struct blob *blob)
{
	struct fake_vmm *vmm = vmm_create(NULL);
	struct fake_driver *driver = driver_create(vmm, VGF_WAIT_HOST, FAKE_DONE);
	struct blob before;
	int ret;

	open_contexts(vmm, driver);
	before = save(vmm);
	ret = restore(vmm, blob->bytes, blob->size);
	assert_marks(vmm, ret == 0 ? blob : &before);
	free(before.bytes);
	vmm_destroy(vmm);
	return ret;
}

TEST(a_blob_that_is_cut_or_too_long_is_refused)
{
	uint8_t bytes[sizeof(past) + 2 * RECORD_SIZE] = { 0 };

	memcpy(bytes, past, sizeof(past));
	for (size_t size = 0; size <= sizeof(bytes); size++) {
		const struct blob blob = { bytes, size };
		if (size != sizeof(past)) {
			assert_int_equal(try_to_restore(&blob), -EINVAL);
		}
	}
}

/* Some bits of a mark or of a ring can be otherwise; those of a context name another. */
TEST(each_bit_that_is_wrong_is_refused_or_restored)
{
	unsigned int restored = 0, missing = 0;

	for (size_t bit = 0; bit < 8 * sizeof(past); bit++) {
		uint8_t bytes[sizeof(past)];
		const struct blob blob = { bytes, sizeof(bytes) };
		int ret;

		memcpy(bytes, past, sizeof(past));
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		ret = try_to_restore(&blob);
		assert_true(ret == 0 || ret == -EINVAL || ret == -ENOENT);
		assert_true(ret == -EINVAL || bit / 8 >= 16);
		restored += ret == 0;
		missing += ret == -ENOENT;
	}
	assert_true(restored > 0 && missing > 0);
}

/* Byte `at` is `value` instead. */
static void refuse_with(size_t at, uint8_t value, int error)
{
	uint8_t bytes[sizeof(past)];
	const struct blob blob = { bytes, sizeof(bytes) };

	memcpy(bytes, past, sizeof(past));
	bytes[at] = value;
	assert_int_equal(try_to_restore(&blob), error);
}

TEST(what_is_wrong_with_a_blob_is_refused)
{
	const size_t first = HEADER_SIZE, second = first + RECORD_SIZE;

	refuse_with(0, 'v', -EINVAL);        /* not a blob */
	refuse_with(8, 0, -EINVAL);          /* another version */
	refuse_with(8, 2, -EINVAL);          /* another version */
	refuse_with(12, 4, -EINVAL);         /* one more than it says */
	refuse_with(15, 0x10, -EINVAL);      /* so many that their size wraps in 32 bits */
	refuse_with(16, 20, -EINVAL);        /* the device is behind timelines */
	refuse_with(24, 42, -EINVAL);        /* the global timeline is ahead */
	refuse_with(24, 41, 0);              /* as far is not ahead */
	refuse_with(first + 8, 42, -EINVAL); /* a ring is ahead */
	refuse_with(first + 8, 41, 0);
	refuse_with(second + 4, 0, -EINVAL);  /* the same ring twice */
	refuse_with(second + 4, 64, -EINVAL); /* out of range */
	refuse_with(second + 4, 62, 0);
	refuse_with(second + 7, 0x80, -EINVAL); /* negative, if it had a sign */
	refuse_with(second + 8, 0, -EINVAL);    /* a ring that was never used */
	refuse_with(first, 2, -EINVAL);         /* contexts out of order */
	refuse_with(second, 2, -EINVAL);        /* a context without ring 0 */
	refuse_with(first, 0, -EINVAL);         /* likewise */
	refuse_with(sizeof(past) - RECORD_SIZE, 8, -ENOENT);
}

TEST_VMM(the_highest_marks_are_restored)
{
	uint8_t bytes[HEADER_SIZE + RECORD_SIZE];
	const struct blob blob = { bytes, sizeof(bytes) };

	memcpy(bytes, past, sizeof(bytes));
	memset(bytes + 16, 0xff, 20); /* both marks, context 2^32-1 */
	memset(bytes + HEADER_SIZE + 8, 0xff, 8);
	bytes[12] = 1;
	driver_open(driver, vmm, UINT32_MAX);
	assert_int_equal(restore(vmm, bytes, sizeof(bytes)), 0);
	assert_marks(vmm, &blob);
	/* No ID is left there, and none is unknown but the last. */
	assert_int_equal(create_fence(vmm, UINT32_MAX, 0, UINT64_MAX - 1, VGF_FENCE_DONE), -EINVAL);
	assert_int_equal(submit(vmm, UINT32_MAX, 1, 1, ID(UINT64_MAX - 1), NO_IN_FENCES), 0);
}

/* ---- Limits, memory ----------------------------------------------------------------------- */

static void put(uint8_t *bytes, uint64_t value, unsigned int size)
{
	for (unsigned int i = 0; i < size; i++) {
		bytes[i] = (uint8_t)(value >> (8 * i));
	}
}

/* Every ring of `count` contexts, from 0 on. */
static struct blob make_full(uint32_t count)
{
	uint32_t records = count * VGF_MAX_RINGS;
	size_t size = HEADER_SIZE + (size_t)records * RECORD_SIZE;
	uint8_t *bytes = malloc(size);

	assert_non_null(bytes);
	memcpy(bytes, past, HEADER_SIZE);
	put(bytes + 12, records, 4);
	put(bytes + 16, records, 8);
	put(bytes + 24, 0, 8);
	for (uint32_t i = 0; i < records; i++) {
		uint8_t *record = bytes + HEADER_SIZE + (size_t)i * RECORD_SIZE;
		put(record, i / VGF_MAX_RINGS, 4);
		put(record + 4, i % VGF_MAX_RINGS, 4);
		put(record + 8, i + 1, 8);
	}
	return (struct blob){ bytes, size };
}

TEST_VMM(every_ring_of_as_many_contexts_as_there_can_be)
{
	const uint32_t max_contexts = 1024;
	struct blob blob = make_full(max_contexts);
	struct blob more = make_full(max_contexts + 1);

	for (uint32_t i = 0; i < max_contexts; i++) {
		driver_open(driver, vmm, max_contexts - 1 - i);
	}
	assert_int_equal(
		vgf_context_create(vmm->device, max_contexts, &driver->driver, driver), -ENOSPC);
	assert_int_equal(restore(vmm, more.bytes, more.size), -ENOENT);
	assert_int_equal(restore(vmm, blob.bytes, blob.size), 0);
	assert_marks(vmm, &blob);
	free(blob.bytes);
	free(more.bytes);
}

TEST_VMM(a_snapshot_without_memory_is_none, .answer = FAKE_DONE)
{
	live(vmm, driver);
	alloc_fail(1);
	assert_not_saved(vmm, -ENOMEM);
	alloc_fail(0);
	assert_marks(vmm, &past_blob);
}

/* Rings that were made before are nothing that a snapshot sees. */
TEST_VMM(each_allocation_of_a_restore_fails_once)
{
	struct blob blob = make_full(1);
	struct blob before = { 0 };

	for (unsigned long nth = 1; nth <= VGF_MAX_RINGS; nth++) {
		int expected = nth < VGF_MAX_RINGS ? -ENOMEM : 0; /* ring 0 is there */

		driver_open(driver, vmm, 0);
		before = save(vmm);
		alloc_fail(nth);
		assert_int_equal(vgf_device_restore(vmm->device, blob.bytes, blob.size), expected);
		alloc_fail(0);
		assert_marks(vmm, expected == 0 ? &blob : &before);
		free(before.bytes);
		assert_int_equal(vgf_context_destroy(vmm->device, 0), 0);
	}
	free(blob.bytes);
}
