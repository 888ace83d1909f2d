/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "compositor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "support.h"

#include <linux-dmabuf-unstable-v1-server-protocol.h>
#include <linux-explicit-synchronization-unstable-v1-server-protocol.h>
#include <presentation-time-server-protocol.h>
#include <viewporter-server-protocol.h>
#include <xdg-decoration-unstable-v1-server-protocol.h>
#include <xdg-shell-server-protocol.h>

#define MODIFIER_INVALID UINT64_C(0x00ffffffffffffff)

/* One at a time. */
static struct compositor *the_compositor;

static void destroy(struct wl_client *client, struct wl_resource *resource)
{
	(void)client;
	wl_resource_destroy(resource);
}

static struct wl_resource *make(struct wl_client *client, const struct wl_interface *interface,
	uint32_t version, uint32_t id, const void *functions, void *data)
{
	struct wl_resource *resource = wl_resource_create(client, interface, (int)version, id);

	assert_non_null(resource);
	wl_resource_set_implementation(resource, functions, data, NULL);
	return resource;
}

/* Requests that change nothing here. */
static void ignore(void)
{
}

#define IGNORE ((void *)ignore)

/* ---- Buffers --------------------------------------------------------------------------------- */

static void forget_buffer(struct wl_listener *listener, void *data)
{
	struct compositor_buffer *buffer = wl_container_of(listener, buffer, destroyed);
	struct compositor_surface *surface;

	(void)data;
	wl_list_for_each(surface, &the_compositor->surfaces, link)
	{
		if (surface->current.buffer == buffer) {
			surface->current.buffer = NULL;
		}
		if (surface->pending.buffer == buffer) {
			surface->pending.buffer = NULL;
		}
	}
	if (buffer->fd >= 0) {
		close(buffer->fd);
	}
	wl_list_remove(&buffer->link);
	free(buffer);
}

static struct compositor_buffer *add_buffer(
	struct compositor *compositor, struct wl_resource *resource, int fd)
{
	struct compositor_buffer *buffer = calloc(1, sizeof(*buffer));

	assert_non_null(buffer);
	buffer->resource = resource;
	buffer->fd = fd;
	buffer->destroyed.notify = forget_buffer;
	wl_list_insert(compositor->buffers.prev, &buffer->link);
	wl_resource_add_destroy_listener(resource, &buffer->destroyed);
	return buffer;
}

static struct compositor_buffer *find_buffer(
	struct compositor *compositor, struct wl_resource *resource)
{
	struct wl_shm_buffer *shm = wl_shm_buffer_get(resource);
	struct compositor_buffer *buffer;

	wl_list_for_each(buffer, &compositor->buffers, link)
	{
		if (buffer->resource == resource) {
			return buffer;
		}
	}
	assert_non_null(shm);
	buffer = add_buffer(compositor, resource, -1);
	buffer->width = wl_shm_buffer_get_width(shm);
	buffer->height = wl_shm_buffer_get_height(shm);
	return buffer;
}

uint32_t compositor_pixel(const struct compositor_buffer *buffer, int32_t x, int32_t y)
{
	struct wl_shm_buffer *shm = wl_shm_buffer_get(buffer->resource);
	const char *row;

	assert_non_null(shm);
	row = (const char *)wl_shm_buffer_get_data(shm) + y * wl_shm_buffer_get_stride(shm);
	return ((const uint32_t *)row)[x] & 0xffffff;
}

void compositor_release(struct compositor_buffer *buffer)
{
	wl_buffer_send_release(buffer->resource);
	buffer->is_held = buffer->release != NULL; /* else it says nothing */
}

void compositor_release_all(struct compositor *compositor)
{
	struct compositor_buffer *buffer;

	wl_list_for_each(buffer, &compositor->buffers, link)
	{
		compositor_release(buffer);
	}
}

static void forget_release(const struct wl_resource *release)
{
	struct compositor_buffer *buffer;

	wl_list_for_each(buffer, &the_compositor->buffers, link)
	{
		if (buffer->release == release) {
			buffer->release = NULL;
			buffer->is_held = false;
		}
	}
}

void compositor_release_explicit(struct wl_resource *release, int fence_fd)
{
	forget_release(release);
	if (fence_fd >= 0) {
		zwp_linux_buffer_release_v1_send_fenced_release(release, fence_fd);
	} else {
		zwp_linux_buffer_release_v1_send_immediate_release(release);
	}
	wl_resource_destroy(release);
}

