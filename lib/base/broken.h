/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BASE_BROKEN_H
#define BASE_BROKEN_H

#include <stdatomic.h>
#include <stdbool.h>

/*
 * Invariants of the library, and proven misuse that no status can answer, such as memory
 * that its owner wrote to while it was the library's (S-CRASH-9). What is broken is said in
 * the log. Builds with assertions, the default of configure, then end the process, as the
 * place where it broke is worth more than what would follow. In those without
 * (--disable-assert) the operation fails: its caller leaves things as they are.
 */

/* Call it with no lock of the library held, like base_log. */
void base_broken(const char *what);

/* Whether base_broken ends the process; set by the build, and by tests. */
extern atomic_bool base_broken_aborts;

/* The condition; if it does not hold it was said so, and the operation must fail. */
static inline bool base_holds(bool condition, const char *what)
{
	if (__builtin_expect(!condition, 0))
		base_broken(what);
	return condition;
}

#endif
