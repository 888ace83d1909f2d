/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The back end of vhost-user, with front ends that come, leave, die and break the rules of its
 * messages. */

#include "vhost_session.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "alloc.h"
#include "clock.h"

/* ---- Connections -------------------------------------------------------------------------- */

TEST_STARTED(the_next_front_end_is_served)
{
	assert_next_front_end_is_served();
	assert_int_equal(device.resets, 1);
}

TEST_STARTED(a_second_front_end_waits_for_the_first_to_leave)
{
	static struct front_end second;
	char byte;

	front_end_init(&second, path, echo_device_run, &device);
	front_end_send(&second, VHOST_USER_GET_QUEUE_NUM, 0, NULL, 0, NULL, 0);
	assert_echo(0);
	assert_int_equal(recv(second.socket_fd, &byte, 1, MSG_DONTWAIT), -1);
	front_end_disconnect(&front_end);
	/* It sent its request while it waited. */
	assert_int_equal(front_end_get_number(&second, VHOST_USER_GET_QUEUE_NUM), ECHO_QUEUES);
	front_end_finish(&second);
}

TEST_STARTED(a_front_end_dies_with_requests_in_flight)
{
	device.hold = true;
	for (uint16_t i = 0; i < 16; i += 2) {
		front_end_request(&front_end, 0, i, "x", 1, 1);
		front_end_request(&front_end, 1, i, "x", 1, 1);
	}
	front_end_kick(queue);
	front_end_kick(&front_end.queues[1]);
	run();
	assert_int_equal(device.num_held, 16);
	front_end_disconnect(&front_end);
	assert_int_equal(device.num_held, 0);
	assert_int_equal(device.resets, 1);
	assert_null(device.memory);
	assert_next_front_end_is_served();
}

TEST_STARTED(a_kick_after_the_front_end_has_died_does_nothing)
{
	front_end_disconnect(&front_end);
	front_end_request(&front_end, 0, 0, "x", 1, 1);
	front_end_kick(queue);
	run();
	assert_int_equal(device.handled, 0);
}

TEST(a_device_is_destroyed_under_a_front_end)
{
	begin_started();
	device.hold = true;
	front_end_request(&front_end, 0, 0, "x", 1, 1);
	front_end_kick(queue);
	run();
	echo_device_finish(&device);
	assert_int_equal(device.num_held, 0);
	front_end.run = NULL;
	assert_true(front_end_is_disconnected(&front_end));
	front_end_finish(&front_end);
}

/* What a front end sends to set itself up, as bytes. */
struct script {
	struct {
		struct vhost_user_header header;
		union vhost_user_payload payload;
		int fds[FRONT_END_REGIONS];
		size_t num_fds;
	} messages[16];
	size_t count;
};

static void add(struct script *script, uint32_t request, const void *payload, uint32_t size,
	const int *fds, size_t num_fds)
{
	size_t at = script->count++;

	script->messages[at].header = (struct vhost_user_header){ request,
		VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY, size };
	if (size > 0) {
		memcpy(&script->messages[at].payload, payload, size);
	}
	for (size_t i = 0; i < num_fds; i++) {
		script->messages[at].fds[i] = fds[i];
	}
	script->messages[at].num_fds = num_fds;
}

static void make_script(struct script *script)
{
	const uint64_t protocol = front_end_get_number(
		&front_end, VHOST_USER_GET_PROTOCOL_FEATURES);
	const uint64_t features = front_end_get_number(&front_end, VHOST_USER_GET_FEATURES);
	const struct vhost_user_vring_addr addr = {
		.desc = queue->desc_addr + FRONT_END_USER_OFFSET,
		.used = queue->used_addr + FRONT_END_USER_OFFSET,
		.avail = queue->avail_addr + FRONT_END_USER_OFFSET,
	};
	const struct vhost_user_vring_state num = { 0, 16 }, base = { 0, 0 }, enable = { 0, 1 };
	struct vhost_user_mem_table table = { .num_regions = FRONT_END_REGIONS };
	const uint64_t index = 0;
	int fds[FRONT_END_REGIONS];

	for (size_t i = 0; i < FRONT_END_REGIONS; i++) {
		table.regions[i] = front_end.regions[i].where;
		fds[i] = front_end.regions[i].fd;
	}
	add(script, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0);
	add(script, VHOST_USER_SET_PROTOCOL_FEATURES, &protocol, 8, NULL, 0);
	add(script, VHOST_USER_SET_FEATURES, &features, 8, NULL, 0);
	add(script, VHOST_USER_SET_MEM_TABLE, &table, 8 + 3 * 32, fds, 3);
	add(script, VHOST_USER_SET_VRING_NUM, &num, 8, NULL, 0);
	add(script, VHOST_USER_SET_VRING_BASE, &base, 8, NULL, 0);
	add(script, VHOST_USER_SET_VRING_ADDR, &addr, 40, NULL, 0);
	add(script, VHOST_USER_SET_VRING_CALL, &index, 8, &queue->call_fd, 1);
	add(script, VHOST_USER_SET_VRING_ERR, &index, 8, &queue->err_fd, 1);
	add(script, VHOST_USER_SET_VRING_KICK, &index, 8, &queue->kick_fd, 1);
	add(script, VHOST_USER_SET_VRING_ENABLE, &enable, 8, NULL, 0);
	add(script, VHOST_USER_GET_VRING_BASE, &base, 8, NULL, 0);
}

