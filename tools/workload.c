/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_gpu.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vgfence/submit_3d.h>

#include "clock.h"
#include "soft_gpu.h"
#include "workload.h"

/* ---- Fence passing: negotiated or not ------------------------------------------------------- */

/* The experimental part, which the kernel's header does not have: this flag, and in the padding of
 * struct virtio_gpu_cmd_submit the number of in-fence IDs that follow it. */
#define FLAG_FENCE_SHAREABLE (1u << 2)

/*
 * A trace does not tell which features were negotiated, but a guest that has fence passing shows
 * it: it marks fences as shareable, and its in-fence IDs account for the bytes between the header
 * and a command stream of the size that it gives. Without it, what would be the number of
 * in-fences is padding.
 */
static bool shows_fence_passing(const struct trace_record *record)
{
	struct virtio_gpu_cmd_submit submit;
	uint64_t num_in_fences;

	if (record->kind != TRACE_REQUEST || record->size < sizeof(submit)) {
		return false;
	}
	memcpy(&submit, record->data, sizeof(submit));
	if (le32toh(submit.hdr.type) != VIRTIO_GPU_CMD_SUBMIT_3D) {
		return false;
	}
	if (le32toh(submit.hdr.flags) & FLAG_FENCE_SHAREABLE) {
		return true;
	}
	num_in_fences = le32toh(submit.padding);
	return num_in_fences > 0 &&
		sizeof(submit) + 8 * num_in_fences + le32toh(submit.size) == record->size;
}

static bool has_fence_passing(const struct trace *trace)
{
	for (size_t i = 0; i < trace->num_records; i++) {
		if (shows_fence_passing(&trace->records[i])) {
			return true;
		}
	}
	return false;
}

/* ---- The guest's IDs ------------------------------------------------------------------------ */

/* What an ID stands for: a hash table, of which half stays empty. */
struct id_entry {
	uint64_t id, value; /* value: above 0, or there is no entry */
};

struct id_table {
	struct id_entry *entries;
	size_t mask;
};

/* A guest may use an ID again, as one that begins anew does after a reset. */
struct guest_ids {
	struct id_table fences;   /* the number of the last fence that has the ID */
	struct id_table contexts; /* twice how many had the ID, and CONTEXT_OPEN or not */
	uint64_t next_id;         /* above the IDs of all fences */
};

enum { CONTEXT_OPEN = 1 };

static int init_id_table(struct id_table *table, size_t max_ids)
{
	size_t room = 16;

	while (room < 2 * max_ids) {
		room *= 2;
	}
	table->entries = calloc(room, sizeof(*table->entries));
	table->mask = room - 1;
	return table->entries != NULL ? 0 : -ENOMEM;
}

/* The entry of an ID, or where to put it. */
static struct id_entry *find_id(const struct id_table *table, uint64_t id)
{
	size_t at = (id * UINT64_C(0x9e3779b97f4a7c15) >> 32) & table->mask;

	while (table->entries[at].value != 0 && table->entries[at].id != id) {
		at = (at + 1) & table->mask;
	}
	return &table->entries[at];
}

/* An ID above all says nothing, as the number does that it gets. Another one that no fence of the
 * trace has is taken for retired, as the number 0 is. */
static void number_in_fences(const struct guest_ids *ids, const struct vgf_submission *submission)
{
	uint64_t *in_fences = (uint64_t *)submission->in_fences; /* which this file decoded */

	for (uint32_t i = 0; i < submission->num_in_fences; i++) {
		uint64_t id = in_fences[i];

		in_fences[i] = id < ids->next_id ? find_id(&ids->fences, id)->value : UINT64_MAX;
	}
}

static void number_fence(
	struct workload *workload, struct guest_ids *ids, struct workload_request *request)
{
	uint64_t id = request->fence.fence_id;

	workload->fences[workload->num_fences++] = workload->num_requests;
	request->fence.fence_id = workload->num_fences;
	*find_id(&ids->fences, id) = (struct id_entry){ id, workload->num_fences };
	if (id >= ids->next_id && id < UINT64_MAX) {
		ids->next_id = id + 1;
	}
}

