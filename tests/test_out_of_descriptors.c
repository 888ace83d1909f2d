/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * The process is out of descriptors, at every place where one is needed: what needs none goes on,
 * what needs one says so or waits on the host, and nothing is left behind.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <vgfence/context_driver.h>
#include <vgfence/inspect.h>
#include <vgfence/sync_file.h>

#include "fake.h"

/* ---- A driver that needs descriptors ------------------------------------------------------ */

/* Like a driver that waits for its in-fences later, it copies them and makes an out-fence. */
struct hungry {
	struct vgf_driver driver;
	unsigned int num_refused; /* jobs that there was no descriptor for */
	unsigned int num_jobs;
	enum vgf_wait wait; /* of the last job */
	int copies[16];
	unsigned int num_copies;
	int fences[16]; /* to signal */
};

static int give_up(struct hungry *hungry, unsigned int num_copies)
{
	int error = -errno;

	while (hungry->num_copies > num_copies) {
		close(hungry->copies[--hungry->num_copies]);
	}
	hungry->num_refused++;
	return error;
}

static int hungry_submit(void *data, const struct vgf_job *job, int *out_fence_fd)
{
	struct hungry *hungry = data;
	unsigned int num_copies = hungry->num_copies;
	int fd;

	for (uint32_t i = 0; i < job->num_in_fences; i++) {
		fd = fcntl(job->in_fences[i].fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0) {
			return give_up(hungry, num_copies);
		}
		hungry->copies[hungry->num_copies++] = fd;
	}
	*out_fence_fd = eventfd(0, EFD_CLOEXEC);
	if (*out_fence_fd < 0) {
		return give_up(hungry, num_copies);
	}
	fd = fcntl(*out_fence_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0) {
		int error = give_up(hungry, num_copies);
		close(*out_fence_fd);
		return error;
	}
	hungry->wait = job->wait;
	hungry->fences[hungry->num_jobs++] = fd;
	return 0;
}

static void hungry_init(struct hungry *hungry, struct fake_vmm *vmm, uint32_t ctx_id)
{
	*hungry = (struct hungry){
		.driver = { .size = sizeof(struct vgf_driver),
			.wait = VGF_WAIT_DRIVER,
			.submit = hungry_submit },
	};
	assert_int_equal(vgf_context_create(vmm->device, ctx_id, &hungry->driver, hungry), 0);
}

static void hungry_signal(struct hungry *hungry)
{
	for (unsigned int i = 0; i < hungry->num_jobs; i++) {
		signal_fence(hungry->fences[i]);
	}
}

static void hungry_finish(struct hungry *hungry)
{
	for (unsigned int i = 0; i < hungry->num_jobs; i++) {
		close(hungry->fences[i]);
	}
	for (unsigned int i = 0; i < hungry->num_copies; i++) {
		close(hungry->copies[i]);
	}
}

/* ---- Devices ------------------------------------------------------------------------------ */

static void create_device_with_few_descriptors(const struct vgf_options *options)
{
	struct fake_vmm vmm = { 0 };
	int fds = count_fds();
	unsigned int more = 0;
	int ret;

	do {
		vmm.device = (void *)1;
		limit_fds(more);
		ret = vgf_device_create(&fake_callbacks, &vmm, options, &vmm.device);
		unlimit_fds();
		if (ret < 0) {
			assert_int_equal(ret, -EMFILE);
			assert_null(vmm.device);
			assert_int_equal(count_fds(), fds);
		}
		more++;
	} while (ret < 0);
	assert_true(more > 1);
	/* It keeps what it has, so that it is never short of one for itself. */
	limit_fds(0);
	assert_int_equal(create_fence(&vmm, 0, VGF_RING_GLOBAL, 1, VGF_FENCE_DONE), 0);
	assert_int_equal(vgf_device_drain(vmm.device, -1), 0);
	assert_int_equal(vmm.num_retired, 1);
	vgf_device_destroy(vmm.device);
}

TEST(a_device_is_created_whole_or_not_at_all)
{
	create_device_with_few_descriptors(NULL);
}

TEST(a_device_with_a_thread_is_created_whole_or_not_at_all)
{
	create_device_with_few_descriptors(
		&(struct vgf_options){ .size = sizeof(struct vgf_options), .own_thread = true });
}

