"""Pooled feature maps of pictures, as a frozen encoder gives them."""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tinct.data.transforms import shrunk
from tinct.downstream.examples import Chunk, Labelled, evaluation_chunks
from tinct.errors import TinctError
from tinct.files import expanded
from tinct.models.encoder import Encoder
from tinct.models.heads import pooled
from tinct.models.stem import Input, network_input
from tinct.weights import read_weights, weights_digest, write_weights

__all__ = ["STAGES", "Features", "cached_features", "extract"]

STAGES = (-3, -2, -1)
"""The feature maps that a probe looks at, mean- and max-pooled: the three deepest."""
BATCH = 64
"""Pictures in a pass, always: the last batch is filled up, so that no picture's features hang on how many follow."""
LOOKED_AT = 8
"""Pictures whose content a cache's name follows from."""


@dataclass(frozen=True)
class Features:
    """Pooled features of pictures.

    Attributes:
        values: (N, D) float32.
        indices: (N,) the pictures' indices in their source.
        hashes: (N,) their difference hashes.
        skipped: index -> reason of those that cannot be read.
    """

    values: Tensor
    indices: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    skipped: dict[int, str] = field(default_factory=dict)

    def of(self, indices: NDArray[np.int64]) -> "Features":
        """Those of the pictures `indices`."""
        rows = np.flatnonzero(np.isin(self.indices, indices))
        skipped = {index: self.skipped[index] for index in indices.tolist() if index in self.skipped}
        return Features(self.values[torch.from_numpy(rows)], self.indices[rows], self.hashes[rows], skipped)


@torch.no_grad()
def extract(encoder: Encoder, chunks: Iterable[Chunk], input: Input) -> Features:
    """Run an encoder over pictures as it is in use: fixed norm statistics, no dropout; its mode is put back after.

    Args:
        encoder: on whichever device.
        chunks: see `evaluation_chunks`.
        input: what the encoder is fed.

    Raises:
        TinctError: there was nothing to read, or a feature is not finite.
    """
    training, device = encoder.training, next(encoder.parameters()).device
    encoder.eval()
    values, indices, hashes = [], [], []
    skipped: dict[int, str] = {}
    for chunk in chunks:
        skipped |= chunk.skipped
        indices.append(chunk.indices)
        hashes.append(chunk.hashes)
        for pixels in torch.split(torch.from_numpy(chunk.pixels).permute(0, 3, 1, 2), BATCH):
            filled = F.pad(pixels, (0, 0, 0, 0, 0, 0, 0, BATCH - len(pixels)))
            maps = encoder(network_input(filled.to(device), input))
            values.append(pooled(maps, STAGES, peaks=True)[: len(pixels)].float().cpu())
    encoder.train(training)
    if not sum(map(len, values)):
        raise TinctError(f"nothing to take features of: {next(iter(skipped.values()), 'no pictures')}")
    features = torch.cat(values)
    if not bool(features.isfinite().all()):
        raise TinctError("a feature is not a finite number: these weights cannot be used; check how they were made")
    return Features(features, np.concatenate(indices), np.concatenate(hashes), skipped)


def cached_features(
    encoder: Encoder,
    labelled: Labelled,
    indices: NDArray[np.int64],
    size: int,
    input: Input,
    cache: str | None,
) -> Features:
    """`extract` on a part of a split, kept in the folder `cache` by a name that follows from weights and pictures.

    Of the pictures that is their names, when their files were written, and a look at a few: others under the same names
    must not get these features. Where one that could not be read now can, or the file is damaged, all are taken anew.
    """
    if cache is None:
        return extract(encoder, evaluation_chunks(labelled, indices, size), input)
    stamps = [labelled.pictures.stamp(index) for index in indices.tolist()]
    digest = hashlib.sha256(json.dumps([labelled.source.fingerprint(), size, input, indices.tolist(), stamps]).encode())
    for position in np.linspace(0, len(indices) - 1, min(LOOKED_AT, len(indices))).astype(int):
        picture = shrunk(labelled.source, int(indices[position]), labelled.side)
        digest.update(picture.encode() if isinstance(picture, str) else np.ascontiguousarray(picture).tobytes())
    digest.update(weights_digest(encoder).encode())
    names = {index: labelled.source.name(index) for index in indices.tolist()}
    path = expanded(cache) / f"{digest.hexdigest()[:24]}.features"
    with suppress(TinctError, KeyError):  # absent, damaged, or of something else
        tensors, meta = read_weights(path)
        kept, hashes = tensors["indices"].numpy(), tensors["hashes"].numpy().view(np.uint64)
        skipped = {index: meta["skipped"][names[index]] for index in sorted(names.keys() - set(kept.tolist()))}
        if all(isinstance(shrunk(labelled.source, index, labelled.side), str) for index in skipped):
            return Features(tensors["values"], kept, hashes, skipped)
    features = extract(encoder, evaluation_chunks(labelled, indices, size), input)
    tensors = {
        "values": features.values,
        "indices": torch.from_numpy(features.indices),
        "hashes": torch.from_numpy(features.hashes.view(np.int64)),
    }
    skipped = {names[index]: reason for index, reason in features.skipped.items()}
    write_weights(path, tensors, {"skipped": skipped})
    return features
