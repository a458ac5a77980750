#!/usr/bin/env bash
# Makes .venv and installs this project into it, on a machine that may have little more than
# git, make and a python3. The Makefile calls it; it may be called again at any time:
#
#   demo/environment.sh python EXTRAS [EXTRAS...]   .venv with these extras of pyproject.toml
#   demo/environment.sh system COMMAND:PACKAGE...   Debian packages for commands that are missing
#
# PYTHON=... chooses the interpreter (3.11 or newer).
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "environment: $*" >&2; }
fail() { say "$*"; exit 1; }

# Runs a command quietly; should it fail, shows the end of what it said.
quietly() {
    local log
    log=$(mktemp)
    if "$@" >"$log" 2>&1 </dev/null; then
        rm -f "$log"
    else
        say "this failed: $*; its last words were:"
        tail -n 25 "$log" | cut -c 1-300 >&2
        rm -f "$log"
        return 1
    fi
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    say "installing the system packages $*"
    quietly apt-get -o DPkg::Lock::Timeout=300 update || say "going on with the package lists as they are"
    quietly apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
}

can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

choose_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer was expected as ${PYTHON:-python3, python3.14, ... or python3.11}" \
        "and is not there: install it, or name it with 'make PYTHON=/path/to/python3.12'."
}

# An interpreter of its own in .venv, with pip, by whichever tool this machine has.
make_venv() {
    local python=$1 version
    rm -rf .venv
    mkdir .venv
    touch .venv/unfinished
    if "$python" -c 'import ensurepip, venv; ensurepip.version()' 2>/dev/null; then
        quietly "$python" -m venv .venv
    elif "$python" -m pip --version >/dev/null 2>&1 && "$python" -c 'import venv' 2>/dev/null; then
        # Debian without python3-venv: the system's pip puts a pip into the new environment.
        quietly "$python" -m venv --without-pip .venv
        quietly "$python" -m pip --python .venv/bin/python install pip
    elif command -v uv >/dev/null; then
        quietly uv venv --quiet --seed --allow-existing --python "$(command -v "$python")" .venv
    elif command -v virtualenv >/dev/null; then
        quietly virtualenv --quiet --python "$(command -v "$python")" .venv
    else
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        can_apt || fail "$python can make no virtual environment here:" \
            "run 'apt-get install python$version-venv' as root, then make again."
        apt_install "python$version-venv"
        quietly "$python" -m venv .venv
    fi
}

# Only what is broken is made again: a working .venv, whoever made it, is kept and added to.
# .venv/unfinished is there while something is under way, and stays when that is killed.
why_make_venv() {
    if [ ! -e .venv ]; then
        echo "there is none yet"
    elif [ -e .venv/unfinished ]; then
        echo "the last one was left unfinished"
    elif ! is_new_enough .venv/bin/python; then
        echo "the last one's Python is gone or older than 3.11"
    fi
}

install_python() {
    local extras name python why wanted=()
    # One at a time. The lock is on a file that is there anyway, and ends with this process.
    exec 9<pyproject.toml
    if ! flock --nonblock 9; then
        say "waiting for another make in this folder"
        flock --wait 1200 9 ||
            fail "another make has been installing for 20 minutes: end it, then make again."
    fi
    why=$(why_make_venv)
    if [ -n "$why" ]; then
        python=$(choose_python)
        say "making .venv with $("$python" --version): $why"
        make_venv "$python"
        rm .venv/unfinished
    fi
    .venv/bin/python -m pip --version >/dev/null 2>&1 ||
        fail "the .venv in this folder was expected to have pip and has none: add it, or remove .venv."
    for name in "$@"; do
        [ ".venv/installed-$name" -nt pyproject.toml ] || wanted+=("$name")
    done
    [ ${#wanted[@]} -gt 0 ] || return 0
    extras=$(IFS=,; echo "${wanted[*]}")
    say "installing this project with its extras '$extras' (a minute or two the first time)"
    # As old as pyproject.toml was read, should it be edited meanwhile.
    for name in "${wanted[@]}"; do touch ".venv/installing-$name"; done
    touch .venv/unfinished
    if ! quietly .venv/bin/python -m pip install --disable-pip-version-check --no-input \
        --editable ".[$extras]"; then
        rm .venv/unfinished .venv/installing-*  # pip itself undid what it had begun
        fail "pip could not install this project: see above, then make again."
    fi
    rm .venv/unfinished
    for name in "${wanted[@]}"; do mv ".venv/installing-$name" ".venv/installed-$name"; done
}

install_system() {
    local pair packages=()
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || packages+=("${pair#*:}")
    done
    [ ${#packages[@]} -gt 0 ] || return 0
    if can_apt; then
        apt_install "${packages[@]}" || say "what needs ${packages[*]} is skipped, or fails where CI=true."
    else
        say "missing here: ${packages[*]}. What needs them is skipped, or fails where CI=true." \
            "To have them, run 'apt-get install ${packages[*]}' as root."
    fi
}

case ${1:-} in
python) install_python "${@:2}" ;;
system) install_system "${@:2}" ;;
*) fail "expected 'python EXTRAS...' or 'system COMMAND:PACKAGE...', found '${1:-nothing}'." ;;
esac
