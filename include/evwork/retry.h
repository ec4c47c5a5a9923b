/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_RETRY_H
#define EVWORK_RETRY_H

/*
 * Calls that may fail and are tried again, or made several times at once: retries, the
 * budget that keeps them from making an overload worse, and hedges.
 *
 * An operation is either work, which runs on a worker as a job of a lane, or something that
 * the loop itself does, such as a request on a bufferevent: it is started there and ended by
 * evwork_attempt_end(). Each attempt passes the lane's guards by itself (S-RTY-14).
 *
 *	struct fetch { struct evwork_retry retry; ... };
 *
 *	static void fetch_start(struct evwork_attempt *attempt, void *arg)    // on the loop
 *	{
 *		struct fetch *fetch = arg;
 *		fetch->attempt = attempt;
 *		request_send(fetch->request, on_answer, fetch);
 *	}
 *	static void on_answer(struct fetch *fetch, int status)
 *	{
 *		evwork_attempt_end(fetch->attempt, status);
 *	}
 *
 *	evwork_retry_init(&fetch->retry, policy, fetch_done);
 *	fetch->retry.op.start = fetch_start;
 *	fetch->retry.op.arg = fetch;
 *	fetch->retry.ctx = ctx;
 *	evwork_retry_start(loop, &fetch->retry);
 */

#include <stddef.h>
#include <stdint.h>

#include <evwork/ctx.h>
#include <evwork/lane.h>
#include <evwork/loop.h>
#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_attempt;
struct evwork_budget;
struct evwork_hedge;
struct evwork_retry;
struct evwork_retry_policy;

/* An operation: one of the two functions is set. */
struct evwork_op {
	/* On a worker; what it returns is the status. The rules of jobs hold, see job.h. */
	int (*run)(struct evwork_attempt *attempt, void *arg);
	/* On the loop; the attempt lasts until evwork_attempt_end(). */
	void (*start)(struct evwork_attempt *attempt, void *arg);
	/* On the loop, or where the loop was freed by force on any thread: an attempt that
	 * was abandoned has ended, see evwork_retry_options.overlap. May be NULL. */
	void (*drop)(struct evwork_attempt *attempt, int status, void *arg);
	void *arg;
	struct evwork_lane *lane;     /* for run; NULL: the default lane of the loop's pool */
};

/*
 * [any] From the start of an attempt until run returns, or evwork_attempt_end() is called; no
 * longer. NULL gives NULL, 0 or -EINVAL.
 *
 * evwork_attempt_end ends an attempt that was given to start, exactly once; what follows from
 * it comes in a later turn. -EINVAL: it is one of run. -EALREADY: ended, but not over yet.
 * evwork_attempt_ctx is its context, which dies when it should stop.
 * evwork_attempt_job is the job of run, for evwork_defer() and evwork_panic(); else NULL.
 * evwork_attempt_number counts from 1.
 * evwork_attempt_permanent marks its failure as one that is not tried again.
 * evwork_attempt_push_back names the delay until the next attempt (S-RTY-10): no jitter, no
 * cap, and after it delays begin at the base again. Negative: do not try again.
 */
int evwork_attempt_end(struct evwork_attempt *attempt, int status);
struct evwork_ctx *evwork_attempt_ctx(struct evwork_attempt *attempt);
struct evwork_job *evwork_attempt_job(struct evwork_attempt *attempt);
int evwork_attempt_number(struct evwork_attempt *attempt);
int evwork_attempt_permanent(struct evwork_attempt *attempt);
int evwork_attempt_push_back(struct evwork_attempt *attempt, int64_t delay_ms);

