/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * A loop in the child of a fork (S-SHUT-12). Its lock may be held by a thread that is not
 * there, its descriptors are those of the parent, who must not lose a wake-up, and so
 * is what the base polls with: taking an event out of that would take it from the parent.
 * So before that the base gets one of its own, as libevent demands for any use of it.
 */

#include "run/loop.h"

#include <event2/event.h>

/* Posts are the library's memory. All other mail is not, and may be gone when the child
 * frees the loop. */
static void keep_posts(struct evwork_loop *loop, struct evwork_mail *mail)
{
	while (mail) {
		struct evwork_mail *next = mail->_next;

		if (post_is(mail)) {
			mail->_next = loop->orphans;
			loop->orphans = mail;
		}
		mail = next;
	}
}

void loop_forked(struct fork_entry *entry)
{
	struct evwork_loop *loop = EVWORK_CONTAINER(entry, struct evwork_loop, fork_entry);

	loop->inherited = loop->over = true;
	/* Relaxed: there is one thread. */
	atomic_store_explicit(&loop->closing, true, memory_order_relaxed);
	keep_posts(loop, loop->inbox);
	keep_posts(loop, mailbox_take(loop->box));
	loop->inbox = NULL;
	stage_forget(loop);
	/* The thread of its turn is not there. */
	if (!loop_is_here(loop))
		loop->running = false;
}

int loop_leave_base(struct evwork_loop *loop)
{
	if (loop_base_is_gone(loop))
		return 0;
	if (event_reinit(loop->base) != 0)
		return -EAGAIN;
	loop_remove_events(loop);
	return 0;
}

int loop_free_inherited(struct evwork_loop *loop)
{
	int rc;

	if (loop->dead)
		return -EBUSY;
	rc = loop_leave_base(loop);
	if (rc)
		return rc;
	fork_leave(&loop->fork_entry);
	stall_loop_forget(loop);
	while (loop->orphans) {
		struct evwork_mail *mail = loop->orphans;

		loop->orphans = mail->_next;
		post_free(mail);
	}
	mailbox_abandon(loop->box);
	if (loop->running)
		loop->dead = true;
	else
		loop_destroy(loop);
	return 0;
}
