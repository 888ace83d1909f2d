/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * One fence of the library's load is
 * - one vgf_submit: the fence is added, LOAD_IN_FENCES pending ones are looked up, and the work is
 *   handed over with their descriptors or, without descriptors, is held back for them;
 * - one signal of the oldest fence: a call (timed), or a write to its eventfd (not timed: that is
 *   the renderer's work, not the library's);
 * - its share of one vgf_device_dispatch: the oldest fence is retired, and held work of which it
 *   was the last in-fence is run.
 * So the number of fences pending, and of work held back, stays as it is.
 *
 * Without descriptors in-fences are always LOAD_MAX_BATCH or more older than the work that names
 * them. Those of a fence have then retired in an earlier batch, its work has run, and it can be
 * signalled.
 */

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <vgfence/context_driver.h>
#include <vgfence/vgfence.h>

#include "bench.h"
#include "clock.h"
#include "load.h"

struct library_load {
	struct load_options options;
	struct vgf_device *device;
	int *fds; /* of the fence with ID n at n modulo num_fds; they belong to the device */
	uint32_t num_fds;
	uint64_t oldest, next; /* fence IDs: the pending ones are oldest to next - 1 */
	uint64_t retired;      /* callbacks so far */
	uint64_t handed_over;  /* in-fences that came to the driver */
	uint64_t random;
	double heap_empty, heap_idle; /* in use by the device, and by all with an empty device */
	struct fd_pool pool;
};

/* Bytes that malloc has given out, its own headers included; negative if it does not tell. Of a
 * sanitizer's all numbers are zero. */
static double heap_in_use(void)
{
#ifdef __GLIBC__
	struct mallinfo2 info = mallinfo2();
	double in_use = (double)(info.uordblks + info.hblkhd);

	return in_use > 0 ? in_use : -1;
#else
	return -1;
#endif
}

static struct vgf_fence_name fence_name(const struct library_load *load, uint64_t id)
{
	const struct load_options *options = &load->options;

	return (struct vgf_fence_name){
		.fence_id = id,
		.ctx_id = 1 + (uint32_t)(id % options->contexts),
		.ring = (int32_t)(id / options->contexts % options->rings),
	};
}

static void on_retire(void *cookie, const struct vgf_retired *retired)
{
	const struct vgf_fence_name *fence = &retired->fence;
	int status = retired->status;
	struct library_load *load = cookie;

	(void)fence;
	load->retired += status == 0;
}

static int on_submit(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	struct library_load *load = data;

	load->handed_over += job->num_in_fences;
	if (!load->options.fds) {
		*out_fence_fd = VGF_FENCE_BY_CALL;
		return 0;
	}
	int fd = fd_pool_take(&load->pool);
	if (fd < 0) {
		return -ENOBUFS; /* our own mistake: -EMFILE would mean "again, later" */
	}
	load->fds[job->fence.fence_id % load->num_fds] = fd;
	*out_fence_fd = fd;
	return 0;
}

/* xorshift64: cheap compared with what is measured. */
static uint64_t random_below(struct library_load *load, uint64_t bound)
{
	load->random ^= load->random << 13;
	load->random ^= load->random >> 7;
	load->random ^= load->random << 17;
	return load->random % bound;
}

static int submit(struct library_load *load, uint32_t num_in_fences, uint32_t place)
{
	static const uint32_t command[8];
	uint64_t in_fences[LOAD_IN_FENCES];
	uint64_t choice = load->next - LOAD_MAX_BATCH - load->oldest;

	for (uint32_t i = 0; i < num_in_fences; i++) {
		in_fences[i] = load->oldest +
			(load->options.name_any ? random_below(load, choice) : place + i);
	}
	struct vgf_submission submission = {
		.fence = fence_name(load, load->next),
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.num_in_fences = num_in_fences,
		.in_fences = in_fences,
		.command = command,
		.size = sizeof(command),
	};
	int held = vgf_submit(load->device, &submission, NULL);
	if (held < 0) {
		return bench_error(held, "vgf_submit");
	}
	load->next++;
	return 0;
}

