/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A guest, a user and a Wayland compositor do what may come, in any order. The compositor is never
 * given what it has not released. Once it has answered everything, each frame counts as shown, and
 * none of the guest's memory is read any more.
 *
 * VGF_TEST_SEED=N runs that seed alone, VGF_TEST_STEPS=N as many operations of each seed.
 */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <wayland-server-protocol.h>

#include "compositor.h"
#include "display_wayland.h"
#include "fd_kind.h"
#include "gpu.h"

#define DEFAULT_STEPS 4000
#define SEEDS 10
#define SCANOUTS 3
#define MAX_FENCES 8
#define BORDER 4u /* of the memory, around what is shown of it */

static struct compositor compositor;
static struct display_wayland *display;
static uint64_t state; /* of the random numbers */

struct monitor {
	uint32_t width, height; /* 0: off */
	uint64_t key;           /* of its memory; 0: no dma-buf */
	uint64_t frame, expected, shown;
};

static struct {
	struct monitor monitors[SCANOUTS];
	uint64_t last_key;
	bool *is_pinned; /* by key */
} guest;

static int fences[MAX_FENCES]; /* that releases wait for; -1: there is none */

static uint32_t below(uint32_t limit)
{
	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(state >> 33) % limit;
}

/* ---- The guest ------------------------------------------------------------------------------- */

static int read_pixels(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint32_t *pixels)
{
	(void)cookie;
	assert_true(rect->x + rect->width <= guest.monitors[scanout].width);
	assert_true(rect->y + rect->height <= guest.monitors[scanout].height);
	memset(pixels, 0, (size_t)rect->width * rect->height * sizeof(*pixels));
	return below(20) == 0 ? -ENOENT : 0;
}

/* A memfd stands for a dma-buf. */
static struct gpu_buffer make_buffer(const struct monitor *monitor)
{
	guest.is_pinned[monitor->key] = true;
	return (struct gpu_buffer){ .key = monitor->key,
		.fd = memfd_create("dma-buf", MFD_CLOEXEC),
		.width = monitor->width + 2 * BORDER,
		.height = monitor->height + 2 * BORDER,
		.drm_format = COMPOSITOR_XRGB8888,
		.stride = (monitor->width + 2 * BORDER) * 4,
		.rect = { BORDER, BORDER, monitor->width, monitor->height },
		.acquire_fd = -1 };
}

static int get_buffer(void *cookie, uint32_t scanout, struct gpu_buffer *out)
{
	(void)cookie;
	if (guest.monitors[scanout].key == 0) {
		return -EOPNOTSUPP;
	}
	*out = make_buffer(&guest.monitors[scanout]);
	return 0;
}

static void note_release(void *cookie, uint64_t key)
{
	(void)cookie;
	guest.is_pinned[key] = false;
}

static void note_shown(void *cookie, uint32_t scanout, uint64_t frame)
{
	(void)cookie;
	assert_true(frame > guest.monitors[scanout].shown);
	assert_true(frame <= guest.monitors[scanout].frame);
	guest.monitors[scanout].shown = frame;
}

static void note_resize(void *cookie, uint32_t scanout, uint32_t width, uint32_t height)
{
	(void)cookie;
	assert_true(scanout < SCANOUTS);
	assert_true(width >= GPU_MIN_WIDTH && width <= GPU_MAX_SIZE);
	assert_true(height >= GPU_MIN_HEIGHT && height <= GPU_MAX_SIZE);
}

/* What it had shown is told before. */
static void note_closed(void *cookie, uint32_t scanout)
{
	(void)cookie;
	assert_int_equal(guest.monitors[scanout].shown, guest.monitors[scanout].expected);
}

static void check_pointer(void *cookie, uint32_t buttons, uint32_t x, uint32_t y)
{
	(void)cookie;
	assert_true(buttons < 1 << 7);
	assert_true(x <= DISPLAY_WAYLAND_POINTER_MAX && y <= DISPLAY_WAYLAND_POINTER_MAX);
}

