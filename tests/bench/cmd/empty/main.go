// Empty is what any Go program costs to start.
package main

func main() {}
