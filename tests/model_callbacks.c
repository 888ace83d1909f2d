/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What the library calls in a run: it is compared with the model, and may call back. */

#include "model_run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_DEPTH 3

/* ---- Callbacks ---------------------------------------------------------------------------- */

static void enter(struct run *run)
{
	run->events++;
	run->depth++;
}

static void leave(struct run *run)
{
	run->depth--;
}

static void meddle(struct run *run)
{
	/* During a reset there is not much else to do, and what is left wrong stays. */
	if (run->model.resetting == 1 && chance(run, 5 * run->settings->meddle)) {
		operate(run, chance(run, 20) ? reset_device : create_context);
	}
	while (run->depth <= MAX_DEPTH && chance(run, run->settings->meddle)) {
		any_operation(run);
	}
}

/* `fence` is the one that was called back for; those before it were merged. */
static void retire_up_to(struct run *run, struct model_fence *fence, int status, bool has_status)
{
	struct model *model = &run->model;
	struct model_fence *oldest;

	check(fence->signalled);
	check(!has_status || fence->status == status);
	do {
		oldest = model_oldest(model, &fence->name);
		check(oldest->signalled);
		if (oldest != fence) {
			check(oldest->flags & VGF_MERGEABLE);
			check(oldest->status == 0);
		}
		close_handle(oldest);
		model_retire(model, oldest);
	} while (oldest != fence);
}

/* With whatever is in flight. */
void destroy_device(struct run *run)
{
	run->destroy_in_callback = false;
	run->destroying = true;
	model_reset(&run->model);
	vgf_device_destroy(run->device);
	model_reset_done(&run->model);
	/* It takes nothing more, but is there until the callbacks that are around this return. */
	run->model.resetting++;
}

static void on_retired(struct run *run, struct model_fence *fence, int status, bool has_status)
{
	check(run->model.dispatching > 0);
	check(fence != NULL);
	trace("retired: context %u ring %d fence %" PRIu64 " (%d)", fence->name.ctx_id,
		fence->name.ring, fence->name.fence_id, status);
	enter(run);
	run->unannounced++;
	retire_up_to(run, fence, status, has_status);
	if (run->destroy_in_callback) {
		destroy_device(run);
	} else {
		meddle(run);
	}
	leave(run);
}

static void on_retire(void *cookie, const struct vgf_retired *retired)
{
	const struct vgf_fence_name *name = &retired->fence;
	int status = retired->status;
	struct run *run = cookie;
	struct model_fence *fence = model_find(&run->model, name);

	check(fence != NULL && fence->name.ctx_id == name->ctx_id);
	on_retired(run, fence, status, true);
}

static void on_write_context_fence(void *cookie, uint32_t ctx_id, uint32_t ring, uint64_t fence_id)
{
	struct run *run = cookie;
	struct vgf_fence_name name = { fence_id, ctx_id, (int32_t)ring };

	check(ring < VGF_MAX_RINGS);
	on_retired(run, model_find(&run->model, &name), 0, false);
}

static void on_write_fence(void *cookie, uint32_t fence_id)
{
	struct run *run = cookie;
	struct model_fence *found = NULL;

	for (unsigned int i = 0; i < run->model.num_fences && !found; i++) {
		struct model_fence *fence = run->model.fences[i];
		if (fence->name.ring == VGF_RING_GLOBAL &&
			(uint32_t)fence->name.fence_id == fence_id) {
			found = fence;
		}
	}
	on_retired(run, found, 0, false);
}

/* Of a fence that is merged the model hears with the next one. Until then it would count it to what
 * is called from here. */
void on_notified(void *arg, int status)
{
	struct model_fence *fence = arg;

	trace("notified: fence %" PRIu64 " (%d)", fence->name.fence_id, status);
	check(current->model.dispatching > 0);
	check(fence->told < fence->asked);
	check(fence->retired || (fence->signalled && (fence->flags & VGF_MERGEABLE)));
	check(fence->status == status);
	enter(current);
	fence->told++;
	current->notifications--;
	if (fence->retired) {
		meddle(current);
	}
	leave(current);
}

static void on_retire_end(void *cookie)
{
	struct run *run = cookie;

	check(run->model.dispatching > 0);
	enter(run);
	run->unannounced = 0;
	meddle(run);
	leave(run);
}

/* Whether it may retire here; not for what is signalled inside of that. */
static bool on_signal_enter(void *cookie)
{
	struct run *run = cookie;
	bool here = run->signals_here;

	run->signals_here = false;
	run->is_signalling |= here;
	return here;
}

static void on_signal_leave(void *cookie)
{
	struct run *run = cookie;

	check(run->is_signalling && run->depth == 0);
	run->is_signalling = false;
}

const struct vgf_callbacks plain_callbacks = {
	.size = sizeof(struct vgf_callbacks),
	.retire = on_retire,
	.retire_end = on_retire_end,
	.signal_enter = on_signal_enter,
	.signal_leave = on_signal_leave,
};

