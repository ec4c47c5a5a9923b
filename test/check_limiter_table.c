/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Tables of limiters: a bucket for each key, room that is bounded, what is forgotten and
 * what never, a limiter of all beside them, and ten million keys through a small table.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "limiter_scene.h"

#include <math.h>
#include <pthread.h>

#include "evwork/bucket.h"
#include "guard/siphash.h"

#define START SECOND

struct hall {
	struct evwork_clock *clock;
	struct evwork_limiter *all;
	struct evwork_limiter_table *table;
};

static void hall_open(struct hall *hall, double rate, int64_t burst, size_t keys,
	struct evwork_limiter_table_options options)
{
	memset(hall, 0, sizeof(*hall));
	ck_assert_int_eq(evwork_clock_new(START, &hall->clock), 0);
	options.clock = hall->clock;
	ck_assert_int_eq(evwork_limiter_table_new(rate, burst, keys, &options, &hall->table), 0);
}

static void hall_close(struct hall *hall)
{
	evwork_limiter_table_free(hall->table);
	ck_assert_int_eq(evwork_limiter_free(hall->all), 0);
	ck_assert_int_eq(evwork_clock_free(hall->clock), 0);
}

static void hall_go(struct hall *hall, int64_t ns)
{
	ck_assert_int_eq(evwork_clock_jump(hall->clock, ns), 0);
}

static int allow(struct hall *hall, const char *key, int64_t n)
{
	return evwork_limiter_table_allow(hall->table, key, strlen(key), n);
}

static int64_t tokens(struct hall *hall, const char *key)
{
	int64_t result;

	ck_assert_int_eq(evwork_limiter_table_tokens(hall->table, key, strlen(key), &result), 0);
	return result;
}

static struct evwork_limiter_table_stats stats(struct hall *hall)
{
	struct evwork_limiter_table_stats result;

	ck_assert_int_eq(evwork_limiter_table_stats(hall->table, &result), 0);
	return result;
}

#define OPTIONS(...) ((struct evwork_limiter_table_options){ .name = "hall", __VA_ARGS__ })

/* The hash is what others have under the same name: values that Rust's standard library
 * tests its own SipHash-1-3 with (library/core/tests/hash/sip.rs), with the key and the
 * bytes of the paper, and lengths around a word. */
static const struct {
	size_t size;
	uint64_t hash;
} siphash_values[] = {
	{ 0, UINT64_C(0xabac0158050fc4dc) },
	{ 1, UINT64_C(0xc9f49bf37d57ca93) },
	{ 7, UINT64_C(0xd3927d989bb11140) },
	{ 8, UINT64_C(0x369095118d299a8e) },
	{ 9, UINT64_C(0x25a48eb36c063de4) },
	{ 15, UINT64_C(0xd320d86d2a519956) },
	{ 16, UINT64_C(0xcc4fdd1a7d908b66) },
	{ 63, UINT64_C(0x9d199062b7bbb3a8) },
};

START_TEST(siphash)
{
	uint64_t key[2] = { UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908) };
	unsigned char bytes[64];
	uint64_t seen[17];
	size_t i, k;

	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)i;
	for (i = 0; i < sizeof(siphash_values) / sizeof(siphash_values[0]); i++)
		ck_assert_uint_eq(siphash13(key, bytes, siphash_values[i].size),
			siphash_values[i].hash);
	for (i = 0; i < 17; i++) {
		seen[i] = siphash13(key, bytes, i);
		for (k = 0; k < i; k++)
			ck_assert_uint_ne(seen[i], seen[k]);
	}
	/* It reads from anywhere, and all that it is given. */
	memmove(bytes + 1, bytes, 16);
	ck_assert_uint_eq(siphash13(key, bytes + 1, 16), seen[16]);
	bytes[16] ^= 1;
	ck_assert_uint_ne(siphash13(key, bytes + 1, 16), seen[16]);
}
END_TEST

