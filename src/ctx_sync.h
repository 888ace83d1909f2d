/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef CTX_SYNC_H
#define CTX_SYNC_H

/*
 * Contexts: what each may name as in-fences, what it holds back, and in which order its work runs.
 * A plain data structure like the fence table below it: the device above holds the lock and calls
 * the drivers.
 *
 * A context has one queue, or one for each ring if its driver says that rings are independent. A
 * queue runs its submissions one at a time, oldest first. vgf_context_destroy, and
 * vgf_context_defer for every ring, are barriers: they run alone, and what comes after one waits in
 * the context's backlog.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vgfence/context_driver.h>
#include <vgfence/inspect.h>
#include <vgfence/vgfence.h>

#include "fence_table.h"
#include "queue.h"

struct context_driver;

enum submission_kind {
	SUBMISSION_WORK,
	SUBMISSION_CALL,    /* vgf_context_defer: a barrier if it is for every ring */
	SUBMISSION_DESTROY, /* a barrier; part of its context_driver */
};

/* An in-fence as a driver gets it. */
union in_fence_slot {
	struct vgf_in_fence file;
	struct vgf_fence_name name; /* of its family's */
};

/* Work with more in-fences has slots of its own; else those are its runner's. */
#define FEW_IN_FENCES 16

struct submission {
	STAILQ_ENTRY(submission) link; /* in its queue, or the backlog */
	enum submission_kind kind;
	uint32_t flags;
	int *result; /* of the vgf_submit that is running it, or NULL */

	const void *command; /* the caller's, or `copy` */
	void *copy;
	size_t size;
	int unused_fd; /* a driver's, which no fence has taken; -1: none */
	uint32_t num_imported;
	struct fence_list imported; /* of in_fence_fds, until it is resolved */

	void (*fn)(void *arg, int status);
	void *arg;

	uint32_t room; /* for so many waiters memory was allocated */
	uint32_t num_waiters;

	/* What is looked at if one of its in-fences retires comes last, beside the waiters. */
	struct context *context;
	struct context_driver *driver;
	struct fence *fence; /* the out-fence, or NULL; referenced */
	struct vgf_fence_name name;
	int status;   /* negative: dropped, and this is why */
	bool held;    /* counted as held back */
	bool copying; /* held, and its thread still copies the command stream, without the lock */
	bool waited;  /* some in-fence was pending when it was submitted */
	bool on_host; /* the driver cannot take its in-fences after all */
	struct waiter *waiters;
	uint32_t pending; /* waiters whose fence has not retired; no other has a fence */
	uint32_t bare;    /* of these: a driver cannot wait for them (yet) */
};

STAILQ_HEAD(submission_list, submission);

struct queue;

TAILQ_HEAD(queue_list, queue);

/* How many descriptors fences may have: all of a device, or those of one context. At the limit work
 * waits for one to be closed. */
struct fd_share {
	const uint32_t *used; /* by fences */
	uint32_t max;
	uint32_t running;          /* driver calls in progress, each good for one more */
	uint32_t turns;            /* queues that have starved long enough: likewise */
	struct queue_list starved; /* ready, and wait for a free one */
	struct queue_list urgent;  /* likewise, and the fence is the oldest of its timeline */
};

struct queue {
	struct context *context;
	struct submission_list submissions;
	bool running; /* its oldest submission is being run, by `runner`, without the lock */
	pthread_t runner;
	struct queue_list *list; /* that it is on, or NULL */
	struct fd_share *turn;   /* it has starved there long enough: good for one submission */
	TAILQ_ENTRY(queue) link;
	LIST_ENTRY(queue) running_link;
};

LIST_HEAD(running_list, queue);

/* One (context, ring); made at first use. */
struct ring {
	struct timeline timeline;
	struct queue queue;
};

/* One vgf_context_create. It counts as a context until its driver's destroy has been called and the
 * last of its fences is gone. */
struct context_driver {
	struct vgf_driver driver;
	void *data;
	struct context *context;
	struct submission destroy;
	bool destroyed; /* the driver's destroy was called */
	bool last;      /* its context is freed with it */
	struct fence_owner owner;
	struct fd_share fd_share;
	uint32_t held;
	size_t held_size;
	STAILQ_ENTRY(context_driver) ended_link;
};

static inline struct context_driver *owner_driver(const struct fence_owner *owner)
{
	return (struct context_driver *)((char *)owner - offsetof(struct context_driver, owner));
}

STAILQ_HEAD(context_driver_list, context_driver);

/* One context ID. It lives, with its timelines, as long as one of its context_drivers: even if the
 * context is destroyed and created again meanwhile. */
