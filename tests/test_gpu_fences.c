/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A request with a fence is answered with that fence, whatever it is and whatever becomes of it,
 * and behind what was before it on its timeline: every command with every kind of fence. Guests
 * that do not count their fences are served too.
 */

#include <endian.h>
#include <inttypes.h>

#include "gpu_guest.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define UNSPECIFIED VIRTIO_GPU_RESP_ERR_UNSPEC
#define BAD_PARAMETER VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER
#define BAD_CONTEXT VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID

#define FENCE VIRTIO_GPU_FLAG_FENCE
#define RING VIRTIO_GPU_FLAG_INFO_RING_IDX
#define SHAREABLE (1u << 2)

#define NO_CONTEXT 9
#define ROOM 2048

static struct guest guest;

#define TEST_GUEST(name) TEST_BETWEEN(name, guest_start(&guest, NULL), guest_stop(&guest))

/* ---- Commands ------------------------------------------------------------------------------- */

/* What each command finds: context 1; a picture with memory (1), a blob (2), a picture without (3),
 * blobs of the host's memory, of which one is mapped (4, 5).
 */
static void make_world(void)
{
	guest_reset(&guest);
	assert_int_equal(create_context(&guest, 1), OK);
	assert_int_equal(create_2d(&guest, 1, 16, 16), OK);
	assert_int_equal(attach_backing(&guest, 1, 0, 4096), OK);
	assert_int_equal(create_blob(&guest, 2, 4096, 4096), OK);
	assert_int_equal(create_2d(&guest, 3, 16, 16), OK);
	assert_int_equal(create_host_blob(&guest, 4, 4096), OK);
	assert_int_equal(create_host_blob(&guest, 5, 4096), OK);
	assert_int_equal(map_blob(&guest, 5, 4096), VIRTIO_GPU_RESP_OK_MAP_INFO);
}

struct command {
	uint32_t type;
	uint32_t num_words;
	uint32_t words[18]; /* behind the header */
	uint32_t answer;    /* of context 1 */
	uint32_t elsewhere; /* of a context that is not there */
};

#define CMD(name) VIRTIO_GPU_CMD_##name

