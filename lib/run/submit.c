/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Admission. One order of checks for every job (S-LANE-2): the context, lane and
 * pool open, the guards, room. What was taken is given back on the first
 * refusal, so a refused job leaves only a counter behind.
 *
 * A plain job (no guards, no context) is checked and queued under one hold of the
 * pool's lock. Guards are the user's and are asked without it; `entering` keeps
 * the lane meanwhile. With a context the tree's lock is held around the pool's: so
 * the context is either dead before the job is queued, or finds it in its list.
 */

#include <string.h>

#include "run/ctx.h"
#include "run/job.h"
#include "run/loop.h"
#include "run/replace.h"
#include "run/stage_fast.h"

struct admission {
	struct evwork_loop *loop;
	struct evwork_lane *lane;
	struct evwork_job *job;
	struct evwork_ctx *ctx;           /* NULL for the background */
	struct evwork_ledger *ledger;
	struct worker *wake;
	bool by_guard;                    /* the refusal is a guard's */
	bool kept;                        /* for this job the lane was kept */
	bool full;                        /* -EAGAIN is for want of room */
	bool waits;                       /* … which is waited for, not refused */
};

static void count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* Whether the pool takes no job here: while it drains, only its own workers may
 * submit, and not in their stop hook, when they may be the last. */
bool pool_refuses(const struct evwork_pool *pool)
{
	const struct worker *here = worker_here();
	/* Acquire: nothing hangs on it but the answer. */
	int closing = atomic_load_explicit(&pool->closing, memory_order_acquire);

	if (here && here->pool == pool)
		return here->over || closing > EVWORK_DRAIN;
	return closing != 0;
}

/* What was accepted before may still come while the pool drains (S-SHUT-2). */
static bool refused(const struct admission *admission)
{
	const struct evwork_pool *pool = admission->lane->pool;

	if (admission->kept)
		return atomic_load_explicit(&pool->closing, memory_order_acquire) > EVWORK_DRAIN;
	return pool_refuses(pool);
}

static int take_ledger(struct admission *admission)
{
	struct evwork_lane *lane = admission->lane;
	struct evwork_ledger *ledger = ledger_take(lane);
	int rc;

	if (!ledger) {
		admission->full = lane->queue_limit != EVWORK_UNBOUNDED;
		return admission->full ? -EAGAIN : -ENOMEM;
	}
	if (lane->timeout_ns)
		ledger->deadline_ns = sys_time_add(clock_now(lane->pool->clock),
			lane->timeout_ns);
	/* Guards of this library look at it. */
	__atomic_store_n(&admission->job->_lane, lane, __ATOMIC_RELAXED);
	rc = ledger_acquire(ledger, admission->job);
	if (rc) {
		ledger_end(ledger, rc, false);
		admission->by_guard = true;
		return rc;
	}
	admission->ledger = ledger;
	return 0;
}

/* Under the pool's lock: the last check, and the job is queued. */
static int enqueue_locked(struct admission *admission, bool own)
{
	struct evwork_lane *lane = admission->lane;
	struct evwork_job *job = admission->job;
	uint32_t state = JOB_QUEUED | (job_state(job) & JOB_DETACH);

	if (refused(admission))
		return -ESHUTDOWN;
	if (lane->pool->alive == 0)
		return -EAGAIN;         /* no worker is left to run it */
	if (!pool_has_room_locked(lane)) {
		admission->full = true;
		return -EAGAIN;
	}
	if (sched_reserve_locked(lane) != 0)
		return -ENOMEM;
	job->_mail._kind = MAIL_JOB;
	job->_loop = admission->loop;
	__atomic_store_n(&job->_lane, lane, __ATOMIC_RELAXED);
	if (own)
		state |= JOB_OWN;
	if (job->drop)
		state |= JOB_DROP;
	if (lane->describe)
		state |= JOB_DESCRIBED;
	if (admission->ctx)
		state |= JOB_CTX;
	if (admission->ledger) {
		state |= JOB_LEDGER;
		job->_ledger = admission->ledger;
	}
	job_set_state(job, state);
	admission->wake = pool_push_locked(lane, job);
	return 0;
}