unsigned int compositor_num_buffers(struct compositor *compositor)
{
	return (unsigned int)wl_list_length(&compositor->buffers);
}

/* ---- dma-bufs -------------------------------------------------------------------------------- */

static const struct wl_buffer_interface buffer_functions = { .destroy = destroy };

static int params_fd = -1;

static void params_add(struct wl_client *client, struct wl_resource *resource, int32_t fd,
	uint32_t plane, uint32_t offset, uint32_t stride, uint32_t high, uint32_t low)
{
	(void)client;
	(void)resource;
	(void)plane;
	(void)offset;
	(void)stride;
	the_compositor->asked_modifier = (uint64_t)high << 32 | low;
	assert_int_equal(params_fd, -1);
	params_fd = fd;
}

static void take_dma_buf(struct wl_resource *params, int fd, int32_t width, int32_t height)
{
	struct wl_client *client = wl_resource_get_client(params);
	struct wl_resource *resource = make(
		client, &wl_buffer_interface, 1, 0, &buffer_functions, NULL);
	struct compositor_buffer *buffer = add_buffer(the_compositor, resource, fd);

	buffer->width = width;
	buffer->height = height;
	zwp_linux_buffer_params_v1_send_created(params, resource);
}

static int asked_fd = -1;
static int32_t asked_size[2];

static void params_create(struct wl_client *client, struct wl_resource *resource, int32_t width,
	int32_t height, uint32_t format, uint32_t flags)
{
	struct compositor *compositor = the_compositor;
	int fd = params_fd;

	(void)flags;
	params_fd = -1;
	compositor->asked_format = format;
	if (compositor->lacks & COMPOSITOR_REFUSES) {
		close(fd);
		zwp_linux_buffer_params_v1_send_failed(resource);
	} else if (compositor->lacks & COMPOSITOR_ASKS) {
		assert_int_equal(asked_fd, -1);
		compositor->params = resource;
		asked_fd = fd;
		asked_size[0] = width;
		asked_size[1] = height;
	} else {
		take_dma_buf(resource, fd, width, height);
	}
}

void compositor_decide(struct compositor *compositor, bool takes)
{
	struct wl_resource *params = compositor->params;

	if (params == NULL) { /* the client has destroyed it meanwhile, which it may */
		return;
	}
	compositor->params = NULL;
	if (takes) {
		take_dma_buf(params, asked_fd, asked_size[0], asked_size[1]);
	} else {
		close(asked_fd);
		zwp_linux_buffer_params_v1_send_failed(params);
	}
	asked_fd = -1;
}

static const struct zwp_linux_buffer_params_v1_interface params_functions = {
	.destroy = destroy,
	.add = params_add,
	.create = params_create,
};

static void forget_params(struct wl_resource *resource)
{
	if (the_compositor->params == resource) {
		the_compositor->params = NULL;
		close(asked_fd);
		asked_fd = -1;
	}
}

static void create_params(struct wl_client *client, struct wl_resource *resource, uint32_t id)
{
	struct wl_resource *params = make(client, &zwp_linux_buffer_params_v1_interface,
		(uint32_t)wl_resource_get_version(resource), id, NULL, NULL);

	wl_resource_set_implementation(params, &params_functions, NULL, forget_params);
}

static const struct zwp_linux_dmabuf_v1_interface dmabuf_functions = {
	.destroy = destroy,
	.create_params = create_params,
};

static void bind_dmabuf(struct wl_client *client, void *data, uint32_t version, uint32_t id)
{
	const struct compositor *compositor = data;
	uint64_t modifier = compositor->lacks & COMPOSITOR_NO_MODIFIERS ? MODIFIER_INVALID : 0;
	struct wl_resource *resource = make(
		client, &zwp_linux_dmabuf_v1_interface, version, id, &dmabuf_functions, data);

	zwp_linux_dmabuf_v1_send_modifier(
		resource, COMPOSITOR_XRGB8888, (uint32_t)(modifier >> 32), (uint32_t)modifier);
}

/* ---- Surfaces -------------------------------------------------------------------------------- */

static void surface_attach(struct wl_client *client, struct wl_resource *resource,
	struct wl_resource *buffer, int32_t x, int32_t y)
{
	struct compositor_surface *surface = wl_resource_get_user_data(resource);

	(void)client;
	(void)x;
	(void)y;
	surface->pending.buffer = buffer != NULL ? find_buffer(surface->compositor, buffer) : NULL;
}