static const struct command commands[] = {
	{ CMD(GET_DISPLAY_INFO), 0, { 0 }, VIRTIO_GPU_RESP_OK_DISPLAY_INFO,
		VIRTIO_GPU_RESP_OK_DISPLAY_INFO },
	{ CMD(RESOURCE_CREATE_2D), 4, { 10, 2, 16, 16 }, OK, OK },
	{ CMD(RESOURCE_UNREF), 2, { 3 }, OK, OK },
	{ CMD(SET_SCANOUT), 6, { 0, 0, 16, 16, 0, 1 }, OK, OK },
	{ CMD(RESOURCE_FLUSH), 6, { 0, 0, 16, 16, 1 }, OK, OK },
	{ CMD(TRANSFER_TO_HOST_2D), 8, { 0, 0, 16, 16, 0, 0, 1 }, OK, OK },
	{ CMD(RESOURCE_ATTACH_BACKING), 6, { 3, 1, GUEST_ADDR, 0, 4096 }, OK, OK },
	{ CMD(RESOURCE_DETACH_BACKING), 2, { 1 }, OK, OK },
	{ CMD(GET_CAPSET_INFO), 2, { 0 }, VIRTIO_GPU_RESP_OK_CAPSET_INFO,
		VIRTIO_GPU_RESP_OK_CAPSET_INFO },
	{ CMD(GET_CAPSET), 2, { 6 }, VIRTIO_GPU_RESP_OK_CAPSET, VIRTIO_GPU_RESP_OK_CAPSET },
	{ CMD(GET_EDID), 2, { 0 }, VIRTIO_GPU_RESP_OK_EDID, VIRTIO_GPU_RESP_OK_EDID },
	{ CMD(RESOURCE_ASSIGN_UUID), 2, { 1 }, VIRTIO_GPU_RESP_OK_RESOURCE_UUID,
		VIRTIO_GPU_RESP_OK_RESOURCE_UUID },
	{ CMD(RESOURCE_CREATE_BLOB), 12, { 10, 1, 0, 1, 0, 0, 4096, 0, GUEST_ADDR, 0, 4096 }, OK,
		BAD_PARAMETER },
	{ CMD(SET_SCANOUT_BLOB), 18, { 0, 0, 16, 16, 0, 2, 16, 16, 2, 0, 64 }, OK, OK },
	{ CMD(CTX_CREATE), 18, { 4, 6 }, BAD_CONTEXT, OK },
	{ CMD(CTX_DESTROY), 0, { 0 }, OK, BAD_CONTEXT },
	{ CMD(CTX_ATTACH_RESOURCE), 2, { 1 }, OK, BAD_CONTEXT },
	{ CMD(CTX_DETACH_RESOURCE), 2, { 1 }, OK, BAD_CONTEXT },
	/* The software GPU has none. */
	{ CMD(RESOURCE_CREATE_3D), 12, { 10, 2, 1, 2, 16, 16, 1, 1 }, UNSPECIFIED, UNSPECIFIED },
	{ CMD(TRANSFER_TO_HOST_3D), 12, { 0, 0, 0, 16, 16, 1, 0, 0, 1, 0, 64 }, OK, BAD_CONTEXT },
	{ CMD(TRANSFER_FROM_HOST_3D), 12, { 0, 0, 0, 16, 16, 1, 0, 0, 1, 0, 64 }, OK, BAD_CONTEXT },
	{ CMD(SUBMIT_3D), 4, { 8, 0, 1, 1 }, OK, BAD_CONTEXT },
	{ CMD(RESOURCE_MAP_BLOB), 4, { 4 }, VIRTIO_GPU_RESP_OK_MAP_INFO,
		VIRTIO_GPU_RESP_OK_MAP_INFO },
	{ CMD(RESOURCE_UNMAP_BLOB), 2, { 5 }, OK, OK },
	{ CMD(UPDATE_CURSOR), 8, { 0 }, OK, OK },
	{ CMD(MOVE_CURSOR), 8, { 0 }, OK, OK },
	{ 0x4242, 4, { 0 }, UNSPECIFIED, UNSPECIFIED },
};

#define NUM_COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* A command and how it is sent. */
struct sending {
	const struct command *command;
	uint32_t flags;
	uint32_t ctx_id;
	uint8_t ring;
	uint64_t fence_id;
	bool cut; /* behind the header */
};

/* A whole one. */
static struct sending sent_as(
	const struct command *command, uint32_t flags, uint32_t ctx_id, uint8_t ring, uint64_t id)
{
	return (struct sending){
		.command = command,
		.flags = flags,
		.ctx_id = ctx_id,
		.ring = ring,
		.fence_id = id,
	};
}

static const struct command *find_command(uint32_t type)
{
	size_t i = 0;

	while (commands[i].type != type) {
		i++;
	}
	return &commands[i];
}

static enum gpu_queue queue_of(const struct command *command)
{
	return command->type == CMD(UPDATE_CURSOR) || command->type == CMD(MOVE_CURSOR) ?
		GPU_QUEUE_CURSOR :
		GPU_QUEUE_CONTROL;
}

static uint32_t send_command(const struct sending *sending)
{
	const struct command *command = sending->command;
	struct {
		struct virtio_gpu_ctrl_hdr hdr;
		uint32_t words[18];
	} request = { .hdr = header(command->type, sending->ctx_id) };
	size_t num_words = sending->cut ? 0 : command->num_words;

	request.hdr.flags = htole32(sending->flags);
	request.hdr.fence_id = htole64(sending->fence_id);
	request.hdr.ring_idx = sending->ring;
	for (size_t i = 0; i < num_words; i++) {
		request.words[i] = htole32(command->words[i]);
	}
	return guest_send(&guest, queue_of(command), &request,
		sizeof(request.hdr) + num_words * sizeof(uint32_t), ROOM);
}

static bool is_done(const struct sending *sending, uint32_t token)
{
	return guest.responses[queue_of(sending->command)][token].done;
}

