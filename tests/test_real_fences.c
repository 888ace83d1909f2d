/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * The way of a submission with the kernel's own sync files. Needs vgem, and some tests sw_sync. A
 * virtual host (`./run vm`) has both.
 *
 * Whatever waits here waits for a write to a buffer. Without the wait it reads what was there
 * before, so that the wait makes the difference.
 */

#include "support.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vgfence/context_driver.h>
#include <vgfence/dma_buf.h>
#include <vgfence/inspect.h>
#include <vgfence/sync_file.h>
#include <vgfence/vgfence.h>

#include "clock.h"
#include "dma_bufs.h"
#include "fake.h"
#include "soft_gpu.h"
#include "sw_sync.h"

#define READ VGF_ACCESS_READ
#define WRITE VGF_ACCESS_WRITE

static int need_vgem(void)
{
	int vgem = vgem_open();

	if (vgem < 0) {
		/* A virtual host has the driver, so here it does not work. */
		assert_null(getenv("VGFENCE_VM"));
		print_message("skipped: no vgem device in /dev/dri here; `./run vm` runs this "
			      "where there is one\n");
		skip();
	}
	return vgem;
}

static int need_sw_sync(void)
{
	int timeline = sw_sync_timeline();

	if (timeline < 0) {
		print_message("skipped: no " SW_SYNC_PATH
			      " here; `./run vm --kind uml` runs this where there is one\n");
		skip();
	}
	return timeline;
}

/* ---- A scene: a producer writes to a buffer, a consumer copies it --------------------------- */

#define PRODUCER 1
#define CONSUMER 2
#define CONSUMER_ID 1000

struct scene {
	int vgem;
	int timeline; /* of sw_sync; -1: none */
	struct fake_vmm *vmm;
	struct fake_driver *producer, *consumer;
	struct vgem_fence fences[64]; /* by fence ID, of those that were made here */
	int wait_fd;                  /* what the consumer's GPU waits for; -1: nothing */
	uint64_t waits_for;           /* the first of the in-fences behind that */
	int content, copy;
};

/* The consumer's GPU does what there is to do. */
static void consumer_work(struct scene *scene)
{
	if (scene->wait_fd >= 0 && vgf_sync_file_poll(scene->wait_fd) == 1) {
		close(scene->wait_fd);
		scene->wait_fd = -1;
		scene->copy = scene->content;
	}
}

static void consumer_takes_job(struct fake_driver *driver, const struct vgf_job *job)
{
	struct scene *scene = driver->arg;
	int fds[16];

	if (job->num_in_fences == 0) {
		scene->copy = scene->content;
		return;
	}
	for (uint32_t i = 0; i < job->num_in_fences; i++) {
		fds[i] = job->in_fences[i].fd;
	}
	scene->waits_for = job->in_fences[0].fence_id;
	scene->wait_fd = vgf_sync_file_merge(fds, job->num_in_fences);
	assert_true(scene->wait_fd >= 0);
	consumer_work(scene);
}

static struct scene *scene_create(enum vgf_wait wait, const struct vgf_options *options)
{
	int vgem = need_vgem();
	struct scene *scene = calloc(1, sizeof(*scene));

	assert_non_null(scene);
	scene->vgem = vgem;
	scene->timeline = -1;
	scene->wait_fd = -1;
	scene->copy = -1;
	scene->vmm = vmm_create(options);
	scene->producer = driver_create(scene->vmm, VGF_WAIT_HOST, FAKE_GIVEN);
	scene->consumer = driver_create(scene->vmm, wait, FAKE_CALL);
	scene->consumer->on_submit = consumer_takes_job;
	scene->consumer->arg = scene;
	driver_open(scene->producer, scene->vmm, PRODUCER);
	driver_open(scene->consumer, scene->vmm, CONSUMER);
	return scene;
}

static void scene_destroy(struct scene *scene)
{
	if (scene->wait_fd >= 0) {
		close(scene->wait_fd);
	}
	vmm_destroy(scene->vmm);
	close(scene->vgem);
	free(scene);
}

#define TEST_SCENE(name, wait, options)                                                            \
	TEST_WITH(name, struct scene *, scene, scene_create(wait, options), scene_destroy(scene))

/* The same with a timeline of sw_sync, which the test closes. It is asked for before there is
 * anything that a skip would leave behind. */
static struct scene *scene_create_sw_sync(enum vgf_wait wait, const struct vgf_options *options)
{
	int timeline = need_sw_sync();
	struct scene *scene = scene_create(wait, options);

	scene->timeline = timeline;
	return scene;
}

#define TEST_SW_SYNC(name, wait, options)                                                          \
	TEST_WITH(name, struct scene *, scene, scene_create_sw_sync(wait, options),                \
		scene_destroy(scene))

/* Makes a pending sync file. Who takes it closes it. */
static int make_sync_file(struct scene *scene, uint64_t fence_id)
{
	struct vgem_fence *fence = &scene->fences[fence_id];
	int fd;

	assert_int_equal(vgem_fence_init(scene->vgem, fence), 0);
	fd = fence->fd;
	fence->fd = -1;
	return fd;
}

/* The producer's GPU is done with this. */
static void finish(struct scene *scene, uint64_t fence_id)
{
	scene->content++;
	assert_int_equal(vgem_fence_signal(scene->vgem, &scene->fences[fence_id]), 0);
	vgem_fence_finish(scene->vgem, &scene->fences[fence_id]);
}

static void produce(struct scene *scene, int32_t ring, uint64_t fence_id)
{
	scene->producer->given_fd = make_sync_file(scene, fence_id);
	assert_int_equal(submit(scene->vmm, PRODUCER, ring, fence_id, NO_IN_FENCES), 0);
}

/* ---- Waiting ------------------------------------------------------------------------------ */

