// SPDX-License-Identifier: MIT
// The peer: Go's singleflight. `peer WORK` does one round of one piece of work
// and prints the nanoseconds an operation took; see run.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const operations = 1000000

func keys(prefix string) []string {
	var made []string
	for i := 0; i < 1000; i++ {
		made = append(made, fmt.Sprintf("%s -O2 -c some/directory/of/sources/file_%09d", prefix, i)[:50])
	}
	return made
}

func report(begin time.Time) {
	fmt.Printf("%.2f\n", float64(time.Since(begin).Nanoseconds())/operations)
}

func empty() (interface{}, error) { return nil, nil }

func joinLeave() {
	var group singleflight.Group
	all := keys("cc")
	hold := make(chan struct{})
	held := func() (interface{}, error) { <-hold; return nil, nil }
	for _, key := range all {
		group.DoChan(key, held)
	}
	begin := time.Now()
	for i := 0; i < operations; i++ {
		group.DoChan(all[i%len(all)], held)
	}
	report(begin)
}

func leadLand() {
	var group singleflight.Group
	all := keys("cc")
	begin := time.Now()
	for i := 0; i < operations; i++ {
		group.Do(all[i%len(all)], empty)
	}
	report(begin)
}

func threads(of func(thread int) []string) {
	var group singleflight.Group
	var done sync.WaitGroup
	begin := time.Now()
	for thread := 0; thread < 2; thread++ {
		all := of(thread)
		done.Add(1)
		go func() {
			for i := 0; i < operations; i++ {
				group.Do(all[i%len(all)], empty)
			}
			done.Done()
		}()
	}
	done.Wait()
	report(begin)
}

func main() {
	runtime.GOMAXPROCS(2)
	switch os.Args[1] {
	case "join_leave":
		joinLeave()
	case "lead_land":
		leadLand()
	case "threads_distinct":
		apart := [][]string{keys("c1"), keys("c2")}
		threads(func(thread int) []string { return apart[thread] })
	case "threads_hot":
		hot := keys("cc")[:1]
		threads(func(int) []string { return hot })
	}
}
