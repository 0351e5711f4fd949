# The ids of the containers below the --root of this line. ocirt_words is the line; words begins with the command.
_ocirt_containers() {
    local -a root ids expl
    local -i at
    for ((at = 2; at < $#ocirt_words; at++)); do
        case $ocirt_words[at] in
            ($words[1]) break ;;
            (--root=*) root=($ocirt_words[at]) ;;
            (--root | -r) root=(--root $ocirt_words[++at]) ;;
        esac
    done
    ids=(${(f)"$(_call_program containers $ocirt_words[1] $root list --quiet 2>/dev/null)"})
    _wanted containers expl container compadd -a ids
}
