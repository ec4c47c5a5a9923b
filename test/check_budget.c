/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Budgets: what may be withdrawn, by hand and from several threads, and that retries and
 * hedges keep the ledger of one whatever becomes of them. The last is random: a model counts
 * what the callbacks tell, and the budget has to agree with it whenever all is quiet.
 * EVWORK_STRESS_SEED repeats a run.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "rival.h"

#include <math.h>

#define START_NS INT64_C(1000000000)
#define MS INT64_C(1000000)

static void call_once(struct evwork_budget *budget)
{
	ck_assert_int_eq(evwork_budget_enter(budget), 0);
	ck_assert_int_eq(evwork_budget_leave(budget), 0);
}

/* S-RTY-11: deposits, the reserve, withdrawals, and that all are forgotten. */
START_TEST(over_time)
{
	struct evwork_budget *budget;
	struct evwork_clock *clock;
	int i;

	ck_assert_int_eq(evwork_clock_new(START_NS, &clock), 0);
	ck_assert_int_eq(evwork_budget_new(0.1, 1, 2000, clock, &budget), 0);
	ck_assert_int_eq(evwork_clock_free(clock), -EBUSY);
	ck_assert_int_eq(evwork_budget_balance(budget), 2);
	for (i = 0; i < 9; i++)
		call_once(budget);
	ck_assert_int_eq(evwork_budget_balance(budget), 2);
	call_once(budget);
	ck_assert_int_eq(evwork_budget_balance(budget), 3);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(evwork_budget_withdraw(budget), 0);
	ck_assert_int_eq(evwork_budget_withdraw(budget), -EAGAIN);
	ck_assert_int_eq(evwork_budget_withdraw(budget), -EAGAIN);
	/* What was refused has changed nothing: ten more deposits are one withdrawal. */
	for (i = 0; i < 10; i++)
		call_once(budget);
	ck_assert_int_eq(evwork_budget_withdraw(budget), 0);
	ck_assert_int_eq(evwork_clock_jump(clock, 2000 * MS - 20 * MS - 1), 0);
	ck_assert_int_eq(evwork_budget_withdraw(budget), -EAGAIN);
	/* At the latest after the ttl. */
	ck_assert_int_eq(evwork_clock_jump(clock, 20 * MS + 1), 0);
	ck_assert_int_eq(evwork_budget_balance(budget), 2);
	ck_assert_int_eq(evwork_budget_withdraw(budget), 0);
	ck_assert_int_eq(evwork_clock_jump(clock, EVWORK_NEVER / 2), 0);
	ck_assert_int_eq(evwork_budget_balance(budget), 2);
	/* What is given back is not there again, but lets the budget go. */
	ck_assert_int_eq(evwork_budget_withdraw(budget), 0);
	ck_assert_int_eq(evwork_budget_free(budget), -EBUSY);
	for (i = 0; i < 6; i++)
		ck_assert_int_eq(evwork_budget_give_back(budget), 0);
	ck_assert_int_eq(evwork_budget_balance(budget), 1);
	ck_assert_int_eq(evwork_budget_give_back(budget), -ESRCH);
	ck_assert_int_eq(evwork_budget_free(budget), 0);

	/* Nothing and nothing never permits. */
	ck_assert_int_eq(evwork_budget_new(0, 0, 1000, clock, &budget), 0);
	for (i = 0; i < 100; i++)
		call_once(budget);
	ck_assert_int_eq(evwork_budget_withdraw(budget), -EAGAIN);
	ck_assert_int_eq(evwork_budget_free(budget), 0);
	ck_assert_int_eq(evwork_clock_free(clock), 0);
}
END_TEST

