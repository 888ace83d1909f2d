/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* From signal to callback nothing is allocated, whatever signals, and whatever can go on then. */

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <unistd.h>

#include "alloc.h"
#include "fake.h"

/* With and without a log. */
static struct fake_vmm *make_vmm(const struct vgf_options *options, bool with_log)
{
	struct vgf_callbacks callbacks = fake_callbacks;

	if (!with_log) {
		callbacks.log = NULL;
		callbacks.stalled = NULL;
		callbacks.retire_end = NULL;
	}
	return vmm_create_with(&callbacks, options);
}

/* Counts the allocations of `statement`, also those of the tests' callbacks, which make none
 * either. */
#define assert_allocates_nothing(statement)                                                        \
	do {                                                                                       \
		unsigned long allocations_before = alloc_count();                                  \
		statement;                                                                         \
		assert_int_equal(alloc_count(), allocations_before);                               \
	} while (0)

/* ---- What signals ------------------------------------------------------------------------- */

static void signal_by_call(bool with_log)
{
	struct fake_vmm *vmm = make_vmm(NULL, with_log);

	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 2, VGF_FENCE_BY_CALL), 0);
	assert_allocates_nothing({
		assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
		assert_int_equal(vmm_dispatch(vmm), 1);
		assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 2, -EIO), 0);
		assert_int_equal(vmm_dispatch(vmm), 1);
	});
	assert_idle(vmm);
	vmm_destroy(vmm);
}

TEST(a_call_allocates_nothing)
{
	signal_by_call(true);
	signal_by_call(false);
}

static void signal_by_descriptor(bool with_log)
{
	struct fake_vmm *vmm = make_vmm(NULL, with_log);
	int fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);

	assert_allocates_nothing({
		signal_fence(fd);
		assert_int_equal(vmm_dispatch(vmm), 1);
	});
	assert_idle(vmm);
	vmm_destroy(vmm);
	close(fd);
}

TEST(a_descriptor_allocates_nothing)
{
	signal_by_descriptor(true);
	signal_by_descriptor(false);
}

static void signal_by_hanging_up(bool with_log)
{
	struct fake_vmm *vmm = make_vmm(NULL, with_log);
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, fds[0]), 0);
	assert_allocates_nothing({
		close(fds[1]);
		assert_int_equal(vmm_dispatch(vmm), 1);
	});
	assert_retired(vmm, 0, 0, VGF_RING_GLOBAL, 1, -EIO);
	vmm_destroy(vmm);
}

TEST(a_descriptor_that_fails_allocates_nothing)
{
	signal_by_hanging_up(true);
	signal_by_hanging_up(false);
}

static void give_up(bool with_log)
{
	struct fake_vmm *vmm = make_vmm(NULL, with_log);
	struct fake_driver *driver = driver_create(vmm, VGF_WAIT_HOST, FAKE_FD);

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	for (uint64_t id = 2; id < 20; id++) {
		assert_int_equal(submit(vmm, 1, 0, id, id - 1, NO_IN_FENCES), 1);
	}
	assert_allocates_nothing({
		assert_int_equal(cancel_fence(vmm, 1, 0, 5, -EIO), 0);
		assert_int_equal(vmm_dispatch(vmm), 0);
		assert_int_equal(cancel_context(vmm->device, 1), 0);
		assert_int_equal(vmm_dispatch(vmm), 0);
		assert_int_equal(cancel_fence(vmm, 1, 0, 1, -EIO), 0);
		assert_int_equal(vmm_dispatch(vmm), 19);
	});
	assert_idle(vmm);
	vmm_destroy(vmm);
}

TEST(giving_up_allocates_nothing)
{
	give_up(true);
	give_up(false);
}

static void reset_in_flight(bool with_log)
{
	struct fake_vmm *vmm = make_vmm(NULL, with_log);
	struct fake_driver *driver = driver_create(vmm, VGF_WAIT_DRIVER, FAKE_CALL);

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	for (uint64_t id = 1; id < 50; id++) {
		submit(vmm, 1 + id % 2, (int32_t)(id % 3), id, id - 1, NO_IN_FENCES);
	}
	assert_allocates_nothing({
		assert_int_equal(vgf_device_reset(vmm->device), 0);
		assert_int_equal(vmm->num_retired, 49);
	});
	assert_idle(vmm);
	vmm_destroy(vmm);
}

TEST(a_reset_allocates_nothing)
{
	reset_in_flight(true);
	reset_in_flight(false);
}

/* ---- What goes on ------------------------------------------------------------------------- */

