/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Gates as a whole: options, what the loop calls, the end. What shuts them is in
 * gate_look.c, what they shut in inlet.c.
 */

#include "guard/gate.h"

#include <errno.h>
#include <string.h>

#include "guard/limiter.h"
#include "run/turn.h"

/* So many inlets are switched off in one turn: that costs a system call each. */
#define PAUSE_BATCH 64
/* Where a lane without a limit is said to be full. */
#define QUEUE_HIGH_UNBOUNDED (EVWORK_QUEUE_LIMIT_DEFAULT / 2)

/* Options. */

static bool options_valid(const struct evwork_gate_options *options,
	const struct evwork_loop *loop)
{
	return options->age_high_ms >= 0 && options->age_low_ms >= 0 &&
		options->tokens >= 0 && options->tokens_open >= 0 &&
		options->batch >= 0 && options->share >= 0 &&
		(options->queue_low == 0 || options->queue_low < options->queue_high) &&
		(options->age_low_ms == 0 || options->age_low_ms < options->age_high_ms) &&
		(options->tokens_open == 0 ||
		 options->tokens_open >= (options->tokens ? options->tokens : 1)) &&
		(!options->limiter || options->limiter->clock == loop->clock);
}

/* 0; -ERANGE: never; -ESHUTDOWN: it is of the parent of a fork. */
static int limiter_can_have(const struct evwork_gate_options *options)
{
	int64_t most = options->tokens_open ? options->tokens_open : options->tokens, wait;

	return options->limiter ? evwork_limiter_retry_after(options->limiter, most ? most : 1,
		&wait) : 0;
}

static bool watches_lane(const struct evwork_gate_options *options)
{
	return options->queue_high || options->age_high_ms || !options->limiter;
}

/* The lane to be watched: NULL if none is, or there is none. */
static struct evwork_lane *lane_of(const struct evwork_gate_options *options,
	const struct evwork_loop *loop)
{
	if (!watches_lane(options))
		return NULL;
	return options->lane ? options->lane : loop->lane;
}

static size_t queue_high(const struct evwork_gate_options *options,
	const struct evwork_lane *lane)
{
	if (options->queue_high || options->age_high_ms || options->limiter)
		return options->queue_high;
	if (lane->queue_limit == EVWORK_UNBOUNDED)
		return QUEUE_HIGH_UNBOUNDED;
	return lane->queue_limit > 1 ? lane->queue_limit / 2 : 1;
}

static void set_options(struct evwork_gate *gate, const struct evwork_gate_options *options)
{
	strncpy(gate->name, options->name ? options->name : "gate", sizeof(gate->name) - 1);
	if (gate->lane)
		gate->queue_high = queue_high(options, gate->lane);
	gate->queue_low = options->queue_low ? options->queue_low : gate->queue_high / 2;
	gate->age_high_ns = sys_time_mul(options->age_high_ms, SYS_NS_PER_MS);
	gate->age_low_ns = options->age_low_ms ?
		sys_time_mul(options->age_low_ms, SYS_NS_PER_MS) : gate->age_high_ns / 2;
	gate->limiter = options->limiter;
	gate->tokens = options->tokens ? options->tokens : 1;
	gate->tokens_open = options->tokens_open ? options->tokens_open : gate->tokens;
	gate->batch = options->batch ? options->batch : EVWORK_GATE_BATCH_DEFAULT;
	gate->share = options->share ? (uint32_t)options->share : EVWORK_GATE_SHARE_DEFAULT;
}

/* What the loop calls. */

static struct evwork_gate *gate_of(struct notice *notice)
{
	return EVWORK_CONTAINER(notice, struct evwork_gate, notice);
}

/* The loop closes, or is freed by force. */
static void let_go(struct evwork_gate *gate)
{
	gate->over = true;
	gate_stop_awaiting(gate);
	gate_stop_waiting(gate);
}

static void lost(struct notice *notice)
{
	let_go(gate_of(notice));
}

void gate_raise(struct evwork_gate *gate)
{
	if (gate->causes ? !gate->open.head : !gate->paused.head)
		return;
	sys_lock(&gate->mutex);
	notice_raise_locked(&gate->notice);
	sys_unlock(&gate->mutex);
}

void gate_set_alarm(struct evwork_gate *gate, int64_t due_ns)
{
	sys_lock(&gate->mutex);
	notice_alarm_locked(&gate->notice, due_ns);
	sys_unlock(&gate->mutex);
}

/* An inlet of the user's own is a callback like any other. */
static bool may_call(const struct evwork_gate *gate, const struct evwork_inlet *inlet, int moved)
{
	return moved == 0 || !inlet->fn || turn_take(gate->loop);
}

