"""Programs that a run starts, in a folder each, and that end with it. Nothing else is ended."""
import os
import socket
import subprocess
import sys
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
import programs  # noqa: E402  (of tests/bench)

free_ports = programs.free_ports
READY_TIMEOUT = 60
_started = []


def start(name, command, folder):
    with open(os.path.join(folder, "log"), "ab") as log:
        program = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                   cwd=folder, start_new_session=True)
    program.name, program.folder = name, folder
    _started.append(program)
    return program


def stop_all():
    while _started:
        programs.stop(_started.pop())


def ended():
    """Names of those that ended by themselves."""
    return [program.name for program in _started if program.poll() is not None]


def wait_until_open(program, ports):
    deadline = time.monotonic() + READY_TIMEOUT
    for port in ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if program.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{program.name} does not start; {said(program)}") from None
                time.sleep(0.05)


def said(program):
    with open(os.path.join(program.folder, "log"), errors="replace") as log:
        return f"it says: {log.read()[-1500:]}"


def folder_in(root, name):
    path = os.path.join(root, name)
    os.makedirs(path)
    return path


def fill(source, target, **values):
    """Writes the template `source` to `target`, with every @NAME@ replaced."""
    with open(source) as file:
        text = file.read()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    with open(target, "w") as file:
        file.write(text)
