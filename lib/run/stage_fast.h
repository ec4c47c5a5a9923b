/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef RUN_STAGE_FAST_H
#define RUN_STAGE_FAST_H

/*
 * The parts of stage.c that each job goes through, for the two files that call them.
 */

#include <errno.h>

#include "run/job.h"
#include "run/loop.h"
#include "run/replace.h"

/* Enough for workers that are awake to take without coming back at once. */
#define STAGE_ENOUGH 32

/* The loop whose turn this thread is in. */
extern SYS_THREAD_LOCAL struct evwork_loop *stage_turning;

/* The first job comes to the stage; false if the pool is closing, or the lane not far
 * from full. */
bool stage_begin(struct evwork_lane *lane);

/* [loop] Whether the job may be, and then is, staged. */
static inline bool stage_submit(struct evwork_loop *loop, struct evwork_job *job)
{
	struct evwork_lane *lane = loop->lane;
	struct stage *stage = &loop->stage;
	struct evwork_pool *pool;

	/* The loop's own pool may be gone, which is no matter to jobs that name a lane
	 * of another. */
	if (stage_turning != loop || !lane || job->ctx || job->drop ||
	    (job->lane && job->lane != lane))
		return false;
	pool = lane->pool;
	/* Acquire: who was told of the close is refused. */
	if (atomic_load_explicit(&pool->closing, memory_order_acquire) || !lane->plain ||
	    !sched_single_lane(pool) || pool_has_vacant(pool))
		return false;
	/* The rest of what loop_enter does is for the long way. */
	if (!loop->keeper_on || atomic_load_explicit(&loop->closing, memory_order_acquire))
		return false;
	if (stage->count == 0 && !stage_begin(lane))
		return false;
	count_up(&loop->own, 1);
	job->_mail._kind = MAIL_JOB;
	job->_loop = loop;
	__atomic_store_n(&job->_lane, lane, __ATOMIC_RELAXED);
	job_set_state(job, JOB_QUEUED | JOB_OWN | JOB_STAGED);
	stage->jobs[stage->count++] = job;
	if (stage->count == STAGE_MAX || (stage->count >= STAGE_ENOUGH &&
	    !atomic_load_explicit(&pool->idle_count, memory_order_relaxed)))
		stage_flush_jobs(loop);
	return true;
}

static inline enum outcome stage_outcome(int status)
{
	switch (status) {
	case 0:
		return OUTCOME_OK;
	case -ECANCELED:
		return OUTCOME_CANCELLED;
	case -ETIMEDOUT:
		return OUTCOME_EXPIRED;
	case -EOWNERDEAD:
		return OUTCOME_CRASHED;
	default:
		return OUTCOME_FAILED;
	}
}

/* [loop] Counts the delivery of a job whose done has returned; frees its lane if that
 * was freed in it. */
static inline void stage_delivered(struct evwork_loop *loop, struct evwork_lane *lane, int status)
{
	struct stage *stage = &loop->stage;
	struct evwork_pool *pool;

	/* done forked and this is the child: the lane may be gone. */
	if (!stage->delivering)
		return;
	pool = lane->pool;
	stage->delivering = NULL;
	if (lane->dead) {
		lane_destroy(lane);
		pool_leave(pool, 1);
		return;
	}
	if (stage->lane != lane) {
		stage_flush_counts(loop);
		stage->lane = lane;
	}
	stage->outcomes[stage_outcome(status)]++;
	stage->delivered++;
}

#endif
