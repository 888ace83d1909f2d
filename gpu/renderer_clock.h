/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef RENDERER_CLOCK_H
#define RENDERER_CLOCK_H

/*
 * How much CPU time of the device's thread is the renderer's: what virglrenderer or the software
 * GPU does in it. Reading a thread's CPU time is a system call, so only one call into the renderer
 * of RENDERER_CLOCK_EVERY is measured, and stands for the others. What reading costs is taken off.
 *
 * One thread. With NULL for the clock, nothing is read and nothing is counted.
 */

#include <stdbool.h>
#include <stdint.h>

/* A prime: what a guest does again and again has another length. */
#define RENDERER_CLOCK_EVERY 17

struct renderer_clock {
	uint64_t read_ns;     /* what reading costs */
	uint64_t calls;       /* into the renderer */
	uint64_t measured;    /* of these */
	uint64_t measured_ns; /* what those took, and reading with it */
	uint64_t start_ns;    /* of the one that is measured */
	bool measuring;
};

/* Finds out what reading costs. */
void renderer_clock_init(struct renderer_clock *clock);

/* Around each call. They are not to be inside each other. */
void renderer_clock_enter(struct renderer_clock *clock);
void renderer_clock_leave(struct renderer_clock *clock);

/* What all calls took from one moment to another: copies of the clock. 0 if none was measured. */
uint64_t renderer_clock_ns(const struct renderer_clock *from, const struct renderer_clock *to);

#endif
