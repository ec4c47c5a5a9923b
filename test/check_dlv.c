/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Delivery of outcomes and posts to loops: in which order, and that none is lost. All of it
 * over an eventfd and over a pipe. Threads, descriptors and priorities are in
 * check_dlv_place.c, turns in check_dlv_turns.c, liveness in check_dlv_life.c, and the
 * ends of loops in check_dlv_ends.c.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

/* In which order. */

#define MANY 400

/* With one worker and one priority, dones come in the order of the submits: S-DLV-2. */
START_TEST(one_worker_keeps_the_order)
{
	struct probe *probes = calloc(MANY, sizeof(*probes));
	struct world world;
	int i;

	if (!world_open_notify(&world, _i, 1)) {
		free(probes);
		return;
	}
	for (i = 0; i < MANY; i++) {
		probe_init(&probes[i], 0);
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	}
	world_run(&world);
	for (i = 0; i < MANY; i++) {
		ck_assert_int_eq(probes[i].run_order, i + 1);
		ck_assert_int_eq(probes[i].done_order, i + 1);
	}
	world_close(&world);
	free(probes);
}
END_TEST

struct rows {
	struct evwork_loop *loop;
	struct support_post posts[4][MANY];
	atomic_int next;
	int came;
};

static struct rows *rows;

static void count_row(struct support_post *post)
{
	(void)post;
	rows->came++;
}

static void *post_row(void *arg)
{
	int row = atomic_fetch_add(&rows->next, 1), i;

	(void)arg;
	for (i = 0; i < MANY; i++) {
		support_post_init(&rows->posts[row][i]);
		rows->posts[row][i].on = count_row;
		if (evwork_post(rows->loop, support_post_fn, &rows->posts[row][i]) != 0)
			abort();
	}
	return NULL;
}

/* What one thread posts comes in the order in which it posted, whatever others post
 * meanwhile, each once: S-DLV-2, S-DLV-11. */
START_TEST(each_poster_keeps_its_order)
{
	pthread_t threads[4];
	struct world world;
	int i, row;

	if (!world_open_notify(&world, _i, 1))
		return;
	rows = calloc(1, sizeof(*rows));
	rows->loop = world.loop;
	for (i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, post_row, NULL), 0);
	world_run_until(&world, &rows->came, 4 * MANY);
	for (row = 0; row < 4; row++) {
		pthread_join(threads[row], NULL);
		for (i = 0; i < MANY; i++) {
			ck_assert_int_eq(rows->posts[row][i].calls, 1);
			if (i > 0)
				ck_assert_int_gt(rows->posts[row][i].order,
					rows->posts[row][i - 1].order);
		}
	}
	world_close(&world);
	free(rows);
}
END_TEST

struct between {
	struct evwork_loop *loop;
	struct support_post post;
	int rc;
};

static void post_in_work(struct probe *probe)
{
	struct between *between = probe->arg;

	between->rc = evwork_post(between->loop, support_post_fn, &between->post);
}

#define PAIRS 50

/* Posts and outcomes have one order: what work posts comes before the done of its job and
 * after the done of the job before it, S-DLV-11, S-DLV-2. */
START_TEST(posts_and_outcomes_have_one_order)
{
	struct between between[PAIRS];
	struct probe probes[PAIRS];
	struct world world;
	int i;

	if (!world_open_notify(&world, _i, 1))
		return;
	for (i = 0; i < PAIRS; i++) {
		between[i].loop = world.loop;
		support_post_init(&between[i].post);
		probe_init(&probes[i], 0);
		probes[i].on_run = post_in_work;
		probes[i].arg = &between[i];
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	}
	world_run(&world);
	for (i = 0; i < PAIRS; i++) {
		ck_assert_int_eq(between[i].rc, 0);
		ck_assert_int_eq(between[i].post.order, 2 * i + 1);
		ck_assert_int_eq(probes[i].done_order, 2 * i + 2);
	}
	world_close(&world);
}
END_TEST

static void post_elsewhere(void *arg)
{
	struct between *between = arg;

	between->rc = evwork_post(between->loop, support_post_fn, &between->post);
}

/* A post runs once, on the loop's thread, in a later turn, whether it comes from there or
 * from elsewhere; after close it is refused and never runs: S-DLV-11. */
START_TEST(post_runs_once_and_not_after_close)
{
	struct between here, there, late;
	struct world world;

	if (!world_open_notify(&world, _i, 1))
		return;
	here.loop = there.loop = late.loop = world.loop;
	support_post_init(&here.post);
	support_post_init(&there.post);
	support_post_init(&late.post);
	post_elsewhere(&here);
	support_elsewhere(post_elsewhere, &there);
	ck_assert_int_eq(here.post.calls + there.post.calls, 0);
	ck_assert_int_eq(evwork_loop_close(world.loop, NULL, NULL), 0);
	post_elsewhere(&late);
	ck_assert_int_eq(late.rc, -ESHUTDOWN);
	support_elsewhere(post_elsewhere, &late);
	ck_assert_int_eq(late.rc, -ESHUTDOWN);
	world_run(&world);
	ck_assert_int_eq(here.post.calls, 1);
	ck_assert_int_eq(there.post.calls, 1);
	ck_assert_int_eq(late.post.calls, 0);
	ck_assert(pthread_equal(there.post.thread, pthread_self()));
	ck_assert_int_eq(here.post.order, 1);
	ck_assert_int_eq(there.post.order, 2);
	world_close(&world);
}
END_TEST

/* That none is lost. */

static void post_a_thousand(void *arg)
{
	struct support_post *posts = arg;
	int i;

	for (i = 0; i < 1000; i++) {
		support_post_init(&posts[i]);
		if (evwork_post(rows->loop, support_post_fn, &posts[i]) != 0)
			abort();
	}
}

