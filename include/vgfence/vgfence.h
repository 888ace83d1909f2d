/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */
#ifndef VGFENCE_VGFENCE_H
#define VGFENCE_VGFENCE_H

/*
 * vgfence for virtual machine monitors (VMMs): the host waits for the in-fences of SUBMIT_3D and
 * retires its out-fences through callbacks.
 *
 * Beside this header there are
 * - <vgfence/fence.h>: names of fences, and how one is signalled;
 * - <vgfence/context_driver.h>: for the code that runs command streams;
 * - <vgfence/submit_3d.h>: decodes a guest's request;
 * - <vgfence/inspect.h>: statistics, what is pending;
 * - <vgfence/virgl.h>: the virglrenderer plugin, of the library libvgfence-virgl;
 * - <vgfence/sync_file.h>, <vgfence/dma_buf.h>, <vgfence/syncobj.h>: the kernel's objects.
 *
 * Errors are negative errno values; 0 and above is success. A parameter whose name ends in `fd` is
 * borrowed for the call; a function whose name ends in `_take` owns the descriptor if it succeeds,
 * and leaves it to the caller if it fails. Times are in nanoseconds of CLOCK_MONOTONIC.
 *
 * Structs that have a member `size` grow in later versions: set it to the struct's sizeof. A size
 * below that of the first version, or no multiple of sizeof(size_t), is -EINVAL; members that this
 * version does not know, and are not 0, are -E2BIG. Other structs have reserved members for that:
 * set them to 0, or get -EINVAL.
 *
 * Threads: every function may be called from any thread, and from inside any callback, unless its
 * comment says otherwise. Callbacks come from the thread that is in vgf_device_dispatch, retire,
 * drain, reset or destroy, from the library's own thread with own_thread, or from one that is in
 * vgf_fence_signal if signal_enter says so. They never come from two threads at once, and the
 * library holds no lock meanwhile. Only log, signal_enter and signal_leave come from any thread
 * that calls the library, several at once, and beside the others.
 *
 * Stability: before 1.0 the API may change with the minor version, and so does the soversion.
 */

#include <vgfence/fence.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vgf_driver;

#define VGF_VERSION_MAJOR 0
#define VGF_VERSION_MINOR 2
#define VGF_VERSION_PATCH 0

/* The version of the library that is linked, "0.2.0". The string is static. */
const char *vgf_version(void);

/* ---- Device ------------------------------------------------------------------------------- */

enum vgf_log_level {
	VGF_LOG_ERROR,   /* something of the host failed */
	VGF_LOG_WARNING, /* a guest did wrong, or a fence is stalled; limited to a few a second */
	VGF_LOG_DEBUG,
};

/* A fence that has been the oldest of its timeline for longer than vgf_options.stall_ns. */
struct vgf_stall {
	struct vgf_fence_name fence;
	uint64_t age_ns; /* since it became the oldest of its timeline */
	/* Its driver has not got its work yet, which waits for in-fences, or for its turn behind
	 * other work: <vgfence/inspect.h> says for which. */
	bool held;
	/* What does not signal is one of its in_fence_fds, and fence_fd is that. The name is the
	 * submission's; without VGF_FENCED nothing but vgf_context_cancel drops that. */
	bool imported;
	int fence_fd;    /* its descriptor, borrowed for the call; negative: it has none */
	char driver[32]; /* names from the sync file; empty: there is none */
	char timeline[32];
};

/* A fence that has retired. */
struct vgf_retired {
	struct vgf_fence_name fence;
	/* 0, or the negative errno value of work that failed, was refused or cancelled. */
	int status;
	void *cookie; /* vgf_submission.cookie, or that of vgf_fence_create_take or _refuse */
};

/*
 * What a device calls. A VMM gives `retire`, or both `write_fence` and `write_context_fence`. If it
 * gives all three, only `retire` is used.
 *
 * When a fence retires, the VMM answers the guest's request with that fence ID. For the guest this
 * completes all earlier fences of the timeline, too. Timelines have no order among each other: if a
 * driver waited for in-fences, the out-fence may retire before them, though their work is done.
 */