/* S-RTY-11: its bounds. */
START_TEST(bounds_over_time)
{
	static const struct { double ratio, reserve; int64_t ttl; } bad[] = {
		{ -0.1, 1, 1000 }, { 10.1, 1, 1000 }, { NAN, 1, 1000 }, { 1, -1, 1000 },
		{ 1, NAN, 1000 }, { 1, INFINITY, 1000 }, { 1, 1, 999 }, { 1, 1, 60001 },
	};
	struct evwork_budget *budget = NULL;
	size_t i;
	int k, rc;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_int_eq(evwork_budget_new(bad[i].ratio, bad[i].reserve, bad[i].ttl, NULL,
			&budget), -EINVAL);
	ck_assert_int_eq(evwork_budget_new(1, 1, 1000, NULL, NULL), -EINVAL);
	ck_assert_int_eq(evwork_budget_enter(NULL), -EINVAL);
	ck_assert_int_eq(evwork_budget_leave(NULL), -EINVAL);
	ck_assert_int_eq(evwork_budget_withdraw(NULL), -EINVAL);
	ck_assert_int_eq(evwork_budget_give_back(NULL), -EINVAL);
	ck_assert_int_eq(evwork_budget_balance(NULL), -EINVAL);
	ck_assert_int_eq(evwork_budget_free(NULL), 0);
	for (k = 1; ; k++) {
		fault_start(SYS_CALLS, k, false);
		rc = evwork_budget_new(10, 1e9, 60000, NULL, &budget);
		if (fault_stop() < k)
			break;
		ck_assert_int_eq(rc, -ENOMEM);
	}
	ck_assert_int_gt(k, 2);
	ck_assert_int_eq(evwork_budget_free(budget), 0);
}
END_TEST

/* S-RTY-13: a share of the active calls, rounded down, but at least the minimum. */
START_TEST(at_once)
{
	struct evwork_budget *budget;
	int i;

	ck_assert_int_eq(evwork_budget_new_concurrent(EVWORK_BUDGET_RATIO_DEFAULT,
		EVWORK_BUDGET_MIN_DEFAULT, &budget), 0);
	ck_assert_int_eq(evwork_budget_balance(budget), 3);
	for (i = 0; i < 19; i++)
		ck_assert_int_eq(evwork_budget_enter(budget), 0);
	ck_assert_int_eq(evwork_budget_balance(budget), 3);
	ck_assert_int_eq(evwork_budget_enter(budget), 0);
	ck_assert_int_eq(evwork_budget_balance(budget), 4);
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(evwork_budget_withdraw(budget), 0);
	ck_assert_int_eq(evwork_budget_withdraw(budget), -EAGAIN);
	/* Calls end before what was allowed for them: nothing more until that has ended. */
	for (i = 0; i < 20; i++)
		ck_assert_int_eq(evwork_budget_leave(budget), 0);
	ck_assert_int_eq(evwork_budget_leave(budget), -ESRCH);
	ck_assert_int_eq(evwork_budget_balance(budget), 0);
	ck_assert_int_eq(evwork_budget_give_back(budget), 0);
	ck_assert_int_eq(evwork_budget_withdraw(budget), -EAGAIN);
	ck_assert_int_eq(evwork_budget_give_back(budget), 0);
	ck_assert_int_eq(evwork_budget_withdraw(budget), 0);
	ck_assert_int_eq(evwork_budget_free(budget), -EBUSY);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(evwork_budget_give_back(budget), 0);
	ck_assert_int_eq(evwork_budget_give_back(budget), -ESRCH);
	ck_assert_int_eq(evwork_budget_balance(budget), 3);
	ck_assert_int_eq(evwork_budget_enter(budget), 0);
	ck_assert_int_eq(evwork_budget_free(budget), -EBUSY);
	ck_assert_int_eq(evwork_budget_leave(budget), 0);
	ck_assert_int_eq(evwork_budget_free(budget), 0);
}
END_TEST

