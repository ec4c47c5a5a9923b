/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A sorted walk in little memory: one sorted listing for each level between
 * the root and the place where the walk is, and one path.
 *
 * Sorting each directory by name is not enough to get whole paths sorted. The
 * directory "a" stands for "a/…", and '/' sorts after '-' and '.', so that
 * "a-b" comes before everything in "a". Hence a listing spells a directory with
 * its slash, "a/", and compares as bytes: what is below "a/" is then one
 * contiguous stretch in the right place. The slash also tells the two kinds of
 * entries apart, as no name contains one.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for d_type, O_DIRECTORY and O_NOFOLLOW */
#endif
#define _FILE_OFFSET_BITS 64 /* large files on small machines */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "treesum_walk.h"

struct text {
	char *bytes;
	size_t length;
	size_t room;
};

/* A directory that is being walked. */
struct level {
	struct text names;   /* its entries, each with its NUL */
	char **sorted;       /* into names */
	size_t count;
	size_t next;         /* the first in sorted that has not been visited */
	size_t base;         /* length of the directory's own path, with its slash */
};

struct walk {
	char *root;
	bool begun;
	struct text path;    /* of the entry visited last */
	struct level *levels;
	size_t depth;        /* levels in use; the last is where the walk is */
	size_t room;
};

static int text_reserve(struct text *text, size_t more)
{
	size_t room = text->room ? text->room : 256;
	char *bytes;

	while (room < text->length + more)
		room *= 2;
	if (room == text->room)
		return 0;
	bytes = realloc(text->bytes, room);
	if (!bytes)
		return -ENOMEM;
	text->bytes = bytes;
	text->room = room;
	return 0;
}

static int text_add(struct text *text, const char *bytes, size_t length)
{
	int rc = text_reserve(text, length);

	if (rc)
		return rc;
	memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
	return 0;
}

/* Makes the path its first `keep` bytes and `name`. */
static int path_set(struct walk *walk, size_t keep, const char *name)
{
	size_t length = strlen(name);

	walk->path.length = keep;
	if (text_add(&walk->path, name, length + 1))
		return -ENOMEM;
	walk->path.length = keep + length;
	return 0;
}

static void level_fini(struct level *level)
{
	free(level->names.bytes);
	free(level->sorted);
}

/*
 * The mode of an entry, without a system call where the directory tells. One
 * that cannot be looked at counts as a file, so that opening it for its sum
 * says in the right place what is wrong with it.
 */
static mode_t entry_mode(int fd, const struct dirent *entry)
{
	struct stat status;

	switch (entry->d_type) {
	case DT_REG:
		return S_IFREG;
	case DT_DIR:
		return S_IFDIR;
	case DT_UNKNOWN:
		break;
	default:
		return 0;
	}
	if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW))
		return S_IFREG;
	return status.st_mode & S_IFMT;
}

static int level_add(struct level *level, const char *name, bool directory)
{
	size_t length = strlen(name);
	int rc;

	if (directory) {
		rc = text_add(&level->names, name, length);
		if (!rc)
			rc = text_add(&level->names, "/", 2);
	} else {
		rc = text_add(&level->names, name, length + 1);
	}
	if (!rc)
		level->count++;
	return rc;
}

/* 0, -ENOMEM, or the error at which reading ended early. */
static int level_read(struct level *level, DIR *directory)
{
	for (;;) {
		const struct dirent *entry;
		mode_t mode;

		errno = 0;
		entry = readdir(directory);
		if (!entry)
			return -errno;
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		mode = entry_mode(dirfd(directory), entry);
		if ((S_ISREG(mode) || S_ISDIR(mode))
		    && level_add(level, entry->d_name, S_ISDIR(mode)))
			return -ENOMEM;
	}
}

/* strcmp() compares as unsigned bytes whatever the locale is. */
static int name_compare(const void *left, const void *right)
{
	return strcmp(*(char *const *)left, *(char *const *)right);
}

static int level_sort(struct level *level)
{
	char *name = level->names.bytes;

	if (level->count == 0)
		return 0;
	level->sorted = calloc(level->count, sizeof(*level->sorted));
	if (!level->sorted)
		return -ENOMEM;
	for (size_t i = 0; i < level->count; i++) {
		level->sorted[i] = name;
		name += strlen(name) + 1;
	}
	qsort(level->sorted, level->count, sizeof(*level->sorted), name_compare);
	return 0;
}

