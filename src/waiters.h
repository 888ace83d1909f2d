/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef WAITERS_H
#define WAITERS_H

/* Who waits for a fence, in the order of asking. The device's lock is held for every call. */

#include <stdbool.h>
#include <stdint.h>

#include "queue.h"

struct fence;
struct submission;

/* One in-fence of one held submission. It is one of the fence's waiters until the fence retires;
 * `fence` is NULL afterwards. */
struct waiter {
	TAILQ_ENTRY(waiter) link; /* unless it is at hand */
	struct fence *fence;
	struct submission *submission;
};

TAILQ_HEAD(waiter_list, waiter);

/* So many of them, and one on the list, are added and found without a look at any of the others. Of
 * thousands that are held back each is in no cache, and on a list one is waited for after the
 * other. */
#define WAITERS_AT_HAND 2

struct waiters {
	struct waiter *at_hand[WAITERS_AT_HAND]; /* who asked first; then NULL */
	struct waiter_list more;                 /* empty unless all these places are taken */
};

enum waiter_event {
	/* Before and after a change of what a driver can wait for. */
	WAITER_CHANGES,
	WAITER_CHANGED,
	WAITER_SIGNALS, /* it is about to, perhaps by force; from then on only retiring counts */
	WAITER_RETIRED,
};

/* Something happened to a fence that someone waits for. It adds and removes none. */
typedef void (*waiter_notify)(struct waiter *waiter, enum waiter_event event);

void waiters_init(struct waiters *waiters);

void waiters_add(struct waiters *waiters, struct waiter *waiter);
void waiters_remove(struct waiters *waiters, struct waiter *waiter);

/* NULL: there is none. */
const struct waiter *waiters_first(const struct waiters *waiters);

/* Whether one of this array is among them. Nobody else has been added to any fence since the first
 * of the array: so it is at hand, or the last. */
bool waiters_have_new(const struct waiters *waiters, const struct waiter *array, uint32_t count);

/* Tells them all. Returns how many there are. */
uint32_t waiters_tell(const struct waiters *waiters, waiter_notify notify, enum waiter_event event);

/* Tells them all that the fence has retired, after which nobody waits for it. Returns how many
 * there were. */
uint32_t waiters_let_go(struct waiters *waiters, waiter_notify notify);

#endif
