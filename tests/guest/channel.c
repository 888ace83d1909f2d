/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "channel.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xf86drm.h>

#include "context.h"

#define PAGE 4096u

/* Messages have a ring of their own: what waits for a fence there holds up no question. So have
 * fences of the host's. */
enum { SEND_RING = 2, FENCE_RING = 3, NUM_RINGS = 4 };

/* The host ends a channel of which more than 1024 submissions, or 1 MiB, wait. */
#define MESSAGES_PER_MARK 32u

#define FORMAT_R8 0x20203852u /* DRM_FORMAT_R8 */

/* ---- Memory --------------------------------------------------------------------------------- */

static int ioctl_errno(int fd, unsigned long request, void *argument)
{
	return drmIoctl(fd, request, argument) < 0 ? -errno : 0;
}

static void close_handle(int fd, uint32_t handle)
{
	struct drm_gem_close close = { .handle = handle };

	drmIoctl(fd, DRM_IOCTL_GEM_CLOSE, &close);
}

/* A blob, mapped. */
static int make_blob(
	struct channel *channel, uint32_t blob_mem, uint64_t blob_id, struct channel_memory *memory)
{
	struct uapi_blob blob = {
		.blob_mem = blob_mem,
		.blob_flags = UAPI_BLOB_MAPPABLE,
		.size = memory->size,
		.blob_id = blob_id,
	};
	struct uapi_map map = { 0 };
	int ret = ioctl_errno(channel->fd, UAPI_IOCTL_BLOB, &blob);

	if (ret < 0) {
		return ret;
	}
	map.handle = blob.bo_handle;
	ret = ioctl_errno(channel->fd, UAPI_IOCTL_MAP, &map);
	if (ret == 0) {
		memory->address = mmap(NULL, memory->size, PROT_READ | PROT_WRITE, MAP_SHARED,
			channel->fd, (off_t)map.offset);
		ret = memory->address == MAP_FAILED ? -errno : 0;
	}
	if (ret < 0) {
		close_handle(channel->fd, blob.bo_handle);
		return ret;
	}
	memory->handle = blob.bo_handle;
	memory->resource = blob.res_handle;
	memory->is_host_memory = blob_mem == UAPI_BLOB_MEM_HOST3D;
	return 0;
}

void channel_close_handle(struct channel *channel, struct channel_memory *memory)
{
	if (memory->handle != 0) {
		close_handle(channel->fd, memory->handle);
		memory->handle = 0;
	}
}

void channel_unmap(struct channel_memory *memory)
{
	if (memory->address != NULL) {
		munmap(memory->address, memory->size);
		memory->address = NULL;
	}
}

int channel_import(struct channel *channel, int dma_buf_fd, struct channel_memory *memory)
{
	struct uapi_resource_info info = { 0 };
	int ret;

	*memory = (struct channel_memory){ 0 };
	if (drmPrimeFDToHandle(channel->fd, dma_buf_fd, &memory->handle) < 0) {
		return -errno;
	}
	info.bo_handle = memory->handle;
	ret = ioctl_errno(channel->fd, UAPI_IOCTL_RESOURCE_INFO, &info);
	if (ret < 0) {
		channel_close_handle(channel, memory);
		return ret;
	}
	memory->resource = info.res_handle;
	memory->size = info.size;
	memory->is_host_memory = info.blob_mem == UAPI_BLOB_MEM_HOST3D;
	return 0;
}

static int make_ring(struct channel *channel, struct channel_ring *ring)
{
	struct channel_memory memory = { .size = PAGE };
	int ret = make_blob(channel, UAPI_BLOB_MEM_GUEST, 0, &memory);

	if (ret == 0) {
		*ring = (struct channel_ring){ memory.handle, memory.resource, memory.address };
	}
	return ret;
}

/* ---- Submissions ---------------------------------------------------------------------------- */

struct submission {
	const void *stream;
	size_t size;
	uint32_t ring;
	int in_fence_fd;   /* or -1 */
	int *out_fence_fd; /* or NULL */
};

