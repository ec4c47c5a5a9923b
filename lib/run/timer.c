/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * A pairing heap. Each node has a first child and a list of siblings; _prev is
 * the previous sibling, or the parent for a first child. Pushing is constant,
 * removing the top logarithmic on average, and no step recurses.
 */

#include "run/timer.h"

static bool earlier(const struct evwork_timer *a, const struct evwork_timer *b)
{
	if (a->_due_ns != b->_due_ns)
		return a->_due_ns < b->_due_ns;
	return a->_order < b->_order;
}

/* Makes one heap of two; either may be NULL. Both are roots. */
static struct evwork_timer *meld(struct evwork_timer *a, struct evwork_timer *b)
{
	if (!a)
		return b;
	if (!b)
		return a;
	if (earlier(b, a)) {
		struct evwork_timer *swap = a;

		a = b;
		b = swap;
	}
	b->_next = a->_child;
	if (b->_next)
		b->_next->_prev = b;
	b->_prev = a;
	a->_child = b;
	return a;
}

/* Makes one heap of a list of siblings: pairs from the left, then all pairs from
 * the right, which is what gives the pairing heap its bounds. */
static struct evwork_timer *meld_siblings(struct evwork_timer *first)
{
	struct evwork_timer *pairs = NULL, *root = NULL;

	while (first) {
		struct evwork_timer *a = first, *b = first->_next;

		first = b ? b->_next : NULL;
		a->_next = a->_prev = NULL;
		if (b)
			b->_next = b->_prev = NULL;
		a = meld(a, b);
		a->_next = pairs;
		pairs = a;
	}
	while (pairs) {
		struct evwork_timer *next = pairs->_next;

		pairs->_next = NULL;
		root = meld(root, pairs);
		pairs = next;
	}
	return root;
}

void timer_heap_push(struct timer_heap *heap, struct evwork_timer *timer)
{
	timer->_child = timer->_next = timer->_prev = NULL;
	heap->top = meld(heap->top, timer);
	timer->_kind |= TIMER_SET;
}

void timer_heap_remove(struct timer_heap *heap, struct evwork_timer *timer)
{
	struct evwork_timer *rest = meld_siblings(timer->_child);

	if (timer == heap->top) {
		heap->top = rest;
	} else {
		if (timer->_prev->_child == timer)
			timer->_prev->_child = timer->_next;
		else
			timer->_prev->_next = timer->_next;
		if (timer->_next)
			timer->_next->_prev = timer->_prev;
		heap->top = meld(heap->top, rest);
	}
	timer->_child = timer->_next = timer->_prev = NULL;
	timer->_kind &= ~(uint32_t)TIMER_SET;
}
