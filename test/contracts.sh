#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# Each required contract is cited by a test. A citation is a number such as
# S-POOL-6 ("S-POOL-6, -11" are two of one group), and counts for a test if it
# stands in the comment directly above START_TEST, in the body of the test, or in
# its name as s_pool_6.
#
# test/contracts.required lists what must be cited, test/contracts.exempt what
# has no test and why. Writes test/contracts.txt in the build directory: number,
# file and test. Prints TAP.

# shellcheck disable=SC2016 # The programs in single quotes are for awk.
set -u

src=${top_srcdir:-.}
awk=${AWK:-awk}
table=test/contracts.txt

mkdir -p test || exit 1
$awk -v table="$table" '
	function cite(number) {
		if (inside)
			record(number, inside)
		else
			pending = pending " " number
	}

	function record(number, test,    entry) {
		entry = file ":" test
		if ((number, entry) in seen)
			return
		seen[number, entry] = 1
		if (!(number in tests) && !(number in required))
			others[++other_count] = number
		tests[number] = tests[number] " " entry
	}

	# All citations in one line of text.
	function cite_all(text,    number, group) {
		while (match(text, /S-[A-Z]+-[0-9]+/)) {
			number = substr(text, RSTART, RLENGTH)
			text = substr(text, RSTART + RLENGTH)
			cite(number)
			group = number
			sub(/[0-9]+$/, "", group)
			while (match(text, /^(,| and|, and) ?-[0-9]+/)) {
				number = substr(text, 1, RLENGTH)
				sub(/.*-/, "", number)
				text = substr(text, RLENGTH + 1)
				cite(group number)
			}
		}
	}

	function cite_name(name,    number) {
		while (match(name, /s_[a-z]+_[0-9]+/)) {
			number = toupper(substr(name, RSTART, RLENGTH))
			name = substr(name, RSTART + RLENGTH)
			gsub(/_/, "-", number)
			cite(number)
		}
	}

	# The line without its comments; keeps track of comments over several lines.
	function code_of(line,    code, at) {
		code = ""
		while (line != "") {
			if (comment) {
				at = index(line, "*/")
				if (!at)
					return code
				line = substr(line, at + 2)
				comment = 0
			} else {
				at = match(line, /\/[*\/]/)
				if (!at)
					return code line
				code = code substr(line, 1, at - 1)
				if (substr(line, at, 2) == "//")
					return code
				line = substr(line, at + 2)
				comment = 1
			}
		}
		return code
	}

	# What was cited above something that is no test counts for nothing.
	function drop_pending() {
		if (pending != "")
			stray[++stray_count] = file ":" FNR ": cited above no test:" pending
		pending = ""
	}

	function name_of(path) {
		sub(/.*\//, "", path)
		return path
	}

	FNR == 1 {
		drop_pending()
		file = name_of(FILENAME)
		inside = ""
		comment = 0
	}

	/^[ \t]*(#.*)?$/ && file ~ /^contracts\./ { next }

	file == "contracts.required" {
		if (!($1 in group_seen)) {
			group_seen[$1] = 1
			groups[++group_count] = $1
		}
		for (i = 2; i <= NF; i++) {
			split($i, range, "-")
			last = range[2] == "" ? range[1] : range[2]
			for (k = range[1] + 0; k <= last + 0; k++) {
				required[$1 "-" k] = $1
				order[++required_count] = $1 "-" k
			}
		}
		next
	}

	file == "contracts.exempt" {
		number = $1
		$1 = ""
		sub(/^ /, "")
		exempt[number] = $0
		exemptions[++exempt_count] = number
		next
	}

	{
		code = code_of($0)
		if (!inside && code ~ /^[ \t]*START_TEST[ \t]*\(/) {
			name = code
			sub(/.*START_TEST[ \t]*\([ \t]*/, "", name)
			sub(/[ \t]*\).*/, "", name)
			inside = name
			above = pending
			pending = ""
			cite_all(above)
			cite_name(name)
			test_count++
		} else if (!inside && code !~ /^[ \t]*$/) {
			drop_pending()
		}
		cite_all($0)
		if (inside && code ~ /END_TEST/)
			inside = ""
	}

	function line(number, what) {
		printf "%-12s %s\n", number, what >table
	}

	function list(number,    i, count, entries) {
		count = split(tests[number], entries, " ")
		for (i = 1; i <= count; i++)
			line(number, entries[i])
	}

	function report(sentence, problems) {
		if (problems != "")
			printf "%s", problems
		printf "%s %d - %s\n", problems == "" ? "ok" : "not ok", ++point, sentence
	}

	END {
		drop_pending()
		for (i = 1; i <= required_count; i++) {
			number = order[i]
			if (number in tests)
				list(number)
			else if (number in exempt)
				line(number, "no test: " exempt[number])
			else {
				line(number, "no test")
				missing[required[number]] = missing[required[number]] \
					"# " number " is cited by no test\n"
			}
		}
		for (i = 1; i <= other_count; i++)
			list(others[i])
		for (i = 1; i <= stray_count; i++)
			print "# " stray[i]
		for (i = 1; i <= group_count; i++)
			report("each required " groups[i] " is cited by a test", missing[groups[i]])
		for (i = 1; i <= exempt_count; i++) {
			number = exemptions[i]
			if (!(number in required))
				stale = stale "# " number " is exempt but not required\n"
			if (number in tests)
				stale = stale "# " number " is exempt but has a test\n"
			if (exempt[number] == "")
				stale = stale "# " number " is exempt without a reason\n"
		}
		report("each exemption is needed and says why", stale)
		report("tests were found", test_count ? "" : "# no START_TEST anywhere\n")
		print "1.." point
	}
' "$src/test/contracts.required" "$src/test/contracts.exempt" "$src"/test/check_*.c
