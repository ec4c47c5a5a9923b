/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_TIMER_H
#define EVWORK_TIMER_H

/*
 * Timers on a loop. Unlike a bare libevent timer one of these never fires
 * early: libevent counts from the time its turn began, so a timer armed after
 * 50 ms of callback work may fire 50 ms too soon; here the clock is asked again
 * and the rest is waited for (S-GEN-11).
 *
 * The struct is the caller's. It is the caller's again when its callback starts
 * or stop returned 0.
 */

#include <evwork/loop.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_timer;

/* On the loop's thread. status: 0 when due, -ECANCELED when the loop closed. */
typedef void (*evwork_timer_fn)(struct evwork_timer *timer, int status);

struct evwork_timer {
	evwork_timer_fn fn;
	/* Private. */
	int64_t _due_ns;
	struct evwork_timer *_child, *_next, *_prev;
	struct evwork_loop *_loop;
	uint64_t _order;
	uint32_t _kind;
};

/* evwork_timer_init prepares a timer; needed once, before its first use. */
void evwork_timer_init(struct evwork_timer *timer, evwork_timer_fn fn);

/*
 * evwork_timer_start [loop] sets the timer to fire timeout_ms from now, at once
 * (in a later turn) if that is <= 0; evwork_timer_start_at [loop] at a point in
 * time of the loop's clock. Timers that are due together fire in the order in
 * which they are due, then in that in which they were set.
 * -EINVAL: loop, timer or its fn is NULL. -EPERM. -EBUSY: the timer is pending.
 * -ESHUTDOWN: the loop is closing. -ENOMEM: libevent had no memory.
 */
int evwork_timer_start(struct evwork_loop *loop, struct evwork_timer *timer, int64_t timeout_ms);
int evwork_timer_start_at(struct evwork_loop *loop, struct evwork_timer *timer, int64_t due_ns);

/*
 * evwork_timer_stop [loop]: 0, and its callback does not run.
 * -ESRCH: it is not pending. -EINVAL: timer is NULL. -EPERM.
 */
int evwork_timer_stop(struct evwork_timer *timer);

#ifdef __cplusplus
}
#endif

#endif
