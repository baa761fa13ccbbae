package unit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ocibundle/pipeline/bundle"
)

func makeBundle(t *testing.T, name, config string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.MkdirAll(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestService(t *testing.T) {
	dir := makeBundle(t, `a "b"\%n $HOME`, `{"ociVersion":"1.0.0","process":{"env":["SECRET=hush"]},"annotations":{
		"org.opencontainers.image.stopSignal":"quit","ocibundle.restart":"on-failure:3"}}`)
	text, warnings, err := Service(Config{Dir: dir, Runtime: "/opt/my run;c/crun", System: true})
	if err != nil || len(warnings) != 0 {
		t.Fatal(warnings, err)
	}
	quoted := `"` + strings.ReplaceAll(filepath.Dir(dir), "%", "%%") + `/a \"b\"\\%%n $HOME"`
	for _, want := range []string{
		"ExecStart=:\"/opt/my run;c/crun\" run --bundle " + quoted + " a-b-n-HOME\n",
		"ExecStartPre=-:\"/opt/my run;c/crun\" delete --force a-b-n-HOME\n",
		"ExecStopPost=-:\"/opt/my run;c/crun\" delete --force a-b-n-HOME\n",
		"KillSignal=SIGQUIT\n", "SuccessExitStatus=131\n", "Restart=on-failure\n", "StartLimitBurst=4\n",
		"Delegate=yes\n", "WantedBy=multi-user.target\n",
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "hush") {
		t.Errorf("a secret is in\n%s", text)
	}
}

func TestServiceOfUser(t *testing.T) {
	text, _, err := Service(Config{Dir: makeBundle(t, "web", `{"ociVersion":"1.0.0"}`), Runtime: "/usr/bin/runc"})
	if err != nil || !strings.Contains(text, "\nWantedBy=default.target\n") || strings.Contains(text, "network-online") ||
		!strings.Contains(text, "\nRestart=no\n") || !strings.Contains(text, "\nKillSignal=SIGTERM\n") {
		t.Errorf("%v\n%s", err, text)
	}
}

// A runtime fails where it is to lower the score that a user's service manager gave it.
func TestServiceOfUserScore(t *testing.T) {
	for score, want := range map[string]int{"0": 1, "-5": 1, "200": 0} {
		dir := makeBundle(t, "web", `{"ociVersion":"1.0.0","process":{"oomScoreAdj":`+score+`}}`)
		for system, want := range map[bool]int{false: want, true: 0} {
			_, warnings, err := Service(Config{Dir: dir, Runtime: "/usr/bin/runc", System: system})
			if err != nil || len(warnings) != want {
				t.Errorf("%s, the system's %v: %q, %v", score, system, warnings, err)
			}
		}
	}
}

func TestServiceRefuses(t *testing.T) {
	if _, _, err := Service(Config{Dir: makeBundle(t, "tty", `{"ociVersion":"1.0.0","process":{"terminal":true}}`), Runtime: "/r"}); !errors.Is(err, ErrTerminal) {
		t.Errorf("a terminal: %v", err)
	}
	for _, name := range []string{"a\nExecStart=evil", "a\xff"} {
		_, _, err := Service(Config{Dir: makeBundle(t, name, `{"ociVersion":"1.0.0"}`), Runtime: "/r"})
		if _, ok := errors.AsType[*NameError](err); !ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, config := range []string{"{}", "[", `{"process":{}}`} {
		_, _, err := Service(Config{Dir: makeBundle(t, "x", config), Runtime: "/r"})
		if e, ok := errors.AsType[*bundle.Error](err); !ok || e.Kind != bundle.None {
			t.Errorf("%s: %v", config, err)
		}
	}
}

func TestStopSignal(t *testing.T) {
	for in, want := range map[string]struct {
		name   string
		number int
		ok     bool
	}{
		"": {"SIGTERM", 15, true}, "SIGINT": {"SIGINT", 2, true}, "usr1": {"SIGUSR1", 10, true}, "3": {"3", 3, true},
		"SIGRTMIN+3": {"SIGRTMIN+3", 37, true}, "RTMIN+3": {"SIGRTMIN+3", 37, true},
		"0": {"SIGTERM", 15, false}, "65": {"SIGTERM", 15, false}, "SIGNONE": {"SIGTERM", 15, false}, "9\nX=y": {"SIGTERM", 15, false},
	} {
		if name, number, ok := stopSignal(in); name != want.name || number != want.number || ok != want.ok {
			t.Errorf("%q is %s, %d, %v", in, name, number, ok)
		}
	}
}

func TestRestartPolicy(t *testing.T) {
	for in, want := range map[string]string{
		"no": "no", "": "no", "always": "always", "unless-stopped": "always", "on-failure": "on-failure", "on-failure:5": "on-failure",
	} {
		if got, _, ok := restartPolicy(in); strings.Split(got, "\n")[0] != want || !ok {
			t.Errorf("%q is %q, %v", in, got, ok)
		}
	}
	for _, in := range []string{"sometimes", "on-failure:x", "on-failure:-1", "no\nX=y"} {
		if got, limits, ok := restartPolicy(in); got != "no" || limits != "" || ok {
			t.Errorf("%q is %q, %q, %v", in, got, limits, ok)
		}
	}
}
