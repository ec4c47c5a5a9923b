/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef EVWORK_MEMORY_H
#define EVWORK_MEMORY_H

/*
 * Memory. The library allocates when something is created, registered or
 * submitted to an unbounded queue, and nowhere else: cancelling, completing,
 * delivering, closing and freeing never allocate and so cannot fail for memory
 * (S-GEN-14). Jobs, timers and watches are the caller's own structs.
 */

#include <stddef.h>

#include <evwork/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Both are called on any thread and must behave as malloc and free. */
struct evwork_allocator {
	void *(*allocate)(size_t size, void *arg);
	void (*release)(void *memory, void *arg);
	void *arg;
};

/*
 * evwork_set_allocator [setup] makes the library take its memory from the
 * given functions; the struct is copied. NULL restores malloc and free.
 * -EINVAL: a function is NULL.
 * -EBUSY: the library holds memory from the present allocator.
 */
int evwork_set_allocator(const struct evwork_allocator *allocator);

#ifdef __cplusplus
}
#endif

#endif
