/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The software GPU is honest, keeps its rings in order, and leaves nothing behind. */

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <vgfence/context_driver.h>
#include <vgfence/vgfence.h>

#include "clock.h"
#include "soft_gpu.h"
#include "calls.h"
#include "support.h"
#include "vgem.h"

#define MAX_FENCES 4096
#define NEVER_US 1000000000u /* longer than any test */

static const enum soft_gpu_fences kinds[] = { SOFT_GPU_FENCES_EVENTFD, SOFT_GPU_FENCES_CALL,
	SOFT_GPU_FENCES_VGEM };

static bool has_vgem(void)
{
	int vgem = vgem_open();

	if (vgem >= 0) {
		close(vgem);
	}
	return vgem >= 0;
}

/* vgem is the last one, and not every kernel has it. */
static size_t num_kinds(void)
{
	return sizeof(kinds) / sizeof(kinds[0]) - !has_vgem();
}

static void need_vgem(void)
{
	if (!has_vgem()) {
		print_message("skipped: no vgem device in /dev/dri here; `./run vm` runs this "
			      "where there is one\n");
		skip();
	}
}

#define MAX_STORES 256

struct store {
	uint64_t serial;
	uint32_t resource_id, offset, value;
	uint64_t t_ns;
};

struct machine {
	struct vgf_device *device;
	struct soft_gpu *gpu;
	uint64_t retired[MAX_FENCES];
	int status[MAX_FENCES];
	size_t num_retired;
	/* By fence ID. Atomic, as they come from several threads. */
	_Atomic uint64_t run_ns[MAX_FENCES], signal_ns[MAX_FENCES];
	/* What jobs wrote; read once a later fence has retired. */
	struct store stores[MAX_STORES];
	_Atomic size_t num_stores;
};

static void retire(void *cookie, const struct vgf_retired *retired)
{
	const struct vgf_fence_name *fence = &retired->fence;
	int status = retired->status;
	struct machine *machine = cookie;

	assert_true(machine->num_retired < MAX_FENCES);
	machine->status[machine->num_retired] = status;
	machine->retired[machine->num_retired++] = fence->fence_id;
}

static void observe_run(void *data, const struct vgf_job *job, uint64_t t_ns)
{
	struct machine *machine = data;

	machine->run_ns[job->fence.fence_id] = t_ns;
}

static void observe_signal(void *data, const struct vgf_fence_name *fence, uint64_t t_ns)
{
	struct machine *machine = data;

	machine->signal_ns[fence->fence_id] = t_ns;
}

/* Stores to it end when the test says so. */
#define HELD 14

static sem_t is_held, may_end;

/* Resource 13 cannot be written to. */
static int take_store(
	void *data, uint64_t serial, uint32_t resource_id, uint32_t offset, uint32_t value)
{
	struct machine *machine = data;

	if (resource_id == 13) {
		return -EFAULT;
	}
	if (resource_id == HELD) {
		sem_post(&is_held);
		sem_wait(&may_end);
	}
	assert_true(machine->num_stores < MAX_STORES);
	machine->stores[machine->num_stores] = (struct store){ serial, resource_id, offset, value,
		now_ns() };
	machine->num_stores++;
	return 0;
}

static struct machine *machine_create(
	enum soft_gpu_fences fences, enum vgf_wait wait, uint32_t max_jobs)
{
	static const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = retire };
	struct machine *machine = calloc(1, sizeof(*machine));
	const struct soft_gpu_options options = {
		.fences = fences,
		.wait = wait,
		.observer = { .run = observe_run, .signal = observe_signal, .data = machine },
		.max_jobs = max_jobs,
		.store = take_store,
		.store_data = machine,
	};

	assert_non_null(machine);
	assert_int_equal(vgf_device_create(&callbacks, machine, NULL, &machine->device), 0);
	assert_int_equal(soft_gpu_create(machine->device, &options, &machine->gpu), 0);
	assert_int_equal(soft_gpu_context_create(machine->gpu, 1, 1), 0);
	assert_int_equal(soft_gpu_context_create(machine->gpu, 2, 2), 0);
	return machine;
}

