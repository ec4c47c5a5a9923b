/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Staging. In a turn that delivers many jobs, done callbacks submit many. Taking
 * the pool's lock for each would make loop and workers fight for its cache line
 * and wake a worker that has run dry for one job at a time. So plain submits
 * of a turn are collected and handed over together: when the turn ends, when the
 * stage is full, when there are some for workers that are awake, or when the turn
 * has gone on for a while.
 *
 * A staged job is accepted and its state says queued, but it is in no queue.
 * Only the loop's thread knows where it is, and any call of that thread that could
 * tell the difference flushes first. Another thread that cancels it marks it under
 * the pool's lock, and the flush, which holds that lock too, delivers it.
 *
 * Only plain jobs are staged: no context, no guards, no detaching, and the one lane
 * of the loop's own pool, far from full.
 *
 * `staging` counts loops with staged jobs; workers of a closing pool do not end
 * while it is not 0. It goes up before `closing` is read here, and is read by the
 * workers after `closing` was written: one of the two sides sees the other.
 */

#include "run/stage_fast.h"

#include <errno.h>
#include <string.h>

#include "base/broken.h"
#include "run/job.h"
#include "run/loop.h"

SYS_THREAD_LOCAL struct evwork_loop *stage_turning;

struct evwork_loop *stage_begin_turn(struct evwork_loop *loop)
{
	struct evwork_loop *outer = stage_turning;

	/* A callback of the outer loop runs the base of this one. */
	stage_flush_here();
	stage_turning = loop;
	return outer;
}

void stage_end_turn(struct evwork_loop *loop, struct evwork_loop *outer)
{
	stage_flush_jobs(loop);
	stage_flush_counts(loop);
	stage_turning = outer;
}

/* Whether the queue is so far from full that what is set aside and staged need not be
 * counted. `more`: what is staged here, unless that is counted already. */
static bool far_from_full(const struct evwork_pool *pool, const struct evwork_lane *lane,
	size_t more)
{
	/* Acquire: pairs with the end of a staging, after which its jobs are queued. */
	size_t unseen = more + (size_t)pool->threads * WORKER_BATCH + (size_t)STAGE_MAX *
		atomic_load_explicit(&pool->staging, memory_order_acquire);

	return atomic_load_explicit(&pool->queued, memory_order_relaxed) + unseen <
	       lane->queue_limit;
}

bool stage_begin(struct evwork_lane *lane)
{
	struct evwork_pool *pool = lane->pool;

	if (!far_from_full(pool, lane, STAGE_MAX))
		return false;
	/* From here on others count this loop's stage as full, so one look more is
	 * enough for all that comes to it. */
	atomic_fetch_add(&pool->staging, 1);
	if (!atomic_load(&pool->closing) && far_from_full(pool, lane, 0))
		return true;
	sys_lock(&pool->mutex);
	pool_end_staging_locked(pool);
	sys_unlock(&pool->mutex);
	return false;
}

/* What becomes of staged jobs: 0, or with what they end. */
static int staged_status_locked(const struct evwork_pool *pool)
{
	if (atomic_load(&pool->closing) > EVWORK_DRAIN)
		return -ECANCELED;
	return pool->alive == 0 ? -EAGAIN : 0;
}

/* Queues one staged job, unless it was cancelled meanwhile or all are to end: then it
 * is linked to what is to be posted. */
static bool flush_one_locked(struct evwork_lane *lane, struct evwork_job *job, int status,
	struct job_chain *ended)
{
	uint32_t state = job_state(job);

	if (job_phase_of(state) == JOB_QUEUED && status == 0) {
		job_set_state(job, state & ~JOB_STAGED);
		sched_queue_locked(lane, job);
		return true;
	}
	job->_mail._status = job_phase_of(state) == JOB_QUEUED ? status : -ECANCELED;
	if (job_phase_of(state) == JOB_QUEUED)
		job_set_state(job, (state & ~JOB_PHASE) | JOB_ENDED);
	job_chain_add(ended, job);
	return false;
}

void stage_flush_jobs(struct evwork_loop *loop)
{
	struct stage *stage = &loop->stage;
	struct evwork_pool *pool;
	struct job_chain ended = { NULL, NULL };
	struct worker *wake;
	unsigned i, count = stage->count, queued = 0;
	int status;

	if (count == 0)
		return;
	/* Not the loop's pool, which may be gone. */
	pool = stage->jobs[0]->_lane->pool;
	stage->count = 0;
	if (pool_has_vacant(pool))
		pool_fill_vacant(pool);
	sys_lock(&pool->mutex);
	status = staged_status_locked(pool);
	for (i = 0; i < count; i++) {
		/* A bounded ring never has to grow, see ring.c; an unbounded lane is not
		 * plain. */
		sched_reserve_locked(pool->lane);
		queued += flush_one_locked(pool->lane, stage->jobs[i], status, &ended);
	}
	wake = pool_pushed_locked(pool->lane, count, queued);
	pool_end_staging_locked(pool);
	sys_unlock(&pool->mutex);
	pool_wake(wake);
	job_post_all(&ended);
}

void stage_flush_counts(struct evwork_loop *loop)
{
	struct stage *stage = &loop->stage;
	struct evwork_lane *lane = stage->lane;
	struct evwork_pool *pool;
	uint64_t delivered = stage->delivered, left = delivered;
	int i;

	if (delivered == 0)
		return;
	pool = lane->pool;
	stage->lane = NULL;
	stage->delivered = 0;
	if (!base_holds(pool_counts(pool, delivered),
	    "a pool has delivered more jobs than it has accepted")) {
		memset(stage->outcomes, 0, sizeof(stage->outcomes));
		return;
	}
	for (i = 0; i < OUTCOMES; i++) {
		uint64_t count = stage->outcomes[i];

		/* Release: pairs with the acquire of lane_delivered. With the last of
		 * these another thread may free the lane. */
		stage->outcomes[i] = 0;
		if (count)
			atomic_fetch_add_explicit(&lane->outcomes[i], count, memory_order_release);
		left -= count;
		if (left == 0)
			break;
	}
	pool_leave(pool, delivered);
}

void stage_forget(struct evwork_loop *loop)
{
	loop->stage.count = 0;
	loop->stage.delivered = 0;
	loop->stage.lane = NULL;
	loop->stage.delivering = NULL;
	if (stage_turning == loop)
		stage_turning = NULL;
}

struct evwork_lane *stage_delivering(void)
{
	return stage_turning ? stage_turning->stage.delivering : NULL;
}

void stage_flush_here(void)
{
	if (stage_turning) {
		stage_flush_jobs(stage_turning);
		stage_flush_counts(stage_turning);
	}
}
