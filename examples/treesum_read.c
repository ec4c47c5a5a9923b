/* SPDX-License-Identifier: BSD-3-Clause */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for O_NOFOLLOW */
#endif
#define _FILE_OFFSET_BITS 64 /* large files on small machines */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "treesum_read.h"

/* Large enough that system calls do not count, small enough for the cache. */
#define PIECE (128 * 1024)

/*
 * Between the listing and now the name may have come to mean something else.
 * A link is not followed, and opening a FIFO must not wait for its writer.
 */
static int regular_open(const char *path, off_t *ret_size)
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
	if (rc) {
		close(fd);
		return rc;
	}
	*ret_size = status.st_size;
	return fd;
}

static void finish(struct piece *piece)
{
	if (piece->fd >= 0)
		close(piece->fd);
	piece->fd = -1;
}

int piece_next(struct piece *piece)
{
	piece->length = 0;
	while (piece->length < piece->room) {
		ssize_t got = read(piece->fd, piece->bytes + piece->length,
			piece->room - piece->length);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0) {
			finish(piece);
			return 0;
		}
		piece->length += (size_t)got;
	}
	return 0;
}

int piece_first(const char *path, struct piece **ret_piece)
{
	struct piece *piece;
	off_t size = 0;
	int fd = regular_open(path, &size), rc;
	size_t room;

	if (fd < 0)
		return fd;
	/* One byte more shows that it was all. Some files say 0 and are not empty. */
	room = size < 4096 ? 4096 : size < PIECE ? (size_t)size + 1 : PIECE;
	piece = malloc(sizeof(*piece) + room);
	if (!piece) {
		close(fd);
		return -ENOMEM;
	}
	piece->fd = fd;
	piece->room = room;
	rc = piece_next(piece);
	if (rc)
		piece_free(piece);
	else
		*ret_piece = piece;
	return rc;
}

void piece_free(struct piece *piece)
{
	if (!piece)
		return;
	finish(piece);
	free(piece);
}
