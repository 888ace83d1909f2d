/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* One submission: its in-fences, and what it needs to outlive the call that brought it. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctx_sync.h"
#include "sync_file.h"

/* To copy so many bytes takes as long as the rest of a submission. */
#define SMALL_COPY 4096

/* What is likely to be held back has room for a copy of so many bytes in its own memory. */
#define COPY_INSIDE 256

static bool takes_files(const struct submission *submission)
{
	enum vgf_wait wait = submission->driver->driver.wait;

	return wait == VGF_WAIT_DRIVER || wait == VGF_WAIT_GL;
}

static bool is_of_family(const struct submission *submission, const struct fence *fence)
{
	const void *family = submission->driver->driver.family;

	return family && fence->owner && owner_driver(fence->owner)->driver.family == family;
}

bool submission_lacks(const struct submission *submission, const struct fence *fence)
{
	return !fence_stands_alone(fence) ||
		!(fence_has_file(fence) ||
			(fence_is_handed(fence) && is_of_family(submission, fence)));
}

bool submission_ready(const struct submission *submission)
{
	if (submission->copying) {
		return false;
	}
	return submission->status < 0 || submission->pending == 0 ||
		(takes_files(submission) && !submission->on_host && submission->bare == 0);
}

/* A copy of a descriptor of the VMM's, unless it has signalled. */
static int import_file(struct submission *submission, int fence_fd)
{
	struct fence *fence;
	int copy;
	int ret = vgf_sync_file_poll(fence_fd);

	if (ret != 0) {
		return ret < 0 ? ret : 0;
	}
	copy = fcntl(fence_fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0) {
		return -errno;
	}
	fence = fence_import(submission->name.ctx_id, copy);
	if (!fence) {
		close(copy);
		return -ENOMEM;
	}
	STAILQ_INSERT_TAIL(&submission->imported, fence, link);
	submission->num_imported++;
	return 0;
}

/* ---- Its memory: behind it are its waiters, slots if there are many, and a small copy ---- */

static size_t size_of_waiters(uint32_t room)
{
	size_t slot = room > FEW_IN_FENCES ? sizeof(union in_fence_slot) : 0;

	return room * (sizeof(struct waiter) + slot);
}

static bool is_copied_inside(uint32_t room, size_t size)
{
	return room > 0 && size <= COPY_INSIDE;
}

/* For its copy. NULL: out of memory. */
static void *copy_place(const struct submission *submission)
{
	if (is_copied_inside(submission->room, submission->size)) {
		return (char *)submission->waiters + size_of_waiters(submission->room);
	}
	return malloc(submission->size);
}

static void submission_free(struct submission *submission)
{
	fence_free_list(&submission->imported);
	if (submission->unused_fd >= 0) {
		close(submission->unused_fd);
	}
	if (!is_copied_inside(submission->room, submission->size)) {
		free(submission->copy);
	}
	free(submission);
}

void submission_free_list(struct submission_list *garbage)
{
	struct submission *submission;

	while ((submission = STAILQ_FIRST(garbage))) {
		STAILQ_REMOVE_HEAD(garbage, link);
		submission_free(submission);
	}
}

int submission_create(const struct vgf_submission *head, struct submission **out)
{
	struct submission *submission;
	uint32_t room = head->num_in_fences + head->num_in_fence_fds; /* checked against limits */
	size_t copy_size = is_copied_inside(room, head->size) ? head->size : 0;
	int ret = 0;

	submission = malloc(sizeof(*submission) + size_of_waiters(room) + copy_size);
	if (!submission) {
		return -ENOMEM;
	}
	*submission = (struct submission){
		.kind = SUBMISSION_WORK,
		.name = head->fence,
		.flags = head->flags & CALLERS_FLAGS,
		.command = head->command,
		.size = head->size,
		.room = room,
		.waiters = (struct waiter *)(submission + 1),
		.unused_fd = -1,
	};
	STAILQ_INIT(&submission->imported);
	for (uint32_t i = 0; i < head->num_in_fence_fds && ret == 0; i++) {
		ret = import_file(submission, head->in_fence_fds[i]);
	}
	if (ret < 0) {
		submission_free(submission);
		return ret;
	}
	*out = submission;
	return 0;
}