/*
 * Budgets: how many retries and hedges there may be beside the first attempts, over all that
 * share one. There are two kinds, which are used in one way.
 *
 * evwork_budget_new: so many over time (S-RTY-11). Each call deposits `ratio`;
 * min_per_second is there anyway; each retry or further copy withdraws 1. Deposits and
 * withdrawals are forgotten after ttl_ms, or a hundredth of it before.
 *
 * evwork_budget_new_concurrent: so many at once (S-RTY-13). While `active` calls are under
 * way, at most `ratio` of them, rounded down, or `min` if that is more, may be retries or
 * further copies. Each counts from the decision to make it, so also in the delay before it,
 * until it has really ended, an abandoned one too.
 *
 * Retries and hedges keep the ledger themselves: a retry is active from its first attempt to
 * its done, a hedge until it has drained. The last five functions are for other calls.
 *
 * evwork_budget_new, evwork_budget_new_concurrent [any]. clock NULL is the system's.
 * -EINVAL: ret_budget is NULL, ratio is not 0 to 10, min_per_second not 0 to 1e9, ttl_ms not
 * 1000 to 60000, min is negative. -ESHUTDOWN: the clock is the parent's. -ENOMEM.
 * evwork_budget_free [any], once no policy has it. NULL is fine. -EBUSY: calls are active, or
 * something that was withdrawn is not given back.
 * evwork_budget_enter [any]: a call begins. -EINVAL: budget is NULL.
 * evwork_budget_leave [any]: it has ended. -EINVAL. -ESRCH: none is active.
 * evwork_budget_withdraw [any], before an attempt that is not the first: 0, or -EAGAIN: not
 * enough, and nothing was changed. -EINVAL.
 * evwork_budget_give_back [any]: that attempt has ended, or was not made after all; once for
 * each withdrawal. Of what is counted over time it gives nothing back. -EINVAL. -ESRCH:
 * nothing is out.
 * evwork_budget_balance [any]: whole withdrawals that could be made now. -EINVAL.
 */
int evwork_budget_new(double ratio, double min_per_second, int64_t ttl_ms,
	struct evwork_clock *clock, struct evwork_budget **ret_budget);
int evwork_budget_new_concurrent(double ratio, int min, struct evwork_budget **ret_budget);
int evwork_budget_free(struct evwork_budget *budget);
int evwork_budget_enter(struct evwork_budget *budget);
int evwork_budget_leave(struct evwork_budget *budget);
int evwork_budget_withdraw(struct evwork_budget *budget);
int evwork_budget_give_back(struct evwork_budget *budget);
int64_t evwork_budget_balance(struct evwork_budget *budget);

/* What others use for the second kind: a fifth, and 3 where that is less. */
#define EVWORK_BUDGET_RATIO_DEFAULT 0.2
#define EVWORK_BUDGET_MIN_DEFAULT 3

/* How delays are spread, d being the one without jitter (S-RTY-4). */
enum evwork_jitter {
	EVWORK_JITTER_FULL,           /* from 0 to d */
	EVWORK_JITTER_NONE,           /* d */
	EVWORK_JITTER_EQUAL,          /* from d/2 to d */
	EVWORK_JITTER_DECORRELATED,   /* from the base to 3 times the last delay */
	EVWORK_JITTER_SPREAD          /* from d * (1 - spread) to d * (1 + spread) */
};

/* Why a retry stopped. */
enum evwork_retry_reason {
	EVWORK_RETRY_OK,              /* the last attempt succeeded */
	EVWORK_RETRY_ATTEMPTS,        /* there were max_attempts */
	EVWORK_RETRY_PERMANENT,       /* its error is not retried */
	EVWORK_RETRY_DEADLINE,        /* the next could not begin before the ctx ends */
	EVWORK_RETRY_CTX,             /* the ctx died, or it was cancelled */
	EVWORK_RETRY_BUDGET,          /* the budget is empty */
	EVWORK_RETRY_SHUTDOWN,        /* the loop or the pool is closing */
	EVWORK_RETRY_MEMORY,          /* there was none to wait with */
	EVWORK_RETRY_REASONS
};

#define EVWORK_RETRY_ATTEMPTS_DEFAULT 3
#define EVWORK_RETRY_BASE_MS_DEFAULT 100
#define EVWORK_RETRY_CAP_MS_DEFAULT 10000
#define EVWORK_OVERLAP_MAX 64

