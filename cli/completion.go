package cli

import (
	"maps"
	"slices"
	"strings"
)

// The scripts ask the program: `ocibundle __complete WORD... LAST` prints what LAST may be, one
// word a line with a tab and its description, after a line that says whether it may be a file
// ("files"), a directory ("dirs"), or neither ("words").
var completionScripts = map[string]string{
	"bash": `# Completion of ocibundle for bash. Either source it, or put it into
# ~/.local/share/bash-completion/completions/ocibundle.
_ocibundle()
{
    local IFS=$'\n' cur=${COMP_WORDS[COMP_CWORD]} kind= prefix= lines i
    lines=($(ocibundle __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    kind=${lines[0]-}
    [[ $cur == = ]] && cur=
    # With = among COMP_WORDBREAKS, what is completed begins behind it.
    [[ $cur == --*=* ]] && prefix=${cur%%=*}=
    COMPREPLY=()
    for ((i = 1; i < ${#lines[@]}; i++)); do
        [[ ${lines[i]} == "${cur#"$prefix"}"* ]] && COMPREPLY+=("$prefix${lines[i]%%$'\t'*}")
    done
    case $kind in
        files) COMPREPLY+=($(compgen -P "$prefix" -f -- "${cur#"$prefix"}")); compopt -o filenames 2>/dev/null ;;
        dirs) COMPREPLY+=($(compgen -P "$prefix" -d -- "${cur#"$prefix"}")); compopt -o filenames 2>/dev/null ;;
    esac
}
complete -F _ocibundle ocibundle
`,
	"zsh": `#compdef ocibundle
# Completion of ocibundle for zsh. Put it as _ocibundle into a directory of fpath.
_ocibundle()
{
    local -a lines candidates
    lines=("${(@f)$(ocibundle __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    candidates=("${(@)${(@)lines[2,-1]//:/\\:}//$'\t'/:}")
    compset -P '--[^=]#='
    (( $#lines > 1 )) && _describe -V ocibundle candidates
    case $lines[1] in
        files) _files ;;
        dirs) _files -/ ;;
    esac
}
if [[ $funcstack[1] == _ocibundle ]]; then
    _ocibundle "$@"
else
    compdef _ocibundle ocibundle
fi
`,
	"fish": `# Completion of ocibundle for fish. Put it into ~/.config/fish/completions/ocibundle.fish.
function __ocibundle_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l lines (ocibundle __complete $words[2..] 2>/dev/null)
    set -l prefix (string match -r -- '^--[^=]*=' $words[-1])
    for line in $lines[2..]
        echo "$prefix$line"
    end
    set -l path (string replace -r -- '^--[^=]*=' '' $words[-1])
    switch "$lines[1]"
        case files
            for line in (__fish_complete_path $path)
                echo "$prefix$line"
            end
        case dirs
            for line in (__fish_complete_directories $path)
                echo "$prefix$line"
            end
    end
end
complete -c ocibundle -f -a '(__ocibundle_complete)'
`,
}

func (p *program) completionCommand() *command {
	return &command{name: "completion", arguments: "bash|zsh|fish", usage: "print a script that completes commands and flags in a shell",
		run: p.completion}
}

// completion prints a completion script.
func (p *program) completion(positional []string) error {
	const hint = "bash: source <(ocibundle completion bash); zsh: ocibundle completion zsh > DIR/_ocibundle, with DIR in fpath; " +
		"fish: ocibundle completion fish | source"
	if len(positional) != 1 {
		return usagef("%d shells were named, not one", len(positional)).hint(hint)
	}
	if script, ok := completionScripts[positional[0]]; ok {
		return p.stdout.print(script)
	}
	return usagef("there is no completion for %q", positional[0]).hint(hint)
}

const completeName = "__complete"

func (p *program) completeCommand() *command { return &command{name: completeName, run: p.complete} }

