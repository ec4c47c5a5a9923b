/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_JOB_H
#define EVWORK_JOB_H

/*
 * Jobs: one unit of work on a pool and its completion on a loop.
 *
 * A job is the caller's own struct, embedded in the struct of the request it
 * serves. Submitting it allocates nothing.
 *
 *	struct request {
 *		struct evwork_job job;
 *		...
 *	};
 *
 *	evwork_job_init(&request->job, request_run, request_done);
 *	request->job.ctx = ctx;         // optional
 *	request->job.lane = lane;       // optional
 *	int rc = evwork_submit(loop, &request->job);
 *
 * An accepted job has exactly one done; a refused one has none, and nothing of
 * it is kept (S-GEN-2). From submit to done the struct is the library's and
 * must stay where it is; when done starts it is the caller's again, to free or
 * to submit anew (S-GEN-7). If it was made anew or freed before that, and the library
 * comes upon it, builds with assertions abort and others leave the job alone, with an
 * error in the log: it has no done then, and its pool cannot be closed (S-CRASH-9).
 */

#include <evwork/guard.h>
#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_ctx;
struct evwork_job;
struct evwork_lane;
struct evwork_loop;

/*
 * The work, on a worker thread, exactly once. What it returns is the status
 * that done gets; to stop early it polls evwork_job_err(). It must return or panic;
 * crash.h says what becomes of work that does neither.
 */
typedef int (*evwork_run_fn)(struct evwork_job *job);

/*
 * The completion, on the thread of the loop named at submit, in a later turn,
 * exactly once, with no lock held. From it every call that does not block is
 * legal, freeing the job, its lane or its loop included (S-GEN-5).
 */
typedef void (*evwork_done_fn)(struct evwork_job *job, int status);

/* For detached jobs, see evwork_job_set_detach(). On the thread of the loop. */
typedef void (*evwork_drop_fn)(struct evwork_job *job);

/* The link of things that are posted to a loop. Private. */
struct evwork_mail {
	struct evwork_mail *_next;
	uint32_t _kind;
	int _status;
};

struct evwork_job {
	struct evwork_mail _mail;
	evwork_run_fn run;           /* must be set */
	/* NULL: no notification, work still runs; the struct must then stay until the
	 * pool is closed or freed. */
	evwork_done_fn done;
	struct evwork_loop *_loop;
	struct evwork_lane *_lane;
	uint32_t _state;
	uint32_t _slot;
	/* Until it runs, its number in the order of submission; after a panic the text. */
	union {
		uint32_t _seq;
		char *_text;
	} _late;
	/* Who may stop it and how long it may take; NULL is the background. */
	struct evwork_ctx *ctx;
	/* Which class of work it is; NULL is the default lane of the loop's pool. */
	struct evwork_lane *lane;
	/* See evwork_job_set_detach(); NULL: the job cannot be detached. */
	evwork_drop_fn drop;
	struct evwork_job *_ctx_next, *_ctx_prev;
	struct evwork_ledger *_ledger;
};

/* evwork_job_init prepares a job; needed once, before its first submit. Sets
 * run and done and clears everything else. */
void evwork_job_init(struct evwork_job *job, evwork_run_fn run, evwork_done_fn done);

/*
 * evwork_submit [any], from work and callbacks too: hands the job over. run
 * will be called on a worker, done on the thread of loop. Never blocks; never
 * runs anything inside the call.
 *
 * What the callbacks of one turn of a loop submit to the loop's own pool is handed
 * to the workers together, in order, at the latest when the turn ends. So a callback
 * must not wait for a job that it has submitted; and what other threads submit
 * before the turn ends may go first.
 *
 * Refusals, after each of which the job is still the caller's and nothing has
 * changed but the counters (S-LANE-2, S-POOL-1, -6, -11, -16):
 * -EINVAL: loop, job or job->run is NULL, or there is no lane: job->lane is NULL
 *	and the loop has no pool.
 * -EBUSY: the job is on its way already.
 * -ECANCELED, -ETIMEDOUT: job->ctx is dead. A short deadline may pass before the
 *	submit: count on this as on a done with that status.
 * -ESHUTDOWN: the lane's pool or the loop is closing. While a pool drains, its
 *	own workers may still submit.
 * what a guard of the lane said.
 * -EAGAIN: the lane's queue is full. What another loop may be about to hand over, up
 *	to 128 jobs, counts as queued. Or the pool has lost all its workers and could not
 *	make one now, see crash.h.
 * -ENOMEM: only for unbounded lanes, and where libevent could not make room for
 *	the timer that keeps the loop alive.
 */
