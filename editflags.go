package main

import (
	"ocibundle/specedit"
)

// editFlag is a flag that edits the config.
type editFlag struct {
	names                  []string
	value, usage, category string
	optional               bool // the value may be left out
	make                   func(label, arg string, in *editInputs) (specedit.Edit, error)
}

// editInputs is what edits may take from outside.
type editInputs struct {
	files     *files
	cwd       string
	lookupEnv func(string) (string, bool)
}

var editFlags = []editFlag{
	{names: []string{"set"}, value: "PTR=VALUE", category: catEdits, usage: "add or replace, creating the parents", make: pointerValue(specedit.Set)},
	{names: []string{"net", "network"}, value: "private|host|PATH", category: catEdits, usage: "network namespace",
		make: func(label, arg string, in *editInputs) (specedit.Edit, error) {
			return specedit.Namespace(label, "network", arg, in.cwd)
		}},
	{names: []string{"env", "e"}, value: "K[=V]", category: catEdits, usage: "set an environment variable",
		make: func(label, arg string, in *editInputs) (specedit.Edit, error) {
			return specedit.Env(label, arg, in.lookupEnv)
		}},
}

const catEdits = "Edits"

func pointerValue(f func(label, pointer, value string) (specedit.Edit, error)) func(string, string, *editInputs) (specedit.Edit, error) {
	return func(label, arg string, _ *editInputs) (specedit.Edit, error) {
		ptr, value, ok := specedit.SplitPointer(arg)
		if !ok {
			return specedit.Edit{}, usagef("%s: there is no =", label)
		}
		return f(label, ptr, value)
	}
}
