"""JPEG to pixels, by Qt; may be called from any thread and needs no window."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pyqtgraph.Qt import QtGui

from streamer.errors import ProtocolError

_END = b"\xff\xd9"


def decode(data: bytes) -> NDArray[np.uint8]:
    """Return the grey levels of a JPEG, (M, N).

    Raises
    ------
    ProtocolError
        If it is damaged or no JPEG.
    """
    image = QtGui.QImage.fromData(data, "JPEG")
    if image.isNull() or not data.endswith(_END):   # Qt shows one that was cut short with a grey rest
        raise ProtocolError(f"{len(data)} bytes are no JPEG that could be read")
    image = image.convertToFormat(QtGui.QImage.Format.Format_Grayscale8)
    height, width, stride = image.height(), image.width(), image.bytesPerLine()
    bits = image.constBits()
    if hasattr(bits, "setsize"):   # PyQt does not know how long it is
        bits.setsize(height * stride)
    pixels: NDArray[np.uint8] = np.frombuffer(bits, np.uint8).reshape(height, stride)[:, :width].copy()
    return pixels
