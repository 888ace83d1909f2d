/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "event_format.h"
#include "history.h"
#include "workload.h"

/* Contexts and rings: more than anybody looks at. */
#define MAX_TRACKS 4096

/* ---- Tables --------------------------------------------------------------------------------- */

/* Room for one more. Returns NULL if there is no memory. */
static void *grow(void *entries, size_t count, size_t *max, size_t size)
{
	size_t room = *max > 0 ? 2 * *max : 64;
	void *more;

	if (count < *max) {
		return entries;
	}
	more = realloc(entries, room * size);
	if (more != NULL) {
		*max = room;
	}
	return more;
}

/* Adds an entry of zeros to a table of the history; NULL: out of memory. */
#define ADD(history, table)                                                                        \
	add_entry((history), (void **)&(history)->table, &(history)->num_##table,                  \
		&(history)->max_##table, sizeof(*(history)->table))

static void *add_entry(
	struct history *history, void **entries, size_t *count, size_t *max, size_t size)
{
	void *more = grow(*entries, *count, max, size);

	if (more == NULL) {
		history->error = -ENOMEM;
		return NULL;
	}
	*entries = more;
	return memset((char *)more + size * (*count)++, 0, size);
}

static size_t hash_name(const struct history *history, const struct vgf_fence_name *fence)
{
	uint64_t key = fence->fence_id * UINT64_C(0x9e3779b97f4a7c15);

	key ^= ((uint64_t)fence->ctx_id << 32 | (uint32_t)fence->ring) *
		UINT64_C(0xff51afd7ed558ccd);
	return (key ^ key >> 29) & history->name_mask;
}

static bool is_same(const struct vgf_fence_name *left, const struct vgf_fence_name *right)
{
	return left->fence_id == right->fence_id && left->ring == right->ring &&
		left->ctx_id == right->ctx_id;
}

/* The place of a name in the hash table. */
static size_t *find_place(const struct history *history, const struct vgf_fence_name *fence)
{
	size_t at = hash_name(history, fence);

	while (history->by_name[at] != HISTORY_NONE &&
		!is_same(&history->jobs[history->by_name[at]].fence, fence)) {
		at = (at + 1) & history->name_mask;
	}
	return &history->by_name[at];
}

size_t history_find(const struct history *history, const struct vgf_fence_name *fence)
{
	return history->by_name != NULL ? *find_place(history, fence) : HISTORY_NONE;
}

/* Half of it stays empty. */
static int grow_names(struct history *history)
{
	size_t count = history->by_name != NULL ? 2 * (history->name_mask + 1) : 256;
	size_t *places = malloc(count * sizeof(*places));

	if (places == NULL) {
		return -ENOMEM;
	}
	memset(places, 0xff, count * sizeof(*places));
	free(history->by_name);
	history->by_name = places;
	history->name_mask = count - 1;
	for (size_t i = 0; i < history->num_jobs; i++) {
		*find_place(history, &history->jobs[i].fence) = i;
	}
	return 0;
}

static size_t find_track(struct history *history, const struct vgf_fence_name *fence)
{
	bool global = fence->ring == VGF_RING_GLOBAL;
	struct history_track *track;

	/* The newest first: there are few, or it is not a device that wrote this. */
	for (size_t i = history->num_tracks; i > 0; i--) {
		track = &history->tracks[i - 1];
		if (track->ring == fence->ring && (global || track->ctx_id == fence->ctx_id)) {
			return i - 1;
		}
	}
	track = history->num_tracks < MAX_TRACKS ? ADD(history, tracks) : NULL;
	if (track == NULL) {
		history->error = history->error < 0 ? history->error : -E2BIG;
		return HISTORY_NONE;
	}
	track->ctx_id = global ? 0 : fence->ctx_id;
	track->ring = fence->ring;
	track->last = HISTORY_NONE;
	return history->num_tracks - 1;
}

/* ---- Events --------------------------------------------------------------------------------- */

static void add_job(struct history *history, const struct vgf_event *event)
{
	size_t index = history->num_jobs;
	size_t track = find_track(history, &event->fence);
	struct history_job *job;

	if (track == HISTORY_NONE) {
		return;
	}
	if (2 * (history->num_jobs + 1) > (history->by_name != NULL ? history->name_mask : 0) &&
		grow_names(history) < 0) {
		history->error = -ENOMEM;
		return;
	}
	job = ADD(history, jobs);
	if (job == NULL) {
		return;
	}
	*job = (struct history_job){
		.fence = event->fence,
		.track = track,
		.before = history->tracks[track].last,
		.accept_ns = event->t_ns,
		.run_ns = event->kind == VGF_EVENT_ACCEPT ? event->t_ns : HISTORY_NEVER,
		.start_ns = HISTORY_NEVER,
		.signal_ns = HISTORY_NEVER,
		.retire_ns = HISTORY_NEVER,
		.refused = event->kind == VGF_EVENT_REFUSE,
		.status = event->status,
		.first_wait = history->num_waits,
	};
	history->tracks[track].last = index;
	*find_place(history, &job->fence) = index;
}

static void add_wait(struct history *history, size_t index, const struct vgf_event *event)
{
	struct history_job *job = &history->jobs[index];
	struct history_wait *wait;

	/* Those of a job come one after the other. */
	if (job->first_wait + job->num_waits != history->num_waits) {
		return;
	}
	wait = ADD(history, waits);
	if (wait == NULL) {
		return;
	}
	wait->waiter = index;
	wait->producer = history_find(history, &event->in_fence);
	if (wait->producer >= index) {
		wait->producer = HISTORY_NONE;
	}
	job->num_waits++;
	history->passing = true;
}

static void change_job(struct history *history, size_t index, const struct vgf_event *event)
{
	struct history_job *job = &history->jobs[index];

	switch (event->kind) {
	case VGF_EVENT_WAIT:
		add_wait(history, index, event);
		break;
	case VGF_EVENT_HOLD:
		job->held = true;
		job->run_ns = HISTORY_NEVER;
		break;
	case VGF_EVENT_RUN:
		job->run_ns = event->t_ns;
		break;
	case VGF_EVENT_SIGNAL:
		job->signal_ns = event->t_ns;
		job->status = event->status;
		break;
	case VGF_EVENT_RETIRE:
		job->retire_ns = event->t_ns;
		break;
	case VGF_EVENT_STALL:
		job->stalled = true;
		break;
	case VGF_EVENT_ACCEPT:
	case VGF_EVENT_REFUSE:
		break;
	}
}

static void add_counter(struct history *history, const struct vgf_event *event)
{
	struct history_counter *last = history->num_counters > 0 ?
		&history->counters[history->num_counters - 1] :
		NULL;

	if (last == NULL || last->t_ns != event->t_ns) {
		last = ADD(history, counters);
	}
	if (last != NULL) {
		*last = (struct history_counter){ event->t_ns, event->pending, event->held,
			event->fds };
	}
}

static void add_event(void *arg, const struct vgf_event *event)
{
	struct history *history = arg;
	size_t index;

	if (history->error < 0) {
		return;
	}
	history->start_ns = history->num_counters == 0 ? event->t_ns : history->start_ns;
	history->end_ns = event->t_ns;
	add_counter(history, event);
	if (!(event->flags & VGF_FENCED)) {
		history->num_unfenced += event->kind == VGF_EVENT_ACCEPT;
	} else if (event->kind == VGF_EVENT_ACCEPT || event->kind == VGF_EVENT_REFUSE) {
		add_job(history, event);
	} else {
		index = history_find(history, &event->fence);
		/* Else it was accepted before this began. */
		if (index != HISTORY_NONE && history->jobs[index].retire_ns == HISTORY_NEVER) {
			change_job(history, index, event);
		}
	}
}

/* ---- Files ---------------------------------------------------------------------------------- */

static const char *check_event(const struct vgf_event *event, uint64_t last_ns)
{
	if (event->kind < VGF_EVENT_ACCEPT || event->kind > VGF_EVENT_REFUSE) {
		return "a kind of event that is not known";
	}
	if (event->t_ns < last_ns || event->t_ns == HISTORY_NEVER) {
		return "an event is earlier than the one before it";
	}
	if (event->fence.ring < VGF_RING_GLOBAL || event->fence.ring >= VGF_MAX_RINGS) {
		if (event->kind != VGF_EVENT_REFUSE) {
			return "a ring that cannot be";
		}
	}
	if (event->wait > VGF_WAIT_HOST || event->status > 0) {
		return "a value that cannot be";
	}
	return NULL;
}

static struct vgf_event from_record(const struct event_record *record)
{
	return (struct vgf_event){
		.t_ns = le64toh(record->t_ns),
		.fence = { le64toh(record->fence_id), le32toh(record->ctx_id),
			(int32_t)le32toh(record->ring) },
		.in_fence = { le64toh(record->in_fence_id), le32toh(record->in_ctx_id),
			(int32_t)le32toh(record->in_ring) },
		.kind = (enum vgf_event_kind)le16toh(record->kind),
		.flags = le32toh(record->flags),
		.wait = (enum vgf_wait)le16toh(record->wait),
		.status = (int)le32toh(record->status),
		.pending = le32toh(record->pending),
		.held = le32toh(record->held),
		.fds = le32toh(record->fds),
	};
}

static int bad_file(const char *path, uint64_t offset, const char *message)
{
	fprintf(stderr, "vgfence: %s: at byte %" PRIu64 ": %s\n", path, offset, message);
	return -EBADMSG;
}

/* Behind the file's magic. */
static int read_events(struct history *history, FILE *file, const char *path)
{
	struct event_file_header header = { 0 };
	uint64_t offset = sizeof(header);
	struct event_record record;
	const char *message;
	size_t size;

	if (fread(&header.version, sizeof(header) - sizeof(header.magic), 1, file) != 1 ||
		le32toh(header.version) != EVENT_FILE_VERSION || header.flags != 0) {
		return bad_file(path, sizeof(header.magic), "a version that is not known");
	}
	while ((size = fread(&record, 1, sizeof(record), file)) == sizeof(record)) {
		struct vgf_event event = from_record(&record);

		if (le16toh(record.kind) == EVENT_LOST) {
			history->num_lost += event.fence.fence_id;
		} else {
			message = check_event(&event, history->end_ns);
			if (message != NULL) {
				return bad_file(path, offset, message);
			}
			add_event(history, &event);
		}
		offset += sizeof(record);
	}
	if (ferror(file)) {
		return -EIO;
	}
	return size == 0 ? history->error : bad_file(path, offset, "cut off in a record");
}

/* Of what is not bad in the file, of which bad_file has told. */
static void tell_error(int error, const char *path)
{
	if (error == -E2BIG) {
		fprintf(stderr, "vgfence: %s: more than %d contexts and rings\n", path, MAX_TRACKS);
	} else if (error < 0 && error != -EBADMSG) {
		fprintf(stderr, "vgfence: %s: %s\n", path, strerror(-error));
	}
}

/* Reads the rest of a file, which may be a pipe and cannot be opened twice, behind what was read.
 * The caller frees *bytes, also after an error. */
static int read_rest(FILE *file, const char *begun, size_t count, char **bytes, size_t *size)
{
	FILE *memory = open_memstream(bytes, size);
	char piece[65536];
	int ret = 0;

	if (memory == NULL) {
		return -errno;
	}
	fwrite(begun, 1, count, memory);
	while ((count = fread(piece, 1, sizeof(piece), file)) > 0) {
		fwrite(piece, 1, count, memory);
	}
	if (ferror(file)) {
		ret = -errno; /* of the read that has just failed */
	}
	if (fclose(memory) != 0 && ret == 0) {
		ret = -ENOMEM;
	}
	return ret;
}

/* begun: the first bytes of the file. */
static int replay_events(struct history *history, FILE *file, const char *begun, size_t count,
	const char *path, const struct vmm_options *options)
{
	struct vmm_options with_listener = *options;
	struct workload workload;
	struct vmm_result result;
	char *bytes = NULL;
	size_t size;
	int ret = read_rest(file, begun, count, &bytes, &size);

	if (ret < 0) {
		tell_error(ret, path);
		free(bytes);
		return ret;
	}
	ret = workload_parse_take(&workload, bytes, size, path, PACE_DEFAULT);
	if (ret < 0) {
		return ret;
	}
	with_listener.listener = add_event;
	with_listener.listener_arg = history;
	ret = vmm_replay(&workload, &with_listener, &result);
	vmm_result_finish(&result);
	workload_finish(&workload);
	if (ret == 0) {
		ret = history->error;
		tell_error(ret, path);
	}
	return ret;
}

static uint64_t later(uint64_t left, uint64_t right)
{
	return left > right ? left : right;
}

/* A job that has not run never starts. */
static void set_start(struct history *history, struct history_job *job)
{
	uint64_t start_ns = job->run_ns;

	if (start_ns == HISTORY_NEVER) {
		return;
	}
	if (job->before != HISTORY_NONE) {
		start_ns = later(start_ns, history->jobs[job->before].signal_ns);
	}
	for (size_t i = 0; i < job->num_waits; i++) {
		size_t producer = history->waits[job->first_wait + i].producer;

		if (producer != HISTORY_NONE) {
			start_ns = later(start_ns, history->jobs[producer].signal_ns);
		}
	}
	job->start_ns = start_ns < job->signal_ns ? start_ns : job->signal_ns;
}

int history_load(struct history *history, const char *path, const struct vmm_options *options)
{
	char magic[8];
	size_t count;
	FILE *file = fopen(path, "rbe");
	int ret;

	*history = (struct history){ 0 };
	if (file == NULL) {
		ret = -errno;
		fprintf(stderr, "vgfence: %s: %s\n", path, strerror(-ret));
		return ret;
	}
	count = fread(magic, 1, sizeof(magic), file);
	if (count == sizeof(magic) && memcmp(magic, EVENT_FILE_MAGIC, sizeof(magic)) == 0) {
		ret = read_events(history, file, path);
		tell_error(ret, path);
	} else {
		ret = replay_events(history, file, magic, count, path, options);
	}
	fclose(file);
	for (size_t i = 0; ret == 0 && i < history->num_jobs; i++) {
		set_start(history, &history->jobs[i]);
	}
	if (ret < 0) {
		history_finish(history);
	}
	return ret;
}

void history_finish(struct history *history)
{
	free(history->jobs);
	free(history->waits);
	free(history->tracks);
	free(history->counters);
	free(history->by_name);
	*history = (struct history){ 0 };
}

const char *history_track_name(const struct history_track *track, char text[HISTORY_NAME_SIZE])
{
	if (track->ring == VGF_RING_GLOBAL) {
		snprintf(text, HISTORY_NAME_SIZE, "global timeline");
	} else {
		snprintf(text, HISTORY_NAME_SIZE, "context %" PRIu32 " ring %" PRId32,
			track->ctx_id, track->ring);
	}
	return text;
}

bool history_shows(const struct history *history, const struct history_window *window,
	const struct history_job *job)
{
	return job->accept_ns < window->to_ns &&
		history_end(history, job->retire_ns) >= window->from_ns;
}

size_t history_cause(const struct history *history, const struct history_job *job)
{
	size_t cause = job->before;
	uint64_t cause_ns = cause != HISTORY_NONE ? history->jobs[cause].signal_ns : 0;

	for (size_t i = 0; i < job->num_waits; i++) {
		size_t producer = history->waits[job->first_wait + i].producer;

		if (producer != HISTORY_NONE && history->jobs[producer].signal_ns > cause_ns) {
			cause = producer;
			cause_ns = history->jobs[producer].signal_ns;
		}
	}
	return cause_ns > job->accept_ns ? cause : HISTORY_NONE;
}
