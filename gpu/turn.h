/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef TURN_H
#define TURN_H

/*
 * Whose turn it is to touch the device: that of the loop's thread, but while it sleeps. Then it is
 * free for any thread that takes it, to do what is short: one in which a fence has signalled
 * answers the guest at once, and the loop's thread need not wake up. That one never waits; the
 * loop's thread waits for the end of one turn at most when it wakes up.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct turn {
	pthread_mutex_t lock; /* of another thread's turn */
	atomic_bool is_free;  /* looked at with the lock; the loop's thread writes it without */
};

void turn_init(struct turn *turn);
void turn_finish(struct turn *turn);

/* Around the sleep of the loop's thread. */
void turn_let_go(struct turn *turn);
void turn_take_back(struct turn *turn);

/* Any other thread; also the loop's, which never gets it. Returns whether it has the turn, up to
 * turn_end. Does not wait. From then on the thread has SIGBUS open: guest memory may be lost. */
bool turn_take(struct turn *turn);
void turn_end(struct turn *turn);

#endif
