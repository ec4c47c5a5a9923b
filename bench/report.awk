# SPDX-License-Identifier: BSD-3-Clause

# Reads the targets and then the results, lines of "round peer workload metric
# value", and prints a table for each workload and a verdict for each target.
# The variable `peers` lists the columns in order.

function higher_is_better(metric)
{
	return metric ~ /^(jobs_per_s|items_per_s|efficiency|of_bare|of_direct|bare_speedup|ticks)$/
}

# A peer that others are compared with: neither evwork nor a limit.
function is_rival(peer)
{
	return peer !~ /^(evwork|evwork-.*|null|raw)$/
}

function better(a, b, metric)
{
	return higher_is_better(metric) ? a > b : a < b
}

# The best value of the listed peers in one round, or "" if there is none.
function best_of(names, count, round, workload, metric,    i, value, best)
{
	best = ""
	for (i = 1; i <= count; i++) {
		if (!((round, names[i], workload, metric) in values))
			continue
		value = values[round, names[i], workload, metric]
		if (best == "" || better(value, best, metric))
			best = value
	}
	return best
}

# What a target's reference stands for in one round.
function reference(text, round, workload, metric,    part, count)
{
	if (text == "abs")
		return 1
	if (text == "best")
		return best_of(rivals, rival_count, round, workload, metric)
	if (text ~ /:/) {
		split(text, part, ":")
		if ((round, part[1], part[2], part[3]) in values)
			return values[round, part[1], part[2], part[3]]
		return ""
	}
	count = split(text, part, ",")
	return best_of(part, count, round, workload, metric)
}

# The median of list[1 .. count], which it sorts.
function median(list, count,    i, k, value)
{
	for (i = 2; i <= count; i++) {
		value = list[i]
		for (k = i - 1; k >= 1 && list[k] > value; k--)
			list[k + 1] = list[k]
		list[k + 1] = value
	}
	if (count % 2)
		return list[(count + 1) / 2]
	return (list[count / 2] + list[count / 2 + 1]) / 2
}

# The median over the rounds of value / reference, or "" if never measured.
function median_ratio(peer, workload, metric, text,    round, count, list, base)
{
	count = 0
	for (round = 1; round <= rounds; round++) {
		if (!((round, peer, workload, metric) in values))
			continue
		base = reference(text, round, workload, metric)
		if (base != "" && base > 0)
			list[++count] = values[round, peer, workload, metric] / base
	}
	return count ? median(list, count) : ""
}

function number(value, metric)
{
	if (metric ~ /^(jobs|items)_per_s$/)
		return sprintf("%.2f M", value / 1000000)
	if (value >= 100)
		return sprintf("%.0f", value)
	return sprintf("%.3g", value)
}

function times(ratio)
{
	if (ratio >= 100)
		return sprintf("%.0fx", ratio)
	if (ratio >= 10)
		return sprintf("%.1fx", ratio)
	return sprintf(ratio >= 0.1 ? "%.2fx" : "%.3fx", ratio)
}

function cell(peer, workload, metric,    value, ratio)
{
	value = median_ratio(peer, workload, metric, "abs")
	if (value == "")
		return "-"
	ratio = ""
	if (metric !~ /^(bare_speedup|struct_bytes)$/)
		ratio = median_ratio(peer, workload, metric, "best")
	return number(value, metric) (ratio == "" ? "" : " (" times(ratio) ")")
}

function table(workload,    i, k, line, dashes)
{
	printf "\n%s\n", workload
	line = sprintf("| %-14s", "")
	dashes = "|---------------"
	for (k = 1; k <= column_count; k++) {
		if (!((workload, columns[k]) in took_part))
			continue
		line = line sprintf("| %-17s", columns[k])
		dashes = dashes "|------------------"
	}
	print line "|"
	print dashes "|"
	for (i = 1; i <= metric_count[workload]; i++) {
		line = sprintf("| %-14s", metrics[workload, i])
		for (k = 1; k <= column_count; k++) {
			if ((workload, columns[k]) in took_part)
				line = line sprintf("| %-17s",
					cell(columns[k], workload, metrics[workload, i]))
		}
		print line "|"
	}
}

# A burst cannot show two workers where the machine did not give two CPUs, and
# more than two of them mean that something else ran meanwhile.
function doubt(peer, workload,    speedup)
{
	speedup = median_ratio(peer, workload, "bare_speedup", "abs")
	if (speedup == "" || (speedup >= 1.8 && speedup <= 2.2))
		return ""
	return sprintf("; in doubt, two bare threads were %.2f times as fast as one", speedup)
}

function verdict(i,    field, ratio, met, miss, text, note)
{
	split(targets[i], field, " ")
	ratio = median_ratio(field[1], field[2], field[3], field[6])
	text = sprintf("%s %s: %s %s", field[1], field[2], field[3], field[4])
	text = text (field[6] == "abs" ? " " field[5] : " " field[5] "x " field[6])
	if (ratio == "") {
		printf "?       %-74s not measured\n", text
		return
	}
	note = doubt(field[1], field[2])
	met = field[4] == ">=" ? ratio >= field[5] : ratio <= field[5]
	if (met) {
		met_count++
		printf "met     %-74s %.3g%s\n", text, ratio, note
		return
	}
	missed_count++
	miss = field[4] == ">=" ? 1 - ratio / field[5] : ratio / field[5] - 1
	printf "MISSED  %-74s %.3g, by %.0f %%%s\n", text, ratio, miss * 100, note
}

# The largest and the smallest ratio between two runs of the same executable.
function control(    i, k, workload, metric, ratio)
{
	for (i = 1; i <= workload_count; i++) {
		workload = workloads[i]
		for (k = 1; k <= metric_count[workload]; k++) {
			metric = metrics[workload, k]
			ratio = median_ratio("null", workload, metric, control_of)
			if (ratio == "" || metric ~ /^(max_ms|p99_us)$/)
				continue
			if (ratio < 1)
				ratio = 1 / ratio
			if (!((workload) in spread) || ratio > spread[workload])
				spread[workload] = ratio
		}
		if (workload in spread)
			printf "%-20s %.2fx\n", workload, spread[workload]
	}
}

BEGIN {
	column_count = split(peers, columns, " ")
	for (i = 1; i <= column_count; i++) {
		if (is_rival(columns[i]))
			rivals[++rival_count] = columns[i]
		if (columns[i] == "evwork")
			control_of = "evwork"
	}
	if (control_of == "")
		control_of = "naive"
}

/^#/ || NF == 0 { next }

FNR == NR {
	targets[++target_count] = $0
	next
}

{
	values[$1, $2, $3, $4] = $5 + 0
	took_part[$3, $2] = 1
	if ($1 > rounds)
		rounds = $1 + 0
	if (!($3 in metric_count))
		workloads[++workload_count] = $3
	if (!(($3, $4) in known)) {
		known[$3, $4] = 1
		metrics[$3, ++metric_count[$3]] = $4
	}
}

END {
	print "\nMedians over the rounds; in brackets the median of value / best peer of the"
	print "same round, where evwork, its control and the limits are never the best peer."
	for (i = 1; i <= workload_count; i++)
		table(workloads[i])
	print "\nNULL CONTROL: the same executable twice, the widest median ratio of a metric"
	control()
	print "\nTARGETS: between 0.85x and 1.2x of a limit chance may decide"
	for (i = 1; i <= target_count; i++)
		verdict(i)
	printf "%d met, %d missed\n", met_count, missed_count
}
