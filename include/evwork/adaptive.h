/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_ADAPTIVE_H
#define EVWORK_ADAPTIVE_H

/*
 * Limits on what is in flight towards one dependency: fixed ones, which are bulkheads, and
 * such as find out by themselves how much the dependency bears.
 *
 * As a guard of a lane a limit needs no further call: submits over it are refused with
 * -EAGAIN, and jobs count from submit to the end of their work. For calls of your own:
 *
 *	struct evwork_adaptive_token token = { 0 };        // in the struct of the call
 *	int rc = evwork_adaptive_acquire(limit, &token);
 *	...
 *	evwork_adaptive_end(&token, EVWORK_ADAPTIVE_SUCCESS, rtt_ns);
 *
 * or, to wait for one's turn on a loop, with evwork_adaptive_wait().
 */

#include <stddef.h>

#include <evwork/ctx.h>
#include <evwork/guard.h>
#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_adaptive;
struct evwork_adaptive_waiter;
struct evwork_loop;

enum evwork_adaptive_algorithm {
	/* Up by one with each success, while at least half of the limit is in use; down to
	 * limit * ratio with each drop, or answer that took too long (S-ADP-2, S-ADP-3). */
	EVWORK_ADAPTIVE_AIMD,
	EVWORK_ADAPTIVE_FIXED         /* stays where it is set: a bulkhead */
};

enum evwork_adaptive_outcome {
	EVWORK_ADAPTIVE_SUCCESS,
	EVWORK_ADAPTIVE_DROP,         /* the dependency was overloaded: a timeout, a refusal */
	EVWORK_ADAPTIVE_IGNORE        /* says nothing about load */
};

#define EVWORK_ADAPTIVE_LIMIT_DEFAULT 20
#define EVWORK_ADAPTIVE_MAX_DEFAULT 1000
#define EVWORK_ADAPTIVE_LIMIT_MAX (1 << 30)
#define EVWORK_ADAPTIVE_QUEUE_DEFAULT 1024

/* On the thread of the limit's loop, in a later turn, with no lock held. */
typedef void (*evwork_adaptive_limit_fn)(struct evwork_adaptive *adaptive, int from, int to,
	void *arg);

/* All zero means the defaults. */
struct evwork_adaptive_options {
	enum evwork_adaptive_algorithm algorithm;
	/* Where it begins. 0 is 20, or the nearest between min and max; for
	 * EVWORK_ADAPTIVE_FIXED it is 0, which lets nothing through (S-ADP-6). */
	int limit;
	int min, max;                 /* 0 is 1, and 1000; not for EVWORK_ADAPTIVE_FIXED */
	double ratio;                 /* from 0.5 to below 1; 0 is 0.9 */
	int64_t timeout_ms;           /* an answer that takes longer is a drop; 0: none is */
	size_t queue_limit;           /* waiters; 0 is 1024 (S-ADP-5) */
	/* What the status of a job that ran means; called like the one of breakers. NULL: 0
	 * is a success, -ETIMEDOUT and -EAGAIN are drops, all else is ignored. */
	enum evwork_adaptive_outcome (*classify)(int status, void *arg);
	/* The limit has changed (S-ADP-8). In order, each from where the one before has
	 * ended; several changes between two turns of the loop are told as one. */
	evwork_adaptive_limit_fn on_limit;
	void *arg;                    /* for both */
	struct evwork_loop *loop;     /* for on_limit, which needs it */
};

/*
 * evwork_adaptive_new [any] makes a limit; the options are copied. To a loop it is bound
 * like a breaker, see evwork/breaker.h.
 * -EINVAL: an argument is NULL; a value is negative, unknown or out of range; limit is not
 * between min and max; min or max for a fixed limit; on_limit without a loop.
 * -ESHUTDOWN: the loop is closing. -ENOMEM.
 */
int evwork_adaptive_new(const struct evwork_adaptive_options *options,
	struct evwork_adaptive **ret_adaptive);

/*
 * evwork_adaptive_free [loop], with no loop or once that has closed [any]; from on_limit,
 * too. NULL is fine. Lanes that it guards must be gone.
 * -EPERM: on another thread than its loop's. -EBUSY: something is in flight, or waits.
 */
int evwork_adaptive_free(struct evwork_adaptive *adaptive);

/* evwork_adaptive_guard [any]: for the options of lanes, as long as the limit is there. A job
 * whose work did not run, or returned -ECANCELED, is ignored; for other work its run time is
 * the round-trip time. NULL for NULL. */
struct evwork_guard *evwork_adaptive_guard(struct evwork_adaptive *adaptive);

