/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * How long one context can keep the others waiting: a round of dispatching has a budget, what is
 * left goes on in the next one, and contexts take turns. It is linked with -Wl,--wrap=ppoll.
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "fake.h"

#define HOSTILE 1
#define BYSTANDER 2

/* On the global timeline: what held work waits for. */
#define GATE 1

static void create_gate(struct fake_vmm *vmm)
{
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, GATE, VGF_FENCE_BY_CALL), 0);
}

static void open_gate(struct fake_vmm *vmm)
{
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, GATE, 0), 0);
}

/* Work that the gate holds back, on rings 0 to num_rings - 1 in turn, with IDs from first_id on. */
static void hold(struct fake_vmm *vmm, uint32_t ctx_id, int32_t num_rings, uint64_t first_id,
	unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		assert_int_equal(submit(vmm, ctx_id, (int32_t)i % num_rings, first_id + i, ID(GATE),
					 NO_IN_FENCES),
			1);
	}
}

/* One round, not as many as it takes. Returns how many fences retired. */
static unsigned int dispatch_once(struct fake_vmm *vmm)
{
	int ret = vgf_device_dispatch(vmm->device, 0);

	assert_true(ret >= 0);
	return (unsigned int)ret;
}

static bool is_readable(const struct fake_vmm *vmm)
{
	struct pollfd fd = { .fd = vgf_device_get_fd(vmm->device), .events = POLLIN };

	return poll(&fd, 1, 0) == 1;
}

/* ---- Running ------------------------------------------------------------------------------ */

TEST_VMM(a_round_runs_as_many_jobs_as_it_may, .answer = FAKE_CALL, .options.budget_items = 4)
{
	driver_open(driver, vmm, HOSTILE);
	create_gate(vmm);
	hold(vmm, HOSTILE, 1, 10, 10);
	open_gate(vmm);
	for (unsigned int jobs = 4; jobs <= 12; jobs += 4) {
		assert_true(is_readable(vmm));
		dispatch_once(vmm);
		assert_int_equal(driver->num_jobs, jobs < 10 ? jobs : 10);
	}
	assert_int_equal(dispatch_once(vmm), 0);
	assert_false(is_readable(vmm));
	assert_jobs(driver, ID(10), ID(11), ID(12), ID(13), ID(14), ID(15), ID(16), ID(17), ID(18),
		ID(19), ID(0));
}

static void take_a_microsecond(struct fake_driver *driver, const struct vgf_job *job)
{
	const struct timespec microsecond = { .tv_nsec = 1000 };

	nanosleep(&microsecond, NULL);
}

/* Whatever the time that a job takes, it is more than a nanosecond. */
TEST_VMM(a_round_ends_when_its_time_is_over, .answer = FAKE_CALL, .options.budget_ns = 1)
{
	driver->on_submit = take_a_microsecond;
	driver_open(driver, vmm, HOSTILE);
	create_gate(vmm);
	hold(vmm, HOSTILE, 1, 10, 3);
	open_gate(vmm);
	for (unsigned int jobs = 1; jobs <= 3; jobs++) {
		assert_true(is_readable(vmm));
		dispatch_once(vmm);
		assert_int_equal(driver->num_jobs, jobs);
	}
}

/* What signals while a flood runs is told in the round after that. */
TEST_VMM(a_callback_waits_for_one_round_of_a_flood, .answer = FAKE_FD, .options.budget_items = 5)
{
	driver_open(driver, vmm, HOSTILE);
	driver_open(driver, vmm, BYSTANDER);
	create_gate(vmm);
	hold(vmm, HOSTILE, 1, 10, 100);
	assert_int_equal(submit(vmm, BYSTANDER, 0, 2, NO_IN_FENCES), 0);
	open_gate(vmm);
	assert_int_equal(dispatch_once(vmm), 1);
	driver_signal(driver, 2);
	assert_int_equal(dispatch_once(vmm), 1);
	assert_retired(vmm, 1, BYSTANDER, 0, 2, 0);
	assert_true(driver->num_jobs <= 1 + 2 * 5);
}

