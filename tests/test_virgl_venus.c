/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Venus contexts of the plugin, with the real render server: fences, work that waits, and what
 * happens if a process ends. Needs virgl_render_server (package virgl-server) and a Vulkan driver
 * of the host (mesa-vulkan-drivers). A fence is held back by a semaphore, or by stopping the worker
 * that would signal it.
 */

#include "venus_stream.h"
#include "virgl_vmm.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define CAPSET_VENUS 4
#define FLAGS (FLAGS_ASYNC | FLAGS_VENUS)
#define MAX_PROCESSES 16

#define RED PIXEL(255, 0, 0, 255)
#define GREEN PIXEL(0, 255, 0, 255)

enum { VENUS = 1, OTHER = 2, GL = 3, TEXTURE = 10, FIRST_BLOB = 20, RING = 1, OTHER_RING = 2 };

#define MEMORY_SIZE 8192
#define WORD 0x12345678

#define STORM 100
#define STOPPED_MS 2000

static struct virgl_vmm *vmm;

/* ---- Processes ---------------------------------------------------------------------------- */

static pid_t parent_of(pid_t pid)
{
	char path[64], text[512] = "";
	const char *after;
	int parent = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file) {
		return 0;
	}
	if (!fgets(text, sizeof(text), file)) {
		text[0] = '\0';
	}
	fclose(file);
	after = strrchr(text, ')'); /* of its name, which may have anything */
	if (after && after[2] != 'Z') {
		sscanf(after + 3, "%d", &parent);
	}
	return parent;
}

/* Those that run, or are stopped. Returns how many. */
static unsigned int list_children(pid_t parent, pid_t children[MAX_PROCESSES])
{
	DIR *proc = opendir("/proc");
	unsigned int count = 0;
	struct dirent *entry;

	assert_non_null(proc);
	while ((entry = readdir(proc))) {
		pid_t pid = isdigit((unsigned char)entry->d_name[0]) ? atoi(entry->d_name) : 0;
		if (pid > 0 && parent_of(pid) == parent) {
			assert_true(count < MAX_PROCESSES);
			children[count++] = pid;
		}
	}
	closedir(proc);
	return count;
}

static pid_t find_server(void)
{
	pid_t servers[MAX_PROCESSES];

	assert_int_equal(list_children(getpid(), servers), 1);
	return servers[0];
}

/* All of the server's workers. The one that the plugin asked for at the start may end just now. */
static void signal_workers(int number)
{
	pid_t workers[MAX_PROCESSES];
	unsigned int count = list_children(find_server(), workers), signalled = 0;

	for (unsigned int i = 0; i < count; i++) {
		if (kill(workers[i], number) == 0) {
			signalled++;
		} else {
			assert_int_equal(errno, ESRCH);
		}
	}
	assert_true(signalled > 0);
}

/* ---- The VMM ------------------------------------------------------------------------------ */

static void create_venus(uint32_t ctx_id)
{
	assert_int_equal(
		vgf_virgl_context_create_with_flags(vmm->virgl, ctx_id, CAPSET_VENUS, 4, "test"),
		0);
}

static void begin(void)
{
	vmm = virgl_vmm_create(FLAGS, VGF_VIRGL_WAIT_AUTO);
	create_venus(VENUS);
}

static void finish(void)
{
	virgl_vmm_destroy(vmm);
	vmm = NULL;
}

#define TEST_VENUS(name) TEST_BETWEEN(name, begin(), finish())

/* A fence behind nothing, which has an in-fence unless that is 0. Returns as vgf_virgl_submit. */
static int submit_fence(uint32_t ctx_id, int32_t ring, uint64_t in_fence)
{
	const struct vgf_submission submission = {
		.fence = { .fence_id = ++vmm->last_id, .ctx_id = ctx_id, .ring = ring },
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.in_fences = &in_fence,
		.num_in_fences = in_fence != 0,
	};

	return vgf_virgl_submit(vmm->virgl, &submission, NULL);
}

/* ---- Fences ------------------------------------------------------------------------------- */

TEST_VENUS(a_fence_of_ring_0_retires)
{
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	virgl_vmm_wait(vmm, 1);
	assert_virgl_retired(vmm, VENUS, 0, 1, 0);
}

