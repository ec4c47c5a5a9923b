/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Breakers as the caller sees them: options, permits, the guard of lanes, metrics.
 *
 * Where the state lets all through, taking a permit is one look at the gate. A permit that
 * is taken while the state changes may belong to the state before, and then counts
 * nothing; so nothing but the number itself must be right.
 */

#include "guard/breaker.h"

#include <errno.h>
#include <string.h>

#include "base/fork.h"
#include "run/loop.h"

/* States of a permit. */
enum { PERMIT_IDLE, PERMIT_HELD, PERMIT_REPORTED };

static bool inherited(const struct evwork_breaker *breaker)
{
	return breaker->made_in != fork_here();
}

/* Options. A comparison with NaN is false, so it never passes. */

static bool counts_valid(const struct evwork_breaker_options *options)
{
	return options->initial >= EVWORK_BREAKER_CLOSED &&
		options->initial <= EVWORK_BREAKER_METRICS_ONLY &&
		options->rule >= EVWORK_BREAKER_RATE &&
		options->rule <= EVWORK_BREAKER_CONSECUTIVE &&
		options->trial_rule >= EVWORK_BREAKER_RATE &&
		options->trial_rule <= EVWORK_BREAKER_CONSECUTIVE &&
		options->window >= 0 && options->window <= EVWORK_BREAKER_WINDOW_MAX &&
		options->min_calls >= 0 && options->in_a_row >= 0 && options->trials >= 0 &&
		options->failure_percent >= 0 && options->failure_percent <= 100 &&
		options->slow_percent >= 0 && options->slow_percent <= 100;
}

static bool times_valid(const struct evwork_breaker_options *options)
{
	return options->slot_ms >= 0 && options->slow_ms >= 0 && options->open_ms >= 0 &&
		options->open_max_ms >= 0 && options->half_open_ms >= 0 &&
		(options->open_factor == 0 ||
		 (options->open_factor >= 1 && options->open_factor <= 1e300));
}

static bool options_valid(const struct evwork_breaker_options *options)
{
	bool needs_loop = options->automatic || options->on_transition || options->on_exceeded;

	return counts_valid(options) && times_valid(options) &&
		(options->loop ? !options->clock : !needs_loop);
}

static int64_t ns_or(int64_t ms, int64_t default_ms)
{
	return sys_time_mul(ms ? ms : default_ms, SYS_NS_PER_MS);
}

static int smaller(int a, int b)
{
	return a < b ? a : b;
}

static enum evwork_outcome classify_default(int status, void *arg)
{
	(void)arg;
	if (status == 0)
		return EVWORK_SUCCESS;
	/* A caller who left tells nothing of the dependency, nor does a breaker below. */
	return status == -ECANCELED || status == -EHOSTDOWN ? EVWORK_IGNORE : EVWORK_FAILURE;
}

static void fill_counts(struct breaker_config *config,
	const struct evwork_breaker_options *options)
{
	config->initial = options->initial;
	config->rule = options->rule;
	config->trial_rule = options->trial_rule;
	config->window = options->window ? options->window : EVWORK_BREAKER_WINDOW_DEFAULT;
	config->min_calls = options->min_calls ? options->min_calls :
		EVWORK_BREAKER_MIN_CALLS_DEFAULT;
	config->trials = options->trials ? options->trials : EVWORK_BREAKER_TRIALS_DEFAULT;
	config->trial_calls = smaller(config->min_calls, config->trials);
	if (!options->slot_ms)
		config->min_calls = smaller(config->min_calls, config->window);
	config->in_a_row = options->in_a_row ? options->in_a_row :
		EVWORK_BREAKER_IN_A_ROW_DEFAULT;
	config->failure_percent = options->failure_percent > 0 ? options->failure_percent :
		EVWORK_BREAKER_FAILURE_PERCENT_DEFAULT;
	config->slow_percent = options->slow_percent > 0 ? options->slow_percent :
		EVWORK_BREAKER_SLOW_PERCENT_DEFAULT;
}

static void fill_config(struct breaker_config *config,
	const struct evwork_breaker_options *options)
{
	fill_counts(config, options);
	config->slot_ns = sys_time_mul(options->slot_ms, SYS_NS_PER_MS);
	config->slow_ns = ns_or(options->slow_ms, EVWORK_BREAKER_SLOW_MS_DEFAULT);
	config->open_ns = ns_or(options->open_ms, EVWORK_BREAKER_OPEN_MS_DEFAULT);
	config->open_max_ns = options->open_max_ms ? ns_or(options->open_max_ms, 0) :
		EVWORK_NEVER;
	config->open_factor = options->open_factor > 0 ? options->open_factor : 1;
	config->half_open_ns = sys_time_mul(options->half_open_ms, SYS_NS_PER_MS);
	config->undecided_closes = options->undecided_closes;
	config->automatic = options->automatic;
	config->classify = options->classify ? options->classify : classify_default;
	config->on_transition = options->on_transition;
	config->on_exceeded = options->on_exceeded;
	config->arg = options->arg;
}

