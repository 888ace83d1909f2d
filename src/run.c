/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>

#include "attach.h"
#include "dispatcher.h"
#include "error_name.h"
#include "lock.h"
#include "log.h"
#include "run.h"

static void count_run(struct vgf_stats *stats, enum vgf_wait wait)
{
	switch (wait) {
	case VGF_WAIT_NONE:
		stats->run_ready++;
		break;
	case VGF_WAIT_DRIVER:
		stats->run_driver++;
		break;
	case VGF_WAIT_GL:
		stats->run_gl++;
		break;
	case VGF_WAIT_HOST:
		stats->run_host++;
		break;
	}
}

/* What the driver answered becomes the state of the out-fence. */
static void settle_fence(
	struct vgf_device *device, struct submission *submission, int ret, int out_fence_fd)
{
	struct fence *fence = submission->fence;

	/* A driver that works by call may have signalled already, or published a descriptor. */
	if (fence && !(fence->flags & FENCE_SIGNALLED)) {
		if (ret < 0) {
			fence_signal(&device->fences, fence, ret);
		} else if (out_fence_fd == VGF_FENCE_DONE) {
			fence_signal(&device->fences, fence, 0);
		} else if (out_fence_fd >= 0 && fence->fd < 0) {
			fence_publish(&device->fences, fence, out_fence_fd);
			attach_all(device, fence);
			return;
		} else if (submission->driver->driver.family && fence->fd < 0) {
			fence_hand(&device->fences, fence);
		}
	}
	submission->unused_fd = out_fence_fd;
}

static void log_failure(struct vgf_device *device, const struct submission *submission, int error)
{
	char name[NAME_SIZE];

	device_log(device, VGF_LOG_WARNING, "%s: the driver's submit failed: %s",
		name_text(name, &submission->name), error_name(error));
}

/* Returns false if the submission must wait in its queue once more. */
static bool run_work(struct vgf_device *device, struct submission *submission)
{
	struct context_driver *driver = submission->driver;
	struct vgf_job job = {
		.fence = submission->name,
		.flags = submission->flags,
		.command = submission->command,
		.size = submission->size,
	};
	union in_fence_slot few[FEW_IN_FENCES];
	int out_fence_fd = VGF_FENCE_BY_CALL;
	bool again;
	int ret;

	submission_lend(submission, few, &job);
	job.wait = submission->waited ? VGF_WAIT_HOST : VGF_WAIT_NONE;
	if (job.num_in_fences > 0 || job.num_family_fences > 0) {
		job.wait = driver->driver.wait;
	}
	trace_run(&device->fences.tracer, &job.fence, job.flags, job.wait);

	device_unlock_unlogged(device);
	ret = driver->driver.submit(driver->data, &job, &out_fence_fd);
	device_lock(device);

	if (ret >= 0) {
		/* Anything else would be a fence that nobody ever signals. */
		ret = out_fence_fd >= VGF_FENCE_BY_CALL ? 0 : -EINVAL;
	}
	if (ret < 0) {
		out_fence_fd = VGF_FENCE_BY_CALL;
	}
	again = vgf_job_runs_again(&job, ret);
	if (again && submission->status < 0) {
		ret = submission->status; /* cancelled meanwhile */
		again = false;
	} else if (again) {
		/* Held from now on, so the caller's memory is no longer good enough. */
		int held = submission_hold(&device->contexts, submission);
		again = held == 0;
		ret = again ? 1 : held;
	}
	submission_return(&device->contexts, submission, again);
	if (submission->result) {
		*submission->result = ret;
		submission->result = NULL;
	}
	if (again) {
		trace_hold(&device->fences.tracer, &job.fence, job.flags);
		return false;
	}
	if (ret < 0) {
		log_failure(device, submission, ret);
	}
	count_run(&device->stats, job.wait);
	settle_fence(device, submission, ret, out_fence_fd);
	return true;
}

static bool run_submission(struct vgf_device *device, struct submission *submission)
{
	struct context_driver *driver = submission->driver;
	int status = submission->status;

	switch (submission->kind) {
	case SUBMISSION_WORK:
		if (status == 0) {
			return run_work(device, submission);
		}
		if (submission->fence && !(submission->fence->flags & FENCE_SIGNALLED)) {
			fence_signal(&device->fences, submission->fence, status);
		}
		break;
	case SUBMISSION_CALL:
		device_unlock_unlogged(device);
		submission->fn(submission->arg, status);
		device_lock(device);
		break;
	case SUBMISSION_DESTROY:
		device_unlock_unlogged(device);
		if (driver->driver.destroy) {
			driver->driver.destroy(driver->data, status < 0);
		}
		device_lock(device);
		break;
	}
	if (submission->result) {
		*submission->result = 0;
	}
	return true;
}

static void submission_end(struct vgf_device *device, struct submission *submission)
{
	if (submission->kind == SUBMISSION_DESTROY) {
		context_driver_destroyed(submission->driver);
		return;
	}
	if (submission->fence) {
		submission->fence->submission = NULL;
		fence_unref(&device->fences, submission->fence);
	}
	submission_discard(&device->contexts, submission);
}

void run_next(struct vgf_device *device, struct queue *queue)
{
	struct ctx_sync *contexts = &device->contexts;
	struct submission *submission;
	bool done;

	if (queue->running) {
		return;
	}
	queue_sleep(queue);
	submission = queue_next(contexts, queue);
	if (!submission) {
		return;
	}
	queue_run_begin(contexts, queue);
	done = run_submission(device, submission);
	queue_run_end(contexts, queue);
	if (done) {
		queue_done(contexts, queue, submission);
		submission_end(device, submission);
	}
	queue_wake_if_ready(queue);
	pthread_cond_broadcast(&device->changed);
}

bool run_can_start(struct vgf_device *device, const struct submission *submission)
{
	bool right_thread = !device->options.run_in_dispatch ||
		(dispatcher_is_self(device) && !device->only_retires);

	return right_thread &&
		submission_can_run(&device->contexts, submission->context, submission);
}

int run_prepare(struct vgf_device *device, struct submission *submission, bool *run_now)
{
	int ret = 0;

	*run_now = run_can_start(device, submission);
	if (!*run_now) {
		ret = submission_hold(&device->contexts, submission);
	}
	return ret;
}

int run_start(struct vgf_device *device, struct submission *submission, bool run_now)
{
	struct queue *queue;
	int result = 1;

	queue = submission_enqueue(&device->contexts, submission->context, submission);
	if (run_now) {
		submission->result = &result;
		run_next(device, queue);
	} else if (queue) {
		queue_wake_if_ready(queue);
	}
	return result;
}

bool run_is_inside(struct vgf_device *device)
{
	struct queue *queue;

	LIST_FOREACH(queue, &device->contexts.running, running_link) {
		if (pthread_equal(queue->runner, pthread_self())) {
			return true;
		}
	}
	return false;
}