/*
 * Opens the directory that the path names. The root is opened as the user
 * spells it, because "link/" means the directory behind the link. Below it
 * the slash is ours; without it a link that has taken the place of a directory
 * in the meantime is not followed.
 */
static DIR *directory_open(struct walk *walk)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	DIR *directory;
	int fd, saved;

	if (walk->depth == 0) {
		fd = open(walk->root, flags);
	} else {
		walk->path.bytes[walk->path.length - 1] = '\0';
		fd = open(walk->path.bytes, flags | O_NOFOLLOW);
		walk->path.bytes[walk->path.length - 1] = '/';
	}
	if (fd < 0)
		return NULL;
	directory = fdopendir(fd);
	if (!directory) {
		saved = errno;
		close(fd);
		errno = saved;
	}
	return directory;
}

static int level_push(struct walk *walk, struct level *level)
{
	if (walk->depth == walk->room) {
		size_t room = walk->room ? 2 * walk->room : 16;
		struct level *levels = realloc(walk->levels, room * sizeof(*levels));

		if (!levels)
			return -ENOMEM;
		walk->levels = levels;
		walk->room = room;
	}
	walk->levels[walk->depth++] = *level;
	return 0;
}

/* A fault is told with the directory's name as find(1) would print it. */
static int directory_fault(struct walk *walk, bool root, int error,
	const char **ret_path, int *ret_error)
{
	if (root)
		*ret_path = walk->root;
	else
		walk->path.bytes[walk->path.length - 1] = '\0';
	*ret_error = error;
	return WALK_FAULT;
}

/*
 * Goes down into the directory whose path has just been set. If reading it
 * fails half-way, that is a fault, and what was read is walked nevertheless.
 */
static int directory_enter(struct walk *walk, const char **ret_path, int *ret_error)
{
	struct level level = { .base = walk->path.length };
	bool root = walk->depth == 0;
	DIR *directory = directory_open(walk);
	int read, rc;

	if (!directory) {
		if (errno == ENOMEM)
			return -ENOMEM;
		return directory_fault(walk, root, errno, ret_path, ret_error);
	}
	read = level_read(&level, directory);
	closedir(directory);
	rc = read == -ENOMEM ? read : level_sort(&level);
	if (!rc)
		rc = level_push(walk, &level);
	if (rc) {
		level_fini(&level);
		return rc;
	}
	if (read)
		return directory_fault(walk, root, -read, ret_path, ret_error);
	return WALK_DIRECTORY;
}

/* The root may be a directory, a regular file, or nothing that is listed. */
static int root_visit(struct walk *walk, const char **ret_path, int *ret_error)
{
	struct stat status;
	size_t length = strlen(walk->root);

	*ret_path = walk->root;
	if (lstat(walk->root, &status)) {
		*ret_error = errno;
		return WALK_FAULT;
	}
	if (S_ISREG(status.st_mode))
		return WALK_FILE;
	if (!S_ISDIR(status.st_mode))
		return WALK_END;
	if (path_set(walk, 0, walk->root))
		return -ENOMEM;
	if (walk->root[length - 1] != '/' && path_set(walk, length, "/"))
		return -ENOMEM;
	return directory_enter(walk, ret_path, ret_error);
}

int walk_next(struct walk *walk, const char **ret_path, int *ret_error)
{
	if (!walk->begun) {
		walk->begun = true;
		return root_visit(walk, ret_path, ret_error);
	}
	while (walk->depth > 0) {
		struct level *level = &walk->levels[walk->depth - 1];

		if (level->next == level->count) {
			level_fini(level);
			walk->depth--;
			continue;
		}
		walk->path.bytes[level->base - 1] = '/'; /* a fault cuts it off */
		if (path_set(walk, level->base, level->sorted[level->next++]))
			return -ENOMEM;
		*ret_path = walk->path.bytes;
		if (walk->path.bytes[walk->path.length - 1] != '/')
			return WALK_FILE;
		return directory_enter(walk, ret_path, ret_error);
	}
	return WALK_END;
}

int walk_new(const char *root, struct walk **ret_walk)
{
	struct walk *walk = calloc(1, sizeof(*walk));

	if (!walk)
		return -ENOMEM;
	walk->root = strdup(root);
	if (!walk->root) {
		free(walk);
		return -ENOMEM;
	}
	*ret_walk = walk;
	return 0;
}

void walk_free(struct walk *walk)
{
	if (!walk)
		return;
	while (walk->depth > 0)
		level_fini(&walk->levels[--walk->depth]);
	free(walk->levels);
	free(walk->path.bytes);
	free(walk->root);
	free(walk);
}
