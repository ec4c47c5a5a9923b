/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Subscriptions. Each is a channel; the broadcast sends into it, and either its owner
 * receives, or the loop does, for the item function.
 *
 * On a loop the subscription receives one item by a wait, and, once that has called
 * back, what else there is, each within the budget of the turn. A subscription that is
 * unsubscribed there stays until the callback returns, or the wait that could not be
 * taken back any more has called. In a child of a fork that was made in a callback, and
 * returns from it, nothing of it is touched any more: it may be freed, and another thread
 * may have had a lock.
 */

#include "flow/broadcast.h"

#include "flow/chan.h"
#include "run/turn.h"

void subscription_unref(struct evwork_subscription *sub)
{
	/* Release and acquire: what others did with it comes before. */
	if (atomic_fetch_sub_explicit(&sub->refs, 1, memory_order_acq_rel) != 1)
		return;
	evwork_chan_free(sub->in);
	evwork_chan_free(sub->out);
	broadcast_unref(sub->broadcast);
	sys_free(sub->value);
	sys_free(sub);
}

/* It gets nothing more, and what it has got is dropped. */
static void cut_off(struct evwork_subscription *sub)
{
	struct evwork_broadcast *broadcast = sub->broadcast;

	sys_lock(&broadcast->mutex);
	if (sub->listed)
		broadcast_unlist_locked(broadcast, sub);
	sys_unlock(&broadcast->mutex);
	evwork_chan_close(sub->in);
	evwork_chan_abandon(sub->out);
}

/* On a loop. */

/* No callback comes any more, but `ended`. The loop may be gone after this. */
static void end(struct evwork_subscription *sub, int status, bool silent)
{
	unsigned made_in = sub->broadcast->made_in;

	cut_off(sub);
	if (sub->ended && !silent && !sub->unsubscribed)
		sub->ended(sub, status, sub->arg);
	if (made_in != fork_here())
		return;
	/* Release: from here on another thread, which acquires it, may unsubscribe. */
	atomic_store_explicit(&sub->calls, false, memory_order_release);
	subscription_unref(sub);
}

static int wait_for_item(struct evwork_subscription *sub)
{
	return evwork_chan_recv(sub->out, sub->value, NULL, sub->loop, &sub->waiter);
}

/* Delivers the item that is there, and what a turn may besides. What there is then: 0 or
 * an error is the end, -EAGAIN no item, 1 no time or no parent. */
static int deliver(struct evwork_subscription *sub)
{
	unsigned made_in = sub->broadcast->made_in;
	int result = 1;

	while (result == 1) {
		sub->item(sub, sub->value, sub->arg);
		if (made_in != fork_here() || sub->unsubscribed || !turn_take(sub->loop))
			break;
		result = chan_try_receive(sub->out, sub->value, 1);
		if (result != 1)
			turn_give_back(sub->loop);
	}
	return result;
}

static void on_item(struct evwork_chan_waiter *waiter, int result)
{
	struct evwork_subscription *sub = EVWORK_CONTAINER(waiter, struct evwork_subscription,
		waiter);
	struct evwork_loop *loop = sub->loop;
	unsigned made_in = sub->broadcast->made_in;
	bool orphaned;

	if (sub->unsubscribed) {
		/* The item could not be taken back. */
		if (result == 1 && sub->broadcast->drop)
			sub->broadcast->drop(sub->value);
		subscription_unref(sub);
		return;
	}
	/* The loop is not freed by one of the callbacks. */
	loop_enter_following(loop);
	if (result == 1)
		result = deliver(sub);
	if (made_in != fork_here())
		return;
	if (!sub->unsubscribed && (result == 1 || result == -EAGAIN)) {
		result = wait_for_item(sub);
		if (result == 0) {
			loop_leave(loop, true);
			return;
		}
		/* The loop is closing. */
		result = -ECANCELED;
	}
	orphaned = loop->orphaned;
	loop_leave(loop, true);
	end(sub, result, orphaned);
}

/* The loop was freed by force. */
static void on_lost(struct evwork_chan_waiter *waiter, int result)
{
	struct evwork_subscription *sub = EVWORK_CONTAINER(waiter, struct evwork_subscription,
		waiter);

	if (result == 1 && sub->broadcast->drop)
		sub->broadcast->drop(sub->value);
	end(sub, -ECANCELED, true);
}

/* The beginning. */

static int check(const struct evwork_broadcast *broadcast,
	const struct evwork_subscription_options *options)
{
	if (!broadcast || (options && (options->full < EVWORK_BLOCK ||
	    options->full > EVWORK_DISCONNECT || !options->loop != !options->item)))
		return -EINVAL;
	if (broadcast_is_inherited(broadcast))
		return -ESHUTDOWN;
	return options && options->loop &&
		atomic_load_explicit(&options->loop->closing, memory_order_relaxed) ?
		-ESHUTDOWN : 0;
}

