/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_BROADCAST_H
#define EVWORK_BROADCAST_H

/*
 * Broadcasts: each subscriber gets every item that is sent after it has subscribed, in
 * order, from a bounded queue of its own (S-FAN-10).
 *
 *	static void on_quote(struct evwork_subscription *sub, void *item, void *arg)
 *	{
 *		show(arg, item);                        // on the loop of the subscriber
 *	}
 *
 *	evwork_broadcast_new(sizeof(struct quote), NULL, NULL, &quotes);
 *
 *	struct evwork_subscription_options options = {
 *		.full = EVWORK_DROP_OLD, .loop = loop, .item = on_quote, .arg = window,
 *	};
 *	evwork_subscribe(quotes, &options, &sub);
 *
 *	evwork_broadcast_try_send(quotes, &quote);      // any thread
 *
 * A subscriber without a loop receives from a channel, evwork_subscription_chan(), in
 * every way that evwork/chan.h knows, selects included.
 *
 * An item stays the sender's: each subscriber gets a copy of its bytes. If items carry
 * something, such as a pointer to what is counted, `ref` and `drop` keep the count.
 */

#include <stddef.h>
#include <stdint.h>

#include <evwork/chan.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evwork_broadcast;
struct evwork_subscription;

/*
 * evwork_broadcast_new [any] makes a broadcast for items of elem_size bytes.
 *
 * ref (may be NULL) is called with the item that is sent, inside the call that sends it,
 * with n > 0 before n copies of it are made, and with n < 0 for those that were not made
 * after all; the sender's own reference, which it must have meanwhile, is apart from
 * these. drop (may be NULL) is called for each copy that nobody will receive any more:
 * one that had to make room, on the thread that sends; what is queued when its subscriber
 * unsubscribes, on that thread. No lock is held in either.
 *
 *	static void message_ref(const void *item, int n)
 *	{
 *		atomic_fetch_add(&(*(struct message *const *)item)->refs, n);
 *	}
 *
 * -EINVAL: ret_broadcast is NULL. -ENOMEM.
 */
int evwork_broadcast_new(size_t elem_size, void (*ref)(const void *item, int n),
	void (*drop)(void *item), struct evwork_broadcast **ret_broadcast);

/*
 * evwork_broadcast_close [any]: nothing more is sent. Who waits to send gets -ESHUTDOWN;
 * subscribers get what they have queued and then the end of the stream.
 * -EINVAL: broadcast is NULL. -EALREADY: it was closed before.
 */
int evwork_broadcast_close(struct evwork_broadcast *broadcast);

/* evwork_broadcast_free [any] closes it, unless it is closed, and frees it. Subscriptions
 * stay, to be unsubscribed when they are through. NULL is fine. -EBUSY: somebody waits to
 * send; if the broadcast was not closed it still is not. */
int evwork_broadcast_free(struct evwork_broadcast *broadcast);

/*
 * [any] An item goes to all subscribers, or to none (S-FAN-10): as long as the queue of
 * one that blocks is full, nobody gets it. Without subscribers it is sent, to nobody. As
 * in evwork/chan.h evwork_broadcast_try_send never waits; evwork_broadcast_send_wait is
 * [wait]; and evwork_broadcast_send calls back with 0 or an error on a loop, which is
 * where it sends, in a later turn. Sends that wait do not wait for each other: one that
 * has to come after another begins when that is through. No sender is slowed by another
 * one's loop.
 *
 * -EINVAL: broadcast is NULL; or item is and items have a size; or waiter, its fn or loop
 * is. -EDEADLK: send_wait, on a loop's thread. -EBUSY: the waiter is pending. -ESHUTDOWN:
 * the broadcast was closed; or the loop is closing. -ECANCELED, -ETIMEDOUT: ctx is dead,
 * and nobody got the item. -EAGAIN: try_send, the queue of one who blocks is full. -ENOMEM: copies that have to make room, with a drop, take more than a kilobyte
 * together; or send_wait, where semaphores have no monotonic time limit.
 */
int evwork_broadcast_try_send(struct evwork_broadcast *broadcast, const void *item);
int evwork_broadcast_send_wait(struct evwork_broadcast *broadcast, const void *item,
	struct evwork_ctx *ctx);

/*
 * A send that calls back. The struct is yours, and the library's from an accepted call
 * until its callback starts; so long the item must stay, too. status: 0, or an error of
 * those above, -ECANCELED also if the loop was closed. To take a send back, cancel ctx.
 */
