/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Which submissions look at which dma-bufs, and what comes of it. The kernel is a double: what is
 * on a buffer, a test says. With a real one: test_implicit.c.
 */

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <vgfence/context_driver.h>
#include <vgfence/dma_buf.h>

#include "exported.h"
#include "gpu_guest.h"
#include "gpu_private.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define SIDE 4u
#define PICTURE (SIDE * SIDE * 4)
#define RED 0xff0000u

static struct guest guest;
static struct renderer_ops ops;

/* ---- Doubles -------------------------------------------------------------------------------- */

static int on_buffers; /* a descriptor of which each buffer has a copy, or an error */
static unsigned int num_asked, num_put;

int __wrap_vgf_dma_buf_export_sync_file(int dma_buf_fd, uint32_t access);
int __wrap_vgf_fence_attach_dma_buf(struct vgf_device *device, uint32_t ctx_id, uint64_t fence_id,
	int dma_buf_fd, uint32_t access);

int __wrap_vgf_dma_buf_export_sync_file(int dma_buf_fd, uint32_t access)
{
	assert_true(fcntl(dma_buf_fd, F_GETFD) >= 0);
	assert_int_equal(access, VGF_ACCESS_WRITE);
	num_asked++;
	return on_buffers < 0 ? on_buffers : fcntl(on_buffers, F_DUPFD_CLOEXEC, 0);
}

int __wrap_vgf_fence_attach_dma_buf(struct vgf_device *device, uint32_t ctx_id, uint64_t fence_id,
	int dma_buf_fd, uint32_t access)
{
	(void)device;
	assert_int_equal(ctx_id, VGF_HOST);
	assert_true(fence_id > 0);
	assert_true(fcntl(dma_buf_fd, F_GETFD) >= 0);
	assert_int_equal(access, VGF_ACCESS_WRITE);
	num_put++;
	return 0;
}

static int export_guest_memory(
	struct renderer *renderer, uint32_t resource_id, struct renderer_dma_buf *dma_buf)
{
	(void)renderer;
	(void)resource_id;
	*dma_buf = (struct renderer_dma_buf){ .fd = fcntl(guest.memory_fd, F_DUPFD_CLOEXEC, 0) };
	return dma_buf->fd < 0 ? -errno : 0;
}

static bool has_sync_files(struct renderer *renderer, uint32_t ctx_id)
{
	(void)renderer;
	return ctx_id == 1;
}

static void start(void)
{
	guest_start(&guest, NULL);
	ops = *guest.gpu->renderer->ops;
	ops.export_dma_buf = export_guest_memory;
	ops.has_sync_files = has_sync_files;
	guest.gpu->renderer->ops = &ops;
	on_buffers = -ENOTTY;
	num_asked = num_put = 0;
	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(create_context(&guest, 2), OK);
}

#define TEST_EXPORTED(name) TEST_BETWEEN(name, start(), guest_stop(&guest))

/* A blob of a page that a program of the host has; context 1 has it, too. */
static void export(uint32_t resource_id)
{
	const struct virtio_gpu_set_scanout_blob show = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT_BLOB, 0),
		.r = { .width = htole32(SIDE), .height = htole32(SIDE) },
		.resource_id = htole32(resource_id),
		.width = htole32(SIDE),
		.height = htole32(SIDE),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
		.strides = { htole32(SIDE * 4) },
	};
	struct gpu_buffer buffer;

	assert_int_equal(create_blob(&guest, resource_id, 4096, PICTURE), OK);
	assert_int_equal(attach_context(&guest, 1, resource_id), OK);
	assert_int_equal(guest_call(&guest, &show, sizeof(show)), OK);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), 0);
	close(buffer.fd);
	gpu_tell_released(guest.gpu, buffer.key);
}

static uint32_t run(uint32_t ctx_id, uint64_t fence_id)
{
	const struct job job = { .ctx_id = ctx_id, .fence_id = fence_id };

	return guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, submit(&guest, &job))).type;
}

/* ---- Tests ---------------------------------------------------------------------------------- */

