/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef INPUT_H
#define INPUT_H

/*
 * A virtio-input device behind a vhost-user socket (virtio specification 1.3, 5.8): a keyboard, of
 * a US layout if keys come as keysyms, and an absolute pointer with three buttons and two wheels.
 *
 * Each change is a group of events that ends with SYN_REPORT. 1024 events wait for buffers of the
 * guest's; a group that does not fit is left out as a whole. Once there is room again, keys,
 * buttons and the pointer are as they should be. A driver that comes later is told that, too.
 *
 * One thread. Errors are negative errno values.
 */

#include <stdbool.h>
#include <stdint.h>

#include <vgfence/vgfence.h>

struct input;

/* Of the pointer, in each direction: from the left or upper edge to the other. */
#define INPUT_POINTER_MAX 32767

/* Of a keyboard: KEY_MICMUTE. */
#define INPUT_LAST_KEY 248

/* Its buttons, as RFB has them. The wheels turn by one when theirs goes down. */
enum input_button {
	INPUT_LEFT = 1 << 0,
	INPUT_MIDDLE = 1 << 1,
	INPUT_RIGHT = 1 << 2,
	INPUT_WHEEL_UP = 1 << 3,
	INPUT_WHEEL_DOWN = 1 << 4,
	INPUT_WHEEL_LEFT = 1 << 5,
	INPUT_WHEEL_RIGHT = 1 << 6,
};

/* Listens. log: one line without a newline. Returns 0, or what vhost_user_create failed with. */
int input_create(const char *socket_path,
	void (*log)(void *cookie, enum vgf_log_level level, const char *message), void *cookie,
	struct input **out);
void input_destroy(struct input *input); /* NULL is fine */

/* Removes the socket's file, from any thread: for a process that exits without input_destroy. NULL
 * is fine. */
void input_abandon(const struct input *input);

/* A key, by its keysym of X: one that no key of the layout has is left out. Repeated, it does
 * nothing, as the guest repeats by itself. */
void input_key(struct input *input, uint32_t keysym, bool down);
/* The same by its code: KEY_... of <linux/input-event-codes.h>, up to INPUT_LAST_KEY; others are
 * left out. */
void input_key_code(struct input *input, uint32_t code, bool down);
/* buttons: those that are down; x and y: up to INPUT_POINTER_MAX. */
void input_pointer(struct input *input, uint32_t buttons, uint32_t x, uint32_t y);
/* Nothing is held down any more. */
void input_release(struct input *input);

/* Readable if input_dispatch has something to do; so it has after each of these three, and once
 * input_timeout, which is in milliseconds as for poll, says 0 or has passed. */
int input_get_fd(const struct input *input);
int input_timeout(struct input *input, int timeout_ms);
int input_dispatch(struct input *input);

#endif
