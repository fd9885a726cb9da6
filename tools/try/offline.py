#!/usr/bin/env python3
"""Run a command where no other machine can be reached, and count how often it tried to reach one.

    python tools/try/offline.py python -m pytest tests notebooks
    make test-offline                                            # the whole suite

Linux only: the command and all that it starts get a network of their own (a namespace, see `man unshare`) that holds
nothing but this machine's loopback, and look names up at a machine that is not there. Every connection to anywhere else
fails at once, and the kernel counts it: a name that is looked up, a packet sent. The exit status is the command's, or 1
where it succeeded but tried to get out.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

INSIDE = "--inside"  # the first argument of this program in the namespace


def loopback_up() -> None:
    """Switches the loopback of this network namespace on; a new namespace has it switched off."""
    import fcntl
    import struct

    with socket.socket() as any_socket:
        request = struct.pack("16sh", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, request.ljust(40, b"\0"))  # SIOCSIFFLAGS


@contextlib.contextmanager
def names_outside():
    """Has names looked up at another machine, where it counts: a resolver of this one would answer over the loopback.

    This machine's own name and addresses, which torch's processes ask for, are known. Files of this mount namespace
    alone change.
    """
    with tempfile.TemporaryDirectory() as folder:
        resolver, hosts = Path(folder, "resolv.conf"), Path(folder, "hosts")
        resolver.write_text("nameserver 192.0.2.1\n")  # of the block for documentation (RFC 5737), which nobody has
        own = f"localhost {socket.gethostname()}"
        hosts.write_text("".join(f"{address} {own}\n" for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1")))
        places = {"/etc/resolv.conf": resolver, "/etc/hosts": hosts}
        places |= dict.fromkeys(("/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket"), os.devnull)
        for place, instead in places.items():
            if os.path.exists(place):
                subprocess.run(["mount", "--bind", instead, os.path.realpath(place)], check=True)
        yield


def attempts() -> int:
    """How often something in this namespace tried to send where no route leads, by IPv4; names are looked up so too.

    By IPv6 it fails as well, but does not count: Chromium asks at its start whether a route is there and sends nothing.
    """
    heads, values = re.findall(r"^Ip: (.*)$", Path("/proc/net/snmp").read_text(), re.MULTILINE)
    return int(values.split()[heads.split().index("OutNoRoutes")])


def main(command: list[str]) -> int:
    if command[0] != INSIDE:
        linux = sys.platform == "linux"
        unshare = ["unshare", "--net", "--mount", *(["--map-root-user"] if linux and os.geteuid() else [])]
        if not linux or subprocess.run([*unshare, "true"]).returncode:
            print("offline: expected a Linux that lets this user make a network namespace, found none", file=sys.stderr)
            return 2
        return subprocess.run([*unshare, sys.executable, __file__, INSIDE, *command]).returncode
    loopback_up()
    with names_outside():
        before = attempts()
        status = subprocess.run(command[1:]).returncode
    tried = attempts() - before
    print(f"offline: {tried} attempts to reach another machine", file=sys.stderr)
    return status or int(tried > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) if sys.argv[1:] else __doc__)
