/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * General rules about the program around the library: that it is left alone, and that its
 * plain data is visible where calls and callbacks lead. The second half means most under
 * a race detector: all data handed over there is plain.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static const enum evwork_notify kinds[] = { EVWORK_NOTIFY_EVENTFD, EVWORK_NOTIFY_PIPE };
#define KINDS 2

/* False, with a note, if the system has no eventfd. */
static bool kind_open(struct world *world, int threads, int kind)
{
	struct evwork_pool_options pool = { .threads = threads };
	struct evwork_loop_options loop = { .notify = kinds[kind] };
	int fd;

	if (kinds[kind] == EVWORK_NOTIFY_EVENTFD && sys_eventfd(&fd) != 0) {
		support_note("no eventfd here");
		return false;
	}
	if (kinds[kind] == EVWORK_NOTIFY_EVENTFD)
		sys_close(fd);
	world_open_with(world, &pool, &loop);
	return true;
}

/* A little of everything, in a world of one worker: what succeeds, fails, is cancelled,
 * expires and closes. */
static void live(struct world *world)
{
	struct support_timer timer;
	struct support_watch watch;
	struct gate_job blocker;
	struct evwork_ctx *ctx;
	struct probe probes[3];
	struct gate gate;
	int i;

	gate_init(&gate);
	gate_job_init(&blocker, &gate);
	support_timer_init(&timer, world->loop);
	support_watch_init(&watch);
	ck_assert_int_eq(evwork_ctx_with_timeout(NULL, world->loop, 1, 0, &ctx), 0);
	ck_assert_int_eq(evwork_submit(world->loop, &blocker.job), 0);
	gate_await(&gate, 1);
	for (i = 0; i < 3; i++)
		probe_init(&probes[i], i ? -EPIPE : 0);
	probes[2].job.ctx = ctx;
	if (evwork_submit(world->loop, &probes[2].job) != 0)
		probes[2].dones = 1;
	ck_assert_int_eq(evwork_submit(world->loop, &probes[0].job), 0);
	ck_assert_int_eq(evwork_submit(world->loop, &probes[1].job), 0);
	ck_assert_int_eq(evwork_cancel(&probes[0].job), 0);
	ck_assert_int_eq(evwork_timer_start(world->loop, &timer.timer, 1), 0);
	ck_assert_int_eq(evwork_ctx_after(ctx, world->loop, &watch.watch), 0);
	world_run_until(world, &watch.calls, 1);
	gate_open(&gate);
	world_run(world);
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(probes[i].dones, 1);
	evwork_ctx_unref(ctx);
	gate_fini(&gate);
}

/* Being a guest. */

static bool descriptor_is_tame(int fd)
{
	int flags = fcntl(fd, F_GETFD), status = fcntl(fd, F_GETFL);

	return (flags & FD_CLOEXEC) && (status & O_NONBLOCK);
}

#define FDS 256

/* All descriptors that a loop and a pool make are close-on-exec and non-blocking, and
 * gone when they are freed: S-GEN-16. */
START_TEST(descriptors_are_tame)
{
	struct event_base *base = event_base_new();
	struct evwork_loop_options options = { .notify = kinds[_i] };
	struct evwork_pool_options threads = { .threads = 2 };
	struct evwork_loop *loop = NULL;
	struct evwork_pool *pool;
	bool before[FDS];
	int fd, made = 0, rc;

	for (fd = 0; fd < FDS; fd++)
		before[fd] = fcntl(fd, F_GETFD) >= 0;
	ck_assert_int_eq(evwork_pool_new(&threads, &pool), 0);
	rc = evwork_loop_new(base, pool, &options, &loop);
	if (rc == -EINVAL)
		support_note("no eventfd here");
	else
		ck_assert_int_eq(rc, 0);
	for (fd = 0; fd < FDS; fd++) {
		if (fcntl(fd, F_GETFD) < 0 || before[fd])
			continue;
		made++;
		ck_assert_msg(descriptor_is_tame(fd), "descriptor %d", fd);
	}
	ck_assert(rc != 0 || made > 0);
	ck_assert_int_eq(evwork_loop_free(loop), 0);
	ck_assert_int_eq(evwork_pool_free(pool), 0);
	for (fd = 0; fd < FDS; fd++)
		ck_assert_int_eq(fcntl(fd, F_GETFD) >= 0, before[fd]);
	event_base_free(base);
}
END_TEST

