#!/bin/sh
# A runtime whose containers are processes and no more: `program` of the bundle is init's script, `exec` that of execs.
# Its command lines are in `calls` of the bundle, one a line, and the variables that it has had in `variables`.
while :; do
    case $1 in
        --root) root=$2; shift 2 ;;
        --log) log=$2; shift 2 ;;
        --log-format) shift 2 ;;
        --systemd-cgroup) shift ;;
        *) break ;;
    esac
done
bundle=${log%/*}
echo "$*" >>"$bundle/calls"
export -p >>"$bundle/variables"
command=$1
shift
[ "$command" = kill ] || for id; do :; done
[ "$command" != kill ] || { [ "$1" != --all ] || shift; [ "$1" != -- ] || shift; id=$1; }
pid_file=
console=
previous=
for word; do
    [ "$previous" != --pid-file ] || pid_file=$word
    [ "$previous" != --console-socket ] || console=$word
    previous=$word
done
state=$root/$id
# What the test has it hang in.
[ "$command" != "$(cat "$bundle/hangs" 2>/dev/null)" ] || exec sleep 1000.75
exec 6<&0
case $command in
    create)
        mkdir -p "$state"
        sh -c 'while [ ! -e "$0/started" ]; do [ -d "$0" ] || exit 1; sleep 0.02; done; exec sh "$1" <&6 6<&-' "$state" "$bundle/program" &
        printf %s $! >"$state/pid"
        # The test sends the terminal.
        while [ -n "$console" ] && [ ! -e "$bundle/sent" ]; do sleep 0.02; done
        cp "$state/pid" "$pid_file"
        # A runtime with a fault.
        [ ! -e "$bundle/foreign" ] || cp "$bundle/foreign" "$pid_file"
        ;;
    restore)
        mkdir -p "$state"
        sh "$bundle/program" <&6 6<&- &
        printf %s $! >"$state/pid"
        # A shell that waits for this would wait for init as well, if it had ended.
        exec cp "$state/pid" "$pid_file"
        ;;
    start) : >"$state/started" ;;
    exec)
        sh "$bundle/exec" <&6 6<&- &
        printf %s $! >"$pid_file"
        # One that hangs when its work is done.
        [ ! -e "$bundle/lingers" ] || { : >"$bundle/lingers.now"; exec sleep 1000.75; }
        ;;
    kill) for signal; do :; done; kill "-$signal" "$(cat "$state/pid")" ;;
    delete) kill -9 "$(cat "$state/pid")" 2>/dev/null; rm -r "$state" ;;
    checkpoint) [ ! -e "$bundle/refuse" ] || { echo '{"level":"error","msg":"criu failed"}' >>"$log"; exit 1; } ;;
    features) echo '{}' ;;
esac
