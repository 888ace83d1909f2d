/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Shared memory of a device: what the front end is told, and what it is asked for. */

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhost_session.h"

static int file; /* of one page */

/* The front end knows no shared objects. */
static void without_objects(void)
{
	uint64_t all = front_end_get_number(&front_end, VHOST_USER_GET_PROTOCOL_FEATURES);

	assert_int_equal(front_end_call_number(&front_end, VHOST_USER_SET_PROTOCOL_FEATURES,
				 all & ~BIT(VHOST_USER_PROTOCOL_F_SHARED_OBJECT)),
		0);
}

static void begin_shared(void)
{
	begin_connected();
	device.has_shmem = true;
	front_end_start(&front_end);
	without_objects();
	assert_int_equal(front_end_open_channel(&front_end), 0);
	file = memfd_create("shared", MFD_CLOEXEC);
	assert_true(file >= 0);
	assert_int_equal(ftruncate(file, 4096), 0);
}

static void finish_shared(void)
{
	close(file);
	finish();
}

#define TEST_SHARED(name) TEST_BETWEEN(name, begin_shared(), finish_shared())

static int map(void)
{
	const struct vhost_user_mapping mapping = {
		.region = ECHO_SHMEM,
		.offset = 0x2000,
		.size = 0x1000,
		.fd = file,
		.fd_offset = 0x5000,
		.writable = true,
	};

	return vhost_user_shmem_map(device.server, &mapping);
}

static int unmap(void)
{
	return vhost_user_shmem_unmap(device.server, ECHO_SHMEM, 0x2000, 0x1000);
}

/* The next thing that is asked is this; its descriptor is closed. */
static void assert_asked(uint32_t request)
{
	struct vhost_user_header header;
	struct vhost_user_mmap payload;
	int fd;

	assert_true(front_end_asked(&front_end, &header, &payload, &fd));
	assert_int_equal(header.request, request);
	assert_int_equal(header.flags, VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY);
	assert_int_equal(payload.region, ECHO_SHMEM);
	assert_int_equal(payload.offset, 0x2000);
	assert_int_equal(payload.size, 0x1000);
	assert_int_equal(fd >= 0, request == VHOST_USER_BACKEND_SHMEM_MAP);
	if (fd >= 0) {
		close(fd);
	}
}

static void assert_not_asked(void)
{
	struct vhost_user_header header;
	struct vhost_user_mmap payload;
	int fd;

	assert_false(front_end_asked(&front_end, &header, &payload, &fd));
}

static void assert_done(unsigned int count, int status)
{
	run();
	assert_int_equal(device.num_done, count);
	assert_int_equal(device.last_done, status);
}

/* ---- What the front end is told ----------------------------------------------------------- */

TEST_SHARED(the_regions_sizes_are_told_by_id)
{
	struct vhost_user_shmem_config config;
	uint32_t request;

	front_end_send(&front_end, VHOST_USER_GET_SHMEM_CONFIG, 0, NULL, 0, NULL, 0);
	assert_int_equal(front_end_receive(&front_end, &request, &config, sizeof(config)), 2056);
	assert_int_equal(request, VHOST_USER_GET_SHMEM_CONFIG);
	assert_int_equal(config.num_regions, 1);
	for (unsigned int i = 0; i < VHOST_USER_MAX_SHMEM; i++) {
		assert_int_equal(config.sizes[i], i == ECHO_SHMEM ? ECHO_SHMEM_SIZE : 0);
	}
}

TEST_CONNECTED(without_shared_memory_the_feature_is_not_offered)
{
	assert_false(front_end_get_number(&front_end, VHOST_USER_GET_PROTOCOL_FEATURES) &
		BIT(VHOST_USER_PROTOCOL_F_SHMEM));
	device.has_shmem = true;
	assert_true(front_end_get_number(&front_end, VHOST_USER_GET_PROTOCOL_FEATURES) &
		BIT(VHOST_USER_PROTOCOL_F_SHMEM));
}

TEST_STARTED(who_asks_without_the_feature_is_disconnected)
{
	front_end_send(&front_end, VHOST_USER_GET_SHMEM_CONFIG, 0, NULL, 0, NULL, 0);
	assert_true(front_end_is_disconnected(&front_end));
	assert_next_front_end_is_served();
}

