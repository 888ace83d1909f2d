/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "screen_capture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <wayland-client.h>

#include "clock.h"
#include "support.h"

/* Made by wayland-scanner. */
#include <weston-capture-client-protocol.h>
#include <wlr-screencopy-client-protocol.h>

/* DRM_FORMAT_XRGB8888, ARGB8888, XBGR8888 and ABGR8888, of <drm_fourcc.h>. */
#define FORMAT_XR24 0x34325258u
#define FORMAT_AR24 0x34325241u
#define FORMAT_XB24 0x34324258u
#define FORMAT_AB24 0x34324241u

struct screen_capture {
	struct wl_display *display;
	struct wl_registry *registry;
	struct wl_output *output;
	struct wl_shm *shm;
	/* Of Weston: */
	struct weston_capture_v1 *manager;
	struct weston_capture_source_v1 *source;
	/* Of wlroots, where each picture is an object: */
	struct zwlr_screencopy_manager_v1 *wlr_manager;
	struct zwlr_screencopy_frame_v1 *wlr_frame;
	struct wl_buffer *buffer;
	uint32_t width, height, format;
	uint64_t period_ns;
	uint32_t *pixels;
	size_t size;
	bool is_done;
};

/* ---- The screen ------------------------------------------------------------------------------ */

static void note_place(void *data, struct wl_output *output, int32_t x, int32_t y, int32_t width_mm,
	int32_t height_mm, int32_t subpixel, const char *make, const char *model, int32_t transform)
{
	(void)data;
	(void)output;
	(void)x;
	(void)y;
	(void)width_mm;
	(void)height_mm;
	(void)subpixel;
	(void)make;
	(void)model;
	(void)transform;
}

static void note_mode(void *data, struct wl_output *output, uint32_t flags, int32_t width,
	int32_t height, int32_t refresh_mhz)
{
	struct screen_capture *capture = data;

	(void)output;
	(void)width;
	(void)height;
	if ((flags & WL_OUTPUT_MODE_CURRENT) && refresh_mhz > 0) {
		capture->period_ns = 1000 * NS_PER_S / (uint64_t)refresh_mhz;
	}
}

static const struct wl_output_listener output_listener = {
	.geometry = note_place,
	.mode = note_mode,
};

/* ---- What the compositor has ----------------------------------------------------------------- */

static void bind(struct screen_capture *capture, void **place, uint32_t name,
	const struct wl_interface *interface)
{
	if (*place == NULL) {
		*place = wl_registry_bind(capture->registry, name, interface, 1);
	}
}

static void note_global(void *data, struct wl_registry *registry, uint32_t name,
	const char *interface, uint32_t version)
{
	struct screen_capture *capture = data;

	(void)registry;
	(void)version;
	if (strcmp(interface, wl_output_interface.name) == 0) {
		bind(capture, (void **)&capture->output, name, &wl_output_interface);
	} else if (strcmp(interface, wl_shm_interface.name) == 0) {
		bind(capture, (void **)&capture->shm, name, &wl_shm_interface);
	} else if (strcmp(interface, weston_capture_v1_interface.name) == 0) {
		bind(capture, (void **)&capture->manager, name, &weston_capture_v1_interface);
	} else if (strcmp(interface, zwlr_screencopy_manager_v1_interface.name) == 0) {
		bind(capture, (void **)&capture->wlr_manager, name,
			&zwlr_screencopy_manager_v1_interface);
	}
}

static void forget_global(void *data, struct wl_registry *registry, uint32_t name)
{
	(void)data;
	(void)registry;
	(void)name;
}

static const struct wl_registry_listener registry_listener = {
	.global = note_global,
	.global_remove = forget_global,
};

/* ---- A picture, of Weston -------------------------------------------------------------------- */

static void note_format(void *data, struct weston_capture_source_v1 *source, uint32_t format)
{
	struct screen_capture *capture = data;

	(void)source;
	if (format == FORMAT_XR24 || format == FORMAT_AR24) {
		capture->format = format;
	}
}

static void note_size(
	void *data, struct weston_capture_source_v1 *source, int32_t width, int32_t height)
{
	struct screen_capture *capture = data;

	(void)source;
	capture->width = (uint32_t)width;
	capture->height = (uint32_t)height;
}

static void note_complete(void *data, struct weston_capture_source_v1 *source)
{
	struct screen_capture *capture = data;

	(void)source;
	capture->is_done = true;
}

