/* SPDX-License-Identifier: BSD-3-Clause */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

/*
 * How many CPUs this process may really use. Three things say less than the
 * number of CPUs online: the affinity mask (taskset, cpusets), the quota of the
 * cgroup the process is in, and that of each group above it. A pool of 64
 * workers in a container that may use two CPUs only makes them wait for each
 * other.
 */

#include "base/sys.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __linux__

static int affinity_count(void)
{
	cpu_set_t set;

	/* More CPUs than the set has room for is an error; online counts then. */
	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return 0;
	return CPU_COUNT(&set);
}

/* Reads one line of a file; false if there is none. */
static bool read_line(const char *path, char *line, size_t size)
{
	FILE *file = fopen(path, "re");
	bool got;

	if (!file)
		return false;
	got = fgets(line, (int)size, file) != NULL;
	fclose(file);
	return got;
}

/* quota / period rounded up, or 0 for no limit. */
static int quota_cpus(long long quota, long long period)
{
	if (quota <= 0 || period <= 0)
		return 0;
	return (int)((quota + period - 1) / period);
}

static int group_v2(const char *directory)
{
	char path[640], line[128];
	long long quota, period;

	snprintf(path, sizeof(path), "%s/cpu.max", directory);
	if (!read_line(path, line, sizeof(line)) ||
	    sscanf(line, "%lld %lld", &quota, &period) != 2)
		return 0;       /* "max 100000": no limit */
	return quota_cpus(quota, period);
}

static int group_v1(const char *directory)
{
	char path[640], line[128];
	long long quota;

	snprintf(path, sizeof(path), "%s/cpu.cfs_quota_us", directory);
	if (!read_line(path, line, sizeof(line)))
		return 0;
	quota = atoll(line);
	snprintf(path, sizeof(path), "%s/cpu.cfs_period_us", directory);
	if (!read_line(path, line, sizeof(line)))
		return 0;
	return quota_cpus(quota, atoll(line));
}

/* The least of the limits of a group and all above it, or 0. */
static int group_limit(const char *root, const char *group, int (*limit_of)(const char *))
{
	char path[576];
	size_t root_length = strlen(root);
	int least = 0;

	snprintf(path, sizeof(path), "%s%s", root, group);
	for (;;) {
		int limit = limit_of(path);
		char *slash = strrchr(path, '/');

		if (limit > 0 && (least == 0 || limit < least))
			least = limit;
		if (!slash || strlen(path) <= root_length)
			return least;
		*slash = '\0';
	}
}

/* Whether `controllers`, a list with commas, has "cpu" in it. */
static bool has_cpu(const char *controllers)
{
	const char *at = controllers;

	while (at) {
		if (strncmp(at, "cpu", 3) == 0 && (at[3] == ',' || at[3] == '\0'))
			return true;
		at = strchr(at, ',');
		if (at)
			at++;
	}
	return false;
}

static int cgroup_count(void)
{
	FILE *file = fopen("/proc/self/cgroup", "re");
	char line[512];
	int least = 0;

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		char *controllers = strchr(line, ':');
		char *group = controllers ? strchr(controllers + 1, ':') : NULL;
		int limit = 0;

		if (!group)
			continue;
		*controllers++ = '\0';
		*group++ = '\0';
		group[strcspn(group, "\n")] = '\0';
		if (*controllers == '\0')
			limit = group_limit("/sys/fs/cgroup", group, group_v2);
		else if (has_cpu(controllers))
			limit = group_limit("/sys/fs/cgroup/cpu", group, group_v1);
		if (limit > 0 && (least == 0 || limit < least))
			least = limit;
	}
	fclose(file);
	return least;
}

#else

static int affinity_count(void) { return 0; }
static int cgroup_count(void) { return 0; }

#endif

int sys_cpu_count(void)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	int count = online > 0 ? (int)online : 1;
	int affinity = affinity_count();
	int quota = cgroup_count();

	if (affinity > 0 && affinity < count)
		count = affinity;
	if (quota > 0 && quota < count)
		count = quota;
	return count;
}

bool sys_may_spin(void)
{
	/* 0: not asked yet. Relaxed: whoever asks gets the same answer. */
	static atomic_int known;
	int count = atomic_load_explicit(&known, memory_order_relaxed);

	if (count == 0) {
		count = sys_cpu_count();
		atomic_store_explicit(&known, count, memory_order_relaxed);
	}
	return count > 1;
}
