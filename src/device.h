/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef DEVICE_H
#define DEVICE_H

/*
 * The device: the one lock, the one loop, and the calls out of the library.
 *
 * device.c   the device as a whole: create, dispatch, drain, reset, destroy
 * request.c  what a VMM asks for: contexts, submissions, fences
 * run.c      calls context drivers
 * attach.c   fences on dma-bufs
 * loop.c     the lock, the epoll set, dispatching and the batch of callbacks
 * report.c   log, watchdog, statistics, lists and dumps
 */

#include <pthread.h>
#include <stdarg.h>

#include <vgfence/vgfence.h>

#include "ctx_sync.h"
#include "export.h"
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

	/*
	 * One thread at a time dispatches; it alone retires fences, so what epoll hands it cannot
	 * go away. It may enter again from inside a callback: depth counts. Reset, destroy and
	 * drain take the role over: they kick the dispatching thread and wait on `changed` until
	 * it has left.
	 */
	pthread_cond_t changed; /* also: a driver's function has returned */
	pthread_t dispatcher;
	unsigned int depth;
	unsigned int takers;   /* threads that wait to take the role over */
	unsigned int blocked;  /* threads in vgf_device_dispatch that wait for takers to end */
	unsigned int draining; /* the role is held by vgf_device_drain */
	bool dispatching;      /* the role is held by vgf_device_dispatch */
	bool processing;       /* the dispatching thread looks for work before it waits */
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
};

uint64_t clock_ns(void);

/* ---- loop.c ---- */

int loop_init(struct vgf_device *device);
void loop_finish(struct vgf_device *device);

void device_lock(struct vgf_device *device);

/* Watches new fences, wakes the dispatching thread if there is work for it, and after unlocking
 * closes what is garbage and logs. */
void device_unlock(struct vgf_device *device);

/* Becomes the dispatching thread, once more if it is already. With take_over another one is
 * kicked out; without, it waits until those who have taken over are done. */
void dispatcher_enter(struct vgf_device *device, bool take_over);
void dispatcher_leave(struct vgf_device *device);

/* Whether another thread is in vgf_device_dispatch, or the library's own is to do that. */
bool dispatcher_is_other(const struct vgf_device *device);

/* One round: waits for at most timeout_ms, and does what there is to do. Locked before and after,
 * but not between. Returns the number of fences retired, or -EINTR. */
int loop_run(struct vgf_device *device, int timeout_ms);

/* The end of a batch of callbacks. Locked before and after, but not between. */
void loop_announce(struct vgf_device *device);

/* Whether anything is pending. */
bool loop_is_busy(const struct vgf_device *device);

/* ---- run.c ---- */

/* Runs what is ready in a queue, with the lock dropped around each call of its driver. The queue
 * may be gone afterwards. */
void run_queue(struct vgf_device *device, struct queue *queue);

/* Whether this thread is inside a driver's submit or a deferred function of the device. */
bool run_is_inside(struct vgf_device *device);

/* ---- attach.c ---- */

/* Puts a fence that has just got a descriptor on the dma-bufs that are to take it. Locked. */
void attach_all(struct vgf_device *device, struct fence *fence);

/* ---- report.c ---- */

/* Locked. Warnings are limited to a few a second. */
__attribute__((format(printf, 3, 4))) void device_log(
	struct vgf_device *device, enum vgf_log_level level, const char *format, ...);

/* Unlocked. */
void log_flush(struct vgf_device *device, const struct log_buffer *log);

/* "context 3 ring 1 fence 17" */
#define NAME_SIZE 64
const char *name_text(char text[NAME_SIZE], const struct vgf_fence_name *name);

/* If the timer has expired: reports timelines that have made no progress. Locked before and
 * after, but not between. */
void watchdog_check(struct vgf_device *device);

/* When the watchdog wants to look next; UINT64_MAX: never. Locked. */
uint64_t watchdog_deadline(const struct vgf_device *device);

#endif
