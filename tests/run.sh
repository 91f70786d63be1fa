#!/usr/bin/env bash
# Everything that says whether robotd is right: format, lints, unit, property, integration and
# end-to-end tests on the real programs, architecture, contract, dependencies, scripts, and the
# package on real systemd. Ends with one line: N passed, N failed, N skipped.
#
#   sudo tests/run.sh               all of it; installs what it needs from Debian and the registries
#   sudo tests/run.sh --only NAME   one step (--list names them; tests need accounts once before)
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

[ "$(id -u)" = 0 ] || { echo "tests/run.sh: run as root: the tests open real sessions, mount and make accounts" >&2; exit 1; }

STEPS=(packages tools accounts format shell contract dependencies build lints tests quickstart testbed)
# Cached between runs; a fresh machine fills it.
TOOLS=${ROBOTD_TOOLS:-/var/cache/robotd-tools}
PASSED=0 FAILED=0 SKIPPED=0 MADE=()
export CARGO_TERM_COLOR=never PATH="$TOOLS/bin:$PATH"

note() { printf '\n== %s\n' "$*"; }

step_packages() {
    local wanted=(libpam0g-dev xvfb tigervnc-standalone-server openbox x11-utils x11-xserver-utils dbus python3 procps at cron keyutils shellcheck
        mmdebstrap e2fsprogs systemd-container iproute2 nftables util-linux gnumeric xdotool gcc make
        chromium libreoffice-calc python3-tk python3-pil) missing=() name
    for name in "${wanted[@]}"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
    done
    # Only for buf, which comes in an npm package; a machine with a node of its own has it.
    command -v npm >/dev/null || missing+=(npm)
    [ ${#missing[@]} = 0 ] && return
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}

tool() { # crate version: built without optimisation, they run for seconds
    [ -x "$TOOLS/bin/$1" ] && "$TOOLS/bin/$1" --version 2>/dev/null | grep -qF "$2" && return
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_PROFILE_RELEASE_DEBUG=0 cargo install --quiet --locked --root "$TOOLS" "$1@$2"
}

step_tools() {
    mkdir -p "$TOOLS/bin"
    tool cargo-deny 0.20.2 && tool cargo-deb 3.8.0 && buf_tool
}

buf_tool() { # the binary comes inside the npm package, no script of it is run
    local version=1.75.0 place=$TOOLS/buf
    [ -x "$TOOLS/bin/buf" ] && "$TOOLS/bin/buf" --version 2>/dev/null | grep -qF "$version" && return
    mkdir -p "$place"
    (cd "$place" && npm pack --silent "@bufbuild/buf-linux-x64@$version" >/dev/null && tar xzf ./*.tgz) &&
        install -m 0755 "$place/package/bin/buf" "$TOOLS/bin/buf"
}

# What the end-to-end tests need of the host; removed again after a whole run.
PAM_FILE=/etc/pam.d/robotd-e2e
step_accounts() {
    local user
    for user in robotd robotd-unpack robotd-journal; do getent passwd "$user" >/dev/null || MADE+=("$user"); done
    packaging/deb/accounts create 12 rbt && install -m 0644 packaging/pam.d/robotd "$PAM_FILE"
}
remove_accounts() {
    local user
    packaging/deb/accounts remove rbt
    rm -f "$PAM_FILE"
    for user in "${MADE[@]}"; do userdel "$user" 2>/dev/null; done
    rm -rf --one-file-system /var/lib/robotd-test /run/robotd-test
}
step_format() { cargo fmt --all --check; }

step_shell() {
    local scripts
    mapfile -t scripts < <(git ls-files | while read -r f; do head -c 64 "$f" | head -1 | grep -qE '^#!.*\b(ba)?sh\b' && echo "$f"; done; git ls-files '*.sh')
    printf '%s\n' "${scripts[@]}" | sort -u | xargs shellcheck -x
}

step_contract() {
    (cd proto && buf lint && buf format -d --exit-code >/dev/null && buf breaking --against baseline.binpb)
}

step_dependencies() { cargo deny --log-level error check bans licenses sources; }
step_lints() { cargo clippy --workspace --all-targets --locked -- -D warnings; }
step_build() { cargo build --workspace --bins --locked; }

step_tests() { counted cargo test --workspace --locked --no-fail-fast; }

counted() { # runs what prints "test result:" lines; every test counts by itself
    local log status
    log=$(mktemp)
    "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    count "$log"
    rm -f "$log"
    return "$status"
}

step_quickstart() { counted tests/quickstart/run; }
step_testbed() { counted tests/testbed/run; }

count() { # adds up "test result:" lines
    local p f i
    read -r p f i < <(awk '/^test result:/ { p += $4; f += $6; i += $8 } END { print p + 0, f + 0, i + 0 }' "$1")
    PASSED=$((PASSED + p)) FAILED=$((FAILED + f)) SKIPPED=$((SKIPPED + i))
    # An ignored test is one that must run and did not.
    [ "$i" = 0 ] || { echo "$i tests were skipped; every test must run"; FAILED=$((FAILED + i)); }
}

run_step() {
    local name=$1 began=$SECONDS before=$FAILED status=0
    note "$name"
    "step_$name" || status=$?
    if [ "$status" = 0 ]; then PASSED=$((PASSED + 1)); else
        [ "$FAILED" != "$before" ] || FAILED=$((FAILED + 1))
        echo "!! $name failed"
    fi
    echo "-- $name: $((SECONDS - began)) s"
    return "$status"
}

case ${1:-} in
--list) printf '%s\n' "${STEPS[@]}"; exit ;;
--only) STEPS=("${2:?which step? see --list}") ;;
'') ;;
*) sed -n '2,8p' "$0" | sed 's/^# \{0,1\}//'; exit 64 ;;
esac

[ ${#STEPS[@]} = 1 ] || trap remove_accounts EXIT
for name in "${STEPS[@]}"; do
    run_step "$name" && continue
    # Nothing after these makes sense without them.
    case $name in packages | tools | accounts | build) break ;; esac
done
echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
[ "$FAILED" = 0 ]
