/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The queue of those who wait for a limiter, all of it under the limiter's lock.
 *
 * The bucket holds what nobody has taken yet: the tokens of waiters leave it when they are
 * granted, and those of reservations made behind a waiter when that has left. So the
 * head is due when the bucket has its tokens, whatever comes behind it, and when it leaves
 * the next is due so much earlier. What was reserved behind waiters is kept by each of
 * them, until its time comes: then it leaves the bucket in any case, since that time was
 * promised.
 *
 * While somebody waits the bucket holds up to the burst and the slack: what a late loop
 * has missed. Beyond that it is forfeited (S-LIM-13).
 *
 * One alarm is set, on the head's loop, for when it is due. Whoever changes what is due
 * sets it anew, from any thread; one that rings for nothing does no harm. It rings before
 * the waiter that it was set for is called, on the same thread, so neither loop nor
 * limiter are gone.
 */

#include "guard/limiter.h"

#include "run/ctx.h"
#include "run/loop.h"

static wide behind_of(const struct evwork_limiter_waiter *waiter)
{
	wide units = { waiter->_behind_high, waiter->_behind_low };

	return units;
}

static void set_behind(struct evwork_limiter_waiter *waiter, wide units)
{
	waiter->_behind_high = units._high;
	waiter->_behind_low = units._low;
}

/* Coming and leaving. */

void waiters_enqueue_locked(struct evwork_limiter *limiter, struct evwork_limiter_waiter *waiter)
{
	LIST_APPEND(&limiter->waiters, waiter, _next, _prev);
	limiter->demand = evwork__wide_add(limiter->demand, wide_of(waiter->_n));
	limiter->stats.waiting++;
	waiter->_state = WAIT_QUEUED;
}

void waiters_dequeue_locked(struct evwork_limiter *limiter, struct evwork_limiter_waiter *waiter)
{
	struct evwork_limiter_waiter *before = waiter->_prev;
	wide behind = behind_of(waiter);

	if (before) {
		set_behind(before, evwork__wide_add(behind_of(before), behind));
	} else {
		limiter_debit_locked(limiter, behind);
		limiter->behind = evwork__wide_sub(limiter->behind, behind);
	}
	set_behind(waiter, wide_of(0));
	LIST_REMOVE(&limiter->waiters, waiter, _next, _prev);
	limiter->demand = evwork__wide_sub(limiter->demand, wide_of(waiter->_n));
	limiter->stats.waiting--;
}

void waiters_decide_locked(struct evwork_limiter_waiter *waiter, int result)
{
	waiter->_state = WAIT_DECIDED;
	waiter->_result = result;
	watch_fire(waiter->_loop, waiter->_ctx, &waiter->_watch);
}

static void forget_behind_locked(struct evwork_limiter *limiter)
{
	struct evwork_limiter_waiter *waiter;

	limiter_debit_locked(limiter, limiter->behind);
	limiter->behind = wide_of(0);
	for (waiter = limiter->waiters.head; waiter; waiter = waiter->_next)
		set_behind(waiter, wide_of(0));
}

void waiters_settle_locked(struct evwork_limiter *limiter, int64_t now)
{
	struct evwork_bucket *bucket = &limiter->bucket;
	wide most = evwork__wide_add(bucket->_terms._full, limiter->slack);

	if (!wide_is_zero(limiter->behind) && limiter->behind_until <= now) {
		if (bucket->_level._at_ns < limiter->behind_until)
			limiter_settle_locked(limiter, most, limiter->behind_until);
		forget_behind_locked(limiter);
	}
	if (bucket->_level._at_ns < now)
		limiter_settle_locked(limiter, most, now);
}

void waiters_reserve_locked(struct evwork_limiter *limiter, wide cost, int64_t act_ns)
{
	struct evwork_limiter_waiter *last = limiter->waiters.tail;

	set_behind(last, evwork__wide_add(behind_of(last), cost));
	limiter->behind = evwork__wide_add(limiter->behind, cost);
	if (act_ns > limiter->behind_until)
		limiter->behind_until = act_ns;
}

void waiters_give_back_locked(struct evwork_limiter *limiter, wide units)
{
	struct evwork_limiter_waiter *waiter = limiter->waiters.tail;

	limiter->behind = evwork__wide_sub(limiter->behind, units);
	for (; waiter && !wide_is_zero(units); waiter = waiter->_prev) {
		wide part = wide_min(units, behind_of(waiter));

		set_behind(waiter, evwork__wide_sub(behind_of(waiter), part));
		units = evwork__wide_sub(units, part);
	}
}