/* Returns the order of the response, which has the fence of the request, or none. */
static uint32_t check_response(const struct sending *sending, uint32_t token, uint32_t type)
{
	const struct guest_response *response = guest_wait(
		&guest, queue_of(sending->command), token);
	struct virtio_gpu_ctrl_hdr hdr = guest_header(response);
	bool fenced = sending->flags & FENCE;

	if (hdr.type != type) {
		fail_msg("command 0x%x, flags %u, context %u, ring %u, fence %" PRIu64
			 ": 0x%x, not 0x%x",
			sending->command->type, sending->flags, sending->ctx_id, sending->ring,
			sending->fence_id, hdr.type, type);
	}
	assert_int_equal(hdr.flags, fenced ? sending->flags & (FENCE | RING) : 0);
	assert_int_equal(hdr.fence_id, fenced ? sending->fence_id : 0);
	assert_int_equal(hdr.ctx_id, fenced ? sending->ctx_id : 0);
	assert_int_equal(hdr.ring_idx, fenced && (sending->flags & RING) ? sending->ring : 0);
	return response->order;
}

/* ---- Every command -------------------------------------------------------------------------- */

static bool needs_body(const struct command *command)
{
	return command->num_words > 0 && command->type != 0x4242;
}

static uint32_t answer_to(const struct sending *sending)
{
	const struct command *command = sending->command;

	if (sending->flags & RING && sending->ring >= 64) {
		return BAD_PARAMETER;
	}
	if (sending->cut && needs_body(command) &&
		(sending->ctx_id == 1 || command->type != CMD(SUBMIT_3D))) {
		return BAD_PARAMETER;
	}
	return sending->ctx_id == 1 ? command->answer : command->elsewhere;
}

/* A request on the timeline of a fence that is held is answered behind that, and before the next
 * one, whatever their IDs are: `first` and `next`. */
static void check_in_turn(const struct sending *sending, uint64_t first, uint64_t next)
{
	struct sending after = sent_as(
		&commands[0], sending->flags & ~SHAREABLE, sending->ctx_id, sending->ring, next);
	uint32_t held, token, next_token, order;
	bool has_ring = sending->flags & RING;

	make_world();
	held = guest_hold(
		&guest, sending->ctx_id, has_ring ? sending->ring : VGF_RING_GLOBAL, first);
	token = send_command(sending);
	next_token = send_command(&after);
	gpu_dispatch(guest.gpu);
	assert_false(is_done(sending, token));
	assert_false(is_done(&after, next_token));
	guest_signal(&guest, held);
	order = check_response(sending, token, answer_to(sending));
	assert_true(guest_wait(&guest, GPU_QUEUE_CONTROL, held)->order < order);
	assert_true(order < check_response(&after, next_token, VIRTIO_GPU_RESP_OK_DISPLAY_INFO));
}

/* A request that nothing is before is answered, although fences of all others are held. */
static void check_at_once(const struct sending *sending)
{
	uint32_t held[2], token;

	make_world();
	held[0] = guest_hold(&guest, 1, 0, 1);
	held[1] = guest_hold(&guest, 0, VGF_RING_GLOBAL, 1);
	token = send_command(sending);
	check_response(sending, token, answer_to(sending));
	for (int i = 0; i < 2; i++) {
		assert_false(guest.responses[GPU_QUEUE_CONTROL][held[i]].done);
		guest_signal(&guest, held[i]);
		guest_wait(&guest, GPU_QUEUE_CONTROL, held[i]);
	}
}

/* IDs of fences one after the other on a timeline. */
static const uint64_t ids[][3] = {
	{ 1, 2, 3 },
	{ 1, 1, 1 },
	{ 3, 2, 1 },
	{ 1, 0, 2 },
	{ 0, 0, 0 },
	{ 1, UINT64_MAX, 2 },
	{ UINT64_MAX - 1, UINT64_MAX, UINT64_MAX },
};

#define NUM_IDS (sizeof(ids) / sizeof(ids[0]))