TEST_VENUS(a_ring_out_of_range_is_refused_by_name)
{
	assert_int_equal(submit_fence(VENUS, VGF_MAX_RINGS, 0), -EINVAL);
	assert_non_null(strstr(vmm->message, "context 1 ring 64 fence 1"));
	assert_int_equal(
		vgf_virgl_context_create_fence(vmm->virgl, VENUS, 0, VGF_MAX_RINGS, 2), -EINVAL);
	assert_non_null(strstr(vmm->message, "context 1 ring 64 fence 2"));
	/* virglrenderer has not seen it. */
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	virgl_vmm_wait(vmm, 1);
	assert_virgl_retired(vmm, VENUS, 0, vmm->last_id, 0);
}

TEST_VENUS(venus_waits_for_a_fence)
{
	uint64_t gate = create_test_fence(vmm);

	create_venus(OTHER);
	assert_int_equal(submit_fence(VENUS, 0, gate), 1);
	/* What its worker did at once is there when another's is. */
	assert_int_equal(submit_fence(OTHER, 0, 0), 0);
	virgl_vmm_wait(vmm, 1);
	assert_virgl_retired(vmm, OTHER, 0, 3, 0);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 3);
	assert_virgl_retired(vmm, VENUS, 0, 2, 0);
}

TEST_VENUS(venus_waits_for_venus)
{
	create_venus(OTHER);
	signal_workers(SIGSTOP);
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	assert_int_equal(submit_fence(OTHER, 0, vmm->last_id), 1);
	assert_int_equal(vmm->num_retired, 0);
	signal_workers(SIGCONT);
	virgl_vmm_wait(vmm, 2);
	assert_virgl_retired(vmm, VENUS, 0, 1, 0);
	assert_virgl_retired(vmm, OTHER, 0, 2, 0);
}

/* As the texture is, whatever waits. */
static uint32_t pixel_now(void)
{
	uint32_t pixels[SIDE * SIDE] = { 0 }, box[6] = { 0, 0, 0, SIDE, SIDE, 1 };
	struct iovec iov = { .iov_base = pixels, .iov_len = sizeof(pixels) };

	assert_int_equal(virgl_renderer_transfer_read_iov(
				 TEXTURE, 0, 0, SIDE * 4, 0, (struct virgl_box *)box, 0, &iov, 1),
		0);
	return pixels[0];
}

TEST_VENUS(gl_waits_for_venus)
{
	uint64_t filled;

	create_gl_context(vmm, GL);
	create_texture(vmm, TEXTURE, GL, 0);
	fill_now(vmm, GL, TEXTURE, RED);
	signal_workers(SIGSTOP);
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	filled = submit_fill(vmm, GL, TEXTURE, GREEN, vmm->last_id);
	assert_int_equal(pixel_now(), RED);
	signal_workers(SIGCONT);
	virgl_vmm_wait(vmm, 2);
	assert_virgl_retired(vmm, VENUS, 0, 1, 0);
	assert_virgl_retired(vmm, GL, 0, filled, 0);
	assert_int_equal(pixel_now(), GREEN);
}

TEST_VENUS(venus_waits_for_gl)
{
	uint64_t gate = create_test_fence(vmm), filled;

	create_gl_context(vmm, GL);
	create_texture(vmm, TEXTURE, GL, 0);
	filled = submit_fill(vmm, GL, TEXTURE, GREEN, gate);
	assert_int_equal(submit_fence(VENUS, 0, filled), 1);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 3);
	assert_virgl_retired(vmm, GL, 0, filled, 0);
	assert_virgl_retired(vmm, VENUS, 0, vmm->last_id, 0);
}

/* ---- Work that waits ---------------------------------------------------------------------- */

/* A queue of Vulkan. The work of a producer waits for the queue's semaphore, that of a consumer for
 * nothing in Vulkan. */
struct queue {
	uint32_t ctx_id, ring, blob;
	const volatile uint32_t *memory; /* 0, and WORD when its work is done */
};

static uint64_t submit_venus(const struct queue *queue, int32_t ring,
	const struct venus_stream *stream, uint64_t in_fence)
{
	const struct vgf_submission submission = {
		.fence = { .fence_id = ++vmm->last_id, .ctx_id = queue->ctx_id, .ring = ring },
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.in_fences = &in_fence,
		.num_in_fences = in_fence != 0,
		.command = stream->words,
		.size = stream->count * 4,
	};

	/* 1: it is held back. */
	assert_int_equal(vgf_virgl_submit(vmm->virgl, &submission, NULL), in_fence != 0);
	return vmm->last_id;
}

