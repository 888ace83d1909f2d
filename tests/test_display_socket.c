/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a front end with a display is sent about scanouts and the cursor, and how little of it is
 * kept if it does not read. */

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "alloc.h"
#include "support.h"

#include "display_socket.h"
#include "gpu.h"

enum {
	GET_PROTOCOL_FEATURES = 1,
	SET_PROTOCOL_FEATURES = 2,
	GET_DISPLAY_INFO = 3,
	CURSOR_POS = 4,
	CURSOR_POS_HIDE = 5,
	CURSOR_UPDATE = 6,
	SCANOUT = 7,
	UPDATE = 8,
	DMABUF_UPDATE = 10,
	GET_EDID = 11,
	DMABUF_SCANOUT2 = 12,
};

#define FORMAT 0x34325258u /* DRM_FORMAT_XRGB8888 */
#define MODIFIER UINT64_C(0x0123456789abcdef)
#define MAX_KEYS 8

struct fixture {
	struct display_socket *display;
	int front_end;
	uint32_t color; /* what the scanouts show */
	bool leave_pixels;
	unsigned int num_reads;
	int read_status;

	unsigned int num_answers;
	bool answered;                         /* the last time, with something */
	struct virtio_gpu_display_one monitor; /* the second one */
	uint32_t edid_size;
	uint8_t edid_byte; /* the last one */

	/* What is shown as dma-bufs, or as files that stand for them. */
	int buffer_error;
	struct gpu_buffer buffer; /* of a scanout of any size: with what it shows in its file */
	bool is_held[MAX_KEYS];   /* by key */
	unsigned int num_released;
	uint64_t shown_frame[VIRTIO_GPU_MAX_SCANOUTS];
};

static int read_color(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint32_t *pixels)
{
	struct fixture *fixture = cookie;

	(void)scanout;
	fixture->num_reads++;
	for (size_t i = 0; !fixture->leave_pixels && i < (size_t)rect->width * rect->height; i++) {
		pixels[i] = fixture->color;
	}
	return fixture->read_status;
}

static void note_monitors(void *cookie, const struct virtio_gpu_display_one *monitors)
{
	struct fixture *fixture = cookie;

	fixture->num_answers++;
	fixture->answered = monitors != NULL;
	if (monitors) {
		fixture->monitor = monitors[1];
	}
}

static void note_edid(void *cookie, const uint8_t *edid, uint32_t size)
{
	struct fixture *fixture = cookie;

	fixture->num_answers++;
	fixture->answered = edid != NULL;
	fixture->edid_size = size;
	fixture->edid_byte = edid ? edid[size - 1] : 0;
}

/* A file with the buffer's key in its first word. */
static int get_buffer(void *cookie, uint32_t scanout, struct gpu_buffer *out)
{
	struct fixture *fixture = cookie;

	(void)scanout;
	if (fixture->buffer_error < 0) {
		return fixture->buffer_error;
	}
	*out = fixture->buffer;
	out->fd = memfd_create("buffer", MFD_CLOEXEC);
	assert_true(out->fd >= 0);
	assert_int_equal(write(out->fd, &out->key, sizeof(out->key)), sizeof(out->key));
	fixture->is_held[out->key] = true;
	return 0;
}

static void note_released(void *cookie, uint64_t key)
{
	struct fixture *fixture = cookie;

	assert_in_range(key, 1, MAX_KEYS - 1);
	fixture->num_released += fixture->is_held[key];
	fixture->is_held[key] = false;
}

static void note_shown(void *cookie, uint32_t scanout, uint64_t frame)
{
	struct fixture *fixture = cookie;

	assert_true(frame >= fixture->shown_frame[scanout]);
	fixture->shown_frame[scanout] = frame;
}

static struct fixture *fixture_create_with(const struct display_socket_ops *ops)
{
	uint32_t hello[3];
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	int fds[2];

	assert_non_null(fixture);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	fixture->front_end = fds[0];
	assert_int_equal(display_socket_create_take(fds[1], ops, fixture, &fixture->display), 0);
	assert_int_equal(display_socket_dispatch(fixture->display), 0);
	assert_int_equal(recv(fixture->front_end, hello, sizeof(hello), 0), sizeof(hello));
	assert_int_equal(hello[0], GET_PROTOCOL_FEATURES);
	assert_int_equal(hello[2], 0);
	return fixture;
}

static struct fixture *fixture_create(void)
{
	static const struct display_socket_ops ops = {
		.read = read_color,
		.monitors = note_monitors,
		.edid = note_edid,
	};

	return fixture_create_with(&ops);
}

static void fixture_destroy(struct fixture *fixture)
{
	display_socket_destroy(fixture->display);
	close(fixture->front_end);
	free(fixture);
}

#define TEST_DISPLAY(name)                                                                         \
	TEST_WITH(name, struct fixture *, fixture, fixture_create(), fixture_destroy(fixture))

/* The next message, as words: its request is checked, its payload is returned. The device goes on
 * sending meanwhile. NULL if nothing is left. */
static uint32_t *receive(struct fixture *fixture, uint32_t request, uint32_t *size)
{
	uint32_t header[3], *payload;
	size_t received = 0;

	display_socket_dispatch(fixture->display);
	if (recv(fixture->front_end, header, sizeof(header), MSG_DONTWAIT) !=
		(ssize_t)sizeof(header)) {
		return NULL;
	}
	assert_int_equal(header[0], request);
	assert_int_equal(header[1], 0);
	payload = malloc(header[2]);
	assert_non_null(payload);
	while (received < header[2]) {
		ssize_t n = recv(fixture->front_end, (char *)payload + received,
			header[2] - received, MSG_DONTWAIT);

		received += n > 0 ? (size_t)n : 0;
		display_socket_dispatch(fixture->display);
	}
	*size = header[2];
	return payload;
}

static void assert_no_message(struct fixture *fixture)
{
	char byte;

	display_socket_dispatch(fixture->display);
	assert_int_equal(recv(fixture->front_end, &byte, 1, MSG_DONTWAIT), -1);
}

static void expect_words(struct fixture *fixture, uint32_t request, const uint32_t *words, size_t n)
{
	uint32_t size, *payload = receive(fixture, request, &size);

	assert_non_null(payload);
	assert_true(size >= n * sizeof(*words));
	assert_memory_equal(payload, words, n * sizeof(*words));
	free(payload);
}

