#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# examples/worker_pool: its account adds up, its seed decides, Ctrl-C drains it
# and a second Ctrl-C cancels it.

# shellcheck source=test/tap.sh
. "$(dirname "$0")/tap.sh"
program=$build/examples/worker_pool

tmp=$(mktemp -d "${TMPDIR:-/tmp}/worker_pool-test.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
cd "$tmp" || exit 1

echo "1..10"

run() {
	$limit "$program" "$@" >out 2>err
	status=$?
}

# What every run has to end with, however it was ended.
sound() {
	[ "$status" -eq 0 ] && [ ! -s err ] && [ "$(tail -n 1 out)" = "the account adds up" ]
}

# value LINE WORD: the number before WORD in the summary's line that begins so.
value() {
	sed -n "s/^$1  *.*[^0-9]\([0-9][0-9]*\) $2.*/\1/p" out | head -n 1
}

# Job lines end with what became of the job, but for those of the producer.
endings() {
	grep '^\[.*\] job ' out | grep -v -c -e ': submitted$' -e ': queue is full'
}

small() {
	run -w 2 -q 2 -n 20 -t 20
	sound && [ "$(value accepted ok)" -gt 0 ]
}
check "a small run adds up" small

everything() {
	run -w 4 -t 20
	sound && [ "$(value accepted ok)" -gt 0 ] && [ "$(value accepted failed)" -gt 0 ] &&
		[ "$(value accepted expired)" -gt 0 ] && [ "$(value accepted cancelled)" -eq 0 ] &&
		[ "$(value accepted crashed)" -gt 0 ] &&
		[ "$(grep -c 'panicked: no abacus is wide enough for' out)" -eq \
			"$(value accepted crashed)" ]
}
check "jobs succeed, fail, expire and panic" everything

lines() {
	run -w 2 -q 3 -n 30 -t 20
	sound && [ "$(grep -c ': submitted$' out)" -eq 30 ] && [ "$(endings)" -eq 30 ]
}
check "each job is told of twice: submitted and ended" lines

kept_back() {
	run -w 1 -q 1 -n 10 -t 20
	sound && grep -q 'queue is full, kept back with' out && [ "$(value jobs never)" -eq 0 ] &&
		[ "$(value jobs accepted)" -eq 10 ] && [ "$(value lane queued)" -eq 1 ]
}
check "a full queue keeps jobs back, and they come later" kept_back

# Who ran a job and when is different in each run, what became of it is not.
# Those that expire are told to stop, so they have no result.
seeded() {
	run -w 1 -q 50 -n 30 -t 20 -s 7
	sound || return 1
	grep -e '^accepted' -e '^results' out >expect
	for count in 2 4; do
		run -w $count -q $count -n 30 -t 20 -s 7
		sound && grep -e '^accepted' -e '^results' out | cmp - expect >&2 || return 1
	done
}
check "the seed decides, not the number of workers" seeded

other_seed() {
	run -w 2 -n 30 -t 20 -s 8
	sound && ! grep '^results' out | cmp -s - "expect.results"
}
grep '^results' expect >expect.results
check "another seed, other jobs" other_seed

# ---- Ctrl-C ----

start() {
	rm -f pid out
	{
		sh -c 'echo $$ >pid; exec "$@"' sh "$program" "$@" >out 2>err
		echo "$?" >ended
	} &
}

interrupt() {
	kill -INT "$(cat pid)"
}

finish() {
	await says '^the account' out || kill -KILL "$(cat pid)"
	wait
	status=$(cat ended)
}

# There are far too many jobs for it to end by itself.
drain() {
	start -w 2 -q 4 -n 20000 -t 1
	await says ' primes below ' out && interrupt && finish &&
		sound && grep -q 'interrupt: draining' out &&
		[ "$(value jobs never)" -gt 0 ] && [ "$(value accepted cancelled)" -eq 0 ]
}
check "Ctrl-C: what was submitted still runs, nothing else" drain

# Some of these jobs would take an hour, so draining does not end.
cancel() {
	start -w 2 -q 200 -n 200 -t 3600000
	await says 'job 199: submitted' out && interrupt &&
		await says 'interrupt: draining' out && interrupt && finish &&
		sound && grep -q 'interrupt: cancelling' out &&
		[ "$(value accepted cancelled)" -gt 0 ] && [ "$(endings)" -eq 200 ]
}
check "Ctrl-C again: queued and running jobs are cancelled" cancel

# ---- arguments ----

mistaken() {
	for arguments in '-w 0' '-q 0' '-n none' '-t -1' '-x' 'more'; do
		# shellcheck disable=SC2086
		run $arguments
		[ $status -eq 2 ] && [ ! -s out ] && [ -s err ] || return 1
	done
}
check "a mistake in the arguments is status 2" mistaken

help() {
	run -h
	[ $status -eq 0 ] && [ ! -s err ] && grep -q '^usage: worker_pool' out
}
check "-h explains itself" help
