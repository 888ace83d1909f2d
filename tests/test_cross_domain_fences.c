/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * Fences that go to a compositor with a message, and those that come from it. Eventfds stand for
 * sync files, and a file for each dma-buf: what they are, and what is on a dma-buf, a test says.
 * test_cross_domain_kernel.c has real ones.
 */

#include "cross_domain_guest.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vgfence/dma_buf.h>
#include <vgfence/sync_file.h>

#include "gpu_private.h"
#include "udmabuf.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define UNSPECIFIED VIRTIO_GPU_RESP_ERR_UNSPEC
#define NO_MEMORY VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY
#define BAD_PARAMETER VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER

#define PAGE 4096u
#define BLOB 10u
#define FENCE 1u /* in-fences */
#define WAIT_RING 5

static struct cross_guest cross;
static struct guest *const guest = &cross.guest;

/* ---- Doubles -------------------------------------------------------------------------------- */

static bool has_sync_files;     /* whether the kernel gives any of dma-bufs */
static bool are_sync_files;     /* what the device takes descriptors of its renderers for */
static int num_in_file;         /* fences in each of these */
static bool come_as_sync_files; /* and those of the compositor */
static int import_error;
static unsigned int num_imports;
static ino_t imported_to;
static int on_dma_buf; /* an eventfd for what is on any dma-buf; below 0: nothing */
static int peer_bytes; /* of the compositor's when a fence was imported */

int __wrap_udmabuf_create(const struct file_piece *pieces, uint32_t count);
int __wrap_udmabuf_create(const struct file_piece *pieces, uint32_t count)
{
	assert_int_equal(count, 1);
	return fcntl(pieces[0].fd, F_DUPFD_CLOEXEC, 0);
}

int __wrap_vgf_dma_buf_export_sync_file(int dma_buf_fd, uint32_t access);
int __wrap_vgf_dma_buf_export_sync_file(int dma_buf_fd, uint32_t access)
{
	assert_true(fcntl(dma_buf_fd, F_GETFD) >= 0);
	assert_int_equal(access, VGF_ACCESS_WRITE);
	if (!has_sync_files) {
		return -ENOTTY;
	}
	return on_dma_buf < 0 ? make_fence(true) : fcntl(on_dma_buf, F_DUPFD_CLOEXEC, 0);
}

static ino_t file_of(int fd)
{
	struct stat file;

	assert_int_equal(fstat(fd, &file), 0);
	return file.st_ino;
}

int __wrap_vgf_dma_buf_import_sync_file(int dma_buf_fd, uint32_t access, int fence_fd);
int __wrap_vgf_dma_buf_import_sync_file(int dma_buf_fd, uint32_t access, int fence_fd)
{
	char data[64];

	assert_int_equal(access, VGF_ACCESS_WRITE);
	assert_int_equal(vgf_sync_file_poll(fence_fd), 0);
	peer_bytes = (int)recv(cross.peer, data, sizeof(data), MSG_DONTWAIT | MSG_PEEK);
	num_imports++;
	imported_to = file_of(dma_buf_fd);
	return import_error;
}

int __wrap_vgf_sync_file_info(int fd, struct vgf_sync_file_fence *fences, size_t count);
int __wrap_vgf_sync_file_info(int fd, struct vgf_sync_file_fence *fences, size_t count)
{
	(void)fences;
	assert_int_equal(count, 0);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	return are_sync_files ? num_in_file : -ENOTTY;
}

bool __wrap_fd_is_sync_file(int fd);
bool __wrap_fd_is_sync_file(int fd)
{
	assert_true(fcntl(fd, F_GETFD) >= 0);
	return come_as_sync_files;
}

static void set_doubles(void)
{
	has_sync_files = are_sync_files = come_as_sync_files = true;
	num_in_file = 1;
	import_error = 0;
	num_imports = 0;
	imported_to = 0;
	on_dma_buf = -1;
}