static const struct display_wayland_ops ops = {
	.read = read_pixels,
	.get_buffer = get_buffer,
	.release = note_release,
	.shown = note_shown,
	.resize = note_resize,
	.closed = note_closed,
	.pointer = check_pointer,
};

static void set_scanout(uint32_t index, uint32_t width, uint32_t height)
{
	struct monitor *monitor = &guest.monitors[index];

	monitor->width = width;
	monitor->height = height;
	display_wayland_set_scanout(display, index, width, height);
	if (width == 0) {
		assert_int_equal(monitor->shown, monitor->expected);
	}
}

static void any_scanout(uint32_t index)
{
	static const uint32_t sizes[] = { 0, 16, 16, 24 };
	uint32_t size = sizes[below(4)];

	set_scanout(index, size, size);
}

static struct virtio_gpu_rect any_rect(const struct monitor *monitor)
{
	struct virtio_gpu_rect rect = { below(monitor->width), below(monitor->height), 1, 1 };

	rect.width += below(monitor->width - rect.x);
	rect.height += below(monitor->height - rect.y);
	return rect;
}

static void flush(uint32_t index)
{
	struct monitor *monitor = &guest.monitors[index];
	struct virtio_gpu_rect rect;

	if (monitor->width > 0) {
		rect = any_rect(monitor);
		monitor->frame++;
		if (display_wayland_update(display, index, &rect, monitor->frame)) {
			monitor->expected = monitor->frame;
		}
	}
}

/* The fence may never signal: the compositor is a double. */
static void offer(uint32_t index)
{
	struct monitor *monitor = &guest.monitors[index];
	bool was_pinned = guest.is_pinned[monitor->key];
	struct virtio_gpu_rect rect;
	struct gpu_buffer buffer;

	if (monitor->width == 0 || monitor->key == 0) {
		return;
	}
	rect = any_rect(monitor);
	buffer = make_buffer(monitor);
	buffer.acquire_fd = make_fence(false);
	monitor->frame++;
	if (display_wayland_offer_take(display, index, &rect, monitor->frame, &buffer)) {
		monitor->expected = monitor->frame;
	} else {
		close(buffer.fd);
		close(buffer.acquire_fd);
		guest.is_pinned[monitor->key] = was_pinned;
		if (display_wayland_update(display, index, &rect, monitor->frame)) {
			monitor->expected = monitor->frame;
		}
	}
}

/* Of some that come again, of a new one, or of none. */
static void any_memory(struct monitor *monitor)
{
	switch (below(4)) {
	case 0:
		monitor->key = 0;
		break;
	case 1:
		monitor->key = ++guest.last_key;
		break;
	default:
		monitor->key = guest.last_key > 3 ? guest.last_key - below(4) : 0;
		break;
	}
}

static void take_back(uint64_t key)
{
	if (key == 0) {
		return;
	}
	for (uint32_t i = 0; i < SCANOUTS; i++) {
		if (guest.monitors[i].key == key) {
			guest.monitors[i].key = 0;
		}
	}
	display_wayland_buffer_leaving(display, key);
}

static void any_cursor(uint32_t index)
{
	static const uint32_t pixels[64 * 64];
	bool visible = below(2) == 0;

	display_wayland_set_cursor(display, index,
		&(struct gpu_cursor){ .visible = visible, .pixels = visible ? pixels : NULL });
}

/* ---- The compositor -------------------------------------------------------------------------- */

static struct compositor_surface *any_window(void)
{
	unsigned int count = compositor_num_windows(&compositor);

	return count > 0 ? compositor_window(&compositor, below(count)) : NULL;
}

static struct compositor_buffer *any_buffer(void)
{
	unsigned int count = compositor_num_buffers(&compositor), index;
	struct compositor_buffer *buffer;

