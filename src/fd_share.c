/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/* Who may have a descriptor: a device has so many for its fences, each context a share of them. */

#include "ctx_sync.h"

void fd_share_init(struct fd_share *share, const uint32_t *used, uint32_t max)
{
	*share = (struct fd_share){ .used = used, .max = max };
	TAILQ_INIT(&share->starved);
	TAILQ_INIT(&share->urgent);
}

/*
 * The descriptors in use are closed when their fences retire, and these may be behind one whose
 * work waits for a descriptor. So the last one is for fences that are the oldest of their
 * timelines: their work runs, signals, and retires.
 */
bool fd_share_has_room(const struct fd_share *share, uint32_t count, bool oldest)
{
	uint64_t needed = (uint64_t)*share->used + share->running + share->turns + count;

	return needed + (oldest ? 0 : 1) <= share->max;
}

bool fd_share_has_free(const struct fd_share *share, bool oldest)
{
	uint64_t needed = (uint64_t)*share->used + share->running + 1;

	return needed + (oldest ? 0 : 1) <= share->max;
}

struct queue *fd_share_next(const struct fd_share *share)
{
	struct queue *urgent = TAILQ_FIRST(&share->urgent);
	struct queue *starved = TAILQ_FIRST(&share->starved);

	if (urgent && fd_share_has_room(share, 1, true)) {
		return urgent;
	}
	return starved && fd_share_has_room(share, 1, false) ? starved : NULL;
}

void fd_share_give_turn(struct fd_share *share, struct queue *queue)
{
	queue->turn = share;
	share->turns++;
}

struct fd_share *fd_share_end_turn(struct queue *queue)
{
	struct fd_share *share = queue->turn;

	if (share) {
		queue->turn = NULL;
		share->turns--;
	}
	return share;
}

bool fd_share_allows(const struct fd_share *share, bool has_turn, bool oldest)
{
	bool first = has_turn || TAILQ_EMPTY(&share->urgent);

	if (!oldest) {
		first = has_turn || (first && TAILQ_EMPTY(&share->starved));
	}
	return first && fd_share_has_room(share, 1, oldest);
}
