/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Every allocation fails once: each call is made over and over, with its first allocation
 * failing, then its second, until it passes. What a failure leaves must be as before the call,
 * and the device must work.
 *
 * Beside what alloc.h asks for, it is linked with -Wl,--wrap=free, open_memstream, fclose,
 * pthread_create and epoll_ctl.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "alloc.h"
#include "fake.h"

/* ---- Failing ------------------------------------------------------------------------------ */

/* The names are the linker's. */
void __real_free(void *block);
FILE *__real_open_memstream(char **text, size_t *size);
int __real_fclose(FILE *file);
int __real_pthread_create(
	pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *arg);
int __real_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
void __wrap_free(void *block);
FILE *__wrap_open_memstream(char **text, size_t *size);
int __wrap_fclose(FILE *file);
int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *arg);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);

static long num_freed, num_failed;
static unsigned long failing_at; /* of alloc_count */
static bool streams_fail_to_open, streams_fail_to_end, threads_fail;
static unsigned int watches_left = UINT_MAX;

void __wrap_free(void *block)
{
	num_freed += block != NULL;
	__real_free(block);
}

FILE *__wrap_open_memstream(char **text, size_t *size)
{
	return streams_fail_to_open ? NULL : __real_open_memstream(text, size);
}

int __wrap_fclose(FILE *file)
{
	int ret = __real_fclose(file);

	return streams_fail_to_end ? EOF : ret;
}

int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *arg)
{
	return threads_fail ? EAGAIN : __real_pthread_create(thread, attributes, function, arg);
}

/* As it is for a user with as many watches as /proc/sys/fs/epoll/max_user_watches. */
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
	if (operation == EPOLL_CTL_ADD && watches_left != UINT_MAX && watches_left-- == 0) {
		errno = ENOSPC;
		return -1;
	}
	return __real_epoll_ctl(epoll_fd, operation, fd, event);
}

/* Blocks of memory that are in use, compared with earlier. */
static long count_blocks(void)
{
	return (long)alloc_count() - num_failed - num_freed;
}

static void fail_nth(unsigned long nth)
{
	failing_at = alloc_count() + nth;
	alloc_fail(nth);
}

/* Ends that, and returns whether an allocation has failed. */
static bool has_failed(void)
{
	bool failed = alloc_count() >= failing_at;

	alloc_fail(0);
	num_failed += failed;
	return failed;
}

/* ---- A world to fail in ------------------------------------------------------------------- */

struct world {
	struct fake_vmm *vmm;
	struct fake_driver *host, *takes; /* of contexts 1 and 2 */
	long blocks;                      /* before all this */
	long own_blocks;
	int fds; /* descriptors of the process */
	struct vgf_stats stats;
	uint64_t last_id;
	int own_fds[2];
};

