/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "input.h"

#include <endian.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/input-event-codes.h>
#include <linux/input.h>
#include <linux/virtio_input.h>

#include "keymap.h"
#include "log_limit.h"
#include "vhost_user.h"

enum { EVENT_QUEUE, STATUS_QUEUE, NUM_QUEUES };

/* That wait for buffers of the guest's: Linux has 64, which fast typing fills. All keys fit. */
#define MAX_EVENTS 1024

struct position {
	uint32_t x, y;
};

struct input {
	struct vhost_user *vhost_user;
	void (*log)(void *cookie, enum vgf_log_level level, const char *message);
	void *cookie;
	struct log_limit log_limit;
	uint8_t select, subsel; /* what the guest wants to read */
	/* Empty buffers of the guest's, in its order: a ring. */
	struct virtqueue_request buffers[VIRTQUEUE_MAX_SIZE];
	uint32_t first_buffer, num_buffers;
	struct virtio_input_event events[MAX_EVENTS]; /* that have no buffer yet: a ring, too */
	uint32_t first_event, num_events;
	/* As it should be, and as the guest was told. */
	bool down[KEY_CNT], told_down[KEY_CNT];
	struct position at, told_at;
	uint32_t buttons; /* with the wheels */
	bool behind;      /* the guest was not told something */
	bool has_begun;   /* it has had buffers */
	bool has_warned;  /* that something was lost, since it was up to date */
};

static void tell_dropped(struct input *input, bool last_chance)
{
	uint32_t dropped = log_limit_take_dropped(&input->log_limit, last_chance);
	char message[64];

	if (dropped > 0) {
		snprintf(message, sizeof(message), "%u more messages about lost events", dropped);
		input->log(input->cookie, VGF_LOG_WARNING, message);
	}
}

/* Who has no driver yet loses nothing: it is told later what is down. */
static void warn_of_loss(struct input *input)
{
	if (!input->has_begun || input->has_warned) {
		return;
	}
	input->has_warned = true;
	tell_dropped(input, false);
	if (log_limit_pass(&input->log_limit)) {
		input->log(input->cookie, VGF_LOG_WARNING,
			"the guest takes no events of the keyboard and pointer: some are lost");
	}
}

/* ---- Events --------------------------------------------------------------------------------- */

static struct virtio_input_event make_event(uint16_t type, uint16_t code, uint32_t value)
{
	return (struct virtio_input_event){ htole16(type), htole16(code), htole32(value) };
}

/* Into the next buffer, which has room for it. */
static void put_event(struct input *input, const struct virtio_input_event *event)
{
	const struct virtqueue_request *buffer = &input->buffers[input->first_buffer];
	const char *from = (const char *)event;
	size_t left = sizeof(*event);

	for (size_t i = 0; i < buffer->num_writable && left > 0; i++) {
		const struct iovec *part = &buffer->writable[i];
		size_t size = part->iov_len < left ? part->iov_len : left;

		memcpy(part->iov_base, from, size);
		from += size;
		left -= size;
	}
	input->first_buffer = (input->first_buffer + 1) % VIRTQUEUE_MAX_SIZE;
	input->num_buffers--;
	vhost_user_complete(input->vhost_user, EVENT_QUEUE, buffer->token, sizeof(*event));
}

static void put_events(struct input *input)
{
	while (input->num_events > 0 && input->num_buffers > 0) {
		put_event(input, &input->events[input->first_event]);
		input->first_event = (input->first_event + 1) % MAX_EVENTS;
		input->num_events--;
	}
}

static void queue_event(struct input *input, const struct virtio_input_event *event)
{
	input->events[(input->first_event + input->num_events) % MAX_EVENTS] = *event;
	input->num_events++;
}

/* All of a group, and SYN_REPORT; or nothing. */
static bool put_group(struct input *input, const struct virtio_input_event *events, uint32_t count)
{
	const struct virtio_input_event end = make_event(EV_SYN, SYN_REPORT, 0);

	if (!input->has_begun || MAX_EVENTS - input->num_events < count + 1) {
		input->behind = true;
		warn_of_loss(input);
		return false;
	}
	for (uint32_t i = 0; i < count; i++) {
		queue_event(input, &events[i]);
	}
	queue_event(input, &end);
	put_events(input);
	return true;
}

static void tell_key(struct input *input, uint16_t code)
{
	const struct virtio_input_event event = make_event(EV_KEY, code, input->down[code]);

	if (input->down[code] != input->told_down[code] && put_group(input, &event, 1)) {
		input->told_down[code] = input->down[code];
	}
}

static void tell_position(struct input *input)
{
	struct virtio_input_event events[2];
	uint32_t count = 0;

	if (input->at.x != input->told_at.x) {
		events[count++] = make_event(EV_ABS, ABS_X, input->at.x);
	}
	if (input->at.y != input->told_at.y) {
		events[count++] = make_event(EV_ABS, ABS_Y, input->at.y);
	}
	if (count > 0 && put_group(input, events, count)) {
		input->told_at = input->at;
	}
}