static void note_context(struct guest_ids *ids, struct workload_request *request)
{
	struct id_entry *entry = find_id(&ids->contexts, request->fence.ctx_id);
	uint64_t count = entry->value / 2;

	request->context_is_open = entry->value & CONTEXT_OPEN;
	if (request->type == VIRTIO_GPU_CMD_CTX_CREATE) {
		*entry = (struct id_entry){ request->fence.ctx_id, 2 * (count + 1) | CONTEXT_OPEN };
	} else {
		entry->value = 2 * count;
	}
}

/* ---- Requests ------------------------------------------------------------------------------- */

static void read_header(const struct workload *workload, struct workload_request *request)
{
	struct virtio_gpu_ctrl_hdr header;
	uint32_t flags;

	memcpy(&header, request->data, sizeof(header));
	flags = le32toh(header.flags);
	request->type = le32toh(header.type);
	request->fence.fence_id = le64toh(header.fence_id);
	request->fence.ctx_id = le32toh(header.ctx_id);
	request->fence.ring = flags & VIRTIO_GPU_FLAG_INFO_RING_IDX ? header.ring_idx :
								      VGF_RING_GLOBAL;
	request->flags = flags & VIRTIO_GPU_FLAG_FENCE ? VGF_FENCED : 0;
	if (workload->fence_passing && (flags & FLAG_FENCE_SHAREABLE)) {
		request->flags |= VGF_SHAREABLE;
	}
}

static int read_job(
	struct workload *workload, const struct guest_ids *ids, struct workload_request *request)
{
	struct iovec iov = { .iov_base = (void *)request->data, .iov_len = request->size };
	const struct vgf_submission *submission = &request->submit.submission;
	int ret = vgf_submit_3d_decode(
		&iov, 1, workload->fence_passing, NULL, &request->submit, NULL);

	if (ret == -ENOMEM) {
		return ret;
	}
	request->is_job = true;
	request->malformed = ret < 0;
	request->flags = submission->flags;
	workload->num_jobs++;
	workload->num_fenced_jobs += (request->flags & VGF_FENCED) != 0;
	if (request->malformed) {
		return 0;
	}
	workload->num_in_fences += submission->num_in_fences;
	number_in_fences(ids, submission);
	/* What the GPU does not understand it refuses, and takes no time for. */
	if (soft_gpu_busy_time(submission->command, submission->size, &request->busy_ns) < 0) {
		request->busy_ns = 0;
	}
	return 0;
}

/* Of an idle guest, or of a damaged file, nobody wants to wait for more. */
#define MAX_PAUSE_NS NS_PER_S

/* From what the request's time follows at this pace. last_ns: of the last completion before it. */
static void set_time(struct workload *workload, struct workload_request *request, uint64_t last_ns)
{
	const struct workload_request *first_job = NULL;

	request->completions_before = workload->num_completions;
	if (workload->pace == PACE_ASAP) {
		request->anchor = ANCHOR_NONE;
		return;
	}
	if (workload->first_job != WORKLOAD_NONE) {
		first_job = &workload->requests[workload->first_job];
	}
	/* From the first job on, time counts from when that is really sent: a late start must
	 * not make the rest look faster than it was. */
	if (first_job != NULL &&
		(workload->pace == PACE_RECORDED ||
			first_job->completions_before == request->completions_before)) {
		request->anchor = ANCHOR_FIRST_JOB;
		request->delay_ns = request->t_ns - first_job->t_ns;
	} else if (workload->pace == PACE_CAUSAL && request->completions_before > 0) {
		request->anchor = ANCHOR_COMPLETION;
		request->delay_ns = request->t_ns - last_ns;
	} else {
		request->anchor = ANCHOR_START;
		request->delay_ns = request->t_ns - workload->requests[0].t_ns;
	}
	if (workload->pace == PACE_CAUSAL && request->delay_ns > MAX_PAUSE_NS) {
		request->delay_ns = MAX_PAUSE_NS;
	}
}

