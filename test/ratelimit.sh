#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# examples/ratelimit: its log has no request too early, its numbers add up, and Ctrl-C and
# servers that refuse or leave end it well. That the rate is reached is not tested, as a
# busy machine may be late.

# shellcheck disable=SC2016 # The programs in single quotes are for awk.
source=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=test/tap.sh
. "$source/tap.sh"
server=$build/examples/ratelimit
# shellcheck source=test/server.sh
. "$source/server.sh"
tap_files="out err log said"
awk=${AWK:-awk}

echo "1..14"

client() {
	$limit "$server" "$@" >log 2>said
	status=$?
}

# The program has found nothing wrong itself.
sound() {
	[ "$status" -eq 0 ] && says '^turns came in order$' log &&
		says '^the limit was kept: ' log && says '^the limiter counts the same$' log
}

# numbers REQUESTS ANSWERED UNANSWERED CANCELLED NOT_BEGUN
numbers() {
	says "^$1 requests: $2 answered, $3 unanswered, $4 cancelled, $5 not begun\$" log
}

# adds_up REQUESTS: all of them are in the summary once.
adds_up() {
	sed -n 's/^\([0-9]* requests: .* not begun\)$/\1/p' log | tr -d ',' |
		$awk -v all="$1" '
		{ sound = $1 == all && $3 + $5 + $7 + $9 == all }
		END { exit !sound }'
}

requests_logged() {
	grep '^ *[0-9][0-9]*  *[0-9]*\.[0-9]*  *[0-9]*\.' log
}

# kept RATE BURST SLACK_MS: in no interval of the log were there more requests than in it
# could be, and each of them is there once. Times become nanoseconds, which awk computes with
# exactly.
kept() {
	requests_logged | sort -n |
		$awk -v rate="$1" -v burst="$2" -v slack="$3" '
		function ns(ms,    parts) {
			split(ms, parts, ".")
			return parts[1] * 1000000 + parts[2]
		}
		{
			asked[NR - 1] = ns($2)
			sent[NR - 1] = ns($3)
			if ($1 != NR - 1 || ns($3) < ns($2) || ns($4) < ns($3))
				bad = 1
		}
		END {
			for (j = 0; j < NR; j++)
				for (i = 0; i <= j; i++)
					if ((j - i + 1 - burst) * 1000000000 > \
					    rate * (sent[j] - asked[i] + slack * 1000000))
						bad = 1
			exit bad || NR == 0
		}'
}

# ---- the limit ----

strict() {
	client -n 20 -r 50
	sound && numbers 20 20 0 0 0 && kept 50 1 0 && [ ! -s said ]
}
check "a strict limit" strict

# Each has its own connection, and all ask at the start.
in_order() {
	client -n 30 -r 100 -c 30
	sound && numbers 30 30 0 0 0 && kept 100 1 0 &&
		requests_logged | sort -n | $awk '$3 < last { exit 1 } { last = $3 }'
}
check "30 that wait get their turn in order" in_order

burst() {
	client -n 40 -r 50 -b 20
	sound && numbers 40 40 0 0 0 && kept 50 20 0 && ! kept 50 1 0
}
check "a burst" burst

slack() {
	client -n 400 -r 2000 -c 8 -l 10
	sound && numbers 400 400 0 0 0 && kept 2000 1 10
}
check "with slack, so that lateness is caught up" slack

# What the log is tested with finds a log that is wrong.
found_out() {
	client -n 5 -r 50
	kept 50 1 0 || return 1
	sed 's/^\( *4 *\)\([0-9]*\.[0-9]* *\)[0-9]*\.[0-9]* /\1\2 70.000000 /' log >said
	cp said log
	! kept 50 1 0
}
check "a request that is too early would be found" found_out

# ---- another server ----

other_server() {
	start -s || return 1
	client -p "$port" -n 20 -r 200 -c 3
	sound && numbers 20 20 0 0 0 && kept 200 1 0 || return 1
	kill -TERM "$pid"
	ended
	[ "$status" -eq 0 ] && [ ! -s err ]
}
try "a server of its own, which ends with SIGTERM" other_server

# The port was of a server that has ended.
refused() {
	start -s || return 1
	kill -TERM "$pid"
	ended
	client -p "$port" -n 5
	[ "$status" -eq 1 ] && numbers 5 0 0 0 5 &&
		says '^ratelimit: the connection to the server: ' said && [ "$(wc -l <said)" -eq 1 ]
}
try "a server that refuses is status 1" refused

