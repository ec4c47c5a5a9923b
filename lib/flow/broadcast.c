/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Broadcasts: making, closing, freeing. Sending is in broadcast_send.c, what becomes of
 * items at a subscriber in subscription.c.
 */

#include "flow/broadcast.h"

#include "flow/chan.h"

int evwork_broadcast_new(size_t elem_size, void (*ref)(const void *item, int n),
	void (*drop)(void *item), struct evwork_broadcast **ret_broadcast)
{
	struct evwork_broadcast *broadcast;
	int rc;

	if (!ret_broadcast)
		return -EINVAL;
	rc = fork_notice();
	if (rc)
		return rc;
	broadcast = sys_zalloc(sizeof(*broadcast));
	if (!broadcast)
		return -ENOMEM;
	broadcast->made_in = fork_here();
	broadcast->elem_size = elem_size;
	broadcast->ref = ref;
	broadcast->drop = drop;
	atomic_init(&broadcast->refs, 1);
	rc = sys_mutex_init_spinning(&broadcast->mutex);
	if (rc) {
		sys_free(broadcast);
		return rc;
	}
	*ret_broadcast = broadcast;
	return 0;
}

void broadcast_unref(struct evwork_broadcast *broadcast)
{
	/* Release and acquire: what others did with it comes before. */
	if (atomic_fetch_sub_explicit(&broadcast->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (!broadcast_is_inherited(broadcast))
		sys_mutex_fini(&broadcast->mutex);
	sys_free(broadcast);
}

void broadcast_unlist_locked(struct evwork_broadcast *broadcast,
	struct evwork_subscription *sub)
{
	sub->listed = false;
	LIST_REMOVE(&broadcast->subs, sub, next, prev);
	broadcast->sub_count--;
}

/* Nothing more is sent; who waits for room is told, too. */
static void close_locked(struct evwork_broadcast *broadcast)
{
	struct evwork_subscription *sub;

	broadcast->closed = true;
	while ((sub = broadcast->subs.head)) {
		broadcast_unlist_locked(broadcast, sub);
		evwork_chan_close(sub->in);
	}
}

int evwork_broadcast_close(struct evwork_broadcast *broadcast)
{
	bool before;

	if (!broadcast)
		return -EINVAL;
	if (broadcast_is_inherited(broadcast))
		return -ESHUTDOWN;
	sys_lock(&broadcast->mutex);
	before = broadcast->closed;
	if (!before)
		close_locked(broadcast);
	sys_unlock(&broadcast->mutex);
	return before ? -EALREADY : 0;
}

int evwork_broadcast_free(struct evwork_broadcast *broadcast)
{
	bool busy;

	if (!broadcast)
		return 0;
	if (!broadcast_is_inherited(broadcast)) {
		sys_lock(&broadcast->mutex);
		busy = broadcast->waiting > 0;
		if (!busy && !broadcast->closed)
			close_locked(broadcast);
		sys_unlock(&broadcast->mutex);
		if (busy)
			return -EBUSY;
	}
	broadcast_unref(broadcast);
	return 0;
}