static void surface_damage(struct wl_client *client, struct wl_resource *resource, int32_t x,
	int32_t y, int32_t width, int32_t height)
{
	struct compositor_surface *surface = wl_resource_get_user_data(resource);
	const int32_t damage[4] = { x, y, width, height };

	(void)client;
	memcpy(surface->pending.damage, damage, sizeof(damage));
}

static void ask(struct compositor_surface *surface, struct wl_resource *answer)
{
	assert_true(surface->num_answers < COMPOSITOR_MAX_ANSWERS);
	surface->answers[surface->num_answers++] = answer;
}

static void surface_frame(struct wl_client *client, struct wl_resource *resource, uint32_t id)
{
	ask(wl_resource_get_user_data(resource),
		make(client, &wl_callback_interface, 1, id, NULL, NULL));
}

static void surface_commit(struct wl_client *client, struct wl_resource *resource)
{
	struct compositor_surface *surface = wl_resource_get_user_data(resource);

	(void)client;
	if (surface->pending.buffer == NULL) {
		surface->num_scaled += surface->is_scaled;
		surface->is_scaled = false;
		return;
	}
	surface->is_scaled = false;
	if (surface->toplevel != NULL) {
		assert_true(surface->num_acks > 0);
		assert_false(surface->pending.buffer->is_held);
		surface->pending.buffer->is_held = true;
		surface->pending.buffer->release = surface->pending.release;
	}
	if (surface->current.acquire_fd >= 0) {
		close(surface->current.acquire_fd);
	}
	surface->current = surface->pending;
	surface->pending = (struct compositor_commit){ .acquire_fd = -1 };
	surface->num_commits++;
}

static const struct wl_surface_interface surface_functions = {
	.destroy = destroy,
	.attach = surface_attach,
	.damage = surface_damage,
	.frame = surface_frame,
	.set_opaque_region = IGNORE,
	.set_input_region = IGNORE,
	.commit = surface_commit,
	.set_buffer_transform = IGNORE,
	.set_buffer_scale = IGNORE,
	.damage_buffer = surface_damage,
};

static void forget_surface(struct wl_resource *resource)
{
	struct compositor_surface *surface = wl_resource_get_user_data(resource);

	if (surface->current.acquire_fd >= 0) {
		close(surface->current.acquire_fd);
	}
	wl_list_remove(&surface->link);
	free(surface);
}

struct compositor_buffer *compositor_shown(struct wl_resource *surface)
{
	return ((struct compositor_surface *)wl_resource_get_user_data(surface))->current.buffer;
}

static void create_surface(struct wl_client *client, struct wl_resource *resource, uint32_t id)
{
	struct compositor_surface *surface = calloc(1, sizeof(*surface));

	assert_non_null(surface);
	surface->compositor = wl_resource_get_user_data(resource);
	surface->pending.acquire_fd = surface->current.acquire_fd = -1;
	surface->resource = make(client, &wl_surface_interface,
		(uint32_t)wl_resource_get_version(resource), id, NULL, NULL);
	wl_resource_set_implementation(
		surface->resource, &surface_functions, surface, forget_surface);
	wl_list_insert(surface->compositor->surfaces.prev, &surface->link);
}

static const struct wl_compositor_interface compositor_functions = {
	.create_surface = create_surface,
	.create_region = IGNORE,
};

/* ---- Windows --------------------------------------------------------------------------------- */

static const struct xdg_toplevel_interface toplevel_functions = {
	.destroy = destroy,
	.set_title = IGNORE,
	.set_app_id = IGNORE,
};

static void get_toplevel(struct wl_client *client, struct wl_resource *resource, uint32_t id)
{
	struct compositor_surface *surface = wl_resource_get_user_data(resource);

	surface->toplevel = make(
		client, &xdg_toplevel_interface, 1, id, &toplevel_functions, surface);
}

static void ack_configure(struct wl_client *client, struct wl_resource *resource, uint32_t serial)
{
	struct compositor_surface *surface = wl_resource_get_user_data(resource);

	(void)client;
	(void)serial;
	surface->num_acks++;
}

static const struct xdg_surface_interface xdg_surface_functions = {
	.destroy = destroy,
	.get_toplevel = get_toplevel,
	.ack_configure = ack_configure,
};

static void get_xdg_surface(
	struct wl_client *client, struct wl_resource *resource, uint32_t id, struct wl_resource *of)
{
	struct compositor_surface *surface = wl_resource_get_user_data(of);

