/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The mailbox is one atomic word: a stack of mail that the loop takes whole and
 * turns round, or the mark ASLEEP, which says that the stack is empty and that
 * the loop will look again only when it is notified.
 *
 *	post    CAS head -> mail (release); whoever replaces ASLEEP or HELD notifies
 *	take    exchange head -> NULL (acquire)
 *	sleep   CAS NULL -> ASLEEP, after the descriptor was read empty
 *	nap     CAS mail, PATIENT -> mail, HELD, after a timerfd was armed
 *
 * Mark and mail are in one word, so no wake-up can be lost: either the post
 * comes before the CAS of sleep, which then fails, or it finds ASLEEP. Of many
 * posts to a sleeping loop exactly one notifies, and nobody notifies a loop that
 * is awake. The descriptor carries no data; the release and acquire on
 * head publish the mail.
 *
 * Lifetime. A poster that has notified may be the last to touch a mailbox whose
 * loop has long taken the mail and been freed. So it enters `writers` before it
 * replaces ASLEEP (until then its own mail keeps the loop alive), and
 * mailbox_close waits until nobody is inside.
 *
 * Holding. While a worker has more to do, waking the loop for each finished job
 * takes a CPU from the work. Then the poster that ends the sleep does not write the
 * descriptor but arms a timerfd, which bounds the delay whatever happens to the
 * poster, marks the head HELD, and remembers that it owes a wake-up. Whoever takes
 * the mark away has settled the debt: the loop by taking the mail, the owner or
 * any poster that is in a hurry by notifying. The owner holds a reference, as it
 * may come back after the loop is gone.
 *
 * Napping. A loop that is awake would find each of such jobs by itself and come back
 * for one or two at a time, which takes even more. So mail that can wait is PATIENT
 * as long as no other lies in the same stack, and a loop that finds nothing but
 * patient mail holds itself: it arms the timerfd and leaves HELD for who is in a hurry.
 *
 * Who leaves mail under either mark owes: it must take the mark away when it has
 * nothing more to do, or the mail would wait for the timer although nothing comes.
 *
 * Orphans. A loop that is freed by force leaves the mark ORPHAN for good. Whoever finds it
 * keeps his mail and disposes of it himself.
 */

#include "run/mailbox.h"

struct mailbox {
	/* Posters and loop: the only word of the road that all of them write. */
	_Atomic(uintptr_t) head;    /* a struct evwork_mail, or a mark */
	atomic_uint writers;    /* threads that may be about to use the descriptors */
	atomic_uint refs;       /* the loop, and each thread that owes a wake-up */
	int read_fd, write_fd;  /* the same for an eventfd */
	int hold_fd;
	size_t token_size;
	/* How long patient mail can wait, as its last poster sees it, and the shortest
	 * hold of all who have ever posted: nobody's mail waits longer. */
	_Atomic int64_t patience, least_hold;
};

/* Mail is aligned to 4 at least, so two bits are free. ASLEEP stands alone, the others
 * go with mail. */
#define HELD ((uintptr_t)1)
#define ASLEEP ((uintptr_t)2)
#define PATIENT ((uintptr_t)3)
#define MARKS ((uintptr_t)3)
/* PATIENT without mail, which is never there otherwise. */
#define ORPHAN PATIENT
_Static_assert(_Alignof(struct evwork_mail) > MARKS, "the marks need the low bits of mail");

static uintptr_t mark_of(uintptr_t head) { return head & MARKS; }

static struct evwork_mail *mail_of(uintptr_t head)
{
	return (struct evwork_mail *)(head & ~MARKS);
}

/* How mail is put on the stack: the loop is to be woken at once; or is to come back at
 * once if it is awake; or need not even do that. */
enum hurry { AT_ONCE, IF_AWAKE, CAN_WAIT };

static int open_descriptors(struct mailbox *box, enum evwork_notify notify)
{
	int fds[2];
	int rc = -ENOSYS;

	if (notify != EVWORK_NOTIFY_PIPE)
		rc = sys_eventfd(&fds[0]);
	if (rc == 0) {
		fds[1] = fds[0];
		box->token_size = sizeof(uint64_t);
	} else if (rc == -ENOSYS && notify != EVWORK_NOTIFY_EVENTFD) {
		rc = sys_pipe(fds);
		box->token_size = 1;
	}
	if (rc)
		return rc == -ENOSYS ? -EINVAL : rc;
	box->read_fd = fds[0];
	box->write_fd = fds[1];
	rc = sys_timerfd(&box->hold_fd);
	if (rc == -ENOSYS)
		box->hold_fd = -1;
	else if (rc) {
		sys_close(box->read_fd);
		if (box->write_fd != box->read_fd)
			sys_close(box->write_fd);
		return rc;
	}
	return 0;
}