/* ---- Without any free descriptor ---------------------------------------------------------- */

static void note_call(void *arg, int status)
{
	assert_int_equal(status, 0);
	++*(unsigned int *)arg;
}

TEST_VMM(what_needs_no_descriptor_goes_on_without)
{
	int files[] = { make_fence(false), make_fence(false) };
	int ours[] = { fcntl(files[0], F_DUPFD, 0), fcntl(files[1], F_DUPFD, 0) };
	struct vgf_fence_name name = make_name(1, 0, 1);
	struct vgf_pending pending[8];
	unsigned int calls = 0;
	char *text;

	limit_fds(0);
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 2, files[0]), 0);
	assert_int_equal(submit(vmm, 2, 0, 3, ID(1), ID(2), NO_IN_FENCES), 1);
	assert_int_equal(defer_call(vmm->device, 2, note_call, &calls), 1);
	assert_int_equal(publish_take(vmm->device, &name, files[1]), 0);
	assert_int_equal(vgf_device_list_pending(vmm->device, pending, 8), 3);
	assert_int_equal(vgf_device_dump(vmm->device, &text), 0);
	free(text);
	signal_fence(ours[0]);
	signal_fence(ours[1]);
	vmm_wait(vmm, 2);
	assert_true(driver_has(driver, 3));
	assert_int_equal(calls, 1);
	assert_int_equal(signal_call(vmm, 2, 0, 3, 0), 0);
	assert_int_equal(vgf_context_destroy(vmm->device, 2), 0);
	assert_int_equal(submit(vmm, 1, 0, 4, NO_IN_FENCES), 0);
	assert_int_equal(cancel_fence(vmm, 1, 0, 4, -EIO), 0);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_int_equal(submit(vmm, 1, 0, 5, NO_IN_FENCES), 0);
	assert_int_equal(vgf_device_reset(vmm->device), 0);
	assert_idle(vmm);
	close(ours[0]);
	close(ours[1]);
}

TEST_VMM(an_export_says_so)
{
	int ours = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	int fd;

	limit_fds(0);
	assert_int_equal(export_fence(vmm->device, 1), -EMFILE);
	limit_fds(1);
	fd = export_fence(vmm->device, 1);
	assert_true(fd >= 0);
	close(fd);
	signal_fence(ours);
	assert_int_equal(vmm_dispatch(vmm), 1);
	close(ours);
}

TEST(a_merge_says_so)
{
	int pending[] = { make_fence(true), make_fence(false), make_fence(true) };
	int fd;

	for (size_t count = 1; count <= 3; count++) {
		limit_fds(0);
		assert_int_equal(vgf_sync_file_merge(pending, count), -EMFILE);
		limit_fds(1);
		fd = vgf_sync_file_merge(pending, count);
		assert_true(fd >= 0);
		close(fd);
	}
	for (size_t i = 0; i < 3; i++) {
		close(pending[i]);
	}
}

/* ---- Drivers ------------------------------------------------------------------------------ */

TEST(work_whose_driver_cannot_copy_its_in_fences_waits_on_the_host)
{
	/* Two copies of in-fences, an out-fence, and the copy of that. */
	for (unsigned int more = 0; more <= 4; more++) {
		struct fake_vmm *vmm = vmm_create(NULL);
		struct hungry hungry;
		int ours[2];

		hungry_init(&hungry, vmm, 1);
		ours[0] = create_fence_fd(vmm, 1, 5, 1);
		ours[1] = create_fence_fd(vmm, 1, 5, 2);
		limit_fds(more);
		assert_int_equal(submit(vmm, 1, 0, 3, ID(1), ID(2), NO_IN_FENCES), more < 4);
		assert_int_equal(hungry.num_refused, more < 4);
		assert_int_equal(get_stats(vmm).held, more < 4);
		unlimit_fds();
		assert_int_equal(vmm_dispatch(vmm), 0);
		assert_int_equal(hungry.num_jobs, more == 4);

		signal_fence(ours[0]);
		signal_fence(ours[1]);
		assert_int_equal(vmm_dispatch(vmm), 2);
		assert_int_equal(hungry.num_jobs, 1);
		assert_int_equal(hungry.wait, more < 4 ? VGF_WAIT_HOST : VGF_WAIT_DRIVER);
		hungry_signal(&hungry);
		assert_int_equal(vmm_dispatch(vmm), 1);
		assert_retired(vmm, 2, 1, 0, 3, 0);
		assert_idle(vmm);
		vmm_destroy(vmm);
		hungry_finish(&hungry);
		close(ours[0]);
		close(ours[1]);
	}
}

