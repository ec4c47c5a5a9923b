/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Sending to all subscribers, or to none. Under the lock it is looked whether all who
 * block have room, which then stays; only after that anybody gets the item. What user
 * code has to do for it comes before and after, without the lock: references for as
 * many copies as there are subscribers are taken first, and given back if fewer were
 * made; copies that had to make room are kept aside until the lock is left.
 */

#include "flow/broadcast.h"

#include <limits.h>

#include "flow/chan.h"
#include "run/ctx.h"
#include "run/loop.h"

/* What is taken before the lock, for one send. */
struct supply {
	int refs;               /* references, */
	int used;               /* and how many of them have gone into copies */
	size_t places;          /* for copies that had to make room */
	size_t displaced;
	char *aside;
	_Alignas(max_align_t) char few[1024];
};

static void begin_supply(struct supply *supply, const struct evwork_broadcast *broadcast)
{
	supply->refs = supply->used = 0;
	supply->displaced = 0;
	supply->aside = supply->few;
	supply->places = broadcast->elem_size ? sizeof(supply->few) / broadcast->elem_size :
		SIZE_MAX;
}

static void end_supply(struct supply *supply, struct evwork_broadcast *broadcast,
	const void *item)
{
	size_t i;

	if (supply->used < supply->refs)
		broadcast->ref(item, supply->used - supply->refs);
	for (i = 0; i < supply->displaced; i++)
		broadcast->drop(supply->aside + i * broadcast->elem_size);
	if (supply->aside != supply->few)
		sys_free(supply->aside);
}

/* How many copies could have to make room. */
static size_t may_be_displaced(const struct evwork_broadcast *broadcast)
{
	const struct evwork_subscription *sub;
	size_t count = 0;

	if (!broadcast->drop)
		return 0;
	for (sub = broadcast->subs.head; sub; sub = sub->next)
		count += sub->full == EVWORK_DROP_OLD;
	return count;
}

static int add_places(struct supply *supply, const struct evwork_broadcast *broadcast,
	size_t places)
{
	char *aside;
	size_t bytes;

	aside = __builtin_mul_overflow(places, broadcast->elem_size, &bytes) ? NULL :
		sys_alloc(bytes);
	if (!aside)
		return -ENOMEM;
	if (supply->aside != supply->few)
		sys_free(supply->aside);
	supply->aside = aside;
	supply->places = places;
	return 0;
}

/* [under the lock, which is left meanwhile] 0: there is enough. 1: there was not, now look
 * again. -ENOMEM. */
static int supply_locked(struct supply *supply, struct evwork_broadcast *broadcast,
	const void *item)
{
	int refs = broadcast->ref ? broadcast->sub_count : 0, rc = 0;
	size_t places = may_be_displaced(broadcast);

	if (refs <= supply->refs && places <= supply->places)
		return 0;
	sys_unlock(&broadcast->mutex);
	if (places > supply->places)
		rc = add_places(supply, broadcast, places);
	if (rc == 0 && refs > supply->refs) {
		broadcast->ref(item, refs - supply->refs);
		supply->refs = refs;
	}
	sys_lock(&broadcast->mutex);
	return rc ? rc : 1;
}

/* [under the lock] The first who blocks and has no room. */
static struct evwork_subscription *first_full(const struct evwork_broadcast *broadcast)
{
	struct evwork_subscription *sub;

	for (sub = broadcast->subs.head; sub; sub = sub->next) {
		/* Nobody else sends: if it is not full now it will not be. */
		if (sub->full == EVWORK_BLOCK &&
		    chan_glance(sub->in) >= sub->in->core->capacity && chan_is_full(sub->in))
			return sub;
	}
	return NULL;
}

/* [under the lock] The subscriber gets the item, or not, as it has asked for; whether a
 * copy was made. */
static bool give(struct evwork_broadcast *broadcast, struct evwork_subscription *sub,
	const void *item, struct supply *supply)
{
	int rc;

	if (sub->full == EVWORK_DROP_OLD) {
		rc = chan_send_over(sub->in, item, broadcast->drop ?
			supply->aside + supply->displaced * broadcast->elem_size : NULL);
		supply->displaced += rc == 1 && broadcast->drop;
		rc = rc == 1 ? -EAGAIN : rc;
	} else {
		rc = chan_try_send(sub->in, item, 1);
	}
	/* Relaxed: a counter. */
	if (rc == -EAGAIN)
		atomic_fetch_add_explicit(&sub->dropped, 1, memory_order_relaxed);
	if (rc == -EAGAIN && sub->full == EVWORK_DISCONNECT) {
		broadcast_unlist_locked(broadcast, sub);
		chan_break(sub->in);
	}
	return rc >= 0 || (rc == -EAGAIN && sub->full == EVWORK_DROP_OLD);
}