static void tell_wheel(struct input *input, uint16_t code, int32_t value)
{
	const struct virtio_input_event event = make_event(EV_REL, code, (uint32_t)value);

	put_group(input, &event, 1);
}

/* There is room again: for all that there can be. */
static void catch_up(struct input *input)
{
	input->behind = false;
	tell_position(input);
	for (uint16_t code = 0; code < KEY_CNT; code++) {
		tell_key(input, code);
	}
	input->has_warned = input->behind;
}

static void set_key(struct input *input, uint16_t code, bool down)
{
	input->down[code] = down;
	tell_key(input, code);
}

void input_key(struct input *input, uint32_t keysym, bool down)
{
	uint16_t code = keymap_find(keysym);

	if (code != 0) {
		set_key(input, code, down);
	}
}

void input_key_code(struct input *input, uint32_t code, bool down)
{
	if (code != 0 && code <= INPUT_LAST_KEY) {
		set_key(input, (uint16_t)code, down);
	}
}

void input_pointer(struct input *input, uint32_t buttons, uint32_t x, uint32_t y)
{
	uint32_t pressed = buttons & ~input->buttons;

	input->buttons = buttons;
	input->at.x = x < INPUT_POINTER_MAX ? x : INPUT_POINTER_MAX;
	input->at.y = y < INPUT_POINTER_MAX ? y : INPUT_POINTER_MAX;
	tell_position(input);
	set_key(input, BTN_LEFT, (buttons & INPUT_LEFT) != 0);
	set_key(input, BTN_MIDDLE, (buttons & INPUT_MIDDLE) != 0);
	set_key(input, BTN_RIGHT, (buttons & INPUT_RIGHT) != 0);
	if (pressed & (INPUT_WHEEL_UP | INPUT_WHEEL_DOWN)) {
		tell_wheel(input, REL_WHEEL, (pressed & INPUT_WHEEL_UP) != 0 ? 1 : -1);
	}
	if (pressed & (INPUT_WHEEL_LEFT | INPUT_WHEEL_RIGHT)) {
		tell_wheel(input, REL_HWHEEL, (pressed & INPUT_WHEEL_RIGHT) != 0 ? 1 : -1);
	}
}

void input_release(struct input *input)
{
	input->buttons = 0;
	for (uint16_t code = 0; code < KEY_CNT; code++) {
		if (input->down[code]) {
			set_key(input, code, false);
		}
	}
}

/* ---- The configuration space ---------------------------------------------------------------- */

static uint8_t set_bit(uint8_t *bitmap, uint16_t bit, uint8_t size)
{
	uint8_t needed = (uint8_t)(bit / 8 + 1);

	bitmap[bit / 8] |= (uint8_t)(1 << bit % 8);
	return size > needed ? size : needed;
}

static uint8_t key_bits(uint8_t *bitmap)
{
	uint8_t size = 0;

	for (uint16_t code = 1; code <= INPUT_LAST_KEY; code++) {
		size = set_bit(bitmap, code, size);
	}
	size = set_bit(bitmap, BTN_LEFT, size);
	size = set_bit(bitmap, BTN_MIDDLE, size);
	return set_bit(bitmap, BTN_RIGHT, size);
}

/* EV_REP: the guest repeats keys. Returns the size, 0 if there are none of this type. */
static uint8_t event_bits(uint8_t type, uint8_t *bitmap)
{
	switch (type) {
	case EV_KEY:
		return key_bits(bitmap);
	case EV_REL:
		return set_bit(bitmap, REL_HWHEEL, set_bit(bitmap, REL_WHEEL, 0));
	case EV_ABS: /* ABS_X is 0, ABS_Y 1 */
	case EV_REP: /* REP_DELAY is 0, REP_PERIOD 1 */
		return set_bit(bitmap, ABS_X, set_bit(bitmap, ABS_Y, 0));
	default:
		return 0;
	}
}

/* What is selected. */
static struct virtio_input_config make_config(const struct input *input)
{
	static const char name[] = "vgfence keyboard and pointer";
	struct virtio_input_config config = { .select = input->select, .subsel = input->subsel };

	switch (input->select) {
	case VIRTIO_INPUT_CFG_ID_NAME:
		if (input->subsel == 0) {
			config.size = sizeof(name) - 1;
			memcpy(config.u.string, name, sizeof(name) - 1);
		}
		break;
	case VIRTIO_INPUT_CFG_ID_DEVIDS:
		if (input->subsel == 0) {
			config.size = sizeof(config.u.ids);
			config.u.ids.bustype = htole16(BUS_VIRTUAL);
			config.u.ids.version = htole16(1);
		}
		break;
	case VIRTIO_INPUT_CFG_EV_BITS:
		config.size = event_bits(input->subsel, config.u.bitmap);
		break;
	case VIRTIO_INPUT_CFG_ABS_INFO:
		if (input->subsel == ABS_X || input->subsel == ABS_Y) {
			config.size = sizeof(config.u.abs);
			config.u.abs.max = htole32(INPUT_POINTER_MAX);
		}
		break;
	default:
		break;
	}
	return config;
}

