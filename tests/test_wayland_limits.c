/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a guest and a Wayland compositor can cause that goes on without end, and how far it goes:
 * a compositor that does not read, configures a window again and again, or gives nothing back. */

#include "support.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <wayland-server-protocol.h>
#include <xdg-shell-server-protocol.h>

#include "compositor.h"
#include "display_wayland.h"
#include "gpu.h"

#define FORMAT_ARGB8888 0x34325241u /* DRM_FORMAT_ARGB8888, AR24 */
#define MODIFIER_INVALID UINT64_C(0x00ffffffffffffff)

#define WIDTH 640
#define HEIGHT 480
#define MANY 20000 /* requests of each: far more than a socket and libwayland have room for */

static struct compositor compositor;
static struct display_wayland *display;

/* The guest: what it shows, and what it was told. */
static struct {
	uint32_t pixel;
	bool cannot_read;
	uint64_t key; /* of its memory; 0: there is no dma-buf */
	uint32_t num_buffers, num_released;
	uint32_t drm_format;
	uint64_t shown[VIRTIO_GPU_MAX_SCANOUTS];
	uint32_t num_resized, width, height, num_lacks;
} guest;

/* ---- The guest ------------------------------------------------------------------------------- */

static int read_pixels(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint32_t *pixels)
{
	(void)cookie;
	(void)scanout;
	if (guest.cannot_read) {
		return -ENOENT;
	}
	for (size_t i = 0; i < (size_t)rect->width * rect->height; i++) {
		pixels[i] = guest.pixel;
	}
	return 0;
}

/* A memfd stands for a dma-buf. */
static int get_buffer(void *cookie, uint32_t scanout, struct gpu_buffer *out)
{
	(void)cookie;
	(void)scanout;
	if (guest.key == 0) {
		return -EOPNOTSUPP;
	}
	*out = (struct gpu_buffer){ .key = guest.key,
		.fd = memfd_create("dma-buf", MFD_CLOEXEC),
		.width = WIDTH,
		.height = HEIGHT,
		.drm_format = guest.drm_format,
		.stride = WIDTH * 4,
		.rect = { 0, 0, WIDTH, HEIGHT },
		.acquire_fd = -1 };
	guest.num_buffers++;
	return 0;
}

static void note_release(void *cookie, uint64_t key)
{
	(void)cookie;
	(void)key;
	guest.num_released++;
}

static void note_shown(void *cookie, uint32_t scanout, uint64_t frame)
{
	(void)cookie;
	guest.shown[scanout] = frame;
}

static void note_resize(void *cookie, uint32_t scanout, uint32_t width, uint32_t height)
{
	(void)cookie;
	(void)scanout;
	guest.num_resized++;
	guest.width = width;
	guest.height = height;
}

static void note_lack(void *cookie)
{
	(void)cookie;
	guest.num_lacks++;
}

static const struct display_wayland_ops ops = {
	.read = read_pixels,
	.get_buffer = get_buffer,
	.release = note_release,
	.shown = note_shown,
	.resize = note_resize,
	.lacks_memory = note_lack,
};

/* ---- Both ------------------------------------------------------------------------------------ */

static void *create(void *arg)
{
	*(int *)arg = display_wayland_create(compositor.path, &ops, NULL, &display);
	return NULL;
}

/* Connecting waits for the compositor: it runs meanwhile. */
static void begin(unsigned int lacks)
{
	struct wl_event_loop *loop;
	pthread_t thread;
	int ret = 1;

	memset(&guest, 0, sizeof(guest));
	guest.drm_format = COMPOSITOR_XRGB8888;
	compositor_begin(&compositor, lacks);
	loop = wl_display_get_event_loop(compositor.display);
	assert_int_equal(pthread_create(&thread, NULL, create, &ret), 0);
	while (pthread_tryjoin_np(thread, NULL) != 0) {
		wl_event_loop_dispatch(loop, 1);
		compositor_send(&compositor);
	}
	assert_int_equal(ret, 0);
}

static void end(void)
{
	display_wayland_destroy(display);
	compositor_step(&compositor);
	compositor_end(&compositor);
}

#define TEST_LIMIT(name, lacks) TEST_BETWEEN(name, begin(lacks), end())
#define COPIES COMPOSITOR_NO_DMABUF

/* A round of the device, of which the compositor sees nothing. */
static void round_alone(void)
{
	display_wayland_flush(display);
	assert_int_equal(display_wayland_dispatch(display), 0);
}

static void step(void)
{
	for (int i = 0; i < 3; i++) {
		display_wayland_flush(display);
		compositor_step(&compositor);
		assert_int_equal(display_wayland_dispatch(display), 0);
	}
}