static void start(void)
{
	set_doubles();
	cross_start_channel(&cross);
	assert_int_equal(create_blob(guest, BLOB, 16 * PAGE, PAGE), OK);
	assert_int_equal(attach_context(guest, CONTEXT, BLOB), OK);
}

static void start_without(void)
{
	set_doubles();
	has_sync_files = false;
	cross_start_channel(&cross);
}

#define TEST_FENCES(name) TEST_BETWEEN(name, start(), cross_stop(&cross))
#define TEST_WITHOUT(name) TEST_BETWEEN(name, start_without(), cross_stop(&cross))

/* ---- What is sent --------------------------------------------------------------------------- */

static const struct cross_identifier with_fence = { CROSS_DOMAIN_ID_SYNC, 0 };
static const struct cross_identifier on_blob = { CROSS_DOMAIN_ID_FENCED_BLOB, BLOB };

static uint32_t send_behind(
	uint64_t in_fence, int32_t ring, const struct cross_identifier *identifiers, uint32_t count)
{
	uint8_t stream[512];
	const struct cross_submission submission = {
		.ring = ring,
		.fence_id = 1000 + ++cross.last_fence,
		.stream = stream,
		.size = cross_make_send(stream, "frame", 5, identifiers, count),
		.in_fence = in_fence,
	};

	return cross_submit(guest, &submission);
}

/* The descriptor that comes with a message, or -1. */
static int expect_frame(void)
{
	char data[64];
	uint32_t num_fds;
	int fds[64];

	assert_int_equal(peer_receive(cross.peer, data, sizeof(data), fds, &num_fds), 5);
	assert_memory_equal(data, "frame", 5);
	assert_true(num_fds <= 1);
	return num_fds == 1 ? fds[0] : -1;
}

