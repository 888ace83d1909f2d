/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The loop, and what a VMM can see from outside. */

#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <vgfence/context_driver.h>
#include <vgfence/inspect.h>
#include <vgfence/sync_file.h>

/* Fences that the test signals by call. */
static void create_by_call(struct fake_vmm *vmm, uint64_t fence_id)
{
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, fence_id, VGF_FENCE_BY_CALL), 0);
}

static int signal_global(struct fake_vmm *vmm, uint64_t fence_id)
{
	return signal_call(vmm, 0, VGF_RING_GLOBAL, fence_id, 0);
}

TEST(the_version_is_that_of_the_header)
{
	char version[32];

	snprintf(version, sizeof(version), "%d.%d.%d", VGF_VERSION_MAJOR, VGF_VERSION_MINOR,
		VGF_VERSION_PATCH);
	assert_string_equal(vgf_version(), version);
}

/* ---- The descriptor ----------------------------------------------------------------------- */

static bool is_readable(struct fake_vmm *vmm)
{
	return vgf_sync_file_poll(vgf_device_get_fd(vmm->device)) == 1;
}

TEST_VMM(an_idle_device_is_not_readable, .answer = FAKE_FD)
{
	assert_false(is_readable(vmm));
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	create_by_call(vmm, 3);
	assert_false(is_readable(vmm));
}

TEST_VMM(a_file_makes_the_device_readable, .answer = FAKE_FD)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	driver_signal(driver, 1);
	assert_true(is_readable(vmm));
	assert_true(is_readable(vmm)); /* level-triggered */
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_false(is_readable(vmm));
}

TEST_VMM(a_call_makes_the_device_readable)
{
	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	assert_int_equal(signal_global(vmm, 2), 0);
	assert_false(is_readable(vmm)); /* nothing can retire yet */
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_true(is_readable(vmm));
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_false(is_readable(vmm));
}

TEST_VMM(a_fence_that_is_done_makes_the_device_readable)
{
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_DONE), 0);
	assert_true(is_readable(vmm));
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_false(is_readable(vmm));
}

TEST_VMM(a_refused_fence_makes_the_device_readable)
{
	struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, 1);

	assert_int_equal(vgf_fence_refuse(vmm->device, &name, 0, NULL, -EBADMSG), 0);
	assert_true(is_readable(vmm));
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_int_equal(
		submit(vmm, 7, VGF_RING_GLOBAL, 2, NO_IN_FENCES), -ENOENT); /* no such context */
	assert_true(is_readable(vmm));
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_false(is_readable(vmm));
}

TEST_VMM(a_fence_that_is_given_up_makes_the_device_readable)
{
	create_by_call(vmm, 1);
	assert_int_equal(cancel_fence(vmm, 0, VGF_RING_GLOBAL, 1, -ECANCELED), 0);
	assert_true(is_readable(vmm));
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_false(is_readable(vmm));
}

TEST_VMM(cancelled_work_makes_the_device_readable)
{
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(cancel_context(vmm->device, 1), 0);
	assert_true(is_readable(vmm));
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_false(is_readable(vmm));
}

TEST_VMM(publishing_makes_the_device_readable_where_work_can_go_on, .wait = VGF_WAIT_DRIVER)
{
	struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, 1);

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(publish_take(vmm->device, &name, make_fence(false)), 0);
	assert_true(is_readable(vmm));
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_true(driver_has(driver, 2));
	assert_false(is_readable(vmm));
}

/* More than one round of epoll returns. */
TEST_VMM(a_device_stays_readable_until_all_is_told)
{
	struct fake_driver *drivers[5];
	uint64_t id = 0;

	for (uint32_t i = 0; i < 5; i++) {
		drivers[i] = driver_create(vmm, VGF_WAIT_HOST, FAKE_FD);
		driver_open(drivers[i], vmm, i);
		for (int32_t ring = 0; ring < 60; ring++) {
			assert_int_equal(submit(vmm, i, ring, ++id, NO_IN_FENCES), 0);
		}
	}
	for (uint32_t i = 0; i < 5; i++) {
		for (unsigned int n = 0; n < 60; n++) {
			signal_fence(drivers[i]->jobs[n].fence_fd);
		}
	}
	while (is_readable(vmm)) {
		assert_true(vgf_device_dispatch(vmm->device, 0) >= 0);
	}
	assert_int_equal(vmm->num_retired, 300);
}

TEST_VMM(a_device_with_its_own_thread_has_no_descriptor, .options.own_thread = true)
{
	assert_int_equal(vgf_device_get_fd(vmm->device), -EBUSY);
}

/* ---- Dispatching -------------------------------------------------------------------------- */

TEST_VMM(dispatching_nothing_returns_0)
{
	assert_int_equal(vgf_device_dispatch(vmm->device, 0), 0);
	assert_int_equal(vgf_device_dispatch(vmm->device, 1), 0);
	create_by_call(vmm, 1);
	assert_int_equal(vgf_device_dispatch(vmm->device, 0), 0);
	assert_int_equal(vgf_device_dispatch(vmm->device, 1), 0);
}

struct other {
	struct vgf_device *device;
	sem_t started, inside, go_on;
	pid_t thread_id;
	int ret;
	atomic_bool done;
};

static void other_init(struct other *other, struct fake_vmm *vmm)
{
	*other = (struct other){ .device = vmm->device };
	sem_init(&other->started, 0, 0);
	sem_init(&other->inside, 0, 0);
	sem_init(&other->go_on, 0, 0);
	vmm->arg = other;
}

static void other_finish(struct other *other)
{
	sem_destroy(&other->started);
	sem_destroy(&other->inside);
	sem_destroy(&other->go_on);
}

static void pause_in_retire(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct other *other = vmm->arg;

	sem_post(&other->inside);
	sem_wait(&other->go_on);
}

static void tell_of_retire(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	struct other *other = vmm->arg;

	sem_post(&other->inside);
}

static void *dispatch_once(void *arg)
{
	struct other *other = arg;

	other->ret = vgf_device_dispatch(other->device, -1);
	other->done = true;
	return NULL;
}

static void *dispatch_until_error(void *arg)
{
	struct other *other = arg;

	other->thread_id = gettid();
	sem_post(&other->started);
	do {
		other->ret = vgf_device_dispatch(other->device, -1);
	} while (other->ret >= 0);
	return NULL;
}

static void *drain_without_end(void *arg)
{
	struct other *other = arg;

	other->thread_id = gettid();
	sem_post(&other->started);
	other->ret = vgf_device_drain(other->device, -1);
	return NULL;
}