/* Fence 1 of context 1 and fence 2 of context 2 run, both with descriptors. */
static void world_init(struct world *world)
{
	*world = (struct world){ .blocks = count_blocks(), .last_id = 2 };
	world->vmm = vmm_create(NULL);
	world->host = driver_create(world->vmm, VGF_WAIT_HOST, FAKE_FD);
	world->takes = driver_create(world->vmm, VGF_WAIT_DRIVER, FAKE_FD);
	driver_open(world->host, world->vmm, 1);
	driver_open(world->takes, world->vmm, 2);
	assert_int_equal(submit(world->vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(submit(world->vmm, 2, 0, 2, NO_IN_FENCES), 0);
	world->own_fds[0] = make_fence(false);
	world->own_fds[1] = make_fence(false);
}

static void world_note(struct world *world)
{
	world->own_blocks = count_blocks();
	world->fds = count_fds();
	world->stats = get_stats(world->vmm);
}

static void signal_all(struct fake_driver *driver)
{
	for (unsigned int i = 0; i < driver->num_jobs; i++) {
		if (driver->jobs[i].fence_fd >= 0) {
			signal_fence(driver->jobs[i].fence_fd);
		}
	}
}

static void retire_all(struct world *world)
{
	do {
		signal_all(world->host);
		signal_all(world->takes);
	} while (vmm_dispatch(world->vmm) > 0);
}

/* Everything can still be done, and is. */
static void world_finish(struct world *world)
{
	uint64_t id = ++world->last_id;
	uint64_t in_fences[] = { 1, 2 };
	bool will_retire;

	world->takes->answer = FAKE_FD;
	assert_true(
		submit_flags(world->vmm, 1, 7, id, VGF_FENCED, in_fences, 2, &will_retire) >= 0);
	assert_true(will_retire);
	signal_fence(world->own_fds[0]);
	signal_fence(world->own_fds[1]);
	retire_all(world);
	assert_true(driver_has(world->host, id));
	assert_idle(world->vmm);
	vmm_destroy(world->vmm);
	close(world->own_fds[0]);
	close(world->own_fds[1]);
	assert_int_equal(count_blocks(), world->blocks);
}

/* ---- One call ----------------------------------------------------------------------------- */

/* Which function is called, and how it can fail. */
struct trial {
	void (*prepare)(struct world *world);
	int (*call)(struct world *world, bool *will_retire);
	int success;
	bool is_submission;
	unsigned int allocations; /* at least */
	unsigned int may_keep;    /* blocks that a failure may leave in use */
	bool needs_dispatch;      /* to let go of all else */
};

static unsigned int count_retired(const struct world *world, uint64_t fence_id, int status)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < world->vmm->num_retired; i++) {
		if (world->vmm->retired[i].name.fence_id == fence_id) {
			assert_int_equal(world->vmm->retired[i].status, status);
			count++;
		}
	}
	return count;
}

/* A fence whose submission could not be accepted is on its timeline, and retires with the error; or
 * it is not there at all. */
static void check_failure(struct world *world, const struct trial *trial, bool will_retire)
{
	struct vgf_stats stats = get_stats(world->vmm);

	if (trial->needs_dispatch) {
		vmm_dispatch(world->vmm);
		stats.fds = get_stats(world->vmm).fds;
	}
	assert_in_range(count_blocks() - world->own_blocks, 0, trial->may_keep + will_retire);
	assert_int_equal(count_fds(), world->fds);
	assert_int_equal(stats.created, world->stats.created + will_retire);
	assert_int_equal(stats.pending, world->stats.pending + will_retire);
	assert_int_equal(stats.submitted, world->stats.submitted);
	assert_int_equal(stats.refused, world->stats.refused + trial->is_submission);
	assert_int_equal(stats.held, world->stats.held);
	assert_int_equal(stats.held_size, world->stats.held_size);
	assert_int_equal(stats.fds, world->stats.fds);
	assert_int_equal(stats.contexts, world->stats.contexts);
	assert_int_equal(stats.in_fences, world->stats.in_fences);

	retire_all(world);
	if (world->last_id > 2) {
		assert_int_equal(count_retired(world, world->last_id, -ENOMEM), will_retire);
	}
	assert_int_equal(get_stats(world->vmm).refused, stats.refused);
}

static bool try_with_failure(const struct trial *trial, unsigned long nth)
{
	struct world world;
	bool will_retire = false;
	bool failed;
	int ret;

	world_init(&world);
	if (trial->prepare) {
		trial->prepare(&world);
	}
	world_note(&world);
	fail_nth(nth);
	ret = trial->call(&world, &will_retire);
	failed = has_failed();
	if (failed) {
		assert_int_equal(ret, -ENOMEM);
		check_failure(&world, trial, will_retire);
	} else {
		assert_int_equal(ret, trial->success);
	}
	world_finish(&world);
	return failed;
}

static void try_all(const struct trial *trial)
{
	unsigned long nth = 1;

	while (try_with_failure(trial, nth)) {
		nth++;
	}
	assert_int_equal(nth, trial->allocations + 1);
}