/* The broadcast gets the end that sends, the subscription another that receives. */
static int make_channel(struct evwork_subscription *sub, size_t limit)
{
	const struct evwork_broadcast *broadcast = sub->broadcast;
	int rc = evwork_chan_new(broadcast->elem_size, limit, broadcast->drop, &sub->in);

	if (rc == 0)
		rc = evwork_chan_clone(sub->in, EVWORK_CHAN_RECV, &sub->out);
	if (rc == 0)
		evwork_chan_abandon(sub->in);
	return rc;
}

static void set_options(struct evwork_subscription *sub,
	const struct evwork_subscription_options *options)
{
	sub->full = options->full;
	sub->loop = options->loop;
	sub->item = options->item;
	sub->ended = options->ended;
	sub->arg = options->arg;
	if (!sub->loop)
		return;
	evwork_chan_waiter_init(&sub->waiter, on_item);
	sub->waiter._lost = on_lost;
	sub->thread = sub->loop->thread;
	atomic_init(&sub->calls, true);
	/* The loop's. */
	atomic_init(&sub->refs, 2);
}

static int make(struct evwork_broadcast *broadcast,
	const struct evwork_subscription_options *options, struct evwork_subscription **ret_sub)
{
	struct evwork_subscription *sub = sys_zalloc(sizeof(*sub));
	int rc;

	if (!sub)
		return -ENOMEM;
	atomic_init(&sub->refs, 1);
	sub->broadcast = broadcast;
	set_options(sub, options);
	rc = make_channel(sub, options->limit ? options->limit :
		EVWORK_SUBSCRIPTION_LIMIT_DEFAULT);
	if (rc == 0 && sub->loop) {
		sub->value = sys_alloc(broadcast->elem_size + 1);
		rc = sub->value ? 0 : -ENOMEM;
	}
	if (rc) {
		evwork_chan_abandon(sub->out);
		evwork_chan_free(sub->out);
		evwork_chan_free(sub->in);
		sys_free(sub);
		return rc;
	}
	/* Relaxed: the caller has one. */
	atomic_fetch_add_explicit(&broadcast->refs, 1, memory_order_relaxed);
	*ret_sub = sub;
	return 0;
}

static int enlist(struct evwork_subscription *sub)
{
	struct evwork_broadcast *broadcast = sub->broadcast;
	bool closed;

	sys_lock(&broadcast->mutex);
	closed = broadcast->closed;
	if (!closed) {
		sub->listed = true;
		LIST_APPEND(&broadcast->subs, sub, next, prev);
		broadcast->sub_count++;
	}
	sys_unlock(&broadcast->mutex);
	return closed ? -ESHUTDOWN : 0;
}

int evwork_subscribe(struct evwork_broadcast *broadcast,
	const struct evwork_subscription_options *options, struct evwork_subscription **ret_sub)
{
	static const struct evwork_subscription_options defaults;
	struct evwork_subscription *sub, *before;
	int rc = ret_sub ? check(broadcast, options) : -EINVAL;

	if (rc == 0)
		rc = make(broadcast, options ? options : &defaults, &sub);
	if (rc)
		return rc;
	/* The loop may be at it, and be through with it, when the wait has begun. */
	before = *ret_sub;
	*ret_sub = sub;
	rc = enlist(sub);
	if (rc == 0 && sub->loop)
		rc = wait_for_item(sub);
	if (rc) {
		*ret_sub = before;
		cut_off(sub);
		if (sub->loop)
			subscription_unref(sub);
		subscription_unref(sub);
	}
	return rc;
}

/* The end. */

/* Nobody waits for the channel, now. */
static bool is_waited_for(const struct evwork_subscription *sub)
{
	bool waits;

	chan_lock(sub->out->core);
	waits = sub->out->waiting > 0;
	chan_unlock(sub->out->core);
	return waits;
}

/* In the child of a fork. */
static void free_inherited(struct evwork_subscription *sub)
{
	atomic_store_explicit(&sub->refs, 1, memory_order_relaxed);
	subscription_unref(sub);
}

int evwork_unsubscribe(struct evwork_subscription *sub)
{
	if (!sub)
		return 0;
	if (broadcast_is_inherited(sub->broadcast)) {
		free_inherited(sub);
		return 0;
	}
	if (sub->loop) {
		/* Acquire: pairs with the release of the end. */
		if (atomic_load_explicit(&sub->calls, memory_order_acquire)) {
			if (!pthread_equal(sub->thread, pthread_self()))
				return -EPERM;
			sub->unsubscribed = true;
			/* If it cannot be taken back, its callback lets go of it; and so does
			 * the one that this is called in. */
			if (evwork_chan_stop(&sub->waiter) == 0)
				subscription_unref(sub);
		}
	} else if (is_waited_for(sub)) {
		return -EBUSY;
	}
	cut_off(sub);
	subscription_unref(sub);
	return 0;
}

struct evwork_chan *evwork_subscription_chan(struct evwork_subscription *sub)
{
	return sub && !sub->loop ? sub->out : NULL;
}

uint64_t evwork_subscription_dropped(struct evwork_subscription *sub)
{
	/* Relaxed: a counter. */
	return sub ? atomic_load_explicit(&sub->dropped, memory_order_relaxed) : 0;
}
