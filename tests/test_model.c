/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * The library and a simple model of it are given the same random operations, and have to agree:
 * on what each call returns, on everything that is called back, on what must have happened once
 * all is dispatched.
 *
 * VGF_TEST_SEED=N runs that seed alone, VGF_TEST_STEPS=N as many operations of each seed,
 * VGF_TEST_TRACE=1 prints each.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model.h"
#include "support.h"

#define DEFAULT_STEPS 20000
#define SEEDS 30
#define MAX_PENDING 70
#define MAX_DEPTH 3
#define MAX_COMMAND 48

struct settings {
	struct vgf_limits limits;
	bool ignore_bad_in_fences;
	bool virglrenderer_callbacks;
	bool few_descriptors;
	unsigned int meddle; /* per cent of callbacks that call back into the library */
};

struct run {
	struct model model; /* first: the library's callbacks get a pointer to it */
	const struct settings *settings;
	struct vgf_device *device;
	uint64_t seed, random;
	unsigned int step;
	unsigned int num_contexts;
	uint64_t first_id; /* at least */
	uint64_t serial;   /* of the last submission */
	int fds_before;

	unsigned int depth;       /* callbacks on the stack */
	unsigned long events;     /* callbacks so far */
	unsigned long returned;   /* fences retired, as the calls say */
	unsigned int unannounced; /* retired since the last retire_end */
	bool statuses_doubtful;
	bool destroy_in_callback, destroying;
	int copies[8]; /* of in-fences, as drivers keep them */
	uint64_t in_fences_most;
};

/* For the message when a check fails. */
static struct run *current;
static bool tracing;

#define check(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fail_msg("seed %" PRIu64 ", step %u: not so: %s (line %d)", current->seed, \
				current->step, #condition, __LINE__);                              \
		}                                                                                  \
	} while (0)

static __attribute__((format(printf, 1, 2))) void trace(const char *format, ...)
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

static unsigned int below(struct run *run, unsigned int limit)
{
	return (unsigned int)(next_random(run) % limit);
}

static bool chance(struct run *run, unsigned int per_cent)
{
	return below(run, 100) < per_cent;
}

static uint32_t any_context(struct run *run)
{
	return 1 + below(run, run->num_contexts);
}

static int32_t any_ring(struct run *run)
{
	static const int32_t rings[] = { 0, 0, 0, 1, 1, 2, VGF_MAX_RINGS - 1, VGF_RING_GLOBAL };

	return rings[below(run, 8)];
}

static struct model_fence *any_fence(struct run *run)
{
	struct model *model = &run->model;

	return model->num_fences > 0 ? model->fences[below(run, model->num_fences)] : NULL;
}

/* Mostly one more than the last; sometimes one that another timeline has had, or has; or a
 * wrong one. */
static uint64_t any_new_id(struct run *run, const struct vgf_fence_name *timeline)
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
	return model->next_id + (dice < 16 ? below(run, 5) : 0);
}

static uint64_t any_in_fence(struct run *run, const uint64_t *earlier, unsigned int num_earlier)
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
static int make_descriptor(struct run *run, int *handle, bool *is_pipe)
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

static void close_handle(struct model_fence *fence)
{
	if (fence->handle >= 0) {
		close(fence->handle);
		fence->handle = -1;
	}
}

static void forget_imports(struct run *run)
{
	struct model_fence *fence;

	while ((fence = model_take_import(&run->model))) {
		close_handle(fence);
	}
}

/* What waits for it finds out when the library dispatches. A pipe can end in an error. */
static void signal_descriptor(struct run *run, struct model_fence *fence)
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

static bool is_readable(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	check(poll(&pollfd, 1, 0) >= 0);
	check(!(pollfd.revents & POLLNVAL));
	return pollfd.revents != 0;
}

/* Whether a descriptor that the library gave out is that of the fence. */
static void check_descriptor(const struct model_fence *fence, int fd)
{
	struct stat theirs, ours;

	check(fence->has_fd);
	check(is_readable(fd) == (fence->signalled && !fence->known));
	if (fence->is_pipe && fence->handle >= 0) {
		check(fstat(fd, &theirs) == 0 && fstat(fence->handle, &ours) == 0);
		check(theirs.st_ino == ours.st_ino);
	}
}

