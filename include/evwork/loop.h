/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_LOOP_H
#define EVWORK_LOOP_H

/*
 * Loops: the library's attachment to one libevent base.
 *
 * A loop is made, used by [loop] calls and freed on one thread, the one that
 * runs the base. Other threads touch only the loop's mailbox and its
 * notification descriptor, so the base needs no evthread_use_pthreads() and
 * may be made with EVENT_BASE_FLAG_NOLOCK (S-DLV-1).
 *
 * Outcomes are delivered in the order in which they were posted (S-DLV-2). One
 * turn of the base delivers at most `batch` callbacks and stops early when its
 * time budget is used up; ready descriptors and due timers get their turn in
 * between (S-DLV-5). What a callback posts comes in a later turn (S-DLV-6).
 *
 * Jobs, posts, timers, contexts with a deadline and the closed callbacks of pool and
 * loop that were started on the loop's own thread keep event_base_dispatch() from
 * returning until they are through; the notification event itself does not
 * (S-DLV-7). For work that other threads will bring, take a hold.
 */

#include <stddef.h>

#include <evwork/clock.h>
#include <evwork/job.h>
#include <evwork/status.h>

struct event_base;

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_loop;
struct evwork_pool;

#define EVWORK_BATCH_DEFAULT 128
#define EVWORK_BUDGET_US_DEFAULT 250

enum evwork_notify {
	EVWORK_NOTIFY_DEFAULT,   /* eventfd where the system has it, else a pipe */
	EVWORK_NOTIFY_EVENTFD,
	EVWORK_NOTIFY_PIPE
};

/* For evwork_loop_options.event_priority: libevent's priority p, 0 the highest. */
#define EVWORK_EVENT_PRIORITY(p) ((p) + 1)

/* All zero means the defaults. */
struct evwork_loop_options {
	/* Callbacks in one turn; 0 is 128. */
	int batch;
	/* Microseconds after which a turn delivers no further callback; 0 is 250. */
	int64_t budget_us;
	/* EVWORK_EVENT_PRIORITY(p), p below what event_base_priority_init() was
	 * given; 0 is the middle (S-DLV-13). */
	int event_priority;
	enum evwork_notify notify;
	/* How long the loop keeps polling after a delivery, without blocking,
	 * while jobs are in flight, in microseconds; 0, the default, is not at all.
	 * It may then take several turns before libevent looks at other events, which
	 * share the bounds of one. See the option of the same name of the pool. */
	int64_t spin_us;
	/* Copied, at most 63 bytes of it, for what the log says of the loop; NULL is "loop". */
	const char *name;
	/* A callback of this loop that runs longer than so many milliseconds is reported, as
	 * the option of the same name of the pool says, with the kind of the callback in
	 * place of a name (S-CRASH-6). That tells nothing of other events on the base. 0,
	 * the default, is never. */
	int64_t stall_ms;
	/* NULL: the system's clock. */
	struct evwork_clock *clock;
};

/*
 * evwork_loop_new attaches to base; the calling thread becomes the loop's. pool
 * is where jobs go that name no lane; it may be NULL. If it is freed before the loop,
 * which is fine, every later submit must name a lane. options are copied; NULL is all
 * defaults.
 * -EINVAL: base or ret_loop is NULL, or a value is out of range, or the system
 * has no eventfd and it was asked for. -EAGAIN: no descriptor to be had,
 * or no thread for stall_ms.
 * -ESHUTDOWN: pool or clock was inherited from before a fork. -ENOMEM. In each case
 * nothing is left behind.
 */
int evwork_loop_new(struct event_base *base, struct evwork_pool *pool,
	const struct evwork_loop_options *options, struct evwork_loop **ret_loop);

/* On the loop's thread, once. */
typedef void (*evwork_loop_closed_fn)(struct evwork_loop *loop, void *arg);

/*
 * evwork_loop_close [any] takes nothing new from now on (-ESHUTDOWN), ends
 * watches and timers with -ECANCELED in the order in which they were set, waits
 * for the jobs that are on their way, and then calls fn on the loop's thread
 * (S-SHUT-7, S-SHUT-8). fn may be NULL. The base must go on running until then.
 * -EINVAL: loop is NULL. -EALREADY: closed before; fn is not called.
 */
