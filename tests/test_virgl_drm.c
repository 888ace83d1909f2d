/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * virglrenderer's own native contexts, panfrost and msm, on the GPU made of software
 * (drm/README.md), through the plugin. Debian's virglrenderer is built without them:
 * VGFENCE_NATIVE_VIRGLRENDERER names a library that has them, in place of the one that this is
 * linked with.
 *
 * What is to be late waits for a gate that the test opens. The streams are as virglrenderer 1.3
 * reads them: a header, and what the calls of the kernel have.
 */

#include "virgl_vmm.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xf86drm.h>

#include <vgfence/sync_file.h>

#include "drm_gpu.h"
#include "vgem.h"

#include "drm/vgfence_gpu_drm.h"

#define LIBRARY "VGFENCE_NATIVE_VIRGLRENDERER"
#define SONAME "libvirglrenderer.so.1"

#define CAPSET_DRM 6
#define FLAGS                                                                                      \
	(VIRGL_RENDERER_NO_VIRGL | VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB |    \
		VIRGL_RENDERER_DRM)

#define SHMEM_SIZE 0x4000u
#define SIZE 0x10000u    /* of the buffer: words, then commands */
#define COMMANDS 0x1000u /* where these begin */
#define IOVA UINT64_C(0x20000000)
#define BUFFER 1u /* the resource that both contexts have */

/* ---- Streams ------------------------------------------------------------------------------ */

struct header {
	uint32_t cmd;
	uint32_t len;
	uint32_t seqno;
	uint32_t rsp_off;
};

enum { PANFROST_SUBMIT = 1, PANFROST_CREATE_BO = 3, PANFROST_GET_BO_OFFSET = 6 };
enum { MSM_IOCTL_SIMPLE = 2, MSM_GEM_NEW = 3, MSM_GEM_SET_IOVA = 4, MSM_GEM_SUBMIT = 7 };

struct panfrost_submit {
	struct header header;
	uint64_t jc;
	uint32_t requirements;
	uint32_t res_id_count;
};

struct panfrost_create_bo {
	struct header header;
	uint32_t pad;
	uint32_t size;
	uint32_t blob_id;
	uint32_t flags;
};

struct panfrost_get_bo_offset {
	struct header header;
	uint32_t pad;
	uint32_t res_id;
};

struct panfrost_bo_offset {
	uint32_t len;
	int32_t ret;
	uint64_t offset;
};

struct msm_submitqueue_new {
	struct header header;
	uint32_t cmd;
	struct drm_msm_submitqueue queue;
};

struct msm_submitqueue {
	uint32_t len;
	int32_t ret;
	struct drm_msm_submitqueue queue;
};

struct msm_gem_new {
	struct header header;
	uint32_t iova[2]; /* aligned to 4 */
	uint32_t size[2];
	uint32_t flags;
	uint32_t blob_id;
};

struct msm_gem_set_iova {
	struct header header;
	uint32_t iova[2];
	uint32_t res_id;
	uint32_t pad;
};

struct msm_gem_submit {
	struct header header;
	uint32_t flags;
	uint32_t queue_id;
	uint32_t nr_bos;
	uint32_t nr_cmds;
	uint32_t fence;
	uint32_t bos[4];  /* struct drm_msm_gem_submit_bo */
	uint32_t cmds[8]; /* struct drm_msm_gem_submit_cmd */
};

/* ---- A VMM with two contexts -------------------------------------------------------------- */

#define MAX_RETIRED 1024

static struct vgf_virgl *virgl;
static const char *face;
static bool is_msm;
static struct vgf_retired retired[MAX_RETIRED];
static unsigned int num_retired;

struct native {
	uint32_t ctx_id;
	char *shmem;
	uint64_t address;   /* of the buffer */
	uint32_t queues[2]; /* msm */
	uint32_t num_fences;
};

static struct native contexts[2]; /* IDs 1 and 2 */
static uint32_t *words;           /* in the buffer */
static uint32_t used;             /* of its commands, in bytes */
static int vgem;
static struct vgem_fence gate;

static void note_retired(void *cookie, const struct vgf_retired *fence)
{
	(void)cookie;
	assert_true(num_retired < MAX_RETIRED);
	retired[num_retired++] = *fence;
}

/* virglrenderer closes it. */
static int get_drm_fd(void *cookie)
{
	(void)cookie;
	return open_drm_gpu(face);
}

