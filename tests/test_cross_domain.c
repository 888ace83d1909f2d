/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Cross-domain contexts: each message, good and bad, and what becomes of those that wait. */

#include "cross_domain_guest.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cross_domain_private.h"
#include "gpu_private.h"
#include "udmabuf.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA
#define UNSPECIFIED VIRTIO_GPU_RESP_ERR_UNSPEC
#define NO_MEMORY VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY
#define BAD_PARAMETER VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER

#define PAGE 4096u
#define FIRST_PIPE (CROSS_DOMAIN_FIRST_READ_PIPE + 1)
#define FORMAT_XR24 0x34325258u
#define FORMAT_R8 0x20203852u

static struct cross_guest cross;
static struct guest *const guest = &cross.guest;

#define TEST_CONTEXT(name) TEST_BETWEEN(name, cross_start(&cross), cross_stop(&cross))
#define TEST_CHANNEL(name) TEST_BETWEEN(name, cross_start_channel(&cross), cross_stop(&cross))

/* In place of the kernel's, which not every machine has: the memory's own file. */
static int udmabuf_error;
static uint32_t num_udmabufs;

int __wrap_udmabuf_create(const struct file_piece *pieces, uint32_t count);
int __wrap_udmabuf_create(const struct file_piece *pieces, uint32_t count)
{
	assert_int_equal(count, 1);
	num_udmabufs++;
	return udmabuf_error < 0 ? udmabuf_error : fcntl(pieces[0].fd, F_DUPFD_CLOEXEC, 0);
}

/* How often the device asks. The library's own loop is in another place. */
static unsigned int num_asked;

int __real_epoll_wait(int epoll_fd, struct epoll_event *events, int max, int timeout_ms);
int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int max, int timeout_ms);
int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int max, int timeout_ms)
{
	num_asked++;
	return __real_epoll_wait(epoll_fd, events, max, timeout_ms);
}

static void expect_bytes(const char *text)
{
	char data[64];
	uint32_t num_fds;
	int fds[64];

	assert_int_equal(peer_receive(cross.peer, data, sizeof(data), fds, &num_fds), strlen(text));
	assert_memory_equal(data, text, strlen(text));
	assert_int_equal(num_fds, 0);
}

static void expect_nothing(void)
{
	char data[64];
	uint32_t num_fds;
	int fds[64];

	assert_int_equal(peer_receive(cross.peer, data, sizeof(data), fds, &num_fds), -EAGAIN);
}

static void expect_end(void)
{
	char data[64];
	uint32_t num_fds;
	int fds[64];

	cross_settle(guest);
	assert_int_equal(peer_receive(cross.peer, data, sizeof(data), fds, &num_fds), 0);
}

static uint32_t send_text(const char *text)
{
	return cross_send(guest, text, strlen(text), NULL, 0);
}

static ino_t file_of(int fd)
{
	struct stat file;

	assert_int_equal(fstat(fd, &file), 0);
	return file.st_ino;
}

static const void *channel_data(size_t header_size)
{
	return guest->memory + CHANNEL_OFFSET + header_size;
}

/* ---- The capability set, contexts ----------------------------------------------------------- */

static bool find_capset(struct guest *asker, struct virtio_gpu_resp_capset_info *info)
{
	const size_t at = sizeof(struct virtio_gpu_ctrl_hdr);

	for (uint32_t i = 0;; i++) {
		const struct virtio_gpu_get_capset_info request = {
			.hdr = header(VIRTIO_GPU_CMD_GET_CAPSET_INFO, 0),
			.capset_index = htole32(i),
		};

		if (guest_ask(asker, &request, sizeof(request), (char *)info + at,
			    sizeof(*info) - at) != VIRTIO_GPU_RESP_OK_CAPSET_INFO) {
			return false;
		}
		if (le32toh(info->capset_id) == CAPSET_CROSS_DOMAIN) {
			return true;
		}
	}
}

TEST_CONTEXT(the_capability_set_has_wayland)
{
	const struct virtio_gpu_get_capset request = {
		.hdr = header(VIRTIO_GPU_CMD_GET_CAPSET, 0),
		.capset_id = htole32(CAPSET_CROSS_DOMAIN),
	};
	struct virtio_gpu_resp_capset_info info;
	struct cross_domain_capset capset;

	assert_true(find_capset(guest, &info));
	assert_int_equal(le32toh(info.capset_max_version), 0);
	assert_int_equal(le32toh(info.capset_max_size), sizeof(capset));
	assert_int_equal(guest_ask(guest, &request, sizeof(request), &capset, sizeof(capset)),
		VIRTIO_GPU_RESP_OK_CAPSET);
	assert_int_equal(le32toh(capset.version), 1);
	assert_int_equal(le32toh(capset.supported_channels), 2);
	assert_int_equal(capset.supports_dmabuf, 0);
	assert_int_equal(capset.supports_external_gpu_memory, 0);
}

TEST(without_a_socket_there_is_no_such_context)
{
	static struct guest other;
	struct virtio_gpu_resp_capset_info info;

	guest_start(&other, NULL);
	assert_false(find_capset(&other, &info));
	assert_int_equal(cross_create_context(&other, CONTEXT), BAD_PARAMETER);
	assert_int_equal(create_context(&other, CONTEXT), OK);
	guest_stop(&other);
}

/* Of what the renderer has for guests that name no capability set. */
static uint32_t create_other(uint32_t ctx_id)
{
	const struct virtio_gpu_ctx_create request = {
		.hdr = header(VIRTIO_GPU_CMD_CTX_CREATE, ctx_id),
	};

	return guest_call(guest, &request, sizeof(request));
}

TEST_CONTEXT(other_contexts_are_the_renderers)
{
	const struct cross_submission work = { .ctx_id = 7, .fence_id = 3, .stream = "" };

	assert_int_equal(create_other(7), OK);
	assert_int_equal(cross_create_context(guest, CONTEXT), OK);
	assert_int_equal(cross_type(guest, cross_submit(guest, &work)), OK);
	assert_int_equal(destroy_context(guest, CONTEXT), OK);
	assert_int_equal(destroy_context(guest, 7), OK);
	assert_int_equal(cross_call(guest, "", 0), VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
}

TEST_CONTEXT(contexts_have_a_limit)
{
	for (uint32_t i = 1; i <= MAX_CROSS_DOMAIN_CONTEXTS; i++) {
		assert_int_equal(cross_create_context(guest, i), OK);
	}
	assert_int_equal(cross_create_context(guest, 1000), NO_MEMORY);
	assert_int_equal(create_other(1000), OK);
	assert_int_equal(destroy_context(guest, 1), OK);
	assert_int_equal(cross_create_context(guest, 1), OK);
}

/* ---- INIT ----------------------------------------------------------------------------------- */

static uint32_t init_with(uint32_t query_ring, uint32_t channel_ring)
{
	return cross_init(guest, CONTEXT, query_ring, channel_ring, CROSS_DOMAIN_WAYLAND);
}

TEST_CHANNEL(init_connects_to_the_socket)
{
	assert_int_equal(send_text("hello"), OK);
	expect_bytes("hello");
	assert_int_equal(init_with(QUERY_RING, CHANNEL_RING), UNSPECIFIED); /* a second one */
	assert_int_equal(send_text("again"), OK);
	expect_bytes("again");
}

TEST_CONTEXT(rings_are_blobs_of_guest_memory_that_the_context_has)
{
	assert_int_equal(cross_create_context(guest, CONTEXT), OK);
	assert_int_equal(cross_create_rings(guest, CONTEXT), OK);
	assert_int_equal(create_blob(guest, 3, 2 * PAGE, PAGE - 4), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 3), OK);
	assert_int_equal(create_blob(guest, 4, 3 * PAGE, PAGE), OK); /* not attached */
	assert_int_equal(create_empty_blob(guest, 5, PAGE), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 5), OK);
	assert_int_equal(cross_create_blob(guest, CONTEXT, 6, 2, PAGE), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 6), OK);
	for (uint32_t bad = 3; bad <= 7; bad++) {
		assert_int_equal(init_with(QUERY_RING, bad), BAD_PARAMETER);
		if (bad != 3) {
			assert_int_equal(init_with(bad, CHANNEL_RING), BAD_PARAMETER);
		}
	}
	assert_int_equal(accept(cross.listen_fd, NULL, NULL), -1);
	assert_int_equal(init_with(QUERY_RING, CHANNEL_RING), OK);
	cross.peer = cross_accept(&cross);
}

TEST_CONTEXT(a_ring_of_the_same_id_is_not_the_same)
{
	assert_int_equal(cross_create_context(guest, CONTEXT), OK);
	assert_int_equal(cross_create_rings(guest, CONTEXT), OK);
	assert_int_equal(unref(guest, CHANNEL_RING), OK);
	assert_int_equal(create_blob(guest, CHANNEL_RING, CHANNEL_OFFSET, PAGE), OK);
	assert_int_equal(init_with(QUERY_RING, CHANNEL_RING), BAD_PARAMETER);
	assert_int_equal(attach_context(guest, CONTEXT, CHANNEL_RING), OK);
	assert_int_equal(init_with(QUERY_RING, CHANNEL_RING), OK);
	cross.peer = cross_accept(&cross);
}

