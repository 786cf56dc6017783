"""The service that requests are forwarded to, and the issuer's key set: two nginx that count."""
import json
import os
import socket
import time

import programs

ECHO = json.dumps({
    "echo": True, "user": "$http_x_user_id", "authorization": "$http_authorization",
    "client": "$ssl_client_verify $ssl_client_s_dn",
})
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def nginx(folder, name, servers, directives=""):
    """The command of an nginx with one worker. What is common to the service and to nginx as a system."""
    paths = " ".join(f"{kind}_temp_path {folder}/{name}-{kind};" for kind in TEMPORARY)
    user = "user root;" if os.geteuid() == 0 else ""
    path = os.path.join(folder, f"{name}.conf")
    with open(path, "w") as file:
        file.write(f"""
{user} worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.log error;
events {{ worker_connections 8192; }}
http {{
    access_log off; tcp_nodelay on; server_tokens off; large_client_header_buffers 4 32k;
    keepalive_timeout 3600s; keepalive_requests 1000000000;
    {paths}
    {directives}
    {servers}
}}
""")
    return ["nginx", "-p", folder, "-c", path]


class Service:
    """Answers /orders/echo with what it received, and everything else with the body."""

    def __init__(self, bench, folder):
        with open(bench.file("body.json")) as file:
            self.body = file.read()
        places = f"""
        default_type application/json;
        location / {{ return 200 '{self.body}'; }}
        location = /orders/echo {{ return 200 '{ECHO}'; }}
"""
        self.status_port = bench.status_port
        command = nginx(folder, "service", f"""
    server {{ listen 127.0.0.1:{bench.service_port} backlog=4096; {places} }}
    server {{
        listen 127.0.0.1:{bench.service_tls_port} ssl backlog=4096;
        ssl_certificate {bench.file('service.crt')}; ssl_certificate_key {bench.file('service.key')};
        ssl_client_certificate {bench.file('ca.crt')}; ssl_verify_client on; ssl_protocols TLSv1.3;
        {places}
    }}
    server {{ listen 127.0.0.1:{bench.status_port}; location = /status {{ stub_status; }} }}
""")
        self.program = programs.start(command, bench.cpus["service"], os.path.join(folder, "log"))
        self.requests = Counter(bench.status_port)


class KeySet:
    """jwks.json, from an nginx of its own, so that fetches are counted apart."""

    def __init__(self, bench, folder):
        command = nginx(folder, "key-set", f"""
    server {{
        listen 127.0.0.1:{bench.key_set_port} backlog=4096; root {bench.data}; default_type application/json;
        location = /status {{ stub_status; }}
        location ~ ^/jwks[a-z-]*\\.json$ {{ }}
        location / {{ return 404; }}
    }}
""")
        self.program = programs.start(command, bench.cpus["service"], os.path.join(folder, "log"))
        self.fetches = Counter(bench.key_set_port)


class Counter:
    """How many requests an nginx has answered, less those that ask for this number."""

    def __init__(self, port):
        self.port, self.own = port, 0
        for _ in range(200):
            try:
                get(port, "/status")
                self.own += 1
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("nginx does not start")

    def read(self):
        self.own += 1
        _, _, text = get(self.port, "/status")
        return int(text.split("\n")[2].split()[2]) - self.own


def get(port, path="/", fields=(), timeout=5.0):
    """One request on a connection of its own: (status, header fields, body)."""
    head = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    head += [f"{name}: {value}" for name, value in fields]
    with socket.create_connection(("127.0.0.1", port), timeout) as s:
        s.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
        data = b""
        while part := s.recv(65536):
            data += part
    return parse(data)


def parse(data):
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin1").split("\r\n")
    if not first.startswith("HTTP/"):
        return 0, {}, ""
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    if fields.get("transfer-encoding", "").lower() == "chunked":
        body = unchunk(body)
    return int(first.split()[1]), fields, body.decode("utf8", "replace")


def unchunk(rest):
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        if not length:
            break
        body, rest = body + rest[:length], rest[length + 2:]
    return body