/* S-RTY-13: both numbers may be 0, and ratios that are no binary fractions are exact. */
START_TEST(shares)
{
	static const struct { double ratio; int min, active, balance; } rows[] = {
		{ 0, 0, 100, 0 }, { 0, 5, 100, 5 }, { 1, 0, 0, 0 }, { 1, 0, 7, 7 }, { 10, 3, 1, 10 },
		{ 0.1, 0, 30, 3 }, { 0.29, 0, 100, 29 }, { 0.2, 0, 4, 0 }, { 0.2, 0, 5, 1 },
		{ 0.2, INT32_MAX, 5, INT32_MAX },
	};
	size_t i;
	int k;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct evwork_budget *budget;

		ck_assert_int_eq(evwork_budget_new_concurrent(rows[i].ratio, rows[i].min, &budget), 0);
		for (k = 0; k < rows[i].active; k++)
			ck_assert_int_eq(evwork_budget_enter(budget), 0);
		ck_assert_msg(evwork_budget_balance(budget) == rows[i].balance, "row %zu", i);
		for (k = 0; k < rows[i].active; k++)
			ck_assert_int_eq(evwork_budget_leave(budget), 0);
		ck_assert_int_eq(evwork_budget_free(budget), 0);
	}
}
END_TEST

/* S-RTY-13, S-CRASH-8: its bounds, and failing calls. */
START_TEST(bounds_at_once)
{
	struct evwork_budget *budget = NULL;
	int k, rc;

	ck_assert_int_eq(evwork_budget_new_concurrent(-0.1, 3, &budget), -EINVAL);
	ck_assert_int_eq(evwork_budget_new_concurrent(10.1, 3, &budget), -EINVAL);
	ck_assert_int_eq(evwork_budget_new_concurrent(NAN, 3, &budget), -EINVAL);
	ck_assert_int_eq(evwork_budget_new_concurrent(0.2, -1, &budget), -EINVAL);
	ck_assert_int_eq(evwork_budget_new_concurrent(0.2, 3, NULL), -EINVAL);
	for (k = 1; ; k++) {
		fault_start(SYS_CALLS, k, false);
		rc = evwork_budget_new_concurrent(0.2, 3, &budget);
		if (fault_stop() < k)
			break;
		ck_assert_int_eq(rc, -ENOMEM);
		ck_assert_ptr_null(budget);
	}
	ck_assert_int_gt(k, 2);
	ck_assert_int_eq(evwork_budget_free(budget), 0);
}
END_TEST

/* Threads that withdraw from one budget. */
struct crowd {
	struct evwork_budget *budget;
	atomic_int out, most, wrong;
};

enum { CROWD = 3, ALLOWED = 2 };

static void crowd_act(void *arg)
{
	struct crowd *crowd = arg;
	int i, now;

	for (i = 0; i < 20; i++) {
		if (evwork_budget_enter(crowd->budget) != 0)
			atomic_fetch_add(&crowd->wrong, 1);
		if (evwork_budget_withdraw(crowd->budget) == 0) {
			now = atomic_fetch_add(&crowd->out, 1) + 1;
			if (now > ALLOWED)
				atomic_fetch_add(&crowd->wrong, 1);
			dawdle();
			atomic_fetch_sub(&crowd->out, 1);
			if (evwork_budget_give_back(crowd->budget) != 0)
				atomic_fetch_add(&crowd->wrong, 1);
		}
		if (evwork_budget_leave(crowd->budget) != 0)
			atomic_fetch_add(&crowd->wrong, 1);
	}
}

/* S-RTY-13: from several threads there are never more than it allows. */
START_TEST(from_threads)
{
	struct crowd crowd = { NULL };
	struct rival rivals[CROWD];
	int rounds = scaled(500), round, i;

	ck_assert_int_eq(evwork_budget_new_concurrent(0.2, ALLOWED, &crowd.budget), 0);
	for (i = 0; i < CROWD; i++)
		rival_start(&rivals[i], crowd_act, &crowd, (uint64_t)i + 1);
	for (round = 1; round <= rounds; round++) {
		for (i = 0; i < CROWD; i++)
			rival_go(&rivals[i], round);
		for (i = 0; i < CROWD; i++)
			rival_await(&rivals[i], round);
		expect(evwork_budget_balance(crowd.budget) == ALLOWED, "round %d", round);
	}
	for (i = 0; i < CROWD; i++)
		rival_end(&rivals[i]);
	ck_assert_int_eq(atomic_load(&crowd.wrong), 0);
	ck_assert_int_eq(evwork_budget_free(crowd.budget), 0);
}
END_TEST

