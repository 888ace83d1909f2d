/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Frames that a display takes before they are drawn, with a sync file of what they wait for; and
 * how many descriptors fences may have. Eventfds stand for sync files: which a descriptor is, a
 * test says. The display is a double. What a real compositor does with a real sync file is not seen
 * here.
 */

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <vgfence/sync_file.h>

#include "gpu_guest.h"
#include "gpu_private.h"
#include "soft_gpu.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define SIDE 4u
#define PICTURE (SIDE * SIDE * 4)
#define RED 0xff0000u
#define HOUR_MS 3600000
#define NEVER_US 1000000000u /* longer than any test */

static struct guest guest;

/* ---- Doubles -------------------------------------------------------------------------------- */

int __real_soft_gpu_create(
	struct vgf_device *device, const struct soft_gpu_options *options, struct soft_gpu **gpu);
int __wrap_soft_gpu_create(
	struct vgf_device *device, const struct soft_gpu_options *options, struct soft_gpu **gpu);

/* Its fences have descriptors. */
int __wrap_soft_gpu_create(
	struct vgf_device *device, const struct soft_gpu_options *options, struct soft_gpu **gpu)
{
	struct soft_gpu_options with = *options;

	with.fences = SOFT_GPU_FENCES_EVENTFD;
	return __real_soft_gpu_create(device, &with, gpu);
}

static bool are_sync_files;

int __wrap_vgf_sync_file_info(int fd, struct vgf_sync_file_fence *fences, size_t count);

int __wrap_vgf_sync_file_info(int fd, struct vgf_sync_file_fence *fences, size_t count)
{
	(void)fd;
	(void)fences;
	(void)count;
	return are_sync_files ? 1 : -ENOTTY;
}

static int export_guest_memory(
	struct renderer *renderer, uint32_t resource_id, struct renderer_dma_buf *dma_buf)
{
	(void)renderer;
	*dma_buf = (struct renderer_dma_buf){
		.fd = fcntl(guest.memory_fd, F_DUPFD_CLOEXEC, 0),
		.offset = resource_id * 4096,
	};
	return dma_buf->fd < 0 ? -errno : 0;
}

/* A compositor: the last buffer that it took. */
static struct gpu_buffer taken;
static unsigned int num_offers;
static bool takes;

static bool take(uint32_t scanout, uint64_t frame, const struct gpu_buffer *buffer)
{
	(void)scanout;
	(void)frame;
	num_offers++;
	assert_true(buffer->fd >= 0 && buffer->acquire_fd >= 0);
	if (takes) {
		taken = *buffer;
	}
	return takes;
}

/* The pixel that it reads, once it may. */
static uint32_t read_taken(bool waits)
{
	struct pollfd poll_fd = { .fd = taken.acquire_fd, .events = POLLIN };
	uint32_t pixel;

	if (waits) {
		assert_int_equal(poll(&poll_fd, 1, 20000), 1);
	}
	assert_int_equal(pread(taken.fd, &pixel, sizeof(pixel), taken.offset), sizeof(pixel));
	close(taken.fd);
	close(taken.acquire_fd);
	return le32toh(pixel);
}

/* ---- A world -------------------------------------------------------------------------------- */

static struct renderer_ops ops;

/* Blob 1 is on the scanout, and is context 1's. */
static void start(void)
{
	const struct gpu_options options = {
		.num_scanouts = 1,
		.width = 640,
		.height = 480,
		.fence_passing_bit = FENCE_PASSING_BIT,
		.display_ceiling_ms = HOUR_MS,
	};

	guest_start(&guest, &options);
	ops = *guest.gpu->renderer->ops;
	ops.export_dma_buf = export_guest_memory;
	guest.gpu->renderer->ops = &ops;
	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(create_blob(&guest, 1, 4096, PICTURE), OK);
	assert_int_equal(attach_context(&guest, 1, 1), OK);
	assert_int_equal(show_blob(&guest, 0, 1, SIDE), OK);
	guest.tells = true;
	guest.on_offer = take;
	are_sync_files = takes = true;
	num_offers = 0;
}