/* Returns what a consumer reads if it is submitted while the producer's job runs. */
static int copy_of(enum vgf_wait wait, bool with_in_fence)
{
	struct scene *scene = scene_create(wait, NULL);
	int copy, held;

	produce(scene, 0, 1);
	held = submit(
		scene->vmm, CONSUMER, 0, CONSUMER_ID, with_in_fence ? ID(1) : ID(0), NO_IN_FENCES);
	assert_int_equal(held, with_in_fence && wait == VGF_WAIT_HOST);
	assert_int_equal(vmm_dispatch(scene->vmm), 0);
	consumer_work(scene);
	assert_int_equal(scene->copy, with_in_fence ? -1 : 0);
	finish(scene, 1);
	consumer_work(scene);
	assert_int_equal(vmm_dispatch(scene->vmm), 1);
	copy = scene->copy;
	assert_int_equal(signal_call(scene->vmm, CONSUMER, 0, CONSUMER_ID, 0), 0);
	assert_int_equal(vmm_dispatch(scene->vmm), 1);
	assert_idle(scene->vmm);
	scene_destroy(scene);
	return copy;
}

TEST(the_host_waits_for_a_sync_file)
{
	assert_int_equal(copy_of(VGF_WAIT_HOST, true), 1);
	assert_int_equal(copy_of(VGF_WAIT_HOST, false), 0);
}

TEST(a_driver_waits_for_a_sync_file)
{
	assert_int_equal(copy_of(VGF_WAIT_DRIVER, true), 1);
	assert_int_equal(copy_of(VGF_WAIT_DRIVER, false), 0);
}

/* Three producers, one merged file. The consumer can forget the last of `named`. */
static int copy_of_three(uint32_t num_named)
{
	const uint64_t named[] = { 2, 3, 1 };
	struct scene *scene = scene_create(VGF_WAIT_DRIVER, NULL);
	struct vgf_sync_file_fence fences[4];
	int copy;

	for (uint64_t id = 1; id <= 3; id++) {
		produce(scene, (int32_t)id, id);
	}
	assert_int_equal(submit_flags(scene->vmm, CONSUMER, 0, CONSUMER_ID, VGF_FENCED, named,
				 num_named, NULL),
		0);
	assert_int_equal(scene->consumer->jobs[0].num_in_fences, num_named);
	assert_int_equal(vgf_sync_file_info(scene->wait_fd, fences, 4), num_named);
	finish(scene, 3);
	consumer_work(scene);
	assert_int_equal(scene->copy, -1);
	finish(scene, 2);
	consumer_work(scene);
	finish(scene, 1);
	consumer_work(scene);
	assert_int_equal(vmm_dispatch(scene->vmm), 3);
	copy = scene->copy;
	scene_destroy(scene);
	return copy;
}

TEST(a_driver_waits_for_all_in_one_merged_sync_file)
{
	assert_int_equal(copy_of_three(3), 3);
	assert_int_equal(copy_of_three(2), 2); /* early */
}

/* The timestamps are the kernel's own: when each signalled. */
TEST_SCENE(nothing_is_run_before_the_kernel_says_so, VGF_WAIT_HOST, NULL)
{
	struct vgf_sync_file_fence fence;
	uint64_t before_ns, after_ns;
	int copy;

	produce(scene, 0, 1);
	copy = export_fence(scene->vmm->device, 1);
	assert_true(copy >= 0);
	assert_int_equal(submit(scene->vmm, CONSUMER, 0, CONSUMER_ID, ID(1), NO_IN_FENCES), 1);
	vmm_dispatch(scene->vmm);
	assert_false(driver_has(scene->consumer, CONSUMER_ID));
	before_ns = now_ns();
	finish(scene, 1);
	vmm_dispatch(scene->vmm);
	after_ns = now_ns();
	assert_true(driver_has(scene->consumer, CONSUMER_ID));
	assert_int_equal(vgf_sync_file_info(copy, &fence, 1), 1);
	assert_true(before_ns <= fence.timestamp_ns && fence.timestamp_ns <= after_ns);
	close(copy);
}

/* ---- Materialising ------------------------------------------------------------------------ */

TEST_SCENE(a_held_producer_materialises_and_is_handed_over, VGF_WAIT_DRIVER, NULL)
{
	produce(scene, 0, 1);
	scene->producer->given_fd = make_sync_file(scene, 2);
	assert_int_equal(submit(scene->vmm, PRODUCER, 1, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(submit(scene->vmm, CONSUMER, 0, CONSUMER_ID, ID(2), NO_IN_FENCES), 1);
	vmm_dispatch(scene->vmm);
	assert_false(driver_has(scene->consumer, CONSUMER_ID));
	finish(scene, 1);
	assert_int_equal(vmm_dispatch(scene->vmm), 1);
	/* The second job runs, the consumer's GPU has got its fence, and waits. */
	assert_int_equal(driver_job(scene->consumer, CONSUMER_ID)->wait, VGF_WAIT_DRIVER);
	assert_int_equal(scene->waits_for, 2);
	consumer_work(scene);
	assert_int_equal(scene->copy, -1);
	finish(scene, 2);
	consumer_work(scene);
	assert_int_equal(scene->copy, 2);
	assert_int_equal(vmm_dispatch(scene->vmm), 1);
}

/* Hands over one fence, which is to be signalled when a byte comes. The other process has a vgem of
 * its own, and knows nothing of this library. */
static void be_other_process(int socket)
{
	char room[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = room,
		.msg_controllen = sizeof(room),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	struct vgem_fence fence;
	int vgem = vgem_open();

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (vgem < 0 || vgem_fence_init(vgem, &fence) < 0) {
		_exit(1);
	}
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fence.fd, sizeof(int));
	if (sendmsg(socket, &message, 0) != 1 || read(socket, &byte, 1) != 1) {
		_exit(1);
	}
	_exit(vgem_fence_signal(vgem, &fence) < 0);
}

static int receive_fd(int socket)
{
	char room[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = room,
		.msg_controllen = sizeof(room),
	};
	int fd;

	assert_int_equal(recvmsg(socket, &message, MSG_CMSG_CLOEXEC), 1);
	assert_non_null(CMSG_FIRSTHDR(&message));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	return fd;
}

/* Someone who publishes fence 1 of the producer, and signals it later. */
struct publisher {
	struct scene *scene;
	bool is_process;
	int socket;
	pid_t pid;
	int ret;
};

static void *publish(void *arg)
{
	struct publisher *publisher = arg;
	struct vgf_fence_name name = make_name(PRODUCER, 0, 1);
	struct scene *scene = publisher->scene;
	int fd = publisher->is_process ? receive_fd(publisher->socket) : make_sync_file(scene, 1);

	publisher->ret = publish_take(scene->vmm->device, &name, fd);
	return NULL;
}

static void publisher_start(struct publisher *publisher)
{
	int sockets[2];

	if (!publisher->is_process) {
		return;
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	publisher->socket = sockets[0];
	publisher->pid = fork();
	assert_true(publisher->pid >= 0);
	if (publisher->pid == 0) {
		close(sockets[0]); /* or it would never see the end of the other */
		be_other_process(sockets[1]);
	}
	close(sockets[1]);
}

/* From a thread that does not dispatch. */
static void publisher_publish(struct publisher *publisher)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, publish, publisher), 0);
	pthread_join(thread, NULL);
	assert_int_equal(publisher->ret, 0);
}

