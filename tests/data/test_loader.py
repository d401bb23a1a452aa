import pickle
from functools import partial
from itertools import chain

import numpy as np
import pytest
import torch
from conftest import write_colourful
from fake_labels import make_table
from PIL import Image
from scipy.stats import kstest
from torch.nn import functional as F

from tinct.data.base import Source
from tinct.data.cache import CachedSource
from tinct.data.hashes import dhash, hash_of
from tinct.data.ledger import Ledger
from tinct.data.loader import EXCLUDED, GREY_SKIP, HOPELESS, Photographs, Reading, crops_loader, random_crop
from tinct.data.photos import Photos
from tinct.data.sources import open_labelled, open_sources
from tinct.data.transforms import shrunk
from tinct.errors import TinctError


def photographs(seed: int = 0, size: int = 32, **options) -> Photographs:
    source = Photos()
    return Photographs(source, np.arange(len(source), dtype=np.uint32), size, seed, **options)


def positions(
    start: int, batch: int, steps: int, rank: int = 0, ranks: int = 1, accumulate: int = 1
) -> list[list[int]]:
    sampler = crops_loader(photographs(), batch, range(start, start + steps), rank, ranks, accumulate).batch_sampler
    return list(sampler)


def test_a_crop_is_a_function_of_seed_and_position():
    one, other = photographs(), photographs()
    for position in (700, 3, 511, 512):
        assert torch.equal(one[position].pixels, other[position].pixels)
        assert one[position].reading == other[position].reading
    assert not torch.equal(one[3].pixels, one[4].pixels)
    alone = [Photographs(Photos(), np.zeros(1, np.uint32), 32, seed)[3] for seed in (0, 0, 1)]  # in one order
    assert torch.equal(alone[0].pixels, alone[1].pixels)
    assert not torch.equal(alone[0].pixels, alone[2].pixels)
    assert alone[0].reading.key == alone[1].reading.key != alone[2].reading.key


def test_an_epoch_shows_every_picture_once_and_the_next_in_another_order():
    data = Photographs(Photos(), np.arange(24, dtype=np.uint32), 32, seed=0)
    epochs = [[data[24 * epoch + place].reading.index for place in range(24)] for epoch in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(24))
    assert epochs[0] != epochs[1]


def test_ranks_and_parts_see_together_what_one_rank_sees():
    alone = list(chain.from_iterable(positions(4, 12, 3)))
    assert sorted(alone) == list(range(48, 84))
    ranks = list(chain.from_iterable(batch for rank in (0, 1) for batch in positions(4, 12, 3, rank, 2)))
    parts = list(chain.from_iterable(positions(4, 12, 3, accumulate=3)))
    assert sorted(ranks) == sorted(parts) == alone
    for step in range(3):  # within a step too
        first, second = (positions(4, 12, 3, rank, 2)[step] for rank in (0, 1))
        assert first + second == positions(4, 12, 3)[step]


def test_a_resumed_loader_goes_on_where_it_stopped():
    assert positions(0, 8, 6)[4:] == positions(4, 8, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers):
    batches = [batch.pixels for batch in crops_loader(photographs(), 4, range(3), workers=workers)]
    assert torch.equal(torch.cat(batches), torch.stack([photographs()[position].pixels for position in range(12)]))


def test_a_batch_crosses_processes_in_two_tensors_however_many_crops_it_has():
    (batch,) = crops_loader(photographs(), 4, range(1))
    assert [reading.position for reading in batch.readings] == [0, 1, 2, 3]
    assert len(pickle.dumps(batch)) < batch.pixels.nbytes + 3000


