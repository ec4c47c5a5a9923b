/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef RUN_POOL_H
#define RUN_POOL_H

#include "base/clock.h"
#include "base/fork.h"
#include "base/list.h"
#include "run/lane.h"
#include "run/mailbox.h"
#include "run/timer.h"
#include "evwork/pool.h"

/* The most jobs that a worker sets aside for itself at once. */
#define WORKER_BATCH 32

/* Work that takes this long is plenty: waking a sleeper takes less. */
#define POOL_PLENTY_NS INT64_C(150000)

/* The most submits that one turn of a loop collects, see stage.c. */
#define STAGE_MAX 128

struct evwork_defer;
struct stall_watch;

/*
 * A worker. Lock order: a tree's lock, a loop's, the pool's, a worker's or a clock's; that
 * of the watchdog, see stall.c, comes before the pool's and a clock's.
 *
 * Jobs set aside are still queued for everyone who asks, to be run by this worker
 * unless another takes them. `range` says which of `local` they are: the first in
 * its low half, the end in its high half. The owner takes the first by adding 1;
 * everyone else, under the pool's lock, takes some or all by compare-and-swap. Only
 * the owner fills local, under the pool's lock, when it is empty.
 */
struct worker {
	struct evwork_pool *pool;
	int index;
	sys_thread thread;
	struct sys_parker parker;
	atomic_uint promised;           /* tokens for the parker, given or on their way */

	struct evwork_job *local[WORKER_BATCH];
	atomic_uint range;

	/* The running job, if it can be abandoned. */
	sys_mutex mutex;                /* covers these */
	struct evwork_job *detachable;
	/* What the running job is called, if its lane describes its jobs. */
	char label[EVWORK_NAME_MAX];

	/* Covered by the pool's lock. */
	struct worker *idle_next;
	bool idle;                      /* in the idle list */
	bool searching;                 /* woken, and has not looked yet */
	struct evwork_lane *lane;       /* of the jobs it took */
	struct evwork_lane *holds;      /* capped lane whose running counts us */
	uint32_t last_seq;              /* of the last of them */
	bool noted;                     /* they are among the starts of their lane */
	bool busy;                      /* counted in the pool's busy */
	bool vacant;                    /* it has no thread, and needs one */

	/* Of a worker whose thread is not its first; see replace.c. */
	bool replaced;
	bool settled;                   /* what the thread that a job ended owed is done */
	sys_thread predecessor;         /* to be joined by the thread that took over */

	/* The worker's own. */
	struct evwork_job *current;     /* whose work runs */
	_Atomic uint64_t calls;         /* up by 1 when work begins and when it ends */
	struct evwork_defer *deferred;  /* what current has registered, the last first */
	char *text;                     /* for the next panic; NULL: there was no memory */
	bool panicked;                  /* current, with that text */
	bool over;                      /* it will take no more jobs */
	unsigned tokens;                /* got from the parker */
	struct mailbox *owed;           /* the loop it owes a wake-up */
	uint32_t owed_after;            /* jobs to finish before it must pay */
	uint32_t batch;                 /* jobs of the last take */
	int64_t taken_at;               /* when that was; written under the pool's lock */
	int64_t run_ns;                 /* a job's time, averaged over takes */
	sys_jump back;                  /* where a panic of current goes on */
	char pad[64];
};

/*
 * What a pool tells those who will have to submit more, and so keep one of its lanes. The
 * functions are called under the pool's lock, on any thread.
 */
struct pool_hook {
	/* The pool is closed, and drains: what has begun may be brought to its end. */
	void (*drains)(struct pool_hook *hook);
	/* The pool is closed and no longer drains: nothing will be accepted any more. */
	void (*cancelled)(struct pool_hook *hook);
	/* Once after pool_await_room: there may be room. Once after pool_await_queue: the queue
	 * is no longer than that, or nobody works on it any more. */
	void (*room)(struct pool_hook *hook);
	bool waits;
	const struct evwork_lane *lane;         /* of pool_await_queue, else NULL */
	size_t most;
	struct pool_hook *next, *prev;
};

struct evwork_pool {
	/* Fixed at creation. */
	int threads;
	int ageing;
	uint32_t started_size;          /* how many starts each lane remembers */
	int64_t spin_ns, hold_ns;
	size_t stack_size;
	char name[EVWORK_NAME_MAX];
	int (*on_start)(int worker, void *arg);
	void (*on_stop)(int worker, void *arg);
	void *hook_arg;
	struct evwork_clock *clock;
	struct evwork_lane *lane;       /* the default lane */
	struct worker *workers;