/* Switches some inlets on or off, as the gate is. */
static void move(struct evwork_gate *gate)
{
	unsigned made_in = gate->made_in;
	bool shut = gate->causes != 0;
	int most = shut ? PAUSE_BATCH : gate->batch, moved = 0;

	/* What is called may remove inlets, have the gate looked at, and free it. */
	while (!gate->notice.ended && !gate->over && shut == (gate->causes != 0)) {
		struct evwork_inlet *inlet = shut ? gate->open.head : gate->paused.head;

		if (!inlet)
			return;
		if (moved == most || !may_call(gate, inlet, moved))
			break;
		/* What was in its socket has not been read yet; the others are no older. */
		if (shut && inlet_is_fresh(inlet))
			break;
		moved++;
		if (!(shut ? inlet_pause(inlet, true) : inlet_resume(inlet)))
			return;
		/* In a child that was made in it nothing is touched. */
		if (made_in != fork_here())
			return;
	}
	if (!gate->notice.ended && !gate->over)
		gate_raise(gate);
}

static void tell(struct notice *notice, bool last)
{
	struct evwork_gate *gate = gate_of(notice);

	if (last) {
		let_go(gate);
		return;
	}
	gate->turns++;
	gate_look(gate);
	move(gate);
}

static void ring(struct notice *notice)
{
	struct evwork_gate *gate = gate_of(notice);

	if (!gate->over)
		gate_look(gate);
}

void gate_stop_waiting(struct evwork_gate *gate)
{
	if (gate->waits)
		loop_wait_end(gate->loop);
	gate->waits = false;
}

/* Beginning and end. */

void gate_destroy(struct evwork_gate *gate)
{
	/* The letter is on its way: it is the last that needs the gate. */
	if (gate->awaiting) {
		gate->doomed = true;
		return;
	}
	sys_mutex_fini(&gate->mutex);
	sys_free(gate);
}

static void destroy(struct notice *notice)
{
	gate_destroy(gate_of(notice));
}

static int gate_init(struct evwork_gate *gate, struct evwork_loop *loop,
	const struct evwork_gate_options *options)
{
	int rc = sys_mutex_init(&gate->mutex);

	if (rc)
		return rc;
	gate->loop = loop;
	gate->thread = loop->thread;
	gate->made_in = fork_here();
	gate->lane = lane_of(options, loop);
	set_options(gate, options);
	gate_look_init(gate);
	gate->notice.mutex = &gate->mutex;
	gate->notice.tell = tell;
	gate->notice.ring = ring;
	gate->notice.lost = lost;
	gate->notice.destroy = destroy;
	rc = notice_begin(&gate->notice, loop);
	if (rc)
		sys_mutex_fini(&gate->mutex);
	return rc;
}

int evwork_gate_new(struct evwork_loop *loop, const struct evwork_gate_options *options,
	struct evwork_gate **ret_gate)
{
	static const struct evwork_gate_options defaults;
	struct evwork_lane *lane;
	struct evwork_gate *gate;
	int rc;

	if (!options)
		options = &defaults;
	if (!loop || !ret_gate || !options_valid(options, loop))
		return -EINVAL;
	if (loop->inherited)
		return -ESHUTDOWN;
	lane = lane_of(options, loop);
	if (!lane && watches_lane(options))
		return -EINVAL;
	if (!loop_is_here(loop))
		return -EPERM;
	if (atomic_load_explicit(&loop->closing, memory_order_relaxed) ||
	    (lane && lane->pool->inherited))
		return -ESHUTDOWN;
	rc = limiter_can_have(options);
	if (rc)
		return rc;
	if (lane && options->queue_high > lane->queue_limit)
		return -ERANGE;
	gate = sys_zalloc(sizeof(*gate));
	if (!gate)
		return -ENOMEM;
	rc = gate_init(gate, loop, options);
	if (rc) {
		sys_free(gate);
		return rc;
	}
	*ret_gate = gate;
	return 0;
}

int evwork_gate_free(struct evwork_gate *gate)
{
	if (!gate)
		return 0;
	if (gate_is_inherited(gate)) {
		/* Its lock stays as it is. */
		sys_free(gate);
		return 0;
	}
	if (!pthread_equal(gate->thread, pthread_self()))
		return -EPERM;
	if (atomic_load_explicit(&gate->inlets, memory_order_relaxed))
		return -EBUSY;
	if (!gate->over)
		gate_stop_awaiting(gate);
	return notice_end(&gate->notice);
}

const char *evwork_gate_name(const struct evwork_gate *gate)
{
	return gate ? gate->name : NULL;
}

static uint64_t count_of(_Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

int evwork_gate_stats(struct evwork_gate *gate, struct evwork_gate_stats *ret_stats)
{
	if (!gate || !ret_stats)
		return -EINVAL;
	ret_stats->inlets = count_of(&gate->inlets);
	ret_stats->paused = count_of(&gate->paused_count);
	ret_stats->shut = atomic_load_explicit(&gate->shut, memory_order_relaxed);
	ret_stats->shut_queue = count_of(&gate->shuts[0]);
	ret_stats->shut_age = count_of(&gate->shuts[1]);
	ret_stats->shut_limiter = count_of(&gate->shuts[2]);
	ret_stats->passed = count_of(&gate->passed);
	ret_stats->held = count_of(&gate->held);
	ret_stats->resumed = count_of(&gate->resumed);
	ret_stats->yielded = count_of(&gate->yielded);
	return 0;
}
