/* SPDX-License-Identifier: BSD-3-Clause */
#include "guard/siphash.h"

struct state {
	uint64_t a, b, c, d;
};

static inline uint64_t rotate(uint64_t word, int by)
{
	return word << by | word >> (64 - by);
}

static inline void rounds(struct state *s, int count)
{
	while (count-- > 0) {
		s->a += s->b;
		s->b = rotate(s->b, 13) ^ s->a;
		s->a = rotate(s->a, 32);
		s->c += s->d;
		s->d = rotate(s->d, 16) ^ s->c;
		s->a += s->d;
		s->d = rotate(s->d, 21) ^ s->a;
		s->c += s->b;
		s->b = rotate(s->b, 17) ^ s->c;
		s->c = rotate(s->c, 32);
	}
}

/* Up to eight bytes, the first the lowest, wherever they stand. */
static inline uint64_t word_at(const unsigned char *bytes, size_t count)
{
	uint64_t word = 0;
	size_t i;

	for (i = 0; i < count; i++)
		word |= (uint64_t)bytes[i] << (8 * i);
	return word;
}

static inline void mix(struct state *s, uint64_t word)
{
	s->d ^= word;
	rounds(s, 1);
	s->a ^= word;
}

uint64_t siphash13(const uint64_t key[2], const void *data, size_t size)
{
	/* "somepseudorandomlygeneratedbytes" */
	struct state s = {
		key[0] ^ UINT64_C(0x736f6d6570736575), key[1] ^ UINT64_C(0x646f72616e646f6d),
		key[0] ^ UINT64_C(0x6c7967656e657261), key[1] ^ UINT64_C(0x7465646279746573),
	};
	const unsigned char *bytes = data;
	size_t left = size;

	for (; left >= 8; left -= 8, bytes += 8)
		mix(&s, word_at(bytes, 8));
	mix(&s, word_at(bytes, left) | (uint64_t)size << 56);
	s.c ^= 0xff;
	rounds(&s, 3);
	return s.a ^ s.b ^ s.c ^ s.d;
}
