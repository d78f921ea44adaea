#!/usr/bin/env python3
"""Side-by-side load comparison over TLS and HTTP/2: pagecast and nginx with one certificate and one cipher.

Each server has CPU 0, the load generator CPU 1, and the servers take turns within each round. What is compared is
requests per second of server CPU: ratios within one run, never absolute figures across runs.

usage: encrypted.py [--rounds N] [--secs S] [--cases a,b,...] [--root DIRECTORY] PAGECAST [NAME=PAGECAST ...]

Needs nginx, openssl, wrk and h2load (Debian: nginx-light openssl wrk nghttp2-client).
"""
import argparse, os, re, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

CASES = {
    "h2-tls-1k":   dict(tool="h2load", scheme="https", path="/1k.css", clients=16, streams=32),
    "h2c-1k":      dict(tool="h2load", scheme="http", path="/1k.css", clients=16, streams=32),
    "h2-tls-100k": dict(tool="h2load", scheme="https", path="/100k.jpg", clients=8, streams=8),
    "tls-1k":      dict(tool="wrk", scheme="https", path="/1k.css", clients=64),
    "tls-100k":    dict(tool="wrk", scheme="https", path="/100k.jpg", clients=16),
    "tls-100m":    dict(tool="wrk", scheme="https", path="/100m.bin", clients=4),
    "tls-new":     dict(tool="wrk", scheme="https", path="/1k.css", clients=16, close=True),
}
SIZES = [("1k.css", 1 << 10), ("100k.jpg", 100 << 10), ("100m.bin", 100 << 20)]

NGINX = """
worker_processes 1; daemon off; master_process on; pid {scratch}/nginx.pid; error_log {scratch}/nginx.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; open_file_cache max=1000;
  open_file_cache_valid 60s; etag on; types {{ text/css css; image/jpeg jpg; }}
  ssl_certificate {scratch}/cert.pem; ssl_certificate_key {scratch}/key.pem; ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache shared:a:10m; http2_max_concurrent_streams 128;
  {limits}
  client_body_temp_path {scratch}/b; proxy_temp_path {scratch}/p; fastcgi_temp_path {scratch}/f;
  uwsgi_temp_path {scratch}/u; scgi_temp_path {scratch}/s;
  server {{ listen 127.0.0.1:{https} ssl http2; root {root}; }}
  server {{ listen 127.0.0.1:{http} http2; root {root}; }}
}}
"""


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("binaries", nargs="+", metavar="PAGECAST")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--secs", type=int, default=3)
    ap.add_argument("--cases", default=",".join(CASES))
    ap.add_argument("--root", default=os.path.join(tempfile.gettempdir(), "encrypted-root"))
    args = ap.parse_args()
    make_root(args.root)
    with tempfile.TemporaryDirectory(prefix="encrypted-") as scratch:
        certificate(scratch)
        servers = start(args, scratch)
        try:
            compare(args, servers)
        finally:
            for server in servers.values():
                server["process"].send_signal(signal.SIGTERM)
                server["process"].wait(20)


def make_root(root):
    os.makedirs(root, exist_ok=True)
    for name, size in SIZES:
        path = os.path.join(root, name)
        if not os.path.exists(path) or os.path.getsize(path) != size:
            with open(path, "wb") as out:
                for at in range(0, size, 1 << 20):
                    out.write(os.urandom(min(1 << 20, size - at)))


def certificate(scratch):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", f"{scratch}/key.pem", "-out", f"{scratch}/cert.pem"], check=True, capture_output=True)


