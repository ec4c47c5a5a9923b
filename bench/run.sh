#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause

# Runs every workload on every peer, interleaved, and prints medians, ratios
# and what became of the targets. See README beside this file.

set -u

here=$(dirname "$0")
rounds=${ROUNDS:-5}
# Throughput needs more rounds than the rest to tell two peers apart, and what
# memory takes hardly varies.
throughput_rounds=${THROUGHPUT_ROUNDS:-$((rounds * 2 < 15 ? rounds * 2 : 15))}
memory_rounds=${MEMORY_ROUNDS:-$((rounds < 3 ? rounds : 3))}
peers=${PEERS:-evwork null evwork-spin evwork-group evwork-map evwork-chan
	evwork-pipeline evwork-limiter evwork-breaker raw go go-group go-rate ivykis
	uv naive glib}
workloads=${WORKLOADS:-inline throughput-w1 throughput-w2 line pingpong-onecpu
	pingpong sparse bare-2ms bare-100ms burst-2000x1us burst-200x10us
	burst-10000x1us burst-10000x10us map-1000000x50ns chan chan-many select
	pipeline-64 pipeline-256 pipeline-1024 late-flood late-heavy memory
	limiter-given limiter-allow limiter-allow-2t limiter-keyed breaker-1 breaker-2}
seed=${SEED:-$(date +%s)}
quick=${QUICK:+-q}

bin=${BENCH_BIN:-$here}
if [ -z "${BENCH_BIN:-}" ] && ! [ -x "$here/bench-naive" ]; then
	bin=$here/../build/bench
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/evwork-bench.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT PIPE TERM
: >"$work/results"
: >"$work/failures"

# The null control is the first of these that was built, a second time: what
# differs between the two is chance.
null_of=naive
[ -x "$bin/bench-evwork" ] && null_of=evwork

# binary_of LABEL prints the name of the executable.
binary_of()
{
	case $1 in
	null) echo "bench-$null_of" ;;
	evwork-spin) echo bench-evwork ;;
	go-group) echo bench-go ;;
	*) echo "bench-$1" ;;
	esac
}

# has LABEL WORKLOAD: the peer takes part in it.
has()
{
	case $1:$2 in
	evwork-spin:pingpong) ;;
	evwork-spin:*) return 1 ;;
	*-group:burst-*) ;;
	*-group:*) return 1 ;;
	esac
	grep -qx "$2" "$work/list-$1"
}

rounds_of()
{
	case $1 in
	throughput-*|inline) echo "$throughput_rounds" ;;
	memory) echo "$memory_rounds" ;;
	*) echo "$rounds" ;;
	esac
}

# shuffle NUMBER WORD...: the words, a line each, in an order that the seed and
# the number decide.
shuffle()
{
	awk 'BEGIN {
		srand(ARGV[1])
		for (i = 2; i < ARGC; i++)
			word[i] = ARGV[i]
		for (i = ARGC - 1; i >= 2; i--) {
			k = 2 + int(rand() * (i - 1))
			print word[k]
			word[k] = word[i]
		}
	}' "$@"
}

# run_one ROUND LABEL WORKLOAD
run_one()
{
	option=
	[ "$2" = evwork-spin ] && option="-s 5"
	[ "$2" = go-group ] && option=-g
	# The two are options or nothing.
	# shellcheck disable=SC2086
	"$bin/$(binary_of "$2")" $quick $option "$3" >"$work/out" 2>"$work/err"
	status=$?
	if [ "$status" -ne 0 ]; then
		echo "$2 $3, round $1: status $status, $(head -n 1 "$work/err")" \
			>>"$work/failures"
		return
	fi
	sed "s/^/$1 $2 /" "$work/out" >>"$work/results"
}

present=
for peer in $peers; do
	if "$bin/$(binary_of "$peer")" -l >"$work/list-$peer" 2>/dev/null; then
		present="$present $peer"
	else
		echo "skipped, not built: $peer"
	fi
done
if [ -z "$present" ]; then
	echo "no executables in $bin" >&2
	exit 1
fi
echo "peers:$present (null is $null_of again)"
[ -r /proc/loadavg ] && echo "load when it began: $(cut -d ' ' -f 1-3 /proc/loadavg)"
echo "rounds: $rounds, throughput $throughput_rounds, memory $memory_rounds; seed $seed"

round=1
most=$(printf '%s\n' "$rounds" "$throughput_rounds" "$memory_rounds" | sort -n | tail -n 1)
while [ "$round" -le "$most" ]; do
	number=0
	for workload in $workloads; do
		[ "$round" -le "$(rounds_of "$workload")" ] || continue
		number=$((number + 1))
		# shellcheck disable=SC2086
		for peer in $(shuffle "$((seed + round * 100 + number))" $present); do
			has "$peer" "$workload" && run_one "$round" "$peer" "$workload"
		done
	done
	echo "round $round of $most done" >&2
	round=$((round + 1))
done

[ -z "${RESULTS:-}" ] || cp "$work/results" "$RESULTS"
awk -f "$here/report.awk" -v peers="$present" "$here/targets" "$work/results"

if [ -s "$work/failures" ]; then
	echo
	echo "FAILED RUNS"
	cat "$work/failures"
	exit 1
fi
