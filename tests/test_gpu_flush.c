/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Flushes with in-fences: held until these have signalled, and nothing else with them. What a guest
 * does wrong in one of them is answered to that one.
 */

#include <endian.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <vgfence/inspect.h>

#include "gpu_guest.h"
#include "gpu_private.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define BAD_PARAMETER VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER
#define BAD_RESOURCE VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID

#define SIDE 4u
#define PICTURE (SIDE * SIDE * 4)
#define RED 0xff0000u
#define BLUE 0x0000ffu

#define MAX_IDS 257

static struct guest guest;

/* ---- A world -------------------------------------------------------------------------------- */

/* Blob `resource_id` is on the scanout, with memory of its own. */
static void create_shown_blob(uint32_t resource_id, uint32_t scanout)
{
	assert_int_equal(create_blob(&guest, resource_id, resource_id * 4096, PICTURE), OK);
	assert_int_equal(show_blob(&guest, scanout, resource_id, SIDE), OK);
}

/* Contexts 1 and 2; blobs 1 and 2, on scanouts 0 and 1. No context has them, so that a flush waits
 * for nothing but its in-fences. */
static void start(void)
{
	guest_start(&guest, NULL);
	for (uint32_t id = 1; id <= 2; id++) {
		assert_int_equal(create_context(&guest, id), OK);
		create_shown_blob(id, id - 1);
	}
}

#define TEST_FLUSH(name) TEST_BETWEEN(name, start(), guest_stop(&guest))

static void draw(uint32_t resource_id, uint32_t color)
{
	*(uint32_t *)(guest.memory + (size_t)resource_id * 4096) = htole32(color);
}

static bool is_done(uint32_t token)
{
	return guest.responses[GPU_QUEUE_CONTROL][token].done;
}

static uint32_t order_of(uint32_t token)
{
	assert_true(is_done(token));
	return guest.responses[GPU_QUEUE_CONTROL][token].order;
}

static uint32_t wait_for(uint32_t token)
{
	return guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, token)).type;
}

/* Signals a fence that a test holds, and waits until the guest knows. */
static void release(uint32_t held)
{
	guest_signal(&guest, held);
	guest_wait(&guest, GPU_QUEUE_CONTROL, held);
	gpu_dispatch(guest.gpu);
}

/* A flush of all of a blob. */
static struct flush_request flush_of(uint32_t resource_id)
{
	return (struct flush_request){
		.resource_id = resource_id,
		.width = SIDE,
		.height = SIDE,
	};
}

static uint32_t flush_now(uint32_t resource_id)
{
	const struct flush_request flush = flush_of(resource_id);

	return send_flush_behind(&guest, &flush);
}

static uint32_t flush_behind(uint32_t resource_id, uint64_t in_fence)
{
	struct flush_request flush = flush_of(resource_id);

	flush.num_in_fences = 1;
	flush.in_fences[0] = in_fence;
	return send_flush_behind(&guest, &flush);
}

/* With a fence of its own, which others may name, on the global timeline. */
static uint32_t fenced_flush_behind(uint32_t resource_id, uint64_t fence_id, uint64_t in_fence)
{
	struct flush_request flush = flush_of(resource_id);

	flush.fence_id = fence_id;
	flush.shareable = true;
	flush.num_in_fences = 1;
	flush.in_fences[0] = in_fence;
	return send_flush_behind(&guest, &flush);
}

/* ---- Held ----------------------------------------------------------------------------------- */

TEST_FLUSH(a_flush_is_held_until_its_in_fence_has_signalled)
{
	uint32_t held = guest_hold(&guest, 1, 0, 1), flushed;

	draw(1, RED);
	flushed = flush_behind(1, 1);
	gpu_dispatch(guest.gpu);
	assert_false(is_done(flushed));
	assert_int_equal(guest.num_flushes, 0);
	/* It is the in-fence that holds it. */
	assert_int_equal(wait_for(flush_now(1)), OK);
	assert_int_equal(guest.num_flushes, 1);
	assert_false(is_done(flushed));
	draw(1, BLUE);
	release(held);
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(guest.num_flushes, 2);
	assert_int_equal(guest.flushed_pixel, BLUE);
}