int mailbox_new(enum evwork_notify notify, struct mailbox **ret_box)
{
	struct mailbox *box = sys_zalloc(sizeof(*box));
	int rc;

	if (!box)
		return -ENOMEM;
	rc = open_descriptors(box, notify);
	if (rc) {
		sys_free(box);
		return rc;
	}
	atomic_init(&box->head, ASLEEP);
	atomic_init(&box->refs, 1);
	atomic_init(&box->least_hold, INT64_MAX);
	*ret_box = box;
	return 0;
}

static void unref(struct mailbox *box)
{
	/* Release what this thread did with the box, acquire what the others did,
	 * before it is freed. */
	if (atomic_fetch_sub_explicit(&box->refs, 1, memory_order_acq_rel) == 1)
		sys_free(box);
}

static void close_descriptors(struct mailbox *box)
{
	sys_close(box->read_fd);
	if (box->write_fd != box->read_fd)
		sys_close(box->write_fd);
	sys_close(box->hold_fd);
}

void mailbox_abandon(struct mailbox *box)
{
	close_descriptors(box);
	sys_free(box);
}

/* Nobody uses the descriptors any more, nor will. */
static void await_writers(const struct mailbox *box)
{
	/* Acquire: pairs with the release in leave, so the descriptors are closed
	 * after their last use. The wait is for a thread inside a system call; one
	 * that enters from now on finds no mark and does not use them. */
	while (atomic_load_explicit(&box->writers, memory_order_acquire) != 0)
		sys_yield();
}

void mailbox_close(struct mailbox *box)
{
	await_writers(box);
	close_descriptors(box);
	unref(box);
}

void mailbox_release(struct mailbox *box)
{
	unref(box);
}

int mailbox_fd(const struct mailbox *box)
{
	return box->read_fd;
}

int mailbox_hold_fd(const struct mailbox *box)
{
	return box->hold_fd;
}

/* What the mark of the stack becomes when mail of this kind is put on it. */
static uintptr_t mark_after(uintptr_t old, enum hurry hurry)
{
	if (hurry == AT_ONCE)
		return 0;
	if (old == ASLEEP || mark_of(old) == HELD)
		return HELD;
	return hurry == CAN_WAIT && (old == 0 || mark_of(old) == PATIENT) ? PATIENT : 0;
}

static void leave(struct mailbox *box)
{
	/* Release: the use of the descriptors comes before their closing. */
	atomic_fetch_sub_explicit(&box->writers, 1, memory_order_release);
}

struct push {
	enum hurry hurry;
	bool owes;        /* the poster has a reference: before, and so after */
	bool writer;      /* it must see to the waking of the loop, and then leave */
	bool marked;      /* the mail lies under a mark */
};

/* Before the mail can be seen, and so while it keeps the loop: the release of the CAS
 * carries these counts to who takes the mail. */
static void prepare_push(struct mailbox *box, struct push *push, bool wakes, bool marks)
{
	if (wakes && !push->writer) {
		atomic_fetch_add_explicit(&box->writers, 1, memory_order_relaxed);
		push->writer = true;
	}
	if (marks && !push->owes) {
		atomic_fetch_add_explicit(&box->refs, 1, memory_order_relaxed);
		push->owes = true;
	}
}

/* There is no loop any more: the mail is disposed of here. The box may be gone then, unless
 * the poster has a reference. */
static void lose(struct mailbox *box, struct evwork_mail *mail, struct push *push)
{
	/* Acquire: pairs with the release of mailbox_orphan. */
	atomic_load_explicit(&box->head, memory_order_acquire);
	if (push->writer)
		leave(box);
	push->writer = false;
	mail_lost(mail);
}

/* Puts mail on the stack. */
static void push(struct mailbox *box, struct evwork_mail *mail, struct push *push)
{
	uintptr_t old = atomic_load_explicit(&box->head, memory_order_relaxed), mark;
	bool wakes;

	do {
		if (old == ORPHAN) {
			lose(box, mail, push);
			return;
		}
		mark = mark_after(old, push->hurry);
		wakes = old == ASLEEP || (push->hurry == AT_ONCE && mark_of(old) == HELD);
		prepare_push(box, push, wakes, mark != 0);
		mail->_next = mail_of(old);
		/* Release: pairs with the acquire of mailbox_take. */
	} while (!atomic_compare_exchange_weak_explicit(&box->head, &old,
			(uintptr_t)mail | mark, memory_order_release, memory_order_relaxed));
	push->marked = mark != 0;
	if (push->writer && !wakes) {
		leave(box);
		push->writer = false;
	}
}

void mailbox_post(struct mailbox *box, struct evwork_mail *mail)
{
	struct push how = { .hurry = AT_ONCE };

	push(box, mail, &how);
	if (how.writer) {
		sys_token_write(box->write_fd, box->token_size);
		leave(box);
	}
}

/* The time that all who post here grant. */
static int64_t agree_on_hold(struct mailbox *box, int64_t hold_ns, int64_t most_ns)
{
	int64_t least = atomic_load_explicit(&box->least_hold, memory_order_relaxed);

	/* Relaxed: it only becomes less, and what is read late is longer by what it
	 * always was. */
	while (most_ns < least && !atomic_compare_exchange_weak_explicit(&box->least_hold, &least,
			most_ns, memory_order_relaxed, memory_order_relaxed))
		;
	if (most_ns < least)
		least = most_ns;
	return hold_ns < least ? hold_ns : least;
}