static void start_dispatching(struct other *other, pthread_t *thread)
{
	assert_int_equal(pthread_create(thread, NULL, dispatch_until_error, other), 0);
	sem_wait(&other->started);
}

/* Destroys the device while the thread is in vgf_device_dispatch. */
static void end_dispatching(struct other *other, struct fake_vmm *vmm, pthread_t thread)
{
	wait_until_asleep(other->thread_id);
	vmm_destroy_device(vmm);
	pthread_join(thread, NULL);
	assert_int_equal(other->ret, -ECANCELED);
	other_finish(other);
}

/* Long enough, should the test have gone wrong. */
static void *drain_patiently(void *arg)
{
	struct other *other = arg;

	other->ret = vgf_device_drain(other->device, WAIT_MS);
	return NULL;
}

TEST_VMM(one_thread_dispatches_at_a_time)
{
	struct other other;
	pthread_t thread;

	other_init(&other, vmm);
	vmm->on_retire = pause_in_retire;
	create_by_call(vmm, 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, dispatch_once, &other), 0);
	sem_wait(&other.inside);
	assert_int_equal(vgf_device_dispatch(vmm->device, 0), -EBUSY);
	assert_int_equal(vgf_device_dispatch(vmm->device, -1), -EBUSY);
	sem_post(&other.go_on);
	pthread_join(thread, NULL);
	assert_int_equal(other.ret, 1);
	assert_int_equal(vgf_device_dispatch(vmm->device, 0), 0);
	other_finish(&other);
}

/* This holds also before that thread has begun to dispatch. */
TEST(nobody_else_dispatches_where_the_device_has_its_own_thread)
{
	const struct vgf_options options = { .size = sizeof(struct vgf_options),
		.own_thread = true };

	for (int i = 0; i < 100; i++) {
		struct fake_vmm *vmm = vmm_create(&options);

		assert_int_equal(vgf_device_dispatch(vmm->device, 0), -EBUSY);
		vmm_destroy(vmm);
	}
}

TEST_VMM(a_signal_in_another_thread_wakes_dispatch, .answer = FAKE_DONE)
{
	struct other other;
	pthread_t thread;

	driver_open(driver, vmm, 1);
	other_init(&other, vmm);
	vmm->on_retire = tell_of_retire;
	start_dispatching(&other, &thread);
	for (uint64_t id = 1; id <= 300; id += 3) {
		int fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, id);
		create_by_call(vmm, id + 1);
		assert_int_equal(submit(vmm, 1, 0, id + 2, id, id + 1, NO_IN_FENCES), 1);
		signal_fence(fence_fd);
		sem_wait(&other.inside);
		assert_int_equal(signal_global(vmm, id + 1), 0);
		sem_wait(&other.inside);
		sem_wait(&other.inside);
		close(fence_fd);
	}
	end_dispatching(&other, vmm, thread);
	assert_int_equal(vmm->num_retired, 300);
}

static void ignore_signal(int number)
{
}

TEST_VMM(a_signal_handler_interrupts_dispatch)
{
	struct sigaction action = { .sa_handler = ignore_signal }, before;
	struct other other;
	pthread_t thread;

	assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
	other_init(&other, vmm);
	assert_int_equal(pthread_create(&thread, NULL, dispatch_once, &other), 0);
	while (!other.done) {
		pthread_kill(thread, SIGUSR1);
		sched_yield();
	}
	pthread_join(thread, NULL);
	assert_int_equal(other.ret, -EINTR);
	assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
	other_finish(&other);
}

/* A probe of a descriptor that has hung up is no event. */
TEST_VMM(broken_files_come_while_another_thread_dispatches)
{
	struct other other;
	pthread_t thread;

	other_init(&other, vmm);
	start_dispatching(&other, &thread);
	for (uint64_t id = 1; id <= 1000; id++) {
		int fds[2];
		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		close(fds[1]);
		assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, id, fds[0]), 0);
	}
	end_dispatching(&other, vmm, thread);
	assert_int_equal(vmm->num_retired, 1000);
}

/* ---- Draining ----------------------------------------------------------------------------- */

TEST_VMM(an_idle_device_is_drained)
{
	assert_int_equal(vgf_device_drain(vmm->device, 0), 0);
	assert_int_equal(vgf_device_drain(vmm->device, -1), 0);
}

TEST_VMM(draining_retires_what_there_is, .answer = FAKE_DONE)
{
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(vmm, 1, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vgf_device_drain(vmm->device, 0), 0);
	assert_int_equal(vmm->num_retired, 3);
	assert_int_equal(vmm->num_batches, 1);
	assert_idle(vmm);
}

TEST_VMM(draining_has_a_deadline, .answer = FAKE_DONE)
{
	const uint64_t in_fence = 2;
	bool will_retire;

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	assert_int_equal(submit_flags(vmm, 1, 0, 0, 0, &in_fence, 1, &will_retire), 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(vgf_device_drain(vmm->device, 0), -ETIMEDOUT);
	assert_int_equal(vgf_device_drain(vmm->device, 1), -ETIMEDOUT);
	assert_int_equal(vmm->num_retired, 1);
	assert_int_equal(signal_global(vmm, 2), 0);
	assert_int_equal(vgf_device_drain(vmm->device, 0), 0);
	assert_int_equal(driver->num_jobs, 1); /* unfenced work is something to wait for too */
}

/* Something retires from drain, so that the test knows that it has begun; fence 2 is left. */
static void start_drain(
	struct fake_vmm *vmm, struct other *other, pthread_t *thread, void *(*drain)(void *arg))
{
	vmm->on_retire = tell_of_retire;
	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	assert_int_equal(signal_global(vmm, 1), 0);
	assert_int_equal(pthread_create(thread, NULL, drain, other), 0);
	sem_wait(&other->inside);
}

TEST_VMM(a_signal_in_another_thread_ends_a_drain)
{
	struct other other;
	pthread_t thread;

	other_init(&other, vmm);
	start_drain(vmm, &other, &thread, drain_without_end);
	assert_int_equal(signal_global(vmm, 2), 0);
	pthread_join(thread, NULL);
	assert_int_equal(other.ret, 0);
	assert_int_equal(vmm->num_retired, 2);
	other_finish(&other);
}

/* It is in a renderer's thread, whose other fences the drain waits for. */
TEST_VMM(who_only_retires_does_not_wait_for_another_threads_drain)
{
	struct other other;
	pthread_t thread;

	other_init(&other, vmm);
	start_drain(vmm, &other, &thread, drain_patiently);
	create_by_call(vmm, 3);
	assert_int_equal(signal_global(vmm, 2), 0);
	assert_int_equal(vgf_device_retire(vmm->device), -EBUSY);
	assert_int_equal(signal_global(vmm, 3), 0);
	pthread_join(thread, NULL);
	assert_int_equal(other.ret, 0);
	assert_int_equal(vmm->num_retired, 3);
	other_finish(&other);
}

static void *only_retire(void *arg)
{
	struct other *other = arg;

	other->ret = vgf_device_retire(other->device);
	return NULL;
}

static void retire_elsewhere(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, only_retire, vmm->arg), 0);
	pthread_join(thread, NULL);
}

