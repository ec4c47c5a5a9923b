/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Retries. All happens on the loop:
 *
 *	start ─letter─► attempt ──failed──► backoff ──time──► attempt ...
 *	                   └─► done            └─ctx, close─► done
 *
 * From start to done the retry counts as something on its way to the loop, so the loop is
 * there. During a backoff a timer and a watch on the context are set; whichever is called
 * first stops the other. What must be kept meanwhile is allocated at start, so that nothing
 * later needs memory, but for the contexts of attempts that have a time limit.
 *
 * Where attempts may overlap each has a place of its own, and a second timer abandons the one
 * that is out. The call then stays until the last of them has ended, though the retry was
 * done before: each attempt that is out has a reference to it, and so has the retry.
 *
 * A child of a fork that was made in a function of the user's may return from it, and may
 * have freed there what the call uses. It touches nothing but the call, and leaves that.
 */

#include "guard/retry.h"

#include <errno.h>

#include "base/fork.h"
#include "guard/attempt.h"
#include "run/ctx.h"
#include "run/loop.h"

struct evwork_retry_call {
	unsigned made_in;             /* fork_here() when it was made */
	struct evwork_retry *retry;
	struct evwork_retry_policy *policy;
	struct evwork_loop *loop;
	bool own;                     /* see loop_enter */
	struct evwork_ctx *ctx;       /* below the retry's, to be cancelled with it */
	struct evwork_op op;          /* may be needed when the retry is done */
	struct evwork_budget *budget; /* the policy's, which may be gone before the call is; or NULL */
	bool active;                  /* it has entered the budget */
	bool withdrawn;               /* for the attempt that is to begin */
	atomic_int refs;
	struct evwork_attempt *attempt;   /* the last one, if it was not abandoned; or NULL */
	struct backoff backoff;
	struct letter begin;
	struct evwork_timer timer;
	struct evwork_watch watch;
	struct evwork_timer limit;    /* of the attempt that is out, where they may overlap */
	struct evwork_attempt attempts[];
};

void evwork_retry_init(struct evwork_retry *retry, struct evwork_retry_policy *policy,
	evwork_retry_done_fn done)
{
	*retry = (struct evwork_retry) { .policy = policy, .done = done };
}

/* Whether this is a child that was made in a function of the user's. */
static bool is_child(const struct evwork_retry_call *call)
{
	return call->made_in != fork_here();
}

/* The end. */

/* From here on the struct is the caller's, but that nobody was told. */
static void give_up_retry(struct evwork_retry_call *call)
{
	struct evwork_retry_policy *policy = call->policy;

	sys_lock(&policy->mutex);
	call->retry->_call = NULL;
	policy->users--;
	sys_unlock(&policy->mutex);
}

static void unref(struct evwork_retry_call *call)
{
	struct evwork_loop *loop = call->loop;
	bool own = call->own;

	if (is_child(call))
		return;
	/* Release and acquire: what was done to the call is over. */
	if (atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) != 1)
		return;
	evwork_ctx_unref(call->ctx);
	sys_free(call);
	loop_leave(loop, own);
}

/* Nothing is on the budget any more but the attempts that were abandoned. */
static void leave_budget(struct evwork_retry_call *call)
{
	if (call->withdrawn)
		evwork_budget_give_back(call->budget);
	if (call->active)
		evwork_budget_leave(call->budget);
	call->withdrawn = call->active = false;
}

static void let_go(struct evwork_retry_call *call)
{
	leave_budget(call);
	give_up_retry(call);
	unref(call);
}

static void finish(struct evwork_retry_call *call, int status, enum evwork_retry_reason reason)
{
	struct evwork_retry *retry = call->retry;
	/* Freed by force, in a callback of this retry. */
	bool lost = call->loop->orphaned;

	retry->reason = reason;
	policy_count(call->policy, &call->policy->stats.stops[reason]);
	let_go(call);
	if (!lost)
		retry->done(retry, status);
}

/* Attempts. */

