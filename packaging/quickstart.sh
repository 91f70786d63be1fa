#!/usr/bin/env bash
# robotd on this machine, from the sources to a real robot's work, in one command.
#
#   sudo packaging/quickstart.sh [OPTION...]
#
# Installs what it needs from Debian, builds, sets up an orchestrator and an agent of their own
# (nothing of theirs is shared with an installed robotd), runs the robot of packaging/examples/invoices
# and takes everything down again. What stays: Debian's packages, the build, and one folder in
# /var/tmp with the document, the screenshots, the logs and the report. The last line is
# "report: PATH", the job as JSON.
#
#   --keep          leave it up afterwards and say what to try next
#   --down          take down what --keep, or an interrupted run, has left
#   --bot FOLDER    run this robot instead of the example
#   --release       build optimised programs, as a package holds them; takes twice as long
#   --no-build      take the programs that are built already
#   --no-install    install nothing from Debian; say what is missing
#   --help          this text
#
# Exit status: 0 the robot succeeded, 1 it or something before it failed, 64 wrong option,
# 130 interrupted.
set -uo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT
# Where everything of a quickstart lies; no path, account or port of an installed robotd is used.
readonly STATE=/var/lib/robotd-quickstart
readonly RUN=/run/robotd-quickstart
readonly PROGRAMS=/usr/local/libexec/robotd-quickstart
readonly PAM_FILE=/etc/pam.d/robotd-quickstart
readonly UNITS=/run/systemd/system
readonly LOCK=/run/robotd-quickstart.lock
readonly PREFIX=rqs
readonly EXAMPLE=$ROOT/packaging/examples/invoices

KEEP=no DOWN=no BUILD=yes INSTALL=yes PROFILE=dev BOT=$EXAMPLE
OUT='' LOGS='' REPORT=''

# shellcheck source-path=SCRIPTDIR source=lib/progress.sh
. "$ROOT/packaging/lib/progress.sh"
# shellcheck source-path=SCRIPTDIR source=lib/needs.sh
. "$ROOT/packaging/lib/needs.sh"
# shellcheck source-path=SCRIPTDIR source=lib/setup.sh
. "$ROOT/packaging/lib/setup.sh"
# shellcheck source-path=SCRIPTDIR source=lib/start.sh
. "$ROOT/packaging/lib/start.sh"
# shellcheck source-path=SCRIPTDIR source=lib/robot.sh
. "$ROOT/packaging/lib/robot.sh"
# shellcheck source-path=SCRIPTDIR source=lib/down.sh
. "$ROOT/packaging/lib/down.sh"

options() {
    while [ $# -gt 0 ]; do
        case $1 in
        --keep) KEEP=yes ;;
        --down) DOWN=yes ;;
        --release) PROFILE=release ;;
        --no-build) BUILD=no ;;
        --no-install) INSTALL=no ;;
        --bot)
            BOT=$(realpath -e "${2:-}" 2>/dev/null) || usage "--bot needs a folder"
            shift
            ;;
        --help | -h)
            sed -n '2,/^set /p' "${BASH_SOURCE[0]}" | sed -n 's/^# \{0,1\}//p'
            exit 0
            ;;
        *) usage "$1 is no option" ;;
        esac
        shift
    done
}

usage() {
    echo "quickstart: $1; see packaging/quickstart.sh --help" >&2
    exit 64
}

main() {
    options "$@"
    need_root
    alone
    trap 'rm -f "$LOCK"' EXIT
    if [ "$DOWN" = yes ]; then
        take_down
        return
    fi
    refuse_installed
    # From here on, whatever ends this script takes everything down.
    trap 'interrupted 130' INT
    trap 'interrupted 143' TERM HUP
    trap finish EXIT
    remove_left_over
    output_folder
    title
    step 'this machine' check_machine
    step 'packages of Debian' install_packages
    step "build" build_programs
    step 'programs, accounts, PAM' set_up
    step 'publisher and policy' write_policy
    step 'orchestrator' start_orchestrator
    step 'broker' start_broker
    step 'robotd, enrolled' start_agent
    step 'robot, signed' push_robot
    run_robot
}

main "$@"