/* A submission has its ring only with a fence. The cheapest is one on a buffer. */
static int submit(struct channel *channel, const struct submission *submission)
{
	struct uapi_execbuffer exec = {
		.flags = UAPI_EXEC_RING_IDX,
		.size = (uint32_t)submission->size,
		.command = (uintptr_t)submission->stream,
		.bo_handles = (uintptr_t)&channel->query.handle,
		.num_bo_handles = 1,
		.fence_fd = submission->in_fence_fd,
		.ring_idx = submission->ring,
	};
	int ret;

	if (submission->in_fence_fd >= 0) {
		exec.flags |= UAPI_EXEC_FENCE_FD_IN;
	}
	if (submission->out_fence_fd != NULL) {
		exec.flags |= UAPI_EXEC_FENCE_FD_OUT;
	}
	ret = ioctl_errno(channel->fd, UAPI_IOCTL_EXECBUFFER, &exec);
	if (ret == 0 && submission->out_fence_fd != NULL) {
		*submission->out_fence_fd = exec.fence_fd;
	}
	return ret;
}

static struct cross_domain_header make_header(enum cross_domain_command command, size_t size)
{
	return (struct cross_domain_header){ .command = (uint8_t)command, .size = (uint16_t)size };
}

/* Waits for the answer. */
static int ask(struct channel *channel, const void *command, size_t size)
{
	int fence_fd, ret;

	ret = submit(channel,
		&(struct submission){ command, size, CROSS_DOMAIN_QUERY_RING, -1, &fence_fd });
	if (ret < 0) {
		return ret;
	}
	wait_fence(fence_fd, -1);
	close(fence_fd);
	return 0;
}

/* To the compositor, in order. */
static int submit_message(struct channel *channel, const void *stream, size_t size, int in_fence_fd)
{
	struct submission submission = { stream, size, SEND_RING, in_fence_fd, NULL };
	int *mark = channel->marks[0] < 0 ? &channel->marks[0] : &channel->marks[1];

	if (++channel->num_unmarked >= MESSAGES_PER_MARK && *mark < 0) {
		submission.out_fence_fd = mark;
		channel->num_unmarked = 0;
	}
	return submit(channel, &submission);
}

int channel_busy_fd(struct channel *channel)
{
	while (channel->marks[0] >= 0 && wait_fence(channel->marks[0], 0)) {
		close(channel->marks[0]);
		channel->marks[0] = channel->marks[1];
		channel->marks[1] = -1;
	}
	return channel->marks[1] >= 0 && channel->num_unmarked >= MESSAGES_PER_MARK ?
		channel->marks[0] :
		-1;
}

/* Whole words. */
static size_t pad(uint8_t *stream, size_t size)
{
	while (size % sizeof(uint32_t) != 0) {
		stream[size++] = 0;
	}
	return size;
}

int channel_send(struct channel *channel, const void *data, size_t size,
	const struct channel_identifier *identifiers, uint32_t num_identifiers, int in_fence_fd)
{
	struct cross_domain_send_receive send = {
		.header = make_header(CROSS_DOMAIN_SEND, sizeof(send) + size),
		.num_identifiers = num_identifiers,
		.data_size = (uint32_t)size,
	};
	uint8_t stream[sizeof(send) + CHANNEL_MAX_DATA + sizeof(uint32_t)];

	if (size > CHANNEL_MAX_DATA || num_identifiers > CROSS_DOMAIN_MAX_IDENTIFIERS) {
		return -EMSGSIZE;
	}
	for (uint32_t i = 0; i < num_identifiers; i++) {
		send.identifiers[i] = identifiers[i].id;
		send.identifier_types[i] = identifiers[i].type;
		send.identifier_sizes[i] = identifiers[i].size;
	}
	memcpy(stream, &send, sizeof(send));
	memcpy(stream + sizeof(send), data, size);
	return submit_message(channel, stream, pad(stream, sizeof(send) + size), in_fence_fd);
}

int channel_write(struct channel *channel, uint32_t id, const void *data, size_t size, bool hang_up)
{
	const struct cross_domain_read_write write = {
		.header = make_header(CROSS_DOMAIN_WRITE, sizeof(write) + size),
		.identifier = id,
		.hang_up = hang_up,
		.data_size = (uint32_t)size,
	};
	uint8_t stream[sizeof(write) + CHANNEL_MAX_DATA + sizeof(uint32_t)];

	if (size > CHANNEL_MAX_DATA) {
		return -EMSGSIZE;
	}
	memcpy(stream, &write, sizeof(write));
	memcpy(stream + sizeof(write), data, size);
	return submit_message(channel, stream, pad(stream, sizeof(write) + size), -1);
}