static void expect_nothing(void)
{
	char data[64];

	cross_settle(guest);
	assert_int_equal(recv(cross.peer, data, sizeof(data), MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

/* Gives a fence of create_test_fence a descriptor, and returns the end that signals it. */
static int publish_fence(uint64_t id)
{
	struct vgf_device *device = guest->gpu->renderer->ops->get_device(guest->gpu->renderer);
	const struct vgf_fence_name *name = &guest->held[guest->test_fences[id]];
	int fence = make_fence(false);

	assert_int_equal(vgf_fence_publish_take(device, name, fcntl(fence, F_DUPFD_CLOEXEC, 0)), 0);
	return fence;
}

static int create_published(uint64_t id)
{
	create_test_fence(guest, id);
	return publish_fence(id);
}

static void signal_fd(int fd)
{
	const uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static void expect_fence(int fd, bool signalled)
{
	assert_true(fd >= 0);
	assert_int_equal(vgf_sync_file_poll(fd), signalled);
}

/* ---- The capability set --------------------------------------------------------------------- */

static uint32_t read_fences(void)
{
	const struct virtio_gpu_get_capset request = {
		.hdr = header(VIRTIO_GPU_CMD_GET_CAPSET, 0),
		.capset_id = htole32(CAPSET_CROSS_DOMAIN),
	};
	struct cross_domain_capset capset;

	assert_int_equal(guest_ask(guest, &request, sizeof(request), &capset, sizeof(capset)),
		VIRTIO_GPU_RESP_OK_CAPSET);
	for (size_t i = 0; i < sizeof(capset.unused) / sizeof(capset.unused[0]); i++) {
		assert_int_equal(capset.unused[i], 0);
	}
	return le32toh(capset.fences);
}

TEST_FENCES(the_capability_set_says_which_fences_there_are)
{
	assert_int_equal(offsetof(struct cross_domain_capset, fences), 64);
	assert_int_equal(read_fences(),
		CROSS_DOMAIN_SENDS_FENCES | CROSS_DOMAIN_ATTACHES_FENCES |
			CROSS_DOMAIN_RECEIVES_FENCES);
}

TEST_WITHOUT(without_sync_files_the_guest_knows_it_and_is_refused)
{
	assert_int_equal(read_fences(), CROSS_DOMAIN_RECEIVES_FENCES);
	assert_int_equal(cross_send(guest, "frame", 5, &with_fence, 1), UNSPECIFIED);
	assert_non_null(strstr(guest->watched_warning,
		"SEND: a fence: there are no sync files without /dev/udmabuf"));
	expect_nothing();
}

/* ---- With a message ------------------------------------------------------------------------- */

TEST_FENCES(a_message_goes_at_once_with_its_fence)
{
	int fence = create_published(FENCE), sent;

	assert_int_equal(cross_type(guest, send_behind(FENCE, 2, &with_fence, 1)), OK);
	sent = expect_frame();
	expect_fence(sent, false);
	signal_fd(fence);
	expect_fence(sent, true);
	close(sent);
	close(fence);
}

/* The control: the same fence, which the message does not take. */
TEST_FENCES(a_message_that_takes_no_fence_waits_for_it)
{
	int fence = create_published(FENCE);
	uint32_t held = send_behind(FENCE, 2, NULL, 0);

	assert_false(cross_is_done(guest, held));
	expect_nothing();
	signal_fd(fence);
	assert_int_equal(cross_type(guest, held), OK);
	assert_int_equal(expect_frame(), -1);
	close(fence);
}

TEST_FENCES(without_an_in_fence_the_fence_has_signalled)
{
	int sent;

	assert_int_equal(cross_type(guest, send_behind(0, 2, &with_fence, 1)), OK);
	sent = expect_frame();
	expect_fence(sent, true);
	close(sent);
}

TEST_FENCES(an_in_fence_that_has_retired_is_one_that_has_signalled)
{
	int sent;

	create_test_fence(guest, FENCE);
	signal_test_fence(guest, FENCE);
	cross_settle(guest);
	assert_int_equal(cross_type(guest, send_behind(FENCE, 2, &with_fence, 1)), OK);
	sent = expect_frame();
	expect_fence(sent, true);
	close(sent);
}

TEST_FENCES(a_message_waits_until_its_fence_has_a_descriptor)
{
	uint32_t held;
	int fence, sent;

	create_test_fence(guest, FENCE);
	held = send_behind(FENCE, 2, &with_fence, 1);
	assert_false(cross_is_done(guest, held));
	expect_nothing();
	fence = publish_fence(FENCE);
	assert_int_equal(cross_type(guest, held), OK);
	sent = expect_frame();
	expect_fence(sent, false);
	signal_fd(fence);
	expect_fence(sent, true);
	close(sent);
	close(fence);
}

TEST_FENCES(a_fence_that_never_has_a_descriptor_is_waited_for)
{
	uint32_t held;
	int sent;

	create_test_fence(guest, FENCE);
	held = send_behind(FENCE, 2, &with_fence, 1);
	assert_false(cross_is_done(guest, held));
	expect_nothing();
	signal_test_fence(guest, FENCE);
	assert_int_equal(cross_type(guest, held), OK);
	sent = expect_frame();
	expect_fence(sent, true);
	close(sent);
}

/* An eventfd is nothing that a compositor takes. */
TEST_FENCES(a_fence_that_is_no_sync_file_is_waited_for)
{
	int fence = create_published(FENCE), sent;
	uint32_t held;

	are_sync_files = false;
	held = send_behind(FENCE, 2, &with_fence, 1);
	assert_false(cross_is_done(guest, held));
	expect_nothing();
	signal_fd(fence);
	assert_int_equal(cross_type(guest, held), OK);
	sent = expect_frame();
	expect_fence(sent, true);
	close(sent);
	close(fence);
}

TEST_FENCES(a_sync_file_of_many_fences_is_waited_for)
{
	int fence = create_published(FENCE), sent;
	uint32_t held;

	num_in_file = MAX_CROSS_DOMAIN_HANDED_OVER;
	assert_int_equal(cross_type(guest, send_behind(FENCE, 2, &with_fence, 1)), OK);
	sent = expect_frame();
	expect_fence(sent, false);
	close(sent);
	num_in_file++;
	held = send_behind(FENCE, 2, &with_fence, 1);
	assert_false(cross_is_done(guest, held));
	expect_nothing();
	signal_fd(fence);
	assert_int_equal(cross_type(guest, held), OK);
	sent = expect_frame();
	expect_fence(sent, true);
	close(sent);
	close(fence);
}

/* What could not be made then is made once they have signalled. */
TEST_FENCES(without_a_descriptor_for_the_fence_it_is_waited_for)
{
	int fence = create_published(FENCE), sent;
	uint8_t stream[512];
	const struct cross_submission submission = {
		.ring = 2,
		.fence_id = 1001,
		.stream = stream,
		.size = cross_make_send(stream, "frame", 5, &with_fence, 1),
		.in_fence = FENCE,
	};
	uint32_t held;

	limit_fds(1); /* for the one that has signalled */
	held = cross_submit(guest, &submission);
	assert_false(cross_is_done(guest, held));
	unlimit_fds();
	expect_nothing();
	signal_fd(fence);
	assert_int_equal(cross_type(guest, held), OK);
	sent = expect_frame();
	expect_fence(sent, true);
	close(sent);
	close(fence);
}

/* INIT fails with an error after which work that could not take its in-fences comes again. */
TEST_FENCES(a_message_that_has_failed_does_not_come_again)
{
	const struct cross_domain_init init = {
		.header = { .command = CROSS_DOMAIN_INIT, .size = htole16(sizeof(init)) },
		.channel_type = htole32(7),
	};
	int fence = create_published(FENCE);
	uint8_t stream[512];
	struct cross_submission submission = {
		.ctx_id = 2, .ring = 1, .fence_id = 1001, .stream = stream, .in_fence = FENCE
	};
	uint32_t failed;

	assert_int_equal(cross_create_context(guest, 2), OK);
	memcpy(stream, &init, sizeof(init));
	submission.size = sizeof(init) +
		cross_make_send(stream + sizeof(init), "frame", 5, &with_fence, 1);
	failed = cross_submit(guest, &submission);
	assert_int_equal(cross_type(guest, failed), UNSPECIFIED);
	assert_non_null(strstr(guest->watched_warning, "INIT: channel type 7"));
	signal_fd(fence);
	expect_nothing();
	close(fence);
}

TEST_FENCES(all_messages_of_a_submission_go_with_its_fence)
{
	const struct cross_identifier three[] = { with_fence, { CROSS_DOMAIN_ID_BLOB, BLOB },
		with_fence };
	int fence = create_published(FENCE), fds[64];
	uint8_t stream[1024];
	size_t size = cross_make_send(stream, "plain", 5, NULL, 0);
	struct cross_submission submission = { .ring = 2, .stream = stream, .in_fence = FENCE };
	uint32_t num_fds;
	char data[64];

	submission.size = size + cross_make_send(stream + size, "frame", 5, three, 3);
	assert_int_equal(cross_type(guest, cross_submit(guest, &submission)), OK);
	assert_int_equal(peer_receive(cross.peer, data, 5, fds, &num_fds), 5);
	assert_int_equal(num_fds, 0);
	assert_int_equal(peer_receive(cross.peer, data, 5, fds, &num_fds), 5);
	assert_int_equal(num_fds, 3);
	expect_fence(fds[0], false);
	assert_int_equal(file_of(fds[1]), file_of(guest->memory_fd));
	expect_fence(fds[2], false);
	for (uint32_t i = 0; i < num_fds; i++) {
		close(fds[i]);
	}
	close(fence);
}

TEST_FENCES(the_fence_of_a_message_has_the_number_0)
{
	const struct cross_identifier other = { CROSS_DOMAIN_ID_SYNC, 1 };

	assert_int_equal(cross_send(guest, "frame", 5, &other, 1), BAD_PARAMETER);
	assert_non_null(strstr(guest->watched_warning, "that of all in-fences is 0"));
	expect_nothing();
}

TEST_FENCES(without_descriptors_a_fence_is_not_sent)
{
	limit_fds(0);
	assert_int_equal(cross_send(guest, "frame", 5, &with_fence, 1), NO_MEMORY);
	unlimit_fds();
	expect_nothing();
}

TEST_FENCES(fences_that_wait_count_as_descriptors)
{
	struct cross_identifier fences[CROSS_DOMAIN_MAX_IDENTIFIERS];
	uint8_t stream[512];
	struct cross_submission submission = { .ring = 2, .stream = stream, .in_fence = FENCE };
	uint32_t type, count = 0;

	for (uint32_t i = 0; i < CROSS_DOMAIN_MAX_IDENTIFIERS; i++) {
		fences[i] = i % 2 == 0 ? with_fence : on_blob;
	}
	submission.size = cross_make_send(stream, "x", 1, fences, CROSS_DOMAIN_MAX_IDENTIFIERS);
	create_test_fence(guest, FENCE);
	while ((type = cross_type(guest, cross_submit(guest, &submission))) == OK) {
		count++;
	}
	assert_int_equal(type, NO_MEMORY);
	assert_true(count > 0);
	assert_true(count * CROSS_DOMAIN_MAX_IDENTIFIERS <= MAX_CROSS_DOMAIN_FDS / 4);
	expect_nothing();
}

/* ---- On a dma-buf --------------------------------------------------------------------------- */

TEST_FENCES(a_fence_is_on_the_dma_buf_before_the_message_goes)
{
	int fence = create_published(FENCE);

	assert_int_equal(cross_type(guest, send_behind(FENCE, 2, &on_blob, 1)), OK);
	assert_int_equal(num_imports, 1);
	assert_int_equal(imported_to, file_of(guest->memory_fd));
	assert_int_equal(peer_bytes, -1);
	assert_int_equal(expect_frame(), -1);
	close(fence);
}

TEST_FENCES(without_an_in_fence_nothing_is_on_the_dma_buf)
{
	assert_int_equal(cross_type(guest, send_behind(0, 2, &on_blob, 1)), OK);
	assert_int_equal(num_imports, 0);
	assert_int_equal(expect_frame(), -1);
}

/* An old kernel, or a file that is no dma-buf. */
TEST_FENCES(what_takes_no_fence_has_the_message_wait)
{
	int fence = create_published(FENCE);
	uint32_t held;

	import_error = -ENOTTY;
	held = send_behind(FENCE, 2, &on_blob, 1);
	assert_false(cross_is_done(guest, held));
	assert_int_equal(num_imports, 1);
	expect_nothing();
	signal_fd(fence);
	assert_int_equal(cross_type(guest, held), OK);
	assert_int_equal(expect_frame(), -1);
	close(fence);
}

TEST_FENCES(dma_bufs_that_get_a_fence_have_a_limit)
{
	struct cross_identifier blobs[CROSS_DOMAIN_MAX_IDENTIFIERS];
	int fence = create_published(FENCE);
	uint8_t stream[1024];
	struct cross_submission submission = { .ring = 2, .stream = stream, .in_fence = FENCE };

	for (uint32_t i = 0; i < CROSS_DOMAIN_MAX_IDENTIFIERS; i++) {
		blobs[i] = on_blob;
	}
	submission.size = cross_make_send(stream, "frame", 5, blobs, MAX_CROSS_DOMAIN_FENCED);
	assert_int_equal(cross_type(guest, cross_submit(guest, &submission)), OK);
	assert_int_equal(num_imports, MAX_CROSS_DOMAIN_FENCED);
	assert_int_equal(expect_frame(), -1);
	submission.size += cross_make_send(stream + submission.size, "frame", 5, &on_blob, 1);
	assert_int_equal(cross_type(guest, cross_submit(guest, &submission)), BAD_PARAMETER);
	assert_non_null(strstr(guest->watched_warning, "more than 28 blobs that get the fence"));
	expect_nothing();
	close(fence);
}

TEST_FENCES(a_dma_buf_that_gets_a_fence_is_the_contexts)
{
	const struct cross_identifier other = { CROSS_DOMAIN_ID_FENCED_BLOB, BLOB + 1 };

	assert_int_equal(create_blob(guest, BLOB + 1, 17 * PAGE, PAGE), OK);
	assert_int_equal(cross_send(guest, "frame", 5, &other, 1), BAD_PARAMETER);
	expect_nothing();
}

/* ---- From the compositor -------------------------------------------------------------------- */

/* Sends a fence to the guest; returns its number. */
static uint32_t receive_fence(int fence)
{
	const uint32_t token = cross_poll(&cross);
	struct cross_domain_send_receive receive;

	peer_send(cross.peer, "release", 7, &fence, 1);
	assert_int_equal(cross_type(guest, token), OK);
	receive = ring_receive(&cross);
	assert_int_equal(le32toh(receive.data_size), 7);
	assert_int_equal(le32toh(receive.num_identifiers), 1);
	assert_int_equal(le32toh(receive.identifier_types[0]), CROSS_DOMAIN_ID_SYNC);
	assert_int_equal(receive.identifier_sizes[0], 0);
	return le32toh(receive.identifiers[0]);
}

static uint32_t wait_of(uint32_t type, uint32_t id, uint64_t fence_id, size_t size)
{
	const struct cross_domain_wait_fence wait = {
		.header = { .command = CROSS_DOMAIN_WAIT_FENCE, .size = htole16((uint16_t)size) },
		.identifier_type = htole32(type),
		.identifier = htole32(id),
	};
	const struct cross_submission submission = {
		.ring = fence_id != 0 ? WAIT_RING : ANY_RING,
		.fence_id = fence_id,
		.stream = &wait,
		.size = size,
	};

	return cross_submit(guest, &submission);
}

static uint32_t wait_for(uint32_t type, uint32_t id)
{
	return wait_of(type, id, 1000 + ++cross.last_fence, sizeof(struct cross_domain_wait_fence));
}

/* The watchdog says nothing of it: others need not signal. */
TEST_FENCES(a_fence_that_comes_signals_one_of_the_guests)
{
	int fence = make_fence(false);
	uint32_t id = receive_fence(fence), token = wait_for(CROSS_DOMAIN_ID_SYNC, id);

	assert_int_equal(id % 2, 1);
	assert_false(cross_is_done(guest, token));
	signal_fd(fence);
	assert_int_equal(cross_type(guest, token), OK);
	close(fence);
}

TEST_FENCES(fences_that_come_retire_in_order_on_their_ring)
{
	int first = make_fence(false), second = make_fence(false);
	uint32_t first_id = receive_fence(first), second_id = receive_fence(second);
	uint32_t tokens[] = { wait_for(CROSS_DOMAIN_ID_SYNC, first_id),
		wait_for(CROSS_DOMAIN_ID_SYNC, second_id) };

	assert_true(first_id != second_id);
	signal_fd(second);
	assert_false(cross_is_done(guest, tokens[1]));
	/* Work on other rings goes on. */
	assert_int_equal(cross_type(guest, send_behind(0, 2, NULL, 0)), OK);
	assert_int_equal(expect_frame(), -1);
	signal_fd(first);
	assert_int_equal(cross_type(guest, tokens[0]), OK);
	assert_int_equal(cross_type(guest, tokens[1]), OK);
	close(first);
	close(second);
}

/* As an in-fence it has a descriptor: so a message takes it back to the compositor at once. */
TEST_FENCES(the_guests_fence_is_one_that_can_be_handed_on)
{
	int fence = make_fence(false), sent;

	wait_for(CROSS_DOMAIN_ID_SYNC, receive_fence(fence));
	assert_int_equal(
		cross_type(guest, send_behind(1000 + cross.last_fence, 2, &with_fence, 1)), OK);
	sent = expect_frame();
	expect_fence(sent, false);
	signal_fd(fence);
	expect_fence(sent, true);
	close(sent);
	close(fence);
}

TEST_FENCES(a_fence_is_waited_for_once)
{
	int fence = make_fence(true);
	uint32_t id = receive_fence(fence);

	assert_int_equal(cross_type(guest, wait_for(CROSS_DOMAIN_ID_SYNC, id)), OK);
	assert_int_equal(cross_type(guest, wait_for(CROSS_DOMAIN_ID_SYNC, id)), BAD_PARAMETER);
	assert_non_null(strstr(guest->watched_warning, "WAIT_FENCE: no fence"));
	close(fence);
}

TEST_FENCES(without_a_fence_of_its_own_it_is_only_closed)
{
	const struct cross_domain_wait_fence *wait;
	int fence = make_fence(false);
	uint32_t id = receive_fence(fence);

	assert_int_equal(
		cross_type(guest, wait_of(CROSS_DOMAIN_ID_SYNC, id, 0, sizeof(*wait))), OK);
	assert_int_equal(cross_type(guest, wait_for(CROSS_DOMAIN_ID_SYNC, id)), BAD_PARAMETER);
	close(fence);
}

TEST_FENCES(bad_waits_are_refused)
{
	int fence = make_fence(true);
	uint32_t id = receive_fence(fence);

	for (size_t cut = 8; cut < sizeof(struct cross_domain_wait_fence); cut += 4) {
		assert_int_equal(cross_type(guest, wait_of(CROSS_DOMAIN_ID_SYNC, id, 0, cut)),
			BAD_PARAMETER);
	}
	assert_int_equal(cross_type(guest, wait_for(0, id)), UNSPECIFIED);
	assert_int_equal(cross_type(guest, wait_for(CROSS_DOMAIN_ID_READ_PIPE, id)), UNSPECIFIED);
	assert_int_equal(
		cross_type(guest, wait_for(CROSS_DOMAIN_ID_FENCED_BLOB, BLOB)), UNSPECIFIED);
	assert_int_equal(cross_type(guest, wait_for(CROSS_DOMAIN_ID_SYNC, 1)), BAD_PARAMETER);
	assert_int_equal(
		cross_type(guest, wait_for(CROSS_DOMAIN_ID_BLOB, BLOB + 1)), BAD_PARAMETER);
	assert_int_equal(cross_type(guest, wait_for(CROSS_DOMAIN_ID_SYNC, id)), OK);
	close(fence);
}

/* What is no fence cannot be waited for, and a fence is no memory. */
TEST_FENCES(a_number_is_of_one_kind)
{
	int fds[2], fence = make_fence(true);
	uint32_t id = receive_fence(fence), pipe_id, token = cross_poll(&cross);

	assert_int_equal(cross_create_blob(guest, CONTEXT, 20, id, PAGE), BAD_PARAMETER);
	assert_int_equal(cross_write(guest, id, "x", 1, false), BAD_PARAMETER);
	come_as_sync_files = false;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	peer_send(cross.peer, "copy", 4, &fds[1], 1);
	assert_int_equal(cross_type(guest, token), OK);
	pipe_id = le32toh(ring_receive(&cross).identifiers[0]);
	assert_int_equal(cross_type(guest, wait_for(CROSS_DOMAIN_ID_SYNC, pipe_id)), BAD_PARAMETER);
	assert_int_equal(cross_write(guest, pipe_id, "x", 1, true), OK);
	close(fds[0]);
	close(fds[1]);
	close(fence);
}

TEST_FENCES(a_wait_is_the_last_command)
{
	struct {
		struct cross_domain_wait_fence wait;
		struct cross_domain_header poll;
	} stream = {
		.wait = { .header = { .command = CROSS_DOMAIN_WAIT_FENCE,
				  .size = htole16(sizeof(stream.wait)) },
			.identifier_type = htole32(CROSS_DOMAIN_ID_BLOB),
			.identifier = htole32(BLOB) },
		.poll = { .command = CROSS_DOMAIN_POLL, .size = htole16(sizeof(stream.poll)) },
	};
	const struct cross_submission submission = {
		.ring = CROSS_DOMAIN_CHANNEL_RING,
		.fence_id = 1000,
		.stream = &stream,
		.size = sizeof(stream),
	};

	assert_int_equal(cross_type(guest, cross_submit(guest, &submission)), BAD_PARAMETER);
	assert_non_null(strstr(guest->watched_warning, "a command behind a WAIT_FENCE"));
}

TEST_FENCES(what_is_on_a_dma_buf_signals_a_fence_of_the_guests)
{
	int reader = make_fence(false);
	uint32_t token;

	assert_int_equal(cross_type(guest, wait_for(CROSS_DOMAIN_ID_BLOB, BLOB)), OK);
	on_dma_buf = reader;
	token = wait_for(CROSS_DOMAIN_ID_BLOB, BLOB);
	assert_false(cross_is_done(guest, token));
	signal_fd(reader);
	assert_int_equal(cross_type(guest, token), OK);
	has_sync_files = false;
	assert_int_equal(cross_type(guest, wait_for(CROSS_DOMAIN_ID_BLOB, BLOB)), UNSPECIFIED);
	assert_non_null(strstr(guest->watched_warning, "it is no dma-buf"));
	close(reader);
}

/* A message more of fences that the guest waits for none of. */
TEST_FENCES(fences_that_come_have_a_limit)
{
	int fence = make_fence(true);
	uint32_t token, id = 0;

	for (uint32_t i = 0; i < MAX_CROSS_DOMAIN_ITEMS; i++) {
		id = receive_fence(fence);
	}
	token = cross_poll(&cross);
	peer_send(cross.peer, "release", 7, &fence, 1);
	assert_int_equal(cross_type(guest, token), OK);
	assert_int_equal(ring_receive(&cross).data_size, 0);
	/* Those that came before can still be waited for. */
	assert_int_equal(cross_type(guest, wait_for(CROSS_DOMAIN_ID_SYNC, id)), OK);
	close(fence);
}

TEST_FENCES(ten_thousand_fences_leave_nothing)
{
	for (int i = 0; i < 10000; i++) {
		int fence = make_fence(true);

		assert_int_equal(
			cross_type(guest, wait_for(CROSS_DOMAIN_ID_SYNC, receive_fence(fence))),
			OK);
		close(fence);
	}
}

TEST_FENCES(a_wait_outlives_its_context)
{
	int fence = make_fence(false);
	uint32_t token = wait_for(CROSS_DOMAIN_ID_SYNC, receive_fence(fence));

	receive_fence(fence); /* which nobody waits for */
	assert_int_equal(destroy_context(guest, CONTEXT), OK);
	assert_false(cross_is_done(guest, token));
	signal_fd(fence);
	assert_int_equal(cross_type(guest, token), OK);
	close(fence);
}

TEST_FENCES(a_reset_ends_a_wait)
{
	int fence = make_fence(false);

	wait_for(CROSS_DOMAIN_ID_SYNC, receive_fence(fence));
	guest_reset(guest);
	close(fence);
}

TEST_FENCES(a_drain_ends_a_wait)
{
	int fence = make_fence(false);
	uint32_t token = wait_for(CROSS_DOMAIN_ID_SYNC, receive_fence(fence));

	gpu_drain(guest->gpu, 0, -1);
	assert_true(cross_type(guest, token) >= UNSPECIFIED);
	close(fence);
}