static int signal_fence(const struct library_load *load, uint64_t id)
{
	if (load->options.fds) {
		/* The device's descriptor is safe to use: it stays open until it has signalled. */
		return eventfd_write(load->fds[id % load->num_fds], 1) < 0 ? -errno : 0;
	}
	struct vgf_fence_name fence = fence_name(load, id);
	return vgf_fence_signal(load->device, &fence, 0);
}

static int dispatch_batch(struct library_load *load, uint32_t batch)
{
	uint64_t goal = load->retired + batch;

	while (load->retired < goal) {
		int retired = vgf_device_dispatch(load->device, 0);
		if (retired <= 0) {
			return bench_error(retired ? retired : -EIO, "vgf_device_dispatch");
		}
	}
	load->oldest += batch;
	return 0;
}

static uint32_t num_in_fences(const struct library_load *load)
{
	uint32_t pending = load->options.pending;

	return pending < LOAD_IN_FENCES ? pending : LOAD_IN_FENCES;
}

static int submit_batch(struct library_load *load, uint32_t batch)
{
	int error = 0;

	for (uint32_t i = 0; i < batch && error == 0; i++) {
		error = submit(load, num_in_fences(load), i);
	}
	return error;
}

static int signal_batch(const struct library_load *load, uint32_t batch)
{
	for (uint32_t i = 0; i < batch; i++) {
		int error = signal_fence(load, load->oldest + i);
		if (error < 0) {
			return bench_error(error, "signalling a fence");
		}
	}
	return 0;
}

static int run_batch(
	struct library_load *load, uint32_t batch, uint64_t *fence_ns, uint64_t *write_ns)
{
	uint64_t start = now_ns();
	int error = submit_batch(load, batch);

	if (error < 0) {
		return error;
	}
	uint64_t submitted = load->options.fds ? now_ns() : 0;
	error = signal_batch(load, batch);
	if (error < 0) {
		return error;
	}
	uint64_t signalled = load->options.fds ? now_ns() : 0;
	error = dispatch_batch(load, batch);
	*fence_ns += now_ns() - start - (signalled - submitted);
	*write_ns += signalled - submitted;
	return error;
}

int library_load_run(
	struct library_load *load, uint32_t count, uint32_t batch, struct load_times *times)
{
	uint64_t fence_ns = 0, write_ns = 0, handed_over = load->handed_over;

	*times = (struct load_times){ 0 };
	if (load->options.fds) {
		int error = fd_pool_fill(&load->pool, count, &times->make_ns);
		if (error < 0) {
			return error;
		}
	}
	for (uint32_t i = 0; i < count; i += batch) {
		int error = run_batch(load, batch, &fence_ns, &write_ns);
		if (error < 0) {
			return error;
		}
	}
	/* Whether what was measured is what the comment above says. */
	handed_over = load->handed_over - handed_over;
	if (handed_over != (load->options.fds ? (uint64_t)count * num_in_fences(load) : 0)) {
		return bench_error(-EIO, "in-fences were not pending, or not handed to the driver");
	}
	times->fence_ns = (double)fence_ns / count;
	times->write_ns = (double)write_ns / count;
	return 0;
}

/* Dispatches as often as the device asks for it. */
static int dispatch_when_woken(struct library_load *load, uint64_t *wakeups)
{
	struct pollfd ready = { .fd = vgf_device_get_fd(load->device), .events = POLLIN };

	while (poll(&ready, 1, 0) > 0) {
		int retired = vgf_device_dispatch(load->device, 0);
		if (retired < 0) {
			return bench_error(retired, "vgf_device_dispatch");
		}
		++*wakeups;
	}
	return 0;
}

static int count_batch(struct library_load *load, uint32_t batch, uint64_t *wakeups)
{
	uint64_t goal = load->retired + batch;
	int error = submit_batch(load, batch);

	if (error == 0) {
		error = dispatch_when_woken(load, wakeups);
	}
	if (error == 0) {
		error = signal_batch(load, batch);
	}
	if (error == 0) {
		error = dispatch_when_woken(load, wakeups);
	}
	if (error == 0 && load->retired != goal) {
		error = bench_error(-EIO, "fences signalled, but the device told nobody");
	}
	load->oldest += batch;
	return error;
}

