#!/bin/sh
# Make sure that Debian packages are installed: need-packages.sh NAME...
# Installs what is missing as root or through sudo; without either it prints the one line to run and exits 2.
set -eu

missing=""
for name in "$@"; do
    status=$(dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null || true)
    case "$status" in
        ii*) ;;
        # Any Python 3.11+ with venv will do; it need not be Debian's.
        *) if [ "$name" = python3-venv ] && python3 -c 'import ensurepip, venv' 2>/dev/null; then continue; fi
           missing="$missing $name" ;;
    esac
done
[ -n "$missing" ] || exit 0

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    sudo=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    sudo="sudo"
elif command -v sudo >/dev/null 2>&1 && [ -t 0 ]; then
    sudo="sudo"
else
    echo "Debian packages are missing. Run this as root, then try again:" >&2
    echo "    $install" >&2
    exit 2
fi
echo "Installing Debian packages:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive $install; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "The installation failed. Run this as root, then try again:" >&2
    echo "    $install" >&2
    exit 2
fi