/* The screen has another size or format, which nobody gives it here. */
static void note_retry(void *data, struct weston_capture_source_v1 *source)
{
	(void)data;
	(void)source;
	fail_msg("the screen has changed");
}

static void note_failed(void *data, struct weston_capture_source_v1 *source, const char *message)
{
	(void)data;
	(void)source;
	fail_msg("no picture: %s", message != NULL ? message : "no reason");
}

static const struct weston_capture_source_v1_listener source_listener = {
	.format = note_format,
	.size = note_size,
	.complete = note_complete,
	.retry = note_retry,
	.failed = note_failed,
};

/* Two formats have numbers of their own. */
static uint32_t shm_format(const struct screen_capture *capture)
{
	switch (capture->format) {
	case FORMAT_XR24:
		return WL_SHM_FORMAT_XRGB8888;
	case FORMAT_AR24:
		return WL_SHM_FORMAT_ARGB8888;
	default:
		return capture->format;
	}
}

static void make_buffer(struct screen_capture *capture)
{
	int32_t width = (int32_t)capture->width, height = (int32_t)capture->height;
	int fd = memfd_create("screen", MFD_CLOEXEC);
	struct wl_shm_pool *pool;

	capture->size = (size_t)capture->width * capture->height * sizeof(*capture->pixels);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)capture->size), 0);
	capture->pixels = mmap(NULL, capture->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(capture->pixels, MAP_FAILED);
	pool = wl_shm_create_pool(capture->shm, fd, (int32_t)capture->size);
	capture->buffer = wl_shm_pool_create_buffer(
		pool, 0, width, height, width * 4, shm_format(capture));
	wl_shm_pool_destroy(pool);
	close(fd);
}

/* ---- A picture, of wlroots ------------------------------------------------------------------- */

static void end_frame(struct screen_capture *capture)
{
	zwlr_screencopy_frame_v1_destroy(capture->wlr_frame);
	capture->wlr_frame = NULL;
}

/* The first one only says what it would be. */
static void note_frame_buffer(void *data, struct zwlr_screencopy_frame_v1 *frame, uint32_t format,
	uint32_t width, uint32_t height, uint32_t stride)
{
	struct screen_capture *capture = data;

	if (capture->buffer != NULL) {
		zwlr_screencopy_frame_v1_copy(frame, capture->buffer);
		return;
	}
	if (format == WL_SHM_FORMAT_XRGB8888 || format == WL_SHM_FORMAT_ARGB8888) {
		capture->format = format == WL_SHM_FORMAT_XRGB8888 ? FORMAT_XR24 : FORMAT_AR24;
	} else if (format == FORMAT_XB24 || format == FORMAT_AB24) {
		capture->format = format;
	}
	capture->width = stride == width * sizeof(*capture->pixels) ? width : 0;
	capture->height = height;
	end_frame(capture);
}

static void note_frame_flags(void *data, struct zwlr_screencopy_frame_v1 *frame, uint32_t flags)
{
	(void)data;
	(void)frame;
	assert_int_equal(flags, 0); /* the first row is the top one */
}

/* OpenGL ES reads red first. */
static void swap_colors(struct screen_capture *capture)
{
	for (size_t i = 0; i < capture->size / sizeof(*capture->pixels); i++) {
		uint32_t pixel = capture->pixels[i];

		capture->pixels[i] = (pixel & 0xff00ff00) | (pixel & 0xff) << 16 |
			(pixel >> 16 & 0xff);
	}
}

static void note_frame_ready(void *data, struct zwlr_screencopy_frame_v1 *frame,
	uint32_t seconds_high, uint32_t seconds_low, uint32_t nanoseconds)
{
	struct screen_capture *capture = data;

	(void)frame;
	(void)seconds_high;
	(void)seconds_low;
	(void)nanoseconds;
	if (capture->format == FORMAT_XB24 || capture->format == FORMAT_AB24) {
		swap_colors(capture);
	}
	end_frame(capture);
	capture->is_done = true;
}

static void note_frame_failed(void *data, struct zwlr_screencopy_frame_v1 *frame)
{
	(void)data;
	(void)frame;
	fail_msg("no picture");
}

static const struct zwlr_screencopy_frame_v1_listener frame_listener = {
	.buffer = note_frame_buffer,
	.flags = note_frame_flags,
	.ready = note_frame_ready,
	.failed = note_frame_failed,
};

