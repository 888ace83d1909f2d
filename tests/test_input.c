/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* The virtio-input device behind its socket: what a driver reads of it, and which events it
 * gets. */

#include "support.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/input-event-codes.h>
#include <linux/virtio_input.h>

#include "front_end.h"
#include "input.h"
#include "keymap.h"

#define ROUNDS 20
#define NUM_BUFFERS 16
#define EVENT_SIZE ((uint32_t)sizeof(struct virtio_input_event))

static char directory[] = "/tmp/vgfence-input-XXXXXX";
static char path[sizeof(directory) + 8];

static struct input *input;
static struct front_end front_end;
static struct front_end_queue *const events = &front_end.queues[0];
static unsigned int warnings;
static uint64_t buffers; /* of the event queue, NUM_BUFFERS events in a row */

static void count_warning(void *cookie, enum vgf_log_level level, const char *message)
{
	(void)cookie;
	(void)message;
	warnings += level != VGF_LOG_DEBUG;
}

static void run(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		assert_int_equal(input_dispatch(input), 0);
	}
}

static void begin(void)
{
	warnings = 0;
	assert_int_equal(input_create(path, count_warning, NULL, &input), 0);
	front_end_init(&front_end, path, run, NULL);
	front_end_start(&front_end);
	buffers = front_end_alloc(&front_end, NUM_BUFFERS * EVENT_SIZE);
}

static void end(void)
{
	front_end_finish(&front_end);
	input_destroy(input);
}

#define TEST_INPUT(name) TEST_BETWEEN(name, begin(), end())

/* ---- The driver ----------------------------------------------------------------------------- */

static void offer(uint16_t index, uint32_t size)
{
	front_end_desc(events, index, buffers + index * EVENT_SIZE, size, VRING_DESC_F_WRITE, 0);
	front_end_offer(events, index);
}

/* The first `count` buffers, all of which the driver has. */
static void offer_many(uint16_t count)
{
	for (uint16_t i = 0; i < count; i++) {
		offer(i, EVENT_SIZE);
	}
	front_end_show(events);
	front_end_kick(events);
	run(NULL);
}

static void assert_event(uint16_t type, uint16_t code, int32_t value)
{
	const struct virtio_input_event *event;
	uint32_t head, written;

	run(NULL);
	assert_true(front_end_used(events, &head, &written));
	assert_int_equal(written, EVENT_SIZE);
	event = front_end_at(&front_end, buffers + head * EVENT_SIZE);
	assert_int_equal(le16toh(event->type), type);
	assert_int_equal(le16toh(event->code), code);
	assert_int_equal((int32_t)le32toh(event->value), value);
}

static void assert_key(uint16_t code, int32_t value)
{
	assert_event(EV_KEY, code, value);
	assert_event(EV_SYN, SYN_REPORT, 0);
}

static void assert_no_event(void)
{
	uint32_t head, written;

	run(NULL);
	assert_false(front_end_used(events, &head, &written));
}

struct config_message {
	uint32_t offset, size, flags;
	uint8_t data[sizeof(struct virtio_input_config)];
} __attribute__((packed));

/* What a driver reads after it has selected something; as QEMU does it, all of it each time. */
static struct virtio_input_config read_config(uint8_t select, uint8_t subsel)
{
	struct config_message message = {
		.size = sizeof(message.data),
		.data = { select, subsel },
	};
	struct virtio_input_config config;
	uint32_t answered;

	assert_int_equal(front_end_call(&front_end, VHOST_USER_SET_CONFIG, &message,
				 sizeof(message), NULL, 0),
		0);
	front_end_send(&front_end, VHOST_USER_GET_CONFIG, 0, &message, sizeof(message), NULL, 0);
	assert_int_equal(front_end_receive(&front_end, &answered, &message, sizeof(message)),
		(int)sizeof(message));
	memcpy(&config, message.data, sizeof(config));
	return config;
}

static bool has_bit(const struct virtio_input_config *config, unsigned int bit)
{
	return bit / 8 < config->size && (config->u.bitmap[bit / 8] & 1 << bit % 8) != 0;
}

/* ---- The configuration space ---------------------------------------------------------------- */

