/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a VMM is told, and what it may do when it is told. */

#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A fence that the test signals by call. */
static void create_by_call(struct fake_vmm *vmm, uint64_t fence_id)
{
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, fence_id, VGF_FENCE_BY_CALL), 0);
}

static int signal_global(struct fake_vmm *vmm, uint64_t fence_id)
{
	return signal_call(vmm, 0, VGF_RING_GLOBAL, fence_id, 0);
}

/* ---- The shape of virglrenderer ----------------------------------------------------------- */

struct written {
	unsigned int num_global, num_context, num_retired;
	uint32_t global_id;
	uint32_t ctx_id, ring;
	uint64_t context_id;
};

static void write_fence(void *cookie, uint32_t fence_id)
{
	struct written *written = cookie;

	written->num_global++;
	written->global_id = fence_id;
}

static void write_context_fence(void *cookie, uint32_t ctx_id, uint32_t ring, uint64_t fence_id)
{
	struct written *written = cookie;

	written->num_context++;
	written->ctx_id = ctx_id;
	written->ring = ring;
	written->context_id = fence_id;
}

static void note_retired(void *cookie, const struct vgf_retired *retired)
{
	struct written *written = cookie;

	written->num_retired++;
}

static int submit_nothing(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	return -EIO;
}

static void retire_one_of_each(const struct vgf_callbacks *callbacks, struct written *written)
{
	const struct vgf_driver driver = {
		.size = sizeof(struct vgf_driver), .wait = VGF_WAIT_HOST, .submit = submit_nothing
	};
	struct vgf_fence_name global = make_name(0, VGF_RING_GLOBAL, ((uint64_t)7 << 32) + 5);
	struct vgf_fence_name context = make_name(3, 9, ((uint64_t)7 << 32) + 6);
	struct vgf_device *device;

	assert_int_equal(vgf_device_create(callbacks, written, NULL, &device), 0);
	assert_int_equal(vgf_context_create(device, 3, &driver, NULL), 0);
	assert_int_equal(create_take(device, &global, 0, VGF_FENCE_DONE), 0);
	assert_int_equal(create_take(device, &context, 0, VGF_FENCE_DONE), 0);
	assert_int_equal(vgf_device_dispatch(device, 0), 2);
	vgf_device_destroy(device);
}

TEST(fences_are_written_as_virglrenderer_does_it)
{
	const struct vgf_callbacks callbacks = {
		.size = sizeof(struct vgf_callbacks),
		.write_fence = write_fence,
		.write_context_fence = write_context_fence,
	};
	struct written written = { 0 };

	retire_one_of_each(&callbacks, &written);
	assert_int_equal(written.num_global, 1);
	assert_int_equal(written.global_id, 5); /* the low half */
	assert_int_equal(written.num_context, 1);
	assert_int_equal(written.ctx_id, 3);
	assert_int_equal(written.ring, 9);
	assert_true(written.context_id == ((uint64_t)7 << 32) + 6);
}

TEST(the_richer_callback_is_the_only_one_where_it_is_there)
{
	const struct vgf_callbacks callbacks = {
		.size = sizeof(struct vgf_callbacks),
		.write_fence = write_fence,
		.write_context_fence = write_context_fence,
		.retire = note_retired,
	};
	struct written written = { 0 };

	retire_one_of_each(&callbacks, &written);
	assert_int_equal(written.num_retired, 2);
	assert_int_equal(written.num_global + written.num_context, 0);
}

TEST(a_device_needs_a_callback_for_each_timeline)
{
	struct vgf_callbacks callbacks = { .size = sizeof(callbacks) };
	struct vgf_device *device;

	assert_int_equal(vgf_device_create(NULL, NULL, NULL, &device), -EINVAL);
	assert_null(device);
	assert_int_equal(vgf_device_create(&callbacks, NULL, NULL, &device), -EINVAL);
	callbacks.write_fence = write_fence;
	assert_int_equal(vgf_device_create(&callbacks, NULL, NULL, &device), -EINVAL);
	callbacks.write_fence = NULL;
	callbacks.write_context_fence = write_context_fence;
	assert_int_equal(vgf_device_create(&callbacks, NULL, NULL, &device), -EINVAL);
	callbacks.write_fence = write_fence;
	assert_int_equal(vgf_device_create(&callbacks, NULL, NULL, &device), 0);
	vgf_device_destroy(device);
}

/* ---- Batches ------------------------------------------------------------------------------ */

TEST_VMM(a_batch_has_one_end, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 30; id++) {
		assert_int_equal(submit(vmm, 1, (int32_t)(id % 5) - 1, id, NO_IN_FENCES), 0);
	}
	assert_int_equal(vmm_dispatch(vmm), 30);
	assert_int_equal(vmm->num_batches, 1);
}

TEST_VMM(what_a_batch_lets_go_belongs_to_it, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vgf_device_dispatch(vmm->device, 0), 3);
	assert_int_equal(vmm->num_batches, 1);
}

TEST_VMM(without_fences_there_is_no_batch)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 2, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(vmm->num_batches, 0);
}

/* ---- Mergeable fences --------------------------------------------------------------------- */

static void create_flagged(struct fake_vmm *vmm, int32_t ring, uint64_t fence_id, uint32_t flags)
{
	struct vgf_fence_name name = make_name(1, ring, fence_id);

	assert_int_equal(create_take(vmm->device, &name, flags, VGF_FENCE_BY_CALL), 0);
}

TEST_VMM(of_mergeable_fences_the_newest_is_told)
{
	for (uint64_t id = 1; id <= 5; id++) {
		create_flagged(vmm, VGF_RING_GLOBAL, id, VGF_MERGEABLE);
	}
	for (uint64_t id = 5; id >= 1; id--) {
		assert_int_equal(signal_global(vmm, id), 0);
	}
	assert_int_equal(vgf_device_dispatch(vmm->device, 0), 5);
	assert_all_retired(vmm, ID(5), ID(0));
	assert_int_equal(get_stats(vmm).retired, 5);
	assert_idle(vmm);
}