	(void)resource;
	surface->xdg_surface = make(
		client, &xdg_surface_interface, 1, id, &xdg_surface_functions, surface);
}

static void note_pong(struct wl_client *client, struct wl_resource *resource, uint32_t serial)
{
	(void)client;
	((struct compositor *)wl_resource_get_user_data(resource))->pong = serial;
}

static const struct xdg_wm_base_interface wm_base_functions = {
	.destroy = destroy,
	.get_xdg_surface = get_xdg_surface,
	.pong = note_pong,
};

struct compositor_surface *compositor_window(struct compositor *compositor, unsigned int index)
{
	struct compositor_surface *surface;

	wl_list_for_each(surface, &compositor->surfaces, link)
	{
		if (surface->toplevel != NULL && index-- == 0) {
			return surface;
		}
	}
	return NULL;
}

unsigned int compositor_num_windows(struct compositor *compositor)
{
	unsigned int count = 0;

	while (compositor_window(compositor, count) != NULL) {
		count++;
	}
	return count;
}

void compositor_configure(struct compositor_surface *surface, int32_t width, int32_t height)
{
	struct wl_array states;

	wl_array_init(&states);
	xdg_toplevel_send_configure(surface->toplevel, width, height, &states);
	xdg_surface_send_configure(surface->xdg_surface, 1);
}

void compositor_close(struct compositor_surface *surface)
{
	xdg_toplevel_send_close(surface->toplevel);
}

static struct wl_resource *oldest_answer(struct compositor_surface *surface)
{
	struct wl_resource *answer = surface->answers[0];

	assert_true(surface->num_answers > 0);
	surface->num_answers--;
	memmove(surface->answers, surface->answers + 1,
		surface->num_answers * sizeof(surface->answers[0]));
	return answer;
}

void compositor_answer(struct compositor_surface *surface)
{
	struct wl_resource *answer = oldest_answer(surface);

	if (surface->compositor->lacks & COMPOSITOR_NO_PRESENTATION) {
		wl_callback_send_done(answer, 0);
	} else {
		wp_presentation_feedback_send_presented(answer, 1, 2, 3, 0, 0, 0, 0);
	}
	wl_resource_destroy(answer);
}

void compositor_discard(struct compositor_surface *surface)
{
	struct wl_resource *answer = oldest_answer(surface);

	wp_presentation_feedback_send_discarded(answer);
	wl_resource_destroy(answer);
}

/* ---- Extensions ------------------------------------------------------------------------------ */

static void set_source(struct wl_client *client, struct wl_resource *resource, wl_fixed_t x,
	wl_fixed_t y, wl_fixed_t width, wl_fixed_t height)
{
	struct compositor_surface *surface = wl_resource_get_user_data(resource);

	(void)client;
	(void)width;
	(void)height;
	surface->source[0] = wl_fixed_to_int(x);
	surface->source[1] = wl_fixed_to_int(y);
}

static void set_destination(
	struct wl_client *client, struct wl_resource *resource, int32_t width, int32_t height)
{
	struct compositor_surface *surface = wl_resource_get_user_data(resource);

	(void)client;
	surface->destination[0] = width;
	surface->destination[1] = height;
	surface->is_scaled = true;
}

static const struct wp_viewport_interface viewport_functions = {
	.destroy = destroy,
	.set_source = set_source,
	.set_destination = set_destination,
};

static void get_viewport(struct wl_client *client, struct wl_resource *resource, uint32_t id,
	struct wl_resource *surface)
{
	(void)resource;
	make(client, &wp_viewport_interface, 1, id, &viewport_functions,
		wl_resource_get_user_data(surface));
}

static const struct wp_viewporter_interface viewporter_functions = {
	.destroy = destroy,
	.get_viewport = get_viewport,
};

static void set_mode(struct wl_client *client, struct wl_resource *resource, uint32_t mode)
{
	struct compositor_surface *surface = wl_resource_get_user_data(resource);

	(void)client;
	surface->decoration = mode;
}

static const struct zxdg_toplevel_decoration_v1_interface decoration_functions = {
	.destroy = destroy,
	.set_mode = set_mode,
};

static void get_decoration(struct wl_client *client, struct wl_resource *resource, uint32_t id,
	struct wl_resource *toplevel)
{
	(void)resource;
	make(client, &zxdg_toplevel_decoration_v1_interface, 1, id, &decoration_functions,
		wl_resource_get_user_data(toplevel));
}

static const struct zxdg_decoration_manager_v1_interface decorations_functions = {
	.destroy = destroy,
	.get_toplevel_decoration = get_decoration,
};

