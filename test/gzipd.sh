#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# examples/gzipd, driven by curl: what comes back is what was sent, and memory stays
# bounded whatever the client does.

source=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=test/tap.sh
. "$source/tap.sh"

server=$build/examples/gzipd
client=$build/test/gzipd_client
tap_files="out err said"

[ -x "$server" ] || skip_all "gzipd was not built: it needs zlib and http_parser"
command -v curl >/dev/null || skip_all "there is no curl to ask it with"

# Resident memory, in kilobytes, that the server may have at its peak, beyond what it has
# at its start: several connections of a megabyte each, and what the allocator keeps. A
# sanitizer keeps what was freed, so it is told to keep little.
bound=32768
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=4
export ASAN_OPTIONS

# shellcheck source=test/server.sh
. "$source/server.sh"

echo "1..15"

# begin ARGUMENTS…: a server; sets url, too, and its memory at the start.
begin() {
	start "$@" || return 1
	url=http://127.0.0.1:$port/
	[ ! -r "/proc/$pid/status" ] || at_start=$(memory VmRSS)
}

# finish: what the server has to end with, once it was told to.
finish() {
	kill -TERM "$pid" 2>/dev/null
	ended
	[ "$status" -eq 0 ] && [ "$(wc -l <err)" -eq 1 ]
}

bounded() {
	[ -r "/proc/$pid/status" ] || return 0
	peak=$(memory VmHWM)
	echo "# $at_start kB at the start, $peak kB at the peak"
	[ $((peak - at_start)) -le $bound ]
}

ask() {
	$limit curl -s --show-error --max-time $((100 * slow)) "$@" "$url" 2>said
}

# ---- bodies ----

same() {
	ask -T "$1" | gunzip | cmp - "$1" >&2
}

: >empty
echo 'some text' >small
head -c 65536 /dev/urandom >chunk
head -c 65537 /dev/urandom >odd
head -c 5000000 /dev/urandom >noise
yes 'a line that can be compressed' | head -c 20000000 >lines

bodies() {
	begin || return 1
	for file in empty small chunk odd noise lines; do
		same $file || return 1
	done
	finish && says '^6 requests, 25131083 bytes in' err
}
try "bodies of all sizes come back" bodies

posted() {
	begin -w 1 -l 9 || return 1
	ask --data-binary @small | gunzip | cmp - small >&2 &&
		ask -X POST -H 'Transfer-Encoding: chunked' -T - <lines | gunzip | cmp - lines >&2 &&
		ask -0 -T noise | gunzip | cmp - noise >&2 && finish
}
try "by POST, in chunks, and by HTTP/1.0" posted

one_connection() {
	begin || return 1
	printf '' >got
	$limit curl -s --show-error -v --max-time $((100 * slow)) -T small "$url" -o got.1 \
		--next -s -T noise "$url" -o got.2 --next -s -T lines "$url" -o got.3 2>said &&
		gunzip <got.1 | cmp - small >&2 && gunzip <got.2 | cmp - noise >&2 &&
		gunzip <got.3 | cmp - lines >&2 && finish
}
try "several requests on one connection" one_connection

levels() {
	for level in 0 1 6 9; do
		begin -l $level || return 1
		ask -T lines >"got.$level" && gunzip <"got.$level" | cmp - lines >&2 && finish || return 1
	done
	[ "$(wc -c <got.0)" -gt 20000000 ] && [ "$(wc -c <got.9)" -lt "$(wc -c <got.1)" ]
}
try "levels" levels

many() {
	begin || return 1
	clients=
	for i in 1 2 3 4 5 6 7 8; do
		ask -T noise -o "got.$i" &
		clients="$clients $!"
	done
	for i in $clients; do
		wait "$i" || return 1
	done
	for i in 1 2 3 4 5 6 7 8; do
		gunzip <"got.$i" | cmp - noise >&2 || return 1
	done
	finish
}
try "8 clients at once" many

# ---- what it does not take ----

