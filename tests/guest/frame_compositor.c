/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * vgfence-frame-compositor [--dma-bufs] PATH: a Wayland compositor on the host, which looks at each
 * frame of vgfence-wayland-frames as soon as it is committed. Prints for each client that has gone
 * how many frames there were, how many of them were wrong, and how many descriptors are open. With
 * --dma-bufs it takes these, with fences; each line then ends with what frame_dma_buf.c counts.
 */

#include <dirent.h>
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <wayland-server.h>

#include "frame_compositor.h"

static bool has_dma_bufs;

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- Frames --------------------------------------------------------------------------------- */

bool is_wrong(const uint32_t *pixels, size_t count, uint32_t number)
{
	uint32_t wrong = 0;

	for (size_t i = 0; i < count; i++) {
		wrong += pixels[i] != number;
	}
	return wrong > 0;
}

static void forget_callback(struct wl_resource *resource)
{
	struct surface *surface = wl_resource_get_user_data(resource);

	if (surface != NULL) {
		surface->callback = NULL;
	}
}

static void ask_for_answer(struct wl_client *client, struct wl_resource *resource, uint32_t id)
{
	struct surface *surface = wl_resource_get_user_data(resource);
	struct wl_resource *callback = wl_resource_create(client, &wl_callback_interface, 1, id);

	if (callback == NULL || surface->callback != NULL) {
		errx(1, "a second callback");
	}
	surface->callback = callback;
	wl_resource_set_implementation(callback, NULL, surface, forget_callback);
}

static void answer(struct surface *surface, uint32_t ticks)
{
	if (surface->callback != NULL) {
		wl_callback_send_done(surface->callback, ticks);
		wl_resource_destroy(surface->callback);
	}
}

static void look(struct viewer *viewer, struct wl_shm_buffer *buffer)
{
	size_t count = (size_t)wl_shm_buffer_get_stride(buffer) / sizeof(uint32_t) *
		(size_t)wl_shm_buffer_get_height(buffer);
	const uint32_t *pixels = wl_shm_buffer_get_data(buffer);
	uint32_t number = ++viewer->num_frames;

	if (viewer->clock != NULL) {
		viewer->clock->frame_ns = now_ns();
	}
	wl_shm_buffer_begin_access(buffer);
	viewer->num_wrong += is_wrong(pixels, count, number);
	wl_shm_buffer_end_access(buffer);
	if (viewer->clock != NULL) {
		viewer->clock->num_frames = number;
	}
}

/* Answers, and does nothing else, until the client knows the time; but not for ever. */
static void tell_time(struct viewer *viewer, struct wl_shm_buffer *buffer)
{
	volatile struct frame_clock *clock = wl_shm_buffer_get_data(buffer);
	uint64_t end_ns = now_ns() + 20000000000u;

	viewer->clock_pool = wl_shm_buffer_ref_pool(buffer);
	viewer->clock = (struct frame_clock *)clock;
	while (clock->ping != FRAME_CLOCK_DONE && now_ns() < end_ns) {
		uint64_t ping = clock->ping;

		if (ping != clock->pong) {
			clock->pong_ns = now_ns();
			clock->pong = ping;
		}
	}
}

static void commit(struct wl_client *client, struct wl_resource *resource)
{
	struct surface *surface = wl_resource_get_user_data(resource);
	struct wl_resource *buffer_resource = surface->buffer;
	struct wl_shm_buffer *buffer;
	uint32_t ticks = frame_clock_ticks();

	(void)client;
	surface->buffer = NULL;
	if (buffer_resource == NULL) {
		return;
	}
	if (is_dma_buf(buffer_resource)) {
		show_dma_buf(surface, buffer_resource);
		return;
	}
	buffer = wl_shm_buffer_get(buffer_resource);
	if (buffer == NULL) {
		errx(1, "a buffer that is not known");
	}
	if (wl_shm_buffer_get_width(buffer) == (int32_t)FRAME_CLOCK_WIDTH) {
		tell_time(surface->viewer, buffer);
	} else {
		look(surface->viewer, buffer);
	}
	wl_buffer_send_release(buffer_resource);
	answer(surface, ticks);
}

static void attach(struct wl_client *client, struct wl_resource *resource,
	struct wl_resource *buffer, int32_t x, int32_t y)
{
	struct surface *surface = wl_resource_get_user_data(resource);

