#!/bin/sh
# Builds the lab's image from a static binary, without any registry.
#
# usage: build.sh BINARY [TAG]
set -eu

binary=${1:?usage: build.sh BINARY [TAG]}
tag=${2:-platelet-lab:latest}
here=$(dirname "$0")

# Nothing in the image could load its libraries.
if ldd "$binary" >/dev/null 2>&1; then
	echo "$0: $binary is not static: build it with CGO_ENABLED=0" >&2
	exit 1
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mkdir -p "$context/rootfs/bin"
mkdir -m 1777 "$context/rootfs/tmp"
cp "$binary" "$context/rootfs/platelet"
# Links inside a directory that is copied stay links, so that the image holds
# the binary once.
ln -s ../platelet "$context/rootfs/bin/ip"
ln -s ../platelet "$context/rootfs/bin/sysctl"
docker build --quiet --tag "$tag" --file "$here/Dockerfile" "$context"