TEST_INPUT(a_driver_reads_the_name_and_what_there_is)
{
	struct virtio_input_config config = read_config(VIRTIO_INPUT_CFG_ID_NAME, 0);

	assert_int_equal(config.size, strlen("vgfence keyboard and pointer"));
	assert_memory_equal(config.u.string, "vgfence keyboard and pointer", config.size);
	config = read_config(VIRTIO_INPUT_CFG_ID_DEVIDS, 0);
	assert_int_equal(config.size, sizeof(config.u.ids));
	config = read_config(VIRTIO_INPUT_CFG_EV_BITS, EV_KEY);
	assert_true(has_bit(&config, KEY_A) && has_bit(&config, KEY_RIGHTMETA));
	assert_true(has_bit(&config, BTN_LEFT) && has_bit(&config, BTN_RIGHT));
	assert_false(has_bit(&config, BTN_TOUCH));
	config = read_config(VIRTIO_INPUT_CFG_EV_BITS, EV_REL);
	assert_true(has_bit(&config, REL_WHEEL) && !has_bit(&config, REL_X));
	config = read_config(VIRTIO_INPUT_CFG_EV_BITS, EV_REP);
	assert_int_equal(config.size, 1);
	for (uint8_t axis = ABS_X; axis <= ABS_Y; axis++) {
		config = read_config(VIRTIO_INPUT_CFG_ABS_INFO, axis);
		assert_int_equal(config.size, sizeof(config.u.abs));
		assert_int_equal(le32toh(config.u.abs.min), 0);
		assert_int_equal(le32toh(config.u.abs.max), INPUT_POINTER_MAX);
	}
}

/* "If the device has no such, size is 0." */
TEST_INPUT(what_there_is_not_has_no_size)
{
	for (unsigned int select = 0; select < 256; select++) {
		for (unsigned int subsel = 0; subsel < 256; subsel += 5) {
			bool is = (select == VIRTIO_INPUT_CFG_ID_NAME && subsel == 0) ||
				(select == VIRTIO_INPUT_CFG_ID_DEVIDS && subsel == 0) ||
				(select == VIRTIO_INPUT_CFG_ABS_INFO && subsel <= ABS_Y) ||
				(select == VIRTIO_INPUT_CFG_EV_BITS && subsel == EV_REP) ||
				(select == VIRTIO_INPUT_CFG_EV_BITS &&
					(subsel == EV_KEY || subsel == EV_REL || subsel == EV_ABS));
			struct virtio_input_config config = read_config(
				(uint8_t)select, (uint8_t)subsel);

			assert_int_equal(config.select, select);
			assert_int_equal(config.size > 0, is);
			assert_true(config.size <= sizeof(config.u));
		}
	}
}

TEST_INPUT(reads_beyond_the_end_are_refused)
{
	struct config_message message = { .offset = 8, .size = sizeof(message.data) };

	assert_true(front_end_call(&front_end, VHOST_USER_SET_CONFIG, &message, sizeof(message),
			    NULL, 0) != 0);
	message.offset = UINT32_MAX;
	assert_true(front_end_call(&front_end, VHOST_USER_SET_CONFIG, &message, sizeof(message),
			    NULL, 0) != 0);
	assert_true(read_config(VIRTIO_INPUT_CFG_ID_NAME, 0).size > 0);
}

/* ---- Events --------------------------------------------------------------------------------- */

TEST_INPUT(keys_arrive_in_order)
{
	offer_many(NUM_BUFFERS);
	input_key(input, 0xffe1, true); /* Shift */
	input_key(input, 'A', true);
	input_key(input, 'A', true); /* the guest repeats it */
	input_key(input, 0xffe1, false);
	input_key(input, 'a', false); /* as viewers say it then */
	input_key(input, 0x12345678, true);
	assert_key(KEY_LEFTSHIFT, 1);
	assert_key(KEY_A, 1);
	assert_key(KEY_LEFTSHIFT, 0);
	assert_key(KEY_A, 0);
	assert_no_event();
	assert_int_equal(warnings, 0);
}

TEST_INPUT(keys_arrive_by_their_codes)
{
	offer_many(NUM_BUFFERS);
	input_key_code(input, KEY_102ND, true); /* which no keysym has here */
	input_key_code(input, KEY_102ND, false);
	input_key_code(input, INPUT_LAST_KEY, true);
	input_key_code(input, 0, true);
	input_key_code(input, INPUT_LAST_KEY + 1, true);
	input_key_code(input, BTN_LEFT, true);
	input_key_code(input, UINT32_MAX, true);
	assert_key(KEY_102ND, 1);
	assert_key(KEY_102ND, 0);
	assert_key(INPUT_LAST_KEY, 1);
	assert_no_event();
}

TEST_INPUT(each_key_that_can_come_was_announced)
{
	struct virtio_input_config config = read_config(VIRTIO_INPUT_CFG_EV_BITS, EV_KEY);

	for (uint32_t keysym = 0; keysym < 0x10000; keysym++) {
		uint16_t code = keymap_find(keysym);

		assert_true(code == 0 || has_bit(&config, code));
	}
	for (uint32_t keysym = ' '; keysym < 0x7f; keysym++) {
		assert_int_not_equal(keymap_find(keysym), 0);
	}
	/* Those of Shift, Alt and Control with a key of no character. */
	assert_int_equal(keymap_find(0xfe20), KEY_TAB);
	assert_int_equal(keymap_find(0xff15), KEY_SYSRQ);
	assert_int_equal(keymap_find(0xff6b), KEY_PAUSE);
}

