/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Frames in dma-bufs. One that comes with a fence is looked at when that has signalled. It is given
 * back at once, by a fence, behind which the compositor looks once more before it signals: what has
 * been drawn over by then, somebody has drawn who did not wait.
 */

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <drm_fourcc.h>

#include "frame_compositor.h"
#include "vgem.h"

#include <linux-dmabuf-unstable-v1-server-protocol.h>
#include <linux-explicit-synchronization-unstable-v1-server-protocol.h>

#define READ_MS 6 /* longer than a frame takes to draw */

struct dma_buf {
	uint32_t num_users;
	int fd;
	uint32_t *pixels;
	size_t size;
};

struct frame {
	LIST_ENTRY(frame) link;
	struct viewer *viewer;
	struct dma_buf *dma_buf;
	uint32_t number;
	struct wl_resource *buffer, *release; /* or NULL: gone */
	struct wl_listener buffer_gone;
	int acquire_fd; /* or -1 */
	struct vgem_fence fence;
	struct wl_event_source *source; /* it waits for this */
};

static int vgem_fd = -1;

/* ---- Buffers -------------------------------------------------------------------------------- */

static void dma_buf_unref(struct dma_buf *dma_buf)
{
	if (--dma_buf->num_users > 0) {
		return;
	}
	munmap(dma_buf->pixels, dma_buf->size);
	close(dma_buf->fd);
	free(dma_buf);
}

static void free_buffer(struct wl_resource *resource)
{
	dma_buf_unref(wl_resource_get_user_data(resource));
}

static void destroy(struct wl_client *client, struct wl_resource *resource)
{
	(void)client;
	wl_resource_destroy(resource);
}

static const struct wl_buffer_interface buffer_functions = { destroy };

bool is_dma_buf(struct wl_resource *buffer)
{
	return wl_resource_instance_of(buffer, &wl_buffer_interface, &buffer_functions);
}

/* One plane, with nothing between its rows. */
struct params {
	int fd;
	uint32_t offset, stride;
};

static void free_params(struct wl_resource *resource)
{
	struct params *params = wl_resource_get_user_data(resource);

	if (params->fd >= 0) {
		close(params->fd);
	}
	free(params);
}

static void add(struct wl_client *client, struct wl_resource *resource, int32_t fd, uint32_t plane,
	uint32_t offset, uint32_t stride, uint32_t modifier_hi, uint32_t modifier_lo)
{
	struct params *params = wl_resource_get_user_data(resource);

	(void)client;
	if (plane != 0 || params->fd >= 0 || offset != 0 || (modifier_hi | modifier_lo) != 0) {
		errx(1, "a plane that is not to be there");
	}
	*params = (struct params){ fd, offset, stride };
}

static void create_immed(struct wl_client *client, struct wl_resource *resource, uint32_t id,
	int32_t width, int32_t height, uint32_t format, uint32_t flags)
{
	struct params *params = wl_resource_get_user_data(resource);
	struct dma_buf *dma_buf = calloc(1, sizeof(*dma_buf));
	struct wl_resource *buffer = wl_resource_create(client, &wl_buffer_interface, 1, id);

	if (dma_buf == NULL || buffer == NULL) {
		err(1, "a buffer");
	}
	if (format != DRM_FORMAT_XRGB8888 || flags != 0 || params->stride != 4 * (uint32_t)width) {
		errx(1, "a format that is not offered");
	}
	dma_buf->num_users = 1;
	dma_buf->fd = params->fd;
	params->fd = -1;
	dma_buf->size = (size_t)params->stride * (size_t)height;
	dma_buf->pixels = mmap(NULL, dma_buf->size, PROT_READ, MAP_SHARED, dma_buf->fd, 0);
	if (dma_buf->pixels == MAP_FAILED) {
		err(1, "mapping a dma-buf");
	}
	wl_resource_set_implementation(buffer, &buffer_functions, dma_buf, free_buffer);
}

static void create(struct wl_client *client, struct wl_resource *resource, int32_t width,
	int32_t height, uint32_t format, uint32_t flags)
{
	(void)client;
	(void)resource;
	errx(1, "create %dx%d, %u, %u: nobody here does that", width, height, format, flags);
}

static const struct zwp_linux_buffer_params_v1_interface params_functions = {
	destroy,
	add,
	create,
	create_immed,
};

static void create_params(struct wl_client *client, struct wl_resource *dmabuf, uint32_t id)
{
	struct wl_resource *resource = wl_resource_create(
		client, &zwp_linux_buffer_params_v1_interface, wl_resource_get_version(dmabuf), id);
	struct params *params = calloc(1, sizeof(*params));

	if (resource == NULL || params == NULL) {
		err(1, "a dma-buf");
	}
	params->fd = -1;
	wl_resource_set_implementation(resource, &params_functions, params, free_params);
}

