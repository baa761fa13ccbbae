package host

import (
	"errors"
	"os"
	"os/exec"
	"reflect"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"ocibundle/specedit"
)

func TestParseResolver(t *testing.T) {
	for text, want := range map[string]specedit.Resolver{
		"":                         {},
		"# nameserver 192.0.2.1\n": {},
		"nameserver\nsearch\n":     {},
		"nameserver 192.0.2.1":     {Servers: []string{"192.0.2.1"}},
		"nameserver 192.0.2.1 # one\nnameserver\tfe80::1%eth0\n": {Servers: []string{"192.0.2.1", "fe80::1%eth0"}},
		// The last of domain and search counts, all of options do (resolv.conf(5)).
		"domain a.example\nsearch b.example c.example\noptions ndots:2\noptions rotate\n": {
			Search: []string{"b.example", "c.example"}, Options: []string{"ndots:2", "rotate"}},
		"search b.example\ndomain a.example\n": {Search: []string{"a.example"}},
	} {
		if got := ParseResolver([]byte(text)); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func TestOnLoopback(t *testing.T) {
	for server, want := range map[string]bool{
		"127.0.0.1": true, "127.0.0.53": true, "::1": true, "192.0.2.1": false, "fe80::1%lo": false, "localhost": false, "": false,
	} {
		if got := OnLoopback(server); got != want {
			t.Errorf("%q: %v", server, got)
		}
	}
}

// Limits that leave no room are told as what the kernel would say; those that leave some are none.
func TestCheckRoom(t *testing.T) {
	const variable = "OCIBUNDLE_TEST_ROOM"
	if want := os.Getenv(variable); want != "" {
		_, err := CheckRoom()
		room, narrow := errors.AsType[*RoomError](err)
		switch {
		case want == "0" && err != nil:
			t.Error(err)
		case want != "0" && (!narrow || strconv.Itoa(int(room.Errno)) != want || !errors.Is(err, room.Errno)):
			t.Errorf("errno %s is wanted: %v", want, err)
		}
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for limits, want := range map[string]unix.Errno{
		"true":         0,
		"ulimit -n 40": 0,
		"ulimit -n 12": unix.EMFILE,
	} {
		cmd := exec.Command("sh", "-c", limits+`; exec "$0" -test.run '^TestCheckRoom$'`, self)
		cmd.Env = append(os.Environ(), variable+"="+strconv.Itoa(int(want)))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%q: %v\n%s", limits, err, out)
		}
	}
}
