"""The sound of a film in colour: copied, or recoded where results cannot hold it, its times going on."""

import itertools
import logging
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from av import AudioStream, Packet, VideoFrame, VideoStream
    from av.container import InputContainer, OutputContainer

__all__ = ["Onward", "Sound", "decodable", "decoded", "lasting", "sound_track"]

logger = logging.getLogger(__name__)

Take = Callable[["Packet[Any] | None"], None]
"""Takes packets of sound in order, and None after the last."""

SOUND = ("aac", "mp3", "ac3", "eac3", "alac")
"""Sound that every result can hold, which is copied; other sound becomes AAC."""

MP3_RATE = 16_000
"""The least that MP4 takes."""

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""What AAC is sampled at here (ISO 14496-3, table 1.16, has a few more)."""

GAP = 0.1
"""Seconds of silence that are left in sound; less is a rounded time."""

CUT_AWAY = -0.1
"""Seconds before which sound that was cut away stays away; what is later a decoder may need to begin with."""

ANEW = 1.0
"""Seconds by which times fall where a film begins anew, having been joined to another."""


class Sound(NamedTuple):
    """A film's sound, and what passes it on to the result."""

    stream: "AudioStream"
    take: Take


def decodable(stream: "AudioStream | VideoStream") -> bool:
    """Whether FFmpeg knows what kind of pictures or sound it is."""
    return getattr(stream, "codec_context", None) is not None


def decoded(packet: "Packet[Any]", damaged: list[str]) -> list[Any]:
    """The frames in a packet; where it does not decode, none, and why is put in `damaged`, as are patched frames."""
    import av

    try:
        frames: list[Any] = list(packet.decode())
    except MemoryError:  # which FFmpeg's is, too
        raise
    except av.FFmpegError as error:  # decoders give any of FFmpeg's, those of files included
        damaged.append(str(error))
        return []
    damaged.extend("what was missing in a frame was made up" for frame in frames if frame.is_corrupt)
    return frames


def lasting(frames: Iterator["VideoFrame"]) -> Iterator["VideoFrame"]:
    """Frames each of which lasts until the next; the last one, as long as it says."""
    for frame, following in itertools.pairwise(itertools.chain(frames, [None])):
        if frame is not None:
            if following is not None:
                frame.duration = (following.pts or 0) - (frame.pts or 0)
            yield frame


def sound_track(film: "InputContainer", result: "OutputContainer", damaged: list[str]) -> Sound | None:
    """What passes a film's sound on to the result; None where there is none that can be. See `decoded`."""
    stream: Any = film.streams.best("audio")
    if stream is None:
        return None
    if not decodable(stream):
        name = film.name.removeprefix("file:")
        logger.warning("%s: its sound is of a kind that this FFmpeg does not decode, and is left out", name)
        return None
    codec = stream.codec_context.codec.canonical_name
    streamed = "mpeg" in film.format.name  # whose packets lack what MP4 says of them
    if codec in SOUND and not streamed and (codec != "mp3" or stream.rate >= MP3_RATE):
        return Sound(stream, _copied(stream, result, Onward(film)))
    return Sound(stream, _recoded(stream, result, Onward(film), damaged))


def _copied(stream: "AudioStream", result: "OutputContainer", onward: "Onward") -> Take:
    copied = result.add_stream_from_template(stream)

    def copy(packet: "Packet[Any] | None") -> None:
        if packet is None or not packet.size:  # the last one is empty
            return
        base = float(packet.time_base or 1)
        if packet.is_discard and (packet.dts or 0) * base < CUT_AWAY:
            return
        packet.dts = packet.pts = onward.next(packet.dts, base)
        packet.stream = copied
        result.mux(packet)

    return copy


def _recoded(stream: "AudioStream", result: "OutputContainer", onward: "Onward", damaged: list[str]) -> Take:
    import av

    rate = next((rate for rate in AAC_RATES if rate >= stream.rate), AAC_RATES[-1])
    coded = result.add_stream("aac", rate=rate)
    coded.codec_context.layout = "mono" if stream.channels == 1 else "stereo"
    resampler, kind = None, None
    samples = 0  # written so far: times of frames are rounded in some films, and overlap

    def recode(packet: "Packet[Any] | None") -> None:
        nonlocal samples, resampler, kind
        frames: list[Any] = [None] if packet is None else decoded(packet, damaged)
        for frame in frames:
            if frame is not None and frame.pts is not None:
                step = float(frame.time_base or 1)
                due = round(onward.next(frame.pts, step) * step * rate)
                if due - samples > rate * GAP:
                    samples = due
                frame.pts = None
            parts: list[Any] = []
            now = kind if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
            if now != kind:  # as at the beginning, and where another film was joined
                parts = resampler.resample(None) if resampler else []
                resampler, kind = av.AudioResampler("fltp", coded.codec_context.layout, rate), now
            for part in parts + (resampler.resample(frame) if resampler else []):
                part.pts, part.time_base = samples, Fraction(1, rate)
                samples += part.samples
                result.mux(coded.encode(part))
        if packet is None:
            result.mux(coded.encode(None))

    return recode


class Onward:
    """A stream's times from the film's beginning on, always rising; they go on where a joined film's begin anew.

    A film may not begin at 0: a part of a disc or a broadcast goes by the clock of the whole, which FFmpeg takes back
    below 0 where it starts anew on the way, once in 26.5 hours.
    """

    def __init__(self, film: "InputContainer") -> None:
        self.start = (film.start_time or 0) / 1_000_000  # seconds
        self.last: int | None = None
        self.step, self.later = 1, 0

    def next(self, time: int | None, base: float) -> int:
        """When the stream's next packet or frame is, in units of `base` seconds; the film says `time`, or nothing."""
        if self.last is None:
            self.later = -round(self.start / base)
            self.last = 0 if time is None else time + self.later
            return self.last
        if time is not None and (self.last - time - self.later) * base > ANEW:
            self.later = self.last + self.step - time
        now = self.last + self.step if time is None else max(time + self.later, self.last + 1)
        self.step, self.last = now - self.last, now
        return now
