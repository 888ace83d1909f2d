/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "model.h"

#include <errno.h>
#include <stdlib.h>

#include "support.h"

#define append(list, count, element)                                                               \
	do {                                                                                       \
		(list) = realloc((list), ((count) + 1) * sizeof(*(list)));                         \
		assert_non_null(list);                                                             \
		(list)[(count)++] = (element);                                                     \
	} while (0)

static void *make(struct model *model, size_t size)
{
	void *block = calloc(1, size);

	assert_non_null(block);
	append(model->blocks, model->num_blocks, block);
	return block;
}

static enum answer both(enum answer a, enum answer b)
{
	if (a == NO || b == NO) {
		return NO;
	}
	return a == YES && b == YES ? YES : EITHER;
}

static enum answer opposite(enum answer a)
{
	switch (a) {
	case NO:
		return YES;
	case YES:
		return NO;
	case EITHER:
		break;
	}
	return EITHER;
}

void model_init(struct model *model)
{
	*model = (struct model){ 0 };
}

void model_finish(struct model *model)
{
	for (size_t i = 0; i < model->num_blocks; i++) {
		free(model->blocks[i]);
	}
	free(model->blocks);
	free(model->fences);
	free(model->items);
	free(model->contexts);
	free(model->imports);
	free(model->nexts);
}

/* ---- Looking ------------------------------------------------------------------------------ */

struct model_context *model_context(const struct model *model, uint32_t id)
{
	for (unsigned int i = 0; i < model->num_contexts; i++) {
		if (model->contexts[i]->id == id && model->contexts[i]->open) {
			return model->contexts[i];
		}
	}
	return NULL;
}

bool is_on_timeline(const struct model_fence *fence, const struct vgf_fence_name *timeline)
{
	return fence->name.ring == timeline->ring &&
		(timeline->ring == VGF_RING_GLOBAL || fence->name.ctx_id == timeline->ctx_id);
}

struct model_fence *model_find(const struct model *model, const struct vgf_fence_name *name)
{
	for (unsigned int i = 0; i < model->num_fences; i++) {
		if (is_on_timeline(model->fences[i], name) &&
			model->fences[i]->name.fence_id == name->fence_id) {
			return model->fences[i];
		}
	}
	return NULL;
}

struct model_fence *model_oldest(const struct model *model, const struct vgf_fence_name *timeline)
{
	for (unsigned int i = 0; i < model->num_fences; i++) {
		if (is_on_timeline(model->fences[i], timeline)) {
			return model->fences[i];
		}
	}
	return NULL;
}

struct model_item *model_item(const struct model *model, uint64_t serial)
{
	for (unsigned int i = 0; i < model->num_items; i++) {
		if (model->items[i]->kind == WORK && model->items[i]->serial == serial) {
			return model->items[i];
		}
	}
	return NULL;
}

bool model_may_retire(const struct model *model, const struct model_fence *fence)
{
	if (fence->retired || fence->imported) {
		return fence->signalled;
	}
	for (unsigned int i = 0; i < model->num_fences; i++) {
		const struct model_fence *other = model->fences[i];

		if (is_on_timeline(other, &fence->name) && !other->signalled) {
			return false;
		}
		if (other == fence) {
			return true;
		}
	}
	return false;
}

bool model_import_is_over(const struct model_fence *fence)
{
	return fence->signalled || fence->item->dropped || fence->item->state == FINISHED;
}

static int32_t queue_of(const struct model_item *item)
{
	bool independent = item->context->driver.independent_rings;

	return independent && item->name.ring >= 0 ? item->name.ring : 0;
}

static bool is_barrier(const struct model_item *item)
{
	return item->kind == DESTROY || (item->kind == CALL && item->name.ring == VGF_EVERY_RING);
}

static bool is_in_the_way(const struct model_item *earlier, const struct model_item *item)
{
	return earlier->context->id == item->context->id &&
		(is_barrier(earlier) || is_barrier(item) || queue_of(earlier) == queue_of(item));
}

bool model_is_blocked(const struct model *model, const struct model_item *item, bool drops_gone)
{
	for (unsigned int i = 0; i < model->num_items && model->items[i] != item; i++) {
		const struct model_item *earlier = model->items[i];
		bool is_drop = earlier->kind == WORK && earlier->dropped &&
			earlier->state == WAITING;

		if (is_in_the_way(earlier, item) && !(is_drop && drops_gone)) {
			return true;
		}
	}
	return false;
}

static bool takes_files(const struct model_item *item)
{
	enum vgf_wait wait = item->context->driver.wait;

	return (wait == VGF_WAIT_DRIVER || wait == VGF_WAIT_GL) && !item->on_host;
}