static struct queue create_queue(uint32_t ctx_id, uint32_t ring, bool first)
{
	static uint32_t last_blob = FIRST_BLOB;
	struct queue queue = { .ctx_id = ctx_id, .ring = ring, .blob = ++last_blob };
	const struct virgl_renderer_resource_create_blob_args blob = {
		.res_handle = queue.blob,
		.ctx_id = ctx_id,
		.blob_mem = VIRGL_RENDERER_BLOB_MEM_HOST3D,
		.blob_flags = VIRGL_RENDERER_BLOB_FLAG_USE_MAPPABLE,
		.blob_id = venus_stream_blob_id(ring),
		.size = MEMORY_SIZE,
	};
	struct venus_stream stream;
	uint64_t size;
	void *memory;

	venus_stream_begin(&stream, ring);
	if (first) {
		venus_stream_instance(&stream);
	}
	venus_stream_device(&stream, MEMORY_SIZE);
	assert_int_equal(
		vgf_virgl_submit_cmd(vmm->virgl, stream.words, (int)ctx_id, (int)stream.count), 0);
	assert_int_equal(virgl_renderer_resource_create_blob(&blob), 0);
	assert_int_equal(virgl_renderer_resource_map(queue.blob, &memory, &size), 0);
	queue.memory = memory;
	assert_int_equal(queue.memory[0], 0);
	return queue;
}

static void destroy_queue(const struct queue *queue)
{
	virgl_renderer_resource_unmap(queue->blob);
	assert_in_range(vgf_virgl_resource_unref(vmm->virgl, queue->blob, NULL, NULL), 0, 1);
}

/* Fills the memory when the semaphore has that value. Returns the fence's ID. */
static uint64_t fill(const struct queue *queue, uint64_t value, uint64_t in_fence)
{
	struct venus_stream stream;

	venus_stream_begin(&stream, queue->ring);
	venus_stream_fill(&stream, MEMORY_SIZE, WORD, value);
	return submit_venus(queue, (int32_t)queue->ring, &stream, in_fence);
}

static void open_semaphore(const struct queue *queue)
{
	struct venus_stream stream;

	venus_stream_begin(&stream, queue->ring);
	venus_stream_signal(&stream, 1);
	submit_venus(queue, 0, &stream, 0);
}

/* One waits for the other; and the control, which does not. */
static void assert_waits(const struct queue *producer, const struct queue *consumer, bool waits)
{
	uint64_t produced = fill(producer, 1, 0);
	uint64_t consumed = fill(consumer, 0, waits ? produced : 0);

	if (waits) {
		assert_int_equal(consumer->memory[0], 0);
		open_semaphore(producer);
		virgl_vmm_wait(vmm, 3); /* the semaphore's, too */
		assert_virgl_retired(vmm, producer->ctx_id, (int32_t)producer->ring, produced, 0);
		assert_int_equal(producer->memory[0], WORD);
	} else {
		virgl_vmm_wait(vmm, 1);
		assert_int_equal(producer->memory[0], 0);
		open_semaphore(producer);
	}
	assert_virgl_retired(vmm, consumer->ctx_id, (int32_t)consumer->ring, consumed, 0);
	assert_int_equal(consumer->memory[0], WORD);
	virgl_vmm_wait(vmm, 3);
}

static void try_contexts(bool waits)
{
	struct queue producer = create_queue(VENUS, RING, true), consumer;

	create_venus(OTHER);
	consumer = create_queue(OTHER, RING, true);
	assert_waits(&producer, &consumer, waits);
	destroy_queue(&producer);
	destroy_queue(&consumer);
}

static void try_rings(bool waits)
{
	struct queue producer = create_queue(VENUS, RING, true);
	struct queue consumer = create_queue(VENUS, OTHER_RING, false);

	assert_waits(&producer, &consumer, waits);
	destroy_queue(&producer);
	destroy_queue(&consumer);
}

TEST_VENUS(work_of_one_context_waits_for_that_of_another)
{
	try_contexts(true);
}

TEST_VENUS(without_an_in_fence_it_does_not)
{
	try_contexts(false);
}

TEST_VENUS(work_of_one_ring_waits_for_that_of_another)
{
	try_rings(true);
}

