/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A history as Perfetto's TrackEvents. The numbers of fields are those of perfetto_trace.proto;
 * tests/perfetto.proto has the ones that are used here.
 */

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "history.h"

#define MAX_LANES 256

/* Tracks, by number: the process, a context and ring each, counters, then lanes of these. */
#define UUID_PROCESS 1
#define UUID_COUNTERS 2
#define UUID_TRACKS 16

/* ---- Protocol buffers ----------------------------------------------------------------------- */

/* Flows, of which there may be too many, leave room for what is put around an event. */
#define ROOM_AROUND 64

/* A message that is being written. All of ours are short: what does not fit is left out. */
struct message {
	uint8_t bytes[4096];
	size_t size;
};

static void put_varint(struct message *message, uint64_t value)
{
	do {
		if (message->size < sizeof(message->bytes)) {
			message->bytes[message->size++] = (uint8_t)((value & 0x7f) |
				(value > 0x7f ? 0x80 : 0));
		}
		value >>= 7;
	} while (value > 0);
}

static void put_number(struct message *message, unsigned int field, uint64_t value)
{
	put_varint(message, field << 3);
	put_varint(message, value);
}

static void put_bytes(struct message *message, unsigned int field, const void *bytes, size_t size)
{
	if (size + 20 > sizeof(message->bytes) - message->size) {
		return;
	}
	put_varint(message, field << 3 | 2);
	put_varint(message, size);
	memcpy(message->bytes + message->size, bytes, size);
	message->size += size;
}

static void put_text(struct message *message, unsigned int field, const char *text)
{
	put_bytes(message, field, text, strlen(text));
}

static void put_fixed64(struct message *message, unsigned int field, uint64_t value)
{
	if (sizeof(message->bytes) - message->size < ROOM_AROUND) {
		return;
	}
	put_varint(message, field << 3 | 1);
	value = htole64(value);
	memcpy(message->bytes + message->size, &value, sizeof(value));
	message->size += sizeof(value);
}

static void put_message(struct message *message, unsigned int field, const struct message *inner)
{
	put_bytes(message, field, inner->bytes, inner->size);
}

/* ---- Packets -------------------------------------------------------------------------------- */

enum event_type {
	SLICE_BEGIN = 1,
	SLICE_END = 2,
	INSTANT = 3,
	COUNTER = 4,
};

struct writer {
	const struct history *history;
	const struct history_window *window;
	FILE *file;
	bool begun;
	uint64_t next_uuid;
};

static void write_packet(struct writer *writer, struct message *packet)
{
	struct message head = { .size = 0 };

	put_number(packet, 10, 1); /* trusted_packet_sequence_id */
	if (!writer->begun) {
		put_number(packet, 13, 1); /* sequence_flags: SEQ_INCREMENTAL_STATE_CLEARED */
		writer->begun = true;
	}
	put_varint(&head, 1 << 3 | 2); /* Trace.packet */
	put_varint(&head, packet->size);
	fwrite(head.bytes, 1, head.size, writer->file);
	fwrite(packet->bytes, 1, packet->size, writer->file);
}

/* unit: of a counter, or NULL for a track of slices. */
static void write_track(struct writer *writer, uint64_t uuid, uint64_t parent, const char *name,
	const char *unit, uint64_t rank)
{
	struct message packet = { .size = 0 }, track = { .size = 0 }, inner = { .size = 0 };

	put_number(&track, 1, uuid);
	put_text(&track, 2, name);
	if (parent == 0) {
		put_number(&inner, 1, 1); /* ProcessDescriptor.pid */
		put_text(&inner, 6, name);
		put_message(&track, 3, &inner);
	} else {
		put_number(&track, 5, parent);
		put_number(&track, 12, rank); /* sibling_order_rank */
	}
	put_number(&track, 11, 3); /* child_ordering: EXPLICIT */
	if (unit != NULL) {
		put_text(&inner, 6, unit); /* CounterDescriptor.unit_name */
		put_message(&track, 8, &inner);
	}
	put_message(&packet, 60, &track);
	write_packet(writer, &packet);
}

static struct message begin_event(enum event_type type, uint64_t uuid)
{
	struct message event = { .size = 0 };

	put_number(&event, 9, type);
	put_number(&event, 11, uuid);
	return event;
}

static void write_event(struct writer *writer, uint64_t t_ns, const struct message *event)
{
	struct message packet = { .size = 0 };

	put_number(&packet, 8, t_ns - writer->history->start_ns);
	put_message(&packet, 11, event);
	write_packet(writer, &packet);
}

