/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef FENCE_TABLE_H
#define FENCE_TABLE_H

/*
 * Fences by ID, and their order on timelines. A plain data structure: it knows no lock, no thread
 * and no driver. Its user holds the lock of the device for every call but those that make or free
 * memory, which say so. Under the lock it makes no system call and closes and frees nothing, and
 * allocates only to grow the table.
 *
 * The life of a fence: created → added to its timeline and the table → signalled, by call or
 * because its descriptor was seen readable → retired, when it is the oldest of its timeline: out
 * of the table, on the list `retired` until its callback was made → garbage, when nobody holds a
 * reference any more.
 */

#include <stdbool.h>
#include <stdint.h>

#include <vgfence/fence.h>

#include "hash.h"
#include "queue.h"
#include "tracer.h"
#include "waiters.h"

struct submission;

/* Whose fences are counted together: one vgf_context_create. */
struct fence_owner {
	uint32_t pending; /* its fences that are not garbage yet */
	uint32_t fds;     /* descriptors of these */
};

/* What a caller can say of a fence. */
#define CALLERS_FLAGS (VGF_FENCED | VGF_SHAREABLE | VGF_MERGEABLE | VGF_PATIENT)

enum fence_state {
	FENCE_SIGNALLED = 1u << 8, /* beside enum vgf_fence_flags */
	FENCE_RETIRED = 1u << 9,
	FENCE_WATCHED = 1u << 10,  /* its descriptor is in the epoll set */
	FENCE_REPORTED = 1u << 11, /* as stalled */
	FENCE_IMPORTED = 1u << 12, /* a descriptor of the VMM's, waited for by one submission */
	FENCE_MERGED = 1u << 13,   /* the callback of the next one of the timeline is for it, too */
	FENCE_HANDED = 1u << 14,   /* a driver that has a family has its work, and will call */
	FENCE_WORK = 1u << 15,     /* of a submission, or made with a descriptor */
	FENCE_BEHIND = 1u << 16,   /* what has no such order is before it: see fence_stands_alone */
};

/* A dma-buf that takes the fence once that has a descriptor. */
struct attachment {
	SLIST_ENTRY(attachment) link;
	int dma_buf_fd; /* owned */
	uint32_t access;
};

SLIST_HEAD(attachment_list, attachment);

/* Who is to be told when a fence retires. */
struct notification {
	SLIST_ENTRY(notification) link;
	void (*fn)(void *arg, int status);
	void *arg;
	int status; /* once it is due */
};

SLIST_HEAD(notification_list, notification);

struct fence {
	/* What an in-fence needs, what is looked at most first: any fence of thousands may be one,
	 * and each cache line of it is waited for. */
	uint64_t id;
	struct fence *hash_next;
	uint32_t flags; /* enum vgf_fence_flags and enum fence_state */
	int fd;         /* owned; -1: none */
	struct timeline *timeline;
	struct waiters waiters;

	STAILQ_ENTRY(fence) link;      /* on its timeline; then retired; then garbage */
	struct submission *submission; /* its work, while that is held or its driver runs it */
	uint32_t references;
	int status;
	struct attachment_list attachments;
	struct notification_list notifications; /* the newest first */
	void *cookie;                           /* the VMM's */
	struct fence_owner *owner;              /* NULL: of no context */
	uint64_t created_ns;
	uint32_t ctx_id;
};

STAILQ_HEAD(fence_list, fence);

/* A ring that nobody can name: the timeline of an imported fence. */
#define RING_IMPORTED INT32_MIN

enum timeline_state {
	TIMELINE_IDLE,  /* on no list: empty, or its oldest fence is watched or waits for a call */
	TIMELINE_READY, /* its oldest fence has signalled */
	TIMELINE_UNWATCHED, /* its oldest fence has a descriptor that nobody watches yet */
};

struct timeline {
	uint32_t ctx_id;
	int32_t ring;
	uint64_t next_id;       /* one above the highest ever put on it */
	uint64_t unordered_end; /* one above the last that has no order with what follows */
	struct fence_list fences;
	enum timeline_state state;
	uint8_t vain_asks, unasked; /* loop.c's: whether to ask a fence that comes forward */
	TAILQ_ENTRY(timeline) state_link;
	TAILQ_ENTRY(timeline) busy_link; /* while it has fences */
	uint64_t since_ns;               /* when the oldest fence became the oldest */
	uint64_t checked_ns; /* the same, or when it was last found stalled: orders the busy list */
	/* Scratch of the resolving of one submission's in-fences: the newest one met here. */
	uint64_t resolve_serial;
	struct waiter *resolve_newest;
};

TAILQ_HEAD(timeline_list, timeline);

/* To tell one of a fence's waiters is so much less than to retire a fence. */
#define WAITERS_PER_COST 8

