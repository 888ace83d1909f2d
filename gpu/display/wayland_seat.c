/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The compositor's keyboard and pointer, and the guest's cursor. */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/input-event-codes.h>

#include "wayland_private.h"

#define SEAT_VERSION 5 /* clicks of the wheel, and the end of each group of events */

#define CURSOR_BYTES sizeof(((struct wayland_seat *)NULL)->cursor_pixels)

/* What a wheel without clicks turns for one, as libinput has it. */
#define CLICK wl_fixed_from_int(10)

/* As RFB has them. */
enum {
	WHEEL_UP = 1 << 3,
	WHEEL_DOWN = 1 << 4,
	WHEEL_LEFT = 1 << 5,
	WHEEL_RIGHT = 1 << 6,
};

/* ---- The cursor ------------------------------------------------------------------------------ */

static int make_cursor(struct wayland_seat *seat)
{
	struct display_wayland *display = seat->display;
	struct wl_shm_pool *pool;
	void *pixels;
	int fd = wayland_memory(CURSOR_BYTES, &pixels);

	if (fd < 0) {
		return fd;
	}
	seat->cursor_memory = pixels;
	pool = wl_shm_create_pool(display->shm, fd, (int32_t)CURSOR_BYTES);
	close(fd);
	seat->cursor_buffer = wl_shm_pool_create_buffer(pool, 0, WAYLAND_CURSOR_SIDE,
		WAYLAND_CURSOR_SIDE, WAYLAND_CURSOR_SIDE * sizeof(uint32_t),
		WL_SHM_FORMAT_ARGB8888);
	wl_shm_pool_destroy(pool);
	seat->cursor = wl_compositor_create_surface(display->compositor);
	return 0;
}

static void end_cursor(struct wayland_seat *seat)
{
	if (seat->cursor != NULL) {
		wl_surface_destroy(seat->cursor);
		wl_buffer_destroy(seat->cursor_buffer);
		munmap(seat->cursor_memory, CURSOR_BYTES);
	}
	seat->cursor = NULL;
	seat->has_pixels = false;
}

/* A compositor that reads the old one meanwhile shows something in between, once. */
static void draw_cursor(struct wayland_seat *seat)
{
	if (seat->cursor == NULL && make_cursor(seat) < 0) {
		return;
	}
	memcpy(seat->cursor_memory, seat->cursor_pixels, CURSOR_BYTES);
	wl_surface_attach(seat->cursor, seat->cursor_buffer, 0, 0);
	wl_surface_damage_buffer(seat->cursor, 0, 0, WAYLAND_CURSOR_SIDE, WAYLAND_CURSOR_SIDE);
	wl_surface_commit(seat->cursor);
	seat->has_pixels = true;
}

/* A guest that has no cursor of its own draws one. */
void wayland_seat_show_cursor(struct wayland_seat *seat)
{
	bool is_visible = seat->cursor_scanouts != 0;

	if (!seat->cursor_changed || seat->pointer == NULL || seat->under == NULL ||
		!wayland_can_send(seat->display)) {
		return;
	}
	seat->cursor_changed = false;
	if (is_visible && !seat->has_pixels) {
		draw_cursor(seat);
	}
	wl_pointer_set_cursor(seat->pointer, seat->serial, is_visible ? seat->cursor : NULL,
		(int32_t)seat->hot_x, (int32_t)seat->hot_y);
}

/* Each scanout has one, of which a guest hides that which the pointer has left. */
void wayland_seat_set_cursor(
	struct wayland_seat *seat, uint32_t scanout, const struct gpu_cursor *cursor)
{
	uint32_t bit = UINT32_C(1) << scanout;
	uint32_t scanouts = cursor->visible ? seat->cursor_scanouts | bit :
					      seat->cursor_scanouts & ~bit;

	if (scanouts != seat->cursor_scanouts || cursor->pixels != NULL) {
		seat->cursor_changed = true;
	}
	seat->cursor_scanouts = scanouts;
	if (cursor->pixels != NULL) {
		seat->hot_x = cursor->hot_x;
		seat->hot_y = cursor->hot_y;
		memcpy(seat->cursor_pixels, cursor->pixels, CURSOR_BYTES);
		seat->has_pixels = false;
	}
}