TEST_VMM(who_only_retires_does_not_wait_for_another_threads_reset)
{
	struct other other;

	other_init(&other, vmm);
	create_by_call(vmm, 1);
	vmm->on_retire = retire_elsewhere;
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_int_equal(other.ret, -EBUSY);
	assert_int_equal(vmm->num_retired, 1);
	other_finish(&other);
}

TEST_VMM(new_work_prolongs_a_drain)
{
	struct other other;
	pthread_t thread;

	other_init(&other, vmm);
	start_drain(vmm, &other, &thread, drain_without_end);
	create_by_call(vmm, 3);
	assert_int_equal(signal_global(vmm, 2), 0);
	sem_wait(&other.inside);
	assert_int_equal(signal_global(vmm, 3), 0);
	pthread_join(thread, NULL);
	assert_int_equal(other.ret, 0);
	assert_int_equal(vmm->num_retired, 3);
	other_finish(&other);
}

/* Promise 8. */
TEST_VMM(a_reset_does_not_wait_for_another_threads_drain)
{
	struct other other;
	pthread_t thread;

	other_init(&other, vmm);
	start_drain(vmm, &other, &thread, drain_patiently);
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	pthread_join(thread, NULL);
	assert_int_equal(other.ret, 0);
	assert_int_equal(vmm->num_retired, 2);
	assert_retired(vmm, 1, 0, VGF_RING_GLOBAL, 2, -ECANCELED);
	other_finish(&other);
}

TEST_VMM(a_drain_behind_another_one_keeps_its_deadline)
{
	struct other other;
	pthread_t thread;

	other_init(&other, vmm);
	start_drain(vmm, &other, &thread, drain_patiently);
	assert_int_equal(vgf_device_drain(vmm->device, 1), -ETIMEDOUT);
	assert_int_equal(signal_global(vmm, 2), 0);
	pthread_join(thread, NULL);
	assert_int_equal(other.ret, 0);
	other_finish(&other);
}

/* The last that a dispatching thread does with the device is to log. */
struct last_line {
	struct fake_vmm *vmm;
	sem_t begun;
	atomic_bool is_over;
	int ret;
};

static void log_slowly(struct fake_vmm *vmm, const char *message)
{
	struct last_line *line = vmm->arg;

	(void)message;
	sem_post(&line->begun);
	usleep(50000); /* time for the other thread to go wrong */
	atomic_store(&line->is_over, true);
}

static void *dispatch_last(void *arg)
{
	struct last_line *line = arg;

	line->ret = vgf_device_dispatch(line->vmm->device, 0);
	return NULL;
}

/* Its budget ends the round behind the work that has failed, and there is no retire_end. */
TEST(destroying_waits_for_a_thread_that_leaves)
{
	const struct vgf_options options = { .size = sizeof(options), .budget_items = 1 };
	struct vgf_callbacks callbacks = fake_callbacks;
	struct last_line line = { 0 };
	struct fake_driver *driver;
	struct fake_vmm *vmm;
	pthread_t thread;

	callbacks.retire_end = NULL;
	vmm = vmm_create_with(&callbacks, &options);
	driver = driver_create(vmm, VGF_WAIT_HOST, FAKE_ERROR);
	driver->error = -EIO;
	driver->error_always = true;
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	line.vmm = vmm;
	sem_init(&line.begun, 0, 0);
	vmm->arg = &line;
	vmm->on_log = log_slowly;
	assert_int_equal(pthread_create(&thread, NULL, dispatch_last, &line), 0);
	sem_wait(&line.begun);
	vmm_destroy_device(vmm);
	assert_true(atomic_load(&line.is_over));
	pthread_join(thread, NULL);
	assert_int_equal(line.ret, -ECANCELED);
	sem_destroy(&line.begun);
	vmm_destroy(vmm);
}

/* A file of somebody else's is no fence of the device, but work waits for it. */
TEST_VMM(draining_waits_for_held_work_without_a_fence, .answer = FAKE_DONE)
{
	int fence_fd = make_fence(false);
	struct vgf_submission submission = {
		.fence = make_name(1, 0, 0),
		.in_fence_fds = &fence_fd,
		.num_in_fence_fds = 1,
	};

	driver_open(driver, vmm, 1);
	assert_int_equal(vgf_submit(vmm->device, &submission, NULL), 1);
	assert_int_equal(vgf_device_drain(vmm->device, 0), -ETIMEDOUT);
	signal_fence(fence_fd);
	assert_int_equal(vgf_device_drain(vmm->device, -1), 0);
	assert_int_equal(driver->num_jobs, 1);
	close(fence_fd);
}

struct drain_during_submit {
	struct fake_vmm *vmm;
	struct other other;
	pthread_t thread;
};

static void start_drain_in_submit(struct fake_driver *driver, const struct vgf_job *job)
{
	struct drain_during_submit *test = driver->arg;
	bool will_retire;

	if (driver->num_jobs == 1) {
		assert_int_equal(submit_flags(test->vmm, 1, 0, 0, 0, NULL, 0, &will_retire), 1);
		assert_int_equal(
			pthread_create(&test->thread, NULL, drain_without_end, &test->other), 0);
		sem_wait(&test->other.started);
		wait_until_asleep(test->other.thread_id);
	}
}

/* Nothing retires, and no descriptor signals. */
TEST_VMM(a_drain_ends_when_another_thread_runs_the_last_held_work, .answer = FAKE_DONE)
{
	struct drain_during_submit test = { .vmm = vmm };
	bool will_retire;

	other_init(&test.other, vmm);
	driver->arg = &test;
	driver->on_submit = start_drain_in_submit;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_flags(vmm, 1, 0, 0, 0, NULL, 0, &will_retire), 0);
	pthread_join(test.thread, NULL);
	assert_int_equal(test.other.ret, 0);
	assert_int_equal(driver->num_jobs, 2);
	other_finish(&test.other);
}