	if (count == 0) {
		return NULL;
	}
	index = below(count);
	wl_list_for_each(buffer, &compositor.buffers, link)
	{
		if (index-- == 0) {
			return buffer;
		}
	}
	return NULL;
}

static void signal_one(uint32_t index)
{
	if (fences[index] >= 0) {
		signal_fence(fences[index]);
		close(fences[index]);
		fences[index] = -1;
	}
}

/* As the client has asked for; behind a fence, too. */
static void release(struct compositor_buffer *buffer)
{
	uint32_t index = below(MAX_FENCES);

	if (buffer == NULL || !buffer->is_held) {
		return;
	}
	if (buffer->release == NULL) {
		compositor_release(buffer);
	} else if (below(2) == 0) {
		compositor_release_explicit(buffer->release, -1);
	} else {
		signal_one(index);
		fences[index] = make_fence(false);
		compositor_release_explicit(buffer->release, fences[index]);
	}
}

static void answer(struct compositor_surface *window)
{
	if (window == NULL || window->num_answers == 0) {
		return;
	}
	if (below(3) == 0) {
		compositor_discard(window);
	} else {
		compositor_answer(window);
	}
}

static void resize(struct compositor_surface *window)
{
	if (window != NULL) {
		compositor_configure(window, (int32_t)below(1000), (int32_t)below(1000) - 100);
	}
}

static void close_one(struct compositor_surface *window)
{
	if (window != NULL) {
		compositor_close(window);
	}
}

/* The device does nothing that it is not woken up for. */
static void step(void)
{
	struct pollfd readable = { .fd = display_wayland_get_fd(display), .events = POLLIN };

	display_wayland_flush(display);
	compositor_step(&compositor);
	if (poll(&readable, 1, 0) > 0) {
		assert_int_equal(display_wayland_dispatch(display), 0);
	}
}

/* Only on what the client has as well: an event about a surface that is destroyed meanwhile leaves
 * something of it behind in libwayland-client 1.21. */
static void point_somewhere(void)
{
	struct compositor_surface *window;

	step();
	step();
	window = any_window();
	if (window == NULL) {
		return;
	}
	wl_pointer_send_enter(compositor.pointer, 1, window->resource, 0, 0);
	wl_pointer_send_button(compositor.pointer, 1, 0, 0x110, below(2));
	wl_pointer_send_axis(compositor.pointer, 0, below(2), (wl_fixed_t)below(1u << 31));
	wl_pointer_send_frame(compositor.pointer);
	step();
}

static void guest_acts(void)
{
	uint32_t index = below(SCANOUTS);

	switch (below(12)) {
	case 0:
		any_scanout(index);
		break;
	case 1:
		any_memory(&guest.monitors[index]);
		break;
	case 2:
		take_back(guest.monitors[index].key);
		break;
	case 3:
		any_cursor(index);
		break;
	case 4:
	case 5:
		offer(index);
		break;
	default:
		flush(index);
		break;
	}
}

/* Far more than a socket has room for. */
static void fill_socket(void)
{
	uint32_t index = below(SCANOUTS);

	for (int i = 0; i < 5000; i++) {
		set_scanout(index, 16, 16);
		set_scanout(index, 0, 0);
	}
}

/* It reads nothing for a while. */
static void stall(void)
{
	fill_socket();
	for (int i = 0; i < 10; i++) {
		guest_acts();
	}
	for (int i = 0; i < 100; i++) {
		compositor_step(&compositor);
	}
}

static void compositor_acts(void)
{
	struct compositor_buffer *buffer = any_buffer();

	switch (below(12)) {
	case 0:
	case 1:
		resize(any_window());
		break;
	case 2:
		if (below(10) == 0) {
			close_one(any_window());
		}
		break;
	case 3:
		compositor.lacks ^= COMPOSITOR_REFUSES;
		break;
	case 4:
		point_somewhere();
		break;
	case 5:
		signal_one(below(MAX_FENCES));
		break;
	case 6: /* not as it was asked for */
		if (buffer != NULL && buffer->release != NULL) {
			compositor_release(buffer);
		}
		break;
	case 7:
	case 8:
	case 9:
		answer(any_window());
		break;
	default:
		release(buffer);
		break;
	}
}

