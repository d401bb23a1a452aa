import logging
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from skimage import data

from tinct.color import srgb_to_lab
from tinct.colorize import Colorizer, working_size
from tinct.errors import PictureError, TinctError
from tinct.pictures import profiles
from tinct.pictures.picture import Picture, unit

EIGHT_BIT_STEP = 100 / 255


def smooth(l: torch.Tensor) -> torch.Tensor:
    """Colour as a smooth function of lightness, at stride 4."""
    x = torch.nn.functional.avg_pool2d(l, 4) / 100
    return torch.cat((25 * torch.sin(6 * x), 40 * x - 15), dim=1)


class Sampling(torch.nn.Module):
    samples = True

    def forward(self, l: torch.Tensor, seed: int | None = None) -> torch.Tensor:
        return smooth(l) if seed is None else torch.full_like(smooth(l), float(seed))


def colorizer(network=smooth, size: int = 64) -> Colorizer:
    return Colorizer(network, size, "fake", "cpu")


def lightness(pixels: np.ndarray) -> torch.Tensor:
    return srgb_to_lab(unit(pixels).expand(3, -1, -1))[0]


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    channels=st.sampled_from([1, 3, 4]),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    seed=st.integers(0, 99),
    saturation=st.sampled_from([0.0, 1.0, 3.0]),
)
@example(height=1, width=1, channels=1, dtype=np.uint8, seed=0, saturation=1.0)
@example(height=1, width=20000, channels=3, dtype=np.uint8, seed=0, saturation=1.0)
@example(height=20000, width=1, channels=4, dtype=np.uint16, seed=0, saturation=1.0)
def test_size_type_alpha_and_lightness_are_kept(height, width, channels, dtype, seed, saturation):
    values = np.random.default_rng(seed).random((height, width, channels)) ** 2
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    array = (values * white).astype(dtype)
    before = array.copy()
    result = colorizer()(array, saturation=saturation)
    assert np.array_equal(array, before)
    assert result.shape == (height, width, 4 if channels == 4 else 3)
    assert result.dtype == dtype
    if channels == 4:
        assert np.array_equal(result[..., 3], array[..., 3])
    source = array[..., 0] if channels == 1 else array[..., :3]
    difference = (lightness(result[..., :3]) - lightness(source)).abs().max()
    assert difference <= (EIGHT_BIT_STEP if dtype == np.uint8 else 0.1)
    if saturation == 0:
        assert np.ptp(result[..., :3].astype(float) / white, axis=2).max() < 1.01 / 255


