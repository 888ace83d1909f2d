/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Fuzzes the back end of vhost-user, with the device that echoes: messages, descriptors, rings, and
 * front ends that come and go. Whatever the front end sends, in the end the back end must let it
 * go, be back where it began, and have kept no descriptor.
 *
 * The program (fuzz.h) mutates whole sessions. For libFuzzer:
 *     clang -g -D_GNU_SOURCE -DLIBFUZZER -fsanitize=fuzzer,address,undefined -Iinclude -Ivhost
 *         tests/fuzz_vhost_user.c tests/fuzz.c tests/front_end.c tests/echo_device.c vhost/[a-z]*.c
 *
 * An input is a row of steps: a byte that says which, and what it reads from the bytes that follow.
 */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "echo_device.h"
#include "front_end.h"
#include "fuzz.h"

enum step {
	STEP_START, /* a queue, by all its messages */
	STEP_MESSAGE,
	STEP_BYTES,
	STEP_DESC,
	STEP_TABLE_DESC,
	STEP_OFFER,
	STEP_SHOW,
	STEP_KICK,
	STEP_RUN,
	STEP_HOLD,
	STEP_RELEASE,
	STEP_RECONNECT,
	STEP_RING_BYTES,
	STEP_SHORTEN,
	STEP_CHANNEL,
	STEP_MAP,
	STEP_REPLY,
	NUM_STEPS,
};

/* Where indirect tables are. */
#define TABLES (FRONT_END_NEAR + 0x80000)
#define TABLE_DESCS 32

static struct echo_device device;
static struct front_end front_end;
static int other_fds[2]; /* sockets */

/* ---- The input ---------------------------------------------------------------------------- */

struct reader {
	const uint8_t *data;
	size_t left;
};

/* Zeros if there are no more bytes. */
static void read_bytes(struct reader *reader, void *to, size_t size)
{
	size_t some = reader->left < size ? reader->left : size;

	memset(to, 0, size);
	if (some > 0) {
		memcpy(to, reader->data, some);
	}
	reader->data += some;
	reader->left -= some;
}

static uint8_t read_byte(struct reader *reader)
{
	uint8_t byte;

	read_bytes(reader, &byte, 1);
	return byte;
}

static uint16_t read_short(struct reader *reader)
{
	uint16_t value;

	read_bytes(reader, &value, sizeof(value));
	return value;
}

/* Mostly somewhere in memory, or near its ends. */
static uint64_t read_addr(struct reader *reader)
{
	static const uint64_t bases[] = { FRONT_END_NEAR, FRONT_END_NEXT, FRONT_END_NEXT,
		FRONT_END_NEXT + FRONT_END_REGION_SIZE, FRONT_END_FAR,
		FRONT_END_FAR + FRONT_END_REGION_SIZE, 0, TABLES };
	uint8_t which = read_byte(reader);
	uint64_t addr;

	if (which & 0x80) {
		read_bytes(reader, &addr, sizeof(addr));
		return addr;
	}
	addr = bases[which % 8];
	return which & 0x40 ? addr - read_byte(reader) : addr + read_short(reader);
}

static uint32_t read_size(struct reader *reader)
{
	uint8_t which = read_byte(reader);
	uint32_t size;

	if (which == 0xff) {
		read_bytes(reader, &size, sizeof(size));
		return size;
	}
	return which & 0x80 ? 16 * (which & 0x7fu) : which;
}

/* ---- Steps -------------------------------------------------------------------------------- */

static struct front_end_queue *read_queue(struct reader *reader)
{
	return &front_end.queues[read_byte(reader) % FRONT_END_QUEUES];
}

static void run(void)
{
	echo_device_run(&device);
}

/* Not the front end's own connection: if the device holds that itself it never ends, like one that
 * its front end keeps. */
static int read_fd(struct reader *reader)
{
	uint8_t which = read_byte(reader);
	const struct front_end_queue *queue = &front_end.queues[which % FRONT_END_QUEUES];

	switch (which >> 1 & 7) {
	case 0:
		return other_fds[0];
	case 1:
	case 2:
		return queue->call_fd >= 0 ? queue->call_fd : other_fds[1];
	case 3:
	case 4:
		return queue->kick_fd >= 0 ? queue->kick_fd : other_fds[1];
	default:
		return front_end.regions[(which >> 1 & 7) - 5].fd;
	}
}