/* Whatever is held back may wait for a fence that signals, and is told then. */
TEST_VMM(the_more_is_held_the_fewer_signals_a_round_takes_note_of, .answer = FAKE_FD)
{
	unsigned int rounds = 0;

	driver->driver.independent_rings = true;
	driver_open(driver, vmm, HOSTILE);
	driver_open(driver, vmm, BYSTANDER);
	create_gate(vmm);
	hold(vmm, HOSTILE, 1, 1000, 1023);
	for (int32_t ring = 0; ring < VGF_MAX_RINGS; ring++) {
		uint64_t id = 10 + (uint64_t)ring;
		assert_int_equal(submit(vmm, BYSTANDER, ring, id, NO_IN_FENCES), 0);
	}
	dispatch_once(vmm);
	for (uint64_t id = 10; id < 10 + VGF_MAX_RINGS; id++) {
		driver_signal(driver, id);
	}
	while (vmm->num_retired < VGF_MAX_RINGS) {
		assert_in_range(dispatch_once(vmm), 1, 32768 / 1024);
		rounds++;
	}
	assert_int_equal(rounds, 2);
	open_gate(vmm);
}

static void signal_bystander(struct fake_driver *driver, const struct vgf_job *job)
{
	if (job->fence.fence_id == 10) {
		driver_signal(driver, 2);
	}
}

/* The same if it comes in the middle of a round. */
TEST_VMM(a_callback_waits_for_no_more_than_the_rest_of_a_round, .answer = FAKE_FD,
	.options.budget_items = 5)
{
	driver_open(driver, vmm, HOSTILE);
	driver_open(driver, vmm, BYSTANDER);
	create_gate(vmm);
	hold(vmm, HOSTILE, 1, 10, 100);
	assert_int_equal(submit(vmm, BYSTANDER, 0, 2, NO_IN_FENCES), 0);
	driver->on_submit = signal_bystander;
	open_gate(vmm);
	dispatch_once(vmm);
	dispatch_once(vmm);
	assert_retired(vmm, 1, BYSTANDER, 0, 2, 0);
}

TEST_VMM(contexts_take_turns, .answer = FAKE_CALL)
{
	driver_open(driver, vmm, HOSTILE);
	driver_open(driver, vmm, BYSTANDER);
	create_gate(vmm);
	hold(vmm, HOSTILE, 1, 10, 4);
	hold(vmm, BYSTANDER, 1, 20, 2);
	open_gate(vmm);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(10), ID(20), ID(11), ID(21), ID(12), ID(13), ID(0));
}

/* A context with many rings has no more turns than one that has one. */
TEST_VMM(rings_share_the_turns_of_their_context, .answer = FAKE_CALL)
{
	driver->driver.independent_rings = true;
	driver_open(driver, vmm, HOSTILE);
	driver_open(driver, vmm, BYSTANDER);
	create_gate(vmm);
	hold(vmm, HOSTILE, 3, 10, 6);
	hold(vmm, BYSTANDER, 1, 20, 3);
	open_gate(vmm);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(10), ID(20), ID(11), ID(21), ID(12), ID(22), ID(13), ID(14), ID(15),
		ID(0));
}

/* A turn that waits for a descriptor is not lost in a flood that needs none. */
TEST_VMM(work_that_waits_for_a_descriptor_is_not_last, .answer = FAKE_FD,
	.options = { .limits.max_fds = 2, .limits.max_context_fds = 2, .budget_items = 4 })
{
	struct fake_driver *flood = driver_create(vmm, VGF_WAIT_HOST, FAKE_DONE);
	unsigned int rounds = 0;

	driver_open(driver, vmm, BYSTANDER);
	driver_open(flood, vmm, HOSTILE);
	assert_int_equal(submit(vmm, BYSTANDER, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, BYSTANDER, 0, 3, NO_IN_FENCES), 1);
	vmm_dispatch(vmm);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 4, VGF_FENCE_BY_CALL), 0);
	for (unsigned int i = 0; i < 100; i++) {
		assert_int_equal(
			submit_flags(vmm, HOSTILE, 0, 0, 0, &(const uint64_t){ 4 }, 1, NULL), 1);
	}
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 4, 0), 0);
	dispatch_once(vmm);
	driver_signal(driver, 2);
	while (!driver_has(driver, 3)) {
		dispatch_once(vmm);
		assert_true(++rounds <= 3);
	}
}

/* ---- Submitting --------------------------------------------------------------------------- */

static void submit_more(struct fake_driver *driver, const struct vgf_job *job)
{
	struct fake_vmm *vmm = driver->arg;

	if (job->fence.fence_id == 1) {
		for (uint64_t id = 2; id <= 5; id++) {
			assert_int_equal(submit(vmm, HOSTILE, 0, id, NO_IN_FENCES), 1);
		}
	}
}