refused() {
	begin || return 1
	[ "$(ask -o /dev/null -w '%{http_code}')" = 405 ] &&
		[ "$(ask -o /dev/null -w '%{http_code}' -X DELETE)" = 405 ] &&
		[ "$(ask -o /dev/null -w '%{http_code}' -X PATCH -T noise)" = 405 ] &&
		[ "$(printf 'nonsense\r\n\r\n' | $limit curl -s -m 20 "telnet://127.0.0.1:$port" |
			head -n 1 | tr -d '\r')" = "HTTP/1.1 400 Bad Request" ] && finish
}
try "other methods and nonsense are refused" refused

# ---- memory ----

# A gibibyte, or as much less as this build is slower.
huge=$((1073741824 / slow))
huge() {
	begin -l 1 || return 1
	yes 'a line that can be compressed, over and over again' | head -c $huge | ask -T - |
		gunzip | cksum >got
	yes 'a line that can be compressed, over and over again' | head -c $huge | cksum >want
	cmp got want >&2 && bounded && finish
}
try "$huge bytes pass in bounded memory" huge

# It sends no faster than it reads.
slow_reader() {
	begin || return 1
	ask --limit-rate 2M -T noise | gunzip | cmp - noise >&2 && bounded && finish
}
try "a slow reader leaves memory bounded" slow_reader

# Sockets buffer some megabytes of what is sent and what is received.
no_reader() {
	begin || return 1
	$limit "$client" "$port" 100000000 40000000 >told 2>said || return 1
	sed 's/^/# /' told
	says '^ok$' told && bounded && finish
}
try "a client that does not read is not read from" no_reader

# A request whose body is standard input, as it comes. With -T . curl reads that without
# blocking, but not if it has --max-time.
begun() {
	exec $limit curl -sSN -T . "$url"
}

# ---- clients that leave ----

# Each time some of its response has come, and more of its request is to be sent.
leave() {
	rm -f got go
	{
		head -c "$1" noise
		await test -e go
	} | begun >got 2>said &
	curl=$!
	await test -s got || return 1
	kill -KILL "$(pgrep -P $curl -x curl || echo $curl)" 2>/dev/null
	: >go
	wait $curl
	return 0
}

leaving() {
	begin -l 0 || return 1
	leave 100000 && leave 1000000 && leave 3000000 && same noise && finish &&
		says '^1 requests' err
}
try "clients that leave in the middle" leaving

# ---- the end ----

idle() {
	begin && finish && says '^0 requests' err
}
try "SIGTERM ends an idle server" idle

kept_alive() {
	begin || return 1
	mkfifo hold
	{
		printf 'PUT / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx'
		cat hold
	} | $limit curl -sN -m 60 "telnet://127.0.0.1:$port" >got &
	curl=$!
	await test -s got && finish
	rc=$?
	: >hold
	wait $curl
	return $rc
}
try "SIGTERM closes connections that wait for a request" kept_alive

# The body is not finished before the signal.
under_way() {
	begin || return 1
	rm -f go got
	{
		head -c 2500000 noise
		await test -e go
		tail -c +2500001 noise
	} | begun >got 2>said &
	curl=$!
	await test -s got || return 1
	kill -TERM "$pid"
	await refuses || return 1
	: >go
	wait $curl && gunzip <got | cmp - noise >&2 && finish && says '^1 requests' err
}
refuses() {
	! curl -s -m 5 -o /dev/null "$url"
}
try "SIGTERM lets a request finish" under_way

cut_off() {
	begin || return 1
	rm -f go got
	{
		head -c 2500000 noise
		await test -e go
	} | begun >got 2>said &
	curl=$!
	await test -s got || return 1
	kill -TERM "$pid"
	await refuses || return 1
	finish
	rc=$?
	: >go
	! wait $curl && return $rc
}
try "a second SIGTERM cuts it off" cut_off

# ---- arguments ----

mistakes() {
	for arguments in '-l 10' '-p 65536' '-w 0' '-w x' 'more'; do
		# shellcheck disable=SC2086 # They are words.
		"$server" $arguments >out 2>err
		[ $? -eq 2 ] && [ ! -s out ] && [ -s err ] || return 1
	done
	"$server" -h >out 2>err && [ ! -s err ] && says '^usage: gzipd' out
}
try "a mistake in the arguments is status 2" mistakes