/* The library calls back for what retires when it has done the rest. */
static bool may_be_gone(const struct model *model, const struct model_fence *fence)
{
	return model->dispatching > 0 && model_may_retire(model, fence);
}

enum answer model_is_oldest(const struct model *model, const struct vgf_fence_name *name)
{
	enum answer oldest = YES;

	for (unsigned int i = 0; i < model->num_fences; i++) {
		const struct model_fence *fence = model->fences[i];

		if (is_on_timeline(fence, name) && fence->name.fence_id < name->fence_id) {
			oldest = both(oldest, may_be_gone(model, fence) ? EITHER : NO);
		}
	}
	return oldest;
}

enum answer model_stands_alone(const struct model *model, const struct model_fence *fence)
{
	if (fence->behind == NO) {
		return YES;
	}
	return model_is_oldest(model, &fence->name) == NO ? opposite(fence->behind) :
							    model_is_oldest(model, &fence->name);
}

/* Whether a driver can be given it. If it was signalled by a call its descriptor may never
 * signal. */
static enum answer is_lent(
	const struct model *model, const struct model_item *item, const struct model_fence *fence)
{
	const void *family = item->context->driver.family;

	if (fence->known || !(fence->has_fd || (family && fence->family == family))) {
		return NO;
	}
	return model_stands_alone(model, fence);
}

static bool is_ready(const struct model *model, const struct model_item *item)
{
	bool all_retired = true;
	bool all_lent = takes_files(item) && !item->doubtful;

	for (unsigned int i = 0; i < item->num_deps; i++) {
		all_retired = all_retired && item->deps[i]->retired;
		all_lent = all_lent &&
			(item->deps[i]->retired || is_lent(model, item, item->deps[i]) == YES);
	}
	return all_retired || all_lent;
}

unsigned int model_fds_min(const struct model *model)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < model->num_fences; i++) {
		count += model->fences[i]->has_fd;
	}
	for (unsigned int i = 0; i < model->num_imports; i++) {
		count += !model->fuzzy || !model_import_is_over(model->imports[i]);
	}
	return count;
}

unsigned int model_fds_max(const struct model *model)
{
	unsigned int count = model_fds_min(model);

	for (unsigned int i = 0; i < model->num_imports && model->fuzzy; i++) {
		count += model_import_is_over(model->imports[i]);
	}
	return count + (model->dispatching > 0 ? model->retired_fds_now : 0);
}

static bool fits(uint32_t limit, unsigned int used, bool oldest)
{
	return used < limit && limit - used > (oldest ? 0 : 1);
}

static enum answer device_has_room(const struct model *model, enum answer oldest, unsigned int more)
{
	more += model->running;
	if (fits(model->limits.max_fds, model_fds_max(model) + more, oldest == YES)) {
		return YES;
	}
	return fits(model->limits.max_fds, model_fds_min(model) + more, oldest != NO) ? EITHER : NO;
}

/* Descriptors of one context and functions of its driver on the stack: at least, and how many there
 * may be besides. */
static unsigned int share_used(const struct model *model, uint64_t serial, unsigned int *doubtful)
{
	unsigned int used = 0;

	*doubtful = model->dispatching > 0 ? model->retired_fds_now : 0;
	for (unsigned int i = 0; i < model->num_fences; i++) {
		used += model->fences[i]->has_fd && model->fences[i]->context_serial == serial;
	}
	for (unsigned int i = 0; i < model->num_items; i++) {
		used += model->items[i]->state == RUNNING &&
			model->items[i]->context->serial == serial;
	}
	for (unsigned int i = 0; i < model->num_imports; i++) {
		const struct model_fence *fence = model->imports[i];
		bool may_be_closed = model->fuzzy && model_import_is_over(fence);

		if (fence->context_serial == serial) {
			used += !may_be_closed;
			*doubtful += may_be_closed;
		}
	}
	return used;
}

/* Whether a context's share has room for one descriptor more, besides so many more. */
static enum answer share_has_room(
	const struct model *model, enum answer oldest, uint64_t serial, unsigned int more)
{
	unsigned int doubtful;
	unsigned int used = share_used(model, serial, &doubtful) + more;

	if (serial == 0 || fits(model->limits.max_context_fds, used + doubtful, oldest == YES)) {
		return YES;
	}
	return fits(model->limits.max_context_fds, used, oldest != NO) ? EITHER : NO;
}

/* In the middle of a round the next one may be promised to work that waits for it. */
static enum answer is_not_promised(const struct model *model)
{
	return model->fuzzy && model->limits.max_fds != UINT32_MAX ? EITHER : YES;
}