TEST_FLUSH(a_flush_is_shown_and_answered_after_its_in_fence_is_answered)
{
	uint32_t held = guest_hold(&guest, 1, 0, 1), flushed = flush_behind(1, 1);

	release(held);
	assert_int_equal(wait_for(flushed), OK);
	assert_true(order_of(held) < order_of(flushed));
	assert_true(guest.flushed_at >= order_of(held));
	assert_true(guest.flushed_at < order_of(flushed));
}

static uint32_t place;

/* As a second thread does while OpenGL reads a frame: the guest knows of the request already. */
static void take_place(uint32_t scanout, uint64_t frame)
{
	struct virtio_gpu_get_capset_info question = {
		.hdr = header(VIRTIO_GPU_CMD_GET_CAPSET_INFO, 0),
	};
	struct virtio_gpu_resp_capset_info answer;
	struct iovec readable = { &question, sizeof(question) };
	struct iovec writable = { &answer, sizeof(answer) };
	const struct gpu_request request = {
		.queue = GPU_QUEUE_CONTROL,
		.token = place,
		.readable = &readable,
		.num_readable = 1,
		.writable = &writable,
		.num_writable = 1,
	};

	(void)scanout;
	(void)frame;
	assert_true(is_done(place));
	guest.responses[GPU_QUEUE_CONTROL][place].done = false;
	assert_true(gpu_handle_aside(guest.gpu, &request));
	assert_true(is_done(place));
}

TEST_FLUSH(all_go_on_even_if_another_request_takes_the_place_of_their_in_fences)
{
	uint32_t first, second;

	place = guest_hold(&guest, 1, 0, 1);
	first = flush_behind(1, 1);
	second = flush_behind(2, 1);
	guest.on_flush = take_place;
	release(place);
	assert_int_equal(wait_for(first), OK);
	assert_int_equal(wait_for(second), OK);
	assert_int_equal(guest.num_flushes, 2);
}

/* The device waits for the fence to retire: what is before it on its timeline, too. */
TEST_FLUSH(an_in_fence_is_behind_its_timeline)
{
	uint32_t first = guest_hold(&guest, 1, 0, 1), second = guest_hold(&guest, 1, 0, 2);
	uint32_t flushed = flush_behind(1, 2);

	guest_signal(&guest, second);
	gpu_dispatch(guest.gpu);
	assert_false(is_done(flushed));
	release(first);
	assert_int_equal(wait_for(flushed), OK);
	assert_true(order_of(second) < order_of(flushed));
}

/* All orders in which four fences can signal. */
static void check_order(const uint32_t order[4])
{
	static const struct {
		uint32_t ctx_id;
		int32_t ring;
	} timelines[4] = { { 1, 0 }, { 1, 3 }, { 2, 0 }, { 0, VGF_RING_GLOBAL } };
	static uint64_t last_id;
	struct flush_request flush = flush_of(1);
	uint32_t held[4], flushed, shown = guest.num_flushes;

	flush.num_in_fences = 4;
	for (uint32_t i = 0; i < 4; i++) {
		flush.in_fences[i] = ++last_id;
		held[i] = guest_hold(&guest, timelines[i].ctx_id, timelines[i].ring, last_id);
	}
	flushed = send_flush_behind(&guest, &flush);
	for (uint32_t i = 0; i < 4; i++) {
		gpu_dispatch(guest.gpu);
		assert_false(is_done(flushed));
		assert_int_equal(guest.num_flushes, shown);
		release(held[order[i]]);
	}
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(guest.num_flushes, shown + 1);
}

TEST_FLUSH(waits_for_in_fences_of_several_contexts_and_rings)
{
	for (uint32_t i = 0; i < 4 * 4 * 4 * 4; i++) {
		const uint32_t order[4] = { i % 4, i / 4 % 4, i / 16 % 4, i / 64 };
		uint32_t seen = 0;

		for (uint32_t j = 0; j < 4; j++) {
			seen |= 1u << order[j];
		}
		if (seen == 0xf) {
			check_order(order);
		}
	}
}