TEST_VMM(a_fence_that_is_not_mergeable_is_told_among_others)
{
	create_flagged(vmm, VGF_RING_GLOBAL, 1, VGF_MERGEABLE);
	create_flagged(vmm, VGF_RING_GLOBAL, 2, 0);
	create_flagged(vmm, VGF_RING_GLOBAL, 3, VGF_MERGEABLE);
	create_flagged(vmm, VGF_RING_GLOBAL, 4, VGF_MERGEABLE);
	for (uint64_t id = 4; id >= 1; id--) {
		assert_int_equal(signal_global(vmm, id), 0);
	}
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(2), ID(4), ID(0));
}

TEST_VMM(a_mergeable_fence_with_an_error_is_told)
{
	for (uint64_t id = 1; id <= 4; id++) {
		create_flagged(vmm, VGF_RING_GLOBAL, id, VGF_MERGEABLE);
	}
	assert_int_equal(signal_global(vmm, 4), 0);
	assert_int_equal(signal_global(vmm, 3), 0);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 2, -EIO), 0);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(2), ID(4), ID(0));
	assert_int_equal(vmm->retired[0].status, -EIO);
	assert_int_equal(vmm->retired[1].status, 0);
}

TEST_VMM(a_fence_does_not_answer_for_another_timeline)
{
	driver_open(driver, vmm, 1);
	create_flagged(vmm, 0, 1, VGF_MERGEABLE);
	create_flagged(vmm, 1, 2, VGF_MERGEABLE);
	create_flagged(vmm, VGF_RING_GLOBAL, 3, VGF_MERGEABLE);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(signal_call(vmm, 1, 1, 2, 0), 0);
	assert_int_equal(signal_global(vmm, 3), 0);
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(1), ID(2), ID(3), ID(0));
}

TEST_VMM(a_fence_does_not_answer_for_an_earlier_batch)
{
	create_flagged(vmm, VGF_RING_GLOBAL, 1, VGF_MERGEABLE);
	create_flagged(vmm, VGF_RING_GLOBAL, 2, VGF_MERGEABLE);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(1), ID(0));
	assert_int_equal(signal_global(vmm, 2), 0);
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(1), ID(2), ID(0));
}

TEST_VMM(mergeable_submissions_are_merged, .answer = FAKE_DONE)
{
	bool will_retire;

	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 3; id++) {
		assert_int_equal(submit_flags(vmm, 1, 0, id, VGF_FENCED | VGF_MERGEABLE, NULL, 0,
					 &will_retire),
			0);
		assert_true(will_retire);
	}
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(3), ID(0));
	assert_int_equal(driver->jobs[0].flags, VGF_FENCED | VGF_MERGEABLE);
}

/* ---- From inside a callback --------------------------------------------------------------- */

/*
 * A device with fence 1 about to retire, fence 2 pending, and work 3 of context 2 held back for
 * that. Something is done from inside one of the calls that the library makes.
 */
struct inside {
	struct fake_vmm *vmm;
	struct fake_driver *drivers[2]; /* of contexts 1 and 2 */
	int (*action)(struct inside *inside);
	unsigned int calls;
	int ret;
	unsigned int deferred;
	unsigned int told; /* callbacks, when the device was destroyed */
};

static unsigned int count_told(const struct fake_vmm *vmm)
{
	return vmm->num_retired + vmm->num_batches + vmm->num_stalls;
}

static void act(struct inside *inside)
{
	if (inside->calls++ == 0) {
		inside->ret = inside->action(inside);
	}
}

static void act_in_retire(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	act(vmm->arg);
}

static void act_in_batch(struct fake_vmm *vmm)
{
	act(vmm->arg);
}

static void act_in_stalled(struct fake_vmm *vmm, const struct vgf_stall *stall)
{
	act(vmm->arg);
}

static void act_in_log(struct fake_vmm *vmm, const char *message)
{
	act(vmm->arg);
}

static void act_in_submit(struct fake_driver *driver, const struct vgf_job *job)
{
	act(driver->arg);
}

static void act_in_destroy(struct fake_driver *driver, bool cancelled)
{
	act(driver->arg);
}

static void act_in_deferred(void *arg, int status)
{
	act(arg);
}

/* The places. Each calls the action once. */

static void retire(struct inside *inside)
{
	inside->vmm->on_retire = act_in_retire;
	assert_int_equal(signal_global(inside->vmm, 1), 0);
}

static void retire_end(struct inside *inside)
{
	inside->vmm->on_batch = act_in_batch;
	assert_int_equal(signal_global(inside->vmm, 1), 0);
}

static void stalled(struct inside *inside)
{
	inside->vmm->on_stall = act_in_stalled;
}

static void log_message(struct inside *inside)
{
	inside->vmm->on_log = act_in_log;
	assert_int_equal(submit(inside->vmm, 1, 0, 20, ID(1000), NO_IN_FENCES), -ENOENT);
}

static void driver_submit(struct inside *inside)
{
	inside->drivers[0]->on_submit = act_in_submit;
	assert_int_equal(submit(inside->vmm, 1, 0, 20, NO_IN_FENCES), 0);
}

