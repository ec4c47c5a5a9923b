/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef RUN_MAILBOX_H
#define RUN_MAILBOX_H

/*
 * The mailbox of a loop: what other threads may touch of it. Any thread posts,
 * the loop takes all there is at once. See mailbox.c for the protocol.
 */

#include "base/sys.h"
#include "evwork/job.h"
#include "evwork/loop.h"

struct mailbox;

/* What is in a mailbox: jobs, whose mail is embedded in the job, and letters. */
enum mail_kind { MAIL_JOB, MAIL_LETTER };

struct letter {
	struct evwork_mail mail;
	/* What user code its opening calls, in words; NULL: none. */
	const char *what;
	/* On the loop's thread. The letter is no longer used once this starts. */
	void (*open)(struct letter *letter);
	/* Instead of that, when the loop was freed by force: on any thread, under whatever
	 * lock it was posted, so it takes none. */
	void (*lose)(struct letter *letter);
};

static inline void letter_init(struct letter *letter, const char *what,
	void (*open)(struct letter *letter), void (*lose)(struct letter *letter))
{
	letter->mail._next = NULL;
	letter->mail._kind = MAIL_LETTER;
	letter->mail._status = 0;
	letter->what = what;
	letter->open = open;
	letter->lose = lose;
}

int mailbox_new(enum evwork_notify notify, struct mailbox **ret_box);
/* [loop] Waits for threads that are just leaving a notification, closes the
 * descriptors and gives up the loop's reference. Nothing may be posted any more. */
void mailbox_close(struct mailbox *box);

/*
 * [loop] The loop is freed by force. Closes the descriptors like mailbox_close, and returns
 * what is in the box; what is posted from now on goes to mail_lost at once. The box must
 * stay until all that is to be posted was, and is given up with mailbox_release.
 */
struct evwork_mail *mailbox_orphan(struct mailbox *box);
void mailbox_release(struct mailbox *box);
/* [any] What to do with mail that nobody takes; see force.c. */
void mail_lost(struct evwork_mail *mail);

/* In the child of a fork, whose descriptors are shared with the parent: closes them and
 * frees the box, and waits for no one, as no other thread is there. */
void mailbox_abandon(struct mailbox *box);

/* The descriptors for the loop to watch; the second is -1 where the system has
 * no timerfd. */
int mailbox_fd(const struct mailbox *box);
int mailbox_hold_fd(const struct mailbox *box);

/* [any] Posts, and wakes the loop if it sleeps. The mailbox must not be closed
 * before what is posted here was taken. */
void mailbox_post(struct mailbox *box, struct evwork_mail *mail);

/* How mail may be held. */
struct hold {
	int64_t ns;         /* how long, */
	int64_t most_ns;    /* and how long the poster ever holds mail */
	bool patient;       /* even a loop that is awake need not come for it */
	bool owes;          /* the poster owes this box a settle already */
};

/*
 * [any] Posts; if the loop sleeps its wake-up is put off for at most hold.ns, and if
 * the mail is patient a loop that is awake may go to sleep for as long, see mailbox_nap.
 * True if the poster owes a settle after that: it must call mailbox_settle once,
 * soon, and at the latest when it has nothing more to do. The box stays valid until
 * then.
 */
bool mailbox_post_held(struct mailbox *box, struct evwork_mail *mail, struct hold hold);
/* Nothing is held any more: wakes the loop now, unless it has woken meanwhile. */
void mailbox_settle(struct mailbox *box);

/* [loop] Everything posted so far, oldest first. */
struct evwork_mail *mailbox_take(struct mailbox *box);
bool mailbox_empty(const struct mailbox *box);
/* [loop] Whether there is nothing that cannot wait. */
bool mailbox_calm(const struct mailbox *box);
/* [loop] Whether it holds nothing but this, or nothing. */
bool mailbox_empty_but(const struct mailbox *box, const struct evwork_mail *mail);

/* [loop] Declares the loop asleep: from now on a post wakes it. False if mail
 * has come; the loop is awake then and must take another turn. */
bool mailbox_sleep(struct mailbox *box);

/* [loop] Declares the loop asleep although there is mail, if all of that is patient:
 * from now on other mail wakes it, and at the latest mailbox_hold_fd does. False if it
 * must take another turn. */
bool mailbox_nap(struct mailbox *box);

/* [loop] Makes the descriptor readable, and clears it. */
void mailbox_remind(struct mailbox *box);
void mailbox_clear(struct mailbox *box);
void mailbox_clear_hold(struct mailbox *box);

#endif
