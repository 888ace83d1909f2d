/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * What virglrenderer has: contexts, and how many fences of each. It forgets these with the context.
 *
 * Of OpenGL the fences themselves, in the order in which it (0.10.4 to 1.3.0) got them. One thread
 * of its waits for all of them, one after the other, whatever context they are of.
 *
 *  - It calls back for the newest of several on the global timeline alone.
 *  - A context that ends while the thread waits (with ASYNC_FENCE_CB: just before it does) takes
 *    the fence along that it waits for, also one of another context's: then nobody is called back
 *    for it. So a context that ends is followed by a mark, a fence that is nobody's: when that
 *    comes back, all before it are done.
 *  - A context that ends before its fences are done is still used by that thread, which ends the
 *    process. So it has to wait for them, even if the device has given them up. Those that the
 *    device still has signal meanwhile as ever.
 */

#include "clock.h"
#include "in_place.h"
#include "virgl.h"

#include <poll.h>
#include <search.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Since when nothing has come back. */
struct vain_wait {
	unsigned int back;
	uint64_t since_ns;
};

/* How long to wait for virglrenderer's thread to ask for something. It does not say when it has
 * nothing to do any more. */
#define ASK_MS 1
#define ENOUGH 2 /* fences: see finish_gl_fences */

/* So many marks at a time, each with an ID of its own: the last 65536 of 32 bits. */
#define MAX_MARKS 64
#define MARK_ID(number) (UINT32_MAX - (uint32_t)(uint16_t)(number))

/* A mark that cannot be sent is not waited for if nothing has come back for so long. */
#define IN_VAIN_NS 1000000000

/* ---- Contexts ----------------------------------------------------------------------------- */

static int compare_contexts(const void *a, const void *b)
{
	uint32_t x = ((const struct virgl_context *)a)->ctx_id;
	uint32_t y = ((const struct virgl_context *)b)->ctx_id;

	return (x > y) - (x < y);
}

/* Locked. The one that virglrenderer has, or NULL. */
static struct virgl_context *find_in_renderer(struct vgf_virgl *virgl, uint32_t ctx_id)
{
	const struct virgl_context key = { .ctx_id = ctx_id };
	void *node = tfind(&key, &virgl->renderer_contexts, compare_contexts);

	return node ? *(struct virgl_context **)node : NULL;
}

int renderer_context_begin(struct virgl_context *context)
{
	struct vgf_virgl *virgl = context->virgl;
	int ret = 0;

	pthread_mutex_lock(&virgl->mutex);
	if (find_in_renderer(virgl, context->ctx_id)) {
		ret = -EBUSY;
	} else if (context_is_gl(context) && virgl->num_lingering >= MAX_LINGERING) {
		ret = -ENOSPC; /* they count in no other limit */
	} else if (!tsearch(context, &virgl->renderer_contexts, compare_contexts)) {
		ret = -ENOMEM;
	}
	pthread_mutex_unlock(&virgl->mutex);
	return ret;
}

void renderer_context_end(struct virgl_context *context)
{
	struct vgf_virgl *virgl = context->virgl;

	pthread_mutex_lock(&virgl->mutex);
	if (find_in_renderer(virgl, context->ctx_id) == context) {
		tdelete(context, &virgl->renderer_contexts, compare_contexts);
		atomic_fetch_sub(&virgl->sent, context->num_sent);
		context->num_sent = 0;
	}
	pthread_mutex_unlock(&virgl->mutex);
}

void fence_sent(struct virgl_context *context)
{
	struct vgf_virgl *virgl = context->virgl;

	pthread_mutex_lock(&virgl->mutex);
	context->num_sent++;
	atomic_fetch_add(&virgl->sent, 1);
	pthread_mutex_unlock(&virgl->mutex);
}

void fence_came_back(struct vgf_virgl *virgl, uint32_t ctx_id)
{
	struct virgl_context *context;

	pthread_mutex_lock(&virgl->mutex);
	context = find_in_renderer(virgl, ctx_id);
	if (context && context->num_sent > 0) {
		context->num_sent--;
		atomic_fetch_sub(&virgl->sent, 1);
	}
	pthread_mutex_unlock(&virgl->mutex);
}

bool gl_context_give_up(struct virgl_context *context)
{
	struct vgf_virgl *virgl = context->virgl;
	bool waits = waits_for_calls(context);

	pthread_mutex_lock(&virgl->mutex);
	while (context->num_sent == 0 && context->num_taken > 0) {
		/* They are done: a new context of this ID must not be refused for them. */
		pthread_cond_wait(&virgl->let_go, &virgl->mutex);
	}
	context->lingers = context->num_sent > 0;
	context->is_disowned = context->lingers && !waits;
	pthread_mutex_unlock(&virgl->mutex);
	if (context->lingers) {
		LIST_INSERT_HEAD(&virgl->lingering, context, linger_link);
		virgl->num_lingering++;
	}
	return context->lingers;
}