static uint32_t init_channel(uint32_t type)
{
	return cross_init(guest, CONTEXT, QUERY_RING, CHANNEL_RING, type);
}

TEST_CONTEXT(other_channels_are_refused_by_name)
{
	assert_int_equal(cross_create_context(guest, CONTEXT), OK);
	assert_int_equal(cross_create_rings(guest, CONTEXT), OK);
	assert_int_equal(init_channel(0x11), UNSPECIFIED);
	assert_string_equal(guest->watched_warning,
		"cross-domain context 1, no ring, no fence: INIT: channel type 17; there is only "
		"1, Wayland");
	assert_int_equal(init_channel(2), UNSPECIFIED);
	assert_int_equal(init_channel(UINT32_MAX), UNSPECIFIED);
}

TEST_CONTEXT(what_is_refused_is_told_with_its_fence)
{
	const struct cross_domain_init init = { .header = { .command = CROSS_DOMAIN_INIT,
							.size = htole16(sizeof(init)) } };
	const struct cross_submission submission = {
		.ring = 5,
		.fence_id = 77,
		.stream = &init,
		.size = sizeof(init),
	};

	assert_int_equal(cross_create_context(guest, CONTEXT), OK);
	assert_int_equal(cross_type(guest, cross_submit(guest, &submission)), BAD_PARAMETER);
	assert_string_equal(guest->watched_warning,
		"cross-domain context 1, ring 5, fence 1: INIT: the query ring is resource 0, "
		"which the context does not have");
}

TEST_CONTEXT(a_context_may_have_no_channel)
{
	assert_int_equal(cross_create_context(guest, CONTEXT), OK);
	assert_int_equal(cross_create_rings(guest, CONTEXT), OK);
	assert_int_equal(cross_init(guest, CONTEXT, QUERY_RING, 0, CROSS_DOMAIN_NO_CHANNEL), OK);
	assert_int_equal(send_text("hello"), UNSPECIFIED);
	assert_int_equal(cross_type(guest, cross_poll(&cross)), UNSPECIFIED);
	assert_int_equal(accept(cross.listen_fd, NULL, NULL), -1);
}

TEST_CONTEXT(without_a_compositor_init_fails_and_may_be_tried_again)
{
	char other[64];

	assert_int_equal(cross_create_context(guest, CONTEXT), OK);
	assert_int_equal(cross_create_rings(guest, CONTEXT), OK);
	snprintf(other, sizeof(other), "%s/other", cross.directory);
	assert_int_equal(rename(cross.path, other), 0);
	assert_int_equal(init_with(QUERY_RING, CHANNEL_RING), BAD_PARAMETER);
	assert_non_null(strstr(guest->watched_warning, "No such file or directory"));
	assert_int_equal(rename(other, cross.path), 0);
	assert_int_equal(init_with(QUERY_RING, CHANNEL_RING), OK);
	cross.peer = cross_accept(&cross);
}

/* ---- Streams -------------------------------------------------------------------------------- */

TEST_CHANNEL(what_is_the_renderers_is_seen_once_in_a_round)
{
	uint32_t token = cross_poll(&cross);

	peer_send(cross.peer, "hello", 5, NULL, 0);
	num_asked = 0;
	assert_int_equal(cross_type(guest, token), OK);
	assert_in_range(num_asked, 1, 8);
}

TEST_CHANNEL(a_submission_may_have_several_commands)
{
	uint8_t stream[4096];
	size_t size = cross_make_send(stream, "one", 3, NULL, 0);

	size += cross_make_send(stream + size, "two", 3, NULL, 0);
	assert_int_equal(cross_call(guest, stream, size), OK);
	expect_bytes("onetwo");
}

TEST_CHANNEL(more_commands_than_may_be_are_refused_as_a_whole)
{
	static uint8_t stream[32768];
	size_t size = 0;

	for (uint32_t i = 0; i < MAX_CROSS_DOMAIN_COMMANDS; i++) {
		size += cross_make_send(stream + size, "x", 1, NULL, 0);
	}
	assert_int_equal(cross_call(guest, stream, size), OK);
	expect_bytes("xxxxxxxxxxxxxxxx");
	size += cross_make_send(stream + size, "x", 1, NULL, 0);
	assert_int_equal(cross_call(guest, stream, size), BAD_PARAMETER);
	expect_nothing();
}

/* Behind the last command three bytes mean nothing. */
TEST_CHANNEL(a_command_that_is_cut_anywhere_is_refused)
{
	uint8_t stream[512];
	size_t size = cross_make_send(stream, "whole", 5, NULL, 0);

	for (size_t cut = 4; cut < size; cut++) {
		assert_int_equal(cross_call(guest, stream, cut), BAD_PARAMETER);
	}
	expect_nothing();
	assert_int_equal(cross_call(guest, stream, size), OK);
	expect_bytes("whole");
}

TEST_CHANNEL(a_command_whose_size_says_too_little_is_refused)
{
	uint8_t stream[512];
	size_t size = cross_make_send(stream, "whole", 5, NULL, 0);
	uint16_t said;

	for (size_t cut = 0; cut < size; cut++) {
		said = htole16((uint16_t)cut);
		memcpy(stream + 2, &said, sizeof(said));
		assert_int_equal(cross_call(guest, stream, size), BAD_PARAMETER);
	}
	said = htole16((uint16_t)(size + 4));
	memcpy(stream + 2, &said, sizeof(said));
	assert_int_equal(cross_call(guest, stream, size), BAD_PARAMETER);
	expect_nothing();
}

TEST_CHANNEL(other_commands_are_refused)
{
	for (int command = 0; command < 256; command++) {
		uint8_t stream[512] = { (uint8_t)command };
		const uint16_t size = htole16(sizeof(stream));
		bool known = command == CROSS_DOMAIN_POLL || command == CROSS_DOMAIN_SEND ||
			command == CROSS_DOMAIN_WRITE || command == CROSS_DOMAIN_INIT ||
			command == CROSS_DOMAIN_GET_IMAGE_REQUIREMENTS;

		memcpy(stream + 2, &size, sizeof(size));
		if (!known) {
			assert_int_equal(cross_call(guest, stream, sizeof(stream)), UNSPECIFIED);
		}
	}
	assert_int_equal(send_text("still"), OK);
	expect_bytes("still");
}

/* ---- SEND ----------------------------------------------------------------------------------- */

TEST_CHANNEL(an_image_of_the_hosts_is_sent_as_its_file)
{
	const struct cross_identifier image = { CROSS_DOMAIN_ID_BLOB, 10 };
	uint32_t num_fds, word = 0;
	int fds[64];
	char data[8];

	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, 2 * 3, 3 * PAGE), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 10), OK);
	assert_int_equal(map_blob(guest, 10, PAGE), VIRTIO_GPU_RESP_OK_MAP_INFO);
	*(uint32_t *)(guest->window.memory + PAGE) = 0xcafe;
	assert_int_equal(cross_send(guest, "pool", 4, &image, 1), OK);
	assert_int_equal(peer_receive(cross.peer, data, sizeof(data), fds, &num_fds), 4);
	assert_int_equal(num_fds, 1);
	assert_int_equal(pread(fds[0], &word, sizeof(word), 0), sizeof(word));
	assert_int_equal(word, 0xcafe);
	assert_int_equal(lseek(fds[0], 0, SEEK_END), 3 * PAGE);
	close(fds[0]);
}

/* virglrenderer has such blobs with Vulkan alone. */
#ifndef VIRGL
TEST_CHANNEL(a_blob_of_the_renderers_is_sent_as_its_file)
{
	const struct cross_identifier blob = { CROSS_DOMAIN_ID_BLOB, 10 };
	uint32_t num_fds;
	int fds[64];
	char data[8];

	assert_int_equal(create_host_blob(guest, 10, PAGE), OK);
	assert_int_equal(cross_send(guest, "pool", 4, &blob, 1), BAD_PARAMETER);
	assert_int_equal(attach_context(guest, CONTEXT, 10), OK);
	assert_int_equal(cross_send(guest, "pool", 4, &blob, 1), OK);
	assert_int_equal(peer_receive(cross.peer, data, sizeof(data), fds, &num_fds), 4);
	assert_int_equal(num_fds, 1);
	assert_int_equal(lseek(fds[0], 0, SEEK_END), PAGE);
	close(fds[0]);
}

#endif

TEST_CHANNEL(guest_memory_is_sent_as_a_dma_buf)
{
	const struct cross_identifier twice[] = { { CROSS_DOMAIN_ID_BLOB, 10 },
		{ CROSS_DOMAIN_ID_BLOB, 10 } };
	uint32_t num_fds;
	int fds[64];
	char data[8];

	udmabuf_error = 0;
	num_udmabufs = 0;
	assert_int_equal(create_blob(guest, 10, 16 * PAGE, PAGE), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 10), OK);
	assert_int_equal(cross_send(guest, "buffer", 6, twice, 2), OK);
	assert_int_equal(peer_receive(cross.peer, data, sizeof(data), fds, &num_fds), 6);
	assert_int_equal(num_fds, 2);
	assert_int_equal(num_udmabufs, 1);
	assert_int_equal(file_of(fds[0]), file_of(guest->memory_fd));
	close(fds[0]);
	close(fds[1]);
}