TEST_FLUSH(in_fences_that_have_signalled_or_are_repeated_hold_nothing)
{
	struct flush_request flush = flush_of(1);
	uint32_t held = guest_hold(&guest, 1, 0, 1), flushed;

	release(held);
	assert_int_equal(wait_for(flush_behind(1, 1)), OK);
	held = guest_hold(&guest, 1, 0, 2);
	flush.num_in_fences = 4;
	memcpy(flush.in_fences, (const uint64_t[]){ 2, 1, 2, 2 }, sizeof(flush.in_fences));
	flushed = send_flush_behind(&guest, &flush);
	gpu_dispatch(guest.gpu);
	assert_false(is_done(flushed));
	release(held);
	assert_int_equal(wait_for(flushed), OK);
}

TEST_FLUSH(waits_for_a_job_of_a_context_that_does_not_have_the_resource)
{
	const struct job job = { .ctx_id = 2, .fence_id = 1, .busy_us = 2000 };
	uint32_t drawn = submit(&guest, &job), flushed = flush_behind(1, 1);

	assert_int_equal(wait_for(flushed), OK);
	assert_true(order_of(drawn) < order_of(flushed));
}

TEST_FLUSH(waits_for_the_fence_of_a_transfer)
{
	struct virtio_gpu_transfer_to_host_2d transfer = {
		.hdr = header(VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, 0),
		.r = { .width = htole32(SIDE), .height = htole32(SIDE) },
		.resource_id = htole32(1),
	};
	uint32_t held = guest_hold(&guest, 0, VGF_RING_GLOBAL, 1), transferred, flushed;

	transfer.hdr.flags = htole32(VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_FENCE_SHAREABLE);
	transfer.hdr.fence_id = htole64(2);
	transferred = guest_send(&guest, GPU_QUEUE_CONTROL, &transfer, sizeof(transfer), 24);
	flushed = flush_behind(1, 2);
	gpu_dispatch(guest.gpu);
	assert_false(is_done(flushed));
	release(held);
	assert_int_equal(wait_for(flushed), OK);
	assert_true(order_of(transferred) < order_of(flushed));
}

/* As a display takes a frame whose rendering has failed: what is there is shown. */
TEST_FLUSH(an_in_fence_with_an_error_keeps_no_frame_back)
{
	struct virtio_gpu_cmd_submit bad = {
		.hdr = header(VIRTIO_GPU_CMD_SUBMIT_3D, 2),
		.size = htole32(3),
	};
	uint32_t held = guest_hold(&guest, 2, 0, 1), failed, flushed;

	bad.hdr.flags = htole32(VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX |
		VIRTIO_GPU_FLAG_FENCE_SHAREABLE);
	bad.hdr.fence_id = htole64(2);
	failed = guest_send(&guest, GPU_QUEUE_CONTROL, &bad, sizeof(bad), 24);
	draw(1, RED);
	flushed = flush_behind(1, 2);
	gpu_dispatch(guest.gpu);
	assert_false(is_done(flushed));
	release(held);
	assert_int_equal(wait_for(failed), BAD_PARAMETER);
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(guest.flushed_pixel, RED);
}

/* ---- What goes on meanwhile ----------------------------------------------------------------- */

TEST_FLUSH(a_held_flush_keeps_other_resources_and_contexts_going)
{
	const struct job job = { .ctx_id = 1, .fence_id = 2, .busy_us = 1 };
	uint32_t held = guest_hold(&guest, 1, 3, 1), flushed = flush_behind(1, 1);

	draw(2, BLUE);
	assert_int_equal(wait_for(flush_now(2)), OK);
	assert_int_equal(guest.num_flushes, 1);
	assert_int_equal(guest.flushed_pixel, BLUE);
	assert_int_equal(wait_for(submit(&guest, &job)), OK);
	assert_int_equal(create_context(&guest, 3), OK);
	assert_int_equal(create_2d(&guest, 3, SIDE, SIDE), OK);
	assert_false(is_done(flushed));
	release(held);
	assert_int_equal(wait_for(flushed), OK);
}