static void start_drain_and_go_on(struct fake_driver *driver, const struct vgf_job *job)
{
	struct drain_during_submit *test = driver->arg;

	assert_int_equal(pthread_create(&test->thread, NULL, drain_without_end, &test->other), 0);
	sem_wait(&test->other.started);
	wait_until_asleep(test->other.thread_id);
	assert_false(test->other.done);
}

/* Nothing is held, nothing is pending: only a driver is being called. */
TEST_VMM(a_drain_waits_for_a_driver_that_another_thread_calls, .answer = FAKE_DONE)
{
	struct drain_during_submit test = { .vmm = vmm };
	bool will_retire;

	other_init(&test.other, vmm);
	driver->arg = &test;
	driver->on_submit = start_drain_and_go_on;
	driver_open(driver, vmm, 1);
	assert_int_equal(submit_flags(vmm, 1, 0, 0, 0, NULL, 0, &will_retire), 0);
	pthread_join(test.thread, NULL);
	assert_int_equal(test.other.ret, 0);
	other_finish(&test.other);
}

static void count_deferred(void *arg, int status)
{
	unsigned int *count = arg;

	assert_int_equal(status, 0);
	(*count)++;
}

TEST_VMM(draining_waits_for_a_deferred_call, .answer = FAKE_DONE)
{
	unsigned int count = 0;
	int fence_fd;

	driver_open(driver, vmm, 1);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(defer_call(vmm->device, 1, count_deferred, &count), 1);
	assert_int_equal(vgf_device_drain(vmm->device, 0), -ETIMEDOUT);
	signal_fence(fence_fd);
	assert_int_equal(vgf_device_drain(vmm->device, -1), 0);
	assert_int_equal(count, 1);
	close(fence_fd);
}

TEST_VMM(a_drain_takes_over_from_a_thread_that_dispatches)
{
	struct other other;
	pthread_t thread;

	other_init(&other, vmm);
	vmm->on_retire = tell_of_retire;
	create_by_call(vmm, 1);
	assert_int_equal(signal_global(vmm, 1), 0);
	start_dispatching(&other, &thread);
	sem_wait(&other.inside);
	create_by_call(vmm, 2);
	assert_int_equal(vgf_device_drain(vmm->device, 1), -ETIMEDOUT);
	/* And that one goes on. */
	assert_int_equal(signal_global(vmm, 2), 0);
	sem_wait(&other.inside);
	assert_int_equal(vgf_device_drain(vmm->device, -1), 0);
	end_dispatching(&other, vmm, thread);
}

TEST_VMM(a_device_with_its_own_thread_is_drained, .options.own_thread = true)
{
	for (uint64_t id = 1; id <= 50; id++) {
		create_by_call(vmm, id);
		assert_int_equal(vgf_device_drain(vmm->device, 0), -ETIMEDOUT);
		assert_int_equal(signal_global(vmm, id), 0);
		assert_int_equal(vgf_device_drain(vmm->device, -1), 0);
		assert_int_equal(get_stats(vmm).retired, id);
	}
}

/* ---- Two devices -------------------------------------------------------------------------- */

