package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// shells make a completion script of the pages.
var shells = []struct {
	name  string
	write func(w io.Writer, pages []page)
}{{"bash", writeBash}, {"zsh", writeZsh}, {"fish", writeFish}}

func (p *program) completionCommand() *cli.Command {
	var names []string
	for _, s := range shells {
		names = append(names, s.name)
	}
	return p.command("completion", strings.Join(names, "|"), "print a script that completes commands and flags in a shell", nil, p.completion)
}

// completion prints a completion script.
func (p *program) completion(positional []string) error {
	const hint = "bash: source <(ocibundle completion bash); zsh: ocibundle completion zsh > DIR/_ocibundle, with DIR in fpath; " +
		"fish: ocibundle completion fish | source"
	if len(positional) != 1 {
		return usagef("%d shells were named, not one", len(positional)).hint(hint)
	}
	for _, s := range shells {
		if s.name == positional[0] {
			var b strings.Builder
			s.write(&b, p.pages())
			_, err := io.WriteString(p.stdout, b.String())
			return err
		}
	}
	return usagef("there is no completion for %q", positional[0]).hint(hint)
}

// candidates are what a value may be, read off its placeholder: words in lower
// case are themselves.
type candidates struct {
	words       []string
	files, dirs bool
}

func (c candidates) none() bool { return len(c.words) == 0 && !c.files && !c.dirs }

func candidatesFor(placeholder string) candidates {
	var c candidates
	for _, alternative := range strings.Split(placeholder, "|") {
		switch first, _, _ := strings.Cut(alternative, ":"); {
		case alternative == "BOOL":
			c.words = append(c.words, "true", "false")
		case alternative != "" && strings.Trim(alternative, "abcdefghijklmnopqrstuvwxyz") == "":
			c.words = append(c.words, alternative)
		case alternative == "DIR":
			c.dirs = true
		case first == "FILE", first == "PATH", first == "SRC", first == "HOST":
			c.files = true
		}
	}
	return c
}

// candidates are what the positional arguments of a command may be.
func (p page) candidates() candidates {
	var c candidates
	for _, word := range strings.Fields(p.arguments) {
		if word == "--" {
			break
		}
		switch {
		case strings.HasPrefix(word, "["):
		case strings.HasPrefix(word, "DIR"):
			c.dirs = true
		case strings.HasSuffix(word, ".json"):
			c.files = true
		default:
			c.words = append(c.words, candidatesFor(word).words...)
		}
	}
	return c
}

func commandNames(pages []page) []string {
	var names []string
	for _, p := range pages[1:] {
		names = append(names, p.name)
	}
	return names
}

// spellings are all names of all flags, with their dashes.
func spellings(defs []*flagDef) []string {
	var out []string
	for _, d := range defs {
		for _, n := range d.names {
			out = append(out, dashed(n))
		}
	}
	return out
}

const bashHead = `# Completion of ocibundle for bash. Either source it, or put it into
# ~/.local/share/bash-completion/completions/ocibundle.
_ocibundle()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local command= flag= prefix= words= paths= i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == -- ]]; then
            return # the container's command
        fi
    done
    if ((COMP_CWORD > 1)); then
        case ${COMP_WORDS[1]} in
            %s) command=${COMP_WORDS[1]} ;;
        esac
    fi
    # What stands before the value: "--flag", or with an equals sign "--flag=".
    # Where "=" is in COMP_WORDBREAKS, it is a word by itself.
    if [[ $cur == -*=* ]]; then
        flag=${cur%%%%=*}= prefix=${cur%%%%=*}= cur=${cur#*=}
    elif [[ $cur == = ]]; then
        flag=$prev= cur=
    elif [[ $prev == = ]]; then
        flag=${COMP_WORDS[COMP_CWORD-2]}=
    elif [[ $prev == -* ]]; then
        flag=$prev
    fi
    case $command:$flag in
`

const bashTail = `    esac
    compopt -o filenames 2>/dev/null
    case $paths in
        files) mapfile -t COMPREPLY < <(compgen -P "$prefix" -W "$words" -- "$cur"; compgen -P "$prefix" -f -- "$cur") ;;
        dirs) mapfile -t COMPREPLY < <(compgen -P "$prefix" -W "$words" -- "$cur"; compgen -P "$prefix" -d -- "$cur") ;;
        *)
            compopt +o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -P "$prefix" -W "$words" -- "$cur")
            ;;
    esac
} && complete -F _ocibundle ocibundle
`

// writeBash needs nothing but bash itself.
func writeBash(w io.Writer, pages []page) {
	set := func(c candidates) string {
		s := fmt.Sprintf("words='%s'", strings.Join(c.words, " "))
		switch {
		case c.files:
			s += " paths=files"
		case c.dirs:
			s += " paths=dirs"
		}
		return s
	}
	fmt.Fprintf(w, bashHead, strings.Join(commandNames(pages), "|"))
	for _, p := range pages {
		for _, d := range p.flags {
			if d.value == "" {
				continue
			}
			var patterns []string
			for _, s := range spellings([]*flagDef{d}) {
				if !d.optional {
					patterns = append(patterns, p.name+":"+s)
				}
				patterns = append(patterns, p.name+":"+s+"=")
			}
			fmt.Fprintf(w, "        %s) %s ;;\n", strings.Join(patterns, "|"), set(candidatesFor(d.value)))
		}
	}
	for _, p := range pages {
		fmt.Fprintf(w, "        %s:*)\n            if [[ $cur == -* ]]; then\n                words='%s'\n", p.name, strings.Join(spellings(p.flags), " "))
		if p.name == "" {
			fmt.Fprintf(w, "            elif ((COMP_CWORD == 1)); then\n                words='%s'\n", strings.Join(commandNames(pages), " "))
		} else if c := p.candidates(); !c.none() {
			fmt.Fprintf(w, "            else\n                %s\n", set(c))
		}
		fmt.Fprint(w, "            fi\n            ;;\n")
	}
	io.WriteString(w, bashTail)
}

