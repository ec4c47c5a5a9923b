#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# examples/graceful: replies, and SIGTERM at random moments under the load of hundreds of
# clients. GRACEFUL_ROUNDS says how many moments, 10 if it is not set.

source=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=test/tap.sh
. "$source/tap.sh"

server=$build/examples/graceful
client=$build/test/graceful_client
rounds=${GRACEFUL_ROUNDS:-10}
export EVWORK_TEST_SLOW="$slow"
tap_files="out err told said"

[ -x "$server" ] || skip_all "graceful was not built: it needs libcrypto"

# shellcheck source=test/server.sh
. "$source/server.sh"

echo "1..$((rounds + 11))"

# What the server has to end with, once it was told to.
finish() {
	ended
	[ "$status" -eq 0 ] && [ "$(tail -n 1 err)" = clean ]
}

# clients ARGUMENTS…: they send the first SIGTERM. Output is in told and said.
clients() {
	$limit "$client" "$@" "$port" "$pid" >told 2>said && says '^ok$' told
}

# counted WORD: how many of that the clients counted.
counted() {
	sed -n "s/.* \([0-9][0-9]*\) $1.*/\1/p" told
}

# ---- one connection ----

# ask LINES…: a server's replies to these, and its bye, go to told.
ask() {
	printf '%s\n' "$@" >lines
	"$client" -a "$port" "$pid" <lines >told 2>said && finish
}

sums() {
	start && ask 'sum 1 2 3' 'sum' 'sum 7' 'sum -1   1 ' 'sum 1000000000000 1' \
		'sum 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20' || return 1
	printf '%s\n' ready 'ok 6' 'ok 0' 'ok 7' 'ok 0' 'ok 1000000000001' 'ok 210' 'bye 6' |
		cmp - told >&2
}
try "sums" sums

mistakes() {
	start && ask 'sum 1 x' 'sum 1x' 'sum 1000000000001' 'product 1' '' 'hashes' 'sum 1' ||
		return 1
	[ "$(grep -c '^error ' told)" -eq 6 ] && says '^ok 1$' told && says '^bye 7$' told
}
try "requests that make no sense" mistakes

# Each of the four sums is one that sha256sum makes, too.
hashes() {
	start -r 1 && ask 'hash some text' || return 1
	expected=
	for digit in 0 1 2 3; do
		sum=$(printf '%ssome text' $digit | sha256sum)
		expected=$expected$(printf '%.16s' "$sum")
	done
	printf '%s\n' ready "ok $expected" 'bye 1' | cmp - told >&2
}
if command -v sha256sum >/dev/null; then
	try "hashes" hashes
else
	number=$((number + 1))
	echo "ok $number - hashes # SKIP there is no sha256sum to compare with"
fi

idle() {
	start && kill -TERM "$pid" && finish && says '^0 connections, 0 requests' err
}
try "SIGTERM without any client" idle

# The first reply shows that all these lines were read, but it has taken only some. The
# hash would take hours, and by its deadline the queue is stuck.
pipelined() {
	{
		printf '%s\n' 'sum 0' 'hash x'
		awk 'BEGIN { while (n++ < 98) print "sum", n }'
	} >lines
	start -w 2 -r 1000000000000 -t 1000 &&
		$limit "$client" -a -k 2 "$port" "$pid" <lines >told 2>said && finish &&
		says '^bye 100$' told && [ "$(wc -l <told)" -eq 102 ] && ! says '^error' told
}
try "lines that were read, but wait for others, are accepted, too" pipelined

# ---- under load ----

# Every third time the queue is too short for all.
moment() {
	queue=100000
	[ $((round % 3)) -ne 0 ] || queue=512
	start -w $((round % 4 + 1)) -q $queue && clients -l -s $round && finish
}
round=0
while [ $round -lt "$rounds" ]; do
	round=$((round + 1))
	try "SIGTERM at random moment $round" moment
done

# Eight requests are 32 jobs.
busy() {
	start -w 2 -q 16 && clients -c 250 -k 4000 && finish && [ "$(counted busy)" -gt 0 ]
}
try "a full queue is told to clients" busy

# Hashes that would take hours.
late() {
	start -w 2 -r 1000000000000 -t 50 && clients -k 1000 && finish &&
		[ "$(counted timeout)" -gt 0 ]
}
try "requests that take too long" late

again() {
	start -w 2 -q 100000 -r 1000000000000 -t 3600000 || return 1
	# All 200 are greeted, and one has its first sum. Hashes are on their way.
	clients -k 201 &
	await says '^draining' err && kill -TERM "$pid"
	wait $! && finish && says '^cancelling' err && [ "$(counted cancelled)" -gt 0 ]
}
try "SIGTERM again cancels, and that is told, too" again

# Nobody waits for these hashes, so draining does not either.
desert() {
	start -w 2 -q 100000 -r 1000000000000 -t 3600000 && clients -d -k 201 && finish &&
		! says ' 0 abandoned' err
}
try "clients that leave take their requests with them" desert

flood() {
	start && clients -f -c 5 -k 100 && finish
}
try "clients that do not leave after bye are cut off" flood

# ---- arguments ----

mistaken() {
	for arguments in '-p -1' '-p 65536' '-w 0' '-t 0' '-r 0' '-q none' '-x' 'more'; do
		# shellcheck disable=SC2086
		$limit "$server" $arguments >out 2>err
		[ $? -eq 2 ] && [ ! -s out ] && [ -s err ] || return 1
	done
	$limit "$server" -h >out 2>err && says '^usage: graceful' out
}
try "a mistake in the arguments is status 2; -h explains" mistaken
