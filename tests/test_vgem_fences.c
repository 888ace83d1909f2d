/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Fences of vgem that the software GPU leaves pending: the kernel keeps each until it is signalled.
 * vgem is a double here, whose sync files are eventfds.
 */

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <vgfence/dma_buf.h>
#include <vgfence/vgfence.h>

#include "calls.h"
#include "command_stream.h"
#include "gpu_guest.h"
#include "soft_gpu.h"
#include "vgem.h"

#define MAX_FENCES 64
#define NEVER_US 1000000000u /* longer than any test */

/* ---- vgem ----------------------------------------------------------------------------------- */

/* A handle is an index, plus 1. A fence stays here until it is signalled, its buffer or not. */
static struct {
	pthread_mutex_t lock;
	struct {
		int dma_buf_fd; /* a number to be known by; the pool closes it */
		uint32_t fence;
	} buffers[MAX_FENCES];
	int fence_fds[MAX_FENCES];
	uint32_t num_buffers, num_fences, num_signalled;
} vgem = { .lock = PTHREAD_MUTEX_INITIALIZER };

static uint32_t num_pending(void)
{
	uint32_t count;

	pthread_mutex_lock(&vgem.lock);
	count = vgem.num_fences - vgem.num_signalled;
	pthread_mutex_unlock(&vgem.lock);
	return count;
}

int __wrap_vgem_open(void);
int __wrap_vgem_open(void)
{
	vgem.num_buffers = vgem.num_fences = vgem.num_signalled = 0;
	return eventfd(0, EFD_CLOEXEC);
}

int __wrap_vgem_buffer_create(int vgem_fd, uint32_t *buffer);
int __wrap_vgem_buffer_create(int vgem_fd, uint32_t *buffer)
{
	(void)vgem_fd;
	assert_true(vgem.num_buffers < MAX_FENCES);
	*buffer = ++vgem.num_buffers;
	return 0;
}

void __wrap_vgem_buffer_destroy(int vgem_fd, uint32_t buffer);
void __wrap_vgem_buffer_destroy(int vgem_fd, uint32_t buffer)
{
	(void)vgem_fd;
	vgem.buffers[buffer - 1].dma_buf_fd = -1;
}

int __wrap_vgem_buffer_export(int vgem_fd, uint32_t buffer);
int __wrap_vgem_buffer_export(int vgem_fd, uint32_t buffer)
{
	(void)vgem_fd;
	vgem.buffers[buffer - 1].dma_buf_fd = eventfd(0, EFD_CLOEXEC);
	return vgem.buffers[buffer - 1].dma_buf_fd;
}

int __wrap_vgem_attach(int vgem_fd, uint32_t buffer, bool write, uint32_t *fence);
int __wrap_vgem_attach(int vgem_fd, uint32_t buffer, bool write, uint32_t *fence)
{
	(void)vgem_fd;
	assert_true(write);
	pthread_mutex_lock(&vgem.lock);
	assert_true(vgem.num_fences < MAX_FENCES);
	vgem.fence_fds[vgem.num_fences] = make_fence(false);
	*fence = vgem.buffers[buffer - 1].fence = ++vgem.num_fences;
	pthread_mutex_unlock(&vgem.lock);
	return 0;
}

int __wrap_vgem_signal(int vgem_fd, uint32_t fence);
int __wrap_vgem_signal(int vgem_fd, uint32_t fence)
{
	int *fence_fd = &vgem.fence_fds[fence - 1];

	(void)vgem_fd;
	pthread_mutex_lock(&vgem.lock);
	assert_true(*fence_fd >= 0); /* not twice */
	signal_fence(*fence_fd);
	close(*fence_fd);
	*fence_fd = -1;
	vgem.num_signalled++;
	pthread_mutex_unlock(&vgem.lock);
	return 0;
}

int __wrap_vgf_dma_buf_export_sync_file(int dma_buf_fd, uint32_t access);
int __wrap_vgf_dma_buf_export_sync_file(int dma_buf_fd, uint32_t access)
{
	int fd = -1;

	(void)access;
	pthread_mutex_lock(&vgem.lock);
	for (uint32_t i = 0; i < vgem.num_buffers && fd < 0; i++) {
		if (vgem.buffers[i].dma_buf_fd == dma_buf_fd) {
			fd = fcntl(vgem.fence_fds[vgem.buffers[i].fence - 1], F_DUPFD_CLOEXEC, 0);
		}
	}
	pthread_mutex_unlock(&vgem.lock);
	return fd < 0 ? -EBADF : fd;
}

