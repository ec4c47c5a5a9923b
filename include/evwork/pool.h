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
	/* Run on each worker when it starts (0, or a negated code that fails
	 * evwork_pool_new with it) and before it ends. May be NULL. on_stop runs for
	 * every worker whose on_start returned 0. */
	int (*on_start)(int worker, void *arg);
	void (*on_stop)(int worker, void *arg);
	void *hook_arg;
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
 * -EAGAIN: a thread could not be made; nothing is left behind (S-POOL-7).
 * The code of a failing on_start. -ENOMEM.
 */
int evwork_pool_new(const struct evwork_pool_options *options, struct evwork_pool **ret_pool);

enum evwork_close_mode {
	EVWORK_DRAIN = 1,       /* what is queued still runs */
	EVWORK_CANCEL_QUEUED,   /* what is queued ends: -ECANCELED, not run */
	EVWORK_CANCEL_ALL       /* and running jobs are cancelled, see evwork_cancel() */
};

typedef void (*evwork_pool_closed_fn)(struct evwork_pool *pool, int status, void *arg);

/*
 * evwork_pool_close [any], from work and callbacks too: takes no new work from
 * now on (-ESHUTDOWN), ends what there is as mode says, and then calls
 * fn(pool, 0, arg) on the thread of loop, after the last done on every loop
 * served and after all workers have ended (S-SHUT-5). In EVWORK_DRAIN the
 * pool's own workers may still submit (S-SHUT-2). Closing again with a stronger
 * mode escalates; only the first call's fn is used. fn and loop may both be NULL.
 * -EINVAL: pool is NULL, mode is none, or fn is given without loop.
 * -EALREADY: closed before with this or a stronger mode (S-SHUT-4).
 * -ESHUTDOWN: loop is closing.
 */
int evwork_pool_close(struct evwork_pool *pool, enum evwork_close_mode mode,
	struct evwork_loop *loop, evwork_pool_closed_fn fn, void *arg);

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
 * -EDEADLK: on a worker of this pool. -EBUSY: jobs are queued, running or
 * undelivered, or the closed callback is still to come.
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
};

/* evwork_pool_stats [any]. -EINVAL: an argument is NULL. */
int evwork_pool_stats(struct evwork_pool *pool, struct evwork_pool_stats *ret_stats);

#ifdef __cplusplus
}
#endif

#endif
