/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* What of a device outlives its process: the marks of its timelines. vgfence.h has the format. */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "dispatcher.h"
#include "error_name.h"
#include "export.h"
#include "lock.h"
#include "log.h"
#include "run.h"

#define VERSION 1
#define HEADER_SIZE 32
#define RECORD_SIZE 16

static const uint8_t magic[8] = "VGFENCE";

/* One timeline of a context. There is one for ring 0 of each open context, used or not. */
struct record {
	uint32_t ctx_id;
	uint32_t ring;
	uint64_t next_id;
};

struct header {
	uint32_t count; /* of the records behind it */
	uint64_t next_id, global_next_id;
};

static uint64_t get(const uint8_t *bytes, unsigned int size)
{
	uint64_t value = 0;

	while (size-- > 0) {
		value = value << 8 | bytes[size];
	}
	return value;
}

static void put(uint8_t *bytes, uint64_t value, unsigned int size)
{
	for (unsigned int i = 0; i < size; i++) {
		bytes[i] = (uint8_t)(value >> (8 * i));
	}
}

static struct record get_record(const uint8_t *blob, size_t index)
{
	const uint8_t *bytes = blob + HEADER_SIZE + index * RECORD_SIZE;

	return (struct record){
		.ctx_id = (uint32_t)get(bytes, 4),
		.ring = (uint32_t)get(bytes + 4, 4),
		.next_id = get(bytes + 8, 8),
	};
}

/* ---- Saving ------------------------------------------------------------------------------- */

static bool is_saved(size_t ring, const struct timeline *timeline)
{
	return ring == 0 || timeline->next_id > 0;
}

/* Of all open contexts. Writes the records unless `to` is NULL, and returns how many there are. */
static size_t put_records(const struct vgf_device *device, uint8_t *to)
{
	const struct context *context;
	size_t count = 0;

	LIST_FOREACH(context, &device->contexts.all, link) {
		for (size_t i = 0; context->current && i < VGF_MAX_RINGS; i++) {
			const struct ring *ring = context->rings[i];
			if (!ring || !is_saved(i, &ring->timeline)) {
				continue;
			}
			if (to) {
				uint8_t *bytes = to + count * RECORD_SIZE;
				put(bytes, context->id, 4);
				put(bytes + 4, i, 4);
				put(bytes + 8, ring->timeline.next_id, 8);
			}
			count++;
		}
	}
	return count;
}

/* By context, then ring. */
static uint64_t record_key(const uint8_t *bytes)
{
	return get(bytes, 4) << 32 | get(bytes + 4, 4);
}

static int compare_records(const void *a, const void *b)
{
	uint64_t key_a = record_key(a), key_b = record_key(b);

	return (key_a > key_b) - (key_a < key_b);
}

/* In the role of the dispatching thread: no other thread is in a callback. The records are in any
 * order. */
static int save(struct vgf_device *device, uint8_t **blob, size_t *count)
{
	if (device->resetting) {
		return -ECANCELED;
	}
	if (device_is_busy(device)) {
		return -EBUSY;
	}
	*count = put_records(device, NULL);
	*blob = malloc(HEADER_SIZE + *count * RECORD_SIZE);
	if (!*blob) {
		return -ENOMEM;
	}
	memcpy(*blob, magic, sizeof(magic));
	put(*blob + 8, VERSION, 4);
	put(*blob + 12, *count, 4);
	put(*blob + 16, device->fences.next_id, 8);
	put(*blob + 24, device->contexts.global.next_id, 8);
	put_records(device, *blob + HEADER_SIZE);
	return 0;
}

VGF_EXPORT int vgf_device_save(struct vgf_device *device, void **blob, size_t *size)
{
	uint8_t *bytes = NULL;
	size_t count = 0;
	int ret;

	*blob = NULL;
	*size = 0;
	device_lock(device);
	if (run_is_inside(device)) {
		device_unlock(device);
		return -EDEADLK;
	}
	dispatcher_enter(device, true);
	ret = save(device, &bytes, &count);
	dispatcher_leave(device);
	device_unlock(device);
	if (ret == 0) {
		qsort(bytes + HEADER_SIZE, count, RECORD_SIZE, compare_records);
		*blob = bytes;
		*size = HEADER_SIZE + count * RECORD_SIZE;
	}
	return ret;
}

