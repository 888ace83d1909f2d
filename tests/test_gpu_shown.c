/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A display that shows the guest's memory in place, and what waits for it. The display is a double,
 * which answers when a test says so.
 */

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "alloc.h"
#include "gpu_guest.h"
#include "gpu_private.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA

#define SIDE 4u
#define PICTURE (SIDE * SIDE * 4)
#define HOUR_MS 3600000
#define FORMAT_XRGB8888 0x34325258u /* DRM_FORMAT_XRGB8888, XR24 */

static struct guest guest;

/* ---- A world -------------------------------------------------------------------------------- */

static uint32_t show(uint32_t scanout, uint32_t resource_id)
{
	return show_blob(&guest, scanout, resource_id, SIDE);
}

/* Context 1; blobs 1 and 2, on scanouts 0 and 1; a display that will tell. */
static void start_with(uint32_t ceiling_ms)
{
	const struct gpu_options options = {
		.num_scanouts = 2,
		.width = 640,
		.height = 480,
		.fence_passing_bit = FENCE_PASSING_BIT,
		.display_ceiling_ms = ceiling_ms,
	};

	guest_start(&guest, &options);
	assert_int_equal(create_context(&guest, 1), OK);
	for (uint32_t id = 1; id <= 2; id++) {
		assert_int_equal(create_blob(&guest, id, id * 4096, PICTURE), OK);
		assert_int_equal(show(id - 1, id), OK);
	}
	guest.tells = true;
}

#define TEST_SHOWN(name) TEST_BETWEEN(name, start_with(HOUR_MS), guest_stop(&guest))

/* The device does all that it can. */
static void turn(void)
{
	gpu_timeout(guest.gpu, -1);
	gpu_dispatch(guest.gpu);
}

static bool is_done(uint32_t token)
{
	turn();
	return guest.responses[GPU_QUEUE_CONTROL][token].done;
}

static uint32_t wait_for(uint32_t token)
{
	return guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, token)).type;
}

/* With a fence on the global timeline, unless the ID is 0. */
static uint32_t flush(uint32_t resource_id, uint64_t fence_id)
{
	return send_flush(&guest, resource_id, SIDE, SIDE, fence_id);
}

static uint32_t flush_on(
	uint32_t ctx_id, uint32_t resource_id, uint8_t ring, uint64_t fence_id, bool shareable)
{
	const struct flush_request request = {
		.resource_id = resource_id,
		.width = SIDE,
		.height = SIDE,
		.fence_id = fence_id,
		.has_ring = true,
		.ctx_id = ctx_id,
		.ring = ring,
		.shareable = shareable,
	};

	return send_flush_behind(&guest, &request);
}

/* With a fence on a ring of context 1. */
static uint32_t flush_on_ring(uint32_t resource_id, uint8_t ring, uint64_t fence_id)
{
	return flush_on(1, resource_id, ring, fence_id, false);
}

static struct gpu_stats stats_now(void)
{
	struct gpu_stats stats;

	gpu_get_stats(guest.gpu, &stats);
	return stats;
}

/* ---- Frames --------------------------------------------------------------------------------- */

TEST_SHOWN(flush_fence)
{
	uint32_t flushed = flush(1, 1);

	assert_int_equal(guest.num_frames[0], 1);
	assert_false(is_done(flushed));
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(guest_header(&guest.responses[0][flushed]).fence_id, 1);
	assert_int_equal(stats_now().flushes_shown, 1);
	assert_int_equal(stats_now().flushes_given_up, 0);
}

TEST_SHOWN(a_display_that_copies_is_not_waited_for)
{
	guest.tells = false;
	assert_int_equal(wait_for(flush(1, 1)), OK);
	assert_int_equal(stats_now().flushes_shown, 0);
}

TEST_SHOWN(a_flush_without_a_fence_neither_waits_nor_is_held)
{
	uint32_t fenced = flush(1, 1), unfenced = flush(1, 0);

	assert_true(is_done(unfenced));
	assert_false(is_done(fenced));
	assert_int_equal(guest.num_frames[0], 2);
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_int_equal(wait_for(fenced), OK);
}

TEST_SHOWN(each_frame_has_its_turn)
{
	uint32_t tokens[4];

	for (uint32_t i = 0; i < 4; i++) {
		tokens[i] = flush_on_ring(1, (uint8_t)i, i + 1);
	}
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_true(is_done(tokens[0]));
	assert_false(is_done(tokens[1]));
	/* What a later frame has taken the place of. */
	gpu_tell_shown(guest.gpu, 0, 3);
	assert_true(is_done(tokens[1]) && is_done(tokens[2]));
	assert_false(is_done(tokens[3]));
	gpu_tell_shown(guest.gpu, 0, 4);
	assert_true(is_done(tokens[3]));
}

TEST_SHOWN(a_slow_monitor_holds_up_no_other)
{
	uint32_t slow = flush_on_ring(1, 0, 1), other;
	const struct job job = { .ctx_id = 1, .ring = 2, .fence_id = 100, .busy_us = 1 };

	for (uint64_t frame = 1; frame <= 50; frame++) {
		other = flush_on_ring(2, 1, 1 + frame);
		assert_false(is_done(other));
		gpu_tell_shown(guest.gpu, 1, frame);
		assert_int_equal(wait_for(other), OK);
	}
	assert_int_equal(wait_for(submit(&guest, &job)), OK);
	assert_int_equal(create_context(&guest, 2), OK);
	assert_false(is_done(slow));
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_int_equal(wait_for(slow), OK);
}

