/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What VNC clients see of a guest behind the socket, and what it gets of them; those that behave
 * well and others. */

#include "support.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/input-event-codes.h>
#include <linux/virtio_gpu.h>
#include <linux/virtio_input.h>

#include "display_vnc.h"
#include "rfb_client.h"
#include "server_session.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA

#define WIDTH 101
#define HEIGHT 50
#define MAX_CLIENTS 4

static char directory[] = "/tmp/vgfence-vnc-XXXXXX";
static char path[sizeof(directory) + 8], vnc_path[sizeof(directory) + 8],
	input_path[sizeof(directory) + 8];
static char address[sizeof(vnc_path) + 5];

static uint64_t frame_address;

static struct gpu_server_options options_with(const char *vnc)
{
	return (struct gpu_server_options){
		.socket_path = path,
		.drain_ms = 20000,
		.end_fd = -1,
		.gpu = { .num_scanouts = 2, .width = 640, .height = 480, .fence_passing_bit = -1 },
		.vnc = vnc,
		.log = log_to_test,
	};
}

static void begin(void)
{
	struct gpu_server_options options = options_with(address);

	options.input_path = input_path;
	assert_int_equal(gpu_server_create(&options, renderer_soft_create, &server), 0);
	front_end_init(&front_end, path, run, NULL);
	front_end_start(&front_end);
	frame_address = front_end_alloc(&front_end, 0x90000);
}

static void end(void)
{
	front_end_finish(&front_end);
	gpu_server_destroy(server);
}

#define TEST_VNC(name) TEST_BETWEEN(name, begin(), end())

/* In place of a thread that ends, as it does without memory. */
static bool has_ended;

int __real_display_vnc_dispatch(struct display_vnc *vnc);
int __wrap_display_vnc_dispatch(struct display_vnc *vnc);

int __wrap_display_vnc_dispatch(struct display_vnc *vnc)
{
	return has_ended ? -EPIPE : __real_display_vnc_dispatch(vnc);
}

/* ---- The guest ------------------------------------------------------------------------------ */

static struct virtio_gpu_rect rectangle(uint32_t x, uint32_t y, uint32_t width, uint32_t height)
{
	return (struct virtio_gpu_rect){ htole32(x), htole32(y), htole32(width), htole32(height) };
}

static uint32_t call(uint32_t index, const void *request, uint32_t size)
{
	uint32_t written;
	const struct virtio_gpu_ctrl_hdr *response = send_and_wait(
		index, request, size, sizeof(*response), &written);

	return index == 0 ? le32toh(response->type) : OK;
}

/* A blob of whole pages, whose pixels are at frame_address. */
static void create_blob(uint32_t resource_id, uint32_t pixels)
{
	const uint32_t size = (pixels * 4 + 4095) / 4096 * 4096;
	const struct {
		struct virtio_gpu_resource_create_blob request;
		struct virtio_gpu_mem_entry entry;
	} request = {
		.request = { .hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB),
			.resource_id = htole32(resource_id),
			.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_GUEST),
			.nr_entries = htole32(1),
			.size = htole64(size) },
		.entry = { .addr = htole64(frame_address), .length = htole32(size) },
	};

	assert_int_equal(call(0, &request, sizeof(request)), OK);
}

static void set_scanout(uint32_t resource_id, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_set_scanout_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT_BLOB),
		.r = rectangle(0, 0, width, height),
		.resource_id = htole32(resource_id),
		.width = htole32(width),
		.height = htole32(height),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
		.strides = { htole32(width * 4) },
	};

	assert_int_equal(call(0, &request, sizeof(request)), OK);
}

static void flush(uint32_t resource_id, uint32_t x, uint32_t y, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_resource_flush request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_FLUSH),
		.r = rectangle(x, y, width, height),
		.resource_id = htole32(resource_id),
	};

	assert_int_equal(call(0, &request, sizeof(request)), OK);
}

