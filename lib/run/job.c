/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * What happens to a job between submit and done, by thread: execution on the
 * worker, cancellation from anywhere, delivery on the loop. The states and who
 * may change them stand in job.h; submitting in submit.c.
 */

#include "run/job.h"

#include <string.h>

#include "run/crash.h"
#include "run/ctx.h"
#include "run/loop.h"
#include "run/stage_fast.h"

void evwork_job_init(struct evwork_job *job, evwork_run_fn run, evwork_done_fn done)
{
	memset(job, 0, sizeof(*job));
	job->run = run;
	job->done = done;
}

/* Abandoning, by the worker as well as others. */

static bool may_abandon(uint32_t state)
{
	return job_phase_of(state) == JOB_RUNNING && (state & JOB_DETACH) && (state & JOB_RAN);
}

/* What keeps lane and pool while the work of an abandoned job goes on. */
static void begin_abandoned(struct evwork_lane *lane)
{
	pool_enter(lane->pool, 1);
	atomic_fetch_add_explicit(&lane->abandoned, 1, memory_order_relaxed);
}

static void end_abandoned(struct evwork_lane *lane)
{
	struct evwork_pool *pool = lane->pool;

	/* Release: pairs with the acquire of evwork_lane_free. */
	atomic_fetch_sub_explicit(&lane->abandoned, 1, memory_order_release);
	pool_leave(pool, 1);
}

/* Abandons a running job if that is allowed now, or else sets flags on it if it
 * runs; true if this abandoned it. */
static bool abandon(struct evwork_job *job, int err, uint32_t flags)
{
	struct evwork_lane *lane = __atomic_load_n(&job->_lane, __ATOMIC_RELAXED);
	uint32_t state = job_state(job);

	for (;;) {
		bool may = may_abandon(state);
		uint32_t next = state | flags;

		if (!may && (job_phase_of(state) != JOB_RUNNING || !flags))
			return false;
		if (may) {
			begin_abandoned(lane);
			next = (next & ~JOB_PHASE) | JOB_ABANDONED | JOB_LEFT;
		}
		if (job_swap_state(job, &state, next)) {
			if (may)
				job->_mail._status = err;
			return may;
		}
		if (may)
			end_abandoned(lane);
	}
}

void job_post_abandoned(struct evwork_job *job)
{
	mailbox_post(job->_loop->box, &job->_mail);
}

/* The worker. */

void job_mark_ran(struct evwork_job *job)
{
	__atomic_fetch_or(&job->_state, JOB_RAN, __ATOMIC_ACQ_REL);
}

static bool past_deadline(const struct evwork_job *job, uint32_t state)
{
	return (state & JOB_LEDGER) && job->_ledger->deadline_ns != EVWORK_NEVER &&
	       clock_now(job->_lane->pool->clock) >= job->_ledger->deadline_ns;
}

/* The last look before work starts: an error, if the job is to end instead. The
 * context comes last, as it is what lets the job be abandoned. */
static int check_start(struct evwork_job *job, uint32_t state)
{
	if (past_deadline(job, state)) {
		if (state & JOB_CTX)
			ctx_remove_job(job->ctx, job);
		return -ETIMEDOUT;
	}
	return state & JOB_CTX ? ctx_start_job(job->ctx, job, state & JOB_DROP) : 0;
}

/* Whether the pool was closed so that running jobs count as cancelled. */
static bool all_cancelled(const struct evwork_job *job)
{
	return atomic_load_explicit(&job->_lane->pool->closing, memory_order_relaxed) ==
	       EVWORK_CANCEL_ALL;
}

/* From here on the job can be abandoned. A cancel may have come just before. */
static void begin_detachable(struct evwork_job *job)
{
	job_mark_ran(job);
	if (((job_state(job) & JOB_CANCEL) || all_cancelled(job)) &&
	    abandon(job, -ECANCELED, 0))
		job_post_abandoned(job);
}

/* Ends a job that might be, or have been, abandoned. Returns whether there is
 * something to post. */
static bool end_detachable(struct evwork_job *job, int status, bool ran)
{
	struct evwork_lane *lane = job->_lane;
	uint32_t state = job_state(job), next;

	do {
		if (job_phase_of(state) == JOB_RUNNING)
			next = (state & ~(JOB_PHASE | JOB_RAN)) | JOB_ENDED | (ran ? JOB_RAN : 0);
		else
			next = state | JOB_RETURNED;
	} while (!job_swap_state(job, &state, next));
	if (job_phase_of(state) == JOB_RUNNING) {
		/* The status is that of who won. */
		job->_mail._status = status;
		return true;
	}
	end_abandoned(lane);
	/* The loop drops the job with the done that it has still to deliver, or else
	 * must be told. */
	return (state & JOB_TOLD) != 0;
}

static void set_detachable(struct worker *worker, struct evwork_job *job)
{
	sys_lock(&worker->mutex);
	worker->detachable = job;
	sys_unlock(&worker->mutex);
}

static int run_detachable(struct worker *worker, struct evwork_job *job)
{
	set_detachable(worker, job);
	begin_detachable(job);
	return job_call(worker, job);
}

