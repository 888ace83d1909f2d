/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "window.h"

#include <err.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <drm_fourcc.h>
#include <wayland-client.h>
#include <xf86drm.h>

#include "command_stream.h"

#include <linux-dmabuf-unstable-v1-client-protocol.h>
#include <xdg-shell-client-protocol.h>

enum { BIND_RING, WORK_RING, NUM_RINGS };

#define TIMEOUT_MS 20000

/* ---- The compositor ------------------------------------------------------------------------- */

static void dispatch(struct window *window)
{
	if (wl_display_dispatch(window->display) < 0) {
		errx(1, "the compositor has ended the connection");
	}
}

static void ping(void *data, struct xdg_wm_base *wm_base, uint32_t serial)
{
	(void)data;
	xdg_wm_base_pong(wm_base, serial);
}

static void configure(void *data, struct xdg_surface *surface, uint32_t serial)
{
	struct window *window = data;

	xdg_surface_ack_configure(surface, serial);
	window->is_configured = true;
}

static void release(void *data, struct wl_buffer *buffer)
{
	(void)buffer;
	((struct window_buffer *)data)->is_held = false;
}

/* Its size is not asked for, and its end is the program's. */
static void ignore_size(void *data, struct xdg_toplevel *toplevel, int32_t width, int32_t height,
	struct wl_array *states)
{
	(void)data;
	(void)toplevel;
	(void)width;
	(void)height;
	(void)states;
}

static void ignore_close(void *data, struct xdg_toplevel *toplevel)
{
	(void)data;
	(void)toplevel;
}

static const struct xdg_wm_base_listener wm_base_listener = { ping };
static const struct xdg_surface_listener surface_listener = { configure };
static const struct xdg_toplevel_listener toplevel_listener = { .configure = ignore_size,
	.close = ignore_close };
static const struct wl_buffer_listener buffer_listener = { release };

static void found(void *data, struct wl_registry *registry, uint32_t name, const char *interface,
	uint32_t version)
{
	struct window *window = data;

	(void)version;
	if (strcmp(interface, wl_compositor_interface.name) == 0) {
		window->compositor = wl_registry_bind(registry, name, &wl_compositor_interface, 1);
	} else if (strcmp(interface, zwp_linux_dmabuf_v1_interface.name) == 0) {
		window->dmabuf = wl_registry_bind(
			registry, name, &zwp_linux_dmabuf_v1_interface, 3);
	} else if (strcmp(interface, xdg_wm_base_interface.name) == 0) {
		window->wm_base = wl_registry_bind(registry, name, &xdg_wm_base_interface, 1);
		xdg_wm_base_add_listener(window->wm_base, &wm_base_listener, window);
	}
}

static void lost(void *data, struct wl_registry *registry, uint32_t name)
{
	(void)data;
	(void)registry;
	(void)name;
}

static void connect_to(struct window *window, const char *socket)
{
	static const struct wl_registry_listener listener = { found, lost };

	window->display = wl_display_connect(socket);
	if (window->display == NULL) {
		err(1, "no compositor at %s", socket != NULL ? socket : "WAYLAND_DISPLAY");
	}
	window->registry = wl_display_get_registry(window->display);
	wl_registry_add_listener(window->registry, &listener, window);
	wl_display_roundtrip(window->display);
	if (window->compositor == NULL || window->dmabuf == NULL) {
		errx(1, "the compositor does not have what is needed");
	}
}

static void make_surface(struct window *window)
{
	window->surface = wl_compositor_create_surface(window->compositor);
	if (window->wm_base == NULL) {
		return;
	}
	window->xdg_surface = xdg_wm_base_get_xdg_surface(window->wm_base, window->surface);
	xdg_surface_add_listener(window->xdg_surface, &surface_listener, window);
	window->toplevel = xdg_surface_get_toplevel(window->xdg_surface);
	xdg_toplevel_add_listener(window->toplevel, &toplevel_listener, window);
	wl_surface_commit(window->surface);
	while (!window->is_configured) {
		dispatch(window);
	}
}

/* ---- Buffers -------------------------------------------------------------------------------- */

static void bind_buffer(
	struct window *window, uint32_t operation, uint32_t resource, uint32_t address)
{
	const uint32_t words[] = { SOFT_GPU_RESOURCE, resource, SOFT_GPU_OFFSET, 0,
		SOFT_GPU_ADDRESS, address, operation, WINDOW_SIZE };
	const struct context_job job = {
		.ring = BIND_RING,
		.words = words,
		.num_words = sizeof(words) / sizeof(words[0]),
		.in_fence_fd = -1,
	};
	int fence_fd;

	context_submit(&window->context, &job, &fence_fd);
	if (!wait_fence(fence_fd, TIMEOUT_MS)) {
		errx(1, "a bind's fence is lost");
	}
	close(fence_fd);
}

static struct wl_buffer *make_wl_buffer(struct window *window, uint32_t width, int dma_buf_fd)
{
	struct zwp_linux_buffer_params_v1 *params = zwp_linux_dmabuf_v1_create_params(
		window->dmabuf);
	struct wl_buffer *buffer;

