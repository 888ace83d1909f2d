/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "display_socket.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gpu.h"

/* What is sent before others have their turn: 16 MiB at most. Large scanouts are much more. */
#define MAX_SENDS 16
#define MAX_SEND_SIZE ((size_t)1 << 20)

/* What all frames take up: those of sixteen monitors of 3840 by 2160, or of two of 8192 by 8192. */
#define MAX_FRAME_BYTES ((size_t)512 << 20)

/* A reply is never longer than an EDID's. What else arrives is dropped, a part at a time. */
#define MAX_RECEIVES 16

/* The features of the protocol. */
#define FEATURE_EDID (UINT64_C(1) << 0)
#define FEATURE_DMABUF2 (UINT64_C(1) << 1)

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
	DMABUF_UPDATE = 10,
	GET_EDID = 11,
	DMABUF_SCANOUT2 = 12,
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

/* VIRTIO_GPU_RESOURCE_FLAG_Y_0_TOP in the flags would say that the first row is the lowest. */
struct dma_buf_message {
	uint32_t scanout, x, y;
	struct size size, buffer_size;
	uint32_t stride, flags, drm_format;
	uint32_t modifier[2]; /* a u64, which nothing aligns */
};

struct message {
	struct header header;
	union {
		struct cursor_position position;
		struct cursor_update cursor;
		struct scanout_message scanout;
		struct update_message update;
		struct dma_buf_message dma_buf;
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

/*
 * What the display shows of a scanout in place. There are three messages: it has this buffer; a
 * part of that has changed, which it answers; it has none any more, of which a question that it
 * answers tells that it was read. What it had before an unanswered message is `old_key`, and there
 * is no other buffer until that is answered. Keys are 0 if there is none.
 */
struct in_place {
	struct gpu_buffer next;         /* to be given, with its descriptor, if its key is not 0 */
	struct gpu_buffer has;          /* without its descriptor */
	bool goes;                      /* it is to be told that it has none */
	struct virtio_gpu_rect dirty;   /* to be told; nothing if its width is 0 */
	uint64_t frame, told_frame;     /* of the last flush; of what is answered next */
	bool awaits_update;             /* an answer */
	bool awaits_question, is_asked; /* likewise, and the question was sent after it */
	uint64_t old_key;
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
	struct in_place in_place[VIRTIO_GPU_MAX_SCANOUTS];
	/* Scanouts whose updates have not been answered, in order; a ring. */
	uint32_t updated[VIRTIO_GPU_MAX_SCANOUTS], first_updated, num_updated;
	bool is_question_out; /* GET_PROTOCOL_FEATURES, once more */
	uint64_t num_in_place;
	struct pointer pointers[VIRTIO_GPU_MAX_SCANOUTS];
	uint32_t turn; /* which scanout is looked at first */
	bool pointers_turn;

	struct message *message;
	size_t capacity;   /* of it */
	size_t size, sent; /* if they are equal, none is on its way */
	int message_fd;    /* goes with its first byte; -1: none */
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
	display->message_fd = -1;
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
			if (display->in_place[i].next.key != 0) {
				close(display->in_place[i].next.fd);
			}
		}
		if (display->message_fd >= 0) {
			close(display->message_fd);
		}
		close(display->fd);
		free(display->message);
		free(display);
	}
}

/* ---- In place ------------------------------------------------------------------------------ */

static bool has_key(const struct in_place *in_place, uint64_t key)
{
	return in_place->next.key == key || in_place->has.key == key || in_place->old_key == key;
}

/* The display does not have it any more, for this scanout. */
static void release_key(struct display_socket *display, uint64_t key)
{
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		if (has_key(&display->in_place[i], key)) {
			return;
		}
	}
	display->ops->release(display->cookie, key);
}

static void drop_next(struct display_socket *display, struct in_place *in_place)
{
	uint64_t key = in_place->next.key;

	if (key != 0) {
		close(in_place->next.fd);
		in_place->next.key = 0;
		release_key(display, key);
	}
}

static void drop_old(struct display_socket *display, struct in_place *in_place)
{
	uint64_t key = in_place->old_key;

	in_place->old_key = 0;
	if (key != 0) {
		release_key(display, key);
	}
}

/* No message about pixels goes out before the display knows that it has no buffer. */
static bool is_in_place(const struct in_place *in_place)
{
	return in_place->next.key != 0 || in_place->has.key != 0;
}