#define TEST_ACQUIRE(name) TEST_BETWEEN(name, start(), guest_stop(&guest))

static int gate_fd;

/* A job that runs, and waits for the gate: its in-fence, which has a descriptor. */
static uint32_t draw_red(uint64_t fence_id)
{
	const struct job job = {
		.ctx_id = 1,
		.fence_id = fence_id,
		.resource_id = 1,
		.value = RED,
		.num_in_fences = 1,
		.in_fences = { 1000 + fence_id },
	};
	struct vgf_device *device = guest.gpu->renderer->ops->get_device(guest.gpu->renderer);
	uint32_t gate = guest_hold(&guest, 1, 7, 1000 + fence_id);

	gate_fd = eventfd(0, EFD_CLOEXEC);
	assert_true(gate_fd >= 0);
	assert_int_equal(vgf_fence_publish_take(
				 device, &guest.held[gate], fcntl(gate_fd, F_DUPFD_CLOEXEC, 0)),
		0);
	return submit(&guest, &job);
}

static void open_gate(void)
{
	assert_int_equal(eventfd_write(gate_fd, 1), 0);
	close(gate_fd);
}

static uint32_t flush(uint64_t fence_id)
{
	return send_flush(&guest, 1, SIDE, SIDE, fence_id);
}

static bool is_done(uint32_t token)
{
	gpu_timeout(guest.gpu, -1);
	gpu_dispatch(guest.gpu);
	return guest.responses[GPU_QUEUE_CONTROL][token].done;
}

static uint32_t wait_for(uint32_t token)
{
	return guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, token)).type;
}

/* ---- Tests ---------------------------------------------------------------------------------- */

TEST_ACQUIRE(a_frame_is_taken_before_it_is_drawn)
{
	uint32_t drawn = draw_red(1), flushed = flush(2);
	struct gpu_stats stats;

	assert_int_equal(num_offers, 1);
	assert_int_equal(guest.num_frames[0], 1);
	assert_int_equal(guest.num_flushes, 0);
	open_gate();
	assert_int_equal(read_taken(true), RED);
	assert_int_equal(wait_for(drawn), OK);
	assert_false(is_done(flushed)); /* it is not shown yet */
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(guest.num_flushes, 0); /* once is enough */
	gpu_get_stats(guest.gpu, &stats);
	assert_int_equal(stats.flushes_offered, 1);
	gpu_tell_released(guest.gpu, taken.key);
}

/* The control: a display that does not wait reads what was there before. */
TEST_ACQUIRE(without_the_fence_it_is_the_wrong_pixel)
{
	uint32_t drawn = draw_red(1);

	flush(0);
	assert_int_equal(num_offers, 1);
	assert_int_equal(read_taken(false), 0);
	open_gate();
	assert_int_equal(wait_for(drawn), OK);
}

/* A display cannot show it any sooner. */
TEST_ACQUIRE(the_ceiling_counts_from_when_a_frame_is_drawn)
{
	uint32_t drawn, flushed;
	struct gpu_stats stats;

	guest.gpu->options.display_ceiling_ms = 1;
	drawn = draw_red(1);
	flushed = flush(2);
	usleep(10 * 1000);
	assert_false(is_done(flushed));
	guest.gpu->options.display_ceiling_ms = HOUR_MS;
	open_gate();
	assert_int_equal(wait_for(drawn), OK);
	assert_int_equal(read_taken(false), RED);
	assert_false(is_done(flushed));
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_int_equal(wait_for(flushed), OK);
	gpu_get_stats(guest.gpu, &stats);
	assert_int_equal(stats.flushes_given_up, 0);
}

