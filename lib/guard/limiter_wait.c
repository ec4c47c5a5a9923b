/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Beginning and ending to wait for a limiter. Who is granted, and when, is in
 * limiter_queue.c.
 *
 *	IDLE ──wait──► QUEUED ──granted, cancelled, too large──► DECIDED ──turn──► IDLE
 *	                  └──────────── context dies, loop closes ──────────────────┘
 *
 * A waiter is a watch on its context (run/watch.c), fired when its wait is decided; so what
 * becomes of it when contexts die and loops close is known there. Its state is covered by
 * the limiter's lock, under which watches are set and fired; its callback takes the lock
 * before it looks.
 */

#include "guard/limiter.h"

#include <string.h>

#include "run/ctx.h"
#include "run/loop.h"

/* The end of a wait. */

/* The watch was called, or lost, with this status; the result, and the waiter is the
 * caller's again. */
static int finish(struct evwork_limiter_waiter *waiter, int status)
{
	struct evwork_limiter *limiter = waiter->_limiter;
	struct evwork_loop *loop = waiter->_loop;
	struct evwork_ctx *ctx = waiter->_ctx;
	bool here = waiter->_here;
	int result = status;

	sys_lock(&limiter->mutex);
	if (waiter->_state == WAIT_QUEUED) {
		waiters_dequeue_locked(limiter, waiter);
		limiter->stats.cancelled++;
		waiters_serve_locked(limiter, clock_now(limiter->clock));
	} else if (waiter->_state == WAIT_DECIDED) {
		result = waiter->_result;
	}
	waiter->_state = WAIT_IDLE;
	/* Relaxed: who uses one waiter on several threads must order that himself. */
	__atomic_store_n(&waiter->_limiter, NULL, __ATOMIC_RELAXED);
	__atomic_store_n(&waiter->_loop, NULL, __ATOMIC_RELAXED);
	limiter->pending--;
	/* From here on the limiter may be freed. */
	sys_unlock(&limiter->mutex);
	evwork_ctx_unref(ctx);
	if (here)
		loop_wait_end(loop);
	return result;
}

static void on_watch(struct evwork_watch *watch, int status)
{
	struct evwork_limiter_waiter *waiter = EVWORK_CONTAINER(watch,
		struct evwork_limiter_waiter, _watch);

	waiter->fn(waiter, finish(waiter, status));
}

/* The loop was freed by force: nobody will hear of it. */
static void on_lost(struct evwork_watch *watch)
{
	finish(EVWORK_CONTAINER(watch, struct evwork_limiter_waiter, _watch), -ECANCELED);
}

void evwork_limiter_waiter_init(struct evwork_limiter_waiter *waiter, evwork_limiter_fn fn)
{
	memset(waiter, 0, sizeof(*waiter));
	waiter->fn = fn;
	evwork_watch_init(&waiter->_watch, on_watch);
	waiter->_watch._lost = on_lost;
}

/* The beginning of a wait. */

/* Whether the tokens would come after the deadline of the context. */
static bool comes_too_late_locked(struct evwork_limiter *limiter, int64_t n,
	const struct evwork_ctx *ctx, int64_t now)
{
	const struct evwork_bucket_terms *terms = &limiter->bucket._terms;
	wide units;
	int64_t wait = EVWORK_NEVER;

	if (ctx_is_background(ctx) || !ctx->expires || ctx->clock != limiter->clock ||
	    terms->_gain == 0 || bucket_is_unlimited(terms))
		return false;
	if (limiter_free_units_locked(limiter, now, &units))
		wait = bucket_time_for(terms,
			evwork__wide_sub(evwork__bucket_cost(terms, n), units));
	return sys_time_add(now, wait) > ctx->deadline_ns;
}

static int check_locked(struct evwork_limiter *limiter, int64_t n)
{
	return n > limiter->bucket._terms._burst && !bucket_is_unlimited(&limiter->bucket._terms) ?
		-ERANGE : 0;
}