TEST_CHANNEL(guest_memory_that_is_no_dma_buf_is_told)
{
	const struct cross_identifier blob = { CROSS_DOMAIN_ID_BLOB, 10 };

	udmabuf_error = -ENODEV;
	assert_int_equal(create_blob(guest, 10, 16 * PAGE, PAGE), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 10), OK);
	assert_int_equal(cross_send(guest, "buffer", 6, &blob, 1), UNSPECIFIED);
	assert_non_null(strstr(guest->watched_warning,
		"resource 10: guest memory cannot be sent without "
		"/dev/udmabuf"));
	expect_nothing();
}

TEST_CHANNEL(what_is_no_blob_is_not_sent)
{
	const struct cross_identifier picture = { CROSS_DOMAIN_ID_BLOB, 10 };

	assert_int_equal(create_2d(guest, 10, 16, 16), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 10), OK);
	assert_int_equal(cross_send(guest, "x", 1, &picture, 1), UNSPECIFIED);
	assert_non_null(strstr(guest->watched_warning, "it is no blob"));
	expect_nothing();
}

TEST_CHANNEL(a_resource_of_another_context_is_not_sent)
{
	const struct cross_identifier image = { CROSS_DOMAIN_ID_BLOB, 10 };

	assert_int_equal(cross_create_context(guest, 2), OK);
	assert_int_equal(cross_create_blob(guest, 2, 10, 2, PAGE), OK);
	assert_int_equal(attach_context(guest, 2, 10), OK);
	assert_int_equal(cross_send(guest, "x", 1, &image, 1), BAD_PARAMETER);
	assert_int_equal(attach_context(guest, CONTEXT, 10), OK);
	assert_int_equal(detach_context(guest, CONTEXT, 10), OK);
	assert_int_equal(cross_send(guest, "x", 1, &image, 1), BAD_PARAMETER);
	expect_nothing();
}

TEST_CHANNEL(bad_identifiers_are_refused)
{
	struct cross_identifier bad[] = { { 0, 1 }, { CROSS_DOMAIN_ID_SYNC, 1 },
		{ CROSS_DOMAIN_ID_WRITE_PIPE, 3 }, { 5, 1 }, { UINT32_MAX, 1 } };
	const struct cross_identifier many[29] = { { 0 } };
	const struct cross_identifier low = { CROSS_DOMAIN_ID_READ_PIPE, 1 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(cross_send(guest, "x", 1, &bad[i], 1), UNSPECIFIED);
	}
	assert_int_equal(cross_send(guest, "x", 1, &low, 1), BAD_PARAMETER);
	assert_int_equal(cross_send(guest, "x", 1, many, 29), BAD_PARAMETER);
	assert_int_equal(cross_send(guest, "", 0, bad, 1), BAD_PARAMETER);
	assert_int_equal(cross_send(guest, "", 0, NULL, 0), OK);
	expect_nothing();
}

TEST_CHANNEL(a_message_has_28_descriptors_at_most)
{
	struct cross_identifier pipes[CROSS_DOMAIN_MAX_IDENTIFIERS];
	uint32_t num_fds;
	int fds[64];
	char data[8];

	for (uint32_t i = 0; i < CROSS_DOMAIN_MAX_IDENTIFIERS; i++) {
		pipes[i] = (struct cross_identifier){ CROSS_DOMAIN_ID_READ_PIPE, FIRST_PIPE + i };
	}
	assert_int_equal(cross_send(guest, "x", 1, pipes, CROSS_DOMAIN_MAX_IDENTIFIERS), OK);
	assert_int_equal(peer_receive(cross.peer, data, sizeof(data), fds, &num_fds), 1);
	assert_int_equal(num_fds, CROSS_DOMAIN_MAX_IDENTIFIERS);
	for (uint32_t i = 0; i < num_fds; i++) {
		close(fds[i]);
	}
}

/* ---- RECEIVE -------------------------------------------------------------------------------- */

TEST_CHANNEL(a_poll_is_answered_when_something_comes)
{
	uint32_t token = cross_poll(&cross);
	struct cross_domain_send_receive receive;

	assert_false(cross_is_done(guest, token));
	peer_send(cross.peer, "event", 5, NULL, 0);
	assert_int_equal(cross_type(guest, token), OK);
	receive = ring_receive(&cross);
	assert_int_equal(le32toh(receive.num_identifiers), 0);
	assert_int_equal(le32toh(receive.data_size), 5);
	assert_memory_equal(channel_data(sizeof(receive)), "event", 5);
}

/* The device sleeps meanwhile: cross_settle says so. */
TEST_CHANNEL(without_a_poll_nothing_is_written)
{
	peer_send(cross.peer, "event", 5, NULL, 0);
	cross_settle(guest);
	assert_int_equal(guest->memory[CHANNEL_OFFSET], 0);
	assert_int_equal(cross_type(guest, cross_poll(&cross)), OK);
	assert_int_equal(le32toh(ring_receive(&cross).data_size), 5);
}

TEST_CHANNEL(each_poll_gets_one_message_in_order)
{
	uint32_t tokens[MAX_CROSS_DOMAIN_POLLS];

	for (uint32_t i = 0; i < MAX_CROSS_DOMAIN_POLLS; i++) {
		tokens[i] = cross_poll(&cross);
	}
	for (uint32_t i = 0; i < MAX_CROSS_DOMAIN_POLLS; i++) {
		assert_false(cross_is_done(guest, tokens[i]));
		peer_send(cross.peer, "0123456789abcdef", i + 1, NULL, 0);
		assert_int_equal(cross_type(guest, tokens[i]), OK);
		assert_int_equal(le32toh(ring_receive(&cross).data_size), i + 1);
	}
}

TEST_CHANNEL(polls_have_a_limit)
{
	for (uint32_t i = 0; i < MAX_CROSS_DOMAIN_POLLS; i++) {
		cross_poll(&cross);
	}
	/* Its error has its place behind them. */
	assert_false(cross_is_done(guest, cross_poll(&cross)));
	assert_non_null(strstr(guest->watched_warning, "POLL: No space left on device"));
}

static void cancel(uint32_t token)
{
	const struct vgf_fence_name *fence =
		&guest->gpu->pending.requests[GPU_QUEUE_CONTROL][token].fence;
	struct renderer *renderer = guest->gpu->renderer;

	assert_int_equal(
		vgf_fence_cancel(renderer->ops->get_device(renderer), fence, -ECANCELED), 0);
	assert_true(cross_type(guest, token) >= UNSPECIFIED);
}

TEST_CHANNEL(a_poll_that_is_cancelled_takes_no_message)
{
	uint32_t tokens[MAX_CROSS_DOMAIN_POLLS];

	cancel(cross_poll(&cross));
	peer_send(cross.peer, "event", 5, NULL, 0);
	cross_settle(guest);
	assert_int_equal(guest->memory[CHANNEL_OFFSET], 0);
	assert_int_equal(cross_type(guest, cross_poll(&cross)), OK);
	assert_int_equal(le32toh(ring_receive(&cross).data_size), 5);
	/* Nor does it count. */
	for (uint32_t i = 0; i < MAX_CROSS_DOMAIN_POLLS; i++) {
		tokens[i] = cross_poll(&cross);
	}
	cancel(tokens[0]);
	cross_poll(&cross);
	cross_settle(guest);
	assert_string_equal(guest->watched_warning, "");
	peer_send(cross.peer, "next", 4, NULL, 0);
	assert_int_equal(cross_type(guest, tokens[1]), OK);
}

TEST_CHANNEL(a_message_as_long_as_the_ring_comes_in_pieces)
{
	static char data[6000];

	memset(data, 'x', sizeof(data));
	peer_send(cross.peer, data, sizeof(data), NULL, 0);
	assert_int_equal(cross_type(guest, cross_poll(&cross)), OK);
	assert_int_equal(le32toh(ring_receive(&cross).data_size),
		PAGE - sizeof(struct cross_domain_send_receive));
	assert_int_equal(cross_type(guest, cross_poll(&cross)), OK);
	assert_int_equal(le32toh(ring_receive(&cross).data_size),
		sizeof(data) - (PAGE - sizeof(struct cross_domain_send_receive)));
}

TEST_CHANNEL(a_poll_is_the_last_command_and_on_its_ring)
{
	struct cross_domain_header polls[2] = {
		{ .command = CROSS_DOMAIN_POLL, .size = htole16(sizeof(polls[0])) },
		{ .command = CROSS_DOMAIN_POLL, .size = htole16(sizeof(polls[0])) },
	};
	struct cross_submission submission = {
		.ring = CROSS_DOMAIN_CHANNEL_RING,
		.fence_id = 5,
		.stream = polls,
		.size = sizeof(polls),
	};

	assert_int_equal(cross_type(guest, cross_submit(guest, &submission)), BAD_PARAMETER);
	submission.size = sizeof(polls[0]);
	submission.ring = CROSS_DOMAIN_QUERY_RING;
	assert_int_equal(cross_type(guest, cross_submit(guest, &submission)), BAD_PARAMETER);
	submission.ring = ANY_RING;
	assert_int_equal(cross_type(guest, cross_submit(guest, &submission)), BAD_PARAMETER);
	assert_int_equal(cross_call(guest, polls, sizeof(polls[0])), OK); /* for nobody */
}

