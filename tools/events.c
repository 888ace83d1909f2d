/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "events.h"

int events_init(struct events *events, size_t max_entries)
{
	*events = (struct events){ .max_entries = max_entries };
	events->entries = malloc((max_entries + 1) * sizeof(*events->entries));
	if (events->entries == NULL) {
		return -ENOMEM;
	}
	/* Touches every page now rather than during the replay. */
	memset(events->entries, 0xff, max_entries * sizeof(*events->entries));
	return 0;
}

void events_finish(struct events *events)
{
	free(events->entries);
	*events = (struct events){ 0 };
}

struct event *events_add(struct events *events, enum event_kind kind,
	const struct vgf_fence_name *fence, uint64_t t_ns)
{
	size_t at = atomic_fetch_add(&events->num_added, 1);

	if (at >= events->max_entries) {
		return NULL;
	}
	events->entries[at] =
		(struct event){ .t_ns = t_ns, .place = at, .fence = *fence, .kind = kind };
	return &events->entries[at];
}

size_t events_count(struct events *events)
{
	size_t count = atomic_load(&events->num_added);

	return count < events->max_entries ? count : events->max_entries;
}

static int compare_events(const void *left, const void *right)
{
	const struct event *a = left, *b = right;

	if (a->t_ns != b->t_ns) {
		return a->t_ns < b->t_ns ? -1 : 1;
	}
	return a->place < b->place ? -1 : a->place > b->place;
}

void events_sort(struct events *events)
{
	qsort(events->entries, events_count(events), sizeof(*events->entries), compare_events);
}

static const char *how_name(enum vgf_wait how)
{
	switch (how) {
	case VGF_WAIT_NONE:
		return "now";
	case VGF_WAIT_DRIVER:
	case VGF_WAIT_GL:
		return "driver";
	case VGF_WAIT_HOST:
		return "host";
	}
	return "?";
}

static void write_in_fences(FILE *file, const struct workload *workload, const struct event *event)
{
	size_t index = workload_find_fence(workload, &event->fence);
	const struct vgf_submission *submission;

	fprintf(file, ",\"in\":[");
	if (index != WORKLOAD_NONE && !workload->requests[index].malformed) {
		submission = &workload->requests[index].submit.submission;
		for (uint32_t i = 0; i < submission->num_in_fences; i++) {
			fprintf(file, "%s%" PRIu64, i > 0 ? "," : "", submission->in_fences[i]);
		}
	}
	fprintf(file, "]");
}

static void write_event(FILE *file, const struct workload *workload, const struct event *event)
{
	static const char *const kinds[] = {
		[EVENT_ACCEPT] = "accept",
		[EVENT_REJECT] = "reject",
		[EVENT_RUN] = "run",
		[EVENT_SIGNAL] = "signal",
		[EVENT_RETIRE] = "retire",
	};

	fprintf(file, "{\"t_ns\":%" PRIu64 ",\"event\":\"%s\",\"ctx\":%" PRIu32 ",", event->t_ns,
		kinds[event->kind], event->fence.ctx_id);
	if (event->fence.ring == VGF_RING_GLOBAL) {
		fprintf(file, "\"ring\":null,");
	} else {
		fprintf(file, "\"ring\":%" PRId32 ",", event->fence.ring);
	}
	fprintf(file, "\"fence\":%" PRIu64, event->fence.fence_id);
	if (event->kind == EVENT_ACCEPT) {
		write_in_fences(file, workload, event);
	}
	if (event->kind == EVENT_RUN) {
		fprintf(file, ",\"how\":\"%s\"", how_name(event->how));
	}
	fprintf(file, "}\n");
}

int events_write(struct events *events, const struct workload *workload, const char *path)
{
	FILE *file = fopen(path, "we");
	size_t count = events_count(events);
	int ret = 0;

	if (file == NULL) {
		return -errno;
	}
	for (size_t i = 0; i < count && !ferror(file); i++) {
		write_event(file, workload, &events->entries[i]);
	}
	if (ferror(file)) {
		ret = -errno; /* of the write that has just failed */
	}
	if (fclose(file) != 0 && ret == 0) {
		ret = -errno;
	}
	return ret;
}
