/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Selects: several cases at once.
 *
 * A select holds the locks of all its channels while it looks what is ready, so that
 * "nothing" is true of one instant, and while it makes itself one who waits, so that
 * nothing comes in between. Who serves one of its cases holds the locks of that channel
 * only: it claims the wait, and the cases that stay behind in other lists are taken out
 * by the select itself, before it ends. Until then they serve nobody.
 */

#include "flow/chan.h"

#include <limits.h>

static uintptr_t place(const struct evwork_case *one)
{
	return (uintptr_t)one->chan->core;
}

/* Merges two lists that are in order; of the same channel only one stays. */
static struct evwork_case *merge(struct evwork_case *a, struct evwork_case *b)
{
	struct evwork_case *first = NULL, **last = &first;

	while (a && b) {
		if (place(a) == place(b)) {
			b = b->_order;
			continue;
		}
		if (place(a) > place(b)) {
			struct evwork_case *less = b;

			b = a;
			a = less;
		}
		*last = a;
		last = &a->_order;
		a = a->_order;
	}
	*last = a ? a : b;
	return first;
}

struct evwork_case *cases_order(struct evwork_case *cases, size_t count)
{
	if (count > 1)
		return merge(cases_order(cases, count / 2),
			cases_order(cases + count / 2, count - count / 2));
	if (count == 0 || !cases->chan)
		return NULL;
	cases->_order = NULL;
	return cases;
}

void cases_lock(struct evwork_case *order)
{
	for (; order; order = order->_order)
		chan_lock(order->chan->core);
}

void cases_unlock(struct evwork_case *order)
{
	struct evwork_case *next;

	/* Once the last is unlocked, who waits for the locks may free the cases. */
	for (; order; order = next) {
		next = order->_order;
		chan_unlock(order->chan->core);
	}
}

/* The lots of a thread, xorshift64*; 0 before the first. */
static SYS_THREAD_LOCAL uint64_t lots;

void cases_seed(uint64_t seed)
{
	lots = seed;
}

/* As many are tried one after the other before all are locked. */
#define FEW_CASES 16

/* A number below `bound`, all alike. */
static uint32_t draw(uint32_t bound)
{
	if (bound == 1)
		return 0;
	while (lots == 0)
		lots = sys_random();
	lots ^= lots >> 12;
	lots ^= lots << 25;
	lots ^= lots >> 27;
	return (uint32_t)(((lots * UINT64_C(2685821657736338717)) >> 32) * bound >> 32);
}

int cases_commit(struct evwork_case *cases, size_t count, struct wake_list *wakes)
{
	size_t i, chosen = 0;
	uint32_t ready;

	do {
		ready = 0;
		for (i = 0; i < count; i++) {
			if (cases[i].chan && chan_case_is_ready(&cases[i]) && draw(++ready) == 0)
				chosen = i;
		}
		/* Whom it was ready for may be claimed elsewhere in between. */
	} while (ready && !chan_case_commit(&cases[chosen], wakes));
	return ready ? (int)chosen : -EAGAIN;
}

/* One case by itself: whether it was done. */
static bool try_case(struct evwork_case *one)
{
	int rc = one->op == EVWORK_SEND ? chan_try_send(one->chan, one->value, 1) :
		chan_try_receive(one->chan, one->value, 1);

	if (rc == -EAGAIN)
		return false;
	one->status = one->op == EVWORK_SEND && rc == 1 ? 0 : rc;
	return true;
}

int cases_try_each(struct evwork_case *cases, size_t count)
{
	unsigned char left[FEW_CASES];
	uint32_t n = count <= FEW_CASES ? (uint32_t)count : 0, i, at;

	for (i = 0; i < n; i++)
		left[i] = (unsigned char)i;
	while (n > 0) {
		i = draw(n);
		at = left[i];
		left[i] = left[--n];
		if (cases[at].chan && try_case(&cases[at]))
			return (int)at;
	}
	return -EAGAIN;
}

void cases_hold(struct evwork_chan_wait *wait)
{
	size_t i;

	/* Relaxed: the locks order it; and if no case has a channel, what it is told to. */
	__atomic_store_n(&wait->state, WAIT_PARKED, __ATOMIC_RELAXED);
	for (i = 0; i < wait->count; i++) {
		wait->cases[i]._wait = wait;
		wait->cases[i]._listed = 0;
		if (wait->cases[i].chan)
			wait->cases[i].chan->waiting++;
	}
}

void cases_enlist(struct evwork_chan_wait *wait)
{
	size_t i;

	for (i = 0; i < wait->count; i++) {
		if (wait->cases[i].chan)
			chan_enlist(&wait->cases[i]);
	}
}

void cases_release(struct evwork_chan_wait *wait)
{
	size_t i;

	for (i = 0; i < wait->count; i++) {
		if (wait->cases[i]._listed)
			chan_delist(&wait->cases[i]);
		if (wait->cases[i].chan)
			wait->cases[i].chan->waiting--;
	}
}

int cases_check(const struct evwork_case *cases, size_t count)
{
	int rc = cases && count <= INT_MAX ? 0 : -EINVAL;
	size_t i;

	for (i = 0; rc != -EINVAL && i < count; i++) {
		const struct evwork_case *one = &cases[i];
		int bad = one->op != EVWORK_SEND && one->op != EVWORK_RECV ? -EINVAL :
			one->chan ? chan_check(one->chan, one->op, one->value) : 0;

		if (bad == -EINVAL || bad == -EPERM || rc == 0)
			rc = bad ? bad : rc;
	}
	return rc;
}

int evwork_select_try(struct evwork_case *cases, size_t count)
{
	struct wake_list wakes = { NULL };
	struct evwork_case *order;
	int rc = count ? cases_check(cases, count) : -EAGAIN;

	if (rc)
		return rc;
	rc = cases_try_each(cases, count);
	if (rc != -EAGAIN)
		return rc;
	order = cases_order(cases, count);
	cases_lock(order);
	rc = cases_commit(cases, count, &wakes);
	cases_unlock(order);
	chan_wake_all(&wakes);
	return rc;
}