/* All that was held back has been sent and read. */
static void catch_up(void)
{
	for (int i = 0; i < 100; i++) {
		step();
	}
}

static struct compositor_surface *open_window(uint32_t scanout)
{
	struct compositor_surface *window;

	display_wayland_set_scanout(display, scanout, WIDTH, HEIGHT);
	step();
	window = compositor_window(&compositor, compositor_num_windows(&compositor) - 1);
	assert_non_null(window);
	compositor_configure(window, 0, 0);
	step();
	return window;
}

static void flush(uint32_t scanout, uint64_t frame)
{
	const struct virtio_gpu_rect all = { 0, 0, WIDTH, HEIGHT };

	assert_true(display_wayland_update(display, scanout, &all, frame));
}

static void set_cursor(uint32_t scanout, bool visible, uint32_t pixel)
{
	uint32_t pixels[64 * 64];

	for (size_t i = 0; i < 64 * 64; i++) {
		pixels[i] = UINT32_C(0xff000000) | pixel;
	}
	display_wayland_set_cursor(display, scanout,
		&(struct gpu_cursor){ .visible = visible, .pixels = visible ? pixels : NULL });
}

static void enter(struct compositor_surface *window)
{
	wl_pointer_send_enter(compositor.pointer, 1, window->resource, 0, 0);
	step();
}

/* ---- A compositor that does not read --------------------------------------------------------- */

TEST_LIMIT(monitors_on_and_off_do_not_end_a_display_that_is_not_read, COPIES)
{
	open_window(0);
	for (int i = 0; i < MANY; i++) {
		display_wayland_set_scanout(display, 0, 0, 0);
		display_wayland_set_scanout(display, 0, WIDTH, HEIGHT);
		if (i % 500 == 0) { /* as in one round of a guest's requests */
			round_alone();
		}
	}
	display_wayland_set_scanout(display, 0, 0, 0);
	catch_up();
	assert_int_equal(compositor_num_windows(&compositor), 0);
	open_window(0);
	flush(0, 1);
	step();
	assert_int_equal(compositor_num_windows(&compositor), 1);
	assert_int_equal(compositor_num_buffers(&compositor), 1);
}

TEST_LIMIT(frames_of_a_monitor_that_is_turned_off_count_as_shown_if_nothing_is_read, COPIES)
{
	open_window(0);
	for (uint64_t frame = 1; frame <= MANY; frame++) {
		display_wayland_set_scanout(display, 0, WIDTH, HEIGHT);
		flush(0, frame);
		display_wayland_set_scanout(display, 0, 0, 0);
		assert_int_equal(guest.shown[0], frame);
	}
	catch_up();
}

TEST_LIMIT(cursors_do_not_end_a_display_that_is_not_read, COPIES)
{
	struct compositor_surface *window = open_window(0);

	enter(window);
	for (uint32_t i = 1; i <= MANY; i++) {
		set_cursor(0, true, i);
		if (i % 2 == 0) {
			round_alone();
		}
	}
	catch_up();
	assert_non_null(compositor.cursor);
	assert_int_equal(compositor_pixel(compositor_shown(compositor.cursor), 3, 3), MANY);
}

TEST_LIMIT(frames_do_not_end_a_display_that_is_not_read, COMPOSITOR_NO_EXPLICIT)
{
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		open_window(i);
	}
	for (uint64_t frame = 1; frame <= MANY / VIRTIO_GPU_MAX_SCANOUTS; frame++) {
		for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
			guest.key = frame * VIRTIO_GPU_MAX_SCANOUTS + i;
			flush(i, frame);
			display_wayland_buffer_leaving(display, guest.key);
		}
	}
	round_alone();
	catch_up();
}

/* Until nothing more is sent: the compositor reads nothing. */
static void fill_socket(void)
{
	for (int i = 0; i < MANY; i++) {
		display_wayland_set_scanout(display, 5, WIDTH, HEIGHT);
		display_wayland_set_scanout(display, 5, 0, 0);
	}
}

/* The compositor reads again, and the device only does what it has to. */
static void read_socket(void)
{
	struct pollfd readable = { .fd = display_wayland_get_fd(display), .events = POLLIN };

	for (int i = 0; i < 100; i++) {
		compositor_step(&compositor);
	}
	for (int i = 0; i < 20; i++) {
		display_wayland_flush(display);
		if (poll(&readable, 1, 0) > 0) {
			assert_int_equal(display_wayland_dispatch(display), 0);
		}
		compositor_step(&compositor);
	}
	assert_int_equal(poll(&readable, 1, 0), 0); /* it sleeps */
}