/* As behind every fence. */
TEST_SHOWN(what_is_behind_its_fence_waits_with_it)
{
	uint32_t first = flush(1, 1), second = flush(2, 2);

	gpu_tell_shown(guest.gpu, 1, 1);
	assert_false(is_done(first) || is_done(second));
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_true(is_done(first) && is_done(second));
}

TEST_SHOWN(a_resource_on_two_monitors_waits_for_both)
{
	uint32_t flushed;

	assert_int_equal(show(1, 1), OK);
	flushed = flush(1, 1);
	gpu_tell_shown(guest.gpu, 1, 1);
	assert_false(is_done(flushed));
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_true(is_done(flushed));
	assert_int_equal(stats_now().flushes_shown, 1);
}

TEST_SHOWN(a_flush_of_what_no_monitor_shows_waits_for_none)
{
	assert_int_equal(create_blob(&guest, 3, 3 * 4096, PICTURE), OK);
	assert_int_equal(wait_for(flush(3, 1)), OK);
}

TEST_SHOWN(waits_for_its_in_fence_and_then_for_the_display)
{
	uint32_t held = guest_hold(&guest, 1, 0, 1), flushed;
	const struct flush_request request = {
		.resource_id = 1,
		.width = SIDE,
		.height = SIDE,
		.fence_id = 2,
		.num_in_fences = 1,
		.in_fences = { 1 },
	};

	flushed = send_flush_behind(&guest, &request);
	assert_false(is_done(flushed));
	assert_int_equal(guest.num_frames[0], 0);
	gpu_tell_shown(guest.gpu, 0, UINT64_MAX); /* there is nothing to tell of */
	guest_signal(&guest, held);
	guest_wait(&guest, GPU_QUEUE_CONTROL, held);
	assert_false(is_done(flushed));
	assert_int_equal(guest.num_frames[0], 1);
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_int_equal(wait_for(flushed), OK);
}

/* Another buffer is shown meanwhile, of another size. */
TEST_SHOWN(a_flip_in_the_middle_keeps_the_frame_waiting)
{
	uint32_t first = flush(1, 1), second;

	assert_int_equal(show(0, 2), OK);
	assert_false(is_done(first));
	second = flush_on_ring(2, 0, 2);
	gpu_tell_shown(guest.gpu, 1, 1); /* it is on both */
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_true(is_done(first));
	assert_false(is_done(second));
	gpu_tell_shown(guest.gpu, 0, 2);
	assert_true(is_done(second));
}

/* ---- Rings of no context -------------------------------------------------------------------- */

/* As a driver gives its monitors timelines of their own. */
static uint32_t flush_of_no_context(
	uint32_t resource_id, uint8_t ring, uint64_t fence_id, bool shareable)
{
	return flush_on(0, resource_id, ring, fence_id, shareable);
}

TEST_SHOWN(each_ring_of_no_context_is_a_timeline)
{
	uint32_t slow = flush_of_no_context(1, 0, 1, false), other;

	for (uint8_t ring = 1; ring < VIRTIO_GPU_MAX_SCANOUTS; ring++) {
		other = flush_of_no_context(2, ring, 1 + ring, false);
		gpu_tell_shown(guest.gpu, 1, ring);
		assert_int_equal(wait_for(other), OK);
		assert_int_equal(guest_header(&guest.responses[0][other]).ring_idx, ring);
	}
	assert_false(is_done(slow));
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_int_equal(wait_for(slow), OK);
}

TEST_SHOWN(a_ring_of_no_context_keeps_its_order)
{
	uint32_t first = flush_of_no_context(1, 3, 1, false);
	uint32_t second = flush_of_no_context(2, 3, 2, false);

	gpu_tell_shown(guest.gpu, 1, 1);
	assert_false(is_done(first) || is_done(second));
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_true(is_done(first) && is_done(second));
}

/* A fence like any other: work of a context, and a flush, can be behind it. */
static void check_is_an_in_fence(uint64_t first_id)
{
	const struct job job = { .ctx_id = 1,
		.fence_id = first_id + 1,
		.busy_us = 1,
		.num_in_fences = 1,
		.in_fences = { first_id } };
	const struct flush_request behind = { .resource_id = 2,
		.width = SIDE,
		.height = SIDE,
		.num_in_fences = 1,
		.in_fences = { first_id } };
	uint32_t flushed = flush_of_no_context(1, 0, first_id, true);
	uint32_t submitted = submit(&guest, &job);
	uint32_t held = send_flush_behind(&guest, &behind);

	assert_false(is_done(flushed) || is_done(submitted) || is_done(held));
	gpu_tell_shown(guest.gpu, 0, UINT64_MAX);
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(wait_for(submitted), OK);
	assert_int_equal(wait_for(held), OK);
}

TEST_SHOWN(a_fence_on_a_ring_of_no_context_can_be_an_in_fence)
{
	check_is_an_in_fence(1);
}

