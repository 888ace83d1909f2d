/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef MODEL_RUN_H
#define MODEL_RUN_H

/*
 * A run of the library beside its model: what it is made with, what is random in it, and what all
 * its parts use.
 */

#include <inttypes.h>

#include "model.h"
#include "support.h"

struct settings {
	struct vgf_limits limits;
	bool ignore_bad_in_fences;
	bool virglrenderer_callbacks;
	bool few_descriptors;
	bool short_rounds;         /* of one to three items */
	unsigned int meddle;       /* per cent of callbacks that call back into the library */
	unsigned int signals_here; /* per cent of signals by call behind which fences retire */
};

struct run {
	struct model model; /* first: the library's callbacks get a pointer to it */
	const struct settings *settings;
	struct vgf_device *device;
	uint64_t seed, random;
	unsigned int step;
	unsigned int num_contexts;
	uint64_t first_id; /* at least */
	uint64_t serial;   /* of the last submission */
	int fds_before;

	unsigned int depth;          /* callbacks on the stack */
	unsigned long events;        /* callbacks so far */
	unsigned long returned;      /* fences retired, as the calls say */
	unsigned long counted_twice; /* at most so many of these, by drains inside callbacks */
	unsigned int unannounced;    /* retired since the last retire_end */
	unsigned long notifications; /* outstanding */
	bool destroy_in_callback, destroying;
	bool signals_here;  /* the next signal may */
	bool is_signalling; /* and that has begun */
	int copies[8];      /* of in-fences, as drivers keep them */
	uint64_t in_fences_most;
};

#define MAX_COMMAND 48

/* For the message when a check fails. */
extern struct run *current;
extern bool tracing;

#define check(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fail_msg("seed %" PRIu64 ", step %u: not so: %s (%s:%d)", current->seed,   \
				current->step, #condition, __FILE__, __LINE__);                    \
		}                                                                                  \
	} while (0)

__attribute__((format(printf, 1, 2))) void trace(const char *format, ...);

/* ---- Chance: model_run.c ---- */

unsigned int below(struct run *run, unsigned int limit);
bool chance(struct run *run, unsigned int per_cent);
uint32_t any_context(struct run *run);
int32_t any_ring(struct run *run);
struct model_fence *any_fence(struct run *run);
uint64_t any_new_id(struct run *run, const struct vgf_fence_name *timeline);
uint64_t any_in_fence(struct run *run, const uint64_t *earlier, unsigned int num_earlier);

/* ---- Fences with descriptors: model_run.c ---- */

int make_descriptor(struct run *run, int *handle, bool *is_pipe);
void close_handle(struct model_fence *fence);
void forget_imports(struct run *run);
void signal_descriptor(struct run *run, struct model_fence *fence);
bool is_readable(int fd);
void check_descriptor(const struct model_fence *fence, int fd);

/* ---- What the library calls: model_callbacks.c ---- */

extern const struct vgf_callbacks plain_callbacks;
extern const struct vgf_callbacks virglrenderer_callbacks;

void destroy_device(struct run *run);
void fill_command(char *command, uint64_t serial, size_t size);
int on_submit(void *data, const struct vgf_job *job, int *out_fence_fd);
void on_destroy(void *data, bool cancelled);
void on_turn(void *arg, int status);
void on_notified(void *arg, int status);

/* ---- What calls the library: model_operations.c ---- */

void create_context(struct run *run);
void cancel_a_context(struct run *run, uint32_t id, uint32_t flags, int error);
void finish_all(struct run *run);
void reset_device(struct run *run);
void operate(struct run *run, void (*perform)(struct run *run));
void any_operation(struct run *run);

#endif
