/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- The VMM ---- */

/* The only callback that comes from several threads at once. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;

static void note_retire(void *cookie, const struct vgf_retired *retired)
{
	const struct vgf_fence_name *name = &retired->fence;
	int status = retired->status;
	struct fake_vmm *vmm = cookie;

	assert_true(vmm->num_retired < FAKE_MAX);
	vmm->retired[vmm->num_retired++] = (struct fake_retired){ *name, status, retired->cookie };
	if (vmm->on_retire) {
		vmm->on_retire(vmm, name, status);
	}
}

static void note_batch(void *cookie)
{
	struct fake_vmm *vmm = cookie;

	vmm->num_batches++;
	if (vmm->on_batch) {
		vmm->on_batch(vmm);
	}
}

static void note_stall(void *cookie, const struct vgf_stall *stall)
{
	struct fake_vmm *vmm = cookie;

	vmm->stall = *stall;
	vmm->num_stalls++;
	if (vmm->on_stall) {
		vmm->on_stall(vmm, stall);
	}
}

static void note_log(void *cookie, enum vgf_log_level level, const char *message)
{
	struct fake_vmm *vmm = cookie;

	(void)level;
	pthread_mutex_lock(&log_lock);
	snprintf(vmm->log, sizeof(vmm->log), "%s", message);
	vmm->num_logs++;
	pthread_mutex_unlock(&log_lock);
	if (vmm->on_log) {
		vmm->on_log(vmm, message);
	}
}

const struct vgf_callbacks fake_callbacks = {
	.size = sizeof(struct vgf_callbacks),
	.retire = note_retire,
	.retire_end = note_batch,
	.stalled = note_stall,
	.log = note_log,
};

/* Has room for thousands of jobs, most of which no test uses: sanitizers write all of what calloc
 * returns. */
static void *map_zeros(size_t size)
{
	void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(bytes != MAP_FAILED);
	return bytes;
}

struct fake_vmm *vmm_create_with(
	const struct vgf_callbacks *callbacks, const struct vgf_options *options)
{
	struct fake_vmm *vmm = map_zeros(sizeof(*vmm));
	struct vgf_options unhurried = { .size = sizeof(unhurried) };

	/* Nothing is left for the next round, unless the test asks for that. */
	if (options) {
		unhurried = *options;
		unhurried.size = sizeof(unhurried);
	}
	if (unhurried.budget_items == 0) {
		unhurried.budget_items = UINT32_MAX;
	}
	if (unhurried.budget_ns == 0) {
		unhurried.budget_ns = UINT64_MAX;
	}
	assert_int_equal(vgf_device_create(callbacks, vmm, &unhurried, &vmm->device), 0);
	return vmm;
}

struct fake_vmm *vmm_create(const struct vgf_options *options)
{
	return vmm_create_with(&fake_callbacks, options);
}

void vmm_destroy_device(struct fake_vmm *vmm)
{
	vgf_device_destroy(vmm->device);
	vmm->device = NULL;
}

static void driver_destroy(struct fake_driver *driver)
{
	for (unsigned int i = 0; i < driver->num_jobs; i++) {
		if (driver->jobs[i].fence_fd >= 0) {
			close(driver->jobs[i].fence_fd);
		}
	}
	munmap(driver, sizeof(*driver));
}

void vmm_destroy(struct fake_vmm *vmm)
{
	struct fake_driver *driver, *next;

	vgf_device_destroy(vmm->device);
	for (driver = vmm->drivers; driver; driver = next) {
		next = driver->next;
		driver_destroy(driver);
	}
	munmap(vmm, sizeof(*vmm));
}

unsigned int vmm_dispatch(struct fake_vmm *vmm)
{
	unsigned int before = vmm->num_retired;
	int ret;

	do {
		ret = vgf_device_dispatch(vmm->device, 0);
		assert_true(ret >= 0);
	} while (ret > 0);
	return vmm->num_retired - before;
}

void vmm_wait(struct fake_vmm *vmm, unsigned int count)
{
	while (vmm->num_retired < count) {
		unsigned int before = vmm->num_retired;
		int ret = vgf_device_dispatch(vmm->device, WAIT_MS);

		assert_true(ret >= 0 || ret == -EINTR);
		if (ret == 0 && vmm->num_retired == before &&
			vgf_device_dispatch(vmm->device, WAIT_MS) == 0) {
			fail_msg("%u of %u fences have retired", vmm->num_retired, count);
		}
	}
}

void wait_until_asleep(pid_t thread_id)
{
	char path[64], line[512];
	const char *name_end = NULL;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread_id);
	do {
		FILE *file = fopen(path, "re");
		assert_non_null(file);
		assert_non_null(fgets(line, sizeof(line), file));
		fclose(file);
		name_end = strrchr(line, ')');
		assert_non_null(name_end);
		sched_yield();
	} while (strncmp(name_end, ") S", 3) != 0);
}

