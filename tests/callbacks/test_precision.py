"""Device and precision of training."""

import pytest
import torch
from fastai.callback.fp16 import MixedPrecision

from langid_fastai.callbacks import precision
from langid_fastai.callbacks.precision import CpuAutocast, full_precision, pick_precision
from langid_fastai.errors import ModelError
from langid_fastai.learner import language_learner, make_dataloaders


@pytest.mark.parametrize("supported", [True, False])
def test_precision_of_a_cpu_depends_on_its_instructions(monkeypatch, supported):
    monkeypatch.setattr(precision, "_cpu_computes_bf16", lambda: supported)
    assert pick_precision(torch.device("cpu")) == ("bf16" if supported else "fp32")


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp16")])
def test_precision_of_a_gpu_depends_on_its_instructions(monkeypatch, supported, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert pick_precision(torch.device("cuda")) == expected


def test_fp16_on_a_cpu_is_refused(picture_folder):
    dls = make_dataloaders(picture_folder, device="cpu")
    with pytest.raises(ModelError, match="precision='fp16' is not supported on device 'cpu'"):
        language_learner(dls, "squeezenet1_1", weights="none", precision="fp16")


def test_bf16_is_used_in_training_and_not_in_tests(picture_folder):
    dls = make_dataloaders(picture_folder, batch_size=4, device="cpu")
    learn = language_learner(dls, "squeezenet1_1", weights="none", precision="bf16")
    seen = []
    learn.model[0][0][0].register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 1e-3)
        assert set(seen) == {torch.bfloat16}
        seen.clear()
        with full_precision(learn):
            learn.validate()
            assert set(seen) == {torch.float32}
            assert not any(isinstance(cb, (CpuAutocast, MixedPrecision)) for cb in learn.cbs)
    assert any(isinstance(cb, CpuAutocast) for cb in learn.cbs)
    assert next(learn.model.parameters()).dtype == torch.float32
