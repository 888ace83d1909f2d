/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a window gives the compositor: copies, and dma-bufs. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vgfence/dma_buf.h>

#include "fd_kind.h"
#include "wayland_private.h"

/* For the same memory. */
#define MAX_OF_KEY 3

/* Of <drm_fourcc.h>. */
#define MODIFIER_LINEAR UINT64_C(0)
#define MODIFIER_INVALID UINT64_C(0x00ffffffffffffff)

/* ---- The end --------------------------------------------------------------------------------- */

static void free_memory(struct wayland_buffer *buffer)
{
	if (buffer->frame.pixels != NULL) {
		munmap(buffer->frame.pixels, frame_size(&buffer->frame));
		buffer->window->display->copy_bytes -= frame_size(&buffer->frame);
	}
	if (buffer->key != 0) {
		close(buffer->dma_buf.fd);
	}
	free(buffer);
}

void wayland_buffer_end(struct wayland_buffer *buffer)
{
	struct display_wayland *display = buffer->window->display;
	uint64_t key = buffer->is_pinned ? buffer->key : 0;

	if (buffer->window->current == buffer) {
		buffer->window->current = NULL;
	}
	if (buffer->release != NULL) {
		zwp_linux_buffer_release_v1_destroy(buffer->release);
	}
	if (buffer->params != NULL) {
		zwp_linux_buffer_params_v1_destroy(buffer->params);
	}
	if (buffer->proxy != NULL) {
		wl_buffer_destroy(buffer->proxy);
	}
	wayland_points_end(buffer);
	LIST_REMOVE(buffer, link);
	if (buffer->is_leaving && display->num_leaving-- == WAYLAND_MAX_LEAVING) {
		display->holds_back = true; /* any window may have waited for this */
	}
	free_memory(buffer);
	if (key != 0) {
		wayland_key_settle(display, key);
	}
}

static void unpin(struct wayland_buffer *buffer)
{
	if (buffer->is_pinned) {
		buffer->is_pinned = false;
		wayland_key_settle(buffer->window->display, buffer->key);
	}
}

/* The wl_buffer that the compositor answers with has to have its place: libwayland ends a
 * connection whose objects have gaps. */
void wayland_buffer_leave(struct wayland_buffer *buffer)
{
	if (!buffer->is_used && buffer->params == NULL) {
		wayland_buffer_end(buffer);
	} else if (!buffer->is_leaving) {
		buffer->is_leaving = true;
		buffer->window->display->num_leaving++;
		LIST_REMOVE(buffer, link);
		LIST_INSERT_HEAD(&buffer->window->display->leaving, buffer, link);
		if (!buffer->is_used) {
			unpin(buffer);
		}
	}
}

static bool reads_key(const struct wayland_buffers *buffers, uint64_t key)
{
	const struct wayland_buffer *buffer;

	LIST_FOREACH(buffer, buffers, link) {
		if (buffer->key == key && buffer->is_pinned) {
			return true;
		}
	}
	return false;
}

void wayland_key_settle(struct display_wayland *display, uint64_t key)
{
	bool is_read = reads_key(&display->leaving, key);

	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS && !is_read; i++) {
		is_read = reads_key(&display->windows[i].buffers, key);
	}
	if (!is_read) {
		display->ops->release(display->cookie, key);
	}
}

/* ---- The compositor reads it no more --------------------------------------------------------- */

void wayland_buffer_released(void *arg)
{
	struct wayland_buffer *buffer = arg;
	struct wayland_window *window = buffer->window;

	buffer->is_used = false;
	buffer->is_explicit = buffer->has_points = false;
	buffer->is_released = false;
	if (buffer->is_leaving) {
		wayland_buffer_end(buffer);
	} else {
		unpin(buffer);
	}
	wayland_window_go_on(window);
}

/* fence_fd: of what its GPU still reads; owned. Without memory to wait there is no other way than
 * to say that it does not. */