/* Draws another picture for each seed. */
static void draw(uint32_t seed, uint32_t count)
{
	uint32_t *pixels = front_end_at(&front_end, frame_address);

	for (uint32_t i = 0; i < count; i++) {
		pixels[i] = htole32((i * 2654435761u + seed * 0x10203) & 0xffffff);
	}
}

static void show(void)
{
	create_blob(1, WIDTH * HEIGHT);
	set_scanout(1, WIDTH, HEIGHT);
	draw(1, WIDTH * HEIGHT);
	flush(1, 0, 0, WIDTH, HEIGHT);
}

/* ---- Clients -------------------------------------------------------------------------------- */

static void assert_seen(const struct rfb_client *client, uint32_t count)
{
	assert_memory_equal(client->pixels, front_end_at(&front_end, frame_address),
		(size_t)count * sizeof(uint32_t));
}

/* Until it has its pixels. If it is told a size first, they follow without another request. */
static void look(struct rfb_client *client, bool incremental)
{
	uint64_t before = client->received;

	rfb_client_request(client, incremental);
	for (int i = 0; client->received == before; i++) {
		assert_true(i < 10);
		rfb_client_read_update(client);
	}
}

/* So that the next update is of what is drawn from now on. */
static void connect_and_look(struct rfb_client *client)
{
	rfb_client_connect(client, vnc_path, run, NULL);
	look(client, false);
	assert_int_equal(client->received, client->width * client->height);
}

TEST_VNC(a_client_sees_what_the_guest_draws)
{
	struct rfb_client client;

	show();
	connect_and_look(&client);
	assert_int_equal(client.width, WIDTH);
	assert_int_equal(client.height, HEIGHT);
	assert_seen(&client, WIDTH * HEIGHT);
	draw(2, WIDTH * HEIGHT);
	flush(1, 0, 0, WIDTH, HEIGHT);
	look(&client, true);
	assert_seen(&client, WIDTH * HEIGHT);
	rfb_client_close(&client);
}

TEST_VNC(a_client_is_sent_what_was_flushed_and_no_more)
{
	struct rfb_client client;
	const uint32_t *seen;

	show();
	connect_and_look(&client);
	client.received = 0;
	draw(3, WIDTH * HEIGHT);
	flush(1, 10, 5, 20, 7);
	look(&client, true);
	assert_int_equal(client.received, 20 * 7);
	seen = front_end_at(&front_end, frame_address);
	for (uint32_t y = 0; y < HEIGHT; y++) {
		for (uint32_t x = 0; x < WIDTH; x++) {
			bool flushed = x >= 10 && x < 30 && y >= 5 && y < 12;
			uint32_t at = y * WIDTH + x;

			assert_int_equal(client.pixels[at] == seen[at], flushed);
		}
	}
	rfb_client_close(&client);
}

TEST_VNC(a_client_is_told_another_size)
{
	struct rfb_client client;

	show();
	connect_and_look(&client);
	client.sizes = 0;
	create_blob(2, 64 * 70);
	set_scanout(2, 64, 70);
	draw(4, 64 * 70);
	flush(1, 0, 0, 1, 1); /* of the one that is not shown any more */
	look(&client, false);
	assert_int_equal(client.width, WIDTH);
	flush(2, 0, 0, 64, 70);
	client.received = 0;
	look(&client, false); /* it asks for as much as it knew of */
	assert_int_equal(client.received, 64 * HEIGHT);
	look(&client, false);
	assert_int_equal(client.height, 70);
	assert_true(client.sizes > 0);
	assert_seen(&client, 64 * 70);
	rfb_client_close(&client);
}

/* What was flushed while nobody looked is not copied, and shown all the same. */
TEST_VNC(each_client_sees_all_of_it_from_the_beginning)
{
	struct rfb_client clients[MAX_CLIENTS + 1];

	show();
	connect_and_look(&clients[0]);
	rfb_client_close(&clients[0]);
	run(NULL);
	draw(5, WIDTH * HEIGHT);
	flush(1, 0, 0, 3, 3);
	for (int i = 0; i < 2; i++) {
		connect_and_look(&clients[i]);
	}
	draw(6, WIDTH * HEIGHT);
	flush(1, 0, 0, WIDTH, HEIGHT);
	for (int i = 0; i < 2; i++) {
		look(&clients[i], true);
		assert_seen(&clients[i], WIDTH * HEIGHT);
		rfb_client_close(&clients[i]);
	}
}