static uint32_t num_merged;

int __wrap_vgf_sync_file_merge(const int *fence_fds, size_t count);
int __wrap_vgf_sync_file_merge(const int *fence_fds, size_t count)
{
	assert_int_equal(count, 1);
	num_merged++;
	return fcntl(fence_fds[0], F_DUPFD_CLOEXEC, 0);
}

/* What closing vgem's descriptor does to the fences that are left. */
static void end_fences(void)
{
	for (uint32_t i = 0; i < vgem.num_fences; i++) {
		if (vgem.fence_fds[i] >= 0) {
			__wrap_vgem_signal(-1, i + 1);
		}
	}
}

/* ---- A device and its GPU ------------------------------------------------------------------- */

static struct vgf_device *device;
static struct soft_gpu *gpu;
static uint32_t num_retired, num_cancelled;

static void retire(void *cookie, const struct vgf_retired *retired)
{
	(void)cookie;
	num_retired++;
	num_cancelled += retired->status == -ECANCELED;
}

/* It takes two jobs at once. */
static void start(void)
{
	const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = retire };
	const struct soft_gpu_options options = {
		.fences = SOFT_GPU_FENCES_VGEM,
		.wait = VGF_WAIT_DRIVER,
		.max_jobs = 2,
	};

	num_retired = num_cancelled = num_merged = 0;
	assert_int_equal(vgf_device_create(&callbacks, NULL, NULL, &device), 0);
	assert_int_equal(soft_gpu_create(device, &options, &gpu), 0);
	assert_int_equal(soft_gpu_context_create(gpu, 1, 1), 0);
	assert_int_equal(num_pending(), 0);
}

static void stop(void)
{
	soft_gpu_reset(gpu);
	vgf_device_destroy(device);
	soft_gpu_destroy(gpu);
	end_fences();
}

#define TEST_VGEM(name) TEST_BETWEEN(name, start(), stop())

/* in_fence: an ID, or 0 for none. */
static int run_job_behind(uint64_t fence_id, uint32_t busy_us, uint64_t in_fence)
{
	const uint32_t words[] = { htole32(SOFT_GPU_BUSY), htole32(busy_us) };
	const struct vgf_submission submission = {
		.fence = { .fence_id = fence_id, .ctx_id = 1, .ring = 0 },
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.num_in_fences = in_fence != 0,
		.in_fences = &in_fence,
		.command = words,
		.size = sizeof(words),
	};

	return vgf_submit(device, &submission, NULL);
}

static int run_job(uint64_t fence_id, uint32_t busy_us)
{
	return run_job_behind(fence_id, busy_us, 0);
}

static void wait_for_retired(uint32_t count)
{
	while (num_retired < count) {
		struct pollfd fd = { .fd = vgf_device_get_fd(device), .events = POLLIN };

		assert_int_equal(poll(&fd, 1, 20000), 1);
		assert_true(vgf_device_dispatch(device, 0) >= 0);
	}
}

TEST_VGEM(a_job_that_is_done_leaves_no_fence)
{
	assert_int_equal(run_job(1, 100), 0);
	assert_int_equal(run_job(2, 100), 0);
	wait_for_retired(2);
	soft_gpu_reset(gpu); /* waits for the last one's signal */
	assert_int_equal(num_pending(), 0);
	assert_true(vgem.num_buffers <= 2);
}

TEST_VGEM(a_job_that_is_not_taken_leaves_no_fence)
{
	assert_int_equal(run_job(1, NEVER_US), 0);
	assert_int_equal(run_job(2, NEVER_US), 0);
	for (uint64_t id = 3; id < 10; id++) {
		assert_int_equal(run_job(id, 1), -ENOSPC);
		assert_int_equal(num_pending(), 2);
	}
	assert_true(vgem.num_buffers <= 3); /* theirs is used again */
}

/* A copy of a fence's sync file, as a program that waits for it has. */
static int share(uint64_t fence_id)
{
	int fence_fd = export_fence(device, fence_id);

	assert_true(fence_fd >= 0);
	return fence_fd;
}

static bool has_ended(int fence_fd)
{
	struct pollfd poll_fd = { .fd = fence_fd, .events = POLLIN };

	return poll(&poll_fd, 1, 0) == 1;
}

