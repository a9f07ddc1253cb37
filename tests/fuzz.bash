#!/usr/bin/env bash
# Runs every target of tests/fuzz under libFuzzer. SECONDS_EACH=n (60) for each; ONLY="wire journal": only these.
# Says what came of it in the words of cargo test, so that `make test` counts it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
targets=(${ONLY:-journal wire experiment policy pattern})
seconds=${SECONDS_EACH:-60}
machine=$(rustc -vV | sed -n 's/^host: //p')
built=${CARGO_TARGET_DIR:-$PWD/target}/fuzz

# What cargo-fuzz passes, too; all of it is in the stable compiler. There is no unsafe code in what is fuzzed: no sanitizer, which is not.
# With a --target the flags leave build scripts and macros alone.
flags=(--cfg fuzzing -Cdebug-assertions -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares)
if ! RUSTFLAGS="${flags[*]}" cargo build --quiet --manifest-path tests/fuzz/Cargo.toml --target "$machine" --target-dir "$built" --profile fuzz --bins; then
    echo "test libfuzzer_is_built ... FAILED"
    echo "test result: FAILED. 0 passed; 1 failed; 0 ignored"
    exit 1
fi

passed=0 failed=0
for target in "${targets[@]}"; do
    # What is found anew goes to the first directory, which git does not see; an input that fails goes beside it.
    found=tests/fuzz/found/$target
    mkdir -p "$found" "tests/fuzz/artifacts/$target"
    if "$built/$machine/fuzz/$target" -artifact_prefix="tests/fuzz/artifacts/$target/" -max_total_time="$seconds" -rss_limit_mb=1024 -timeout=10 \
        -print_final_stats=1 "$found" "tests/fuzz/corpus/$target" 2>&1 | grep --line-buffered -vE '^#[0-9]+\s+(NEW|REDUCE|pulse|RELOAD)'; then
        echo "test libfuzzer_$target ... ok"
        passed=$((passed + 1))
    else
        echo "test libfuzzer_$target ... FAILED"
        failed=$((failed + 1))
    fi
done
if [ "$failed" -gt 0 ]; then
    echo "test result: FAILED. $passed passed; $failed failed; 0 ignored"
    exit 1
fi
echo "test result: ok. $passed passed; $failed failed; 0 ignored"