# A server that answers lines, too, but with something else.
wrong() {
	ratelimit=$server
	server=$build/examples/overload
	start
	started=$?
	server=$ratelimit
	[ $started -eq 0 ] || return 1
	client -p "$port" -n 5
	[ "$status" -eq 1 ] && adds_up 5 && says ' 0 answered' log &&
		says '^ratelimit: what the server says: ' said && [ "$(wc -l <said)" -eq 1 ]
}
try "a server that says something else is status 1" wrong

# There are far too many requests for the client to end by itself.
begin_client() {
	rm -f client_pid client_ended log said
	{
		sh -c 'echo $$ >client_pid; exec "$@"' sh "$server" "$@" >log 2>said
		echo $? >client_ended
	} &
	await says '^ *3 ' log
}

# signal_client SIGNAL PATTERN: and waits until it has said that.
signal_client() {
	kill "-$1" "$(cat client_pid)" && await says "$2" said
}

client_ends() {
	await test -s client_ended || kill -KILL "$(cat client_pid)"
	await test -s client_ended
	status=$(cat client_ended)
}

leaving() {
	start -s && begin_client -p "$port" -n 100000 -r 100 || return 1
	kill -KILL "$pid"
	client_ends
	[ "$status" -eq 1 ] && says '^ratelimit: the .*connection' said &&
		[ "$(wc -l <said)" -eq 1 ] && says '^the limit was kept' log && adds_up 100000 &&
		kept 100 1 0
}
try "a server that leaves is status 1" leaving

# It would be at it for a quarter of an hour.
unread() {
	{
		$limit "$server" -n 100000 -r 100 2>said
		echo $? >out
	} | head -n 3 >log
	[ "$(cat out)" -eq 1 ] && says '^ratelimit: the log: ' said && [ "$(wc -l <said)" -eq 1 ]
}
check "a log that nobody reads is status 1" unread

# ---- Ctrl-C ----

# One a second, after the first four: the connections wait, but perhaps for one that was sent.
cancelled() {
	start -s && begin_client -p "$port" -n 100 -r 1 -b 4 || return 1
	signal_client INT '^interrupted: nothing more is sent, [0-9]* to be answered$' || return 1
	client_ends
	sound && adds_up 100 && says ' 0 unanswered, [1-4] cancelled' log && kept 1 4 0
}
try "Ctrl-C cancels who waits" cancelled

# The server stands still, so that what was sent has no answer until it goes on.
answered_still() {
	start -s && begin_client -p "$port" -n 100000 -r 100 -c 2 || return 1
	kill -STOP "$pid"
	signal_client INT '^interrupted: nothing more is sent, [0-9]* to be answered$' || return 1
	kill -CONT "$pid"
	client_ends
	sound && adds_up 100000 && says ' 0 unanswered' log && kept 100 1 0
}
try "Ctrl-C: what was sent is answered still" answered_still

# A signal more is not for us. The server stands still, so what was sent has no answer; if
# nothing was sent just then the client ends by itself, and it is tried anew. In the
# background a shell has SIGINT ignored, which is why it is SIGTERM.
twice() {
	while :; do
		start -s && begin_client -p "$port" -n 100000 -r 10000 -b 100000 -c 1 || return 1
		kill -STOP "$pid"
		signal_client INT '^interrupted' || return 1
		says 'sent, 0 to be' said || break
		client_ends
		kill -KILL "$pid"
		wait
	done
	kill -TERM "$(cat client_pid)"
	client_ends
	[ "$status" -eq 143 ]
}
try "another signal ends it without an answer" twice

# ---- arguments ----

mistakes() {
	for arguments in '-n 0' '-n 100001' '-r 0' '-r x' '-b 0' '-c 501' '-p 65536' '-p 0' '-l 1001' \
		'-z' 'more'; do
		# shellcheck disable=SC2086 # They are words.
		client $arguments
		[ "$status" -eq 2 ] && [ ! -s log ] && [ -s said ] || return 1
	done
	client -h
	[ "$status" -eq 0 ] && [ ! -s said ] && says '^usage: ratelimit' log
}
check "a mistake in the arguments is status 2" mistakes