void waiters_rescale_locked(struct evwork_limiter *limiter, int by)
{
	struct evwork_limiter_waiter *waiter;

	limiter->behind = wide_of(0);
	for (waiter = limiter->waiters.head; waiter; waiter = waiter->_next) {
		set_behind(waiter, wide_shift(behind_of(waiter), by));
		limiter->behind = evwork__wide_add(limiter->behind, behind_of(waiter));
	}
}

void waiters_end_larger_locked(struct evwork_limiter *limiter, int64_t burst)
{
	struct evwork_limiter_waiter *waiter = limiter->waiters.head, *next;

	for (; waiter; waiter = next) {
		next = waiter->_next;
		if (waiter->_n <= burst)
			continue;
		waiters_dequeue_locked(limiter, waiter);
		limiter->stats.cancelled++;
		waiters_decide_locked(waiter, -ERANGE);
	}
}

/* Serving. */

/* Sets the alarm for the head, wherever it was before. */
static void arm_locked(struct evwork_limiter *limiter)
{
	const struct evwork_bucket *bucket = &limiter->bucket;
	struct evwork_limiter_waiter *head = limiter->waiters.head;
	int64_t due = EVWORK_NEVER;

	if (head)
		due = sys_time_add(bucket->_level._at_ns, bucket_time_for(&bucket->_terms,
			evwork__wide_sub(evwork__bucket_cost(&bucket->_terms, head->_n),
				bucket->_level._units)));
	if (limiter->alarm_loop && (due == EVWORK_NEVER ||
	    limiter->alarm_loop != head->_loop || due > limiter->alarm_ns)) {
		loop_stop_alarm(limiter->alarm_loop, &limiter->alarm);
		limiter->alarm_loop = NULL;
	}
	if (due == EVWORK_NEVER)
		return;
	limiter->alarm_loop = head->_loop;
	limiter->alarm_ns = due;
	loop_set_alarm(head->_loop, &limiter->alarm, due);
}

/* Whether the tokens of the head were taken. */
static bool take_for_head_locked(struct evwork_limiter *limiter)
{
	const struct evwork_bucket_terms *terms = &limiter->bucket._terms;
	int64_t n = limiter->waiters.head->_n;

	if (bucket_is_unlimited(terms))
		return true;
	if (evwork__wide_less(limiter->bucket._level._units, evwork__bucket_cost(terms, n)))
		return false;
	limiter_debit_locked(limiter, limiter_charge_locked(limiter, n));
	return true;
}

/* Of a context that is over. If nobody has killed it yet it is its deadline that has
 * passed. */
static int error_of(const struct evwork_ctx *ctx)
{
	/* Acquire: pairs with the release of who killed it. */
	int err = atomic_load_explicit(&ctx->err, memory_order_acquire);

	return err ? err : -ETIMEDOUT;
}

void waiters_serve_locked(struct evwork_limiter *limiter, int64_t now)
{
	struct evwork_limiter_waiter *head;

	if (limiter->waiters.head)
		waiters_settle_locked(limiter, now);
	while ((head = limiter->waiters.head)) {
		if (ctx_is_over(head->_ctx)) {
			waiters_dequeue_locked(limiter, head);
			limiter->stats.cancelled++;
			waiters_decide_locked(head, error_of(head->_ctx));
		} else if (take_for_head_locked(limiter)) {
			waiters_dequeue_locked(limiter, head);
			limiter->stats.granted++;
			waiters_decide_locked(head, 0);
		} else {
			break;
		}
	}
	arm_locked(limiter);
}

static void on_alarm(struct evwork_timer *alarm, int status)
{
	struct evwork_limiter *limiter = EVWORK_CONTAINER(alarm, struct evwork_limiter, alarm);

	(void)status;
	sys_lock(&limiter->mutex);
	waiters_serve_locked(limiter, clock_now(limiter->clock));
	sys_unlock(&limiter->mutex);
}

void waiters_init(struct evwork_limiter *limiter)
{
	evwork_timer_init(&limiter->alarm, on_alarm);
	limiter->behind_until = INT64_MIN;
}
