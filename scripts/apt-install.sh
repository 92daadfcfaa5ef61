#!/usr/bin/env bash
# Installs Debian packages without letting them start a service: a Mosquitto on port 1883 is none of a test's business,
# and the tests start a PostgreSQL and a Redis of their own.
# Usage: scripts/apt-install.sh env -- PACKAGE...        as root
#        scripts/apt-install.sh sudo -n -- PACKAGE...    with sudo
set -euo pipefail

as_root=()
while [ "$1" != -- ]; do as_root+=("$1"); shift; done
shift

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    # invoke-rc.d asks this file before it starts anything; 101 means "not allowed".
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi

log=$(mktemp)
run() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" >"$log" 2>&1 </dev/null; }

if ! run install --yes --no-install-recommends "$@"; then
    # The package list may be absent or old: renew it once, then try again.
    run update || true
    run install --yes --no-install-recommends "$@" || {
        cat "$log" >&2
        echo "setup: apt-get could not install $*; its words are above" >&2
        exit 3
    }
fi

# Not at the next boot either, where a package brought a unit of its own name.
if command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then
    for package in "$@"; do "${as_root[@]}" systemctl disable --now --quiet "$package" 2>/dev/null || true; done
fi