TEST_VENUS(rings_without_in_fences_do_not_wait)
{
	try_rings(false);
}

static void try_gl_behind_venus(bool waits)
{
	struct queue producer = create_queue(VENUS, RING, true);
	uint64_t produced = fill(&producer, 1, 0), filled;

	create_gl_context(vmm, GL);
	create_texture(vmm, TEXTURE, GL, 0);
	fill_now(vmm, GL, TEXTURE, RED);
	filled = submit_fill(vmm, GL, TEXTURE, GREEN, waits ? produced : 0);
	assert_int_equal(pixel_now(), waits ? RED : GREEN);
	assert_int_equal(producer.memory[0], 0);
	open_semaphore(&producer);
	virgl_vmm_wait(vmm, 3);
	assert_virgl_retired(vmm, GL, 0, filled, 0);
	assert_int_equal(pixel_now(), GREEN);
	assert_int_equal(producer.memory[0], WORD);
	destroy_queue(&producer);
}

TEST_VENUS(gl_waits_for_a_queue_of_venus)
{
	try_gl_behind_venus(true);
}

TEST_VENUS(gl_without_an_in_fence_does_not)
{
	try_gl_behind_venus(false);
}

static void try_venus_behind_gl(bool waits)
{
	struct queue consumer = create_queue(VENUS, RING, true);
	uint64_t gate = create_test_fence(vmm), filled;

	create_gl_context(vmm, GL);
	create_texture(vmm, TEXTURE, GL, 0);
	fill_now(vmm, GL, TEXTURE, RED);
	filled = submit_fill(vmm, GL, TEXTURE, GREEN, gate);
	fill(&consumer, 0, waits ? filled : 0);
	if (!waits) {
		virgl_vmm_wait(vmm, 1);
	}
	assert_int_equal(consumer.memory[0], waits ? 0 : WORD);
	assert_int_equal(pixel_now(), RED);
	signal_test_fence(vmm, gate);
	virgl_vmm_wait(vmm, 3);
	assert_int_equal(consumer.memory[0], WORD);
	assert_int_equal(pixel_now(), GREEN);
	destroy_queue(&consumer);
}

TEST_VENUS(a_queue_of_venus_waits_for_gl)
{
	try_venus_behind_gl(true);
}

TEST_VENUS(a_queue_of_venus_without_an_in_fence_does_not)
{
	try_venus_behind_gl(false);
}

TEST_VENUS(a_killed_worker_ends_work_that_waits)
{
	struct queue producer = create_queue(VENUS, RING, true), consumer;
	uint64_t produced, consumed;

	create_venus(OTHER);
	consumer = create_queue(OTHER, RING, true);
	produced = fill(&producer, 1, 0);
	consumed = fill(&consumer, 0, produced);
	signal_workers(SIGKILL);
	virgl_vmm_wait(vmm, 2);
	assert_virgl_retired(vmm, VENUS, RING, produced, -EIO);
	assert_virgl_retired(vmm, OTHER, RING, consumed, -EIO);
	destroy_queue(&producer);
	destroy_queue(&consumer);
}

/* ---- Workers that end --------------------------------------------------------------------- */

/* The context is over, and the ID is free for another. */
static void assert_context_has_ended(uint32_t ctx_id)
{
	unsigned int before = vmm->num_retired;

	/* Its error has its place on the timeline. */
	submit_fence(ctx_id, 0, 0);
	virgl_vmm_wait(vmm, before + 1);
	assert_virgl_retired(vmm, ctx_id, 0, vmm->last_id, -EIO);
	assert_int_equal(vgf_virgl_context_destroy(vmm->virgl, ctx_id), 0);
	create_venus(ctx_id);
	assert_int_equal(submit_fence(ctx_id, 0, 0), 0);
	virgl_vmm_wait(vmm, before + 2);
	assert_virgl_retired(vmm, ctx_id, 0, vmm->last_id, 0);
}

/* virglrenderer's thread of the context spins until it has ended. */
static void wait_for_threads(int count)
{
	while (count_threads() > count) {
		virgl_vmm_run(vmm, 1);
	}
	assert_int_equal(count_threads(), count);
}

