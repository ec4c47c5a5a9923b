/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Threads that wait for a channel, or for one of several.
 *
 *	AWAKE ──nothing came for a moment──► ASLEEP
 *	  └────────────served──► WOKEN ◄──served, with a token──┘
 *
 * Who claims a wait, and only he, wakes its thread, once: by an exchange of the word, and
 * a token for the parker if the thread sleeps. So a thread that was served must not leave
 * before it has seen WOKEN, and if it slept, before it has the token; one that has
 * claimed itself, as its context has died, expects neither.
 */

#include "flow/chan.h"

#include "run/ctx.h"
#include "run/loop.h"

/* About as long as waking a thread takes the one that does: who is served within this
 * moment spares the other that. */
#define LOOKS 400
#define PAUSES 8

enum { AWAKE, ASLEEP, WOKEN };

struct thread_wait {
	struct evwork_chan_wait wait;
	struct ctx_hook hook;
	atomic_int word;
	struct sys_parker parker;
	bool looked;
};

void chan_wake_thread(struct evwork_chan_wait *wait)
{
	struct thread_wait *self = EVWORK_CONTAINER(wait, struct thread_wait, wait);

	/* Release: the thread sees what it was served with. Acquire: its parker is ready. */
	if (atomic_exchange_explicit(&self->word, WOKEN, memory_order_acq_rel) == ASLEEP)
		sys_unpark(&self->parker);
}

static void on_death(struct ctx_hook *hook, int err)
{
	struct thread_wait *self = EVWORK_CONTAINER(hook, struct thread_wait, hook);

	if (wait_claim(&self->wait)) {
		self->wait.result = err;
		chan_wake_thread(&self->wait);
	}
}

/* Whether it is served while it looks on. On one CPU nobody could. */
static bool served_soon(struct thread_wait *self)
{
	int i, looks = !self->looked && sys_may_spin() ? LOOKS : 0;

	for (i = 0; i < looks; i++) {
		/* Acquire: pairs with chan_wake_thread. */
		if (atomic_load_explicit(&self->word, memory_order_acquire) == WOKEN)
			return true;
		sys_relax();
	}
	return false;
}

/* Until it is claimed by somebody. */
static void sleep_until_served(struct thread_wait *self)
{
	struct evwork_ctx *ctx = self->wait.ctx;
	int64_t until = ctx_wait_limit(ctx);
	int awake = AWAKE;

	if (served_soon(self) || !atomic_compare_exchange_strong_explicit(&self->word, &awake,
			ASLEEP, memory_order_acq_rel, memory_order_acquire))
		return;
	while (sys_park(&self->parker, until) == 0) {
		if (until == EVWORK_NEVER || sys_now() < until)
			continue;
		/* The loop that has the timer of the deadline may be stalled. */
		if (wait_claim(&self->wait)) {
			self->wait.result = evwork_ctx_err(ctx);
			return;
		}
		until = EVWORK_NEVER;
	}
}

/* The cases are enlisted; the result is in the wait after it. */
static void wait_enlisted(struct thread_wait *self)
{
	/* Only now, when the wait can be claimed: no death is missed. */
	int err = ctx_add_hook(self->wait.ctx, &self->hook);

	if (err && wait_claim(&self->wait))
		self->wait.result = err;
	else
		sleep_until_served(self);
	ctx_remove_hook(self->wait.ctx, &self->hook);
	cases_lock(self->wait.order);
	cases_release(&self->wait);
	cases_unlock(self->wait.order);
}

int cases_wait(struct evwork_case *cases, size_t count, struct evwork_ctx *ctx, bool looked)
{
	struct thread_wait self = {
		.wait = { .cases = cases, .count = count, .ctx = ctx },
		.hook = { .died = on_death },
		.looked = looked,
	};
	struct wake_list wakes = { NULL };
	int rc = sys_parker_init(&self.parker);

	if (rc)
		return rc;
	self.wait.order = cases_order(cases, count);
	cases_lock(self.wait.order);
	rc = cases_commit(cases, count, &wakes);
	if (rc == -EAGAIN) {
		cases_hold(&self.wait);
		cases_enlist(&self.wait);
	}
	cases_unlock(self.wait.order);
	chan_wake_all(&wakes);
	if (rc == -EAGAIN) {
		wait_enlisted(&self);
		rc = self.wait.result;
	}
	sys_parker_fini(&self.parker);
	return rc;
}

