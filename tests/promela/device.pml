/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The vgfence authors */

/*
 * A device of the library as its threads see it: what is done with the lock held, what without, who
 * sleeps and who wakes up whom. README.md says what is left out, check.py runs it.
 *
 * An inline stands for the function that the comment in front of it names. Between two steps
 * (atomic) any other thread may run, unless it needs the lock.
 *
 *   -DITEMS=n     how much the VMM asks for: work with a fence, or destroying the context
 *   -DCANCELS, -DSAVES, -DRESETS, -DDISPATCHES, -DDRAINS
 *                 what the VMM and the second thread may do besides
 *   -DQUIET       nobody gives up on anything, and the GPU ends all its jobs. So each callback has
 *                 to come by itself: a wake-up that is lost is a deadlock
 *   -DSIGNALS_HERE  fences that the GPU signals by call may retire in its thread, and the first thread
 *                 sleeps on the device's descriptor, not in vgf_device_dispatch
 *   -DOWN_THREAD  the first thread is the library's own, else it is one of the VMM's
 *   -DBREAK_name  the library with one mistake in it, which has to be found
 */

#ifndef ITEMS
#define ITEMS 3
#endif
#define NONE ITEMS /* in place of an item */

/* The threads that dispatch. The VMM's that submits never has that role; the GPU's only to retire. */
#define FIRST 0
#define SECOND 1
#define GPU 2
#define NOBODY 3

/* ---- The state of a device, by the names that src/device.h gives it ------------------------ */

bool locked;
bool kicked, eventfd; /* device->kicked, and what its kick_fd counts */
bool processing, dispatching;
byte depth;
byte dispatcher = NOBODY;
byte takers, blocked, draining;
bool resetting, closing, abandoned, freed;
byte running;   /* contexts.fd_share.running */
bool asleep[3]; /* who waits for device->changed */
bool open = true; /* context->current */

/* An item is a submission with its out-fence, by the order in which they came; or it destroys the
 * context that is open, which is a barrier and has no fence. */
#define WORK 0
#define DESTROY 1
byte items;
byte kind[ITEMS], ring[ITEMS], in_fence[ITEMS];

/* Where its command stream is. */
#define ABSENT 0
#define QUEUED 1
#define RUNNING 2
#define DONE 3
byte work[ITEMS];
bool dropped[ITEMS]; /* submission->status is an error */

/* Where its fence is. RETIRED: on device->fences.retired, or device->retiring. */
#define NO_FENCE 0
#define PENDING 1
#define SIGNALLED 2
#define RETIRED 3
#define CALLED 4
byte fence[ITEMS];

/* The kernel's part, and the GPU's. */
bool has_file[ITEMS];     /* the fence has a descriptor */
bool file_signals[ITEMS]; /* which is readable */
bool watched[ITEMS];      /* and in the epoll set */
bool on_gpu[ITEMS];       /* a job that has not ended */
bool by_call[ITEMS];      /* it ends with vgf_fence_signal */

chan retired = [ITEMS] of { byte };
chan retiring = [ITEMS] of { byte };

bool vmm_is_done, gpu_is_stopped, first_is_done, first_is_to_end, first_is_draining;

/* ---- What follows from it ------------------------------------------------------------------ */

#if ITEMS == 2
#define ANY(is) (is(0) || is(1))
#define ANY_OF(is, i) (is(i, 0) || is(i, 1))
#elif ITEMS == 3
#define ANY(is) (is(0) || is(1) || is(2))
#define ANY_OF(is, i) (is(i, 0) || is(i, 1) || is(i, 2))
#elif ITEMS == 4
#define ANY(is) (is(0) || is(1) || is(2) || is(3))
#define ANY_OF(is, i) (is(i, 0) || is(i, 1) || is(i, 2) || is(i, 3))
#endif

#define IS_PENDING(i) (fence[i] == PENDING || fence[i] == SIGNALLED)
#define IS_BEFORE_ON_TIMELINE(i, j) ((j) < (i) && ring[j] == ring[i] && IS_PENDING(j))
/* src/fence_table.c: fence_is_oldest */
#define IS_OLDEST(i) (IS_PENDING(i) && !ANY_OF(IS_BEFORE_ON_TIMELINE, i))

