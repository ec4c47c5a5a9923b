/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Maps: that every index is worked on once and how many at a time, how errors, cancels,
 * deadlines and closings end a map, what is refused, waiting and freeing, and that a map
 * is started whole or not at all when the system fails.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <limits.h>
#include <pthread.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define MILLION 1000000
#define START_NS INT64_C(1000000000)

/* For what is asserted of every element: Check's own record would take longer than the
 * test. On the test's own thread only. */
#define expect(condition, format, ...) do { \
	if (!(condition)) \
		ck_abort_msg("%s does not hold: " format, #condition, __VA_ARGS__); \
} while (0)

/* How often each index was worked on. */
static atomic_uchar tried[MILLION];

/* A map under test, and what its work and done have seen. */
struct trial {
	struct world world;
	struct evwork_map_options options;
	struct evwork_map *map;
	struct gate gate;
	/* What is done with an index once it was counted; NULL: nothing. */
	evwork_map_fn act;
	atomic_int calls, inside, peak;
	size_t held_from;              /* for pass_gate */
	struct evwork_ctx *parent;     /* for those who kill it */
	atomic_int rc;                 /* what some call of the work returned */
	atomic_int flaws;              /* what the work has found wrong */

	bool free_in_done;
	int dones, status, free_rc, cancel_rc;
	pthread_t done_thread;
};

static int work(struct evwork_map *map, size_t index, void *item, void *result)
{
	struct trial *trial = evwork_map_arg(map);
	int now = atomic_fetch_add(&trial->inside, 1) + 1, peak = atomic_load(&trial->peak), rc;

	while (now > peak && !atomic_compare_exchange_weak(&trial->peak, &peak, now))
		;
	atomic_fetch_add(&tried[index], 1);
	atomic_fetch_add(&trial->calls, 1);
	rc = trial->act ? trial->act(map, index, item, result) : 0;
	atomic_fetch_sub(&trial->inside, 1);
	return rc;
}

static void done(struct evwork_map *map, int status, void *arg)
{
	struct trial *trial = arg;

	trial->dones++;
	trial->status = status;
	trial->done_thread = pthread_self();
	if (!trial->free_in_done)
		return;
	trial->free_rc = evwork_map_free(map);
	trial->map = NULL;
}

/* Everything but the world. */
static void trial_set(struct trial *trial, size_t count)
{
	size_t i;

	for (i = 0; i < LENGTH(tried); i++)
		atomic_store_explicit(&tried[i], 0, memory_order_relaxed);
	gate_init(&trial->gate);
	trial->status = trial->free_rc = 1;
	atomic_store(&trial->rc, 1);
	trial->options.fn = work;
	trial->options.done = done;
	trial->options.arg = trial;
	trial->options.count = count;
}

static void trial_open(struct trial *trial, int workers, size_t count)
{
	memset(trial, 0, sizeof(*trial));
	world_open(&trial->world, workers);
	trial_set(trial, count);
}

static void trial_open_manual(struct trial *trial, int workers, size_t count)
{
	memset(trial, 0, sizeof(*trial));
	world_open_manual(&trial->world, workers, START_NS);
	trial_set(trial, count);
}

static int try_start(struct trial *trial)
{
	return evwork_map_start(trial->world.loop, &trial->options, &trial->map);
}

static void start(struct trial *trial)
{
	ck_assert_int_eq(try_start(trial), 0);
	ck_assert_ptr_nonnull(trial->map);
}

/* Runs the base until done has come, and some turns in which it must not come again. */
static void finish(struct trial *trial, int status)
{
	gate_open(&trial->gate);
	world_run_until(&trial->world, &trial->dones, 1);
	world_turns(&trial->world, 3);
	ck_assert_int_eq(trial->dones, 1);
	ck_assert_int_eq(trial->status, status);
	ck_assert(pthread_equal(trial->done_thread, pthread_self()));
	ck_assert_int_eq(atomic_load(&trial->inside), 0);
	ck_assert_int_eq(atomic_load(&trial->flaws), 0);
}

static void trial_close(struct trial *trial)
{
	ck_assert_int_eq(evwork_map_free(trial->map), 0);
	evwork_ctx_unref(trial->parent);
	world_run(&trial->world);
	ck_assert_int_le(trial->dones, 1);
	world_close(&trial->world);
	gate_fini(&trial->gate);
}

/* The state and status of one index. */
static void expect_state(struct trial *trial, size_t index, int state, int status)
{
	int found = 1, rc = evwork_map_state(trial->map, index, &found);

	expect(rc == state && found == status, "index %zu: state %d, status %d", index, rc, found);
	expect(evwork_map_state(trial->map, index, NULL) == state, "%zu", index);
	if (trial->options.result_size)
		expect((evwork_map_result(trial->map, index) != NULL) ==
			(state == EVWORK_MEMBER_OK), "result of %zu", index);
}

/* Indexes from `first` to below `end` ended well, and were worked on once. */
static void expect_ok(struct trial *trial, size_t first, size_t end)
{
	for (; first < end; first++) {
		expect(atomic_load(&tried[first]) == 1, "index %zu: %d times", first,
			atomic_load(&tried[first]));
		expect_state(trial, first, EVWORK_MEMBER_OK, 0);
	}
}

/* Nobody has touched them. */
static void expect_untried(struct trial *trial, size_t first, size_t end)
{
	for (; first < end; first++) {
		expect(atomic_load(&tried[first]) == 0, "index %zu: %d times", first,
			atomic_load(&tried[first]));
		expect_state(trial, first, EVWORK_MEMBER_NOT_RUN, 0);
	}
}

/* Holds its worker in the gate if the index is one of those to be held. */
static int pass_gate(struct evwork_map *map, size_t index, void *item, void *result)
{
	struct trial *trial = evwork_map_arg(map);

	(void)item;
	(void)result;
	if (index >= trial->held_from)
		gate_pass(&trial->gate);
	return 0;
}

/* Every index once. */

struct result {
	uint64_t index;
	char odd[3];
};

static bool is_zero(const void *memory, size_t size)
{
	const char *bytes = memory;

	while (size > 0 && bytes[size - 1] == 0)
		size--;
	return size == 0;
}

/* Changes its item and fills its slot, which must be empty before. */
static int change_and_fill(struct evwork_map *map, size_t index, void *item, void *result)
{
	struct trial *trial = evwork_map_arg(map);
	struct result *slot = result;
	uint64_t *number = item;

	if (number != (uint64_t *)trial->options.items + index ||
	    !result || !is_zero(result, sizeof(*slot)))
		atomic_fetch_add(&trial->flaws, 1);
	*number = *number * 3 + 1;
	slot->index = index;
	memset(slot->odd, (int)(index % 255) + 1, sizeof(slot->odd));
	return 0;
}

static void expect_filled(struct trial *trial, const uint64_t *items)
{
	size_t i;

	for (i = 0; i < trial->options.count; i++) {
		const struct result *slot = evwork_map_result(trial->map, i);

		expect(items[i] == 3 * i + 1, "item %zu", i);
		expect(slot && slot->index == i && slot->odd[0] == (char)(i % 255 + 1) &&
			slot->odd[2] == slot->odd[0], "slot %zu", i);
	}
}

