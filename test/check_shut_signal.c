/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Shutting down on signals: what the first and the second do, in which order, and that
 * the signals are given back.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>
#include <signal.h>

#define MS SYS_NS_PER_MS

/* A server: a pool that shuts down on signals, and what its callbacks saw. */
struct server {
	struct world world;
	struct evwork_pool *pool;
	struct evwork_lane *lane;
	struct evwork_shutdown shutdown;
	struct evwork_shutdown_options options;
	struct gate gate;
	struct gate_job blocker;
	struct probe last;             /* submitted when it begins */
	int begun, signal, begun_order, last_rc, late_rc;
	int closed, status, closed_order, undo_rc;
	int hurries, hurry_signal;
	bool undoes;                   /* in the last of the hurry callbacks */
	bool submits;
	int rc;                        /* of a call elsewhere */
};

static int next_order(void)
{
	return atomic_fetch_add(&probe_done_counter, 1) + 1;
}

static void put(struct server *server, struct probe *probe)
{
	probe_init(probe, 0);
	probe->job.lane = server->lane;
	ck_assert_int_eq(evwork_submit(server->world.loop, &probe->job), 0);
}

static void on_begun(struct evwork_shutdown *shutdown, int number)
{
	struct server *server = shutdown->arg;

	server->begun++;
	server->signal = number;
	server->begun_order = next_order();
	server->undo_rc = evwork_shutdown_undo(shutdown);
	if (server->submits)
		put(server, &server->last);
}

static void on_closed(struct evwork_shutdown *shutdown, int status)
{
	struct server *server = shutdown->arg;

	server->closed++;
	server->status = status;
	server->closed_order = next_order();
}

static void server_open(struct server *server, bool manual)
{
	struct evwork_pool_options options = { .threads = 1 };

	memset(server, 0, sizeof(*server));
	if (manual)
		world_open_manual(&server->world, 1, 0);
	else
		world_open(&server->world, 1);
	ck_assert_int_eq(evwork_pool_new(&options, &server->pool), 0);
	server->lane = evwork_pool_lane(server->pool);
	gate_init(&server->gate);
	server->status = server->undo_rc = 1;
	server->options.begun = on_begun;
	server->options.closed = on_closed;
	server->options.signals[0] = SIGUSR1;
	server->options.signals[1] = SIGUSR2;
	server->shutdown.arg = server;
}

static int server_watch(struct server *server)
{
	return evwork_shutdown_on_signal(&server->shutdown, server->world.loop, server->pool,
		&server->options);
}

static void server_block(struct server *server)
{
	gate_job_init(&server->blocker, &server->gate);
	server->blocker.job.lane = server->lane;
	ck_assert_int_eq(evwork_submit(server->world.loop, &server->blocker.job), 0);
	gate_await(&server->gate, 1);
}

static void server_close(struct server *server)
{
	ck_assert_int_eq(evwork_pool_free(server->pool), 0);
	world_run(&server->world);
	world_close(&server->world);
	gate_fini(&server->gate);
}

/* Sends the process a signal, and lets the base take it. */
static void send_signal(struct server *server, int number)
{
	ck_assert_int_eq(kill(getpid(), number), 0);
	world_turns(&server->world, 4);
}

static atomic_int mine;

static void my_handler(int number)
{
	(void)number;
	atomic_fetch_add(&mine, 1);
}

/* The handler of this program, for the signals of a test. */
static void install_mine(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = my_handler;
	atomic_store(&mine, 0);
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
}

static bool is_mine(int number)
{
	struct sigaction action;

	ck_assert_int_eq(sigaction(number, NULL, &action), 0);
	return action.sa_handler == my_handler;
}

/* The first signal calls begun, which may still submit, and lets the pool drain; nothing
 * is accepted after it; closed comes last, and the signals are given back
 * (S-SHUT-8, S-SHUT-1, S-SHUT-5). */
