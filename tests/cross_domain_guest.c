/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "cross_domain_guest.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "gpu_private.h"

#define OK VIRTIO_GPU_RESP_OK_NODATA

#ifdef VIRGL
#define CREATE_RENDERER renderer_virgl_create
#else
#define CREATE_RENDERER renderer_soft_create
#endif

/* ---- Start and end -------------------------------------------------------------------------- */

static void listen_at_path(struct cross_guest *cross)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strcpy(cross->directory, "/tmp/vgfence-test-XXXXXX");
	assert_non_null(mkdtemp(cross->directory));
	snprintf(cross->path, sizeof(cross->path), "%s/wayland", cross->directory);
	memcpy(address.sun_path, cross->path, strlen(cross->path));
	cross->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(cross->listen_fd >= 0);
	assert_int_equal(
		bind(cross->listen_fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(cross->listen_fd, 512), 0);
}

static void start(struct cross_guest *cross, const char *path, bool in_kernel)
{
	struct gpu_options options = {
		.num_scanouts = 1,
		.width = 640,
		.height = 480,
		.fence_passing_bit = FENCE_PASSING_BIT,
		.hostmem_size = 16u << 20,
		.renderer.sync_files = in_kernel,
	};

	memset(cross, 0, sizeof(*cross));
	cross->peer = -1;
	signal(SIGPIPE, SIG_IGN); /* as the program does */
	listen_at_path(cross);
	options.wayland_socket = path != NULL ? path : cross->path;
	guest_start_with(&cross->guest, &options, CREATE_RENDERER);
#ifdef VIRGL
	keep_libraries();
#endif
	cross->guest.watched = "cross-domain context ";
}

void cross_start(struct cross_guest *cross)
{
	start(cross, NULL, false);
}

static void open_channel(struct cross_guest *cross)
{
	assert_int_equal(cross_create_context(&cross->guest, CONTEXT), OK);
	assert_int_equal(cross_create_rings(&cross->guest, CONTEXT), OK);
	assert_int_equal(
		cross_init(&cross->guest, CONTEXT, QUERY_RING, CHANNEL_RING, CROSS_DOMAIN_WAYLAND),
		OK);
}

void cross_start_channel(struct cross_guest *cross)
{
	cross_start(cross);
	open_channel(cross);
	cross->peer = cross_accept(cross);
}

