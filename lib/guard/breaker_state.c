/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The state machine. What moves it, but for calls by hand:
 *
 *	CLOSED ──────── outcomes over a threshold ────────► OPEN
 *	OPEN ────────── its wait is over ─────────────────► HALF_OPEN
 *	HALF_OPEN ───── trials went badly, or undecided ──► OPEN
 *	HALF_OPEN ───── trials went well, or undecided ───► CLOSED
 *
 * By hand: from each to each, but for CLOSED to HALF_OPEN, and METRICS_ONLY to OPEN and
 * HALF_OPEN. Each move begins a generation: permits belong to the one that they were
 * taken in, and count in no other (S-BRK-4).
 *
 * All of it but breaker_unlock runs under the breaker's lock.
 */

#include "guard/breaker.h"

#include <errno.h>
#include <string.h>

#include "base/broken.h"

#define BIT(state) (1u << EVWORK_BREAKER_##state)
#define ALL_STATES (BIT(CLOSED) | BIT(OPEN) | BIT(HALF_OPEN) | BIT(FORCED_OPEN) | \
	BIT(DISABLED) | BIT(METRICS_ONLY))

/* Where each state leads to. */
static const unsigned own_moves[] = {
	[EVWORK_BREAKER_CLOSED] = BIT(OPEN),
	[EVWORK_BREAKER_OPEN] = BIT(HALF_OPEN),
	[EVWORK_BREAKER_HALF_OPEN] = BIT(OPEN) | BIT(CLOSED),
	[EVWORK_BREAKER_FORCED_OPEN] = 0,
	[EVWORK_BREAKER_DISABLED] = 0,
	[EVWORK_BREAKER_METRICS_ONLY] = 0,
};
static const unsigned hand_moves[] = {
	[EVWORK_BREAKER_CLOSED] = ALL_STATES & ~BIT(HALF_OPEN),
	[EVWORK_BREAKER_OPEN] = ALL_STATES,
	[EVWORK_BREAKER_HALF_OPEN] = ALL_STATES,
	[EVWORK_BREAKER_FORCED_OPEN] = ALL_STATES,
	[EVWORK_BREAKER_DISABLED] = ALL_STATES,
	[EVWORK_BREAKER_METRICS_ONLY] = ALL_STATES & ~(BIT(OPEN) | BIT(HALF_OPEN)),
};

void breaker_unlock(struct evwork_breaker *breaker)
{
	const char *broken = breaker->broken;

	breaker->broken = NULL;
	sys_unlock(&breaker->mutex);
	if (broken)
		base_broken(broken);
}

void breaker_broken_locked(struct evwork_breaker *breaker, const char *what)
{
	breaker->broken = what;
}

static enum evwork_breaker_state state_of(const struct evwork_breaker *breaker)
{
	return gate_state(gate_now(breaker));
}

static int64_t now_of(const struct evwork_breaker *breaker)
{
	return clock_now(breaker->clock);
}

/* How long this opening lasts; the next one lasts longer (S-BRK-15). */
static int64_t take_open_wait(struct evwork_breaker *breaker)
{
	const struct breaker_config *config = &breaker->config;
	double wait = breaker->open_wait_ns;

	if (wait > (double)config->open_max_ns)
		wait = (double)config->open_max_ns;
	breaker->open_wait_ns = wait * config->open_factor;
	/* The greatest that a double can be and still fit. */
	return wait >= 9.2e18 ? EVWORK_NEVER : (int64_t)wait;
}

static void begin_state(struct evwork_breaker *breaker, enum evwork_breaker_state state)
{
	int64_t now = now_of(breaker);
	uint64_t generation = gate_now(breaker) / GATE_STATES + 1;

	breaker->until_ns = EVWORK_NEVER;
	breaker->row = 0;
	breaker->trials_admitted = breaker->trials_out = 0;
	memset(&breaker->trial, 0, sizeof(breaker->trial));
	memset(breaker->exceeded, 0, sizeof(breaker->exceeded));
	breaker_window_clear(&breaker->window, now);
	if (state == EVWORK_BREAKER_CLOSED)
		breaker->open_wait_ns = (double)breaker->config.open_ns;
	else if (state == EVWORK_BREAKER_OPEN)
		breaker->until_ns = sys_time_add(now, take_open_wait(breaker));
	else if (state == EVWORK_BREAKER_HALF_OPEN && breaker->config.half_open_ns)
		breaker->until_ns = sys_time_add(now, breaker->config.half_open_ns);
	if (breaker->config.automatic && breaker->until_ns != EVWORK_NEVER)
		notice_alarm_locked(&breaker->notice, breaker->until_ns);
	/* Relaxed: see gate_now. */
	atomic_store_explicit(&breaker->gate, gate_of(generation, state), memory_order_relaxed);
}