static int read_config(void *cookie, uint32_t offset, void *data, uint32_t size)
{
	const struct virtio_input_config config = make_config(cookie);

	if (offset > sizeof(config) || size > sizeof(config) - offset) {
		return -EINVAL;
	}
	memcpy(data, (const char *)&config + offset, size);
	return 0;
}

/* QEMU writes all of it, of which the guest can change two fields. */
static int write_config(void *cookie, uint32_t offset, const void *data, uint32_t size)
{
	struct virtio_input_config config = make_config(cookie);
	struct input *input = cookie;

	if (offset > sizeof(config) || size > sizeof(config) - offset) {
		return -EINVAL;
	}
	memcpy((char *)&config + offset, data, size);
	input->select = config.select;
	input->subsel = config.subsel;
	return 0;
}

/* ---- The device ----------------------------------------------------------------------------- */

static uint64_t get_features(void *cookie)
{
	(void)cookie;
	return 0;
}

static void set_features(void *cookie, uint64_t features)
{
	(void)cookie;
	(void)features;
}

static void set_memory(void *cookie, struct guest_memory *memory)
{
	(void)cookie;
	(void)memory;
}

static bool has_room(const struct virtqueue_request *request)
{
	size_t room = 0;

	for (size_t i = 0; i < request->num_writable; i++) {
		room += request->writable[i].iov_len;
	}
	return room >= sizeof(struct virtio_input_event);
}

/* What the guest tells of its lamps is not used. */
static void handle(void *cookie, uint32_t queue, const struct virtqueue_request *request)
{
	struct input *input = cookie;
	uint32_t end = (input->first_buffer + input->num_buffers) % VIRTQUEUE_MAX_SIZE;

	if (queue != EVENT_QUEUE || !has_room(request)) {
		vhost_user_complete(input->vhost_user, queue, request->token, 0);
		return;
	}
	input->has_begun = true;
	input->buffers[end] = *request;
	input->num_buffers++;
	put_events(input);
	if (input->behind && input->num_events == 0) {
		catch_up(input);
	}
}

/* Linux takes each buffer that comes back for an event, with what was in it before. */
static void drain(void *cookie)
{
	const struct virtio_input_event nothing = make_event(EV_SYN, SYN_REPORT, 0);
	struct input *input = cookie;

	while (input->num_buffers > 0) {
		put_event(input, &nothing);
	}
}

/* Another guest knows of nothing. */
static void reset(void *cookie)
{
	struct input *input = cookie;

	drain(cookie);
	input->num_events = 0;
	input->select = input->subsel = 0;
	memset(input->told_down, 0, sizeof(input->told_down));
	input->told_at = (struct position){ 0 };
	input->behind = true;
	input->has_begun = input->has_warned = false;
}

static void log_message(void *cookie, enum vgf_log_level level, const char *message)
{
	const struct input *input = cookie;

	input->log(input->cookie, level, message);
}

int input_create(const char *socket_path,
	void (*log)(void *cookie, enum vgf_log_level level, const char *message), void *cookie,
	struct input **out)
{
	static const struct vhost_user_device_ops ops = {
		.get_features = get_features,
		.set_features = set_features,
		.read_config = read_config,
		.write_config = write_config,
		.set_memory = set_memory,
		.handle = handle,
		.drain = drain,
		.reset = reset,
		.log = log_message,
	};
	struct input *input = calloc(1, sizeof(*input));
	int ret;

	if (input == NULL) {
		return -ENOMEM;
	}
	input->log = log;
	input->cookie = cookie;
	log_limit_init(&input->log_limit);
	input->behind = true; /* nobody has buffers yet, which is no loss */
	ret = vhost_user_create(socket_path, NUM_QUEUES, &ops, input, &input->vhost_user);
	if (ret < 0) {
		free(input);
		return ret;
	}
	*out = input;
	return 0;
}

void input_destroy(struct input *input)
{
	if (input != NULL) {
		vhost_user_destroy(input->vhost_user);
		tell_dropped(input, true);
		free(input);
	}
}

void input_abandon(const struct input *input)
{
	if (input != NULL) {
		vhost_user_abandon(input->vhost_user);
	}
}

int input_get_fd(const struct input *input)
{
	return vhost_user_get_fd(input->vhost_user);
}

int input_timeout(struct input *input, int timeout_ms)
{
	return log_limit_timeout(
		&input->log_limit, vhost_user_timeout(input->vhost_user, timeout_ms));
}

int input_dispatch(struct input *input)
{
	tell_dropped(input, false);
	return vhost_user_dispatch(input->vhost_user, 0);
}