struct vgf_callbacks {
	size_t size; /* sizeof(struct vgf_callbacks), as the caller knows it */

	/* As in struct virgl_renderer_callbacks. write_fence is for the global timeline and gets
	 * only the low 32 bits of the ID. */
	void (*write_fence)(void *cookie, uint32_t fence_id);
	void (*write_context_fence)(
		void *cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t fence_id);

	/* Any timeline, all 64 bits. */
	void (*retire)(void *cookie, const struct vgf_retired *retired);

	/* Comes after the last fence of a batch: notify the guest once here. May be NULL. */
	void (*retire_end)(void *cookie);

	/* A fence is stalled. Comes once for a fence. May be NULL: there is a log message, too. */
	void (*stalled)(void *cookie, const struct vgf_stall *stall);

	/* A message of one line, without a newline. The library itself prints nothing. May be NULL.
	 * This callback may come from inside any function, in whatever thread calls that, and from
	 * several at once. It must not destroy the device. */
	void (*log)(void *cookie, enum vgf_log_level level, const char *message);

	/*
	 * Around vgf_fence_signal, in the thread that calls it: both or neither. If signal_enter
	 * returns true, what can retire by then retires in that thread, callbacks and all, before
	 * vgf_fence_signal returns: a VMM's thread that sleeps on vgf_device_get_fd need not wake
	 * up for them. Then signal_leave follows, whatever the signal was good for.
	 *
	 * So signal_enter returns true only if the VMM is ready for callbacks in that thread, and
	 * keeps its other threads from dispatching until signal_leave. It must not wait, nor call
	 * the device: a driver may signal from inside its submit. Work that becomes ready is not
	 * run in between, but makes the descriptor readable. If this or another thread is inside
	 * vgf_device_dispatch or a function like it, or this one inside a driver's, fences retire
	 * where they would without the two.
	 *
	 * The thread is the renderer's, and may hold what is its own. So callbacks there must not
	 * wait for it: no reset, no destroy, no submission to a driver that does.
	 * vgf_device_dispatch in one of them runs no held work.
	 */
	bool (*signal_enter)(void *cookie);
	void (*signal_leave)(void *cookie);
};

/*
 * The limits of a device bound what a guest can use up. 0 means the default, which stands behind
 * each. A submission past a limit gets an error, and nothing of it is kept.
 */
struct vgf_limits {
	/* 1024: open contexts, and destroyed ones of which work or fences are left. */
	uint32_t max_contexts;
	uint32_t max_fences;         /* of the device, until their callbacks have returned: 65536 */
	uint32_t max_context_fences; /* of these, of one context: 16384 */
	/* In-fences of one submission: 256. That is a virtqueue's default size, so no more can be
	 * pending on the control queue of a Linux guest. */
	uint32_t max_in_fences;
	uint32_t max_command_size; /* in bytes: 4 MiB */
	/* Submissions and deferred calls that are held back in the device, and their bytes: 16384,
	 * 64 MiB. A context may have a quarter of each. */
	uint32_t max_held;
	size_t max_held_size;
	/* Descriptors of fences: half of RLIMIT_NOFILE, at most max_fences. At the limit, work
	 * waits until a descriptor is closed. The last one is kept for fences that are the oldest
	 * of their timelines. */
	uint32_t max_fds;
	/* Of these, of one context: a quarter, but not below 16. The same holds for them.
	 *
	 * What is pending of a submission's in_fence_fds is copied. Each copy is a descriptor and a
	 * fence of the context until it has signalled or its work waits no longer. Copies do not
	 * get the last descriptor, and a submission is refused where there are too few. So it can
	 * have max_context_fds - 1 of them: by default 127 if RLIMIT_NOFILE is 1024, and all of
	 * max_in_fences if it is 2056 or more. */
	uint32_t max_context_fds;
	uint64_t reserved[8];
};

