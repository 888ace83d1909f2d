/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a Wayland compositor sees of a guest, and what the guest gets of it; of one that behaves
 * well and of others. */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/input-event-codes.h>

#include <vgfence/dma_buf.h>
#include <xdg-shell-server-protocol.h>

#include "clock.h"
#include "compositor.h"
#include "display_wayland.h"
#include "fd_kind.h"
#include "gpu.h"

#define FORMAT_XRGB8888 0x34325258u
#define NUM_KEYS 1100
#define NUM_BUTTONS 7
#define WHEEL_UP_BIT 3 /* then down, left, right */

#define WIDTH 640
#define HEIGHT 480

static const struct virtio_gpu_rect whole = { 0, 0, WIDTH, HEIGHT };

static struct compositor compositor;
static struct display_wayland *display;

/* The guest: what it shows, and what it was told. */
static struct {
	uint32_t seed;
	bool cannot_read;
	uint64_t key; /* of the memory that it shows; 0: there is no dma-buf */
	struct virtio_gpu_rect rect;
	uint32_t pinned[NUM_KEYS]; /* by key: given and not released */
	uint64_t shown[VIRTIO_GPU_MAX_SCANOUTS];
	uint64_t presented, presented_ns; /* the last frame with a time */
	uint32_t num_resized, width, height, num_closed, num_left, num_lacks;
	uint32_t key_code, buttons, x, y;
	uint32_t num_pressed[NUM_BUTTONS];
	bool key_down;
} guest;

/* ---- The guest ------------------------------------------------------------------------------- */

static uint32_t pixel(uint32_t scanout, uint32_t x, uint32_t y)
{
	return (guest.seed * 0x10203 + scanout * 0x1000 + y * 2654435761u + x) & 0xffffff;
}

static int read_pixels(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint32_t *pixels)
{
	(void)cookie;
	if (guest.cannot_read) {
		return -ENOENT;
	}
	for (uint32_t y = 0; y < rect->height; y++) {
		for (uint32_t x = 0; x < rect->width; x++) {
			*pixels++ = pixel(scanout, rect->x + x, rect->y + y);
		}
	}
	return 0;
}

/* A memfd stands for a dma-buf. */
static struct gpu_buffer make_buffer(uint64_t key)
{
	return (struct gpu_buffer){ .key = key,
		.fd = memfd_create("dma-buf", MFD_CLOEXEC),
		.width = WIDTH,
		.height = HEIGHT,
		.drm_format = FORMAT_XRGB8888,
		.stride = WIDTH * 4,
		.rect = guest.rect,
		.acquire_fd = -1 };
}

static int get_buffer(void *cookie, uint32_t scanout, struct gpu_buffer *out)
{
	(void)cookie;
	(void)scanout;
	if (guest.key == 0) {
		return -EOPNOTSUPP;
	}
	*out = make_buffer(guest.key);
	guest.pinned[guest.key] = 1;
	return 0;
}

static void note_release(void *cookie, uint64_t key)
{
	(void)cookie;
	guest.pinned[key] = 0;
}

static void note_shown(void *cookie, uint32_t scanout, uint64_t frame)
{
	(void)cookie;
	assert_true(frame > guest.shown[scanout]);
	guest.shown[scanout] = frame;
}