/* Whether the policy tries again after this error. */
static bool retries(struct evwork_retry_call *call, int status)
{
	const struct evwork_retry_policy *policy = call->policy;
	const struct evwork_attempt *attempt = call->attempt;

	/* One that was abandoned still runs, and may be about to say something. */
	if (!attempt)
		return policy->retryable ? policy->retryable(status, call->retry->attempts,
			policy->arg) : status_is_retryable(status);
	if (attempt->permanent || (attempt->pushed_back && attempt->delay_ms < 0) ||
	    status_is_final(status))
		return false;
	return policy->retryable ? policy->retryable(status, call->retry->attempts, policy->arg) :
		status_is_retryable(status);
}

static int64_t next_delay(struct evwork_retry_call *call)
{
	struct evwork_retry_policy *policy = call->policy;

	if (call->attempt && call->attempt->pushed_back) {
		backoff_restart(&call->backoff, &policy->backoff);
		return sys_time_mul(call->attempt->delay_ms, SYS_NS_PER_MS);
	}
	return backoff_next(&call->backoff, &policy->backoff, backoff_random(&policy->random));
}

static void wait_for(struct evwork_retry_call *call, int64_t delay_ns)
{
	struct evwork_retry *retry = call->retry;
	int64_t due = sys_time_add(clock_now(call->loop->clock), delay_ns);
	int rc;

	/* Counted from before the callback, which may take its time: never early (S-GEN-11). */
	if (call->policy->on_retry)
		call->policy->on_retry(retry, retry->attempts, retry->last_error, delay_ns,
			call->policy->arg);
	if (is_child(call))
		return;
	rc = evwork_timer_start_at(call->loop, &call->timer, due);
	if (rc == 0) {
		rc = evwork_ctx_after(call->ctx, call->loop, &call->watch);
		if (rc)
			evwork_timer_stop(&call->timer);
	}
	if (rc)
		finish(call, retry->last_error, rc == -ENOMEM ? EVWORK_RETRY_MEMORY :
			EVWORK_RETRY_SHUTDOWN);
}

/* The attempt has failed, and its error may be tried again. */
static void consider(struct evwork_retry_call *call)
{
	int64_t delay_ns, now, deadline;
	int status = call->retry->last_error;

	if (call->retry->attempts >= call->policy->max_attempts) {
		finish(call, status, EVWORK_RETRY_ATTEMPTS);
		return;
	}
	if (atomic_load_explicit(&call->loop->closing, memory_order_relaxed)) {
		finish(call, status, EVWORK_RETRY_SHUTDOWN);
		return;
	}
	delay_ns = next_delay(call);
	now = clock_now(call->loop->clock);
	deadline = evwork_ctx_deadline(call->ctx);
	if (deadline != EVWORK_NEVER && sys_time_add(now, delay_ns) >= deadline) {
		finish(call, status, EVWORK_RETRY_DEADLINE);
	} else if (call->budget && evwork_budget_withdraw(call->budget) != 0) {
		finish(call, status, EVWORK_RETRY_BUDGET);
	} else {
		call->withdrawn = call->budget != NULL;
		wait_for(call, delay_ns);
	}
}

/* The last attempt has ended with this, or was abandoned. */
static void go_on(struct evwork_retry_call *call, int status)
{
	bool again;
	int err;

	if (status == 0) {
		finish(call, 0, EVWORK_RETRY_OK);
		return;
	}
	call->retry->last_error = status;
	err = evwork_ctx_err(call->ctx);
	if (err) {
		finish(call, err, EVWORK_RETRY_CTX);
		return;
	}
	again = retries(call, status);
	if (is_child(call))
		return;
	if (again)
		consider(call);
	else
		finish(call, status, EVWORK_RETRY_PERMANENT);
}

static struct evwork_retry_call *call_of(struct evwork_attempt *attempt)
{
	return EVWORK_CONTAINER(attempt - attempt->place, struct evwork_retry_call, attempts);
}

static void drop(struct evwork_retry_call *call, struct evwork_attempt *attempt, int status)
{
	if (call->op.drop)
		call->op.drop(attempt, status, call->op.arg);
}

