/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * When work ends its thread. What the thread owed to others is settled in a clean-up
 * handler, on its own stack: the deferred functions, the job, the stop hook, what it
 * had set aside. Then another thread takes over the worker: the struct, its index, its
 * place in the pool. The first thing that one does is to wait until the old thread is
 * gone, so nothing of a worker is ever used by two threads, and none is left unjoined.
 *
 * A new thread is made under the pool's lock: so who stops the pool finds each worker
 * either with the thread that is to be joined, or without any need for another.
 */

#include "run/replace.h"

#include <errno.h>

#include "base/log.h"
#include "run/crash.h"
#include "run/job.h"
#include "run/loop.h"

/* What is left to be done once the lock is left. */
struct leaving {
	struct job_chain stranded;      /* no worker is left to run these */
	struct worker *wake;
	bool ended;                     /* the worker has no thread any more, */
	bool vacant;                    /* although it is needed, */
	bool last;                      /* or was the last of a closing pool */
	int left;                       /* how many workers there are then */
};

/* Whether there is, or may yet be, anything to do for a worker. When a pool is stopped
 * only jobs bring up more: without any that is pending it may be about to be freed. */
static bool needed_locked(const struct evwork_pool *pool)
{
	return !pool->stop || (!pool_over_locked(pool) &&
		(atomic_load_explicit(&pool->pending, memory_order_acquire) & ~POOL_ENDED));
}

static int give_thread_locked(struct worker *worker)
{
	sys_thread before = worker->thread;
	int rc;

	worker->predecessor = before;
	worker->replaced = true;
	rc = sys_thread_create(&worker->thread, worker->pool->stack_size, worker_main, worker);
	if (rc)
		worker->thread = before;        /* yet to be joined */
	return rc;
}

/* The worker has no thread from now on. Without any other, nobody is left to run what
 * is queued. */
static void vacate_locked(struct worker *worker, struct leaving *leaving)
{
	struct evwork_pool *pool = worker->pool;

	leaving->ended = true;
	leaving->last = pool_count_out_locked(pool);
	leaving->left = pool->alive;
	if (!leaving->vacant)
		return;
	worker->vacant = true;
	/* Relaxed: a hint for who does not hold the lock. */
	atomic_fetch_add_explicit(&pool->vacant, 1, memory_order_relaxed);
	if (pool->alive == 0)
		pool_withdraw_all_locked(pool, &leaving->stranded);
}

static void leave_locked(struct worker *worker, bool replace, struct leaving *leaving)
{
	struct evwork_pool *pool = worker->pool;
	bool needed;

	if (worker_set_aside(worker))
		sched_put_back_locked(worker->lane);
	worker_return_locked(worker, sys_now());
	needed = needed_locked(pool);
	leaving->vacant = needed && (!replace || give_thread_locked(worker) != 0);
	if (!needed || leaving->vacant)
		vacate_locked(worker, leaving);
	/* Others may find now that all is over, or take what was put back. */
	if (pool->stop)
		pool_stop_locked(pool);
	else if (atomic_load_explicit(&pool->queued, memory_order_relaxed))
		leaving->wake = pool_claim_idle_locked(pool);
}

static void leave(struct worker *worker, bool replace, struct leaving *leaving)
{
	struct evwork_pool *pool = worker->pool;

	sys_lock(&pool->mutex);
	leave_locked(worker, replace, leaving);
	sys_unlock(&pool->mutex);
	pool_wake(leaving->wake);
	if (leaving->vacant)
		base_log(EVWORK_LOG_ERROR, "pool %s: worker %d could not be replaced, %d left",
			pool->name, worker->index, leaving->left);
}

static void finish_leaving(struct worker *worker, const struct leaving *leaving)
{
	struct evwork_pool *pool = worker->pool;

	pool_end_all(&leaving->stranded, -EAGAIN);
	if (!leaving->ended)
		return;
	worker_collect_tokens(worker);
	if (leaving->last)
		pool_all_ended(pool);
}

static void call_deferred(void *arg)
{
	crash_call_deferred_here(arg);
}

void worker_thread_ends(void *arg)
{
	struct worker *worker = arg;
	struct evwork_job *job;
	struct leaving leaving = { .stranded = { NULL, NULL } };
	bool ended;

	sys_no_cancel();
	/* One of them may end the thread once more. That comes to here from inside, and on
	 * some systems from outside, too, when all is settled. */
	if (!worker->settled)
		sys_guarded(call_deferred, worker_thread_ends, worker);
	if (worker->settled)
		return;
	worker->settled = true;
	job = worker->current;
	/* None: a callback has ended the thread, which is nothing that can be mended. */
	ended = job && crash_end_job(worker);
	base_log(EVWORK_LOG_WARNING, "pool %s: a job has ended the thread of worker %d",
		worker->pool->name, worker->index);
	worker_stop_hook(worker);
	leave(worker, true, &leaving);
	/* Last, so that its done finds the pool as it is from now on. */
	if (ended)
		mailbox_post(job->_loop->box, &job->_mail);
	worker_pay(worker);
	finish_leaving(worker, &leaving);
}

void worker_gives_up(struct worker *worker)
{
	struct leaving leaving = { .stranded = { NULL, NULL } };

	leave(worker, false, &leaving);
	finish_leaving(worker, &leaving);
}

void pool_fill_vacant(struct evwork_pool *pool)
{
	int i;

	sys_lock(&pool->mutex);
	for (i = 0; i < pool->threads && !pool->stop; i++) {
		struct worker *worker = &pool->workers[i];

		if (!worker->vacant)
			continue;
		if (give_thread_locked(worker) != 0)
			break;
		worker->vacant = false;
		pool->alive++;
		atomic_fetch_sub_explicit(&pool->vacant, 1, memory_order_relaxed);
	}
	sys_unlock(&pool->mutex);
}
