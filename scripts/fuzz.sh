#!/bin/sh
# Runs each fuzz target for SECONDS_EACH seconds (default 60) or, with EXECUTIONS, that often; or only
# those named as arguments, from the seeds in Tests/Fuzz/Seeds. What is found lies in .build-fuzz/findings;
# it belongs into a table of the tests.
set -eu
cd "$(dirname -- "$0")/.."
limit=-max_total_time=${SECONDS_EACH:-60}
[ -z "${EXECUTIONS:-}" ] || limit=-runs=$EXECUTIONS
targets=${*:-"http-request http-response chunked websocket deflate gzip envelope krpc bencode certificate policy pubsub context grape-request grape-answer"}

export GRENACHE_FUZZ=1 SWIFT_BACKTRACE=enable=no
swift build -c release --scratch-path .build-fuzz --product FramerFuzz -Xswiftc -enable-testing \
    --sanitize=fuzzer --sanitize=address -Xswiftc -sanitize=fuzzer,address
binary=.build-fuzz/release/FramerFuzz
findings=.build-fuzz/findings
mkdir -p "$findings"
failed=""
for target in $targets; do
    corpus=.build-fuzz/corpus/$target
    mkdir -p "$corpus"
    log=.build-fuzz/$target.log
    result=found
    FUZZ_TARGET=$target "$binary" "$limit" -timeout=10 -rss_limit_mb=2048 \
        -max_len=4096 -print_final_stats=1 -artifact_prefix="$findings/$target-" \
        "$corpus" "Tests/Fuzz/Seeds/$target" >"$log" 2>&1 && result=clean || failed="$failed $target"
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "$target: $result, ${runs:-?} executions"
    [ "$result" = clean ] || tail -n 20 "$log"
done
[ -z "$failed" ] || { echo "findings:$failed (see $findings)" >&2; exit 1; }
