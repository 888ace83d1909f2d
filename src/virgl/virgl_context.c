/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Contexts of virglrenderer as contexts of the device. */

#include "virgl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gl_commands.h"

int defer_in_context(
	struct virgl_context *context, size_t size, void (*fn)(void *arg, int status), void *arg)
{
	const struct vgf_deferred_call call = {
		.ctx_id = context->ctx_id,
		.ring = VGF_EVERY_RING,
		.kept_size = size,
		.fn = fn,
		.arg = arg,
	};

	if (context->virgl->ended) {
		return -ECANCELED; /* the device may have it no more */
	}
	return vgf_context_defer(context->virgl->device, &call);
}

int submit_words(const struct virgl_context *context, const void *command, size_t size)
{
	int ret;

	enter_gl(context->virgl);
	ret = virgl_renderer_submit_cmd(
		(void *)command, (int)context->ctx_id, (int)(size / sizeof(uint32_t)));
	leave_gl(context->virgl);
	return to_errno(ret);
}

/* ---- Waiting for in-fences ---------------------------------------------------------------- */

/*
 * The wait must be in the GL context that the commands run in, and that is the one of the
 * subcontext which they choose first. What chooses it is submitted before the rest, and may be
 * nothing: that makes the context current too. Sets *done to the bytes that were submitted.
 */
static int make_current(struct virgl_context *context, const struct vgf_job *job, size_t *done)
{
	size_t size = gl_commands_prologue(job->command, job->size);

	if (gl_commands_change_context((const char *)job->command + size, job->size - size)) {
		return -EOPNOTSUPP; /* the host waits instead */
	}
	*done = size;
	return submit_words(context, job->command, size);
}

static int wait_gl(struct virgl_context *context, const struct vgf_job *job, size_t *done)
{
	int ret;

	if ((job->num_in_fences > 0 && !context->virgl->egl) || !have_syncs(context->virgl, job)) {
		return -EOPNOTSUPP; /* before anything of it has run */
	}
	ret = make_current(context, job, done);
	for (uint32_t i = 0; ret == 0 && i < job->num_in_fences; i++) {
		ret = egl_sync_wait(context->virgl->egl, job->in_fences[i].fd);
		/* Nothing of it has run that may not run again. */
		ret = ret == -EIO ? -EOPNOTSUPP : ret;
	}
	if (ret == 0 && job->num_family_fences > 0) {
		ret = wait_for_syncs(context->virgl, job);
	}
	return ret;
}

/* ---- The driver --------------------------------------------------------------------------- */

/* Once a command may have run, the job must not be submitted again. */
static int final_error(const struct vgf_job *job, int error)
{
	return vgf_job_runs_again(job, error) ? -EIO : error;
}

static int submit_rest(struct virgl_context *context, const struct vgf_job *job, size_t done)
{
	if (job->size == done) {
		return 0;
	}
	return submit_words(context, (const char *)job->command + done, job->size - done);
}

static int submit_gl(struct virgl_context *context, const struct vgf_job *job)
{
	size_t done = 0;
	int ret = wait_gl(context, job, &done);

	return ret < 0 ? ret : final_error(job, submit_rest(context, job, done));
}

static int submit_native(struct virgl_context *context, const struct vgf_job *job)
{
	struct native_ids ids = { 0 };
	int ret = native_wait(context, job, &ids);

	if (ret == 0) {
		ret = final_error(job, native_submit(context, job, &ids));
	}
	free(ids.ids);
	return ret;
}

static int submit_commands(struct virgl_context *context, const struct vgf_job *job)
{
	if (job->num_in_fences == 0 && job->num_family_fences == 0) {
		return submit_rest(context, job, 0);
	}
	if (job->size == 0) {
		return -EOPNOTSUPP; /* a fence alone: nothing that could wait */
	}
	return job->wait == VGF_WAIT_GL ? submit_gl(context, job) : submit_native(context, job);
}