/* Not from inside vgf_submit, but while the dispatching thread runs held work. */
static void driver_submit_of_held_work(struct inside *inside)
{
	inside->drivers[0]->on_submit = act_in_submit;
	assert_int_equal(submit(inside->vmm, 1, 0, 20, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(signal_global(inside->vmm, 1), 0);
}

static void driver_destroyed(struct inside *inside)
{
	inside->drivers[0]->on_destroy = act_in_destroy;
	assert_int_equal(vgf_context_destroy(inside->vmm->device, 1), 0);
}

static void deferred_call(struct inside *inside)
{
	assert_int_equal(defer_call(inside->vmm->device, 1, act_in_deferred, inside), 0);
}

static void count_deferred(void *arg, int status)
{
	struct inside *inside = arg;

	inside->deferred++;
}

static void inside_start(struct inside *inside)
{
	struct fake_vmm *vmm = inside->vmm;

	vmm->arg = inside;
	for (uint32_t i = 0; i < 2; i++) {
		inside->drivers[i] = driver_create(vmm, VGF_WAIT_HOST, FAKE_CALL);
		inside->drivers[i]->arg = inside;
		driver_open(inside->drivers[i], vmm, i + 1);
	}
	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(2), NO_IN_FENCES), 1);
}

/* Whatever was done, the rest goes its way. */
static void inside_finish(struct inside *inside)
{
	struct fake_vmm *vmm = inside->vmm;

	signal_global(vmm, 1);
	signal_global(vmm, 2);
	for (int round = 0; round < 3; round++) {
		assert_true(vgf_device_dispatch(vmm->device, 0) >= 0);
		for (unsigned int i = 0; i < 2; i++) {
			struct fake_driver *driver = inside->drivers[i];
			for (unsigned int n = 0; n < driver->num_jobs; n++) {
				vgf_fence_signal(vmm->device, &driver->jobs[n].fence, 0);
			}
		}
	}
	vmm_dispatch(vmm);
	assert_idle(vmm);
}

static void run_inside(struct fake_vmm *vmm, void (*place)(struct inside *inside),
	int (*action)(struct inside *inside), int expected)
{
	struct inside inside = { .vmm = vmm, .action = action };
	int ret;

	inside_start(&inside);
	place(&inside);
	/* Everything is ready but the watchdog's timer, which expires when the kernel gets to
	 * it. */
	do {
		ret = vgf_device_dispatch(vmm->device, inside.calls > 0 ? 0 : WAIT_MS);
	} while (ret == 0 && inside.calls == 0);
	assert_true(inside.calls > 0);
	assert_int_equal(inside.ret, expected);
	if (vmm->device) {
		assert_true(ret >= 0);
		inside_finish(&inside);
	} else {
		assert_int_equal(ret, -ECANCELED);
		assert_int_equal(count_told(vmm), inside.told);
	}
	for (unsigned int n = 0; n < vmm->num_retired; n++) {
		for (unsigned int i = 0; i < n; i++) {
			assert_memory_not_equal(&vmm->retired[n].name, &vmm->retired[i].name,
				sizeof(struct vgf_fence_name));
		}
	}
	vmm_destroy_device(vmm);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(inside.drivers[i]->num_destroyed, 1);
	}
}

/* The actions. */

static int looking(struct inside *inside)
{
	struct vgf_device *device = inside->vmm->device;
	struct vgf_pending pending[4];
	char *text;

	get_stats(inside->vmm);
	vgf_device_list_pending(device, pending, 4);
	assert_int_equal(vgf_device_dump(device, &text), 0);
	free(text);
	return export_fence(device, 2); /* by call: it has no descriptor */
}

static int submitting(struct inside *inside)
{
	return submit(inside->vmm, 2, 0, 30, NO_IN_FENCES);
}

static int submitting_to_the_same_ring(struct inside *inside)
{
	return submit(inside->vmm, 1, 0, 30, NO_IN_FENCES);
}

static int creating_a_fence(struct inside *inside)
{
	return create_fence(inside->vmm, 0, VGF_RING_GLOBAL, 30, VGF_FENCE_DONE);
}

static int signalling(struct inside *inside)
{
	return signal_global(inside->vmm, 2);
}

static int giving_up_a_fence(struct inside *inside)
{
	return cancel_fence(inside->vmm, 2, 0, 3, -ECANCELED);
}

static int creating_a_context(struct inside *inside)
{
	struct vgf_driver driver = inside->drivers[0]->driver;

	driver.destroy = NULL;
	return vgf_context_create(inside->vmm->device, 3, &driver, inside->drivers[0]);
}

static int destroying_a_context(struct inside *inside)
{
	return vgf_context_destroy(inside->vmm->device, 2);
}

static int destroying_its_own_context(struct inside *inside)
{
	return vgf_context_destroy(inside->vmm->device, 1);
}

static int cancelling_a_context(struct inside *inside)
{
	return cancel_context(inside->vmm->device, 2);
}

static int cancelling_its_own_context(struct inside *inside)
{
	return cancel_context(inside->vmm->device, 1);
}

static int deferring(struct inside *inside)
{
	return defer_call(inside->vmm->device, 2, count_deferred, inside);
}

static int deferring_for_its_own_context(struct inside *inside)
{
	return defer_call(inside->vmm->device, 1, count_deferred, inside);
}

static int dispatching(struct inside *inside)
{
	return vgf_device_dispatch(inside->vmm->device, 0);
}

static int draining(struct inside *inside)
{
	return vgf_device_drain(inside->vmm->device, 0);
}

static int draining_what_can_end(struct inside *inside)
{
	inside->drivers[1]->answer = FAKE_DONE;
	signal_global(inside->vmm, 1);
	signal_global(inside->vmm, 2);
	return vgf_device_drain(inside->vmm->device, -1);
}

static int resetting(struct inside *inside)
{
	return vgf_device_reset(inside->vmm->device);
}

static int destroying_the_device(struct inside *inside)
{
	unsigned int logs = inside->vmm->num_logs;

	vgf_device_destroy(inside->vmm->device);
	if (inside->vmm->num_logs > logs && strstr(inside->vmm->log, "vgf_device_destroy")) {
		return -EDEADLK; /* it cannot say so */
	}
	inside->vmm->device = NULL;
	inside->told = count_told(inside->vmm);
	return 0;
}