static int begin_locked(struct evwork_limiter *limiter, struct evwork_limiter_waiter *waiter)
{
	int64_t now = clock_now(limiter->clock);
	int rc = check_locked(limiter, waiter->_n);

	if (rc == 0 && comes_too_late_locked(limiter, waiter->_n, waiter->_ctx, now))
		rc = -ETIMEDOUT;
	if (rc)
		return rc;
	rc = watch_set(waiter->_ctx, waiter->_loop, &waiter->_watch);
	if (rc)
		return rc;
	limiter->pending++;
	if (!limiter->waiters.head)
		limiter_settle_locked(limiter, limiter->bucket._terms._full, now);
	waiters_enqueue_locked(limiter, waiter);
	waiters_serve_locked(limiter, now);
	return 0;
}

/* The refusals that come before those of begin_locked, in their order. */
static int check(struct evwork_limiter *limiter, const struct evwork_limiter_waiter *waiter,
	struct evwork_ctx *ctx)
{
	int rc;

	if (atomic_load_explicit(&waiter->_loop->closing, memory_order_relaxed) ||
	    (!ctx_is_background(ctx) && ctx_is_inherited(ctx)))
		return -ESHUTDOWN;
	sys_lock(&limiter->mutex);
	rc = check_locked(limiter, waiter->_n);
	sys_unlock(&limiter->mutex);
	return rc ? rc : evwork_ctx_err(ctx);
}

/* The waiter is marked as pending. */
static int begin(struct evwork_limiter *limiter, struct evwork_limiter_waiter *waiter,
	struct evwork_ctx *ctx)
{
	struct evwork_loop *loop = waiter->_loop;
	bool here = loop_is_here(loop);
	int rc = check(limiter, waiter, ctx);

	if (rc == 0 && here)
		rc = loop_wait_begin(loop);
	here = here && rc == 0;
	waiter->_here = here;
	waiter->_ctx = evwork_ctx_ref(ctx);
	sys_lock(&limiter->mutex);
	__atomic_store_n(&waiter->_limiter, limiter, __ATOMIC_RELAXED);
	if (rc == 0)
		rc = begin_locked(limiter, waiter);
	if (rc && rc != -ESHUTDOWN && rc != -ENOMEM)
		limiter->stats.refused++;
	if (rc)
		__atomic_store_n(&waiter->_limiter, NULL, __ATOMIC_RELAXED);
	/* From here on an accepted waiter may have been called back, and be gone. */
	sys_unlock(&limiter->mutex);
	if (rc) {
		evwork_ctx_unref(ctx);
		if (here)
			loop_wait_end(loop);
	}
	return rc;
}

int evwork_limiter_wait(struct evwork_limiter *limiter, int64_t n, struct evwork_ctx *ctx,
	struct evwork_loop *loop, struct evwork_limiter_waiter *waiter)
{
	struct evwork_loop *idle = NULL;
	int rc;

	if (!limiter || !loop || !waiter || !waiter->fn || n < 0 || loop->clock != limiter->clock)
		return -EINVAL;
	if (limiter_is_inherited(limiter) || loop->inherited)
		return -ESHUTDOWN;
	/* Relaxed: as in finish. */
	if (!__atomic_compare_exchange_n(&waiter->_loop, &idle, loop, false,
			__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return -EBUSY;
	waiter->_n = n;
	rc = begin(limiter, waiter, ctx);
	if (rc)
		__atomic_store_n(&waiter->_loop, NULL, __ATOMIC_RELAXED);
	return rc;
}

int evwork_limiter_waiter_cancel(struct evwork_limiter_waiter *waiter)
{
	struct evwork_limiter *limiter;
	int rc = -EALREADY;

	if (!waiter)
		return -EINVAL;
	limiter = __atomic_load_n(&waiter->_limiter, __ATOMIC_RELAXED);
	if (!limiter)
		return -ESRCH;
	if (limiter_is_inherited(limiter))
		return -ESHUTDOWN;
	sys_lock(&limiter->mutex);
	if (waiter->_state == WAIT_QUEUED) {
		waiters_dequeue_locked(limiter, waiter);
		limiter->stats.cancelled++;
		waiters_decide_locked(waiter, -ECANCELED);
		waiters_serve_locked(limiter, clock_now(limiter->clock));
		rc = 0;
	} else if (waiter->_state == WAIT_IDLE) {
		rc = -ESRCH;
	}
	sys_unlock(&limiter->mutex);
	return rc;
}
