/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * Where outcomes are delivered: on the thread of the loop, through one descriptor, at its
 * event priority, and for each loop by itself. Over an eventfd and over a pipe.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <fcntl.h>
#include <pthread.h>

/* A base that has no locks; the program never asked libevent for any. */
static bool lockless_open(struct world *world, int kind, int threads)
{
	struct evwork_pool_options pool = { .threads = threads };
	struct evwork_loop_options loop = { .notify = notify_kinds[kind] };
	struct event_config *config;

	if (notify_is_missing(kind))
		return false;
	memset(world, 0, sizeof(*world));
	config = event_config_new();
	ck_assert_ptr_nonnull(config);
	ck_assert_int_eq(event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK), 0);
	world->base = event_base_new_with_config(config);
	event_config_free(config);
	ck_assert_ptr_nonnull(world->base);
	ck_assert_int_eq(evwork_pool_new(&pool, &world->pool), 0);
	ck_assert_int_eq(evwork_loop_new(world->base, world->pool, &loop, &world->loop), 0);
	return true;
}

/* Where. */

#define VISITORS 3
#define VISITS 100

/* What several foreign threads bring, each its own row. */
struct visits {
	struct world world;
	struct probe probes[VISITORS][VISITS];
	struct support_post posts[VISITORS][VISITS];
	struct support_watch watches[VISITORS];
	struct evwork_ctx *ctx[VISITORS];
	int came;
	atomic_int next, refused;
};

static struct visits *visits;

static void count_visit(struct probe *probe)
{
	(void)probe;
	visits->came++;
}

static void count_visit_post(struct support_post *post)
{
	(void)post;
	visits->came++;
}

static void count_visit_watch(struct support_watch *watch)
{
	(void)watch;
	visits->came++;
}

static void *visit(void *arg)
{
	int row = atomic_fetch_add(&visits->next, 1), i, bad = 0;
	struct evwork_loop *loop = visits->world.loop;

	(void)arg;
	for (i = 0; i < VISITS; i++) {
		bad += evwork_submit(loop, &visits->probes[row][i].job) != 0;
		bad += evwork_post(loop, support_post_fn, &visits->posts[row][i]) != 0;
		if (i % 3 == 0)
			evwork_cancel(&visits->probes[row][i].job);
	}
	bad += evwork_ctx_after(visits->ctx[row], loop, &visits->watches[row].watch) != 0;
	bad += evwork_ctx_cancel(visits->ctx[row], 0) != 0;
	atomic_fetch_add(&visits->refused, bad);
	return NULL;
}

static void visits_prepare(void)
{
	int row, i;

	for (row = 0; row < VISITORS; row++) {
		for (i = 0; i < VISITS; i++) {
			probe_init(&visits->probes[row][i], 0);
			visits->probes[row][i].on_done = count_visit;
			support_post_init(&visits->posts[row][i]);
			visits->posts[row][i].on = count_visit_post;
		}
		support_watch_init(&visits->watches[row]);
		visits->watches[row].on = count_visit_watch;
		ck_assert_int_eq(evwork_ctx_new(NULL, &visits->ctx[row]), 0);
	}
}

static void expect_visits_here(void)
{
	pthread_t here = pthread_self();
	int row, i;

	for (row = 0; row < VISITORS; row++) {
		for (i = 0; i < VISITS; i++) {
			ck_assert_int_eq(visits->probes[row][i].dones, 1);
			ck_assert(pthread_equal(visits->probes[row][i].done_thread, here));
			ck_assert_int_eq(visits->posts[row][i].calls, 1);
			ck_assert(pthread_equal(visits->posts[row][i].thread, here));
		}
		ck_assert_int_eq(visits->watches[row].calls, 1);
		ck_assert(pthread_equal(visits->watches[row].thread, here));
		evwork_ctx_unref(visits->ctx[row]);
	}
}

/* Jobs, posts, cancels and watches of several foreign threads all end on the thread of the
 * loop, on a base without locks: S-DLV-1. */
