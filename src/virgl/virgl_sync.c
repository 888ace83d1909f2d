/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * GL contexts that wait for each other in OpenGL where there are no native fences: a shareable
 * fence has a sync object of the GL server's, by which what names it waits. So it has no
 * descriptor, and no thread has to wake up before work that depends on it is handed over.
 *
 * If a processor draws, the server's waiting is this thread's. Then it waits for a short while
 * alone, as work of that length is done sooner than a thread wakes up; else the host waits.
 */

#include "virgl.h"

#include <search.h>
#include <stdlib.h>
#include <time.h>

/* For all in-fences of a job. docs/performance.md has what was measured. */
#define MAX_WAIT_NS 500000

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

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
		SLIST_INSERT_HEAD(&virgl->over, kept, over_link);
	}
	pthread_mutex_unlock(&virgl->mutex);
}

/* In the thread that has a GL context, unless the sync objects are gone. */
static void free_over(struct vgf_virgl *virgl)
{
	struct kept_syncs over;
	struct kept_sync *kept;

	pthread_mutex_lock(&virgl->mutex);
	over = virgl->over;
	SLIST_INIT(&virgl->over);
	pthread_mutex_unlock(&virgl->mutex);
	while ((kept = SLIST_FIRST(&over))) {
		SLIST_REMOVE_HEAD(&over, over_link);
		LIST_REMOVE(kept, kept_link);
		if (kept->sync) {
			gl_sync_destroy(kept->sync);
		}
		free(kept);
	}
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
	free_over(virgl);
}

/* ---- Keeping ------------------------------------------------------------------------------ */

void keep_sync(struct vgf_virgl *virgl, const struct vgf_fence_name *name, void *sync)
{
	struct kept_sync *kept = malloc(sizeof(*kept));
	bool added = false;

	free_over(virgl);
	if (kept) {
		*kept = (struct kept_sync){ .name = *name, .sync = sync };
		pthread_mutex_lock(&virgl->mutex);
		added = tsearch(kept, &virgl->syncs, compare_names) != NULL;
		pthread_mutex_unlock(&virgl->mutex);
	}
	if (added) {
		LIST_INSERT_HEAD(&virgl->kept, kept, kept_link);
	} else {
		/* The host waits for it. */
		gl_sync_destroy(sync);
		free(kept);
	}
}

/* ---- Waiting ------------------------------------------------------------------------------ */

/* NULL if there is none (any more). It is not freed meanwhile, whoever retires its fence. */
static void *find_sync(struct vgf_virgl *virgl, const struct vgf_fence_name *name)
{
	void *node, *sync;

	pthread_mutex_lock(&virgl->mutex);
	node = tfind(name, &virgl->syncs, compare_names);
	sync = node ? (*(struct kept_sync **)node)->sync : NULL;
	pthread_mutex_unlock(&virgl->mutex);
	return sync;
}

static bool wait_for_sync(const struct vgf_virgl *virgl, void *sync, uint64_t end_ns)
{
	uint64_t now;

	if (!virgl->waits_itself) {
		gl_sync_wait(sync);
		return true;
	}
	now = now_ns();
	return gl_sync_is_done(sync, now < end_ns ? end_ns - now : 0);
}

int wait_for_syncs(struct vgf_virgl *virgl, const struct vgf_job *job)
{
	uint64_t end_ns = now_ns() + MAX_WAIT_NS;
	bool ready = true;

	enter_gl(virgl);
	for (uint32_t i = 0; i < job->num_family_fences && ready; i++) {
		void *sync = find_sync(virgl, &job->family_fences[i]);
		ready = sync && wait_for_sync(virgl, sync, end_ns);
	}
	leave_gl(virgl);
	return ready ? 0 : -EOPNOTSUPP;
}