static const struct zwp_linux_dmabuf_v1_interface dmabuf_functions = {
	.destroy = destroy,
	.create_params = create_params,
};

static void bind_dmabuf(struct wl_client *client, void *data, uint32_t version, uint32_t id)
{
	struct wl_resource *resource = wl_resource_create(
		client, &zwp_linux_dmabuf_v1_interface, (int)version, id);

	(void)data;
	if (resource == NULL) {
		err(1, "a client");
	}
	wl_resource_set_implementation(resource, &dmabuf_functions, NULL, NULL);
	zwp_linux_dmabuf_v1_send_modifier(resource, DRM_FORMAT_XRGB8888, 0, 0);
}

/* ---- Frames --------------------------------------------------------------------------------- */

static void forget_buffer(struct wl_listener *listener, void *data)
{
	struct frame *frame = wl_container_of(listener, frame, buffer_gone);

	(void)data;
	wl_list_init(&listener->link);
	frame->buffer = NULL;
}

static void end_frame(struct frame *frame)
{
	LIST_REMOVE(frame, link);
	if (frame->source != NULL) {
		wl_event_source_remove(frame->source);
	}
	if (frame->acquire_fd >= 0) {
		close(frame->acquire_fd);
	}
	if (frame->fence.fd != 0) {
		vgem_fence_signal(vgem_fd, &frame->fence);
		vgem_fence_finish(vgem_fd, &frame->fence);
	}
	if (frame->release != NULL) {
		wl_resource_set_user_data(frame->release, NULL);
	}
	wl_list_remove(&frame->buffer_gone.link);
	dma_buf_unref(frame->dma_buf);
	free(frame);
}

void end_frames(struct viewer *viewer)
{
	while (!LIST_EMPTY(&viewer->frames)) {
		end_frame(LIST_FIRST(&viewer->frames));
	}
}

static bool look(const struct frame *frame)
{
	const struct dma_buf *dma_buf = frame->dma_buf;

	return is_wrong(dma_buf->pixels, dma_buf->size / sizeof(uint32_t), frame->number);
}

/* It has been read. Who draws next may begin now, and not before. */
static int finish_reading(void *data)
{
	struct frame *frame = data;

	frame->viewer->num_drawn_over += look(frame);
	end_frame(frame);
	return 0;
}

static struct wl_event_loop *loop_of(const struct frame *frame)
{
	return wl_display_get_event_loop(wl_client_get_display(frame->viewer->client));
}

static void release_by_fence(struct frame *frame)
{
	if (vgem_fence_init(vgem_fd, &frame->fence) < 0) {
		errx(1, "no fence of vgem");
	}
	frame->viewer->num_released++;
	zwp_linux_buffer_release_v1_send_fenced_release(frame->release, frame->fence.fd);
	wl_resource_destroy(frame->release);
	frame->source = wl_event_loop_add_timer(loop_of(frame), finish_reading, frame);
	wl_event_source_timer_update(frame->source, READ_MS);
}

/* Other compositors, too, send wl_buffer.release in either case. */
static void show(struct frame *frame)
{
	frame->viewer->num_wrong += look(frame);
	if (frame->release != NULL) {
		release_by_fence(frame);
	}
	if (frame->buffer != NULL) {
		wl_buffer_send_release(frame->buffer);
	}
	if (frame->source == NULL) {
		end_frame(frame);
	}
}

static int acquired(int fd, uint32_t mask, void *data)
{
	struct frame *frame = data;

	(void)mask;
	wl_event_source_remove(frame->source);
	frame->source = NULL;
	close(fd);
	frame->acquire_fd = -1;
	show(frame);
	return 0;
}

static bool is_pending(int fence_fd)
{
	struct pollfd pollfd = { .fd = fence_fd, .events = POLLIN };

	return fence_fd >= 0 && poll(&pollfd, 1, 0) == 0;
}

