/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Selects, and waits that call back, of which a single send or receive is one with one
 * case.
 *
 * A select holds the locks of all its channels while it looks what is ready, so that
 * "nothing" is true of one instant, and while it makes itself one who waits, so that
 * nothing comes in between. Who serves one of its cases holds the locks of that channel
 * only: it claims the wait, and the cases that stay behind in other lists are taken out
 * by the select itself, before it ends. Until then they serve nobody.
 *
 * A wait that calls back is a watch on its context (run/watch.c). Serving it fires the
 * watch; so it shares with watches what becomes of them when contexts die and loops
 * close. The callback takes the locks before it looks at the outcome: who serves holds
 * one of them until it no longer needs the waiter.
 */

#include "flow/chan.h"

#include <limits.h>

#include "run/ctx.h"
#include "run/loop.h"

/* Several channels. */

static uintptr_t place(const struct evwork_case *one)
{
	return (uintptr_t)one->chan->core;
}

/* Merges two lists that are in order; of the same channel only one stays. */
static struct evwork_case *merge(struct evwork_case *a, struct evwork_case *b)
{
	struct evwork_case *first = NULL, **last = &first;

	while (a && b) {
		if (place(a) == place(b)) {
			b = b->_order;
			continue;
		}
		if (place(a) > place(b)) {
			struct evwork_case *less = b;

			b = a;
			a = less;
		}
		*last = a;
		last = &a->_order;
		a = a->_order;
	}
	*last = a ? a : b;
	return first;
}

struct evwork_case *cases_order(struct evwork_case *cases, size_t count)
{
	if (count > 1)
		return merge(cases_order(cases, count / 2),
			cases_order(cases + count / 2, count - count / 2));
	if (count == 0 || !cases->chan)
		return NULL;
	cases->_order = NULL;
	return cases;
}

void cases_lock(struct evwork_case *order)
{
	for (; order; order = order->_order)
		chan_lock(order->chan->core);
}

void cases_unlock(struct evwork_case *order)
{
	struct evwork_case *next;

	/* Once the last is unlocked, who waits for the locks may free the cases. */
	for (; order; order = next) {
		next = order->_order;
		chan_unlock(order->chan->core);
	}
}

/* The lots of a thread, xorshift64*; 0 before the first. */
static SYS_THREAD_LOCAL uint64_t lots;

void cases_seed(uint64_t seed)
{
	lots = seed;
}

/* As many are tried one after the other before all are locked. */
#define FEW_CASES 16

/* A number below `bound`, all alike. */
static uint32_t draw(uint32_t bound)
{
	if (bound == 1)
		return 0;
	while (lots == 0)
		lots = sys_random();
	lots ^= lots >> 12;
	lots ^= lots << 25;
	lots ^= lots >> 27;
	return (uint32_t)(((lots * UINT64_C(2685821657736338717)) >> 32) * bound >> 32);
}

int cases_commit(struct evwork_case *cases, size_t count, struct wake_list *wakes)
{
	size_t i, chosen = 0;
	uint32_t ready;

	do {
		ready = 0;
		for (i = 0; i < count; i++) {
			if (cases[i].chan && chan_case_is_ready(&cases[i]) && draw(++ready) == 0)
				chosen = i;
		}
		/* Whom it was ready for may be claimed elsewhere in between. */
	} while (ready && !chan_case_commit(&cases[chosen], wakes));
	return ready ? (int)chosen : -EAGAIN;
}

/* One case by itself: whether it was done. */
static bool try_case(struct evwork_case *one)
{
	int rc = one->op == EVWORK_SEND ? chan_try_send(one->chan, one->value, 1) :
		chan_try_receive(one->chan, one->value, 1);

	if (rc == -EAGAIN)
		return false;
	one->status = one->op == EVWORK_SEND && rc == 1 ? 0 : rc;
	return true;
}

int cases_try_each(struct evwork_case *cases, size_t count)
{
	unsigned char left[FEW_CASES];
	uint32_t n = count <= FEW_CASES ? (uint32_t)count : 0, i, at;

	for (i = 0; i < n; i++)
		left[i] = (unsigned char)i;
	while (n > 0) {
		i = draw(n);
		at = left[i];
		left[i] = left[--n];
		if (cases[at].chan && try_case(&cases[at]))
			return (int)at;
	}
	return -EAGAIN;
}

