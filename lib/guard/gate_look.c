/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * What a gate watches, and when it looks.
 *
 * Open, it looks when inlets ask: each look gives credit for as many requests as fit below
 * the high mark, if each becomes one job, so that the lock of the pool is not taken for
 * each of them. Shut, somebody tells it to look again: of the queue the workers do, by
 * a hook of the pool and a letter; age and limiter are a matter of time, and so of an alarm.
 *
 * Jobs have no room to remember when they were submitted, but they are numbered. So the
 * gate notes now and then which number comes next: a job with a lower number was submitted
 * before that, and the oldest such note tells how long ago at least.
 */

#include <errno.h>

#include "guard/gate.h"

/* The most that pass between two looks: what other loops submit meanwhile is not seen. */
#define CREDIT_MAX 32
/* For as long a look is good. */
#define FRESH_NS SYS_NS_PER_MS
/* A limiter is looked at so often, as its rate may be changed. */
#define LIMITER_POLL_NS (100 * SYS_NS_PER_MS)

bool gate_look_is_stale(const struct evwork_gate *gate)
{
	return gate->credit == 0 ||
		evwork_loop_now(gate->loop) >= sys_time_add(gate->looked_ns, FRESH_NS);
}

/* Age. */

static const struct gate_mark *mark_at(const struct evwork_gate *gate, unsigned i)
{
	return &gate->marks[(gate->mark_first + i) % GATE_MARKS];
}

static void forget_first(struct evwork_gate *gate)
{
	gate->mark_first = (gate->mark_first + 1) % GATE_MARKS;
	gate->mark_count--;
}

/* Those from before the oldest job was submitted tell nothing. */
static void forget_useless(struct evwork_gate *gate, const struct lane_look *look)
{
	while (gate->mark_count &&
	       (!look->any || (int32_t)(mark_at(gate, 0)->number - look->first) <= 0))
		forget_first(gate);
}

static void mark(struct evwork_gate *gate, uint32_t next, int64_t now)
{
	const int64_t apart = gate->age_high_ns / (GATE_MARKS / 2);

	if (gate->mark_count && now - mark_at(gate, gate->mark_count - 1)->at_ns < apart)
		return;
	/* What is left goes back by more than the high mark. */
	if (gate->mark_count == GATE_MARKS)
		forget_first(gate);
	gate->marks[(gate->mark_first + gate->mark_count++) % GATE_MARKS] =
		(struct gate_mark){ now, next };
}

/* How long ago, at least, the oldest job was submitted. */
static int64_t age(struct evwork_gate *gate, const struct lane_look *look, int64_t now)
{
	int64_t oldest;

	forget_useless(gate, look);
	oldest = gate->mark_count ? now - mark_at(gate, 0)->at_ns : 0;
	if (look->any)
		mark(gate, look->next, now);
	return oldest;
}

/* Causes. */

/* Adds the cause if its value is at the high mark, or was and is not yet down at the low. */
static unsigned judge(const struct evwork_gate *gate, enum gate_cause cause, bool high, bool low)
{
	return ((gate->causes & cause) ? !low : high) ? cause : 0;
}

static unsigned look_at_lane(struct evwork_gate *gate, int64_t now)
{
	struct lane_look look;
	unsigned causes = 0;

	if (!gate->lane)
		return 0;
	/* What this loop has submitted in this turn may not be queued yet. Here it is, for
	 * the gates of other loops to see, too: they miss no more than the credit. */
	stage_flush_here();
	if (!pool_look(gate->lane, &look))
		return 0;
	if (gate->queue_high) {
		causes |= judge(gate, CAUSE_QUEUE, look.waiting >= gate->queue_high,
			look.waiting <= gate->queue_low);
		if (look.waiting < gate->queue_high && gate->queue_high - look.waiting < CREDIT_MAX)
			gate->credit = gate->queue_high - look.waiting;
	}
	if (gate->age_high_ns) {
		int64_t oldest = age(gate, &look, now);

		causes |= judge(gate, CAUSE_AGE, oldest >= gate->age_high_ns,
			oldest <= gate->age_low_ns);
	}
	return causes;
}

/* *ret_ns: how long it will take, if the limiter is a cause. */
static unsigned look_at_limiter(struct evwork_gate *gate, int64_t *ret_ns)
{
	int64_t wanted = gate->causes & CAUSE_LIMITER ? gate->tokens_open : gate->tokens;
	int64_t wait;
	int rc;

	if (!gate->limiter)
		return 0;
	/* What changes with each request is looked at for each. */
	gate->credit = 1;
	rc = evwork_limiter_retry_after(gate->limiter, wanted, &wait);
	/* More than its burst, which was made smaller, will never be there. */
	if (rc == -ERANGE)
		rc = evwork_limiter_retry_after(gate->limiter, gate->tokens, &wait);
	if (rc || wait == 0)
		return 0;
	*ret_ns = wait;
	return CAUSE_LIMITER;
}

