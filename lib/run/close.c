/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Closing. `closing` is set once and only grows stronger. From then on nothing is
 * accepted, except in DRAIN from the pool's own workers. Workers end when
 * nothing is queued and none of them is busy, since a busy one may still submit; until
 * then one whose thread is ended by a job is replaced, see replace.c.
 * The pool is closed when all workers have ended and the last done has
 * returned: pool->pending counts down to it.
 *
 * A close with bounds has an alarm on the loop of its callback. It rings at cancel_at,
 * where it closes once more with EVWORK_CANCEL_ALL, and at give_up_at, which is known
 * from the cancelling of all on: then the callback is posted although the pool has not
 * closed. The alarm only ever looks at what is due, so it may ring too often. It is set
 * without the pool's lock, which comes after the loop's; what keeps pool and loop
 * meanwhile is that the end waits for calls that are inside, and the giving up for
 * alarm_setters. The callback stops it.
 */

#include <errno.h>

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

static void post_callback_locked(struct evwork_pool *pool)
{
	if (pool->callback_due && !pool->closed_posted) {
		pool->closed_posted = true;
		mailbox_post(pool->closed_loop->box, &pool->closed_letter.mail);
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
	if (first)
		post_callback_locked(pool);
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

bool pool_count_out_locked(struct evwork_pool *pool)
{
	pool->alive--;
	return pool->alive == 0 && atomic_load(&pool->closing);
}

void pool_all_ended(struct evwork_pool *pool)
{
	/* The threads are joined before the pool is freed. */
	if (atomic_fetch_or_explicit(&pool->pending, POOL_ENDED, memory_order_acq_rel) == 0)
		finish_close(pool);
}

void pool_worker_ended(struct evwork_pool *pool)
{
	bool last;

	sys_lock(&pool->mutex);
	last = pool_count_out_locked(pool);
	sys_unlock(&pool->mutex);
	if (last)
		pool_all_ended(pool);
}

static void open_closed(struct letter *letter)
{
	struct evwork_pool *pool = EVWORK_CONTAINER(letter, struct evwork_pool, closed_letter);
	evwork_pool_closed_fn fn = pool->closed_fn;
	void *arg = pool->closed_arg;
	bool closed;

	loop_stop_alarm(pool->closed_loop, &pool->alarm);
	loop_leave(pool->closed_loop, pool->closed_own);
	/* Under the lock, so that the thread that posted this has left it. */
	sys_lock(&pool->mutex);
	pool->callback_due = false;
	/* What was given up may have ended since. */
	closed = pool->closed;
	sys_unlock(&pool->mutex);
	if (fn)
		fn(pool, closed ? 0 : -ETIMEDOUT, arg);
}

static void lose_closed(struct letter *letter)
{
	struct evwork_pool *pool = EVWORK_CONTAINER(letter, struct evwork_pool, closed_letter);
	struct evwork_loop *loop = pool->closed_loop;

	/* Release: pairs with the acquire of evwork_pool_free; the pool may be gone. */
	atomic_store_explicit(&pool->callback_lost, true, memory_order_release);
	loop_orphan_leave(loop);
}

static void withdraw_locked(struct evwork_job *job, struct job_chain *jobs)
{
	job_set_state(job, (job_state(job) & ~JOB_PHASE) | JOB_ENDED);
	job_chain_add(jobs, job);
}

void pool_withdraw_all_locked(struct evwork_pool *pool, struct job_chain *ret_jobs)
{
	struct evwork_job *aside[WORKER_BATCH], *job;
	struct evwork_lane *lane;
	unsigned count, at;
	int i;

	for (i = 0; i < pool->threads; i++) {
		count = worker_withdraw_locked(&pool->workers[i], WORKER_BATCH, aside);
		for (at = 0; at < count; at++)
			withdraw_locked(aside[at], ret_jobs);
	}
	for (lane = pool->lanes.head; lane; lane = lane->next)
		while ((job = ring_pop(&lane->ring)))
			withdraw_locked(job, ret_jobs);
	atomic_store_explicit(&pool->queued, 0, memory_order_relaxed);
	pool_room_locked(pool);
}

void pool_end_all(const struct job_chain *jobs, int status)
{
	struct evwork_mail *mail, *next;

	for (mail = jobs->first; mail; mail = next) {
		next = mail->_next;
		job_end_withdrawn(EVWORK_CONTAINER(mail, struct evwork_job, _mail), status);
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

/* The bounds. */

/* When the alarm is to ring. */
static int64_t next_alarm_locked(const struct evwork_pool *pool)
{
	if (!pool->callback_due || pool->closed_posted)
		return EVWORK_NEVER;
	return atomic_load(&pool->closing) == EVWORK_CANCEL_ALL ? pool->give_up_at :
		pool->cancel_at;
}

/* The mode has changed: whether the alarm is to be set, by set_alarm once the lock is
 * left. */
static bool prepare_alarm_locked(struct evwork_pool *pool)
{
	if (pool->callback_due && !pool->closed_posted &&
	    atomic_load(&pool->closing) == EVWORK_CANCEL_ALL)
		pool->give_up_at = sys_time_add(clock_now(pool->closed_loop->clock),
			pool->grace_ns);
	if (next_alarm_locked(pool) == EVWORK_NEVER)
		return false;
	pool->alarm_setters++;
	return true;
}

static void set_alarm(struct evwork_pool *pool)
{
	int64_t at;

	sys_lock(&pool->mutex);
	at = next_alarm_locked(pool);
	sys_unlock(&pool->mutex);
	if (at != EVWORK_NEVER)
		loop_set_alarm(pool->closed_loop, &pool->alarm, at);
	sys_lock(&pool->mutex);
	pool->alarm_setters--;
	sys_unlock(&pool->mutex);
}

static int close_pool(struct evwork_pool *pool, const struct evwork_close_options *options,
	bool bounded);

static void on_alarm(struct evwork_timer *alarm, int status)
{
	static const struct evwork_close_options all = { .mode = EVWORK_CANCEL_ALL };
	struct evwork_pool *pool = EVWORK_CONTAINER(alarm, struct evwork_pool, alarm);
	struct evwork_loop *loop = pool->closed_loop;
	int64_t now = clock_now(loop->clock), next;
	bool due, cancelled;

	(void)status;
	sys_lock(&pool->mutex);
	next = next_alarm_locked(pool);
	due = next <= now;
	cancelled = atomic_load(&pool->closing) == EVWORK_CANCEL_ALL;
	if (due && cancelled && pool->alarm_setters == 0) {
		post_callback_locked(pool);
		next = EVWORK_NEVER;
	}
	sys_unlock(&pool->mutex);
	/* Closing sets the alarm again; if another was quicker, he does. */
	if (due && !cancelled)
		close_pool(pool, &all, false);
	else if (next != EVWORK_NEVER)
		loop_set_alarm(loop, alarm, next);
}

/* Closing. */

/* Notes what is to be called, and by when; the loop has been entered for it. */
static void set_callback_locked(struct evwork_pool *pool,
	const struct evwork_close_options *options, bool own, bool bounded)
{
	int64_t grace_ms = options->grace_ms ? options->grace_ms : EVWORK_GRACE_MS_DEFAULT;

	pool->closed_loop = options->loop;
	pool->closed_fn = options->fn;
	pool->closed_arg = options->arg;
	pool->closed_own = own;
	letter_init(&pool->closed_letter, "the closed callback of a pool", open_closed, lose_closed);
	atomic_store_explicit(&pool->callback_lost, false, memory_order_relaxed);
	pool->callback_due = true;
	evwork_timer_init(&pool->alarm, on_alarm);
	pool->cancel_at = pool->give_up_at = EVWORK_NEVER;
	pool->grace_ns = bounded ? sys_time_mul(grace_ms, SYS_NS_PER_MS) : EVWORK_NEVER;
	if (options->deadline_ms)
		pool->cancel_at = sys_time_add(clock_now(options->loop->clock),
			sys_time_mul(options->deadline_ms, SYS_NS_PER_MS));
}

/* Makes the mode stronger; adds to *jobs what is to be ended once the lock is left. */
static void set_mode_locked(struct evwork_pool *pool, enum evwork_close_mode mode,
	struct job_chain *jobs)
{
	bool first = atomic_load(&pool->closing) == 0;

	atomic_store(&pool->closing, (int)mode);
	/* Workers that could not be replaced have ended before. */
	if (first && pool->alive == 0)
		atomic_fetch_or_explicit(&pool->pending, POOL_ENDED, memory_order_acq_rel);
	if (mode != EVWORK_DRAIN)
		pool_withdraw_all_locked(pool, jobs);
	pool_tell_closing_locked(pool);
	pool_stop_locked(pool);
	sys_cond_broadcast(&pool->room);
}

static int close_pool(struct evwork_pool *pool, const struct evwork_close_options *options,
	bool bounded)
{
	enum evwork_close_mode mode = options->mode;
	struct job_chain jobs = { NULL, NULL };
	bool calls = options->fn || bounded, alarm = false, own;
	int before, rc = 0;

	if (pool->inherited)
		return -ESHUTDOWN;
	stage_flush_here();
	if (atomic_load(&pool->closing) >= (int)mode)
		return -EALREADY;
	/* Not under the pool's lock, which comes after the loop's. */
	if (calls)
		rc = loop_enter_always(options->loop, &own);
	if (rc && !atomic_load(&pool->closing))
		return rc;
	sys_lock(&pool->mutex);
	before = atomic_load(&pool->closing);
	if (before < (int)mode) {
		/* Held open until this call is through with the pool. */
		pool_enter(pool, 1);
		if (before == 0 && calls)
			set_callback_locked(pool, options, own, bounded);
		set_mode_locked(pool, mode, &jobs);
		alarm = prepare_alarm_locked(pool);
	}
	sys_unlock(&pool->mutex);
	if (calls && rc == 0 && before != 0)
		loop_leave(options->loop, own);
	if (before >= (int)mode)
		return -EALREADY;
	if (alarm)
		set_alarm(pool);
	pool_end_all(&jobs, -ECANCELED);
	if (mode == EVWORK_CANCEL_ALL)
		cancel_running(pool);
	pool_leave(pool, 1);
	return 0;
}

static bool is_mode(enum evwork_close_mode mode)
{
	return mode >= EVWORK_DRAIN && mode <= EVWORK_CANCEL_ALL;
}

int evwork_pool_close(struct evwork_pool *pool, enum evwork_close_mode mode,
	struct evwork_loop *loop, evwork_pool_closed_fn fn, void *arg)
{
	struct evwork_close_options options = { .mode = mode, .loop = loop, .fn = fn, .arg = arg };

	if (!pool || !is_mode(mode) || (fn && !loop))
		return -EINVAL;
	return close_pool(pool, &options, false);
}

int evwork_pool_close_by(struct evwork_pool *pool, const struct evwork_close_options *options)
{
	if (!pool || !options || !options->loop || !is_mode(options->mode) ||
	    options->deadline_ms < 0 || options->grace_ms < 0)
		return -EINVAL;
	return close_pool(pool, options, true);
}

int evwork_pool_close_wait(struct evwork_pool *pool, enum evwork_close_mode mode)
{
	struct worker *here = worker_here();
	int rc;

	if (!pool || !is_mode(mode))
		return -EINVAL;
	if (pool->inherited)
		return -ESHUTDOWN;
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
