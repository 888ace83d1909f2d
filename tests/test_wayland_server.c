/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* A guest behind the socket, whose monitors are windows of a Wayland compositor: what it is told of
 * them, when its flushes are answered, what is typed and pointed there, and what it notices of the
 * compositor's end. */

#include "support.h"

#include <endian.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/input-event-codes.h>
#include <linux/virtio_gpu.h>
#include <linux/virtio_input.h>
#include <wayland-server-protocol.h>

#include "compositor.h"
#include "server_session.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA

#define WIDTH 640
#define HEIGHT 480
#define HOUR_MS 3600000

static char directory[] = "/tmp/vgfence-windows-XXXXXX";
static char path[sizeof(directory) + 8], input_path[sizeof(directory) + 8];

static struct compositor compositor;
static struct front_end driver; /* of the keyboard and pointer */
static uint64_t frame_address, event_buffers;
static unsigned int num_gone; /* messages about the compositor's end */

/* ---- The server, its compositor, its front end ----------------------------------------------- */

static void note_message(void *cookie, enum vgf_log_level level, const char *message)
{
	num_gone += strstr(message, "compositor has gone") != NULL;
	log_to_test(cookie, level, message);
}

static void *create(void *arg)
{
	const struct gpu_server_options options = {
		.socket_path = path,
		.input_path = input_path,
		.wayland = compositor.path,
		.drain_ms = 20000,
		.end_fd = -1,
		.gpu = { .num_scanouts = 2,
			.width = WIDTH,
			.height = HEIGHT,
			.fence_passing_bit = -1,
			.display_ceiling_ms = HOUR_MS },
		.log = note_message,
	};

	*(int *)arg = gpu_server_create(&options, renderer_soft_create, &server);
	return NULL;
}

/* It waits for its compositor, which runs meanwhile. */
static void begin_server(void)
{
	struct wl_event_loop *loop = wl_display_get_event_loop(compositor.display);
	pthread_t thread;
	int ret = 1;

	assert_int_equal(pthread_create(&thread, NULL, create, &ret), 0);
	while (pthread_tryjoin_np(thread, NULL) != 0) {
		wl_event_loop_dispatch(loop, 1);
		compositor_send(&compositor);
	}
	assert_int_equal(ret, 0);
}

static void begin(void)
{
	num_gone = 0;
	compositor_begin(&compositor, COMPOSITOR_NO_DMABUF);
	begin_server();
	front_end_init(&front_end, path, run, NULL);
	front_end_start(&front_end);
	frame_address = front_end_alloc(&front_end, 4096);
}

static void end(void)
{
	front_end_finish(&front_end);
	gpu_server_destroy(server);
	compositor_end(&compositor);
}

#define TEST_WINDOWS(name) TEST_BETWEEN(name, begin(), end())

static void step(void)
{
	for (int i = 0; i < 3; i++) {
		run(NULL);
		compositor_step(&compositor);
	}
	run(NULL);
}

/* ---- The guest ------------------------------------------------------------------------------- */

static uint32_t call(const void *request, uint32_t size)
{
	const struct virtio_gpu_ctrl_hdr *response;
	uint32_t written;

	response = send_and_wait(0, request, size, sizeof(*response), &written);
	return le32toh(response->type);
}

static void create_2d(uint32_t resource_id)
{
	const struct virtio_gpu_resource_create_2d request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_2D),
		.resource_id = htole32(resource_id),
		.format = htole32(VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM),
		.width = htole32(WIDTH),
		.height = htole32(HEIGHT),
	};

	assert_int_equal(call(&request, sizeof(request)), OK);
}

static void set_scanout(uint32_t scanout, uint32_t resource_id)
{
	const struct virtio_gpu_set_scanout request = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT),
		.r = { .width = htole32(WIDTH), .height = htole32(HEIGHT) },
		.scanout_id = htole32(scanout),
		.resource_id = htole32(resource_id),
	};

	assert_int_equal(call(&request, sizeof(request)), OK);
}

static struct virtio_gpu_resource_flush flush_of(uint32_t resource_id)
{
	return (struct virtio_gpu_resource_flush){
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_FLUSH),
		.r = { .width = htole32(WIDTH), .height = htole32(HEIGHT) },
		.resource_id = htole32(resource_id),
	};
}

