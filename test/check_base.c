/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The ground: status texts, the log and its filter.
 */

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "support.h"

#include <pthread.h>

#include "base/log.h"

/* Status texts. */

static const int codes[] = {
	EINVAL, EPERM, EDEADLK, ESHUTDOWN, EBUSY, EALREADY, ESRCH, ERANGE, ECANCELED,
	ETIMEDOUT, EAGAIN, EPIPE, EHOSTDOWN, EOWNERDEAD, ENOENT, ENOMEM
};
#define CODES ((int)(sizeof(codes) / sizeof(codes[0])))

/* Each code of the table has words of its own, S-GEN-1. */
START_TEST(status_each_code_has_words)
{
	const char *words = evwork_strerror(-codes[_i]);
	int i;

	ck_assert_ptr_nonnull(words);
	ck_assert_str_ne(words, "");
	ck_assert_str_ne(words, "unknown status");
	for (i = 0; i < CODES; i++)
		if (i != _i)
			ck_assert_str_ne(words, evwork_strerror(-codes[i]));
	/* A constant: the next call gives the same text at the same place. */
	ck_assert_ptr_eq(words, evwork_strerror(-codes[_i]));
}
END_TEST

/* What is not in the table, a code that was not negated among it, is unknown,
 * S-GEN-1. */
START_TEST(status_others_are_unknown)
{
	ck_assert_str_eq(evwork_strerror(-EXDEV), "unknown status");
	ck_assert_str_eq(evwork_strerror(EINVAL), "unknown status");
	ck_assert_str_eq(evwork_strerror(7), "unknown status");
	ck_assert_str_eq(evwork_strerror(-100000), "unknown status");
	ck_assert_str_eq(evwork_strerror(INT32_MIN), "unknown status");
	ck_assert_str_eq(evwork_strerror(INT32_MAX), "unknown status");
	ck_assert_ptr_nonnull(evwork_strerror(0));
}
END_TEST

/* The log hook. */

struct log_sink {
	atomic_int calls;
	enum evwork_log_level level;
	char text[600];
	void (*inside)(struct log_sink *sink);   /* may be NULL */
	struct log_sink *next;
};

static void log_into(enum evwork_log_level level, const char *text, void *arg)
{
	struct log_sink *sink = arg;

	sink->level = level;
	snprintf(sink->text, sizeof(sink->text), "%s", text);
	atomic_fetch_add(&sink->calls, 1);
	if (sink->inside)
		sink->inside(sink);
}

/* Without a hook nothing is printed, and after NULL nothing either, S-OBS-1. */
START_TEST(log_is_silent_by_default)
{
	struct log_sink sink = { 0 };
	struct support_capture capture;

	support_capture_begin(&capture);
	base_log(EVWORK_LOG_ERROR, "nobody %s", "listens");
	evwork_set_log(log_into, &sink);
	base_log(EVWORK_LOG_ERROR, "somebody listens");
	evwork_set_log(NULL, NULL);
	base_log(EVWORK_LOG_ERROR, "nobody listens again");
	ck_assert_int_eq(support_capture_end(&capture), 0);
	ck_assert_int_eq(sink.calls, 1);
}
END_TEST

/* The hook gets level, text and its own arg; a new hook replaces the previous
 * one, S-OBS-1. */
START_TEST(log_hook_is_set_replaced_and_removed)
{
	struct log_sink first = { 0 }, second = { 0 };

	evwork_set_log(log_into, &first);
	base_log(EVWORK_LOG_WARNING, "%d apples", 3);
	ck_assert_int_eq(first.calls, 1);
	ck_assert_int_eq(first.level, EVWORK_LOG_WARNING);
	ck_assert_str_eq(first.text, "3 apples");

	evwork_set_log(log_into, &second);
	base_log(EVWORK_LOG_DEBUG, "pears");
	ck_assert_int_eq(first.calls, 1);
	ck_assert_int_eq(second.calls, 1);
	ck_assert_int_eq(second.level, EVWORK_LOG_DEBUG);
	ck_assert_str_eq(second.text, "pears");

	evwork_set_log(NULL, &second);
	base_log(EVWORK_LOG_ERROR, "plums");
	ck_assert_int_eq(first.calls, 1);
	ck_assert_int_eq(second.calls, 1);
}
END_TEST

