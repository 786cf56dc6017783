"""The bench: ports, files and servers of a run; and one system, started for one scenario."""
import json
import os
import shutil
import ssl
import socket
import subprocess
import time

import mint
import programs
import service

READY_TIMEOUT = 15
LOOK = 0.002


class Bench:
    """What every system is told."""

    def __init__(self, root, tokens, cpus):
        self.root, self.data, self.cpus = root, os.path.join(root, "data"), cpus
        (self.port, self.admin_port, self.service_port, self.service_tls_port, self.status_port,
         self.key_set_port) = programs.free_ports(6)
        before = os.umask(0o077)  # whoever reads a private key wants it private
        self.minted = mint.mint(self.data, tokens)
        os.umask(before)
        with open(self.file("cases.json")) as file:
            self.cases = json.load(file)
        with open(self.file("rs256.one")) as file:
            self.token = file.read().strip()
        folder = self.folder("service")
        self.service = service.Service(self, folder)
        self.key_set = service.KeySet(self, folder)

    def file(self, name):
        return os.path.join(self.data, name)

    def folder(self, name):
        path = os.path.join(self.root, name)
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        return path

    def address_of_service(self, job):
        return self.service_tls_port if job.mutual_tls else self.service_port


class Running:
    """A system that answers. Use it with `with`."""

    def __init__(self, bench, system, job, patience=READY_TIMEOUT):
        self.bench, self.system, self.job, self.patience = bench, system, job, patience
        folder = bench.folder(f"{system.name}-{job.name}".replace("+", "-"))
        self.log = os.path.join(folder, "log")
        command = system.command(bench, job, folder)
        started = time.monotonic()
        self.program = programs.start(command, bench.cpus["proxy"], self.log)
        try:
            self._wait(started)
        except RuntimeError:
            self.stop()
            raise
        self.ready_s = time.monotonic() - started

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        programs.stop(self.program)
        programs.wait_until_free(self.bench.port)

    @property
    def pid(self):
        return self.program.pid

    def _wait(self, started):
        """Until a request with a good token is answered with 200."""
        last = "nothing"
        while time.monotonic() - started < self.patience:
            if self.program.poll() is not None:
                break
            try:
                last = self._probe()
                if last == 200:
                    return
            except OSError as error:
                last = error
            time.sleep(LOOK)
        with open(self.log, errors="replace") as file:
            said = file.read()[-1500:]
        raise RuntimeError(f"{self.system.name} does not answer: {last}; it says: {said}")

    def _probe(self):
        fields = [("Authorization", f"Bearer {self.bench.token}")]
        if not self.job.edge_tls:
            return service.get(self.bench.port, "/orders/1", fields, 2)[0]
        context = ssl.create_default_context(cafile=self.bench.file("ca.crt"))
        context.set_alpn_protocols(["http/1.1"])
        request = (f"GET /orders/1 HTTP/1.1\r\nHost: {mint.EDGE_NAME}\r\nConnection: close\r\n"
                   f"Authorization: Bearer {self.bench.token}\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self.bench.port), 2) as plain:
            with context.wrap_socket(plain, server_hostname=mint.EDGE_NAME) as s:
                s.sendall(request.encode())
                return service.parse(s.recv(65536))[0]

    def ask(self, token=None, fields=()):
        """One request for what the service receives: (status, header fields, echo, HTTP version)."""
        fields = list(fields) + ([("Authorization", f"Bearer {token}")] if token else [])
        if not self.job.edge_tls:
            status, answered, body = service.get(self.bench.port, "/orders/echo", fields)
            return status, answered, echo(body), "1.1"
        command = ["curl", "--silent", "--http2", "--max-time", "5", "--cacert", self.bench.file("ca.crt"),
                   "--connect-to", f"{mint.EDGE_NAME}:443:127.0.0.1:{self.bench.port}",
                   "--write-out", "\n%{http_code} %{http_version}", f"https://{mint.EDGE_NAME}/orders/echo"]
        for name, value in fields:
            command += ["--header", f"{name}: {value}"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=10)
        body, _, last = run.stdout.rpartition("\n")
        status, version = last.split()
        return int(status), {}, echo(body), version


def echo(body):
    """What the service says it received; nothing when this is not the service speaking."""
    return json.loads(body) if body.startswith('{"echo": true') else {}