/* Notes what the job is called, while it surely exists. */
static void set_label(struct worker *worker, struct evwork_job *job)
{
	/* The function is the user's, and not work: no cancel takes effect in it. */
	int cancel = sys_no_cancel();
	const char *name = job ? job->_lane->describe(job) : NULL;

	sys_lock(&worker->mutex);
	strncpy(worker->label, name ? name : "", sizeof(worker->label) - 1);
	sys_unlock(&worker->mutex);
	sys_cancel(cancel);
}

bool job_execute(struct worker *worker, struct evwork_job *job, uint32_t state)
{
	int status = check_start(job, state);
	bool ran = status == 0;

	if (ran) {
		if (state & JOB_LEDGER)
			job->_ledger->started_ns = clock_now(job->_lane->pool->clock);
		if (state & JOB_DESCRIBED)
			set_label(worker, job);
		status = state & JOB_DROP ? run_detachable(worker, job) : job_call(worker, job);
	}
	return job_finish(worker, job, state, status, ran);
}

bool job_finish(struct worker *worker, struct evwork_job *job, uint32_t state, int status,
	bool ran)
{
	if (ran && (state & JOB_DESCRIBED))
		set_label(worker, NULL);
	if (ran && (state & JOB_DROP))
		set_detachable(worker, NULL);
	if (state & JOB_LEDGER)
		ledger_end(job->_ledger, status, ran);
	if (!(state & JOB_DROP)) {
		job->_mail._status = status;
		job_set_state(job, (state & ~JOB_PHASE) | JOB_ENDED | (ran ? JOB_RAN : 0));
		return true;
	}
	if (state & JOB_CTX)
		ctx_remove_job(job->ctx, job);
	return end_detachable(job, status, ran);
}

int evwork_job_err(struct evwork_job *job)
{
	uint32_t state;
	int err;

	if (!job)
		return -EINVAL;
	state = job_state(job);
	if (job_phase_of(state) != JOB_RUNNING && job_phase_of(state) != JOB_ABANDONED)
		return 0;
	if ((state & JOB_CANCEL) || all_cancelled(job))
		return -ECANCELED;
	if (state & JOB_CTX) {
		err = evwork_ctx_err(job->ctx);
		if (err)
			return err;
	}
	return past_deadline(job, state) ? -ETIMEDOUT : 0;
}

static int change_detach(struct evwork_job *job, bool on)
{
	uint32_t state = job_state(job);

	do {
		if (job_phase_of(state) == JOB_ABANDONED)
			return -EALREADY;
	} while (!job_swap_state(job, &state, on ? state | JOB_DETACH : state & ~JOB_DETACH));
	return 0;
}

int evwork_job_set_detach(struct evwork_job *job, int on)
{
	uint32_t state;
	int err;

	if (!job || (on && !job->drop))
		return -EINVAL;
	state = job_state(job);
	if (job_phase_of(state) == JOB_IDLE) {
		job_set_state(job, on ? state | JOB_DETACH : state & ~JOB_DETACH);
		return 0;
	}
	if (!worker_here() || worker_here()->current != job)
		return -EPERM;
	if (!on)
		return change_detach(job, false);
	err = evwork_job_err(job);
	if (err)
		return job_phase_of(state) == JOB_ABANDONED ? -EALREADY : err;
	err = change_detach(job, true);
	if (err)
		return err;
	/* Whoever stopped the job in between has seen the mark and abandoned it, or not
	 * and must not be waited for: then the mark is taken back. */
	err = evwork_job_err(job);
	return err && change_detach(job, false) == 0 ? err : 0;
}

/* Any thread. */

int evwork_job_ran(const struct evwork_job *job)
{
	return job && (job_state(job) & JOB_RAN) ? 1 : 0;
}

int evwork_job_abandoned(const struct evwork_job *job)
{
	return job && (job_state(job) & JOB_LEFT) ? 1 : 0;
}

bool job_cancel_running(struct evwork_job *job)
{
	return abandon(job, -ECANCELED, JOB_CANCEL);
}

bool job_stop_by_ctx(struct evwork_job *job, int err)
{
	struct evwork_lane *lane = job->_lane;
	bool withdrawn;

	sys_lock(&lane->pool->mutex);
	withdrawn = pool_withdraw_locked(lane, job, 0);
	sys_unlock(&lane->pool->mutex);
	if (withdrawn) {
		job->_mail._status = err;
		return true;
	}
	return abandon(job, err, 0);
}

static void post_ended(struct evwork_job *job)
{
	uint32_t state = job_state(job);

	/* An abandoned job keeps its permits until its work returns. */
	if (job_phase_of(state) == JOB_ENDED && (state & JOB_LEDGER))
		ledger_end(job->_ledger, job->_mail._status, false);
	mailbox_post(job->_loop->box, &job->_mail);
}

void job_post_all(const struct job_chain *chain)
{
	struct evwork_mail *mail, *next;

	for (mail = chain->first; mail; mail = next) {
		next = mail->_next;
		post_ended(EVWORK_CONTAINER(mail, struct evwork_job, _mail));
	}
}