/* Any request, any payload, any descriptors; the size is often right. */
static void send_message(struct reader *reader)
{
	static const uint8_t sizes[] = { 0, 8, 8, 8, 40, 40, 104, 72, 36, 12, 16, 1 };
	uint8_t payload[sizeof(union vhost_user_payload)];
	uint32_t request = read_byte(reader) % 48, size;
	uint8_t flags = read_byte(reader);
	int fds[16];
	size_t num_fds = (flags >> 4) % 12;

	size = read_byte(reader);
	size = size < 0xf0 ? sizes[size % sizeof(sizes)] : size;
	read_bytes(reader, payload, size);
	for (size_t i = 0; i < num_fds; i++) {
		fds[i] = read_fd(reader);
	}
	front_end_send(&front_end, request, flags & VHOST_USER_FLAG_NEED_REPLY, payload, size, fds,
		num_fds);
	run();
}

static void send_some(struct reader *reader)
{
	uint8_t bytes[64];
	size_t size = 1 + read_byte(reader) % sizeof(bytes);
	int fd = read_fd(reader);

	read_bytes(reader, bytes, size);
	front_end_send_bytes(&front_end, bytes, size, &fd, size % 2);
	run();
}

/* As a good front end does, without waiting for answers, which may never come. */
static void start_queue(struct reader *reader)
{
	uint8_t byte = read_byte(reader);
	uint32_t index = byte % FRONT_END_QUEUES, size = 1u << (byte >> 1 & 7);
	const struct vhost_user_vring_state num = { index, size },
					    base = { index, byte & 0x80 ? 1 : 0 },
					    enable = { index, 1 };
	const uint64_t features = UINT64_MAX & ~(UINT64_C(7) << 33), protocol = UINT64_C(0x44a229),
		       number = index;
	struct vhost_user_mem_table table = { .num_regions = FRONT_END_REGIONS };
	const struct front_end_queue *queue = &front_end.queues[index];
	struct vhost_user_vring_addr addr = { .index = index };
	int fds[FRONT_END_REGIONS];

	for (size_t i = 0; i < FRONT_END_REGIONS; i++) {
		table.regions[i] = front_end.regions[i].where;
		fds[i] = front_end.regions[i].fd;
	}
	if (front_end.next_free > TABLES - 0x10000) {
		return;
	}
	front_end_make_queue(&front_end, index, size);
	addr.desc = queue->desc_addr + FRONT_END_USER_OFFSET;
	addr.avail = queue->avail_addr + FRONT_END_USER_OFFSET;
	addr.used = queue->used_addr + FRONT_END_USER_OFFSET;
	front_end_send(&front_end, VHOST_USER_SET_PROTOCOL_FEATURES, 8, &protocol, 8, NULL, 0);
	front_end_send(&front_end, VHOST_USER_SET_FEATURES, 8, &features, 8, NULL, 0);
	front_end_send(&front_end, VHOST_USER_SET_MEM_TABLE, 8, &table, 104, fds, 3);
	front_end_send(&front_end, VHOST_USER_GET_VRING_BASE, 0, &num, 8, NULL, 0);
	front_end_send(&front_end, VHOST_USER_SET_VRING_NUM, 8, &num, 8, NULL, 0);
	front_end_send(&front_end, VHOST_USER_SET_VRING_BASE, 8, &base, 8, NULL, 0);
	front_end_send(&front_end, VHOST_USER_SET_VRING_ADDR, 8, &addr, 40, NULL, 0);
	front_end_send(&front_end, VHOST_USER_SET_VRING_CALL, 8, &number, 8, &queue->call_fd, 1);
	front_end_send(&front_end, VHOST_USER_SET_VRING_ERR, 8, &number, 8, &queue->err_fd, 1);
	front_end_send(&front_end, VHOST_USER_SET_VRING_KICK, 8, &number, 8, &queue->kick_fd, 1);
	front_end_send(&front_end, VHOST_USER_SET_VRING_ENABLE, 8, &enable, 8, NULL, 0);
	run();
}

static void write_desc(struct reader *reader)
{
	struct front_end_queue *queue = read_queue(reader);
	uint8_t at = read_byte(reader), next = read_byte(reader), flags = read_byte(reader);
	uint64_t addr = read_addr(reader);

	if (queue->size > 0) {
		front_end_desc(queue, at % queue->size, addr, read_size(reader), flags & 7, next);
	}
}

static void write_table_desc(struct reader *reader)
{
	struct vring_desc *table = front_end_at(&front_end, TABLES);
	uint8_t at = read_byte(reader), next = read_byte(reader), flags = read_byte(reader);
	uint64_t addr = read_addr(reader);

	table[at % TABLE_DESCS] = (struct vring_desc){ addr, read_size(reader), flags & 7, next };
}

