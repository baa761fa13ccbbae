// Package unit writes a systemd service that runs a bundle (systemd.service(5)).
//
// The runtime stays in the foreground and hands signals on to the container, so that
// systemd stops it with the image's own signal and sees how it ends. What a killed
// runtime leaves, its state and a container without it, the runtime deletes afterwards
// and before the next start. The environment stays in config.json, and nothing of it
// is in the unit, which everybody may read.
//
// It reads the bundle's config.json and changes nothing.
package unit

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"ocibundle/pipeline/bundle"
	"ocibundle/specedit/imageconfig"
)

// Config is a service to be written.
type Config struct {
	// Dir is the bundle.
	Dir string
	// Runtime is the absolute path of the program that runs it: runc, crun, or one with
	// their commands.
	Runtime string
	// System says that the system's service manager runs it, not a user's.
	System bool
}

// userScore is the out-of-memory score adjustment that a user's service manager gives its services
// (systemd-system.conf(5), DefaultOOMScoreAdjust=: its own and 100; user@.service has 100).
const userScore = 200

// ErrTerminal says that the command wants a terminal, which a service does not have.
var ErrTerminal = errors.New("its command wants a terminal, and a service has none")

// NameError is a path that no unit can hold.
type NameError struct{ Path string }

func (e *NameError) Error() string {
	return fmt.Sprintf("%q has control characters or is not UTF-8, which no unit can hold", e.Path)
}

// Service returns the text of the unit and sentences about what could not be carried
// over. Errors are a *bundle.Error where there is no bundle, [ErrTerminal], a
// *NameError, or those of the system.
func Service(c Config) (text string, warnings []string, err error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return "", nil, fmt.Errorf("make the path of the bundle absolute: %w", err)
	}
	for _, name := range []string{dir, c.Runtime} {
		if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
			return "", nil, &NameError{name}
		}
	}
	config, err := read(c.Dir)
	if err != nil {
		return "", nil, err
	}
	if config.Process.Terminal {
		return "", nil, fmt.Errorf("%q: %w", c.Dir, ErrTerminal)
	}
	signal, number, ok := stopSignal(config.Annotations["org.opencontainers.image.stopSignal"])
	if !ok {
		warnings = append(warnings, fmt.Sprintf("the stop signal %q is not a signal of this system; SIGTERM stops the service",
			config.Annotations["org.opencontainers.image.stopSignal"]))
	}
	if score := config.Process.OOMScoreAdj; score != nil && *score < userScore && !c.System {
		warnings = append(warnings, fmt.Sprintf("/process/oomScoreAdj is %d: a user's services start with %d, which the user may not lower", *score, userScore))
	}
	restart, limits, ok := restartPolicy(config.Annotations[imageconfig.RestartAnnotation])
	if !ok {
		warnings = append(warnings, fmt.Sprintf("the restart policy %q is not one of Docker's; the service is not restarted",
			config.Annotations[imageconfig.RestartAnnotation]))
	}
	id := containerID(dir)
	run := fmt.Sprintf("run --bundle %s %s", quote(dir), id)
	remove := "delete --force " + id
	wants, target := "", "default.target"
	if c.System {
		wants, target = "Wants=network-online.target\nAfter=network-online.target\n", "multi-user.target"
	}
	runtime := quote(c.Runtime)
	return fmt.Sprintf(`[Unit]
Description=%s (OCI bundle)
%s%s
[Service]
Type=exec
ExecStartPre=-:%s %s
ExecStart=:%s %s
ExecStopPost=-:%s %s
KillMode=mixed
KillSignal=%s
SuccessExitStatus=%d
Restart=%s
Delegate=yes
SyslogIdentifier=%s

[Install]
WantedBy=%s
`, id, wants, limits, runtime, remove, runtime, run, runtime, remove, signal, 128+number, restart, id, target), warnings, nil
}

// config is what matters of a config.json.
type config struct {
	Version string `json:"ociVersion"`
	Process struct {
		Terminal    bool `json:"terminal"`
		OOMScoreAdj *int `json:"oomScoreAdj"`
	} `json:"process"`
	Annotations map[string]string `json:"annotations"`
}

func read(name string) (c config, err error) {
	text, err := bundle.Config(name)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &c); err != nil || c.Version == "" {
		return c, &bundle.Error{Kind: bundle.None, Dir: name, Detail: "its config.json is not JSON, or has no ociVersion"}
	}
	return c, nil
}

// quote makes one word of s (systemd.syntax(7), "Quoting"; systemd.unit(5),
// "Specifiers"). The colon before the program keeps dollar signs as they are.
func quote(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if !strings.ContainsAny(s, " \"'\\;") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// containerID makes an id that every runtime takes of a bundle's name.
func containerID(dir string) string {
	id := strings.TrimLeft(regexp.MustCompile(`[^A-Za-z0-9_.-]+`).ReplaceAllString(filepath.Base(dir), "-"), "-.")
	if id == "" {
		return "bundle"
	}
	return id
}

// stopSignal reads a signal as image configs have it: SIGINT, INT, 2, SIGRTMIN+3.
func stopSignal(s string) (name string, number int, ok bool) {
	term, number := "SIGTERM", int(unix.SIGTERM)
	if s == "" {
		return term, number, true
	}
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return term, number, false
		}
		return s, n, true
	}
	name = "SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n := unix.SignalNum(name); n != 0 {
		return name, int(n), true
	}
	// glibc's SIGRTMIN is 34 (signal(7)).
	if n, err := strconv.Atoi(strings.TrimPrefix(name, "SIGRTMIN+")); err == nil && n >= 0 && n <= 30 {
		return name, 34 + n, true
	}
	return term, number, false
}

// restartPolicy translates one of Docker's. limits go into the section Unit: Docker
// never gives up, but where a number of tries is given.
func restartPolicy(s string) (restart, limits string, ok bool) {
	name, count, counted := strings.Cut(s, ":")
	const forever = "StartLimitIntervalSec=0\n"
	switch name {
	case "", "no":
		return "no", "", true
	case "always", "unless-stopped":
		return "always\nRestartSec=1", forever, true
	case "on-failure":
		if !counted {
			return "on-failure\nRestartSec=1", forever, true
		}
		if n, err := strconv.ParseUint(count, 10, 16); err == nil {
			return "on-failure\nRestartSec=1", fmt.Sprintf("StartLimitIntervalSec=1h\nStartLimitBurst=%d\n", n+1), true
		}
	}
	return "no", "", false
}