/* ---- What it is asked for ----------------------------------------------------------------- */

TEST_SHARED(a_mapping_has_all_that_the_front_end_needs)
{
	struct vhost_user_header header;
	struct vhost_user_mmap payload;
	char byte = 'x';
	int fd;

	assert_int_equal(map(), 0);
	assert_true(front_end_asked(&front_end, &header, &payload, &fd));
	assert_int_equal(header.request, 9);
	assert_int_equal(header.flags, VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY);
	assert_int_equal(payload.region, ECHO_SHMEM);
	assert_int_equal(payload.fd_offset, 0x5000);
	assert_int_equal(payload.offset, 0x2000);
	assert_int_equal(payload.size, 0x1000);
	assert_int_equal(payload.flags, 1);
	/* It is the same file. */
	assert_int_equal(pwrite(file, &byte, 1, 7), 1);
	byte = 0;
	assert_int_equal(pread(fd, &byte, 1, 7), 1);
	assert_int_equal(byte, 'x');
	close(fd);
}

TEST_SHARED(a_mapping_may_be_read_only)
{
	const struct vhost_user_mapping mapping = {
		.region = ECHO_SHMEM, .size = 0x1000, .fd = file
	};
	struct vhost_user_header header;
	struct vhost_user_mmap payload;
	int fd;

	assert_int_equal(vhost_user_shmem_map(device.server, &mapping), 0);
	assert_true(front_end_asked(&front_end, &header, &payload, &fd));
	assert_int_equal(payload.flags, 0);
	close(fd);
}

TEST_SHARED(what_the_front_end_says_is_told)
{
	assert_int_equal(map(), 0);
	assert_asked(VHOST_USER_BACKEND_SHMEM_MAP);
	run();
	assert_int_equal(device.num_done, 0);
	front_end_reply(&front_end, VHOST_USER_BACKEND_SHMEM_MAP, 0);
	assert_done(1, 0);
	assert_int_equal(unmap(), 0);
	assert_asked(VHOST_USER_BACKEND_SHMEM_UNMAP);
	front_end_reply(&front_end, VHOST_USER_BACKEND_SHMEM_UNMAP, 5);
	assert_done(2, -EREMOTEIO);
	assert_int_equal(device.warnings, 0);
}

TEST_SHARED(there_is_one_question_at_a_time)
{
	assert_int_equal(map(), 0);
	assert_int_equal(map(), -EBUSY);
	assert_int_equal(unmap(), -EBUSY);
	assert_asked(VHOST_USER_BACKEND_SHMEM_MAP);
	assert_not_asked();
	front_end_reply(&front_end, VHOST_USER_BACKEND_SHMEM_MAP, 0);
	assert_done(1, 0);
	assert_int_equal(unmap(), 0);
	assert_asked(VHOST_USER_BACKEND_SHMEM_UNMAP);
}

TEST_SHARED(a_reply_may_come_in_pieces)
{
	struct vhost_user_header header = { VHOST_USER_BACKEND_SHMEM_MAP,
		VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY, 8 };
	const uint64_t number = 0;

	assert_int_equal(map(), 0);
	assert_int_equal(send(front_end.channel_fd, &header, 5, 0), 5);
	run();
	assert_int_equal(send(front_end.channel_fd, (char *)&header + 5, 7, 0), 7);
	run();
	assert_int_equal(device.num_done, 0);
	assert_int_equal(send(front_end.channel_fd, &number, 8, 0), 8);
	assert_done(1, 0);
}

/* ---- Front ends that answer early --------------------------------------------------------- */

static void begin_sharing(void)
{
	begin_connected();
	device.has_shmem = true;
	front_end_start(&front_end);
	assert_int_equal(front_end_open_channel(&front_end), 0);
	file = memfd_create("shared", MFD_CLOEXEC);
	assert_true(file >= 0);
}

#define TEST_SHARING(name) TEST_BETWEEN(name, begin_sharing(), finish_shared())