static void give_all(struct evwork_broadcast *broadcast, const void *item,
	struct supply *supply)
{
	struct evwork_subscription *sub, *next;

	for (sub = broadcast->subs.head; sub; sub = next) {
		next = sub->next;
		supply->used += give(broadcast, sub, item, supply);
	}
}

/* [under the lock] What keeps the item from being sent now. */
static int obstacle(const struct evwork_broadcast *broadcast,
	struct evwork_subscription **ret_full)
{
	if (broadcast->closed)
		return -ESHUTDOWN;
	*ret_full = first_full(broadcast);
	return *ret_full ? -EAGAIN : 0;
}

/* Sends if nothing is against it. After -EAGAIN *ret_full, if ret_full is not NULL, is whose
 * room is missing, with a reference. */
static int try_send(struct evwork_broadcast *broadcast, const void *item,
	struct evwork_subscription **ret_full)
{
	struct evwork_subscription *full;
	struct supply supply;
	bool calls = broadcast->ref || broadcast->drop;
	int rc;

	/* What is called may free the broadcast (S-GEN-5). Relaxed: the caller keeps it
	 * there until then. */
	if (calls)
		atomic_fetch_add_explicit(&broadcast->refs, 1, memory_order_relaxed);
	begin_supply(&supply, broadcast);
	sys_lock(&broadcast->mutex);
	do
		rc = obstacle(broadcast, &full);
	while (rc == 0 && (rc = supply_locked(&supply, broadcast, item)) == 1);
	if (rc == 0)
		give_all(broadcast, item, &supply);
	else if (rc == -EAGAIN && ret_full)
		*ret_full = subscription_ref(full);
	sys_unlock(&broadcast->mutex);
	end_supply(&supply, broadcast, item);
	if (calls)
		broadcast_unref(broadcast);
	return rc;
}

static int check(const struct evwork_broadcast *broadcast, const void *item)
{
	if (!broadcast || (!item && broadcast->elem_size))
		return -EINVAL;
	return broadcast_is_inherited(broadcast) ? -ESHUTDOWN : 0;
}

int evwork_broadcast_try_send(struct evwork_broadcast *broadcast, const void *item)
{
	int rc = check(broadcast, item);

	return rc ? rc : try_send(broadcast, item, NULL);
}

/* Waiting: for the room of one who has none, then all is looked at again. */

/* One more who waits, and so keeps the broadcast from being freed, unless it is closed. */
static int enter(struct evwork_broadcast *broadcast)
{
	bool closed;

	sys_lock(&broadcast->mutex);
	closed = broadcast->closed;
	broadcast->waiting += !closed;
	sys_unlock(&broadcast->mutex);
	return closed ? -ESHUTDOWN : 0;
}

/* After this the broadcast may be freed. */
static void leave(struct evwork_broadcast *broadcast)
{
	sys_lock(&broadcast->mutex);
	broadcast->waiting--;
	sys_unlock(&broadcast->mutex);
}

static struct evwork_case room_case(struct evwork_subscription *sub)
{
	struct evwork_case room = evwork_send_case(sub->in, NULL);

	room.op = CASE_ROOM;
	return room;
}

int evwork_broadcast_send_wait(struct evwork_broadcast *broadcast, const void *item,
	struct evwork_ctx *ctx)
{
	struct evwork_subscription *full;
	struct evwork_case room;
	int rc = check(broadcast, item);

	if (rc == -EINVAL)
		return rc;
	if (loop_any_here())
		return -EDEADLK;
	if (rc == 0)
		rc = enter(broadcast);
	if (rc)
		return rc;
	while ((rc = evwork_ctx_err(ctx)) == 0 &&
	       (rc = try_send(broadcast, item, &full)) == -EAGAIN) {
		room = room_case(full);
		rc = cases_wait(&room, 1, ctx, false);
		subscription_unref(full);
		if (rc < 0)
			break;
	}
	leave(broadcast);
	return rc;
}

/* Sends that call back. The first try, too, is made on the loop. */

/* The waiter is the caller's again. */
static void let_go(struct evwork_broadcast_waiter *waiter)
{
	struct evwork_broadcast *broadcast = waiter->_broadcast;

	evwork_ctx_unref(waiter->_ctx);
	/* Relaxed: who uses one waiter on several threads must order that himself. */
	__atomic_store_n(&waiter->_broadcast, NULL, __ATOMIC_RELAXED);
	leave(broadcast);
}

static void end_send(struct evwork_broadcast_waiter *waiter, int status)
{
	let_go(waiter);
	waiter->fn(waiter, status);
}

