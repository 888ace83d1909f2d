/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include "struct_copy.h"
#include "virgl.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* How often virglrenderer is asked if it has no descriptor to wait for. */
#define ASK_NS 1000000

/* How often other work may come before virglrenderer's queries. */
#define MAX_UNPOLLED 8

/* ---- The descriptor ----------------------------------------------------------------------- */

int watch_fd(struct vgf_virgl *virgl, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	/* A descriptor that virglrenderer closes leaves the set by itself. */
	if (epoll_ctl(virgl->poll_fd, EPOLL_CTL_ADD, fd, &event) < 0 && errno != EEXIST) {
		return watch_error();
	}
	return 0;
}

/* Whether fences are only found by asking. */
static bool must_ask(const struct vgf_virgl *virgl)
{
	/* Without GL it has no descriptor of its own, but contexts have, or call back. */
	if (virgl->flags & VIRGL_RENDERER_NO_VIRGL) {
		return !(virgl->flags & VIRGL_RENDERER_THREAD_SYNC);
	}
	return virgl->renderer_fd < 0;
}

void update_timer(struct vgf_virgl *virgl)
{
	bool runs = atomic_load(&virgl->sent) > 0;
	struct itimerspec time = { 0 };

	if (runs) {
		time.it_value.tv_nsec = ASK_NS;
		time.it_interval.tv_nsec = ASK_NS;
	}
	if (virgl->timer_fd >= 0 && virgl->timer_runs != runs &&
		timerfd_settime(virgl->timer_fd, 0, &time, NULL) == 0) {
		virgl->timer_runs = runs;
	}
}

/* What virglrenderer has to be watched for, once it was started. */
static int watch_renderer(struct vgf_virgl *virgl)
{
	virgl->renderer_fd = virgl_renderer_get_poll_fd();
	if (virgl->renderer_fd >= 0) {
		return watch_fd(virgl, virgl->renderer_fd);
	}
	/* In place of libvirglrenderer the VMM asks by itself, as it always has. */
	if (IN_PLACE || !must_ask(virgl) || virgl->timer_fd >= 0) {
		return 0;
	}
	virgl->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return virgl->timer_fd < 0 ? -errno : watch_fd(virgl, virgl->timer_fd);
}

/* ---- Start and end ------------------------------------------------------------------------ */

/*
 * Without the render server it may start all the same, or not, as the other process is still to
 * find out or has found out.
 */
static int init_renderer(struct vgf_virgl *virgl)
{
	const int venus = VIRGL_RENDERER_VENUS | VIRGL_RENDERER_RENDER_SERVER;
	int ret = to_errno(virgl_renderer_init(virgl, virgl->flags, &virgl->own));

	if (ret < 0 && uses_render_server(virgl) &&
		virgl_renderer_init(virgl, virgl->flags & ~venus, &virgl->own) == 0) {
		virgl_renderer_cleanup(virgl);
		return -ENOENT;
	}
	return ret;
}

bool calls_back(const struct vgf_virgl *virgl)
{
	return (virgl->flags & VIRGL_RENDERER_ASYNC_FENCE_CB) && !must_ask(virgl);
}

/* How GL contexts wait, and what else of OpenGL is of use. */
static void look_at_gl(struct vgf_virgl *virgl)
{
	bool has_syncs = gl_sync_available();
	bool waits = virgl->wait != VGF_VIRGL_WAIT_HOST;
	bool by_force = virgl->wait == VGF_VIRGL_WAIT_GL;

	/* A descriptor of the GL server's would have to be polled for. */
	if (waits && !retires_at_once(virgl)) {
		virgl->egl = egl_sync_create(by_force);
	}
	/* In its place, VMMs make a fence for all that they do, and pass none. */
	virgl->has_syncs = !IN_PLACE && waits && has_syncs && !virgl->egl;
	virgl->waits_itself = virgl->has_syncs && gl_is_software() && !by_force;
	virgl->asks_gl = !IN_PLACE && has_syncs && calls_back(virgl);
}

static int start_renderer(struct vgf_virgl *virgl)
{
	int ret = init_renderer(virgl);

	if (ret < 0) {
		return ret;
	}
	ret = watch_renderer(virgl);
	if (ret == 0 && uses_render_server(virgl) && !render_server_answers()) {
		ret = -ENOENT;
	}
	if (ret < 0) {
		virgl_renderer_cleanup(virgl);
		return ret;
	}
	if (!(virgl->flags & VIRGL_RENDERER_NO_VIRGL)) {
		virgl_renderer_force_ctx_0();
		look_at_gl(virgl);
	}
	return 0;
}