TEST_INPUT(the_pointer_and_its_buttons_arrive)
{
	offer_many(NUM_BUFFERS);
	input_pointer(input, INPUT_LEFT, 100, 40000);
	assert_event(EV_ABS, ABS_X, 100);
	assert_event(EV_ABS, ABS_Y, INPUT_POINTER_MAX);
	assert_event(EV_SYN, SYN_REPORT, 0);
	assert_key(BTN_LEFT, 1);
	input_pointer(input, INPUT_WHEEL_DOWN, 100, 7);
	assert_event(EV_ABS, ABS_Y, 7);
	assert_event(EV_SYN, SYN_REPORT, 0);
	assert_key(BTN_LEFT, 0);
	assert_event(EV_REL, REL_WHEEL, -1);
	assert_event(EV_SYN, SYN_REPORT, 0);
	input_pointer(input, 0, 100, 7);
	input_pointer(input, INPUT_WHEEL_RIGHT, 100, 7);
	assert_event(EV_REL, REL_HWHEEL, 1);
	assert_event(EV_SYN, SYN_REPORT, 0);
	assert_no_event();
}

TEST_INPUT(what_a_client_held_down_goes_up_when_it_leaves)
{
	offer_many(NUM_BUFFERS);
	input_key(input, 'x', true);
	input_pointer(input, INPUT_RIGHT, 0, 0);
	input_release(input);
	assert_key(KEY_X, 1);
	assert_key(BTN_RIGHT, 1);
	assert_key(KEY_X, 0);
	assert_key(BTN_RIGHT, 0);
	assert_no_event();
}

/* The driver gives each buffer back when it has read it. */
static void assert_key_and_offer(uint16_t code, int32_t value)
{
	assert_key(code, value);
	offer(0, EVENT_SIZE);
	offer(1, EVENT_SIZE);
	front_end_show(events);
	front_end_kick(events);
}

/* Linux has 64 buffers. */
TEST_INPUT(events_wait_for_buffers)
{
	offer_many(2);
	for (int i = 0; i < 200; i++) {
		input_key(input, 'a', i % 2 == 0);
	}
	for (int i = 0; i < 200; i++) {
		assert_key_and_offer(KEY_A, i % 2 == 0);
	}
	assert_no_event();
	assert_int_equal(warnings, 0);
}

/* A driver sees no half of a group, and afterwards what is down. */
TEST_INPUT(without_room_whole_groups_are_lost_and_that_is_told)
{
	offer_many(2);
	for (int i = 0; i < 1 + 512; i++) { /* one has buffers, 1024 events wait */
		input_key(input, 'a', i % 2 == 0);
	}
	assert_int_equal(warnings, 0);
	input_key(input, 'a', false);
	input_key(input, 'b', true);
	input_key(input, 'c', true);
	input_key(input, 'c', false);
	assert_int_equal(warnings, 1);
	for (int i = 0; i < 1 + 512; i++) {
		assert_key_and_offer(KEY_A, i % 2 == 0);
	}
	assert_key_and_offer(KEY_A, 0);
	assert_key_and_offer(KEY_B, 1);
	assert_no_event();
	input_key(input, 'b', false);
	assert_key(KEY_B, 0);
}

TEST_INPUT(a_buffer_that_is_too_small_comes_back_empty)
{
	uint32_t head, written;

	offer(0, EVENT_SIZE - 1);
	front_end_show(events);
	front_end_kick(events);
	run(NULL);
	assert_true(front_end_used(events, &head, &written));
	assert_int_equal(written, 0);
}

TEST_INPUT(what_the_guest_tells_of_its_lamps_is_answered)
{
	const struct virtio_input_event lamp = { htole16(EV_LED), htole16(LED_CAPSL), htole32(1) };
	uint32_t head, written;

	front_end_request(&front_end, 1, 0, &lamp, sizeof(lamp), 8);
	front_end_kick(&front_end.queues[1]);
	run(NULL);
	assert_true(front_end_used(&front_end.queues[1], &head, &written));
	assert_int_equal(written, 0);
}

/* A Linux guest takes what comes back for an event, with what was in it before. */
TEST_INPUT(buffers_that_come_back_unused_say_nothing)
{
	memset(front_end_at(&front_end, buffers), 1, NUM_BUFFERS * EVENT_SIZE);
	offer_many(4);
	front_end_stop_queue(&front_end, 0);
	for (int i = 0; i < 4; i++) {
		assert_event(EV_SYN, SYN_REPORT, 0);
	}
}

TEST_INPUT(nothing_is_lost_of_what_is_down_when_a_driver_comes_later)
{
	input_key(input, 'q', true);
	input_key(input, 'w', true);
	input_key(input, 'w', false);
	assert_int_equal(warnings, 0);
	offer_many(NUM_BUFFERS);
	assert_key(KEY_Q, 1);
	assert_no_event();
}

int main(int argc, char *argv[])
{
	int failed;

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/socket", directory);
	failed = run_registered_tests(argv);
	assert_int_equal(rmdir(directory), 0);
	return failed;
}
