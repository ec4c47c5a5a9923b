/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/sys.h"
#include "evwork/clock.h"

/*
 * Who lives by a manual clock. A user tells the clock when its next thing is
 * due, and the clock pokes it when that time has come. The clock does not move
 * past the due time of a user with `stops` set until that user has named a
 * later one, which it does after its callbacks have run.
 */
struct clock_user {
	/* Called under the clock's lock; must not call back into the clock. */
	void (*poke)(struct clock_user *user);
	bool stops;
	int64_t due_ns;                       /* covered by the clock's lock */
	struct clock_user *next, *prev;
};

static inline int64_t clock_now(struct evwork_clock *clock)
{
	return clock ? evwork_clock_now(clock) : sys_now();
}

/* Whether it was made before this process was forked. */
bool clock_inherited(const struct evwork_clock *clock);

/* These do nothing for the system's clock, which is NULL. */
void clock_join(struct evwork_clock *clock, struct clock_user *user);
void clock_leave(struct evwork_clock *clock, struct clock_user *user);
void clock_due(struct evwork_clock *clock, struct clock_user *user, int64_t due_ns);
/* The user has still to do with what was due until now: the clock stops here. */
void clock_wait(struct evwork_clock *clock, struct clock_user *user);

#endif
