/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "control_socket.h"
#include "gpu_private.h"
#include "line_socket.h"
#include "observe.h"

struct control_socket {
	struct gpu *gpu;
	struct line_socket *line_socket;
};

/* ---- JSON ----------------------------------------------------------------------------------- */

/* What there is no memory for is left out: json-c would end the program. */
static void add(struct json_object *object, const char *key, struct json_object *value)
{
	if (object == NULL || json_object_object_add(object, key, value) < 0) {
		json_object_put(value);
	}
}

static void append(struct json_object *array, struct json_object *value)
{
	if (array == NULL || json_object_array_add(array, value) < 0) {
		json_object_put(value);
	}
}

static void add_number(struct json_object *object, const char *key, uint64_t number)
{
	add(object, key, json_object_new_uint64(number));
}

static void add_ring(struct json_object *object, int32_t ring)
{
	add(object, "ring", ring == VGF_RING_GLOBAL ? NULL : json_object_new_int(ring));
}

static void add_name(struct json_object *object, const struct vgf_fence_name *name)
{
	add_number(object, "context", name->ctx_id);
	add_ring(object, name->ring);
	add_number(object, "fence", name->fence_id);
}

static struct json_object *make_error(const char *message)
{
	struct json_object *answer = json_object_new_object();

	add(answer, "error", json_object_new_string(message));
	return answer;
}

/* Returns whether it is there, a whole number from 0 to max. */
static bool get_number(
	const struct json_object *request, const char *key, uint64_t max, uint64_t *number)
{
	struct json_object *value;

	if (!json_object_object_get_ex(request, key, &value) ||
		!json_object_is_type(value, json_type_int)) {
		return false;
	}
	*number = json_object_get_uint64(value);
	/* A negative one is 0 there. */
	return json_object_get_int64(value) >= 0 && *number <= max;
}

/* ---- What is asked -------------------------------------------------------------------------- */

static struct json_object *make_statistics(const struct gpu_stats *stats)
{
	const struct vgf_stats *fences = &stats->fences;
	const struct {
		const char *key;
		uint64_t number;
	} members[] = {
		{ "requests", stats->requests[GPU_QUEUE_CONTROL] },
		{ "cursor_requests", stats->requests[GPU_QUEUE_CURSOR] },
		{ "errors", stats->errors },
		{ "resets", stats->resets },
		{ "submissions", stats->submissions },
		{ "flushes", stats->flushes },
		{ "run_ready", fences->run_ready },
		{ "run_driver", fences->run_driver },
		{ "run_gl", fences->run_gl },
		{ "run_host", fences->run_host },
		{ "refused", fences->refused },
		{ "fences", fences->retired },
		{ "failed", fences->failed },
		{ "cancelled", fences->cancelled },
		{ "stalled", fences->stalled },
		{ "pending", fences->pending },
		{ "held", fences->held },
		{ "held_bytes", fences->held_size },
		{ "descriptors", fences->fds },
		{ "contexts", fences->contexts },
	};
	struct json_object *object = json_object_new_object();

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		add_number(object, members[i].key, members[i].number);
	}
	return object;
}

static struct json_object *make_contexts(const struct gpu *gpu)
{
	struct json_object *array = json_object_new_array();
	const struct context_entry *context;

	LIST_FOREACH(context, &gpu->contexts.all, link) {
		struct json_object *object = json_object_new_object();

		add_number(object, "context", context->id);
		add(object, "name", json_object_new_string(context->name));
		append(array, object);
	}
	return array;
}

/* Without the zeros at the end. */
static struct json_object *make_latencies(const struct timeline_stats *stats)
{
	struct json_object *array = json_object_new_array();
	uint32_t count = LATENCY_BUCKETS;

	while (count > 0 && stats->latencies[count - 1] == 0) {
		count--;
	}
	for (uint32_t i = 0; i < count; i++) {
		append(array, json_object_new_uint64(stats->latencies[i]));
	}
	return array;
}

