#!/bin/sh
# The whole story as separate processes: two grapes, a worker, a client; then two who are refused.
# Everything is made anew in .demo, ports come from the kernel, and nothing is left running.
set -u
cd "$(dirname -- "$0")/.."
bin=$(swift build -c release --show-bin-path)
rm -rf .demo
mkdir -p .demo
cd .demo
pids=""
trap 'for p in $pids; do kill "$p" 2>/dev/null; done; wait 2>/dev/null' EXIT
trap 'exit 1' INT TERM

say() { printf '\n== %s\n' "$*"; }
fail() {
    printf 'DEMO FAILED: %s\n' "$*" >&2
    for log in *.log; do printf -- '--- %s\n' "$log"; cat "$log"; done >&2
    exit 1
}
# await FILE PATTERN: waits until the file has a line that matches, 5 s at most.
await() {
    tries=0
    until grep -q -- "$2" "$1" 2>/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -gt 100 ] && fail "no '$2' in $1"
        sleep 0.05
    done
}
field() { sed -n "s/.*\"$2\":\"\([^\"]*\)\".*/\1/p" "$1" | head -n 1; }
show() { grep -- "$2" "$1" | tail -n "${3:-1}" | sed 's/^/   /'; }

say "Certificates: one authority; a worker that may be rpc_test, an impostor that may not"
sh ../certs/generate.sh "$PWD/other" || fail "certs/generate.sh"

say "Two grapes form a DHT"
"$bin/grape" --dp 0 --aph 0 --bn "" --bind 127.0.0.1 --tls-dir other/grape --json \
    >grape1.out 2>grape1.log &
pids="$pids $!"
await grape1.out '"api"'
api1=$(field grape1.out api)
dht1=$(field grape1.out dht | sed 's/.*://')
# Lookups are logged at debug.
"$bin/grape" --dp 0 --aph 0 --bn "127.0.0.1:$dht1" --bind 127.0.0.1 --tls-dir other/grape --json \
    --log-level debug >grape2.out 2>grape2.log &
pids="$pids $!"
await grape2.out '"api"'
api2=$(field grape2.out api)
echo "   grape 1: API $api1, DHT port $dht1"
echo "   grape 2: API $api2, DHT $(field grape2.out dht), knows grape 1"

say "A worker serves rpc_test and announces it to grape 1, over HTTPS with its certificate"
"$bin/grenache" serve rpc_test --port 0 --reply world --verbose --json --tls-dir other/worker \
    --grape "$api1" >worker.out 2>worker.log &
pids="$pids $!"
await worker.out '"address"'
await grape1.log 'port=.* service=rpc_test.* announced'
show grape1.log announced

say "A client looks rpc_test up at grape 2, connects over WSS, and calls it with \"hello\""
"$bin/grenache" call rpc_test hello --verbose --tls-dir other/client --grape "$api2" \
    >call.out 2>call.log || fail "the call"
await grape2.log 'service=rpc_test.*looked up'
show grape2.log 'service=rpc_test.*looked up'
sed 's/^/   client: /' call.log
await worker.log 'service=rpc_test .*call'
show worker.log 'service=rpc_test .*call'
echo "   reply: $(cat call.out)"
[ "$(cat call.out)" = "world" ] || fail "the reply is not world"
grep -q 'tls: TLSv1.3' call.log || fail "not TLS 1.3"
grep -q 'URI:grenache:rpc_test' call.log || fail "the worker's identity"
grep -q 'by=DNS:client.test' worker.log || fail "the client's identity"

say "A client without a certificate is refused"
if curl -sS -m 20 --cacert other/ca/ca.pem -d '{"rid":"1","data":"rpc_test"}' "https://$api2/lookup" \
    >refused1.out 2>refused1.log; then
    fail "a client without a certificate was answered"
fi
sed 's/^/   /' refused1.log
grep -qi 'certificate required\|certificate_required\|alert' refused1.log || fail "no cause named"

say "A worker whose certificate does not cover rpc_test is refused, and gets no byte of the call"
"$bin/grenache" serve rpc_test --port 0 --reply stolen --verbose --json --no-announce \
    --tls-dir other/other-worker >impostor.out 2>impostor.log &
pids="$pids $!"
await impostor.out '"address"'
impostor="127.0.0.1:$(field impostor.out address | sed 's/.*://')"
if "$bin/grenache" call rpc_test hello --to "$impostor" --tls-dir other/client --grape "$api2" \
    >refused2.out 2>refused2.log; then
    fail "the impostor was believed"
fi
sed 's/^/   /' refused2.log
grep -q 'expected URI:grenache:rpc_test' refused2.log || fail "the expected name is not named"
grep -q 'presented URI:grenache:other' refused2.log || fail "the presented name is not named"
grep -q ' call$' impostor.log && fail "the impostor got the call"

say "All of that happened"