TEST_VENUS(a_fence_of_a_ring_without_a_queue_retires_with_an_error)
{
	int threads = count_threads();

	create_venus(OTHER);
	assert_int_equal(submit_fence(OTHER, 5, 0), 0);
	virgl_vmm_wait(vmm, 1);
	assert_virgl_retired(vmm, OTHER, 5, 1, -EIO);
	wait_for_threads(threads);
	assert_non_null(strstr(vmm->message, "context 2: "));
	assert_non_null(strstr(vmm->message, "fence that it got was 1 on ring 5"));
	/* The one beside it works. */
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	virgl_vmm_wait(vmm, 2);
	assert_virgl_retired(vmm, VENUS, 0, 2, 0);
	assert_context_has_ended(OTHER);
}

TEST_VENUS(a_bad_command_stream_ends_its_context_alone)
{
	uint32_t words[8] = { 0xbc, 0, 1, 2, 3 };

	create_venus(OTHER);
	assert_int_equal(vgf_virgl_submit_cmd(vmm->virgl, words, OTHER, 8), 0);
	wait_for_threads(count_threads() - 1);
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	virgl_vmm_wait(vmm, 1);
	assert_virgl_retired(vmm, VENUS, 0, 1, 0);
	assert_context_has_ended(OTHER);
}

TEST_VENUS(fences_of_a_killed_worker_retire_with_an_error)
{
	create_gl_context(vmm, GL);
	create_texture(vmm, TEXTURE, GL, 0);
	signal_workers(SIGSTOP);
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	submit_fill(vmm, GL, TEXTURE, GREEN, vmm->last_id);
	signal_workers(SIGKILL);
	virgl_vmm_wait(vmm, 3);
	assert_virgl_retired(vmm, VENUS, 0, 1, -EIO);
	assert_virgl_retired(vmm, VENUS, 0, 2, -EIO);
	/* What waited for them runs. */
	assert_virgl_retired(vmm, GL, 0, 3, 0);
	assert_int_equal(read_pixel(vmm, GL, TEXTURE), GREEN);
	assert_context_has_ended(VENUS);
}

TEST_VENUS(a_stopped_worker_holds_up_no_other)
{
	create_gl_context(vmm, GL);
	create_texture(vmm, TEXTURE, GL, 0);
	signal_workers(SIGSTOP);
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	for (unsigned int i = 1; i <= STORM; i++) {
		submit_fill(vmm, GL, TEXTURE, GREEN, 0);
		virgl_vmm_wait(vmm, i);
	}
	assert_int_equal(read_pixel(vmm, GL, TEXTURE), GREEN);
	virgl_vmm_run(vmm, STOPPED_MS);
	assert_int_equal(vmm->num_retired, STORM); /* not the worker's own */
	signal_workers(SIGCONT);
	virgl_vmm_wait(vmm, STORM + 1);
	assert_virgl_retired(vmm, VENUS, 0, 1, 0);
}

TEST_VENUS(a_context_that_is_destroyed_ends_with_its_worker)
{
	signal_workers(SIGSTOP);
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	assert_int_equal(vgf_virgl_context_destroy(vmm->virgl, VENUS), 1);
	signal_workers(SIGKILL);
	virgl_vmm_wait(vmm, 1);
	assert_virgl_retired(vmm, VENUS, 0, 1, -EIO);
	create_venus(VENUS);
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	virgl_vmm_wait(vmm, 2);
	assert_virgl_retired(vmm, VENUS, 0, 2, 0);
}

/* ---- The server --------------------------------------------------------------------------- */

TEST_VENUS(a_killed_server_is_started_anew_by_a_reset)
{
	signal_workers(SIGSTOP);
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	signal_workers(SIGCONT);
	assert_int_equal(kill(find_server(), SIGKILL), 0);
	virgl_vmm_wait(vmm, 1); /* done, or lost with its worker */
	assert_true(vgf_virgl_context_create_with_flags(
			    vmm->virgl, OTHER, CAPSET_VENUS, 4, "test") < 0);
	assert_non_null(strstr(vmm->message, "context 2: the render server"));
	/* GL goes on. */
	create_gl_context(vmm, GL);
	create_texture(vmm, TEXTURE, GL, 0);
	fill_now(vmm, GL, TEXTURE, GREEN);
	assert_int_equal(read_pixel(vmm, GL, TEXTURE), GREEN);

	assert_int_equal(vgf_virgl_reset(vmm->virgl), 0);
	vmm->num_retired = 0;
	create_venus(VENUS);
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	virgl_vmm_wait(vmm, 1);
	assert_virgl_retired(vmm, VENUS, 0, vmm->last_id, 0);
}