/* The model: retries and hedges on a manual clock that share one budget. */

enum { RETRIES = 9, HEDGES = 4, CALLS = RETRIES + HEDGES, POLICIES = 3, ATTEMPTS = 4 };

struct call {
	struct storm *storm;
	bool pending;                 /* started, and not done or drained */
	bool active;                  /* its first attempt has begun */
	bool waiting;                 /* a retry that is in its delay */
};

struct out { struct evwork_attempt *attempt; int number; };

struct storm {
	struct world world;
	struct evwork_budget *budget;
	struct evwork_retry_policy *policies[POLICIES];
	struct evwork_retry retries[RETRIES];
	struct evwork_hedge hedges[HEDGES];
	struct call calls[CALLS];     /* of the retries, then of the hedges */
	struct out outs[CALLS * ATTEMPTS * 4];
	int out_count;
	double ratio;
	int min;
	bool concurrent;
	int refused, wrong;
};

static void storm_begin(struct evwork_attempt *attempt, void *arg)
{
	struct call *call = arg;
	struct storm *storm = call->storm;
	int number = evwork_attempt_number(attempt);

	if (number == 1)
		call->active = true;
	call->waiting = false;
	if ((size_t)storm->out_count == sizeof(storm->outs) / sizeof(storm->outs[0]))
		ck_abort_msg("too many attempts are out");
	storm->outs[storm->out_count++] = (struct out) { attempt, number };
}

static void storm_retry(struct evwork_retry *retry, int attempt, int status, int64_t delay_ns,
	void *arg)
{
	struct storm *storm = arg;

	(void)attempt;
	(void)status;
	(void)delay_ns;
	storm->calls[retry - storm->retries].waiting = true;
}

static void call_over(struct call *call)
{
	call->storm->wrong += !call->pending;
	call->pending = call->active = call->waiting = false;
}

static void storm_done(struct evwork_retry *retry, int status)
{
	struct call *call = retry->op.arg;

	(void)status;
	call->storm->refused += retry->reason == EVWORK_RETRY_BUDGET;
	call_over(call);
}

static void storm_decided(struct evwork_hedge *hedge, int status)
{
	struct call *call = hedge->op.arg;

	(void)status;
	call->storm->wrong += !call->pending;
}

static void storm_drained(struct evwork_hedge *hedge, int status)
{
	struct call *call = hedge->op.arg;

	(void)status;
	call->storm->refused += hedge->refused;
	call_over(call);
}

static void storm_open(struct storm *storm, bool concurrent)
{
	struct evwork_retry_options options[POLICIES] = {
		{ .max_attempts = ATTEMPTS, .base_ms = 5 },
		{ .max_attempts = ATTEMPTS, .base_ms = 5, .attempt_timeout_ms = 8 },
		{ .max_attempts = ATTEMPTS, .base_ms = 5, .attempt_timeout_ms = 8, .overlap = 1,
		  .idempotent = 1 },
	};
	int i;

	memset(storm, 0, sizeof(*storm));
	world_open_manual(&storm->world, 1, START_NS);
	storm->concurrent = concurrent;
	storm->ratio = (double)chance(11) / 10;
	storm->min = chance(4);
	if (concurrent)
		must(evwork_budget_new_concurrent(storm->ratio, storm->min, &storm->budget));
	else
		must(evwork_budget_new(storm->ratio, storm->min, 1000, storm->world.clock,
			&storm->budget));
	for (i = 0; i < CALLS; i++)
		storm->calls[i].storm = storm;
	for (i = 0; i < POLICIES; i++) {
		options[i].seed = stress_seed | 1;
		options[i].budget = storm->budget;
		options[i].on_retry = storm_retry;
		options[i].arg = storm;
		must(evwork_retry_policy_new(&options[i], &storm->policies[i]));
	}
	for (i = 0; i < RETRIES; i++) {
		evwork_retry_init(&storm->retries[i], storm->policies[i % POLICIES], storm_done);
		storm->retries[i].op = (struct evwork_op) { .start = storm_begin,
			.arg = &storm->calls[i] };
	}
	for (i = 0; i < HEDGES; i++)
		storm->hedges[i] = (struct evwork_hedge) {
			.op = { .start = storm_begin, .arg = &storm->calls[RETRIES + i] },
			.copies = ATTEMPTS, .delay_ms = 5, .idempotent = 1, .budget = storm->budget,
			.done = storm_decided, .drained = storm_drained };
}

