/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a run does to the library, and to the model. */

#include "calls.h"
#include "model_run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_PENDING 70

/* ---- Operations: contexts ----------------------------------------------------------------- */

static struct vgf_driver any_driver(struct run *run)
{
	static const enum vgf_wait waits[] = { VGF_WAIT_HOST, VGF_WAIT_HOST, VGF_WAIT_DRIVER,
		VGF_WAIT_DRIVER, VGF_WAIT_DRIVER, VGF_WAIT_GL, VGF_WAIT_NONE };
	static const char families[2];

	return (struct vgf_driver){
		.size = sizeof(struct vgf_driver),
		.wait = waits[below(run, 7)],
		.independent_rings = chance(run, 50),
		.submit = on_submit,
		.destroy = on_destroy,
		.family = chance(run, 50) ? &families[below(run, 2)] : NULL,
	};
}

void create_context(struct run *run)
{
	uint32_t id = any_context(run);
	struct vgf_driver driver = any_driver(run);
	struct expectation expected = expect_create(&run->model, id);
	struct model_context *context = model_create(&run->model, id, &driver);
	int ret = vgf_context_create(run->device, id, &driver, context);

	trace("create context %u, wait %d, independent %d: %d", id, driver.wait,
		driver.independent_rings, ret);
	check(ret <= 0 && is_expected(&expected, ret));
	if (ret < 0) {
		model_uncreate(&run->model, context);
	}
}

static void destroy_context(struct run *run)
{
	uint32_t id = any_context(run);
	struct expectation expected = expect_call(&run->model, id, DESTROY, VGF_EVERY_RING);
	struct model_context *context = model_context(&run->model, id);
	int ret;

	trace("destroy context %u", id);
	if (context) {
		model_add(&run->model, DESTROY, context);
		context->open = false;
	}
	ret = vgf_context_destroy(run->device, id);
	check(is_expected(&expected, ret));
	if (ret >= 0) {
		check(ret == (context->gone ? 0 : 1));
		check(expected.runs == EITHER || ret == (expected.runs == YES ? 0 : 1));
	}
}

static enum answer is_there(struct run *run, uint32_t id, uint32_t flags)
{
	const struct model *model = &run->model;

	if (flags & VGF_CANCEL_EVERY_CONTEXT) {
		return YES;
	}
	if ((flags & VGF_CANCEL_OPEN) && model_context(model, id)) {
		return YES;
	}
	if (!(flags & VGF_CANCEL_DESTROYED)) {
		return NO;
	}
	for (unsigned int i = 0; i < model->num_items && !model->fuzzy; i++) {
		if (model->items[i]->context->id == id && !model->items[i]->context->open) {
			return YES;
		}
	}
	return EITHER;
}

void cancel_a_context(struct run *run, uint32_t id, uint32_t flags, int error)
{
	enum answer there = is_there(run, id, flags);
	int ret;

	model_cancel(&run->model, id, flags, error);
	ret = vgf_context_cancel(run->device, id, flags, error);
	trace("cancel context %u, flags %x: %d", id, flags, ret);
	check((ret == 0 && there != NO) || (ret == -ENOENT && there != YES));
}

static int any_cancel_error(struct run *run)
{
	return chance(run, 50) ? -ECANCELED : -ETIME;
}

/* What runs is given up only if the model knows what the library has seen of it. */
static void cancel_any_context(struct run *run)
{
	uint32_t flags = 1 + below(run, 3);

	if (!run->model.fuzzy && run->depth == 0 && chance(run, 40)) {
		flags |= VGF_CANCEL_RUNNING;
	}
	if (chance(run, 10)) {
		flags |= VGF_CANCEL_EVERY_CONTEXT;
	}
	cancel_a_context(run, any_context(run), flags, any_cancel_error(run));
}

