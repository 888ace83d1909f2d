/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "dispatcher.h"
#include "export.h"
#include "fence.h"
#include "lock.h"
#include "log.h"
#include "loop.h"
#include "options.h"
#include "run.h"
#include "struct_copy.h"
#include "watch.h"

/* ---- Creating ----------------------------------------------------------------------------- */

#define STRINGIFY(x) #x
#define VERSION_TEXT(major, minor, patch) STRINGIFY(major) "." STRINGIFY(minor) "." STRINGIFY(patch)

/* vgfence.h and meson.build have the same version. */
_Static_assert(VGF_VERSION_MAJOR == BUILD_VERSION_MAJOR, "VGF_VERSION_MAJOR");
_Static_assert(VGF_VERSION_MINOR == BUILD_VERSION_MINOR, "VGF_VERSION_MINOR");
_Static_assert(VGF_VERSION_PATCH == BUILD_VERSION_PATCH, "VGF_VERSION_PATCH");

VGF_EXPORT const char *vgf_version(void)
{
	return VERSION_TEXT(VGF_VERSION_MAJOR, VGF_VERSION_MINOR, VGF_VERSION_PATCH);
}

/* A table that grows later stalls every thread of the process for a grace period of the kernel. */
static void grow_descriptor_table(int fd, uint32_t max_fds)
{
	struct rlimit limit;
	int copy;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == 0) {
		return;
	}
	if (max_fds >= limit.rlim_cur) {
		max_fds = (uint32_t)limit.rlim_cur - 1;
	}
	copy = fcntl(fd, F_DUPFD_CLOEXEC, (int)max_fds);
	if (copy >= 0) {
		close(copy);
	}
}

/* It is held for less time than a thread takes to sleep and to wake up. So who finds it taken looks
 * again for a moment, as glibc can do, before it sleeps. */
static int init_lock(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attributes;
	int error;

	pthread_mutexattr_init(&attributes);
#ifdef __GLIBC__
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
#endif
	error = pthread_mutex_init(lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return error != 0 ? -ENOMEM : 0;
}

static int init_locks(struct vgf_device *device)
{
	pthread_condattr_t attributes;
	int ret = init_lock(&device->lock);

	if (ret < 0) {
		return ret;
	}
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&device->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	return 0;
}

static void finish_locks(struct vgf_device *device)
{
	pthread_cond_destroy(&device->changed);
	pthread_mutex_destroy(&device->lock);
}

static void *thread_main(void *data);

/* Signals are for the VMM's threads. */
static int start_thread(struct vgf_device *device)
{
	sigset_t all, old;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&device->thread, NULL, thread_main, device);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -ret;
}

static int device_init(struct vgf_device *device)
{
	int ret = fence_table_init(&device->fences);

	if (ret < 0) {
		return ret;
	}
	STAILQ_INIT(&device->retiring);
	ret = watch_init(device);
	if (ret < 0) {
		goto fail_watch;
	}
	ret = init_locks(device);
	if (ret < 0) {
		goto fail_locks;
	}
	ret = ctx_sync_init(
		&device->contexts, &device->fences, &device->options.limits, &device->stats);
	if (ret < 0) {
		goto fail_contexts;
	}
	grow_descriptor_table(device->epoll_fd, device->options.limits.max_fds);
	if (device->options.own_thread) {
		ret = start_thread(device);
	}
	if (ret == 0) {
		return 0;
	}
	ctx_sync_finish(&device->contexts);
fail_contexts:
	finish_locks(device);
fail_locks:
	watch_finish(device);
fail_watch:
	fence_table_finish(&device->fences);
	return ret;
}

/* What these had in 0.2, when they got a size. */
#define LEAST_CALLBACKS (offsetof(struct vgf_callbacks, log) + sizeof(void (*)(void)))
#define LEAST_OPTIONS (offsetof(struct vgf_options, ignore_bad_in_fences) + sizeof(bool))

static bool are_whole(const struct vgf_callbacks *callbacks)
{
	return (callbacks->retire || (callbacks->write_fence && callbacks->write_context_fence)) &&
		!callbacks->signal_enter == !callbacks->signal_leave;
}

static int copy_callbacks(struct vgf_callbacks *known, const struct vgf_callbacks *callbacks)
{
	int ret = -EINVAL;

	if (callbacks) {
		ret = struct_copy(
			known, sizeof(*known), LEAST_CALLBACKS, callbacks, callbacks->size);
	}
	return ret == 0 && !are_whole(known) ? -EINVAL : ret;
}

static int copy_options(struct vgf_options *known, const struct vgf_options *options)
{
	int ret = 0;

	if (options) {
		ret = struct_copy(known, sizeof(*known), LEAST_OPTIONS, options, options->size);
	}
	return ret == 0 ? options_resolve(known) : ret;
}