// complete prints what the last of the words of a command line may be.
func (p *program) complete(words []string) error {
	if len(words) == 0 || slices.Contains(words[:len(words)-1], "--") {
		return p.stdout.print("words\n") // the container's command, as in any shell
	}
	words = joinEquals(words)
	cur := words[len(words)-1]
	c := &command{flags: mainDefs()}
	if len(words) == 1 {
		c.arguments = "COMMAND"
	} else if named := p.find(words[0]); named != nil {
		c = named
	}
	var found candidates
	if flag, value, ok := strings.Cut(cur, "="); ok && strings.HasPrefix(flag, "-") {
		found, cur = candidatesOf(c.flags, flag, true), value
	} else if strings.HasPrefix(cur, "-") {
		found = candidates{words: spellings(append(slices.Clone(c.flags), helpFlag))}
	} else if found = candidatesOf(c.flags, words[max(0, len(words)-2)], false); !found.taken {
		found = p.argumentsOf(c)
	}
	return p.stdout.print(found.lines(cur))
}

// joinEquals undoes what bash does with "=" among COMP_WORDBREAKS.
func joinEquals(words []string) (joined []string) {
	for i, w := range words {
		n := len(joined)
		switch {
		case n > 0 && w == "=" && strings.HasPrefix(joined[n-1], "--"):
			joined[n-1] += w
		case n > 0 && i > 0 && words[i-1] == "=" && strings.HasSuffix(joined[n-1], "="):
			joined[n-1] += w
		default:
			joined = append(joined, w)
		}
	}
	return joined
}

// candidates are what a word may be.
type candidates struct {
	words       map[string]string // to their descriptions
	files, dirs bool
	taken       bool // a flag wants the word as its value
}

func (c candidates) lines(start string) string {
	kind := "words"
	if c.files {
		kind = "files"
	} else if c.dirs {
		kind = "dirs"
	}
	lines := []string{kind}
	for _, w := range slices.Sorted(maps.Keys(c.words)) {
		if strings.HasPrefix(w, start) {
			lines = append(lines, strings.TrimSuffix(w+"\t"+c.words[w], "\t"))
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// candidatesOf are those for the value of a flag, read off its placeholder: words in lower case are
// themselves.
func candidatesOf(defs []*flagDef, flag string, equals bool) candidates {
	i := slices.IndexFunc(defs, func(d *flagDef) bool {
		return slices.ContainsFunc(d.names, func(n string) bool { return dashed(n) == flag })
	})
	if i < 0 || defs[i].value == "" || defs[i].optional && !equals {
		return candidates{}
	}
	c := candidates{words: map[string]string{}, taken: true}
	for _, alternative := range strings.Split(defs[i].value, "|") {
		switch first, _, _ := strings.Cut(alternative, ":"); {
		case alternative == "BOOL":
			c.words["true"], c.words["false"] = "", ""
		case strings.Trim(alternative, "abcdefghijklmnopqrstuvwxyz") == "":
			c.words[alternative] = ""
		case alternative == "DIR":
			c.dirs = true
		case first == "FILE", first == "PATH", first == "SRC", first == "HOST":
			c.files = true
		}
	}
	return c
}

// argumentsOf are the candidates for a positional argument of a command.
func (p *program) argumentsOf(c *command) candidates {
	found := candidates{words: map[string]string{}}
	switch first, _, _ := strings.Cut(c.arguments, " "); {
	case strings.Trim(first, "[]") == "COMMAND":
		for _, c := range p.commands() {
			if !c.hidden() {
				found.words[c.name] = c.usage
			}
		}
	case strings.HasPrefix(first, "DIR"):
		found.dirs = true
	case strings.HasSuffix(first, ".json"):
		found.files = true
	case strings.Contains(first, "|"):
		for _, w := range strings.Split(first, "|") {
			found.words[w] = ""
		}
	}
	return found
}

// spellings are all names of all flags, with their dashes.
func spellings(defs []*flagDef) map[string]string {
	all := map[string]string{}
	for _, d := range defs {
		for _, n := range d.names {
			all[dashed(n)] = d.usage
		}
	}
	return all
}
