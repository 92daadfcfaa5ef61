#!/usr/bin/env bash
# Sets up .venv. Usage: scripts/setup.sh run|dev
#   run   what the commands need (for `make demo`)
#   dev   the same, the test tools, and what tests start: Mosquitto, PostgreSQL, Redis, nginx, ip and nft, emulated boards
# A stamp keyed on pyproject.toml, uv.lock, this script and the folder's place makes a second call instantaneous.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:-dev}
venv=.venv
key=$( (pwd; cat pyproject.toml uv.lock scripts/setup.sh scripts/common.sh) | sha256sum | cut -d' ' -f1)

who=setup
. scripts/common.sh
stamped() { [ "$(cat "$venv/.stamp-$1" 2>/dev/null)" = "$key" ]; }

already_done() {
    stamped dev || { [ "$mode" = run ] && stamped run; }
}

find_python() {
    local name
    for name in python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    die 'Python 3.11 or newer is missing. Install it and run this again, on Debian 12:' \
        '    sudo apt-get install python3 python3-venv'
}

# Everything that only apt can bring, asked for at once.
ensure_packages() {
    local packages=()
    if ! venv_works; then "$python" -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv); fi
    if [ "$mode" = dev ]; then
        local PATH=$PATH:/usr/sbin
        command -v mosquitto >/dev/null || packages+=(mosquitto)
        command -v redis-server >/dev/null || packages+=(redis-server)
        command -v nginx >/dev/null || packages+=(nginx-light)
        command -v systemd-analyze >/dev/null || packages+=(systemd)  # to check the unit, not to run anything
        command -v ip >/dev/null || packages+=(iproute2)
        command -v nft >/dev/null || packages+=(nftables)
        compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || packages+=(postgresql)
    fi
    if [ ${#packages[@]} != 0 ]; then apt_install "${packages[@]}"; fi
}

venv_works() {
    [ "$(cat "$venv/.place" 2>/dev/null)" = "$PWD" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1
}

ensure_venv() {
    venv_works && return
    say "making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
    pwd >"$venv/.place"
}

ensure_uv() {
    "$venv/bin/uv" --version >/dev/null 2>&1 && return
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check 'uv>=0.9' ||
        die 'pip could not install uv: see its message above (no network, or an index to configure in pip.conf?)'
}

# What pip has been told about certificates and patience holds for uv too.
borrow_pip_settings() {
    local cert
    cert=$("$venv/bin/python" -m pip config list | sed -nE "s/^(global|install|:env:)\.cert='(.*)'\$/\2/p" | tail -n 1)
    if [ -n "$cert" ]; then export SSL_CERT_FILE="${SSL_CERT_FILE:-$cert}"; fi
    export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-${PIP_DEFAULT_TIMEOUT:-60}}"
}

# uv fetches from the public index that the lock names. Behind a private mirror only pip knows the way: it gets the
# same versions, with the same hashes.
install_libraries() {
    local scope=(--all-extras)
    if [ "$mode" = run ]; then scope+=(--no-dev); fi
    export UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT="$PWD/$venv"
    # Compiled once, here: the live world starts many processes, and each would compile FastAPI anew where the
    # environment forbids writing bytecode.
    export UV_COMPILE_BYTECODE=1
    borrow_pip_settings
    say 'installing the libraries of uv.lock (a minute at most on a usual line)'
    if "$venv/bin/uv" sync --frozen --inexact --quiet "${scope[@]}" 2>"$venv/.uv.log"; then return; fi
    say 'uv could not, trying pip with its own settings'
    install_with_pip "${scope[@]}" || { cat "$venv/.uv.log" >&2; die 'neither uv nor pip could install the libraries'; }
}

install_with_pip() {
    local pip=("$venv/bin/python" -m pip -qq --disable-pip-version-check)
    "$venv/bin/uv" export --frozen --quiet --no-emit-project "$@" -o "$venv/.requirements.txt" >/dev/null
    "${pip[@]}" install --require-hashes -r "$venv/.requirements.txt"
    "${pip[@]}" install hatchling editables
    "${pip[@]}" install --no-deps --no-build-isolation -e .
}

case $mode in run | dev) ;; *) die 'usage: scripts/setup.sh run|dev' ;; esac
if ! already_done; then
    python=$(find_python)
    ensure_packages
    ensure_venv
    ensure_uv
    install_libraries
    echo "$key" >"$venv/.stamp-$mode"
    say 'ready'
fi
# The boards that tests run the firmware on, anew whenever it has changed.
if [ "$mode" = dev ]; then scripts/boards.sh; fi
