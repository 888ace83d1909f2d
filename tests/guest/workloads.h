/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef WORKLOADS_H
#define WORKLOADS_H

/* The workloads that tests/data/traces/README.md describes, and `sparse`: README.md. */

#include <stdint.h>

#include "run.h"

struct workload {
	const char *name;
	const char *unit;
	uint32_t units;                   /* in a run, where nothing else is asked for */
	uint32_t num_contexts, num_rings; /* that the run opens */
	void (*submit)(struct run *run, uint32_t units);
};

extern const struct workload workload_chain, workload_frames, workload_sparse, workload_storm,
	workload_syncobj, workload_teardown;

extern uint32_t chain_busy_us; /* how long a job of the chain takes */

/* Who waits for which fence, in the kernel of the guest or on the host; what is refused. Returns
 * how many checks were made; a wrong one ends the program. */
uint32_t check_driver(void);

/* Likewise: what is drawn when the kernel sends the flush of a page flip. Needs a screen, and the
 * kernel's trace, of which it prints the last flip's lines. */
uint32_t check_screen(bool passing);
bool has_screen(void);

/* Flips on a second monitor while vgfence-slow-compositor is slow with the first: says how many of
 * them, at most `count`, were over before the slow one. */
void flip_monitors(bool passing, uint32_t count);

/* Likewise: memory of the host, which the guest maps. */
uint32_t check_hostmem(void);

/* Likewise: fences of contexts of OpenGL, passed from one to the other. */
uint32_t check_virgl(void);

/* Submits jobs (0: as many as there is room for) that are not done in any time, says so, and waits:
 * for tests that end the guest or the device. Says then how many of their fences have failed. */
void leave_pending(bool passing, uint32_t num_jobs);

/* Unbinds the driver from the device while a flip waits for a frame, which must then be over, and
 * binds it again. Needs a screen. */
void unbind_driver(bool passing);

#endif
