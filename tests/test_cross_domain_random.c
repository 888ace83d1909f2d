/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Guests that say anything in cross-domain contexts, and compositors that do anything: what is
 * counted comes back to nothing, the device sleeps when there is nothing to do, and each request
 * is completed.
 */

#include "cross_domain_guest.h"

#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cross_domain_private.h"
#include "sync_doubles.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define NUM_CONTEXTS 4u
#define NUM_PEERS 16u
#define FIRST_BLOB 10u
#define NUM_BLOBS 8u
#define STEPS 5000
#define NUM_SYNC_FILES 32u

static struct cross_guest cross;
static struct guest *const guest = &cross.guest;
static uint64_t seed;
static int peers[NUM_PEERS];
static uint32_t num_peers;
static uint64_t fence_id; /* of the in-fence that is pending; 0: none */
static uint32_t fence_token;
static int fence_fd = -1;              /* below 0: it has no descriptor */
static int sync_files[NUM_SYNC_FILES]; /* of the compositor's, pending */
static uint32_t num_sync_files;
static uint32_t num_messages, num_polls, num_answered, num_waits;

/* The same for the same seed. */
static uint32_t below(uint32_t limit)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)(seed >> 33) % limit;
}

static bool one_in(uint32_t count)
{
	return below(count) == 0;
}

static uint32_t any_context(void)
{
	return 1 + below(NUM_CONTEXTS);
}

/* ---- The guest ------------------------------------------------------------------------------ */

static uint32_t submit_anyhow(uint32_t ctx_id, const void *stream, size_t size)
{
	struct cross_submission submission = {
		.ctx_id = ctx_id,
		.ring = (int32_t)below(5) - 1,
		.fence_id = one_in(2) ? 1000 + ++cross.last_fence : 0,
		.stream = stream,
		.size = size,
		.in_fence = one_in(2) ? fence_id : 0,
	};

	return cross_submit(guest, &submission);
}

static void open_context(uint32_t ctx_id)
{
	cross_create_context(guest, ctx_id);
	attach_context(guest, ctx_id, QUERY_RING);
	attach_context(guest, ctx_id, CHANNEL_RING);
	cross_init(guest, ctx_id, one_in(8) ? below(20) : QUERY_RING,
		one_in(8) ? below(20) : CHANNEL_RING, one_in(8) ? below(4) : CROSS_DOMAIN_WAYLAND);
}

static void send_anything(uint32_t ctx_id)
{
	static uint8_t stream[65536], data[40000];
	struct cross_identifier identifiers[CROSS_DOMAIN_MAX_IDENTIFIERS];
	uint32_t count = one_in(4) ? below(CROSS_DOMAIN_MAX_IDENTIFIERS + 1) : below(3);
	size_t size;

	for (uint32_t i = 0; i < count; i++) {
		bool is_pipe = one_in(3);

		identifiers[i].type = is_pipe ? CROSS_DOMAIN_ID_READ_PIPE :
			one_in(20)            ? below(6) :
			one_in(4)             ? CROSS_DOMAIN_ID_FENCED_BLOB :
						CROSS_DOMAIN_ID_BLOB;
		identifiers[i].id = is_pipe ? CROSS_DOMAIN_FIRST_READ_PIPE + below(64) :
					      FIRST_BLOB + below(NUM_BLOBS);
		if (one_in(4)) {
			identifiers[i] = (struct cross_identifier){ CROSS_DOMAIN_ID_SYNC,
				one_in(20) };
		}
	}
	if (one_in(3)) {
		identifiers[0] = (struct cross_identifier){ CROSS_DOMAIN_ID_SYNC, 0 };
		count = 1;
	}
	size = cross_make_send(
		stream, data, one_in(8) ? below(sizeof(data)) : 1 + below(100), identifiers, count);
	if (one_in(20)) {
		stream[below(20)] = (uint8_t)below(256);
	}
	submit_anyhow(ctx_id, stream, one_in(20) ? below((uint32_t)size) : size);
}

static void write_anything(uint32_t ctx_id)
{
	static uint8_t stream[65536];
	uint32_t size = one_in(4) ? below(40000) : below(100);
	const struct cross_domain_read_write write = {
		.header = { .command = CROSS_DOMAIN_WRITE,
			.size = htole16((uint16_t)(sizeof(write) + size)) },
		.identifier = htole32(3 + 2 * below(20)),
		.hang_up = htole32(one_in(8)),
		.data_size = htole32(size),
	};

	memcpy(stream, &write, sizeof(write));
	submit_anyhow(ctx_id, stream, sizeof(write) + size);
}

static void wait_anyhow(uint32_t ctx_id)
{
	const struct cross_domain_wait_fence wait = {
		.header = { .command = CROSS_DOMAIN_WAIT_FENCE, .size = htole16(sizeof(wait)) },
		.identifier_type = htole32(one_in(10) ? below(6) :
				one_in(3)             ? CROSS_DOMAIN_ID_BLOB :
							CROSS_DOMAIN_ID_SYNC),
		.identifier = htole32(
			one_in(3) ? FIRST_BLOB + below(NUM_BLOBS) : 3 + 2 * below(40)),
	};

	num_waits += !cross_is_done(guest,
		submit_anyhow(ctx_id, &wait, one_in(20) ? below(sizeof(wait)) : sizeof(wait)));
}