static void cancel_timeline(struct run *run)
{
	struct vgf_fence_name timeline = { 0, any_context(run), any_ring(run) };
	int error = any_cancel_error(run);
	unsigned int count;
	int ret;

	if (run->model.fuzzy || run->depth > 0) {
		return;
	}
	count = model_cancel_timeline(&run->model, &timeline, error);
	ret = vgf_timeline_cancel(run->device, timeline.ctx_id, timeline.ring, error);
	trace("cancel timeline: context %u ring %d: %d", timeline.ctx_id, timeline.ring, ret);
	check(ret == (int)count || (ret == -ENOENT && count == 0));
}

static void defer(struct run *run)
{
	uint32_t id = any_context(run);
	int32_t ring = chance(run, 50) ? VGF_EVERY_RING : any_ring(run);
	struct expectation expected = expect_call(&run->model, id, CALL, ring);
	struct model_context *context = model_context(&run->model, id);
	struct model_item *item = context ? model_add(&run->model, CALL, context) : NULL;
	const struct vgf_deferred_call call = {
		.ctx_id = id,
		.ring = ring,
		.fn = on_turn,
		.arg = item,
	};
	int ret;

	if (item) {
		item->name.ring = ring;
	}
	trace("defer in context %u ring %d", id, ring);
	ret = vgf_context_defer(run->device, &call);
	check(is_expected(&expected, ret));
	if (ret >= 0) {
		check(ret == (item->state == FINISHED ? 0 : 1));
		check(expected.runs == EITHER || ret == (expected.runs == YES ? 0 : 1));
	} else if (item) {
		model_remove(&run->model, item);
	}
}

/* ---- Operations: work and fences ---------------------------------------------------------- */

static struct vgf_fence_name any_name(struct run *run)
{
	struct vgf_fence_name name = { .ctx_id = any_context(run), .ring = any_ring(run) };

	if (chance(run, 1)) {
		name.ring = chance(run, 50) ? VGF_MAX_RINGS : VGF_RING_GLOBAL - 1;
	}
	name.fence_id = any_new_id(run, &name);
	return name;
}

static uint32_t any_flags(struct run *run)
{
	return (chance(run, 85) ? VGF_FENCED : 0) | (chance(run, 90) ? VGF_SHAREABLE : 0) |
		(chance(run, 30) ? VGF_MERGEABLE : 0) | (chance(run, 10) ? VGF_PATIENT : 0);
}

static struct model_item *offer(struct run *run, const struct vgf_submission *head,
	const struct expectation *expected, struct model_fence *fence)
{
	struct model_context *context = model_context(&run->model, head->fence.ctx_id);
	struct model_item *item;

	if (!context) {
		return NULL;
	}
	item = model_add(&run->model, WORK, context);
	item->serial = run->serial;
	item->name = head->fence;
	item->flags = head->flags;
	item->fence = fence;
	item->waited = expected->waited;
	item->doubtful = expected->doubtful;
	item->num_deps = expected->num_deps;
	memcpy(item->deps, expected->deps, sizeof(item->deps));
	if (fence) {
		fence->item = item;
	}
	return item;
}

static void offer_imports(struct run *run, struct model_item *item,
	const struct vgf_submission *head, struct model_fence *const *imports)
{
	for (uint32_t i = 0; i < head->num_in_fence_fds; i++) {
		if (item && !imports[i]->signalled) {
			imports[i]->item = item;
			imports[i]->name.ctx_id = item->context->id;
			imports[i]->context_serial = item->context->serial;
			model_imported(&run->model, imports[i]);
		}
	}
}

static void end_imports(struct run *run, uint32_t count, struct model_fence *const *imports)
{
	for (uint32_t i = 0; i < count; i++) {
		if (!imports[i]->item) {
			close_handle(imports[i]);
		}
	}
	forget_imports(run);
}

static void refused(struct run *run, struct model_item *item, struct model_fence *fence, int error)
{
	if (item) {
		model_remove(&run->model, item);
		model_unimport(&run->model, item);
	}
	if (fence) {
		fence->item = NULL;
		model_signal(fence, error, true);
	}
	run->model.stats.refused++;
}

