/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * The watchdog. Reading the clock around each job would cost more than a short job does,
 * so nobody notes when anything begins: workers and loops only count, and the watchdog
 * looks at their counters four times in each `stall`, on the clock of what it watches. A
 * counter that it finds as it was tells that the same thing has run ever since it was
 * first found so. The time is read after a number that is new, and before one that
 * is compared with it: a report is never early, and late by at most one quarter of `stall`.
 *
 * On a manual clock each look is a stop: the clock goes on when the reports of that time
 * have come back from the log hook. So the same moves make the same reports (S-GEN-13).
 *
 * The lock covers the list and what is noted of each watch. It comes before a pool's, and
 * is never held while the log hook runs: what a report says is copied before. A watch that
 * is freed meanwhile is simply not there any more when the lock is taken again. The first
 * watch makes the watchdog, the last takes it out of sight, under the lock, and joins its
 * thread without it, so that another may be made in the meantime, even by the hook.
 *
 * A child of a fork has no watchdog, and makes another if it needs one.
 */

#include "run/stall.h"

#include <errno.h>

#include "base/fork.h"
#include "base/list.h"
#include "base/log.h"
#include "evwork/guard.h"

/* Looks in each `stall`. */
#define LOOKS 4

/* The log hook is user code. */
#define STACK_SIZE (1u << 20)

struct subject {
	uint64_t calls;          /* as it was seen last */
	int64_t since_ns;        /* not before it came to that */
	int64_t report_ns;       /* the age of the next report */
};

struct stall_watch {
	/* Fixed at creation. */
	const struct stall_kind *kind;
	void *owner;
	int64_t stall_ns, period_ns;
	struct evwork_clock *clock;
	struct watchdog *dog;

	/* Covered by the lock. */
	struct stall_watch *next, *prev;
	struct clock_user clock_user;
	int64_t look_ns;         /* when the next look is due */
	bool looking;            /* this one is under way: */
	int64_t now;             /* when it began, */
	int at;                  /* and which subject is next */
	bool looked;             /* the clock is still to be told of the next */
	int count;
	struct subject subjects[];
};

struct watchdog {
	struct sys_parker parker;
	sys_thread thread;
	/* Covered by the lock. */
	LIST_OF(struct stall_watch) watches;
	int count;
	bool ending;
};

static sys_mutex mutex = SYS_MUTEX_STATIC;
static struct watchdog *current;         /* these are covered by the lock, too */
static bool fork_joined;
static SYS_THREAD_LOCAL struct watchdog *here;

/* The parent's lock may be held by a thread that is not there. */
static void forked(struct fork_entry *entry)
{
	(void)entry;
	mutex = (sys_mutex)SYS_MUTEX_STATIC;
	current = here = NULL;
}

static struct fork_entry fork_entry = { .forked = forked };

/* Under the lock of the clock. */
static void poke(struct clock_user *user)
{
	struct stall_watch *watch = EVWORK_CONTAINER(user, struct stall_watch, clock_user);

	sys_unpark(&watch->dog->parker);
}

/* The watchdog's thread. */

/* Looks at one subject; true if that makes a report, with what runs and for how long. */
static bool look_at_locked(struct stall_watch *watch, int i, char what[STALL_WHAT_MAX],
	int64_t *ret_age_ns)
{
	struct subject *subject = &watch->subjects[i];
	uint64_t calls = watch->kind->calls(watch->owner, i);
	int64_t age;

	if (calls != subject->calls) {
		subject->calls = calls;
		subject->since_ns = clock_now(watch->clock);
		subject->report_ns = watch->stall_ns;
		return false;
	}
	age = watch->now - subject->since_ns;
	if (calls % 2 == 0 || age < subject->report_ns ||
	    !watch->kind->report(watch->owner, i, calls, subject->report_ns == watch->stall_ns,
			what))
		return false;
	/* A clock that jumped may have left several behind: they are one report. */
	while (subject->report_ns <= age)
		subject->report_ns = sys_time_mul(subject->report_ns, 2);
	*ret_age_ns = age;
	return true;
}

/* Goes on with a look, or begins one that is due; true if there is a report. */
static bool look_locked(struct stall_watch *watch, char what[STALL_WHAT_MAX],
	int64_t *ret_age_ns)
{
	if (!watch->looking) {
		watch->now = clock_now(watch->clock);
		if (watch->now < watch->look_ns)
			return false;
		watch->looking = true;
		watch->at = 0;
	}
	while (watch->at < watch->count)
		if (look_at_locked(watch, watch->at++, what, ret_age_ns))
			return true;
	watch->looking = false;
	watch->looked = true;
	watch->look_ns = sys_time_add(watch->now, watch->period_ns);
	return false;
}