static void machine_destroy(struct machine *machine)
{
	soft_gpu_reset(machine->gpu);
	vgf_device_destroy(machine->device);
	soft_gpu_destroy(machine->gpu);
	free(machine);
}

/* fences, wait, max_jobs: of machine_create. */
#define TEST_MACHINE(name, ...)                                                                    \
	TEST_WITH(name, struct machine *, machine, machine_create(__VA_ARGS__),                    \
		machine_destroy(machine))

static int submit_words(struct machine *machine, uint32_t ctx_id, int32_t ring, uint64_t fence_id,
	const uint32_t *words, size_t num_words, uint64_t in_fence)
{
	const struct vgf_submission submission = {
		.fence = { .fence_id = fence_id, .ctx_id = ctx_id, .ring = ring },
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.num_in_fences = in_fence != 0,
		.in_fences = &in_fence,
		.command = words,
		.size = num_words * sizeof(*words),
	};

	return vgf_submit(machine->device, &submission, NULL);
}

static int submit(struct machine *machine, uint32_t ctx_id, int32_t ring, uint64_t fence_id,
	uint32_t busy_us, uint64_t in_fence)
{
	const uint32_t words[] = {
		htole32(SOFT_GPU_BUSY),
		htole32(busy_us),
		htole32(SOFT_GPU_NOTHING),
		htole32(UINT32_MAX),
	};

	return submit_words(machine, ctx_id, ring, fence_id, words, 4, in_fence);
}

/* A fence of something other than this GPU. Returns the test's end of it. */
static int create_foreign_fence(struct machine *machine, uint64_t fence_id)
{
	const struct vgf_fence_name name = { .fence_id = fence_id, .ctx_id = 1, .ring = 9 };
	int fence_fd = make_fence(false);

	assert_int_equal(create_take(machine->device, &name, VGF_SHAREABLE, dup(fence_fd)), 0);
	return fence_fd;
}

/* Dispatches until at least so many fences have retired. */
static void wait_for_retired(struct machine *machine, size_t count)
{
	uint64_t deadline_ns = now_ns() + 30 * NS_PER_S;

	while (machine->num_retired < count && now_ns() < deadline_ns) {
		assert_true(vgf_device_dispatch(machine->device, 1000) >= 0);
	}
	assert_true(machine->num_retired >= count);
}

/* Not until it has retired. */
static void wait_for_signal(const struct machine *machine, uint64_t fence_id)
{
	uint64_t deadline_ns = now_ns() + 30 * NS_PER_S;

	while (machine->signal_ns[fence_id] == 0 && now_ns() < deadline_ns) {
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	}
	assert_true(machine->signal_ns[fence_id] > 0);
}

