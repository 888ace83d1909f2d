/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Native contexts, which wait on the GPU. virglrenderer has the fences of its native contexts in a
 * table by their IDs, from which submit_cmd2 takes those that a command stream waits for; it merges
 * the descriptors that attach_fence gets into that, too.
 *
 * What it does not find in the table it takes for signalled, so the plugin keeps count of what is
 * there: fences that are pending in the device, with a descriptor from the table. All others go by
 * their descriptors.
 */

#include "virgl.h"

#include <fcntl.h>
#include <search.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include <vgfence/sync_file.h>

static int compare_ids(const void *a, const void *b)
{
	const struct vgf_fence_name *x = a;
	const struct vgf_fence_name *y = b;

	return (x->fence_id > y->fence_id) - (x->fence_id < y->fence_id);
}

static bool has_native_fence(struct vgf_virgl *virgl, uint64_t fence_id)
{
	const struct vgf_fence_name key = { .fence_id = fence_id };
	bool found;

	pthread_mutex_lock(&virgl->mutex);
	found = tfind(&key, &virgl->native_fences, compare_ids) != NULL;
	pthread_mutex_unlock(&virgl->mutex);
	return found;
}

/* One that is not remembered, for want of memory say, goes by its descriptor. */
static void remember_fence(struct vgf_virgl *virgl, const struct vgf_job *job)
{
	const struct vgf_fence_name *name = &job->fence;
	struct vgf_fence_name *copy;

	/* That a mergeable one has retired is not told. */
	if (!HAS_FUNCTION(virgl_renderer_submit_cmd2) || (job->flags & VGF_MERGEABLE) ||
		has_native_fence(virgl, name->fence_id)) {
		return;
	}
	copy = malloc(sizeof(*copy));
	if (!copy) {
		return;
	}
	*copy = *name;
	pthread_mutex_lock(&virgl->mutex);
	if (!tsearch(copy, &virgl->native_fences, compare_ids)) {
		free(copy);
	}
	pthread_mutex_unlock(&virgl->mutex);
}

void native_fence_retired(struct vgf_virgl *virgl, const struct vgf_fence_name *name)
{
	struct vgf_fence_name *fence = NULL;
	void *node;

	pthread_mutex_lock(&virgl->mutex);
	node = tfind(name, &virgl->native_fences, compare_ids);
	if (node) {
		fence = *(struct vgf_fence_name **)node;
		if (fence->ctx_id == name->ctx_id && fence->ring == name->ring) {
			tdelete(fence, &virgl->native_fences, compare_ids);
		} else {
			fence = NULL;
		}
	}
	pthread_mutex_unlock(&virgl->mutex);
	free(fence);
}

static int attach_fence(const struct virgl_context *context, int fence_fd)
{
	int fd = fcntl(fence_fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0) {
		return -errno;
	}
	/* It closes the descriptor. One that it cannot merge is no sync file. */
	return virgl_renderer_attach_fence((int)context->ctx_id, fd) == 0 ? 0 : -EOPNOTSUPP;
}

int native_wait(
	const struct virgl_context *context, const struct vgf_job *job, struct native_ids *ids)
{
	uint32_t by_id = 0;
	int ret = 0;

	/* There are some, but a checker does not see it. */
	ids->ids = calloc((size_t)job->num_in_fences + 1, sizeof(*ids->ids));
	if (!ids->ids) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < job->num_in_fences && ret == 0; i++) {
		const struct vgf_in_fence *in_fence = &job->in_fences[i];
		if (has_native_fence(context->virgl, in_fence->fence_id)) {
			ids->ids[ids->count++] = in_fence->fence_id;
		} else if (!HAS_FUNCTION(virgl_renderer_attach_fence)) {
			ret = -EOPNOTSUPP;
		}
	}
	/* Those that are left; not asked again, as one may retire at any time. */
	for (uint32_t i = 0; i < job->num_in_fences && ret == 0; i++) {
		const struct vgf_in_fence *in_fence = &job->in_fences[i];
		if (by_id < ids->count && ids->ids[by_id] == in_fence->fence_id) {
			by_id++;
		} else {
			ret = attach_fence(context, in_fence->fd);
		}
	}
	return ret;
}

int native_submit(const struct virgl_context *context, const struct vgf_job *job,
	const struct native_ids *ids)
{
	int ret;

	if (ids->count == 0) {
		return submit_words(context, job->command, job->size);
	}
	enter_gl(context->virgl);
	ret = virgl_renderer_submit_cmd2((void *)job->command, (int)context->ctx_id,
		(int)(job->size / 4), ids->ids, ids->count);
	leave_gl(context->virgl);
	return to_errno(ret);
}

/* The table has the ID of another fence: one of another timeline, or from before a reset. */
static bool id_is_taken(uint64_t fence_id)
{
	int fd = virgl_renderer_get_fence_fd(fence_id);

	if (fd >= 0) {
		close(fd);
	}
	return fd >= 0;
}

int native_make_fence(struct virgl_context *context, const struct vgf_job *job, int *out_fence_fd)
{
	struct vgf_virgl *virgl = context->virgl;
	bool taken = id_is_taken(job->fence.fence_id);
	int ret, fd;

	/* Before it can signal, and retire. */
	atomic_store(&virgl->has_native, true);
	if (!taken) {
		remember_fence(virgl, job);
	}
	ret = send_context_fence(context, &job->fence);
	*out_fence_fd = VGF_FENCE_BY_CALL;
	fd = ret < 0 || taken ? -1 : virgl_renderer_get_fence_fd(job->fence.fence_id);
	if (fd >= 0) {
		*out_fence_fd = fd;
	} else {
		native_fence_retired(virgl, &job->fence); /* nobody can wait for it by its ID */
	}
	return ret;
}

/* virglrenderer drops a fence that has signalled from its table when it gets another one, and by
 * then the device has the descriptor. */
int native_fence_error(struct vgf_virgl *virgl, uint64_t fence_id)
{
	int fd, status = 0;

	if (!atomic_load(&virgl->has_native)) {
		return 0;
	}
	fd = virgl_renderer_get_fence_fd(fence_id);
	if (fd < 0) {
		vgf_fence_export(virgl->device, VGF_HOST, fence_id, &fd);
	}
	if (fd >= 0) {
		status = vgf_sync_file_status(fd);
		close(fd);
	}
	return status < 0 ? status : 0;
}
