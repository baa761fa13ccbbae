// Package unit tries the services that `ocibundle unit` writes on a machine that systemd
// runs, as root's and as a user's: start, stop, restart, reboot. It makes a Debian and
// boots it twice, which takes minutes, so it has the build tag vm.
package unit
