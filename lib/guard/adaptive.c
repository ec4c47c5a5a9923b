/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Limits as the caller sees them: options, tokens, the guard of lanes, the limit itself.
 * Who waits is in adaptive_wait.c, how the limit moves in limit.c.
 */

#include "guard/adaptive.h"

#include <errno.h>

#include "base/fork.h"
#include "run/loop.h"

bool adaptive_inherited(const struct evwork_adaptive *adaptive)
{
	return adaptive->made_in != fork_here();
}

/* Options. A comparison with NaN is false, so it never passes. */

static bool options_valid(const struct evwork_adaptive_options *options)
{
	bool fixed = options->algorithm == EVWORK_ADAPTIVE_FIXED;

	return options->algorithm >= EVWORK_ADAPTIVE_AIMD &&
		options->algorithm <= EVWORK_ADAPTIVE_FIXED &&
		options->limit >= 0 && options->limit <= EVWORK_ADAPTIVE_LIMIT_MAX &&
		options->min >= 0 && options->max >= 0 &&
		options->max <= EVWORK_ADAPTIVE_LIMIT_MAX &&
		(!fixed || (options->min == 0 && options->max == 0)) &&
		(options->ratio == 0 || (options->ratio >= 0.5 && options->ratio < 1)) &&
		options->timeout_ms >= 0 && (options->loop || !options->on_limit);
}

static int between(int value, int min, int max)
{
	return value < min ? min : value > max ? max : value;
}

/* Fills in config and the limit that it begins with; -EINVAL. */
static int fill_limits(struct limit_config *config, const struct evwork_adaptive_options *options,
	int *ret_limit)
{
	bool fixed = options->algorithm == EVWORK_ADAPTIVE_FIXED;

	config->algorithm = fixed ? &limit_fixed : &limit_aimd;
	config->min = fixed ? 0 : options->min ? options->min : 1;
	config->max = fixed ? EVWORK_ADAPTIVE_LIMIT_MAX : options->max ? options->max :
		EVWORK_ADAPTIVE_MAX_DEFAULT;
	config->ratio = options->ratio > 0 ? options->ratio : 0.9;
	config->timeout_ns = options->timeout_ms ?
		sys_time_mul(options->timeout_ms, SYS_NS_PER_MS) : EVWORK_NEVER;
	if (config->min > config->max)
		return -EINVAL;
	*ret_limit = options->limit || fixed ? options->limit :
		between(EVWORK_ADAPTIVE_LIMIT_DEFAULT, config->min, config->max);
	return *ret_limit < config->min || *ret_limit > config->max ? -EINVAL : 0;
}

static enum evwork_adaptive_outcome classify_default(int status, void *arg)
{
	(void)arg;
	if (status == 0)
		return EVWORK_ADAPTIVE_SUCCESS;
	return status == -ETIMEDOUT || status == -EAGAIN ? EVWORK_ADAPTIVE_DROP :
		EVWORK_ADAPTIVE_IGNORE;
}

/* Announcing. */

static void tell(struct notice *notice, bool last)
{
	struct evwork_adaptive *adaptive = EVWORK_CONTAINER(notice, struct evwork_adaptive,
		notice);
	int from = adaptive->told, to;

	(void)last;
	sys_lock(&adaptive->mutex);
	to = adaptive->counts.limit;
	adaptive->told = to;
	sys_unlock(&adaptive->mutex);
	if (from != to && adaptive->on_limit)
		adaptive->on_limit(adaptive, from, to, adaptive->arg);
}

static void set_limit_locked(struct evwork_adaptive *adaptive, int limit)
{
	if (limit == adaptive->counts.limit)
		return;
	adaptive->counts.limit = limit;
	if (adaptive->on_limit)
		notice_raise_locked(&adaptive->notice);
	adaptive_serve_locked(adaptive);
}

/* Tokens. */

bool adaptive_take_locked(struct evwork_adaptive *adaptive)
{
	/* Where there is room nobody waits who could be served. */
	if (adaptive->counts.in_flight >= adaptive->counts.limit) {
		adaptive->counts.refused++;
		return false;
	}
	adaptive->counts.in_flight++;
	adaptive->counts.allowed++;
	return true;
}