/* Sends it up to the `left`-th byte. Returns whether that was all of it. */
static bool play(const struct script *script, size_t left)
{
	for (size_t i = 0; i < script->count; i++) {
		const struct vhost_user_header *header = &script->messages[i].header;
		uint8_t bytes[sizeof(*header) + sizeof(union vhost_user_payload)];
		size_t size = sizeof(*header) + header->size;

		if (left == 0) {
			return false;
		}
		memcpy(bytes, header, sizeof(*header));
		memcpy(bytes + sizeof(*header), &script->messages[i].payload, header->size);
		size = left < size ? left : size;
		assert_int_equal(front_end_send_bytes(&front_end, bytes, size,
					 script->messages[i].fds, script->messages[i].num_fds),
			(int)size);
		left -= size;
		assert_int_equal(vhost_user_dispatch(device.server, 0), 0);
	}
	return true;
}

TEST_CONNECTED(a_front_end_dies_at_any_point)
{
	struct script script = { 0 };
	int fds;

	front_end_make_queue(&front_end, 0, 16);
	make_script(&script);
	front_end_disconnect(&front_end);
	fds = count_fds();
	for (size_t left = 0;; left++) {
		bool all;

		front_end_connect(&front_end, path);
		all = play(&script, left);
		front_end_disconnect(&front_end);
		assert_int_equal(count_fds(), fds);
		assert_null(device.memory);
		if (all) {
			break;
		}
	}
	assert_int_equal(device.warnings, 0);
	assert_next_front_end_is_served();
}

/* ---- Messages in pieces ------------------------------------------------------------------- */

TEST_STARTED(a_message_may_come_byte_by_byte)
{
	const struct {
		struct vhost_user_header header;
		struct vhost_user_vring_state state;
	} message = { { VHOST_USER_GET_VRING_BASE, VHOST_USER_VERSION, 8 }, { 1, 0 } };
	struct vhost_user_vring_state answer;
	uint32_t request;

	for (size_t i = 0; i < sizeof(message); i++) {
		assert_int_equal(
			front_end_send_bytes(&front_end, (const char *)&message + i, 1, NULL, 0),
			1);
		assert_echo(0); /* others do not wait for the rest */
	}
	assert_int_equal(front_end_receive(&front_end, &request, &answer, sizeof(answer)), 8);
	assert_int_equal(answer.index, 1);
}

TEST_CONNECTED(several_messages_may_come_at_once)
{
	const struct vhost_user_header two[] = {
		{ VHOST_USER_GET_QUEUE_NUM, VHOST_USER_VERSION, 0 },
		{ VHOST_USER_GET_MAX_MEM_SLOTS, VHOST_USER_VERSION, 0 },
	};
	uint64_t answer;
	uint32_t request;

	assert_int_equal(front_end_send_bytes(&front_end, two, sizeof(two), NULL, 0), 24);
	assert_int_equal(front_end_receive(&front_end, &request, &answer, 8), 8);
	assert_int_equal(request, VHOST_USER_GET_QUEUE_NUM);
	assert_int_equal(front_end_receive(&front_end, &request, &answer, 8), 8);
	assert_int_equal(request, VHOST_USER_GET_MAX_MEM_SLOTS);
}

