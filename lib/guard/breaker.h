/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUARD_BREAKER_H
#define GUARD_BREAKER_H

#include "base/clock.h"
#include "guard/breaker_window.h"
#include "guard/notice.h"
#include "evwork/breaker.h"

/*
 * breaker.c is what the caller sees, breaker_state.c moves the state, breaker_notice.c
 * tells of it.
 */

/* The options with the defaults filled in, times in nanoseconds. */
struct breaker_config {
	enum evwork_breaker_state initial;
	enum evwork_breaker_rule rule, trial_rule;
	int window, min_calls, in_a_row, trials;
	int trial_calls;              /* outcomes that EVWORK_BREAKER_RATE decides a trial by */
	int64_t slot_ns, slow_ns, open_ns, open_max_ns, half_open_ns;
	double failure_percent, slow_percent, open_factor;
	bool undecided_closes, automatic;
	enum evwork_outcome (*classify)(int status, void *arg);
	evwork_breaker_transition_fn on_transition;
	evwork_breaker_exceeded_fn on_exceeded;
	void *arg;
};

struct evwork_breaker {
	struct evwork_guard guard;
	/* Fixed at creation. */
	unsigned made_in;             /* fork_here() when it was made */
	struct evwork_clock *clock;
	struct clock_user clock_user; /* keeps the clock from being freed */
	struct breaker_config config;

	/* The state and the number of the generation, see gate_of; written under the lock.
	 * A permit is taken by a look at it alone where the state lets all through. */
	_Atomic uint64_t gate;

	sys_mutex mutex;              /* covers all below; before those of contexts and loops */
	struct breaker_window window;
	unsigned row;                 /* failures since the last success */
	struct tally trial;           /* outcomes of the half-open state, */
	int trials_admitted;          /* how many were let through, but for ignored ones, */
	int trials_out;               /* and how many are not over */
	double open_wait_ns;          /* of the next opening */
	int64_t until_ns;             /* open, half open: when time moves it; EVWORK_NEVER */
	bool exceeded[2];             /* METRICS_ONLY: announced */
	struct evwork_breaker_metrics counts;    /* the counters of it */
	const char *broken;           /* what breaker_unlock has to say */

	/* What was not announced: a ring, of what is known but for where it began. */
	struct notice notice;
	uint8_t *notices;             /* NULL: nobody wants to hear */
	unsigned notice_first, notice_count;
	enum evwork_breaker_state told;          /* the last state that was announced */
};

#define GATE_STATES 8

static inline uint64_t gate_of(uint64_t generation, enum evwork_breaker_state state)
{
	return generation * GATE_STATES + (uint64_t)state;
}

static inline enum evwork_breaker_state gate_state(uint64_t gate)
{
	return (enum evwork_breaker_state)(gate % GATE_STATES);
}

/* Relaxed: who must be sure asks under the lock. */
static inline uint64_t gate_now(const struct evwork_breaker *breaker)
{
	return atomic_load_explicit(&breaker->gate, memory_order_relaxed);
}

static inline bool state_lets_all_through(enum evwork_breaker_state state)
{
	return state == EVWORK_BREAKER_CLOSED || state == EVWORK_BREAKER_DISABLED ||
		state == EVWORK_BREAKER_METRICS_ONLY;
}

/* breaker_state.c */

/* Frees the lock, and then says what was found to be broken under it: who reads the log is
 * called with no lock held (S-GEN-5), and may free the breaker. */
void breaker_unlock(struct evwork_breaker *breaker);
/* Fails an operation that would break an invariant; see base_broken. */
void breaker_broken_locked(struct evwork_breaker *breaker, const char *what);

/* The rest runs under the lock. */

void breaker_start(struct evwork_breaker *breaker);
/* Does what time has brought: before everything that looks at the state. */
void breaker_advance_locked(struct evwork_breaker *breaker);
/* A permit of the state, or -EHOSTDOWN or -EBUSY. */
int breaker_admit_locked(struct evwork_breaker *breaker, uint64_t *ret_generation);
/* An outcome of a permit of the generation. now_ns is looked at by windows of time. */
void breaker_record_locked(struct evwork_breaker *breaker, uint64_t generation,
	enum evwork_outcome outcome, int64_t duration_ns, int64_t now_ns);
/* By hand: -EINVAL, -EAGAIN. */
int breaker_set_locked(struct evwork_breaker *breaker, enum evwork_breaker_state state);
/* The percentages as the metrics have them. */
void breaker_rates_locked(struct evwork_breaker *breaker, struct evwork_breaker_metrics *metrics);

/* breaker_notice.c */

int breaker_notice_init(struct evwork_breaker *breaker, struct evwork_loop *loop,
	void (*destroy)(struct notice *notice));
/* Whether a change, and all that can follow it until there is time to ask again, can be
 * announced. */
bool breaker_notice_room_locked(const struct evwork_breaker *breaker);
void breaker_notice_state_locked(struct evwork_breaker *breaker, enum evwork_breaker_state to);
void breaker_notice_exceeded_locked(struct evwork_breaker *breaker, enum evwork_breaker_rate rate);

#endif