/* ---- Submissions -------------------------------------------------------------------------- */

static int submit_to(struct world *world, uint32_t ctx_id, int32_t ring, uint32_t flags,
	uint32_t num_in_fences, bool *will_retire)
{
	static const uint64_t in_fences[] = { 1, 2 };

	return submit_flags(world->vmm, ctx_id, ring, ++world->last_id, flags | VGF_SHAREABLE,
		in_fences, num_in_fences, will_retire);
}

static int submit_to_run(struct world *world, bool *will_retire)
{
	return submit_to(world, 1, 0, VGF_FENCED, 0, will_retire);
}

TEST(work_that_runs_at_once)
{
	try_all(&(struct trial){
		.call = submit_to_run,
		.is_submission = true,
		.allocations = 2,
	});
}

static int submit_on_new_ring(struct world *world, bool *will_retire)
{
	return submit_to(world, 1, 9, VGF_FENCED, 0, will_retire);
}

TEST(work_on_a_ring_that_is_new)
{
	try_all(&(struct trial){
		.call = submit_on_new_ring,
		.is_submission = true,
		.allocations = 3,
		.may_keep = 1, /* the ring, until its context goes */
	});
}

static int submit_to_hold(struct world *world, bool *will_retire)
{
	return submit_to(world, 1, 0, VGF_FENCED, 2, will_retire);
}

TEST(work_that_is_held_back)
{
	try_all(&(struct trial){
		.call = submit_to_hold,
		.success = 1,
		.is_submission = true,
		.allocations = 2,
	});
}

/* Its copy has no room in the submission's own memory. */
static int submit_large(struct world *world, uint32_t ctx_id, bool *will_retire)
{
	static const uint64_t in_fences[] = { 1, 2 };
	static const char command[1000];
	const struct vgf_submission submission = {
		.fence = make_name(ctx_id, 0, ++world->last_id),
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.num_in_fences = 2,
		.in_fences = in_fences,
		.command = command,
		.size = sizeof(command),
	};

	return vgf_submit(world->vmm->device, &submission, will_retire);
}

static int submit_large_to_hold(struct world *world, bool *will_retire)
{
	return submit_large(world, 1, will_retire);
}

TEST(large_work_that_is_held_back)
{
	try_all(&(struct trial){
		.call = submit_large_to_hold,
		.success = 1,
		.is_submission = true,
		.allocations = 3,
	});
}

static int submit_unfenced(struct world *world, bool *will_retire)
{
	return submit_to(world, 1, 0, 0, 2, will_retire);
}

TEST(unfenced_work_that_is_held_back)
{
	try_all(&(struct trial){
		.call = submit_unfenced,
		.success = 1,
		.is_submission = true,
		.allocations = 1,
	});
}

static int submit_to_driver(struct world *world, bool *will_retire)
{
	return submit_to(world, 2, 0, VGF_FENCED, 2, will_retire);
}

TEST(work_with_in_fences_for_the_driver)
{
	try_all(&(struct trial){
		.call = submit_to_driver,
		.is_submission = true,
		.allocations = 2,
	});
}

static int submit_globally(struct world *world, bool *will_retire)
{
	return submit_to(world, 1, VGF_RING_GLOBAL, VGF_FENCED, 2, will_retire);
}

TEST(work_of_the_global_timeline)
{
	try_all(&(struct trial){
		.call = submit_globally,
		.success = 1,
		.is_submission = true,
		.allocations = 2,
	});
}

static void hold_back(struct world *world)
{
	assert_int_equal(submit_to(world, 1, 0, VGF_FENCED, 2, NULL), 1);
}

TEST(work_behind_held_work)
{
	try_all(&(struct trial){
		.prepare = hold_back,
		.call = submit_to_run,
		.success = 1,
		.is_submission = true,
		.allocations = 3,
	});
}