TEST_STARTED(a_front_end_that_reads_no_replies_is_disconnected)
{
	const struct vhost_user_header message = { VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 0 };
	int sent = 0;

	for (int i = 0; i < 100000 && sent >= 0; i++) {
		sent = front_end_send_bytes(&front_end, &message, sizeof(message), NULL, 0);
		if (i % 16 == 0) {
			run();
		}
	}
	assert_int_equal(sent, -EPIPE);
	assert_next_front_end_is_served();
}

/* ---- Messages that are wrong -------------------------------------------------------------- */

/* With an acknowledgement it is an error, and the connection stays; without one it ends. */
static void assert_message_refused(
	uint32_t request, const void *payload, uint32_t size, const int *fds, size_t num_fds)
{
	unsigned int warnings;
	bool has_reply = request == VHOST_USER_GET_VRING_BASE;

	begin_started();
	warnings = device.warnings;
	if (!has_reply) {
		assert_true(front_end_call(&front_end, request, payload, size, fds, num_fds) > 0);
		assert_int_equal(device.warnings, ++warnings);
		assert_echo(1);
	}
	front_end_send(&front_end, request, 0, payload, size, fds, num_fds);
	assert_true(front_end_is_disconnected(&front_end));
	assert_int_equal(device.warnings, warnings + 1);
	assert_next_front_end_is_served();
	finish();
}

TEST(unknown_requests_are_refused)
{
	const uint32_t requests[] = { 0, 6, 7, 19, 22, 26, 31, 35, 39, 40, 42, 43, 45, 1000,
		INT32_MAX, UINT32_MAX };

	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		assert_message_refused(requests[i], NULL, 0, NULL, 0);
	}
}

TEST(messages_of_the_wrong_size_are_refused)
{
	const struct {
		uint32_t request, size;
	} messages[] = {
		{ VHOST_USER_SET_OWNER, 8 },
		{ VHOST_USER_SET_FEATURES, 0 },
		{ VHOST_USER_SET_FEATURES, 7 },
		{ VHOST_USER_SET_FEATURES, 9 },
		{ VHOST_USER_SET_PROTOCOL_FEATURES, 4 },
		{ VHOST_USER_SET_VRING_NUM, 4 },
		{ VHOST_USER_SET_VRING_BASE, 12 },
		{ VHOST_USER_SET_VRING_ADDR, 39 },
		{ VHOST_USER_SET_VRING_KICK, 0 },
		{ VHOST_USER_SET_VRING_CALL, 16 },
		{ VHOST_USER_SET_VRING_ERR, 1 },
		{ VHOST_USER_SET_VRING_ENABLE, 16 },
		{ VHOST_USER_GET_VRING_BASE, 4 },
		{ VHOST_USER_ADD_MEM_REG, 32 },
		{ VHOST_USER_REM_MEM_REG, 48 },
		{ VHOST_USER_RESET_DEVICE, 1 },
	};
	const uint8_t payload[64] = { 0 };

	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		assert_message_refused(messages[i].request, payload, messages[i].size, NULL, 0);
	}
}

TEST(messages_with_too_many_or_too_few_descriptors_are_refused)
{
	const struct {
		uint32_t request, size;
		size_t num_fds;
	} messages[] = {
		{ VHOST_USER_SET_OWNER, 0, 1 },
		{ VHOST_USER_SET_FEATURES, 8, 1 },
		{ VHOST_USER_SET_VRING_NUM, 8, 8 },
		{ VHOST_USER_SET_VRING_KICK, 8, 0 },
		{ VHOST_USER_SET_VRING_KICK, 8, 2 },
		{ VHOST_USER_SET_VRING_CALL, 8, 0 },
		{ VHOST_USER_SET_VRING_ERR, 8, 2 },
		{ VHOST_USER_SET_BACKEND_REQ_FD, 0, 0 },
		{ VHOST_USER_SET_BACKEND_REQ_FD, 0, 2 },
		{ VHOST_USER_GPU_SET_SOCKET, 0, 0 },
		{ VHOST_USER_GPU_SET_SOCKET, 0, 2 },
		{ VHOST_USER_ADD_MEM_REG, 40, 0 },
		{ VHOST_USER_ADD_MEM_REG, 40, 2 },
		{ VHOST_USER_REM_MEM_REG, 40, 2 },
		{ VHOST_USER_GET_VRING_BASE, 8, 1 },
	};
	const uint8_t payload[64] = { 0 };
	int fds[8];

	for (size_t i = 0; i < 8; i++) {
		fds[i] = make_fence(false);
	}
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		assert_message_refused(
			messages[i].request, payload, messages[i].size, fds, messages[i].num_fds);
	}
	for (size_t i = 0; i < 8; i++) {
		close(fds[i]);
	}
}