	/* Seldom written, under the lock, and read for each job: on the lines of what is
	 * fixed. */
	atomic_uint lane_count;
	atomic_uint vacant;             /* workers without a thread that need one */
	/* enum evwork_close_mode, 0 while open. Sequentially consistent where staging is
	 * looked at beside it, see stage.c. */
	atomic_int closing;
	/* This is the child of a fork and the pool the parent's: no lock of it or its
	 * workers and lanes may be taken. Such a pool also counts as closing. */
	bool inherited;
	struct fork_entry fork_entry;
	char pad_fixed[64];

	sys_mutex mutex;                /* covers all below up to the atomics */
	LIST_OF(struct evwork_lane) lanes;
	uint32_t seq;
	struct worker *idle;            /* a stack: the last to sleep wakes first */
	atomic_uint idle_count;         /* written under the lock */
	unsigned searching;
	int64_t run_ns;                 /* a job's time, as the last worker saw it */
	_Atomic(struct worker *) keeper;    /* sleeps with a limit, for a lane that is paced */
	int64_t keeper_until;
	unsigned busy;                  /* workers that have taken jobs */
	unsigned batches;               /* of these, with more than one */
	int alive;                      /* workers that have not ended */
	int started, start_error;       /* while the pool is made */
	bool stop;                      /* workers end when there is nothing to do, */
	uint64_t kept;                  /* and no lane is kept for a job to come */
	unsigned room_waiters;          /* in submit_wait */
	LIST_OF(struct pool_hook) hooks;
	unsigned hooks_waiting;         /* of these, for room */
	unsigned close_waiters;         /* in close_wait */
	sys_cond room;                  /* room in a queue, or no hope of it */
	sys_cond changed;               /* a worker started or ended; closed */
	bool closed;                    /* everything has ended */
	bool callback_due;              /* the closed callback is to come */
	atomic_bool callback_lost;      /* no, as its loop was freed by force */
	uint64_t wakeups, steals;
	struct evwork_loop *closed_loop;
	evwork_pool_closed_fn closed_fn;
	void *closed_arg;
	bool closed_own;
	bool closed_posted;             /* the callback is on its way, whatever it will say */
	struct letter closed_letter;
	/* The bounds of the close, see close.c. */
	int64_t cancel_at, grace_ns, give_up_at;
	unsigned alarm_setters;         /* calls that are about to set the alarm */
	struct evwork_timer alarm;      /* covered by the lock of closed_loop */
	struct clock_user clock_user;

	char pad_locked[64];
	/* Loops with staged jobs, see stage.c. */
	atomic_uint staging;
	/*
	 * What keeps the pool from being closed: jobs accepted whose done has not
	 * returned, and calls that are inside; POOL_ENDED is set when all workers of
	 * a closing pool have ended. Who makes it POOL_ENDED alone finishes the
	 * close; everyone else does not touch the pool after its decrement.
	 */
	_Atomic uint64_t pending;
	/* Jobs in the rings; a hint for who does not hold the lock. */
	_Atomic uint32_t queued;

	/* Of reports of stalls; NULL: nobody asked for any. The counters are covered by the
	 * lock. */
	struct stall_watch *stall;
	uint64_t stalls, stall_reports;
};

static inline unsigned range_of(unsigned first, unsigned end)
{
	return first | end << 16;
}

static inline unsigned range_first(unsigned range) { return range & 0xffff; }

/* The owner may have added to an empty range. */
static inline unsigned range_count(unsigned range)
{
	unsigned first = range & 0xffff, end = range >> 16;

	return first < end ? end - first : 0;
}

/* How many jobs a worker has set aside. Relaxed: under the pool's lock it can only
 * become less, and without it is a hint. */
static inline unsigned worker_set_aside(const struct worker *worker)
{
	return range_count(atomic_load_explicit(&worker->range, memory_order_relaxed));
}

/* Under the pool's lock: takes the first `most` of what a worker has set aside, in
 * order; returns how many. */
unsigned worker_withdraw_locked(struct worker *worker, unsigned most,
	struct evwork_job *ret_jobs[WORKER_BATCH]);

/* Odd while work runs. Acquire: pairs with the release of worker_begin_work, see
 * stall_pool.c. */
static inline uint64_t worker_calls(const struct worker *worker)
{
	return atomic_load_explicit(&worker->calls, memory_order_acquire);
}

/* [worker] Counted whether or not anyone looks: that is as cheap as asking. */
static inline void worker_begin_work(struct worker *worker, struct evwork_job *job)
{
	worker->current = job;
	atomic_store_explicit(&worker->calls,
		atomic_load_explicit(&worker->calls, memory_order_relaxed) + 1,
		memory_order_release);
}

