#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# examples/overload under four times the load that it can bear: with a gate what it holds
# stays what it was told to hold, without one it grows with what is sent. Times are shown,
# and decide nothing.

source=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=test/tap.sh
. "$source/tap.sh"

server=$build/examples/overload
client=$build/test/overload_client
tap_files="out err said told"
# What was freed is kept by a sanitizer, so it is told to keep little.
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=1
export ASAN_OPTIONS

# shellcheck source=test/server.sh
. "$source/server.sh"

echo "1..6"

workers=2
connections=8
# For each connection. A slow build gets fewer requests, which cost more: a sanitizer slows
# the loop down and not the counting of primes, and it is the workers who are to be behind.
requests=$((1000 / slow + 100))
bytes=4096
below=5000
[ "$slow" -eq 1 ] || below=30000
all=$((connections * requests))
grown=

# most WORDS: the number before them in what the server has told.
most() {
	sed -n "s/.*\(^\|, \)\([0-9]*\) $1.*/\2/p" err
}

# load ARGUMENTS…: a server under load; sets grown, its memory in kilobytes, and held, the bytes
# of requests that it had in there at most.
load() {
	start -w $workers -c $below "$@" || return 1
	[ ! -r "/proc/$pid/status" ] || at_start=$(memory VmHWM)
	$limit "$client" "$port" $connections $requests $bytes >told 2>said || return 1
	grown=
	[ ! -r "/proc/$pid/status" ] || grown=$(($(memory VmHWM) - at_start))
	kill -TERM "$pid"
	ended
	held=$(most bytes)
	echo "# memory grew by ${grown:-unknown} kB"
	sed 's/^/# /' err
	[ "$status" -eq 0 ] && says '^ok$' told && says "^$all requests, $all answers\$" err
}

# The bound that gate.h states, and what the workers are about to start. What is held
# beside that was answered by them, and the loop has not come to it: never many times more.
gated() {
	load -g 64 && [ "$(most 'requests ahead')" -le $((64 + workers)) ] &&
		[ "$(most 'requests held')" -le $((4 * 64)) ]
}
try "with a gate: no more is held than it was told to hold" gated
with_gate=$grown
held_with_gate=$held

narrow() {
	load -g 1 && [ "$(most 'requests ahead')" -le $((1 + workers)) ] &&
		[ "$(most 'requests held')" -le 64 ]
}
try "with a narrow one, too" narrow

# Of four that it sends the client has got an answer for one.
ungated() {
	load -g 0 && [ "$(most 'requests held')" -ge $((all / 4)) ] &&
		[ "$(most 'requests ahead')" -ge $((all / 4)) ]
}
try "without one, it grows with what is sent" ungated
without_gate=$grown

# What the server counts, and, where neither a sanitizer has memory of its own nor /proc is
# missing, what the system does.
flat() {
	echo "# $held_with_gate bytes with a gate, $held without"
	[ $((4 * held_with_gate)) -lt "$held" ] || return 1
	[ "$slow" -eq 1 ] && [ -n "$with_gate" ] || return 0
	echo "# $with_gate kB with a gate, $without_gate kB without"
	[ $((2 * with_gate)) -lt "$without_gate" ]
}
check "so does its memory, and with the gate it does not" flat

# The lines are still in the sockets when it ends.
ending() {
	start -w 1 -g 1 -c 20000 || return 1
	$limit "$client" "$port" 4 500 1000 >told 2>said &
	sender=$!
	await says '^begun$' told || return 1
	kill -TERM "$pid"
	ended
	wait $sender
	[ "$status" -eq 0 ] && [ "$(most requests,)" = "$(most answers)" ]
}
try "SIGTERM answers what was read, and no more is read" ending

mistakes() {
	for arguments in '-g 2049' '-p 65536' '-w 0' '-c 1' 'more'; do
		# shellcheck disable=SC2086 # They are words.
		"$server" $arguments >out 2>err
		[ $? -eq 2 ] && [ ! -s out ] && [ -s err ] || return 1
	done
	"$server" -h >out 2>err && [ ! -s err ] && says '^usage: overload' out
}
try "a mistake in the arguments is status 2" mistakes