static const struct {
	size_t count;
	int width;
	size_t grain;
} shapes[] = {
	{ 1, 0, 0 }, { 1, 1, 1 }, { 1, 9, 0 }, { 2, 1, 0 }, { 2, 2, 5 }, { 3, 2, 1 },
	{ 7, 3, 0 }, { 7, 100, 3 }, { 64, 4, 64 }, { 1000, 1, 0 }, { 1001, 2, 7 },
	{ 4097, 3, 1 }, { 4099, 5, 0 }, { 65536, 0, 0 }, { 99991, 4, 13 },
	{ 99991, 3, SIZE_MAX }, { MILLION, 0, 0 }, { MILLION, 7, 1000 }, { MILLION, 1, 0 }
};

/* Whatever number, width and grain, every index is worked on exactly once, changes its
 * own element in the caller's array, of which there is no copy, and leaves its result
 * where its index is (S-FAN-1, S-FAN-2, S-FAN-4). */
START_TEST(every_index_once)
{
	static uint64_t items[MILLION];
	struct trial trial;
	size_t i;

	trial_open(&trial, 4, shapes[_i].count);
	for (i = 0; i < trial.options.count; i++)
		items[i] = i;
	trial.act = change_and_fill;
	trial.options.items = items;
	trial.options.item_size = sizeof(items[0]);
	trial.options.result_size = sizeof(struct result);
	trial.options.width = shapes[_i].width;
	trial.options.grain = shapes[_i].grain;
	start(&trial);
	finish(&trial, 0);
	ck_assert_int_eq(atomic_load(&trial.calls), (int)trial.options.count);
	expect_ok(&trial, 0, trial.options.count);
	expect_filled(&trial, items);
	ck_assert_uint_eq(evwork_map_failed(trial.map), 0);
	trial_close(&trial);
}
END_TEST

static int expect_nothing_given(struct evwork_map *map, size_t index, void *item, void *result)
{
	struct trial *trial = evwork_map_arg(map);

	(void)index;
	if (item || result)
		atomic_fetch_add(&trial->flaws, 1);
	return 0;
}

/* Without an array and results the work gets NULL for them, and there is no result;
 * items without a size are none (S-FAN-1). */
START_TEST(no_array_no_results)
{
	struct trial trial;

	trial_open(&trial, 2, 100);
	trial.act = expect_nothing_given;
	if (_i)
		trial.options.items = &trial;
	start(&trial);
	finish(&trial, 0);
	expect_ok(&trial, 0, 100);
	ck_assert_ptr_null(evwork_map_result(trial.map, 0));
	trial_close(&trial);
}
END_TEST

/* A map of nothing is over in a later turn, with 0, whatever else it was given, and
 * keeps dispatch from returning until then (S-FAN-1). */
START_TEST(nothing_to_do)
{
	struct trial trial;

	trial_open(&trial, 1, 0);
	trial.options.width = _i % 2 ? 5 : 0;
	trial.options.item_size = 8;
	trial.options.result_size = 8;
	if (_i >= 2) {
		ck_assert_int_eq(evwork_ctx_new(NULL, &trial.parent), 0);
		ck_assert_int_eq(evwork_ctx_cancel(trial.parent, 0), 0);
		trial.options.ctx = trial.parent;
	}
	start(&trial);
	ck_assert_int_eq(trial.dones, 0);
	ck_assert_int_eq(evwork_map_free(trial.map), -EBUSY);
	world_run(&trial.world);
	finish(&trial, 0);
	ck_assert_int_eq(atomic_load(&trial.calls), 0);
	ck_assert_int_eq(evwork_map_state(trial.map, 0, NULL), -ENOENT);
	ck_assert_ptr_null(evwork_map_result(trial.map, 0));
	ck_assert_uint_eq(evwork_map_failed(trial.map), 0);
	ck_assert_int_eq(evwork_ctx_err(evwork_map_ctx(trial.map)), -ECANCELED);
	trial_close(&trial);
}
END_TEST

/* How many at a time. */

static const struct {
	int workers, width;
	size_t count, grain;
	int expected;
} widths[] = {
	{ 4, 0, 100, 0, 4 }, { 4, 1, 100, 0, 1 }, { 4, 2, 100, 0, 2 }, { 4, 3, 2, 0, 2 },
	{ 4, 9, 100, 0, 4 }, { 4, 0, 3, 0, 3 }, { 4, 4, 4, 4, 4 }, { 4, 1000, 1000, 1, 4 },
	{ 1, 0, 5, 0, 1 }, { 1, 3, 5, 0, 1 }, { 3, 2, 100, 50, 2 }, { 2, 2, 100000, 0, 2 }
};

static void open_width(struct trial *trial, int i)
{
	trial_open(trial, widths[i].workers, widths[i].count);
	trial->act = pass_gate;
	trial->options.width = widths[i].width;
	trial->options.grain = widths[i].grain;
	start(trial);
}

/* As many elements are worked on at once as width, number and workers allow, and never
 * more than width: a worker that the map leaves alone is free for another job
 * (S-FAN-2; width 0 and a width above the number, S-FAN-1). */
START_TEST(width_is_reached_and_kept)
{
	struct trial trial;
	struct probe probe;

	open_width(&trial, _i);
	gate_await(&trial.gate, widths[_i].expected);
	if (widths[_i].expected < widths[_i].workers) {
		probe_init(&probe, 0);
		ck_assert_int_eq(evwork_submit(trial.world.loop, &probe.job), 0);
		world_run_until(&trial.world, &probe.dones, 1);
	}
	ck_assert_int_eq(atomic_load(&trial.calls), widths[_i].expected);
	ck_assert_int_eq(trial.dones, 0);
	finish(&trial, 0);
	ck_assert_int_eq(atomic_load(&trial.peak), widths[_i].expected);
	expect_ok(&trial, 0, trial.options.count);
	trial_close(&trial);
}
END_TEST

/* Also when elements that took no time are followed by slow ones: the last of them are
 * not all in the range of one worker (S-FAN-2). */
START_TEST(width_is_reached_at_the_end)
{
	struct trial trial;

	trial_open(&trial, widths[_i].workers, widths[_i].count);
	trial.act = pass_gate;
	trial.held_from = widths[_i].count - (size_t)widths[_i].expected;
	trial.options.width = widths[_i].width;
	start(&trial);
	gate_await(&trial.gate, widths[_i].expected);
	ck_assert_int_eq(atomic_load(&trial.inside), widths[_i].expected);
	finish(&trial, 0);
	expect_ok(&trial, 0, trial.options.count);
	trial_close(&trial);
}
END_TEST

/* Errors. */

static bool fails(size_t index)
{
	return index % 7 == 3;
}

/* Fills its slot in any case. */
static int fail_some(struct evwork_map *map, size_t index, void *item, void *result)
{
	(void)map;
	(void)item;
	memset(result, 0xff, sizeof(struct result));
	return fails(index) ? -(int)(1000 + index) : 0;
}

/* COLLECT tries every index; the status is that of the lowest index that failed, good
 * results are kept, failed ones emptied, and each error is there by index (S-FAN-3). */
START_TEST(collect_tries_all)
{
	enum { COUNT = 1000 };
	struct trial trial;
	const char *slots;
	size_t i;

	trial_open(&trial, 3, COUNT);
	trial.act = fail_some;
	trial.options.errors = EVWORK_MAP_COLLECT;
	trial.options.result_size = sizeof(struct result);
	start(&trial);
	finish(&trial, -1003);
	ck_assert_int_eq(atomic_load(&trial.calls), COUNT);
	slots = evwork_map_result(trial.map, 0);
	ck_assert_ptr_nonnull(slots);
	for (i = 0; i < COUNT; i++) {
		expect_state(&trial, i, fails(i) ? EVWORK_MEMBER_FAILED : EVWORK_MEMBER_OK,
			fails(i) ? -(int)(1000 + i) : 0);
		/* Behind what the interface shows: the slots are one array. */
		expect(is_zero(slots + i * sizeof(struct result), sizeof(struct result)) ==
			fails(i), "slot %zu", i);
	}
	ck_assert_uint_eq(evwork_map_failed(trial.map), 143);
	ck_assert_int_eq(evwork_ctx_cause(evwork_map_ctx(trial.map)), -ECANCELED);
	trial_close(&trial);
}
END_TEST

