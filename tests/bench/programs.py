"""Programs that a run starts: on which processor, what they use of it, and their end.

Everything is stopped by its own process id. CPU and memory count a program with all its children.
"""
import os
import signal
import socket
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")
# Against whatever else the machine is doing.
PRIORITY = ["nice", "-n", "-10"] if os.geteuid() == 0 else []
STOP_TIMEOUT = 4
_running = []


def pinned(command, cpu):
    return PRIORITY + ["taskset", "-c", str(cpu)] + command


def start(command, cpu, log):
    with open(log, "ab") as out:
        program = subprocess.Popen(pinned(command, cpu), stdout=out, stderr=out,
                                   stdin=subprocess.DEVNULL, start_new_session=True)
    _running.append(program)
    return program


def stop(program):
    children = tree(program.pid)[1:] if program.poll() is None else []
    if program.poll() is None:
        program.terminate()
        try:
            program.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait(STOP_TIMEOUT)
    for child in children:
        try:
            os.kill(child, signal.SIGKILL)
        except OSError:
            pass
    if program in _running:
        _running.remove(program)


def stop_all():
    for program in list(_running):
        stop(program)


def tree(pid):
    """The process and all its descendants."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(name)
            if fields:
                parents[int(name)] = int(fields[1])
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        found.append(parent)
        todo += [child for child, its_parent in parents.items() if its_parent == parent]
    return found


def _stat(pid):
    """/proc/PID/stat from the state on; the name before it may contain anything."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            text = file.read()
        return text[text.rindex(")") + 2:].split()
    except (OSError, ValueError):
        return None


def cpu_seconds(pid):
    """(by the scheduler's nanosecond run time, by 10 ms ticks), user and system."""
    nanoseconds = ticks = 0
    for each in tree(pid):
        fields = _stat(each)
        if not fields:
            continue
        ticks += sum(int(field) for field in fields[11:15])
        try:
            for thread in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{thread}/schedstat") as file:
                    nanoseconds += int(file.read().split()[0])
        except OSError:
            pass
    return (nanoseconds / 1e9 or ticks / TICK), ticks / TICK


def memory_mib(pid):
    """Proportional set size: a page that several share counts once."""
    kib = 0
    for each in tree(pid):
        try:
            with open(f"/proc/{each}/smaps_rollup") as file:
                kib += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except OSError:
            pass
    return round(kib / 1024, 2)


def busy_seconds():
    """Of each processor: (busy, of that stolen by the hypervisor)."""
    processors = {}
    with open("/proc/stat") as file:
        for line in file:
            name, *fields = line.split()
            if name.startswith("cpu") and name != "cpu":
                times = [int(field) for field in fields]
                busy = sum(times[:8]) - times[3] - times[4]
                processors[int(name[3:])] = (busy / TICK, times[7] / TICK)
    return processors


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def wait_until_free(port):
    for _ in range(200):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return
            except OSError:
                time.sleep(0.02)
    raise RuntimeError(f"port {port} does not get free")
