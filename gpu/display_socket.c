/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "display_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Pixels in one message: enough for a band of any screen, little enough to hold at all times. */
#define MAX_PIXELS (256 * 1024)

/* Before others have their turn: 16 MiB at most. Sixteen large scanouts are much more. */
#define MAX_SENDS 16

enum request {
	CURSOR_POS = 4,
	CURSOR_POS_HIDE = 5,
	CURSOR_UPDATE = 6,
	SCANOUT = 7,
	UPDATE = 8,
};

/* In the machine's own byte order; no field needs padding. */
struct header {
	uint32_t request, flags, size;
};

struct cursor_position {
	uint32_t scanout, x, y;
};

struct cursor_update {
	struct cursor_position position;
	uint32_t hot_x, hot_y;
	uint32_t pixels[DISPLAY_CURSOR_SIZE * DISPLAY_CURSOR_SIZE];
};

struct message {
	struct header header;
	union {
		struct cursor_position position;
		struct cursor_update cursor;
		struct {
			uint32_t scanout, width, height;
		} scanout;
		struct {
			uint32_t scanout;
			struct virtio_gpu_rect rect;
			uint32_t pixels[MAX_PIXELS];
		} update;
	};
};

struct scanout {
	uint32_t width, height;
	bool resized;
	struct virtio_gpu_rect dirty; /* nothing if its width is 0 */
};

struct display_socket {
	int fd;
	display_read read;
	void *cookie;

	struct scanout scanouts[VIRTIO_GPU_MAX_SCANOUTS];
	struct cursor_update cursor;
	bool cursor_moved, cursor_visible, cursor_changed;

	size_t size, sent; /* of the message that is on its way; if they are equal, none is */
	struct message message;
};

int display_socket_create_take(int fd, display_read read, void *cookie, struct display_socket **out)
{
	struct display_socket *display = calloc(1, sizeof(*display));

	*out = display;
	if (!display) {
		close(fd);
		return -ENOMEM;
	}
	display->fd = fd;
	display->read = read;
	display->cookie = cookie;
	return 0;
}

void display_socket_destroy(struct display_socket *display)
{
	if (display) {
		close(display->fd);
		free(display);
	}
}

/* ---- What is to be told ------------------------------------------------------------------- */

void display_socket_set_scanout(
	struct display_socket *display, uint32_t scanout, uint32_t width, uint32_t height)
{
	if (scanout < VIRTIO_GPU_MAX_SCANOUTS) {
		display->scanouts[scanout] = (struct scanout){ width, height, true, { 0 } };
	}
}