/* Index 1 fails at once, index 0 after the gate. */
static int fail_in_turn(struct evwork_map *map, size_t index, void *item, void *result)
{
	struct trial *trial = evwork_map_arg(map);

	(void)item;
	(void)result;
	if (index == 0)
		gate_pass(&trial->gate);
	return index == 0 ? -5 : index == 1 ? -7 : 0;
}

/* The lowest index counts, not the first in time (S-FAN-3). */
START_TEST(collect_status_is_of_the_lowest_index)
{
	struct trial trial;

	trial_open(&trial, 2, 50);
	trial.act = fail_in_turn;
	trial.options.errors = EVWORK_MAP_COLLECT;
	start(&trial);
	gate_await(&trial.gate, 1);
	while (atomic_load(&trial.calls) < 50)
		sys_yield();
	finish(&trial, -5);
	expect_state(&trial, 0, EVWORK_MEMBER_FAILED, -5);
	expect_state(&trial, 1, EVWORK_MEMBER_FAILED, -7);
	expect_ok(&trial, 2, 50);
	ck_assert_uint_eq(evwork_map_failed(trial.map), 2);
	trial_close(&trial);
}
END_TEST

static int fail_at(struct evwork_map *map, size_t index, void *item, void *result)
{
	struct trial *trial = evwork_map_arg(map);

	(void)item;
	if (result)
		memset(result, 0xff, sizeof(struct result));
	return index == trial->held_from ? 4711 : 0;
}

/* STOP: one worker begins nothing after the index that failed, be it in the middle of a
 * range; what was done before is there, and the map's context is dead of the error
 * (S-FAN-3). */
START_TEST(stop_begins_nothing_more)
{
	static const size_t at[] = { 0, 1, 50, 9999, 50000, 99999 };
	enum { COUNT = 100000 };
	struct trial trial;

	trial_open(&trial, 2, COUNT);
	trial.act = fail_at;
	trial.held_from = at[_i];
	trial.options.width = 1;
	trial.options.result_size = sizeof(struct result);
	start(&trial);
	finish(&trial, 4711);
	ck_assert_int_eq(atomic_load(&trial.calls), (int)at[_i] + 1);
	expect_ok(&trial, 0, at[_i]);
	expect_state(&trial, at[_i], EVWORK_MEMBER_FAILED, 4711);
	expect_untried(&trial, at[_i] + 1, COUNT);
	ck_assert_uint_eq(evwork_map_failed(trial.map), 1);
	ck_assert_int_eq(evwork_ctx_err(evwork_map_ctx(trial.map)), -ECANCELED);
	ck_assert_int_eq(evwork_ctx_cause(evwork_map_ctx(trial.map)), 4711);
	trial_close(&trial);
}
END_TEST

/* Index 0 is begun, then index 1 fails, and only then the others see their context
 * dead, which they return. */
static int fail_then_see(struct evwork_map *map, size_t index, void *item, void *result)
{
	struct trial *trial = evwork_map_arg(map);
	struct evwork_ctx *ctx = evwork_map_ctx(map);

	(void)item;
	(void)result;
	if (index == 1) {
		gate_pass(&trial->gate);
		return -4711;
	}
	gate_pass(&trial->gate);
	while (!evwork_ctx_err(ctx))
		sys_yield();
	return evwork_ctx_err(ctx);
}

/* STOP tells the elements that run at once. What they return for it, which may well
 * come from a lower index, does not become the status, which is the first error in
 * time (S-FAN-3). */
START_TEST(stop_status_is_the_first_in_time)
{
	struct trial trial;

	trial_open(&trial, 3, 100);
	trial.act = fail_then_see;
	start(&trial);
	gate_await(&trial.gate, 3);
	finish(&trial, -4711);
	ck_assert_int_eq(evwork_ctx_cause(evwork_map_ctx(trial.map)), -4711);
	expect_state(&trial, 0, EVWORK_MEMBER_FAILED, -ECANCELED);
	expect_state(&trial, 1, EVWORK_MEMBER_FAILED, -4711);
	expect_state(&trial, 2, EVWORK_MEMBER_FAILED, -ECANCELED);
	expect_untried(&trial, 3, 100);
	ck_assert_uint_eq(evwork_map_failed(trial.map), 3);
	trial_close(&trial);
}
END_TEST

static int owner_dead(struct evwork_map *map, size_t index, void *item, void *result)
{
	(void)map;
	(void)item;
	(void)result;
	return index == 3 ? -EOWNERDEAD : index == 2 ? -ETIMEDOUT : 0;
}

/* The codes of crashes and of contexts are ordinary statuses if work returns them: with
 * COLLECT the rest goes on and a lower index comes first, with STOP they end the map
 * as any other (S-FAN-3). */
START_TEST(special_codes_are_ordinary)
{
	bool collect = _i == 0;
	struct trial trial;

	trial_open(&trial, 1, 10);
	trial.act = owner_dead;
	trial.options.errors = collect ? EVWORK_MAP_COLLECT : EVWORK_MAP_STOP;
	start(&trial);
	finish(&trial, -ETIMEDOUT);
	expect_ok(&trial, 0, 2);
	expect_state(&trial, 2, EVWORK_MEMBER_FAILED, -ETIMEDOUT);
	if (collect) {
		expect_state(&trial, 3, EVWORK_MEMBER_FAILED, -EOWNERDEAD);
		expect_ok(&trial, 4, 10);
	} else {
		expect_untried(&trial, 3, 10);
		ck_assert_int_eq(evwork_ctx_cause(evwork_map_ctx(trial.map)), -ETIMEDOUT);
	}
	trial_close(&trial);
}
END_TEST

/* Cancelling. */

static const enum evwork_map_errors modes[] = { EVWORK_MAP_STOP, EVWORK_MAP_COLLECT };

/* A cancelled map leaves out what was not begun, keeps what was, and comes to its done
 * only when that is through; the second cancel and one of a map that has ended say so
 * (S-FAN-6 for a cancel, S-FAN-3). */
START_TEST(cancel_ends_it)
{
	struct trial trial;

	trial_open(&trial, 2, 100);
	trial.act = pass_gate;
	trial.options.errors = modes[_i];
	trial.options.result_size = 1;
	start(&trial);
	gate_await(&trial.gate, 2);
	ck_assert_int_eq(evwork_map_cancel(trial.map, 77), 0);
	ck_assert_int_eq(evwork_map_cancel(trial.map, 78), -EALREADY);
	world_turns(&trial.world, 3);
	ck_assert_int_eq(trial.dones, 0);
	finish(&trial, -ECANCELED);
	expect_ok(&trial, 0, 2);
	expect_untried(&trial, 2, 100);
	ck_assert_uint_eq(evwork_map_failed(trial.map), 0);
	ck_assert_int_eq(evwork_ctx_cause(evwork_map_ctx(trial.map)), 77);
	ck_assert_int_eq(evwork_map_cancel(trial.map, 0), -EALREADY);
	trial_close(&trial);
}
END_TEST