/* Somewhere in the rings, which are in the first pages. */
static void write_ring_bytes(struct reader *reader)
{
	uint16_t at = read_short(reader) % 0x8000;

	read_bytes(reader, (uint8_t *)front_end_at(&front_end, FRONT_END_NEAR) + at,
		1 + read_byte(reader) % 16);
}

static void offer(struct reader *reader)
{
	struct front_end_queue *queue = read_queue(reader);
	uint8_t head = read_byte(reader);

	if (queue->size > 0) {
		front_end_offer(queue, head & 0x80 ? head : (uint16_t)(head % queue->size));
	}
}

static void show(struct reader *reader)
{
	struct front_end_queue *queue = read_queue(reader);
	uint8_t jump = read_byte(reader);

	if (queue->size > 0) {
		queue->next_avail = (uint16_t)(queue->next_avail + (jump > 0xf0 ? jump : 0));
		front_end_show(queue);
	}
}

static void kick_queue(struct front_end_queue *queue)
{
	if (queue->kick_fd >= 0) {
		front_end_kick(queue);
	}
}

static void kick(struct reader *reader)
{
	kick_queue(read_queue(reader));
	run();
}

/* The device may look in between; the front end itself must not. */
static void shorten(struct reader *reader)
{
	const struct front_end_region *region = &front_end.regions[FRONT_END_REGIONS - 1];
	off_t size = (off_t)(region->where.offset + region->where.size);

	CHECK(ftruncate(region->fd, read_short(reader)) == 0);
	kick_queue(&front_end.queues[0]);
	kick_queue(&front_end.queues[1]);
	run();
	CHECK(ftruncate(region->fd, size) == 0);
}

/* ---- The back end's channel --------------------------------------------------------------- */

static unsigned int num_asked; /* what the device has asked for, and is not answered */

static void open_channel(void)
{
	int sockets[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) == 0);
	front_end_send(&front_end, VHOST_USER_SET_BACKEND_REQ_FD, 0, NULL, 0, &sockets[1], 1);
	close(sockets[1]);
	front_end_close_channel(&front_end);
	front_end.channel_fd = sockets[0];
	run();
}

/* The device maps a file, also one that the guest's memory is in, or unmaps it. Each question is
 * answered once. */
static void map(struct reader *reader)
{
	uint8_t byte = read_byte(reader);
	const struct vhost_user_mapping mapping = {
		.region = ECHO_SHMEM,
		.offset = (uint64_t)(byte & 7) * 0x1000,
		.size = 0x1000,
		.fd = byte & 0x40 ? front_end.regions[0].fd : other_fds[0],
		.writable = true,
	};
	int ret = byte & 0x80 ?
		vhost_user_shmem_unmap(device.server, ECHO_SHMEM, mapping.offset, mapping.size) :
		vhost_user_shmem_map(device.server, &mapping);

	CHECK(ret != 0 || num_asked == device.num_done);
	num_asked += ret == 0;
	run();
}