/* A text that is too long is cut, not written over the end, S-OBS-1. */
START_TEST(log_long_text_is_cut)
{
	struct log_sink sink = { 0 };
	char text[5000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	evwork_set_log(log_into, &sink);
	base_log(EVWORK_LOG_INFO, "%s", text);
	evwork_set_log(NULL, NULL);
	ck_assert_int_eq(sink.calls, 1);
	ck_assert_uint_gt(strlen(sink.text), 0);
	ck_assert_int_eq(strncmp(sink.text, text, strlen(sink.text)), 0);
}
END_TEST

static void replace_self(struct log_sink *sink)
{
	sink->inside = NULL;
	evwork_set_log(sink->next ? log_into : NULL, sink->next);
}

/* A hook may replace itself, and turn logging off, from inside, S-OBS-1. */
START_TEST(log_hook_replaces_itself)
{
	struct log_sink first = { 0 }, second = { 0 };

	first.inside = replace_self;
	first.next = &second;
	second.inside = replace_self;
	evwork_set_log(log_into, &first);
	base_log(EVWORK_LOG_INFO, "one");
	base_log(EVWORK_LOG_INFO, "two");
	base_log(EVWORK_LOG_INFO, "three");
	ck_assert_int_eq(first.calls, 1);
	ck_assert_str_eq(first.text, "one");
	ck_assert_int_eq(second.calls, 1);
	ck_assert_str_eq(second.text, "two");
}
END_TEST

static void log_again(struct log_sink *sink)
{
	sink->inside = NULL;
	base_log(EVWORK_LOG_INFO, "inner");
}

/* What the hook calls may log by itself: no lock is held around it, S-OBS-1. */
START_TEST(log_hook_is_entered_again)
{
	struct log_sink sink = { 0 };

	sink.inside = log_again;
	evwork_set_log(log_into, &sink);
	base_log(EVWORK_LOG_INFO, "outer");
	evwork_set_log(NULL, NULL);
	ck_assert_int_eq(sink.calls, 2);
	ck_assert_str_eq(sink.text, "inner");
}
END_TEST

/* A hook that stays inside until its gate opens. */
struct slow_hook {
	struct gate gate;
	atomic_bool inside;
	atomic_bool setter_runs;
	bool was_inside;           /* when evwork_set_log returned */
};

static void log_slowly(enum evwork_log_level level, const char *text, void *arg)
{
	struct slow_hook *slow = arg;

	(void)level;
	(void)text;
	atomic_store(&slow->inside, true);
	gate_pass(&slow->gate);
	atomic_store(&slow->inside, false);
}

static void *log_once(void *arg)
{
	(void)arg;
	base_log(EVWORK_LOG_INFO, "held");
	return NULL;
}

static void *remove_hook(void *arg)
{
	struct slow_hook *slow = arg;

	atomic_store(&slow->setter_runs, true);
	evwork_set_log(NULL, NULL);
	slow->was_inside = atomic_load(&slow->inside);
	return NULL;
}

/* When evwork_set_log returns no thread is inside the previous hook, S-OBS-1. */
START_TEST(log_set_waits_for_the_previous_hook)
{
	struct slow_hook slow = { .was_inside = true };
	pthread_t logger, setter;
	int i;

	gate_init(&slow.gate);
	evwork_set_log(log_slowly, &slow);
	ck_assert_int_eq(pthread_create(&logger, NULL, log_once, NULL), 0);
	gate_await(&slow.gate, 1);
	ck_assert_int_eq(pthread_create(&setter, NULL, remove_hook, &slow), 0);
	while (!atomic_load(&slow.setter_runs))
		sched_yield();
	/* Chance for a setter that does not wait to return too soon. */
	for (i = 0; i < 1000; i++)
		sched_yield();
	gate_open(&slow.gate);
	pthread_join(setter, NULL);
	pthread_join(logger, NULL);
	ck_assert(!slow.was_inside);
	gate_fini(&slow.gate);
}
END_TEST

static void set_other_from_hook(enum evwork_log_level level, const char *text, void *arg)
{
	struct slow_hook *slow = arg;

	(void)level;
	(void)text;
	gate_pass(&slow->gate);
	evwork_set_log(NULL, NULL);
}

/* Two threads inside one hook may both set it: a setter inside a hook does not
 * wait for the other thread, S-OBS-1. */
START_TEST(log_set_inside_hooks_of_two_threads)
{
	struct slow_hook slow = { .was_inside = true };
	pthread_t threads[2];
	int i;

	gate_init(&slow.gate);
	evwork_set_log(set_other_from_hook, &slow);
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, log_once, NULL), 0);
	gate_await(&slow.gate, 2);
	gate_open(&slow.gate);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	base_log(EVWORK_LOG_INFO, "nobody is left to wait at the gate");
	ck_assert_int_eq(slow.gate.arrived, 2);
	gate_fini(&slow.gate);
}
END_TEST

/* The arg of a hook that is replaced again and again. */
struct short_lived {
	atomic_int alive;
	struct log_storm *storm;
};

struct log_storm {
	atomic_bool stop;
	atomic_int calls, dead;
};

static void log_alive(enum evwork_log_level level, const char *text, void *arg)
{
	struct short_lived *lived = arg;

	(void)level;
	(void)text;
	atomic_fetch_add(&lived->storm->calls, 1);
	if (atomic_load(&lived->alive) != 1)
		atomic_fetch_add(&lived->storm->dead, 1);
}