void cross_start_in_kernel(struct cross_guest *cross, const char *path)
{
	start(cross, path, true);
	assert_int_equal(fcntl(cross->guest.memory_fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	open_channel(cross);
	if (path == NULL) {
		cross->peer = cross_accept(cross);
	}
}

void cross_stop(struct cross_guest *cross)
{
	guest_stop(&cross->guest);
	if (cross->peer >= 0) {
		close(cross->peer);
	}
	close(cross->listen_fd);
	unlink(cross->path);
	rmdir(cross->directory);
}

int cross_accept(const struct cross_guest *cross)
{
	int peer = accept4(cross->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	assert_true(peer >= 0);
	return peer;
}

/* ---- Requests ------------------------------------------------------------------------------- */

uint32_t cross_create_context(struct guest *guest, uint32_t ctx_id)
{
	const struct virtio_gpu_ctx_create request = {
		.hdr = header(VIRTIO_GPU_CMD_CTX_CREATE, ctx_id),
		.nlen = htole32(4),
		.context_init = htole32(CAPSET_CROSS_DOMAIN),
		.debug_name = "test",
	};

	return guest_call(guest, &request, sizeof(request));
}

uint32_t cross_create_rings(struct guest *guest, uint32_t ctx_id)
{
	uint32_t type = create_blob(guest, QUERY_RING, QUERY_OFFSET, 4096);

	type = type == OK ? create_blob(guest, CHANNEL_RING, CHANNEL_OFFSET, 4096) : type;
	type = type == OK ? attach_context(guest, ctx_id, QUERY_RING) : type;
	return type == OK ? attach_context(guest, ctx_id, CHANNEL_RING) : type;
}

uint32_t cross_create_blob(
	struct guest *guest, uint32_t ctx_id, uint32_t resource_id, uint64_t blob_id, uint64_t size)
{
	const struct virtio_gpu_resource_create_blob request = {
		.hdr = header(VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB, ctx_id),
		.resource_id = htole32(resource_id),
		.blob_mem = htole32(VIRTIO_GPU_BLOB_MEM_HOST3D),
		.blob_flags = htole32(
			VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE | VIRTIO_GPU_BLOB_FLAG_USE_SHAREABLE),
		.blob_id = htole64(blob_id),
		.size = htole64(size),
	};

	return guest_call(guest, &request, sizeof(request));
}

uint32_t cross_submit(struct guest *guest, const struct cross_submission *submission)
{
	uint32_t ctx_id = submission->ctx_id != 0 ? submission->ctx_id : CONTEXT;
	struct virtio_gpu_cmd_submit request = { .hdr = header(VIRTIO_GPU_CMD_SUBMIT_3D, ctx_id) };
	size_t in_fences_size = submission->in_fence != 0 ? sizeof(uint64_t) : 0;
	size_t size = sizeof(request) + in_fences_size + submission->size;
	uint64_t in_fence = htole64(submission->in_fence);
	uint8_t *bytes = malloc(size);
	uint32_t token, flags = 0;

	assert_non_null(bytes);
	flags |= submission->fence_id != 0 ?
		VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_FENCE_SHAREABLE :
		0;
	flags |= submission->ring != ANY_RING ? VIRTIO_GPU_FLAG_INFO_RING_IDX : 0;
	request.hdr.flags = htole32(flags);
	request.hdr.fence_id = htole64(submission->fence_id);
	request.hdr.ring_idx = submission->ring != ANY_RING ? (uint8_t)submission->ring : 0;
	request.size = htole32((uint32_t)submission->size);
	request.padding = htole32(submission->in_fence != 0);
	memcpy(bytes, &request, sizeof(request));
	memcpy(bytes + sizeof(request), &in_fence, in_fences_size);
	memcpy(bytes + sizeof(request) + in_fences_size, submission->stream, submission->size);
	token = guest_send(
		guest, GPU_QUEUE_CONTROL, bytes, size, sizeof(struct virtio_gpu_ctrl_hdr));
	free(bytes);
	return token;
}

uint32_t cross_type(struct guest *guest, uint32_t token)
{
	return guest_header(guest_wait(guest, GPU_QUEUE_CONTROL, token)).type;
}

bool cross_is_done(struct guest *guest, uint32_t token)
{
	cross_settle(guest);
	return guest->responses[GPU_QUEUE_CONTROL][token].done;
}

uint32_t cross_call(struct guest *guest, const void *stream, size_t size)
{
	const struct cross_submission submission = {
		.ring = ANY_RING,
		.stream = stream,
		.size = size,
	};

	return cross_type(guest, cross_submit(guest, &submission));
}

static struct cross_domain_header make_header(enum cross_domain_command command, size_t size)
{
	return (struct cross_domain_header){
		.command = (uint8_t)command,
		.size = htole16((uint16_t)size),
	};
}

uint32_t cross_init(struct guest *guest, uint32_t ctx_id, uint32_t query_ring,
	uint32_t channel_ring, uint32_t channel_type)
{
	const struct cross_domain_init init = {
		.header = make_header(CROSS_DOMAIN_INIT, sizeof(init)),
		.query_ring = htole32(query_ring),
		.channel_ring = htole32(channel_ring),
		.channel_type = htole32(channel_type),
	};
	const struct cross_submission submission = {
		.ctx_id = ctx_id,
		.ring = ANY_RING,
		.stream = &init,
		.size = sizeof(init),
	};

	return cross_type(guest, cross_submit(guest, &submission));
}

size_t cross_make_send(void *stream, const void *data, size_t size,
	const struct cross_identifier *identifiers, uint32_t count)
{
	struct cross_domain_send_receive send = {
		.header = make_header(CROSS_DOMAIN_SEND, sizeof(send) + size),
		.num_identifiers = htole32(count),
		.data_size = htole32((uint32_t)size),
	};

	for (uint32_t i = 0; i < count && i < CROSS_DOMAIN_MAX_IDENTIFIERS; i++) {
		send.identifiers[i] = htole32(identifiers[i].id);
		send.identifier_types[i] = htole32(identifiers[i].type);
	}
	memcpy(stream, &send, sizeof(send));
	memcpy((char *)stream + sizeof(send), data, size);
	return sizeof(send) + size;
}

uint32_t cross_send(struct guest *guest, const void *data, size_t size,
	const struct cross_identifier *identifiers, uint32_t count)
{
	static uint8_t stream[65536];

	return cross_call(guest, stream, cross_make_send(stream, data, size, identifiers, count));
}

uint32_t cross_write(struct guest *guest, uint32_t id, const void *data, size_t size, bool hang_up)
{
	static uint8_t stream[65536];
	const struct cross_domain_read_write write = {
		.header = make_header(CROSS_DOMAIN_WRITE, sizeof(write) + size),
		.identifier = htole32(id),
		.hang_up = htole32(hang_up),
		.data_size = htole32((uint32_t)size),
	};

	memcpy(stream, &write, sizeof(write));
	memcpy(stream + sizeof(write), data, size);
	return cross_call(guest, stream, sizeof(write) + size);
}

uint32_t cross_poll(struct cross_guest *cross)
{
	const struct cross_domain_header poll = make_header(CROSS_DOMAIN_POLL, sizeof(poll));
	const struct cross_submission submission = {
		.ring = CROSS_DOMAIN_CHANNEL_RING,
		.fence_id = 1000 + ++cross->last_fence,
		.stream = &poll,
		.size = sizeof(poll),
	};

	return cross_submit(&cross->guest, &submission);
}

void cross_settle(struct guest *guest)
{
	struct pollfd poll_fd = { .fd = gpu_get_fd(guest->gpu), .events = POLLIN };

	for (int i = 0; i < 1000 && poll(&poll_fd, 1, 0) == 1; i++) {
		gpu_dispatch(guest->gpu);
	}
	assert_int_equal(poll(&poll_fd, 1, 0), 0); /* it sleeps */
}

/* ---- The compositor ------------------------------------------------------------------------- */

void peer_send(int peer, const void *data, size_t size, const int *fds, uint32_t num_fds)
{
	char control[CMSG_SPACE(64 * sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct iovec iov = { (void *)data, size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (num_fds > 0) {
		struct cmsghdr *header = (struct cmsghdr *)control;

		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
		memcpy(CMSG_DATA(header), fds, num_fds * sizeof(int));
	}
	assert_int_equal(sendmsg(peer, &message, MSG_NOSIGNAL), size);
}

ssize_t peer_receive(int peer, void *data, size_t size, int *fds, uint32_t *num_fds)
{
	char control[CMSG_SPACE(64 * sizeof(int))] __attribute__((aligned(8)));
	struct iovec iov = { data, size };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t count = recvmsg(peer, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *header = count >= 0 ? CMSG_FIRSTHDR(&message) : NULL;

	*num_fds = 0;
	if (header != NULL) {
		*num_fds = (uint32_t)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(header), *num_fds * sizeof(int));
	}
	return count < 0 ? -errno : count;
}

struct cross_domain_send_receive ring_receive(const struct cross_guest *cross)
{
	struct cross_domain_send_receive receive;

	memcpy(&receive, cross->guest.memory + CHANNEL_OFFSET, sizeof(receive));
	assert_int_equal(receive.header.command, CROSS_DOMAIN_RECEIVE);
	assert_int_equal(
		le16toh(receive.header.size), sizeof(receive) + le32toh(receive.data_size));
	return receive;
}

struct cross_domain_read_write ring_read(const struct cross_guest *cross)
{
	struct cross_domain_read_write read;

	memcpy(&read, cross->guest.memory + CHANNEL_OFFSET, sizeof(read));
	assert_int_equal(read.header.command, CROSS_DOMAIN_READ);
	assert_int_equal(le16toh(read.header.size), sizeof(read) + le32toh(read.data_size));
	return read;
}
