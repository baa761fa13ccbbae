// Package testenv gives tests the real things they need: the program itself, throw-away users, a
// Docker engine, container filesystems.
//
// A thing that is missing fails the test and says what to install. Only with OCIBUNDLE_TEST=unit in
// the environment is such a test skipped instead.
//
// Nothing outlives the test process, however it ends: by return, t.Fatal, panic, timeout or
// SIGKILL. What a test makes is removed by its t.Cleanup. What a whole process shares, and what a
// dead process could not remove, is undone by a helper process, see [Cleanup]. A package that uses
// testenv needs no TestMain.
package testenv
