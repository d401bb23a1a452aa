"""What a run does before its first step."""

import numpy as np
import pytest

from tinct.config import Config
from tinct.data.loader import Photographs
from tinct.data.photos import Photos
from tinct.engine import make_fabric
from tinct.pretraining.learner import Learner
from tinct.pretraining.preparation import prepare


@pytest.mark.parametrize("terms", [{"bins": 1.0}, {"palette": 1.0}])
def test_terms_learn_their_statistics_from_the_runs_own_colours(terms, monkeypatch):
    seen = []
    config = Config(
        sources=["photos:"], backbone="test_resnet", width=8, size=32, steps=1, terms=terms, adversarial="none"
    )
    learner = Learner(config, make_fabric("cpu", "32-true"))
    monkeypatch.setattr("tinct.objectives.bins.Bins.fit", lambda self, ab: seen.append(ab))
    photographs = Photographs(Photos(), np.arange(8, dtype=np.uint32), config.size, config.seed)
    prepare(learner, photographs)
    (ab,) = seen
    assert ab.shape[1:] == (2, 32 // config.chroma_stride, 32 // config.chroma_stride)
    assert len(ab) >= 8
    assert 5 < float(ab.norm(dim=1).mean()) < 40  # colours of photographs, in units of Lab