static void on_ended(struct evwork_attempt *attempt, int status)
{
	struct evwork_retry_call *call = call_of(attempt);

	attempt_give_back(attempt, call->budget);
	if (call->attempt == attempt) {
		evwork_timer_stop(&call->limit);
		go_on(call, status);
	} else {
		drop(call, attempt, status);
	}
	unref(call);
}

/* The time of the attempt that is out is over. */
static void on_limit(struct evwork_timer *timer, int status)
{
	struct evwork_retry_call *call = EVWORK_CONTAINER(timer, struct evwork_retry_call, limit);

	/* A loop that closes waits for it. */
	if (status)
		return;
	call->attempt = NULL;
	go_on(call, -ETIMEDOUT);
}

static void begin_attempt(struct evwork_retry_call *call)
{
	struct evwork_retry *retry = call->retry;
	int64_t limit_ms = call->policy->attempt_timeout_ms;
	struct evwork_attempt *attempt;
	int rc, err = evwork_ctx_err(call->ctx);

	if (err) {
		finish(call, err, EVWORK_RETRY_CTX);
		return;
	}
	if (retry->attempts == 0)
		call->active = call->budget && evwork_budget_enter(call->budget) == 0;
	attempt = &call->attempts[call->policy->overlap ? retry->attempts : 0];
	attempt->place = call->policy->overlap ? retry->attempts : 0;
	attempt->number = ++retry->attempts;
	attempt->withdrawn = call->withdrawn;
	call->withdrawn = false;
	call->attempt = attempt;
	/* Before it begins, as the operation may free the loop by force. */
	rc = call->policy->overlap ? evwork_timer_start(call->loop, &call->limit, limit_ms) : 0;
	atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
	if (rc == 0)
		rc = attempt_begin(attempt, call->ctx, limit_ms);
	if (is_child(call))
		return;
	if (rc) {
		attempt_give_back(attempt, call->budget);
		evwork_timer_stop(&call->limit);
		/* Not the last: that of the retry is there. */
		atomic_fetch_sub_explicit(&call->refs, 1, memory_order_relaxed);
	}
	if (rc == -ESHUTDOWN) {
		/* No further attempt (S-SHUT-2). */
		retry->attempts--;
		finish(call, retry->attempts ? retry->last_error : rc, EVWORK_RETRY_SHUTDOWN);
		return;
	}
	policy_count(call->policy, &call->policy->stats.attempts);
	if (retry->attempts > 1)
		policy_count(call->policy, &call->policy->stats.retries);
	if (rc)
		go_on(call, rc);
}

/* The retry that waits for this attempt, or would begin another, has no end any more. */
static void on_lost(struct evwork_attempt *attempt)
{
	struct evwork_retry_call *call = call_of(attempt);

	attempt_give_back(attempt, call->budget);
	if (call->attempt == attempt)
		let_go(call);
	else
		drop(call, attempt, -ECANCELED);
	unref(call);
}

/* Backoffs. */

static void on_timer(struct evwork_timer *timer, int status)
{
	struct evwork_retry_call *call = EVWORK_CONTAINER(timer, struct evwork_retry_call, timer);

	evwork_ctx_stop(&call->watch);
	if (status)
		finish(call, status, EVWORK_RETRY_SHUTDOWN);
	else
		begin_attempt(call);
}

static void on_watch(struct evwork_watch *watch, int status)
{
	struct evwork_retry_call *call = EVWORK_CONTAINER(watch, struct evwork_retry_call, watch);

	evwork_timer_stop(&call->timer);
	finish(call, status, evwork_ctx_err(call->ctx) ? EVWORK_RETRY_CTX : EVWORK_RETRY_SHUTDOWN);
}

static void on_watch_lost(struct evwork_watch *watch)
{
	struct evwork_retry_call *call = EVWORK_CONTAINER(watch, struct evwork_retry_call, watch);

	/* Before its memory goes: the loop has still to come to its timers. */
	evwork_timer_stop(&call->timer);
	let_go(call);
}