TEST_CHANNEL(a_ring_that_is_taken_away_ends_the_channel)
{
	uint32_t token = cross_poll(&cross);

	assert_int_equal(detach_backing(guest, CHANNEL_RING), OK);
	peer_send(cross.peer, "event", 5, NULL, 0);
	assert_int_equal(cross_type(guest, token), OK);
	assert_int_equal(guest->memory[CHANNEL_OFFSET], 0);
	expect_end();
}

/* ---- Files ---------------------------------------------------------------------------------- */

static int make_keymap(size_t size)
{
	int fd = memfd_create("keymap", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(pwrite(fd, "xkb", 3, (off_t)size - 3), 3);
	return fd;
}

/* Its size is what the guest's kernel makes of it: whole pages. */
TEST_CHANNEL(a_file_becomes_a_blob_once)
{
	int keymap = make_keymap(5000);
	struct cross_domain_send_receive receive;
	uint32_t id;

	peer_send(cross.peer, "keymap", 6, &keymap, 1);
	assert_int_equal(cross_type(guest, cross_poll(&cross)), OK);
	assert_int_equal(ftruncate(keymap, 0), 0); /* which is nothing to the guest */
	close(keymap);
	receive = ring_receive(&cross);
	id = le32toh(receive.identifiers[0]);
	assert_int_equal(le32toh(receive.num_identifiers), 1);
	assert_int_equal(le32toh(receive.identifier_types[0]), CROSS_DOMAIN_ID_BLOB);
	assert_int_equal(le32toh(receive.identifier_sizes[0]), 2 * PAGE);
	assert_int_equal(id % 2, 1);
	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, id, 3 * PAGE), BAD_PARAMETER);
	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, id, 2 * PAGE), OK);
	assert_int_equal(cross_create_blob(guest, CONTEXT, 11, id, 2 * PAGE), BAD_PARAMETER);
	assert_int_equal(map_blob(guest, 10, 0), VIRTIO_GPU_RESP_OK_MAP_INFO);
	assert_memory_equal(guest->window.memory + 4997, "xkb", 3);
	assert_int_equal(unref(guest, 10), OK);
}

TEST_CHANNEL(a_file_for_reading_only_is_mapped_too)
{
	int keymap = make_keymap(PAGE), other;
	char path[64];

	assert_int_equal(fcntl(keymap, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", keymap);
	other = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(other >= 0);
	peer_send(cross.peer, "keymap", 6, &other, 1);
	assert_int_equal(cross_type(guest, cross_poll(&cross)), OK);
	assert_int_equal(cross_create_blob(guest, CONTEXT, 10,
				 le32toh(ring_receive(&cross).identifiers[0]), PAGE),
		OK);
	assert_int_equal(map_blob(guest, 10, 0), VIRTIO_GPU_RESP_OK_MAP_INFO);
	assert_memory_equal(guest->window.memory + PAGE - 3, "xkb", 3);
	close(keymap);
	close(other);
}

TEST_CHANNEL(a_file_that_nobody_asks_for_goes_with_its_context)
{
	int keymap = make_keymap(PAGE);

	for (int i = 0; i < 10; i++) {
		peer_send(cross.peer, "keymap", 6, &keymap, 1);
		assert_int_equal(cross_type(guest, cross_poll(&cross)), OK);
	}
	close(keymap);
	assert_int_equal(destroy_context(guest, CONTEXT), OK);
	expect_end();
}

static void end_by_fd(int fd)
{
	uint32_t token = cross_poll(&cross);

	peer_send(cross.peer, "what", 4, &fd, 1);
	assert_int_equal(cross_type(guest, token), OK);
	assert_int_equal(ring_receive(&cross).data_size, 0);
	expect_end();
	close(fd);
}

TEST_CHANNEL(a_descriptor_of_another_kind_ends_the_channel)
{
	end_by_fd(make_fence(false));
	assert_non_null(
		strstr(guest->watched_warning, "no memory, no pipe to write to, and no sync file"));
}

TEST_CHANNEL(a_pipe_to_read_ends_the_channel)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	close(fds[1]);
	end_by_fd(fds[0]);
}

TEST_CHANNEL(an_empty_file_ends_the_channel)
{
	end_by_fd(memfd_create("empty", MFD_CLOEXEC));
}

TEST_CHANNEL(a_file_that_is_too_large_ends_the_channel)
{
	int fd = memfd_create("large", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, (off_t)MAX_CROSS_DOMAIN_FILE + 1), 0);
	end_by_fd(fd);
}

TEST_CHANNEL(more_descriptors_than_may_be_end_the_channel)
{
	int fds[CROSS_DOMAIN_MAX_IDENTIFIERS + 3];
	uint32_t token = cross_poll(&cross);

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		fds[i] = make_keymap(PAGE);
	}
	peer_send(cross.peer, "what", 4, fds, sizeof(fds) / sizeof(fds[0]));
	assert_int_equal(cross_type(guest, token), OK);
	assert_int_equal(ring_receive(&cross).data_size, 0);
	expect_end();
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		close(fds[i]);
	}
}

/* A message more of descriptors that the guest takes none of. */
TEST_CHANNEL(files_have_a_limit)
{
	int keymap = make_keymap(100);

	for (uint32_t i = 0; i < MAX_CROSS_DOMAIN_ITEMS; i++) {
		peer_send(cross.peer, "keymap", 6, &keymap, 1);
		assert_int_equal(cross_type(guest, cross_poll(&cross)), OK);
		assert_int_equal(le32toh(ring_receive(&cross).data_size), 6);
	}
	end_by_fd(keymap);
	/* Those that came before can still be had. */
	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, 2 * 100 + 1, PAGE), OK);
}

/* ---- Pipes ---------------------------------------------------------------------------------- */

/* A pipe that the guest reads; returns the end that the compositor got. */
static int send_pipe(uint32_t id)
{
	const struct cross_identifier identifier = { CROSS_DOMAIN_ID_READ_PIPE, id };
	uint32_t num_fds;
	int fds[64];
	char data[8];

	assert_int_equal(cross_send(guest, "paste", 5, &identifier, 1), OK);
	assert_int_equal(peer_receive(cross.peer, data, sizeof(data), fds, &num_fds), 5);
	assert_int_equal(num_fds, 1);
	return fds[0];
}

TEST_CHANNEL(the_guest_reads_a_pipe_until_its_end)
{
	int pipe = send_pipe(FIRST_PIPE);
	uint32_t token = cross_poll(&cross);
	struct cross_domain_read_write read;

	assert_false(cross_is_done(guest, token));
	assert_int_equal(write(pipe, "pasted", 6), 6);
	assert_int_equal(cross_type(guest, token), OK);
	read = ring_read(&cross);
	assert_int_equal(le32toh(read.identifier), FIRST_PIPE);
	assert_int_equal(le32toh(read.hang_up), 0);
	assert_int_equal(le32toh(read.data_size), 6);
	assert_memory_equal(channel_data(sizeof(read)), "pasted", 6);
	token = cross_poll(&cross);
	assert_false(cross_is_done(guest, token));
	close(pipe);
	assert_int_equal(cross_type(guest, token), OK);
	read = ring_read(&cross);
	assert_int_equal(le32toh(read.hang_up), 1);
	assert_int_equal(le32toh(read.data_size), 0);
	close(send_pipe(FIRST_PIPE)); /* the identifier is free again */
}

TEST_CHANNEL(a_pipe_of_the_same_identifier_is_refused)
{
	const struct cross_identifier same = { CROSS_DOMAIN_ID_READ_PIPE, FIRST_PIPE };
	int pipe = send_pipe(FIRST_PIPE);

	assert_int_equal(cross_send(guest, "x", 1, &same, 1), BAD_PARAMETER);
	expect_nothing();
	close(pipe);
}

/* The guest's program waits for that pipe, and knows of no error. */
TEST_CHANNEL(a_pipe_of_a_message_that_is_refused_hangs_up)
{
	const struct cross_identifier both[] = { { CROSS_DOMAIN_ID_READ_PIPE, FIRST_PIPE },
		{ CROSS_DOMAIN_ID_BLOB, 99 } };

	assert_int_equal(cross_send(guest, "x", 1, both, 2), BAD_PARAMETER);
	assert_int_equal(cross_type(guest, cross_poll(&cross)), OK);
	assert_int_equal(le32toh(ring_read(&cross).hang_up), 1);
}

TEST_CHANNEL(pipes_have_a_limit)
{
	const struct cross_identifier more = { CROSS_DOMAIN_ID_READ_PIPE, FIRST_PIPE + 1000 };
	int pipes[MAX_CROSS_DOMAIN_ITEMS];

	for (uint32_t i = 0; i < MAX_CROSS_DOMAIN_ITEMS; i++) {
		pipes[i] = send_pipe(FIRST_PIPE + i);
	}
	assert_int_equal(cross_send(guest, "x", 1, &more, 1), NO_MEMORY);
	expect_nothing();
	for (uint32_t i = 0; i < MAX_CROSS_DOMAIN_ITEMS; i++) {
		close(pipes[i]);
	}
}

