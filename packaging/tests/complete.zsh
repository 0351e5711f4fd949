# What zsh offers at the end of a line, one a line: DIRECTORY LINE. Completion works on a terminal alone, so there is one.
zmodload zsh/zpty
zpty shell "zsh -f -i"
wait_for() {
    local out
    answer=
    while zpty -r shell out; do
        answer+=$out
        [[ $answer != *$1* ]] || return 0
    done
    exit 1
}
zpty -w shell "PROMPT=; unsetopt zle_bracketed_paste; fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D"
# Instead of being shown, what is offered is printed.
zpty -w shell 'compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
    local -a hits
    builtin compadd -A hits "$@"
    print -l -- "<"$^hits">"
}'
zpty -w shell 'finished() { print "DO""NE" }; comppostfuncs=(finished)'
zpty -w shell 'bindkey "^I" complete-word; print REA""DY'
wait_for READY
zpty -n -w shell "$2"$'\t'
wait_for DONE
print -r -- "$answer" | grep -o '<[^>]*>' | tr -d '<>'
zpty -d shell