static void begin_frame(struct screen_capture *capture)
{
	capture->wlr_frame = zwlr_screencopy_manager_v1_capture_output(
		capture->wlr_manager, false, capture->output);
	zwlr_screencopy_frame_v1_add_listener(capture->wlr_frame, &frame_listener, capture);
}

/* ---- Pictures -------------------------------------------------------------------------------- */

void screen_capture_begin(struct screen_capture *capture)
{
	capture->is_done = false;
	if (capture->source != NULL) {
		weston_capture_source_v1_capture(capture->source, capture->buffer);
	} else {
		begin_frame(capture);
	}
	assert_true(wl_display_flush(capture->display) >= 0);
}

int screen_capture_get_fd(const struct screen_capture *capture)
{
	return wl_display_get_fd(capture->display);
}

void screen_capture_dispatch(struct screen_capture *capture)
{
	while (wl_display_prepare_read(capture->display) < 0) {
		assert_true(wl_display_dispatch_pending(capture->display) >= 0);
	}
	assert_int_equal(wl_display_read_events(capture->display), 0);
	assert_true(wl_display_dispatch_pending(capture->display) >= 0);
	assert_true(wl_display_flush(capture->display) >= 0);
}

bool screen_capture_is_done(const struct screen_capture *capture)
{
	return capture->is_done;
}

uint32_t screen_capture_get_pixel(const struct screen_capture *capture, uint32_t x, uint32_t y)
{
	return capture->pixels[(size_t)y * capture->width + x] & 0xffffff;
}

bool screen_capture_is_all(const struct screen_capture *capture, uint32_t color)
{
	for (size_t i = 0; i < capture->size / sizeof(*capture->pixels); i++) {
		if ((capture->pixels[i] & 0xffffff) != color) {
			return false;
		}
	}
	return true;
}

void screen_capture_get_size(
	const struct screen_capture *capture, uint32_t *width, uint32_t *height)
{
	*width = capture->width;
	*height = capture->height;
}

uint64_t screen_capture_get_period_ns(const struct screen_capture *capture)
{
	return capture->period_ns;
}

/* ---- Its life -------------------------------------------------------------------------------- */

static void ask(struct screen_capture *capture)
{
	wl_output_add_listener(capture->output, &output_listener, capture);
	if (capture->manager != NULL) {
		capture->source = weston_capture_v1_create(
			capture->manager, capture->output, WESTON_CAPTURE_V1_SOURCE_FRAMEBUFFER);
		weston_capture_source_v1_add_listener(capture->source, &source_listener, capture);
	} else {
		begin_frame(capture);
	}
}

static const char *start(struct screen_capture *capture)
{
	if (capture->display == NULL) {
		return "there is no compositor (WAYLAND_DISPLAY)";
	}
	capture->registry = wl_display_get_registry(capture->display);
	wl_registry_add_listener(capture->registry, &registry_listener, capture);
	wl_display_roundtrip(capture->display);
	if (capture->output == NULL || capture->shm == NULL ||
		(capture->manager == NULL && capture->wlr_manager == NULL)) {
		return "the compositor gives no pictures (Weston 12 or later, --debug; wlroots)";
	}
	ask(capture);
	wl_display_roundtrip(capture->display);
	if (capture->width == 0 || capture->format == 0) {
		return "the compositor's pictures have another format";
	}
	make_buffer(capture);
	return NULL;
}

struct screen_capture *screen_capture_open(void)
{
	struct screen_capture *capture = calloc(1, sizeof(*capture));
	const char *problem;

	assert_non_null(capture);
	capture->display = wl_display_connect(NULL);
	problem = start(capture);
	if (problem != NULL) {
		print_message("%s\n", problem);
		screen_capture_close(capture);
		return NULL;
	}
	return capture;
}

static void destroy(void *proxy)
{
	if (proxy != NULL) {
		wl_proxy_destroy(proxy);
	}
}

void screen_capture_close(struct screen_capture *capture)
{
	if (capture->pixels != NULL) {
		munmap(capture->pixels, capture->size);
	}
	destroy(capture->buffer);
	destroy(capture->source);
	destroy(capture->manager);
	destroy(capture->wlr_frame);
	destroy(capture->wlr_manager);
	destroy(capture->shm);
	destroy(capture->output);
	destroy(capture->registry);
	if (capture->display != NULL) {
		wl_display_disconnect(capture->display);
	}
	free(capture);
}
