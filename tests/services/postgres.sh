# shellcheck shell=bash
# A Postgres for the tests, in this order: the one that PITCREW_POSTGRES_URL names; docker-compose.yml where a Docker
# engine answers; a cluster of our own from the machine's Postgres, installed first if need be. Sourced by tests/run.
#
# postgres_start  exports PITCREW_POSTGRES_URL, sets service_is (what runs where), returns 0; or sets service_why, returns 1
# postgres_stop   ends what postgres_start began, and nothing else

postgres_project= # of docker compose
postgres_pid=     # of our own server

postgres_start() {
  if [[ -n ${PITCREW_POSTGRES_URL:-} ]]; then
    postgres_given
    return
  fi
  if docker_answers; then
    if postgres_compose; then return 0; fi
    printf 'postgres    %s; trying a native one\n' "$service_why"
  fi
  postgres_native
}

postgres_stop() {
  if [[ -n $postgres_project ]]; then
    docker compose -p "$postgres_project" -f "$root/docker-compose.yml" down --volumes --timeout 5 >/dev/null 2>&1
    postgres_project=
  fi
  if [[ -n $postgres_pid ]]; then
    # INT is Postgres' fast shutdown: connections are cut, not waited for.
    kill -INT "$postgres_pid" 2>/dev/null
    for ((i = 0; i < 100; i++)); do
      kill -0 "$postgres_pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -QUIT "$postgres_pid" 2>/dev/null
    wait "$postgres_pid" 2>/dev/null
    postgres_pid=
  fi
  return 0
}

# --- the one that was named ---

