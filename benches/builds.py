#!/usr/bin/env python3
"""Requests per second of server CPU of several builds of pagecast, all running at the same time.

All servers share CPU 0, one load generator for each shares CPU 1. What slows the machine for a moment slows all of them
alike, so a ratio of two builds is good to a percent where turns of some seconds differ by ten. Every start takes fresh
processes: two processes of one binary differ as well.

usage: builds.py [--starts N] [--secs S] [--cases a,b,...] [--connections C] NAME=BINARY NAME=BINARY ...

For each case and build: the median over the starts, the median of its ratio to the first build of the same start, and the
standard error of that ratio. Needs wrk and openssl (Debian: wrk openssl).
"""
import argparse, glob, os, random, re, signal, socket, statistics, subprocess, sys, tempfile, time

from encrypted import certificate

CASES = {
    "hot-1k": ("http", "/1k.css", []),
    "hot-10k": ("http", "/10k.js", []),
    "hot-100k": ("http", "/100k.jpg", []),
    "not-mod": ("http", "/10k.js", ["-H", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"]),
    "missing": ("http", "/no/such/file.js", []),
    "tls-1k": ("https", "/1k.css", []),
}
SIZES = [("1k.css", 1 << 10), ("10k.js", 10 << 10), ("100k.jpg", 100 << 10)]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("builds", nargs="+", metavar="NAME=BINARY")
    ap.add_argument("--starts", type=int, default=10)
    ap.add_argument("--secs", type=int, default=2)
    ap.add_argument("--connections", type=int, default=32)
    ap.add_argument("--cases", default=",".join(CASES))
    args = ap.parse_args()
    builds = dict(build.split("=", 1) for build in args.builds)
    cases = args.cases.split(",")
    rates = {(case, name): [] for case in cases for name in builds}
    with tempfile.TemporaryDirectory(prefix="builds-") as scratch:
        make_site(scratch)
        for _ in range(args.starts):
            one_start(args, builds, cases, scratch, rates)
    report(builds, cases, rates)


def make_site(scratch):
    os.mkdir(f"{scratch}/site")
    for name, size in SIZES:
        with open(f"{scratch}/site/{name}", "wb") as out:
            out.write(os.urandom(size))
    certificate(scratch)


def one_start(args, builds, cases, scratch, rates):
    servers = {}
    try:
        for at, name in enumerate(random.sample(list(builds), len(builds))):
            servers[name] = start(builds[name], 9410 + 2 * at, scratch)
        for case in cases:
            for name, rate in load(args, case, servers).items():
                rates[case, name].append(rate)
    finally:
        for process, _ in servers.values():
            process.send_signal(signal.SIGTERM)
        for process, _ in servers.values():
            process.wait(20)


def start(binary, port, scratch):
    env = {
        "PAGECAST_ROOT": f"{scratch}/site", "PAGECAST_LISTEN": f"127.0.0.1:{port}", "PAGECAST_ADMIN_LISTEN": "off",
        "PAGECAST_TLS_LISTEN": f"127.0.0.1:{port + 1}", "PAGECAST_TLS_CERT": f"{scratch}/cert.pem",
        "PAGECAST_TLS_KEY": f"{scratch}/key.pem", "PAGECAST_COMPRESS": "off", "PAGECAST_DRAIN_DELAY": "0s",
        "PAGECAST_WORKERS": "1", "PAGECAST_LOG": "error",
    }
    process = subprocess.Popen(["taskset", "-c", "0", binary], env={**os.environ, **env})
    ports = {"http": port, "https": port + 1}
    try:
        for at in ports.values():
            wait_for(at, binary)
    except BaseException:
        process.kill()
        raise
    return process, ports


def wait_for(port, binary):
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{binary} does not listen on {port}")


def load(args, case, servers):
    """Requests per second of CPU by the server's name, all servers under load at once."""
    scheme, path, headers = CASES[case]
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{args.connections}", f"-d{args.secs}s", *headers]
    before = {name: cpu(process.pid) for name, (process, _) in servers.items()}
    generators = {
        name: subprocess.Popen([*command, f"{scheme}://127.0.0.1:{ports[scheme]}{path}"], stdout=subprocess.PIPE, text=True)
        for name, (_, ports) in servers.items()
    }
    said = {name: generator.communicate()[0] for name, generator in generators.items()}
    return {
        name: int(re.search(r"(\d+) requests in", said[name]).group(1)) / (cpu(process.pid) - before[name])
        for name, (process, _) in servers.items()
    }


def cpu(pid):
    """Seconds that the threads of a process have run; the scheduler counts them in nanoseconds."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with open(path) as stat:
            total += int(stat.read().split()[0])
    return total / 1e9


def report(builds, cases, rates):
    print(f"{'case':<10} {'build':<12} {'req/cpu-s':>10} {'ratio':>6} {'error':>6}")
    first = next(iter(builds))
    for case in cases:
        for name in builds:
            ratios = [rate / base for rate, base in zip(rates[case, name], rates[case, first])]
            error = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else 0.0
            print(f"{case:<10} {name:<12} {statistics.median(rates[case, name]):>10.0f} {statistics.median(ratios):>6.3f} {error:>6.3f}")


if __name__ == "__main__":
    main()
