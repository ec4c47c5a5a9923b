/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Waits that call back, of which a single send or receive is one with one case.
 *
 * Such a wait is a watch on its context (run/watch.c). Serving it fires the watch; so it
 * shares with watches what becomes of them when contexts die and loops close. The
 * callback takes the locks before it looks at the outcome: who serves holds one of them
 * until it no longer needs the waiter.
 */

#include "flow/chan.h"

#include "run/ctx.h"
#include "run/loop.h"

/* The waiter is the caller's again. */
static void let_go(struct evwork_chan_waiter *waiter)
{
	evwork_ctx_unref(waiter->_wait.ctx);
	/* Relaxed: who uses one waiter on several threads must order that himself. */
	__atomic_store_n(&waiter->_wait.loop, NULL, __ATOMIC_RELAXED);
}

/* Ends the wait with err if nobody was earlier, and leaves no trace of it; whether it
 * was this that ended it. If not, *ret_drop becomes what its value would be dropped with. */
static bool end_wait(struct evwork_chan_wait *wait, int err, void (**ret_drop)(void *value))
{
	bool mine;

	cases_lock(wait->order);
	mine = wait_claim(wait);
	if (mine)
		wait->result = err;
	else
		*ret_drop = wait->cases[wait->result].chan->core->drop;
	cases_release(wait);
	cases_unlock(wait->order);
	return mine;
}

/* What the owner is told. */
static int result_of(const struct evwork_chan_waiter *waiter)
{
	int result = waiter->_wait.result;

	return result >= 0 && waiter->_wait.cases == &waiter->_case ? waiter->_case.status : result;
}

static void on_watch(struct evwork_watch *watch, int status)
{
	struct evwork_chan_waiter *waiter = EVWORK_CONTAINER(watch, struct evwork_chan_waiter,
		_watch);
	void (*unused)(void *value);
	int result;

	end_wait(&waiter->_wait, status, &unused);
	result = result_of(waiter);
	let_go(waiter);
	waiter->fn(waiter, result);
}

/* The loop was freed by force: nobody will hear of it, but parts of the library. */
static void on_lost(struct evwork_watch *watch)
{
	struct evwork_chan_waiter *waiter = EVWORK_CONTAINER(watch, struct evwork_chan_waiter,
		_watch);
	struct evwork_chan_wait *wait = &waiter->_wait;
	void (*drop)(void *value) = NULL;
	void (*lost)(struct evwork_chan_waiter *waiter, int result);
	void *value = NULL;
	int result;

	if (!end_wait(wait, -ECANCELED, &drop)) {
		const struct evwork_case *served = &wait->cases[wait->result];

		if (served->op == EVWORK_RECV && served->status == 1)
			value = served->value;
		else
			drop = NULL;
	}
	result = result_of(waiter);
	lost = waiter->_lost;
	/* First: drop may free what the waiter is in. */
	let_go(waiter);
	if (lost)
		lost(waiter, result);
	else if (drop)
		drop(value);
}

void evwork_chan_waiter_init(struct evwork_chan_waiter *waiter, evwork_chan_fn fn)
{
	memset(waiter, 0, sizeof(*waiter));
	waiter->fn = fn;
	evwork_watch_init(&waiter->_watch, on_watch);
	waiter->_watch._lost = on_lost;
}

/* [all locked] The watch is set, and the cases are held: does what can be done, or waits. */
static void begin_locked(struct evwork_chan_waiter *waiter, struct wake_list *wakes)
{
	struct evwork_chan_wait *wait = &waiter->_wait;
	int rc = cases_commit(wait->cases, wait->count, wakes);

	if (rc == -EAGAIN) {
		cases_enlist(wait);
		return;
	}
	wait->result = rc;
	/* Relaxed: the locks order it. */
	__atomic_store_n(&wait->state, WAIT_CLAIMED, __ATOMIC_RELAXED);
	watch_fire(wait->loop, wait->ctx, &waiter->_watch);
}

/* The waiter was marked as pending by its loop; all but that was checked. */
static int begin(struct evwork_chan_waiter *waiter, struct evwork_case *cases, size_t count,
	struct evwork_ctx *ctx)
{
	struct evwork_chan_wait *wait = &waiter->_wait;
	struct wake_list wakes = { NULL };
	struct evwork_case *order = cases_order(cases, count);
	int rc;

