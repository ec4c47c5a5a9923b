/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Hedges. All happens on the loop. The copies share a context, which is cancelled when the
 * call is decided. Each copy that runs has a reference to the call, and so has each callback
 * that works on it; the last one lets the call drain, or, if the loop was freed by force,
 * go without a word.
 *
 * Only a cancel may come from elsewhere, and while the call goes. The hedge's word for its
 * call is what both go by: the lowest bit says that a cancel looks at the call, and the
 * call's end waits for the few instructions that takes. A child of a fork, where the bit
 * may stay for ever, looks at _made_in first.
 *
 * A child that was made in a function of the user's may return from it, and may have freed
 * there what the call uses. It touches nothing but the call, and leaves that.
 */

#include <errno.h>

#include "base/fork.h"
#include "guard/attempt.h"
#include "run/ctx.h"
#include "run/loop.h"

struct evwork_hedge_call {
	unsigned made_in;             /* fork_here() when it was made */
	struct evwork_hedge *hedge;
	struct evwork_loop *loop;
	bool own;                     /* see loop_enter */
	struct evwork_ctx *ctx;       /* of all copies, below the hedge's */
	struct letter begin;
	struct evwork_timer timer;    /* the next copy's */
	atomic_int refs;
	atomic_bool lost;             /* the loop was freed by force; relaxed, refs order it */
	int next;                     /* copies that were started or refused */
	int running;
	bool active;                  /* it has entered the budget */
	bool decided;
	int status;                   /* once it is decided; before that the first failure */
	struct evwork_attempt attempts[];
};

enum { HELD = 1 };

/* Whether this is a child that was made in a function of the user's. */
static bool is_child(const struct evwork_hedge_call *call)
{
	return call->made_in != fork_here();
}

/* The call of the hedge, which cannot end before release_call; or NULL. */
static struct evwork_hedge_call *hold_call(struct evwork_hedge *hedge)
{
	uintptr_t call = __atomic_load_n(&hedge->_call, __ATOMIC_RELAXED);

