#!/usr/bin/env bash
# start-docker.sh DIR: makes sure that a Docker engine answers, and prints the
# environment to eval. It takes the one that is there already; else it installs
# Debian's (which needs root) and starts a private one with all its state under
# DIR, which publishes ports on loopback only. DIR has to be a short path: a
# Unix socket lies in it. To end a private one: kill $(cat DIR/dockerd.pid)
set -euo pipefail
dir=${1:?usage: start-docker.sh DIR}; mkdir -p "$dir"; dir=$(cd "$dir" && pwd -P)
die() { echo "start-docker.sh: $*" >&2; exit 1; }
# Without the override testcontainers-go may take the address of a gateway
# instead of loopback; the reaper's image would have to be pulled.
env() { printf 'export DOCKER_HOST=%s TESTCONTAINERS_RYUK_DISABLED=true TESTCONTAINERS_HOST_OVERRIDE=localhost\n' "$1"; }
up() { DOCKER_HOST=$1 timeout 5 docker info --format '{{.ServerVersion}}' 2>/dev/null | grep -q '^[0-9]'; }

for h in "${DOCKER_HOST:-}" unix:///var/run/docker.sock "unix://$dir/docker.sock"; do
  [[ -n $h ]] && up "$h" && { env "$h"; exit 0; }
done

((EUID == 0)) || die "no Docker engine answers, and only root can install and start one"
if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
  {
    apt-get -qq update
    pkgs=(docker.io)   # newer Debian has the client in a package of its own
    apt-cache show docker-cli >/dev/null 2>&1 && pkgs+=(docker-cli)
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${pkgs[@]}"
  } >"$dir/apt.log" 2>&1 || { tail -n 5 "$dir/apt.log" >&2; die "cannot install Docker"; }
fi
rm -f "$dir/dockerd.pid"
setsid nohup dockerd -H "unix://$dir/docker.sock" --data-root "$dir/data" --exec-root "$dir/exec" \
  --pidfile "$dir/dockerd.pid" --ip 127.0.0.1 ${DOCKERD_FLAGS:-} >"$dir/dockerd.log" 2>&1 </dev/null &
for _ in $(seq 150); do
  up "unix://$dir/docker.sock" && { env "unix://$dir/docker.sock"; exit 0; }
  kill -0 $! 2>/dev/null || break
  sleep 0.2
done
tail -n 5 "$dir/dockerd.log" >&2
die "the Docker engine does not start (it needs the privileges for namespaces, mounts and iptables)"
