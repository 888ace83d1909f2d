/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_gpu.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include <vgfence/context_driver.h>
#include <vgfence/inspect.h>
#include <vgfence/submit_3d.h>
#include <vgfence/vgfence.h>

#include "clock.h"
#include "placement.h"
#include "vmm.h"

/* Far longer than any job in a recording, so that only a fence that was lost is given up. */
#define STUCK_NS (30 * NS_PER_S)
#define STUCK_MS 30000

/* A job has four events; a fault may add some. */
#define EVENTS_PER_JOB 6

enum request_state {
	REQUEST_UNSENT,
	REQUEST_SENT,
	REQUEST_REFUSED, /* its fence retires nevertheless */
	REQUEST_COMPLETED,
};

struct vmm {
	const struct workload *workload;
	const struct vmm_options *options;
	struct vmm_result *result;
	struct vgf_device *device;
	struct soft_gpu *gpu;
	struct placement placement;
	int device_fd;

	enum request_state *states; /* for each request */
	uint64_t *completed_ns;     /* for each request */
	size_t num_sent, num_completed;
	uint64_t *happened_ns; /* for each recorded completion: when it and all before had come */
	size_t num_happened;
	uint64_t start_ns, first_job_ns, last_retire_ns;
};

static int fault(struct vmm *vmm, int error, const char *what, const struct vgf_fence_name *fence)
{
	fprintf(stderr,
		"vgfence: context %" PRIu32 ", ring %" PRId32 ", fence %" PRIu64 ": %s: %s\n",
		fence->ctx_id, fence->ring, fence->fence_id, what, strerror(-error));
	vmm->result->faults++;
	return error;
}

/* ---- Completions ---------------------------------------------------------------------------- */

static void complete(struct vmm *vmm, size_t index, uint64_t now)
{
	const struct workload *workload = vmm->workload;

	vmm->states[index] = REQUEST_COMPLETED;
	vmm->completed_ns[index] = now;
	vmm->num_completed++;
	while (vmm->num_happened < workload->num_completions) {
		size_t next = workload->completions[vmm->num_happened];
		uint64_t last_ns = vmm->num_happened > 0 ? vmm->happened_ns[vmm->num_happened - 1] :
							   0;
		uint64_t next_ns = vmm->completed_ns[next];

		if (vmm->states[next] != REQUEST_COMPLETED) {
			break;
		}
		vmm->happened_ns[vmm->num_happened++] = next_ns > last_ns ? next_ns : last_ns;
	}
}

static void retire(void *cookie, const struct vgf_retired *retired)
{
	const struct vgf_fence_name *fence = &retired->fence;
	int status = retired->status;

	uint64_t now = now_ns();
	struct vmm *vmm = cookie;
	size_t index = workload_find_fence(vmm->workload, fence);

	if (vmm->result->stuck) {
		return; /* What was pending is cancelled; that is known. */
	}
	if (index == WORKLOAD_NONE || vmm->states[index] == REQUEST_UNSENT) {
		fault(vmm, -ENOENT, "retired without being sent", fence);
		return;
	}
	if (vmm->workload->requests[index].is_job) {
		events_add(&vmm->result->events, EVENT_RETIRE, fence, now);
		vmm->last_retire_ns = now;
	}
	if (vmm->states[index] == REQUEST_COMPLETED) {
		fault(vmm, -EEXIST, "retired twice", fence);
		return;
	}
	if (vmm->states[index] == REQUEST_SENT && status < 0) {
		fault(vmm, status, "retired with an error", fence);
	} else if (vmm->states[index] == REQUEST_SENT && vmm->workload->requests[index].is_job) {
		vmm->result->retired++;
	}
	complete(vmm, index, now);
}

static void log_message(void *cookie, enum vgf_log_level level, const char *message)
{
	(void)cookie;
	if (level != VGF_LOG_DEBUG) {
		fprintf(stderr, "vgfence: %s\n", message);
	}
}

/* ---- Observing the GPU ---------------------------------------------------------------------- */

static void observe_run(void *data, const struct vgf_job *job, uint64_t t_ns)
{
	struct vmm *vmm = data;
	struct event *event;

	if (job->flags & VGF_FENCED) {
		event = events_add(&vmm->result->events, EVENT_RUN, &job->fence, t_ns);
		if (event != NULL) {
			event->how = job->wait;
		}
	}
}

static void observe_signal(void *data, const struct vgf_fence_name *fence, uint64_t t_ns)
{
	struct vmm *vmm = data;

	events_add(&vmm->result->events, EVENT_SIGNAL, fence, t_ns);
}

/* ---- Sending -------------------------------------------------------------------------------- */

