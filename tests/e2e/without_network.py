"""Run a command in namespaces without a network: python without_network.py NAMES_FILE COMMAND...

To be started in fresh ones (`unshare --map-root-user --net --mount`). There is only a loopback; a resolver on it knows
no name. NAMES_FILE then says which names were asked for, one a line: what downloads asks for its host first. Addresses
without a name are not counted, for Ray looks for a route to one to learn this machine's own.
"""

import fcntl
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1  # linux/sockios.h, linux/if.h
RESOLVER = ("127.0.0.1", 53)
RESOLV_CONF = Path("/etc/resolv.conf")
UNKNOWN = b"\x81\x83"  # RFC 1035, 4.1.1: an answer, and there is no such name


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def resolve_here(asked: list[str]) -> None:
    """Have every question of this namespace come to the loopback, and noted."""
    with tempfile.NamedTemporaryFile("w") as own:
        own.write(f"nameserver {RESOLVER[0]}\n")
        own.flush()
        subprocess.run(["mount", "--bind", own.name, RESOLV_CONF], check=True)
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(RESOLVER)

    def serve() -> None:
        while True:
            question, whom = server.recvfrom(512)
            asked.append(name_in(question))
            server.sendto(question[:2] + UNKNOWN + question[4:6] + bytes(6) + question[12:], whom)

    threading.Thread(target=serve, daemon=True).start()


def name_in(question: bytes) -> str:
    """What the first question of a message is about."""
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode("ascii", "replace"))
        at += 1 + question[at]
    return ".".join(labels)


def main(names_file: str, *command: str) -> int:
    if [name for _, name in socket.if_nameindex()] != ["lo"]:
        sys.exit("this is no namespace of its own")
    raise_loopback()
    asked: list[str] = []
    resolve_here(asked)
    code = subprocess.run(command, check=False).returncode
    own = socket.gethostname()  # Ray asks for it where /etc/hosts does not say it
    Path(names_file).write_text("".join(f"{name}\n" for name in sorted(set(asked) - {own})))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