static void release_after_take(struct wayland_buffer *buffer, int fence_fd)
{
	if (wayland_wait_take(buffer->window->display, fence_fd, wayland_buffer_released, buffer) <
		0) {
		wayland_buffer_released(buffer);
	}
}

/* Its GPU may read on, which is then a fence of the dma-buf. A writer waits for readers. */
static void release_implicitly(struct wayland_buffer *buffer)
{
	int fence_fd = buffer->key != 0 ?
		vgf_dma_buf_export_sync_file(buffer->dma_buf.fd, VGF_ACCESS_WRITE) :
		-1;

	if (fence_fd >= 0) {
		release_after_take(buffer, fence_fd);
	} else {
		wayland_buffer_released(buffer);
	}
}

static void note_release(void *data, struct wl_buffer *proxy)
{
	struct wayland_buffer *buffer = data;

	(void)proxy;
	if (buffer->is_used && !buffer->is_explicit && !buffer->is_released) {
		buffer->is_released = true;
		release_implicitly(buffer);
	}
}

static const struct wl_buffer_listener buffer_listener = { .release = note_release };

static void end_release(struct wayland_buffer *buffer)
{
	zwp_linux_buffer_release_v1_destroy(buffer->release);
	buffer->release = NULL;
}

static void note_fenced_release(
	void *data, struct zwp_linux_buffer_release_v1 *release, int32_t fence_fd)
{
	struct wayland_buffer *buffer = data;

	(void)release;
	end_release(buffer);
	if (fd_is_sync_file(fence_fd)) {
		release_after_take(buffer, fence_fd);
	} else {
		close(fence_fd); /* whoever waits for it may wait for the compositor */
		wayland_buffer_released(buffer);
	}
}

static void note_immediate_release(void *data, struct zwp_linux_buffer_release_v1 *release)
{
	struct wayland_buffer *buffer = data;

	(void)release;
	end_release(buffer);
	wayland_buffer_released(buffer);
}

static const struct zwp_linux_buffer_release_v1_listener release_listener = {
	.fenced_release = note_fenced_release,
	.immediate_release = note_immediate_release,
};

void wayland_buffer_use(struct wayland_buffer *buffer, bool is_explicit)
{
	buffer->is_used = true;
	buffer->is_pinned = buffer->key != 0;
	buffer->is_explicit = is_explicit || buffer->has_points;
	if (is_explicit) {
		buffer->release = zwp_linux_surface_synchronization_v1_get_release(
			buffer->window->sync);
		zwp_linux_buffer_release_v1_add_listener(
			buffer->release, &release_listener, buffer);
	}
}

/* ---- Copies ---------------------------------------------------------------------------------- */

static struct wayland_buffer *create(struct wayland_window *window)
{
	struct wayland_buffer *buffer = calloc(1, sizeof(*buffer));

	if (buffer != NULL) {
		buffer->window = window;
		LIST_INSERT_HEAD(&window->buffers, buffer, link);
	}
	return buffer;
}

static int share_memory(struct wayland_buffer *buffer)
{
	struct wl_shm *shm = buffer->window->display->shm;
	struct frame *frame = &buffer->frame;
	size_t size = frame_size(frame);
	struct wl_shm_pool *pool;
	void *pixels;
	int fd = wayland_memory(size, &pixels);

	if (fd < 0) {
		return fd;
	}
	frame->pixels = pixels;
	buffer->window->display->copy_bytes += size;
	pool = wl_shm_create_pool(shm, fd, (int32_t)size);
	close(fd);
	buffer->proxy = wl_shm_pool_create_buffer(pool, 0, (int32_t)frame->width,
		(int32_t)frame->height, (int32_t)(frame->width * sizeof(*frame->pixels)),
		WL_SHM_FORMAT_XRGB8888);
	wl_shm_pool_destroy(pool);
	wl_buffer_add_listener(buffer->proxy, &buffer_listener, buffer);
	buffer->state = WAYLAND_BUFFER_READY;
	return 0;
}

static bool has_room(const struct wayland_window *window)
{
	const struct frame frame = { .width = window->width, .height = window->height };

	return frame_size(&frame) <= WAYLAND_MAX_COPY_BYTES - window->display->copy_bytes;
}

