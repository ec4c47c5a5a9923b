/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef FLOW_CHAN_H
#define FLOW_CHAN_H

#include <string.h>

#include "base/fork.h"
#include "base/list.h"
#include "base/sys.h"
#include "evwork/chan.h"

/*
 * What all ends of a channel share.
 *
 * Two locks, each on the cache lines of its side. A send takes only the senders', a
 * receive only the receivers', as long as there is room, or a value, and `special` is not
 * set. Whatever concerns both sides (those who wait, ends that close, a rendezvous,
 * selects) is done under both, the senders' first; so under either of them it does not
 * change. Of several channels all are locked in the order of their addresses.
 *
 * The ring is what the two sides share without a lock in common. `tail` is stored with
 * release by the senders' side after the value was written, and loaded with acquire by
 * the receivers' before it is read; `head` likewise the other way round, for the slot to
 * be free. Each side keeps what it saw last of the other's, to look again only when that
 * says full, or empty. Both only grow; a slot is its number modulo the capacity.
 *
 * A channel's locks come before those of trees and loops. No code of the user runs under
 * them, and nothing that kills a context.
 */
struct chan_core {
	/* Fixed at creation. */
	unsigned made_in;               /* fork_here() when it was made */
	size_t elem_size, capacity;
	void (*drop)(void *value);
	char *slots;

	char pad_senders[64];
	sys_mutex senders_lock;
	uint64_t head_seen;             /* by the senders' side */
	uint64_t tail_slot;             /* tail modulo capacity */
	_Atomic uint64_t peak;          /* written by the senders' side */
	char pad_tail[64];
	_Atomic uint64_t tail;

	char pad_receivers[64];
	sys_mutex receivers_lock;
	uint64_t tail_seen;             /* by the receivers' side */
	uint64_t head_slot;
	char pad_head[64];
	_Atomic uint64_t head;

	/* Under both locks to change, under either to read. */
	char pad_both[64];
	bool special;                   /* the short ways are closed: see chan_review */
	unsigned ends;                  /* not freed yet; and calls that drop */
	unsigned open_senders, open_receivers;
	int end_status;                 /* of receives after the last value: 0, -EPIPE */
	LIST_OF(struct evwork_case) senders, receivers;     /* that wait, oldest first */
	LIST_OF(struct evwork_case) watchers;               /* see CASE_GONE */
	size_t waiting_senders, waiting_receivers;
};

struct evwork_chan {
	struct chan_core *core;
	unsigned may;                   /* fixed: EVWORK_CHAN_SEND, _RECV */
	/* As the core's. */
	unsigned open;
	size_t waiting;                 /* who keeps it from being freed: cases of waits, holds */
};

static inline void chan_lock(struct chan_core *core)
{
	sys_lock(&core->senders_lock);
	sys_lock(&core->receivers_lock);
}

static inline void chan_unlock(struct chan_core *core)
{
	sys_unlock(&core->receivers_lock);
	sys_unlock(&core->senders_lock);
}

/* In the child of a fork its locks may be held by threads that are not there. */
static inline bool chan_is_inherited(const struct evwork_chan *chan)
{
	return chan->core->made_in != fork_here();
}

/* [under both locks] To be called when anything that closes the short ways changed. */
static inline void chan_review(struct chan_core *core)
{
	core->special = core->capacity == 0 || core->open_senders == 0 ||
		core->open_receivers == 0 || core->waiting_senders || core->waiting_receivers ||
		core->watchers.head;
}

/* [under both locks] */
static inline uint64_t chan_length(const struct chan_core *core)
{
	return atomic_load_explicit(&core->tail, memory_order_relaxed) -
		atomic_load_explicit(&core->head, memory_order_relaxed);
}

/* The i-th of the values at `values`, which may be NULL if they have no size. */
static inline void *chan_value(const struct chan_core *core, const void *values, size_t i)
{
	return core->elem_size ? (char *)values + i * core->elem_size : (void *)values;
}

static inline void chan_copy(void *to, const void *from, size_t size)
{
	/* What most values are costs no call. */
	if (size == sizeof(void *))
		memcpy(to, from, sizeof(void *));
	else if (size)
		memcpy(to, from, size);
}

/* The ring; see chan_ring.c. Put takes the senders' lock, take the receivers'; each
 * returns how many it moved, up to count. */
size_t chan_put(struct chan_core *core, const void *values, size_t count);
size_t chan_take(struct chan_core *core, void *values, size_t count);

/* Sends and receives of up to count values, with checked arguments, that do not wait: how
 * many, or what the first gave. */
int chan_try_send(struct evwork_chan *chan, const void *values, int count);
int chan_try_receive(struct evwork_chan *chan, void *values, int count);

/*
 * Cases of the library's own, for who has an end to send with but nothing to send. They
 * transfer nothing, and stand in no sender's way. Their status is 0, or the error that
 * a send would give.
 *	GONE    nobody can receive any more
 *	ROOM    a value could be sent, or there is an error; of a channel that has a capacity
 *	NOW     at once
 */
#define CASE_GONE ((enum evwork_case_op)2)
#define CASE_ROOM ((enum evwork_case_op)3)
#define CASE_NOW ((enum evwork_case_op)4)

/* Keep an end from being freed, beyond a wait; and no longer. */
void chan_hold(struct evwork_chan *chan);
void chan_release(struct evwork_chan *chan);

/* Closes the end as evwork_chan_close does; if it is the last, receives give -EPIPE
 * instead of 0. */
void chan_break(struct evwork_chan *chan);

/*
 * For an end that is the only one that sends. Sends, and if the channel is full takes the
 * oldest value out to make room, which is copied to `oldest` unless that is NULL: 1 if
 * that was so, 0, or an error. The capacity is not 0.
 */
