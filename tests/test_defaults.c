/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a device has if its VMM asks for nothing else: the numbers that the header names. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "fake.h"

/* There are more than a fake VMM takes note of. */
static void forget_retired(struct fake_vmm *vmm, const struct vgf_fence_name *name, int status)
{
	vmm->num_retired = 0;
}

/* ---- Contexts and fences ------------------------------------------------------------------ */

TEST_VMM(there_are_1024_contexts)
{
	for (uint32_t ctx_id = 1; ctx_id <= 1024; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
	}
	assert_int_equal(vgf_context_create(vmm->device, 1025, &driver->driver, driver), -ENOSPC);
}

TEST_VMM(there_are_65536_fences_and_a_quarter_for_a_context)
{
	uint64_t id = 0;

	vmm->on_retire = forget_retired;
	driver_open(driver, vmm, 1);
	while (id < 16384) {
		assert_int_equal(create_fence(vmm, 1, 0, ++id, VGF_FENCE_BY_CALL), 0);
	}
	assert_int_equal(create_fence(vmm, 1, 0, id + 1, VGF_FENCE_BY_CALL), -ENOSPC);
	while (id < 65536) {
		assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, ++id, VGF_FENCE_BY_CALL), 0);
	}
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, id + 1, VGF_FENCE_DONE), -ENOSPC);
}

/* ---- Held work ---------------------------------------------------------------------------- */

static void ignore(void *arg, int status)
{
}

static int hold(struct fake_vmm *vmm, uint32_t ctx_id, size_t size)
{
	const struct vgf_deferred_call call = {
		.ctx_id = ctx_id,
		.ring = VGF_EVERY_RING,
		.kept_size = size,
		.fn = ignore,
	};

	return vgf_context_defer(vmm->device, &call);
}

/* Contexts 1 to 5, each with work that waits for a fence. */
static void start_holding(struct fake_vmm *vmm, struct fake_driver *driver)
{
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	for (uint32_t ctx_id = 1; ctx_id <= 5; ctx_id++) {
		driver_open(driver, vmm, ctx_id);
		assert_int_equal(submit(vmm, ctx_id, 0, 1 + ctx_id, ID(1), NO_IN_FENCES), 1);
	}
}

TEST_VMM(so_much_work_is_held_back_16384_and_a_quarter_for_a_context)
{
	start_holding(vmm, driver);
	for (uint32_t ctx_id = 1; ctx_id <= 3; ctx_id++) {
		for (unsigned int i = 1; i < 4096; i++) {
			assert_int_equal(hold(vmm, ctx_id, 0), 1);
		}
		assert_int_equal(hold(vmm, ctx_id, 0), -ENOSPC);
	}
	/* The fifth has one already. */
	for (unsigned int i = 1; i < 4095; i++) {
		assert_int_equal(hold(vmm, 4, 0), 1);
	}
	assert_int_equal(get_stats(vmm).held, 16384);
	assert_int_equal(hold(vmm, 5, 0), -ENOSPC);
}

TEST_VMM(its_bytes_are_64_mib_and_a_quarter_for_a_context)
{
	const size_t quarter = 16 << 20, rest = 4096;

	start_holding(vmm, driver);
	for (uint32_t ctx_id = 1; ctx_id <= 4; ctx_id++) {
		assert_int_equal(hold(vmm, ctx_id, quarter), -ENOSPC);
		assert_int_equal(hold(vmm, ctx_id, quarter - rest), 1);
	}
	assert_int_equal(hold(vmm, 5, 4 * rest), -ENOSPC);
	assert_int_equal(hold(vmm, 5, rest), 1);
}

/* ---- Descriptors -------------------------------------------------------------------------- */