TEST_VMM(a_submission_runs_no_work_but_its_own, .answer = FAKE_CALL)
{
	driver->on_submit = submit_more;
	driver->arg = vmm;
	driver_open(driver, vmm, HOSTILE);
	assert_int_equal(submit(vmm, HOSTILE, 0, 1, NO_IN_FENCES), 0);
	assert_jobs(driver, ID(1), ID(0));
	assert_true(is_readable(vmm));
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(1), ID(2), ID(3), ID(4), ID(5), ID(0));
}

static void submit_behind_call(void *arg, int status)
{
	struct fake_vmm *vmm = arg;

	assert_int_equal(status, 0);
	assert_int_equal(submit(vmm, HOSTILE, 0, 1, NO_IN_FENCES), 1);
}

TEST_VMM(a_deferred_call_runs_no_work_behind_it, .answer = FAKE_CALL)
{
	driver_open(driver, vmm, HOSTILE);
	assert_int_equal(defer_call(vmm->device, HOSTILE, submit_behind_call, vmm), 0);
	assert_int_equal(driver->num_jobs, 0);
	vmm_dispatch(vmm);
	assert_jobs(driver, ID(1), ID(0));
}

/* ---- Retiring ----------------------------------------------------------------------------- */

TEST_VMM(timelines_take_turns)
{
	driver_open(driver, vmm, HOSTILE);
	driver_open(driver, vmm, BYSTANDER);
	for (uint64_t id = 1; id <= 1000; id++) {
		assert_int_equal(create_fence(vmm, HOSTILE, 0, id, VGF_FENCE_DONE), 0);
	}
	assert_int_equal(create_fence(vmm, BYSTANDER, 0, 5000, VGF_FENCE_DONE), 0);
	assert_int_equal(dispatch_once(vmm), 1001);
	for (unsigned int i = 0; i < 100; i++) {
		if (vmm->retired[i].name.fence_id == 5000) {
			return;
		}
	}
	fail_msg("the callback came behind more than 100 others");
}

/* Neither turns nor budgets make more callbacks of them. */
TEST_VMM(mergeable_fences_are_merged_over_turns_and_rounds, .options.budget_items = 100)
{
	for (uint32_t ctx_id = 1; ctx_id <= 2; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
		for (uint64_t id = 1; id <= 500; id++) {
			struct vgf_fence_name name = make_name(ctx_id, 0, 1000 * ctx_id + id);
			assert_int_equal(
				create_take(vmm->device, &name, VGF_MERGEABLE, VGF_FENCE_DONE), 0);
		}
	}
	while (dispatch_once(vmm) > 0) {
	}
	assert_all_retired(vmm, ID(1500), ID(2500), ID(0));
	assert_int_equal(get_stats(vmm).retired, 1000);
}

TEST_VMM(a_round_retires_as_many_fences_as_it_may, .options.budget_items = 100)
{
	unsigned int count;

	driver_open(driver, vmm, HOSTILE);
	for (uint64_t id = 1; id <= 1000; id++) {
		assert_int_equal(create_fence(vmm, HOSTILE, 0, id, VGF_FENCE_DONE), 0);
	}
	/* It looks at its budget now and then. */
	count = dispatch_once(vmm);
	assert_in_range(count, 100, 200);
	assert_true(is_readable(vmm));
	assert_int_equal(vmm->num_batches, 1);
	assert_int_equal(vmm_dispatch(vmm), 1000 - count);
}

static void create_another(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	if (name->ctx_id == HOSTILE) {
		assert_int_equal(
			create_fence(vmm, HOSTILE, 0, name->fence_id + 1, VGF_FENCE_DONE), 0);
	}
}

/* Even if each callback makes another that is done. */
TEST_VMM(work_runs_beside_a_flood_of_fences, .answer = FAKE_CALL, .options.budget_items = 100)
{
	driver_open(driver, vmm, HOSTILE);
	driver_open(driver, vmm, BYSTANDER);
	create_gate(vmm);
	hold(vmm, BYSTANDER, 1, 2, 3);
	vmm->on_retire = create_another;
	assert_int_equal(create_fence(vmm, HOSTILE, 0, 10, VGF_FENCE_DONE), 0);
	open_gate(vmm);
	dispatch_once(vmm);
	assert_true(is_readable(vmm));
	assert_jobs(driver, ID(2), ID(3), ID(4), ID(0));
	vmm->on_retire = NULL;
}

