"""What is attacked: the gateway as a process, with services, an issuer, keys and certificates of its own.

Everything listens on loopback, on ports that the kernel picks, and ends with `World.stop`.
"""
import json
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "bench"))
import mint  # noqa: E402  the bench's keys, certificates and tokens

NAME = mint.EDGE_NAME
START_TIMEOUT, STOP_TIMEOUT = 20, 40
TOKENS = 500
# Large enough for what one tool may take, small enough to be in the way of one that finds a hole.
MEMORY = "1GiB"

CONFIG = """
listeners:
  - name: tls
    address: 127.0.0.1:0
    tls: {{ certificates: [{{ certificate: {data}/edge.crt, private_key: {data}/edge.key }}] }}
  - {{ name: plain, address: "127.0.0.1:0" }}
admin: {{ address: "127.0.0.1:0" }}
issuers:
  - name: issuer
    issuer: {issuer}
    audiences: ["{audience}"]
    keys: {{ url: "http://127.0.0.1:{issuer_port}/jwks.json" }}
upstreams:
  - {{ name: orders, addresses: ["127.0.0.1:{orders_port}"], timeouts: {{ idle: 2s }} }}
  - {{ name: attacked, addresses: ["127.0.0.1:{attacked_port}"], timeouts: {{ idle: 2s }} }}
access_log: {{ file: {folder}/access.log }}
overload: {{ memory: {memory} }}
policy: {{ files: [policy.yaml] }}
"""

POLICY = """
owner: scanners
scopes: { "orders:read": Read orders }
routes:
  - name: orders
    match: { path: "/orders/{*rest}" }
    upstream: orders
    require: { scopes: ["orders:read"] }
  - name: guarded
    match: { path: "/guarded/{*rest}" }
    upstream: attacked
    require: { scopes: ["orders:read"] }
  - { name: public, match: { path: "/public/{*rest}" }, upstream: attacked, public: true }
"""


class World:
    """A gateway that serves. Use it with `with`. On one `processor` it has one worker."""

    def __init__(self, folder, binary, processor=None):
        self.folder, self.data = folder, os.path.join(folder, "data")
        os.umask(0o077)  # whoever reads a private key wants it private
        mint.mint(self.data, TOKENS)
        with open(self.file("cases.json")) as file:
            self.cases = json.load(file)
        self.tokens = self.lines("rs256.500")
        self.bad_tokens = self.lines("rs256.bad")
        self.programs = []
        # Two, so that the one which is attacked keeps nobody waiting at the other.
        self.orders, self.attacked = self._start_service("orders"), self._start_service("attacked")
        self.issuer = self._start_service("issuer", self.data)
        pinned = [] if processor is None else ["taskset", "-c", str(processor)]
        self.gateway = self._start_gateway([*pinned, binary])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        for program in reversed(self.programs):
            if program.poll() is None:
                program.terminate()
        for program in reversed(self.programs):
            try:
                program.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()

    def file(self, name):
        return os.path.join(self.data, name)

    def lines(self, name):
        with open(self.file(name)) as file:
            return file.read().split()

    @property
    def token(self):
        return self.tokens[0]

    @property
    def pid(self):
        return self.gateway.pid

    @property
    def is_alive(self):
        return self.gateway.poll() is None

    def address(self, listener):
        return ("127.0.0.1", self.ports[listener])

    def url(self, listener, path):
        scheme = "https" if listener == "tls" else "http"
        return f"{scheme}://127.0.0.1:{self.ports[listener]}{path}"

    def client_context(self, *protocols):
        """TLS as a caller wants it: our authority, and these protocols above."""
        context = ssl.create_default_context(cafile=self.file("ca.crt"))
        context.set_alpn_protocols(list(protocols))
        return context

    def metric(self, name):
        """The sum of a metric's series."""
        text = fetch(f"http://127.0.0.1:{self.ports['admin']}/metrics")
        return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))

    @staticmethod
    def counts(service):
        """What a service saw since the last time it was asked."""
        return json.loads(fetch(f"http://127.0.0.1:{service.port}/counts"))

    def log(self):
        with open(os.path.join(self.folder, "gateway.log"), errors="replace") as file:
            return file.read()

    def access_log(self):
        """Lines of the access log, one after another."""
        with open(os.path.join(self.folder, "access.log"), errors="replace") as file:
            yield from file

    def _start(self, name, command, **options):
        with open(os.path.join(self.folder, f"{name}.log"), "ab") as log:
            program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log,
                                       cwd=self.folder, **options)
        self.programs.append(program)
        return program

    def _start_service(self, name, *arguments):
        command = [sys.executable, os.path.join(HERE, "service.py"), *arguments]
        program = self._start(name, command, stdout=subprocess.PIPE)
        program.port = int(program.stdout.readline())
        return program

    def _start_gateway(self, program):
        for name, text in (
            ("policy.yaml", POLICY),
            ("portcullis.yaml", CONFIG.format(
                data=self.data, folder=self.folder, memory=MEMORY, issuer=mint.ISSUER,
                audience=mint.AUDIENCE, issuer_port=self.issuer.port,
                orders_port=self.orders.port, attacked_port=self.attacked.port)),
        ):
            with open(os.path.join(self.folder, name), "w") as file:
                file.write(text)
        ready = os.path.join(self.folder, "ready.json")
        program = self._start("gateway", [
            *program, "run", "--config", "portcullis.yaml", "--log-level", "warn", "--ready-file", ready,
        ], stdout=subprocess.DEVNULL)
        end = time.monotonic() + START_TIMEOUT
        while not os.path.exists(ready):
            if program.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"the gateway does not start: {self.log()}")
            time.sleep(0.05)
        with open(ready) as file:
            said = json.load(file)
        addresses = {**said["listeners"], "admin": said["admin"]}
        self.ports = {name: int(address.rsplit(":", 1)[1]) for name, address in addresses.items()}
        return program


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()