static void handler(int number)
{
	(void)number;
}

/* Signals of the host. */
struct signals {
	struct sigaction actions[NSIG];
	bool known[NSIG];
	sigset_t mask;
};

static void signals_read(struct signals *signals)
{
	int i;

	memset(signals, 0, sizeof(*signals));
	for (i = 1; i < NSIG; i++)
		signals->known[i] = sigaction(i, NULL, &signals->actions[i]) == 0;
	pthread_sigmask(SIG_SETMASK, NULL, &signals->mask);
}

static void expect_same_signals(const struct signals *a, const struct signals *b)
{
	int i;

	for (i = 1; i < NSIG; i++) {
		ck_assert_int_eq(sigismember(&a->mask, i), sigismember(&b->mask, i));
		if (!a->known[i])
			continue;
		ck_assert(a->actions[i].sa_handler == b->actions[i].sa_handler);
		ck_assert_int_eq(a->actions[i].sa_flags, b->actions[i].sa_flags);
	}
}

/* A life with everything in it changes no signal handler and not the signal mask of the
 * calling thread, neither meanwhile nor after: S-GEN-16. */
START_TEST(signals_are_left_alone)
{
	struct signals before, during, after;
	void (*old_handler)(int);
	struct world world;
	sigset_t some, old_mask;

	sigemptyset(&some);
	sigaddset(&some, SIGUSR1);
	sigaddset(&some, SIGWINCH);
	pthread_sigmask(SIG_BLOCK, &some, &old_mask);
	old_handler = signal(SIGUSR2, handler);
	signals_read(&before);
	if (kind_open(&world, 1, _i)) {
		live(&world);
		signals_read(&during);
		world_close(&world);
		signals_read(&after);
		expect_same_signals(&before, &during);
		expect_same_signals(&before, &after);
	}
	signal(SIGUSR2, old_handler);
	pthread_sigmask(SIG_SETMASK, &old_mask, NULL);
}
END_TEST

static volatile sig_atomic_t broken_pipes;

static void count_broken_pipe(int number)
{
	(void)number;
	broken_pipes++;
}

/* Loops that live only for one job raise no SIGPIPE: S-GEN-16. */
START_TEST(no_broken_pipes)
{
	struct evwork_loop_options options = { .notify = kinds[_i] };
	void (*old_handler)(int);
	struct world world;
	int rounds = 200 / support_slow() + 2;

	broken_pipes = 0;
	if (!kind_open(&world, 2, _i))
		return;
	old_handler = signal(SIGPIPE, count_broken_pipe);
	while (rounds-- > 0) {
		struct evwork_loop *loop;
		struct probe probe;

		ck_assert_int_eq(evwork_loop_new(world.base, world.pool, &options, &loop), 0);
		probe_init(&probe, 0);
		ck_assert_int_eq(evwork_submit(loop, &probe.job), 0);
		world_run_until(&world, &probe.dones, 1);
		ck_assert_int_eq(evwork_loop_free(loop), 0);
	}
	ck_assert_int_eq(broken_pipes, 0);
	signal(SIGPIPE, old_handler);
	world_close(&world);
}
END_TEST

/* A life with everything in it, refusals and expiries too, prints nothing: S-GEN-16. */
START_TEST(life_is_silent)
{
	struct support_capture capture;
	struct world world;

	support_capture_begin(&capture);
	world_open(&world, 1);
	live(&world);
	world_close(&world);
	ck_assert_int_eq(support_capture_end(&capture), 0);
}
END_TEST

#ifndef __SANITIZE_THREAD__

/* Reachable at exit, so that no leak is seen there. */
static struct {
	struct world world;
	struct gate gate;
	struct gate_job blocker;
} left;