TEST_SHOWN(a_fence_on_a_ring_of_no_context_can_be_an_in_fence_after_a_reset)
{
	guest_reset(&guest);
	assert_int_equal(create_context(&guest, 1), OK);
	for (uint32_t id = 1; id <= 2; id++) {
		assert_int_equal(create_blob(&guest, id, id * 4096, PICTURE), OK);
		assert_int_equal(show(id - 1, id), OK);
	}
	check_is_an_in_fence(1);
}

/* Negotiating the same again makes nothing twice. */
TEST_SHOWN(a_fence_on_a_ring_of_no_context_outlives_a_start_of_the_queues)
{
	uint64_t features = guest_features(&guest);
	uint32_t flushed = flush_of_no_context(1, 0, 1, true);

	gpu_set_features(guest.gpu, features);
	assert_false(is_done(flushed));
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_int_equal(wait_for(flushed), OK);
	check_is_an_in_fence(2);
	assert_int_equal(guest.num_errors, 0);
}

TEST_SHOWN(a_private_fence_on_a_ring_of_no_context_is_no_in_fence)
{
	const struct job job = {
		.ctx_id = 1, .fence_id = 2, .num_in_fences = 1, .in_fences = { 1 }
	};
	uint32_t flushed = flush_of_no_context(1, 0, 1, false);

	assert_int_equal(wait_for(submit(&guest, &job)), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_false(is_done(flushed));
}

/* A guest that passes no fences: nothing is made for it, and its order is the same. */
TEST_SHOWN(rings_of_no_context_are_timelines_without_fence_passing)
{
	uint64_t features = guest_features(&guest);
	uint32_t tokens[2];

	gpu_set_features(guest.gpu, features & ~(UINT64_C(1) << FENCE_PASSING_BIT));
	guest_reset(&guest);
	for (uint32_t id = 1; id <= 2; id++) {
		assert_int_equal(create_blob(&guest, id, id * 4096, PICTURE), OK);
		assert_int_equal(show(id - 1, id), OK);
		tokens[id - 1] = flush_of_no_context(id, (uint8_t)id, id, false);
	}
	assert_int_equal(stats_now().fences.contexts, 0);
	gpu_tell_shown(guest.gpu, 1, 1);
	assert_true(is_done(tokens[1]));
	assert_false(is_done(tokens[0]));
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_int_equal(wait_for(tokens[0]), OK);
}

/* ---- What a display tells ------------------------------------------------------------------- */

TEST_SHOWN(what_a_display_tells_twice_or_of_nothing_does_nothing)
{
	uint32_t flushed = flush(1, 1);

	gpu_tell_shown(guest.gpu, 99, 1);
	gpu_tell_shown(guest.gpu, 1, 1);
	gpu_tell_shown(guest.gpu, 0, 0);
	assert_false(is_done(flushed));
	gpu_tell_shown(guest.gpu, 0, 1000); /* so far there is one */
	assert_true(is_done(flushed));
	gpu_tell_shown(guest.gpu, 0, 1);
	flushed = flush(1, 2);
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_false(is_done(flushed));
	gpu_tell_shown(guest.gpu, 0, 2);
	assert_true(is_done(flushed));
}

static void tell_own(uint32_t scanout, uint64_t frame)
{
	gpu_tell_shown(guest.gpu, scanout, frame);
}

static void tell_previous(uint32_t scanout, uint64_t frame)
{
	gpu_tell_shown(guest.gpu, scanout, frame - 1);
}

TEST_SHOWN(a_display_may_tell_from_inside_the_callback)
{
	uint32_t first, second;

	guest.on_flush = tell_own;
	assert_true(is_done(flush(1, 1)));
	guest.on_flush = tell_previous;
	first = flush(1, 2);
	assert_false(is_done(first));
	second = flush(1, 3);
	assert_true(is_done(first));
	assert_false(is_done(second));
	gpu_show(guest.gpu); /* one more frame, of which nobody waits */
	assert_true(is_done(second));
}

/* ---- Displays that leave -------------------------------------------------------------------- */

TEST_SHOWN(a_scanout_that_is_turned_off_holds_nothing)
{
	uint32_t flushed = flush(1, 1), other = flush_on_ring(2, 0, 2);

	assert_int_equal(show(0, 0), OK);
	assert_int_equal(wait_for(flushed), OK);
	assert_false(is_done(other));
}

TEST_SHOWN(a_resource_that_leaves_holds_no_flush)
{
	uint32_t flushed = flush(1, 1);

	assert_int_equal(unref(&guest, 1), OK);
	assert_int_equal(wait_for(flushed), OK);
}

TEST_SHOWN(a_display_that_goes_away_holds_nothing)
{
	uint32_t tokens[2] = { flush(1, 1), flush_on_ring(2, 0, 2) };

	gpu_forget_display(guest.gpu);
	assert_int_equal(wait_for(tokens[0]), OK);
	assert_int_equal(wait_for(tokens[1]), OK);
}

TEST_SHOWN(a_reset_holds_nothing)
{
	uint32_t tokens[2] = { flush(1, 1), flush_on_ring(2, 0, 2) };

	gpu_reset(guest.gpu);
	assert_true(is_done(tokens[0]) && is_done(tokens[1]));
	/* Frames go on counting: what is told of the old ones is not of the new ones. */
	assert_int_equal(create_blob(&guest, 1, 4096, PICTURE), OK);
	assert_int_equal(show(0, 1), OK);
	tokens[0] = flush(1, 1);
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_false(is_done(tokens[0]));
	gpu_tell_shown(guest.gpu, 0, 2);
	assert_int_equal(wait_for(tokens[0]), OK);
}

/* The display is in the loop that drains. A flush that is held until then is shown, and not waited
 * for either. */
TEST_SHOWN(a_drain_does_not_wait_for_the_display)
{
	const struct job job = { .ctx_id = 1, .fence_id = 2, .busy_us = 5000 };
	struct flush_request request = { .resource_id = 1, .width = SIDE, .height = SIDE };
	uint32_t flushed = flush(1, 1), behind;

	submit(&guest, &job);
	request.fence_id = 3;
	request.num_in_fences = 1;
	request.in_fences[0] = 2;
	behind = send_flush_behind(&guest, &request);
	gpu_drain(guest.gpu, 20000, -1);
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(wait_for(behind), OK);
	assert_int_equal(guest.num_frames[0], 2);
	assert_int_equal(guest.num_errors, 0);
	/* Afterwards it does. */
	flushed = flush(1, 4);
	assert_false(is_done(flushed));
}

TEST_SHOWN(is_destroyed_with_flushes_that_wait)
{
	assert_false(is_done(flush(1, 1)));
	assert_false(is_done(flush_on_ring(2, 0, 2)));
}

/* ---- Displays that never answer ------------------------------------------------------------- */

/* Time passes here, and nothing depends on how much. */
TEST_BETWEEN(a_display_that_never_answers_is_given_up_on, start_with(1), guest_stop(&guest))
{
	for (uint64_t id = 1; id <= 3; id++) {
		assert_int_equal(wait_for(flush(1, id)), OK);
		assert_int_equal(stats_now().flushes_given_up, id);
	}
	assert_int_equal(guest.num_errors, 1);
	assert_int_equal(stats_now().flushes_shown, 0);
	/* Late is better than never: the next time is told again. */
	gpu_tell_shown(guest.gpu, 0, 2);
	assert_int_equal(wait_for(flush(1, 4)), OK);
	assert_int_equal(guest.num_errors, 2);
	/* Of another monitor, too. */
	assert_int_equal(wait_for(flush(2, 5)), OK);
	assert_int_equal(guest.num_errors, 3);
}

TEST_SHOWN(the_ceiling_shortens_the_wait_of_the_loop)
{
	int timeout_ms;

	assert_int_equal(gpu_timeout(guest.gpu, -1), -1);
	flush(1, 1);
	timeout_ms = gpu_timeout(guest.gpu, -1);
	assert_true(timeout_ms > 0 && timeout_ms <= HOUR_MS);
	assert_int_equal(gpu_timeout(guest.gpu, 1), 1);
	assert_true(gpu_timeout(guest.gpu, INT32_MAX) <= HOUR_MS);
	gpu_tell_shown(guest.gpu, 0, 1);
	assert_int_equal(gpu_timeout(guest.gpu, -1), -1);
}

/* One answers, one does not. */
TEST_BETWEEN(only_the_display_that_is_late_is_given_up_on, start_with(1), guest_stop(&guest))
{
	uint32_t flushed;

	assert_int_equal(show(1, 1), OK);
	flushed = flush(1, 1);
	gpu_tell_shown(guest.gpu, 1, 1);
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(stats_now().flushes_given_up, 1);
	assert_int_equal(stats_now().flushes_shown, 0);
	assert_int_equal(guest.num_errors, 1);
}

TEST(the_ceiling_is_an_hour_at_most)
{
	struct gpu_options options = { .fence_passing_bit = -1, .display_ceiling_ms = HOUR_MS + 1 };
	static const struct gpu_callbacks callbacks = { 0 };
	struct gpu *gpu;

	assert_true(gpu_create(&callbacks, NULL, &options, renderer_soft_create, &gpu) < 0);
}

/* ---- Guests that go too far ----------------------------------------------------------------- */

/* As many as can be in flight, on a display that says nothing: each has a place of its own, and
 * there are no others. */
TEST_SHOWN(a_guest_that_flushes_without_end)
{
	uint32_t tokens[GPU_MAX_REQUESTS];

	assert_int_equal(show(1, 1), OK);
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < GPU_MAX_REQUESTS; i++) {
			tokens[i] = flush_on_ring(1, (uint8_t)(i % 64), i + 1);
		}
		turn();
		for (uint32_t i = 0; i < GPU_MAX_REQUESTS; i++) {
			assert_false(guest.responses[0][tokens[i]].done);
		}
		gpu_tell_shown(guest.gpu, 1, UINT64_MAX);
		gpu_tell_shown(guest.gpu, 0, UINT64_MAX);
		for (uint32_t i = 0; i < GPU_MAX_REQUESTS; i++) {
			assert_int_equal(wait_for(tokens[i]), OK);
		}
	}
	assert_int_equal(stats_now().flushes_shown, 3 * GPU_MAX_REQUESTS);
}