/* device->fences.ready */
#ifdef BREAK_turn
#define IS_READY(i) (fence[i] == SIGNALLED)
#else
#define IS_READY(i) (fence[i] == SIGNALLED && IS_OLDEST(i))
#endif
/* src/loop.c: has_to_retire */
#define HAS_TO_RETIRE (ANY(IS_READY) || (len(retired) > 0) || (len(retiring) > 0))

/* src/submission.c: submission_ready */
#ifdef BREAK_in_fence
#define IS_WAITING(i) (false)
#else
#define IS_WAITING(i) \
	(kind[i] == WORK && !dropped[i] && in_fence[i] != NONE && fence[in_fence[i]] < RETIRED)
#endif

/* src/ctx_sync.c: admit, queue_done */
#define IS_QUEUED(j) (work[j] == QUEUED || work[j] == RUNNING)
#ifdef BREAK_barrier
#define HAS_TURN_BEFORE(i, j) ((j) < (i) && IS_QUEUED(j) && ring[i] == ring[j])
#else
#define HAS_TURN_BEFORE(i, j) \
	((j) < (i) && IS_QUEUED(j) && \
		(kind[i] == DESTROY || kind[j] == DESTROY || ring[i] == ring[j]))
#endif
/* src/ctx_sync.c: ctx_sync_is_runnable */
#define IS_RUNNABLE(i) (work[i] == QUEUED && !ANY_OF(HAS_TURN_BEFORE, i) && !IS_WAITING(i))
#define IS_HELD(i) (work[i] == QUEUED)

/* src/lock.c: device_has_work, device_is_busy */
#define HAS_WORK (ANY(IS_READY) || (len(retired) > 0) || ANY(IS_RUNNABLE))
#define IS_OWED(i) (fence[i] != NO_FENCE && fence[i] != CALLED)
#ifdef BREAK_running
#define IS_RUNNING false
#else
#define IS_RUNNING (running > 0)
#endif
#define IS_BUSY (HAS_WORK || (len(retiring) > 0) || ANY(IS_PENDING) || ANY(IS_HELD) || IS_RUNNING)

/* src/dispatcher.c: dispatcher_is_self, dispatcher_is_other */
#define IS_SELF(t) (depth > 0 && dispatcher == t)
#ifdef OWN_THREAD
#define IS_OTHER(t) (t != FIRST) /* thread_main does not ask */
#else
#define IS_OTHER(t) (dispatching && !IS_SELF(t))
#endif

/* ---- The lock, and waking up --------------------------------------------------------------- */

/* src/lock.c: device_lock */
inline device_lock()
{
	atomic {
		!locked -> locked = true;
		assert(!freed)
	}
}

/* src/watch.c: watch_all */
#define IS_TO_BE_WATCHED(i) (has_file[i] && fence[i] == PENDING && !watched[i] && IS_OLDEST(i))
inline watch_all()
{
	watch = 0;
	do
	:: watch < ITEMS && IS_TO_BE_WATCHED(watch) -> watched[watch] = true; watch++
	:: watch < ITEMS && !IS_TO_BE_WATCHED(watch) -> watch++
	:: watch == ITEMS -> break
	od;
	watch = 0
}

/* src/lock.c: device_unlock, up to pthread_mutex_unlock. watch_kick comes after it. */
inline device_unlock()
{
	watch_all();
#ifndef BREAK_kick
	must_kick = !processing && !kicked && (HAS_WORK || (draining > 0 && !IS_BUSY));
#endif
	kicked = kicked || must_kick;
	locked = false
}

/* src/watch.c: watch_kick */
inline watch_kick()
{
	atomic {
		if
		:: must_kick -> eventfd = true; must_kick = false
		:: else
		fi
	}
}

/* src/watch.c: watch_take_kick */
inline watch_take_kick()
{
	eventfd = false;
#ifndef BREAK_take_kick
	kicked = false
#endif
}

/* pthread_cond_broadcast(&device->changed) */
inline broadcast()
{
	asleep[FIRST] = false;
	asleep[SECOND] = false;
	asleep[GPU] = false
}

