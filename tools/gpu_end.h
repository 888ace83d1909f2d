/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef GPU_END_H
#define GPU_END_H

#include <stdbool.h>

/*
 * SIGINT and SIGTERM end the program within a second, whatever it does: a thread waits for them,
 * makes a descriptor readable, and exits the process if that was not enough. So it does not matter
 * what the main thread waits for, a driver's call or a file that does not answer.
 */

/*
 * Blocks these signals and starts the thread. To be called before there are other threads. give_up:
 * called in a thread of its own before the process exits with EXIT_FAILURE; for 0.1 s, if it takes
 * longer.
 *
 * Returns a descriptor that becomes readable, and stays so, or a negative errno value.
 */
int gpu_end_start(void (*give_up)(void));

/* Whether what can be left undone should be, as the process has to end soon. Any thread. */
bool gpu_end_is_near(void);

/* There is nothing left that could make the process wait: it may take its time to exit. */
void gpu_end_over(void);

#endif
