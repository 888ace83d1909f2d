/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "display_socket.h"

#include <endian.h>
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

/* A reply is never longer than an EDID's. What else arrives is dropped, a part at a time. */
#define MAX_RECEIVES 16

/* The one feature of the protocol that is used. */
#define FEATURE_EDID (UINT64_C(1) << 0)

#define FLAG_REPLY 4u

enum request {
	NO_REQUEST = 0,
	GET_PROTOCOL_FEATURES = 1,
	SET_PROTOCOL_FEATURES = 2,
	GET_DISPLAY_INFO = 3,
	CURSOR_POS = 4,
	CURSOR_POS_HIDE = 5,
	CURSOR_UPDATE = 6,
	SCANOUT = 7,
	UPDATE = 8,
	GET_EDID = 11,
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
		uint8_t features[sizeof(uint64_t)];
		uint32_t edid_scanout;
	};
};

struct reply {
	struct header header;
	uint8_t payload[sizeof(struct virtio_gpu_resp_edid)]; /* the longest one */
};

struct pointer {
	struct cursor_update cursor;
	bool visible, moved, changed; /* the last two: since the display was told */
};

struct display_socket {
	int fd;
	const struct display_socket_ops *ops;
	void *cookie;

	/* What it is asked. */
	enum request asked;  /* and has not answered yet */
	enum request to_ask; /* the next message */
	uint32_t edid_scanout;
	bool wanted;  /* somebody waits for the answer */
	bool deaf;    /* it has not answered in time, and not since */
	bool greeted; /* its features are known */
	uint64_t features;
	struct reply reply; /* of which this much has arrived: */
	size_t received;
	uint32_t to_drop; /* bytes of another message */

	struct frame frames[VIRTIO_GPU_MAX_SCANOUTS];
	struct size told[VIRTIO_GPU_MAX_SCANOUTS]; /* what the display knows */
	struct pointer pointers[VIRTIO_GPU_MAX_SCANOUTS];
	uint32_t turn; /* which scanout is looked at first */
	bool pointers_turn;

	struct message *message;
	size_t capacity;   /* of it */
	size_t size, sent; /* if they are equal, none is on its way */
};

int display_socket_create_take(
	int fd, const struct display_socket_ops *ops, void *cookie, struct display_socket **out)
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
	display->asked = display->to_ask = GET_PROTOCOL_FEATURES;
	display->ops = ops;
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
	const struct frame_source source = { display->ops->read, display->cookie, scanout };

	if (scanout >= VIRTIO_GPU_MAX_SCANOUTS) {
		return -EINVAL;
	}
	if (size_of_frames(display, &display->frames[scanout]) > MAX_FRAME_BYTES) {
		return -ENOSPC;
	}
	return frame_flush(&display->frames[scanout], rect, &source);
}

uint64_t display_socket_get_copied(const struct display_socket *display)
{
	uint64_t copied = 0;

	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		copied += display->frames[i].copied_bytes;
	}
	return copied;
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

static bool make_question(struct display_socket *display)
{
	struct message *message = display->message;
	size_t size = 0;

	if (display->to_ask == SET_PROTOCOL_FEATURES) {
		memcpy(message->features, &display->features, sizeof(message->features));
		size = sizeof(message->features);
	} else if (display->to_ask == GET_EDID) {
		message->edid_scanout = display->edid_scanout;
		size = sizeof(message->edid_scanout);
	}
	if (display->to_ask == NO_REQUEST) {
		return false;
	}
	begin_message(display, display->to_ask, size);
	/* This one has no answer, and after it the first question comes. */
	display->to_ask = display->to_ask == SET_PROTOCOL_FEATURES ? display->asked : NO_REQUEST;
	return true;
}