struct vgf_options {
	size_t size; /* sizeof(struct vgf_options), as the caller knows it */
	struct vgf_limits limits;
	uint64_t stall_ns; /* a fence is reported after this time: 0 means 10 s, UINT64_MAX never */
	bool own_thread;   /* the library dispatches in a thread of its own */
	/*
	 * What one round of vgf_device_dispatch does at most, so that no guest context can keep the
	 * others waiting: it retires fences for so long, or so many of them, and it calls drivers
	 * for so long, or so often. What is left makes the descriptor readable and goes on in the
	 * next round, which takes note of new signals first; contexts take turns. A call that lasts
	 * longer than budget_ns ends its round. Fences retire in batches of up to 127, and the
	 * budget is looked at in between. UINT32_MAX or UINT64_MAX: no bound.
	 */
	uint32_t budget_items; /* 0 means 1024 */
	uint64_t budget_ns;    /* 0 means 1 ms */
	/* Drivers and deferred functions are called by the thread that dispatches alone, as GL
	 * wants it: vgf_submit and vgf_context_defer leave what is ready to it unless they are
	 * called in one of its callbacks; not in those of vgf_fence_signal. Drain, reset and
	 * destroy dispatch, too. */
	bool run_in_dispatch;
	/* An in-fence that would be refused (unknown, foreign, ambiguous) counts as signalled
	 * instead, and a warning is logged. Work may then run too early, as with virglrenderer. */
	bool ignore_bad_in_fences;
};

/*
 * Makes a device, which has the fences of one virtio-gpu device. Devices share nothing.
 *
 * This grows the process's descriptor table to limits.max_fds, because growing it later stalls
 * every thread (tens of milliseconds were seen).
 *
 * callbacks: copied. cookie: passed to each. options: NULL for all defaults. out: set to the
 * device, or NULL.
 *
 * Returns 0; -EINVAL if callbacks are missing, or one of a pair is; -EINVAL, -E2BIG for a size, see
 * above; -ENOMEM, also if the user may have no more watches (max_user_watches of epoll(7));
 * -EMFILE, -ENFILE, -EAGAIN (no thread).
 */
int vgf_device_create(const struct vgf_callbacks *callbacks, void *cookie,
	const struct vgf_options *options, struct vgf_device **out);

/*
 * Cancels everything, as vgf_device_reset does, and frees the device. All callbacks have come when
 * it returns. It may be called from inside a callback: the caller of vgf_device_dispatch then gets
 * -ECANCELED. It must not be called from inside a driver's function or a deferred one: then it only
 * logs an error.
 *
 * No other thread may be in a call with this device, with two exceptions. One that waits in
 * vgf_device_dispatch, or works there, returns from it with -ECANCELED; one that is about to call
 * it must not do so any more. A driver's may signal and publish until the driver's destroy has
 * returned. The renderer has to be reset before, as for vgf_device_reset. NULL
 * is fine.
 */
void vgf_device_destroy(struct vgf_device *device);

/*
 * For a guest that resets the device (driver unload, reboot). Before this returns,
 * - everything pending retires, with the status it had if it had signalled, else with -ECANCELED;
 * - deferred functions are called with -ECANCELED;
 * - the driver of every context is told to destroy it, with `cancelled` set;
 * - nothing new is accepted (-ECANCELED).
 * Then IDs may start again. This waits for no GPU, but for drivers' functions that run in other
 * threads.
 *
 * Drivers of contexts that were destroyed before are not called again. So the VMM has to reset its
 * renderer first, or one of them could signal an old fence later.
 *
 * From inside a callback of a reset this does nothing: that one goes on with what is left.
 *
 * Returns 0; -EDEADLK from inside a driver's function or a deferred one; -ECANCELED if the device
 * is being destroyed.
 */
int vgf_device_reset(struct vgf_device *device);

/* Returns the descriptor to poll for reading, level-triggered: call vgf_device_dispatch when it is
 * readable. It belongs to the device. -EBUSY if the device has its own thread. */
int vgf_device_get_fd(struct vgf_device *device);

