"""What does a BMP claim? The size and the bits of its one header."""

import struct

from winnow_workers.limits import Claim, DecodeLimits

_OLD_HEADER_BYTES = 12  # of OS/2, with 16-bit sides


def claim_of(data: bytes, limits: DecodeLimits) -> Claim:
    """From the header. A negative height is that of an image stored from the top."""
    del limits
    if len(data) < 30:
        return Claim()
    if struct.unpack_from("<I", data, 14)[0] == _OLD_HEADER_BYTES:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
    return Claim(abs(width), abs(height), bits)