static void leave_and_exit(void)
{
	world_open(&left.world, 1);
	gate_init(&left.gate);
	gate_job_init(&left.blocker, &left.gate);
	if (evwork_submit(left.world.loop, &left.blocker.job) != 0)
		_exit(1);
	gate_await(&left.gate, 1);
	exit(7);
}

#endif

/* A program that exits while work runs exits: nothing of the library is called then,
 * S-GEN-16. */
START_TEST(exit_is_not_held_up)
{
#ifdef __SANITIZE_THREAD__
	support_note("the race detector complains of threads that are left at exit");
#else
	int status;
	pid_t child;

	if (!support_forks()) {
		support_note("not without processes of its own");
		return;
	}
	child = fork();
	if (child == 0)
		leave_and_exit();
	ck_assert_int_gt(child, 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 7);
#endif
}
END_TEST

/* Visibility. */

#define CARGOES 300

/* A job with plain data in both directions. */
struct cargo {
	struct evwork_job job;
	int in[4], out[4];
	int trips, wrong;
	struct evwork_loop *loop;
};

static int cargoes_home;

static int cargo_run(struct evwork_job *job)
{
	struct cargo *cargo = EVWORK_CONTAINER(job, struct cargo, job);
	int i;

	for (i = 0; i < 4; i++)
		cargo->out[i] = cargo->in[i] + 1;
	return 0;
}

static void cargo_load(struct cargo *cargo)
{
	int i;

	for (i = 0; i < 4; i++)
		cargo->in[i] = cargo->trips * 10 + i;
}

static void cargo_done(struct evwork_job *job, int status)
{
	struct cargo *cargo = EVWORK_CONTAINER(job, struct cargo, job);
	int i;

	cargo->wrong += status != 0;
	for (i = 0; i < 4; i++)
		cargo->wrong += cargo->out[i] != cargo->trips * 10 + i + 1;
	if (++cargo->trips == 3) {
		cargoes_home++;
		return;
	}
	cargo_load(cargo);
	if (evwork_submit(cargo->loop, job) != 0)
		abort();
}

static void cargo_send(struct cargo *cargo, struct evwork_loop *loop)
{
	memset(cargo, 0, sizeof(*cargo));
	evwork_job_init(&cargo->job, cargo_run, cargo_done);
	cargo->loop = loop;
	cargo_load(cargo);
	if (evwork_submit(loop, &cargo->job) != 0)
		abort();
}

struct sender {
	struct cargo *cargoes;
	struct evwork_loop *loop;
};

static void *send_half(void *arg)
{
	struct sender *sender = arg;
	int i;

	for (i = 1; i < CARGOES; i += 2)
		cargo_send(&sender->cargoes[i], sender->loop);
	return NULL;
}

/* Work sees what was written before submit, on the loop's thread and on another, and done
 * sees what work wrote; over and over in one struct: S-GEN-17. */
START_TEST(data_goes_to_work_and_back)
{
	struct cargo *cargoes = calloc(CARGOES, sizeof(*cargoes));
	struct sender sender;
	struct world world;
	pthread_t thread;
	int i;

	if (!kind_open(&world, 3, _i)) {
		free(cargoes);
		return;
	}
	cargoes_home = 0;
	sender.cargoes = cargoes;
	sender.loop = world.loop;
	ck_assert_int_eq(pthread_create(&thread, NULL, send_half, &sender), 0);
	for (i = 0; i < CARGOES; i += 2)
		cargo_send(&cargoes[i], world.loop);
	world_run_until(&world, &cargoes_home, CARGOES);
	pthread_join(thread, NULL);
	for (i = 0; i < CARGOES; i++)
		ck_assert_int_eq(cargoes[i].wrong, 0);
	world_close(&world);
	free(cargoes);
}
END_TEST

#define LETTERS 500

struct letter {
	int text, wrong;
	struct evwork_loop *loop;
};

static int letters_read;