/* Each is shown when its own in-fences have signalled, and shows what is there then. */
TEST_FLUSH(flushes_of_one_resource_do_not_wait_for_each_other)
{
	uint32_t held[2], flushed[2];

	for (uint32_t i = 0; i < 2; i++) {
		held[i] = guest_hold(&guest, i + 1, 0, i + 1);
		flushed[i] = flush_behind(1, i + 1);
	}
	draw(1, RED);
	release(held[1]);
	assert_int_equal(wait_for(flushed[1]), OK);
	assert_false(is_done(flushed[0]));
	assert_int_equal(guest.flushed_pixel, RED);
	draw(1, BLUE);
	release(held[0]);
	assert_int_equal(wait_for(flushed[0]), OK);
	assert_int_equal(guest.num_flushes, 2);
	assert_int_equal(guest.flushed_pixel, BLUE);
}

/* Until the device is reset. */
TEST_FLUSH(a_fence_that_never_signals_holds_one_flush_alone)
{
	uint32_t never, flushed;

	never = guest_hold(&guest, 1, 0, 1);
	flushed = flush_behind(1, 1);
	for (uint64_t id = 2; id < 100; id++) {
		uint32_t held = guest_hold(&guest, 2, 0, id), next = flush_behind(1, id);

		release(held);
		assert_int_equal(wait_for(next), OK);
		assert_int_equal(guest.num_flushes, id - 1);
	}
	assert_false(is_done(never) || is_done(flushed));
}

/* What is behind it on the timeline of its own fence has its answer in order, on others at once. */
TEST_FLUSH(only_the_timeline_of_its_own_fence_waits_with_a_flush)
{
	struct flush_request flush = flush_of(1);
	struct job behind = { .ctx_id = 1, .ring = 5, .fence_id = 3, .busy_us = 1 };
	struct job beside = { .ctx_id = 1, .ring = 6, .fence_id = 4, .busy_us = 1 };
	uint32_t held = guest_hold(&guest, 2, 0, 1), flushed, tokens[2];

	flush.fence_id = 2;
	flush.has_ring = true;
	flush.ctx_id = 1;
	flush.ring = 5;
	flush.num_in_fences = 1;
	flush.in_fences[0] = 1;
	flushed = send_flush_behind(&guest, &flush);
	tokens[0] = submit(&guest, &behind);
	tokens[1] = submit(&guest, &beside);
	assert_int_equal(wait_for(tokens[1]), OK);
	assert_false(is_done(flushed) || is_done(tokens[0]));
	release(held);
	assert_int_equal(wait_for(tokens[0]), OK);
	assert_true(order_of(flushed) < order_of(tokens[0]));
	assert_int_equal(guest_header(&guest.responses[0][flushed]).fence_id, 2);
}

/* ---- Fences of flushes as in-fences --------------------------------------------------------- */

TEST_FLUSH(work_and_flushes_may_wait_for_the_fence_of_a_flush)
{
	const struct job job = {
		.ctx_id = 2, .fence_id = 4, .num_in_fences = 1, .in_fences = { 3 }
	};
	uint32_t held = guest_hold(&guest, 1, 0, 1), tokens[3];

	tokens[0] = fenced_flush_behind(1, 2, 1);
	tokens[1] = fenced_flush_behind(2, 3, 2);
	tokens[2] = submit(&guest, &job);
	gpu_dispatch(guest.gpu);
	for (int i = 0; i < 3; i++) {
		assert_false(is_done(tokens[i]));
	}
	release(held);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(wait_for(tokens[i]), OK);
	}
	assert_true(order_of(tokens[0]) < order_of(tokens[1]));
	assert_int_equal(guest.num_flushes, 2);
}

TEST_FLUSH(the_fence_of_a_flush_is_not_shareable_by_itself)
{
	struct flush_request flush = flush_of(1);
	uint32_t held = guest_hold(&guest, 1, 0, 1), flushed;

	flush.fence_id = 2;
	flush.num_in_fences = 1;
	flush.in_fences[0] = 1;
	flushed = send_flush_behind(&guest, &flush);
	assert_int_equal(wait_for(flush_behind(2, 2)), BAD_PARAMETER);
	release(held);
	assert_int_equal(wait_for(flushed), OK);
}

