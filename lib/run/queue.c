/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Jobs on their way into the queues of a pool and, if they are withdrawn, out of
 * them again; and whom to wake for what has come. All of this is under the pool's
 * lock.
 */

#include "run/job.h"
#include "run/pool.h"

/* How many workers may be on their way to work at once: one, which wakes the next,
 * and another for each part of the work that takes longer than a wake-up. */
static unsigned searchers(const struct evwork_pool *pool)
{
	int64_t queued = atomic_load_explicit(&pool->queued, memory_order_relaxed);
	int64_t run_ns = pool->run_ns < POOL_PLENTY_NS ? pool->run_ns : POOL_PLENTY_NS;
	int64_t parts = queued * run_ns / POOL_PLENTY_NS;

	return 1 + (unsigned)(parts < pool->threads ? parts : pool->threads);
}

struct worker *pool_claim_idle_locked(struct evwork_pool *pool)
{
	struct worker *worker = pool->idle;

	/* One that looks already will find what has come, and wake the next. */
	if (!worker || pool->searching >= searchers(pool))
		return NULL;
	pool->idle = worker->idle_next;
	pool_count_idle_locked(pool, -1);
	worker->idle = false;
	worker->searching = true;
	pool->searching++;
	pool->wakeups++;
	worker_promise(worker);
	return worker;
}

size_t pool_lane_waiting_locked(const struct evwork_lane *lane, unsigned batch)
{
	const struct evwork_pool *pool = lane->pool;
	size_t waiting = lane->ring.count;
	int i;

	for (i = 0; pool->batches > 0 && i < pool->threads; i++) {
		const struct worker *worker = &pool->workers[i];

		if (worker->lane == lane && worker->batch >= batch)
			waiting += worker_set_aside(worker);
	}
	return waiting;
}

bool pool_has_room_locked(struct evwork_lane *lane)
{
	const struct evwork_pool *pool = lane->pool;
	/* What other loops may have staged counts as if it were queued. */
	size_t staged = lane == pool->lane ?
		(size_t)STAGE_MAX * atomic_load_explicit(&pool->staging, memory_order_relaxed) : 0;
	size_t most = staged + lane->ring.count + (size_t)pool->batches * WORKER_BATCH;

	/* What workers have set aside is counted only where it could matter. */
	return most < lane->queue_limit ||
	       staged + pool_lane_waiting_locked(lane, 1) < lane->queue_limit;
}

struct worker *pool_pushed_locked(struct evwork_lane *lane, unsigned accepted, unsigned queued)
{
	struct evwork_pool *pool = lane->pool;

	lane->accepted += accepted;
	if (lane->ring.count > lane->queue_peak)
		lane->queue_peak = lane->ring.count;
	pool_enter(pool, accepted);
	atomic_fetch_add_explicit(&pool->queued, queued, memory_order_relaxed);
	sched_recall_locked(pool, lane);
	if (!pool->idle || (lane->capped && lane->running >= lane->max_running))
		return NULL;
	return pool_claim_idle_locked(pool);
}

struct worker *pool_push_locked(struct evwork_lane *lane, struct evwork_job *job)
{
	sched_queue_locked(lane, job);
	return pool_pushed_locked(lane, 1, 1);
}

unsigned worker_withdraw_locked(struct worker *worker, unsigned most,
	struct evwork_job *ret_jobs[WORKER_BATCH])
{
	unsigned range = atomic_load_explicit(&worker->range, memory_order_acquire);
	unsigned first, count, i;

	do {
		first = range_first(range);
		count = range_count(range);
		if (count == 0)
			return 0;
		if (count > most)
			count = most;
		for (i = 0; i < count; i++)
			ret_jobs[i] = worker->local[first + i];
		/* Acquire: pairs with the release of who set them aside, of which every
		 * taking is part. */
	} while (!atomic_compare_exchange_weak_explicit(&worker->range, &range, range + count,
			memory_order_acq_rel, memory_order_acquire));
	return count;
}

/* A job that waited is gone: that may be what others sleep for. */
static void withdrawn_locked(struct evwork_lane *lane)
{
	struct evwork_pool *pool = lane->pool;
	struct worker *keeper = atomic_load_explicit(&pool->keeper, memory_order_relaxed);

	pool_room_locked(pool);
	/* The lane may go on earlier than its keeper was told. */
	if (lane->has_ledgers && keeper) {
		worker_promise(keeper);
		sys_unpark(&keeper->parker);
	}
	if (pool->stop && atomic_load_explicit(&pool->queued, memory_order_relaxed) == 0)
		pool_stop_locked(pool);
}

bool pool_withdraw_locked(struct evwork_lane *lane, struct evwork_job *job, uint32_t flags)
{
	struct evwork_pool *pool = lane->pool;
	uint32_t state = job_state(job);

	if (job_phase_of(state) != JOB_QUEUED)
		return false;
	if (!ring_holds(&lane->ring, job))
		sched_put_back_locked(lane);
	if (!ring_withdraw(&lane->ring, job))
		return false;   /* its worker was quicker: it runs now */
	sched_first_changed_locked(lane);
	atomic_fetch_sub_explicit(&pool->queued, 1, memory_order_relaxed);
	job_set_state(job, (state & ~JOB_PHASE) | JOB_ENDED | flags);
	withdrawn_locked(lane);
	return true;
}
