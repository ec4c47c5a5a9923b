/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The work of a treesum job: open, read, digest, close. It blocks and it
 * burns CPU, which is why it is on a worker. Between two pieces it asks
 * whether it should still go on, so that a stop takes milliseconds even in the
 * middle of a huge file.
 *
 * The algorithm is looked up once: OpenSSL 3 takes a lock and searches its
 * providers whenever EVP_sha256() is used, which would make the workers meet
 * there for every small file.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for O_NOFOLLOW */
#endif
#define _FILE_OFFSET_BITS 64 /* large files on small machines */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "treesum_hash.h"

/* Large enough that system calls do not count, small enough for the cache. */
#define PIECE (128 * 1024)

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

/*
 * Between the listing and now the name may have come to mean something else.
 * A link is not followed, and opening a FIFO must not wait for its writer.
 */
static int regular_open(const char *path)
{
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int rc = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &status))
		rc = -errno;
	else if (!S_ISREG(status.st_mode))
		rc = -ESTALE;
	if (!rc)
		return fd;
	close(fd);
	return rc;
}

static int pieces_digest(int fd, EVP_MD_CTX *state, struct evwork_job *job,
	uint64_t *ret_bytes)
{
	unsigned char piece[PIECE];
	uint64_t bytes = 0;

	for (;;) {
		int rc = evwork_job_err(job);
		ssize_t got;

		if (rc)
			return rc;
		got = read(fd, piece, sizeof(piece));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		if (!EVP_DigestUpdate(state, piece, (size_t)got))
			return -EIO;
		bytes += (uint64_t)got;
	}
	*ret_bytes = bytes;
	return 0;
}

int hash_file(struct hash *hash, struct evwork_job *job, const char *path,
	unsigned char ret_digest[HASH_LENGTH], uint64_t *ret_bytes)
{
	EVP_MD_CTX *state;
	int fd, rc;

	fd = regular_open(path);
	if (fd < 0)
		return fd;
	state = EVP_MD_CTX_new();
	if (!state)
		rc = -ENOMEM;
	else if (!EVP_DigestInit_ex(state, hash->algorithm, NULL))
		rc = -EIO;
	else
		rc = pieces_digest(fd, state, job, ret_bytes);
	if (!rc && !EVP_DigestFinal_ex(state, ret_digest, NULL))
		rc = -EIO;
	EVP_MD_CTX_free(state);
	close(fd);
	return rc;
}