TEST_ACQUIRE(a_frame_that_is_drawn_has_its_ceiling_behind_one_that_is_not)
{
	const struct flush_request other = {
		.resource_id = 2,
		.width = SIDE,
		.height = SIDE,
		.fence_id = 3,
		.has_ring = true,
		.ring = 1,
	};
	uint32_t flushed;

	assert_int_equal(create_blob(&guest, 2, 8192, PICTURE), OK);
	draw_red(1);
	flushed = flush(2);
	assert_int_equal(show_blob(&guest, 0, 2, SIDE), OK);
	guest.gpu->options.display_ceiling_ms = 1;
	assert_int_equal(wait_for(send_flush_behind(&guest, &other)), OK);
	assert_false(is_done(flushed));
	open_gate();
	assert_int_equal(wait_for(flushed), OK);
	read_taken(false);
}

TEST_ACQUIRE(what_is_shown_first_is_answered_when_it_is_drawn)
{
	uint32_t drawn, flushed;

	drawn = draw_red(1);
	flushed = flush(2);
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_false(is_done(flushed));
	open_gate();
	assert_int_equal(wait_for(flushed), OK);
	assert_true(guest.responses[0][drawn].done);
	read_taken(false);
}

TEST_ACQUIRE(a_frame_that_is_not_taken_comes_when_it_is_drawn)
{
	uint32_t flushed;

	takes = false;
	draw_red(1);
	flushed = flush(0);
	assert_int_equal(num_offers, 1);
	assert_int_equal(guest.num_flushes, 0);
	open_gate();
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(guest.num_flushes, 1);
	assert_int_equal(guest.flushed_pixel, RED);
	/* Nothing of the offer is left. */
	assert_int_equal(unref(&guest, 1), OK);
}

/* The next frame in the same memory, for which the display has no place. */
TEST_ACQUIRE(what_a_display_reads_stays_so_if_it_takes_no_other_frame)
{
	const struct virtio_gpu_resource_unref request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_UNREF, 0),
		.resource_id = htole32(1),
	};
	uint32_t drawn, unreferenced;

	drawn = draw_red(1);
	flush(0);
	open_gate();
	assert_int_equal(wait_for(drawn), OK);
	read_taken(false);
	takes = false;
	drawn = draw_red(2);
	flush(0);
	assert_int_equal(num_offers, 2);
	open_gate();
	assert_int_equal(wait_for(drawn), OK);
	unreferenced = guest_send(&guest, GPU_QUEUE_CONTROL, &request, sizeof(request), 24);
	assert_false(is_done(unreferenced));
	assert_int_equal(guest.leaving, taken.key);
	gpu_tell_released(guest.gpu, taken.key);
	assert_int_equal(wait_for(unreferenced), OK);
}

/* Descriptors that are no sync files, and fences without any. */
TEST_ACQUIRE(what_has_no_sync_file_is_waited_for_here)
{
	struct flush_request behind = {
		.resource_id = 1,
		.width = SIDE,
		.height = SIDE,
		.num_in_fences = 2,
		.in_fences = { 2, 3 },
	};
	uint32_t flushed, held;

	are_sync_files = false;
	draw_red(1);
	flushed = flush(0);
	open_gate();
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(guest.flushed_pixel, RED);
	are_sync_files = true;
	held = guest_hold(&guest, 1, 5, 2);
	draw_red(3);
	flushed = send_flush_behind(&guest, &behind);
	open_gate();
	assert_false(is_done(flushed));
	guest_signal(&guest, held);
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(num_offers, 0);
	assert_int_equal(guest.num_flushes, 2);
}

TEST_ACQUIRE(what_cannot_be_a_buffer_is_not_offered)
{
	uint32_t flushed;

	ops.export_dma_buf = NULL;
	draw_red(1);
	flushed = flush(0);
	open_gate();
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(num_offers, 0);
	assert_int_equal(guest.flushed_pixel, RED);
}

TEST_ACQUIRE(a_reset_answers_what_was_taken)
{
	uint32_t flushed;

	draw_red(1);
	flushed = flush(2);
	gpu_reset(guest.gpu);
	assert_true(is_done(flushed));
	assert_int_equal(guest.leaving, taken.key);
	read_taken(false);
	open_gate();
}