/* ---- Encodings ------------------------------------------------------------------------------ */

#define LARGE_WIDTH 2048
#define LARGE_HEIGHT 2048
#define LARGE_PARTS 32 /* the same memory again and again */
#define SLICE_PIXELS (1 << 20)

static void show_large(void)
{
	const uint32_t size = LARGE_WIDTH * LARGE_HEIGHT * 4;
	struct {
		struct virtio_gpu_resource_create_blob request;
		struct virtio_gpu_mem_entry entries[LARGE_PARTS];
	} request = {
		.request = { .hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB),
			.resource_id = htole32(1),
			.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_GUEST),
			.nr_entries = htole32(LARGE_PARTS),
			.size = htole64(size) },
	};

	for (int i = 0; i < LARGE_PARTS; i++) {
		request.entries[i].addr = htole64(frame_address);
		request.entries[i].length = htole32(size / LARGE_PARTS);
	}
	assert_int_equal(call(0, &request, sizeof(request)), OK);
	set_scanout(1, LARGE_WIDTH, LARGE_HEIGHT);
	flush(1, 0, 0, LARGE_WIDTH, LARGE_HEIGHT);
}

/* libvncserver keeps all of a rectangle of ZRLE until it is encoded. */
TEST_VNC(a_client_of_zrle_is_sent_a_slice_at_a_time)
{
	static const uint8_t request[] = { 3, 1, 0, 0, (LARGE_HEIGHT - 1) >> 8,
		(LARGE_HEIGHT - 1) & 0xff, 1, 0, 0, 1 };
	struct rfb_client client;

	show_large();
	rfb_client_connect(&client, vnc_path, run, NULL);
	rfb_client_prefer(&client, RFB_ZRLE);
	while (client.received < LARGE_WIDTH * LARGE_HEIGHT) {
		uint64_t before = client.received;

		look(&client, before > 0);
		assert_int_equal(client.encoding, RFB_ZRLE);
		assert_in_range(client.received - before, 1, SLICE_PIXELS);
	}
	assert_int_equal(client.received, LARGE_WIDTH * LARGE_HEIGHT);
	/* The first slices have nothing of the last row. */
	client.received = 0;
	flush(1, 0, 0, LARGE_WIDTH, LARGE_HEIGHT);
	assert_true(rfb_client_send(&client, request, sizeof(request)));
	rfb_client_read_update(&client);
	assert_int_equal(client.received, 256);
	rfb_client_close(&client);
}

TEST_VNC(a_client_of_rre_is_sent_raw_pixels)
{
	struct rfb_client client;

	create_blob(1, WIDTH * HEIGHT);
	set_scanout(1, WIDTH, HEIGHT);
	flush(1, 0, 0, WIDTH, HEIGHT); /* black, for which RRE is better */
	rfb_client_connect(&client, vnc_path, run, NULL);
	rfb_client_prefer(&client, RFB_RRE);
	look(&client, false);
	assert_int_equal(client.encoding, RFB_RAW);
	assert_seen(&client, WIDTH * HEIGHT);
	rfb_client_close(&client);
}

TEST_VNC(a_client_gets_the_shape_of_the_cursor)
{
	const struct virtio_gpu_resource_create_2d create = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_2D),
		.resource_id = htole32(9),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM),
		.width = htole32(64),
		.height = htole32(64),
	};
	struct virtio_gpu_update_cursor cursor = {
		.hdr = header(VIRTIO_GPU_CMD_UPDATE_CURSOR),
		.pos = { .x = htole32(7), .y = htole32(9) },
		.resource_id = htole32(9),
	};
	struct rfb_client client;

	show();
	assert_int_equal(call(0, &create, sizeof(create)), OK);
	call(1, &cursor, sizeof(cursor));
	connect_and_look(&client);
	for (int i = 0; !client.has_cursor; i++) {
		assert_true(i < 10);
		look(&client, false);
	}
	cursor.resource_id = 0;
	call(1, &cursor, sizeof(cursor));
	for (int i = 0; client.has_cursor; i++) {
		assert_true(i < 10);
		look(&client, false);
	}
	rfb_client_close(&client);
}