/* All zero means the defaults. */
struct evwork_retry_options {
	int max_attempts;             /* the first counts; 0 is 3 (S-RTY-1) */
	/* The delay before the k-th retry is base * factor^(k-1), but never more than cap,
	 * jitter included (S-RTY-3, S-RTY-5). 0 is 100 ms, 10 s (or the base if that is
	 * more) and 2. */
	int64_t base_ms, cap_ms;
	double factor;
	int no_delay;                 /* a base of 0; base_ms must be 0 */
	enum evwork_jitter jitter;
	double spread;                /* 0 to 1, for EVWORK_JITTER_SPREAD */
	uint64_t seed;                /* of the jitter, for tests; 0 is a random one */
	/* Each attempt's own deadline: its ctx dies then, and the next attempt waits until it
	 * has ended (S-RTY-2). 0: none. */
	int64_t attempt_timeout_ms;
	/* An attempt whose time is over is abandoned instead: it counts as failed with
	 * -ETIMEDOUT, the next may begin while it still runs, and what it leads to in the end
	 * goes to op.drop, which may come after done; what op.arg points to must stay until
	 * then. Needs a time limit, at most EVWORK_OVERLAP_MAX attempts, and `idempotent`: the
	 * operation may be done twice (S-RTY-16). */
	int overlap, idempotent;
	/* NULL: none. Stays as long as the policy, and until attempts that were abandoned have
	 * ended. */
	struct evwork_budget *budget;
	/* Whether to try again after this error of the n-th attempt, on the loop. NULL: after
	 * EAGAIN, ETIMEDOUT, ECONNREFUSED, ECONNRESET, EPIPE, EHOSTUNREACH, ENETUNREACH (all
	 * negated). After ECANCELED, EINVAL, ERANGE, ESHUTDOWN, EHOSTDOWN and EOWNERDEAD it is
	 * never asked (S-RTY-7, S-CRASH-4). */
	int (*retryable)(int status, int attempt, void *arg);
	/* On the loop before each delay (S-RTY-15). */
	void (*on_retry)(struct evwork_retry *retry, int attempt, int status, int64_t delay_ns,
		void *arg);
	void *arg;                    /* for both */
};

/*
 * evwork_retry_policy_new [any] makes a policy, which any number of retries share; the
 * options are copied. -EINVAL: an argument is NULL, or a value out of range; cap below base;
 * overlap without what it needs.
 * -ENOMEM.
 * evwork_retry_policy_free [any]. NULL is fine. -EBUSY: retries use it.
 */
int evwork_retry_policy_new(const struct evwork_retry_options *options,
	struct evwork_retry_policy **ret_policy);
int evwork_retry_policy_free(struct evwork_retry_policy *policy);

struct evwork_retry_stats {
	uint64_t attempts, retries;
	uint64_t stops[EVWORK_RETRY_REASONS];
};

/* evwork_retry_policy_stats [any], of all retries of the policy (S-OBS-6). -EINVAL. */
int evwork_retry_policy_stats(struct evwork_retry_policy *policy,
	struct evwork_retry_stats *ret_stats);

/* On the loop, once: 0, or the last error; or the error of the ctx, if that died or the retry
 * was cancelled and the last attempt had not succeeded (S-RTY-9). The struct is the caller's
 * again. */
typedef void (*evwork_retry_done_fn)(struct evwork_retry *retry, int status);

/* A caller-owned retry; pending from start to done. */
struct evwork_retry {
	struct evwork_op op;
	struct evwork_retry_policy *policy;
	evwork_retry_done_fn done;
	struct evwork_ctx *ctx;       /* NULL: background */
	/* For done. */
	int attempts;                 /* how many were made */
	int last_error;               /* of the last attempt that failed, or 0 */
	enum evwork_retry_reason reason;
	/* Private. */
	struct evwork_retry_call *_call;
};

