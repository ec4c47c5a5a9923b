/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef RUN_TIMER_H
#define RUN_TIMER_H

/*
 * The timers of a loop: a pairing heap of caller-owned timers, so that setting
 * one allocates nothing and stopping one cannot fail. The heap knows no clock and
 * no lock; loop_timer.c keeps both.
 */

#include "base/sys.h"
#include "evwork/timer.h"

enum timer_kind {
	TIMER_USER,       /* fires a callback of the user */
	TIMER_CTX         /* the deadline of a context, see ctx_new.c */
};

/* Bits of evwork_timer._kind beside the kind. */
enum { TIMER_KIND = 1, TIMER_SET = 2, TIMER_KEEPS_ALIVE = 4, TIMER_ORPHAN = 8 };

struct timer_heap {
	struct evwork_timer *top;     /* the earliest, or NULL */
};

void timer_heap_push(struct timer_heap *heap, struct evwork_timer *timer);
void timer_heap_remove(struct timer_heap *heap, struct evwork_timer *timer);

static inline bool timer_is_set(const struct evwork_timer *timer)
{
	return (timer->_kind & TIMER_SET) != 0;
}

static inline enum timer_kind timer_kind_of(const struct evwork_timer *timer)
{
	return (enum timer_kind)(timer->_kind & TIMER_KIND);
}

/*
 * [any] Sets and stops the timer of a context. ctx_timer_set gives -ESHUTDOWN on
 * a closing loop. ctx_timer_stop does nothing if the timer is not set.
 */
int ctx_timer_set(struct evwork_loop *loop, struct evwork_timer *timer, int64_t due_ns);
void ctx_timer_stop(struct evwork_loop *loop, struct evwork_timer *timer);

#endif
