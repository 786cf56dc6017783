"""testssl.sh and sslyze look at the TLS listener."""
import json
import os
import shutil
import subprocess
import warnings

import results
import world as worlds

# What testssl.sh says of any certificate that a test makes for itself and of a host that has no name in
# the DNS; and what is meant to be so.
EXCUSED = {
    "chain_of_trust": "our own authority",
    "cert_trust": "the address is asked for by number",
    "cert_expirationStatus": "made for three days",
    "cert_notAfter": "made for three days",
    "cert_extlifeSpan": "made for three days",
    "cert_crlDistributionPoints": "our own authority has none",
    "cert_ocspURL": "our own authority has none",
    "cert_revocation": "our own authority has none",
    "OCSP_stapling": "our own authority has none",
    "cert_mustStapleExtension": "our own authority has none",
    "DNS_CAArecord": "no name in the DNS",
    "certificate_transparency": "our own authority is in no log",
    # Mozilla's profile `intermediate` asks for the same: the caller knows what its processor does best.
    "cipher_order": "the caller's order, among ciphers that are all good",
    # Debian's OpenSSL does not get as far with TLS 1.2, which has no tickets here.
    "sessionresumption_ticket": "a check that failed",
}
GOOD = ("OK", "INFO", "DEBUG")
# About the scanner and its run.
OF_THE_SCANNER = ("scanTime", "engine_problem", "old_fart", "service", "pre_128cipher")
# What each begins with. Client-initiated renegotiation is not answered, which it only sees as
# silence; sslyze knows better.
WANTED = {
    "SSLv2": "not offered", "SSLv3": "not offered", "TLS1": "not offered", "TLS1_1": "not offered",
    "TLS1_2": "offered", "TLS1_3": "offered", "heartbleed": "not vulnerable", "CCS": "not vulnerable",
    "ticketbleed": "no session ticket extension", "ROBOT": "not vulnerable", "secure_renego": "supported",
    "secure_client_renego": ("not vulnerable", "likely not vulnerable"), "CRIME_TLS": "not vulnerable",
    "POODLE_SSL": "not vulnerable", "SWEET32": "not vulnerable", "FREAK": "not vulnerable", "DROWN": "not vulnerable",
    "LOGJAM": "not vulnerable", "BEAST": "not vulnerable", "LUCKY13": "not vulnerable", "RC4": "not vulnerable",
}


def run_testssl(world, report, match=""):
    path = os.path.join(world.folder, "testssl.json")
    command = [shutil.which("testssl") or "testssl.sh", "--jsonfile", path, "--color", "0", "--quiet",
               "--warnings", "off", "--nodns", "none", "--openssl-timeout", "10", "--connect-timeout", "10",
               "--add-ca", world.file("ca.crt"),
               "--protocols", "--std", "--pfs", "--server-preference", "--server-defaults", "--vulnerable",
               f"127.0.0.1:{world.ports['tls']}"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL)
    try:
        with open(path) as file:
            found = json.load(file)
    except (OSError, ValueError) as error:
        report(results.Row("testssl.sh", "TLS listener", [f"no result: {error}: {run.stdout[-500:]}"]))
        return
    report(judge_testssl(found))


def judge_testssl(found):
    faults, excused = [], []
    for finding in found:
        name, severity, text = finding["id"].split(" ")[0], finding["severity"], finding["finding"]
        if severity in GOOD or name in OF_THE_SCANNER:
            continue
        if name in EXCUSED:
            excused.append(f"{name}: {EXCUSED[name]}")
        else:
            faults.append(f"{severity} {name}: {text}")
    said = {finding["id"]: finding["finding"] for finding in found}
    for name, wanted in WANTED.items():
        if not said.get(name, "nothing").startswith(wanted):
            faults.append(f"{name} is `{said.get(name, 'nothing')}`, not `{wanted}`")
    notes = [f"{len(found)} findings, {len(faults)} of them against the gateway"]
    if excused:
        notes.append("excused: " + ", ".join(sorted(set(excused))))
    return results.Row("testssl.sh", "protocols, ciphers, defaults, known weaknesses", faults, notes=notes)