START_TEST(foreign_threads_and_a_base_without_locks)
{
	pthread_t threads[VISITORS];
	int i;

	visits = calloc(1, sizeof(*visits));
	if (!lockless_open(&visits->world, _i, 2)) {
		free(visits);
		return;
	}
	visits_prepare();
	for (i = 0; i < VISITORS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, visit, NULL), 0);
	world_run_until(&visits->world, &visits->came, VISITORS * (2 * VISITS + 1));
	for (i = 0; i < VISITORS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(atomic_load(&visits->refused), 0);
	expect_visits_here();
	world_close(&visits->world);
	free(visits);
}
END_TEST

/* Descriptors of a loop, told apart by what the system calls them. */
struct descriptors {
	int eventfds, pipe_reads, pipe_writes;
	int write_fd;
};

#define FDS 256

static void look_at(int fd, struct descriptors *seen)
{
	char path[64], name[256];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, name, sizeof(name) - 1);
	if (length < 0)
		return;
	name[length] = '\0';
	if (strstr(name, "eventfd")) {
		seen->eventfds++;
		seen->write_fd = fd;
	} else if (strncmp(name, "pipe:", 5) == 0) {
		if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY) {
			seen->pipe_reads++;
		} else {
			seen->pipe_writes++;
			seen->write_fd = fd;
		}
	}
}

/* Opens a world and says which descriptors its loop brought. */
static struct descriptors open_and_look(struct world *world, enum evwork_notify notify)
{
	struct evwork_pool_options pool = { .threads = 1 };
	struct evwork_loop_options options = { .notify = notify };
	struct descriptors seen = { 0, 0, 0, -1 };
	bool before[FDS];
	int fd;

	memset(world, 0, sizeof(*world));
	world->base = event_base_new();
	ck_assert_int_eq(evwork_pool_new(&pool, &world->pool), 0);
	for (fd = 0; fd < FDS; fd++)
		before[fd] = fcntl(fd, F_GETFD) >= 0;
	ck_assert_int_eq(evwork_loop_new(world->base, world->pool, &options, &world->loop), 0);
	for (fd = 0; fd < FDS; fd++)
		if (!before[fd] && fcntl(fd, F_GETFD) >= 0)
			look_at(fd, &seen);
	return seen;
}

/* A loop is notified through one eventfd, or through one pipe; the default is an eventfd
 * where there is one: S-DLV-1. */
START_TEST(one_descriptor_to_notify)
{
	bool eventfd = !notify_is_missing(0);
	enum evwork_notify notify = (enum evwork_notify)_i;
	struct descriptors seen;
	struct world world;

	if (access("/proc/self/fd", R_OK) != 0) {
		support_note("no /proc here");
		return;
	}
	if (notify == EVWORK_NOTIFY_EVENTFD && !eventfd)
		return;
	if (notify == EVWORK_NOTIFY_PIPE)
		eventfd = false;
	seen = open_and_look(&world, notify);
	ck_assert_int_eq(seen.eventfds, eventfd);
	ck_assert_int_eq(seen.pipe_reads, !eventfd);
	ck_assert_int_eq(seen.pipe_writes, !eventfd);
	world_close(&world);
}
END_TEST

struct between {
	struct evwork_loop *loop;
	struct support_post post;
	int rc;
};

static void post_elsewhere(void *arg)
{
	struct between *between = arg;

	between->rc = evwork_post(between->loop, support_post_fn, &between->post);
}

/* Writes until no more goes in. */
static void fill_descriptor(int fd, bool eventfd)
{
	uint64_t most = UINT64_MAX - 1;
	char bytes[4096] = { 0 };
	size_t size = sizeof(bytes);

	if (eventfd) {
		ck_assert_int_eq(write(fd, &most, sizeof(most)), sizeof(most));
		most = 1;
		ck_assert_int_eq(write(fd, &most, sizeof(most)), -1);
		return;
	}
	for (; size > 0; size /= 2)
		while (write(fd, bytes, size) > 0)
			;
	ck_assert_int_eq(write(fd, bytes, 1), -1);
}

/* A full descriptor blocks no poster and no worker and counts as notified: what they bring
 * is delivered, and so is what comes later: S-DLV-4. */