static void publisher_finish(struct publisher *publisher)
{
	int status = -1;

	if (!publisher->is_process) {
		finish(publisher->scene, 1);
		return;
	}
	publisher->scene->content++;
	assert_int_equal(write(publisher->socket, "", 1), 1);
	assert_int_equal(waitpid(publisher->pid, &status, 0), publisher->pid);
	assert_int_equal(status, 0);
	close(publisher->socket);
}

static void publish_from(bool is_process, bool before_it_is_waited_for)
{
	struct scene *scene = scene_create(VGF_WAIT_DRIVER, NULL);
	struct publisher publisher = { .scene = scene, .is_process = is_process };
	int held;

	scene->producer->answer = FAKE_CALL;
	assert_int_equal(submit(scene->vmm, PRODUCER, 0, 1, NO_IN_FENCES), 0);
	publisher_start(&publisher);
	if (before_it_is_waited_for) {
		publisher_publish(&publisher);
	}
	held = submit(scene->vmm, CONSUMER, 0, CONSUMER_ID, ID(1), NO_IN_FENCES);
	assert_int_equal(held, !before_it_is_waited_for);
	vmm_dispatch(scene->vmm);
	assert_int_equal(driver_has(scene->consumer, CONSUMER_ID), before_it_is_waited_for);
	if (!before_it_is_waited_for) {
		publisher_publish(&publisher);
		assert_int_equal(vmm_dispatch(scene->vmm), 0);
	}
	assert_int_equal(driver_job(scene->consumer, CONSUMER_ID)->wait, VGF_WAIT_DRIVER);
	consumer_work(scene);
	assert_int_equal(scene->copy, -1);
	publisher_finish(&publisher);
	consumer_work(scene);
	assert_int_equal(scene->copy, 1);
	vmm_wait(scene->vmm, 1);
	assert_retired(scene->vmm, 0, PRODUCER, 0, 1, 0);
	scene_destroy(scene);
}

TEST(a_thread_publishes_before_it_is_waited_for)
{
	publish_from(false, true);
}

TEST(a_thread_publishes_while_it_is_waited_for)
{
	publish_from(false, false);
}

TEST(a_process_publishes_before_it_is_waited_for)
{
	publish_from(true, true);
}

TEST(a_process_publishes_while_it_is_waited_for)
{
	publish_from(true, false);
}

TEST_SCENE(a_process_that_dies_leaves_nothing_pending, VGF_WAIT_HOST, NULL)
{
	struct publisher publisher = { .scene = scene, .is_process = true };

	scene->producer->answer = FAKE_CALL;
	assert_int_equal(submit(scene->vmm, PRODUCER, 0, 1, NO_IN_FENCES), 0);
	publisher_start(&publisher);
	publisher_publish(&publisher);
	assert_int_equal(vmm_dispatch(scene->vmm), 0);
	close(publisher.socket); /* before the byte: it ends without signalling */
	assert_int_equal(waitpid(publisher.pid, NULL, 0), publisher.pid);
	vmm_wait(scene->vmm, 1);
	assert_idle(scene->vmm);
}

/* ---- Errors ------------------------------------------------------------------------------- */