/* ---- Both ------------------------------------------------------------------------------------ */

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

static void begin(unsigned int lacks, uint64_t seed, unsigned int steps)
{
	struct wl_event_loop *loop;
	pthread_t thread;
	int ret = 1;

	memset(&guest, 0, sizeof(guest));
	memset(fences, -1, sizeof(fences));
	guest.is_pinned = calloc(steps + 1, sizeof(*guest.is_pinned));
	assert_non_null(guest.is_pinned);
	state = seed;
	compositor_begin(&compositor, lacks);
	loop = wl_display_get_event_loop(compositor.display);
	assert_int_equal(pthread_create(&thread, NULL, create, &ret), 0);
	while (pthread_tryjoin_np(thread, NULL) != 0) {
		wl_event_loop_dispatch(loop, 1);
		compositor_send(&compositor);
	}
	assert_int_equal(ret, 0);
}

static void answer_everything(void)
{
	struct compositor_surface *window;
	struct compositor_buffer *buffer;

	for (unsigned int i = 0; (window = compositor_window(&compositor, i)) != NULL; i++) {
		if (window->num_acks == 0) {
			compositor_configure(window, 0, 0);
		}
		while (window->num_answers > 0) {
			answer(window);
		}
	}
	wl_list_for_each(buffer, &compositor.buffers, link)
	{
		release(buffer);
	}
	for (uint32_t i = 0; i < MAX_FENCES; i++) {
		signal_one(i);
	}
	step();
}

static void settle(void)
{
	for (int i = 0; i < 50; i++) {
		answer_everything();
	}
}

static void end(unsigned int steps)
{
	settle();
	for (uint32_t i = 0; i < SCANOUTS; i++) {
		assert_int_equal(guest.monitors[i].shown, guest.monitors[i].expected);
		set_scanout(i, 0, 0);
	}
	settle();
	assert_int_equal(compositor_num_windows(&compositor), 0);
	for (unsigned int i = 0; i <= steps; i++) {
		assert_false(guest.is_pinned[i]);
	}
	display_wayland_destroy(display);
	compositor_step(&compositor);
	compositor_end(&compositor);
	free(guest.is_pinned);
}

static void run_seed(unsigned int lacks, uint64_t seed, unsigned int steps)
{
	begin(lacks, seed, steps);
	for (unsigned int i = 0; i < steps; i++) {
		switch (below(3)) {
		case 0:
			guest_acts();
			break;
		case 1:
			if (below(500) == 0) {
				stall();
			} else {
				compositor_acts();
			}
			break;
		default:
			step();
			break;
		}
	}
	stall();
	end(steps);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

static void run_seeds(unsigned int lacks)
{
	unsigned int steps = (unsigned int)from_environment("VGF_TEST_STEPS", DEFAULT_STEPS);
	uint64_t seed = from_environment("VGF_TEST_SEED", 0);
	uint64_t last = seed != 0 ? seed : SEEDS;

	print_message("seeds %" PRIu64 " to %" PRIu64 ", %u steps each\n", seed != 0 ? seed : 1,
		last, steps);
	for (seed = seed != 0 ? seed : 1; seed <= last; seed++) {
		run_seed(lacks, seed, steps);
	}
}

TEST(everything_comes_back_with_fences)
{
	run_seeds(0);
}

TEST(everything_comes_back_with_releases_of_buffers)
{
	run_seeds(COMPOSITOR_NO_EXPLICIT);
}

TEST(everything_comes_back_without_dma_bufs)
{
	run_seeds(COMPOSITOR_NO_DMABUF | COMPOSITOR_NO_VIEWPORTER);
}