static int submit_with_descriptors(struct world *world, bool *will_retire)
{
	static const char command[1000];
	struct vgf_submission submission = {
		.fence = make_name(1, 0, ++world->last_id),
		.flags = VGF_FENCED,
		.in_fence_fds = world->own_fds,
		.num_in_fence_fds = 2,
		.command = command,
		.size = sizeof(command),
	};

	return vgf_submit(world->vmm->device, &submission, will_retire);
}

TEST(work_with_in_fences_that_are_descriptors)
{
	try_all(&(struct trial){
		.call = submit_with_descriptors,
		.success = 1,
		.is_submission = true,
		.allocations = 5,
		.needs_dispatch = true, /* the last failure comes when they are watched already */
	});
}

/* The driver had it already, so it counts as run, and it ends with an error. */
TEST(work_that_its_driver_gives_back)
{
	bool failed = true;

	for (unsigned long nth = 1; failed; nth++) {
		struct world world;
		bool will_retire = false;
		int ret;

		world_init(&world);
		world.takes->answer = FAKE_ERROR;
		world.takes->error = -EMFILE;
		fail_nth(nth);
		ret = submit_large(&world, 2, &will_retire);
		failed = has_failed();
		assert_int_equal(ret, failed ? -ENOMEM : 1);
		assert_int_equal(get_stats(world.vmm).held, !failed);
		world.takes->answer = FAKE_FD;
		retire_all(&world);
		assert_int_equal(
			count_retired(&world, world.last_id, failed ? -ENOMEM : 0), will_retire);
		world_finish(&world);
		assert_true(failed || nth > 3);
	}
}

/* ---- Other fences ------------------------------------------------------------------------- */

static int create_by_call(struct world *world, bool *will_retire)
{
	int ret = create_fence(world->vmm, 0, VGF_RING_GLOBAL, ++world->last_id, VGF_FENCE_BY_CALL);

	if (ret == 0) {
		assert_int_equal(signal_call(world->vmm, 0, VGF_RING_GLOBAL, world->last_id, 0), 0);
	}
	return ret;
}

TEST(a_fence_by_call)
{
	try_all(&(struct trial){ .call = create_by_call, .allocations = 1 });
}

static int create_done(struct world *world, bool *will_retire)
{
	return create_fence(world->vmm, 1, 0, ++world->last_id, VGF_FENCE_DONE);
}

TEST(a_fence_that_is_done)
{
	try_all(&(struct trial){ .call = create_done, .allocations = 1 });
}

static int create_with_fd(struct world *world, bool *will_retire)
{
	return create_fence(world->vmm, 1, 3, ++world->last_id, make_fence(true));
}

/* It is closed: check_failure counts descriptors. */
TEST(a_fence_with_a_descriptor_on_a_new_ring)
{
	try_all(&(struct trial){ .call = create_with_fd, .allocations = 2, .may_keep = 1 });
}

static int refuse(struct world *world, bool *will_retire)
{
	struct vgf_fence_name name = make_name(1, 0, ++world->last_id);

	return vgf_fence_refuse(world->vmm->device, &name, 0, NULL, -EIO);
}

TEST(a_fence_that_is_refused)
{
	try_all(&(struct trial){ .call = refuse, .allocations = 1 });
}

/* ---- Contexts ----------------------------------------------------------------------------- */

static int create_context(struct world *world, bool *will_retire)
{
	return vgf_context_create(world->vmm->device, 3, &world->host->driver, world->host);
}

TEST(a_context)
{
	try_all(&(struct trial){ .call = create_context, .allocations = 3 });
}

static void create_and_destroy_context(struct world *world)
{
	hold_back(world);
	assert_int_equal(vgf_context_destroy(world->vmm->device, 1), 1);
}

static int create_context_again(struct world *world, bool *will_retire)
{
	return vgf_context_create(world->vmm->device, 1, &world->host->driver, world->host);
}

