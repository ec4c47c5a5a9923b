/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_LOG_H
#define EVWORK_LOG_H

/*
 * The log hook. The library is silent unless the program sets a hook
 * (S-OBS-1); it never prints. There is one hook per process.
 */

#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

enum evwork_log_level {
	EVWORK_LOG_DEBUG,
	EVWORK_LOG_INFO,
	EVWORK_LOG_WARNING,
	EVWORK_LOG_ERROR
};

/*
 * Called on any thread of the library or the program, with no lock held. The
 * text is one line without its line feed and is the library's again when the
 * hook returns. The hook may call everything in this library that does not
 * block, evwork_set_log included.
 */
typedef void (*evwork_log_fn)(enum evwork_log_level level, const char *text, void *arg);

/*
 * evwork_set_log [any] sets the hook; a NULL fn turns logging off. When it
 * returns no thread is inside the previous hook any more and none will enter
 * it, so what its arg points to may go; the one exception is a call made from
 * inside a hook, which does not wait for other threads.
 */
void evwork_set_log(evwork_log_fn fn, void *arg);

/*
 * A filter for messages that repeat (S-OBS-2). A message passes if it is one
 * of the first `first`, or the `every`-th since the last one that passed, or
 * comes at least interval_ms after the last one that passed. All zero lets
 * only the very first pass.
 */
struct evwork_log_filter {
	uint64_t first;
	uint64_t every;
	int64_t interval_ms;
	/* Private. */
	uint64_t _seen, _suppressed;
	int64_t _last_ns;
	int _passed;
};

/*
 * evwork_log_filter_pass decides about one message at time now_ns. Returns 1
 * if it passes, and stores in *ret_suppressed (unless NULL) how many were held
 * back since the last one that passed; returns 0 if it is held back, -EINVAL
 * if filter is NULL or interval_ms is negative. The caller keeps two threads
 * from using one filter at once.
 */
int evwork_log_filter_pass(struct evwork_log_filter *filter, int64_t now_ns,
	uint64_t *ret_suppressed);

#ifdef __cplusplus
}
#endif

#endif
