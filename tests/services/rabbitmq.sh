# shellcheck shell=bash
# RabbitMQ for the tests. Two versions that differ where it matters, each in this order: the broker that its variable names;
# the first one by docker-compose.yml where a Docker engine answers; a node of our own (rabbitmq-node): 3.10 from the machine's
# packages, installed first if need be, 4.x from a small Debian of its own under the cache folder. Sourced by tests/run.
#
# rabbitmq_start  exports PITCREW_RABBITMQ_URL and, where there is a 4.x, PITCREW_RABBITMQ4_URL; sets service_is and returns 0;
#                 or sets service_why and returns 1: neither could be had
# rabbitmq_stop   ends what rabbitmq_start began, and nothing else

rabbitmq_project=  # of docker compose
rabbitmq_sessions=() # of our own nodes and their port mappers

rabbitmq_start() {
  local first='' fourth='' why=''
  if [[ -n ${PITCREW_RABBITMQ_URL:-}${PITCREW_RABBITMQ4_URL:-} ]]; then
    rabbitmq_given PITCREW_RABBITMQ_URL && rabbitmq_given PITCREW_RABBITMQ4_URL
    return
  fi
  if docker_answers && rabbitmq_compose; then return 0; fi
  # Both at once: most of it is waiting.
  if rabbitmq_native; then first=$service_is; else why=$service_why; fi
  if rabbitmq_fourth; then fourth=$service_is; else why+="${why:+; }no 4.x: $service_why"; fi
  if [[ -z $first$fourth ]]; then
    service_why=$why
    return 1
  fi
  if ! rabbitmq_wait; then return 1; fi
  service_is=$first${first:+${fourth:+, }}$fourth
  if [[ -n $why ]]; then printf 'rabbitmq    %s\n' "$why"; fi
}

rabbitmq_stop() {
  local session
  if [[ -n $rabbitmq_project ]]; then
    docker compose -p "$rabbitmq_project" -f "$root/docker-compose.yml" down --volumes --timeout 5 >/dev/null 2>&1
    rabbitmq_project=
  fi
  # What they hold is of no use to anybody: killed, they are gone at once.
  for session in "${rabbitmq_sessions[@]}"; do
    end_session "$session" 0
    wait "$session" 2>/dev/null
  done
  rabbitmq_sessions=()
  return 0
}

# --- the ones that were named ---

