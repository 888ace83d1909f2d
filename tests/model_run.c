/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "model_run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct run *current;
bool tracing;

void trace(const char *format, ...)
{
	va_list arguments;

	if (tracing) {
		va_start(arguments, format);
		fprintf(stderr, "%5u%*s ", current->step, (int)(2 * current->depth), "");
		vfprintf(stderr, format, arguments);
		fprintf(stderr, "\n");
		va_end(arguments);
	}
}

/* ---- Chance ------------------------------------------------------------------------------- */

/* splitmix64 */
static uint64_t next_random(struct run *run)
{
	uint64_t x = run->random += 0x9e3779b97f4a7c15;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

unsigned int below(struct run *run, unsigned int limit)
{
	return (unsigned int)(next_random(run) % limit);
}

bool chance(struct run *run, unsigned int per_cent)
{
	return below(run, 100) < per_cent;
}

uint32_t any_context(struct run *run)
{
	return 1 + below(run, run->num_contexts);
}

int32_t any_ring(struct run *run)
{
	static const int32_t rings[] = { 0, 0, 0, 1, 1, 2, VGF_MAX_RINGS - 1, VGF_RING_GLOBAL };

	return rings[below(run, 8)];
}

struct model_fence *any_fence(struct run *run)
{
	struct model *model = &run->model;

	return model->num_fences > 0 ? model->fences[below(run, model->num_fences)] : NULL;
}

/* Whether write_fence, which has 32 bits of it, could not tell it from one that is pending. */
static bool is_ambiguous(const struct model *model, uint64_t id)
{
	for (unsigned int i = 0; i < model->num_fences; i++) {
		const struct vgf_fence_name *name = &model->fences[i]->name;
		if (name->ring == VGF_RING_GLOBAL && (uint32_t)name->fence_id == (uint32_t)id) {
			return true;
		}
	}
	return false;
}

/* Mostly one more than the last; sometimes one that another timeline has had, or has; or a
 * wrong one. */
uint64_t any_new_id(struct run *run, const struct vgf_fence_name *timeline)
{
	const struct model *model = &run->model;
	unsigned int dice = below(run, 100);
	uint64_t next = 0;

	for (unsigned int i = 0; i < model->num_nexts; i++) {
		if (model->nexts[i].ring == timeline->ring &&
			(timeline->ring < 0 || model->nexts[i].ctx_id == timeline->ctx_id)) {
			next = model->nexts[i].id;
		}
	}
	if (model->next_id < run->first_id) {
		return run->first_id;
	}
	if (dice < 3) {
		return next - 1;
	}
	if (dice < 4) {
		return next > 3 ? next - 3 : 0;
	}
	if (dice < 8) {
		return next;
	}
	next = model->next_id + (dice < 16 ? below(run, 5) : 0);
	while (timeline->ring == VGF_RING_GLOBAL && is_ambiguous(model, next)) {
		next++;
	}
	return next;
}

uint64_t any_in_fence(struct run *run, const uint64_t *earlier, unsigned int num_earlier)
{
	uint64_t next = run->model.next_id;
	const struct model_fence *fence = any_fence(run);
	unsigned int dice = below(run, 100);

	if (dice < 70 && fence) {
		return fence->name.fence_id;
	}
	if (dice < 80 && num_earlier > 0) {
		return earlier[below(run, num_earlier)];
	}
	if (dice < 82) {
		return next + below(run, 3);
	}
	return next > 30 ? next - below(run, 30) : below(run, (unsigned int)next + 1);
}

/* ---- Fences with descriptors -------------------------------------------------------------- */

/* Makes a descriptor to give away, and the handle with which the test signals it. */
int make_descriptor(struct run *run, int *handle, bool *is_pipe)
{
	int fds[2];

	*is_pipe = chance(run, 30);
	if (*is_pipe) {
		check(pipe2(fds, O_CLOEXEC) == 0);
		*handle = fds[1];
		return fds[0];
	}
	fds[0] = make_fence(false);
	*handle = fcntl(fds[0], F_DUPFD_CLOEXEC, 0);
	check(*handle >= 0);
	return fds[0];
}

void close_handle(struct model_fence *fence)
{
	if (fence->handle >= 0) {
		close(fence->handle);
		fence->handle = -1;
	}
}

void forget_imports(struct run *run)
{
	struct model_fence *fence;

	while ((fence = model_take_import(&run->model))) {
		close_handle(fence);
	}
}

/* Whatever waits for it finds out when the library dispatches. A pipe can end in an error. */
void signal_descriptor(struct run *run, struct model_fence *fence)
{
	bool fails = fence->is_pipe && chance(run, 30);

	trace("fence %" PRIu64 " signals its descriptor", fence->name.fence_id);
	if (fails) {
		close_handle(fence);
	} else if (fence->is_pipe) {
		check(write(fence->handle, "", 1) == 1);
	} else {
		signal_fence(fence->handle);
	}
	model_signal(fence, fails ? -EIO : 0, false);
}

bool is_readable(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	check(poll(&pollfd, 1, 0) >= 0);
	check(!(pollfd.revents & POLLNVAL));
	return pollfd.revents != 0;
}

/* Whether a descriptor that the library gave out is that of the fence. */
void check_descriptor(const struct model_fence *fence, int fd)
{
	struct stat theirs, ours;

	check(fence->has_fd);
	check(is_readable(fd) == (fence->signalled && !fence->known));
	if (fence->is_pipe && fence->handle >= 0) {
		check(fstat(fd, &theirs) == 0 && fstat(fence->handle, &ours) == 0);
		check(theirs.st_ino == ours.st_ino);
	}
}