#define EXPECT(fixture, request, ...)                                                              \
	expect_words(fixture, request, (const uint32_t[]){ __VA_ARGS__ },                          \
		sizeof((const uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t))

static void update(struct fixture *fixture, uint32_t x, uint32_t y, uint32_t w, uint32_t h)
{
	const struct virtio_gpu_rect rect = { .x = x, .y = y, .width = w, .height = h };

	display_socket_update(fixture->display, 0, &rect, 1);
}

/* ---- Scanouts ----------------------------------------------------------------------------- */

TEST_DISPLAY(tells_the_size_then_the_pixels)
{
	fixture->color = 0x112233;
	display_socket_set_scanout(fixture->display, 0, 4, 2);
	update(fixture, 0, 0, 4, 2);
	EXPECT(fixture, SCANOUT, 0, 4, 2);
	EXPECT(fixture, UPDATE, 0, 0, 0, 4, 2, 0x112233, 0x112233);
	assert_no_message(fixture);
	assert_false(display_socket_wants_write(fixture->display));
}

TEST_DISPLAY(turns_a_scanout_off)
{
	display_socket_set_scanout(fixture->display, 2, 4, 2);
	EXPECT(fixture, SCANOUT, 2, 4, 2);
	for (int i = 0; i < 2; i++) {
		display_socket_set_scanout(fixture->display, 2, 0, 0);
	}
	EXPECT(fixture, SCANOUT, 2, 0, 0);
	assert_no_message(fixture);
}

/* A front end takes that for a new screen, a black one. */
TEST_DISPLAY(the_size_is_told_only_if_it_is_another)
{
	display_socket_set_scanout(fixture->display, 0, 4, 4);
	update(fixture, 0, 0, 4, 4);
	EXPECT(fixture, SCANOUT, 0, 4, 4);
	EXPECT(fixture, UPDATE, 0, 0, 0, 4, 4);
	display_socket_set_scanout(fixture->display, 0, 4, 4);
	assert_no_message(fixture);
	/* Off and on again before the front end has been told. */
	display_socket_set_scanout(fixture->display, 0, 0, 0);
	display_socket_set_scanout(fixture->display, 0, 4, 4);
	update(fixture, 0, 0, 4, 4);
	EXPECT(fixture, UPDATE, 0, 0, 0, 4, 4);
	display_socket_set_scanout(fixture->display, 0, 4, 5);
	EXPECT(fixture, SCANOUT, 0, 4, 5);
	assert_no_message(fixture);
}

TEST_DISPLAY(another_picture_is_shown_whole_with_its_first_update)
{
	display_socket_set_scanout(fixture->display, 0, 4, 4);
	update(fixture, 1, 1, 1, 1);
	EXPECT(fixture, SCANOUT, 0, 4, 4);
	EXPECT(fixture, UPDATE, 0, 0, 0, 4, 4);
	update(fixture, 1, 1, 1, 1);
	EXPECT(fixture, UPDATE, 0, 1, 1, 1, 1);
	display_socket_set_scanout(fixture->display, 0, 4, 4);
	update(fixture, 1, 1, 1, 1);
	EXPECT(fixture, UPDATE, 0, 0, 0, 4, 4);
}

TEST_DISPLAY(shows_what_was_there_when_it_was_flushed)
{
	fixture->color = 1;
	display_socket_set_scanout(fixture->display, 0, 2, 1);
	update(fixture, 0, 0, 2, 1);
	fixture->color = 2;
	EXPECT(fixture, SCANOUT, 0, 2, 1);
	EXPECT(fixture, UPDATE, 0, 0, 0, 2, 1, 1, 1);
	update(fixture, 0, 0, 1, 1);
	fixture->color = 3;
	EXPECT(fixture, UPDATE, 0, 0, 0, 1, 1, 2);
}

TEST_DISPLAY(an_update_is_cut_to_the_scanout)
{
	display_socket_set_scanout(fixture->display, 0, 4, 4);
	update(fixture, 0, 0, UINT32_MAX, UINT32_MAX);
	EXPECT(fixture, SCANOUT, 0, 4, 4);
	EXPECT(fixture, UPDATE, 0, 0, 0, 4, 4);
	update(fixture, 2, 3, UINT32_MAX, UINT32_MAX);
	EXPECT(fixture, UPDATE, 0, 2, 3, 2, 1);
	update(fixture, 4, 0, 1, 1);
	update(fixture, UINT32_MAX, UINT32_MAX, 2, 2);
	update(fixture, 0, 0, 1, 0);
	assert_no_message(fixture);
}

/* All of an update in one message, of one color. Returns it; the payload's size is checked. */
static uint32_t expect_color(struct fixture *fixture, uint32_t width, uint32_t height)
{
	uint32_t size, color, *payload = receive(fixture, UPDATE, &size);

	assert_non_null(payload);
	assert_int_equal(payload[3], width);
	assert_int_equal(payload[4], height);
	assert_int_equal(size, (5 + width * height) * sizeof(*payload));
	color = payload[5];
	for (uint32_t i = 0; i < width * height; i++) {
		assert_int_equal(payload[5 + i], color);
	}
	free(payload);
	return color;
}

TEST_DISPLAY(an_update_of_a_large_scanout_is_one_message)
{
	fixture->color = 7;
	display_socket_set_scanout(fixture->display, 0, 3840, 2160);
	update(fixture, 0, 0, 3840, 2160);
	EXPECT(fixture, SCANOUT, 0, 3840, 2160);
	assert_int_equal(expect_color(fixture, 3840, 2160), 7);
	/* A part that is not whole rows, and is read in several bands. */
	fixture->color = 8;
	update(fixture, 5, 6, 1001, 999);
	assert_int_equal(expect_color(fixture, 1001, 999), 8);
	assert_no_message(fixture);
}

/* It gets the frame that is on its way, then the last one; each is one frame. */
TEST_DISPLAY(a_front_end_that_does_not_read_is_told_the_latest_once)
{
	display_socket_set_scanout(fixture->display, 0, 512, 512);
	for (uint32_t i = 0; i < 1000; i++) {
		fixture->color = i;
		update(fixture, 0, i % 512, 512, 1);
		update(fixture, 0, 0, 512, 512);
		assert_int_equal(display_socket_dispatch(fixture->display), 0);
	}
	assert_true(display_socket_wants_write(fixture->display));
	EXPECT(fixture, SCANOUT, 0, 512, 512);
	assert_int_equal(expect_color(fixture, 512, 512), 0);
	assert_int_equal(expect_color(fixture, 512, 512), 999);
	assert_no_message(fixture);
}

TEST_DISPLAY(a_scanout_that_changes_all_the_time_leaves_others_their_turn)
{
	const struct virtio_gpu_rect rect = { 0, 0, 512, 512 };
	uint32_t size, *payload;
	bool seen[3] = { false };

	for (uint32_t i = 0; i < 3; i++) {
		display_socket_set_scanout(fixture->display, i, 512, 512);
		EXPECT(fixture, SCANOUT, i, 512, 512);
	}
	for (uint32_t i = 0; i < 3; i++) {
		display_socket_update(fixture->display, i, &rect, 1);
	}
	for (int i = 0; i < 5; i++) {
		update(fixture, 0, 0, 512, 512);
		payload = receive(fixture, UPDATE, &size);
		assert_non_null(payload);
		assert_true(payload[0] < 3);
		seen[payload[0]] = true;
		free(payload);
	}
	assert_true(seen[1] && seen[2]);
}

/* The sizes are a guest's. */
TEST_DISPLAY(frames_take_up_no_more_than_they_may)
{
	const struct virtio_gpu_rect rect = { 0, 0, 1, 1 };

	fixture->leave_pixels = true;
	for (uint32_t i = 0; i < 3; i++) {
		display_socket_set_scanout(fixture->display, i, 8192, 8192);
		assert_int_equal(
			display_socket_update(fixture->display, i, &rect, 1), i < 2 ? 0 : -ENOSPC);
	}
	display_socket_set_scanout(fixture->display, 0, 0, 0);
	assert_int_equal(display_socket_update(fixture->display, 2, &rect, 1), 0);
}

TEST_DISPLAY(others_have_their_turn_after_16_messages)
{
	const struct virtio_gpu_rect rect = { 0, 0, 1, 1 };
	uint32_t header[3], payload[6];
	unsigned int count = 0;

	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		display_socket_set_scanout(fixture->display, i, 1, 1);
		display_socket_update(fixture->display, i, &rect, 1);
	}
	assert_int_equal(display_socket_dispatch(fixture->display), 1);
	while (recv(fixture->front_end, header, sizeof(header), MSG_DONTWAIT) ==
		(ssize_t)sizeof(header)) {
		assert_true(header[2] <= sizeof(payload));
		assert_int_equal(
			recv(fixture->front_end, payload, header[2], MSG_DONTWAIT), header[2]);
		count++;
	}
	assert_int_equal(count, 16);
	assert_int_equal(display_socket_dispatch(fixture->display), 1);
	assert_int_equal(display_socket_dispatch(fixture->display), 0);
}