static void *use_device(void *arg)
{
	struct inside *inside = arg;

	submitting(inside);
	looking(inside);
	signalling(inside);
	return NULL;
}

/* Promise 6: no lock is held. */
static int using_it_from_another_thread(struct inside *inside)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, use_device, inside), 0);
	return pthread_join(thread, NULL);
}

/* Everything is stalled in these tests. */
#define INSIDE(place, action, expected)                                                            \
	TEST_VMM(action##_from_##place, .options.stall_ns = 1)                                     \
	{                                                                                          \
		run_inside(vmm, place, action, expected);                                          \
	}

/* Promise 6. */
INSIDE(retire, looking, -EAGAIN)
INSIDE(retire, submitting, 1)
INSIDE(retire, submitting_to_the_same_ring, 0)
INSIDE(retire, creating_a_fence, 0)
INSIDE(retire, signalling, 0)
INSIDE(retire, giving_up_a_fence, 0)
INSIDE(retire, creating_a_context, 0)
INSIDE(retire, destroying_a_context, 1)
INSIDE(retire, destroying_its_own_context, 0)
INSIDE(retire, cancelling_a_context, 0)
INSIDE(retire, deferring, 1)
INSIDE(retire, deferring_for_its_own_context, 0)
INSIDE(retire, dispatching, 0)
INSIDE(retire, draining, -ETIMEDOUT)
INSIDE(retire, draining_what_can_end, 0)
INSIDE(retire, resetting, 0)
INSIDE(retire, destroying_the_device, 0)
INSIDE(retire, using_it_from_another_thread, 0)

INSIDE(retire_end, looking, -EAGAIN)
INSIDE(retire_end, submitting, 1)
INSIDE(retire_end, creating_a_fence, 0)
INSIDE(retire_end, signalling, 0)
INSIDE(retire_end, giving_up_a_fence, 0)
INSIDE(retire_end, destroying_a_context, 1)
INSIDE(retire_end, cancelling_a_context, 0)
INSIDE(retire_end, deferring, 1)
INSIDE(retire_end, dispatching, 0)
INSIDE(retire_end, draining, -ETIMEDOUT)
INSIDE(retire_end, draining_what_can_end, 0)
INSIDE(retire_end, resetting, 0)
INSIDE(retire_end, destroying_the_device, 0)
INSIDE(retire_end, using_it_from_another_thread, 0)

INSIDE(stalled, looking, -EAGAIN)
INSIDE(stalled, submitting, 1)
INSIDE(stalled, signalling, 0)
INSIDE(stalled, giving_up_a_fence, 0)
INSIDE(stalled, destroying_a_context, 1)
INSIDE(stalled, cancelling_a_context, 0)
INSIDE(stalled, deferring, 1)
INSIDE(stalled, dispatching, 0)
INSIDE(stalled, draining, -ETIMEDOUT)
INSIDE(stalled, draining_what_can_end, 0)
INSIDE(stalled, resetting, 0)
INSIDE(stalled, destroying_the_device, 0)
INSIDE(stalled, using_it_from_another_thread, 0)

INSIDE(log_message, looking, -EAGAIN)
INSIDE(log_message, submitting, 1)
INSIDE(log_message, signalling, 0)
INSIDE(log_message, giving_up_a_fence, 0)
INSIDE(log_message, destroying_a_context, 1)
INSIDE(log_message, destroying_its_own_context, 0)
INSIDE(log_message, cancelling_a_context, 0)
INSIDE(log_message, deferring, 1)
INSIDE(log_message, dispatching, 1)
INSIDE(log_message, draining, -ETIMEDOUT)
INSIDE(log_message, resetting, 0)
INSIDE(log_message, using_it_from_another_thread, 0)

INSIDE(driver_submit, looking, -EAGAIN)
INSIDE(driver_submit, submitting, 1)
INSIDE(driver_submit, submitting_to_the_same_ring, 1)
INSIDE(driver_submit, creating_a_fence, 0)
INSIDE(driver_submit, signalling, 0)
INSIDE(driver_submit, giving_up_a_fence, 0)
INSIDE(driver_submit, creating_a_context, 0)
INSIDE(driver_submit, destroying_a_context, 1)
INSIDE(driver_submit, destroying_its_own_context, 1)
INSIDE(driver_submit, cancelling_a_context, 0)
INSIDE(driver_submit, cancelling_its_own_context, 0)
INSIDE(driver_submit, deferring, 1)
INSIDE(driver_submit, deferring_for_its_own_context, 1)
INSIDE(driver_submit, dispatching, -EDEADLK)
INSIDE(driver_submit, draining, -EDEADLK)
INSIDE(driver_submit, resetting, -EDEADLK)
INSIDE(driver_submit, destroying_the_device, -EDEADLK)
INSIDE(driver_submit, using_it_from_another_thread, 0)

INSIDE(driver_submit_of_held_work, submitting, 1)
INSIDE(driver_submit_of_held_work, submitting_to_the_same_ring, 1)
INSIDE(driver_submit_of_held_work, destroying_its_own_context, 1)
INSIDE(driver_submit_of_held_work, cancelling_its_own_context, 0)
INSIDE(driver_submit_of_held_work, deferring_for_its_own_context, 1)
INSIDE(driver_submit_of_held_work, dispatching, -EDEADLK)
INSIDE(driver_submit_of_held_work, draining, -EDEADLK)
INSIDE(driver_submit_of_held_work, resetting, -EDEADLK)
INSIDE(driver_submit_of_held_work, destroying_the_device, -EDEADLK)
INSIDE(driver_submit_of_held_work, using_it_from_another_thread, 0)

INSIDE(driver_destroyed, looking, -EAGAIN)
INSIDE(driver_destroyed, submitting, 1)
INSIDE(driver_destroyed, creating_a_context, 0)
INSIDE(driver_destroyed, destroying_a_context, 1)
INSIDE(driver_destroyed, destroying_its_own_context, -ENOENT)
INSIDE(driver_destroyed, cancelling_a_context, 0)
INSIDE(driver_destroyed, cancelling_its_own_context, 0)
INSIDE(driver_destroyed, deferring, 1)
INSIDE(driver_destroyed, dispatching, -EDEADLK)
INSIDE(driver_destroyed, draining, -EDEADLK)
INSIDE(driver_destroyed, resetting, -EDEADLK)
INSIDE(driver_destroyed, destroying_the_device, -EDEADLK)
INSIDE(driver_destroyed, using_it_from_another_thread, 0)

INSIDE(deferred_call, looking, -EAGAIN)
INSIDE(deferred_call, submitting, 1)
INSIDE(deferred_call, submitting_to_the_same_ring, 1)
INSIDE(deferred_call, signalling, 0)
INSIDE(deferred_call, destroying_a_context, 1)
INSIDE(deferred_call, destroying_its_own_context, 1)
INSIDE(deferred_call, cancelling_a_context, 0)
INSIDE(deferred_call, cancelling_its_own_context, 0)
INSIDE(deferred_call, deferring, 1)
INSIDE(deferred_call, deferring_for_its_own_context, 1)
INSIDE(deferred_call, dispatching, -EDEADLK)
INSIDE(deferred_call, draining, -EDEADLK)
INSIDE(deferred_call, resetting, -EDEADLK)
INSIDE(deferred_call, destroying_the_device, -EDEADLK)
INSIDE(deferred_call, using_it_from_another_thread, 0)

/* ---- From inside a message ---------------------------------------------------------------- */

static void reset_in_log(struct fake_vmm *vmm, const char *message)
{
	int *ret = vmm->arg;

	vmm->on_log = NULL;
	*ret = vgf_device_reset(vmm->device);
}

/* The stream is copied without the lock, and a reset waits until that is done. */
TEST_VMM(a_message_of_work_with_a_large_stream_may_reset, .answer = FAKE_DONE,
	.options.ignore_bad_in_fences = true)
{
	static const char command[8192];
	struct vgf_submission submission = {
		.fence = make_name(1, 0, 2),
		.flags = VGF_FENCED,
		.in_fences = (const uint64_t[]){ 1, 1000 },
		.num_in_fences = 2,
		.command = command,
		.size = sizeof(command),
	};
	int ret = 1;

	vmm->arg = &ret;
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	vmm->on_log = reset_in_log;
	assert_int_equal(vgf_submit(vmm->device, &submission, NULL), 1);
	assert_int_equal(ret, 0);
	assert_int_equal(driver->num_jobs, 0);
	assert_int_equal(vmm->num_retired, 2);
	assert_idle(vmm);
}

TEST_VMM(a_message_of_work_that_runs_at_once_may_reset, .answer = FAKE_DONE,
	.options.ignore_bad_in_fences = true)
{
	int ret = 1;

	vmm->arg = &ret;
	driver_open(driver, vmm, 1);
	vmm->on_log = reset_in_log;
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1000), NO_IN_FENCES), 0);
	assert_int_equal(ret, 0);
	assert_jobs(driver, ID(2), ID(0));
	assert_retired(vmm, 0, 1, 0, 2, 0);
	assert_idle(vmm);
}

