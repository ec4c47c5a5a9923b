/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * A turn: what happens when libevent calls the loop. It delivers from the inbox,
 * then calls watches, then timers, until nothing is left or the budget of
 * callbacks and time is used up.
 *
 * If something is left the notification descriptor stays readable, so that the
 * next turn comes without waiting, after libevent has polled all other
 * descriptors and timers (an event that activates itself would run again before
 * they do). If nothing is left the loop reads the descriptor empty and then
 * declares itself asleep; if mail came in between it makes the descriptor
 * readable itself.
 *
 * The inbox is taken only at the start of a turn, so what a callback posts waits
 * for a later one (S-DLV-6).
 */

#include "run/loop.h"

#include <event2/event.h>

#include "run/ctx.h"
#include "run/job.h"
#include "run/turn.h"

/* How often a loop that spins looks for mail before it lets libevent look for the rest:
 * about a microsecond. */
#define SPIN_LOOKS 40

static void deliver_job(struct evwork_loop *loop, struct evwork_job *job)
{
	uint32_t state = job_state(job);

	/* Its owner may have made it anew too early, or posted it some other way. */
	if (!base_holds(job_phase_of(state) == JOB_ENDED || job_phase_of(state) == JOB_ABANDONED,
	    "a job whose done was to come is none that has ended: was it changed or freed?"))
		return;
	if (__builtin_expect(loop->stall != NULL, 0)) {
		/* The lane of an abandoned job may be gone after its done. */
		bool told = (state & JOB_TOLD) != 0;

		stall_loop_begin(loop->stall, told ? "the drop of a job" : "the done of a job",
			told ? NULL : job->_lane->name);
	}
	job_deliver(loop, job, state);
	loop_end_call(loop);
}

/* Returns how many callbacks of the user that was. */
static uint64_t deliver(struct evwork_loop *loop, struct evwork_mail *mail)
{
	struct letter *letter;
	bool kick = mail == &loop->kick.mail;

	if (mail->_kind == MAIL_JOB) {
		deliver_job(loop, EVWORK_CONTAINER(mail, struct evwork_job, _mail));
		return 1;
	}
	letter = EVWORK_CONTAINER(mail, struct letter, mail);
	if (kick) {
		letter->open(letter);
		return 0;
	}
	loop_begin_call(loop, letter->what);
	letter->open(letter);
	loop_end_call(loop);
	return 1;
}

static uint64_t deliver_inbox(struct evwork_loop *loop, struct budget *budget)
{
	uint64_t delivered = 0;

	while (loop->inbox && !loop->over && budget_take(loop, budget)) {
		struct evwork_mail *mail = loop->inbox;

		loop->inbox = mail->_next;
		/* The next mail was last written by another CPU. */
		if (loop->inbox)
			__builtin_prefetch(loop->inbox, 1);
		delivered += deliver(loop, mail);
	}
	return delivered;
}

/* What has fired until now is called in this turn, what fires in it later. */
static void begin_turn(struct evwork_loop *loop)
{
	struct evwork_watch *watch;

	sys_lock(&loop->mutex);
	loop->turn_order = loop->timer_order;
	while ((watch = loop->fired.head)) {
		LIST_REMOVE(&loop->fired, watch, _loop_next, _loop_prev);
		LIST_APPEND(&loop->calling, watch, _loop_next, _loop_prev);
		watch->_state = WATCH_CALLING;
	}
	loop->close_asked = atomic_load_explicit(&loop->closing, memory_order_relaxed);
	sys_unlock(&loop->mutex);
}

/* Closing, last step. */
static void finish_close(struct evwork_loop *loop)
{
	bool quiet = loop->inbox == NULL &&
		atomic_load_explicit(&loop->own, memory_order_relaxed) == 0 &&
		atomic_load(&loop->foreign) == 0;

	if (!quiet)
		return;
	sys_lock(&loop->mutex);
	quiet = !loop->fired.head && !loop->calling.head && !loop->watches.head && !loop->timer_count &&
		!loop->closed_called;
	if (quiet)
		loop->closed_called = true;
	sys_unlock(&loop->mutex);
	if (quiet && loop->closed_fn) {
		loop_begin_call(loop, "the closed callback");
		loop->closed_fn(loop, loop->closed_arg);
		loop_end_call(loop);
	}
}

void turn_on_kick(struct letter *letter)
{
	struct evwork_loop *loop = EVWORK_CONTAINER(letter, struct evwork_loop, kick);

	/* Acquire: what was written before the kick is seen in the rest of this
	 * turn; a kick from now on comes again. */
	atomic_exchange_explicit(&loop->kicked, false, memory_order_acq_rel);
	loop->timers_due = true;
}

/* Whether the loop keeps looking for mail although there is none. */
static bool spinning(struct evwork_loop *loop, bool delivered)
{
	int64_t now;

	if (loop->spin_ns == 0 || (atomic_load_explicit(&loop->own, memory_order_relaxed) == 0 &&
	    atomic_load_explicit(&loop->foreign, memory_order_relaxed) == 0))
		return false;
	now = sys_now();
	if (delivered)
		loop->spin_until = sys_time_add(now, loop->spin_ns);
	return now < loop->spin_until;
}