/* Nobody else waits for an imported fence, so that it need not be watched any more. */
static void end_import(struct submission *submission, struct fence *fence)
{
	if ((fence->flags & FENCE_IMPORTED) && !(fence->flags & FENCE_SIGNALLED)) {
		fence_signal(submission->context->sync->fences, fence, 0);
	}
}

void submission_stop_waiting(struct submission *submission)
{
	for (uint32_t i = 0; submission->pending > 0; i++) {
		struct waiter *waiter = &submission->waiters[i];
		if (waiter->fence) {
			waiters_remove(&waiter->fence->waiters, waiter);
			end_import(submission, waiter->fence);
			waiter->fence = NULL;
			submission->pending--;
		}
	}
	submission->bare = 0;
}

void submission_discard(struct ctx_sync *sync, struct submission *submission)
{
	submission_stop_waiting(submission);
	STAILQ_INSERT_TAIL(&sync->garbage, submission, link);
}

/* Inline: it is called for each in-fence. */
static inline int look_up(const struct ctx_sync *sync, const struct fence_owner *asker,
	uint64_t fence_id, struct fence **fence)
{
	int ret = fence_table_look_up(sync->fences, fence_id, fence);

	if (ret < 0 || !*fence) {
		return ret;
	}
	if (asker && !((*fence)->flags & VGF_SHAREABLE) && (*fence)->owner != asker) {
		return -EPERM;
	}
	/* Signalled and next to retire: no reason to wait for the dispatching thread. */
	if (((*fence)->flags & FENCE_SIGNALLED) && fence_is_oldest(*fence)) {
		*fence = NULL;
	}
	return 0;
}

int in_fence_look_up(const struct ctx_sync *sync, const struct fence_owner *asker,
	uint64_t fence_id, struct fence **fence)
{
	return look_up(sync, asker, fence_id, fence);
}

static void wait_for(struct submission *submission, struct waiter *waiter, struct fence *fence)
{
	waiter->fence = fence;
	waiter->submission = submission;
	waiters_add(&fence->waiters, waiter);
}

/*
 * Makes waiters of the fences found, each once. A timeline retires in order, so the host need only
 * wait for its newest; a driver gets them all, as only the kernel knows which sync files signal in
 * order.
 */
void submission_link(
	struct ctx_sync *sync, struct submission *submission, uint32_t found, uint64_t now_ns)
{
	struct fence *fence;
	uint64_t serial = ++sync->resolve_serial;
	uint32_t count = 0;

	for (uint32_t i = 0; i < found; i++) {
		struct timeline *timeline;
		bool met;

		fence = submission->waiters[i].fence;
		timeline = fence->timeline;
		met = timeline->resolve_serial == serial;
		if (met && waiters_have_new(&fence->waiters, submission->waiters, count)) {
			continue;
		}
		if (met && !takes_files(submission)) {
			struct waiter *newest = timeline->resolve_newest;
			if (newest->fence->id < fence->id) {
				waiters_remove(&newest->fence->waiters, newest);
				wait_for(submission, newest, fence);
			}
			continue;
		}
		timeline->resolve_serial = serial;
		timeline->resolve_newest = &submission->waiters[count];
		wait_for(submission, &submission->waiters[count++], fence);
	}

	while ((fence = STAILQ_FIRST(&submission->imported))) {
		STAILQ_REMOVE_HEAD(&submission->imported, link);
		fence_table_add_imported(sync->fences, &submission->driver->owner, fence, now_ns);
		wait_for(submission, &submission->waiters[count++], fence);
	}
	submission->num_waiters = count;
	submission->pending = count;
	submission->waited = count > 0;
	for (uint32_t i = 0; i < count; i++) {
		submission->bare += submission_lacks(submission, submission->waiters[i].fence);
	}
}

int submission_look_up(struct ctx_sync *sync, struct submission *submission,
	const struct vgf_submission *head, bool ignore, struct in_fence_search *search)
{
	*search = (struct in_fence_search){ 0 };
	for (uint32_t i = 0; i < head->num_in_fences; i++) {
		struct fence *fence;
		int ret = look_up(sync, &submission->driver->owner, head->in_fences[i], &fence);

		if (ret < 0) {
			search->bad = head->in_fences[i];
			if (!ignore) {
				return ret;
			}
			search->ignored++;
			continue;
		}
		if (fence) {
			submission->waiters[search->found++].fence = fence;
		}
	}
	return 0;
}