/* ---- What a guest does wrong ---------------------------------------------------------------- */

/* A flush of blob 1, with `size` bytes behind it of which the IDs are. */
static uint32_t send_raw(uint32_t count, const uint64_t *ids, size_t size)
{
	struct {
		struct virtio_gpu_resource_flush request;
		uint64_t ids[MAX_IDS];
	} all = {
		.request = {
			.hdr = header(VIRTIO_GPU_CMD_RESOURCE_FLUSH, 0),
			.r = { .width = htole32(SIDE), .height = htole32(SIDE) },
			.resource_id = htole32(1),
			.padding = htole32(count),
		},
	};

	for (size_t i = 0; i * sizeof(ids[0]) < size; i++) {
		all.ids[i] = htole64(ids[i]);
	}
	return guest_send(&guest, GPU_QUEUE_CONTROL, &all, sizeof(all.request) + size,
		sizeof(all.request.hdr));
}

/* It is answered so, nothing is shown, and the next one is. */
static void check_refused(uint32_t count, const uint64_t *ids, size_t size)
{
	uint32_t shown = guest.num_flushes;

	assert_int_equal(wait_for(send_raw(count, ids, size)), BAD_PARAMETER);
	assert_int_equal(guest.num_flushes, shown);
	assert_int_equal(wait_for(flush_now(1)), OK);
	assert_int_equal(guest.num_flushes, shown + 1);
}

TEST_FLUSH(refuses_in_fences_that_are_not_there)
{
	static const uint64_t ids[4];

	guest_signal(&guest, guest_hold(&guest, 1, 0, 0));
	for (size_t size = 0; size < sizeof(ids); size++) {
		check_refused(4, ids, size);
	}
	check_refused(1, ids, 0);
	check_refused(0x20000001, ids, sizeof(ids)); /* 8 times this is 8, in 32 bits */
	check_refused(0x80000000, ids, sizeof(ids));
	check_refused(0xffffffff, ids, sizeof(ids));
}

TEST_FLUSH(refuses_more_in_fences_than_a_submission_may_have)
{
	uint64_t ids[MAX_IDS];
	uint32_t held = guest_hold(&guest, 1, 0, 1), flushed;

	for (uint32_t i = 0; i < MAX_IDS; i++) {
		ids[i] = 1;
	}
	check_refused(MAX_IDS, ids, sizeof(ids));
	flushed = send_raw(MAX_IDS - 1, ids, sizeof(ids) - sizeof(ids[0]));
	gpu_dispatch(guest.gpu);
	assert_false(is_done(flushed));
	release(held);
	assert_int_equal(wait_for(flushed), OK);
}

TEST_FLUSH(refuses_ids_that_say_nothing)
{
	static const uint64_t bad[] = { 3, 100000, UINT64_MAX, UINT64_MAX - 1 };
	uint32_t held = guest_hold(&guest, 1, 0, 1);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const uint64_t ids[] = { 1, bad[i], 1 };

		check_refused(1, &bad[i], sizeof(bad[i]));
		check_refused(3, ids, sizeof(ids));
	}
	/* Its own: that is behind it. */
	assert_int_equal(wait_for(fenced_flush_behind(1, 2, 2)), BAD_PARAMETER);
	release(held);
}

TEST_FLUSH(refuses_fences_that_are_not_shareable)
{
	const struct job job = {
		.ctx_id = 1, .fence_id = 2, .num_in_fences = 1, .in_fences = { 1 }
	};
	struct virtio_gpu_ctrl_hdr request = header(VIRTIO_GPU_CMD_GET_DISPLAY_INFO, 0);
	uint64_t id = 3;
	uint32_t held = guest_hold(&guest, 1, 0, 1), shared = submit(&guest, &job), other;

	request.flags = htole32(VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX);
	request.fence_id = htole64(id);
	request.ctx_id = htole32(1);
	other = guest_send(&guest, GPU_QUEUE_CONTROL, &request, sizeof(request), 408);
	check_refused(1, &id, sizeof(id));
	release(held);
	assert_int_equal(wait_for(shared), OK);
	/* It has signalled: that is for everybody to know. */
	wait_for(other);
	assert_int_equal(wait_for(flush_behind(1, id)), OK);
}

