/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * GL contexts that wait for each other in OpenGL where there are no native fences: a shareable
 * fence has a sync object of the GL server's, by which what names it waits. So it has no
 * descriptor, and no thread has to wake up before work that depends on it is handed over.
 *
 * A fence stands for all that is before it on its ring. So there are sync objects as long as a
 * virgl context's work is in one GL context, which does it in order.
 *
 * If a processor draws, the server's waiting is this thread's. Then it waits for a short while
 * alone, as work of that length is done sooner than a thread wakes up; else the host waits. It
 * waits once for each fence, and having waited in vain not again before one of OpenGL has retired:
 * so what a guest can have of this thread's time is bounded, however much it has behind work that
 * takes long.
 */

#include "clock.h"
#include "gl_commands.h"
#include "virgl.h"

#include <search.h>
#include <stdlib.h>

/* For all in-fences of a job. */
#define MAX_WAIT_NS 500000

/* That have retired are let go of with each new one, so that they become fewer. */
#define MAX_LET_GO 2

static int compare_names(const void *a, const void *b)
{
	const struct vgf_fence_name *x = a;
	const struct vgf_fence_name *y = b;

	if (x->fence_id != y->fence_id) {
		return x->fence_id < y->fence_id ? -1 : 1;
	}
	if (x->ctx_id != y->ctx_id) {
		return x->ctx_id < y->ctx_id ? -1 : 1;
	}
	return (x->ring > y->ring) - (x->ring < y->ring);
}

/* ---- Letting go --------------------------------------------------------------------------- */

void sync_retired(struct vgf_virgl *virgl, const struct vgf_fence_name *name)
{
	struct kept_sync *kept;
	void *node;

	pthread_mutex_lock(&virgl->mutex);
	node = tfind(name, &virgl->syncs, compare_names);
	if (node) {
		kept = *(struct kept_sync **)node;
		tdelete(kept, &virgl->syncs, compare_names);
		virgl->in_vain = false;
		SLIST_INSERT_HEAD(&virgl->over, kept, over_link);
	}
	pthread_mutex_unlock(&virgl->mutex);
}

static struct kept_sync *take_over(struct vgf_virgl *virgl)
{
	struct kept_sync *kept;

	pthread_mutex_lock(&virgl->mutex);
	kept = SLIST_FIRST(&virgl->over);
	if (kept) {
		SLIST_REMOVE_HEAD(&virgl->over, over_link);
	}
	pthread_mutex_unlock(&virgl->mutex);
	return kept;
}

/* In the thread that has a GL context, unless the sync objects are gone. */
static void let_go(struct kept_sync *kept)
{
	LIST_REMOVE(kept, kept_link);
	if (kept->sync) {
		gl_sync_destroy(kept->sync);
	}
	free(kept);
}

void drop_syncs(struct vgf_virgl *virgl)
{
	struct kept_sync *kept;

	if (LIST_EMPTY(&virgl->kept)) {
		return;
	}
	virgl_renderer_force_ctx_0();
	LIST_FOREACH(kept, &virgl->kept, kept_link) {
		if (kept->sync) {
			gl_sync_destroy(kept->sync);
			kept->sync = NULL;
		}
	}
}

void free_syncs(struct vgf_virgl *virgl)
{
	struct kept_sync *kept;

	while ((kept = take_over(virgl))) {
		let_go(kept);
	}
}

/* ---- Keeping ------------------------------------------------------------------------------ */

static bool add(struct vgf_virgl *virgl, struct kept_sync *kept)
{
	struct kept_sync **node;
	bool added;

	pthread_mutex_lock(&virgl->mutex);
	node = tsearch(kept, &virgl->syncs, compare_names);
	added = node && *node == kept;
	pthread_mutex_unlock(&virgl->mutex);
	return added;
}

/* It is the plugin's from then on. */
static void keep_sync(struct vgf_virgl *virgl, const struct vgf_fence_name *name, void *sync)
{
	struct kept_sync *kept;

	for (int i = 0; i < MAX_LET_GO && (kept = take_over(virgl)); i++) {
		let_go(kept);
	}
	kept = malloc(sizeof(*kept));
	if (kept) {
		*kept = (struct kept_sync){ .name = *name, .sync = sync };
	}
	if (kept && add(virgl, kept)) {
		LIST_INSERT_HEAD(&virgl->kept, kept, kept_link);
	} else {
		/* The host waits for it. */
		gl_sync_destroy(sync);
		free(kept);
	}
}

/* ---- Making ------------------------------------------------------------------------------- */

static bool changes_context(const struct vgf_job *job)
{
	size_t size = gl_commands_prologue(job->command, job->size);

	return gl_commands_change_context((const char *)job->command + size, job->size - size);
}

void note_gl(struct virgl_context *context, const struct vgf_job *job)
{
	const struct vgf_virgl *virgl = context->virgl;
	const void *gl;

	if (!(virgl->has_syncs || virgl->asks_gl || virgl->egl) || !context_is_gl(context) ||
		job->size == 0) {
		return;
	}
	gl = gl_sync_context();
	context->changed_gl = changes_context(job);
	context->has_gls |= context->changed_gl || (context->gl && context->gl != gl);
	context->gl = gl;
}

