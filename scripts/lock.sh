#!/usr/bin/env bash
# Renews uv.lock against the public index, whatever mirror this machine is set up with, so that it serves everyone.
# Usage: scripts/lock.sh [--check | --upgrade | ...]   (options of `uv lock`)
set -euo pipefail
cd "$(dirname "$0")/.."

unset UV_INDEX UV_INDEX_URL UV_EXTRA_INDEX_URL UV_DEFAULT_INDEX UV_FIND_LINKS
exec .venv/bin/uv --no-config lock "$@"
