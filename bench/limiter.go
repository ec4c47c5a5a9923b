// SPDX-License-Identifier: BSD-3-Clause

// The workloads of work_limiter.c with golang.org/x/time/rate, and a map for the keys.
package main

import (
	"fmt"
	"os"
	"sort"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	limit  = rate.Limit(1e9)
	burst  = 1000000
	rounds = 11
	keys   = 100000
)

type test struct {
	name  string
	run   func(steps int) (granted, expected int)
	steps int
}

var (
	shared *rate.Limiter
	names  [keys]string
	table  map[string]*rate.Limiter
	random = uint64(1)
	now    = time.Now()
)

func allowMany(limiter *rate.Limiter, steps int) int {
	granted := 0
	for i := 0; i < steps; i++ {
		if limiter.Allow() {
			granted++
		}
	}
	return granted
}

func allow(steps int) (int, int) {
	if shared == nil {
		shared = rate.NewLimiter(limit, burst)
	}
	return allowMany(shared, steps), steps
}

func allowTwo(steps int) (int, int) {
	var wait sync.WaitGroup
	if shared == nil {
		shared = rate.NewLimiter(limit, burst)
	}
	second := 0
	wait.Add(1)
	go func() {
		second = allowMany(shared, steps)
		wait.Done()
	}()
	granted := allowMany(shared, steps)
	wait.Wait()
	return granted + second, 2 * steps
}

func given(steps int) (int, int) {
	if shared == nil {
		shared = rate.NewLimiter(limit, burst)
	}
	granted := 0
	for i := 0; i < steps; i++ {
		now = now.Add(10)
		if shared.AllowN(now, 1) {
			granted++
		}
	}
	return granted, steps
}

func keyed(steps int) (int, int) {
	if table == nil {
		table = make(map[string]*rate.Limiter)
		for i := range names {
			names[i] = fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255)
			table[names[i]] = rate.NewLimiter(limit, burst)
		}
	}
	granted := 0
	for i := 0; i < steps; i++ {
		random = random*6364136223846793005 + 1
		name := names[(random>>33)%keys]
		limiter, found := table[name]
		if !found {
			limiter = rate.NewLimiter(limit, burst)
			table[name] = limiter
		}
		if limiter.Allow() {
			granted++
		}
	}
	return granted, steps
}

var tests = []test{
	{"limiter-given", given, 1000000},
	{"limiter-allow", allow, 1000000},
	{"limiter-allow-2t", allowTwo, 1000000},
	{"limiter-keyed", keyed, 500000},
}

func main() {
	quick, name := false, ""
	for _, arg := range os.Args[1:] {
		switch arg {
		case "-q":
			quick = true
		case "-l":
			for _, t := range tests {
				fmt.Println(t.name)
			}
			return
		default:
			name = arg
		}
	}
	for _, t := range tests {
		if t.name != name {
			continue
		}
		if quick {
			t.steps /= 50
		}
		t.run(1)
		times := []float64{}
		for i := 0; i < rounds; i++ {
			start := time.Now()
			granted, expected := t.run(t.steps)
			times = append(times, float64(time.Since(start)))
			if granted != expected {
				fmt.Fprintf(os.Stderr, "bench: %d of %d were granted\n", granted, expected)
				os.Exit(2)
			}
		}
		sort.Float64s(times)
		fmt.Printf("%s ns %g\n", name, times[rounds/2]/float64(t.steps))
		return
	}
	fmt.Fprintf(os.Stderr, "bench: no workload %s\n", name)
	os.Exit(2)
}
