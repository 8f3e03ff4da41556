#!/usr/bin/env bash
# Tries the image of deploy/Containerfile. With an engine it is built and started; without one each step is tried by itself: that what is
# copied is there and sent along, that what is built builds from that alone, that the programs are there, find their libraries on the base,
# and work as somebody who is not root, in a folder that nobody may write to.
#
#   deploy/check.sh                    everything
#   deploy/check.sh --built FOLDER     builds nothing: takes the programs from there
#   deploy/check.sh --steps            never by an engine
set -euo pipefail
cd "${SYNC_BRIDGE_ROOT:-$(dirname "$0")/..}"

built="" engine=yes
while [ $# -gt 0 ]; do
    case "$1" in
        --built) built=$(realpath "$2") engine=no; shift 2 ;;
        --steps) engine=no; shift ;;
        *) echo "error: $1 is not known" >&2; exit 2 ;;
    esac
done

fail() { echo "error: $*" >&2; exit 1; }
file=deploy/Containerfile
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

if [ "$engine" = yes ]; then
    for program in podman docker buildah; do
        if "$program" info >/dev/null 2>&1; then
            [ "$program" = buildah ] && { buildah build -f "$file" -t sync-bridge:check .; exit; }
            "$program" build -f "$file" -t sync-bridge:check .
            for name in sync-bridge sync-bridge-scheduler sync-bridge-worker; do
                "$program" run --rm --read-only --cap-drop ALL --network none sync-bridge:check "$name" --version
            done
            echo "built and started by $program"
            exit
        fi
    done
    echo "no engine is here: step by step"
fi

# The file as an engine reads it: a line for each instruction.
instructions=$(sed -e 's/^[[:space:]]*#.*//' "$file" | sed -e ':a' -e '/\\$/N; s/\\\n//; ta' | grep -v '^[[:space:]]*$')
[ "$(grep -c '^FROM ' <<<"$instructions")" = 2 ] || fail "$file: two stages are expected"

# 1. What is copied from here is there, and is sent along.
sent() { # $1: a path of this folder
    local top=${1%%/*}
    grep -qx "!$top" .dockerignore
}
grep -qx '\*' .dockerignore || fail ".dockerignore lets everything through"
mkdir "$work/context"
while read -r _ words; do
    read -ra words <<<"$words"
    unset 'words[-1]'
    for source in "${words[@]}"; do
        [ -e "$source" ] || fail "$file copies $source, which is not there"
        sent "$source" || fail "$file copies $source, which .dockerignore leaves out"
        cp -R "$source" "$work/context/"
    done
done < <(grep '^COPY ' <<<"$instructions" | grep -v -- '--from=')
while read -r line; do
    [ -e "${line#!}" ] || fail ".dockerignore lets ${line#!} through, which is not there"
    [ -e "$work/context/${line#!}" ] || fail ".dockerignore lets ${line#!} through, which nothing copies"
done < <(grep '^!' .dockerignore)
echo "copied: $(ls "$work/context" | tr '\n' ' ')"

# 2. What is built builds from that alone.
run=$(grep '^RUN ' <<<"$instructions" | sed -e 's/^RUN //' -e 's/--mount=[^ ]*//g')
[ "$(grep -c . <<<"$run")" = 1 ] || fail "$file: one step that builds is expected"
build=$(grep -o 'cargo build[^&]*' <<<"$run")
mapfile -t programs < <(grep -o 'strip -o /programs/[^ ]* [^ ]*' <<<"$run" | sed 's,strip -o /programs/,,')
[ ${#programs[@]} = 3 ] || fail "$file takes ${#programs[@]} programs along, not three"
if [ -z "$built" ]; then
    target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
    (cd "$work/context" && CARGO_TARGET_DIR=$target sh -c "$build") || fail "$build"
    built=$target/release
    echo "built: $build"
else
    [[ "$build" == *--release* && "$build" == *--locked* ]] || fail "$build: a release of what is locked is expected"
fi

# 3. The programs are there. Links first: the programs of a debug build are large.
mkdir "$work/programs"
for program in "${programs[@]}"; do
    read -r name from <<<"$program"
    [ "${from##*/}" = "$name" ] || fail "$file calls $from $name"
    [ -x "$built/$name" ] || fail "$built/$name is not there"
    cp "$built/$name" "$work/programs/$name"
done
ls "$work/programs" | tr '\n' ' '; echo "are there"

# 4. They need no library that the base has not: it has those of libc6 and libgcc-s1, of the release that they were linked on.
base=$(sed -n 's/^FROM debian:\([a-z]*\)-slim.*/\1/p' <<<"$instructions")
[ -n "$base" ] || fail "$file: the base is expected to be debian:RELEASE-slim"
grep -q "^FROM rust:[0-9.]*-slim-$base AS build" <<<"$instructions" || fail "$file builds on another release than $base"
for name in "$work"/programs/*; do
    while read -r library _; do
        case "${library##*/}" in
            linux-vdso.so.1 | ld-linux-*.so.* | libc.so.6 | libm.so.6 | libdl.so.2 | libpthread.so.0 | librt.so.1 | libgcc_s.so.1) ;;
            *) fail "${name##*/} needs $library, which the base has not" ;;
        esac
    done < <(ldd "$name")
done
echo "they need what debian:$base-slim has"

# 5. They work as nobody in particular, where nothing can be written.
user=$(sed -n 's/^USER \([0-9]*\):[0-9]*$/\1/p' <<<"$instructions")
[ "${user:-0}" != 0 ] || fail "$file: a USER by number that is not root is expected"
mkdir "$work/etc"
cp examples/bridge.toml "$work/etc/bridge.toml"
chmod -R a+rX,a-w "$work"
alone=(env -i "PATH=$work/programs" HOME=/nonexistent "SYNC_BRIDGE_CONFIG=$work/etc/bridge.toml")
for variable in $(grep -v '^#' examples/bridge.toml | grep -o '${[A-Z_]*}' | tr -d '${}' | sort -u); do
    alone+=("$variable=postgres://nobody@127.0.0.1:1/${variable,,}")
done
if [ "$(id -u)" = 0 ]; then
    alone=(setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "${alone[@]}")
fi
cd "$work/etc"
"${alone[@]}" /bin/touch "$work/etc/written" 2>/dev/null && fail "the folder can be written to"
for name in sync-bridge sync-bridge-scheduler sync-bridge-worker; do
    "${alone[@]}" "$name" --version
done
[ "$("${alone[@]}" sync-bridge manifests | grep -c '^kind: Deployment')" = 3 ] || fail "sync-bridge manifests does not work there"
for name in sync-bridge-scheduler sync-bridge-worker; do
    # As far as it gets: the queue database of this environment is nowhere, and that is what it says.
    said=$("${alone[@]}" "$name" --health-listen 127.0.0.1:0 2>&1) && fail "$name has no queue database and ended well"
    grep -q 'connecting to the queue database' <<<"$said" || fail "$name: $said"
done
echo "they work as user $user where nothing can be written"
