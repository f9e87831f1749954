"""What a connection's transport cannot do by itself."""

import asyncio
import socket
import struct

_NO_LINGER = struct.pack("ii", 1, 0)  # socket(7)


def reset(transport: asyncio.WriteTransport) -> None:
    """Ends a connection at once, for the kernel too, which would go on offering for minutes what it has taken. Nothing
    where it is lost already."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:  # not lost, nor about to be
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()