/* Whatever a guest does with what is shown, each request is answered once. */
TEST_SHOWN(a_guest_that_changes_what_is_shown_in_the_middle)
{
	uint32_t tokens[3];

	for (uint64_t round = 0; round < 100; round++) {
		tokens[0] = flush(1, 3 * round + 1);
		tokens[1] = flush(2, 3 * round + 2);
		assert_int_equal(show(round % 2, 2), OK);
		assert_int_equal(detach_backing(&guest, 1), OK);
		tokens[2] = flush(1, 3 * round + 3);
		assert_int_equal(unref(&guest, 1), OK);
		assert_int_equal(create_blob(&guest, 1, 4096, PICTURE), OK);
		assert_int_equal(show(0, 1), OK);
		assert_int_equal(show(1, 2), OK);
		gpu_tell_shown(guest.gpu, 0, UINT64_MAX);
		gpu_tell_shown(guest.gpu, 1, UINT64_MAX);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(wait_for(tokens[i]), OK);
		}
	}
}

/* ---- Buffers -------------------------------------------------------------------------------- */

#define RED 0xff0000u
#define BLUE 0x0000ffu

/* In place of a dma-buf: a file with the guest's memory, in which the double reads the pixels that
 * a compositor would. */
static int export_guest_memory(
	struct renderer *renderer, uint32_t resource_id, struct renderer_dma_buf *dma_buf)
{
	(void)renderer;
	*dma_buf = (struct renderer_dma_buf){
		.fd = fcntl(guest.memory_fd, F_DUPFD_CLOEXEC, 0),
		.offset = resource_id % 100 * 4096,
		.drm_format = FORMAT_XRGB8888,
		.stride = SIDE * 4,
	};
	return dma_buf->fd < 0 ? -errno : 0;
}