/* ---- What clients want ---------------------------------------------------------------------- */

static struct virtio_gpu_display_one monitor(uint32_t scanout)
{
	const struct virtio_gpu_ctrl_hdr request = header(VIRTIO_GPU_CMD_GET_DISPLAY_INFO);
	uint32_t written;
	const struct virtio_gpu_resp_display_info *info = send_and_wait(
		0, &request, sizeof(request), sizeof(*info), &written);

	assert_int_equal(written, sizeof(*info));
	return info->pmodes[scanout];
}

static uint32_t monitor_width(void)
{
	return le32toh(monitor(0).r.width);
}

/* And waits until the guest knows. */
static void want_size(struct rfb_client *client, uint16_t width, uint16_t height)
{
	rfb_client_resize(client, width, height);
	for (int i = 0; monitor_width() != width; i++) {
		assert_true(i < LOST_ROUNDS);
	}
}

TEST_VNC(the_size_that_a_client_wants_is_the_guests_monitor)
{
	struct rfb_client client;

	show();
	connect_and_look(&client);
	assert_int_equal(monitor_width(), 640);
	want_size(&client, 800, 600);
	rfb_client_close(&client);
}

TEST_VNC(the_other_monitors_stay_when_a_client_wants_another_size)
{
	struct rfb_client client;

	show();
	connect_and_look(&client);
	want_size(&client, 800, 600);
	assert_int_equal(le32toh(monitor(1).enabled), 1);
	assert_int_equal(le32toh(monitor(1).r.x), 800);
	assert_int_equal(le32toh(monitor(1).r.width), 640);
	assert_int_equal(le32toh(monitor(1).r.height), 480);
	assert_int_equal(le32toh(monitor(2).enabled), 0);
	rfb_client_close(&client);
}

/* ---- Keys and the pointer ------------------------------------------------------------------- */

static struct front_end driver; /* of the second device */
static uint64_t event_buffers;

/* Waits for it. */
static void assert_event(uint16_t type, uint16_t code, uint32_t value)
{
	const struct virtio_input_event *event;
	uint32_t head, written;

	for (int i = 0; !front_end_used(&driver.queues[0], &head, &written); i++) {
		assert_true(i < LOST_ROUNDS);
		assert_int_equal(gpu_server_dispatch(server, 1), 0);
	}
	event = front_end_at(&driver, event_buffers + head * sizeof(*event));
	assert_int_equal(le16toh(event->type), type);
	assert_int_equal(le16toh(event->code), code);
	assert_int_equal(le32toh(event->value), value);
}

static void assert_group(uint16_t type, uint16_t code, uint32_t value)
{
	assert_event(type, code, value);
	assert_event(EV_SYN, SYN_REPORT, 0);
}

static void begin_driver(void)
{
	begin();
	front_end_init(&driver, input_path, run, NULL);
	front_end_start(&driver);
	event_buffers = front_end_alloc(&driver, 16 * sizeof(struct virtio_input_event));
	for (uint16_t i = 0; i < 16; i++) {
		front_end_desc(&driver.queues[0], i,
			event_buffers + i * sizeof(struct virtio_input_event),
			sizeof(struct virtio_input_event), VRING_DESC_F_WRITE, 0);
		front_end_offer(&driver.queues[0], i);
	}
	front_end_show(&driver.queues[0]);
	front_end_kick(&driver.queues[0]);
	run(NULL);
}

static void end_driver(void)
{
	front_end_finish(&driver);
	end();
}

