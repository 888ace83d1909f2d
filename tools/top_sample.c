/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "control_client.h"
#include "fence_name.h"
#include "top_sample.h"

/* ---- Reading -------------------------------------------------------------------------------- */

static void read_text(char *text, size_t size, struct json_object *object, const char *key)
{
	struct json_object *value = control_member(object, key, json_type_string);

	snprintf(text, size, "%s", value != NULL ? json_object_get_string(value) : "");
}

static void read_oldest(struct top_timeline *timeline, struct json_object *object)
{
	struct json_object *awaited = control_member(object, "awaits", json_type_object);

	timeline->oldest = control_name(object);
	timeline->age_ns = control_number(object, "age_ns");
	timeline->oldest_for_ns = control_number(object, "oldest_for_ns");
	read_text(timeline->state, sizeof(timeline->state), object, "state");
	if (awaited != NULL) {
		timeline->awaited = control_name(awaited);
	}
}

static void read_timeline(struct top_timeline *timeline, struct json_object *object)
{
	const struct vgf_fence_name place = control_name(object);
	struct json_object *latencies = control_member(object, "latencies", json_type_array);

	*timeline = (struct top_timeline){
		.ctx_id = place.ctx_id,
		.ring = place.ring,
		.pending = control_number(object, "pending"),
		.held = control_number(object, "held"),
		.fences = control_number(object, "fences"),
		.failed = control_number(object, "failed"),
		.total_ns = control_number(object, "total_ns"),
		.max_ns = control_number(object, "max_ns"),
	};
	for (size_t i = 0; i < TOP_LATENCIES && latencies != NULL; i++) {
		timeline->latencies[i] = json_object_get_uint64(
			json_object_array_get_idx(latencies, i));
	}
	if (timeline->pending > 0) {
		read_oldest(timeline, control_member(object, "oldest", json_type_object));
	}
}

static size_t length(const struct json_object *array, size_t max)
{
	size_t count = array != NULL ? json_object_array_length(array) : 0;

	return count < max ? count : max;
}

static void read_statistics(struct top_sample *sample, struct json_object *statistics)
{
	sample->submissions = control_number(statistics, "submissions");
	sample->run_ready = control_number(statistics, "run_ready");
	sample->run_host = control_number(statistics, "run_host");
	sample->fences = control_number(statistics, "fences");
	sample->refused = control_number(statistics, "refused");
	sample->errors = control_number(statistics, "errors");
	sample->failed = control_number(statistics, "failed");
	sample->stalled = control_number(statistics, "stalled");
	sample->pending = control_number(statistics, "pending");
	sample->held = control_number(statistics, "held");
	sample->held_bytes = control_number(statistics, "held_bytes");
	sample->descriptors = control_number(statistics, "descriptors");
}

void top_sample_read(struct top_sample *sample, struct json_object *answer)
{
	struct json_object *contexts = control_member(answer, "contexts", json_type_array);
	struct json_object *timelines = control_member(answer, "timelines", json_type_array);

	sample->time_ns = control_number(answer, "time_ns");
	sample->left_out = control_number(answer, "timelines_left_out");
	read_statistics(sample, control_member(answer, "statistics", json_type_object));
	sample->num_contexts = (uint32_t)length(contexts, TOP_MAX_CONTEXTS);
	for (uint32_t i = 0; i < sample->num_contexts; i++) {
		struct json_object *object = json_object_array_get_idx(contexts, i);

		sample->contexts[i].ctx_id = (uint32_t)control_number(object, "context");
		read_text(
			sample->contexts[i].name, sizeof(sample->contexts[i].name), object, "name");
	}
	sample->num_timelines = (uint32_t)length(timelines, TOP_MAX_TIMELINES);
	for (uint32_t i = 0; i < sample->num_timelines; i++) {
		read_timeline(&sample->timelines[i], json_object_array_get_idx(timelines, i));
	}
}

/* ---- What happened between two samples ------------------------------------------------------ */

static const struct top_timeline *find(
	const struct top_sample *sample, uint32_t ctx_id, int32_t ring)
{
	for (uint32_t i = 0; sample != NULL && i < sample->num_timelines; i++) {
		if (sample->timelines[i].ctx_id == ctx_id && sample->timelines[i].ring == ring) {
			return &sample->timelines[i];
		}
	}
	return NULL;
}

/* One row. */
struct row {
	const struct top_timeline *timeline;
	bool has_rate;
	double fences; /* a second */
	/* Of what was answered since; 0: nothing was. */
	uint64_t average_ns, most_ns; /* 99 of 100 took less than the second */
};

/* The same timeline has counted on, unless its context is another one. */
static bool goes_on(const struct top_timeline *before, const struct top_timeline *now)
{
	return before != NULL && before->fences <= now->fences && before->total_ns <= now->total_ns;
}

