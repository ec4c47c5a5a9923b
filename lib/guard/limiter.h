/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUARD_LIMITER_H
#define GUARD_LIMITER_H

#include "base/clock.h"
#include "base/fork.h"
#include "base/list.h"
#include "evwork/lane.h"
#include "evwork/limiter.h"
#include "evwork/timer.h"
#include "guard/bucket.h"
#include "guard/warmup.h"

/* When a reservation acts, exactly: rest units before act_ns, at a rate. If the limiter warms
 * up rest is the number of tokens that were reserved so far, see reservation.c. */
struct limiter_event {
	int64_t act_ns;
	uint64_t rest;
	uint64_t rate;            /* as of limiter_rate_word */
};

struct evwork_limiter {
	/* Fixed at creation. */
	unsigned made_in;         /* fork_here() when it was made */
	struct evwork_clock *clock;
	int64_t slack_ns;
	char name[EVWORK_NAME_MAX];

	/* Covers all below. Taken before a tree's, so before a loop's. */
	sys_mutex mutex;
	/* What waiters want is not taken from it before they get it, and what was reserved
	 * behind them not before they have left: nobody is to wait for who came later. */
	struct evwork_bucket bucket;
	struct warmup warmup;
	struct evwork_limiter_stats stats;
	struct limiter_event last;      /* the last reservation, see reservation.c */

	LIST_OF(struct evwork_limiter_waiter) waiters;    /* first come */
	uint64_t pending;         /* waiters whose callbacks are still to come */
	wide demand;              /* of all waiters, in tokens */
	wide behind;              /* reserved behind waiters, in units */
	int64_t behind_until;     /* when the last of that acts */
	wide slack;               /* how far above the burst waiters may catch up */
	struct evwork_timer alarm;
	struct evwork_loop *alarm_loop;   /* where it was set last, for the head; or NULL */
	int64_t alarm_ns;
};

/* States of a waiter. */
enum { WAIT_IDLE, WAIT_QUEUED, WAIT_DECIDED };

static inline bool limiter_is_inherited(const struct evwork_limiter *limiter)
{
	return limiter->made_in != fork_here();
}

static inline bool limiter_warms_up(const struct evwork_limiter *limiter)
{
	return limiter->warmup.span_ns != 0;
}

/* All of these under the limiter's lock. */

/* Counts a refusal, and passes it through. */
static inline int limiter_count_locked(struct evwork_limiter *limiter, uint64_t *counter, int rc)
{
	if (rc == 0)
		(*counter)++;
	else if (rc != -EINVAL)
		limiter->stats.refused++;
	return rc;
}

/* Brings the bucket to a time, with at most `most` units. */
void limiter_settle_locked(struct evwork_limiter *limiter, wide most, int64_t now);
/* What n tokens cost, to be debited; from now on others are as warm as they make it. */
wide limiter_charge_locked(struct evwork_limiter *limiter, int64_t n);
void limiter_debit_locked(struct evwork_limiter *limiter, wide units);
/* With nobody waiting, if the limiter warms up: as evwork_bucket_take. */
int limiter_take_locked(struct evwork_limiter *limiter, int64_t n, int64_t now);

/* What is in the bucket at a time, without what was reserved behind waiters and what
 * waiters want; false if that is so much that no number holds it. */
bool limiter_free_units_locked(struct evwork_limiter *limiter, int64_t now, wide *ret_units);

int limiter_allow_locked(struct evwork_limiter *limiter, int64_t n, int64_t now);
int limiter_reserve_locked(struct evwork_limiter *limiter, int64_t n, int64_t max_wait_ns,
	int64_t now, struct evwork_reservation *ret_reservation);
void limiter_cancel_locked(struct evwork_limiter *limiter,
	const struct evwork_reservation *reservation, int64_t now);
/* So many tokens are to be there again, as far as they fit. */
void limiter_return_locked(struct evwork_limiter *limiter, int64_t n, int64_t now);

/* A waiter is queued. */
void waiters_enqueue_locked(struct evwork_limiter *limiter, struct evwork_limiter_waiter *waiter);
/* It leaves the queue: what was reserved behind it is behind the one before it now, or
 * behind nobody. */
void waiters_dequeue_locked(struct evwork_limiter *limiter, struct evwork_limiter_waiter *waiter);
/* It has left the queue, and is to be called with result. */
void waiters_decide_locked(struct evwork_limiter_waiter *waiter, int result);
/* With waiters: brings the bucket to now. */
void waiters_settle_locked(struct evwork_limiter *limiter, int64_t now);
/* Something was reserved behind the last waiter, for act_ns; or part of that given back,
 * from the last on. */
void waiters_reserve_locked(struct evwork_limiter *limiter, wide cost, int64_t act_ns);
void waiters_give_back_locked(struct evwork_limiter *limiter, wide units);
/* Those who want more than the burst end. */
void waiters_end_larger_locked(struct evwork_limiter *limiter, int64_t burst);
/* The units have become 2^by times as many. */
void waiters_rescale_locked(struct evwork_limiter *limiter, int by);
/* Grants what can be, and sets the alarm for what comes next. */
void waiters_serve_locked(struct evwork_limiter *limiter, int64_t now);
/* Prepares the alarm. */
void waiters_init(struct evwork_limiter *limiter);

#endif