TEST_VGEM(a_reset_signals_what_it_dropped_but_not_as_if_it_were_done)
{
	int shared_fd;

	for (uint32_t round = 1; round <= 3; round++) {
		assert_int_equal(run_job(1, NEVER_US), 0);
		assert_int_equal(run_job(2, NEVER_US), 0);
		shared_fd = share(1);
		soft_gpu_reset(gpu);
		assert_int_equal(vgf_device_reset(device), 0);
		assert_int_equal(num_cancelled, 2 * round);
		assert_false(has_ended(shared_fd));
		soft_gpu_signal_dropped(gpu);
		assert_true(has_ended(shared_fd));
		assert_int_equal(num_pending(), 0);
		close(shared_fd);
		assert_int_equal(soft_gpu_context_create(gpu, 1, 1), 0);
	}
}

TEST_VGEM(a_job_that_is_dropped_keeps_no_descriptor)
{
	int before = count_fds();

	assert_int_equal(run_job(1, NEVER_US), 0);
	assert_int_equal(run_job(2, NEVER_US), 0);
	soft_gpu_reset(gpu);
	assert_int_equal(vgf_device_reset(device), 0);
	assert_int_equal(num_pending(), 2);
	assert_int_equal(
		count_fds(), before - 1 + 2); /* an idle buffer less, and the fences here */
}

TEST_VGEM(a_job_keeps_no_descriptor_of_what_has_signalled)
{
	int shared_fd, before;

	assert_int_equal(run_job(1, 100), 0);
	shared_fd = share(1);
	while (!has_ended(shared_fd)) {
	}
	soft_gpu_reset(gpu); /* waits for the end of that job; its fence has not retired yet */
	before = count_fds();
	assert_int_equal(run_job_behind(2, NEVER_US, 1), 0);
	assert_int_equal(num_merged, 1);
	assert_int_equal(count_fds(), before + 2); /* its fence, in the device and here */
	close(shared_fd);
}

/* ---- A guest -------------------------------------------------------------------------------- */

static struct guest guest;

static void start_guest(void)
{
	const struct gpu_options options = {
		.num_scanouts = 1,
		.width = 640,
		.height = 480,
		.fence_passing_bit = FENCE_PASSING_BIT,
		.renderer.sync_files = true,
	};

	guest_start(&guest, &options);
}

/* What waits needs no place in a queue, but a descriptor. */
TEST(jobs_that_wait_leave_half_of_the_descriptors)
{
	const struct job waited_for = { .ctx_id = 1, .fence_id = 1, .busy_us = NEVER_US };
	struct rlimit before;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 400, before.rlim_max }), 0);
	start_guest();
	for (uint32_t ctx_id = 1; ctx_id <= 5; ctx_id++) {
		const struct job job = {
			.ctx_id = ctx_id, .ring = 1, .num_in_fences = 1, .in_fences = { 1 }
		};

		assert_int_equal(create_context(&guest, ctx_id), VIRTIO_GPU_RESP_OK_NODATA);
		if (ctx_id == 1) {
			submit(&guest, &waited_for);
		}
		for (uint32_t i = 0; i < 100; i++) {
			guest_wait(&guest, GPU_QUEUE_CONTROL, submit(&guest, &job));
		}
	}
	assert_in_range(count_fds(), 48, 150);
	guest_stop(&guest);
	end_fences();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* More than the GPU may have at a time: the others are held back. */
TEST(with_few_descriptors_no_fenced_job_is_refused)
{
	struct job job = { .ctx_id = 1, .busy_us = 1000 };
	uint32_t tokens[60];
	struct rlimit before;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 1024, before.rlim_max }), 0);
	start_guest();
	assert_int_equal(create_context(&guest, 1), VIRTIO_GPU_RESP_OK_NODATA);
	for (uint32_t i = 0; i < 60; i++) {
		job.fence_id = i + 1;
		tokens[i] = submit(&guest, &job);
	}
	for (uint32_t i = 0; i < 60; i++) {
		assert_int_equal(
			guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, tokens[i])).type,
			VIRTIO_GPU_RESP_OK_NODATA);
	}
	guest_stop(&guest);
	end_fences();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST(a_guest_that_resets_the_device_leaves_no_fence)
{
	start_guest();
	for (uint32_t round = 0; round < 3; round++) {
		assert_int_equal(create_context(&guest, 1), VIRTIO_GPU_RESP_OK_NODATA);
		for (uint64_t id = 1; id <= 4; id++) {
			const struct job job = { .ctx_id = 1, .fence_id = id, .busy_us = NEVER_US };

			submit(&guest, &job);
		}
		assert_int_equal(num_pending(), 4);
		guest_reset(&guest);
		assert_int_equal(num_pending(), 0);
	}
	guest_stop(&guest);
	end_fences();
}