static void note_presented(void *cookie, uint32_t scanout, uint64_t frame, uint64_t time_ns)
{
	(void)cookie;
	assert_true(frame > guest.shown[scanout]);
	guest.presented = frame;
	guest.presented_ns = time_ns;
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

static void note_closed(void *cookie, uint32_t scanout)
{
	(void)cookie;
	(void)scanout;
	guest.num_closed++;
}

static void note_key(void *cookie, uint32_t code, bool down)
{
	(void)cookie;
	guest.key_code = code;
	guest.key_down = down;
}

static void note_pointer(void *cookie, uint32_t buttons, uint32_t x, uint32_t y)
{
	(void)cookie;
	for (unsigned int i = 0; i < NUM_BUTTONS; i++) {
		guest.num_pressed[i] += buttons >> i & ~guest.buttons >> i & 1;
	}
	guest.buttons = buttons;
	guest.x = x;
	guest.y = y;
}

static void note_left(void *cookie)
{
	(void)cookie;
	guest.num_left++;
}

static const struct display_wayland_ops ops = {
	.read = read_pixels,
	.get_buffer = get_buffer,
	.release = note_release,
	.shown = note_shown,
	.presented = note_presented,
	.resize = note_resize,
	.closed = note_closed,
	.lacks_memory = note_lack,
	.key = note_key,
	.pointer = note_pointer,
	.left = note_left,
};

/* ---- Both ------------------------------------------------------------------------------------ */

/* A fence of a dma-buf that its readers have left. */
static int implicit_fence = -1;

int __wrap_vgf_dma_buf_export_sync_file(int dma_buf_fd, enum vgf_access access);

int __wrap_vgf_dma_buf_export_sync_file(int dma_buf_fd, enum vgf_access access)
{
	(void)dma_buf_fd;
	(void)access;
	return implicit_fence >= 0 ? fcntl(implicit_fence, F_DUPFD_CLOEXEC, 0) : -ENOTTY;
}

/* An eventfd stands for a sync file. */
bool __wrap_fd_is_sync_file(int fd);

bool __wrap_fd_is_sync_file(int fd)
{
	return fd_check_eventfd(fd) == 0;
}

static void *create(void *arg)
{
	*(int *)arg = display_wayland_create(compositor.path, &ops, NULL, &display);
	return NULL;
}

/* Connecting waits for the compositor: it runs meanwhile. */
static int connect_display(void)
{
	struct wl_event_loop *loop = wl_display_get_event_loop(compositor.display);
	pthread_t thread;
	int ret = 1;

	assert_int_equal(pthread_create(&thread, NULL, create, &ret), 0);
	while (pthread_tryjoin_np(thread, NULL) != 0) {
		wl_event_loop_dispatch(loop, 1);
		compositor_send(&compositor);
	}
	return ret;
}

static void begin(unsigned int lacks)
{
	memset(&guest, 0, sizeof(guest));
	guest.rect = whole;
	compositor_begin(&compositor, lacks);
	assert_int_equal(connect_display(), 0);
}

static void end(void)
{
	display_wayland_destroy(display);
	for (size_t i = 0; i < NUM_KEYS; i++) {
		assert_int_equal(guest.pinned[i], 0);
	}
	compositor_step(&compositor);
	compositor_end(&compositor);
}

#define TEST_WAYLAND(name, lacks) TEST_BETWEEN(name, begin(lacks), end())
#define COPIES COMPOSITOR_NO_DMABUF

static void step(void)
{
	for (int i = 0; i < 3; i++) {
		display_wayland_flush(display);
		compositor_step(&compositor);
		assert_int_equal(display_wayland_dispatch(display), 0);
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

static void show(uint32_t scanout, uint64_t frame)
{
	assert_true(display_wayland_update(display, scanout, &whole, frame));
	step();
}

static void check_pixels(const struct compositor_surface *window, uint32_t scanout)
{
	for (uint32_t y = 0; y < HEIGHT; y++) {
		for (uint32_t x = 0; x < WIDTH; x++) {
			assert_int_equal(
				compositor_pixel(window->current.buffer, (int32_t)x, (int32_t)y),
				pixel(scanout, x, y));
		}
	}
}

/* ---- Copies ---------------------------------------------------------------------------------- */

TEST_WAYLAND(window_has_pixels_of_guest, COPIES)
{
	struct compositor_surface *window = open_window(0);

	show(0, 1);
	check_pixels(window, 0);
	assert_int_equal(guest.shown[0], 0);
	compositor_answer(window);
	step();
	assert_int_equal(guest.shown[0], 1);
}

TEST_WAYLAND(time_of_frame_is_told, COPIES)
{
	struct compositor_surface *window = open_window(0);

	show(0, 1);
	show(0, 2);
	compositor_answer(window);
	step();
	assert_int_equal(guest.presented, 1);
	assert_true(guest.presented_ns == COMPOSITOR_PRESENTED_NS);
	compositor_discard(window);
	step();
	assert_int_equal(guest.shown[0], 2);
	assert_int_equal(guest.presented, 1);
}

static uint64_t read_clock(clockid_t clock)
{
	struct timespec now;

	assert_int_equal(clock_gettime(clock, &now), 0);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Neither clock goes back, so what is between them is within what is read around it, but for what
 * one may gain on the other meanwhile. */
TEST_WAYLAND(time_of_other_clock_is_told_as_ours, COPIES | COMPOSITOR_RAW_CLOCK)
{
	struct compositor_surface *window = open_window(0);
	uint64_t least = read_clock(CLOCK_MONOTONIC) - NS_PER_S, most, between;

	most = NS_PER_S - read_clock(CLOCK_MONOTONIC_RAW);
	least -= read_clock(CLOCK_MONOTONIC_RAW);
	show(0, 1);
	compositor_answer(window);
	step();
	most += read_clock(CLOCK_MONOTONIC);
	assert_int_equal(guest.presented, 1);
	between = guest.presented_ns - COMPOSITOR_PRESENTED_NS;
	assert_true((int64_t)(between - least) >= 0);
	assert_true((int64_t)(most - between) >= 0);
}

TEST_WAYLAND(time_of_no_clock_is_not_told, COPIES | COMPOSITOR_NO_CLOCK)
{
	struct compositor_surface *window = open_window(0);

	show(0, 1);
	compositor_answer(window);
	step();
	assert_int_equal(guest.shown[0], 1);
	assert_int_equal(guest.presented, 0);
}

TEST_WAYLAND(window_has_frame_of_compositor, COPIES)
{
	assert_int_equal(open_window(0)->decoration, 2); /* server_side */
	display_wayland_set_scanout(display, 0, 0, 0);
	step();
	assert_int_equal(compositor_num_windows(&compositor), 0);
}

TEST_WAYLAND(damage_alone_is_copied, COPIES)
{
	const struct virtio_gpu_rect rect = { 5, 7, 11, 13 };
	struct compositor_surface *window = open_window(0);
	struct display_wayland_stats stats;

	show(0, 1);
	compositor_answer(window);
	compositor_release(window->current.buffer);
	step();
	assert_true(display_wayland_update(display, 0, &rect, 2));
	step();
	display_wayland_get_stats(display, &stats);
	assert_int_equal(stats.frames_copied, 2);
	assert_int_equal(stats.copied_bytes, (WIDTH * HEIGHT + 11 * 13) * 4);
	assert_int_equal(window->current.damage[0], 5);
	assert_int_equal(window->current.damage[3], 13);
}

TEST_WAYLAND(without_release_newest_frame_waits, COPIES)
{
	struct compositor_surface *window = open_window(0);
	struct compositor_buffer *first;

	show(0, 1);
	first = window->current.buffer;
	for (uint64_t frame = 2; frame <= 100; frame++) {
		guest.seed++;
		show(0, frame);
		if (window->num_answers > 0) {
			compositor_answer(window);
			step();
		}
	}
	assert_int_equal(compositor_num_buffers(&compositor), 3);
	assert_int_equal(window->num_commits, 3);
	compositor_release(first);
	compositor_release(first); /* twice */
	step();
	assert_int_equal(window->num_commits, 4);
	check_pixels(window, 0);
}

TEST_WAYLAND(two_frames_at_most_are_unanswered, COPIES | COMPOSITOR_NO_PRESENTATION)
{
	struct compositor_surface *window = open_window(0);

	for (uint64_t frame = 1; frame <= 50; frame++) {
		show(0, frame);
	}
	assert_int_equal(window->num_answers, 2);
	assert_int_equal(guest.shown[0], 0);
	compositor_answer(window);
	compositor_answer(window);
	step();
	assert_int_equal(guest.shown[0], 2);
	compositor_answer(window);
	step();
	assert_int_equal(guest.shown[0], 50);
}

/* What waits for an answer when a scanout gets another picture is of the one before. */
TEST_WAYLAND(another_picture_is_shown_with_its_own_flush, COPIES)
{
	struct compositor_surface *window = open_window(0);

	show(0, 1);
	show(0, 2);
	show(0, 3);
	display_wayland_set_scanout(display, 0, WIDTH, HEIGHT);
	guest.seed++; /* which is being drawn */
	compositor_answer(window);
	step();
	assert_int_equal(window->num_commits, 2);
	assert_int_equal(guest.shown[0], 1);
	compositor_answer(window);
	step();
	assert_int_equal(guest.shown[0], 3);
	show(0, 4);
	assert_int_equal(window->num_commits, 3);
	check_pixels(window, 0);
}

TEST_WAYLAND(another_picture_is_shown_whole, COPIES)
{
	const struct virtio_gpu_rect corner = { 0, 0, 1, 1 };
	struct compositor_surface *window = open_window(0);

	show(0, 1);
	compositor_answer(window);
	compositor_release(window->current.buffer);
	step();
	display_wayland_set_scanout(display, 0, WIDTH, HEIGHT);
	guest.seed++;
	assert_true(display_wayland_update(display, 0, &corner, 2));
	step();
	assert_int_equal(window->num_commits, 2);
	check_pixels(window, 0);
}

TEST_WAYLAND(garbage_sizes_and_storms, COPIES)
{
	struct compositor_surface *window = open_window(0);

	compositor_configure(window, -1, -1);
	compositor_configure(window, INT_MIN, INT_MAX);
	step();
	assert_int_equal(guest.num_resized, 0);
	compositor_configure(window, INT_MAX, INT_MAX);
	step();
	assert_int_equal(guest.width, GPU_MAX_SIZE);
	assert_int_equal(guest.height, GPU_MAX_SIZE);
	for (int i = 0; i < 200; i++) {
		compositor_configure(window, 800, 600);
		step();
	}
	assert_int_equal(guest.num_resized, 2);
	assert_int_equal(guest.width, 800);
}

TEST_WAYLAND(windows_come_and_go, COPIES)
{
	for (uint64_t i = 1; i <= 1000; i++) {
		struct compositor_surface *window = open_window(3);

		show(3, i);
		assert_int_equal(window->num_commits, 1);
		display_wayland_set_scanout(display, 3, 0, 0);
		step();
		assert_int_equal(guest.shown[3], i);
		assert_int_equal(compositor_num_windows(&compositor), 0);
	}
}

TEST_WAYLAND(sixteen_windows_of_which_one_stays, COPIES)
{
	struct compositor_surface *windows[VIRTIO_GPU_MAX_SCANOUTS];

	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		windows[i] = open_window(i);
		show(i, 1);
		check_pixels(windows[i], i);
	}
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		compositor_close(windows[i]);
		step();
	}
	assert_int_equal(guest.num_closed, VIRTIO_GPU_MAX_SCANOUTS - 1);
	assert_int_equal(compositor_num_windows(&compositor), 1);
}

/* A guest that does not know of it yet flips its pages. */
TEST_WAYLAND(a_window_that_is_closed_comes_back_with_its_monitor_alone, COPIES)
{
	struct compositor_surface *window = open_window(0);

	open_window(1);
	compositor_close(window);
	step();
	display_wayland_set_scanout(display, 0, WIDTH, HEIGHT);
	assert_false(display_wayland_update(display, 0, &whole, 1));
	step();
	assert_int_equal(compositor_num_windows(&compositor), 1);
	display_wayland_set_scanout(display, 0, 0, 0);
	open_window(0);
	assert_int_equal(compositor_num_windows(&compositor), 2);
}

/* ---- In place -------------------------------------------------------------------------------- */

TEST_WAYLAND(shown_in_place_without_copy, COMPOSITOR_NO_EXPLICIT)
{
	struct compositor_surface *window = open_window(0);
	struct display_wayland_stats stats;
	struct compositor_buffer *first;

	guest.key = 1;
	show(0, 1);
	first = window->current.buffer;
	assert_true(first->fd >= 0);
	compositor_answer(window);
	step();
	assert_int_equal(guest.shown[0], 1);

	guest.key = 2;
	show(0, 2);
	compositor_answer(window);
	step();
	assert_int_equal(guest.shown[0], 1); /* the first is still read */
	compositor_release(first);
	step();
	assert_int_equal(guest.shown[0], 2);
	assert_int_equal(guest.pinned[1], 0);
	assert_int_equal(guest.pinned[2], 1);
	display_wayland_get_stats(display, &stats);
	assert_int_equal(stats.frames_in_place, 2);
	assert_int_equal(stats.copied_bytes, 0);
}

TEST_WAYLAND(what_is_released_already_goes_when_it_leaves, COMPOSITOR_NO_EXPLICIT)
{
	struct compositor_surface *window = open_window(0);
	struct compositor_buffer *first;

	guest.key = 1;
	show(0, 1);
	first = window->current.buffer;
	guest.key = 2;
	show(0, 2);
	compositor_release(first);
	step();
	assert_int_equal(guest.pinned[1], 0);
	assert_int_equal(compositor_num_buffers(&compositor), 2);
	display_wayland_buffer_leaving(display, 1);
	step();
	assert_int_equal(compositor_num_buffers(&compositor), 1);
}

TEST_WAYLAND(refused_dma_buf_is_copied, COMPOSITOR_REFUSES)
{
	struct compositor_surface *window = open_window(0);

	guest.key = 1;
	show(0, 1);
	check_pixels(window, 0);
	assert_int_equal(guest.pinned[1], 0);
}

TEST_WAYLAND(leaving_buffer_is_replaced_by_copy, COMPOSITOR_NO_EXPLICIT)
{
	struct compositor_surface *window = open_window(0);
	struct compositor_buffer *first;

	guest.key = 1;
	show(0, 1);
	first = window->current.buffer;
	compositor_answer(window);
	step();
	display_wayland_buffer_leaving(display, 1);
	step();
	check_pixels(window, 0);
	assert_int_equal(guest.pinned[1], 1);
	compositor_release(first);
	step();
	assert_int_equal(guest.pinned[1], 0);
}

TEST_WAYLAND(fenced_release_waits_for_fence, 0)
{
	struct compositor_surface *window = open_window(0);
	struct wl_resource *release;
	int fence_fd = make_fence(false);

	guest.key = 1;
	show(0, 1);
	compositor_answer(window);
	release = window->current.release;
	guest.key = 2;
	show(0, 2);
	compositor_answer(window);
	compositor_release_explicit(release, fence_fd);
	step();
	assert_int_equal(guest.pinned[1], 1);
	assert_int_equal(guest.shown[0], 1);
	signal_fence(fence_fd);
	step();
	assert_int_equal(guest.pinned[1], 0);
	assert_int_equal(guest.shown[0], 2);
	close(fence_fd);
}

/* Not even polled: a file system of the compositor's could take its time for the answer. */
TEST_WAYLAND(a_fence_that_is_no_sync_file_is_not_waited_for, 0)
{
	struct compositor_surface *window = open_window(0);
	struct wl_resource *release;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	guest.key = 1;
	show(0, 1);
	release = window->current.release;
	guest.key = 2;
	show(0, 2);
	compositor_release_explicit(release, ends[0]);
	step();
	assert_int_equal(guest.pinned[1], 0);
	close(ends[0]);
	close(ends[1]);
}

static bool offer(uint64_t key, uint64_t frame, int fence_fd)
{
	struct gpu_buffer buffer = make_buffer(key);
	bool taken;

	buffer.acquire_fd = fcntl(fence_fd, F_DUPFD_CLOEXEC, 0);
	guest.pinned[key] = 1;
	taken = display_wayland_offer_take(display, 0, &whole, frame, &buffer);
	if (!taken) {
		close(buffer.fd);
		close(buffer.acquire_fd);
	}
	step();
	return taken;
}

TEST_WAYLAND(offered_frame_has_its_fence, 0)
{
	struct compositor_surface *window = open_window(0);
	int fence_fd = make_fence(false);

	assert_false(offer(1, 1, fence_fd)); /* the compositor is asked first */
	assert_true(offer(1, 1, fence_fd));
	assert_true(window->current.acquire_fd >= 0);
	assert_int_equal(window->num_commits, 1);
	compositor_answer(window);
	step();
	assert_int_equal(guest.shown[0], 1);
	close(fence_fd);
}

/* A memfd takes no fences. */
TEST_WAYLAND(offered_frame_without_a_way_for_its_fence, COMPOSITOR_NO_EXPLICIT)
{
	struct compositor_surface *window = open_window(0);
	int fence_fd = make_fence(false);

	assert_false(offer(1, 1, fence_fd));
	assert_false(offer(1, 1, fence_fd));
	assert_int_equal(window->num_commits, 0);
	guest.key = 1;
	show(0, 1);
	assert_int_equal(window->num_commits, 1);
	close(fence_fd);
}

TEST_WAYLAND(compositor_dies_in_the_middle, 0)
{
	struct compositor_surface *window = open_window(0);

	guest.key = 1;
	show(0, 1);
	guest.key = 2;
	show(0, 2);
	assert_int_equal(window->num_answers, 2);
	guest.key = 3;
	show(0, 3);
	compositor_kill_client(&compositor);
	assert_int_equal(display_wayland_dispatch(display), -EPIPE);
	assert_true(display_wayland_update(display, 0, &whole, 4));
	display_wayland_buffer_leaving(display, 1);
	assert_int_equal(display_wayland_dispatch(display), -EPIPE);
}

TEST_WAYLAND(same_memory_shows_another_part, COMPOSITOR_NO_EXPLICIT)
{
	struct compositor_surface *window = open_window(0);
	struct compositor_buffer *first;

	guest.key = 1;
	show(0, 1);
	first = window->current.buffer;
	guest.key = 2;
	show(0, 2);
	compositor_answer(window);
	compositor_answer(window);
	compositor_release(first);
	step();
	guest.key = 1;
	guest.rect = (struct virtio_gpu_rect){ 20, 30, 100, 100 };
	show(0, 3);
	assert_ptr_equal(window->current.buffer, first);
	assert_int_equal(window->source[0], 20);
	assert_int_equal(window->source[1], 30);
}

/* A blob of one long row, of which a scanout may show the end. */
TEST_WAYLAND(what_is_too_far_in_its_memory_is_copied, COMPOSITOR_NO_EXPLICIT)
{
	struct compositor_surface *window = open_window(0);

	guest.key = 1;
	guest.rect.x = 1 << 23;
	show(0, 1);
	check_pixels(window, 0);
	assert_int_equal(guest.pinned[1], 0);
}

/* Its window ends for that, and nobody answers for the frame any more. */
TEST_WAYLAND(a_frame_whose_buffer_leaves_unread_is_shown_by_the_next_window, COMPOSITOR_NO_EXPLICIT)
{
	struct compositor_surface *window = open_window(0);
	struct compositor_buffer *first;

	guest.key = 1;
	show(0, 1);
	first = window->current.buffer;
	guest.cannot_read = true;
	display_wayland_buffer_leaving(display, 1);
	guest.key = 0;
	guest.cannot_read = false;
	step();
	window = compositor_window(&compositor, 0);
	assert_int_equal(window->num_commits, 0);
	assert_int_equal(guest.shown[0], 0);
	compositor_configure(window, 0, 0);
	step();
	assert_int_equal(window->num_commits, 1);
	check_pixels(window, 0);
	compositor_answer(window);
	compositor_release(first);
	step();
	assert_int_equal(guest.shown[0], 1);
	assert_int_equal(guest.pinned[1], 0);
}

/* What the compositor makes of a dma-buf then has its place among the connection's objects. */
TEST_WAYLAND(window_goes_while_compositor_is_asked, COMPOSITOR_ASKS)
{
	struct compositor_surface *window = open_window(0);

	guest.key = 1;
	show(0, 1);
	display_wayland_set_scanout(display, 0, 0, 0);
	assert_int_equal(guest.pinned[1], 0);
	compositor_decide(&compositor, true);
	step();
	assert_int_equal(compositor_num_buffers(&compositor), 0);

	window = open_window(0);
	guest.key = 2;
	show(0, 2);
	compositor_decide(&compositor, true);
	step();
	assert_int_equal(window->num_commits, 1);
}

TEST_WAYLAND(released_twice_while_it_is_read, COMPOSITOR_NO_EXPLICIT)
{
	struct compositor_surface *window = open_window(0);
	struct compositor_buffer *first;

	guest.key = 1;
	show(0, 1);
	first = window->current.buffer;
	guest.key = 2;
	show(0, 2);
	implicit_fence = make_fence(false);
	compositor_release(first);
	compositor_release(first);
	step();
	assert_int_equal(guest.pinned[1], 1);
	display_wayland_buffer_leaving(display, 1);
	signal_fence(implicit_fence);
	step();
	assert_int_equal(guest.pinned[1], 0);
	close(implicit_fence);
	implicit_fence = -1;
}

TEST_WAYLAND(frame_that_cannot_be_read_counts_as_shown, COPIES)
{
	struct compositor_surface *window = open_window(0);

	show(0, 1);
	guest.cannot_read = true;
	show(0, 2);
	compositor_answer(window);
	step();
	assert_int_equal(guest.shown[0], 2);
}

/* Otherwise compositors take it for one that hangs. */
TEST_WAYLAND(a_compositor_that_asks_is_answered, COPIES)
{
	xdg_wm_base_send_ping(compositor.wm_base, 1234);
	step();
	assert_int_equal(compositor.pong, 1234);
}

/* ---- Keyboard and pointer -------------------------------------------------------------------- */

TEST_WAYLAND(keyboard_and_pointer_on_two_windows, COPIES)
{
	struct compositor_surface *left = open_window(0), *right = open_window(1);
	struct wl_array keys;

	wl_array_init(&keys);
	wl_keyboard_send_enter(compositor.keyboard, 1, left->resource, &keys);
	wl_keyboard_send_key(compositor.keyboard, 1, 0, KEY_A, 1);
	step();
	assert_int_equal(guest.key_code, KEY_A);
	assert_true(guest.key_down);
	wl_keyboard_send_leave(compositor.keyboard, 1, left->resource);
	wl_pointer_send_enter(compositor.pointer, 1, right->resource, 0, 0);
	wl_pointer_send_frame(compositor.pointer);
	step();
	assert_int_equal(guest.num_left, 1);
	assert_int_equal(guest.x, WIDTH * DISPLAY_WAYLAND_POINTER_MAX / (2 * WIDTH - 1));
	compositor_configure(right, 2 * WIDTH, 2 * HEIGHT);
	wl_pointer_send_motion(compositor.pointer, 0, wl_fixed_from_int(2 * WIDTH - 1),
		wl_fixed_from_int(2 * HEIGHT - 1));
	wl_pointer_send_frame(compositor.pointer);
	step();
	assert_int_equal(guest.x, DISPLAY_WAYLAND_POINTER_MAX);
	assert_int_equal(guest.y, DISPLAY_WAYLAND_POINTER_MAX);
}

TEST_WAYLAND(button_is_let_go_with_the_window_or_the_seat, COPIES)
{
	struct compositor_surface *window = open_window(0);

	for (int i = 0; i < 2; i++) {
		wl_pointer_send_enter(compositor.pointer, 1, window->resource, 0, 0);
		wl_pointer_send_button(compositor.pointer, 1, 0, BTN_LEFT, 1);
		step();
		assert_int_equal(guest.buttons, 1);
		if (i == 0) {
			display_wayland_set_scanout(display, 0, 0, 0);
			assert_int_equal(guest.buttons, 0);
			window = open_window(0);
		}
	}
	wl_seat_send_capabilities(compositor.seat, WL_SEAT_CAPABILITY_KEYBOARD);
	step();
	assert_int_equal(guest.buttons, 0);
	wl_global_destroy(compositor.seat_global);
	step();
}

TEST_WAYLAND(wheel_turns_without_end, COPIES)
{
	struct compositor_surface *window = open_window(0);

	wl_pointer_send_enter(compositor.pointer, 1, window->resource, 0, 0);
	for (int i = 0; i < 20000; i++) {
		wl_pointer_send_axis(compositor.pointer, 0, 0, wl_fixed_from_int(999));
		if (i % 100 == 0) {
			step();
		}
	}
	wl_pointer_send_frame(compositor.pointer);
	step();
	assert_int_equal(guest.buttons, 0);
}

/* The guest has a layout of its own, and repeats keys by itself. */
TEST_WAYLAND(layouts_and_modifiers_of_the_host_are_not_the_guests, COPIES)
{
	struct compositor_surface *window = open_window(0);
	int layout = memfd_create("keymap", MFD_CLOEXEC), before;
	struct wl_array keys;

	wl_array_init(&keys);
	wl_keyboard_send_enter(compositor.keyboard, 1, window->resource, &keys);
	step();
	before = count_fds();
	for (int i = 0; i < 100; i++) {
		wl_keyboard_send_keymap(
			compositor.keyboard, WL_KEYBOARD_KEYMAP_FORMAT_XKB_V1, layout, 4096);
		step();
	}
	wl_keyboard_send_modifiers(compositor.keyboard, 1, 1, 0, 0, 0);
	wl_keyboard_send_repeat_info(compositor.keyboard, 25, 600);
	wl_seat_send_name(compositor.seat, "seat0");
	step();
	assert_int_equal(count_fds(), before);
	assert_int_equal(guest.key_code, 0);
	assert_false(guest.key_down);
	close(layout);
}

TEST_WAYLAND(keys_go_up_with_the_keyboard_of_the_seat, COPIES)
{
	struct compositor_surface *window = open_window(0);
	struct wl_array keys;

	wl_array_init(&keys);
	wl_keyboard_send_enter(compositor.keyboard, 1, window->resource, &keys);
	wl_keyboard_send_key(compositor.keyboard, 1, 0, KEY_A, 1);
	wl_seat_send_capabilities(compositor.seat, WL_SEAT_CAPABILITY_POINTER);
	step();
	assert_int_equal(guest.num_left, 1);
	assert_null(compositor.keyboard);
	wl_seat_send_capabilities(
		compositor.seat, WL_SEAT_CAPABILITY_POINTER | WL_SEAT_CAPABILITY_KEYBOARD);
	step();
	assert_non_null(compositor.keyboard);
}

/* What is down when the pointer leaves goes up; where it is then is no matter of the guest's. */
TEST_WAYLAND(a_pointer_that_has_left_moves_and_holds_nothing, COPIES)
{
	struct compositor_surface *window = open_window(0);
	uint32_t x;

	wl_pointer_send_enter(compositor.pointer, 1, window->resource, wl_fixed_from_int(10), 0);
	wl_pointer_send_button(compositor.pointer, 1, 0, BTN_MIDDLE, 1);
	wl_pointer_send_frame(compositor.pointer);
	step();
	assert_int_equal(guest.buttons, 2);
	x = guest.x;
	wl_pointer_send_leave(compositor.pointer, 1, window->resource);
	wl_pointer_send_frame(compositor.pointer);
	step();
	assert_int_equal(guest.buttons, 0);
	wl_pointer_send_motion(compositor.pointer, 0, wl_fixed_from_int(WIDTH - 1), 0);
	wl_pointer_send_frame(compositor.pointer);
	step();
	assert_int_equal(guest.x, x);
}

TEST_WAYLAND(a_pointer_outside_of_the_window_is_at_its_edge, COPIES)
{
	struct compositor_surface *window = open_window(0);

	wl_pointer_send_enter(compositor.pointer, 1, window->resource, wl_fixed_from_int(-10),
		wl_fixed_from_int(4 * HEIGHT));
	wl_pointer_send_frame(compositor.pointer);
	step();
	assert_int_equal(guest.x, 0);
	assert_int_equal(guest.y, DISPLAY_WAYLAND_POINTER_MAX);
}

/* The length that comes with the clicks of a wheel is the same turn. */
TEST_WAYLAND(wheel_turns_by_its_clicks, COPIES)
{
	struct compositor_surface *window = open_window(0);

	wl_pointer_send_enter(compositor.pointer, 1, window->resource, 0, 0);
	wl_pointer_send_axis_source(compositor.pointer, WL_POINTER_AXIS_SOURCE_WHEEL);
	wl_pointer_send_axis_discrete(compositor.pointer, 0, 2);
	wl_pointer_send_axis(compositor.pointer, 0, 0, wl_fixed_from_int(999));
	wl_pointer_send_axis_discrete(compositor.pointer, 1, -1);
	wl_pointer_send_axis_discrete(compositor.pointer, UINT32_MAX, 1);
	wl_pointer_send_axis(compositor.pointer, 0, UINT32_MAX, wl_fixed_from_int(999));
	wl_pointer_send_frame(compositor.pointer);
	step();
	assert_int_equal(guest.num_pressed[WHEEL_UP_BIT], 0);
	assert_int_equal(guest.num_pressed[WHEEL_UP_BIT + 1], 2); /* down */
	assert_int_equal(guest.num_pressed[WHEEL_UP_BIT + 2], 1); /* left */
	assert_int_equal(guest.num_pressed[WHEEL_UP_BIT + 3], 0);
}

TEST_WAYLAND(what_a_finger_has_not_finished_ends_with_it, COPIES)
{
	struct compositor_surface *window = open_window(0);

	wl_pointer_send_enter(compositor.pointer, 1, window->resource, 0, 0);
	for (int i = 0; i < 10; i++) {
		wl_pointer_send_axis(compositor.pointer, 0, 0, wl_fixed_from_int(6));
		wl_pointer_send_frame(compositor.pointer);
		wl_pointer_send_axis_stop(compositor.pointer, 0, 0);
		wl_pointer_send_frame(compositor.pointer);
	}
	wl_pointer_send_axis_stop(compositor.pointer, 0, UINT32_MAX);
	step();
	assert_int_equal(guest.num_pressed[WHEEL_UP_BIT + 1], 0);
	for (int i = 0; i < 2; i++) {
		wl_pointer_send_axis(compositor.pointer, 0, 0, wl_fixed_from_int(6));
		wl_pointer_send_frame(compositor.pointer);
	}
	step();
	assert_int_equal(guest.num_pressed[WHEEL_UP_BIT + 1], 1);
}