/* What is against a wait whose arguments were checked with rc (S-GEN-4). */
static int check_wait(int rc, struct evwork_ctx *ctx)
{
	if (rc != -EINVAL && rc != -EPERM && loop_any_here())
		return -EDEADLK;
	return rc ? rc : chan_ctx_err(ctx);
}

static int check_one(struct evwork_chan *chan, enum evwork_case_op op, const void *values,
	int count, struct evwork_ctx *ctx)
{
	int rc = count > 0 ? chan_check(chan, op, values) : -EINVAL;

	rc = check_wait(rc, ctx);
	return rc == -ECANCELED || rc == -ETIMEDOUT ? chan_shut_or(chan, op, rc) : rc;
}

/* Waits for one send or receive, after changes_soon; its status. */
static int wait_for_one(struct evwork_case one, struct evwork_ctx *ctx)
{
	int rc = cases_wait(&one, 1, ctx, one.chan->core->capacity > 0);

	return rc < 0 ? rc : one.status;
}

/* Whether the other side does something about a full, or an empty channel while this
 * one looks on, before it makes itself one who waits. Each look takes a cache line from
 * the other side, which meanwhile could have moved some values: so there are pauses. */
static bool changes_soon(const struct chan_core *core, uint64_t unchanged)
{
	int i, k, looks = core->capacity && sys_may_spin() ? LOOKS / PAUSES : 0;

	for (i = 0; i < looks; i++) {
		for (k = 0; k < PAUSES; k++)
			sys_relax();
		/* Relaxed: what is found is looked at under the lock. */
		if (atomic_load_explicit(&core->tail, memory_order_relaxed) -
		    atomic_load_explicit(&core->head, memory_order_relaxed) != unchanged)
			return true;
	}
	return false;
}

static int send_wait(struct evwork_chan *chan, const void *values, int count,
	struct evwork_ctx *ctx)
{
	int rc = chan_try_send(chan, values, count);

	if (rc == -EAGAIN && changes_soon(chan->core, chan->core->capacity))
		rc = chan_try_send(chan, values, count);
	if (rc != -EAGAIN)
		return rc;
	rc = wait_for_one(evwork_send_case(chan, values), ctx);
	return rc ? rc : 1;
}

static int receive_wait(struct evwork_chan *chan, void *values, int count,
	struct evwork_ctx *ctx)
{
	int rc = chan_try_receive(chan, values, count), more = 0;

	if (rc == -EAGAIN && changes_soon(chan->core, 0))
		rc = chan_try_receive(chan, values, count);
	if (rc != -EAGAIN)
		return rc;
	rc = wait_for_one(evwork_recv_case(chan, values), ctx);
	if (rc == 1 && count > 1)
		more = chan_try_receive(chan, chan_value(chan->core, values, 1), count - 1);
	return more > 0 ? rc + more : rc;
}

int evwork_chan_send_many_wait(struct evwork_chan *chan, const void *values, int count,
	struct evwork_ctx *ctx)
{
	int rc, sent = 0;

	do {
		rc = check_one(chan, EVWORK_SEND, values, count, ctx);
		if (rc == 0)
			rc = send_wait(chan, chan_value(chan->core, values, (size_t)sent),
				count - sent, ctx);
		if (rc > 0)
			sent += rc;
	} while (rc > 0 && sent < count);
	return sent ? sent : rc;
}

int evwork_chan_send_wait(struct evwork_chan *chan, const void *value, struct evwork_ctx *ctx)
{
	int rc = check_one(chan, EVWORK_SEND, value, 1, ctx);

	if (rc == 0)
		rc = send_wait(chan, value, 1, ctx);
	return rc == 1 ? 0 : rc;
}

int evwork_chan_recv_wait(struct evwork_chan *chan, void *value, struct evwork_ctx *ctx)
{
	return evwork_chan_recv_many_wait(chan, value, 1, ctx);
}

int evwork_chan_recv_many_wait(struct evwork_chan *chan, void *values, int count,
	struct evwork_ctx *ctx)
{
	int rc = check_one(chan, EVWORK_RECV, values, count, ctx);

	return rc ? rc : receive_wait(chan, values, count, ctx);
}

int evwork_select_wait(struct evwork_case *cases, size_t count, struct evwork_ctx *ctx)
{
	int rc = check_wait(count ? cases_check(cases, count) : -EINVAL, ctx);

	if (rc == 0)
		rc = cases_try_each(cases, count);
	return rc == -EAGAIN ? cases_wait(cases, count, ctx, false) : rc;
}
