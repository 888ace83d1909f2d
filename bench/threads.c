/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * vgfence bench threads: time of a fence if one thread submits, and if several do, as those of a
 * VMM's queues. Each has a context of its own, submits work and signals its fence by call, and
 * waits while so many have not retired as a queue has room for. One more thread dispatches, and
 * tells them of room once a round, as a VMM interrupts its guest. So all that they share is the
 * device.
 */

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#include <json-c/json.h>

#include <vgfence/context_driver.h>
#include <vgfence/vgfence.h>

#include "bench.h"
#include "clock.h"

#define MAX_ROUNDS 15        /* the median of them counts; odd */
#define FENCES_A_ROUND 40000 /* of all threads together */
#define QUEUE_SIZE 64
#define MAX_THREADS 10
#define LOOK_AGAIN_MS 1000 /* whether a thread has given up */

static const unsigned int counts[] = { 1, 2, 4, MAX_THREADS };

#define NUM_COUNTS (sizeof(counts) / sizeof(counts[0]))

struct submitter {
	struct crowd *crowd;
	pthread_t thread;
	uint32_t ctx_id;
	atomic_int room;   /* in its queue; -1: it waits for some */
	sem_t has_room;    /* posted if it waited */
	uint32_t num_done; /* of its fences, in this round */
};

struct crowd {
	struct vgf_device *device;
	struct submitter submitters[MAX_THREADS];
	uint32_t fences;  /* of each */
	uint32_t retired; /* of all */
	atomic_int error; /* of a thread that has given up */
};

static void on_retire(void *cookie, const struct vgf_retired *retired)
{
	struct crowd *crowd = cookie;

	crowd->retired++;
	crowd->submitters[retired->fence.ctx_id - 1].num_done++;
}

static void on_retire_end(void *cookie)
{
	struct crowd *crowd = cookie;

	for (size_t i = 0; i < MAX_THREADS; i++) {
		struct submitter *submitter = &crowd->submitters[i];
		int room = (int)submitter->num_done;
		submitter->num_done = 0;
		if (room > 0 && atomic_fetch_add(&submitter->room, room) < 0) {
			sem_post(&submitter->has_room);
		}
	}
}

static int on_submit(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	(void)data;
	(void)job;
	*out_fence_fd = VGF_FENCE_BY_CALL;
	return 0;
}

static void take_room(struct submitter *submitter)
{
	if (atomic_fetch_sub(&submitter->room, 1) > 0) {
		return;
	}
	while (sem_wait(&submitter->has_room) < 0) {
		/* A signal handler came between. */
	}
}

static int pass_fence(struct submitter *submitter, uint64_t fence_id)
{
	static const uint32_t command[8];
	const struct vgf_submission submission = {
		.fence = { .fence_id = fence_id, .ctx_id = submitter->ctx_id },
		.flags = VGF_FENCED,
		.command = command,
		.size = sizeof(command),
	};
	struct vgf_device *device = submitter->crowd->device;
	int ret;

	take_room(submitter);
	ret = vgf_submit(device, &submission, NULL);
	return ret < 0 ? ret : vgf_fence_signal(device, &submission.fence, 0);
}

static void *submit_all(void *arg)
{
	struct submitter *submitter = arg;
	struct crowd *crowd = submitter->crowd;
	int ret = 0;

	for (uint32_t i = 1; i <= crowd->fences && ret == 0; i++) {
		ret = pass_fence(submitter, (uint64_t)submitter->ctx_id << 32 | i);
	}
	if (ret < 0) {
		crowd->error = ret;
	}
	return NULL;
}

static int dispatch_until(struct crowd *crowd, uint32_t retired)
{
	while (crowd->retired < retired && crowd->error == 0) {
		int ret = vgf_device_dispatch(crowd->device, LOOK_AGAIN_MS);
		if (ret < 0 && ret != -EINTR) {
			return ret;
		}
	}
	return crowd->error;
}

