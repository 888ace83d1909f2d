/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* A window for a scanout: its frames, and what the user does with it. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <vgfence/dma_buf.h>

#include "clock.h"
#include "wayland_private.h"

#define MAX_FIXED ((1u << 23) - 1)

/* ---- Rectangles ------------------------------------------------------------------------------ */

static uint32_t min(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t max(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static void unite(struct virtio_gpu_rect *all, const struct virtio_gpu_rect *rect)
{
	uint32_t right, bottom;

	if (all->width == 0) {
		*all = *rect;
		return;
	}
	right = max(all->x + all->width, rect->x + rect->width);
	bottom = max(all->y + all->height, rect->y + rect->height);
	all->x = min(all->x, rect->x);
	all->y = min(all->y, rect->y);
	all->width = right - all->x;
	all->height = bottom - all->y;
}

static struct virtio_gpu_rect whole(const struct wayland_window *window)
{
	return (struct virtio_gpu_rect){ 0, 0, window->width, window->height };
}

/* ---- What the compositor answers ------------------------------------------------------------- */

/* To a frame: that it is on the screen, or will not be. */
struct wayland_answer {
	LIST_ENTRY(wayland_answer) link;
	struct wayland_window *window;
	uint64_t frame;
	struct wp_presentation_feedback *feedback; /* or: */
	struct wl_callback *callback;
};

static void end_answer(struct wayland_answer *answer)
{
	if (answer->feedback != NULL) {
		wp_presentation_feedback_destroy(answer->feedback);
	}
	if (answer->callback != NULL) {
		wl_callback_destroy(answer->callback);
	}
	answer->window->num_answers--;
	LIST_REMOVE(answer, link);
	free(answer);
}

/* Then what is on the screen may still be the frame before. */
static bool reads_others(const struct wayland_window *window)
{
	const struct wayland_buffer *buffer;

	LIST_FOREACH(buffer, &window->buffers, link) {
		if (buffer->key != 0 && buffer->is_used && buffer != window->current) {
			return true;
		}
	}
	return false;
}

static void tell_shown(struct wayland_window *window)
{
	struct display_wayland *display = window->display;

	if (window->told < window->shown && !reads_others(window)) {
		window->told = window->shown;
		display->ops->shown(display->cookie, window->scanout, window->told);
	}
}

static void answered(struct wayland_answer *answer)
{
	struct wayland_window *window = answer->window;

	if (answer->frame > window->shown) {
		window->shown = answer->frame;
	}
	end_answer(answer);
	if (window->dropped > window->shown && window->num_answers == 0) {
		window->shown = window->dropped;
	}
	wayland_window_go_on(window);
}

/* By what both clocks say now. Returns false for a clock that there is not. */
static bool make_monotonic(uint32_t clock, uint64_t *time_ns)
{
	struct timespec now;

	if (clock == CLOCK_MONOTONIC) {
		return true;
	}
	if (clock > CLOCK_TAI || clock_gettime((clockid_t)clock, &now) < 0) {
		return false;
	}
	*time_ns += now_ns() - ((uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec);
	return true;
}

static void tell_presented(const struct wayland_answer *answer, uint64_t time_ns)
{
	struct wayland_window *window = answer->window;
	struct display_wayland *display = window->display;

	if (display->ops->presented != NULL &&
		make_monotonic(display->presentation_clock, &time_ns)) {
		display->ops->presented(display->cookie, window->scanout, answer->frame, time_ns);
	}
}

static void note_output(
	void *data, struct wp_presentation_feedback *feedback, struct wl_output *output)
{
	(void)data;
	(void)feedback;
	(void)output;
}

static void note_presented(void *data, struct wp_presentation_feedback *feedback,
	uint32_t seconds_high, uint32_t seconds_low, uint32_t nanoseconds, uint32_t refresh,
	uint32_t sequence_high, uint32_t sequence_low, uint32_t flags)
{
	struct wayland_answer *answer = data;
	uint64_t seconds = (uint64_t)seconds_high << 32 | seconds_low;

	(void)feedback;
	(void)refresh;
	(void)sequence_high;
	(void)sequence_low;
	(void)flags;
	tell_presented(answer, seconds * NS_PER_S + nanoseconds);
	answered(answer);
}

static void note_discarded(void *data, struct wp_presentation_feedback *feedback)
{
	(void)feedback;
	answered(data);
}

static const struct wp_presentation_feedback_listener feedback_listener = {
	.sync_output = note_output,
	.presented = note_presented,
	.discarded = note_discarded,
};

static void note_drawn(void *data, struct wl_callback *callback, uint32_t time)
{
	(void)callback;
	(void)time;
	answered(data);
}

static const struct wl_callback_listener drawn_listener = { .done = note_drawn };

/* For the next commit. Returns whether the compositor will answer. */
static bool ask_for_answer(struct wayland_window *window)
{
	struct wp_presentation *presentation = window->display->presentation;
	struct wayland_answer *answer = calloc(1, sizeof(*answer));

	if (answer == NULL) {
		return false;
	}
	answer->window = window;
	answer->frame = window->frame;
	LIST_INSERT_HEAD(&window->answers, answer, link);
	window->num_answers++;
	if (presentation != NULL) {
		answer->feedback = wp_presentation_feedback(presentation, window->surface);
		wp_presentation_feedback_add_listener(answer->feedback, &feedback_listener, answer);
	} else {
		answer->callback = wl_surface_frame(window->surface);
		wl_callback_add_listener(answer->callback, &drawn_listener, answer);
	}
	return true;
}

/* ---- Giving it a frame ----------------------------------------------------------------------- */

static void scale(struct wayland_window *window)
{
	window->is_unscaled = false;
	if (window->user_width > 0) {
		wp_viewport_set_destination(window->viewport, (int32_t)window->user_width,
			(int32_t)window->user_height);
	} else {
		wp_viewport_set_destination(window->viewport, -1, -1);
	}
}

static void crop(struct wayland_window *window, const struct gpu_buffer *dma_buf)
{
	const struct virtio_gpu_rect *rect = dma_buf != NULL ? &dma_buf->rect : NULL;

	if (rect != NULL) {
		wp_viewport_set_source(window->viewport, wl_fixed_from_int((int)rect->x),
			wl_fixed_from_int((int)rect->y), wl_fixed_from_int((int)rect->width),
			wl_fixed_from_int((int)rect->height));
	} else {
		wp_viewport_set_source(window->viewport, wl_fixed_from_int(-1),
			wl_fixed_from_int(-1), wl_fixed_from_int(-1), wl_fixed_from_int(-1));
	}
}

/* Of a dma-buf, which may be larger than what is shown of it. */
static void damage(struct wayland_window *window, const struct gpu_buffer *dma_buf)
{
	const struct virtio_gpu_rect *rect = &window->damage;
	uint32_t x = dma_buf != NULL ? dma_buf->rect.x : 0;
	uint32_t y = dma_buf != NULL ? dma_buf->rect.y : 0;

	wl_surface_damage_buffer(window->surface, (int32_t)(rect->x + x), (int32_t)(rect->y + y),
		(int32_t)rect->width, (int32_t)rect->height);
}

static void commit(struct wayland_window *window, struct wayland_buffer *buffer, bool is_explicit)
{
	const struct gpu_buffer *dma_buf = buffer->key != 0 ? &buffer->dma_buf : NULL;
	bool will_answer = ask_for_answer(window);

	if (!buffer->has_points) {
		wayland_points_clear(window);
	}
	wl_surface_attach(window->surface, buffer->proxy, 0, 0);
	if (window->viewport != NULL) {
		crop(window, dma_buf);
		scale(window);
	}
	damage(window, dma_buf);
	wayland_buffer_use(buffer, is_explicit);
	wl_surface_commit(window->surface);
	window->current = buffer;
	window->has_content = true;
	window->has_frame = false;
	window->damage = (struct virtio_gpu_rect){ 0 };
	if (!will_answer) {
		window->shown = window->frame;
	}
}

/* What cannot be read any more is not shown: the guest has something else for it by now. */
static void drop(struct wayland_window *window)
{
	window->has_frame = false;
	window->dropped = window->frame;
	if (window->num_answers == 0) {
		window->shown = window->frame;
	}
}

static void fill(struct wayland_window *window, struct wayland_buffer *copy)
{
	struct display_wayland *display = window->display;
	const struct frame_source source = { display->ops->read, display->cookie, window->scanout };
	const struct virtio_gpu_rect stale = copy->frame.dirty;
	struct virtio_gpu_rect all = whole(window);
	bool is_whole = copy->frame.stale;
	uint64_t before = copy->frame.copied_bytes;

	copy->frame.dirty = (struct virtio_gpu_rect){ 0 };
	if (frame_flush(&copy->frame, is_whole ? &all : &stale, &source) < 0) {
		drop(window);
		return;
	}
	display->stats.frames_copied++;
	display->stats.copied_bytes += copy->frame.copied_bytes - before;
	copy->frame.dirty = (struct virtio_gpu_rect){ 0 };
	commit(window, copy, false);
}

static void give_copy(struct wayland_window *window)
{
	struct display_wayland *display = window->display;
	struct wayland_buffer *copy;

	if (wayland_copy_get(window, &copy) < 0) {
		drop(window);
		if (display->ops->lacks_memory != NULL) {
			display->ops->lacks_memory(display->cookie);
		}
	} else if (copy != NULL) {
		fill(window, copy);
	}
}

/* In the 23 bits that wl_fixed_t has before the point. */
static bool is_fixed(const struct virtio_gpu_rect *rect)
{
	return rect->x <= MAX_FIXED - rect->width && rect->y <= MAX_FIXED - rect->height;
}

static bool can_crop(const struct wayland_window *window, const struct gpu_buffer *dma_buf)
{
	const struct virtio_gpu_rect *rect = &dma_buf->rect;

	return (window->viewport != NULL && is_fixed(rect)) ||
		(rect->x == 0 && rect->y == 0 && rect->width == dma_buf->width &&
			rect->height == dma_buf->height);
}

static int find_buffer(struct wayland_window *window, const struct gpu_buffer *dma_buf,
	struct wayland_buffer **out)
{
	*out = NULL;
	return can_crop(window, dma_buf) ? wayland_in_place_get(window, dma_buf, out) : -EOPNOTSUPP;
}

static void commit_in_place(struct wayland_window *window, struct wayland_buffer *buffer)
{
	/* A failure is no matter: the compositor then says by itself when it has read it. */
	if (!buffer->has_points) {
		wayland_points_set(buffer, -1);
	}
	window->display->stats.frames_in_place++;
	commit(window, buffer, window->sync != NULL);
}

/* Returns whether it was given, or will be; otherwise it is to be copied. */
static bool give_in_place(struct wayland_window *window)
{
	struct display_wayland *display = window->display;
	struct wayland_buffer *buffer;
	struct gpu_buffer dma_buf;
	int ret;

	if (display->dmabuf == NULL ||
		display->ops->get_buffer(display->cookie, window->scanout, &dma_buf) < 0) {
		return false;
	}
	ret = find_buffer(window, &dma_buf, &buffer);
	close(dma_buf.fd);
	if (buffer != NULL) {
		commit_in_place(window, buffer);
	} else {
		wayland_key_settle(display, dma_buf.key);
	}
	return ret == 0;
}

static bool can_give(const struct wayland_window *window)
{
	struct display_wayland *display = window->display;

	return window->surface != NULL && window->is_configured && !display->is_ending &&
		window->num_answers < WAYLAND_MAX_FRAMES &&
		display->num_leaving < WAYLAND_MAX_LEAVING && wayland_can_send(display);
}

/* What it shows, at once, whatever the guest makes of its size. */
static void rescale(struct wayland_window *window)
{
	if (window->is_unscaled && window->has_content && window->viewport != NULL &&
		wayland_can_send(window->display)) {
		scale(window);
		wl_surface_commit(window->surface);
	}
}

static void begin_window(struct wayland_window *window);
static void end_window(struct wayland_window *window);
static void open_or_end(struct wayland_window *window);

/* If what it shows leaves: by a copy, so that the compositor releases it. */
static void replace(struct wayland_window *window)
{
	const struct wayland_buffer *shown = window->current;

	if (shown == NULL || shown->key == 0 || !shown->is_leaving || window->width == 0 ||
		!wayland_can_send(window->display)) {
		return;
	}
	window->damage = whole(window);
	give_copy(window);
	if (window->current == shown) {
		end_window(window); /* there is no copy: another way to have it released */
		/* Nobody answers for what it had: the next one shows the last of that. */
		window->has_frame = window->told < window->frame;
		begin_window(window);
	}
}

void wayland_window_go_on(struct wayland_window *window)
{
	open_or_end(window);
	if (window->has_frame && can_give(window) && !give_in_place(window)) {
		give_copy(window);
	}
	replace(window);
	rescale(window);
	tell_shown(window);
}

/* ---- What the user does with it -------------------------------------------------------------- */

static uint32_t clamp(int32_t size, uint32_t least)
{
	return size <= 0 ? 0 : min(max((uint32_t)size, least), GPU_MAX_SIZE);
}

static void note_size(void *data, struct xdg_toplevel *toplevel, int32_t width, int32_t height,
	struct wl_array *states)
{
	struct wayland_window *window = data;

	(void)toplevel;
	(void)states;
	window->next_width = clamp(width, GPU_MIN_WIDTH);
	window->next_height = clamp(height, GPU_MIN_HEIGHT);
}

static void note_close(void *data, struct xdg_toplevel *toplevel)
{
	struct wayland_window *window = data;
	struct display_wayland *display = window->display;
	unsigned int count = 0;

	(void)toplevel;
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		count += display->windows[i].surface != NULL;
	}
	if (count > 1) {
		window->is_closed = true;
		wayland_window_end(window);
		if (display->ops->closed != NULL) {
			display->ops->closed(display->cookie, window->scanout);
		}
	}
}

static const struct xdg_toplevel_listener toplevel_listener = {
	.configure = note_size,
	.close = note_close,
};

static void take_size(struct wayland_window *window)
{
	uint32_t width = window->next_width, height = window->next_height;

	if (width == 0 || height == 0 ||
		(width == window->user_width && height == window->user_height)) {
		return;
	}
	window->user_width = width;
	window->user_height = height;
	window->is_resized = window->is_unscaled = true;
}

/* By what the guest was told last: it may be about to make that of the scanout. */
static bool has_size(const struct wayland_window *window, uint32_t width, uint32_t height)
{
	if (window->told_width > 0) {
		return width == window->told_width && height == window->told_height;
	}
	return width == window->width && height == window->height;
}

void wayland_window_tell_size(struct wayland_window *window)
{
	struct display_wayland *display = window->display;
	uint32_t width = window->user_width, height = window->user_height;

	if (display->ops->resize != NULL && window->is_resized &&
		!has_size(window, width, height)) {
		window->told_width = width;
		window->told_height = height;
		display->ops->resize(display->cookie, window->scanout, width, height);
	}
	window->is_resized = false;
}

static void note_configured(void *data, struct xdg_surface *xdg_surface, uint32_t serial)
{
	struct wayland_window *window = data;

	xdg_surface_ack_configure(xdg_surface, serial);
	window->is_configured = true;
	take_size(window);
	wayland_window_go_on(window);
}

static const struct xdg_surface_listener surface_listener = { .configure = note_configured };

void wayland_window_get_size(const struct wayland_window *window, uint32_t *width, uint32_t *height)
{
	bool is_scaled = window->viewport != NULL && window->user_width > 0;

	*width = is_scaled ? window->user_width : window->width;
	*height = is_scaled ? window->user_height : window->height;
}

/* ---- Its life -------------------------------------------------------------------------------- */

static void add_extensions(struct wayland_window *window)
{
	struct display_wayland *display = window->display;

	/* A frame of the compositor's: there is none of ours. */
	if (display->decorations != NULL) {
		window->decoration = zxdg_decoration_manager_v1_get_toplevel_decoration(
			display->decorations, window->toplevel);
		zxdg_toplevel_decoration_v1_set_mode(
			window->decoration, ZXDG_TOPLEVEL_DECORATION_V1_MODE_SERVER_SIDE);
	}
	if (display->viewporter != NULL) {
		window->viewport = wp_viewporter_get_viewport(display->viewporter, window->surface);
	}
	/* A surface may have one of both. */
	if (display->explicit_sync != NULL && display->syncobj == NULL) {
		window->sync = zwp_linux_explicit_synchronization_v1_get_synchronization(
			display->explicit_sync, window->surface);
	}
}

static void begin_window(struct wayland_window *window)
{
	struct display_wayland *display = window->display;
	char title[32];

	window->surface = wl_compositor_create_surface(display->compositor);
	window->xdg_surface = xdg_wm_base_get_xdg_surface(display->wm_base, window->surface);
	xdg_surface_add_listener(window->xdg_surface, &surface_listener, window);
	window->toplevel = xdg_surface_get_toplevel(window->xdg_surface);
	xdg_toplevel_add_listener(window->toplevel, &toplevel_listener, window);
	snprintf(title, sizeof(title), "vgfence, monitor %u", window->scanout + 1);
	xdg_toplevel_set_title(window->toplevel, title);
	xdg_toplevel_set_app_id(window->toplevel, "vgfence");
	add_extensions(window);
	wl_surface_commit(window->surface);
}

/* Of another size than what is to be shown now. */
static void leave_copies(struct wayland_window *window)
{
	struct wayland_buffer *buffer, *next;

	for (buffer = LIST_FIRST(&window->buffers); buffer != NULL; buffer = next) {
		next = LIST_NEXT(buffer, link);
		if (buffer->key == 0) {
			wayland_buffer_leave(buffer);
		}
	}
}

/* Copies that were filled before do not have it. */
static void make_stale(struct wayland_window *window, const struct virtio_gpu_rect *rect)
{
	struct wayland_buffer *buffer;

	LIST_FOREACH(buffer, &window->buffers, link) {
		if (buffer->key == 0) {
			unite(&buffer->frame.dirty, rect);
		}
	}
}

/* Without a surface nobody looks at a copy any more. */
static void leave_buffers(struct wayland_window *window)
{
	struct wayland_buffer *buffer, *next;

	for (buffer = LIST_FIRST(&window->buffers); buffer != NULL; buffer = next) {
		next = LIST_NEXT(buffer, link);
		if (buffer->key == 0) {
			wayland_buffer_end(buffer);
		} else {
			wayland_buffer_leave(buffer);
		}
	}
}

static void end_surface(struct wayland_window *window)
{
	if (window->sync != NULL) {
		zwp_linux_surface_synchronization_v1_destroy(window->sync);
	}
	if (window->viewport != NULL) {
		wp_viewport_destroy(window->viewport);
	}
	wayland_points_clear(window);
	if (window->decoration != NULL) {
		zxdg_toplevel_decoration_v1_destroy(window->decoration);
	}
	window->decoration = NULL;
	xdg_toplevel_destroy(window->toplevel);
	xdg_surface_destroy(window->xdg_surface);
	wl_surface_destroy(window->surface);
	window->sync = NULL;
	window->viewport = NULL;
	window->surface = NULL;
}

static void end_window(struct wayland_window *window)
{
	struct display_wayland *display = window->display;
	struct wayland_answer *answer;

	if (window->surface == NULL) {
		return;
	}
	wayland_seat_forget(&display->seat, window);
	while ((answer = LIST_FIRST(&window->answers)) != NULL) {
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the one before is off the list. */
		end_answer(answer);
	}
	end_surface(window);
	leave_buffers(window);
	window->current = NULL;
	window->is_configured = window->has_content = false;
	window->is_resized = window->is_unscaled = false;
	window->has_frame = false;
	window->user_width = window->user_height = 0;
	window->next_width = window->next_height = 0;
	window->told_width = window->told_height = 0;
}

/* Nobody waits for what it would show. */
static void hide(struct wayland_window *window)
{
	struct display_wayland *display = window->display;

	window->has_frame = false;
	if (window->told < window->frame) {
		window->told = window->shown = window->frame;
		display->ops->shown(display->cookie, window->scanout, window->told);
	}
}

/* As soon as the compositor takes requests. */
static void open_or_end(struct wayland_window *window)
{
	struct display_wayland *display = window->display;
	bool is_wanted = window->width > 0 && !window->is_closed;

	if (is_wanted == (window->surface != NULL) || display->is_ending ||
		!wayland_can_send(display)) {
		return;
	}
	if (is_wanted) {
		begin_window(window);
	} else {
		end_window(window);
	}
}

void wayland_window_set_size(struct wayland_window *window, uint32_t width, uint32_t height)
{
	bool is_wanted = width > 0 && height > 0;

	if (is_wanted && (width != window->width || height != window->height)) {
		leave_copies(window);
	}
	window->width = is_wanted ? width : 0;
	window->height = is_wanted ? height : 0;
	window->is_closed = window->is_closed && is_wanted;
	window->damage = whole(window);
	if (!is_wanted) {
		hide(window);
	} else if (window->has_frame) {
		drop(window);
		tell_shown(window);
	}
	make_stale(window, &window->damage);
	open_or_end(window);
}

void wayland_window_end(struct wayland_window *window)
{
	end_window(window);
	hide(window);
}

/* ---- What the guest does --------------------------------------------------------------------- */

static void take_frame(
	struct wayland_window *window, const struct virtio_gpu_rect *rect, uint64_t frame)
{
	make_stale(window, rect);
	unite(&window->damage, rect);
	window->frame = frame;
}

bool wayland_window_flush(
	struct wayland_window *window, const struct virtio_gpu_rect *rect, uint64_t frame)
{
	if (window->width == 0 || window->is_closed) {
		return false;
	}
	take_frame(window, rect, frame);
	window->has_frame = true;
	wayland_window_go_on(window);
	return true;
}

/* The compositor is not to read it before it is drawn. */
static int pass_fence(struct wayland_window *window, struct wayland_buffer *buffer,
	const struct gpu_buffer *dma_buf)
{
	if (window->display->syncobj != NULL) {
		return wayland_points_set(buffer, dma_buf->acquire_fd);
	}
	if (window->sync == NULL) {
		return vgf_dma_buf_import_sync_file(
			dma_buf->fd, VGF_ACCESS_WRITE, dma_buf->acquire_fd);
	}
	zwp_linux_surface_synchronization_v1_set_acquire_fence(window->sync, dma_buf->acquire_fd);
	return 0;
}

bool wayland_window_offer_take(struct wayland_window *window, const struct virtio_gpu_rect *rect,
	uint64_t frame, const struct gpu_buffer *dma_buf)
{
	struct wayland_buffer *buffer;

	if (!can_give(window) || find_buffer(window, dma_buf, &buffer) < 0 || buffer == NULL ||
		pass_fence(window, buffer, dma_buf) < 0) {
		return false;
	}
	close(dma_buf->fd);
	close(dma_buf->acquire_fd);
	take_frame(window, rect, frame);
	commit_in_place(window, buffer);
	return true;
}

static void leave_key(struct wayland_window *window, uint64_t key)
{
	struct wayland_buffer *buffer, *next;

	for (buffer = LIST_FIRST(&window->buffers); buffer != NULL; buffer = next) {
		next = LIST_NEXT(buffer, link);
		if (buffer->key == key) {
			wayland_buffer_leave(buffer);
		}
	}
}

void wayland_window_leave(struct wayland_window *window, uint64_t key)
{
	leave_key(window, key);
	open_or_end(window); /* which may have been held back */
	replace(window);
}