static struct renderer_ops buffer_ops;

static void start_buffers(uint32_t ceiling_ms)
{
	start_with(ceiling_ms);
	buffer_ops = *guest.gpu->renderer->ops;
	buffer_ops.export_dma_buf = export_guest_memory;
	guest.gpu->renderer->ops = &buffer_ops;
}

#define TEST_BUFFERS(name) TEST_BETWEEN(name, start_buffers(HOUR_MS), guest_stop(&guest))

/* What a compositor has on its screen: a buffer, of which it reads the first pixel. */
static uint64_t get_buffer(uint32_t scanout, uint32_t *pixel)
{
	struct gpu_buffer buffer;

	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, scanout, &buffer), 0);
	assert_int_equal(pread(buffer.fd, pixel, sizeof(*pixel), buffer.offset), sizeof(*pixel));
	*pixel = le32toh(*pixel);
	close(buffer.fd);
	return buffer.key;
}

static uint64_t pin(uint32_t scanout)
{
	uint32_t pixel;

	return get_buffer(scanout, &pixel);
}

static void draw(uint32_t resource_id, uint32_t color)
{
	*(uint32_t *)(guest.memory + (size_t)resource_id * 4096) = htole32(color);
}

/* With a fence on the global timeline, unless the ID is 0. Returns its token. */
static uint32_t take(uint32_t type, uint32_t resource_id, uint64_t fence_id)
{
	struct virtio_gpu_resource_unref request = {
		.hdr = header(type, 0),
		.resource_id = htole32(resource_id),
	};

	request.hdr.flags = htole32(fence_id != 0 ? VIRTIO_GPU_FLAG_FENCE : 0);
	request.hdr.fence_id = htole64(fence_id);
	return guest_send(
		&guest, GPU_QUEUE_CONTROL, &request, sizeof(request), sizeof(request.hdr));
}

static uint32_t detach(uint32_t resource_id, uint64_t fence_id)
{
	return take(VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, resource_id, fence_id);
}

static uint32_t send_unref(uint32_t resource_id, uint64_t fence_id)
{
	return take(VIRTIO_GPU_CMD_RESOURCE_UNREF, resource_id, fence_id);
}

TEST_BUFFERS(a_buffer_is_what_the_guest_shows)
{
	struct gpu_buffer buffer;
	uint32_t pixel;

	draw(1, RED);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), 0);
	assert_int_equal(buffer.width, SIDE);
	assert_int_equal(buffer.height, SIDE);
	assert_int_equal(buffer.stride, SIDE * 4);
	assert_int_equal(buffer.offset, 4096);
	assert_int_equal(buffer.drm_format, FORMAT_XRGB8888);
	assert_int_equal(buffer.modifier, 0);
	assert_int_equal(buffer.rect.width, SIDE);
	assert_int_equal(buffer.acquire_fd, -1);
	close(buffer.fd);
	assert_int_equal(get_buffer(0, &pixel), buffer.key);
	assert_int_equal(pixel, RED);
	assert_int_not_equal(pin(1), buffer.key);
}

TEST_BUFFERS(there_may_be_no_buffer)
{
	struct gpu_buffer buffer;

	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 2, &buffer), -ENOENT);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, UINT32_MAX, &buffer), -ENOENT);
	assert_int_equal(show(1, 0), OK);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 1, &buffer), -ENOENT);
	assert_int_equal(detach_backing(&guest, 1), OK);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), -EOPNOTSUPP);
	buffer_ops.export_dma_buf = NULL;
	assert_int_equal(show(1, 2), OK);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 1, &buffer), -EOPNOTSUPP);
}

TEST_BUFFERS(a_buffer_that_there_is_no_memory_for)
{
	struct gpu_buffer buffer;

	alloc_fail(1);
	assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), -ENOMEM);
	alloc_fail(0);
	assert_int_equal(wait_for(detach(1, 1)), OK);
	assert_int_equal(guest.num_leaving, 0);
}

static int export_error;