VGF_EXPORT int vgf_device_create(const struct vgf_callbacks *callbacks, void *cookie,
	const struct vgf_options *options, struct vgf_device **out)
{
	struct vgf_device *device;
	int ret;

	*out = NULL;
	device = calloc(1, sizeof(*device));
	if (!device) {
		return -ENOMEM;
	}
	device->cookie = cookie;
	device->timer_ns = UINT64_MAX;
	ret = copy_callbacks(&device->callbacks, callbacks);
	if (ret == 0) {
		ret = copy_options(&device->options, options);
	}
	if (ret == 0) {
		ret = device_init(device);
	}
	if (ret < 0) {
		free(device);
		return ret;
	}
	*out = device;
	return 0;
}

/* ---- Ending ------------------------------------------------------------------------------- */

static void close_contexts(struct vgf_device *device)
{
	struct context *context;

	LIST_FOREACH(context, &device->contexts.all, link) {
		if (context->current) {
			submission_enqueue(&device->contexts, context, context_close(context));
		}
	}
	contexts_cancel(&device->contexts,
		VGF_CANCEL_OPEN | VGF_CANCEL_DESTROYED | CANCEL_DESTROYING, -ECANCELED);
}

static void cancel_fences(struct vgf_device *device)
{
	struct timeline *timeline;
	struct fence *fence;

	TAILQ_FOREACH(timeline, &device->fences.busy, busy_link) {
		STAILQ_FOREACH(fence, &timeline->fences, link) {
			watch_ask(device, fence);
			if (!(fence->flags & FENCE_SIGNALLED)) {
				fence_signal(&device->fences, fence, -ECANCELED);
			}
		}
	}
}

/* Timelines that are left: a callback higher up the stack still holds their fences. */
static void forget_ids(struct vgf_device *device)
{
	struct context *context;

	device->fences.next_id = 0;
	timeline_forget_ids(&device->contexts.global);
	LIST_FOREACH(context, &device->contexts.all, link) {
		for (size_t ring = 0; ring < VGF_MAX_RINGS; ring++) {
			if (context->rings[ring]) {
				timeline_forget_ids(&context->rings[ring]->timeline);
			}
		}
	}
}

/* In the role of the dispatching thread, whose part it is to call drivers then. Nothing new is
 * accepted meanwhile, so it ends. */
static void cancel_all(struct vgf_device *device)
{
	bool only_retires = device->only_retires;

	device->resetting = true;
	device->only_retires = false;
	close_contexts(device);
	while (device->contexts.fd_share.running > 0 || device->contexts.copying > 0) {
		pthread_cond_wait(&device->changed, &device->lock);
	}
	cancel_fences(device);
	while (device_is_busy(device)) {
		loop_run(device, 0);
	}
	forget_ids(device);
	device->resetting = device->closing;
	device->only_retires = only_retires;
}

/* In no role. A dispatching thread that was pushed aside has yet to notice that it is over. */
static void device_end(struct vgf_device *device)
{
	bool own_thread = device->options.own_thread;

	while (device->blocked > 0 || device->depth > 0 || device->leaving > 0) {
		pthread_cond_wait(&device->changed, &device->lock);
	}
	device_unlock(device);
	if (own_thread && pthread_equal(device->thread, pthread_self())) {
		pthread_detach(device->thread);
	} else if (own_thread) {
		pthread_join(device->thread, NULL);
	}
	ctx_sync_finish(&device->contexts);
	fence_table_finish(&device->fences);
	watch_finish(device);
	finish_locks(device);
	free(device);
}

/* Gives the role back and unlocks. Returns ret, or -ECANCELED if the device is being
 * destroyed: then nothing of it may be used any more. */
static int leave(struct vgf_device *device, int ret)
{
	bool closing = device->closing;

	dispatcher_leave(device);
	if (device->depth > 0) {
		device_unlock(device);
	} else if (!closing) {
		closing = device_unlock_last(device);
	} else if (device->abandoned) {
		device->abandoned = false;
		device_end(device);
	} else {
		pthread_mutex_unlock(&device->lock);
	}
	return closing ? -ECANCELED : ret;
}

VGF_EXPORT int vgf_device_reset(struct vgf_device *device)
{
	device_lock(device);
	if (run_is_inside(device)) {
		device_unlock(device);
		return -EDEADLK;
	}
	dispatcher_enter(device, true);
	/* From inside a callback of a reset: that one is not done before all is. */
	if (!device->resetting) {
		cancel_all(device);
	}
	return leave(device, 0);
}

VGF_EXPORT void vgf_device_destroy(struct vgf_device *device)
{
	if (!device) {
		return;
	}
	device_lock(device);
	if (run_is_inside(device)) {
		device_log(device, VGF_LOG_ERROR,
			"vgf_device_destroy from inside a driver's function");
		device_unlock(device);
		return;
	}
	device->closing = true;
	dispatcher_enter(device, true);
	cancel_all(device);
	/* From inside a callback: this ends its batch, and the call at the bottom of the stack
	 * frees. */
	loop_tell_due(device);
	loop_announce(device);
	device->abandoned = true;
	leave(device, 0);
}

/* ---- Dispatching -------------------------------------------------------------------------- */

/* Callbacks that dispatch or drain are inside each other. Without a bound a batch of fences, whose
 * number is the guest's choice, would use up the stack. A reset may be inside of the last. */
#define MAX_DEPTH 16

enum round_kind {
	ROUND_WHOLE,
	ROUND_RETIRES,   /* and runs nothing */
	ROUND_SIGNALLED, /* and retires what was signalled by call */
};