	zwp_linux_buffer_params_v1_add(params, dma_buf_fd, 0, 0, width * 4, 0, 0);
	buffer = zwp_linux_buffer_params_v1_create_immed(
		params, (int32_t)width, (int32_t)(WINDOW_SIZE / 4 / width), DRM_FORMAT_XRGB8888, 0);
	zwp_linux_buffer_params_v1_destroy(params);
	return buffer;
}

static void make_memory(struct window *window, struct window_buffer *buffer)
{
	bool has_window = has_host_memory();

	if (window->has_host_buffers && !has_window) {
		if (blob_make_unmapped(window->context.fd, WINDOW_SIZE, &buffer->blob) < 0) {
			err(1, "making a buffer of the host's memory");
		}
		return;
	}
	buffer->pixels = blob_make(window->context.fd, has_window, WINDOW_SIZE, &buffer->blob);
	if (buffer->pixels == NULL) {
		err(1, "making a buffer");
	}
}

void window_create_buffer(struct window *window, uint32_t width, struct window_buffer *buffer)
{
	int fd;

	*buffer = (struct window_buffer){ 0 };
	make_memory(window, buffer);
	if (drmPrimeHandleToFD(window->context.fd, buffer->blob.handle, DRM_CLOEXEC, &fd) < 0) {
		err(1, "exporting a buffer");
	}
	buffer->buffer = make_wl_buffer(window, width, fd);
	wl_buffer_add_listener(buffer->buffer, &buffer_listener, buffer);
	close(fd);
	/* Where it is for jobs: the resource's number says. */
	bind_buffer(
		window, SOFT_GPU_MAP, buffer->blob.resource, buffer->blob.resource * WINDOW_SIZE);
}

void window_end_buffer(struct window *window, struct window_buffer *buffer)
{
	bind_buffer(window, SOFT_GPU_UNMAP, 0, buffer->blob.resource * WINDOW_SIZE);
	wl_buffer_destroy(buffer->buffer);
	if (buffer->pixels != NULL) {
		munmap(buffer->pixels, WINDOW_SIZE);
	}
	blob_close(window->context.fd, &buffer->blob);
}

static struct window_buffer *find_free(struct window *window)
{
	for (uint32_t i = 0; i < WINDOW_NUM_BUFFERS; i++) {
		if (!window->buffers[i].is_held) {
			return &window->buffers[i];
		}
	}
	return NULL;
}

struct window_buffer *window_take_buffer(struct window *window)
{
	struct window_buffer *buffer;

	wl_display_dispatch_pending(window->display);
	while ((buffer = find_free(window)) == NULL) {
		dispatch(window);
	}
	return buffer;
}

void window_settle(struct window *window)
{
	for (uint32_t i = 0; i < WINDOW_NUM_BUFFERS; i++) {
		while (window->buffers[i].is_held) {
			dispatch(window);
		}
	}
}

/* ---- Frames --------------------------------------------------------------------------------- */

void window_draw(
	struct window *window, struct window_buffer *buffer, uint32_t number, uint32_t busy_us)
{
	const uint32_t words[] = { SOFT_GPU_ADDRESS, buffer->blob.resource * WINDOW_SIZE,
		SOFT_GPU_VALUE, number, SOFT_GPU_FILL, WINDOW_SIZE };
	const struct context_job job = {
		.ring = WORK_RING,
		.busy_us = busy_us,
		.words = words,
		.num_words = sizeof(words) / sizeof(words[0]),
		.in_fence_fd = -1,
		.handle = buffer->blob.handle,
	};

	context_submit(&window->context, &job, NULL);
}

void window_show(struct window *window, struct window_buffer *buffer)
{
	wl_surface_attach(window->surface, buffer->buffer, 0, 0);
	wl_surface_damage(window->surface, 0, 0, INT32_MAX, INT32_MAX);
	wl_surface_commit(window->surface);
	buffer->is_held = true;
	if (wl_display_flush(window->display) < 0) {
		err(1, "sending a frame");
	}
}

void window_open(struct window *window, const char *socket, bool has_host_buffers)
{
	*window = (struct window){ .has_host_buffers = has_host_buffers };
	connect_to(window, socket);
	context_open(&window->context, NUM_RINGS, has_fence_passing());
	make_surface(window);
	for (uint32_t i = 0; i < WINDOW_NUM_BUFFERS; i++) {
		window_create_buffer(window, WINDOW_WIDTH, &window->buffers[i]);
	}
}

static void end_surface(struct window *window)
{
	if (window->wm_base != NULL) {
		xdg_toplevel_destroy(window->toplevel);
		xdg_surface_destroy(window->xdg_surface);
		xdg_wm_base_destroy(window->wm_base);
	}
	wl_surface_destroy(window->surface);
}

void window_close(struct window *window)
{
	for (uint32_t i = 0; i < WINDOW_NUM_BUFFERS; i++) {
		window_end_buffer(window, &window->buffers[i]);
	}
	end_surface(window);
	zwp_linux_dmabuf_v1_destroy(window->dmabuf);
	wl_compositor_destroy(window->compositor);
	wl_registry_destroy(window->registry);
	wl_display_roundtrip(window->display);
	wl_display_disconnect(window->display);
	context_close(&window->context);
	context_unmap(&window->context);
}