static void sleep_us(long us)
{
	nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

/* ---- Command streams ---------------------------------------------------------------------- */

TEST(adds_up_what_a_command_stream_takes)
{
	const uint32_t words[] = { htole32(SOFT_GPU_BUSY), htole32(3), htole32(SOFT_GPU_NOTHING),
		htole32(7), htole32(SOFT_GPU_BUSY), htole32(4) };
	uint64_t busy_ns;

	assert_int_equal(soft_gpu_busy_time(words, sizeof(words), &busy_ns), 0);
	assert_int_equal(busy_ns, 7000);
	assert_int_equal(soft_gpu_busy_time(words, 0, &busy_ns), 0);
	assert_int_equal(busy_ns, 0);
}

TEST_MACHINE(refuses_a_command_stream_it_does_not_know, SOFT_GPU_FENCES_EVENTFD, VGF_WAIT_DRIVER, 0)
{
	const uint32_t unknown[] = { htole32(14), htole32(1) };
	const uint32_t half[] = { htole32(SOFT_GPU_BUSY), htole32(1), htole32(SOFT_GPU_BUSY) };
	const uint32_t hours[] = { htole32(SOFT_GPU_BUSY), UINT32_MAX };

	assert_int_equal(submit_words(machine, 1, 0, 1, unknown, 2, 0), -EINVAL);
	assert_int_equal(submit_words(machine, 1, 0, 2, half, 3, 0), -EINVAL);
	assert_int_equal(submit_words(machine, 1, 0, 3, hours, 2, 0), -EINVAL);
}

/* ---- Stores ------------------------------------------------------------------------------- */

/* Submits a job of one store, or several of the same. */
static int submit_store(struct machine *machine, uint64_t fence_id, uint32_t busy_us,
	uint32_t resource_id, size_t count)
{
	uint32_t words[2 * (3 + SOFT_GPU_MAX_COMMANDS + 1)] = {
		htole32(SOFT_GPU_RESOURCE),
		htole32(resource_id),
		htole32(SOFT_GPU_OFFSET),
		htole32(64),
		htole32(SOFT_GPU_BUSY),
		htole32(busy_us),
	};

	for (size_t i = 0; i < count; i++) {
		words[6 + 2 * i] = htole32(SOFT_GPU_STORE);
		words[7 + 2 * i] = htole32((uint32_t)(1000 * fence_id + i));
	}
	return submit_words(machine, 1, 0, fence_id, words, 6 + 2 * count, 0);
}

TEST(stores_when_a_job_is_done)
{
	for (size_t kind = 0; kind < num_kinds(); kind++) {
		struct machine *machine = machine_create(kinds[kind], VGF_WAIT_DRIVER, 0);

		for (uint64_t id = 1; id <= 20; id++) {
			assert_int_equal(submit_store(machine, id, 100, 7, 3), 0);
		}
		wait_for_retired(machine, 20);
		assert_int_equal(machine->num_stores, 60);
		for (uint32_t i = 0; i < 60; i++) {
			const struct store *store = &machine->stores[i];
			uint32_t id = i / 3 + 1;

			assert_int_equal(store->serial, 1);
			assert_int_equal(store->resource_id, 7);
			assert_int_equal(store->offset, 64);
			assert_int_equal(store->value, 1000 * id + i % 3);
			assert_true(store->t_ns >= machine->run_ns[id] + 100 * NS_PER_US);
			assert_true(store->t_ns >= machine->signal_ns[id]); /* both are its end */
		}
		machine_destroy(machine);
	}
}

TEST(a_store_that_fails_is_the_fences_error)
{
	for (size_t kind = 0; kind < num_kinds(); kind++) {
		struct machine *machine = machine_create(kinds[kind], VGF_WAIT_DRIVER, 0);

		for (uint64_t id = 1; id <= 20; id++) {
			assert_int_equal(submit_store(machine, id, 0, id % 2 ? 13 : 7, 1), 0);
		}
		wait_for_retired(machine, 20);
		for (uint32_t i = 0; i < 20; i++) {
			assert_int_equal(machine->retired[i], i + 1);
			assert_int_equal(machine->status[i], i % 2 ? 0 : -EFAULT);
		}
		machine_destroy(machine);
	}
}

TEST_MACHINE(refuses_more_stores_than_it_keeps, SOFT_GPU_FENCES_EVENTFD, VGF_WAIT_DRIVER, 0)
{
	assert_int_equal(submit_store(machine, 1, 0, 7, SOFT_GPU_MAX_COMMANDS + 1), -E2BIG);
	assert_int_equal(submit_store(machine, 2, 0, 7, SOFT_GPU_MAX_COMMANDS), 0);
	wait_for_retired(machine, 2);
	assert_int_equal(machine->num_stores, SOFT_GPU_MAX_COMMANDS);
}

TEST_MACHINE(stores_nothing_once_it_is_reset, SOFT_GPU_FENCES_EVENTFD, VGF_WAIT_DRIVER, 0)
{
	size_t num_stores;

	for (uint64_t id = 1; id <= 60; id++) {
		assert_int_equal(submit_store(machine, id, 500, 7, 1), 0);
	}
	wait_for_retired(machine, 5);
	soft_gpu_reset(machine->gpu);
	num_stores = machine->num_stores;
	sleep_us(3000); /* time for some more, if not all were done by then */
	assert_int_equal(machine->num_stores, num_stores);
}

static void *reset_gpu(void *data)
{
	soft_gpu_reset(data);
	return NULL;
}

/* All are due while the first is held, and more than one of them at once from then on. */
TEST_MACHINE(a_reset_waits_for_one_job_at_most, SOFT_GPU_FENCES_CALL, VGF_WAIT_DRIVER, 0)
{
	pthread_t thread;

	sem_init(&is_held, 0, 0);
	sem_init(&may_end, 0, 0);
	for (uint64_t id = 1; id <= 20; id++) {
		assert_int_equal(submit_store(machine, id, 0, HELD, 1), 0);
	}
	for (size_t i = 0; i < 2; i++) {
		sem_wait(&is_held);
		sem_post(&may_end);
	}
	sem_wait(&is_held);
	assert_int_equal(pthread_create(&thread, NULL, reset_gpu, machine->gpu), 0);
	sleep_us(500000); /* far more than it takes to ask */
	for (size_t i = 0; i < 20; i++) {
		sem_post(&may_end);
	}
	pthread_join(thread, NULL);
	assert_int_equal(machine->num_stores, 3);
	assert_int_equal(machine->signal_ns[4], 0);
	sem_destroy(&is_held);
	sem_destroy(&may_end);
	/* It goes on. */
	assert_int_equal(submit(machine, 1, 1, 100, 10, 0), 0);
	wait_for_retired(machine, 4);
	assert_int_equal(machine->num_stores, 3);
}

/* ---- Rings -------------------------------------------------------------------------------- */

TEST_MACHINE(runs_jobs_of_a_ring_one_after_the_other, SOFT_GPU_FENCES_EVENTFD, VGF_WAIT_DRIVER, 0)
{
	for (uint64_t id = 1; id <= 20; id++) {
		assert_int_equal(submit(machine, 1, 3, id, 100, 0), 0);
	}
	wait_for_retired(machine, 20);
	assert_true(machine->signal_ns[1] >= machine->run_ns[1] + 100 * NS_PER_US);
	for (uint64_t id = 2; id <= 20; id++) {
		assert_true(machine->signal_ns[id] >= machine->signal_ns[id - 1] + 100 * NS_PER_US);
	}
}

TEST_MACHINE(
	runs_work_of_the_global_timeline_on_ring_0, SOFT_GPU_FENCES_EVENTFD, VGF_WAIT_DRIVER, 0)
{
	assert_int_equal(submit(machine, 1, VGF_RING_GLOBAL, 1, 2000, 0), 0);
	assert_int_equal(submit(machine, 1, 0, 2, 10, 0), 0);
	wait_for_retired(machine, 2);
	assert_true(machine->signal_ns[2] >= machine->signal_ns[1] + 10 * NS_PER_US);
}

TEST_MACHINE(runs_rings_in_parallel, SOFT_GPU_FENCES_EVENTFD, VGF_WAIT_DRIVER, 0)
{
	assert_int_equal(submit(machine, 1, 0, 1, NEVER_US, 0), 0);
	for (int32_t ring = 1; ring < VGF_MAX_RINGS; ring++) {
		assert_int_equal(
			submit(machine, 1, ring, 1 + (uint64_t)ring, 100 * (uint32_t)ring, 0), 0);
	}
	assert_int_equal(submit(machine, 2, 0, 100, 10, 0), 0);
	wait_for_retired(machine, VGF_MAX_RINGS);
}

/* Only its fence retires behind that work. */
TEST_MACHINE(shares_no_ring_with_the_work_of_a_destroyed_context, SOFT_GPU_FENCES_CALL,
	VGF_WAIT_DRIVER, 0)
{
	assert_int_equal(submit(machine, 1, 0, 1, NEVER_US, 0), 0);
	assert_int_equal(vgf_context_destroy(machine->device, 1), 0);
	assert_int_equal(soft_gpu_context_create(machine->gpu, 1, 1), 0);
	assert_int_equal(submit(machine, 1, 0, 2, 10, 0), 0);
	wait_for_signal(machine, 2);
	assert_int_equal(vgf_device_dispatch(machine->device, 0), 0);
	assert_int_equal(machine->num_retired, 0);
}

TEST_MACHINE(takes_no_more_jobs_than_it_may, SOFT_GPU_FENCES_EVENTFD, VGF_WAIT_DRIVER, 2)
{
	assert_int_equal(submit(machine, 1, 0, 1, NEVER_US, 0), 0);
	assert_int_equal(submit(machine, 1, 0, 2, 1, 0), 0);
	assert_int_equal(submit(machine, 2, 0, 3, 1, 0), -ENOSPC);
}

/* ---- In-fences ---------------------------------------------------------------------------- */

static void start_after_own_fence(enum soft_gpu_fences fences)
{
	struct machine *machine = machine_create(fences, VGF_WAIT_DRIVER, 0);

	assert_int_equal(submit(machine, 1, 0, 1, 2000, 0), 0);
	assert_int_equal(submit(machine, 2, 0, 2, 1000, 1), 0);
	assert_int_equal(submit(machine, 1, 1, 3, NEVER_US, 0), 0);
	assert_int_equal(submit(machine, 2, 1, 4, 10, 3), 0);
	assert_int_equal(submit(machine, 2, 2, 5, 10, 0), 0);
	wait_for_retired(machine, 3);
	assert_true(machine->signal_ns[2] >= machine->signal_ns[1] + 1000 * NS_PER_US);
	assert_true(machine->signal_ns[5] > 0);
	assert_int_equal(machine->signal_ns[3] | machine->signal_ns[4], 0);
	machine_destroy(machine);
}

TEST(starts_a_job_when_its_in_fence_of_the_gpu_is_done)
{
	start_after_own_fence(SOFT_GPU_FENCES_EVENTFD);
}

TEST(starts_a_job_when_its_in_fence_of_the_gpu_is_done_by_call)
{
	start_after_own_fence(SOFT_GPU_FENCES_CALL);
}

TEST(starts_a_job_when_its_in_fence_of_the_gpu_is_done_with_sync_files)
{
	need_vgem();
	start_after_own_fence(SOFT_GPU_FENCES_VGEM);
}

static void start_after_foreign_fence(enum soft_gpu_fences fences)
{
	struct machine *machine = machine_create(fences, VGF_WAIT_DRIVER, 0);
	int fence_fd = create_foreign_fence(machine, 1);
	uint64_t signalled_ns;

	assert_int_equal(submit(machine, 2, 0, 2, 100, 1), 0);
	assert_int_equal(submit(machine, 2, 1, 3, 5000, 0), 0);
	sleep_us(1000);
	signalled_ns = now_ns();
	signal_fence(fence_fd);
	wait_for_retired(machine, 3);
	assert_true(machine->run_ns[2] < signalled_ns);
	assert_true(machine->signal_ns[2] >= signalled_ns + 100 * NS_PER_US);
	close(fence_fd);
	machine_destroy(machine);
}

TEST(starts_a_job_when_its_in_fence_from_elsewhere_has_signalled)
{
	start_after_foreign_fence(SOFT_GPU_FENCES_EVENTFD);
}

TEST(starts_a_job_when_its_in_fence_from_elsewhere_has_signalled_by_call)
{
	start_after_foreign_fence(SOFT_GPU_FENCES_CALL);
}

TEST(starts_a_job_when_its_in_fence_from_elsewhere_has_signalled_with_sync_files)
{
	need_vgem();
	start_after_foreign_fence(SOFT_GPU_FENCES_VGEM);
}

static int submit_after_two(struct machine *machine, uint64_t fence_id, const uint64_t *in_fences)
{
	const uint32_t words[] = { htole32(SOFT_GPU_BUSY), htole32(100) };
	const struct vgf_submission submission = {
		.fence = { .fence_id = fence_id, .ctx_id = 2, .ring = 0 },
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.num_in_fences = 2,
		.in_fences = in_fences,
		.command = words,
		.size = sizeof(words),
	};

	return vgf_submit(machine->device, &submission, NULL);
}

/* By its name one, the other by its descriptor. */
TEST_MACHINE(waits_for_its_own_fences_and_for_others, SOFT_GPU_FENCES_CALL, VGF_WAIT_DRIVER, 0)
{
	const uint64_t in_fences[] = { 1, 2 };
	int fence_fd = create_foreign_fence(machine, 1);
	uint64_t signalled_ns;

	assert_int_equal(submit(machine, 1, 0, 2, 30000, 0), 0);
	assert_int_equal(submit_after_two(machine, 3, in_fences), 0);
	signalled_ns = now_ns();
	signal_fence(fence_fd);
	wait_for_retired(machine, 3);
	assert_true(machine->signal_ns[3] >= signalled_ns + 100 * NS_PER_US);
	assert_true(machine->signal_ns[3] >= machine->signal_ns[2] + 100 * NS_PER_US);
	close(fence_fd);
}

/* The same number on another timeline is another fence. */
TEST_MACHINE(knows_its_own_fences_by_all_of_their_names, SOFT_GPU_FENCES_CALL, VGF_WAIT_DRIVER, 0)
{
	const struct vgf_fence_name done = { .fence_id = 5, .ctx_id = 1, .ring = 0 };

	/* The second never ends, but its fence was given up on: the GPU alone knows it. */
	assert_int_equal(submit(machine, 1, 1, 5, 20000, 0), 0);
	assert_int_equal(submit(machine, 1, 0, 5, NEVER_US, 0), 0);
	assert_int_equal(vgf_fence_cancel(machine->device, &done, -ETIME), 0);
	wait_for_retired(machine, 1);
	assert_int_equal(submit(machine, 2, 0, 6, 10, 5), 0);
	wait_for_retired(machine, 3);
	assert_true(machine->signal_ns[6] >= machine->signal_ns[5] + 10 * NS_PER_US);
}

/* An eventfd cannot be merged with a sync file. */
TEST(waits_for_each_where_not_all_are_sync_files)
{
	const uint64_t in_fences[] = { 1, 2 };
	struct machine *machine;
	uint64_t signalled_ns;
	int fence_fd;

	need_vgem();
	machine = machine_create(SOFT_GPU_FENCES_VGEM, VGF_WAIT_DRIVER, 0);
	fence_fd = create_foreign_fence(machine, 1);
	assert_int_equal(submit(machine, 1, 0, 2, 1000, 0), 0);
	assert_int_equal(submit_after_two(machine, 3, in_fences), 0);
	sleep_us(20000);
	assert_int_equal(machine->signal_ns[3], 0);
	signalled_ns = now_ns();
	signal_fence(fence_fd);
	wait_for_retired(machine, 3);
	assert_true(machine->signal_ns[3] >= signalled_ns + 100 * NS_PER_US);
	close(fence_fd);
	machine_destroy(machine);
}

TEST(starts_after_the_last_of_several_sync_files)
{
	const uint64_t in_fences[] = { 1, 2 };
	struct machine *machine;

	need_vgem();
	machine = machine_create(SOFT_GPU_FENCES_VGEM, VGF_WAIT_DRIVER, 0);
	assert_int_equal(submit(machine, 1, 0, 1, 10000, 0), 0);
	assert_int_equal(submit(machine, 1, 1, 2, 200000, 0), 0);
	assert_int_equal(submit_after_two(machine, 3, in_fences), 0);
	wait_for_retired(machine, 3);
	assert_true(machine->signal_ns[3] >= machine->signal_ns[1] + 100 * NS_PER_US);
	assert_true(machine->signal_ns[3] >= machine->signal_ns[2] + 100 * NS_PER_US);
	machine_destroy(machine);
}

TEST(says_where_there_is_no_vgem)
{
	static const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = retire };
	const struct soft_gpu_options options = { .fences = SOFT_GPU_FENCES_VGEM,
		.wait = VGF_WAIT_DRIVER };
	struct vgf_device *device;
	struct soft_gpu *gpu = NULL;
	int ret;

	assert_int_equal(vgf_device_create(&callbacks, NULL, NULL, &device), 0);
	ret = soft_gpu_create(device, &options, &gpu);
	assert_int_equal(ret, has_vgem() ? 0 : -ENOENT);
	vgf_device_destroy(device);
	soft_gpu_destroy(gpu);
}

