/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#include "virtqueue.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_ring.h>

#include "guest_memory.h"

#define FEATURE(bit) (UINT64_C(1) << (bit))

/* A slot keeps its array for the next request, unless it has become longer than this. */
#define KEEP_BUFFERS 64
#define FIRST_BUFFERS 8

/* A request in flight, by its first descriptor. */
struct slot {
	struct iovec *iov; /* first what can be read, then what can be written */
	size_t max_iov, num_readable, num_writable;
	struct guest_memory *memory; /* NULL: not in flight */
};

/* The rings in guest memory. */
struct rings {
	const struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
};

struct virtqueue {
	struct virtqueue_layout layout;
	struct guest_memory *memory;
	struct rings rings;
	uint16_t next_avail;  /* the next request to take */
	uint16_t known_avail; /* up to here the driver is known to have made them available */
	uint16_t next_used;   /* the place of the next completion */
	uint16_t published;   /* what the driver can see of these */
	bool notified;        /* once at least: before that its event index means nothing */
	uint32_t in_flight;
	struct vring_desc *table; /* a copy of an indirect table */
	char error[128];
	struct slot slots[];
};

/* ---- What the driver writes, and reads ---------------------------------------------------- */

/* All that must not be reordered here is a store of one index before a load of the other one, or
 * just the same in the driver: sequentially consistent accesses, as fences are what ThreadSanitizer
 * does not know. */
static uint16_t load(const __virtio16 *from)
{
	return le16toh(__atomic_load_n(from, __ATOMIC_SEQ_CST));
}

static void store(__virtio16 *to, uint16_t value)
{
	__atomic_store_n(to, htole16(value), __ATOMIC_SEQ_CST);
}

static __virtio16 *used_event(const struct virtqueue *queue)
{
	return &queue->rings.avail->ring[queue->layout.size];
}

static __virtio16 *avail_event(const struct virtqueue *queue)
{
	return (__virtio16 *)&queue->rings.used->ring[queue->layout.size];
}

/* The compiler must not come back to the guest's copy later. */
static void copy_from_guest(void *to, const void *from, size_t size)
{
	memcpy(to, from, size);
	atomic_signal_fence(memory_order_seq_cst);
}

static bool has_feature(const struct virtqueue *queue, unsigned int bit)
{
	return queue->layout.features & FEATURE(bit);
}

/* ---- Creating ----------------------------------------------------------------------------- */

static int map_rings(const struct virtqueue_layout *layout, const struct guest_memory *memory,
	struct rings *rings)
{
	uint64_t size = layout->size;

	if (layout->desc % VRING_DESC_ALIGN_SIZE != 0 ||
		layout->avail % VRING_AVAIL_ALIGN_SIZE != 0 ||
		layout->used % VRING_USED_ALIGN_SIZE != 0) {
		return -EINVAL;
	}
	/* With the event index behind the rings, which is there even if it is not used. */
	rings->desc = guest_memory_user(memory, layout->desc, size * sizeof(struct vring_desc));
	rings->avail = guest_memory_user(
		memory, layout->avail, sizeof(struct vring_avail) + (size + 1) * sizeof(uint16_t));
	rings->used = guest_memory_user(memory, layout->used,
		sizeof(struct vring_used) + size * sizeof(struct vring_used_elem) +
			sizeof(uint16_t));
	if (!rings->desc || !rings->avail || !rings->used) {
		return -EFAULT;
	}
	/* A region may begin anywhere, in the front end's addresses and in its file. */
	if ((uintptr_t)rings->desc % VRING_DESC_ALIGN_SIZE != 0 ||
		(uintptr_t)rings->avail % VRING_AVAIL_ALIGN_SIZE != 0 ||
		(uintptr_t)rings->used % VRING_USED_ALIGN_SIZE != 0) {
		return -EINVAL;
	}
	return 0;
}

int virtqueue_create(const struct virtqueue_layout *layout, uint16_t base,
	struct guest_memory *memory, struct virtqueue **out)
{
	uint32_t size = layout->size;
	struct virtqueue *queue;
	struct rings rings;
	int ret;