/* Each key has a bucket of its own, and keys are bytes: S-LIM-15, S-LIM-2. */
START_TEST(buckets_of_keys)
{
	struct hall hall;
	int64_t ns;

	hall_open(&hall, 10, 2, 10, OPTIONS(.key_size = 3));
	ck_assert_str_eq(evwork_limiter_table_name(hall.table), "hall");
	ck_assert_int_eq(allow(&hall, "a", 2), 0);
	ck_assert_int_eq(allow(&hall, "a", 1), -EAGAIN);
	ck_assert_int_eq(allow(&hall, "b", 2), 0);
	ck_assert_int_eq(allow(&hall, "ab", 1), 0);
	ck_assert_int_eq(allow(&hall, "", 1), 0);
	ck_assert_int_eq(evwork_limiter_table_allow(hall.table, NULL, 0, 1), 0);
	ck_assert_int_eq(evwork_limiter_table_allow(hall.table, NULL, 0, 1), -EAGAIN);
	ck_assert_int_eq(evwork_limiter_table_allow(hall.table, "a\0", 2, 2), 0);
	ck_assert_int_eq(evwork_limiter_table_allow(hall.table, "a\0b", 3, 2), 0);
	ck_assert_int_eq(evwork_limiter_table_allow(hall.table, "a\0c", 3, 1), 0);
	ck_assert_uint_eq(stats(&hall).keys, 7);
	ck_assert_int_eq(tokens(&hall, "a"), 0);
	ck_assert_int_eq(tokens(&hall, "ab"), 1);
	ck_assert_int_eq(tokens(&hall, "new"), 2);
	ck_assert_uint_eq(stats(&hall).keys, 7);
	ck_assert_int_eq(allow(&hall, "new", 0), 0);
	ck_assert_int_eq(allow(&hall, "new", 3), -ERANGE);
	ck_assert_int_eq(allow(&hall, "long", 1), -ERANGE);
	ck_assert_uint_eq(stats(&hall).keys, 7);
	ck_assert_int_eq(evwork_limiter_table_retry_after(hall.table, "a", 1, 2, &ns), 0);
	ck_assert_int_eq(ns, 200 * MS);
	hall_go(&hall, 150 * MS);
	ck_assert_int_eq(tokens(&hall, "a"), 1);
	ck_assert_uint_eq(stats(&hall).allowed, 9);
	ck_assert_uint_eq(stats(&hall).refused, 4);
	hall_close(&hall);
}
END_TEST

/* Only full buckets make room; without one a new key is refused, or admitted, by
 * configuration, and counted: S-LIM-15. */
START_TEST(room)
{
	struct hall hall;

	hall_open(&hall, 10, 4, 2, OPTIONS(.overflow = _i ? EVWORK_OVERFLOW_ADMIT :
		EVWORK_OVERFLOW_REFUSE));
	ck_assert_int_eq(allow(&hall, "a", 3), 0);
	ck_assert_int_eq(allow(&hall, "b", 1), 0);
	ck_assert_int_eq(allow(&hall, "c", 1), _i ? 0 : -EAGAIN);
	ck_assert_int_eq(allow(&hall, "c", 5), -ERANGE);
	ck_assert_uint_eq(stats(&hall).overflowed, 1);
	ck_assert_uint_eq(stats(&hall).evicted, 0);
	hall_go(&hall, 100 * MS - 1);
	ck_assert_int_eq(allow(&hall, "c", 1), _i ? 0 : -EAGAIN);
	hall_go(&hall, 1);
	/* The second is full, though it was used last. */
	ck_assert_int_eq(allow(&hall, "c", 4), 0);
	ck_assert_uint_eq(stats(&hall).evicted, 1);
	ck_assert_uint_eq(stats(&hall).keys, 2);
	ck_assert_int_eq(tokens(&hall, "a"), 2);
	ck_assert_int_eq(tokens(&hall, "b"), 4);
	ck_assert_int_eq(tokens(&hall, "c"), 0);
	/* What was looked at before, and used since, is not full when it was thought to be. */
	ck_assert_int_eq(allow(&hall, "a", 2), 0);
	hall_go(&hall, 200 * MS);
	ck_assert_int_eq(allow(&hall, "d", 1), _i ? 0 : -EAGAIN);
	hall_go(&hall, 200 * MS);
	ck_assert_int_eq(allow(&hall, "d", 1), 0);
	ck_assert_int_eq(allow(&hall, "e", 1), 0);
	ck_assert_uint_eq(stats(&hall).evicted, 3);
	ck_assert_uint_eq(stats(&hall).overflowed, 3);
	hall_close(&hall);
}
END_TEST