/* Files from the start of the slots, names from their end: so each are an array. */
void submission_lend(struct submission *submission, union in_fence_slot *few, struct vgf_job *job)
{
	union in_fence_slot *own = (union in_fence_slot *)(submission->waiters + submission->room);
	union in_fence_slot *slots = submission->room > FEW_IN_FENCES ? own : few;
	struct vgf_in_fence *files = &slots->file;
	struct vgf_fence_name *names_end = (struct vgf_fence_name *)(slots + submission->room);
	uint32_t num_files = 0, num_names = 0;

	for (uint32_t i = 0; num_files + num_names < submission->pending; i++) {
		struct fence *fence = submission->waiters[i].fence;
		if (!fence) {
			continue;
		}
		waiters_remove(&fence->waiters, &submission->waiters[i]);
		fence_ref(fence);
		if (fence_is_handed(fence)) {
			names_end[-(ptrdiff_t)++num_names] = fence_name(fence);
		} else {
			files[num_files++] = (struct vgf_in_fence){ fence->id, fence->fd };
		}
	}
	job->in_fences = files;
	job->num_in_fences = num_files;
	job->family_fences = names_end - num_names;
	job->num_family_fences = num_names;
}

void submission_return(struct ctx_sync *sync, struct submission *submission, bool again)
{
	uint32_t lent = submission->pending;

	submission->on_host |= again;
	submission->pending = 0;
	submission->bare = 0;
	for (uint32_t i = 0; lent > 0; i++) {
		struct waiter *waiter = &submission->waiters[i];
		struct fence *fence = waiter->fence;

		if (!fence) {
			continue;
		}
		lent--;
		waiter->fence = NULL;
		if (again && !(fence->flags & FENCE_RETIRED)) {
			wait_for(submission, waiter, fence);
			submission->pending++;
			submission->bare += submission_lacks(submission, fence);
		} else {
			end_import(submission, fence);
		}
		fence_unref(sync->fences, fence);
	}
}

static size_t submission_weight(const struct submission *submission)
{
	return submission->size + sizeof(*submission) + size_of_waiters(submission->room);
}

static bool has_room_to_hold(
	const struct ctx_sync *sync, const struct submission *submission, size_t weight)
{
	const struct context_driver *driver = submission->driver;
	const struct vgf_limits *limits = sync->limits;

	/* The size first: the weight of a large one would wrap. */
	return submission->size <= limits->max_held_size && sync->stats->held < limits->max_held &&
		weight <= limits->max_held_size - sync->stats->held_size &&
		driver->held < sync->held_share && driver->held_size <= sync->held_size_share &&
		weight <= sync->held_size_share - driver->held_size;
}

void submission_copy(const struct submission *submission)
{
	memcpy(submission->copy, submission->command, submission->size);
}

void submission_copied(struct ctx_sync *sync, struct submission *submission)
{
	submission->copying = false;
	submission->command = submission->copy;
	sync->copying--;
}

int submission_hold(struct ctx_sync *sync, struct submission *submission)
{
	struct context_driver *driver = submission->driver;
	size_t weight = submission_weight(submission);

	if (submission->held) {
		return 0;
	}
	if (!has_room_to_hold(sync, submission, weight)) {
		return -ENOSPC;
	}
	if (submission->kind == SUBMISSION_WORK && submission->size > 0) {
		submission->copy = copy_place(submission);
		if (!submission->copy) {
			return -ENOMEM;
		}
		if (submission->size <= SMALL_COPY) {
			submission_copy(submission);
			submission->command = submission->copy;
		} else {
			submission->copying = true;
			sync->copying++;
		}
	}
	submission->held = true;
	driver->held++;
	driver->held_size += weight;
	sync->stats->held_size += weight;
	if (++sync->stats->held > sync->stats->peak_held) {
		sync->stats->peak_held = sync->stats->held;
	}
	return 0;
}

void submission_hold_end(struct ctx_sync *sync, struct submission *submission)
{
	if (submission->held) {
		submission->held = false;
		submission->driver->held--;
		submission->driver->held_size -= submission_weight(submission);
		sync->stats->held_size -= submission_weight(submission);
		sync->stats->held--;
	}
}