TEST(a_queue_that_is_not_there_is_refused)
{
	const uint32_t indices[] = { ECHO_QUEUES, 255, UINT32_MAX };
	int fence = make_fence(false);

	for (size_t i = 0; i < 3; i++) {
		const struct vhost_user_vring_state vring = { .index = indices[i], .num = 1 };
		const struct vhost_user_vring_addr addr = { .index = indices[i] };
		const uint64_t number = indices[i];

		assert_message_refused(VHOST_USER_SET_VRING_NUM, &vring, 8, NULL, 0);
		assert_message_refused(VHOST_USER_SET_VRING_BASE, &vring, 8, NULL, 0);
		assert_message_refused(VHOST_USER_GET_VRING_BASE, &vring, 8, NULL, 0);
		assert_message_refused(VHOST_USER_SET_VRING_ENABLE, &vring, 8, NULL, 0);
		assert_message_refused(VHOST_USER_SET_VRING_ADDR, &addr, 40, NULL, 0);
		assert_message_refused(VHOST_USER_SET_VRING_KICK, &number, 8, &fence, 1);
		assert_message_refused(VHOST_USER_SET_VRING_CALL, &number, 8, &fence, 1);
		assert_message_refused(VHOST_USER_SET_VRING_ERR, &number, 8, &fence, 1);
	}
	close(fence);
}

TEST_NEGOTIATED(numbers_that_are_wrong_are_refused)
{
	const uint32_t sizes[] = { 0, 3, 2048, UINT32_MAX };
	const struct vhost_user_vring_addr logged = { .flags = 1 };
	const uint64_t bits[] = { 1 << 9, 1 << 16, BIT(32), BIT(63) };
	int other = make_fence(false);

	for (size_t i = 0; i < 4; i++) {
		assert_true(front_end_call_state(
				    &front_end, VHOST_USER_SET_VRING_NUM, 0, sizes[i]) > 0);
	}
	assert_true(front_end_call_state(&front_end, VHOST_USER_SET_VRING_BASE, 0, 65536) > 0);
	assert_true(front_end_call_state(&front_end, VHOST_USER_SET_VRING_ENABLE, 0, 2) > 0);
	assert_true(
		front_end_call(&front_end, VHOST_USER_SET_VRING_ADDR, &logged, 40, NULL, 0) > 0);
	for (size_t i = 0; i < 4; i++) {
		assert_true(front_end_call(&front_end, VHOST_USER_SET_VRING_CALL, &bits[i], 8,
				    &other, 1) > 0);
		assert_true(front_end_call_number(&front_end, VHOST_USER_SET_VRING_CALL,
				    bits[i] | VHOST_USER_VRING_NO_FD) > 0);
	}
	close(other);
}

