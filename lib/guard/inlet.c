/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Inlets. What one is switched to:
 *
 *	IDLE ──add──► OPEN ◄──its turn── PAUSED
 *	  ▲            │ └────shut, share────► ▲
 *	  │            ▼                       │
 *	  └─remove── UNWANTED ◄──want 0/1──────┘
 *
 * The open and the paused ones are in a list each, the line is the latter. When a gate shuts,
 * those that ask are paused at once, and the others a batch a turn, so that shutting costs
 * no more with many inlets than with few.
 *
 * Several go on at a time, and those whose input was not read empty are called first: they
 * could take all the room each time. So who asks in vain when it was its turn goes back to
 * its place, and who has just gone on is not paused before it could ask.
 */

#include <errno.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>

#include "guard/gate.h"

enum { INLET_IDLE, INLET_OPEN, INLET_PAUSED, INLET_UNWANTED };

/* Without memory, to try again. */
#define AGAIN_NS (10 * SYS_NS_PER_MS)

void evwork_inlet_init(struct evwork_inlet *inlet, evwork_inlet_fn fn)
{
	memset(inlet, 0, sizeof(*inlet));
	inlet->fn = fn;
}

void evwork_inlet_init_bufferevent(struct evwork_inlet *inlet, struct bufferevent *bufferevent)
{
	evwork_inlet_init(inlet, NULL);
	inlet->_bufferevent = bufferevent;
}

void evwork_inlet_init_listener(struct evwork_inlet *inlet, struct evconnlistener *listener)
{
	evwork_inlet_init(inlet, NULL);
	inlet->_listener = listener;
}

/* Switching. */

static void switch_off(const struct evwork_inlet *inlet)
{
	/* Neither can fail but where there is nothing to switch off. */
	if (inlet->_bufferevent)
		(void)bufferevent_disable(inlet->_bufferevent, EV_READ);
	else if (inlet->_listener)
		(void)evconnlistener_disable(inlet->_listener);
}

static int switch_on(const struct evwork_inlet *inlet)
{
	struct bufferevent *bufferevent = inlet->_bufferevent;
	int rc = 0;

	if (bufferevent) {
		/* What was left in it; called by libevent in a moment, not here. */
		if (evbuffer_get_length(bufferevent_get_input(bufferevent)))
			bufferevent_trigger(bufferevent, EV_READ, BEV_TRIG_DEFER_CALLBACKS);
		rc = bufferevent_enable(bufferevent, EV_READ);
	} else if (inlet->_listener) {
		rc = evconnlistener_enable(inlet->_listener);
	}
	return rc ? -ENOMEM : 0;
}

/* Lists. */

static void take_out(struct evwork_inlet *inlet)
{
	struct evwork_gate *gate = inlet->_gate;

	if (inlet->_state == INLET_OPEN) {
		LIST_REMOVE(&gate->open, inlet, _next, _prev);
	} else if (inlet->_state == INLET_PAUSED) {
		LIST_REMOVE(&gate->paused, inlet, _next, _prev);
		count_up(&gate->paused_count, (uint64_t)-1);
		if (!gate->paused.head)
			gate_stop_waiting(gate);
	}
	inlet->_state = INLET_UNWANTED;
}

static void put_open(struct evwork_inlet *inlet)
{
	struct evwork_gate *gate = inlet->_gate;

	inlet->_state = INLET_OPEN;
	inlet->_passed = inlet->_due = 0;
	inlet->_turn = gate->turns - 2;
	LIST_APPEND(&gate->open, inlet, _next, _prev);
}

bool inlet_is_fresh(const struct evwork_inlet *inlet)
{
	return inlet->_gate->turns - inlet->_turn < 2;
}

/* At the end of the line, or where it was if nothing came of its turn. */
static void stand_in_line(struct evwork_inlet *inlet, bool asked)
{
	struct evwork_gate *gate = inlet->_gate;
	struct evwork_inlet *behind = gate->paused.head;

	inlet->_state = INLET_PAUSED;
	if (!asked || !inlet->_due) {
		inlet->_place = ++gate->places;
		LIST_APPEND(&gate->paused, inlet, _next, _prev);
		return;
	}
	/* Those before it came to nothing, either: they are few. */
	while (behind && behind->_place < inlet->_place)
		behind = behind->_next;
	LIST_INSERT(&gate->paused, behind, inlet, _next, _prev);
}

/* False: there is no memory to keep the loop alive for it. */
static bool put_paused(struct evwork_inlet *inlet, bool asked)
{
	struct evwork_gate *gate = inlet->_gate;

	if (!gate->waits && !gate->over && loop_wait_begin(gate->loop) != 0)
		return false;
	gate->waits = !gate->over;
	take_out(inlet);
	stand_in_line(inlet, asked);
	count_up(&gate->paused_count, 1);
	if (!gate->over)
		gate_await_queue(gate);
	return true;
}

bool inlet_pause(struct evwork_inlet *inlet, bool tell)
{
	if (!put_paused(inlet, !tell))
		return false;
	switch_off(inlet);
	if (tell && inlet->fn)
		inlet->fn(inlet, 0);
	return true;
}

/*
 * Switches an inlet on that is in the list of the open ones. Callbacks may come in this, of
 * pairs and TLS for example, and remove the inlet and free the gate. *ret_there: it is still
 * at the gate. The gate stays until the caller has left it by notice_leave.
 */