/* pthread_cond_wait(&device->changed, &device->lock) */
inline cond_wait(t)
{
	atomic { asleep[t] = true; locked = false };
	atomic { !asleep[t] && !locked -> locked = true; assert(!freed) }
}

/* ---- The role of the dispatching thread ---------------------------------------------------- */

/* src/dispatcher.c: dispatcher_enter. Here no thread has the role twice. */
#ifdef BREAK_role
#define MUST_WAIT(take_over) (false)
#else
#define MUST_WAIT(take_over) (depth > 0 || (!(take_over) && takers > 0))
#endif
inline dispatcher_enter(t, take_over)
{
	atomic {
		assert(!IS_SELF(t));
		if
		:: take_over -> takers++
		:: else -> blocked++
		fi
	};
	do
	:: atomic {
		MUST_WAIT(take_over) ->
		if
		:: !kicked ->
#ifndef BREAK_take_over
			kicked = true;
			eventfd = true
#endif
		:: else
		fi
	   };
	   cond_wait(t)
	:: atomic {
		!MUST_WAIT(take_over) ->
		if
		:: take_over -> takers--
		:: else -> blocked--
		fi;
		dispatcher = t;
		dispatching = !(take_over);
		depth = 1;
		break
	   }
	od
}

/* src/dispatcher.c: dispatcher_leave */
inline dispatcher_leave(t)
{
	assert(IS_SELF(t));
	depth--;
	dispatching = false;
	broadcast()
}

/* ---- Fences -------------------------------------------------------------------------------- */

/* src/fence_table.c: fence_signal */
inline fence_signal(f)
{
	assert(fence[f] == PENDING); /* once */
	fence[f] = SIGNALLED
}

/* src/loop.c: call_back. What the VMM is promised. */
#define IS_OWED_BEFORE(i, j) \
	((j) < (i) && ring[j] == ring[i] && fence[j] != NO_FENCE && fence[j] != CALLED)
inline call_back(t, f)
{
	assert(!freed);
	assert(IS_SELF(t));                   /* in the thread that has the role */
	assert(fence[f] == RETIRED);          /* once */
	assert(!ANY_OF(IS_OWED_BEFORE, f));   /* in the order of its timeline */
	fence[f] = CALLED
}

/* ---- Running ------------------------------------------------------------------------------- */

/* What a driver is promised; not what the library makes of it above. */
#define IS_UNDONE_BEFORE(i, j) \
	((j) < (i) && IS_QUEUED(j) && \
		(kind[i] == DESTROY || kind[j] == DESTROY || ring[i] == ring[j]))
#define IS_DESTROYED_AFTER(i, j) ((j) > (i) && (j) < items && kind[j] == DESTROY && work[j] == DONE)

/* struct vgf_driver: submit and destroy */
#define BY_CALL 0
#define BY_FILE 1
#define AT_ONCE 2
inline call_driver(i)
{
	assert(!freed);
	assert(work[i] == RUNNING && !on_gpu[i]);
	assert(!ANY_OF(IS_UNDONE_BEFORE, i));                      /* order in a ring, barriers */
	assert(kind[i] == DESTROY || !ANY_OF(IS_DESTROYED_AFTER, i)); /* destroy is its last call */
	assert(kind[i] == DESTROY || in_fence[i] == NONE || fence[in_fence[i]] >= SIGNALLED);
	if
	:: kind[i] == DESTROY
	:: kind[i] == WORK -> on_gpu[i] = true; by_call[i] = true
	:: kind[i] == WORK -> on_gpu[i] = true; answer = BY_FILE
	:: kind[i] == WORK -> answer = AT_ONCE /* or it fails, which is the same here */
	fi
}

/* src/run.c: settle_fence */
inline settle_fence(i)
{
	if
#ifdef BREAK_settle
	:: kind[i] == WORK ->
#else
	:: kind[i] == WORK && fence[i] == PENDING ->
#endif
		if
		:: answer == AT_ONCE -> fence_signal(i)
		:: answer == BY_FILE -> has_file[i] = true
		:: else
		fi
	:: else
	fi
}