TEST_BETWEEN(keys_and_the_pointer_of_a_client_are_the_guests, begin_driver(), end_driver())
{
	struct rfb_client client;

	show();
	connect_and_look(&client);
	rfb_client_key(&client, 'a', true);
	rfb_client_key(&client, 'a', false);
	rfb_client_pointer(&client, 0, WIDTH - 1, 0);
	rfb_client_pointer(&client, 1, WIDTH - 1, HEIGHT - 1);
	assert_group(EV_KEY, KEY_A, 1);
	assert_group(EV_KEY, KEY_A, 0);
	assert_group(EV_ABS, ABS_X, 32767);
	assert_group(EV_ABS, ABS_Y, 32767);
	assert_group(EV_KEY, BTN_LEFT, 1);
	rfb_client_key(&client, 'b', true);
	assert_group(EV_KEY, KEY_B, 1);
	rfb_client_close(&client);
	assert_group(EV_KEY, KEY_B, 0);
	assert_group(EV_KEY, BTN_LEFT, 0);
}

TEST_BETWEEN(what_is_held_goes_up_when_vnc_ends, begin_driver(), end_driver())
{
	struct rfb_client client;

	show();
	connect_and_look(&client);
	rfb_client_key(&client, 'a', true);
	assert_group(EV_KEY, KEY_A, 1);
	has_ended = true;
	rfb_client_key(&client, 'b', true);
	assert_group(EV_KEY, KEY_A, 0);
	has_ended = false;
	rfb_client_close(&client);
}

/* What the guest does not take does not pile up. */
TEST_BETWEEN(a_flood_of_events_does_not_hold_up_the_guest, begin_driver(), end_driver())
{
	struct rfb_client client;

	show();
	connect_and_look(&client);
	for (uint32_t i = 0; i < 5000; i++) {
		rfb_client_pointer(&client, 0, (uint16_t)(i % WIDTH), (uint16_t)(i % HEIGHT));
		if (i % 100 == 0) {
			flush(1, 0, 0, WIDTH, HEIGHT);
			run(NULL); /* or the client would wait for the device for ever */
		}
	}
	look(&client, false);
	rfb_client_close(&client);
}

/* ---- Clients that do not behave ------------------------------------------------------------- */

/* Its socket is full, and libvncserver waits for it. */
TEST_VNC(a_client_that_reads_nothing_does_not_hold_up_the_guest)
{
	struct rfb_client client;

	create_blob(1, 512 * 256);
	set_scanout(1, 512, 256);
	draw(7, 512 * 256);
	flush(1, 0, 0, 512, 256);
	rfb_client_connect(&client, vnc_path, run, NULL);
	for (uint32_t i = 0; i < 50; i++) {
		rfb_client_request(&client, false);
		flush(1, 0, 0, 512, 256);
	}
	rfb_client_close(&client);
}

TEST_VNC(half_a_message_does_not_hold_up_the_guest)
{
	struct rfb_client client;

	show();
	connect_and_look(&client);
	assert_true(rfb_client_send(&client, "\3\0", 2));
	for (int i = 0; i < 50; i++) {
		flush(1, 0, 0, WIDTH, HEIGHT);
	}
	rfb_client_close(&client);
}

/* Messages of extensions: scaling, a chat, files; and none. */
TEST_VNC(a_client_that_says_something_else_is_disconnected)
{
	static const uint8_t types[] = { 1, 7, 8, 9, 11, 15, 250, 254, 255 };
	struct rfb_client client;

	show();
	for (size_t i = 0; i < sizeof(types); i++) {
		uint8_t bytes[64] = { types[i], 2 };

		connect_and_look(&client);
		assert_true(rfb_client_send(&client, bytes, sizeof(bytes)));
		assert_true(rfb_client_is_disconnected(&client));
		rfb_client_close(&client);
	}
	connect_and_look(&client);
	assert_seen(&client, WIDTH * HEIGHT);
	rfb_client_close(&client);
}

/* Of a clipboard, of which nothing is made. */
static void send_text(struct rfb_client *client, uint32_t length, const void *text, size_t size)
{
	const uint8_t head[8] = { 6, 0, 0, 0, (uint8_t)(length >> 24), (uint8_t)(length >> 16),
		(uint8_t)(length >> 8), (uint8_t)length };

	assert_true(rfb_client_send(client, head, sizeof(head)));
	assert_true(rfb_client_send(client, text, size));
}

