/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Fuzzes the virtio-gpu device with requests on both queues, and checks what a guest may rely on:
 * each request is completed once, within its room, and fences come in the order of their timeline.
 * And what the front end may: nothing is mapped over something else, or twice, or stays. And what a
 * display may, which shows memory in place, and answers at any time, or never: its frames count.
 *
 * The program (fuzz.h) mutates made up requests and, with --traces, recorded ones.
 *
 * An input is a row of steps. A step is a byte that says what to do: for a request, a byte that
 * says how it is cut, a byte for the room of its response, 16 bits of length and that many bytes.
 */

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/virtio_gpu.h>

#include "cross_domain_protocol.h"
#include "fuzz.h"
#include "gpu_private.h"
#include "guest_memory.h"
#include "soft_gpu.h"
#include "sync_doubles.h"
#include "trace.h"

#define GUEST_ADDR 0x10000u
#define GUEST_SIZE 0x20000u
#define FENCE_PASSING_BIT 23
#define MAX_ELEMENTS 64
#define PAGE 4096u
#define WINDOW (64 * PAGE)

enum step {
	STEP_CONTROL, /* and what is not named here */
	STEP_SHOWN = 0xf1,
	STEP_RELEASED,
	STEP_LATE,
	STEP_NO_DISPLAY,
	STEP_MAPPED,
	STEP_NOT_MAPPED,
	STEP_CURSOR,
	STEP_DISPATCH,
	STEP_FEATURES,
	STEP_DRAIN,
	STEP_RESET,
	STEP_MEMORY,
	STEP_NO_MEMORY,
	STEP_SCREENSHOT,
	STEP_COMPOSITOR,
};

/* ---- The guest ------------------------------------------------------------------------------ */

struct sent {
	bool pending;
	uint64_t number; /* counts requests */
	struct virtio_gpu_ctrl_hdr header;
	bool has_header;
	struct iovec readable[MAX_ELEMENTS], writable[MAX_ELEMENTS];
	size_t num_readable, num_writable, room;
};

static struct gpu *gpu;
static struct guest_memory *memory;
static struct sent sent[GPU_NUM_QUEUES][GPU_MAX_REQUESTS];
static uint32_t next_token[GPU_NUM_QUEUES];
static uint64_t num_sent;
static uint64_t num_by_type[2]; /* completed: without and with an error */

/* The last request of each timeline whose fence has come. */
static struct timeline {
	uint32_t ctx_id;
	uint16_t ring;
	uint64_t number;
} timelines[1024];
static size_t num_timelines;

static void gather(const struct iovec *iov, size_t count, void *data, size_t size)
{
	uint8_t *to = data;

	for (size_t i = 0; i < count && size > 0; i++) {
		size_t length = iov[i].iov_len < size ? iov[i].iov_len : size;

		if (length > 0) {
			memcpy(to, iov[i].iov_base, length);
		}
		to += length;
		size -= length;
	}
}

static void check_order(const struct sent *request)
{
	bool has_ring = le32toh(request->header.flags) & VIRTIO_GPU_FLAG_INFO_RING_IDX;
	uint32_t ctx_id = has_ring ? request->header.ctx_id : 0;
	uint16_t ring = has_ring ? request->header.ring_idx : 256;
	size_t i = 0;

	while (i < num_timelines && (timelines[i].ctx_id != ctx_id || timelines[i].ring != ring)) {
		i++;
	}
	if (i == sizeof(timelines) / sizeof(timelines[0])) {
		return;
	}
	if (i == num_timelines) {
		timelines[num_timelines++] = (struct timeline){ ctx_id, ring, 0 };
	}
	CHECK(request->number > timelines[i].number);
	timelines[i].number = request->number;
}

static void check_response(const struct sent *request, uint32_t written)
{
	struct virtio_gpu_ctrl_hdr response;
	uint32_t type;

	CHECK(written <= request->room);
	if (written == 0) {
		return;
	}
	CHECK(request->has_header);
	CHECK(written >= sizeof(response));
	gather(request->writable, request->num_writable, &response, sizeof(response));
	type = le32toh(response.type);
	num_by_type[type >= VIRTIO_GPU_RESP_ERR_UNSPEC]++;
	CHECK((type >= VIRTIO_GPU_RESP_OK_NODATA && type <= VIRTIO_GPU_RESP_OK_MAP_INFO) ||
		(type >= VIRTIO_GPU_RESP_ERR_UNSPEC &&
			type <= VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER));
	if (!(le32toh(request->header.flags) & VIRTIO_GPU_FLAG_FENCE)) {
		CHECK(response.flags == 0 && response.fence_id == 0 && response.ctx_id == 0);
		return;
	}
	CHECK(le32toh(response.flags) ==
		(le32toh(request->header.flags) &
			(VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX)));
	CHECK(response.fence_id == request->header.fence_id);
	CHECK(response.ctx_id == request->header.ctx_id);
	check_order(request);
}

static void complete(void *cookie, enum gpu_queue queue, uint32_t token, uint32_t written)
{
	struct sent *request = &sent[queue][token];

	(void)cookie;
	CHECK(request->pending);
	check_response(request, written);
	for (size_t i = 0; i < request->num_readable; i++) {
		free(request->readable[i].iov_base);
	}
	for (size_t i = 0; i < request->num_writable; i++) {
		free(request->writable[i].iov_base);
	}
	request->pending = false;
}

/* ---- The window ----------------------------------------------------------------------------- */

static struct {
	bool pages[WINDOW / PAGE]; /* mapped */
	bool asked, unmaps;
	bool is_gone; /* what is to be unmapped was so in a reset */
	struct gpu_mapping question;
	uint64_t num_maps;
} window;