/* src/run.c: run_next, run_work. Locked. */
inline run_next(i)
{
	atomic {
		work[i] = RUNNING;
		running++;
		answer = BY_CALL;
		calls = kind[i] == DESTROY || !dropped[i];
		if
		:: !calls && fence[i] == PENDING -> fence_signal(i)
		:: !calls && fence[i] != PENDING
		:: calls -> device_unlock()
		fi
	};
	if
	:: calls ->
		watch_kick();
		atomic { call_driver(i) };
		device_lock();
		atomic { settle_fence(i); calls = false }
	:: else
	fi;
	atomic {
		answer = BY_CALL;
		work[i] = DONE;
		running--;
#ifndef BREAK_broadcast
		broadcast()
#endif
	}
}

/* ---- Rounds -------------------------------------------------------------------------------- */

#define IS_ASKED(i, j) ((j) > (i) && ring[j] == ring[i] && IS_OLDEST(j) && fence[j] == PENDING && \
	has_file[j] && file_signals[j])

/* src/loop.c: advance_timelines; src/fence_table.c: timeline_advance, retire. One or more fences,
 * as budgets have it. */
inline retire(f)
{
	fence[f] = RETIRED;
	retired!f
}
inline advance_timelines()
{
	do
	:: IS_READY(0) -> retire(0)
	:: IS_READY(1) -> retire(1)
#if ITEMS > 2
	:: IS_READY(2) -> retire(2)
#endif
#if ITEMS > 3
	:: IS_READY(3) -> retire(3)
#endif
	:: (len(retired) > 0) || !ANY(IS_READY) -> break
	od;
	/* src/watch.c: watch_ask. Who comes forward may have signalled long ago. */
	watch = 0;
	do
	:: watch < ITEMS && IS_TO_BE_WATCHED(watch) && file_signals[watch] ->
		fence_signal(watch);
		watch++
	:: watch < ITEMS && !(IS_TO_BE_WATCHED(watch) && file_signals[watch]) -> watch++
	:: watch == ITEMS -> break
	od;
	watch = 0
}

/* src/loop.c: deliver */
inline deliver(t)
{
	atomic {
		do
		:: retired?at -> watched[at] = false; retiring!at
		:: (len(retired) == 0) -> break
		od;
		at = 0;
		calls = (len(retiring) > 0);
		if
		:: calls -> device_unlock()
		:: else
		fi
	};
	if
	:: calls ->
		do
		:: atomic { retiring?at -> call_back(t, at); at = 0 }
		:: atomic { (len(retiring) == 0) -> break }
		od;
		device_lock();
		calls = false
	:: else
	fi
}

/* src/loop.c: take_events. Locked. */
#define FIRES(i) (watched[i] && file_signals[i])
#define HAS_DESCRIPTOR(i) (has_file[i] && fence[i] != CALLED)
inline take_event(i)
{
	if
	:: (seen >> i) & 1 ->
		watched[i] = false;
		if
		:: fence[i] == PENDING -> fence_signal(i)
		:: else
		fi
	:: else
	fi
}
inline take_events(t, sleeps)
{
	if
	:: atomic { !(sleeps) && kicked && !ANY(HAS_DESCRIPTOR) -> watch_take_kick() }
	:: atomic { !(!(sleeps) && kicked && !ANY(HAS_DESCRIPTOR)) ->
		processing = false;
		device_unlock()
	   };
	   watch_kick();
	   /* epoll_wait */
	   atomic {
		!(sleeps) || eventfd || ANY(FIRES) ->
		seen = FIRES(0) + 2 * FIRES(1);
#if ITEMS > 2
		seen = seen + 4 * FIRES(2);
#endif
#if ITEMS > 3
		seen = seen + 8 * FIRES(3);
#endif
		seen = seen + (eventfd -> 128 : 0)
	   };
	   device_lock();
	   atomic {
		processing = true;
		if
		:: seen & 128 -> watch_take_kick()
		:: else
		fi;
		take_event(0);
		take_event(1);
#if ITEMS > 2
		take_event(2);
#endif
#if ITEMS > 3
		take_event(3);
#endif
		seen = 0
	   }
	fi;
	processing = true
}