enum answer model_has_room(const struct model *model, const struct vgf_fence_name *name,
	uint64_t serial, unsigned int more)
{
	enum answer oldest = model_is_oldest(model, name);

	return both(both(device_has_room(model, oldest, more),
			    share_has_room(model, oldest, serial, more)),
		is_not_promised(model));
}

/* Whether work may be handed to a driver, which may come back with a descriptor for its fence. */
static enum answer may_have_fd(const struct model *model, const struct vgf_fence_name *out_fence,
	const struct model_context *context, unsigned int more)
{
	if (!out_fence) {
		return YES;
	}
	return model_has_room(model, out_fence, context->serial, more);
}

bool model_must_run(const struct model *model, const struct model_item *item)
{
	if (item->state != WAITING || model_is_blocked(model, item, false)) {
		return false;
	}
	return item->kind != WORK || item->dropped ||
		(is_ready(model, item) &&
			may_have_fd(model, item->fence ? &item->name : NULL, item->context, 0) ==
				YES);
}

bool model_has_work(const struct model *model)
{
	for (unsigned int i = 0; i < model->num_fences; i++) {
		if (model_may_retire(model, model->fences[i])) {
			return true;
		}
	}
	for (unsigned int i = 0; i < model->num_items; i++) {
		if (model_must_run(model, model->items[i])) {
			return true;
		}
	}
	for (unsigned int i = 0; i < model->num_imports; i++) {
		if (model_import_is_over(model->imports[i])) {
			return true;
		}
	}
	return false;
}

unsigned int model_held(const struct model *model)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < model->num_items; i++) {
		count += model->items[i]->kind != DESTROY && model->items[i]->state == WAITING;
	}
	return count;
}

/* ---- What a call has to return ------------------------------------------------------------ */

static bool has_error(const struct expectation *expectation, int error)
{
	for (unsigned int i = 0; i < expectation->num_errors; i++) {
		if (expectation->errors[i] == error) {
			return true;
		}
	}
	return false;
}

static void add_error(struct expectation *expectation, int error, enum answer sure)
{
	if (sure != NO && !has_error(expectation, error)) {
		assert_true(expectation->num_errors < MODEL_MAX_ERRORS);
		expectation->errors[expectation->num_errors++] = error;
	}
	expectation->must_fail |= sure == YES;
}

bool is_expected(const struct expectation *expectation, int ret)
{
	return ret < 0 ? has_error(expectation, ret) : !expectation->must_fail;
}

static struct model_next *find_next(
	const struct model *model, const struct vgf_fence_name *timeline)
{
	for (unsigned int i = 0; i < model->num_nexts; i++) {
		struct model_next *next = &model->nexts[i];

		if (next->ring == timeline->ring &&
			(next->ring == VGF_RING_GLOBAL || next->ctx_id == timeline->ctx_id)) {
			return next;
		}
	}
	return NULL;
}

/* Whether so many more are too many. A fence keeps its room until its callback has returned and its
 * work is out of the way. */
static enum answer is_full(
	const struct model *model, uint32_t limit, unsigned int more, bool all, uint64_t serial)
{
	unsigned int least = 0;
	unsigned int most = model->num_imports + (model->dispatching > 0 ? model->retired_now : 0);

	for (unsigned int i = 0; i < model->num_fences; i++) {
		const struct model_fence *fence = model->fences[i];
		least += all || fence->context_serial == serial;
	}
	for (unsigned int i = 0; i < model->num_items; i++) {
		const struct model_fence *fence = model->items[i]->fence;
		most += fence && fence->retired && (all || fence->context_serial == serial);
	}
	least += more;
	if (least > limit) {
		return YES;
	}
	return least + most > limit ? EITHER : NO;
}

/* Whether an earlier fence is of the same context. */
static bool is_counted(const struct model *model, unsigned int index)
{
	for (unsigned int i = 0; i < index; i++) {
		if (model->fences[i]->context_serial == model->fences[index]->context_serial) {
			return true;
		}
	}
	return false;
}

static bool is_gone(const struct model *model, uint64_t serial)
{
	for (unsigned int i = 0; i < model->num_contexts; i++) {
		if (model->contexts[i]->serial == serial) {
			return false;
		}
	}
	return serial != 0;
}

void model_count_contexts(const struct model *model, unsigned int *least, unsigned int *most)
{
	*least = model->num_contexts;
	for (unsigned int i = 0; i < model->num_fences; i++) {
		*least += is_gone(model, model->fences[i]->context_serial) && !is_counted(model, i);
	}
	*most = *least + (model->dispatching > 0 ? model->retired_now : 0);
	for (unsigned int i = 0; i < model->num_items; i++) {
		const struct model_fence *fence = model->items[i]->fence;
		*most += fence && fence->retired;
	}
	for (unsigned int i = 0; i < model->num_imports; i++) {
		*most += is_gone(model, model->imports[i]->context_serial);
	}
}