TEST_DISPLAY(what_cannot_be_read_is_left_out)
{
	fixture->read_status = -ENOENT;
	display_socket_set_scanout(fixture->display, 0, 4, 4);
	update(fixture, 0, 0, 4, 4);
	EXPECT(fixture, SCANOUT, 0, 4, 4);
	assert_no_message(fixture);
	assert_int_equal(fixture->num_reads, 1);
	/* The next one makes up for it. */
	fixture->read_status = 0;
	update(fixture, 0, 0, 1, 1);
	EXPECT(fixture, UPDATE, 0, 0, 0, 4, 4);
}

TEST_DISPLAY(a_scanout_that_does_not_exist_is_ignored)
{
	const struct virtio_gpu_rect rect = { 0, 0, 1, 1 };

	display_socket_set_scanout(fixture->display, VIRTIO_GPU_MAX_SCANOUTS, 4, 4);
	display_socket_update(fixture->display, UINT32_MAX, &rect, 1);
	assert_no_message(fixture);
}

/* ---- The cursor --------------------------------------------------------------------------- */

TEST_DISPLAY(tells_the_cursor)
{
	static uint32_t pixels[DISPLAY_CURSOR_SIZE * DISPLAY_CURSOR_SIZE] = { 0xff010203 };

	display_socket_set_cursor(fixture->display, 1, 10, 20, true, 3, 4, pixels);
	EXPECT(fixture, CURSOR_UPDATE, 1, 10, 20, 3, 4, 0xff010203, 0);
	display_socket_set_cursor(fixture->display, 1, 11, 21, true, 0, 0, NULL);
	EXPECT(fixture, CURSOR_POS, 1, 11, 21);
	display_socket_set_cursor(fixture->display, 1, 11, 21, false, 0, 0, NULL);
	EXPECT(fixture, CURSOR_POS_HIDE, 1, 11, 21);
	assert_no_message(fixture);
}

TEST_DISPLAY(each_scanout_has_a_cursor)
{
	static uint32_t pixels[2][DISPLAY_CURSOR_SIZE * DISPLAY_CURSOR_SIZE] = { { 1 }, { 2 } };

	display_socket_set_cursor(fixture->display, 0, 10, 20, true, 3, 4, pixels[0]);
	display_socket_set_cursor(fixture->display, 1, 30, 40, true, 5, 6, pixels[1]);
	display_socket_set_cursor(fixture->display, 1, 31, 41, true, 0, 0, NULL);
	EXPECT(fixture, CURSOR_UPDATE, 0, 10, 20, 3, 4, 1, 0);
	EXPECT(fixture, CURSOR_UPDATE, 1, 31, 41, 5, 6, 2, 0);
	assert_no_message(fixture);
	/* It goes to the other monitor and back, each time at once. */
	for (uint32_t from = 0; from < 2; from++) {
		display_socket_set_cursor(fixture->display, !from, 8, 9, true, 0, 0, NULL);
		display_socket_set_cursor(fixture->display, from, 7, 7, false, 0, 0, NULL);
		EXPECT(fixture, CURSOR_POS_HIDE, from, 7, 7);
		EXPECT(fixture, CURSOR_POS, !from, 8, 9);
		assert_no_message(fixture);
	}
}

/* ---- The other side ----------------------------------------------------------------------- */

TEST_DISPLAY(tells_when_the_front_end_has_gone)
{
	assert_int_equal(shutdown(fixture->front_end, SHUT_RDWR), 0);
	display_socket_set_scanout(fixture->display, 0, 4, 4);
	assert_int_equal(display_socket_dispatch(fixture->display), -EPIPE);
}

TEST_DISPLAY(what_a_front_end_sends_is_dropped)
{
	char bytes[1000] = { 99, [8] = 0xff, [9] = 0xff };

	assert_int_equal(send(fixture->front_end, bytes, sizeof(bytes), 0), sizeof(bytes));
	display_socket_set_scanout(fixture->display, 0, 4, 4);
	EXPECT(fixture, SCANOUT, 0, 4, 4);
}

/* ---- Questions ---------------------------------------------------------------------------- */

static void answer(struct fixture *fixture, uint32_t request, uint32_t flags, const void *payload,
	uint32_t size)
{
	const uint32_t header[] = { request, flags, size };

	assert_int_equal(send(fixture->front_end, header, sizeof(header), 0), sizeof(header));
	display_socket_dispatch(fixture->display); /* in two parts */
	assert_int_equal(send(fixture->front_end, payload, size, 0), size);
	display_socket_dispatch(fixture->display);
}