/* src/loop.c: retire_fences. A budget allows at least one. */
inline retire_fences(t)
{
	if
	:: HAS_TO_RETIRE ->
		do
		:: atomic { advance_timelines() };
		   deliver(t);
		   if
		   :: HAS_TO_RETIRE
		   :: break
		   fi
		od
	:: else
	fi
}

/* src/loop.c: process, run_queues. A budget allows at least one of each. */
inline process(t)
{
	retire_fences(t);
	do
	:: atomic { IS_RUNNABLE(0) -> at = 0 }; run_next(at)
	:: atomic { IS_RUNNABLE(1) -> at = 1 }; run_next(at)
#if ITEMS > 2
	:: atomic { IS_RUNNABLE(2) -> at = 2 }; run_next(at)
#endif
#if ITEMS > 3
	:: atomic { IS_RUNNABLE(3) -> at = 3 }; run_next(at)
#endif
	:: true -> break
	od;
	at = 0
}

/* src/loop.c: loop_run, take_round. Locked, in the role. */
inline loop_run(t, may_sleep)
{
	atomic { sleeps = (may_sleep) && !HAS_WORK && (len(retiring) == 0) };
	take_events(t, sleeps);
	process(t);
	atomic { processing = false; sleeps = false }
}

/* ---- What the VMM calls to dispatch, and to end ------------------------------------------- */

/* src/device.c: device_end. Locked. */
inline device_end(t)
{
#ifndef BREAK_end
	do
	:: blocked > 0 || depth > 0 -> cond_wait(t)
	:: else -> break
	od;
#endif
	locked = false;
#ifdef OWN_THREAD
	first_is_done; /* pthread_join */
#endif
	freed = true
}

/* src/device.c: leave. Unlocks. */
inline leave(t)
{
	atomic {
		is_closing = closing;
		dispatcher_leave(t);
		ends = is_closing && abandoned;
		if
		:: ends -> abandoned = false
		:: is_closing && !ends -> locked = false
		:: !is_closing -> device_unlock()
		fi
	};
	watch_kick();
	if
	:: ends -> device_end(t)
	:: else
	fi
}

/* src/device.c: try_dispatch, dispatch. Locked; unlocks. */
inline try_dispatch(t, may_sleep)
{
	if
	:: IS_OTHER(t) ->
		atomic { device_unlock() };
		watch_kick()
	:: else ->
		dispatcher_enter(t, false);
		if
		:: closing
		:: else -> loop_run(t, may_sleep)
		fi;
		leave(t)
	fi
}
/* src/device.c: vgf_device_drain, drain_once, without end of its time. Locked; unlocks. */
inline drain(t)
{
	dispatcher_enter(t, true);
	do
	:: IS_BUSY && !closing ->
		draining++;
		loop_run(t, true);
		draining--;
		if
#ifndef BREAK_drain
		:: takers > 0 ->
			atomic { dispatcher_leave(t) };
			dispatcher_enter(t, false);
			dispatching = false
#endif
		:: else
		fi
	:: else -> break
	od;
	leave(t)
}

/* src/cancel.c: context_cancel, cancel_submission, drop */
inline context_cancel(i)
{
	if
	:: i < items && work[i] == QUEUED && kind[i] == WORK ->
		dropped[i] = true;
		if
		:: fence[i] == PENDING -> fence_signal(i)
		:: else
		fi
	:: i < items && work[i] == RUNNING -> dropped[i] = true
	:: else
	fi
}
inline cancel_contexts()
{
	context_cancel(0);
	context_cancel(1);
#if ITEMS > 2
	context_cancel(2);
#endif
#if ITEMS > 3
	context_cancel(3)
#endif
}

/* src/cancel.c: cancel_running, give_up; src/device.c: cancel_fences. By call, or by the
 * descriptor that has signalled: the same here. */
inline cancel_fence(i)
{
	if
	:: fence[i] == PENDING -> dropped[i] = true; fence_signal(i)
	:: else
	fi
}
inline cancel_fences()
{
	cancel_fence(0);
	cancel_fence(1);
#if ITEMS > 2
	cancel_fence(2);
#endif
#if ITEMS > 3
	cancel_fence(3);
#endif
}

