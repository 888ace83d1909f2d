/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What a front end can ask for: one function a message. Numbers and sizes are checked by the table
 * at the end, before. */

#include <errno.h>
#include <sys/socket.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "error_name.h"
#include "fd_kind.h"
#include "vhost_user_private.h"

#define RING_FEATURES                                                                              \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |                              \
		BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VHOST_USER_F_PROTOCOL_FEATURES))

/* They change what rings or addresses mean, so a driver that has accepted one cannot be served. Of
 * others, QEMU passes on some that it offers itself. */
#define FOREIGN_FEATURES                                                                           \
	(BIT(VIRTIO_F_ACCESS_PLATFORM) | BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_IN_ORDER))

#define PROTOCOL_FEATURES                                                                          \
	(BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) |                    \
		BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) | BIT(VHOST_USER_PROTOCOL_F_CONFIG) |       \
		BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE) |                                          \
		BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS))

#define CONFIG_HEADER_SIZE offsetof(struct vhost_user_config, data)
#define MEM_TABLE_HEADER_SIZE offsetof(struct vhost_user_mem_table, regions)

/* ---- Replies ------------------------------------------------------------------------------ */

static int reply_fd(struct vhost_user *server, const void *payload, uint32_t size, int fd)
{
	const struct vhost_user_header header = {
		.request = server->message.header.request,
		.flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY,
		.size = size,
	};

	return vhost_user_send(server->socket_fd, &header, payload, fd);
}

static int reply(struct vhost_user *server, const void *payload, uint32_t size)
{
	return reply_fd(server, payload, size, -1);
}

static int reply_number(struct vhost_user *server, uint64_t number)
{
	return reply(server, &number, sizeof(number));
}

/* The message's only descriptor, or -1. */
static int take_fd(struct vhost_user_message *message)
{
	int fd = message->num_fds > 0 ? message->fds[0] : -1;

	message->num_fds = 0;
	return fd;
}

/* ---- Features ----------------------------------------------------------------------------- */

static uint64_t offered_features(struct vhost_user *server)
{
	return server->ops.get_features(server->cookie) | RING_FEATURES;
}

static int get_features(struct vhost_user *server)
{
	return reply_number(server, offered_features(server));
}

static int set_features(struct vhost_user *server)
{
	uint64_t features = server->message.payload.number, offered = offered_features(server);

	if (features & ~offered & FOREIGN_FEATURES) {
		return -EINVAL;
	}
	if (features & ~offered) {
		vhost_user_log(server, VGF_LOG_DEBUG,
			"features were accepted that are not offered: 0x%llx",
			(unsigned long long)(features & ~offered));
	}
	server->features = features & offered;
	server->ops.set_features(
		server->cookie, server->features & server->ops.get_features(server->cookie));
	return 0;
}

/* A front end that has shared memory asks for it, whatever that is. */
static uint64_t offered_protocol_features(const struct vhost_user *server)
{
	return PROTOCOL_FEATURES |
		(vhost_user_has_shmem(server) ? BIT(VHOST_USER_PROTOCOL_F_SHMEM) : 0) |
		(server->ops.get_shared_object ? BIT(VHOST_USER_PROTOCOL_F_SHARED_OBJECT) : 0);
}

static int get_protocol_features(struct vhost_user *server)
{
	return reply_number(server, offered_protocol_features(server));
}

static int set_protocol_features(struct vhost_user *server)
{
	if (server->message.payload.number & ~offered_protocol_features(server)) {
		return -EINVAL;
	}
	server->protocol_features = server->message.payload.number;
	return 0;
}

static int get_queue_num(struct vhost_user *server)
{
	return reply_number(server, server->num_queues);
}

/* ---- The device as a whole ---------------------------------------------------------------- */

static int ignore(struct vhost_user *server)
{
	(void)server;
	return 0;
}

/* Nothing is taken aside meanwhile, which would have to be done before the end. */
static void drain(struct vhost_user *server)
{
	server->is_paused = true;
	server->ops.drain(server->cookie);
	server->is_paused = false;
}

static void stop_queues(struct vhost_user *server)
{
	for (uint32_t i = 0; i < server->num_queues; i++) {
		vhost_user_queue_stop(&server->queues[i]);
	}
}

