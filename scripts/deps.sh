#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Install the Debian packages that building and testing need, if they are
# missing. Says what it installs; does nothing when nothing is missing.
#
#   scripts/deps.sh            to build and to run `make test`
#   scripts/deps.sh --lint     and the linters     (make lint, clang, fuzz)
#   scripts/deps.sh --bench    and load generators (make bench)
#   scripts/deps.sh --all      everything
#   scripts/deps.sh --check    install nothing: list what is missing, exit 1
#   --quiet                    print nothing when nothing is missing
set -euo pipefail

BUILD=(gcc libc6-dev make pkg-config git libraft-dev libuv1-dev liblmdb-dev
	libprotobuf-c-dev protobuf-c-compiler libmicrohttpd-dev libjansson-dev
	libcurl4-gnutls-dev zlib1g-dev libgnutls28-dev libxxhash-dev libpcre2-dev
	libwslay-dev)
TEST=(libcmocka-dev python3 python3-pytest python3-pytest-xdist
	python3-dnspython python3-consul python3-requests python3-websocket bind9-dnsutils curl iproute2 procps
	g++ binutils valgrind)
LINT=(clang-14 clang-format-14 clang-tidy-14 libclang-rt-14-dev libfuzzer-14-dev
	universal-ctags shellcheck)
BENCH=(wrk dnsperf nghttp2-client)

# The version of libraft that raft/ is written for; the Makefile checks it too.
RAFT_SERIES=0.22
BACKPORTS=bookworm-backports
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

die() {
	echo "deps.sh: $*" >&2
	exit 1
}

usage() {
	sed -n '3,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"
	exit "$1"
}

check=false
quiet=false
wanted=("${BUILD[@]}" "${TEST[@]}")
for arg in "$@"; do
	case $arg in
	--lint) wanted+=("${LINT[@]}") ;;
	--bench) wanted+=("${BENCH[@]}") ;;
	--all) wanted+=("${LINT[@]}" "${BENCH[@]}") ;;
	--check) check=true ;;
	--quiet) quiet=true ;;
	-h | --help) usage 0 ;;
	*) usage 2 >&2 ;;
	esac
done

installed_version() {
	dpkg-query -W -f '${db:Status-Abbrev} ${Version}\n' "$1" 2>/dev/null |
		awk '$1 == "ii" { print $2; exit }'
}

# A package may be provided by another one (libcurl4-openssl-dev serves as well
# as libcurl4-gnutls-dev; pkg-config is pkgconf in newer releases).
is_installed() {
	case $1 in
	libraft-dev) [[ $(installed_version libraft-dev) == "$RAFT_SERIES".* ]] ;;
	libcurl4-gnutls-dev) [[ -n $(installed_version libcurl4-gnutls-dev)$(installed_version libcurl4-openssl-dev)$(installed_version libcurl4-nss-dev) ]] ;;
	pkg-config) command -v pkg-config >/dev/null ;;
	*) [[ -n $(installed_version "$1") ]] ;;
	esac
}

command -v dpkg-query >/dev/null ||
	die "this is not Debian or a relative: install by hand what stands at the top of scripts/deps.sh"

missing=()
for package in "${wanted[@]}"; do
	is_installed "$package" || missing+=("$package")
done

if [[ ${#missing[@]} -eq 0 ]]; then
	$quiet || echo "deps.sh: nothing is missing"
	exit 0
fi
if $check; then
	echo "deps.sh: missing: ${missing[*]}"
	exit 1
fi

# Root, or sudo that asks nothing unless somebody is there to answer.
as_root=()
if [[ $(id -u) -ne 0 ]]; then
	command -v sudo >/dev/null ||
		die "must install ${missing[*]}: run it as root, or install sudo"
	sudo -n true 2>/dev/null || [[ -t 0 ]] ||
		die "must install ${missing[*]}: run it as root (sudo wants a password and there is no terminal)"
	as_root=(sudo)
fi

apt_get() {
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq \
		-o Dpkg::Use-Pty=0 -o APT::Install-Recommends=false "$@"
}

# The newest libraft-dev of the wanted series that apt can see, or nothing.
raft_candidate() {
	apt-cache madison libraft-dev 2>/dev/null |
		awk -v series="$RAFT_SERIES." '{ if (index($3, series) == 1) { print $3; exit } }'
}

# Add the backports suite of the mirror that apt uses already.
add_backports() {
	local mirror list=/etc/apt/sources.list.d/microreg-backports.list
	# shellcheck disable=SC1091
	[[ $(. /etc/os-release && echo "${VERSION_CODENAME:-}") == "${BACKPORTS%-backports}" ]] ||
		die "this release has no libraft $RAFT_SERIES, and backports are known for ${BACKPORTS%-backports} only"
	# shellcheck disable=SC2016 # apt's own placeholders
	mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Identifier: Packages' |
		awk '$2 !~ /security|updates|backports/ && $1 ~ /debian\/?$/ { print $1; exit }')
	[[ -n $mirror ]] || die "found no Debian mirror in apt's sources"
	[[ -r $KEYRING ]] || die "$KEYRING is missing (package debian-archive-keyring)"
	echo "deps.sh: adding $list ($BACKPORTS from $mirror)"
	echo "deb [signed-by=$KEYRING] $mirror $BACKPORTS main" |
		"${as_root[@]}" tee "$list" >/dev/null
	apt_get update
}

echo "deps.sh: installing ${missing[*]}"
apt_get update || die "apt-get update failed: see above"

packages=()
for package in "${missing[@]}"; do
	if [[ $package == libraft-dev ]]; then
		[[ -n $(raft_candidate) ]] || add_backports
		version=$(raft_candidate)
		[[ -n $version ]] || die "no libraft-dev $RAFT_SERIES in $BACKPORTS"
		packages+=("libraft-dev=$version")
	else
		packages+=("$package")
	fi
done
apt_get install "${packages[@]}" || die "apt-get install failed: see above"

for package in "${missing[@]}"; do
	is_installed "$package" || die "$package is still missing after the installation"
done
echo "deps.sh: done"