	(void)client;
	(void)x;
	(void)y;
	surface->buffer = buffer; /* the client does not end it before the commit */
}

/* ---- The rest of the protocol --------------------------------------------------------------- */

static void destroy(struct wl_client *client, struct wl_resource *resource)
{
	(void)client;
	wl_resource_destroy(resource);
}

/* Requests that change nothing here. */
static void ignore(void)
{
}

#define IGNORE ((void *)ignore)

static const struct wl_surface_interface surface_functions = {
	.destroy = destroy,
	.attach = attach,
	.damage = IGNORE,
	.frame = ask_for_answer,
	.set_opaque_region = IGNORE,
	.set_input_region = IGNORE,
	.commit = commit,
};

static void free_surface(struct wl_resource *resource)
{
	struct surface *surface = wl_resource_get_user_data(resource);

	end_fences(surface);
	if (surface->callback != NULL) {
		wl_resource_set_user_data(surface->callback, NULL);
	}
	free(surface);
}

static void create_surface(struct wl_client *client, struct wl_resource *compositor, uint32_t id)
{
	struct wl_resource *resource = wl_resource_create(client, &wl_surface_interface, 1, id);
	struct surface *surface = calloc(1, sizeof(*surface));

	if (resource == NULL || surface == NULL) {
		err(1, "a surface");
	}
	surface->viewer = wl_resource_get_user_data(compositor);
	surface->acquire_fd = -1;
	wl_resource_set_implementation(resource, &surface_functions, surface, free_surface);
}

static const struct wl_compositor_interface compositor_functions = {
	.create_surface = create_surface,
	.create_region = IGNORE,
};

static unsigned int count_fds(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned int count = 0;

	if (directory == NULL) {
		err(1, "/proc/self/fd");
	}
	while (readdir(directory) != NULL) {
		count++;
	}
	closedir(directory);
	return count - 3; /* two names that are none, and this one */
}

/* Its resources are destroyed after this. */
static void report(void *data)
{
	struct viewer *viewer = data;

	if (viewer->num_frames > 0) {
		printf("%u frames, %u wrong, %u descriptors", viewer->num_frames, viewer->num_wrong,
			count_fds());
		if (has_dma_bufs) {
			printf(", %u behind a fence, %u given back by one, %u drawn over",
				viewer->num_fenced, viewer->num_released, viewer->num_drawn_over);
		}
		printf("\n");
		fflush(stdout);
	}
	free(viewer);
}

static void forget_client(struct wl_listener *listener, void *data)
{
	struct viewer *viewer = wl_container_of(listener, viewer, gone);
	struct wl_display *display = wl_client_get_display(data);

	end_frames(viewer);
	if (viewer->clock_pool != NULL) {
		wl_shm_pool_unref(viewer->clock_pool);
	}
	wl_event_loop_add_idle(wl_display_get_event_loop(display), report, viewer);
}

static void bind(struct wl_client *client, void *data, uint32_t version, uint32_t id)
{
	struct wl_resource *resource = wl_resource_create(
		client, &wl_compositor_interface, (int)version, id);
	struct viewer *viewer = calloc(1, sizeof(*viewer));

	(void)data;
	if (resource == NULL || viewer == NULL) {
		err(1, "a client");
	}
	viewer->client = client;
	LIST_INIT(&viewer->frames);
	viewer->gone.notify = forget_client;
	wl_client_add_destroy_listener(client, &viewer->gone);
	wl_resource_set_implementation(resource, &compositor_functions, viewer, NULL);
}

int main(int argc, char **argv)
{
	struct wl_display *display = wl_display_create();

	has_dma_bufs = argc == 3 && strcmp(argv[1], "--dma-bufs") == 0;
	if (argc != (has_dma_bufs ? 3 : 2)) {
		errx(2, "usage: vgfence-frame-compositor [--dma-bufs] PATH");
	}
	if (has_dma_bufs && display != NULL) {
		offer_dma_bufs(display);
	}
	if (display == NULL || wl_display_init_shm(display) < 0 ||
		wl_global_create(display, &wl_compositor_interface, 1, NULL, bind) == NULL ||
		wl_display_add_socket(display, argv[argc - 1]) < 0) {
		err(1, "%s", argv[argc - 1]);
	}
	printf("descriptors at first: %u\n", count_fds());
	fflush(stdout);
	wl_display_run(display);
	return 0;
}