TEST_VMM(devices_do_not_see_each_other)
{
	struct fake_vmm *second = vmm_create(NULL);

	driver_open(driver, vmm, 1);
	driver_open(driver, second, 1);
	assert_int_equal(submit(vmm, 1, 0, 5, NO_IN_FENCES), 0);
	assert_int_equal(submit(second, 1, 0, 1, ID(5), NO_IN_FENCES), -ENOENT);
	assert_int_equal(signal_call(second, 1, 0, 5, 0), -ENOENT);
	assert_int_equal(export_fence(second->device, 5), -ENOENT);
	assert_int_equal(submit(second, 1, 0, 5, NO_IN_FENCES), 0);
	assert_int_equal(signal_call(second, 1, 0, 5, 0), 0);
	assert_false(is_readable(vmm));
	assert_int_equal(vmm_dispatch(vmm), 0);
	assert_int_equal(vmm_dispatch(second), 2);
	assert_int_equal(get_stats(vmm).pending, 1);
	assert_int_equal(vgf_device_reset(second->device), 0);
	assert_int_equal(vmm->num_retired, 0);
	vmm_destroy(second);
	assert_int_equal(signal_call(vmm, 1, 0, 5, 0), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
}

/* The driver of one device waits for another device's fences: their callbacks and locks are
 * apart. */
static void submit_to_other_device(struct fake_driver *driver, const struct vgf_job *job)
{
	struct fake_vmm *other = driver->arg;

	if (other->device && job->fence.fence_id < 10) {
		assert_int_equal(submit(other, 1, 0, job->fence.fence_id + 10, NO_IN_FENCES), 0);
		assert_int_equal(vgf_device_dispatch(other->device, 0), 1);
		assert_int_equal(vgf_device_reset(other->device), 0);
		driver_open(driver, other, 1);
	}
}

TEST_VMM(a_device_may_be_used_from_inside_another, .answer = FAKE_DONE)
{
	struct fake_vmm *second = vmm_create(NULL);

	driver->arg = second;
	driver->on_submit = submit_to_other_device;
	driver_open(driver, vmm, 1);
	driver_open(driver, second, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_int_equal(second->num_retired, 2);
	vmm_destroy_device(vmm);
	vmm_destroy(second);
}

/* ---- Exporting ---------------------------------------------------------------------------- */

TEST_VMM(an_exported_descriptor_signals_with_the_fence)
{
	int fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	int exported = export_fence(vmm->device, 1);

	assert_true(exported >= 0);
	assert_true(fcntl(exported, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(vgf_sync_file_poll(exported), 0);
	signal_fence(fence_fd);
	assert_int_equal(vgf_sync_file_poll(exported), 1);
	assert_int_equal(vmm_dispatch(vmm), 1);
	/* It is still the caller's. */
	assert_int_equal(vgf_sync_file_poll(exported), 1);
	close(exported);
	close(fence_fd);
}

TEST_VMM(a_fence_without_a_descriptor_cannot_be_exported_yet)
{
	struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, 1);
	int exported;

	create_by_call(vmm, 1);
	assert_int_equal(export_fence(vmm->device, 1), -EAGAIN);
	assert_int_equal(publish_take(vmm->device, &name, make_fence(false)), 0);
	exported = export_fence(vmm->device, 1);
	assert_true(exported >= 0);
	close(exported);
}

TEST_VMM(held_work_cannot_be_exported_before_it_runs, .answer = FAKE_FD)
{
	int exported;

	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(export_fence(vmm->device, 2), -EAGAIN);
	assert_int_equal(signal_global(vmm, 1), 0);
	vmm_dispatch(vmm);
	exported = export_fence(vmm->device, 2);
	assert_true(exported >= 0);
	close(exported);
}

TEST_VMM(a_signalled_fence_is_not_exported)
{
	create_by_call(vmm, 5);
	assert_int_equal(signal_global(vmm, 5), 0);
	assert_int_equal(export_fence(vmm->device, 5), -EALREADY);
	vmm_dispatch(vmm);
	assert_int_equal(export_fence(vmm->device, 5), -EALREADY);
	assert_int_equal(export_fence(vmm->device, 4), -EALREADY);
}

TEST_VMM(an_unknown_fence_is_not_exported)
{
	assert_int_equal(export_fence(vmm->device, 0), -ENOENT);
	create_by_call(vmm, 1);
	assert_int_equal(export_fence(vmm->device, 2), -ENOENT);
	assert_int_equal(export_fence(vmm->device, UINT64_MAX), -ENOENT);
}

TEST_VMM(an_ambiguous_fence_is_not_exported, .answer = FAKE_FD)
{
	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 1, 1, NO_IN_FENCES), 0);
	assert_int_equal(export_fence(vmm->device, 1), -ENOTUNIQ);
}

/* ---- Stalls ------------------------------------------------------------------------------- */

/* A fence that is not done at once counts as stalled. */
#define AT_ONCE 1

static void wait_for_stalls(struct fake_vmm *vmm, unsigned int count)
{
	for (int i = 0; vmm->num_stalls < count && i < 1000; i++) {
		assert_true(vgf_device_dispatch(vmm->device, WAIT_MS) >= 0);
	}
	assert_int_equal(vmm->num_stalls, count);
}

/* Promise 8. */
TEST_VMM(a_stalled_fence_is_told_with_all_that_is_known, .answer = FAKE_FD,
	.options.stall_ns = AT_ONCE)
{
	driver_open(driver, vmm, 3);
	assert_int_equal(submit(vmm, 3, 4, 5, NO_IN_FENCES), 0);
	wait_for_stalls(vmm, 1);
	assert_int_equal(vmm->stall.fence.ctx_id, 3);
	assert_int_equal(vmm->stall.fence.ring, 4);
	assert_int_equal(vmm->stall.fence.fence_id, 5);
	assert_true(vmm->stall.age_ns >= 1);
	assert_false(vmm->stall.held);
	assert_true(vmm->stall.fence_fd >= 0);
	assert_string_equal(vmm->stall.driver, ""); /* an eventfd has no names */
	assert_string_equal(vmm->stall.timeline, "");
	assert_non_null(strstr(vmm->log, "context 3 ring 4 fence 5"));
	assert_non_null(strstr(vmm->log, "stalled"));
	assert_int_equal(get_stats(vmm).stalled, 1);
}

static unsigned int stalls_of[8];

static void count_stall(struct fake_vmm *vmm, const struct vgf_stall *stall)
{
	stalls_of[stall->fence.fence_id]++;
}

TEST_VMM(each_stalled_fence_is_told_once, .options.stall_ns = AT_ONCE)
{
	memset(stalls_of, 0, sizeof(stalls_of));
	vmm->on_stall = count_stall;
	driver_open(driver, vmm, 1);
	for (uint64_t id = 1; id <= 5; id++) {
		assert_int_equal(submit(vmm, 1, (int32_t)id, id, NO_IN_FENCES), 0);
		wait_for_stalls(vmm, (unsigned int)id);
	}
	for (uint64_t id = 1; id <= 5; id++) {
		assert_int_equal(stalls_of[id], 1);
	}
	assert_int_equal(get_stats(vmm).stalled, 5);
}

TEST_VMM(many_timelines_stall_at_once, .options.stall_ns = AT_ONCE)
{
	driver_open(driver, vmm, 1);
	for (int32_t ring = 0; ring < 64; ring++) {
		assert_int_equal(submit(vmm, 1, ring, ID(ring + 1), NO_IN_FENCES), 0);
	}
	wait_for_stalls(vmm, 64);
}

/* Those behind it have nothing to do with it, until it is their turn. */
TEST_VMM(the_oldest_of_a_timeline_is_the_one_that_stalls, .options.stall_ns = AT_ONCE)
{
	create_by_call(vmm, 1);
	create_by_call(vmm, 2);
	wait_for_stalls(vmm, 1);
	assert_int_equal(vmm->stall.fence.fence_id, 1);
	assert_int_equal(vmm->stall.fence_fd, -1);
	assert_int_equal(signal_global(vmm, 1), 0);
	wait_for_stalls(vmm, 2);
	assert_int_equal(vmm->stall.fence.fence_id, 2);
	assert_int_equal(vmm->num_retired, 1);
}

TEST_VMM(held_work_that_stalls_is_told_as_held, .options.stall_ns = AT_ONCE)
{
	driver_open(driver, vmm, 1);
	create_by_call(vmm, 1);
	wait_for_stalls(vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 2, ID(1), NO_IN_FENCES), 1);
	wait_for_stalls(vmm, 2);
	assert_int_equal(vmm->stall.fence.fence_id, 2);
	assert_true(vmm->stall.held);
}

TEST_VMM(what_retires_is_not_told_as_stalled, .options.stall_ns = AT_ONCE)
{
	for (uint64_t id = 1; id <= 100; id++) {
		create_by_call(vmm, id);
		assert_int_equal(signal_global(vmm, id), 0);
		assert_int_equal(vmm_dispatch(vmm), 1);
	}
	assert_int_equal(vmm->num_stalls, 0);
	assert_int_equal(get_stats(vmm).stalled, 0);
}

TEST(a_stall_can_be_reported_by_the_log_alone)
{
	const struct vgf_options options = { .size = sizeof(struct vgf_options),
		.stall_ns = AT_ONCE };
	struct vgf_callbacks callbacks = fake_callbacks;
	struct fake_vmm *vmm;

	callbacks.stalled = NULL;
	vmm = vmm_create_with(&callbacks, &options);
	create_by_call(vmm, 1);
	while (vmm->num_logs == 0) {
		assert_true(vgf_device_dispatch(vmm->device, WAIT_MS) >= 0);
	}
	assert_non_null(strstr(vmm->log, "global timeline fence 1"));
	vmm_destroy(vmm);
}

