/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_BREAKER_H
#define EVWORK_BREAKER_H

/*
 * Circuit breakers: what keeps calls from a dependency that fails anyway. A breaker
 * hears how calls end; when too many fail, or take too long, it opens, and calls are
 * refused at once. After a while it lets some through for trial, which decide whether it
 * closes again.
 *
 * As a guard of a lane it needs no further call: submits are refused with -EHOSTDOWN, or
 * -EBUSY while all trials are out, and jobs report how they end and how long they ran.
 *
 *	struct evwork_breaker_options options = { 0 };
 *	evwork_breaker_new(&options, &breaker);
 *	struct evwork_guard *guards[] = { evwork_breaker_guard(breaker) };
 *	lane_options.guards = guards;
 *	lane_options.guard_count = 1;
 *
 * For calls of your own:
 *
 *	struct evwork_breaker_permit permit = { 0 };       // in the struct of the call
 *	int rc = evwork_breaker_acquire(breaker, &permit);
 *	...
 *	evwork_breaker_report_status(&permit, status, duration_ns);
 */

#include <stddef.h>

#include <evwork/guard.h>
#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_breaker;
struct evwork_clock;
struct evwork_loop;

/*
 *	        over a threshold              the wait is over
 *	CLOSED ────────────────────► OPEN ◄──────────────────────► HALF_OPEN
 *	   ▲                               the trials went badly       │
 *	   └───────────────────────────────────────────────────────────┘
 *	                        the trials went well
 *
 * The last three states are only ever entered by hand (S-BRK-1).
 */
enum evwork_breaker_state {
	EVWORK_BREAKER_CLOSED,        /* lets through, and records */
	EVWORK_BREAKER_OPEN,          /* refuses, until its wait is over */
	EVWORK_BREAKER_HALF_OPEN,     /* lets some through for trial */
	EVWORK_BREAKER_FORCED_OPEN,   /* refuses, until told otherwise */
	EVWORK_BREAKER_DISABLED,      /* lets through, and records nothing */
	EVWORK_BREAKER_METRICS_ONLY   /* lets through and records, and never opens */
};

/* What decides. */
enum evwork_breaker_rule {
	EVWORK_BREAKER_RATE,          /* the percentages of what was recorded */
	EVWORK_BREAKER_CONSECUTIVE    /* failures in a row */
};

enum evwork_breaker_rate { EVWORK_BREAKER_FAILURES, EVWORK_BREAKER_SLOW };

#define EVWORK_BREAKER_WINDOW_DEFAULT 100
#define EVWORK_BREAKER_WINDOW_MAX (1 << 20)
#define EVWORK_BREAKER_MIN_CALLS_DEFAULT 100
#define EVWORK_BREAKER_IN_A_ROW_DEFAULT 5
#define EVWORK_BREAKER_FAILURE_PERCENT_DEFAULT 50
#define EVWORK_BREAKER_SLOW_PERCENT_DEFAULT 100
#define EVWORK_BREAKER_SLOW_MS_DEFAULT 60000
#define EVWORK_BREAKER_OPEN_MS_DEFAULT 60000
#define EVWORK_BREAKER_TRIALS_DEFAULT 10
/* Changes that may wait for the loop to announce them. */
#define EVWORK_BREAKER_NOTICES_MAX 1024

/* On the thread of the breaker's loop, in a later turn, with no lock held. */
typedef void (*evwork_breaker_transition_fn)(struct evwork_breaker *breaker,
	enum evwork_breaker_state from, enum evwork_breaker_state to, void *arg);
typedef void (*evwork_breaker_exceeded_fn)(struct evwork_breaker *breaker,
	enum evwork_breaker_rate rate, void *arg);

