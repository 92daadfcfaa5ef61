#!/usr/bin/env bash
# Two fleet managers on one PostgreSQL behind nginx, on this machine, to look at and to kill.
# Usage: scripts/two-managers.sh [DIR [OPTION...]]
#   everything is kept in DIR, by default ./two-managers; OPTIONs are more ones of `fleet serve`, for both managers
#   PORT=8080           of nginx, where the API is; the managers take the two ports after it
#   HUB_PORT=1883       of the Event Hub      PG_PORT=5433   of PostgreSQL
#   INVENTORY=FILE      gateways, nodes, keys and rules; without it, one gateway with one node and fresh keys
# Needs PostgreSQL 15 or newer and nginx (scripts/setup.sh dev installs both). Ctrl-C ends all of it; DIR stays.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
bin=$here/.venv/bin
mkdir -p "${1:-two-managers}"
dir=$(cd "${1:-two-managers}" && pwd)
port=${PORT:-8080} hub_port=${HUB_PORT:-1883} pg_port=${PG_PORT:-5433}
inventory=${INVENTORY:-$dir/fleet.json}
PATH=$PATH:/usr/sbin
options=("${@:2}")
children=()

say() { printf '%s\n' "$*"; }
die() { printf 'two-managers: %s\n' "$@" >&2; exit 3; }