static void reset(struct vhost_user *server)
{
	server->ops.reset(server->cookie);
	vhost_user_shmem_reset(server);
	for (uint32_t i = 0; i < server->num_queues; i++) {
		server->queues[i].has_run = false;
	}
}

void vhost_user_begin_anew(struct vhost_user_queue *queue)
{
	vhost_user_log(queue->server, VGF_LOG_DEBUG, "queue %u begins anew: reset", queue->index);
	reset(queue->server);
}

/* Discards no state, as the protocol recommends: it only disables the queues. */
static int reset_owner(struct vhost_user *server)
{
	drain(server);
	stop_queues(server);
	for (uint32_t i = 0; i < server->num_queues; i++) {
		server->queues[i].enabled = false;
	}
	return 0;
}

/* The memory stays: QEMU does not name it again. */
static int reset_device(struct vhost_user *server)
{
	reset(server);
	stop_queues(server);
	for (uint32_t i = 0; i < server->num_queues; i++) {
		server->queues[i].enabled = false;
		server->queues[i].base = 0;
	}
	return 0;
}

static int set_backend_req_fd(struct vhost_user *server)
{
	return vhost_user_channel_set_take(server, take_fd(&server->message));
}

static int get_shmem_config(struct vhost_user *server)
{
	struct vhost_user_shmem_config config = { 0 };

	if (!(server->protocol_features & BIT(VHOST_USER_PROTOCOL_F_SHMEM))) {
		return -EOPNOTSUPP;
	}
	for (uint32_t i = 0; i < VHOST_USER_MAX_SHMEM; i++) {
		config.sizes[i] = server->ops.shmem_size(server->cookie, (uint8_t)i);
		config.num_regions += config.sizes[i] > 0;
	}
	return reply(server, &config, sizeof(config));
}

/* The answer to another device's question: with a descriptor, or without if there is no such
 * object. */
static int get_shared_object(struct vhost_user *server)
{
	const struct vhost_user_shared shared = server->message.payload.shared;
	int fd, ret;

	if (!(server->protocol_features & BIT(VHOST_USER_PROTOCOL_F_SHARED_OBJECT))) {
		return -EOPNOTSUPP;
	}
	fd = server->ops.get_shared_object(server->cookie, shared.uuid);
	ret = reply_fd(server, &shared, sizeof(shared), fd);
	close_fd(&fd);
	return ret;
}

static int gpu_set_socket(struct vhost_user *server)
{
	int ret;

	if (!server->ops.set_gpu_socket_take) {
		return -EOPNOTSUPP;
	}
	ret = fd_check_unix_socket(server->message.fds[0], SOCK_STREAM);
	if (ret < 0) {
		return ret;
	}
	return server->ops.set_gpu_socket_take(server->cookie, take_fd(&server->message));
}

/* ---- Memory ------------------------------------------------------------------------------- */

static void set_memory_take(struct vhost_user *server, struct guest_memory *memory)
{
	struct guest_memory *previous = server->memory;

	server->memory = memory;
	server->ops.set_memory(server->cookie, memory);
	for (uint32_t i = 0; i < server->num_queues; i++) {
		vhost_user_queue_set_memory(&server->queues[i]);
	}
	guest_memory_unref(previous);
}

/* Whoever reads it has to know what to do. */
static int check_memory(struct vhost_user *server, int ret)
{
	if (ret == -EMEDIUMTYPE) {
		vhost_user_log(server, VGF_LOG_WARNING,
			"the guest's memory is in a file that may block: it has to be in memory, "
			"or on a disk of this machine (QEMU: memory-backend-memfd, share=on)");
	}
	return ret;
}

static int set_mem_table(struct vhost_user *server)
{
	const struct vhost_user_message *message = &server->message;
	const struct vhost_user_mem_table *table = &message->payload.memory;
	struct guest_memory *memory;
	int ret;

	/* User-Mode Linux always sends room for two. */
	if (message->header.size < MEM_TABLE_HEADER_SIZE ||
		table->num_regions > VHOST_USER_MAX_REGIONS ||
		table->num_regions != message->num_fds ||
		message->header.size - MEM_TABLE_HEADER_SIZE <
			table->num_regions * sizeof(table->regions[0])) {
		return -EINVAL;
	}
	ret = guest_memory_create(
		table->regions, message->fds, message->num_fds, server->memory, &memory);
	if (ret == 0) {
		set_memory_take(server, memory);
	}
	return check_memory(server, ret);
}