/* The compositor sends the end of a pipe to write to. */
static uint32_t receive_pipe(int fd)
{
	struct cross_domain_send_receive receive;

	peer_send(cross.peer, "copy", 4, &fd, 1);
	close(fd);
	assert_int_equal(cross_type(guest, cross_poll(&cross)), OK);
	receive = ring_receive(&cross);
	assert_int_equal(le32toh(receive.num_identifiers), 1);
	assert_int_equal(le32toh(receive.identifier_types[0]), CROSS_DOMAIN_ID_WRITE_PIPE);
	return le32toh(receive.identifiers[0]);
}

TEST_CHANNEL(the_guest_writes_to_a_pipe_any_number_of_bytes)
{
	char data[16] = { 0 };
	uint32_t id;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	id = receive_pipe(fds[1]);
	assert_int_equal(cross_write(guest, id, "odd", 3, false), OK);
	assert_int_equal(read(fds[0], data, sizeof(data)), 3);
	assert_memory_equal(data, "odd", 3);
	assert_int_equal(cross_write(guest, id, "", 0, false), OK);
	assert_int_equal(cross_write(guest, id, "last", 4, true), OK);
	assert_int_equal(read(fds[0], data, sizeof(data)), 4);
	assert_int_equal(read(fds[0], data, sizeof(data)), 0);
	assert_int_equal(cross_write(guest, id, "more", 4, false), BAD_PARAMETER);
	close(fds[0]);
}

TEST_CHANNEL(a_socket_is_a_pipe_to_write_to)
{
	char data[16];
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(cross_write(guest, receive_pipe(fds[1]), "text", 4, true), OK);
	assert_int_equal(read(fds[0], data, sizeof(data)), 4);
	assert_int_equal(read(fds[0], data, sizeof(data)), 0);
	close(fds[0]);
}

/* A pipe takes 64 KiB. */
TEST_CHANNEL(what_a_pipe_does_not_take_waits_and_then_hangs_up)
{
	static uint8_t data[30000], back[200000];
	size_t total = 0;
	ssize_t count;
	uint32_t id;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	id = receive_pipe(fds[1]);
	for (int i = 0; i < 5; i++) {
		memset(data, i, sizeof(data));
		assert_int_equal(cross_write(guest, id, data, sizeof(data), i == 4), OK);
	}
	assert_int_equal(cross_write(guest, id, data, 1, false), BAD_PARAMETER);
	while ((count = read(fds[0], back + total, sizeof(back) - total)) > 0) {
		total += (size_t)count;
		cross_settle(guest);
	}
	assert_int_equal(count, 0);
	assert_int_equal(total, 5 * sizeof(data));
	for (size_t i = 0; i < total; i++) {
		assert_int_equal(back[i], i / sizeof(data));
	}
	close(fds[0]);
}

/* The sender's end is the same open file. It stays one that waits, and nobody waits here. */
static void expect_no_wait(const int fds[2])
{
	static uint8_t data[60000];
	int other = fcntl(fds[1], F_DUPFD_CLOEXEC, 0);
	uint32_t id = receive_pipe(fds[1]);
	size_t total = 0;
	ssize_t count;

	assert_false(fcntl(other, F_GETFL) & O_NONBLOCK);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(cross_write(guest, id, data, sizeof(data), i == 4), OK);
	}
	close(other);
	while ((count = read(fds[0], data, sizeof(data))) > 0) {
		total += (size_t)count;
		cross_settle(guest);
	}
	assert_int_equal(total, 5 * sizeof(data));
	close(fds[0]);
}

TEST_CHANNEL(a_pipe_that_is_full_is_not_waited_for)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	expect_no_wait(fds);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	expect_no_wait(fds);
}

TEST_CHANNEL(what_nobody_reads_is_lost)
{
	uint32_t id;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	id = receive_pipe(fds[1]);
	close(fds[0]);
	assert_int_equal(cross_write(guest, id, "text", 4, false), OK);
	assert_int_equal(cross_write(guest, id, "text", 4, true), OK);
	assert_int_equal(cross_write(guest, id, "text", 4, false), BAD_PARAMETER);
	assert_int_equal(send_text("still"), OK);
	expect_bytes("still");
}

TEST_CHANNEL(bytes_that_wait_have_a_limit)
{
	static uint8_t data[60000];
	uint32_t id, type = OK;
	size_t total = 0;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	id = receive_pipe(fds[1]);
	while (type == OK) {
		type = cross_write(guest, id, data, sizeof(data), false);
		total += sizeof(data);
		assert_true(total < 2 * MAX_CROSS_DOMAIN_WAITING);
	}
	assert_true(total > MAX_CROSS_DOMAIN_WAITING);
	assert_int_equal(type, NO_MEMORY);
	expect_end();
	close(fds[0]);
}

/* ---- Images --------------------------------------------------------------------------------- */

static uint32_t ask_image(uint32_t width, uint32_t height, uint32_t drm_format,
	struct cross_domain_image_requirements *answer)
{
	const struct cross_domain_get_image_requirements request = {
		.header = { .command = CROSS_DOMAIN_GET_IMAGE_REQUIREMENTS,
			.size = htole16(sizeof(request)) },
		.width = htole32(width),
		.height = htole32(height),
		.drm_format = htole32(drm_format),
	};
	const struct cross_submission submission = {
		.ring = CROSS_DOMAIN_QUERY_RING,
		.fence_id = 1000 + ++cross.last_fence,
		.stream = &request,
		.size = sizeof(request),
	};
	uint32_t type;

	memset(guest->memory + QUERY_OFFSET, 0xee, sizeof(*answer));
	type = cross_type(guest, cross_submit(guest, &submission));
	memcpy(answer, guest->memory + QUERY_OFFSET, sizeof(*answer));
	return type;
}

TEST_CHANNEL(an_image_is_linear)
{
	struct cross_domain_image_requirements image;

	assert_int_equal(ask_image(641, 3, FORMAT_XR24, &image), OK);
	assert_int_equal(le32toh(image.strides[0]), 2624);
	assert_int_equal(image.strides[1], 0);
	assert_int_equal(image.offsets[0], 0);
	assert_int_equal(image.modifier, 0);
	assert_int_equal(le64toh(image.size), 2 * PAGE);
	assert_int_equal(le32toh(image.map_info), VIRTIO_GPU_MAP_CACHE_CACHED);
	assert_int_equal(image.memory_index, -1);
	assert_int_equal(
		cross_create_blob(guest, CONTEXT, 10, le32toh(image.blob_id), PAGE), BAD_PARAMETER);
	for (uint32_t id = 10; id < 13; id++) { /* as many as the guest likes */
		assert_int_equal(cross_create_blob(guest, CONTEXT, id, le32toh(image.blob_id),
					 le64toh(image.size)),
			OK);
	}
}

/* As wayland-proxy-virtwl makes a pool of shared memory. */
TEST_CHANNEL(memory_of_any_size_is_an_image_of_one_row)
{
	struct cross_domain_image_requirements image;

	assert_int_equal(ask_image(8294400, 1, FORMAT_R8, &image), OK);
	assert_int_equal(le64toh(image.size), 8294400);
	assert_int_equal(ask_image(1u << 30, 1, FORMAT_R8, &image), OK);
	assert_int_equal(le64toh(image.size), 1u << 30);
	assert_int_equal(ask_image((1u << 30) + 1, 1, FORMAT_R8, &image), BAD_PARAMETER);
}

TEST_CHANNEL(an_image_that_cannot_be_has_no_bytes)
{
	struct cross_domain_image_requirements image;
	const uint32_t bad[][3] = { { 0, 1, FORMAT_R8 }, { 1, 0, FORMAT_R8 }, { 1, 1, 0 },
		{ 1, 1, 0x3231564e }, { UINT32_MAX, UINT32_MAX, FORMAT_XR24 },
		{ UINT32_MAX, 1, FORMAT_R8 }, { 32768, 32768, FORMAT_XR24 } };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(ask_image(bad[i][0], bad[i][1], bad[i][2], &image), BAD_PARAMETER);
		assert_int_equal(image.size, 0);
		assert_int_equal(image.blob_id, 0);
		assert_int_equal(image.strides[0], 0);
	}
}

TEST_CHANNEL(memory_has_a_limit)
{
	const uint64_t half = MAX_CROSS_DOMAIN_MEMORY / 2, pages = half / PAGE;

	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, 2 * pages, half), OK);
	assert_int_equal(cross_create_blob(guest, CONTEXT, 11, 2 * pages, half), OK);
	assert_int_equal(cross_create_blob(guest, CONTEXT, 12, 2, PAGE), NO_MEMORY);
	assert_int_equal(unref(guest, 11), OK);
	assert_int_equal(cross_create_blob(guest, CONTEXT, 12, 2, PAGE), OK);
	assert_int_equal(cross_create_blob(guest, CONTEXT, 13, 2 * pages, half), NO_MEMORY);
}

TEST_CHANNEL(bad_blobs_are_refused)
{
	const uint64_t ids[] = { 0, 1, 3, CROSS_DOMAIN_FIRST_READ_PIPE, UINT32_MAX,
		(UINT64_C(1) << 32) + 2, UINT64_MAX };

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		assert_int_equal(
			cross_create_blob(guest, CONTEXT, 10, ids[i], PAGE), BAD_PARAMETER);
	}
	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, 2, UINT64_MAX), BAD_PARAMETER);
	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, 2, PAGE), OK);
}

