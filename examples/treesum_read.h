/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TREESUM_READ_H
#define TREESUM_READ_H

/*
 * A file, piece by piece: small ones are read in one go and need no descriptor after
 * that, of large ones there is one piece in memory at a time.
 */

#include <stdbool.h>
#include <stddef.h>

struct piece {
	int fd;                  /* -1: this is the last piece */
	size_t length;
	size_t room;
	unsigned char bytes[];
};

/*
 * Opens the regular file at path and reads its first piece. 0, or the negated errno of
 * what went wrong; -ESTALE: it is not a regular file any more.
 */
int piece_first(const char *path, struct piece **ret_piece);

/* Reads the next piece in place of this one. */
int piece_next(struct piece *piece);

/* Closes the file, too. */
void piece_free(struct piece *piece);

#endif