	wait->cases = cases;
	wait->count = count;
	wait->order = order;
	wait->ctx = evwork_ctx_ref(ctx);
	cases_lock(order);
	cases_hold(wait);
	/* In a select it is the status of its case. */
	if (cases == &waiter->_case && chan_end_is_shut(cases->chan, cases->op))
		rc = -ESHUTDOWN;
	else
		rc = watch_set(ctx, wait->loop, &waiter->_watch);
	/* Without a channel there is no lock: the waiter may have been called back. */
	if (rc)
		cases_release(wait);
	else if (order)
		begin_locked(waiter, &wakes);
	cases_unlock(order);
	/* From here on an accepted waiter may have been called back, and be gone. */
	chan_wake_all(&wakes);
	if (rc)
		let_go(waiter);
	return rc;
}

/* Marks the waiter as pending, unless something is against it. */
static int reserve(struct evwork_chan_waiter *waiter, struct evwork_ctx *ctx,
	struct evwork_loop *loop)
{
	struct evwork_loop *idle = NULL;
	int rc;

	/* Relaxed: see let_go. */
	if (!__atomic_compare_exchange_n(&waiter->_wait.loop, &idle, loop, false,
			__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return -EBUSY;
	rc = atomic_load_explicit(&loop->closing, memory_order_relaxed) ? -ESHUTDOWN :
		chan_ctx_err(ctx);
	if (rc)
		__atomic_store_n(&waiter->_wait.loop, NULL, __ATOMIC_RELAXED);
	return rc;
}

int cases_begin(struct evwork_chan_waiter *waiter, struct evwork_case *cases, size_t count,
	struct evwork_ctx *ctx, struct evwork_loop *loop)
{
	int rc = reserve(waiter, ctx, loop);

	return rc ? rc : begin(waiter, cases, count, ctx);
}

int evwork_select(struct evwork_case *cases, size_t count, struct evwork_ctx *ctx,
	struct evwork_loop *loop, struct evwork_chan_waiter *waiter)
{
	int rc = loop && waiter && waiter->fn && count ? cases_check(cases, count) : -EINVAL;

	return rc ? rc : cases_begin(waiter, cases, count, ctx, loop);
}

/* A single operation: the case is the waiter's own. */
static int begin_one(struct evwork_case one, struct evwork_ctx *ctx, struct evwork_loop *loop,
	struct evwork_chan_waiter *waiter)
{
	int rc = loop && waiter && waiter->fn ? chan_check(one.chan, one.op, one.value) : -EINVAL;

	if (rc == 0)
		rc = reserve(waiter, ctx, loop);
	if (rc == -ECANCELED || rc == -ETIMEDOUT)
		return chan_shut_or(one.chan, one.op, rc);
	if (rc)
		return rc;
	waiter->_case = one;
	return begin(waiter, &waiter->_case, 1, ctx);
}

int evwork_chan_send(struct evwork_chan *chan, const void *value, struct evwork_ctx *ctx,
	struct evwork_loop *loop, struct evwork_chan_waiter *waiter)
{
	return begin_one(evwork_send_case(chan, value), ctx, loop, waiter);
}

int evwork_chan_recv(struct evwork_chan *chan, void *value, struct evwork_ctx *ctx,
	struct evwork_loop *loop, struct evwork_chan_waiter *waiter)
{
	return begin_one(evwork_recv_case(chan, value), ctx, loop, waiter);
}

int evwork_chan_stop(struct evwork_chan_waiter *waiter)
{
	struct evwork_chan_wait *wait;
	struct evwork_loop *loop;
	bool mine;

	if (!waiter)
		return -EINVAL;
	loop = __atomic_load_n(&waiter->_wait.loop, __ATOMIC_RELAXED);
	if (!loop)
		return -ESRCH;
	if (!loop_is_here(loop))
		return -EPERM;
	/* Those who had the locks may not be there. */
	if (loop->inherited)
		return -ESHUTDOWN;
	wait = &waiter->_wait;
	cases_lock(wait->order);
	mine = wait_claim(wait);
	if (mine)
		cases_release(wait);
	cases_unlock(wait->order);
	if (!mine)
		return -EALREADY;
	/* Whatever fired it, its callback has not come: that would be on this thread. */
	evwork_ctx_stop(&waiter->_watch);
	let_go(waiter);
	return 0;
}
