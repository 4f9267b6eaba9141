#!/bin/sh
# Builds the lab's image from a static binary, without any registry.
#
# usage: build.sh BINARY [TAG]
set -eu

binary=${1:?usage: build.sh BINARY [TAG]}
tag=${2:-platelet-lab:latest}
here=$(dirname "$0")

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
