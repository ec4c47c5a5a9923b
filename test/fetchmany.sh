#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# examples/fetchmany, against a server that fails, hangs and leaves as the paths of its
# URLs say: each URL has one line, the sums are right, and no limit is passed. Nothing
# depends on how long something takes: what a time limit ends would have taken for ever.

source=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=test/tap.sh
. "$source/tap.sh"

server=$build/test/fetchmany_server
program=$build/examples/fetchmany
tap_files="out err urls lines told"

[ -x "$program" ] || skip_all "fetchmany was not built: it needs libevent_extra"

# Resident memory, in kilobytes, that may be needed beyond that at the start.
bound=32768
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=4
export ASAN_OPTIONS

# A time limit, in milliseconds, that only a hang reaches.
long=$((100000 * slow))

# shellcheck source=test/server.sh
. "$source/server.sh"

echo "1..26"

# begin PATH…: a server, and a file with URLs of it.
begin() {
	start || return 1
	url=http://127.0.0.1:$port
	: >urls
	for path in "$@"; do
		echo "$url$path" >>urls
	done
}

# many COUNT PATH: URLs whose paths differ, to the file.
many() {
	i=0
	while [ $i -lt "$1" ]; do
		echo "$url$2/$i"
		i=$((i + 1))
	done >urls
}

# get ARGUMENTS…: sets status.
get() {
	$limit "$program" "$@" >lines 2>told
	status=$?
}

# has STATUS BYTES REQUESTS REASON PATH: one line, without its time, says so.
has() {
	awk -v want="$1 $2 $3 $4 $url$5" '
		$1 " " $2 " " $4 " " $5 " " $6 == want { n++ }
		END { exit n != 1 }' lines
}

# finish REQUESTS: the server has had so many, if given; sets most, how many at once.
finish() {
	kill -TERM "$pid" 2>/dev/null
	ended
	most=$(sed -n 's/.* requests, \([0-9]*\) at once/\1/p' err)
	[ "$status" -eq 0 ] && says "^${1:-[0-9]*} requests" err
}

# sums OK FAILED CANCELLED: as told, and as the lines say.
sums() {
	says "^$(($1 + $2 + $3)) urls: $1 ok, $2 failed, $3 cancelled" told &&
		[ "$(wc -l <lines)" -eq $(($1 + $2 + $3)) ] &&
		[ "$(grep -c ' ok ' lines)" -eq "$1" ]
}

# ---- answers ----

answers() {
	begin /ok /bytes/0 /bytes/300000 /chunked/12345 /chunk/70000 '/ok?a=b' /missing /nonsense ''
	get -c 1 urls
	[ "$status" -eq 1 ] && sums 6 3 0 && has 200 2 1 ok /ok && has 200 0 1 ok /bytes/0 &&
		has 200 300000 1 ok /bytes/300000 && has 200 12345 1 ok /chunked/12345 &&
		has 200 70000 1 ok /chunk/70000 && has 200 2 1 ok '/ok?a=b' &&
		has 404 0 1 permanent /missing && has 000 0 1 permanent /nonsense &&
		has 404 0 1 permanent '' && finish 9
}
try "each answer has its line" answers

all_ok() {
	begin
	many 100 /ok
	get urls
	[ "$status" -eq 0 ] && sums 100 0 0 && finish 100 &&
		says '^100 requests: 100 first, 0 retries, 0 copies' told
}
try "status 0 if all is well" all_ok

too_long() {
	begin /bytes/10001 /chunked/10001 /chunk/10001 /bytes/10000
	get -b 10000 urls
	[ "$status" -eq 1 ] && sums 1 3 0 && [ "$(grep -c ' 1 permanent ' lines)" -eq 3 ] &&
		has 200 10000 1 ok /bytes/10000 && finish 4
}
try "a body that is too long" too_long

# ---- the list ----

