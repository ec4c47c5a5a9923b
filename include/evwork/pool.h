/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_POOL_H
#define EVWORK_POOL_H

/*
 * Pools: worker threads. One pool may serve many loops, one loop may use
 * several pools; a job's lane decides which. Workers never touch libevent.
 *
 * A worker has all asynchronous signals blocked, a name ("evwork-0", cut to the
 * system's limit), a stack of 8 MiB with a guard page, and sleeps when there is
 * nothing to do (S-POOL-20).
 *
 * Forking (S-SHUT-12). A child has none of the threads, and shares the descriptors of its
 * parent. So in the child every call that would do something with a pool, loop, lane,
 * job, timer, context, watch or clock made before gives -ESHUTDOWN; what is made anew
 * works. Free it there, if the child goes on for long: evwork_pool_free() and
 * evwork_loop_free() then neither wait nor refuse, on any thread, and leave the parent's
 * wake-ups alone. No done comes in the child, and what jobs hold of contexts is not given
 * back. A child that was made in work must not return from it; one that was made in a
 * callback may, and its loop calls nothing any more.
 */

#include <stddef.h>

#include <evwork/clock.h>
#include <evwork/lane.h>
#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_loop;
struct evwork_pool;

#define EVWORK_THREADS_MAX 1024
#define EVWORK_AGEING_DEFAULT 64
#define EVWORK_AGEING_MAX 65536
#define EVWORK_HOLD_US_DEFAULT 2000

/* hold_us: never hold a wake-up back. */
#define EVWORK_HOLD_OFF (-1)

/* All zero means the defaults. */
struct evwork_pool_options {
	/* Workers, 1 to 1024. 0: one per CPU that this process may use, counting
	 * its affinity mask and its cgroup's quota (S-POOL-7). */
	int threads;
	/* Bytes; 0 is 8 MiB. */
	size_t stack_size;
	/* Copied; the workers are called "<name>-<index>". NULL is "evwork". */
	const char *name;
	/* S-POOL-5; 0 is 64, at most 65536. */
	int ageing;
	/* How long a worker that ran dry looks for new work before it sleeps, in
	 * microseconds. 0, the default, sleeps at once. A few microseconds here and
	 * in the loop's options spare a lone request two wake-ups of sleeping threads,
	 * at the price of CPU time while idle; set both or neither. */
	int64_t spin_us;
	/*
	 * While short jobs wait in the queue, the loop is not called for each that is
	 * done: it would only take a CPU from the workers. It comes when the last of
	 * them is about to end, and at the latest after this many microseconds. So a
	 * finished job is delivered later by up to this time, but hardly by more than
	 * those queued behind it take, and not at all once a worker runs dry or if
	 * jobs take longer than a wake-up costs (100 µs). 0 is 2000; EVWORK_HOLD_OFF
	 * delivers at once, at the price of CPU time. Effective where the system has
	 * timerfd.
	 */
	int64_t hold_us;
	/* Run on the thread of each worker when it starts (0, or a negated code that
	 * fails evwork_pool_new with it) and before it ends. May be NULL. on_stop runs on
	 * every thread whose on_start returned 0, on one that a job ends, too; the thread
	 * that replaces that has an on_start of its own, see crash.h. */
	int (*on_start)(int worker, void *arg);
	void (*on_stop)(int worker, void *arg);
	void *hook_arg;
	/*
	 * Work that runs longer than so many milliseconds is reported, once, and again each
	 * time that its age has doubled: with its name, its lane and its age as a warning in
	 * the log (see evwork/log.h), and in the counters. It is never killed (S-CRASH-6).
	 * The name is what the describe function of the lane says. 0, the default, is never.
	 *
	 * A report is not early, and late by at most a quarter of stall_ms. It is made on a
	 * thread of its own, one for all pools and loops of the process that ask for
	 * reports, which wakes up four times in each stall_ms. A manual clock that is
	 * advanced stops as often, until the log hook has returned.
	 */
	int64_t stall_ms;
	/* NULL: the system's clock. */
	struct evwork_clock *clock;
	/* The default lane, which takes jobs that name none. */
	struct evwork_lane_options lane;
};

/*
 * evwork_pool_new [any] makes a pool; all its workers run when it returns. The
 * options are copied; NULL is all defaults.
 * -EINVAL: ret_pool is NULL, or a value is out of range (threads outside 0 to
 * 1024, a stack below PTHREAD_STACK_MIN, a negative duration, …).
 * -EAGAIN: a thread, that of stall_ms included, could not be made; nothing is left behind
 * (S-POOL-7).
 * The code of a failing on_start. -ESHUTDOWN: the clock was inherited from before a fork.
 * -ENOMEM.
 */
int evwork_pool_new(const struct evwork_pool_options *options, struct evwork_pool **ret_pool);

enum evwork_close_mode {
	EVWORK_DRAIN = 1,       /* what is queued still runs */
	EVWORK_CANCEL_QUEUED,   /* what is queued ends: -ECANCELED, not run */
	EVWORK_CANCEL_ALL       /* and running jobs are cancelled, see evwork_cancel() */
};

/* On the thread of the loop that was named, once. status: 0 when everything has ended,
 * or -ETIMEDOUT, see evwork_pool_close_by(). */
typedef void (*evwork_pool_closed_fn)(struct evwork_pool *pool, int status, void *arg);