static int refuse_to_export(
	struct renderer *renderer, uint32_t resource_id, struct renderer_dma_buf *dma_buf)
{
	(void)renderer;
	(void)resource_id;
	(void)dma_buf;
	return export_error;
}

/* Once, with the reason; what may do another time is not told. */
TEST(why_the_guests_pictures_are_copied_is_told)
{
	static const struct {
		int error;
		const char *reason;
	} reasons[] = {
		{ -ENODEV, "/dev/udmabuf" },
		{ -EMEDIUMTYPE, "memfd" },
		{ -EPERM, "F_SEAL_SHRINK" },
		{ -EINVAL, "whole pages" },
		{ -E2BIG, "list_limit" },
		{ -EFBIG, "size_limit_mb" },
		{ -EXDEV, "BAR" },
		{ -ENOTTY, "VFIO" },
		{ -EIO, "Input/output error" },
	};
	struct gpu_buffer buffer;

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		start_buffers(HOUR_MS);
		buffer_ops.export_dma_buf = refuse_to_export;
		guest.watched = "what the guest shows is copied";
		export_error = -EMFILE;
		assert_int_equal(gpu_get_scanout_buffer(guest.gpu, 0, &buffer), -EMFILE);
		assert_int_equal(guest.num_errors, 0);
		export_error = reasons[i].error;
		for (int j = 0; j < 2; j++) {
			assert_int_equal(
				gpu_get_scanout_buffer(guest.gpu, 0, &buffer), -EOPNOTSUPP);
			assert_int_equal(guest.num_errors, 1);
		}
		assert_non_null(strstr(guest.watched_warning, reasons[i].reason));
		guest_stop(&guest);
	}
}

/* ---- Pins ----------------------------------------------------------------------------------- */

TEST_BUFFERS(fenced_detach)
{
	uint64_t key = pin(0);
	uint32_t detached = detach(1, 1);

	assert_int_equal(guest.num_leaving, 1);
	assert_int_equal(guest.leaving, key);
	assert_false(is_done(detached));
	gpu_tell_released(guest.gpu, key);
	assert_int_equal(wait_for(detached), OK);
	assert_int_equal(guest_header(&guest.responses[0][detached]).fence_id, 1);
	assert_int_equal(stats_now().buffers_released, 1);
	/* Nobody has it: nothing is waited for. */
	assert_int_equal(wait_for(detach(2, 2)), OK);
	assert_int_equal(guest.num_leaving, 1);
}

TEST_BUFFERS(a_detach_without_a_fence_waits_too)
{
	uint64_t key = pin(0);
	uint32_t detached = detach(1, 0), unreferenced;

	assert_false(is_done(detached));
	gpu_tell_released(guest.gpu, key);
	assert_true(is_done(detached));
	key = pin(1);
	unreferenced = send_unref(2, 0);
	assert_false(is_done(unreferenced));
	gpu_tell_released(guest.gpu, key);
	assert_true(is_done(unreferenced));
}

/* It is not in a round of the loop that the display tells: without a fence that would wake it, the
 * guest has to be notified all the same. */
TEST_BUFFERS(what_a_display_tells_wakes_the_loop)
{
	uint64_t key = pin(0);
	uint32_t detached = detach(1, 0);

	assert_int_not_equal(gpu_timeout(guest.gpu, -1), 0);
	gpu_tell_released(guest.gpu, key);
	assert_true(guest.responses[0][detached].done);
	assert_int_equal(gpu_timeout(guest.gpu, -1), 0);
	assert_int_equal(gpu_timeout(guest.gpu, -1), -1);
}

/* What the compositor reads stays as the guest left it, because the guest knows. */
TEST_BUFFERS(pin_while_shown)
{
	uint32_t pixel, unreferenced;
	uint64_t key;

	draw(1, RED);
	key = get_buffer(0, &pixel);
	assert_int_equal(show(0, 2), OK); /* this one is shown from its next frame on */
	unreferenced = send_unref(1, 1);
	assert_false(is_done(unreferenced));
	assert_int_equal(guest.leaving, key);
	/* Another monitor, and work of every kind, goes on. */
	assert_int_equal(create_blob(&guest, 3, 3 * 4096, PICTURE), OK);
	assert_int_equal(wait_for(flush(3, 0)), OK);
	assert_int_equal(create_context(&guest, 5), OK);
	assert_false(is_done(unreferenced));
	gpu_tell_released(guest.gpu, key);
	assert_int_equal(wait_for(unreferenced), OK);
}

/* A buffer gets other memory: the display has the old one until it says so, and what it gets then
 * is another. */
TEST_BUFFERS(move_and_detach)
{
	uint64_t old_key, new_key;
	uint32_t pixel, detached;

	draw(1, RED);
	old_key = get_buffer(0, &pixel);
	assert_int_equal(pixel, RED);
	detached = detach(1, 1);
	assert_false(is_done(detached));
	/* The new memory does not wait for the old. */
	assert_int_equal(attach_backing(&guest, 1, 4096, PICTURE), OK);
	draw(1, BLUE);
	new_key = get_buffer(0, &pixel);
	assert_int_equal(pixel, BLUE);
	assert_int_not_equal(old_key, new_key);
	assert_false(is_done(detached));
	gpu_tell_released(guest.gpu, old_key);
	assert_int_equal(wait_for(detached), OK);
	detached = detach(1, 2);
	assert_int_equal(guest.leaving, new_key);
	assert_false(is_done(detached));
	gpu_tell_released(guest.gpu, new_key);
	assert_int_equal(wait_for(detached), OK);
}

