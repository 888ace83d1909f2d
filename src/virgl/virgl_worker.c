/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Venus runs in processes of its own: the render server, and a worker for each context, which the
 * server forks. virglrenderer says little of how they are. It starts without a server, and only
 * contexts fail. If a worker ends (a guest that names a ring without a queue is enough) the
 * context's fences come back as if their work was done, and a thread of virglrenderer's spins until
 * the context is destroyed. So the plugin asks for a context when it starts, and watches each
 * context's connection to its worker.
 */

#include "virgl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <search.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- The render server -------------------------------------------------------------------- */

bool uses_render_server(const struct vgf_virgl *virgl)
{
	return virgl->flags & VIRGL_RENDERER_VENUS;
}

bool render_server_answers(void)
{
	static const char name[] = "vgfence";
	const uint32_t ctx_id = 1; /* there are no contexts yet */

	if (virgl_renderer_context_create_with_flags(
		    ctx_id, CAPSET_VENUS, sizeof(name) - 1, name) != 0) {
		return false;
	}
	virgl_renderer_context_destroy(ctx_id);
	return true;
}

/* ---- A context's connection --------------------------------------------------------------- */

static int compare_contexts(const void *a, const void *b)
{
	const struct virgl_context *x = a, *y = b;

	return (x->ctx_id > y->ctx_id) - (x->ctx_id < y->ctx_id);
}

static bool is_connection(int fd)
{
	int domain = 0, type = 0;
	socklen_t size = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 || domain != AF_UNIX) {
		return false;
	}
	size = sizeof(int);
	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

int next_fds(const struct vgf_virgl *virgl, struct next_fds *next)
{
	int ret = 0;

	for (next->count = 0; next->count < NUM_NEXT_FDS; next->count++) {
		int fd = fcntl(virgl->poll_fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0) {
			ret = -errno;
			break;
		}
		next->fds[next->count] = fd;
	}
	for (unsigned int i = 0; i < next->count; i++) {
		close(next->fds[i]);
	}
	return ret;
}

/* virglrenderer does not tell which descriptor it is. */
static int find_connection(const struct next_fds *next)
{
	for (unsigned int i = 0; i < next->count; i++) {
		if (is_connection(next->fds[i])) {
			return next->fds[i];
		}
	}
	return -1;
}

static int add_watch(struct virgl_context *context)
{
	struct vgf_virgl *virgl = context->virgl;
	struct epoll_event event = { .data.ptr = context }; /* that it hangs up is told anyway */
	void *node;

	pthread_mutex_lock(&virgl->mutex);
	node = tsearch(context, &virgl->watched, compare_contexts);
	pthread_mutex_unlock(&virgl->mutex);
	if (!node) {
		return -ENOMEM;
	}
	atomic_fetch_add(&virgl->num_watched, 1);
	if (epoll_ctl(virgl->worker_set, EPOLL_CTL_ADD, context->worker_fd, &event) < 0) {
		return watch_error();
	}
	return 0;
}

int watch_worker(struct virgl_context *context, const struct next_fds *next)
{
	int fd = find_connection(next);
	int ret;

	if (fd < 0) {
		return 0; /* another thread was faster: the next call finds out */
	}
	context->worker_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (context->worker_fd < 0) {
		return -errno;
	}
	ret = add_watch(context);
	if (ret < 0) {
		unwatch_worker(context);
	}
	return ret;
}

/* Closed, the connection leaves the set; the worker ends when virglrenderer closes its own, too. */
static void disconnect(struct virgl_context *context)
{
	if (context->worker_fd >= 0) {
		close(context->worker_fd);
		context->worker_fd = -1;
	}
}

void unwatch_worker(struct virgl_context *context)
{
	struct vgf_virgl *virgl = context->virgl;
	void *node;

	pthread_mutex_lock(&virgl->mutex);
	node = tfind(context, &virgl->watched, compare_contexts);
	if (node && *(struct virgl_context **)node == context) {
		tdelete(context, &virgl->watched, compare_contexts);
		atomic_fetch_sub(&virgl->num_watched, 1);
	}
	disconnect(context);
	pthread_mutex_unlock(&virgl->mutex);
}

