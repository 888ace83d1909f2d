/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "renderer_clock.h"

#include <stddef.h>
#include <time.h>

#include "clock.h"

#define NUM_TRIES 64

/* The least of many: an interrupt is none of it. */
void renderer_clock_init(struct renderer_clock *clock)
{
	*clock = (struct renderer_clock){ .read_ns = UINT64_MAX };
	for (int i = 0; i < NUM_TRIES; i++) {
		uint64_t start_ns = thread_cpu_ns();
		uint64_t ns = thread_cpu_ns() - start_ns;

		clock->read_ns = ns < clock->read_ns ? ns : clock->read_ns;
	}
}

void renderer_clock_enter(struct renderer_clock *clock)
{
	if (clock == NULL) {
		return;
	}
	clock->measuring = clock->calls++ % RENDERER_CLOCK_EVERY == 0;
	if (clock->measuring) {
		clock->start_ns = thread_cpu_ns();
	}
}

void renderer_clock_leave(struct renderer_clock *clock)
{
	if (clock == NULL || !clock->measuring) {
		return;
	}
	clock->measured_ns += thread_cpu_ns() - clock->start_ns;
	clock->measured++;
	clock->measuring = false;
}

uint64_t renderer_clock_ns(const struct renderer_clock *from, const struct renderer_clock *to)
{
	uint64_t measured = to->measured - from->measured;
	uint64_t ns = to->measured_ns - from->measured_ns;
	uint64_t reading_ns = measured * to->read_ns;

	if (measured == 0 || ns <= reading_ns) {
		return 0;
	}
	return (uint64_t)((double)(ns - reading_ns) * (double)(to->calls - from->calls) /
		(double)measured);
}