static void storm_start(struct storm *storm, int i)
{
	if (storm->calls[i].pending)
		return;
	if (i < RETRIES)
		must(evwork_retry_start(storm->world.loop, &storm->retries[i]));
	else
		must(evwork_hedge_start(storm->world.loop, &storm->hedges[i - RETRIES]));
	storm->calls[i].pending = true;
}

static void storm_cancel(struct storm *storm, int i)
{
	int rc = i < RETRIES ? evwork_retry_cancel(&storm->retries[i]) :
		evwork_hedge_cancel(&storm->hedges[i - RETRIES]);

	storm->wrong += (rc == -ESRCH) == storm->calls[i].pending;
}

static void storm_end(struct storm *storm, int place)
{
	static const int results[] = { 0, -EAGAIN, -EPIPE, -EAGAIN, -EPIPE, -EIO, -EINVAL };
	struct out out = storm->outs[place];

	storm->outs[place] = storm->outs[--storm->out_count];
	if (chance(20) == 0)
		must(evwork_attempt_permanent(out.attempt));
	must(evwork_attempt_end(out.attempt, results[chance(7)]));
}

static void storm_step(struct storm *storm)
{
	switch (chance(8)) {
	case 0: case 1: case 2:
		storm_start(storm, chance(CALLS));
		break;
	case 3: case 4:
		if (storm->out_count > 0)
			storm_end(storm, chance(storm->out_count));
		break;
	case 5: case 6:
		must(evwork_clock_advance(storm->world.clock, chance(10) * MS));
		break;
	case 7:
		storm_cancel(storm, chance(CALLS));
		break;
	}
}

/* What the budget must say by what the callbacks told: retries in their delay, and attempts
 * beyond the first that are out, those that were abandoned included. */
static void storm_check(struct storm *storm, int step)
{
	int i, active = 0, taken = 0, share;
	int64_t balance = evwork_budget_balance(storm->budget), wanted;

	for (i = 0; i < CALLS; i++) {
		active += storm->calls[i].active;
		taken += storm->calls[i].waiting;
	}
	for (i = 0; i < storm->out_count; i++)
		taken += storm->outs[i].number > 1;
	share = (int)(storm->ratio * active + 1e-6);
	wanted = (share > storm->min ? share : storm->min) - taken;
	expect(storm->wrong == 0, "step %d: %d", step, storm->wrong);
	expect(!storm->concurrent || balance == (wanted > 0 ? wanted : 0),
		"step %d: %d active, %d taken, %lld to be had, %lld wanted", step, active, taken,
		(long long)balance, (long long)wanted);
}

/* Ends all attempts, and those that follow from that while the loop is there. */
static void storm_settle(struct storm *storm)
{
	while (storm->out_count > 0) {
		storm_end(storm, storm->out_count - 1);
		if (storm->world.loop)
			world_turns(&storm->world, 5);
	}
}

static void storm_close(struct storm *storm, int how)
{
	int i;

	if (how == 1) {
		must(evwork_loop_close(storm->world.loop, NULL, NULL));
		world_turns(&storm->world, 5);
	} else if (how == 2) {
		expect(evwork_loop_free_force(storm->world.loop) >= 0, "forced");
		storm->world.loop = NULL;
	} else {
		for (i = 0; i < CALLS; i++)
			storm_cancel(storm, i);
		world_turns(&storm->world, 5);
	}
	storm_settle(storm);
	if (storm->world.loop) {
		world_run(&storm->world);
		for (i = 0; i < CALLS; i++)
			expect(!storm->calls[i].pending, "call %d", i);
	}
	for (i = 0; i < POLICIES; i++)
		must(evwork_retry_policy_free(storm->policies[i]));
	/* Nothing is left on the ledger. */
	must(evwork_budget_free(storm->budget));
	world_close(&storm->world);
}

