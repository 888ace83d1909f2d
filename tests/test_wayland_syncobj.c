/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Frames that are shown in place, with points of the kernel's sync objects
 * (wp_linux_drm_syncobj_v1). Both the compositor and the sync objects are doubles. */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vgfence/syncobj.h>

#include "compositor.h"
#include "compositor_syncobj.h"
#include "display_wayland.h"
#include "gpu.h"

#define WIDTH 64
#define HEIGHT 48
#define MAX_WAITS 64

static const struct virtio_gpu_rect whole = { 0, 0, WIDTH, HEIGHT };

static struct compositor compositor;
static struct compositor_syncobj points;
static struct display_wayland *display;

static struct {
	uint64_t key; /* of its memory; 0: there is no dma-buf */
	uint32_t pinned[16];
	uint64_t shown;
} guest;

/* ---- The kernel ------------------------------------------------------------------------------ */

static struct {
	int features, create_error, notify_error;
	uint32_t num_syncobjs, last_handle;
	int acquire_fd; /* that was imported last */
	uint64_t acquire;
	struct {
		uint32_t handle;
		uint64_t point;
		int event_fd;
	} waits[MAX_WAITS];
	uint32_t num_waits;
} kernel;

int __wrap_drmOpenRender(int minor);
int __wrap_drmSyncobjHandleToFD(int fd, uint32_t handle, int *out);
int __wrap_vgf_syncobj_probe(int drm_fd);
int __wrap_vgf_syncobj_create(int drm_fd, uint32_t *handle);
void __wrap_vgf_syncobj_destroy(int drm_fd, uint32_t handle);
int __wrap_vgf_syncobj_import_sync_file(int drm_fd, uint32_t handle, uint64_t point, int fence_fd);
int __wrap_vgf_syncobj_notify(
	int drm_fd, uint32_t handle, uint64_t point, enum vgf_syncobj_event event, int event_fd);

/* Two devices, of which the second one has sync objects. */
int __wrap_drmOpenRender(int minor)
{
	return minor == 128 || minor == 129 ? memfd_create("drm", MFD_CLOEXEC) : -1;
}

int __wrap_drmSyncobjHandleToFD(int fd, uint32_t handle, int *out)
{
	(void)fd;
	(void)handle;
	*out = memfd_create("syncobj", MFD_CLOEXEC);
	return 0;
}

int __wrap_vgf_syncobj_probe(int drm_fd)
{
	static bool is_second;

	(void)drm_fd;
	is_second = !is_second;
	return is_second ? VGF_SYNCOBJ_BINARY : kernel.features;
}

int __wrap_vgf_syncobj_create(int drm_fd, uint32_t *handle)
{
	(void)drm_fd;
	if (kernel.create_error < 0) {
		return kernel.create_error;
	}
	kernel.num_syncobjs++;
	*handle = ++kernel.last_handle;
	return 0;
}

void __wrap_vgf_syncobj_destroy(int drm_fd, uint32_t handle)
{
	(void)drm_fd;
	(void)handle;
	kernel.num_syncobjs--;
}

int __wrap_vgf_syncobj_import_sync_file(int drm_fd, uint32_t handle, uint64_t point, int fence_fd)
{
	(void)drm_fd;
	(void)handle;
	kernel.acquire_fd = fence_fd;
	kernel.acquire = point;
	return 0;
}

int __wrap_vgf_syncobj_notify(
	int drm_fd, uint32_t handle, uint64_t point, enum vgf_syncobj_event event, int event_fd)
{
	(void)drm_fd;
	if (kernel.notify_error < 0) {
		return kernel.notify_error;
	}
	assert_int_equal(event, VGF_SYNCOBJ_SIGNALLED);
	assert_true(kernel.num_waits < MAX_WAITS);
	kernel.waits[kernel.num_waits].handle = handle;
	kernel.waits[kernel.num_waits].point = point;
	kernel.waits[kernel.num_waits].event_fd = fcntl(event_fd, F_DUPFD_CLOEXEC, 0);
	kernel.num_waits++;
	return 0;
}

/* The compositor signals the point of that use, counted from 0. What it says of buffers means
 * nothing. */