static void expect_place(const struct model *model, const struct vgf_fence_name *name, bool fenced,
	struct expectation *expectation)
{
	const struct model_next *next = find_next(model, name);
	const struct model_context *context = model_context(model, name->ctx_id);
	struct expectation place = { 0 };

	add_error(&place, -ECANCELED, model->resetting > 0 ? YES : NO);
	add_error(&place, -EINVAL, name->ring < VGF_RING_GLOBAL || name->ring >= VGF_MAX_RINGS);
	add_error(&place, -ENOENT, !context && name->ring != VGF_RING_GLOBAL);
	if (fenced && next && name->fence_id < next->id) {
		add_error(&place, -EINVAL, next->doubtful ? EITHER : YES);
	}
	if (fenced) {
		add_error(&place, -EINVAL, name->fence_id == UINT64_MAX);
		add_error(&place, -ENOSPC, is_full(model, model->limits.max_fences, 1, true, 0));
	}
	if (fenced && context) {
		add_error(&place, -ENOSPC,
			is_full(model, model->limits.max_context_fences, 1, false,
				context->serial));
	}
	*expectation = place;
	expectation->placed = place.must_fail ? NO : place.num_errors > 0 ? EITHER : YES;
}

static void add_dep(struct expectation *expectation, struct model_fence *fence)
{
	for (unsigned int i = 0; i < expectation->num_deps; i++) {
		if (expectation->deps[i] == fence) {
			return;
		}
	}
	assert_true(expectation->num_deps < MODEL_MAX_DEPS);
	expectation->deps[expectation->num_deps++] = fence;
}

/* Whether a fence counts as done for a submission that comes now. */
static enum answer is_done(const struct model *model, const struct model_fence *fence)
{
	if (model->fuzzy && model_may_retire(model, fence)) {
		return EITHER;
	}
	return fence->known && model_oldest(model, &fence->name) == fence ? YES : NO;
}

static void expect_pending(const struct model *model, struct model_fence *fence,
	uint64_t context_serial, enum answer sure, struct expectation *expectation)
{
	if (!(fence->flags & VGF_SHAREABLE) && fence->context_serial != context_serial) {
		add_error(
			expectation, -EPERM, both(sure, may_be_gone(model, fence) ? EITHER : YES));
	} else if (is_done(model, fence) != YES) {
		add_dep(expectation, fence);
	}
}

static void expect_in_fence(const struct model *model, uint64_t id, uint64_t context_serial,
	struct expectation *expectation)
{
	enum answer sure = model->ignore_bad_in_fences ? NO : YES;
	unsigned int pending = 0;
	unsigned int perhaps = 0;

	for (unsigned int i = 0; i < model->num_fences; i++) {
		if (model->fences[i]->name.fence_id == id) {
			perhaps += may_be_gone(model, model->fences[i]);
			pending += !may_be_gone(model, model->fences[i]);
		}
	}
	if (pending + perhaps == 0) {
		add_error(expectation, -ENOENT, both(sure, id >= model->next_id ? YES : NO));
	} else if (pending > 1) {
		add_error(expectation, -ENOTUNIQ, sure);
	} else if (pending + perhaps > 1) {
		add_error(expectation, -ENOTUNIQ, both(sure, EITHER));
		expectation->doubtful = true;
	}
	for (unsigned int i = 0; i < model->num_fences && pending <= 1; i++) {
		if (model->fences[i]->name.fence_id == id) {
			expect_pending(model, model->fences[i], context_serial, sure, expectation);
		}
	}
}

/* Whether a new submission with these in-fences could go to its driver if it were its turn. */
static enum answer expect_ready(
	const struct model *model, const struct model_item *item, struct expectation *expectation)
{
	bool for_certain = true;
	bool perhaps = true;
	unsigned int pending = 0;

	for (unsigned int i = 0; i < item->num_deps; i++) {
		const struct model_fence *dep = item->deps[i];
		bool is_doubtful = expectation->doubtful ||
			(!dep->imported && is_done(model, dep) != NO);
		enum answer lent = takes_files(item) ? is_lent(model, item, dep) : NO;

		pending += !is_doubtful;
		for_certain = for_certain && lent == YES;
		perhaps = perhaps && (is_doubtful || lent != NO);
	}
	expectation->waited = pending > 0 ? YES : item->num_deps > 0 ? EITHER : NO;
	return for_certain ? YES : perhaps ? EITHER : NO;
}

