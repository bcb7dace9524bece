# shellcheck shell=bash
# What tests/run, tests/suite and the services share. Sourced, never run.

now_ms() { printf '%s' "$((${EPOCHREALTIME/[.,]/} / 1000))"; }

# How long ago a `now_ms` was, as "1.2 s".
since() {
  local ms=$(($(now_ms) - $1))
  printf '%d.%d s' "$((ms / 1000))" "$((ms % 1000 / 100))"
}

# Does anyone listen there?
answers() { timeout 3 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null; }

# Below the range from which the kernel hands out ports to outgoing connections. Another program may still take it
# before we do, so whoever asks tries again when its service cannot bind.
free_port() {
  local port
  while :; do
    port=$((RANDOM % 12000 + 20000))
    answers 127.0.0.1 "$port" || break
  done
  printf '%s' "$port"
}

# The living processes of a session, whatever process groups they moved to. From /proc, for `ps` and `pkill` are not
# part of a minimal Debian.
session_pids() {
  local stat line fields
  for stat in /proc/[0-9]*/stat; do
    line=$(<"$stat") || continue
    # After the program's name, which may itself hold spaces and brackets: state, parent, group, session.
    read -r -a fields <<<"${line##*) }"
    if [[ ${fields[3]} == "$1" && ${fields[0]} != [ZX] ]]; then printf '%s\n' "${line%% *}"; fi
  done 2>/dev/null
}

# Ends all processes of a session: asks them first, and makes sure after $2 seconds.
end_session() {
  local pids waited=0
  mapfile -t pids < <(session_pids "$1")
  ((${#pids[@]})) || return 0
  kill -TERM "${pids[@]}" 2>/dev/null
  while ((waited < $2 * 10)); do
    mapfile -t pids < <(session_pids "$1")
    ((${#pids[@]})) || return 0
    sleep 0.1
    waited=$((waited + 1))
  done
  kill -KILL "${pids[@]}" 2>/dev/null
  return 0
}

# Installs a Debian package for a service (the first word of what is printed); else sets service_why and returns 1.
install_package() {
  local began as_root=()
  began=$(now_ms)
  service_why="there is no $2 here"
  if ! command -v apt-get >/dev/null; then
    service_why+=" and no apt-get to install it"
    return 1
  fi
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
      service_why+=", and installing it needs root (apt-get install $2)"
      return 1
    fi
    as_root=(sudo -n)
  fi
  printf '%-11s no %s: apt-get install\n' "$1" "$2"
  "${as_root[@]}" apt-get update -qq >"$tmp/apt.log" 2>&1 </dev/null
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o DPkg::Lock::Timeout=120 "$2" >>"$tmp/apt.log" 2>&1 </dev/null; then
    tail -n 10 "$tmp/apt.log"
    service_why+=", and apt-get could not install it (see above)"
    return 1
  fi
  # For the caller, who sources this file.
  # shellcheck disable=SC2034
  service_why=
  printf '%-11s %s installed in %s\n' "$1" "$2" "$(since "$began")"
}