static int add_request(struct workload *workload, struct guest_ids *ids,
	const struct trace_record *record, uint64_t last_ns)
{
	struct workload_request *request = &workload->requests[workload->num_requests];
	int ret = 0;

	request->t_ns = record->t_ns;
	request->data = record->data;
	request->size = record->size;
	read_header(workload, request);
	if (request->type == VIRTIO_GPU_CMD_SUBMIT_3D) {
		ret = read_job(workload, ids, request);
	} else if (request->type == VIRTIO_GPU_CMD_CTX_CREATE ||
		request->type == VIRTIO_GPU_CMD_CTX_DESTROY) {
		note_context(ids, request);
	}
	request->context = (uint32_t)(find_id(&ids->contexts, request->fence.ctx_id)->value / 2);
	if (request->flags & VGF_FENCED) {
		number_fence(workload, ids, request);
	}
	set_time(workload, request, last_ns);
	if (request->is_job && workload->first_job == WORKLOAD_NONE) {
		workload->first_job = workload->num_requests;
	}
	workload->num_requests++;
	return ret;
}

/* ---- Look-up by fence ID -------------------------------------------------------------------- */

static bool same_fence(const struct vgf_fence_name *left, const struct vgf_fence_name *right)
{
	return left->fence_id == right->fence_id && left->ring == right->ring &&
		(left->ring == VGF_RING_GLOBAL || left->ctx_id == right->ctx_id);
}

size_t workload_find_fence(const struct workload *workload, const struct vgf_fence_name *fence)
{
	size_t index = workload_find_in_fence(workload, fence->fence_id);

	if (index != WORKLOAD_NONE && same_fence(&workload->requests[index].fence, fence)) {
		return index;
	}
	return WORKLOAD_NONE;
}

size_t workload_find_in_fence(const struct workload *workload, uint64_t fence_id)
{
	return fence_id > 0 && fence_id <= workload->num_fences ? workload->fences[fence_id - 1] :
								  WORKLOAD_NONE;
}

/* ---- Rings and timelines -------------------------------------------------------------------- */

/* The name of a ring, or of a timeline, as one number that sorts. A ring takes 8 bits, and a
 * recording has no room for 2^24 contexts. */
static uint64_t ring_key(uint32_t ctx_id, uint32_t context, int32_t ring)
{
	return (uint64_t)ctx_id << 32 | context << 8 | (uint32_t)(ring + 1);
}

static uint64_t job_ring_key(const struct workload_request *request)
{
	int32_t ring = request->fence.ring == VGF_RING_GLOBAL ? 0 : request->fence.ring;

	return ring_key(request->fence.ctx_id, request->context, ring);
}

/* Contexts that have the same ID one after the other share their timelines. */
static uint64_t timeline_key(const struct workload_request *request)
{
	const struct vgf_fence_name *fence = &request->fence;

	return fence->ring == VGF_RING_GLOBAL ? 0 : ring_key(fence->ctx_id, 0, fence->ring);
}

static int compare_keys(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static size_t sort_unique(uint64_t *keys, size_t count)
{
	size_t left = 0;

	qsort(keys, count, sizeof(keys[0]), compare_keys);
	for (size_t i = 0; i < count; i++) {
		if (left == 0 || keys[left - 1] != keys[i]) {
			keys[left++] = keys[i];
		}
	}
	return left;
}

static size_t find_key(const uint64_t *keys, size_t count, uint64_t key)
{
	return (size_t)((const uint64_t *)bsearch(
				&key, keys, count, sizeof(keys[0]), compare_keys) -
		keys);
}

/* Numbers the rings, and the timelines, from 0. */
static int number_rings(struct workload *workload)
{
	size_t count = workload->num_requests;
	uint64_t *keys = calloc(2 * count + 1, sizeof(*keys));
	uint64_t *rings = keys, *timelines = keys + count;

	if (keys == NULL) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++) {
		rings[i] = job_ring_key(&workload->requests[i]);
		timelines[i] = timeline_key(&workload->requests[i]);
	}
	workload->num_rings = sort_unique(rings, count);
	workload->num_timelines = sort_unique(timelines, count);
	for (size_t i = 0; i < count; i++) {
		struct workload_request *request = &workload->requests[i];

		request->ring = find_key(rings, workload->num_rings, job_ring_key(request));
		request->timeline = find_key(
			timelines, workload->num_timelines, timeline_key(request));
	}
	free(keys);
	return 0;
}