static int get_max_mem_slots(struct vhost_user *server)
{
	return reply_number(server, GUEST_MEMORY_MAX_REGIONS);
}

static int add_mem_reg(struct vhost_user *server)
{
	const struct vhost_user_message *message = &server->message;
	struct guest_memory *memory;
	int ret;

	if (vhost_user_shmem_has(server, message->fds[0])) {
		server->shmem.num_regions++;
		return 0;
	}
	ret = guest_memory_add(
		server->memory, &message->payload.region.region, message->fds[0], &memory);
	if (ret == 0) {
		set_memory_take(server, memory);
	}
	return check_memory(server, ret);
}

/* Some front ends send a descriptor, which is not needed. */
static int rem_mem_reg(struct vhost_user *server)
{
	struct guest_memory *memory;
	int ret;

	ret = guest_memory_remove(server->memory, &server->message.payload.region.region, &memory);
	if (ret == 0) {
		set_memory_take(server, memory);
	} else if (ret == -ENOENT && server->shmem.num_regions > 0) {
		server->shmem.num_regions--; /* its file is not mapped any more */
		ret = 0;
	}
	return ret;
}

/* ---- Queues ------------------------------------------------------------------------------- */

static struct vhost_user_queue *find_queue(struct vhost_user *server, uint64_t index)
{
	return index < server->num_queues ? &server->queues[index] : NULL;
}

/* That of a message which configures it: it must be stopped. */
static int find_stopped_queue(
	struct vhost_user *server, uint32_t index, struct vhost_user_queue **out)
{
	*out = find_queue(server, index);
	if (!*out) {
		return -EINVAL;
	}
	return (*out)->ring ? -EBUSY : 0;
}

static int set_vring_num(struct vhost_user *server)
{
	const struct vhost_user_vring_state *state = &server->message.payload.state;
	struct vhost_user_queue *queue;
	int ret = find_stopped_queue(server, state->index, &queue);

	if (ret < 0) {
		return ret;
	}
	if (state->num == 0 || state->num > VIRTQUEUE_MAX_SIZE ||
		(state->num & (state->num - 1)) != 0) {
		return -EINVAL;
	}
	queue->layout.size = state->num;
	return 0;
}

static int set_vring_addr(struct vhost_user *server)
{
	const struct vhost_user_vring_addr *addr = &server->message.payload.addr;
	struct vhost_user_queue *queue;
	int ret = find_stopped_queue(server, addr->index, &queue);

	if (ret < 0) {
		return ret;
	}
	if (addr->flags != 0) {
		return -EOPNOTSUPP; /* logging, for migration */
	}
	queue->layout.desc = addr->desc;
	queue->layout.avail = addr->avail;
	queue->layout.used = addr->used;
	queue->has_rings = true;
	return 0;
}

static int set_vring_base(struct vhost_user *server)
{
	const struct vhost_user_vring_state *state = &server->message.payload.state;
	struct vhost_user_queue *queue;
	int ret = find_stopped_queue(server, state->index, &queue);

	if (ret < 0) {
		return ret;
	}
	if (state->num > UINT16_MAX) {
		return -EINVAL;
	}
	if (queue->has_run && state->num != queue->base) {
		vhost_user_begin_anew(queue);
	}
	queue->base = (uint16_t)state->num;
	return 0;
}

static int get_vring_base(struct vhost_user *server)
{
	struct vhost_user_vring_state state = server->message.payload.state;
	struct vhost_user_queue *queue = find_queue(server, state.index);

	if (!queue) {
		return -EINVAL;
	}
	if (queue->ring) {
		drain(server);
		vhost_user_queue_stop(queue);
	}
	vhost_user_queue_set_kick_take(queue, -1); /* the next one starts it again */
	state.num = queue->base;
	return reply(server, &state, sizeof(state));
}

/* Of SET_VRING_KICK, _CALL and _ERR. *fd belongs to the caller. It is below 0 if the message says
 * that there is none. */
static int take_vring_fd(struct vhost_user *server, struct vhost_user_queue **queue, int *fd)
{
	uint64_t number = server->message.payload.number;
	size_t expected = number & VHOST_USER_VRING_NO_FD ? 0 : 1;

	*queue = find_queue(server, number & VHOST_USER_VRING_INDEX_MASK);
	if (!*queue || server->message.num_fds != expected ||
		(number & ~(VHOST_USER_VRING_INDEX_MASK | VHOST_USER_VRING_NO_FD))) {
		return -EINVAL;
	}
	*fd = take_fd(&server->message);
	return 0;
}