static uint32_t min(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t max(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* The part of a rectangle that is on the scanout; its width is 0 if there is none. */
static struct virtio_gpu_rect clip(
	const struct scanout *scanout, const struct virtio_gpu_rect *rect)
{
	struct virtio_gpu_rect part = { .x = rect->x, .y = rect->y };

	if (rect->x >= scanout->width || rect->y >= scanout->height) {
		return (struct virtio_gpu_rect){ 0 };
	}
	part.width = min(rect->width, scanout->width - rect->x);
	part.height = min(rect->height, scanout->height - rect->y);
	return part.height == 0 ? (struct virtio_gpu_rect){ 0 } : part;
}

static struct virtio_gpu_rect unite(
	const struct virtio_gpu_rect *a, const struct virtio_gpu_rect *b)
{
	struct virtio_gpu_rect both = { .x = min(a->x, b->x), .y = min(a->y, b->y) };

	both.width = max(a->x + a->width, b->x + b->width) - both.x;
	both.height = max(a->y + a->height, b->y + b->height) - both.y;
	return both;
}

void display_socket_update(
	struct display_socket *display, uint32_t scanout, const struct virtio_gpu_rect *rect)
{
	struct virtio_gpu_rect *dirty, part;

	if (scanout >= VIRTIO_GPU_MAX_SCANOUTS) {
		return;
	}
	part = clip(&display->scanouts[scanout], rect);
	if (part.width == 0) {
		return;
	}
	dirty = &display->scanouts[scanout].dirty;
	*dirty = dirty->width == 0 ? part : unite(dirty, &part);
}

void display_socket_set_cursor(struct display_socket *display, uint32_t scanout, uint32_t x,
	uint32_t y, bool visible, uint32_t hot_x, uint32_t hot_y, const uint32_t *pixels)
{
	display->cursor.position = (struct cursor_position){ scanout, x, y };
	display->cursor_visible = visible;
	display->cursor_moved = true;
	if (pixels) {
		display->cursor.hot_x = hot_x;
		display->cursor.hot_y = hot_y;
		memcpy(display->cursor.pixels, pixels, sizeof(display->cursor.pixels));
		display->cursor_changed = true;
	}
}

/* ---- Messages ----------------------------------------------------------------------------- */

static void begin_message(struct display_socket *display, enum request request, size_t size)
{
	display->message.header = (struct header){ request, 0, (uint32_t)size };
	display->size = sizeof(struct header) + size;
	display->sent = 0;
}

static bool make_cursor(struct display_socket *display)
{
	struct message *message = &display->message;

	if (!display->cursor_moved) {
		return false;
	}
	display->cursor_moved = false;
	/* The shape of a hidden cursor is sent when the cursor is shown. */
	if (display->cursor_visible && display->cursor_changed) {
		display->cursor_changed = false;
		message->cursor = display->cursor;
		begin_message(display, CURSOR_UPDATE, sizeof(message->cursor));
	} else {
		message->position = display->cursor.position;
		begin_message(display, display->cursor_visible ? CURSOR_POS : CURSOR_POS_HIDE,
			sizeof(message->position));
	}
	return true;
}

static bool make_scanout(struct display_socket *display, uint32_t id)
{
	struct scanout *scanout = &display->scanouts[id];

	if (!scanout->resized) {
		return false;
	}
	scanout->resized = false;
	display->message.scanout.scanout = id;
	display->message.scanout.width = scanout->width;
	display->message.scanout.height = scanout->height;
	begin_message(display, SCANOUT, sizeof(display->message.scanout));
	return true;
}

/* As many rows of what is dirty as one message has room for; the others stay dirty. */
static struct virtio_gpu_rect take_band(struct virtio_gpu_rect *dirty)
{
	struct virtio_gpu_rect band = *dirty;

	band.width = min(band.width, MAX_PIXELS);
	band.height = min(band.height, MAX_PIXELS / band.width);
	dirty->y += band.height;
	dirty->height -= band.height;
	if (dirty->height == 0) {
		*dirty = (struct virtio_gpu_rect){ 0 };
	}
	return band;
}

static bool make_update(struct display_socket *display, uint32_t id)
{
	struct message *message = &display->message;
	struct virtio_gpu_rect *dirty = &display->scanouts[id].dirty;

	while (dirty->width > 0) {
		struct virtio_gpu_rect band = take_band(dirty);
		size_t size = (size_t)band.width * band.height * sizeof(uint32_t);

		if (display->read(display->cookie, id, &band, message->update.pixels) == 0) {
			message->update.scanout = id;
			message->update.rect = band;
			begin_message(display, UPDATE,
				sizeof(message->update) - sizeof(message->update.pixels) + size);
			return true;
		}
	}
	return false;
}

static bool make_message(struct display_socket *display)
{
	for (uint32_t id = 0; id < VIRTIO_GPU_MAX_SCANOUTS; id++) {
		if (make_scanout(display, id) || make_update(display, id)) {
			return true;
		}
	}
	return make_cursor(display);
}

/* ---- The socket --------------------------------------------------------------------------- */

int display_socket_get_fd(const struct display_socket *display)
{
	return display->fd;
}

bool display_socket_wants_write(const struct display_socket *display)
{
	return display->sent < display->size;
}

/* The protocol's requests are ours, and none that we send has an answer. */
static int drop_input(struct display_socket *display)
{
	char bytes[256];
	ssize_t size;

	do {
		size = recv(display->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	} while (size > 0);
	return size == 0 || (errno != EAGAIN && errno != EINTR) ? -EPIPE : 0;
}

static int send_some(struct display_socket *display)
{
	const char *bytes = (const char *)&display->message;
	ssize_t size = send(display->fd, bytes + display->sent, display->size - display->sent,
		MSG_DONTWAIT | MSG_NOSIGNAL);

	if (size < 0) {
		return errno == EAGAIN || errno == EINTR ? -EAGAIN : -EPIPE;
	}
	display->sent += (size_t)size;
	return 0;
}

int display_socket_dispatch(struct display_socket *display)
{
	int ret = drop_input(display);

	for (int i = 0; i < MAX_SENDS && ret == 0; i++) {
		if (!display_socket_wants_write(display) && !make_message(display)) {
			return 0;
		}
		ret = send_some(display);
	}
	return ret == -EAGAIN ? 0 : ret < 0 ? ret : 1;
}