START_TEST(full_descriptor_counts_as_notified)
{
	struct descriptors seen;
	struct between early, late;
	struct probe probe;
	struct world world;

	if (notify_is_missing(_i))
		return;
	seen = open_and_look(&world, notify_kinds[_i]);
	if (seen.write_fd < 0) {
		support_note("cannot find the descriptor here");
		world_close(&world);
		return;
	}
	fill_descriptor(seen.write_fd, notify_kinds[_i] == EVWORK_NOTIFY_EVENTFD);
	early.loop = late.loop = world.loop;
	support_post_init(&early.post);
	support_post_init(&late.post);
	support_elsewhere(post_elsewhere, &early);
	ck_assert_int_eq(early.rc, 0);
	probe_init(&probe, 0);
	ck_assert_int_eq(evwork_submit(world.loop, &probe.job), 0);
	world_run(&world);
	ck_assert_int_eq(early.post.calls, 1);
	ck_assert_int_eq(probe.dones, 1);
	/* Without a ticker: only the notification can end the wait. */
	ck_assert_int_eq(evwork_loop_hold(world.loop), 0);
	support_elsewhere(post_elsewhere, &late);
	while (late.post.calls == 0)
		ck_assert_int_ge(event_base_loop(world.base, EVLOOP_NONBLOCK), 0);
	ck_assert_int_eq(evwork_loop_release(world.loop), 0);
	world_close(&world);
}
END_TEST

/* Several loops. */

struct neighbour {
	struct event_base *base;
	struct evwork_pool *pool;
	struct evwork_loop *loop;
	int kind;
	struct gate made, stuck;
	struct probe probe;
	int rc;
};

static void get_stuck(void *arg)
{
	gate_pass(&((struct neighbour *)arg)->stuck);
}

static void *run_neighbour(void *arg)
{
	struct neighbour *neighbour = arg;
	struct evwork_loop_options options = { .notify = notify_kinds[neighbour->kind] };

	neighbour->base = event_base_new();
	neighbour->rc = evwork_loop_new(neighbour->base, neighbour->pool, &options,
		&neighbour->loop);
	neighbour->rc |= evwork_post(neighbour->loop, get_stuck, neighbour);
	neighbour->rc |= evwork_submit(neighbour->loop, &neighbour->probe.job);
	gate_pass(&neighbour->made);
	event_base_dispatch(neighbour->base);
	neighbour->rc |= evwork_loop_free(neighbour->loop);
	event_base_free(neighbour->base);
	return NULL;
}

#define JOBS 400

/* A loop whose thread is stuck in a callback delays only its own deliveries: the workers go
 * on, and the other loop of the pool gets all of its outcomes, each loop its own: S-DLV-12. */
START_TEST(stuck_loop_delays_only_itself)
{
	struct neighbour neighbour;
	struct probe *probes;
	pthread_t thread;
	struct world world;
	int i;

	if (!world_open_notify(&world, _i, 2))
		return;
	memset(&neighbour, 0, sizeof(neighbour));
	neighbour.pool = world.pool;
	neighbour.kind = _i;
	gate_init(&neighbour.made);
	gate_open(&neighbour.made);
	gate_init(&neighbour.stuck);
	probe_init(&neighbour.probe, 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, run_neighbour, &neighbour), 0);
	gate_await(&neighbour.made, 1);
	gate_await(&neighbour.stuck, 1);
	probes = calloc(JOBS, sizeof(*probes));
	for (i = 0; i < JOBS; i++) {
		probe_init(&probes[i], 0);
		ck_assert_int_eq(evwork_submit(world.loop, &probes[i].job), 0);
	}
	world_run(&world);
	for (i = 0; i < JOBS; i++) {
		ck_assert_int_eq(probes[i].dones, 1);
		ck_assert(pthread_equal(probes[i].done_thread, pthread_self()));
	}
	gate_open(&neighbour.stuck);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(neighbour.rc, 0);
	ck_assert_int_eq(neighbour.probe.dones, 1);
	ck_assert(!pthread_equal(neighbour.probe.done_thread, pthread_self()));
	world_close(&world);
	gate_fini(&neighbour.made);
	gate_fini(&neighbour.stuck);
	free(probes);
}
END_TEST

/* Priorities. */

static int called_order;

struct mark {
	struct event *event;
	int order;
};

static void on_mark(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	((struct mark *)arg)->order = ++called_order;
}

static void note_order(struct support_post *post)
{
	*(int *)post->arg = ++called_order;
}

/* Runs a post against an event of each of three priorities that are all active with it;
 * stores the places in which they came, the post's last. */