/* src/device.c: cancel_all. Locked, in the role. */
inline cancel_all(t)
{
	atomic {
		resetting = true;
		open = false;
		cancel_contexts()
	};
	do
	:: IS_RUNNING -> cond_wait(t)
	:: else -> break
	od;
	atomic { cancel_fences() };
	do
	:: IS_BUSY -> loop_run(t, false)
	:: else -> break
	od;
	/* Nothing is left of what there was. */
	assert(!IS_BUSY && !ANY(IS_OWED) && !ANY(IS_QUEUED));
	resetting = closing
}

/* src/device.c: vgf_device_reset */
inline vgf_device_reset(t)
{
	device_lock();
	dispatcher_enter(t, true);
	cancel_all(t);
	leave(t)
}

/* src/snapshot.c: vgf_device_save, save. What it writes are marks, so each fence that has one has
 * had its callback. */
inline vgf_device_save(t)
{
	device_lock();
#ifndef BREAK_save
	dispatcher_enter(t, true);
#endif
	atomic {
		if
#ifdef BREAK_save
		:: !(HAS_WORK || ANY(IS_PENDING) || ANY(IS_HELD) || running > 0) -> assert(!ANY(IS_OWED))
#else
		:: !IS_BUSY -> assert(!ANY(IS_OWED))
#endif
		:: else /* -EBUSY */
		fi;
#ifndef BREAK_save
		dispatcher_leave(t);
#endif
		device_unlock()
	};
	watch_kick()
}

/* src/device.c: vgf_device_destroy */
inline vgf_device_destroy(t)
{
	device_lock();
	closing = true;
	dispatcher_enter(t, true);
	cancel_all(t);
	abandoned = true;
	leave(t)
}

/* ---- The threads --------------------------------------------------------------------------- */

/* src/device.c: thread_main; or a thread of the VMM's that dispatches until it is told to end. It has
 * begun to dispatch when it has the lock. */
proctype first()
{
	bool must_kick, calls, sleeps, is_closing, ends;
	byte answer, at, watch, seen;

	do
	:: atomic { first_is_to_end || is_closing -> break }
#ifdef SIGNALS_HERE
	:: atomic {
		!first_is_to_end && !is_closing && !locked && (eventfd || ANY(FIRES)) ->
		locked = true;
		assert(!freed)
	   };
	   try_dispatch(FIRST, false)
#else
	:: atomic { !first_is_to_end && !is_closing && !locked -> locked = true; assert(!freed) };
	   if
	   :: try_dispatch(FIRST, true)
#ifdef DRAINS
	   :: first_is_draining = true; drain(FIRST); first_is_draining = false
#endif
	   fi
#endif
	od;
	first_is_done = true
}

proctype second()
{
	bool must_kick, calls, sleeps, is_closing, ends;
	byte answer, at, watch, seen;

#ifdef DRAINS
	vmm_is_done;
	vgf_device_reset(SECOND); /* so that a drain ends */
#else
	if
	:: true
#ifdef SAVES
	:: vgf_device_save(SECOND)
#endif
#ifdef DISPATCHES
	:: device_lock(); try_dispatch(SECOND, false)
#endif
#ifdef RESETS
	:: vgf_device_reset(SECOND)
#endif
	fi;
#endif
#ifdef QUIET
	atomic { vmm_is_done && !ANY(IS_OWED) && !ANY(IS_QUEUED) };
#endif
	/* Only vgf_device_dispatch may be called meanwhile. */
	atomic {
		vmm_is_done && !first_is_draining -> gpu_is_stopped = true;
#ifndef OWN_THREAD
		first_is_to_end = true
#endif
	};
	vgf_device_destroy(SECOND);
	assert(freed && !ANY(IS_OWED) && !ANY(IS_QUEUED))
}

/* src/device.c: may_retire_here */
#ifdef BREAK_here
#define MAY_RETIRE_HERE (true)
#else
#define MAY_RETIRE_HERE (depth == 0 && takers == 0)
#endif

