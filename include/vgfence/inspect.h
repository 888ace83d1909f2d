/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGFENCE_INSPECT_H
#define VGFENCE_INSPECT_H

/*
 * What is in a device: statistics, what is pending, all of it as text, and what happens to fences,
 * as it happens. For a VMM's monitor and for bug reports. The rules of <vgfence/vgfence.h> hold
 * here, too.
 */

#include <vgfence/context_driver.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vgf_stats {
	size_t size; /* sizeof(struct vgf_stats), set by the caller */

	/* Submissions so far. */
	uint64_t submitted; /* accepted: each has run, was cancelled or is held */
	uint64_t refused;   /* got an error before a driver saw them; also vgf_fence_refuse */
	uint64_t run_ready; /* their driver got them without waiting; then by the way of waiting */
	uint64_t run_driver;
	uint64_t run_gl;
	uint64_t run_host;
	uint64_t in_fences;      /* named by accepted submissions */
	uint64_t in_fences_done; /* of these, those that were not waited for: signalled, retired
				  * or repeated; on the host, all but the newest of a timeline */
	/* Fences so far. */
	uint64_t created;
	uint64_t retired;   /* all of them */
	uint64_t failed;    /* retired with an error other than -ECANCELED */
	uint64_t cancelled; /* retired with -ECANCELED */
	uint64_t stalled;
	/* Now, and the most that there have been. */
	uint32_t pending, peak_pending;
	uint32_t held, peak_held; /* submissions and deferred calls */
	uint32_t fds, peak_fds;
	uint32_t contexts; /* as max_contexts counts them */
	size_t held_size;  /* bytes */
};

/* Fills in stats as far as stats->size goes. Returns 0, or -EINVAL for a size that is too small or
 * no multiple of sizeof(size_t). */
int vgf_device_get_stats(struct vgf_device *device, struct vgf_stats *stats);

/* One pending fence. */
struct vgf_pending {
	struct vgf_fence_name fence;
	uint64_t age_ns; /* since it was accepted */
	int status;      /* of one that has signalled and waits for earlier ones; else 0 */
	bool signalled;
	/* Its driver has not got its work yet, which waits for in-fences, or for its turn behind
	 * other work. */
	bool held;
	bool has_fd;      /* it is materialised */
	bool awaits_turn; /* with `held`: all its in-fences are done */
	/* With `held`, and not awaits_turn: the first in-fence that is not done; VGF_NO_FENCE_ID:
	 * that is one of in_fence_fds. Otherwise all zeros. */
	struct vgf_fence_name awaited;
};

/*
 * Lists the pending fences, timeline by timeline, each in order. Fills pending[] with the first
 * `count` of them. Returns how many there are, which may be more than `count`.
 */
size_t vgf_device_list_pending(
	struct vgf_device *device, struct vgf_pending *pending, size_t count);

/* The same for the fences on the rings of one context ID, destroyed ones with this ID included, and
 * for those of its work on the global timeline. */
size_t vgf_context_list_pending(
	struct vgf_device *device, uint32_t ctx_id, struct vgf_pending *pending, size_t count);

/*
 * Describes the device in a text for a bug report: statistics, and each timeline with its fences
 * and what they wait for. The caller frees *text with free(). Returns 0 or -ENOMEM.
 */
int vgf_device_dump(struct vgf_device *device, char **text);

/*
 * What can happen to a fence or its work. A submission is accepted, waits, is held back unless it
 * can run at once, runs, signals, and retires. A fence without a submission is accepted, signals,
 * and retires. What is given up on signals without having run. If what is refused has its place on
 * a timeline nevertheless, its fence signals and retires with the error.
 */
enum vgf_event_kind {
	VGF_EVENT_ACCEPT = 1, /* a submission, or a fence without one */
	VGF_EVENT_WAIT,       /* it has this in-fence, which is pending; one event for each */
	VGF_EVENT_HOLD,       /* for its in-fences, or behind other work or for a descriptor */
	VGF_EVENT_RUN,        /* its driver gets it now */
	VGF_EVENT_SIGNAL,     /* the library takes note that the work is done */
	VGF_EVENT_RETIRE,     /* the callback comes next */
	VGF_EVENT_STALL,      /* see struct vgf_stall */
	VGF_EVENT_REFUSE,     /* a submission, or a fence without one */
};

/* Later versions have more members, at the end, and more kinds. */
struct vgf_event {
	uint64_t t_ns;                  /* never less than the device's event before */
	struct vgf_fence_name fence;    /* without VGF_FENCED the ID means nothing */
	struct vgf_fence_name in_fence; /* of WAIT; VGF_NO_FENCE_ID: one of in_fence_fds */
	enum vgf_event_kind kind;
	uint32_t flags;     /* of enum vgf_fence_flags; of SIGNAL, RETIRE, STALL only VGF_FENCED */
	enum vgf_wait wait; /* of RUN: how it had waited */
	int status;         /* of SIGNAL, RETIRE, REFUSE: 0, or a negative errno value */
	/* The device's counters, as in struct vgf_stats. */
	uint32_t pending, held, fds;
};

/*
 * Has a function called for all that happens to the device's fences from now on. There is one such
 * function at a time: it takes the place of the one before. NULL: nobody listens any more, which is
 * so at first, and costs nothing.
 *
 * fn is called by whatever thread does what happens, one at a time, while the library holds its
 * lock: it must not block, and not call the library. After this has returned the one before is not
 * called any more. arg: passed to fn.
 */
void vgf_device_trace(
	struct vgf_device *device, void (*fn)(void *arg, const struct vgf_event *event), void *arg);

#ifdef __cplusplus
}
#endif

#endif
