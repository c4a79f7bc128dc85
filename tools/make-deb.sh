#!/bin/sh
# Build the Debian packages in a copy of the sources, and put them into dist/: make-deb.sh
set -eu
cd "$(dirname "$0")/.."
version="$(sed -n 's/^version = //p' setup.cfg)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir "$work/qvd-$version"
tar -c --exclude=__pycache__ --exclude=dropin.cache \
    LICENSE README.md debian etc pyproject.toml qvd setup.cfg tools twisted | tar -x -C "$work/qvd-$version"
echo "Building the Debian packages of QVD $version"
if ! (cd "$work/qvd-$version" && dpkg-buildpackage -b -us -uc) >"$work/log" 2>&1; then
    tail -n 40 "$work/log" >&2
    echo "The Debian packages could not be built; the end of the log is above." >&2
    exit 1
fi
mkdir -p dist
rm -f dist/qvd-*.deb
for package in "$work"/*.deb; do
    cp "$package" dist/
    echo "dist/${package##*/}"
done