TEST_LIMIT(what_was_held_back_is_sent_once_the_compositor_reads, COPIES)
{
	struct compositor_surface *window = open_window(0);

	fill_socket();
	flush(0, 1);
	display_wayland_set_scanout(display, 1, WIDTH, HEIGHT);
	read_socket();
	assert_int_equal(window->num_commits, 1);
	assert_int_equal(compositor_num_windows(&compositor), 2);
	fill_socket();
	display_wayland_set_scanout(display, 1, 0, 0);
	compositor_configure(window, 800, 600);
	compositor_send(&compositor);
	assert_int_equal(display_wayland_dispatch(display), 0);
	read_socket();
	assert_int_equal(compositor_num_windows(&compositor), 1);
	assert_int_equal(window->destination[0], 800);
	assert_int_equal(window->num_commits, 1);
}

static struct compositor_surface *show_in_place(void)
{
	struct compositor_surface *window = open_window(0);

	guest.key = 1;
	flush(0, 1);
	step();
	compositor_answer(window);
	step();
	return window;
}

TEST_LIMIT(memory_that_leaves_is_replaced_once_the_compositor_reads, COMPOSITOR_NO_EXPLICIT)
{
	struct compositor_surface *window = show_in_place();
	struct compositor_buffer *first = window->current.buffer;
	uint32_t released = guest.num_released;

	fill_socket();
	display_wayland_buffer_leaving(display, 1);
	read_socket();
	assert_int_equal(window->num_commits, 2);
	assert_int_equal(guest.num_released, released);
	compositor_release(first);
	step();
	assert_int_equal(guest.num_released, released + 1);
	assert_int_equal(compositor_num_buffers(&compositor), 1);
}

/* The end of its window is held back: nothing is shown any more. */
TEST_LIMIT(memory_that_leaves_with_its_monitor_is_not_replaced, COMPOSITOR_NO_EXPLICIT)
{
	show_in_place();
	fill_socket();
	display_wayland_set_scanout(display, 0, 0, 0);
	for (int i = 0; i < 100; i++) {
		compositor_step(&compositor);
	}
	display_wayland_buffer_leaving(display, 1);
	read_socket();
	assert_int_equal(compositor_num_windows(&compositor), 0);
	assert_int_equal(guest.num_lacks, 0);
}

/* Answers have nowhere to go, and the device has no memory for them without end. */
TEST_LIMIT(a_compositor_that_asks_and_does_not_read_is_given_up_on, COPIES)
{
	int ret = 0;

	for (uint32_t i = 0; i < MANY && ret == 0; i++) {
		xdg_wm_base_send_ping(compositor.wm_base, i);
		compositor_send(&compositor);
		ret = display_wayland_dispatch(display);
	}
	assert_int_equal(ret, -EPIPE);
}

/* ---- Sizes ----------------------------------------------------------------------------------- */

TEST_LIMIT(of_a_storm_of_sizes_the_guest_is_told_the_last, COPIES)
{
	struct compositor_surface *window = open_window(0);

	flush(0, 1);
	step();
	for (int i = 0; i < 100; i++) {
		compositor_configure(window, 700 + i, 500 + i);
	}
	step();
	assert_int_equal(window->num_acks, 101);
	assert_int_equal(guest.num_resized, 1);
	assert_int_equal(guest.width, 799);
	assert_int_equal(guest.height, 599);
}

/* A guest that shows the same all the time sends no frame for it. */
TEST_LIMIT(a_window_has_another_size_without_another_frame, COPIES)
{
	struct compositor_surface *window = open_window(0);

	flush(0, 1);
	step();
	assert_int_equal(window->destination[0], -1);
	compositor_configure(window, 800, 600);
	step();
	assert_int_equal(window->num_scaled, 1);
	assert_int_equal(window->destination[0], 800);
	assert_int_equal(window->destination[1], 600);
	assert_int_equal(window->num_commits, 1);
}

TEST_LIMIT(a_size_that_the_monitor_has_is_not_told, COPIES)
{
	struct compositor_surface *window = open_window(0);

	compositor_configure(window, 800, 600);
	compositor_configure(window, WIDTH, HEIGHT);
	step();
	assert_int_equal(guest.num_resized, 0);
}

/* The guest is about to follow what it was told before. */
TEST_LIMIT(a_size_that_is_taken_back_is_told, COPIES)
{
	struct compositor_surface *window = open_window(0);

	compositor_configure(window, 800, 600);
	step();
	compositor_configure(window, WIDTH, HEIGHT);
	step();
	assert_int_equal(guest.num_resized, 2);
	assert_int_equal(guest.width, WIDTH);
	assert_int_equal(guest.height, HEIGHT);
}