/*
 * evwork_pool_close [any], from work and callbacks too: takes no new work from
 * now on (-ESHUTDOWN), ends what there is as mode says, and then calls
 * fn(pool, 0, arg) on the thread of loop, after the last done on every loop
 * served and after all workers have ended (S-SHUT-5). In EVWORK_DRAIN the
 * pool's own workers may still submit (S-SHUT-2). Closing again with a stronger
 * mode escalates; only the first call's fn is used. fn and loop may both be NULL.
 * It may take as long as the work that runs: evwork_pool_close_by() sets bounds.
 * -EINVAL: pool is NULL, mode is none, or fn is given without loop.
 * -EALREADY: closed before with this or a stronger mode (S-SHUT-4).
 * -ESHUTDOWN: loop is closing.
 */
int evwork_pool_close(struct evwork_pool *pool, enum evwork_close_mode mode,
	struct evwork_loop *loop, evwork_pool_closed_fn fn, void *arg);

#define EVWORK_GRACE_MS_DEFAULT 1000

/* All but mode and loop may be left 0. */
struct evwork_close_options {
	enum evwork_close_mode mode;
	/* After so long what is left is cancelled, as if the pool were closed again with
	 * EVWORK_CANCEL_ALL. 0: never. */
	int64_t deadline_ms;
	/* How long running work may then take to return, counted from when all was
	 * cancelled, be it by the deadline, by this call or by a later one. 0 is 1000;
	 * EVWORK_NEVER waits for ever. */
	int64_t grace_ms;
	/* Where fn is called, and whose clock counts. */
	struct evwork_loop *loop;
	/* May be NULL. */
	evwork_pool_closed_fn fn;
	void *arg;
};

/*
 * evwork_pool_close_by [any] is evwork_pool_close with one deadline for the whole
 * (S-SHUT-6). If jobs still run when the grace time is over, fn(pool, -ETIMEDOUT, arg)
 * is called although the pool is not closed: evwork_pool_running() tells which. It is
 * the only call of fn. Threads are neither killed nor left to themselves: the pool
 * goes on closing, evwork_pool_free() is -EBUSY until they have returned and their
 * outcomes were delivered, and evwork_pool_close_wait() waits for just that.
 *
 * Neither time is ever early. Both hold while loop closes, which waits for fn. If the
 * pool was closed before, options->mode is all that counts. options are copied.
 * -EINVAL: pool, options or its loop is NULL, mode is none, or a time is negative.
 * -EALREADY, -ESHUTDOWN: as for evwork_pool_close.
 */
int evwork_pool_close_by(struct evwork_pool *pool, const struct evwork_close_options *options);

/*
 * evwork_pool_close_wait [wait] closes (if nobody did, or not as strongly) and
 * waits until the last done was delivered and all workers have ended; the loops
 * served must run meanwhile. Any number of threads may wait.
 * -EINVAL: pool is NULL or mode is none. -EDEADLK: on a loop's thread or on a worker
 * of this pool.
 */
int evwork_pool_close_wait(struct evwork_pool *pool, enum evwork_close_mode mode);

/*
 * evwork_pool_free [any] ends the workers and frees pool and lanes. NULL is
 * fine. It may be called on a pool that was never closed and has nothing to
 * do, and from the closed callback.
 * If stall_ms was set, and for no other pool or loop, it waits for a log hook that is
 * told of a stall just now, and so must not be called with a lock that the hook takes.
 * -EDEADLK: on a worker of this pool, or in the log hook with a report of a stall.
 * -EBUSY: jobs are queued, running or undelivered, or the closed callback is still to come.
 */
int evwork_pool_free(struct evwork_pool *pool);

/* evwork_pool_lane [any]: the default lane; the pool's own. NULL for NULL. */
struct evwork_lane *evwork_pool_lane(struct evwork_pool *pool);

/* A snapshot of the workers. */
struct evwork_pool_stats {
	int threads;         /* workers that exist */
	int busy;            /* of these, inside a job's work */
	uint64_t wakeups;    /* times a sleeping worker was woken */
	uint64_t steals;     /* times a worker took jobs that another had set aside */
	uint64_t stalls;     /* jobs whose work was reported for running longer than stall_ms */
	uint64_t stall_reports;  /* all these reports: one or more for each */
};

/* evwork_pool_stats [any]. -EINVAL: an argument is NULL. */
int evwork_pool_stats(struct evwork_pool *pool, struct evwork_pool_stats *ret_stats);

/* What is left of one lane, see evwork_lane_stats(). */
struct evwork_left {
	char lane[EVWORK_NAME_MAX];
	uint64_t queued, running;
	uint64_t undelivered;        /* ended, and their done has not returned */
};

/*
 * evwork_pool_left [any] tells what is left in the pool: of each lane with jobs that
 * are queued, running or undelivered. Returns the number of these lanes, and fills
 * ret_left for the first max of them (S-SHUT-6). A snapshot; ret_left may be NULL if
 * max is 0.
 * -EINVAL: pool is NULL, or ret_left is and max is not 0.
 */
int evwork_pool_left(struct evwork_pool *pool, struct evwork_left *ret_left, size_t max);

/* A worker that is inside a job's work. */
struct evwork_running {
	char lane[EVWORK_NAME_MAX];
	/* What the describe function of the lane said, or "". */
	char job[EVWORK_NAME_MAX];
	int worker;
	/* Since the worker took the job, perhaps with others that it has run before;
	 * by the system's clock. */
	int64_t since_ns;
};

/*
 * evwork_pool_running [any] tells which jobs run, those included that were abandoned.
 * Returns their number, and fills ret_running for the first max of them. A snapshot;
 * ret_running may be NULL if max is 0.
 * -EINVAL: pool is NULL, or ret_running is and max is not 0.
 */
int evwork_pool_running(struct evwork_pool *pool, struct evwork_running *ret_running, size_t max);

#ifdef __cplusplus
}
#endif

#endif
