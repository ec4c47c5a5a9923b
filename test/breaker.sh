#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# examples/breaker: its breaker changes as the backend comes and goes, all calls are
# accounted for, and it ends well whatever it is doing.

source=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=test/tap.sh
. "$source/tap.sh"
# If it is killed its backend ends with it.
server=$build/examples/breaker
# shellcheck source=test/server.sh
. "$source/server.sh"

# Of a call. A slow build must not take it for a failure all the time.
time_limit=$((200 * slow))

echo "1..9"

run() {
	$limit "$server" -t $time_limit "$@" >out 2>err
	status=$?
}

sound() {
	[ "$status" -eq 0 ] && [ "$(tail -n 1 out)" = "the account adds up" ]
}

# value WORD: the number before it in the line of the calls.
value() {
	sed -n "s/^\([0-9]* calls: .*\)$/, \1/p" out | sed -n "s/.*[^0-9]\([0-9][0-9]*\) $1.*/\1/p"
}

adds_up() {
	[ "$(value calls)" -eq $(($(value succeeded) + $(value failed) + $(value 'timed out') + \
		$(value refused))) ]
}

# Without the times.
events() {
	sed -n 's/^ *[0-9]*\.[0-9]* s  //p' out
}

# in_order EVENT…: they come in this order, whatever comes between.
in_order() {
	events >said
	for event; do
		grep -n -m 1 -x -e "$event" said >found || return 1
		tail -n +$(($(cut -d : -f 1 found) + 1)) said >rest
		mv rest said
	done
}

# ---- the plan ----

whole() {
	run
	sound && [ ! -s err ] && in_order \
		"the backend listens" "the backend is killed" \
		"closed -> open" "open -> half open" "half open -> open" \
		"the backend listens" "open -> half open" "half open -> closed" \
		"the backend is frozen" \
		"closed -> open" "open -> half open" "half open -> open" \
		"the backend goes on" "open -> half open" "half open -> closed"
}
check "opens, tries, opens again, tries, closes: after a kill and a freeze" whole

# Each change begins where the one before ended.
chained() {
	run -o 10 -r 50
	sound && events | grep -e '->' | {
		state=closed
		while read -r line; do
			case $line in
			"$state -> "*) state=${line#*-> } ;;
			*) exit 1 ;;
			esac
		done
		[ "$state" = closed ]
	}
}
check "no change is left out or told twice" chained

# Three times 20 calls have succeeded; to open it took three failures each time, refused
# connections when it was killed, time limits when it was frozen, and a trial more.
counted() {
	run
	sound && adds_up && [ "$(value succeeded)" -ge 60 ] && [ "$(value failed)" -ge 4 ] &&
		[ "$(value 'timed out')" -ge 4 ] && [ "$(value refused)" -ge 20 ] &&
		says "^breaker: .* $(value refused) not permitted, $(events | grep -c -e '->') changes\$" out
}
check "calls are accounted for" counted

more() {
	run -n 200 -r 100 -o 50
	sound && adds_up && [ "$(value succeeded)" -ge 600 ] && [ "$(value refused)" -ge 200 ]
}
check "more of everything" more

# ---- Ctrl-C ----

# interrupted EVENT ARGUMENTS…: Ctrl-C after that.
interrupted() {
	event=$1
	shift
	launch -t $time_limit "$@" || return 1
	await says "$event" out && kill -INT "$pid" 2>/dev/null
	ended
	sound && adds_up && says '^interrupted$' err && [ "$(wc -l <err)" -eq 1 ]
}
try "Ctrl-C while all is well" interrupted 'the backend listens' -n 1000000
try "Ctrl-C while it is open" interrupted 'closed -> open' -o 3600000

# If the plan was quicker there was nothing to interrupt, and it is tried anew.
interrupted_frozen() {
	until interrupted 'is frozen'; do
		sound && [ ! -s err ] || return 1
	done
}
try "Ctrl-C while the backend is frozen" interrupted_frozen

# ---- what is not in the plan ----

orphaned() {
	launch -t $time_limit -n 1000000 || return 1
	await says 'the backend listens' out && kill -KILL "$(pgrep -P "$pid")"
	ended
	[ "$status" -eq 1 ] && says '^breaker: the backend has died' err && says 'adds up$' out
}
if command -v pgrep >/dev/null; then
	try "a backend that dies by itself is status 1" orphaned
else
	skip "a backend that dies by itself is status 1" "there is no pgrep"
fi

# ---- arguments ----

mistakes() {
	for arguments in '-n 0' '-n x' '-r 0' '-o 0' '-t 0' '-t 3600001' '-z' 'more'; do
		# shellcheck disable=SC2086 # They are words.
		"$server" $arguments >out 2>err
		[ $? -eq 2 ] && [ ! -s out ] && [ -s err ] || return 1
	done
	"$server" -h >out 2>err && [ ! -s err ] && says '^usage: breaker' out
}
check "a mistake in the arguments is status 2" mistakes
