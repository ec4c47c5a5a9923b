/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_LIMITER_H
#define EVWORK_LIMITER_H

/*
 * Rate limiters: a token bucket (evwork/bucket.h) with a clock, for any number of
 * threads, that also lets callers wait for their turn.
 *
 *	evwork_limiter_new(100, 20, NULL, &limiter);            // 100/s, 20 at once
 *	if (evwork_limiter_allow(limiter, 1) != 0)              // refuse what is too much
 *	        return reply_too_many(request);
 *
 *	evwork_limiter_wait(limiter, 1, ctx, loop, &request->turn);     // or let it wait
 *
 * A lane takes one as a guard: the jobs of the lane are then refused, or held until it is
 * their turn, see evwork_limiter_guard_init() below. One limiter for each client is
 * evwork/limiter_table.h.
 *
 * Every call is [any] (S-LIM-14). What the bucket promises holds here: it starts full,
 * tokens(t) = min(burst, tokens + rate * elapsed) exactly; rates may be 0 or infinite.
 * The clock is read under the limiter's lock, so that threads that race cannot give times
 * out of order; the forms with _at take the time from the caller, in nanoseconds of the
 * limiter's clock, and an older one than before as the bucket does (S-LIM-5).
 *
 * Warm-up (S-LIM-17) is for a far end that is slow after a rest, as its caches are cold
 * then. With the option warmup_ms a limiter becomes cold while its bucket is full, and is
 * entirely so after that time; it is made cold. A grant then costs more than its tokens: up
 * to three times their time if it is cold, and less with each token that was taken, down
 * to the usual when as many were taken as come in half of warmup_ms. At a constant demand that
 * takes warmup_ms. The tokens come in time, it is the next ones that come later: what a
 * grant costs more is a debt of the bucket. With 2/s, a burst of 1 and 4 s, the grants of a
 * cold limiter are 1.375, 1.125, 0.875, 0.625, and then 0.5 s apart. This is the rule of
 * Guava's SmoothWarmingUp. A burst of more than 1 passes at once as ever, and is paid for
 * afterwards. A reservation pays when it is made: waiters that came before it then pay for
 * the warmer tokens, and may come earlier, while its own time is as if they had not. Each
 * time is less than 2 ns off what the rule says, if warmup_ms is less than 36 years, and so
 * is their sum until the limiter has been idle again; those of a warm one are exact.
 *
 * libevent has rate limits of its own, ev_token_bucket_cfg, for the bytes of bufferevents.
 * They are neither used nor disturbed, and both can be in one program (S-LIM-18). They
 * count bytes in whole ticks of usually a second, know no order among those who wait, no
 * reservations and no deadlines, and are of no use to workers.
 */

#include <evwork/ctx.h>
#include <evwork/guard.h>
#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_clock;
struct evwork_limiter;
struct evwork_limiter_waiter;

#define EVWORK_SLACK_MS_DEFAULT 10
/* slack_ms: none. */
#define EVWORK_NO_SLACK (-1)

/* All zero means the defaults. */
struct evwork_limiter_options {
	/* Copied, at most 63 bytes of it; NULL is "limiter" (S-OBS-8). */
	const char *name;
	/* A manual clock, see evwork/clock.h; NULL is the system's (S-GEN-13). */
	struct evwork_clock *clock;
	/*
	 * How late a loop may be without loss for those who wait: what it missed is caught
	 * up, so that in any time T up to burst + rate * (T + slack) tokens are granted to
	 * them. What was missed beyond that is forfeited, or a loop that stalled would let
	 * everything through at once (S-LIM-13). 0 is 10 ms.
	 */
	int64_t slack_ms;
	/*
	 * How long a cold limiter takes to reach its rate at constant demand, and an idle one to
	 * become cold, see above; 0 is no warm-up. Where more than 2^60 tokens would come in
	 * that time, it is as long as those take.
	 */
	int64_t warmup_ms;
};

/*
 * evwork_limiter_new makes a limiter of rate tokens a second, INFINITY for no limit, that
 * passes burst of them at once.
 * -EINVAL: rate is negative or not a number; burst is negative; slack_ms is below
 * EVWORK_NO_SLACK; warmup_ms is negative; ret_limiter is NULL. -ENOMEM.
 */
int evwork_limiter_new(double rate, int64_t burst, const struct evwork_limiter_options *options,
	struct evwork_limiter **ret_limiter);

/*
 * evwork_limiter_free: NULL is fine. Guards and tables that use the limiter must be gone,
 * and so must its clock not be. -EBUSY: somebody waits, or his callback is still to come.
 */
int evwork_limiter_free(struct evwork_limiter *limiter);

/* evwork_limiter_name: the copied name; the limiter's own memory. NULL for NULL. */
const char *evwork_limiter_name(const struct evwork_limiter *limiter);