TEST_FLUSH(refuses_an_id_that_several_fences_have)
{
	uint64_t id = 1;
	uint32_t held[2] = { guest_hold(&guest, 1, 0, id), guest_hold(&guest, 2, 0, id) }, flushed;

	check_refused(1, &id, sizeof(id));
	release(held[0]);
	flushed = flush_behind(1, id);
	gpu_dispatch(guest.gpu);
	assert_false(is_done(flushed));
	release(held[1]);
	assert_int_equal(wait_for(flushed), OK);
}

TEST_FLUSH(a_bad_flush_is_answered_with_its_fence_in_its_turn)
{
	uint32_t held = guest_hold(&guest, 0, VGF_RING_GLOBAL, 1), flushed, behind;

	flushed = fenced_flush_behind(1, 2, 12345);
	/* Whoever waits for it goes on. */
	behind = flush_behind(2, 2);
	gpu_dispatch(guest.gpu);
	assert_false(is_done(flushed) || is_done(behind));
	release(held);
	assert_int_equal(wait_for(flushed), BAD_PARAMETER);
	assert_int_equal(guest_header(&guest.responses[0][flushed]).fence_id, 2);
	assert_int_equal(wait_for(behind), OK);
	assert_int_equal(guest.num_flushes, 1);
}

TEST_FLUSH(checks_the_resource_of_a_flush_with_in_fences)
{
	uint32_t held = guest_hold(&guest, 1, 0, 1);

	assert_int_equal(wait_for(flush_behind(9, 1)), BAD_RESOURCE);
	release(held);
}

/* Guests of before leave zeros there, or anything if the feature was not accepted. */
TEST_FLUSH(without_fence_passing_the_count_is_padding)
{
	const uint64_t id = 1;
	uint32_t held = guest_hold(&guest, 1, 0, 1);

	gpu_set_features(guest.gpu, guest_features(&guest) & ~(UINT64_C(1) << FENCE_PASSING_BIT));
	assert_int_equal(wait_for(send_raw(1, &id, sizeof(id))), OK);
	assert_int_equal(wait_for(send_raw(0xffffffff, &id, 0)), OK);
	assert_int_equal(guest.num_flushes, 2);
	release(held);
}

TEST_FLUSH(what_follows_the_in_fences_is_not_looked_at)
{
	const uint64_t ids[] = { 1, 100000, UINT64_MAX };
	uint32_t held = guest_hold(&guest, 1, 0, 1), flushed = send_raw(1, ids, sizeof(ids));

	assert_int_equal(wait_for(send_raw(0, ids + 1, 2 * sizeof(ids[0]))), OK);
	release(held);
	assert_int_equal(wait_for(flushed), OK);
}

/* ---- The end -------------------------------------------------------------------------------- */

TEST_FLUSH(a_held_flush_does_not_need_its_resource)
{
	uint32_t held = guest_hold(&guest, 1, 0, 1), flushed = flush_behind(1, 1);

	assert_int_equal(unref(&guest, 1), OK);
	release(held);
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(guest.num_flushes, 0);
}

TEST_FLUSH(a_held_flush_does_not_show_another_resource_with_the_same_id)
{
	uint32_t held = guest_hold(&guest, 1, 0, 1), flushed = flush_behind(1, 1);

	assert_int_equal(unref(&guest, 1), OK);
	create_shown_blob(1, 0);
	release(held);
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(guest.num_flushes, 0);
	assert_int_equal(wait_for(flush_now(1)), OK);
	assert_int_equal(guest.num_flushes, 1);
}

/* Three that wait for one fence, or for each other; one of them is not fenced. */
static void hold_flushes(uint32_t tokens[3])
{
	guest_hold(&guest, 1, 0, 1);
	tokens[0] = fenced_flush_behind(1, 2, 1);
	tokens[1] = flush_behind(1, 1);
	tokens[2] = fenced_flush_behind(2, 3, 2);
}