// zshQuote is text within single quotes and within a specification of
// _arguments, where a colon or bracket ends something.
func zshQuote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `[`, `\[`, `]`, `\]`, `'`, `'\''`).Replace(s)
}

const zshTail = `
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _ocibundle "$@"
else
    compdef _ocibundle ocibundle
fi
`

func writeZsh(w io.Writer, pages []page) {
	action := func(c candidates) string {
		words := strings.Join(c.words, " ")
		switch {
		case c.files && words != "":
			return " _ocibundle_or_files " + words
		case c.files:
			return "_files"
		case c.dirs:
			return "_files -/"
		case words != "":
			return "(" + words + ")"
		}
		return " " // a value of which nothing is known
	}
	fmt.Fprint(w, `#compdef ocibundle
# Completion of ocibundle for zsh. Put it into a directory of fpath as
# _ocibundle, or source it after compinit.

_ocibundle_or_files() {
    _alternative "values:value:($*)" 'files:file:_files'
}

_ocibundle_commands() {
    local -a commands=(
`)
	for _, p := range pages[1:] {
		fmt.Fprintf(w, "        '%s:%s'\n", p.name, strings.NewReplacer(`\`, `\\`, `:`, `\:`, `'`, `'\''`).Replace(p.usage))
	}
	fmt.Fprint(w, `    )
    _describe command commands
}

_ocibundle() {
    local command=
    local -a args
    if ((CURRENT > 2)); then
        case $words[2] in
`)
	fmt.Fprintf(w, "            %s)\n                command=$words[2]\n                shift words\n                ((CURRENT--))\n                ;;\n", strings.Join(commandNames(pages), "|"))
	fmt.Fprint(w, "        esac\n    fi\n    case $command in\n")
	for _, p := range pages {
		fmt.Fprintf(w, "        %s)\n            args=(\n", "'"+p.name+"'")
		for _, d := range p.flags {
			for _, n := range d.names {
				spec := dashed(n)
				long := len(n) > 1
				switch {
				case d.optional && long:
					spec += "=-"
				case d.value != "" && !d.optional && long:
					spec += "="
				}
				spec += "[" + zshQuote(d.usage) + "]"
				switch {
				case d.optional && long:
					spec += "::" + zshQuote(d.value) + ":" + action(candidatesFor(d.value))
				case d.value != "" && !d.optional:
					spec += ":" + zshQuote(d.value) + ":" + action(candidatesFor(d.value))
				}
				fmt.Fprintf(w, "                '*%s'\n", spec)
			}
		}
		if p.name == "" {
			fmt.Fprint(w, "                '1:command:_ocibundle_commands'\n")
		} else if c := p.candidates(); !c.none() {
			fmt.Fprintf(w, "                '*:argument:%s'\n", action(c))
		}
		fmt.Fprint(w, "            )\n            ;;\n")
	}
	fmt.Fprint(w, "    esac\n    _arguments -S : $args\n}\n")
	io.WriteString(w, zshTail)
}

func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func writeFish(w io.Writer, pages []page) {
	fmt.Fprintf(w, `# Completion of ocibundle for fish. Put it into ~/.config/fish/completions/ocibundle.fish.

# __ocibundle_in COMMAND: the command line is that command's; '' is the main job.
function __ocibundle_in --argument-names want
    set -l words (commandline -opc)
    contains -- -- $words; and return 1
    set -l command ''
    contains -- "$words[2]" %s; and set command $words[2]
    test "$command" = "$want"
end

function __ocibundle_first
    test (count (commandline -opc)) -eq 1
end

complete -c ocibundle -f
`, strings.Join(commandNames(pages), " "))
	values := func(c candidates) string {
		words := slices.Clone(c.words)
		if c.dirs {
			words = append(words, "(__fish_complete_directories)")
		}
		s := ""
		if len(words) > 0 {
			s += " -a " + fishQuote(strings.Join(words, " "))
		}
		if c.files {
			s += " -F"
		}
		return s
	}
	for _, p := range pages[1:] {
		fmt.Fprintf(w, "complete -c ocibundle -n __ocibundle_first -a %s -d %s\n", p.name, fishQuote(p.usage))
	}
	for _, p := range pages {
		in := fmt.Sprintf("complete -c ocibundle -n %s", fishQuote("__ocibundle_in "+fishQuote(p.name)))
		for _, d := range p.flags {
			line := in
			for _, n := range d.names {
				if len(n) == 1 {
					line += " -s " + n
				} else {
					line += " -l " + n
				}
			}
			if d.value != "" {
				c := candidatesFor(d.value)
				switch {
				case d.optional:
				case c.files:
					line += " -r"
				default:
					line += " -x"
				}
				line += values(c)
			}
			fmt.Fprintln(w, line, "-d", fishQuote(d.usage))
		}
		if c := p.candidates(); p.name != "" && !c.none() {
			fmt.Fprintln(w, in+values(c))
		}
	}
}
