/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GUARD_SIPHASH_H
#define GUARD_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

/*
 * SipHash (Aumasson and Bernstein, 2012): a hash whose values nobody can guess, nor find
 * keys that collide, without the 128 bits that it is keyed with. It does one round a word
 * and three at the end, where the paper does two and four: that is enough for tables.
 */
uint64_t siphash13(const uint64_t key[2], const void *data, size_t size);

#endif