	if (size == 0 || size > VIRTQUEUE_MAX_SIZE || (size & (size - 1)) != 0) {
		return -EINVAL;
	}
	ret = map_rings(layout, memory, &rings);
	if (ret < 0) {
		return ret;
	}
	queue = calloc(1, sizeof(*queue) + size * sizeof(struct slot));
	if (!queue) {
		return -ENOMEM;
	}
	queue->layout = *layout;
	queue->memory = guest_memory_ref(memory);
	queue->rings = rings;
	queue->next_avail = queue->known_avail = base;
	queue->next_used = queue->published = load(&rings.used->idx);
	*out = queue;
	return 0;
}

void virtqueue_destroy(struct virtqueue *queue)
{
	if (!queue) {
		return;
	}
	assert(queue->in_flight == 0);
	for (uint32_t i = 0; i < queue->layout.size; i++) {
		free(queue->slots[i].iov);
	}
	free(queue->table);
	guest_memory_unref(queue->memory);
	free(queue);
}

int virtqueue_set_memory(struct virtqueue *queue, struct guest_memory *memory)
{
	struct rings rings;
	int ret;

	ret = map_rings(&queue->layout, memory, &rings);
	if (ret < 0) {
		return ret;
	}
	guest_memory_unref(queue->memory);
	queue->memory = guest_memory_ref(memory);
	queue->rings = rings;
	return 0;
}

/* ---- Taking requests ---------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static int fail(
	struct virtqueue *queue, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(queue->error, sizeof(queue->error), format, args);
	va_end(args);
	return -EPROTO;
}

static int out_of_memory(struct virtqueue *queue)
{
	fail(queue, "out of memory");
	return -ENOMEM;
}

static int grow(struct virtqueue *queue, struct slot *slot)
{
	size_t max_iov = slot->max_iov > 0 ? 2 * slot->max_iov : FIRST_BUFFERS;
	struct iovec *iov = realloc(slot->iov, max_iov * sizeof(*iov));

	if (!iov) {
		return out_of_memory(queue);
	}
	slot->iov = iov;
	slot->max_iov = max_iov;
	return 0;
}

/* Adds the buffer's pieces of guest memory to the slot. Returns how many these are. */
static int map_buffer(struct virtqueue *queue, struct slot *slot, const struct vring_desc *desc)
{
	size_t used = slot->num_readable + slot->num_writable;
	int ret = -E2BIG;

	if (slot->max_iov > used) {
		ret = guest_memory_map(queue->memory, desc->addr, desc->len, slot->iov + used,
			slot->max_iov - used);
	}
	while (ret == -E2BIG) {
		if (slot->max_iov >= VIRTQUEUE_MAX_BUFFERS) {
			return fail(
				queue, "a request of more than %d buffers", VIRTQUEUE_MAX_BUFFERS);
		}
		if (grow(queue, slot) < 0) {
			return -ENOMEM;
		}
		ret = guest_memory_map(queue->memory, desc->addr, desc->len, slot->iov + used,
			slot->max_iov - used);
	}
	if (ret < 0) {
		return fail(queue, "a buffer outside of memory: %u bytes at 0x%llx",
			(unsigned int)desc->len, (unsigned long long)desc->addr);
	}
	return ret;
}

static int add_buffer(
	struct virtqueue *queue, struct slot *slot, const struct vring_desc *desc, uint64_t *total)
{
	int count;

	if (desc->len == 0) {
		return fail(queue, "an empty buffer");
	}
	*total += desc->len;
	if (*total > UINT32_MAX) {
		return fail(queue, "a request of more than 4 GiB");
	}
	if (!(desc->flags & VRING_DESC_F_WRITE) && slot->num_writable > 0) {
		return fail(queue, "a readable buffer after a writable one");
	}
	count = map_buffer(queue, slot, desc);
	if (count < 0) {
		return count;
	}
	if (desc->flags & VRING_DESC_F_WRITE) {
		slot->num_writable += (size_t)count;
	} else {
		slot->num_readable += (size_t)count;
	}
	return 0;
}