/* ---- Their fences ------------------------------------------------------------------------- */

/* For end_lingered. Nothing else may be on its way that makes the VMM poll. */
static void wake(struct vgf_virgl *virgl)
{
	if (!atomic_exchange(&virgl->is_woken, true)) {
		eventfd_write(virgl->wake_fd, 1);
	}
}

/* Locked. Of the list. */
static void take(struct vgf_virgl *virgl, struct sent_fence *fence)
{
	struct virgl_context *context = fence->context;

	TAILQ_REMOVE(&virgl->sent_gl, fence, link);
	atomic_fetch_sub(&virgl->sent, 1);
	if (context) {
		context->num_sent--;
		context->num_taken++;
		/* The device has none of this name any more, but perhaps another one soon. */
		fence->is_nobodys |= context->is_disowned;
	}
	if (fence->is_mark && virgl->num_marks-- == MAX_MARKS) {
		wake(virgl);
	}
}

/* Locked. Its context need not stay for it: there may be another one of its ID from then on. */
static void let_go(struct vgf_virgl *virgl, const struct sent_fence *fence)
{
	struct virgl_context *context = fence->context;

	if (!context || --context->num_taken + context->num_sent > 0) {
		return;
	}
	if (context->lingers) {
		SLIST_INSERT_HEAD(&virgl->lingered, context, lingered_link);
		wake(virgl);
	} else {
		pthread_cond_signal(&virgl->let_go);
	}
}

/* Before virglrenderer has it, as it may call back at once. NULL: no memory. */
static struct sent_fence *add(struct vgf_virgl *virgl, struct virgl_context *context,
	const struct vgf_fence_name *name, bool is_mark)
{
	struct sent_fence *fence = malloc(sizeof(*fence));

	if (!fence) {
		return NULL;
	}
	*fence = (struct sent_fence){
		.name = *name,
		.context = context,
		.is_mark = is_mark,
		.is_nobodys = is_mark,
	};
	atomic_fetch_add(&virgl->sent, 1);
	pthread_mutex_lock(&virgl->mutex);
	TAILQ_INSERT_TAIL(&virgl->sent_gl, fence, link);
	virgl->num_marks += is_mark;
	if (context) {
		context->num_sent++;
	}
	pthread_mutex_unlock(&virgl->mutex);
	return fence;
}

static int send(struct vgf_virgl *virgl, const struct vgf_fence_name *name)
{
	bool enters = !virgl->ended; /* a reset is not for others to have their turn in */
	int ret;

	if (enters) {
		enter_gl(virgl);
	}
	if (name->ring == VGF_RING_GLOBAL) {
		ret = virgl_renderer_create_fence((int)name->fence_id, name->ctx_id);
	} else {
		/* Each is called back for: the device merges, which knows what has retired. */
		ret = virgl_renderer_context_create_fence(
			name->ctx_id, 0, (uint32_t)name->ring, name->fence_id);
	}
	if (enters) {
		leave_gl(virgl);
	}
	return to_errno(ret);
}

static int add_and_send(struct vgf_virgl *virgl, struct virgl_context *context,
	const struct vgf_fence_name *name, bool is_mark)
{
	struct sent_fence *fence = add(virgl, context, name, is_mark);
	int ret;

	if (!fence) {
		return -ENOMEM;
	}
	ret = send(virgl, name);
	if (ret < 0) {
		pthread_mutex_lock(&virgl->mutex);
		virgl->num_marks -= is_mark; /* no room was made: nobody is to be woken */
		fence->is_mark = false;
		take(virgl, fence);
		let_go(virgl, fence);
		pthread_mutex_unlock(&virgl->mutex);
		free(fence);
	}
	update_timer(virgl);
	return ret;
}

int send_gl_fence(
	struct vgf_virgl *virgl, struct virgl_context *context, const struct vgf_fence_name *name)
{
	return add_and_send(virgl, context, name, false);
}

/* Whether a callback for `name` is for it. Of the global timeline there are 32 bits of the ID. */
static bool is_meant(const struct sent_fence *fence, const struct vgf_fence_name *name)
{
	if (name->ring == VGF_RING_GLOBAL) {
		return fence->name.ring == VGF_RING_GLOBAL &&
			(uint32_t)fence->name.fence_id == (uint32_t)name->fence_id;
	}
	return fence->name.ring == name->ring && fence->name.ctx_id == name->ctx_id &&
		fence->name.fence_id == name->fence_id;
}