def test_pictures_get_the_colour_that_the_network_gave():
    grey = data.camera()
    result = colorizer(size=256)(grey)
    ab = srgb_to_lab(unit(result))[1:]
    coarse = torch.nn.functional.adaptive_avg_pool2d(ab, (64, 64))
    seen = torch.nn.functional.interpolate(lightness(grey)[None, None], (256, 256), mode="bilinear", antialias=True)
    assert (coarse - smooth(seen)[0]).abs().mean() < 1.5  # Lab units; the colours spread over 50


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_network_sees_pictures_upright(orientation):
    seen = []

    def network(l):
        seen.append(l)
        ab = torch.zeros(len(l), 2, l.shape[2] // 4, l.shape[3] // 4)
        ab[:, 0] = torch.linspace(-30, 30, ab.shape[2])[:, None]  # green above, red below
        return ab

    pixels = np.zeros((96, 64), np.uint8) + 128
    stored = colorizer(network).colour([Picture(pixels, orientation=orientation)])[0]
    assert seen[0].shape[2:] == ((96, 64) if orientation < 5 else (64, 96))
    image = Image.fromarray(stored.pixels)
    image.getexif()[274] = orientation
    turned = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    redness = turned[..., 0] - turned[..., 1]
    assert (redness[:5] < -30).all()
    assert (redness[-5:] > 30).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_pillow_mode_gives_rgb_with_its_alpha_and_metadata(mode):
    image = Image.fromarray(data.astronaut()[:50, :70])
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    else:
        if mode in ("LA", "PA", "RGBA"):
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        image = image.convert(mode)
    image.info |= {"dpi": (300, 300), "xmp": b"<x/>"}
    exif = image.getexif()
    exif[274], exif[271] = 6, "Maker"
    result = colorizer()(image)
    has_alpha = mode in ("LA", "PA", "RGBA")
    assert result.mode == ("RGBA" if has_alpha else "RGB")
    assert result.size == image.size
    assert (result.info["dpi"], result.info["xmp"]) == ((300, 300), b"<x/>")
    assert result.info["icc_profile"] == profiles.srgb()
    assert dict(result.getexif()) == {271: "Maker", 274: 6}
    if has_alpha:
        assert result.getchannel("A").tobytes() == image.convert("RGBA").getchannel("A").tobytes()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
@pytest.mark.parametrize("channels", [1, 3])
def test_tensor_batches(dtype, channels):
    batch = torch.rand(3, channels, 20, 30)
    batch = (batch * 255).to(dtype) if dtype == torch.uint8 else batch.to(dtype)
    result = colorizer()(batch)
    assert result.shape == (3, 3, 20, 30)
    assert result.dtype == dtype
    alone = torch.cat([colorizer()(batch[i : i + 1]) for i in range(3)])
    assert torch.equal(result, alone)


def test_strips_do_not_show(monkeypatch):
    photo = data.astronaut()
    whole = colorizer()(photo)
    monkeypatch.setattr("tinct.pictures.picture.STRIP_PIXELS", 5000)
    assert np.abs(colorizer()(photo).astype(int) - whole).max() <= 1  # sums over squares in another order


def test_in_place_reuses_colour_pixels_and_gives_the_same():
    photo = data.astronaut()[:64, :64].copy()
    expected = colorizer()(photo)
    picture = Picture(photo)
    result = colorizer().colour([picture], in_place=True)[0]
    assert result.pixels is photo
    assert np.array_equal(result.pixels, expected)


def test_samples_follow_their_seeds():
    grey = np.full((64, 64), 128, np.uint8)
    first, second = colorizer(Sampling()).samples(grey, 2, seed=5)
    ab = srgb_to_lab(torch.stack((unit(first), unit(second))))[:, 1:].mean(dim=(2, 3))
    assert torch.allclose(ab, torch.tensor([[5.0, 5.0], [6.0, 6.0]]), atol=0.6)
    with pytest.raises(TinctError, match="one answer"):
        colorizer().samples(grey, 2)
    with pytest.raises(TinctError, match="count is 0; expected at least 1"):
        colorizer(Sampling()).samples(grey, 0)


@pytest.mark.parametrize(
    ("empty", "kind", "says"),
    [
        (Image.new("L", (0, 5)), PictureError, "image: 0x5 pixels; expected at least 1x1"),
        (np.zeros((0, 5), np.uint8), TinctError, r"array of shape \(0, 5\); expected .*, not empty"),
        (torch.zeros(0, 3, 8, 8), TinctError, r"tensor of shape \(0, 3, 8, 8\); expected .*, not empty"),
    ],
)
def test_nothing_is_refused(empty, kind, says):
    with pytest.raises(kind, match=says):
        colorizer()(empty)


def test_memory_shortage_lowers_the_working_size_and_says_so(caplog):
    seen = []

    def network(l):
        seen.append(tuple(l.shape))
        if l.shape[0] * l.shape[2] * l.shape[3] > 128 * 128:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return smooth(l)

    with caplog.at_level(logging.WARNING, "tinct.colorize"):
        results = colorizer(network, 256).colour([Picture(data.camera()), Picture(data.camera()[::-1].copy())])
    assert seen[0] == (2, 1, 256, 256)
    assert seen[1] == (1, 1, 256, 256)
    assert "working size lowered to 128x128" in caplog.text
    assert all(np.ptp(result.pixels, axis=2).max() > 20 for result in results)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 bytes")]
)
def test_too_little_memory_is_an_error_and_never_a_grey_picture(error):
    def network(l):
        raise error

    with pytest.raises(PictureError, match="not enough memory"):
        colorizer(network)(np.zeros((64, 64), np.uint8))


def test_other_failures_of_the_network_are_not_swallowed():
    def network(l):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        colorizer(network)(np.zeros((64, 64), np.uint8))


