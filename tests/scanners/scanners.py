"""Runs the tools one after another against one gateway, and judges what they find."""
import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback

import attack
import clients
import floods
import forged
import handshakes
import logs
import results
import slow
import soak
import tls
import tokens
import world

TOOLS = {
    "clients": clients.run,
    "tokens": tokens.run,
    "testssl": tls.run_testssl,
    "sslyze": tls.run_sslyze,
    "floods": floods.run,
    "handshakes": handshakes.run,
    "forged": forged.run,
    "slowhttptest": slow.run,
}


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tests/scanners/run", description=__doc__)
    parser.add_argument("--only", metavar="NAMES", default="", help="of " + ", ".join(TOOLS))
    parser.add_argument("--match", metavar="TEXT", default="",
                        help="of floods, handshakes, forged and slowhttptest, only the attacks with this in their name")
    parser.add_argument("--soak", metavar="MINUTES", type=float, help="only the soak, this long")
    parser.add_argument("--patience", metavar="MS", type=float, default=250,
                        help="a good caller's p99 may be this, or twice what it was before (default: 250)")
    parser.add_argument("--json", metavar="FILE", help="write all figures there too")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the configuration and logs")
    arguments = parser.parse_args()
    names = [name for name in arguments.only.split(",") if name] or list(TOOLS)
    for name in names:
        if name not in TOOLS:
            parser.error(f"no tool `{name}`; there are {', '.join(TOOLS)}")
    arguments.names = [name for name in TOOLS if name in names]
    return arguments


def run_all(arguments, folder):
    rows = []

    def report(row):
        rows.append(row)
        print(row.text(), flush=True)

    with world.World(folder, os.environ["PORTCULLIS"]) as the_world:
        if arguments.soak:
            soak.run(the_world, report, arguments.soak)
        else:
            for name in arguments.names:
                try:
                    TOOLS[name](the_world, report, arguments.match)
                except Exception as error:  # a tool that fails has shown nothing; the others go on
                    traceback.print_exc()
                    report(results.Row(name, "the tool itself", [f"{type(error).__name__}: {error}"]))
        logs.run(the_world, report)
    return rows


def main():
    arguments = parse_arguments()
    attack.patience_ms = arguments.patience
    # So that what was started is stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.mkdtemp(prefix="portcullis-scanners-")
    try:
        rows = run_all(arguments, folder)
    finally:
        if arguments.keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump([row.as_json() for row in rows], file, indent=1)
    failed = sum(not row.is_passed for row in rows)
    print(f"\n{results.markdown(rows)}\n\n{len(rows) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
