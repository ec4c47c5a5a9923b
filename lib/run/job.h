/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef RUN_JOB_H
#define RUN_JOB_H

#include "base/sys.h"
#include "run/pool.h"
#include "evwork/job.h"

/*
 * The state of a job is one word, job->_state: a phase and flags.
 *
 *	                    ┌────────── cancel, death of ctx, close ───────────┐
 *	                    │                                                  ▼
 *	IDLE ──submit──► QUEUED ──start──► RUNNING ──work returns──────────► ENDED ──done──► IDLE
 *	                                      │                                              ▲
 *	                                      └─detached─► ABANDONED ──done, return, drop────┘
 *
 *	from       to         who                      how
 *	IDLE       QUEUED     the submitter            under the pool's lock
 *	QUEUED     RUNNING    the worker               under its own lock, which covers
 *	                                               the jobs it has set aside
 *	QUEUED     ENDED      cancel, ctx, close       under the pool's lock, and the worker's
 *	                                               for a job set aside
 *	RUNNING    ENDED      the worker               store, or CAS if it can be detached
 *	RUNNING    ABANDONED  cancel, ctx              CAS
 *	ENDED      IDLE       the loop                 store
 *	ABANDONED  IDLE       the loop                 store
 *
 * Work that panics or ends its thread is followed by the same as work that returns, see
 * crash.c and replace.c. A queued job's next phase is decided under the lock of what holds it, a running
 * detachable job's by compare-and-swap: in both cases the first wins and the
 * other does nothing. Who makes the job ENDED or ABANDONED posts it, once.
 */
enum job_phase {
	JOB_IDLE, JOB_QUEUED, JOB_RUNNING, JOB_ENDED, JOB_ABANDONED
};

/* What a worker has to look at beyond calling run. */
#define JOB_SPECIAL (JOB_CTX | JOB_LEDGER | JOB_DROP | JOB_DESCRIBED)

#define JOB_PHASE      0x0fu
#define JOB_OWN        0x10u     /* counts as the loop's own */
#define JOB_CTX        0x20u     /* holds a reference to its context */
#define JOB_LEDGER     0x40u
#define JOB_DETACH     0x80u     /* may be abandoned now */
#define JOB_RAN        0x100u
#define JOB_CANCEL     0x200u    /* cancel was called while it ran */
#define JOB_CANCELLED  0x400u    /* cancel ended it in the queue */
#define JOB_LEFT       0x800u    /* was abandoned */
#define JOB_RETURNED   0x1000u   /* work returned after it was abandoned */
#define JOB_TOLD       0x2000u   /* the abandoned done has been delivered */
#define JOB_STAGED     0x4000u   /* queued, but still on the loop's stage */
#define JOB_DROP       0x8000u   /* has a drop function: may ever be abandoned */
#define JOB_DESCRIBED  0x10000u  /* its lane knows a name for it */
#define JOB_PANICKED   0x20000u  /* has the text of a panic */

static inline uint32_t job_state(const struct evwork_job *job)
{
	/* Acquire: pairs with the release of every change, so that who sees a phase
	 * sees the fields that belong to it. */
	return __atomic_load_n(&job->_state, __ATOMIC_ACQUIRE);
}

static inline void job_set_state(struct evwork_job *job, uint32_t state)
{
	__atomic_store_n(&job->_state, state, __ATOMIC_RELEASE);
}

static inline bool job_swap_state(struct evwork_job *job, uint32_t *expected, uint32_t state)
{
	return __atomic_compare_exchange_n(&job->_state, expected, state, false,
			__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static inline enum job_phase job_phase_of(uint32_t state)
{
	return (enum job_phase)(state & JOB_PHASE);
}

/* [any, under the lock of the tree] The context died: true if this ended the job,
 * queued or detached; the caller then posts it with job_post_all. */
bool job_stop_by_ctx(struct evwork_job *job, int err);

/* Jobs that were ended under a lock, in the order in which they are to be posted once it
 * is left, linked through their mail. All zero is none. */
struct job_chain {
	struct evwork_mail *first, *last;
};

static inline void job_chain_add(struct job_chain *chain, struct evwork_job *job)
{
	job->_mail._next = NULL;
	if (chain->last)
		chain->last->_next = &job->_mail;
	else
		chain->first = &job->_mail;
	chain->last = &job->_mail;
}

/* [any, no lock held] Posts jobs that were ended. */
void job_post_all(const struct job_chain *chain);
/* [any, no lock held] The rest of the way of a job withdrawn from the queue. */
void job_end_withdrawn(struct evwork_job *job, int status);

/* [any] Cancels a running job, which cannot end meanwhile: true if this abandoned
 * it; the caller then calls job_post_abandoned. */
bool job_cancel_running(struct evwork_job *job);
void job_post_abandoned(struct evwork_job *job);

/* [worker, under the lock of the tree] Work is about to be called. */
void job_mark_ran(struct evwork_job *job);

/*
 * [worker] Runs the work of a special job, unless it turns out to be dead, and ends
 * the job: true if it is to be posted.
 */
bool job_execute(struct worker *worker, struct evwork_job *job, uint32_t state);
/* [worker] The second half of that, from where work has ended. */
bool job_finish(struct worker *worker, struct evwork_job *job, uint32_t state, int status,
	bool ran);

/* [worker] Calls the deferred functions of the current job, see crash.c. */
void crash_call_deferred(struct worker *worker);

/* [worker] Calls work. Does not come back if that panics or ends its thread. */
static inline int job_call(struct worker *worker, struct evwork_job *job)
{
	int status;

	worker_begin_work(worker, job);
	status = job->run(job);
	if (__builtin_expect(worker->deferred != NULL, 0))
		crash_call_deferred(worker);
	worker_end_work(worker);
	return status;
}

/* [worker] Ends a job whose work ran and which nothing else can end. A cancel that
 * comes in between changes nothing that matters. */
static inline void job_end(struct evwork_job *job, uint32_t state, int status)
{
	job->_mail._status = status;
	job_set_state(job, (state & ~JOB_PHASE) | JOB_ENDED | JOB_RAN);
}

/* [loop] Delivers a job in this state. */
void job_deliver(struct evwork_loop *loop, struct evwork_job *job, uint32_t state);

#endif
