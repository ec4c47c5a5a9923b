/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef RUN_TURN_H
#define RUN_TURN_H

#include "run/loop.h"

/*
 * What one turn of a loop may do. See turn.c.
 */

/* How much time of callbacks may go by between two hand-overs of staged jobs. */
#define STAGE_WAIT_NS INT64_C(5000)

struct budget {
	int callbacks;          /* left */
	int64_t looked;         /* when the clock was read last */
	int until_look;         /* callbacks before the clock is read again */
	int gap;
	int64_t end;
};

static inline void budget_start(struct evwork_loop *loop, struct budget *budget)
{
	budget->callbacks = loop->batch;
	budget->until_look = budget->gap = 1;
	budget->looked = sys_now();
	budget->end = sys_time_add(budget->looked, loop->budget_ns);
}

/*
 * Whether another callback may run; counts it. Reading the clock costs as much as
 * a short callback, so it is read after 1, 2, 4 … up to 32 of them; the gap
 * shrinks again as the end comes near.
 */
static inline bool budget_take(struct evwork_loop *loop, struct budget *budget)
{
	if (budget->callbacks == 0)
		return false;
	if (budget->until_look-- == 0) {
		int64_t now = sys_now();
		int64_t left = budget->end - now;

		/* Callbacks that take their time do not keep the workers waiting. */
		if (now - budget->looked > STAGE_WAIT_NS)
			stage_flush_jobs(loop);
		budget->looked = now;
		if (left <= 0) {
			budget->callbacks = 0;
			return false;
		}
		budget->gap = left > loop->budget_ns / 2 && budget->gap < 32 ?
			budget->gap * 2 : (budget->gap + 1) / 2;
		budget->until_look = budget->gap - 1;
	}
	budget->callbacks--;
	return true;
}

/*
 * [loop, in a callback] Whether the turn may have another callback of the user, which then
 * counts; and that it was not needed. For parts of the library whose one callback leads
 * to many.
 */
static inline bool turn_take(struct evwork_loop *loop)
{
	if (loop->over || !budget_take(loop, loop->budget))
		return false;
	count_up(&loop->delivered, 1);
	/* It is a call of its own for those who look for calls that stall. */
	if (__builtin_expect(loop->stall != NULL, 0))
		stall_loop_again(loop->stall);
	return true;
}

static inline void turn_give_back(struct evwork_loop *loop)
{
	loop->budget->callbacks++;
	count_up(&loop->delivered, (uint64_t)-1);
}

/* Calls the watches and timers whose time has come; adds to *called. */
void waiters_call(struct evwork_loop *loop, struct budget *budget, uint64_t *called);

/* The loop closes: everything that waits is to end from now on. */
void waiters_begin_close(struct evwork_loop *loop);

#endif
