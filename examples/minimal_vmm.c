/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A VMM with vgfence, as small as it gets: two contexts, of which the second waits for the first.
 * Its GPU is an eventfd: a job is done when something is written to it.
 *
 *     cc minimal_vmm.c -o minimal_vmm $(pkg-config --cflags --libs vgfence)
 */

#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <vgfence/vgfence.h>

enum { PRODUCER = 1, CONSUMER = 2 };

struct gpu {
	struct vgf_device *fences;
	bool fence_passing; /* the guest has negotiated it */
	struct pollfd loop;
	int job_fd; /* of the job that runs; -1 for none */
	uint64_t last_retired;
};

/* ---- What a VMM has anyway ---- */

static void check(const char *what, int ret)
{
	if (ret < 0) {
		fprintf(stderr, "%s: %s\n", what, strerror(-ret));
		exit(1);
	}
}

static int watch_fd(struct gpu *gpu, int fd)
{
	gpu->loop = (struct pollfd){ .fd = fd, .events = POLLIN };
	return 0;
}

/* Completes the request with this fence, with a response that says how it ended. */
static void answer_request(
	struct gpu *gpu, uint32_t ctx_id, int32_t ring, uint64_t fence_id, int status)
{
	(void)ring;
	printf("context %u: fence %llu has retired (%d)\n", ctx_id, (unsigned long long)fence_id,
		status);
	gpu->last_retired = fence_id;
}

/* Completes the request that is being handled, if it has no fence or that has no place. */
static void answer_now(struct gpu *gpu, int status)
{
	(void)gpu;
	check("submit", status);
}

/* ---- The context driver: what runs command streams ---- */

static int driver_submit(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	struct gpu *gpu = data;

	printf("context %u: fence %llu runs\n", job->fence.ctx_id,
		(unsigned long long)job->fence.fence_id);
	gpu->job_fd = eventfd(0, EFD_CLOEXEC);
	*out_fence_fd = fcntl(gpu->job_fd, F_DUPFD_CLOEXEC, 0);
	return *out_fence_fd < 0 ? -errno : 0;
}

/* What a GPU does by itself. */
static void finish_job(struct gpu *gpu)
{
	check("eventfd", eventfd_write(gpu->job_fd, 1));
	close(gpu->job_fd);
	gpu->job_fd = -1;
}

/* ---- The device ---- */

/* A fence retires: answer the guest's request that has it. */
static void retire(void *cookie, const struct vgf_retired *retired)
{
	const struct vgf_fence_name *fence = &retired->fence;
	int status = retired->status;

	answer_request(cookie, fence->ctx_id, fence->ring, fence->fence_id, status);
}

static int gpu_init(struct gpu *gpu)
{
	const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = retire };
	int ret = vgf_device_create(&callbacks, gpu, NULL, &gpu->fences);

	return ret < 0 ? ret : watch_fd(gpu, vgf_device_get_fd(gpu->fences));
}

/* The descriptor is readable. */
static void gpu_fences_ready(struct gpu *gpu)
{
	vgf_device_dispatch(gpu->fences, 0);
}

static void gpu_submit_3d(struct gpu *gpu, const struct iovec *iov, size_t iov_count)
{
	struct vgf_submit_3d request;
	bool will_retire = false;
	int ret = vgf_submit_3d_decode(iov, iov_count, gpu->fence_passing, NULL, &request, NULL);

	if (ret == 0) {
		ret = vgf_submit(gpu->fences, &request.submission, &will_retire);
		vgf_submit_3d_finish(&request);
	} else if (request.submission.flags & VGF_FENCED) {
		will_retire = vgf_fence_refuse(
				      gpu->fences, &request.submission.fence, 0, NULL, ret) == 0;
	}
	if (!will_retire) {
		answer_now(gpu, ret);
	}
}

/* ---- The guest ---- */

/* A SUBMIT_3D request without commands. Numbers are little-endian on the wire: this is for hosts
 * that are, too. */
static void guest_submits(struct gpu *gpu, uint32_t ctx_id, uint64_t fence_id, uint64_t in_fence)
{
	struct {
		uint32_t type, flags;
		uint64_t fence_id;
		uint32_t ctx_id;
		uint8_t ring_idx, padding[3];
		uint32_t size, num_in_fences;
		uint64_t in_fence;
	} request = {
		.type = 0x0207,
		.flags = 1 | 2 | 4, /* FENCE, INFO_RING_IDX, FENCE_SHAREABLE */
		.fence_id = fence_id,
		.ctx_id = ctx_id,
		.num_in_fences = in_fence != 0,
		.in_fence = in_fence,
	};
	struct iovec iov = { .iov_base = &request, .iov_len = in_fence ? 40 : 32 };

	gpu_submit_3d(gpu, &iov, 1);
}

int main(void)
{
	const struct vgf_driver driver = {
		.size = sizeof(struct vgf_driver), .wait = VGF_WAIT_HOST, .submit = driver_submit
	};
	struct gpu gpu = { .fence_passing = true, .job_fd = -1 };
	struct vgf_stats stats = { .size = sizeof(stats) };

	check("init", gpu_init(&gpu));
	check("context", vgf_context_create(gpu.fences, PRODUCER, &driver, &gpu));
	check("context", vgf_context_create(gpu.fences, CONSUMER, &driver, &gpu));

	guest_submits(&gpu, PRODUCER, 1, 0);
	guest_submits(&gpu, CONSUMER, 2, 1);
	vgf_device_get_stats(gpu.fences, &stats);
	printf("%u submission is held back\n", stats.held);
	while (gpu.job_fd >= 0) {
		finish_job(&gpu);
		check("poll", poll(&gpu.loop, 1, -1));
		gpu_fences_ready(&gpu);
	}
	vgf_device_destroy(gpu.fences);
	return stats.held == 1 && gpu.last_retired == 2 ? 0 : 1;
}