/* ---- Submissions that fail halfway -------------------------------------------------------- */

static struct {
	_Atomic bool sleeps; /* the GPU's thread */
	_Atomic bool armed;
	unsigned int num_added;
	int fence_fd; /* the first in-fence */
	sem_t has_events, may_go_on;
} half;

int __real_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);

/* The second in-fence of the submission is not taken, and meanwhile the first has signalled. */
int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
	if (!half.armed || operation != EPOLL_CTL_ADD || ++half.num_added < 2) {
		return __real_epoll_ctl(epoll_fd, operation, fd, event);
	}
	signal_fence(half.fence_fd);
	sem_wait(&half.has_events);
	errno = ENOSPC;
	return -1;
}

long __real_syscall(long number, int epoll_fd, struct epoll_event *events, int max_events,
	const struct timespec *timeout, const sigset_t *signals, size_t size);
long __wrap_syscall(long number, int epoll_fd, struct epoll_event *events, int max_events,
	const struct timespec *timeout, const sigset_t *signals, size_t size);

/* The GPU's sleep: nothing else makes such calls. Once it has events, it wants the GPU's lock. */
long __wrap_syscall(long number, int epoll_fd, struct epoll_event *events, int max_events,
	const struct timespec *timeout, const sigset_t *signals, size_t size)
{
	long count;

	half.sleeps = true;
	count = __real_syscall(number, epoll_fd, events, max_events, timeout, signals, size);
	half.sleeps = false;
	if (half.armed && count > 0) {
		half.armed = false;
		sem_post(&half.has_events);
		sem_wait(&half.may_go_on);
	}
	return count;
}