/* Nothing to wait for any more, so there is no other way left. */
TEST_VMM(work_whose_driver_can_make_no_fence_retires_with_the_error)
{
	struct hungry hungry;
	int ours = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	int fds = count_fds();

	hungry_init(&hungry, vmm, 1);
	limit_fds(1);
	assert_int_equal(submit(vmm, 1, 0, 2, NO_IN_FENCES), -EMFILE);
	assert_int_equal(submit(vmm, 1, 0, 3, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(vmm_dispatch(vmm), 1);
	limit_fds(0);
	signal_fence(ours);
	vmm_wait(vmm, 2);
	assert_int_equal(get_stats(vmm).held, 0);
	limit_fds(2);
	assert_int_equal(submit(vmm, 1, 0, 4, NO_IN_FENCES), 0);
	unlimit_fds();
	vmm_wait(vmm, 3);
	assert_int_equal(hungry.num_refused, 3);
	assert_retired(vmm, 0, 1, 0, 2, -EMFILE);
	assert_int_equal(vmm->retired[2].status, -EMFILE);
	assert_int_equal(count_fds(), fds + 1); /* fence 1 is gone, 4 and the copy are there */
	hungry_signal(&hungry);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_idle(vmm);
	hungry_finish(&hungry);
	close(ours);
}

TEST_VMM(a_chain_goes_on_without_descriptors, .wait = VGF_WAIT_DRIVER)
{
	limit_fds(0);
	driver_open(driver, vmm, 1);
	driver_open(driver, vmm, 2);
	assert_int_equal(submit(vmm, 1, 0, 1, NO_IN_FENCES), 0);
	for (uint64_t id = 2; id <= 100; id++) {
		assert_int_equal(submit(vmm, 1 + id % 2, 0, id, ID(id - 1), NO_IN_FENCES), 1);
	}
	for (uint64_t id = 1; id <= 100; id++) {
		assert_int_equal(signal_call(vmm, id == 1 ? 1 : 1 + id % 2, 0, id, 0), 0);
		assert_int_equal(vmm_dispatch(vmm), 1);
	}
	assert_idle(vmm);
}

/* ---- In-fences that are descriptors ------------------------------------------------------- */

static int submit_with_files(
	struct fake_vmm *vmm, uint64_t fence_id, const int *fds, uint32_t count, bool *will_retire)
{
	struct vgf_submission submission = {
		.fence = make_name(1, 0, fence_id),
		.flags = VGF_FENCED,
		.in_fence_fds = fds,
		.num_in_fence_fds = count,
	};

	return vgf_submit(vmm->device, &submission, will_retire);
}

TEST_VMM(a_submission_whose_descriptors_cannot_be_copied_is_refused, .answer = FAKE_DONE)
{
	int files[] = { make_fence(false), make_fence(true), make_fence(false) };
	bool will_retire;

	driver_open(driver, vmm, 1);
	/* One of them has signalled and need not be copied. */
	for (unsigned int more = 0; more < 2; more++) {
		limit_fds(more);
		assert_int_equal(submit_with_files(vmm, more, files, 3, &will_retire), -EMFILE);
		assert_true(will_retire);
		assert_int_equal(get_stats(vmm).fds, 0);
		vmm_wait(vmm, more + 1);
		assert_retired(vmm, more, 1, 0, more, -EMFILE);
		assert_idle(vmm);
	}
	limit_fds(2);
	assert_int_equal(submit_with_files(vmm, 2, files, 3, &will_retire), 1);
	assert_int_equal(get_stats(vmm).fds, 2);
	unlimit_fds();
	signal_fence(files[0]);
	signal_fence(files[2]);
	vmm_wait(vmm, 3);
	assert_retired(vmm, 2, 1, 0, 2, 0);
	assert_idle(vmm);
	for (size_t i = 0; i < 3; i++) {
		close(files[i]);
	}
}

/* ---- The device's own budget -------------------------------------------------------------- */

TEST_VMM(a_descriptor_above_the_budget_is_closed, .options.limits.max_fds = 1)
{
	int ours = create_fence_fd(vmm, 0, VGF_RING_GLOBAL, 1);
	struct vgf_fence_name name = make_name(0, VGF_RING_GLOBAL, 2);
	int fds = count_fds();

	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 2, make_fence(true)), -EMFILE);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 2, VGF_FENCE_BY_CALL), 0);
	assert_int_equal(publish_take(vmm->device, &name, make_fence(true)), -EMFILE);
	assert_int_equal(count_fds(), fds);
	assert_int_equal(vgf_fence_signal(vmm->device, &name, 0), 0);
	signal_fence(ours);
	assert_int_equal(vmm_dispatch(vmm), 2);
	assert_int_equal(create_fence(vmm, 0, VGF_RING_GLOBAL, 3, make_fence(true)), 0);
	assert_int_equal(vmm_dispatch(vmm), 1);
	assert_idle(vmm);
	close(ours);
}