static uint32_t transfer(uint32_t type, uint32_t ctx_id, uint32_t resource_id)
{
	const struct virtio_gpu_transfer_host_3d request = {
		.hdr = header(type, ctx_id),
		.box = { .w = htole32(4), .h = htole32(1), .d = htole32(1) },
		.resource_id = htole32(resource_id),
	};

	return guest_call(guest, &request, sizeof(request));
}

TEST_CHANNEL(a_context_or_image_of_ours_has_no_transfers)
{
	const uint32_t types[] = { VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D,
		VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D };

	assert_int_equal(create_other(7), OK);
	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, 2, PAGE), OK);
	assert_int_equal(create_2d(guest, 11, 4, 4), OK);
	assert_int_equal(attach_backing(guest, 11, 16 * PAGE, PAGE), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 10), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 11), OK);
	assert_int_equal(attach_context(guest, 7, 11), OK);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(transfer(types[i], CONTEXT, 10), UNSPECIFIED);
		assert_int_equal(transfer(types[i], CONTEXT, 11), BAD_PARAMETER);
		assert_int_equal(transfer(types[i], 7, 10), UNSPECIFIED);
	}
}

/* What the renderer draws is as it would be without the contexts of this kind. */
TEST_CONTEXT(pictures_of_the_renderer_are_shown_beside)
{
	const struct virtio_gpu_set_scanout show = {
		.hdr = header(VIRTIO_GPU_CMD_SET_SCANOUT, 0),
		.r = { .width = htole32(16), .height = htole32(16) },
		.resource_id = htole32(11),
	};
	const struct virtio_gpu_transfer_to_host_2d upload = {
		.hdr = header(VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D, 0),
		.r = { .width = htole32(16), .height = htole32(16) },
		.resource_id = htole32(11),
	};

	assert_int_equal(cross_create_context(guest, CONTEXT), OK);
	assert_int_equal(create_2d(guest, 11, 16, 16), OK);
	assert_int_equal(attach_backing(guest, 11, 16 * PAGE, PAGE), OK);
	*(uint32_t *)(guest->memory + 16 * PAGE) = 0x345678;
	assert_int_equal(guest_call(guest, &upload, sizeof(upload)), OK);
	assert_int_equal(guest_call(guest, &show, sizeof(show)), OK);
	assert_int_equal(cross_type(guest, send_flush(guest, 11, 16, 16, 500)), OK);
	assert_int_equal(guest->flushed_pixel & 0xffffff, 0x345678);
	assert_int_equal(detach_backing(guest, 11), OK);
}

TEST_CONTEXT(capability_sets_of_the_renderer_are_its_own)
{
	const struct virtio_gpu_get_capset_info first = {
		.hdr = header(VIRTIO_GPU_CMD_GET_CAPSET_INFO, 0),
	};
	struct virtio_gpu_get_capset request = { .hdr = header(VIRTIO_GPU_CMD_GET_CAPSET, 0) };
	uint32_t info[4], capset[1024]; /* of the first: its ID, its version, its size */

	assert_int_equal(guest_ask(guest, &first, sizeof(first), info, sizeof(info)),
		VIRTIO_GPU_RESP_OK_CAPSET_INFO);
	assert_int_not_equal(le32toh(info[0]), CAPSET_CROSS_DOMAIN);
	assert_true(le32toh(info[2]) <= sizeof(capset));
	request.capset_id = info[0];
	assert_int_equal(guest_ask(guest, &request, sizeof(request), capset, le32toh(info[2])),
		VIRTIO_GPU_RESP_OK_CAPSET);
	request.capset_id = htole32(CAPSET_CROSS_DOMAIN);
	request.capset_version = htole32(1); /* there is none */
	assert_true(guest_call(guest, &request, sizeof(request)) >= UNSPECIFIED);
}

/* The renderer knows nothing of it. */
TEST_CHANNEL(an_image_is_shown_but_not_drawn_to)
{
	const struct virtio_gpu_transfer_host_3d transfer = {
		.hdr = header(VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D, 0),
		.box = { .w = htole32(4), .h = htole32(1), .d = htole32(1) },
		.resource_id = htole32(10),
	};

	assert_int_equal(create_other(7), OK);
	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, 2, PAGE), OK);
	assert_int_equal(map_blob(guest, 10, 0), VIRTIO_GPU_RESP_OK_MAP_INFO);
	*(uint32_t *)guest->window.memory = 0x123456;
	assert_int_equal(show_blob(guest, 0, 10, 32), OK);
	assert_int_equal(cross_type(guest, send_flush(guest, 10, 32, 32, 500)), OK);
	assert_int_equal(guest->flushed_pixel, 0x123456);
	assert_int_equal(attach_context(guest, 7, 10), UNSPECIFIED);
	assert_int_equal(detach_context(guest, 7, 10), OK);
	assert_true(guest_call(guest, &transfer, sizeof(transfer)) >= UNSPECIFIED);
	assert_int_equal(unref(guest, 10), OK);
}

TEST_CHANNEL(thousands_of_buffers_leave_nothing)
{
	const struct cross_identifier image = { CROSS_DOMAIN_ID_BLOB, 10 };
	uint32_t num_fds;
	int fds[64];
	char data[8];

	for (int i = 0; i < 5000; i++) {
		assert_int_equal(cross_create_blob(guest, CONTEXT, 10, 2, PAGE), OK);
		assert_int_equal(attach_context(guest, CONTEXT, 10), OK);
		assert_int_equal(cross_send(guest, "buffer", 6, &image, 1), OK);
		assert_int_equal(detach_context(guest, CONTEXT, 10), OK);
		assert_int_equal(unref(guest, 10), OK);
		assert_int_equal(peer_receive(cross.peer, data, sizeof(data), fds, &num_fds), 6);
		assert_int_equal(num_fds, 1);
		close(fds[0]);
	}
}

/* ---- Fences --------------------------------------------------------------------------------- */

static uint32_t send_behind(uint64_t in_fence, int32_t ring, const char *text,
	const struct cross_identifier *identifiers, uint32_t count)
{
	uint8_t stream[512];
	const struct cross_submission submission = {
		.ring = ring,
		.fence_id = 1000 + ++cross.last_fence,
		.stream = stream,
		.size = cross_make_send(stream, text, strlen(text), identifiers, count),
		.in_fence = in_fence,
	};

	return cross_submit(guest, &submission);
}

/* The second message is the control: another ring, and no fence. */
TEST_CHANNEL(a_message_waits_for_its_fence_on_the_host)
{
	uint32_t held, after;

	create_test_fence(guest, 1);
	held = send_behind(1, 2, "late", NULL, 0);
	assert_false(cross_is_done(guest, held));
	expect_nothing();
	assert_int_equal(cross_type(guest, send_behind(0, 3, "early", NULL, 0)), OK);
	expect_bytes("early");
	after = send_behind(0, 2, "later", NULL, 0);
	assert_false(cross_is_done(guest, after));
	expect_nothing();
	signal_test_fence(guest, 1);
	assert_int_equal(cross_type(guest, held), OK);
	assert_int_equal(cross_type(guest, after), OK);
	expect_bytes("latelater");
}

TEST_CHANNEL(a_message_that_waits_holds_up_no_poll)
{
	uint32_t poll, held;

	create_test_fence(guest, 1);
	held = send_behind(1, 2, "late", NULL, 0);
	poll = cross_poll(&cross);
	peer_send(cross.peer, "event", 5, NULL, 0);
	assert_int_equal(cross_type(guest, poll), OK);
	signal_test_fence(guest, 1);
	assert_int_equal(cross_type(guest, held), OK);
}

/* Stock clients give a buffer back to their kernel as soon as they have sent it. */
TEST_CHANNEL(what_a_message_that_waits_names_may_go)
{
	const struct cross_identifier image = { CROSS_DOMAIN_ID_BLOB, 10 };
	uint32_t held, num_fds;
	int fds[64];
	char data[8];

	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, 2, PAGE), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 10), OK);
	create_test_fence(guest, 1);
	held = send_behind(1, 2, "buffer", &image, 1);
	assert_int_equal(detach_context(guest, CONTEXT, 10), OK);
	assert_int_equal(unref(guest, 10), OK);
	signal_test_fence(guest, 1);
	assert_int_equal(cross_type(guest, held), OK);
	assert_int_equal(peer_receive(cross.peer, data, sizeof(data), fds, &num_fds), 6);
	assert_int_equal(num_fds, 1);
	close(fds[0]);
}

TEST_CHANNEL(what_a_context_that_ends_has_sent_still_goes)
{
	uint32_t held, poll;

	create_test_fence(guest, 1);
	held = send_behind(1, 2, "last", NULL, 0);
	poll = cross_poll(&cross);
	assert_int_equal(destroy_context(guest, CONTEXT), OK);
	assert_int_equal(cross_type(guest, poll), OK); /* nobody is there to be told */
	assert_int_equal(cross_create_context(guest, CONTEXT), OK);
	assert_false(cross_is_done(guest, held));
	signal_test_fence(guest, 1);
	assert_int_equal(cross_type(guest, held), OK);
	expect_bytes("last");
	expect_end();
}