static void move(struct evwork_breaker *breaker, enum evwork_breaker_state to,
	const unsigned *moves)
{
	if (!(moves[state_of(breaker)] & (1u << to))) {
		breaker_broken_locked(breaker, "breaker: a move that there is not");
		return;
	}
	begin_state(breaker, to);
	breaker->counts.transitions++;
	breaker_notice_state_locked(breaker, to);
}

void breaker_start(struct evwork_breaker *breaker)
{
	breaker->open_wait_ns = (double)breaker->config.open_ns;
	begin_state(breaker, breaker->config.initial);
}

/* Time. */

void breaker_advance_locked(struct evwork_breaker *breaker)
{
	/* One move at most, however long nobody looked: the time for trials is counted from
	 * when they can begin. */
	if (breaker->until_ns == EVWORK_NEVER || now_of(breaker) < breaker->until_ns)
		return;
	if (state_of(breaker) == EVWORK_BREAKER_HALF_OPEN)
		move(breaker, breaker->config.undecided_closes ? EVWORK_BREAKER_CLOSED :
			EVWORK_BREAKER_OPEN, own_moves);
	else if (breaker_notice_room_locked(breaker))
		move(breaker, EVWORK_BREAKER_HALF_OPEN, own_moves);
}

/* Permits. */

static int admit_trial(struct evwork_breaker *breaker)
{
	if (breaker->trials_admitted >= breaker->config.trials)
		return -EBUSY;
	breaker->trials_admitted++;
	breaker->trials_out++;
	return 0;
}

int breaker_admit_locked(struct evwork_breaker *breaker, uint64_t *ret_generation)
{
	enum evwork_breaker_state state;
	int rc = -EHOSTDOWN;

	breaker_advance_locked(breaker);
	state = state_of(breaker);
	if (state_lets_all_through(state))
		rc = 0;
	else if (state == EVWORK_BREAKER_HALF_OPEN)
		rc = admit_trial(breaker);
	breaker->counts.not_permitted += rc != 0;
	*ret_generation = gate_now(breaker);
	return rc;
}

/* Outcomes. */

/* Both in percent; the products are exact, so 50 % of 2 is 1. */
static bool failures_exceed(const struct evwork_breaker *breaker, const struct tally *tally)
{
	return 100.0 * (double)tally->failures >=
		breaker->config.failure_percent * (double)tally->calls;
}

static bool slow_exceed(const struct evwork_breaker *breaker, const struct tally *tally)
{
	return 100.0 * (double)tally->slow >=
		breaker->config.slow_percent * (double)tally->calls;
}

static bool is_enough(const struct evwork_breaker *breaker)
{
	return breaker->window.sum.calls >= (uint64_t)breaker->config.min_calls;
}

static void judge_closed(struct evwork_breaker *breaker)
{
	const struct breaker_config *config = &breaker->config;

	if (config->rule == EVWORK_BREAKER_CONSECUTIVE ?
	    breaker->row >= (unsigned)config->in_a_row : is_enough(breaker) &&
	    (failures_exceed(breaker, &breaker->window.sum) ||
	     slow_exceed(breaker, &breaker->window.sum)))
		move(breaker, EVWORK_BREAKER_OPEN, own_moves);
}

static void judge_trial(struct evwork_breaker *breaker)
{
	const struct breaker_config *config = &breaker->config;
	const struct tally *trial = &breaker->trial;
	bool bad, over;

	if (config->trial_rule == EVWORK_BREAKER_CONSECUTIVE) {
		bad = trial->failures > 0;
		over = bad || trial->calls >= (uint64_t)config->trials;
	} else {
		over = trial->calls >= (uint64_t)config->trial_calls;
		bad = over && (failures_exceed(breaker, trial) || slow_exceed(breaker, trial));
	}
	if (over)
		move(breaker, bad ? EVWORK_BREAKER_OPEN : EVWORK_BREAKER_CLOSED, own_moves);
}