TEST(a_context_whose_id_still_has_work)
{
	struct trial trial = {
		.prepare = create_and_destroy_context,
		.call = create_context_again,
		.allocations = 1,
	};
	unsigned long nth = 1;
	bool failed;

	/* world_finish needs the context, so each failure is followed by a success. */
	do {
		struct world world;
		bool will_retire;

		world_init(&world);
		trial.prepare(&world);
		world_note(&world);
		fail_nth(nth++);
		failed = trial.call(&world, &will_retire) < 0;
		assert_true(has_failed() == failed);
		if (failed) {
			assert_int_equal(get_stats(world.vmm).contexts, world.stats.contexts);
			assert_int_equal(count_blocks(), world.own_blocks);
			assert_int_equal(trial.call(&world, &will_retire), 0);
		}
		world_finish(&world);
	} while (failed);
	assert_true(nth > trial.allocations);
}

static void note_call(void *arg, int status)
{
	assert_int_equal(status, 0);
	++*(unsigned int *)arg;
}

/* Called exactly once if vgf_context_defer succeeds, never if not. */
static void try_to_defer(void (*prepare)(struct world *world), int success)
{
	bool failed = true;

	for (unsigned long nth = 1; failed; nth++) {
		unsigned int calls = 0;
		struct world world;
		int ret;

		world_init(&world);
		if (prepare) {
			prepare(&world);
		}
		world_note(&world);
		fail_nth(nth);
		ret = defer_call(world.vmm->device, 1, note_call, &calls);
		failed = has_failed();
		assert_int_equal(ret, failed ? -ENOMEM : success);
		if (failed) {
			assert_int_equal(count_blocks(), world.own_blocks);
		}
		world_finish(&world);
		assert_int_equal(calls, !failed);
		assert_true(failed || nth > 1);
	}
}

TEST(a_deferred_call_at_once)
{
	try_to_defer(NULL, 0);
}

TEST(a_deferred_call_behind_held_work)
{
	try_to_defer(hold_back, 1);
}

TEST(a_deferred_call_that_is_refused)
{
	unsigned int calls = 0;
	struct world world;

	world_init(&world);
	world_note(&world);
	assert_int_equal(defer_call(world.vmm->device, 9, note_call, &calls), -ENOENT);
	assert_int_equal(count_blocks(), world.own_blocks);
	world_finish(&world);
	assert_int_equal(calls, 0);
}

/* ---- Devices ------------------------------------------------------------------------------ */

static void try_to_create_device(const struct vgf_options *options)
{
	struct fake_vmm vmm = { 0 };
	unsigned long nth = 1;
	long blocks = count_blocks();
	int fds = count_fds();
	int ret;

	do {
		vmm.device = (void *)1;
		fail_nth(nth);
		ret = vgf_device_create(&fake_callbacks, &vmm, options, &vmm.device);
		assert_int_equal(ret, has_failed() ? -ENOMEM : 0);
		if (ret < 0) {
			assert_null(vmm.device);
			assert_int_equal(count_fds(), fds);
			assert_int_equal(count_blocks(), blocks);
		}
		nth++;
	} while (ret < 0);
	assert_true(nth > 2);
	vgf_device_destroy(vmm.device);
	assert_int_equal(count_blocks(), blocks);
}

TEST(a_device)
{
	try_to_create_device(NULL);
}

TEST(a_device_with_a_thread)
{
	try_to_create_device(
		&(struct vgf_options){ .size = sizeof(struct vgf_options), .own_thread = true });
}

TEST(a_device_that_gets_no_thread)
{
	struct vgf_options options = { .size = sizeof(struct vgf_options), .own_thread = true };
	struct vgf_device *device;
	long blocks = count_blocks();

	threads_fail = true;
	assert_int_equal(vgf_device_create(&fake_callbacks, NULL, &options, &device), -EAGAIN);
	threads_fail = false;
	assert_null(device);
	assert_int_equal(count_blocks(), blocks);
}