static void signal_use(uint32_t use)
{
	assert_true(use < kernel.num_waits);
	compositor_release_all(&compositor);
	signal_fence(kernel.waits[use].event_fd);
}

/* ---- The guest ------------------------------------------------------------------------------- */

static int read_pixels(
	void *cookie, uint32_t scanout, const struct virtio_gpu_rect *rect, uint32_t *pixels)
{
	(void)cookie;
	(void)scanout;
	memset(pixels, 0, (size_t)rect->width * rect->height * sizeof(*pixels));
	return 0;
}

static struct gpu_buffer make_buffer(uint64_t key)
{
	guest.pinned[key] = 1;
	return (struct gpu_buffer){ .key = key,
		.fd = memfd_create("dma-buf", MFD_CLOEXEC),
		.width = WIDTH,
		.height = HEIGHT,
		.drm_format = COMPOSITOR_XRGB8888,
		.stride = WIDTH * 4,
		.rect = whole,
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
	(void)scanout;
	guest.shown = frame;
}

/* The others are of what a user does, and there is none. */
static const struct display_wayland_ops ops = {
	.read = read_pixels,
	.get_buffer = get_buffer,
	.release = note_release,
	.shown = note_shown,
};

/* ---- Both ------------------------------------------------------------------------------------ */

static void *create(void *arg)
{
	*(int *)arg = display_wayland_create(compositor.path, &ops, NULL, &display);
	return NULL;
}

static void begin_with(int features)
{
	struct wl_event_loop *loop;
	pthread_t thread;
	int ret = 1;

	memset(&guest, 0, sizeof(guest));
	memset(&kernel, 0, sizeof(kernel));
	kernel.features = features;
	compositor_begin(&compositor, COMPOSITOR_NO_SEAT);
	compositor_syncobj_begin(&points, &compositor);
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
	assert_int_equal(points.violations, 0);
	display_wayland_destroy(display);
	assert_int_equal(kernel.num_syncobjs, 0);
	compositor_step(&compositor);
	assert_int_equal(points.num_timelines, 0);
	assert_int_equal(points.num_surfaces, 0);
	compositor_end(&compositor);
	for (uint32_t i = 0; i < kernel.num_waits; i++) {
		close(kernel.waits[i].event_fd);
	}
}

#define ALL (VGF_SYNCOBJ_BINARY | VGF_SYNCOBJ_TIMELINE | VGF_SYNCOBJ_EVENTFD)
#define TEST_SYNCOBJ(name, features) TEST_BETWEEN(name, begin_with(features), end())

static void step(void)
{
	for (int i = 0; i < 3; i++) {
		display_wayland_flush(display);
		compositor_step(&compositor);
		assert_int_equal(display_wayland_dispatch(display), 0);
	}
}

static struct compositor_surface *open_window(void)
{
	struct compositor_surface *window;