/* All commands with these flags, whole and cut. */
static void check_all_in_turn(uint32_t flags, uint32_t ctx_id)
{
	for (size_t i = 0; i < NUM_COMMANDS * NUM_IDS * 2; i++) {
		const uint64_t *id = ids[i / 2 % NUM_IDS];
		const struct sending sending = {
			.command = &commands[i / 2 / NUM_IDS],
			.flags = flags,
			.ctx_id = ctx_id,
			.fence_id = id[1],
			.cut = i % 2,
		};

		check_in_turn(&sending, id[0], id[2]);
	}
}

TEST_GUEST(every_command_is_answered_in_its_turn_on_a_ring)
{
	check_all_in_turn(FENCE | RING, 1);
}

TEST_GUEST(every_command_is_answered_in_its_turn_on_a_ring_with_a_shareable_fence)
{
	check_all_in_turn(FENCE | RING | SHAREABLE, 1);
}

TEST_GUEST(every_command_is_answered_in_its_turn_on_the_global_timeline)
{
	check_all_in_turn(FENCE, 1);
}

TEST_GUEST(every_command_of_no_context_is_answered_in_its_turn_on_the_global_timeline)
{
	check_all_in_turn(FENCE, NO_CONTEXT);
}

/* All commands, whole and cut, with these flags. */
static void check_all_at_once(uint32_t flags, uint32_t ctx_id, uint8_t ring)
{
	for (size_t i = 0; i < NUM_COMMANDS * NUM_IDS * 2; i++) {
		const struct sending sending = {
			.command = &commands[i / 2 / NUM_IDS],
			.flags = flags,
			.ctx_id = ctx_id,
			.ring = ring,
			.fence_id = ids[i / 2 % NUM_IDS][1],
			.cut = i % 2,
		};

		check_at_once(&sending);
	}
}

TEST_GUEST(every_command_without_a_fence_is_answered_at_once)
{
	check_all_at_once(0, 1, 0);
	check_all_at_once(RING, 1, 0);
	check_all_at_once(RING, 1, 64);
	check_all_at_once(0, NO_CONTEXT, 0);
}

TEST_GUEST(a_fence_on_a_ring_of_no_context_is_answered_at_once)
{
	check_all_at_once(FENCE | RING, NO_CONTEXT, 1);
	check_all_at_once(FENCE | RING | SHAREABLE, NO_CONTEXT, 63);
}

TEST_GUEST(a_fence_on_a_ring_out_of_range_is_answered_at_once)
{
	check_all_at_once(FENCE | RING, 1, 64);
	check_all_at_once(FENCE | RING | SHAREABLE, 1, 255);
	check_all_at_once(FENCE | RING, NO_CONTEXT, 255);
}

/* There is nothing left to have a fence on, but its past. */
TEST_GUEST(what_follows_on_the_rings_of_a_destroyed_context_stays_behind_its_past)
{
	const struct sending submit_again = sent_as(
		find_command(CMD(SUBMIT_3D)), FENCE | RING, 1, 0, 3);
	const struct sending destroy = sent_as(
		find_command(CMD(CTX_DESTROY)), FENCE | RING, 1, 0, 2);
	uint32_t held, tokens[2], order;

	make_world();
	held = guest_hold(&guest, 1, 0, 1);
	tokens[0] = send_command(&destroy);
	tokens[1] = send_command(&submit_again);
	assert_false(is_done(&destroy, tokens[0]));
	assert_false(is_done(&submit_again, tokens[1]));
	guest_signal(&guest, held);
	order = check_response(&destroy, tokens[0], OK);
	assert_true(order < check_response(&submit_again, tokens[1], BAD_CONTEXT));
}

TEST_GUEST(what_waits_for_its_turn_is_completed_by_a_drain_and_by_a_reset)
{
	const struct sending no_context = sent_as(
		find_command(CMD(SUBMIT_3D)), FENCE | RING, 1, 0, 0);
	uint32_t tokens[3];

	for (int round = 0; round < 2; round++) {
		make_world();
		tokens[0] = guest_hold(&guest, 1, 0, 0);
		assert_int_equal(destroy_context(&guest, 1), OK);
		tokens[1] = send_command(&no_context);
		tokens[2] = send_command(&no_context);
		if (round == 0) {
			gpu_drain(guest.gpu, 0, -1);
		} else {
			guest_reset(&guest);
		}
		for (int i = 0; i < 3; i++) {
			assert_true(guest.responses[GPU_QUEUE_CONTROL][tokens[i]].done);
		}
	}
}

