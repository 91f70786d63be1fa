# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153  # parts of one script: names are shared
# What must be there: root, Debian, cargo, space, packages, programs.

readonly RUST_AT_LEAST=1.95
readonly RUN_PACKAGES=(xvfb openbox dbus python3 xdotool gnumeric libpam-modules passwd procps util-linux e2fsprogs)
readonly BUILD_PACKAGES=(gcc libc6-dev libpam0g-dev make pkg-config)
readonly BUILT=(robotd robotd-broker robotd-session robotd-attendant robotd-egress robotd-unpack robotjob robotctl robot-orchestrator)
readonly BUILD_MIB=4096 STATE_MIB=1024

# Who builds: never root when a person used sudo.
BUILDER='' CARGO='' AS_BUILDER=(env) BUILT_IN=''

need_root() {
    [ "$(id -u)" = 0 ] || stop_words "run it as root: sudo packaging/quickstart.sh (it makes accounts and opens sessions)"
}

alone() { # one quickstart at a time; the lock goes with this process
    exec 9>"$LOCK"
    if ! flock -n 9 || ! [ /proc/self/fd/9 -ef "$LOCK" ]; then
        stop_words "another quickstart runs on this machine; wait for its end"
    fi
}

systemd_runs() { [ -d /run/systemd/system ]; }

refuse_installed() {
    local found
    for found in /usr/bin/robotd /usr/bin/robot-orchestrator /usr/libexec/robotd/robotd-broker /lib/systemd/system/robotd.service; do
        [ ! -e "$found" ] || stop_words "robotd is installed on this machine ($found); a quickstart beside it could disturb its jobs, so take another machine or remove the package first"
    done
    if [ -e "$STATE/kept" ]; then
        stop_words "a quickstart was kept up; take it down first: sudo packaging/quickstart.sh --down"
    fi
}

remove_left_over() { # by a run that was killed
    if [ -e "$STATE" ]; then remove_all; fi
}

output_folder() {
    OUT=$(mktemp -d /var/tmp/robotd-quickstart-XXXXXX) || stop_words "no folder can be made in /var/tmp"
    LOGS=$OUT/logs
    mkdir "$LOGS"
}

free_mib() { df --output=avail -m "$1" | tail -1 | tr -d ' '; }

enough_space() { # PLACE MIB
    local free
    free=$(free_mib "$1")
    [ "$free" -ge "$2" ] && return
    DETAIL="only $free MiB are free in $1, $2 MiB are needed: free some and run this again"
    return 1
}

check_machine() {
    if ! [ -r /etc/os-release ] || ! command -v apt-get >/dev/null; then
        DETAIL='this is no Debian (apt-get is missing); quickstart knows Debian 12 and 13 only'
        return 1
    fi
    enough_space /var/lib "$STATE_MIB" || return
    find_builder
    if [ "$BUILD" = yes ]; then
        find_cargo && enough_space "$ROOT" "$BUILD_MIB" || return
    fi
    # shellcheck source=/dev/null
    DETAIL="$(. /etc/os-release && echo "$PRETTY_NAME"), $(nproc) cores, $(($(free_mib /var/lib) / 1024)) GiB free"
}

find_builder() {
    BUILDER=${SUDO_USER:-root}
    as_builder_is "$BUILDER" ''
    "${AS_BUILDER[@]}" test -w "$ROOT" 2>/dev/null || as_builder_is root ''
}

# runuser without -c or -l: those make a session of their own, which Ctrl-C would not end.
as_builder_is() { # USER FOLDER-OF-CARGO
    local home
    BUILDER=$1 AS_BUILDER=(env PATH="${2:+$2:}$PATH")
    [ "$1" != root ] || return 0
    home=$(getent passwd "$1" | cut -d: -f6)
    AS_BUILDER=(runuser -u "$1" -- env HOME="$home" PATH="${2:+$2:}$PATH")
}

# sudo's secure_path hides ~/.cargo/bin.
find_cargo() {
    local place version
    for place in "$(getent passwd "$BUILDER" | cut -d: -f6)/.cargo/bin/cargo" "$(command -v cargo)" /usr/local/cargo/bin/cargo; do
        if [ -n "$place" ] && "${AS_BUILDER[@]}" test -x "$place"; then CARGO=$place; break; fi
    done
    if [ -z "$CARGO" ]; then
        DETAIL="cargo is not found for $BUILDER; install Rust $RUST_AT_LEAST or newer as $BUILDER from https://rustup.rs and run this again"
        return 1
    fi
    as_builder_is "$BUILDER" "$(dirname "$CARGO")"
    version=$("${AS_BUILDER[@]}" "$CARGO" --version 2>>"$STEP_LOG" | cut -d' ' -f2)
    [ "$(printf '%s\n' "$RUST_AT_LEAST" "${version:-0}" | sort -V | head -1)" = "$RUST_AT_LEAST" ] && return
    DETAIL="$CARGO is version ${version:-unknown}, $RUST_AT_LEAST or newer is needed: rustup update stable"
    return 1
}

missing_packages() {
    local name wanted=("${RUN_PACKAGES[@]}")
    [ "$BUILD" = no ] || wanted+=("${BUILD_PACKAGES[@]}")
    ! systemd_runs || wanted+=(libpam-systemd)
    for name in "${wanted[@]}"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || echo "$name"
    done
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages)
    if [ ${#missing[@]} = 0 ]; then
        DETAIL='all there'
    elif [ "$INSTALL" = no ]; then
        DETAIL="missing: apt-get install ${missing[*]}"
        return 1
    else
        DETAIL="apt-get could not install ${missing[*]}; look at its log"
        quietly apt-get update -q || return
        quietly env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" || return
        DETAIL="${#missing[@]} installed; they stay"
    fi
}

target_folder() {
    local folder=$ROOT/target
    [ -z "$CARGO" ] || folder=$("${AS_BUILDER[@]}" "$CARGO" metadata --no-deps --offline --format-version 1 --manifest-path "$ROOT/Cargo.toml" 2>>"$STEP_LOG" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])') || folder=${CARGO_TARGET_DIR:-$ROOT/target}
    case $PROFILE in release) echo "$folder/release" ;; *) echo "$folder/debug" ;; esac
}

build_programs() {
    local program
    if [ "$BUILD" = yes ]; then
        [ ! -t 1 ] || printf ' %s(a few minutes the first time; its log: %s)%s' "$DIM" "$STEP_LOG" "$PLAIN"
        DETAIL='cargo build failed'
        quietly "${AS_BUILDER[@]}" "$CARGO" build --manifest-path "$ROOT/Cargo.toml" --workspace --bins --locked --profile "$PROFILE" || return
    fi
    BUILT_IN=$(target_folder)
    for program in "${BUILT[@]}"; do
        [ -x "$BUILT_IN/$program" ] && continue
        DETAIL="$BUILT_IN/$program is not built; run this without --no-build"
        return 1
    done
    DETAIL="$BUILT_IN"
}
