/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FLOW_BROADCAST_H
#define FLOW_BROADCAST_H

#include "base/fork.h"
#include "base/list.h"
#include "base/sys.h"
#include "evwork/broadcast.h"

/*
 * A broadcast and its subscriptions, each of which is a channel. Its lock comes before
 * those of channels. Only sends put values into the channels, under that lock: so what
 * it finds room for, there stays room for.
 */
struct evwork_broadcast {
	/* Fixed at creation. */
	unsigned made_in;               /* fork_here() when it was made */
	size_t elem_size;
	void (*ref)(const void *item, int n);
	void (*drop)(void *item);

	atomic_uint refs;               /* the owner, each subscription, sends with user code */
	sys_mutex mutex;                /* covers all below */
	bool closed;
	size_t waiting;                 /* who waits to send, on threads and loops */
	LIST_OF(struct evwork_subscription) subs;
	int sub_count;
};

struct evwork_subscription {
	/* Fixed at creation. */
	struct evwork_broadcast *broadcast;     /* a ref */
	enum evwork_subscription_full full;
	struct evwork_chan *in, *out;           /* the channel's ends: to send, to receive */
	struct evwork_loop *loop;               /* NULL: its owner receives */
	evwork_subscription_item_fn item;
	evwork_ended_fn ended;
	void *arg;

	/* The owner, the loop until the subscription has ended there, and each sender who
	 * waits for its room. */
	atomic_uint refs;
	_Atomic uint64_t dropped;

	/* Covered by the broadcast's lock. */
	bool listed;                    /* it gets what is sent */
	struct evwork_subscription *next, *prev;

	/* With a loop: that thread only, but `calls`. */
	struct evwork_chan_waiter waiter;
	void *value;                    /* the item that is delivered */
	bool unsubscribed;
	pthread_t thread;
	atomic_bool calls;              /* callbacks may come, or run */
};

static inline bool broadcast_is_inherited(const struct evwork_broadcast *broadcast)
{
	return broadcast->made_in != fork_here();
}

void broadcast_unref(struct evwork_broadcast *broadcast);

/* [under the lock] The subscription, which is listed, gets nothing more. */
void broadcast_unlist_locked(struct evwork_broadcast *broadcast,
	struct evwork_subscription *sub);

static inline struct evwork_subscription *subscription_ref(struct evwork_subscription *sub)
{
	/* Relaxed: the caller has one, or the lock that keeps one there. */
	atomic_fetch_add_explicit(&sub->refs, 1, memory_order_relaxed);
	return sub;
}
void subscription_unref(struct evwork_subscription *sub);

#endif