/* The beginning. */

static void on_begin(struct letter *letter)
{
	struct evwork_retry_call *call = EVWORK_CONTAINER(letter, struct evwork_retry_call, begin);

	begin_attempt(call);
}

static void on_begin_lost(struct letter *letter)
{
	let_go(EVWORK_CONTAINER(letter, struct evwork_retry_call, begin));
}

/* NULL for want of memory. */
static struct evwork_retry_call *call_new(struct evwork_loop *loop, struct evwork_retry *retry)
{
	size_t places = retry->policy->overlap ? (size_t)retry->policy->max_attempts : 1, i;
	struct evwork_retry_call *call = sys_zalloc(sizeof(*call) +
		places * sizeof(call->attempts[0]));

	if (!call)
		return NULL;
	call->made_in = fork_here();
	call->retry = retry;
	call->policy = retry->policy;
	call->budget = retry->policy->budget;
	call->loop = loop;
	call->op = retry->op;
	atomic_init(&call->refs, 1);
	for (i = 0; i < places; i++) {
		call->attempts[i].op = &call->op;
		call->attempts[i].loop = loop;
		call->attempts[i].ended = on_ended;
		call->attempts[i].lost = on_lost;
	}
	backoff_restart(&call->backoff, &retry->policy->backoff);
	letter_init(&call->begin, "the beginning of a retry", on_begin, on_begin_lost);
	evwork_timer_init(&call->timer, on_timer);
	evwork_timer_init(&call->limit, on_limit);
	evwork_watch_init(&call->watch, on_watch);
	call->watch._lost = on_watch_lost;
	return call;
}

/* Makes the retry pending; false if it was. */
static bool reserve(struct evwork_retry *retry, struct evwork_retry_call *call)
{
	bool idle;

	sys_lock(&retry->policy->mutex);
	idle = !retry->_call;
	if (idle) {
		retry->_call = call;
		retry->policy->users++;
	}
	sys_unlock(&retry->policy->mutex);
	return idle;
}

static int check(struct evwork_loop *loop, const struct evwork_retry *retry)
{
	if (!loop || !retry || !retry->policy || !retry->done || !op_valid(&retry->op))
		return -EINVAL;
	if (loop->inherited || retry->policy->made_in != fork_here() ||
	    (!ctx_is_background(retry->ctx) && ctx_is_inherited(retry->ctx)))
		return -ESHUTDOWN;
	return 0;
}

int evwork_retry_start(struct evwork_loop *loop, struct evwork_retry *retry)
{
	struct evwork_retry_call *call;
	int rc = check(loop, retry);

	if (rc)
		return rc;
	call = call_new(loop, retry);
	if (!call)
		return -ENOMEM;
	if (!reserve(retry, call)) {
		sys_free(call);
		return -EBUSY;
	}
	rc = atomic_load_explicit(&loop->closing, memory_order_relaxed) ? -ESHUTDOWN :
		evwork_ctx_err(retry->ctx);
	if (rc == 0)
		rc = evwork_ctx_new(retry->ctx, &call->ctx);
	if (rc == 0)
		rc = loop_enter(loop, &call->own);
	if (rc) {
		give_up_retry(call);
		evwork_ctx_unref(call->ctx);
		sys_free(call);
		return rc;
	}
	retry->attempts = retry->last_error = 0;
	mailbox_post(loop->box, &call->begin.mail);
	return 0;
}

int evwork_retry_cancel(struct evwork_retry *retry)
{
	struct evwork_ctx *ctx = NULL;
	int rc;

	if (!retry || !retry->policy)
		return -EINVAL;
	if (retry->policy->made_in != fork_here())
		return -ESHUTDOWN;
	sys_lock(&retry->policy->mutex);
	if (retry->_call)
		ctx = evwork_ctx_ref(retry->_call->ctx);
	sys_unlock(&retry->policy->mutex);
	if (!ctx)
		return -ESRCH;
	rc = evwork_ctx_cancel(ctx, 0);
	evwork_ctx_unref(ctx);
	return rc;
}