static void accepted(struct run *run, const struct vgf_submission *head,
	const struct expectation *expected, struct model_item *item, int ret)
{
	struct vgf_stats *stats = &run->model.stats;
	uint32_t count = head->num_in_fences + head->num_in_fence_fds;

	check(item != NULL);
	if (item->attempts > 0) {
		check(expected->runs != NO);
		check(ret == item->first_result);
	} else {
		check(expected->runs != YES);
		check(ret == 1);
	}
	stats->submitted++;
	stats->in_fences += count;
	stats->in_fences_done += count > expected->num_deps ? count - expected->num_deps : 0;
	run->in_fences_most += count - expected->num_timelines;
}

static void submit_head(
	struct run *run, const struct vgf_submission *head, struct model_fence *const *imports)
{
	struct expectation expected = expect_submit(&run->model, head, imports);
	struct model_fence *fence = NULL;
	struct model_item *item;
	bool will_retire;
	int ret;

	if (expected.placed != NO) {
		fence = model_put(&run->model, &head->fence, head->flags, true);
	}
	item = offer(run, head, &expected, fence);
	offer_imports(run, item, head, imports);
	ret = vgf_submit(run->device, head, &will_retire);
	trace("submit %" PRIu64 ": %d, will retire: %d", run->serial, ret, will_retire);

	check(expected.placed == EITHER || will_retire == (expected.placed == YES));
	if (fence && !will_retire) {
		model_take_back(&run->model, fence);
		fence = NULL;
	}
	if (ret >= 0 || (item && item->attempts > 0)) {
		check(!expected.must_fail);
		accepted(run, head, &expected, item, ret);
	} else {
		check(is_expected(&expected, ret));
		refused(run, item, fence, ret);
	}
	run->model.stats.created += fence != NULL;
	end_imports(run, head->num_in_fence_fds, imports);
}

static struct model_fence *make_import(struct run *run, int *fd)
{
	struct model_fence *fence;
	bool is_pipe;
	int handle;

	*fd = make_descriptor(run, &handle, &is_pipe);
	fence = model_import(&run->model, handle, is_pipe);
	if (chance(run, 20)) {
		signal_descriptor(run, fence);
	}
	return fence;
}

static void submit(struct run *run)
{
	/* On the stack and overwritten afterwards: what is held must be a copy. */
	char command[MAX_COMMAND];
	uint64_t in_fences[MODEL_MAX_IN_FENCES];
	int fds[MODEL_MAX_IN_FENCE_FDS];
	struct model_fence *imports[MODEL_MAX_IN_FENCE_FDS];
	struct vgf_submission head = {
		.fence = any_name(run),
		.flags = any_flags(run),
		.num_in_fences = chance(run, 40) ? 0 : below(run, 7),
		.in_fences = in_fences,
		.num_in_fence_fds = chance(run, 15) ? 1 + below(run, MODEL_MAX_IN_FENCE_FDS) : 0,
		.in_fence_fds = fds,
		.command = command,
		.size = sizeof(uint64_t) + below(run, MAX_COMMAND - sizeof(uint64_t) + 1),
	};

	fill_command(command, ++run->serial, head.size);
	trace("submit %" PRIu64 ": context %u ring %d fence %" PRIu64 " flags %x", run->serial,
		head.fence.ctx_id, head.fence.ring, head.fence.fence_id, head.flags);
	for (uint32_t i = 0; i < head.num_in_fences; i++) {
		in_fences[i] = any_in_fence(run, in_fences, i);
		trace("  in-fence %" PRIu64, in_fences[i]);
	}
	for (uint32_t i = 0; i < head.num_in_fence_fds; i++) {
		imports[i] = make_import(run, &fds[i]);
		trace("  in-fence of descriptor %d", fds[i]);
	}
	submit_head(run, &head, imports);
	for (uint32_t i = 0; i < head.num_in_fence_fds; i++) {
		close(fds[i]);
	}
	memset(command, 0xff, sizeof(command));
	memset(in_fences, 0xff, sizeof(in_fences));
	memset(fds, 0xff, sizeof(fds));
}