static bool has_hung_up(int fd)
{
	struct pollfd connection = { .fd = fd };

	return poll(&connection, 1, 0) == 1 && (connection.revents & (POLLHUP | POLLERR));
}

int worker_status(struct vgf_virgl *virgl, uint32_t ctx_id)
{
	const struct virgl_context key = { .ctx_id = ctx_id };
	int ret = 0;
	void *node;

	if (atomic_load(&virgl->num_watched) == 0) {
		return 0;
	}
	pthread_mutex_lock(&virgl->mutex);
	node = tfind(&key, &virgl->watched, compare_contexts);
	if (node) {
		int fd = (*(struct virgl_context **)node)->worker_fd;
		ret = fd < 0 ? -ECANCELED : has_hung_up(fd) ? -EIO : 0;
	}
	pthread_mutex_unlock(&virgl->mutex);
	return ret;
}

static void disconnect_node(const void *node, VISIT visit, int depth)
{
	(void)depth;
	if (visit == preorder || visit == leaf) {
		disconnect(*(struct virgl_context *const *)node);
	}
}

void disconnect_workers(struct vgf_virgl *virgl)
{
	pthread_mutex_lock(&virgl->mutex);
	twalk(virgl->watched, disconnect_node);
	pthread_mutex_unlock(&virgl->mutex);
}

void unwatch_workers(struct vgf_virgl *virgl)
{
	while (virgl->watched) {
		/* A node of such a tree begins with what was entered. */
		unwatch_worker(*(struct virgl_context **)virgl->watched);
	}
}

/* ---- Its end ------------------------------------------------------------------------------ */

/* Its fences retire with the error, and so does what is submitted to it from now on. */
static void end_context(struct virgl_context *context, int error)
{
	context->error = error;
	virgl_renderer_context_destroy(context->ctx_id);
	/* Not before: until then fences may come back. */
	unwatch_worker(context);
	renderer_context_end(context);
	end_lost_fences(context, error);
}

static void worker_ended(struct virgl_context *context)
{
	struct vgf_virgl *virgl = context->virgl;
	const struct vgf_fence_name last_sent = context->last_sent;
	uint32_t ctx_id = context->ctx_id;
	bool has_sent = context->has_sent;

	/* With that the VMM may be called, and may do anything, also end the context. */
	end_context(context, -EIO);
	if (has_sent) {
		plugin_log(virgl,
			"context %" PRIu32 ": its Venus process ended; the last fence that it got "
			"was %" PRIu64 " on ring %" PRId32 ", and a ring without a queue ends it",
			ctx_id, last_sent.fence_id, last_sent.ring);
	} else {
		plugin_log(virgl, "context %" PRIu32 ": its Venus process ended", ctx_id);
	}
}

static struct virgl_context *closed; /* of twalk: there is one plugin */

static void note_closed(const void *node, VISIT visit, int depth)
{
	struct virgl_context *context = *(struct virgl_context *const *)node;

	(void)depth;
	if ((visit == preorder || visit == leaf) && context->closed) {
		closed = context;
	}
}

/* A guest's program that was killed may have left work that waits for ever. */
static bool end_closed_context(struct vgf_virgl *virgl)
{
	pthread_mutex_lock(&virgl->mutex);
	closed = NULL;
	twalk(virgl->watched, note_closed);
	pthread_mutex_unlock(&virgl->mutex);
	if (closed) {
		end_context(closed, -ECANCELED);
	}
	return closed;
}

bool has_room_for_worker(struct vgf_virgl *virgl)
{
	return atomic_load(&virgl->num_watched) < MAX_WORKERS || end_closed_context(virgl);
}

void check_workers(struct vgf_virgl *virgl)
{
	struct epoll_event event;

	if (atomic_load(&virgl->num_watched) == 0 || virgl->ended) {
		return;
	}
	if (epoll_wait(virgl->worker_set, &event, 1, 0) == 1) {
		worker_ended(event.data.ptr);
	}
}

int workers_init(struct vgf_virgl *virgl)
{
	if (!uses_render_server(virgl)) {
		return 0;
	}
	virgl->worker_set = epoll_create1(EPOLL_CLOEXEC);
	return virgl->worker_set < 0 ? -errno : watch_fd(virgl, virgl->worker_set);
}