/* A thousand posts before the first turn make at least one and at most a thousand
 * wake-ups and exactly a thousand deliveries, in order: S-DLV-3. */
START_TEST(thousand_posts_before_the_first_turn)
{
	struct support_post *posts = calloc(1000, sizeof(*posts));
	struct evwork_loop_stats stats;
	struct world world;
	int i;

	if (!world_open_notify(&world, _i, 1)) {
		free(posts);
		return;
	}
	rows = calloc(1, sizeof(*rows));
	rows->loop = world.loop;
	support_elsewhere(post_a_thousand, posts);
	ck_assert_int_eq(evwork_loop_stats(world.loop, &stats), 0);
	ck_assert_uint_eq(stats.outstanding, 1000);
	ck_assert_uint_eq(stats.delivered, 0);
	world_run_until(&world, &posts[999].calls, 1);
	for (i = 0; i < 1000; i++) {
		ck_assert_int_eq(posts[i].calls, 1);
		ck_assert_int_eq(posts[i].order, i + 1);
	}
	ck_assert_int_eq(evwork_loop_stats(world.loop, &stats), 0);
	ck_assert_uint_eq(stats.outstanding, 0);
	ck_assert_uint_eq(stats.delivered, 1000);
	ck_assert_uint_ge(stats.wakeups, 1);
	ck_assert_uint_le(stats.wakeups, 1000);
	world_close(&world);
	free(rows);
	free(posts);
}
END_TEST

#define FLOODERS 4

static struct {
	struct world world;
	int each, expected, came;
	atomic_bool wrong_thread;
	pthread_t loop_thread;
} flood;

/* Nothing but the posts themselves wakes the loop, and only the last of them lets it
 * return: a lost wake-up is a hang. */
static void count_flood(void *arg)
{
	(void)arg;
	if (!pthread_equal(pthread_self(), flood.loop_thread))
		atomic_store(&flood.wrong_thread, true);
	if (++flood.came == flood.expected)
		evwork_loop_release(flood.world.loop);
}

static void *post_flood(void *arg)
{
	int i;

	(void)arg;
	for (i = 0; i < flood.each; i++)
		if (evwork_post(flood.world.loop, count_flood, NULL) != 0)
			abort();
	return NULL;
}

static bool flood_open(int kind, int each, int threads)
{
	memset(&flood, 0, sizeof(flood));
	if (!world_open_notify(&flood.world, kind, 1))
		return false;
	flood.each = each;
	flood.expected = each * threads;
	flood.loop_thread = pthread_self();
	ck_assert_int_eq(evwork_loop_hold(flood.world.loop), 0);
	return true;
}

static void flood_close(void)
{
	struct evwork_loop_stats stats;

	ck_assert_int_eq(flood.came, flood.expected);
	ck_assert(!atomic_load(&flood.wrong_thread));
	ck_assert_int_eq(evwork_loop_stats(flood.world.loop, &stats), 0);
	ck_assert_uint_eq(stats.delivered, (unsigned)flood.expected);
	ck_assert_uint_ge(stats.wakeups, 1);
	ck_assert_uint_le(stats.wakeups, (unsigned)flood.expected);
	ck_assert_uint_eq(stats.outstanding, 0);
	world_close(&flood.world);
}

/* A million posts from four threads, less in slow runs, are all delivered, and no wake-up
 * is lost: S-DLV-3. */
START_TEST(million_posts)
{
	pthread_t threads[FLOODERS];
	int i;

	if (!flood_open(_i, 250000 / support_slow(), FLOODERS))
		return;
	for (i = 0; i < FLOODERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, post_flood, NULL), 0);
	world_run(&flood.world);
	for (i = 0; i < FLOODERS; i++)
		pthread_join(threads[i], NULL);
	support_note("%d posts", flood.expected);
	flood_close();
}
END_TEST

static atomic_int answered[2];

static void answer(void *arg)
{
	atomic_int *mine = arg;

	atomic_fetch_add(mine, 1);
	count_flood(NULL);
}

static void *ask(void *arg)
{
	atomic_int *mine = arg;
	int i;

	for (i = 0; i < flood.each; i++) {
		if (evwork_post(flood.world.loop, answer, mine) != 0)
			abort();
		while (atomic_load(mine) <= i)
			sys_yield();
	}
	return NULL;
}

/* Posts that come one by one, each as soon as the one before was delivered and so just as
 * the loop goes to sleep, are all noticed: S-DLV-3. */
START_TEST(posts_at_the_end_of_a_drain)
{
	pthread_t threads[2];
	int i;

	if (!flood_open(_i, 20000 / support_slow(), 2))
		return;
	for (i = 0; i < 2; i++) {
		atomic_store(&answered[i], 0);
		ck_assert_int_eq(pthread_create(&threads[i], NULL, ask, &answered[i]), 0);
	}
	world_run(&flood.world);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	flood_close();
}
END_TEST

static Suite *suite(void)
{
	Suite *dlv = suite_create("dlv");
	TCase *tcase = support_case(dlv, "order");

	tcase_add_loop_test(tcase, one_worker_keeps_the_order, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, each_poster_keeps_its_order, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, posts_and_outcomes_have_one_order, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, post_runs_once_and_not_after_close, 0, NOTIFY_KINDS);
	tcase = support_case(dlv, "loss");
	tcase_add_loop_test(tcase, thousand_posts_before_the_first_turn, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, million_posts, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, posts_at_the_end_of_a_drain, 0, NOTIFY_KINDS);
	return dlv;
}

int main(void)
{
	return support_run(suite());
}
