/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_LATCH_H
#define EVWORK_LATCH_H

/*
 * Latches: a count, and who waits for it to become zero. What a WaitGroup is to Go,
 * for work that is no group: several groups, connections, threads of your own.
 *
 *	evwork_latch_add(latch, 1);         // before each thing begins
 *	evwork_latch_add(latch, -1);        // when it is over
 *	evwork_latch_after(latch, loop, &server->idle);
 */

#include <evwork/ctx.h>
#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_latch;
struct evwork_latch_waiter;

/*
 * On the waiter's loop, once, in a turn after the count has become zero: 0, or
 * -ECANCELED if the loop was closed before that. The waiter is the caller's again, and
 * may be set anew; the last one may add to the count, or free the latch.
 */
typedef void (*evwork_latch_fn)(struct evwork_latch_waiter *waiter, int status);

/* A caller-owned waiter; pending from after to its callback, or to a stop. */
struct evwork_latch_waiter {
	evwork_latch_fn fn;
	/* Private. */
	struct evwork_watch _watch;
	struct evwork_latch *_latch;
	struct evwork_ctx *_ctx;
};

/* evwork_latch_new [any] makes a latch with a count of 0.
 * -EINVAL: ret_latch is NULL. -ENOMEM. */
int evwork_latch_new(struct evwork_latch **ret_latch);

/*
 * evwork_latch_add [any], from work and callbacks too, adds to the count. At zero
 * every waiter is released once (S-GRP-20).
 * -EINVAL: latch is NULL, or the count would be negative; it is unchanged.
 * -EBUSY: the count is 0, would leave it, and waiters are still being released: one on a
 * loop until its callback starts or it is stopped, a thread until it leaves
 * evwork_latch_wait(). Try again later.
 * -ERANGE: the count would not fit.
 */
int evwork_latch_add(struct evwork_latch *latch, int64_t delta);

/* evwork_latch_count [any]: the count; 0 for NULL. */
int64_t evwork_latch_count(struct evwork_latch *latch);

/* evwork_latch_waiter_init prepares a waiter; needed once, before its first use. */
void evwork_latch_waiter_init(struct evwork_latch_waiter *waiter, evwork_latch_fn fn);

/*
 * evwork_latch_after [any] has waiter->fn called on loop once the count is zero; if it
 * is, in the next turn. Waiters of one loop are called in the order in which they came.
 * A waiter does not keep the loop alive, but its callback that is to come does: what
 * brings the count down should, see evwork/loop.h. The loop is not freed before it.
 * -EINVAL: latch, waiter, its fn or loop is NULL. -EBUSY: the waiter is pending.
 * -ESHUTDOWN: loop is closing. -ENOMEM.
 */
int evwork_latch_after(struct evwork_latch *latch, struct evwork_loop *loop,
	struct evwork_latch_waiter *waiter);

/* evwork_latch_stop [any] returns 1 if it kept the callback from running, and 0 if that
 * had run, was running, had been stopped or was never set. The waiter's latch and loop
 * must exist while this call runs. -EINVAL: waiter is NULL. */
int evwork_latch_stop(struct evwork_latch_waiter *waiter);

/*
 * evwork_latch_wait [wait] waits until the count is zero, or ctx dies. Any number of
 * threads may wait, workers too, as long as others bring the count down.
 * -EINVAL: latch is NULL. -EDEADLK: on a loop's thread. -ECANCELED, -ETIMEDOUT: ctx is
 * dead, and the count was not zero before.
 */
int evwork_latch_wait(struct evwork_latch *latch, struct evwork_ctx *ctx);

/* evwork_latch_free [any]. NULL is fine, and so is any count. -EBUSY: there are waiters,
 * threads included, or their callbacks are still to come. */
int evwork_latch_free(struct evwork_latch *latch);

#ifdef __cplusplus
}
#endif

#endif
