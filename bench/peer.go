// SPDX-License-Identifier: BSD-3-Clause

// The workloads of this directory restated for Go, as a Go service would write
// them: a fixed number of worker goroutines on a channel of jobs, a channel of
// results, and one goroutine in the place of the event loop. The C files have
// the reasons behind each workload; names, counts and metrics are the same.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	seed         = uint64(0x9e3779b97f4a7c15)
	timeout      = 60 * time.Second
	quickDivisor = 50
	period       = time.Millisecond
	pause        = 8 * time.Millisecond
)

// job has the benchmark's own 24 bytes and nothing else.
type job struct {
	sequence uint64
	check    uint64
	cost     uint32
	gate     uint32
}

type test struct {
	name     string
	run      func(t *test)
	workers  int
	jobs     int
	inFlight int
	costUs   int
	oneCPU   bool
	repeat   int
}

var tests = []test{
	{name: "throughput-w1", run: throughput, workers: 1, jobs: 1000000, inFlight: 1024},
	{name: "throughput-w2", run: throughput, workers: 2, jobs: 1000000, inFlight: 1024},
	{name: "pingpong-onecpu", run: pingpong, workers: 1, jobs: 200000, inFlight: 1, oneCPU: true},
	{name: "pingpong", run: pingpong, workers: 1, jobs: 200000, inFlight: 1},
	{name: "sparse", run: sparse, workers: 2, jobs: 500, inFlight: 1},
	{name: "burst-2000x1us", run: burst, workers: 2, jobs: 2000, inFlight: 2000, costUs: 1, repeat: 15},
	{name: "burst-200x10us", run: burst, workers: 2, jobs: 200, inFlight: 200, costUs: 10, repeat: 15},
	{name: "burst-10000x1us", run: burst, workers: 2, jobs: 10000, inFlight: 10000, costUs: 1, repeat: 11},
	{name: "burst-10000x10us", run: burst, workers: 2, jobs: 10000, inFlight: 10000, costUs: 10, repeat: 3},
	{name: "map-1000000x50ns", run: mapItems, workers: 2, jobs: 1000000, costUs: 1, repeat: 5},
	{name: "chan", run: channel, jobs: 2000000, repeat: 5},
	{name: "select", run: selects, jobs: 2000000, repeat: 5},
	{name: "pipeline-64", run: pipeline, jobs: 1000000, inFlight: 64, repeat: 5},
	{name: "pipeline-256", run: pipeline, jobs: 1000000, inFlight: 256, repeat: 5},
	{name: "pipeline-1024", run: pipeline, jobs: 1000000, inFlight: 1024, repeat: 5},
	{name: "late-flood", run: late, workers: 2, inFlight: 1024},
	{name: "late-heavy", run: late, workers: 2, inFlight: 10000, costUs: 1},
	{name: "memory", run: memory, workers: 2, jobs: 1000000, inFlight: 1000002},
}

var (
	quick, inGroup       bool
	started              = time.Now()
	todo, finished       chan *job
	submitted, completed uint64
	checkedCost          uint32
	checkedResult        uint64
	arrived              = make(chan struct{}, 64)
	open                 = make(chan struct{})
)

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
	os.Exit(2)
}

func scale(n int) int {
	if quick {
		return (n + quickDivisor - 1) / quickDivisor
	}
	return n
}

func now() int64 { return int64(time.Since(started)) }