static void answer_features(struct fixture *fixture, uint64_t features)
{
	answer(fixture, GET_PROTOCOL_FEATURES, 4, &features, sizeof(features));
}

static void answer_monitors(struct fixture *fixture, uint32_t width)
{
	struct virtio_gpu_resp_display_info info = { 0 };

	info.pmodes[1].enabled = htole32(1);
	info.pmodes[1].r = (struct virtio_gpu_rect){ .width = htole32(width),
		.height = htole32(600) };
	answer(fixture, GET_DISPLAY_INFO, 4, &info, sizeof(info));
}

static void answer_edid(struct fixture *fixture, uint32_t size)
{
	struct virtio_gpu_resp_edid edid = { .size = htole32(size) };

	memset(edid.edid, 0x42, sizeof(edid.edid));
	answer(fixture, GET_EDID, 4, &edid, sizeof(edid));
}

/* A display that knows EDIDs, and was asked for its monitors. */
static void greet(struct fixture *fixture)
{
	answer_features(fixture, UINT64_MAX);
	EXPECT(fixture, SET_PROTOCOL_FEATURES, 1, 0);
	expect_words(fixture, GET_DISPLAY_INFO, NULL, 0);
	answer_monitors(fixture, 800);
	assert_int_equal(fixture->num_answers, 1);
	assert_true(fixture->answered);
}

TEST_DISPLAY(a_display_tells_its_monitors_without_being_asked)
{
	greet(fixture);
	assert_int_equal(fixture->monitor.enabled, 1);
	assert_int_equal(fixture->monitor.r.width, 800);
	assert_int_equal(fixture->monitor.r.height, 600);
	assert_no_message(fixture);
}

TEST_DISPLAY(a_display_is_asked)
{
	greet(fixture);
	assert_true(display_socket_ask_monitors(fixture->display));
	assert_true(display_socket_is_asked(fixture->display));
	expect_words(fixture, GET_DISPLAY_INFO, NULL, 0);
	answer_monitors(fixture, 900);
	assert_int_equal(fixture->monitor.r.width, 900);
	assert_true(display_socket_ask_edid(fixture->display, 3));
	EXPECT(fixture, GET_EDID, 3);
	answer_edid(fixture, 1024);
	assert_int_equal(fixture->num_answers, 3);
	assert_int_equal(fixture->edid_size, 1024);
	assert_int_equal(fixture->edid_byte, 0x42);
	assert_false(display_socket_is_asked(fixture->display));
}

/* The first question is on its way, or is not even sent. */
TEST_DISPLAY(who_asks_early_gets_the_first_answer)
{
	assert_true(display_socket_ask_monitors(fixture->display));
	assert_no_message(fixture);
	answer_features(fixture, 0);
	EXPECT(fixture, SET_PROTOCOL_FEATURES, 0, 0);
	expect_words(fixture, GET_DISPLAY_INFO, NULL, 0);
	assert_true(display_socket_is_asked(fixture->display));
	answer_monitors(fixture, 700);
	assert_int_equal(fixture->monitor.r.width, 700);
	assert_no_message(fixture);
	/* It has not said that it knows EDIDs. */
	assert_false(display_socket_ask_edid(fixture->display, 0));
}

TEST_DISPLAY(a_display_that_does_not_answer_is_not_asked_again_until_it_does)
{
	greet(fixture);
	assert_true(display_socket_ask_monitors(fixture->display));
	display_socket_give_up(fixture->display);
	assert_int_equal(fixture->num_answers, 2);
	assert_false(fixture->answered);
	assert_false(display_socket_is_asked(fixture->display));
	assert_false(display_socket_ask_monitors(fixture->display));
	assert_false(display_socket_ask_edid(fixture->display, 0));
	display_socket_give_up(fixture->display); /* nobody waits */
	assert_int_equal(fixture->num_answers, 2);
	expect_words(fixture, GET_DISPLAY_INFO, NULL, 0);
	answer_monitors(fixture, 640);
	assert_int_equal(fixture->monitor.r.width, 640);
	assert_true(display_socket_ask_edid(fixture->display, 0));
	display_socket_give_up(fixture->display);
	EXPECT(fixture, GET_EDID, 0);
	/* Too late for who asked. */
	answer_edid(fixture, 128);
	assert_int_equal(fixture->edid_size, 0);
	assert_true(display_socket_ask_edid(fixture->display, 1));
}

TEST_DISPLAY(edids_have_a_size_that_can_be)
{
	static const uint32_t bad[] = { 0, 1025, UINT32_MAX };

	greet(fixture);
	for (size_t i = 0; i < 3; i++) {
		assert_true(display_socket_ask_edid(fixture->display, 0));
		answer_edid(fixture, bad[i]);
		assert_int_equal(fixture->num_answers, 2 + i);
		assert_false(fixture->answered);
	}
}

/* What was not asked for, is no reply, or has another size. */
TEST_DISPLAY(what_is_no_answer_is_dropped)
{
	static const struct virtio_gpu_resp_display_info info;
	static char bytes[10000];

	greet(fixture);
	answer(fixture, GET_DISPLAY_INFO, 4, &info, sizeof(info));
	answer(fixture, 99, 0, bytes, sizeof(bytes));
	assert_true(display_socket_ask_monitors(fixture->display));
	answer(fixture, GET_EDID, 4, bytes, sizeof(struct virtio_gpu_resp_edid));
	answer(fixture, GET_DISPLAY_INFO, 0, &info, sizeof(info));
	answer(fixture, GET_DISPLAY_INFO, 4, &info, sizeof(info) - 1);
	answer(fixture, GET_PROTOCOL_FEATURES, 4, bytes, 8);
	assert_int_equal(fixture->num_answers, 1);
	answer_monitors(fixture, 801);
	assert_int_equal(fixture->num_answers, 2);
	assert_int_equal(fixture->monitor.r.width, 801);
}

/* Any header, any size, in any pieces, whether somebody waits for an answer or not. Returns how
 * many answers that was taken for. */
static unsigned int send_any_bytes(struct fixture *fixture)
{
	static const uint32_t requests[] = { 0, 1, 3, 9, 11, 99 }, sizes[] = { 0, 8, 408, 1056 };
	uint32_t bytes[300] = { 0 };
	char sent[4096];

	greet(fixture);
	for (int i = 0; i < 50; i++) {
		size_t size = sizeof(uint32_t) * 3;

		bytes[0] = requests[rand() % 6];
		bytes[1] = rand() % 8 != 0 ? 4 : 0;
		bytes[2] = rand() % 8 != 0 ? sizes[rand() % 4] : (uint32_t)rand() % 1000;
		bytes[9 + rand() % 40] = (uint32_t)rand();
		size += rand() % 32 != 0 ? bytes[2] : (size_t)rand() % 1000;
		assert_int_equal(send(fixture->front_end, bytes, size, 0), size);
		assert_true(display_socket_dispatch(fixture->display) >= 0);
		if (rand() % 2 != 0) {
			display_socket_ask_monitors(fixture->display);
		} else if (rand() % 2 != 0) {
			display_socket_ask_edid(fixture->display, (uint32_t)rand());
		} else if (rand() % 8 == 0) {
			display_socket_give_up(fixture->display);
		}
		assert_true(fixture->edid_size <= 1024);
		while (recv(fixture->front_end, sent, sizeof(sent), MSG_DONTWAIT) > 0) {
		}
	}
	return fixture->num_answers;
}