struct evwork_broadcast_waiter;

typedef void (*evwork_broadcast_fn)(struct evwork_broadcast_waiter *waiter, int status);

struct evwork_broadcast_waiter {
	evwork_broadcast_fn fn;
	/* Private. */
	struct evwork_watch _begin;
	struct evwork_chan_waiter _waiter;
	struct evwork_case _room;
	struct evwork_broadcast *_broadcast;
	struct evwork_subscription *_full;
	const void *_item;
	struct evwork_ctx *_ctx;
	struct evwork_loop *_loop;
};

/* evwork_broadcast_waiter_init prepares a waiter; needed once, before its first use. */
void evwork_broadcast_waiter_init(struct evwork_broadcast_waiter *waiter,
	evwork_broadcast_fn fn);

int evwork_broadcast_send(struct evwork_broadcast *broadcast, const void *item,
	struct evwork_ctx *ctx, struct evwork_loop *loop,
	struct evwork_broadcast_waiter *waiter);

/* What becomes of an item for which a subscriber's queue has no room. Only the first
 * slows the sender, and so the other subscribers. */
enum evwork_subscription_full {
	EVWORK_BLOCK,           /* it cannot be sent, see above */
	EVWORK_DROP_NEW,        /* the subscriber does not get it */
	EVWORK_DROP_OLD,        /* the oldest item in the queue makes room */
	EVWORK_DISCONNECT       /* after what it has queued the subscriber gets -EPIPE */
};

#define EVWORK_SUBSCRIPTION_LIMIT_DEFAULT 64

/*
 * On the thread of the subscription's loop. item: one that was sent, in order; it is yours,
 * but its memory only until the callback returns. ended: no more will come, once: 0 if the
 * broadcast was closed, -EPIPE if the subscription was disconnected, -ECANCELED if the loop
 * was closed, then what was queued was dropped. The subscription may be ended and freed by
 * evwork_unsubscribe() in both.
 */
typedef void (*evwork_subscription_item_fn)(struct evwork_subscription *sub, void *item, void *arg);
typedef void (*evwork_ended_fn)(struct evwork_subscription *sub, int status, void *arg);

/* All zero means the defaults: a channel, and a sender that waits for it. */
struct evwork_subscription_options {
	size_t limit;           /* of the queue, in items; 0 is 64 */
	enum evwork_subscription_full full;
	/* With a loop, item must be set and is called there for each item, at most so many
	 * in one turn as the loop delivers callbacks (S-DLV-5). */
	struct evwork_loop *loop;
	evwork_subscription_item_fn item;
	evwork_ended_fn ended;  /* may be NULL */
	void *arg;
};

/*
 * evwork_subscribe [any]. options are copied; NULL is all defaults. A subscription does
 * not keep its loop alive, but items that are to come do, see evwork/loop.h, and the loop
 * is not freed before it was unsubscribed or has ended; if that is done by force it ends
 * without a callback.
 * -EINVAL: broadcast or ret_sub is NULL; full is none; there is an item function and no
 * loop, or a loop and no item function. -ESHUTDOWN: the broadcast was closed, or the loop
 * is closing. -ERANGE: so large a queue cannot be addressed. -ENOMEM.
 */
int evwork_subscribe(struct evwork_broadcast *broadcast,
	const struct evwork_subscription_options *options, struct evwork_subscription **ret_sub);

/*
 * evwork_unsubscribe ends a subscription and frees it, inside a callback of its own or
 * anywhere else: no item follows once it has returned (S-FAN-11), nor `ended`. What is
 * queued goes to drop, inside this call. [any]; with a loop [loop], until the subscription
 * has ended and `ended` has returned. NULL is fine.
 * -EPERM: on another thread than the loop's, before that. -EBUSY: without a loop, somebody
 * waits for its channel; nothing has changed: after evwork_chan_abandon() they will not.
 */
int evwork_unsubscribe(struct evwork_subscription *sub);

/*
 * [any] evwork_subscription_chan: the end that receives, which belongs to the subscription;
 * NULL if that has a loop, and for NULL. Its receives give 0 after the broadcast was
 * closed, and -EPIPE once the subscription was disconnected; before, what is queued.
 * evwork_subscription_dropped: how many items it did not get as its queue was full; 0 for
 * NULL.
 */
struct evwork_chan *evwork_subscription_chan(struct evwork_subscription *sub);
uint64_t evwork_subscription_dropped(struct evwork_subscription *sub);

#ifdef __cplusplus
}
#endif

#endif