/* ---- Order from inside a callback --------------------------------------------------------- */

struct nested {
	unsigned int depth, deepest;
	int ret;
};

static void dispatch_again(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct nested *nested = vmm->arg;

	if (++nested->depth > nested->deepest) {
		nested->deepest = nested->depth;
	}
	nested->ret += vgf_device_dispatch(vmm->device, 0);
	nested->depth--;
}

TEST_VMM(dispatching_in_each_callback_keeps_the_order)
{
	struct nested nested = { 0 };

	vmm->arg = &nested;
	vmm->on_retire = dispatch_again;
	for (uint64_t id = 1; id <= 5; id++) {
		assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, id, VGF_FENCE_DONE), 0);
	}
	assert_int_equal(vgf_device_dispatch(vmm->device, 0) + nested.ret, 5);
	assert_all_retired(vmm, ID(1), ID(2), ID(3), ID(4), ID(5), ID(0));
	assert_int_equal(nested.deepest, 5);
	assert_idle(vmm);
}

TEST_VMM(callbacks_that_dispatch_are_not_nested_without_end)
{
	struct nested nested = { 0 };

	vmm->arg = &nested;
	vmm->on_retire = dispatch_again;
	for (uint64_t id = 1; id <= 1000; id++) {
		assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, id, VGF_FENCE_DONE), 0);
	}
	assert_int_equal(vgf_device_dispatch(vmm->device, 0) + nested.ret, 1000);
	assert_int_equal(vmm->num_retired, 1000);
	for (unsigned int i = 0; i < 1000; i++) {
		assert_int_equal(vmm->retired[i].name.fence_id, i + 1);
	}
	assert_int_equal(nested.deepest, 16);
	assert_idle(vmm);
}

/* Fences that are done, of which each callback does something. */
static void run_nested(struct fake_vmm *vmm,
	void (*on_retire)(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status))
{
	for (uint64_t id = 1; id <= 1000; id++) {
		assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, id, VGF_FENCE_DONE), 0);
	}
	vmm->on_retire = on_retire;
	vmm_dispatch(vmm);
	assert_int_equal(vmm->num_retired, 1000);
	for (unsigned int i = 0; i < 1000; i++) {
		assert_int_equal(vmm->retired[i].name.fence_id, i + 1);
	}
	assert_idle(vmm);
}