/* More than a pipe takes at once. Returns the end to read. */
static int write_and_end(void)
{
	static const uint8_t data[50000];
	uint32_t id;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	id = receive_pipe(fds[1]);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(cross_write(guest, id, data, sizeof(data), i == 2), OK);
	}
	assert_int_equal(destroy_context(guest, CONTEXT), OK);
	return fds[0];
}

static size_t read_to_end(int fd)
{
	uint8_t data[8192];
	size_t total = 0;
	ssize_t count;

	while ((count = read(fd, data, sizeof(data))) > 0) {
		total += (size_t)count;
		cross_settle(guest);
	}
	assert_int_equal(count, 0);
	close(fd);
	return total;
}

/* As of a client that answers a paste and leaves. */
TEST_CHANNEL(what_a_context_that_ends_wrote_to_pipes_still_goes)
{
	int fd = write_and_end();

	expect_end();
	assert_int_equal(read_to_end(fd), 150000);
}

TEST_CHANNEL(what_a_context_that_ends_wrote_is_lost_with_its_reader)
{
	close(write_and_end());
	cross_settle(guest);
	for (uint32_t i = 0; i < MAX_CROSS_DOMAIN_CONTEXTS; i++) {
		assert_int_equal(cross_create_context(guest, 100 + i), OK);
	}
}

TEST_CHANNEL(what_nobody_takes_makes_room_for_a_new_context)
{
	int fd = write_and_end();

	for (uint32_t i = 0; i < MAX_CROSS_DOMAIN_CONTEXTS; i++) {
		assert_int_equal(cross_create_context(guest, 100 + i), OK);
	}
	assert_true(cross_create_context(guest, 99) != OK);
	assert_true(read_to_end(fd) < 150000);
}

TEST_CHANNEL(a_reset_drops_what_pipes_have_not_taken)
{
	int fd = write_and_end();

	gpu_reset(guest->gpu);
	assert_true(read_to_end(fd) < 150000);
}

TEST_CHANNEL(what_a_context_that_ends_sent_waits_for_a_slow_compositor)
{
	static uint8_t data[60000];
	uint32_t num_fds;
	size_t total = 0;
	ssize_t count;
	int fds[64];

	for (int i = 0; i < 15; i++) {
		assert_int_equal(cross_send(guest, data, sizeof(data), NULL, 0), OK);
	}
	assert_int_equal(destroy_context(guest, CONTEXT), OK);
	while ((count = peer_receive(cross.peer, data, sizeof(data), fds, &num_fds)) > 0) {
		total += (size_t)count;
		cross_settle(guest);
	}
	assert_int_equal(total, 15 * sizeof(data));
	expect_end();
}

TEST_CHANNEL(a_reset_drops_what_waits)
{
	const struct cross_identifier image = { CROSS_DOMAIN_ID_BLOB, 10 };

	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, 2, PAGE), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 10), OK);
	create_test_fence(guest, 1);
	send_behind(1, 2, "never", &image, 1);
	cross_poll(&cross);
	guest_reset(guest);
	expect_end();
	assert_int_equal(cross_create_context(guest, CONTEXT), OK);
}

TEST_CONTEXT(resources_of_all_contexts_have_a_limit)
{
	const uint32_t num_contexts = MAX_CROSS_DOMAIN_ALL_ATTACHED / MAX_CROSS_DOMAIN_ATTACHED;

	for (uint32_t id = 1; id <= MAX_CROSS_DOMAIN_ATTACHED + 1; id++) {
		assert_int_equal(create_empty_blob(guest, id, PAGE), OK);
	}
	for (uint32_t ctx_id = 1; ctx_id <= num_contexts; ctx_id++) {
		assert_int_equal(cross_create_context(guest, ctx_id), OK);
		for (uint32_t id = 1; id <= MAX_CROSS_DOMAIN_ATTACHED; id++) {
			assert_int_equal(attach_context(guest, ctx_id, id), OK);
		}
		assert_int_equal(
			attach_context(guest, ctx_id, MAX_CROSS_DOMAIN_ATTACHED + 1), NO_MEMORY);
	}
	assert_int_equal(cross_create_context(guest, num_contexts + 1), OK);
	assert_int_equal(attach_context(guest, num_contexts + 1, 1), NO_MEMORY);
	assert_int_equal(detach_context(guest, 1, 1), OK);
	assert_int_equal(attach_context(guest, num_contexts + 1, 1), OK);
	assert_int_equal(destroy_context(guest, 2), OK);
	assert_int_equal(attach_context(guest, num_contexts + 1, 2), OK);
}

/* A byte that waits takes more memory than a byte. */
TEST_CHANNEL(short_messages_that_wait_have_a_limit)
{
	uint32_t type = OK, count = 0;
	uint8_t stream[8192];
	size_t size = 0;

	for (uint32_t i = 0; i < MAX_CROSS_DOMAIN_COMMANDS; i++) {
		size += cross_make_send(stream + size, "x", 1, NULL, 0);
	}
	while (type == OK) {
		type = cross_call(guest, stream, size);
		count += MAX_CROSS_DOMAIN_COMMANDS;
		assert_true(count < 2 * MAX_CROSS_DOMAIN_WAITING / sizeof(struct cross_bytes));
	}
	assert_int_equal(type, NO_MEMORY);
	assert_true(count >= MAX_CROSS_DOMAIN_WAITING / (sizeof(struct cross_bytes) + 1));
	while (recv(cross.peer, stream, sizeof(stream), 0) > 0) {
	}
	expect_end();
}

TEST_CHANNEL(messages_that_wait_have_a_limit)
{
	static char data[16000];
	uint8_t stream[16400];
	struct cross_submission submission = {
		.ring = 2,
		.stream = stream,
		.size = cross_make_send(stream, data, sizeof(data), NULL, 0),
		.in_fence = 1,
	};
	uint32_t count = 0;

	create_test_fence(guest, 1);
	while (cross_type(guest, cross_submit(guest, &submission)) == OK) {
		count++;
	}
	assert_int_equal(
		count, MAX_CROSS_DOMAIN_WAITING / (sizeof(struct cross_bytes) + sizeof(data)));
	expect_end();
	signal_test_fence(guest, 1);
	cross_settle(guest);
}

TEST_CHANNEL(submissions_that_wait_have_a_limit)
{
	uint8_t stream[512];
	struct cross_submission submission = {
		.ring = 2,
		.stream = stream,
		.size = cross_make_send(stream, "x", 1, NULL, 0),
		.in_fence = 1,
	};
	uint32_t count = 0;

	create_test_fence(guest, 1);
	while (cross_type(guest, cross_submit(guest, &submission)) == OK) {
		count++;
		assert_true(count <= MAX_CROSS_DOMAIN_HELD);
	}
	assert_int_equal(count, MAX_CROSS_DOMAIN_HELD);
	expect_end();
}

/* ---- Ends ----------------------------------------------------------------------------------- */

TEST_CHANNEL(a_compositor_that_goes_is_a_message_of_nothing)
{
	uint32_t token = cross_poll(&cross);
	struct cross_domain_send_receive receive;

	assert_false(cross_is_done(guest, token));
	close(cross.peer);
	cross.peer = -1;
	assert_int_equal(cross_type(guest, token), OK);
	receive = ring_receive(&cross);
	assert_int_equal(receive.num_identifiers, 0);
	assert_int_equal(receive.data_size, 0);
	assert_int_equal(send_text("anybody"), UNSPECIFIED);
	assert_int_equal(cross_type(guest, cross_poll(&cross)), UNSPECIFIED);
	assert_int_equal(destroy_context(guest, CONTEXT), OK);
}

TEST_CHANNEL(what_a_compositor_said_before_it_went_is_heard)
{
	peer_send(cross.peer, "error", 5, NULL, 0);
	close(cross.peer);
	cross.peer = -1;
	assert_int_equal(cross_type(guest, cross_poll(&cross)), OK);
	assert_int_equal(le32toh(ring_receive(&cross).data_size), 5);
	assert_int_equal(cross_type(guest, cross_poll(&cross)), OK);
	assert_int_equal(le32toh(ring_receive(&cross).data_size), 0);
}

TEST_CHANNEL(a_compositor_that_is_gone_at_a_send_ends_the_channel)
{
	close(cross.peer);
	cross.peer = -1;
	assert_int_equal(send_text("anybody"), UNSPECIFIED);
	assert_int_equal(send_text("anybody"), UNSPECIFIED);
}

/* The others go on. */
TEST_CHANNEL(a_compositor_that_does_not_read_has_a_limit)
{
	static uint8_t data[60000], back[sizeof(data)];
	const struct cross_identifier image = { CROSS_DOMAIN_ID_BLOB, 10 };
	uint32_t type = OK, num_fds;
	size_t total = 0;
	int fds[64], other;

	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, 2, PAGE), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 10), OK);
	assert_int_equal(cross_create_context(guest, 2), OK);
	assert_int_equal(attach_context(guest, 2, QUERY_RING), OK);
	assert_int_equal(attach_context(guest, 2, CHANNEL_RING), OK);
	assert_int_equal(cross_init(guest, 2, QUERY_RING, CHANNEL_RING, CROSS_DOMAIN_WAYLAND), OK);
	other = cross_accept(&cross);
	while (type == OK) {
		type = cross_send(guest, data, sizeof(data), &image, 1);
		total += sizeof(data);
		cross_settle(guest); /* it sleeps until the compositor reads */
		assert_true(total < 4 * MAX_CROSS_DOMAIN_WAITING);
	}
	assert_int_equal(type, NO_MEMORY);
	assert_true(total > MAX_CROSS_DOMAIN_WAITING);
	peer_send(other, "event", 5, NULL, 0);
	while (peer_receive(cross.peer, back, sizeof(back), fds, &num_fds) > 0) {
		for (uint32_t i = 0; i < num_fds; i++) {
			close(fds[i]);
		}
	}
	close(other);
}