struct context {
	struct ctx_sync *sync;
	uint32_t id;
	struct context *hash_next;
	LIST_ENTRY(context) link;           /* on the list of all */
	uint32_t num_drivers;               /* not freed yet */
	struct context_driver *current;     /* NULL after vgf_context_destroy */
	struct ring *rings[VGF_MAX_RINGS];  /* [0] is always there */
	struct queue_list runnable;         /* to be looked at by the dispatching thread */
	TAILQ_ENTRY(context) runnable_link; /* while there are any */
	uint32_t active;                    /* submissions in the queues */
	bool barrier;                       /* the one active submission is a barrier */
	struct submission_list backlog;
};

LIST_HEAD(context_list, context);
TAILQ_HEAD(runnable_list, context);

struct ctx_sync {
	struct fence_table *fences;
	const struct vgf_limits *limits;
	uint32_t held_share; /* what one context may have of max_held and max_held_size */
	size_t held_size_share;
	struct vgf_stats *stats;
	struct context **buckets;
	size_t mask; /* number of buckets - 1 */
	struct hash_key key;
	struct context_list all;
	struct context_driver_list ended; /* to be freed */
	struct runnable_list runnable;    /* contexts with runnable queues, in turn */
	struct fd_share fd_share;
	struct timeline global;
	uint64_t resolve_serial;
	struct running_list running;
	uint32_t copying; /* submissions */
	struct submission_list garbage;
};

/* 0 or -ENOMEM. */
int ctx_sync_init(struct ctx_sync *sync, struct fence_table *fences,
	const struct vgf_limits *limits, struct vgf_stats *stats);
void ctx_sync_finish(struct ctx_sync *sync);

/* ---- Contexts ---- */

/* The context with this ID, whether destroyed since or not, or NULL. */
struct context *context_find(struct ctx_sync *sync, uint32_t ctx_id);

/* The same, or NULL if it was destroyed. */
struct context *context_find_open(struct ctx_sync *sync, uint32_t ctx_id);

/* 0, -EEXIST, -ENOSPC, -ENOMEM. */
int context_open(
	struct ctx_sync *sync, uint32_t ctx_id, const struct vgf_driver *driver, void *data);

/* Closes an open context. Returns the destroying of its driver, to be enqueued. */
struct submission *context_close(struct context *context);

/* Its driver's destroy was called. */
void context_driver_destroyed(struct context_driver *driver);

/* Moves what nothing is left of to a list; context_free_list needs no lock. */
void contexts_reap(struct ctx_sync *sync, struct context_driver_list *garbage);
void context_free_list(struct context_driver_list *garbage);

/* The ring of a context, made if need be; NULL: out of memory. */
struct ring *context_ring(struct context *context, int32_t index);

/* ---- A submission: submission.c ---- */

/* Copies the head and, of in_fence_fds, what is still pending; needs no lock. 0, or -ENOMEM,
 * -EMFILE, -ENFILE, -EBADF, -EIO. */
int submission_create(const struct vgf_submission *head, struct submission **out);

/* Makes garbage of a submission that is in no queue. */
void submission_discard(struct ctx_sync *sync, struct submission *submission);

/* Frees garbage; needs no lock. */
void submission_free_list(struct submission_list *garbage);

/* Looks up a fence that a context, or with a NULL owner the host, names by its ID. *fence is NULL
 * if it counts as done. 0, -ENOENT, -EPERM, -ENOTUNIQ. */
int in_fence_look_up(const struct ctx_sync *sync, const struct fence_owner *asker,
	uint64_t fence_id, struct fence **fence);

/* What has been found of a submission's in-fences. */
struct in_fence_search {
	uint32_t found;   /* pending fences */
	uint32_t ignored; /* bad ones that were left out */
	uint64_t bad;     /* the last of these, or the one at fault */
};

/* Looks up the in-fences of a new submission. 0, or -ENOENT, -EPERM, -ENOTUNIQ: with `ignore` the
 * bad ones are left out instead. */
int submission_look_up(struct ctx_sync *sync, struct submission *submission,
	const struct vgf_submission *head, bool ignore, struct in_fence_search *search);

/* Has the submission wait for what was found, and for its imported fences, which begin at
 * now_ns. */
void submission_link(
	struct ctx_sync *sync, struct submission *submission, uint32_t found, uint64_t now_ns);

/* Whether nothing that it waits for is left: it could go to its driver, descriptors aside. */
bool submission_ready(const struct submission *submission);

/* Ends its waiting for in-fences. */
void submission_stop_waiting(struct submission *submission);

/* Makes the submission fit to outlive the call that brought it: counts it as held back, and copies
 * what it needs of the caller's memory. A large command stream is left for the caller to copy, who
 * calls submission_copy without the lock and then submission_copied. 0, -ENOSPC, -ENOMEM. */
int submission_hold(struct ctx_sync *sync, struct submission *submission);
void submission_copy(const struct submission *submission);
void submission_copied(struct ctx_sync *sync, struct submission *submission);

/* Ends its being held back, if it was. */
void submission_hold_end(struct ctx_sync *sync, struct submission *submission);