/* The guard of lanes. */

static int guard_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit);
static void guard_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end);

/* Making and freeing. */

static void destroy(struct notice *notice)
{
	struct evwork_breaker *breaker = EVWORK_CONTAINER(notice, struct evwork_breaker, notice);

	clock_leave(breaker->clock, &breaker->clock_user);
	sys_mutex_fini(&breaker->mutex);
	breaker_window_fini(&breaker->window);
	sys_free(breaker->notices);
	sys_free(breaker);
}

static int breaker_init(struct evwork_breaker *breaker,
	const struct evwork_breaker_options *options)
{
	int rc;

	breaker->guard.acquire = guard_acquire;
	breaker->guard.release = guard_release;
	breaker->made_in = fork_here();
	breaker->clock = options->loop ? options->loop->clock : options->clock;
	fill_config(&breaker->config, options);
	rc = sys_mutex_init_spinning(&breaker->mutex);
	if (rc)
		return rc;
	rc = breaker_window_init(&breaker->window, breaker->config.window,
		breaker->config.slot_ns);
	if (rc)
		goto fini_mutex;
	rc = breaker_notice_init(breaker, options->loop, destroy);
	if (rc)
		goto fini_window;
	clock_join(breaker->clock, &breaker->clock_user);
	sys_lock(&breaker->mutex);
	breaker_start(breaker);
	breaker_unlock(breaker);
	return 0;

fini_window:
	breaker_window_fini(&breaker->window);
fini_mutex:
	sys_mutex_fini(&breaker->mutex);
	return rc;
}

int evwork_breaker_new(const struct evwork_breaker_options *options,
	struct evwork_breaker **ret_breaker)
{
	struct evwork_breaker *breaker;
	int rc;

	if (!options || !ret_breaker || !options_valid(options))
		return -EINVAL;
	if ((options->loop && options->loop->inherited) || clock_inherited(options->clock))
		return -ESHUTDOWN;
	rc = fork_notice();
	if (rc)
		return rc;
	breaker = sys_zalloc(sizeof(*breaker));
	if (!breaker)
		return -ENOMEM;
	rc = breaker_init(breaker, options);
	if (rc) {
		sys_free(breaker);
		return rc;
	}
	*ret_breaker = breaker;
	return 0;
}

int evwork_breaker_free(struct evwork_breaker *breaker)
{
	if (!breaker)
		return 0;
	if (inherited(breaker)) {
		/* Its lock stays as it is, and so does the list of the clock. */
		breaker_window_fini(&breaker->window);
		sys_free(breaker->notices);
		sys_free(breaker);
		return 0;
	}
	return notice_end(&breaker->notice);
}

struct evwork_guard *evwork_breaker_guard(struct evwork_breaker *breaker)
{
	return breaker ? &breaker->guard : NULL;
}

/* Permits. */

static int take_permit(struct evwork_breaker *breaker, uint64_t *ret_generation)
{
	uint64_t gate;
	int rc;

	if (inherited(breaker))
		return -ESHUTDOWN;
	gate = gate_now(breaker);
	if (state_lets_all_through(gate_state(gate))) {
		*ret_generation = gate;
		return 0;
	}
	sys_lock(&breaker->mutex);
	rc = breaker_admit_locked(breaker, ret_generation);
	breaker_unlock(breaker);
	return rc;
}

static void record(struct evwork_breaker *breaker, uint64_t generation,
	enum evwork_outcome outcome, int64_t duration_ns)
{
	/* Before the lock, not to keep others waiting for the clock. */
	int64_t now_ns = breaker->config.slot_ns ? clock_now(breaker->clock) : 0;

	sys_lock(&breaker->mutex);
	breaker_record_locked(breaker, generation, outcome, duration_ns, now_ns);
	breaker_unlock(breaker);
}

static bool outcome_valid(enum evwork_outcome outcome)
{
	return outcome >= EVWORK_SUCCESS && outcome <= EVWORK_IGNORE;
}

int evwork_breaker_acquire(struct evwork_breaker *breaker, struct evwork_breaker_permit *permit)
{
	int rc;

	if (!breaker || !permit)
		return -EINVAL;
	/* Relaxed: who uses one permit on several threads must order that himself; only
	 * who reports is found out, see below. */
	if (__atomic_load_n(&permit->_state, __ATOMIC_RELAXED) == PERMIT_HELD)
		return -EBUSY;
	rc = take_permit(breaker, &permit->_generation);
	if (rc)
		return rc;
	permit->_breaker = breaker;
	__atomic_store_n(&permit->_state, PERMIT_HELD, __ATOMIC_RELAXED);
	return 0;
}