static int open_up(struct evwork_inlet *inlet, bool *ret_there)
{
	struct evwork_gate *gate = inlet->_gate;
	struct switching switching = { inlet, gate->switching };
	unsigned made_in = gate->made_in;
	int rc;

	gate->switching = &switching;
	rc = switch_on(inlet);
	*ret_there = false;
	/* In a child that was made in it nothing is touched. */
	if (made_in != fork_here())
		return 0;
	gate->switching = switching.outer;
	*ret_there = switching.inlet != NULL;
	return rc;
}

/* The inlet is removed, or its memory may be used for something else. */
static void forget_switching(struct evwork_inlet *inlet)
{
	struct switching *switching;

	for (switching = inlet->_gate->switching; switching; switching = switching->outer)
		if (switching->inlet == inlet)
			switching->inlet = NULL;
}

bool inlet_resume(struct evwork_inlet *inlet)
{
	struct evwork_gate *gate = inlet->_gate;
	bool there;

	take_out(inlet);
	put_open(inlet);
	inlet->_due = 1;
	inlet->_turn = gate->turns;
	count_up(&gate->resumed, 1);
	if (inlet->fn) {
		inlet->fn(inlet, 1);
		return true;
	}
	if (open_up(inlet, &there) == 0 || !there || inlet->_state != INLET_OPEN)
		return true;
	(void)put_paused(inlet, true);
	gate_set_alarm(gate, sys_time_add(evwork_loop_now(gate->loop), AGAIN_NS));
	return false;
}

/* Adding and removing. */

/* [loop] Whether the inlet may be used here, and is at a gate. */
static int check(const struct evwork_inlet *inlet)
{
	if (!inlet)
		return -EINVAL;
	if (!inlet->_gate)
		return -ESRCH;
	if (gate_is_inherited(inlet->_gate))
		return -ESHUTDOWN;
	return pthread_equal(inlet->_gate->thread, pthread_self()) ? 0 : -EPERM;
}

/* The inlet is in no list: open if that may be, else in line. One of the user's own is open
 * until it is told in a turn of the gate. */
static int begin(struct evwork_inlet *inlet)
{
	struct evwork_gate *gate = inlet->_gate;
	bool entered, there;
	unsigned made_in = gate->made_in;
	int rc;

	if (!inlet->fn && (gate->causes || gate->paused.head)) {
		if (!put_paused(inlet, false))
			return -ENOMEM;
		switch_off(inlet);
		return 0;
	}
	put_open(inlet);
	entered = notice_enter(&gate->notice);
	rc = open_up(inlet, &there);
	if (made_in != fork_here())
		return 0;
	if (rc && there)
		take_out(inlet);
	else if (!gate->notice.ended)
		gate_raise(gate);
	notice_leave(&gate->notice, entered, made_in);
	return there ? rc : 0;
}

int evwork_gate_add(struct evwork_gate *gate, struct evwork_inlet *inlet)
{
	int rc;

	if (!gate || !inlet || (!inlet->fn && !inlet->_bufferevent && !inlet->_listener))
		return -EINVAL;
	if (gate_is_inherited(gate))
		return -ESHUTDOWN;
	if (!pthread_equal(gate->thread, pthread_self()))
		return -EPERM;
	if (inlet->_gate)
		return -EBUSY;
	if (gate_is_over(gate))
		return -ESHUTDOWN;
	inlet->_gate = gate;
	inlet->_state = INLET_UNWANTED;
	/* Before, as it may be removed in this, and the gate freed. */
	count_up(&gate->inlets, 1);
	rc = begin(inlet);
	if (rc) {
		inlet->_gate = NULL;
		count_up(&gate->inlets, (uint64_t)-1);
	}
	return rc;
}

int evwork_gate_remove(struct evwork_inlet *inlet)
{
	int rc = check(inlet);
	struct evwork_gate *gate;

	if (rc)
		return rc;
	gate = inlet->_gate;
	take_out(inlet);
	forget_switching(inlet);
	count_up(&gate->inlets, (uint64_t)-1);
	inlet->_gate = NULL;
	inlet->_state = INLET_IDLE;
	gate_left(gate);
	return 0;
}

int evwork_inlet_want(struct evwork_inlet *inlet, int on)
{
	int rc = check(inlet);

	if (rc)
		return rc;
	if (on ? inlet->_state != INLET_UNWANTED : inlet->_state == INLET_UNWANTED)
		return -EALREADY;
	if (on)
		return gate_is_over(inlet->_gate) ? -ESHUTDOWN : begin(inlet);
	take_out(inlet);
	switch_off(inlet);
	gate_left(inlet->_gate);
	return 0;
}

/* Passing. */

static bool may_pass(struct evwork_inlet *inlet)
{
	struct evwork_gate *gate = inlet->_gate;

	if (gate_is_over(gate))
		return true;
	if (inlet->_state != INLET_OPEN)
		return false;
	if (gate->causes == 0 && gate_look_is_stale(gate))
		gate_look(gate);
	if (gate->causes)
		return !inlet_pause(inlet, false);
	/* Others stand in line. */
	if (gate->paused.head && inlet->_passed++ >= gate->share && inlet_pause(inlet, false)) {
		count_up(&gate->yielded, 1);
		return false;
	}
	return true;
}

int evwork_inlet_pass(struct evwork_inlet *inlet)
{
	int rc = check(inlet);
	struct evwork_gate *gate;

	if (rc)
		return rc;
	gate = inlet->_gate;
	if (!may_pass(inlet)) {
		count_up(&gate->held, 1);
		return -EAGAIN;
	}
	inlet->_due = 0;
	if (gate->credit)
		gate->credit--;
	count_up(&gate->passed, 1);
	return 0;
}
