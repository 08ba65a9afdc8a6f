package main

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain makes the test binary do as the program does when it is started with an order, and fails the tests if one of them leaves a
// goroutine behind.
func TestMain(m *testing.M) {
	if obeyed, err := obey(os.Stdout); obeyed {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}