/* evwork_retry_init prepares a retry; needed once. The op is to be filled in. */
void evwork_retry_init(struct evwork_retry *retry, struct evwork_retry_policy *policy,
	evwork_retry_done_fn done);

/*
 * evwork_retry_start [any]: the first attempt begins in a later turn of loop. As long as it
 * is pending it counts like a job of the loop. If the loop is freed by force there is no
 * done, and the struct stays in use until the attempt that is out has ended.
 * -EINVAL: an argument, the policy or done is NULL, or not exactly one function of op is set.
 * -EBUSY: it is pending. -ESHUTDOWN: the loop is closing. -ECANCELED, -ETIMEDOUT: the ctx is
 * dead. -ENOMEM.
 */
int evwork_retry_start(struct evwork_loop *loop, struct evwork_retry *retry);

/* evwork_retry_cancel [any] has it end as if its ctx was cancelled. The policy must exist.
 * -EINVAL: retry or its policy is NULL. -ESRCH: not pending. -EALREADY: cancelled before. */
int evwork_retry_cancel(struct evwork_retry *retry);

/* Hedges. */

/* On the hedge's loop, once each, in this order. done: 0 for the first success, whose number
 * is hedge->winner; or an error. drained: no copy runs any more, and the struct is the
 * caller's again. */
typedef void (*evwork_hedge_fn)(struct evwork_hedge *hedge, int status);

#define EVWORK_HEDGE_COPIES_MAX 64

/* A caller-owned hedge; pending from start to drained. */
struct evwork_hedge {
	struct evwork_op op;
	int copies;                   /* at most; 1 is a plain call (S-RTY-16) */
	int64_t delay_ms;             /* from one copy to the next */
	int idempotent;               /* must be set: the operation may be done twice */
	struct evwork_ctx *ctx;       /* NULL: background */
	struct evwork_budget *budget; /* copies beyond the first withdraw; NULL: none (S-RTY-19) */
	/* Whether an error ends the call at once, on the loop; NULL: those after which no
	 * policy retries, see evwork_retry_options.retryable. */
	int (*fatal)(int status, void *arg);
	evwork_hedge_fn done;         /* must be set */
	evwork_hedge_fn drained;      /* may be NULL; its status is that of done */
	/* For done and drained. */
	int launched, refused;        /* copies that were started, and not for the budget */
	int winner;                   /* the number of the copy that succeeded, or 0 */
	/* Private. */
	uintptr_t _call;
	unsigned _made_in;
};

/*
 * evwork_hedge_start [any]: the first copy begins in a later turn; while the call is
 * undecided the next begins delay_ms after it, or at once when a copy fails (S-RTY-18). The
 * first success or fatal error decides; the other copies' ctxs are cancelled then, and their
 * results are dropped (S-RTY-17). When all have failed it is the first failure. When ctx
 * dies no copy is begun, and it is the error of ctx unless one of those that run
 * succeeds (S-RTY-20). Where the loop is freed by force the same holds as for retries.
 * The struct must be all zero before it is filled in for the first time.
 * -EINVAL: an argument or done is NULL, op is not one function, copies is not 1 to
 * EVWORK_HEDGE_COPIES_MAX, delay_ms is negative, or idempotent is not set with more than
 * one copy. -EBUSY, -ESHUTDOWN, -ECANCELED, -ETIMEDOUT, -ENOMEM as evwork_retry_start().
 */
int evwork_hedge_start(struct evwork_loop *loop, struct evwork_hedge *hedge);

/*
 * evwork_hedge_cancel [any] has it end as if its ctx was cancelled: no copy is begun, those
 * that run are told to stop, and done has -ECANCELED unless one of them succeeds. It may race
 * with all that happens to the hedge; the struct must exist, and be all zero or have been
 * started before.
 * -EINVAL: hedge is NULL. -ESRCH: not pending. -EALREADY: cancelled before, its ctx is dead,
 * or it is decided and only drains.
 */
int evwork_hedge_cancel(struct evwork_hedge *hedge);

#ifdef __cplusplus
}
#endif

#endif