static struct wayland_buffer *create_copy(struct wayland_window *window)
{
	struct wayland_buffer *buffer = has_room(window) ? create(window) : NULL;

	if (buffer == NULL) {
		return NULL;
	}
	frame_reset(&buffer->frame, window->width, window->height);
	if (share_memory(buffer) < 0) {
		wayland_buffer_end(buffer);
		return NULL;
	}
	return buffer;
}

int wayland_copy_get(struct wayland_window *window, struct wayland_buffer **out)
{
	struct wayland_buffer *buffer;
	unsigned int count = 0;

	LIST_FOREACH(buffer, &window->buffers, link) {
		if (buffer->key == 0 && !buffer->is_used) {
			*out = buffer;
			return 0;
		}
		count += buffer->key == 0;
	}
	*out = count < WAYLAND_MAX_COPIES ? create_copy(window) : NULL;
	return *out != NULL || count > 0 ? 0 : -ENOMEM;
}

/* ---- dma-bufs -------------------------------------------------------------------------------- */

static bool takes(const struct display_wayland *display, uint32_t drm_format, uint64_t modifier)
{
	for (size_t i = 0; i < display->num_formats; i++) {
		if (display->formats[i].drm_format == drm_format &&
			display->formats[i].modifier == modifier) {
			return true;
		}
	}
	return false;
}

/* The same without alpha: there is nothing behind a monitor. DRM's names begin with the order of
 * the four parts, alpha among the first two. */
static uint32_t make_opaque(uint32_t drm_format)
{
	if ((drm_format & 0xff) == 'A') {
		return (drm_format & ~UINT32_C(0xff)) | 'X';
	}
	if ((drm_format >> 8 & 0xff) == 'A') {
		return (drm_format & ~UINT32_C(0xff00)) | 'X' << 8;
	}
	return drm_format;
}

/* The driver of a compositor that knows no modifiers takes what is linear without one. */
static bool choose_modifier(const struct display_wayland *display, uint32_t drm_format,
	uint64_t modifier, struct wayland_format *out)
{
	*out = (struct wayland_format){ drm_format, modifier };
	if (!takes(display, drm_format, modifier) && modifier == MODIFIER_LINEAR) {
		out->modifier = MODIFIER_INVALID;
	}
	return takes(display, drm_format, out->modifier);
}

static bool choose_format(const struct display_wayland *display, const struct gpu_buffer *dma_buf,
	struct wayland_format *out)
{
	return choose_modifier(display, make_opaque(dma_buf->drm_format), dma_buf->modifier, out) ||
		choose_modifier(display, dma_buf->drm_format, dma_buf->modifier, out);
}

static void end_params(struct wayland_buffer *buffer)
{
	zwp_linux_buffer_params_v1_destroy(buffer->params);
	buffer->params = NULL;
}

/* The window may have waited for this; or it shows something else by now. */
static void answered(struct wayland_buffer *buffer)
{
	struct wayland_window *window = buffer->window;

	end_params(buffer);
	if (buffer->is_leaving) {
		wayland_buffer_end(buffer);
	} else {
		unpin(buffer);
	}
	wayland_window_go_on(window);
}

static void note_created(
	void *data, struct zwp_linux_buffer_params_v1 *params, struct wl_buffer *proxy)
{
	struct wayland_buffer *buffer = data;

	(void)params;
	buffer->proxy = proxy;
	buffer->state = WAYLAND_BUFFER_READY;
	wl_buffer_add_listener(proxy, &buffer_listener, buffer);
	answered(buffer);
}

static void note_failed(void *data, struct zwp_linux_buffer_params_v1 *params)
{
	struct wayland_buffer *buffer = data;

	(void)params;
	buffer->state = WAYLAND_BUFFER_REFUSED;
	answered(buffer);
}

static const struct zwp_linux_buffer_params_v1_listener params_listener = {
	.created = note_created,
	.failed = note_failed,
};

