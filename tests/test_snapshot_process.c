/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A guest that is stopped under load and goes on in another process, on the software GPU: no fence
 * is lost, none comes twice, and each timeline keeps its order over both.
 *
 * The guest is in memory that both processes share, as its own would be. It counts its fences, and
 * names any that it has had as in-fences. The device is in one process at a time: the first ends
 * before the second is started, and hands it a snapshot in a pipe. Both report what was accepted
 * and what retired in another pipe.
 *
 * VGF_TEST_GUESTS=N has N guests of each kind instead of 6. VGF_TEST_FENCES=vgem runs the test with
 * the kernel's sync files alone.
 */

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vgfence/context_driver.h>
#include <vgfence/inspect.h>
#include <vgfence/vgfence.h>

#include "soft_gpu.h"
#include "support.h"
#include "vgem.h"

#define NUM_CONTEXTS 6 /* 1 to 6 */
#define NUM_RINGS 4
#define NUM_TIMELINES (NUM_CONTEXTS * NUM_RINGS + 1) /* the last one is the global one */
#define MAX_FENCES 4096
#define MAX_IN_FENCES 3
#define STEPS 200 /* submissions of each process, at most twice as many */

/* In a process of the VMM's: cmocka's assertions would go on with the next test there. */
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

/* ---- The guest ---------------------------------------------------------------------------- */

struct guest {
	uint64_t random;
	uint64_t last_id;
	uint64_t last_of[NUM_TIMELINES]; /* 0: none */
};