int library_load_count_wakeups(
	struct library_load *load, uint32_t count, uint32_t batch, uint64_t *wakeups)
{
	double unused;
	int error = load->options.fds ? fd_pool_fill(&load->pool, count, &unused) : 0;

	*wakeups = 0;
	for (uint32_t i = 0; i < count && error == 0; i += batch) {
		error = count_batch(load, batch, wakeups);
	}
	return error;
}

int library_load_trim(struct library_load *load, uint32_t pending)
{
	uint32_t excess = load->options.pending - pending;
	int error = signal_batch(load, excess);

	load->options.pending = pending;
	return error < 0 ? error : dispatch_batch(load, excess);
}

void library_load_heap(const struct library_load *load, double *empty, double *filled)
{
	double in_use = heap_in_use();

	*empty = in_use < 0 ? -1 : load->heap_empty;
	*filled = in_use < 0 ? -1 : in_use - load->heap_idle;
}

static int make_device(struct library_load *load)
{
	static const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = on_retire };
	struct vgf_options options = {
		.size = sizeof(struct vgf_options),
		.limits.max_fences = load->options.pending + LOAD_MAX_BATCH,
		.limits.max_context_fences = load->options.pending + LOAD_MAX_BATCH,
		/* A context may hold back a quarter. */
		.limits.max_held = 4 * (load->options.pending + LOAD_MAX_BATCH),
		/* One more: the last is kept for fences that are the oldest of their timelines. */
		.limits.max_fds = load->options.pending + LOAD_MAX_BATCH + 1,
		.limits.max_context_fds = load->options.pending + LOAD_MAX_BATCH + 1,
		/* However slow the machine is, a round runs all that has become ready: the number
		 * of fences pending stays as it is. */
		.budget_ns = UINT64_MAX,
	};
	struct vgf_driver driver = {
		.size = sizeof(struct vgf_driver),
		.wait = load->options.fds ? VGF_WAIT_DRIVER : VGF_WAIT_HOST,
		.submit = on_submit,
	};
	double before = heap_in_use();
	int error = vgf_device_create(&callbacks, load, &options, &load->device);

	if (error < 0) {
		return bench_error(error, "vgf_device_create");
	}
	for (uint32_t i = 1; i <= load->options.contexts; i++) {
		error = vgf_context_create(load->device, i, &driver, load);
		if (error < 0) {
			return bench_error(error, "vgf_context_create");
		}
	}
	load->heap_idle = heap_in_use();
	load->heap_empty = load->heap_idle - before;
	return 0;
}

/* Fills up, then passes so many through that every pending fence is of the kind measured. */
static int fill(struct library_load *load)
{
	struct load_times unused;
	uint32_t pending = load->options.pending;

	for (uint32_t i = 0; i < pending; i++) {
		int error = load->options.fds ? fd_pool_fill(&load->pool, 1, &unused.make_ns) : 0;
		if (error == 0) {
			error = submit(load, 0, 0);
		}
		if (error < 0) {
			return error;
		}
	}
	for (uint32_t i = 0; i < pending + LOAD_MAX_FDS_RUN; i += LOAD_MAX_FDS_RUN) {
		int error = library_load_run(load, LOAD_MAX_FDS_RUN, LOAD_MAX_BATCH, &unused);
		if (error < 0) {
			return error;
		}
	}
	return 0;
}

int library_load_create(const struct load_options *options, struct library_load **load)
{
	*load = NULL;
	struct library_load *new = calloc(1, sizeof(*new));
	if (!new) {
		return bench_error(-ENOMEM, "library");
	}
	new->options = *options;
	new->oldest = new->next = 1;
	new->random = 88172645463325252;
	new->num_fds = options->fds ? options->pending + LOAD_MAX_BATCH : 1;
	new->fds = malloc(new->num_fds * sizeof(new->fds[0]));
	int error = new->fds ? make_device(new) : bench_error(-ENOMEM, "library");
	if (error == 0) {
		error = fill(new);
	}
	if (error < 0) {
		library_load_destroy(new);
		return error;
	}
	*load = new;
	return 0;
}

void library_load_destroy(struct library_load *load)
{
	if (!load) {
		return;
	}
	vgf_device_destroy(load->device);
	fd_pool_finish(&load->pool);
	free(load->fds);
	free(load);
}