TEST(any_bytes_do_no_harm)
{
	unsigned int num_answers = 0;

	srand(1);
	for (int i = 0; i < 500; i++) {
		struct fixture *fixture = fixture_create();

		num_answers += send_any_bytes(fixture);
		fixture_destroy(fixture);
	}
	assert_true(num_answers > 1000);
}

/* ---- Memory --------------------------------------------------------------------------------- */

TEST_DISPLAY(a_flush_without_memory_is_made_up_for)
{
	const struct virtio_gpu_rect rect = { 0, 0, 1, 1 };

	display_socket_set_scanout(fixture->display, 0, 128, 128); /* more than a cursor has */
	alloc_fail(1);
	assert_int_equal(display_socket_update(fixture->display, 0, &rect, 1), -ENOMEM);
	alloc_fail(0);
	EXPECT(fixture, SCANOUT, 0, 128, 128);
	assert_no_message(fixture);
	/* Now for the message. */
	assert_int_equal(display_socket_update(fixture->display, 0, &rect, 1), 0);
	alloc_fail(1);
	assert_no_message(fixture);
	alloc_fail(0);
	EXPECT(fixture, UPDATE, 0, 0, 0, 128, 128);
}

/* ---- Dma-bufs ------------------------------------------------------------------------------- */

static void show_buffer(struct fixture *fixture, uint64_t key, uint32_t width, uint32_t height)
{
	fixture->buffer = (struct gpu_buffer){
		.key = key,
		.width = width,
		.height = height,
		.drm_format = FORMAT,
		.stride = width * 4,
		.modifier = MODIFIER,
		.rect = { .width = width, .height = height },
	};
	display_socket_set_scanout(fixture->display, 0, width, height);
}

static void greet_with(struct fixture *fixture, uint64_t features)
{
	answer_features(fixture, features);
	EXPECT(fixture, SET_PROTOCOL_FEATURES, (uint32_t)features & 3, 0);
	expect_words(fixture, GET_DISPLAY_INFO, NULL, 0);
	answer_monitors(fixture, 800);
}

static struct fixture *fixture_create_in_place(void)
{
	static const struct display_socket_ops ops = {
		.read = read_color,
		.monitors = note_monitors,
		.edid = note_edid,
		.get_buffer = get_buffer,
		.release = note_released,
		.shown = note_shown,
	};
	struct fixture *fixture = fixture_create_with(&ops);

	greet_with(fixture, UINT64_MAX);
	return fixture;
}

#define TEST_IN_PLACE(name)                                                                        \
	TEST_WITH(name, struct fixture *, fixture, fixture_create_in_place(),                      \
		fixture_destroy(fixture))

static int update_frame(struct fixture *fixture, uint64_t frame, uint32_t x, uint32_t width)
{
	const struct virtio_gpu_rect rect = { x, 0, width, 1 };

	return display_socket_update(fixture->display, 0, &rect, frame);
}