void assert_retired(const struct fake_vmm *vmm, unsigned int n, uint32_t ctx_id, int32_t ring,
	uint64_t fence_id, int status)
{
	assert_true(n < vmm->num_retired);
	assert_int_equal(vmm->retired[n].name.fence_id, fence_id);
	assert_int_equal(vmm->retired[n].name.ctx_id, ctx_id);
	assert_int_equal(vmm->retired[n].name.ring, ring);
	assert_int_equal(vmm->retired[n].status, status);
}

void assert_all_retired(const struct fake_vmm *vmm, ...)
{
	unsigned int count = 0;
	uint64_t fence_id;
	va_list ids;

	va_start(ids, vmm);
	while ((fence_id = va_arg(ids, uint64_t)) != 0) {
		assert_true(count < vmm->num_retired);
		assert_int_equal(vmm->retired[count++].name.fence_id, fence_id);
	}
	va_end(ids);
	assert_int_equal(vmm->num_retired, count);
}

struct vgf_stats get_stats(struct fake_vmm *vmm)
{
	struct vgf_stats stats = { .size = sizeof(stats) };

	vgf_device_get_stats(vmm->device, &stats);
	return stats;
}

void assert_idle(struct fake_vmm *vmm)
{
	struct vgf_stats stats = get_stats(vmm);

	assert_int_equal(stats.pending, 0);
	assert_int_equal(stats.held, 0);
	assert_int_equal(stats.held_size, 0);
	assert_int_equal(stats.fds, 0);
	assert_int_equal(stats.created, stats.retired);
	assert_int_equal(vgf_device_list_pending(vmm->device, NULL, 0), 0);
}

/* ---- The context driver ---- */

static void note_job(struct fake_job *noted, const struct vgf_job *job)
{
	*noted = (struct fake_job){
		.fence = job->fence,
		.wait = job->wait,
		.flags = job->flags,
		.num_in_fences = job->num_in_fences,
		.num_family_fences = job->num_family_fences,
		.size = job->size,
		.fence_fd = -1,
	};
	for (uint32_t i = 0; i < job->num_in_fences && i < 16; i++) {
		noted->in_fences[i] = job->in_fences[i].fence_id;
		assert_true(fcntl(job->in_fences[i].fd, F_GETFD) >= 0);
	}
	for (uint32_t i = 0; i < job->num_family_fences && i < 16; i++) {
		noted->family_fences[i] = job->family_fences[i];
	}
	if (job->size > 0) {
		memcpy(noted->command, job->command, job->size < 16 ? job->size : 16);
	}
}

static int fake_submit(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	struct fake_driver *driver = data;
	struct fake_job *noted = &driver->jobs[driver->num_jobs];

	assert_true(driver->num_jobs < FAKE_MAX);
	if (driver->answer == FAKE_ERROR &&
		(driver->error_always || job->num_in_fences + job->num_family_fences > 0)) {
		driver->num_errors++;
		if (driver->on_submit) {
			driver->on_submit(driver, job);
		}
		return driver->error;
	}
	driver->num_jobs++;
	note_job(noted, job);
	if (driver->answer == FAKE_FD) {
		*out_fence_fd = make_fence(false);
		noted->fence_fd = fcntl(*out_fence_fd, F_DUPFD_CLOEXEC, 0);
	} else if (driver->answer == FAKE_GIVEN) {
		*out_fence_fd = driver->given_fd;
	} else {
		*out_fence_fd = driver->answer == FAKE_DONE ? VGF_FENCE_DONE : VGF_FENCE_BY_CALL;
	}
	if (driver->on_submit) {
		driver->on_submit(driver, job);
	}
	return 0;
}

static void fake_destroy(void *data, bool cancelled)
{
	struct fake_driver *driver = data;

	driver->num_destroyed++;
	driver->cancelled = cancelled;
	if (driver->on_destroy) {
		driver->on_destroy(driver, cancelled);
	}
}

struct fake_driver *driver_create(struct fake_vmm *vmm, enum vgf_wait wait, enum fake_answer answer)
{
	struct fake_driver *driver = map_zeros(sizeof(*driver));

	driver->driver.size = sizeof(driver->driver);
	driver->driver.wait = wait;
	driver->driver.submit = fake_submit;
	driver->driver.destroy = fake_destroy;
	driver->answer = answer;
	driver->next = vmm->drivers;
	vmm->drivers = driver;
	return driver;
}

