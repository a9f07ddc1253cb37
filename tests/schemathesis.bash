#!/usr/bin/env bash
# Fuzzes the API of an ephemeral squalld from its own OpenAPI document: no 5xx, and every answer as the document says.
# EXAMPLES=n for each operation (20), SECONDS_MOST=n for all of it (120).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/target/schemathesis
if [ ! -x "$venv/bin/schemathesis" ]; then
    python3 -m venv "$venv" && "$venv/bin/pip" install --quiet schemathesis || {
        echo "schemathesis cannot be installed into $venv: nothing was fuzzed" >&2
        exit 1
    }
fi

work=$(mktemp -d)
mkfifo "$work/input"
"$root/target/debug/squalld" dev --ephemeral --node fuzzed <"$work/input" >"$work/ready" 2>"$work/log" &
daemon=$!
# It ends with its input.
exec {input}>"$work/input"
trap 'exec {input}>&-; wait "$daemon" || true; rm -rf "$work"' EXIT

# The line comes when it serves.
for _ in $(seq 200); do
    [ -s "$work/ready" ] && break
    sleep 0.05
done
eval "$(python3 - "$work" <<'PYTHON'
import json, shlex, sys
work = sys.argv[1]
ready = json.load(open(f"{work}/ready"))
access = json.load(open(ready["access"]))
open(f"{work}/ca.pem", "w").write(access["ca"])
print(f"url={shlex.quote(access['url'])} token={shlex.quote(access['token'])}")
PYTHON
)"
curl --silent --fail --cacert "$work/ca.pem" -H "Authorization: Bearer $token" "$url/v1/openapi.json" >"$work/openapi.json"

# A stream has no end, and what starts runs is refused all the same: the lever is engaged first.
curl --silent --fail --output /dev/null --cacert "$work/ca.pem" -H "Authorization: Bearer $token" -X POST "$url/v1/lever/engage"
"$venv/bin/schemathesis" run "$work/openapi.json" --url "$url" --tls-verify "$work/ca.pem" -H "Authorization: Bearer $token" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --exclude-path '/v1/runs/{run}/stream' --exclude-path /v1/lever/release --exclude-path '/v1/nodes/{node}' \
    --max-examples "${EXAMPLES:-20}" --max-time "${SECONDS_MOST:-120}" --seed "${SQUALL_SEED:-1}" --request-timeout 10 \
    --continue-on-failure --no-color