static void create_bad_fence(struct run *run, const struct vgf_fence_name *name)
{
	int unpollable = memfd_create("a file", MFD_CLOEXEC);

	check(unpollable >= 0);
	check(create_take(run->device, name, 0, unpollable) == -EPERM);
	check(fcntl(unpollable, F_GETFD) < 0);
	check(create_take(run->device, name, 0, unpollable) == -EBADF);
}

static void create_fence(struct run *run)
{
	struct vgf_fence_name name = any_name(run);
	uint32_t flags = any_flags(run);
	unsigned int kind = below(run, 10);
	struct expectation expected = expect_fence(&run->model, &name, kind < 5);
	int fd = kind < 7 ? VGF_FENCE_BY_CALL : VGF_FENCE_DONE;
	int handle = -1;
	bool is_pipe = false;
	struct model_fence *fence;
	int ret;

	if (chance(run, 3)) {
		create_bad_fence(run, &name);
		return;
	}
	if (kind < 5) {
		fd = make_descriptor(run, &handle, &is_pipe);
	}
	ret = create_take(run->device, &name, flags, fd);
	trace("create: context %u ring %d fence %" PRIu64 " descriptor %d: %d", name.ctx_id,
		name.ring, name.fence_id, fd, ret);
	check(ret <= 0 && is_expected(&expected, ret));
	if (ret < 0) {
		if (handle >= 0) {
			close(handle);
		}
		return;
	}
	run->model.stats.created++;
	fence = model_put(&run->model, &name, flags, fd >= 0);
	fence->has_fd = fd >= 0;
	fence->handle = handle;
	fence->is_pipe = is_pipe;
	if (fd == VGF_FENCE_DONE) {
		model_signal(fence, 0, true);
	} else if (fd >= 0 && chance(run, 20)) {
		signal_descriptor(run, fence);
	}
}

static void refuse_fence(struct run *run)
{
	struct vgf_fence_name name = any_name(run);
	uint32_t flags = any_flags(run);
	struct expectation expected = expect_fence(&run->model, &name, false);
	int ret = vgf_fence_refuse(run->device, &name, flags, NULL, -ENODEV);

	trace("refuse: context %u ring %d fence %" PRIu64 ": %d", name.ctx_id, name.ring,
		name.fence_id, ret);
	check(ret <= 0 && is_expected(&expected, ret));
	if (ret == 0) {
		run->model.stats.refused++;
		run->model.stats.created++;
		model_signal(model_put(&run->model, &name, flags, false), -ENODEV, true);
	}
}

/* A fence that a call has to signal: its driver said so, and has not changed that since. */
static bool is_by_call(const struct model_fence *fence)
{
	return !fence->has_fd && !fence->signalled &&
		(!fence->item || fence->item->state != WAITING);
}

/* It may retire at once, and with it what is behind it. */
static void signal_by_call(struct run *run, struct model_fence *fence, int status)
{
	const struct vgf_fence_name name = fence->name;
	unsigned long returned = run->returned;
	uint64_t retired = run->model.stats.retired;
	bool here = run->depth == 0 && chance(run, run->settings->signals_here);

	trace("signal fence %" PRIu64 " (%d)%s", name.fence_id, status, here ? " here" : "");
	run->signals_here = here;
	model_signal(fence, status, true);
	run->model.dispatching += here;
	check(vgf_fence_signal(run->device, &name, status) == 0);
	run->model.dispatching -= here;
	if (here) {
		check(!run->signals_here && !run->is_signalling);
		run->returned = returned + (unsigned long)(run->model.stats.retired - retired);
	}
}

/* Returns whether it could be. */
static bool signal_if_pending(struct run *run, struct model_fence *fence)
{
	int status = chance(run, 15) ? -EIO : 0;

	if (fence->has_fd && !fence->signalled) {
		signal_descriptor(run, fence);
		return true;
	}
	if (!is_by_call(fence)) {
		return false;
	}
	check(vgf_fence_signal(run->device, &fence->name, 1) == -EINVAL);
	signal_by_call(run, fence, status);
	return true;
}