TEST_FLUSH(a_reset_answers_held_flushes)
{
	uint32_t tokens[3];

	hold_flushes(tokens);
	gpu_reset(guest.gpu);
	for (int i = 0; i < 3; i++) {
		assert_true(is_done(tokens[i]));
	}
	assert_int_equal(guest.num_flushes, 0);
	/* Its IDs mean nothing any more. */
	create_shown_blob(1, 0);
	assert_int_equal(wait_for(flush_behind(1, 1)), BAD_PARAMETER);
}

TEST_FLUSH(a_drain_waits_for_held_flushes)
{
	const struct job job = { .ctx_id = 2, .fence_id = 1, .busy_us = 5000 };
	uint32_t flushed;

	submit(&guest, &job);
	flushed = fenced_flush_behind(1, 2, 1);
	gpu_drain(guest.gpu, 20000, -1);
	assert_int_equal(wait_for(flushed), OK);
	assert_int_equal(guest.num_flushes, 1);
	assert_int_equal(guest.num_errors, 0);
}

TEST_FLUSH(a_drain_cancels_held_flushes)
{
	uint32_t tokens[3];

	hold_flushes(tokens);
	gpu_drain(guest.gpu, 10, -1);
	for (int i = 0; i < 3; i++) {
		assert_true(is_done(tokens[i]));
	}
}

TEST_FLUSH(is_destroyed_with_held_flushes)
{
	uint32_t tokens[3];

	hold_flushes(tokens);
	for (int i = 0; i < 3; i++) {
		assert_false(is_done(tokens[i]));
	}
}

/* ---- Behind drawing ------------------------------------------------------------------------- */

/* Context 2 draws to blob 1 behind fence 1. Returns the work's token. */
static uint32_t start_drawing(void)
{
	const struct job job = {
		.ctx_id = 2,
		.ring = 3,
		.fence_id = 2,
		.num_in_fences = 1,
		.in_fences = { 1 },
	};

	assert_int_equal(attach_context(&guest, 2, 1), OK);
	create_test_fence(&guest, 1);
	return submit(&guest, &job);
}

/* Context 5 comes after a request on ring 1 of its, which so has its place there and nothing else.
 * Its work is done, and not answered before that request is. Draws to blob 1. */
static uint32_t draw_behind_one_without_context(void)
{
	struct vgf_device *device = guest.gpu->renderer->ops->get_device(guest.gpu->renderer);
	const struct job job = { .ctx_id = 5, .ring = 1, .fence_id = 101 };
	uint32_t drawn;

	assert_int_equal(create_context(&guest, 5), OK);
	assert_int_equal(attach_context(&guest, 5, 1), OK);
	drawn = submit(&guest, &job);
	for (int i = 0; vgf_context_list_pending(device, 5, NULL, 0) > 0; i++) {
		assert_true(i < 10000);
		usleep(1000);
		gpu_dispatch(guest.gpu);
	}
	assert_false(is_done(drawn));
	return drawn;
}

/* The first is answered, and with it work that the second was behind, too. */
TEST_FLUSH(of_two_flushes_behind_the_same_work_one_may_take_along_other_work)
{
	const struct flush_request first = { .resource_id = 1,
		.width = SIDE,
		.height = SIDE,
		.fence_id = 100,
		.has_ring = true,
		.ctx_id = 5,
		.ring = 1 };
	uint32_t tokens[4];

	tokens[0] = start_drawing();
	tokens[1] = send_flush_behind(&guest, &first);
	tokens[2] = draw_behind_one_without_context();
	tokens[3] = flush_now(1);
	signal_test_fence(&guest, 1);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(wait_for(tokens[i]), OK);
	}
	assert_int_equal(guest.num_flushes, 2);
}

/* What is to be given back is behind work that only a reset answers: then the renderer has nothing
 * any more. */