TEST_CHANNEL(what_a_slow_compositor_does_not_take_comes_in_order)
{
	static uint8_t data[60000], back[sizeof(data)];
	const struct cross_identifier image = { CROSS_DOMAIN_ID_BLOB, 10 };
	uint32_t num_fds, total_fds = 0;
	size_t total = 0;
	ssize_t count;
	int fds[64];

	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, 2, PAGE), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 10), OK);
	for (int i = 0; i < 15; i++) {
		memset(data, i, sizeof(data));
		assert_int_equal(cross_send(guest, data, sizeof(data), &image, 1), OK);
	}
	do {
		count = peer_receive(cross.peer, back, sizeof(back), fds, &num_fds);
		for (uint32_t i = 0; i < num_fds; i++) {
			close(fds[i]);
		}
		total_fds += num_fds;
		for (ssize_t i = 0; i < count; i++) {
			assert_int_equal(back[i], (total + (size_t)i) / sizeof(data));
		}
		total += count > 0 ? (size_t)count : 0;
		cross_settle(guest);
	} while (count > 0);
	assert_int_equal(total, 15 * sizeof(data));
	assert_int_equal(total_fds, 15);
}

/* A front end that stops the queue waits for all requests. */
TEST_CHANNEL(a_drain_ends_a_channel_that_is_polled)
{
	uint32_t token = cross_poll(&cross);

	assert_false(cross_is_done(guest, token));
	gpu_drain(guest->gpu, 20000, -1);
	assert_true(guest->responses[GPU_QUEUE_CONTROL][token].done);
	assert_int_equal(cross_type(guest, token), OK);
	assert_int_equal(ring_receive(&cross).data_size, 0);
	expect_end();
}

/* What its in-fence holds back runs when the drain has begun. */
TEST_CHANNEL(a_drain_ends_a_channel_that_is_polled_in_the_middle_of_it)
{
	const struct cross_domain_header poll = {
		.command = CROSS_DOMAIN_POLL,
		.size = htole16(sizeof(poll)),
	};
	const struct cross_submission submission = {
		.ring = CROSS_DOMAIN_CHANNEL_RING,
		.fence_id = 1001,
		.stream = &poll,
		.size = sizeof(poll),
		.in_fence = 1,
	};
	uint32_t token;

	create_test_fence(guest, 1);
	token = cross_submit(guest, &submission);
	assert_false(cross_is_done(guest, token));
	signal_test_fence(guest, 1);
	gpu_drain(guest->gpu, 20000, -1);
	assert_true(guest->responses[GPU_QUEUE_CONTROL][token].done);
	assert_int_equal(cross_type(guest, token), OK);
	assert_int_equal(ring_receive(&cross).data_size, 0);
	expect_end();
}

TEST_CHANNEL(a_drain_cancels_what_waits_for_a_fence)
{
	uint32_t held;

	create_test_fence(guest, 1);
	held = send_behind(1, 2, "never", NULL, 0);
	gpu_drain(guest->gpu, 0, -1);
	assert_true(cross_type(guest, held) >= UNSPECIFIED);
	assert_int_equal(cross_type(guest, send_behind(0, 2, "next", NULL, 0)), OK);
	expect_bytes("next");
}

/* Those of other commands are done at once, in their turn. */
TEST_CHANNEL(other_commands_of_the_context_have_fences_too)
{
	struct virtio_gpu_ctx_resource request = {
		.hdr = header(VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE, CONTEXT),
		.resource_id = htole32(QUERY_RING),
	};

	request.hdr.flags = htole32(VIRTIO_GPU_FLAG_FENCE);
	request.hdr.fence_id = htole64(400);
	assert_int_equal(guest_call(guest, &request, sizeof(request)), OK);
	request.hdr.flags |= htole32(VIRTIO_GPU_FLAG_INFO_RING_IDX);
	request.hdr.fence_id = htole64(401);
	assert_int_equal(guest_call(guest, &request, sizeof(request)), OK);
}

/* ---- Descriptors ---------------------------------------------------------------------------- */

/* A process that has none left refuses, and goes on when there are some. */
TEST_CONTEXT(without_descriptors_each_step_fails_whole)
{
	const struct cross_identifier pipe = { CROSS_DOMAIN_ID_READ_PIPE, FIRST_PIPE };
	const struct cross_identifier image = { CROSS_DOMAIN_ID_BLOB, 10 };

	assert_int_equal(cross_create_context(guest, CONTEXT), OK);
	assert_int_equal(cross_create_rings(guest, CONTEXT), OK);
	for (unsigned int i = 0; i < 2; i++) {
		limit_fds(i);
		assert_int_equal(init_with(QUERY_RING, CHANNEL_RING), NO_MEMORY);
		unlimit_fds();
	}
	assert_int_equal(init_with(QUERY_RING, CHANNEL_RING), OK);
	cross.peer = cross_accept(&cross);
	limit_fds(0);
	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, 2, PAGE), NO_MEMORY);
	unlimit_fds();
	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, 2, PAGE), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 10), OK);
	limit_fds(0);
	assert_int_equal(cross_send(guest, "x", 1, &image, 1), NO_MEMORY);
	assert_int_equal(cross_send(guest, "x", 1, &pipe, 1), NO_MEMORY);
	unlimit_fds();
	limit_fds(1);
	assert_int_equal(cross_send(guest, "x", 1, &pipe, 1), NO_MEMORY);
	unlimit_fds();
	assert_int_equal(send_text("still"), OK);
	expect_bytes("still");
}

/* All contexts together have a limit, and one has a quarter of it. */
TEST_CHANNEL(a_context_has_a_quarter_of_the_descriptors)
{
	struct cross_identifier images[CROSS_DOMAIN_MAX_IDENTIFIERS];
	uint8_t stream[512];
	struct cross_submission submission = { .ring = 2, .stream = stream, .in_fence = 1 };
	uint32_t type, count = 0;

	assert_int_equal(cross_create_blob(guest, CONTEXT, 10, 2, PAGE), OK);
	assert_int_equal(attach_context(guest, CONTEXT, 10), OK);
	for (uint32_t i = 0; i < CROSS_DOMAIN_MAX_IDENTIFIERS; i++) {
		images[i] = (struct cross_identifier){ CROSS_DOMAIN_ID_BLOB, 10 };
	}
	submission.size = cross_make_send(stream, "x", 1, images, CROSS_DOMAIN_MAX_IDENTIFIERS);
	create_test_fence(guest, 1);
	while ((type = cross_type(guest, cross_submit(guest, &submission))) == OK) {
		count++;
	}
	assert_int_equal(type, NO_MEMORY);
	assert_true(count > 0);
	assert_true(count * CROSS_DOMAIN_MAX_IDENTIFIERS <= MAX_CROSS_DOMAIN_FDS / 4);
	assert_int_equal(send_text("still"), OK);
	expect_bytes("still");
}

/* ---- Memory --------------------------------------------------------------------------------- */

#ifndef VIRGL

/* What there is no memory for may be tried again; what comes of the messages does not matter. */
static void do_everything(uint32_t nth)
{
	const struct cross_identifier both[] = { { CROSS_DOMAIN_ID_BLOB, 10 },
		{ CROSS_DOMAIN_ID_READ_PIPE, FIRST_PIPE } };

	guest->fail_nth = nth;
	cross_create_context(guest, CONTEXT);
	cross_create_rings(guest, CONTEXT);
	init_with(QUERY_RING, CHANNEL_RING);
	cross_create_blob(guest, CONTEXT, 10, 2, PAGE);
	attach_context(guest, CONTEXT, 10);
	cross_send(guest, "all", 3, both, 2);
	send_behind(1, 2, "late", both, 1);
	cross_poll(&cross);
	guest->fail_nth = 0;
	signal_test_fence(guest, 1);
	cross_settle(guest);
	cross.peer = accept4(cross.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (cross.peer >= 0) {
		int keymap = make_keymap(PAGE);

		peer_send(cross.peer, "keymap", 6, &keymap, 1);
		cross_settle(guest);
		close(keymap);
	}
	destroy_context(guest, CONTEXT);
	cross_settle(guest);
}

TEST(each_allocation_of_a_request_may_fail)
{
	uint32_t nth = 0;

	do {
		cross_start(&cross);
		create_test_fence(guest, 1);
		do_everything(++nth);
		assert_true(nth > 1 || guest->failed);
		if (!guest->failed) {
			assert_true(cross.peer >= 0);
			assert_int_equal(guest->memory[CHANNEL_OFFSET], CROSS_DOMAIN_RECEIVE);
		}
		nth = guest->failed ? nth : 0;
		cross_stop(&cross);
	} while (nth > 0 && nth < 100);
	assert_int_equal(nth, 0);
}

#endif