TEST_STARTED(descriptors_that_are_no_eventfds_are_refused)
{
	int fds[7], sockets[2];

	fds[0] = memfd_create("file", MFD_CLOEXEC);
	fds[1] = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_int_equal(pipe2(fds + 2, O_CLOEXEC), 0);
	/* To poll an epoll set is to poll all that it has. */
	fds[4] = epoll_create1(EPOLL_CLOEXEC);
	fds[5] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	fds[6] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	for (size_t i = 0; i < 7; i++) {
		assert_true(fds[i] >= 0);
		assert_true(front_end_set_vring_fd(
				    &front_end, VHOST_USER_SET_VRING_KICK, 0, fds[i]) > 0);
		assert_true(front_end_set_vring_fd(
				    &front_end, VHOST_USER_SET_VRING_CALL, 0, fds[i]) > 0);
		assert_true(front_end_set_vring_fd(
				    &front_end, VHOST_USER_SET_VRING_ERR, 0, fds[i]) > 0);
		close(fds[i]);
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	assert_true(
		front_end_set_vring_fd(&front_end, VHOST_USER_SET_VRING_KICK, 0, sockets[0]) > 0);
	close(sockets[0]);
	close(sockets[1]);
	assert_next_front_end_is_served();
}

TEST_STARTED(a_queue_that_is_to_be_polled_is_refused)
{
	assert_true(front_end_set_vring_fd(&front_end, VHOST_USER_SET_VRING_KICK, 0, -1) > 0);
	assert_echo(0);
}

TEST(rings_outside_of_memory_do_not_start)
{
	const uint64_t addresses[] = { 0, FRONT_END_NEAR,
		FRONT_END_FAR + FRONT_END_USER_OFFSET + FRONT_END_REGION_SIZE - 16,
		UINT64_MAX - 15 };

	for (size_t i = 0; i < 4; i++) {
		begin_negotiated();
		assert_int_equal(front_end_set_memory(&front_end), 0);
		front_end_make_queue(&front_end, 0, 16);
		queue->desc_addr = addresses[i] - FRONT_END_USER_OFFSET;
		assert_true(front_end_start_queue(&front_end, 0, 0) > 0);
		front_end_kick(queue);
		run();
		finish();
	}
}

static void send_header(uint32_t request, uint32_t flags, uint32_t size)
{
	const struct vhost_user_header header = { request, flags, size };

	assert_int_equal(front_end_send_bytes(&front_end, &header, sizeof(header), NULL, 0), 12);
}

TEST_STARTED(what_is_no_message_disconnects)
{
	const struct vhost_user_header headers[] = {
		{ VHOST_USER_GET_FEATURES, 0, 0 },
		{ VHOST_USER_GET_FEATURES, 2, 0 },
		{ VHOST_USER_GET_FEATURES, 3, 0 },
		{ VHOST_USER_GET_FEATURES, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY, 0 },
		{ VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, 4096 },
		{ VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, UINT32_MAX },
		{ UINT32_MAX, UINT32_MAX, UINT32_MAX },
	};

	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		send_header(headers[i].request, headers[i].flags, headers[i].size);
		assert_true(front_end_is_disconnected(&front_end));
		assert_next_front_end_is_served();
	}
}

TEST_STARTED(more_descriptors_than_any_message_has_disconnect)
{
	const size_t counts[] = { 9, 10, 64 };
	int fds[64], before;

	for (size_t i = 0; i < 64; i++) {
		fds[i] = make_fence(false);
	}
	for (size_t i = 0; i < 3; i++) {
		before = count_fds();
		front_end_send(&front_end, VHOST_USER_SET_VRING_KICK, VHOST_USER_FLAG_NEED_REPLY,
			fds, 8, fds, counts[i]);
		assert_true(front_end_is_disconnected(&front_end));
		assert_next_front_end_is_served();
		assert_int_equal(count_fds(), before);
	}
	for (size_t i = 0; i < 64; i++) {
		close(fds[i]);
	}
}

TEST_STARTED(descriptors_that_come_in_pieces_are_counted_together)
{
	const struct vhost_user_header header = { VHOST_USER_SET_OWNER, VHOST_USER_VERSION, 0 };
	int fence = make_fence(false);

	for (size_t i = 0; i < 11; i++) {
		assert_int_equal(
			front_end_send_bytes(&front_end, (const char *)&header + i, 1, &fence, 1),
			1);
		assert_int_equal(front_end_is_disconnected(&front_end), i >= 8);
		if (i >= 8) {
			break;
		}
	}
	close(fence);
	assert_next_front_end_is_served();
}

TEST_STARTED(no_room_for_descriptors_disconnects)
{
	front_end_send(
		&front_end, VHOST_USER_SET_VRING_CALL, 0, &(uint64_t){ 0 }, 8, &queue->call_fd, 1);
	limit_fds(0);
	run();
	unlimit_fds();
	assert_true(front_end_is_disconnected(&front_end));
	assert_next_front_end_is_served();
}

TEST(a_front_end_for_which_there_is_no_descriptor_is_served_later)
{
	begin_unconnected();
	front_end_init(&front_end, path, NULL, NULL);
	limit_fds(0);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(vhost_user_dispatch(device.server, 0), 0);
	}
	unlimit_fds();
	assert_false(vhost_user_is_connected(device.server));
	assert_string_equal(device.last_log, "no front end can connect: EMFILE");
	while (!vhost_user_is_connected(device.server)) {
		assert_int_equal(vhost_user_dispatch(device.server, -1), 0);
	}
	front_end.run = echo_device_run;
	front_end.arg = &device;
	front_end_start(&front_end);
	assert_echo(0);
	finish();
}

