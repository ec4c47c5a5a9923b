/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Latches. Waiters on loops wait for the death of a context: each time the count
 * leaves zero a round begins, whose first waiter makes a context, and zero ends the
 * round by cancelling it. So a waiter is a watch, with all that is known of those.
 */

#include "evwork/latch.h"

#include <errno.h>
#include <string.h>

#include "base/fork.h"
#include "run/ctx.h"
#include "run/loop.h"

struct evwork_latch {
	unsigned made_in;               /* fork_here() when it was made */
	struct evwork_ctx *zero;        /* dead: for who waits at zero */

	sys_mutex mutex;                /* covers all below; a leaf */
	sys_cond changed;               /* zero, or a context of a waiter has died */
	int64_t count;
	struct evwork_ctx *round;       /* of this round's waiters; NULL: none so far */
	uint64_t rounds;                /* how many have ended */
	uint64_t pending;               /* waiters on loops, of all rounds */
	uint64_t waiting;               /* threads that wait for this round's end */
	uint64_t releasing;             /* waiters of ended rounds that were not told yet */
};

/* In the child of a fork its lock may be held by a thread that is not there. */
static bool inherited(const struct evwork_latch *latch)
{
	return latch->made_in != fork_here();
}

int evwork_latch_new(struct evwork_latch **ret_latch)
{
	struct evwork_latch *latch;
	int rc;

	if (!ret_latch)
		return -EINVAL;
	latch = sys_zalloc(sizeof(*latch));
	if (!latch)
		return -ENOMEM;
	latch->made_in = fork_here();
	rc = evwork_ctx_new(NULL, &latch->zero);
	if (rc)
		goto no_ctx;
	evwork_ctx_cancel(latch->zero, 0);
	rc = sys_mutex_init(&latch->mutex);
	if (rc)
		goto no_mutex;
	rc = sys_cond_init(&latch->changed);
	if (rc)
		goto no_cond;
	*ret_latch = latch;
	return 0;
no_cond:
	sys_mutex_fini(&latch->mutex);
no_mutex:
	evwork_ctx_unref(latch->zero);
no_ctx:
	sys_free(latch);
	return rc;
}

/* Ends the round; returns its context, to be cancelled once the lock is left. */
static struct evwork_ctx *end_round_locked(struct evwork_latch *latch)
{
	struct evwork_ctx *round = latch->round;

	latch->round = NULL;
	latch->rounds++;
	latch->releasing = latch->pending + latch->waiting;
	sys_cond_broadcast(&latch->changed);
	return round;
}

int evwork_latch_add(struct evwork_latch *latch, int64_t delta)
{
	struct evwork_ctx *round = NULL;
	int rc = 0;

	if (!latch)
		return -EINVAL;
	if (inherited(latch))
		return -ESHUTDOWN;
	sys_lock(&latch->mutex);
	if (delta < -latch->count)
		rc = -EINVAL;
	else if (latch->count == 0 && delta > 0 && latch->releasing)
		rc = -EBUSY;
	else if (delta > INT64_MAX - latch->count)
		rc = -ERANGE;
	if (rc == 0 && delta) {
		latch->count += delta;
		if (latch->count == 0)
			round = end_round_locked(latch);
	}
	sys_unlock(&latch->mutex);
	/* The caller may free the latch as soon as the waiters are through; the context
	 * is this call's. */
	if (round) {
		evwork_ctx_cancel(round, 0);
		evwork_ctx_unref(round);
	}
	return rc;
}

int64_t evwork_latch_count(struct evwork_latch *latch)
{
	int64_t count;

	if (!latch || inherited(latch))
		return 0;
	sys_lock(&latch->mutex);
	count = latch->count;
	sys_unlock(&latch->mutex);
	return count;
}

/* Waiters on loops. */

/* The waiter is no longer pending. No round begins while some are being released, so
 * then it is one of these. */
static void forget(struct evwork_latch_waiter *waiter)
{
	struct evwork_latch *latch = waiter->_latch;

	evwork_ctx_unref(waiter->_ctx);
	__atomic_store_n(&waiter->_latch, NULL, __ATOMIC_RELAXED);
	sys_lock(&latch->mutex);
	latch->pending--;
	if (latch->releasing)
		latch->releasing--;
	/* From here on the latch may be freed. */
	sys_unlock(&latch->mutex);
}

static void released(struct evwork_watch *watch, int status)
{
	struct evwork_latch_waiter *waiter = EVWORK_CONTAINER(watch,
		struct evwork_latch_waiter, _watch);

	if (evwork_ctx_err(waiter->_ctx))
		status = 0;     /* the count was zero, whatever became of the loop */
	forget(waiter);
	waiter->fn(waiter, status);
}