/* All zero means the defaults (S-BRK-10). */
struct evwork_breaker_options {
	enum evwork_breaker_state initial;
	/* What opens a closed breaker. EVWORK_BREAKER_RATE looks after each outcome, once
	 * there were min_calls in the window, whether the failures or the slow calls in it
	 * have reached their percentage (S-BRK-7). */
	enum evwork_breaker_rule rule;
	/* The last `window` outcomes; 0 is 100. Or, with slot_ms, those of the slot of so
	 * many milliseconds that runs now and of the window - 1 before it, counted from
	 * when the breaker was closed: a window of 1 tumbles (S-BRK-6). */
	int window;
	int64_t slot_ms;
	int min_calls;                /* 0 is 100; a window of outcomes may be smaller */
	double failure_percent;       /* 0 is 50 */
	double slow_percent;          /* 0 is 100 */
	int64_t slow_ms;              /* longer than this is slow; 0 is 60 s (S-BRK-8) */
	int in_a_row;                 /* for EVWORK_BREAKER_CONSECUTIVE; 0 is 5 (S-BRK-9) */
	/* How long it stays open; 0 is 60 s. Each time that it opens again without having
	 * been closed the wait is open_factor times as long, but no longer than open_max_ms,
	 * which is no limit if 0 (S-BRK-15). open_factor 0 is 1. */
	int64_t open_ms;
	double open_factor;
	int64_t open_max_ms;
	/* How many trials are let through, not counting ignored ones; 0 is 10 (S-BRK-12).
	 * EVWORK_BREAKER_RATE decides by the percentages of the first min_calls of them, or
	 * of all if that is less; EVWORK_BREAKER_CONSECUTIVE opens at the first failure and
	 * closes when all have succeeded (S-BRK-13). */
	int trials;
	enum evwork_breaker_rule trial_rule;
	/* If the trials have not decided after so long it opens, or closes if undecided_closes
	 * is set; 0 waits without end (S-BRK-14). */
	int64_t half_open_ms;
	int undecided_closes;
	/* The wait ends by itself. Without it the first acquire or look at the state after
	 * the wait finds the breaker half open, which is the same to all but on_transition
	 * (S-BRK-11). Needs a loop. */
	int automatic;
	/* What a status means (S-BRK-18). Called on the thread that reports, with no lock held;
	 * it must not block. NULL: 0 is a success, -ECANCELED and -EHOSTDOWN are ignored, all
	 * else is a failure, -EOWNERDEAD included (S-CRASH-4). */
	enum evwork_outcome (*classify)(int status, void *arg);
	/* Each real change, once and in order (S-BRK-19). */
	evwork_breaker_transition_fn on_transition;
	/* In METRICS_ONLY, once for each of the two until the state changes: the breaker would
	 * have opened for it (S-BRK-17). */
	evwork_breaker_exceeded_fn on_exceeded;
	void *arg;                    /* for the three */
	/* Needed for callbacks and `automatic`, and where the clock is taken from. */
	struct evwork_loop *loop;
	struct evwork_clock *clock;   /* without a loop; NULL: the system's */
};

/*
 * evwork_breaker_new [any] makes a breaker; the options are copied.
 *
 * With a loop it is bound to that: the loop is not freed while the breaker is there, unless
 * it is closed or freed by force. From then on the breaker goes on without it: changes made
 * until then have been announced (not after a free by force), later ones are not.
 * It does not keep the base running, but the announcement of a change that was made on the
 * loop's thread does, see evwork/loop.h.
 *
 * -EINVAL: ret_breaker or options is NULL; a value is negative or unknown; a percentage is
 * above 100; open_factor is below 1; a factor is no number, or infinite; window is above
 * EVWORK_BREAKER_WINDOW_MAX; a callback or `automatic` without a loop; a loop and a clock
 * (S-BRK-20). -ESHUTDOWN: the loop is closing. -ENOMEM.
 */
int evwork_breaker_new(const struct evwork_breaker_options *options,
	struct evwork_breaker **ret_breaker);

/*
 * evwork_breaker_free [loop], with no loop or once that has closed [any]; from the breaker's
 * own callbacks, too. NULL is fine. Lanes that it guards must be gone, and no permit may be
 * used any more. What was not announced yet will not be.
 * -EPERM: on another thread than its loop's.
 */
int evwork_breaker_free(struct evwork_breaker *breaker);