/* Without a rate nothing is ever full again; without a limit nothing is kept: S-LIM-15,
 * S-LIM-6, S-LIM-7. */
START_TEST(extreme_rates)
{
	struct hall hall;
	int i;

	hall_open(&hall, 0, 1, 1, OPTIONS(.key_size = 8));
	ck_assert_int_eq(allow(&hall, "a", 1), 0);
	hall_go(&hall, 1000000 * SECOND);
	ck_assert_int_eq(allow(&hall, "b", 1), -EAGAIN);
	ck_assert_int_eq(allow(&hall, "a", 1), -EAGAIN);
	hall_close(&hall);
	hall_open(&hall, INFINITY, 0, 1, OPTIONS(.key_size = 8));
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(allow(&hall, "a", INT64_MAX), 0);
		ck_assert_int_eq(allow(&hall, "b", 1), 0);
	}
	ck_assert_int_eq(tokens(&hall, "a"), INT64_MAX);
	ck_assert_uint_eq(stats(&hall).keys, 0);
	hall_close(&hall);
}
END_TEST

/* With a limiter of all, both buckets are debited or none, and the time to come back is the
 * later of both: S-LIM-16. */
START_TEST(chain)
{
	struct evwork_limiter_options options = { .name = "all" };
	struct hall hall;
	int64_t ns, left;

	memset(&hall, 0, sizeof(hall));
	ck_assert_int_eq(evwork_clock_new(START, &hall.clock), 0);
	options.clock = hall.clock;
	ck_assert_int_eq(evwork_limiter_new(10, 3, &options, &hall.all), 0);
	ck_assert_int_eq(evwork_limiter_table_new(5, 2, 2, &(struct evwork_limiter_table_options){
		.clock = hall.clock, .all = hall.all }, &hall.table), 0);
	ck_assert_int_eq(allow(&hall, "a", 2), 0);
	/* The key refuses: nothing is taken from all. */
	ck_assert_int_eq(allow(&hall, "a", 1), -EAGAIN);
	ck_assert_int_eq(evwork_limiter_tokens(hall.all, &left), 0);
	ck_assert_int_eq(left, 1);
	/* All refuse: nothing is taken from the key, known or new. */
	ck_assert_int_eq(allow(&hall, "b", 2), -EAGAIN);
	ck_assert_int_eq(tokens(&hall, "b"), 2);
	ck_assert_uint_eq(stats(&hall).keys, 1);
	ck_assert_int_eq(allow(&hall, "b", 1), 0);
	ck_assert_int_eq(allow(&hall, "b", 1), -EAGAIN);
	ck_assert_int_eq(tokens(&hall, "b"), 1);
	ck_assert_int_eq(evwork_limiter_table_retry_after(hall.table, "a", 1, 1, &ns), 0);
	ck_assert_int_eq(ns, 200 * MS);
	ck_assert_int_eq(evwork_limiter_table_retry_after(hall.table, "b", 1, 1, &ns), 0);
	ck_assert_int_eq(ns, 100 * MS);
	/* No room, and not asked for either: nothing is taken. */
	hall_go(&hall, 100 * MS);
	ck_assert_int_eq(allow(&hall, "c", 1), -EAGAIN);
	ck_assert_int_eq(evwork_limiter_tokens(hall.all, &left), 0);
	ck_assert_int_eq(left, 1);
	/* A full bucket is not forgotten for a key that is refused anyway. */
	ck_assert_int_eq(evwork_limiter_allow(hall.all, 1), 0);
	hall_go(&hall, 99 * MS);
	ck_assert_int_eq(evwork_limiter_set_rate(hall.all, 0), 0);
	hall_go(&hall, SECOND);
	ck_assert_int_eq(allow(&hall, "c", 1), -EAGAIN);
	ck_assert_uint_eq(stats(&hall).evicted, 0);
	hall_close(&hall);
}
END_TEST