static void plugin_free(struct vgf_virgl *virgl)
{
	if (!virgl) {
		return;
	}
	egl_display_destroy(virgl->display);
	if (virgl->timer_fd >= 0) {
		close(virgl->timer_fd);
	}
	if (virgl->worker_set >= 0) {
		close(virgl->worker_set);
	}
	if (virgl->wake_fd >= 0) {
		close(virgl->wake_fd);
	}
	if (virgl->poll_fd >= 0) {
		close(virgl->poll_fd);
	}
	pthread_cond_destroy(&virgl->let_go);
	pthread_mutex_destroy(&virgl->mutex);
	free(virgl->open);
	free(virgl);
}

static struct vgf_virgl *plugin_create(
	void *cookie, int flags, const struct vgf_virgl_options *options)
{
	struct vgf_virgl *virgl = calloc(1, sizeof(*virgl));

	if (!virgl) {
		return NULL;
	}
	virgl->thread = pthread_self();
	virgl->cookie = cookie;
	virgl->flags = flags;
	virgl->independent_rings = options->independent_rings;
	virgl->wait = options->wait;
	virgl->enter_gl = options->enter_gl;
	virgl->leave_gl = options->leave_gl;
	virgl->renderer_fd = -1;
	virgl->timer_fd = -1;
	virgl->worker_set = -1;
	virgl->wake_fd = -1;
	log_limit_init(&virgl->log_limit);
	pthread_mutex_init(&virgl->mutex, NULL);
	pthread_cond_init(&virgl->let_go, NULL);
	TAILQ_INIT(&virgl->sent_gl);
	LIST_INIT(&virgl->lingering);
	SLIST_INIT(&virgl->lingered);
	SLIST_INIT(&virgl->over);
	LIST_INIT(&virgl->kept);
	virgl->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	virgl->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (virgl->poll_fd < 0 || virgl->wake_fd < 0 || contexts_init(virgl, options->device) < 0) {
		int error = errno;
		plugin_free(virgl);
		errno = error;
		return NULL;
	}
	return virgl;
}

/* The device first, as virglrenderer may call back as soon as it is started. */
static int plugin_start(struct vgf_virgl *virgl, const struct virgl_renderer_callbacks *cb,
	const struct vgf_virgl_options *options)
{
	struct vgf_callbacks callbacks;
	int ret = callbacks_init(virgl, cb, options->callbacks, &callbacks);

	if (ret == 0) {
		ret = vgf_device_create(&callbacks, virgl, options->device, &virgl->device);
	}
	if (ret < 0) {
		return ret;
	}
	if (options->own_display) {
		ret = callbacks_add_display(virgl);
	}
	if (ret == 0) {
		ret = watch_fd(virgl, vgf_device_get_fd(virgl->device));
	}
	if (ret == 0) {
		ret = watch_fd(virgl, virgl->wake_fd);
	}
	if (ret == 0) {
		ret = workers_init(virgl);
	}
	if (ret == 0) {
		ret = start_renderer(virgl);
	}
	if (ret < 0) {
		vgf_device_destroy(virgl->device);
	}
	return ret;
}

/* What the struct had in 0.2, when it got a size. */
#define LEAST_OPTIONS (offsetof(struct vgf_virgl_options, own_display) + sizeof(bool))

/* What the plugin reads of the device's options; vgf_device_create asks for more. */
#define LEAST_OF_DEVICE (offsetof(struct vgf_options, own_thread) + sizeof(bool))

/* By a plugin. virglrenderer refuses another one, too, but only once that has an EGL display, which
 * may be the first one's, and would end with it. */
static atomic_flag is_in_use = ATOMIC_FLAG_INIT;

