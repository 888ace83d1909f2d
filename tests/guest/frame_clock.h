/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef FRAME_CLOCK_H
#define FRAME_CLOCK_H

/*
 * What a client in the guest and a compositor on the host tell each other in memory that both have:
 * a buffer of this width. So the time of one is known to the other.
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

#endif
