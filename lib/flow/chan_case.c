/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The long way of sends and receives, under both locks of the channel: what meets those
 * who wait, and ends that are closed.
 *
 * What the lists hold and what the ring holds exclude each other: a wait to receive that
 * could still be served means that the channel is empty, one to send that it is full.
 * Whoever makes room or brings a value serves the first of them in the same breath. So
 * nobody has to look for others who came before: who finds room, or a value, may take it.
 * Only with a capacity of 0 both lists may hold something, cases of the same selects.
 *
 * Those who watch are in a list of their own: they take neither value nor room, so all
 * are told of what they wait for.
 */

#include "flow/chan.h"

#include "run/ctx.h"
#include "run/loop.h"

struct evwork_case evwork_send_case(struct evwork_chan *chan, const void *value)
{
	/* It is only read. */
	struct evwork_case send = { .chan = chan, .op = EVWORK_SEND, .value = (void *)value };

	return send;
}

struct evwork_case evwork_recv_case(struct evwork_chan *chan, void *value)
{
	struct evwork_case receive = { .chan = chan, .op = EVWORK_RECV, .value = value };

	return receive;
}

void chan_enlist(struct evwork_case *one)
{
	struct chan_core *core = one->chan->core;

	one->_listed = 1;
	if (one->op == EVWORK_SEND) {
		LIST_APPEND(&core->senders, one, _next, _prev);
		core->waiting_senders++;
	} else if (one->op == EVWORK_RECV) {
		LIST_APPEND(&core->receivers, one, _next, _prev);
		core->waiting_receivers++;
	} else {
		LIST_APPEND(&core->watchers, one, _next, _prev);
	}
	chan_review(core);
}

void chan_delist(struct evwork_case *one)
{
	struct chan_core *core = one->chan->core;

	one->_listed = 0;
	if (one->op == EVWORK_SEND) {
		LIST_REMOVE(&core->senders, one, _next, _prev);
		core->waiting_senders--;
	} else if (one->op == EVWORK_RECV) {
		LIST_REMOVE(&core->receivers, one, _next, _prev);
		core->waiting_receivers--;
	} else {
		LIST_REMOVE(&core->watchers, one, _next, _prev);
	}
	chan_review(core);
}

void chan_finish(struct evwork_case *served, int status, struct wake_list *wakes)
{
	struct evwork_chan_wait *wait = served->_wait;

	served->status = status;
	wait->result = (int)(served - wait->cases);
	chan_delist(served);
	if (wait->loop) {
		watch_fire(wait->loop, wait->ctx, &EVWORK_CONTAINER(wait,
			struct evwork_chan_waiter, _wait)->_watch);
	} else {
		wait->next = wakes->first;
		wakes->first = wait;
	}
}

void chan_wake_all(struct wake_list *wakes)
{
	struct evwork_chan_wait *wait = wakes->first, *next;

	for (; wait; wait = next) {
		/* A thread that was woken takes its wait with it. */
		next = wait->next;
		chan_wake_thread(wait);
	}
}

/* The first that can still be served: not one that was claimed elsewhere, nor one whose
 * context has died, even if nobody has told it yet (S-CHAN-7). */
static struct evwork_case *first_live(struct evwork_case *at)
{
	for (; at; at = at->_next) {
		if (__atomic_load_n(&at->_wait->state, __ATOMIC_ACQUIRE) == WAIT_PARKED &&
		    !ctx_is_over(at->_wait->ctx))
			return at;
	}
	return NULL;
}

/* The first wait that could be served, claimed. */
static struct evwork_case *claim_first(struct evwork_case *head)
{
	struct evwork_case *peer;

	do
		peer = first_live(head);
	while (peer && !wait_claim(peer->_wait));
	return peer;
}

int chan_ctx_err(struct evwork_ctx *ctx)
{
	if (!ctx_is_background(ctx) && ctx_is_inherited(ctx))
		return -ESHUTDOWN;
	return evwork_ctx_err(ctx);
}

/* What keeps an end from sending, whether there is room or not: an error, or 0. */
static int send_status(const struct evwork_chan *chan)
{
	if (chan->core->open_senders == 0 || chan->core->open_receivers == 0)
		return -EPIPE;
	return chan_end_is_shut(chan, EVWORK_SEND) ? -ESHUTDOWN : 0;
}

static bool commit_send(struct evwork_case *one, struct wake_list *wakes)
{
	struct chan_core *core = one->chan->core;
	struct evwork_case *peer;

	one->status = send_status(one->chan);
	if (one->status)
		return true;
	peer = claim_first(core->receivers.head);
	if (!peer)
		return chan_put(core, one->value, 1) == 1;
	chan_copy(peer->value, one->value, core->elem_size);
	chan_finish(peer, 1, wakes);
	return true;
}

/* Tells all who wait for room. */
static void tell_of_room(struct chan_core *core, struct wake_list *wakes)
{
	struct evwork_case *at, *next;

	for (at = core->watchers.head; at; at = next) {
		next = at->_next;
		if (at->op == CASE_ROOM && wait_claim(at->_wait))
			chan_finish(at, 0, wakes);
	}
}

static bool commit_receive(struct evwork_case *one, struct wake_list *wakes)
{
	struct chan_core *core = one->chan->core;
	struct evwork_case *peer;

	if (chan_end_is_shut(one->chan, EVWORK_RECV)) {
		one->status = -ESHUTDOWN;
		return true;
	}
	one->status = 1;
	if (chan_take(core, one->value, 1) == 1) {
		/* The room is that of the first who waits for it. */
		peer = claim_first(core->senders.head);
		if (peer) {
			chan_put(core, peer->value, 1);
			chan_finish(peer, 0, wakes);
		} else {
			tell_of_room(core, wakes);
		}
		return true;
	}
	peer = claim_first(core->senders.head);
	if (peer) {
		chan_copy(one->value, peer->value, core->elem_size);
		chan_finish(peer, 0, wakes);
		return true;
	}
	one->status = core->end_status;
	return core->open_senders == 0;
}

/* Of one that only watches. */
static bool watched_is_there(const struct evwork_case *one)
{
	const struct chan_core *core = one->chan->core;

	return one->op == CASE_NOW || send_status(one->chan) ||
		(one->op == CASE_ROOM && chan_length(core) < core->capacity);
}

bool chan_case_commit(struct evwork_case *one, struct wake_list *wakes)
{
	if (one->op == EVWORK_SEND)
		return commit_send(one, wakes);
	if (one->op == EVWORK_RECV)
		return commit_receive(one, wakes);
	one->status = one->op == CASE_NOW ? 0 : send_status(one->chan);
	return watched_is_there(one);
}

bool chan_case_is_ready(const struct evwork_case *one)
{
	const struct chan_core *core = one->chan->core;

	if (one->op == EVWORK_SEND)
		return send_status(one->chan) || chan_length(core) < core->capacity ||
			first_live(core->receivers.head);
	if (one->op != EVWORK_RECV)
		return watched_is_there(one);
	return core->open_senders == 0 || !(one->chan->open & EVWORK_CHAN_RECV) ||
		chan_length(core) > 0 || first_live(core->senders.head);
}