/* ---- Callbacks ---------------------------------------------------------------------------- */

static void any_operation(struct run *run);
static void create_context(struct run *run);
static void cancel_context(struct run *run, uint32_t id);

static void enter(struct run *run)
{
	run->events++;
	run->depth++;
}

static void leave(struct run *run)
{
	run->depth--;
}

static void operate(struct run *run, void (*perform)(struct run *run));
static void reset(struct run *run);

static void meddle(struct run *run)
{
	/* Where there is not much else to do, and what is left wrong stays. */
	if (run->model.resetting == 1 && chance(run, 5 * run->settings->meddle)) {
		operate(run, chance(run, 20) ? reset : create_context);
	}
	while (run->depth <= MAX_DEPTH && chance(run, run->settings->meddle)) {
		any_operation(run);
	}
}

/* `fence` is the one that is told of; those before it were merged. */
static void retire_up_to(struct run *run, struct model_fence *fence, int status, bool has_status)
{
	struct model *model = &run->model;
	struct model_fence *oldest;

	check(fence->signalled);
	check(!has_status || fence->any_status || fence->status == status);
	if (fence->any_status) {
		check(!has_status || status == fence->status || status == -ECANCELED);
		fence->status = has_status ? status : fence->status;
		run->statuses_doubtful |= !has_status;
	}
	do {
		oldest = model_oldest(model, &fence->name);
		check(oldest->signalled);
		if (oldest != fence) {
			check(oldest->flags & VGF_MERGEABLE);
			check(oldest->status == 0 || oldest->any_status);
		}
		close_handle(oldest);
		model_retire(model, oldest);
	} while (oldest != fence);
}

/* With whatever is in flight. */
static void destroy(struct run *run)
{
	run->destroy_in_callback = false;
	run->destroying = true;
	model_reset(&run->model);
	vgf_device_destroy(run->device);
	model_reset_done(&run->model);
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
		destroy(run);
	} else {
		meddle(run);
	}
	leave(run);
}

static void on_retire(void *cookie, const struct vgf_fence_name *name, int status)
{
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

static void on_retire_end(void *cookie)
{
	struct run *run = cookie;

	check(run->model.dispatching > 0);
	enter(run);
	run->unannounced = 0;
	meddle(run);
	leave(run);
}

/* ---- The driver --------------------------------------------------------------------------- */

static void fill_command(char *command, uint64_t serial, size_t size)
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
		if (in_fence && !dep->retired) {
			check(!dep->known);
			check_descriptor(dep, in_fence->fd);
			lent++;
		} else if (!dep->imported) {
			check(model_may_retire(&run->model, dep));
		}
	}
	check(lent == job->num_in_fences);
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