void driver_open(struct fake_driver *driver, struct fake_vmm *vmm, uint32_t ctx_id)
{
	assert_int_equal(vgf_context_create(vmm->device, ctx_id, &driver->driver, driver), 0);
}

bool driver_has(const struct fake_driver *driver, uint64_t fence_id)
{
	for (unsigned int i = 0; i < driver->num_jobs; i++) {
		if (driver->jobs[i].fence.fence_id == fence_id) {
			return true;
		}
	}
	return false;
}

struct fake_job *driver_job(struct fake_driver *driver, uint64_t fence_id)
{
	unsigned int i = 0;

	assert_true(driver_has(driver, fence_id));
	while (driver->jobs[i].fence.fence_id != fence_id) {
		i++;
	}
	return &driver->jobs[i];
}

void assert_jobs(const struct fake_driver *driver, ...)
{
	unsigned int count = 0;
	uint64_t fence_id;
	va_list ids;

	va_start(ids, driver);
	while ((fence_id = va_arg(ids, uint64_t)) != 0) {
		assert_true(count < driver->num_jobs);
		assert_int_equal(driver->jobs[count++].fence.fence_id, fence_id);
	}
	va_end(ids);
	assert_int_equal(driver->num_jobs, count);
}

void driver_signal(struct fake_driver *driver, uint64_t fence_id)
{
	signal_fence(driver_job(driver, fence_id)->fence_fd);
}

void run_with_vmm(void (*test)(struct fake_vmm *vmm, struct fake_driver *driver),
	const struct fake_setup *setup)
{
	struct fake_vmm *vmm = vmm_create(&setup->options);
	enum vgf_wait wait = setup->wait ? setup->wait : VGF_WAIT_HOST;

	test(vmm, driver_create(vmm, wait, setup->answer));
	vmm_destroy(vmm);
}

int defer_call(
	struct vgf_device *device, uint32_t ctx_id, void (*fn)(void *arg, int status), void *arg)
{
	const struct vgf_deferred_call call = {
		.ctx_id = ctx_id,
		.ring = VGF_EVERY_RING,
		.fn = fn,
		.arg = arg,
	};

	return vgf_context_defer(device, &call);
}

/* ---- Submitting ---- */

int submit_flags(struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id,
	uint32_t flags, const uint64_t *in_fences, uint32_t num_in_fences, bool *will_retire)
{
	/* On the stack and overwritten afterwards: what is held must be a copy. */
	char command[8];
	struct vgf_submission submission = {
		.fence = { .fence_id = fence_id, .ctx_id = ctx_id, .ring = ring },
		.flags = flags,
		.in_fences = in_fences,
		.num_in_fences = num_in_fences,
		.command = command,
		.size = sizeof(command),
	};
	int ret;

	memset(command, (int)fence_id, sizeof(command));
	ret = vgf_submit(vmm->device, &submission, will_retire);
	memset(command, 0xff, sizeof(command));
	return ret;
}

int submit(struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, ...)
{
	uint64_t in_fences[16];
	uint32_t count = 0;
	bool will_retire;
	va_list ids;
	int ret;

	va_start(ids, fence_id);
	while ((in_fences[count] = va_arg(ids, uint64_t)) != 0) {
		count++;
		assert_true(count < 16);
	}
	va_end(ids);
	ret = submit_flags(vmm, ctx_id, ring, fence_id, VGF_FENCED | VGF_SHAREABLE, in_fences,
		count, &will_retire);
	if (ret >= 0) {
		assert_true(will_retire);
	}
	return ret;
}

struct vgf_fence_name make_name(uint32_t ctx_id, int32_t ring, uint64_t fence_id)
{
	return (struct vgf_fence_name){ .fence_id = fence_id, .ctx_id = ctx_id, .ring = ring };
}

int create_fence(
	struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, int fence_fd)
{
	struct vgf_fence_name name = make_name(ctx_id, ring, fence_id);

	return create_take(vmm->device, &name, VGF_SHAREABLE, fence_fd);
}

int create_fence_fd(struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id)
{
	int fence_fd = make_fence(false);
	int copy = fcntl(fence_fd, F_DUPFD_CLOEXEC, 0);

	assert_int_equal(create_fence(vmm, ctx_id, ring, fence_id, fence_fd), 0);
	return copy;
}

int signal_call(struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, int status)
{
	struct vgf_fence_name name = make_name(ctx_id, ring, fence_id);

	return vgf_fence_signal(vmm->device, &name, status);
}

int cancel_fence(struct fake_vmm *vmm, uint32_t ctx_id, int32_t ring, uint64_t fence_id, int error)
{
	struct vgf_fence_name name = make_name(ctx_id, ring, fence_id);

	return vgf_fence_cancel(vmm->device, &name, error);
}