void job_end_withdrawn(struct evwork_job *job, int status)
{
	job->_mail._status = status;
	if (job_state(job) & JOB_CTX)
		ctx_remove_job(job->ctx, job);
	post_ended(job);
}

/* Cancels a job that was queued when it was looked at. Returns 0 and, if that is
 * left to do, *ret_ours; -EAGAIN if it is not queued any more. */
static int cancel_queued(struct evwork_job *job, bool *ret_ours)
{
	/* The lane is fixed while the job is queued. */
	struct evwork_lane *lane = __atomic_load_n(&job->_lane, __ATOMIC_RELAXED);
	uint32_t state;
	int rc = -EAGAIN;

	*ret_ours = false;
	sys_lock(&lane->pool->mutex);
	state = job_state(job);
	if (__atomic_load_n(&job->_lane, __ATOMIC_RELAXED) == lane &&
	    job_phase_of(state) == JOB_QUEUED) {
		if (state & JOB_STAGED) {
			/* The loop that has it delivers it at the end of its turn. */
			job_set_state(job, (state & ~JOB_PHASE) | JOB_ENDED | JOB_CANCELLED);
			rc = 0;
		} else if (pool_withdraw_locked(lane, job, JOB_CANCELLED)) {
			*ret_ours = true;
			rc = 0;
		}
	}
	sys_unlock(&lane->pool->mutex);
	return rc;
}

int evwork_cancel(struct evwork_job *job)
{
	uint32_t state;
	bool ours;

	if (!job)
		return -EINVAL;
	stage_flush_here();
	if (job_phase_of(job_state(job)) != JOB_IDLE &&
	    __atomic_load_n(&job->_lane, __ATOMIC_RELAXED)->pool->inherited)
		return -ESHUTDOWN;
	if (job_phase_of(job_state(job)) == JOB_QUEUED && cancel_queued(job, &ours) == 0) {
		if (ours)
			job_end_withdrawn(job, -ECANCELED);
		return 0;
	}
	/* A worker may have taken it and be about to say so. */
	while (job_phase_of(state = job_state(job)) == JOB_QUEUED)
		sys_yield();
	switch (job_phase_of(state)) {
	case JOB_IDLE:
		return -ESRCH;
	case JOB_ENDED:
		return state & JOB_CANCELLED ? -EALREADY : -EBUSY;
	case JOB_ABANDONED:
		return -EALREADY;
	default:
		if (job_cancel_running(job))
			job_post_abandoned(job);
		return -EBUSY;
	}
}

/* The loop. */

static void drop(struct evwork_loop *loop, struct evwork_job *job)
{
	uint32_t state = job_state(job);
	/* The job may be gone when drop returns. */
	char *text = state & JOB_PANICKED ? crash_text(job) : NULL;

	if (state & JOB_CTX)
		evwork_ctx_unref(job->ctx);
	job_set_state(job, JOB_IDLE | (state & (JOB_RAN | JOB_LEFT | JOB_DETACH | JOB_PANICKED)));
	loop_leave(loop, (state & JOB_OWN) != 0);
	job->drop(job);
	crash_free_text(text);
}

/* The first of the two deliveries of an abandoned job, or, if work has returned
 * in time, both. */
static void deliver_abandoned(struct evwork_loop *loop, struct evwork_job *job)
{
	struct evwork_lane *lane = job->_lane;
	int status = job->_mail._status;
	uint32_t state;

	loop->stage.delivering = lane;
	if (job->done)
		job->done(job, status);
	stage_delivered(loop, lane, status);
	if (loop->inherited)
		return;
	state = __atomic_fetch_or(&job->_state, JOB_TOLD, __ATOMIC_ACQ_REL);
	if (state & JOB_RETURNED)
		drop(loop, job);
}

static inline void deliver_ended(struct evwork_loop *loop, struct evwork_job *job,
	uint32_t state)
{
	struct evwork_lane *lane = job->_lane;
	int status = job->_mail._status;
	evwork_done_fn done = job->done;

	if (state & JOB_CTX)
		evwork_ctx_unref(job->ctx);
	job_set_state(job, JOB_IDLE | (state & (JOB_RAN | JOB_DETACH | JOB_PANICKED)));
	if (state & JOB_OWN)
		loop_count_own_out(loop);
	else
		loop_leave(loop, false);
	loop->stage.delivering = lane;
	if (done)
		done(job, status);
	stage_delivered(loop, lane, status);
}

/* What is rare: an abandoned job, or one with a text. */
static void deliver_special(struct evwork_loop *loop, struct evwork_job *job, uint32_t state)
{
	char *text;

	if (job_phase_of(state) == JOB_ABANDONED) {
		if (state & JOB_TOLD)
			drop(loop, job);
		else
			deliver_abandoned(loop, job);
		return;
	}
	/* The job may be gone when done returns. */
	text = crash_text(job);
	deliver_ended(loop, job, state);
	crash_free_text(text);
}

void job_deliver(struct evwork_loop *loop, struct evwork_job *job, uint32_t state)
{
	if (job_phase_of(state) == JOB_ABANDONED || (state & JOB_PANICKED))
		deliver_special(loop, job, state);
	else
		deliver_ended(loop, job, state);
}