/* ---- The keyboard ---------------------------------------------------------------------------- */

static void left(struct wayland_seat *seat)
{
	seat->buttons = 0;
	if (seat->display->ops->left != NULL) {
		seat->display->ops->left(seat->display->cookie);
	}
}

/* The guest has a layout of its own. */
static void note_keymap(
	void *data, struct wl_keyboard *keyboard, uint32_t format, int32_t fd, uint32_t size)
{
	(void)data;
	(void)keyboard;
	(void)format;
	(void)size;
	close(fd);
}

/* What was down before is not meant for the guest. */
static void note_keyboard_enter(void *data, struct wl_keyboard *keyboard, uint32_t serial,
	struct wl_surface *surface, struct wl_array *keys)
{
	(void)data;
	(void)keyboard;
	(void)serial;
	(void)surface;
	(void)keys;
}

static void note_keyboard_leave(
	void *data, struct wl_keyboard *keyboard, uint32_t serial, struct wl_surface *surface)
{
	(void)keyboard;
	(void)serial;
	(void)surface;
	left(data);
}

static void note_key(void *data, struct wl_keyboard *keyboard, uint32_t serial, uint32_t time,
	uint32_t key, uint32_t state)
{
	struct wayland_seat *seat = data;

	(void)keyboard;
	(void)serial;
	(void)time;
	if (seat->display->ops->key != NULL) {
		seat->display->ops->key(
			seat->display->cookie, key, state == WL_KEYBOARD_KEY_STATE_PRESSED);
	}
}

static void note_modifiers(void *data, struct wl_keyboard *keyboard, uint32_t serial,
	uint32_t depressed, uint32_t latched, uint32_t locked, uint32_t group)
{
	(void)data;
	(void)keyboard;
	(void)serial;
	(void)depressed;
	(void)latched;
	(void)locked;
	(void)group;
}

/* The guest repeats by itself. */
static void note_repeat(void *data, struct wl_keyboard *keyboard, int32_t rate, int32_t delay)
{
	(void)data;
	(void)keyboard;
	(void)rate;
	(void)delay;
}

static const struct wl_keyboard_listener keyboard_listener = {
	.keymap = note_keymap,
	.enter = note_keyboard_enter,
	.leave = note_keyboard_leave,
	.key = note_key,
	.modifiers = note_modifiers,
	.repeat_info = note_repeat,
};

/* ---- The pointer ----------------------------------------------------------------------------- */

static void tell_pointer(struct wayland_seat *seat)
{
	if (seat->display->ops->pointer != NULL) {
		seat->display->ops->pointer(seat->display->cookie, seat->buttons, seat->x, seat->y);
	}
}

static uint32_t of_all(uint64_t at, uint64_t all)
{
	uint64_t place = all > 1 ? at * DISPLAY_WAYLAND_POINTER_MAX / (all - 1) : 0;

	return place > DISPLAY_WAYLAND_POINTER_MAX ? DISPLAY_WAYLAND_POINTER_MAX : (uint32_t)place;
}

static uint32_t scaled(wl_fixed_t at, uint32_t from, uint32_t to)
{
	int64_t pixel = (int64_t)wl_fixed_to_double(at) * to / (from > 0 ? from : 1);

	return pixel < 0 ? 0 : pixel < to ? (uint32_t)pixel : to - 1;
}

/* Guests put their monitors side by side, with their upper edges in a line. */
static void move(struct wayland_seat *seat, wl_fixed_t x, wl_fixed_t y)
{
	uint64_t left_of = 0, all_width = 0, all_height = 0;
	uint32_t width, height;

	if (seat->under == NULL) {
		return;
	}
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		const struct wayland_window *window = &seat->display->windows[i];

		if (window->surface != NULL) {
			left_of += window < seat->under ? window->width : 0;
			all_width += window->width;
			all_height = window->height > all_height ? window->height : all_height;
		}
	}
	wayland_window_get_size(seat->under, &width, &height);
	seat->x = of_all(left_of + scaled(x, width, seat->under->width), all_width);
	seat->y = of_all(scaled(y, height, seat->under->height), all_height);
}