/* The next one is to forget an object. */
static void assert_asked_to_forget(void)
{
	struct {
		struct vhost_user_header header;
		uint8_t uuid[16];
	} asked;
	const uint8_t nothing[16] = { 0 };

	run();
	assert_int_equal(
		recv(front_end.channel_fd, &asked, sizeof(asked), MSG_DONTWAIT), sizeof(asked));
	assert_int_equal(asked.header.request, VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE);
	assert_int_equal(asked.header.flags, VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY);
	assert_memory_equal(asked.uuid, nothing, 16);
}

/* QEMU maps the file only after it has answered. Whatever it says then, it has. */
TEST_SHARING(a_file_is_mapped_when_the_front_end_goes_on)
{
	for (uint64_t answer = 0; answer < 2; answer++) {
		assert_int_equal(map(), 0);
		assert_asked(VHOST_USER_BACKEND_SHMEM_MAP);
		front_end_reply(&front_end, VHOST_USER_BACKEND_SHMEM_MAP, 0);
		assert_asked_to_forget();
		assert_int_equal(device.num_done, 2 * answer);
		assert_int_equal(map(), -EBUSY);
		front_end_reply(&front_end, VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE, answer);
		assert_done(2 * (unsigned int)answer + 1, 0);
		assert_int_equal(unmap(), 0);
		assert_asked(VHOST_USER_BACKEND_SHMEM_UNMAP);
		front_end_reply(&front_end, VHOST_USER_BACKEND_SHMEM_UNMAP, 0);
		assert_done(2 * (unsigned int)answer + 2, 0);
	}
}

TEST_SHARING(what_is_refused_is_refused_at_once)
{
	assert_int_equal(map(), 0);
	assert_asked(VHOST_USER_BACKEND_SHMEM_MAP);
	front_end_reply(&front_end, VHOST_USER_BACKEND_SHMEM_MAP, 1);
	assert_done(1, -EREMOTEIO);
	assert_not_asked();
}

TEST_SHARING(a_front_end_that_leaves_in_between_has_mapped_nothing)
{
	assert_int_equal(map(), 0);
	assert_asked(VHOST_USER_BACKEND_SHMEM_MAP);
	front_end_reply(&front_end, VHOST_USER_BACKEND_SHMEM_MAP, 0);
	assert_asked_to_forget();
	front_end_close_channel(&front_end);
	assert_done(1, -ECONNRESET);
}

/* ---- Front ends that do not read ---------------------------------------------------------- */

static void fill_channel(void)
{
	const uint8_t uuid[16] = { 1 };
	int ret;

	while ((ret = vhost_user_share_object(device.server, uuid)) == 0) {
	}
	assert_int_equal(ret, -EAGAIN);
}