TEST(a_front_end_for_which_there_is_no_descriptor_is_no_reason_to_spin)
{
	uint64_t start_ns;

	begin_unconnected();
	front_end_init(&front_end, path, NULL, NULL);
	limit_fds(0);
	assert_int_equal(vhost_user_dispatch(device.server, 0), 0);
	/* That front end is still there, and is not reported again. */
	start_ns = now_ns();
	assert_int_equal(vhost_user_dispatch(device.server, 50), 0);
	assert_true(now_ns() - start_ns >= 50 * NS_PER_MS);
	unlimit_fds();
	front_end.run = echo_device_run;
	front_end.arg = &device;
	finish();
}

/* ---- Many of them ------------------------------------------------------------------------- */

/* Each message is told of or counted: so all of them, whatever the clock says meanwhile. */
TEST_NEGOTIATED(the_log_is_bounded_however_many_messages_are_wrong)
{
	const unsigned int count = 20000;
	const uint64_t start_ns = now_ns();

	for (unsigned int i = 0; i < count; i++) {
		assert_int_not_equal(
			front_end_call_state(&front_end, VHOST_USER_SET_VRING_NUM, 99, 3), 0);
	}
	front_end_disconnect(&front_end);
	while (device.warnings + device.told_dropped - device.tellings < count) {
		assert_int_equal(vhost_user_dispatch(device.server, -1), 0);
	}
	assert_int_equal(device.warnings + device.told_dropped - device.tellings, count);
	assert_true(device.warnings <= 5 * ((now_ns() - start_ns) / NS_PER_S + 2));
	assert_true(device.told_dropped > 0);
	front_end_connect(&front_end, path);
}

TEST(nothing_is_lost_where_memory_runs_out)
{
	int64_t ret = 1;

	for (unsigned long nth = 1; ret != 0; nth++) {
		begin_negotiated();
		front_end_make_queue(&front_end, 0, 16);
		alloc_fail(nth);
		ret = front_end_set_memory(&front_end);
		if (ret == 0) {
			ret = front_end_start_queue(&front_end, 0, 0);
		}
		alloc_reset();
		assert_true(ret >= 0);
		finish();
	}
}

/* ---- The socket's file -------------------------------------------------------------------- */

static int create_another(struct vhost_user **other)
{
	static const struct vhost_user_device_ops none;

	return vhost_user_create(path, 1, &none, NULL, other);
}

TEST(the_socket_is_removed_at_the_end)
{
	begin_unconnected();
	assert_int_equal(access(path, F_OK), 0);
	echo_device_finish(&device);
	assert_int_equal(access(path, F_OK), -1);
}

TEST_STARTED(a_socket_that_somebody_listens_on_stays)
{
	struct vhost_user *other = NULL;

	assert_int_equal(create_another(&other), -EADDRINUSE);
	assert_echo(0);
	assert_next_front_end_is_served();
}

TEST(a_stale_socket_is_replaced)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	begin_started();
	assert_echo(0);
	finish();
}

TEST(what_is_no_socket_is_not_replaced)
{
	struct vhost_user *other = NULL;
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(create_another(&other), -EEXIST);
	assert_int_equal(unlink(path), 0);
}

TEST(another_ones_socket_is_not_removed)
{
	struct vhost_user *other = NULL;

	begin_unconnected();
	assert_int_equal(unlink(path), 0);
	assert_int_equal(create_another(&other), 0);
	echo_device_finish(&device);
	assert_int_equal(access(path, F_OK), 0);
	vhost_user_destroy(other);
	assert_int_equal(access(path, F_OK), -1);
}

TEST(paths_and_numbers_that_cannot_be_are_refused)
{
	static const struct vhost_user_device_ops none;
	struct vhost_user *other = NULL;
	char long_path[256];

	memset(long_path, 'x', sizeof(long_path));
	long_path[255] = '\0';
	assert_int_equal(vhost_user_create(long_path, 1, &none, NULL, &other), -ENAMETOOLONG);
	assert_int_equal(vhost_user_create(path, 0, &none, NULL, &other), -EINVAL);
	assert_int_equal(vhost_user_create(path, 257, &none, NULL, &other), -EINVAL);
	assert_int_equal(vhost_user_create("/nowhere/at/all", 1, &none, NULL, &other), -ENOENT);
	assert_null(other);
	vhost_user_destroy(NULL);
}