static enum answer expect_turn(const struct model *model, const struct model_item *item)
{
	if (!model_is_blocked(model, item, false)) {
		return YES;
	}
	return model->fuzzy && !model_is_blocked(model, item, true) ? EITHER : NO;
}

static unsigned int count_timelines(
	const struct model *model, const struct expectation *expectation)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < expectation->num_deps; i++) {
		const struct model_fence *dep = expectation->deps[i];
		bool counts = !expectation->doubtful &&
			(dep->imported || is_done(model, dep) == NO);

		for (unsigned int j = 0; j < i && counts && !dep->imported; j++) {
			counts = !is_on_timeline(expectation->deps[j], &dep->name);
		}
		count += counts;
	}
	return count;
}

/* Copies of in-fences may not have the last one, of the device or of the context. */
static enum answer has_room_for_copies(
	const struct model *model, uint64_t serial, unsigned int copies)
{
	if (copies == 0) {
		return YES;
	}
	return both(both(device_has_room(model, NO, copies - 1),
			    share_has_room(model, NO, serial, copies - 1)),
		is_not_promised(model));
}

/* They are fences, beside the out-fence. */
static enum answer are_too_many(
	const struct model *model, uint64_t serial, unsigned int copies, bool fenced)
{
	const struct vgf_limits *limits = &model->limits;
	unsigned int more = copies + fenced;

	if (copies == 0) {
		return NO;
	}
	return opposite(both(opposite(is_full(model, limits->max_fences, more, true, 0)),
		opposite(is_full(model, limits->max_context_fences, more, false, serial))));
}

static void expect_import(struct model_fence *fence, struct expectation *expectation)
{
	if (!fence->signalled) {
		add_dep(expectation, fence);
	} else if (fence->status < 0) {
		add_error(expectation, fence->status, YES);
	}
}

struct expectation expect_submit(const struct model *model, const struct vgf_submission *head,
	struct model_fence *const *imports)
{
	struct model_context *context = model_context(model, head->fence.ctx_id);
	bool fenced = head->flags & VGF_FENCED;
	struct expectation expectation;
	struct model_item item = { .kind = WORK, .context = context, .name = head->fence };
	unsigned int copies = 0;

	expect_place(model, &head->fence, fenced, &expectation);
	if (!fenced) {
		expectation.placed = NO;
	}
	add_error(&expectation, -E2BIG,
		head->num_in_fences + head->num_in_fence_fds > model->limits.max_in_fences ||
			head->size > model->limits.max_command_size);
	add_error(&expectation, -ENOENT, !context);
	for (uint32_t i = 0; i < head->num_in_fence_fds; i++) {
		expect_import(imports[i], &expectation);
		copies += !imports[i]->signalled;
	}
	if (!context) {
		return expectation;
	}
	add_error(&expectation, -EMFILE,
		opposite(has_room_for_copies(model, context->serial, copies)));
	add_error(&expectation, -ENOSPC, are_too_many(model, context->serial, copies, fenced));
	for (uint32_t i = 0; i < head->num_in_fences; i++) {
		expect_in_fence(model, head->in_fences[i], context->serial, &expectation);
	}
	item.num_deps = expectation.num_deps;
	for (unsigned int i = 0; i < item.num_deps; i++) {
		item.deps[i] = expectation.deps[i];
	}
	expectation.runs = both(expect_turn(model, &item),
		both(expect_ready(model, &item, &expectation),
			may_have_fd(model, fenced ? &head->fence : NULL, item.context, copies)));
	expectation.num_timelines = count_timelines(model, &expectation);
	return expectation;
}

struct expectation expect_fence(
	const struct model *model, const struct vgf_fence_name *name, bool with_fd)
{
	struct expectation expectation;

	expect_place(model, name, true, &expectation);
	if (with_fd) {
		const struct model_context *context = model_context(model, name->ctx_id);
		add_error(&expectation, -EMFILE,
			opposite(model_has_room(model, name, context ? context->serial : 0, 0)));
	}
	return expectation;
}

struct expectation expect_call(
	const struct model *model, uint32_t ctx_id, enum model_kind kind, int32_t ring)
{
	struct expectation expectation = { 0 };
	struct model_item item = {
		.kind = kind, .context = model_context(model, ctx_id), .name.ring = ring
	};

	add_error(&expectation, -ENOENT, !item.context);
	if (item.context) {
		expectation.runs = expect_turn(model, &item);
	}
	return expectation;
}

struct expectation expect_create(const struct model *model, uint32_t ctx_id)
{
	struct expectation expectation = { 0 };
	unsigned int least, most;