postgres_given() {
  local authority host port
  authority=${PITCREW_POSTGRES_URL#*://}
  authority=${authority%%[/?]*}
  authority=${authority##*@} # what is before the @ is a secret: neither printed nor logged
  host=${authority%:*}
  port=${authority##*:}
  [[ $port =~ ^[0-9]+$ ]] || port=5432
  # Several hosts, IPv6 or a socket folder: the tests will tell.
  if [[ $host =~ ^[A-Za-z0-9._-]+$ ]] && ! answers "$host" "$port"; then
    service_why="PITCREW_POSTGRES_URL is set, and nobody answers on $host:$port: start it, or unset the variable"
    return 1
  fi
  export PITCREW_POSTGRES_URL
  service_is="given by PITCREW_POSTGRES_URL, $authority"
}

# --- docker compose ---

docker_answers() {
  command -v docker >/dev/null && timeout 10 docker info --format '{{.ServerVersion}}' >/dev/null 2>&1 &&
    docker compose version >/dev/null 2>&1
}

# A project of its own, so that a developer's `docker compose up` and its volume are never touched.
postgres_compose() {
  PITCREW_POSTGRES_PORT=$(free_port)
  PITCREW_POSTGRES_PASSWORD=pitcrew
  export PITCREW_POSTGRES_PORT PITCREW_POSTGRES_PASSWORD
  postgres_project=pitcrew-tests-$$
  if ! timeout 300 docker compose -p "$postgres_project" -f "$root/docker-compose.yml" up --detach --wait postgres \
    >"$tmp/postgres.log" 2>&1; then
    tail -n 5 "$tmp/postgres.log"
    postgres_stop
    service_why="docker compose could not start it"
    return 1
  fi
  export PITCREW_POSTGRES_URL="postgres://postgres:pitcrew@127.0.0.1:$PITCREW_POSTGRES_PORT/postgres"
  service_is="docker compose, 127.0.0.1:$PITCREW_POSTGRES_PORT"
}

# --- a cluster of our own ---

postgres_native() {
  local bin try
  bin=$(postgres_programs)
  if [[ -z $bin ]]; then
    postgres_install || return 1
    bin=$(postgres_programs)
    if [[ -z $bin ]]; then
      service_why="the postgresql package was installed, but brought no /usr/lib/postgresql/*/bin/initdb"
      return 1
    fi
  fi
  # Postgres refuses to run as root.
  if ((EUID == 0)) && ! getent passwd postgres >/dev/null; then
    service_why="we are root, Postgres refuses to run as root, and there is no user postgres to run it as"
    return 1
  fi
  postgres_cluster "$bin" || return 1
  for try in 1 2 3 4 5; do
    if postgres_serve "$bin" "$(free_port)"; then return 0; fi
  done
  tail -n 20 "$tmp/postgres.log"
  service_why="$bin/postgres did not start ($try attempts, its log is above)"
  return 1
}

# The folder of the newest server's programs; nothing if there is none.
postgres_programs() {
  local initdb
  initdb=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
  [[ -x $initdb ]] || initdb=$(command -v initdb) || return 0
  dirname "$(readlink -f "$initdb")"
}

postgres_install() {
  local began as_root=() drop_in=/etc/postgresql-common/createcluster.d/pitcrew-tests.conf
  began=$(now_ms)
  if ! command -v apt-get >/dev/null; then
    service_why="there is no Postgres server here and no apt-get to install one"
    return 1
  fi
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
      service_why="there is no Postgres server here, and installing one needs root (apt-get install postgresql)"
      return 1
    fi
    as_root=(sudo -n)
  fi
  printf 'postgres    not installed: apt-get install postgresql\n'
  # Debian's package would create a cluster "main" and start it. While this file is there it does neither.
  "${as_root[@]}" mkdir -p "${drop_in%/*}"
  "${as_root[@]}" sh -c "echo 'create_main_cluster = false' >$drop_in"
  install_drop_in=("${as_root[@]}" rm -f "$drop_in")
  "${as_root[@]}" apt-get update -qq >"$tmp/apt.log" 2>&1 </dev/null
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o DPkg::Lock::Timeout=120 postgresql >>"$tmp/apt.log" 2>&1 </dev/null
  local status=$?
  postgres_forget_install
  if ((status != 0)); then
    tail -n 10 "$tmp/apt.log"
    service_why="there is no Postgres server here, and apt-get could not install one (see above)"
    return 1
  fi
  printf 'postgres    installed in %s; its package stays, no cluster of its was made\n' "$(since "$began")"
}

# Run at the exit too: an interrupted installation must not leave the setting behind.
install_drop_in=()
postgres_forget_install() {
  if ((${#install_drop_in[@]})); then "${install_drop_in[@]}"; fi
  install_drop_in=()
}

postgres_cluster() {
  local as_owner=()
  mkdir "$tmp/postgres"
  if ((EUID == 0)); then
    chown postgres: "$tmp/postgres"
    as_owner=(runuser -u postgres --)
  fi
  # Nothing is asked to be on disk before the server runs, hence --no-sync; the server itself does sync.
  if ! (cd / && "${as_owner[@]}" "$1/initdb" -D "$tmp/postgres/data" -A trust -U postgres -E UTF8 --locale=C.UTF-8 \
    --no-sync) >"$tmp/postgres.log" 2>&1 </dev/null; then
    tail -n 10 "$tmp/postgres.log"
    service_why="$1/initdb failed (see above)"
    return 1
  fi
}

# Starts the server as our own child, so that it is stopped by its pid alone, and dies with us should we be killed.
postgres_serve() {
  local bin=$1 port=$2 guard=(setpriv --pdeathsig INT)
  if ((EUID == 0)); then guard+=(--reuid postgres --regid "$(id -g postgres)" --init-groups); fi
  (
    cd / || exit
    exec setsid "${guard[@]}" "$bin/postgres" -D "$tmp/postgres/data" -p "$port" \
      -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
      -c fsync=on -c synchronous_commit=on -c max_connections=200 -c log_min_messages=warning
  ) >"$tmp/postgres.log" 2>&1 </dev/null &
  postgres_pid=$!
  for ((i = 0; i < 300; i++)); do
    # The eighth line of its pid file is its state. Asking the port instead could be answered by a stranger.
    if [[ $(sed -n 8p "$tmp/postgres/data/postmaster.pid" 2>/dev/null) == ready* ]]; then
      export PITCREW_POSTGRES_URL="postgres://postgres@127.0.0.1:$port/postgres"
      service_is="native $("$bin/postgres" -V | grep -o '[0-9][0-9.]*' | head -n 1), 127.0.0.1:$port"
      return 0
    fi
    kill -0 "$postgres_pid" 2>/dev/null || break
    sleep 0.1
  done
  postgres_stop
  return 1
}
