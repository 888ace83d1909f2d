/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Implicit synchronisation with the host's programs, by content: real dma-bufs of a guest's memory,
 * real sync files. What came too early is a wrong pixel.
 */

#include "gpu_guest.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vgfence/dma_buf.h>
#include <vgfence/sync_file.h>

#include "vgem.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define SIDE 4u
#define PAGE 4096u
#define OLD 0x00ff00u
#define NEW 0x0000ffu

/* Far more than it takes: only so that a fence that is lost ends the test. */
#define LOST_NS INT64_MAX

static struct guest guest;
static int vgem;
static struct gpu_buffer buffer; /* what a program of the host has of resource 1 */
static uint32_t *pixels;         /* its memory, by the dma-buf */

static uint32_t show(uint32_t resource_id)
{
	const struct virtio_gpu_set_scanout_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT_BLOB, 0),
		.r = { .width = htole32(SIDE), .height = htole32(SIDE) },
		.resource_id = htole32(resource_id),
		.width = htole32(SIDE),
		.height = htole32(SIDE),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
		.strides = { htole32(SIDE * 4) },
	};

	return guest_call(&guest, &request, sizeof(request));
}

static void need_kernel(void)
{
	vgem = vgem_open();
	if (vgem < 0 || access("/dev/udmabuf", R_OK | W_OK) < 0) {
		if (vgem >= 0) {
			close(vgem);
		}
		print_message("this kernel has no vgem or no udmabuf: ./run vm has both\n");
		skip();
	}
}

/* Contexts 1 and 2, and resource 1 with the first, which a program of the host has. */
static void start(void)
{
	const struct gpu_options options = {
		.num_scanouts = 1,
		.width = 640,
		.height = 480,
		.fence_passing_bit = FENCE_PASSING_BIT,
		.renderer.sync_files = true,
	};

	need_kernel();
	guest_start(&guest, &options);
	assert_int_equal(fcntl(guest.memory_fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(create_context(&guest, 2), OK);
	assert_int_equal(create_blob(&guest, 1, 8 * PAGE, PAGE), OK);
	assert_int_equal(attach_context(&guest, 1, 1), OK);
	assert_int_equal(show(1), OK);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), 0);
	pixels = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, buffer.fd, 0);
	assert_true(pixels != MAP_FAILED);
	pixels[0] = OLD;
}

static void end_test(void)
{
	munmap(pixels, PAGE);
	close(buffer.fd);
	guest_stop(&guest);
	close(vgem);
}

#define TEST_IMPLICIT(name) TEST_BETWEEN(name, start(), end_test())

static uint32_t pixel(void)
{
	return __atomic_load_n(pixels, __ATOMIC_ACQUIRE);
}

/* A job that makes the pixel new. */
static uint32_t draw(uint32_t ctx_id, uint64_t fence_id)
{
	const struct job job = {
		.ctx_id = ctx_id, .fence_id = fence_id, .resource_id = 1, .value = NEW
	};

	return submit(&guest, &job);
}

/* The GPU does what it can of all that came before: a job of context 2, which ends later. */
static void let_run(uint64_t fence_id)
{
	const struct job job = { .ctx_id = 2, .fence_id = fence_id, .busy_us = 2000 };

	guest_wait(&guest, GPU_QUEUE_CONTROL, submit(&guest, &job));
}

static uint32_t wait_for(uint32_t token)
{
	return guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, token)).type;
}

/* A program of the host uses the buffer, until that is signalled. */
static void use_buffer(struct vgem_fence *fence, uint32_t access)
{
	assert_int_equal(vgem_fence_init(vgem, fence), 0);
	assert_int_equal(vgf_dma_buf_import_sync_file(buffer.fd, access, fence->fd), 0);
}

static void end_use(struct vgem_fence *fence)
{
	assert_int_equal(vgem_fence_signal(vgem, fence), 0);
	vgem_fence_finish(vgem, fence);
}

/* ---- Fences of the host's ------------------------------------------------------------------- */

static void draw_behind(uint32_t access)
{
	struct vgem_fence fence;
	uint32_t drawn;

	use_buffer(&fence, access);
	drawn = draw(1, 1);
	let_run(2);
	assert_int_equal(pixel(), OLD);
	end_use(&fence);
	assert_int_equal(wait_for(drawn), OK);
	assert_int_equal(pixel(), NEW);
}

TEST_IMPLICIT(what_a_program_of_the_host_reads_is_not_drawn_over)
{
	draw_behind(VGF_ACCESS_READ);
}

TEST_IMPLICIT(what_a_program_of_the_host_draws_is_waited_for)
{
	draw_behind(VGF_ACCESS_WRITE);
}

/* The control: it is the fence on the buffer that held the job. */
TEST_IMPLICIT(without_a_fence_on_the_buffer_it_is_drawn_at_once)
{
	struct vgem_fence fence;
	uint32_t drawn;

	assert_int_equal(vgem_fence_init(vgem, &fence), 0);
	drawn = draw(1, 1);
	let_run(2);
	assert_int_equal(pixel(), NEW);
	end_use(&fence);
	assert_int_equal(wait_for(drawn), OK);
}

