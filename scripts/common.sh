# What setup.sh and boards.sh share; they set `who`.
say() { printf "$who: %s\n" "$*"; }
die() { printf "$who: %s\n" "$@" >&2; exit 3; }

# apt_install PACKAGE...: as root, or with a sudo that asks nothing; otherwise says what to type.
apt_install() {
    local as_root=(env)
    if [ "$(id -u)" != 0 ]; then as_root=(sudo -n); fi
    if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
        die "missing on this machine: $*" 'Please run this, then try again:' \
            "    sudo apt-get install --no-install-recommends $*"
    fi
    say "installing $* with apt-get"
    scripts/apt-install.sh "${as_root[@]}" -- "$@"
}
