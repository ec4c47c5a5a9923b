/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Freeing a loop by force (S-SHUT-11). What is on its way to the loop still refers to it,
 * and so does work that runs. So the loop becomes an orphan: it leaves its base and closes
 * its descriptors, but keeps its memory until the last of what was accepted has ended.
 * Each thread that brings something finds the mark in the mailbox and disposes of it
 * where it is; whoever brings the last frees the loop.
 *
 * `foreign` is the orphan's count of references: what other threads have accepted is
 * counted there anyway, what was the loop's own moves there, and the call itself, or the
 * turn that it comes from, has one more.
 */

#include <errno.h>

#include "base/log.h"
#include "run/crash.h"
#include "run/ctx.h"
#include "run/job.h"
#include "run/loop.h"
#include "run/stage_fast.h"
#include "run/turn.h"

void loop_orphan_leave(struct evwork_loop *loop)
{
	/* Release and acquire: all others are through with the loop. */
	if (atomic_fetch_sub_explicit(&loop->foreign, 1, memory_order_acq_rel) == 1) {
		mailbox_release(loop->box);
		loop_destroy(loop);
	}
}

/* Counts a job as delivered, without a done. The pool may be gone after it. */
static void count_lost(struct evwork_lane *lane, int status)
{
	struct evwork_pool *pool = lane->pool;

	/* Release: pairs with the acquire of lane_delivered. With the last of these another
	 * thread may free the lane. */
	atomic_fetch_add_explicit(&lane->dropped, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&lane->outcomes[stage_outcome(status)], 1, memory_order_release);
	pool_leave(pool, 1);
}

/* The first mail of an abandoned job; true if its work has returned already, so that
 * there is no second. */
static bool lose_abandoned(struct evwork_job *job)
{
	struct evwork_lane *lane = job->_lane;
	int status = job->_mail._status;
	uint32_t state = __atomic_fetch_or(&job->_state, JOB_TOLD, __ATOMIC_ACQ_REL);

	count_lost(lane, status);
	return (state & JOB_RETURNED) != 0;
}

static void lose_job(struct evwork_job *job)
{
	uint32_t state = job_state(job);
	struct evwork_loop *loop = job->_loop;
	struct evwork_lane *lane = job->_lane;
	int status = job->_mail._status;
	bool abandoned = job_phase_of(state) == JOB_ABANDONED;
	char *text;
	int cancel;

	if (abandoned && !(state & JOB_TOLD) && !lose_abandoned(job))
		return;
	if (state & JOB_CTX)
		evwork_ctx_unref(job->ctx);
	state = job_state(job);
	text = state & JOB_PANICKED ? crash_text(job) : NULL;
	job_set_state(job, JOB_IDLE | (state & (JOB_RAN | JOB_LEFT | JOB_DETACH | JOB_PANICKED)));
	/* Drop is not work, but may be called on a worker: no cancel takes effect in it. */
	cancel = sys_no_cancel();
	if (job->drop)
		job->drop(job);
	sys_cancel(cancel);
	crash_free_text(text);
	if (!abandoned)
		count_lost(lane, status);
	loop_orphan_leave(loop);
}

void mail_lost(struct evwork_mail *mail)
{
	struct letter *letter;

	if (mail->_kind == MAIL_JOB) {
		lose_job(EVWORK_CONTAINER(mail, struct evwork_job, _mail));
		return;
	}
	letter = EVWORK_CONTAINER(mail, struct letter, mail);
	letter->lose(letter);
}

static void lose_all(struct evwork_mail *mail)
{
	while (mail) {
		struct evwork_mail *next = mail->_next;

		mail_lost(mail);
		mail = next;
	}
}

/* Watches whose time has come, as all have now. Returns how many that was. */
static int lose_watches(struct evwork_loop *loop)
{
	struct evwork_watch *watch;
	struct evwork_ctx *ctx;
	void (*lost)(struct evwork_watch *watch);
	int count = 0;

	for (;;) {
		sys_lock(&loop->mutex);
		watch = loop->calling.head ? loop->calling.head : loop->fired.head;
		if (!watch) {
			sys_unlock(&loop->mutex);
			return count;
		}
		if (watch == loop->calling.head)
			LIST_REMOVE(&loop->calling, watch, _loop_next, _loop_prev);
		else
			LIST_REMOVE(&loop->fired, watch, _loop_next, _loop_prev);
		ctx = watch->_ctx;
		lost = watch->_lost;
		watch_set_idle(watch);
		sys_unlock(&loop->mutex);
		evwork_ctx_unref(ctx);
		if (lost)
			lost(watch);
		count++;
	}
}

/* Timers of the user, and alarms. A context that is just being freed on another thread has
 * still to stop its timer: it is waited for. */
static int lose_timers(struct evwork_loop *loop)
{
	bool more;
	int count = 0;

	sys_lock(&loop->mutex);
	while (loop->alarms.top)
		timer_heap_remove(&loop->alarms, loop->alarms.top);
	while (loop->timers.top) {
		loop_unset_timer_locked(loop, loop->timers.top);
		count++;
	}
	more = loop->timer_count > 0;
	sys_unlock(&loop->mutex);
	while (more) {
		sys_yield();
		sys_lock(&loop->mutex);
		more = loop->timer_count > 0;
		sys_unlock(&loop->mutex);
	}
	return count;
}

/* From here on nothing new is accepted, and nobody who leaves the loop relies on its
 * mailbox. Returns how many callbacks are on their way. */
static uint64_t become_orphan(struct evwork_loop *loop)
{
	uint64_t own = atomic_load_explicit(&loop->own, memory_order_relaxed);
	uint64_t before;

	evwork_loop_close(loop, NULL, NULL);
	/* Sequentially consistent, as in loop_enter: who comes later sees it closing. */
	before = atomic_fetch_add(&loop->foreign, own + 1);
	atomic_store_explicit(&loop->own, 0, memory_order_relaxed);
	sys_lock(&loop->mutex);
	loop->orphaned = true;
	sys_unlock(&loop->mutex);
	return before + own;
}

int evwork_loop_free_force(struct evwork_loop *loop)
{
	struct evwork_mail *inbox;
	uint64_t lost;

	if (!loop)
		return 0;
	if (loop->inherited)
		return evwork_loop_free(loop);
	if (!loop_is_here(loop))
		return -EPERM;
	if (stall_loop_is_here(loop))
		return -EDEADLK;
	if (loop->dead || loop->orphaned)
		return -EBUSY;
	stage_flush_jobs(loop);
	stage_flush_counts(loop);
	lost = become_orphan(loop);
	/* Once more if it has begun: some watches were set since, for just this. */
	waiters_begin_close(loop);
	lost += (uint64_t)lose_watches(loop);
	lost += (uint64_t)lose_timers(loop);
	loop_detach(loop);
	loop->over = true;
	inbox = loop->inbox;
	loop->inbox = NULL;
	lose_all(inbox);
	lose_all(mailbox_orphan(loop->box));
	/* The turn that runs now has the last word. */
	if (!loop->running)
		loop_orphan_leave(loop);
	return lost < INT32_MAX ? (int)lost : INT32_MAX;
}