const struct vgf_callbacks virglrenderer_callbacks = {
	.size = sizeof(struct vgf_callbacks),
	.write_fence = on_write_fence,
	.write_context_fence = on_write_context_fence,
	.retire_end = on_retire_end,
	.signal_enter = on_signal_enter,
	.signal_leave = on_signal_leave,
};

/* ---- The driver --------------------------------------------------------------------------- */

void fill_command(char *command, uint64_t serial, size_t size)
{
	memset(command, (int)(serial % 251), size);
	memcpy(command, &serial, sizeof(serial));
}

static struct model_item *find_item(struct run *run, const struct vgf_job *job)
{
	char command[MAX_COMMAND];
	struct model_item *item;
	uint64_t serial;

	check(job->size >= sizeof(serial) && job->size <= MAX_COMMAND);
	memcpy(&serial, job->command, sizeof(serial));
	fill_command(command, serial, job->size);
	check(memcmp(command, job->command, job->size) == 0);
	item = model_item(&run->model, serial);
	check(item != NULL);
	check(item->name.ctx_id == job->fence.ctx_id && item->name.ring == job->fence.ring);
	check(item->name.fence_id == job->fence.fence_id && item->flags == job->flags);
	return item;
}

static const struct vgf_in_fence *find_lent(
	const struct vgf_job *job, const struct model_fence *dep)
{
	for (uint32_t i = 0; i < job->num_in_fences; i++) {
		if (job->in_fences[i].fence_id == dep->name.fence_id) {
			return &job->in_fences[i];
		}
	}
	return NULL;
}

static bool is_lent_by_name(const struct vgf_job *job, const struct model_fence *dep)
{
	for (uint32_t i = 0; i < job->num_family_fences; i++) {
		const struct vgf_fence_name *name = &job->family_fences[i];
		if (name->fence_id == dep->name.fence_id && name->ctx_id == dep->name.ctx_id &&
			name->ring == dep->name.ring) {
			return true;
		}
	}
	return false;
}

static uint32_t num_lent(const struct vgf_job *job)
{
	return job->num_in_fences + job->num_family_fences;
}

/* Descriptors that were given with the submission have no ID: every pending one must be there.
 * Returns how many there are. */
static uint32_t check_imports(const struct model_item *item, const struct vgf_job *job)
{
	uint32_t lent = 0, lent_pending = 0, pending = 0, all = 0;

	for (uint32_t i = 0; i < job->num_in_fences; i++) {
		if (job->in_fences[i].fence_id == VGF_NO_FENCE_ID) {
			lent++;
			lent_pending += !is_readable(job->in_fences[i].fd);
		}
	}
	for (unsigned int i = 0; i < item->num_deps; i++) {
		all += item->deps[i]->imported;
		pending += item->deps[i]->imported && !item->deps[i]->signalled;
	}
	check(lent_pending == pending && lent <= all);
	return lent;
}

/* Nothing reaches a driver before its in-fences have signalled or are handed to it. */
static void check_in_fences(
	struct run *run, const struct model_item *item, const struct vgf_job *job)
{
	enum vgf_wait wait = item->context->driver.wait;
	uint32_t lent = check_imports(item, job);

	if (item->doubtful) {
		return;
	}
	for (unsigned int i = 0; i < item->num_deps; i++) {
		const struct model_fence *dep = item->deps[i];
		const struct vgf_in_fence *in_fence = dep->imported ? NULL : find_lent(job, dep);
		uint32_t before = lent;
		if (in_fence && !dep->retired) {
			check(!dep->known);
			check_descriptor(dep, in_fence->fd);
			lent++;
		} else if (is_lent_by_name(job, dep)) {
			check(!dep->known && !dep->has_fd);
			check(dep->family && dep->family == item->context->driver.family);
			lent++;
		} else if (!dep->imported) {
			check(model_may_retire(&run->model, dep));
		}
		check(lent == before || model_stands_alone(&run->model, dep) != NO);
	}
	check(lent == num_lent(job));
	if (lent > 0) {
		check(!item->on_host && job->wait == wait);
		check(wait == VGF_WAIT_DRIVER || wait == VGF_WAIT_GL);
	} else {
		check(job->wait == VGF_WAIT_HOST || job->wait == VGF_WAIT_NONE);
		check(item->waited == EITHER ||
			(job->wait == VGF_WAIT_HOST) == (item->waited == YES));
	}
}

static void count_run(struct vgf_stats *stats, enum vgf_wait wait)
{
	stats->run_ready += wait == VGF_WAIT_NONE;
	stats->run_driver += wait == VGF_WAIT_DRIVER;
	stats->run_gl += wait == VGF_WAIT_GL;
	stats->run_host += wait == VGF_WAIT_HOST;
}

static void keep_copy(struct run *run, int fd)
{
	int *place = &run->copies[below(run, 8)];

	if (*place >= 0) {
		close(*place);
	}
	*place = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	check(*place >= 0);
}

