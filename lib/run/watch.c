/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Watches: callbacks on a loop after the death of a context.
 *
 *	IDLE ──after──► PENDING ──death, close──► FIRED ──turn──► CALLING ──► IDLE
 *	                   └───────── stop ─────────┴───────────────┴──────────┘
 *
 * A pending watch is in two lists, its context's and its loop's; a fired one in the
 * loop's list of those to call in a later turn, and one that is calling in the list
 * of those whose turn has come. The state and the loop's lists are covered by
 * the loop's lock, the context's list by the tree's, which is taken first. A
 * watch holds a reference to its context until it is idle again.
 */

#include <string.h>

#include "run/ctx.h"
#include "run/loop.h"

void evwork_watch_init(struct evwork_watch *watch, evwork_watch_fn fn)
{
	memset(watch, 0, sizeof(*watch));
	watch->fn = fn;
}

void watch_set_idle(struct evwork_watch *watch)
{
	watch->_state = WATCH_IDLE;
	watch->_ctx = NULL;
	/* Relaxed: a stop that still sees the loop finds the truth under its lock. */
	__atomic_store_n(&watch->_loop, NULL, __ATOMIC_RELAXED);
}

int watch_set(struct evwork_ctx *ctx, struct evwork_loop *loop, struct evwork_watch *watch)
{
	bool in_tree = !ctx_is_background(ctx);
	int err, rc = 0;

	if (loop->inherited || (in_tree && ctx_is_inherited(ctx)))
		return -ESHUTDOWN;
	if (!in_tree)
		ctx = NULL;
	if (in_tree)
		ctx_lock(ctx);
	err = in_tree ? ctx_err_locked(ctx) : 0;
	sys_lock(&loop->mutex);
	if (watch->_state != WATCH_IDLE) {
		rc = -EBUSY;
	} else if (atomic_load_explicit(&loop->closing, memory_order_relaxed)) {
		rc = -ESHUTDOWN;
	} else {
		watch->_ctx = evwork_ctx_ref(ctx);
		__atomic_store_n(&watch->_loop, loop, __ATOMIC_RELAXED);
		watch->_order = loop->timer_order++;
		watch->_state = WATCH_PENDING;
		LIST_APPEND(&loop->watches, watch, _loop_next, _loop_prev);
		if (in_tree && !err)
			LIST_APPEND(&ctx->watches, watch, _next, _prev);
	}
	sys_unlock(&loop->mutex);
	if (rc == 0 && err)
		loop_fire_watch(loop, watch, err);
	if (in_tree)
		ctx_unlock(ctx);
	return rc;
}

int evwork_ctx_after(struct evwork_ctx *ctx, struct evwork_loop *loop,
	struct evwork_watch *watch)
{
	if (!watch || !watch->fn || !loop)
		return -EINVAL;
	/* A deadline that has passed is seen at once. */
	evwork_ctx_err(ctx);
	return watch_set(ctx, loop, watch);
}

void watch_set_for_loss(struct evwork_loop *loop, struct evwork_watch *watch)
{
	sys_lock(&loop->mutex);
	watch->_ctx = NULL;
	__atomic_store_n(&watch->_loop, loop, __ATOMIC_RELAXED);
	watch->_order = loop->timer_order++;
	watch->_state = WATCH_PENDING;
	LIST_APPEND(&loop->watches, watch, _loop_next, _loop_prev);
	sys_unlock(&loop->mutex);
}

void watch_fire(struct evwork_loop *loop, struct evwork_ctx *ctx, struct evwork_watch *watch)
{
	bool in_tree = !ctx_is_background(ctx);

	if (in_tree)
		ctx_lock(ctx);
	sys_lock(&loop->mutex);
	if (watch->_state == WATCH_PENDING) {
		if (in_tree)
			LIST_REMOVE(&ctx->watches, watch, _next, _prev);
		loop_fire_watch_locked(loop, watch, 0);
	}
	sys_unlock(&loop->mutex);
	if (in_tree)
		ctx_unlock(ctx);
}

/* Takes a watch out of whatever it is in; the locks that apply are held. */
static void withdraw_locked(struct evwork_loop *loop, struct evwork_watch *watch,
	struct evwork_ctx *ctx)
{
	if (watch->_state == WATCH_CALLING) {
		LIST_REMOVE(&loop->calling, watch, _loop_next, _loop_prev);
	} else if (watch->_state == WATCH_FIRED) {
		LIST_REMOVE(&loop->fired, watch, _loop_next, _loop_prev);
	} else {
		LIST_REMOVE(&loop->watches, watch, _loop_next, _loop_prev);
		if (ctx)
			LIST_REMOVE(&ctx->watches, watch, _next, _prev);
	}
	watch_set_idle(watch);
}

int evwork_ctx_stop(struct evwork_watch *watch)
{
	struct evwork_loop *loop;
	struct evwork_ctx *ctx;
	bool mine;

	if (!watch)
		return -EINVAL;
	loop = __atomic_load_n(&watch->_loop, __ATOMIC_RELAXED);
	if (!loop)
		return 0;
	if (loop->inherited)
		return -ESHUTDOWN;
	sys_lock(&loop->mutex);
	if (watch->_state == WATCH_IDLE ||
	    __atomic_load_n(&watch->_loop, __ATOMIC_RELAXED) != loop) {
		sys_unlock(&loop->mutex);
		return 0;
	}
	ctx = evwork_ctx_ref(watch->_ctx);
	sys_unlock(&loop->mutex);

	/* Once more, with the tree's lock, which comes first. */
	if (ctx)
		ctx_lock(ctx);
	sys_lock(&loop->mutex);
	mine = watch->_state != WATCH_IDLE && watch->_ctx == ctx &&
		__atomic_load_n(&watch->_loop, __ATOMIC_RELAXED) == loop;
	if (mine)
		withdraw_locked(loop, watch, ctx);
	sys_unlock(&loop->mutex);
	if (ctx)
		ctx_unlock(ctx);
	if (mine)
		evwork_ctx_unref(ctx);
	evwork_ctx_unref(ctx);
	return mine;
}

void watch_end(struct evwork_loop *loop, struct evwork_watch *watch, struct evwork_ctx *ctx)
{
	if (ctx)
		ctx_lock(ctx);
	sys_lock(&loop->mutex);
	/* It may have been stopped, and its memory be gone, in between: only being
	 * still in the list makes the pointer one to follow. */
	if (loop->watches.head == watch && watch->_ctx == ctx) {
		LIST_REMOVE(&loop->watches, watch, _loop_next, _loop_prev);
		if (ctx)
			LIST_REMOVE(&ctx->watches, watch, _next, _prev);
		LIST_APPEND(&loop->calling, watch, _loop_next, _loop_prev);
		watch->_state = WATCH_CALLING;
		watch->_status = -ECANCELED;
	}
	sys_unlock(&loop->mutex);
	if (ctx)
		ctx_unlock(ctx);
}
