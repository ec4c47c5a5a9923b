/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TREESUM_HASH_H
#define TREESUM_HASH_H

/* SHA-256 of a file, with OpenSSL's EVP. Any number of threads may use one hash. */

#include <stdint.h>

#include <evwork.h>

#include "treesum_read.h"

#define HASH_LENGTH 32

struct hash;

/* -ENOMEM; -ENOTSUP: this libcrypto has no SHA-256. */
int hash_new(struct hash **ret_hash);
void hash_free(struct hash *hash);

/*
 * In a stage: digests the file that begins with piece, and stops early when its pipeline
 * is stopped, with what evwork_emitter_err() says. Otherwise 0 or the negated errno of
 * what went wrong.
 */
int hash_pieces(struct hash *hash, struct evwork_emitter *out, struct piece *piece,
	unsigned char ret_digest[HASH_LENGTH], uint64_t *ret_bytes);

#endif
