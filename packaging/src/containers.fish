# The ids of the containers below the --root of this line; nothing once one is named.
function __fish_ocirt_containers
    set -l words (commandline -opc)
    set -l program $words[1]
    set -e words[1]
    argparse -s (__fish_ocirt_global_optspecs) -- $words 2>/dev/null
    or return
    if test $argv[1] = mounts; and not contains -- add $argv; and not contains -- remove $argv
        printf '%s\n' add remove
        return
    end
    set -l root
    if set -q _flag_root
        set root --root=(string replace -r '^~/' "$HOME/" -- $_flag_root[-1])
    end
    set -l ids ($program $root list --quiet 2>/dev/null)
    for id in $ids
        contains -- $id $argv
        and return
    end
    printf '%s\n' $ids
end