static void signal_import(struct run *run)
{
	struct model_fence *fence;

	if (run->model.num_imports > 0) {
		fence = run->model.imports[below(run, run->model.num_imports)];
		if (!model_import_is_over(fence)) {
			signal_descriptor(run, fence);
		}
	}
}

static void signal_one(struct run *run)
{
	struct model_fence *fence = any_fence(run);
	int ret;

	if (!fence || chance(run, 20)) {
		signal_import(run);
	} else if (!signal_if_pending(run, fence) && fence->known) {
		ret = vgf_fence_signal(run->device, &fence->name, 0);
		check(ret == -EALREADY || (ret == -ENOENT && run->model.fuzzy));
	}
}

static void publish(struct run *run)
{
	struct model_fence *fence = any_fence(run);
	enum answer room;
	bool is_pipe;
	int handle, fd, ret;

	if (!fence || (!is_by_call(fence) && (!fence->has_fd || fence->signalled))) {
		return;
	}
	room = model_has_room(&run->model, &fence->name, fence->context_serial, 0);
	fd = make_descriptor(run, &handle, &is_pipe);
	ret = publish_take(run->device, &fence->name, fd);
	trace("publish fence %" PRIu64 ": %d", fence->name.fence_id, ret);
	if (fence->has_fd) {
		check(ret == -EEXIST);
	} else {
		check(ret == 0 ? room != NO : ret == -EMFILE && room != YES);
	}
	if (ret < 0) {
		close(handle);
		return;
	}
	fence->has_fd = true;
	fence->handle = handle;
	fence->is_pipe = is_pipe;
}

static bool may_cancel_return(struct run *run, const struct model_fence *fence, int ret)
{
	bool may_be_seen = run->model.fuzzy && fence->signalled;
	bool runs = fence->item && fence->item->state == RUNNING;

	if (!fence->known && ret == (runs ? -EBUSY : 0)) {
		return true;
	}
	return (fence->known || may_be_seen) &&
		(ret == -EALREADY || (ret == -ENOENT && may_be_seen));
}

static void cancel_fence(struct run *run)
{
	struct model_fence *fence = any_fence(run);
	int error = chance(run, 50) ? -ECANCELED : -ETIME;
	int ret;

	if (!fence) {
		return;
	}
	ret = vgf_fence_cancel(run->device, &fence->name, error);
	trace("cancel fence %" PRIu64 ": %d", fence->name.fence_id, ret);
	check(may_cancel_return(run, fence, ret));
	if (ret == 0) {
		model_signal(fence, error, true);
		if (fence->item && fence->item->state == WAITING) {
			model_drop(fence->item, error);
		}
	}
}

static void ask_for_unknown_fences(struct run *run)
{
	struct vgf_fence_name name = { run->model.next_id, any_context(run), any_ring(run) };

	check(vgf_fence_signal(run->device, &name, 0) == -ENOENT);
	check(vgf_fence_cancel(run->device, &name, -EIO) == -ENOENT);
	check(vgf_fence_cancel(run->device, &name, 0) == -EINVAL);
	check(vgf_fence_refuse(run->device, &name, 0, NULL, 0) == -EINVAL);
	check(publish_take(run->device, &name, make_fence(true)) == -ENOENT);
}

/* What vgf_fence_notify has to return, and the fence if that is certain. */
static bool may_notify_return(struct run *run, uint64_t id, int ret, struct model_fence **found)
{
	const struct model *model = &run->model;
	unsigned int count = 0;

	*found = NULL;
	for (unsigned int i = 0; i < model->num_fences; i++) {
		if (model->fences[i]->name.fence_id == id) {
			*found = model->fences[i];
			count++;
		}
	}
	if (count == 0) {
		return ret == (id < model->next_id ? 0 : -ENOENT);
	}
	if (count > 1) {
		return ret == -ENOTUNIQ || (model->dispatching > 0 && (ret == 0 || ret == 1));
	}
	if ((*found)->known && model_oldest(model, &(*found)->name) == *found) {
		return ret == 0;
	}
	return ret == 1 || (ret == 0 && (model->fuzzy || model->dispatching > 0));
}