VGF_EXPORT int vgf_virgl_init(void *cookie, int flags, struct virgl_renderer_callbacks *cb,
	const struct vgf_virgl_options *options, struct vgf_virgl **out)
{
	struct vgf_virgl_options known = { .size = sizeof(known) };
	struct vgf_virgl *virgl;
	int ret = 0;

	*out = NULL;
	if (options) {
		ret = struct_copy(&known, sizeof(known), LEAST_OPTIONS, options, options->size);
	}
	if (ret == 0 && known.device &&
		(known.device->size < LEAST_OF_DEVICE || known.device->own_thread)) {
		ret = -EINVAL;
	}
	if (ret == 0 && (known.enter_gl == NULL) != (known.leave_gl == NULL)) {
		ret = -EINVAL;
	}
	if (ret < 0) {
		return ret;
	}
	if (atomic_flag_test_and_set(&is_in_use)) {
		return -EBUSY;
	}
	virgl = plugin_create(cookie, flags, &known);
	ret = virgl ? plugin_start(virgl, cb, &known) : -errno;
	if (ret < 0) {
		plugin_free(virgl);
		atomic_flag_clear(&is_in_use);
		return ret;
	}
	*out = virgl;
	return 0;
}

static void end_renderer(struct vgf_virgl *virgl)
{
	disconnect_workers(virgl);
	drop_syncs(virgl);
	egl_sync_destroy(virgl->egl);
	virgl->egl = NULL;
	virgl_renderer_cleanup(virgl);
	unwatch_workers(virgl);
}

/* Returns whether virglrenderer was ended and has to be started anew. */
static bool reset_renderer(struct vgf_virgl *virgl)
{
	if ((virgl->flags & VIRGL_RENDERER_THREAD_SYNC) && !restarts_thread(virgl)) {
		end_renderer(virgl);
		return true;
	}
	disconnect_workers(virgl);
	drop_syncs(virgl);
	virgl_renderer_reset();
	unwatch_workers(virgl);
	/* It starts no other server while it runs. */
	if (uses_render_server(virgl) && !render_server_answers()) {
		end_renderer(virgl);
		return true;
	}
	return false;
}

VGF_EXPORT void vgf_virgl_cleanup(struct vgf_virgl *virgl)
{
	if (!virgl) {
		return;
	}
	assert_thread(virgl);
	virgl->ended = true;
	finish_gl_fences(virgl);
	end_renderer(virgl);
	forget_gl_fences(virgl);
	vgf_device_destroy(virgl->device);
	free_syncs(virgl);
	plugin_free(virgl);
	atomic_flag_clear(&is_in_use);
}

VGF_EXPORT int vgf_virgl_reset(struct vgf_virgl *virgl)
{
	bool restart;
	int ret;

	assert_thread(virgl);
	if (virgl->inside > 0) {
		return -EDEADLK;
	}
	virgl->ended = true;
	finish_gl_fences(virgl);
	restart = reset_renderer(virgl);
	forget_gl_fences(virgl);
	ret = vgf_device_reset(virgl->device);
	update_timer(virgl);
	if (restart) {
		ret = start_renderer(virgl);
	} else if (ret == 0) {
		ret = watch_renderer(virgl);
	}
	virgl->ended = ret < 0;
	return ret;
}

VGF_EXPORT struct vgf_device *vgf_virgl_get_device(struct vgf_virgl *virgl)
{
	return virgl->device;
}

/* ---- The loop ----------------------------------------------------------------------------- */

VGF_EXPORT int vgf_virgl_get_poll_fd(struct vgf_virgl *virgl)
{
	return virgl->poll_fd;
}

/* It was not the device that made the descriptor readable; or that comes next time, but not each
 * time: virglrenderer's thread may wait for it, and with it all fences of OpenGL. */
static void poll_for_queries(struct vgf_virgl *virgl, bool was_idle)
{
	if (was_idle || ++virgl->unpolled == MAX_UNPOLLED) {
		virgl->unpolled = 0;
		virgl_renderer_poll();
	}
}

VGF_EXPORT int vgf_virgl_poll(struct vgf_virgl *virgl)
{
	uint64_t expirations;
	int ret;

	assert_thread(virgl);
	if (virgl->inside > 0) {
		return -EDEADLK;
	}
	if (!virgl->ended && !calls_back(virgl)) {
		virgl_renderer_poll();
	}
	check_workers(virgl);
	if (!virgl->ended) {
		end_lingered(virgl);
	}
	ret = vgf_device_dispatch(virgl->device, 0);
	if (!virgl->ended && calls_back(virgl) && virgl->renderer_fd >= 0) {
		poll_for_queries(virgl, ret == 0);
	}
	if (virgl->timer_runs) {
		/* Not asked for how often. */
		(void)!read(virgl->timer_fd, &expirations, sizeof(expirations));
		update_timer(virgl);
	}
	return ret;
}