/* Refuses a job that the decoder did not take. Returns whether its fence will retire. */
static bool refuse_malformed(
	struct vmm *vmm, const struct vgf_submission *submission, int error, const char *reason)
{
	fprintf(stderr, "vgfence: fence %" PRIu64 ": %s: %s\n", submission->fence.fence_id, reason,
		strerror(-error));
	return submission->flags & VGF_FENCED &&
		vgf_fence_refuse(vmm->device, &submission->fence, submission->flags, NULL, error) ==
		0;
}

static bool submit(
	struct vmm *vmm, const struct vgf_submission *submission, uint64_t now, int *error)
{
	struct event *event = NULL;
	bool will_retire;

	if (submission->flags & VGF_FENCED) {
		/* Before the call, in which the job may run. */
		event = events_add(&vmm->result->events, EVENT_ACCEPT, &submission->fence, now);
	}
	*error = vgf_submit(vmm->device, submission, &will_retire);
	if (*error < 0 && event != NULL) {
		event->kind = EVENT_REJECT;
		event->t_ns = now_ns();
	}
	return will_retire;
}

/* As the device does, with the workload's numbers in place of the guest's fence IDs. */
static int decode(struct vmm *vmm, const struct workload_request *request,
	struct vgf_submit_3d *decoded, const char **reason)
{
	/* A Linux guest puts the header and what follows it into buffers of their own. */
	size_t cut = sizeof(struct virtio_gpu_cmd_submit);
	struct iovec iov[2];
	int ret;

	if (cut > request->size) {
		cut = request->size;
	}
	iov[0] = (struct iovec){ (void *)request->data, cut };
	iov[1] = (struct iovec){ (void *)(request->data + cut), request->size - cut };
	ret = vgf_submit_3d_decode(iov, 2, vmm->workload->fence_passing, NULL, decoded, reason);
	decoded->submission.fence = request->fence;
	if (ret == 0) {
		decoded->submission.in_fences = request->submit.submission.in_fences;
	}
	return ret;
}

static void send_job(struct vmm *vmm, size_t index, uint64_t now)
{
	const struct workload_request *request = &vmm->workload->requests[index];
	struct vgf_submit_3d decoded;
	const char *reason;
	bool will_retire;
	int error = decode(vmm, request, &decoded, &reason);

	if (error < 0) {
		will_retire = refuse_malformed(vmm, &decoded.submission, error, reason);
	} else {
		will_retire = submit(vmm, &decoded.submission, now, &error);
		vgf_submit_3d_finish(&decoded);
	}
	if (error < 0) {
		vmm->result->refused++;
		vmm->states[index] = REQUEST_REFUSED;
	}
	if (!will_retire) {
		complete(vmm, index, now_ns());
	}
}

/* What is not a job matters to contexts, or not at all; a fence of it is done at once. */
static void send_other(struct vmm *vmm, size_t index)
{
	const struct workload_request *request = &vmm->workload->requests[index];
	int ret = 0;

	if (request->type == VIRTIO_GPU_CMD_CTX_CREATE) {
		if (request->context_is_open) {
			vgf_context_destroy(vmm->device, request->fence.ctx_id);
		}
		ret = soft_gpu_context_create(vmm->gpu, request->fence.ctx_id, 0);
	} else if (request->type == VIRTIO_GPU_CMD_CTX_DESTROY) {
		ret = vgf_context_destroy(vmm->device, request->fence.ctx_id);
	}
	if (ret < 0) {
		fault(vmm, ret, "the context command failed", &request->fence);
	}
	if (request->flags & VGF_FENCED) {
		ret = vgf_fence_create_take(
			vmm->device, &request->fence, request->flags, NULL, VGF_FENCE_DONE);
		if (ret == 0) {
			return;
		}
		fault(vmm, ret, "the fence could not be made", &request->fence);
	}
	complete(vmm, index, now_ns());
}

static void send_next(struct vmm *vmm, uint64_t now)
{
	size_t index = vmm->num_sent++;

	vmm->states[index] = REQUEST_SENT;
	if (index == vmm->workload->first_job) {
		vmm->first_job_ns = now;
	}
	if (vmm->workload->requests[index].is_job) {
		send_job(vmm, index, now);
	} else {
		send_other(vmm, index);
	}
}

/* When the next request may be sent; UINT64_MAX: not before another one is completed. */
static uint64_t next_send_ns(const struct vmm *vmm)
{
	const struct workload_request *request = &vmm->workload->requests[vmm->num_sent];

	if (vmm->num_sent == vmm->workload->num_requests ||
		vmm->num_sent - vmm->num_completed >= vmm->options->window) {
		return UINT64_MAX;
	}
	switch (request->anchor) {
	case ANCHOR_NONE:
		return 0;
	case ANCHOR_START:
		return vmm->start_ns + request->delay_ns;
	case ANCHOR_FIRST_JOB:
		return vmm->first_job_ns + request->delay_ns;
	case ANCHOR_COMPLETION:
		break;
	}
	if (vmm->num_happened < request->completions_before) {
		return UINT64_MAX;
	}
	return vmm->happened_ns[request->completions_before - 1] + request->delay_ns;
}