START_TEST(first_drains)
{
	struct server server;
	struct probe queued, late;

	install_mine();
	server_open(&server, false);
	server.submits = true;
	ck_assert_int_eq(server_watch(&server), 0);
	ck_assert(!is_mine(SIGUSR1));
	server_block(&server);
	put(&server, &queued);
	send_signal(&server, _i ? SIGUSR1 : SIGUSR2);
	ck_assert_int_eq(server.begun, 1);
	ck_assert_int_eq(server.signal, _i ? SIGUSR1 : SIGUSR2);
	ck_assert_int_eq(server.undo_rc, -EBUSY);
	ck_assert_int_eq(evwork_shutdown_undo(&server.shutdown), -EBUSY);
	probe_init(&late, 0);
	late.job.lane = server.lane;
	ck_assert_int_eq(evwork_submit(server.world.loop, &late.job), -ESHUTDOWN);
	ck_assert_int_eq(server.closed, 0);
	gate_open(&server.gate);
	world_run_until(&server.world, &server.closed, 1);
	ck_assert_int_eq(server.status, 0);
	ck_assert_int_eq(queued.status, 0);
	ck_assert_int_eq(server.last.status, 0);
	ck_assert_int_eq(server.begun_order, 1);
	ck_assert_int_eq(server.closed_order, 4);
	ck_assert(is_mine(SIGUSR1) && is_mine(SIGUSR2));
	ck_assert_int_eq(evwork_shutdown_undo(&server.shutdown), -ESRCH);
	send_signal(&server, SIGUSR1);
	ck_assert_int_eq(atomic_load(&mine), 1);
	ck_assert_int_eq(server.begun, 1);
	server_close(&server);
}
END_TEST

/* The second signal cancels what is queued, further ones change nothing
 * (S-SHUT-4, S-SHUT-1). */
START_TEST(second_cancels)
{
	struct server server;
	struct probe queued;

	server_open(&server, false);
	ck_assert_int_eq(server_watch(&server), 0);
	server_block(&server);
	put(&server, &queued);
	send_signal(&server, SIGUSR1);
	ck_assert_int_eq(queued.dones, 0);
	send_signal(&server, _i ? SIGUSR1 : SIGUSR2);
	ck_assert_int_eq(queued.dones, 1);
	ck_assert_int_eq(queued.status, -ECANCELED);
	send_signal(&server, SIGUSR2);
	ck_assert_int_eq(server.begun, 1);
	ck_assert_int_eq(server.closed, 0);
	gate_open(&server.gate);
	world_run_until(&server.world, &server.closed, 1);
	ck_assert_int_eq(server.status, 0);
	server_close(&server);
}
END_TEST

static void on_hurry(struct evwork_shutdown *shutdown, int number)
{
	struct server *server = shutdown->arg;

	server->hurries++;
	server->hurry_signal = number;
	if (server->undoes)
		server->undo_rc = evwork_shutdown_undo(shutdown);
}

/* With a hurry callback each signal after the first calls it, after the pool was told to
 * cancel, and also after closed, when the pool is gone; until it is taken back, in the
 * callback or elsewhere. Then it can be used again (S-SHUT-1, S-SHUT-4, S-GEN-5). */
START_TEST(later_ones_hurry)
{
	struct server server;
	struct probe queued;

	install_mine();
	server_open(&server, false);
	server.options.hurry = on_hurry;
	/* Something else is to end, too. */
	ck_assert_int_eq(evwork_loop_hold(server.world.loop), 0);
	ck_assert_int_eq(server_watch(&server), 0);
	server_block(&server);
	put(&server, &queued);
	send_signal(&server, SIGUSR1);
	ck_assert_int_eq(server.hurries, 0);
	send_signal(&server, SIGUSR2);
	ck_assert_int_eq(server.hurries, 1);
	ck_assert_int_eq(server.hurry_signal, SIGUSR2);
	ck_assert_int_eq(queued.status, -ECANCELED);
	ck_assert_int_eq(evwork_shutdown_undo(&server.shutdown), -EBUSY);
	gate_open(&server.gate);
	world_run_until(&server.world, &server.closed, 1);
	ck_assert_int_eq(server.status, 0);
	ck_assert(!is_mine(SIGUSR1) && !is_mine(SIGUSR2));
	ck_assert_int_eq(server_watch(&server), -ESHUTDOWN);
	ck_assert_int_eq(evwork_pool_free(server.pool), 0);
	send_signal(&server, SIGUSR1);
	ck_assert_int_eq(server.hurries, 2);
	ck_assert_int_eq(server.begun, 1);
	ck_assert_int_eq(server.closed, 1);
	server.undoes = _i == 1;
	if (server.undoes)
		send_signal(&server, SIGUSR1);
	else
		server.undo_rc = evwork_shutdown_undo(&server.shutdown);
	ck_assert_int_eq(server.undo_rc, 0);
	ck_assert(is_mine(SIGUSR1) && is_mine(SIGUSR2));
	ck_assert_int_eq(evwork_shutdown_undo(&server.shutdown), -ESRCH);
	send_signal(&server, SIGUSR1);
	ck_assert_int_eq(atomic_load(&mine), 1);
	ck_assert_int_eq(server.hurries, 2 + _i);
	ck_assert_int_eq(evwork_loop_release(server.world.loop), 0);
	server.pool = NULL;
	server_close(&server);
}
END_TEST