static inline void worker_end_work(struct worker *worker)
{
	worker->current = NULL;
	/* Relaxed: what the worker does next makes it known, see stall_pool.c. */
	atomic_store_explicit(&worker->calls,
		atomic_load_explicit(&worker->calls, memory_order_relaxed) + 1,
		memory_order_relaxed);
}

/* The worker that the calling thread is, or NULL. */
struct worker *worker_here(void);
/* In the child of a fork: the calling thread is no worker of the pool any more. */
void worker_forget_here(const struct evwork_pool *pool);

/* Under the pool's lock. */

/* Jobs of the lane that wait, and of those set aside such as were taken with others, at least
 * `batch` at once: 1 counts all, and 2 not those that their worker is about to start. */
size_t pool_lane_waiting_locked(const struct evwork_lane *lane, unsigned batch);
bool pool_has_room_locked(struct evwork_lane *lane);
/* The job is queued from now on. Returns a worker to be woken with pool_wake once the
 * lock is left, or NULL. */
struct worker *pool_push_locked(struct evwork_lane *lane, struct evwork_job *job);
/* The part of that which is done once for many: so many jobs were accepted, and so
 * many of them put into the ring. */
struct worker *pool_pushed_locked(struct evwork_lane *lane, unsigned accepted, unsigned queued);
/* Takes a queued job out, wherever it waits, and marks it ended; false if it is
 * not queued any more. */
bool pool_withdraw_locked(struct evwork_lane *lane, struct evwork_job *job, uint32_t flags);

/* Picks the next jobs for a worker: sets *ret_lane and returns their number, 0 if
 * there is nothing to run now. See sched.c. */
unsigned sched_take_locked(struct worker *worker, int64_t now);  /* now: the pool's clock */
/* Takes what another worker has set aside since before that time. */
unsigned sched_steal_locked(struct worker *thief, int64_t taken_before);
/* Whether an idle worker would find a job to start. */
bool sched_ready_locked(struct evwork_pool *pool, int64_t now);
/* When the first job of a lane that is paced may start; EVWORK_NEVER: none is. */
int64_t sched_next_start_locked(struct evwork_pool *pool, int64_t now);
/* Work of a higher priority than what workers have set aside has come. */
void sched_recall_locked(struct evwork_pool *pool, const struct evwork_lane *lane);
/* Puts back all that workers have set aside of a lane. */
void sched_put_back_locked(struct evwork_lane *lane);
static inline bool sched_single_lane(const struct evwork_pool *pool)
{
	return atomic_load_explicit(&pool->lane_count, memory_order_relaxed) == 1;
}

/* The first job of the lane is another one, or the first again. */
void sched_first_changed_locked(struct evwork_lane *lane);
/* Makes room in the lane's ring for one more, whatever is put back. Bounded lanes have
 * it from the start. */
static inline int sched_reserve_locked(struct evwork_lane *lane)
{
	uint32_t outside = lane->queue_limit == EVWORK_UNBOUNDED ?
		lane->pool->batches * WORKER_BATCH : 0;

	return ring_reserve(&lane->ring, outside);
}

/* Queues a job; sched_reserve_locked has made room for it. */
static inline void sched_queue_locked(struct evwork_lane *lane, struct evwork_job *job)
{
	job->_late._seq = lane->pool->seq++;
	ring_push(&lane->ring, job);
	/* The latest of all has not been passed by anyone. */
	if (lane->ring.count == 1)
		lane->passed = 0;
}
void sched_link_locked(struct evwork_lane *lane);
void sched_unlink_locked(struct evwork_lane *lane);

static inline void pool_count_idle_locked(struct evwork_pool *pool, int by)
{
	/* Relaxed: a hint for who does not hold the lock. */
	atomic_store_explicit(&pool->idle_count,
		atomic_load_explicit(&pool->idle_count, memory_order_relaxed) + (unsigned)by,
		memory_order_relaxed);
}

/*
 * A sleeper to be woken, if there is one and none is looking for work already. Waking
 * it under the lock would make it run into that lock, so the caller leaves the lock
 * first. What keeps the worker until then is the promise of a token: it does not
 * end before it has got all that it was promised.
 */
struct worker *pool_claim_idle_locked(struct evwork_pool *pool);

static inline void worker_promise(struct worker *worker)
{
	/* Relaxed: the lock, or for the manual clock its own, orders it before the
	 * worker's last look. */
	atomic_fetch_add_explicit(&worker->promised, 1, memory_order_relaxed);
}

static inline void pool_wake(struct worker *worker)
{
	if (worker)
		sys_unpark(&worker->parker);
}

