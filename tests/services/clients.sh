# shellcheck shell=bash
# Foreign clients for the tests: Python with those of python-clients, amqp-publish, kcat, promtool, and a browser. Sourced by tests/run.
#
# clients_start  sees that they are there, installs what is missing, sets service_is, returns 0; or sets service_why, returns 1
# clients_stop   there is nothing to end

clients_start() {
  local python
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then install_package clients python3-venv || return 1; fi
  if ! command -v amqp-publish >/dev/null; then install_package clients amqp-tools || return 1; fi
  if ! command -v kcat >/dev/null; then install_package clients kcat || return 1; fi
  if ! command -v promtool >/dev/null; then install_package clients prometheus || return 1; fi
  if ! command -v chromium >/dev/null; then install_package clients chromium || return 1; fi
  if ! python=$("$root/tests/services/python-clients" 2>"$tmp/clients.log"); then
    service_why=$(tail -n 1 "$tmp/clients.log")
    return 1
  fi
  service_is="amqp-publish, kcat, chromium, promtool, Python with $("$python" -m pip list --format freeze 2>/dev/null |
    grep -E '^(pika|confluent-kafka|aiosmtpd|schemathesis)=' | tr '\n' ' ' | sed 's/==/ /g; s/ $//; s/ pika/, pika/')"
}

clients_stop() { :; }