void adaptive_give_back_locked(struct evwork_adaptive *adaptive)
{
	adaptive->counts.in_flight--;
	adaptive_serve_locked(adaptive);
}

static int take(struct evwork_adaptive *adaptive)
{
	bool taken;

	if (adaptive_inherited(adaptive))
		return -ESHUTDOWN;
	sys_lock(&adaptive->mutex);
	taken = adaptive_take_locked(adaptive);
	sys_unlock(&adaptive->mutex);
	return taken ? 0 : -EAGAIN;
}

static void give_back(struct evwork_adaptive *adaptive, enum evwork_adaptive_outcome outcome,
	int64_t rtt_ns)
{
	struct limit_sample sample = { .dropped = outcome == EVWORK_ADAPTIVE_DROP,
		.rtt_ns = rtt_ns };
	int limit;

	sys_lock(&adaptive->mutex);
	adaptive->counts.success += outcome == EVWORK_ADAPTIVE_SUCCESS;
	adaptive->counts.dropped += outcome == EVWORK_ADAPTIVE_DROP;
	adaptive->counts.ignored += outcome == EVWORK_ADAPTIVE_IGNORE;
	sample.limit = limit = adaptive->counts.limit;
	sample.in_flight = adaptive->counts.in_flight;
	if (outcome != EVWORK_ADAPTIVE_IGNORE)
		limit = limit_next(&adaptive->config, &sample);
	/* The limit first, or one would be served that a lower limit does not allow. */
	set_limit_locked(adaptive, limit);
	adaptive_give_back_locked(adaptive);
	sys_unlock(&adaptive->mutex);
}

int evwork_adaptive_acquire(struct evwork_adaptive *adaptive,
	struct evwork_adaptive_token *token)
{
	int rc;

	if (!adaptive || !token)
		return -EINVAL;
	/* Relaxed: who uses one token on several threads must order that himself; only who
	 * ends it is found out, see below. */
	if (__atomic_load_n(&token->_state, __ATOMIC_RELAXED) == TOKEN_HELD)
		return -EBUSY;
	rc = take(adaptive);
	if (rc)
		return rc;
	token->_adaptive = adaptive;
	__atomic_store_n(&token->_state, TOKEN_HELD, __ATOMIC_RELAXED);
	return 0;
}

static bool outcome_valid(enum evwork_adaptive_outcome outcome)
{
	return outcome >= EVWORK_ADAPTIVE_SUCCESS && outcome <= EVWORK_ADAPTIVE_IGNORE;
}

int evwork_adaptive_end(struct evwork_adaptive_token *token,
	enum evwork_adaptive_outcome outcome, int64_t rtt_ns)
{
	uint32_t state;

	if (!token || !outcome_valid(outcome) || rtt_ns < 0)
		return -EINVAL;
	state = __atomic_load_n(&token->_state, __ATOMIC_RELAXED);
	if (state == TOKEN_HELD) {
		if (adaptive_inherited(token->_adaptive))
			return -ESHUTDOWN;
		if (token->_adaptive->config.algorithm->needs_rtt && rtt_ns == 0 &&
		    outcome != EVWORK_ADAPTIVE_IGNORE)
			return -EINVAL;
	}
	/* Relaxed: of several who end it one wins, and nothing else is passed on. */
	state = TOKEN_HELD;
	if (!__atomic_compare_exchange_n(&token->_state, &state, TOKEN_ENDED, false,
			__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return state == TOKEN_ENDED ? -EALREADY : -EINVAL;
	give_back(token->_adaptive, outcome, rtt_ns);
	return 0;
}

void evwork_adaptive_drop(struct evwork_adaptive_token *token)
{
	if (token)
		evwork_adaptive_end(token, EVWORK_ADAPTIVE_IGNORE, 0);
}

/* The guard of lanes. */

static int guard_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	(void)job;
	(void)permit;
	return take(EVWORK_CONTAINER(guard, struct evwork_adaptive, guard));
}

static void guard_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	struct evwork_adaptive *adaptive = EVWORK_CONTAINER(guard, struct evwork_adaptive, guard);
	enum evwork_adaptive_outcome outcome = EVWORK_ADAPTIVE_IGNORE;