int evwork_submit(struct evwork_loop *loop, struct evwork_job *job);

/*
 * evwork_submit_wait [wait] is evwork_submit that waits for room in the queue
 * instead of returning -EAGAIN, until job->ctx dies or the pool or the loop closes.
 * Guards are asked once there is room; their refusals are returned as they are.
 * -EAGAIN: the pool has no worker, and could not make one now.
 * -EDEADLK: called on a loop's thread, or on a worker of the same pool (S-GEN-6).
 */
int evwork_submit_wait(struct evwork_loop *loop, struct evwork_job *job);

/*
 * evwork_cancel [any] asks for an early end. Exactly one done comes in any case.
 *  0: the job was queued. Its work never runs; done gets -ECANCELED in the next
 *	turn of its loop, even if every worker is blocked (S-POOL-8).
 * -EBUSY: it is running: evwork_job_err() in its work is -ECANCELED from now on,
 *	however often this is called; done gets what work returns (S-POOL-9). Or it
 *	has ended otherwise and done is to come; nothing changes.
 * -EALREADY: it was cancelled in the queue, or abandoned, and done or drop is to
 *	come (S-POOL-10).
 * -ESRCH: it is not on its way; nothing changes. -EINVAL: job is NULL.
 * The job's lane and pool must exist while this call runs.
 */
int evwork_cancel(struct evwork_job *job);

/*
 * evwork_job_err, in work: 0, or -ECANCELED or -ETIMEDOUT as soon as the work
 * should stop: the job was cancelled, its ctx died, its lane's timeout has
 * passed, or the pool is closed with EVWORK_CANCEL_ALL. Cheap enough for inner loops
 * (S-POOL-13). Outside of work it is 0. -EINVAL: job is NULL.
 */
int evwork_job_err(struct evwork_job *job);

/*
 * evwork_job_ran, in done and drop: 1 if work was started, 0 if it surely never
 * was, so that submitting again is safe (S-POOL-3).
 * evwork_job_abandoned, in done: 1 if work still runs, see below.
 */
int evwork_job_ran(const struct evwork_job *job);
int evwork_job_abandoned(const struct evwork_job *job);

/*
 * Detaching. A job whose `drop` is set and that is marked with
 * evwork_job_set_detach(job, 1) does not make its caller wait for work that
 * has become pointless: when it is cancelled or its ctx dies while it runs,
 * done gets the error at once, with evwork_job_abandoned() true. The work goes
 * on, still occupies its worker and its permits, and still uses the struct; so
 * after such a done the struct stays the library's until drop(job) is called on
 * the loop once work has returned. drop takes the late result; there is no
 * second done. Without an abandoned done, drop is not called (S-POOL-14).
 *
 * Call it before submit, or in the job's work around critical sections
 * (S-POOL-15). Off by default; the mark stays when the job is submitted anew.
 * -EINVAL: job is NULL, or on is asked for without a drop function.
 * -EPERM: the job is on its way and this is not its work.
 * -EALREADY: the abandoned done has been sent.
 * -ECANCELED: on was asked for, but the job was cancelled before; the real
 *	outcome will be delivered. (-ETIMEDOUT if that is how its ctx died.)
 */
int evwork_job_set_detach(struct evwork_job *job, int on);

#ifdef __cplusplus
}
#endif

#endif
