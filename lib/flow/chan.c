/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Channels and their ends: making, closing, freeing. How values move is in chan_ring.c
 * and chan_case.c, how threads wait in chan_wait.c, how loops do in chan_call.c, and
 * selects are in select.c.
 */

#include "flow/chan.h"

static void core_free(struct chan_core *core)
{
	if (core->made_in == fork_here()) {
		sys_mutex_fini(&core->senders_lock);
		sys_mutex_fini(&core->receivers_lock);
	}
	sys_free(core->slots);
	sys_free(core);
}

static struct chan_core *core_new(size_t elem_size, size_t capacity, void (*drop)(void *value))
{
	struct chan_core *core = fork_notice() == 0 ? sys_zalloc(sizeof(*core)) : NULL;

	if (!core)
		return NULL;
	if (sys_mutex_init_spinning(&core->senders_lock) != 0)
		goto no_senders;
	if (sys_mutex_init_spinning(&core->receivers_lock) != 0)
		goto no_receivers;
	core->made_in = fork_here();
	core->elem_size = elem_size;
	core->capacity = capacity;
	core->drop = drop;
	core->slots = sys_alloc(elem_size * capacity + 1);
	if (core->slots)
		return core;
	sys_mutex_fini(&core->receivers_lock);
no_receivers:
	sys_mutex_fini(&core->senders_lock);
no_senders:
	sys_free(core);
	return NULL;
}

/* [under both locks, or the channel is new] Makes chan an end. */
static void attach(struct evwork_chan *chan, struct chan_core *core, unsigned ends)
{
	chan->core = core;
	chan->may = chan->open = ends;
	core->ends++;
	core->open_senders += (ends & EVWORK_CHAN_SEND) != 0;
	core->open_receivers += (ends & EVWORK_CHAN_RECV) != 0;
}

int evwork_chan_new(size_t elem_size, size_t capacity, void (*drop)(void *value),
	struct evwork_chan **ret_chan)
{
	struct evwork_chan *chan;
	struct chan_core *core;
	size_t bytes;

	if (!ret_chan)
		return -EINVAL;
	if (__builtin_mul_overflow(elem_size, capacity, &bytes) || bytes >= PTRDIFF_MAX)
		return -ERANGE;
	chan = sys_zalloc(sizeof(*chan));
	core = chan ? core_new(elem_size, capacity, drop) : NULL;
	if (!core) {
		sys_free(chan);
		return -ENOMEM;
	}
	attach(chan, core, EVWORK_CHAN_SEND | EVWORK_CHAN_RECV);
	chan_review(core);
	*ret_chan = chan;
	return 0;
}

int evwork_chan_clone(struct evwork_chan *chan, unsigned ends, struct evwork_chan **ret_chan)
{
	struct evwork_chan *clone;
	bool open;

	if (!chan || !ret_chan || !ends || (ends & ~(EVWORK_CHAN_SEND | EVWORK_CHAN_RECV)))
		return -EINVAL;
	if (ends & ~chan->may)
		return -EPERM;
	if (chan_is_inherited(chan))
		return -ESHUTDOWN;
	clone = sys_zalloc(sizeof(*clone));
	chan_lock(chan->core);
	open = (ends & ~chan->open) == 0;
	if (open && clone)
		attach(clone, chan->core, ends);
	chan_unlock(chan->core);
	if (!open || !clone) {
		sys_free(clone);
		return open ? -ENOMEM : -ESHUTDOWN;
	}
	*ret_chan = clone;
	return 0;
}

/* Closing. */

/* [under both locks] Ends the waits from this one on that are for this end, or all of
 * them if it is NULL. A wait that somebody else claims at this moment is his. */
static void end_waits(struct evwork_case *at, const struct evwork_chan *end, int status,
	struct wake_list *wakes)
{
	struct evwork_case *next;

	for (; at; at = next) {
		next = at->_next;
		if ((!end || at->chan == end) && wait_claim(at->_wait))
			chan_finish(at, status, wakes);
	}
}

/* end_status: what receives give after the last value if this is the last end. */
static int close_end(struct evwork_chan *chan, int end_status)
{
	struct wake_list wakes = { NULL };
	struct chan_core *core = chan->core;
	bool open;
	int status;

	chan_lock(core);
	open = chan->open & EVWORK_CHAN_SEND;
	if (open) {
		chan->open &= ~EVWORK_CHAN_SEND;
		core->open_senders--;
		status = core->open_senders ? -ESHUTDOWN : -EPIPE;
		end_waits(core->senders.head, chan, status, &wakes);
		end_waits(core->watchers.head, chan, status, &wakes);
		if (core->open_senders == 0)
			core->end_status = end_status;
		/* Who can still be served waits because the channel is empty. If it is not,
		 * those who wait have lost their contexts, and will be told that. */
		if (core->open_senders == 0 && chan_length(core) == 0)
			end_waits(core->receivers.head, NULL, end_status, &wakes);
		chan_review(core);
	}
	chan_unlock(core);
	chan_wake_all(&wakes);
	return open ? 0 : -EALREADY;
}

int evwork_chan_close(struct evwork_chan *chan)
{
	if (!chan)
		return -EINVAL;
	if (!(chan->may & EVWORK_CHAN_SEND))
		return -EPERM;
	if (chan_is_inherited(chan))
		return -ESHUTDOWN;
	return close_end(chan, 0);
}