/* Context 1 and 2 wait for each other in turn. */
static void run_chain(enum vgf_wait wait, enum fake_answer answer, bool with_log)
{
	struct fake_vmm *vmm = make_vmm(NULL, with_log);
	struct fake_driver *driver = driver_create(vmm, wait, answer);
	int fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	/* Behind work that is held on the host, a driver's descriptors are not there yet either. */
	driver->driver.wait = VGF_WAIT_HOST;
	driver_open(driver, vmm, 3);
	assert_int_equal(submit(vmm, 3, 0, 2, ID(1), NO_IN_FENCES), 1);
	for (uint64_t id = 3; id <= 200; id++) {
		assert_int_equal(submit(vmm, 1 + id % 2, 0, id, id - 1, id - 2, NO_IN_FENCES), 1);
	}
	assert_allocates_nothing({
		signal_fence(fd);
		while (vmm->num_retired < 200) {
			vmm_dispatch(vmm);
			for (unsigned int i = 0; i < driver->num_jobs; i++) {
				struct vgf_fence_name *name = &driver->jobs[i].fence;
				if (answer == FAKE_FD) {
					signal_fence(driver->jobs[i].fence_fd);
				} else if (answer == FAKE_CALL) {
					vgf_fence_signal(vmm->device, name, 0);
				}
			}
		}
	});
	assert_int_equal(driver->num_jobs, 199);
	assert_idle(vmm);
	vmm_destroy(vmm);
	close(fd);
}

TEST(running_held_work_allocates_nothing)
{
	run_chain(VGF_WAIT_HOST, FAKE_CALL, true);
	run_chain(VGF_WAIT_HOST, FAKE_FD, true);
	run_chain(VGF_WAIT_HOST, FAKE_DONE, false);
}

TEST(handing_descriptors_to_a_driver_allocates_nothing)
{
	run_chain(VGF_WAIT_DRIVER, FAKE_CALL, true);
	run_chain(VGF_WAIT_DRIVER, FAKE_FD, true);
	run_chain(VGF_WAIT_GL, FAKE_FD, false);
}

TEST_VMM(a_driver_that_fails_allocates_nothing, .answer = FAKE_ERROR, .wait = VGF_WAIT_DRIVER)
{
	struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, 1);
	int fd = make_fence(false);
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	driver->error = -EMFILE;
	driver->error_always = true;
	driver_open(driver, vmm, 1);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_allocates_nothing({
		assert_int_equal(publish_take(vmm->device, &name, fd), 0);
		assert_int_equal(vmm_dispatch(vmm), 0);
		assert_int_equal(driver->num_errors, 1);
		signal_fence(copy);
		assert_int_equal(vmm_dispatch(vmm), 2);
	});
	/* Once with the descriptor, which it could not take, and once when that had signalled. */
	assert_int_equal(driver->num_errors, 2);
	assert_int_equal(vmm->retired[1].status, -EMFILE);
	assert_idle(vmm);
	close(copy);
}

static void note_call(void *arg, int status)
{
	assert_int_equal(status, 0);
	++*(unsigned int *)arg;
}

TEST_VMM(deferred_calls_and_destroying_allocate_nothing, .answer = FAKE_DONE)
{
	unsigned int calls = 0;

	driver_open(driver, vmm, 1);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(defer_call(vmm->device, 1, note_call, &calls), 1);
	assert_int_equal(submit(vmm, 1, 1, 3, NO_IN_FENCES), 1);
	assert_int_equal(vgf_context_destroy(vmm->device, 1), 1);
	assert_allocates_nothing({
		assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 1, 0), 0);
		assert_int_equal(vmm_dispatch(vmm), 3);
	});
	assert_int_equal(calls, 1);
	assert_int_equal(driver->num_destroyed, 1);
}

TEST_VMM(work_that_waits_for_a_free_descriptor_allocates_nothing, .answer = FAKE_FD,
	.options.limits.max_fds = 2)
{
	for (uint32_t ctx_id = 1; ctx_id <= 5; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
		for (uint64_t id = 1; id <= 10; id++) {
			submit(vmm, ctx_id, 0, id, NO_IN_FENCES);
		}
	}
	assert_allocates_nothing({
		for (unsigned int i = 0; i < 50; i++) {
			vmm_dispatch(vmm);
			assert_true(i < driver->num_jobs);
			signal_fence(driver->jobs[i].fence_fd);
		}
		vmm_dispatch(vmm);
	});
	assert_int_equal(vmm->num_retired, 50);
}

TEST_VMM(in_fences_that_are_descriptors_allocate_nothing, .answer = FAKE_DONE)
{
	int fds[] = { make_fence(false), make_fence(false) };
	struct vgf_submission submission = {
		.fence = make_name(1, 0, 1),
		.flags = VGF_FENCED,
		.in_fence_fds = fds,
		.num_in_fence_fds = 2,
	};

	driver_open(driver, vmm, 1);
	assert_int_equal(vgf_submit(vmm->device, &submission, NULL), 1);
	assert_allocates_nothing({
		signal_fence(fds[0]);
		assert_int_equal(vmm_dispatch(vmm), 0);
		signal_fence(fds[1]);
		vmm_wait(vmm, 1);
	});
	assert_idle(vmm);
	close(fds[0]);
	close(fds[1]);
}