static struct json_object *make_oldest(const struct observed_fence *oldest)
{
	struct json_object *object = json_object_new_object();

	add_name(object, &oldest->name);
	add_number(object, "guest_fence", oldest->guest_id);
	add_number(object, "age_ns", oldest->age_ns);
	add_number(object, "oldest_for_ns", oldest->oldest_for_ns);
	add(object, "state", json_object_new_string(oldest->state));
	if (oldest->awaited.fence_id != 0) {
		struct json_object *awaited = json_object_new_object();

		add_name(awaited, &oldest->awaited);
		add(object, "awaits", awaited);
	}
	return object;
}

static struct json_object *make_timeline(const struct observed_timeline *timeline)
{
	struct json_object *object = json_object_new_object();

	add_number(object, "context", timeline->ctx_id);
	add_ring(object, timeline->ring);
	add_number(object, "pending", timeline->pending);
	add_number(object, "held", timeline->held);
	add_number(object, "fences", timeline->stats->num_done);
	add_number(object, "failed", timeline->stats->num_failed);
	add_number(object, "total_ns", timeline->stats->total_ns);
	add_number(object, "max_ns", timeline->stats->max_ns);
	add(object, "latencies", make_latencies(timeline->stats));
	if (timeline->pending > 0) {
		add(object, "oldest", make_oldest(&timeline->oldest));
	}
	return object;
}

static struct json_object *list(struct control_socket *control, const struct json_object *request)
{
	struct json_object *answer, *array;
	struct observation observation;
	struct gpu_stats stats;

	(void)request;
	if (observe(control->gpu, &observation) < 0) {
		return NULL;
	}
	gpu_get_stats(control->gpu, &stats);
	answer = json_object_new_object();
	add_number(answer, "time_ns", observation.now_ns);
	add(answer, "statistics", make_statistics(&stats));
	add(answer, "contexts", make_contexts(control->gpu));
	array = json_object_new_array();
	for (uint32_t i = 0; i < observation.count; i++) {
		append(array, make_timeline(&observation.timelines[i]));
	}
	add(answer, "timelines", array);
	add_number(answer, "timelines_left_out", observation.left_out);
	observation_finish(&observation);
	return answer;
}

static struct json_object *dump(struct control_socket *control, const struct json_object *request)
{
	struct renderer *renderer = control->gpu->renderer;
	struct json_object *answer;
	char *text;

	(void)request;
	if (vgf_device_dump(renderer->ops->get_device(renderer), &text) < 0) {
		return NULL;
	}
	answer = json_object_new_object();
	add(answer, "dump", json_object_new_string(text));
	free(text);
	return answer;
}

/* ---- What is done --------------------------------------------------------------------------- */

static bool get_ring(const struct json_object *request, int32_t *ring)
{
	struct json_object *value;
	uint64_t number;

	if (json_object_object_get_ex(request, "ring", &value) && value == NULL) {
		*ring = VGF_RING_GLOBAL;
		return true;
	}
	*ring = 0;
	if (!get_number(request, "ring", VGF_MAX_RINGS - 1, &number)) {
		return false;
	}
	*ring = (int32_t)number;
	return true;
}

static bool get_name(const struct json_object *request, struct vgf_fence_name *name)
{
	uint64_t ctx_id;

	if (!get_number(request, "context", UINT32_MAX, &ctx_id) ||
		!get_ring(request, &name->ring) ||
		!get_number(request, "fence", UINT64_MAX, &name->fence_id)) {
		return false;
	}
	name->ctx_id = (uint32_t)ctx_id;
	return true;
}

static const char *why_not_cancelled(int error)
{
	switch (error) {
	case -ENOENT:
		return "no such fence is pending";
	case -EALREADY:
		return "it has signalled";
	case -EBUSY:
		return "its driver just gets its work";
	default:
		return strerror(-error);
	}
}

static struct json_object *cancel(struct control_socket *control, const struct json_object *request)
{
	struct renderer *renderer = control->gpu->renderer;
	struct vgf_fence_name name;
	int ret;