/* ---- The loop ------------------------------------------------------------------------------- */

static int dispatch(struct vmm *vmm, int timeout_ms)
{
	int ret = vgf_device_dispatch(vmm->device, timeout_ms);

	if (ret < 0 && ret != -EINTR) {
		fprintf(stderr, "vgfence: dispatching failed: %s\n", strerror(-ret));
		return ret;
	}
	return 0;
}

/*
 * Dispatches until until_ns at most. Shortly before that it no longer sleeps, as a timer would
 * come too late: the guest's own delays are to be as long as they were.
 */
static int wait_for_event(struct vmm *vmm, uint64_t until_ns)
{
	struct pollfd poll_fd = { .fd = vmm->device_fd, .events = POLLIN };
	struct timespec timeout;

	if (until_ns == UINT64_MAX) {
		return dispatch(vmm, STUCK_MS);
	}
	if (until_ns > now_ns() + SPIN_NS) {
		timeout = time_until(until_ns - SPIN_NS);
		if (ppoll(&poll_fd, 1, &timeout, NULL) <= 0) {
			return 0;
		}
	}
	return dispatch(vmm, 0);
}

static int give_up(struct vmm *vmm)
{
	char *text;

	fprintf(stderr, "vgfence: nothing happened for %d s; what is pending:\n", STUCK_MS / 1000);
	if (vgf_device_dump(vmm->device, &text) == 0) {
		fputs(text, stderr);
		free(text);
	}
	vmm->result->stuck = true;
	return 0;
}

static int run(struct vmm *vmm)
{
	uint64_t progress_ns = now_ns();
	size_t num_events = 0;
	int ret = 0;

	vmm->start_ns = progress_ns;
	while (ret == 0 && vmm->num_completed < vmm->workload->num_requests) {
		uint64_t send_ns = next_send_ns(vmm);
		uint64_t now = now_ns();

		if (send_ns <= now) {
			send_next(vmm, now);
			progress_ns = now;
			send_ns = now;
		}
		ret = wait_for_event(vmm, send_ns);
		now = now_ns();
		if (events_count(&vmm->result->events) != num_events || send_ns != UINT64_MAX) {
			num_events = events_count(&vmm->result->events);
			progress_ns = now;
		}
		if (now - progress_ns >= STUCK_NS) {
			return give_up(vmm);
		}
	}
	return ret;
}

/* ---- Results -------------------------------------------------------------------------------- */