static void drain_again(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct nested *nested = vmm->arg;

	if (++nested->depth > nested->deepest) {
		nested->deepest = nested->depth;
	}
	if (vgf_device_drain(vmm->device, -1) == -EDEADLK) {
		nested->ret++;
	}
	nested->depth--;
}

TEST_VMM(callbacks_that_drain_are_not_nested_without_end)
{
	struct nested nested = { 0 };

	vmm->arg = &nested;
	run_nested(vmm, drain_again);
	assert_int_equal(nested.deepest, 16);
	assert_int_equal(nested.ret, 1000 - 15);
}

static void reset_again(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct nested *nested = vmm->arg;

	if (++nested->depth > nested->deepest) {
		nested->deepest = nested->depth;
	}
	nested->ret += vgf_device_reset(vmm->device);
	nested->depth--;
}

/* The first callback's reset cancels the others, and each of these has its callback in it. */
TEST_VMM(callbacks_that_reset_are_not_nested_without_end)
{
	struct nested nested = { 0 };

	vmm->arg = &nested;
	run_nested(vmm, reset_again);
	assert_int_equal(nested.deepest, 2);
	assert_int_equal(nested.ret, 0);
}

static void dispatch_drain_and_reset(
	struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct nested *nested = vmm->arg;

	if (++nested->depth > nested->deepest) {
		nested->deepest = nested->depth;
	}
	vgf_device_dispatch(vmm->device, 0);
	vgf_device_drain(vmm->device, 0);
	vgf_device_reset(vmm->device);
	nested->depth--;
}

TEST_VMM(a_reset_may_be_inside_of_the_last_round)
{
	struct nested nested = { 0 };

	vmm->arg = &nested;
	run_nested(vmm, dispatch_drain_and_reset);
	assert_int_equal(nested.deepest, 17);
}

static void submit_next(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	if (name->fence_id < 200) {
		assert_int_equal(submit(vmm, 1, 0, name->fence_id + 1, NO_IN_FENCES), 0);
	}
}

TEST_VMM(a_callback_that_always_makes_new_work_does_not_starve_the_vmm, .answer = FAKE_DONE,
	.options.budget_items = 64)
{
	int ret;

	vmm->on_retire = submit_next;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	ret = vgf_device_dispatch(vmm->device, 0);
	assert_in_range(ret, 1, 199);
	vmm_dispatch(vmm);
	assert_int_equal(vmm->num_retired, 200);
}

static void give_up_told_fence(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	assert_int_equal(vgf_fence_cancel(vmm->device, name, -ECANCELED), -ENOENT);
	assert_int_equal(vgf_fence_signal(vmm->device, name, 0), -ENOENT);
}

TEST_VMM(a_fence_is_gone_when_it_is_told)
{
	vmm->on_retire = give_up_told_fence;
	create_by_call(vmm, 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
}

static void name_told_fence(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	if (name->fence_id == 1) {
		assert_int_equal(submit(vmm, 1, 0, 9, ID(1), NO_IN_FENCES), 0);
	}
}

TEST_VMM(a_fence_is_done_when_it_is_told, .answer = FAKE_DONE)
{
	vmm->on_retire = name_told_fence;
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_int_equal(driver_job(driver, 9)->wait, VGF_WAIT_NONE);
}

static void use_after_reset(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct fake_driver *driver = vmm->arg;

	vmm->on_retire = NULL;
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
}

/* Fences of before the reset are still in the hands of the callback. */
TEST_VMM(a_device_works_right_after_a_reset_from_retire)
{
	vmm->arg = driver;
	vmm->on_retire = use_after_reset;
	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 3; id++) {
		assert_int_equal(submit(vmm, 1, 0, id, NO_IN_FENCES), 0);
	}
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 2, 0), 0);
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(1), ID(2), ID(3), ID(0));
	assert_int_equal(vmm->retired[1].status, 0);
	assert_int_equal(vmm->retired[2].status, -ECANCELED);
	assert_int_equal(signal_call(vmm, 1, 0, 1, 0), 0);
	vmm_dispatch(vmm);
	assert_int_equal(signal_call(vmm, 1, 0, 2, 0), 0);
	vmm_dispatch(vmm);
	assert_all_retired(vmm, ID(1), ID(2), ID(3), ID(1), ID(2), ID(0));
	assert_idle(vmm);
}

static void dispatch_then_destroy(
	struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct nested *nested = vmm->arg;

	if (nested->depth++ == 0) {
		nested->ret = vgf_device_dispatch(vmm->device, 0);
	} else if (vmm->device) {
		vgf_device_destroy(vmm->device);
		vmm->device = NULL;
	}
}

TEST_VMM(destroying_the_device_two_dispatches_deep_ends_both)
{
	struct nested nested = { 0 };

	vmm->arg = &nested;
	vmm->on_retire = dispatch_then_destroy;
	for (uint64_t id = 1; id <= 4; id++) {
		create_by_call(vmm, id);
	}
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(signal_global(vmm, 2), 0);
	assert_int_equal(vgf_device_dispatch(vmm->device, 0), -ECANCELED);
	assert_int_equal(nested.ret, -ECANCELED);
	assert_all_retired(vmm, ID(1), ID(2), ID(3), ID(4), ID(0));
}

static void destroy_device(struct fake_vmm *vmm)
{
	struct vgf_device *device = vmm->device;

	vmm->device = NULL;
	vgf_device_destroy(device);
}

static void destroy_in_retire(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	destroy_device(vmm);
	assert_int_equal(vmm->num_batches, 1);
}

TEST_VMM(destroying_the_device_from_retire_ends_the_batch)
{
	vmm->on_retire = destroy_in_retire;
	create_by_call(vmm, 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vgf_device_dispatch(vmm->device, 0), -ECANCELED);
	assert_int_equal(vmm->num_retired, 1);
	assert_int_equal(vmm->num_batches, 1);
}