rabbitmq_given() {
  local authority host port
  [[ -n ${!1:-} ]] || return 0
  authority=${!1#*://}
  authority=${authority%%[/?]*}
  authority=${authority##*@} # what is before the @ is a secret: neither printed nor logged
  host=${authority%:*}
  port=${authority##*:}
  [[ $port =~ ^[0-9]+$ ]] || port=5672
  if [[ $host =~ ^[A-Za-z0-9._-]+$ ]] && ! answers "$host" "$port"; then
    service_why="$1 is set, and nobody answers on $host:$port: start it, or unset the variable"
    return 1
  fi
  export "${1?}"
  service_is="${service_is:+$service_is, }given by $1, $authority"
}

# --- docker compose ---

rabbitmq_compose() {
  PITCREW_RABBITMQ_PORT=$(free_port)
  PITCREW_RABBITMQ_PASSWORD=pitcrew
  export PITCREW_RABBITMQ_PORT PITCREW_RABBITMQ_PASSWORD
  rabbitmq_project=pitcrew-tests-$$
  if ! timeout 300 docker compose -p "$rabbitmq_project" -f "$root/docker-compose.yml" up --detach --wait rabbitmq \
    >"$tmp/rabbitmq.log" 2>&1; then
    tail -n 5 "$tmp/rabbitmq.log"
    rabbitmq_stop
    printf 'rabbitmq    docker compose could not start it; trying native ones\n'
    return 1
  fi
  export PITCREW_RABBITMQ4_URL="amqp://pitcrew:pitcrew@127.0.0.1:$PITCREW_RABBITMQ_PORT"
  service_is="docker compose, 127.0.0.1:$PITCREW_RABBITMQ_PORT"
}

# --- nodes of our own ---

rabbitmq_native() {
  if ! compgen -G '/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server' >/dev/null; then rabbitmq_install || return 1; fi
  if ! compgen -G '/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server' >/dev/null; then
    service_why="the rabbitmq-server package was installed, but brought no rabbitmq-server"
    return 1
  fi
  rabbitmq_port=$(rabbitmq_free_ports)
  rabbitmq_serve "$tmp/rabbitmq" "$rabbitmq_port"
  service_is="native $(basename "$(dirname "$(printf '%s\n' /usr/lib/rabbitmq/lib/*/sbin | sort -V | tail -n 1)")" |
    grep -o '[0-9].*'), 127.0.0.1:$rabbitmq_port"
}

# The Debian of the cache folder. It is made once, beside its place, so that a broken one is never taken for a whole one.
rabbitmq_fourth() {
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/pitcrew place began
  place=$cache/rabbitmq-trixie
  if ((EUID != 0)); then
    service_why="its Debian of its own needs root"
    return 1
  fi
  # Mounts in a namespace of one's own are what some containers forbid.
  if ! unshare --mount true 2>/dev/null; then
    service_why="this machine lets nobody make a mount namespace"
    return 1
  fi
  if [[ ! -x $place/usr/sbin/rabbitmq-server ]]; then
    began=$(now_ms)
    if ! command -v debootstrap >/dev/null && ! rabbitmq_apt debootstrap debian-archive-keyring; then return 1; fi
    printf 'rabbitmq    making a Debian with RabbitMQ 4 in %s, once\n' "$place"
    mkdir -p "$cache"
    rm -rf "$place.partial"
    if ! debootstrap --variant=minbase --include=rabbitmq-server,ca-certificates trixie "$place.partial" \
      "$(rabbitmq_mirror)" >"$tmp/debootstrap.log" 2>&1 </dev/null; then
      tail -n 5 "$tmp/debootstrap.log"
      rm -rf "$place.partial"
      service_why="debootstrap failed (see above)"
      return 1
    fi
    printf '127.0.0.1 localhost\n' >"$place.partial/etc/hosts"
    mv "$place.partial" "$place"
    printf 'rabbitmq    made in %s; it stays\n' "$(since "$began")"
  fi
  rabbitmq4_port=$(rabbitmq_free_ports)
  rabbitmq_serve "$tmp/rabbitmq4" "$rabbitmq4_port" "$place"
  service_is="native $(basename "$(printf '%s\n' "$place"/usr/lib/rabbitmq/lib/* | tail -n 1)" | grep -o '[0-9].*'), 127.0.0.1:$rabbitmq4_port"
  export PITCREW_RABBITMQ4_ROOT=$place
}

# The mirror that this machine's apt uses.
rabbitmq_mirror() {
  local found
  found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1)
  printf '%s' "${found:-http://deb.debian.org/debian}"
}

rabbitmq_install() {
  if ((EUID != 0)) && ! sudo -n true 2>/dev/null; then
    service_why="there is no RabbitMQ here, and installing one needs root (apt-get install rabbitmq-server)"
    return 1
  fi
  if ! command -v apt-get >/dev/null; then
    service_why="there is no RabbitMQ here and no apt-get to install one"
    return 1
  fi
  rabbitmq_apt rabbitmq-server
}

# Installs without starting anything: Debian's package would begin a node of its own on the default port.
rabbitmq_apt() {
  local began as_root=() policy=/usr/sbin/policy-rc.d status
  began=$(now_ms)
  if ((EUID != 0)); then as_root=(sudo -n); fi
  printf 'rabbitmq    not installed: apt-get install %s\n' "$*"
  if [[ ! -e $policy ]]; then
    "${as_root[@]}" sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy"
    rabbitmq_policy=("${as_root[@]}" rm -f "$policy")
  fi
  "${as_root[@]}" apt-get update -qq >"$tmp/apt.log" 2>&1 </dev/null
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o DPkg::Lock::Timeout=120 "$@" >>"$tmp/apt.log" 2>&1 </dev/null
  status=$?
  rabbitmq_forget_install
  if ((status != 0)); then
    tail -n 10 "$tmp/apt.log"
    service_why="apt-get could not install $* (see above)"
    return 1
  fi
  printf 'rabbitmq    installed in %s; its packages stay, no node of theirs was begun\n' "$(since "$began")"
}

# Run at the exit too: an interrupted installation must not leave the policy behind.
rabbitmq_policy=()
rabbitmq_forget_install() {
  if ((${#rabbitmq_policy[@]})); then "${rabbitmq_policy[@]}"; fi
  rabbitmq_policy=()
}

# A port with two free ones after it.
rabbitmq_free_ports() {
  local port
  while :; do
    port=$(free_port)
    answers 127.0.0.1 $((port + 1)) || answers 127.0.0.1 $((port + 2)) || break
  done
  printf '%s' "$port"
}

# Begins a node; rabbitmq_wait waits for it. Sessions of their own, so that all of a node ends with it, and with us.
rabbitmq_serve() {
  local dir=$1 port=$2 what
  shift 2
  mkdir "$dir"
  for what in epmd server; do
    setsid setpriv --pdeathsig KILL "$root/tests/services/rabbitmq-node" "$dir" "$port" "$@" "$what" \
      >"$dir.$what.log" 2>&1 </dev/null &
    rabbitmq_sessions+=("$!")
    # The node registers with its port mapper as the first thing it does.
    for ((i = 0; i < 50; i++)); do
      answers 127.0.0.1 $((port + 1)) && break
      sleep 0.1
    done
  done
}

rabbitmq_wait() {
  local name port
  for name in rabbitmq rabbitmq4; do
    port=${name}_port
    port=${!port:-}
    [[ -n $port ]] || continue
    for ((i = 0; i < 900; i++)); do
      # Its own words: the port alone could be answered by a stranger.
      if grep -q 'completed with' "$tmp/$name.server.log" && answers 127.0.0.1 "$port"; then
        export "PITCREW_${name^^}_URL=amqp://guest:guest@127.0.0.1:$port"
        continue 2
      fi
      kill -0 "${rabbitmq_sessions[-1]}" 2>/dev/null || break
      sleep 0.1
    done
    tail -n 20 "$tmp/$name.server.log"
    rabbitmq_stop
    service_why="$name did not start (its log is above)"
    return 1
  done
}
rabbitmq_port=
rabbitmq4_port=