static void *log_until_stopped(void *arg)
{
	struct log_storm *storm = arg;

	while (!atomic_load(&storm->stop))
		base_log(EVWORK_LOG_INFO, "storm");
	return NULL;
}

static void *set_short_lived(void *arg)
{
	int i;

	for (i = 0; i < 2000; i++) {
		struct short_lived *lived = malloc(sizeof(*lived));

		atomic_init(&lived->alive, 1);
		lived->storm = arg;
		evwork_set_log(log_alive, lived);
		if (i % 3 == 0)
			sched_yield();
		evwork_set_log(NULL, NULL);
		/* A setter on the other thread may have put its own since, but never
		 * brought this one back. */
		atomic_store(&lived->alive, 0);
		free(lived);
	}
	return NULL;
}

/* Hooks are set and removed while other threads log, and the arg of a removed
 * one may be freed at once, S-OBS-1. */
START_TEST(log_set_under_fire)
{
	struct log_storm storm = { 0 };
	pthread_t loggers[2], setters[2];
	int i;

	for (i = 0; i < 2; i++) {
		ck_assert_int_eq(pthread_create(&loggers[i], NULL, log_until_stopped, &storm), 0);
		ck_assert_int_eq(pthread_create(&setters[i], NULL, set_short_lived, &storm), 0);
	}
	for (i = 0; i < 2; i++)
		pthread_join(setters[i], NULL);
	atomic_store(&storm.stop, true);
	for (i = 0; i < 2; i++)
		pthread_join(loggers[i], NULL);
	ck_assert_int_eq(storm.dead, 0);
	ck_assert_int_gt(storm.calls, 0);
}
END_TEST

/* The filter. */

#define MS SYS_NS_PER_MS

/* Passes messages number `from` to `to`, all at one time, and returns how many
 * of them went through. */
static int filter_pass_many(struct evwork_log_filter *filter, int n, int64_t now_ns)
{
	int passed = 0;

	while (n-- > 0)
		passed += evwork_log_filter_pass(filter, now_ns, NULL);
	return passed;
}

/* The first F pass and none after them, S-OBS-2. */
START_TEST(filter_first)
{
	struct evwork_log_filter filter = { .first = 3 };
	int i;

	for (i = 0; i < 3; i++)
		ck_assert_int_eq(evwork_log_filter_pass(&filter, 1000 * MS, NULL), 1);
	ck_assert_int_eq(filter_pass_many(&filter, 1000, 1000 * MS), 0);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, INT64_MAX - 1, NULL), 0);
}
END_TEST

/* Every E-th since the last one that passed goes through and says that E - 1
 * were held back, S-OBS-2. */
START_TEST(filter_every)
{
	struct evwork_log_filter filter = { .first = 1, .every = 4 };
	uint64_t suppressed = 99;
	int round;

	ck_assert_int_eq(evwork_log_filter_pass(&filter, 1000 * MS, &suppressed), 1);
	ck_assert_uint_eq(suppressed, 0);
	for (round = 0; round < 5; round++) {
		ck_assert_int_eq(filter_pass_many(&filter, 3, 1000 * MS), 0);
		ck_assert_int_eq(evwork_log_filter_pass(&filter, 1000 * MS, &suppressed), 1);
		ck_assert_uint_eq(suppressed, 3);
	}
}
END_TEST

/* With every = 1 nothing is held back, S-OBS-2. */
START_TEST(filter_every_one)
{
	struct evwork_log_filter filter = { .every = 1 };

	ck_assert_int_eq(filter_pass_many(&filter, 50, 1000 * MS), 50);
}
END_TEST

/* A message passes at exactly the interval after the last one that passed, not
 * after the last one seen, and never before, S-OBS-2. */
START_TEST(filter_interval)
{
	struct evwork_log_filter filter = { .first = 1, .interval_ms = 10 };
	int64_t start = 1000 * MS;
	uint64_t suppressed = 99;

	ck_assert_int_eq(evwork_log_filter_pass(&filter, start, NULL), 1);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, start + 5 * MS, NULL), 0);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, start + 10 * MS - 1, NULL), 0);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, start + 10 * MS, &suppressed), 1);
	ck_assert_uint_eq(suppressed, 2);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, start + 20 * MS - 1, NULL), 0);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, start + 35 * MS, &suppressed), 1);
	ck_assert_uint_eq(suppressed, 1);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, start + 44 * MS, NULL), 0);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, start + 45 * MS, &suppressed), 1);
	ck_assert_uint_eq(suppressed, 1);
}
END_TEST

/* The interval counts on a clock that starts at 0 too, as a manual clock may,
 * S-OBS-2. */