static int enqueue(struct admission *admission, bool own)
{
	struct evwork_pool *pool = admission->lane->pool;
	struct evwork_ctx *ctx = admission->ctx;
	int rc = 0;

	if (ctx) {
		ctx_lock(ctx);
		rc = ctx_err_locked(ctx);
	}
	if (rc == 0) {
		sys_lock(&pool->mutex);
		rc = enqueue_locked(admission, own);
		sys_unlock(&pool->mutex);
	}
	if (ctx) {
		if (rc == 0) {
			evwork_ctx_ref(ctx);
			ctx_add_job_locked(ctx, admission->job);
		}
		ctx_unlock(ctx);
	}
	return rc;
}

static void count_refusal(const struct admission *admission, int rc)
{
	struct evwork_lane *lane = admission->lane;

	if (admission->full && admission->waits)
		return;
	if (admission->by_guard)
		count(&lane->refused_guard);
	else if (rc == -EAGAIN)
		count(&lane->refused_full);
	else if (rc == -ESHUTDOWN)
		count(&lane->refused_closed);
	else if (rc == -ENOMEM)
		count(&lane->refused_memory);
	else
		count(&lane->refused_ctx);
}

static void begin_entering(struct evwork_lane *lane)
{
	sys_lock(&lane->pool->mutex);
	lane->entering++;
	pool_enter(lane->pool, 1);
	sys_unlock(&lane->pool->mutex);
}

static void end_entering(struct evwork_lane *lane)
{
	struct evwork_pool *pool = lane->pool;

	sys_lock(&pool->mutex);
	lane->entering--;
	sys_unlock(&pool->mutex);
	pool_leave(pool, 1);
}

int lane_keep(struct evwork_lane *lane)
{
	struct evwork_pool *pool = lane->pool;
	bool refused;

	sys_lock(&pool->mutex);
	refused = pool_refuses(pool);
	if (!refused) {
		lane->entering++;
		pool->kept++;
		pool_enter(pool, 1);
	}
	sys_unlock(&pool->mutex);
	return refused ? -ESHUTDOWN : 0;
}

void lane_unkeep(struct evwork_lane *lane)
{
	struct evwork_pool *pool = lane->pool;

	sys_lock(&pool->mutex);
	lane->entering--;
	pool->kept--;
	/* Workers of a closing pool may have waited for just this. */
	if (pool->stop)
		pool_stop_locked(pool);
	sys_unlock(&pool->mutex);
}

static int enter_queue(struct admission *admission, bool own)
{
	int rc;

	if (!admission->lane->has_ledgers)
		return enqueue(admission, own);
	rc = take_ledger(admission);
	if (rc)
		return rc;
	rc = enqueue(admission, own);
	if (rc)
		ledger_end(admission->ledger, rc, false);
	return rc;
}

static bool is_full(struct admission *admission)
{
	struct evwork_pool *pool = admission->lane->pool;

	sys_lock(&pool->mutex);
	admission->full = !pool_has_room_locked(admission->lane);
	sys_unlock(&pool->mutex);
	return admission->full;
}

static int admit(struct admission *admission)
{
	struct evwork_lane *lane = admission->lane;
	bool guarded = lane->has_ledgers;
	bool own;
	int rc = evwork_ctx_err(admission->ctx);

	if (rc == 0 && refused(admission))
		rc = -ESHUTDOWN;
	if (rc == 0 && pool_has_vacant(lane->pool))
		pool_fill_vacant(lane->pool);
	if (rc == 0)
		rc = loop_enter(admission->loop, &own);
	if (rc == -ENOMEM && is_full(admission))
		rc = -EAGAIN;           /* comes first (S-GEN-4) */
	if (rc) {
		count_refusal(admission, rc);
		return rc;
	}
	if (guarded)
		begin_entering(lane);
	rc = enter_queue(admission, own);
	/* An accepted job may have been delivered by now: then only what begin_entering
	 * keeps is still there for sure. */
	if (rc) {
		count_refusal(admission, rc);
		loop_leave(admission->loop, own);
	}
	pool_wake(admission->wake);
	if (guarded)
		end_entering(lane);
	return rc;
}

static int prepare(struct admission *admission, struct evwork_loop *loop, struct evwork_job *job)
{
	memset(admission, 0, sizeof(*admission));
	if (!loop || !job || !job->run)
		return -EINVAL;
	admission->lane = job->lane ? job->lane : loop->lane;
	if (!admission->lane)
		return -EINVAL;
	admission->loop = loop;
	admission->job = job;
	admission->ctx = ctx_is_background(job->ctx) ? NULL : job->ctx;
	if (admission->ctx && ctx_is_inherited(admission->ctx))
		return -ESHUTDOWN;
	return 0;
}