def start(args, scratch):
    servers, port = {}, 9310
    if shutil.which("nginx"):
        limits = "keepalive_timeout 60s;"
        text = NGINX.format(scratch=scratch, root=args.root, https=port, http=port + 1, limits=limits)
        with open(f"{scratch}/nginx.conf", "w") as out:
            out.write(text)
        servers["nginx"] = spawn(["nginx", "-c", f"{scratch}/nginx.conf"], {}, port)
    for binary in args.binaries:
        port += 2
        name, _, path = binary.rpartition("=")
        env = {
            "PAGECAST_ROOT": args.root, "PAGECAST_LISTEN": f"127.0.0.1:{port + 1}",
            "PAGECAST_TLS_LISTEN": f"127.0.0.1:{port}", "PAGECAST_TLS_CERT": f"{scratch}/cert.pem",
            "PAGECAST_TLS_KEY": f"{scratch}/key.pem", "PAGECAST_ADMIN_LISTEN": "off", "PAGECAST_DRAIN_DELAY": "0",
            "PAGECAST_LOG": "warn", "PAGECAST_WORKERS": "1",
        }
        servers[name or "pagecast"] = spawn([path], env, port)
    return servers


def spawn(command, env, port):
    process = subprocess.Popen(["taskset", "-c", "0", *command], env={**os.environ, **env})
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return dict(process=process, https=port, http=port + 1)
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{command[0]} does not listen on {port}")


def compare(args, servers):
    print(f"{'case':<12} {'server':<12} {'req/cpu-s':>12} {'req/s':>10} {'MB/s':>8} {'ratio':>6} {'bad':>4}")
    for case in args.cases.split(","):
        figures = {name: [] for name in servers}
        for _ in range(args.rounds):
            for name, server in servers.items():
                figures[name].append(load(CASES[case], server, args.secs))
        first = None
        for name, runs in figures.items():
            median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            first = first or median["per_cpu"]
            print(f"{case:<12} {name:<12} {median['per_cpu']:>12.0f} {median['rate']:>10.0f} {median['mb']:>8.0f} "
                  f"{median['per_cpu'] / first:>6.2f} {median['bad']:>4.0f}", flush=True)


def load(case, server, secs):
    url = f"{case['scheme']}://localhost:{server[case['scheme']]}{case['path']}"
    if case["tool"] == "wrk":
        command = ["wrk", "-t1", f"-c{case['clients']}", f"-d{secs}s", url]
        if case.get("close"):
            command[1:1] = ["-H", "Connection: close"]
    else:
        command = ["h2load", "-t1", f"-c{case['clients']}", f"-m{case['streams']}", f"-D{secs}", url]
    before = cpu(server["process"].pid)
    out = subprocess.run(["taskset", "-c", "1", *command], capture_output=True, text=True, timeout=secs + 60).stdout
    spent = cpu(server["process"].pid) - before
    read = from_wrk if case["tool"] == "wrk" else from_h2load
    requests, rate, megabytes, bad = read(out)
    return dict(per_cpu=requests / max(spent, 1e-9), rate=rate, mb=megabytes, bad=bad)


def from_wrk(out):
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
    amount, unit = re.search(r"Transfer/sec:\s+([\d.]+)(B|KB|MB|GB)", out).groups()
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    return requests, rate, float(amount) * {"B": 1e-6, "KB": 1e-3, "MB": 1.0, "GB": 1e3}[unit], int(bad.group(1)) if bad else 0


def from_h2load(out):
    rate, amount, unit = re.search(r"finished in [^,]+, ([\d.]+) req/s, ([\d.]+)(B|KB|MB|GB)/s", out).groups()
    counts = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed", out)
    total = int(counts.group(3))
    return total, float(rate), float(amount) * {"B": 1e-6, "KB": 1e-3, "MB": 1.0, "GB": 1e3}[unit], int(counts.group(4))


def cpu(pid):
    """Seconds of user and system time of a process and its children."""
    total, stack, tick = 0.0, [pid], os.sysconf("SC_CLK_TCK")
    while stack:
        at = stack.pop()
        try:
            with open(f"/proc/{at}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / tick
            for thread in os.listdir(f"/proc/{at}/task"):
                with open(f"/proc/{at}/task/{thread}/children") as children:
                    stack += [int(child) for child in children.read().split()]
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total


if __name__ == "__main__":
    main()