TEST_VMM(nothing_stalls_where_the_vmm_wants_to_hear_of_none, .options.stall_ns = UINT64_MAX)
{
	create_by_call(vmm, 1);
	assert_false(is_readable(vmm));
	assert_int_equal(vgf_device_dispatch(vmm->device, 1), 0);
	assert_int_equal(vmm->num_stalls, 0);
}

TEST_VMM(a_stalled_fence_can_be_retired_by_force, .options.stall_ns = AT_ONCE)
{
	int fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);

	wait_for_stalls(vmm, 1);
	assert_int_equal(vgf_fence_cancel(vmm->device, &vmm->stall.fence, -ETIME), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_retired(vmm, 0, 0, VGF_RING_GLOBAL, 1, -ETIME);
	close(fence_fd);
}

static void retire_by_force(struct fake_vmm *vmm)
{
	const struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, 1);

	assert_int_equal(vgf_fence_cancel(vmm->device, &name, -ETIME), 0);
	assert_int_equal(vgf_device_dispatch(vmm->device, 0), 1);
}

static void look_at_descriptor(struct fake_vmm *vmm, const struct vgf_stall *stall)
{
	if (vmm->num_retired == 0) {
		retire_by_force(vmm);
	}
	assert_true(fcntl(stall->fence_fd, F_GETFD) >= 0);
}

static void retire_in_log(struct fake_vmm *vmm, const char *message)
{
	retire_by_force(vmm);
}

TEST_VMM(the_descriptor_of_a_stalled_fence_is_open_until_the_callback_returns,
	.options.stall_ns = AT_ONCE)
{
	int fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);

	vmm->on_stall = look_at_descriptor;
	wait_for_stalls(vmm, 1);
	assert_int_equal(vmm->num_retired, 1);
	assert_idle(vmm);
	close(fence_fd);
}

TEST_VMM(the_descriptor_of_a_stalled_fence_is_open_if_the_message_of_it_retires_that,
	.options.stall_ns = AT_ONCE)
{
	int fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);

	vmm->on_log = retire_in_log;
	vmm->on_stall = look_at_descriptor;
	wait_for_stalls(vmm, 1);
	assert_int_equal(vmm->num_retired, 1);
	assert_idle(vmm);
	close(fence_fd);
}

/* ---- Looking inside ----------------------------------------------------------------------- */

TEST_VMM(pending_fences_are_listed_timeline_by_timeline, .answer = FAKE_FD)
{
	struct vgf_pending pending[8];

	driver_open(driver, vmm, 1);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 2, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(submit(vmm, 1, 0, 3, ID(2), NO_IN_FENCES), 1);
	assert_int_equal(create_fence(vmm, 1, 0, 4, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(signal_call(vmm, 1, 0, 4, -EIO), 0);
	assert_int_equal(vgf_device_list_pending(vmm->device, pending, 8), 4);

	assert_int_equal(pending[0].fence.fence_id, 1);
	assert_int_equal(pending[0].fence.ctx_id, 1);
	assert_int_equal(pending[0].fence.ring, 0);
	assert_true(pending[0].has_fd);
	assert_false(pending[0].held);
	assert_false(pending[0].signalled);
	assert_int_equal(pending[0].status, 0);

	assert_int_equal(pending[1].fence.fence_id, 3);
	assert_true(pending[1].held);
	assert_false(pending[1].has_fd);
	assert_false(pending[1].awaits_turn);
	assert_int_equal(pending[1].awaited.fence_id, 2);
	assert_int_equal(pending[1].awaited.ring, VGF_RING_GLOBAL);

	assert_int_equal(pending[2].fence.fence_id, 4);
	assert_true(pending[2].signalled);
	assert_int_equal(pending[2].status, -EIO);
	assert_false(pending[2].held);

	assert_int_equal(pending[3].fence.fence_id, 2);
	assert_int_equal(pending[3].fence.ring, VGF_RING_GLOBAL);
	assert_false(pending[3].has_fd);
	assert_true(pending[0].age_ns >= pending[2].age_ns);
}

TEST_VMM(a_list_of_pending_fences_tells_what_held_work_waits_for, .answer = FAKE_FD)
{
	int fd = make_fence(false);
	const struct vgf_submission imports = {
		.fence = { .fence_id = 5, .ctx_id = 2, .ring = 0 },
		.flags = VGF_FENCED,
		.in_fence_fds = &fd,
		.num_in_fence_fds = 1,
	};
	struct fake_driver *other = driver_create(vmm, VGF_WAIT_HOST, FAKE_FD);
	struct vgf_pending pending[8];

	driver_open(driver, vmm, 1);
	driver_open(other, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 1, 1, 2, NO_IN_FENCES), 0);
	/* The in-fence that is done is not the one that is waited for. */
	assert_int_equal(submit(vmm, 1, 2, 3, ID(1), ID(2), NO_IN_FENCES), 1);
	driver_signal(driver, 1);
	vmm_wait(vmm, 1);
	assert_int_equal(submit(vmm, 1, 2, 4, NO_IN_FENCES), 1);
	assert_int_equal(vgf_submit(vmm->device, &imports, NULL), 1);
	assert_int_equal(vgf_device_list_pending(vmm->device, pending, 8), 4);

	assert_int_equal(pending[0].fence.fence_id, 2);
	assert_false(pending[0].held);
	assert_false(pending[0].awaits_turn);
	assert_int_equal(pending[0].awaited.fence_id, 0);

	assert_int_equal(pending[1].fence.fence_id, 3);
	assert_true(pending[1].held);
	assert_false(pending[1].awaits_turn);
	assert_int_equal(pending[1].awaited.ctx_id, 1);
	assert_int_equal(pending[1].awaited.ring, 1);
	assert_int_equal(pending[1].awaited.fence_id, 2);

	assert_int_equal(pending[2].fence.fence_id, 4);
	assert_true(pending[2].held);
	assert_true(pending[2].awaits_turn);
	assert_int_equal(pending[2].awaited.fence_id, 0);

	assert_int_equal(pending[3].fence.fence_id, 5);
	assert_true(pending[3].held);
	assert_true(pending[3].awaited.fence_id == VGF_NO_FENCE_ID);
	vmm_destroy_device(vmm);
	close(fd);
}

TEST_VMM(a_short_list_of_pending_fences_has_the_first)
{
	struct vgf_pending pending[4] = { 0 };

	for (uint64_t id = 1; id <= 10; id++) {
		create_by_call(vmm, id);
	}
	assert_int_equal(vgf_device_list_pending(vmm->device, NULL, 0), 10);
	assert_int_equal(vgf_device_list_pending(vmm->device, pending, 3), 10);
	for (uint64_t id = 1; id <= 3; id++) {
		assert_int_equal(pending[id - 1].fence.fence_id, id);
	}
	assert_int_equal(pending[3].fence.fence_id, 0);
}

TEST_VMM(statistics_add_up)
{
	struct fake_driver *takes = driver_create(vmm, VGF_WAIT_DRIVER, FAKE_CALL);
	struct vgf_stats stats = { .size = sizeof(stats) };
	const uint64_t in_fence = 1;
	bool will_retire;
	int fence_fd;

	driver_open(driver, vmm, 1);
	driver_open(takes, vmm, 2);
	driver_open(driver, vmm, 3);
	fence_fd = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES);                 /* runs, its driver waits */
	submit(vmm, 1, 0, 3, ID(1), NO_IN_FENCES);                 /* held */
	submit(vmm, 1, 0, 4, NO_IN_FENCES);                        /* held behind it */
	submit(vmm, 3, 0, 5, NO_IN_FENCES);                        /* runs */
	submit(vmm, 3, 0, 6, ID(100), NO_IN_FENCES);               /* refused */
	submit_flags(vmm, 3, 0, 0, 0, NULL, 0, &will_retire);      /* runs, without a fence */
	submit_flags(vmm, 3, 0, 0, 0, &in_fence, 1, &will_retire); /* held, without a fence */
	stats = get_stats(vmm);
	assert_int_equal(stats.submitted, 6);
	assert_int_equal(stats.refused, 1);
	assert_int_equal(stats.run_driver, 1);
	assert_int_equal(stats.run_ready, 2);
	assert_int_equal(stats.held, 3);
	assert_int_equal(stats.created, 6);
	assert_int_equal(stats.pending, 6);
	assert_int_equal(stats.fds, 1);
	assert_int_equal(stats.contexts, 3);

	assert_int_equal(cancel_context(vmm->device, 3), 0); /* drops one */
	signal_fence(fence_fd);
	vmm_dispatch(vmm);
	stats = get_stats(vmm);
	assert_int_equal(stats.run_host, 1); /* the one behind it had no in-fences */
	assert_int_equal(stats.run_ready, 3);
	assert_int_equal(stats.submitted,
		stats.run_ready + stats.run_driver + stats.run_gl + stats.run_host + stats.held +
			1);
	assert_int_equal(stats.held, 0);
	assert_int_equal(stats.held_size, 0);
	assert_int_equal(stats.peak_held, 3);
	assert_int_equal(stats.peak_fds, 1);
	assert_int_equal(stats.peak_pending, 6);
	assert_int_equal(stats.created, stats.retired + stats.pending);

	assert_int_equal(vgf_device_reset(vmm->device), 0);
	stats = get_stats(vmm);
	assert_int_equal(stats.created, stats.retired);
	assert_int_equal(stats.failed, 1);
	assert_int_equal(stats.cancelled, 4);
	assert_int_equal(stats.contexts, 0);
	close(fence_fd);
}