static bool wants_descriptor(const struct virgl_context *context, const struct vgf_job *job)
{
	return (job->flags & VGF_SHAREABLE) && job->fence.ring != VGF_RING_GLOBAL &&
		context->virgl->wait != VGF_VIRGL_WAIT_HOST;
}

/*
 * A fence of OpenGL is made in the GL context that is current, and is done when what is before it
 * there is. After the work that a fence without commands is for, virglrenderer may have made
 * another one current, so nothing is submitted to the context again. If that fails its work has
 * failed before, and has been told of.
 */
static void return_to_gl(const struct virgl_context *context, const struct vgf_job *job)
{
	static const uint32_t nothing; /* aligned, as virglrenderer asks for */

	if (context_is_gl(context) && job->size == 0) {
		submit_words(context, &nothing, 0);
	}
}

/* The work's out-fence: a descriptor if others may wait for it on the GPU, none if it is done, else
 * virglrenderer's callback. */
static int make_fence(struct virgl_context *context, const struct vgf_job *job, int *out_fence_fd)
{
	struct vgf_virgl *virgl = context->virgl;
	int ret;

	return_to_gl(context, job);
	if (wants_descriptor(context, job) && context_is_gl(context) && virgl->egl &&
		is_in_its_gl(context)) {
		ret = egl_sync_export(virgl->egl);
		if (ret >= 0) {
			*out_fence_fd = ret;
			return 0;
		}
	}
	if (make_sync(context, job)) {
		*out_fence_fd = VGF_FENCE_DONE;
		return 0;
	}
	*out_fence_fd = VGF_FENCE_BY_CALL;
	if (job->fence.ring == VGF_RING_GLOBAL) {
		return send_gl_fence(virgl, NULL, &job->fence);
	}
	if (wants_descriptor(context, job) && context_capset(context) == CAPSET_DRM &&
		has_native_wait()) {
		return native_make_fence(context, job, out_fence_fd);
	}
	context->has_sent = true;
	context->last_sent = job->fence;
	return send_context_fence(context, &job->fence);
}

/* If a context's worker has ended, what virglrenderer returns depends on its version. */
static int error_of(const struct virgl_context *context, int ret)
{
	int status = ret < 0 ? worker_status(context->virgl, context->ctx_id) : 0;

	return status < 0 ? status : ret;
}

static int run_job(struct virgl_context *context, const struct vgf_job *job, int *out_fence_fd)
{
	int ret = context->error;
	bool ran;

	if (ret == 0 && (job->size & 3)) {
		ret = -EFAULT;
	}
	ran = ret == 0;
	if (ran) {
		ret = error_of(context, submit_commands(context, job));
	}
	if (vgf_job_runs_again(job, ret)) {
		return ret;
	}
	if (ran) {
		note_gl(context, job);
	}
	if (!(job->flags & VGF_FENCED)) {
		if (ret < 0 && job->command != context->virgl->submitted) {
			context->failed = ret;
		}
		*out_fence_fd = VGF_FENCE_DONE;
		return ret;
	}
	/* The fence of a submission that had none of its own. */
	if (ret == 0 && job->size == 0) {
		ret = context->failed;
	}
	context->failed = 0;
	if (ret == 0) {
		ret = final_error(job, error_of(context, make_fence(context, job, out_fence_fd)));
	}
	return ret;
}

static int driver_submit(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	struct virgl_context *context = data;
	int ret;

	assert_thread(context->virgl);
	if (context->virgl->ended) {
		return -ECANCELED;
	}
	context->virgl->inside++;
	ret = run_job(context, job, out_fence_fd);
	context->virgl->inside--;
	return ret;
}

/* Returns whether virglrenderer has it still. */
static bool destroy_in_renderer(struct virgl_context *context)
{
	if (!context_is_gl(context)) {
		unwatch_worker(context);
		virgl_renderer_context_destroy(context->ctx_id);
		renderer_context_end(context);
		return false;
	}
	if (gl_context_give_up(context)) {
		return true;
	}
	gl_context_destroy(context);
	return false;
}