/* What has been started is waited for, whatever happens. */
static int pass_all(struct crowd *crowd, unsigned int count)
{
	unsigned int started = 0;
	int ret = 0;

	while (started < count && ret == 0) {
		struct submitter *submitter = &crowd->submitters[started];
		ret = -pthread_create(&submitter->thread, NULL, submit_all, submitter);
		started += ret == 0;
	}
	int error = dispatch_until(crowd, started * crowd->fences);
	for (unsigned int i = 0; i < started && error == 0; i++) {
		pthread_join(crowd->submitters[i].thread, NULL);
	}
	return ret < 0 ? ret : error;
}

static int create_contexts(struct crowd *crowd, unsigned int count)
{
	static const struct vgf_driver driver = {
		.size = sizeof(struct vgf_driver), .wait = VGF_WAIT_HOST, .submit = on_submit
	};
	int ret = 0;

	for (unsigned int i = 0; i < count && ret == 0; i++) {
		struct submitter *submitter = &crowd->submitters[i];
		submitter->crowd = crowd;
		submitter->ctx_id = i + 1;
		submitter->room = QUEUE_SIZE;
		sem_init(&submitter->has_room, 0, 0);
		ret = vgf_context_create(crowd->device, submitter->ctx_id, &driver, NULL);
	}
	return ret;
}

/* The program ends after an error, and with it the threads that still wait for room. */
static int measure(unsigned int count, double *ns)
{
	static const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = on_retire,
		.retire_end = on_retire_end };
	static struct crowd crowd;
	uint64_t start;
	int ret;

	crowd = (struct crowd){ .fences = FENCES_A_ROUND / count };
	ret = vgf_device_create(&callbacks, &crowd, NULL, &crowd.device);
	if (ret == 0) {
		ret = create_contexts(&crowd, count);
	}
	start = now_ns();
	if (ret == 0) {
		ret = pass_all(&crowd, count);
	}
	*ns = (double)(now_ns() - start) / (crowd.fences * count);
	if (ret < 0) {
		return bench_error(ret, "threads");
	}
	vgf_device_destroy(crowd.device);
	for (unsigned int i = 0; i < count; i++) {
		sem_destroy(&crowd.submitters[i].has_room);
	}
	return 0;
}

static void print_header(unsigned int rounds)
{
	printf("bench threads: a fence by call, submitted and signalled by one of so many "
	       "threads,\n"
	       "each with a context and a queue of %d of its own, and dispatched by one more; "
	       "medians\n"
	       "of %u rounds, in nanoseconds a fence of all threads together\n"
	       "%9s %9s %9s\n",
		QUEUE_SIZE, rounds, "threads", "ns", "of one's");
}

static void report(struct json_object *array, unsigned int threads, double ns, double of_one)
{
	if (!array) {
		printf("%9u %9.0f %8.2fx\n", threads, ns, of_one);
		return;
	}
	struct json_object *object = json_object_new_object();
	json_object_object_add(object, "threads", json_object_new_int64(threads));
	json_object_object_add(object, "ns", bench_number(ns));
	json_object_object_add(object, "of_one", bench_number(of_one));
	json_object_array_add(array, object);
}

int bench_threads(unsigned int rounds, struct json_object *array)
{
	double samples[NUM_COUNTS][MAX_ROUNDS], ratios[NUM_COUNTS][MAX_ROUNDS];

	rounds = bench_rounds(rounds, MAX_ROUNDS);
	for (unsigned int round = 0; round < rounds; round++) {
		bench_progress("threads", round, rounds);
		for (size_t i = 0; i < NUM_COUNTS; i++) {
			int error = measure(counts[i], &samples[i][round]);
			if (error < 0) {
				return error;
			}
			ratios[i][round] = samples[i][round] / samples[0][round];
		}
	}
	bench_progress("threads", rounds, rounds);
	if (!array) {
		print_header(rounds);
	}
	for (size_t i = 0; i < NUM_COUNTS; i++) {
		report(array, counts[i], bench_percentile(samples[i], rounds, 50),
			bench_percentile(ratios[i], rounds, 50));
	}
	return 0;
}