TEST_SW_SYNC(an_error_of_a_fence_is_its_status, VGF_WAIT_HOST, NULL)
{
	int timeline = scene->timeline;

	assert_int_equal(create_fence(scene->vmm, PRODUCER, 0, 1, sw_sync_fence(timeline, 1)), 0);
	produce(scene, 0, 2);
	assert_int_equal(submit(scene->vmm, CONSUMER, 0, CONSUMER_ID, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(vmm_dispatch(scene->vmm), 0);
	close(timeline); /* with the fence pending */
	assert_int_equal(vmm_dispatch(scene->vmm), 1);
	assert_retired(scene->vmm, 0, PRODUCER, 0, 1, -ENOENT);
	assert_int_equal(get_stats(scene->vmm).failed, 1);
	/* What depends on it runs, and its timeline goes on. */
	assert_int_equal(scene->copy, 0);
	finish(scene, 2);
	assert_int_equal(vmm_dispatch(scene->vmm), 1);
	assert_retired(scene->vmm, 1, PRODUCER, 0, 2, 0);
	assert_int_equal(get_stats(scene->vmm).failed, 1);
}

TEST_SW_SYNC(a_reset_finds_the_error_that_nobody_has_seen, VGF_WAIT_HOST, NULL)
{
	int timeline = scene->timeline;

	/* Behind a pending one nobody watches it. */
	produce(scene, 0, 1);
	assert_int_equal(create_fence(scene->vmm, PRODUCER, 0, 2, sw_sync_fence(timeline, 1)), 0);
	assert_int_equal(create_fence(scene->vmm, PRODUCER, 1, 3, sw_sync_fence(timeline, 1)), 0);
	close(timeline); /* with both pending */
	assert_int_equal(vgf_device_reset(scene->vmm->device), 0);
	assert_int_equal(scene->vmm->num_retired, 3);
	for (unsigned int i = 0; i < 3; i++) {
		const struct fake_retired *retired = &scene->vmm->retired[i];
		assert_int_equal(
			retired->status, retired->name.fence_id == 1 ? -ECANCELED : -ENOENT);
	}
	finish(scene, 1);
}

TEST_SW_SYNC(an_error_is_seen_by_a_driver_that_waits, VGF_WAIT_DRIVER, NULL)
{
	int timeline = scene->timeline;

	assert_int_equal(create_fence(scene->vmm, PRODUCER, 0, 1, sw_sync_fence(timeline, 1)), 0);
	produce(scene, 1, 2);
	assert_int_equal(
		submit(scene->vmm, CONSUMER, 0, CONSUMER_ID, ID(1), ID(2), NO_IN_FENCES), 0);
	close(timeline);
	assert_int_equal(vgf_sync_file_poll(scene->wait_fd), 0);
	finish(scene, 2);
	assert_int_equal(vgf_sync_file_status(scene->wait_fd), -ENOENT);
	consumer_work(scene);
	assert_int_equal(scene->copy, 1);
	assert_int_equal(vmm_dispatch(scene->vmm), 2);
	assert_int_equal(get_stats(scene->vmm).failed, 1);
}

/* A fence that signalled without an error: the control for the two above. */
TEST_SW_SYNC(a_fence_without_an_error_has_no_status, VGF_WAIT_HOST, NULL)
{
	int timeline = scene->timeline;

	assert_int_equal(create_fence(scene->vmm, PRODUCER, 0, 1, sw_sync_fence(timeline, 1)), 0);
	assert_true(sw_sync_advance(timeline, 1) >= 0);
	close(timeline);
	assert_int_equal(vmm_dispatch(scene->vmm), 1);
	assert_retired(scene->vmm, 0, PRODUCER, 0, 1, 0);
	assert_int_equal(get_stats(scene->vmm).failed, 0);
}

/* ---- Order -------------------------------------------------------------------------------- */

#define TIMELINES 6
#define PER_TIMELINE 8
#define FENCES (TIMELINES * PER_TIMELINE)

static void shuffle(uint64_t *ids, size_t count)
{
	uint32_t random = 12345;

	for (size_t i = count - 1; i > 0; i--) {
		random = random * 1664525 + 1013904223;
		size_t other = (random >> 8) % (i + 1);
		uint64_t id = ids[i];
		ids[i] = ids[other];
		ids[other] = id;
	}
}

/* Fence IDs go round the rings: 1 to TIMELINES are the first of each. */
TEST_SCENE(timelines_retire_in_order_however_fences_signal, VGF_WAIT_HOST, NULL)
{
	uint64_t ids[FENCES], last[TIMELINES] = { 0 };
	bool signalled[FENCES + 1] = { false };

	for (uint64_t id = 1; id <= FENCES; id++) {
		ids[id - 1] = id;
		produce(scene, (int32_t)(id % TIMELINES), id);
	}
	shuffle(ids, FENCES);
	for (size_t i = 0; i < FENCES; i++) {
		unsigned int expected = scene->vmm->num_retired;
		uint64_t next = ids[i];

		finish(scene, ids[i]);
		signalled[ids[i]] = true;
		/* It retires, and so do those that it held up if it is the oldest one left. */
		if (next <= TIMELINES || last[next % TIMELINES] == next - TIMELINES) {
			for (; next <= FENCES && signalled[next]; next += TIMELINES) {
				expected++;
				last[next % TIMELINES] = next;
			}
		}
		vmm_dispatch(scene->vmm);
		assert_int_equal(scene->vmm->num_retired, expected);
	}
	memset(last, 0, sizeof(last));
	for (size_t i = 0; i < FENCES; i++) {
		const struct vgf_fence_name *name = &scene->vmm->retired[i].name;

		assert_true(name->fence_id > last[name->ring]);
		last[name->ring] = name->fence_id;
	}
	assert_idle(scene->vmm);
}

/* ---- The watchdog ------------------------------------------------------------------------- */

/* Stalls with a fence, and compares the report with what the kernel says about it. */
static void assert_stall_names(struct scene *scene, int fence_fd)
{
	struct vgf_sync_file_fence names = { "", "", 0, 0 };
	int copy = fcntl(fence_fd, F_DUPFD_CLOEXEC, 0);

	assert_int_equal(create_fence(scene->vmm, PRODUCER, 0, 1, fence_fd), 0);
	while (scene->vmm->num_stalls == 0) {
		assert_int_equal(vgf_device_dispatch(scene->vmm->device, 1000), 0);
	}
	assert_int_equal(scene->vmm->stall.fence.fence_id, 1);
	assert_true(scene->vmm->stall.fence_fd >= 0);
	vgf_sync_file_info(copy, &names, 1);
	assert_string_equal(scene->vmm->stall.driver, names.driver);
	assert_string_equal(scene->vmm->stall.timeline, names.timeline);
	close(copy);
}

static const struct vgf_options stalls_at_once = { .size = sizeof(struct vgf_options),
	.stall_ns = 1 };

TEST_SCENE(the_watchdog_names_driver_and_timeline, VGF_WAIT_HOST, &stalls_at_once)
{
	assert_stall_names(scene, make_sync_file(scene, 1));
	assert_string_equal(scene->vmm->stall.driver, "vgem");
	assert_non_null(strstr(scene->vmm->log, "vgem"));
	assert_int_equal(get_stats(scene->vmm).stalled, 1);
	finish(scene, 1);
	assert_int_equal(vmm_dispatch(scene->vmm), 1);
}

TEST_SW_SYNC(the_watchdog_names_a_timeline_of_sw_sync, VGF_WAIT_HOST, &stalls_at_once)
{
	int timeline = scene->timeline;

	assert_stall_names(scene, sw_sync_fence(timeline, 1));
	assert_string_equal(scene->vmm->stall.driver, "sw_sync");
	close(timeline);
}

TEST_SCENE(the_watchdog_names_nothing_for_an_eventfd, VGF_WAIT_HOST, &stalls_at_once)
{
	assert_stall_names(scene, make_fence(false));
	assert_string_equal(scene->vmm->stall.driver, "");
}

/* ---- Fences on dma-bufs ------------------------------------------------------------------- */

/* Whether an access to the buffer would have to wait now, as the kernel tells everybody else. */
static bool waits(int dma_buf, uint32_t access)
{
	int fd = vgf_dma_buf_export_sync_file(dma_buf, access), ret;

	assert_true(fd >= 0);
	ret = vgf_sync_file_poll(fd);
	assert_true(ret == 0 || ret == 1);
	close(fd);
	return ret == 0;
}

static void assert_waits(int dma_buf, bool reader, bool writer)
{
	assert_int_equal(waits(dma_buf, READ), reader);
	assert_int_equal(waits(dma_buf, WRITE), writer);
}

static int make_buffer(const struct scene *scene)
{
	int dma_buf = dma_buf_of_vgem(scene->vgem);

	assert_true(dma_buf >= 0);
	return dma_buf;
}

static int attach(struct scene *scene, uint64_t fence_id, int dma_buf, uint32_t access)
{
	return vgf_fence_attach_dma_buf(scene->vmm->device, VGF_HOST, fence_id, dma_buf, access);
}

/* With access 0 it is not attached: the control. */
static void attach_at_once(struct scene *scene, int dma_buf, uint32_t access)
{
	produce(scene, 0, 1);
	assert_waits(dma_buf, false, false);
	if (access != 0) {
		assert_int_equal(attach(scene, 1, dma_buf, access), 0);
	}
	assert_waits(dma_buf, (access & WRITE) != 0, access != 0);
	finish(scene, 1);
	assert_waits(dma_buf, false, false);
	assert_int_equal(vmm_dispatch(scene->vmm), 1);
}

static void attach_later(struct scene *scene, int dma_buf, uint32_t access)
{
	produce(scene, 0, 1);
	scene->producer->given_fd = make_sync_file(scene, 2);
	assert_int_equal(submit(scene->vmm, PRODUCER, 1, 2, ID(1), NO_IN_FENCES), 1);
	if (access != 0) {
		assert_int_equal(attach(scene, 2, dma_buf, access), 1);
	}
	assert_int_equal(vmm_dispatch(scene->vmm), 0);
	assert_waits(dma_buf, false, false);
	finish(scene, 1);
	assert_int_equal(vmm_dispatch(scene->vmm), 1);
	/* It runs now, and the kernel tells everybody. */
	assert_waits(dma_buf, (access & WRITE) != 0, access != 0);
	finish(scene, 2);
	assert_waits(dma_buf, false, false);
	assert_int_equal(vmm_dispatch(scene->vmm), 1);
}

/* A buffer of each kind, a fence for each access, and none for the control. */
static void for_each_access(void (*test)(struct scene *, int, uint32_t))
{
	const uint32_t accesses[] = { READ, WRITE, VGF_ACCESS_READ_WRITE, 0 };

	for (size_t i = 0; i < 4; i++) {
		struct scene *scene = scene_create(VGF_WAIT_HOST, NULL);
		const int buffers[] = { make_buffer(scene), dma_buf_of_udmabuf(),
			dma_buf_of_heap() };

		for (size_t j = 0; j < 3; j++) {
			if (buffers[j] >= 0) {
				test(scene, buffers[j], accesses[i]);
				close(buffers[j]);
				assert_int_equal(vgf_device_reset(scene->vmm->device), 0);
				driver_open(scene->producer, scene->vmm, PRODUCER);
				driver_open(scene->consumer, scene->vmm, CONSUMER);
			} else {
				assert_null(getenv("VGFENCE_VM"));
			}
		}
		scene_destroy(scene);
	}
}

TEST(a_fence_is_put_on_a_dma_buf)
{
	for_each_access(attach_at_once);
}

TEST(a_held_fence_is_put_on_a_dma_buf_when_it_runs)
{
	for_each_access(attach_later);
}

TEST_SCENE(a_published_fence_is_put_on_a_dma_buf, VGF_WAIT_HOST, NULL)
{
	struct vgf_fence_name name = make_name(PRODUCER, 0, 1);
	int dma_buf = make_buffer(scene);

	scene->producer->answer = FAKE_CALL;
	assert_int_equal(submit(scene->vmm, PRODUCER, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(attach(scene, 1, dma_buf, WRITE), 1);
	assert_waits(dma_buf, false, false);
	assert_int_equal(publish_take(scene->vmm->device, &name, make_sync_file(scene, 1)), 0);
	assert_waits(dma_buf, true, true);
	finish(scene, 1);
	assert_waits(dma_buf, false, false);
	close(dma_buf);
}

static int attach_for(struct scene *scene, uint32_t ctx_id, uint64_t fence_id, int dma_buf)
{
	return vgf_fence_attach_dma_buf(scene->vmm->device, ctx_id, fence_id, dma_buf, WRITE);
}

TEST_SCENE(a_context_attaches_what_it_may_name, VGF_WAIT_HOST, NULL)
{
	int dma_buf = make_buffer(scene), fence_fd = make_sync_file(scene, 1);

	scene->producer->given_fd = fence_fd;
	assert_int_equal(submit_flags(scene->vmm, PRODUCER, 0, 1, VGF_FENCED, NULL, 0, NULL), 0);
	assert_int_equal(attach_for(scene, CONSUMER, 1, dma_buf), -EPERM);
	assert_int_equal(attach_for(scene, 77, 1, dma_buf), -ENOENT);
	assert_int_equal(attach_for(scene, PRODUCER, 5, dma_buf), -ENOENT);
	assert_waits(dma_buf, false, false);
	assert_int_equal(attach_for(scene, PRODUCER, 1, dma_buf), 0);
	assert_waits(dma_buf, true, true);
	assert_int_equal(attach_for(scene, VGF_HOST, 1, dma_buf), 0);
	produce(scene, 1, 2); /* shareable */
	assert_int_equal(attach_for(scene, CONSUMER, 2, dma_buf), 0);
	finish(scene, 1);
	finish(scene, 2);
	assert_int_equal(vmm_dispatch(scene->vmm), 2);
	assert_int_equal(attach_for(scene, PRODUCER, 1, dma_buf), -EALREADY);
	close(dma_buf);
}

TEST_SCENE(one_fence_goes_on_several_dma_bufs, VGF_WAIT_HOST, NULL)
{
	int dma_bufs[] = { make_buffer(scene), make_buffer(scene), make_buffer(scene) };

	produce(scene, 0, 1);
	scene->producer->given_fd = make_sync_file(scene, 2);
	assert_int_equal(submit(scene->vmm, PRODUCER, 1, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(attach(scene, 2, dma_bufs[0], WRITE), 1);
	assert_int_equal(attach(scene, 2, dma_bufs[1], READ), 1);
	finish(scene, 1);
	assert_int_equal(vmm_dispatch(scene->vmm), 1);
	assert_waits(dma_bufs[0], true, true);
	assert_waits(dma_bufs[1], false, true);
	assert_waits(dma_bufs[2], false, false);
	finish(scene, 2);
	for (size_t i = 0; i < 3; i++) {
		assert_waits(dma_bufs[i], false, false);
		close(dma_bufs[i]);
	}
}

TEST_SCENE(a_fence_that_is_done_needs_no_dma_buf, VGF_WAIT_HOST, NULL)
{
	int dma_buf = make_buffer(scene);

	produce(scene, 0, 1);
	finish(scene, 1);
	assert_int_equal(vmm_dispatch(scene->vmm), 1);
	assert_int_equal(attach(scene, 1, dma_buf, WRITE), -EALREADY);
	assert_int_equal(attach(scene, 2, dma_buf, WRITE), -ENOENT);
	assert_waits(dma_buf, false, false);
	close(dma_buf);
}

TEST_SCENE(a_fence_without_a_descriptor_never_is_on_a_dma_buf, VGF_WAIT_HOST, NULL)
{
	int dma_buf = make_buffer(scene);

	scene->producer->answer = FAKE_CALL;
	assert_int_equal(submit(scene->vmm, PRODUCER, 0, 1, NO_IN_FENCES), 0);
	assert_int_equal(attach(scene, 1, dma_buf, WRITE), 1);
	assert_int_equal(signal_call(scene->vmm, PRODUCER, 0, 1, 0), 0);
	assert_int_equal(vmm_dispatch(scene->vmm), 1);
	assert_waits(dma_buf, false, false);
	assert_idle(scene->vmm); /* nor is a descriptor kept for it */
	close(dma_buf);
}

TEST_SCENE(what_cannot_be_attached_is_refused, VGF_WAIT_HOST, NULL)
{
	int dma_buf = make_buffer(scene), event = make_fence(false);

	produce(scene, 0, 1);
	assert_int_equal(attach(scene, 1, dma_buf, 0), -EINVAL);
	assert_int_equal(attach(scene, 1, dma_buf, 4), -EINVAL);
	assert_int_equal(attach(scene, 1, event, WRITE), -ENOTTY);
	assert_int_equal(attach(scene, 1, -1, WRITE), -EBADF);
	assert_int_equal(create_fence(scene->vmm, PRODUCER, 1, 2, event), 0);
	assert_int_equal(attach(scene, 2, dma_buf, WRITE), -ENOTTY);
	assert_waits(dma_buf, false, false);
	finish(scene, 1);
	close(dma_buf);
}

TEST_SCENE(attaching_without_descriptors_is_emfile, VGF_WAIT_HOST, NULL)
{
	int dma_buf = make_buffer(scene), ret = -1;

	produce(scene, 0, 1);
	for (unsigned int more = 0; ret < 0; more++) {
		limit_fds(more);
		ret = attach(scene, 1, dma_buf, WRITE);
		unlimit_fds();
		assert_true(ret == 0 || ret == -EMFILE);
		assert_waits(dma_buf, ret == 0, ret == 0);
		assert_true(more < 8);
	}
	finish(scene, 1);
	close(dma_buf);
}

/* What is attached later keeps a descriptor of the buffer, and that counts. */
TEST_SCENE(attaching_later_is_bounded_by_max_fds, VGF_WAIT_HOST,
	&((struct vgf_options){ .limits.max_fds = 3 }))
{
	int dma_buf = make_buffer(scene);

	produce(scene, 0, 1);
	scene->producer->given_fd = make_sync_file(scene, 2);
	assert_int_equal(submit(scene->vmm, PRODUCER, 1, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(attach(scene, 2, dma_buf, READ), 1);
	/* The third one is for the work that everything else may wait for. */
	assert_int_equal(attach(scene, 2, dma_buf, READ), -EMFILE);
	assert_int_equal(get_stats(scene->vmm).fds, 2);
	finish(scene, 1);
	vmm_dispatch(scene->vmm);
	assert_waits(dma_buf, false, true);
	finish(scene, 2);
	vmm_dispatch(scene->vmm);
	assert_idle(scene->vmm);
	close(dma_buf);
}

TEST_SCENE(destroying_lets_go_of_dma_bufs, VGF_WAIT_HOST, NULL)
{
	int dma_buf = make_buffer(scene);

	produce(scene, 0, 1);
	assert_int_equal(submit(scene->vmm, PRODUCER, 1, 2, ID(1), NO_IN_FENCES), 1);
	assert_int_equal(attach(scene, 1, dma_buf, READ), 0);
	assert_int_equal(attach(scene, 2, dma_buf, WRITE), 1);
	vgf_device_destroy(scene->vmm->device);
	scene->vmm->device = NULL;
	/* What runs is still on it, what never ran never was. */
	assert_waits(dma_buf, false, true);
	finish(scene, 1);
	assert_waits(dma_buf, false, false);
	close(dma_buf);
}

/* ---- Fences of dma-bufs as in-fences ------------------------------------------------------ */

static int submit_after(struct scene *scene, int fence_fd)
{
	const struct vgf_submission submission = {
		.fence = { .fence_id = CONSUMER_ID, .ctx_id = CONSUMER, .ring = 0 },
		.flags = VGF_FENCED,
		.in_fence_fds = &fence_fd,
		.num_in_fence_fds = fence_fd >= 0,
	};

	return vgf_submit(scene->vmm->device, &submission, NULL);
}

/* Somebody else writes to the buffer. The consumer knows that from the buffer alone. */
static int copy_of_buffer(enum vgf_wait wait, bool with_in_fence)
{
	struct scene *scene = scene_create(wait, NULL);
	int dma_buf = make_buffer(scene), writer = make_sync_file(scene, 1), ready, copy;

	assert_int_equal(vgf_dma_buf_import_sync_file(dma_buf, WRITE, writer), 0);
	close(writer);
	ready = vgf_dma_buf_export_sync_file(dma_buf, READ);
	assert_true(ready >= 0);
	assert_int_equal(submit_after(scene, with_in_fence ? ready : -1),
		with_in_fence && wait == VGF_WAIT_HOST);
	close(ready);
	vmm_dispatch(scene->vmm);
	consumer_work(scene);
	assert_int_equal(scene->copy, with_in_fence ? -1 : 0);
	if (with_in_fence && wait == VGF_WAIT_DRIVER) {
		assert_true(scene->waits_for == VGF_NO_FENCE_ID);
	}
	finish(scene, 1);
	vmm_dispatch(scene->vmm);
	consumer_work(scene);
	copy = scene->copy;
	close(dma_buf);
	scene_destroy(scene);
	return copy;
}

TEST(the_host_waits_for_the_fences_of_a_dma_buf)
{
	assert_int_equal(copy_of_buffer(VGF_WAIT_HOST, true), 1);
	assert_int_equal(copy_of_buffer(VGF_WAIT_HOST, false), 0);
}

TEST(a_driver_waits_for_the_fences_of_a_dma_buf)
{
	assert_int_equal(copy_of_buffer(VGF_WAIT_DRIVER, true), 1);
	assert_int_equal(copy_of_buffer(VGF_WAIT_DRIVER, false), 0);
}

/* Two guests' devices and nothing but the buffer between them. */
TEST(a_fence_goes_from_device_to_device_by_a_dma_buf)
{
	struct scene *from = scene_create(VGF_WAIT_HOST, NULL);
	struct scene *to = scene_create(VGF_WAIT_DRIVER, NULL);
	int dma_buf = make_buffer(from), ready;

	produce(from, 0, 1);
	assert_int_equal(attach(from, 1, dma_buf, WRITE), 0);
	ready = vgf_dma_buf_export_sync_file(dma_buf, READ);
	assert_int_equal(submit_after(to, ready), 0);
	close(ready);
	consumer_work(to);
	assert_int_equal(to->copy, -1);
	finish(from, 1);
	consumer_work(to);
	assert_int_equal(to->copy, 0);
	close(dma_buf);
	scene_destroy(to);
	scene_destroy(from);
}

/* ---- The software GPU --------------------------------------------------------------------- */

struct machine {
	struct vgf_device *device;
	struct soft_gpu *gpu;
	uint64_t last[2];
	uint32_t num_retired, num_failed;
};

static void count_retired(void *cookie, const struct vgf_retired *retired)
{
	const struct vgf_fence_name *fence = &retired->fence;
	int status = retired->status;
	struct machine *machine = cookie;

	assert_true(fence->fence_id > machine->last[fence->ctx_id - 1]);
	machine->last[fence->ctx_id - 1] = fence->fence_id;
	machine->num_retired++;
	machine->num_failed += status < 0;
}

static void machine_init(struct machine *machine, enum vgf_wait wait, uint32_t max_fds)
{
	const struct vgf_callbacks callbacks = { .size = sizeof(struct vgf_callbacks),
		.retire = count_retired };
	const struct vgf_options options = { .size = sizeof(struct vgf_options),
		.limits.max_fds = max_fds };
	const struct soft_gpu_options gpu_options = { .fences = SOFT_GPU_FENCES_VGEM,
		.wait = wait };

	close(need_vgem());
	*machine = (struct machine){ 0 };
	assert_int_equal(vgf_device_create(&callbacks, machine, &options, &machine->device), 0);
	assert_int_equal(soft_gpu_create(machine->device, &gpu_options, &machine->gpu), 0);
	assert_int_equal(soft_gpu_context_create(machine->gpu, 1, 1), 0);
	assert_int_equal(soft_gpu_context_create(machine->gpu, 2, 2), 0);
}

static void machine_finish(struct machine *machine)
{
	soft_gpu_reset(machine->gpu);
	vgf_device_destroy(machine->device);
	soft_gpu_destroy(machine->gpu);
}

static int run_job(struct machine *machine, uint32_t ctx_id, int32_t ring, uint64_t fence_id,
	uint32_t busy_us, const uint64_t *in_fences, uint32_t num_in_fences)
{
	const uint32_t command[] = { htole32(SOFT_GPU_BUSY), htole32(busy_us) };
	const struct vgf_submission submission = {
		.fence = { .fence_id = fence_id, .ctx_id = ctx_id, .ring = ring },
		.flags = VGF_FENCED | VGF_SHAREABLE,
		.in_fences = in_fences,
		.num_in_fences = num_in_fences,
		.command = command,
		.size = sizeof(command),
	};

	return vgf_submit(machine->device, &submission, NULL);
}

static void wait_for_retired(struct machine *machine, uint32_t count)
{
	while (machine->num_retired < count) {
		struct pollfd fd = { .fd = vgf_device_get_fd(machine->device), .events = POLLIN };

		/* A net for a test that has gone wrong. A round that only ran work retires
		 * nothing. */
		assert_int_equal(poll(&fd, 1, 20000), 1);
		assert_true(vgf_device_dispatch(machine->device, 0) >= 0);
	}
}

static uint64_t num_jobs(void)
{
	const char *text = getenv("VGF_TEST_JOBS");

	return text ? strtoull(text, NULL, 10) : 100000;
}

/* Two contexts by turns, more jobs than descriptors. Each waits for a job of the other context that
 * may still run, some for two. */
static void many_jobs_leave_no_descriptor(enum vgf_wait wait, uint64_t count)
{
	const uint32_t max_fds = 48, window = 64;
	struct machine machine;
	struct vgf_stats stats = { .size = sizeof(stats) };
	int before;

	machine_init(&machine, wait, max_fds);
	before = count_fds(); /* with one buffer of the pool */
	for (uint64_t id = 1; id <= count; id++) {
		const uint64_t in_fences[] = { id - 7, id - 2 };
		uint32_t num_in_fences = id > 7 ? 1 + (id % 16 == 0) : 0;

		assert_true(run_job(&machine, 1 + (uint32_t)(id % 2), 0, id, 5, in_fences,
				    num_in_fences) >= 0);
		if (id - machine.num_retired >= window) {
			wait_for_retired(&machine, (uint32_t)(id - window / 2));
		}
	}
	wait_for_retired(&machine, (uint32_t)count);
	vgf_device_get_stats(machine.device, &stats);
	assert_int_equal(stats.retired, count);
	assert_int_equal(machine.num_failed, 0);
	assert_int_equal(stats.fds, 0);
	assert_in_range(stats.peak_fds, 2, max_fds);
	assert_true(wait == VGF_WAIT_HOST ? stats.run_host > 0 : stats.run_driver > 0);
	soft_gpu_reset(machine.gpu); /* nothing is left to signal */
	/* Idle buffers: no more than there were jobs at once. */
	assert_in_range(count_fds(), before, before + (int)window);
	machine_finish(&machine);
}

TEST(many_jobs_of_a_driver_that_waits)
{
	many_jobs_leave_no_descriptor(VGF_WAIT_DRIVER, num_jobs() / 2);
}

TEST(many_jobs_that_the_host_waits_for)
{
	many_jobs_leave_no_descriptor(VGF_WAIT_HOST, num_jobs() / 2);
}

/* Three in-fences are merged in two steps: the job's own fence takes one or two descriptors, a
 * merge one each, and the tree has two levels. */
static bool is_held_with_so_many_more(unsigned int more)
{
	const uint64_t in_fences[] = { 1, 2, 3 };
	struct machine machine;
	struct vgf_stats stats = { .size = sizeof(stats) };
	int ret;

	machine_init(&machine, VGF_WAIT_DRIVER, 0);
	for (uint64_t id = 1; id <= 3; id++) {
		/* On any machine it is not done before the last job is submitted; then it is
		 * dropped. */
		assert_int_equal(run_job(&machine, 1, (int32_t)id, id, 5000000, NULL, 0), 0);
	}
	limit_fds(more);
	ret = run_job(&machine, 2, 0, 4, 10, in_fences, 3);
	unlimit_fds();
	assert_in_range(ret, 0, 1);
	vgf_device_get_stats(machine.device, &stats);
	assert_int_equal(stats.run_driver, !ret);
	machine_finish(&machine);
	return ret;
}

TEST(the_host_waits_where_a_merge_finds_no_descriptor)
{
	unsigned int more = 0;

	while (is_held_with_so_many_more(more)) {
		more++;
	}
	/* A buffer, its sync file, and what two merges need at once. */
	assert_in_range(more, 4, 6);
}

/* ---- vgem's patience ------------------------------------------------------------------------ */

/* After 10 s the kernel ends the fence. Up to 6.12 at least Linux gives it no error then. What
 * counts is that everything goes on, and that an error, if there is one, is passed on. */
static void time_out(void)
{
	const struct vgf_options options = { .size = sizeof(struct vgf_options),
		.stall_ns = UINT64_MAX };
	struct scene *scene = scene_create(VGF_WAIT_HOST, &options);
	uint64_t start_ns = now_ns();
	int copy, status;

	produce(scene, 0, 1);
	produce(scene, 0, 2);
	assert_int_equal(submit(scene->vmm, CONSUMER, 0, CONSUMER_ID, ID(1), NO_IN_FENCES), 1);
	copy = export_fence(scene->vmm->device, 1);
	finish(scene, 2);
	assert_int_equal(vmm_dispatch(scene->vmm), 0);
	vmm_wait(scene->vmm, 2);
	assert_true(now_ns() - start_ns >= 9 * NS_PER_S);
	status = vgf_sync_file_status(copy);
	assert_retired(scene->vmm, 0, PRODUCER, 0, 1, status < 0 ? status : 0);
	assert_int_equal(get_stats(scene->vmm).failed, status < 0);
	assert_retired(scene->vmm, 1, PRODUCER, 0, 2, 0);
	assert_int_equal(scene->copy, 1);
	assert_int_equal(vgem_fence_signal(scene->vgem, &scene->fences[1]), -ETIMEDOUT);
	vgem_fence_finish(scene->vgem, &scene->fences[1]);
	close(copy);
	scene_destroy(scene);
}

/* Meanwhile a GPU takes longer than that, and must notice that its fence was not honest. */
TEST(a_fence_that_times_out_holds_nothing_up)
{
	struct machine machine;

	machine_init(&machine, VGF_WAIT_DRIVER, 0);
	assert_int_equal(run_job(&machine, 1, 0, 1, 11500000, NULL, 0), 0);
	time_out();
	wait_for_retired(&machine, 1);
	for (int i = 0; soft_gpu_num_expired(machine.gpu) == 0; i++) {
		poll(NULL, 0, 100);
		assert_true(i < 200);
	}
	machine_finish(&machine);
}