/*
 * Does what there is to do: takes note of fences that have signalled, runs work that was held back,
 * retires fences. If there is nothing to do, waits for at most timeout_ms milliseconds; -1 waits
 * without end, 0 does not wait. If 16 calls are inside each other, because callbacks dispatch or
 * drain, a further one does nothing: the others go on with what is left.
 *
 * Returns how many fences were retired: 0 for a timeout, or if it only did other things; -EBUSY if
 * another thread dispatches (it waits, however, while another is in drain, save or reset); -EDEADLK
 * from inside a driver's function or a deferred one; -EINTR; -ECANCELED if the device was destroyed
 * meanwhile and must not be used again.
 */
int vgf_device_dispatch(struct vgf_device *device, int timeout_ms);

/*
 * The half of vgf_device_dispatch that calls no driver and no deferred function: takes note of
 * fences that have signalled, and retires fences. For threads in which a renderer tells that
 * something has signalled, while its functions may be called in another one only. Held work that
 * has become ready makes the device's descriptor readable. Does not wait.
 *
 * Returns as vgf_device_dispatch, and -EBUSY also while another thread is in drain, save or reset.
 * After -EBUSY the other thread retires what had signalled before this call, if its budget lasts.
 * What it does not retire makes the device's descriptor readable: in vgf_fence_signal that is what
 * has signalled by a descriptor, in vgf_device_save all of it.
 */
int vgf_device_retire(struct vgf_device *device);

/*
 * Dispatches until nothing is pending: for a snapshot, migration or an orderly stop. New
 * submissions prolong it. Waits for at most timeout_ms milliseconds; -1 waits without end. Another
 * thread's reset goes first, even if it takes longer than timeout_ms; but not if this is called
 * from inside a callback. Another thread's drain that has begun before waits until this one is
 * over, even if its own time is over first.
 *
 * Returns 0; -ETIMEDOUT; -ECANCELED if the device was destroyed meanwhile; -EDEADLK from inside
 * a driver's function, a deferred one, or a callback of vgf_fence_signal's, or if 16 calls are
 * inside each other (see vgf_device_dispatch).
 */
int vgf_device_drain(struct vgf_device *device, int timeout_ms);

/* ---- Contexts ----------------------------------------------------------------------------- */

/*
 * Makes a context. An ID may be used again as soon as vgf_context_destroy was called for it. The
 * new context's work then stays behind what is left of the old one's.
 *
 * driver: copied. data: passed to the driver. If this succeeds, the driver's destroy is called
 * exactly once.
 *
 * Returns 0; -EINVAL for a driver without submit; -EINVAL, -E2BIG for its size; -EEXIST; -ENOSPC
 * at max_contexts; -ENOMEM; -ECANCELED during a reset.
 */
int vgf_context_create(
	struct vgf_device *device, uint32_t ctx_id, const struct vgf_driver *driver, void *data);

/*
 * Destroys a context, behind its held work: what was accepted still runs, in order, and retires.
 * Does not wait. Returns 0 if the driver's destroy has been called, 1 if that follows later;
 * -ENOENT.
 */
int vgf_context_destroy(struct vgf_device *device, uint32_t ctx_id);

enum vgf_cancel_flags {
	VGF_CANCEL_OPEN = 1u << 0,      /* the context with this ID that is open */
	VGF_CANCEL_DESTROYED = 1u << 1, /* those with this ID that were destroyed before */
	/* Fences whose work the driver has, too, and those of vgf_fence_create_take. Their
	 * descriptors are not waited for any more, and vgf_fence_signal for one of them returns
	 * -EALREADY or -ENOENT; but once the ID is used again, see there. */
	VGF_CANCEL_RUNNING = 1u << 2,
	/* Not one context, but all there are; the ID means nothing. With VGF_CANCEL_DESTROYED that
	 * is also work of which no list tells: without a fence, in a context that was destroyed. */
	VGF_CANCEL_EVERY_CONTEXT = 1u << 3,
};