/* Receives the header of a message. Returns the descriptor that came with it, or -1. */
static int receive_header(struct fixture *fixture, uint32_t *header)
{
	struct iovec piece = { header, 3 * sizeof(*header) };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr message = { .msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *attached;
	int fd = -1;

	display_socket_dispatch(fixture->display);
	assert_int_equal(recvmsg(fixture->front_end, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC),
		piece.iov_len);
	attached = CMSG_FIRSTHDR(&message);
	if (attached != NULL) {
		assert_int_equal(attached->cmsg_type, SCM_RIGHTS);
		memcpy(&fd, CMSG_DATA(attached), sizeof(fd));
	}
	return fd;
}

/* The next message gives the scanout a buffer; key 0: none. */
static void expect_buffer(struct fixture *fixture, uint64_t key, uint32_t width, uint32_t height)
{
	const uint32_t given[] = { 0, 0, 0, width, height, width, height, width * 4, 0, FORMAT,
		(uint32_t)MODIFIER, (uint32_t)(MODIFIER >> 32) };
	static const uint32_t none[12];
	uint32_t header[3], payload[12];
	uint64_t content = 0;
	int fd = receive_header(fixture, header);

	assert_int_equal(header[0], DMABUF_SCANOUT2);
	assert_int_equal(header[1], 0);
	assert_int_equal(header[2], sizeof(payload));
	assert_int_equal(recv(fixture->front_end, payload, sizeof(payload), 0), sizeof(payload));
	assert_memory_equal(payload, key != 0 ? given : none, sizeof(payload));
	assert_int_equal(fd >= 0, key != 0);
	if (key != 0) {
		assert_int_equal(pread(fd, &content, sizeof(content), 0), sizeof(content));
		assert_int_equal(content, key);
		close(fd);
	}
}

static void answer_update(struct fixture *fixture)
{
	answer(fixture, DMABUF_UPDATE, 4, NULL, 0);
}

TEST_IN_PLACE(a_dma_buf_is_given_and_not_copied)
{
	display_socket_set_scanout(fixture->display, 0, 4, 2);
	EXPECT(fixture, SCANOUT, 0, 4, 2); /* until it is known what is shown */
	show_buffer(fixture, 1, 4, 2);
	assert_int_equal(update_frame(fixture, 1, 1, 1), 1);
	expect_buffer(fixture, 1, 4, 2);
	EXPECT(fixture, DMABUF_UPDATE, 0, 0, 0, 4, 2);
	assert_no_message(fixture);
	answer_update(fixture);
	assert_int_equal(update_frame(fixture, 2, 1, 99), 1);
	EXPECT(fixture, DMABUF_UPDATE, 0, 1, 0, 3, 1); /* the same buffer, cut */
	assert_no_message(fixture);
	assert_int_equal(fixture->num_reads, 0);
	assert_int_equal(display_socket_get_copied(fixture->display), 0);
	assert_int_equal(display_socket_get_in_place(fixture->display), 2);
}

TEST_IN_PLACE(a_frame_is_shown_when_the_front_end_answers)
{
	show_buffer(fixture, 1, 8, 1);
	update_frame(fixture, 1, 0, 8);
	display_socket_dispatch(fixture->display);
	assert_int_equal(fixture->shown_frame[0], 0);
	/* What is flushed meanwhile is one. */
	update_frame(fixture, 2, 1, 1);
	update_frame(fixture, 3, 5, 1);
	expect_buffer(fixture, 1, 8, 1);
	EXPECT(fixture, DMABUF_UPDATE, 0, 0, 0, 8, 1);
	assert_no_message(fixture);
	answer_update(fixture);
	assert_int_equal(fixture->shown_frame[0], 1);
	EXPECT(fixture, DMABUF_UPDATE, 0, 1, 0, 5, 1);
	answer_update(fixture);
	assert_int_equal(fixture->shown_frame[0], 3);
	assert_no_message(fixture);
}

/* A buffer, its first update, and its answer. */
static void show_first(struct fixture *fixture)
{
	display_socket_set_scanout(fixture->display, 0, 4, 2);
	EXPECT(fixture, SCANOUT, 0, 4, 2);
	show_buffer(fixture, 1, 4, 2);
	update_frame(fixture, 1, 0, 4);
	expect_buffer(fixture, 1, 4, 2);
	EXPECT(fixture, DMABUF_UPDATE, 0, 0, 0, 4, 2);
	answer_update(fixture);
}

TEST_IN_PLACE(another_buffer_releases_the_one_before_with_its_answer)
{
	show_first(fixture);
	show_buffer(fixture, 2, 4, 2);
	update_frame(fixture, 2, 0, 4);
	expect_buffer(fixture, 2, 4, 2);
	EXPECT(fixture, DMABUF_UPDATE, 0, 0, 0, 4, 2);
	assert_true(fixture->is_held[1]);
	/* A third one comes when it is known that the first is not read. */
	show_buffer(fixture, 3, 4, 2);
	update_frame(fixture, 3, 0, 4);
	assert_no_message(fixture);
	answer_update(fixture);
	assert_false(fixture->is_held[1]);
	assert_true(fixture->is_held[2]);
	expect_buffer(fixture, 3, 4, 2);
	EXPECT(fixture, DMABUF_UPDATE, 0, 0, 0, 4, 2);
	/* A fourth and a fifth: one of them is never given. */
	show_buffer(fixture, 4, 4, 2);
	update_frame(fixture, 4, 0, 4);
	show_buffer(fixture, 5, 4, 2);
	update_frame(fixture, 5, 0, 4);
	assert_false(fixture->is_held[4]);
	answer_update(fixture);
	assert_false(fixture->is_held[2]);
	expect_buffer(fixture, 5, 4, 2);
}

TEST_IN_PLACE(another_size_is_told_by_its_buffer)
{
	show_first(fixture);
	show_buffer(fixture, 2, 6, 3);
	assert_no_message(fixture);
	update_frame(fixture, 2, 0, 1);
	expect_buffer(fixture, 2, 6, 3);
	EXPECT(fixture, DMABUF_UPDATE, 0, 0, 0, 6, 3);
	assert_no_message(fixture);
}

/* Then the scanout is told anew, as the front end has made no screen for pixels. */
static void expect_copies(struct fixture *fixture)
{
	expect_buffer(fixture, 0, 0, 0);
	expect_words(fixture, GET_PROTOCOL_FEATURES, NULL, 0);
	EXPECT(fixture, SCANOUT, 0, 4, 2);
	EXPECT(fixture, UPDATE, 0, 0, 0, 4, 2, fixture->color);
	assert_no_message(fixture);
	assert_true(fixture->is_held[1]);
	answer_features(fixture, UINT64_MAX);
	assert_false(fixture->is_held[1]);
	assert_no_message(fixture);
}

TEST_IN_PLACE(what_cannot_be_had_as_a_dma_buf_is_copied)
{
	show_first(fixture);
	fixture->buffer_error = -EOPNOTSUPP;
	fixture->color = 0x445566;
	assert_int_equal(update_frame(fixture, 2, 0, 1), 0);
	expect_copies(fixture);
	/* And in place again. */
	fixture->buffer_error = 0;
	show_buffer(fixture, 2, 4, 2);
	assert_int_equal(update_frame(fixture, 3, 0, 1), 1);
	expect_buffer(fixture, 2, 4, 2);
	EXPECT(fixture, DMABUF_UPDATE, 0, 0, 0, 4, 2);
}

/* What was copied before is not of this picture. */
TEST_IN_PLACE(a_copy_after_a_dma_buf_is_of_all_of_it)
{
	fixture->buffer_error = -EOPNOTSUPP;
	show_buffer(fixture, 1, 4, 2);
	update_frame(fixture, 1, 0, 4);
	EXPECT(fixture, SCANOUT, 0, 4, 2);
	EXPECT(fixture, UPDATE, 0, 0, 0, 4, 2);
	fixture->buffer_error = 0;
	update_frame(fixture, 2, 0, 4);
	expect_buffer(fixture, 1, 4, 2);
	EXPECT(fixture, DMABUF_UPDATE, 0, 0, 0, 4, 2);
	answer_update(fixture);
	fixture->buffer_error = -EOPNOTSUPP;
	fixture->color = 0x123456;
	update_frame(fixture, 3, 0, 1);
	expect_copies(fixture);
}

/* Until then it may read the old one. */
TEST_IN_PLACE(there_is_no_new_buffer_until_the_old_one_is_read_no_more)
{
	show_first(fixture);
	display_socket_buffer_leaving(fixture->display, 1);
	expect_buffer(fixture, 0, 0, 0);
	expect_words(fixture, GET_PROTOCOL_FEATURES, NULL, 0);
	EXPECT(fixture, SCANOUT, 0, 4, 2);
	EXPECT(fixture, UPDATE, 0, 0, 0, 4, 2);
	show_buffer(fixture, 2, 4, 2);
	assert_int_equal(update_frame(fixture, 2, 0, 4), 1);
	assert_no_message(fixture);
	/* Nor is the frame shown that was to be in it. */
	fixture->buffer_error = -EOPNOTSUPP;
	assert_int_equal(update_frame(fixture, 3, 0, 4), 0);
	assert_int_equal(fixture->shown_frame[0], 1);
	EXPECT(fixture, UPDATE, 0, 0, 0, 4, 2);
	fixture->buffer_error = 0;
	assert_int_equal(update_frame(fixture, 4, 0, 4), 1);
	assert_no_message(fixture);
	answer_features(fixture, UINT64_MAX);
	assert_false(fixture->is_held[1]);
	/* A copy is shown now, and a buffer when its update is answered. */
	assert_int_equal(fixture->shown_frame[0], 2);
	expect_buffer(fixture, 2, 4, 2);
	EXPECT(fixture, DMABUF_UPDATE, 0, 0, 0, 4, 2);
	assert_int_equal(fixture->shown_frame[0], 2);
	answer_update(fixture);
	assert_int_equal(fixture->shown_frame[0], 4);
}

/* What others have to be told, so that 31 messages are before those of the first scanout. */
static void keep_others_busy(struct fixture *fixture)
{
	const struct virtio_gpu_rect rect = { 0, 0, 1, 1 };

	fixture->buffer_error = -EOPNOTSUPP;
	for (uint32_t i = 1; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		display_socket_set_scanout(fixture->display, i, 1, 1);
		display_socket_update(fixture->display, i, &rect, 1);
	}
	fixture->buffer_error = 0;
	display_socket_set_cursor(fixture->display, 0, 1, 1, true, 0, 0, NULL);
}

static void read_all(struct fixture *fixture)
{
	char bytes[4096];

	do {
		display_socket_dispatch(fixture->display);
	} while (recv(fixture->front_end, bytes, sizeof(bytes), MSG_DONTWAIT) > 0);
}

/* The display has the new buffer, and has not been told to show it, so it may read both. */
TEST_IN_PLACE(a_buffer_that_leaves_before_its_first_update_is_released)
{
	show_first(fixture);
	keep_others_busy(fixture);
	show_buffer(fixture, 2, 4, 2);
	update_frame(fixture, 2, 0, 4);
	assert_int_equal(display_socket_dispatch(fixture->display), 1);
	assert_int_equal(display_socket_dispatch(fixture->display), 1);
	assert_int_equal(display_socket_get_in_place(fixture->display), 1);
	display_socket_buffer_leaving(fixture->display, 2);
	read_all(fixture);
	assert_int_equal(display_socket_get_in_place(fixture->display), 2);
	assert_true(fixture->is_held[1] && fixture->is_held[2]);
	answer_update(fixture);
	assert_false(fixture->is_held[1]);
	read_all(fixture);
	answer_features(fixture, UINT64_MAX);
	assert_false(fixture->is_held[2]);
}

/* QEMU would show another part of it. */
TEST_IN_PLACE(a_picture_that_begins_elsewhere_in_its_dma_buf_is_copied)
{
	for (int i = 0; i < 3; i++) {
		show_buffer(fixture, 1, 4, 2);
		fixture->buffer.offset = i == 0 ? 16 : 0;
		fixture->buffer.rect.x = i == 1;
		fixture->buffer.rect.y = i == 2;
		assert_int_equal(update_frame(fixture, 1, 0, 4), 0);
		assert_false(fixture->is_held[1]);
	}
	EXPECT(fixture, SCANOUT, 0, 4, 2);
	EXPECT(fixture, UPDATE, 0, 0, 0, 4, 2);
	assert_no_message(fixture);
}

TEST_IN_PLACE(memory_that_leaves_is_shown_by_a_copy)
{
	show_first(fixture);
	fixture->color = 0x778899;
	display_socket_buffer_leaving(fixture->display, 1);
	expect_copies(fixture);
	display_socket_buffer_leaving(fixture->display, 1); /* nobody has it */
	assert_int_equal(fixture->num_released, 1);
}

/* What is set and not flushed yet may be larger than what was shown. */
TEST_IN_PLACE(copies_of_what_leaves_take_up_no_more_than_they_may)
{
	const struct virtio_gpu_rect rect = { 0, 0, 4, 2 };

	fixture->leave_pixels = true;
	show_buffer(fixture, 1, 4, 2);
	for (uint32_t i = 0; i < 3; i++) {
		display_socket_set_scanout(fixture->display, i, 4, 2);
		assert_int_equal(display_socket_update(fixture->display, i, &rect, 1), 1);
		display_socket_set_scanout(fixture->display, i, 8192, 8192);
	}
	display_socket_buffer_leaving(fixture->display, 1);
	assert_int_equal(fixture->num_reads, 2);
	assert_false(fixture->is_held[1]);
	/* All of the third one with its next flush, if there is room then. */
	fixture->buffer_error = -EOPNOTSUPP;
	assert_int_equal(display_socket_update(fixture->display, 2, &rect, 2), -ENOSPC);
	display_socket_set_scanout(fixture->display, 0, 0, 0);
	assert_int_equal(display_socket_update(fixture->display, 2, &rect, 3), 0);
	assert_int_equal(display_socket_get_copied(fixture->display), UINT64_C(3) << 28);
}

/* It has a frame to be answered, and the next one is waiting. */
TEST_IN_PLACE(memory_that_leaves_in_the_middle_is_released_in_the_end)
{
	show_first(fixture);
	update_frame(fixture, 2, 0, 4);
	EXPECT(fixture, DMABUF_UPDATE, 0, 0, 0, 4, 1);
	show_buffer(fixture, 2, 4, 2);
	update_frame(fixture, 3, 0, 4);
	display_socket_buffer_leaving(fixture->display, 2);
	assert_false(fixture->is_held[2]);
	display_socket_buffer_leaving(fixture->display, 1);
	assert_no_message(fixture);
	assert_true(fixture->is_held[1]);
	answer_update(fixture);
	assert_int_equal(fixture->shown_frame[0], 2);
	expect_copies(fixture);
	assert_int_equal(fixture->shown_frame[0], 3);
}

TEST_IN_PLACE(a_buffer_that_waits_is_held_whatever_is_flushed_of_it)
{
	show_first(fixture);
	update_frame(fixture, 2, 0, 4);
	EXPECT(fixture, DMABUF_UPDATE, 0, 0, 0, 4, 1);
	show_buffer(fixture, 2, 4, 2);
	for (uint64_t frame = 3; frame < 6; frame++) {
		assert_int_equal(update_frame(fixture, frame, 0, 4), 1);
		assert_true(fixture->is_held[2]);
	}
	assert_no_message(fixture);
	answer_update(fixture);
	expect_buffer(fixture, 2, 4, 2);
	EXPECT(fixture, DMABUF_UPDATE, 0, 0, 0, 4, 2);
	assert_int_equal(fixture->num_released, 0);
	answer_update(fixture);
	assert_false(fixture->is_held[1]);
	assert_true(fixture->is_held[2]);
	assert_int_equal(fixture->shown_frame[0], 5);
}

/* Once it cannot be given, and there would be a copy of that frame. */
TEST_IN_PLACE(a_buffer_that_comes_back_shows_all_that_was_flushed_meanwhile)
{
	show_first(fixture);
	update_frame(fixture, 2, 2, 1);
	EXPECT(fixture, DMABUF_UPDATE, 0, 2, 0, 1, 1);
	update_frame(fixture, 3, 0, 1);
	fixture->buffer_error = -EMFILE;
	update_frame(fixture, 4, 1, 1);
	fixture->buffer_error = 0;
	update_frame(fixture, 5, 3, 1);
	assert_no_message(fixture);
	answer_update(fixture);
	EXPECT(fixture, DMABUF_UPDATE, 0, 0, 0, 4, 2);
	answer_update(fixture);
	assert_no_message(fixture);
	assert_int_equal(fixture->shown_frame[0], 5);
}

TEST_IN_PLACE(a_scanout_that_is_turned_off_has_no_buffer)
{
	show_first(fixture);
	display_socket_set_scanout(fixture->display, 0, 0, 0);
	expect_buffer(fixture, 0, 0, 0);
	expect_words(fixture, GET_PROTOCOL_FEATURES, NULL, 0);
	EXPECT(fixture, SCANOUT, 0, 0, 0);
	assert_no_message(fixture);
	assert_true(fixture->is_held[1]);
	answer_features(fixture, 0);
	assert_false(fixture->is_held[1]);
	/* The answer was no news. */
	show_buffer(fixture, 2, 4, 2);
	EXPECT(fixture, SCANOUT, 0, 4, 2);
	assert_int_equal(update_frame(fixture, 2, 0, 1), 1);
}

TEST_IN_PLACE(each_scanout_has_its_own_answer)
{
	const struct virtio_gpu_rect rect = { 0, 0, 4, 1 };

	for (uint32_t i = 0; i < 2; i++) {
		display_socket_set_scanout(fixture->display, i, 4, 1);
		EXPECT(fixture, SCANOUT, i, 4, 1);
	}
	for (uint32_t i = 0; i < 2; i++) {
		uint32_t header[3], payload[12];

		show_buffer(fixture, i + 1, 4, 1);
		display_socket_update(fixture->display, 1 - i, &rect, 10 + i);
		close(receive_header(fixture, header));
		assert_int_equal(header[0], DMABUF_SCANOUT2);
		assert_int_equal(
			recv(fixture->front_end, payload, sizeof(payload), 0), sizeof(payload));
		assert_int_equal(payload[0], 1 - i);
		EXPECT(fixture, DMABUF_UPDATE, 1 - i, 0, 0, 4, 1);
	}
	answer_update(fixture);
	assert_int_equal(fixture->shown_frame[1], 10);
	assert_int_equal(fixture->shown_frame[0], 0);
	answer_update(fixture);
	assert_int_equal(fixture->shown_frame[0], 11);
}

/* The monitors are asked for while an answer is on its way. */
TEST_IN_PLACE(questions_and_updates_are_told_apart)
{
	show_first(fixture);
	update_frame(fixture, 2, 0, 4);
	EXPECT(fixture, DMABUF_UPDATE, 0, 0, 0, 4, 1);
	assert_true(display_socket_ask_monitors(fixture->display));
	expect_words(fixture, GET_DISPLAY_INFO, NULL, 0);
	answer_update(fixture);
	assert_int_equal(fixture->shown_frame[0], 2);
	answer_monitors(fixture, 900);
	assert_int_equal(fixture->monitor.r.width, 900);
	/* Nobody has asked for these. */
	answer_update(fixture);
	answer_features(fixture, 0);
	assert_int_equal(fixture->shown_frame[0], 2);
	update_frame(fixture, 3, 0, 4);
	EXPECT(fixture, DMABUF_UPDATE, 0, 0, 0, 4, 1);
}

TEST(a_front_end_without_the_feature_gets_copies)
{
	static const struct display_socket_ops ops = {
		.read = read_color,
		.monitors = note_monitors,
		.edid = note_edid,
		.get_buffer = get_buffer,
		.release = note_released,
		.shown = note_shown,
	};
	struct fixture *fixture = fixture_create_with(&ops);

	greet_with(fixture, 1);
	show_buffer(fixture, 1, 4, 2);
	assert_int_equal(update_frame(fixture, 1, 0, 4), 0);
	EXPECT(fixture, SCANOUT, 0, 4, 2);
	EXPECT(fixture, UPDATE, 0, 0, 0, 4, 2);
	assert_false(fixture->is_held[1]);
	fixture_destroy(fixture);
}

/* What a front end does that answers anything at any time: reads all, answers some. */
static void read_and_answer(struct fixture *fixture)
{
	char bytes[4096];
	uint32_t request = rand() % 2 ? DMABUF_UPDATE : GET_PROTOCOL_FEATURES;

	display_socket_dispatch(fixture->display);
	while (recv(fixture->front_end, bytes, sizeof(bytes), MSG_DONTWAIT) > 0) {
		display_socket_dispatch(fixture->display);
	}
	if (request == DMABUF_UPDATE) {
		answer_update(fixture);
	} else {
		answer_features(fixture, UINT64_MAX);
	}
}

static void do_anything(struct fixture *fixture, uint64_t frame)
{
	uint64_t key = 1 + (uint64_t)rand() % (MAX_KEYS - 1);

	switch (rand() % 6) {
	case 0:
		display_socket_buffer_leaving(fixture->display, key);
		assert_true(frame > 0);
		break;
	case 1:
		display_socket_set_scanout(fixture->display, 0, 0, 0);
		break;
	case 2:
		read_and_answer(fixture);
		break;
	default:
		fixture->buffer_error = rand() % 4 == 0 ? -EOPNOTSUPP : 0;
		show_buffer(fixture, key, 4 + (uint32_t)rand() % 2, 2);
		fixture->buffer.offset = rand() % 8 == 0 ? 4 : 0;
		update_frame(fixture, frame, (uint32_t)rand() % 5, 1 + (uint32_t)rand() % 4);
	}
}

/* In the end nothing is held, and each frame is shown that it said would be. */
TEST_IN_PLACE(buffers_come_back_whatever_happens)
{
	const uint64_t last = 20000;

	srand(2);
	for (uint64_t frame = 1; frame < last; frame++) {
		do_anything(fixture, frame);
	}
	fixture->buffer_error = 0;
	show_buffer(fixture, 1, 4, 2);
	assert_int_equal(update_frame(fixture, last, 0, 4), 1);
	for (int i = 0; i < 64 && fixture->shown_frame[0] < last; i++) {
		read_and_answer(fixture);
	}
	assert_int_equal(fixture->shown_frame[0], last);
	display_socket_set_scanout(fixture->display, 0, 0, 0);
	for (int i = 0; i < 64 && fixture->is_held[1]; i++) {
		read_and_answer(fixture);
	}
	for (int i = 1; i < MAX_KEYS; i++) {
		assert_false(fixture->is_held[i]);
	}
}