end() {
    trap - EXIT INT TERM
    if [ ${#children[@]} != 0 ]; then kill -CONT "${children[@]}" 2>/dev/null || true; fi
    if [ ${#children[@]} != 0 ]; then kill "${children[@]}" 2>/dev/null || true; fi
    wait || true
    if [ -e "$dir/postgresql/data/postmaster.pid" ]; then
        as_postgres "$pg_bin/pg_ctl" -D "$dir/postgresql/data" -m fast -w stop >/dev/null || true
    fi
}

# PostgreSQL does not run as root: then it is the user that Debian made for it.
as_postgres() { if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi; }

check_programs() {
    [ -x "$bin/fleet" ] || die "$bin/fleet is missing; run scripts/setup.sh dev first"
    command -v nginx >/dev/null || die 'nginx is missing; sudo apt-get install nginx-light'
    pg_bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1) ||
        die 'PostgreSQL is missing; sudo apt-get install postgresql'
}

secret() { (umask 077 && "$bin/python" -c 'import secrets; print(secrets.token_hex(24))' >"$1"); }

start_postgresql() {
    local place=$dir/postgresql
    if [ ! -e "$place/data/PG_VERSION" ]; then
        mkdir -p "$place"
        secret "$dir/database-password"
        cp "$dir/database-password" "$place/password"
        if [ "$(id -u)" = 0 ]; then chown -R postgres: "$place"; fi
        as_postgres "$pg_bin/initdb" -D "$place/data" -U fleet -A scram-sha-256 --pwfile="$place/password" \
            -E UTF8 --no-locale >/dev/null
        rm "$place/password"
    fi
    as_postgres "$pg_bin/pg_ctl" -D "$place/data" -w -l "$place/log" -o \
        "-p $pg_port -c listen_addresses=127.0.0.1 -c unix_socket_directories=" start >/dev/null ||
        die "PostgreSQL does not start; see $place/log"
}

# A gateway's password on the hub comes from its key, as in `firmware.wire.auth`.
write_files() {
    [ -e "$dir/hub-password" ] || secret "$dir/hub-password"
    (umask 077 && "$bin/python" - "$inventory" "$dir" <<'PYTHON'
import json, pathlib, secrets, sys

from firmware.wire.auth import mqtt_password

inventory, directory = map(pathlib.Path, sys.argv[1:])
if not inventory.exists():
    gateway = {"id": "gateway-01", "site": "office", "key": secrets.token_hex(32)}
    node = {"id": "sensor-01", "type": "microclaw", "site": "office", "gateway": "gateway-01", "key": secrets.token_hex(32)}
    inventory.write_text(json.dumps({"gateways": [gateway], "nodes": [node]}, indent=2))
keys = {each["id"]: each["key"] for each in json.loads(inventory.read_text()).get("gateways", [])}
credentials = {
    "manager": {"id": "fleet", "password": (directory / "hub-password").read_text().strip()},
    "gateways": {gateway: mqtt_password(bytes.fromhex(key)).decode() for gateway, key in keys.items()},
}
(directory / "hub.json").write_text(json.dumps(credentials))
PYTHON
    )
    write_nginx >"$dir/nginx.conf"
}

# One that refuses a connection or says 503 gives way to the other. A request that changes anything is repeated only
# when its sender does so: nginx cannot know whether it was carried out.
write_nginx() {
    local user=''
    if [ "$(id -u)" = 0 ]; then user="user $(id -un);"; fi
    cat <<NGINX
daemon off; $user pid $dir/nginx.pid; worker_processes 1;
events {}
http {
    access_log off;
    client_body_temp_path $dir/nginx-body; proxy_temp_path $dir/nginx-proxy;
    fastcgi_temp_path $dir/nginx-f; uwsgi_temp_path $dir/nginx-u; scgi_temp_path $dir/nginx-s;
    upstream managers {
        server 127.0.0.1:$((port + 1)) max_fails=1 fail_timeout=2s;
        server 127.0.0.1:$((port + 2)) max_fails=1 fail_timeout=2s;
    }
    server {
        listen 127.0.0.1:$port;
        location / {
            proxy_pass http://managers;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream error timeout http_503;
            proxy_read_timeout 330s;  # a command may wait 300 s for its node
            proxy_buffering off;      # the event stream comes as it happens
        }
    }
}
NGINX
}

start() {
    local name=$1
    shift
    "$@" >"$dir/$name.log" 2>&1 &
    children+=($!)
}

# wait_for NAME WORDS: until the process just started has said so in its log.
wait_for() {
    for _ in $(seq 600); do
        if grep -q "$2" "$dir/$1.log"; then return; fi
        kill -0 "${children[-1]}" 2>/dev/null || die "$1 ended; its last words:" "$(tail -n 3 "$dir/$1.log")"
        sleep 0.1
    done
    die "$1 is not ready after a minute; see $dir/$1.log"
}

serve() {
    start "manager-$1" "$bin/fleet" serve --data "$dir/data" --port $((port + $1)) --inventory "$inventory" \
        --database-url "postgresql://fleet@127.0.0.1:$pg_port/postgres" \
        --database-password-file "$dir/database-password" \
        --hub "127.0.0.1:$hub_port" --hub-password-file "$dir/hub-password" "${options[@]}"
    echo "${children[-1]}" >"$dir/manager-$1.pid"
}

check_programs
trap end EXIT
trap 'exit 0' INT TERM
start_postgresql
write_files
start hub "$bin/fleet" hub --port "$hub_port" --credentials "$dir/hub.json"
wait_for hub 'Event Hub ready'
serve 1
wait_for manager-1 'fleet manager ready'
serve 2
wait_for manager-2 'fleet manager ready'
start nginx nginx -e stderr -c "$dir/nginx.conf"

say "two managers behind http://127.0.0.1:$port (API at /docs), Event Hub at 127.0.0.1:$hub_port, all kept in $dir"
say "    a token:          $bin/fleet token --data $dir/data --role admin --for YOUR-NAME"
say "    who leads:        curl http://127.0.0.1:$((port + 1))/readyz http://127.0.0.1:$((port + 2))/readyz"
say "    kill the first:   kill -9 ${children[1]}      the second: kill -9 ${children[2]}"
say "    stop the first:   kill -STOP ${children[1]}   and let it wake up: kill -CONT ${children[1]}"
say 'Ctrl-C ends all of it.'
wait "${children[0]}" "${children[-1]}"
