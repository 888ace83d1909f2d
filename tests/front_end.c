/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "front_end.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MS 10000 /* only where the back end is broken */
#define MAX_SENT_FDS 64

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* ---- The connection ----------------------------------------------------------------------- */

void front_end_connect(struct front_end *front_end, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	CHECK(strlen(path) < sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	front_end->socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(front_end->socket_fd >= 0);
	CHECK(connect(front_end->socket_fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	if (front_end->run) {
		front_end->run(front_end->arg);
	}
}

void front_end_disconnect(struct front_end *front_end)
{
	if (front_end->socket_fd >= 0) {
		close(front_end->socket_fd);
		front_end->socket_fd = -1;
	}
	if (front_end->run) {
		front_end->run(front_end->arg);
	}
}

static void make_region(struct front_end_region *region, uint64_t guest_addr)
{
	/* Not at the beginning of its file. */
	const uint64_t offset = 0x3000;

	region->where = (struct guest_region){
		.guest_addr = guest_addr,
		.size = FRONT_END_REGION_SIZE,
		.user_addr = guest_addr + FRONT_END_USER_OFFSET,
		.offset = offset,
	};
	region->fd = memfd_create("guest", MFD_CLOEXEC);
	CHECK(region->fd >= 0);
	CHECK(ftruncate(region->fd, (off_t)(offset + FRONT_END_REGION_SIZE)) == 0);
	region->map = mmap(NULL, FRONT_END_REGION_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		region->fd, (off_t)offset);
	CHECK(region->map != MAP_FAILED);
}

void front_end_init(
	struct front_end *front_end, const char *path, void (*run)(void *arg), void *arg)
{
	static const uint64_t addresses[] = { FRONT_END_NEAR, FRONT_END_NEXT, FRONT_END_FAR };

	memset(front_end, 0, sizeof(*front_end));
	front_end->run = run;
	front_end->arg = arg;
	for (size_t i = 0; i < FRONT_END_REGIONS; i++) {
		make_region(&front_end->regions[i], addresses[i]);
	}
	front_end->next_free = FRONT_END_NEAR;
	for (size_t i = 0; i < FRONT_END_QUEUES; i++) {
		front_end->queues[i].kick_fd = -1;
		front_end->queues[i].call_fd = -1;
		front_end->queues[i].err_fd = -1;
	}
	front_end->socket_fd = front_end->channel_fd = -1;
	if (path) {
		front_end_connect(front_end, path);
	}
}

void front_end_finish(struct front_end *front_end)
{
	if (front_end->socket_fd >= 0) {
		front_end_disconnect(front_end);
	}
	front_end_close_channel(front_end);
	for (uint32_t i = 0; i < FRONT_END_QUEUES; i++) {
		front_end_free_queue(front_end, i);
	}
	for (size_t i = 0; i < FRONT_END_REGIONS; i++) {
		munmap(front_end->regions[i].map, FRONT_END_REGION_SIZE);
		if (front_end->regions[i].fd >= 0) {
			close(front_end->regions[i].fd);
		}
	}
}

/* ---- Messages ----------------------------------------------------------------------------- */

int front_end_send_bytes(
	struct front_end *front_end, const void *bytes, size_t size, const int *fds, size_t num_fds)
{
	union {
		char bytes[CMSG_SPACE(MAX_SENT_FDS * sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { (void *)bytes, size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t length;

	CHECK(num_fds <= MAX_SENT_FDS);
	if (num_fds > 0) {
		struct cmsghdr *cmsg;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, num_fds * sizeof(int));
	}
	length = sendmsg(front_end->socket_fd, &msg, MSG_NOSIGNAL);
	return length < 0 ? -errno : (int)length;
}

void front_end_send(struct front_end *front_end, uint32_t request, uint32_t flags,
	const void *payload, uint32_t size, const int *fds, size_t num_fds)
{
	struct {
		struct vhost_user_header header;
		uint8_t payload[sizeof(union vhost_user_payload)];
	} message = { .header = { request, VHOST_USER_VERSION | flags, size } };

	CHECK(size <= sizeof(message.payload));
	if (size > 0) {
		memcpy(message.payload, payload, size);
	}
	/* A back end that has disconnected is noticed when its answer is missing. */
	front_end_send_bytes(front_end, &message, sizeof(message.header) + size, fds, num_fds);
}

/* Waits until there is something to read. */
static int wait_for_answer(struct front_end *front_end)
{
	struct pollfd pollfd = { .fd = front_end->socket_fd, .events = POLLIN };

	for (int i = 0; front_end->run && i < 100; i++) {
		front_end->run(front_end->arg);
		if (poll(&pollfd, 1, 0) > 0) {
			return 0;
		}
	}
	return poll(&pollfd, 1, front_end->run ? 0 : ANSWER_MS) > 0 ? 0 : -ETIME;
}

static int receive_all(struct front_end *front_end, void *to, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t length;
		int ret = wait_for_answer(front_end);

		if (ret < 0) {
			return ret;
		}
		length = recv(front_end->socket_fd, (char *)to + done, size - done, 0);
		if (length <= 0) {
			return -ECONNRESET;
		}
		done += (size_t)length;
	}
	return 0;
}

int front_end_receive(
	struct front_end *front_end, uint32_t *request, void *payload, size_t max_size)
{
	struct vhost_user_header header;
	int ret;

	ret = receive_all(front_end, &header, sizeof(header));
	if (ret < 0) {
		return ret;
	}
	CHECK(header.flags == (VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY));
	CHECK(header.size <= max_size);
	ret = receive_all(front_end, payload, header.size);
	*request = header.request;
	return ret < 0 ? ret : (int)header.size;
}

bool front_end_is_disconnected(struct front_end *front_end)
{
	char byte;

	if (front_end->run) {
		front_end->run(front_end->arg);
	} else if (wait_for_answer(front_end) < 0) {
		return false;
	}
	return recv(front_end->socket_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0 ||
		errno == ECONNRESET;
}

int64_t front_end_call(struct front_end *front_end, uint32_t request, const void *payload,
	uint32_t size, const int *fds, size_t num_fds)
{
	uint32_t answered;
	uint64_t answer;
	int ret;

	front_end_send(front_end, request, VHOST_USER_FLAG_NEED_REPLY, payload, size, fds, num_fds);
	ret = front_end_receive(front_end, &answered, &answer, sizeof(answer));
	if (ret < 0) {
		return ret;
	}
	CHECK(answered == request && ret == (int)sizeof(answer));
	return (int64_t)answer;
}

int64_t front_end_call_number(struct front_end *front_end, uint32_t request, uint64_t number)
{
	return front_end_call(front_end, request, &number, sizeof(number), NULL, 0);
}

int64_t front_end_call_state(
	struct front_end *front_end, uint32_t request, uint32_t index, uint32_t num)
{
	const struct vhost_user_vring_state state = { index, num };

	return front_end_call(front_end, request, &state, sizeof(state), NULL, 0);
}

uint64_t front_end_get_number(struct front_end *front_end, uint32_t request)
{
	uint32_t answered;
	uint64_t answer;

	front_end_send(front_end, request, 0, NULL, 0, NULL, 0);
	CHECK(front_end_receive(front_end, &answered, &answer, sizeof(answer)) ==
		(int)sizeof(answer));
	CHECK(answered == request);
	return answer;
}

/* ---- The back end's channel --------------------------------------------------------------- */

int64_t front_end_open_channel(struct front_end *front_end)
{
	int sockets[2];
	int64_t ret;

	front_end_close_channel(front_end);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
	ret = front_end_call(front_end, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &sockets[1], 1);
	close(sockets[1]);
	front_end->channel_fd = sockets[0];
	return ret;
}

void front_end_close_channel(struct front_end *front_end)
{
	if (front_end->channel_fd >= 0) {
		close(front_end->channel_fd);
	}
	front_end->channel_fd = -1;
}

bool front_end_asked(struct front_end *front_end, struct vhost_user_header *header,
	struct vhost_user_mmap *payload, int *fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov[] = { { header, sizeof(*header) }, { payload, sizeof(*payload) } };
	struct msghdr msg = { .msg_iov = iov,
		.msg_iovlen = 2,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	ssize_t length = recvmsg(front_end->channel_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *cmsg;

	if (length < 0) {
		CHECK(errno == EAGAIN);
		return false;
	}
	CHECK(length == (ssize_t)(sizeof(*header) + sizeof(*payload)));
	CHECK(header->size == sizeof(*payload));
	cmsg = CMSG_FIRSTHDR(&msg);
	*fd = -1;
	if (cmsg) {
		CHECK(cmsg->cmsg_len == CMSG_LEN(sizeof(*fd)));
		memcpy(fd, CMSG_DATA(cmsg), sizeof(*fd));
	}
	return true;
}

void front_end_reply(struct front_end *front_end, uint32_t request, uint64_t number)
{
	const struct {
		struct vhost_user_header header;
		uint64_t number __attribute__((packed));
	} reply = { { request, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY, sizeof(number) },
		number };

	CHECK(send(front_end->channel_fd, &reply, sizeof(reply.header) + sizeof(number),
		      MSG_NOSIGNAL) == (ssize_t)(sizeof(reply.header) + sizeof(number)));
}

/* ---- Doing it right ----------------------------------------------------------------------- */

void front_end_negotiate(struct front_end *front_end, uint64_t features)
{
	const uint64_t protocol = UINT64_C(1) << VHOST_USER_F_PROTOCOL_FEATURES;

	front_end_send(front_end, VHOST_USER_SET_OWNER, 0, NULL, 0, NULL, 0);
	front_end->features = front_end_get_number(front_end, VHOST_USER_GET_FEATURES) &
		(features | protocol);
	CHECK(front_end->features & protocol);
	CHECK(front_end_call_number(front_end, VHOST_USER_SET_PROTOCOL_FEATURES,
		      front_end_get_number(front_end, VHOST_USER_GET_PROTOCOL_FEATURES)) == 0);
	CHECK(front_end_call_number(front_end, VHOST_USER_SET_FEATURES, front_end->features) == 0);
}

int64_t front_end_set_memory(struct front_end *front_end)
{
	struct vhost_user_mem_table table = { .num_regions = FRONT_END_REGIONS };
	int fds[FRONT_END_REGIONS];

	for (size_t i = 0; i < FRONT_END_REGIONS; i++) {
		table.regions[i] = front_end->regions[i].where;
		fds[i] = front_end->regions[i].fd;
	}
	return front_end_call(front_end, VHOST_USER_SET_MEM_TABLE, &table,
		(uint32_t)(8 + FRONT_END_REGIONS * sizeof(table.regions[0])), fds,
		FRONT_END_REGIONS);
}

static int make_eventfd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	CHECK(fd >= 0);
	return fd;
}

void front_end_make_queue(struct front_end *front_end, uint32_t index, uint32_t size)
{
	struct front_end_queue *queue = &front_end->queues[index];

	front_end_free_queue(front_end, index);
	queue->size = size;
	queue->desc_addr = front_end_alloc(front_end, size * sizeof(struct vring_desc));
	queue->avail_addr = front_end_alloc(front_end, sizeof(struct vring_avail) + (size + 1) * 2);
	queue->used_addr = front_end_alloc(
		front_end, sizeof(struct vring_used) + size * sizeof(struct vring_used_elem) + 2);
	queue->desc = front_end_at(front_end, queue->desc_addr);
	queue->avail = front_end_at(front_end, queue->avail_addr);
	queue->used = front_end_at(front_end, queue->used_addr);
	queue->kick_fd = make_eventfd();
	queue->call_fd = make_eventfd();
	queue->err_fd = make_eventfd();
}

void front_end_free_queue(struct front_end *front_end, uint32_t index)
{
	struct front_end_queue *queue = &front_end->queues[index];
	const int fds[] = { queue->kick_fd, queue->call_fd, queue->err_fd };

	for (size_t i = 0; i < 3; i++) {
		if (fds[i] >= 0) {
			close(fds[i]);
		}
	}
	*queue = (struct front_end_queue){ .kick_fd = -1, .call_fd = -1, .err_fd = -1 };
}

int64_t front_end_set_addr(struct front_end *front_end, uint32_t index)
{
	const struct front_end_queue *queue = &front_end->queues[index];
	const struct vhost_user_vring_addr addr = {
		.index = index,
		.desc = queue->desc_addr + FRONT_END_USER_OFFSET,
		.used = queue->used_addr + FRONT_END_USER_OFFSET,
		.avail = queue->avail_addr + FRONT_END_USER_OFFSET,
	};

	return front_end_call(front_end, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
}

int64_t front_end_set_vring_fd(
	struct front_end *front_end, uint32_t request, uint32_t index, int fd)
{
	const uint64_t number = fd < 0 ? index | VHOST_USER_VRING_NO_FD : index;

	return front_end_call(front_end, request, &number, sizeof(number), &fd, fd < 0 ? 0 : 1);
}

int64_t front_end_start_queue(struct front_end *front_end, uint32_t index, uint16_t base)
{
	const struct front_end_queue *queue = &front_end->queues[index];

	return front_end_call_state(front_end, VHOST_USER_SET_VRING_NUM, index, queue->size) |
		front_end_call_state(front_end, VHOST_USER_SET_VRING_BASE, index, base) |
		front_end_set_addr(front_end, index) |
		front_end_set_vring_fd(
			front_end, VHOST_USER_SET_VRING_CALL, index, queue->call_fd) |
		front_end_set_vring_fd(front_end, VHOST_USER_SET_VRING_ERR, index, queue->err_fd) |
		front_end_set_vring_fd(
			front_end, VHOST_USER_SET_VRING_KICK, index, queue->kick_fd) |
		front_end_call_state(front_end, VHOST_USER_SET_VRING_ENABLE, index, 1);
}

uint16_t front_end_stop_queue(struct front_end *front_end, uint32_t index)
{
	struct vhost_user_vring_state state = { .index = index };
	uint32_t answered;

	front_end_send(front_end, VHOST_USER_GET_VRING_BASE, 0, &state, sizeof(state), NULL, 0);
	CHECK(front_end_receive(front_end, &answered, &state, sizeof(state)) == (int)sizeof(state));
	CHECK(answered == VHOST_USER_GET_VRING_BASE && state.index == index &&
		state.num <= UINT16_MAX);
	return (uint16_t)state.num;
}

void front_end_start(struct front_end *front_end)
{
	front_end_negotiate(front_end, UINT64_MAX);
	CHECK(front_end_set_memory(front_end) == 0);
	for (uint32_t i = 0; i < FRONT_END_QUEUES; i++) {
		front_end_make_queue(front_end, i, 16);
		CHECK(front_end_start_queue(front_end, i, 0) == 0);
	}
	for (uint32_t i = 0; i < FRONT_END_QUEUES; i++) {
		front_end_notifications(&front_end->queues[i]);
	}
}

/* ---- The guest ---------------------------------------------------------------------------- */

uint64_t front_end_alloc(struct front_end *front_end, size_t size)
{
	uint64_t addr = (front_end->next_free + 15) & ~UINT64_C(15);

	CHECK(size <= FRONT_END_NEXT - addr);
	front_end->next_free = addr + size;
	memset(front_end_at(front_end, addr), 0, size);
	return addr;
}

void *front_end_at(struct front_end *front_end, uint64_t addr)
{
	for (size_t i = 0; i < FRONT_END_REGIONS; i++) {
		const struct front_end_region *region = &front_end->regions[i];

		if (addr - region->where.guest_addr < region->where.size) {
			return region->map + (addr - region->where.guest_addr);
		}
	}
	CHECK(!"an address of guest memory");
	return NULL;
}

void front_end_desc(struct front_end_queue *queue, uint32_t at, uint64_t addr, uint32_t size,
	uint16_t flags, uint16_t next)
{
	queue->desc[at] =
		(struct vring_desc){ .addr = addr, .len = size, .flags = flags, .next = next };
}

void front_end_offer(struct front_end_queue *queue, uint16_t head)
{
	queue->avail->ring[queue->next_avail++ % queue->size] = head;
}

void front_end_show(struct front_end_queue *queue)
{
	__atomic_store_n(&queue->avail->idx, queue->next_avail, __ATOMIC_SEQ_CST);
}

void front_end_kick(struct front_end_queue *queue)
{
	CHECK(eventfd_write(queue->kick_fd, 1) == 0);
}

void *front_end_request(struct front_end *front_end, uint32_t index, uint16_t head,
	const void *data, uint32_t size, uint32_t writable)
{
	struct front_end_queue *queue = &front_end->queues[index];
	uint64_t from = front_end_alloc(front_end, size), to = front_end_alloc(front_end, writable);

	memcpy(front_end_at(front_end, from), data, size);
	front_end_desc(queue, head, from, size, VRING_DESC_F_NEXT, (uint16_t)(head + 1));
	front_end_desc(queue, head + 1u, to, writable, VRING_DESC_F_WRITE, 0);
	front_end_offer(queue, head);
	front_end_show(queue);
	return front_end_at(front_end, to);
}

bool front_end_used(struct front_end_queue *queue, uint32_t *head, uint32_t *written)
{
	const struct vring_used_elem *elem = &queue->used->ring[queue->next_used % queue->size];

	if (__atomic_load_n(&queue->used->idx, __ATOMIC_SEQ_CST) == queue->next_used) {
		return false;
	}
	*head = elem->id;
	*written = elem->len;
	queue->next_used++;
	return true;
}

unsigned int front_end_notifications(struct front_end_queue *queue)
{
	eventfd_t count = 0;

	if (eventfd_read(queue->call_fd, &count) < 0) {
		CHECK(errno == EAGAIN);
	}
	return (unsigned int)count;
}