/* The window that took it has gone, and the new one has nothing. */
TEST_ACQUIRE(a_frame_that_was_taken_comes_again_if_its_monitor_was_off)
{
	uint32_t drawn = draw_red(1), flushed = flush(2);

	assert_int_equal(num_offers, 1);
	assert_int_equal(show_blob(&guest, 0, 0, SIDE), OK);
	assert_int_equal(show_blob(&guest, 0, 1, SIDE), OK);
	open_gate();
	assert_int_equal(wait_for(drawn), OK);
	assert_false(is_done(flushed));
	assert_int_equal(guest.num_flushes, 1);
	assert_int_equal(guest.flushed_pixel, RED);
	gpu_tell_shown(guest.gpu, 0, guest.num_frames[0]);
	assert_int_equal(wait_for(flushed), OK);
	read_taken(false);
	gpu_tell_released(guest.gpu, taken.key);
}

/* What it is shown at first is not drawn yet. */
TEST_ACQUIRE(a_frame_that_was_taken_comes_again_to_a_display_that_comes_later)
{
	uint32_t drawn = draw_red(1), flushed = flush(2);

	assert_int_equal(num_offers, 1);
	gpu_show(guest.gpu);
	assert_int_equal(guest.num_flushes, 1);
	assert_int_equal(guest.flushed_pixel, 0);
	open_gate();
	assert_int_equal(wait_for(drawn), OK);
	assert_false(is_done(flushed));
	assert_int_equal(guest.num_flushes, 2);
	assert_int_equal(guest.flushed_pixel, RED);
	gpu_tell_shown(guest.gpu, 0, guest.num_frames[0] - 1);
	assert_false(is_done(flushed));
	gpu_tell_shown(guest.gpu, 0, guest.num_frames[0]);
	assert_int_equal(wait_for(flushed), OK);
	read_taken(false);
	gpu_tell_released(guest.gpu, taken.key);
}

/* Nothing draws to what is shown, but the flush names a fence. */
static void flush_behind(uint64_t in_fence)
{
	const struct flush_request flush = { .resource_id = 1,
		.width = SIDE,
		.height = SIDE,
		.num_in_fences = 1,
		.in_fences = { in_fence } };

	assert_int_equal(create_context(&guest, 2), OK);
	submit(&guest, &(struct job){ .ctx_id = 2, .fence_id = 5, .busy_us = NEVER_US });
	send_flush_behind(&guest, &flush);
}

TEST_ACQUIRE(an_in_fence_is_offered_as_a_sync_file)
{
	flush_behind(5);
	assert_int_equal(num_offers, 1);
	close(taken.fd);
	close(taken.acquire_fd);
}

/* It stands for all before it, which has no order there. */
TEST_ACQUIRE(an_in_fence_of_the_global_timeline_is_waited_for_here)
{
	struct vgf_device *device = guest.gpu->renderer->ops->get_device(guest.gpu->renderer);
	uint32_t held = guest_hold(&guest, 0, VGF_RING_GLOBAL, 4);
	int fence_fd = eventfd(0, EFD_CLOEXEC);

	assert_true(fence_fd >= 0);
	assert_int_equal(vgf_fence_publish_take(device, &guest.held[held], fence_fd), 0);
	flush_behind(4);
	assert_int_equal(num_offers, 0);
}

/* ---- Descriptors ---------------------------------------------------------------------------- */

TEST(jobs_leave_half_of_the_descriptors)
{
	struct rlimit before;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 400, before.rlim_max }), 0);
	start();
	for (uint32_t i = 1; i <= 200; i++) {
		submit(&guest, &(struct job){ .ctx_id = 1, .fence_id = i, .busy_us = NEVER_US });
	}
	/* One context has a quarter of that half. */
	assert_in_range(count_fds(), 40, 70);
	for (uint32_t ctx_id = 2; ctx_id <= 4; ctx_id++) {
		assert_int_equal(create_context(&guest, ctx_id), OK);
		for (uint32_t i = 1; i <= 200; i++) {
			submit(&guest,
				&(struct job){ .ctx_id = ctx_id,
					.fence_id = ctx_id * 1000 + i,
					.busy_us = NEVER_US });
		}
	}
	assert_in_range(count_fds(), 150, 250);
	guest_stop(&guest);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}
