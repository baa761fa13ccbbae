package cli

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

func (p *program) manCommand() *cli.Command {
	return p.command("man", "", "print the manual page: ocibundle man | man -l -", nil, p.man)
}

// man prints the manual page.
func (p *program) man(positional []string) error {
	if len(positional) > 0 {
		return usagef("unexpected argument %q", positional[0]).hint("ocibundle man | man -l -")
	}
	_, err := io.WriteString(p.stdout, manual(p.pages(), buildDate()))
	return err
}

// buildDate is the day of the commit that was built, or else of the program's
// file.
func buildDate() time.Time {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if t, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				return t
			}
		}
	}
	if path, err := os.Executable(); err == nil {
		if fi, err := os.Stat(path); err == nil {
			return fi.ModTime()
		}
	}
	return time.Unix(0, 0)
}

// section is a part of the manual that no table has. Lines that start with a
// space are shown as they are.
type section struct {
	heading string
	text    []string
}

var manualSections = []section{
	{"BUNDLES", []string{
		"A bundle is a directory with rootfs and a config.json that has an ociVersion. Its directory is made beside DIR, with mode 0700, " +
			"and renamed once all of it is there, so that DIR is never half a bundle and nobody else can reach its setuid files. After an error nothing is left. " +
			"For make(1), DIR/config.json is the target to name: it is written last, and carries the time at which the bundle appeared.",
		"With -o - the bundle is written to standard output as a tar stream, rootfs first, then config.json, while the container's " +
			"filesystem comes in. That takes no disk, no privilege and no user namespace: the ids of the mapping are in the headers, for a root to unpack, " +
			"on another machine perhaps. Who unpacks it as an ordinary user owns all of it. After an error the stream ends in a way that its reader takes for a cut. " +
			"What earlier entries made and a later one removes, a directory that is not empty for one, cannot be taken back: that is refused, and -o DIR is the way.",
	}},
	{"OWNERSHIP", []string{
		"--remap none keeps the ids of the stream, and needs root. --remap subid maps 0 to the caller and what follows to the caller's ranges in " +
			"/etc/subuid and /etc/subgid. --remap self gives everything to the caller and keeps the real ids in the attribute user.rootlesscontainers. " +
			"--remap auto, the default, is none for root; for others it is subid where ranges and helpers exist, and else self. --uidmap and --gidmap give a mapping in full. " +
			"config.json has the same mapping. An id that it lacks is an error that names the entry. File capabilities are kept.",
		"What cannot be kept, a device node or an attribute that the filesystem refuses, is counted, and warned of once per kind. --json has the counts.",
	}},
	{"EDITS", []string{
		"The base is a template: what runc spec writes, what docker run gives, or a file. Then come the edits.",
		aboutEdits,
		"They are tried before the stream is read, so that a bad edit costs nothing. Only the final document is checked: unknown members, wrong types and " +
			"missing members are errors that name the edit that brought them in.",
	}},
	{"STREAMS", []string{
		"Compression (gzip, bzip2, xz, zstd) is detected and decoded without a helper program. A stream is complete only with its end-of-archive marker: " +
			"one that was cut is an error, also where the cut falls between two entries. Every name is resolved within the rootfs, as if chrooted; " +
			"an entry that would leave it is refused.",
	}},
}

var manualExamples = []section{
	{"A container becomes a bundle, and runs:", []string{
		" docker export web | ocibundle -o web -- /usr/bin/web", " runc run --bundle web web",
	}},
	{"The same on another machine, with ids of its own:", []string{
		" docker export web | ocibundle -o - --uidmap 0:100000:65536 -- /usr/bin/web |", "     ssh root@host tar -C /srv/web -x --xattrs",
	}},
	{"Without a network namespace, and with a limit raised:", []string{
		" docker export web | ocibundle -o web --net host --ulimit nofile=4096", " ocibundle edit web --remove '/linux/namespaces/[type=cgroup]'",
	}},
	{"The way back, and away:", []string{
		" ocibundle export web | docker import - web:edited", " ocibundle rm web",
	}},
}