/* Locked. The one that is called back for, with all that this says to be done; none, if it is not
 * there. It is the oldest, but for what was forgotten. In its place, where seldom a mark follows
 * that, it is all before it. */
static void take_done(
	struct vgf_virgl *virgl, const struct vgf_fence_name *name, struct sent_fences *taken)
{
	bool is_global = name->ring == VGF_RING_GLOBAL;
	struct sent_fence *meant, *fence, *next, *mark = NULL;

	TAILQ_FOREACH(meant, &virgl->sent_gl, link) {
		mark = meant->is_mark ? meant : mark;
		if (is_meant(meant, name)) {
			break;
		}
	}
	for (fence = meant ? TAILQ_FIRST(&virgl->sent_gl) : NULL; fence; fence = next) {
		next = fence == meant ? NULL : TAILQ_NEXT(fence, link);
		if (fence == meant || IN_PLACE ||
			(is_global && (mark || fence->name.ring == VGF_RING_GLOBAL))) {
			take(virgl, fence);
			TAILQ_INSERT_TAIL(taken, fence, link);
		}
		mark = fence == mark ? NULL : mark;
	}
}

/* Locked. */
static bool is_gl_fence(struct vgf_virgl *virgl, const struct vgf_fence_name *name)
{
	const struct virgl_context *context = find_in_renderer(virgl, name->ctx_id);

	return name->ring == VGF_RING_GLOBAL || (context && context_is_gl(context));
}

bool gl_fence_signalled(struct vgf_virgl *virgl, const struct vgf_fence_name *name)
{
	struct sent_fences taken;
	struct sent_fence *fence;
	bool is_gl;

	TAILQ_INIT(&taken);
	pthread_mutex_lock(&virgl->mutex);
	is_gl = is_gl_fence(virgl, name);
	if (is_gl) {
		take_done(virgl, name, &taken);
		virgl->num_back += !TAILQ_EMPTY(&taken);
	}
	pthread_mutex_unlock(&virgl->mutex);
	while ((fence = TAILQ_FIRST(&taken))) {
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the one before is off the list. */
		TAILQ_REMOVE(&taken, fence, link);
		if (!fence->is_nobodys) {
			vgf_fence_signal(virgl->device, &fence->name, 0);
		}
		pthread_mutex_lock(&virgl->mutex);
		let_go(virgl, fence);
		pthread_mutex_unlock(&virgl->mutex);
		free(fence);
	}
	return is_gl;
}

static bool has_gl_fences(struct vgf_virgl *virgl)
{
	bool has;

	pthread_mutex_lock(&virgl->mutex);
	has = !TAILQ_EMPTY(&virgl->sent_gl);
	pthread_mutex_unlock(&virgl->mutex);
	return has;
}

static bool has_room_for_mark(struct vgf_virgl *virgl)
{
	bool has;

	pthread_mutex_lock(&virgl->mutex);
	has = virgl->num_marks < MAX_MARKS;
	pthread_mutex_unlock(&virgl->mutex);
	return has;
}

/* If there is no memory, or there are too many, it is sent in a later poll. */
static void send_mark(struct vgf_virgl *virgl)
{
	const struct vgf_fence_name name = {
		.fence_id = MARK_ID(virgl->next_mark),
		.ring = VGF_RING_GLOBAL,
	};

	bool is_sent = has_room_for_mark(virgl) && add_and_send(virgl, NULL, &name, true) == 0;

	virgl->owes_mark = !is_sent;
	virgl->next_mark += is_sent;
}

/* virglrenderer may have forgotten a fence. In its place there is no mark: if its VMM asks it for
 * a descriptor of a fence, it takes that for done if a mark is before it. The next fence that comes
 * back has to do, whichever it is of; but while a call waits the VMM makes none. What is left of
 * marks when it ends has to come back before the VMM is given a descriptor. */
static void mark_end(struct vgf_virgl *virgl)
{
	if ((!IN_PLACE || virgl->call_waits) && (virgl->flags & VIRGL_RENDERER_THREAD_SYNC) &&
		has_gl_fences(virgl)) {
		send_mark(virgl);
	}
}

void plugin_call_waits(struct vgf_virgl *virgl, bool waits)
{
	virgl->call_waits = waits;
	if (!waits) {
		virgl->owes_mark = false;
	} else if (!virgl->ended) {
		mark_end(virgl);
	}
}

