#!/usr/bin/env bash
# The system under test of this example: haproxy on port 8080 before two nginx on 8081 and 8082, all of them local processes.
# Its files go below $1. WEAK=1: haproxy neither looks whether its servers live nor gives a request to the other one.
# `services.bash DIRECTORY stop` ends them, and waits until they are gone.
set -euo pipefail
directory=${1:?a directory for the files of the services}
if [ "${2:-}" = stop ]; then
  pids=$(cat "$directory"/*.pid)
  kill $pids
  # -0 asks whether there is such a process.
  while kill -0 $pids 2>/dev/null; do sleep 0.05; done
  exit
fi
mkdir -p "$directory"
for port in 8081 8082; do
  cat >"$directory/web-$port.conf" <<CONF
worker_processes 1;
pid $directory/web-$port.pid;
error_log $directory/web-$port.log;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path $directory/body-$port;
  proxy_temp_path $directory/proxy-$port;
  fastcgi_temp_path $directory/fastcgi-$port;
  uwsgi_temp_path $directory/uwsgi-$port;
  scgi_temp_path $directory/scgi-$port;
  server { listen 127.0.0.1:$port; location / { return 200 "$port\n"; } }
}
CONF
  nginx -e "$directory/web-$port.log" -c "$directory/web-$port.conf"
done
check="check inter 200ms fall 2 rise 2"
again="option redispatch 1
  retries 2
  retry-on all-retryable-errors"
if [ -n "${WEAK:-}" ]; then check="" again="retries 0"; fi
cat >"$directory/haproxy.cfg" <<CONF
global
  pidfile $directory/haproxy.pid
defaults
  mode http
  timeout connect 300ms
  timeout client 5s
  timeout server ${SERVER_TIMEOUT:-300ms}
  timeout check 150ms
  $again
frontend shop
  bind 127.0.0.1:8080
  default_backend web
backend web
  option httpchk GET /
  server web1 127.0.0.1:8081 $check
  server web2 127.0.0.1:8082 $check
CONF
haproxy -D -f "$directory/haproxy.cfg"
