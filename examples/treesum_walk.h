/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TREESUM_WALK_H
#define TREESUM_WALK_H

/*
 * The walk: the regular files under a directory, one at a time, in the order
 * in which `LC_ALL=C sort -z` would put their whole paths. It follows no
 * symbolic links and spells paths as find(1) does.
 *
 * Plain sequential code that does blocking I/O and knows nothing of threads;
 * one thread at a time may use a walk.
 */

struct walk;

/* What walk_next() came upon; -ENOMEM is possible, too. */
enum walk_event {
	WALK_END,        /* no more; again and again */
	WALK_FILE,       /* a regular file, *ret_path */
	WALK_DIRECTORY,  /* a directory was read; a good moment to stop, if one must */
	WALK_FAULT       /* *ret_path cannot be read because of *ret_error, an errno */
};

/* root is copied. Touches no file yet. -ENOMEM. */
int walk_new(const char *root, struct walk **ret_walk);
void walk_free(struct walk *walk);

/* *ret_path stays valid until the next call. After a fault the walk goes on. */
int walk_next(struct walk *walk, const char **ret_path, int *ret_error);

#endif