static void flush(uint32_t resource_id)
{
	const struct virtio_gpu_resource_flush request = flush_of(resource_id);

	assert_int_equal(call(&request, sizeof(request)), OK);
}

/* With a fence; it is answered later. Returns where. */
static const struct virtio_gpu_ctrl_hdr *begin_flush(uint32_t resource_id, uint64_t fence_id)
{
	struct virtio_gpu_resource_flush request = flush_of(resource_id);
	const struct virtio_gpu_ctrl_hdr *response;

	request.hdr.flags = htole32(VIRTIO_GPU_FLAG_FENCE);
	request.hdr.fence_id = htole64(fence_id);
	response = front_end_request(
		&front_end, 0, 0, &request, sizeof(request), sizeof(*response));
	front_end_kick(&front_end.queues[0]);
	step();
	return response;
}

static bool is_answered(void)
{
	uint32_t head, written;

	return front_end_used(&front_end.queues[0], &head, &written);
}

/* A window for each of the first monitors, that the compositor has configured. */
static struct compositor_surface *open_window(uint32_t scanout)
{
	struct compositor_surface *window;

	create_2d(scanout + 1);
	set_scanout(scanout, scanout + 1);
	step();
	window = compositor_window(&compositor, scanout);
	assert_non_null(window);
	compositor_configure(window, 0, 0);
	step();
	flush(scanout + 1);
	step();
	return window;
}

static struct virtio_gpu_display_one monitor(uint32_t scanout)
{
	const struct virtio_gpu_ctrl_hdr request = header(VIRTIO_GPU_CMD_GET_DISPLAY_INFO);
	const struct virtio_gpu_resp_display_info *info;
	uint32_t written;

	info = send_and_wait(0, &request, sizeof(request), sizeof(*info), &written);
	assert_int_equal(written, sizeof(*info));
	return info->pmodes[scanout];
}

static void assert_monitor(uint32_t scanout, uint32_t x, uint32_t width, uint32_t height)
{
	const struct virtio_gpu_display_one mode = monitor(scanout);

	assert_int_equal(le32toh(mode.enabled), 1);
	assert_int_equal(le32toh(mode.r.x), x);
	assert_int_equal(le32toh(mode.r.width), width);
	assert_int_equal(le32toh(mode.r.height), height);
}

/* ---- Monitors -------------------------------------------------------------------------------- */

TEST_WINDOWS(the_size_of_a_window_is_that_of_the_monitor)
{
	struct compositor_surface *window = open_window(0);

	open_window(1);
	assert_monitor(1, WIDTH, WIDTH, HEIGHT);
	compositor_configure(window, 1000, 700);
	step();
	assert_monitor(0, 0, 1000, 700);
	assert_monitor(1, 1000, WIDTH, HEIGHT);
}

TEST_WINDOWS(a_window_that_is_closed_is_a_monitor_that_is_unplugged)
{
	struct compositor_surface *window = open_window(0);

	open_window(1);
	compositor_close(window);
	step();
	assert_int_equal(le32toh(monitor(0).enabled), 0);
	assert_monitor(1, 0, WIDTH, HEIGHT);
	assert_int_equal(compositor_num_windows(&compositor), 1);
	flush(1);
	assert_int_equal(compositor_num_windows(&compositor), 1);
}

TEST_WINDOWS(the_next_guest_has_the_monitors_of_the_options)
{
	struct compositor_surface *first = open_window(0), *second = open_window(1);

	compositor_configure(first, 1000, 700);
	compositor_close(second);
	step();
	front_end_finish(&front_end);
	step();
	assert_int_equal(compositor_num_windows(&compositor), 0);
	front_end_init(&front_end, path, run, NULL);
	front_end_start(&front_end);
	assert_monitor(0, 0, WIDTH, HEIGHT);
	compositor_configure(open_window(0), 800, 600);
	step();
	assert_monitor(0, 0, 800, 600);
	assert_monitor(1, 800, WIDTH, HEIGHT);
}

/* ---- Frames ---------------------------------------------------------------------------------- */

TEST_WINDOWS(a_flush_with_a_fence_is_answered_when_it_is_on_the_screen)
{
	struct compositor_surface *window = open_window(0);
	const struct virtio_gpu_ctrl_hdr *response;

	compositor_answer(window);
	compositor_release(window->current.buffer);
	step();
	response = begin_flush(1, 1);
	assert_false(is_answered());
	compositor_answer(window);
	step();
	assert_true(is_answered());
	assert_int_equal(le32toh(response->type), OK);
	assert_int_equal(le64toh(response->fence_id), 1);
}