def test_colours_that_are_not_finite_are_an_error():
    with pytest.raises(PictureError, match="not finite"):
        colorizer(lambda l: smooth(l) * float("nan"))(np.zeros((8, 8), np.uint8))


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros((0, 4), np.uint8), "shape"),
        (np.zeros((4, 4), np.int32), "int32"),
        (np.full((4, 4), 1.5), "0 to 1"),
        (np.full((4, 4), np.nan), "0 to 1"),
        (torch.zeros(3, 4, 4), "shape"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), "int64"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.float8_e5m2), "float8"),
        (torch.zeros(1, 3, 4, 4, device="meta"), "on meta"),
        (torch.zeros(1, 3, 4, 4).to_sparse(), "sparse_coo"),
        ("photo.jpg", "str"),
    ],
)
def test_wrong_arguments_are_one_sentence(image, says):
    with pytest.raises(TinctError, match=says) as caught:
        colorizer()(image)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"saturation": -1},
        {"saturation": float("nan")},
        {"saturation": "1"},
        {"saturation": True},
        {"size": 8},
        {"size": "64"},
        {"size": 64.5},
        {"seed": 1.5},
        {"saturation": None},
    ],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(TinctError, match="expected"):
        colorizer()(np.zeros((4, 4), np.uint8), **settings)


def test_text_is_no_number():
    with pytest.raises(TinctError, match="working size is '128', a str; expected a whole number"):
        Colorizer(smooth, "128", "test", "cpu")
    with pytest.raises(TinctError, match="count is '3', a str; expected a whole number"):
        colorizer().samples(np.zeros((4, 4), np.uint8), "3")


def test_numbers_may_be_numpys():
    class Drawing(Sampling):
        def forward(self, l, seed=None):
            torch.Generator().manual_seed(seed)
            return super().forward(l, seed)

    grey = data.camera()[::8, ::8]
    given = {"saturation": np.float32(0.5), "seed": np.int64(3), "size": np.int32(64)}
    expected = colorizer(Drawing())(grey, saturation=0.5, seed=3, size=64)
    assert np.array_equal(colorizer(Drawing())(grey, **given), expected)
    assert np.array_equal(colorizer(Drawing()).samples(grey, 1, **given)[0], expected)


def test_a_saturation_may_be_a_fraction():
    grey = data.camera()[::8, ::8]
    assert np.array_equal(colorizer()(grey, saturation=Fraction(1, 2)), colorizer()(grey, saturation=0.5))


def test_a_model_is_named_by_text():
    with pytest.raises(TinctError, match="model is a NoneType"):
        Colorizer.load(None)


def test_threads_get_what_one_gets():
    photos = [np.roll(data.camera(), shift, axis=1) for shift in (0, 100, 200, 300)]
    shared = colorizer(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 8, 4, 2)).eval())
    alone = [shared(photo) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(shared, photos))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize(
    ("picture", "seen"),
    [
        ((512, 512), (256, 256)),
        ((480, 640), (256, 352)),
        ((1, 1), (256, 256)),
        ((1, 20000), (32, 1024)),
        ((9, 90), (96, 1024)),
    ],
)
def test_working_size(picture, seen):
    assert working_size(*picture, 256) == seen


def test_unknown_devices_are_one_sentence():
    for name in ("toaster", None):
        with pytest.raises(TinctError, match=f"no device {name} here; expected auto, cpu"):
            Colorizer.load("tinct-small", device=name)


def test_the_caller_keeps_tags_and_byte_order(tmp_path):
    image = Image.fromarray(np.full((8, 9), 99, np.uint8))
    image.save(tmp_path / "a.tif", description="mine")
    with Image.open(tmp_path / "a.tif") as opened:
        before = dict(opened.getexif())
        colorizer()(opened)
        assert dict(opened.getexif()) == before
    deep = np.arange(96, dtype=np.uint16).reshape(8, 12) * 600
    assert np.array_equal(colorizer()(deep.astype(">u2")), colorizer()(deep))


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 2, 4, 4), (2, 4, 4)])
def test_what_a_network_gives_is_looked_at(shape):
    with pytest.raises(TinctError, match=r"fake gave a shape of \(.*\); expected \(1, 2, h, w\)"):
        colorizer(lambda l: torch.zeros(shape))(np.zeros((9, 9), np.uint8))
    with pytest.raises(TinctError, match="no device foo here"):
        Colorizer(smooth, 64, "fake", "foo")
