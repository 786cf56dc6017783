"""Independent clients: what they ask for properly is answered properly, each time."""
import re
import subprocess

import results
import world as worlds

REQUESTS, CONNECTIONS, STREAMS = 4_000, 20, 10
CURL_REQUESTS = 200


def run(world, report, match=""):
    for name, listener, arguments in (
        ("HTTP/2 over TLS", "tls", ["--max-concurrent-streams", str(STREAMS)]),
        ("HTTP/1.1 over TLS", "tls", ["--h1"]),
        ("HTTP/2, plain, with prior knowledge", "plain", ["--max-concurrent-streams", str(STREAMS)]),
        ("HTTP/1.1, plain", "plain", ["--h1"]),
    ):
        report(h2load(world, name, listener, arguments))
    for name, listener, arguments, version in (
        ("HTTP/2, TLS 1.3", "tls", ["--http2", "--tlsv1.3"], "2"),
        ("HTTP/2, TLS 1.2", "tls", ["--http2", "--tls-max", "1.2"], "2"),
        ("HTTP/1.1, TLS 1.3", "tls", ["--http1.1", "--tlsv1.3"], "1.1"),
        ("HTTP/1.1, TLS 1.2", "tls", ["--http1.1", "--tls-max", "1.2"], "1.1"),
        ("HTTP/1.1, plain", "plain", ["--http1.1"], "1.1"),
        # With prior knowledge curl 7.88 cannot use a connection twice, whatever the server: h2load does that.
    ):
        report(curl(world, name, listener, arguments, version))


def h2load(world, name, listener, arguments):
    world.counts(world.orders)
    command = ["h2load", "--requests", str(REQUESTS), "--clients", str(CONNECTIONS), *arguments,
               "--header", f"authorization: Bearer {world.token}", world.url(listener, "/orders/1")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=180).stdout

    def found(pattern):
        match = re.search(pattern, said)
        return match.group(1) if match else "0"

    good, reached = int(found(r"status codes: (\d+) 2xx")), world.counts(world.orders)["requests"]
    faults = []
    if good != REQUESTS:
        faults.append(f"{good} of {REQUESTS} were answered with 2xx: {said[-300:]}")
    if reached != REQUESTS:
        faults.append(f"{reached} of {REQUESTS} reached the service")
    note = f"{good:,} of {REQUESTS:,} answered with 2xx, {float(found(r', ([0-9.]+) req/s')):,.0f} a second"
    return results.Row("h2load", name, faults, notes=[note])


def curl(world, name, listener, arguments, version):
    """With a good token: 200; without one: 401."""
    faults, counted = [], []
    for status, headers in (("200", ["--header", f"Authorization: Bearer {world.token}"]), ("401", [])):
        scheme, port = ("https" if listener == "tls" else "http"), world.ports[listener]
        command = ["curl", "--silent", "--max-time", "10", "--parallel", "--parallel-max", "10",
                   "--cacert", world.file("ca.crt"), "--noproxy", "*", "--output", "/dev/null",
                   "--connect-to", f"{worlds.NAME}:{port}:127.0.0.1:{port}",
                   "--write-out", "%{http_code} %{http_version}\n", *arguments, *headers,
                   f"{scheme}://{worlds.NAME}:{port}/orders/[1-{CURL_REQUESTS}]"]
        answers = subprocess.run(command, capture_output=True, text=True, timeout=180).stdout.split("\n")[:-1]
        good = answers.count(f"{status} {version}")
        counted.append(f"{good} of {CURL_REQUESTS} answered with {status}")
        if good != CURL_REQUESTS:
            others = sorted(set(answers) - {f"{status} {version}"})
            faults.append(f"{good} of {CURL_REQUESTS} were {status} over {version}; others: {others}")
    return results.Row("curl", name, faults, notes=[", ".join(counted)])
