/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUARD_NOTICE_H
#define GUARD_NOTICE_H

#include "base/sys.h"
#include "run/timer.h"
#include "evwork/ctx.h"

/*
 * How an object that any thread may change is heard of on its loop, and woken there when
 * time has come, without memory and without a turn of its own: a watch that is fired, and
 * an alarm. All in here is covered by the lock of the owner, which is taken before those
 * of loops and contexts.
 */
struct notice {
	sys_mutex *mutex;             /* the owner's */
	/* On the loop, with no lock held, in a turn after notice_raise_locked. `last`: the
	 * loop goes, so nothing can be told any more after this call. The owner may free
	 * itself in it by notice_end. */
	void (*tell)(struct notice *notice, bool last);
	/* On the loop, with no lock held: the alarm's time may have come. */
	void (*ring)(struct notice *notice);
	/* On the loop, with no lock held: it is being freed by force. May be NULL. */
	void (*lost)(struct notice *notice);
	void (*destroy)(struct notice *notice);   /* frees the owner */

	struct evwork_loop *loop;     /* NULL: none, or it has gone */
	struct evwork_watch watch;
	struct evwork_timer alarm;
	bool calling;                 /* inside tell or ring, or entered */
	bool ended;                   /* notice_end was called inside */
};

/* Binds to a loop: -ESHUTDOWN if that is closing. tell, destroy and mutex are set, ring if
 * there are alarms. */
int notice_begin(struct notice *notice, struct evwork_loop *loop);

/* [any, under the lock] Has tell called; if it was not yet since the last time, once. */
void notice_raise_locked(struct notice *notice);

/* [any, under the lock] Has ring called, at the latest in a turn after due_ns. It may be
 * called before. */
void notice_alarm_locked(struct notice *notice, int64_t due_ns);

/* [any] Whether notice_end would be let through here. */
bool notice_may_end(struct notice *notice);

/* [loop] Around what else of the user's the owner calls: it is not freed before the second,
 * which is given what the first has returned, and what fork_here() was then. */
bool notice_enter(struct notice *notice);
void notice_leave(struct notice *notice, bool entered, unsigned made_in);

/* Frees the owner, or has it freed when the callback that this comes from returns. -EPERM
 * on another thread than that of the loop. */
int notice_end(struct notice *notice);

#endif
