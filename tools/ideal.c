/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Nothing here depends on what comes later: rings and timelines are first in first out, in-fences
 * name fences that were there before. So one pass in the order of the requests finds every time,
 * and no queue of events is needed but that of the requests in flight.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "ideal.h"

struct ideal {
	const struct workload *workload;
	size_t window;
	uint64_t now_ns; /* when the last request was sent */
	uint64_t first_job_ns, last_retire_ns;

	uint64_t *ring_free_ns;  /* for each ring */
	uint64_t *timeline_ns;   /* for each timeline: when the last of it retires */
	uint64_t *finish_ns;     /* for each request: when its work is done */
	uint64_t *completion_ns; /* for each request: when the guest hears of it */
	uint64_t *happened_ns;   /* for each recorded completion: it, and all before */
	size_t num_happened;
	uint64_t *in_flight; /* completion times: a binary heap, the first on top */
	size_t num_in_flight;
};

static uint64_t later(uint64_t left, uint64_t right)
{
	return left > right ? left : right;
}

static void heap_push(struct ideal *ideal, uint64_t value)
{
	uint64_t *heap = ideal->in_flight;
	size_t at = ideal->num_in_flight++;

	for (; at > 0 && value < heap[(at - 1) / 2]; at = (at - 1) / 2) {
		heap[at] = heap[(at - 1) / 2];
	}
	heap[at] = value;
}

static uint64_t heap_pop(struct ideal *ideal)
{
	uint64_t *heap = ideal->in_flight;
	uint64_t top = heap[0], value = heap[--ideal->num_in_flight];
	size_t at = 0;

	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < ideal->num_in_flight && heap[child + 1] < heap[child]) {
			child++;
		}
		if (child >= ideal->num_in_flight || heap[child] >= value) {
			break;
		}
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = value;
	return top;
}

/* When the first `count` recorded completions have happened. */
static uint64_t completions_ns(struct ideal *ideal, size_t count)
{
	for (; ideal->num_happened < count; ideal->num_happened++) {
		size_t i = ideal->num_happened;
		uint64_t at = ideal->completion_ns[ideal->workload->completions[i]];

		ideal->happened_ns[i] = i > 0 ? later(at, ideal->happened_ns[i - 1]) : at;
	}
	return count > 0 ? ideal->happened_ns[count - 1] : 0;
}

static uint64_t send_ns(struct ideal *ideal, const struct workload_request *request)
{
	uint64_t send = ideal->now_ns;

	while (ideal->num_in_flight >= ideal->window) {
		send = later(send, heap_pop(ideal));
	}
	switch (request->anchor) {
	case ANCHOR_NONE:
		return send;
	case ANCHOR_START:
		return later(send, request->delay_ns);
	case ANCHOR_FIRST_JOB:
		return later(send, ideal->first_job_ns + request->delay_ns);
	case ANCHOR_COMPLETION:
		return later(send,
			completions_ns(ideal, request->completions_before) + request->delay_ns);
	}
	abort();
}

/* When the work of a request that is sent now is done. */
static uint64_t run(struct ideal *ideal, const struct workload_request *request, size_t index)
{
	const struct vgf_submission *submission = &request->submit.submission;
	uint64_t start = ideal->now_ns;

	if (!request->is_job || request->malformed) {
		return start;
	}
	for (uint32_t i = 0; i < submission->num_in_fences; i++) {
		size_t producer = workload_find_in_fence(ideal->workload, submission->in_fences[i]);

		if (producer != WORKLOAD_NONE) {
			start = later(start, ideal->finish_ns[producer]);
		}
	}
	start = later(start, ideal->ring_free_ns[request->ring]);
	ideal->ring_free_ns[request->ring] = start + request->busy_ns;
	return start + request->busy_ns;
}

static void send(struct ideal *ideal, size_t index)
{
	const struct workload_request *request = &ideal->workload->requests[index];
	uint64_t completion;

	ideal->now_ns = send_ns(ideal, request);
	if (index == ideal->workload->first_job) {
		ideal->first_job_ns = ideal->now_ns;
	}
	ideal->finish_ns[index] = run(ideal, request, index);
	completion = ideal->now_ns;
	if (request->flags & VGF_FENCED) {
		completion = later(ideal->finish_ns[index], ideal->timeline_ns[request->timeline]);
		ideal->timeline_ns[request->timeline] = completion;
	}
	if (request->is_job) {
		ideal->last_retire_ns = later(ideal->last_retire_ns, completion);
	}
	ideal->completion_ns[index] = completion;
	heap_push(ideal, completion);
}

int ideal_makespan(const struct workload *workload, size_t window, uint64_t *makespan_ns)
{
	size_t count = workload->num_requests;
	size_t room = workload->num_rings + workload->num_timelines + 4 * count;
	uint64_t *times = calloc(room + 1, sizeof(*times));
	struct ideal ideal = { .workload = workload, .window = window };

	if (times == NULL) {
		return -ENOMEM;
	}
	ideal.ring_free_ns = times;
	ideal.timeline_ns = ideal.ring_free_ns + workload->num_rings;
	ideal.finish_ns = ideal.timeline_ns + workload->num_timelines;
	ideal.completion_ns = ideal.finish_ns + count;
	ideal.happened_ns = ideal.completion_ns + count;
	ideal.in_flight = ideal.happened_ns + count;
	for (size_t i = 0; i < count; i++) {
		send(&ideal, i);
	}
	*makespan_ns = ideal.last_retire_ns - ideal.first_job_ns;
	free(times);
	return 0;
}
