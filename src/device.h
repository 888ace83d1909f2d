/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef DEVICE_H
#define DEVICE_H

/*
 * The state of a device: the one lock, the one loop, and what they are about. Each part of what is
 * done with it has a header of its own; docs/architecture.md has their order.
 */

#include <pthread.h>

#include <vgfence/inspect.h>
#include <vgfence/vgfence.h>

#include "clock.h"
#include "ctx_sync.h"
#include "fence_table.h"

#define LOG_LINES 8
#define LOG_LINE_SIZE 200

/* Messages wait here until the lock is free: a log callback may call back into the library. */
struct log_buffer {
	unsigned int count;
	enum vgf_log_level level[LOG_LINES];
	char line[LOG_LINES][LOG_LINE_SIZE];
};

struct vgf_device {
	/* Constant. */
	struct vgf_callbacks callbacks;
	void *cookie;
	struct vgf_options options;
	int epoll_fd;
	int kick_fd;  /* an eventfd: there is work for the dispatching thread */
	int timer_fd; /* the watchdog's, and for another try at what the kernel had no memory for */
	pthread_t thread;

	/* Protects all that follows. Never held in a callback or a driver's function. */
	pthread_mutex_t lock;
	struct fence_table fences;
	struct ctx_sync contexts;
	struct vgf_stats stats;
	uint32_t num_notifications;

	/*
	 * One thread at a time dispatches; it alone retires fences, so what epoll hands it cannot
	 * go away. It may enter again from inside a callback: depth counts. Reset, destroy,
	 * drain and save take the role over: they kick the dispatching thread and wait on `changed`
	 * until it has left.
	 */
	pthread_cond_t changed; /* also: a driver's function has returned */
	pthread_t dispatcher;
	unsigned int depth;
	unsigned int takers;   /* threads that wait to take the role over */
	unsigned int blocked;  /* threads in vgf_device_dispatch that wait for takers to end */
	unsigned int leaving;  /* those that have unlocked, and are not through with the device */
	unsigned int draining; /* the role is held by vgf_device_drain */
	bool dispatching;      /* the role is held by vgf_device_dispatch */
	bool processing;       /* the dispatching thread looks for work before it waits */
	bool only_retires;     /* the dispatching thread; it calls no driver */
	bool kicked;           /* kick_fd is readable */
	bool resetting;
	bool closing;       /* vgf_device_destroy was called */
	bool abandoned;     /* and nobody but the dispatching thread is left to free it */
	uint64_t timer_ns;  /* when the timer expires; UINT64_MAX: it is not set */
	bool check_stalled; /* the timer has expired */
	bool watch_again;   /* the kernel had no memory to watch a fence; the timer says when */

	struct log_buffer log;
	uint64_t log_second; /* the second that log_count is of */
	unsigned int log_count;

	/* Of the dispatching thread alone, no lock needed: on their way to the callback. */
	struct fence_list retiring;
	unsigned int unannounced; /* callbacks since the last retire_end */
	/* Notifications of fences whose callback is being made, or was: in turn, those of the
	 * innermost call first. */
	struct notification_list due;
};

#endif