static int on_submit(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	struct model_context *context = data;
	struct run *run = (struct run *)context->model;
	struct model_item *item = find_item(run, job);
	int ret = chance(run, job->num_in_fences > 0 ? 25 : 6) ? any_error(run) : 0;

	trace("run %" PRIu64 " with %u in-fences", item->serial, job->num_in_fences);
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
		cancel_context(run, context->id);
	}
	if (item->fence && (item->fence->signalled || item->fence->has_fd)) {
		ret = 0; /* a driver that has called for its fence does not fail any more */
	}
	if (job->num_in_fences == 0 || !is_missing_resource(ret)) {
		*out_fence_fd = ret == 0 ? answer(run, item->fence) : VGF_FENCE_BY_CALL;
		end_job(run, item, ret, job->wait);
	} else if (item->doomed) {
		end_job(run, item, -ECANCELED, job->wait);
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

static void on_destroy(void *data, bool cancelled)
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

static void on_turn(void *arg, int status)
{
	struct model_item *item = arg;
	struct run *run = (struct run *)item->model;

	trace("deferred function (%d)", status);
	check(status == (item->dropped ? -ECANCELED : 0));
	run_barrier(run, item);
}

/* ---- Operations: contexts ----------------------------------------------------------------- */

static struct vgf_driver any_driver(struct run *run)
{
	static const enum vgf_wait waits[] = { VGF_WAIT_HOST, VGF_WAIT_HOST, VGF_WAIT_DRIVER,
		VGF_WAIT_DRIVER, VGF_WAIT_DRIVER, VGF_WAIT_GL, VGF_WAIT_NONE };

	return (struct vgf_driver){
		.wait = waits[below(run, 7)],
		.independent_rings = chance(run, 50),
		.submit = on_submit,
		.destroy = on_destroy,
	};
}

static void create_context(struct run *run)
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
	struct expectation expected = expect_barrier(&run->model, id, DESTROY);
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

static void cancel_context(struct run *run, uint32_t id)
{
	bool must_find = model_context(&run->model, id) != NULL;
	int ret;

	for (unsigned int i = 0; i < run->model.num_items && !run->model.fuzzy; i++) {
		must_find |= run->model.items[i]->context->id == id;
	}
	model_cancel(&run->model, id);
	ret = vgf_context_cancel(run->device, id);
	trace("cancel context %u: %d", id, ret);
	check(ret == 0 || (ret == -ENOENT && !must_find));
}

static void cancel_any_context(struct run *run)
{
	cancel_context(run, any_context(run));
}

static void defer(struct run *run)
{
	uint32_t id = any_context(run);
	struct expectation expected = expect_barrier(&run->model, id, CALL);
	struct model_context *context = model_context(&run->model, id);
	struct model_item *item = context ? model_add(&run->model, CALL, context) : NULL;
	int ret;

	trace("defer in context %u", id);
	ret = vgf_context_defer(run->device, id, on_turn, item);
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
		(chance(run, 30) ? VGF_MERGEABLE : 0);
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
		fence = model_put(&run->model, &head->fence, head->flags);
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
	check(vgf_fence_create_take(run->device, name, 0, unpollable) == -EPERM);
	check(fcntl(unpollable, F_GETFD) < 0);
	check(vgf_fence_create_take(run->device, name, 0, unpollable) == -EBADF);
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
	ret = vgf_fence_create_take(run->device, &name, flags, fd);
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
	fence = model_put(&run->model, &name, flags);
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
	int ret = vgf_fence_refuse(run->device, &name, flags, -ENODEV);

	trace("refuse: context %u ring %d fence %" PRIu64 ": %d", name.ctx_id, name.ring,
		name.fence_id, ret);
	check(ret <= 0 && is_expected(&expected, ret));
	if (ret == 0) {
		run->model.stats.refused++;
		run->model.stats.created++;
		model_signal(model_put(&run->model, &name, flags), -ENODEV, true);
	}
}

/* A fence that a call has to signal: its driver said so, and did not think better of it. */
static bool is_by_call(const struct model_fence *fence)
{
	return !fence->has_fd && !fence->signalled &&
		(!fence->item || fence->item->state != WAITING);
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
	trace("signal fence %" PRIu64 " (%d)", fence->name.fence_id, status);
	check(vgf_fence_signal(run->device, &fence->name, 1) == -EINVAL);
	check(vgf_fence_signal(run->device, &fence->name, status) == 0);
	model_signal(fence, status, true);
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
	room = model_has_room(&run->model, &fence->name, 0);
	fd = make_descriptor(run, &handle, &is_pipe);
	ret = vgf_fence_publish_take(run->device, &fence->name, fd);
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

	if (fence->known || (may_be_seen && ret < 0)) {
		return ret == -EALREADY || (ret == -ENOENT && may_be_seen);
	}
	if (fence->item && fence->item->state == RUNNING) {
		return ret == -EBUSY;
	}
	return ret == 0;
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
	check(vgf_fence_refuse(run->device, &name, 0, 0) == -EINVAL);
	check(vgf_fence_publish_take(run->device, &name, make_fence(true)) == -ENOENT);
}

static void export(struct run *run)
{
	uint64_t id = any_in_fence(run, NULL, 0);
	struct expectation expected = expect_export(&run->model, id);
	int fd = vgf_fence_export(run->device, id);
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
	struct vgf_stats stats;

	vgf_device_get_stats(run->device, &stats);
	check(stats.submitted == expected->submitted);
	check(stats.refused == expected->refused);
	check(stats.run_ready == expected->run_ready && stats.run_driver == expected->run_driver);
	check(stats.run_gl == expected->run_gl && stats.run_host == expected->run_host);
	check(stats.in_fences == expected->in_fences);
	check(stats.in_fences_done >= expected->in_fences_done);
	check(stats.in_fences_done <= run->in_fences_most);
	check(stats.created == expected->created && stats.retired == expected->retired);
	check(run->statuses_doubtful || stats.failed == expected->failed);
	check(run->statuses_doubtful || stats.cancelled == expected->cancelled);
	check(stats.stalled == 0 && stats.contexts == model->num_contexts);
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

/* Nothing that could have happened has not, and the descriptor says so. */
static void check_all_done(struct run *run)
{
	check(run->unannounced == 0);
	check(run->returned == run->model.stats.retired);
	check(!model_has_work(&run->model));
	check(!is_readable(vgf_device_get_fd(run->device)));
	check_stats(run);
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
	} while (ret > 0 || run->events != events);
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
static void finish_all(struct run *run)
{
	while (run->depth == 0 && run->model.num_fences + run->model.num_items > 0) {
		unsigned long events = run->events;
		unsigned int signalled = signal_all(run);

		dispatch(run);
		check(signalled > 0 || run->events > events);
	}
}

static void drain(struct run *run)
{
	unsigned long returned = run->returned;
	uint64_t retired = run->model.stats.retired;
	int ret;

	run->model.dispatching++;
	ret = vgf_device_drain(run->device, 0);
	run->model.dispatching--;
	trace("drain: %d", ret);
	run->returned = returned + (unsigned long)(run->model.stats.retired - retired);
	if (run->model.running > 0) {
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

static void reset(struct run *run)
{
	unsigned long returned = run->returned;
	uint64_t retired = run->model.stats.retired;

	trace("reset");
	if (run->model.running > 0) {
		check(vgf_device_reset(run->device) == -EDEADLK);
		return;
	}
	run->model.dispatching++;
	model_reset(&run->model);
	check(vgf_device_reset(run->device) == (run->destroying ? -ECANCELED : 0));
	model_reset_done(&run->model);
	forget_imports(run);
	run->model.dispatching--;
	run->returned = returned + (unsigned long)(run->model.stats.retired - retired);
}

/* ---- Runs --------------------------------------------------------------------------------- */

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
	{ 70, create_context },
	{ 12, destroy_context },
	{ 4, cancel_any_context },
	{ 40, defer },
	{ 15, list },
	{ 2, dump },
	{ 120, dispatch },
	{ 10, drain },
	{ 2, finish_all },
	{ 1, reset },
};

static void operate(struct run *run, void (*perform)(struct run *run))
{
	if (run->depth > 0) {
		run->model.fuzzy = true;
	}
	perform(run);
}

static void any_operation(struct run *run)
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

static const struct vgf_callbacks callbacks = {
	.retire = on_retire,
	.retire_end = on_retire_end,
};

static const struct vgf_callbacks virglrenderer_callbacks = {
	.write_fence = on_write_fence,
	.write_context_fence = on_write_context_fence,
	.retire_end = on_retire_end,
};

static uint32_t limit_or_none(uint32_t limit)
{
	return limit > 0 ? limit : UINT32_MAX;
}

static uint64_t any_first_id(struct run *run)
{
	static const uint64_t ids[] = { 0, 0, 1, UINT32_MAX - 20, (uint64_t)1 << 63 };

	return ids[below(run, 5)];
}

static void begin(struct run *run, const struct settings *settings, uint64_t seed)
{
	struct vgf_options options = {
		.limits = settings->limits,
		.stall_ns = UINT64_MAX,
		.ignore_bad_in_fences = settings->ignore_bad_in_fences,
	};
	struct model *model = &run->model;

	*run = (struct run){ .settings = settings, .seed = seed, .random = seed };
	current = run;
	memset(run->copies, 0xff, sizeof(run->copies));
	run->num_contexts = 1 + below(run, 5);
	if (settings->few_descriptors) {
		options.limits.max_fds = 1 + below(run, 5);
	}
	run->first_id = any_first_id(run);
	model_init(model);
	model->limits = options.limits;
	model->limits.max_contexts = limit_or_none(model->limits.max_contexts);
	model->limits.max_fences = limit_or_none(model->limits.max_fences);
	model->limits.max_context_fences = limit_or_none(model->limits.max_context_fences);
	model->limits.max_in_fences = limit_or_none(model->limits.max_in_fences);
	model->limits.max_command_size = limit_or_none(model->limits.max_command_size);
	model->limits.max_fds = limit_or_none(model->limits.max_fds);
	model->ignore_bad_in_fences = settings->ignore_bad_in_fences;
	assert_int_equal(
		vgf_device_create(
			settings->virglrenderer_callbacks ? &virglrenderer_callbacks : &callbacks,
			run, &options, &run->device),
		0);
	run->fds_before = count_fds();
}

static void end(struct run *run)
{
	bool in_callback = chance(run, 50);

	if (chance(run, 30)) {
		finish_all(run);
	}
	if (in_callback) {
		struct vgf_fence_name name = { run->model.next_id, 0, VGF_RING_GLOBAL };
		struct expectation expected = expect_fence(&run->model, &name, false);
		int ret = vgf_fence_create_take(run->device, &name, 0, VGF_FENCE_DONE);

		check(is_expected(&expected, ret));
		if (ret == 0) {
			model_signal(model_put(&run->model, &name, 0), 0, true);
		}
		in_callback = false;
		for (unsigned int i = 0; i < run->model.num_fences; i++) {
			in_callback |= model_may_retire(&run->model, run->model.fences[i]);
		}
	}
	run->model.dispatching++;
	run->destroy_in_callback = in_callback;
	if (in_callback) {
		check(vgf_device_dispatch(run->device, 0) == -ECANCELED);
		check(!run->destroy_in_callback);
	} else {
		destroy(run);
	}
	forget_imports(run);
	for (size_t i = 0; i < 8; i++) {
		if (run->copies[i] >= 0) {
			close(run->copies[i]);
		}
	}
	model_finish(&run->model);
}

static void run_seed(const struct settings *settings, uint64_t seed, unsigned int steps)
{
	static struct run run;

	begin(&run, settings, seed);
	for (run.step = 0; run.step < steps; run.step++) {
		model_begin(&run.model);
		any_operation(&run);
		model_end(&run.model);
	}
	end(&run);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static void run_seeds(const struct settings *settings)
{
	unsigned int steps = (unsigned int)from_environment("VGF_TEST_STEPS", DEFAULT_STEPS);
	uint64_t seed = from_environment("VGF_TEST_SEED", 0);

	tracing = getenv("VGF_TEST_TRACE") != NULL;
	if (seed != 0) {
		print_message("seed %" PRIu64 ", %u steps\n", seed, steps);
		run_seed(settings, seed, steps);
		return;
	}
	print_message("seeds 1 to %d, %u steps each\n", SEEDS, steps);
	for (seed = 1; seed <= SEEDS; seed++) {
		run_seed(settings, seed, steps);
	}
}

TEST(agrees_with_the_model)
{
	run_seeds(&(struct settings){ .meddle = 0 });
}

TEST(agrees_when_callbacks_call_back)
{
	run_seeds(&(struct settings){ .meddle = 15 });
}

TEST(agrees_when_there_are_few_descriptors)
{
	run_seeds(&(struct settings){ .meddle = 3, .few_descriptors = true });
}

TEST(agrees_at_the_limits_of_contexts_and_fences)
{
	run_seeds(&(struct settings){
		.meddle = 5,
		.limits = { .max_contexts = 3,
			.max_fences = 24,
			.max_context_fences = 12,
			.max_in_fences = 4,
			.max_command_size = 40 },
	});
}

TEST(agrees_when_bad_in_fences_are_ignored)
{
	run_seeds(&(struct settings){ .meddle = 5, .ignore_bad_in_fences = true });
}

TEST(agrees_with_the_callbacks_of_virglrenderer)
{
	run_seeds(&(struct settings){ .meddle = 5, .virglrenderer_callbacks = true });
}

int main(int argc, char *argv[])
{
	/* Fences that are pipes, whose reader the library has closed. */
	signal(SIGPIPE, SIG_IGN);
	return run_registered_tests(argv);
}