TEST_MACHINE(forgets_what_a_failed_job_waited_for, SOFT_GPU_FENCES_EVENTFD, VGF_WAIT_DRIVER, 0)
{
	const uint64_t in_fences[] = { 1, 2 };
	int other_fd;

	half.fence_fd = create_foreign_fence(machine, 1);
	other_fd = create_foreign_fence(machine, 2);
	sem_init(&half.has_events, 0, 0);
	sem_init(&half.may_go_on, 0, 0);
	half.num_added = 0;
	while (!half.sleeps) {
		sleep_us(100);
	}
	half.armed = true;
	assert_int_equal(submit_after_two(machine, 3, in_fences), -ENOSPC);
	sem_post(&half.may_go_on);
	/* It goes on, and nothing of that job is left. */
	assert_int_equal(submit(machine, 1, 0, 4, 10, 2), 0);
	signal_fence(other_fd);
	wait_for_retired(machine, 4);
	assert_int_equal(machine->signal_ns[3], 0);
	sem_destroy(&half.has_events);
	sem_destroy(&half.may_go_on);
	close(half.fence_fd);
	close(other_fd);
}

/* ---- Ends --------------------------------------------------------------------------------- */

TEST(signals_what_a_destroyed_context_left_running)
{
	for (size_t i = 0; i < num_kinds(); i++) {
		struct machine *machine = machine_create(kinds[i], VGF_WAIT_DRIVER, 0);

		assert_int_equal(submit(machine, 1, 0, 1, 1000, 0), 0);
		assert_int_equal(vgf_context_destroy(machine->device, 1), 0);
		wait_for_retired(machine, 1);
		assert_int_equal(machine->status[0], 0);
		assert_true(machine->signal_ns[1] >= machine->run_ns[1] + 1000 * NS_PER_US);
		machine_destroy(machine);
	}
}

