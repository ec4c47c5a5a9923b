/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Closing. `closing` is set once and only grows stronger. From then on nothing is
 * accepted, except in DRAIN from the pool's own workers. Workers end when
 * nothing is queued and none of them is busy, since a busy one may still submit.
 * The pool is closed when all workers have ended and the last done has
 * returned: pool->pending counts down to it.
 */

#include "run/job.h"
#include "run/loop.h"
#include "run/pool.h"
#include "run/stage.h"

void pool_stop_locked(struct evwork_pool *pool)
{
	struct worker *worker;

	pool->stop = true;
	while ((worker = pool->idle)) {
		pool->idle = worker->idle_next;
		worker->idle = false;
		pool_count_idle_locked(pool, -1);
		worker_promise(worker);
		sys_unpark(&worker->parker);
	}
}

static void finish_close(struct evwork_pool *pool)
{
	bool first;

	sys_lock(&pool->mutex);
	/* A close that comes after the end passes here once more. */
	first = !pool->closed;
	pool->closed = true;
	sys_cond_broadcast(&pool->changed);
	/* Under the lock: the callback, which may free the pool, takes it first. */
	if (first && pool->callback_due)
		mailbox_post(pool->closed_loop->box, &pool->closed_letter.mail);
	sys_unlock(&pool->mutex);
}

void pool_leave(struct evwork_pool *pool, uint64_t n)
{
	/* Release and acquire: what all others did to the pool comes before the
	 * closed callback. */
	if (atomic_fetch_sub_explicit(&pool->pending, n, memory_order_acq_rel) ==
	    (POOL_ENDED | n))
		finish_close(pool);
}

void pool_end_staging_locked(struct evwork_pool *pool)
{
	atomic_fetch_sub(&pool->staging, 1);
	/* Workers of a closing pool may have waited for just this. */
	if (pool->stop)
		pool_stop_locked(pool);
}

void pool_worker_ended(struct evwork_pool *pool)
{
	bool last;

	sys_lock(&pool->mutex);
	pool->alive--;
	last = pool->alive == 0 && atomic_load(&pool->closing);
	sys_unlock(&pool->mutex);
	/* The threads are joined before the pool is freed. */
	if (last && atomic_fetch_or_explicit(&pool->pending, POOL_ENDED,
			memory_order_acq_rel) == 0)
		finish_close(pool);
}

static void open_closed(struct letter *letter)
{
	struct evwork_pool *pool = EVWORK_CONTAINER(letter, struct evwork_pool, closed_letter);
	evwork_pool_closed_fn fn = pool->closed_fn;
	void *arg = pool->closed_arg;

	loop_leave(pool->closed_loop, pool->closed_own);
	/* Under the lock, so that the thread that posted this has left it. */
	sys_lock(&pool->mutex);
	pool->callback_due = false;
	sys_unlock(&pool->mutex);
	fn(pool, 0, arg);
}

/* Takes all queued jobs out; returns them linked through their mail. */
static struct evwork_job *withdraw_all_locked(struct evwork_pool *pool)
{
	struct evwork_job *aside[WORKER_BATCH], *jobs = NULL, *job;
	struct evwork_lane *lane;
	unsigned count, at;
	int i;

	for (i = 0; i < pool->threads; i++) {
		struct worker *worker = &pool->workers[i];

		count = worker_withdraw_locked(worker, WORKER_BATCH, aside);
		for (at = 0; at < count; at++) {
			aside[at]->_mail._next = jobs ? &jobs->_mail : NULL;
			jobs = aside[at];
		}
	}
	for (lane = pool->lanes.head; lane; lane = lane->next) {
		while ((job = ring_pop(&lane->ring))) {
			job->_mail._next = jobs ? &jobs->_mail : NULL;
			jobs = job;
		}
	}
	atomic_store_explicit(&pool->queued, 0, memory_order_relaxed);
	for (job = jobs; job; job = job->_mail._next ? EVWORK_CONTAINER(job->_mail._next,
			struct evwork_job, _mail) : NULL)
		job_set_state(job, (job_state(job) & ~JOB_PHASE) | JOB_ENDED);
	pool_room_locked(pool);
	return jobs;
}