/* Copies an indirect table, all of it at once. Returns how many descriptors it has. */
static int copy_table(struct virtqueue *queue, const struct vring_desc *desc)
{
	struct iovec iov[4]; /* more regions than this it would not cross for any good reason */
	size_t size = desc->len, done = 0;
	int count;

	if (size == 0 || size % sizeof(struct vring_desc) != 0) {
		return fail(queue, "an indirect table of %zu bytes", size);
	}
	if (size > VIRTQUEUE_MAX_BUFFERS * sizeof(struct vring_desc)) {
		return fail(queue, "an indirect table of more than %d descriptors",
			VIRTQUEUE_MAX_BUFFERS);
	}
	count = guest_memory_map(queue->memory, desc->addr, size, iov, 4);
	if (count < 0) {
		return fail(queue, "an indirect table outside of memory: %zu bytes at 0x%llx", size,
			(unsigned long long)desc->addr);
	}
	if (!queue->table) {
		queue->table = calloc(VIRTQUEUE_MAX_BUFFERS, sizeof(struct vring_desc));
		if (!queue->table) {
			return out_of_memory(queue);
		}
	}
	for (int i = 0; i < count; i++) {
		copy_from_guest((char *)queue->table + done, iov[i].iov_base, iov[i].iov_len);
		done += iov[i].iov_len;
	}
	return (int)(size / sizeof(struct vring_desc));
}

static int check_indirect(struct virtqueue *queue, const struct vring_desc *desc, bool in_indirect)
{
	if (!has_feature(queue, VIRTIO_RING_F_INDIRECT_DESC)) {
		return fail(queue, "an indirect table, which was not negotiated");
	}
	if (in_indirect) {
		return fail(queue, "an indirect table in an indirect table");
	}
	if (desc->flags & VRING_DESC_F_NEXT) {
		return fail(queue, "an indirect table that is not the end of its chain");
	}
	return 0;
}

static struct vring_desc read_desc(const struct vring_desc *from)
{
	struct vring_desc desc;

	copy_from_guest(&desc, from, sizeof(desc));
	return (struct vring_desc){ .addr = le64toh(desc.addr),
		.len = le32toh(desc.len),
		.flags = le16toh(desc.flags),
		.next = le16toh(desc.next) };
}

/* Follows a chain, and at its end the one in an indirect table. */
static int walk_chain(struct virtqueue *queue, uint16_t head, struct slot *slot)
{
	const struct vring_desc *table = queue->rings.desc;
	uint32_t index = head, size = queue->layout.size, count = 0;
	uint64_t total = 0;
	struct vring_desc desc;
	int ret;

	do {
		if (index >= size) {
			return fail(queue, "descriptor %u of %u", index, size);
		}
		if (count++ == size) {
			return fail(queue, "a chain with a loop");
		}
		desc = read_desc(&table[index]);
		index = desc.next;
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			ret = check_indirect(queue, &desc, table == queue->table);
			ret = ret < 0 ? ret : copy_table(queue, &desc);
			table = queue->table;
			index = count = 0;
			size = (uint32_t)ret;
			desc.flags = VRING_DESC_F_NEXT;
		} else {
			ret = add_buffer(queue, slot, &desc, &total);
		}
		if (ret < 0) {
			return ret;
		}
	} while (desc.flags & VRING_DESC_F_NEXT);
	return 0;
}

/* Whether there is one to take. */
static int next_available(struct virtqueue *queue)
{
	uint16_t ahead;

	if (queue->next_avail != queue->known_avail) {
		return 1;
	}
	queue->known_avail = load(&queue->rings.avail->idx);
	ahead = (uint16_t)(queue->known_avail - queue->next_avail);
	if (ahead > queue->layout.size) {
		return fail(queue, "the available index jumps from %u to %u", queue->next_avail,
			queue->known_avail);
	}
	return ahead > 0;
}

static int take(struct virtqueue *queue, uint16_t head)
{
	struct slot *slot;
	int ret;

	if (head >= queue->layout.size) {
		return fail(
			queue, "a request begins at descriptor %u of %u", head, queue->layout.size);
	}
	slot = &queue->slots[head];
	if (slot->memory) {
		return fail(queue, "descriptor %u is made available again in flight", head);
	}
	slot->num_readable = slot->num_writable = 0;
	ret = walk_chain(queue, head, slot);
	if (ret < 0) {
		return ret;
	}
	slot->memory = guest_memory_ref(queue->memory);
	queue->in_flight++;
	queue->next_avail++;
	return 0;
}