static void count_causes(struct evwork_gate *gate, unsigned causes)
{
	int i;

	for (i = 0; i < 3; i++)
		if ((causes & ~gate->causes) & (1u << i))
			count_up(&gate->shuts[i], 1);
	gate->causes = causes;
	atomic_store_explicit(&gate->shut, causes != 0, memory_order_relaxed);
}

/* Looking again. */

static int64_t shorter(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* False if the queue is short already. */
static bool await_queue(struct evwork_gate *gate)
{
	if (gate->awaiting)
		return true;
	/* Without memory to keep the loop for the letter time has to do. */
	if (loop_enter(gate->loop, &gate->own) != 0) {
		gate_set_alarm(gate, sys_time_add(evwork_loop_now(gate->loop), FRESH_NS));
		return true;
	}
	gate->awaiting = gate->hooked = pool_await_queue(gate->lane, gate->queue_low, &gate->hook);
	if (!gate->awaiting)
		loop_leave(gate->loop, gate->own);
	return gate->awaiting;
}

static bool anybody(const struct evwork_gate *gate)
{
	return gate->open.head || gate->paused.head;
}

void gate_await_queue(struct evwork_gate *gate)
{
	/* For nobody the loop is not kept. */
	if (!(gate->causes & CAUSE_QUEUE) || !anybody(gate) || await_queue(gate))
		return;
	count_causes(gate, gate->causes & ~(unsigned)CAUSE_QUEUE);
	/* There is room for one; for how many more the next look tells. */
	gate->credit = 0;
	gate_raise(gate);
}

static void look_again(struct evwork_gate *gate, int64_t now, int64_t limiter_ns)
{
	if (gate->causes & CAUSE_LIMITER)
		gate_set_alarm(gate, sys_time_add(now, shorter(limiter_ns, LIMITER_POLL_NS)));
	if (gate->causes & CAUSE_AGE)
		gate_set_alarm(gate, sys_time_add(now, gate->age_low_ns / 4 + FRESH_NS));
	gate_await_queue(gate);
}

void gate_look(struct evwork_gate *gate)
{
	int64_t now = evwork_loop_now(gate->loop), limiter_ns = 0;
	unsigned causes;

	gate->looked_ns = now;
	gate->credit = CREDIT_MAX;
	causes = look_at_lane(gate, now);
	causes |= look_at_limiter(gate, &limiter_ns);
	count_causes(gate, causes);
	look_again(gate, now, limiter_ns);
	gate_raise(gate);
}

/* [any, under the pool's lock] The loop has counted the letter, so it has a mailbox. */
static void on_room(struct pool_hook *hook)
{
	struct evwork_gate *gate = EVWORK_CONTAINER(hook, struct evwork_gate, hook);

	mailbox_post(gate->loop->box, &gate->letter.mail);
}

/* The letter has come, or is lost. */
static void stop_counting(struct evwork_gate *gate)
{
	gate->awaiting = false;
	loop_leave(gate->loop, gate->own);
	if (gate->doomed)
		gate_destroy(gate);
}

static void on_letter(struct letter *letter)
{
	struct evwork_gate *gate = EVWORK_CONTAINER(letter, struct evwork_gate, letter);
	bool useful = !gate->doomed && !gate->over;

	if (gate->hooked)
		pool_remove_hook(gate->lane->pool, &gate->hook);
	gate->hooked = false;
	stop_counting(gate);
	if (useful)
		gate_look(gate);
}

static void on_letter_lost(struct letter *letter)
{
	stop_counting(EVWORK_CONTAINER(letter, struct evwork_gate, letter));
}

void gate_look_init(struct evwork_gate *gate)
{
	gate->hook.room = on_room;
	letter_init(&gate->letter, NULL, on_letter, on_letter_lost);
}

void gate_stop_awaiting(struct evwork_gate *gate)
{
	bool waited = gate->hooked && pool_remove_hook(gate->lane->pool, &gate->hook);

	gate->hooked = false;
	if (!waited)
		return;
	gate->awaiting = false;
	loop_leave(gate->loop, gate->own);
}

void gate_left(struct evwork_gate *gate)
{
	if (!anybody(gate))
		gate_stop_awaiting(gate);
}