/* Not create_immed: what a compositor cannot take would then end the connection. */
static void ask(struct wayland_buffer *buffer)
{
	const struct gpu_buffer *dma_buf = &buffer->dma_buf;
	const struct wayland_format *format = &buffer->format;

	buffer->params = zwp_linux_dmabuf_v1_create_params(buffer->window->display->dmabuf);
	zwp_linux_buffer_params_v1_add_listener(buffer->params, &params_listener, buffer);
	zwp_linux_buffer_params_v1_add(buffer->params, dma_buf->fd, 0, dma_buf->offset,
		dma_buf->stride, (uint32_t)(format->modifier >> 32), (uint32_t)format->modifier);
	zwp_linux_buffer_params_v1_create(buffer->params, (int32_t)dma_buf->width,
		(int32_t)dma_buf->height, format->drm_format, 0);
}

static int create_in_place(struct wayland_window *window, const struct gpu_buffer *dma_buf,
	const struct wayland_format *format)
{
	int fd = fcntl(dma_buf->fd, F_DUPFD_CLOEXEC, 0);
	struct wayland_buffer *buffer;

	if (fd < 0) {
		return -errno;
	}
	buffer = create(window);
	if (buffer == NULL) {
		close(fd);
		return -ENOMEM;
	}
	buffer->key = dma_buf->key;
	buffer->dma_buf = *dma_buf;
	buffer->dma_buf.fd = fd;
	buffer->dma_buf.acquire_fd = -1;
	buffer->format = *format;
	buffer->is_pinned = true;
	ask(buffer);
	return 0;
}

static bool is_alike(const struct gpu_buffer *a, const struct gpu_buffer *b)
{
	return a->width == b->width && a->height == b->height && a->drm_format == b->drm_format &&
		a->stride == b->stride && a->offset == b->offset && a->modifier == b->modifier;
}

/* One that was used longest ago makes room. */
static void make_room(struct wayland_window *window)
{
	struct wayland_buffer *buffer, *oldest = NULL;
	unsigned int count = 0;

	LIST_FOREACH(buffer, &window->buffers, link) {
		if (buffer->key != 0) {
			count++;
			oldest = buffer->is_used || buffer->params != NULL ? oldest : buffer;
		}
	}
	if (count >= WAYLAND_MAX_IN_PLACE && oldest != NULL) {
		wayland_buffer_end(oldest);
	}
}

struct places {
	struct wayland_buffer *free;
	unsigned int count, num_asked, num_refused, num_all;
};

static void look(
	struct wayland_window *window, const struct gpu_buffer *dma_buf, struct places *places)
{
	struct wayland_buffer *buffer;

	LIST_FOREACH(buffer, &window->buffers, link) {
		places->num_all += buffer->key != 0;
		if (buffer->key != dma_buf->key || !is_alike(&buffer->dma_buf, dma_buf)) {
			continue;
		}
		places->count++;
		places->num_asked += buffer->state == WAYLAND_BUFFER_ASKED;
		places->num_refused += buffer->state == WAYLAND_BUFFER_REFUSED;
		if (buffer->state == WAYLAND_BUFFER_READY && !buffer->is_used) {
			places->free = buffer;
		}
	}
}

int wayland_in_place_get(struct wayland_window *window, const struct gpu_buffer *dma_buf,
	struct wayland_buffer **out)
{
	struct places places = { 0 };
	struct wayland_format format;

	*out = NULL;
	if (window->display->dmabuf == NULL || !choose_format(window->display, dma_buf, &format)) {
		return -EOPNOTSUPP;
	}
	make_room(window);
	look(window, dma_buf, &places);
	if (places.num_refused > 0) {
		return -EOPNOTSUPP;
	}
	if (places.free != NULL) {
		*out = places.free;
		places.free->dma_buf.rect = dma_buf->rect;
		return 0;
	}
	if (places.num_asked > 0 || places.count >= MAX_OF_KEY ||
		places.num_all >= WAYLAND_MAX_IN_PLACE) {
		return 0;
	}
	return create_in_place(window, dma_buf, &format);
}