static void make_room(void)
{
	char bytes[28]; /* a message about an object */

	while (recv(front_end.channel_fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
		assert_int_equal(bytes[0], VHOST_USER_BACKEND_SHARED_OBJECT_ADD);
	}
	run();
}

TEST_SHARING(what_does_not_fit_is_asked_when_there_is_room)
{
	fill_channel();
	assert_int_equal(map(), 0);
	assert_int_equal(unmap(), -EBUSY);
	run();
	make_room();
	assert_asked(VHOST_USER_BACKEND_SHMEM_MAP);
	front_end_reply(&front_end, VHOST_USER_BACKEND_SHMEM_MAP, 0);
	assert_asked_to_forget();
	front_end_reply(&front_end, VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE, 0);
	assert_done(1, 0);
	fill_channel();
	assert_int_equal(unmap(), 0);
	make_room();
	assert_asked(VHOST_USER_BACKEND_SHMEM_UNMAP);
	assert_not_asked();
	front_end_reply(&front_end, VHOST_USER_BACKEND_SHMEM_UNMAP, 0);
	assert_done(2, 0);
}

TEST_SHARING(a_change_that_does_not_fit_is_told_once_when_there_is_room)
{
	struct vhost_user_header header;

	fill_channel();
	vhost_user_config_changed(device.server);
	vhost_user_config_changed(device.server);
	make_room();
	assert_int_equal(
		recv(front_end.channel_fd, &header, sizeof(header), MSG_DONTWAIT), sizeof(header));
	assert_int_equal(header.request, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	assert_not_asked();
	assert_int_equal(device.warnings, 0);
}

TEST_SHARING(what_does_not_fit_ends_with_the_channel)
{
	fill_channel();
	assert_int_equal(map(), 0);
	front_end_close_channel(&front_end);
	assert_done(1, -ECONNRESET);
}

TEST_SHARING(who_answers_what_was_not_sent_is_disconnected)
{
	fill_channel();
	assert_int_equal(map(), 0);
	front_end_reply(&front_end, VHOST_USER_BACKEND_SHMEM_MAP, 0);
	assert_true(front_end_is_disconnected(&front_end));
	assert_int_equal(device.last_done, -ECONNRESET);
}

/* ---- What the front end takes for memory of the guest's ----------------------------------- */

static int64_t call_region(uint32_t request, uint64_t guest_addr, int fd)
{
	const struct vhost_user_mem_region region = { .region = {
							      .guest_addr = guest_addr,
							      .size = 0x1000,
							      .user_addr = guest_addr,
						      } };

	return front_end_call(&front_end, request, &region, sizeof(region), &fd, fd >= 0);
}

static void map_all_the_way(uint64_t offset)
{
	const struct vhost_user_mapping mapping = {
		.region = ECHO_SHMEM,
		.offset = offset,
		.size = 0x1000,
		.fd = file,
	};
	struct vhost_user_header header;
	struct vhost_user_mmap payload;
	int fd;

	assert_int_equal(vhost_user_shmem_map(device.server, &mapping), 0);
	assert_true(front_end_asked(&front_end, &header, &payload, &fd));
	close(fd);
	front_end_reply(&front_end, VHOST_USER_BACKEND_SHMEM_MAP, 0);
	run();
}

static void unmap_all_the_way(uint64_t offset)
{
	struct vhost_user_header header;
	struct vhost_user_mmap payload;
	int fd;

	assert_int_equal(vhost_user_shmem_unmap(device.server, ECHO_SHMEM, offset, 0x1000), 0);
	assert_true(front_end_asked(&front_end, &header, &payload, &fd));
	front_end_reply(&front_end, VHOST_USER_BACKEND_SHMEM_UNMAP, 0);
	run();
}

/* More than there can be regions of the guest's own. */
#define MANY 200u

TEST_SHARED(regions_of_shared_memory_are_not_the_guests)
{
	const struct guest_memory *memory = device.memory;

	map_all_the_way(0);
	for (uint64_t i = 0; i < MANY; i++) {
		assert_int_equal(
			call_region(VHOST_USER_ADD_MEM_REG, 0x5000000000 + i * 0x1000, file), 0);
	}
	assert_ptr_equal(device.memory, memory);
	unmap_all_the_way(0);
	for (uint64_t i = 0; i < MANY; i++) {
		assert_int_equal(
			call_region(VHOST_USER_REM_MEM_REG, 0x5000000000 + i * 0x1000, -1), 0);
	}
	assert_int_equal(call_region(VHOST_USER_REM_MEM_REG, 0x5000000000, -1), 1);
	/* Now it is a file like any other. */
	assert_int_equal(call_region(VHOST_USER_ADD_MEM_REG, 0x5000000000, file), 0);
	assert_ptr_not_equal(device.memory, memory);
}

/* In two places: it is ours until both are gone. */
TEST_SHARED(a_file_may_be_mapped_twice)
{
	const struct guest_memory *memory = device.memory;

	map_all_the_way(0);
	map_all_the_way(0x1000);
	unmap_all_the_way(0);
	assert_int_equal(call_region(VHOST_USER_ADD_MEM_REG, 0x5000000000, file), 0);
	assert_ptr_equal(device.memory, memory);
	unmap_all_the_way(0x1000);
	assert_int_equal(call_region(VHOST_USER_ADD_MEM_REG, 0x5000001000, file), 0);
	assert_ptr_not_equal(device.memory, memory);
}

/* Already while the mapping is asked for: it may come before the answer. */
TEST_SHARED(a_file_is_ours_as_soon_as_it_is_sent)
{
	const struct guest_memory *memory = device.memory;

	assert_int_equal(map(), 0);
	assert_int_equal(call_region(VHOST_USER_ADD_MEM_REG, 0x5000000000, file), 0);
	assert_ptr_equal(device.memory, memory);
	assert_asked(VHOST_USER_BACKEND_SHMEM_MAP);
	front_end_reply(&front_end, VHOST_USER_BACKEND_SHMEM_MAP, 1);
	run();
	assert_int_equal(call_region(VHOST_USER_ADD_MEM_REG, 0x5000001000, file), 0);
	assert_ptr_not_equal(device.memory, memory);
}

/* ---- Objects for other devices ------------------------------------------------------------ */

static const uint8_t uuid[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

static void assert_told(uint32_t request)
{
	struct {
		struct vhost_user_header header;
		uint8_t uuid[16];
	} told;

	assert_int_equal(
		recv(front_end.channel_fd, &told, sizeof(told), MSG_DONTWAIT), sizeof(told));
	assert_int_equal(told.header.request, request);
	assert_int_equal(told.header.flags, VHOST_USER_VERSION);
	assert_memory_equal(told.uuid, uuid, 16);
}

TEST_SHARING(objects_are_told_of)
{
	assert_int_equal(vhost_user_share_object(device.server, uuid), 0);
	assert_told(VHOST_USER_BACKEND_SHARED_OBJECT_ADD);
	assert_int_equal(vhost_user_unshare_object(device.server, uuid), 0);
	assert_told(VHOST_USER_BACKEND_SHARED_OBJECT_REMOVE);
}

TEST_SHARED(who_knows_no_objects_is_told_of_none)
{
	assert_int_equal(vhost_user_share_object(device.server, uuid), -EOPNOTSUPP);
	front_end_send(&front_end, VHOST_USER_GET_SHARED_OBJECT, 0, uuid, 16, NULL, 0);
	assert_true(front_end_is_disconnected(&front_end));
}

/* The answer to GET_SHARED_OBJECT. Returns the descriptor, or -1. */
static int get_shared(void)
{
	struct {
		struct vhost_user_header header;
		uint8_t uuid[16];
	} answer;
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { &answer, sizeof(answer) };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	int fd = -1;

	front_end_send(&front_end, VHOST_USER_GET_SHARED_OBJECT, 0, uuid, 16, NULL, 0);
	run();
	assert_int_equal(recvmsg(front_end.socket_fd, &msg, MSG_DONTWAIT), sizeof(answer));
	assert_int_equal(answer.header.request, VHOST_USER_GET_SHARED_OBJECT);
	assert_int_equal(answer.header.flags, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY);
	assert_memory_equal(answer.uuid, uuid, 16);
	if (CMSG_FIRSTHDR(&msg)) {
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	}
	return fd;
}

TEST_SHARING(an_object_is_had_by_its_uuid)
{
	char byte = 'x';
	int fd;

	assert_int_equal(get_shared(), -1);
	device.shared_fd = file;
	assert_int_equal(pwrite(file, &byte, 1, 0), 1);
	fd = get_shared();
	assert_true(fd >= 0);
	byte = 0;
	assert_int_equal(pread(fd, &byte, 1, 0), 1);
	assert_int_equal(byte, 'x');
	close(fd);
}

/* ---- What does not go well ---------------------------------------------------------------- */

TEST_SHARED(without_a_channel_nothing_can_be_asked)
{
	front_end_close_channel(&front_end);
	run();
	assert_int_equal(map(), -EOPNOTSUPP);
	assert_int_equal(unmap(), -EOPNOTSUPP);
	assert_int_equal(device.num_done, 0);
}

TEST_SHARED(without_any_of_the_features_nothing_can_be_asked)
{
	static const unsigned int needed[] = { VHOST_USER_PROTOCOL_F_SHMEM,
		VHOST_USER_PROTOCOL_F_REPLY_ACK, VHOST_USER_PROTOCOL_F_BACKEND_REQ };
	uint64_t all = front_end_get_number(&front_end, VHOST_USER_GET_PROTOCOL_FEATURES), some;

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		some = all & ~BIT(needed[i]);
		front_end_send(&front_end, VHOST_USER_SET_PROTOCOL_FEATURES, 0, &some, 8, NULL, 0);
		run();
		assert_int_equal(map(), -EOPNOTSUPP);
	}
}

TEST_SHARED(a_channel_that_is_closed_answers)
{
	assert_int_equal(map(), 0);
	front_end_close_channel(&front_end);
	assert_done(1, -ECONNRESET);
	assert_true(vhost_user_is_connected(device.server));
	assert_echo(0);
}

TEST_SHARED(a_channel_that_is_replaced_answers)
{
	assert_int_equal(map(), 0);
	assert_int_equal(front_end_open_channel(&front_end), 0);
	assert_done(1, -ECONNRESET);
	assert_int_equal(map(), 0);
	assert_asked(VHOST_USER_BACKEND_SHMEM_MAP);
}

TEST_SHARED(a_front_end_that_leaves_answers)
{
	assert_int_equal(map(), 0);
	front_end_disconnect(&front_end);
	assert_done(1, -ECONNRESET);
	assert_int_equal(map(), -EOPNOTSUPP);
	device.has_shmem = false;
	front_end_connect(&front_end, path);
}

/* The front end has a copy of our end, which keeps it in epoll's set: closing is not enough. */
TEST_SHARED(what_comes_on_a_channel_that_was_replaced_is_not_looked_at)
{
	int sockets[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	assert_int_equal(
		front_end_call(&front_end, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &sockets[1], 1),
		0);
	assert_int_equal(front_end_open_channel(&front_end), 0);
	assert_int_equal(map(), 0);
	assert_int_equal(send(sockets[0], "nonsense", 8, 0), 8);
	run();
	assert_true(vhost_user_is_connected(device.server));
	assert_int_equal(device.num_done, 0);
	close(sockets[0]);
	close(sockets[1]);
}

TEST_SHARED(a_channel_is_a_stream_of_a_socket)
{
	int sockets[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
	assert_int_equal(
		front_end_call(&front_end, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &sockets[1], 1),
		1);
	assert_int_equal(
		front_end_call(&front_end, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &file, 1), 1);
	assert_int_equal(map(), 0); /* the one before is still there */
	close(sockets[0]);
	close(sockets[1]);
}

/* Replies that are none: what is wrong with the header, the payload, or the time. */
TEST_SHARED(a_wrong_reply_disconnects)
{
	static const struct {
		uint32_t asked; /* 0: nothing was */
		struct vhost_user_header header;
		size_t size; /* of what comes */
	} wrong[] = {
		{ 0, { VHOST_USER_BACKEND_SHMEM_MAP, 5, 8 }, 20 },
		{ 1, { VHOST_USER_BACKEND_SHMEM_UNMAP, 5, 8 }, 20 },
		{ 1, { VHOST_USER_BACKEND_SHMEM_MAP, 1, 8 }, 20 },
		{ 1, { VHOST_USER_BACKEND_SHMEM_MAP, 6, 8 }, 20 },
		{ 1, { VHOST_USER_BACKEND_SHMEM_MAP, 5, 4 }, 16 },
		{ 1, { VHOST_USER_BACKEND_SHMEM_MAP, 5, 0 }, 12 },
		{ 1, { VHOST_USER_BACKEND_SHMEM_MAP, 5, UINT32_MAX }, 20 },
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char bytes[20] = { 0 };
		unsigned int done = device.num_done;

		memcpy(bytes, &wrong[i].header, sizeof(wrong[i].header));
		if (wrong[i].asked) {
			assert_int_equal(map(), 0);
		}
		assert_int_equal(
			send(front_end.channel_fd, bytes, wrong[i].size, 0), wrong[i].size);
		assert_true(front_end_is_disconnected(&front_end));
		assert_int_equal(device.num_done, done + wrong[i].asked);
		assert_next_front_end_is_served();
		without_objects();
		assert_int_equal(front_end_open_channel(&front_end), 0);
	}
}

TEST_SHARED(a_reply_with_a_descriptor_disconnects)
{
	const struct vhost_user_header header = { VHOST_USER_BACKEND_SHMEM_MAP,
		VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY, 8 };
	struct {
		struct vhost_user_header header;
		char number[8];
	} reply = { header, { 0 } };
	struct front_end sender = { .socket_fd = front_end.channel_fd };

	assert_int_equal(map(), 0);
	assert_int_equal(
		front_end_send_bytes(&sender, &reply, sizeof(reply), &file, 1), sizeof(reply));
	assert_true(front_end_is_disconnected(&front_end));
	assert_int_equal(device.last_done, -ECONNRESET);
}