static uint64_t percentile(
	const struct top_timeline *before, const struct top_timeline *now, uint64_t count)
{
	uint64_t most = count - count / 100, sum = 0;

	for (uint32_t i = 0; i < TOP_LATENCIES; i++) {
		sum += now->latencies[i] - (before != NULL ? before->latencies[i] : 0);
		if (sum >= most) {
			return NS_PER_US << i;
		}
	}
	return NS_PER_US << (TOP_LATENCIES - 1);
}

static struct row make_row(const struct top_view *view, const struct top_timeline *timeline)
{
	const struct top_timeline *before = find(view->before, timeline->ctx_id, timeline->ring);
	uint64_t time_ns = view->before != NULL ? view->now->time_ns - view->before->time_ns : 0;
	struct row row = { .timeline = timeline, .has_rate = time_ns > 0 };
	uint64_t count;

	before = goes_on(before, timeline) ? before : NULL;
	count = timeline->fences - (before != NULL ? before->fences : 0);
	if (row.has_rate) {
		row.fences = (double)count * NS_PER_S / (double)time_ns;
	}
	if (count > 0) {
		row.average_ns = (timeline->total_ns - (before != NULL ? before->total_ns : 0)) /
			count;
		row.most_ns = percentile(before, timeline, count);
	}
	return row;
}

static int by_pending(const void *left, const void *right)
{
	const struct row *a = left, *b = right;

	if (a->timeline->pending != b->timeline->pending) {
		return a->timeline->pending > b->timeline->pending ? -1 : 1;
	}
	return (a->fences < b->fences) - (a->fences > b->fences);
}

/* What hangs has the longest, though it is not answered. */
static uint64_t latency(const struct row *row)
{
	return row->timeline->pending > 0 && row->timeline->age_ns > row->average_ns ?
		row->timeline->age_ns :
		row->average_ns;
}

static int by_latency(const void *left, const void *right)
{
	uint64_t a = latency(left), b = latency(right);

	return (a < b) - (a > b);
}

/* ---- Writing -------------------------------------------------------------------------------- */

static const char *time_text(char text[16], uint64_t ns)
{
	if (ns == 0) {
		snprintf(text, 16, "-");
	} else if (ns < 10 * NS_PER_MS) {
		snprintf(text, 16, "%" PRIu64 " us", ns / NS_PER_US);
	} else if (ns < 10 * NS_PER_S) {
		snprintf(text, 16, "%" PRIu64 " ms", ns / NS_PER_MS);
	} else {
		snprintf(text, 16, "%" PRIu64 " s", ns / NS_PER_S % 1000000);
	}
	return text;
}

static void write_context_name(FILE *file, const struct top_sample *sample, uint32_t ctx_id)
{
	for (uint32_t i = 0; i < sample->num_contexts; i++) {
		if (sample->contexts[i].ctx_id == ctx_id) {
			control_print_text(file, sample->contexts[i].name, false);
			return;
		}
	}
}

static double rate(const struct top_view *view, uint64_t before, uint64_t now)
{
	uint64_t time_ns = view->before != NULL ? view->now->time_ns - view->before->time_ns : 0;

	return time_ns > 0 && now >= before ? (double)(now - before) * NS_PER_S / (double)time_ns :
					      0;
}

static void write_head(FILE *file, const struct top_view *view)
{
	const struct top_sample *now = view->now;
	const struct top_sample *before = view->before != NULL ? view->before : now;

	fprintf(file, "vgfence top %s: %" PRIu32 " contexts, %.0f submissions/s, %.0f fences/s%s\n",
		view->path, now->num_contexts, rate(view, before->submissions, now->submissions),
		rate(view, before->fences, now->fences),
		view->late_ns > 0 ? ", THE DEVICE DOES NOT ANSWER" : "");
	fprintf(file,
		"pending %" PRIu64 ", held %" PRIu64 " (%" PRIu64 " KiB), descriptors %" PRIu64
		"; in all: submissions %" PRIu64 ", of these held %" PRIu64 "\n",
		now->pending, now->held, now->held_bytes / 1024, now->descriptors, now->submissions,
		now->run_host);
	fprintf(file,
		"in all: fences %" PRIu64 ", with an error %" PRIu64 ", stalled %" PRIu64
		"; refused %" PRIu64 ", requests with an error %" PRIu64 "\n",
		now->fences, now->failed, now->stalled, now->refused, now->errors);
}

static bool is_hung(const struct top_timeline *timeline, uint64_t hung_ns)
{
	return timeline->pending > 0 && timeline->oldest_for_ns >= hung_ns;
}

uint32_t top_list_hung(
	const struct top_sample *sample, uint64_t hung_ns, struct vgf_fence_name hung[TOP_MAX_HUNG])
{
	uint32_t count = 0;

	memset(hung, 0, TOP_MAX_HUNG * sizeof(hung[0]));
	for (uint32_t i = 0; i < sample->num_timelines; i++) {
		if (is_hung(&sample->timelines[i], hung_ns)) {
			hung[count++] = sample->timelines[i].oldest;
		}
	}
	return count;
}

