/* SPDX-License-Identifier: BSD-3-Clause */

/* The command line of each executable, and small helpers: see bench.h. */

#include "bench.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_S 60
#define QUICK_DIVISOR 50

int64_t bench_spin_us;
static int quick;
static cpu_set_t allowed_cpus;   /* when the process started */

uint64_t bench_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t timeval_ns(struct timeval time)
{
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_usec * 1000;
}

uint64_t bench_cpu_ns(void)
{
	struct rusage usage;

	bench_must(getrusage(RUSAGE_SELF, &usage), "getrusage");
	return timeval_ns(usage.ru_utime) + timeval_ns(usage.ru_stime);
}

int bench_timer_new(void)
{
	return bench_must(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
			  "timerfd_create");
}

void bench_timer_set(int fd, uint64_t due_ns)
{
	struct itimerspec when = {
		.it_value.tv_sec = (time_t)(due_ns / 1000000000),
		.it_value.tv_nsec = (long)(due_ns % 1000000000),
	};

	bench_must(timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL), "timerfd_settime");
}

void bench_fd_clear(int fd)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		bench_fail("read: %s", strerror(errno));
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

double bench_quantile(uint64_t *values, size_t count, double part)
{
	if (count == 0)
		bench_fail("nothing was measured");
	qsort(values, count, sizeof(*values), compare);
	return (double)values[(size_t)(part * (double)(count - 1) + 0.5)];
}

void bench_pin_thread(int index)
{
	cpu_set_t set;
	size_t cpu;

	if (index < 0) {
		bench_must(sched_setaffinity(0, sizeof(allowed_cpus), &allowed_cpus),
			   "sched_setaffinity");
		return;
	}
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &allowed_cpus) && index-- == 0)
			break;
	}
	if (cpu == CPU_SETSIZE)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	bench_must(sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");
}

int bench_scale(int n)
{
	return quick ? (n + QUICK_DIVISOR - 1) / QUICK_DIVISOR : n;
}

void bench_print(const struct bench_case *test, const char *metric, double value)
{
	printf("%s %s %.6g\n", test->name, metric, value);
}

void bench_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("bench: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	/* Workers may be running: atexit handlers are not for now. */
	_exit(2);
}

int bench_must(int value, const char *what)
{
	if (value < 0)
		bench_fail("%s: %s", what, strerror(errno));
	return value;
}

void *bench_alloc(size_t size)
{
	void *memory = malloc(size);

	if (!memory)
		bench_fail("out of memory");
	return memory;
}

static void on_timeout(int signal_number)
{
	static const char text[] = "bench: timeout, the workload did not end\n";
	ssize_t ignored = write(STDERR_FILENO, text, sizeof(text) - 1);

	(void)ignored;
	(void)signal_number;
	_exit(3);
}

static _Noreturn void usage(const char *program)
{
	fprintf(stderr, "usage: %s [-q] [-s spin-us] workload\n"
		"  -l  list the workloads\n"
		"  -q  a fraction of the jobs, to look for mistakes\n"
		"  -s  poll this long before sleeping, where the peer can\n", program);
	exit(1);
}

int main(int argc, char **argv)
{
	const struct bench_case *test;
	int option;

	while ((option = getopt(argc, argv, "lqs:")) != -1) {
		switch (option) {
		case 'l':
			for (test = bench_cases; test->name; test++)
				puts(test->name);
			return 0;
		case 'q':
			quick = 1;
			break;
		case 's':
			bench_spin_us = atoll(optarg);
			break;
		default:
			usage(argv[0]);
		}
	}
	if (optind != argc - 1)
		usage(argv[0]);

	for (test = bench_cases; test->name && strcmp(test->name, argv[optind]); test++)
		;
	if (!test->name)
		usage(argv[0]);
	signal(SIGALRM, on_timeout);
	alarm(TIMEOUT_S);
	bench_must(sched_getaffinity(0, sizeof(allowed_cpus), &allowed_cpus), "sched_getaffinity");
	/* Threads inherit it, and there are none yet. */
	if (test->one_cpu)
		bench_pin_thread(0);
	test->run(test);
	return 0;
}