void evwork_latch_waiter_init(struct evwork_latch_waiter *waiter, evwork_latch_fn fn)
{
	memset(waiter, 0, sizeof(*waiter));
	waiter->fn = fn;
	evwork_watch_init(&waiter->_watch, released);
}

/* The context to wait for, with a reference; NULL for want of memory. */
static struct evwork_ctx *round_locked(struct evwork_latch *latch)
{
	if (latch->count == 0)
		return evwork_ctx_ref(latch->zero);
	if (!latch->round && evwork_ctx_new(NULL, &latch->round) != 0)
		return NULL;
	return evwork_ctx_ref(latch->round);
}

int evwork_latch_after(struct evwork_latch *latch, struct evwork_loop *loop,
	struct evwork_latch_waiter *waiter)
{
	struct evwork_latch *idle = NULL;
	int rc;

	if (!latch || !waiter || !waiter->fn || !loop)
		return -EINVAL;
	if (inherited(latch))
		return -ESHUTDOWN;
	/* Relaxed: who uses one waiter on several threads must order that himself. */
	if (!__atomic_compare_exchange_n(&waiter->_latch, &idle, latch, false,
			__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return -EBUSY;
	sys_lock(&latch->mutex);
	waiter->_ctx = round_locked(latch);
	if (waiter->_ctx) {
		latch->pending++;
		latch->releasing += latch->count == 0;
	}
	sys_unlock(&latch->mutex);
	if (!waiter->_ctx) {
		__atomic_store_n(&waiter->_latch, NULL, __ATOMIC_RELAXED);
		return -ENOMEM;
	}
	rc = evwork_ctx_after(waiter->_ctx, loop, &waiter->_watch);
	if (rc)
		forget(waiter);
	return rc;
}

int evwork_latch_stop(struct evwork_latch_waiter *waiter)
{
	if (!waiter)
		return -EINVAL;
	if (evwork_ctx_stop(&waiter->_watch) != 1)
		return 0;
	forget(waiter);
	return 1;
}

/* Threads that wait. */

struct latch_wait {
	struct ctx_hook hook;
	struct evwork_latch *latch;
};

static void ctx_died(struct ctx_hook *hook, int err)
{
	struct evwork_latch *latch = EVWORK_CONTAINER(hook, struct latch_wait, hook)->latch;

	(void)err;
	/* Under the lock, or the waiter could be between its look and its sleep. */
	sys_lock(&latch->mutex);
	sys_cond_broadcast(&latch->changed);
	sys_unlock(&latch->mutex);
}

/* Waits for the end of the present round, as one of its waiters; false if ctx died
 * first. */
static bool await_round_locked(struct evwork_latch *latch, struct evwork_ctx *ctx,
	uint64_t round)
{
	int64_t until = ctx_wait_limit(ctx);

	while (latch->rounds == round && !ctx_wait_is_over(ctx, until))
		sys_cond_wait(&latch->changed, &latch->mutex, until);
	return latch->rounds != round;
}

int evwork_latch_wait(struct evwork_latch *latch, struct evwork_ctx *ctx)
{
	struct latch_wait wait = { .hook = { .died = ctx_died }, .latch = latch };
	uint64_t round;
	bool zero;

	if (!latch)
		return -EINVAL;
	if (loop_any_here())
		return -EDEADLK;
	if (inherited(latch))
		return -ESHUTDOWN;
	sys_lock(&latch->mutex);
	zero = latch->count == 0;
	round = latch->rounds;
	latch->waiting += !zero;
	sys_unlock(&latch->mutex);
	if (zero)
		return 0;
	ctx_add_hook(ctx, &wait.hook);
	sys_lock(&latch->mutex);
	zero = await_round_locked(latch, ctx, round);
	sys_unlock(&latch->mutex);
	/* The hook uses the latch, which a waiter keeps. */
	ctx_remove_hook(ctx, &wait.hook);
	sys_lock(&latch->mutex);
	latch->waiting--;
	if (latch->rounds != round)
		latch->releasing--;
	sys_unlock(&latch->mutex);
	return zero ? 0 : evwork_ctx_err(ctx);
}

int evwork_latch_free(struct evwork_latch *latch)
{
	bool busy;

	if (!latch)
		return 0;
	if (inherited(latch)) {
		/* Its locks stay as they are. */
		evwork_ctx_unref(latch->round);
		evwork_ctx_unref(latch->zero);
		sys_free(latch);
		return 0;
	}
	sys_lock(&latch->mutex);
	busy = latch->pending || latch->waiting || latch->releasing;
	sys_unlock(&latch->mutex);
	if (busy)
		return -EBUSY;
	evwork_ctx_unref(latch->round);
	evwork_ctx_unref(latch->zero);
	sys_cond_fini(&latch->changed);
	sys_mutex_fini(&latch->mutex);
	sys_free(latch);
	return 0;
}