static void write_hung(
	FILE *file, const struct top_sample *sample, const struct top_timeline *timeline)
{
	char name[FENCE_NAME_SIZE];

	fprintf(file, "HUNG %s for %.1f s: ", fence_name_text(name, &timeline->oldest),
		(double)timeline->oldest_for_ns / NS_PER_S);
	control_print_text(file, timeline->state, false);
	if (timeline->awaited.fence_id != 0) {
		fprintf(file, " %s", fence_name_text(name, &timeline->awaited));
	}
	fprintf(file, " (");
	write_context_name(file, sample, timeline->oldest.ctx_id);
	fprintf(file, ")\n");
}

/* Those that wait for nothing of the device's come first, and of these the oldest: the others may
 * wait for them. */
static int by_blame(const void *left, const void *right)
{
	const struct top_timeline *a = *(const struct top_timeline *const *)left;
	const struct top_timeline *b = *(const struct top_timeline *const *)right;
	bool waits_a = a->awaited.fence_id != 0, waits_b = b->awaited.fence_id != 0;

	if (waits_a != waits_b) {
		return waits_a - waits_b;
	}
	return (a->oldest_for_ns < b->oldest_for_ns) - (a->oldest_for_ns > b->oldest_for_ns);
}

static void write_all_hung(FILE *file, const struct top_view *view)
{
	const struct top_timeline *hung[TOP_MAX_HUNG];
	uint32_t count = 0;

	for (uint32_t i = 0; i < view->now->num_timelines; i++) {
		if (is_hung(&view->now->timelines[i], view->hung_ns)) {
			hung[count++] = &view->now->timelines[i];
		}
	}
	qsort(hung, count, sizeof(hung[0]), by_blame);
	for (uint32_t i = 0; i < count; i++) {
		write_hung(file, view->now, hung[i]);
	}
}

static void write_row(FILE *file, const struct top_view *view, const struct row *row)
{
	const struct top_timeline *timeline = row->timeline;
	char average[16], most[16], max[16], oldest[16], ring[16] = "-", rate_text[16] = "-";

	if (timeline->ring != VGF_RING_GLOBAL) {
		snprintf(ring, sizeof(ring), "%" PRId32, timeline->ring);
	}
	if (row->has_rate) {
		snprintf(rate_text, sizeof(rate_text), "%.0f", row->fences);
	}
	fprintf(file, "%7" PRIu32 " %4s %7" PRIu64 " %7" PRIu64 " %8s %9s %9s %9s %9s  ",
		timeline->ctx_id, ring, timeline->pending, timeline->held, rate_text,
		time_text(average, row->average_ns), time_text(most, row->most_ns),
		time_text(max, timeline->max_ns),
		time_text(oldest, timeline->pending > 0 ? timeline->age_ns : 0));
	if (timeline->ring == VGF_RING_GLOBAL) {
		fprintf(file, "the device's timeline");
	} else {
		write_context_name(file, view->now, timeline->ctx_id);
	}
	fprintf(file, "\n");
}

/* Contexts that have done nothing with a fence yet. */
static void write_other_contexts(FILE *file, const struct top_sample *sample)
{
	for (uint32_t i = 0; i < sample->num_contexts; i++) {
		const struct top_context *context = &sample->contexts[i];
		bool found = false;

		for (uint32_t at = 0; at < sample->num_timelines && !found; at++) {
			found = sample->timelines[at].ctx_id == context->ctx_id &&
				sample->timelines[at].ring != VGF_RING_GLOBAL;
		}
		if (!found) {
			fprintf(file, "%7" PRIu32 " %4s %7s %7s %8s %9s %9s %9s %9s  ",
				context->ctx_id, "-", "-", "-", "-", "-", "-", "-", "-");
			control_print_text(file, context->name, false);
			fprintf(file, "\n");
		}
	}
}

void top_write(FILE *file, const struct top_view *view)
{
	const struct top_sample *now = view->now;
	struct row rows[TOP_MAX_TIMELINES];

	write_head(file, view);
	write_all_hung(file, view);
	for (uint32_t i = 0; i < now->num_timelines; i++) {
		rows[i] = make_row(view, &now->timelines[i]);
	}
	qsort(rows, now->num_timelines, sizeof(rows[0]),
		view->by_latency ? by_latency : by_pending);
	fprintf(file, "%7s %4s %7s %7s %8s %9s %9s %9s %9s  %s\n", "CONTEXT", "RING", "PENDING",
		"HELD", "FENCES/S", "AVERAGE", "99% BELOW", "LONGEST", "OLDEST", "NAME");
	for (uint32_t i = 0; i < now->num_timelines; i++) {
		write_row(file, view, &rows[i]);
	}
	if (now->left_out == 0) {
		write_other_contexts(file, now);
	} else {
		fprintf(file, "and %" PRIu64 " timelines more\n", now->left_out);
	}
}