/* What it was to be told will be in a copy, and it is told when it reads nothing any more. */
static void leave_place(struct display_socket *display, uint32_t scanout)
{
	struct in_place *in_place = &display->in_place[scanout];

	if (!is_in_place(in_place)) {
		return;
	}
	drop_next(display, in_place);
	in_place->goes = in_place->has.key != 0;
	if (in_place->old_key == 0) {
		in_place->dirty.width = 0;
	}
	if (in_place->goes) {
		return;
	}
	if (in_place->awaits_question) {
		in_place->told_frame = in_place->frame;
	} else {
		display->ops->shown(display->cookie, scanout, in_place->frame);
	}
}

/* QEMU takes pictures that begin where the dma-buf does. */
static bool can_be_told(const struct gpu_buffer *buffer)
{
	return buffer->offset == 0 && buffer->rect.x == 0 && buffer->rect.y == 0 &&
		buffer->drm_format != 0;
}

static bool is_same(const struct gpu_buffer *one, const struct gpu_buffer *other)
{
	return one->key == other->key && one->width == other->width &&
		one->height == other->height && one->drm_format == other->drm_format &&
		one->stride == other->stride && one->modifier == other->modifier &&
		one->rect.width == other->rect.width && one->rect.height == other->rect.height;
}

static uint32_t min(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t max(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* Adds what is in the picture of a rectangle. */
static void add_dirty(struct in_place *in_place, const struct virtio_gpu_rect *rect)
{
	const struct virtio_gpu_rect *all = &in_place->has.rect;
	struct virtio_gpu_rect *dirty = &in_place->dirty;
	uint32_t right, bottom;

	if (rect->x >= all->width || rect->y >= all->height) {
		return;
	}
	right = rect->x + min(rect->width, all->width - rect->x);
	bottom = rect->y + min(rect->height, all->height - rect->y);
	if (dirty->width == 0) {
		*dirty = (struct virtio_gpu_rect){ rect->x, rect->y, right - rect->x,
			bottom - rect->y };
		return;
	}
	right = max(right, dirty->x + dirty->width);
	bottom = max(bottom, dirty->y + dirty->height);
	dirty->x = min(dirty->x, rect->x);
	dirty->y = min(dirty->y, rect->y);
	dirty->width = right - dirty->x;
	dirty->height = bottom - dirty->y;
}

/* Takes the buffer. One that waits already is held once for all its flushes. What a copy was to
 * show that does not go out any more, the buffer that was there has to. */
static void set_buffer(struct display_socket *display, struct in_place *in_place,
	const struct gpu_buffer *buffer, const struct virtio_gpu_rect *rect)
{
	const struct virtio_gpu_rect all = { 0, 0, UINT32_MAX, UINT32_MAX };
	bool went = in_place->goes;

	if (in_place->next.key == buffer->key) {
		close(in_place->next.fd);
		in_place->next.key = 0;
	}
	drop_next(display, in_place);
	in_place->goes = false;
	if (is_same(buffer, &in_place->has)) {
		close(buffer->fd);
		add_dirty(in_place, went ? &all : rect);
	} else {
		in_place->next = *buffer;
	}
}

/* Returns whether the frame is told in place. */
static bool update_in_place(struct display_socket *display, uint32_t scanout,
	const struct virtio_gpu_rect *rect, uint64_t frame)
{
	struct in_place *in_place = &display->in_place[scanout];
	struct gpu_buffer buffer = { .fd = -1 };

	if (display->ops->get_buffer == NULL || !(display->features & FEATURE_DMABUF2)) {
		return false;
	}
	if (display->ops->get_buffer(display->cookie, scanout, &buffer) < 0) {
		leave_place(display, scanout);
		return false;
	}
	if (!can_be_told(&buffer)) {
		close(buffer.fd);
		release_key(display, buffer.key);
		leave_place(display, scanout);
		return false;
	}
	set_buffer(display, in_place, &buffer, rect);
	in_place->frame = frame;
	return true;
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

/* All of the picture is read, as it is now; or with the next flush, if there is no room for it. */
static void copy_instead(struct display_socket *display, uint32_t scanout)
{
	const struct virtio_gpu_rect all = { 0, 0, UINT32_MAX, UINT32_MAX };
	const struct frame_source source = { display->ops->read, display->cookie, scanout };
	struct frame *frame = &display->frames[scanout];

	leave_place(display, scanout);
	frame_reset(frame, frame->width, frame->height);
	if (size_of_frames(display, frame) <= MAX_FRAME_BYTES) {
		frame_flush(frame, &all, &source);
	}
}

void display_socket_buffer_leaving(struct display_socket *display, uint64_t key)
{
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		struct in_place *in_place = &display->in_place[i];

		if (in_place->next.key == key || (in_place->has.key == key && !in_place->goes)) {
			copy_instead(display, i);
		}
	}
	release_key(display, key);
}

uint64_t display_socket_get_in_place(const struct display_socket *display)
{
	return display->num_in_place;
}

/* ---- What is to be told ------------------------------------------------------------------- */

void display_socket_set_scanout(
	struct display_socket *display, uint32_t scanout, uint32_t width, uint32_t height)
{
	if (scanout >= VIRTIO_GPU_MAX_SCANOUTS) {
		return;
	}
	frame_reset(&display->frames[scanout], width, height);
	if (width == 0) {
		leave_place(display, scanout);
	}
}

static void forget_pixels(struct frame *frame)
{
	uint32_t width = frame->width, height = frame->height;

	frame_reset(frame, 0, 0);
	frame_reset(frame, width, height);
}

int display_socket_update(struct display_socket *display, uint32_t scanout,
	const struct virtio_gpu_rect *rect, uint64_t frame)
{
	const struct frame_source source = { display->ops->read, display->cookie, scanout };

	if (scanout >= VIRTIO_GPU_MAX_SCANOUTS) {
		return -EINVAL;
	}
	if (update_in_place(display, scanout, rect, frame)) {
		/* No pixels are to be told, and none are needed. */
		forget_pixels(&display->frames[scanout]);
		return 1;
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

static void make_buffer(struct display_socket *display, uint32_t id)
{
	struct in_place *in_place = &display->in_place[id];
	const struct gpu_buffer *buffer = &in_place->next;

	display->message->dma_buf = (struct dma_buf_message){
		.scanout = id,
		.size = { buffer->rect.width, buffer->rect.height },
		.buffer_size = { buffer->width, buffer->height },
		.stride = buffer->stride,
		.drm_format = buffer->drm_format,
	};
	memcpy(display->message->dma_buf.modifier, &buffer->modifier, sizeof(buffer->modifier));
	display->message_fd = buffer->fd;
	begin_message(display, DMABUF_SCANOUT2, sizeof(display->message->dma_buf));
	in_place->old_key = in_place->has.key;
	in_place->has = *buffer;
	in_place->next.key = 0;
	in_place->dirty = (struct virtio_gpu_rect){ 0, 0, buffer->rect.width, buffer->rect.height };
	/* It makes a new screen for pixels, of whatever size. */
	display->told[id] = (struct size){ UINT32_MAX, UINT32_MAX };
}

static void make_no_buffer(struct display_socket *display, uint32_t id)
{
	struct in_place *in_place = &display->in_place[id];

	display->message->dma_buf = (struct dma_buf_message){ .scanout = id };
	begin_message(display, DMABUF_SCANOUT2, sizeof(display->message->dma_buf));
	in_place->old_key = in_place->has.key;
	in_place->has.key = 0;
	in_place->goes = false;
	in_place->told_frame = in_place->frame;
	in_place->awaits_question = true;
}

static void make_buffer_update(struct display_socket *display, uint32_t id)
{
	struct in_place *in_place = &display->in_place[id];
	uint32_t last = (display->first_updated + display->num_updated++) % VIRTIO_GPU_MAX_SCANOUTS;

	display->message->update = (struct update_message){ id, in_place->dirty };
	begin_message(display, DMABUF_UPDATE, sizeof(display->message->update));
	in_place->dirty.width = 0;
	in_place->told_frame = in_place->frame;
	in_place->awaits_update = true;
	display->updated[last] = id;
	display->num_in_place++;
}

static bool make_in_place(struct display_socket *display, uint32_t id)
{
	struct in_place *in_place = &display->in_place[id];

	if (in_place->awaits_update) {
		return false;
	}
	if (in_place->old_key == 0 && in_place->goes) {
		make_no_buffer(display, id);
	} else if (in_place->old_key == 0 && in_place->next.key != 0) {
		make_buffer(display, id);
	} else if (in_place->has.key != 0 && in_place->dirty.width > 0) {
		make_buffer_update(display, id);
	} else {
		return false;
	}
	return true;
}

/* Scanouts have turns, so that none that changes all the time keeps the others waiting. */
static bool make_any_frame(struct display_socket *display)
{
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		uint32_t id = (display->turn + i) % VIRTIO_GPU_MAX_SCANOUTS;

		if (make_in_place(display, id)) {
			display->turn = display->in_place[id].awaits_update ? id + 1 : id;
			return true;
		}
		if (is_in_place(&display->in_place[id])) {
			continue;
		}
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

/* Asks what changes nothing, so that the answer tells what was read. */
static bool make_barrier(struct display_socket *display)
{
	bool is_needed = false;

	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS && !display->is_question_out; i++) {
		is_needed = is_needed || display->in_place[i].awaits_question;
	}
	if (!is_needed) {
		return false;
	}
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		display->in_place[i].is_asked = display->in_place[i].awaits_question;
	}
	begin_message(display, GET_PROTOCOL_FEATURES, 0);
	display->is_question_out = true;
	return true;
}

static bool make_message(struct display_socket *display)
{
	if (make_question(display) || make_barrier(display)) {
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
	if (header->request == DMABUF_UPDATE) {
		return display->num_updated > 0 && header->flags == FLAG_REPLY && header->size == 0;
	}
	if (header->request == GET_PROTOCOL_FEATURES && display->is_question_out) {
		return header->flags == FLAG_REPLY && header->size == sizeof(uint64_t);
	}
	return display->asked != NO_REQUEST && header->request == (uint32_t)display->asked &&
		header->flags == FLAG_REPLY && header->size == size_of_answer(display->asked);
}

/* Then the monitors are asked for, whether somebody waits for them or not. */
static void greet(struct display_socket *display)
{
	display->greeted = true;
	memcpy(&display->features, display->reply.payload, sizeof(display->features));
	display->features &= FEATURE_EDID | (display->ops->get_buffer ? FEATURE_DMABUF2 : 0);
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

/* What the scanout had before is read no more. */
static void take_update_answer(struct display_socket *display)
{
	uint32_t id = display->updated[display->first_updated];
	struct in_place *in_place = &display->in_place[id];

	display->first_updated = (display->first_updated + 1) % VIRTIO_GPU_MAX_SCANOUTS;
	display->num_updated--;
	in_place->awaits_update = false;
	drop_old(display, in_place);
	display->ops->shown(display->cookie, id, in_place->told_frame);
}

static void take_barrier_answer(struct display_socket *display)
{
	display->is_question_out = false;
	for (uint32_t i = 0; i < VIRTIO_GPU_MAX_SCANOUTS; i++) {
		struct in_place *in_place = &display->in_place[i];

		if (in_place->is_asked) {
			in_place->is_asked = in_place->awaits_question = false;
			drop_old(display, in_place);
			display->ops->shown(display->cookie, i, in_place->told_frame);
		}
	}
}

/* Of a question that was given up only the monitors are still of use. */
static void take_answer(struct display_socket *display)
{
	enum request asked = display->asked;
	bool wanted = display->wanted;

	if (display->reply.header.request == DMABUF_UPDATE) {
		take_update_answer(display);
		return;
	}
	if (display->is_question_out && display->reply.header.request == GET_PROTOCOL_FEATURES) {
		take_barrier_answer(display);
		return;
	}
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

/* Adds the descriptor that goes with the message. */
static void attach_fd(struct msghdr *header, void *control, size_t size, int fd)
{
	struct cmsghdr *attached;

	header->msg_control = control;
	header->msg_controllen = size;
	attached = CMSG_FIRSTHDR(header);
	attached->cmsg_level = SOL_SOCKET;
	attached->cmsg_type = SCM_RIGHTS;
	attached->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(attached), &fd, sizeof(fd));
}

static int send_some(struct display_socket *display)
{
	size_t left = display->size - display->sent;
	struct iovec piece = { (char *)display->message + display->sent,
		left < MAX_SEND_SIZE ? left : MAX_SEND_SIZE };
	struct msghdr header = { .msg_iov = &piece, .msg_iovlen = 1 };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	ssize_t size;

	if (display->message_fd >= 0) {
		attach_fd(&header, &control, sizeof(control.bytes), display->message_fd);
	}
	size = sendmsg(display->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (size < 0) {
		return errno == EAGAIN || errno == EINTR ? -EAGAIN : -EPIPE;
	}
	if (display->message_fd >= 0) {
		close(display->message_fd);
		display->message_fd = -1;
	}
	display->sent += (size_t)size;
	return 0;
}

int display_socket_send(struct display_socket *display)
{
	int ret = 0;

	for (int i = 0; i < MAX_SENDS && ret == 0; i++) {
		if (!display_socket_wants_write(display) && !make_message(display)) {
			return 0;
		}
		ret = send_some(display);
	}
	return ret == -EAGAIN ? 0 : ret < 0 ? ret : 1;
}

int display_socket_dispatch(struct display_socket *display)
{
	int more = receive_some(display);
	int ret = more < 0 ? more : display_socket_send(display);

	return ret == 0 ? more : ret;
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