void chan_break(struct evwork_chan *chan)
{
	close_end(chan, -EPIPE);
}

/* [under both locks] Empties the ring; what was in it is the caller's to drop, once the
 * locks are left: nobody else looks at these slots any more. */
static uint64_t give_up_values(struct chan_core *core, uint64_t *ret_first)
{
	uint64_t length = chan_length(core);

	*ret_first = core->head_slot;
	core->tail_seen = atomic_load_explicit(&core->tail, memory_order_relaxed);
	core->head_slot = core->tail_slot;
	core->head_seen = core->tail_seen;
	atomic_store_explicit(&core->head, core->tail_seen, memory_order_relaxed);
	return length;
}

static void drop_values(struct chan_core *core, uint64_t first, uint64_t length)
{
	uint64_t i;

	for (i = 0; core->drop && i < length; i++)
		core->drop(core->slots + (first + i) % core->capacity * core->elem_size);
}

/* One less of what keeps the core: ends, and those who drop. */
static void core_leave(struct chan_core *core)
{
	bool last;

	chan_lock(core);
	last = --core->ends == 0;
	chan_unlock(core);
	if (last)
		core_free(core);
}

int evwork_chan_abandon(struct evwork_chan *chan)
{
	struct wake_list wakes = { NULL };
	struct chan_core *core;
	uint64_t first = 0, length = 0;
	bool open, last = false;

	if (!chan)
		return -EINVAL;
	if (!(chan->may & EVWORK_CHAN_RECV))
		return -EPERM;
	if (chan_is_inherited(chan))
		return -ESHUTDOWN;
	core = chan->core;
	chan_lock(core);
	open = chan->open & EVWORK_CHAN_RECV;
	if (open) {
		chan->open &= ~EVWORK_CHAN_RECV;
		core->open_receivers--;
		end_waits(core->receivers.head, chan, -ESHUTDOWN, &wakes);
		if (core->open_receivers == 0) {
			end_waits(core->senders.head, NULL, -EPIPE, &wakes);
			end_waits(core->watchers.head, NULL, -EPIPE, &wakes);
			length = give_up_values(core, &first);
			/* Until it is through: drop may free this end. */
			core->ends++;
			last = true;
		}
		chan_review(core);
	}
	chan_unlock(core);
	chan_wake_all(&wakes);
	if (last) {
		drop_values(core, first, length);
		core_leave(core);
	}
	return open ? 0 : -EALREADY;
}

bool chan_is_full(const struct evwork_chan *chan)
{
	struct chan_core *core = chan->core;
	bool full;

	chan_lock(core);
	full = core->open_receivers && chan_length(core) == core->capacity;
	chan_unlock(core);
	return full;
}

void chan_hold(struct evwork_chan *chan)
{
	chan_lock(chan->core);
	chan->waiting++;
	chan_unlock(chan->core);
}

void chan_release(struct evwork_chan *chan)
{
	chan_lock(chan->core);
	chan->waiting--;
	chan_unlock(chan->core);
}

/* [under both locks] Whether any end but this one is open. */
static bool others_are_open(const struct evwork_chan *chan)
{
	const struct chan_core *core = chan->core;

	return core->open_senders > ((chan->open & EVWORK_CHAN_SEND) != 0) ||
		core->open_receivers > ((chan->open & EVWORK_CHAN_RECV) != 0);
}

/* In the child of a fork: no lock is taken, nobody else is there. */
static int free_inherited(struct evwork_chan *chan)
{
	if (--chan->core->ends == 0)
		core_free(chan->core);
	sys_free(chan);
	return 0;
}

int evwork_chan_free(struct evwork_chan *chan)
{
	struct chan_core *core;
	uint64_t first = 0, length = 0;

	if (!chan)
		return 0;
	if (chan_is_inherited(chan))
		return free_inherited(chan);
	core = chan->core;
	chan_lock(core);
	if (chan->waiting || (chan->open && others_are_open(chan))) {
		chan_unlock(core);
		return -EBUSY;
	}
	/* With the last open end goes what nobody can receive any more. */
	core->open_senders -= (chan->open & EVWORK_CHAN_SEND) != 0;
	core->open_receivers -= (chan->open & EVWORK_CHAN_RECV) != 0;
	if (chan->open & EVWORK_CHAN_RECV)
		length = give_up_values(core, &first);
	chan_review(core);
	chan->open = 0;
	chan_unlock(core);
	/* The end keeps the core until it is through. */
	drop_values(core, first, length);
	core_leave(core);
	sys_free(chan);
	return 0;
}

int evwork_chan_stats(struct evwork_chan *chan, struct evwork_chan_stats *ret_stats)
{
	struct chan_core *core;

	if (!chan || !ret_stats)
		return -EINVAL;
	if (chan_is_inherited(chan))
		return -ESHUTDOWN;
	core = chan->core;
	chan_lock(core);
	ret_stats->length = chan_length(core);
	ret_stats->capacity = core->capacity;
	ret_stats->peak = atomic_load_explicit(&core->peak, memory_order_relaxed);
	ret_stats->senders = core->waiting_senders;
	ret_stats->receivers = core->waiting_receivers;
	chan_unlock(core);
	return 0;
}