static void annotate(struct message *event, const char *name, int64_t value)
{
	struct message annotation = { .size = 0 };

	put_text(&annotation, 10, name);
	put_number(&annotation, 4, (uint64_t)value); /* int_value */
	put_message(event, 4, &annotation);
}

/* ---- Jobs ----------------------------------------------------------------------------------- */

/* A part of a job's slice; nothing if it took no time, or never came. */
static void write_part(
	struct writer *writer, uint64_t uuid, const char *name, uint64_t from_ns, uint64_t to_ns)
{
	struct message event = begin_event(SLICE_BEGIN, uuid);

	to_ns = history_end(writer->history, to_ns);
	if (from_ns == HISTORY_NEVER || to_ns <= from_ns) {
		return;
	}
	put_text(&event, 23, name);
	write_event(writer, from_ns, &event);
	event = begin_event(SLICE_END, uuid);
	write_event(writer, to_ns, &event);
}

static void write_instant(struct writer *writer, uint64_t uuid, const char *name, uint64_t t_ns)
{
	struct message event = begin_event(INSTANT, uuid);

	put_text(&event, 23, name);
	write_event(writer, t_ns, &event);
}

/* The number of a wait is that of its arrow. */
static void put_flows(struct writer *writer, struct message *event, size_t index,
	const size_t *next_of, const size_t *first_of)
{
	const struct history *history = writer->history;
	const struct history_job *job = &history->jobs[index];

	for (size_t i = first_of[index]; i != HISTORY_NONE; i = next_of[i]) {
		if (history_shows(
			    history, writer->window, &history->jobs[history->waits[i].waiter])) {
			put_fixed64(event, 47, i + 1); /* flow_ids */
		}
	}
	for (size_t i = job->first_wait; i < job->first_wait + job->num_waits; i++) {
		size_t producer = history->waits[i].producer;

		if (producer != HISTORY_NONE &&
			history_shows(history, writer->window, &history->jobs[producer])) {
			put_fixed64(event, 48, i + 1); /* terminating_flow_ids */
		}
	}
}

static void write_job(struct writer *writer, uint64_t uuid, size_t index, const size_t *next_of,
	const size_t *first_of)
{
	const struct history_job *job = &writer->history->jobs[index];
	struct message event = begin_event(SLICE_BEGIN, uuid);
	uint64_t held_end = job->run_ns != HISTORY_NEVER ? job->run_ns : job->signal_ns;
	char name[32];

	snprintf(name, sizeof(name), "fence %" PRIu64, job->fence.fence_id);
	put_text(&event, 23, name);
	annotate(&event, "in-fences pending", (int64_t)job->num_waits);
	if (job->status < 0) {
		annotate(&event, "status", job->status);
	}
	put_flows(writer, &event, index, next_of, first_of);
	write_event(writer, job->accept_ns, &event);
	if (job->refused) {
		write_instant(writer, uuid, "refused", job->accept_ns);
	}
	if (job->held) {
		write_part(writer, uuid, "held", job->accept_ns, held_end);
	}
	write_part(writer, uuid, "queued in the GPU", job->run_ns,
		job->start_ns < job->signal_ns ? job->start_ns : job->signal_ns);
	write_part(writer, uuid, "in the GPU", job->start_ns, job->signal_ns);
	write_part(writer, uuid, "waits for its turn", job->signal_ns, job->retire_ns);
	if (job->stalled) {
		write_instant(
			writer, uuid, "stalled", history_end(writer->history, job->signal_ns));
	}
	event = begin_event(SLICE_END, uuid);
	write_event(writer, history_end(writer->history, job->retire_ns), &event);
}

/* Slices of one track must not overlap: a context and ring has as many as there are at once. */
struct lanes {
	uint64_t end_ns[MAX_LANES], uuids[MAX_LANES];
	size_t count;
};

static uint64_t find_lane(struct writer *writer, struct lanes *lanes, const struct history_job *job)
{
	uint64_t parent = UUID_TRACKS + job->track;
	char text[HISTORY_NAME_SIZE];
	size_t i = 0;

	while (i < lanes->count && lanes->end_ns[i] > job->accept_ns) {
		i++;
	}
	if (i == MAX_LANES) {
		return 0;
	}
	if (i == lanes->count) {
		lanes->count++;
		lanes->uuids[i] = writer->next_uuid++;
		write_track(writer, lanes->uuids[i], parent,
			history_track_name(&writer->history->tracks[job->track], text), NULL, i);
	}
	lanes->end_ns[i] = history_end(writer->history, job->retire_ns);
	return lanes->uuids[i];
}

