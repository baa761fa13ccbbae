package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ocibundle/tests/testenv"
)

// complete has a shell complete a line. The shells differ in what they give back: see candidates.
var complete = map[string]string{
	// Bash hands over words. Where "=" is in COMP_WORDBREAKS, as it is usually, it is a word by
	// itself.
	"bash": `
source "$1"
words=() line=$2
if [[ ${3-} == breaks ]]; then line=${line//=/ = }; fi
read -ra words <<<"$line"
if [[ $line == *' ' && $line != *'= ' ]]; then words+=(''); fi
COMP_WORDS=("${words[@]}") COMP_CWORD=$((${#words[@]} - 1))
_ocibundle
printf '%s\n' "${COMPREPLY[@]}"
`,
	"fish": `
source $argv[1]
complete -C $argv[2]
`,
	// Zsh completes at a terminal only. There, every match is printed in a line of its own, and a
	// key ends it.
	"zsh": `
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PROMPT= RPROMPT= PS2= KEYTIMEOUT=1; unset zle_bracketed_paste; autoload -Uz compinit; compinit -u -d '${1:h}/dump'; source '$1'
compadd () { local -a hits; builtin compadd -A hits \"\$@\"; print -rl -- '' @\$^hits@; builtin compadd \"\$@\" }
finish () { print -r FINI''SHED }; zle -N finish; bindkey '^X' finish; bindkey '^I' complete-word; LISTMAX=10000
print -r REA''DY"
zpty -r z out '*READY*'
zpty -w -n z "$2"$'\t'$'\x18'
zpty -r z out '*FINISHED*'
print -r -- "$out" | tr -d '\r' | grep -o '^@[^@]*@' | tr -d '@'
true
`,
}

// candidates makes the same of what the shells say: the words alone, without what the line has
// already.
func candidates(out string) []string {
	var words []string
	for line := range strings.Lines(out) {
		word, _, _ := strings.Cut(strings.TrimRight(line, "\n"), "\t") // fish adds a description
		word = strings.TrimSuffix(strings.ReplaceAll(word, `\ `, " "), "/")
		if flag, value, ok := strings.Cut(word, "="); ok {
			if word = value; value == "" {
				word = flag
			}
		}
		if word != "" && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	return words
}

func TestCompletion(t *testing.T) {
	testenv.NeedTool(t, "bash", "fish", "zsh")
	bin := testenv.Binary(t)
	dir := testenv.Dir(t)
	for _, d := range []string{"dir one", "sub"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file.json"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for shell, text := range complete {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			scripts := testenv.Dir(t)
			script, driver := filepath.Join(scripts, "_ocibundle"), filepath.Join(scripts, "driver")
			for path, text := range map[string]string{script: testenv.Output(t, exec.CommandContext(t.Context(), bin, "completion", shell)), driver: text} {
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			testenv.Output(t, exec.CommandContext(t.Context(), shell, "-n", script))
			ask := func(line string, more ...string) []string {
				flag := map[string]string{"bash": "--norc", "fish": "--no-config", "zsh": "-f"}[shell]
				cmd := exec.CommandContext(t.Context(), shell, append([]string{flag, driver, script, line}, more...)...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "HOME="+scripts, "TERM=dumb", "PATH="+filepath.Dir(bin)+":"+os.Getenv("PATH"))
				return candidates(testenv.Output(t, cmd))
			}
			for _, c := range []struct {
				line string
				want string // sorted, with commas between
			}{
				{"ocibundle ex", "export"},
				{"ocibundle completion ", "bash,fish,zsh"},
				{"ocibundle --re", "--read-only,--ref,--remap,--remove,--replace,--resolv"},
				{"ocibundle -o x --remap ", "auto,none,self,subid"},
				{"ocibundle --remap=s", "self,subid"},
				{"ocibundle --tty=", "false,true"},
				{"ocibundle --network p", "private"},
				{"ocibundle -e ", ""},
				{"ocibundle -o ", "dir one,sub"},
				{"ocibundle -i f", "file.json"},
				{"ocibundle edit ", "dir one,sub"},
				{"ocibundle edit sub --env", "--env,--env-file"},
				{"ocibundle rm --", "--force,--help"},
				{"ocibundle diff f", "file.json"},
				{"ocibundle spec --template r", "runc"},
				{"ocibundle -o x -- --re", ""},
			} {
				all := ask(c.line)
				if word := c.line[strings.LastIndexByte(c.line, ' ')+1:]; shell == "fish" && !strings.Contains(word, "=") {
					// fish 4 also offers what has the word in its middle.
					all = slices.DeleteFunc(all, func(s string) bool { return !strings.HasPrefix(s, word) })
				}
				got := strings.Join(all, ",")
				if shell == "fish" && c.line == "ocibundle -o " {
					got = strings.Replace(got, ",file.json", "", 1) // fish offers files where a value has to be
				}
				if got != c.want {
					t.Errorf("%q is completed to %q, want %q", c.line, got, c.want)
				}
				if shell == "bash" && strings.Contains(c.line, "=") {
					if got := strings.Join(ask(c.line, "breaks"), ","); got != c.want {
						t.Errorf("%q, with = as a word, is completed to %q, want %q", c.line, got, c.want)
					}
				}
			}
		})
	}
}

