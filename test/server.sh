# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=sh
#
# What the scripts that test servers share, or other programs that go on until they are told
# to end, after tap.sh; `server` is the program. They are in a directory of their own, and
# what is left running is killed at the end.

tmp=$(mktemp -d "${TMPDIR:-/tmp}/server-test.XXXXXX") || exit 1
pid=
# shellcheck disable=SC2329 # It is a trap.
clean_up() {
	[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null
	rm -rf "$tmp"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
cd "$tmp" || exit 1

# launch ARGUMENTS…: it, in the background; sets pid.
launch() {
	rm -f pid ended out err
	{
		# shellcheck disable=SC2154 # The script that reads this sets server.
		sh -c 'echo $$ >pid; exec "$@"' sh "$server" "$@" >out 2>err
		echo $? >ended
	} &
	shell=$!
	await test -s pid && pid=$(cat pid)
}

# start ARGUMENTS…: a server that listens; sets pid and port.
start() {
	launch "$@" && await says '^listening on [0-9]*$' out || return 1
	port=$(sed 's/listening on //' out)
}

# memory FIELD: of the server, in kilobytes, where there is a /proc.
memory() {
	sed -n "s/^$1:[^0-9]*\([0-9]*\).*/\1/p" "/proc/$pid/status"
}

# ended: the server, which was told to end; sets status.
ended() {
	await test -s ended || kill -KILL "$pid"
	wait $shell
	pid=
	status=$(cat ended)
}

# try NAME COMMAND…: one test; what it has left running is killed.
try() {
	check "$@"
	[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null
	wait
	pid=
}
