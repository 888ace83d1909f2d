/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a front end with a display is sent about scanouts and the cursor, and how little of it is
 * kept if it does not read. */

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "alloc.h"
#include "support.h"

#include "display_socket.h"

enum {
	GET_PROTOCOL_FEATURES = 1,
	SET_PROTOCOL_FEATURES = 2,
	GET_DISPLAY_INFO = 3,
	CURSOR_POS = 4,
	CURSOR_POS_HIDE = 5,
	CURSOR_UPDATE = 6,
	SCANOUT = 7,
	UPDATE = 8,
	GET_EDID = 11,
};

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

static struct fixture *fixture_create(void)
{
	static const struct display_socket_ops ops = {
		.read = read_color,
		.monitors = note_monitors,
		.edid = note_edid,
	};
	uint32_t hello[3];
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	int fds[2];

	assert_non_null(fixture);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	fixture->front_end = fds[0];
	assert_int_equal(display_socket_create_take(fds[1], &ops, fixture, &fixture->display), 0);
	assert_int_equal(display_socket_dispatch(fixture->display), 0);
	assert_int_equal(recv(fixture->front_end, hello, sizeof(hello), 0), sizeof(hello));
	assert_int_equal(hello[0], GET_PROTOCOL_FEATURES);
	assert_int_equal(hello[2], 0);
	return fixture;
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

	display_socket_update(fixture->display, 0, &rect);
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
		display_socket_update(fixture->display, i, &rect);
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
			display_socket_update(fixture->display, i, &rect), i < 2 ? 0 : -ENOSPC);
	}
	display_socket_set_scanout(fixture->display, 0, 0, 0);
	assert_int_equal(display_socket_update(fixture->display, 2, &rect), 0);
}

TEST_DISPLAY(others_have_their_turn_after_16_messages)
{
	const struct virtio_gpu_rect rect = { 0, 0, 1, 1 };
	uint32_t header[3], payload[6];
	unsigned int count = 0;

	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		display_socket_set_scanout(fixture->display, i, 1, 1);
		display_socket_update(fixture->display, i, &rect);
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
	display_socket_update(fixture->display, UINT32_MAX, &rect);
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
	assert_int_equal(display_socket_update(fixture->display, 0, &rect), -ENOMEM);
	alloc_fail(0);
	EXPECT(fixture, SCANOUT, 0, 128, 128);
	assert_no_message(fixture);
	/* Now for the message. */
	assert_int_equal(display_socket_update(fixture->display, 0, &rect), 0);
	alloc_fail(1);
	assert_no_message(fixture);
	alloc_fail(0);
	EXPECT(fixture, UPDATE, 0, 0, 0, 128, 128);
}