static void feedback(struct wl_client *client, struct wl_resource *resource,
	struct wl_resource *surface, uint32_t id)
{
	(void)resource;
	ask(wl_resource_get_user_data(surface),
		make(client, &wp_presentation_feedback_interface, 1, id, NULL, NULL));
}

static const struct wp_presentation_interface presentation_functions = {
	.destroy = destroy,
	.feedback = feedback,
};

static void set_acquire_fence(struct wl_client *client, struct wl_resource *resource, int32_t fd)
{
	struct compositor_surface *surface = wl_resource_get_user_data(resource);

	(void)client;
	assert_int_equal(surface->pending.acquire_fd, -1);
	surface->pending.acquire_fd = fd;
}

static void get_release(struct wl_client *client, struct wl_resource *resource, uint32_t id)
{
	struct compositor_surface *surface = wl_resource_get_user_data(resource);

	surface->pending.release = make(
		client, &zwp_linux_buffer_release_v1_interface, 1, id, NULL, NULL);
}

static const struct zwp_linux_surface_synchronization_v1_interface sync_functions = {
	.destroy = destroy,
	.set_acquire_fence = set_acquire_fence,
	.get_release = get_release,
};

static void get_synchronization(struct wl_client *client, struct wl_resource *resource, uint32_t id,
	struct wl_resource *surface)
{
	(void)resource;
	make(client, &zwp_linux_surface_synchronization_v1_interface, 1, id, &sync_functions,
		wl_resource_get_user_data(surface));
}

static const struct zwp_linux_explicit_synchronization_v1_interface explicit_functions = {
	.destroy = destroy,
	.get_synchronization = get_synchronization,
};

/* ---- The seat -------------------------------------------------------------------------------- */

static void forget_keyboard(struct wl_resource *resource)
{
	((struct compositor *)wl_resource_get_user_data(resource))->keyboard = NULL;
}

static void forget_pointer(struct wl_resource *resource)
{
	((struct compositor *)wl_resource_get_user_data(resource))->pointer = NULL;
}

static const struct wl_keyboard_interface keyboard_functions = { .release = destroy };
static void set_cursor(struct wl_client *client, struct wl_resource *resource, uint32_t serial,
	struct wl_resource *surface, int32_t x, int32_t y)
{
	struct compositor *compositor = wl_resource_get_user_data(resource);

	(void)client;
	(void)serial;
	(void)x;
	(void)y;
	compositor->cursor = surface;
	compositor->num_cursors++;
}

static const struct wl_pointer_interface pointer_functions = {
	.set_cursor = set_cursor,
	.release = destroy,
};

static void get_keyboard(struct wl_client *client, struct wl_resource *resource, uint32_t id)
{
	struct compositor *compositor = wl_resource_get_user_data(resource);

	compositor->keyboard = make(client, &wl_keyboard_interface, 5, id, NULL, NULL);
	wl_resource_set_implementation(
		compositor->keyboard, &keyboard_functions, compositor, forget_keyboard);
}

static void get_pointer(struct wl_client *client, struct wl_resource *resource, uint32_t id)
{
	struct compositor *compositor = wl_resource_get_user_data(resource);

	compositor->pointer = make(client, &wl_pointer_interface, 5, id, NULL, NULL);
	wl_resource_set_implementation(
		compositor->pointer, &pointer_functions, compositor, forget_pointer);
}

static const struct wl_seat_interface seat_functions = {
	.get_pointer = get_pointer,
	.get_keyboard = get_keyboard,
	.release = destroy,
};

static void bind_seat(struct wl_client *client, void *data, uint32_t version, uint32_t id)
{
	struct compositor *compositor = data;

	compositor->seat = make(client, &wl_seat_interface, version, id, &seat_functions, data);
	wl_seat_send_capabilities(
		compositor->seat, WL_SEAT_CAPABILITY_KEYBOARD | WL_SEAT_CAPABILITY_POINTER);
}

/* ---- Its life -------------------------------------------------------------------------------- */