static void send_now(const struct native *native, const void *stream, size_t size)
{
	assert_int_equal(
		vgf_virgl_submit_cmd(virgl, (void *)stream, (int)native->ctx_id, (int)(size / 4)),
		0);
}

static void *create_blob(
	const struct native *native, uint32_t res, uint32_t flags, uint64_t id, uint32_t size)
{
	const struct virgl_renderer_resource_create_blob_args args = {
		.res_handle = res,
		.ctx_id = native->ctx_id,
		.blob_mem = VIRGL_RENDERER_BLOB_MEM_HOST3D,
		.blob_flags = flags,
		.blob_id = id,
		.size = size,
	};
	uint32_t type;
	void *memory;
	int fd = -1;

	assert_int_equal(virgl_renderer_resource_create_blob(&args), 0);
	assert_int_equal(virgl_renderer_resource_export_blob(res, &type, &fd), 0);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	close(fd);
	return memory;
}

/* Sends a command that is answered, and returns the answer, of so many bytes. */
static const void *ask(
	const struct native *native, const void *stream, size_t size, uint32_t answer_size)
{
	uint32_t offset;

	memcpy(&offset, native->shmem + 4, sizeof(offset)); /* of answers in the shared memory */
	memcpy(native->shmem + offset, &answer_size, sizeof(answer_size));
	send_now(native, stream, size);
	return native->shmem + offset;
}

static void create_buffer(const struct native *native)
{
	const struct panfrost_create_bo panfrost = {
		.header = { PANFROST_CREATE_BO, sizeof(panfrost), 1, 0 }, .size = SIZE, .blob_id = 1
	};
	const struct msm_gem_new msm = {
		.header = { MSM_GEM_NEW, sizeof(msm), 1, 0 },
		.iova = { IOVA, 0 },
		.size = { SIZE, 0 },
		.flags = MSM_BO_WC,
		.blob_id = 1,
	};

	if (is_msm) {
		send_now(native, &msm, sizeof(msm));
	} else {
		send_now(native, &panfrost, sizeof(panfrost));
	}
	words = create_blob(native, BUFFER,
		VIRGL_RENDERER_BLOB_FLAG_USE_MAPPABLE | VIRGL_RENDERER_BLOB_FLAG_USE_SHAREABLE, 1,
		SIZE);
}

static uint64_t find_address(const struct native *native)
{
	const struct panfrost_get_bo_offset panfrost = {
		.header = { PANFROST_GET_BO_OFFSET, sizeof(panfrost), 2, 0 }, .res_id = BUFFER
	};
	const struct msm_gem_set_iova msm = {
		.header = { MSM_GEM_SET_IOVA, sizeof(msm), 2, 0 },
		.iova = { IOVA, 0 },
		.res_id = BUFFER,
	};

	const struct panfrost_bo_offset *answer;

	if (is_msm) {
		send_now(native, &msm, sizeof(msm));
		return IOVA;
	}
	answer = ask(native, &panfrost, sizeof(panfrost), sizeof(*answer));
	assert_int_equal(answer->ret, 0);
	return answer->offset;
}

/* Ring 1 is that of priority 0, and so on; ring 0 is the processor's. */
static void create_queues(struct native *native)
{
	for (uint32_t prio = 0; prio < 2; prio++) {
		const struct msm_submitqueue_new create = {
			.header = { MSM_IOCTL_SIMPLE, sizeof(create), 3 + prio, 0 },
			.cmd = DRM_IOCTL_MSM_SUBMITQUEUE_NEW,
			.queue.prio = prio,
		};

		const struct msm_submitqueue *answer = ask(
			native, &create, sizeof(create), sizeof(*answer));

		assert_int_equal(answer->ret, 0);
		native->queues[prio] = answer->queue.id;
	}
}

static void init_context(struct native *native, uint32_t ctx_id)
{
	*native = (struct native){ .ctx_id = ctx_id };
	assert_int_equal(
		vgf_virgl_context_create_with_flags(virgl, ctx_id, CAPSET_DRM, 0, NULL), 0);
	native->shmem = create_blob(
		native, 10 + ctx_id, VIRGL_RENDERER_BLOB_FLAG_USE_MAPPABLE, 0, SHMEM_SIZE);
	virgl_renderer_ctx_attach_resource((int)ctx_id, (int)(10 + ctx_id));
	if (ctx_id == 1) {
		create_buffer(native);
	}
	virgl_renderer_ctx_attach_resource((int)ctx_id, BUFFER);
	native->address = find_address(native);
	if (is_msm) {
		create_queues(native);
	}
}