// manual is the manual page in the language of man(7).
func manual(pages []page, date time.Time) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	paragraphs := func(text []string) {
		for i, t := range text {
			if i > 0 {
				line(".PP")
			}
			line("%s", roffText(t))
		}
	}
	number, _, _ := strings.Cut(version(), " ")
	line(`.TH OCIBUNDLE 1 %s "ocibundle %s" "User Commands"`, date.UTC().Format(time.DateOnly), roff(number))
	line(".SH NAME")
	line(`ocibundle \- %s`, roff(appUsage))
	line(".SH SYNOPSIS")
	line("%s", syntax(mainSyntax))
	for _, p := range pages[1:] {
		line(".br")
		line("%s", syntax(strings.TrimSpace("ocibundle "+p.name+" "+p.arguments)))
	}
	line(".SH DESCRIPTION")
	line("%s", roffText(description))
	line(".SH OPTIONS")
	flags := func(defs []*flagDef) {
		for _, d := range defs {
			line(".TP\n%s\n%s", roffFlag(d), roffText(sentence(d.usage)))
		}
	}
	inSections(pages[0].flags, func(category string, defs []*flagDef) {
		line(".SS %s", roff(category))
		flags(defs)
	})
	line(".SH COMMANDS")
	for _, p := range pages[1:] {
		line(".SS %s", roff(strings.TrimSpace("ocibundle "+p.name+" "+p.arguments)))
		line("%s", roffText(sentence(p.usage)))
		if slices.ContainsFunc(p.flags, isEdit) {
			line("It takes all edit flags of the main job.")
		}
		flags(slices.DeleteFunc(slices.Clone(p.flags), func(d *flagDef) bool { return isEdit(d) || d == helpDefs[0] }))
	}
	for _, s := range manualSections {
		line(".SH %s", s.heading)
		paragraphs(s.text)
	}
	line(".SH EXIT STATUS")
	for _, s := range exitStatuses {
		line(".TP\n.B %s\n%s", roff(s.code), roffText(s.full))
	}
	line(".SH EXAMPLES")
	for i, e := range manualExamples {
		if i > 0 {
			line(".PP")
		}
		line("%s\n.PP\n.nf\n.RS 4", roffText(e.heading))
		for _, l := range e.text {
			line("%s", roff(strings.TrimPrefix(l, " ")))
		}
		line(".RE\n.fi")
	}
	line(".SH SEE ALSO")
	line(".BR runc (8),\n.BR crun (1),\n.BR docker (1),\n.BR tar (1),\n.BR subuid (5),\n.BR user_namespaces (7)")
	return b.String()
}

func isEdit(d *flagDef) bool { return editsByDef[d] != nil }

// sentence gives a line of --help a capital and a full stop.
func sentence(s string) string {
	if first, _, _ := strings.Cut(s, " "); strings.Contains(first, "=") {
		return s + "." // what is to be typed
	}
	return strings.ToUpper(s[:1]) + strings.TrimSuffix(s[1:], ".") + "."
}

// roff quotes text: what roff would take for an escape, and what it would set
// as a typographic sign where the ASCII one is meant.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `'`, `\(aq`, "`", `\(ga`, `^`, `\(ha`, `~`, `\(ti`, `"`, `\(dq`).Replace(s)
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

var sentenceEnd = regexp.MustCompile(`([^.]\.) `)

// roffText is a paragraph, one sentence on a line.
func roffText(s string) string { return sentenceEnd.ReplaceAllString(roff(s), "$1\n") }

// roffFlag is the heading of a flag: names bold, the value italic.
func roffFlag(d *flagDef) string {
	names, value := d.spelling(), ""
	if d.value != "" {
		i := strings.LastIndex(names, d.value)
		end := names[i+len(d.value):]
		names, value = names[:i], `\fI`+roff(d.value)+`\fR`+end
		if d.optional {
			names, value = strings.TrimSuffix(names, "["), "["+value
		}
	}
	var parts []string
	for n := range strings.SplitSeq(strings.TrimSpace(names), ", ") {
		parts = append(parts, `\fB`+roff(n)+`\fR`)
	}
	if value != "" && !d.optional {
		value = " " + value
	}
	return strings.Join(parts, ", ") + value
}

// syntax is a line of the synopsis: what is to be written bold, the rest as it
// is.
func syntax(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		if w == strings.ToLower(w) && !strings.ContainsAny(w, "[]|.") {
			words[i] = `\fB` + roff(w) + `\fR`
		} else {
			words[i] = roff(w)
		}
	}
	return strings.Join(words, " ")
}