int evwork_breaker_report(struct evwork_breaker_permit *permit, enum evwork_outcome outcome,
	int64_t duration_ns)
{
	uint32_t held = PERMIT_HELD;

	if (!permit || !outcome_valid(outcome) || duration_ns < 0)
		return -EINVAL;
	if (__atomic_load_n(&permit->_state, __ATOMIC_RELAXED) == PERMIT_HELD &&
	    inherited(permit->_breaker))
		return -ESHUTDOWN;
	/* Relaxed: of several who report one wins, and nothing else is passed on. */
	if (!__atomic_compare_exchange_n(&permit->_state, &held, PERMIT_REPORTED, false,
			__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return held == PERMIT_REPORTED ? -EALREADY : -ESRCH;
	record(permit->_breaker, permit->_generation, outcome, duration_ns);
	return 0;
}

int evwork_breaker_report_status(struct evwork_breaker_permit *permit, int status,
	int64_t duration_ns)
{
	const struct breaker_config *config;
	uint32_t state;

	if (!permit || duration_ns < 0)
		return -EINVAL;
	state = __atomic_load_n(&permit->_state, __ATOMIC_RELAXED);
	if (state != PERMIT_HELD)
		return state == PERMIT_REPORTED ? -EALREADY : -ESRCH;
	config = &permit->_breaker->config;
	return evwork_breaker_report(permit, config->classify(status, config->arg), duration_ns);
}

void evwork_breaker_drop(struct evwork_breaker_permit *permit)
{
	if (permit)
		evwork_breaker_report(permit, EVWORK_IGNORE, 0);
}

static int guard_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	(void)job;
	return take_permit(EVWORK_CONTAINER(guard, struct evwork_breaker, guard),
		&permit->token);
}

static void guard_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	struct evwork_breaker *breaker = EVWORK_CONTAINER(guard, struct evwork_breaker, guard);
	enum evwork_outcome outcome = end->outcome;

	if (inherited(breaker))
		return;
	if (outcome != EVWORK_IGNORE)
		outcome = breaker->config.classify(end->status, breaker->config.arg);
	record(breaker, permit->token, outcome_valid(outcome) ? outcome : EVWORK_IGNORE,
		end->run_ns);
}

/* Looking, and moving by hand. */

int evwork_breaker_state(struct evwork_breaker *breaker)
{
	enum evwork_breaker_state state;

	if (!breaker)
		return -EINVAL;
	if (inherited(breaker))
		return -ESHUTDOWN;
	sys_lock(&breaker->mutex);
	breaker_advance_locked(breaker);
	state = gate_state(gate_now(breaker));
	breaker_unlock(breaker);
	return (int)state;
}

int evwork_breaker_set(struct evwork_breaker *breaker, enum evwork_breaker_state state)
{
	int rc;

	if (!breaker || state < EVWORK_BREAKER_CLOSED || state > EVWORK_BREAKER_METRICS_ONLY)
		return -EINVAL;
	if (inherited(breaker))
		return -ESHUTDOWN;
	sys_lock(&breaker->mutex);
	rc = breaker_set_locked(breaker, state);
	breaker_unlock(breaker);
	return rc;
}

int evwork_breaker_reset(struct evwork_breaker *breaker)
{
	int rc;

	if (!breaker)
		return -EINVAL;
	if (inherited(breaker))
		return -ESHUTDOWN;
	sys_lock(&breaker->mutex);
	rc = breaker_set_locked(breaker, EVWORK_BREAKER_CLOSED);
	if (rc == 0)
		memset(&breaker->counts, 0, sizeof(breaker->counts));
	breaker_unlock(breaker);
	return rc;
}

int evwork_breaker_metrics(struct evwork_breaker *breaker,
	struct evwork_breaker_metrics *ret_metrics)
{
	if (!breaker || !ret_metrics)
		return -EINVAL;
	if (inherited(breaker))
		return -ESHUTDOWN;
	sys_lock(&breaker->mutex);
	breaker_advance_locked(breaker);
	*ret_metrics = breaker->counts;
	ret_metrics->state = gate_state(gate_now(breaker));
	ret_metrics->trials_out = breaker->trials_out;
	ret_metrics->open_until_ns = ret_metrics->state == EVWORK_BREAKER_OPEN ?
		breaker->until_ns : 0;
	breaker_rates_locked(breaker, ret_metrics);
	breaker_unlock(breaker);
	return 0;
}
