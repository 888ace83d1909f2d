/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include <err.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <xf86drm.h>

#include "workloads.h"

#define NUM_CONTEXTS 3
#define NUM_JOBS 120

/* VIRGL_CCMD_NOP, and nothing with it: what counts here is the fence. */
static const uint32_t stream[] = { 0 };

static int open_context(void)
{
	int fd = open_render_node(0);
	int ret = context_init(fd, CAPSET_VIRGL2, 1, true);

	if (ret < 0) {
		errx(1, "making a context of virgl: %s", strerror(-ret));
	}
	return fd;
}

static int submit(int fd, int in_fence_fd)
{
	struct uapi_execbuffer exec = {
		.flags = UAPI_EXEC_RING_IDX | UAPI_EXEC_FENCE_FD_OUT | UAPI_EXEC_SHARED_FENCE,
		.size = sizeof(stream),
		.command = (uintptr_t)stream,
		.fence_fd = in_fence_fd,
	};

	if (in_fence_fd >= 0) {
		exec.flags |= UAPI_EXEC_FENCE_FD_IN;
	}
	if (drmIoctl(fd, UAPI_IOCTL_EXECBUFFER, &exec) < 0) {
		err(1, "submitting to virgl");
	}
	return exec.fence_fd;
}

/* Of each context, from the newest on: all before one that has signalled must have. */
static uint32_t check_order(const int *fences, uint32_t count)
{
	bool must[NUM_CONTEXTS] = { false };
	uint32_t num_checks = 0;

	for (uint32_t i = count; i-- > 0;) {
		uint32_t context = i % NUM_CONTEXTS;

		if (wait_fence(fences[i], 0)) {
			must[context] = true;
			num_checks++;
		} else if (must[context]) {
			errx(1, "job %u of virgl is not done, and a later one of its context is",
				i);
		}
	}
	return num_checks;
}

/* Each job waits for the one before it, which is of another context. */
uint32_t check_virgl(void)
{
	int contexts[NUM_CONTEXTS], fences[NUM_JOBS];
	uint32_t num_checks = 0;

	for (uint32_t i = 0; i < NUM_CONTEXTS; i++) {
		contexts[i] = open_context();
	}
	for (uint32_t i = 0; i < NUM_JOBS; i++) {
		fences[i] = submit(contexts[i % NUM_CONTEXTS], i > 0 ? fences[i - 1] : -1);
	}
	for (uint32_t i = 0; i < NUM_JOBS; i++) {
		if (!wait_fence(fences[i], RUN_TIMEOUT_MS)) {
			errx(1, "the fence of job %u of virgl is lost", i);
		}
		num_checks += check_order(fences, NUM_JOBS);
	}
	for (uint32_t i = 0; i < NUM_JOBS; i++) {
		close(fences[i]);
	}
	for (uint32_t i = 0; i < NUM_CONTEXTS; i++) {
		close(contexts[i]);
	}
	return num_checks;
}