/* S-RTY-13, S-RTY-2, S-RTY-19: each retry and each copy counts from the decision to make it
 * until it has really ended, and nothing stays on the ledger: not after cancels, delays that
 * are cut short, abandoned attempts, loops that close, and loops that are freed by force. */
START_TEST(ledger_agrees)
{
	struct storm storm;
	int rounds = scaled(150), round, step, refused = 0;

	chance_seed(1);
	for (round = 0; round < (rounds > 12 ? rounds : 12); round++) {
		storm_open(&storm, round % 4 != 0);
		for (step = 0; step < 200; step++) {
			storm_step(&storm);
			world_turns(&storm.world, 5);
			storm_check(&storm, step);
		}
		storm_close(&storm, round % 3);
		refused += storm.refused;
	}
	/* It had something to say. */
	ck_assert_int_gt(refused, 0);
}
END_TEST

/* S-RTY-13, S-CRASH-8: whatever fails in a retry or a hedge, what it had taken is there again. */
START_TEST(failing_calls)
{
	int k, calls, i;

	for (k = 1; ; k++) {
		struct storm storm;

		chance_seed(1);
		storm_open(&storm, true);
		/* One of each policy, and a hedge, each with a delay and an attempt that fails. */
		fault_start(SYS_CALLS, k, true);
		for (i = 0; i < POLICIES; i++)
			storm.calls[i].pending = evwork_retry_start(storm.world.loop,
				&storm.retries[i]) == 0;
		storm.calls[RETRIES].pending = evwork_hedge_start(storm.world.loop,
			&storm.hedges[0]) == 0;
		for (i = 0; i < 30; i++) {
			world_turns(&storm.world, 5);
			if (i % 3 == 0)
				must(evwork_clock_advance(storm.world.clock, 10 * MS));
			else if (storm.out_count > 0)
				storm_end(&storm, 0);
		}
		calls = fault_stop();
		storm_check(&storm, k);
		storm_close(&storm, 0);
		if (calls < k)
			break;
	}
	ck_assert_int_gt(k, 4);
}
END_TEST

static int waits(struct evwork_attempt *attempt, void *arg)
{
	(void)attempt;
	gate_pass(arg);
	return 0;
}

static void ignore(struct evwork_hedge *hedge, int status)
{
	(void)hedge;
	(void)status;
}

/* S-RTY-13: a copy that the pool refuses is not out. */
START_TEST(copy_is_refused)
{
	struct evwork_budget *budget;
	struct evwork_hedge hedge;
	struct world world;
	struct gate gate;

	world_open_manual(&world, 1, START_NS);
	gate_init(&gate);
	ck_assert_int_eq(evwork_budget_new_concurrent(0, 1, &budget), 0);
	hedge = (struct evwork_hedge) { .op = { .run = waits, .arg = &gate }, .copies = 2,
		.delay_ms = 10, .idempotent = 1, .budget = budget, .done = ignore };
	ck_assert_int_eq(evwork_hedge_start(world.loop, &hedge), 0);
	world_turns(&world, 3);
	gate_await(&gate, 1);
	ck_assert_int_eq(evwork_pool_close(world.pool, EVWORK_DRAIN, NULL, NULL, NULL), 0);
	ck_assert_int_eq(evwork_clock_advance(world.clock, 10 * MS), 0);
	world_turns(&world, 5);
	ck_assert_int_eq(hedge.launched, 2);
	ck_assert_int_eq(evwork_budget_balance(budget), 1);
	ck_assert_int_eq(evwork_budget_free(budget), -EBUSY);
	gate_open(&gate);
	world_run(&world);
	ck_assert_int_eq(evwork_budget_free(budget), 0);
	gate_fini(&gate);
	world_close(&world);
}
END_TEST

