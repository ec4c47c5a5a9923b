/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What burns CPU. Of a large file it reads all pieces after the first itself. Between
 * two of them it asks whether it should still go on, so that a stop takes milliseconds
 * even in the middle of a huge file.
 *
 * The algorithm is looked up once: OpenSSL 3 takes a lock and searches its
 * providers whenever EVP_sha256() is used, which would make the workers meet
 * there for every small file.
 */

#include <errno.h>
#include <stdlib.h>

#include <openssl/evp.h>

#include "treesum_hash.h"

#if OPENSSL_VERSION_NUMBER >= 0x30000000L
struct hash {
	EVP_MD *algorithm;
};

static EVP_MD *algorithm_get(void)
{
	return EVP_MD_fetch(NULL, "SHA256", NULL);
}

static void algorithm_put(EVP_MD *algorithm)
{
	EVP_MD_free(algorithm);
}
#else
struct hash {
	const EVP_MD *algorithm;
};

static const EVP_MD *algorithm_get(void)
{
	return EVP_sha256();
}

static void algorithm_put(const EVP_MD *algorithm)
{
	(void)algorithm; /* a constant of the library */
}
#endif

int hash_new(struct hash **ret_hash)
{
	struct hash *hash = calloc(1, sizeof(*hash));

	if (!hash)
		return -ENOMEM;
	hash->algorithm = algorithm_get();
	if (!hash->algorithm) {
		free(hash);
		return -ENOTSUP;
	}
	*ret_hash = hash;
	return 0;
}

void hash_free(struct hash *hash)
{
	if (!hash)
		return;
	algorithm_put(hash->algorithm);
	free(hash);
}

static int pieces_digest(struct piece *piece, EVP_MD_CTX *state, struct evwork_emitter *out,
	uint64_t *ret_bytes)
{
	uint64_t bytes = 0;
	int rc;

	for (;;) {
		if (!EVP_DigestUpdate(state, piece->bytes, piece->length))
			return -EIO;
		bytes += piece->length;
		if (piece->fd < 0)
			break;
		rc = evwork_emitter_err(out);
		if (!rc)
			rc = piece_next(piece);
		if (rc)
			return rc;
	}
	*ret_bytes = bytes;
	return 0;
}

int hash_pieces(struct hash *hash, struct evwork_emitter *out, struct piece *piece,
	unsigned char ret_digest[HASH_LENGTH], uint64_t *ret_bytes)
{
	EVP_MD_CTX *state = EVP_MD_CTX_new();
	int rc;

	if (!state)
		rc = -ENOMEM;
	else if (!EVP_DigestInit_ex(state, hash->algorithm, NULL))
		rc = -EIO;
	else
		rc = pieces_digest(piece, state, out, ret_bytes);
	if (!rc && !EVP_DigestFinal_ex(state, ret_digest, NULL))
		rc = -EIO;
	EVP_MD_CTX_free(state);
	return rc;
}