static uint64_t below(struct guest *guest, uint64_t bound)
{
	uint64_t z = guest->random += 0x9e3779b97f4a7c15u; /* SplitMix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % bound;
}

static size_t timeline_of(const struct vgf_fence_name *name)
{
	return name->ring == VGF_RING_GLOBAL ? NUM_TIMELINES - 1 :
					       (name->ctx_id - 1) * NUM_RINGS + (size_t)name->ring;
}

/* The next fence, on any timeline. */
static struct vgf_fence_name next_fence(struct guest *guest)
{
	struct vgf_fence_name name = {
		.fence_id = ++guest->last_id,
		.ctx_id = 1 + (uint32_t)below(guest, NUM_CONTEXTS),
		.ring = (int32_t)below(guest, NUM_RINGS + 1) - 1, /* VGF_RING_GLOBAL is -1 */
	};

	guest->last_of[timeline_of(&name)] = name.fence_id;
	return name;
}

/* ---- Reports ------------------------------------------------------------------------------ */

enum event { ACCEPTED, RETIRED };

struct report {
	enum event event;
	int status;
	struct vgf_fence_name fence;
};

/* So short a write to a pipe is one piece, whichever thread it comes from. */
static void tell(int fd, enum event event, const struct vgf_fence_name *fence, int status)
{
	const struct report report = { event, status, *fence };

	CHECK(write(fd, &report, sizeof(report)) == sizeof(report));
}

/* What the hypervisor has heard, by fence ID. */
struct heard {
	unsigned int accepted[MAX_FENCES], retired[MAX_FENCES];
	uint64_t last_of[NUM_TIMELINES];
	unsigned int num_accepted, num_retired;
};

static void hear(struct heard *heard, const struct report *report)
{
	uint64_t id = report->fence.fence_id;
	uint64_t *last = &heard->last_of[timeline_of(&report->fence)];

	assert_in_range(id, 1, MAX_FENCES - 1);
	if (report->event == ACCEPTED) {
		heard->accepted[id]++;
		heard->num_accepted++;
		return;
	}
	assert_int_equal(report->status, 0);
	assert_true(id > *last);
	*last = id;
	heard->retired[id]++;
	heard->num_retired++;
}

/* Everything that was accepted has retired, once. */
static void assert_nothing_lost(const struct heard *heard)
{
	for (size_t id = 0; id < MAX_FENCES; id++) {
		assert_in_range(heard->accepted[id], 0, 1);
		assert_int_equal(heard->retired[id], heard->accepted[id]);
	}
}

/* ---- The VMM: one process of it ----------------------------------------------------------- */

struct machine_kind {
	enum soft_gpu_fences fences;
	enum vgf_wait wait;
	bool own_thread;
};

struct vmm {
	struct vgf_device *device;
	struct soft_gpu *gpu;
	struct guest *guest;
	int report_fd;
};

static void retire(void *cookie, const struct vgf_retired *retired)
{
	const struct vmm *vmm = cookie;

	tell(vmm->report_fd, RETIRED, &retired->fence, retired->status);
}

static void vmm_start(struct vmm *vmm, const struct machine_kind *kind)
{
	static const struct vgf_callbacks callbacks = { .size = sizeof(callbacks),
		.retire = retire };
	const struct vgf_options options = { .size = sizeof(options),
		.own_thread = kind->own_thread };
	const struct soft_gpu_options gpu = { .fences = kind->fences, .wait = kind->wait };

	CHECK(vgf_device_create(&callbacks, vmm, &options, &vmm->device) == 0);
	CHECK(soft_gpu_create(vmm->device, &gpu, &vmm->gpu) == 0);
	for (uint32_t i = 1; i <= NUM_CONTEXTS; i++) {
		CHECK(soft_gpu_context_create(vmm->gpu, i, i) == 0);
	}
}

static void vmm_end(struct vmm *vmm)
{
	soft_gpu_reset(vmm->gpu);
	vgf_device_destroy(vmm->device);
	soft_gpu_destroy(vmm->gpu);
}

/* Returns what vgf_submit does. */
static int submit(const struct vmm *vmm, const struct vgf_fence_name *name, uint32_t busy_us,
	const uint64_t *in_fences, uint32_t num_in_fences)
{
	const uint32_t words[] = { htole32(SOFT_GPU_BUSY), htole32(busy_us) };
	const struct vgf_submission submission = {
		.fence = *name,
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.num_in_fences = num_in_fences,
		.in_fences = in_fences,
		.command = words,
		.size = sizeof(words),
	};

	return vgf_submit(vmm->device, &submission, NULL);
}

/* Fences up to `max_id` as in-fences: half of the time recent ones, which may be pending. */
static int step(const struct vmm *vmm, uint64_t max_id)
{
	struct guest *guest = vmm->guest;
	uint64_t recent = max_id > 30 && below(guest, 2) ? 30 : max_id;
	uint32_t count = max_id > 0 ? (uint32_t)below(guest, MAX_IN_FENCES + 1) : 0;
	struct vgf_fence_name name = next_fence(guest);
	uint64_t in_fences[MAX_IN_FENCES];
	int ret;

	for (uint32_t i = 0; i < count; i++) {
		in_fences[i] = max_id - below(guest, recent);
	}
	tell(vmm->report_fd, ACCEPTED, &name, 0);
	ret = submit(vmm, &name, (uint32_t)below(guest, 300), in_fences, count);
	CHECK(ret == 0 || ret == 1);
	return ret;
}

static void run_guest(const struct vmm *vmm, const struct machine_kind *kind)
{
	for (uint64_t left = STEPS + below(vmm->guest, STEPS); left > 0; left--) {
		step(vmm, vmm->guest->last_id);
		if (!kind->own_thread && below(vmm->guest, 4) == 0) {
			CHECK(vgf_device_dispatch(vmm->device, 0) >= 0);
		}
	}
}

/* A fence that the VMM itself signals: it is sure to be pending when the guest is stopped. */
static struct vgf_fence_name block(const struct vmm *vmm)
{
	struct vgf_fence_name blocker = next_fence(vmm->guest);

	tell(vmm->report_fd, ACCEPTED, &blocker, 0);
	CHECK(vgf_fence_create_take(
		      vmm->device, &blocker, VGF_SHAREABLE, NULL, VGF_FENCE_BY_CALL) == 0);
	return blocker;
}

static void stop_and_save(const struct vmm *vmm, const struct vgf_fence_name *blocker, int blob_fd)
{
	size_t size;
	void *blob;

	CHECK(vgf_device_list_pending(vmm->device, NULL, 0) > 0);
	CHECK(vgf_device_save(vmm->device, &blob, &size) == -EBUSY);
	CHECK(vgf_fence_signal(vmm->device, blocker, 0) == 0);
	CHECK(vgf_device_drain(vmm->device, -1) == 0);
	CHECK(vgf_device_save(vmm->device, &blob, &size) == 0);
	CHECK(size <= 4096 && write(blob_fd, blob, size) == (ssize_t)size);
	free(blob);
}

static void first_process(
	struct guest *guest, const struct machine_kind *kind, int blob_fd, int report_fd)
{
	struct vmm vmm = { .guest = guest, .report_fd = report_fd };
	struct vgf_fence_name blocker;

	vmm_start(&vmm, kind);
	run_guest(&vmm, kind);
	blocker = block(&vmm);
	for (uint64_t left = below(guest, 20); left > 0; left--) {
		step(&vmm, guest->last_id);
	}
	stop_and_save(&vmm, &blocker, blob_fd);
	vmm_end(&vmm);
}

/* What the guest does next fails in a device that has not been restored. */
static void check_control(struct guest *guest, const struct machine_kind *kind)
{
	int nowhere[2];
	struct vmm vmm = { .guest = guest };
	const struct vgf_fence_name name = { .fence_id = guest->last_id + 1, .ctx_id = 1 };

	CHECK(pipe(nowhere) == 0);
	vmm.report_fd = nowhere[1];
	vmm_start(&vmm, kind);
	CHECK(submit(&vmm, &name, 0, &guest->last_id, 1) == -ENOENT);
	vmm_end(&vmm);
	close(nowhere[0]);
	close(nowhere[1]);
}

/* An ID that a timeline has had is refused, and nothing of it is kept. */
static void check_marks(const struct vmm *vmm)
{
	for (size_t i = 0; i < NUM_TIMELINES; i++) {
		const struct vgf_fence_name name = {
			.fence_id = vmm->guest->last_of[i],
			.ctx_id = (uint32_t)(1 + i / NUM_RINGS % NUM_CONTEXTS),
			.ring = i == NUM_TIMELINES - 1 ? VGF_RING_GLOBAL : (int32_t)(i % NUM_RINGS),
		};
		if (name.fence_id > 0) {
			CHECK(submit(vmm, &name, 0, NULL, 0) == -EINVAL);
		}
	}
}

static void second_process(
	struct guest *guest, const struct machine_kind *kind, int blob_fd, int report_fd)
{
	struct vmm vmm = { .guest = guest, .report_fd = report_fd };
	uint64_t last_of_before = guest->last_id;
	char blob[4096];
	ssize_t size = read(blob_fd, blob, sizeof(blob));

	check_control(guest, kind);
	vmm_start(&vmm, kind);
	CHECK(size > 0 && vgf_device_restore(vmm.device, blob, (size_t)size) == 0);
	check_marks(&vmm);
	for (uint32_t i = 0; i < 50; i++) {
		/* All that it names has retired before, so nothing is held back. */
		CHECK(step(&vmm, last_of_before) == 0);
	}
	run_guest(&vmm, kind);
	CHECK(vgf_device_drain(vmm.device, -1) == 0);
	vmm_end(&vmm);
}

/* ---- The hypervisor ----------------------------------------------------------------------- */

typedef void process_function(
	struct guest *guest, const struct machine_kind *kind, int blob_fd, int report_fd);

/* Hears all that a process has to say, which then must have ended well. */
static void run_process(process_function *function, struct guest *guest,
	const struct machine_kind *kind, int blob_fd, struct heard *heard)
{
	struct report report;
	int report_fds[2], status;
	ssize_t size;
	pid_t process;

	assert_int_equal(pipe(report_fds), 0);
	fflush(NULL);
	process = fork();
	assert_true(process >= 0);
	if (process == 0) {
		close(report_fds[0]);
		function(guest, kind, blob_fd, report_fds[1]);
		exit(0); /* a sanitizer looks for leaks in there */
	}
	close(report_fds[1]);
	while ((size = read(report_fds[0], &report, sizeof(report))) > 0) {
		assert_int_equal(size, sizeof(report));
		hear(heard, &report);
	}
	close(report_fds[0]);
	assert_int_equal(size, 0);
	assert_int_equal(waitpid(process, &status, 0), process);
	assert_int_equal(status, 0);
}

/* Adds up how many fences have retired in each process. */
static void move_guest(const struct machine_kind *kind, uint64_t seed, unsigned int totals[2])
{
	struct guest *guest = mmap(
		NULL, sizeof(*guest), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct heard *heard = calloc(1, sizeof(*heard));
	unsigned int before;
	int blob_fds[2];

	assert_true(guest != MAP_FAILED && heard);
	guest->random = seed;
	assert_int_equal(pipe(blob_fds), 0);
	run_process(first_process, guest, kind, blob_fds[1], heard);
	assert_nothing_lost(heard);
	before = heard->num_retired;
	assert_true(before > STEPS);
	run_process(second_process, guest, kind, blob_fds[0], heard);
	assert_nothing_lost(heard);
	assert_true(heard->num_retired > before + STEPS);
	totals[0] += before;
	totals[1] += heard->num_retired - before;
	close(blob_fds[0]);
	close(blob_fds[1]);
	free(heard);
	munmap(guest, sizeof(*guest));
}

static void move_guests(enum soft_gpu_fences fences)
{
	const char *text = getenv("VGF_TEST_GUESTS");
	uint64_t num_guests = 4 * (text ? strtoull(text, NULL, 0) : 6);
	unsigned int totals[2] = { 0 };

	for (uint64_t i = 0; i < num_guests; i++) {
		const struct machine_kind kind = {
			.fences = fences,
			.wait = i & 1 ? VGF_WAIT_DRIVER : VGF_WAIT_HOST,
			.own_thread = i & 2,
		};
		move_guest(&kind, i, totals);
	}
	print_message("%u fences retired in the first processes, %u in the second ones\n",
		totals[0], totals[1]);
}

TEST(a_guest_goes_on_in_another_process_with_eventfds)
{
	move_guests(SOFT_GPU_FENCES_EVENTFD);
}

TEST(a_guest_goes_on_in_another_process_with_fences_by_call)
{
	move_guests(SOFT_GPU_FENCES_CALL);
}

TEST(a_guest_goes_on_in_another_process_with_sync_files)
{
	int vgem = vgem_open();

	if (vgem < 0) {
		print_message("skipped: no vgem device in /dev/dri here; `./run vm` runs this "
			      "where there is one\n");
		skip();
	}
	close(vgem);
	move_guests(SOFT_GPU_FENCES_VGEM);
}

int main(int argc, char *argv[])
{
	static char only_sync_files[] = "*_with_sync_files";
	const char *fences = getenv("VGF_TEST_FENCES");
	char *filtered[] = { argv[0], only_sync_files, NULL };

	return run_registered_tests(
		argc < 2 && fences && strcmp(fences, "vgem") == 0 ? filtered : argv);
}
