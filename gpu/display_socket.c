/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "display_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What is sent before others have their turn: 16 MiB at most. Large scanouts are much more. */
#define MAX_SENDS 16
#define MAX_SEND_SIZE ((size_t)1 << 20)

/* What all frames take up: those of sixteen monitors of 3840 by 2160, or of two of 8192 by 8192. */
#define MAX_FRAME_BYTES ((size_t)512 << 20)

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

struct size {
	uint32_t width, height;
};

struct scanout_message {
	uint32_t scanout;
	struct size size;
};

struct update_message { /* the pixels follow */
	uint32_t scanout;
	struct virtio_gpu_rect rect;
};

struct message {
	struct header header;
	union {
		struct cursor_position position;
		struct cursor_update cursor;
		struct scanout_message scanout;
		struct update_message update;
	};
};

struct pointer {
	struct cursor_update cursor;
	bool visible, moved, changed; /* the last two: since the display was told */
};

struct display_socket {
	int fd;
	frame_read read;
	void *cookie;

	struct frame frames[VIRTIO_GPU_MAX_SCANOUTS];
	struct size told[VIRTIO_GPU_MAX_SCANOUTS]; /* what the display knows */
	struct pointer pointers[VIRTIO_GPU_MAX_SCANOUTS];
	uint32_t turn; /* which scanout is looked at first */
	bool pointers_turn;

	struct message *message;
	size_t capacity;   /* of it */
	size_t size, sent; /* if they are equal, none is on its way */
};

int display_socket_create_take(int fd, frame_read read, void *cookie, struct display_socket **out)
{
	struct display_socket *display = calloc(1, sizeof(*display));
	struct message *message = malloc(sizeof(*message));

	*out = display;
	if (!display || !message) {
		free(display);
		free(message);
		*out = NULL;
		close(fd);
		return -ENOMEM;
	}
	display->message = message;
	display->capacity = sizeof(*message);
	display->fd = fd;
	display->read = read;
	display->cookie = cookie;
	return 0;
}

void display_socket_destroy(struct display_socket *display)
{
	if (display) {
		for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
			frame_reset(&display->frames[i], 0, 0);
		}
		close(display->fd);
		free(display->message);
		free(display);
	}
}

/* ---- What is to be told ------------------------------------------------------------------- */

void display_socket_set_scanout(
	struct display_socket *display, uint32_t scanout, uint32_t width, uint32_t height)
{
	if (scanout < VIRTIO_GPU_MAX_SCANOUTS) {
		frame_reset(&display->frames[scanout], width, height);
	}
}

/* What the other frames take up, too. */
static size_t size_of_frames(const struct display_socket *display, const struct frame *with)
{
	size_t size = 0;

	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		const struct frame *frame = &display->frames[i];

		size += frame->pixels != NULL || frame == with ? frame_size(frame) : 0;
	}
	return size;
}

int display_socket_update(
	struct display_socket *display, uint32_t scanout, const struct virtio_gpu_rect *rect)
{
	const struct frame_source source = { display->read, display->cookie, scanout };

	if (scanout >= VIRTIO_GPU_MAX_SCANOUTS) {
		return -EINVAL;
	}
	if (size_of_frames(display, &display->frames[scanout]) > MAX_FRAME_BYTES) {
		return -ENOSPC;
	}
	return frame_flush(&display->frames[scanout], rect, &source);
}

void display_socket_set_cursor(struct display_socket *display, uint32_t scanout, uint32_t x,
	uint32_t y, bool visible, uint32_t hot_x, uint32_t hot_y, const uint32_t *pixels)
{
	struct pointer *pointer = &display->pointers[scanout % VIRTIO_GPU_MAX_SCANOUTS];

	pointer->cursor.position = (struct cursor_position){ scanout, x, y };
	pointer->visible = visible;
	pointer->moved = true;
	if (pixels) {
		pointer->cursor.hot_x = hot_x;
		pointer->cursor.hot_y = hot_y;
		memcpy(pointer->cursor.pixels, pixels, sizeof(pointer->cursor.pixels));
		pointer->changed = true;
	}
}