static void race_priorities(int kind, int event_priority, int order[4])
{
	struct evwork_loop_options options = {
		.notify = notify_kinds[kind], .event_priority = event_priority
	};
	struct event_base *base = event_base_new();
	struct support_post post;
	struct evwork_loop *loop;
	struct mark marks[3];
	int i;

	called_order = 0;
	ck_assert_int_eq(event_base_priority_init(base, 3), 0);
	ck_assert_int_eq(evwork_loop_new(base, NULL, &options, &loop), 0);
	support_post_init(&post);
	post.on = note_order;
	post.arg = &order[3];
	ck_assert_int_eq(evwork_post(loop, support_post_fn, &post), 0);
	for (i = 0; i < 3; i++) {
		marks[i].event = event_new(base, -1, 0, on_mark, &marks[i]);
		ck_assert_int_eq(event_priority_set(marks[i].event, i), 0);
		event_active(marks[i].event, EV_TIMEOUT, 0);
	}
	ck_assert_int_ge(event_base_dispatch(base), 0);
	for (i = 0; i < 3; i++) {
		order[i] = marks[i].order;
		event_free(marks[i].event);
	}
	ck_assert_int_eq(evwork_loop_free(loop), 0);
	event_base_free(base);
}

/* Deliveries have the event priority of the options, the middle one by default: events of
 * a higher priority come before them and events of a lower one after, S-DLV-13. */
START_TEST(priority_of_the_notification)
{
	/* Which event the post comes with, by option. */
	static const struct { int option, with; } rows[] = {
		{ 0, 1 }, { EVWORK_EVENT_PRIORITY(0), 0 }, { EVWORK_EVENT_PRIORITY(1), 1 },
		{ EVWORK_EVENT_PRIORITY(2), 2 }
	};
	int kind = _i % NOTIFY_KINDS, with = rows[_i / NOTIFY_KINDS].with;
	int order[4] = { 0, 0, 0, 0 }, i;

	if (notify_is_missing(kind))
		return;
	race_priorities(kind, rows[_i / NOTIFY_KINDS].option, order);
	ck_assert_int_gt(order[3], 0);
	for (i = 0; i < 3; i++) {
		ck_assert_int_gt(order[i], 0);
		if (i < with)
			ck_assert_int_lt(order[i], order[3]);
		else if (i > with)
			ck_assert_int_gt(order[i], order[3]);
	}
}
END_TEST

/* A priority that the base has not is refused, and nothing is left behind: S-DLV-13. */
START_TEST(priority_out_of_range)
{
	static const int bad[] = {
		EVWORK_EVENT_PRIORITY(3), EVWORK_EVENT_PRIORITY(200), -1, EVWORK_EVENT_PRIORITY(-2)
	};
	struct evwork_loop_options options = { .notify = notify_kinds[_i % NOTIFY_KINDS] };
	struct event_base *base = event_base_new();
	struct evwork_loop *loop = NULL;

	ck_assert_int_eq(event_base_priority_init(base, 3), 0);
	options.event_priority = bad[_i / NOTIFY_KINDS];
	ck_assert_int_eq(evwork_loop_new(base, NULL, &options, &loop), -EINVAL);
	ck_assert_ptr_null(loop);
	ck_assert_int_eq(event_base_dispatch(base), 1);
	event_base_free(base);
}
END_TEST

static Suite *suite(void)
{
	Suite *place = suite_create("dlv_place");
	TCase *tcase = support_case(place, "place");

	tcase_add_loop_test(tcase, foreign_threads_and_a_base_without_locks, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, one_descriptor_to_notify, 0, EVWORK_NOTIFY_PIPE + 1);
	tcase_add_loop_test(tcase, full_descriptor_counts_as_notified, 0, NOTIFY_KINDS);
	tcase_add_loop_test(tcase, stuck_loop_delays_only_itself, 0, NOTIFY_KINDS);
	tcase = support_case(place, "priority");
	tcase_add_loop_test(tcase, priority_of_the_notification, 0, 4 * NOTIFY_KINDS);
	tcase_add_loop_test(tcase, priority_out_of_range, 0, 4 * NOTIFY_KINDS);
	return place;
}

int main(void)
{
	return support_run(suite());
}