TEST_EXPORTED(only_what_the_context_has_is_looked_at)
{
	export(1);
	export(2);
	assert_int_equal(create_blob(&guest, 3, 4096, PICTURE), OK);
	assert_int_equal(attach_context(&guest, 1, 3), OK); /* nobody else has it */
	assert_int_equal(run(2, 1), OK);
	assert_int_equal(num_asked, 0);
	assert_int_equal(num_put, 0);
	assert_int_equal(run(1, 2), OK);
	assert_int_equal(num_asked, 2);
	assert_int_equal(num_put, 2);
	assert_int_equal(attach_context(&guest, 2, 2), OK);
	assert_int_equal(run(2, 3), OK);
	assert_int_equal(num_asked, 3);
	assert_int_equal(num_put, 2); /* fences of this one are no sync files */
}

TEST_EXPORTED(a_submission_looks_at_so_many_and_no_more)
{
	int before = count_fds();

	for (uint32_t id = 1; id <= MAX_EXPORTED + 10; id++) {
		export(id);
	}
	assert_int_equal(count_fds(), before + (int)MAX_EXPORTED);
	assert_int_equal(run(1, 1), OK);
	assert_int_equal(num_asked, MAX_EXPORTED);
	for (uint32_t id = 1; id <= 10; id++) { /* these were forgotten before */
		assert_int_equal(unref(&guest, id), OK);
	}
	assert_int_equal(count_fds(), before + (int)MAX_EXPORTED);
	for (uint32_t id = 11; id <= MAX_EXPORTED; id++) {
		assert_int_equal(unref(&guest, id), OK);
	}
	num_asked = 0;
	assert_int_equal(run(1, 2), OK);
	assert_int_equal(num_asked, 10);
	guest_reset(&guest);
	assert_int_equal(count_fds(), before);
}

TEST_EXPORTED(a_submission_without_a_fence_waits_and_leaves_none)
{
	const struct job job = { .ctx_id = 1, .resource_id = 1, .value = RED };

	export(1);
	guest_wait(&guest, GPU_QUEUE_CONTROL, submit(&guest, &job));
	assert_int_equal(num_asked, 1);
	assert_int_equal(num_put, 0);
}

TEST_EXPORTED(what_is_on_a_buffer_is_waited_for)
{
	const struct job job = { .ctx_id = 1, .fence_id = 1, .resource_id = 1, .value = RED };
	const struct job later = { .ctx_id = 2, .fence_id = 2, .busy_us = 2000 };
	uint32_t drawn;

	export(1);
	on_buffers = eventfd(0, EFD_CLOEXEC);
	assert_true(on_buffers >= 0);
	drawn = submit(&guest, &job);
	guest_wait(&guest, GPU_QUEUE_CONTROL, submit(&guest, &later));
	assert_int_equal(read_memory(&guest, 4096), 0);
	assert_int_equal(eventfd_write(on_buffers, 1), 0);
	guest_wait(&guest, GPU_QUEUE_CONTROL, drawn);
	assert_int_equal(read_memory(&guest, 4096), RED);
	close(on_buffers);
}

TEST_EXPORTED(a_kernel_that_does_not_tell_holds_nothing_up)
{
	export(1);
	on_buffers = -ENOTTY;
	assert_int_equal(run(1, 1), OK);
	assert_int_equal(guest.num_warnings + guest.num_errors, 0);
}

/* It must not run too early, so it does not run. */
TEST_EXPORTED(without_a_descriptor_a_submission_is_refused_with_its_fence)
{
	export(1);
	on_buffers = -EMFILE;
	assert_int_equal(run(1, 1), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	on_buffers = -ENOTTY;
	assert_int_equal(run(1, 2), OK);
}

/* The guest may name as many in-fences as ever, and the buffer's comes besides. */
TEST_EXPORTED(all_in_fences_of_a_guest_leave_room_for_the_buffers)
{
	static struct {
		struct virtio_gpu_cmd_submit request;
		uint64_t in_fences[MAX_IN_FENCES];
	} submission;
	uint32_t token;

	export(1);
	on_buffers = eventfd(0, EFD_CLOEXEC);
	create_test_fence(&guest, 1);
	submission.request.hdr = header(VIRTIO_GPU_CMD_SUBMIT_3D, 1);
	submission.request.hdr.flags = htole32(VIRTIO_GPU_FLAG_FENCE);
	submission.request.hdr.fence_id = htole64(2);
	submission.request.padding = htole32(MAX_IN_FENCES);
	for (size_t i = 0; i < MAX_IN_FENCES; i++) {
		submission.in_fences[i] = htole64(1);
	}
	token = guest_send(&guest, GPU_QUEUE_CONTROL, &submission, sizeof(submission),
		sizeof(struct virtio_gpu_ctrl_hdr));
	signal_test_fence(&guest, 1);
	assert_int_equal(eventfd_write(on_buffers, 1), 0);
	assert_int_equal(guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, token)).type, OK);
	close(on_buffers);
}