int virtqueue_pop(struct virtqueue *queue, struct virtqueue_request *request)
{
	const struct slot *slot;
	uint16_t head;
	int ret;

	if (queue->error[0] != '\0') {
		return -EPROTO;
	}
	ret = next_available(queue);
	if (ret <= 0) {
		return ret;
	}
	head = load(&queue->rings.avail->ring[queue->next_avail % queue->layout.size]);
	ret = take(queue, head);
	if (ret < 0) {
		return ret;
	}
	slot = &queue->slots[head];
	*request = (struct virtqueue_request){
		.token = head,
		.readable = slot->iov,
		.num_readable = slot->num_readable,
		.writable = slot->iov + slot->num_readable,
		.num_writable = slot->num_writable,
	};
	return 1;
}

const char *virtqueue_error(const struct virtqueue *queue)
{
	return queue->error[0] != '\0' ? queue->error : NULL;
}

void virtqueue_fail(struct virtqueue *queue, const char *error)
{
	fail(queue, "%s", error);
}

/* ---- Completing them ---------------------------------------------------------------------- */

void virtqueue_push(struct virtqueue *queue, uint32_t token, uint32_t written)
{
	struct vring_used_elem *elem =
		&queue->rings.used->ring[queue->next_used % queue->layout.size];
	struct slot *slot;

	assert(token < queue->layout.size);
	slot = &queue->slots[token];
	assert(slot->memory);
	__atomic_store_n(&elem->id, htole32(token), __ATOMIC_RELAXED);
	__atomic_store_n(&elem->len, htole32(written), __ATOMIC_RELAXED);
	queue->next_used++;
	queue->in_flight--;
	guest_memory_unref(slot->memory);
	slot->memory = NULL;
	if (slot->max_iov > KEEP_BUFFERS) {
		free(slot->iov);
		slot->iov = NULL;
		slot->max_iov = 0;
	}
}

bool virtqueue_publish(struct virtqueue *queue)
{
	uint16_t old = queue->published;
	bool first = !queue->notified;

	if (old == queue->next_used) {
		return false;
	}
	queue->published = queue->next_used;
	queue->notified = true;
	store(&queue->rings.used->idx, queue->next_used);
	if (!has_feature(queue, VIRTIO_RING_F_EVENT_IDX)) {
		return !(load(&queue->rings.avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	}
	return first || vring_need_event(load(used_event(queue)), queue->next_used, old);
}

/* ---- Kicks -------------------------------------------------------------------------------- */

void virtqueue_disable_kicks(struct virtqueue *queue)
{
	/* With an event index, one that stays behind is as good. */
	if (!has_feature(queue, VIRTIO_RING_F_EVENT_IDX)) {
		store(&queue->rings.used->flags, VRING_USED_F_NO_NOTIFY);
	}
}

bool virtqueue_enable_kicks(struct virtqueue *queue)
{
	if (has_feature(queue, VIRTIO_RING_F_EVENT_IDX)) {
		store(avail_event(queue), queue->next_avail);
	} else {
		store(&queue->rings.used->flags, 0);
	}
	/* Only what is made available after this is sure to be followed by a kick. */
	return load(&queue->rings.avail->idx) != queue->next_avail;
}

/* ---- Stopping and going on ---------------------------------------------------------------- */

/* Of the event index: any place that the driver does not come by for a while. */
static uint16_t mark_of(uint16_t base)
{
	return base ^ 0x8000;
}

void virtqueue_leave_mark(struct virtqueue *queue)
{
	if (has_feature(queue, VIRTIO_RING_F_EVENT_IDX)) {
		store(avail_event(queue), mark_of(queue->next_avail));
	} else {
		store(&queue->rings.used->flags, VRING_USED_F_NO_NOTIFY);
	}
}

bool virtqueue_has_mark(const struct virtqueue *queue)
{
	if (has_feature(queue, VIRTIO_RING_F_EVENT_IDX)) {
		return load(avail_event(queue)) == mark_of(queue->next_avail);
	}
	return load(&queue->rings.used->flags) & VRING_USED_F_NO_NOTIFY;
}

uint16_t virtqueue_base(const struct virtqueue *queue)
{
	return queue->next_avail;
}

uint32_t virtqueue_in_flight(const struct virtqueue *queue)
{
	return queue->in_flight;
}
