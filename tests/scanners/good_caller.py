"""A good caller, in a process of its own: what it has to wait for while others attack.

It asks for an order, with a good token, over TLS, in two ways at the same rate: on one connection that it
keeps (`kept`) and on a new connection each time (`fresh`). As a control it asks the service itself too, past
the gateway (`direct`): what that has to wait for is the machine's doing. A wait counts from when the request
was due, so one that had to queue behind a slow one is as late as it was.
"""
import http.client
import multiprocessing
import socket
import ssl
import sys
import threading
import time

import world

RATE = 25  # requests a second, each way
TIMEOUT = 10
PATIENCE = 3 * TIMEOUT
PATH = "/orders/1"


class GoodCaller:
    """Calls from `source` until it is stopped."""

    def __init__(self, the_world, source, rate=RATE):
        ours, theirs = multiprocessing.Pipe()
        self.answers = ours
        arguments = (theirs, the_world.address("tls"), ("127.0.0.1", the_world.orders.port), source,
                     the_world.file("ca.crt"), the_world.token, rate)
        self.process = multiprocessing.get_context("spawn").Process(target=_main, args=arguments, daemon=True)
        self.process.start()
        self._hear()

    def stop(self):
        """{way: {"served": number, "failed": {reason: number}, "p50_ms", "p99_ms", "worst_ms"}}."""
        self.answers.send("stop")
        found = self._hear()
        self.process.join()
        return found

    def _hear(self):
        if not self.answers.poll(PATIENCE):
            self.process.kill()
            raise RuntimeError("the good caller does not answer")
        return self.answers.recv()


def quiet(the_world, seconds, source="127.0.0.2", rate=RATE):
    caller = GoodCaller(the_world, source, rate)
    time.sleep(seconds)
    return caller.stop()


def _main(pipe, gateway, service, source, authority, token, rate):
    sys.setswitchinterval(0.0001)
    context = ssl.create_default_context(cafile=authority)
    is_over = threading.Event()
    ways = [Way("kept", gateway, context, True), Way("fresh", gateway, context), Way("direct", service)]
    # One after the other: they are not to wait for each other.
    threads = [threading.Thread(target=way.call, args=(source, token, is_over, rate, number / len(ways)), daemon=True)
               for number, way in enumerate(ways)]
    for thread in threads:
        thread.start()
    pipe.send("started")
    pipe.recv()
    is_over.set()
    for thread in threads:
        thread.join()
    pipe.send({way.name: way.figures() for way in ways})


class Way:
    def __init__(self, name, address, context=None, is_kept=False):
        self.name, self.address, self.context, self.is_kept = name, address, context, is_kept
        self.waits, self.failed = [], {}

    def call(self, source, token, is_over, rate, later):
        """`later` is a share of the time between two requests."""
        due, connection = time.monotonic() + later / rate, None
        while not is_over.is_set():
            due += 1 / rate
            time.sleep(max(0, due - time.monotonic()))
            try:
                if connection is None:
                    connection = connect(self.address, source, self.context)
                connection.request("GET", PATH, headers={"Authorization": f"Bearer {token}"})
                response = connection.getresponse()
                response.read()
                outcome = "" if response.status == 200 else str(response.status)
                is_closed = response.will_close
            except (OSError, http.client.HTTPException) as error:
                outcome, is_closed = type(error).__name__, True
            if outcome:
                self.failed[outcome] = self.failed.get(outcome, 0) + 1
            else:
                self.waits.append(time.monotonic() - due)
            if connection is not None and (is_closed or outcome or not self.is_kept):
                connection.close()
                connection = None

    def figures(self):
        waits = sorted(self.waits)

        def share(part):
            return round(waits[min(len(waits) - 1, int(len(waits) * part))] * 1000, 1) if waits else None

        return {"served": len(waits), "failed": self.failed, "p50_ms": share(0.5), "p99_ms": share(0.99),
                "worst_ms": share(1)}


def connect(address, source, context):
    if context is None:
        return http.client.HTTPConnection(*address, timeout=TIMEOUT)
    connection = http.client.HTTPSConnection(*address, timeout=TIMEOUT, context=context)
    plain = socket.create_connection(address, TIMEOUT, (source, 0))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        connection.sock = context.wrap_socket(plain, server_hostname=world.NAME)
    except OSError:
        plain.close()
        raise
    return connection