int chan_send_over(struct evwork_chan *chan, const void *value, void *oldest);

/* Whether a send would have to wait, or fail, for want of room. */
bool chan_is_full(const struct evwork_chan *chan);

/* How many values a receive would find, by a look without a lock. */
static inline size_t chan_glance(const struct evwork_chan *chan)
{
	/* Relaxed: who acts on it takes a lock and looks again. */
	return (size_t)(atomic_load_explicit(&chan->core->tail, memory_order_relaxed) -
		atomic_load_explicit(&chan->core->head, memory_order_relaxed));
}

/*
 * Waits. The state is PARKED from before its cases are in the lists until somebody
 * claims it, which only one can: who has a transfer for it, its context, its loop, its
 * owner. The claim is a compare-and-swap; what it is claimed with is written under the
 * locks of the channel it was claimed on, or by the owner.
 */
enum { WAIT_IDLE, WAIT_PARKED, WAIT_CLAIMED };

/* Release and acquire: who claims sees what was written by who parked, and the owner, if
 * its own claim fails, goes on under locks or after a wake-up. */
static inline bool wait_claim(struct evwork_chan_wait *wait)
{
	uint32_t parked = WAIT_PARKED;

	return __atomic_compare_exchange_n(&wait->state, &parked, WAIT_CLAIMED, false,
		__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/* Threads that were served under a lock, to be woken once that is left. */
struct wake_list {
	struct evwork_chan_wait *first;
};

void chan_wake_all(struct wake_list *wakes);
/* [a thread's wait] See chan_wait.c. */
void chan_wake_thread(struct evwork_chan_wait *wait);

/* [under both locks of the case's channel] The case, whose wait was claimed, has ended
 * with status: takes it out of its list, and tells who waits. */
void chan_finish(struct evwork_case *served, int status, struct wake_list *wakes);
/* [under both locks] Puts a case into the list of its channel, and out of it. */
void chan_enlist(struct evwork_case *one);
void chan_delist(struct evwork_case *one);

/*
 * [under both locks of the case's channel] Whether the case could be done at this instant;
 * and does it, which gives false if it cannot be done, or not any more. The status is
 * stored in the case.
 */
bool chan_case_is_ready(const struct evwork_case *one);
bool chan_case_commit(struct evwork_case *one, struct wake_list *wakes);

static inline unsigned chan_end_for(enum evwork_case_op op)
{
	return op == EVWORK_SEND ? EVWORK_CHAN_SEND : EVWORK_CHAN_RECV;
}

/* Whether the arguments of a single operation are in order: 0, -EINVAL, -EPERM,
 * -ESHUTDOWN (of an inherited channel). */
static inline int chan_check(const struct evwork_chan *chan, enum evwork_case_op op,
	const void *value)
{
	if (!chan || (!value && chan->core->elem_size))
		return -EINVAL;
	if (!(chan->may & chan_end_for(op)))
		return -EPERM;
	return chan_is_inherited(chan) ? -ESHUTDOWN : 0;
}
/* [under either lock] Whether this end was closed in that direction, while others of the
 * stream were not. Then it is the use of the end that is wrong (S-CHAN-11). */
static inline bool chan_end_is_shut(const struct evwork_chan *chan, enum evwork_case_op op)
{
	if (chan->open & chan_end_for(op))
		return false;
	return op == EVWORK_RECV || (chan->core->open_senders && chan->core->open_receivers);
}
/* What is against a wait with ctx: its death; or that it is the parent's, in the child of a
 * fork. */
int chan_ctx_err(struct evwork_ctx *ctx);
/* -ESHUTDOWN if the end is shut, which comes before err (S-GEN-4). */
int chan_shut_or(struct evwork_chan *chan, enum evwork_case_op op, int err);

/* Several cases at once; see select.c. */

/* -EINVAL, -EPERM, -ESHUTDOWN, or 0. */
int cases_check(const struct evwork_case *cases, size_t count);
/* Links the cases in the order in which their channels are locked, each channel once;
 * from then on the order is only read. */
struct evwork_case *cases_order(struct evwork_case *cases, size_t count);
void cases_lock(struct evwork_case *order);
void cases_unlock(struct evwork_case *order);
/* [all locked] Does one that is ready, by lot; its index, or -EAGAIN. The lots of a thread
 * repeat themselves from the same seed, for tests; 0 lets chance choose it. */
void cases_seed(uint64_t seed);
int cases_commit(struct evwork_case *cases, size_t count, struct wake_list *wakes);
/* [nothing locked] Tries few cases one after the other, in an order of chance: the first that
 * could be done is by lot, too, and only its channel was locked. That none could says
 * nothing of one instant. */
int cases_try_each(struct evwork_case *cases, size_t count);
/* [all locked] The wait, which can be claimed from now on, keeps the ends of its cases from
 * being freed; and lets go of them, which takes those that are still in lists out. */
void cases_hold(struct evwork_chan_wait *wait);
void cases_release(struct evwork_chan_wait *wait);
/* [all locked] Has the wait, which holds its cases, wait for all of them. */
void cases_enlist(struct evwork_chan_wait *wait);
/* evwork_select, for cases in order. What was received for a waiter whose loop is freed by
 * force is dropped, unless it has `_lost`, which is told the result instead, on that
 * loop's thread. */
int cases_begin(struct evwork_chan_waiter *waiter, struct evwork_case *cases, size_t count,
	struct evwork_ctx *ctx, struct evwork_loop *loop);
/* A thread waits for one of the cases: the index, or an error. All was checked. It looks on
 * for a moment before it sleeps, unless it has done so already. */
int cases_wait(struct evwork_case *cases, size_t count, struct evwork_ctx *ctx, bool looked);

#endif