TEST_BUFFERS(a_buffer_that_is_released_is_the_guests)
{
	uint64_t key = pin(0);

	gpu_tell_released(guest.gpu, key);
	assert_int_equal(pin(0), key); /* it is the same memory */
	gpu_tell_released(guest.gpu, key);
	gpu_tell_released(guest.gpu, key);
	gpu_tell_released(guest.gpu, 0);
	gpu_tell_released(guest.gpu, UINT64_MAX);
	assert_int_equal(wait_for(detach(1, 1)), OK);
	assert_int_equal(stats_now().buffers_released, 0);
}

/* What it keeps of that keeps the memory, too. */
TEST_BUFFERS(a_display_is_told_of_what_it_has_released)
{
	uint64_t key = pin(0);

	gpu_tell_released(guest.gpu, key);
	assert_int_equal(wait_for(detach(1, 1)), OK);
	assert_int_equal(guest.num_leaving, 1);
	assert_int_equal(guest.leaving, key);
}

static void release_at_once(uint64_t key)
{
	gpu_tell_released(guest.gpu, key);
}

static uint64_t other_key;

static void release_other(uint64_t key)
{
	(void)key;
	gpu_tell_released(guest.gpu, other_key);
}

TEST_BUFFERS(a_display_may_release_from_inside_the_callback)
{
	uint32_t detached;

	guest.on_leaving = release_at_once;
	pin(0);
	assert_int_equal(wait_for(detach(1, 1)), OK);
	guest.on_leaving = NULL;
	other_key = pin(1);
	detached = detach(2, 2);
	assert_false(is_done(detached));
	/* While another one leaves. */
	assert_int_equal(attach_backing(&guest, 1, 4096, PICTURE), OK);
	pin(0);
	guest.on_leaving = release_other;
	detach(1, 3);
	assert_true(is_done(detached));
	assert_int_equal(stats_now().buffers_released, 2);
}

/* ---- Without memory in the renderer ---------------------------------------------------------- */

static unsigned int num_refused;

static int refuse_release(
	struct renderer *renderer, uint32_t resource_id, renderer_done done, void *arg)
{
	(void)renderer;
	(void)resource_id;
	(void)done;
	(void)arg;
	num_refused++;
	return -ENOMEM;
}

/* The renderer takes nothing back, and then does. */
static void check_refused_release(uint32_t type)
{
	const struct renderer_ops usual = buffer_ops;
	uint64_t key = pin(0);
	uint32_t taken;

	buffer_ops.unref = buffer_ops.detach_backing = refuse_release;
	num_refused = 0;
	assert_int_equal(wait_for(take(type, 1, 0)), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	assert_int_equal(num_refused, 1);
	/* It is as it was: the display has the same memory, if it is shown. */
	assert_int_equal(show(0, 1), OK);
	assert_int_equal(pin(0), key);
	assert_int_equal(wait_for(flush(1, 0)), OK);
	buffer_ops = usual;
	taken = take(type, 1, 0);
	assert_false(is_done(taken));
	gpu_tell_released(guest.gpu, key);
	assert_int_equal(wait_for(taken), OK);
}

TEST_BUFFERS(a_detach_that_the_renderer_refuses_changes_nothing)
{
	check_refused_release(VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING);
	assert_int_equal(attach_backing(&guest, 1, 4096, PICTURE), OK);
}

TEST_BUFFERS(an_unref_that_the_renderer_refuses_changes_nothing)
{
	check_refused_release(VIRTIO_GPU_CMD_RESOURCE_UNREF);
	assert_int_equal(create_blob(&guest, 1, 4096, PICTURE), OK);
}

/* ---- Behind what draws ---------------------------------------------------------------------- */

/* A job that stores to blob 1, and what takes the memory away behind it. */
static void check_behind_a_job(uint32_t type)
{
	const struct job job = {
		.ctx_id = 1,
		.fence_id = 2,
		.resource_id = 1,
		.value = RED,
		.num_in_fences = 1,
		.in_fences = { 1 },
	};
	uint32_t held = guest_hold(&guest, 1, 3, 1), drawn, taken;

	assert_int_equal(attach_context(&guest, 1, 1), OK);
	drawn = submit(&guest, &job);
	taken = take(type, 1, 0);
	assert_false(is_done(taken));
	/* Others are not behind it. */
	assert_int_equal(wait_for(detach(2, 0)), OK);
	guest_signal(&guest, held);
	assert_int_equal(wait_for(drawn), OK);
	assert_int_equal(wait_for(taken), OK);
	assert_int_equal(read_memory(&guest, 4096), RED);
}

TEST_BUFFERS(a_detach_is_behind_work_that_is_held)
{
	check_behind_a_job(VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING);
}

TEST_BUFFERS(an_unref_is_behind_work_that_is_held)
{
	check_behind_a_job(VIRTIO_GPU_CMD_RESOURCE_UNREF);
}

/* All of it: the job, then the display; an unref behind the detach. */
TEST_BUFFERS(a_detach_and_an_unref_keep_their_order)
{
	const struct job job = {
		.ctx_id = 1,
		.fence_id = 2,
		.resource_id = 1,
		.value = BLUE,
		.num_in_fences = 1,
		.in_fences = { 1 },
	};
	uint32_t held = guest_hold(&guest, 1, 3, 1), tokens[3];
	uint64_t key = pin(0);

	assert_int_equal(attach_context(&guest, 1, 1), OK);
	tokens[0] = submit(&guest, &job);
	tokens[1] = detach(1, 3);
	assert_int_equal(guest.leaving, key);
	assert_true(detach_backing(&guest, 1) != OK); /* it is being detached */
	assert_true(attach_backing(&guest, 1, 0, PICTURE) != OK);
	tokens[2] = send_unref(1, 4);
	gpu_tell_released(guest.gpu, key);
	for (int i = 0; i < 3; i++) {
		assert_false(is_done(tokens[i]));
	}
	guest_signal(&guest, held);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(wait_for(tokens[i]), OK);
	}
	assert_int_equal(read_memory(&guest, 4096), BLUE);
	assert_int_equal(create_blob(&guest, 1, 4096, PICTURE), OK);
}