/*
 * evwork_limiter_allow takes n tokens if there are as many; n = 0 takes nothing, and fails
 * only in debt (S-LIM-2). A refusal changes nothing.
 * -EINVAL: limiter is NULL, n is negative. -ERANGE: n is more than the burst. -EAGAIN:
 * there are not as many, or somebody waits, who comes first (S-LIM-10).
 */
int evwork_limiter_allow(struct evwork_limiter *limiter, int64_t n);
int evwork_limiter_allow_at(struct evwork_limiter *limiter, int64_t n, int64_t now_ns);


/* Reservations: to act later, at a time that is promised. */

/* A caller-owned reservation; it need not be given back. */
struct evwork_reservation {
	int64_t act_ns;               /* when to act, on the limiter's clock */
	/* Private. */
	struct evwork_limiter *_limiter;
	int64_t _n;
	uint64_t _rest, _rate;
	uint32_t _state;
};

/*
 * evwork_limiter_reserve takes n tokens in any case, and stores in ret_reservation when to
 * act: now, or when the debt will be paid. That time never moves, whatever happens to
 * rate and burst. Refused, and nothing taken, if it is more than max_wait_ns away;
 * EVWORK_NEVER takes any.
 * -EINVAL: limiter or ret_reservation is NULL, n is negative. -ERANGE: n is more than the
 * burst, or than what is stored while the rate is 0. -ETIMEDOUT: the wait is longer than
 * max_wait_ns, or would never end.
 */
int evwork_limiter_reserve(struct evwork_limiter *limiter, int64_t n, int64_t max_wait_ns,
	struct evwork_reservation *ret_reservation);
int evwork_limiter_reserve_at(struct evwork_limiter *limiter, int64_t n, int64_t max_wait_ns,
	int64_t now_ns, struct evwork_reservation *ret_reservation);

/*
 * evwork_reservation_cancel says that the caller will not act. Before its time, or at it,
 * this gives back n tokens less those that were reserved after it, since their times
 * are promised: as many as came between its time and that of the last reservation, at the
 * rate that it was made with. Afterwards it gives back nothing, nor does it ever fill the
 * bucket above its burst (S-LIM-4). A limiter that warms up counts the tokens that were
 * reserved after it, whatever they cost, and becomes as cold as if those that it gives back
 * had not been taken. The limiter must exist.
 * -EINVAL: reservation is NULL. -ESRCH: it is all zero. -EALREADY: it was cancelled.
 */
int evwork_reservation_cancel(struct evwork_reservation *reservation);
int evwork_reservation_cancel_at(struct evwork_reservation *reservation, int64_t now_ns);


/* Waiting, with a callback. */

/*
 * On the waiter's loop, once, in a turn after it was decided, and the waiter is the
 * caller's again: 0, when its tokens were taken for it; the error of its context;
 * -ECANCELED if it was cancelled or the loop closed; -ERANGE if the burst became
 * smaller than n. In the errors nothing was taken. It may free the limiter, if it was the
 * last.
 */
typedef void (*evwork_limiter_fn)(struct evwork_limiter_waiter *waiter, int status);

/* A caller-owned waiter, pending from evwork_limiter_wait() to its callback. */
struct evwork_limiter_waiter {
	evwork_limiter_fn fn;
	/* Private. */
	struct evwork_limiter_waiter *_next, *_prev;
	struct evwork_watch _watch;
	struct evwork_limiter *_limiter;
	struct evwork_loop *_loop;
	struct evwork_ctx *_ctx;
	int64_t _n;
	int64_t _behind_high;
	uint64_t _behind_low;
	uint32_t _state;
	int _result, _here;
};

/* evwork_limiter_waiter_init prepares a waiter; needed once, before its first use. */
void evwork_limiter_waiter_init(struct evwork_limiter_waiter *waiter, evwork_limiter_fn fn);

/*
 * evwork_limiter_wait calls waiter->fn on loop when n tokens have been taken for it, never
 * before they are there, and never inside this call. Waiters are served first come, first
 * served; a large one is not overtaken by smaller ones (S-LIM-10), and when one leaves
 * those behind it move up at once (S-LIM-11). A waiter keeps the loop's base running,
 * if it was set on the loop's thread. While the rate is 0 it waits for another rate, or
 * for the end of ctx (S-LIM-7).
 * -EINVAL: limiter, loop, waiter or its fn is NULL, n is negative, or loop and limiter have
 * different clocks. -EBUSY: the waiter is pending. -ESHUTDOWN: loop is closing. -ERANGE: n
 * is more than the burst. -ECANCELED, -ETIMEDOUT: ctx is dead; or its deadline, if that is on
 * the same clock, comes before the tokens can be there (S-LIM-9). -ENOMEM.
 */
int evwork_limiter_wait(struct evwork_limiter *limiter, int64_t n, struct evwork_ctx *ctx,
	struct evwork_loop *loop, struct evwork_limiter_waiter *waiter);