/* ---- IDs as in-fences ----------------------------------------------------------------------- */

/* A job of context 2 that waits for a fence. Returns its token. */
static uint32_t send_behind(uint64_t in_fence)
{
	static uint64_t fence_id = 1000;
	const struct job job = {
		.ctx_id = 2, .fence_id = ++fence_id, .num_in_fences = 1, .in_fences = { in_fence }
	};
	uint32_t token = submit(&guest, &job);

	gpu_dispatch(guest.gpu);
	return token;
}

static void check_runs_behind(uint64_t in_fence, uint32_t held)
{
	uint32_t token = send_behind(in_fence);

	assert_false(guest.responses[GPU_QUEUE_CONTROL][token].done);
	guest_signal(&guest, held);
	assert_int_equal(guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, token)).type, OK);
}

static void check_runs(uint64_t in_fence)
{
	uint32_t token = send_behind(in_fence);

	assert_int_equal(guest_header(guest_wait(&guest, GPU_QUEUE_CONTROL, token)).type, OK);
}

static void check_no_in_fence(uint64_t in_fence)
{
	uint32_t token = send_behind(in_fence);

	assert_int_equal(
		guest_header(&guest.responses[GPU_QUEUE_CONTROL][token]).type, BAD_PARAMETER);
}

static void make_two_contexts(void)
{
	make_world();
	assert_int_equal(create_context(&guest, 2), OK);
}

TEST_GUEST(an_id_that_several_fences_have_is_no_in_fence)
{
	uint32_t held[2];

	make_two_contexts();
	held[0] = guest_hold(&guest, 1, 0, 5);
	held[1] = guest_hold(&guest, 1, 0, 5);
	check_no_in_fence(5);
	guest_signal(&guest, held[0]);
	guest_wait(&guest, GPU_QUEUE_CONTROL, held[0]);
	/* One is left, so it is clear which is meant. */
	check_runs_behind(5, held[1]);
	check_runs(5);
}

TEST_GUEST(an_id_that_falls_is_waited_for)
{
	uint32_t held;

	make_two_contexts();
	guest_signal(&guest, guest_hold(&guest, 1, 0, 7));
	held = guest_hold(&guest, 1, 0, 3);
	check_runs_behind(3, held);
}

TEST_GUEST(an_id_that_was_not_used_is_no_in_fence)
{
	make_two_contexts();
	check_no_in_fence(0);
	check_no_in_fence(100000);
	check_no_in_fence(UINT64_MAX);
}

/* It was answered, so it has signalled for the guest. */
TEST_GUEST(the_fence_of_a_request_that_has_no_timeline_has_signalled)
{
	const struct sending sending = sent_as(
		find_command(CMD(SUBMIT_3D)), FENCE | RING | SHAREABLE, NO_CONTEXT, 1, 500);

	make_two_contexts();
	check_response(&sending, send_command(&sending), BAD_CONTEXT);
	check_runs(500);
}

TEST_GUEST(each_fence_is_counted_as_an_in_fence_once)
{
	const struct job job = {
		.ctx_id = 2, .fence_id = 2000, .num_in_fences = 3, .in_fences = { 1, 1, 2 }
	};
	struct gpu_stats stats;
	uint32_t held;

	make_two_contexts();
	held = guest_hold(&guest, 1, 0, 1);
	guest_signal(&guest, held);
	guest_wait(&guest, GPU_QUEUE_CONTROL, held);
	held = guest_hold(&guest, 1, 0, 2);
	submit(&guest, &job);
	gpu_get_stats(guest.gpu, &stats);
	assert_int_equal(stats.fences.in_fences, 3);
	assert_int_equal(stats.fences.in_fences_done, 2);
	guest_signal(&guest, held);
}

/* ---- Errors that are shared ----------------------------------------------------------------- */

/* A request of context 1 with fence 2, behind fence 1. A job of context 2 that names it runs if the
 * fence is shareable. */