/* Room may have come. */
void pool_tell_room_locked(struct evwork_pool *pool);
static inline void pool_room_locked(struct evwork_pool *pool)
{
	if (pool->room_waiters)
		sys_cond_broadcast(&pool->room);
	if (pool->hooks_waiting)
		pool_tell_room_locked(pool);
}

#define POOL_ENDED (UINT64_C(1) << 63)

static inline void pool_enter(struct evwork_pool *pool, uint64_t n)
{
	/* Relaxed: the lock that the caller holds keeps the pool. */
	atomic_fetch_add_explicit(&pool->pending, n, memory_order_relaxed);
}
void pool_leave(struct evwork_pool *pool, uint64_t n);
/* Whether so many have entered and not left; no more than that may leave. */
static inline bool pool_counts(const struct evwork_pool *pool, uint64_t n)
{
	/* Relaxed: what is to leave has entered in the past of this thread. */
	return (atomic_load_explicit(&pool->pending, memory_order_relaxed) & ~POOL_ENDED) >= n;
}
void pool_end_staging_locked(struct evwork_pool *pool);

/* [any] Whether the pool takes no job from this thread. */
bool pool_refuses(const struct evwork_pool *pool);
/*
 * [any] Keeps a lane and its pool for a job that will be submitted later, with
 * submit_kept, and then also while the pool drains; -ESHUTDOWN if the pool takes none.
 * lane_unkeep gives up the lane, and pool_leave(pool, 1), after it, the pool.
 */
int lane_keep(struct evwork_lane *lane);
void lane_unkeep(struct evwork_lane *lane);
int submit_kept(struct evwork_loop *loop, struct evwork_job *job);

/* [any] For who has kept a lane of the pool. Adding a hook to a pool that was closed
 * tells it so at once. Once it is removed it is not called any more; true if it has waited
 * until now. */
void pool_add_hook(struct evwork_pool *pool, struct pool_hook *hook);
bool pool_remove_hook(struct evwork_pool *pool, struct pool_hook *hook);
/* [any] Has the hook told of room in the lane: 1. 0: there is room now. -EAGAIN: the pool
 * has no worker, and so no use for it. */
int pool_await_room(struct evwork_lane *lane, struct pool_hook *hook);

/* What waits in a lane. */
struct lane_look {
	/* Jobs; not counting those that a worker has taken alone, and so is about to start. */
	size_t waiting;
	bool any;                       /* in the queue itself; if so, */
	uint32_t first;                 /* the number of the oldest, */
	uint32_t next;                  /* and that of the next job of the pool to be queued */
};

/* [any] Looks; false if the pool is closing or has no worker, so that nothing can be waited
 * for there. */
bool pool_look(const struct evwork_lane *lane, struct lane_look *ret_look);
/* [any] Adds the hook, of which only room is called, and has it told when no more than so
 * many jobs wait. False: that is so now, and it was not added. */
bool pool_await_queue(struct evwork_lane *lane, size_t most, struct pool_hook *hook);

/* [any] Of the mode in which the pool is closed now. */
void pool_tell_closing_locked(struct evwork_pool *pool);

/* [worker] This worker touches the pool no more. */
void pool_worker_ended(struct evwork_pool *pool);
/* In two steps: true if this was the last one of a closing pool; then the second,
 * without the lock. */
bool pool_count_out_locked(struct evwork_pool *pool);
void pool_all_ended(struct evwork_pool *pool);
/* Makes all workers end once nothing is left to do. */
void pool_stop_locked(struct evwork_pool *pool);

/* Whether everything is over: told to stop, and nothing is left that any worker could
 * still bring up. */
static inline bool pool_over_locked(const struct evwork_pool *pool)
{
	return pool->stop && pool->busy == 0 && pool->kept == 0 &&
	       atomic_load(&pool->staging) == 0 &&
	       atomic_load_explicit(&pool->queued, memory_order_relaxed) == 0;
}

struct job_chain;
/* Takes all queued jobs out, and marks them ended. */
void pool_withdraw_all_locked(struct evwork_pool *pool, struct job_chain *ret_jobs);
/* Ends these jobs. */
void pool_end_all(const struct job_chain *jobs, int status);

void *worker_main(void *arg);

/* [worker] Counts it out of what it took before. */
void worker_return_locked(struct worker *worker, int64_t now);
/* [worker] Wakes the loop that it owes this. */
void worker_pay(struct worker *worker);
/* [worker] No job comes any more: calls the hook. */
void worker_stop_hook(struct worker *worker);
/* [worker] Waits until whoever has promised a token is through with the worker. */
void worker_collect_tokens(struct worker *worker);

#endif