TEST(a_device_that_gets_no_watch)
{
	struct vgf_device *device;
	long blocks = count_blocks();
	int fds = count_fds();

	for (unsigned int count = 0; count < 2; count++) {
		watches_left = count;
		assert_int_equal(vgf_device_create(&fake_callbacks, NULL, NULL, &device), -ENOMEM);
		watches_left = UINT_MAX;
		assert_null(device);
		assert_int_equal(count_fds(), fds);
		assert_int_equal(count_blocks(), blocks);
	}
}

TEST(a_dump)
{
	struct world world;
	char *text = (void *)1;

	world_init(&world);
	hold_back(&world);
	streams_fail_to_open = true;
	assert_int_equal(vgf_device_dump(world.vmm->device, &text), -ENOMEM);
	streams_fail_to_open = false;
	assert_null(text);
	streams_fail_to_end = true;
	assert_int_equal(vgf_device_dump(world.vmm->device, &text), -ENOMEM);
	streams_fail_to_end = false;
	assert_null(text);
	/* The text was allocated where it is not counted, and freed where it is. */
	num_freed--;
	assert_int_equal(vgf_device_dump(world.vmm->device, &text), 0);
	assert_non_null(strstr(text, "fence 1"));
	free(text);
	num_freed--;
	world_finish(&world);
}

/* ---- What needs no memory ----------------------------------------------------------------- */

static int publish(struct fake_vmm *vmm, uint64_t fence_id)
{
	struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, fence_id);

	return publish_take(vmm->device, &name, make_fence(true));
}

/* Whatever ends something must work when there is no memory. */
TEST(ending_things_needs_no_memory)
{
	struct world world;
	struct vgf_pending pending[4];
	struct vgf_stats stats = { .size = sizeof(stats) };
	int fd;

	world_init(&world);
	for (uint64_t id = 10; id <= 12; id++) {
		assert_int_equal(
			create_fence(world.vmm, 0, VGF_RING_GLOBAL, id, VGF_FENCE_BY_CALL), 0);
	}
	hold_back(&world);
	hold_back(&world);
	fail_nth(1);
	assert_int_equal(signal_call(world.vmm, 0, VGF_RING_GLOBAL, 10, 0), 0);
	assert_int_equal(publish(world.vmm, 11), 0);
	assert_int_equal(cancel_fence(world.vmm, 0, VGF_RING_GLOBAL, 12, -EIO), 0);
	assert_int_equal(cancel_fence(world.vmm, 1, 0, world.last_id - 1, -EIO), 0);
	fd = export_fence(world.vmm->device, 1);
	assert_true(fd >= 0);
	close(fd);
	vgf_device_get_stats(world.vmm->device, &stats);
	assert_int_equal(vgf_device_list_pending(world.vmm->device, pending, 4), stats.pending);
	assert_int_equal(cancel_context(world.vmm->device, 1), 0);
	assert_int_equal(vgf_context_destroy(world.vmm->device, 2), 0);
	assert_int_equal(vmm_dispatch(world.vmm), 3);
	assert_int_equal(vgf_device_drain(world.vmm->device, 0), -ETIMEDOUT);
	assert_int_equal(vgf_device_reset(world.vmm->device), 0);
	assert_idle(world.vmm);
	vmm_destroy_device(world.vmm);
	assert_false(has_failed());

	vmm_destroy(world.vmm);
	close(world.own_fds[0]);
	close(world.own_fds[1]);
	assert_int_equal(count_blocks(), world.blocks);
}