	(void)permit;
	if (adaptive_inherited(adaptive))
		return;
	if (end->outcome != EVWORK_IGNORE)
		outcome = adaptive->classify(end->status, adaptive->arg);
	if (!outcome_valid(outcome))
		outcome = EVWORK_ADAPTIVE_IGNORE;
	give_back(adaptive, outcome, end->run_ns);
}

struct evwork_guard *evwork_adaptive_guard(struct evwork_adaptive *adaptive)
{
	return adaptive ? &adaptive->guard : NULL;
}

/* Making and freeing. */

static void destroy(struct notice *notice)
{
	struct evwork_adaptive *adaptive = EVWORK_CONTAINER(notice, struct evwork_adaptive,
		notice);

	sys_mutex_fini(&adaptive->mutex);
	sys_free(adaptive);
}

static int adaptive_init(struct evwork_adaptive *adaptive,
	const struct evwork_adaptive_options *options)
{
	int rc = sys_mutex_init_spinning(&adaptive->mutex);

	if (rc)
		return rc;
	adaptive->guard.acquire = guard_acquire;
	adaptive->guard.release = guard_release;
	adaptive->made_in = fork_here();
	adaptive->queue_limit = options->queue_limit ? options->queue_limit :
		EVWORK_ADAPTIVE_QUEUE_DEFAULT;
	adaptive->classify = options->classify ? options->classify : classify_default;
	adaptive->on_limit = options->on_limit;
	adaptive->arg = options->arg;
	adaptive->told = adaptive->counts.limit;
	adaptive->notice.mutex = &adaptive->mutex;
	adaptive->notice.tell = tell;
	adaptive->notice.destroy = destroy;
	if (options->loop)
		rc = notice_begin(&adaptive->notice, options->loop);
	if (rc)
		sys_mutex_fini(&adaptive->mutex);
	return rc;
}

int evwork_adaptive_new(const struct evwork_adaptive_options *options,
	struct evwork_adaptive **ret_adaptive)
{
	struct evwork_adaptive *adaptive;
	struct limit_config config;
	int limit, rc;

	if (!options || !ret_adaptive || !options_valid(options) ||
	    fill_limits(&config, options, &limit) != 0)
		return -EINVAL;
	if (options->loop && options->loop->inherited)
		return -ESHUTDOWN;
	rc = fork_notice();
	if (rc)
		return rc;
	adaptive = sys_zalloc(sizeof(*adaptive));
	if (!adaptive)
		return -ENOMEM;
	adaptive->config = config;
	adaptive->counts.limit = limit;
	rc = adaptive_init(adaptive, options);
	if (rc) {
		sys_free(adaptive);
		return rc;
	}
	*ret_adaptive = adaptive;
	return 0;
}

int evwork_adaptive_free(struct evwork_adaptive *adaptive)
{
	bool busy;

	if (!adaptive)
		return 0;
	if (adaptive_inherited(adaptive)) {
		/* Its lock stays as it is. */
		sys_free(adaptive);
		return 0;
	}
	if (!notice_may_end(&adaptive->notice))
		return -EPERM;
	sys_lock(&adaptive->mutex);
	busy = adaptive->counts.in_flight || adaptive->pending;
	sys_unlock(&adaptive->mutex);
	return busy ? -EBUSY : notice_end(&adaptive->notice);
}

/* The limit. */

int evwork_adaptive_set(struct evwork_adaptive *adaptive, int limit)
{
	if (!adaptive || limit < adaptive->config.min || limit > adaptive->config.max)
		return -EINVAL;
	if (adaptive_inherited(adaptive))
		return -ESHUTDOWN;
	sys_lock(&adaptive->mutex);
	set_limit_locked(adaptive, limit);
	sys_unlock(&adaptive->mutex);
	return 0;
}

int evwork_adaptive_metrics(struct evwork_adaptive *adaptive,
	struct evwork_adaptive_metrics *ret_metrics)
{
	if (!adaptive || !ret_metrics)
		return -EINVAL;
	if (adaptive_inherited(adaptive))
		return -ESHUTDOWN;
	sys_lock(&adaptive->mutex);
	*ret_metrics = adaptive->counts;
	sys_unlock(&adaptive->mutex);
	return 0;
}