int channel_take_fence(struct channel *channel, const struct channel_identifier *identifier)
{
	const struct cross_domain_wait_fence wait = {
		.header = make_header(CROSS_DOMAIN_WAIT_FENCE, sizeof(wait)),
		.identifier_type = identifier->type,
		.identifier = identifier->id,
	};
	int fd = -1,
	    ret = submit(channel, &(struct submission){ &wait, sizeof(wait), FENCE_RING, -1, &fd });

	return ret < 0 ? ret : fd;
}

/* ---- What comes ----------------------------------------------------------------------------- */

/* A POLL that fails is answered, too: then there is nothing in the ring. */
int channel_poll(struct channel *channel)
{
	const struct cross_domain_header poll = make_header(CROSS_DOMAIN_POLL, sizeof(poll));

	memset(channel->ring.address, 0, sizeof(poll));
	return submit(channel,
		&(struct submission){ &poll, sizeof(poll), CROSS_DOMAIN_CHANNEL_RING, -1, NULL });
}

static void receive_message(const struct channel *channel, struct channel_received *received)
{
	const struct cross_domain_send_receive *receive = channel->ring.address;

	received->num_identifiers = receive->num_identifiers;
	received->data = (const uint8_t *)(receive + 1);
	received->size = receive->data_size;
	for (uint32_t i = 0; i < receive->num_identifiers; i++) {
		received->identifiers[i] = (struct channel_identifier){
			receive->identifiers[i],
			receive->identifier_types[i],
			receive->identifier_sizes[i],
		};
	}
	received->is_end = received->size == 0 && received->num_identifiers == 0;
}

static void receive_read(const struct channel *channel, struct channel_received *received)
{
	const struct cross_domain_read_write *read = channel->ring.address;

	received->is_read = true;
	received->id = read->identifier;
	received->hang_up = read->hang_up;
	received->data = (const uint8_t *)(read + 1);
	received->size = read->data_size;
}

int channel_receive(struct channel *channel, struct channel_received *received)
{
	const struct cross_domain_header *header = channel->ring.address;
	struct drm_event event;

	*received = (struct channel_received){ 0 };
	if (read(channel->fd, &event, sizeof(event)) < 0) {
		return -errno;
	}
	switch (header->command) {
	case CROSS_DOMAIN_RECEIVE:
		receive_message(channel, received);
		return 0;
	case CROSS_DOMAIN_READ:
		receive_read(channel, received);
		return 0;
	default:
		received->is_end = true;
		return 0;
	}
}

/* ---- Host memory ---------------------------------------------------------------------------- */

/* One row of bytes. */
static int create_image(struct channel *channel, struct channel_memory *memory)
{
	const struct cross_domain_get_image_requirements image = {
		.header = make_header(CROSS_DOMAIN_GET_IMAGE_REQUIREMENTS, sizeof(image)),
		.width = (uint32_t)memory->size,
		.height = 1,
		.drm_format = FORMAT_R8,
	};
	struct cross_domain_image_requirements answer;
	int ret = ask(channel, &image, sizeof(image));

	if (ret < 0) {
		return ret;
	}
	memcpy(&answer, channel->query.address, sizeof(answer));
	if (answer.size < memory->size) {
		return -ENOSPC;
	}
	memory->size = answer.size;
	return make_blob(channel, UAPI_BLOB_MEM_HOST3D, answer.blob_id, memory);
}

int channel_create_memory(struct channel *channel, size_t size, struct channel_memory *memory)
{
	*memory = (struct channel_memory){ .size = (size + PAGE - 1) / PAGE * PAGE };
	return channel->has_host_memory ? create_image(channel, memory) :
					  make_blob(channel, UAPI_BLOB_MEM_GUEST, 0, memory);
}

