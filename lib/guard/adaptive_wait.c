/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Who waits for a token. A waiter is a watch on its context, in a list by order of arrival;
 * who serves it fires the watch, under the lock of the limit. So contexts that die and loops
 * that close are known to the watch. Whoever fired it, the callback finds under the lock
 * whether the waiter was served.
 */

#include <errno.h>
#include <string.h>

#include "guard/adaptive.h"
#include "run/ctx.h"
#include "run/loop.h"

/* Not one whose context has died, even if it does not know yet. */
static struct evwork_adaptive_waiter *first_live(const struct evwork_adaptive *adaptive)
{
	struct evwork_adaptive_waiter *waiter = adaptive->waiters.head;

	while (waiter && ctx_is_over(waiter->_ctx))
		waiter = waiter->_next;
	return waiter;
}

static void delist_locked(struct evwork_adaptive *adaptive,
	struct evwork_adaptive_waiter *waiter)
{
	LIST_REMOVE(&adaptive->waiters, waiter, _next, _prev);
	adaptive->counts.waiting--;
}

void adaptive_serve_locked(struct evwork_adaptive *adaptive)
{
	struct evwork_adaptive_waiter *waiter;

	while (adaptive->counts.in_flight < adaptive->counts.limit &&
	       (waiter = first_live(adaptive))) {
		delist_locked(adaptive, waiter);
		waiter->_state = WAITER_GRANTED;
		adaptive->counts.in_flight++;
		adaptive->counts.granted++;
		watch_fire(waiter->_loop, waiter->_ctx, &waiter->_watch);
	}
}

/* The waiter is the caller's again. */
static void let_go(struct evwork_adaptive_waiter *waiter)
{
	evwork_ctx_unref(waiter->_ctx);
	/* Relaxed: who uses one waiter on several threads must order that himself. */
	__atomic_store_n(&waiter->_loop, NULL, __ATOMIC_RELAXED);
}

static void on_watch(struct evwork_watch *watch, int status)
{
	struct evwork_adaptive_waiter *waiter = EVWORK_CONTAINER(watch,
		struct evwork_adaptive_waiter, _watch);
	struct evwork_adaptive *adaptive = waiter->_adaptive;

	sys_lock(&adaptive->mutex);
	adaptive->pending--;
	if (waiter->_state == WAITER_GRANTED) {
		status = 0;
		waiter->token._adaptive = adaptive;
		__atomic_store_n(&waiter->token._state, TOKEN_HELD, __ATOMIC_RELAXED);
	} else {
		delist_locked(adaptive, waiter);
		adaptive->counts.cancelled++;
	}
	sys_unlock(&adaptive->mutex);
	let_go(waiter);
	waiter->fn(waiter, status);
}

/* The loop is freed by force: nobody will hear of it, so what was granted goes back. */
static void on_lost(struct evwork_watch *watch)
{
	struct evwork_adaptive_waiter *waiter = EVWORK_CONTAINER(watch,
		struct evwork_adaptive_waiter, _watch);
	struct evwork_adaptive *adaptive = waiter->_adaptive;

	sys_lock(&adaptive->mutex);
	adaptive->pending--;
	if (waiter->_state == WAITER_GRANTED) {
		adaptive_give_back_locked(adaptive);
		adaptive->counts.ignored++;
	} else {
		delist_locked(adaptive, waiter);
		adaptive->counts.cancelled++;
	}
	sys_unlock(&adaptive->mutex);
	let_go(waiter);
}

void evwork_adaptive_waiter_init(struct evwork_adaptive_waiter *waiter, evwork_adaptive_fn fn)
{
	memset(waiter, 0, sizeof(*waiter));
	waiter->fn = fn;
	evwork_watch_init(&waiter->_watch, on_watch);
	waiter->_watch._lost = on_lost;
}

/* The waiter belongs to this call; all but room was checked. */
static int begin_locked(struct evwork_adaptive *adaptive, struct evwork_adaptive_waiter *waiter)
{
	int rc;

	if (adaptive->counts.in_flight >= adaptive->counts.limit &&
	    adaptive->counts.waiting >= adaptive->queue_limit) {
		adaptive->counts.refused++;
		return -EAGAIN;
	}
	rc = watch_set(waiter->_ctx, waiter->_loop, &waiter->_watch);
	if (rc)
		return rc;
	waiter->_state = WAITER_PARKED;
	LIST_APPEND(&adaptive->waiters, waiter, _next, _prev);
	adaptive->counts.waiting++;
	adaptive->pending++;
	adaptive_serve_locked(adaptive);
	return 0;
}

static int check_ctx(struct evwork_ctx *ctx)
{
	if (!ctx_is_background(ctx) && ctx_is_inherited(ctx))
		return -ESHUTDOWN;
	return evwork_ctx_err(ctx);
}

int evwork_adaptive_wait(struct evwork_adaptive *adaptive, struct evwork_ctx *ctx,
	struct evwork_loop *loop, struct evwork_adaptive_waiter *waiter)
{
	struct evwork_loop *idle = NULL;
	int rc;

	if (!adaptive || !waiter || !waiter->fn || !loop)
		return -EINVAL;
	if (adaptive_inherited(adaptive) || loop->inherited)
		return -ESHUTDOWN;
	if (__atomic_load_n(&waiter->token._state, __ATOMIC_RELAXED) == TOKEN_HELD)
		return -EBUSY;
	/* Relaxed: see let_go. */
	if (!__atomic_compare_exchange_n(&waiter->_loop, &idle, loop, false, __ATOMIC_RELAXED,
			__ATOMIC_RELAXED))
		return -EBUSY;
	rc = atomic_load_explicit(&loop->closing, memory_order_relaxed) ? -ESHUTDOWN :
		check_ctx(ctx);
	if (rc) {
		__atomic_store_n(&waiter->_loop, NULL, __ATOMIC_RELAXED);
		return rc;
	}
	waiter->_adaptive = adaptive;
	waiter->_ctx = evwork_ctx_ref(ctx);
	sys_lock(&adaptive->mutex);
	rc = begin_locked(adaptive, waiter);
	sys_unlock(&adaptive->mutex);
	/* An accepted waiter may have been called back, and be gone. */
	if (rc)
		let_go(waiter);
	return rc;
}

int evwork_adaptive_stop(struct evwork_adaptive_waiter *waiter)
{
	struct evwork_adaptive *adaptive;
	struct evwork_loop *loop;
	bool parked;

	if (!waiter)
		return -EINVAL;
	loop = __atomic_load_n(&waiter->_loop, __ATOMIC_RELAXED);
	if (!loop)
		return -ESRCH;
	if (loop->inherited)
		return -ESHUTDOWN;
	if (!loop_is_here(loop))
		return -EPERM;
	adaptive = waiter->_adaptive;
	sys_lock(&adaptive->mutex);
	parked = waiter->_state == WAITER_PARKED;
	if (parked) {
		delist_locked(adaptive, waiter);
		adaptive->pending--;
		adaptive->counts.cancelled++;
		/* Its callback has not come: that would be on this thread. */
		evwork_ctx_stop(&waiter->_watch);
	}
	sys_unlock(&adaptive->mutex);
	if (!parked)
		return -EALREADY;
	let_go(waiter);
	return 0;
}
