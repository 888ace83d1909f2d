/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef EVENTS_H
#define EVENTS_H

/*
 * What happened during a replay, for latencies and for whoever wants to check it. Recording is an
 * atomic increment and a write to memory that is there already, so that it does not disturb what
 * it times; any thread may record.
 */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <vgfence/context_driver.h>

#include "workload.h"

enum event_kind {
	EVENT_ACCEPT, /* the VMM submits a job */
	EVENT_REJECT, /* the library refused it */
	EVENT_RUN,    /* the driver got it */
	EVENT_SIGNAL, /* the GPU is done with it */
	EVENT_RETIRE, /* the VMM may answer the guest */
};

struct event {
	uint64_t t_ns;
	size_t place; /* in the order in which they were added */
	struct vgf_fence_name fence;
	enum event_kind kind;
	enum vgf_wait how; /* of EVENT_RUN: how it had waited */
};

struct events {
	struct event *entries;
	size_t max_entries;
	atomic_size_t num_added; /* more than max_entries: the rest is lost */
};

/* Returns 0 or -ENOMEM. */
int events_init(struct events *events, size_t max_entries);
void events_finish(struct events *events);

/* Records an event. Returns it, so that the same thread can correct it; NULL if there is no
 * room. */
struct event *events_add(struct events *events, enum event_kind kind,
	const struct vgf_fence_name *fence, uint64_t t_ns);

/* How many there are. */
size_t events_count(struct events *events);

/* Sorts by time; those of the same time stay in the order in which they were added. */
void events_sort(struct events *events);

/* Writes them as lines of JSON, after events_sort. Returns 0 or a negative errno value. */
int events_write(struct events *events, const struct workload *workload, const char *path);

#endif