	display_wayland_set_scanout(display, 0, WIDTH, HEIGHT);
	step();
	window = compositor_window(&compositor, 0);
	assert_non_null(window);
	compositor_configure(window, 0, 0);
	step();
	return window;
}

static void show(struct compositor_surface *window, uint64_t key, uint64_t frame)
{
	guest.key = key;
	assert_true(display_wayland_update(display, 0, &whole, frame));
	step();
	assert_int_equal(window->num_commits, frame);
	compositor_answer(window);
	step();
}

static bool offer(uint64_t key, uint64_t frame, int fence_fd)
{
	struct gpu_buffer buffer = make_buffer(key);

	buffer.acquire_fd = fcntl(fence_fd, F_DUPFD_CLOEXEC, 0);
	if (!display_wayland_offer_take(display, 0, &whole, frame, &buffer)) {
		close(buffer.fd);
		close(buffer.acquire_fd);
		step();
		return false;
	}
	assert_true(kernel.acquire_fd >= 0);
	step();
	return true;
}

/* ---- Points ---------------------------------------------------------------------------------- */

TEST_SYNCOBJ(a_frame_is_read_until_its_point_is_signalled, ALL)
{
	struct compositor_surface *window = open_window();

	show(window, 1, 1);
	assert_int_equal(kernel.acquire_fd, -1); /* it is drawn */
	assert_int_equal(points.acquire, kernel.acquire);
	assert_int_equal(points.release, kernel.waits[0].point);
	show(window, 2, 2);
	assert_int_equal(guest.shown, 1);
	compositor_release_all(&compositor);
	step();
	assert_int_equal(guest.pinned[1], 1);
	signal_use(0);
	step();
	assert_int_equal(guest.pinned[1], 0);
	assert_int_equal(guest.pinned[2], 1);
	assert_int_equal(guest.shown, 2);
}

TEST_SYNCOBJ(each_buffer_has_a_timeline_and_each_use_later_points, ALL)
{
	struct compositor_surface *window = open_window();

	show(window, 1, 1);
	show(window, 2, 2);
	signal_use(0);
	step();
	show(window, 1, 3);
	assert_int_equal(points.num_timelines, 2);
	assert_int_not_equal(kernel.waits[0].handle, kernel.waits[1].handle);
	assert_int_equal(kernel.waits[2].handle, kernel.waits[0].handle);
	assert_true(kernel.acquire > kernel.waits[0].point);
	assert_true(kernel.waits[2].point > kernel.acquire);
}

TEST_SYNCOBJ(an_offered_frame_has_its_fence_at_a_point, ALL)
{
	struct compositor_surface *window = open_window();
	int fence_fd = make_fence(false);

	assert_false(offer(1, 1, fence_fd)); /* the compositor is asked first */
	assert_true(offer(1, 1, fence_fd));
	assert_int_equal(window->num_commits, 1);
	assert_int_equal(points.acquire, kernel.acquire);
	assert_int_equal(window->current.acquire_fd, -1); /* not in the other way, too */
	assert_null(window->current.release);
	close(fence_fd);
}

/* A compositor may refuse points of what is no dma-buf. */
TEST_SYNCOBJ(a_copy_has_no_points, ALL)
{
	struct compositor_surface *window = open_window();

	show(window, 1, 1);
	assert_int_equal(points.num_surfaces, 1);
	show(window, 0, 2);
	assert_int_equal(points.num_surfaces, 0);
	assert_int_equal(kernel.num_waits, 1);
	show(window, 1, 3);
	assert_int_equal(points.num_surfaces, 1);
}

TEST_SYNCOBJ(points_end_with_their_window, ALL)
{
	struct compositor_surface *window = open_window();

	show(window, 1, 1);
	display_wayland_set_scanout(display, 0, 0, 0);
	step();
	assert_int_equal(points.num_surfaces, 0);
	assert_int_equal(guest.pinned[1], 1);
	signal_use(0);
	step();
	assert_int_equal(guest.pinned[1], 0);
	assert_int_equal(kernel.num_syncobjs, 0);
}

/* ---- Without --------------------------------------------------------------------------------- */

TEST_SYNCOBJ(a_kernel_that_cannot_tell_has_no_points, VGF_SYNCOBJ_BINARY | VGF_SYNCOBJ_TIMELINE)
{
	struct compositor_surface *window = open_window();

	assert_int_equal(points.num_binds, 0);
	show(window, 1, 1);
	assert_non_null(window->current.release); /* but what else there is */
}

static void assert_released_by_the_buffer(struct compositor_surface *window)
{
	struct compositor_buffer *first;

	show(window, 1, 1);
	assert_int_equal(points.num_surfaces, 0);
	first = window->current.buffer;
	show(window, 2, 2);
	compositor_release(first);
	step();
	assert_int_equal(guest.pinned[1], 0);
}

TEST_SYNCOBJ(without_a_sync_object_the_compositor_says_it_otherwise, ALL)
{
	kernel.create_error = -ENOMEM;
	assert_released_by_the_buffer(open_window());
}

TEST_SYNCOBJ(without_a_wait_the_compositor_says_it_otherwise, ALL)
{
	kernel.notify_error = -ENOMEM;
	assert_released_by_the_buffer(open_window());
}

/* It is shown when it is drawn. */
TEST_SYNCOBJ(an_offered_frame_without_a_point_is_not_taken, ALL)
{
	struct compositor_surface *window = open_window();
	int fence_fd = make_fence(false);

	assert_false(offer(1, 1, fence_fd));
	kernel.create_error = -ENOMEM;
	assert_false(offer(1, 1, fence_fd));
	assert_int_equal(window->num_commits, 0);
	close(fence_fd);
}
