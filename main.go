// Ocibundle turns a container's filesystem stream into an OCI bundle.
package main

func main() {}