static bool make_message(struct display_socket *display)
{
	if (make_question(display)) {
		return true;
	}
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

/* The next part of a reply, or of what is dropped. Returns what recv does. */
static ssize_t receive_part(struct display_socket *display)
{
	struct reply *reply = &display->reply;
	size_t end = sizeof(reply->header);
	char dropped[4096];
	ssize_t size;

	if (display->to_drop > 0) {
		end = display->to_drop < sizeof(dropped) ? display->to_drop : sizeof(dropped);
		size = recv(display->fd, dropped, end, MSG_DONTWAIT);
		display->to_drop -= size > 0 ? (uint32_t)size : 0;
		return size;
	}
	if (display->received >= end) {
		end += reply->header.size;
	}
	size = recv(display->fd, (char *)reply + display->received, end - display->received,
		MSG_DONTWAIT);
	display->received += size > 0 ? (size_t)size : 0;
	return size;
}

/* How long the answer to a question is. */
static size_t size_of_answer(enum request request)
{
	return request == GET_PROTOCOL_FEATURES ? sizeof(uint64_t) :
		request == GET_DISPLAY_INFO     ? sizeof(struct virtio_gpu_resp_display_info) :
						  sizeof(struct virtio_gpu_resp_edid);
}

static bool is_answer(const struct display_socket *display, const struct header *header)
{
	return display->asked != NO_REQUEST && header->request == (uint32_t)display->asked &&
		header->flags == FLAG_REPLY && header->size == size_of_answer(display->asked);
}

/* Then the monitors are asked for, whether somebody waits for them or not. */
static void greet(struct display_socket *display)
{
	display->greeted = true;
	memcpy(&display->features, display->reply.payload, sizeof(display->features));
	display->features &= FEATURE_EDID;
	display->to_ask = SET_PROTOCOL_FEATURES;
	display->asked = GET_DISPLAY_INFO;
}

static void tell_monitors(struct display_socket *display)
{
	struct virtio_gpu_display_one monitors[VIRTIO_GPU_MAX_SCANOUTS];
	struct virtio_gpu_resp_display_info info;

	memcpy(&info, display->reply.payload, sizeof(info));
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		const struct virtio_gpu_display_one *from = &info.pmodes[i];

		monitors[i] = (struct virtio_gpu_display_one){
			.r = { le32toh(from->r.x), le32toh(from->r.y), le32toh(from->r.width),
				le32toh(from->r.height) },
			.enabled = le32toh(from->enabled),
		};
	}
	display->ops->monitors(display->cookie, monitors);
}

static void tell_edid(struct display_socket *display)
{
	struct virtio_gpu_resp_edid edid;
	uint32_t size;

	memcpy(&edid, display->reply.payload, sizeof(edid));
	size = le32toh(edid.size);
	if (size == 0 || size > sizeof(edid.edid)) {
		display->ops->edid(display->cookie, NULL, 0);
	} else {
		display->ops->edid(display->cookie, edid.edid, size);
	}
}

/* Of a question that was given up only the monitors are still of use. */
static void take_answer(struct display_socket *display)
{
	enum request asked = display->asked;
	bool wanted = display->wanted;

	display->deaf = false;
	display->asked = NO_REQUEST;
	if (asked == GET_PROTOCOL_FEATURES) {
		greet(display);
		return;
	}
	display->wanted = false;
	if (asked == GET_DISPLAY_INFO) {
		tell_monitors(display);
	} else if (wanted) {
		tell_edid(display);
	}
}

/* Returns 1 if there may be more. */
static int receive_some(struct display_socket *display)
{
	const struct header *header = &display->reply.header;

	for (int i = 0; i < MAX_RECEIVES; i++) {
		ssize_t size = receive_part(display);

		if (size <= 0) {
			return size < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -EPIPE;
		}
		if (display->received < sizeof(*header)) {
			continue;
		}
		if (!is_answer(display, header)) {
			display->received = 0;
			display->to_drop = header->size;
		} else if (display->received == sizeof(*header) + header->size) {
			display->received = 0;
			take_answer(display);
		}
	}
	return 1;
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
	int more = receive_some(display);
	int ret = more < 0 ? more : 0;

	for (int i = 0; i < MAX_SENDS && ret == 0; i++) {
		if (!display_socket_wants_write(display) && !make_message(display)) {
			return more;
		}
		ret = send_some(display);
	}
	return ret == -EAGAIN ? more : ret < 0 ? ret : 1;
}

/* ---- Questions ---------------------------------------------------------------------------- */

/* One that is on its way already will do. */
bool display_socket_ask_monitors(struct display_socket *display)
{
	if (display->deaf || display->asked == GET_EDID) {
		return false;
	}
	if (display->asked == NO_REQUEST && display->greeted) {
		display->asked = display->to_ask = GET_DISPLAY_INFO;
	}
	display->wanted = true;
	return true;
}

bool display_socket_ask_edid(struct display_socket *display, uint32_t scanout)
{
	if (display->deaf || display->asked != NO_REQUEST || !(display->features & FEATURE_EDID)) {
		return false;
	}
	display->asked = display->to_ask = GET_EDID;
	display->edid_scanout = scanout;
	display->wanted = true;
	return true;
}

bool display_socket_is_asked(const struct display_socket *display)
{
	return display->wanted;
}

void display_socket_give_up(struct display_socket *display)
{
	if (!display->wanted) {
		return;
	}
	display->wanted = false;
	display->deaf = true;
	if (display->asked == GET_EDID) {
		display->ops->edid(display->cookie, NULL, 0);
	} else {
		display->ops->monitors(display->cookie, NULL);
	}
}