def run_sslyze(world, report, match=""):
    # One of the authorities that it brings along has a serial number of 0.
    warnings.filterwarnings("ignore", "Parsed a serial number")
    from sslyze import Scanner, ServerNetworkConfiguration, ServerNetworkLocation, ServerScanRequest

    host, port = world.address("tls")
    location = ServerNetworkLocation(hostname=worlds.NAME, port=port, ip_address=host)
    scanner = Scanner()
    scanner.queue_scans([ServerScanRequest(location, ServerNetworkConfiguration(worlds.NAME))])
    scanned = next(iter(scanner.get_results()))
    if scanned.scan_result is None:
        report(results.Row("sslyze", "TLS listener", [f"no connection: {scanned.connectivity_error_trace}"]))
        return
    report(judge_sslyze(scanned))
    report(judge_by_mozilla(scanned))


def judge_sslyze(scanned):
    found, faults, names = scanned.scan_result, [], []

    def judge(name, is_good):
        """`is_good` of the command's result; a command without one is a fault too."""
        attempt = getattr(found, name)
        if attempt.result is None:
            faults.append(f"{name}: {attempt.error_reason}")
        elif not is_good(attempt.result):
            faults.append(f"{name}: {attempt.result}")
        names.append(name)

    for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        judge(f"{version}_cipher_suites", lambda it: not it.accepted_cipher_suites)
    judge("tls_1_2_cipher_suites", lambda it: it.accepted_cipher_suites and all(
        suite.cipher_suite.name.startswith("TLS_ECDHE_") and suite.cipher_suite.name.endswith(
            ("_GCM_SHA256", "_GCM_SHA384", "_CHACHA20_POLY1305_SHA256")) for suite in it.accepted_cipher_suites))
    judge("tls_1_3_cipher_suites", lambda it: it.accepted_cipher_suites)
    judge("tls_compression", lambda it: not it.supports_compression)
    judge("tls_1_3_early_data", lambda it: not it.supports_early_data)
    judge("openssl_ccs_injection", lambda it: not it.is_vulnerable_to_ccs_injection)
    judge("heartbleed", lambda it: not it.is_vulnerable_to_heartbleed)
    judge("robot", lambda it: it.robot_result.name.startswith("NOT_VULNERABLE"))
    judge("session_renegotiation", lambda it: it.supports_secure_renegotiation
          and not it.is_vulnerable_to_client_renegotiation_dos)
    judge("tls_extended_master_secret", lambda it: it.supports_ems_extension)
    judge("elliptic_curves", lambda it: it.supported_curves)
    note = f"{len(names)} scans, {len(faults)} of them against the gateway"
    return results.Row("sslyze", "protocols, ciphers, known weaknesses", faults, notes=[note])


def judge_by_mozilla(scanned):
    """Mozilla's `intermediate` profile; of the certificate, which is the test's own, nothing counts."""
    from sslyze.mozilla_tls_profile.tls_config_checker import (
        MozillaTlsConfiguration, ServerNotCompliantWithTlsConfiguration, TlsConfigurationEnum,
        check_server_against_tls_configuration)

    problems = {}
    profile = MozillaTlsConfiguration.get(TlsConfigurationEnum.MOZILLA_INTERMEDIATE)
    try:
        check_server_against_tls_configuration(scanned, profile)
    except ServerNotCompliantWithTlsConfiguration as error:
        problems = error.issues
    faults = [f"{name}: {text}" for name, text in problems.items() if "certificate" not in name]
    excused = [f"compliant; excused: {name}, of the test's own" for name in problems if "certificate" in name]
    return results.Row("sslyze", "Mozilla's profile `intermediate`", faults,
                       notes=excused or ["compliant"])