static void read_letter(void *arg)
{
	struct letter *letter = arg;

	letter->wrong = letter->text != 42;
	letters_read++;
}

static void *write_letters(void *arg)
{
	struct letter *letters = arg;
	int i;

	for (i = 0; i < LETTERS; i++) {
		letters[i].text = 42;
		if (evwork_post(letters[0].loop, read_letter, &letters[i]) != 0)
			abort();
	}
	return NULL;
}

/* A posted function sees what its poster wrote before: S-GEN-17. */
START_TEST(data_goes_with_posts)
{
	struct letter *letters = calloc(LETTERS, sizeof(*letters));
	struct world world;
	pthread_t thread;
	int i;

	if (!kind_open(&world, 1, _i)) {
		free(letters);
		return;
	}
	letters_read = 0;
	letters[0].loop = world.loop;
	ck_assert_int_eq(pthread_create(&thread, NULL, write_letters, letters), 0);
	world_run_until(&world, &letters_read, LETTERS);
	pthread_join(thread, NULL);
	for (i = 0; i < LETTERS; i++)
		ck_assert_int_eq(letters[i].wrong, 0);
	world_close(&world);
	free(letters);
}
END_TEST

/* Something is stopped on another thread, which leaves a reason in plain memory. */
struct stop {
	struct world world;
	struct probe probe;
	struct support_watch watch;
	struct evwork_ctx *ctx;
	struct gate started;
	int reason, seen_in_work, seen_in_done, seen_in_watch;
};

static void work_until_stopped(struct probe *probe)
{
	struct stop *stop = probe->arg;

	gate_pass(&stop->started);
	while (evwork_job_err(&probe->job) == 0)
		sys_relax();
	stop->seen_in_work = stop->reason;
}

static void see_in_done(struct probe *probe)
{
	struct stop *stop = probe->arg;

	stop->seen_in_done = stop->reason;
}

static void see_in_watch(struct support_watch *watch)
{
	struct stop *stop = watch->arg;

	stop->seen_in_watch = stop->reason;
}

static void *stop_by_job(void *arg)
{
	struct stop *stop = arg;

	stop->reason = 9;
	evwork_cancel(&stop->probe.job);
	return NULL;
}

static void *stop_by_ctx(void *arg)
{
	struct stop *stop = arg;

	stop->reason = 9;
	evwork_ctx_cancel(stop->ctx, 0);
	return NULL;
}

static void stop_open(struct stop *stop)
{
	memset(stop, 0, sizeof(*stop));
	world_open(&stop->world, 1);
	gate_init(&stop->started);
	gate_open(&stop->started);
	ck_assert_int_eq(evwork_ctx_new(NULL, &stop->ctx), 0);
	support_watch_init(&stop->watch);
	stop->watch.on = see_in_watch;
	stop->watch.arg = stop;
	probe_init(&stop->probe, 0);
	stop->probe.job.ctx = stop->ctx;
	stop->probe.on_run = work_until_stopped;
	stop->probe.on_done = see_in_done;
	stop->probe.arg = stop;
}

static void stop_close(struct stop *stop)
{
	evwork_ctx_unref(stop->ctx);
	world_close(&stop->world);
	gate_fini(&stop->started);
}

/* Work that sees that it is to stop, and done, see what was written before the cancel of
 * the job or of its context: S-GEN-17. */
START_TEST(data_goes_with_cancel)
{
	struct stop stop;
	pthread_t thread;

	stop_open(&stop);
	ck_assert_int_eq(evwork_submit(stop.world.loop, &stop.probe.job), 0);
	gate_await(&stop.started, 1);
	ck_assert_int_eq(pthread_create(&thread, NULL, _i ? stop_by_ctx : stop_by_job, &stop), 0);
	world_run_until(&stop.world, &stop.probe.dones, 1);
	ck_assert_int_eq(stop.seen_in_work, 9);
	ck_assert_int_eq(stop.seen_in_done, 9);
	pthread_join(thread, NULL);
	stop_close(&stop);
}
END_TEST

/* A watch sees what was written before its context was cancelled on another thread:
 * S-GEN-17. */
