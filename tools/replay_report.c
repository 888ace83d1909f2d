/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "clock.h"
#include "replay.h"

const char *replay_name(const char *path, char *buffer, size_t size)
{
	const char *slash = strrchr(path, '/');
	char *suffix;

	snprintf(buffer, size, "%s", slash != NULL ? slash + 1 : path);
	suffix = strstr(buffer, ".vgtrace");
	if (suffix != NULL) {
		*suffix = '\0';
	}
	return buffer;
}

double replay_efficiency(const struct replay *replay)
{
	if (!replay->ok || replay->result.makespan_ns == 0) {
		return 0;
	}
	return (double)replay->ideal_ns / (double)replay->result.makespan_ns;
}

static double to_us(uint64_t ns)
{
	return (double)ns / (double)NS_PER_US;
}

static void print_row(const struct replay *replay)
{
	const struct vmm_result *result = &replay->result;
	const struct vmm_latency *latency = &result->signal_to_retire;
	char name[64];

	printf("%-18s %5" PRIu64 " %9" PRIu64 "  %5" PRIu64 " %6" PRIu64 " %5" PRIu64,
		replay_name(replay->path, name, sizeof(name)), replay->num_jobs,
		replay->num_in_fences, result->ready, result->driver, result->held);
	printf("  %7" PRIu64 " %7" PRIu64 "  %8.2f %8.2f %10.3f", result->retired, result->refused,
		to_us(result->makespan_ns) / 1000, to_us(replay->ideal_ns) / 1000,
		replay_efficiency(replay));
	printf("  %6.1f %6.1f %6.1f%s\n", to_us(latency->p50_ns), to_us(latency->p99_ns),
		to_us(latency->max_ns), replay->ok ? "" : "  FAILED");
}

void replay_print_table(const struct replay *replays, size_t count)
{
	if (count == 0) {
		return;
	}
	printf("%-18s %5s %9s  %-18s  %7s %7s  %-28s  %s\n", "", "", "", "how they waited", "", "",
		"      ms", "signal to callback, us");
	printf("%-18s %5s %9s  %5s %6s %5s  %7s %7s  %8s %8s %10s  %6s %6s %6s\n", "trace", "jobs",
		"in-fences", "ready", "driver", "held", "retired", "refused", "makespan", "ideal",
		"efficiency", "p50", "p99", "max");
	for (size_t i = 0; i < count; i++) {
		print_row(&replays[i]);
	}
}

/* ---- JSON ----------------------------------------------------------------------------------- */

/* json-c's own format for a double has 17 digits, most of them noise. */
static int add_decimal(struct json_object *object, const char *key, double value, int decimals)
{
	char text[64];

	snprintf(text, sizeof(text), "%.*f", decimals, value);
	return json_object_object_add(object, key, json_object_new_double_s(value, text));
}

static int add_count(struct json_object *object, const char *key, uint64_t value)
{
	return json_object_object_add(object, key, json_object_new_int64((int64_t)value));
}

static int add_counts(struct json_object *object, const struct replay *replay)
{
	const struct vmm_result *result = &replay->result;

	return add_count(object, "jobs", replay->num_jobs) |
		add_count(object, "in_fences", replay->num_in_fences) |
		add_count(object, "ready", result->ready) |
		add_count(object, "driver", result->driver) |
		add_count(object, "held", result->held) |
		add_count(object, "retired", result->retired) |
		add_count(object, "refused", result->refused);
}

static int add_times(struct json_object *object, const struct replay *replay)
{
	const struct vmm_latency *latency = &replay->result.signal_to_retire;
	struct json_object *latencies = json_object_new_object();

	return add_decimal(object, "makespan_us", to_us(replay->result.makespan_ns), 3) |
		add_decimal(object, "ideal_us", to_us(replay->ideal_ns), 3) |
		add_decimal(object, "efficiency", replay_efficiency(replay), 4) |
		json_object_object_add(object, "signal_to_retire_us", latencies) |
		add_decimal(latencies, "p50", to_us(latency->p50_ns), 3) |
		add_decimal(latencies, "p99", to_us(latency->p99_ns), 3) |
		add_decimal(latencies, "max", to_us(latency->max_ns), 3);
}

static int add_replay(struct json_object *array, const struct replay *replay)
{
	struct json_object *object = json_object_new_object();

	if (object == NULL || json_object_array_add(array, object) < 0) {
		return -1;
	}
	return json_object_object_add(object, "trace", json_object_new_string(replay->path)) |
		add_counts(object, replay) | add_times(object, replay);
}

int replay_print_json(const struct replay *replays, size_t count)
{
	struct json_object *array = json_object_new_array();
	int ret = array == NULL ? -ENOMEM : 0;

	for (size_t i = 0; ret == 0 && i < count; i++) {
		ret = add_replay(array, &replays[i]) < 0 ? -ENOMEM : 0;
	}
	if (ret == 0) {
		puts(json_object_to_json_string_ext(array, JSON_C_TO_STRING_PRETTY));
	}
	json_object_put(array);
	return ret;
}