	model_count_contexts(model, &least, &most);
	add_error(&expectation, -ECANCELED, model->resetting > 0);
	add_error(&expectation, -EEXIST, model_context(model, ctx_id) != NULL);
	if (most >= model->limits.max_contexts) {
		add_error(
			&expectation, -ENOSPC, least >= model->limits.max_contexts ? YES : EITHER);
	}
	return expectation;
}

struct expectation expect_export(const struct model *model, uint64_t fence_id)
{
	struct expectation expectation = { 0 };
	const struct model_fence *found = NULL;
	bool done = false;
	unsigned int count = 0;
	unsigned int good = 0;

	for (unsigned int i = 0; i < model->num_fences; i++) {
		if (model->fences[i]->name.fence_id == fence_id) {
			found = model->fences[i];
			count++;
			done |= found->known || (model->fuzzy && found->signalled);
			good += found->has_fd && !found->known;
			add_error(&expectation, -EAGAIN, found->has_fd ? NO : EITHER);
		}
	}
	add_error(&expectation, -ENOENT, count == 0 && fence_id >= model->next_id);
	add_error(&expectation, -EALREADY, count == 0 && fence_id < model->next_id);
	add_error(&expectation, -EALREADY, done ? EITHER : NO);
	if (count > 1) {
		add_error(&expectation, -ENOTUNIQ, model->dispatching > 0 ? EITHER : YES);
	}
	expectation.must_fail |= good == 0;
	return expectation;
}

/* ---- What happens ------------------------------------------------------------------------- */

static void remove_context(struct model *model, struct model_context *context)
{
	unsigned int i = 0;

	while (model->contexts[i] != context) {
		i++;
	}
	for (model->num_contexts--; i < model->num_contexts; i++) {
		model->contexts[i] = model->contexts[i + 1];
	}
	context->gone = true;
}

struct model_context *model_create(
	struct model *model, uint32_t id, const struct vgf_driver *driver)
{
	struct model_context *context = make(model, sizeof(*context));

	*context = (struct model_context){
		.id = id,
		.serial = ++model->last_serial,
		.driver = *driver,
		.open = true,
		.model = model,
	};
	for (unsigned int i = 0; i < model->num_nexts; i++) {
		model->nexts[i].doubtful |= model->fuzzy && model->nexts[i].ring >= 0 &&
			model->nexts[i].ctx_id == id;
	}
	append(model->contexts, model->num_contexts, context);
	return context;
}

void model_uncreate(struct model *model, struct model_context *context)
{
	context->open = false;
	remove_context(model, context);
}

static bool has_order(const struct model_fence *fence)
{
	return fence->name.ring != VGF_RING_GLOBAL && fence->is_work &&
		!(fence->flags & VGF_PATIENT);
}

/* What has signalled is in nobody's way, once the library knows. */
static enum answer is_barrier_to(const struct model_fence *last, const struct model_fence *fence)
{
	if (last->context_serial != fence->context_serial || last->name.ring == VGF_RING_GLOBAL) {
		return YES;
	}
	if (has_order(last) || last->known) {
		return NO;
	}
	return last->signalled ? EITHER : YES;
}

static struct model_fence *newest(const struct model *model, const struct vgf_fence_name *timeline)
{
	struct model_fence *last = NULL;

	for (unsigned int i = 0; i < model->num_fences; i++) {
		if (is_on_timeline(model->fences[i], timeline)) {
			last = model->fences[i];
		}
	}
	return last;
}

static enum answer either_of(enum answer a, enum answer b)
{
	return a == YES || b == YES ? YES : a == NO ? b : a;
}

static void put_behind(struct model *model, struct model_fence *fence)
{
	struct model_fence *last = newest(model, &fence->name);

	if (last) {
		fence->last_was = last->is_barrier;
		last->is_barrier = either_of(last->is_barrier, is_barrier_to(last, fence));
	}
	for (unsigned int i = 0; i < model->num_fences; i++) {
		const struct model_fence *before = model->fences[i];
		enum answer in_the_way = has_order(fence) ? before->is_barrier : YES;

		if (is_on_timeline(before, &fence->name)) {
			fence->behind = either_of(fence->behind,
				both(in_the_way, may_be_gone(model, before) ? EITHER : YES));
		}
	}
}

struct model_fence *model_put(
	struct model *model, const struct vgf_fence_name *name, uint32_t flags, bool is_work)
{
	struct model_fence *fence = make(model, sizeof(*fence));
	const struct model_context *context = model_context(model, name->ctx_id);
	struct model_next *next = find_next(model, name);

