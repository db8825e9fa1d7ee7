"""LoRA adapters: merged as the formula says, told apart by the store, and refused where they do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from llm4rec.core import ModelError
from llm4rec.llm import ChatRequest, LLMConfig, Message, ScoreRequest, Store, Stored, open_chat_model
from llm4rec.llm.inprocess import LocalModel
from tests.llm.tiny import make_tiny_llama

REQUEST = ScoreRequest("Movies I watched recently, in order: Heat,", (" Alien", " Up", " Toy Story (1995)"))


def make_adapter(base: Path, folder: Path, *, seed: int = 1, kind: str = "lora", **changed: Any) -> Path:
    """Write a random adapter for a model of transformers."""
    import torch
    from peft import LoraConfig, PrefixTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(seed)
    if kind == "lora":
        given = {"target_modules": ["q_proj", "v_proj"], "r": 4, "lora_alpha": 16} | changed
        config: Any = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **given)
    else:
        config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(model, config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(base, tmp_path_factory.mktemp("adapters") / "mine")


def scores(model: LocalModel) -> Any:
    return model.score([REQUEST])[0].logprobs


def test_the_adapted_model_is_base_plus_low_rank_product(base: Path, adapter: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    by_hand = AutoModelForCausalLM.from_pretrained(base)
    parts = load_file(adapter / "adapter_model.safetensors")
    with torch.no_grad():
        for key, a in parts.items():
            if "lora_A" in key:
                module = by_hand.get_submodule(key.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
                module.weight += 16 / 4 * parts[key.replace("lora_A", "lora_B")] @ a
    shutil.copytree(base, tmp_path / "by-hand")
    by_hand.save_pretrained(tmp_path / "by-hand")
    adapted = LocalModel(base, dtype="float32", adapter=adapter)
    np.testing.assert_allclose(scores(adapted), scores(LocalModel(tmp_path / "by-hand", dtype="float32")), atol=1e-4)
    assert abs(scores(adapted) - scores(LocalModel(base, dtype="float32"))).min() > 0.05
    chat = ChatRequest((Message("user", "Why Heat?"),), max_tokens=8)
    assert adapted.chat([chat])[0].text == LocalModel(tmp_path / "by-hand", dtype="float32").chat([chat])[0].text


def test_the_store_tells_adapters_apart_by_content(base: Path, adapter: Path, tmp_path: Path) -> None:
    other = make_adapter(base, tmp_path / "other" / "mine", seed=2)
    moved = shutil.copytree(adapter, tmp_path / "moved" / "mine")
    scaled = shutil.copytree(adapter, tmp_path / "scaled" / "mine")
    config = json.loads((scaled / "adapter_config.json").read_text())
    (scaled / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 32}))

    def opened(path: Path | None) -> Any:
        return open_chat_model(LLMConfig(model=str(base), dtype="float32", adapter=path and str(path)))

    plain, mine = opened(None), opened(adapter)
    assert "adapter" not in plain.identity  # the keys of older stores hold
    assert (mine.name, opened(moved).identity) == (f"{base.name}+mine", mine.identity)
    models = [plain, mine, opened(other), opened(scaled)]
    with Store(tmp_path / "llm.sqlite") as store:
        found = [Stored(model, store).score([REQUEST])[0] for model in models]
        assert not any(reply.cached for reply in found)
        assert Stored(opened(moved), store, "replay").score([REQUEST])[0].cached
    assert len({tuple(reply.logprobs) for reply in found}) == 4


def test_an_adapter_of_another_model_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    shallow = make_tiny_llama(tmp_path / "shallow", layers=1)
    deep = make_tiny_llama(tmp_path / "deep", layers=3)
    for model, says in [(shallow, "4 of its weights have no place"), (deep, "4 places have no weight")]:
        with pytest.raises(ModelError, match=says) as caught:
            LocalModel(model, adapter=adapter).load()
        assert caught.value.where == str(adapter)
        assert "name the model that it was trained for" in str(caught.value)
    wide = make_adapter(base, tmp_path / "wide")
    config = json.loads((wide / "adapter_config.json").read_text())
    for changed, says in [({"r": 8}, "does not fit"), ({"target_modules": ["c_attn"]}, "does not fit")]:
        (wide / "adapter_config.json").write_text(json.dumps(config | changed))
        with pytest.raises(ModelError, match=says) as caught:
            LocalModel(base, adapter=wide).load()
        assert "\n" not in str(caught.value)


def test_what_is_no_lora_adapter_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    prefix = make_adapter(base, tmp_path / "prefix", kind="prefix")
    with pytest.raises(ModelError, match="of the kind PREFIX_TUNING"):
        LocalModel(base, adapter=prefix).load()
    torn = shutil.copytree(adapter, tmp_path / "torn")
    data = (torn / "adapter_model.safetensors").read_bytes()
    (torn / "adapter_model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="cannot read the adapter"):
        LocalModel(base, adapter=torn).load()
    shutil.copy(adapter / "adapter_model.safetensors", torn)
    (torn / "adapter_config.json").write_text('{"peft_type": "NOTHING"}')
    with pytest.raises(ModelError, match="cannot read the adapter"):
        LocalModel(base, adapter=torn).load()


def test_missing_files_are_told_before_anything_is_asked(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder of an adapter"):
        LocalModel(base, adapter=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"lacks adapter_config\.json and adapter_model\.safetensors"):
        LocalModel(base, adapter=tmp_path / "empty")


def test_numbers_that_are_none_are_not_merged(base: Path, adapter: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    broken = shutil.copytree(adapter, tmp_path / "broken")
    weights = load_file(broken / "adapter_model.safetensors")
    save_file({k: np.full_like(v, np.nan) for k, v in weights.items()}, broken / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="cannot be merged"):
        LocalModel(base, adapter=broken).load()


def test_a_server_has_no_adapter_of_ours() -> None:
    with pytest.raises(ValidationError, match="adapter goes with backend 'local'"):
        LLMConfig(backend="server", model="m", adapter="x")
