/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef MODEL_H
#define MODEL_H

/*
 * What the public headers promise, said once more in the plainest way: lists that are searched from
 * the start, nothing kept that can be worked out. It knows nothing of how the library does it.
 *
 * The test feeds it what it does to the library and what the library calls back, and asks it what
 * may happen now, what must have happened, and what a call has to return.
 *
 * Between two calls from the outermost level the model knows what the library knows. Inside a
 * callback it does not: the library may know more than it has called back for yet. Then, and until
 * all is dispatched, the model is `fuzzy`, and what depends on that is answered EITHER.
 */

#include <vgfence/context_driver.h>
#include <vgfence/inspect.h>
#include <vgfence/vgfence.h>

#define MODEL_MAX_IN_FENCES 8
#define MODEL_MAX_IN_FENCE_FDS 3
#define MODEL_MAX_DEPS 32 /* an ID may mean several fences */
#define MODEL_MAX_ERRORS 16

enum answer {
	NO,
	YES,
	EITHER,
};

struct model_item;

/* What a timeline's next ID has to be, at least. */
struct model_next {
	uint32_t ctx_id;
	int32_t ring;
	uint64_t id;
	bool doubtful; /* it may have been forgotten, with its context */
};

struct model_fence {
	struct vgf_fence_name name;
	uint32_t flags;
	uint64_t context_serial; /* which context it is of; 0: of none */
	bool has_fd;
	bool is_work;           /* of vgf_submit, or made with a descriptor */
	enum answer is_barrier; /* it has no order with what is behind it on its timeline */
	enum answer behind;     /* such a one was before it when it was made, or it is one */
	enum answer last_was;   /* is_barrier of the one before it, until it was made */
	const void *family;     /* of the driver that has its work and will call; NULL: none */
	bool signalled;         /* its work is done, or it was given up */
	bool known;             /* and the library was told so by a call */
	int status;
	bool retired;
	struct model_item *item;  /* its work; NULL: it has none, or that was refused */
	bool imported;            /* a descriptor that one submission waits for, and nothing else */
	struct model_next before; /* of its timeline, in case the library does not take it */
	uint64_t next_id_before;

	unsigned int asked, told; /* calls of vgf_fence_notify that will be answered, and were */

	/* The test's: with what it signals. */
	int handle;
	bool is_pipe;
};

enum model_kind {
	WORK,
	CALL,    /* vgf_context_defer */
	DESTROY, /* vgf_context_destroy */
};

enum model_state {
	WAITING,
	RUNNING, /* the library is calling its function */
	FINISHED,
};

/* One vgf_context_create. */
struct model_context {
	uint32_t id;
	uint64_t serial;
	struct vgf_driver driver;
	bool open; /* until vgf_context_destroy */
	bool gone; /* the driver's destroy has returned */
	struct model *model;
};

/* What keeps its place in a context. */
struct model_item {
	enum model_kind kind;
	enum model_state state;
	struct model_context *context;
	struct model *model;

	struct vgf_fence_name name; /* of a CALL: the ring, or VGF_EVERY_RING */

	/* Of WORK. */
	uint64_t serial;
	uint32_t flags;
	struct model_fence *fence;
	struct model_fence *deps[MODEL_MAX_DEPS];
	unsigned int num_deps;
	enum answer waited;
	bool doubtful;         /* deps are more than it may wait for */
	bool on_host;          /* its driver could not take its in-fences */
	unsigned int attempts; /* calls of the driver's submit */
	int first_result;      /* what vgf_submit has to return after the first of them */

	bool dropped; /* cancelled before it ran */
	bool doomed;  /* cancelled while its driver's submit ran */
	int status;
};

struct model {
	struct vgf_limits limits;
	bool ignore_bad_in_fences;

	struct model_fence **fences; /* pending, in order of creation */
	unsigned int num_fences;
	struct model_item **items; /* not finished, in order of submission */
	unsigned int num_items;
	struct model_context **contexts; /* whose driver's destroy has not returned */
	unsigned int num_contexts;
	struct model_fence **imports; /* the library has copies of */
	unsigned int num_imports;
	struct model_next *nexts;
	unsigned int num_nexts;
	uint64_t next_id; /* above all that the device has seen */
	uint64_t last_serial;

	unsigned int running; /* functions of drivers, and deferred ones, on the stack */
	unsigned int resetting;
	unsigned int dispatching; /* calls that may retire, on the stack */
	bool fuzzy;
	unsigned int retired_now, retired_fds_now; /* in this operation of the outermost level */
	struct vgf_stats stats;                    /* what is counted, not worked out */

	void **blocks; /* everything ever made, to be freed in the end */
	size_t num_blocks;
};

void model_init(struct model *model);
void model_finish(struct model *model);

/* How many contexts count: those above, and those of which a fence is left. A fence is, until its
 * callback has returned. */