/* Work that ends its own map, or the context above it, deep in a range. */
static int cancel_deep(struct evwork_map *map, size_t index, void *item, void *result)
{
	struct trial *trial = evwork_map_arg(map);

	(void)item;
	(void)result;
	if (index == trial->held_from)
		atomic_store(&trial->rc, trial->parent ? evwork_ctx_cancel(trial->parent, 0) :
			evwork_map_cancel(map, 0));
	return 0;
}

/* After a cancel not one element more is begun by the worker that knows of it, however
 * long the range it has claimed. */
START_TEST(cancel_holds_within_a_range)
{
	enum { COUNT = 100000, AT = 30001 };
	struct trial trial;

	trial_open(&trial, 1, COUNT);
	trial.act = cancel_deep;
	trial.held_from = AT;
	trial.options.errors = modes[_i % 2];
	if (_i >= 2) {
		ck_assert_int_eq(evwork_ctx_new(NULL, &trial.parent), 0);
		trial.options.ctx = trial.parent;
	}
	start(&trial);
	finish(&trial, -ECANCELED);
	ck_assert_int_eq(atomic_load(&trial.rc), 0);
	ck_assert_int_eq(atomic_load(&trial.calls), AT + 1);
	expect_ok(&trial, 0, AT + 1);
	expect_untried(&trial, AT + 1, COUNT);
	trial_close(&trial);
}
END_TEST

/* Fails once the map's context is dead. */
static int fail_after_death(struct evwork_map *map, size_t index, void *item, void *result)
{
	pass_gate(map, index, item, result);
	return index == 0 ? -4711 : 0;
}

/* The deadline of the context passes: done gets -ETIMEDOUT after what ran has ended,
 * with the results so far and the state of every index; an error after the deadline
 * is that index's only (S-FAN-6). */
START_TEST(deadline_ends_it)
{
	struct trial trial;

	trial_open_manual(&trial, 2, 100);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, trial.world.loop, 10, 0, &trial.parent), 0);
	trial.options.ctx = trial.parent;
	trial.options.errors = modes[_i % 2];
	trial.options.result_size = 5;
	trial.act = _i < 2 ? pass_gate : fail_after_death;
	start(&trial);
	gate_await(&trial.gate, 2);
	ck_assert_int_eq(evwork_clock_advance(trial.world.clock, 9 * SYS_NS_PER_MS), 0);
	world_turns(&trial.world, 3);
	ck_assert_int_eq(evwork_ctx_err(evwork_map_ctx(trial.map)), 0);
	ck_assert_int_eq(evwork_clock_advance(trial.world.clock, SYS_NS_PER_MS), 0);
	world_turns(&trial.world, 3);
	ck_assert_int_eq(evwork_ctx_err(evwork_map_ctx(trial.map)), -ETIMEDOUT);
	ck_assert_int_eq(trial.dones, 0);
	finish(&trial, -ETIMEDOUT);
	if (_i < 2)
		expect_ok(&trial, 0, 1);
	else
		expect_state(&trial, 0, EVWORK_MEMBER_FAILED, -4711);
	expect_ok(&trial, 1, 2);
	expect_untried(&trial, 2, 100);
	ck_assert_uint_eq(evwork_map_failed(trial.map), _i < 2 ? 0 : 1);
	trial_close(&trial);
}
END_TEST

/* A deadline that passes while the loop is stalled is seen by the work (S-FAN-6). */
START_TEST(deadline_without_the_loop)
{
	struct trial trial;

	trial_open_manual(&trial, 1, 100);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, trial.world.loop, 10, 0, &trial.parent), 0);
	trial.options.ctx = trial.parent;
	trial.options.grain = 1;
	trial.act = pass_gate;
	trial.held_from = 40;
	start(&trial);
	gate_await(&trial.gate, 1);
	ck_assert_int_eq(evwork_clock_jump(trial.world.clock, 10 * SYS_NS_PER_MS), 0);
	gate_open(&trial.gate);
	ck_assert_int_eq(evwork_pool_close(trial.world.pool, EVWORK_DRAIN, NULL, NULL, NULL), 0);
	finish(&trial, -ETIMEDOUT);
	expect_ok(&trial, 0, 41);
	expect_untried(&trial, 41, 100);
	trial_close(&trial);
}
END_TEST

/* An error ends the map before its context dies: that is the status, and a later
 * cancel or death of the parent changes nothing (S-FAN-3). */
START_TEST(error_before_the_deadline)
{
	struct trial trial;

	trial_open(&trial, 2, 100);
	ck_assert_int_eq(evwork_ctx_new(NULL, &trial.parent), 0);
	trial.options.ctx = trial.parent;
	trial.act = fail_in_turn;
	start(&trial);
	gate_await(&trial.gate, 1);
	while (!evwork_ctx_err(evwork_map_ctx(trial.map)))
		sys_yield();
	ck_assert_int_eq(evwork_map_cancel(trial.map, 0), -EALREADY);
	ck_assert_int_eq(evwork_ctx_cancel(trial.parent, 0), 0);
	finish(&trial, -7);
	expect_state(&trial, 0, EVWORK_MEMBER_FAILED, -5);
	expect_state(&trial, 1, EVWORK_MEMBER_FAILED, -7);
	expect_untried(&trial, 2, 100);
	trial_close(&trial);
}
END_TEST

/* Refusals. */

/* What must be as before after a refusal. */
struct account {
	struct evwork_lane_stats lane;
	struct evwork_loop_stats loop;
	size_t blocks;
};

static void take_account(struct trial *trial, struct account *account)
{
	ck_assert_int_eq(evwork_lane_stats(evwork_pool_lane(trial->world.pool), &account->lane), 0);
	ck_assert_int_eq(evwork_loop_stats(trial->world.loop, &account->loop), 0);
	account->blocks = sys_blocks();
}

/* Refused with rc, and nothing has come of it, also not in later turns. */
static void expect_refused(struct trial *trial, int rc)
{
	struct account before, after;

	trial->map = (struct evwork_map *)trial;
	take_account(trial, &before);
	ck_assert_int_eq(try_start(trial), rc);
	ck_assert_ptr_eq(trial->map, trial);
	trial->map = NULL;
	world_turns(&trial->world, 2);
	take_account(trial, &after);
	ck_assert_uint_eq(after.lane.accepted, before.lane.accepted);
	ck_assert_uint_eq(after.loop.outstanding, before.loop.outstanding);
	ck_assert_uint_eq(after.blocks, before.blocks);
	ck_assert_int_eq(trial->dones, 0);
	ck_assert_int_eq(atomic_load(&trial->calls), 0);
}

/* Calls that make no sense are refused before anything is done (S-FAN-1: a negative
 * width; S-FAN-4: an array that is not there). */
START_TEST(refused_malformed)
{
	struct evwork_map_options good;
	struct evwork_map *map = NULL;
	struct trial trial;

	trial_open(&trial, 1, 10);
	good = trial.options;
	ck_assert_int_eq(evwork_map_start(NULL, &good, &map), -EINVAL);
	ck_assert_int_eq(evwork_map_start(trial.world.loop, NULL, &map), -EINVAL);
	ck_assert_int_eq(evwork_map_start(trial.world.loop, &good, NULL), -EINVAL);
	ck_assert_ptr_null(map);
	trial.options.fn = NULL;
	expect_refused(&trial, -EINVAL);
	trial.options = good;
	trial.options.width = -1;
	expect_refused(&trial, -EINVAL);
	trial.options.count = 0;
	expect_refused(&trial, -EINVAL);
	trial.options = good;
	trial.options.errors = (enum evwork_map_errors)(EVWORK_MAP_COLLECT + 1);
	expect_refused(&trial, -EINVAL);
	trial.options = good;
	trial.options.item_size = 1;
	expect_refused(&trial, -EINVAL);
	trial_close(&trial);
}
END_TEST

