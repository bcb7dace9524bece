# shellcheck shell=bash
# A Kafka for the tests, in this order: the one that PITCREW_KAFKA_URL names; docker-compose.yml where a Docker engine
# answers; a node of our own from the jars of Maven Central, kept in a cache. Sourced by tests/run.
#
# kafka_start  exports PITCREW_KAFKA_URL, sets service_is (what runs where), returns 0; or sets service_why, returns 1
# kafka_stop   ends what kafka_start began, and nothing else

kafka_version=4.3.1
kafka_project= # of docker compose
kafka_pid=     # of our own node

kafka_start() {
  if [[ -n ${PITCREW_KAFKA_URL:-} ]]; then
    kafka_given
    return
  fi
  if docker_answers; then
    if kafka_compose; then return 0; fi
    printf 'kafka       %s; trying a native one\n' "$service_why"
  fi
  kafka_native
}

kafka_stop() {
  if [[ -n $kafka_project ]]; then
    docker compose -p "$kafka_project" -f "$root/docker-compose.yml" down --volumes --timeout 5 >/dev/null 2>&1
    kafka_project=
  fi
  if [[ -n $kafka_pid ]]; then
    # Its data goes with it: there is nothing to shut down in order.
    kill -KILL "$kafka_pid" 2>/dev/null
    wait "$kafka_pid" 2>/dev/null
    kafka_pid=
  fi
  return 0
}

# --- the one that was named ---

kafka_given() {
  local first host port
  first=${PITCREW_KAFKA_URL#*://}
  first=${first%%[,/?]*}
  host=${first%:*}
  port=${first##*:}
  if [[ $host =~ ^[A-Za-z0-9._-]+$ && $port =~ ^[0-9]+$ ]] && ! answers "$host" "$port"; then
    service_why="PITCREW_KAFKA_URL is set, and nobody answers on $host:$port: start it, or unset the variable"
    return 1
  fi
  export PITCREW_KAFKA_URL
  service_is="given by PITCREW_KAFKA_URL, $first"
}

# --- docker compose ---

kafka_compose() {
  PITCREW_KAFKA_PORT=$(free_port)
  export PITCREW_KAFKA_PORT
  kafka_project=pitcrew-tests-kafka-$$
  if ! timeout 300 docker compose -p "$kafka_project" -f "$root/docker-compose.yml" up --detach --wait kafka \
    >"$tmp/kafka.log" 2>&1; then
    tail -n 5 "$tmp/kafka.log"
    kafka_stop
    service_why="docker compose could not start it"
    return 1
  fi
  export PITCREW_KAFKA_URL="kafka://127.0.0.1:$PITCREW_KAFKA_PORT"
  service_is="docker compose, 127.0.0.1:$PITCREW_KAFKA_PORT"
}

# --- a node of our own ---

kafka_native() {
  local jars try
  kafka_need java default-jre-headless || return 1
  jars=${XDG_CACHE_HOME:-$HOME/.cache}/pitcrew/kafka-$kafka_version
  if [[ ! -e $jars/complete ]]; then
    kafka_need mvn maven || return 1
    kafka_fetch "$jars" || return 1
  fi
  for try in 1 2 3 4 5; do
    if kafka_serve "$jars" "$(free_port)" "$(free_port)"; then
      export PITCREW_KAFKA_JARS=$jars # for tests that start nodes of their own
      return 0
    fi
  done
  tail -n 20 "$tmp/kafka.log"
  service_why="Kafka $kafka_version did not start ($try attempts, its log is above)"
  return 1
}

# $1 is a program, $2 the Debian package that brings it.
kafka_need() { command -v "$1" >/dev/null || install_package kafka "$2"; }

# The broker and the libraries it needs. Whole or not there: two runs at once each fetch into a folder of their own.
kafka_fetch() {
  local began
  began=$(now_ms)
  mkdir -p "$tmp/kafka-jars" "$(dirname "$1")"
  cat >"$tmp/kafka-jars/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>pitcrew</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$kafka_version</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$kafka_version</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.4</version></dependency>
  </dependencies>
</project>
POM
  if ! (cd "$tmp/kafka-jars" && timeout 300 mvn -q -B dependency:copy-dependencies -DoutputDirectory=jars \
    -DincludeScope=runtime) >"$tmp/kafka.log" 2>&1 </dev/null; then
    tail -n 5 "$tmp/kafka.log"
    service_why="Kafka $kafka_version could not be fetched from Maven Central (see above)"
    return 1
  fi
  touch "$tmp/kafka-jars/jars/complete"
  rm -rf "$1.$$" && cp -r "$tmp/kafka-jars/jars" "$1.$$"
  mv -T "$1.$$" "$1" 2>/dev/null || rm -rf "$1.$$"
  printf 'kafka       fetched %s in %s\n' "$kafka_version" "$(since "$began")"
}

# One node. As our own child: stopped by its pid alone, and it dies with us.
kafka_serve() {
  local jars=$1 port=$2 controller=$3 data=$tmp/kafka
  rm -rf "$data"
  mkdir "$data"
  setsid setpriv --pdeathsig KILL "$root/tests/services/kafka-node" "$jars" "$data" "$port" "$controller" \
    >"$tmp/kafka.log" 2>&1 </dev/null &
  kafka_pid=$!
  for ((i = 0; i < 600; i++)); do
    # Its own log says when it serves; asking the port instead could be answered by a stranger.
    if grep -q 'Kafka Server started' "$tmp/kafka.log" 2>/dev/null; then
      export PITCREW_KAFKA_URL="kafka://127.0.0.1:$port"
      service_is="native $kafka_version, 127.0.0.1:$port"
      return 0
    fi
    kill -0 "$kafka_pid" 2>/dev/null || break
    sleep 0.1
  done
  kafka_stop
  return 1
}