static void poll_anyhow(uint32_t ctx_id)
{
	const struct cross_domain_header poll = { .command = CROSS_DOMAIN_POLL,
		.size = htole16(sizeof(poll)) };
	const struct cross_submission submission = {
		.ctx_id = ctx_id,
		.ring = CROSS_DOMAIN_CHANNEL_RING,
		.fence_id = 1000 + ++cross.last_fence,
		.stream = &poll,
		.size = sizeof(poll),
	};
	uint32_t token;

	token = cross_submit(guest, &submission);
	num_polls++;
	num_answered += cross_is_done(guest, token) && cross_type(guest, token) == OK;
}

static void ask_for_image(uint32_t ctx_id)
{
	const struct cross_domain_get_image_requirements image = {
		.header = { .command = CROSS_DOMAIN_GET_IMAGE_REQUIREMENTS,
			.size = htole16(sizeof(image)) },
		.width = htole32(below(5000)),
		.height = htole32(below(5000)),
		.drm_format = htole32(one_in(8) ? 0 : 0x34325258),
	};

	submit_anyhow(ctx_id, &image, sizeof(image));
}

static void change_blob(uint32_t ctx_id)
{
	uint32_t id = FIRST_BLOB + below(NUM_BLOBS);

	switch (below(6)) {
	case 0:
		unref(guest, id);
		break;
	case 3:
		create_blob(guest, id, id * 4096, 4096);
		break;
	case 1:
		detach_context(guest, ctx_id, id);
		break;
	case 2:
		cross_create_blob(guest, ctx_id, id, below(50), 4096 * (1 + (uint64_t)below(3)));
		break;
	default:
		attach_context(guest, ctx_id, id);
		break;
	}
}