static int answer_descriptor(struct run *run, struct model_fence *fence)
{
	bool is_pipe;
	int handle;
	int fd = make_descriptor(run, &handle, &is_pipe);

	if (!fence) {
		close(handle);
		return fd;
	}
	fence->handle = handle;
	fence->is_pipe = is_pipe;
	fence->has_fd = true;
	if (chance(run, 20)) {
		signal_descriptor(run, fence);
	}
	return fd;
}

/* Something was done to the fence already, by a call from inside the driver: then more calls
 * follow. */
static int answer(struct run *run, struct model_fence *fence)
{
	unsigned int dice = below(run, 100);

	if (dice < 35 || (fence && (fence->signalled || fence->has_fd))) {
		return VGF_FENCE_BY_CALL;
	}
	if (dice < 55) {
		if (fence) {
			model_signal(fence, 0, true);
		}
		return VGF_FENCE_DONE;
	}
	return answer_descriptor(run, fence);
}

static int any_error(struct run *run)
{
	static const int errors[] = { -EMFILE, -ENFILE, -ENOMEM, -EOPNOTSUPP, -EIO, -EINVAL };

	return errors[below(run, 6)];
}

static bool is_missing_resource(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -EOPNOTSUPP;
}

/* The driver cannot take the in-fences: the library holds the work back. */
static void hold_on_host(struct run *run, struct model_item *item)
{
	item->state = WAITING;
	item->on_host = true;
	item->waited = YES;
	if (item->attempts == 1) {
		item->first_result = 1;
	}
	leave(run);
	run->model.running--;
}

static void end_job(struct run *run, struct model_item *item, int ret, enum vgf_wait wait)
{
	if (item->fence && !item->fence->signalled && !item->fence->has_fd) {
		item->fence->family = item->context->driver.family;
	}
	if (item->fence && ret < 0 && !item->fence->signalled) {
		model_signal(item->fence, ret, true);
	}
	if (item->attempts == 1) {
		item->first_result = ret;
	}
	count_run(&run->model.stats, wait);
	model_end_item(&run->model, item);
	leave(run);
	run->model.running--;
}

int on_submit(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	struct model_context *context = data;
	struct run *run = (struct run *)context->model;
	struct model_item *item = find_item(run, job);
	int ret = chance(run, num_lent(job) > 0 ? 25 : 6) ? any_error(run) : 0;

	trace("run %" PRIu64 " with %u in-fences and %u by name", item->serial, job->num_in_fences,
		job->num_family_fences);
	check(item->context == context && !context->gone);
	check(item->state == WAITING && !item->dropped);
	check(!model_is_blocked(&run->model, item, true));
	check_in_fences(run, item, job);
	if (job->num_in_fences > 0) {
		keep_copy(run, job->in_fences[below(run, job->num_in_fences)].fd);
	}

	enter(run);
	run->model.running++;
	item->state = RUNNING;
	item->attempts++;
	meddle(run);
	if (ret < 0 && chance(run, run->settings->meddle)) {
		run->model.fuzzy = true;
		cancel_a_context(run, context->id, VGF_CANCEL_OPEN | VGF_CANCEL_DESTROYED,
			chance(run, 50) ? -ECANCELED : -ETIME);
	}
	if (item->fence && (item->fence->signalled || item->fence->has_fd)) {
		ret = 0; /* a driver that has called for its fence does not fail any more */
	}
	if (num_lent(job) == 0 || !is_missing_resource(ret)) {
		*out_fence_fd = ret == 0 ? answer(run, item->fence) : VGF_FENCE_BY_CALL;
		end_job(run, item, ret, job->wait);
	} else if (item->doomed) {
		end_job(run, item, item->status, job->wait);
	} else {
		hold_on_host(run, item);
	}
	return ret;
}

/* What a barrier calls, one way or the other. */
static void run_barrier(struct run *run, struct model_item *item)
{
	check(item->state == WAITING);
	check(!model_is_blocked(&run->model, item, true));
	enter(run);
	run->model.running++;
	item->state = RUNNING;
	meddle(run);
	model_end_item(&run->model, item);
	run->model.running--;
	leave(run);
}

void on_destroy(void *data, bool cancelled)
{
	struct model_context *context = data;
	struct run *run = (struct run *)context->model;
	struct model_item *item = NULL;

	trace("context %u is gone (%d)", context->id, cancelled);
	for (unsigned int i = 0; i < run->model.num_items && !item; i++) {
		if (run->model.items[i]->kind == DESTROY &&
			run->model.items[i]->context == context) {
			item = run->model.items[i];
		}
	}
	check(item != NULL && !context->gone);
	check(cancelled == item->dropped);
	run_barrier(run, item);
}

void on_turn(void *arg, int status)
{
	struct model_item *item = arg;
	struct run *run = (struct run *)item->model;

	trace("deferred function (%d)", status);
	check(status == (item->dropped ? item->status : 0));
	run_barrier(run, item);
}
