/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TEST_STRESS_H
#define TEST_STRESS_H

/*
 * What stress tests share: how many rounds, and random choices that EVWORK_STRESS_SEED
 * repeats, though not the interleaving of a run.
 */

#include "support.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* Takes the seed from the environment or the system and prints it as a TAP comment. Call it
 * first in main. */
void stress_begin(void);
extern uint64_t stress_seed;

/* A tenth of the rounds where everything is slow. */
int scaled(int rounds);

/* Random choices: one sequence for each thread, which seeds it with a number of its own. */
void chance_seed(uint64_t stream);
bool chance_is_seeded(void);
/* A number from 0 to n - 1. */
int chance(int n);
/* 64 random bits, and a number from 0 to bound - 1 of them. */
uint64_t chance_bits(void);
int64_t chance_below(int64_t bound);
/* Some instructions' time, mostly none. */
void dawdle(void);

/* For places that are passed so often that Check's own record of each assertion
 * would take longer than the test. On the test's own thread only. */
#define must(call) do { \
	int must_rc_ = (call); \
	if (must_rc_ != 0) \
		ck_abort_msg(#call " returned %d", must_rc_); \
} while (0)

#define expect(condition, ...) do { \
	if (!(condition)) \
		expect_failed(#condition, __FILE__, __LINE__, __VA_ARGS__); \
} while (0)
void expect_failed(const char *condition, const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 4, 5), noreturn));

#endif