/* The deadline counts from the first signal and the grace time from it or from the second
 * signal; after them closed is called with ETIMEDOUT (S-SHUT-6). */
START_TEST(bounds)
{
	struct server server;
	int64_t end = _i ? 60 : 150;

	server_open(&server, true);
	server.options.deadline_ms = 100;
	server.options.grace_ms = 50;
	ck_assert_int_eq(server_watch(&server), 0);
	server_block(&server);
	send_signal(&server, SIGUSR1);
	if (_i) {
		ck_assert_int_eq(evwork_clock_advance(server.world.clock, 10 * MS), 0);
		world_turns(&server.world, 4);
		send_signal(&server, SIGUSR1);
	}
	ck_assert_int_eq(evwork_clock_advance(server.world.clock,
		end * MS - 1 - evwork_loop_now(server.world.loop)), 0);
	while (evwork_loop_now(server.world.loop) < end * MS - 1)
		world_turns(&server.world, 1);
	world_turns(&server.world, 4);
	ck_assert_int_eq(server.closed, 0);
	ck_assert_int_eq(evwork_clock_advance(server.world.clock, 1), 0);
	world_run_until(&server.world, &server.closed, 1);
	ck_assert_int_eq(server.status, -ETIMEDOUT);
	ck_assert_int_eq(evwork_pool_free(server.pool), -EBUSY);
	gate_open(&server.gate);
	world_run(&server.world);
	server_close(&server);
}
END_TEST

/* Taken back, the signals do what they did before and nothing is closed; it can be used
 * again. Watching does not keep the base running (S-DLV-7). */
START_TEST(undone)
{
	struct server server;
	int round;

	install_mine();
	server_open(&server, false);
	for (round = 0; round < 2; round++) {
		ck_assert_int_eq(server_watch(&server), 0);
		ck_assert_int_eq(server_watch(&server), -EBUSY);
		world_run(&server.world);
		ck_assert(!is_mine(SIGUSR1) && !is_mine(SIGUSR2));
		ck_assert_int_eq(evwork_shutdown_undo(&server.shutdown), 0);
		ck_assert(is_mine(SIGUSR1) && is_mine(SIGUSR2));
		send_signal(&server, SIGUSR2);
		ck_assert_int_eq(atomic_load(&mine), round + 1);
	}
	ck_assert_int_eq(server.begun, 0);
	put(&server, &server.last);
	world_run(&server.world);
	ck_assert_int_eq(server.last.status, 0);
	server_close(&server);
}
END_TEST

/* Without a list SIGINT and SIGTERM are watched, and without callbacks a signal drains just
 * the same (S-SHUT-1). */
START_TEST(defaults)
{
	static const int signals[] = { SIGINT, SIGTERM };
	struct evwork_lane_options options = { .priority = 0 };
	struct evwork_lane *lane;
	struct server server;
	int rc;

	server_open(&server, false);
	ck_assert_int_eq(evwork_shutdown_on_signal(&server.shutdown, server.world.loop,
		server.pool, NULL), 0);
	/* As a listener would. */
	ck_assert_int_eq(evwork_loop_hold(server.world.loop), 0);
	send_signal(&server, signals[_i]);
	while ((rc = evwork_shutdown_undo(&server.shutdown)) == -EBUSY)
		world_turns(&server.world, 1);
	ck_assert_int_eq(rc, -ESRCH);
	ck_assert_int_eq(evwork_loop_release(server.world.loop), 0);
	ck_assert_int_eq(evwork_lane_new(server.pool, &options, &lane), -ESHUTDOWN);
	server_close(&server);
}
END_TEST

static void on_pool_closed(struct evwork_pool *pool, int status, void *arg)
{
	(void)pool;
	(void)status;
	(*(int *)arg)++;
}

/* When the host has closed the pool itself a signal helps, but closed is not called
 * (S-SHUT-4). */
