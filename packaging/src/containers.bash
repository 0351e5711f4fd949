# The ids of the containers below the --root of this line; nothing once one is named, so that files are offered.
_ocirt_containers() {
    local program=$1 command=${cmd##*__} root=() words= ids word i value
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        [[ $word != "$command" ]] || break
        if [[ $word == --root || $word == -r ]]; then
            # bash takes --root=DIR for three words.
            [[ ${COMP_WORDS[i + 1]} != = ]] || i=$((i + 1))
            value=${COMP_WORDS[i + 1]}
            root=(--root "${value/#\~\//$HOME/}")
        fi
    done
    COMPREPLY=()
    for ((; i < COMP_CWORD; i++)); do
        words+=" ${COMP_WORDS[i]} "
    done
    ids=$("$program" "${root[@]}" list --quiet 2>/dev/null)
    if [[ $command == mounts && $words != *" add "* && $words != *" remove "* ]]; then
        ids='add remove'
    fi
    for word in $ids; do
        [[ $words != *" $word "* ]] || return 0
    done
    COMPREPLY=($(compgen -W "$ids" -- "$cur"))
}