static int set_vring_kick(struct vhost_user *server)
{
	struct vhost_user_queue *queue;
	int fd, ret;

	ret = take_vring_fd(server, &queue, &fd);
	if (ret == 0 && fd < 0) {
		return -EOPNOTSUPP; /* polling the rings instead */
	}
	if (ret == 0) {
		ret = vhost_user_queue_set_kick_take(queue, fd);
	}
	return ret < 0 ? ret : vhost_user_queue_start(queue);
}

static int set_vring_call(struct vhost_user *server)
{
	struct vhost_user_queue *queue;
	int fd, ret;

	ret = take_vring_fd(server, &queue, &fd);
	return ret < 0 ? ret : vhost_user_queue_set_call_take(queue, fd);
}

static int set_vring_err(struct vhost_user *server)
{
	struct vhost_user_queue *queue;
	int fd, ret;

	ret = take_vring_fd(server, &queue, &fd);
	return ret < 0 ? ret : vhost_user_queue_set_err_take(queue, fd);
}

/* After a queue is disabled, nothing may be written to the guest's memory any more: User-Mode Linux
 * frees the rings next. */
static int set_vring_enable(struct vhost_user *server)
{
	const struct vhost_user_vring_state *state = &server->message.payload.state;
	struct vhost_user_queue *queue = find_queue(server, state->index);

	if (!queue || state->num > 1) {
		return -EINVAL;
	}
	queue->enabled = state->num;
	if (queue->enabled) {
		return vhost_user_queue_start(queue);
	}
	if (queue->ring) {
		drain(server);
		vhost_user_queue_stop(queue);
	}
	return 0;
}

/* ---- Configuration space ------------------------------------------------------------------ */

static bool config_fits(const struct vhost_user_message *message)
{
	const struct vhost_user_config *config = &message->payload.config;

	return message->header.size >= CONFIG_HEADER_SIZE &&
		message->header.size - CONFIG_HEADER_SIZE == config->size &&
		config->size <= VHOST_USER_MAX_CONFIG &&
		config->offset <= VHOST_USER_MAX_CONFIG - config->size;
}

/* An error has a reply of its own: an empty one. */
static int get_config(struct vhost_user *server)
{
	struct vhost_user_config config = server->message.payload.config;

	if (!config_fits(&server->message) ||
		server->ops.read_config(server->cookie, config.offset, config.data, config.size) <
			0) {
		return reply(server, NULL, 0);
	}
	return reply(server, &config, (uint32_t)(CONFIG_HEADER_SIZE + config.size));
}

static int set_config(struct vhost_user *server)
{
	const struct vhost_user_config *config = &server->message.payload.config;

	if (!config_fits(&server->message)) {
		return -EINVAL;
	}
	if (config->flags != 0) {
		return -EOPNOTSUPP; /* migration */
	}
	return server->ops.write_config(server->cookie, config->offset, config->data, config->size);
}

/* ---- The table ---------------------------------------------------------------------------- */

#define ANY_SIZE UINT32_MAX /* the function looks itself */

