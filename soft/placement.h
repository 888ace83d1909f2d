/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef PLACEMENT_H
#define PLACEMENT_H

#include <sched.h>
#include <stdbool.h>

/*
 * Keeps a CPU free for the software GPU's thread, as that stands for hardware: it spins, and what
 * runs on the same CPU meanwhile is late by a tick of the scheduler.
 */
struct placement {
	cpu_set_t all;    /* those that the calling thread may use */
	cpu_set_t gpu;    /* the one of them to keep free */
	cpu_set_t others; /* the rest */
	bool split;       /* there are enough for that */
};

/* Finds out what there is. */
void placement_find(struct placement *placement);

/* Moves the calling thread, and threads that it makes later, off the GPU's CPU. */
void placement_leave(const struct placement *placement);

/* Undoes that for the calling thread. */
void placement_return(const struct placement *placement);

#endif
