// Package parallel makes the calls to a server that a store makes at once.
package parallel

import "sync"

// Each calls f for 0 to n-1, up to most at a time, and returns once all calls have: the error of the first of them that has one.
func Each(n, most int, f func(i int) error) error {
	if n == 1 {
		return f(0)
	}
	var wg sync.WaitGroup
	errs := make([]error, n)
	turns := make(chan struct{}, most)
	for i := range n {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			errs[i] = f(i)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