static int start(struct virgl_renderer_callbacks *renderer)
{
	static const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = note_retired };
	const struct vgf_options device = { .size = sizeof(device), .budget_ns = UINT64_MAX };
	const struct vgf_virgl_options options = {
		.size = sizeof(options),
		.callbacks = &callbacks,
		.device = &device,
		.independent_rings = true,
	};

	num_retired = used = 0;
	return vgf_virgl_init(&virgl, FLAGS, renderer, &options, &virgl);
}

static void end_test(void)
{
	vgf_virgl_cleanup(virgl);
	virgl = NULL;
}

/* virglrenderer looks for a device itself here: one without native contexts would leave a
 * descriptor that it is given open. */
static bool has_native_contexts(void)
{
	static struct virgl_renderer_callbacks renderer = { .version = 1 };
	uint32_t version = 0, size = 0;
	bool has = false;

	if (start(&renderer) == 0) {
		virgl_renderer_get_cap_set(CAPSET_DRM, &version, &size);
		has = size > 0 && (vgf_virgl_get_features(virgl) & VGF_VIRGL_NATIVE_WAIT);
		end_test();
	}
	return has;
}

static void begin(const char *name)
{
	static struct virgl_renderer_callbacks renderer = { .version = 2,
		.get_drm_fd = get_drm_fd };

	if (virgl) {
		end_test(); /* a test that failed */
	}
	face = name;
	is_msm = strcmp(name, "msm") == 0;
	close(need_drm_gpu(name));
	if (!has_native_contexts()) {
		print_message(
			"skipped: THIS VIRGLRENDERER HAS NO NATIVE CONTEXTS, as Debian's: " LIBRARY
			" names a library that was built with msm and panfrost\n");
		skip();
	}
	assert_int_equal(start(&renderer), 0);
	vgem = vgem_open();
	assert_int_equal(vgem_fence_init(vgem, &gate), 0);
	init_context(&contexts[0], 1);
	init_context(&contexts[1], 2);
	words[0] = 5;
}

static void finish(void)
{
	end_test();
	munmap(words, SIZE);
	munmap(contexts[0].shmem, SHMEM_SIZE);
	munmap(contexts[1].shmem, SHMEM_SIZE);
	vgem_fence_finish(vgem, &gate);
	close(vgem);
}