static void driver_destroy(void *data, bool cancelled)
{
	struct virgl_context *context = data;
	struct vgf_virgl *virgl = context->virgl;
	bool lingers = false;

	assert_thread(virgl);
	virgl->inside++;
	if (!context->closed) {
		context_leave(context);
	}
	if (!virgl->ended && context->error == 0) {
		lingers = destroy_in_renderer(context);
		if (!cancelled && !context_is_gl(context)) {
			/* Those that could not be waited for, as with no memory. For OpenGL's the
			 * context stays. */
			end_lost_fences(context, -ECANCELED);
		}
	} else {
		renderer_context_end(context);
	}
	context_release_resources(context);
	if (!lingers) {
		free(context);
	}
	virgl->inside--;
}

static struct vgf_driver choose_driver(const struct virgl_context *context)
{
	const struct vgf_virgl *virgl = context->virgl;
	struct vgf_driver driver = {
		.size = sizeof(struct vgf_driver),
		.wait = VGF_WAIT_HOST,
		.independent_rings = virgl->independent_rings && !context_is_gl(context),
		.submit = driver_submit,
		.destroy = driver_destroy,
	};

	if (virgl->wait == VGF_VIRGL_WAIT_HOST) {
		return driver;
	}
	if (context_is_gl(context) && (virgl->egl || virgl->has_syncs)) {
		driver.wait = VGF_WAIT_GL;
		driver.family = virgl->has_syncs ? virgl : NULL;
	} else if (context_capset(context) == CAPSET_DRM && has_native_wait()) {
		driver.wait = VGF_WAIT_DRIVER;
	}
	return driver;
}

/* ---- Creating and destroying -------------------------------------------------------------- */

struct creation {
	struct virgl_context *context;
	uint32_t nlen;
	char name[];
};

/* Contexts that are no GL contexts may have a descriptor of their own. */
static int watch_context(struct virgl_context *context)
{
	int fd = -1;

	if (!(context->virgl->flags & VIRGL_RENDERER_ASYNC_FENCE_CB) && !context_is_gl(context)) {
		fd = virgl_renderer_context_get_poll_fd(context->ctx_id);
	}
	return fd >= 0 ? watch_fd(context->virgl, fd) : 0;
}

static int create_in_renderer(const struct creation *creation)
{
	const struct virgl_context *context = creation->context;
	int ret;

	enter_gl(context->virgl); /* the render server has to start a process */
	ret = virgl_renderer_context_create_with_flags(
		context->ctx_id, context->flags, creation->nlen, creation->name);
	leave_gl(context->virgl);
	return to_errno(ret);
}

/* Venus: with a worker, which is watched. */
static int create_with_worker(const struct creation *creation)
{
	struct virgl_context *context = creation->context;
	struct next_fds next;
	int ret;

	if (!has_room_for_worker(context->virgl)) {
		plugin_log(context->virgl, "context %" PRIu32 ": there are %d of Venus already",
			context->ctx_id, MAX_WORKERS);
		return -ENOSPC;
	}
	ret = next_fds(context->virgl, &next);
	if (ret < 0) {
		return ret;
	}
	ret = create_in_renderer(creation);
	if (ret < 0) {
		plugin_log(context->virgl,
			"context %" PRIu32 ": the render server of Venus does not answer",
			context->ctx_id);
		return ret;
	}
	ret = watch_worker(context, &next);
	if (ret < 0) {
		virgl_renderer_context_destroy(context->ctx_id);
	}
	return ret;
}

static int create_kind(const struct creation *creation)
{
	struct virgl_context *context = creation->context;
	struct vgf_virgl *virgl = context->virgl;
	bool has_worker = context_capset(context) == CAPSET_VENUS && uses_render_server(virgl);
	int ret;

	end_lingered(virgl);
	ret = renderer_context_begin(context);
	if (ret == -EBUSY || ret == -ENOSPC) {
		plugin_log(virgl,
			"context %" PRIu32 ": OpenGL still draws for %s, whose fences were given "
			"up",
			context->ctx_id, ret == -EBUSY ? "an older one" : "too many others");
	}
	if (ret < 0) {
		return ret;
	}
	ret = has_worker ? create_with_worker(creation) : create_in_renderer(creation);
	if (ret < 0) {
		renderer_context_failed(context);
	}
	return ret;
}

