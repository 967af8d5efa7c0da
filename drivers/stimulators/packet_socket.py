"""The driver's end of a local packet socket: it never waits. Not a plug-in."""

from __future__ import annotations

import socket

from eegloop.errors import DeviceError

MOST_PACKETS = 256
LONGEST = 4096


class PacketSocket:
    """A connection to the process that is, or leads to, a stimulator.

    Parameters
    ----------
    path : str
        Of its socket.
    name, advice : str
        Who that is and what to do when nobody listens.
    """

    def __init__(self, path: str, name: str, advice: str) -> None:
        self.path = path
        self._name, self._advice = name, advice
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        """Raises DeviceError if nobody listens."""
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setblocking(False)
        try:
            connection.connect(self.path)
        except OSError as error:
            connection.close()
            raise DeviceError(f"{self._name}: {self.path}: {error.strerror}; {self._advice}") from None
        self._socket = connection

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def fileno(self) -> int:
        return self._socket.fileno() if self._socket is not None else -1

    def receive(self) -> list[bytes]:
        """What has arrived; the other end gone closes this one too."""
        packets: list[bytes] = []
        while self._socket is not None and len(packets) < MOST_PACKETS:
            try:
                packet = self._socket.recv(LONGEST)
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            if packet:
                packets.append(packet)
            else:
                self.close()
        return packets

    def send(self, packet: bytes) -> None:
        """A full socket drops the packet: the lease at the other end then ends the output."""
        if self._socket is None:
            return
        try:
            self._socket.send(packet)
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