static void notify(struct run *run)
{
	uint64_t id = any_in_fence(run, NULL, 0);
	struct model_fence *fence;
	int ret;

	/* Of those with the same ID some may be on their way to the callback. */
	for (unsigned int i = 0, count = 0; i < run->model.num_fences; i++) {
		count += run->model.fences[i]->name.fence_id == id;
		if (count > 1 && run->model.dispatching > 0) {
			return;
		}
	}
	may_notify_return(run, id, 0, &fence);
	ret = vgf_fence_notify(run->device, VGF_HOST, id, on_notified, fence);
	trace("notify of %" PRIu64 ": %d", id, ret);
	check(may_notify_return(run, id, ret, &fence));
	if (ret == 1) {
		fence->asked++;
		run->notifications++;
	}
}

static void export(struct run *run)
{
	uint64_t id = any_in_fence(run, NULL, 0);
	struct expectation expected = expect_export(&run->model, id);
	int fd = export_fence(run->device, id);
	const struct model_fence *fence = NULL;
	unsigned int count = 0;

	trace("export %" PRIu64 ": %d", id, fd);
	check(is_expected(&expected, fd));
	for (unsigned int i = 0; i < run->model.num_fences; i++) {
		if (run->model.fences[i]->name.fence_id == id) {
			fence = run->model.fences[i];
			count++;
		}
	}
	if (fd >= 0) {
		check(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		if (count == 1) {
			check_descriptor(fence, fd);
		}
		close(fd);
	}
}

/* ---- Operations: the device --------------------------------------------------------------- */

static void check_stats(struct run *run)
{
	const struct model *model = &run->model;
	const struct vgf_stats *expected = &model->stats;
	struct vgf_stats stats = { .size = sizeof(stats) };
	unsigned int least, most;

	model_count_contexts(model, &least, &most);
	vgf_device_get_stats(run->device, &stats);
	check(stats.submitted == expected->submitted);
	check(stats.refused == expected->refused);
	check(stats.run_ready == expected->run_ready && stats.run_driver == expected->run_driver);
	check(stats.run_gl == expected->run_gl && stats.run_host == expected->run_host);
	check(stats.in_fences == expected->in_fences);
	check(stats.in_fences_done >= expected->in_fences_done);
	check(stats.in_fences_done <= run->in_fences_most);
	check(stats.created == expected->created && stats.retired == expected->retired);
	check(stats.failed == expected->failed && stats.cancelled == expected->cancelled);
	check(stats.stalled == 0 && stats.contexts >= least && stats.contexts <= most);
	check(stats.pending == model->num_fences && stats.peak_pending >= stats.pending);
	check(stats.held == model_held(model) && stats.peak_held >= stats.held);
	check((stats.held_size > 0) == (stats.held > 0));
	check(stats.fds == model_fds_min(model) && stats.peak_fds >= stats.fds);
}

static void check_pending(const struct model *model, const struct vgf_pending *pending)
{
	const struct model_fence *fence = model_find(model, &pending->fence);

	check(fence != NULL && fence->name.ctx_id == pending->fence.ctx_id);
	check(pending->signalled == fence->known);
	check(pending->status == (fence->known ? fence->status : 0));
	check(pending->has_fd == fence->has_fd);
	check(pending->held == (fence->item && fence->item->state == WAITING));
}

static void list(struct run *run)
{
	struct vgf_pending pending[2 * MAX_PENDING];
	size_t count = vgf_device_list_pending(run->device, pending, 2 * MAX_PENDING);

	check(count <= 2 * MAX_PENDING);
	check(vgf_device_list_pending(run->device, pending, count / 2) == count);
	if (run->model.fuzzy) {
		return;
	}
	check(count == run->model.num_fences);
	vgf_device_list_pending(run->device, pending, count);
	for (size_t i = 0; i < count; i++) {
		check_pending(&run->model, &pending[i]);
		for (size_t j = 0; j < i; j++) {
			const struct model_fence *fence = model_find(
				&run->model, &pending[i].fence);
			check(!is_on_timeline(fence, &pending[j].fence) ||
				pending[j].fence.fence_id < fence->name.fence_id);
		}
	}
}

static void dump(struct run *run)
{
	char *text;

	check(vgf_device_dump(run->device, &text) == 0);
	check(strstr(text, "vgfence") != NULL);
	free(text);
}

/* Every descriptor is the library's, as it says, or the test's. */
static void check_no_leak(struct run *run)
{
	const struct model *model = &run->model;
	int ours = 0;

	for (unsigned int i = 0; i < model->num_fences; i++) {
		ours += model->fences[i]->handle >= 0;
	}
	for (unsigned int i = 0; i < model->num_imports; i++) {
		ours += model->imports[i]->handle >= 0;
	}
	for (size_t i = 0; i < 8; i++) {
		ours += run->copies[i] >= 0;
	}
	check(count_fds() == run->fds_before + ours + (int)model_fds_min(model));
}

/* Who asked has been told if the fence has retired, and not before. */
static void check_notifications(const struct run *run)
{
	const struct model *model = &run->model;
	unsigned long outstanding = 0;

	for (unsigned int i = 0; i < model->num_fences; i++) {
		check(model->fences[i]->told == 0);
		outstanding += model->fences[i]->asked;
	}
	check(run->notifications == outstanding);
}

/* Fences that the library may have counted as retired already, and the model does not know of:
 * those that are told with the next one. */
static unsigned int count_merged(const struct model *model)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < model->num_fences; i++) {
		count += model->fences[i]->signalled && model->fences[i]->flags & VGF_MERGEABLE;
	}
	return count;
}