/* To what was asked, or to something else. */
static void reply(struct reader *reader)
{
	static const uint8_t requests[] = { 9, 10, 7, 9, 10, 7, 2, 0 };
	uint8_t byte = read_byte(reader), bytes[20 + 64];
	const struct vhost_user_header header = { requests[byte & 7],
		byte >= 0xf0 ? byte : VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY,
		byte >= 0xe0 ? byte & 0xfu : 8 };
	size_t size = byte >= 0xd0 ? 1 + read_byte(reader) % sizeof(bytes) : 20;

	if (front_end.channel_fd < 0) {
		return;
	}
	/* What was asked does not matter, only that the channel does not fill up. */
	while (recv(front_end.channel_fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
	}
	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, &header, sizeof(header));
	bytes[12] = byte >> 3 & 1;
	send(front_end.channel_fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	run();
}

static void reconnect(const char *path)
{
	front_end_disconnect(&front_end);
	front_end_connect(&front_end, path);
}

static void take_step(struct reader *reader, const char *path)
{
	static void (*const steps[NUM_STEPS])(struct reader *) = {
		[STEP_START] = start_queue,
		[STEP_MESSAGE] = send_message,
		[STEP_BYTES] = send_some,
		[STEP_DESC] = write_desc,
		[STEP_TABLE_DESC] = write_table_desc,
		[STEP_OFFER] = offer,
		[STEP_SHOW] = show,
		[STEP_KICK] = kick,
		[STEP_RING_BYTES] = write_ring_bytes,
		[STEP_SHORTEN] = shorten,
	};
	unsigned int step = read_byte(reader) % NUM_STEPS;

	if (steps[step]) {
		steps[step](reader);
	} else if (step == STEP_HOLD) {
		device.hold = !device.hold;
	} else if (step == STEP_RELEASE) {
		echo_device_release(&device);
	} else if (step == STEP_CHANNEL) {
		open_channel();
	} else if (step == STEP_MAP) {
		map(reader);
	} else if (step == STEP_REPLY) {
		reply(reader);
	} else if (step == STEP_RECONNECT) {
		reconnect(path);
	} else {
		run();
	}
}

/* ---- One input ---------------------------------------------------------------------------- */

static char directory[] = "/tmp/vgfence-fuzz-XXXXXX";
static char path[sizeof(directory) + 8];

static void remove_directory(void)
{
	rmdir(directory);
}

static void make_directory(void)
{
	if (path[0] == '\0') {
		CHECK(mkdtemp(directory));
		snprintf(path, sizeof(path), "%s/socket", directory);
		atexit(remove_directory);
	}
}

static unsigned int count_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int count = 0;

	CHECK(dir);
	while (readdir(dir)) {
		count++;
	}
	closedir(dir);
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader reader = { data, size };
	unsigned int open_before;

	make_directory();
	open_before = count_open();
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other_fds) == 0);
	num_asked = 0;
	echo_device_init(&device, path);
	device.has_shmem = true;
	front_end_init(&front_end, path, echo_device_run, &device);
	while (reader.left > 0) {
		take_step(&reader, path);
	}
	/* Whatever has happened, the next one is served. */
	reconnect(path);
	CHECK(front_end_get_number(&front_end, VHOST_USER_GET_QUEUE_NUM) == ECHO_QUEUES);
	front_end_finish(&front_end);
	CHECK(!vhost_user_is_connected(device.server));
	CHECK(!device.memory && device.num_held == 0 && device.features == 0);
	CHECK(num_asked == device.num_done);
	echo_device_finish(&device);
	close(other_fds[0]);
	close(other_fds[1]);
	CHECK(count_open() == open_before);
	return 0;
}

/* ---- The program -------------------------------------------------------------------------- */

#ifndef LIBFUZZER

#define MAX_SIZE 1024

static void put(struct fuzz_input *input, unsigned int byte)
{
	if (input->size < MAX_SIZE) {
		input->bytes[input->size++] = (uint8_t)byte;
	}
}

static void put_row(struct fuzz_input *input, const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		put(input, bytes[i]);
	}
}

/* A request of two or three descriptors, maybe indirect, made available and kicked. */
static void make_request(struct fuzz_input *input, uint64_t *random)
{
	uint8_t queue = next_random(random) % 2, head = next_random(random) % 14;
	uint8_t size = (uint8_t)(1 + next_random(random) % 100);
	bool indirect = next_random(random) % 2;
	const uint8_t first[] = { head, (uint8_t)(head + 1), VRING_DESC_F_NEXT, 1, 0, 1, size };
	const uint8_t second[] = { (uint8_t)(head + 1), 0, VRING_DESC_F_WRITE, 4, 9, 0, size };
	const uint8_t table[] = { STEP_DESC, queue, head, 0, VRING_DESC_F_INDIRECT, 7, 0, 0,
		(uint8_t)(0x80 | (head + 2)) };
	const uint8_t shown[] = { STEP_OFFER, queue, head, STEP_SHOW, queue, 0, STEP_KICK, queue };

	put(input, indirect ? STEP_TABLE_DESC : STEP_DESC);
	if (!indirect) {
		put(input, queue);
	}
	put_row(input, first, sizeof(first));
	put(input, indirect ? STEP_TABLE_DESC : STEP_DESC);
	if (!indirect) {
		put(input, queue);
	}
	put_row(input, second, sizeof(second));
	if (indirect) {
		put_row(input, table, sizeof(table));
		/* The table begins at its first descriptor. */
		put(input, STEP_TABLE_DESC);
		put(input, 0);
		put(input, head);
		put_row(input, first + 2, sizeof(first) - 2);
	}
	put_row(input, shown, sizeof(shown));
}

