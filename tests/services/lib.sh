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