static struct wayland_window *find_window(
	const struct wayland_seat *seat, const struct wl_surface *surface)
{
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS && surface != NULL; i++) {
		if (seat->display->windows[i].surface == surface) {
			return &seat->display->windows[i];
		}
	}
	return NULL;
}

static void note_enter(void *data, struct wl_pointer *pointer, uint32_t serial,
	struct wl_surface *surface, wl_fixed_t x, wl_fixed_t y)
{
	struct wayland_seat *seat = data;

	(void)pointer;
	seat->serial = serial;
	seat->under = find_window(seat, surface);
	seat->cursor_changed = true;
	wayland_seat_show_cursor(seat);
	move(seat, x, y);
}

/* Nobody tells that what is down there goes up. */
static void leave_window(struct wayland_seat *seat)
{
	seat->under = NULL;
	if (seat->buttons != 0) {
		seat->buttons = 0;
		tell_pointer(seat);
	}
}

static void note_leave(
	void *data, struct wl_pointer *pointer, uint32_t serial, struct wl_surface *surface)
{
	(void)pointer;
	(void)serial;
	(void)surface;
	leave_window(data);
}

static void note_motion(
	void *data, struct wl_pointer *pointer, uint32_t time, wl_fixed_t x, wl_fixed_t y)
{
	(void)pointer;
	(void)time;
	move(data, x, y);
}

static uint32_t button_bit(uint32_t button)
{
	switch (button) {
	case BTN_LEFT:
		return 1 << 0;
	case BTN_MIDDLE:
		return 1 << 1;
	case BTN_RIGHT:
		return 1 << 2;
	default:
		return 0;
	}
}

static void note_button(void *data, struct wl_pointer *pointer, uint32_t serial, uint32_t time,
	uint32_t button, uint32_t state)
{
	struct wayland_seat *seat = data;
	uint32_t bit = button_bit(button);

	(void)pointer;
	(void)serial;
	(void)time;
	if (state == WL_POINTER_BUTTON_STATE_PRESSED) {
		seat->buttons |= bit;
	} else {
		seat->buttons &= ~bit;
	}
	tell_pointer(seat);
}

/* count: below 0 up or to the left. No more than a user can turn. */
static void turn(struct wayland_seat *seat, uint32_t axis, int32_t count)
{
	bool is_vertical = axis == WL_POINTER_AXIS_VERTICAL_SCROLL;
	uint32_t back = is_vertical ? WHEEL_UP : WHEEL_LEFT;
	uint32_t forth = is_vertical ? WHEEL_DOWN : WHEEL_RIGHT;
	uint32_t bit = count < 0 ? back : forth;

	for (int32_t i = count < 0 ? -(count + 1) + 1 : count; i > 0 && i <= 100; i--) {
		seat->buttons |= bit;
		tell_pointer(seat);
		seat->buttons &= ~bit;
		tell_pointer(seat);
	}
}

/* As far as it may go. */
static int32_t turned_by(int32_t before, int32_t value, int32_t limit)
{
	int64_t sum = (int64_t)before + value;

	return (int32_t)(sum < -limit ? -limit : sum > limit ? limit : sum);
}

static void note_axis(
	void *data, struct wl_pointer *pointer, uint32_t time, uint32_t axis, wl_fixed_t value)
{
	struct wayland_seat *seat = data;

	(void)pointer;
	(void)time;
	if (axis < 2) {
		seat->turned[axis] = turned_by(seat->turned[axis], value, 100 * CLICK);
	}
}

static void note_axis_source(void *data, struct wl_pointer *pointer, uint32_t source)
{
	(void)data;
	(void)pointer;
	(void)source;
}

static void note_axis_stop(void *data, struct wl_pointer *pointer, uint32_t time, uint32_t axis)
{
	struct wayland_seat *seat = data;

	(void)pointer;
	(void)time;
	if (axis < 2) {
		seat->turned[axis] = 0;
	}
}