/* A token, caller-owned; all zero before its first use. */
struct evwork_adaptive_token {
	/* Private. */
	struct evwork_adaptive *_adaptive;
	uint32_t _state;
};

/*
 * evwork_adaptive_acquire [any] takes a token if less is in flight than the limit allows,
 * and nobody waits (S-ADP-1).
 * -EINVAL: an argument is NULL. -EBUSY: the token is held. -EAGAIN: at the limit.
 */
int evwork_adaptive_acquire(struct evwork_adaptive *adaptive,
	struct evwork_adaptive_token *token);

/*
 * evwork_adaptive_end [any] gives it back, with what became of the call and after how many
 * nanoseconds, and serves who waits. What counts as in flight for EVWORK_ADAPTIVE_AIMD
 * includes the call itself.
 * -EINVAL: token is NULL or was never acquired (S-ADP-6), the outcome is unknown, the time
 * negative. -EALREADY: it was ended before.
 */
int evwork_adaptive_end(struct evwork_adaptive_token *token,
	enum evwork_adaptive_outcome outcome, int64_t rtt_ns);

/* evwork_adaptive_drop [any], before the token's memory goes: ends one that was not ended as
 * EVWORK_ADAPTIVE_IGNORE (S-ADP-8); else does nothing. NULL is fine. */
void evwork_adaptive_drop(struct evwork_adaptive_token *token);

/* On the waiter's loop, in a later turn: 0, and waiter->token is held; or the error of the
 * context, or -ECANCELED if the loop was closed. The waiter is the caller's again. */
typedef void (*evwork_adaptive_fn)(struct evwork_adaptive_waiter *waiter, int status);

/* A caller-owned waiter; pending from wait to its callback, or to a stop. */
struct evwork_adaptive_waiter {
	evwork_adaptive_fn fn;
	struct evwork_adaptive_token token;
	/* Private. */
	struct evwork_watch _watch;
	struct evwork_adaptive *_adaptive;
	struct evwork_ctx *_ctx;
	struct evwork_loop *_loop;
	struct evwork_adaptive_waiter *_next, *_prev;
	uint32_t _state;
};

/* evwork_adaptive_waiter_init prepares a waiter; needed once, before its first use. */
void evwork_adaptive_waiter_init(struct evwork_adaptive_waiter *waiter, evwork_adaptive_fn fn);

/*
 * evwork_adaptive_wait [any] waits for a token under ctx; first come, first served. A token
 * that can be had at once comes in a later turn, too. A grant that meets the end of the
 * context goes to one of the two, and is not lost (S-ADP-5). A waiter does not keep the
 * base running, what ends the calls in flight should.
 * -EINVAL: adaptive, waiter, its fn or loop is NULL. -EBUSY: the waiter is pending, or its
 * token held. -ESHUTDOWN: loop is closing. -ECANCELED, -ETIMEDOUT: ctx is dead.
 * -EAGAIN: queue_limit wait already.
 */
int evwork_adaptive_wait(struct evwork_adaptive *adaptive, struct evwork_ctx *ctx,
	struct evwork_loop *loop, struct evwork_adaptive_waiter *waiter);

/* evwork_adaptive_stop [loop, the waiter's]: 0, and the callback does not come.
 * -EINVAL: waiter is NULL. -ESRCH: it is not pending. -EPERM. -EALREADY: it was served, and
 * its callback is to come. */
int evwork_adaptive_stop(struct evwork_adaptive_waiter *waiter);

/* evwork_adaptive_set [any] sets the limit. Lowered, it revokes nothing; raised, it serves
 * who waits at once (S-ADP-4).
 * -EINVAL: adaptive is NULL, or limit not between min and max, or for a fixed limit not
 * between 0 and EVWORK_ADAPTIVE_LIMIT_MAX. */
int evwork_adaptive_set(struct evwork_adaptive *adaptive, int limit);

/* A snapshot. */
struct evwork_adaptive_metrics {
	int limit, in_flight;         /* gauges */
	size_t waiting;
	uint64_t allowed;             /* tokens taken at once */
	uint64_t refused;             /* -EAGAIN */
	uint64_t granted, cancelled;  /* waiters, by how they ended */
	uint64_t success, dropped, ignored;
};

/* evwork_adaptive_metrics [any]. -EINVAL: an argument is NULL. */
int evwork_adaptive_metrics(struct evwork_adaptive *adaptive,
	struct evwork_adaptive_metrics *ret_metrics);

#ifdef __cplusplus
}
#endif

#endif