/* It would have opened: says so once for each reason (S-BRK-17). */
static void judge_metrics(struct evwork_breaker *breaker)
{
	const struct breaker_config *config = &breaker->config;
	bool rates = config->rule == EVWORK_BREAKER_RATE && is_enough(breaker);
	bool over[2];
	int i;

	over[EVWORK_BREAKER_FAILURES] = rates ? failures_exceed(breaker, &breaker->window.sum) :
		config->rule == EVWORK_BREAKER_CONSECUTIVE &&
		breaker->row >= (unsigned)config->in_a_row;
	over[EVWORK_BREAKER_SLOW] = rates && slow_exceed(breaker, &breaker->window.sum);
	for (i = 0; i < 2; i++) {
		if (over[i] && !breaker->exceeded[i]) {
			breaker->exceeded[i] = true;
			breaker_notice_exceeded_locked(breaker, (enum evwork_breaker_rate)i);
		}
	}
}

static void count_outcome(struct evwork_breaker *breaker, unsigned marks, int64_t now_ns)
{
	enum evwork_breaker_state state = state_of(breaker);

	breaker->counts.failure += (marks & MARK_FAILURE) != 0;
	breaker->counts.success += (marks & MARK_FAILURE) == 0;
	breaker->counts.slow += (marks & MARK_SLOW) != 0;
	if (state == EVWORK_BREAKER_HALF_OPEN) {
		tally_add(&breaker->trial, marks);
		judge_trial(breaker);
		return;
	}
	breaker->row = marks & MARK_FAILURE ? breaker->row + 1 : 0;
	breaker_window_record(&breaker->window, marks, now_ns);
	if (state == EVWORK_BREAKER_CLOSED)
		judge_closed(breaker);
	else
		judge_metrics(breaker);
}

void breaker_record_locked(struct evwork_breaker *breaker, uint64_t generation,
	enum evwork_outcome outcome, int64_t duration_ns, int64_t now_ns)
{
	enum evwork_breaker_state state;

	/* The time for trials may be over. */
	breaker_advance_locked(breaker);
	state = state_of(breaker);
	if (generation != gate_now(breaker)) {
		breaker->counts.stale++;
		return;
	}
	if (state == EVWORK_BREAKER_DISABLED)
		return;
	breaker->trials_out -= state == EVWORK_BREAKER_HALF_OPEN;
	if (outcome == EVWORK_IGNORE) {
		breaker->counts.ignored++;
		breaker->trials_admitted -= state == EVWORK_BREAKER_HALF_OPEN;
		return;
	}
	count_outcome(breaker, (outcome == EVWORK_FAILURE ? MARK_FAILURE : 0u) |
		(duration_ns > breaker->config.slow_ns ? MARK_SLOW : 0u), now_ns);
}

/* By hand. */

int breaker_set_locked(struct evwork_breaker *breaker, enum evwork_breaker_state state)
{
	breaker_advance_locked(breaker);
	if (!(hand_moves[state_of(breaker)] & (1u << state)))
		return -EINVAL;
	if (!breaker_notice_room_locked(breaker))
		return -EAGAIN;
	if (state == state_of(breaker))
		begin_state(breaker, state);
	else
		move(breaker, state, hand_moves);
	return 0;
}

void breaker_rates_locked(struct evwork_breaker *breaker, struct evwork_breaker_metrics *metrics)
{
	const struct tally *tally = &breaker->window.sum;
	bool enough;

	if (state_of(breaker) == EVWORK_BREAKER_HALF_OPEN) {
		tally = &breaker->trial;
		enough = tally->calls >= (uint64_t)breaker->config.trial_calls;
	} else {
		breaker_window_expire(&breaker->window, now_of(breaker));
		enough = is_enough(breaker);
	}
	metrics->calls = tally->calls;
	metrics->failure_percent = enough ? 100.0 * (double)tally->failures /
		(double)tally->calls : -1;
	metrics->slow_percent = enough ? 100.0 * (double)tally->slow / (double)tally->calls : -1;
}