lists() {
	begin /ok/1
	{
		printf '\n# a comment\n%s/ok/2\r\n' "$url"
		head -c 30000 /dev/zero | tr '\0' x
		printf '\nhttps://localhost/\nhttp://me@localhost/\nhttp://\nhttp://h:0/\na b\n'
		printf 'http://a\0b/\n%s/ok/3' "$url"
	} >>urls
	get urls
	[ "$status" -eq 1 ] && sums 3 7 0 && has 200 2 1 ok /ok/2 && has 200 2 1 ok /ok/3 &&
		[ "$(grep -c '^000 0 0 0 invalid ' lines)" -eq 7 ] && get - <urls && sums 3 7 0 &&
		finish 6
}
try "lines that are no URLs" lists

# What they are cut to is not asked for, wherever the reads of the file end.
long_lines() {
	begin /ok/1 && longest=$((8191 - ${#url} - 4))
	for length in $((longest + 1)) 12000 12290 30000 $longest; do
		printf '%s/ok/%0*d\r\n' "$url" "$length" 0
	done >>urls
	get urls
	[ "$status" -eq 1 ] && sums 2 4 0 && [ "$(grep -c '^000 0 0 0 invalid .* \.\.\.' lines)" -eq 4 ] &&
		says '^200 2 .* ok .*/ok/0*$' lines && finish 2
}
try "lines that are too long" long_lines

many_invalid() {
	yes nonsense | head -n 5000 >urls
	get -j 1 urls
	[ "$status" -eq 1 ] && sums 0 5000 0
}
try "5000 lines that are no URLs" many_invalid

# Devices that always have something to give, or never; epoll watches none of them.
devices() {
	get /dev/null
	[ "$status" -eq 0 ] && sums 0 0 0 && ! says 'warn' told && get - </dev/null &&
		sums 0 0 0
}
try "an empty list that is a device" devices

no_list() {
	for list in nothing .; do
		get $list
		[ "$status" -eq 1 ] && [ ! -s lines ] && says "^fetchmany: $list: " told || return 1
	done
}
try "a list that cannot be read" no_list

# ---- retries ----

retried() {
	begin /fail/2 /drop/2 /busy/2 /fail/3 /drop/3 /short/1000 /later
	get -d 1 -m 10 urls
	[ "$status" -eq 1 ] && sums 3 4 0 && has 200 2 3 ok /fail/2 && has 200 2 3 ok /drop/2 &&
		has 200 2 3 ok /busy/2 && has 503 0 3 attempts /fail/3 &&
		has 000 0 3 attempts /drop/3 && has 000 500 3 attempts /short/1000 &&
		has 503 0 1 permanent /later && finish 19 &&
		says '^19 requests: 7 first, 12 retries' told
}
try "what may pass is tried again" retried

# A port that nobody listens on: that of a server which has ended.
refused() {
	begin /ok && finish 0 && get -d 1 -a 2 urls
	[ "$status" -eq 1 ] && sums 0 1 0 && has 000 0 2 attempts /ok && says 'refused)$' lines
}
try "a server that is not there" refused

# However slow this machine is: attempts enough for an answer in time, and an answer that
# never comes.
timed_out() {
	begin /hang/1/a
	get -d 1 -a 100 -t 200 -m 10 urls
	[ "$status" -eq 0 ] && sums 1 0 0 && says '^200 2 [0-9]* [0-9]* ok' lines &&
		! says '^200 2 [0-9]* 1 ok' lines || return 1
	echo "$url/hang/100/b" >urls
	get -d 1 -a 2 -t 200 urls
	[ "$status" -eq 1 ] && sums 0 1 0 && has 000 0 2 attempts /hang/100/b && finish
}
try "requests that take too long" timed_out

no_budget() {
	begin
	many 30 /fail/9
	get -p 0 -m 0 urls
	[ "$status" -eq 1 ] && sums 0 30 0 && [ "$(grep -c '^503 0 [0-9]* 1 budget ' lines)" -eq 30 ] &&
		says '^the budget refused 30 retries' told && finish 30
}
try "without a budget nothing is tried again" no_budget

# While one retry waits for its delay the others are refused; what was given back is there
# for the next.
small_budget() {
	begin
	many 30 /fail/9
	get -p 0 -m 1 -d 1 -a 2 urls
	refused=$(sed -n 's/^the budget refused \([0-9]*\) retries.*/\1/p' told)
	[ "$status" -eq 1 ] && sums 0 30 0 && [ "$refused" -lt 30 ] &&
		[ "$(grep -c ' 1 budget ' lines)" -eq "$refused" ] &&
		[ "$(grep -c ' 2 attempts ' lines)" -eq $((30 - refused)) ] && finish $((60 - refused))
}
try "a small budget" small_budget

large_budget() {
	begin
	many 30 /fail/2
	get -p 100 -m 0 -d 1 urls
	[ "$status" -eq 0 ] && sums 30 0 0 && says '^the budget refused 0 retries' told && finish 90
}
try "a budget for all" large_budget

# ---- limits ----

# meets COUNT ARGUMENTS…: each answer needs so many requests at once, and there are never more.
meets() {
	begin || return 1
	yes "$url/meet/$1" | head -n 60 >urls
	count=$1
	shift
	get "$@" -t "$long" urls
	[ "$status" -eq 0 ] && sums 60 0 0 && finish 60 && [ "$most" -eq "$count" ]
}
try "a host's connections reach their limit and do not pass it" meets 3 -c 3
try "so do URLs under way" meets 4 -c 100 -j 4

# Never early: five requests at four a second take a second at least.
rate() {
	begin
	many 5 /ok
	before=$(date +%s)
	get -r 4 -c 5 urls
	after=$(date +%s)
	[ "$status" -eq 0 ] && sums 5 0 0 && finish 5 && [ $((after - before)) -ge 1 ]
}
try "a limit of requests a second" rate

# ---- hedges ----

# Of the two requests of each URL the one that comes first hangs, whichever copy that is.
hedged() {
	begin
	many 20 /hang/1
	get -c 40 -H 20 -t "$long" -m 20 urls
	won=$(sed -n 's/.* 20 first, 0 retries, 20 copies, \([0-9]*\) of which won/\1/p' told)
	[ "$status" -eq 0 ] && sums 20 0 0 && [ "$(grep -c '^200 2 [0-9]* 2 ok ' lines)" -eq 20 ] &&
		[ "${won:-0}" -gt 0 ] && finish 40
}
try "second copies have the answers" hedged

not_hedged() {
	begin /hang/1/a
	get -H 0 -t 200 -a 1 -p 0 -m 0 urls
	[ "$status" -eq 1 ] && has 000 0 1 attempts /hang/1/a && says 'and 1 copies$' told || return 1
	echo "$url/hang/1/b" >urls
	get -H 0 -t 200 -a 1 -c 1 urls
	[ "$status" -eq 1 ] && has 000 0 1 attempts /hang/1/b && says ' 0 copies, ' told && finish 2
}
try "no copy without budget, or connection" not_hedged

# ---- Ctrl-C ----

# behind ARGUMENTS…: in the background, with hold as its input; sets getter, and getting, its
# process.
behind() {
	rm -f getting
	# shellcheck disable=SC2016 # It is for the shell in between.
	$limit sh -c 'echo $$ >getting; exec "$@"' sh "$program" "$@" >lines 2>told <hold 9>&- &
	getter=$!
	await test -s getting && getting=$(cat getting)
}

# interrupt: ends it; sets status.
interrupt() {
	kill -INT "$getting"
	wait "$getter"
	status=$?
}

said() {
	[ "$(grep -c "$2" out)" -ge "$1" ]
}

# Two hang and eight wait for their turn; then three are in their delays, or about to be. What
# is not read has no line.
interrupted() {
	begin
	many 100 /hang/9
	: >hold
	behind -c 2 -j 10 -t "$long" -H 0 urls && await said 2 hanging && interrupt
	[ "$status" -eq 1 ] && sums 0 0 10 && [ "$(grep -c ' cancelled ' lines)" -eq 10 ] || return 1
	many 100 /fail/9
	behind -c 3 -j 3 -d 60000 -a 100 urls && await said 3 failing && interrupt
	[ "$status" -eq 1 ] && sums 0 0 3 && [ "$(grep -c ' cancelled ' lines)" -eq 3 ] && finish
}
try "Ctrl-C: a line for each that was begun" interrupted

endless() {
	: >hold
	behind /dev/zero && await says '^000 0 0 0 invalid ' lines && interrupt
	[ "$status" -eq 1 ] && sums 0 1 0
}
try "Ctrl-C in a line without end" endless

# It is seen to sleep, which it does until somebody writes, so a signal ends it as it does any
# program.
unopened() {
	rm -f hold fifo
	mkfifo fifo
	: >hold
	behind fifo || return 1
	[ ! -r "/proc/$getting/status" ] || await says '^State:.S' "/proc/$getting/status"
	kill -TERM "$getting"
	wait "$getter" 2>/dev/null
	status=$?
	[ "$status" -eq 143 ] && [ ! -s lines ]
}
try "a signal before anybody writes the list" unopened

# ---- pipes ----

# fed ARGUMENTS…: reads its list from a pipe, into which 9 writes; the first line is through.
fed() {
	begin || return 1
	rm -f hold
	mkfifo hold
	# To open it for both does not wait for the other side.
	exec 9<>hold
	behind "$@" - || return 1
	echo "$url/ok/first" >&9
	await says '/ok/first$' lines
}

memory() {
	sed -n "s/^$1:[^0-9]*\([0-9]*\).*/\1/p" "/proc/$getting/status"
}

bounded() {
	[ -n "$at_start" ] || return 0
	peak=$(memory VmHWM)
	echo "# $at_start kB at the start, $peak kB at the peak"
	[ $((peak - at_start)) -le $bound ]
}

through() {
	[ "$(wc -l <lines)" -eq "$1" ]
}

piped() {
	fed -c 8 || return 1
	at_start=
	[ ! -r "/proc/$getting/status" ] || at_start=$(memory VmRSS)
	many 500 /bytes/200000
	cat urls >&9
	await through 501 && bounded || return 1
	exec 9>&-
	wait "$getter"
	status=$?
	[ "$status" -eq 0 ] && sums 501 0 0 && [ "$(grep -c '^200 200000 ' lines)" -eq 500 ] &&
		finish 501
}
try "500 URLs from a pipe, 100 MB, in bounded memory" piped

# It waits for a line, and nothing else.
idle() {
	fed && interrupt
	exec 9>&-
	[ "$status" -eq 1 ] && sums 1 0 0 && finish 1
}
try "Ctrl-C while the list has not ended" idle

# It would go on for ever, or until it is killed.
unread() {
	begin
	yes "$url/ok" | {
		$limit "$program" - 2>told
		echo $? >getting
	} | head -n 1 >lines
	await test -s getting && [ "$(cat getting)" -eq 1 ] && says '^200 ' lines && says ' urls: ' told && finish
}
try "nobody reads what it says" unread

# ---- arguments ----

mistakes() {
	: >urls
	for arguments in '' 'urls more' '-a 0 urls' '-c 0 urls' '-d 60001 urls' '-H -1 urls' \
		'-j 4097 urls' '-p 1001 urls' '-r 0 urls' '-t 0 urls' '-b x urls' '-z urls'; do
		# shellcheck disable=SC2086 # They are words.
		get $arguments
		[ "$status" -eq 2 ] && [ ! -s lines ] && [ -s told ] || return 1
	done
	get urls && [ "$status" -eq 0 ] && sums 0 0 0 || return 1
	get -h && [ ! -s told ] && says '^usage: fetchmany' lines
}
try "a mistake in the arguments is status 2" mistakes