/*
 * Gives up on a context: drops the work that it still holds back. Fences of that work retire with
 * `error` as their status, in order; deferred functions are called with it in their turn. Fences
 * whose work the driver has retire when they signal, unless VGF_CANCEL_RUNNING is set. What has
 * been given up before keeps its first error, also if the device is reset.
 *
 * flags: which of the contexts with this ID, one at least, and what of it; enum vgf_cancel_flags.
 *
 * Returns 0; -ENOENT if there is no such context, but not of all contexts; -EINVAL for other flags,
 * or if error is not negative.
 */
int vgf_context_cancel(struct vgf_device *device, uint32_t ctx_id, uint32_t flags, int error);

/*
 * Gives up on all fences of a timeline, as vgf_fence_cancel does on one; but it does not mind that
 * a driver's submit runs. For a ring that hangs: one call, not one for each stall.
 *
 * ctx_id: means nothing with VGF_RING_GLOBAL. Returns how many fences that were; -ENOENT if the
 * context or the ring was never used (ring 0 is, with its context), or nothing is left of the
 * context; -EINVAL for a ring out of range, or if error is not negative.
 */
int vgf_timeline_cancel(struct vgf_device *device, uint32_t ctx_id, int32_t ring, int error);

/* In place of a ring: a deferred call keeps its place among the work of every ring. */
#define VGF_EVERY_RING (-2)

/* One deferred call. */
struct vgf_deferred_call {
	uint32_t ctx_id;
	/* A ring, or VGF_EVERY_RING. The call for one ring waits only for that ring's work, and
	 * holds up only that, if the driver's rings are independent. */
	int32_t ring;
	size_t kept_size; /* bytes that the VMM keeps for it: they count with those of held work */
	/* status is 0, or that of vgf_context_cancel, or -ECANCELED if the device was reset. */
	void (*fn)(void *arg, int status);
	void *arg;
	uint64_t reserved[4];
};

/*
 * Calls a function once the driver has got everything that was submitted before, and before it gets
 * anything that is submitted later: for commands that must keep their place among held work
 * (attach, detach, transfer). If this succeeds, call->fn is called exactly once, with no lock held,
 * in this thread or in the dispatching one.
 *
 * call: read before this returns. Returns 0 if call->fn has been called, 1 if that follows later;
 * -ENOENT: no such context; -EINVAL: a ring out of range; -ENOSPC: max_held or max_held_size;
 * -ENOMEM.
 */
int vgf_context_defer(struct vgf_device *device, const struct vgf_deferred_call *call);

/* ---- Submissions and fences --------------------------------------------------------------- */

/* One SUBMIT_3D. Nothing in it need outlive the call that it is passed to. */
struct vgf_submission {
	struct vgf_fence_name fence; /* ctx_id and ring also say where it runs */
	uint32_t flags;              /* of enum vgf_fence_flags */
	uint32_t num_in_fences;
	const uint64_t *in_fences; /* IDs of fences to wait for, in any order, repeated or not */
	/* Fences to wait for that are not of this device: from a dma-buf, a window system, another
	 * device. Each descriptor polls readable once its fence has signalled; -1 has signalled.
	 * Borrowed. */
	const int *in_fence_fds;
	uint32_t num_in_fence_fds;
	const void *command; /* the command stream, in memory that a guest cannot write */
	size_t size;         /* of the command stream, in bytes */
	/* Comes back with the fence (vgf_retired.cookie): the request that is to be answered. Not
	 * without VGF_FENCED, and not if the fence is merged with the next one (VGF_MERGEABLE). */
	void *cookie;
	uint64_t reserved[4];
};