/* evwork_breaker_guard [any]: for the options of lanes, as long as the breaker is there. A job
 * whose work did not run, or returned -ECANCELED, is ignored; what other work returned
 * is classified, and its run time is the duration. NULL for NULL. */
struct evwork_guard *evwork_breaker_guard(struct evwork_breaker *breaker);

/* A permit, caller-owned; all zero before its first use. */
struct evwork_breaker_permit {
	/* Private. */
	struct evwork_breaker *_breaker;
	uint64_t _generation;
	uint32_t _state;
};

/*
 * evwork_breaker_acquire [any] asks for a permit for one call (S-BRK-2).
 * -EINVAL: an argument is NULL. -EHOSTDOWN: open. -EBUSY: half open, and all trials are
 * out; these two count as not_permitted. -EBUSY, too: the permit is not reported yet, and
 * stays as it is.
 */
int evwork_breaker_acquire(struct evwork_breaker *breaker, struct evwork_breaker_permit *permit);

/*
 * evwork_breaker_report [any] tells how the call ended, and after how many nanoseconds; it
 * calls nobody. It counts at the time of the report (S-BRK-5), and not at all if the
 * breaker's state has changed since the permit was taken (S-BRK-4).
 * evwork_breaker_report_status lets the breaker classify a status.
 * -EINVAL: permit is NULL, the outcome unknown, or the duration negative; or the classify
 * of the options has returned nonsense. The permit is not reported then.
 * -EALREADY: it was reported before (S-BRK-3). -ESRCH: it was never acquired.
 */
int evwork_breaker_report(struct evwork_breaker_permit *permit, enum evwork_outcome outcome,
	int64_t duration_ns);
int evwork_breaker_report_status(struct evwork_breaker_permit *permit, int status,
	int64_t duration_ns);

/* evwork_breaker_drop [any], before the permit's memory goes: reports a permit that was not
 * reported as EVWORK_IGNORE, so that none is lost; else does nothing. NULL is fine. */
void evwork_breaker_drop(struct evwork_breaker_permit *permit);

/* evwork_breaker_state [any]: the state now (S-BRK-11). -EINVAL: breaker is NULL. */
int evwork_breaker_state(struct evwork_breaker *breaker);

/*
 * evwork_breaker_set [any] changes the state by hand (S-BRK-16). To the state that it has:
 * windows, waits and trials begin anew, without an announcement. In both cases permits that
 * are out count no more.
 * -EINVAL: breaker is NULL, the state unknown, or from CLOSED to HALF_OPEN, or from
 * METRICS_ONLY to OPEN or HALF_OPEN. -EAGAIN: about EVWORK_BREAKER_NOTICES_MAX changes wait
 * for the loop to announce them. An open breaker stays so for the same reason, so that
 * every change is announced.
 */
int evwork_breaker_set(struct evwork_breaker *breaker, enum evwork_breaker_state state);

/* evwork_breaker_reset [any] closes the breaker and sets everything to zero, the
 * counters of the metrics included. -EINVAL: breaker is NULL. -EAGAIN as above. */
int evwork_breaker_reset(struct evwork_breaker *breaker);

/* A snapshot (S-OBS-6). The counters only grow, but for a reset. */
struct evwork_breaker_metrics {
	enum evwork_breaker_state state;
	uint64_t success, failure;    /* outcomes that counted */
	uint64_t slow;                /* of these, how many were slow */
	uint64_t ignored;             /* reported as such, or dropped */
	uint64_t stale;               /* reported when the state had changed: S-BRK-4 */
	uint64_t not_permitted;
	uint64_t transitions;
	/* Percentages of the window, or of the trials; -1 below min_calls (S-BRK-7). */
	double failure_percent, slow_percent;
	uint64_t calls;               /* outcomes that these are of */
	int trials_out;               /* trials that were let through and are not over */
	int64_t open_until_ns;        /* when the wait is over, 0 if it is not open */
};

/* evwork_breaker_metrics [any]. -EINVAL: an argument is NULL. */
int evwork_breaker_metrics(struct evwork_breaker *breaker,
	struct evwork_breaker_metrics *ret_metrics);

#ifdef __cplusplus
}
#endif

#endif