/* Times from the caller: S-LIM-5. */
START_TEST(given_times)
{
	struct hall hall;
	int64_t at = 500 * SECOND;

	hall_open(&hall, 10, 1, 1, OPTIONS(.key_size = 8));
	ck_assert_int_eq(evwork_limiter_table_allow_at(hall.table, "a", 1, 1, at), 0);
	ck_assert_int_eq(evwork_limiter_table_allow_at(hall.table, "a", 1, 1, at - 1), -EAGAIN);
	ck_assert_int_eq(evwork_limiter_table_allow_at(hall.table, "a", 1, 1, at + 100 * MS), 0);
	ck_assert_int_eq(evwork_limiter_table_allow_at(hall.table, "b", 1, 1, at + 199 * MS), -EAGAIN);
	ck_assert_int_eq(evwork_limiter_table_allow_at(hall.table, "b", 1, 1, at + 200 * MS), 0);
	hall_close(&hall);
}
END_TEST

/* Malformed arguments: S-GEN-8, S-LIM-1. */
START_TEST(misused)
{
	static const struct evwork_limiter_table_options bad[] = {
		{ .key_size = EVWORK_LIMITER_TABLE_KEY_SIZE_MAX + 1 },
		{ .overflow = (enum evwork_limiter_table_overflow)2 },
	};
	struct evwork_limiter_table *none = NULL;
	struct evwork_limiter_table_options foreign = { .name = "foreign" };
	struct evwork_limiter_table_stats result;
	struct hall hall;
	int64_t number = 77;

	hall_open(&hall, 10, 2, 2, OPTIONS(.key_size = 4));
	ck_assert_int_eq(evwork_limiter_new(1, 1, NULL, &foreign.all), 0);
	foreign.clock = hall.clock;
	ck_assert_int_eq(evwork_limiter_table_new(-1, 1, 1, NULL, &none), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_new(NAN, 1, 1, NULL, &none), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_new(1, -1, 1, NULL, &none), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_new(1, 1, 0, NULL, &none), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_new(1, 1, EVWORK_LIMITER_TABLE_KEYS_MAX + 1, NULL,
		&none), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_new(1, 1, 1, &bad[0], &none), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_new(1, 1, 1, &bad[1], &none), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_new(1, 1, 1, &foreign, &none), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_new(1, 1, 1, NULL, NULL), -EINVAL);
	ck_assert_ptr_null(none);
	ck_assert_int_eq(evwork_limiter_table_allow(NULL, "a", 1, 1), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_allow(hall.table, NULL, 1, 1), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_allow(hall.table, "a", 1, -1), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_tokens(hall.table, "a", 1, NULL), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_tokens(NULL, "a", 1, &number), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_tokens(hall.table, "abcde", 5, &number), -ERANGE);
	ck_assert_int_eq(evwork_limiter_table_retry_after(hall.table, "a", 1, 1, NULL), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_retry_after(hall.table, "a", 1, -1, &number), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_retry_after(hall.table, "a", 1, 3, &number), -ERANGE);
	ck_assert_int_eq(evwork_limiter_table_stats(NULL, &result), -EINVAL);
	ck_assert_int_eq(evwork_limiter_table_stats(hall.table, NULL), -EINVAL);
	ck_assert_ptr_null(evwork_limiter_table_name(NULL));
	evwork_limiter_table_free(NULL);
	ck_assert_int_eq(number, 77);
	ck_assert_uint_eq(stats(&hall).refused, 0);
	ck_assert_int_eq(evwork_limiter_free(foreign.all), 0);
	hall_close(&hall);
}
END_TEST