static void drop_what_waits(enum soft_gpu_fences fences)
{
	struct machine *machine = machine_create(fences, VGF_WAIT_DRIVER, 0);
	int fence_fd = create_foreign_fence(machine, 1);

	assert_int_equal(submit(machine, 1, 0, 2, 10, 1), 0);       /* waits for elsewhere */
	assert_int_equal(submit(machine, 1, 1, 3, NEVER_US, 0), 0); /* runs */
	assert_int_equal(submit(machine, 1, 1, 4, 10, 0), 0);       /* behind it */
	assert_int_equal(submit(machine, 2, 0, 5, 10, 3), 0);       /* waits for it */
	soft_gpu_reset(machine->gpu);
	assert_int_equal(vgf_device_reset(machine->device), 0);
	assert_int_equal(machine->num_retired, 5);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(machine->status[i], -ECANCELED);
	}
	assert_int_equal(machine->signal_ns[2] | machine->signal_ns[3] | machine->signal_ns[4] |
			machine->signal_ns[5],
		0);
	/* It goes on, with IDs from the start. */
	assert_int_equal(soft_gpu_context_create(machine->gpu, 1, 1), 0);
	assert_int_equal(submit(machine, 1, 1, 1, 10, 0), 0);
	wait_for_retired(machine, 6);
	assert_int_equal(machine->status[5], 0);
	close(fence_fd);
	machine_destroy(machine);
}

