/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "clock.h"
#include "gpu_private.h"

void pins_init(struct gpu *gpu)
{
	key_table_init(&gpu->pins.by_key);
	for (int i = 0; i < NUM_PIN_STATES; i++) {
		TAILQ_INIT(&gpu->pins.lists[i]);
	}
}

static bool has_key(enum pin_state state)
{
	return state == PIN_HELD || state == PIN_LEAVING;
}

static void set_state(struct gpu *gpu, struct pin *pin, enum pin_state state)
{
	struct pins *pins = &gpu->pins;

	if (has_key(pin->state) && !has_key(state)) {
		key_table_remove(&pins->by_key, &pin->by_key);
	}
	if (!has_key(pin->state) && has_key(state)) {
		key_table_add(&pins->by_key, &pin->by_key, pin->key);
	}
	if (pin->state != PIN_IDLE) {
		TAILQ_REMOVE(&pins->lists[pin->state], pin, link);
	}
	if (state != PIN_IDLE) {
		TAILQ_INSERT_TAIL(&pins->lists[state], pin, link);
	}
	pin->state = state;
}

int pin_take(struct gpu *gpu, struct resource *resource, uint64_t *key)
{
	if (resource->pin == NULL) {
		resource->pin = calloc(1, sizeof(*resource->pin));
		if (resource->pin == NULL) {
			return -ENOMEM;
		}
		resource->pin->key = ++gpu->pins.last_key;
	}
	if (resource->pin->state == PIN_IDLE) {
		set_state(gpu, resource->pin, PIN_HELD);
	}
	*key = resource->pin->key;
	return 0;
}

/* ---- Memory that leaves ---------------------------------------------------------------------- */

bool pin_is_held(const struct resource *resource)
{
	return resource->pin != NULL && resource->pin->state == PIN_HELD;
}

static void tell_leaving(struct gpu *gpu, uint64_t key)
{
	if (gpu->callbacks.buffer_leaving != NULL) {
		gpu->num_callbacks++;
		gpu->callbacks.buffer_leaving(gpu->cookie, key);
		gpu->num_callbacks--;
	}
}

void pin_drop(struct pending_request *pending)
{
	struct pin *pin = pending->pin;

	if (pin != NULL) {
		pending->pin = NULL;
		set_state(pending->gpu, pin, PIN_IDLE);
		free(pin);
	}
}

void pin_leave(struct pending_request *pending, struct resource *resource)
{
	struct gpu *gpu = pending->gpu;
	struct pin *pin = resource->pin;

	if (pin == NULL) {
		return;
	}
	resource->pin = NULL;
	pending->pin = pin;
	pin->request = pending;
	if (pin->state == PIN_HELD) {
		pin->end_ns = now_ns() + shown_ceiling_ns(gpu);
		set_state(gpu, pin, PIN_LEAVING);
	}
	tell_leaving(gpu, pin->key);
	if (pin->state != PIN_LEAVING) {
		gpu->stats.buffers_released += pin->state == PIN_RELEASED;
		pin_drop(pending);
	}
}

void pin_return(struct pending_request *pending, struct resource *resource)
{
	struct pin *pin = pending->pin;

	if (pin != NULL) {
		pending->pin = NULL;
		pin->request = NULL;
		resource->pin = pin;
		set_state(pending->gpu, pin, pin->state == PIN_LEAVING ? PIN_HELD : PIN_IDLE);
	}
}

/* The request goes on. */
static void end(struct pin *pin)
{
	struct pending_request *pending = pin->request;

	pin_drop(pending);
	release_go_on(pending);
	pending->gpu->must_wake = pending->gpu->must_wake || !pending->used;
}

void pins_reset(struct gpu *gpu)
{
	struct pin *pin;

	while ((pin = TAILQ_FIRST(&gpu->pins.lists[PIN_HELD])) != NULL) {
		set_state(gpu, pin, PIN_IDLE);
		tell_leaving(gpu, pin->key);
	}
}

/* ---- What a display tells -------------------------------------------------------------------- */

static void released(struct gpu *gpu, struct pin *pin)
{
	gpu->stats.buffers_released++;
	gpu->pins.is_late = false;
	end(pin);
}

void pins_settle(struct gpu *gpu)
{
	struct pin *pin;

	while ((pin = TAILQ_FIRST(&gpu->pins.lists[PIN_RELEASED])) != NULL) {
		released(gpu, pin);
	}
}

static void take_back(struct gpu *gpu, struct pin *pin)
{
	if (pin->state == PIN_HELD) {
		set_state(gpu, pin, PIN_IDLE);
	} else if (gpu->num_callbacks > 0) {
		set_state(gpu, pin, PIN_RELEASED);
		gpu->has_told = true;
	} else {
		released(gpu, pin);
	}
}

void gpu_tell_released(struct gpu *gpu, uint64_t key)
{
	struct key_entry *entry = key_table_find(&gpu->pins.by_key, key);

	if (entry != NULL) {
		take_back(gpu, (struct pin *)((char *)entry - offsetof(struct pin, by_key)));
	}
}

void pins_release_all(struct gpu *gpu)
{
	struct pin *pin;

	while ((pin = TAILQ_FIRST(&gpu->pins.lists[PIN_HELD])) != NULL ||
		(pin = TAILQ_FIRST(&gpu->pins.lists[PIN_LEAVING])) != NULL) {
		take_back(gpu, pin);
	}
}

/* ---- What a display does not tell ------------------------------------------------------------ */

static void give_up(struct gpu *gpu, struct pin *pin)
{
	if (!gpu->pins.is_late) {
		log_error(gpu,
			"the display does not release a buffer that the guest takes away: not "
			"waited for");
	}
	gpu->pins.is_late = true;
	gpu->stats.buffers_given_up++;
	end(pin);
}

void pins_give_up(struct gpu *gpu)
{
	struct pin *pin;

	while ((pin = TAILQ_FIRST(&gpu->pins.lists[PIN_LEAVING])) != NULL) {
		give_up(gpu, pin);
	}
}

int pins_timeout(struct gpu *gpu, int timeout_ms)
{
	struct pin *pin = TAILQ_FIRST(&gpu->pins.lists[PIN_LEAVING]);
	uint64_t now = pin != NULL ? now_ns() : 0;

	while (pin != NULL && pin->end_ns <= now) {
		give_up(gpu, pin);
		pin = TAILQ_FIRST(&gpu->pins.lists[PIN_LEAVING]);
	}
	return pin != NULL ? shown_until(pin->end_ns, now, timeout_ms) : timeout_ms;
}