static int write_jobs(struct writer *writer)
{
	const struct history *history = writer->history;
	struct lanes *lanes = calloc(history->num_tracks + 1, sizeof(*lanes));
	size_t *first_of = malloc((history->num_jobs + 1) * sizeof(*first_of));
	size_t *next_of = malloc((history->num_waits + 1) * sizeof(*next_of));
	uint64_t num_left_out = 0;
	int ret = lanes == NULL || first_of == NULL || next_of == NULL ? -ENOMEM : 0;

	if (ret == 0) {
		memset(first_of, 0xff, history->num_jobs * sizeof(*first_of));
	}
	for (size_t i = history->num_waits; ret == 0 && i > 0; i--) {
		size_t producer = history->waits[i - 1].producer;

		if (producer != HISTORY_NONE) {
			next_of[i - 1] = first_of[producer];
			first_of[producer] = i - 1;
		}
	}
	for (size_t i = 0; ret == 0 && i < history->num_jobs; i++) {
		const struct history_job *job = &history->jobs[i];
		uint64_t uuid;

		if (!history_shows(history, writer->window, job)) {
			continue;
		}
		uuid = find_lane(writer, &lanes[job->track], job);
		if (uuid != 0) {
			write_job(writer, uuid, i, next_of, first_of);
		}
		num_left_out += uuid == 0;
	}
	if (num_left_out > 0) {
		fprintf(stderr,
			"vgfence: left out, as %d are shown of a ring at once: %" PRIu64
			" fences\n",
			MAX_LANES, num_left_out);
	}
	free(lanes);
	free(first_of);
	free(next_of);
	return ret;
}

/* ---- Counters ------------------------------------------------------------------------------- */

static void write_counter(struct writer *writer, uint64_t uuid, uint64_t t_ns, uint32_t value)
{
	struct message event = begin_event(COUNTER, uuid);

	put_number(&event, 30, value);
	write_event(writer, t_ns, &event);
}

/* Only what has changed. */
static void write_counters(struct writer *writer)
{
	const struct history *history = writer->history;
	const struct history_counter *last = NULL;

	for (size_t i = 0; i < history->num_counters; i++) {
		const struct history_counter *now = &history->counters[i];

		if (now->t_ns < writer->window->from_ns || now->t_ns >= writer->window->to_ns) {
			continue;
		}
		if (last == NULL || last->pending != now->pending) {
			write_counter(writer, UUID_COUNTERS, now->t_ns, now->pending);
		}
		if (last == NULL || last->held != now->held) {
			write_counter(writer, UUID_COUNTERS + 1, now->t_ns, now->held);
		}
		if (last == NULL || last->fds != now->fds) {
			write_counter(writer, UUID_COUNTERS + 2, now->t_ns, now->fds);
		}
		last = now;
	}
}

static void write_tracks(struct writer *writer)
{
	static const char *const counters[] = { "pending fences", "held submissions",
		"descriptors" };
	const struct history *history = writer->history;
	char text[HISTORY_NAME_SIZE];

	write_track(writer, UUID_PROCESS, 0, "vgfence", NULL, 0);
	for (size_t i = 0; i < 3; i++) {
		write_track(writer, UUID_COUNTERS + i, UUID_PROCESS, counters[i], "", i);
	}
	for (size_t i = 0; i < history->num_tracks; i++) {
		const struct history_track *track = &history->tracks[i];
		/* A refused fence has any ring. */
		uint64_t rank = (uint64_t)track->ctx_id * 64 + (uint64_t)track->ring + 1;

		write_track(writer, UUID_TRACKS + i, UUID_PROCESS, history_track_name(track, text),
			NULL, 3 + (rank & INT32_MAX));
	}
}

int history_write_perfetto(
	const struct history *history, const struct history_window *window, const char *path)
{
	struct writer writer = { .history = history,
		.window = window,
		.file = fopen(path, "wbe"),
		.next_uuid = UUID_TRACKS + history->num_tracks };
	int ret;

	if (writer.file == NULL) {
		return -errno;
	}
	write_tracks(&writer);
	ret = write_jobs(&writer);
	write_counters(&writer);
	if (ferror(writer.file) && ret == 0) {
		ret = -EIO;
	}
	if (fclose(writer.file) != 0 && ret == 0) {
		ret = -errno;
	}
	return ret;
}