START_TEST(helps_others)
{
	struct probe queued;
	struct server server;
	int closed = 0;

	server_open(&server, false);
	ck_assert_int_eq(server_watch(&server), 0);
	server_block(&server);
	put(&server, &queued);
	ck_assert_int_eq(evwork_pool_close(server.pool, EVWORK_DRAIN, server.world.loop,
		on_pool_closed, &closed), 0);
	send_signal(&server, SIGUSR1);
	ck_assert_int_eq(server.begun, 1);
	ck_assert_int_eq(queued.dones, 0);
	send_signal(&server, SIGUSR1);
	ck_assert_int_eq(queued.status, -ECANCELED);
	gate_open(&server.gate);
	world_run_until(&server.world, &closed, 1);
	ck_assert_int_eq(server.closed, 0);
	ck_assert_int_eq(evwork_shutdown_undo(&server.shutdown), 0);
	ck_assert_int_eq(evwork_shutdown_undo(&server.shutdown), -ESRCH);
	server_close(&server);
}
END_TEST

static void watch_elsewhere(void *arg)
{
	struct server *server = arg;

	server->rc = server_watch(server);
}

static void undo_elsewhere(void *arg)
{
	struct server *server = arg;

	server->rc = evwork_shutdown_undo(&server->shutdown);
}

/* What is refused leaves every signal as it was (S-GEN-4). */
START_TEST(refused)
{
	static const int wrong[][2] = {
		{ -1, 0 }, { 100000, 0 }, { SIGUSR1, SIGUSR1 }, { SIGUSR1, SIGKILL }, { SIGSTOP, 0 }
	};
	struct server server;
	size_t i;

	install_mine();
	server_open(&server, false);
	ck_assert_int_eq(evwork_shutdown_on_signal(NULL, server.world.loop, server.pool, NULL), -EINVAL);
	ck_assert_int_eq(evwork_shutdown_on_signal(&server.shutdown, NULL, server.pool, NULL), -EINVAL);
	ck_assert_int_eq(evwork_shutdown_on_signal(&server.shutdown, server.world.loop, NULL, NULL),
		-EINVAL);
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		memcpy(server.options.signals, wrong[i], sizeof(wrong[i]));
		ck_assert_int_eq(server_watch(&server), -EINVAL);
	}
	server.options.signals[0] = SIGUSR1;
	server.options.signals[1] = 0;
	server.options.deadline_ms = -1;
	ck_assert_int_eq(server_watch(&server), -EINVAL);
	server.options.deadline_ms = 0;
	server.options.grace_ms = -1;
	ck_assert_int_eq(server_watch(&server), -EINVAL);
	server.options.grace_ms = 0;
	support_elsewhere(watch_elsewhere, &server);
	ck_assert_int_eq(server.rc, -EPERM);
	ck_assert_int_eq(evwork_shutdown_undo(NULL), -EINVAL);
	ck_assert_int_eq(evwork_shutdown_undo(&server.shutdown), -ESRCH);
	ck_assert(is_mine(SIGUSR1) && is_mine(SIGUSR2));
	ck_assert_int_eq(server_watch(&server), 0);
	support_elsewhere(undo_elsewhere, &server);
	ck_assert_int_eq(server.rc, -EPERM);
	ck_assert_int_eq(evwork_shutdown_undo(&server.shutdown), 0);
	ck_assert_int_eq(evwork_pool_close(server.pool, EVWORK_DRAIN, NULL, NULL, NULL), 0);
	ck_assert_int_eq(server_watch(&server), -ESHUTDOWN);
	ck_assert(is_mine(SIGUSR1));
	server_close(&server);
}
END_TEST

static Suite *suite(void)
{
	Suite *suite = suite_create("shut_signal");
	TCase *tcase = support_case(suite, "signal");

	tcase_add_loop_test(tcase, first_drains, 0, 2);
	tcase_add_loop_test(tcase, second_cancels, 0, 2);
	tcase_add_loop_test(tcase, later_ones_hurry, 0, 2);
	tcase_add_loop_test(tcase, bounds, 0, 2);
	tcase_add_test(tcase, undone);
	tcase_add_loop_test(tcase, defaults, 0, 2);
	tcase_add_test(tcase, helps_others);
	tcase_add_test(tcase, refused);
	return suite;
}

int main(void)
{
	return support_run(suite());
}