static void create_now(void *arg, int status)
{
	struct creation *creation = arg;
	struct virgl_context *context = creation->context;
	struct vgf_virgl *virgl = context->virgl;

	(void)status; /* the old context's, and nobody can have cancelled the new one */
	context->error = -ECANCELED;
	if (!virgl->ended) {
		context->error = create_kind(creation);
	}
	if (context->error == 0) {
		context->error = watch_context(context);
		if (context->error < 0) {
			destroy_in_renderer(context);
		}
	}
	free(creation);
}

/* VMMs pass a guest's nlen as it is, with a name of 64 bytes. Of OpenGL's contexts virglrenderer
 * reads no more either, and not beyond a 0. */
#define MAX_NAME 63

static struct creation *creation_create(struct vgf_virgl *virgl, uint32_t ctx_id,
	uint32_t ctx_flags, uint32_t nlen, const char *name)
{
	size_t size = strnlen(name, nlen < MAX_NAME ? nlen : MAX_NAME);
	struct creation *creation = malloc(sizeof(*creation) + size);
	struct virgl_context *context = calloc(1, sizeof(*context));

	if (!creation || !context) {
		free(creation);
		free(context);
		return NULL;
	}
	context->virgl = virgl;
	context->ctx_id = ctx_id;
	context->flags = ctx_flags;
	context->worker_fd = -1;
	STAILQ_INIT(&context->waits);
	creation->context = context;
	creation->nlen = (uint32_t)size;
	memcpy(creation->name, name, size);
	return creation;
}

static int create_context(struct vgf_virgl *virgl, struct creation *creation)
{
	struct virgl_context *context = creation->context;
	struct vgf_driver driver = choose_driver(context);
	int ret = vgf_context_create(virgl->device, context->ctx_id, &driver, context);

	if (ret < 0) {
		free(context);
		free(creation);
		return ret;
	}
	context_enter(context);
	/* An old context of this ID may still have work. */
	ret = defer_in_context(context, sizeof(*creation) + creation->nlen, create_now, creation);
	if (ret < 0) {
		context->error = ret;
		free(creation);
	} else if (ret == 0) {
		ret = context->error;
	}
	if (ret < 0) {
		context_leave(context);
		vgf_context_destroy(virgl->device, context->ctx_id);
	}
	return ret;
}

VGF_EXPORT int vgf_virgl_context_create_with_flags(struct vgf_virgl *virgl, uint32_t ctx_id,
	uint32_t ctx_flags, uint32_t nlen, const char *name)
{
	struct virgl_context *context;
	struct creation *creation;

	assert_thread(virgl);
	if (ctx_id == 0 || virgl->ended) {
		return ctx_id == 0 ? -EINVAL : -ECANCELED;
	}
	context = find_context(virgl, ctx_id);
	if (context) {
		return context->flags == ctx_flags ? 0 : -EEXIST;
	}
	creation = creation_create(virgl, ctx_id, ctx_flags, name ? nlen : 0, name ? name : "");
	return creation ? create_context(virgl, creation) : -ENOMEM;
}

VGF_EXPORT int vgf_virgl_context_create(
	struct vgf_virgl *virgl, uint32_t handle, uint32_t nlen, const char *name)
{
	return vgf_virgl_context_create_with_flags(virgl, handle, CAPSET_VIRGL2, nlen, name);
}

/* Makes what follows in the context wait for a fence of its own. */
static int wait_for(struct vgf_virgl *virgl, const struct vgf_fence_name *fence)
{
	const struct vgf_submission submission = {
		.fence = { .ctx_id = fence->ctx_id, .ring = 0 },
		.num_in_fences = 1,
		.in_fences = &fence->fence_id,
	};

	return vgf_submit(virgl->device, &submission, NULL);
}

