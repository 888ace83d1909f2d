/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef REPLAY_H
#define REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm.h"
#include "workload.h"

/* One trace, replayed: what it asked for and what came of it. */
struct replay {
	const char *path;
	uint64_t num_jobs, num_in_fences;
	uint64_t ideal_ns;        /* the makespan if waiting cost nothing */
	struct vmm_result result; /* without its events */
	bool ok;                  /* every job was accepted, ran, and retired */
};

/*
 * Replays the trace in a file. path: kept. events_path: a file for what happened, or NULL. Returns
 * 0, also if the replay is not ok, or a negative errno value after a message to stderr.
 */
int replay_run(struct replay *replay, const char *path, enum pace pace,
	const struct vmm_options *options, const char *events_path);

/* ideal / makespan: at most 1, and 0 for a replay that is not ok. */
double replay_efficiency(const struct replay *replay);

/* A line on a terminal that the next one overwrites; nothing elsewhere. done == total wipes it. */
void replay_progress(const char *path, size_t done, size_t total);

/* The file's name without its directory and the suffix. Returns buffer. */
const char *replay_name(const char *path, char *buffer, size_t size);

/* Print all of them to stdout. The second returns 0 or -ENOMEM. */
void replay_print_table(const struct replay *replays, size_t count);
int replay_print_json(const struct replay *replays, size_t count);

#endif
