/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Announcing changes, each once and in order, however fast they come and without memory
 * when they do (S-BRK-19). A ring holds what was not announced, a byte each. So that it is
 * never full when a change must be made, the changes that begin a cycle ask for room for all
 * of it beforehand: an opening that ends, after which there are at most two more (closed,
 * open) before the next such; and changes by hand, after which there are at most two more,
 * too (closed and open after half open, or the two thresholds of METRICS_ONLY). Without
 * room, with a loop that does not come to its callbacks, an open breaker stays open.
 */

#include <errno.h>

#include "base/fork.h"
#include "guard/breaker.h"

#define CYCLE 3
/* Beside the states, in the ring. */
#define NOTICE_EXCEEDED 8

static struct evwork_breaker *breaker_of(struct notice *notice)
{
	return EVWORK_CONTAINER(notice, struct evwork_breaker, notice);
}

/* Tells the oldest; false if there is none, or the breaker was freed in the last, or this is
 * a child that was made in it. */
static bool tell_one(struct evwork_breaker *breaker)
{
	unsigned made_in = breaker->made_in;
	enum evwork_breaker_state from = breaker->told, to = from;
	unsigned what;

	sys_lock(&breaker->mutex);
	if (breaker->notice_count == 0 || breaker->notice.ended) {
		breaker_unlock(breaker);
		return false;
	}
	what = breaker->notices[breaker->notice_first];
	breaker->notice_first = (breaker->notice_first + 1) % EVWORK_BREAKER_NOTICES_MAX;
	/* The rest comes in a later turn: this was one callback (S-DLV-5). */
	if (--breaker->notice_count)
		notice_raise_locked(&breaker->notice);
	/* There may be room now for what time has brought. */
	if (breaker->config.automatic)
		breaker_advance_locked(breaker);
	if (!(what & NOTICE_EXCEEDED))
		breaker->told = to = (enum evwork_breaker_state)what;
	breaker_unlock(breaker);
	if (!(what & NOTICE_EXCEEDED) && breaker->config.on_transition)
		breaker->config.on_transition(breaker, from, to, breaker->config.arg);
	if ((what & NOTICE_EXCEEDED) && breaker->config.on_exceeded)
		breaker->config.on_exceeded(breaker, (enum evwork_breaker_rate)(what - NOTICE_EXCEEDED),
			breaker->config.arg);
	return made_in == fork_here();
}

static void tell(struct notice *notice, bool last)
{
	struct evwork_breaker *breaker = breaker_of(notice);

	while (tell_one(breaker) && last)
		;
}

static void ring(struct notice *notice)
{
	struct evwork_breaker *breaker = breaker_of(notice);

	sys_lock(&breaker->mutex);
	breaker_advance_locked(breaker);
	/* An alarm of a former state, which has come first. */
	if (breaker->until_ns != EVWORK_NEVER && breaker_notice_room_locked(breaker))
		notice_alarm_locked(notice, breaker->until_ns);
	breaker_unlock(breaker);
}

int breaker_notice_init(struct evwork_breaker *breaker, struct evwork_loop *loop,
	void (*destroy)(struct notice *notice))
{
	struct notice *notice = &breaker->notice;
	int rc = 0;

	notice->mutex = &breaker->mutex;
	notice->tell = tell;
	notice->ring = ring;
	notice->destroy = destroy;
	breaker->told = breaker->config.initial;
	if (breaker->config.on_transition || breaker->config.on_exceeded) {
		breaker->notices = sys_alloc(EVWORK_BREAKER_NOTICES_MAX);
		if (!breaker->notices)
			return -ENOMEM;
	}
	if (loop)
		rc = notice_begin(notice, loop);
	if (rc)
		sys_free(breaker->notices);
	return rc;
}

bool breaker_notice_room_locked(const struct evwork_breaker *breaker)
{
	return !breaker->notices || !breaker->notice.loop ||
		breaker->notice_count + CYCLE <= EVWORK_BREAKER_NOTICES_MAX;
}

static void push(struct evwork_breaker *breaker, unsigned what)
{
	unsigned at = (breaker->notice_first + breaker->notice_count) % EVWORK_BREAKER_NOTICES_MAX;

	/* Once the loop has gone there is nobody to tell. */
	if (!breaker->notices || !breaker->notice.loop)
		return;
	if (breaker->notice_count == EVWORK_BREAKER_NOTICES_MAX) {
		breaker_broken_locked(breaker, "breaker: no room for what must be announced");
		return;
	}
	breaker->notices[at] = (uint8_t)what;
	breaker->notice_count++;
	notice_raise_locked(&breaker->notice);
}

void breaker_notice_state_locked(struct evwork_breaker *breaker, enum evwork_breaker_state to)
{
	push(breaker, (unsigned)to);
}

void breaker_notice_exceeded_locked(struct evwork_breaker *breaker, enum evwork_breaker_rate rate)
{
	push(breaker, NOTICE_EXCEEDED + (unsigned)rate);
}