bool mailbox_post_held(struct mailbox *box, struct evwork_mail *mail, struct hold hold)
{
	struct push how = { .hurry = hold.patient ? CAN_WAIT : IF_AWAKE, .owes = hold.owes };
	int64_t hold_ns;

	if (box->hold_fd < 0) {
		mailbox_post(box, mail);
		return hold.owes;
	}
	hold_ns = agree_on_hold(box, hold.ns, hold.most_ns);
	/* Relaxed: the release of the push publishes it. */
	if (hold.patient)
		atomic_store_explicit(&box->patience, hold_ns, memory_order_relaxed);
	push(box, mail, &how);
	if (how.writer) {
		sys_timerfd_arm(box->hold_fd, hold_ns);
		leave(box);
	}
	if (how.owes && !how.marked && !hold.owes) {
		unref(box);
		return false;
	}
	return how.owes;
}

void mailbox_settle(struct mailbox *box)
{
	uintptr_t head, mark;

	/* Among the writers before it looks for the mark. With the mark there is mail
	 * that the loop has not taken, so it cannot close before it has taken it, and
	 * then (acquire of the take, release of the CAS) sees this writer. */
	atomic_fetch_add_explicit(&box->writers, 1, memory_order_relaxed);
	head = atomic_load_explicit(&box->head, memory_order_relaxed);
	while (head != ORPHAN && ((mark = mark_of(head)) == HELD || mark == PATIENT)) {
		if (atomic_compare_exchange_weak_explicit(&box->head, &head, head & ~MARKS,
				memory_order_release, memory_order_relaxed)) {
			/* Over patient mail the loop is awake, and comes for it now. */
			if (mark == HELD)
				sys_token_write(box->write_fd, box->token_size);
			break;
		}
	}
	leave(box);
	unref(box);
}

/* Takes all there is, and leaves a mark. */
static struct evwork_mail *take(struct mailbox *box, uintptr_t mark)
{
	/* Acquire: pairs with the release of push. Release: for who finds the mark. */
	struct evwork_mail *mail = mail_of(atomic_exchange_explicit(&box->head, mark,
			memory_order_acq_rel));
	struct evwork_mail *first = NULL;

	while (mail) {
		struct evwork_mail *next = mail->_next;

		mail->_next = first;
		first = mail;
		mail = next;
	}
	return first;
}

struct evwork_mail *mailbox_take(struct mailbox *box)
{
	return take(box, 0);
}

struct evwork_mail *mailbox_orphan(struct mailbox *box)
{
	struct evwork_mail *mail = take(box, ORPHAN);

	await_writers(box);
	close_descriptors(box);
	return mail;
}

bool mailbox_empty(const struct mailbox *box)
{
	return mail_of(atomic_load_explicit(&box->head, memory_order_relaxed)) == NULL;
}

bool mailbox_calm(const struct mailbox *box)
{
	uintptr_t head = atomic_load_explicit(&box->head, memory_order_relaxed);

	return !mail_of(head) || mark_of(head) == PATIENT;
}

bool mailbox_empty_but(const struct mailbox *box, const struct evwork_mail *mail)
{
	/* Acquire: what is there was linked before it was posted. */
	struct evwork_mail *first = mail_of(atomic_load_explicit(&box->head,
			memory_order_acquire));

	return !first || (first == mail && !mail->_next);
}

bool mailbox_sleep(struct mailbox *box)
{
	uintptr_t expected = 0;

	/* Release: what the loop did comes before what its waker sees. */
	return atomic_compare_exchange_strong_explicit(&box->head, &expected, ASLEEP,
			memory_order_release, memory_order_relaxed) || expected == ASLEEP;
}

bool mailbox_nap(struct mailbox *box)
{
	/* Acquire: pairs with the release of push, for how long the mail can wait. */
	uintptr_t head = atomic_load_explicit(&box->head, memory_order_acquire);

	if (mark_of(head) != PATIENT)
		return false;
	sys_timerfd_arm(box->hold_fd, atomic_load_explicit(&box->patience,
		memory_order_relaxed));
	do {
		if (mark_of(head) != PATIENT)
			return false;
		/* Release: passes on what was released with the mail, to its taking. */
	} while (!atomic_compare_exchange_weak_explicit(&box->head, &head,
			(head & ~MARKS) | HELD, memory_order_release, memory_order_relaxed));
	return true;
}

void mailbox_remind(struct mailbox *box)
{
	sys_token_write(box->write_fd, box->token_size);
}

void mailbox_clear(struct mailbox *box)
{
	sys_token_drain(box->read_fd, box->token_size);
}

void mailbox_clear_hold(struct mailbox *box)
{
	sys_token_drain(box->hold_fd, sizeof(uint64_t));
}