START_TEST(filter_interval_from_time_zero)
{
	struct evwork_log_filter filter = { .first = 1, .interval_ms = 10 };

	ck_assert_int_eq(evwork_log_filter_pass(&filter, 0, NULL), 1);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, 1, NULL), 0);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, 10 * MS - 1, NULL), 0);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, 10 * MS, NULL), 1);
}
END_TEST

/* An interval beyond the end of time is never over, S-OBS-2 and S-GEN-9. */
START_TEST(filter_interval_saturates)
{
	struct evwork_log_filter filter = { .first = 1, .interval_ms = INT64_MAX };

	ck_assert_int_eq(evwork_log_filter_pass(&filter, 1000 * MS, NULL), 1);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, 1001 * MS, NULL), 0);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, INT64_MAX - 1, NULL), 0);
}
END_TEST

/* The three rules together let pass what any of them lets pass, S-OBS-2. */
START_TEST(filter_union)
{
	struct evwork_log_filter filter = { .first = 2, .every = 5, .interval_ms = 10 };
	int64_t start = 1000 * MS;
	uint64_t suppressed = 99;

	ck_assert_int_eq(filter_pass_many(&filter, 2, start), 2);
	ck_assert_int_eq(filter_pass_many(&filter, 4, start), 0);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, start, &suppressed), 1);
	ck_assert_uint_eq(suppressed, 4);
	/* The interval passes the third, after which `every` counts afresh. */
	ck_assert_int_eq(filter_pass_many(&filter, 2, start + 9 * MS), 0);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, start + 10 * MS, &suppressed), 1);
	ck_assert_uint_eq(suppressed, 2);
	ck_assert_int_eq(filter_pass_many(&filter, 4, start + 10 * MS), 0);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, start + 10 * MS, &suppressed), 1);
	ck_assert_uint_eq(suppressed, 4);
}
END_TEST

/* All zero lets only the very first pass, S-OBS-2. */
START_TEST(filter_all_zero_passes_once)
{
	struct evwork_log_filter filter = { 0 };
	uint64_t suppressed = 99;

	ck_assert_int_eq(evwork_log_filter_pass(&filter, 5, &suppressed), 1);
	ck_assert_uint_eq(suppressed, 0);
	ck_assert_int_eq(filter_pass_many(&filter, 500, 5), 0);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, INT64_MAX - 1, NULL), 0);
}
END_TEST

/* A refused call changes neither the filter nor the output; a message that is
 * held back leaves the output alone, S-OBS-2 and S-GEN-8. */
START_TEST(filter_refusals)
{
	struct evwork_log_filter filter = { .interval_ms = -1 }, same = filter;
	uint64_t suppressed = 99;

	ck_assert_int_eq(evwork_log_filter_pass(NULL, 0, &suppressed), -EINVAL);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, 0, &suppressed), -EINVAL);
	ck_assert_mem_eq(&filter, &same, sizeof(filter));
	ck_assert_uint_eq(suppressed, 99);
	filter.interval_ms = 0;
	ck_assert_int_eq(evwork_log_filter_pass(&filter, 0, NULL), 1);
	ck_assert_int_eq(evwork_log_filter_pass(&filter, 0, &suppressed), 0);
	ck_assert_uint_eq(suppressed, 99);
}
END_TEST
static void add_log(Suite *suite)
{
	TCase *tcase = support_case(suite, "log");

	tcase_add_test(tcase, log_is_silent_by_default);
	tcase_add_test(tcase, log_hook_is_set_replaced_and_removed);
	tcase_add_test(tcase, log_long_text_is_cut);
	tcase_add_test(tcase, log_hook_replaces_itself);
	tcase_add_test(tcase, log_hook_is_entered_again);
	tcase_add_test(tcase, log_set_waits_for_the_previous_hook);
	tcase_add_test(tcase, log_set_inside_hooks_of_two_threads);
	tcase_add_test(tcase, log_set_under_fire);
	tcase = support_case(suite, "filter");
	tcase_add_test(tcase, filter_first);
	tcase_add_test(tcase, filter_every);
	tcase_add_test(tcase, filter_every_one);
	tcase_add_test(tcase, filter_interval);
	tcase_add_test(tcase, filter_interval_from_time_zero);
	tcase_add_test(tcase, filter_interval_saturates);
	tcase_add_test(tcase, filter_union);
	tcase_add_test(tcase, filter_all_zero_passes_once);
	tcase_add_test(tcase, filter_refusals);
}

static Suite *suite(void)
{
	Suite *base = suite_create("base");
	TCase *tcase = support_case(base, "status");

	tcase_add_loop_test(tcase, status_each_code_has_words, 0, CODES);
	tcase_add_test(tcase, status_others_are_unknown);
	add_log(base);
	return base;
}

int main(void)
{
	return support_run(suite());
}
