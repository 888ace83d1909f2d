/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef PIN_H
#define PIN_H

/*
 * Memory that a display reads in place. gpu_get_scanout_buffer pins it, and gpu_tell_released ends
 * that. A request that gives the memory back to the guest (release.h) takes the pin along: the
 * display is told that the buffer is leaving, and the response comes when it has released it. If it
 * has done so before, it is told all the same: the descriptor that it keeps for the next time keeps
 * the memory.
 *
 * A display that does not is given up on after gpu_options' display_ceiling_ms, and the response
 * goes out. It may read the memory even then: a dma-buf keeps its pages, so what it reads is the
 * guest's, but of whatever the guest has there by then. It reads no memory of anybody else.
 */

#include <stdbool.h>
#include <stdint.h>

#include "key_table.h"
#include "queue.h"

struct gpu;
struct pending_request;
struct resource;

enum pin_state {
	PIN_IDLE,     /* no display has it */
	PIN_HELD,     /* one has */
	PIN_LEAVING,  /* and was told that it is wanted back */
	PIN_RELEASED, /* that has been done from inside a callback */
	NUM_PIN_STATES,
};

/* Of one memory, as long as it is that of its resource. */
struct pin {
	uint64_t key;
	enum pin_state state;
	struct key_entry by_key;         /* unless it is idle or released */
	TAILQ_ENTRY(pin) link;           /* among those of its state, unless it is idle */
	struct pending_request *request; /* that waits for it; or NULL */
	uint64_t end_ns;                 /* when the display is given up on */
};

struct pins {
	struct key_table by_key;
	TAILQ_HEAD(, pin) lists[NUM_PIN_STATES]; /* those that leave: in the order of end_ns */
	uint64_t last_key;
	bool is_late; /* a display was given up on, and none has released since what was leaving */
};

void pins_init(struct gpu *gpu);

/* A display gets the memory of the resource. Returns 0, with its key; or -ENOMEM. */
int pin_take(struct gpu *gpu, struct resource *resource, uint64_t *key);

/* Whether a display has it. */
bool pin_is_held(const struct resource *resource);

/* The request takes the memory away from the resource: the display is told if it ever had it, and
 * the request waits for it if it has. */
void pin_leave(struct pending_request *pending, struct resource *resource);

/* It does not, after all. */
void pin_return(struct pending_request *pending, struct resource *resource);

/* The request does not wait for the display any more. */
void pin_drop(struct pending_request *pending);

/* What a display has released from inside a callback takes effect: shown_settle. */
void pins_settle(struct gpu *gpu);

/* There is no display that has anything. */
void pins_release_all(struct gpu *gpu);

/* No request waits for a display any more; what displays have stays theirs. */
void pins_give_up(struct gpu *gpu);

/* All resources go: the display is told, and not waited for. */
void pins_reset(struct gpu *gpu);

/* As shown_timeout. */
int pins_timeout(struct gpu *gpu, int timeout_ms);

#endif