#define BIND(name, interface)                                                                      \
	static void bind_##name(                                                                   \
		struct wl_client *client, void *data, uint32_t version, uint32_t id)               \
	{                                                                                          \
		make(client, &interface, version, id, &name##_functions, data);                    \
	}

BIND(compositor, wl_compositor_interface)
BIND(decorations, zxdg_decoration_manager_v1_interface)
BIND(viewporter, wp_viewporter_interface)
BIND(explicit, zwp_linux_explicit_synchronization_v1_interface)

static void bind_wm_base(struct wl_client *client, void *data, uint32_t version, uint32_t id)
{
	((struct compositor *)data)->wm_base = make(
		client, &xdg_wm_base_interface, version, id, &wm_base_functions, data);
}

static void bind_presentation(struct wl_client *client, void *data, uint32_t version, uint32_t id)
{
	const struct compositor *compositor = data;
	struct wl_resource *presentation = make(
		client, &wp_presentation_interface, version, id, &presentation_functions, data);
	uint32_t clock = CLOCK_MONOTONIC;

	clock = compositor->lacks & COMPOSITOR_RAW_CLOCK ? CLOCK_MONOTONIC_RAW : clock;
	clock = compositor->lacks & COMPOSITOR_NO_CLOCK ? UINT32_MAX : clock;
	wp_presentation_send_clock_id(presentation, clock);
}

static const struct {
	unsigned int bit;
	const struct wl_interface *interface;
	int version;
	wl_global_bind_func_t bind;
} all_globals[] = {
	{ 0, &wl_compositor_interface, 4, bind_compositor },
	{ COMPOSITOR_NO_SHELL, &xdg_wm_base_interface, 1, bind_wm_base },
	{ 0, &zxdg_decoration_manager_v1_interface, 1, bind_decorations },
	{ COMPOSITOR_NO_VIEWPORTER, &wp_viewporter_interface, 1, bind_viewporter },
	{ COMPOSITOR_NO_PRESENTATION, &wp_presentation_interface, 1, bind_presentation },
	{ COMPOSITOR_NO_EXPLICIT, &zwp_linux_explicit_synchronization_v1_interface, 1,
		bind_explicit },
	{ COMPOSITOR_NO_DMABUF, &zwp_linux_dmabuf_v1_interface, 3, bind_dmabuf },
};

static void note_gone(struct wl_listener *listener, void *data)
{
	struct compositor *compositor = wl_container_of(listener, compositor, gone);

	(void)data;
	compositor->client = NULL;
}

static void note_created(struct wl_listener *listener, void *data)
{
	struct compositor *compositor = wl_container_of(listener, compositor, created);

	compositor->client = data;
	compositor->gone.notify = note_gone;
	wl_client_add_destroy_listener(compositor->client, &compositor->gone);
}

void compositor_begin(struct compositor *compositor, unsigned int lacks)
{
	the_compositor = compositor;
	*compositor = (struct compositor){ .lacks = lacks, .directory = "/tmp/vgf-wayland-XXXXXX" };
	assert_non_null(mkdtemp(compositor->directory));
	snprintf(compositor->path, sizeof(compositor->path), "%s/socket", compositor->directory);
	wl_list_init(&compositor->surfaces);
	wl_list_init(&compositor->buffers);
	compositor->display = wl_display_create();
	assert_non_null(compositor->display);
	assert_int_equal(wl_display_add_socket(compositor->display, compositor->path), 0);
	assert_int_equal(wl_display_init_shm(compositor->display), 0);
	for (size_t i = 0; i < sizeof(all_globals) / sizeof(all_globals[0]); i++) {
		if (!(lacks & all_globals[i].bit)) {
			assert_non_null(
				wl_global_create(compositor->display, all_globals[i].interface,
					all_globals[i].version, compositor, all_globals[i].bind));
		}
	}
	if (!(lacks & COMPOSITOR_NO_SEAT)) {
		compositor->seat_global = wl_global_create(
			compositor->display, &wl_seat_interface, 5, compositor, bind_seat);
	}
	compositor->created.notify = note_created;
	wl_display_add_client_created_listener(compositor->display, &compositor->created);
}

void compositor_end(struct compositor *compositor)
{
	wl_display_destroy_clients(compositor->display);
	wl_display_destroy(compositor->display);
	assert_int_equal(rmdir(compositor->directory), 0);
}

void compositor_send(struct compositor *compositor)
{
	wl_display_flush_clients(compositor->display);
}

void compositor_step(struct compositor *compositor)
{
	struct wl_event_loop *loop = wl_display_get_event_loop(compositor->display);

	/* At most 4 KiB are read at a time. */
	for (int i = 0; i < 8; i++) {
		wl_event_loop_dispatch(loop, 0);
	}
	compositor_send(compositor);
}

void compositor_kill_client(struct compositor *compositor)
{
	wl_client_destroy(compositor->client);
}
