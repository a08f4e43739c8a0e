"""Choose a channel of a recording, or average its channels to mono.

Channels are counted from 1, as in sox, Audacity and RTTM; ``left`` is 1 and ``right`` is 2. Without
a choice, the channels are averaged. Two channels of opposite phase would cancel, so only the first
of such a pair is used, and a warning is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

import numpy as np

from langid_fastai.errors import AudioError

__all__ = ["EACH", "Channel", "channel_number", "one_channel"]

log = logging.getLogger(__name__)

Channel = int | str  # a number from 1, "left" or "right"
EACH = "each"  # every channel separately, where that is possible
NAMES = {"left": 1, "right": 2}
# Two channels cancel if the power of their mean is below this fraction (-10 dB) of the power of
# either. For independent channels it is half (-3 dB).
CANCELLED = 0.1


def channel_number(channel: Channel | None) -> int | None:
    """Return the number of a channel, from 1, or None if `channel` is None.

    Raises
    ------
    AudioError : `channel` is not a channel number, "left" or "right"

    Examples
    --------
    >>> channel_number("right"), channel_number("3"), channel_number(None)
    (2, 3, None)
    """
    if channel is None:
        return None
    number = NAMES.get(str(channel), channel)
    if isinstance(number, str) and number.isascii() and number.isdigit():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
        raise AudioError(
            f"channel={channel!r} must be left, right, or a number; channels are counted from 1"
        )
    return int(number)


def one_channel(
    blocks: Iterable[np.ndarray], channel: int | None, name: object
) -> Iterator[np.ndarray]:
    """Choose a channel of each block, or average its channels.

    Parameters
    ----------
    blocks : float32, each (n_samples, n_channels)
    channel : channel number, from 1; None for the mean
    name : name of the recording, for messages

    Yields
    ------
    y : float32, (n_samples,)

    Raises
    ------
    AudioError : there is no such channel

    Examples
    --------
    >>> y = np.array([[0.5, 0.25], [0.1, 0.3]], dtype=np.float32)
    >>> [mono.tolist() for mono in one_channel([y], 2, "a.wav")]
    [[0.25, 0.30000001192092896]]
    """
    is_logged = False
    for y in blocks:
        n_channels = y.shape[1]
        if channel is not None:
            if channel > n_channels:
                has = "1 channel" if n_channels == 1 else f"{n_channels} channels"
                raise AudioError(f"{name}: has {has}, so there is no channel {channel}")
            yield np.ascontiguousarray(y[:, channel - 1])
        elif n_channels == 1:
            yield np.ascontiguousarray(y[:, 0])
        else:
            by_channel = np.ascontiguousarray(y.T)  # means are 10 times as fast
            kept = _not_cancelling(by_channel)
            if len(kept) < n_channels and not is_logged:
                is_logged = True
                left_out = sorted({*range(n_channels)} - {*kept})
                log.warning(
                    "%s: channels of opposite phase cancel in the mean; left out: channel %s",
                    name,
                    ", ".join(str(i + 1) for i in left_out),
                )
            by_channel = by_channel if len(kept) == n_channels else by_channel[kept]
            yield by_channel.mean(axis=0, dtype=np.float32)


def _not_cancelling(y: np.ndarray) -> list[int]:
    """Return indices of the channels in `y` that do not cancel an earlier one."""
    n_channels, n_samples = y.shape
    with np.errstate(over="ignore", invalid="ignore"):  # samples are checked later
        mean = y.mean(axis=1)
        covariance = y @ y.T / n_samples - np.outer(mean, mean)
    power = np.diag(covariance)
    kept: list[int] = []
    for i in range(n_channels):
        together = (power[kept] + power[i] + 2 * covariance[kept, i]) / 4  # power of means
        if not (together < CANCELLED * np.minimum(power[kept], power[i])).any():
            kept.append(i)
    return kept
