/* SPDX-License-Identifier: BSD-3-Clause */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <time.h>
#include <sys/wait.h>

#ifdef __linux__
#include <sys/syscall.h>
#endif

/* Only a hang lasts that long. */
#define LIMIT_SECONDS 120

/* For how long the kernel may show a thread that was joined. */
#define LINGER_MS 10000

/* Running suites. */

int support_slow(void)
{
	const char *text = getenv("EVWORK_TEST_SLOW");
	int factor = text ? atoi(text) : 1;

	return factor > 1 ? factor : 1;
}

void support_note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("# ");
	vprintf(format, args);
	printf("\n");
	fflush(stdout);
	va_end(args);
}

int support_run(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	/* A forked test must not inherit half a line and print it again. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	srunner_set_tap(runner, "-");
	srunner_run_all(runner, CK_SILENT);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Leaks. */

static int count_entries(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	int count = 0;

	if (!directory)
		return -1;
	while ((entry = readdir(directory)) != NULL)
		if (entry->d_name[0] != '.')
			count++;
	closedir(directory);
	return count;
}

int support_fd_count(void)
{
	int count = count_entries("/proc/self/fd");
	int fd;

	/* One of them was the directory itself. */
	if (count >= 0)
		return count - 1;
	for (count = 0, fd = 0; fd < 4096; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			count++;
	return count;
}

/* 0 where the system does not tell; then threads are not checked for leaks. */
int support_thread_count(void)
{
	int count = count_entries("/proc/self/task");

	return count > 0 ? count : 0;
}

static void pause_ms(int ms)
{
	struct timespec pause = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&pause, NULL);
}

#ifdef __linux__

static void *tell_id(void *arg)
{
	*(long *)arg = syscall(SYS_gettid);
	return NULL;
}

/* Sanitizers make a thread of their own when the program makes its first; so
 * the first is made here, before threads are counted. */
static void let_runtime_settle(void)
{
	pthread_t thread;
	char path[64];
	long id = 0;
	int ms;

	if (pthread_create(&thread, NULL, tell_id, &id) != 0)
		return;
	pthread_join(thread, NULL);
	snprintf(path, sizeof(path), "/proc/self/task/%ld", id);
	for (ms = 0; ms < LINGER_MS && access(path, F_OK) == 0; ms++)
		pause_ms(1);
}

#else

static void let_runtime_settle(void)
{
}

#endif

/* What there was before the test. */
static struct {
	size_t blocks;
	int fds, threads;
} before;

static void case_setup(void)
{
	let_runtime_settle();
	atomic_store(&probe_run_counter, 0);
	atomic_store(&probe_done_counter, 0);
	before.blocks = sys_blocks();
	before.fds = support_fd_count();
	before.threads = support_thread_count();
}

static void case_teardown(void)
{
	int ms = 0;

	/* A joined thread is gone for the program before it is for the kernel. */
	while (support_thread_count() > before.threads && ms++ < LINGER_MS)
		pause_ms(1);
	ck_assert_msg(sys_blocks() == before.blocks, "memory: %zu blocks before, %zu after",
		before.blocks, sys_blocks());
	ck_assert_msg(support_fd_count() == before.fds, "descriptors: %d before, %d after",
		before.fds, support_fd_count());
	ck_assert_msg(support_thread_count() == before.threads,
		"threads: %d before, %d after", before.threads, support_thread_count());
}

TCase *support_case(Suite *suite, const char *name)
{
	TCase *tcase = tcase_create(name);

	tcase_add_checked_fixture(tcase, case_setup, case_teardown);
	tcase_set_timeout(tcase, (double)LIMIT_SECONDS * support_slow());
	suite_add_tcase(suite, tcase);
	return tcase;
}

/* Gates. */

void gate_init(struct gate *gate)
{
	pthread_mutex_init(&gate->mutex, NULL);
	pthread_cond_init(&gate->cond, NULL);
	gate->arrived = 0;
	gate->open = false;
}

void gate_fini(struct gate *gate)
{
	pthread_cond_destroy(&gate->cond);
	pthread_mutex_destroy(&gate->mutex);
}

void gate_pass(struct gate *gate)
{
	pthread_mutex_lock(&gate->mutex);
	gate->arrived++;
	pthread_cond_broadcast(&gate->cond);
	while (!gate->open)
		pthread_cond_wait(&gate->cond, &gate->mutex);
	pthread_mutex_unlock(&gate->mutex);
}

void gate_await(struct gate *gate, int n)
{
	pthread_mutex_lock(&gate->mutex);
	while (gate->arrived < n)
		pthread_cond_wait(&gate->cond, &gate->mutex);
	pthread_mutex_unlock(&gate->mutex);
}

void gate_open(struct gate *gate)
{
	pthread_mutex_lock(&gate->mutex);
	gate->open = true;
	pthread_cond_broadcast(&gate->cond);
	pthread_mutex_unlock(&gate->mutex);
}

static int gate_job_run(struct evwork_job *job)
{
	gate_pass(EVWORK_CONTAINER(job, struct gate_job, job)->gate);
	return 0;
}

static void gate_job_done(struct evwork_job *job, int status)
{
	EVWORK_CONTAINER(job, struct gate_job, job)->status = status;
}

void gate_job_init(struct gate_job *gj, struct gate *gate)
{
	evwork_job_init(&gj->job, gate_job_run, gate_job_done);
	gj->gate = gate;
	gj->status = 1;
}

/* Probes. */

atomic_int probe_run_counter, probe_done_counter;

static int next_order(void)
{
	return atomic_fetch_add(&probe_done_counter, 1) + 1;
}

static int probe_run(struct evwork_job *job)
{
	struct probe *probe = EVWORK_CONTAINER(job, struct probe, job);

	probe->run_thread = pthread_self();
	probe->run_order = atomic_fetch_add(&probe_run_counter, 1) + 1;
	/* Last, so that a test that sees it sees the rest. */
	atomic_fetch_add(&probe->runs, 1);
	if (probe->on_run)
		probe->on_run(probe);
	return probe->result;
}

static void probe_done(struct evwork_job *job, int status)
{
	struct probe *probe = EVWORK_CONTAINER(job, struct probe, job);

	probe->dones++;
	probe->status = status;
	probe->ran = evwork_job_ran(job);
	probe->abandoned = evwork_job_abandoned(job);
	probe->done_thread = pthread_self();
	probe->done_order = next_order();
	/* Last, since it may free the probe. */
	if (probe->on_done)
		probe->on_done(probe);
}

void probe_init(struct probe *probe, int result)
{
	memset(probe, 0, sizeof(*probe));
	evwork_job_init(&probe->job, probe_run, probe_done);
	probe->result = result;
	probe->status = 1;
}

/* Worlds. */

void world_open_with(struct world *world, const struct evwork_pool_options *pool,
	const struct evwork_loop_options *loop)
{
	memset(world, 0, sizeof(*world));
	world->base = event_base_new();
	ck_assert_ptr_nonnull(world->base);
	ck_assert_int_eq(evwork_pool_new(pool, &world->pool), 0);
	ck_assert_int_eq(evwork_loop_new(world->base, world->pool, loop, &world->loop), 0);
}

void world_open(struct world *world, int threads)
{
	struct evwork_pool_options pool = { 0 };

	pool.threads = threads;
	world_open_with(world, &pool, NULL);
}

void world_open_manual(struct world *world, int threads, int64_t start_ns)
{
	struct evwork_pool_options pool = { 0 };
	struct evwork_loop_options loop = { 0 };
	struct evwork_clock *clock = NULL;

	ck_assert_int_eq(evwork_clock_new(start_ns, &clock), 0);
	pool.threads = threads;
	pool.clock = clock;
	loop.clock = clock;
	world_open_with(world, &pool, &loop);
	world->clock = clock;
}

void world_close(struct world *world)
{
	ck_assert_int_eq(evwork_loop_free(world->loop), 0);
	ck_assert_int_eq(evwork_pool_free(world->pool), 0);
	ck_assert_int_eq(evwork_clock_free(world->clock), 0);
	if (world->base)
		event_base_free(world->base);
	memset(world, 0, sizeof(*world));
}

static void tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

/* The tick makes each turn end soon, even one in which only events were served
 * that libevent does not count. It drains nothing, so it hides no lost wake-up. */
void world_run_until(struct world *world, int *count, int n)
{
	struct timeval interval = { 0, 2000 };
	struct event *ticker = event_new(world->base, -1, EV_PERSIST, tick, NULL);

	ck_assert_ptr_nonnull(ticker);
	ck_assert_int_eq(event_add(ticker, &interval), 0);
	while (*count < n)
		ck_assert_int_ge(event_base_loop(world->base, EVLOOP_ONCE), 0);
	event_free(ticker);
}

void world_run(struct world *world)
{
	ck_assert_int_ge(event_base_dispatch(world->base), 0);
}

void world_turns(struct world *world, int n)
{
	while (n-- > 0)
		ck_assert_int_ge(event_base_loop(world->base, EVLOOP_NONBLOCK), 0);
}

/* Failure injection. */

/* Set while no fault function is installed, read by many threads after that. */
static struct {
	enum sys_call kind;
	int k;
	bool onwards;
	atomic_int count;
} injected;

static bool injected_fault(enum sys_call call)
{
	int n;

	if (injected.kind != SYS_CALLS && injected.kind != call)
		return false;
	n = atomic_fetch_add(&injected.count, 1) + 1;
	if (injected.k < 1)
		return false;
	return n == injected.k || (injected.onwards && n > injected.k);
}

void fault_start(enum sys_call kind, int k, bool onwards)
{
	injected.kind = kind;
	injected.k = k;
	injected.onwards = onwards;
	atomic_store(&injected.count, 0);
	atomic_store(&sys_fault, injected_fault);
}

int fault_stop(void)
{
	atomic_store(&sys_fault, NULL);
	return atomic_load(&injected.count);
}

/* Helpers. */

bool support_forks(void)
{
	const char *fork = getenv("CK_FORK");

	return !fork || strcmp(fork, "no") != 0;
}

struct elsewhere {
	void (*fn)(void *arg);
	void *arg;
};

static void *elsewhere_entry(void *arg)
{
	struct elsewhere *elsewhere = arg;

	elsewhere->fn(elsewhere->arg);
	return NULL;
}

/* Used inside callbacks of the library too, so it aborts instead of asserting. */
void support_elsewhere(void (*fn)(void *arg), void *arg)
{
	struct elsewhere elsewhere = { fn, arg };
	pthread_t thread;

	if (pthread_create(&thread, NULL, elsewhere_entry, &elsewhere) != 0)
		abort();
	pthread_join(thread, NULL);
}

void support_capture_begin(struct support_capture *capture)
{
	ck_assert_int_eq(pipe(capture->pipe), 0);
	ck_assert_int_ge(fcntl(capture->pipe[0], F_SETFL, O_NONBLOCK), 0);
	fflush(stdout);
	fflush(stderr);
	capture->saved[0] = dup(1);
	capture->saved[1] = dup(2);
	dup2(capture->pipe[1], 1);
	dup2(capture->pipe[1], 2);
}

int support_capture_end(struct support_capture *capture)
{
	char bytes[4096];
	int total = 0;
	ssize_t got;

	fflush(stdout);
	fflush(stderr);
	dup2(capture->saved[0], 1);
	dup2(capture->saved[1], 2);
	close(capture->saved[0]);
	close(capture->saved[1]);
	while ((got = read(capture->pipe[0], bytes, sizeof(bytes))) > 0)
		total += (int)got;
	close(capture->pipe[0]);
	close(capture->pipe[1]);
	return total;
}

static void timer_fired(struct evwork_timer *timer, int status)
{
	struct support_timer *record = EVWORK_CONTAINER(timer, struct support_timer, timer);

	record->calls++;
	record->status = status;
	record->order = next_order();
	record->at_ns = record->loop ? evwork_loop_now(record->loop) : sys_now();
	if (record->on)
		record->on(record);
}

void support_timer_init(struct support_timer *timer, struct evwork_loop *loop)
{
	memset(timer, 0, sizeof(*timer));
	evwork_timer_init(&timer->timer, timer_fired);
	timer->loop = loop;
	timer->status = 1;
}

static void watch_called(struct evwork_watch *watch, int status)
{
	struct support_watch *record = EVWORK_CONTAINER(watch, struct support_watch, watch);

	record->calls++;
	record->status = status;
	record->order = next_order();
	record->thread = pthread_self();
	if (record->on)
		record->on(record);
}

void support_watch_init(struct support_watch *watch)
{
	memset(watch, 0, sizeof(*watch));
	evwork_watch_init(&watch->watch, watch_called);
	watch->status = 1;
}

void support_post_init(struct support_post *post)
{
	memset(post, 0, sizeof(*post));
}

void support_post_fn(void *arg)
{
	struct support_post *record = arg;

	record->calls++;
	record->order = next_order();
	record->thread = pthread_self();
	if (record->on)
		record->on(record);
}

static int member_run(struct evwork_job *job)
{
	struct support_member *record = EVWORK_CONTAINER(job, struct support_member, member.job);

	atomic_fetch_add(&record->runs, 1);
	if (record->gate)
		gate_pass(record->gate);
	if (record->on_run)
		record->on_run(record);
	record->member.result = record->value;
	record->seen = evwork_job_err(job);
	return record->obeys && record->seen ? record->seen : record->result;
}

static void member_done(struct evwork_member *member, int status)
{
	struct support_member *record = EVWORK_CONTAINER(member, struct support_member, member);

	record->dones++;
	record->status = status;
	record->ran = evwork_job_ran(&member->job);
	record->index = member->index;
	record->order = next_order();
	record->done_thread = pthread_self();
	if (record->on_done)
		record->on_done(record);
}

void support_member_init(struct support_member *member, int result)
{
	memset(member, 0, sizeof(*member));
	evwork_member_init(&member->member, member_run, member_done);
	member->result = result;
	member->status = 1;
}

void support_join_fn(struct evwork_group *group, int status, void *arg)
{
	struct support_join *record = arg;

	record->calls++;
	record->status = status;
	record->order = next_order();
	record->cause = evwork_ctx_cause(evwork_group_ctx(group));
	record->thread = pthread_self();
	if (record->on)
		record->on(record, group);
	if (record->frees)
		record->free_rc = evwork_group_free(group);
}

void support_await_child(pid_t child)
{
	int status = -1;

	ck_assert_int_gt(child, 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFEXITED(status), "the child was killed, status %x", (unsigned)status);
	ck_assert_msg(WEXITSTATUS(status) == 0, "the child ended with %d", WEXITSTATUS(status));
}

int support_guard_acquire(struct evwork_guard *guard, const struct evwork_job *job,
	struct evwork_permit *permit)
{
	(void)job;
	(void)permit;
	return EVWORK_CONTAINER(guard, struct support_guard, guard)->answer;
}

void support_guard_release(struct evwork_guard *guard, const struct evwork_permit *permit,
	const struct evwork_end *end)
{
	(void)guard;
	(void)permit;
	(void)end;
}

/* What many programs do with a world. */

void block_workers(struct world *world, struct gate *gate, struct gate_job *jobs, int workers)
{
	int i;

	gate_init(gate);
	for (i = 0; i < workers; i++) {
		gate_job_init(&jobs[i], gate);
		ck_assert_int_eq(evwork_submit(world->loop, &jobs[i].job), 0);
	}
	gate_await(gate, workers);
}

void unblock_workers(struct world *world, struct gate *gate)
{
	gate_open(gate);
	world_run(world);
	gate_fini(gate);
}

void expect_probe_untouched(const struct probe *probe)
{
	ck_assert_int_eq(atomic_load(&probe->runs), 0);
	ck_assert_int_eq(probe->dones, 0);
	ck_assert_int_eq(probe->status, 1);
}

void expect_probe_once(const struct probe *probe, int status)
{
	ck_assert_int_eq(atomic_load(&probe->runs), 1);
	ck_assert_int_eq(probe->dones, 1);
	ck_assert_int_eq(probe->status, status);
	ck_assert_int_eq(probe->ran, 1);
	ck_assert_int_eq(probe->abandoned, 0);
}

struct evwork_lane_stats stats_of(struct evwork_lane *lane)
{
	struct evwork_lane_stats stats;

	ck_assert_int_eq(evwork_lane_stats(lane, &stats), 0);
	return stats;
}

const enum evwork_notify notify_kinds[] = { EVWORK_NOTIFY_EVENTFD, EVWORK_NOTIFY_PIPE };

bool notify_is_missing(int kind)
{
	int fd;

	if (notify_kinds[kind] == EVWORK_NOTIFY_PIPE)
		return false;
	if (sys_eventfd(&fd) != 0) {
		support_note("no eventfd here");
		return true;
	}
	sys_close(fd);
	return false;
}

bool world_open_notify(struct world *world, int kind, int threads)
{
	struct evwork_pool_options pool = { .threads = threads };
	struct evwork_loop_options loop = { .notify = notify_kinds[kind] };

	if (notify_is_missing(kind))
		return false;
	world_open_with(world, &pool, &loop);
	return true;
}

static void ignore(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

void one_pass(struct event_base *base)
{
	struct event *mark = event_new(base, -1, 0, ignore, NULL);

	ck_assert_ptr_nonnull(mark);
	event_active(mark, EV_TIMEOUT, 0);
	ck_assert_int_ge(event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK), 0);
	event_free(mark);
}