/* One of the right size, with the right number of descriptors. */
static void make_message(struct fuzz_input *input, uint64_t *random)
{
	static const struct {
		uint8_t request, size, num_fds;
	} messages[] = {
		{ VHOST_USER_GET_FEATURES, 0, 0 },
		{ VHOST_USER_SET_FEATURES, 1, 0 },
		{ VHOST_USER_RESET_OWNER, 0, 0 },
		{ VHOST_USER_SET_MEM_TABLE, 6, 3 },
		{ VHOST_USER_SET_VRING_NUM, 1, 0 },
		{ VHOST_USER_SET_VRING_ADDR, 4, 0 },
		{ VHOST_USER_SET_VRING_BASE, 1, 0 },
		{ VHOST_USER_GET_VRING_BASE, 1, 0 },
		{ VHOST_USER_SET_VRING_KICK, 1, 1 },
		{ VHOST_USER_SET_VRING_CALL, 1, 1 },
		{ VHOST_USER_SET_VRING_ERR, 1, 1 },
		{ VHOST_USER_SET_VRING_ENABLE, 1, 0 },
		{ VHOST_USER_SET_BACKEND_REQ_FD, 0, 1 },
		{ VHOST_USER_GET_CONFIG, 9, 0 },
		{ VHOST_USER_SET_CONFIG, 10, 0 },
		{ VHOST_USER_GPU_SET_SOCKET, 0, 1 },
		{ VHOST_USER_RESET_DEVICE, 0, 0 },
		{ VHOST_USER_ADD_MEM_REG, 4, 1 },
		{ VHOST_USER_REM_MEM_REG, 4, 0 },
		{ VHOST_USER_GET_SHARED_OBJECT, 10, 0 },
		{ VHOST_USER_GET_SHMEM_CONFIG, 0, 0 },
	};
	static const uint8_t sizes[] = { 0, 8, 8, 8, 40, 40, 104, 72, 36, 12, 16, 1 };
	size_t which = (size_t)(next_random(random) % (sizeof(messages) / sizeof(messages[0])));

	put(input, STEP_MESSAGE);
	put(input, messages[which].request);
	put(input, messages[which].num_fds << 4 | VHOST_USER_FLAG_NEED_REPLY);
	put(input, messages[which].size);
	for (int i = 0; i < sizes[messages[which].size]; i++) {
		/* Small numbers in little-endian words, as most are. */
		put(input, i % 4 == 0 ? (unsigned int)next_random(random) % 4 : 0);
	}
	for (int i = 0; i < messages[which].num_fds; i++) {
		put(input, (unsigned int)next_random(random));
	}
}

/* It is asked for, and answered. */
static void make_mapping(struct fuzz_input *input, uint64_t *random)
{
	put(input, STEP_MAP);
	put(input, (unsigned int)next_random(random));
	put(input, STEP_REPLY);
	put(input, (unsigned int)next_random(random) % 0xf8);
}

static void make_session(struct fuzz_input *input, uint64_t *random)
{
	input->size = 0;
	for (uint8_t queue = 0; queue < 2; queue++) {
		put(input, STEP_START);
		put(input, queue | 4 << 1);
	}
	for (uint64_t left = next_random(random) % 24; left > 0; left--) {
		switch (next_random(random) % 10) {
		case 8:
			put(input, STEP_CHANNEL);
			make_mapping(input, random);
			break;
		case 9:
			make_mapping(input, random);
			break;
		case 0:
			put(input, STEP_HOLD);
			break;
		case 1:
			put(input, STEP_RELEASE);
			break;
		case 2:
			put(input, (unsigned int)next_random(random));
			put(input, (unsigned int)next_random(random));
			break;
		case 3:
			make_message(input, random);
			break;
		case 4:
			make_request(input, random);
			input->size -= 2; /* no kick yet */
			put(input, STEP_SHORTEN);
			put(input, 0);
			put(input, 0);
			break;
		default:
			make_request(input, random);
			break;
		}
	}
}

static void mutate(struct fuzz_input *input, uint64_t *random)
{
	static const uint8_t values[] = { 0, 1, 2, 4, 7, 0x0f, 0x10, 0x40, 0x7f, 0x80, 0xf1, 0xff };
	size_t at = (size_t)(next_random(random) % input->size);

	switch (next_random(random) % 4) {
	case 0:
		input->bytes[at] ^= (uint8_t)(1u << next_random(random) % 8);
		break;
	case 1:
		input->bytes[at] = (uint8_t)next_random(random);
		break;
	case 2:
		input->bytes[at] = values[next_random(random) % sizeof(values)];
		break;
	default:
		/* All that follows is read as something else. */
		memmove(input->bytes + at, input->bytes + at + 1, input->size - at - 1);
		input->size -= input->size > 1;
		break;
	}
}

int main(int argc, char **argv)
{
	static const struct fuzz_program program = {
		.name = "vhost_user",
		.runs = 2000,
		.num_changes = 8,
		.make = make_session,
		.mutate = mutate,
	};

	return fuzz_main(&program, argc, argv);
}
#endif
