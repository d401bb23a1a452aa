import numpy as np
import pytest
import torch
from fake_labels import by_chance, make_table
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from tinct import probe
from tinct.data.subsets import tuning_split
from tinct.downstream.examples import evaluation_chunks, open_labels
from tinct.downstream.features import STAGES, cached_features, extract
from tinct.inits import load_init
from tinct.metrics import multilabel_scores
from tinct.models.encoder import Encoder
from tinct.probe import fit_knn, fit_linear, logistic, probe_encoder
from tinct.weights import packed


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_table(tmp_path_factory.mktemp("labels"), train=60, val=4)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return Encoder("resnet10t")


def problem(pictures=80, width=6, classes=3):
    """Features of unlike scales, and labels that follow from them with some noise."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(pictures, width, generator=draw) * torch.logspace(-2, 2, width) + 3
    slopes = torch.randn(classes, width, generator=draw)
    logits = ((x - 3) / torch.logspace(-2, 2, width)) @ slopes.T
    return x, (logits + torch.randn(pictures, classes, generator=draw) > 0).float()


@pytest.mark.parametrize("strength", [1.0, 0.01])
def test_logistic_regression_is_scikit_learns(strength):
    x, y = problem()
    x = (x - x.mean(0)) / x.std(0)
    y[:10, 1] = float("nan")
    weight, bias = logistic(x, y, strength, torch.zeros(3, 6), torch.zeros(3))
    for column in range(3):
        known = ~y[:, column].isnan()
        reference = LogisticRegression(C=1 / (strength * int(known.sum())), tol=1e-8, max_iter=1000)
        reference.fit(x[known].numpy(), y[known, column].numpy())
        assert weight[column].numpy() == pytest.approx(reference.coef_[0], abs=2e-3)
        assert float(bias[column]) == pytest.approx(reference.intercept_[0], abs=2e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("third", [0.0, np.nan])
def test_where_no_class_can_be_chosen_by_the_strongest_is_taken(third):
    x, y = problem()
    tuning = torch.tensor([[1.0, np.nan, third], [1.0, np.nan, third]])  # never both a positive and a negative
    fit = fit_linear(x, y, x[:2], tuning)
    assert (fit.strengths, fit.chosen) == ((10.0, 10.0, 10.0), False)
    assert fit_linear(x[:50], y[:50], x[50:], y[50:]).chosen


def test_a_linear_fit_works_on_raw_features_and_ignores_constant_ones():
    x, y = problem()
    x = torch.cat((x, torch.full((80, 1), 7.0)), dim=1)
    fit = fit_linear(x[:50], y[:50], x[50:], y[50:])
    assert fit.weight.shape == (3, 7)
    assert (fit.weight[:, 6] == 0).all()
    assert multilabel_scores(fit.scores(x[50:]), y[50:], ["a", "b", "c"]).mean_ap > 0.85
    x2 = x * 5 - 2  # another scale and origin are the same problem
    again = fit_linear(x2[:50], y[:50], x2[50:], y[50:])
    assert torch.allclose(again.scores(x2), fit.scores(x), atol=1e-2)


def test_strength_is_chosen_by_the_tuning_part(monkeypatch):
    def fit(strengths, *parts):
        monkeypatch.setattr("tinct.probe.STRENGTHS", strengths)
        return fit_linear(*parts)

    x, y = problem(pictures=120)
    noisy = torch.cat((x, torch.randn(120, 100, generator=torch.Generator().manual_seed(2))), dim=1)
    parts = noisy[:40], y[:40], noisy[40:]
    plain, tuned = (fit(strengths, *parts, y[40:]) for strengths in ((1e-3,), (3.0, 1e-3)))
    assert set(tuned.strengths) <= {3.0, 1e-3}
    assert 3.0 in tuned.strengths
    assert plain.strengths == (1e-3,) * 3
    positive = y[40:].clone()
    positive[positive[:, 0] == 0, 0] = torch.nan  # without negatives any strength ranks perfectly
    told = fit((1e6, 3.0, 1e-3), *parts, positive)
    assert told.strengths[0] != 1e6


def test_each_classs_strength_is_the_one_of_best_average_precision_by_scikit_learn():
    x, y = problem(pictures=120)
    x = torch.cat((x, torch.randn(120, 40, generator=torch.Generator().manual_seed(2))), dim=1)
    y = torch.cat((y, (y[:, :1] + y[:, 1:2]).clamp(max=1)), dim=1)
    y[40:, 3][y[40:, 3] == 0] = torch.nan  # nothing to choose by: what is best over the others
    scaled = ((x - x[:40].mean(0)) / x[:40].std(0, correction=0)).numpy()
    table = np.full((len(probe.STRENGTHS), 3), np.nan)
    for row, strength in enumerate(probe.STRENGTHS):
        for column in range(3):
            model = LogisticRegression(C=1 / (strength * 40), tol=1e-8, max_iter=1000)
            scores = model.fit(scaled[:40], y[:40, column].numpy()).decision_function(scaled[40:])
            table[row, column] = average_precision_score(y[40:, column].numpy(), scores)
    best = [*table.argmax(0), table.mean(1).argmax()]
    assert len({*best}) > 2  # or the test would show little
    fit = fit_linear(x[:40], y[:40], x[40:], y[40:])
    assert fit.strengths == tuple(probe.STRENGTHS[row] for row in best)
    found = multilabel_scores(fit.scores(x[40:]), y[40:], "abcd").average_precision
    assert [found[name] for name in "abc"] == pytest.approx(table.max(0), abs=1e-3)


def test_neighbours_vote_as_scikit_learns_do():
    x, y = problem()
    fit = fit_knn(x[:60], y[:60], x[60:], y[60:])
    mean, deviation = x[:60].mean(0), x[:60].std(0, correction=0)
    unit = torch.nn.functional.normalize((x - mean) / deviation).numpy()

    def weights(distances):
        return np.exp((1 - distances) / 0.07)

    def votes(k, column):
        reference = KNeighborsClassifier(k, weights=weights, metric="cosine", algorithm="brute")
        reference.fit(unit[:60], y[:60, column].numpy())
        return reference.predict_proba(unit[60:])[:, list(reference.classes_).index(1.0)]

    for column in range(3):
        assert fit.scores(x[60:])[:, column].numpy() == pytest.approx(votes(fit.k, column), abs=1e-4)
    precision = {
        k: np.mean([average_precision_score(y[60:, column].numpy(), votes(k, column)) for column in range(3)])
        for k in (1, 3, 5, 10, 20, 50)  # and no more than there are
    }
    assert precision[fit.k] == max(precision.values())
    assert len({round(value, 6) for value in precision.values()}) > 3


def test_unknown_labels_have_no_vote():
    x, y = problem()
    y[:59, 0] = float("nan")
    y[59, 0] = 1
    fit = fit_knn(x[:60], y[:60], x[60:], y[60:])
    scores = fit.scores(x[60:])[:, 0]
    assert all(score in (0, 1) for score in scores.round(decimals=5).tolist())


def test_features_do_not_depend_on_the_batch_nor_on_the_mode(table, encoder, monkeypatch):
    labelled = open_labels(table, "train", "multilabel", 32)
    chunks = list(evaluation_chunks(labelled, np.arange(20), 32))
    encoder.train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    whole = extract(encoder, chunks, "grey")
    assert encoder.training
    assert whole.values.shape == (20, 2 * sum(encoder.channels[stage] for stage in STAGES))
    for batch in (1, 7):
        monkeypatch.setattr("tinct.downstream.features.BATCH", batch)
        assert torch.allclose(extract(encoder.eval(), chunks, "grey").values, whole.values, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert np.array_equal(whole.of(np.array([3, 5])).indices, [3, 5])
    assert torch.equal(whole.of(np.array([3, 5])).values, whole.values[[3, 5]])


def test_cached_features_are_the_same_and_hang_on_the_weights(table, encoder, tmp_path):
    labelled = open_labels(table, "train", "multilabel", 32)
    common = (labelled, np.arange(6), 32, "grey", str(tmp_path))
    first, again = (cached_features(encoder, *common) for _ in range(2))
    assert torch.equal(first.values, again.values)
    assert np.array_equal(first.hashes, again.hashes)
    assert len(list(tmp_path.iterdir())) == 1
    torch.manual_seed(5)
    other = cached_features(Encoder("resnet10t"), *common)
    assert not torch.equal(other.values, first.values)


def test_cached_features_are_of_this_part_size_and_input(table, tmp_path):
    encoder = Encoder("test_resnet", 3).eval()  # which takes both inputs
    asked = [("train", range(4), 32, "grey")]
    asked += [("train", range(4), 32, "rgb"), ("train", range(4), 64, "grey"), ("train", range(1, 5), 32, "grey")]
    asked += [("val", range(4), 32, "grey")]
    for _ in range(2):
        for split, part, size, kind in asked:
            common = open_labels(table, split, "multilabel", size), np.array(part), size, kind
            found, fresh = (cached_features(encoder, *common, cache) for cache in (str(tmp_path), None))
            assert torch.equal(found.values, fresh.values)
            assert np.array_equal(found.indices, fresh.indices)
    assert len(list(tmp_path.iterdir())) == len(asked)


def test_equal_weights_of_another_backbone_do_not_get_its_cached_features(table, tmp_path):
    labelled, indices = open_labels(table, "val", "multilabel", 32), np.arange(4)
    own, other = (Encoder(name).eval() for name in ("efficientnet_lite0", "tf_efficientnet_lite0"))  # padding differs
    other.body.load_state_dict(own.body.state_dict())
    expected, first = (
        cached_features(one, labelled, indices, 32, "grey", cache).values
        for one, cache in ((other, None), (own, str(tmp_path)))
    )
    found = cached_features(other, labelled, indices, 32, "grey", str(tmp_path)).values
    assert torch.equal(found, expected)
    assert not torch.equal(found, first)


def test_other_pictures_under_the_same_names_do_not_get_cached_features(encoder, tmp_path):
    found = []
    for name, shift in (("first", 0), ("second", 90)):
        (tmp_path / name).mkdir()
        spec = make_table(tmp_path / name)
        for path in (tmp_path / name).glob("*[0-9].png"):
            Image.fromarray(np.roll(np.asarray(Image.open(path)), shift, axis=0) // (1 + shift)).save(path)
        labelled = open_labels(spec, "train", "multilabel", 32)
        common = (labelled, np.arange(6), 32, "grey")
        found.append(cached_features(encoder, *common, str(tmp_path / "cache")).values)
        assert torch.equal(found[-1], cached_features(encoder, *common, None).values)
    assert not torch.equal(*found)


@pytest.mark.parametrize("cached", [False, True])
def test_one_other_picture_under_its_name_is_noticed_by_cached_features(encoder, tmp_path, cached):
    spec = make_table(tmp_path)

    def taken(cache):
        labelled = open_labels(spec, "train", "multilabel", 32, str(tmp_path / "cache") if cached else None)
        return cached_features(encoder, labelled, np.arange(30), 32, "grey", cache).values

    before = taken(str(tmp_path / "cache"))
    Image.new("RGB", (48, 48), "white").save(tmp_path / "17.png")  # none of those that are looked at
    after = taken(str(tmp_path / "cache"))
    assert (after != before).any(1).nonzero().flatten().tolist() == [17]
    assert torch.equal(after, taken(None))


def test_damaged_cached_features_are_taken_anew(table, encoder, tmp_path):
    labelled = open_labels(table, "train", "multilabel", 32)
    common = (labelled, np.arange(6), 32, "grey", str(tmp_path))
    values = cached_features(encoder, *common).values
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[:-1], packed({"others": values}, {})):
        path.write_bytes(damaged)
        assert torch.equal(cached_features(encoder, *common).values, values)
        assert path.read_bytes() == content


def test_a_probe_during_pretraining_leaves_the_encoder_alone(table, encoder):
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder.train()
    value = probe_encoder(encoder, table, 32)
    assert 50 < value <= 100  # the classes are easy, and half of the pictures have each
    assert probe_encoder(encoder, table, 32) == value
    assert encoder.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in encoder.state_dict().items())


def test_a_probe_during_pretraining_is_fitted_chosen_and_scored_on_three_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "STRENGTHS", (1.0, 0.1, 0.01))
    spec = by_chance(make_table(tmp_path, train=140, val=4, side=32), (0.85, 0.4), seed=7)
    encoder = load_init("random", backbone="test_resnet").encoder.eval()
    labelled = open_labels(spec, "train", "multilabel", 32)
    evaluated, rest = labelled.parts()
    tuning, fitted = tuning_split(labelled.presence[rest])
    whole = extract(encoder, evaluation_chunks(labelled, np.arange(140), 32), "grey").values
    parts = [(whole[part], torch.tensor(labelled.presence[part])) for part in (rest[fitted], rest[tuning], evaluated)]

    def value(fit_on, choose_on, score_on):
        features, labels = parts[score_on]
        scores = fit_linear(*parts[fit_on], *parts[choose_on]).scores(features)
        known = ~labels[:, 0].isnan()  # the other class has too few positives
        return 100 * average_precision_score(labels[known, 0], scores[known, 0])

    assert [int((parts[2][1][:, column] == 1).sum()) >= 20 for column in (0, 1)] == [True, False]
    right, *others = (value(*used) for used in ((0, 1, 2), (0, 0, 2), (0, 2, 2), (1, 1, 2), (0, 1, 1)))
    assert probe_encoder(encoder, spec, 32) == pytest.approx(right, abs=1e-3)
    assert min(abs(other - right) for other in others) > 0.01
    larger = probe_encoder(encoder, spec, 48)  # not of the pictures that are held for another size
    probe._HELD.clear()
    assert probe_encoder(encoder, spec, 48) == larger
    assert abs(larger - right) > 0.01


def test_a_probe_holds_no_more_pictures_than_there_is_memory_for(encoder, tmp_path, monkeypatch):
    spec = make_table(tmp_path, train=150, val=4)  # three chunks of 64, 64 and 22
    labelled, expected = open_labels(spec, "train", "multilabel", 32), probe_encoder(encoder, spec, 32)
    probe._HELD.clear()
    monkeypatch.setattr(probe, "MEMORY", 100 * 32 * 32 * 3)
    for _ in range(2):
        assert probe_encoder(encoder, spec, 32) == expected
        assert [len(chunk.indices) for chunk in probe._HELD[labelled.source][32]] == [64]


def test_a_probe_pairs_new_labels_with_new_pictures(encoder, tmp_path):
    spec = make_table(tmp_path, train=60, val=4)
    probe_encoder(encoder, spec, 32)
    header, *rows = (tmp_path / "table.csv").read_text().splitlines()
    mixed = [header, *np.random.default_rng(0).permutation(rows[:60]), *rows[60:], ""]
    for name in ("table.csv", "fresh.csv"):
        (tmp_path / name).write_text("\n".join(mixed) + "\n")
    assert probe_encoder(encoder, spec, 32) == probe_encoder(encoder, f"csv:{tmp_path / 'fresh.csv'}", 32)


def test_a_probe_reads_labelled_pictures_alone(encoder, tmp_path):
    spec = make_table(tmp_path, train=60, val=4)
    value = probe_encoder(encoder, spec, 32)
    header, *rows = (tmp_path / "table.csv").read_text().splitlines()
    (tmp_path / "table.csv").write_text("\n".join([header, "more.png,,train,,", *rows, ""]))
    assert probe_encoder(encoder, spec, 32) == value
    (chunk,) = probe._HELD[open_labels(spec, "train", "multilabel", 32).source][32]
    assert (len(chunk.indices), chunk.skipped) == (60, {})
