/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <err.h>
#include <unistd.h>

#include <xf86drm.h>

#include "workloads.h"

#define THERE_BUSY_US 60
#define BACK_BUSY_US 40

/* A timeline that both contexts have, each by a handle of its own. */
struct timeline {
	uint32_t handles[2];
};

static void make_timeline(const struct run *run, struct timeline *timeline)
{
	int fd;

	if (drmSyncobjCreate(run->contexts[0].fd, 0, &timeline->handles[0]) < 0 ||
		drmSyncobjHandleToFD(run->contexts[0].fd, timeline->handles[0], &fd) < 0 ||
		drmSyncobjFDToHandle(run->contexts[1].fd, fd, &timeline->handles[1]) < 0) {
		err(1, "making a timeline syncobj");
	}
	close(fd);
}

static void destroy_timeline(const struct run *run, const struct timeline *timeline)
{
	for (uint32_t i = 0; i < 2; i++) {
		drmSyncobjDestroy(run->contexts[i].fd, timeline->handles[i]);
	}
}

/* From one context to the other and back. Job n (from 1) signals point n, and waits for point n -
 * 1. */
static void submit_round_trips(struct run *run, uint32_t units)
{
	struct timeline timeline;
	uint32_t previous = RUN_NO_JOB;
	uint32_t num_jobs = 2 * units;

	make_timeline(run, &timeline);
	for (uint32_t i = 0; i < num_jobs; i++) {
		uint32_t context = i % 2;
		struct uapi_syncobj in = { .handle = timeline.handles[context], .point = i };
		struct uapi_syncobj out = { .handle = timeline.handles[context], .point = i + 1 };

		previous = run_submit_syncobj(run, context, 0,
			context ? BACK_BUSY_US : THERE_BUSY_US, i > 0 ? &in : NULL, previous, &out,
			i + 1 == num_jobs);
	}
	destroy_timeline(run, &timeline);
}

const struct workload workload_syncobj = {
	.name = "syncobj",
	.unit = "round trip",
	.units = 100,
	.num_contexts = 2,
	.num_rings = 1,
	.submit = submit_round_trips,
};