/* Numbers for which there is no memory in the address space are told apart from a
 * lack of memory. */
START_TEST(refused_out_of_range)
{
	struct trial trial;

	trial_open(&trial, 1, SIZE_MAX / sizeof(int) + 1);
	expect_refused(&trial, -ERANGE);
	trial.options.count = SIZE_MAX;
	expect_refused(&trial, -ERANGE);
	trial.options.count = 3;
	trial.options.result_size = SIZE_MAX / 3 + 1;
	expect_refused(&trial, -ERANGE);
	trial.options.result_size = SIZE_MAX;
	expect_refused(&trial, -ERANGE);
	trial_close(&trial);
}
END_TEST

/* Where the loop has no pool a lane must be named, else there is none. */
START_TEST(refused_without_lane)
{
	struct event_base *base = event_base_new();
	struct trial trial;
	struct evwork_loop *loop;

	trial_open(&trial, 1, 10);
	ck_assert_int_eq(evwork_loop_new(base, NULL, NULL, &loop), 0);
	ck_assert_int_eq(evwork_map_start(loop, &trial.options, &trial.map), -EINVAL);
	ck_assert_ptr_null(trial.map);
	trial.options.lane = evwork_pool_lane(trial.world.pool);
	ck_assert_int_eq(evwork_map_start(loop, &trial.options, &trial.map), 0);
	ck_assert_int_ge(event_base_dispatch(base), 0);
	finish(&trial, 0);
	expect_ok(&trial, 0, 10);
	ck_assert_int_eq(evwork_loop_free(loop), 0);
	event_base_free(base);
	trial_close(&trial);
}
END_TEST

/* A context that is dead refuses the map with its error. */
START_TEST(refused_by_context)
{
	struct trial trial;

	trial_open(&trial, 1, 10);
	if (_i == 0) {
		ck_assert_int_eq(evwork_ctx_new(NULL, &trial.parent), 0);
		ck_assert_int_eq(evwork_ctx_cancel(trial.parent, 0), 0);
	} else {
		ck_assert_int_eq(evwork_ctx_with_timeout(NULL, NULL, -1, 0, &trial.parent), 0);
	}
	trial.options.ctx = trial.parent;
	expect_refused(&trial, _i == 0 ? -ECANCELED : -ETIMEDOUT);
	trial_close(&trial);
}
END_TEST

/* What a guard of the lane says is what the map says. */
START_TEST(refused_by_guard)
{
	struct support_guard guard = SUPPORT_GUARD(-EHOSTDOWN);
	struct evwork_guard *guards[] = { &guard.guard };
	struct evwork_lane_options options = { .guards = guards, .guard_count = 1 };
	struct trial trial;

	trial_open(&trial, 1, 10);
	ck_assert_int_eq(evwork_lane_new(trial.world.pool, &options, &trial.options.lane), 0);
	expect_refused(&trial, -EHOSTDOWN);
	ck_assert_int_eq(evwork_lane_free(trial.options.lane), 0);
	trial_close(&trial);
}
END_TEST

/* A pool that closes and a loop that closes take no map. */
START_TEST(refused_when_closing)
{
	struct trial trial;

	trial_open(&trial, 1, 10);
	ck_assert_int_eq(_i == 0 ?
		evwork_pool_close(trial.world.pool, EVWORK_DRAIN, NULL, NULL, NULL) :
		evwork_loop_close(trial.world.loop, NULL, NULL), 0);
	expect_refused(&trial, -ESHUTDOWN);
	world_turns(&trial.world, 2);
	expect_refused(&trial, -ESHUTDOWN);
	trial_close(&trial);
}
END_TEST

/* A trial whose lane has room for one job, and whose two workers are held. */
struct jam {
	struct trial trial;
	struct gate gate;
	struct gate_job blockers[2];
	struct evwork_lane *lane;
};

static void jam_open(struct jam *jam)
{
	struct evwork_lane_options options = { .queue_limit = 1 };
	int i;

	trial_open(&jam->trial, 2, 50);
	gate_init(&jam->gate);
	ck_assert_int_eq(evwork_lane_new(jam->trial.world.pool, &options, &jam->lane), 0);
	for (i = 0; i < 2; i++) {
		gate_job_init(&jam->blockers[i], &jam->gate);
		ck_assert_int_eq(evwork_submit(jam->trial.world.loop, &jam->blockers[i].job), 0);
	}
	gate_await(&jam->gate, 2);
	jam->trial.options.lane = jam->lane;
	jam->trial.options.width = 5;
}

static void jam_close(struct jam *jam)
{
	gate_open(&jam->gate);
	world_run(&jam->trial.world);
	ck_assert_int_eq(evwork_map_free(jam->trial.map), 0);
	jam->trial.map = NULL;
	ck_assert_int_eq(evwork_lane_free(jam->lane), 0);
	trial_close(&jam->trial);
	gate_fini(&jam->gate);
}

/* Of the members those that the lane had room for do all the work. */
START_TEST(full_lane_takes_some)
{
	struct evwork_lane_stats stats;
	struct jam jam;

	jam_open(&jam);
	start(&jam.trial);
	ck_assert_int_eq(evwork_lane_stats(jam.lane, &stats), 0);
	ck_assert_uint_eq(stats.queued, 1);
	ck_assert_uint_eq(stats.refused_full, 1);
	gate_open(&jam.gate);
	finish(&jam.trial, 0);
	expect_ok(&jam.trial, 0, 50);
	jam_close(&jam);
}
END_TEST

/* If it had room for none the map is refused, its done never comes, and nothing of it
 * is left. */
START_TEST(full_lane_takes_none)
{
	struct probe probe;
	struct jam jam;

	jam_open(&jam);
	probe_init(&probe, 0);
	probe.job.lane = jam.lane;
	ck_assert_int_eq(evwork_submit(jam.trial.world.loop, &probe.job), 0);
	expect_refused(&jam.trial, -EAGAIN);
	jam_close(&jam);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(jam.trial.dones, 0);
}
END_TEST

/* A width above the number of workers takes no more room in the lane than these can
 * use (S-FAN-1). */
START_TEST(wide_map_takes_little_room)
{
	struct evwork_lane_stats stats;
	struct trial trial;

	trial_open(&trial, 3, MILLION);
	trial.options.width = INT_MAX;
	start(&trial);
	finish(&trial, 0);
	ck_assert_int_eq(evwork_lane_stats(evwork_pool_lane(trial.world.pool), &stats), 0);
	ck_assert_uint_eq(stats.submitted, 3);
	ck_assert_uint_eq(stats.accepted, 3);
	expect_ok(&trial, 0, MILLION);
	trial_close(&trial);
}
END_TEST

/* Closing in the middle. */

static const enum evwork_close_mode closings[] = {
	EVWORK_DRAIN, EVWORK_CANCEL_QUEUED, EVWORK_CANCEL_ALL
};

/* The pool closes while all members of a map run: it goes on, unless running jobs are
 * cancelled, too; then what was not begun is left out. */