void show_dma_buf(struct surface *surface, struct wl_resource *buffer)
{
	struct frame *frame = calloc(1, sizeof(*frame));

	if (frame == NULL) {
		err(1, "a frame");
	}
	frame->viewer = surface->viewer;
	frame->dma_buf = wl_resource_get_user_data(buffer);
	frame->dma_buf->num_users++;
	frame->number = ++surface->viewer->num_frames;
	frame->buffer = buffer;
	frame->buffer_gone.notify = forget_buffer;
	wl_resource_add_destroy_listener(buffer, &frame->buffer_gone);
	frame->acquire_fd = surface->acquire_fd;
	surface->acquire_fd = -1;
	frame->release = surface->release;
	surface->release = NULL;
	if (frame->release != NULL) {
		wl_resource_set_user_data(frame->release, &frame->release);
	}
	LIST_INSERT_HEAD(&surface->viewer->frames, frame, link);
	if (!is_pending(frame->acquire_fd)) {
		show(frame);
		return;
	}
	surface->viewer->num_fenced++;
	frame->source = wl_event_loop_add_fd(
		loop_of(frame), frame->acquire_fd, WL_EVENT_READABLE, acquired, frame);
}

/* ---- Explicit synchronisation --------------------------------------------------------------- */

/* Whoever has it learns that it has gone. */
static void free_release(struct wl_resource *resource)
{
	struct wl_resource **place = wl_resource_get_user_data(resource);

	if (place != NULL) {
		*place = NULL;
	}
}

static struct surface *surface_of(struct wl_resource *fences)
{
	struct surface *surface = wl_resource_get_user_data(fences);

	if (surface == NULL) {
		errx(1, "fences of a surface that has gone");
	}
	return surface;
}

static void set_acquire_fence(struct wl_client *client, struct wl_resource *resource, int32_t fd)
{
	struct surface *surface = surface_of(resource);

	(void)client;
	if (surface->acquire_fd >= 0) {
		errx(1, "a second acquire fence");
	}
	surface->acquire_fd = fd;
}

static void get_release(struct wl_client *client, struct wl_resource *resource, uint32_t id)
{
	struct surface *surface = surface_of(resource);
	struct wl_resource *release = wl_resource_create(
		client, &zwp_linux_buffer_release_v1_interface, 1, id);

	if (release == NULL || surface->release != NULL) {
		errx(1, "a second release");
	}
	surface->release = release;
	wl_resource_set_implementation(release, NULL, &surface->release, free_release);
}

static const struct zwp_linux_surface_synchronization_v1_interface fences_functions = {
	destroy,
	set_acquire_fence,
	get_release,
};

static void free_fences(struct wl_resource *resource)
{
	struct surface *surface = wl_resource_get_user_data(resource);

	if (surface != NULL) {
		surface->fences = NULL;
	}
}

static void get_synchronization(struct wl_client *client, struct wl_resource *explicit, uint32_t id,
	struct wl_resource *surface_resource)
{
	struct surface *surface = wl_resource_get_user_data(surface_resource);
	struct wl_resource *resource = wl_resource_create(
		client, &zwp_linux_surface_synchronization_v1_interface, 1, id);

	(void)explicit;
	if (resource == NULL || surface->fences != NULL) {
		errx(1, "a surface has these already");
	}
	surface->fences = resource;
	wl_resource_set_implementation(resource, &fences_functions, surface, free_fences);
}

static const struct zwp_linux_explicit_synchronization_v1_interface explicit_functions = {
	destroy,
	get_synchronization,
};

static void bind_explicit(struct wl_client *client, void *data, uint32_t version, uint32_t id)
{
	struct wl_resource *resource = wl_resource_create(
		client, &zwp_linux_explicit_synchronization_v1_interface, (int)version, id);

	(void)data;
	if (resource == NULL) {
		err(1, "a client");
	}
	wl_resource_set_implementation(resource, &explicit_functions, NULL, NULL);
}

void end_fences(struct surface *surface)
{
	if (surface->fences != NULL) {
		wl_resource_set_user_data(surface->fences, NULL);
	}
	if (surface->release != NULL) {
		wl_resource_set_user_data(surface->release, NULL);
	}
	if (surface->acquire_fd >= 0) {
		close(surface->acquire_fd);
	}
}

/* The loop has a descriptor for timers from the first one on. */
static void make_timer(struct wl_display *display)
{
	struct wl_event_loop *loop = wl_display_get_event_loop(display);

	wl_event_source_remove(wl_event_loop_add_timer(loop, finish_reading, NULL));
}

void offer_dma_bufs(struct wl_display *display)
{
	make_timer(display);
	vgem_fd = vgem_open();
	if (vgem_fd < 0) {
		errx(1, "no vgem");
	}
	if (wl_global_create(display, &zwp_linux_dmabuf_v1_interface, 3, NULL, bind_dmabuf) ==
			NULL ||
		wl_global_create(display, &zwp_linux_explicit_synchronization_v1_interface, 1, NULL,
			bind_explicit) == NULL) {
		err(1, "offering dma-bufs");
	}
}
