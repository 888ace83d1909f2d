/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "turn.h"

#include <signal.h>

void turn_init(struct turn *turn)
{
	pthread_mutex_init(&turn->lock, NULL);
	atomic_init(&turn->is_free, false);
}

void turn_finish(struct turn *turn)
{
	pthread_mutex_destroy(&turn->lock);
}

void turn_let_go(struct turn *turn)
{
	atomic_store(&turn->is_free, true);
}

void turn_take_back(struct turn *turn)
{
	atomic_store(&turn->is_free, false);
	pthread_mutex_lock(&turn->lock);
	pthread_mutex_unlock(&turn->lock);
}

/* virglrenderer's threads block all signals; a fault that is blocked ends the process. */
static void open_to_faults(void)
{
	static _Thread_local bool is_open;
	sigset_t faults;

	if (is_open) {
		return;
	}
	sigemptyset(&faults);
	sigaddset(&faults, SIGBUS);
	pthread_sigmask(SIG_UNBLOCK, &faults, NULL);
	is_open = true;
}

bool turn_take(struct turn *turn)
{
	if (!atomic_load(&turn->is_free) || pthread_mutex_trylock(&turn->lock) != 0) {
		return false;
	}
	if (!atomic_load(&turn->is_free)) {
		pthread_mutex_unlock(&turn->lock);
		return false;
	}
	open_to_faults();
	return true;
}

void turn_end(struct turn *turn)
{
	pthread_mutex_unlock(&turn->lock);
}