static bool work_left(struct evwork_loop *loop)
{
	bool fired;

	/* A close that came after the turn had begun may have found its kick under way:
	 * the turn has taken the kick, the next one begins the close. */
	if (loop->inbox || loop->timers_due ||
	    (!loop->close_begun && atomic_load(&loop->closing)))
		return true;
	sys_lock(&loop->mutex);
	fired = loop->fired.head || loop->calling.head;
	sys_unlock(&loop->mutex);
	return fired;
}

static void end_turn(struct evwork_loop *loop, bool delivered)
{
	bool more;

	/* Lets a manual clock go on, which may bring more. */
	if (loop->clock)
		loop_arm_tick(loop);
	more = work_left(loop) || spinning(loop, delivered) || !mailbox_calm(loop->box);

	if (!more) {
		if (loop->token) {
			mailbox_clear(loop->box);
			loop->token = false;
		}
		/* While a loop naps a manual clock could not go on. */
		more = !mailbox_sleep(loop->box) && (loop->clock || !mailbox_nap(loop->box));
	}
	if (more && !loop->token) {
		mailbox_remind(loop->box);
		loop->token = true;
	}
	loop_update_alive(loop);
}

/* Delivers what there is at its beginning; returns how many callbacks that was. Mail comes
 * first, but if it has left nothing for watches and timers, these do in the next turn. */
static uint64_t take_turn(struct evwork_loop *loop, struct budget *budget)
{
	struct evwork_loop *outer = stage_begin_turn(loop);
	bool waiters_first = loop->waiters_first;
	uint64_t called = 0;

	begin_turn(loop);
	if (!loop->inbox)
		loop->inbox = mailbox_take(loop->box);
	if (waiters_first)
		waiters_call(loop, budget, &called);
	called += deliver_inbox(loop, budget);
	if (!loop->over && loop->close_asked && !loop->close_begun)
		waiters_begin_close(loop);
	if (!loop->over && !waiters_first)
		waiters_call(loop, budget, &called);
	loop->waiters_first = !waiters_first && budget->callbacks == 0;
	if (!loop->over && loop->close_begun && !loop->closed_called)
		finish_close(loop);
	stage_end_turn(loop, outer);
	if (called) {
		count_up(&loop->delivered, called);
		count_up(&loop->turns, 1);
	}
	return called;
}

/* Whether mail comes within a moment, if the loop was told to spin. */
static bool more_comes(struct evwork_loop *loop, bool delivered)
{
	int i;

	if (loop->inbox || event_base_got_break(loop->base) || event_base_got_exit(loop->base) ||
	    !spinning(loop, delivered))
		return false;
	for (i = 0; i < SPIN_LOOKS; i++) {
		if (!mailbox_empty(loop->box))
			return true;
		sys_relax();
	}
	return false;
}

static void turn(struct evwork_loop *loop)
{
	struct budget budget;
	bool called, any = false;

	loop->running = true;
	loop->budget = &budget;
	budget_start(loop, &budget);
	/* One turn for each time that libevent calls; but a loop that spins would lose
	 * more by going through libevent than work takes, and stays for several, which
	 * share the bounds of one. */
	do {
		called = take_turn(loop, &budget) != 0;
		any = any || called;
	} while (!loop->over && budget.callbacks > 0 && more_comes(loop, called));
	if (loop->dead) {
		loop_destroy(loop);
		return;
	}
	if (loop->over) {
		loop->running = false;
		if (loop->orphaned)
			loop_orphan_leave(loop);
		return;
	}
	/* For EVLOOP_ONCE, which does not count the loop's own events. */
	if (any)
		event_active(&loop->progress_event, EV_TIMEOUT, 0);
	loop->running = false;
	end_turn(loop, any);
}

/*
 * The base of the loop runs in the child of a fork. What the descriptors say is meant
 * for the parent, which reads them.
 */
static bool leave_to_parent(struct evwork_loop *loop)
{
	if (!loop->inherited)
		return false;
	loop_leave_base(loop);
	return true;
}

/*
 * Libevent may find several reasons to call the loop in one pass, but one pass is one
 * turn, unless the loop spins: what a callback starts comes in a later pass, and a
 * pass delivers no more than one batch. So a turn takes over a tick that is about to
 * come in the same pass (setting a timer again takes it back), and the end of a hold
 * only makes the next pass a turn.
 */
void turn_on_notify(evutil_socket_t fd, short what, void *arg)
{
	struct evwork_loop *loop = arg;

	(void)fd;
	(void)what;
	if (leave_to_parent(loop))
		return;
	loop->token = true;
	count_up(&loop->wakeups, 1);
	if (loop->tick_event.ev_evcallback.evcb_flags & EVLIST_ACTIVE)
		loop_reset_tick(loop);
	turn(loop);
}

void turn_on_hold(evutil_socket_t fd, short what, void *arg)
{
	struct evwork_loop *loop = arg;

	(void)fd;
	(void)what;
	if (leave_to_parent(loop))
		return;
	mailbox_clear_hold(loop->box);
	if (!loop->token && !mailbox_empty(loop->box)) {
		mailbox_remind(loop->box);
		loop->token = true;
	}
}

void turn_on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct evwork_loop *loop = arg;

	(void)fd;
	(void)what;
	if (leave_to_parent(loop))
		return;
	loop_reset_tick(loop);
	turn(loop);
}