static void check_returned(struct run *run)
{
	check(run->returned >= run->model.stats.retired);
	check(run->returned - run->model.stats.retired <= run->counted_twice);
	run->returned = run->model.stats.retired;
	run->counted_twice = 0;
}

/* Everything that could happen has happened, and the descriptor says so. */
static void check_all_done(struct run *run)
{
	check(run->unannounced == 0);
	check_returned(run);
	check(!model_has_work(&run->model));
	check(!is_readable(vgf_device_get_fd(run->device)));
	check_stats(run);
	check_notifications(run);
	if (chance(run, 4)) {
		check_no_leak(run);
	}
}

static void dispatch(struct run *run)
{
	unsigned long events;
	int ret;

	run->model.dispatching++;
	trace("dispatch");
	if (run->depth > 0) {
		ret = vgf_device_dispatch(run->device, 0);
		check(run->model.running > 0    ? ret == -EDEADLK :
				run->destroying ? ret == -ECANCELED :
						  ret >= 0);
		run->returned += ret > 0 ? (unsigned int)ret : 0;
		run->model.dispatching--;
		return;
	}
	if (!run->model.fuzzy && model_has_work(&run->model)) {
		check(is_readable(vgf_device_get_fd(run->device)));
	}
	do {
		events = run->events;
		ret = vgf_device_dispatch(run->device, 0);
		check(ret >= 0);
		run->returned += (unsigned int)ret;
	} while (ret > 0 || run->events != events || is_readable(vgf_device_get_fd(run->device)));
	run->model.dispatching--;
	model_settle(&run->model);
	forget_imports(run);
	check_all_done(run);
}

/* Returns how many were signalled. */
static unsigned int signal_all(struct run *run)
{
	const struct model *model = &run->model;
	unsigned int count = 0;

	for (unsigned int i = 0; i < model->num_fences; i++) {
		count += signal_if_pending(run, model->fences[i]);
	}
	for (unsigned int i = 0; i < model->num_imports; i++) {
		if (!model_import_is_over(model->imports[i])) {
			signal_descriptor(run, model->imports[i]);
			count++;
		}
	}
	return count;
}