var helpFlag = regexp.MustCompile(`(?m)^ {3}((?:-\w, )?--[\w-]+(?:, --[\w-]+)*)`)

// flagsIn are the flags that a page of --help lists.
func flagsIn(help string) []string {
	var flags []string
	for _, m := range helpFlag.FindAllStringSubmatch(help, -1) {
		flags = append(flags, strings.Split(m[1], ", ")...)
	}
	slices.Sort(flags)
	return flags
}

// TestManualFresh makes the manual page from its source again.
func TestManualFresh(t *testing.T) {
	docs := filepath.Join(testenv.ModuleRoot(t), "docs")
	out := filepath.Join(t.TempDir(), "page")
	generate := exec.CommandContext(t.Context(), "go", "tool", "go-md2man", "-in", "ocibundle.1.md", "-out", out)
	generate.Dir = docs
	testenv.Output(t, generate)
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(docs, "ocibundle.1")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/ocibundle.1 is not what ocibundle.1.md makes: go generate ./docs (%v)", err)
	}
}

// TestPagesAgree compares what --help, the manual and completion know.
func TestPagesAgree(t *testing.T) {
	testenv.NeedTool(t, "groff", "mandoc")
	bin := testenv.Binary(t)
	run := func(args ...string) string { return testenv.Output(t, exec.CommandContext(t.Context(), bin, args...)) }
	page := filepath.Join(t.TempDir(), "ocibundle.1")
	if err := os.WriteFile(page, []byte(run("man")), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, lint := range [][]string{{"groff", "-man", "-ww", "-z", "-K", "utf8", page}, {"mandoc", "-T", "lint", "-W", "warning", page}} {
		if out, err := exec.CommandContext(t.Context(), lint[0], lint[1:]...).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%q: %v\n%s", lint, err, out)
		}
	}
	manual := testenv.Output(t, exec.CommandContext(t.Context(), "mandoc", "-T", "ascii", "-O", "width=200", page))
	manual = regexp.MustCompile(".\b").ReplaceAllString(manual, "") // bold and underlined
	list := func(words ...string) []string {
		_, found, _ := strings.Cut(run(append([]string{"__complete"}, words...)...), "\n")
		return candidates(found)
	}
	commands := list("")
	if len(commands) < 8 {
		t.Errorf("the commands are %q", commands)
	}
	main := run("--help")
	known := map[string]bool{}
	for _, command := range append([]string{""}, commands...) {
		help := main
		if command != "" {
			if !strings.Contains(main, "\n   "+command+" ") {
				t.Errorf("--help says nothing of %s", command)
			}
			if !strings.Contains(manual, "\n   ocibundle "+command) {
				t.Errorf("the manual says nothing of %s", command)
			}
			if command == "help" {
				continue
			}
			help = run(command, "--help")
		}
		flags := flagsIn(help)
		if command != "" {
			flags = append(flags, "--help", "-h")
			slices.Sort(flags)
		}
		if got := list(strings.Fields(command + " -")...); !slices.Equal(got, flags) {
			t.Errorf("%q: completion knows %q\n--help %q", command, got, flags)
		}
		for _, f := range flags {
			known[f] = true
			if !regexp.MustCompile(`(?m)^ {7}(-\S+, )*` + regexp.QuoteMeta(f) + `(,| |\[|$)`).MatchString(manual) {
				t.Errorf("%q: the manual says nothing of %s", command, f)
			}
		}
	}
	source, err := os.ReadFile(filepath.Join(testenv.ModuleRoot(t), "docs/ocibundle.1.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\*\*(-[\w-]+)\*\*(?:, \*\*(-[\w-]+)\*\*)?`).FindAllStringSubmatch(string(source), -1) {
		for _, f := range m[1:] {
			if f != "" && !known[f] {
				t.Errorf("the manual has %s, and no command does", f)
			}
		}
	}
}
