/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUARD_GATE_H
#define GUARD_GATE_H

#include "base/fork.h"
#include "base/list.h"
#include "guard/notice.h"
#include "run/loop.h"
#include "run/pool.h"
#include "evwork/gate.h"

/*
 * A gate. All of it belongs to the thread of its loop, but for the counters. What goes on in
 * other threads comes as a letter: the queue of the lane has become short, see gate_look.c.
 */

/* Why it is shut. */
enum gate_cause { CAUSE_QUEUE = 1, CAUSE_AGE = 2, CAUSE_LIMITER = 4 };

/* At this time the pool was about to give a job this number. */
struct gate_mark {
	int64_t at_ns;
	uint32_t number;
};

/* Twice what is between the marks that age is told by. */
#define GATE_MARKS 16

/* An inlet is switched on, in which callbacks may come. */
struct switching {
	struct evwork_inlet *inlet;   /* NULL: it was removed meanwhile */
	struct switching *outer;
};

struct evwork_gate {
	/* Fixed at creation. */
	char name[EVWORK_NAME_MAX];
	struct evwork_loop *loop;
	sys_thread thread;            /* of the loop, which may be gone */
	unsigned made_in;
	struct evwork_lane *lane;     /* NULL: it is not looked at */
	size_t queue_high, queue_low;         /* high 0: its length does not matter */
	int64_t age_high_ns, age_low_ns;      /* high 0: nor does its age */
	struct evwork_limiter *limiter;
	int64_t tokens, tokens_open;
	int batch;
	uint32_t share;

	/* How the loop is made to come back to the gate, and its close is heard of. */
	sys_mutex mutex;              /* what a notice needs */
	struct notice notice;
	bool over;                    /* the loop closes, or has gone */

	unsigned causes;              /* 0: open */
	size_t credit;                /* how many may pass before the next look, */
	int64_t looked_ns;            /* and when the last one was */
	struct gate_mark marks[GATE_MARKS];   /* the latest, a ring */
	unsigned mark_first, mark_count;

	/* Told when the queue is short. */
	bool hooked;                  /* the hook is in the list of the pool */
	bool awaiting;                /* until the letter has come, and the loop counts it */
	bool own;                     /* see loop_enter */
	bool doomed;                  /* freed, but for the letter */
	struct pool_hook hook;
	struct letter letter;

	LIST_OF(struct evwork_inlet) open;    /* switched on, those first that are so longest */
	LIST_OF(struct evwork_inlet) paused;  /* the line */
	uint64_t places;              /* that were given at its end */
	uint32_t turns;               /* of the gate */
	bool waits;                   /* somebody is in line, and keeps the loop alive */
	struct switching *switching;  /* those that are being switched on */

	/* Written by the loop's thread only. */
	_Atomic uint64_t inlets, paused_count, shuts[3], passed, held, resumed, yielded;
	_Atomic int shut;
};

static inline bool gate_is_inherited(const struct evwork_gate *gate)
{
	return gate->made_in != fork_here();
}

/* [loop] Nobody is held any more. */
static inline bool gate_is_over(const struct evwork_gate *gate)
{
	return gate->over || atomic_load_explicit(&gate->loop->closing, memory_order_relaxed);
}

/* Looks at what is watched: opens or shuts, and sees to it that somebody looks again. */
void gate_look(struct evwork_gate *gate);
/* Whether the last look is too long ago to let somebody pass. */
bool gate_look_is_stale(const struct evwork_gate *gate);
void gate_look_init(struct evwork_gate *gate);
/* If it is shut for that, has workers tell when the queue is short. */
void gate_await_queue(struct evwork_gate *gate);
/* Does not wait for the queue any more, unless the letter is on its way. */
void gate_stop_awaiting(struct evwork_gate *gate);
/* Somebody has left, perhaps the last. */
void gate_left(struct evwork_gate *gate);

/* Puts an inlet into the line, and switches it off; `tell`: its owner does not know. False:
 * without memory to keep the loop alive meanwhile, nothing was done. */
bool inlet_pause(struct evwork_inlet *inlet, bool tell);
/* It went on in the turn before this one. */
bool inlet_is_fresh(const struct evwork_inlet *inlet);
/* It is its turn; false: it could not be switched on, and will be tried again. */
bool inlet_resume(struct evwork_inlet *inlet);

/* Has some inlets switched on or off in a turn of its own, as the gate is, if any are to be. */
void gate_raise(struct evwork_gate *gate);
/* Has it looked again, at the latest in a turn after due_ns. */
void gate_set_alarm(struct evwork_gate *gate, int64_t due_ns);
/* Nobody is in line any more, as far as the loop is concerned. */
void gate_stop_waiting(struct evwork_gate *gate);

/* Frees it, once the letter is not on its way. */
void gate_destroy(struct evwork_gate *gate);

#endif
