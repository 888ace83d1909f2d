/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef WORKLOAD_H
#define WORKLOAD_H

/*
 * A trace, understood: the requests with their fences, what each job does and waits for, and by
 * what a request's time is set at each pace. The replay and the simulation of the ideal both go by
 * this.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vgfence/submit_3d.h>
#include <vgfence/vgfence.h>

#include "trace.h"

enum pace {
	PACE_DEFAULT,  /* asap for a guest that passes in-fences, causal for one that does not */
	PACE_ASAP,     /* as fast as the window allows */
	PACE_RECORDED, /* when it was recorded */
	PACE_CAUSAL,   /* as long after the completion before it as recorded; 1 s at most */
};

/* What a request's time is counted from. */
enum anchor {
	ANCHOR_NONE,       /* it goes out at once */
	ANCHOR_START,      /* the first request */
	ANCHOR_FIRST_JOB,  /* the first SUBMIT_3D */
	ANCHOR_COMPLETION, /* the completions recorded before it */
};

/* Not a request of the workload. */
#define WORKLOAD_NONE SIZE_MAX

struct workload_request {
	uint64_t t_ns; /* as recorded */
	const uint8_t *data;
	uint32_t size;
	uint32_t type; /* of enum virtio_gpu_ctrl_type */
	/* Its ID and those of in-fences are not the guest's, which a reset begins anew, but
	 * numbers that grow by one, from 1. */
	struct vgf_fence_name fence;
	uint32_t flags; /* of enum vgf_fence_flags */
	bool is_job;    /* a SUBMIT_3D */
	bool malformed; /* that cannot be decoded; it has no submission */
	struct vgf_submit_3d submit;
	/* Of CTX_CREATE: it was created before, and the device was reset since, which has no
	 * record. */
	bool context_is_open;
	uint32_t context; /* which one of all that had its ID: each has rings of its own */
	uint64_t busy_ns; /* how long the job keeps its ring busy */
	size_t ring;      /* of a job: which of the workload's rings it runs on */
	size_t timeline;  /* of a fence: which of the workload's timelines it is on */

	enum anchor anchor;
	uint64_t delay_ns;         /* after the anchor */
	size_t completions_before; /* in the trace; only they count for ANCHOR_COMPLETION */
};

struct workload {
	struct trace trace;
	bool fence_passing;
	enum pace pace;                    /* never PACE_DEFAULT */
	struct workload_request *requests; /* in the order in which they were sent */
	size_t num_requests;
	size_t num_jobs, num_fenced_jobs;
	uint64_t num_in_fences;
	size_t first_job;    /* WORKLOAD_NONE if there is none */
	size_t *completions; /* the requests that were completed, in that order */
	size_t num_completions;
	size_t num_rings, num_timelines;
	size_t *fences; /* the requests that have one, by number: that of 1 first */
	size_t num_fences;
};

/* Loads a trace. Returns 0, or a negative errno value after a message to stderr; then there is
 * nothing to finish. */
int workload_load(struct workload *workload, const char *path, enum pace pace);
/* The same of bytes from malloc, which belong to the workload from the call on, also when it fails;
 * path: for messages. */
int workload_parse_take(
	struct workload *workload, void *bytes, size_t size, const char *path, enum pace pace);
void workload_finish(struct workload *workload);

/* The request with this fence, or WORKLOAD_NONE. */
size_t workload_find_fence(const struct workload *workload, const struct vgf_fence_name *fence);

/* The same of an in-fence, which comes without context and ring. */
size_t workload_find_in_fence(const struct workload *workload, uint64_t fence_id);

#endif