/* Each test runs with both. */
#define TEST_BOTH(name)                                                                            \
	static void name(void);                                                                    \
	static void name##_on_panfrost(void)                                                       \
	{                                                                                          \
		begin("panfrost");                                                                 \
		name();                                                                            \
		finish();                                                                          \
	}                                                                                          \
	static void name##_on_msm(void)                                                            \
	{                                                                                          \
		begin("msm");                                                                      \
		name();                                                                            \
		finish();                                                                          \
	}                                                                                          \
	REGISTER_TEST(name##_panfrost, name##_on_panfrost)                                         \
	REGISTER_TEST(name##_msm, name##_on_msm)                                                   \
	static void name(void)

/* ---- Submissions -------------------------------------------------------------------------- */

/* The first ring of a context on which work runs. */
static int32_t ring(void)
{
	return is_msm ? 1 : 0;
}

struct waits {
	uint64_t id; /* 0: none */
	int fd;      /* 0: none */
};
#define NOTHING ((struct waits){ 0, 0 })
#define AFTER(id) ((struct waits){ id, 0 })
#define AFTER_FD(fd) ((struct waits){ 0, fd })

static void submit_words(const struct native *native, int32_t on, uint64_t id, struct waits waits,
	const void *stream, size_t size)
{
	const struct vgf_submission submission = {
		.fence = { .fence_id = id, .ctx_id = native->ctx_id, .ring = on },
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.in_fences = &waits.id,
		.num_in_fences = waits.id > 0,
		.in_fence_fds = &waits.fd,
		.num_in_fence_fds = waits.fd > 0,
		.command = stream,
		.size = size,
	};
	bool will_retire;

	vgf_virgl_submit(virgl, &submission, &will_retire);
	assert_true(will_retire);
}

/* One command; addresses in it are offsets in the buffer. */
static void submit_on(struct native *native, int32_t on, uint64_t id, struct waits waits,
	struct vgfence_gpu_command command)
{
	const uint32_t offset = COMMANDS + used;
	struct panfrost_submit panfrost = {
		.header = { PANFROST_SUBMIT, sizeof(panfrost), 10, 0 },
		.jc = native->address + offset,
	};
	struct msm_gem_submit msm = {
		.header = { MSM_GEM_SUBMIT, sizeof(msm), 10, 0 },
		.flags = MSM_PIPE_3D0 | MSM_SUBMIT_NO_IMPLICIT,
		.nr_bos = 1,
		.nr_cmds = 1,
		.fence = ++native->num_fences,
		.bos = { 0, BUFFER, 0, 0 },
		.cmds = { MSM_SUBMIT_CMD_BUF, 0, offset, sizeof(command), 0, 0, 0, 0 },
	};

	command.to += native->address;
	command.from += native->address;
	memcpy((char *)words + offset, &command, sizeof(command));
	used += 2 * sizeof(command); /* the next one is END */
	if (is_msm) {
		msm.queue_id = native->queues[on - 1];
		submit_words(native, on, id, waits, &msm, sizeof(msm));
	} else {
		submit_words(native, on, id, waits, &panfrost, sizeof(panfrost));
	}
}

static struct vgfence_gpu_command add(uint32_t to, uint32_t value)
{
	return (struct vgfence_gpu_command){
		.op = VGFENCE_GPU_ADD_VALUE, .count = 1, .to = to, .value = value
	};
}

static struct vgfence_gpu_command copy(uint32_t to, uint32_t from)
{
	return (struct vgfence_gpu_command){
		.op = VGFENCE_GPU_COPY, .count = 1, .to = to, .from = from
	};
}

static const struct vgf_retired *find_retired(uint64_t id)
{
	while (vgf_virgl_poll(virgl) > 0) {
	}
	for (unsigned int i = 0; i < num_retired; i++) {
		if (retired[i].fence.fence_id == id) {
			return &retired[i];
		}
	}
	return NULL;
}

static int wait_for(uint64_t id)
{
	const struct vgf_retired *found;

	for (int i = 0; i < 20000; i++) {
		found = find_retired(id);
		if (found) {
			return found->status;
		}
		usleep(1000);
	}
	fail_msg("fence %d has not retired", (int)id);
	return 0;
}

static void open_gate(void)
{
	assert_int_equal(vgem_fence_signal(vgem, &gate), 0);
}

/* ---- Tests -------------------------------------------------------------------------------- */

/* The producer waits by attach_fence, the consumer by submit_cmd2. */
static void produce_and_consume(struct waits consumer_waits)
{
	submit_on(&contexts[0], ring(), 1, AFTER_FD(gate.fd), add(0, 2));
	submit_on(&contexts[1], ring(), 2, consumer_waits, copy(4, 0));
}

TEST_BOTH(another_context_waits_for_its_in_fence)
{
	struct vgf_stats stats = { .size = sizeof(stats) };

	produce_and_consume(AFTER(1));
	assert_null(find_retired(2));
	vgf_device_get_stats(vgf_virgl_get_device(virgl), &stats);
	assert_int_equal(stats.run_driver, 2);
	assert_int_equal(stats.run_host, 0);
	open_gate();
	assert_int_equal(wait_for(2), 0);
	assert_int_equal(words[1], 7);
}

TEST_BOTH(control_without_the_in_fence_the_content_is_old)
{
	produce_and_consume(NOTHING);
	assert_int_equal(wait_for(2), 0);
	assert_int_equal(words[1], 5);
	open_gate();
	assert_int_equal(wait_for(1), 0);
}

TEST_BOTH(an_out_fence_is_a_sync_file_for_others)
{
	int fd = -1;

	submit_on(&contexts[0], ring(), 1, AFTER_FD(gate.fd), add(0, 2));
	assert_int_equal(vgf_fence_export(vgf_virgl_get_device(virgl), VGF_HOST, 1, &fd), 0);
	assert_true(fd >= 0);
	assert_int_equal(vgf_sync_file_status(fd), 0);
	open_gate();
	assert_int_equal(vgf_sync_file_wait(fd, INT64_MAX), 0);
	assert_int_equal(words[0], 7);
	close(fd);
	assert_int_equal(wait_for(1), 0);
}

/* The kernel's fence has the error, and virglrenderer hands out its descriptor. */
TEST_BOTH(a_fault_is_the_status_of_its_fence)
{
	submit_on(&contexts[0], ring(), 1, NOTHING, add(0x40000000, 2));
	submit_on(&contexts[0], ring(), 2, NOTHING, add(0, 2));
	assert_int_equal(wait_for(1), -EFAULT);
	assert_int_equal(wait_for(2), 0);
	assert_int_equal(words[0], 7);
}

TEST_BOTH(a_bad_stream_fails_in_its_place)
{
	const struct header bad = { 100, sizeof(bad), 10, 0 };

	submit_on(&contexts[0], ring(), 1, AFTER_FD(gate.fd), add(0, 2));
	submit_words(&contexts[0], ring(), 2, NOTHING, &bad, sizeof(bad));
	submit_on(&contexts[0], ring(), 3, NOTHING, add(0, 2));
	assert_null(find_retired(2)); /* the first one is not done */
	open_gate();
	assert_int_equal(wait_for(3), 0);
	assert_true(wait_for(2) < 0);
	assert_int_equal(words[0], 9);
}

TEST_BOTH(work_in_flight_outlives_its_context)
{
	produce_and_consume(AFTER(1));
	assert_true(vgf_virgl_context_destroy(virgl, 1) >= 0);
	assert_true(vgf_virgl_context_destroy(virgl, 2) >= 0);
	assert_null(find_retired(1));
	open_gate();
	assert_int_equal(wait_for(1), 0);
	assert_int_equal(wait_for(2), 0);
	assert_int_equal(words[1], 7);
}

/* Each job copies the word before, so that the last one has the first only if all were in order.
 * The first waits for the gate, so that none is done while they are submitted. */
TEST_BOTH(a_chain_over_two_contexts_is_in_order)
{
	const uint32_t length = 500;

	submit_on(&contexts[1], ring(), 1, AFTER_FD(gate.fd), copy(4, 0));
	for (uint32_t id = 2; id <= length; id++) {
		submit_on(&contexts[id % 2], ring(), id, AFTER(id - 1), copy(4 * id, 4 * (id - 1)));
	}
	open_gate();
	assert_int_equal(wait_for(length), 0);
	assert_int_equal(words[length], 5);
}

/* virglrenderer retires a fence without work at once, whatever it was to wait for. */
TEST_BOTH(a_fence_without_work_waits_for_its_in_fence)
{
	submit_on(&contexts[0], ring(), 1, AFTER_FD(gate.fd), add(0, 2));
	submit_words(&contexts[1], ring(), 2, AFTER(1), NULL, 0);
	assert_null(find_retired(2));
	open_gate();
	assert_int_equal(wait_for(2), 0);
	assert_non_null(find_retired(1));
}

/* Each priority has a ring, which is a timeline of its own. */
static void priorities(void)
{
	submit_on(&contexts[0], 1, 1, AFTER_FD(gate.fd), add(0, 2));
	submit_on(&contexts[0], 2, 2, NOTHING, add(4, 1));
	assert_int_equal(wait_for(2), 0);
	assert_null(find_retired(1));
	open_gate();
	assert_int_equal(wait_for(1), 0);
}

TEST(rings_of_priorities_are_independent)
{
	begin("msm");
	priorities();
	finish();
}

/* The library that is named takes the place of the one that this was linked with. */
int main(int argc, char *argv[])
{
	const char *library = getenv(LIBRARY);
	char *directory;

	(void)argc;
	if (library && !getenv("VGF_TEST_LIBRARY_IS_SET")) {
		directory = strdup(library);
		if (access(library, R_OK) < 0) {
			fprintf(stderr, "%s: %s\n", library, strerror(errno));
			return 1;
		}
		if (strcmp(basename(directory), SONAME) != 0) {
			fprintf(stderr, "%s: the loader looks for " SONAME "\n", library);
			return 1;
		}
		setenv("LD_LIBRARY_PATH", dirname(directory), 1);
		setenv("VGF_TEST_LIBRARY_IS_SET", "1", 1);
		execv("/proc/self/exe", argv);
		return 1;
	}
	return run_registered_tests(argv);
}