static void signal_fd(int fd)
{
	const uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

/* With a descriptor, that of a sync file or another, or without. */
static void make_in_fence(void)
{
	struct vgf_device *device = guest->gpu->renderer->ops->get_device(guest->gpu->renderer);

	fence_id = 1000 + ++cross.last_fence;
	fence_token = guest_hold(guest, 0, VGF_RING_GLOBAL, fence_id);
	if (one_in(3)) {
		return;
	}
	fence_fd = one_in(3) ? make_fence(false) : double_sync_file(false);
	assert_int_equal(vgf_fence_publish_take(device, &guest->held[fence_token],
				 fcntl(fence_fd, F_DUPFD_CLOEXEC, 0)),
		0);
}

static void end_in_fence(void)
{
	if (fence_id != 0 && fence_fd >= 0) {
		signal_fd(fence_fd);
	} else if (fence_id != 0) {
		guest_signal(guest, fence_token);
	}
	if (fence_fd >= 0) {
		close(fence_fd);
	}
	fence_fd = -1;
	fence_id = 0;
	cross_settle(guest);
}

static void change_in_fence(void)
{
	if (fence_id == 0) {
		make_in_fence();
	} else if (one_in(4)) {
		end_in_fence();
	}
}

static void act(void)
{
	uint32_t ctx_id = any_context();

	switch (below(18)) {
	case 0:
		open_context(ctx_id);
		break;
	case 1:
		if (one_in(4)) {
			destroy_context(guest, ctx_id);
			open_context(ctx_id);
		}
		break;
	case 2:
	case 3:
		write_anything(ctx_id);
		break;
	case 4:
		ask_for_image(ctx_id);
		break;
	case 5:
	case 6:
		change_blob(ctx_id);
		break;
	case 7:
		change_in_fence();
		break;
	case 8:
	case 9:
	case 10:
		poll_anyhow(ctx_id);
		break;
	case 11:
	case 12:
		wait_anyhow(ctx_id);
		break;
	default:
		send_anything(ctx_id);
		break;
	}
}

/* ---- The compositor ------------------------------------------------------------------------- */

static void accept_all(void)
{
	int peer;

	while ((peer = accept4(cross.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		if (num_peers == NUM_PEERS) {
			close(peers[--num_peers]);
		}
		peers[num_peers++] = peer;
	}
}

/* The compositor has done what the oldest one stands for. */
static void signal_sync_file(void)
{
	if (num_sync_files > 0) {
		signal_fd(sync_files[0]);
		close(sync_files[0]);
		memmove(sync_files, sync_files + 1, --num_sync_files * sizeof(sync_files[0]));
	}
}

static int make_sync_file(void)
{
	int fd = double_sync_file(false);

	if (num_sync_files == NUM_SYNC_FILES) {
		signal_sync_file();
	}
	sync_files[num_sync_files++] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd;
}

static int make_fd(void)
{
	int fds[2];

	if (one_in(300)) {
		return make_fence(false); /* which ends the channel */
	}
	switch (below(3)) {
	case 0:
		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		close(fds[0]);
		return fds[1];
	case 1:
		return make_sync_file();
	default:
		fds[0] = memfd_create("file", MFD_CLOEXEC);
		assert_int_equal(ftruncate(fds[0], 1 + below(9000)), 0);
		return fds[0];
	}
}

static void speak(int peer)
{
	struct iovec iov = { (char[600]){ 0 }, 1 + below(600) };
	char control[CMSG_SPACE(4 * sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *header = (struct cmsghdr *)control;
	uint32_t count = one_in(3) ? 1 + below(4) : 0;
	int fds[4];

	for (uint32_t i = 0; i < count; i++) {
		fds[i] = make_fd();
	}
	if (count > 0) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		*header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(count * sizeof(int)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(header), fds, count * sizeof(int));
	}
	sendmsg(peer, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	for (uint32_t i = 0; i < count; i++) {
		close(fds[i]);
	}
}

static void listen_to(int peer)
{
	static char data[100000];
	uint32_t num_fds;
	int fds[64];

	num_messages += peer_receive(peer, data, sizeof(data), fds, &num_fds) > 0;
	for (uint32_t i = 0; i < num_fds; i++) {
		if (one_in(2) && write(fds[i], data, below(2000)) < 0) {
			num_messages++; /* nobody reads it any more */
		}
		close(fds[i]);
	}
}

static void react(void)
{
	accept_all();
	if (one_in(8)) {
		signal_sync_file();
	}
	double_on_dma_bufs = num_sync_files > 0 && one_in(2) ? sync_files[0] : -1;
	for (uint32_t i = 0; i < num_peers; i++) {
		if (one_in(4)) {
			listen_to(peers[i]);
		}
		if (one_in(16)) {
			speak(peers[i]);
		}
		if (one_in(400)) {
			close(peers[i]);
			peers[i] = peers[--num_peers];
		}
	}
}

/* ---- The tests ------------------------------------------------------------------------------ */

static void check_counts(void)
{
	const struct cross_domain *domain = (const struct cross_domain *)guest->gpu->renderer;

	assert_int_equal(domain->num_contexts, 0);
	assert_int_equal(domain->num_fds, 0);
	assert_int_equal(domain->memory_size, 0);
	assert_true(TAILQ_EMPTY(&domain->all));
}

static void end_all(void)
{
	end_in_fence();
	while (num_sync_files > 0) {
		signal_sync_file();
	}
	for (uint32_t id = 1; id <= NUM_CONTEXTS; id++) {
		destroy_context(guest, id);
	}
	for (uint32_t id = FIRST_BLOB; id < FIRST_BLOB + NUM_BLOBS; id++) {
		unref(guest, id);
	}
	cross_settle(guest);
	for (uint32_t token = 0; token < GPU_MAX_REQUESTS; token++) {
		assert_int_equal(guest->responses[GPU_QUEUE_CONTROL][token].sent,
			guest->responses[GPU_QUEUE_CONTROL][token].done);
	}
	check_counts();
}

/* Messages that went with a fence that was pending. */
static uint64_t count_handed_over(void)
{
	struct renderer *renderer = guest->gpu->renderer;
	struct vgf_stats stats = { .size = sizeof(stats) };

	vgf_device_get_stats(renderer->ops->get_device(renderer), &stats);
	return stats.run_driver;
}

/* VGF_TEST_SEED: other numbers than those of every day. */
static void run(uint64_t begin, bool resets)
{
	const char *text = getenv("VGF_TEST_SEED");

	uint64_t num_handed_over;

	seed = begin + (text != NULL ? strtoull(text, NULL, 0) : 0);
	cross_start(&cross);
	assert_int_equal(create_blob(guest, QUERY_RING, QUERY_OFFSET, 4096), OK);
	assert_int_equal(create_blob(guest, CHANNEL_RING, CHANNEL_OFFSET, 4096), OK);
	num_peers = num_messages = num_polls = num_answered = num_waits = 0;
	double_refuses_every = 5;
	for (int i = 0; i < STEPS; i++) {
		act();
		react();
		cross_settle(guest);
		if (resets && one_in(500)) {
			fence_id = 0;
			end_in_fence();
			guest_reset(guest);
			check_counts();
			create_blob(guest, QUERY_RING, QUERY_OFFSET, 4096);
			create_blob(guest, CHANNEL_RING, CHANNEL_OFFSET, 4096);
		}
	}
	num_handed_over = count_handed_over();
	end_all();
	/* Not every row of numbers has all of it. */
	assert_true(text != NULL || (num_waits > 0 && num_handed_over > 0));
	assert_true(num_messages > 0 && num_answered > 0 && num_answered < num_polls);
	print_message("%u messages were read, %u of %u POLLs were answered at once, %u "
		      "WAIT_FENCEs were not, %" PRIu64 " messages went with a fence\n",
		num_messages, num_answered, num_polls, num_waits, num_handed_over);
	while (num_peers > 0) {
		close(peers[--num_peers]);
	}
	accept_all();
	while (num_peers > 0) {
		close(peers[--num_peers]);
	}
	cross_stop(&cross);
}

TEST(whatever_is_said_leaves_nothing)
{
	run(1, false);
	run(2, false);
}

TEST(resets_in_between_leave_nothing)
{
	run(3, true);
	run(4, true);
}