/* A device of a process that may have so many descriptors. */
static struct fake_vmm *create_with_fds(rlim_t count, const struct vgf_options *options)
{
	struct rlimit old, limit;
	struct fake_vmm *vmm;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	if (count > old.rlim_max) {
		skip();
	}
	limit = (struct rlimit){ .rlim_cur = count, .rlim_max = old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	vmm = vmm_create(options);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	return vmm;
}

/* On the global timeline, whose oldest may have the last descriptor. */
static uint64_t take_descriptors(struct fake_vmm *vmm)
{
	uint64_t id = 0;
	int ret;

	do {
		ret = create_fence(vmm, 0, VGF_RING_GLOBAL, ++id, make_fence(false));
	} while (ret == 0);
	assert_int_equal(ret, -EMFILE);
	return id - 1;
}

TEST(fences_have_half_of_the_descriptors)
{
	struct fake_vmm *vmm = create_with_fds(600, NULL);

	assert_int_equal(take_descriptors(vmm), 299);
	vmm_destroy(vmm);
}

TEST(fences_have_no_more_descriptors_than_there_are_fences)
{
	const struct vgf_options options = { .limits.max_fences = 8 };
	struct fake_vmm *vmm = create_with_fds(600, &options);

	assert_int_equal(take_descriptors(vmm), 7);
	vmm_destroy(vmm);
}

/* Whether one submission can have so many in_fence_fds. */
static int wait_for_files(rlim_t process_fds, uint32_t count)
{
	struct fake_vmm *vmm = create_with_fds(process_fds, NULL);
	struct fake_driver *driver = driver_create(vmm, VGF_WAIT_HOST, FAKE_DONE);
	int fence_fds[256];
	const struct vgf_submission submission = {
		.fence = make_name(1, 0, 0),
		.in_fence_fds = fence_fds,
		.num_in_fence_fds = count,
	};
	int fence_fd = make_fence(false);
	int ret;

	for (uint32_t i = 0; i < count; i++) {
		fence_fds[i] = fence_fd;
	}
	driver_open(driver, vmm, 1);
	ret = vgf_submit(vmm->device, &submission, NULL);
	vmm_destroy(vmm);
	close(fence_fd);
	return ret;
}

TEST(a_submission_has_as_many_descriptors_as_its_context)
{
	assert_int_equal(wait_for_files(1024, 127), 1);
	assert_int_equal(wait_for_files(1024, 128), -EMFILE);
	/* A context has 16 at least. */
	assert_int_equal(wait_for_files(64, 15), 1);
	assert_int_equal(wait_for_files(64, 16), -EMFILE);
}

TEST(a_submission_has_256_descriptors_if_there_are_2056)
{
	assert_int_equal(wait_for_files(2056, 256), 1);
	assert_int_equal(wait_for_files(2055, 256), -EMFILE);
}

/* A number from a file of /proc, behind a word. */
static unsigned long read_number(const char *path, const char *word)
{
	unsigned long number = 0;
	char line[256];
	FILE *file = fopen(path, "re");

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, word, strlen(word)) == 0) {
			assert_int_equal(sscanf(line + strlen(word), "%lu", &number), 1);
		}
	}
	fclose(file);
	return number;
}

TEST(the_table_of_descriptors_grows_when_a_device_is_made)
{
	unsigned long before = read_number("/proc/self/status", "FDSize:");
	const struct vgf_options options = { .limits.max_fds = (uint32_t)before };
	struct fake_vmm *vmm = create_with_fds(before + 1, &options);

	assert_true(read_number("/proc/self/status", "FDSize:") > before);
	vmm_destroy(vmm);
}

/* ---- Time --------------------------------------------------------------------------------- */

/* Seconds until the device's timer expires, rounded down; 0: it is not set. */
static unsigned long read_timer(void)
{
	char path[64], target[64];
	ssize_t length;

	for (int fd = 0; fd < 1024; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		length = readlink(path, target, sizeof(target) - 1);
		target[length > 0 ? length : 0] = '\0';
		if (strcmp(target, "anon_inode:[timerfd]") == 0) {
			snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
			return read_number(path, "it_value: (");
		}
	}
	fail_msg("there is no timer");
	return 0;
}

TEST_VMM(a_fence_is_stalled_after_10_seconds)
{
	assert_int_equal(read_timer(), 0);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_BY_CALL), 0);
	assert_in_range(read_timer(), 7, 10);
}

static void count_fence(void *cookie, const struct vgf_retired *retired)
{
	unsigned int *count = cookie;

	(*count)++;
}

static const struct vgf_callbacks counting = {
	.size = sizeof(struct vgf_callbacks),
	.retire = count_fence,
};

TEST(a_round_retires_1024_fences)
{
	const struct vgf_options options = { .size = sizeof(options), .budget_ns = UINT64_MAX };
	struct vgf_device *device;
	unsigned int count = 0;

	assert_int_equal(vgf_device_create(&counting, &count, &options, &device), 0);
	for (uint64_t id = 1; id <= 3000; id++) {
		struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, id);
		assert_int_equal(create_take(device, &name, 0, VGF_FENCE_DONE), 0);
	}
	/* And the rest of a batch. */
	assert_in_range(vgf_device_dispatch(device, 0), 1024, 1024 + 126);
	vgf_device_destroy(device);
	assert_int_equal(count, 3000);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int run_for_100_us(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	uint64_t end_ns = now_ns() + 100000;
	unsigned int *jobs = data;

	(*jobs)++;
	while (now_ns() < end_ns) {
	}
	*out_fence_fd = VGF_FENCE_DONE;
	return 0;
}

TEST(a_round_runs_work_for_a_millisecond)
{
	const struct vgf_driver driver = {
		.size = sizeof(driver), .wait = VGF_WAIT_HOST, .submit = run_for_100_us
	};
	const struct vgf_fence_name gate = make_name(0, VGF_RING_GLOBAL, 1);
	struct vgf_submission submission = {
		.fence = make_name(1, 0, 0),
		.in_fences = &gate.fence_id,
		.num_in_fences = 1,
	};
	struct vgf_device *device;
	unsigned int count = 0, jobs = 0;

	assert_int_equal(vgf_device_create(&counting, &count, NULL, &device), 0);
	assert_int_equal(vgf_context_create(device, 1, &driver, &jobs), 0);
	assert_int_equal(create_take(device, &gate, VGF_SHAREABLE, VGF_FENCE_BY_CALL), 0);
	for (unsigned int i = 0; i < 30; i++) {
		assert_int_equal(vgf_submit(device, &submission, NULL), 1);
	}
	assert_int_equal(vgf_fence_signal(device, &gate, 0), 0);
	assert_int_equal(vgf_device_dispatch(device, 0), 1);
	assert_in_range(jobs, 1, 10);
	vgf_device_destroy(device);
}
