/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BENCH_BARE_H
#define BENCH_BARE_H

#include <stdint.h>

/*
 * What the machine itself gives for a second thread: the same jobs, half of
 * them on each of two threads that were both running when the clock started.
 * No pool can do better, and on a shared machine it is not always 2.
 */

void bare_start(void);
void bare_stop(void);

/* Wall time of `jobs` busy loops on one thread, and on two. */
uint64_t bare_sequential_ns(int jobs, uint32_t cost);
uint64_t bare_two_threads_ns(int jobs, uint32_t cost);

#endif