/*
 * Keeps virglrenderer's context until its last fence has retired, as it would never call back for
 * those that are left. Of each timeline only the newest counts, which is the last in the list.
 *
 * In place of libvirglrenderer nobody is told of them. There only OpenGL's contexts stay, for
 * virglrenderer's thread, as what OpenGL has comes to an end.
 */
static int wait_for_fences(struct vgf_virgl *virgl, uint32_t ctx_id)
{
	struct vgf_pending *pending;
	size_t count;

	if (!list_pending(virgl, ctx_id, &pending, &count)) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++) {
		const struct vgf_fence_name *fence = &pending[i].fence;
		bool newest = i + 1 == count || pending[i + 1].fence.ring != fence->ring;
		if (fence->ring != VGF_RING_GLOBAL && newest) {
			/* One that cannot be waited for may be lost when the context ends. */
			wait_for(virgl, fence);
		}
	}
	free(pending);
	return 0;
}

VGF_EXPORT int vgf_virgl_context_destroy(struct vgf_virgl *virgl, uint32_t handle)
{
	struct virgl_context *context;
	int ret;

	assert_thread(virgl);
	context = find_context(virgl, handle);
	if (!context) {
		return -ENOENT;
	}
	ret = IN_PLACE && !context_is_gl(context) ? 0 : wait_for_fences(virgl, handle);
	if (ret < 0) {
		return ret;
	}
	/* Before, as the context may be gone afterwards. */
	context_leave(context);
	ret = vgf_context_destroy(virgl->device, handle);
	if (ret < 0) {
		context_enter(context);
	}
	return ret;
}

/* ---- Submitting --------------------------------------------------------------------------- */

/* Held work has a copy of its command stream, so what runs with this one runs in here. */
static int submit(
	struct vgf_virgl *virgl, const struct vgf_submission *submission, bool *will_retire)
{
	const void *outer = virgl->submitted; /* this may be a log callback */
	int ret;

	virgl->submitted = submission->command;
	ret = vgf_submit(virgl->device, submission, will_retire);
	virgl->submitted = outer;
	return ret;
}

/* What the VMM does wrong, not its guest. */
static int check(const struct vgf_virgl *virgl, const struct vgf_submission *submission)
{
	if ((submission->flags & VGF_FENCED) && submission->fence.ring != VGF_RING_GLOBAL &&
		!can_retire_context_fences(virgl)) {
		return -EINVAL;
	}
	return (uintptr_t)submission->command & 3 ? -EFAULT : 0;
}

VGF_EXPORT int vgf_virgl_submit(
	struct vgf_virgl *virgl, const struct vgf_submission *submission, bool *will_retire)
{
	int ret = check(virgl, submission);

	assert_thread(virgl);
	if (ret < 0) {
		if (will_retire) {
			*will_retire = false;
		}
		return ret;
	}
	return submit(virgl, submission, will_retire);
}

VGF_EXPORT int vgf_virgl_submit_cmd2(struct vgf_virgl *virgl, void *buffer, int ctx_id, int ndw,
	const uint64_t *in_fence_ids, uint32_t num_in_fences)
{
	const struct vgf_submission submission = {
		.fence = { .ctx_id = (uint32_t)ctx_id, .ring = 0 },
		.in_fences = in_fence_ids,
		.num_in_fences = num_in_fences,
		.command = buffer,
		.size = (size_t)ndw * 4,
	};

	assert_thread(virgl);
	return ndw < 0 ? -EINVAL : vgf_virgl_submit(virgl, &submission, NULL);
}

VGF_EXPORT int vgf_virgl_submit_cmd(struct vgf_virgl *virgl, void *buffer, int ctx_id, int ndw)
{
	return vgf_virgl_submit_cmd2(virgl, buffer, ctx_id, ndw, NULL, 0);
}