/* ---- A compositor that gives nothing back ---------------------------------------------------- */

/* 256 MiB each, of which nothing is ever filled: the mapping is not touched. */
TEST_LIMIT(windows_take_up_a_gibibyte_at_most, COPIES)
{
	const struct virtio_gpu_rect corner = { 0, 0, 1, 1 };

	for (uint32_t i = 0; i < 6; i++) {
		open_window(i);
	}
	guest.cannot_read = true;
	for (uint32_t i = 0; i < 6; i++) {
		display_wayland_set_scanout(display, i, 8192, 8192);
		assert_true(display_wayland_update(display, i, &corner, 1));
		step();
		assert_int_equal(guest.num_lacks, i < 4 ? 0 : i - 3);
		assert_int_equal(guest.shown[i], 1); /* nobody waits for it */
	}
	display_wayland_set_scanout(display, 0, 0, 0);
	assert_true(display_wayland_update(display, 5, &corner, 2));
	assert_int_equal(guest.num_lacks, 2);
}

/* It answers frames and sizes, and reads what it got for ever. */
TEST_LIMIT(what_is_never_released_is_bounded, COMPOSITOR_NO_EXPLICIT)
{
	uint32_t released;

	for (uint64_t i = 1; i <= 300; i++) {
		struct compositor_surface *window = open_window(0);

		guest.key = i;
		flush(0, i);
		step();
		if (window->num_answers > 0) {
			compositor_answer(window);
		}
		display_wayland_set_scanout(display, 0, 0, 0);
		step();
	}
	assert_int_equal(compositor_num_buffers(&compositor), 64);
	released = guest.num_released;
	compositor_release_all(&compositor);
	step();
	assert_int_equal(compositor_num_buffers(&compositor), 0);
	assert_int_equal(guest.num_released, released + 64);
}

/* Which of the windows had them. */
TEST_LIMIT(what_is_released_lets_all_windows_go_on, COMPOSITOR_NO_EXPLICIT)
{
	struct compositor_surface *window;

	for (uint64_t i = 1; i <= 64; i++) {
		window = open_window(0);
		guest.key = i;
		flush(0, i);
		step();
		display_wayland_set_scanout(display, 0, 0, 0);
		step();
	}
	assert_int_equal(compositor_num_buffers(&compositor), 64);
	window = open_window(1);
	guest.key = 0;
	flush(1, 1);
	step();
	assert_int_equal(window->num_commits, 0);
	compositor_release_all(&compositor);
	read_socket();
	assert_int_equal(window->num_commits, 1);
}

/* ---- What dma-bufs are taken as -------------------------------------------------------------- */

/* There is nothing behind a monitor. */
TEST_LIMIT(what_has_alpha_is_shown_without, COMPOSITOR_NO_EXPLICIT)
{
	open_window(0);
	guest.drm_format = FORMAT_ARGB8888;
	guest.key = 1;
	flush(0, 1);
	step();
	assert_int_equal(compositor.asked_format, COMPOSITOR_XRGB8888);
}

TEST_LIMIT(
	a_compositor_without_modifiers_gets_none, COMPOSITOR_NO_EXPLICIT | COMPOSITOR_NO_MODIFIERS)
{
	struct compositor_surface *window = open_window(0);

	guest.key = 1;
	flush(0, 1);
	step();
	assert_int_equal(compositor.asked_modifier, MODIFIER_INVALID);
	assert_true(window->current.buffer->fd >= 0);
}

/* ---- The cursor ------------------------------------------------------------------------------ */

TEST_LIMIT(cursors_of_one_round_are_drawn_once, COPIES)
{
	struct compositor_surface *window = open_window(0);
	unsigned int before;

	enter(window);
	before = compositor.num_cursors;
	for (uint32_t i = 1; i <= 1000; i++) {
		set_cursor(0, true, i);
	}
	step();
	assert_int_equal(compositor.num_cursors, before + 1);
}

/* A guest shows it on the one monitor, then hides it on the other. */
TEST_LIMIT(a_cursor_is_visible_if_it_is_on_one_monitor, COPIES)
{
	struct compositor_surface *window = open_window(1);

	enter(window);
	assert_null(compositor.cursor);
	set_cursor(0, true, 1);
	set_cursor(1, true, 2);
	set_cursor(0, false, 0);
	step();
	assert_non_null(compositor.cursor);
	assert_int_equal(compositor_pixel(compositor_shown(compositor.cursor), 0, 0), 2);
	set_cursor(1, false, 0);
	step();
	assert_null(compositor.cursor);
}