/* True: it waits, for room. Otherwise it is through, with *ret_status. */
static bool begin_wait(struct evwork_broadcast_waiter *waiter, int *ret_status)
{
	int rc = evwork_ctx_err(waiter->_ctx);

	if (rc == 0)
		rc = try_send(waiter->_broadcast, waiter->_item, &waiter->_full);
	if (rc == -EAGAIN) {
		waiter->_room = room_case(waiter->_full);
		rc = cases_begin(&waiter->_waiter, &waiter->_room, 1, waiter->_ctx,
			waiter->_loop);
		if (rc == 0)
			return true;
		subscription_unref(waiter->_full);
		/* The loop is closing. */
		if (rc == -ESHUTDOWN)
			rc = -ECANCELED;
	}
	*ret_status = rc;
	return false;
}

static void try_on_loop(struct evwork_broadcast_waiter *waiter)
{
	struct evwork_loop *loop = waiter->_loop;
	bool waits, orphaned;
	int status = 0;

	/* The loop is not freed by what a send calls; or by force, and nobody hears of it. */
	loop_enter_following(loop);
	waits = begin_wait(waiter, &status);
	orphaned = loop->orphaned;
	loop_leave(loop, true);
	if (waits)
		return;
	if (orphaned)
		let_go(waiter);
	else
		end_send(waiter, status);
}

static void on_room(struct evwork_chan_waiter *chan_waiter, int result)
{
	struct evwork_broadcast_waiter *waiter = EVWORK_CONTAINER(chan_waiter,
		struct evwork_broadcast_waiter, _waiter);

	subscription_unref(waiter->_full);
	if (result < 0)
		end_send(waiter, result);
	else
		try_on_loop(waiter);
}

static void on_begin(struct evwork_watch *watch, int status)
{
	struct evwork_broadcast_waiter *waiter = EVWORK_CONTAINER(watch,
		struct evwork_broadcast_waiter, _begin);

	/* Who began it may still be about to fire the watch. */
	sys_lock(&waiter->_broadcast->mutex);
	sys_unlock(&waiter->_broadcast->mutex);
	if (status)
		end_send(waiter, status);
	else
		try_on_loop(waiter);
}

/* The loop was freed by force. */

static void lose_begin(struct evwork_watch *watch)
{
	let_go(EVWORK_CONTAINER(watch, struct evwork_broadcast_waiter, _begin));
}

static void lose_room(struct evwork_chan_waiter *chan_waiter, int result)
{
	struct evwork_broadcast_waiter *waiter = EVWORK_CONTAINER(chan_waiter,
		struct evwork_broadcast_waiter, _waiter);

	(void)result;
	subscription_unref(waiter->_full);
	let_go(waiter);
}

void evwork_broadcast_waiter_init(struct evwork_broadcast_waiter *waiter,
	evwork_broadcast_fn fn)
{
	memset(waiter, 0, sizeof(*waiter));
	waiter->fn = fn;
	evwork_watch_init(&waiter->_begin, on_begin);
	waiter->_begin._lost = lose_begin;
	evwork_chan_waiter_init(&waiter->_waiter, on_room);
	waiter->_waiter._lost = lose_room;
}

/* [under the lock] The waiter is marked as pending. */
static int begin_locked(struct evwork_broadcast_waiter *waiter)
{
	int rc = watch_set(waiter->_ctx, waiter->_loop, &waiter->_begin);

	if (rc)
		return rc;
	waiter->_broadcast->waiting++;
	evwork_ctx_ref(waiter->_ctx);
	watch_fire(waiter->_loop, waiter->_ctx, &waiter->_begin);
	return 0;
}

int evwork_broadcast_send(struct evwork_broadcast *broadcast, const void *item,
	struct evwork_ctx *ctx, struct evwork_loop *loop,
	struct evwork_broadcast_waiter *waiter)
{
	struct evwork_broadcast *idle = NULL;
	int rc = loop && waiter && waiter->fn ? check(broadcast, item) : -EINVAL, err;

	if (rc)
		return rc;
	/* Before the lock, under which no context may be killed. */
	err = evwork_ctx_err(ctx);
	sys_lock(&broadcast->mutex);
	if (broadcast->closed) {
		rc = -ESHUTDOWN;
	} else if (!__atomic_compare_exchange_n(&waiter->_broadcast, &idle, broadcast, false,
			__ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
		/* Relaxed: see let_go. */
		rc = -EBUSY;
	} else {
		waiter->_item = item;
		waiter->_ctx = ctx;
		waiter->_loop = loop;
		rc = atomic_load_explicit(&loop->closing, memory_order_relaxed) ?
			-ESHUTDOWN : err ? err : begin_locked(waiter);
		if (rc)
			__atomic_store_n(&waiter->_broadcast, NULL, __ATOMIC_RELAXED);
	}
	sys_unlock(&broadcast->mutex);
	return rc;
}