/* Looking up gets slower, and that is all. */
TEST_VMM(a_table_that_cannot_grow_works_on)
{
	enum { COUNT = 2000 };
	unsigned int num_grow = 0;

	for (unsigned int i = 0; i < COUNT; i++) {
		/* The fence itself is the first allocation; a second one is to grow. */
		fail_nth(2);
		assert_int_equal(
			create_fence(vmm, 0, VGF_RING_GLOBAL, i + 1, VGF_FENCE_BY_CALL), 0);
		num_grow += has_failed();
	}
	assert_true(num_grow > 0);
	for (unsigned int i = 0; i < COUNT; i++) {
		assert_int_equal(export_fence(vmm->device, i + 1), -EAGAIN);
	}
	for (unsigned int i = 0; i < COUNT; i++) {
		assert_int_equal(signal_call(vmm, 0, VGF_RING_GLOBAL, COUNT - i, 0), 0);
	}
	assert_int_equal(vmm_dispatch(vmm), COUNT);
	for (unsigned int i = 0; i < COUNT; i++) {
		assert_int_equal(vmm->retired[i].name.fence_id, i + 1);
	}
	assert_idle(vmm);
}

/* ---- A whole story ------------------------------------------------------------------------ */

/* What the library has promised. */
struct promises {
	unsigned int fences, calls;
	unsigned int contexts; /* of these drivers */
};

static void submit_in_story(struct world *world, struct promises *promises, uint32_t ctx_id,
	int32_t ring, uint32_t flags, uint32_t num_in_fences)
{
	bool will_retire;
	int ret = submit_to(world, ctx_id, ring, flags, num_in_fences, &will_retire);

	assert_true(ret >= 0 || ret == -ENOMEM || ret == -ENOENT);
	assert_true(ret < 0 || will_retire == (flags & VGF_FENCED));
	promises->fences += will_retire;
}

static void promise(unsigned int *promised, int ret)
{
	assert_true(ret >= 0 || ret == -ENOMEM || ret == -ENOENT);
	*promised += ret >= 0;
}

static void story(struct world *world, struct promises *promises, unsigned int *calls)
{
	struct vgf_device *device = world->vmm->device;
	struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, 100);
	bool ignored;
	int ret;

	promise(&promises->contexts, create_context(world, &ignored));
	submit_in_story(world, promises, 3, 1, VGF_FENCED, 0);
	submit_in_story(world, promises, 3, 1, VGF_FENCED | VGF_MERGEABLE, 2);
	submit_in_story(world, promises, 3, 2, 0, 2);
	submit_in_story(world, promises, 2, VGF_RING_GLOBAL, VGF_FENCED, 2);
	promise(&promises->calls, defer_call(device, 1, note_call, calls));
	submit_in_story(world, promises, 1, 0, VGF_FENCED, 2);
	promise(&promises->calls, defer_call(device, 1, note_call, calls));
	promise(&promises->fences, create_take(device, &name, 0, make_fence(true)));
	name.fence_id++;
	promise(&promises->fences, vgf_fence_refuse(device, &name, 0, NULL, -EIO));
	vmm_dispatch(world->vmm);
	ret = vgf_context_destroy(device, 3);
	assert_true(ret >= 0 || (ret == -ENOENT && promises->contexts == 0));
	signal_all(world->host);
	signal_all(world->takes);
	vmm_dispatch(world->vmm);
}

TEST(every_failure_of_a_whole_story)
{
	bool failed = true;

	for (unsigned long nth = 1; failed; nth++) {
		struct promises promises = { .fences = 2 };
		unsigned int calls = 0;
		unsigned int merged;
		struct world world;

		world_init(&world);
		fail_nth(nth);
		story(&world, &promises, &calls);
		failed = has_failed();
		retire_all(&world);
		merged = (unsigned int)get_stats(world.vmm).retired - world.vmm->num_retired;
		assert_true(merged <= 1);
		assert_int_equal(get_stats(world.vmm).retired, promises.fences);
		assert_int_equal(calls, promises.calls);
		assert_int_equal(world.host->num_destroyed, promises.contexts);
		world.last_id = 200;
		world_finish(&world);
		assert_true(failed || nth > 15);
	}
}