/*
 * Submits work. It runs once its in-fences have retired; if its driver takes in-fences, it runs as
 * soon as each of them has a descriptor that stands for it (struct vgf_in_fence).
 *
 * will_retire: set to whether a callback will retire the out-fence, with an error or without. If it
 * is true, the VMM answers the guest at that callback. If it is false, the VMM answers at once. If
 * this returned an error, the response has VIRTIO_GPU_FLAG_FENCE only if nothing is pending on the
 * timeline, as the guest would take it for the completion of all earlier fences there; without a
 * context there is no timeline, and the guest waits for its fence. May be NULL.
 *
 * If another thread dispatches, it may make that callback before this returns. So what the callback
 * needs has to be in the submission's cookie, or in place, before the call.
 *
 * Returns 0 if the driver has got the work, 1 if it is held back, or an error:
 * - -ENOENT: no such context, or an in-fence that the device has not seen;
 * - -EPERM: an in-fence that is neither shareable nor of this context;
 * - -ENOTUNIQ: an in-fence ID that is pending on several timelines;
 * - -EINVAL: a ring out of range, or a fence ID not above the last of its timeline, or 2^64-1; or
 *   reserved members that are not 0: then nothing of the submission was looked at;
 * - -EBADF, -EIO: one of in_fence_fds is no descriptor, or will never signal;
 * - -EMFILE, -ENFILE: no copy of one of them could be made, or there is no room for all of them at
 *   max_fds or max_context_fds;
 * - -E2BIG: more in-fences than max_in_fences, descriptors included, or a command stream above
 *   max_command_size;
 * - -ENOSPC: max_fences or max_context_fences, copies of in_fence_fds included; max_held or
 *   max_held_size; or the ID is pending on as many other timelines as a context has rings;
 * - -ECANCELED: a reset is going on;
 * - -ENOMEM;
 * - what the driver's submit returned. If that has the job run again (vgf_job_runs_again) it is
 *   held back instead, unless its context was cancelled meanwhile: then this returns the error of
 *   that.
 */
int vgf_submit(
	struct vgf_device *device, const struct vgf_submission *submission, bool *will_retire);

/*
 * Puts the fence of any other command on its timeline. fence_fd is a descriptor that polls readable
 * once the command is done, or VGF_FENCE_DONE, or VGF_FENCE_BY_CALL. If this succeeds it owns the
 * descriptor; after an error the caller still does. The callback comes from vgf_device_dispatch,
 * never from inside this call, and gets the cookie.
 *
 * Returns 0; -ENOENT if the fence is on a ring of a context that does not exist; -EINVAL,
 * -ENOSPC, -ENOMEM as vgf_submit; -EBADF or -EPERM for a descriptor that cannot be polled; -EMFILE
 * at max_fds or max_context_fds; -ECANCELED during a reset.
 */
int vgf_fence_create_take(struct vgf_device *device, const struct vgf_fence_name *name,
	uint32_t flags, void *cookie, int fence_fd);

/*
 * Puts a fence with an error on its timeline: for a request that fails before vgfence gets it (it
 * cannot be decoded, its resource does not exist) but whose fence is known. error is a negative
 * errno value. Returns as vgf_fence_create_take.
 */
int vgf_fence_refuse(struct vgf_device *device, const struct vgf_fence_name *name, uint32_t flags,
	void *cookie, int error);

/*
 * Gives up on a fence. Whatever its descriptor says, it counts as signalled, with `error` as its
 * status, and retires when its turn comes. If its work is still held back, that is dropped.
 *
 * Returns 0; -ENOENT if no such fence is pending; -EALREADY if it has signalled; -EBUSY while the
 * driver's submit for it runs; -EINVAL if error is not negative.
 */
int vgf_fence_cancel(struct vgf_device *device, const struct vgf_fence_name *name, int error);

/* In place of the context that asks: the host itself, which may name every fence. */
#define VGF_HOST 0

/*
 * Makes a descriptor for a fence: for display (IN_FENCE_FD of KMS), a Wayland proxy, a dma-buf. The
 * fence is named by its ID, as in-fences are, and the same rules say whether the context that asks
 * may name it. But the descriptor is of its own work: where a timeline has no order (see struct
 * vgf_in_fence), what is before it may not be done. vgf_fence_notify tells when all of that is.
 *
 * ctx_id: the context that asks, or VGF_HOST. fence_fd: set to a close-on-exec descriptor that the
 * caller closes, or to -1: the fence has signalled, so there is nothing to wait for; or after an
 * error.
 *
 * Returns 0; -EAGAIN if the fence has no descriptor yet, and perhaps never: see vgf_fence_notify;
 * -ENOENT for an ID that the device has not seen, or no such context; -EPERM if it is neither
 * shareable nor of that context; -ENOTUNIQ if fences of several timelines have this ID; -EMFILE.
 */