/* Whether a driver that takes in-fences cannot wait for this one: it has no descriptor, and is of
 * another family or not handed over yet, or it does not stand alone. */
bool submission_lacks(const struct submission *submission, const struct fence *fence);

/* Gives the job the in-fences that are still pending, of which the submission is no waiter any
 * more. Each is referenced until submission_return, as long as `few`, of FEW_IN_FENCES, must be
 * there. */
void submission_lend(struct submission *submission, union in_fence_slot *few, struct vgf_job *job);

/* Gives them back after the driver's submit. With `again` the driver has refused them: the
 * submission waits for those that are still pending. */
void submission_return(struct ctx_sync *sync, struct submission *submission, bool again);

/* ---- Its place in the context ---- */

/* The queue that it runs in, or will once the backlog is through. */
struct queue *submission_queue(const struct submission *submission);

/* Whether it could go to its driver as soon as it is enqueued. */
bool submission_can_run(
	struct ctx_sync *sync, struct context *context, const struct submission *submission);

/* Puts a submission at the end of its queue or of the backlog. Returns its queue if it is the
 * next to run there, NULL if others are before it. */
struct queue *submission_enqueue(
	struct ctx_sync *sync, struct context *context, struct submission *submission);

/* ---- Giving up: cancel.c ---- */

/* Marks held work as dropped. 0, or -EBUSY while it is being run. */
int submission_drop(struct submission *submission, int status);

/* With enum vgf_cancel_flags: the drivers of destroyed contexts are told, too. */
#define CANCEL_DESTROYING (1u << 31)

/* Gives up on what is held back, and more by the flags. Returns whether any of the context's
 * drivers was meant. */
bool context_cancel(struct ctx_sync *sync, struct context *context, uint32_t flags, int status);

/* The same of every context. */
void contexts_cancel(struct ctx_sync *sync, uint32_t flags, int status);

/* Gives up on all fences of a timeline. Returns how many. */
int timeline_cancel(struct ctx_sync *sync, struct timeline *timeline, int status);

/* ---- Running ---- */

/* The oldest submission of a queue if it is ready, else NULL. If only a descriptor is missing, or
 * others wait for one and it is not this queue's turn, it is put on a list of starved ones. */
struct submission *queue_next(struct ctx_sync *sync, struct queue *queue);

/* Around a call of the driver: nobody else runs the queue meanwhile. */
void queue_run_begin(struct ctx_sync *sync, struct queue *queue);
void queue_run_end(struct ctx_sync *sync, struct queue *queue);

/* Whether a thread is in the driver with it, or about to be. */
bool submission_is_running(const struct submission *submission);

/* The work of a fence, if its driver has not got it; else NULL. */
const struct submission *fence_held_work(const struct fence *fence);

/* Takes a submission that ran off its queue, and lets the backlog follow. */
void queue_done(struct ctx_sync *sync, struct queue *queue, struct submission *submission);

/* Has the dispatching thread look at a queue. */
void queue_wake(struct queue *queue);

/* The same, if its oldest submission is ready. */
void queue_wake_if_ready(struct queue *queue);

/* The same, if this submission is the oldest of its queue, and ready. */
void submission_wake(struct submission *submission);

/* Takes a queue off its list. */
void queue_sleep(struct queue *queue);

/* Whether ctx_sync_next has a queue. */
bool ctx_sync_is_runnable(const struct ctx_sync *sync);

/* The queue that is to be looked at next, or NULL. Contexts take turns, and so do the queues of
 * each: none that has little to do waits for one that has much. */
struct queue *ctx_sync_next(struct ctx_sync *sync);

/* Whether fences of this owner, which may be NULL, may have so many descriptors more that no
 * driver's call brings. */
bool ctx_sync_has_room(
	const struct ctx_sync *sync, const struct fence_owner *owner, uint32_t count, bool oldest);

/* ---- Descriptors: fd_share.c ---- */

void fd_share_init(struct fd_share *share, const uint32_t *used, uint32_t max);

/* Whether there may be so many more, by whether they are for the oldest of a timeline. */
bool fd_share_has_room(const struct fd_share *share, uint32_t count, bool oldest);

/* Whether there is one for a queue that is past the others in line, whoever has a turn here. */
bool fd_share_has_free(const struct fd_share *share, bool oldest);

/* Whether a queue may have one: there is room, and it has its turn or no other waits for that. */
bool fd_share_allows(const struct fd_share *share, bool has_turn, bool oldest);

/* The starved queue whose turn it is, if there is a descriptor for it; or NULL. */
struct queue *fd_share_next(const struct fd_share *share);

/* The next descriptor is this queue's. */
void fd_share_give_turn(struct fd_share *share, struct queue *queue);

/* The share in which it had its turn, or NULL. */
struct fd_share *fd_share_end_turn(struct queue *queue);

#endif