START_TEST(pool_closes_while_all_run)
{
	bool cancelled = closings[_i] == EVWORK_CANCEL_ALL;
	struct trial trial;

	trial_open(&trial, 2, 1000);
	trial.act = pass_gate;
	start(&trial);
	gate_await(&trial.gate, 2);
	ck_assert_int_eq(evwork_pool_close(trial.world.pool, closings[_i], NULL, NULL, NULL), 0);
	world_turns(&trial.world, 3);
	ck_assert_int_eq(trial.dones, 0);
	finish(&trial, cancelled ? -ECANCELED : 0);
	expect_ok(&trial, 0, cancelled ? 2 : 1000);
	if (cancelled)
		expect_untried(&trial, 2, 1000);
	trial_close(&trial);
}
END_TEST

/* A member that waits in the queue is run when the pool drains; in the other modes its
 * end is that of the map, as that of a job would be. */
START_TEST(pool_closes_while_one_waits)
{
	struct evwork_lane_options options = { .max_running = 1 };
	bool drains = closings[_i] == EVWORK_DRAIN;
	struct trial trial;

	trial_open(&trial, 2, 1000);
	ck_assert_int_eq(evwork_lane_new(trial.world.pool, &options, &trial.options.lane), 0);
	trial.act = pass_gate;
	start(&trial);
	gate_await(&trial.gate, 1);
	ck_assert_int_eq(evwork_pool_close(trial.world.pool, closings[_i], NULL, NULL, NULL), 0);
	world_turns(&trial.world, 3);
	ck_assert_int_eq(trial.dones, 0);
	finish(&trial, drains ? 0 : -ECANCELED);
	ck_assert_int_eq(atomic_load(&trial.peak), 1);
	expect_ok(&trial, 0, drains ? 1000 : 1);
	if (!drains)
		expect_untried(&trial, 1, 1000);
	trial_close(&trial);
}
END_TEST

/* A map whose first member is at the last element, while the second waits in the queue
 * behind it and a job that holds the other worker. */
static void open_lonely(struct trial *trial, struct gate_job *blocker, struct gate *gate)
{
	gate_init(gate);
	gate_job_init(blocker, gate);
	ck_assert_int_eq(evwork_submit(trial->world.loop, &blocker->job), 0);
	gate_await(gate, 1);
	trial->act = pass_gate;
	trial->held_from = trial->options.count - 1;
	trial->options.width = 2;
	start(trial);
	gate_await(&trial->gate, 1);
}

/* A member that is ended in the queue, as the pool closes, changes nothing if another
 * was at the last element already: all was done, and that is the status. */
START_TEST(member_cancelled_after_the_work)
{
	struct gate_job blocker;
	struct trial trial;
	struct gate gate;

	trial_open(&trial, 2, 20);
	trial.options.errors = modes[_i];
	open_lonely(&trial, &blocker, &gate);
	ck_assert_int_eq(evwork_pool_close(trial.world.pool, EVWORK_CANCEL_QUEUED, NULL, NULL,
		NULL), 0);
	world_turns(&trial.world, 3);
	finish(&trial, 0);
	expect_ok(&trial, 0, 20);
	gate_open(&gate);
	trial_close(&trial);
	gate_fini(&gate);
}
END_TEST

/* Nor does one whose turn comes after the lane's timeout (S-FAN-2). */
START_TEST(member_expired_after_the_work)
{
	struct evwork_lane_options options = { .timeout_ms = 5 };
	struct evwork_lane *lane;
	struct gate_job blocker;
	struct trial trial;
	struct gate gate;

	trial_open_manual(&trial, 2, 20);
	ck_assert_int_eq(evwork_lane_new(trial.world.pool, &options, &lane), 0);
	trial.options.lane = lane;
	open_lonely(&trial, &blocker, &gate);
	ck_assert_int_eq(evwork_clock_jump(trial.world.clock, 10 * SYS_NS_PER_MS), 0);
	gate_open(&gate);
	finish(&trial, 0);
	expect_ok(&trial, 0, 20);
	ck_assert_int_eq(evwork_map_free(trial.map), 0);
	trial.map = NULL;
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	trial_close(&trial);
	gate_fini(&gate);
}
END_TEST

/* The lane's timeout ends a map whose members run, as it would end a job that asks. */
START_TEST(lane_expires)
{
	struct evwork_lane_options options = { .timeout_ms = 5 };
	struct evwork_lane *lane;
	struct trial trial;

	trial_open_manual(&trial, 2, 1000);
	ck_assert_int_eq(evwork_lane_new(trial.world.pool, &options, &lane), 0);
	trial.options.lane = lane;
	trial.act = pass_gate;
	start(&trial);
	gate_await(&trial.gate, 2);
	ck_assert_int_eq(evwork_clock_jump(trial.world.clock, 10 * SYS_NS_PER_MS), 0);
	finish(&trial, -ETIMEDOUT);
	expect_ok(&trial, 0, 2);
	expect_untried(&trial, 2, 1000);
	ck_assert_int_eq(evwork_map_free(trial.map), 0);
	trial.map = NULL;
	ck_assert_int_eq(evwork_lane_free(lane), 0);
	trial_close(&trial);
}
END_TEST

static void on_loop_closed(struct evwork_loop *loop, void *arg)
{
	struct trial *trial = arg;

	(void)loop;
	/* The done was before. */
	atomic_store(&trial->rc, trial->dones);
}

/* The loop closes: the map ends as if cancelled, its done comes before the loop is
 * closed, and what it holds can be asked for and freed when loop and pool are gone. */
START_TEST(loop_closes)
{
	struct trial trial;

	trial_open(&trial, 2, 1000);
	trial.act = pass_gate;
	trial.options.errors = modes[_i];
	trial.options.result_size = 4;
	start(&trial);
	gate_await(&trial.gate, 2);
	ck_assert_int_eq(evwork_loop_close(trial.world.loop, on_loop_closed, &trial), 0);
	world_turns(&trial.world, 3);
	ck_assert_int_eq(trial.dones, 0);
	ck_assert_int_eq(atomic_load(&trial.rc), 1);
	atomic_store(&trial.rc, 0);
	finish(&trial, -ECANCELED);
	world_run(&trial.world);
	ck_assert_int_eq(atomic_load(&trial.rc), 1);
	world_close(&trial.world);
	expect_ok(&trial, 0, 2);
	expect_untried(&trial, 2, 1000);
	ck_assert_int_eq(evwork_ctx_err(evwork_map_ctx(trial.map)), -ECANCELED);
	ck_assert_int_eq(evwork_map_cancel(trial.map, 0), -EALREADY);
	ck_assert_int_eq(evwork_map_free(trial.map), 0);
	gate_fini(&trial.gate);
}
END_TEST

/* Asking, freeing, waiting. */

/* What the work may ask: its argument and context; nothing that needs the end. */
static int ask_early(struct evwork_map *map, size_t index, void *item, void *result)
{
	struct trial *trial = evwork_map_arg(map);
	int status = 4711;

	(void)item;
	(void)result;
	if (evwork_map_state(map, index, &status) != -EBUSY || status != 4711 ||
	    evwork_map_state(map, trial->options.count, NULL) != -ENOENT ||
	    evwork_map_result(map, index) || evwork_map_failed(map) ||
	    evwork_ctx_err(evwork_map_ctx(map)) || evwork_map_free(map) != -EBUSY ||
	    evwork_map_wait(map, &status) != -EDEADLK || status != 4711)
		atomic_fetch_add(&trial->flaws, 1);
	return index % 2 ? -4711 : 0;
}