static void *continue_server(void *arg)
{
	usleep(STOPPED_MS * 1000);
	assert_int_equal(kill(*(const pid_t *)arg, SIGCONT), 0);
	return NULL;
}

/* What needs it waits for it, and is right then. */
TEST_VENUS(a_server_that_stops_and_goes_on_has_lost_nothing)
{
	pid_t server = find_server();
	pthread_t thread;

	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	assert_int_equal(kill(server, SIGSTOP), 0);
	assert_int_equal(pthread_create(&thread, NULL, continue_server, &server), 0);
	virgl_vmm_wait(vmm, 1); /* contexts that are there have processes of their own */
	create_venus(OTHER);
	pthread_join(thread, NULL);
	assert_int_equal(submit_fence(OTHER, 0, 0), 0);
	virgl_vmm_wait(vmm, 2);
	assert_virgl_retired(vmm, VENUS, 0, 1, 0);
	assert_virgl_retired(vmm, OTHER, 0, 2, 0);
}

TEST_VENUS(contexts_end_with_a_reset)
{
	signal_workers(SIGSTOP);
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	assert_int_equal(vgf_virgl_reset(vmm->virgl), 0);
	assert_virgl_retired(vmm, VENUS, 0, 1, -ECANCELED);
	create_venus(VENUS);
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	virgl_vmm_wait(vmm, 2);
	assert_virgl_retired(vmm, VENUS, 0, 2, 0);
}

/* Without the thread that calls back, too. */
TEST(a_killed_worker_is_noticed_without_callbacks_from_a_thread)
{
	vmm = virgl_vmm_create(FLAGS_THREAD | FLAGS_VENUS, VGF_VIRGL_WAIT_AUTO);
	create_venus(VENUS);
	signal_workers(SIGSTOP);
	assert_int_equal(submit_fence(VENUS, 0, 0), 0);
	signal_workers(SIGKILL);
	virgl_vmm_wait(vmm, 1);
	assert_virgl_retired(vmm, VENUS, 0, 1, -EIO);
	finish();
}

/* As of virglrenderer itself, which starts without. */
TEST(a_missing_server_is_an_error)
{
	setenv("RENDER_SERVER_EXEC_PATH", "/nonexistent", 1);
	assert_int_equal(virgl_vmm_try(FLAGS, VGF_VIRGL_WAIT_AUTO, &vmm), -ENOENT);
	unsetenv("RENDER_SERVER_EXEC_PATH");
}

static bool has_server(void)
{
	int ret = virgl_vmm_try(FLAGS, VGF_VIRGL_WAIT_AUTO, &vmm);

	if (ret == 0) {
		finish();
	}
	return ret == 0;
}

/* The first word of the capability set is the version of Venus's protocol. virglrenderer 0.10 has
 * 0, whose commands have other numbers. */
static bool has_protocol(void)
{
	uint32_t version, size;
	uint32_t capset[64] = { 0 };

	begin();
	virgl_renderer_get_cap_set(CAPSET_VENUS, &version, &size);
	assert_in_range(size, sizeof(capset[0]), sizeof(capset));
	virgl_renderer_fill_caps(CAPSET_VENUS, version, capset);
	finish();
	return capset[0] != 0;
}

/* Without one no device is made, which ends the context. */
static bool has_driver(void)
{
	const struct queue queue = { .ctx_id = VENUS, .ring = RING };
	struct venus_stream stream;
	bool has;

	begin();
	venus_stream_begin(&stream, RING);
	venus_stream_instance(&stream);
	venus_stream_device(&stream, MEMORY_SIZE);
	submit_venus(&queue, RING, &stream, 0);
	virgl_vmm_wait(vmm, 1);
	has = vmm->retired[0].status == 0;
	finish();
	return has;
}

int main(int argc, char *argv[])
{
	print_renderer();
	if (!has_server()) {
		printf("skipped: no virgl_render_server (package virgl-server)\n");
		return 77;
	}
	if (!has_protocol()) {
		printf("skipped: Venus needs virglrenderer 1.0 or newer\n");
		return 77;
	}
	if (!has_driver()) {
		printf("skipped: no Vulkan driver (package mesa-vulkan-drivers)\n");
		return 77;
	}
	return run_registered_tests(argv);
}
