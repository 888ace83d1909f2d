/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <stddef.h>

#include "waiters.h"

/* Of most processors; only prefetching depends on it. */
#define CACHE_LINE 64

void waiters_init(struct waiters *waiters)
{
	*waiters = (struct waiters){ 0 };
	TAILQ_INIT(&waiters->more);
}

void waiters_add(struct waiters *waiters, struct waiter *waiter)
{
	for (size_t i = 0; i < WAITERS_AT_HAND; i++) {
		if (!waiters->at_hand[i]) {
			waiters->at_hand[i] = waiter;
			return;
		}
	}
	TAILQ_INSERT_TAIL(&waiters->more, waiter, link);
}

/* Those behind a place at hand move up. */
static void close_gap(struct waiters *waiters, size_t i)
{
	struct waiter *next = TAILQ_FIRST(&waiters->more);

	for (; i + 1 < WAITERS_AT_HAND; i++) {
		waiters->at_hand[i] = waiters->at_hand[i + 1];
	}
	waiters->at_hand[i] = next;
	if (next) {
		TAILQ_REMOVE(&waiters->more, next, link);
	}
}

void waiters_remove(struct waiters *waiters, struct waiter *waiter)
{
	for (size_t i = 0; i < WAITERS_AT_HAND; i++) {
		if (waiters->at_hand[i] == waiter) {
			close_gap(waiters, i);
			return;
		}
	}
	TAILQ_REMOVE(&waiters->more, waiter, link);
}

const struct waiter *waiters_first(const struct waiters *waiters)
{
	return waiters->at_hand[0];
}

static bool is_in(const struct waiter *waiter, const struct waiter *array, uint32_t count)
{
	return waiter >= array && waiter < array + count;
}

bool waiters_have_new(const struct waiters *waiters, const struct waiter *array, uint32_t count)
{
	for (size_t i = 0; i < WAITERS_AT_HAND; i++) {
		if (is_in(waiters->at_hand[i], array, count)) {
			return true;
		}
	}
	return is_in(TAILQ_LAST(&waiters->more, waiter_list), array, count);
}

uint32_t waiters_tell(const struct waiters *waiters, waiter_notify notify, enum waiter_event event)
{
	struct waiter *waiter;
	uint32_t told = 0;

	for (; told < WAITERS_AT_HAND && waiters->at_hand[told]; told++) {
		notify(waiters->at_hand[told], event);
	}
	TAILQ_FOREACH(waiter, &waiters->more, link) {
		notify(waiter, event);
		told++;
	}
	return told;
}

/* With what is beside it in its submission. */
static void prefetch(const struct waiter *waiter)
{
	if (waiter) {
		__builtin_prefetch(waiter);
		__builtin_prefetch((const char *)waiter - CACHE_LINE);
	}
}

/* Those that can be reached are fetched at a time. */
static void prefetch_all(const struct waiters *waiters)
{
	for (size_t i = 0; i < WAITERS_AT_HAND; i++) {
		prefetch(waiters->at_hand[i]);
	}
	prefetch(TAILQ_FIRST(&waiters->more));
}

uint32_t waiters_let_go(struct waiters *waiters, waiter_notify notify)
{
	struct waiter *waiter;
	uint32_t told = 0;

	prefetch_all(waiters);
	for (; (waiter = waiters->at_hand[0]); told++) {
		close_gap(waiters, 0);
		notify(waiter, WAITER_RETIRED);
		waiter->fence = NULL;
	}
	return told;
}