static int ask(const struct gpu_mapping *question, bool unmaps)
{
	CHECK(!window.asked);
	CHECK(question->size > 0 && (question->offset | question->size) % PAGE == 0);
	CHECK(question->offset < WINDOW && question->size <= WINDOW - question->offset);
	window.asked = true;
	window.unmaps = unmaps;
	window.is_gone = false;
	window.question = *question;
	return 0;
}

static int map(void *cookie, const struct gpu_mapping *mapping)
{
	(void)cookie;
	CHECK(lseek(mapping->fd, 0, SEEK_END) >=
		(off_t)(mapping->fd_offset + mapping->size - PAGE));
	window.num_maps++;
	return ask(mapping, false);
}

static int unmap(void *cookie, uint64_t offset, uint64_t size)
{
	const struct gpu_mapping question = { .offset = offset, .size = size };

	(void)cookie;
	return ask(&question, true);
}

/* An unmap never fails. */
static void answer(bool well)
{
	if (!window.asked) {
		return;
	}
	window.asked = false;
	well = (well || window.unmaps) && !window.is_gone;
	for (uint64_t at = 0; well && at < window.question.size; at += PAGE) {
		bool *page = &window.pages[(window.question.offset + at) / PAGE];

		CHECK(*page == window.unmaps);
		*page = !window.unmaps;
	}
	gpu_tell_mapped(gpu, well ? 0 : -EREMOTEIO);
}

/* The front end is about to reset the device. */
static void reset_window(void)
{
	memset(window.pages, 0, sizeof(window.pages));
	window.is_gone = window.asked && window.unmaps;
}

static void check_window_is_empty(void)
{
	while (window.asked) {
		answer(true);
	}
	for (size_t i = 0; i < WINDOW / PAGE; i++) {
		CHECK(!window.pages[i]);
	}
}

/* ---- A display ------------------------------------------------------------------------------ */

/* What it does, the number of the frame says. */
static uint64_t num_frames[VIRTIO_GPU_MAX_SCANOUTS];
static uint64_t last_key;
static uint64_t num_frames_in_all, num_offers, num_leaving;
static struct renderer_ops display_ops;

/* Any file: nothing reads it. */
static int export_nothing(
	struct renderer *renderer, uint32_t resource_id, struct renderer_dma_buf *dma_buf)
{
	(void)renderer;
	*dma_buf = (struct renderer_dma_buf){ .fd = open("/dev/null", O_RDONLY | O_CLOEXEC) };
	CHECK(dma_buf->fd >= 0);
	return resource_id % 8 == 7 ? (close(dma_buf->fd), -EIO) : 0;
}

static void scanout_changed(void *cookie, uint32_t scanout, uint32_t width, uint32_t height)
{
	(void)cookie;
	if ((width + height) % 3 == 1) {
		gpu_tell_shown(gpu, scanout, num_frames[scanout]);
		gpu_tell_released(gpu, last_key);
	}
}

static void get_buffer(uint32_t scanout)
{
	struct gpu_buffer buffer;

	if (gpu_get_scanout_buffer(gpu, scanout, &buffer) == 0) {
		CHECK(buffer.fd >= 0 && buffer.acquire_fd < 0);
		close(buffer.fd);
		last_key = buffer.key;
	}
}

static bool scanout_flushed(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint64_t frame)
{
	(void)cookie;
	CHECK(rect->width > 0 && rect->height > 0);
	CHECK(frame == ++num_frames[scanout]);
	num_frames_in_all++;
	if (frame % 2 == 0) {
		get_buffer(scanout);
	}
	if (frame % 5 < 2) {
		gpu_tell_shown(gpu, scanout, frame - frame % 5);
	}
	if (frame % 7 == 0) {
		gpu_tell_released(gpu, last_key);
	}
	return frame % 8 != 0;
}

static bool scanout_offered(void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect,
	uint64_t frame, const struct gpu_buffer *buffer)
{
	(void)cookie;
	(void)rect;
	CHECK(frame == num_frames[scanout] + 1);
	num_offers++;
	if (frame % 3 == 0) {
		return false;
	}
	num_frames[scanout]++;
	last_key = buffer->key;
	close(buffer->fd);
	close(buffer->acquire_fd);
	return true;
}

static void cursor_changed(void *cookie, uint32_t scanout, const struct gpu_cursor *cursor)
{
	(void)cookie;
	(void)scanout;
	(void)cursor;
}

static void buffer_leaving(void *cookie, uint64_t key)
{
	(void)cookie;
	num_leaving++;
	if (key % 3 != 0) {
		gpu_tell_released(gpu, key % 3 == 1 ? key : last_key);
	}
}

static void start_display(void)
{
	display_ops = *gpu->renderer->ops;
	display_ops.export_dma_buf = export_nothing;
	gpu->renderer->ops = &display_ops;
}

/* ---- A compositor --------------------------------------------------------------------------- */

/* What a guest's cross-domain contexts are connected to. */
#define MAX_PEERS 8

static char socket_directory[] = "/tmp/vgfence-fuzz-XXXXXX", socket_path[64];
static int listen_fd = -1, peers[MAX_PEERS];
static size_t num_peers;
static uint64_t num_connections, num_messages;

static void remove_directory(void)
{
	unlink(socket_path);
	rmdir(socket_directory);
}