void cases_hold(struct evwork_chan_wait *wait)
{
	size_t i;

	/* Relaxed: the locks order it; and if no case has a channel, what it is told to. */
	__atomic_store_n(&wait->state, WAIT_PARKED, __ATOMIC_RELAXED);
	for (i = 0; i < wait->count; i++) {
		wait->cases[i]._wait = wait;
		wait->cases[i]._listed = 0;
		if (wait->cases[i].chan)
			wait->cases[i].chan->waiting++;
	}
}

void cases_enlist(struct evwork_chan_wait *wait)
{
	size_t i;

	for (i = 0; i < wait->count; i++) {
		if (wait->cases[i].chan)
			chan_enlist(&wait->cases[i]);
	}
}

void cases_release(struct evwork_chan_wait *wait)
{
	size_t i;

	for (i = 0; i < wait->count; i++) {
		if (wait->cases[i]._listed)
			chan_delist(&wait->cases[i]);
		if (wait->cases[i].chan)
			wait->cases[i].chan->waiting--;
	}
}

int cases_check(const struct evwork_case *cases, size_t count)
{
	int rc = cases && count <= INT_MAX ? 0 : -EINVAL;
	size_t i;

	for (i = 0; rc != -EINVAL && i < count; i++) {
		const struct evwork_case *one = &cases[i];
		int bad = one->op != EVWORK_SEND && one->op != EVWORK_RECV ? -EINVAL :
			one->chan ? chan_check(one->chan, one->op, one->value) : 0;

		if (bad == -EINVAL || bad == -EPERM || rc == 0)
			rc = bad ? bad : rc;
	}
	return rc;
}

int evwork_select_try(struct evwork_case *cases, size_t count)
{
	struct wake_list wakes = { NULL };
	struct evwork_case *order;
	int rc = count ? cases_check(cases, count) : -EAGAIN;

	if (rc)
		return rc;
	rc = cases_try_each(cases, count);
	if (rc != -EAGAIN)
		return rc;
	order = cases_order(cases, count);
	cases_lock(order);
	rc = cases_commit(cases, count, &wakes);
	cases_unlock(order);
	chan_wake_all(&wakes);
	return rc;
}

/* Waits that call back. */

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

static void on_watch(struct evwork_watch *watch, int status)
{
	struct evwork_chan_waiter *waiter = EVWORK_CONTAINER(watch, struct evwork_chan_waiter,
		_watch);
	void (*unused)(void *value);
	int result;

	end_wait(&waiter->_wait, status, &unused);
	result = waiter->_wait.result;
	if (result >= 0 && waiter->_wait.cases == &waiter->_case)
		result = waiter->_case.status;
	let_go(waiter);
	waiter->fn(waiter, result);
}

/* The loop was freed by force: nobody will hear of it. */
static void on_lost(struct evwork_watch *watch)
{
	struct evwork_chan_waiter *waiter = EVWORK_CONTAINER(watch, struct evwork_chan_waiter,
		_watch);
	struct evwork_chan_wait *wait = &waiter->_wait;
	void (*drop)(void *value) = NULL;
	void *value = NULL;

	if (!end_wait(wait, -ECANCELED, &drop)) {
		const struct evwork_case *served = &wait->cases[wait->result];

		if (served->op == EVWORK_RECV && served->status == 1)
			value = served->value;
		else
			drop = NULL;
	}
	/* First: drop may free what the waiter is in. */
	let_go(waiter);
	if (drop)
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

int evwork_select(struct evwork_case *cases, size_t count, struct evwork_ctx *ctx,
	struct evwork_loop *loop, struct evwork_chan_waiter *waiter)
{
	int rc = loop && waiter && waiter->fn && count ? cases_check(cases, count) : -EINVAL;

	if (rc == 0)
		rc = reserve(waiter, ctx, loop);
	return rc ? rc : begin(waiter, cases, count, ctx);
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
