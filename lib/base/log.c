/* SPDX-License-Identifier: BSD-3-Clause */

/*
 * One hook per process. A caller takes the hook under the lock, leaves the
 * lock, and calls it; evwork_set_log waits until all who took the previous one
 * have come back, so that its arg may go. Calls are counted in two counters by
 * turns (the parity of the generation), so that callers of the new hook
 * do not keep the waiter waiting. A thread that sets the hook from inside a
 * hook does not wait: it would wait for itself.
 */

#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/sys.h"

static struct {
	sys_mutex mutex;          /* covers all below */
	pthread_cond_t left;      /* a counter became zero */
	evwork_log_fn fn;
	void *arg;
	unsigned generation;
	unsigned inside[2];       /* calls under way, by parity of generation */
	bool changing;            /* a setter waits; the next one queues behind it */
} hook = { .mutex = PTHREAD_MUTEX_INITIALIZER, .left = PTHREAD_COND_INITIALIZER };

/* Lets the many calls of a program without a hook pass without the lock.
 * Relaxed: the lock decides, this only saves the trip. */
static atomic_bool hooked;

/* How deep this thread is inside hooks. */
static _Thread_local int depth;

void evwork_set_log(evwork_log_fn fn, void *arg)
{
	unsigned previous;

	sys_lock(&hook.mutex);
	while (hook.changing && depth == 0)
		sys_cond_wait(&hook.left, &hook.mutex, INT64_MAX);
	hook.fn = fn;
	hook.arg = arg;
	atomic_store_explicit(&hooked, fn != NULL, memory_order_relaxed);
	if (depth == 0) {
		previous = hook.generation++ & 1;
		hook.changing = true;
		while (hook.inside[previous] != 0)
			sys_cond_wait(&hook.left, &hook.mutex, INT64_MAX);
		hook.changing = false;
		pthread_cond_broadcast(&hook.left);
	}
	sys_unlock(&hook.mutex);
}

static void call_hook(enum evwork_log_level level, const char *text)
{
	/* The hook may well be a cancellation point, and must be counted out. */
	int cancel = sys_no_cancel();
	evwork_log_fn fn;
	unsigned parity;
	void *arg;

	sys_lock(&hook.mutex);
	fn = hook.fn;
	arg = hook.arg;
	parity = hook.generation & 1;
	hook.inside[parity]++;
	sys_unlock(&hook.mutex);
	if (fn) {
		depth++;
		fn(level, text, arg);
		depth--;
	}
	sys_lock(&hook.mutex);
	if (--hook.inside[parity] == 0)
		pthread_cond_broadcast(&hook.left);
	sys_unlock(&hook.mutex);
	sys_cancel(cancel);
}

void base_log(enum evwork_log_level level, const char *format, ...)
{
	char text[512];
	va_list args;

	if (!atomic_load_explicit(&hooked, memory_order_relaxed))
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	call_hook(level, text);
}

int evwork_log_filter_pass(struct evwork_log_filter *filter, int64_t now_ns,
	uint64_t *ret_suppressed)
{
	int64_t interval_ns;
	bool pass;

	if (!filter || filter->interval_ms < 0)
		return -EINVAL;
	interval_ns = sys_time_mul(filter->interval_ms, SYS_NS_PER_MS);
	filter->_seen++;
	if (filter->first == 0 && filter->every == 0 && filter->interval_ms == 0)
		pass = filter->_seen == 1;
	else
		pass = filter->_seen <= filter->first ||
		       (filter->every > 0 && filter->_suppressed + 1 >= filter->every) ||
		       (filter->interval_ms > 0 &&
			(!filter->_passed ||
			 now_ns >= sys_time_add(filter->_last_ns, interval_ns)));
	if (!pass) {
		filter->_suppressed++;
		return 0;
	}
	if (ret_suppressed)
		*ret_suppressed = filter->_suppressed;
	filter->_suppressed = 0;
	filter->_last_ns = now_ns;
	filter->_passed = 1;
	return 1;
}
