/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VIRGL_DOUBLE_H
#define VIRGL_DOUBLE_H

/*
 * A test double: this is not virglrenderer, but has those of its functions that the plugin calls.
 * Native contexts need a GPU, and what the plugin does with them can be seen here without one:
 * which in-fences it hands on by ID, which by descriptor, and in which order.
 *
 * Modelled on virglrenderer 1.3: a table of the descriptors of native contexts' fences by ID, which
 * a reset does not empty and which takes no second fence with an ID; an ID that is not there counts
 * as signalled; attach_fence closes the descriptor, and holds for the next command stream; a
 * fence's callback comes from whichever thread it signals in. A fence is an eventfd here, so it
 * cannot be merged: the double keeps each.
 *
 * As in virglrenderer, a fence of OpenGL is made in the GL context that is current, whichever that
 * is. An empty command stream makes one current, and is not counted.
 *
 * A Venus context has a socket to a worker that only answers if a test says so. When the worker has
 * ended, its fences come back. A server that the VMM gives is closed at once.
 *
 * DOUBLE_SUBMIT_CMD2, DOUBLE_ATTACH_FENCE and DOUBLE_GET_FENCE_FD say by 0 or 1 what this "version"
 * has.
 */

#include <stdbool.h>
#include <stdint.h>

#define DOUBLE_MAX_IN_FENCES 8
#define DOUBLE_MAX_SUBMISSIONS 256
#define DOUBLE_SERVER_VERSION 5 /* of the render server's protocol */

/* A command stream that the renderer got. */
struct double_submission {
	uint32_t ctx_id;
	uint32_t word;       /* the first of its commands */
	uint32_t gl_context; /* that it was done in */
	uint64_t ids[DOUBLE_MAX_IN_FENCES];
	unsigned int num_ids;
	int attached_fds[DOUBLE_MAX_IN_FENCES];
	unsigned int num_attached;
};

extern struct virgl_double {
	struct double_submission submissions[DOUBLE_MAX_SUBMISSIONS];
	unsigned int num_submissions;
	unsigned int num_contexts;
	uint32_t name_size; /* of the last one's */
	unsigned int num_starts;
	unsigned int num_transfers, num_unrefs, num_attached, num_blobs, num_detached_iovs;
	unsigned int num_made_current;   /* context 0 of GL */
	unsigned int submissions_before; /* the last of these */
	bool is_running;
	uint32_t gl_context; /* that is current: another one for each subcontext; 0: context 0 */
	/* Set by a test: what the next call of each answers, once. An errno value. */
	int init_error, context_error, submit_error, attach_error, fence_error, transfer_error;
	/* Fences signal while they are made, as those of ring 0 do. */
	bool signals_at_once;
	bool has_no_memory; /* for fences */
	/* virglrenderer's thread waits for the oldest fence: who ends a context takes it along. */
	bool forgets_the_oldest;
	bool has_poll_fd;    /* for queries: readable if the thread asks to be polled */
	int context_poll_fd; /* that contexts have, of the test's; 0: none */
	void (*on_poll)(void);
	unsigned int num_polls, pending_at_reset;
} the_double;

/* Ends what a test has left. */
void double_forget(void);

/* The GPU has come to a fence: its descriptor signals, and its callback is called. False for one
 * that is not there. Any thread; one at a time. */
bool double_signal(uint64_t fence_id);

/* The same in two steps. */
bool double_signal_fd(uint64_t fence_id);
bool double_call_back(uint64_t fence_id);

/* The worker of a Venus context ends, and its fences come back, or are forgotten. False if there is
 * none. */
bool double_end_worker(uint32_t ctx_id, bool call_back);

/* virglrenderer's thread asks to be polled. */
void double_ask(void);

/* The oldest fence of those that have not called back. False if there is none. */
bool double_oldest(uint64_t *fence_id);

/* The same as double_signal, of that one; or it is not called back for. */
bool double_signal_oldest(void);
bool double_forget_oldest(void);

/* The GL context that was current when a fence was made, one that has not called back. */
uint32_t double_gl_of(uint64_t fence_id);

/* How many fences it has that have not called back. */
unsigned int double_pending(void);

#endif