/* ---- Restoring ---------------------------------------------------------------------------- */

/* Returns what is wrong, or NULL. */
static const char *read_header(const uint8_t *blob, size_t size, struct header *header)
{
	if (size < HEADER_SIZE || memcmp(blob, magic, sizeof(magic)) != 0) {
		return "it is none";
	}
	if (get(blob + 8, 4) != VERSION) {
		return "its version is not known";
	}
	header->count = (uint32_t)get(blob + 12, 4);
	header->next_id = get(blob + 16, 8);
	header->global_next_id = get(blob + 24, 8);
	if ((size - HEADER_SIZE) % RECORD_SIZE != 0 ||
		(size - HEADER_SIZE) / RECORD_SIZE != header->count) {
		return "its size is wrong";
	}
	if (header->global_next_id > header->next_id) {
		return "the global timeline is ahead of the device";
	}
	return NULL;
}

static const char *check_record(
	const struct header *header, const struct record *record, const struct record *previous)
{
	bool first = !previous || record->ctx_id != previous->ctx_id;

	if (record->ring >= VGF_MAX_RINGS) {
		return "a ring is out of range";
	}
	if (previous && record->ctx_id < previous->ctx_id) {
		return "contexts are out of order";
	}
	if (first ? record->ring != 0 : record->ring <= previous->ring) {
		return "rings are out of order";
	}
	if (record->ring > 0 && record->next_id == 0) {
		return "a ring was never used";
	}
	return record->next_id > header->next_id ? "a ring is ahead of the device" : NULL;
}

static const char *check(const uint8_t *blob, size_t size, struct header *header)
{
	const char *wrong = read_header(blob, size, header);
	struct record previous;

	for (size_t i = 0; !wrong && i < header->count; i++) {
		struct record record = get_record(blob, i);
		wrong = check_record(header, &record, i > 0 ? &previous : NULL);
		previous = record;
	}
	return wrong;
}

/* Makes the rings that are not there yet: those without a fence are as good as not there. */
static int make_rings(struct vgf_device *device, const struct header *header, const uint8_t *blob)
{
	for (size_t i = 0; i < header->count; i++) {
		struct record record = get_record(blob, i);
		struct context *context = context_find_open(&device->contexts, record.ctx_id);
		if (!context) {
			device_log(device, VGF_LOG_WARNING,
				"snapshot: context %" PRIu32 " is not there", record.ctx_id);
			return -ENOENT;
		}
		if (!context_ring(context, (int32_t)record.ring)) {
			return -ENOMEM;
		}
	}
	return 0;
}

static void set_marks(struct vgf_device *device, const struct header *header, const uint8_t *blob)
{
	device->fences.next_id = header->next_id;
	device->contexts.global.next_id = header->global_next_id;
	for (size_t i = 0; i < header->count; i++) {
		struct record record = get_record(blob, i);
		struct context *context = context_find_open(&device->contexts, record.ctx_id);
		context->rings[record.ring]->timeline.next_id = record.next_id;
	}
}

/* Locked. Sets all of it or nothing. */
static int restore(struct vgf_device *device, const uint8_t *blob, size_t size)
{
	struct header header;
	const char *wrong = check(blob, size, &header);
	int ret;

	if (wrong) {
		device_log(device, VGF_LOG_WARNING, "snapshot: %s", wrong);
		return -EINVAL;
	}
	if (device->resetting) {
		return -ECANCELED;
	}
	if (device->fences.next_id > 0) {
		return -EBUSY;
	}
	ret = make_rings(device, &header, blob);
	if (ret == 0) {
		set_marks(device, &header, blob);
	}
	return ret;
}

VGF_EXPORT int vgf_device_restore(struct vgf_device *device, const void *blob, size_t size)
{
	int ret;

	device_lock(device);
	ret = restore(device, blob, size);
	if (ret < 0) {
		device_log(device, VGF_LOG_WARNING, "snapshot: not restored (%s)", error_name(ret));
	}
	device_unlock(device);
	return ret;
}