func cpuNs() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fail("getrusage: %v", err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func quantile(values []int64, part float64) float64 {
	if len(values) == 0 {
		fail("nothing was measured")
	}
	sort.Slice(values, func(i, k int) bool { return values[i] < values[k] })
	return float64(values[int(part*float64(len(values)-1)+0.5)])
}

func (t *test) print(metric string, value float64) {
	fmt.Printf("%s %s %.6g\n", t.name, metric, value)
}

//go:noinline
func spin(state uint64, steps uint32) uint64 {
	for ; steps > 0; steps-- {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
	}
	return state
}

var sink uint64

func calibrate(costUs int) uint32 {
	const trial = 100000
	best := int64(1) << 62
	for i := 0; i < 9; i++ {
		start := now()
		sink = spin(seed, trial)
		if elapsed := now() - start; elapsed < best {
			best = elapsed
		}
	}
	checkedCost = uint32(trial * float64(costUs) * 1000 / float64(best))
	checkedResult = spin(seed, checkedCost)
	return checkedCost
}

func worker(jobs <-chan *job, results chan<- *job) {
	for j := range jobs {
		result := seed
		if j.gate != 0 {
			arrived <- struct{}{}
			<-open
		} else if j.cost != 0 {
			result = spin(result, j.cost)
		}
		j.check += j.sequence ^ result
		results <- j
	}
}

// begin gives both channels room for all jobs, so that no side ever blocks.
func begin(t *test) {
	todo = make(chan *job, t.inFlight)
	finished = make(chan *job, t.inFlight)
	for i := 0; i < t.workers; i++ {
		go worker(todo, finished)
	}
}

func end(expected uint64) {
	close(todo)
	if submitted != expected || completed != expected {
		fail("%d jobs expected, %d submitted, %d completed", expected, submitted, completed)
	}
}

func submit(j *job, cost uint32) {
	submitted++
	j.sequence, j.check, j.cost = submitted, 0, cost
	todo <- j
}

func done(j *job) {
	result := seed
	if j.cost != 0 {
		if j.cost != checkedCost {
			fail("job %d has a cost nobody gave it", j.sequence)
		}
		result = checkedResult
	}
	if j.check != j.sequence^result {
		fail("job %d completed, but its work did not run once", j.sequence)
	}
	j.check = 0
	completed++
}

func throughput(t *test) {
	const chunk = 10000
	total := uint64(scale(t.jobs))
	chunks := make([]int64, 0, total/chunk+1)
	begin(t)
	cpu, chunkStart := cpuNs(), now()
	for i := 0; i < t.inFlight; i++ {
		submit(new(job), 0)
	}
	for completed < total {
		j := <-finished
		done(j)
		if completed%chunk == 0 {
			at := now()
			chunks = append(chunks, at-chunkStart)
			chunkStart = at
		}
		if submitted < total {
			submit(j, 0)
		}
	}
	cpu = cpuNs() - cpu
	end(total)
	median := quantile(chunks, 0.5)
	t.print("jobs_per_s", chunk*1e9/median)
	t.print("wall_ns", median/chunk)
	t.print("cpu_ns", float64(cpu)/float64(total))
}

func (t *test) trips(trips []int64, cpu int64) {
	end(uint64(len(trips)))
	count := float64(len(trips))
	t.print("p50_us", quantile(trips, 0.5)/1e3)
	t.print("p99_us", quantile(trips, 0.99)/1e3)
	t.print("cpu_us", float64(cpu)/count/1e3)
}

func pingpong(t *test) {
	total := scale(t.jobs)
	trips := make([]int64, 0, total)
	j := new(job)
	begin(t)
	cpu, start := cpuNs(), now()
	limit := start + int64(600*time.Millisecond)
	for len(trips) < total && start < limit {
		submit(j, 0)
		done(<-finished)
		at := now()
		trips = append(trips, at-start)
		start = at
	}
	t.trips(trips, cpuNs()-cpu)
}

func sparse(t *test) {
	total := scale(t.jobs)
	trips := make([]int64, 0, total)
	j := new(job)
	begin(t)
	cpu, tick := cpuNs(), now()
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	var start int64
	for len(trips) < total {
		tick += int64(period)
		if tick < now() {
			tick = now() + int64(period)
		}
		timer.Reset(time.Duration(tick - now()))
		for waiting := true; waiting; {
			select {
			case <-timer.C:
				start = now()
				submit(j, 0)
			case r := <-finished:
				done(r)
				trips = append(trips, now()-start)
				waiting = false
			}
		}
	}
	t.trips(trips, cpuNs()-cpu)
}

func spinJobs(jobs int, cost uint32) {
	for i := 0; i < jobs; i++ {
		if spin(seed, cost) != checkedResult {
			fail("the busy loop computed something else")
		}
	}
}

// burst leaves the bare speedup to the C executables: the runtime decides which
// goroutine runs where.
func burst(t *test) {
	count := scale(t.jobs)
	cost := calibrate(t.costUs)
	jobs := make([]*job, count)
	for i := range jobs {
		jobs[i] = new(job)
	}
	var sequential, walls, cpus []int64
	begin(t)
	for i := 0; i < t.repeat; i++ {
		<-time.After(pause)
		start := now()
		spinJobs(count, cost)
		sequential = append(sequential, now()-start)
		<-time.After(pause)
		cpu := cpuNs()
		start = now()
		if inGroup {
			burstInGroup(t, jobs, cost)
		} else {
			for _, j := range jobs {
				submit(j, cost)
			}
			for range jobs {
				done(<-finished)
			}
		}
		walls = append(walls, now()-start)
		cpus = append(cpus, cpuNs()-cpu)
	}
	end(uint64(t.repeat * count))
	one := quantile(sequential, 0.5)
	t.print("efficiency", one/2/quantile(walls, 0.5))
	t.print("cpu_of_seq", quantile(cpus, 0.5)/one)
}

// group is what errgroup.Group is: goroutines, the first error, and a wait for all. It
// is restated here as the file needs no module.
type group struct {
	wait  sync.WaitGroup
	once  sync.Once
	limit chan struct{}
	err   error
}

func (g *group) run(f func() error) {
	g.limit <- struct{}{}
	g.wait.Add(1)
	go func() {
		defer func() {
			<-g.limit
			g.wait.Done()
		}()
		if err := f(); err != nil {
			g.once.Do(func() { g.err = err })
		}
	}()
}

// burstInGroup is a burst through a group with as many goroutines at once as workers.
func burstInGroup(t *test, jobs []*job, cost uint32) {
	g := group{limit: make(chan struct{}, t.workers)}
	for _, j := range jobs {
		j := j
		submitted++
		j.sequence, j.check, j.cost = submitted, 0, cost
		g.run(func() error {
			j.check += j.sequence ^ spin(seed, j.cost)
			return nil
		})
	}
	g.wait.Wait()
	for _, j := range jobs {
		done(j)
	}
}

// mapItems takes chunks of 1,000 elements by hand.
func mapItems(t *test) {
	const chunk = 1000
	count := scale(t.jobs)
	calibrate(t.costUs)
	cost := checkedCost / 20
	checkedResult = spin(seed, cost)
	items := make([]uint64, count)
	var sequential, walls, cpus []int64
	for i := 0; i < t.repeat; i++ {
		<-time.After(pause)
		start := now()
		spinJobs(count, cost)
		sequential = append(sequential, now()-start)
		for k := range items {
			items[k] = 0
		}
		<-time.After(pause)
		cpu := cpuNs()
		start = now()
		var wait sync.WaitGroup
		var next int64
		for w := 0; w < t.workers; w++ {
			wait.Add(1)
			go func() {
				defer wait.Done()
				for {
					first := int(atomic.AddInt64(&next, chunk)) - chunk
					if first >= count {
						return
					}
					for k := first; k < first+chunk && k < count; k++ {
						items[k] += spin(seed, cost)
					}
				}
			}()
		}
		wait.Wait()
		walls = append(walls, now()-start)
		cpus = append(cpus, cpuNs()-cpu)
		for k := range items {
			if items[k] != checkedResult {
				fail("element %d was not computed once", k)
			}
		}
	}
	one := quantile(sequential, 0.5)
	t.print("efficiency", one/2/quantile(walls, 0.5))
	t.print("cpu_of_seq", quantile(cpus, 0.5)/one)
}

// feed sends the numbers from 1 to count, and closes.
func feed(values chan<- uint64, count int) {
	for i := 1; i <= count; i++ {
		values <- uint64(i)
	}
	close(values)
}

// feeds measures rounds of count values from each of n goroutines, a channel each, which
// receive takes until they are closed.
func feeds(t *test, n int, receive func(values []chan uint64) []uint64) {
	const capacity = 1024
	count := scale(t.jobs) / n
	var walls, cpus []int64
	for round := 0; round < t.repeat; round++ {
		values := make([]chan uint64, n)
		cpu, start := cpuNs(), now()
		for i := range values {
			values[i] = make(chan uint64, capacity)
			go feed(values[i], count)
		}
		received := receive(values)
		walls = append(walls, now()-start)
		cpus = append(cpus, cpuNs()-cpu)
		for _, last := range received {
			if last != uint64(count) {
				fail("%d values of %d", last, count)
			}
		}
	}
	t.print("item_ns", quantile(walls, 0.5)/float64(count*n))
	t.print("cpu_ns", quantile(cpus, 0.5)/float64(count*n))
}

func check(value uint64, last *uint64) {
	*last++
	if value != *last {
		fail("value %d came in the place of %d", value, *last)
	}
}

func channel(t *test) {
	feeds(t, 1, func(values []chan uint64) []uint64 {
		var last uint64
		for value := range values[0] {
			check(value, &last)
		}
		return []uint64{last}
	})
}

func selects(t *test) {
	feeds(t, 2, func(values []chan uint64) []uint64 {
		var a, b uint64
		left, right := values[0], values[1]
		for left != nil || right != nil {
			select {
			case value, open := <-left:
				if !open {
					left = nil
					continue
				}
				check(value, &a)
			case value, open := <-right:
				if !open {
					right = nil
					continue
				}
				check(value, &b)
			}
		}
		return []uint64{a, b}
	})
}

// pipeline is a goroutine for the source and each of three stages, with buffered channels
// of numbers between them and to the sink, which is the caller.
func pipeline(t *test) {
	const stages = 3
	count := scale(t.jobs)
	var walls, cpus []int64
	for i := 0; i < t.repeat; i++ {
		<-time.After(pause)
		cpu, start := cpuNs(), now()
		first := make(chan uint64, t.inFlight)
		go func() {
			for k := 0; k < count; k++ {
				first <- uint64(k)
			}
			close(first)
		}()
		last := first
		for s := 0; s < stages; s++ {
			in, out := last, make(chan uint64, t.inFlight)
			go func() {
				for item := range in {
					out <- item
				}
				close(out)
			}()
			last = out
		}
		expected := uint64(0)
		for item := range last {
			if item != expected {
				fail("item %d came for %d", item, expected)
			}
			expected++
		}
		walls = append(walls, now()-start)
		cpus = append(cpus, cpuNs()-cpu)
		if expected != uint64(count) {
			fail("%d items came of %d", expected, count)
		}
	}
	t.print("items_per_s", float64(count)*1e9/quantile(walls, 0.5))
	t.print("cpu_ns", quantile(cpus, 0.5)/float64(count))
}

func late(t *test) {
	const lookAtClock = 256
	runNs := int64(scale(int(500 * time.Millisecond)))
	var callbackCost uint32
	if t.costUs != 0 {
		callbackCost = calibrate(t.costUs)
	}
	lateness := make([]int64, 0, runNs/int64(period)+2)
	begin(t)
	start := now()
	endAt, due, endedAt := start+runNs, start+int64(period), int64(0)
	var floodCount, flooded uint64
	timer := time.NewTimer(period)
	inFlight := t.inFlight
	for i := 0; i < inFlight; i++ {
		submit(new(job), 0)
		flooded++
	}
	endFlood := func(at int64) {
		endedAt, floodCount = at, completed
		if at > due {
			lateness = append(lateness, at-due)
		}
	}
	for inFlight > 0 {
		select {
		case <-timer.C:
			if endedAt != 0 {
				continue
			}
			at := now()
			lateness = append(lateness, at-due)
			due = at + int64(period)
			if at >= endAt {
				endFlood(at)
			} else {
				timer.Reset(period)
			}
		case j := <-finished:
			done(j)
			if callbackCost != 0 {
				sink = spin(seed, callbackCost)
			}
			if endedAt == 0 && completed%lookAtClock == 0 && now() >= endAt {
				endFlood(now())
			}
			if endedAt == 0 {
				submit(j, 0)
				flooded++
			} else {
				inFlight--
			}
		}
	}
	end(flooded)
	t.print("p50_ms", quantile(lateness, 0.5)/1e6)
	t.print("p99_ms", quantile(lateness, 0.99)/1e6)
	t.print("max_ms", quantile(lateness, 1)/1e6)
	t.print("jobs_per_s", float64(floodCount)*1e9/float64(endedAt-start))
	t.print("ticks", float64(len(lateness)))
}

func rssBytes() float64 {
	var size, resident int
	file, err := os.Open("/proc/self/statm")
	if err == nil {
		_, err = fmt.Fscan(file, &size, &resident)
	}
	if err != nil {
		fail("/proc/self/statm: %v", err)
	}
	file.Close()
	return float64(resident) * float64(os.Getpagesize())
}

func memory(t *test) {
	count := scale(t.jobs)
	begin(t)
	for i := 0; i < t.workers; i++ {
		submit(&job{gate: 1}, 0)
	}
	for i := 0; i < t.workers; i++ {
		<-arrived
	}
	before, start := rssBytes(), now()
	for i := 0; i < count; i++ {
		submit(new(job), 0)
	}
	submitNs, after := now()-start, rssBytes()
	close(open)
	for i := 0; i < count+t.workers; i++ {
		done(<-finished)
	}
	end(uint64(count + t.workers))
	t.print("bytes_per_job", (after-before)/float64(count))
	t.print("submit_ns", float64(submitNs)/float64(count))
}

// useOneCPU binds the process to the first CPU it may use. The runtime counts
// CPUs when it starts, and so the program starts again.
func useOneCPU() {
	if runtime.NumCPU() == 1 {
		return
	}
	var set [128]byte
	runtime.LockOSThread()
	if _, _, e := syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, uintptr(len(set)),
		uintptr(unsafe.Pointer(&set))); e != 0 {
		fail("sched_getaffinity: %v", e)
	}
	first := -1
	for cpu := range make([]struct{}, 8*len(set)) {
		bit := byte(1) << (cpu % 8)
		if first < 0 && set[cpu/8]&bit != 0 {
			first = cpu
		} else {
			set[cpu/8] &^= bit
		}
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, uintptr(len(set)),
		uintptr(unsafe.Pointer(&set))); e != 0 {
		fail("sched_setaffinity: %v", e)
	}
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, os.Environ())
	}
	fail("starting again: %v", err)
}

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "-l" {
		for _, t := range tests {
			fmt.Println(t.name)
		}
		return
	}
	if len(args) > 0 && args[0] == "-q" {
		quick, args = true, args[1:]
	}
	if len(args) > 0 && args[0] == "-g" {
		inGroup, args = true, args[1:]
	}
	for i := range tests {
		t := &tests[i]
		if len(args) != 1 || args[0] != t.name {
			continue
		}
		if t.oneCPU {
			useOneCPU()
		}
		time.AfterFunc(timeout, func() {
			fmt.Fprintln(os.Stderr, "bench: timeout, the workload did not end")
			os.Exit(3)
		})
		t.run(t)
		return
	}
	fmt.Fprintf(os.Stderr, "usage: %s [-q] [-g] workload\n  -l  list the workloads\n"+
		"  -q  a fraction of the jobs, to look for mistakes\n"+
		"  -g  bursts through a group of goroutines\n", os.Args[0])
	os.Exit(1)
}