/* ---- The end of buffers --------------------------------------------------------------------- */

TEST_BETWEEN(a_display_that_never_releases_is_given_up_on, start_buffers(1), guest_stop(&guest))
{
	uint64_t key = pin(0);

	assert_int_equal(wait_for(detach(1, 1)), OK);
	assert_int_equal(stats_now().buffers_given_up, 1);
	assert_int_equal(guest.num_errors, 1);
	gpu_tell_released(guest.gpu, key); /* too late, and no harm */
	pin(1);
	assert_int_equal(wait_for(send_unref(2, 0)), OK);
	assert_int_equal(stats_now().buffers_given_up, 2);
	assert_int_equal(guest.num_errors, 1); /* it was told */
	assert_int_equal(stats_now().buffers_released, 0);
}

TEST_BUFFERS(the_end_of_a_display_releases_all)
{
	uint32_t tokens[2];

	pin(0);
	pin(1);
	tokens[0] = detach(1, 1);
	assert_false(is_done(tokens[0]));
	gpu_forget_display(guest.gpu);
	assert_int_equal(wait_for(tokens[0]), OK);
	assert_int_equal(wait_for(detach(2, 2)), OK);
}

/* A drain answers what waits; what the display has stays its own. */
TEST_BUFFERS(a_drain_does_not_wait_for_buffers)
{
	uint32_t detached, unreferenced;
	uint64_t key;

	pin(0);
	key = pin(1);
	detached = detach(1, 1);
	gpu_drain(guest.gpu, 20000, -1);
	assert_int_equal(wait_for(detached), OK);
	assert_int_equal(stats_now().buffers_given_up, 1);
	unreferenced = send_unref(2, 2);
	assert_false(is_done(unreferenced));
	gpu_tell_released(guest.gpu, key);
	assert_int_equal(wait_for(unreferenced), OK);
}

TEST_BUFFERS(a_reset_takes_all_buffers)
{
	uint64_t key = pin(1);
	uint32_t detached;

	pin(0);
	detached = detach(1, 1);
	gpu_reset(guest.gpu);
	assert_true(is_done(detached));
	assert_int_equal(guest.num_leaving, 2);
	assert_int_equal(guest.leaving, key);
	gpu_tell_released(guest.gpu, key);
	/* No other memory has this key. */
	assert_int_equal(create_blob(&guest, 1, 4096, PICTURE), OK);
	assert_int_equal(show(0, 1), OK);
	assert_true(pin(0) > key);
}

/* One that waits for a job that never ends, and for a display, has its fence cancelled. */
TEST_BUFFERS(a_drain_cancels_what_is_behind_a_job)
{
	const struct job job = {
		.ctx_id = 1, .fence_id = 2, .resource_id = 1, .num_in_fences = 1, .in_fences = { 1 }
	};
	uint32_t drawn, tokens[2];

	guest_hold(&guest, 1, 3, 1);
	assert_int_equal(attach_context(&guest, 1, 1), OK);
	drawn = submit(&guest, &job);
	pin(0);
	tokens[0] = detach(1, 3);
	tokens[1] = send_unref(1, 4);
	gpu_drain(guest.gpu, 1, -1);
	assert_true(is_done(drawn) && is_done(tokens[0]) && is_done(tokens[1]));
	assert_int_equal(create_blob(&guest, 1, 4096, PICTURE), OK);
}

TEST_BUFFERS(is_destroyed_with_buffers)
{
	pin(0);
	pin(1);
	assert_false(is_done(detach(1, 1)));
}

/* As many as can be in flight leave at once; each was got anew, and none is left. */
TEST_BUFFERS(a_guest_that_takes_back_what_is_shown_without_end)
{
	uint32_t tokens[300];
	uint64_t keys[300];

	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 300; i++) {
			assert_int_equal(create_blob(&guest, 10 + i, 4096, PICTURE), OK);
			assert_int_equal(show(i % 2, 10 + i), OK);
			keys[i] = pin(i % 2);
			tokens[i] = send_unref(10 + i, 0);
		}
		turn();
		for (uint32_t i = 300; i-- > 0;) {
			assert_false(guest.responses[0][tokens[i]].done);
			gpu_tell_released(guest.gpu, keys[i]);
			assert_int_equal(wait_for(tokens[i]), OK);
		}
	}
	assert_int_equal(stats_now().buffers_released, 900);
}