int evwork_loop_close(struct evwork_loop *loop, evwork_loop_closed_fn fn, void *arg);

/*
 * evwork_loop_free [loop] removes all events and closes the descriptors; the
 * base may be freed after it. NULL is fine. It may be called without a close
 * when nothing is pending, and from every callback of the loop.
 * With stall_ms it waits for the log hook when evwork_pool_free() would.
 * -EPERM: on another thread. -EDEADLK: in the log hook with a report of a stall. -EBUSY:
 * jobs, posts, timers, watches or the closed callback are outstanding, or a hold is taken
 * (S-DLV-14).
 * Free the loop before its base: the other order is the caller's error, which
 * builds with assertions report by aborting.
 * In the child of a fork it frees an inherited loop in any case and on any thread, see
 * evwork/pool.h, and calls event_reinit() on the base, without which the base may not be
 * used there. -EAGAIN: that failed, and nothing was freed.
 */
int evwork_loop_free(struct evwork_loop *loop);

/*
 * evwork_loop_free_force [loop] is evwork_loop_free for emergencies: it never refuses for
 * what is outstanding (S-SHUT-11). No callback of the loop comes any more, done, posts,
 * timers, watches and closed callbacks included; the base may be freed after it, and work
 * that was accepted goes on. Pools whose closed callback it would have been go on closing,
 * without their deadline; until they are closed a manual clock of the loop must stay.
 * Nobody else may be about to use the loop, but a thread inside evwork_submit_wait() is
 * sent away with -ESHUTDOWN.
 *
 * A job whose outcome was not delivered yet counts as delivered, and as dropped, when it
 * has ended. Instead of done its drop is called then, if it has one, detached or not: in
 * this call, or on whichever thread ends the job, a worker as a rule. A job without drop
 * must stay until its pool is closed or freed. Timers and watches are idle when
 * this returns. Groups, maps, pipelines and latch waiters of the loop have no end any more:
 * what they are made of stays, and must not be freed. What is inside a pipeline is dropped,
 * here or, if a call has it, by the worker.
 *
 * Returns the number of callbacks that will not come. -EPERM, -EDEADLK: as for
 * evwork_loop_free. -EBUSY: it was freed before in the same turn.
 */
int evwork_loop_free_force(struct evwork_loop *loop);

/*
 * evwork_loop_hold [loop] keeps event_base_dispatch() from returning until
 * evwork_loop_release [loop] was called as often.
 * -EINVAL: loop is NULL; release: no hold is taken. -EPERM. hold: -ENOMEM.
 */
int evwork_loop_hold(struct evwork_loop *loop);
int evwork_loop_release(struct evwork_loop *loop);

/*
 * evwork_post [any] runs fn(arg) once on the loop's thread, in a later turn, in
 * one order with the outcomes of jobs (S-DLV-11).
 * -EINVAL: loop or fn is NULL. -ESHUTDOWN: the loop is closing. -ENOMEM.
 */
int evwork_post(struct evwork_loop *loop, void (*fn)(void *arg), void *arg);

/* evwork_loop_base, evwork_loop_pool [any]: what the loop was made with, whether it is
 * still there or not. NULL for NULL. */
struct event_base *evwork_loop_base(struct evwork_loop *loop);
struct evwork_pool *evwork_loop_pool(struct evwork_loop *loop);

/* evwork_loop_now [any]: what the loop's clock shows; the system's for NULL. */
int64_t evwork_loop_now(struct evwork_loop *loop);

/* A snapshot of the loop's counters. */
struct evwork_loop_stats {
	uint64_t delivered;    /* callbacks run */
	uint64_t turns;        /* turns of the base that delivered anything */
	uint64_t wakeups;      /* times the descriptor was found readable */
	uint64_t outstanding;  /* jobs and posts accepted and not yet delivered */
	uint64_t stalls;       /* callbacks that were reported for running longer than stall_ms */
	uint64_t stall_reports;  /* all these reports: one or more for each */
};

/* evwork_loop_stats [any]. -EINVAL: an argument is NULL. */
int evwork_loop_stats(struct evwork_loop *loop, struct evwork_loop_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif
