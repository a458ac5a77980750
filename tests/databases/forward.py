"""A tunnel: whatever connects to it reaches another TCP port."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def tunnel(port: int, at: Path | None = None) -> Iterator[int]:
    """Forward a free port of 127.0.0.1, or the Unix socket `at`, to `port`; yields the port."""
    if at:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(at))
    else:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
    listener.listen()
    opened: list[socket.socket] = []

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            opened.extend((near, far))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield 0 if at else listener.getsockname()[1]
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in opened:
            each.close()
