"""openssl s_time: full handshakes, one after another in many processes, each of which costs the gateway a
signature and the attacker less."""
import re
import subprocess

from attack import Attack

PROCESSES, SECONDS = 16, 15


def run(world, report, match=""):
    for name, arguments in (("TLS 1.3", ["-tls1_3"]), ("TLS 1.2", ["-tls1_2"])):
        name = f"{name}, {PROCESSES} at once for {SECONDS} s"
        if match in name:
            report(attack(world, name, arguments))


def attack(world, name, arguments):
    under = Attack(world, "openssl s_time", name, "127.0.0.2")
    with under:
        before = handshakes(world)
        command = ["openssl", "s_time", "-connect", "{}:{}".format(*world.address("tls")), "-new",
                   "-time", str(SECONDS), "-CAfile", world.file("ca.crt"), *arguments]
        processes = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True) for _ in range(PROCESSES)]
        said = [process.communicate(timeout=4 * SECONDS)[0] for process in processes]
        made = sum(int(found.group(1)) for found in (re.search(r"(\d+) connections in \d+ real", text) for text in said)
                   if found)
        count = handshakes(world) - before
        under.notes.append(f"{count / SECONDS:,.0f} handshakes a second")
        if made < PROCESSES * SECONDS or count < made:
            under.faults.append(f"s_time made {made}, the gateway counted {count:.0f}: {said[0][-200:]}")
    return under.result


def handshakes(world):
    return world.metric("portcullis_tls_handshakes_total")