	for (;;) {
		if (call == 0)
			return NULL;
		/* Acquire: what start wrote; pairs with its release. A failure reads it anew. */
		if (!(call & HELD) && __atomic_compare_exchange_n(&hedge->_call, &call,
				call | HELD, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return (struct evwork_hedge_call *)call;
		if (call & HELD) {
			sys_yield();
			call = __atomic_load_n(&hedge->_call, __ATOMIC_RELAXED);
		}
	}
}

static void release_call(struct evwork_hedge *hedge, struct evwork_hedge_call *call)
{
	/* Release: the look at the call is over; pairs with the acquire of forget_call. */
	__atomic_store_n(&hedge->_call, (uintptr_t)call, __ATOMIC_RELEASE);
}

static void forget_call(struct evwork_hedge *hedge, struct evwork_hedge_call *call)
{
	uintptr_t unheld = (uintptr_t)call;

	/* Acquire: no cancel looks at it any more; pairs with release_call. */
	while (!__atomic_compare_exchange_n(&hedge->_call, &unheld, 0, false, __ATOMIC_ACQUIRE,
			__ATOMIC_RELAXED)) {
		unheld = (uintptr_t)call;
		sys_yield();
	}
}

static void unref(struct evwork_hedge_call *call)
{
	struct evwork_hedge *hedge = call->hedge;
	struct evwork_loop *loop = call->loop;
	bool own = call->own, lost;
	int status = call->status;

	if (is_child(call))
		return;
	/* Release and acquire: what was done to the call is over. */
	if (atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) != 1)
		return;
	lost = atomic_load_explicit(&call->lost, memory_order_relaxed) ||
		(loop_is_here(loop) && loop->orphaned);
	if (call->active)
		evwork_budget_leave(hedge->budget);
	forget_call(hedge, call);
	evwork_ctx_unref(call->ctx);
	sys_free(call);
	loop_leave(loop, own);
	if (!lost && hedge->drained)
		hedge->drained(hedge, status);
}

static void decide(struct evwork_hedge_call *call, int status)
{
	call->decided = true;
	call->status = status;
	evwork_timer_stop(&call->timer);
	evwork_ctx_cancel(call->ctx, 0);
	/* Freed by force, in a callback of this call. */
	if (!call->loop->orphaned)
		call->hedge->done(call->hedge, status);
}

static bool is_fatal(const struct evwork_hedge *hedge, int status)
{
	return hedge->fatal ? hedge->fatal(status, hedge->op.arg) : status_is_final(status);
}

/* A copy has failed. The ctx is looked at first: what comes from its death decides nothing. */
static void note_failure(struct evwork_hedge_call *call, int status)
{
	if (call->status == 0)
		call->status = status;
	if (!evwork_ctx_err(call->ctx) && is_fatal(call->hedge, status) && !is_child(call))
		decide(call, status);
}

/* Whether the budget, where there is one, allows the copy. */
static bool may_begin(struct evwork_hedge_call *call, int number)
{
	struct evwork_budget *budget = call->hedge->budget;

	if (!budget)
		return true;
	if (number == 1) {
		call->active = evwork_budget_enter(budget) == 0;
		return true;
	}
	if (evwork_budget_withdraw(budget) != 0) {
		call->hedge->refused++;
		return false;
	}
	call->attempts[number - 1].withdrawn = true;
	return true;
}

static void begin_copy(struct evwork_hedge_call *call, int number)
{
	struct evwork_attempt *attempt = &call->attempts[number - 1];
	int rc;

	attempt->number = number;
	call->hedge->launched++;
	call->running++;
	atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
	rc = attempt_begin(attempt, call->ctx, 0);
	if (rc == 0)
		return;
	attempt_give_back(attempt, call->hedge->budget);
	call->running--;
	/* Not the last: the callback that this is in has one. */
	atomic_fetch_sub_explicit(&call->refs, 1, memory_order_relaxed);
	note_failure(call, rc);
}

static bool may_go_on(struct evwork_hedge_call *call)
{
	return !is_child(call) && !call->decided && call->next < call->hedge->copies &&
		!evwork_ctx_err(call->ctx);
}

/* Begins the next copy, and more only if that failed or was refused while none runs; sets
 * the timer for the one after it. */
static void go_on(struct evwork_hedge_call *call)
{
	int running = call->running, err;

	evwork_timer_stop(&call->timer);
	while (may_go_on(call)) {
		int number = ++call->next;

		if (may_begin(call, number))
			begin_copy(call, number);
		else if (call->running)
			break;
		if (call->running > running)
			break;
	}
	/* Refused by a loop that closes: the copies that run are the last. */
	if (may_go_on(call))
		evwork_timer_start(call->loop, &call->timer, call->hedge->delay_ms);
	if (is_child(call) || call->decided || call->running)
		return;
	err = evwork_ctx_err(call->ctx);
	decide(call, err ? err : call->status);
}

static void on_ended(struct evwork_attempt *attempt, int status)
{
	struct evwork_hedge_call *call = EVWORK_CONTAINER(attempt - (attempt->number - 1),
		struct evwork_hedge_call, attempts);

	attempt_give_back(attempt, call->hedge->budget);
	call->running--;
	if (!call->decided && status == 0) {
		call->hedge->winner = attempt->number;
		decide(call, 0);
	} else if (!call->decided) {
		note_failure(call, status);
		if (!call->decided && !is_child(call))
			go_on(call);
	}
	unref(call);
}

static void on_lost(struct evwork_attempt *attempt)
{
	struct evwork_hedge_call *call = EVWORK_CONTAINER(attempt - (attempt->number - 1),
		struct evwork_hedge_call, attempts);

	attempt_give_back(attempt, call->hedge->budget);
	atomic_store_explicit(&call->lost, true, memory_order_relaxed);
	unref(call);
}

static void on_timer(struct evwork_timer *timer, int status)
{
	struct evwork_hedge_call *call = EVWORK_CONTAINER(timer, struct evwork_hedge_call, timer);

	atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
	if (status)
		evwork_ctx_cancel(call->ctx, 0);    /* the loop closes */
	else
		go_on(call);
	unref(call);
}

static void on_begin(struct letter *letter)
{
	struct evwork_hedge_call *call = EVWORK_CONTAINER(letter, struct evwork_hedge_call, begin);

	go_on(call);
	unref(call);
}

static void on_begin_lost(struct letter *letter)
{
	struct evwork_hedge_call *call = EVWORK_CONTAINER(letter, struct evwork_hedge_call, begin);

	atomic_store_explicit(&call->lost, true, memory_order_relaxed);
	unref(call);
}

static bool hedge_valid(const struct evwork_hedge *hedge)
{
	return hedge->done && op_valid(&hedge->op) && hedge->copies >= 1 &&
		hedge->copies <= EVWORK_HEDGE_COPIES_MAX && hedge->delay_ms >= 0 &&
		(hedge->copies == 1 || hedge->idempotent);
}

static struct evwork_hedge_call *call_new(struct evwork_loop *loop, struct evwork_hedge *hedge)
{
	size_t copies = (size_t)hedge->copies, i;
	struct evwork_hedge_call *call = sys_zalloc(sizeof(*call) +
		copies * sizeof(call->attempts[0]));