static int copy_to_memfd(const void *data, size_t size)
{
	int fd = memfd_create("wayland", MFD_CLOEXEC);
	size_t done = 0;

	if (fd < 0) {
		return -errno;
	}
	while (done < size) {
		ssize_t ret = write(fd, (const uint8_t *)data + done, size - done);

		if (ret < 0) {
			ret = -errno;
			close(fd);
			return (int)ret;
		}
		done += (size_t)ret;
	}
	return fd;
}

/* The host has it until it becomes a resource. */
static int drop_file(struct channel *channel, const struct channel_identifier *identifier)
{
	struct uapi_blob blob = {
		.blob_mem = UAPI_BLOB_MEM_HOST3D,
		.size = identifier->size,
		.blob_id = identifier->id,
	};
	int ret = ioctl_errno(channel->fd, UAPI_IOCTL_BLOB, &blob);

	if (ret < 0) {
		return ret;
	}
	close_handle(channel->fd, blob.bo_handle);
	return copy_to_memfd(NULL, 0);
}

int channel_copy_file(struct channel *channel, const struct channel_identifier *identifier)
{
	struct channel_memory memory = { .size = identifier->size };
	int ret;

	if (!channel->has_host_memory) {
		return drop_file(channel, identifier);
	}
	ret = make_blob(channel, UAPI_BLOB_MEM_HOST3D, identifier->id, &memory);
	if (ret < 0) {
		return ret;
	}
	ret = copy_to_memfd(memory.address, memory.size);
	channel_unmap(&memory);
	channel_close_handle(channel, &memory);
	return ret;
}

/* ---- The beginning, and the end ------------------------------------------------------------- */

static int init_context(int fd)
{
	struct uapi_context_param params[] = {
		{ UAPI_CONTEXT_CAPSET_ID, CAPSET_CROSS_DOMAIN },
		{ UAPI_CONTEXT_NUM_RINGS, NUM_RINGS },
		{ UAPI_CONTEXT_POLL_RINGS, 1u << CROSS_DOMAIN_CHANNEL_RING },
		{ UAPI_CONTEXT_FENCE_PASSING, 1 },
	};
	struct uapi_context_init init = {
		.num_params = has_fence_passing() ? 4 : 3,
		.params = (uintptr_t)params,
	};

	return ioctl_errno(fd, UAPI_IOCTL_CONTEXT_INIT, &init);
}

/* Where the set of a device ends before that word, it stays 0. */
static uint32_t get_fences(int fd)
{
	struct cross_domain_capset capset = { 0 };
	struct uapi_get_caps get = {
		.capset = CAPSET_CROSS_DOMAIN,
		.address = (uintptr_t)&capset,
		.size = sizeof(capset),
	};

	return ioctl_errno(fd, UAPI_IOCTL_GET_CAPS, &get) < 0 ? 0 : le32toh(capset.fences);
}

static int connect_channel(struct channel *channel)
{
	const struct cross_domain_init init = {
		.header = make_header(CROSS_DOMAIN_INIT, sizeof(init)),
		.query_ring = channel->query.resource,
		.channel_ring = channel->ring.resource,
		.channel_type = CROSS_DOMAIN_WAYLAND,
	};

	return ask(channel, &init, sizeof(init));
}

int channel_open(struct channel *channel)
{
	int ret;

	*channel = (struct channel){ .marks = { -1, -1 } };
	channel->has_host_memory = has_host_memory();
	channel->fd = open_render_node(0);
	if (channel->fd < 0) {
		return -errno;
	}
	channel->fences = get_fences(channel->fd);
	ret = init_context(channel->fd);
	if (ret == 0) {
		ret = make_ring(channel, &channel->query);
	}
	if (ret == 0) {
		ret = make_ring(channel, &channel->ring);
	}
	if (ret == 0) {
		ret = connect_channel(channel);
	}
	if (ret == 0) {
		ret = channel_poll(channel);
	}
	if (ret < 0) {
		channel_close(channel);
	}
	return ret;
}

static void end_ring(struct channel_ring *ring)
{
	if (ring->address != NULL) {
		munmap(ring->address, PAGE);
		ring->address = NULL;
	}
}

void channel_close(struct channel *channel)
{
	end_ring(&channel->query);
	end_ring(&channel->ring);
	for (int i = 0; i < 2; i++) {
		if (channel->marks[i] >= 0) {
			close(channel->marks[i]);
		}
	}
	close(channel->fd);
}