void model_count_contexts(const struct model *model, unsigned int *least, unsigned int *most);

/* ---- Looking ---- */

struct model_context *model_context(const struct model *model, uint32_t id);
struct model_fence *model_find(const struct model *model, const struct vgf_fence_name *name);
struct model_fence *model_oldest(const struct model *model, const struct vgf_fence_name *timeline);
struct model_item *model_item(const struct model *model, uint64_t serial);

/* Whether a fence is the oldest of its timeline, or would be. */
enum answer model_is_oldest(const struct model *model, const struct vgf_fence_name *name);

/* Whether what is before it on its timeline need not be waited for. */
enum answer model_stands_alone(const struct model *model, const struct model_fence *fence);

bool is_on_timeline(const struct model_fence *fence, const struct vgf_fence_name *timeline);

/* Whether neither the fence itself nor anything before it on its timeline keeps it from
 * retiring. */
bool model_may_retire(const struct model *model, const struct model_fence *fence);

/* Whether something before it in its context keeps an item from running. Dropped work may be
 * out of the way already, or not yet. */
bool model_is_blocked(const struct model *model, const struct model_item *item, bool drops_gone);

/* Whether the item has to run in the next dispatch. */
bool model_must_run(const struct model *model, const struct model_item *item);

/* Whether dispatching has to bring anything about. */
bool model_has_work(const struct model *model);

/* Descriptors that the library has: at least, and at most. */
unsigned int model_fds_min(const struct model *model);
unsigned int model_fds_max(const struct model *model);

/* Held submissions. */
unsigned int model_held(const struct model *model);

/* ---- What a call has to return ---- */

struct expectation {
	int errors[MODEL_MAX_ERRORS]; /* any of these */
	unsigned int num_errors;
	bool must_fail; /* one of them for certain */
	enum answer placed;
	enum answer runs; /* in this thread, before the call returns */
	struct model_fence *deps[MODEL_MAX_DEPS];
	unsigned int num_deps;
	unsigned int num_timelines; /* of those that are for certain pending */
	enum answer waited;
	bool doubtful;
};

bool is_expected(const struct expectation *expectation, int ret);

/* imports: one for each of in_fence_fds. */
struct expectation expect_submit(const struct model *model, const struct vgf_submission *head,
	struct model_fence *const *imports);

/* For vgf_fence_create_take and vgf_fence_refuse. */
struct expectation expect_fence(
	const struct model *model, const struct vgf_fence_name *name, bool with_fd);

/* For vgf_context_defer and vgf_context_destroy. */
struct expectation expect_call(
	const struct model *model, uint32_t ctx_id, enum model_kind kind, int32_t ring);

struct expectation expect_create(const struct model *model, uint32_t ctx_id);
struct expectation expect_export(const struct model *model, uint64_t fence_id);

/* Whether there may be a descriptor for a fence of the context with this serial number (0: none),
 * besides so many more. The last one is for the oldest of a timeline. */
enum answer model_has_room(const struct model *model, const struct vgf_fence_name *name,
	uint64_t serial, unsigned int more);

/* ---- What happens ---- */

struct model_context *model_create(
	struct model *model, uint32_t id, const struct vgf_driver *driver);
void model_uncreate(struct model *model, struct model_context *context);
struct model_fence *model_put(
	struct model *model, const struct vgf_fence_name *name, uint32_t flags, bool is_work);
struct model_fence *model_import(struct model *model, int handle, bool is_pipe);
void model_imported(struct model *model, struct model_fence *fence);
void model_unimport(struct model *model, const struct model_item *item);
void model_take_back(struct model *model, struct model_fence *fence);
struct model_item *model_add(
	struct model *model, enum model_kind kind, struct model_context *context);
void model_remove(struct model *model, struct model_item *item);
void model_signal(struct model_fence *fence, int status, bool known);
void model_retire(struct model *model, struct model_fence *fence);
void model_end_item(struct model *model, struct model_item *item);
void model_drop(struct model_item *item, int status);

/* vgf_context_cancel, with enum vgf_cancel_flags. */
void model_cancel(struct model *model, uint32_t ctx_id, uint32_t flags, int error);

/* vgf_timeline_cancel. Returns how many fences had not signalled. */
unsigned int model_cancel_timeline(
	struct model *model, const struct vgf_fence_name *timeline, int error);

/* vgf_device_reset and vgf_device_destroy: as the library is called, and when it has returned. */
void model_reset(struct model *model);
void model_reset_done(struct model *model);

/* Whether the library has no use for an imported fence any more. */
bool model_import_is_over(const struct model_fence *fence);

/* Takes one that is over out of the model; or returns NULL. */
struct model_fence *model_take_import(struct model *model);

/* All has been dispatched, at the outermost level. */
void model_settle(struct model *model);

/* An operation of the outermost level begins, or has ended. */
void model_begin(struct model *model);
void model_end(struct model *model);

#endif