/* Whatever is in flight, it ends when everything that runs is signalled: nothing is stuck. */
void finish_all(struct run *run)
{
	while (run->depth == 0 && run->model.num_fences + run->model.num_items > 0) {
		unsigned long events = run->events;
		unsigned int signalled = signal_all(run);
		unsigned int left = run->model.num_fences + run->model.num_items;

		dispatch(run);
		/* Of work without a fence nobody is told that it was cancelled. */
		check(signalled > 0 || run->events > events ||
			run->model.num_fences + run->model.num_items < left);
	}
}

static void drain(struct run *run)
{
	unsigned long returned = run->returned;
	uint64_t retired = run->model.stats.retired;
	int ret;

	run->counted_twice += run->depth > 0 ? count_merged(&run->model) : 0;
	run->model.dispatching++;
	ret = vgf_device_drain(run->device, 0);
	run->model.dispatching--;
	trace("drain: %d", ret);
	run->returned = returned + (unsigned long)(run->model.stats.retired - retired);
	if (run->model.running > 0 || (run->is_signalling && run->model.resetting == 0)) {
		check(ret == -EDEADLK);
		return;
	}
	check(run->destroying ? ret == -ECANCELED : ret == 0 || ret == -ETIMEDOUT);
	/* A drain of no time may leave something undone. */
	run->model.fuzzy = true;
	if (ret == 0 && run->depth == 0) {
		model_settle(&run->model);
		forget_imports(run);
		check(run->model.num_fences == 0 && model_held(&run->model) == 0);
	}
}

void reset_device(struct run *run)
{
	unsigned long returned = run->returned;
	uint64_t retired = run->model.stats.retired;

	trace("reset");
	if (run->model.running > 0) {
		check(vgf_device_reset(run->device) == -EDEADLK);
		return;
	}
	if (run->model.resetting > 0) {
		/* The one around it goes on. */
		check(vgf_device_reset(run->device) == (run->destroying ? -ECANCELED : 0));
		return;
	}
	run->counted_twice += run->depth > 0 ? count_merged(&run->model) : 0;
	run->model.dispatching++;
	model_reset(&run->model);
	check(vgf_device_reset(run->device) == (run->destroying ? -ECANCELED : 0));
	model_reset_done(&run->model);
	forget_imports(run);
	run->model.dispatching--;
	run->returned = returned + (unsigned long)(run->model.stats.retired - retired);
}

/* ---- Any of them ---------------------------------------------------------------------------- */

static const struct {
	unsigned int weight;
	void (*perform)(struct run *run);
} operations[] = {
	{ 300, submit },
	{ 60, create_fence },
	{ 15, refuse_fence },
	{ 450, signal_one },
	{ 45, publish },
	{ 15, cancel_fence },
	{ 5, ask_for_unknown_fences },
	{ 40, export },
	{ 40, notify },
	{ 70, create_context },
	{ 12, destroy_context },
	{ 6, cancel_any_context },
	{ 4, cancel_timeline },
	{ 40, defer },
	{ 15, list },
	{ 2, dump },
	{ 120, dispatch },
	{ 10, drain },
	{ 2, finish_all },
	{ 1, reset_device },
};

void operate(struct run *run, void (*perform)(struct run *run))
{
	if (run->depth > 0) {
		run->model.fuzzy = true;
	}
	perform(run);
}

void any_operation(struct run *run)
{
	unsigned int total = 0;
	unsigned int dice;
	size_t i = 0;

	for (size_t j = 0; j < sizeof(operations) / sizeof(operations[0]); j++) {
		total += operations[j].weight;
	}
	dice = below(run, total);
	while (dice >= operations[i].weight) {
		dice -= operations[i++].weight;
	}
	if (run->model.num_fences + run->model.num_items > MAX_PENDING &&
		(operations[i].perform == submit || operations[i].perform == create_fence)) {
		operate(run, signal_one);
	} else {
		operate(run, operations[i].perform);
	}
}
