"""Small grey films with a tone, generated."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from skimage import data

RATE, SOUND_RATE = 12, 48_000


def photograph(height: int = 64, width: int = 96) -> np.ndarray:
    return np.ascontiguousarray(data.camera()[100 : 100 + 4 * height : 4, 100 : 100 + 4 * width : 4])


def write_film(
    path: Path,
    frames,
    *,
    codec="mpeg4",
    layout="yuv420p",
    of_video=False,
    sound="aac",
    times=None,
    lasting=RATE,
    sound_rate=SOUND_RATE,
    clock="0",
    header_first=False,
    tags=None,
    silent=(0, 0),
) -> Path:
    """A grey film whose sound is a tone, both of them made; it begins when its `clock` says.

    Where it is `of_video`, black is 16 and white 235, and its header says so. Between the seconds that are `silent` it
    has no sound.
    """
    frames = list(frames)
    first = {"movflags": "faststart"} if header_first and path.suffix == ".mp4" else {}
    with av.open(path, "w", container_options={"output_ts_offset": clock} | first) as film:
        film.metadata.update({"title": "Arrival"} | (tags or {}))
        track = film.add_stream(codec, rate=lasting)
        track.height, track.width = frames[0].shape
        track.pix_fmt = layout
        if of_video:
            track.codec_context.color_range = 1
        track.codec_context.time_base = Fraction(1, lasting)
        voice = film.add_stream(sound, rate=sound_rate) if sound else None
        if voice is not None:
            voice.codec_context.layout = "mono"
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, "gray")
            if of_video:
                frame = frame.reformat(format="yuv420p", dst_color_range=1)
                if layout == "gray":  # which FFmpeg would bring to the full range
                    luma = np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(luma[:, : frame.width]), "gray")
                    frame.color_range = 1
            frame.pts, frame.time_base = times[number] if times else number, Fraction(1, lasting)
            film.mux(track.encode(frame))
        film.mux(track.encode(None))
        if voice is not None:
            tone = 8000 * np.sin(np.arange(sound_rate * len(frames) // RATE) * 0.05)
            for begin in range(0, len(tone), 1024):
                if silent[0] <= begin / sound_rate < silent[1]:
                    continue
                part = av.AudioFrame.from_ndarray(tone[None, begin : begin + 1024].astype(np.int16), "s16", "mono")
                part.sample_rate, part.pts, part.time_base = sound_rate, begin, Fraction(1, sound_rate)
                film.mux(voice.encode(part))
            film.mux(voice.encode(None))
    return path