TEST(drops_what_waits_when_the_device_is_reset)
{
	drop_what_waits(SOFT_GPU_FENCES_EVENTFD);
}

TEST(drops_what_waits_when_the_device_is_reset_by_call)
{
	drop_what_waits(SOFT_GPU_FENCES_CALL);
}

TEST(drops_what_waits_when_the_device_is_reset_with_sync_files)
{
	need_vgem();
	drop_what_waits(SOFT_GPU_FENCES_VGEM);
}

TEST_MACHINE(fails_cleanly_without_descriptors, SOFT_GPU_FENCES_EVENTFD, VGF_WAIT_DRIVER, 0)
{
	int before = count_fds();

	for (unsigned int more = 0; more < 2; more++) {
		limit_fds(more);
		assert_int_equal(submit(machine, 1, 0, 1 + more, 10, 0), -EMFILE);
		unlimit_fds();
		assert_int_equal(count_fds(), before);
	}
}

struct submitter {
	struct machine *machine;
	uint32_t ctx_id;
	uint64_t first_id;
};

#define NUM_SUBMITTED 300

static void *run_submitter(void *data)
{
	const struct submitter *submitter = data;

	for (uint64_t i = 0; i < NUM_SUBMITTED; i++) {
		uint64_t id = submitter->first_id + i;

		/* IDs of the other thread may not have been seen yet: then it is refused. */
		submit(submitter->machine, submitter->ctx_id, (int32_t)(i % 5), id, i % 7 * 10,
			i > 3 ? id - i % 3 - 1 : 0);
	}
	return NULL;
}

TEST(takes_jobs_from_several_threads)
{
	for (size_t i = 0; i < num_kinds(); i++) {
		struct machine *machine = machine_create(kinds[i], VGF_WAIT_DRIVER, 0);
		struct submitter submitters[] = { { machine, 1, 1 }, { machine, 2, 1000 } };
		pthread_t threads[2];

		for (size_t j = 0; j < 2; j++) {
			assert_int_equal(
				pthread_create(&threads[j], NULL, run_submitter, &submitters[j]),
				0);
		}
		wait_for_retired(machine, NUM_SUBMITTED);
		/* In the middle of the rest. */
		soft_gpu_reset(machine->gpu);
		for (size_t j = 0; j < 2; j++) {
			pthread_join(threads[j], NULL);
		}
		machine_destroy(machine);
	}
}