/* src/device.c: vgf_fence_signal, of a driver's. Where it retires the VMM chooses. */
inline signal_by_call(i)
{
	atomic {
		on_gpu[i] && by_call[i] && !gpu_is_stopped && !locked ->
		on_gpu[i] = false;
		locked = true;
		here = false;
		if
		:: fence[i] == PENDING -> fence_signal(i)
		:: else /* -EALREADY, or -ENOENT */
		fi;
		if
#ifdef SIGNALS_HERE
		:: MAY_RETIRE_HERE ->
			here = true;
			dispatcher = GPU;
			dispatching = true;
			depth++;
			processing = !closing
#endif
		:: device_unlock()
		fi
	};
	watch_kick();
	if
	:: here ->
		/* src/loop.c: loop_retire_signalled */
		if
		:: closing
		:: else -> retire_fences(GPU)
		fi;
#ifndef BREAK_left
		processing = false;
#endif
		leave(GPU)
	:: else
	fi
}

/* And files that become readable without the library. */
inline end_job(i)
{
	if
	:: signal_by_call(i)
	:: atomic { on_gpu[i] && !by_call[i] -> on_gpu[i] = false; file_signals[i] = true }
#ifndef QUIET
	:: atomic { on_gpu[i] -> on_gpu[i] = false } /* it hangs */
#endif
	fi
}
#define IS_ON_GPU(i) (on_gpu[i] && (!by_call[i] || !gpu_is_stopped))
proctype gpu()
{
	bool must_kick, calls, is_closing, ends, here;
	byte at, watch;

end:
	do
	:: IS_ON_GPU(0) -> end_job(0)
	:: IS_ON_GPU(1) -> end_job(1)
#if ITEMS > 2
	:: IS_ON_GPU(2) -> end_job(2)
#endif
#if ITEMS > 3
	:: IS_ON_GPU(3) -> end_job(3)
#endif
	od
}

inline select_ring(i)
{
	if
	:: ring[i] = 0
	:: ring[i] = 1
	fi
}
/* src/submission.c: look_up. What has signalled and is the next to retire is not waited for. */
inline select_in_fence(i)
{
	if
	:: in_fence[i] = NONE
	:: i > 0 && IS_OWED(0) -> in_fence[i] = 0
	:: i > 1 && IS_OWED(1) -> in_fence[i] = 1
#if ITEMS > 3
	:: i > 2 && IS_OWED(2) -> in_fence[i] = 2
#endif
	fi;
	if
	:: in_fence[i] != NONE && fence[in_fence[i]] == SIGNALLED && IS_OLDEST(in_fence[i]) ->
		in_fence[i] = NONE
	:: else
	fi
}

/* src/submit.c: vgf_submit, submit; src/run.c: run_prepare, run_start. Locked. */
inline submit(i)
{
	atomic {
		items++;
		kind[i] = WORK;
		fence[i] = PENDING;
		select_ring(i);
		select_in_fence(i);
		work[i] = QUEUED;
		calls = IS_RUNNABLE(i)
	};
	if
	:: calls -> run_next(i)
	:: else
	fi
}
/* src/context.c: vgf_context_destroy */
inline destroy(i)
{
	atomic {
		items++;
		open = false;
		kind[i] = DESTROY;
		in_fence[i] = NONE;
		work[i] = QUEUED;
		calls = IS_RUNNABLE(i)
	};
	if
	:: calls -> run_next(i)
	:: else
	fi
}

proctype vmm()
{
	bool must_kick, calls;
	byte answer, watch, next;

	do
	:: items < ITEMS ->
		device_lock();
		next = items;
		if
		:: open && !resetting -> submit(next)
		:: open && !resetting -> destroy(next)
		:: !open && !resetting -> open = true /* vgf_context_create */
		:: resetting -> skip /* -ECANCELED */
		fi;
		atomic { device_unlock() };
		watch_kick()
#ifdef CANCELS
	/* vgf_context_cancel, with what runs */
	:: device_lock();
	   atomic { cancel_contexts(); cancel_fences(); device_unlock() };
	   watch_kick()
#endif
	:: true -> break
	od;
	vmm_is_done = true
}

init {
	atomic {
		run first();
		run second();
		run gpu();
		run vmm()
	}
}
