/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TREESUM_HASH_H
#define TREESUM_HASH_H

/* SHA-256 of a file, with OpenSSL's EVP. Any number of threads may use one hash. */

#include <stdint.h>

#include <evwork.h>

#define HASH_LENGTH 32

struct hash;

/* -ENOMEM; -ENOTSUP: this libcrypto has no SHA-256. */
int hash_new(struct hash **ret_hash);
void hash_free(struct hash *hash);

/*
 * In the work of job: reads the regular file at path and stops early when the
 * job has been told to, with what evwork_job_err() says. Otherwise 0 or the
 * negated errno of what went wrong; -ESTALE: it is not a regular file any more.
 */
int hash_file(struct hash *hash, struct evwork_job *job, const char *path,
	unsigned char ret_digest[HASH_LENGTH], uint64_t *ret_bytes);

#endif
