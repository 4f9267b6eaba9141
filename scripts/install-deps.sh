#!/bin/sh
# Installs what the lab, the demo and the tests need on Debian, and starts
# Open vSwitch where no init system does. Safe to run again: it touches only
# what is missing and prints nothing when nothing is.
#
# usage: install-deps.sh [--peer] [--test]
#   --peer  also install fastnetmon, which `make bench-peer` compares with
#   --test  also install what only tests need: Chromium and, in containers, a
#           Docker engine and an SSH server. None of them is started.
set -eu

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # where Debian keeps the daemons

say() { echo "install-deps: $*" >&2; }
die() { say "$*"; exit 1; }

peer=no test=no
for arg in "$@"; do
	case $arg in
	--peer) peer=yes ;;
	--test) test=yes ;;
	*) die "unknown option $arg (usage: install-deps.sh [--peer] [--test])" ;;
	esac
done

# root runs a command as root, by sudo where we are not.
root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "need root (or sudo) to run: $*"
	fi
}

# absent prints the packages of a list whose command is not there.
absent() {
	while read -r command package; do
		command -v "$command" >/dev/null || echo "$package"
	done
}

# missing prints the packages that the lab and the demo lack.
missing() {
	absent <<-LIST
		ovs-vswitchd openvswitch-switch
		ip iproute2
		ethtool ethtool
		nmap nmap
		hping3 hping3
		iperf3 iperf3
		tcpdump tcpdump
		curl curl
		ping iputils-ping
		ps procps
	LIST
	if [ $peer = yes ]; then
		echo "fastnetmon fastnetmon" | absent
	fi
}

# missing_tests prints the packages that only tests lack.
missing_tests() {
	[ $test = yes ] || return 0
	echo "chromium chromium" | absent
	# Where an init system would start them at the next boot, servers are
	# the owner's to install; the tests that want them say what they skip.
	[ -d /run/systemd/system ] || absent <<-LIST
		dockerd docker.io
		sshd openssh-server
	LIST
}

# install_missing installs what a list names; the list is asked again.
install_missing() {
	packages=$($1 | sort -u | tr '\n' ' ')
	[ -n "$packages" ] || return 0
	command -v apt-get >/dev/null || die "no apt-get here; install by hand: $packages"
	say "installing $packages"
	# An outdated index may still do, so a failed update is not the end.
	root apt-get -qq update || say "apt-get update failed; trying with the index there is"
	# shellcheck disable=SC2086 # a list of words on purpose
	root env DEBIAN_FRONTEND=noninteractive \
		apt-get -qq install -y --no-install-recommends $packages >/dev/null
	left=$($1 | tr '\n' ' ')
	[ -z "$left" ] || die "still missing after installation: $left"
}

# without_services runs a command while packages may not start services, as
# Debian's policy-rc.d provides.
without_services() {
	policy=/usr/sbin/policy-rc.d
	if [ -e $policy ]; then # the machine has a policy of its own
		"$@"
		return
	fi
	printf '#!/bin/sh\nexit 101\n' | root tee $policy >/dev/null
	trap 'root rm -f $policy' EXIT
	root chmod 755 $policy
	"$@"
	root rm -f $policy
	trap - EXIT
}

ovsdb_answers() { root ovs-vsctl --timeout=5 --no-wait show >/dev/null 2>&1; }
switch_answers() { root ovs-appctl --timeout=5 -t ovs-vswitchd version >/dev/null 2>&1; }

# has_datapath tells whether ovs-ctl can start the switch. It insists on the
# kernel module where modules can be loaded at all, and would even unload the
# bridge module to get it in; the userspace datapath needs neither.
has_datapath() {
	[ -e /sys/module/openvswitch ] || [ ! -e /proc/modules ] ||
		root modprobe -q openvswitch 2>/dev/null
}

start_ovs() {
	if ovsdb_answers && switch_answers; then
		return 0
	fi
	if [ -d /run/systemd/system ]; then
		say "starting openvswitch-switch"
		root systemctl start openvswitch-switch
	else
		start_daemons
	fi
	wait_for_ovs
}

start_daemons() {
	ctl=/usr/share/openvswitch/scripts/ovs-ctl
	[ -x $ctl ] || die "$ctl is not there; is openvswitch-switch installed?"
	if ! ovsdb_answers; then
		say "starting ovsdb-server"
		quietly $ctl --no-mlockall --no-ovs-vswitchd --no-record-hostname --system-id=random start
	fi
	switch_answers && return 0
	say "starting ovs-vswitchd"
	if has_datapath; then
		quietly $ctl --no-mlockall --no-ovsdb-server --no-record-hostname --system-id=random start
	else
		quietly ovs-vswitchd unix:/var/run/openvswitch/db.sock --pidfile --detach --no-chdir \
			--log-file -vconsole:off -vsyslog:off
	fi
}

# quietly runs as root and shows the output only when the command fails.
quietly() {
	if ! out=$(root "$@" 2>&1 </dev/null); then
		say "$* failed:"
		echo "$out" >&2
		exit 1
	fi
}

wait_for_ovs() {
	tries=0
	until ovsdb_answers && switch_answers; do
		tries=$((tries + 1))
		[ $tries -lt 50 ] || die "Open vSwitch does not answer; see /var/log/openvswitch"
		sleep 0.2
	done
}

install_missing missing
[ -z "$(missing_tests)" ] || without_services install_missing missing_tests
start_ovs
