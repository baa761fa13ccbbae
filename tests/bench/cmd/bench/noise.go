package main

import (
	"bufio"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A cpuSample is the time all processors have spent on anything, by /proc/stat, which counts in hundredths of a second.
type cpuSample struct {
	at   time.Time
	busy time.Duration
}

func sampleCPU() cpuSample {
	s := cpuSample{at: time.Now()}
	f, err := os.Open("/proc/stat")
	if err != nil {
		return s
	}
	defer f.Close()
	r := bufio.NewReader(f)
	line, err := r.ReadString('\n')
	if err != nil {
		return s
	}
	// cpu user nice system idle iowait irq softirq steal guest guest_nice (proc(5)); guest time is part of user.
	for i, v := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 8 {
			continue
		}
		n, _ := strconv.ParseInt(v, 10, 64)
		s.busy += time.Duration(n) * 10 * time.Millisecond
	}
	return s
}

// foreign is the share of all processors that somebody else used between two samples. The samples tick in 10 ms, so
// short runs get some slack.
func foreign(a, b cpuSample, own time.Duration) float64 {
	wall := b.at.Sub(a.at)
	other := b.busy - a.busy - own - 20*time.Millisecond
	return max(0, other.Seconds()/(wall.Seconds()*float64(runtime.NumCPU())))
}

// settle waits until the machine has been idle for a moment: freeing a tree goes on in the kernel after the unmount. It
// gives up after the time given, and the runs' own foreign share tells.
func settle(patience time.Duration) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		a := sampleCPU()
		time.Sleep(60 * time.Millisecond)
		if b := sampleCPU(); b.busy-a.busy <= 10*time.Millisecond {
			return
		}
	}
}

// warm makes sure that the kernel has so many bytes of free memory that are really there. A virtual machine may have
// given its free pages back to the host, and whoever touches them first then pays for it, which would be one tool or the
// other by chance. Freed pages are the first to be used again.
func warm(bytes int64) error {
	n := runtime.NumCPU()
	part := int(bytes/int64(n))&^4095 + 4096
	maps := make([][]byte, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			maps[i], errs[i] = unix.Mmap(-1, 0, part, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
		})
	}
	wg.Wait()
	for _, m := range maps {
		if m != nil {
			errs = append(errs, unix.Munmap(m))
		}
	}
	return errors.Join(errs...)
}