/* Each allocation and lock that fails makes the call fail, with nothing left; deciding needs
 * none: S-GEN-14, S-LIM-15. */
START_TEST(failing_calls)
{
	size_t blocks = sys_blocks();
	int k = 0, rc, calls;

	do {
		struct evwork_limiter_table *table = NULL;
		int i;

		fault_start(SYS_CALLS, ++k, true);
		rc = evwork_limiter_table_new(1, 1, 10, NULL, &table);
		calls = fault_stop();
		ck_assert(rc == 0 || (rc == -ENOMEM && !table));
		fault_start(SYS_CALLS, 1, true);
		for (i = 0; table && i < 30; i++)
			evwork_limiter_table_allow(table, &i, sizeof(i), 1);
		ck_assert_int_eq(fault_stop(), 0);
		evwork_limiter_table_free(table);
		ck_assert_uint_eq(sys_blocks(), blocks);
	} while (calls >= k);
	ck_assert_int_ge(k - 1, 5);
}
END_TEST

/* In the child of a fork a table can only be freed: S-SHUT-12. */
START_TEST(forked)
{
	struct hall hall;
	pid_t pid;

	hall_open(&hall, 10, 2, 2, OPTIONS(.key_size = 4));
	pid = fork();
	if (pid == 0) {
		int64_t number;

		if (allow(&hall, "a", 1) != -ESHUTDOWN ||
		    evwork_limiter_table_tokens(hall.table, "a", 1, &number) != -ESHUTDOWN)
			_exit(1);
		evwork_limiter_table_free(hall.table);
		_exit(0);
	}
	support_await_child(pid);
	hall_close(&hall);
}
END_TEST

/* Many keys. */

/* Random decisions over more keys than there is room for agree with one bucket for each key
 * that is never forgotten; and what is refused for want of room is refused because no
 * bucket of those in the table is full: S-LIM-15. */
START_TEST(agrees_with_buckets)
{
	enum { KEYS = 300, ROOM = 100 };
	struct evwork_bucket model[KEYS];
	uint64_t overflowed = 0, before;
	int64_t now = START;
	struct hall hall;
	int i, k, steps = 300000 / support_slow();

	hall_open(&hall, 7, 20, ROOM, OPTIONS(.key_size = sizeof(int)));
	for (i = 0; i < KEYS; i++)
		ck_assert_int_eq(evwork_bucket_init(&model[i], 7, 20, START), 0);
	chance_seed(0);
	for (i = 0; i < steps; i++) {
		int64_t n = chance(22), dt = chance_below(20 * MS);
		int busy = 0, rc, should;

		hall_go(&hall, dt);
		now += dt;
		k = chance(KEYS);
		before = overflowed;
		rc = evwork_limiter_table_allow(hall.table, &k, sizeof(k), n);
		overflowed = stats(&hall).overflowed;
		if (overflowed == before) {
			should = evwork_bucket_take(&model[k], n, now);
			expect(rc == should, "step %d: %d, not %d", i, rc, should);
			continue;
		}
		expect(rc == -EAGAIN, "step %d: %d", i, rc);
		for (k = 0; k < KEYS; k++)
			busy += evwork_bucket_reset_after(&model[k], now) > 0;
		expect(busy == ROOM, "step %d: %d", i, busy);
	}
	ck_assert_uint_eq(stats(&hall).keys, ROOM);
	ck_assert_uint_gt(stats(&hall).evicted, 100);
	ck_assert_uint_gt(overflowed, 100);
	hall_close(&hall);
}
END_TEST

/* Ten million keys through a table for a hundred thousand: the memory is what it was, and no
 * key gets more than its burst and what came: S-LIM-15. */