	if (!next) {
		struct model_next first = { .ctx_id = name->ctx_id, .ring = name->ring };
		append(model->nexts, model->num_nexts, first);
		next = &model->nexts[model->num_nexts - 1];
	}
	*fence = (struct model_fence){
		.name = *name,
		.flags = flags,
		.is_work = is_work,
		.context_serial = context ? context->serial : 0,
		.before = *next,
		.next_id_before = model->next_id,
		.handle = -1,
	};
	put_behind(model, fence);
	next->id = name->fence_id + 1;
	next->doubtful = false;
	if (name->fence_id >= model->next_id) {
		model->next_id = name->fence_id + 1;
	}
	append(model->fences, model->num_fences, fence);
	return fence;
}

struct model_fence *model_import(struct model *model, int handle, bool is_pipe)
{
	struct model_fence *fence = make(model, sizeof(*fence));

	*fence = (struct model_fence){
		.name = { .fence_id = VGF_NO_FENCE_ID },
		.imported = true,
		.has_fd = true,
		.handle = handle,
		.is_pipe = is_pipe,
	};
	return fence;
}

void model_imported(struct model *model, struct model_fence *fence)
{
	append(model->imports, model->num_imports, fence);
}

void model_unimport(struct model *model, const struct model_item *item)
{
	for (unsigned int i = 0; i < model->num_imports; i++) {
		model->imports[i]->retired |= model->imports[i]->item == item;
	}
}

static void remove_fence(struct model *model, const struct model_fence *fence)
{
	unsigned int i = 0;

	while (model->fences[i] != fence) {
		i++;
	}
	for (model->num_fences--; i < model->num_fences; i++) {
		model->fences[i] = model->fences[i + 1];
	}
}

void model_take_back(struct model *model, struct model_fence *fence)
{
	struct model_fence *last;

	*find_next(model, &fence->name) = fence->before;
	model->next_id = fence->next_id_before;
	remove_fence(model, fence);
	last = newest(model, &fence->name);
	if (last) {
		last->is_barrier = fence->last_was;
	}
}

struct model_item *model_add(
	struct model *model, enum model_kind kind, struct model_context *context)
{
	struct model_item *item = make(model, sizeof(*item));

	*item = (struct model_item){ .kind = kind, .context = context, .model = model };
	append(model->items, model->num_items, item);
	return item;
}

void model_remove(struct model *model, struct model_item *item)
{
	unsigned int i = 0;

	while (model->items[i] != item) {
		i++;
	}
	for (model->num_items--; i < model->num_items; i++) {
		model->items[i] = model->items[i + 1];
	}
}

void model_signal(struct model_fence *fence, int status, bool known)
{
	fence->signalled = true;
	fence->known |= known;
	fence->status = status;
}

void model_retire(struct model *model, struct model_fence *fence)
{
	fence->retired = true;
	remove_fence(model, fence);
	model->retired_now++;
	model->retired_fds_now += fence->has_fd;
	model->stats.retired++;
	model->stats.cancelled += fence->status == -ECANCELED;
	model->stats.failed += fence->status < 0 && fence->status != -ECANCELED;
}

void model_end_item(struct model *model, struct model_item *item)
{
	item->state = FINISHED;
	model_remove(model, item);
	if (item->kind == DESTROY) {
		remove_context(model, item->context);
	}
}

void model_drop(struct model_item *item, int status)
{
	item->dropped = true;
	item->status = status;
	if (item->fence && !item->fence->signalled) {
		model_signal(item->fence, status, true);
	}
}

/* Too late for work that is being run, unless its driver wants it held back once more. */
static void drop_once(struct model_item *item, int error)
{
	if (item->dropped || item->doomed) {
		return;
	}
	if (item->state == RUNNING) {
		item->doomed = true;
		item->status = error;
	} else {
		model_drop(item, error);
	}
}

/* Whatever its descriptor says: the library has not asked that, or will not any more. */
static bool give_up(struct model_fence *fence, int error)
{
	if (fence->known) {
		return false;
	}
	if (fence->item) {
		drop_once(fence->item, error);
	}
	if (fence->item && fence->item->state == WAITING) {
		error = fence->item->status;
	}
	model_signal(fence, error, true);
	return true;
}

static bool is_meant(const struct model *model, uint32_t ctx_id, uint64_t serial, uint32_t flags)
{
	const struct model_context *open = model_context(model, ctx_id);
	bool is_open = open && open->serial == serial;

	return flags & (is_open ? VGF_CANCEL_OPEN : VGF_CANCEL_DESTROYED);
}

static bool has_id(uint32_t id, uint32_t ctx_id, uint32_t flags)
{
	return id == ctx_id || (flags & VGF_CANCEL_EVERY_CONTEXT);
}