static void check_dependant(
	const struct command *command, bool cut, uint32_t flags, uint32_t answer)
{
	const struct sending sending = { command, flags, 1, 0, 2, cut };
	uint32_t held, token;

	make_two_contexts();
	held = guest_hold(&guest, 1, flags & RING ? 0 : VGF_RING_GLOBAL, 1);
	token = send_command(&sending);
	if (flags & SHAREABLE) {
		check_runs_behind(2, held);
	} else {
		check_no_in_fence(2);
		guest_signal(&guest, held);
	}
	check_response(&sending, token, answer);
}

TEST_GUEST(work_that_waits_for_a_bad_submission_runs)
{
	static const struct command bad[] = {
		{ CMD(SUBMIT_3D), 4, { 8, 0, 1, 1 }, BAD_PARAMETER, BAD_CONTEXT }, /* cut */
		{ CMD(SUBMIT_3D), 4, { 0xfffffffc, 0, 1, 1 }, BAD_PARAMETER,
			BAD_CONTEXT }, /* past the end */
		{ CMD(SUBMIT_3D), 4, { 7, 0, 1, 1 }, BAD_PARAMETER,
			BAD_CONTEXT }, /* no whole words */
		{ CMD(SUBMIT_3D), 4, { 8, 0xffffffff, 1, 1 }, BAD_PARAMETER,
			BAD_CONTEXT }, /* too many in-fences */
		{ CMD(SUBMIT_3D), 4, { 8, 0, 99, 1 }, BAD_PARAMETER,
			BAD_CONTEXT }, /* unknown to the GPU */
		{ CMD(SUBMIT_3D), 4, { 0, 1, 12345, 0 }, BAD_PARAMETER,
			BAD_CONTEXT }, /* an unknown in-fence */
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		check_dependant(&bad[i], i == 0, FENCE | RING | SHAREABLE, BAD_PARAMETER);
		check_dependant(&bad[i], i == 0, FENCE | RING, BAD_PARAMETER);
	}
}

/* A job that is done is not waited for, as the GPU knows before its turn comes. The end of a
 * context is that of its rings, so that there is nothing that could be waited for. */
static bool can_be_behind(const struct command *command, uint32_t flags)
{
	return command->type != CMD(SUBMIT_3D) &&
		!(command->type == CMD(CTX_DESTROY) && (flags & RING));
}

static void check_dependants_of_all(uint32_t flags)
{
	for (size_t i = 0; i < NUM_COMMANDS; i++) {
		const struct command *command = &commands[i];

		if (can_be_behind(command, flags)) {
			check_dependant(command, false, flags, command->answer);
		}
		if (needs_body(command)) {
			check_dependant(command, true, flags, BAD_PARAMETER);
		}
	}
}

TEST_GUEST(the_fence_of_every_command_can_be_shareable)
{
	check_dependants_of_all(FENCE | RING | SHAREABLE);
	check_dependants_of_all(FENCE | SHAREABLE);
}

TEST_GUEST(the_fence_of_no_command_is_shareable_by_itself)
{
	check_dependants_of_all(FENCE | RING);
	check_dependants_of_all(FENCE);
}

TEST_GUEST(without_fence_passing_no_fence_is_shareable)
{
	const struct command bad = { CMD(SUBMIT_3D), 4, { 7, 0, 1, 1 }, BAD_PARAMETER,
		BAD_CONTEXT };
	const struct sending sending = sent_as(&bad, FENCE | RING | SHAREABLE, 1, 0, 2);
	uint64_t features = guest_features(&guest);
	uint32_t held;

	make_two_contexts();
	held = guest_hold(&guest, 1, 0, 1);
	gpu_set_features(guest.gpu, features & ~(UINT64_C(1) << FENCE_PASSING_BIT));
	send_command(&sending);
	gpu_set_features(guest.gpu, features);
	check_no_in_fence(2);
	guest_signal(&guest, held);
}

/* ---- Guests that do not count --------------------------------------------------------------- */

#define SIDE 64u
#define PICTURE (SIDE * SIDE * 4)