TEST_WINDOWS(a_guest_goes_on_when_its_compositor_has_gone)
{
	const struct virtio_gpu_ctrl_hdr *response;

	open_window(0);
	response = begin_flush(1, 1);
	assert_false(is_answered());
	compositor_kill_client(&compositor);
	step();
	assert_true(is_answered());
	assert_int_equal(le32toh(response->type), OK);
	assert_int_equal(num_gone, 1);
	for (uint64_t i = 2; i < 10; i++) {
		response = begin_flush(1, i);
		assert_true(is_answered());
		assert_int_equal(le32toh(response->type), OK);
	}
	set_scanout(0, 0);
	set_scanout(0, 1);
	flush(1);
	assert_int_equal(num_gone, 1);
}

/* ---- Keys and the pointer -------------------------------------------------------------------- */

static void assert_event(uint16_t type, uint16_t code, uint32_t value)
{
	const struct virtio_input_event *event;
	uint32_t head, written;

	assert_true(front_end_used(&driver.queues[0], &head, &written));
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

#define TEST_INPUT(name) TEST_BETWEEN(name, begin_driver(), end_driver())

static void press(uint32_t key)
{
	wl_keyboard_send_key(compositor.keyboard, 1, 0, key, WL_KEYBOARD_KEY_STATE_PRESSED);
}

/* A key that a US layout does not have, too. */
TEST_INPUT(keys_are_the_guests_and_go_up_with_the_focus)
{
	struct compositor_surface *window = open_window(0);
	struct wl_array none;

	wl_array_init(&none);
	wl_keyboard_send_enter(compositor.keyboard, 1, window->resource, &none);
	press(KEY_A);
	press(KEY_YEN);
	step();
	assert_group(EV_KEY, KEY_A, 1);
	assert_group(EV_KEY, KEY_YEN, 1);
	wl_keyboard_send_leave(compositor.keyboard, 2, window->resource);
	step();
	assert_group(EV_KEY, KEY_A, 0);
	assert_group(EV_KEY, KEY_YEN, 0);
}

TEST_INPUT(keys_that_there_are_not_are_left_out)
{
	struct compositor_surface *window = open_window(0);
	struct wl_array none;

	wl_array_init(&none);
	wl_keyboard_send_enter(compositor.keyboard, 1, window->resource, &none);
	press(0);
	press(BTN_LEFT);
	press(KEY_CNT);
	press(UINT32_MAX);
	press(KEY_B);
	step();
	assert_group(EV_KEY, KEY_B, 1);
}

TEST_INPUT(what_is_held_goes_up_when_the_compositor_has_gone)
{
	struct compositor_surface *window = open_window(0);
	struct wl_array none;

	wl_array_init(&none);
	wl_keyboard_send_enter(compositor.keyboard, 1, window->resource, &none);
	press(KEY_C);
	step();
	assert_group(EV_KEY, KEY_C, 1);
	compositor_kill_client(&compositor);
	step();
	assert_group(EV_KEY, KEY_C, 0);
}

TEST_INPUT(the_pointer_is_on_all_monitors_side_by_side)
{
	struct compositor_surface *second;

	open_window(0);
	second = open_window(1);
	wl_pointer_send_enter(compositor.pointer, 1, second->resource, wl_fixed_from_int(WIDTH - 1),
		wl_fixed_from_int(HEIGHT - 1));
	wl_pointer_send_frame(compositor.pointer);
	step();
	assert_event(EV_ABS, ABS_X, 32767);
	assert_group(EV_ABS, ABS_Y, 32767);
	wl_pointer_send_motion(compositor.pointer, 1, 0, 0);
	wl_pointer_send_frame(compositor.pointer);
	step();
	assert_event(EV_ABS, ABS_X, WIDTH * 32767 / (2 * WIDTH - 1));
	assert_group(EV_ABS, ABS_Y, 0);
}

int main(int argc, char *argv[])
{
	int failed;

	(void)argc;
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/socket", directory);
	snprintf(input_path, sizeof(input_path), "%s/input", directory);
	failed = run_registered_tests(argv);
	assert_int_equal(rmdir(directory), 0);
	return failed;
}