/* ---- Stopping a queue ----------------------------------------------------------------------- */

/* Context 3 is of another renderer, whose work the library holds back until the host's fences have
 * signalled, and which says nothing of work without a fence. */
static unsigned int num_run;

static int run_job(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	(void)data;
	(void)job;
	num_run++;
	*out_fence_fd = VGF_FENCE_DONE;
	return 0;
}

static void end_context(void *data, bool cancelled)
{
	(void)data;
	(void)cancelled;
}

static int create_other(struct renderer *renderer, uint32_t ctx_id, uint64_t serial,
	uint32_t context_init, const char *name)
{
	static const struct vgf_driver driver = {
		.size = sizeof(driver),
		.wait = VGF_WAIT_HOST,
		.submit = run_job,
		.destroy = end_context,
	};

	(void)serial;
	(void)context_init;
	(void)name;
	return vgf_context_create(ops.get_device(renderer), ctx_id, &driver, NULL);
}

static int destroy_other(struct renderer *renderer, uint32_t ctx_id)
{
	int ret = vgf_context_destroy(ops.get_device(renderer), ctx_id);

	return ret < 0 ? ret : 0;
}

static int submit_to_other(
	struct renderer *renderer, const struct vgf_submission *submission, bool *will_retire)
{
	return vgf_submit(ops.get_device(renderer), submission, will_retire);
}

static bool uses_all(struct renderer *renderer, uint64_t serial, uint32_t resource_id)
{
	(void)renderer;
	(void)serial;
	(void)resource_id;
	return true;
}

static void submit_behind(int fence_fd)
{
	const struct job job = { .ctx_id = 3 };

	export(1);
	ops.context_create = create_other;
	ops.context_destroy = destroy_other;
	ops.submit = submit_to_other;
	ops.context_uses = uses_all;
	ops.is_writing = NULL;
	ops.stop_writing = NULL;
	assert_int_equal(create_context(&guest, 3), OK);
	on_buffers = fence_fd;
	assert_true(on_buffers >= 0);
	num_run = 0;
	guest_wait(&guest, GPU_QUEUE_CONTROL, submit(&guest, &job));
	assert_int_equal(num_run, 0);
}

TEST_EXPORTED(a_drain_waits_for_work_without_a_fence_that_is_held_back)
{
	const struct itimerspec soon = { .it_value.tv_nsec = 20000000 };

	submit_behind(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
	assert_int_equal(timerfd_settime(on_buffers, 0, &soon, NULL), 0);
	gpu_drain(guest.gpu, 20000, -1);
	assert_int_equal(num_run, 1);
	close(on_buffers);
}

TEST_EXPORTED(a_drain_drops_work_without_a_fence_that_stays_held_back)
{
	submit_behind(eventfd(0, EFD_CLOEXEC));
	gpu_drain(guest.gpu, 0, -1);
	assert_int_equal(eventfd_write(on_buffers, 1), 0);
	close(on_buffers);
	on_buffers = -ENOTTY;
	assert_int_equal(run(3, 1), OK);
	assert_int_equal(num_run, 1);
}

TEST_EXPORTED(a_drain_drops_what_a_destroyed_context_holds_back)
{
	submit_behind(eventfd(0, EFD_CLOEXEC));
	assert_int_equal(destroy_context(&guest, 3), OK);
	gpu_drain(guest.gpu, 0, -1);
	gpu_drain(guest.gpu, 1000000000, -1); /* for days, if anything is left */
	assert_int_equal(num_run, 0);
	close(on_buffers);
}