/* ---- A whole story ------------------------------------------------------------------------ */

struct story {
	struct fake_vmm *vmm;
	struct hungry hungry;
	uint64_t last_id;
	uint64_t promised[16]; /* fences that are to retire */
	unsigned int num_promised;
	bool was_short;
};

static void note_result(struct story *story, int ret, bool will_retire)
{
	assert_true(ret >= 0 || ret == -EMFILE);
	story->was_short |= ret < 0;
	if (will_retire) {
		story->promised[story->num_promised++] = story->last_id;
	}
}

/* Waits for so many of the last fences, as far as there are any. */
static void submit_in_story(struct story *story, unsigned int num_in_fences)
{
	uint64_t id = ++story->last_id;
	unsigned int count = num_in_fences < story->num_promised ? num_in_fences :
								   story->num_promised;
	bool will_retire;
	int ret = submit_flags(story->vmm, 1, (int32_t)(id % 3), id, VGF_FENCED,
		&story->promised[story->num_promised - count], count, &will_retire);

	note_result(story, ret, will_retire);
}

static void create_in_story(struct story *story)
{
	uint64_t id = ++story->last_id;
	int fd = eventfd(1, EFD_CLOEXEC);
	int ret = fd < 0 ? -EMFILE : create_fence(story->vmm, 1, VGF_RING_GLOBAL, id, fd);

	note_result(story, ret, ret == 0);
}

static void export_in_story(struct story *story)
{
	int fd = export_fence(story->vmm->device, story->last_id);

	assert_true(fd >= 0 || fd == -EMFILE || fd == -EAGAIN || fd == -EALREADY);
	if (fd >= 0) {
		close(fd);
	}
}

/* However few there are, what was promised retires, and none is lost. */
TEST(every_shortage_in_a_whole_story)
{
	struct story story;
	unsigned int more = 0;

	do {
		story = (struct story){ .vmm = vmm_create(NULL) };
		hungry_init(&story.hungry, story.vmm, 1);
		limit_fds(more++);
		create_in_story(&story);
		submit_in_story(&story, 0);
		submit_in_story(&story, 1);
		export_in_story(&story);
		submit_in_story(&story, 2);
		vmm_dispatch(story.vmm);
		create_in_story(&story);
		submit_in_story(&story, 1);
		export_in_story(&story);
		story.was_short |= story.hungry.num_refused > 0;
		unlimit_fds();
		while (story.vmm->num_retired < story.num_promised) {
			hungry_signal(&story.hungry);
			vmm_wait(story.vmm, story.vmm->num_retired + 1);
		}
		assert_int_equal(vmm_dispatch(story.vmm), 0);
		assert_int_equal(story.vmm->num_retired, story.num_promised);
		assert_idle(story.vmm);
		vmm_destroy(story.vmm);
		hungry_finish(&story.hungry);
	} while (story.was_short);
	assert_true(more > 8);
}