static char *dump(struct fake_vmm *vmm)
{
	char *text;

	assert_int_equal(vgf_device_dump(vmm->device, &text), 0);
	assert_non_null(text);
	return text;
}

TEST_VMM(a_dump_has_every_timeline_and_what_held_work_waits_for, .answer = FAKE_FD)
{
	char *text;

	driver_open(driver, vmm, 3);
	driver_open(driver, vmm, 4);
	assert_int_equal(submit(vmm, 3, 7, 11, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 4, 9, 12, ID(11), NO_IN_FENCES), 1);
	create_by_call(vmm, 13);
	create_by_call(vmm, 14);
	assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, 14, -EIO), 0);
	text = dump(vmm);
	assert_non_null(strstr(text, "context 3 ring 7"));
	assert_non_null(strstr(text, "context 4 ring 9"));
	assert_non_null(strstr(text, "global timeline"));
	assert_non_null(strstr(text, "fence 11"));
	assert_non_null(strstr(text, "fence 12"));
	assert_non_null(strstr(text, "[context 3 ring 7 fence 11]"));
	assert_non_null(strstr(text, "fence 13"));
	assert_non_null(strstr(text, "fence 14"));
	assert_non_null(strstr(text, "(-5)"));
	free(text);
}

static void look_at_own_work(struct fake_driver *driver, const struct vgf_job *job)
{
	struct fake_vmm *vmm = driver->arg;
	struct vgf_pending pending[2];
	char *text = dump(vmm);

	if (job->fence.fence_id == 2) {
		assert_int_equal(job->num_in_fences, 1);
		assert_int_equal(vgf_device_list_pending(vmm->device, pending, 2), 2);
		assert_int_equal(pending[1].fence.fence_id, 2);
		assert_false(pending[1].held || pending[1].awaits_turn);
		assert_int_equal(pending[1].awaited.fence_id, 0);
		assert_non_null(strstr(text, "its driver is being called"));
		assert_null(strstr(text, "held, waits for"));
	}
	free(text);
}

TEST_VMM(work_that_its_driver_gets_is_not_held, .answer = FAKE_FD, .wait = VGF_WAIT_DRIVER)
{
	driver->arg = vmm;
	driver->on_submit = look_at_own_work;
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(vmm, 2, 0, 2, ID(1), NO_IN_FENCES), 0);
}

TEST_VMM(a_dump_of_an_idle_device_is_short)
{
	char *text = dump(vmm);

	assert_non_null(strstr(text, vgf_version()));
	assert_in_range(strlen(text), 1, 1000);
	free(text);
}

TEST_VMM(a_dump_of_thousands_of_fences_is_bounded)
{
	uint64_t in_fences[256];
	bool will_retire;
	char *text;

	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	for (uint64_t id = 1; id <= 5000; id++) {
		assert_int_equal(submit(vmm, 1, 0, id, NO_IN_FENCES), 0);
	}
	for (uint64_t i = 0; i < 256; i++) {
		in_fences[i] = 5000 + i;
		create_fence(vmm, 1, (int32_t)(i % 64), 5000 + i, VGF_FENCE_BY_CALL);
	}
	submit_flags(vmm, 2, 0, 9000, VGF_FENCED, in_fences, 256, &will_retire);
	text = dump(vmm);
	assert_in_range(strlen(text), 1000, 100000);
	free(text);
}