START_TEST(data_goes_to_watches)
{
	struct stop stop;
	pthread_t thread;

	stop_open(&stop);
	ck_assert_int_eq(evwork_ctx_after(stop.ctx, stop.world.loop, &stop.watch.watch), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, stop_by_ctx, &stop), 0);
	world_run_until(&stop.world, &stop.watch.calls, 1);
	ck_assert_int_eq(stop.seen_in_watch, 9);
	pthread_join(thread, NULL);
	stop_close(&stop);
}
END_TEST

#define WRITERS 20

struct writer {
	struct evwork_job job;
	int written;
};

static int writer_run(struct evwork_job *job)
{
	EVWORK_CONTAINER(job, struct writer, job)->written = 1;
	return 0;
}

struct joined {
	struct world world;
	struct writer writers[WRITERS];
	int sum, closed, joined;
};

static void sum_up(struct joined *joined)
{
	int i;

	for (i = 0; i < WRITERS; i++)
		joined->sum += joined->writers[i].written;
}

static void sum_when_closed(struct evwork_pool *pool, int status, void *arg)
{
	struct joined *joined = arg;

	(void)pool;
	(void)status;
	sum_up(joined);
	joined->closed++;
}

static void count_joined(void *arg)
{
	((struct joined *)arg)->joined++;
}

static void *join_and_sum(void *arg)
{
	struct joined *joined = arg;

	if (evwork_pool_close_wait(joined->world.pool, EVWORK_DRAIN) != 0)
		abort();
	sum_up(joined);
	if (evwork_post(joined->world.loop, count_joined, joined) != 0)
		abort();
	return NULL;
}

/* What work wrote is visible to who waited for the pool, as to its closed callback, even
 * without a done in between: S-GEN-17. */
START_TEST(data_is_there_after_a_join)
{
	struct joined joined;
	pthread_t thread;
	int i;

	memset(&joined, 0, sizeof(joined));
	world_open(&joined.world, 3);
	for (i = 0; i < WRITERS; i++) {
		evwork_job_init(&joined.writers[i].job, writer_run, NULL);
		ck_assert_int_eq(evwork_submit(joined.world.loop, &joined.writers[i].job), 0);
	}
	if (_i) {
		ck_assert_int_eq(pthread_create(&thread, NULL, join_and_sum, &joined), 0);
		world_run_until(&joined.world, &joined.joined, 1);
		pthread_join(thread, NULL);
	} else {
		ck_assert_int_eq(evwork_pool_close(joined.world.pool, EVWORK_DRAIN,
			joined.world.loop, sum_when_closed, &joined), 0);
		world_run_until(&joined.world, &joined.closed, 1);
	}
	ck_assert_int_eq(joined.sum, WRITERS);
	world_close(&joined.world);
}
END_TEST

static void add_guest(Suite *suite)
{
	TCase *tcase = support_case(suite, "guest");

	tcase_add_loop_test(tcase, descriptors_are_tame, 0, KINDS);
	tcase_add_loop_test(tcase, signals_are_left_alone, 0, KINDS);
	tcase_add_loop_test(tcase, no_broken_pipes, 0, KINDS);
	tcase_add_test(tcase, life_is_silent);
	tcase_add_test(tcase, exit_is_not_held_up);
}

static void add_visibility(Suite *suite)
{
	TCase *tcase = support_case(suite, "visibility");

	tcase_add_loop_test(tcase, data_goes_to_work_and_back, 0, KINDS);
	tcase_add_loop_test(tcase, data_goes_with_posts, 0, KINDS);
	tcase_add_loop_test(tcase, data_goes_with_cancel, 0, 2);
	tcase_add_test(tcase, data_goes_to_watches);
	tcase_add_loop_test(tcase, data_is_there_after_a_join, 0, 2);
}

static Suite *suite(void)
{
	Suite *host = suite_create("gen_host");

	add_guest(host);
	add_visibility(host);
	return host;
}

int main(void)
{
	return support_run(suite());
}