/*
 * evwork_limiter_waiter_cancel ends the wait; its callback comes with -ECANCELED. Who uses
 * one waiter on several threads orders that himself.
 * -EINVAL: waiter is NULL. -ESRCH: it is not pending. -EALREADY: how it ends was decided
 * before.
 */
int evwork_limiter_waiter_cancel(struct evwork_limiter_waiter *waiter);


/* Changing and asking. */

/*
 * evwork_limiter_set_rate and evwork_limiter_set_burst settle the bucket under the old
 * value first. A smaller burst discards what is above it at once, a larger one adds
 * nothing. Those who wait get new times, and -ERANGE if they want more than the new burst;
 * reservations keep theirs (S-LIM-12). One that warms up stays as cold as it is, in
 * relation to warmup_ms; but it is cold if the rate was 0, and warm if that was infinite.
 * -EINVAL as for evwork_limiter_new.
 */
int evwork_limiter_set_rate(struct evwork_limiter *limiter, double rate);
int evwork_limiter_set_rate_at(struct evwork_limiter *limiter, double rate, int64_t now_ns);
int evwork_limiter_set_burst(struct evwork_limiter *limiter, int64_t burst);
int evwork_limiter_set_burst_at(struct evwork_limiter *limiter, int64_t burst, int64_t now_ns);

/*
 * evwork_limiter_tokens: whole tokens, rounded down, what waiters want counted as taken,
 * so that it may be negative, as it may be after a grant that was made cold; INT64_MAX if
 * the rate is infinite.
 * evwork_limiter_retry_after: nanoseconds until n tokens are there if nobody else takes
 * any; 0, or EVWORK_NEVER at rate 0. evwork_limiter_reset_after: until the bucket is full.
 * -EINVAL: an argument is NULL, n is negative. -ERANGE: n is more than the burst.
 */
int evwork_limiter_tokens(struct evwork_limiter *limiter, int64_t *ret_tokens);
int evwork_limiter_retry_after(struct evwork_limiter *limiter, int64_t n, int64_t *ret_ns);
int evwork_limiter_reset_after(struct evwork_limiter *limiter, int64_t *ret_ns);

/* A snapshot of the counters, all taken at one instant (S-OBS-6). */
struct evwork_limiter_stats {
	uint64_t allowed;     /* calls that took what they asked for, guards included */
	uint64_t reserved;    /* calls that reserved it */
	uint64_t refused;     /* calls of either kind, or to wait, that got another answer than
	                       * -EINVAL, -EBUSY, -ESHUTDOWN or -ENOMEM */
	uint64_t waiting;     /* waiters now, a gauge */
	uint64_t granted;     /* waiters that got their tokens */
	uint64_t cancelled;   /* waiters that ended without them */
	uint64_t returned;    /* reservations that were cancelled */
};

/* evwork_limiter_stats. -EINVAL: an argument is NULL. */
int evwork_limiter_stats(struct evwork_limiter *limiter, struct evwork_limiter_stats *ret_stats);


/* A limiter as the guard of lanes. */

enum evwork_limiter_mode {
	EVWORK_LIMITER_REFUSE,   /* too much is refused: submit says -EAGAIN */
	EVWORK_LIMITER_WAIT      /* too much is held: the job starts when it may (S-LANE-6) */
};

/* All zero means the defaults. */
struct evwork_limiter_guard_options {
	enum evwork_limiter_mode mode;
	/* Tokens for each job; 0 is 1. */
	int64_t cost;
	/* Tokens for this one, instead; called as acquire of a guard is. May be NULL. */
	int64_t (*cost_of)(const struct evwork_job *job);
	/* EVWORK_LIMITER_WAIT: jobs that would have to wait longer are refused with -ETIMEDOUT;
	 * 0 is no such limit. */
	int64_t max_wait_ms;
};

/* A caller-owned guard; it must outlive every lane that names it, and the limiter must
 * outlive it. */
struct evwork_limiter_guard {
	struct evwork_guard guard;
	/* Private. */
	struct evwork_limiter *_limiter;
	struct evwork_limiter_guard_options _options;
};

/*
 * evwork_limiter_guard_init makes a guard of a limiter; any number of lanes may name it,
 * and a limiter may have several. Submitting to such a lane gives, beside its own
 * refusals, those of evwork_limiter_allow() or evwork_limiter_reserve(); and -EINVAL if
 * limiter and pool have different clocks.
 *
 * A job that never runs gives back what it took; if it was held as evwork_reservation_cancel()
 * would: nothing after its time, and not what others have reserved after it.
 *
 * -EINVAL: guard or limiter is NULL, an option is out of range.
 */
int evwork_limiter_guard_init(struct evwork_limiter_guard *guard, struct evwork_limiter *limiter,
	const struct evwork_limiter_guard_options *options);

#ifdef __cplusplus
}
#endif

#endif