def test_crops_are_flipped_half_the_time_and_never_smaller_than_asked():
    ramp = np.zeros((60, 80, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, 80)  # rises to the right
    ramp[..., 2] = 255 - ramp[..., 0]

    class Ramp(Photos):
        def picture(self, index, min_side=None):
            return ramp

    data = Photographs(Ramp(), np.arange(512, dtype=np.uint32), 32, seed=0, min_crop=0.5)
    spans = [
        float(data[position].pixels[0, 16, -1]) - float(data[position].pixels[0, 16, 0]) for position in range(200)
    ]
    flipped = sum(span < 0 for span in spans) / 200
    assert 0.4 < flipped < 0.6
    widths = np.abs(spans) / 255 * 80  # in pixels, less the resampling's rim
    assert widths.min() > 0.5 * 60 / (4 / 3) ** 0.5 - 4
    assert widths.max() <= 60 * (4 / 3) ** 0.5


def test_crops_have_the_side_shape_and_place_that_are_said():
    """Read off the colours of pictures that tell their places, and against what the words of `random_crop` mean."""
    down, across = np.mgrid[:180, :240]
    picture = np.stack((across, down, 255 - across), axis=-1).astype(np.uint8)

    class Places(Photos):
        def picture(self, index, min_side=None):
            return picture

    data = Photographs(Places(), np.arange(400, dtype=np.uint32), 32, seed=0, min_crop=0.4)
    crops = np.stack([data[position].pixels.numpy().astype(float) for position in range(400)])
    wide = np.abs(crops[:, 0, 16, -3] - crops[:, 0, 16, 2]) * 32 / 27
    tall = (crops[:, 1, -3, 16] - crops[:, 1, 2, 16]) * 32 / 27
    middle = crops[:, 0, 15:17, 15:17].mean((1, 2)) + 0.5, crops[:, 1, 15:17, 15:17].mean((1, 2)) + 0.5
    fits = tall < 175  # else it was made to
    assert kstest((wide * tall)[fits] ** 0.5 / 180, "uniform", (0.4, 0.6)).pvalue > 1e-3
    stretch = np.log(tall / wide)[fits] / np.log(4 / 3)
    assert -1.05 < stretch.min() < -0.95
    assert 0.95 < stretch.max() < 1.05
    for length, centre, side in ((wide, middle[0], 240), (tall, middle[1], 180)):
        free = side - length > 10
        place = (centre - length / 2)[free] / (side - length)[free]
        assert kstest(place.clip(0, 1), "uniform").pvalue > 1e-3


def test_a_crop_is_resampled_as_torch_does():
    class Middle:
        """Draws the middle of each range, and no flip."""

        def uniform(self, low, high):
            return (low + high) / 2

        def random(self):
            return 0.9

    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    crop = random_crop(picture, 24, 0.75, Middle())
    middle = torch.from_numpy(picture[8:56, 24:72]).permute(2, 0, 1)[None].float()
    expected = F.interpolate(middle, (24, 24), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    assert np.abs(crop - expected)[1:-1, 1:-1].max() <= 1  # at its rim a crop sees beyond its part


def test_bad_grey_and_excluded_pictures_are_replaced_counted_and_named(tmp_path):
    write_colourful(tmp_path, 8)
    (tmp_path / "0001.png").write_bytes(b"no picture")
    (tmp_path / "0002.png").write_bytes((tmp_path / "0002.png").read_bytes()[:300])
    Image.new("RGB", (40, 40), (90, 90, 90)).save(tmp_path / "0003.png")
    source = open_sources([str(tmp_path)])
    excluded = np.array([dhash(source.picture(4))], np.uint64)
    data = Photographs(source, np.arange(8, dtype=np.uint32), 32, 0, excluded=excluded)
    ledger = Ledger(source, len(source))
    news = []
    for batch in crops_loader(data, 8, range(4)):
        assert all(reading.index in (0, 5, 6, 7) for reading in batch.readings)
        news += ledger.note(batch.readings)
    assert sorted(one[:2] for one in news) == [  # each once, in four epochs
        *(("grey", "0003.png"), ("unreadable", "0001.png"), ("unreadable", "0002.png"))
    ]
    assert ledger.counts() == {"pictures": 8, "seen": 4, "grey": 1, "excluded": 1, "unreadable": 2}
    assert ledger.skipped[3] == GREY_SKIP
    assert ledger.skipped[4] == EXCLUDED
    assert ledger.hashes[5] == dhash(source.picture(5))


class TwoVersions(Source):
    """Its first picture is another one, and blue, where it is decoded large."""

    def __len__(self):
        return 2

    def name(self, index):
        return str(index)

    def picture(self, index, min_side=None):
        large = index == 0 and (min_side is None or min_side > 48)
        levels = np.random.default_rng(10 * index + large).integers(50, 150, (4, 4)).astype(np.uint8)
        plane = np.kron(levels, np.ones((16 << large, 16 << large), np.uint8))
        return np.stack([plane, plane // 2, plane + 100 * large], axis=2)


def test_each_version_of_a_picture_is_held_against_those_that_must_not_be_seen():
    source = TwoVersions()
    small, large = source.picture(0, 48), source.picture(0)
    assert len(large) == 2 * len(small)
    for forbidden, kept in ((large, "small"), (small, "large")):
        data = Photographs(source, np.arange(2, dtype=np.uint32), 32, 0, excluded=np.array([dhash(forbidden)]))
        crops = [data[position] for position in range(60)]
        blue = {bool(crop.pixels[2].float().mean() > 160) for crop in crops if crop.reading.index == 0}
        assert blue == {kept == "large"}


def test_a_vanished_picture_is_replaced(tmp_path):
    write_colourful(tmp_path, 4)
    source = open_sources([str(tmp_path)])
    data = Photographs(source, np.arange(4, dtype=np.uint32), 32, 0)
    (tmp_path / "0002.png").unlink()
    crops = [data[position] for position in range(8)]
    assert {crop.reading.index for crop in crops} == {0, 1, 3}
    assert {index for crop in crops for index, _ in crop.reading.skipped} == {2}


def test_pictures_that_vanish_after_they_were_seen_are_named_and_count_as_unreadable(tmp_path):
    write_colourful(tmp_path, 9)
    source = open_sources([str(tmp_path)])
    data, ledger = Photographs(source, np.arange(9, dtype=np.uint32), 32, 0), Ledger(source, len(source))
    assert ledger.note([data[position].reading for position in range(9)]) == []
    for index in range(4):
        (tmp_path / f"{index:04d}.png").unlink()
    news = ledger.note([data[position].reading for position in range(9, 18)])
    assert sorted(name for _, name, _ in news) == [f"{index:04d}.png" for index in range(4)]
    assert all(kind == "unreadable" and reason.endswith("(it could be before)") for kind, _, reason in news)
    assert ledger.note([data[position].reading for position in range(18, 27)]) == []  # each is named once
    assert ledger.counts() == {"pictures": 9, "seen": 9, "grey": 0, "excluded": 0, "unreadable": 0, "vanished": 4}
    again = Ledger(source, len(source))
    assert sorted(again.load(ledger.state())) == sorted(news)  # as from another rank
    (tmp_path / "0004.png").unlink()
    with pytest.raises(TinctError, match=r"more than half of the pictures cannot be read .* and 5 no longer readable"):
        again.note([data[position].reading for position in range(27, 36)])


def test_mostly_unreadable_sources_end_in_one_line(tmp_path):
    write_colourful(tmp_path, 9)
    for index in range(5):
        (tmp_path / f"{index:04d}.png").write_bytes(b"broken")
    source = open_sources([str(tmp_path)])
    data = Photographs(source, np.arange(9, dtype=np.uint32), 32, 0)
    ledger = Ledger(source, len(source))
    with pytest.raises(TinctError, match="more than half") as caught:
        ledger.note([data[position].reading for position in range(9)])
    assert "000" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_small_part_of_a_large_source_that_cannot_be_read_ends_the_run(tmp_path):
    write_colourful(tmp_path, 20)
    for index in range(4):
        (tmp_path / f"{index:04d}.png").write_bytes(b"broken")
    source = open_sources([str(tmp_path)])
    data = Photographs(source, np.arange(6, dtype=np.uint32), 32, 0)
    with pytest.raises(TinctError, match="more than half"):
        Ledger(source, len(data)).note([data[position].reading for position in range(6)])


def test_an_all_grey_source_ends_in_one_line(tmp_path):
    for index in range(3):
        Image.fromarray(np.full((40, 40), 40 * index, np.uint8)).save(tmp_path / f"{index}.png")
    source = open_sources([str(tmp_path)])
    data = Photographs(source, np.arange(3, dtype=np.uint32), 32, 0)
    with pytest.raises(TinctError, match="3 grey"):
        Ledger(source, len(source)).note([data[0].reading])


class Mixed(Source):
    """Of `count` pictures every `usable`-th is in colour; picture 1 of them in its larger version only."""

    spec, split = "mixed", "train"

    def __init__(self, count: int, usable: int) -> None:
        self.count, self.usable = count, usable
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return str(index)

    def picture(self, index: int, min_side: int | None = None) -> np.ndarray:
        self.read.append(index)
        side = 80 if min_side is None or min_side > 40 else 40
        if index % self.usable and (index != 1 or side == 40):
            return np.full((side, side, 3), 100, np.uint8)
        return np.random.default_rng(index).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_a_long_run_of_unusable_pictures_is_passed_over():
    source = Mixed(900, 300)
    data, ledger = Photographs(source, np.arange(900, dtype=np.uint32), 32, 0), Ledger(source, len(source))
    for position in range(900):
        ledger.note([data[position].reading])
    assert ledger.counts() == {"pictures": 900, "seen": 4, "grey": 896, "excluded": 0, "unreadable": 0}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_was_passed_over_before_changes_no_crop_and_is_not_read_again(seed):
    source = Mixed(60, 12)
    data = Photographs(source, np.arange(60, dtype=np.uint32), 32, seed)
    crops = [data[position] for position in range(180)]
    assert 1 in {crop.reading.index for crop in crops}
    source.read.clear()
    for position in reversed(range(180)):
        afresh = Photographs(Mixed(60, 12), data.pool, 32, seed)[position]
        for known in (crops[position], data[position]):
            assert (known.reading.index, known.reading.key) == (afresh.reading.index, afresh.reading.key)
            assert torch.equal(known.pixels, afresh.pixels)
    assert {index for index in source.read if index % 12} == {1}


def test_a_source_without_hope_is_given_up_before_all_of_it_is_read():
    source = Mixed(50_000, 49_999)
    data = Photographs(source, np.arange(50_000, dtype=np.uint32), 32, 0)
    with pytest.raises(
        TinctError, match=f"found no usable picture .of {HOPELESS} tried, 0 are usable, {HOPELESS} grey"
    ):
        Ledger(source, len(source)).note([data[0].reading])
    assert len(set(source.read)) == HOPELESS


def test_a_ledger_survives_a_checkpoint_and_merges_ranks(tmp_path):
    source = Photos()
    data = photographs()
    first, second, both = Ledger(source, len(source)), Ledger(source, len(source)), Ledger(source, len(source))
    first.note([data[position].reading for position in range(5)])
    second.note([data[position].reading for position in range(5, 9)])
    torch.save({"a": first.state(), "b": second.state()}, tmp_path / "ledgers.pt")
    states = torch.load(tmp_path / "ledgers.pt", weights_only=True)
    both.load(states["a"], states["b"])
    assert both.counts()["seen"] == 9
    assert set(both.hashes[both.seen]) == set(first.hashes[first.seen]) | set(second.hashes[second.seen])


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_of_two_ranks_hashes_of_a_picture_the_first_reading_counts_as_on_one_rank(order):
    """Whichever rank that was, and whether or not its hash is the larger."""
    source = Photos()
    readings = {0: [(0, 1, 9), (3, 2, 4)], 1: [(2, 2, 8), (5, 1, 3)]}  # by rank: position, picture, hash
    taken = {rank: [Reading(at, 0, index, hashed) for at, index, hashed in readings[rank]] for rank in readings}
    one, merged, ranks = (
        Ledger(source, len(source)),
        Ledger(source, len(source)),
        [Ledger(source, len(source)), Ledger(source, len(source))],
    )
    one.note(sorted(taken[0] + taken[1], key=lambda reading: reading.position))
    for rank, ledger in enumerate(ranks):
        ledger.note(taken[rank])
    merged.load(*[ledger.state() for ledger in ranks][order])
    assert merged.hashes[[1, 2]].tolist() == one.hashes[[1, 2]].tolist() == [9, 8]
    older = {key: value for key, value in one.state().items() if key != "positions"}
    merged = Ledger(source, len(source))
    merged.load(older)
    assert np.array_equal(merged.hashes, one.hashes)


def test_no_picture_is_counted_twice():
    """One that is grey in one reduced version and not in another is seen, on whichever rank."""
    source = Photos()
    grey_then_seen = [Reading(0, 0, 1, 5, [(0, GREY_SKIP)]), Reading(1, 1, 0, 6, [(2, "broken")])]
    again = Reading(3, 3, 2, None, [(2, GREY_SKIP), (0, GREY_SKIP)])
    seen_then_grey = [Reading(2, 2, 2, 7, []), again]
    ledgers = [Ledger(source, len(source)), Ledger(source, len(source))]
    ledgers[0].note(grey_then_seen)
    ledgers[1].note(seen_then_grey)
    assert ledgers[0].counts() == {"pictures": len(source), "seen": 2, "grey": 0, "excluded": 0, "unreadable": 1}
    assert ledgers[1].counts() == {"pictures": len(source), "seen": 1, "grey": 1, "excluded": 0, "unreadable": 0}
    both = Ledger(source, len(source))
    both.load(*(ledger.state() for ledger in ledgers))
    assert both.counts() == {"pictures": len(source), "seen": 3, "grey": 0, "excluded": 0, "unreadable": 0}


def test_what_processes_are_given_can_be_sent_to_them(tmp_path):
    """They share nothing on macOS and Windows, nor on Linux from Python 3.14 on, where they are not forked."""
    write_colourful(tmp_path / "pictures", 3)
    spec = make_table(tmp_path, train=6, val=2)
    words = [["photos:", str(tmp_path / "pictures")], [spec], ["mosaic:"]]
    sources = [*map(open_sources, words), open_labelled(spec, "train", "segmentation")]
    sources.append(CachedSource(sources[0], tmp_path / "cache", 32, processes=1))
    for source in sources:
        data = Photographs(source, np.arange(len(source), dtype=np.uint32), 32, 0)
        assert torch.equal(pickle.loads(pickle.dumps(data))[5].pixels, data[5].pixels)
    for work in (partial(shrunk, side=32), hash_of):
        assert pickle.loads(pickle.dumps(work))(sources[0], 0) is not None