/* What is inside of a signal only retires, too: that thread is a renderer's. */
static int run_round(struct vgf_device *device, int timeout_ms, enum round_kind kind)
{
	bool outside = device->only_retires;
	int ret;

	device->only_retires |= kind == ROUND_SIGNALLED;
	switch (kind) {
	case ROUND_RETIRES:
		ret = loop_retire(device);
		break;
	case ROUND_SIGNALLED:
		ret = loop_retire_signalled(device);
		break;
	default:
		ret = loop_run(device, timeout_ms);
	}
	device->only_retires = outside;
	return ret;
}

static int dispatch(struct vgf_device *device, int timeout_ms, enum round_kind kind)
{
	int ret = 0;

	dispatcher_enter(device, false);
	if (device->closing && device->depth == 1) {
		ret = -ECANCELED;
	} else if (device->depth <= MAX_DEPTH) {
		ret = run_round(device, timeout_ms, kind);
	}
	return leave(device, ret);
}

static void *thread_main(void *data)
{
	struct vgf_device *device = data;
	int ret;

	do {
		device_lock(device);
		ret = dispatch(device, -1, ROUND_WHOLE);
	} while (ret != -ECANCELED);
	return NULL;
}

VGF_EXPORT int vgf_device_get_fd(struct vgf_device *device)
{
	return device->options.own_thread ? -EBUSY : device->epoll_fd;
}

/* Whether another thread has the role, or waits to: who must not wait leaves it to that one. */
static bool is_taken(const struct vgf_device *device)
{
	return (device->depth > 0 || device->takers > 0) && !dispatcher_is_self(device);
}

static int try_dispatch(struct vgf_device *device, int timeout_ms, enum round_kind kind)
{
	int ret = 0;

	device_lock(device);
	if (run_is_inside(device)) {
		ret = -EDEADLK;
	} else if (dispatcher_is_other(device) || (kind == ROUND_RETIRES && is_taken(device))) {
		ret = -EBUSY;
	}
	if (ret < 0) {
		bool closing = device_unlock_last(device);
		return closing && ret == -EBUSY ? -ECANCELED : ret;
	}
	return dispatch(device, timeout_ms, kind);
}

VGF_EXPORT int vgf_device_dispatch(struct vgf_device *device, int timeout_ms)
{
	return try_dispatch(device, timeout_ms, ROUND_WHOLE);
}

VGF_EXPORT int vgf_device_retire(struct vgf_device *device)
{
	return try_dispatch(device, 0, ROUND_RETIRES);
}

/* Whether nobody else retires, or waits to: this thread must not wait. */
static bool may_retire_here(struct vgf_device *device)
{
	return device->depth == 0 && device->takers == 0 && !device->options.own_thread &&
		!run_is_inside(device);
}

/* After a callback the device may be gone. */
VGF_EXPORT int vgf_fence_signal(
	struct vgf_device *device, const struct vgf_fence_name *name, int status)
{
	const struct vgf_callbacks *callbacks = &device->callbacks;
	void (*signal_leave)(void *cookie) = callbacks->signal_leave;
	void *cookie = device->cookie;
	bool here;
	int ret;

	if (status > 0) {
		return -EINVAL;
	}
	here = callbacks->signal_enter && callbacks->signal_enter(cookie);
	device_lock(device);
	ret = fence_signal_by_name(device, name, status);
	if (here && ret == 0 && may_retire_here(device)) {
		dispatch(device, 0, ROUND_SIGNALLED);
	} else {
		device_unlock(device);
	}
	if (here) {
		signal_leave(cookie);
	}
	return ret;
}

/* 0, or -ETIMEDOUT. */
static int drain_once(struct vgf_device *device, int timeout_ms, uint64_t deadline_ns)
{
	uint64_t now = now_ns();

	if (timeout_ms < 0) {
		loop_run(device, -1);
	} else if (now < deadline_ns) {
		loop_run(device, (int)((deadline_ns - now + 999999) / 1000000));
	} else {
		loop_run(device, 0);
		return device_is_busy(device) ? -ETIMEDOUT : 0;
	}
	return 0;
}

VGF_EXPORT int vgf_device_drain(struct vgf_device *device, int timeout_ms)
{
	uint64_t deadline_ns = now_ns() + (uint64_t)timeout_ms * 1000000;
	int ret = 0;

	device_lock(device);
	if (run_is_inside(device) || (dispatcher_is_self(device) && device->only_retires)) {
		device_unlock(device);
		return -EDEADLK;
	}
	dispatcher_enter(device, true);
	if (device->depth > MAX_DEPTH) {
		return leave(device, -EDEADLK);
	}
	while (ret == 0 && device_is_busy(device) && !device->closing) {
		device->draining++;
		ret = drain_once(device, timeout_ms, deadline_ns);
		device->draining--;
		if (device->takers > 0 && device->depth == 1) {
			/* A reset must not wait for a fence that never signals. */
			dispatcher_leave(device);
			dispatcher_enter(device, false);
			device->dispatching = false;
		}
	}
	return leave(device, ret);
}
