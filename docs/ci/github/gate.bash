#!/usr/bin/env bash
# The step of action.yml: inputs come as SQUALL_..., squall and squalld are in PATH.
set -euo pipefail
reports=${SQUALL_REPORTS:-squall-reports}
read -ra paths <<<"${SQUALL_PATHS:-chaos}"
arguments=(gate "${paths[@]}" --reports "$reports" --junit "$reports/junit.xml" --json "$reports/gate.json" --markdown "$reports/gate.md")
mkdir -p "$reports"
[ -z "${SQUALL_AGAINST:-}" ] || arguments+=(--against "$SQUALL_AGAINST")
[ "${SQUALL_UPDATE_BASELINE:-false}" != true ] || arguments+=(--update-baseline)
[ -z "${SQUALL_REPEAT:-}" ] || arguments+=(--repeat "$SQUALL_REPEAT")
[ -z "${SQUALL_BUDGET:-}" ] || arguments+=(--budget "$SQUALL_BUDGET")
[ -z "${SQUALL_SHARD:-}" ] || arguments+=(--shard "$SQUALL_SHARD")
[ -z "${SQUALL_POLICY:-}" ] || arguments+=(--policy "$SQUALL_POLICY")
# Real faults need root: hosted runners give it by sudo, containers are it. sudo passes signals on.
run=(squall)
if [ "$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then
  run=(sudo --non-interactive --preserve-env "$(command -v squall)")
fi
code=0
"${run[@]}" "${arguments[@]}" || code=$?
[ -z "${GITHUB_OUTPUT:-}" ] || echo "exit-code=$code" >>"$GITHUB_OUTPUT"
exit "$code"