TEST_FLUSH(a_reset_gives_nothing_back_to_the_renderer)
{
	struct virtio_gpu_resource_map_blob map = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB, 5),
		.resource_id = htole32(3),
	};
	struct virtio_gpu_resource_unref release = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_UNREF, 0),
		.resource_id = htole32(1),
	};
	uint32_t mapped, drawn, released;

	assert_int_equal(create_host_blob(&guest, 3, 4096), OK);
	guest.window.held = true;
	map.hdr.flags = htole32(VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX);
	map.hdr.fence_id = htole64(100);
	map.hdr.ring_idx = 1;
	mapped = guest_send(&guest, GPU_QUEUE_CONTROL, &map, sizeof(map), 64);
	drawn = draw_behind_one_without_context();
	released = guest_send(&guest, GPU_QUEUE_CONTROL, &release, sizeof(release), 24);
	assert_true(mapped < released);
	assert_false(is_done(released));
	guest_reset(&guest);
	assert_true(is_done(mapped) && is_done(drawn) && is_done(released));
	guest.window.held = false;
}

static void take_six_ms(uint32_t scanout, uint64_t frame)
{
	(void)scanout;
	(void)frame;
	usleep(6000); /* more than flushes have in a round */
}

/* A copy of a large picture takes long. The loop does not sleep meanwhile. */
TEST_FLUSH(flushes_that_go_on_together_do_not_keep_the_loop)
{
	uint32_t tokens[3], num_flushes = 0;

	start_drawing();
	for (uint32_t i = 0; i < 3; i++) {
		tokens[i] = flush_now(1);
	}
	guest.on_flush = take_six_ms;
	signal_test_fence(&guest, 1);
	while (guest.num_flushes < 3) {
		struct pollfd poll_fd = { .fd = gpu_get_fd(guest.gpu), .events = POLLIN };
		int timeout_ms = gpu_timeout(guest.gpu, -1);

		assert_true(guest.num_flushes <= num_flushes + 1);
		assert_true(guest.num_flushes == 0 || timeout_ms == 0);
		assert_true(poll(&poll_fd, 1, timeout_ms) >= 0);
		num_flushes = guest.num_flushes;
		gpu_dispatch(guest.gpu);
		assert_true(guest.num_flushes <= num_flushes + 1);
		num_flushes = guest.num_flushes;
	}
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(wait_for(tokens[i]), OK);
	}
	guest.on_flush = NULL;
}

/* ---- Many ----------------------------------------------------------------------------------- */

#define NUM_MANY 700u

/* As many as there can be in-fences, in each of many flushes; they go on with one signal. */
TEST_FLUSH(as_many_as_can_be_are_held)
{
	uint64_t ids[MAX_IDS - 1];
	uint32_t held[MAX_IDS - 1], tokens[NUM_MANY];
	struct gpu_stats stats;

	for (uint32_t i = 0; i < MAX_IDS - 1; i++) {
		ids[i] = i + 1;
		held[i] = guest_hold(&guest, 1, (int32_t)(i % 64), ids[i]);
	}
	for (uint32_t i = 0; i < NUM_MANY; i++) {
		tokens[i] = send_raw(MAX_IDS - 1, ids, sizeof(ids));
	}
	for (uint32_t i = 0; i < MAX_IDS - 1; i++) {
		assert_int_equal(guest.num_flushes, 0);
		release(held[i]);
	}
	for (uint32_t i = 0; i < NUM_MANY; i++) {
		assert_int_equal(wait_for(tokens[i]), OK);
	}
	assert_int_equal(guest.num_flushes, NUM_MANY);
	gpu_get_stats(guest.gpu, &stats);
	assert_int_equal(stats.flushes, NUM_MANY);
	assert_int_equal(stats.flush_in_fences, NUM_MANY * (MAX_IDS - 1));
	assert_int_equal(stats.flushes_held, NUM_MANY);
}

TEST_FLUSH(flushes_are_counted)
{
	uint32_t held = guest_hold(&guest, 1, 0, 1), flushed = flush_behind(1, 1);
	struct gpu_stats stats;

	release(held);
	wait_for(flushed);
	wait_for(flush_now(1));
	wait_for(flush_behind(1, 1));
	wait_for(flush_behind(1, 12345));
	gpu_get_stats(guest.gpu, &stats);
	assert_int_equal(stats.flushes, 3);
	assert_int_equal(stats.flush_in_fences, 2);
	assert_int_equal(stats.flushes_held, 1);
}