struct late {
	struct vgf_device *device;
	struct fake_driver *driver;
	int context, fence;
};

static void destroy_late(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	destroy_device(vmm);
}

static void create_late(struct fake_vmm *vmm)
{
	struct late *late = vmm->arg;
	struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, 9);

	late->context = vgf_context_create(late->device, 1, &late->driver->driver, late->driver);
	late->fence = create_take(late->device, &name, 0, VGF_FENCE_BY_CALL);
}

TEST_VMM(the_last_batch_of_a_device_accepts_nothing_new)
{
	struct late late = { .device = vmm->device, .driver = driver };

	vmm->arg = &late;
	vmm->on_retire = destroy_late;
	vmm->on_batch = create_late;
	create_by_call(vmm, 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vgf_device_dispatch(vmm->device, 0), -ECANCELED);
	assert_int_equal(late.context, -ECANCELED);
	assert_int_equal(late.fence, -ECANCELED);
	assert_int_equal(vmm->num_retired, 1);
}

TEST_VMM(destroying_the_device_at_the_end_of_a_batch_ends_no_other)
{
	vmm->on_batch = destroy_device;
	create_by_call(vmm, 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vgf_device_dispatch(vmm->device, 0), -ECANCELED);
	assert_int_equal(vmm->num_retired, 1);
	assert_int_equal(vmm->num_batches, 1);
}

static void destroy_in_teardown(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	destroy_device(vmm);
}

TEST_VMM(destroying_the_device_from_retire_ends_a_drain)
{
	vmm->on_retire = destroy_in_teardown;
	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vgf_device_drain(vmm->device, -1), -ECANCELED);
	assert_int_equal(vmm->num_retired, 2);
}

TEST_VMM(destroying_the_device_from_retire_ends_a_reset)
{
	vmm->on_retire = destroy_in_teardown;
	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	vgf_device_reset(vmm->device);
	assert_int_equal(vmm->num_retired, 2);
}

/* ---- The library's own thread ------------------------------------------------------------- */

struct own_thread {
	sem_t told;
	pthread_t thread;
	bool set, other;
};

static void note_thread(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct own_thread *own = vmm->arg;

	own->other |= own->set && !pthread_equal(own->thread, pthread_self());
	own->thread = pthread_self();
	own->set = true;
	sem_post(&own->told);
}

/* Promise 6. */
TEST_VMM(callbacks_come_from_the_librarys_own_thread, .options.own_thread = true)
{
	struct own_thread own = { 0 };

	sem_init(&own.told, 0, 0);
	vmm->arg = &own;
	vmm->on_retire = note_thread;
	for (uint64_t id = 1; id <= 100; id++) {
		create_by_call(vmm, id);
		assert_int_equal(signal_global(vmm, id), 0);
		if (id % 2 == 0) {
			sem_wait(&own.told);
			sem_wait(&own.told);
		}
	}
	vmm_destroy_device(vmm);
	assert_int_equal(vmm->num_retired, 100);
	assert_false(own.other);
	assert_false(pthread_equal(own.thread, pthread_self()));
	sem_destroy(&own.told);
}

static void destroy_from_own_thread(
	struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct own_thread *own = vmm->arg;

	if (name->fence_id == 1) {
		vgf_device_destroy(vmm->device);
		sem_post(&own->told);
	}
}

TEST_VMM(the_librarys_own_thread_may_destroy_the_device, .options.own_thread = true)
{
	struct own_thread own = { 0 };

	sem_init(&own.told, 0, 0);
	vmm->arg = &own;
	vmm->on_retire = destroy_from_own_thread;
	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	assert_int_equal(signal_global(vmm, 1), 0);
	sem_wait(&own.told);
	vmm->device = NULL;
	assert_all_retired(vmm, ID(1), ID(2), ID(0));
	assert_int_equal(vmm->retired[1].status, -ECANCELED);
	sem_destroy(&own.told);
}

TEST_VMM(the_librarys_own_thread_goes_on_after_a_reset, .options.own_thread = true)
{
	struct own_thread own = { 0 };

	sem_init(&own.told, 0, 0);
	vmm->arg = &own;
	vmm->on_retire = note_thread;
	for (int i = 0; i < 20; i++) {
		create_by_call(vmm, 1);
		assert_int_equal(vgf_device_reset(vmm->device), 0);
		sem_wait(&own.told);
		create_by_call(vmm, 1);
		assert_int_equal(signal_global(vmm, 1), 0);
		sem_wait(&own.told);
		assert_int_equal(vgf_device_reset(vmm->device), 0);
	}
	vmm_destroy_device(vmm);
	assert_int_equal(vmm->num_retired, 40);
	sem_destroy(&own.told);
}

/* ---- Many threads ------------------------------------------------------------------------- */

enum { THREADS = 4, THREAD_FENCES = 500 };

struct worker {
	struct fake_vmm *vmm;
	uint32_t ctx_id;
	bool ok;
};

static void *submit_and_signal(void *arg)
{
	struct worker *worker = arg;
	struct fake_vmm *vmm = worker->vmm;
	bool will_retire, ok = true;

	for (uint64_t i = 0; i < THREAD_FENCES; i++) {
		uint64_t id = 2 * (i * THREADS + worker->ctx_id); /* and the next, of no one else */
		struct vgf_fence_name name = make_name(worker->ctx_id, 1, id);

		create_take(vmm->device, &name, 0, VGF_FENCE_BY_CALL);
		submit_flags(vmm, worker->ctx_id, 0, id + 1, VGF_FENCED, &id, 1, &will_retire);
		ok &= will_retire;
		vgf_fence_signal(vmm->device, &name, 0);
	}
	worker->ok = ok;
	return NULL;
}

