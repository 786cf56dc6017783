"""The gateway under test, and the issuer that it believes."""
import asyncio
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import processes
import mint  # of tests/bench
from caller import ask
from routes import CLIENT, ROUTES, SCOPE, SUBJECT

DAY = 24 * 3600


class Issuer:
    """One key; its key set, served from a thread."""

    def __init__(self):
        self.signer = mint.Signer("ES256", "differential")
        key_set = mint.compact({"keys": [self.signer.jwk()]})

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(key_set)))
                self.end_headers()
                self.wfile.write(key_set)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, signer=None, **changed):
        claims = mint.claims(1, int(time.time()), sub=SUBJECT, scope=SCOPE, client_id=CLIENT, **changed)
        return (signer or self.signer).token(claims).encode()

    def bad_tokens(self):
        """Expired; signed by a stranger under the same key id."""
        now = int(time.time())
        stranger = mint.Signer("ES256", self.signer.key_id)
        return [self.token(iat=now - DAY, exp=now - DAY + 60), self.token(stranger)]


class Gateway:
    def __init__(self, binary, issuer, backends):
        self.binary, self.issuer, self.backends = binary, issuer, list(backends)
        self.port, self.admin_port = processes.free_ports(2)

    def start(self, root):
        folder = processes.folder_in(root, "gateway")
        upstreams = "".join(
            f'  - {{ name: {backend.name}-{route}, addresses: ["127.0.0.1:{port}"], timeouts: {{ idle: 600s }} }}\n'
            for backend in self.backends for route, port in backend.ports.items())
        with open(os.path.join(folder, "portcullis.yaml"), "w") as file:
            file.write(f"""
listeners:
  - name: callers
    address: 127.0.0.1:{self.port}
admin: {{ address: "127.0.0.1:{self.admin_port}" }}
issuers:
  - name: issuer
    issuer: {mint.ISSUER}
    audiences: ["{mint.AUDIENCE}"]
    keys: {{ url: "http://127.0.0.1:{self.issuer.port}/jwks.json" }}
upstreams:
{upstreams}
access_log: {{ enabled: false }}
limits: {{ requests_per_connection: 1000000000, idle_timeout: 600s }}
policy: {{ files: [policy.yaml] }}
""")
        with open(os.path.join(folder, "policy.yaml"), "w") as file:
            file.write('owner: differential\nscopes: { "orders:read": Read orders, admin: Everything }\nroutes:\n')
            for backend in self.backends:
                for route in ROUTES:
                    file.write(
                        f"  - name: {backend.name}-{route.name}\n"
                        f'    match: {{ host: {backend.host}, path: "{route.path}" }}\n'
                        f"    upstream: {backend.name}-{route.name}\n    {route.requirement}\n")
        command = [self.binary, "run", "--threads", str(os.cpu_count() or 1), "--log-level", "error",
                   "--config", os.path.join(folder, "portcullis.yaml")]
        program = processes.start("the gateway", command, folder)
        processes.wait_until_open(program, [self.port])
        self._wait_for_keys()

    def _wait_for_keys(self):
        """Until a good token is a good token."""
        host = next(iter(self.backends)).host
        head = f"GET /orders/7 HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {self.issuer.token().decode()}\r\n\r\n"
        for _ in range(100):
            answer = asyncio.run(ask(self.port, head.encode()))
            if answer and answer.status == 200:
                return
            time.sleep(0.1)
        raise RuntimeError(f"the gateway refuses a good token: {answer}")
