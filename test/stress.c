/* SPDX-License-Identifier: BSD-3-Clause */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "stress.h"

#include <stdarg.h>

uint64_t stress_seed;
static _Thread_local uint64_t chance_state;

void stress_begin(void)
{
	const char *seed = getenv("EVWORK_STRESS_SEED");

	stress_seed = seed ? strtoull(seed, NULL, 0) : sys_random();
	support_note("EVWORK_STRESS_SEED=%llu", (unsigned long long)stress_seed);
}

int scaled(int rounds)
{
	return SANITIZED || support_slow() > 1 ? rounds / 10 : rounds;
}

void chance_seed(uint64_t stream)
{
	chance_state = (stress_seed + stream * UINT64_C(0x9e3779b97f4a7c15)) | 1;
}

bool chance_is_seeded(void)
{
	return chance_state != 0;
}

static uint64_t next_state(void)
{
	chance_state ^= chance_state << 13;
	chance_state ^= chance_state >> 7;
	chance_state ^= chance_state << 17;
	return chance_state;
}

int chance(int n)
{
	return (int)((next_state() >> 20) % (uint64_t)n);
}

uint64_t chance_bits(void)
{
	/* The low bits alone are none too random. */
	return next_state() * UINT64_C(2685821657736338717);
}

int64_t chance_below(int64_t bound)
{
	return (int64_t)(chance_bits() % (uint64_t)bound);
}

void dawdle(void)
{
	int i;

	if (chance(4) == 0)
		return;
	for (i = chance(1 << chance(8)); i > 0; i--)
		sys_relax();
}

void expect_failed(const char *condition, const char *file, int line, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	ck_abort_msg("%s:%d: %s does not hold: %s", file, line, condition, text);
	abort();
}
