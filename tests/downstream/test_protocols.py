import numpy as np
import pytest
import torch
from fake_labels import by_chance, make_table
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    precision_recall_curve,
)

from tinct.data.subsets import label_subset
from tinct.downstream.examples import evaluation_chunks, open_labels
from tinct.downstream.features import extract
from tinct.downstream.trained import load_trained
from tinct.inits import load_init
from tinct.models.encoder import Encoder
from tinct.probe import fit_knn, fit_linear
from tinct.settings import TransferSettings
from tinct.transfer import parts_of, run_transfer
from tinct.weights import save_encoder

TINY = {"backbone": "test_resnet", "size": 32, "batch_size": 2, "min_positives": 1, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """Labels that no feature tells, so that whatever is chosen by them is another on other pictures."""
    return by_chance(make_table(tmp_path_factory.mktemp("labels"), train=100, val=40, side=32), (0.5, 0.3), seed=8)


def eleven_point(truth, scores):
    precision, recall, _ = precision_recall_curve(truth, scores)
    return np.mean([precision[:-1][recall[:-1] >= level / 10 - 1e-9].max(initial=0) for level in range(11)])


@pytest.mark.parametrize(
    ("protocol", "fit", "threshold", "average"),
    [("linear", fit_linear, 0.0, average_precision_score), ("knn", fit_knn, 0.5, eleven_point)],
)
def test_a_probe_is_fitted_chosen_and_scored_on_three_parts(
    spec, tmp_path, protocol, fit, threshold, average, monkeypatch
):
    monkeypatch.setattr("tinct.probe.STRENGTHS", (1.0, 0.1, 0.01))
    own = {"protocol": protocol, "labels": "30", "seed": 3, "eleven_point": average is eleven_point}
    record = run_transfer(TransferSettings(spec, "multilabel", **TINY, **own), tmp_path)
    saved = load_file(tmp_path / "predictions.safetensors")

    train, val = (open_labels(spec, split, "multilabel", 32) for split in ("train", "val"))
    tuning, rest = train.parts()
    chosen = rest[label_subset(train.presence[rest], "30", 3)]
    encoder = load_init("random", backbone="test_resnet", seed=3).encoder
    features, labels = zip(
        *(
            (
                extract(encoder, evaluation_chunks(part, indices, 32), "grey").values,
                torch.tensor(part.presence[indices]),
            )
            for part, indices in ((train, chosen), (train, tuning), (val, val.usable()))
        ),
        strict=True,
    )

    def made(fitted, choosing):
        return fit(features[fitted], labels[fitted], features[choosing], labels[choosing])

    expected = made(0, 1).scores(features[2])
    assert not any(torch.allclose(made(*other).scores(features[2]), expected) for other in ((0, 0), (0, 2), (1, 1)))
    torch.testing.assert_close(saved["scores"], expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(saved["labels"].nan_to_num(9), labels[2].nan_to_num(9))

    metrics, averages, told = record["metrics"], [], set()
    for column, name in enumerate(("bars", "disc")):
        known = ~labels[2][:, column].isnan()
        truth, scores = labels[2][known, column].numpy(), saved["scores"][known, column].numpy()
        averages.append(average(truth, scores))
        assert metrics["average_precision"][name] == pytest.approx(averages[-1], abs=1e-5)
        assert metrics["f1"][name] == pytest.approx(f1_score(truth, scores > threshold), abs=1e-6)
        told.add(f1_score(truth, scores > 0) == f1_score(truth, scores > 0.5))
    assert record["value"] == pytest.approx(100 * np.mean(averages), abs=1e-3)
    assert False in told  # the threshold matters


def test_masks_are_scored_as_scikit_learn_does(tmp_path):
    spec = make_table(tmp_path, train=10, val=8, side=32)
    table = tmp_path / "table.csv"
    header, *rows = table.read_text().split()
    table.write_text("\n".join([f"{header},never", *(f"{row},0" for row in rows), ""]))
    for number in range(10, 18):
        with Image.open(tmp_path / f"{number}-mask.png") as mask:
            values = np.array(mask)
        values[:, : number - 8] = 255
        Image.fromarray(values).save(tmp_path / f"{number}-mask.png")
    record = run_transfer(TransferSettings(spec, "segmentation", **TINY, steps=12, lr=3e-3), tmp_path / "out")
    saved = load_file(tmp_path / "out" / "predictions.safetensors")
    assert saved["shown"].tolist() == list(range(8))
    known = saved["truths"] != 255
    truth, found = saved["truths"][known], saved["masks"][known]
    counts = confusion_matrix(truth, found, labels=range(4))
    assert (counts != counts.T).any()
    assert record["metrics"]["confusion"] == counts.tolist()
    share = jaccard_score(truth, found, labels=range(3), average=None)
    assert record["value"] == pytest.approx(100 * share.mean())
    assert record["data"]["scored"] == ["background", "bars", "disc"]


@pytest.mark.parametrize("task", ["multilabel", "segmentation"])
def test_a_seed_draws_subset_random_weights_and_the_head_that_all_arms_share(spec, tmp_path, task):
    save_encoder(tmp_path / "encoder.safetensors", Encoder("test_resnet"), {"selected_with_labels": False})
    heads, encoders, subsets = {}, {}, {}
    for seed in (0, 1):
        for init in ("random", str(tmp_path)):
            own = {"steps": 1, "lr": 1e-30, "labels": "10", "seed": seed, "init": init}  # so that nothing moves
            settings = TransferSettings(spec, task, **TINY, **own)
            run_transfer(settings, tmp_path / f"{init == 'random'}{seed}")
            network, _ = load_trained(tmp_path / f"{init == 'random'}{seed}")
            encoders[init, seed] = network.encoder.body.conv1[0].weight
            head = {name: value for name, value in network.named_parameters() if not name.startswith("encoder.")}
            heads[init, seed] = torch.cat([value.flatten() for value in head.values() if value.ndim > 1])
            subsets[init, seed] = parts_of(settings).chosen.tolist()
    for drawn in (heads, encoders):
        assert not torch.equal(drawn["random", 0], drawn["random", 1])
    for seed in (0, 1):
        assert torch.equal(heads["random", seed], heads[str(tmp_path), seed])
        alone = load_init("random", backbone="test_resnet", seed=seed).encoder
        assert torch.equal(encoders["random", seed], alone.body.conv1[0].weight)
        assert subsets["random", seed] == subsets[str(tmp_path), seed]
    assert subsets["random", 0] != subsets["random", 1]