/* The event with the same turn as a length comes with it. */
static void note_axis_discrete(
	void *data, struct wl_pointer *pointer, uint32_t axis, int32_t discrete)
{
	struct wayland_seat *seat = data;

	(void)pointer;
	if (axis < 2) {
		seat->clicks[axis] = turned_by(seat->clicks[axis], discrete, 100);
		seat->has_clicks = true;
	}
}

static void turn_wheel(struct wayland_seat *seat, uint32_t axis)
{
	int32_t count = seat->has_clicks ? seat->clicks[axis] : seat->turned[axis] / CLICK;

	seat->turned[axis] = seat->has_clicks ? 0 : seat->turned[axis] % CLICK;
	seat->clicks[axis] = 0;
	turn(seat, axis, count);
}

static void note_frame(void *data, struct wl_pointer *pointer)
{
	struct wayland_seat *seat = data;

	(void)pointer;
	tell_pointer(seat);
	turn_wheel(seat, WL_POINTER_AXIS_VERTICAL_SCROLL);
	turn_wheel(seat, WL_POINTER_AXIS_HORIZONTAL_SCROLL);
	seat->has_clicks = false;
}

static const struct wl_pointer_listener pointer_listener = {
	.enter = note_enter,
	.leave = note_leave,
	.motion = note_motion,
	.button = note_button,
	.axis = note_axis,
	.frame = note_frame,
	.axis_source = note_axis_source,
	.axis_stop = note_axis_stop,
	.axis_discrete = note_axis_discrete,
};

/* ---- The seat -------------------------------------------------------------------------------- */

static void end_keyboard(struct wayland_seat *seat)
{
	if (seat->keyboard != NULL) {
		wl_keyboard_release(seat->keyboard);
		seat->keyboard = NULL;
		left(seat);
	}
}

static void end_pointer(struct wayland_seat *seat)
{
	if (seat->pointer != NULL) {
		wl_pointer_release(seat->pointer);
		seat->pointer = NULL;
		leave_window(seat);
	}
}

static void note_capabilities(void *data, struct wl_seat *proxy, uint32_t capabilities)
{
	struct wayland_seat *seat = data;

	if (!(capabilities & WL_SEAT_CAPABILITY_KEYBOARD)) {
		end_keyboard(seat);
	} else if (seat->keyboard == NULL) {
		seat->keyboard = wl_seat_get_keyboard(proxy);
		wl_keyboard_add_listener(seat->keyboard, &keyboard_listener, seat);
	}
	if (!(capabilities & WL_SEAT_CAPABILITY_POINTER)) {
		end_pointer(seat);
	} else if (seat->pointer == NULL) {
		seat->pointer = wl_seat_get_pointer(proxy);
		wl_pointer_add_listener(seat->pointer, &pointer_listener, seat);
	}
}

static void note_name(void *data, struct wl_seat *proxy, const char *name)
{
	(void)data;
	(void)proxy;
	(void)name;
}

static const struct wl_seat_listener seat_listener = {
	.capabilities = note_capabilities,
	.name = note_name,
};

/* The first one. */
void wayland_seat_bind(
	struct wayland_seat *seat, struct wl_registry *registry, uint32_t name, uint32_t version)
{
	if (seat->seat != NULL || version < SEAT_VERSION) {
		return;
	}
	seat->name = name;
	seat->seat = wl_registry_bind(registry, name, &wl_seat_interface, SEAT_VERSION);
	wl_seat_add_listener(seat->seat, &seat_listener, seat);
}

void wayland_seat_end(struct wayland_seat *seat)
{
	end_keyboard(seat);
	end_pointer(seat);
	end_cursor(seat);
	if (seat->seat != NULL) {
		wl_seat_release(seat->seat);
	}
	seat->seat = NULL;
	seat->name = 0;
}

void wayland_seat_forget(struct wayland_seat *seat, const struct wayland_window *window)
{
	if (seat->under == window) {
		leave_window(seat);
	}
}
