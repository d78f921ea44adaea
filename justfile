# Every command of the project; `just` alone lists them.

port := "9380"

# list the recipes
default:
    @just --list

# all that must hold before a merge: format, lints, docs, tests, a smoke run
check:
    .ci/run

# every test that needs nothing but Rust
test *ARGS:
    cargo test {{ARGS}}

# serve static/ on port 8080
serve *ARGS:
    cargo run --release -- {{ARGS}}

# one benchmark: pure and cache by criterion; cold_scan for hot files beside cold ones, memory of connections, pacing of bandwidth
bench NAME:
    cargo bench --bench {{NAME}}

# one fuzz target for a minute (needs nightly Rust and cargo-fuzz)
fuzz NAME:
    cargo +nightly fuzz run {{NAME}} -- -max_total_time=60

# side by side with other servers, one core each
compare *ARGS:
    cargo build --release
    python3 ../shared/bench/sidebyside.py {{ARGS}} ../shared/bench/peers.json benches/servers.json

# hot latency while cold reads run; others by NAME=URL, serving target/coldscan on CPU 0
coldscan *OTHERS: (_pinned "target/coldscan" 'python3 ../shared/bench/coldscan.py pagecast=http://127.0.0.1:$PORT ' + OTHERS + ' --root target/coldscan')

# system calls of 10,000 hot requests on one connection
strace: (_pinned "static" 'strace -c -f -p $SERVER & sleep 1; curl -s -o target/strace.out "http://127.0.0.1:$PORT/assets/favicon.svg?[1-10000]"; kill -INT $!; wait $! || true')

# ten minutes of everything at once: files that change, clients that break off, settings read anew
soak SECONDS="600":
    PAGECAST_SOAK_SECONDS={{SECONDS}} cargo test --release --test behaviour -- soak:: --nocapture

# draw the artifact of static/ anew and check that it is the same
artifact:
    python3 docs/draw-artifact.py
    git diff --exit-code static/artifacts

# draw the chart of README.md anew from BENCHMARKS.md and check that it is the same
chart:
    python3 docs/draw-chart.py
    git diff --exit-code docs/figures.svg

# the server over ROOT on one core while COMMAND runs
[private]
_pinned ROOT COMMAND:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo build --release
    mkdir -p target "{{ROOT}}"
    export PORT={{port}}
    PAGECAST_ROOT="{{ROOT}}" PAGECAST_LISTEN="127.0.0.1:$PORT" PAGECAST_ADMIN_LISTEN=off PAGECAST_WORKERS=1 PAGECAST_DRAIN_DELAY=0s \
        taskset -c 0 "${CARGO_TARGET_DIR:-target}/release/pagecast" &
    export SERVER=$!
    trap 'kill "$SERVER"; wait "$SERVER" || true' EXIT
    curl -s -o target/ready.out --retry 50 --retry-delay 1 --retry-connrefused --fail "http://127.0.0.1:$PORT/readyz"
    {{COMMAND}}