TEST_VNC(texts_are_skipped)
{
	/* Of the extension: it provides a text, and that is not compressed. */
	static const uint8_t provided[] = { 0x10, 0, 0, 1, 'n', 'o', 'n', 'e' };
	static const char text[10000];
	struct rfb_client client;

	show();
	connect_and_look(&client);
	rfb_client_prefer(&client, RFB_EXTENDED_CLIPBOARD);
	send_text(&client, sizeof(text), text, sizeof(text));
	send_text(&client, 0, text, 0);
	send_text(&client, 0u - (uint32_t)sizeof(provided), provided, sizeof(provided));
	look(&client, false);
	assert_seen(&client, WIDTH * HEIGHT);
	send_text(&client, 0x80000000, text, 0);
	assert_true(rfb_client_is_disconnected(&client));
	rfb_client_close(&client);
}

/* A page in a browser may try: the protocol is HTTP's at first. */
TEST_VNC(a_web_socket_is_refused)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
				      "Connection: Upgrade\r\nOrigin: http://a\r\n"
				      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
				      "Sec-WebSocket-Protocol: binary\r\n"
				      "Sec-WebSocket-Version: 13\r\n\r\n";
	struct rfb_client client = { .run = run };

	show();
	client.fd = rfb_client_open(vnc_path);
	assert_true(rfb_client_send(&client, request, sizeof(request) - 1));
	assert_true(rfb_client_is_disconnected(&client));
	rfb_client_close(&client);
}

TEST_VNC(a_fifth_client_is_disconnected_and_the_others_stay)
{
	struct rfb_client clients[MAX_CLIENTS], more = { .run = run };

	show();
	for (int i = 0; i < MAX_CLIENTS; i++) {
		connect_and_look(&clients[i]);
	}
	more.fd = rfb_client_open(vnc_path);
	assert_true(rfb_client_is_disconnected(&more));
	rfb_client_close(&more);
	for (int i = 0; i < MAX_CLIENTS; i++) {
		look(&clients[i], false);
		rfb_client_close(&clients[i]);
	}
}

/* Single pixels of a chequered pattern, which nobody asks for: as one rectangle they take no
 * memory. */
TEST_VNC(flushes_that_a_client_does_not_ask_for_become_one)
{
	struct rfb_client client;

	show();
	connect_and_look(&client);
	client.received = 0;
	for (uint32_t i = 0; i < WIDTH * HEIGHT; i += 2) {
		flush(1, i % WIDTH, i / WIDTH, 1, 1);
	}
	while (client.received < (WIDTH * HEIGHT + 1) / 2) {
		look(&client, true);
	}
	rfb_client_close(&client);
}

/* ---- The address ---------------------------------------------------------------------------- */

TEST(other_addresses_than_local_ones_are_refused)
{
	static const char *const addresses[] = { "", "unix", "0.0.0.0:1", "localhost",
		"localhost:", "localhost:-1", "localhost:1x", "localhost:59636", "5900", "[::]:1" };

	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		const struct gpu_server_options options = options_with(addresses[i]);

		assert_int_equal(
			gpu_server_create(&options, renderer_soft_create, &server), -EINVAL);
	}
}

TEST_VNC(an_address_is_used_once)
{
	struct gpu_server_options options = options_with(address);
	struct gpu_server *second;
	char other[sizeof(path) + 1];

	snprintf(other, sizeof(other), "%s2", path);
	options.socket_path = other;
	assert_int_equal(gpu_server_create(&options, renderer_soft_create, &second), -EADDRINUSE);
}

int main(int argc, char *argv[])
{
	int failed;

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/socket", directory);
	snprintf(vnc_path, sizeof(vnc_path), "%s/vnc", directory);
	snprintf(input_path, sizeof(input_path), "%s/input", directory);
	snprintf(address, sizeof(address), "unix:%s", vnc_path);
	failed = run_registered_tests(argv);
	assert_int_equal(rmdir(directory), 0);
	return failed;
}