TEST_VMM(many_threads_submit_and_signal, .options.own_thread = true)
{
	struct fake_driver *drivers[THREADS];
	struct worker workers[THREADS];
	pthread_t threads[THREADS];
	uint64_t last[THREADS][2] = { 0 };

	for (uint32_t i = 0; i < THREADS; i++) {
		drivers[i] = driver_create(vmm, VGF_WAIT_HOST, FAKE_DONE);
		drivers[i]->driver.independent_rings = true;
		driver_open(drivers[i], vmm, i);
		workers[i] = (struct worker){ .vmm = vmm, .ctx_id = i };
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		assert_int_equal(
			pthread_create(&threads[i], NULL, submit_and_signal, &workers[i]), 0);
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_true(workers[i].ok);
	}
	assert_int_equal(vgf_device_drain(vmm->device, -1), 0);
	assert_idle(vmm);
	assert_int_equal(get_stats(vmm).retired, 2 * THREADS * THREAD_FENCES);
	assert_int_equal(get_stats(vmm).failed, 0);
	/* The drivers have seen no more than that. */
	vmm_destroy_device(vmm);
	for (uint32_t i = 0; i < THREADS; i++) {
		assert_int_equal(drivers[i]->num_jobs, THREAD_FENCES);
		for (unsigned int n = 0; n < THREAD_FENCES; n++) {
			assert_true(drivers[i]->jobs[n].fence.fence_id > last[i][0]);
			last[i][0] = drivers[i]->jobs[n].fence.fence_id;
		}
	}
}

struct resetting_worker {
	struct fake_vmm *vmm;
	struct fake_driver *driver;
	uint32_t ctx_id;
};

/* Much of this is refused: another thread resets the device all the time. */
static void *submit_whatever_happens(void *arg)
{
	struct resetting_worker *worker = arg;
	struct vgf_device *device = worker->vmm->device;
	bool will_retire;

	for (uint64_t i = 1; i <= 400; i++) {
		uint64_t id = 3 * i * THREADS + worker->ctx_id;
		struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, id);

		if (i % 8 == 1) {
			vgf_context_destroy(device, worker->ctx_id);
			vgf_context_create(
				device, worker->ctx_id, &worker->driver->driver, worker->driver);
		}
		create_take(device, &name, VGF_SHAREABLE, VGF_FENCE_BY_CALL);
		submit_flags(worker->vmm, worker->ctx_id, 0, id + THREADS, VGF_FENCED, &id, 1,
			&will_retire);
		name = make_name(0, VGF_RING_GLOBAL, i % 4 ? id : id - 3 * THREADS);
		vgf_fence_signal(device, &name, 0);
	}
	return NULL;
}

TEST_VMM(resets_come_while_threads_submit, .options.own_thread = true)
{
	struct resetting_worker workers[THREADS];
	pthread_t threads[THREADS];

	for (uint32_t i = 0; i < THREADS; i++) {
		workers[i] = (struct resetting_worker){
			.vmm = vmm,
			.driver = driver_create(vmm, VGF_WAIT_HOST, FAKE_DONE),
			.ctx_id = i,
		};
		assert_int_equal(
			pthread_create(&threads[i], NULL, submit_whatever_happens, &workers[i]), 0);
	}
	for (int i = 0; i < 50; i++) {
		assert_int_equal(vgf_device_reset(vmm->device), 0);
		assert_int_equal(vgf_device_drain(vmm->device, 0) % ETIMEDOUT, 0);
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_idle(vmm);
	assert_int_equal(get_stats(vmm).contexts, 0);
	assert_int_equal(get_stats(vmm).retired, get_stats(vmm).created);
}

/* ---- Messages ------------------------------------------------------------------------------ */

#define NUM_FAILING 40 /* on a ring each, in one round */

static unsigned int num_errors;

static void count_errors(void *cookie, enum vgf_log_level level, const char *message)
{
	(void)cookie;
	(void)message;
	num_errors += level == VGF_LOG_ERROR;
}

static void ignore_retired(void *cookie, const struct vgf_retired *retired)
{
	(void)cookie;
	(void)retired;
}

/* What nobody can poll. */
static int submit_null(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	(void)data;
	(void)job;
	*out_fence_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return 0;
}

TEST(each_error_of_a_round_is_told)
{
	const struct vgf_callbacks callbacks = {
		.size = sizeof(callbacks), .retire = ignore_retired, .log = count_errors
	};
	const struct vgf_options options = { .size = sizeof(options), .budget_ns = UINT64_MAX };
	const struct vgf_driver driver = {
		.size = sizeof(driver), .wait = VGF_WAIT_HOST, .submit = submit_null
	};
	const struct vgf_fence_name gate = make_name(0, VGF_RING_GLOBAL, 1);
	struct vgf_device *device;

	num_errors = 0;
	assert_int_equal(vgf_device_create(&callbacks, NULL, &options, &device), 0);
	assert_int_equal(vgf_context_create(device, 1, &driver, NULL), 0);
	assert_int_equal(create_take(device, &gate, VGF_SHAREABLE, VGF_FENCE_BY_CALL), 0);
	for (uint64_t i = 0; i < NUM_FAILING; i++) {
		const struct vgf_submission submission = {
			.fence = make_name(1, (int32_t)i, 2 + i),
			.flags = VGF_FENCED,
			.in_fences = &gate.fence_id,
			.num_in_fences = 1,
		};

		assert_int_equal(vgf_submit(device, &submission, NULL), 1);
	}
	assert_int_equal(vgf_fence_signal(device, &gate, 0), 0);
	while (vgf_device_dispatch(device, 0) > 0) {
	}
	assert_int_equal(num_errors, NUM_FAILING);
	vgf_device_destroy(device);
}