static void must_not_start(struct evwork_attempt *attempt, void *arg)
{
	(void)arg;
	ck_abort_msg("attempt %d", evwork_attempt_number(attempt));
}

static void ignore_retry(struct evwork_retry *retry, int status)
{
	(void)retry;
	(void)status;
}

/* S-RTY-11: calls that are cancelled before their first attempt deposit nothing. */
START_TEST(cancelled_at_once)
{
	struct evwork_retry_options options = { .max_attempts = 2 };
	struct evwork_op op = { .start = must_not_start };
	struct evwork_retry_policy *policy;
	struct evwork_budget *budget;
	struct evwork_hedge hedge;
	struct evwork_retry retry;
	struct world world;

	world_open_manual(&world, 1, START_NS);
	ck_assert_int_eq(evwork_budget_new(10, 0, 1000, world.clock, &budget), 0);
	options.budget = budget;
	ck_assert_int_eq(evwork_retry_policy_new(&options, &policy), 0);
	evwork_retry_init(&retry, policy, ignore_retry);
	retry.op = op;
	ck_assert_int_eq(evwork_retry_start(world.loop, &retry), 0);
	ck_assert_int_eq(evwork_retry_cancel(&retry), 0);
	hedge = (struct evwork_hedge) { .op = op, .copies = 1, .budget = budget, .done = ignore };
	ck_assert_int_eq(evwork_hedge_start(world.loop, &hedge), 0);
	ck_assert_int_eq(evwork_hedge_cancel(&hedge), 0);
	world_run(&world);
	ck_assert_int_eq(retry.reason, EVWORK_RETRY_CTX);
	ck_assert_int_eq(retry.attempts, 0);
	ck_assert_int_eq(evwork_budget_balance(budget), 0);
	ck_assert_int_eq(evwork_retry_policy_free(policy), 0);
	ck_assert_int_eq(evwork_budget_free(budget), 0);
	world_close(&world);
}
END_TEST

/* S-SHUT-12: a budget is the parent's although there was neither pool nor loop when it was
 * made. Another thread may have had its lock. */
START_TEST(in_a_child)
{
	struct evwork_budget *budget;
	int kind;
	pid_t child;

	for (kind = 0; kind < 2; kind++) {
		ck_assert_int_eq(kind ? evwork_budget_new_concurrent(1, 1, &budget) :
			evwork_budget_new(1, 1, 1000, NULL, &budget), 0);
		child = fork();
		ck_assert_int_ge(child, 0);
		if (child == 0)
			_exit(evwork_budget_enter(budget) != -ESHUTDOWN ||
				evwork_budget_leave(budget) != -ESHUTDOWN ||
				evwork_budget_withdraw(budget) != -ESHUTDOWN ||
				evwork_budget_give_back(budget) != -ESHUTDOWN ||
				evwork_budget_balance(budget) != -ESHUTDOWN ||
				evwork_budget_free(budget) != 0);
		support_await_child(child);
		ck_assert_int_eq(evwork_budget_free(budget), 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("budget");
	TCase *by_hand = support_case(suite, "by_hand");
	TCase *ledger = support_case(suite, "ledger");

	stress_begin();
	tcase_add_test(by_hand, over_time);
	tcase_add_test(by_hand, bounds_over_time);
	tcase_add_test(by_hand, at_once);
	tcase_add_test(by_hand, shares);
	tcase_add_test(by_hand, bounds_at_once);
	tcase_add_test(by_hand, from_threads);
	if (support_forks())
		tcase_add_test(by_hand, in_a_child);
	tcase_add_test(ledger, cancelled_at_once);
	tcase_add_test(ledger, ledger_agrees);
	tcase_add_test(ledger, copy_is_refused);
	tcase_add_test(ledger, failing_calls);
	return support_run(suite);
}