void model_cancel(struct model *model, uint32_t ctx_id, uint32_t flags, int error)
{
	for (unsigned int i = 0; i < model->num_items; i++) {
		struct model_item *item = model->items[i];

		if (has_id(item->context->id, ctx_id, flags) && item->kind != DESTROY &&
			is_meant(model, item->context->id, item->context->serial, flags)) {
			drop_once(item, error);
		}
	}
	for (unsigned int i = 0; i < model->num_fences; i++) {
		struct model_fence *fence = model->fences[i];

		if ((flags & VGF_CANCEL_RUNNING) && fence->context_serial != 0 &&
			has_id(fence->name.ctx_id, ctx_id, flags) &&
			is_meant(model, fence->name.ctx_id, fence->context_serial, flags)) {
			give_up(fence, error);
		}
	}
}

unsigned int model_cancel_timeline(
	struct model *model, const struct vgf_fence_name *timeline, int error)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < model->num_fences; i++) {
		if (is_on_timeline(model->fences[i], timeline)) {
			count += give_up(model->fences[i], error);
		}
	}
	return count;
}

void model_reset(struct model *model)
{
	model->resetting++;
	for (unsigned int i = 0; i < model->num_contexts; i++) {
		if (model->contexts[i]->open) {
			model_add(model, DESTROY, model->contexts[i]);
			model->contexts[i]->open = false;
		}
	}
	for (unsigned int i = 0; i < model->num_items; i++) {
		drop_once(model->items[i], -ECANCELED);
	}
	for (unsigned int i = 0; i < model->num_fences; i++) {
		struct model_fence *fence = model->fences[i];

		if (!fence->signalled) {
			model_signal(fence, -ECANCELED, true);
		}
	}
}

static void retire_imports(struct model *model)
{
	for (unsigned int i = 0; i < model->num_imports; i++) {
		model->imports[i]->retired = model_import_is_over(model->imports[i]);
	}
}

struct model_fence *model_take_import(struct model *model)
{
	for (unsigned int i = 0; i < model->num_imports; i++) {
		struct model_fence *fence = model->imports[i];

		if (fence->retired) {
			model->imports[i] = model->imports[--model->num_imports];
			model->retired_now++;
			model->retired_fds_now++;
			return fence;
		}
	}
	return NULL;
}

void model_reset_done(struct model *model)
{
	model->resetting--;
	while (model->num_items > 0) {
		assert_int_equal(model->items[0]->kind, WORK);
		model_end_item(model, model->items[0]);
	}
	retire_imports(model);
	assert_int_equal(model->num_fences, 0);
	assert_int_equal(model->num_contexts, 0);
	model->num_nexts = 0;
	model->next_id = 0;
}

void model_settle(struct model *model)
{
	unsigned int i = 0;

	while (i < model->num_items) {
		struct model_item *item = model->items[i];

		if (item->kind == WORK && item->dropped && item->state == WAITING &&
			!model_is_blocked(model, item, false)) {
			model_end_item(model, item);
			i = 0;
		} else {
			i++;
		}
	}
	model->fuzzy = false;
	retire_imports(model);
}

void model_begin(struct model *model)
{
	model->retired_now = 0;
	model->retired_fds_now = 0;
}

static bool is_of(const struct model_fence *fence, uint32_t ctx_id)
{
	return fence->context_serial != 0 && fence->name.ctx_id == ctx_id;
}

/* It is as long as an imported fence of a context, which is over before the model is told. */
static enum answer is_in_use(const struct model *model, uint32_t ctx_id)
{
	if (model_context(model, ctx_id)) {
		return YES;
	}
	for (unsigned int i = 0; i < model->num_items; i++) {
		if (model->items[i]->context->id == ctx_id) {
			return YES;
		}
	}
	for (unsigned int i = 0; i < model->num_fences; i++) {
		if (is_of(model->fences[i], ctx_id)) {
			return YES;
		}
	}
	for (unsigned int i = 0; i < model->num_imports; i++) {
		if (is_of(model->imports[i], ctx_id)) {
			return EITHER;
		}
	}
	return NO;
}

/* The timelines of a context go with it, once nothing of it is left. */
void model_end(struct model *model)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < model->num_nexts; i++) {
		struct model_next next = model->nexts[i];
		bool is_global = next.ring == VGF_RING_GLOBAL;
		enum answer in_use = is_global ? YES : is_in_use(model, next.ctx_id);

		next.doubtful |= in_use == EITHER;
		if (in_use != NO) {
			model->nexts[kept++] = next;
		}
	}
	model->num_nexts = kept;
}