struct fence_table {
	struct fence **buckets;
	size_t mask; /* number of buckets - 1 */
	struct hash_key key;
	uint32_t count, peak_count; /* in the table */
	uint32_t fds, peak_fds;     /* descriptors owned by fences */
	uint32_t kept;              /* in the table, or not garbage yet */
	uint64_t told;              /* waiters, in all */
	uint64_t next_id; /* one above the highest ever added: tells retired from never seen */
	struct timeline_list ready, unwatched, busy;
	struct fence_list retired, garbage;
	struct attachment_list detached; /* garbage as well */

	waiter_notify notify;
	/* A fence has become the oldest of its timeline, and its work has not run. */
	void (*come_forward)(struct submission *submission);

	/* The owner has a descriptor less. */
	void (*relieve)(struct fence_owner *owner);
	/* The last reference to a fence of this owner is gone. */
	void (*release)(struct fence_owner *owner);

	struct tracer tracer;
};

int fence_table_init(struct fence_table *table);
void fence_table_finish(struct fence_table *table);

void timeline_init(struct timeline *timeline, uint32_t ctx_id, int32_t ring);

/* IDs start again. */
void timeline_forget_ids(struct timeline *timeline);

/* Without a timeline yet, with one reference; needs no lock. NULL: out of memory. */
struct fence *fence_create(const struct vgf_fence_name *name, uint32_t flags, void *cookie);

/* Whether a fence with this ID can be added: 0, -EINVAL or -ENOSPC. */
int fence_table_check(
	const struct fence_table *table, const struct timeline *timeline, uint64_t fence_id);

/*
 * A fence for a descriptor that is none of the device's, which it owns from then on. It has no ID,
 * is alone on a timeline of its own, and retires without a callback. Needs no lock. NULL: out of
 * memory.
 */
struct fence *fence_import(uint32_t ctx_id, int fence_fd);

/* It counts among the owner's, whose work waits for it. */
void fence_table_add_imported(
	struct fence_table *table, struct fence_owner *owner, struct fence *fence, uint64_t now_ns);

/* Adds a fence that fence_table_check allowed; the table takes over the reference. */
void fence_table_add(
	struct fence_table *table, struct timeline *timeline, struct fence *fence, uint64_t now_ns);

/* A pending fence by its ID alone. *found is NULL if it has retired. 0, -ENOENT, -ENOTUNIQ. */
int fence_table_look_up(const struct fence_table *table, uint64_t fence_id, struct fence **found);

/* A pending fence by its whole name, or NULL. */
struct fence *fence_table_find(const struct fence_table *table, const struct vgf_fence_name *name);

/* Signals a fence that has not signalled; status is 0 or a negative errno value. */
void fence_signal(struct fence_table *table, struct fence *fence, int status);

/* The driver of a fence that has not signalled has its work, and will call: its family can wait for
 * it by its name. */
void fence_hand(struct fence_table *table, struct fence *fence);

/* Gives a pending fence without a descriptor one, which it owns from then on. */
void fence_publish(struct fence_table *table, struct fence *fence, int fence_fd);

/* The fence owns the attachment from then on. */
void fence_attach(struct fence_table *table, struct fence *fence, struct attachment *attachment);

/* Takes one attachment off the fence, which is garbage from then on: it is there until the lock is
 * given up. NULL: the fence has none. */
struct attachment *fence_detach(struct fence_table *table, struct fence *fence);

/* Gives up a descriptor that turned out not to be one: the number may be someone else's by now. */
void fence_forget_file(struct fence_table *table, struct fence *fence);

/* Retires what has signalled of the oldest fences of a ready timeline, until that has cost `max` or
 * more. If some are left, the other timelines that are ready come first. Returns what it has cost:
 * 1 for a fence, and something for those who wait for it. */
uint32_t timeline_advance(
	struct fence_table *table, struct timeline *timeline, uint64_t now_ns, uint32_t max);

/* Moves the timeline to the list that fits its oldest fence. Call it when that has changed. */
void timeline_update(struct fence_table *table, struct timeline *timeline);

/* The watchdog has looked at this timeline. */
void timeline_checked(struct fence_table *table, struct timeline *timeline, uint64_t now_ns);

struct fence *fence_ref(struct fence *fence);
void fence_unref(struct fence_table *table, struct fence *fence);

/* Makes garbage of a fence that was never added. */
void fence_discard(struct fence_table *table, struct fence *fence);

/* Close the descriptors of garbage and free it; need no lock. */
void fence_free_list(struct fence_list *garbage);
void attachment_free(struct attachment *attachment);
void attachment_free_list(struct attachment_list *garbage);

/* Whether it is the next to retire on its timeline. */
bool fence_is_oldest(const struct fence *fence);

/* Whether waiting for its descriptor is waiting for the fence. */
bool fence_has_file(const struct fence *fence);

/* Whether its driver's family can wait for it by its name, as it has no descriptor. */
bool fence_is_handed(const struct fence *fence);

/* Whether its own work is all that has to be waited for. What is before it on a ring is done before
 * it, unless that is another context's, or the VMM's own affair; on the global timeline nothing
 * has an order. Then it is so once the fence is the oldest. */
bool fence_stands_alone(const struct fence *fence);

struct vgf_fence_name fence_name(const struct fence *fence);

#endif