static void listen_for_guests(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	signal(SIGPIPE, SIG_IGN);
	CHECK(mkdtemp(socket_directory) != NULL);
	snprintf(socket_path, sizeof(socket_path), "%s/wayland", socket_directory);
	atexit(remove_directory);
	memcpy(address.sun_path, socket_path, strlen(socket_path));
	listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CHECK(bind(listen_fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
	CHECK(listen(listen_fd, 64) == 0);
}

static void close_peers(void)
{
	while (num_peers > 0) {
		close(peers[--num_peers]);
	}
}

static void accept_guests(void)
{
	int peer;

	while ((peer = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		num_connections++;
		if (num_peers == MAX_PEERS) {
			close(peer);
		} else {
			peers[num_peers++] = peer;
		}
	}
}

static void receive_from(int peer)
{
	static char data[65536];
	char control[CMSG_SPACE(64 * sizeof(int))] __attribute__((aligned(8)));
	struct iovec iov = { data, sizeof(data) };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	const struct cmsghdr *header;

	if (recvmsg(peer, &message, MSG_CMSG_CLOEXEC) <= 0) {
		return;
	}
	num_messages++;
	header = CMSG_FIRSTHDR(&message);
	for (size_t i = 0; header && i < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(header) + i * sizeof(fd), sizeof(fd));
		if (i % 2 == 0 && write(fd, "paste", 5) < 0) {
			num_messages++; /* a dma-buf, or a pipe that nobody reads */
		}
		close(fd);
	}
}

/* A file, the end of a pipe to write to, a sync file, or what nobody expects. */
static int make_fd(uint32_t kind)
{
	int fds[2];

	if (kind == 0) {
		int fd = memfd_create("keymap", MFD_CLOEXEC);

		return ftruncate(fd, 5000) == 0 ? fd : -1;
	}
	if (kind == 1) {
		CHECK(pipe2(fds, O_CLOEXEC) == 0);
		close(fds[0]);
		return fds[1];
	}
	if (kind <= 3) {
		return double_sync_file(kind == 2);
	}
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static void send_to(int peer, uint32_t kind)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct iovec iov = { "event", 5 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *header = (struct cmsghdr *)control;
	int fd = -1;

	if (kind < 5) {
		fd = make_fd(kind);
		message.msg_control = control;
		message.msg_controllen = sizeof(control);
		*header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(fd)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	}
	sendmsg(peer, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (fd >= 0) {
		close(fd);
	}
}

/* It reads, says something, or goes. */
static void compositor(uint32_t what)
{
	accept_guests();
	if (num_peers == 0) {
		return;
	}
	if (what % 16 == 15) {
		close(peers[--num_peers]);
		return;
	}
	receive_from(peers[what / 16 % num_peers]);
	send_to(peers[what / 16 % num_peers], what % 16);
}

/* ---- Start ---------------------------------------------------------------------------------- */

static void start(void)
{
	const struct gpu_callbacks callbacks = {
		.complete = complete,
		.scanout_changed = scanout_changed,
		.scanout_flushed = scanout_flushed,
		.scanout_offered = scanout_offered,
		.cursor_changed = cursor_changed,
		.buffer_leaving = buffer_leaving,
		.map = map,
		.unmap = unmap,
	};
	const struct gpu_options options = {
		.num_scanouts = 2,
		.width = 640,
		.height = 480,
		.fence_passing_bit = FENCE_PASSING_BIT,
		.hostmem_size = WINDOW,
		.display_ceiling_ms = 1,
		.wayland_socket = socket_path,
	};
	const struct guest_region region = {
		.guest_addr = GUEST_ADDR,
		.size = GUEST_SIZE,
		.user_addr = GUEST_ADDR,
	};
	int fd;

	listen_for_guests();
	fd = memfd_create("guest", MFD_CLOEXEC);

	CHECK(fd >= 0 && ftruncate(fd, GUEST_SIZE) == 0);
	CHECK(guest_memory_create(&region, &fd, 1, NULL, &memory) == 0);
	close(fd);
	CHECK(gpu_create(&callbacks, NULL, &options, renderer_soft_create, &gpu) == 0);
	start_display();
}

/* ---- One input ------------------------------------------------------------------------------ */

/* Each element gets memory of its own and of its exact size, so that a sanitizer sees an access
 * past it. */
static size_t cut(const uint8_t *data, size_t size, size_t piece, struct iovec *iov)
{
	size_t count = 0;

	if (piece == 0 || piece * MAX_ELEMENTS < size) {
		piece = size;
	}
	while (size > 0) {
		size_t length = size < piece ? size : piece;

		iov[count] = (struct iovec){ malloc(length), length };
		CHECK(iov[count].iov_base != NULL);
		if (data != NULL) {
			memcpy(iov[count].iov_base, data, length);
			data += length;
		}
		size -= length;
		count++;
	}
	return count;
}

static void send_request(
	enum gpu_queue queue, const uint8_t *data, size_t size, uint8_t piece, size_t room)
{
	uint32_t token = next_token[queue];
	struct sent *request = &sent[queue][token];
	struct gpu_request gpu_request = { .queue = queue, .token = token };

	if (request->pending) {
		return; /* a full queue */
	}
	next_token[queue] = (token + 1) % GPU_MAX_REQUESTS;
	request->pending = true;
	request->number = ++num_sent;
	request->room = room;
	request->has_header = size >= sizeof(request->header);
	if (request->has_header) {
		memcpy(&request->header, data, sizeof(request->header));
	}
	request->num_readable = cut(data, size, piece, request->readable);
	request->num_writable = cut(NULL, room, piece, request->writable);
	gpu_request.readable = request->readable;
	gpu_request.num_readable = request->num_readable;
	gpu_request.writable = request->writable;
	gpu_request.num_writable = request->num_writable;
	gpu_handle(gpu, &gpu_request);
}

static void reset(void)
{
	gpu_reset(gpu);
	for (size_t queue = 0; queue < GPU_NUM_QUEUES; queue++) {
		for (size_t token = 0; token < GPU_MAX_REQUESTS; token++) {
			CHECK(!sent[queue][token].pending);
		}
	}
}

struct input {
	const uint8_t *at;
	size_t left;
};

static uint32_t take(struct input *input, unsigned int size)
{
	uint32_t value = 0;

	for (unsigned int i = 0; i < size && input->left > 0; i++) {
		value |= (uint32_t)*input->at++ << (8 * i);
		input->left--;
	}
	return value;
}

static void run_request(struct input *input, enum gpu_queue queue)
{
	static const uint16_t rooms[] = { 24, 0, 23, 40, 48, 408, 1056, 2000 };
	uint8_t piece = (uint8_t)take(input, 1);
	size_t room = rooms[take(input, 1) % 8];
	size_t size = take(input, 2);

	if (size > input->left) {
		size = input->left;
	}
	send_request(queue, input->at, size, piece, room);
	input->at += size;
	input->left -= size;
}

static void run_step(struct input *input)
{
	uint8_t step = (uint8_t)take(input, 1);

	switch (step) {
	case STEP_SHOWN:
		gpu_tell_shown(gpu, take(input, 1) % 4, take(input, 1));
		return;
	case STEP_RELEASED:
		gpu_tell_released(gpu, last_key - take(input, 1) % 4);
		return;
	case STEP_LATE:
		gpu_timeout(gpu, -1);
		return;
	case STEP_NO_DISPLAY:
		gpu_forget_display(gpu);
		return;
	case STEP_MAPPED:
	case STEP_NOT_MAPPED:
		answer(step == STEP_MAPPED);
		return;
	case STEP_CURSOR:
		run_request(input, GPU_QUEUE_CURSOR);
		return;
	case STEP_DISPATCH:
		gpu_dispatch(gpu);
		return;
	case STEP_FEATURES:
		gpu_set_features(gpu, take(input, 3));
		return;
	case STEP_DRAIN:
		gpu_drain(gpu, 0, -1);
		return;
	case STEP_RESET:
		reset_window();
		reset();
		return;
	case STEP_MEMORY:
		gpu_set_memory(gpu, memory);
		return;
	case STEP_NO_MEMORY:
		gpu_set_memory(gpu, NULL);
		return;
	case STEP_SCREENSHOT:
		gpu_screenshot(gpu, take(input, 1), "/dev/null/x", NULL);
		return;
	case STEP_COMPOSITOR:
		compositor(take(input, 1));
		return;
	default:
		run_request(input, GPU_QUEUE_CONTROL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size };

	if (gpu == NULL) {
		start();
	}
	gpu_set_features(gpu, gpu_get_features(gpu));
	gpu_set_memory(gpu, memory);
	num_timelines = 0;
	while (input.left > 0) {
		run_step(&input);
	}
	gpu_dispatch(gpu);
	reset_window();
	reset();
	check_window_is_empty();
	accept_guests();
	close_peers();
	return 0;
}

/* ---- The program ---------------------------------------------------------------------------- */

#ifndef LIBFUZZER

#define MAX_TRACES 32

static struct trace traces[MAX_TRACES];
static size_t num_traces;

static void put(struct fuzz_input *output, uint64_t value, unsigned int size)
{
	for (unsigned int i = 0; i < size && output->size < FUZZ_MAX_INPUT; i++) {
		output->bytes[output->size++] = (uint8_t)(value >> (8 * i));
	}
}

static void put_request(struct fuzz_input *output, enum step step, uint64_t *random,
	const uint8_t *data, size_t size)
{
	if (output->size + 5 + size > FUZZ_MAX_INPUT) {
		return;
	}
	put(output, step, 1);
	put(output, random_below(random, 4) == 0 ? 1 + random_below(random, 40) : 0, 1);
	put(output, random_below(random, 2) == 0 ? 7 : random_below(random, 8), 1);
	put(output, size, 2);
	memcpy(output->bytes + output->size, data, size);
	output->size += size;
}

static void put32(uint8_t *to, uint32_t value)
{
	value = htole32(value);
	memcpy(to, &value, sizeof(value));
}

/* Numbers that are likely to mean something, somewhere. */
static uint32_t likely(uint64_t *random)
{
	static const uint32_t values[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 24, 64, 256, 4096, 16384,
		65536, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff, GUEST_ADDR,
		GUEST_ADDR + GUEST_SIZE - 1, GUEST_SIZE };
	const uint32_t count = sizeof(values) / sizeof(values[0]);

	/* Small ones more often: they are IDs. */
	return values[random_below(random, random_below(random, 3) == 0 ? count : 5)];
}

/* A header and words that are likely to mean something, and guest memory in the place of
 * entries. */
static void make_request(struct fuzz_input *output, uint64_t *random, uint64_t *fence_id)
{
	static const struct {
		uint16_t type;
		uint8_t words;
	} commands[] = { { 0x100, 0 }, { 0x101, 4 }, { 0x102, 2 }, { 0x103, 6 }, { 0x104, 6 },
		{ 0x105, 8 }, { 0x106, 2 }, { 0x107, 2 }, { 0x108, 2 }, { 0x109, 2 }, { 0x10a, 2 },
		{ 0x10b, 2 }, { 0x10c, 8 }, { 0x10d, 18 }, { 0x200, 18 }, { 0x201, 0 },
		{ 0x202, 2 }, { 0x203, 2 }, { 0x204, 12 }, { 0x205, 12 }, { 0x206, 12 },
		{ 0x207, 2 }, { 0x208, 4 }, { 0x209, 2 }, { 0x300, 8 }, { 0x301, 8 } };
	uint32_t index = random_below(random, sizeof(commands) / sizeof(commands[0]));
	uint8_t bytes[24 + 18 * 4 + 4 * 16] = { 0 };
	size_t size = 24 + 4u * commands[index].words;

	put32(bytes, commands[index].type);
	put32(bytes + 4, random_below(random, 8));
	*fence_id += random_below(random, 8) > 0;
	put32(bytes + 8, random_below(random, 8) > 0 ? (uint32_t)*fence_id : likely(random));
	put32(bytes + 16, random_below(random, 4));
	bytes[20] = (uint8_t)random_below(random, random_below(random, 8) == 0 ? 70 : 2);
	for (size_t at = 24; at < size; at += 4) {
		put32(bytes + at, likely(random));
	}
	if (commands[index].type == 0x10c) {
		put32(bytes + 28, 1 + random_below(random, 3));
		put32(bytes + 52, 0); /* the upper half of the size */
	}
	if (commands[index].type == 0x101) {
		put32(bytes + 28, 1 + random_below(random, 4));
	}
	for (uint32_t i = random_below(random, 5); i > 0; i--, size += 16) {
		put32(bytes + size, GUEST_ADDR + likely(random) % GUEST_SIZE);
		put32(bytes + size + 8, likely(random) % 8192);
	}
	put_request(output, commands[index].type >= 0x300 ? STEP_CURSOR : STEP_CONTROL, random,
		bytes, size);
}

/* The resource is on a scanout, at 16 by 16. */
static void put_scanout(struct fuzz_input *output, uint64_t *random, uint32_t id)
{
	uint8_t bytes[96] = { 0 };

	put32(bytes, 0x10d);
	put32(bytes + 32, 16);
	put32(bytes + 36, 16);
	put32(bytes + 40, id - 1);
	put32(bytes + 44, id);
	put32(bytes + 48, 16);
	put32(bytes + 52, 16);
	put32(bytes + 56, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM);
	put32(bytes + 64, 64);
	put_request(output, STEP_CONTROL, random, bytes, sizeof(bytes));
}

/* Two contexts that have a resource each, so that what follows finds something. */
static void make_preamble(struct fuzz_input *output, uint64_t *random)
{
	for (uint32_t id = 1; id < 3; id++) {
		uint8_t bytes[24 + 72] = { 0 };

		put32(bytes, 0x200);
		put32(bytes + 16, id);
		put_request(output, STEP_CONTROL, random, bytes, sizeof(bytes));
		memset(bytes, 0, sizeof(bytes));
		put32(bytes, 0x10c);
		put32(bytes + 24, id);
		put32(bytes + 28, 1);
		put32(bytes + 36, 1);
		put32(bytes + 48, 4096);
		put32(bytes + 56, GUEST_ADDR + id * 4096);
		put32(bytes + 64, 4096);
		put_request(output, STEP_CONTROL, random, bytes, 72);
		put_scanout(output, random, id);
		memset(bytes, 0, sizeof(bytes));
		put32(bytes, 0x202);
		put32(bytes + 16, id);
		put32(bytes + 24, id);
		put_request(output, STEP_CONTROL, random, bytes, 32);
	}
}

/* A blob of the host's memory is made, mapped, unmapped or ended. */
static void make_mapping(struct fuzz_input *output, uint64_t *random, uint64_t *fence_id)
{
	static const uint16_t types[] = { 0x10c, 0x10c, 0x208, 0x208, 0x208, 0x209, 0x102 };
	uint8_t bytes[24 + 32] = { 0 };
	uint32_t type = types[random_below(random, sizeof(types) / sizeof(types[0]))];

	put32(bytes, type);
	if (random_below(random, 4) == 0) {
		*fence_id += 1;
		put32(bytes + 4, 1);
		put32(bytes + 8, (uint32_t)*fence_id);
	}
	put32(bytes + 24, 3 + random_below(random, 4));
	if (type == 0x10c) {
		put32(bytes + 28, 2);
		put32(bytes + 32, 1 + random_below(random, 4) * 2);
		put32(bytes + 48, (1 + random_below(random, 3)) * PAGE - random_below(random, 2));
	} else if (type == 0x208) {
		put32(bytes + 32, random_below(random, 8) * PAGE);
	}
	put_request(output, STEP_CONTROL, random, bytes, sizeof(bytes));
	put(output, STEP_MAPPED + (random_below(random, 4) == 0), random_below(random, 3) > 0);
}

/* A command that binds or works, at one of a few pages. */
static uint8_t *put_command(uint8_t *at, uint64_t *random, bool binds)
{
	uint32_t unit = binds ? SOFT_GPU_PAGE : sizeof(uint32_t);
	const uint32_t pairs[][2] = {
		{ SOFT_GPU_RESOURCE, 1 + random_below(random, 6) },
		{ SOFT_GPU_OFFSET, random_below(random, 3) / 2 * SOFT_GPU_PAGE },
		{ SOFT_GPU_ADDRESS, random_below(random, 6) * SOFT_GPU_PAGE },
		{ SOFT_GPU_SOURCE, random_below(random, 6) * SOFT_GPU_PAGE },
		{ SOFT_GPU_VALUE, likely(random) },
		{ (binds ? SOFT_GPU_MAP : SOFT_GPU_FILL) + random_below(random, 3),
			random_below(random, 16) == 0 ? likely(random) :
							(1 + random_below(random, 3)) * unit },
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++, at += 8) {
		put32(at, pairs[i][0]);
		put32(at + 4, pairs[i][1]);
	}
	return at;
}

/* A context gets any of the resources. */
static void put_attachment(struct fuzz_input *output, uint64_t *random)
{
	uint8_t bytes[32] = { 0 };

	put32(bytes, 0x202);
	put32(bytes + 16, 1 + random_below(random, 2));
	put32(bytes + 24, 1 + random_below(random, 6));
	put_request(output, STEP_CONTROL, random, bytes, sizeof(bytes));
}

/* A submission that binds, or that works at addresses: mostly one of the two. */
static void make_bind(struct fuzz_input *output, uint64_t *random, uint64_t *fence_id)
{
	uint8_t bytes[32 + 8 + 4 * 6 * 8] = { 0 };
	uint32_t count = 1 + random_below(random, 4);
	bool binds = random_below(random, 3) > 0;
	uint8_t *at = bytes + 32;

	if (random_below(random, 2) == 0) {
		put_attachment(output, random);
	}
	*fence_id += 1;
	put32(bytes, 0x207);
	put32(bytes + 4, random_below(random, 4) == 0 ? 2 : 7); /* now and then without a fence */
	put32(bytes + 8, (uint32_t)*fence_id);
	put32(bytes + 16, 1 + random_below(random, 2));
	bytes[20] = (uint8_t)random_below(random, 3);
	put32(bytes + 28, random_below(random, 2));
	if (bytes[28] > 0) {
		put32(at, random_below(random, (uint32_t)*fence_id));
		at += 8;
	}
	put32(bytes + 24, count * 6 * 8);
	for (uint32_t i = 0; i < count; i++) {
		at = put_command(at, random, random_below(random, 16) == 0 ? !binds : binds);
	}
	put_request(output, STEP_CONTROL, random, bytes, (size_t)(at - bytes));
}

#define CROSS_CONTEXT 3
#define QUERY_RING 20
#define CHANNEL_RING 21

static void put_blob(
	struct fuzz_input *output, uint64_t *random, uint32_t ctx_id, uint32_t id, uint32_t blob_id)
{
	uint8_t bytes[24 + 32 + 16] = { 0 };

	put32(bytes, 0x10c);
	put32(bytes + 16, ctx_id);
	put32(bytes + 24, id);
	put32(bytes + 28, blob_id != 0 ? 2 : 1);
	put32(bytes + 32, 1);
	put32(bytes + 36, blob_id == 0);
	put32(bytes + 40, blob_id);
	put32(bytes + 48, blob_id % 2 == 0 ? PAGE : 2 * PAGE);
	put32(bytes + 56, GUEST_ADDR + (id % 8) * PAGE);
	put32(bytes + 64, PAGE);
	put_request(output, STEP_CONTROL, random, bytes, blob_id != 0 ? 56 : sizeof(bytes));
}

static void put_attach(struct fuzz_input *output, uint64_t *random, uint32_t id)
{
	uint8_t bytes[32] = { 0 };

	put32(bytes, 0x202);
	put32(bytes + 16, CROSS_CONTEXT);
	put32(bytes + 24, id);
	put_request(output, STEP_CONTROL, random, bytes, sizeof(bytes));
}

/* A command in a submission of its own, now and then with an in-fence. */
static void put_cross_command(struct fuzz_input *output, uint64_t *random, uint64_t *fence_id,
	const void *command, size_t size)
{
	uint8_t bytes[1024] = { 0 };
	size_t at = 32;
	uint8_t type;

	memcpy(&type, command, sizeof(type));
	put32(bytes, 0x207);
	if (type == CROSS_DOMAIN_POLL || random_below(random, 2) == 0) {
		*fence_id += 1;
		put32(bytes + 4, 3);
		put32(bytes + 8, (uint32_t)*fence_id);
		bytes[20] = (uint8_t)(type == CROSS_DOMAIN_POLL ? 1 : random_below(random, 3));
	}
	put32(bytes + 16, CROSS_CONTEXT);
	put32(bytes + 24, (uint32_t)size);
	if (random_below(random, 4) == 0) {
		put32(bytes + 28, 1);
		put32(bytes + at, random_below(random, (uint32_t)*fence_id + 1));
		at += 8;
	}
	memcpy(bytes + at, command, size);
	put_request(output, STEP_CONTROL, random, bytes, at + size);
}

static void put_init(struct fuzz_input *output, uint64_t *random, uint64_t *fence_id)
{
	const struct cross_domain_init init = {
		.header = { .command = CROSS_DOMAIN_INIT, .size = htole16(sizeof(init)) },
		.query_ring = htole32(QUERY_RING),
		.channel_ring = htole32(CHANNEL_RING),
		.channel_type = htole32(CROSS_DOMAIN_WAYLAND),
	};

	put_cross_command(output, random, fence_id, &init, sizeof(init));
}

/* A context with rings, and a channel. */
static void make_cross_preamble(struct fuzz_input *output, uint64_t *random, uint64_t *fence_id)
{
	uint8_t bytes[24 + 72] = { 0 };

	put32(bytes, 0x200);
	put32(bytes + 16, CROSS_CONTEXT);
	put32(bytes + 28, CAPSET_CROSS_DOMAIN);
	put_request(output, STEP_CONTROL, random, bytes, sizeof(bytes));
	for (uint32_t id = QUERY_RING; id <= CHANNEL_RING; id++) {
		put_blob(output, random, CROSS_CONTEXT, id, 0);
		put_attach(output, random, id);
	}
	put_init(output, random, fence_id);
}

static void make_send(struct fuzz_input *output, uint64_t *random, uint64_t *fence_id)
{
	struct {
		struct cross_domain_send_receive send;
		char data[32];
	} all = { .send.header.command = CROSS_DOMAIN_SEND };
	uint32_t count = random_below(random, 3), size = 1 + random_below(random, 32);

	all.send.header.size = htole16((uint16_t)(sizeof(all.send) + size));
	all.send.num_identifiers = htole32(count);
	all.send.data_size = htole32(size);
	for (uint32_t i = 0; i < count; i++) {
		bool is_pipe = random_below(random, 3) == 0;

		uint32_t type = is_pipe ? CROSS_DOMAIN_ID_READ_PIPE : random_below(random, 7);

		type = type == 6 ? CROSS_DOMAIN_ID_FENCED_BLOB : type;
		all.send.identifier_types[i] = htole32(type);
		all.send.identifiers[i] = htole32(is_pipe ?
				CROSS_DOMAIN_FIRST_READ_PIPE + random_below(random, 8) :
				type == CROSS_DOMAIN_ID_SYNC ? random_below(random, 8) == 0 :
							       20 + random_below(random, 8));
	}
	put_cross_command(output, random, fence_id, &all, sizeof(all.send) + size);
}

static void make_write(struct fuzz_input *output, uint64_t *random, uint64_t *fence_id)
{
	struct {
		struct cross_domain_read_write write;
		char data[16];
	} all = { .write.header.command = CROSS_DOMAIN_WRITE };
	uint32_t size = random_below(random, 17);

	all.write.header.size = htole16((uint16_t)(sizeof(all.write) + size));
	all.write.identifier = htole32(3 + random_below(random, 4));
	all.write.hang_up = htole32(random_below(random, 4) == 0);
	all.write.data_size = htole32(size);
	put_cross_command(output, random, fence_id, &all, sizeof(all.write) + size);
}

static void make_wait(struct fuzz_input *output, uint64_t *random, uint64_t *fence_id)
{
	bool is_blob = random_below(random, 3) == 0;
	const struct cross_domain_wait_fence wait = {
		.header = { .command = CROSS_DOMAIN_WAIT_FENCE, .size = htole16(sizeof(wait)) },
		.identifier_type = htole32(is_blob ? CROSS_DOMAIN_ID_BLOB : CROSS_DOMAIN_ID_SYNC),
		.identifier = htole32(
			is_blob ? 20 + random_below(random, 8) : 3 + 2 * random_below(random, 4)),
	};

	put_cross_command(output, random, fence_id, &wait, sizeof(wait));
}

static void make_image(struct fuzz_input *output, uint64_t *random, uint64_t *fence_id)
{
	const struct cross_domain_get_image_requirements image = {
		.header = { .command = CROSS_DOMAIN_GET_IMAGE_REQUIREMENTS,
			.size = htole16(sizeof(image)) },
		.width = htole32(likely(random)),
		.height = htole32(likely(random)),
		.drm_format = htole32(0x34325258),
	};

	put_cross_command(output, random, fence_id, &image, sizeof(image));
}

static void make_cross(struct fuzz_input *output, uint64_t *random, uint64_t *fence_id)
{
	const struct cross_domain_header poll = { .command = CROSS_DOMAIN_POLL,
		.size = htole16(sizeof(poll)) };
	uint32_t id = 20 + random_below(random, 8);

	switch (random_below(random, 9)) {
	case 0:
	case 1:
		make_send(output, random, fence_id);
		break;
	case 2:
	case 3:
		put_cross_command(output, random, fence_id, &poll, sizeof(poll));
		break;
	case 4:
		make_write(output, random, fence_id);
		break;
	case 5:
		make_image(output, random, fence_id);
		break;
	case 7:
		make_wait(output, random, fence_id);
		break;
	case 6:
		put_blob(output, random, CROSS_CONTEXT, id, random_below(random, 6));
		put_attach(output, random, id);
		break;
	default:
		put_init(output, random, fence_id);
		break;
	}
	put(output, STEP_COMPOSITOR, 1);
	put(output, random_below(random, 256), 1);
	if (random_below(random, 2) == 0) {
		put(output, STEP_DISPATCH, 1);
	}
}

/* A submission whose job writes into a resource. */
static void make_job(struct fuzz_input *output, uint64_t *random, uint64_t *fence_id)
{
	static const uint32_t operations[] = { SOFT_GPU_BUSY, SOFT_GPU_RESOURCE, SOFT_GPU_OFFSET,
		SOFT_GPU_STORE };
	uint8_t bytes[32 + 8 * 4 + 8 * 4] = { 0 };
	uint32_t num_in_fences = random_below(random, 5);
	uint8_t *at = bytes + 32;

	*fence_id += 1;
	put32(bytes, 0x207);
	put32(bytes + 4, 3 | random_below(random, 2) << 2);
	put32(bytes + 8, (uint32_t)*fence_id);
	put32(bytes + 16, 1 + random_below(random, 2));
	bytes[20] = (uint8_t)random_below(random, 2);
	put32(bytes + 24, 32);
	put32(bytes + 28, num_in_fences);
	for (uint32_t i = 0; i < num_in_fences; i++, at += 8) {
		put32(at, random_below(random, (uint32_t)*fence_id + 1));
	}
	for (uint32_t i = 0; i < 4; i++, at += 8) {
		put32(at, operations[i]);
		put32(at + 4, i == 0 ? random_below(random, 100) : likely(random));
	}
	put_request(output, STEP_CONTROL, random, bytes, (size_t)(at - bytes));
}

/* A flush that waits for fences of jobs, now and then with a fence of its own. */
static void make_flush(struct fuzz_input *output, uint64_t *random, uint64_t *fence_id)
{
	uint8_t bytes[48 + 8 * 8] = { 0 };
	uint32_t num_in_fences = random_below(random, 8);

	put32(bytes, 0x104);
	if (random_below(random, 2) == 0) {
		*fence_id += 1;
		put32(bytes + 4, 1 | random_below(random, 4) << 1);
		put32(bytes + 8, (uint32_t)*fence_id);
		put32(bytes + 16, random_below(random, 3));
	}
	put32(bytes + 32, random_below(random, 20));
	put32(bytes + 36, 16);
	put32(bytes + 40, 1 + random_below(random, 2));
	put32(bytes + 44, random_below(random, 16) > 0 ? num_in_fences : likely(random));
	for (uint32_t i = 0; i < num_in_fences; i++) {
		put32(bytes + 48 + 8u * i,
			(uint32_t)*fence_id - random_below(random, (uint32_t)*fence_id % 8 + 1));
	}
	put_request(output, STEP_CONTROL, random, bytes, 48 + 8u * num_in_fences);
}

/* The beginning of a recording, which makes contexts, and a part further on. */
static void take_recorded(struct fuzz_input *output, uint64_t *random)
{
	const struct trace *trace = &traces[random_below(random, (uint32_t)num_traces)];
	size_t first = random_below(random, (uint32_t)trace->num_records);

	for (size_t i = 0; i < trace->num_records; i++) {
		const struct trace_record *record = &trace->records[i];

		if (record->kind == TRACE_REQUEST && (i < 20 || (i >= first && i < first + 40))) {
			put_request(output, STEP_CONTROL, random, record->data, record->size);
		}
	}
}

static void make_input(struct fuzz_input *output, uint64_t *random)
{
	uint64_t fence_id = 0;

	if (num_traces > 0 && random_below(random, 2) == 0) {
		take_recorded(output, random);
		return;
	}
	if (random_below(random, 2) == 0) {
		make_cross_preamble(output, random, &fence_id);
		for (uint32_t i = random_below(random, 40); i > 0; i--) {
			make_cross(output, random, &fence_id);
		}
	}
	make_preamble(output, random);
	for (uint32_t i = random_below(random, 60); i > 0; i--) {
		switch (random_below(random, 9)) {
		case 6:
		case 7:
		case 8:
			make_bind(output, random, &fence_id);
			break;
		case 4:
		case 5:
			make_mapping(output, random, &fence_id);
			break;
		case 0:
		case 1:
			make_job(output, random, &fence_id);
			break;
		case 2:
			make_flush(output, random, &fence_id);
			break;
		default:
			make_request(output, random, &fence_id);
			break;
		}
		if (random_below(random, 8) == 0) {
			put(output, STEP_SHOWN + random_below(random, 15), 1);
		}
	}
}

static void mutate(struct fuzz_input *output, uint64_t *random)
{
	uint32_t size = (uint32_t)output->size;
	uint32_t at = random_below(random, size);

	switch (random_below(random, 4)) {
	case 0:
		output->bytes[at] ^= (uint8_t)(1u << random_below(random, 8));
		break;
	case 1:
		output->bytes[at] = (uint8_t)next_random(random);
		break;
	case 2:
		if (at + 4 <= size) {
			put32(output->bytes + at, likely(random));
		}
		break;
	default:
		memmove(output->bytes + at, output->bytes + at + 1, size - at - 1);
		output->size--;
		break;
	}
}

static void load_traces(const char *directory)
{
	static const char *const names[] = { "chain", "frames", "storm", "syncobj", "teardown" };

	for (size_t i = 0; i < 2 * sizeof(names) / sizeof(names[0]); i++) {
		struct trace_error error;
		char path[4096];

		snprintf(path, sizeof(path), "%s/%s-%s.vgtrace", directory, names[i / 2],
			i % 2 ? "passing" : "guestwait");
		if (trace_load(&traces[num_traces], path, &error) == 0) {
			num_traces++;
		}
	}
	CHECK(num_traces > 0);
}

static void end_test(void)
{
	gpu_destroy(gpu);
	guest_memory_unref(memory);
	close(listen_fd);
	for (size_t i = 0; i < num_traces; i++) {
		trace_finish(&traces[i]);
	}
}

int main(int argc, char **argv)
{
	static const struct fuzz_program program = {
		.name = "control_queue",
		.runs = 3000,
		.num_changes = 12,
		.make = make_input,
		.mutate = mutate,
		.load_traces = load_traces,
	};
	int status = fuzz_main(&program, argc, argv);
	struct gpu_stats stats;

	if (gpu == NULL) { /* inputs were written, and none was run */
		return status;
	}
	printf("%" PRIu64 " requests, %" PRIu64 " answered well, %" PRIu64 " with an error\n",
		num_sent, num_by_type[0], num_by_type[1]);
	gpu_get_stats(gpu, &stats);
	printf("%" PRIu64 " flushes, %" PRIu64 " in-fences of them, %" PRIu64 " were held\n",
		stats.flushes, stats.flush_in_fences, stats.flushes_held);
	printf("%" PRIu64 " frames, %" PRIu64 " offered, %" PRIu64
	       " flushes waited for them; %" PRIu64 " buffers left\n",
		num_frames_in_all, num_offers, stats.flushes_shown + stats.flushes_given_up,
		num_leaving);
	printf("%" PRIu64 " maps asked for, %" PRIu64 " done\n", window.num_maps, stats.maps);
	printf("%" PRIu64 " connections to the compositor, %" PRIu64 " messages\n", num_connections,
		num_messages);
	end_test();
	return status;
}
#endif