/* The next report there is to make now; false if there is none. */
static bool next_report_locked(struct watchdog *dog, char what[STALL_WHAT_MAX],
	int64_t *ret_age_ns)
{
	struct stall_watch *watch;

	for (watch = dog->watches.head; watch; watch = watch->next)
		if (look_locked(watch, what, ret_age_ns))
			return true;
	return false;
}

/* Lets the manual clocks go on; returns when the system's is to be looked at again. */
static int64_t rest_locked(struct watchdog *dog)
{
	int64_t until = EVWORK_NEVER;
	struct stall_watch *watch;

	for (watch = dog->watches.head; watch; watch = watch->next) {
		if (!watch->clock && watch->look_ns < until)
			until = watch->look_ns;
		if (watch->looked)
			clock_due(watch->clock, &watch->clock_user, watch->look_ns);
		watch->looked = false;
	}
	return until;
}

static void *watchdog_main(void *arg)
{
	struct watchdog *dog = arg;
	char what[STALL_WHAT_MAX];
	int64_t until, age_ns;

	here = dog;
	sys_no_cancel();
	sys_thread_name("evwork-stall");
	sys_lock(&mutex);
	while (!dog->ending) {
		bool reports = next_report_locked(dog, what, &age_ns);

		until = reports ? 0 : rest_locked(dog);
		sys_unlock(&mutex);
		if (reports)
			base_log(EVWORK_LOG_WARNING, "%s has run for %lld ms", what,
				(long long)(age_ns / SYS_NS_PER_MS));
		else
			sys_park(&dog->parker, until);
		sys_lock(&mutex);
	}
	sys_unlock(&mutex);
	return NULL;
}

/* Any thread. */

static int dog_new_locked(void)
{
	struct watchdog *made;
	int rc;

	rc = fork_joined ? 0 : fork_join(&fork_entry);
	if (rc)
		return rc;
	fork_joined = true;
	made = sys_zalloc(sizeof(*made));
	if (!made)
		return -ENOMEM;
	rc = sys_parker_init(&made->parker);
	if (rc)
		goto free_dog;
	/* Its first step is to wait for the lock. */
	rc = sys_thread_create(&made->thread, STACK_SIZE, watchdog_main, made);
	if (rc)
		goto fini_parker;
	current = made;
	return 0;

fini_parker:
	sys_parker_fini(&made->parker);
free_dog:
	sys_free(made);
	return rc;
}

int stall_watch_new(const struct stall_kind *kind, void *owner, int subjects,
	int64_t stall_ns, struct evwork_clock *clock, struct stall_watch **ret_watch)
{
	struct stall_watch *watch = sys_zalloc(sizeof(*watch) +
		(size_t)subjects * sizeof(watch->subjects[0]));
	int rc;

	if (!watch)
		return -ENOMEM;
	watch->kind = kind;
	watch->owner = owner;
	watch->count = subjects;
	watch->stall_ns = stall_ns;
	watch->period_ns = stall_ns / LOOKS;
	watch->clock = clock;
	watch->clock_user.poke = poke;
	watch->clock_user.stops = true;
	sys_lock(&mutex);
	rc = current ? 0 : dog_new_locked();
	if (rc == 0) {
		watch->dog = current;
		watch->look_ns = sys_time_add(clock_now(clock), watch->period_ns);
		watch->looked = true;
		clock_join(clock, &watch->clock_user);
		/* Even a clock that is on its way goes no further without it. */
		clock_wait(clock, &watch->clock_user);
		LIST_APPEND(&current->watches, watch, next, prev);
		current->count++;
		sys_unpark(&current->parker);
	}
	sys_unlock(&mutex);
	if (rc)
		sys_free(watch);
	else
		*ret_watch = watch;
	return rc;
}

static void dog_free(struct watchdog *dog)
{
	sys_unpark(&dog->parker);
	sys_thread_join(dog->thread);
	sys_parker_fini(&dog->parker);
	sys_free(dog);
}

void stall_watch_free(struct stall_watch *watch)
{
	struct watchdog *dog;
	bool last;

	if (!watch)
		return;
	dog = watch->dog;
	sys_lock(&mutex);
	clock_leave(watch->clock, &watch->clock_user);
	LIST_REMOVE(&dog->watches, watch, next, prev);
	last = --dog->count == 0;
	if (last) {
		dog->ending = true;
		current = NULL;
	}
	sys_unlock(&mutex);
	if (last)
		dog_free(dog);
	sys_free(watch);
}

void stall_watch_forget(struct stall_watch *watch)
{
	if (!watch)
		return;
	/* Memory is all that is left of the parent's. */
	if (--watch->dog->count == 0)
		sys_free(watch->dog);
	sys_free(watch);
}

bool stall_watch_is_here(const struct stall_watch *watch)
{
	return watch && watch->dog == here;
}
