/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef FRAME_CLOCK_H
#define FRAME_CLOCK_H

/*
 * How a client in the guest learns when its frame was there, by the compositor on the host.
 *
 * With a window into memory of the host the two tell each other in memory that both have: a buffer
 * of this width. So the time of one is known to the other.
 */

#include <stdint.h>

#define FRAME_CLOCK_WIDTH 64u
#define FRAME_CLOCK_DONE UINT64_MAX

struct frame_clock {
	uint64_t ping; /* the client's question, or FRAME_CLOCK_DONE: there is no other */
	uint64_t pong; /* that has been answered */
	uint64_t pong_ns;
	uint64_t frame_ns; /* when the last frame was there */
	uint64_t num_frames;
};

/*
 * In User-Mode Linux, which has no such window, both read the same counter of the processor. The
 * compositor's is what a frame's callback says.
 */
static inline uint32_t frame_clock_ticks(void)
{
#ifdef __x86_64__
	return (uint32_t)(__builtin_ia32_rdtsc() >> 6);
#else
	return 0; /* there is no such guest */
#endif
}

#endif