/* ---- Loading -------------------------------------------------------------------------------- */

static int read_records(struct workload *workload)
{
	const struct trace *trace = &workload->trace;
	/* The place of each record's request, to find the request of a completion. */
	size_t *requests = calloc(trace->num_records + 1, sizeof(*requests));
	struct guest_ids ids = { 0 };
	uint64_t last_ns = 0;
	int ret = 0;

	workload->requests = calloc(trace->num_requests + 1, sizeof(*workload->requests));
	workload->completions = calloc(trace->num_requests + 1, sizeof(*workload->completions));
	workload->fences = calloc(trace->num_requests + 1, sizeof(*workload->fences));
	if (requests == NULL || workload->requests == NULL || workload->completions == NULL ||
		workload->fences == NULL || init_id_table(&ids.fences, trace->num_requests) < 0 ||
		init_id_table(&ids.contexts, trace->num_requests) < 0) {
		ret = -ENOMEM;
	}
	for (size_t i = 0; ret == 0 && i < trace->num_records; i++) {
		const struct trace_record *record = &trace->records[i];

		if (record->kind == TRACE_REQUEST) {
			requests[i] = workload->num_requests;
			ret = add_request(workload, &ids, record, last_ns);
		} else {
			workload->completions[workload->num_completions++] = requests[record->peer];
			last_ns = record->t_ns;
		}
	}
	free(requests);
	free(ids.fences.entries);
	free(ids.contexts.entries);
	return ret;
}

static int tell_error(int error, const struct trace_error *what, const char *path)
{
	if (error == -EBADMSG) {
		fprintf(stderr, "vgfence: %s: at byte %" PRIu64 ": %s\n", path, what->offset,
			what->message);
	} else {
		fprintf(stderr, "vgfence: %s: %s\n", path, what->message);
	}
	return error;
}

/* Its trace is loaded. */
static int understand(struct workload *workload, const char *path, enum pace pace)
{
	int ret;

	if (workload->trace.cut_at > 0) {
		fprintf(stderr,
			"vgfence: %s: at byte %" PRIu64 ": cut off; what is before is replayed\n",
			path, workload->trace.cut_at);
	}
	workload->pace = pace;
	workload->first_job = WORKLOAD_NONE;
	workload->fence_passing = has_fence_passing(&workload->trace);
	if (pace == PACE_DEFAULT) {
		workload->pace = workload->fence_passing ? PACE_ASAP : PACE_CAUSAL;
	}
	ret = read_records(workload);
	if (ret == 0) {
		ret = number_rings(workload);
	}
	if (ret < 0) {
		fprintf(stderr, "vgfence: %s: %s\n", path, strerror(-ret));
		workload_finish(workload);
	}
	return ret;
}

int workload_load(struct workload *workload, const char *path, enum pace pace)
{
	struct trace_error error;
	int ret;

	*workload = (struct workload){ 0 };
	ret = trace_load(&workload->trace, path, &error);
	return ret < 0 ? tell_error(ret, &error, path) : understand(workload, path, pace);
}

int workload_parse_take(
	struct workload *workload, void *bytes, size_t size, const char *path, enum pace pace)
{
	struct trace_error error;
	int ret;

	*workload = (struct workload){ 0 };
	ret = trace_parse_take(&workload->trace, bytes, size, &error);
	return ret < 0 ? tell_error(ret, &error, path) : understand(workload, path, pace);
}

void workload_finish(struct workload *workload)
{
	for (size_t i = 0; i < workload->num_requests; i++) {
		if (workload->requests[i].is_job && !workload->requests[i].malformed) {
			vgf_submit_3d_finish(&workload->requests[i].submit);
		}
	}
	free(workload->requests);
	free(workload->completions);
	free(workload->fences);
	trace_finish(&workload->trace);
	*workload = (struct workload){ 0 };
}