TEST_VMM(a_dump_says_how_many_fences_it_leaves_out)
{
	uint64_t id = 1;
	char *text;

	for (; id <= 32; id++) {
		create_by_call(vmm, id);
	}
	text = dump(vmm);
	assert_null(strstr(text, " more\n"));
	free(text);
	create_by_call(vmm, id);
	create_by_call(vmm, id + 1);
	text = dump(vmm);
	assert_non_null(strstr(text, "and 2 more\n"));
	free(text);
}

/* Work without a fence is on no timeline, but a bug report is about what is stuck. */
TEST_VMM(a_dump_tells_of_held_work_without_a_fence)
{
	const uint64_t in_fence = 1;
	bool will_retire;
	char *text;

	driver_open(driver, vmm, 42);
	create_by_call(vmm, 1);
	submit_flags(vmm, 42, 6, 0, 0, &in_fence, 1, &will_retire);
	text = dump(vmm);
	assert_non_null(strstr(text, "context 42: 1 in a queue"));
	free(text);
}

/* ---- The log ------------------------------------------------------------------------------ */

/* The last message is of this fence, and there was exactly one. */
static void assert_logged(struct fake_vmm *vmm, const char *name, const char *error)
{
	assert_int_equal(vmm->num_logs, 1);
	assert_non_null(strstr(vmm->log, name));
	assert_non_null(strstr(vmm->log, error));
	assert_null(strchr(vmm->log, '\n'));
	vmm->num_logs = 0;
}

TEST_VMM(what_is_refused_is_logged_with_its_name,
	.options = { .limits = { .max_in_fences = 2, .max_context_fences = 3, .max_contexts = 2 } })
{
	const uint64_t in_fences[] = { 1, 1, 1 };
	bool will_retire;

	driver_open(driver, vmm, 1);
	assert_int_equal(vmm->num_logs, 0);
	assert_int_equal(submit(vmm, 8, 0, 1, NO_IN_FENCES), -ENOENT);
	assert_logged(vmm, "context 8 ring 0 fence 1", "ENOENT");
	assert_int_equal(submit(vmm, 1, 3, 2, ID(77), NO_IN_FENCES), -ENOENT);
	assert_logged(vmm, "context 1 ring 3 fence 2", "in-fence 77");
	assert_int_equal(submit(vmm, 1, 3, 2, NO_IN_FENCES), -EINVAL);
	assert_logged(vmm, "context 1 ring 3 fence 2", "EINVAL");
	assert_int_equal(
		submit_flags(vmm, 1, VGF_RING_GLOBAL, 3, VGF_FENCED, in_fences, 3, &will_retire),
		-E2BIG);
	assert_logged(vmm, "context 1 global timeline fence 3", "E2BIG");
	driver->answer = FAKE_ERROR;
	driver->error_always = true;
	driver->error = -ENODEV;
	assert_int_equal(submit(vmm, 1, 5, 4, NO_IN_FENCES), -ENODEV);
	assert_logged(vmm, "context 1 ring 5 fence 4", "ENODEV");
	assert_int_equal(submit(vmm, 1, 5, 5, NO_IN_FENCES), -ENOSPC);
	assert_logged(vmm, "context 1 ring 5 fence 5", "ENOSPC");
}

TEST_VMM(what_fails_otherwise_is_logged_with_its_name, .options.limits.max_contexts = 1)
{
	struct vgf_fence_name name = make_name(8, 1, 5);

	driver_open(driver, vmm, 1);
	assert_int_equal(vgf_context_create(vmm->device, 1, &driver->driver, driver), -EEXIST);
	assert_logged(vmm, "context 1", "EEXIST");
	assert_int_equal(vgf_context_create(vmm->device, 2, &driver->driver, driver), -ENOSPC);
	assert_logged(vmm, "context 2", "ENOSPC");
	assert_int_equal(vgf_context_destroy(vmm->device, 7), -ENOENT);
	assert_logged(vmm, "context 7", "ENOENT");
	assert_int_equal(cancel_context(vmm->device, 7), -ENOENT);
	assert_logged(vmm, "context 7", "ENOENT");
	assert_int_equal(create_fence(vmm, 8, 1, 5, VGF_FENCE_DONE), -ENOENT);
	assert_logged(vmm, "context 8 ring 1 fence 5", "ENOENT");
	assert_int_equal(vgf_fence_refuse(vmm->device, &name, 0, NULL, -EBADMSG), -ENOENT);
	assert_logged(vmm, "context 8 ring 1 fence 5", "ENOENT");
}

TEST_VMM(a_descriptor_that_cannot_be_polled_is_logged)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 5, fd), -EPERM);
	assert_logged(vmm, "global timeline fence 5", "EPERM");
}

/* A guest must not fill the host's disk. */
TEST_VMM(a_flood_of_bad_submissions_is_limited_in_the_log)
{
	struct timespec before, after;
	unsigned int seconds;

	clock_gettime(CLOCK_MONOTONIC, &before);
	for (uint64_t id = 1; id <= 10000; id++) {
		submit(vmm, 1, 0, id, NO_IN_FENCES);
	}
	clock_gettime(CLOCK_MONOTONIC, &after);
	/* "A few a second": however long this took. */
	seconds = (unsigned int)(after.tv_sec - before.tv_sec) + 2;
	assert_in_range(vmm->num_logs, 1, 20 * seconds);
	assert_int_equal(get_stats(vmm).refused, 10000);
}

TEST(a_vmm_need_not_want_a_log)
{
	const struct vgf_options options = { .size = sizeof(struct vgf_options),
		.stall_ns = AT_ONCE };
	const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = fake_callbacks.retire };
	struct fake_vmm *vmm = vmm_create_with(&callbacks, &options);

	assert_int_equal(submit(vmm, 1, VGF_RING_GLOBAL, 1, NO_IN_FENCES), -ENOENT);
	create_by_call(vmm, 2);
	assert_int_equal(vmm_dispatch(vmm), 1);
	while (get_stats(vmm).stalled == 0) {
		assert_true(vgf_device_dispatch(vmm->device, WAIT_MS) >= 0);
	}
	vmm_destroy(vmm);
}

static void refuse_in_log(struct fake_vmm *vmm, const char *message)
{
	if (vmm->num_logs < 5) {
		submit(vmm, 9, 0, vmm->num_logs + 1, NO_IN_FENCES);
	}
}

/* Promise 6. */
TEST_VMM(a_log_callback_may_cause_messages)
{
	vmm->on_log = refuse_in_log;
	assert_int_equal(submit(vmm, 9, 0, 1, NO_IN_FENCES), -ENOENT);
	assert_int_equal(vmm->num_logs, 5);
}