int evwork_submit(struct evwork_loop *loop, struct evwork_job *job)
{
	struct admission admission;
	int rc;

	if (!loop || !job || !job->run)
		return -EINVAL;
	if (job_phase_of(job_state(job)) == JOB_IDLE && stage_submit(loop, job))
		return 0;
	rc = prepare(&admission, loop, job);
	if (rc)
		return rc;
	if (job_phase_of(job_state(job)) != JOB_IDLE)
		return admission.lane->pool->inherited ? -ESHUTDOWN : -EBUSY;
	/* First what was submitted before. */
	stage_flush_here();
	return admit(&admission);
}

int submit_kept(struct evwork_loop *loop, struct evwork_job *job)
{
	struct admission admission;
	int rc = prepare(&admission, loop, job);

	if (rc)
		return rc;
	stage_flush_here();
	admission.kept = true;
	return admit(&admission);
}

/* Waiting for room. */

struct room_wait {
	struct ctx_hook ctx_hook;
	struct loop_hook loop_hook;
	struct evwork_pool *pool;
};

static void look_again(struct room_wait *wait)
{
	/* Under the lock, or the waiter could be between its look and its sleep. */
	sys_lock(&wait->pool->mutex);
	sys_cond_broadcast(&wait->pool->room);
	sys_unlock(&wait->pool->mutex);
}

static void room_ctx_died(struct ctx_hook *hook, int err)
{
	(void)err;
	look_again(EVWORK_CONTAINER(hook, struct room_wait, ctx_hook));
}

static void room_loop_closing(struct loop_hook *hook)
{
	look_again(EVWORK_CONTAINER(hook, struct room_wait, loop_hook));
}

/* Sleeps until there may be room, or the wait is over for another reason. */
static void await_room(const struct admission *admission)
{
	struct evwork_pool *pool = admission->lane->pool;
	int64_t until = ctx_wait_limit(admission->ctx);

	sys_lock(&pool->mutex);
	pool->room_waiters++;
	while (!pool_refuses(pool) && !pool_has_room_locked(admission->lane) &&
	       !atomic_load_explicit(&admission->loop->closing, memory_order_acquire) &&
	       !ctx_wait_is_over(admission->ctx, until))
		sys_cond_wait(&pool->room, &pool->mutex, until);
	pool->room_waiters--;
	sys_unlock(&pool->mutex);
}

/* Guards are asked only once there is room, or each look would cost permits. */
static int admit_with_room(struct admission *admission)
{
	if (is_full(admission) && !pool_refuses(admission->lane->pool) &&
	    !atomic_load_explicit(&admission->loop->closing, memory_order_acquire) &&
	    !evwork_ctx_err(admission->ctx))
		return -EAGAIN;
	admission->full = false;
	return admit(admission);
}

/* The loop takes nothing: but the context is asked first. */
static int refuse_wait(struct admission *admission, int rc)
{
	int err = evwork_ctx_err(admission->ctx);

	rc = err ? err : rc;
	count_refusal(admission, rc);
	return rc;
}

int evwork_submit_wait(struct evwork_loop *loop, struct evwork_job *job)
{
	struct admission admission;
	struct room_wait wait = { .ctx_hook = { .died = room_ctx_died },
		.loop_hook = { .closing = room_loop_closing } };
	bool own;
	int rc = prepare(&admission, loop, job);

	if (rc)
		return rc;
	if (admission.lane->pool->inherited)
		return -ESHUTDOWN;
	if (loop_any_here() || (worker_here() && worker_here()->pool == admission.lane->pool))
		return -EDEADLK;
	if (job_phase_of(job_state(job)) != JOB_IDLE)
		return -EBUSY;
	wait.pool = admission.lane->pool;
	rc = loop_add_hook(loop, &wait.loop_hook, &own);
	if (rc)
		return refuse_wait(&admission, rc);
	/* Lane and pool stay until this has left them, closed or not. */
	begin_entering(admission.lane);
	ctx_add_hook(admission.ctx, &wait.ctx_hook);
	admission.waits = true;
	do {
		admission.full = admission.by_guard = false;
		if (rc == -EAGAIN)
			await_room(&admission);
		rc = admit_with_room(&admission);
	} while (rc == -EAGAIN && admission.full);
	ctx_remove_hook(admission.ctx, &wait.ctx_hook);
	loop_remove_hook(loop, &wait.loop_hook, own);
	end_entering(admission.lane);
	return rc;
}