static const struct request {
	int (*handle)(struct vhost_user *server);
	uint32_t size;            /* of the payload */
	uint8_t min_fds, max_fds; /* what it may come with */
	bool has_reply;           /* always, of its own */
} requests[] = {
	[VHOST_USER_GET_FEATURES] = { get_features, 0, 0, 0, true },
	[VHOST_USER_SET_FEATURES] = { set_features, 8, 0, 0, false },
	[VHOST_USER_SET_OWNER] = { ignore, 0, 0, 0, false },
	[VHOST_USER_RESET_OWNER] = { reset_owner, 0, 0, 0, false },
	[VHOST_USER_SET_MEM_TABLE] = { set_mem_table, ANY_SIZE, 0, VHOST_USER_MAX_REGIONS, false },
	[VHOST_USER_SET_VRING_NUM] = { set_vring_num, 8, 0, 0, false },
	[VHOST_USER_SET_VRING_ADDR] = { set_vring_addr, 40, 0, 0, false },
	[VHOST_USER_SET_VRING_BASE] = { set_vring_base, 8, 0, 0, false },
	[VHOST_USER_GET_VRING_BASE] = { get_vring_base, 8, 0, 0, true },
	[VHOST_USER_SET_VRING_KICK] = { set_vring_kick, 8, 0, 1, false },
	[VHOST_USER_SET_VRING_CALL] = { set_vring_call, 8, 0, 1, false },
	[VHOST_USER_SET_VRING_ERR] = { set_vring_err, 8, 0, 1, false },
	[VHOST_USER_GET_PROTOCOL_FEATURES] = { get_protocol_features, 0, 0, 0, true },
	[VHOST_USER_SET_PROTOCOL_FEATURES] = { set_protocol_features, 8, 0, 0, false },
	[VHOST_USER_GET_QUEUE_NUM] = { get_queue_num, 0, 0, 0, true },
	[VHOST_USER_SET_VRING_ENABLE] = { set_vring_enable, 8, 0, 0, false },
	[VHOST_USER_SET_BACKEND_REQ_FD] = { set_backend_req_fd, 0, 1, 1, false },
	[VHOST_USER_GET_CONFIG] = { get_config, ANY_SIZE, 0, 0, true },
	[VHOST_USER_SET_CONFIG] = { set_config, ANY_SIZE, 0, 0, false },
	[VHOST_USER_GPU_SET_SOCKET] = { gpu_set_socket, 0, 1, 1, false },
	[VHOST_USER_RESET_DEVICE] = { reset_device, 0, 0, 0, false },
	[VHOST_USER_GET_MAX_MEM_SLOTS] = { get_max_mem_slots, 0, 0, 0, true },
	[VHOST_USER_ADD_MEM_REG] = { add_mem_reg, 40, 1, 1, false },
	[VHOST_USER_REM_MEM_REG] = { rem_mem_reg, 40, 0, 1, false },
	[VHOST_USER_GET_SHARED_OBJECT] = { get_shared_object, VHOST_USER_UUID_SIZE, 0, 0, true },
	[VHOST_USER_GET_SHMEM_CONFIG] = { get_shmem_config, 0, 0, 0, true },
};

static const struct request *find_request(uint32_t number)
{
	if (number >= sizeof(requests) / sizeof(requests[0]) || !requests[number].handle) {
		return NULL;
	}
	return &requests[number];
}

static int call(struct vhost_user *server, const struct request *request)
{
	const struct vhost_user_message *message = &server->message;

	if (!request) {
		return -EOPNOTSUPP;
	}
	if (request->size != ANY_SIZE && request->size != message->header.size) {
		return -EBADMSG;
	}
	if (message->num_fds < request->min_fds || message->num_fds > request->max_fds) {
		return -EBADMSG;
	}
	return request->handle(server);
}

int vhost_user_handle_message(struct vhost_user *server)
{
	const struct vhost_user_header header = server->message.header;
	const struct request *request = find_request(header.request);
	int ret = call(server, request);

	if (ret < 0) {
		vhost_user_log(server, VGF_LOG_WARNING, "%s (%u): %s",
			vhost_user_request_name(header.request), header.request, error_name(ret));
	}
	if (request && request->has_reply) {
		return ret;
	}
	/* Asked only now: SET_PROTOCOL_FEATURES may itself want a reply. */
	if ((header.flags & VHOST_USER_FLAG_NEED_REPLY) &&
		(server->protocol_features & BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK))) {
		return reply_number(server, ret < 0);
	}
	/* What is wrong with that one is the guest's fault, not the front end's. */
	return header.request == VHOST_USER_SET_CONFIG ? 0 : ret;
}

void vhost_user_forget(struct vhost_user *server)
{
	reset(server);
	stop_queues(server);
	for (uint32_t i = 0; i < server->num_queues; i++) {
		vhost_user_queue_finish(&server->queues[i]);
	}
	server->ops.set_memory(server->cookie, NULL);
	guest_memory_unref(server->memory);
	server->memory = NULL;
	server->features = server->protocol_features = 0;
	server->ops.set_features(server->cookie, 0);
	if (server->ops.set_gpu_socket_take) {
		server->ops.set_gpu_socket_take(server->cookie, -1);
	}
	vhost_user_channel_close(server);
	server->channel.config_changed = false;
	vhost_user_shmem_forget(server);
	vhost_user_message_finish(&server->message);
}