int vgf_fence_export(struct vgf_device *device, uint32_t ctx_id, uint64_t fence_id, int *fence_fd);

/*
 * Calls a function when a fence retires, also one that has no descriptor: for display, a snapshot,
 * a buffer that goes elsewhere. The fence is named as for vgf_fence_export.
 *
 * fn: called once, right after the VMM's callback for this fence, in the thread that makes that,
 * with the fence's status; a reset calls it, too. A fence that is merged (VGF_MERGEABLE) has no
 * callback: then in its turn. Several for one fence are called in the order in which they came. It
 * may call whatever a callback may.
 *
 * Returns 1 if fn will be called; 0 if the fence has signalled and nothing is before it on its
 * timeline: fn will not be called; -ENOENT, -EPERM, -ENOTUNIQ as vgf_fence_export; -ENOSPC if
 * max_fences calls are outstanding; -ENOMEM.
 */
int vgf_fence_notify(struct vgf_device *device, uint32_t ctx_id, uint64_t fence_id,
	void (*fn)(void *arg, int status), void *arg);

/* ---- Snapshots ---------------------------------------------------------------------------- */

/*
 * A device in which nothing is pending consists of marks: which IDs each timeline has seen. They
 * tell an in-fence that has retired, which is fine, from one that never was (-ENOENT), and an ID
 * that may come next from one that may not (-EINVAL). A guest that goes on in another process, or
 * from a file, needs them there:
 *
 *	vgf_device_drain, vgf_device_save, vgf_device_destroy
 *	vgf_device_create, vgf_context_create for each open context, vgf_device_restore
 *
 * The blob has a header of 32 bytes, and 16 bytes for each timeline of an open context. All
 * integers are little-endian. A mark is one above the highest ID that was seen, or 0 if there was
 * none.
 *
 *	offset  size
 *	     0     8  "VGFENCE" and a zero byte
 *	     8     4  version of the format: 1
 *	    12     4  number of records that follow
 *	    16     8  mark of the device: of all timelines that there have been
 *	    24     8  mark of the global timeline
 *
 *	     0     4  context ID
 *	     4     4  ring
 *	     8     8  its mark
 *
 * The records are sorted by context, then ring. Each open context has one for ring 0, and one for
 * each other ring that was used. The same state has the same bytes. Statistics, options, limits and
 * drivers are not in it, and of contexts that were destroyed only what is in the device's mark.
 */

/*
 * Saves the marks. Nothing may be pending or held back: call vgf_device_drain before, and let no
 * guest submit in between. If another thread dispatches, this waits until that is in no callback.
 * The device stays as it is, and can be used on if it is not to be destroyed.
 *
 * blob, size: set to the blob, which the caller frees with free(), and its size in bytes; or to
 * NULL and 0.
 *
 * Returns 0; -EBUSY if something is pending or held back, or a driver's function runs in another
 * thread; -ENOMEM; -ECANCELED during a reset; -EDEADLK from inside a driver's function or a
 * deferred one.
 */
int vgf_device_save(struct vgf_device *device, void **blob, size_t *size);

/*
 * Sets the marks of a device that has had no fence yet, since it was made or reset. The contexts of
 * the blob have to be there; other contexts begin as new ones. Everything is checked before
 * anything is set, so after an error the device is as before. The blob need not be trusted, but
 * what it says is believed: an ID below its marks counts as retired.
 *
 * Returns 0; -EINVAL for a blob that is none, has another version or size, is not sorted, names a
 * ring out of range or unused, or has a timeline's mark above the device's; -EBUSY if the device
 * has had a fence; -ENOENT if a context is not there, which the log names; -ENOMEM; -ECANCELED
 * during a reset.
 */
int vgf_device_restore(struct vgf_device *device, const void *blob, size_t size);

#ifdef __cplusplus
}
#endif

#endif