/* States and results are there from the end on, not before, and indexes that are not
 * there never; on a worker of the pool neither wait nor free is possible. NULL is an
 * argument like any other. */
START_TEST(asking)
{
	struct trial trial;
	int status = 1;

	trial_open(&trial, 2, 10);
	trial.act = ask_early;
	trial.options.errors = EVWORK_MAP_COLLECT;
	trial.options.result_size = 8;
	start(&trial);
	ck_assert_ptr_eq(evwork_map_arg(trial.map), &trial);
	finish(&trial, -4711);
	ck_assert_int_eq(evwork_map_state(trial.map, 10, &status), -ENOENT);
	ck_assert_int_eq(evwork_map_state(trial.map, SIZE_MAX, &status), -ENOENT);
	ck_assert_ptr_null(evwork_map_result(trial.map, 10));
	ck_assert_ptr_null(evwork_map_result(trial.map, 1));
	ck_assert_ptr_nonnull(evwork_map_result(trial.map, 2));
	ck_assert_uint_eq(evwork_map_failed(trial.map), 5);

	ck_assert_ptr_null(evwork_map_arg(NULL));
	ck_assert_ptr_null(evwork_map_ctx(NULL));
	ck_assert_int_eq(evwork_map_state(NULL, 0, &status), -EINVAL);
	ck_assert_ptr_null(evwork_map_result(NULL, 0));
	ck_assert_uint_eq(evwork_map_failed(NULL), 0);
	ck_assert_int_eq(evwork_map_cancel(NULL, 0), -EINVAL);
	ck_assert_int_eq(evwork_map_wait(NULL, &status), -EINVAL);
	ck_assert_int_eq(evwork_map_free(NULL), 0);
	ck_assert_int_eq(status, 1);
	trial_close(&trial);
}
END_TEST

static void free_elsewhere(void *arg)
{
	struct trial *trial = arg;

	trial->free_rc = evwork_map_free(trial->map);
}

static void done_while_freed_elsewhere(struct evwork_map *map, int status, void *arg)
{
	(void)map;
	support_elsewhere(free_elsewhere, arg);
	done(map, status, arg);
}

/* A map is not freed before its done, but in it and any time after it; while it runs
 * on the loop not by another thread. */
START_TEST(freeing)
{
	struct trial trial;

	trial_open(&trial, 2, 10);
	trial.act = pass_gate;
	trial.options.done = done_while_freed_elsewhere;
	start(&trial);
	gate_await(&trial.gate, 2);
	ck_assert_int_eq(evwork_map_free(trial.map), -EBUSY);
	gate_open(&trial.gate);
	finish(&trial, 0);
	ck_assert_int_eq(trial.free_rc, -EBUSY);
	if (_i) {
		support_elsewhere(free_elsewhere, &trial);
		ck_assert_int_eq(trial.free_rc, 0);
		trial.map = NULL;
	}
	trial_close(&trial);
}
END_TEST

/* In done. */
START_TEST(freeing_in_done)
{
	struct trial trial;

	trial_open(&trial, 2, _i ? 0 : 10);
	trial.free_in_done = true;
	start(&trial);
	world_run(&trial.world);
	ck_assert_int_eq(trial.dones, 1);
	ck_assert_int_eq(trial.free_rc, 0);
	ck_assert_ptr_null(trial.map);
	trial_close(&trial);
}
END_TEST

/* A thread that waits for a map. */
struct waiter {
	pthread_t thread;
	struct trial *trial;
	struct evwork_map *map;
	int rc, status;
};

static void *wait_run(void *arg)
{
	struct waiter *waiter = arg;

	waiter->rc = evwork_map_wait(waiter->map, &waiter->status);
	return NULL;
}

static void waiter_start(struct waiter *waiter, struct trial *trial)
{
	*waiter = (struct waiter){ .trial = trial, .map = trial->map, .rc = 1, .status = 1 };
	ck_assert_int_eq(pthread_create(&waiter->thread, NULL, wait_run, waiter), 0);
}

static void waiter_end(struct waiter *waiter, int status)
{
	ck_assert_int_eq(pthread_join(waiter->thread, NULL), 0);
	ck_assert_int_eq(waiter->rc, 0);
	ck_assert_int_eq(waiter->status, status);
}

static void wait_in_work(struct probe *probe)
{
	struct waiter *waiter = probe->arg;

	waiter->rc = evwork_map_wait(waiter->map, &waiter->status);
}

/* Any number of threads wait, and get the status that done gets, be they there before
 * the end or come after it; a loop's thread may not, at the end neither, nor a worker
 * of the map's pool. */
START_TEST(waiting)
{
	struct waiter waiters[4], late = { .rc = 1, .status = 1 };
	struct trial trial;
	struct probe probe;
	int i, status = 1;

	trial_open(&trial, 2, 100);
	trial.act = fail_then_see;
	if (_i)
		trial.options.done = NULL;
	start(&trial);
	for (i = 0; i < 4; i++)
		waiter_start(&waiters[i], &trial);
	gate_await(&trial.gate, 2);
	ck_assert_int_eq(evwork_map_wait(trial.map, &status), -EDEADLK);
	gate_open(&trial.gate);
	world_run(&trial.world);
	for (i = 0; i < 4; i++)
		waiter_end(&waiters[i], -4711);
	ck_assert_int_eq(evwork_map_wait(trial.map, NULL), -EDEADLK);
	waiter_start(&waiters[0], &trial);
	waiter_end(&waiters[0], -4711);
	late.map = trial.map;
	probe_init(&probe, 0);
	probe.on_run = wait_in_work;
	probe.arg = &late;
	ck_assert_int_eq(evwork_submit(trial.world.loop, &probe.job), 0);
	world_run(&trial.world);
	ck_assert_int_eq(late.rc, -EDEADLK);
	ck_assert_int_eq(late.status, 1);
	ck_assert_int_eq(status, 1);
	ck_assert_int_eq(trial.dones, _i ? 0 : 1);
	trial_close(&trial);
}
END_TEST

/* The worker of another pool may wait. */
START_TEST(waiting_in_another_pool)
{
	struct evwork_pool_options options = { .threads = 1 };
	struct waiter waiter = { .rc = 1, .status = 1 };
	struct evwork_pool *pool;
	struct trial trial;
	struct probe probe;

	trial_open(&trial, 2, 100);
	ck_assert_int_eq(evwork_pool_new(&options, &pool), 0);
	start(&trial);
	waiter.map = trial.map;
	probe_init(&probe, 0);
	probe.on_run = wait_in_work;
	probe.arg = &waiter;
	probe.job.lane = evwork_pool_lane(pool);
	ck_assert_int_eq(evwork_submit(trial.world.loop, &probe.job), 0);
	world_run(&trial.world);
	ck_assert_int_eq(probe.dones, 1);
	ck_assert_int_eq(waiter.rc, 0);
	ck_assert_int_eq(waiter.status, 0);
	ck_assert_int_eq(evwork_pool_free(pool), 0);
	trial_close(&trial);
}
END_TEST

/* Where maps are started. */

static void start_here(void *arg)
{
	struct trial *trial = arg;

	atomic_store(&trial->rc, try_start(trial));
	/* Copied: what becomes of them is of no interest any more. */
	memset(&trial->options, 0xff, sizeof(trial->options));
}

