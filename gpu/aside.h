/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef ASIDE_H
#define ASIDE_H

/*
 * A second thread that has its turn while the loop's thread is in OpenGL: it serves what needs
 * none. Everything else stays as with one thread, as there is a lock around all of it: the loop's
 * thread has it always but between aside_enter and aside_leave, also while it sleeps; the second
 * thread takes it only then, and never waits for it.
 *
 * Most calls of OpenGL are short, and cost nothing but letting go of the lock and taking it: the
 * second thread sleeps until one has taken long. To find that out it has to wake up, which costs
 * more than a short call; so it looks seldom, unless there was something to do lately.
 */

#include <stdbool.h>

struct aside;

/* How long a call may take before the second thread has its turn: at first, and for ASIDE_LATELY_NS
 * from the last aside_served on. */
#define ASIDE_FIRST_NS 2000000
#define ASIDE_AGAIN_NS 100000
#define ASIDE_LATELY_NS 1000000000

/* With realtime priority the second thread uses at most so much of each period. A turn that takes
 * longer ends first, and then as much more time has to pass. */
#define ASIDE_PERIOD_NS 10000000
#define ASIDE_SHARE_NS 2000000

/*
 * The second thread has realtime priority, if that is allowed: the lowest there is, for a bounded
 * share of the time. So it is woken at once where OpenGL in software takes all processors.
 *
 * serve: called in the second thread, with the lock. Returns whether there is more to do already.
 * Otherwise it is called again when wake_set is readable, an epoll set that is the caller's and
 * stays until aside_destroy; its events are taken out of it.
 *
 * With realtime priority the second thread starts here, as a sandbox allows nobody to take that;
 * without it with the first aside_enter: then a sandbox is in place. The loop's thread is the one
 * that calls aside_enter first. Returns 0; what timerfd_create, eventfd or epoll_ctl failed with;
 * -ENOMEM.
 */
int aside_create(int wake_set, bool (*serve)(void *arg), void *arg, struct aside **out);

/* Not between aside_enter and aside_leave. Waits for the second thread. NULL is fine. */
void aside_destroy(struct aside *aside);

/* Around what takes long, in the loop's thread. Nothing that `serve` uses is touched in between. If
 * there can be no second thread, they do nothing; the first aside_enter returns why, what
 * pthread_create failed with. Else it returns 0. */
int aside_enter(struct aside *aside);
void aside_leave(struct aside *aside);

/* There was something to do; from inside `serve`. */
void aside_served(struct aside *aside);

/* For what is called back in between: takes the lock if the loop's thread calls this there, and
 * returns whether it did. Then aside_resume has to follow. */
bool aside_pause(struct aside *aside);
void aside_resume(struct aside *aside);

#endif