START_TEST(ten_million_keys)
{
	enum { ROOM = 100000 };
	uint64_t i, keys = 10000000 / (uint64_t)support_slow(), granted = 0, again = 0;
	struct evwork_limiter_table_stats end;
	struct hall hall;
	size_t blocks;

	/* Full again after 100 ms; a key each microsecond is 100,000 in that time. */
	hall_open(&hall, 10, 1, ROOM, OPTIONS(.key_size = 8));
	chance_seed(1);
	blocks = sys_blocks();
	for (i = 0; i < keys; i++) {
		int64_t now = START + (int64_t)i * 1000;

		granted += evwork_limiter_table_allow_at(hall.table, &i, sizeof(i), 1, now) == 0;
		/* Nobody gets a second one by being forgotten early. */
		if (i >= ROOM / 2) {
			uint64_t old = i - (uint64_t)chance(ROOM / 2);

			again += evwork_limiter_table_allow_at(hall.table, &old, sizeof(old), 1,
				now) == 0;
		}
	}
	end = stats(&hall);
	ck_assert_uint_eq(sys_blocks(), blocks);
	ck_assert_uint_eq(end.keys, keys < ROOM ? keys : ROOM);
	ck_assert_uint_eq(granted, keys);
	ck_assert_uint_eq(again, 0);
	ck_assert_uint_eq(end.evicted, keys < ROOM ? 0 : keys - ROOM);
	ck_assert_uint_eq(end.overflowed, 0);
	hall_close(&hall);
}
END_TEST

struct racer {
	pthread_t thread;
	struct evwork_limiter_table *table;
	uint64_t random;
	int tries;
	int64_t taken[16];
};

static void *race(void *arg)
{
	struct racer *racer = arg;
	int i;

	for (i = 0; i < racer->tries; i++) {
		int k;

		racer->random = racer->random * UINT64_C(6364136223846793005) + 1;
		k = (int)(racer->random >> 60);
		if (evwork_limiter_table_allow(racer->table, &k, sizeof(k), 1) == 0)
			racer->taken[k]++;
	}
	return NULL;
}

/* Threads that race for the same keys, in a table that forgets them and with a limiter of
 * all, get no more than may be: S-LIM-14, S-LIM-15, S-LIM-16. */
START_TEST(threads)
{
	struct evwork_limiter_table_options options = { .key_size = sizeof(int) };
	struct evwork_limiter_table *table;
	struct racer racers[3];
	int64_t before = sys_now(), after, sum = 0;
	int i, k;

	ck_assert_int_eq(evwork_limiter_new(50000, 30, NULL, &options.all), 0);
	ck_assert_int_eq(evwork_limiter_table_new(5000, 5, 8, &options, &table), 0);
	for (i = 0; i < 3; i++) {
		racers[i] = (struct racer){ .table = table, .random = sys_random(),
			.tries = 100000 / support_slow() };
		ck_assert_int_eq(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
	}
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_join(racers[i].thread, NULL), 0);
	after = sys_now();
	for (k = 0; k < 16; k++) {
		int64_t taken = racers[0].taken[k] + racers[1].taken[k] + racers[2].taken[k];

		ck_assert_int_le(taken, 5 + (after - before) / 200000 + 1);
		sum += taken;
	}
	ck_assert_int_ge(sum, 30);
	ck_assert_int_le(sum, 30 + (after - before) / 20000 + 1);
	evwork_limiter_table_free(table);
	ck_assert_int_eq(evwork_limiter_free(options.all), 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("limiter_table");
	TCase *tcase = support_case(suite, "table");

	tcase_add_test(tcase, siphash);
	tcase_add_test(tcase, buckets_of_keys);
	tcase_add_loop_test(tcase, room, 0, 2);
	tcase_add_test(tcase, extreme_rates);
	tcase_add_test(tcase, chain);
	tcase_add_test(tcase, given_times);
	tcase_add_test(tcase, misused);
	tcase_add_test(tcase, failing_calls);
	if (support_forks())
		tcase_add_test(tcase, forked);
	tcase = support_case(suite, "many");
	tcase_add_test(tcase, agrees_with_buckets);
	tcase_add_test(tcase, ten_million_keys);
	tcase_add_test(tcase, threads);
	return suite;
}

int main(void)
{
	stress_begin();
	return support_run(suite());
}