/* ---- Messages ----------------------------------------------------------------------------- */

static void begin_message(struct display_socket *display, enum request request, size_t size)
{
	display->message->header = (struct header){ request, 0, (uint32_t)size };
	display->size = sizeof(struct header) + size;
	display->sent = 0;
}

static bool make_cursor(struct display_socket *display, struct pointer *pointer)
{
	struct message *message = display->message;

	if (!pointer->moved) {
		return false;
	}
	pointer->moved = false;
	/* The shape of a hidden cursor is sent when the cursor is shown. */
	if (pointer->visible && pointer->changed) {
		pointer->changed = false;
		message->cursor = pointer->cursor;
		begin_message(display, CURSOR_UPDATE, sizeof(message->cursor));
	} else {
		message->position = pointer->cursor.position;
		begin_message(display, pointer->visible ? CURSOR_POS : CURSOR_POS_HIDE,
			sizeof(message->position));
	}
	return true;
}

/* One that goes from monitor to monitor is hidden there before it is shown here. */
static bool make_any_cursor(struct display_socket *display)
{
	for (int visible = 0; visible < 2; visible++) {
		for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
			struct pointer *pointer = &display->pointers[i];

			if (pointer->visible == visible && make_cursor(display, pointer)) {
				return true;
			}
		}
	}
	return false;
}

/* A display takes this for a new screen, which is black: so only if the size is another. */
static bool make_scanout(struct display_socket *display, uint32_t id)
{
	const struct frame *frame = &display->frames[id];
	struct size *told = &display->told[id];

	if (told->width == frame->width && told->height == frame->height) {
		return false;
	}
	*told = (struct size){ frame->width, frame->height };
	display->message->scanout = (struct scanout_message){ id, *told };
	begin_message(display, SCANOUT, sizeof(display->message->scanout));
	return true;
}

/* Makes room for a message. There is none on its way. */
static bool reserve(struct display_socket *display, size_t size)
{
	struct message *message;

	if (size <= display->capacity) {
		return true;
	}
	message = malloc(size);
	if (!message) {
		return false;
	}
	free(display->message);
	display->message = message;
	display->capacity = size;
	return true;
}

/* All in one message, as a display may be looked at between two. */
static bool make_update(struct display_socket *display, uint32_t id)
{
	struct frame *frame = &display->frames[id];
	const struct virtio_gpu_rect rect = frame->dirty;
	size_t size = sizeof(struct update_message) +
		(size_t)rect.width * rect.height * sizeof(uint32_t);

	/* Without memory it stays dirty. */
	if (rect.width == 0 || !reserve(display, sizeof(struct header) + size)) {
		return false;
	}
	display->message->update = (struct update_message){ id, rect };
	frame_take(frame, (uint32_t *)(&display->message->update + 1));
	begin_message(display, UPDATE, size);
	return true;
}

/* Scanouts have turns, so that none that changes all the time keeps the others waiting. */
static bool make_any_frame(struct display_socket *display)
{
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		uint32_t id = (display->turn + i) % VIRTIO_GPU_MAX_SCANOUTS;

		if (make_scanout(display, id)) {
			display->turn = id; /* its pixels next */
			return true;
		}
		if (make_update(display, id)) {
			display->turn = id + 1;
			return true;
		}
	}
	return false;
}

static bool make_message(struct display_socket *display)
{
	display->pointers_turn = !display->pointers_turn;
	if (display->pointers_turn) {
		return make_any_cursor(display) || make_any_frame(display);
	}
	return make_any_frame(display) || make_any_cursor(display);
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
	const char *bytes = (const char *)display->message;
	size_t left = display->size - display->sent;
	ssize_t size = send(display->fd, bytes + display->sent,
		left < MAX_SEND_SIZE ? left : MAX_SEND_SIZE, MSG_DONTWAIT | MSG_NOSIGNAL);

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