bool plugin_has_marks(struct vgf_virgl *virgl)
{
	bool has;

	pthread_mutex_lock(&virgl->mutex);
	has = virgl->num_marks > 0;
	pthread_mutex_unlock(&virgl->mutex);
	return has;
}

void gl_context_destroy(struct virgl_context *context)
{
	struct vgf_virgl *virgl = context->virgl;

	virgl_renderer_context_destroy(context->ctx_id);
	renderer_context_end(context);
	mark_end(virgl);
}

void renderer_context_failed(struct virgl_context *context)
{
	renderer_context_end(context);
	if (context_is_gl(context)) {
		mark_end(context->virgl);
	}
}

static struct virgl_context *take_lingered(struct vgf_virgl *virgl)
{
	struct virgl_context *context;

	pthread_mutex_lock(&virgl->mutex);
	context = SLIST_FIRST(&virgl->lingered);
	if (context) {
		SLIST_REMOVE_HEAD(&virgl->lingered, lingered_link);
	}
	pthread_mutex_unlock(&virgl->mutex);
	return context;
}

/* The same lock is around the writing, or more would be written than is known. */
static void take_wake(struct vgf_virgl *virgl)
{
	eventfd_t ignored;

	pthread_mutex_lock(&virgl->mutex);
	if (atomic_exchange(&virgl->is_woken, false)) {
		eventfd_read(virgl->wake_fd, &ignored);
	}
	pthread_mutex_unlock(&virgl->mutex);
}

void end_lingered(struct vgf_virgl *virgl)
{
	struct virgl_context *context;

	if (!atomic_load(&virgl->is_woken) && !virgl->owes_mark) {
		return;
	}
	take_wake(virgl);
	if (virgl->owes_mark) {
		send_mark(virgl);
	}
	while ((context = take_lingered(virgl))) {
		LIST_REMOVE(context, linger_link);
		virgl->num_lingering--;
		gl_context_destroy(context);
		free(context);
	}
}

/* ---- At the end --------------------------------------------------------------------------- */

static unsigned int count_back(struct vgf_virgl *virgl)
{
	unsigned int count;

	pthread_mutex_lock(&virgl->mutex);
	count = virgl->num_back;
	pthread_mutex_unlock(&virgl->mutex);
	return count;
}

/* Without a mark on its way nobody may ever be called back for what is left. */
static bool waits_in_vain(struct vgf_virgl *virgl, unsigned int back, struct vain_wait *wait)
{
	if (virgl->owes_mark) {
		send_mark(virgl);
	}
	if (!virgl->owes_mark || !has_room_for_mark(virgl) || back != wait->back) {
		wait->back = back;
		wait->since_ns = now_ns();
	}
	return now_ns() - wait->since_ns >= IN_VAIN_NS;
}

/*
 * virglrenderer's thread asks to be polled behind each fence of which it saw, when it came to it,
 * that somebody waits for a query. Nobody begins to any more. So if it has called back twice and
 * did not ask, that is enough: it came to the second one after this was called.
 */
void finish_gl_fences(struct vgf_virgl *virgl)
{
	struct pollfd renderer = { .fd = virgl->renderer_fd, .events = POLLIN };
	struct vain_wait wait = { .since_ns = now_ns() };
	unsigned int before, back;

	if (!calls_back(virgl) || virgl->renderer_fd < 0 || !has_gl_fences(virgl)) {
		return;
	}
	virgl_renderer_force_ctx_0(); /* the VMM may have had another one current */
	send_mark(virgl);
	virgl_renderer_poll();
	before = back = count_back(virgl);
	while (has_gl_fences(virgl) && back - before < ENOUGH &&
		!waits_in_vain(virgl, back, &wait)) {
		bool asks = poll(&renderer, 1, ASK_MS) == 1;

		if (asks) {
			virgl_renderer_poll();
		}
		back = count_back(virgl);
		before = asks ? back : before;
	}
}

void forget_gl_fences(struct vgf_virgl *virgl)
{
	struct virgl_context *context;
	struct sent_fence *fence;

	pthread_mutex_lock(&virgl->mutex);
	while ((fence = TAILQ_FIRST(&virgl->sent_gl))) {
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the one before is off the list. */
		take(virgl, fence);
		free(fence);
	}
	SLIST_INIT(&virgl->lingered);
	virgl->owes_mark = false;
	pthread_mutex_unlock(&virgl->mutex);
	virgl->num_lingering = 0;
	while ((context = LIST_FIRST(&virgl->lingering))) {
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the one before is off the list. */
		LIST_REMOVE(context, linger_link);
		renderer_context_end(context);
		free(context);
	}
}