	if (!call)
		return NULL;
	call->made_in = fork_here();
	call->hedge = hedge;
	call->loop = loop;
	atomic_init(&call->refs, 1);
	letter_init(&call->begin, "the beginning of a hedge", on_begin, on_begin_lost);
	evwork_timer_init(&call->timer, on_timer);
	for (i = 0; i < copies; i++) {
		call->attempts[i].op = &hedge->op;
		call->attempts[i].loop = loop;
		call->attempts[i].ended = on_ended;
		call->attempts[i].lost = on_lost;
	}
	return call;
}

int evwork_hedge_start(struct evwork_loop *loop, struct evwork_hedge *hedge)
{
	struct evwork_hedge_call *call;
	int rc;

	if (!loop || !hedge || !hedge_valid(hedge))
		return -EINVAL;
	if (loop->inherited || (!ctx_is_background(hedge->ctx) && ctx_is_inherited(hedge->ctx)))
		return -ESHUTDOWN;
	if (__atomic_load_n(&hedge->_call, __ATOMIC_RELAXED))
		return -EBUSY;
	rc = atomic_load_explicit(&loop->closing, memory_order_relaxed) ? -ESHUTDOWN :
		evwork_ctx_err(hedge->ctx);
	if (rc)
		return rc;
	call = call_new(loop, hedge);
	if (!call)
		return -ENOMEM;
	rc = evwork_ctx_new(hedge->ctx, &call->ctx);
	if (rc == 0)
		rc = loop_enter(loop, &call->own);
	if (rc) {
		evwork_ctx_unref(call->ctx);
		sys_free(call);
		return rc;
	}
	hedge->launched = hedge->refused = hedge->winner = 0;
	__atomic_store_n(&hedge->_made_in, fork_here(), __ATOMIC_RELAXED);
	/* Release: the call is as a cancel must find it; pairs with hold_call. */
	__atomic_store_n(&hedge->_call, (uintptr_t)call, __ATOMIC_RELEASE);
	mailbox_post(loop->box, &call->begin.mail);
	return 0;
}

int evwork_hedge_cancel(struct evwork_hedge *hedge)
{
	struct evwork_hedge_call *call;
	struct evwork_ctx *ctx;
	int rc;

	if (!hedge)
		return -EINVAL;
	/* Acquire: where the call was made; pairs with the release of start. Relaxed then: in
	 * one process it never says another. */
	if (__atomic_load_n(&hedge->_call, __ATOMIC_ACQUIRE) &&
	    __atomic_load_n(&hedge->_made_in, __ATOMIC_RELAXED) != fork_here())
		return -ESHUTDOWN;
	call = hold_call(hedge);
	if (!call)
		return -ESRCH;
	ctx = evwork_ctx_ref(call->ctx);
	release_call(hedge, call);
	rc = evwork_ctx_cancel(ctx, 0);
	evwork_ctx_unref(ctx);
	return rc;
}