static int compare_times(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

/* Nearest rank: the smallest value that `percent` of all do not exceed. */
static uint64_t percentile(const uint64_t *sorted, size_t count, unsigned int percent)
{
	return sorted[(count * percent + 99) / 100 - 1];
}

/* When each request's fence signalled or retired; 0 if it did not. */
static void collect(const struct vmm *vmm, enum event_kind kind, uint64_t *times)
{
	struct events *events = &vmm->result->events;
	size_t count = events_count(events);

	for (size_t i = 0; i < count; i++) {
		const struct event *event = &events->entries[i];
		size_t index = workload_find_fence(vmm->workload, &event->fence);

		if (event->kind == kind && index != WORKLOAD_NONE) {
			times[index] = event->t_ns;
		}
	}
}

static int measure_latency(struct vmm *vmm)
{
	const struct workload *workload = vmm->workload;
	size_t count = workload->num_requests, num_latencies = 0;
	uint64_t *signals = calloc(3 * count + workload->num_timelines + 1, sizeof(*signals));
	uint64_t *retires = signals + count, *latencies = retires + count;
	uint64_t *timelines = latencies + count; /* the latest signal so far */
	struct vmm_latency *latency = &vmm->result->signal_to_retire;

	if (signals == NULL) {
		return -ENOMEM;
	}
	collect(vmm, EVENT_SIGNAL, signals);
	collect(vmm, EVENT_RETIRE, retires);
	for (size_t i = 0; i < count; i++) {
		uint64_t *timeline = &timelines[workload->requests[i].timeline];

		if (signals[i] == 0 || retires[i] == 0) {
			continue;
		}
		*timeline = signals[i] > *timeline ? signals[i] : *timeline;
		latencies[num_latencies++] = retires[i] - *timeline;
	}
	if (num_latencies > 0) {
		qsort(latencies, num_latencies, sizeof(*latencies), compare_times);
		latency->p50_ns = percentile(latencies, num_latencies, 50);
		latency->p99_ns = percentile(latencies, num_latencies, 99);
		latency->max_ns = latencies[num_latencies - 1];
	}
	free(signals);
	return 0;
}

static int summarise(struct vmm *vmm, const struct vgf_stats *stats)
{
	struct vmm_result *result = vmm->result;

	result->ready = stats->run_ready;
	result->driver = stats->run_driver + stats->run_gl;
	result->held = stats->run_host;
	if (vmm->last_retire_ns > vmm->first_job_ns) {
		result->makespan_ns = vmm->last_retire_ns - vmm->first_job_ns;
	}
	if (atomic_load(&result->events.num_added) > result->events.max_entries) {
		fprintf(stderr, "vgfence: more happened than can have happened\n");
		result->faults++;
	}
	events_sort(&result->events);
	return measure_latency(vmm);
}

/* ---- The whole ------------------------------------------------------------------------------ */

static int allocate(struct vmm *vmm)
{
	size_t count = vmm->workload->num_requests + 1;

	vmm->states = calloc(count, sizeof(*vmm->states));
	vmm->completed_ns = calloc(count, sizeof(*vmm->completed_ns));
	vmm->happened_ns = calloc(count, sizeof(*vmm->happened_ns));
	if (vmm->states == NULL || vmm->completed_ns == NULL || vmm->happened_ns == NULL) {
		return -ENOMEM;
	}
	return events_init(&vmm->result->events, EVENTS_PER_JOB * vmm->workload->num_jobs);
}

static int create_device(struct vmm *vmm)
{
	const struct vgf_callbacks callbacks = {
		.size = sizeof(struct vgf_callbacks), .retire = retire, .log = log_message
	};
	const struct soft_gpu_options gpu_options = {
		.fences = vmm->options->fences,
		.wait = vmm->options->wait,
		.observer = { .run = observe_run, .signal = observe_signal, .data = vmm },
		.own_cpus = vmm->placement.split ? &vmm->placement.gpu : NULL,
	};
	int ret = vgf_device_create(&callbacks, vmm, NULL, &vmm->device);

	if (ret < 0) {
		return ret;
	}
	vmm->device_fd = vgf_device_get_fd(vmm->device);
	vgf_device_trace(vmm->device, vmm->options->listener, vmm->options->listener_arg);
	return soft_gpu_create(vmm->device, &gpu_options, &vmm->gpu);
}

/* The library could not know that they were not done. */
static void count_expired(struct vmm *vmm)
{
	uint32_t num_expired = vmm->gpu != NULL ? soft_gpu_num_expired(vmm->gpu) : 0;

	if (num_expired > 0) {
		fprintf(stderr,
			"vgfence: %" PRIu32 " jobs took longer than the 10 s that vgem allows\n",
			num_expired);
		vmm->result->faults += num_expired;
	}
}

static void destroy_device(struct vmm *vmm)
{
	if (vmm->gpu != NULL) {
		soft_gpu_reset(vmm->gpu);
	}
	vgf_device_destroy(vmm->device);
	soft_gpu_destroy(vmm->gpu);
}

int vmm_replay(const struct workload *workload, const struct vmm_options *options,
	struct vmm_result *result)
{
	struct vmm vmm = { .workload = workload, .options = options, .result = result };
	struct vgf_stats stats = { .size = sizeof(stats) };
	int ret;

	*result = (struct vmm_result){ 0 };
	/* Sleeps end at the nanosecond asked for, not up to 50 us later. */
	prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
	placement_find(&vmm.placement);
	ret = allocate(&vmm);
	if (ret == 0) {
		ret = create_device(&vmm);
	}
	/* Now, not before: the GPU's thread would have to leave too. */
	placement_leave(&vmm.placement);
	if (ret == 0) {
		ret = run(&vmm);
		vgf_device_get_stats(vmm.device, &stats);
	}
	count_expired(&vmm);
	destroy_device(&vmm);
	placement_return(&vmm.placement);
	if (ret == 0) {
		ret = summarise(&vmm, &stats);
	}
	if (ret < 0) {
		fprintf(stderr, "vgfence: the replay failed: %s\n", strerror(-ret));
	}
	free(vmm.states);
	free(vmm.completed_ns);
	free(vmm.happened_ns);
	return ret;
}

void vmm_result_finish(struct vmm_result *result)
{
	events_finish(&result->events);
}

bool vmm_result_ok(const struct workload *workload, const struct vmm_result *result)
{
	return !result->stuck && result->refused == 0 && result->faults == 0 &&
		result->retired == workload->num_fenced_jobs;
}