/* ---- How many ----------------------------------------------------------------------------- */

#define RINGS 40
#define FENCES_A_RING 25

/* More timelines at once than one call of epoll_wait returns, and many fences on each. */
TEST_VMM(a_large_batch_allocates_nothing, .answer = FAKE_FD)
{
	uint64_t id = 0;

	driver->driver.independent_rings = true;
	for (uint32_t ctx_id = 1; ctx_id <= 2; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
		for (unsigned int i = 0; i < RINGS * FENCES_A_RING / 2; i++) {
			assert_int_equal(
				submit(vmm, ctx_id, (int32_t)(i % RINGS), ++id, NO_IN_FENCES), 0);
		}
	}
	assert_allocates_nothing({
		for (unsigned int i = driver->num_jobs; i > 0; i--) {
			signal_fence(driver->jobs[i - 1].fence_fd);
		}
		assert_int_equal(vmm_dispatch(vmm), RINGS * FENCES_A_RING);
	});
	assert_idle(vmm);
}

static void write_fence(void *cookie, uint32_t fence_id)
{
	++*(unsigned int *)cookie;
}

static void write_context_fence(void *cookie, uint32_t ctx_id, uint32_t ring, uint64_t fence_id)
{
	++*(unsigned int *)cookie;
}

TEST(merging_allocates_nothing)
{
	const struct vgf_callbacks callbacks = {
		.size = sizeof(struct vgf_callbacks),
		.write_fence = write_fence,
		.write_context_fence = write_context_fence,
	};
	/* One round, however slow the machine is. */
	const struct vgf_options options = { .size = sizeof(struct vgf_options),
		.budget_ns = UINT64_MAX };
	struct vgf_device *device;
	struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, 0);
	unsigned int written = 0;

	assert_int_equal(vgf_device_create(&callbacks, &written, &options, &device), 0);
	for (name.fence_id = 1; name.fence_id <= 300; name.fence_id++) {
		assert_int_equal(create_take(device, &name, VGF_MERGEABLE, VGF_FENCE_BY_CALL), 0);
	}
	assert_allocates_nothing({
		for (name.fence_id = 300; name.fence_id > 0; name.fence_id--) {
			assert_int_equal(vgf_fence_signal(device, &name, 0), 0);
		}
		assert_int_equal(vgf_device_dispatch(device, 0), 300);
	});
	assert_int_equal(written, 1);
	vgf_device_destroy(device);
}

/* ---- The watchdog and the library's own thread -------------------------------------------- */

static void report_stalls(bool with_log)
{
	/* At once, so that nothing depends on time. */
	const struct vgf_options options = { .size = sizeof(struct vgf_options), .stall_ns = 1 };
	struct fake_vmm *vmm = make_vmm(&options, with_log);
	struct fake_driver *driver = driver_create(vmm, VGF_WAIT_HOST, FAKE_FD);

	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 40; id++) {
		submit(vmm, 1, (int32_t)id, id, id - 1, NO_IN_FENCES);
	}
	assert_allocates_nothing({
		for (int i = 0; get_stats(vmm).stalled < 40 && i < 1000; i++) {
			assert_true(vgf_device_dispatch(vmm->device, 1000) >= 0);
		}
		assert_int_equal(get_stats(vmm).stalled, 40);
		assert_int_equal(cancel_fence(vmm, 1, 1, 1, -ETIME), 0);
		vmm_dispatch(vmm);
	});
	assert_int_equal(vmm->num_stalls, with_log ? 40 : 0);
	vmm_destroy(vmm);
}

TEST(reporting_what_stalls_allocates_nothing)
{
	report_stalls(true);
	report_stalls(false);
}

static void post(void *cookie, const struct vgf_retired *retired)
{
	assert_int_equal(sem_post(cookie), 0);
}

TEST(the_own_thread_allocates_nothing)
{
	const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = post };
	const struct vgf_options options = { .size = sizeof(struct vgf_options),
		.own_thread = true };
	struct vgf_device *device;
	struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, 0);
	sem_t retired;

	assert_int_equal(sem_init(&retired, 0, 0), 0);
	assert_int_equal(vgf_device_create(&callbacks, &retired, &options, &device), 0);
	for (name.fence_id = 1; name.fence_id <= 100; name.fence_id++) {
		assert_int_equal(create_take(device, &name, 0, VGF_FENCE_BY_CALL), 0);
	}
	assert_allocates_nothing({
		for (name.fence_id = 1; name.fence_id <= 100; name.fence_id++) {
			assert_int_equal(vgf_fence_signal(device, &name, 0), 0);
			assert_int_equal(sem_wait(&retired), 0);
		}
	});
	vgf_device_destroy(device);
	sem_destroy(&retired);
}