bool is_in_its_gl(const struct virgl_context *context)
{
	return !context->has_gls && context->gl && gl_sync_context() == context->gl;
}

/*
 * To find that work is done, virglrenderer's thread has to wake up, and to wake up this one. Where
 * nothing else is on its way, a little work is done by now. Results of queries are written before
 * the fence signals: for these virglrenderer is polled. As with its fences, what is asked is the GL
 * context that is current.
 */
static bool asks_if_done(const struct virgl_context *context, const struct vgf_job *job)
{
	const struct vgf_virgl *virgl = context->virgl;

	return virgl->asks_gl && job->size > 0 && atomic_load(&virgl->sent) == 0 &&
		!context->changed_gl;
}

/* Whether other contexts of OpenGL may wait for it in OpenGL. That a mergeable one has retired is
 * not told, and the order of the global timeline is not OpenGL's. */
static bool wants_sync(const struct virgl_context *context, const struct vgf_job *job)
{
	return context->virgl->has_syncs && (job->flags & VGF_SHAREABLE) &&
		!(job->flags & VGF_MERGEABLE) && job->fence.ring != VGF_RING_GLOBAL &&
		is_in_its_gl(context);
}

bool make_sync(struct virgl_context *context, const struct vgf_job *job)
{
	struct vgf_virgl *virgl = context->virgl;
	bool asks = context_is_gl(context) && asks_if_done(context, job);
	bool keeps = context_is_gl(context) && wants_sync(context, job);
	bool done;
	void *sync;

	if (!asks && !keeps) {
		return false;
	}
	enter_gl(virgl);
	sync = gl_sync_create();
	done = sync && asks && gl_sync_is_done(sync, 0);
	if (done) {
		virgl_renderer_poll();
	}
	if (sync && keeps && !done) {
		keep_sync(virgl, &job->fence, sync);
	} else if (sync) {
		gl_sync_destroy(sync);
	}
	leave_gl(virgl);
	return done;
}

/* ---- Waiting ------------------------------------------------------------------------------ */

/* NULL if there is none (any more). It is not freed meanwhile, whoever retires its fence. */
static struct kept_sync *find(struct vgf_virgl *virgl, const struct vgf_fence_name *name)
{
	struct kept_sync *kept;
	void *node;

	pthread_mutex_lock(&virgl->mutex);
	node = tfind(name, &virgl->syncs, compare_names);
	kept = node ? *(struct kept_sync **)node : NULL;
	pthread_mutex_unlock(&virgl->mutex);
	return kept && kept->sync ? kept : NULL;
}

bool have_syncs(struct vgf_virgl *virgl, const struct vgf_job *job)
{
	bool have = true;

	for (uint32_t i = 0; i < job->num_family_fences && have; i++) {
		have = find(virgl, &job->family_fences[i]) != NULL;
	}
	return have;
}

/* How long to wait for it; 0: only to ask. */
static uint64_t time_for(struct vgf_virgl *virgl, struct kept_sync *kept, uint64_t end_ns)
{
	uint64_t now = now_ns();
	bool in_vain;

	pthread_mutex_lock(&virgl->mutex);
	in_vain = kept->in_vain || virgl->in_vain;
	pthread_mutex_unlock(&virgl->mutex);
	return now < end_ns && !in_vain ? end_ns - now : 0;
}

static void note_in_vain(struct vgf_virgl *virgl, struct kept_sync *kept)
{
	kept->in_vain = true;
	pthread_mutex_lock(&virgl->mutex);
	virgl->in_vain = true;
	pthread_mutex_unlock(&virgl->mutex);
}

static bool wait_for_sync(struct vgf_virgl *virgl, struct kept_sync *kept, uint64_t end_ns)
{
	uint64_t timeout_ns;
	bool done;

	if (!virgl->waits_itself) {
		gl_sync_wait(kept->sync);
		return true;
	}
	timeout_ns = time_for(virgl, kept, end_ns);
	done = gl_sync_is_done(kept->sync, timeout_ns);
	/* A rest of the time that another one has left tells little. */
	if (!done && timeout_ns > MAX_WAIT_NS / 2) {
		note_in_vain(virgl, kept);
	}
	return done;
}

int wait_for_syncs(struct vgf_virgl *virgl, const struct vgf_job *job)
{
	uint64_t end_ns = now_ns() + MAX_WAIT_NS;
	bool ready = true;

	enter_gl(virgl);
	for (uint32_t i = 0; i < job->num_family_fences && ready; i++) {
		struct kept_sync *kept = find(virgl, &job->family_fences[i]);
		ready = kept && wait_for_sync(virgl, kept, end_ns);
	}
	leave_gl(virgl);
	return ready ? 0 : -EOPNOTSUPP;
}