	if (!get_name(request, &name)) {
		return make_error(
			"cancel needs context, ring (or null) and fence, which are numbers");
	}
	ret = vgf_fence_cancel(renderer->ops->get_device(renderer), &name, -ECANCELED);
	if (ret < 0) {
		return make_error(why_not_cancelled(ret));
	}
	log_error(control->gpu,
		"context %" PRIu32 " ring %" PRId32 " fence %" PRIu64
		": cancelled, as the control socket asked for",
		name.ctx_id, name.ring, name.fence_id);
	return json_object_new_object();
}

/* The client's file, as both are the same user's; a relative path would be the device's. */
static struct json_object *trace(struct control_socket *control, const struct json_object *request)
{
	struct json_object *file;
	const char *path;
	int ret;

	if (!json_object_object_get_ex(request, "file", &file) ||
		!json_object_is_type(file, json_type_string)) {
		return make_error("trace needs a file");
	}
	path = json_object_get_string(file);
	if (path[0] != '/') {
		return make_error("the file's path has to be absolute");
	}
	ret = gpu_trace_start(control->gpu, path);
	if (ret == -EALREADY) {
		return make_error("there is a trace already");
	}
	if (ret == -EBUSY) {
		return make_error("the trace before is still being written");
	}
	return ret < 0 ? make_error(strerror(-ret)) : json_object_new_object();
}

static struct json_object *end_trace(
	struct control_socket *control, const struct json_object *request)
{
	int ret = gpu_trace_stop(control->gpu);

	(void)request;
	if (ret == -ENOENT) {
		return make_error("there is no trace");
	}
	return ret < 0 ? make_error(strerror(-ret)) : json_object_new_object();
}

/* ---- Requests ------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	struct json_object *(*answer)(
		struct control_socket *control, const struct json_object *request);
} requests[] = {
	{ "list", list },
	{ "dump", dump },
	{ "cancel", cancel },
	{ "trace", trace },
	{ "end-trace", end_trace },
};

static struct json_object *answer_object(
	struct control_socket *control, const struct json_object *request)
{
	struct json_object *name;

	if (!json_object_is_type(request, json_type_object)) {
		return make_error("a request is a JSON object");
	}
	if (!json_object_object_get_ex(request, "request", &name) ||
		!json_object_is_type(name, json_type_string)) {
		return make_error("there is no \"request\"");
	}
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		if (strcmp(requests[i].name, json_object_get_string(name)) == 0) {
			return requests[i].answer(control, request);
		}
	}
	return make_error("there is no such request");
}

static char *to_text(struct json_object *answer)
{
	const char *text = json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PLAIN);
	char *copy = answer != NULL && text != NULL ? strdup(text) : NULL;

	json_object_put(answer);
	return copy;
}

static char *answer_line(void *cookie, const char *line)
{
	struct json_object *request = json_tokener_parse(line);
	char *answer = to_text(answer_object(cookie, request));

	json_object_put(request);
	return answer;
}

/* ---- The socket ----------------------------------------------------------------------------- */

int control_socket_create(const char *path, struct gpu *gpu, struct control_socket **out)
{
	struct control_socket *control = calloc(1, sizeof(*control));
	int ret;

	if (control == NULL) {
		return -ENOMEM;
	}
	control->gpu = gpu;
	ret = line_socket_create(path, answer_line, control, &control->line_socket);
	if (ret < 0) {
		free(control);
		return ret;
	}
	timelines_start(&gpu->timelines);
	*out = control;
	return 0;
}

void control_socket_destroy(struct control_socket *control)
{
	if (control != NULL) {
		line_socket_destroy(control->line_socket);
		free(control);
	}
}

void control_socket_abandon(const struct control_socket *control)
{
	if (control != NULL) {
		line_socket_abandon(control->line_socket);
	}
}

int control_socket_get_fd(const struct control_socket *control)
{
	return line_socket_get_fd(control->line_socket);
}

void control_socket_dispatch(struct control_socket *control)
{
	line_socket_dispatch(control->line_socket);
}