/* ---- Asking descriptors ------------------------------------------------------------------- */

/* The names are the linker's. */
int __real_ppoll(
	struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask);
int __wrap_ppoll(
	struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask);

static unsigned int num_polls;

int __wrap_ppoll(
	struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	num_polls++;
	return __real_ppoll(fds, count, timeout, mask);
}

#define RINGS 32
#define DONE 500

/* Many timelines whose next fence is pending, beside one with many that have signalled. */
TEST_VMM(each_descriptor_is_asked_once_when_it_comes_forward)
{
	int fds[RINGS];

	driver_open(driver, vmm, HOSTILE);
	for (int i = 0; i < RINGS; i++) {
		assert_int_equal(
			create_fence(vmm, HOSTILE, i, (uint64_t)i + 1, VGF_FENCE_BY_CALL), 0);
		fds[i] = create_fence_fd(vmm, HOSTILE, i, 100 + (uint64_t)i);
	}
	assert_int_equal(create_fence(vmm, HOSTILE, RINGS, 1000, VGF_FENCE_BY_CALL), 0);
	for (int i = 1; i <= DONE; i++) {
		assert_int_equal(
			create_fence(vmm, HOSTILE, RINGS, 1000 + (uint64_t)i, make_fence(true)), 0);
	}
	for (int i = 0; i < RINGS; i++) {
		assert_int_equal(signal_call(vmm, HOSTILE, i, (uint64_t)i + 1, 0), 0);
	}
	assert_int_equal(signal_call(vmm, HOSTILE, RINGS, 1000, 0), 0);
	num_polls = 0;
	assert_int_equal(vmm_dispatch(vmm), RINGS + 1 + DONE);
	assert_int_equal(num_polls, RINGS + DONE);
	for (int i = 0; i < RINGS; i++) {
		signal_fence(fds[i]);
		close(fds[i]);
	}
	assert_int_equal(vmm_dispatch(vmm), RINGS);
	assert_int_equal(num_polls, RINGS + DONE);
}

#define PENDING 130

static void create_pending(struct fake_vmm *vmm, uint32_t ctx_id, int *fds)
{
	for (int i = 0; i < PENDING; i++) {
		fds[i] = create_fence_fd(vmm, ctx_id, 0, 1000 * ctx_id + (uint64_t)i);
	}
}

static void close_all(const int *fds)
{
	for (int i = 0; i < PENDING; i++) {
		close(fds[i]);
	}
}

/* Signals so many, and dispatches until they have retired. Returns how many calls that took. */
static unsigned int pass_together(struct fake_vmm *vmm, const int *fds, unsigned int count)
{
	unsigned int retired = 0, calls = 0;

	for (unsigned int i = 0; i < count; i++) {
		signal_fence(fds[i]);
	}
	while (retired < count) {
		unsigned int more = (unsigned int)vgf_device_dispatch(vmm->device, 0);
		assert_in_range(more, 1, count - retired);
		retired += more;
		calls++;
	}
	return calls;
}

TEST_VMM(few_are_asked_where_they_signal_one_by_one)
{
	int fds[PENDING];

	driver_open(driver, vmm, HOSTILE);
	create_pending(vmm, HOSTILE, fds);
	num_polls = 0;
	for (int i = 0; i < PENDING; i++) {
		pass_together(vmm, fds + i, 1);
	}
	/* After the first 21, where it learns, one of 6 and one of 7 in turns. */
	assert_in_range(num_polls, PENDING / 8, 7 + PENDING / 6);
	close_all(fds);
}

/* However many signal together, soon they need one call again. */
TEST_VMM(all_are_asked_again_where_they_signal_together)
{
	for (unsigned int together = 2; together <= 10; together++) {
		unsigned int calls = 0, passed = 50;
		int fds[PENDING];

		driver_open(driver, vmm, together);
		create_pending(vmm, together, fds);
		for (unsigned int i = 0; i < passed; i++) {
			pass_together(vmm, fds + i, 1);
		}
		for (; passed + together <= PENDING; passed += together) {
			calls = pass_together(vmm, fds + passed, together);
		}
		assert_int_equal(calls, 1);
		while (passed < PENDING) {
			pass_together(vmm, fds + passed++, 1);
		}
		close_all(fds);
	}
}