TEST_IMPLICIT(a_context_without_the_resource_waits_for_nothing)
{
	struct vgem_fence fence;
	uint32_t drawn;

	assert_int_equal(create_blob(&guest, 2, 4 * PAGE, PAGE), OK);
	assert_int_equal(attach_context(&guest, 2, 2), OK);
	use_buffer(&fence, VGF_ACCESS_READ);
	drawn = draw(1, 1);
	assert_int_equal(
		wait_for(submit(&guest,
			&(struct job){
				.ctx_id = 2, .fence_id = 2, .resource_id = 2, .value = NEW })),
		OK);
	assert_int_equal(read_memory(&guest, 4 * PAGE), NEW);
	assert_int_equal(pixel(), OLD);
	end_use(&fence);
	assert_int_equal(wait_for(drawn), OK);
}

TEST_IMPLICIT(a_resource_that_the_context_gave_back_holds_nothing)
{
	const struct job job = { .ctx_id = 1, .fence_id = 1 };
	struct vgem_fence fence;

	use_buffer(&fence, VGF_ACCESS_READ);
	assert_int_equal(detach_context(&guest, 1, 1), OK);
	assert_int_equal(wait_for(submit(&guest, &job)), OK);
	end_use(&fence);
}

/* What the host's program still has is its own affair. */
TEST_IMPLICIT(memory_that_the_guest_took_back_holds_nothing)
{
	const struct job job = { .ctx_id = 1, .fence_id = 1 };
	struct vgem_fence fence;

	gpu_tell_released(guest.gpu, buffer.key);
	use_buffer(&fence, VGF_ACCESS_READ);
	assert_int_equal(detach_backing(&guest, 1), OK);
	assert_int_equal(wait_for(submit(&guest, &job)), OK);
	end_use(&fence);
}

TEST_IMPLICIT(a_reset_ends_what_waits)
{
	struct vgem_fence fence;
	uint32_t drawn;

	use_buffer(&fence, VGF_ACCESS_READ);
	drawn = draw(1, 1);
	let_run(2);
	guest_reset(&guest);
	assert_true(guest.responses[GPU_QUEUE_CONTROL][drawn].done);
	end_use(&fence);
	assert_int_equal(pixel(), OLD);
}

/* ---- Fences of the guest's ------------------------------------------------------------------ */

/* Work that is on its way: it waits for another program, and has its fence on the buffer. */
TEST_IMPLICIT(a_program_of_the_host_can_wait_for_what_the_guest_draws)
{
	struct vgem_fence fence;
	uint32_t drawn;
	int sync_file;

	use_buffer(&fence, VGF_ACCESS_READ);
	drawn = draw(1, 1);
	let_run(2);
	sync_file = vgf_dma_buf_export_sync_file(buffer.fd, VGF_ACCESS_READ);
	assert_true(sync_file >= 0);
	assert_int_equal(vgf_sync_file_poll(sync_file), 0);
	assert_int_equal(pixel(), OLD); /* the control: who does not wait sees this */
	end_use(&fence);
	assert_int_equal(vgf_sync_file_wait(sync_file, LOST_NS), 0);
	assert_int_equal(pixel(), NEW);
	assert_int_equal(wait_for(drawn), OK);
	close(sync_file);
}

static bool is_pending_on_buffer(void)
{
	int sync_file = vgf_dma_buf_export_sync_file(buffer.fd, VGF_ACCESS_READ);
	bool pending;

	assert_true(sync_file >= 0);
	pending = vgf_sync_file_poll(sync_file) == 0;
	close(sync_file);
	return pending;
}

/* Held back, it has no sync file yet; the buffer gets it with the first one. */
TEST_IMPLICIT(work_that_is_held_back_puts_its_fence_there_when_it_runs)
{
	const struct job job = { .ctx_id = 1,
		.fence_id = 2,
		.resource_id = 1,
		.value = NEW,
		.num_in_fences = 1,
		.in_fences = { 1 } };
	struct vgem_fence fence;
	uint32_t drawn;

	use_buffer(&fence, VGF_ACCESS_READ);
	create_test_fence(&guest, 1);
	drawn = submit(&guest, &job);
	assert_false(is_pending_on_buffer());
	signal_test_fence(&guest, 1);
	let_run(3);
	assert_true(is_pending_on_buffer());
	end_use(&fence);
	assert_int_equal(wait_for(drawn), OK);
	assert_int_equal(pixel(), NEW);
	assert_int_equal(guest.num_warnings + guest.num_errors, 0);
}

TEST_IMPLICIT(work_of_a_context_without_the_resource_leaves_no_fence)
{
	const struct job job = { .ctx_id = 2, .fence_id = 1, .busy_us = 2000 };
	uint32_t token = submit(&guest, &job);
	int sync_file = vgf_dma_buf_export_sync_file(buffer.fd, VGF_ACCESS_WRITE);

	assert_int_equal(vgf_sync_file_poll(sync_file), 1);
	close(sync_file);
	assert_int_equal(wait_for(token), OK);
}

/* Two contexts that have the resource: the second one draws behind the first. */
TEST_IMPLICIT(contexts_draw_one_behind_the_other)
{
	struct vgem_fence fence;
	uint32_t first, second;

	assert_int_equal(attach_context(&guest, 2, 1), OK);
	use_buffer(&fence, VGF_ACCESS_WRITE);
	first = submit(&guest,
		&(struct job){ .ctx_id = 1,
			.fence_id = 1,
			.busy_us = 2000,
			.resource_id = 1,
			.value = NEW });
	second = submit(&guest,
		&(struct job){ .ctx_id = 2, .fence_id = 2, .resource_id = 1, .value = OLD + 1 });
	end_use(&fence);
	assert_int_equal(wait_for(first), OK);
	assert_int_equal(wait_for(second), OK);
	assert_int_equal(pixel(), OLD + 1);
}