static void start_in_work(struct probe *probe)
{
	start_here(probe->arg);
}

/* Maps are started on the loop's thread, in a callback, on any other thread and in work;
 * the options are copied, and done comes on the loop's thread (S-FAN-1). */
START_TEST(started_anywhere)
{
	struct trial trial;
	struct probe probe;

	trial_open(&trial, 2, 1000);
	ck_assert_int_eq(evwork_loop_hold(trial.world.loop), 0);
	probe_init(&probe, 0);
	probe.arg = &trial;
	if (_i == 0)
		start_here(&trial);
	else if (_i == 1)
		support_elsewhere(start_here, &trial);
	else if (_i == 2)
		probe.on_run = start_in_work;
	else
		probe.on_done = start_in_work;
	ck_assert_int_eq(evwork_submit(trial.world.loop, &probe.job), 0);
	world_run_until(&trial.world, &probe.dones, 1);
	ck_assert_int_eq(atomic_load(&trial.rc), 0);
	finish(&trial, 0);
	trial.options.result_size = 0;
	expect_ok(&trial, 0, 1000);
	ck_assert_int_eq(evwork_loop_release(trial.world.loop), 0);
	trial_close(&trial);
}
END_TEST

/* When the system fails. */

/* One run of the sweep: with some call failing the map is started whole or not at all;
 * returns whether that call was reached. */
static bool sweep_once(struct trial *trial, enum sys_call kind, int k, bool onwards, bool far)
{
	size_t blocks = sys_blocks(), i;
	int dones = trial->dones, rc;

	for (i = 0; i < trial->options.count; i++)
		atomic_store(&tried[i], 0);
	trial->map = NULL;
	atomic_store(&trial->rc, 1);
	fault_start(kind, k, onwards);
	if (far)
		support_elsewhere(start_here, trial);
	else
		start_here(trial);
	rc = atomic_load(&trial->rc);
	expect(rc == 0 || rc == -ENOMEM, "call %d of kind %d%s: %d", k, (int)kind,
		onwards ? " and on" : "", rc);
	expect((trial->map != NULL) == (rc == 0), "map of call %d", k);
	if (rc == 0)
		world_run_until(&trial->world, &trial->dones, dones + 1);
	world_turns(&trial->world, 3);
	rc = fault_stop();
	expect(trial->dones == dones + (trial->map != NULL), "%d dones", trial->dones - dones);
	for (i = 0; i < 200; i++)
		expect(atomic_load(&tried[i]) == (trial->map ? 1 : 0), "index %zu", i);
	ck_assert_int_eq(evwork_map_free(trial->map), 0);
	expect(sys_blocks() == blocks, "call %d of kind %d: %zu blocks before, %zu after", k,
		(int)kind, blocks, sys_blocks());
	return rc >= k;
}

/* With each call to the system failing, alone or with all that follow it, a map with
 * results is started and done once, with every index, or it is refused and leaves
 * nothing behind (S-FAN-1, S-FAN-2). */
START_TEST(starting_when_the_system_fails)
{
	struct evwork_map_options options;
	struct trial trial;
	int kind, k, onwards, calls[SYS_CALLS + 1] = { 0 };

	trial_open(&trial, 12, 200);
	trial.options.result_size = 16;
	/* More than a group has room for at first. */
	trial.options.width = 12;
	options = trial.options;
	/* For what another thread brings. */
	ck_assert_int_eq(evwork_loop_hold(trial.world.loop), 0);
	for (kind = 0; kind <= SYS_CALLS; kind++) {
		for (onwards = 0; onwards < 2; onwards++) {
			k = 0;
			do {
				trial.options = options;
				k++;
			} while (sweep_once(&trial, (enum sys_call)kind, k, onwards, _i));
			calls[kind] = k - 1;
		}
	}
	ck_assert_int_ge(calls[SYS_MEMORY], 5);
	ck_assert_int_ge(calls[SYS_LOCK], 2);
	support_note("%d allocations, %d locks failed", calls[SYS_MEMORY], calls[SYS_LOCK]);
	ck_assert_int_eq(evwork_loop_release(trial.world.loop), 0);
	trial.map = NULL;
	trial.dones = 0;
	trial_close(&trial);
}
END_TEST

static void add_endings(Suite *suite)
{
	TCase *tcase = support_case(suite, "cancel");

	tcase_add_loop_test(tcase, cancel_ends_it, 0, 2);
	tcase_add_loop_test(tcase, cancel_holds_within_a_range, 0, 4);
	tcase_add_loop_test(tcase, deadline_ends_it, 0, 4);
	tcase_add_test(tcase, deadline_without_the_loop);
	tcase_add_test(tcase, error_before_the_deadline);

	tcase = support_case(suite, "close");
	tcase_add_loop_test(tcase, pool_closes_while_all_run, 0, LENGTH(closings));
	tcase_add_loop_test(tcase, pool_closes_while_one_waits, 0, LENGTH(closings));
	tcase_add_loop_test(tcase, member_cancelled_after_the_work, 0, 2);
	tcase_add_test(tcase, member_expired_after_the_work);
	tcase_add_test(tcase, lane_expires);
	tcase_add_loop_test(tcase, loop_closes, 0, 2);
}

static void add_calls(Suite *suite)
{
	TCase *tcase = support_case(suite, "refused");

	tcase_add_test(tcase, refused_malformed);
	tcase_add_test(tcase, refused_out_of_range);
	tcase_add_test(tcase, refused_without_lane);
	tcase_add_loop_test(tcase, refused_by_context, 0, 2);
	tcase_add_test(tcase, refused_by_guard);
	tcase_add_loop_test(tcase, refused_when_closing, 0, 2);
	tcase_add_test(tcase, full_lane_takes_some);
	tcase_add_test(tcase, full_lane_takes_none);
	tcase_add_test(tcase, wide_map_takes_little_room);

	tcase = support_case(suite, "calls");
	tcase_add_test(tcase, asking);
	tcase_add_loop_test(tcase, freeing, 0, 2);
	tcase_add_loop_test(tcase, freeing_in_done, 0, 2);
	tcase_add_loop_test(tcase, waiting, 0, 2);
	tcase_add_test(tcase, waiting_in_another_pool);
	tcase_add_loop_test(tcase, started_anywhere, 0, 4);
	tcase_add_loop_test(tcase, starting_when_the_system_fails, 0, 2);
}

static Suite *map_suite(void)
{
	Suite *suite = suite_create("map");
	TCase *tcase = support_case(suite, "elements");

	tcase_add_loop_test(tcase, every_index_once, 0, LENGTH(shapes));
	tcase_add_loop_test(tcase, no_array_no_results, 0, 2);
	tcase_add_loop_test(tcase, nothing_to_do, 0, 4);
	tcase_add_loop_test(tcase, width_is_reached_and_kept, 0, LENGTH(widths));
	tcase_add_loop_test(tcase, width_is_reached_at_the_end, 0, LENGTH(widths));

	tcase = support_case(suite, "errors");
	tcase_add_test(tcase, collect_tries_all);
	tcase_add_test(tcase, collect_status_is_of_the_lowest_index);
	tcase_add_loop_test(tcase, stop_begins_nothing_more, 0, 6);
	tcase_add_test(tcase, stop_status_is_the_first_in_time);
	tcase_add_loop_test(tcase, special_codes_are_ordinary, 0, 2);

	add_endings(suite);
	add_calls(suite);
	return suite;
}

int main(void)
{
	return support_run(map_suite());
}