/* The list is in reverse order of its taking; turns it round and ends each. */
static void end_all(struct evwork_job *jobs)
{
	struct evwork_mail *mail = jobs ? &jobs->_mail : NULL, *first = NULL;

	while (mail) {
		struct evwork_mail *next = mail->_next;

		mail->_next = first;
		first = mail;
		mail = next;
	}
	while (first) {
		struct evwork_mail *next = first->_next;

		job_end_withdrawn(EVWORK_CONTAINER(first, struct evwork_job, _mail), -ECANCELED);
		first = next;
	}
}

static void cancel_running(struct evwork_pool *pool)
{
	int i;

	for (i = 0; i < pool->threads; i++) {
		struct worker *worker = &pool->workers[i];
		struct evwork_job *abandoned = NULL;

		/* Others see by the pool's mode that they are cancelled. A job that can be
		 * abandoned does not end while its worker's lock is held. */
		sys_lock(&worker->mutex);
		if (worker->detachable && job_cancel_running(worker->detachable))
			abandoned = worker->detachable;
		sys_unlock(&worker->mutex);
		if (abandoned)
			job_post_abandoned(abandoned);
	}
}

/* Notes what is to be called; the loop has been entered for it. */
static void set_callback_locked(struct evwork_pool *pool, struct evwork_loop *loop,
	evwork_pool_closed_fn fn, void *arg, bool own)
{
	pool->closed_loop = loop;
	pool->closed_fn = fn;
	pool->closed_arg = arg;
	pool->closed_own = own;
	letter_init(&pool->closed_letter, open_closed);
	pool->callback_due = true;
}

int evwork_pool_close(struct evwork_pool *pool, enum evwork_close_mode mode,
	struct evwork_loop *loop, evwork_pool_closed_fn fn, void *arg)
{
	struct evwork_job *jobs = NULL;
	bool own;
	int before, rc = 0;

	if (!pool || mode < EVWORK_DRAIN || mode > EVWORK_CANCEL_ALL || (fn && !loop))
		return -EINVAL;
	stage_flush_here();
	if (atomic_load(&pool->closing) >= (int)mode)
		return -EALREADY;
	/* Not under the pool's lock, which comes after the loop's. */
	if (fn)
		rc = loop_enter_always(loop, &own);
	if (rc && !atomic_load(&pool->closing))
		return rc;
	sys_lock(&pool->mutex);
	before = atomic_load(&pool->closing);
	if (before < (int)mode) {
		/* Held open until this call is through with the pool. */
		pool_enter(pool, 1);
		if (before == 0 && fn)
			set_callback_locked(pool, loop, fn, arg, own);
		atomic_store(&pool->closing, (int)mode);
		if (mode != EVWORK_DRAIN)
			jobs = withdraw_all_locked(pool);
		pool_stop_locked(pool);
		sys_cond_broadcast(&pool->room);
	}
	sys_unlock(&pool->mutex);
	if (fn && rc == 0 && before != 0)
		loop_leave(loop, own);
	if (before >= (int)mode)
		return -EALREADY;
	end_all(jobs);
	if (mode == EVWORK_CANCEL_ALL)
		cancel_running(pool);
	pool_leave(pool, 1);
	return 0;
}

int evwork_pool_close_wait(struct evwork_pool *pool, enum evwork_close_mode mode)
{
	struct worker *here = worker_here();
	int rc;

	if (!pool || mode < EVWORK_DRAIN || mode > EVWORK_CANCEL_ALL)
		return -EINVAL;
	if (loop_any_here() || (here && here->pool == pool))
		return -EDEADLK;
	rc = evwork_pool_close(pool, mode, NULL, NULL, NULL);
	if (rc && rc != -EALREADY)
		return rc;
	sys_lock(&pool->mutex);
	pool->close_waiters++;
	while (!pool->closed)
		sys_cond_wait(&pool->changed, &pool->mutex, INT64_MAX);
	pool->close_waiters--;
	sys_unlock(&pool->mutex);
	return 0;
}