/* As the drivers of these systems start: what they send first, each with the same fence. */
static void start_like(uint32_t flags, uint64_t fence_id)
{
	static const struct command start[] = {
		{ CMD(GET_DISPLAY_INFO), 0, { 0 }, VIRTIO_GPU_RESP_OK_DISPLAY_INFO,
			VIRTIO_GPU_RESP_OK_DISPLAY_INFO },
		{ CMD(GET_EDID), 2, { 0 }, VIRTIO_GPU_RESP_OK_EDID, VIRTIO_GPU_RESP_OK_EDID },
		{ CMD(RESOURCE_CREATE_2D), 4, { 1, 2, SIDE, SIDE }, OK, OK },
		{ CMD(RESOURCE_ATTACH_BACKING), 6, { 1, 1, GUEST_ADDR, 0, PICTURE }, OK, OK },
		{ CMD(SET_SCANOUT), 6, { 0, 0, SIDE, SIDE, 0, 1 }, OK, OK },
		{ CMD(TRANSFER_TO_HOST_2D), 8, { 0, 0, SIDE, SIDE, 0, 0, 1 }, OK, OK },
		{ CMD(RESOURCE_FLUSH), 6, { 0, 0, SIDE, SIDE, 1 }, OK, OK },
		{ CMD(UPDATE_CURSOR), 8, { 0 }, OK, OK },
		{ CMD(TRANSFER_TO_HOST_2D), 8, { 0, 0, SIDE, SIDE, 0, 0, 1 }, OK, OK },
		{ CMD(RESOURCE_FLUSH), 6, { 0, 0, SIDE, SIDE, 1 }, OK, OK },
	};
	const struct virtio_gpu_rect all = { 0, 0, SIDE, SIDE };
	uint32_t pixels[SIDE * SIDE];

	for (uint32_t i = 0; i < SIDE * SIDE; i++) {
		((uint32_t *)guest.memory)[i] = htole32(i);
	}
	for (size_t i = 0; i < sizeof(start) / sizeof(start[0]); i++) {
		const struct sending sending = sent_as(&start[i], flags, 0, 0, fence_id);

		check_response(&sending, send_command(&sending), start[i].answer);
	}
	assert_int_equal(gpu_read_scanout(guest.gpu, 0, &all, pixels), 0);
	for (uint32_t i = 0; i < SIDE * SIDE; i++) {
		assert_int_equal(pixels[i] & 0xffffff, i);
	}
}

/* FLAG_FENCE on each command, and fence_id 0. */
TEST_GUEST(redox_and_serenity_start)
{
	start_like(FENCE, 0);
}

/* Ring 0 of context 0. */
TEST_GUEST(freebsd_starts)
{
	start_like(FENCE | RING, 0);
}

/* Jobs too: each runs, and is answered once it is done. */
TEST_GUEST(jobs_with_the_same_fence_run_one_after_the_other)
{
	static const struct command jobs[] = {
		{ CMD(SUBMIT_3D), 10, { 32, 0, 1, 500, 2, 2, 3, 0, 4, 111 }, OK, BAD_CONTEXT },
		{ CMD(SUBMIT_3D), 10, { 32, 0, 1, 100, 2, 2, 3, 4, 4, 222 }, OK, BAD_CONTEXT },
		{ CMD(SUBMIT_3D), 10, { 32, 0, 1, 1, 2, 2, 3, 8, 4, 333 }, OK, BAD_CONTEXT },
	};
	uint32_t tokens[3], order = 0;

	make_world();
	assert_int_equal(attach_context(&guest, 1, 2), OK);
	for (uint32_t i = 0; i < 3; i++) {
		const struct sending sending = sent_as(&jobs[i], FENCE | RING, 1, 0, 0);

		tokens[i] = send_command(&sending);
	}
	for (uint32_t i = 0; i < 3; i++) {
		const struct sending sending = sent_as(&jobs[i], FENCE | RING, 1, 0, 0);
		uint32_t before = order;

		order = check_response(&sending, tokens[i], OK);
		assert_true(before < order);
		assert_int_equal(read_memory(&guest, 4096 + 4 * i), 111 * (i + 1));
	}
}
